//! Tests with failing file operations, and with a persistent lack of file descriptors.

use super::*;
use crate::ids::Epoch;
use crate::journal::contract::records::event;
use crate::journal::contract::scratch::Scratch;
use crate::journal::disk::faults;
use crate::journal::folder::BootId;

/// Options with room for about two records in a segment.
fn options(epoch: u32, boot: u128) -> FileOptions {
    FileOptions {
        epoch: Epoch::new(epoch, 0),
        boot: BootId::new(boot),
        segments_max: 3,
        segment_bytes: 220,
        records_max: 1,
        bytes_max: 1 << 20,
    }
}

/// LSNs of the newest flushed and the newest appended record, and the epoch of both.
#[derive(Debug, Default, Clone, Copy)]
struct Progress {
    flushed: u64,
    appended: u64,
    epoch: Option<Epoch>,
}

/// Opens a journal, appends records that fill several segments, reads all records, and closes the
/// journal. Repeats all of this once.
fn use_journal(path: &Path, progress: &mut Progress) -> Result<(), String> {
    for boot in 1..3 {
        let mut journal = FileJournal::open(path, options(boot, boot.into())).map_err(|error| error.to_string())?;
        if progress.epoch != Some(journal.epoch()) {
            (progress.flushed, progress.epoch) = (0, Some(journal.epoch()));
        }
        for _ in 0..9 {
            progress.appended = journal.head().0 + 1;
            journal.append(event(progress.appended, 20)).map_err(|error| error.to_string())?;
            journal.flush().map_err(|error| error.to_string())?;
            progress.flushed = progress.appended;
        }
        journal.read(Lsn(0), usize::MAX, usize::MAX).map_err(|error| error.to_string())?;
        journal.close().map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[test]
fn after_any_failed_file_operation_the_next_start_succeeds() {
    let mut operations = 0;
    loop {
        let (scratch, mut progress) = (Scratch::new(), Progress::default());
        faults::fail_after(operations);
        let outcome = use_journal(&scratch.0, &mut progress);
        if !faults::disarm() {
            outcome.unwrap();
            break;
        }
        // The next start is in boot 1, 2 or 3. The failed operation was in boot 1 or 2.
        let boot = 1 + operations as u128 % 3;
        let journal = FileJournal::open(&scratch.0, options(7, boot))
            .unwrap_or_else(|error| panic!("operation {operations} failed ({outcome:?}), then the start: {error}"));
        let chunk = journal.read(journal.trimmed_to(), usize::MAX, usize::MAX).unwrap();
        for record in &chunk.records {
            assert_eq!(*record, event(record.lsn.0, 20), "operation {operations}");
        }
        let newest = chunk.records.last().map_or(0, |record| record.lsn.0);
        if Some(journal.epoch()) == progress.epoch {
            assert!(
                (progress.flushed..=progress.appended).contains(&newest),
                "operation {operations}: {progress:?}, {newest}"
            );
        } else {
            assert_eq!(newest, 0, "operation {operations}");
        }
        operations += 1;
    }
    assert!(operations > 80, "{operations} operations");
}

/// Appends and flushes records until `segments` more segments have begun.
fn fill(journal: &mut FileJournal, segments: u64) -> Result<(), JournalError> {
    let until = journal.newest().sequence + segments;
    while journal.newest().sequence < until {
        journal.append(event(journal.head().0 + 1, 20))?;
        journal.flush()?;
    }
    Ok(())
}

#[test]
fn a_journal_survives_a_lasting_lack_of_descriptors() {
    // In an earlier version, no descriptor was left for the third segment, and the journal failed.
    for segments_max in [2, 3, SPARES_MAX] {
        let scratch = Scratch::new();
        let mut journal = FileJournal::open(&scratch.0, FileOptions { segments_max, ..options(1, 1) }).unwrap();
        faults::without_descriptors(|| fill(&mut journal, 40).and_then(|()| journal.close())).unwrap();
        let head = journal.head();
        drop(journal);
        let journal = FileJournal::open(&scratch.0, FileOptions { segments_max, ..options(2, 2) }).unwrap();
        assert!(matches!(journal.start(), Start::Continued { .. }), "{:?}", journal.start());
        let chunk = journal.read(journal.trimmed_to(), usize::MAX, usize::MAX).unwrap();
        assert_eq!(chunk.records.last().map(|record| record.lsn), Some(head));
        assert_eq!(folder::segments(&scratch.0).unwrap().len(), segments_max);
    }
}

#[test]
fn a_large_ring_grows_by_its_spare_files_without_descriptors() {
    // In an earlier version, a lack of descriptors led to the removal of the header, and no later
    // start succeeded.
    let scratch = Scratch::new();
    let large = FileOptions { segments_max: 3 * SPARES_MAX, ..options(1, 1) };
    let mut journal = FileJournal::open(&scratch.0, large.clone()).unwrap();
    let spares = SPARES_MAX as u64;
    faults::without_descriptors(|| fill(&mut journal, spares)).unwrap();
    let lost = faults::without_descriptors(|| fill(&mut journal, 1));
    assert!(matches!(lost, Err(JournalError::Io { .. })), "{lost:?}");
    drop(journal);
    let journal = FileJournal::open(&scratch.0, large).unwrap();
    assert!(matches!(journal.start(), Start::Discarded { .. }), "{:?}", journal.start());
    assert!(scratch.0.join("journal.header").exists());
}

#[test]
fn spare_files_are_created_once_there_are_descriptors_again() {
    let scratch = Scratch::new();
    let large = FileOptions { segments_max: 6 * SPARES_MAX, ..options(1, 1) };
    let mut journal = FileJournal::open(&scratch.0, large).unwrap();
    for _ in 0..4 {
        faults::without_descriptors(|| fill(&mut journal, SPARES_MAX as u64)).unwrap();
        for _ in 0..SPARES_MAX {
            journal.flush().unwrap();
        }
    }
}

#[test]
fn spare_files_of_an_earlier_process_are_removed() {
    let scratch = Scratch::new();
    drop(FileJournal::open(&scratch.0, FileOptions { segments_max: SPARES_MAX, ..options(1, 1) }).unwrap());
    std::fs::write(scratch.0.join("segment.next"), "begun").unwrap();
    let journal = FileJournal::open(&scratch.0, FileOptions { segments_max: 2, ..options(2, 2) }).unwrap();
    assert_eq!(folder::spares(&scratch.0).unwrap().len(), journal.spares.len());
    assert_eq!(journal.spares.len(), 2);
}
