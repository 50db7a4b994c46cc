//! The session's sockets: everything that it keeps with one of them, and how one is renamed or removed.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::Session;
use crate::api::core::{Core, HandlerFn, Socket};
use crate::api::handler::HandlerStack;
use crate::ids::{NamespacePath, RoomName, SocketId};
use crate::messages::answer::{ClientGone, RequestError, answer};
use crate::messages::hub::OrderedCommand;
use crate::messages::session::{SessionLink, SocketRef};
use crate::messages::socket::SocketInfo;
use crate::protocol::reason::DisconnectReason;
use crate::protocol::socketio::packet::Args;
use crate::protocol::socketio::resume::ResumeAttempt;
use crate::state::sockets::SocketRecord;

/// The session's own part of the record of a socket.
pub(super) struct SessionSocket {
    pub(super) socket: Socket,
    pub(super) handlers: HandlerStack,
    /// The session that its client wants to resume, until the socket is connected.
    pub(super) claim: Option<Box<ResumeAttempt>>,
    /// The hub knows the socket, or is about to hear of it.
    pub(super) is_in_hub: bool,
}

impl SessionSocket {
    pub(super) fn new(
        info: SocketInfo,
        link: SessionLink,
        core: Arc<Core>,
        handlers: HandlerStack,
        claim: Option<Box<ResumeAttempt>>,
    ) -> Self {
        Self { socket: Socket::new(SocketRef { info: Arc::new(info), link }, core), handlers, claim, is_in_hub: false }
    }

    /// The hub has connected the socket. Returns the handler to run.
    pub(super) fn mark_connected(&mut self, recovered: bool) -> Option<HandlerFn<()>> {
        self.claim = None;
        let info = self.socket.info();
        info.set_recovered(recovered);
        info.set_connected(true);
        self.handlers.connection().cloned()
    }

    fn auth_bytes(&self) -> usize {
        self.socket.info().auth.as_ref().map_or(0, |auth| auth.len())
    }
}

/// Code that awaits the client's ack.
pub(super) struct Call {
    pub(super) socket: SocketId,
    pub(super) asker: oneshot::Sender<Result<Args, RequestError<ClientGone>>>,
}

impl Session {
    pub(super) fn find_socket(&self, socket: SocketId) -> Option<&SessionSocket> {
        self.state.sockets.get(socket).map(|record| &record.kept)
    }

    pub(super) fn find_socket_mut(&mut self, socket: SocketId) -> Option<&mut SessionSocket> {
        self.state.sockets.get_mut(socket).map(|record| &mut record.kept)
    }

    /// Whether this is the socket of its id, and not one that was replaced.
    pub(super) fn is_current(&self, info: &Arc<SocketInfo>) -> bool {
        self.find_socket(info.id).is_some_and(|session_socket| Arc::ptr_eq(session_socket.socket.info(), info))
    }

    /// Whether the hub has connected the socket: its client has, or is about to get, the CONNECT reply.
    pub(super) fn is_connected(&self, socket: SocketId) -> bool {
        self.state.sockets.get(socket).is_some_and(SocketRecord::is_connected)
    }

    /// Adds a socket that is to be admitted.
    pub(super) fn add_socket(&mut self, socket: SessionSocket, replaces_answered: bool) {
        self.auth_bytes += socket.auth_bytes();
        let info = socket.socket.info();
        let (namespace, id) = (info.namespace.clone(), info.id);
        self.state.sockets.add(namespace, id, replaces_answered, socket);
    }

    /// Continues with a socket under another id; events that its client has sent already are held for that.
    pub(super) fn replace_socket(&mut self, from: SocketId, info: SocketInfo) {
        let (core, link, to) = (self.core.clone(), self.link.clone(), info.id);
        let Some(socket) = self.find_socket_mut(from) else { return };
        socket.socket = Socket::new(SocketRef { info: Arc::new(info), link }, core);
        self.state.sockets.rename(from, to);
        self.inbox.rename(&from, &to);
    }

    /// Forgets a socket, here and nowhere else: what was held for it is dropped, and acks of its client do not come any more.
    pub(super) fn remove_socket(&mut self, socket: SocketId) -> Option<SocketRecord<SessionSocket>> {
        let record = self.state.sockets.remove(socket)?;
        self.auth_bytes -= record.kept.auth_bytes();
        self.inbox.forget(&socket);
        for call in self.acks.forget(|call| call.socket == socket) {
            answer(call.asker, Err(RequestError::Refused(ClientGone)));
        }
        record.kept.socket.info().set_connected(false);
        Some(record)
    }

    /// Takes a socket out of its namespace, here and at the hub, and tells the application why.
    pub(super) fn detach(&mut self, socket: SocketId, reason: DisconnectReason) {
        self.detach_socket(socket, reason, reason.is_final());
    }

    /// Makes way for another CONNECT to the same namespace. A session that the former socket was about to resume stays resumable,
    /// unless its client has been answered: then it has been read on from where the other would begin. Returns whether it has.
    pub(super) fn detach_replaced(&mut self, namespace: &NamespacePath) -> bool {
        let Some(record) = self.state.sockets.in_namespace(namespace) else { return false };
        let (socket, is_answered, is_resuming) = (record.id, record.is_answered(), record.kept.claim.is_some());
        self.detach_socket(socket, DisconnectReason::ClientNamespaceDisconnect, !is_resuming);
        is_answered
    }

    /// `forever`: nobody can resume the session of this socket.
    fn detach_socket(&mut self, socket: SocketId, reason: DisconnectReason, forever: bool) {
        let Some(record) = self.remove_socket(socket) else { return };
        let rooms = self.start_disconnecting_handlers(&record, reason);
        self.leave_hub(&record, forever, rooms);
    }

    /// Notifies the hub, if it knows the socket, that it has been removed here.
    pub(super) fn leave_hub(
        &mut self,
        removed: &SocketRecord<SessionSocket>,
        forever: bool,
        rooms: Option<oneshot::Sender<Vec<RoomName>>>,
    ) {
        if removed.kept.is_in_hub {
            let (slot, socket) = (self.outbox.slot, removed.id);
            self.credit_window.submit_free(OrderedCommand::Disconnect { slot, socket, forever, rooms });
        }
    }

    /// Takes all sockets out of their namespaces because the session ends, without waiting for credit.
    pub(super) fn detach_all(&mut self, reason: DisconnectReason) {
        let (slot, forever) = (self.outbox.slot, reason.is_final());
        for socket in self.state.sockets.ids() {
            let Some(record) = self.remove_socket(socket) else { continue };
            let rooms = self.start_disconnecting_handlers(&record, reason);
            if record.kept.is_in_hub {
                self.outbox.worker.send(OrderedCommand::Disconnect { slot, socket, forever, rooms });
            }
        }
    }

    /// Completes the admission of a socket that the hub has connected: its connection handler starts, or its events may.
    pub(super) fn open_socket(&mut self, socket: SocketId, recovered: bool, now: Instant) {
        let Some(session_socket) = self.find_socket_mut(socket) else { return };
        match session_socket.mark_connected(recovered) {
            Some(handler) => {
                self.start_connection_handler(socket, handler);
                self.state.mark_connected(socket, now);
            }
            None => self.state.mark_open(socket),
        }
    }
}

/// The hub learns of the sockets of a session that is gone, also when its task died by a panic.
impl Drop for Session {
    fn drop(&mut self) {
        for record in self.state.sockets.iter().filter(|record| record.kept.is_in_hub) {
            let (slot, socket) = (self.outbox.slot, record.id);
            self.outbox.worker.send(OrderedCommand::Disconnect { slot, socket, forever: false, rooms: None });
        }
    }
}
