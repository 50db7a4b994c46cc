//! Many connections in rooms of a hundred that only answer pings. Measures memory and heartbeat
//! cost per connection.

use std::time::{Duration, Instant};

use crate::Failure;
use crate::figures::rounded;
use crate::fleet::Fleet;
use crate::options::{CONNECTIONS, Options, QueueMode};
use crate::process::{self, Memory, Server};
use crate::report::{self, Report, line, micros_each, title};
use crate::target::Recovery;

const ROOM_MEMBERS: usize = 100;
/// Short, so that three pings fit into a run; the cost of a ping does not depend on it.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Longest ping interval of a running server for which the load waits.
const PING_INTERVAL_MAX: Duration = Duration::from_secs(10);
const INTERVALS: u32 = 3;
/// Time between the last ack and the reading of memory, for the server's remaining work.
const QUIET: Duration = Duration::from_secs(1);
const HEARTBEAT_MICROS_BUDGET: f64 = 10.0;
/// Budget: maximum factor by which a queue may raise the memory of a connection. It is noise.
const QUEUE_RATIO_BUDGET: f64 = 1.02;

pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), Failure> {
    let Some((first, others)) = options.queue.split_first() else {
        measure_with(None, options, report)?;
        return Ok(());
    };
    let further = measure_with(Some(*first), options, report)?;
    for other in others {
        let ratio = measure_with(Some(*other), options, report)? / further;
        let name = format!("idle, queue {}", other.word());
        let budget = options.budget(QUEUE_RATIO_BUDGET);
        report.figure(&name, "further connection to first", ratio, "×", budget);
    }
    Ok(())
}

/// Measures with this setting of the queue. Returns the resident KiB of each further connection.
fn measure_with(queue: Option<QueueMode>, options: &Options, report: &mut Report) -> Result<f64, Failure> {
    let connections = options.connections.unwrap_or(CONNECTIONS);
    process::allow_descriptors(connections)?;
    let server = Server::adjusted(options, PING_INTERVAL, |command| {
        if let Some(queue) = queue {
            command.env("STENTOR_QUEUE", queue.word());
        }
    })?;
    let (empty, cpu) = (server.memory()?, server.cpu()?);
    let started = Instant::now();
    let rooms = connections.div_ceil(ROOM_MEMBERS);
    let mut fleet = Fleet::empty(move |index| Some(format!("room-{}", index % rooms)))?;
    fleet.grow(&[server.address], connections / 2)?;
    fleet.rest(QUIET)?;
    let half = server.memory()?;
    fleet.grow(&[server.address], connections)?;
    let (opening, opened) = (server.cpu()?.since(cpu), started.elapsed());
    fleet.rest(QUIET)?;
    let settled = server.memory()?;

    let name = match queue {
        Some(queue) => format!("idle {connections}, queue {}", queue.word()),
        None => format!("idle {connections}"),
    };
    let setting = options.setting();
    title(&name, format!("{rooms} rooms of {ROOM_MEMBERS}, a browser's headers, {setting}"));
    let budget = options.budget(match options.recovery {
        Recovery::Off => 2.1,
        Recovery::Memory | Recovery::Disk => 2.6,
    });
    let resident = memory_line("memory once settled", empty, settled, connections);
    // The first half may use memory that the server has left from its start.
    let further = memory_line("second half once settled", half, settled, connections - connections / 2);
    let count = connections as u64;
    line("connect and join", format!("{} µs CPU each", rounded(micros_each(opening.total(), count))));
    report.figure(&name, "resident per connection", resident, "KiB", budget);
    report.figure(&name, "resident per further connection", further, "KiB", None);
    report.figure(&name, "CPU per connect and join", micros_each(opening.total(), count), "µs", None);

    if !options.heartbeat {
        report.noise(opening, opened);
        return Ok(further);
    }
    let interval = fleet.ping_interval();
    if interval > PING_INTERVAL_MAX {
        line(
            "heartbeat",
            format!("not measured: the server pings every {interval:?}, expected {PING_INTERVAL_MAX:?} or less"),
        );
        return Ok(further);
    }
    // The first pings follow the burst of connects; they may also be what grows a buffer.
    fleet.answer_pings(interval)?;
    let (start, cpu) = (fleet.sample(), server.cpu()?);
    fleet.answer_pings(interval * INTERVALS)?;
    let (end, cpu) = (fleet.sample(), server.cpu()?.since(cpu));
    let pings = end.pings - start.pings;
    line("pings answered", format!("{pings} in {INTERVALS} intervals of {interval:?}"));
    if pings < count * u64::from(INTERVALS - 1) {
        return Err(format!("expected about {} pings, got {pings}", count * u64::from(INTERVALS)).into());
    }
    report::cpu_line(cpu, pings, "ping", end.moment.since(&start.moment));
    report.trust(&start.moment, &end.moment, cpu);
    let pinged = memory_line("memory after the pings", empty, server.memory()?, connections);
    report.figure(&name, "resident per connection, pinged", pinged, "KiB", budget);
    report.figure(
        &name,
        "CPU per ping",
        micros_each(cpu.total(), pings),
        "µs",
        options.budget(HEARTBEAT_MICROS_BUDGET),
    );
    Ok(further)
}

fn memory_line(subject: &str, empty: Memory, now: Memory, connections: usize) -> f64 {
    let each = |now: u64, before: u64| (now as f64 - before as f64) / connections as f64;
    let resident = each(now.resident_kib, empty.resident_kib);
    let private = each(now.private_kib, empty.private_kib);
    let (from, to) = (empty.resident_kib, now.resident_kib);
    line(
        subject,
        format!("{} KiB each, {} private; {from} KiB resident before, {to} now", rounded(resident), rounded(private)),
    );
    resident
}
