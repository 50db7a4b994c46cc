//! Costs of the durable queue on disk and on one core: commits of several sizes beside a bare
//! fdatasync, publishers that wait for their commit, alone and through a server in this process,
//! acknowledgements, the drain of a backlog, and bytes of disk per event.
//!
//! `cargo bench --features bench-internals --bench queue`; `STENTOR_BENCH_FOLDER` names the disk to
//! measure, `STENTOR_BENCH_EVENTS` the events of a row (100 000), and `STENTOR_BENCH_SECONDS` the
//! time for a row of publishers (5). All threads are pinned to the first core.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use stentor::bench_support::queue::{Latencies, Queue, publishers};
use stentor::{Limits, Server};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of an event's payload.
const BYTES: usize = 100;

/// Events of a commit, and publishers that wait.
const BATCHES: [usize; 4] = [1, 8, 64, 512];

/// Budgets of stored events per second on one core, by waiting publishers.
const BUDGETS: [(usize, f64); 2] = [(64, 50_000.0), (512, 90_000.0)];

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

/// Bytes of the log for a commit of so many events.
fn commit_bytes(events: usize) -> usize {
    4_096 * 3 + events * (BYTES + 150)
}

fn commits(scratch: &Scratch, events: u64) {
    println!("commits of one thread, {BYTES} bytes an event, with dedup_id and one subscriber:");
    for batch in BATCHES {
        let mut queue = scratch.queue();
        let raw = fdatasync(&scratch.0, commit_bytes(batch));
        let batch = batch as u64;
        let commits = (events / batch).min(3_000);
        let took: Duration = (0..commits).map(|_| checked(queue.publish(ROOM, batch, BYTES))).sum();
        println!(
            "  batch {batch:>3}: {:>8.0} stored/s, {:>7.3} ms a commit; bare fdatasync of as many bytes {:.3} ms",
            rate(commits * batch, took),
            took.as_secs_f64() * 1e3 / commits as f64,
            raw.as_secs_f64() * 1e3
        );
    }
}

/// Prints a row of publishers, beside a bare fdatasync of as many events as there are publishers.
fn print_publishers(scratch: &Scratch, count: usize, latencies: &Latencies) {
    let raw = fdatasync(&scratch.0, commit_bytes(count));
    let stored = rate(latencies.events, latencies.took);
    let budget = BUDGETS
        .iter()
        .find(|(publishers, _)| *publishers == count)
        .map(|(_, budget)| format!("; budget {budget:.0}/s: {}", if stored >= *budget { "kept" } else { "MISSED" }));
    println!(
        "  {count:>3} publishers: {stored:>8.0} stored/s, p50 {:.2} ms, p99 {:.2} ms; bare fdatasync {:.3} ms{}",
        latencies.p50.as_secs_f64() * 1e3,
        latencies.p99.as_secs_f64() * 1e3,
        raw.as_secs_f64() * 1e3,
        budget.unwrap_or_default()
    );
}

fn committer_publishers(scratch: &Scratch, time: Duration) {
    println!("publishers that wait for their commit, on the committer's thread, {BYTES} bytes, with dedup_id:");
    for count in BATCHES {
        drop(scratch.queue());
        let latencies = checked(publishers(&scratch.0, ROOM, count, time, BYTES));
        print_publishers(scratch, count, &latencies);
    }
}

/// Tasks that each await `emit_confirmed` of a server without clients.
fn server_publishers(scratch: &Scratch, time: Duration) {
    println!("tasks that await emit_confirmed of a server, {BYTES} bytes, with dedup_id:");
    for count in BATCHES {
        drop(scratch.queue());
        let latencies = checked(actix::System::new().block_on(server_tasks(&scratch.0, count, time)));
        print_publishers(scratch, count, &latencies);
    }
}

async fn server_tasks(folder: &Path, count: usize, time: Duration) -> Result<Latencies, String> {
    let limits = Limits::with(|limits| {
        (limits.queue.bytes_max, limits.queue.dedup_ids_max) = (1 << 36, 10_000_000);
    });
    let io = Server::builder().queue(stentor::Queue::disk(folder)).limits(limits).build();
    let io = io.map_err(|error| error.to_string())?;
    let (begun, text) = (Instant::now(), "x".repeat(BYTES));
    let tasks: Vec<_> =
        (0..count).map(|number| actix::spawn(publish_until(io.clone(), number, begun + time, text.clone()))).collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.map_err(|error| error.to_string())??);
    }
    let took = begun.elapsed();
    io.close().await;
    Ok(Latencies::new(times, took))
}

async fn publish_until(io: Server, publisher: usize, end: Instant, text: String) -> Result<Vec<Duration>, String> {
    let mut times = Vec::new();
    while Instant::now() < end {
        let (id, begun) = (format!("{publisher}-{}", times.len()), Instant::now());
        let durable = io.all().to(ROOM).durable().dedup_id(id);
        let stored = durable.emit_confirmed("order", &text).await.map_err(|error| error.to_string())?;
        if stored.duplicate {
            return Err(format!("expected a new event, got a duplicate offset={}", stored.offset));
        }
        times.push(begun.elapsed());
    }
    Ok(times)
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

/// Pins this thread, and all that it starts from now on.
fn pin() {
    let mut set = CpuSet::new();
    set.set(0);
    sched_setaffinity(None, &set).expect("the first core can be used");
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value}: expected a number")))
}

fn main() {
    // `cargo test --benches` runs benches to see that they run.
    let is_test = std::env::args().any(|argument| argument == "--test");
    let events = if is_test { 1_000 } else { setting("STENTOR_BENCH_EVENTS").unwrap_or(100_000) };
    let time = if is_test {
        Duration::from_millis(100)
    } else {
        Duration::from_secs(setting("STENTOR_BENCH_SECONDS").unwrap_or(5))
    };
    pin();
    let scratch = Scratch::new();
    commits(&scratch, events);
    committer_publishers(&scratch, time);
    server_publishers(&scratch, time);
    backlog(&scratch, events);
    if events >= 100_000 {
        absent_subscribers(&scratch);
    }
}
