//! What a read gives back, and how it is filled up to its bounds.

use super::Record;

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

/// A chunk in the making.
pub(super) struct ChunkBuilder {
    pub(super) chunk: Chunk,
    bytes: usize,
    records_max: usize,
    bytes_max: usize,
}

impl ChunkBuilder {
    /// Takes at most `records_max` records and, past the first, at most `bytes_max` bytes.
    pub(super) fn new(records_max: usize, bytes_max: usize) -> Self {
        Self { chunk: Chunk::default(), bytes: 0, records_max, bytes_max }
    }

    /// Adds the next record, or says that it finds no room.
    pub(super) fn take(&mut self, record: &Record) -> bool {
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
