//! The memory journal: a ring of the newest records, sharing their frames with the outboxes. Gone with the process.

use std::collections::VecDeque;

use super::{Chunk, Journal, JournalError, Record};
use crate::ids::{Epoch, Lsn, Offset};

/// A ring bounded in records and bytes.
#[derive(Debug)]
pub(crate) struct MemoryJournal {
    epoch: Epoch,
    head: Lsn,
    /// Everything up to here is gone.
    trimmed_to: Lsn,
    records: VecDeque<Record>,
    bytes: usize,
    records_max: usize,
    bytes_max: usize,
}

impl MemoryJournal {
    /// An empty ring. `epoch` must differ from that of every earlier one: nothing of those is kept.
    pub(crate) fn new(epoch: Epoch, records_max: usize, bytes_max: usize) -> Self {
        let records = VecDeque::new();
        Self { epoch, head: Lsn(0), trimmed_to: Lsn(0), records, bytes: 0, records_max, bytes_max }
    }

    fn trim(&mut self) {
        while self.records.len() > self.records_max || self.bytes > self.bytes_max {
            let Some(oldest) = self.records.pop_front() else { return };
            self.bytes -= oldest.byte_len();
            self.trimmed_to = oldest.lsn;
        }
    }
}

impl Journal for MemoryJournal {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn head(&self) -> Lsn {
        self.head
    }

    fn append(&mut self, record: Record) -> Result<(), JournalError> {
        if record.lsn <= self.head {
            return Err(JournalError::OutOfOrder { given: record.lsn, head: self.head });
        }
        if record.lsn.0 >= Lsn::END {
            return Err(JournalError::Exhausted);
        }
        self.head = record.lsn;
        self.bytes += record.byte_len();
        self.records.push_back(record);
        self.trim();
        Ok(())
    }

    fn read(&self, after: Lsn, records_max: usize, bytes_max: usize) -> Chunk {
        let mut chunk = Chunk { trimmed: after < self.trimmed_to, ..Chunk::default() };
        let mut bytes = 0;
        let first = self.records.partition_point(|record| record.lsn <= after);
        for record in self.records.range(first..) {
            bytes += record.byte_len();
            if chunk.records.len() == records_max || (bytes > bytes_max && !chunk.records.is_empty()) {
                chunk.more = true;
                break;
            }
            chunk.records.push(record.clone());
        }
        chunk
    }

    fn knows(&self, offset: &Offset) -> bool {
        if offset.epoch != self.epoch || offset.lsn > self.head {
            return false;
        }
        match self.records.binary_search_by_key(&offset.lsn, |record| record.lsn) {
            Ok(position) => self.records[position].fingerprint == offset.fingerprint,
            Err(_) => offset.lsn <= self.trimmed_to,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Fingerprint, NamespacePath, PrivateId, SocketId};
    use crate::log::Entry;

    fn record(lsn: u64) -> Record {
        let entry = Entry::Connect {
            pid: PrivateId::from_random([0; 15]),
            socket: SocketId::from_random([0; 15]),
            namespace: NamespacePath::root(),
        };
        Record { lsn: Lsn(lsn), fingerprint: Fingerprint::new(lsn as u32), entry }
    }

    fn journal(records_max: usize, lsns: &[u64]) -> MemoryJournal {
        let mut journal = MemoryJournal::new(Epoch::new(1, 1), records_max, usize::MAX);
        for lsn in lsns {
            journal.append(record(*lsn)).unwrap();
        }
        journal
    }

    fn lsns(chunk: &Chunk) -> Vec<u64> {
        chunk.records.iter().map(|record| record.lsn.0).collect()
    }

    fn offset(journal: &MemoryJournal, lsn: u64, fingerprint: u32) -> Offset {
        Offset { epoch: journal.epoch(), lsn: Lsn(lsn), fingerprint: Fingerprint::new(fingerprint) }
    }

    #[test]
    fn records_are_read_in_order_and_in_chunks() {
        let journal = journal(9, &[1, 2, 5, 9]);
        let chunk = journal.read(Lsn(1), 2, usize::MAX);
        assert_eq!((lsns(&chunk), chunk.more, chunk.trimmed), (vec![2, 5], true, false));
        let chunk = journal.read(Lsn(5), 2, usize::MAX);
        assert_eq!((lsns(&chunk), chunk.more), (vec![9], false));
        assert_eq!(lsns(&journal.read(Lsn(0), 9, 1)), [1], "the first record is given whatever its size");
        assert!(journal.read(journal.head(), 9, 1).records.is_empty());
    }

    #[test]
    fn a_full_ring_drops_the_oldest_and_says_so() {
        let journal = journal(2, &[1, 2, 3, 4]);
        let chunk = journal.read(Lsn(1), 9, usize::MAX);
        assert_eq!((lsns(&chunk), chunk.trimmed), (vec![3, 4], true));
        assert!(!journal.read(Lsn(2), 9, usize::MAX).trimmed);
    }

    #[test]
    fn bytes_bound_the_ring_too() {
        let size = record(1).byte_len();
        let mut journal = MemoryJournal::new(Epoch::new(1, 1), 99, 2 * size);
        for lsn in 1..=5 {
            journal.append(record(lsn)).unwrap();
        }
        assert_eq!(lsns(&journal.read(Lsn(0), 9, usize::MAX)), [4, 5]);
    }

    #[test]
    fn a_position_is_never_used_twice() {
        let mut journal = journal(9, &[3]);
        assert_eq!(journal.append(record(3)), Err(JournalError::OutOfOrder { given: Lsn(3), head: Lsn(3) }));
        assert_eq!(journal.append(record(Lsn::END)), Err(JournalError::Exhausted));
    }

    #[test]
    fn an_offset_is_known_by_epoch_and_fingerprint() {
        let journal = journal(2, &[1, 2, 3, 4]);
        assert!(journal.knows(&offset(&journal, 4, 4)));
        assert!(journal.knows(&offset(&journal, 1, 99)), "trimmed records cannot be checked");
        assert!(!journal.knows(&offset(&journal, 4, 3)), "forged");
        assert!(!journal.knows(&offset(&journal, 5, 5)), "future");
        assert!(!journal.knows(&Offset { epoch: Epoch::new(2, 1), ..offset(&journal, 4, 4) }), "foreign");
    }
}
