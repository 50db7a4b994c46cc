//! Growing numbers of idle connections of one server. Measures the memory of each further
//! connection, and the cost of a heartbeat with many of them.

use std::time::Duration;

use crate::Failure;
use crate::figures::{grouped, rounded};
use crate::fleet::Fleet;
use crate::options::Options;
use crate::process::{self, Server};
use crate::report::{Report, line, micros_each, title};

/// Steps before the last one.
const STEPS: [usize; 3] = [1_000, 5_000, 10_000];
/// Maximum for a process that may open 20 000 files.
const CONNECTIONS: usize = 19_000;
const ROOM_MEMBERS: usize = 100;
/// Short, so that the steps take less than two minutes; the cost of a ping does not depend on it.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const INTERVALS: u32 = 2;

struct Step {
    connections: usize,
    resident_kib: u64,
    ran: Duration,
    interval: Duration,
}

pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), Failure> {
    let most = options.connections.unwrap_or(CONNECTIONS);
    process::allow_descriptors(most)?;
    let server = Server::under_test(options, PING_INTERVAL)?;
    let empty = server.resident_kib()?;
    let mut fleet = Fleet::empty(|index| Some(format!("room-{}", index / ROOM_MEMBERS)))?;
    title(&format!("slope to {most}"), format!("rooms of {ROOM_MEMBERS}, a browser's headers, {}", options.setting()));
    line("connections", "resident MiB, KiB each; heartbeat: µs CPU per ping, share of a core; generator");

    let (begin, cpu_before) = (fleet.sample(), server.cpu()?);
    let mut steps: Vec<Step> = Vec::new();
    for connections in STEPS.into_iter().filter(|step| *step < most).chain([most]) {
        fleet.grow(&[server.address], connections)?;
        // The first pings follow the burst of connects.
        let ping_interval = fleet.ping_interval();
        fleet.answer_pings(ping_interval)?;
        let (start, ran) = (fleet.sample(), server.run_time()?);
        fleet.answer_pings(ping_interval * INTERVALS)?;
        let (end, ran) = (fleet.sample(), server.run_time()?.saturating_sub(ran));
        let pings = end.pings - start.pings;
        if pings < connections as u64 * u64::from(INTERVALS - 1) {
            return Err(format!("expected about {} pings, got {pings}", connections * INTERVALS as usize).into());
        }
        let step =
            Step { connections, resident_kib: server.resident_kib()?, ran, interval: end.moment.since(&start.moment) };
        let each = (step.resident_kib - empty) as f64 / connections as f64;
        line(
            &grouped(connections as f64),
            format!(
                "{} MiB, {} KiB; {} µs, {} %; {:.0} % busy",
                rounded(step.resident_kib as f64 / 1024.0),
                rounded(each),
                rounded(micros_each(ran, pings)),
                rounded(100.0 * ran.as_secs_f64() / step.interval.as_secs_f64()),
                100.0 * end.moment.busy_since(&start.moment)
            ),
        );
        let name = format!("slope, {connections} connections");
        report.figure(&name, "resident per connection", each, "KiB", None);
        report.figure(&name, "CPU per ping", micros_each(ran, pings), "µs", None);
        steps.push(step);
    }
    report.trust(&begin.moment, &fleet.sample().moment, server.cpu()?.since(cpu_before));
    if let [first, .., last] = &steps[..] {
        let further = (last.connections - first.connections) as f64;
        let bytes = (last.resident_kib as f64 - first.resident_kib as f64) * 1024.0 / further;
        let heartbeats = |step: &Step| step.ran.as_secs_f64() * 1e6 / step.interval.as_secs_f64();
        let micros = (heartbeats(last) - heartbeats(first)) / further * PING_INTERVAL.as_secs_f64();
        line("a further connection", format!("{} bytes, {} µs per ping", grouped(bytes), rounded(micros)));
        report.figure("slope", "resident per further connection", bytes, "bytes", None);
        report.figure("slope", "CPU per further ping", micros, "µs", None);
    }
    Ok(())
}
