//! Tests of the journal on disk beyond the tests for all journals: durability, restarts and damage.

mod damage;
mod restart;
mod ring;

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::PathBuf;

use super::*;
use crate::journal::contract::records::{event, every_kind, fingerprint};
use crate::journal::contract::scratch::Scratch;
use crate::journal::folder::BootId;

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

/// Options after a restart of the machine.
fn another_boot() -> FileOptions {
    FileOptions { epoch: Epoch::new(2, 2), boot: BootId::new(2), ..options() }
}

fn few_records_a_segment() -> FileOptions {
    FileOptions { segment_bytes: 1_000, ..options() }
}

fn three_records_a_segment() -> FileOptions {
    FileOptions { segment_bytes: segment::HEADER_BYTES + 3 * record_bytes(), ..options() }
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

/// Checks that the old journal was discarded, and that its offsets are unknown.
fn assert_discarded(journal: &FileJournal, old: Offset) {
    assert!(matches!(journal.start(), Start::Discarded { .. }), "{:?}", journal.start());
    assert!(journal.epoch() != old.epoch && !journal.knows(&old), "offsets of the old log are unknown");
    assert!(journal.head() > old.lsn, "LSNs are not used again");
    let chunk = journal.read(Lsn(0), usize::MAX, usize::MAX).unwrap();
    assert!(chunk.records.is_empty() && chunk.trimmed);
}

/// Encoded length of a record that `append` appends, in bytes.
fn record_bytes() -> usize {
    let mut bytes = Vec::new();
    codec::encode(&event(1, 20), &mut bytes);
    bytes.len()
}
