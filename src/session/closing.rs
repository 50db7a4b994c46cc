//! How a session ends: what it owes is said, its connection closed in order within a deadline, or reset.

use std::time::Instant;

use actix::fut::{ActorFutureExt, wrap_future};
use actix::{ActorContext, AsyncContext, Context};

use super::{Session, Transport};
use crate::messages::answer::{NoAnswer, answer};
use crate::messages::session::TransportRefusal;
use crate::messages::sink::CloseReason;
use crate::protocol::encoded::EncodedFrame;
use crate::protocol::reason::DisconnectReason;

/// How far a session is towards its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClosePhase {
    Open,
    /// It will close once everything it sent to the hub is answered.
    Draining {
        reason: DisconnectReason,
        /// Then it closes all the same.
        until: Instant,
    },
    /// It is closed for the application; its connection takes the last bytes, or is reset at this instant.
    Closing {
        until: Instant,
        /// Its final packets wait for one more poll.
        awaits_poll: bool,
    },
    /// Nothing is left to do.
    Closed,
}

/// How the connection is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CloseMode {
    /// With a final packet.
    Graceful(CloseReason),
    /// By a reset: the peer takes no bytes.
    Reset,
    /// Not at all: it has ended.
    Disconnected,
}

impl Session {
    /// Whether the session is closed for the application.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.phase, ClosePhase::Closing { .. } | ClosePhase::Closed)
    }

    /// Ends the session with a final packet to its client.
    pub(super) fn close(&mut self, reason: DisconnectReason, detail: &str, ctx: &mut Context<Self>) {
        // A peer that let a ping go unanswered reads nothing: a close frame would only queue up behind the jam.
        let jammed = reason == DisconnectReason::PingTimeout && self.transport != Transport::Polling;
        let worker = &self.outbox.worker;
        if jammed
            && self.outbox.is_behind()
            && let Some(skipped) = worker.log_throttles().taking_nothing.is_due(Instant::now())
        {
            log::warn!("client takes nothing sid={:?} skipped={skipped} detail=\"{detail}\"", self.guard.id);
        }
        let mode = if jammed { CloseMode::Reset } else { CloseMode::Graceful(CloseReason::Ended(reason)) };
        self.end(reason, detail, mode, ctx);
    }

    /// Whether the session takes no more of its client: it is closed, or about to be.
    pub(super) fn is_closing(&self) -> bool {
        self.phase != ClosePhase::Open
    }

    pub(super) fn close_when_drained(&mut self, reason: DisconnectReason, now: Instant) {
        if self.phase == ClosePhase::Open {
            self.phase = ClosePhase::Draining { reason, until: now + self.core.limits.transport.close_linger };
        }
    }

    pub(super) fn close_if_drained(&mut self, ctx: &mut Context<Self>) {
        if self.phase == ClosePhase::Closed && self.credit_window.is_done() {
            return self.leave(ctx);
        }
        if let ClosePhase::Draining { reason, until } = self.phase
            && (self.credit_window.is_settled() || until <= Instant::now())
        {
            self.close(reason, "disconnected by the application", ctx);
        }
    }

    /// The client broke the rules of its transport.
    pub(super) fn on_transport_failed(&mut self, detail: String, ctx: &mut Context<Self>) {
        // Polling alone sends this. After an upgrade it is a late word of what is not the transport any more.
        if self.transport == Transport::Polling {
            self.close(DisconnectReason::TransportError, &detail, ctx);
        }
    }

    /// The client is too far behind. It gets the packet that has left in part, and is notified why there is no more.
    pub(super) fn on_outbox_full(&mut self, detail: &str, ctx: &mut Context<Self>) {
        log::warn!("client is too far behind sid={:?} detail=\"{detail}\"", self.guard.id);
        self.end(DisconnectReason::TransportError, detail, CloseMode::Graceful(CloseReason::OutboxFull), ctx);
    }

    /// The outboxes of all clients are over their budget, and this client's was among the largest.
    pub(super) fn on_outbox_cut(&mut self, detail: &str, can_be_told: bool, ctx: &mut Context<Self>) {
        let worker = &self.outbox.worker;
        if let Some(skipped) = worker.log_throttles().outbox_cut.is_due(Instant::now()) {
            log::warn!("outbox cut sid={:?} skipped={skipped} detail=\"{detail}\"", self.guard.id);
        }
        let mode = if can_be_told { CloseMode::Graceful(CloseReason::OutboxFull) } else { CloseMode::Reset };
        self.end(DisconnectReason::TransportError, detail, mode, ctx);
    }

    /// The client answers pings and takes nothing of what waits for it.
    pub(super) fn on_stalled(&mut self, now: Instant, ctx: &mut Context<Self>) {
        let worker = &self.outbox.worker;
        worker.metrics().stalled.add(1);
        let detail = format!("client took nothing for {:?}", self.core.limits.sessions.stalls_after());
        if let Some(skipped) = worker.log_throttles().taking_nothing.is_due(now) {
            log::warn!("client takes nothing sid={:?} skipped={skipped} detail=\"{detail}\"", self.guard.id);
        }
        self.end(DisconnectReason::TransportError, &detail, CloseMode::Reset, ctx);
    }

    /// The drainer broke: nothing more can be said.
    pub(super) fn on_drainer_lost(&mut self, detail: String, ctx: &mut Context<Self>) {
        self.end(DisconnectReason::TransportError, &detail, CloseMode::Reset, ctx);
    }

    /// The connection ended by itself.
    pub(super) fn on_connection_ended(&mut self, reason: DisconnectReason, detail: &str, ctx: &mut Context<Self>) {
        self.end(reason, detail, CloseMode::Disconnected, ctx);
    }

    /// Whether one more poll is let in, for the final packet.
    pub(super) fn awaits_final_poll(&self) -> bool {
        matches!(self.phase, ClosePhase::Closing { awaits_poll: true, .. })
    }

    /// The final packet is out; now the peer's end is awaited, where it is worth waiting for.
    pub(super) fn on_closing_drained(&mut self, ctx: &mut Context<Self>) {
        let Some(mut sink) = self.outbox.take_drainer() else {
            return self.stop(ctx);
        };
        if sink.finish() {
            self.outbox.set_drainer(sink);
        } else {
            self.stop(ctx);
        }
    }

    /// Returns whether the session is past its timers.
    pub(super) fn on_linger_timer(&mut self, now: Instant, ctx: &mut Context<Self>) -> bool {
        if let ClosePhase::Closing { until, .. } = self.phase
            && until <= now
        {
            self.reset(ctx);
        }
        self.has_ended()
    }

    /// Closes the session for the application and parts from its client.
    fn end(&mut self, reason: DisconnectReason, detail: &str, mode: CloseMode, ctx: &mut Context<Self>) {
        if self.has_ended() {
            return match mode {
                CloseMode::Graceful(_) => {}
                CloseMode::Reset => self.reset(ctx),
                CloseMode::Disconnected => self.stop(ctx),
            };
        }
        self.outbox.worker.metrics().closed(reason);
        log::debug!("session closed sid={:?} reason=\"{reason}\" detail=\"{detail}\"", self.guard.id);
        self.detach_all(reason);
        self.credit_window.retire(Instant::now());
        for (_, done) in self.congested.take() {
            // These are in the outbox: the client may have got them.
            done.fail(NoAnswer::Unanswered);
        }
        self.link.close();
        if let Some(post) = self.post.take() {
            answer(post.reply, Err(TransportRefusal::Ended));
        }
        let (mut said, mut awaits_poll) = (false, false);
        if let CloseMode::Graceful(close_reason) = mode {
            said = self.outbox.queue_close(close_reason);
            awaits_poll = self.queue_final_packets(close_reason, said);
        }
        // A client that is about to send `5` polls no more: it learns of the end when the websocket closes to which it went over.
        let is_switching = matches!(mode, CloseMode::Graceful(_)) && self.upgrade.is_probed();
        if !is_switching {
            self.drop_candidate("session closed");
        }
        if !awaits_poll {
            self.guard.withdraw();
        }
        self.phase =
            ClosePhase::Closing { until: Instant::now() + self.core.limits.transport.close_linger, awaits_poll };
        match mode {
            CloseMode::Graceful(_) if said || awaits_poll || is_switching => {}
            CloseMode::Reset => self.reset(ctx),
            CloseMode::Graceful(_) | CloseMode::Disconnected => self.stop(ctx),
        }
    }

    /// A polling client that is between two polls gets what waits for it, and the close packet, with its next one; so it
    /// does with the rest, where a poll that waited could not take all.
    fn queue_final_packets(&self, close_reason: CloseReason, said: bool) -> bool {
        let waits = !self.outbox.is_drained();
        let worthwhile = match close_reason {
            CloseReason::OutboxFull => !said,
            CloseReason::Ended(DisconnectReason::ForcedServerClose | DisconnectReason::ServerNamespaceDisconnect) => {
                waits
            }
            CloseReason::Ended(_) => false,
        };
        let leaves = worthwhile && self.transport == Transport::Polling;
        if leaves && !said {
            self.outbox.queue_final_packet(EncodedFrame::text("1"));
        }
        leaves
    }

    fn reset(&mut self, ctx: &mut Context<Self>) {
        if let Some(mut sink) = self.outbox.take_drainer() {
            sink.abort();
        }
        self.stop(ctx);
    }

    /// Ends the actor as soon as its commands are answered: others are to hear what it has asked for, and its handlers are to be answered.
    pub(super) fn stop(&mut self, ctx: &mut Context<Self>) {
        self.phase = ClosePhase::Closed;
        if self.credit_window.is_done() {
            self.leave(ctx);
        }
    }

    fn leave(&self, ctx: &mut Context<Self>) {
        // Behind what handlers have asked by now: that is still to be passed on.
        ctx.spawn(wrap_future(async {}).map(|(), _, ctx: &mut Context<Self>| ctx.stop()));
    }
}
