//! The newest records, in memory, sharing their frames with the outboxes. Bounded in records and bytes.
//!
//! It refuses to forget by itself: its owner says when it may, which is once the records are safe elsewhere or need not be.

use std::collections::VecDeque;

use super::Record;
use super::chunk::ChunkBuilder;
use crate::ids::Lsn;

/// The newest end of a log.
#[derive(Debug)]
pub(super) struct RecentRecords {
    records: VecDeque<Record>,
    bytes: usize,
    /// Every record behind here is in the tail.
    after: Lsn,
    records_max: usize,
    bytes_max: usize,
}

impl RecentRecords {
    /// An empty tail; what comes lies behind `after`.
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

    /// Forgets the oldest records while there are too many.
    pub(super) fn trim(&mut self) {
        while self.records.len() > self.records_max || self.bytes > self.bytes_max {
            let Some(oldest) = self.records.pop_front() else { return };
            self.bytes -= oldest.byte_len();
            self.after = oldest.lsn;
        }
    }

    /// Takes back what is behind `head`.
    pub(super) fn take_back(&mut self, head: Lsn) {
        while let Some(newest) = self.records.pop_back_if(|newest| newest.lsn > head) {
            self.bytes -= newest.byte_len();
        }
    }

    /// Fills up with its records behind `after`.
    pub(super) fn read(&self, after: Lsn, builder: &mut ChunkBuilder) {
        let first = self.records.partition_point(|record| record.lsn <= after);
        for record in self.records.range(first..) {
            if !builder.take(record) {
                return;
            }
        }
    }

    /// The record at `lsn`.
    pub(super) fn find(&self, lsn: Lsn) -> Option<&Record> {
        let position = self.records.binary_search_by_key(&lsn, |record| record.lsn).ok()?;
        self.records.get(position)
    }
}
