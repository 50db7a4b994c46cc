//! The journal from which sessions recover: a trait and its two implementations, one in memory and
//! one in files. The hub is the only writer.

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
use crate::ids::{Epoch, Lsn, NamespacePath, Offset};

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum JournalError {
    /// All LSNs below 2^51 are used. A new epoch must begin.
    #[error("log sequence numbers are used up")]
    Exhausted,
    /// The LSN of a record is not greater than the head, which is a bug in the hub. Nothing was
    /// appended.
    #[error("record {given:?} does not come after {head:?}")]
    OutOfOrder { given: Lsn, head: Lsn },
    /// The record does not fit into a segment. Nothing was appended. Emit less at a time, or
    /// configure larger segments.
    #[error("record of {bytes} bytes exceeds limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
    /// The file system failed. After a failed write, the journal rejects all further records, and
    /// the next start begins a new epoch. A failed read changes nothing.
    #[error("journal file {}: {kind}", path.display())]
    Io { path: PathBuf, kind: io::ErrorKind },
    /// The file does not contain the bytes that were written to it.
    #[error("journal file {} is damaged at byte {at}: {reason}", path.display())]
    Damaged { path: PathBuf, at: u64, reason: String },
    #[error("journal is closed")]
    Closed,
}

/// Upper bound of the bytes of an event in files. `names` are the lengths of the names of its
/// recipients.
pub(crate) fn event_bytes_max(
    namespace: &NamespacePath,
    names: impl Iterator<Item = usize>,
    packets: usize,
    packet_bytes: usize,
) -> usize {
    codec::event_bytes_max(namespace, names, packets, packet_bytes)
}

fn check_position(head: Lsn, given: Lsn) -> Result<(), JournalError> {
    if given <= head {
        return Err(JournalError::OutOfOrder { given, head });
    }
    if given.0 >= Lsn::END { Err(JournalError::Exhausted) } else { Ok(()) }
}

/// The records from which sessions recover, in the order in which the hub appended them.
///
/// LSNs increase from record to record. A record in memory is lost when the process ends. A record
/// in files survives the end of the process once [`flush`](Self::flush) has returned, and a restart
/// of the machine once [`close`](Self::close) has returned. A full journal drops its oldest
/// records, which [`Chunk::trimmed`] reports. Dropping a journal closes it, except during a panic.
pub(crate) trait Journal: Send {
    /// The epoch in which LSNs are unique. An offset of another epoch does not identify a record of
    /// this journal.
    fn epoch(&self) -> Epoch;

    /// The greatest LSN in use. After a start, the head may be greater than the LSN of the newest
    /// record, because LSNs that a killed process may have used are skipped.
    fn head(&self) -> Lsn;

    /// Position of the newest dropped record.
    fn trimmed_to(&self) -> Lsn;

    /// Appends a record after the head. The record can be read immediately, and is durable after
    /// [`flush`](Self::flush).
    fn append(&mut self, record: Record) -> Result<(), JournalError>;

    /// Writes appended records to the operating system, without fsync. The hub calls this method at
    /// the end of each turn, before it sends anything to workers. After an error, unwritten records
    /// are lost.
    fn flush(&mut self) -> Result<(), JournalError>;

    /// An LSN after which at least three eighths of [`ring_bytes`](Self::ring_bytes) were used,
    /// even if the ring is not full: almost the newest such LSN, or
    /// [`trimmed_to`](Self::trimmed_to) if there is none. The hub rewrites a session whose newest
    /// complete record is at or before this LSN (`hub/journal_writer/rewriting.rs`). Always 0 for a
    /// journal in memory.
    fn at_risk(&self) -> Lsn;

    /// Minimum number of bytes of the ring that are used after a record before the journal drops
    /// this record, counted as in [`used_bytes`](Self::used_bytes). `None` for a journal in memory,
    /// for which sessions are not rewritten.
    fn ring_bytes(&self) -> Option<u64> {
        None
    }

    /// Maximum number of bytes of an encoded record. `None` for a journal in memory, which has no
    /// such limit.
    fn record_bytes_max(&self) -> Option<usize> {
        None
    }

    /// Number of bytes of the ring used up to the head, including unused space at the ends of
    /// segments. Only the difference between two calls is meaningful.
    fn used_bytes(&self) -> u64 {
        0
    }

    /// Reads records after the position `after`, at most `records_max` records and `bytes_max`
    /// bytes. If the first record is larger than `bytes_max`, it is returned alone.
    fn read(&self, after: Lsn, records_max: usize, bytes_max: usize) -> Result<Chunk, JournalError>;

    /// Returns whether `offset` is a position of this journal. The epoch must be the current one,
    /// and the record at this position must have the same fingerprint or have been dropped.
    fn knows(&self, offset: &Offset) -> bool;

    /// Flushes the journal, waits until all records are on the disk, and rejects all further
    /// records.
    fn close(&mut self) -> Result<(), JournalError>;
}
