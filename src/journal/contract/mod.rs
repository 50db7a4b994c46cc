//! Tests of the contract of [`Journal`](super::Journal), run with both implementations.

pub(crate) mod records;
pub(crate) mod scratch;

use self::records::{event, every_kind, fingerprint};
use self::scratch::Scratch;
use super::file::{FileJournal, FileOptions};
use super::folder::BootId;
use super::memory::MemoryJournal;
use super::{Chunk, Journal, JournalError};
use crate::ids::{Epoch, Fingerprint, Lsn, Offset};

#[derive(Debug, Clone, Copy)]
pub(super) enum Capacity {
    /// Room for all records of a test.
    Large,
    /// Room for a few small records. The journal in memory has room for fewer records than the
    /// journal on disk.
    Small,
}

pub(super) trait Driver {
    type Journal: Journal;

    const OUTLIVES_ITS_PROCESS: bool;

    fn new() -> Self;
    fn open(&self, capacity: Capacity) -> Self::Journal;
}

struct InMemory;

impl Driver for InMemory {
    type Journal = MemoryJournal;
    const OUTLIVES_ITS_PROCESS: bool = false;

    fn new() -> Self {
        Self
    }

    fn open(&self, capacity: Capacity) -> MemoryJournal {
        let records_max = match capacity {
            Capacity::Large => usize::MAX,
            Capacity::Small => 8,
        };
        MemoryJournal::new(Epoch::new(1, 1), Lsn(0), records_max, usize::MAX)
    }
}

struct OnDisk(Scratch);

impl Driver for OnDisk {
    type Journal = FileJournal;
    const OUTLIVES_ITS_PROCESS: bool = true;

    fn new() -> Self {
        Self(Scratch::new())
    }

    fn open(&self, capacity: Capacity) -> FileJournal {
        let (segments_max, segment_bytes, records_max) = match capacity {
            Capacity::Large => (usize::MAX, 1 << 20, usize::MAX),
            Capacity::Small => (3, 1_000, 4),
        };
        let boot = BootId::new(1);
        let options = FileOptions {
            epoch: Epoch::new(1, 1),
            boot,
            segments_max,
            segment_bytes,
            records_max,
            bytes_max: usize::MAX,
        };
        FileJournal::open(&self.0.0, options).unwrap()
    }
}

/// Generates one test for each rule of the contract.
macro_rules! contract {
    ($driver:ty: $($promise:ident)*) => {
        $(#[test]
        fn $promise() {
            super::$promise::<$driver>();
        })*
    };
}

macro_rules! contract_of {
    ($name:ident, $driver:ty) => {
        mod $name {
            contract! { $driver:
                appended_records_are_read_back
                a_read_is_bounded_and_reports_whether_more_follows
                records_are_read_before_they_are_flushed
                a_full_journal_drops_and_reports_the_oldest_records
                dropped_records_were_at_risk_before
                an_lsn_is_never_used_twice
                lsns_end_at_two_to_the_fifty_first
                an_offset_is_known_by_epoch_and_fingerprint
                a_closed_journal_is_read_only
                consecutive_chunks_are_the_whole_journal
            }
        }
    };
}

contract_of! { memory, super::InMemory }
contract_of! { file, super::OnDisk }

fn lsns(chunk: &Chunk) -> Vec<u64> {
    chunk.records.iter().map(|record| record.lsn.0).collect()
}

fn read(journal: &impl Journal, after: u64) -> Chunk {
    journal.read(Lsn(after), usize::MAX, usize::MAX).unwrap()
}

fn append(journal: &mut impl Journal, lsns: impl IntoIterator<Item = u64>) {
    for lsn in lsns {
        journal.append(event(lsn, 20)).unwrap();
        journal.flush().unwrap();
    }
}

fn appended_records_are_read_back<D: Driver>() {
    let driver = D::new();
    let mut journal = driver.open(Capacity::Large);
    for record in every_kind() {
        journal.append(record).unwrap();
    }
    journal.flush().unwrap();
    assert_eq!(read(&journal, 0).records, every_kind());
    assert_eq!((journal.head(), journal.trimmed_to()), (every_kind().last().unwrap().lsn, Lsn(0)));
}

fn a_read_is_bounded_and_reports_whether_more_follows<D: Driver>() {
    let driver = D::new();
    let mut journal = driver.open(Capacity::Large);
    append(&mut journal, [1, 2, 5, 9]);
    let read = |after, records_max, bytes_max| {
        let chunk = journal.read(Lsn(after), records_max, bytes_max).unwrap();
        (lsns(&chunk), chunk.more, chunk.trimmed)
    };
    assert_eq!(read(1, 2, usize::MAX), (vec![2, 5], true, false));
    assert_eq!(read(3, 2, usize::MAX), (vec![5, 9], false, false), "between two records");
    assert_eq!(read(0, 9, 1), (vec![1], true, false), "the first record is returned whatever its size");
    let two = 2 * event(1, 20).byte_len();
    assert_eq!(read(0, 9, two), (vec![1, 2], true, false));
    assert_eq!(read(9, 9, 1), (vec![], false, false));
    assert_eq!(read(99, 9, 1), (vec![], false, false));
    assert_eq!(read(0, 0, 99), (vec![], true, false));
}

fn records_are_read_before_they_are_flushed<D: Driver>() {
    let driver = D::new();
    let mut journal = driver.open(Capacity::Small);
    for lsn in 1..=3 {
        journal.append(event(lsn, 20)).unwrap();
    }
    assert_eq!(lsns(&read(&journal, journal.trimmed_to().0)), [1, 2, 3]);
    assert_eq!(journal.head(), Lsn(3));
}

fn a_full_journal_drops_and_reports_the_oldest_records<D: Driver>() {
    let driver = D::new();
    let mut journal = driver.open(Capacity::Small);
    append(&mut journal, 1..=200);
    let gone = journal.trimmed_to().0;
    assert!((100..200).contains(&gone), "{gone} of 200 were dropped");
    assert_eq!(lsns(&read(&journal, gone)), (gone + 1..=200).collect::<Vec<_>>());
    assert!(!read(&journal, gone).trimmed && read(&journal, gone - 1).trimmed);
    assert_eq!(read(&journal, 0).records, read(&journal, gone).records);
}

fn dropped_records_were_at_risk_before<D: Driver>() {
    let driver = D::new();
    let mut journal = driver.open(Capacity::Small);
    let mut at_risk = journal.at_risk();
    assert!(at_risk <= journal.trimmed_to());
    let mut changes = 0;
    for lsn in 1..=200 {
        append(&mut journal, [lsn]);
        if D::OUTLIVES_ITS_PROCESS {
            assert!(
                journal.trimmed_to() <= at_risk,
                "{lsn} dropped up to {:?} that were not at risk",
                journal.trimmed_to()
            );
        }
        assert!(journal.at_risk() >= at_risk && journal.at_risk() < journal.head());
        changes += usize::from(journal.at_risk() > at_risk);
        at_risk = journal.at_risk();
    }
    assert_eq!(changes > 5, D::OUTLIVES_ITS_PROCESS, "{changes} changes");
}

fn an_lsn_is_never_used_twice<D: Driver>() {
    let driver = D::new();
    let mut journal = driver.open(Capacity::Large);
    append(&mut journal, [3]);
    for given in [3, 2, 0] {
        let refused = JournalError::OutOfOrder { given: Lsn(given), head: Lsn(3) };
        assert_eq!(journal.append(event(given, 20)), Err(refused));
    }
    append(&mut journal, [4]);
    assert_eq!(lsns(&read(&journal, 0)), [3, 4]);
}

fn lsns_end_at_two_to_the_fifty_first<D: Driver>() {
    let driver = D::new();
    let mut journal = driver.open(Capacity::Large);
    assert_eq!(journal.append(event(Lsn::END, 20)), Err(JournalError::Exhausted));
    append(&mut journal, [Lsn::END - 1]);
    assert_eq!(journal.append(event(Lsn::END, 20)), Err(JournalError::Exhausted));
    assert_eq!(lsns(&read(&journal, 0)), [Lsn::END - 1], "the journal can still be read");
}

fn an_offset_is_known_by_epoch_and_fingerprint<D: Driver>() {
    let driver = D::new();
    let mut journal = driver.open(Capacity::Small);
    let epoch = journal.epoch();
    let offset = |lsn, fingerprint| Offset { epoch, lsn: Lsn(lsn), fingerprint };
    assert!(journal.knows(&offset(0, Fingerprint::new(0))), "the start of a new journal");
    append(&mut journal, (1..=200).map(|n| 2 * n));
    let gone = journal.trimmed_to().0;
    for lsn in (gone + 2..=400).step_by(2) {
        assert!(journal.knows(&offset(lsn, fingerprint(lsn))), "current {lsn}");
        assert!(!journal.knows(&offset(lsn, fingerprint(lsn + 1))), "wrong fingerprint {lsn}");
        assert!(!journal.knows(&offset(lsn - 1, fingerprint(lsn - 1))), "between records {lsn}");
    }
    assert!(journal.knows(&offset(gone, fingerprint(1))), "dropped records cannot be compared");
    assert!(!journal.knows(&offset(401, fingerprint(401))), "future");
    let foreign = Epoch::new(2, 1);
    assert!(!journal.knows(&Offset { epoch: foreign, ..offset(400, fingerprint(400)) }), "foreign epoch");
    assert!(!journal.knows(&Offset { epoch: foreign, ..offset(1, fingerprint(1)) }), "foreign epoch, stale");
}

fn a_closed_journal_is_read_only<D: Driver>() {
    let driver = D::new();
    let mut journal = driver.open(Capacity::Large);
    append(&mut journal, [1]);
    journal.append(event(2, 20)).unwrap();
    journal.close().unwrap();
    assert_eq!(journal.append(event(3, 20)), Err(JournalError::Closed));
    assert_eq!(journal.flush(), Err(JournalError::Closed));
    assert_eq!(lsns(&read(&journal, 0)), [1, 2]);
    journal.close().unwrap();
}

fn consecutive_chunks_are_the_whole_journal<D: Driver>() {
    let driver = D::new();
    let mut journal = driver.open(Capacity::Small);
    append(&mut journal, 1..=200);
    let whole = read(&journal, journal.trimmed_to().0).records;
    for (records_max, bytes_max) in [(1, usize::MAX), (3, usize::MAX), (usize::MAX, 1), (usize::MAX, 700), (5, 700)] {
        let (mut together, mut after) = (Vec::new(), journal.trimmed_to());
        loop {
            let chunk = journal.read(after, records_max, bytes_max).unwrap();
            assert!(chunk.records.len() <= records_max && !chunk.trimmed);
            let (more, bytes) = (chunk.more, chunk.records.iter().map(super::Record::byte_len).sum::<usize>());
            assert!(bytes <= bytes_max || chunk.records.len() == 1, "{bytes} bytes");
            together.extend(chunk.records);
            after = together.last().unwrap().lsn;
            if !more {
                break;
            }
        }
        assert_eq!(together, whole);
    }
}
