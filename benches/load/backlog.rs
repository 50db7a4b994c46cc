//! The backlog of subscribers that return: one with many events, or many with some. Measures how
//! fast they receive and acknowledge everything, and the latency of plain events to the members of
//! another room meanwhile and before.

use crate::Failure;
use crate::durable::{self, Beside};
use crate::fanout::Fanout;
use crate::figures::{grouped, rounded};
use crate::fleet::Fleet;
use crate::options::Options;
use crate::process;
use crate::report::{self, Report, line, title};
use crate::subscribers::{self, PATIENCE, Returning};

/// Default events of one subscriber, and of each of many.
const EVENTS_OF_ONE: usize = 100_000;
const EVENTS_OF_MANY: usize = 1_000;
/// Default number of subscribers that return together.
const MANY: usize = 1_000;
/// Default of plain events per second.
const PLAIN_RATE: u32 = 20;

pub(crate) fn measure_one(options: &Options, report: &mut Report) -> Result<(), Failure> {
    for events in options.events_or(&[EVENTS_OF_ONE]) {
        measure(1, *events, &Options { rooms: 1, ..options.clone() }, report)?;
    }
    Ok(())
}

pub(crate) fn measure_many(options: &Options, report: &mut Report) -> Result<(), Failure> {
    for events in options.events_or(&[EVENTS_OF_MANY]) {
        measure(options.connections.unwrap_or(MANY), *events, options, report)?;
    }
    Ok(())
}

/// Each room gets `events`, and each subscriber is in one room.
fn measure(subscribers: usize, events: usize, options: &Options, report: &mut Report) -> Result<(), Failure> {
    let Options { members, payload, rooms, .. } = *options;
    let plain = Options { rooms: 1, rate: Some(options.rate.unwrap_or(PLAIN_RATE)), ..options.clone() };
    process::allow_descriptors(members + 1 + subscribers)?;
    let server = durable::start(&plain)?;
    subscribers::create(&server, subscribers, rooms)?;
    subscribers::publish(&server, events * rooms, rooms, payload, true)?;

    let first = members + 1;
    let member = move |index| (index < members).then(|| "hall-0".to_owned());
    let subscriber = move |index: usize| index.checked_sub(first).map(subscribers::auth);
    let mut fleet = Fleet::of(member, subscriber)?;
    fleet.grow(&[server.address], first)?;
    let returning = Returning::new(first, subscribers, events * rooms, rooms, payload);
    let mut load = Beside { plain: Fanout::new(1, &plain), first, other: returning };
    fleet.send(|outgoing| load.plain.start(outgoing))?;
    fleet.run(durable::WARM_UP, &mut load)?;
    load.plain.latencies.take();
    fleet.run(options.measured, &mut load)?;
    let before = load.plain.latencies.take();

    let (start, cpu) = (fleet.sample(), server.cpu()?);
    fleet.start_some(server.address, first + subscribers, subscribers)?;
    fleet.run_until(PATIENCE, &mut load, |load| load.other.is_finished())?;
    let (end, cpu) = (fleet.sample(), server.cpu()?.since(cpu));
    let meanwhile = load.plain.latencies.take();
    load.plain.closing = true;
    fleet.drain(&mut load, |load| load.plain.is_drained())?;

    let interval = end.moment.since(&start.moment);
    let (received, rate) = (load.other.received, plain.rate.unwrap_or_default());
    let name = format!("backlog of {subscribers} × {events}");
    title(&name, format!("{rooms} room(s), {payload} B, {members} members with {rate}/s, {}", options.setting()));
    let per_second = received as f64 / interval.as_secs_f64();
    line("received, acknowledged", format!("{}/s for {} s", grouped(per_second), rounded(interval.as_secs_f64())));
    report::cpu_line(cpu, received, "event, plain ones included", interval);
    report.trust(&start.moment, &end.moment, cpu);
    report.verdict(&name, &load.other.verdict());
    report.verdict(&format!("{name}, plain events"), &load.plain.verdict());
    report.figure(&name, "received, acknowledged", per_second, "/s", None);
    report.latencies("plain events before", "plain events before", &before);
    report.latencies("plain events meanwhile", "plain events meanwhile", &meanwhile);
    if let (Some(before), Some(meanwhile)) = (before.p99, meanwhile.p99) {
        report.figure("plain events meanwhile", "p99 to before", meanwhile / before, "×", None);
    }
    Ok(())
}
