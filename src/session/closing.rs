//! The end of a session: its final packets, and its connection, which is closed within a deadline
//! or reset.
//!
//! | Cause | Method | Reason for the application | Sent to a websocket |
//! |---|---|---|---|
//! | no pong in time | `close` | ping timeout | nothing: the connection is reset |
//! | no CONNECT in time, or the client closes the connection | `close` | transport close | close 1000 |
//! | invalid packet, attachments that are late | `close` | parse error | close 1002 or 1007 |
//! | message too large, too late, or beyond the budget of input | `close` | transport error | close 1009, 1008 or 1013 |
//! | wrong or aborted polling request | `close` | transport error | (polling) |
//! | outbox full, journal trimmed before the client read it | `on_outbox_full` | transport error | close 1008 |
//! | outbox cut because the budget of all outboxes was exceeded | `on_outbox_cut` | transport error | close 1008, or nothing |
//! | client reads nothing for `stall_timeout` | `on_stalled` | transport error | nothing: the connection is reset |
//! | the application closes the connection alone, or refuses a socket for now | `close_when_drained`, `close` | forced close | close 1000 |
//! | the application, or a resume over another connection | `close_when_drained`, `close` | forced server close | close 1000 |
//! | shutdown | `close` | server shutting down | close 1001 |
//!
//! If the task of a session panics, or its worker ends, the session is dropped without a reason,
//! and its disconnect handlers do not run.

use std::time::Instant;

use actix::fut::{ActorFutureExt, wrap_future};
use actix::{ActorContext, AsyncContext, Context};

use super::{Session, Transport};
use crate::messages::answer::{NoAnswer, answer};
use crate::messages::session::TransportRefusal;
use crate::messages::sink::CloseReason;
use crate::protocol::encoded::EncodedFrame;
use crate::protocol::reason::DisconnectReason;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClosePhase {
    Open,
    /// The session closes when the hub has answered all commands of the session, but at `until` at
    /// the latest.
    Draining {
        reason: DisconnectReason,
        until: Instant,
    },
    /// The session is closed for the application's handles. Its connection sends the last bytes. If
    /// the connection has not ended at `until`, it is reset.
    Closing {
        until: Instant,
        /// True if the final packets wait for one more poll.
        awaits_poll: bool,
    },
    /// The connection has ended. Answers of the hub may be outstanding.
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CloseMode {
    /// A final packet is sent.
    Graceful(CloseReason),
    /// The connection is reset, since the peer reads nothing.
    Reset,
    /// The connection has ended already.
    Disconnected,
}

impl Session {
    /// True once the session is closed for the application's handles, although its connection may
    /// still send final packets.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.phase, ClosePhase::Closing { .. } | ClosePhase::Closed)
    }

    /// Ends the session. The client receives a final packet, unless a websocket's ping timed out.
    pub(super) fn close(&mut self, reason: DisconnectReason, detail: &str, ctx: &mut Context<Self>) {
        // A peer that has not answered a ping is probably not reading, so the connection is reset.
        // A close frame would remain in the queue.
        let is_unresponsive = reason == DisconnectReason::PingTimeout && self.transport != Transport::Polling;
        let worker = &self.outbox.worker;
        if is_unresponsive
            && self.outbox.is_behind()
            && let Some(skipped) = worker.log_throttles().stalled.is_due(Instant::now())
        {
            log::warn!("client reads nothing sid={:?} skipped={skipped} detail=\"{detail}\"", self.guard.id);
        }
        let mode = if is_unresponsive { CloseMode::Reset } else { CloseMode::Graceful(CloseReason::Ended(reason)) };
        self.end(reason, detail, mode, ctx);
    }

    /// True if the session accepts nothing from its client, because it is closed or about to close.
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

    pub(super) fn on_transport_failed(&mut self, detail: String, ctx: &mut Context<Self>) {
        // Only polling reports failures. After an upgrade, a failure concerns the former transport
        // and is ignored.
        if self.transport == Transport::Polling {
            self.close(DisconnectReason::TransportError, &detail, ctx);
        }
    }

    /// Ends a lagging session. The client receives the rest of a partly written packet, and the
    /// close reason.
    pub(super) fn on_outbox_full(&mut self, detail: &str, ctx: &mut Context<Self>) {
        log::warn!("client is lagging too far sid={:?} detail=\"{detail}\"", self.guard.id);
        self.end(DisconnectReason::TransportError, detail, CloseMode::Graceful(CloseReason::OutboxFull), ctx);
    }

    pub(super) fn on_outbox_cut(&mut self, detail: &str, can_notify: bool, ctx: &mut Context<Self>) {
        let worker = &self.outbox.worker;
        if let Some(skipped) = worker.log_throttles().outbox_cut.is_due(Instant::now()) {
            log::warn!("outbox cut sid={:?} skipped={skipped} detail=\"{detail}\"", self.guard.id);
        }
        let mode = if can_notify { CloseMode::Graceful(CloseReason::OutboxFull) } else { CloseMode::Reset };
        self.end(DisconnectReason::TransportError, detail, mode, ctx);
    }

    /// Ends the session of a client that answers pings but does not read its events.
    pub(super) fn on_stalled(&mut self, now: Instant, ctx: &mut Context<Self>) {
        let worker = &self.outbox.worker;
        worker.metrics().stalled.add(1);
        let detail = format!("client read nothing for {:?}", self.core.limits.sessions.stalls_after());
        if let Some(skipped) = worker.log_throttles().stalled.is_due(now) {
            log::warn!("client reads nothing sid={:?} skipped={skipped} detail=\"{detail}\"", self.guard.id);
        }
        self.end(DisconnectReason::TransportError, &detail, CloseMode::Reset, ctx);
    }

    pub(super) fn on_drainer_lost(&mut self, detail: String, ctx: &mut Context<Self>) {
        self.end(DisconnectReason::TransportError, &detail, CloseMode::Reset, ctx);
    }

    pub(super) fn on_connection_ended(&mut self, reason: DisconnectReason, detail: &str, ctx: &mut Context<Self>) {
        self.end(reason, detail, CloseMode::Disconnected, ctx);
    }

    /// True if one more poll is accepted, for the final packet.
    pub(super) fn awaits_final_poll(&self) -> bool {
        matches!(self.phase, ClosePhase::Closing { awaits_poll: true, .. })
    }

    /// Closes the sending side after the final packet. If the transport requires it, waits until
    /// the peer closes the other side.
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

    /// Resets the connection of a closing session at its deadline. Returns true if the session has
    /// ended. Such a session needs no timer except that of its credit window.
    pub(super) fn on_linger_timer(&mut self, now: Instant, ctx: &mut Context<Self>) -> bool {
        if let ClosePhase::Closing { until, .. } = self.phase
            && until <= now
        {
            self.reset(ctx);
        }
        self.has_ended()
    }

    /// Closes the session for the application's handles immediately, and its connection according
    /// to `mode`.
    fn end(&mut self, reason: DisconnectReason, detail: &str, mode: CloseMode, ctx: &mut Context<Self>) {
        if self.has_ended() {
            return match mode {
                CloseMode::Graceful(_) => {}
                CloseMode::Reset => self.reset(ctx),
                CloseMode::Disconnected => self.stop(ctx),
            };
        }
        self.outbox.worker.metrics().record_closed(reason);
        log::debug!("session closed sid={:?} reason=\"{reason}\" detail=\"{detail}\"", self.guard.id);
        self.detach_all(reason);
        self.credit_window.retire(Instant::now());
        for (_, done) in self.congested.take() {
            // The events were in the outbox, so it is unknown whether the client has received them.
            done.fail(NoAnswer::Unanswered);
        }
        self.link.close();
        if let Some(post) = self.post.take() {
            answer(post.reply, Err(TransportRefusal::Ended));
        }
        let (mut is_queued, mut awaits_poll) = (false, false);
        if let CloseMode::Graceful(close_reason) = mode {
            is_queued = self.outbox.queue_close(close_reason);
            awaits_poll = self.queue_final_packets(close_reason, is_queued);
        }
        // A client that has probed an upgrade is about to send `5` and does not poll again. The
        // close of its new websocket notifies the client.
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
            CloseMode::Graceful(_) if is_queued || awaits_poll || is_switching => {}
            CloseMode::Reset => self.reset(ctx),
            CloseMode::Graceful(_) | CloseMode::Disconnected => self.stop(ctx),
        }
    }

    /// Returns true if the session awaits one more poll, so that a polling client receives its
    /// unread packets or the reason. In this case, queues a close packet, unless `is_queued` shows
    /// that one is queued already.
    fn queue_final_packets(&self, close_reason: CloseReason, is_queued: bool) -> bool {
        let is_wanted = match close_reason {
            CloseReason::OutboxFull => !is_queued,
            CloseReason::Ended(
                DisconnectReason::ForcedClose
                | DisconnectReason::ForcedServerClose
                | DisconnectReason::ServerNamespaceDisconnect,
            ) => !self.outbox.is_drained(),
            CloseReason::Ended(_) => false,
        };
        let awaits_poll = is_wanted && self.transport == Transport::Polling;
        if awaits_poll && !is_queued {
            self.outbox.queue_final_packet(EncodedFrame::text("1"));
        }
        awaits_poll
    }

    fn reset(&mut self, ctx: &mut Context<Self>) {
        if let Some(mut sink) = self.outbox.take_drainer() {
            sink.abort();
        }
        self.stop(ctx);
    }

    /// Stops the actor once the hub has answered its commands, so that its emits are sent and its
    /// handlers receive the answers.
    pub(super) fn stop(&mut self, ctx: &mut Context<Self>) {
        self.phase = ClosePhase::Closed;
        if self.credit_window.is_done() {
            self.leave(ctx);
        }
    }

    fn leave(&self, ctx: &mut Context<Self>) {
        // The actor stops in a later turn, so that requests that handlers have already sent are
        // processed.
        ctx.spawn(wrap_future(async {}).map(|(), _, ctx: &mut Context<Self>| ctx.stop()));
    }
}
