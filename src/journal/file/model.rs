//! Random operations on a file journal, including kills after a random number of written bytes,
//! compared with the same operations on a journal in memory.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::ids::Fingerprint;
use crate::journal::contract::records::any_entry;
use crate::journal::contract::scratch::Scratch;
use crate::journal::folder::BootId;
use crate::journal::memory::MemoryJournal;
use crate::journal::{Record, RecordBody};

#[derive(Debug, Clone)]
enum Step {
    /// Appends records. Each tuple contains the distance of the LSN from the head, the fingerprint,
    /// and the body.
    Append(Vec<(u64, u32, RecordBody)>),
    Flush,
    Read {
        after: u64,
        records_max: usize,
        bytes_max: usize,
    },
    /// The process is killed after it has written this share of the pending bytes.
    Kill {
        thousandths: usize,
    },
    /// The process closes the journal, and another process opens it.
    Restart {
        reboot: bool,
    },
    /// The machine restarts although the journal was not closed.
    PowerLoss,
}

fn any_step() -> impl Strategy<Value = Step> {
    let appends = vec((1u64..4, any::<u32>(), any_entry()), 1..12);
    prop_oneof![
        6 => appends.prop_map(Step::Append),
        3 => Just(Step::Flush),
        4 => (any::<u64>(), 0usize..20, 0usize..4_000)
            .prop_map(|(after, records_max, bytes_max)| Step::Read { after, records_max, bytes_max }),
        2 => (0usize..1_001).prop_map(|thousandths| Step::Kill { thousandths }),
        1 => any::<bool>().prop_map(|reboot| Step::Restart { reboot }),
        1 => Just(Step::PowerLoss),
    ]
}

struct Harness {
    scratch: Scratch,
    boot: u128,
    journal: Option<FileJournal>,
    /// All records of the current epoch, in an unbounded ring.
    model: MemoryJournal,
    records: Vec<Record>,
    /// The greatest LSN used in any epoch.
    used: Lsn,
}

impl Harness {
    fn new() -> Self {
        let scratch = Scratch::new();
        let journal = None;
        let model = model(Epoch::new(1, 0), &[]);
        let mut harness = Self { scratch, boot: 1, journal, model, records: Vec::new(), used: Lsn(0) };
        harness.open();
        harness
    }

    fn open(&mut self) {
        let options = FileOptions {
            epoch: Epoch::new(1, 0),
            boot: BootId::new(self.boot),
            segments_max: 3,
            segment_bytes: 4_000,
            records_max: 5,
            bytes_max: 2_000,
        };
        let journal = FileJournal::open(&self.scratch.0, options).unwrap();
        assert!(journal.head() >= self.used, "{:?} was used already", journal.head());
        self.model = model(journal.epoch(), &self.records);
        self.journal = Some(journal);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append(entries) => {
                for (gap, random, entry) in entries {
                    self.append(gap, Fingerprint::new(random), entry);
                }
            }
            Step::Flush => self.journal().flush().unwrap(),
            Step::Read { after, records_max, bytes_max } => {
                let after = Lsn(after % (self.model.head().0 + 2));
                self.compare(after, records_max, bytes_max);
            }
            Step::Kill { thousandths } => {
                let journal = self.journal.take().unwrap();
                let pending = journal.pending_bytes();
                let written = pending * thousandths / 1_000;
                journal.kill(written);
                // A record is lost if any of its bytes was not written, so remove such records here
                // too.
                let mut missing = pending - written;
                while missing > 0 {
                    missing = missing.saturating_sub(encoded_bytes(&self.records.pop().unwrap()));
                }
                let epoch = self.model.epoch();
                self.open();
                assert_eq!(self.journal().epoch(), epoch);
            }
            Step::Restart { reboot } => {
                let (epoch, head) = (self.model.epoch(), self.journal().head());
                self.journal = None;
                self.boot += u128::from(reboot);
                self.open();
                assert_eq!((self.journal().epoch(), self.journal().head()), (epoch, head));
            }
            Step::PowerLoss => {
                self.journal.take().unwrap().kill(usize::MAX);
                self.boot += 1;
                self.records.clear();
                let epoch = self.model.epoch();
                self.open();
                assert!(self.journal().epoch() != epoch);
            }
        }
        self.compare(Lsn(0), usize::MAX, usize::MAX);
        self.compare(self.model.head(), usize::MAX, usize::MAX);
        self.compare_offsets();
    }

    fn append(&mut self, gap: u64, fingerprint: Fingerprint, entry: RecordBody) {
        let journal = self.journal.as_mut().unwrap();
        let (at_risk, lsn) = (journal.at_risk(), Lsn(journal.head().0 + gap));
        let record = Record { lsn, fingerprint, body: entry };
        journal.append(record.clone()).unwrap();
        assert!(journal.trimmed_to() <= at_risk, "dropped records were at risk before");
        self.used = lsn;
        self.records.push(record.clone());
        self.model.append(record).unwrap();
    }

    fn journal(&mut self) -> &mut FileJournal {
        self.journal.as_mut().unwrap()
    }

    fn compare(&self, after: Lsn, records_max: usize, bytes_max: usize) {
        let journal = self.journal.as_ref().unwrap();
        let chunk = journal.read(after, records_max, bytes_max).unwrap();
        assert_eq!(chunk.trimmed, after < journal.trimmed_to());
        let model = self.model.read(after.max(journal.trimmed_to()), records_max, bytes_max).unwrap();
        assert_eq!((chunk.records, chunk.more), (model.records, model.more));
    }

    fn compare_offsets(&self) {
        let journal = self.journal.as_ref().unwrap();
        for Record { lsn, fingerprint, .. } in &self.records {
            let offset = Offset { epoch: journal.epoch(), lsn: *lsn, fingerprint: *fingerprint };
            assert!(journal.knows(&offset));
            let forged = Offset { fingerprint: Fingerprint::new(fingerprint.to_bits() ^ 1), ..offset };
            assert_eq!(journal.knows(&forged), *lsn <= journal.trimmed_to());
        }
        let future = Offset { epoch: journal.epoch(), lsn: journal.head().next(), fingerprint: Fingerprint::new(0) };
        assert!(!journal.knows(&future));
    }
}

fn model(epoch: Epoch, records: &[Record]) -> MemoryJournal {
    let mut model = MemoryJournal::new(epoch, Lsn(0), usize::MAX, usize::MAX);
    for record in records {
        model.append(record.clone()).unwrap();
    }
    model
}

fn encoded_bytes(record: &Record) -> usize {
    let mut bytes = Vec::new();
    codec::encode(record, &mut bytes);
    bytes.len()
}

proptest! {
    // Each case performs hundreds of file operations, so the number of cases is reduced.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 4))]

    #[test]
    fn a_file_journal_equals_one_in_memory_except_for_trimming(steps in vec(any_step(), 1..40)) {
        let mut harness = Harness::new();
        for step in steps {
            harness.step(step);
        }
    }
}
