//! The hub's numbers: every recoverable entry gets an LSN and a fingerprint, and goes into the journal in that order.

use crate::ids::{Fingerprint, Lsn, Offset};
use crate::log::{self, Journal, JournalError, Record};

/// The one writer of the journal.
pub(super) struct Numbering {
    journal: Box<dyn Journal>,
    /// The newest number given.
    given: Lsn,
    /// The newest position applied: what an unnumbered broadcast bears as token.
    applied: Offset,
    /// xorshift64*: fingerprints must not be guessed by counting, more is not asked of them.
    random: u64,
}

impl Numbering {
    pub(super) fn new(journal: Box<dyn Journal>, seed: u64) -> Self {
        let given = journal.head();
        let applied = Offset { epoch: journal.epoch(), lsn: given, fingerprint: Fingerprint::new(0) };
        Self { journal, given, applied, random: seed | 1 }
    }

    pub(super) fn applied(&self) -> Offset {
        self.applied
    }

    /// The next number, with its fingerprint.
    pub(super) fn next(&mut self) -> Offset {
        self.given = self.given.next();
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let random = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d);
        let fingerprint = Fingerprint::new((random >> 40) as u32);
        Offset { epoch: self.journal.epoch(), lsn: self.given, fingerprint }
    }

    /// Journals what is about to be revealed.
    pub(super) fn journal(&mut self, offset: Offset, entry: log::Entry) -> Result<(), JournalError> {
        self.journal.append(Record { lsn: offset.lsn, fingerprint: offset.fingerprint, entry })?;
        self.applied = offset;
        Ok(())
    }
}
