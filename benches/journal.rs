//! The cost of the journal in memory and in files: appends, reads of a client that catches up, a
//! start.

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use stentor::bench_support::journal::{Journal, Sample};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Number of events that the hub appends before a flush.
const TURN: u64 = 32;

/// Records of one read: the chunk of a client that catches up on small events.
const READ: usize = 256;

/// A folder of this bench, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("stentor-bench-journal-{}", std::process::id()));
        let scratch = Self(path);
        scratch.clear();
        scratch
    }

    fn clear(&self) {
        // It does not exist at first.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.clear();
    }
}

fn open(folder: &Path) -> Journal {
    Journal::file(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
}

fn turns(journal: &mut Journal, event: &Sample, turns: u64) -> (Duration, Duration) {
    let (begun, mut slowest) = (Instant::now(), Duration::ZERO);
    for _ in 0..turns {
        let turn = Instant::now();
        journal.turn(event, TURN).expect("the journal takes a turn");
        slowest = slowest.max(turn.elapsed());
    }
    (begun.elapsed(), slowest)
}

fn append(criterion: &mut Criterion, kind: &str, mut journal: impl FnMut() -> Journal) {
    let mut group = criterion.benchmark_group(format!("append a turn of {TURN}, {kind}"));
    group.throughput(Throughput::Elements(TURN));
    for bytes in [100, 1_000, 10_000] {
        let (mut journal, event) = (journal(), Sample::new(bytes));
        let mut slowest = Duration::ZERO;
        group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
            bencher.iter_custom(|count| {
                let (took, slowest_here) = turns(&mut journal, &event, count);
                slowest = slowest.max(slowest_here);
                took
            });
        });
        let closing = Instant::now();
        journal.close().expect("the journal closes");
        // Zero if only other benches were requested.
        if slowest > Duration::ZERO {
            println!("slowest turn: {slowest:?}; closed in {:?}", closing.elapsed());
        }
    }
}

/// Reads after positions this many records back.
fn read(criterion: &mut Criterion, kind: &str, mut journal: Journal, places: &[u64]) {
    turns(&mut journal, &Sample::new(100), 200_000 / TURN);
    let head = journal.head();
    let mut group = criterion.benchmark_group(format!("read {READ} records, {kind}"));
    group.throughput(Throughput::Elements(READ as u64)).measurement_time(Duration::from_secs(2));
    for back in places {
        group.bench_function(BenchmarkId::new("records back", back), |bencher| {
            bencher.iter(|| journal.read(head - back, READ).expect("the journal reads"));
        });
    }
}

/// Opens a journal that was closed cleanly, which reads all of it.
fn restart(criterion: &mut Criterion, scratch: &Scratch) {
    let mut group = criterion.benchmark_group("start, file");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_secs(3));
    for records in [10_000, 200_000] {
        scratch.clear();
        let mut journal = open(&scratch.0);
        turns(&mut journal, &Sample::new(100), records / TURN);
        journal.close().expect("the journal closes");
        group.throughput(Throughput::Elements(records));
        group.bench_function(BenchmarkId::new("records", records), |bencher| {
            bencher.iter_custom(|count| {
                let mut took = Duration::ZERO;
                for _ in 0..count {
                    let begun = Instant::now();
                    let journal = open(&scratch.0);
                    let mut after = 0;
                    while let read @ 1.. = journal.read(after, READ).expect("the journal reads") {
                        after += read as u64;
                    }
                    took += begun.elapsed();
                    assert_eq!(after, records / TURN * TURN);
                    journal.close().expect("the journal closes");
                }
                took
            });
        });
    }
}

fn main() {
    let mut criterion = Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let scratch = Scratch::new();
    append(&mut criterion, "memory", Journal::memory);
    append(&mut criterion, "file", || {
        scratch.clear();
        open(&scratch.0)
    });
    read(&mut criterion, "memory", Journal::memory(), &[256, 60_000]);
    scratch.clear();
    // The last of them exists only in its files.
    read(&mut criterion, "file", open(&scratch.0), &[256, 60_000, 190_000]);
    restart(&mut criterion, &scratch);
    criterion.final_summary();
}
