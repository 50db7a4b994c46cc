//! What the journal costs, printed: `cargo test --release --lib log::file::figures -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use super::*;
use crate::log::contract::records::event;
use crate::log::contract::scratch::Scratch;

const TURN: u64 = 32;

fn open(scratch: &Scratch) -> FileJournal {
    let limits = crate::limits::Limits::default();
    let options = FileOptions::new(Epoch::new(1, 1), BootId::new(1), &limits);
    FileJournal::open(&scratch.0, options).unwrap()
}

/// Appends in turns; gives the time of all and that of the slowest turn.
fn fill(journal: &mut FileJournal, records: u64, payload: usize) -> (Duration, Duration) {
    let message = event(1, payload);
    let begin = Instant::now();
    let mut slowest = Duration::ZERO;
    for turn in 0..records / TURN {
        let turn_begin = Instant::now();
        for n in 1..=TURN {
            let lsn = Lsn(turn * TURN + n);
            journal.append(Record { lsn, ..message.clone() }).unwrap();
        }
        journal.flush().unwrap();
        slowest = slowest.max(turn_begin.elapsed());
    }
    (begin.elapsed(), slowest)
}

#[test]
#[ignore = "prints figures of a release build"]
fn appends() {
    for payload in [100, 1_000, 10_000] {
        let scratch = Scratch::on_disk();
        let mut journal = open(&scratch);
        let records = 400_000_000 / (payload as u64 + 100) / TURN * TURN;
        let (took, slowest) = fill(&mut journal, records.min(2_000_000 / TURN * TURN), payload);
        let records = journal.head().0 as f64;
        let seconds = took.as_secs_f64();
        let bytes = records * (payload + 80) as f64;
        println!(
            "payload {payload}: {:.0} appends/s, {:.0} MB/s, {:.2} us each, slowest turn of {TURN} {slowest:?}",
            records / seconds,
            bytes / seconds / 1e6,
            seconds * 1e6 / records,
        );
        let begin = Instant::now();
        journal.close().unwrap();
        println!("  closed with fsync in {:?}", begin.elapsed());
    }
}

#[test]
#[ignore = "prints figures of a release build"]
fn restarts() {
    for records in [100_000, 1_000_000] {
        let scratch = Scratch::on_disk();
        let mut journal = open(&scratch);
        fill(&mut journal, records, 100);
        let after = journal.trimmed_to();
        journal.kill(0);
        let begin = Instant::now();
        let journal = open(&scratch);
        let opened = begin.elapsed();
        let (mut after, mut count, mut slowest) = (after, 0, Duration::ZERO);
        loop {
            let chunk_begin = Instant::now();
            let chunk = journal.read(after, 256, 256 << 10).unwrap();
            slowest = slowest.max(chunk_begin.elapsed());
            count += chunk.records.len();
            after = chunk.records.last().map_or(after, |last| last.lsn);
            if !chunk.more {
                break;
            }
        }
        let all = begin.elapsed();
        println!(
            "{records} records of 100 bytes: opened in {opened:?}, {count} read by {all:?}, slowest chunk {slowest:?}"
        );
    }
}
