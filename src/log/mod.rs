//! What is kept: the journal that connections recover from, and the queue of durable events.
//!
//! Here stand the contracts and the records; each driver is a file. The hub alone writes, in its own order.

#![allow(dead_code, reason = "records are written from here on, and read by recovery, which comes next")]

pub(crate) mod memory;

use smallvec::SmallVec;
use thiserror::Error;

use crate::ids::{Epoch, Fingerprint, Lsn, NamespacePath, Offset, PrivateId, RoomName, SocketId};
use crate::protocol::encoded::Message;

/// What a record says. Every record says for whom it is.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    /// An event was emitted.
    Event(EventEntry),
    /// A recoverable socket connected.
    Connect {
        /// Its private id.
        pid: PrivateId,
        /// Its public id.
        socket: SocketId,
        /// Where.
        namespace: NamespacePath,
    },
    /// A socket joined a room.
    Join {
        /// Who. Its public id, which it keeps through every recovery.
        socket: SocketId,
        /// Which room.
        room: RoomName,
    },
    /// A socket left a room.
    Leave {
        /// Who.
        socket: SocketId,
        /// Which room.
        room: RoomName,
    },
    /// A socket's connection ended.
    Disconnect {
        /// Who.
        socket: SocketId,
    },
}

/// An event, and for whom it was.
#[derive(Debug, Clone)]
pub(crate) struct EventEntry {
    /// In this namespace.
    pub namespace: NamespacePath,
    /// For members of any of these rooms; none means everybody in the namespace.
    pub rooms: SmallVec<[RoomName; 1]>,
    /// But not for members of these.
    pub except: SmallVec<[RoomName; 1]>,
    /// And not for this socket.
    pub exclude: Option<SocketId>,
    /// The packet as it went out; shared with every outbox that holds it.
    pub message: Message,
}

/// One position of the log.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// Where.
    pub lsn: Lsn,
    /// Drawn for this record.
    pub fingerprint: Fingerprint,
    /// What.
    pub entry: Entry,
}

impl Record {
    /// Bytes that this record holds, about; what the bounds of a journal count.
    pub(crate) fn byte_len(&self) -> usize {
        let entry = match &self.entry {
            Entry::Event(event) => event.message.byte_len(),
            Entry::Connect { .. } | Entry::Join { .. } | Entry::Leave { .. } | Entry::Disconnect { .. } => 0,
        };
        size_of::<Self>() + entry
    }
}

/// Why a record was not journalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum JournalError {
    /// The numbers below 2^51 are used up; begin a new epoch.
    #[error("log sequence numbers are used up")]
    Exhausted,
    /// The caller appended out of order: a defect of the hub.
    #[error("record {given:?} does not come after {head:?}")]
    OutOfOrder {
        /// The refused position.
        given: Lsn,
        /// The newest position.
        head: Lsn,
    },
}

/// Some of a journal's records.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    /// In order, the first behind the position asked for.
    pub records: Vec<Record>,
    /// Whether a record behind that position is gone already.
    pub trimmed: bool,
    /// Whether more follow.
    pub more: bool,
}

/// Everything recoverable, in hub order. One writer, the hub, in its turn.
///
/// Durability: a record is as safe as its driver says (memory: the life of the process). Order: LSNs increase.
/// When full, the oldest records go; a reader is told by [`Chunk::trimmed`].
pub(crate) trait Journal: Send {
    /// The life of this log.
    fn epoch(&self) -> Epoch;

    /// The newest position, or the position before the first.
    fn head(&self) -> Lsn;

    /// Adds a record behind the head.
    fn append(&mut self, record: Record) -> Result<(), JournalError>;

    /// Reads behind `after`: at most `records_max` records and, past the first, at most `bytes_max` bytes.
    fn read(&self, after: Lsn, records_max: usize, bytes_max: usize) -> Chunk;

    /// Whether `offset` is a position of this log: its epoch is current, and its record bears the same fingerprint or
    /// is gone already.
    fn knows(&self, offset: &Offset) -> bool;
}

/// Durable events on their way to disk.
///
/// The hub submits in its order and goes on; the driver answers `Committed` with the position, in the same order,
/// once the record is safe. An error here is a refusal: nothing was taken.
pub(crate) trait Queue: Send {
    /// Takes a record to be committed for the pipeline's `position`.
    fn submit(&mut self, position: u64, record: &Record) -> Result<(), QueueError>;
}

/// Why a durable event was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum QueueError {
    /// Too much is waiting; try again later.
    #[error("durable queue is overloaded")]
    Overloaded,
}
