//! Setting for the storage of events for clients that reconnect.

use std::path::PathBuf;

use crate::api::recovery_clients::RecoveryClients;

/// Storage of events for clients that reconnect.
///
/// If recovery is on, clients that can recover (see [`RecoveryClients`]) receive a `pid` in the
/// reply to CONNECT, and an offset as the last argument of every event without ack id. A client
/// with `socket.io-client` 4.6 or later that loses its connection sends both values when it
/// reconnects. Within [`limits.recovery.window`](crate::limits::RecoveryLimits::window), the socket
/// then has the same id, rooms and data as before, and receives every missed event that is not
/// volatile. If one of the missed events is no longer stored, the client gets a new socket with
/// `recovered` false.
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
    /// Stores no events. Events have no offset.
    pub const fn off() -> Self {
        Self { journal_kind: JournalKind::Off, clients: RecoveryClients::Auto }
    }

    /// Stores events in memory until the process ends, bounded by
    /// [`limits.journal.records_max`](crate::limits::JournalLimits::records_max) and
    /// [`limits.journal.bytes_max`](crate::limits::JournalLimits::bytes_max).
    pub const fn memory() -> Self {
        Self { journal_kind: JournalKind::Memory, clients: RecoveryClients::Auto }
    }

    /// Stores events in files of this folder, which is created if it does not exist. The number and
    /// size of the files are bounded by
    /// [`limits.journal.segments_max`](crate::limits::JournalLimits::segments_max) and
    /// [`limits.journal.segment_bytes`](crate::limits::JournalLimits::segment_bytes). The newest
    /// events are also kept in memory.
    ///
    /// An event is written before it is sent to clients, without fsync, so it survives any end of
    /// the process. After a power loss of the machine, the server cannot know which events are
    /// missing. It then discards the journal, and clients get new sockets with `recovered` false.
    /// Only one server at a time may use the folder.
    pub fn disk(folder: impl Into<PathBuf>) -> Self {
        Self { journal_kind: JournalKind::Folder(folder.into()), clients: RecoveryClients::Auto }
    }

    /// Clients that can recover. The default is [`RecoveryClients::Auto`]. Other clients receive
    /// events without offsets.
    #[must_use]
    pub fn clients(mut self, clients: RecoveryClients) -> Self {
        self.clients = clients;
        self
    }
}
