//! Reads, trimming and bounds of the ring.

use super::*;
use crate::ids::Fingerprint;

#[test]
fn a_removed_lock_file_does_not_unlock_the_folder() {
    let scratch = Scratch::new();
    let journal = open(&scratch);
    fs::remove_file(scratch.0.join("journal.lock")).unwrap();
    let error = FileJournal::open(&scratch.0, options()).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    drop(journal);
    open(&scratch);
}

#[test]
fn a_read_continues_from_disk_to_memory() {
    let scratch = Scratch::new();
    let mut journal = open(&scratch);
    append(&mut journal, 1..=20);
    journal.append(event(21, 20)).unwrap();
    for after in 0..=21 {
        for records_max in [1, 3, 5, 99] {
            let chunk = journal.read(Lsn(after), records_max, usize::MAX).unwrap();
            let expected: Vec<_> = (after + 1..=21).take(records_max).collect();
            assert_eq!(chunk.records.iter().map(|record| record.lsn.0).collect::<Vec<_>>(), expected, "after {after}");
            assert_eq!(chunk.more, expected.last().is_some_and(|last| *last < 21));
        }
    }
}

#[test]
fn dropped_records_are_not_read_from_memory_either() {
    // If dropped records could be read from memory, a session whose events are no longer on disk
    // could be resumed, but only until the next start.
    let scratch = Scratch::new();
    let mut journal =
        FileJournal::open(&scratch.0, FileOptions { records_max: 1_000, ..few_records_a_segment() }).unwrap();
    append(&mut journal, 1..=100);
    let gone = journal.trimmed_to();
    assert!(gone > Lsn(0));
    let chunk = journal.read(Lsn(0), 1, usize::MAX).unwrap();
    assert!(chunk.trimmed && chunk.records[0].lsn == gone.next());
}

#[test]
fn records_are_found_far_into_a_segment() {
    let scratch = Scratch::new();
    let mut journal = open(&scratch);
    for lsn in 1..=400 {
        journal.append(event(2 * lsn, 1_000)).unwrap();
    }
    journal.flush().unwrap();
    let check = |journal: &FileJournal| {
        for lsn in 1..=400 {
            assert!(journal.knows(&offset(journal, 2 * lsn)), "{lsn}");
            let forged = Offset { fingerprint: Fingerprint::new(1), ..offset(journal, 2 * lsn) };
            assert!(!journal.knows(&forged) && !journal.knows(&offset(journal, 2 * lsn + 1)), "{lsn}");
        }
    };
    check(&journal);
    journal.kill(0);
    check(&open(&scratch));
}

#[test]
fn a_full_ring_is_unchanged_by_a_restart() {
    let scratch = Scratch::new();
    let mut journal = FileJournal::open(&scratch.0, few_records_a_segment()).unwrap();
    append(&mut journal, 1..=100);
    let before = (journal.trimmed_to(), journal.at_risk(), lsns(&journal));
    assert!(before.1 > before.0);
    assert_eq!(files(&scratch).len(), 4);
    journal.kill(0);
    let journal = FileJournal::open(&scratch.0, few_records_a_segment()).unwrap();
    assert_eq!((journal.trimmed_to(), journal.at_risk(), lsns(&journal)), before);
    journal.kill(0);
    let smaller = FileOptions { segments_max: 2, ..few_records_a_segment() };
    let journal = FileJournal::open(&scratch.0, smaller).unwrap();
    assert!(files(&scratch).len() == 2 && journal.trimmed_to() > before.0);
    assert_eq!(lsns(&journal).last(), Some(&100));
}

#[test]
fn a_long_turn_is_written_before_it_ends() {
    let scratch = Scratch::new();
    let mut journal = open(&scratch);
    for lsn in 1..=300 {
        journal.append(event(lsn, 10_000)).unwrap();
        assert!(journal.pending_bytes() < PENDING_BYTES_MAX);
    }
    // The records of the turn take up three segments.
    assert_eq!(lsns(&journal).len() as u64, 300 - journal.trimmed_to().0);
    assert_eq!(lsns(&journal).last(), Some(&300));
}

#[test]
fn only_a_record_larger_than_a_segment_is_rejected() {
    let scratch = Scratch::new();
    let mut journal = FileJournal::open(&scratch.0, few_records_a_segment()).unwrap();
    append(&mut journal, [1]);
    assert!(matches!(journal.append(event(2, 2_000)), Err(JournalError::TooLarge { limit: 960, .. })));
    append(&mut journal, [2]);
    assert_eq!(lsns(&journal), [1, 2]);
}
