//! Setting for the storage of durable events.

use std::path::PathBuf;

/// Storage of durable events.
///
/// An event that is published with [`Broadcast::durable`](crate::Broadcast::durable) is stored
/// before it is sent. The queue keeps it until every subscriber of its rooms has acknowledged it.
/// The queue is independent of [`Recovery`](crate::Recovery): each works without the other.
///
/// The bounds of the queue are in [`limits.queue`](crate::limits::QueueLimits).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Queue {
    pub(super) kind: QueueKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum QueueKind {
    #[default]
    Off,
    Memory,
    Folder(PathBuf),
}

impl Queue {
    /// Stores nothing. Durable publishes fail.
    pub const fn off() -> Self {
        Self { kind: QueueKind::Off }
    }

    /// Stores events and subscribers in memory until the process ends.
    pub const fn memory() -> Self {
        Self { kind: QueueKind::Memory }
    }

    /// Stores events and subscribers in this folder, which is created if it does not exist. The
    /// folder must not be that of [`Recovery::disk`](crate::Recovery::disk). Only one server at a
    /// time may use it.
    ///
    /// A publish completes after an fsync. Its event survives any end of the process and a power
    /// loss of the machine, on a disk that honours fsync. When the disk fails, durable publishes
    /// fail until it works again, and live events continue.
    pub fn disk(folder: impl Into<PathBuf>) -> Self {
        Self { kind: QueueKind::Folder(folder.into()) }
    }
}
