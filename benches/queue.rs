//! Costs of the durable queue on disk: commits of several sizes beside a bare fdatasync, publishers
//! that wait for their commit, acknowledgements, the drain of a backlog, and bytes of disk per
//! event.
//!
//! `cargo bench --features bench-internals --bench queue`; `STENTOR_BENCH_FOLDER` names the disk to
//! measure, and `STENTOR_BENCH_EVENTS` the events of a row (100 000).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use stentor::bench_support::queue::{Queue, publishers};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of an event's payload.
const BYTES: usize = 200;

const ROOM: &str = "orders";

/// A folder of this bench, removed with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let parent = std::env::var_os("STENTOR_BENCH_FOLDER").map_or_else(std::env::temp_dir, PathBuf::from);
        let scratch = Self(parent.join(format!("stentor-bench-queue-{}", std::process::id())));
        scratch.clear();
        scratch
    }

    fn clear(&self) {
        // Not there at first.
        let _ = std::fs::remove_dir_all(&self.0);
    }

    /// An empty queue with one subscriber of the room.
    fn queue(&self) -> Queue {
        self.clear();
        let mut queue = checked(Queue::open(&self.0));
        checked(queue.subscribe(&["kitchen".to_owned()], ROOM));
        queue
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.clear();
    }
}

fn checked<T>(result: Result<T, String>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

fn rate(events: u64, took: Duration) -> f64 {
    events as f64 / took.as_secs_f64()
}

/// Appends and syncs so many bytes at a time, as the log of a commit does; the median.
fn fdatasync(folder: &Path, bytes: usize) -> Duration {
    std::fs::create_dir_all(folder).expect("the folder can be made");
    let path = folder.join("raw");
    let mut file: File = OpenOptions::new().create(true).append(true).open(&path).expect("the file can be made");
    let data = vec![0x5a; bytes];
    let mut times: Vec<Duration> = (0..300)
        .map(|_| {
            let begun = Instant::now();
            file.write_all(&data).and_then(|()| file.sync_data()).expect("the disk takes it");
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    std::fs::remove_file(path).expect("the file can be removed");
    times[times.len() / 2]
}

fn commits(scratch: &Scratch, events: u64) {
    println!("commits of one thread, {BYTES} bytes an event, with dedup_id and one subscriber:");
    for batch in [1, 8, 64, 512] {
        let mut queue = scratch.queue();
        let commits = (events / batch).min(3_000);
        let took: Duration = (0..commits).map(|_| checked(queue.publish(ROOM, batch, BYTES))).sum();
        drop(queue);
        scratch.clear();
        let raw = fdatasync(&scratch.0, 4_096 * 3 + batch as usize * (BYTES + 150));
        println!(
            "  batch {batch:>3}: {:>8.0} stored/s, {:>7.3} ms a commit; bare fdatasync of as many bytes {:.3} ms",
            rate(commits * batch, took),
            took.as_secs_f64() * 1e3 / commits as f64,
            raw.as_secs_f64() * 1e3
        );
    }
}

fn waiting_publishers(scratch: &Scratch, events: u64) {
    println!("publishers that wait for their commit:");
    for count in [1, 8, 64, 512] {
        drop(scratch.queue());
        let events = events.min(count as u64 * 2_000);
        let times = checked(publishers(&scratch.0, ROOM, count, events, BYTES));
        println!(
            "  {count:>3} publishers: {:>8.0} stored/s, p50 {:.2} ms, p99 {:.2} ms",
            rate(events, times.took),
            times.p50.as_secs_f64() * 1e3,
            times.p99.as_secs_f64() * 1e3
        );
    }
}

fn backlog(scratch: &Scratch, events: u64) {
    let mut queue = scratch.queue();
    for _ in 0..events / 500 {
        checked(queue.publish(ROOM, 500, BYTES));
    }
    checked(queue.checkpoint());
    let bytes = std::fs::metadata(scratch.0.join("queue.sqlite3")).map_or(0, |metadata| metadata.len());
    let stored = checked(queue.events());
    println!("disk: {:.0} bytes an event of {BYTES}, with its dedup_id", bytes as f64 / stored as f64);
    drop(queue);
    let begun = Instant::now();
    let mut queue = checked(Queue::open(&scratch.0));
    println!("open with {stored} events: {:?}", begun.elapsed());
    let begun = Instant::now();
    let drained = checked(queue.drain("kitchen", 256));
    println!(
        "drain of {drained}: {:.0} read and acknowledged/s, {} left",
        rate(drained, begun.elapsed()),
        checked(queue.events())
    );
}

fn absent_subscribers(scratch: &Scratch) {
    let mut queue = scratch.queue();
    let names: Vec<String> = (0..99_999).map(|number| format!("phone-{number}")).collect();
    let begun = Instant::now();
    checked(queue.subscribe(&names, ROOM));
    println!("99 999 more subscribers of the room made in {:?}", begun.elapsed());
    let took: Duration = (0..200).map(|_| checked(queue.publish(ROOM, 64, BYTES))).sum();
    println!("  batch 64 to all of them: {:.0} stored/s", rate(200 * 64, took));
}

fn main() {
    let events = std::env::var("STENTOR_BENCH_EVENTS").ok().and_then(|events| events.parse().ok()).unwrap_or(100_000);
    // `cargo test --benches` runs benches to see that they run.
    let events = if std::env::args().any(|argument| argument == "--test") { 1_000 } else { events };
    let scratch = Scratch::new();
    commits(&scratch, events);
    waiting_publishers(&scratch, events);
    backlog(&scratch, events);
    if events >= 100_000 {
        absent_subscribers(&scratch);
    }
}
