//! The journal in memory: a ring of the newest records, which is lost when the process ends.

use super::chunk::ChunkBuilder;
use super::recent::RecentRecords;
use super::{Chunk, Journal, JournalError, Record};
use crate::ids::{Epoch, Lsn, Offset};

#[derive(Debug)]
pub(crate) struct MemoryJournal {
    epoch: Epoch,
    head: Lsn,
    recent: RecentRecords,
    closed: bool,
}

impl MemoryJournal {
    /// Creates an empty ring whose LSNs continue after `head`. `epoch` must differ from the epochs
    /// of all earlier journals, whose records are lost.
    pub(crate) fn new(epoch: Epoch, head: Lsn, records_max: usize, bytes_max: usize) -> Self {
        let recent = RecentRecords::new(head, records_max, bytes_max);
        Self { epoch, head, recent, closed: false }
    }
}

impl Journal for MemoryJournal {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn head(&self) -> Lsn {
        self.head
    }

    fn trimmed_to(&self) -> Lsn {
        self.recent.after()
    }

    fn append(&mut self, record: Record) -> Result<(), JournalError> {
        if self.closed {
            return Err(JournalError::Closed);
        }
        super::check_position(self.head, record.lsn)?;
        self.head = record.lsn;
        self.recent.push(record);
        self.recent.trim();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), JournalError> {
        if self.closed { Err(JournalError::Closed) } else { Ok(()) }
    }

    fn at_risk(&self) -> Lsn {
        // The next process does not read this journal, so no session needs to be rewritten.
        Lsn(0)
    }

    fn read(&self, after: Lsn, records_max: usize, bytes_max: usize) -> Result<Chunk, JournalError> {
        let mut builder = ChunkBuilder::new(records_max, bytes_max);
        self.recent.read(after, &mut builder);
        Ok(Chunk { trimmed: after < self.trimmed_to(), ..builder.chunk })
    }

    fn knows(&self, offset: &Offset) -> bool {
        if offset.epoch != self.epoch || offset.lsn > self.head {
            return false;
        }
        match self.recent.find(offset.lsn) {
            Some(record) => record.fingerprint == offset.fingerprint,
            None => offset.lsn <= self.trimmed_to(),
        }
    }

    fn close(&mut self) -> Result<(), JournalError> {
        self.closed = true;
        Ok(())
    }
}
