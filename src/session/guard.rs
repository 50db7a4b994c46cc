//! What a session holds elsewhere: its directory entry and its outbox. Released by being dropped, so also when the session's
//! task dies by a panic.

use std::rc::Rc;

use super::directory::SessionPermit;
use crate::ids::{SessionId, SlotKey};
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
        Self { id, worker, slot, permit: Some(permit), transport_kind }
    }

    /// The session went over to a websocket.
    pub(super) fn mark_upgraded(&mut self) {
        self.worker.metrics().upgraded();
        self.transport_kind = TransportKind::Websocket;
    }

    /// Takes the session out of the directory; the outbox stays for the final packet.
    pub(super) fn withdraw(&mut self) {
        if let Some(permit) = self.permit.take() {
            permit.leave(&self.id);
        }
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.withdraw();
        self.worker.close_slot(self.slot);
        self.worker.metrics().gone(self.transport_kind);
    }
}
