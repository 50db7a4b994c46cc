//! Every file operation of a journal's life fails once, each in a life of its own.

use std::io;

use super::*;
use crate::ids::Epoch;
use crate::log::contract::records::event;
use crate::log::contract::scratch::Scratch;
use crate::log::disk::faults;

/// About two records in each segment.
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

/// The last that is known to be safe, and the newest that was tried.
#[derive(Debug, Default, Clone, Copy)]
struct Progress {
    safe: u64,
    tried: u64,
    epoch: Option<Epoch>,
}

/// Opens, appends over several segments, reads, closes, and does so again.
fn live(path: &Path, progress: &mut Progress) -> Result<(), String> {
    for boot in 1..3 {
        let mut journal = FileJournal::open(path, options(boot, boot.into())).map_err(|error| error.to_string())?;
        if progress.epoch != Some(journal.epoch()) {
            (progress.safe, progress.epoch) = (0, Some(journal.epoch()));
        }
        for _ in 0..9 {
            progress.tried = journal.head().0 + 1;
            journal.append(event(progress.tried, 20)).map_err(|error| error.to_string())?;
            journal.flush().map_err(|error| error.to_string())?;
            progress.safe = progress.tried;
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
        let lived = live(&scratch.0, &mut progress);
        if !faults::disarm() {
            lived.unwrap();
            break;
        }
        // Perhaps on the same boot, perhaps after another.
        let boot = 1 + operations as u128 % 3;
        let journal = FileJournal::open(&scratch.0, options(7, boot))
            .unwrap_or_else(|error| panic!("operation {operations} failed ({lived:?}), then the start: {error}"));
        let chunk = journal.read(journal.trimmed_to(), usize::MAX, usize::MAX).unwrap();
        for record in &chunk.records {
            assert_eq!(*record, event(record.lsn.0, 20), "operation {operations}");
        }
        let newest = chunk.records.last().map_or(0, |record| record.lsn.0);
        if Some(journal.epoch()) == progress.epoch {
            assert!(
                (progress.safe..=progress.tried).contains(&newest),
                "operation {operations}: {progress:?}, {newest}"
            );
        } else {
            assert_eq!(newest, 0, "operation {operations}");
        }
        operations += 1;
    }
    assert!(operations > 80, "{operations} operations");
}

#[test]
fn descriptors_that_run_out_cost_nothing_until_they_are_needed() {
    // The next segment found no descriptor, the header was removed for want of another, and no later start succeeded.
    let scratch = Scratch::new();
    let mut journal = FileJournal::open(&scratch.0, options(1, 1)).unwrap();
    let mut append = |lsns: std::ops::RangeInclusive<u64>| -> Result<(), JournalError> {
        for lsn in lsns {
            journal.append(event(lsn, 20))?;
            journal.flush()?;
        }
        Ok(())
    };
    append(1..=2).unwrap();
    let lost = faults::without_descriptors(|| append(3..=9));
    assert!(matches!(lost, Err(JournalError::Io { .. })), "two segments later: {lost:?}");
    drop(journal);
    let journal = FileJournal::open(&scratch.0, options(2, 1)).unwrap();
    assert!(matches!(journal.start(), Start::Discarded { .. }), "{:?}", journal.start());
    assert!(scratch.0.join("journal.header").exists());
}

#[test]
fn a_spare_segment_is_made_again_once_there_are_descriptors() {
    let scratch = Scratch::new();
    let mut journal = FileJournal::open(&scratch.0, options(1, 1)).unwrap();
    let mut next = 1;
    let mut fill = |journal: &mut FileJournal| -> io::Result<()> {
        let segments = journal.newest().sequence;
        while journal.newest().sequence == segments {
            journal.append(event(next, 20)).map_err(io::Error::other)?;
            journal.flush().map_err(io::Error::other)?;
            next += 1;
        }
        Ok(())
    };
    for _ in 0..4 {
        faults::without_descriptors(|| fill(&mut journal)).unwrap();
        journal.flush().unwrap();
    }
}
