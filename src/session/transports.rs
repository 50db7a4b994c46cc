//! Input from the transports: polls, POSTs, websockets, and the upgrade from polling to a
//! websocket.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Instant;

use actix::{AsyncContext, Context};
use bytes::Bytes;
use futures_core::Stream;
use tokio::sync::oneshot;

use super::{Numbered, Session, Transport};
use crate::messages::answer::answer;
use crate::messages::session::{SessionCommand, TransportRefusal};
use crate::messages::sink::{Connection, Drained, FrameSink, Handoff, Incoming};
use crate::protocol::encoded::EncodedFrame;
use crate::protocol::engineio::payload::PayloadReader;
use crate::protocol::engineio::transport_kind::TransportKind;
use crate::protocol::reason::DisconnectReason;
use crate::state::outbox::Outbox;
use crate::state::upgrade::Step;

/// A websocket that is a candidate for an upgrade.
pub(super) struct ProbedWebsocket {
    number: u32,
    sink: Box<dyn FrameSink>,
    outbox: Outbox,
}

/// A POST whose packets are being processed.
pub(super) struct PendingPost {
    packets: PayloadReader,
    pub(super) reply: Reply,
}

/// The incoming half of a connection, with the connection's number.
struct NumberedStream {
    number: u32,
    incoming: Pin<Box<dyn Stream<Item = Incoming>>>,
}

impl Stream for NumberedStream {
    type Item = Numbered;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Numbered>> {
        let number = self.number;
        self.incoming.as_mut().poll_next(cx).map(|incoming| incoming.map(|incoming| Numbered(number, incoming)))
    }
}

type Reply = oneshot::Sender<Result<(), TransportRefusal>>;

impl Session {
    pub(super) fn on_drain(&mut self, sink: Box<dyn FrameSink + Send>, reply: Reply, ctx: &mut Context<Self>) {
        if self.has_ended() && !self.awaits_final_poll() {
            answer(reply, Err(TransportRefusal::Ended));
        } else if self.transport != Transport::Polling {
            answer(reply, Err(TransportRefusal::WrongTransport));
        } else if self.outbox.has_drainer() {
            answer(reply, Err(TransportRefusal::SecondPoll));
            self.close(DisconnectReason::TransportError, "a second poll while one waits", ctx);
        } else {
            self.outbox.set_drainer(sink);
            answer(reply, Ok(()));
        }
    }

    pub(super) fn on_post(&mut self, packets: Result<PayloadReader, String>, reply: Reply, ctx: &mut Context<Self>) {
        if self.has_ended() {
            return answer(reply, Err(TransportRefusal::Ended));
        }
        if self.transport != Transport::Polling {
            return answer(reply, Err(TransportRefusal::WrongTransport));
        }
        match packets {
            Ok(packets) => {
                self.post = Some(Box::new(PendingPost { packets, reply }));
                self.take_post(ctx);
            }
            Err(detail) => {
                self.close(DisconnectReason::ParseError, &detail, ctx);
                answer(reply, Ok(()));
            }
        }
    }

    /// Processes the next packets of a POST, unless reading is paused. Answers the POST after its
    /// last packet.
    pub(super) fn take_post(&mut self, ctx: &mut Context<Self>) {
        self.regulate_reading();
        if !self.reading {
            return;
        }
        let Some(mut post) = self.post.take() else { return };
        for _ in 0..self.core.limits.sessions.packets_per_turn.max(1) {
            match post.packets.next() {
                Some(Ok(packet)) => self.on_packet(packet, ctx),
                Some(Err(error)) => self.close(DisconnectReason::ParseError, &error.to_string(), ctx),
                None => {
                    self.regulate_reading();
                    if !self.reading {
                        self.post = Some(post);
                        return;
                    }
                    return answer(post.reply, Ok(()));
                }
            }
            if self.has_ended() {
                return answer(post.reply, Ok(()));
            }
        }
        self.post = Some(post);
        self.resume_post();
    }

    /// Continues to process a POST after other tasks of this thread have run. Without the yield,
    /// the actor would handle `ResumePost` in the same turn.
    fn resume_post(&self) {
        if self.post.is_some() {
            let link = self.link.clone();
            actix::spawn(async move {
                tokio::task::yield_now().await;
                let _ = link.post(SessionCommand::ResumePost);
            });
        }
    }

    pub(super) fn take_first_websocket(&mut self, handoff: Box<dyn Handoff>, ctx: &mut Context<Self>) {
        match self.attach(handoff, ctx) {
            Some((number, sink, answer)) => {
                self.transport = Transport::Websocket(number);
                self.outbox.begin_with(answer);
                self.outbox.set_drainer(sink);
            }
            None => self.on_connection_ended(DisconnectReason::TransportError, "connection could not be attached", ctx),
        }
    }

    /// Starts an upgrade to a websocket. If no upgrade is possible, closes the websocket.
    pub(super) fn on_websocket(&mut self, handoff: Box<dyn Handoff>, ctx: &mut Context<Self>) {
        if self.has_ended() || self.transport != Transport::Polling || self.upgrade.candidate().is_some() {
            log::debug!("websocket refused, no upgrade is possible sid={:?}", self.guard.id);
            return;
        }
        if let Some((number, sink, answer)) = self.attach(handoff, ctx) {
            debug_assert!(answer.is_empty(), "a client that upgrades has received its response");
            let websocket = ProbedWebsocket { number, sink, outbox: Outbox::default() };
            self.upgrade.begin(websocket, Instant::now(), &self.core.limits);
        }
    }

    /// Attaches a connection. Returns its number, its writing half, and the handshake response if
    /// that is still to be written.
    fn attach(
        &mut self,
        handoff: Box<dyn Handoff>,
        ctx: &mut Context<Self>,
    ) -> Option<(u32, Box<dyn FrameSink>, Bytes)> {
        let Connection { sink, incoming, answer } = handoff
            .attach()
            .inspect_err(|error| log::warn!("connection not attached sid={:?} error={error}", self.guard.id))
            .ok()?;
        self.connections += 1;
        let number = self.connections;
        ctx.add_stream(NumberedStream { number, incoming });
        Some((number, sink, answer))
    }

    pub(super) fn on_incoming(&mut self, number: u32, incoming: Incoming, ctx: &mut Context<Self>) {
        if self.transport == Transport::Websocket(number) {
            self.on_transport_incoming(number, incoming, ctx);
        } else if self.upgrade.candidate().is_some_and(|candidate| candidate.number == number) {
            self.on_candidate_incoming(number, incoming, ctx);
        }
    }

    fn on_transport_incoming(&mut self, number: u32, incoming: Incoming, ctx: &mut Context<Self>) {
        match incoming {
            Incoming::Packets(packets) => {
                for packet in packets {
                    if self.has_ended() {
                        return;
                    }
                    debug_assert_eq!(self.transport, Transport::Websocket(number));
                    self.on_packet(packet, ctx);
                }
            }
            Incoming::Control(packet) => {
                self.outbox.push_control(packet);
            }
            Incoming::Writable => self.outbox.on_writable(),
            Incoming::Undecodable(detail) => self.close(DisconnectReason::ParseError, &detail, ctx),
            Incoming::TooLarge(detail) => {
                self.outbox.worker.metrics().oversized[TransportKind::Websocket].add(1);
                self.close(DisconnectReason::TransportError, &detail, ctx);
            }
            Incoming::Refused(detail) => {
                self.outbox.worker.metrics().incoming_refused.add(1);
                if let Some(skipped) = self.outbox.worker.log_throttles().message_refused.is_due(Instant::now()) {
                    log::warn!("message refused sid={:?} skipped={skipped} detail=\"{detail}\"", self.guard.id);
                }
                self.close(DisconnectReason::TransportError, &detail, ctx);
            }
            Incoming::Leaving => self.close(DisconnectReason::TransportClose, "close frame from the client", ctx),
            Incoming::Closed => {
                self.on_connection_ended(DisconnectReason::TransportClose, "closed by the client", ctx);
            }
            Incoming::Broken(detail) => self.on_connection_ended(DisconnectReason::TransportError, &detail, ctx),
        }
    }

    fn on_candidate_incoming(&mut self, number: u32, incoming: Incoming, ctx: &mut Context<Self>) {
        if self.has_ended() && !matches!(incoming, Incoming::Control(_) | Incoming::Writable) {
            self.drop_candidate("session closed");
            if !self.awaits_final_poll() {
                self.stop(ctx);
            }
            return;
        }
        match incoming {
            Incoming::Packets(packets) => {
                for packet in packets {
                    if self.transport == Transport::Websocket(number) {
                        // An earlier packet of this batch completed the upgrade.
                        self.on_packet(packet, ctx);
                    } else {
                        let step = self.upgrade.on_packet(&packet, Instant::now());
                        self.on_upgrade_step(step);
                    }
                }
            }
            Incoming::Control(packet) => self.send_to_candidate(packet),
            Incoming::Writable => self.flush_candidate(),
            Incoming::Undecodable(detail)
            | Incoming::TooLarge(detail)
            | Incoming::Refused(detail)
            | Incoming::Broken(detail) => {
                self.drop_candidate(&detail);
            }
            Incoming::Leaving | Incoming::Closed => self.drop_candidate("closed by the client"),
        }
    }

    pub(super) fn on_upgrade_step(&mut self, step: Step<ProbedWebsocket>) {
        match step {
            Step::Wait => {}
            Step::AnswerProbe => self.send_to_candidate(EncodedFrame::text("3probe")),
            Step::Noop => self.free_poll(),
            Step::Promote(websocket) => self.promote(websocket),
            Step::Drop(websocket) => self.abort_upgrade(websocket, "probe failed or timed out"),
        }
    }

    fn send_to_candidate(&mut self, packet: EncodedFrame) {
        if let Some(candidate) = self.upgrade.candidate_mut() {
            match candidate.outbox.push_control(packet) {
                Ok(()) => self.flush_candidate(),
                Err(full) => self.drop_candidate(&full.to_string()),
            }
        }
    }

    /// Answers a waiting poll with a noop, so that the client can finish its upgrade.
    fn free_poll(&mut self) {
        if self.outbox.has_drainer() {
            self.outbox.push_control(EncodedFrame::text("6"));
        }
    }

    fn flush_candidate(&mut self) {
        let Some(candidate) = self.upgrade.candidate_mut() else { return };
        if let Drained::Lost(detail) = candidate.sink.drain(&mut candidate.outbox) {
            self.drop_candidate(&detail);
        }
    }

    /// Makes the websocket the session's transport. Queued packets are sent over the websocket,
    /// once and in order.
    fn promote(&mut self, mut candidate: ProbedWebsocket) {
        self.state.on_upgrade(Instant::now());
        // The candidate's own outbox is no longer needed, since the client has answered the
        // `3probe` in it.
        candidate.sink.set_reading(self.reading);
        self.transport = Transport::Websocket(candidate.number);
        // If a poll still waits, dropping its sink answers the poll with a noop.
        drop(self.outbox.set_drainer(candidate.sink));
        self.guard.mark_upgraded();
        log::debug!("session upgraded sid={:?}", self.guard.id);
    }

    pub(super) fn drop_candidate(&mut self, detail: &str) {
        if let Some(candidate) = self.upgrade.take_candidate() {
            self.abort_upgrade(candidate, detail);
        }
    }

    fn abort_upgrade(&self, mut candidate: ProbedWebsocket, detail: &str) {
        log::debug!("upgrade aborted sid={:?} detail=\"{detail}\"", self.guard.id);
        candidate.sink.abort();
    }

    pub(super) fn set_reading(&mut self, reading: bool) {
        self.reading = reading;
        self.outbox.set_reading(reading);
        if reading {
            self.resume_post();
        }
    }
}
