//! Restarts of a server with a queue on disk: with many stored events, and with many absent
//! subscribers. Measures the time until the server is ready, beside that of an empty queue, and
//! what each costs on disk and in memory. The pages of the files are in the kernel's cache.

use std::time::Duration;

use rustix::process::Signal;

use crate::Failure;
use crate::durable;
use crate::figures::{grouped, rounded};
use crate::fleet::Fleet;
use crate::options::Options;
use crate::process::{self, Server};
use crate::report::{Report, line, title};
use crate::subscribers::{self, PATIENCE, Returning};

/// Default numbers of stored events.
const EVENTS: [usize; 2] = [100_000, 1_000_000];
/// Default number of absent subscribers.
const ABSENT: usize = 100_000;
/// Number of them that return at the end, to see that they are stored.
const RETURNING: usize = 100;

/// Time for the server's remaining work, between a start and the reading of memory.
const QUIET: Duration = Duration::from_secs(1);

/// A server after a restart.
struct Restarted {
    ready: Duration,
    /// Bytes of the queue on disk while the server was stopped.
    disk: u64,
    resident_kib: u64,
}

fn restart(server: &mut Server) -> Result<Restarted, Failure> {
    server.stop(Signal::TERM)?;
    let disk = server.queue_bytes()?;
    let ready = server.start_again()?;
    std::thread::sleep(QUIET);
    Ok(Restarted { ready, disk, resident_kib: server.resident_kib()? })
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), Failure> {
    for has_dedup_id in [false, true] {
        for events in options.events_or(&EVENTS) {
            measure_events(*events, has_dedup_id, options, report)?;
        }
    }
    Ok(())
}

fn measure_events(events: usize, has_dedup_id: bool, options: &Options, report: &mut Report) -> Result<(), Failure> {
    process::allow_descriptors(0)?;
    let mut server = durable::start(options)?;
    let empty = restart(&mut server)?;
    subscribers::create(&server, 1, 1)?;
    subscribers::publish(&server, events, 1, options.payload, has_dedup_id)?;
    server.stop(Signal::KILL)?;
    let killed = server.start_again()?;
    expect_events(&server, events)?;
    let full = restart(&mut server)?;
    expect_events(&server, events)?;

    let name = format!("restart, {events} events{}", if has_dedup_id { ", dedup_id" } else { "" });
    title(&name, format!("{} B, pending for one subscriber, {}", options.payload, options.setting()));
    let [after_kill, after_stop, of_empty] = [killed, full.ready, empty.ready].map(millis);
    line("ready after", format!("{after_kill:.0} ms killed, {after_stop:.0} ms stopped, {of_empty:.0} ms empty"));
    line("queue on disk", format!("{} bytes, empty {}", grouped(full.disk as f64), grouped(empty.disk as f64)));
    report.figure(&name, "ready after a kill", after_kill, "ms", None);
    report.figure(&name, "ready after a stop", after_stop, "ms", None);
    report.figure(&name, "ready, empty queue", of_empty, "ms", None);
    report.figure(&name, "disk per event", full.disk.saturating_sub(empty.disk) as f64 / events as f64, "bytes", None);
    Ok(())
}

fn expect_events(server: &Server, events: usize) -> Result<(), Failure> {
    let metrics = server.get("/metrics")?;
    let expected = format!("stentor_queue_events {events}");
    let found = metrics.lines().find(|line| line.starts_with("stentor_queue_events "));
    match found {
        Some(line) if line == expected => Ok(()),
        found => Err(format!("metrics after a restart: expected {expected:?}, got {found:?}").into()),
    }
}

pub(crate) fn measure_absent(options: &Options, report: &mut Report) -> Result<(), Failure> {
    let (count, rooms) = (options.connections.unwrap_or(ABSENT), options.rooms);
    process::allow_descriptors(1_000)?;
    let mut server = durable::start(options)?;
    let empty = restart(&mut server)?;
    subscribers::create(&server, count, rooms)?;
    std::thread::sleep(QUIET);
    let left_kib = server.resident_kib()?;
    let full = restart(&mut server)?;

    let name = format!("absent subscribers, {count}");
    title(&name, format!("{rooms} room(s), {}", options.setting()));
    let resident = |kib: u64| (kib as f64 - empty.resident_kib as f64) * 1024.0 / count as f64;
    let disk = full.disk.saturating_sub(empty.disk) as f64 / count as f64;
    let (of_full, of_empty) = (millis(full.ready), millis(empty.ready));
    line("ready after", format!("{of_full:.0} ms, {of_empty:.0} ms empty"));
    line(
        "resident",
        format!("{} KiB, {} KiB empty, {left_kib} KiB when all had left", full.resident_kib, empty.resident_kib),
    );
    line("queue on disk", format!("{} bytes each", rounded(disk)));
    report.figure(&name, "resident each after a restart", resident(full.resident_kib), "bytes", None);
    report.figure(&name, "resident each when all left", resident(left_kib), "bytes", None);
    report.figure(&name, "disk each", disk, "bytes", None);
    report.figure(&name, "ready after a stop", of_full, "ms", None);
    report.figure(&name, "ready, empty queue", of_empty, "ms", None);

    // One event a room, for some who return.
    subscribers::publish(&server, rooms, rooms, options.payload, true)?;
    let some = RETURNING.min(count);
    let mut fleet = Fleet::of(|_| None, |at| Some(subscribers::auth(at)))?;
    let mut load = Returning::new(0, some, rooms, rooms, options.payload);
    fleet.start_some(server.address, some, some)?;
    fleet.run_until(PATIENCE, &mut load, Returning::is_finished)?;
    report.verdict(&name, &load.verdict());
    Ok(())
}
