//! The journal from which connections recover: the contract of its two implementations, one in
//! memory and one in files. The hub is its only writer.

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

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum JournalError {
    /// All LSNs below 2^51 are used; begin a new epoch.
    #[error("log sequence numbers are used up")]
    Exhausted,
    /// A defect of the hub. Nothing was appended.
    #[error("record {given:?} does not come after {head:?}")]
    OutOfOrder { given: Lsn, head: Lsn },
    /// Nothing was appended. Emit less at a time, or make segments larger.
    #[error("record of {bytes} bytes exceeds limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
    /// The file system failed. After a failed write the journal rejects all further records, and
    /// the next start begins a new epoch. A failed read changes nothing.
    #[error("journal file {}: {kind}", path.display())]
    Io { path: PathBuf, kind: io::ErrorKind },
    /// The file does not hold the bytes that were written there.
    #[error("journal file {} is damaged at byte {at}: {reason}", path.display())]
    Damaged { path: PathBuf, at: u64, reason: String },
    #[error("journal is closed")]
    Closed,
}

fn check_position(head: Lsn, given: Lsn) -> Result<(), JournalError> {
    if given <= head {
        return Err(JournalError::OutOfOrder { given, head });
    }
    if given.0 >= Lsn::END { Err(JournalError::Exhausted) } else { Ok(()) }
}

/// The records from which sessions recover, in hub order.
///
/// Order: LSNs increase. Durability: records in memory last as long as the process. Records in
/// files last as long as the boot of the machine, once [`flush`](Self::flush) has returned, and
/// longer after [`close`](Self::close). A full journal drops its oldest records, which
/// [`Chunk::trimmed`] reports. Dropping a journal closes it.
pub(crate) trait Journal: Send {
    /// The epoch in which LSNs are unique: offsets of another epoch do not name records of this
    /// journal.
    fn epoch(&self) -> Epoch;

    /// The newest LSN in use. After a start it may be greater than the newest record's, because
    /// LSNs that were lost with a process are not used again.
    fn head(&self) -> Lsn;

    /// The records up to this position were dropped.
    fn trimmed_to(&self) -> Lsn;

    /// Adds a record after the head. It can be read immediately, and is durable after
    /// [`flush`](Self::flush).
    fn append(&mut self, record: Record) -> Result<(), JournalError>;

    /// Writes appended records to the operating system, without fsync. The hub calls it at the end
    /// of its turn, before it sends anything to workers. After an error, unwritten records are
    /// lost.
    fn flush(&mut self) -> Result<(), JournalError>;

    /// The newest LSN that is at least three eighths of [`ring_bytes`](Self::ring_bytes) older than
    /// the head, also while the ring is not full. The hub rewrites each session whose newest
    /// complete record is not newer (`hub/journal_writer/rewriting.rs`). Always 0 for a journal in
    /// memory.
    fn at_risk(&self) -> Lsn;

    /// Minimum number of bytes that are written after a record before the journal drops it. `None`
    /// for a journal in memory, whose sessions need no rewriting.
    fn ring_bytes(&self) -> Option<u64> {
        None
    }

    /// Bytes of the ring consumed up to the head, including the space left free at the ends of
    /// segments. Only the difference between two calls is meaningful.
    fn used_bytes(&self) -> u64 {
        0
    }

    /// Reads records newer than `after`: at most `records_max`, and at most `bytes_max` bytes
    /// unless the first record is larger.
    fn read(&self, after: Lsn, records_max: usize, bytes_max: usize) -> Result<Chunk, JournalError>;

    /// Returns whether `offset` is a position of this journal: its epoch is current, and its record
    /// has the same fingerprint or was dropped.
    fn knows(&self, offset: &Offset) -> bool;

    /// Flushes, waits for the disk, and rejects all further records.
    fn close(&mut self) -> Result<(), JournalError>;
}
