//! What the file driver promises beyond the contract: what survives which death, and what it says of what it finds.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::existing::SKIPPED_LSNS;
use super::*;
use crate::ids::Fingerprint;
use crate::journal::contract::records::{event, every_kind, fingerprint};
use crate::journal::contract::scratch::Scratch;
use crate::journal::folder::BootId;
use crate::journal::layout::segment_name;

fn options() -> FileOptions {
    FileOptions {
        epoch: Epoch::new(1, 1),
        boot: BootId::new(1),
        segments_max: 4,
        segment_bytes: 1 << 20,
        records_max: 4,
        bytes_max: 1 << 20,
    }
}

/// As it comes after a start of the machine.
fn another_boot() -> FileOptions {
    FileOptions { epoch: Epoch::new(2, 2), boot: BootId::new(2), ..options() }
}

fn few_records_a_segment() -> FileOptions {
    FileOptions { segment_bytes: 1_000, ..options() }
}

fn three_records_a_segment() -> FileOptions {
    FileOptions { segment_bytes: segment::HEADER_BYTES + 3 * codec_bytes(), ..options() }
}

fn open(scratch: &Scratch) -> FileJournal {
    FileJournal::open(&scratch.0, options()).unwrap()
}

fn append(journal: &mut FileJournal, lsns: impl IntoIterator<Item = u64>) {
    for lsn in lsns {
        journal.append(event(lsn, 20)).unwrap();
    }
    journal.flush().unwrap();
}

fn lsns(journal: &FileJournal) -> Vec<u64> {
    let chunk = journal.read(journal.trimmed_to(), usize::MAX, usize::MAX).unwrap();
    chunk.records.iter().map(|record| record.lsn.0).collect()
}

fn offset(journal: &FileJournal, lsn: u64) -> Offset {
    Offset { epoch: journal.epoch(), lsn: Lsn(lsn), fingerprint: fingerprint(lsn) }
}

/// Segment files, the oldest first.
fn files(scratch: &Scratch) -> Vec<PathBuf> {
    folder::segments(&scratch.0).unwrap().into_iter().map(|(_, path)| path).collect()
}

/// Everything of a log is gone, and everybody will be told.
fn assert_discarded(journal: &FileJournal, old: Offset) {
    assert!(matches!(journal.start(), Start::Discarded { .. }), "{:?}", journal.start());
    assert!(journal.epoch() != old.epoch && !journal.knows(&old), "offsets of the old log are unknown");
    assert!(journal.head() > old.lsn, "numbers are not given again");
    let chunk = journal.read(Lsn(0), usize::MAX, usize::MAX).unwrap();
    assert!(chunk.records.is_empty() && chunk.trimmed);
}

#[test]
fn a_killed_process_loses_only_what_it_had_not_flushed() {
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
    assert!(journal.head() > lost.lsn, "11 was given away");
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
fn a_write_that_is_cut_short_by_death_loses_its_last_records_only() {
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
fn a_torn_tail_is_cut_at_every_byte_of_the_last_records() {
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
        // It continues behind the cut.
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
fn numbers_are_not_given_again_however_often_a_process_dies() {
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
fn another_boot_without_a_clean_end_discards_all() {
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
fn an_unknown_boot_is_no_boot() {
    let scratch = Scratch::new();
    let unknown = FileOptions { boot: None, ..options() };
    let mut journal = FileJournal::open(&scratch.0, unknown.clone()).unwrap();
    append(&mut journal, 1..=3);
    let old = offset(&journal, 3);
    journal.kill(0);
    // The epoch that is offered was used already: it is not used again.
    assert_discarded(&FileJournal::open(&scratch.0, unknown).unwrap(), old);
}

#[test]
fn a_clean_end_outlives_the_boot_and_numbers_go_on() {
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
fn a_clean_end_counts_once() {
    let scratch = Scratch::new();
    drop(open(&scratch));
    let mut journal = open(&scratch);
    append(&mut journal, 1..=3);
    let old = offset(&journal, 3);
    journal.kill(0);
    assert_discarded(&FileJournal::open(&scratch.0, another_boot()).unwrap(), old);
}

#[test]
fn a_panic_is_no_clean_end() {
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
fn a_bit_that_flips_anywhere_begins_a_new_epoch() {
    let scratch = Scratch::new();
    let mut journal = FileJournal::open(&scratch.0, three_records_a_segment()).unwrap();
    append(&mut journal, 1..=4);
    let old = offset(&journal, 4);
    journal.kill(0);
    let images: Vec<_> = files(&scratch).into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
    assert_eq!(images.len(), 2);
    let header = fs::read(scratch.0.join("journal.header")).unwrap();
    for (image, path) in &images {
        for at in 0..image.len() {
            fs::write(scratch.0.join("journal.header"), &header).unwrap();
            for path in files(&scratch) {
                fs::remove_file(path).unwrap();
            }
            for (image, path) in &images {
                fs::write(path, image).unwrap();
            }
            let mut damaged = image.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(path, &damaged).unwrap();
            let journal = FileJournal::open(&scratch.0, three_records_a_segment())
                .unwrap_or_else(|error| panic!("byte {at} of {}: {error}", path.display()));
            assert_discarded(&journal, old);
            journal.kill(0);
        }
    }
}

#[test]
fn a_header_that_is_damaged_or_missing_discards_the_journal() {
    // It was an error at every start from then on. A flipped bit of the format was taken for a newer program's.
    let scratch = Scratch::new();
    let mut journal = open(&scratch);
    append(&mut journal, 1..=3);
    let old = offset(&journal, 3);
    drop(journal);
    let segment = files(&scratch).pop().unwrap();
    let path = scratch.0.join("journal.header");
    let (header, records) = (fs::read(&path).unwrap(), fs::read(&segment).unwrap());
    let restore = |header: Option<&[u8]>| {
        files(&scratch).iter().for_each(|file| fs::remove_file(file).unwrap());
        fs::write(&segment, &records).unwrap();
        match header {
            Some(header) => fs::write(&path, header).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
    };
    for at in 0..header.len() {
        let mut damaged = header.clone();
        damaged[at] ^= 0x40;
        restore(Some(&damaged));
        assert_discarded(&open(&scratch), old);
        restore(Some(&header[..at]));
        assert_discarded(&open(&scratch), old);
    }
    restore(Some(&[&header[..], b"more"].concat()));
    assert_discarded(&open(&scratch), old);
    restore(None);
    let journal = open(&scratch);
    assert_discarded(&journal, old);
    let epoch = journal.epoch();
    drop(journal);
    assert_eq!(open(&scratch).epoch(), epoch, "once");
}

#[test]
fn a_lock_file_that_is_removed_lets_no_second_server_in() {
    let scratch = Scratch::new();
    let journal = open(&scratch);
    fs::remove_file(scratch.0.join("journal.lock")).unwrap();
    let error = FileJournal::open(&scratch.0, options()).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    drop(journal);
    open(&scratch);
}

#[test]
fn a_slow_disk_holds_up_the_close_and_nothing_else() {
    // Everything was synced at the end, and the server did not wait for it: the next boot discarded the journal.
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
fn a_failed_sync_of_a_full_segment_is_no_clean_end() {
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
fn an_older_segment_that_ends_early_or_is_missing_begins_a_new_epoch() {
    type Harm = fn(&[PathBuf]);
    let harms: [(&str, Harm); 4] = [
        ("cut to nothing", |files| OpenOptions::new().write(true).open(&files[1]).unwrap().set_len(9).unwrap()),
        ("cut", |files| OpenOptions::new().write(true).open(&files[1]).unwrap().set_len(900).unwrap()),
        ("cut between records", |files| {
            let length = (segment::HEADER_BYTES + 4 * codec_bytes()) as u64;
            OpenOptions::new().write(true).open(&files[1]).unwrap().set_len(length).unwrap();
        }),
        ("missing", |files| fs::remove_file(&files[1]).unwrap()),
    ];
    for (name, harm) in harms {
        let scratch = Scratch::new();
        let mut journal = FileJournal::open(&scratch.0, few_records_a_segment()).unwrap();
        append(&mut journal, 1..=30);
        let old = offset(&journal, 30);
        journal.kill(0);
        assert!(files(&scratch).len() > 2, "{name}");
        harm(&files(&scratch));
        assert_discarded(&FileJournal::open(&scratch.0, few_records_a_segment()).unwrap(), old);
    }
}

/// Bytes of each record that `append` appends.
fn codec_bytes() -> usize {
    let mut bytes = Vec::new();
    codec::encode(&event(1, 20), &mut bytes);
    bytes.len()
}

#[test]
fn a_record_out_of_order_begins_a_new_epoch() {
    let scratch = Scratch::new();
    let mut journal = open(&scratch);
    append(&mut journal, 1..=3);
    let old = offset(&journal, 3);
    journal.kill(0);
    let mut bytes = fs::read(&files(&scratch)[0]).unwrap();
    codec::encode(&event(3, 20), &mut bytes);
    fs::write(&files(&scratch)[0], bytes).unwrap();
    assert_discarded(&open(&scratch), old);
}

#[test]
fn after_a_clean_end_nothing_may_be_missing_at_the_end() {
    for harm in ["cut", "cut between records", "newest missing", "all missing"] {
        let scratch = Scratch::new();
        let mut journal = FileJournal::open(&scratch.0, few_records_a_segment()).unwrap();
        append(&mut journal, 1..=12);
        let old = offset(&journal, 12);
        drop(journal);
        let files = files(&scratch);
        let newest = files.last().unwrap();
        let length = fs::metadata(newest).unwrap().len();
        let cut_to = |length| OpenOptions::new().write(true).open(newest).unwrap().set_len(length).unwrap();
        match harm {
            "cut" => cut_to(length - 1),
            "cut between records" => cut_to(length - codec_bytes() as u64),
            "newest missing" => fs::remove_file(newest).unwrap(),
            _ => files.iter().for_each(|file| fs::remove_file(file).unwrap()),
        }
        assert_discarded(&FileJournal::open(&scratch.0, few_records_a_segment()).unwrap(), old);
    }
}

#[test]
fn a_missing_oldest_segment_counts_as_trimmed() {
    let scratch = Scratch::new();
    let mut journal = FileJournal::open(&scratch.0, few_records_a_segment()).unwrap();
    append(&mut journal, 1..=12);
    journal.kill(0);
    fs::remove_file(&files(&scratch)[0]).unwrap();
    let journal = FileJournal::open(&scratch.0, few_records_a_segment()).unwrap();
    let first = lsns(&journal)[0];
    assert_eq!(journal.trimmed_to(), Lsn(first - 1));
    assert!(journal.read(Lsn(0), 1, 1).unwrap().trimmed);
}

#[test]
fn a_process_killed_while_it_began_a_segment_loses_nothing() {
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
fn a_segment_that_begins_right_after_a_start_follows_the_one_before() {
    // It once said that it began behind the numbers passed over, and the next start missed a record there.
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
fn segments_of_a_discarded_log_are_no_part_of_the_next() {
    let scratch = Scratch::new();
    let mut journal = open(&scratch);
    append(&mut journal, 1..=3);
    journal.kill(0);
    let old = fs::read(&files(&scratch)[0]).unwrap();
    FileJournal::open(&scratch.0, another_boot()).unwrap().kill(0);
    // As if the process had been killed before it removed them.
    fs::write(scratch.0.join(segment_name(1)), old).unwrap();
    let journal = FileJournal::open(&scratch.0, another_boot()).unwrap();
    assert_eq!(journal.start(), &Start::Continued { records: 0, cut: 0 });
    assert_eq!(files(&scratch).len(), 1);
}

#[test]
fn a_read_passes_from_disk_to_memory_without_a_seam() {
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
fn what_the_ring_has_dropped_is_not_read_from_memory_either() {
    // A session from before would be taken for whole, and at the next start it would not be.
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
fn a_full_ring_is_the_same_after_a_start() {
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
    // Three segments by now, and everything is there.
    assert_eq!(lsns(&journal).len() as u64, 300 - journal.trimmed_to().0);
    assert_eq!(lsns(&journal).last(), Some(&300));
}

#[test]
fn a_record_larger_than_a_segment_is_refused_and_nothing_else() {
    let scratch = Scratch::new();
    let mut journal = FileJournal::open(&scratch.0, few_records_a_segment()).unwrap();
    append(&mut journal, [1]);
    assert!(matches!(journal.append(event(2, 2_000)), Err(JournalError::TooLarge { limit: 960, .. })));
    append(&mut journal, [2]);
    assert_eq!(lsns(&journal), [1, 2]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_failed_write_poisons_the_journal_and_its_next_start() {
    let scratch = Scratch::new();
    let mut journal = open(&scratch);
    append(&mut journal, 1..=3);
    let old = offset(&journal, 3);
    journal.append(event(4, 20)).unwrap();
    journal.write_to(OpenOptions::new().append(true).open("/dev/full").unwrap());
    let failed = journal.flush().unwrap_err();
    assert!(matches!(&failed, JournalError::Io { kind: ErrorKind::StorageFull, .. }), "{failed}");
    assert!(failed.to_string().contains("segment-0000000001"), "{failed}");
    assert_eq!(journal.append(event(5, 20)), Err(failed.clone()));
    assert_eq!((journal.flush(), journal.close()), (Err(failed.clone()), Err(failed)));
    assert_eq!(journal.head(), Lsn(3));
    assert!(!journal.knows(&offset(&journal, 4)));
    let in_memory = journal.read(Lsn(0), 99, usize::MAX).map(|chunk| chunk.records.len());
    assert_eq!(in_memory, Ok(3), "what was not written is gone from memory too");
    drop(journal);
    assert_discarded(
        &FileJournal::open(&scratch.0, FileOptions { epoch: Epoch::new(3, 3), ..options() }).unwrap(),
        old,
    );
}

#[test]
fn damage_that_comes_while_a_journal_is_in_use_is_an_error() {
    let scratch = Scratch::new();
    let mut journal = open(&scratch);
    append(&mut journal, 1..=20);
    let file = OpenOptions::new().write(true).open(&files(&scratch)[0]).unwrap();
    file.write_all_at(b"\xff\xff\xff", segment::HEADER_BYTES as u64 + 100).unwrap();
    let error = journal.read(Lsn(0), 99, usize::MAX).unwrap_err();
    assert!(matches!(&error, JournalError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("segment-0000000001 is damaged at byte 1"), "{error}");
    assert!(journal.read(Lsn(18), 99, usize::MAX).is_ok(), "what is in memory is read all the same");
}
