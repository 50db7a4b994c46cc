//! The application's requests to a session.

use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;

use super::Session;
use super::sockets::Call;
use crate::api::error::ConnectError;
use crate::ids::{AckId, SocketId};
use crate::messages::answer::{Done, NoAnswer, Receipt, answer};
use crate::messages::event::{AckWanted, DirectPacket, Emit, Grade};
use crate::messages::hub::OrderedCommand;
use crate::messages::session::{HandlerRegistration, Listing, Request};
use crate::messages::socket::SocketInfo;
use crate::protocol::draft::{Draft, disconnect};
use crate::protocol::reason::DisconnectReason;
use crate::state::rooms::Target;
use crate::state::sockets::SocketRecord;
use crate::worker::credit_window::PendingReply;
use crate::worker::server_sender;

impl Session {
    pub(super) fn on_request(&mut self, request: Request) {
        if self.has_ended() {
            return self.pass_on(request);
        }
        // Acks are handled first and without reading the clock, since a client may request an ack
        // for every event.
        if let Request::Acknowledge { socket, message } = request {
            if self.is_connected(socket) {
                self.credit_window.push(Instant::now, DirectPacket::Sealed(message));
            }
            return;
        }
        let now = Instant::now();
        match request {
            Request::Broadcast { emit, done } => server_sender::emit(&mut self.credit_window, now, emit, done),
            Request::Publish { emit, done } => server_sender::publish(&mut self.credit_window, now, emit, done),
            Request::Collect { emit, timeout, answer } => {
                server_sender::collect(&mut self.credit_window, now, emit, timeout, answer);
            }
            Request::Fetch { namespace, target, answer } => {
                server_sender::fetch(&mut self.credit_window, now, namespace, target, answer);
            }
            Request::List { listing: Listing::OfSocket(socket), answer: asker } if self.is_yet_to_connect(socket) => {
                answer(asker, Err(NoAnswer::NotYetConnected));
            }
            Request::List { listing, answer } => server_sender::list(&mut self.credit_window, now, listing, answer),
            request => self.on_socket_request(request, now),
        }
    }

    /// Handles a request after the session has ended. A request that concerns other sockets is
    /// passed to the server sender. Any other request is dropped, which notifies its caller that
    /// the socket is disconnected.
    fn pass_on(&self, request: Request) {
        if matches!(request, Request::Publish { .. }) {
            if let Err(Some(refused)) = self.core.durable_sender.offer_or_return(request)
                && let Request::Publish { done, .. } = *refused
            {
                answer(done, Err(NoAnswer::Overloaded.into()));
            }
            return;
        }
        if matches!(
            request,
            Request::Broadcast { .. } | Request::Collect { .. } | Request::Fetch { .. } | Request::List { .. }
        ) {
            // A request that the server sender refuses is dropped as well.
            let _ = self.core.server_sender.offer(request);
        }
    }

    /// Handles a request for one of the session's sockets. If the socket has disconnected, the
    /// request is dropped, which notifies the caller.
    fn on_socket_request(&mut self, request: Request, now: Instant) {
        match request {
            Request::Direct { socket, done, .. } if self.is_yet_to_connect(socket) => {
                done.fail(NoAnswer::NotYetConnected);
            }
            Request::Call { socket, answer: asker, .. } if self.is_yet_to_connect(socket) => {
                answer(asker, Err(NoAnswer::NotYetConnected.into()));
            }
            Request::Join { socket, done, .. } if self.is_yet_to_connect(socket) => {
                answer(done, Err(NoAnswer::NotYetConnected.into()));
            }
            Request::Leave { socket, done, .. } if self.is_yet_to_connect(socket) => {
                answer(done, Err(NoAnswer::NotYetConnected));
            }
            Request::Direct { socket, draft, grade, done } if self.is_connected(socket) => {
                self.emit_direct(socket, draft, grade, done, now);
            }
            Request::Call { socket, draft, grade, timeout, answer: asker } if self.is_connected(socket) => {
                match self.acks.expect(
                    Call { socket, asker },
                    now + timeout.min(server_sender::ACK_WAIT_MAX),
                    self.core.limits.acks.pending_max,
                ) {
                    Ok(id) => self.call(socket, draft, grade, id, now),
                    Err(call) => answer(call.asker, Err(NoAnswer::Overloaded.into())),
                }
            }
            Request::SubscribeAs { socket, done, .. } if self.is_yet_to_connect(socket) => {
                answer(done, Err(NoAnswer::NotYetConnected.into()));
            }
            Request::SubscribeAs { socket, key, done } if self.is_connected(socket) => {
                self.subscribe_as(socket, key, done);
            }
            Request::Register { socket, registration } => self.register(socket, registration),
            Request::Join { socket, room, done } if self.is_connected(socket) => {
                self.credit_window.submit(now, room.as_str().len(), PendingReply::Join(done), move |from| {
                    OrderedCommand::Join { from, socket, room }
                });
            }
            Request::Leave { socket, room, done } if self.is_connected(socket) => {
                self.credit_window.submit(now, room.as_str().len(), PendingReply::Leave(done), move |from| {
                    OrderedCommand::Leave { from, socket, room }
                });
            }
            Request::JournalData { socket } if self.is_connected(socket) => self.journal_data(socket, now),
            Request::Disconnect { socket, close_session: false } if self.is_admitting(socket) => {
                self.refuse(socket, &ConnectError::new("Refused"));
            }
            Request::Disconnect { socket, close_session } => {
                self.disconnect(socket, close_session, now);
            }
            Request::CloseTransport { socket } if self.find_socket(socket).is_some() => {
                self.close_when_drained(DisconnectReason::ForcedClose, now);
            }
            _ => {}
        }
    }

    fn register(&mut self, socket: SocketId, HandlerRegistration(change): HandlerRegistration) {
        let Some(session_socket) = self.find_socket_mut(socket) else { return };
        change(session_socket.handlers.own());
        if session_socket.handlers.observes_outgoing() {
            self.outbox.observe();
        }
    }

    pub(super) fn is_admitting(&self, socket: SocketId) -> bool {
        self.state.sockets.get(socket).is_some_and(SocketRecord::is_admitting)
    }

    /// True while the socket's connection middleware runs, or the hub has not connected the socket
    /// yet.
    fn is_yet_to_connect(&self, socket: SocketId) -> bool {
        !self.is_connected(socket) && self.find_socket(socket).is_some()
    }

    /// Emits an event to one of the session's sockets. With recovery on, an event that is not
    /// volatile is emitted through the hub to the socket's own room, so that the hub assigns its
    /// offset.
    fn emit_direct(&mut self, socket: SocketId, draft: Draft, grade: Grade, done: Done, now: Instant) {
        if self.credit_window.is_full() || self.congested.len() >= self.core.limits.hub.credit_waiting_max {
            // This bounds the pending emits of code that does not await each emit.
            self.outbox.worker.metrics().credit_refusals.add(1);
            return done.fail(NoAnswer::Overloaded);
        }
        if self.core.encoder.recovery && grade != Grade::Volatile {
            let emit = Emit { target: Target::socket(socket), draft, grade };
            if !self.outbox.is_behind() {
                return server_sender::emit(&mut self.credit_window, now, emit, done);
            }
            // The event is journalled now, but the emit completes only when the client has caught
            // up. Otherwise a fast caller could fill the journal, which would then drop events that
            // the client has not read.
            server_sender::submit_emit(&mut self.credit_window, now, emit, AckWanted::No, PendingReply::Nobody);
            return self.congested.push_back((now + self.core.limits.hub.credit_timeout, done));
        }
        let packet = DirectPacket::Unnumbered { draft, volatile: grade == Grade::Volatile };
        if !self.credit_window.is_settled() && !self.outbox.is_congested() {
            // The session has commands in flight. The packet passes through the hub, so that it
            // stays behind their results.
            return self.credit_window.submit(now, packet.byte_len(), PendingReply::Emit(done), move |from| {
                OrderedCommand::Relay { from, packet }
            });
        }
        self.credit_window.push(|| now, packet);
        if self.outbox.is_congested() {
            self.congested.push_back((now + self.core.limits.hub.credit_timeout, done));
        } else {
            done.complete(Ok(Receipt { offset: None }));
        }
    }

    /// Completes delayed emits, oldest first, until `may` returns false for a deadline.
    pub(super) fn complete_congested(&mut self, may: impl Fn(Instant) -> bool) {
        while self.congested.front().is_some_and(|(until, _)| may(*until)) {
            if let Some((_, done)) = self.congested.pop_front() {
                done.complete(Ok(Receipt { offset: None }));
            }
        }
    }

    /// Emits an event that requests an ack. If recovery is off and the event is not volatile, it is
    /// queued directly. Otherwise it passes through the hub.
    fn call(&mut self, socket: SocketId, draft: Draft, grade: Grade, id: AckId, now: Instant) {
        if !self.core.encoder.recovery && grade != Grade::Volatile {
            return self.credit_window.push(|| now, DirectPacket::Sealed(draft.seal(Some(id.to_wire()), None)));
        }
        let emit = Emit { target: Target::socket(socket), draft, grade };
        // The hub's reply is ignored, since the caller waits for the client's ack, which has a
        // deadline of its own.
        let (done, _) = tokio::sync::oneshot::channel();
        let (ack, reply) = (AckWanted::OfOne { socket, id }, PendingReply::Emit(Done::WhenTaken(done)));
        server_sender::submit_emit(&mut self.credit_window, now, emit, ack, reply);
    }

    pub(super) fn on_panic(&mut self, info: &Arc<SocketInfo>, handler: &str) {
        let (sid, socket, namespace) = (self.guard.id, info.id, &info.namespace);
        log::error!(
            "handler panicked, its socket is disconnected sid={sid:?} socket={socket} namespace={namespace} handler={handler:?}"
        );
        if !self.is_current(info) {
            return;
        }
        if self.is_admitting(socket) {
            self.refuse(socket, &ConnectError::new("Internal error"));
        } else {
            self.disconnect(socket, false, Instant::now());
        }
    }

    /// Disconnects `socket`. If `close_session`, disconnects all sockets and then closes the
    /// session.
    pub(super) fn disconnect(&mut self, socket: SocketId, close_session: bool, now: Instant) {
        let sockets = if close_session { self.state.sockets.ids() } else { SmallVec::from_elem(socket, 1) };
        for socket in sockets {
            if let Some(session_socket) = self.find_socket(socket) {
                let packet = disconnect(self.core.encoder.parser, session_socket.socket.path());
                self.credit_window.push(|| now, DirectPacket::Sealed(packet.into()));
                self.detach(socket, DisconnectReason::ServerNamespaceDisconnect);
            }
        }
        if close_session {
            self.close_when_drained(DisconnectReason::ForcedServerClose, now);
        }
    }
}
