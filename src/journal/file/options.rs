//! Options for opening a journal on disk, and the result.

use crate::ids::Epoch;
use crate::journal::folder::BootId;
use crate::limits::Limits;

/// Between two entries of a segment's index, at most, but for a larger record: how much is read to find one record.
const INDEX_BYTES: u64 = 64 << 10;

/// Options for opening a journal.
#[derive(Debug, Clone)]
pub(crate) struct FileOptions {
    /// Of a log that begins now, if one must; differs from that of every earlier one.
    pub epoch: Epoch,
    /// The machine's boot, where it is known.
    pub boot: Option<BootId>,
    /// Segments of the ring, at least 2.
    pub segments_max: usize,
    /// Bytes of each.
    pub segment_bytes: usize,
    /// Records kept in memory too.
    pub records_max: usize,
    /// Bytes of those.
    pub bytes_max: usize,
}

impl FileOptions {
    /// As the limits say.
    pub(crate) fn new(epoch: Epoch, boot: Option<BootId>, limits: &Limits) -> Self {
        Self {
            epoch,
            boot,
            segments_max: limits.journal.segments_max,
            segment_bytes: limits.journal.segment_bytes,
            records_max: limits.journal.records_max,
            bytes_max: limits.journal.bytes_max,
        }
    }

    /// Between two entries of a segment's index.
    pub(super) fn index_bytes(&self) -> u64 {
        (self.segment_bytes as u64 / 64).min(INDEX_BYTES)
    }
}

/// The state of a journal when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Start {
    /// Nothing: a log begins.
    New,
    /// A log, which continues.
    Continued {
        records: u64,
        /// Bytes of what a killed process was writing, cut off.
        cut: u64,
    },
    /// A log that cannot go on: all of it is gone, another one begins.
    Discarded { reason: String },
}
