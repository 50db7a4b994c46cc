//! The journal that connections recover from.
//!
//! Here stands the contract; the records and each driver are files. The hub alone writes, in its own order.

mod chunk;
mod codec;
#[cfg(test)]
pub(crate) mod contract;
mod disk;
pub(crate) mod file;
pub(crate) mod folder;
pub(crate) mod inspect;
mod layout;
pub(crate) mod memory;
mod recent;
mod record;
mod segment;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

pub(crate) use self::chunk::Chunk;
pub use self::folder::OpenError;
pub(crate) use self::record::{EventRecord, GiveUpReason, Record, RecordBody, RoomSpan, SessionRecord};
use crate::ids::{Epoch, Lsn, Offset};

/// Why the journal did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
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
    /// Nothing was appended, the journal is as before. Emit less at a time, or make segments larger.
    #[error("record of {bytes} bytes exceeds limit of {limit}")]
    TooLarge {
        /// Size of the refused record.
        bytes: usize,
        /// Largest that is taken.
        limit: usize,
    },
    /// The file system failed. After a failed write the journal takes nothing more in this life, and the next start
    /// begins a new epoch; after a failed read, what was asked for cannot be had.
    #[error("journal file {}: {kind}", path.display())]
    Io { path: PathBuf, kind: io::ErrorKind },
    /// What stands on disk is not what was written there.
    #[error("journal file {} is damaged at byte {at}: {reason}", path.display())]
    Damaged {
        path: PathBuf,
        /// At which byte.
        at: u64,
        /// What was found.
        reason: String,
    },
    /// The journal has been closed; nothing is written any more.
    #[error("journal is closed")]
    Closed,
}

/// Whether a record may stand at `given`, behind `head`.
fn check_position(head: Lsn, given: Lsn) -> Result<(), JournalError> {
    if given <= head {
        return Err(JournalError::OutOfOrder { given, head });
    }
    if given.0 >= Lsn::END { Err(JournalError::Exhausted) } else { Ok(()) }
}

/// Everything recoverable, in hub order. One writer, the hub, in its turn.
///
/// Durability: a record is as safe as its driver says (memory: the life of the process; file: that of the machine's
/// boot, once [`flush`](Self::flush) has returned). Order: LSNs increase. When full, the oldest records go; a reader is
/// told by [`Chunk::trimmed`]. Dropping a journal closes it.
///
/// What a server knew before its start it gets by reading from [`trimmed_to`](Self::trimmed_to) to [`head`](Self::head).
pub(crate) trait Journal: Send {
    /// The life of this log. An offset of another one names a record that this log never held.
    fn epoch(&self) -> Epoch;

    /// The newest position that was given away; numbers go on behind it. After a start it may lie beyond the newest record,
    /// because numbers that were lost with their process are not given again.
    fn head(&self) -> Lsn;

    /// Every record up to here is gone.
    fn trimmed_to(&self) -> Lsn;

    /// Adds a record behind the head. It can be read at once, and is as safe as this log makes it after [`flush`](Self::flush).
    fn append(&mut self, record: Record) -> Result<(), JournalError>;

    /// Makes safe what was appended: one write, no fsync. The hub calls it at the end of its turn, before anything of that
    /// turn is revealed. After an error, what was not written is gone.
    fn flush(&mut self) -> Result<(), JournalError>;

    /// Records up to here lie at least three eighths of [`ring_bytes`](Self::ring_bytes) behind the head, also in a ring that is
    /// not full yet. The hub writes each session again whose newest whole record is not beyond (`hub/journal_writer.rs`). Always 0
    /// if the log ends with its process.
    fn at_risk(&self) -> Lsn;

    /// Bytes that are written behind a record before it is dropped, at least; none if the log ends with its process, so
    /// that no session need be written again.
    fn ring_bytes(&self) -> Option<u64> {
        None
    }

    /// Bytes of the ring that were used up to the head, with those left free at the ends of segments. Only differences
    /// count.
    fn used_bytes(&self) -> u64 {
        0
    }

    /// Reads behind `after`: at most `records_max` records and, past the first, at most `bytes_max` bytes.
    fn read(&self, after: Lsn, records_max: usize, bytes_max: usize) -> Result<Chunk, JournalError>;

    /// Whether `offset` is a position of this log: its epoch is current, and its record bears the same fingerprint or
    /// is gone already.
    fn knows(&self, offset: &Offset) -> bool;

    /// Flushes and ends cleanly, so that this log outlives the boot of its machine. Nothing can be appended any more.
    fn close(&mut self) -> Result<(), JournalError>;
}
