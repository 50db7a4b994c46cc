//! The newest records of a journal in memory, limited in number and bytes. Their messages are
//! shared with the outboxes in which the messages are queued.

use std::collections::VecDeque;

use super::Record;
use super::chunk::ChunkBuilder;
use crate::ids::Lsn;

/// The newest records of a journal. The owner calls [`trim`](Self::trim) once the records are
/// written.
#[derive(Debug)]
pub(super) struct RecentRecords {
    records: VecDeque<Record>,
    bytes: usize,
    /// All records of the journal after this position are in `records`.
    after: Lsn,
    records_max: usize,
    bytes_max: usize,
}

impl RecentRecords {
    pub(super) fn new(after: Lsn, records_max: usize, bytes_max: usize) -> Self {
        Self { records: VecDeque::new(), bytes: 0, after, records_max, bytes_max }
    }

    pub(super) fn after(&self) -> Lsn {
        self.after
    }

    pub(super) fn push(&mut self, record: Record) {
        self.bytes += record.byte_len();
        self.records.push_back(record);
    }

    /// Drops the oldest records while `records_max` or `bytes_max` is exceeded.
    pub(super) fn trim(&mut self) {
        while self.records.len() > self.records_max || self.bytes > self.bytes_max {
            let Some(oldest) = self.records.pop_front() else { return };
            self.bytes -= oldest.byte_len();
            self.after = oldest.lsn;
        }
    }

    pub(super) fn truncate(&mut self, head: Lsn) {
        while let Some(newest) = self.records.pop_back_if(|newest| newest.lsn > head) {
            self.bytes -= newest.byte_len();
        }
    }

    /// Adds records after the position `after` to a chunk until the chunk is full.
    pub(super) fn read(&self, after: Lsn, builder: &mut ChunkBuilder) {
        let first = self.records.partition_point(|record| record.lsn <= after);
        for record in self.records.range(first..) {
            if !builder.push(record) {
                return;
            }
        }
    }

    pub(super) fn find(&self, lsn: Lsn) -> Option<&Record> {
        let position = self.records.binary_search_by_key(&lsn, |record| record.lsn).ok()?;
        self.records.get(position)
    }
}
