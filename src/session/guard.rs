//! A session's entry in the directory and in the metrics. Released by being dropped, so also when the session's task dies by
//! a panic.

use std::sync::Arc;

use super::directory::SessionPermit;
use crate::ids::SessionId;
use crate::messages::session::SessionLink;
use crate::metrics::WorkerMetrics;
use crate::protocol::engineio::transport_kind::TransportKind;

/// The drop guard of one session.
pub(super) struct SessionGuard {
    pub(super) id: SessionId,
    metrics: Arc<WorkerMetrics>,
    /// Until the session is withdrawn.
    permit: Option<SessionPermit>,
    /// As what it is counted.
    transport_kind: TransportKind,
}

impl SessionGuard {
    /// Enters a session.
    pub(super) fn new(
        id: SessionId,
        metrics: Arc<WorkerMetrics>,
        permit: SessionPermit,
        link: SessionLink,
        transport_kind: TransportKind,
    ) -> Self {
        metrics.record_opened(transport_kind);
        permit.enter(id, link);
        Self { id, metrics, permit: Some(permit), transport_kind }
    }

    /// The session went over to a websocket.
    pub(super) fn mark_upgraded(&mut self) {
        self.metrics.record_upgrade();
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
        self.metrics.record_ended(self.transport_kind);
    }
}
