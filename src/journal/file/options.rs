//! Options for opening a journal on disk, and the outcome of opening it.

use crate::ids::Epoch;
use crate::journal::folder::BootId;
use crate::limits::Limits;

/// Distance in bytes after which the next record gets an entry in a segment's index. For segments
/// of less than 4 MiB, the distance is a 64th of their size. The distance limits the bytes that are
/// read to find a record.
const INDEX_BYTES: u64 = 64 << 10;

#[derive(Debug, Clone)]
pub(crate) struct FileOptions {
    /// Epoch of a new journal. If the folder contains this epoch or a newer one, the new journal
    /// uses the epoch after the newest one.
    pub epoch: Epoch,
    pub boot: Option<BootId>,
    /// Maximum number of segments in the ring, at least 2.
    pub segments_max: usize,
    pub segment_bytes: usize,
    pub records_max: usize,
    pub bytes_max: usize,
}

impl FileOptions {
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

    pub(super) fn index_bytes(&self) -> u64 {
        (self.segment_bytes as u64 / 64).min(INDEX_BYTES)
    }
}

/// The outcome of opening a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Start {
    /// The folder contained no journal.
    New,
    /// The existing journal continues.
    Continued {
        records: u64,
        /// Number of bytes that were removed because a killed process had left a partial record.
        cut: u64,
    },
    /// The existing journal was discarded, and a new epoch has begun.
    Discarded { reason: String },
}
