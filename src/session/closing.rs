//! How a session ends: what it owes is said, its connection closed in order within a deadline, or reset.

use std::time::Instant;

use actix::fut::{ActorFutureExt, wrap_future};
use actix::{ActorContext, AsyncContext, Context};

use super::{Session, Transport};
use crate::messages::hub::HubCommand;
use crate::messages::request::{RequestError, answer};
use crate::messages::session::TransportRefusal;
use crate::messages::sink::CloseReason;
use crate::protocol::encoded::EncodedFrame;
use crate::protocol::reason::DisconnectReason;

/// How far a session is towards its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It lives.
    Open,
    /// It will close once everything it sent to the hub is answered.
    Settling {
        /// Why.
        reason: DisconnectReason,
        /// Then it closes all the same.
        until: Instant,
    },
    /// It is closed for the application; its connection takes the last bytes, or is reset at this instant.
    Lingering {
        /// When.
        until: Instant,
        /// Its final packets wait for one more poll.
        awaits_poll: bool,
    },
    /// Nothing is left to do.
    Over,
}

/// How the connection is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parting {
    /// With a final packet.
    Saying(CloseReason),
    /// By a reset: the peer takes no bytes.
    Reset,
    /// Not at all: it has ended.
    Gone,
}

impl Session {
    /// Whether the session is closed for the application.
    pub(super) fn is_ending(&self) -> bool {
        matches!(self.ending, Ending::Lingering { .. } | Ending::Over)
    }

    /// Ends the session with a final packet to its client.
    pub(super) fn close(&mut self, reason: DisconnectReason, detail: &str, ctx: &mut Context<Self>) {
        // A peer that let a ping go unanswered reads nothing: a close frame would only queue up behind the jam.
        let jammed = reason == DisconnectReason::PingTimeout && self.transport != Transport::Polling;
        let worker = &self.registration.worker;
        if jammed
            && worker.is_behind(self.registration.slot)
            && let Some(skipped) = worker.log_throttles().taking_nothing.is_due(Instant::now())
        {
            log::warn!("client takes nothing sid={:?} skipped={skipped} detail=\"{detail}\"", self.registration.id);
        }
        let parting = if jammed { Parting::Reset } else { Parting::Saying(CloseReason::Ended(reason)) };
        self.end(reason, detail, parting, ctx);
    }

    /// Whether the session takes no more of its client: it is closed, or about to be.
    pub(super) fn is_parting(&self) -> bool {
        self.ending != Ending::Open
    }

    pub(super) fn close_when_settled(&mut self, reason: DisconnectReason, now: Instant) {
        if self.ending == Ending::Open {
            self.ending = Ending::Settling { reason, until: now + self.core.limits.close_linger };
        }
    }

    pub(super) fn close_if_settled(&mut self, ctx: &mut Context<Self>) {
        if self.ending == Ending::Over && self.credit_window.is_done() {
            return self.leave(ctx);
        }
        if let Ending::Settling { reason, until } = self.ending
            && (self.credit_window.is_settled() || until <= Instant::now())
        {
            self.close(reason, "put out by the application", ctx);
        }
    }

    /// The client broke the rules of its transport.
    pub(super) fn on_transport_failed(&mut self, detail: String, ctx: &mut Context<Self>) {
        // Polling alone sends this. After an upgrade it is a late word of what is not the transport any more.
        if self.transport == Transport::Polling {
            self.close(DisconnectReason::TransportError, &detail, ctx);
        }
    }

    /// The client is too far behind. It gets the packet that has left in part, and is told why there is no more.
    pub(super) fn on_outbox_full(&mut self, detail: &str, ctx: &mut Context<Self>) {
        log::warn!("client is too far behind sid={:?} detail=\"{detail}\"", self.registration.id);
        self.end(DisconnectReason::TransportError, detail, Parting::Saying(CloseReason::OutboxFull), ctx);
    }

    /// The outboxes of all clients are over their budget, and this client's was among the largest.
    pub(super) fn on_outbox_cut(&mut self, detail: &str, can_be_told: bool, ctx: &mut Context<Self>) {
        let worker = &self.registration.worker;
        if let Some(skipped) = worker.log_throttles().outbox_cut.is_due(Instant::now()) {
            log::warn!("outbox cut sid={:?} skipped={skipped} detail=\"{detail}\"", self.registration.id);
        }
        let parting = if can_be_told { Parting::Saying(CloseReason::OutboxFull) } else { Parting::Reset };
        self.end(DisconnectReason::TransportError, detail, parting, ctx);
    }

    /// The client answers pings and takes nothing of what waits for it.
    pub(super) fn on_stalled(&mut self, now: Instant, ctx: &mut Context<Self>) {
        let worker = &self.registration.worker;
        worker.metrics().stalled.add(1);
        let detail = format!("client took nothing for {:?}", self.core.limits.stalls_after());
        if let Some(skipped) = worker.log_throttles().taking_nothing.is_due(now) {
            log::warn!("client takes nothing sid={:?} skipped={skipped} detail=\"{detail}\"", self.registration.id);
        }
        self.end(DisconnectReason::TransportError, &detail, Parting::Reset, ctx);
    }

    /// The drainer broke: nothing more can be said.
    pub(super) fn on_drainer_lost(&mut self, detail: String, ctx: &mut Context<Self>) {
        self.end(DisconnectReason::TransportError, &detail, Parting::Reset, ctx);
    }

    /// The connection ended by itself.
    pub(super) fn on_connection_ended(&mut self, reason: DisconnectReason, detail: &str, ctx: &mut Context<Self>) {
        self.end(reason, detail, Parting::Gone, ctx);
    }

    /// Whether one more poll is let in, for the final packet.
    pub(super) fn awaits_last_poll(&self) -> bool {
        matches!(self.ending, Ending::Lingering { awaits_poll: true, .. })
    }

    /// The final packet is out; now the peer's end is awaited, where it is worth waiting for.
    pub(super) fn on_closing_drained(&mut self, ctx: &mut Context<Self>) {
        let Some(mut sink) = self.registration.worker.take_drainer(self.registration.slot) else {
            return self.stop(ctx);
        };
        if sink.finish() {
            self.registration.worker.set_drainer(self.registration.slot, sink);
        } else {
            self.stop(ctx);
        }
    }

    /// Returns whether the session is past its timers.
    pub(super) fn on_linger_timer(&mut self, now: Instant, ctx: &mut Context<Self>) -> bool {
        if let Ending::Lingering { until, .. } = self.ending
            && until <= now
        {
            self.reset(ctx);
        }
        self.is_ending()
    }

    /// Closes the session for the application and parts from its client.
    fn end(&mut self, reason: DisconnectReason, detail: &str, parting: Parting, ctx: &mut Context<Self>) {
        if self.is_ending() {
            return match parting {
                Parting::Saying(_) => {}
                Parting::Reset => self.reset(ctx),
                Parting::Gone => self.stop(ctx),
            };
        }
        self.registration.worker.metrics().closed(reason);
        log::debug!("session closed sid={:?} reason=\"{reason}\" detail=\"{detail}\"", self.registration.id);
        let forever = reason.is_final();
        for presence in std::mem::take(&mut self.presences) {
            let was_connected = self.state.is_connected(presence.socket.id());
            presence.socket.info().set_connected(false);
            self.state.remove_socket(presence.socket.id());
            if was_connected && let Some(rooms) = self.start_leaving_handlers(&presence, reason) {
                let socket = presence.socket.id();
                self.registration.forget(socket);
                let slot = self.registration.slot;
                let rooms = Some(rooms);
                self.registration.worker.send(HubCommand::Disconnect { slot, socket, forever, rooms });
            }
        }
        self.registration.withdraw_sockets(forever);
        self.credit_window.retire(Instant::now());
        self.forget_calls(|_| true);
        for (_, done) in self.congested.take() {
            // These are in the outbox: the client may have got them.
            done.fail(RequestError::Unanswered);
        }
        self.link.close();
        if let Some(post) = self.post.take() {
            answer(post.reply, Err(TransportRefusal::Ended));
        }
        let (mut said, mut awaits_poll) = (false, false);
        if let Parting::Saying(goodbye) = parting {
            said = self.registration.worker.queue_close(self.registration.slot, goodbye);
            awaits_poll = self.leaves_last_words(goodbye, said);
        }
        // A client that is about to send `5` polls no more: it learns of the end when the websocket closes to which it went over.
        let is_switching = matches!(parting, Parting::Saying(_)) && self.state.is_probed();
        if !is_switching {
            self.drop_candidate("session closed");
        }
        if !awaits_poll {
            self.registration.withdraw();
        }
        self.ending = Ending::Lingering { until: Instant::now() + self.core.limits.close_linger, awaits_poll };
        match parting {
            Parting::Saying(_) if said || awaits_poll || is_switching => {}
            Parting::Reset => self.reset(ctx),
            Parting::Saying(_) | Parting::Gone => self.stop(ctx),
        }
    }

    /// A polling client that is between two polls gets what waits for it, and the close packet, with its next one; so it
    /// does with the rest, where a poll that waited could not take all.
    fn leaves_last_words(&self, goodbye: CloseReason, said: bool) -> bool {
        let (worker, slot) = (&self.registration.worker, self.registration.slot);
        let waits = !worker.is_drained(slot);
        let worthwhile = match goodbye {
            CloseReason::OutboxFull => !said,
            CloseReason::Ended(DisconnectReason::ForcedServerClose | DisconnectReason::ServerNamespaceDisconnect) => {
                waits
            }
            CloseReason::Ended(_) => false,
        };
        let leaves = worthwhile && self.transport == Transport::Polling;
        if leaves && !said {
            worker.queue_final_packet(slot, EncodedFrame::text("1"));
        }
        leaves
    }

    fn reset(&mut self, ctx: &mut Context<Self>) {
        if let Some(mut sink) = self.registration.worker.take_drainer(self.registration.slot) {
            sink.abort();
        }
        self.stop(ctx);
    }

    /// Ends the actor as soon as its gate is done: others are to hear what it has asked for, and its handlers are to be answered.
    pub(super) fn stop(&mut self, ctx: &mut Context<Self>) {
        self.ending = Ending::Over;
        if self.credit_window.is_done() {
            self.leave(ctx);
        }
    }

    fn leave(&self, ctx: &mut Context<Self>) {
        // Behind what handlers have asked by now: that is still to be passed on.
        ctx.spawn(wrap_future(async {}).map(|(), _, ctx: &mut Context<Self>| ctx.stop()));
    }
}
