//! Storage of events for clients that reconnect, as the application chooses it.

use std::path::PathBuf;

use crate::api::recovery_clients::RecoveryClients;

/// Storage of events for clients that reconnect.
///
/// With recovery on, every event without ack id carries an offset as its last argument, and the
/// reply to CONNECT carries a `pid`, for clients that can recover (see [`RecoveryClients`]). A
/// client of `socket.io-client` 4.6 or later that loses its connection sends both when it
/// reconnects within [`limits.recovery.window`](crate::limits::RecoveryLimits::window). Its socket
/// then has the same id, rooms and data, and gets every missed event that is not volatile. If one
/// of the missed events is no longer stored, the client gets a new socket, whose `recovered` is
/// false.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    pub(super) journal_kind: JournalKind,
    pub(super) clients: RecoveryClients,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum JournalKind {
    #[default]
    Off,
    Memory,
    Folder(PathBuf),
}

impl Recovery {
    /// Stores no events; they carry no offset.
    pub const fn off() -> Self {
        Self { journal_kind: JournalKind::Off, clients: RecoveryClients::Auto }
    }

    /// Stores events in memory until the process ends, bounded by
    /// [`limits.journal.records_max`](crate::limits::JournalLimits::records_max) and
    /// [`limits.journal.bytes_max`](crate::limits::JournalLimits::bytes_max).
    pub const fn memory() -> Self {
        Self { journal_kind: JournalKind::Memory, clients: RecoveryClients::Auto }
    }

    /// Stores events in files of this folder, which is created if it does not exist. Their number
    /// and size are bounded by
    /// [`limits.journal.segments_max`](crate::limits::JournalLimits::segments_max) and
    /// [`limits.journal.segment_bytes`](crate::limits::JournalLimits::segment_bytes). The newest
    /// events are also kept in memory.
    ///
    /// An event is sent to clients after it has been written, without fsync, so it survives any end
    /// of the process. After a power loss of the machine it is unknown which events are missing, so
    /// the journal is discarded and all clients are notified. Only one server at a time may use the
    /// folder.
    pub fn disk(folder: impl Into<PathBuf>) -> Self {
        Self { journal_kind: JournalKind::Folder(folder.into()), clients: RecoveryClients::Auto }
    }

    /// Clients that can recover; [`RecoveryClients::Auto`] by default. Other clients get events as
    /// without recovery.
    #[must_use]
    pub fn clients(mut self, clients: RecoveryClients) -> Self {
        self.clients = clients;
        self
    }
}
