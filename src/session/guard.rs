//! A session's entry in the directory and in the metrics, released on drop, even if the session's
//! task panics.

use std::sync::Arc;

use super::directory::SessionPermit;
use crate::ids::SessionId;
use crate::messages::session::SessionLink;
use crate::metrics::WorkerMetrics;
use crate::protocol::engineio::transport_kind::TransportKind;

pub(super) struct SessionGuard {
    pub(super) id: SessionId,
    metrics: Arc<WorkerMetrics>,
    /// `None` once the session is withdrawn from the directory.
    permit: Option<SessionPermit>,
    /// The transport label in the metrics.
    transport_kind: TransportKind,
}

impl SessionGuard {
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

    pub(super) fn mark_upgraded(&mut self) {
        self.metrics.record_upgrade();
        self.transport_kind = TransportKind::Websocket;
    }

    /// Removes the session from the directory. Its connection may still send final packets.
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
