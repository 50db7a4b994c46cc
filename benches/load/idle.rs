//! Many connections in rooms of a hundred that only answer pings. Measures memory and heartbeat
//! cost per connection.

use std::time::{Duration, Instant};

use crate::Failure;
use crate::figures::rounded;
use crate::fleet::Fleet;
use crate::options::{CONNECTIONS, Options};
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

pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), Failure> {
    let connections = options.connections.unwrap_or(CONNECTIONS);
    process::allow_descriptors(connections)?;
    let server = Server::under_test(options, PING_INTERVAL)?;
    let (empty, cpu) = (server.memory()?, server.cpu()?);
    let started = Instant::now();
    let rooms = connections.div_ceil(ROOM_MEMBERS);
    let mut fleet = Fleet::open(server.address, connections, move |index| Some(format!("room-{}", index % rooms)))?;
    let (opening, opened) = (server.cpu()?.since(cpu), started.elapsed());
    fleet.rest(QUIET)?;
    let settled = server.memory()?;

    let name = format!("idle {connections}");
    let setting = options.setting();
    title(&name, format!("{rooms} rooms of {ROOM_MEMBERS}, a browser's headers, {setting}"));
    let budget = options.budget(match options.recovery {
        Recovery::Off => 2.1,
        Recovery::Memory | Recovery::Disk => 2.6,
    });
    let resident = memory_line("memory once settled", empty, settled, connections);
    let count = connections as u64;
    line("connect and join", format!("{} µs CPU each", rounded(micros_each(opening.total(), count))));
    report.figure(&name, "resident per connection", resident, "KiB", budget);
    report.figure(&name, "CPU per connect and join", micros_each(opening.total(), count), "µs", None);

    if !options.heartbeat {
        report.noise(opening, opened);
        return Ok(());
    }
    let interval = fleet.ping_interval();
    if interval > PING_INTERVAL_MAX {
        line(
            "heartbeat",
            format!("not measured: the server pings every {interval:?}, expected {PING_INTERVAL_MAX:?} or less"),
        );
        return Ok(());
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
    let resident = memory_line("memory after the pings", empty, server.memory()?, connections);
    report.figure(&name, "resident per connection, pinged", resident, "KiB", budget);
    report.figure(
        &name,
        "CPU per ping",
        micros_each(cpu.total(), pings),
        "µs",
        options.budget(HEARTBEAT_MICROS_BUDGET),
    );
    Ok(())
}

fn memory_line(subject: &str, empty: Memory, now: Memory, connections: usize) -> f64 {
    let each = |now: u64, before: u64| (now as f64 - before as f64) / connections as f64;
    let resident = each(now.resident_kib, empty.resident_kib);
    let private = each(now.private_kib, empty.private_kib);
    let (from, to) = (empty.resident_kib, now.resident_kib);
    line(
        subject,
        format!(
            "{} KiB each, {} private; {from} KiB resident when empty, {to} now",
            rounded(resident),
            rounded(private)
        ),
    );
    resident
}
