//! The result of a read, and the bounds on one read.

use super::Record;

#[derive(Debug, Default)]
pub(crate) struct Chunk {
    /// Records in order. The first is the oldest record after the requested position.
    pub records: Vec<Record>,
    /// True if a record after the requested position was dropped.
    pub trimmed: bool,
    pub more: bool,
}

pub(super) struct ChunkBuilder {
    pub(super) chunk: Chunk,
    bytes: usize,
    records_max: usize,
    bytes_max: usize,
}

impl ChunkBuilder {
    pub(super) fn new(records_max: usize, bytes_max: usize) -> Self {
        Self { chunk: Chunk::default(), bytes: 0, records_max, bytes_max }
    }

    /// Adds the next record. Returns false if the record exceeds the bounds. The bound of bytes
    /// does not apply to the first record.
    pub(super) fn push(&mut self, record: &Record) -> bool {
        let bytes = self.bytes + record.byte_len();
        let is_full =
            self.chunk.records.len() >= self.records_max || (bytes > self.bytes_max && !self.chunk.records.is_empty());
        self.chunk.more |= is_full;
        if self.chunk.more {
            return false;
        }
        self.bytes = bytes;
        self.chunk.records.push(record.clone());
        true
    }
}
