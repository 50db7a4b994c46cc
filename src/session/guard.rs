//! What a session holds elsewhere: its directory entry, its outbox, its sockets' memberships. Released by being dropped,
//! so also when the session's task dies by a panic.

use std::rc::Rc;

use smallvec::SmallVec;

use super::directory::SessionPermit;
use crate::ids::{SessionId, SlotKey, SocketId};
use crate::messages::hub::HubCommand;
use crate::messages::session::SessionLink;
use crate::protocol::engineio::transport_kind::TransportKind;
use crate::worker::Worker;

/// The drop guard of one session.
pub(super) struct SessionGuard {
    pub(super) id: SessionId,
    pub(super) worker: Rc<Worker>,
    pub(super) slot: SlotKey,
    /// Until the session is withdrawn.
    permit: Option<SessionPermit>,
    /// As what it is counted.
    transport_kind: TransportKind,
    /// Sockets that the hub knows, or is about to hear of.
    sockets: SmallVec<[SocketId; 1]>,
}

impl SessionGuard {
    /// Enters a session.
    pub(super) fn new(
        id: SessionId,
        worker: Rc<Worker>,
        permit: SessionPermit,
        link: SessionLink,
        transport_kind: TransportKind,
    ) -> Self {
        worker.metrics().opened(transport_kind);
        let slot = worker.open_slot(link.clone());
        permit.enter(id, link);
        Self { id, worker, slot, permit: Some(permit), transport_kind, sockets: SmallVec::new() }
    }

    /// The session went over to a websocket.
    pub(super) fn mark_upgraded(&mut self) {
        self.worker.metrics().upgraded();
        self.transport_kind = TransportKind::Websocket;
    }

    /// The hub will be told of this socket.
    pub(super) fn add(&mut self, socket: SocketId) {
        self.sockets.push(socket);
    }

    /// The hub is notified otherwise that this socket has gone.
    pub(super) fn forget(&mut self, socket: SocketId) {
        self.sockets.retain(|known| *known != socket);
    }

    /// Takes the session out of the directory; the outbox stays for the final packet.
    pub(super) fn withdraw(&mut self) {
        if let Some(permit) = self.permit.take() {
            permit.leave(&self.id);
        }
    }

    /// Takes its sockets out of their rooms; the session can still be found. `forever`: none of them comes back.
    pub(super) fn withdraw_sockets(&mut self, forever: bool) {
        for socket in self.sockets.drain(..) {
            self.worker.send(HubCommand::Disconnect { slot: self.slot, socket, forever, rooms: None });
        }
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.withdraw();
        self.withdraw_sockets(false);
        self.worker.close_slot(self.slot);
        self.worker.metrics().gone(self.transport_kind);
    }
}
