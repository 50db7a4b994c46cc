//! What every journal must do, whatever it is made of. Run on each driver.

pub(crate) mod records;
pub(crate) mod scratch;

use self::records::{event, every_kind, fingerprint};
use self::scratch::Scratch;
use super::file::{FileJournal, FileOptions};
use super::folder::BootId;
use super::memory::MemoryJournal;
use super::{Chunk, Journal, JournalError};
use crate::ids::{Epoch, Fingerprint, Lsn, Offset};

/// How much the journal of a test keeps.
#[derive(Debug, Clone, Copy)]
pub(super) enum Room {
    /// All that a test writes.
    Plenty,
    /// A few records of a few bytes, of which some are on disk only, if there is one.
    Scarce,
}

/// Makes the journals of one test.
pub(super) trait Driver {
    type Journal: Journal;

    /// Whether what it writes is there at the next start.
    const OUTLIVES_ITS_PROCESS: bool;

    fn new() -> Self;
    fn open(&self, room: Room) -> Self::Journal;
}

struct InMemory;

impl Driver for InMemory {
    type Journal = MemoryJournal;
    const OUTLIVES_ITS_PROCESS: bool = false;

    fn new() -> Self {
        Self
    }

    fn open(&self, room: Room) -> MemoryJournal {
        let records_max = match room {
            Room::Plenty => usize::MAX,
            Room::Scarce => 8,
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

    fn open(&self, room: Room) -> FileJournal {
        let (segments_max, segment_bytes, records_max) = match room {
            Room::Plenty => (usize::MAX, 1 << 20, usize::MAX),
            Room::Scarce => (3, 1_000, 4),
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

/// One test for each promise.
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
                records_are_read_as_they_were_appended
                a_read_is_bounded_and_says_whether_more_follows
                what_is_appended_is_read_before_it_is_flushed
                a_full_journal_drops_the_oldest_and_says_so
                what_is_dropped_was_at_risk_before
                a_position_is_never_used_twice
                numbers_end_at_two_to_the_fifty_first
                an_offset_is_known_by_epoch_and_fingerprint
                a_closed_journal_is_read_and_not_written
                chunks_put_together_are_the_journal
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

fn records_are_read_as_they_were_appended<D: Driver>() {
    let driver = D::new();
    let mut journal = driver.open(Room::Plenty);
    for record in every_kind() {
        journal.append(record).unwrap();
    }
    journal.flush().unwrap();
    assert_eq!(read(&journal, 0).records, every_kind());
    assert_eq!((journal.head(), journal.trimmed_to()), (every_kind().last().unwrap().lsn, Lsn(0)));
}

fn a_read_is_bounded_and_says_whether_more_follows<D: Driver>() {
    let driver = D::new();
    let mut journal = driver.open(Room::Plenty);
    append(&mut journal, [1, 2, 5, 9]);
    let told = |after, records_max, bytes_max| {
        let chunk = journal.read(Lsn(after), records_max, bytes_max).unwrap();
        (lsns(&chunk), chunk.more, chunk.trimmed)
    };
    assert_eq!(told(1, 2, usize::MAX), (vec![2, 5], true, false));
    assert_eq!(told(3, 2, usize::MAX), (vec![5, 9], false, false), "between two records");
    assert_eq!(told(0, 9, 1), (vec![1], true, false), "the first record is given whatever its size");
    let two = 2 * event(1, 20).byte_len();
    assert_eq!(told(0, 9, two), (vec![1, 2], true, false));
    assert_eq!(told(9, 9, 1), (vec![], false, false));
    assert_eq!(told(99, 9, 1), (vec![], false, false));
    assert_eq!(told(0, 0, 99), (vec![], true, false));
}

fn what_is_appended_is_read_before_it_is_flushed<D: Driver>() {
    let driver = D::new();
    let mut journal = driver.open(Room::Scarce);
    for lsn in 1..=3 {
        journal.append(event(lsn, 20)).unwrap();
    }
    assert_eq!(lsns(&read(&journal, journal.trimmed_to().0)), [1, 2, 3]);
    assert_eq!(journal.head(), Lsn(3));
}

fn a_full_journal_drops_the_oldest_and_says_so<D: Driver>() {
    let driver = D::new();
    let mut journal = driver.open(Room::Scarce);
    append(&mut journal, 1..=200);
    let gone = journal.trimmed_to().0;
    assert!((100..200).contains(&gone), "{gone} of 200 are gone");
    assert_eq!(lsns(&read(&journal, gone)), (gone + 1..=200).collect::<Vec<_>>());
    assert!(!read(&journal, gone).trimmed && read(&journal, gone - 1).trimmed);
    assert_eq!(read(&journal, 0).records, read(&journal, gone).records);
}

fn what_is_dropped_was_at_risk_before<D: Driver>() {
    let driver = D::new();
    let mut journal = driver.open(Room::Scarce);
    let mut at_risk = journal.at_risk();
    assert!(at_risk <= journal.trimmed_to());
    let mut changes = 0;
    for lsn in 1..=200 {
        append(&mut journal, [lsn]);
        if D::OUTLIVES_ITS_PROCESS {
            assert!(journal.trimmed_to() <= at_risk, "{lsn} dropped up to {:?} without warning", journal.trimmed_to());
        }
        assert!(journal.at_risk() >= at_risk && journal.at_risk() < journal.head());
        changes += usize::from(journal.at_risk() > at_risk);
        at_risk = journal.at_risk();
    }
    assert_eq!(changes > 5, D::OUTLIVES_ITS_PROCESS, "{changes} warnings");
}

fn a_position_is_never_used_twice<D: Driver>() {
    let driver = D::new();
    let mut journal = driver.open(Room::Plenty);
    append(&mut journal, [3]);
    for given in [3, 2, 0] {
        let refused = JournalError::OutOfOrder { given: Lsn(given), head: Lsn(3) };
        assert_eq!(journal.append(event(given, 20)), Err(refused));
    }
    append(&mut journal, [4]);
    assert_eq!(lsns(&read(&journal, 0)), [3, 4]);
}

fn numbers_end_at_two_to_the_fifty_first<D: Driver>() {
    let driver = D::new();
    let mut journal = driver.open(Room::Plenty);
    assert_eq!(journal.append(event(Lsn::END, 20)), Err(JournalError::Exhausted));
    append(&mut journal, [Lsn::END - 1]);
    assert_eq!(journal.append(event(Lsn::END, 20)), Err(JournalError::Exhausted));
    assert_eq!(lsns(&read(&journal, 0)), [Lsn::END - 1], "and the journal continues being read");
}

fn an_offset_is_known_by_epoch_and_fingerprint<D: Driver>() {
    let driver = D::new();
    let mut journal = driver.open(Room::Scarce);
    let epoch = journal.epoch();
    let offset = |lsn, fingerprint| Offset { epoch, lsn: Lsn(lsn), fingerprint };
    assert!(journal.knows(&offset(0, Fingerprint::new(0))), "where a new log begins");
    append(&mut journal, (1..=200).map(|n| 2 * n));
    let gone = journal.trimmed_to().0;
    for lsn in (gone + 2..=400).step_by(2) {
        assert!(journal.knows(&offset(lsn, fingerprint(lsn))), "current {lsn}");
        assert!(!journal.knows(&offset(lsn, fingerprint(lsn + 1))), "wrong fingerprint {lsn}");
        assert!(!journal.knows(&offset(lsn - 1, fingerprint(lsn - 1))), "between records {lsn}");
    }
    assert!(journal.knows(&offset(gone, fingerprint(1))), "stale: it is gone and cannot be compared");
    assert!(!journal.knows(&offset(401, fingerprint(401))), "future");
    let foreign = Epoch::new(2, 1);
    assert!(!journal.knows(&Offset { epoch: foreign, ..offset(400, fingerprint(400)) }), "foreign epoch");
    assert!(!journal.knows(&Offset { epoch: foreign, ..offset(1, fingerprint(1)) }), "foreign epoch, stale");
}

fn a_closed_journal_is_read_and_not_written<D: Driver>() {
    let driver = D::new();
    let mut journal = driver.open(Room::Plenty);
    append(&mut journal, [1]);
    journal.append(event(2, 20)).unwrap();
    journal.close().unwrap();
    assert_eq!(journal.append(event(3, 20)), Err(JournalError::Closed));
    assert_eq!(journal.flush(), Err(JournalError::Closed));
    assert_eq!(lsns(&read(&journal, 0)), [1, 2]);
    journal.close().unwrap();
}

fn chunks_put_together_are_the_journal<D: Driver>() {
    let driver = D::new();
    let mut journal = driver.open(Room::Scarce);
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
