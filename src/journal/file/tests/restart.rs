//! Starts after a kill, a close, a panic or a restart of the machine.

use std::sync::{Mutex, PoisonError};

use super::*;
use crate::journal::file::existing::SKIPPED_LSNS;
use crate::journal::layout::segment_name;

#[test]
fn a_killed_process_loses_only_unflushed_records() {
    let scratch = Scratch::new();
    let mut journal = open(&scratch);
    append(&mut journal, 1..=10);
    journal.append(event(11, 20)).unwrap();
    let (kept, lost) = (offset(&journal, 10), offset(&journal, 11));
    journal.kill(0);
    let mut journal = FileJournal::open(&scratch.0, FileOptions { epoch: Epoch::new(2, 2), ..options() }).unwrap();
    assert_eq!(journal.start(), &Start::Continued { records: 10, cut: 0 });
    assert_eq!(lsns(&journal), (1..=10).collect::<Vec<_>>());
    assert!(journal.knows(&kept) && !journal.knows(&lost));
    assert!(!journal.read(Lsn(0), 1, 1).unwrap().trimmed);
    assert!(journal.head() > lost.lsn, "11 was in use");
    let next = journal.head().next().0;
    append(&mut journal, [next]);
    assert_eq!(lsns(&journal).last(), Some(&next));
}

#[test]
fn every_kind_of_record_survives() {
    let scratch = Scratch::new();
    let mut journal = open(&scratch);
    for record in every_kind() {
        journal.append(record).unwrap();
    }
    drop(journal);
    let options = FileOptions { records_max: 0, ..options() };
    let journal = FileJournal::open(&scratch.0, options).unwrap();
    assert_eq!(journal.read(Lsn(0), usize::MAX, usize::MAX).unwrap().records, every_kind(), "from disk");
    drop(journal);
    let journal = FileJournal::open(&scratch.0, FileOptions { records_max: 99, ..self::options() }).unwrap();
    assert_eq!(journal.read(Lsn(0), usize::MAX, usize::MAX).unwrap().records, every_kind(), "from memory");
}

#[test]
fn a_kill_during_a_write_loses_its_last_records_only() {
    let mut pending = 1;
    for written in 0.. {
        if written > pending {
            break;
        }
        let scratch = Scratch::new();
        let mut journal = open(&scratch);
        append(&mut journal, 1..=3);
        for lsn in 4..=6 {
            journal.append(event(lsn, 20)).unwrap();
        }
        pending = journal.pending_bytes();
        journal.kill(written);
        let journal = open(&scratch);
        let whole = written / (pending / 3);
        assert_eq!(lsns(&journal), (1..=3 + whole as u64).collect::<Vec<_>>(), "{written} of {pending} bytes");
        let cut = (written % (pending / 3)) as u64;
        assert_eq!(journal.start(), &Start::Continued { records: 3 + whole as u64, cut });
    }
}

#[test]
fn a_partial_record_is_removed_wherever_it_ends() {
    let scratch = Scratch::new();
    let mut journal = open(&scratch);
    append(&mut journal, 1..=5);
    journal.kill(0);
    let segment = files(&scratch).pop().unwrap();
    let whole = fs::read(&segment).unwrap();
    let record = (whole.len() - segment::HEADER_BYTES) / 5;
    for length in segment::HEADER_BYTES..whole.len() {
        fs::write(&segment, &whole[..length]).unwrap();
        let mut journal = open(&scratch);
        let kept = (length - segment::HEADER_BYTES) / record;
        assert_eq!(lsns(&journal), (1..=kept as u64).collect::<Vec<_>>(), "cut at {length}");
        assert_eq!(journal.epoch(), options().epoch);
        let next = journal.head().next().0;
        append(&mut journal, [next]);
        journal.kill(0);
        let journal = open(&scratch);
        assert_eq!(journal.start(), &Start::Continued { records: kept as u64 + 1, cut: 0 });
        assert_eq!(lsns(&journal).last(), Some(&next));
        journal.kill(0);
    }
}

#[test]
fn lsns_are_not_reused_however_often_a_process_is_killed() {
    let scratch = Scratch::new();
    let mut given = 0;
    for _ in 0..5 {
        let mut journal = open(&scratch);
        assert!(journal.head().0 > given || given == 0, "{:?} after {given}", journal.head());
        given = journal.head().0 + 3;
        for lsn in given - 2..=given {
            journal.append(event(lsn, 20)).unwrap();
        }
        journal.kill(0);
    }
}

#[test]
fn another_boot_without_a_close_discards_the_journal() {
    for boot in [BootId::new(2), None] {
        let scratch = Scratch::new();
        let mut journal = open(&scratch);
        append(&mut journal, 1..=10);
        let old = offset(&journal, 10);
        journal.kill(0);
        let mut journal = FileJournal::open(&scratch.0, FileOptions { boot, ..another_boot() }).unwrap();
        assert_discarded(&journal, old);
        assert_eq!(journal.epoch(), another_boot().epoch);
        assert_eq!(journal.head(), Lsn(10 + SKIPPED_LSNS));
        assert_eq!(files(&scratch).len(), 1);
        let next = journal.head().next().0;
        append(&mut journal, [next]);
        assert_eq!(lsns(&journal), [next]);
    }
}

#[test]
fn an_unknown_boot_never_equals_another() {
    let scratch = Scratch::new();
    let unknown = FileOptions { boot: None, ..options() };
    let mut journal = FileJournal::open(&scratch.0, unknown.clone()).unwrap();
    append(&mut journal, 1..=3);
    let old = offset(&journal, 3);
    journal.kill(0);
    // The epoch in the options was already used, so the journal chooses another epoch.
    assert_discarded(&FileJournal::open(&scratch.0, unknown).unwrap(), old);
}

#[test]
fn a_closed_journal_survives_a_reboot_and_lsns_continue() {
    let scratch = Scratch::new();
    let mut journal = open(&scratch);
    append(&mut journal, 1..=10);
    journal.append(event(11, 20)).unwrap();
    drop(journal);
    let journal = FileJournal::open(&scratch.0, another_boot()).unwrap();
    assert_eq!(journal.start(), &Start::Continued { records: 11, cut: 0 });
    assert_eq!((journal.epoch(), journal.head()), (options().epoch, Lsn(11)));
    assert_eq!(lsns(&journal), (1..=11).collect::<Vec<_>>());
}

#[test]
fn a_close_is_valid_until_the_next_start() {
    let scratch = Scratch::new();
    drop(open(&scratch));
    let mut journal = open(&scratch);
    append(&mut journal, 1..=3);
    let old = offset(&journal, 3);
    journal.kill(0);
    assert_discarded(&FileJournal::open(&scratch.0, another_boot()).unwrap(), old);
}

#[test]
fn a_panic_does_not_close_the_journal() {
    let scratch = Scratch::new();
    let mut journal = open(&scratch);
    append(&mut journal, 1..=3);
    let old = offset(&journal, 3);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _journal = journal;
        panic!("planted");
    }));
    assert!(panicked.is_err());
    assert_discarded(&FileJournal::open(&scratch.0, another_boot()).unwrap(), old);
}

#[test]
fn a_slow_disk_delays_only_the_close() {
    // In an earlier version, the close synced all segments, and the server did not wait for the
    // close.
    static DISK: Mutex<usize> = Mutex::new(0);
    let synced = || DISK.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = Scratch::new();
    let mut journal = FileJournal::open(&scratch.0, three_records_a_segment()).unwrap();
    journal.sync_with(|file| {
        *DISK.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        file.sync_all()
    });
    let slow = synced();
    append(&mut journal, 1..=30);
    assert_eq!(*slow, 0, "no append waits for the disk");
    drop(slow);
    journal.close().unwrap();
    assert!(*synced() >= 4, "{} of 4 segments", *synced());
    drop(journal);
    let journal = FileJournal::open(&scratch.0, FileOptions { boot: BootId::new(2), ..three_records_a_segment() });
    assert!(matches!(journal.unwrap().start(), Start::Continued { .. }));
}

#[test]
fn a_failed_sync_of_a_full_segment_fails_the_close() {
    let scratch = Scratch::new();
    let mut journal = FileJournal::open(&scratch.0, three_records_a_segment()).unwrap();
    append(&mut journal, 1..=3);
    let old = offset(&journal, 3);
    journal.sync_with(|_| Err(ErrorKind::StorageFull.into()));
    append(&mut journal, 4..=5);
    journal.sync_with(File::sync_all);
    append(&mut journal, 6..=6);
    journal.sync_with(|_| Err(ErrorKind::StorageFull.into()));
    append(&mut journal, 7..=7);
    assert!(journal.close().is_err());
    drop(journal);
    assert_discarded(&FileJournal::open(&scratch.0, another_boot()).unwrap(), old);
}

#[test]
fn a_kill_while_a_segment_begins_loses_nothing() {
    let scratch = Scratch::new();
    let mut journal = FileJournal::open(&scratch.0, few_records_a_segment()).unwrap();
    append(&mut journal, 1..=12);
    journal.kill(0);
    for length in 0..segment::HEADER_BYTES {
        let newest = scratch.0.join(segment_name(3));
        fs::write(&newest, vec![0; length]).unwrap();
        let journal = FileJournal::open(&scratch.0, few_records_a_segment()).unwrap();
        assert_eq!(lsns(&journal), (1..=12).collect::<Vec<_>>());
        assert!(!newest.exists());
        journal.kill(0);
    }
}

#[test]
fn a_segment_that_begins_after_a_start_follows_the_last_record() {
    // In an earlier version, the segment began after the skipped LSNs, and the next start reported
    // a missing record.
    let scratch = Scratch::new();
    let mut journal = FileJournal::open(&scratch.0, three_records_a_segment()).unwrap();
    append(&mut journal, 1..=3);
    journal.kill(0);
    let mut journal = FileJournal::open(&scratch.0, three_records_a_segment()).unwrap();
    let next = journal.head().next().0;
    append(&mut journal, [next]);
    assert_eq!(files(&scratch).len(), 2);
    journal.kill(0);
    let journal = FileJournal::open(&scratch.0, three_records_a_segment()).unwrap();
    assert_eq!(journal.start(), &Start::Continued { records: 4, cut: 0 });
}

#[test]
fn segments_of_a_discarded_journal_are_ignored() {
    let scratch = Scratch::new();
    let mut journal = open(&scratch);
    append(&mut journal, 1..=3);
    journal.kill(0);
    let old = fs::read(&files(&scratch)[0]).unwrap();
    FileJournal::open(&scratch.0, another_boot()).unwrap().kill(0);
    // Restore a discarded segment, as if a process had been killed during its start before it
    // removed the segment.
    fs::write(scratch.0.join(segment_name(1)), old).unwrap();
    let journal = FileJournal::open(&scratch.0, another_boot()).unwrap();
    assert_eq!(journal.start(), &Start::Continued { records: 0, cut: 0 });
    assert_eq!(files(&scratch).len(), 1);
}
