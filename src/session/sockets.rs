//! The sockets of a session: creation, replacement and removal.

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
use crate::messages::subscribers::Attachment;
use crate::protocol::reason::DisconnectReason;
use crate::protocol::socketio::packet::Args;
use crate::protocol::socketio::resume::ResumeAttempt;
use crate::state::sockets::SocketRecord;

pub(super) struct SessionSocket {
    pub(super) socket: Socket,
    pub(super) handlers: HandlerStack,
    /// The client's attempt to resume an earlier session. `None` once the socket is connected.
    pub(super) attempt: Option<Box<ResumeAttempt>>,
    /// True once the hub was asked to connect the socket.
    pub(super) is_in_hub: bool,
    /// The subscriber of the queue whose events the socket receives. Boxed, since most sockets have
    /// none. Dropping it notifies the subscribers' actor.
    pub(super) attachment: Option<Box<Attachment>>,
}

impl SessionSocket {
    pub(super) fn new(
        info: SocketInfo,
        link: SessionLink,
        core: Arc<Core>,
        handlers: HandlerStack,
        attempt: Option<Box<ResumeAttempt>>,
    ) -> Self {
        Self {
            socket: Socket::new(SocketRef { info: Arc::new(info), link }, core),
            handlers,
            attempt,
            is_in_hub: false,
            attachment: None,
        }
    }

    /// Marks the socket as connected. Returns its connection handler.
    pub(super) fn mark_connected(&mut self, recovered: bool) -> Option<HandlerFn<()>> {
        self.attempt = None;
        let info = self.socket.info();
        info.set_recovered(recovered);
        info.set_connected(true);
        self.handlers.connection().cloned()
    }

    fn auth_bytes(&self) -> usize {
        self.socket.info().auth.as_ref().map_or(0, |auth| auth.len())
    }
}

/// A caller that awaits the client's ack.
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

    /// Returns false if the socket was removed or replaced.
    pub(super) fn is_current(&self, info: &Arc<SocketInfo>) -> bool {
        self.find_socket(info.id).is_some_and(|session_socket| Arc::ptr_eq(session_socket.socket.info(), info))
    }

    /// True once the hub has connected the socket and its CONNECT reply is queued.
    pub(super) fn is_connected(&self, socket: SocketId) -> bool {
        self.state.sockets.get(socket).is_some_and(SocketRecord::is_connected)
    }

    pub(super) fn add_socket(&mut self, socket: SessionSocket, replaces_answered: bool) {
        self.auth_bytes += socket.auth_bytes();
        let info = socket.socket.info();
        let (namespace, id) = (info.namespace.clone(), info.id);
        self.state.sockets.add(namespace, id, replaces_answered, socket);
    }

    /// Replaces a socket with a socket of another id. Held events are transferred to the new
    /// socket.
    pub(super) fn replace_socket(&mut self, from: SocketId, info: SocketInfo) {
        let (core, link, to) = (self.core.clone(), self.link.clone(), info.id);
        let Some(socket) = self.find_socket_mut(from) else { return };
        socket.socket = Socket::new(SocketRef { info: Arc::new(info), link }, core);
        self.state.sockets.rename(from, to);
        self.inbox.rename(&from, &to);
    }

    /// Removes a socket from the session without notifying the hub. Held events of the socket are
    /// dropped, and pending acks fail.
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

    /// Disconnects a socket in the session and in the hub, and starts its disconnect handlers.
    pub(super) fn detach(&mut self, socket: SocketId, reason: DisconnectReason) {
        self.detach_socket(socket, reason, reason.is_final());
    }

    /// Disconnects the socket of a namespace when the client sends another CONNECT for that
    /// namespace. Returns true if the client considers the namespace connected. If the socket was
    /// still waiting to resume a session, that session stays resumable.
    pub(super) fn detach_replaced(&mut self, namespace: &NamespacePath) -> bool {
        let Some(record) = self.state.sockets.in_namespace(namespace) else { return false };
        let (socket, is_answered, is_resuming) = (record.id, record.is_answered(), record.kept.attempt.is_some());
        self.detach_socket(socket, DisconnectReason::ClientNamespaceDisconnect, !is_resuming);
        is_answered
    }

    /// Disconnects a socket. If `forever`, the client can no longer resume the socket.
    fn detach_socket(&mut self, socket: SocketId, reason: DisconnectReason, forever: bool) {
        let Some(record) = self.remove_socket(socket) else { return };
        let rooms = self.start_disconnecting_handlers(&record, reason);
        self.leave_hub(&record, forever, rooms);
    }

    /// Disconnects a removed socket in the hub, if the hub was asked to connect it.
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

    /// Disconnects all sockets at the end of the session, without waiting for credit.
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

    /// Opens a socket that the hub has connected. Starts the connection handler or, if there is
    /// none, releases held events.
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

/// Disconnects the remaining sockets in the hub, also after a panic in the session's task.
impl Drop for Session {
    fn drop(&mut self) {
        for record in self.state.sockets.iter() {
            record.kept.socket.info().set_connected(false);
            if record.kept.is_in_hub {
                let (slot, socket) = (self.outbox.slot, record.id);
                self.outbox.worker.send(OrderedCommand::Disconnect { slot, socket, forever: false, rooms: None });
            }
        }
    }
}
