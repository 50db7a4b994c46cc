//! Four server processes on four ports, as on a machine with four cores. Connections spread over
//! all of them, most are idle, and each server has a room with its publisher. Measures total memory
//! and the cost of a delivery. The servers share one core here, so they delay each other.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::fanout::Fanout;
use crate::figures::{grouped, rounded};
use crate::fleet::Fleet;
use crate::options::Options;
use crate::process::{self, CpuTime, Memory, Server};
use crate::report::{self, Report, line, micros_each, title};

const SERVERS: usize = 4;
/// Connections of all servers together: the maximum for a generator that may open 20 000 files.
const CONNECTIONS: usize = 19_000;
const ROOM_MEMBERS: usize = 100;
const WARM_UP: Duration = Duration::from_secs(2);
/// Time between the last ack and the reading of memory.
const QUIET: Duration = Duration::from_secs(1);

pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), Failure> {
    if options.running().is_some() {
        return Err("side-by-side starts its servers itself: expected no --url".into());
    }
    let options = Options { rooms: SERVERS, ..options.clone() };
    let audience = SERVERS * options.members;
    let busy = audience + SERVERS;
    let connections = options.connections.unwrap_or(CONNECTIONS).max(busy);
    process::allow_descriptors(connections)?;
    let servers = (0..SERVERS)
        .map(|_| Server::under_test(&options, process::PING_INTERVAL))
        .collect::<Result<Vec<Server>, Failure>>()?;
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();

    // Connections go to the servers in turn: members of room r and publisher r to server r, other
    // clients to a room of a hundred on the same server.
    let room = move |index: usize| match index {
        member if member < audience => Some(format!("hall-{}", member % SERVERS)),
        publisher if publisher < busy => None,
        idle => Some(format!("room-{}-{}", idle % SERVERS, idle / (SERVERS * ROOM_MEMBERS))),
    };
    let (empty, started) = (memory_of(&servers)?, Instant::now());
    let mut fleet = Fleet::empty(room)?;
    fleet.grow(&addresses, connections)?;
    let opened = started.elapsed();
    fleet.rest(QUIET)?;
    let settled = memory_of(&servers)?;

    let mut load = Fanout::separate(&options);
    fleet.send(|outgoing| load.start(outgoing))?;
    fleet.run(WARM_UP, &mut load)?;
    load.latencies.take();
    let (start, cpu, delivered) = (fleet.sample(), cpu_of(&servers)?, load.delivered);
    fleet.run(options.measured, &mut load)?;
    let (end, cpu, delivered) = (fleet.sample(), cpu_of(&servers)?.since(cpu), load.delivered - delivered);
    let latencies = load.latencies.take();
    load.closing = true;
    fleet.drain(&mut load, Fanout::is_drained)?;

    let name = format!("side by side, {SERVERS} servers");
    let interval = end.moment.since(&start.moment);
    let pace = match options.rate {
        Some(rate) => format!("{rate} publishes/s"),
        None => format!("{} outstanding each", options.window),
    };
    title(
        &name,
        format!(
            "{connections} connections, in each server a room of {}, {} B, {pace}, {:.1} s, each {}",
            options.members,
            options.payload,
            interval.as_secs_f64(),
            options.setting()
        ),
    );
    let each = (settled.resident_kib as f64 - empty.resident_kib as f64) / connections as f64;
    line("connected", format!("in {} s", rounded(opened.as_secs_f64())));
    line("memory when empty", memory(empty));
    line("memory once settled", format!("{}; {} KiB a connection", memory(settled), rounded(each)));
    line("memory under load", memory(memory_of(&servers)?));
    let per_second = delivered as f64 / interval.as_secs_f64();
    line("deliveries", format!("{}/s", grouped(per_second)));
    report::cpu_line(cpu, delivered, "delivery", interval);
    report.trust(&start.moment, &end.moment, cpu);
    report.verdict(&name, &load.verdict());
    report.figure(&name, "resident when empty", empty.resident_kib as f64 / 1024.0, "MiB", None);
    report.figure(&name, "resident once settled", settled.resident_kib as f64 / 1024.0, "MiB", None);
    report.figure(&name, "resident per connection", each, "KiB", None);
    report.figure(&name, "deliveries", per_second, "/s", None);
    report.figure(&name, "CPU per delivery", micros_each(cpu.total(), delivered), "µs", None);
    let subject = if options.rate.is_some() { "due to each member" } else { "publish to last member" };
    report.latencies(&name, subject, &latencies);
    Ok(())
}

fn cpu_of(servers: &[Server]) -> Result<CpuTime, Failure> {
    let mut all = servers[0].cpu()?;
    for server in &servers[1..] {
        let one = server.cpu()?;
        (all.user, all.kernel) = (all.user + one.user, all.kernel + one.kernel);
        // The CPU time of one server is no noise for the others.
        all.others = all.others.saturating_sub(one.total());
    }
    Ok(all)
}

/// Sum over all servers; shared memory is counted once per server.
fn memory_of(servers: &[Server]) -> Result<Memory, Failure> {
    servers.iter().try_fold(Memory { resident_kib: 0, private_kib: 0 }, |sum, server| {
        let one = server.memory()?;
        let (resident_kib, private_kib) = (sum.resident_kib + one.resident_kib, sum.private_kib + one.private_kib);
        Ok(Memory { resident_kib, private_kib })
    })
}

fn memory(memory: Memory) -> String {
    format!("{} KiB, {} private", grouped(memory.resident_kib as f64), grouped(memory.private_kib as f64))
}
