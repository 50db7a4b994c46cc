//! All connections break together, and all clients reconnect together as new clients. Measures the
//! time until the last one is in its room again, and the cost for the server.

use std::time::Instant;

use crate::Failure;
use crate::figures::{grouped, rounded};
use crate::fleet::Fleet;
use crate::options::{CONNECTIONS, Options};
use crate::process::{self, Server};
use crate::report::{Report, line, micros_each, title};

const ROOM_MEMBERS: usize = 100;
/// Maximum number of clients that reconnect at one time.
const STORM: usize = 1_000;

pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), Failure> {
    let count = options.connections.unwrap_or(CONNECTIONS);
    process::allow_descriptors(2 * count)?;
    let server = Server::under_test(options, process::PING_INTERVAL)?;
    let rooms = count.div_ceil(ROOM_MEMBERS);
    let room = move |index| Some(format!("hall-{}", index % rooms));
    let fleet = Fleet::open(server.address, count, room)?;
    let (start, cpu) = (Instant::now(), server.cpu()?);
    drop(fleet);
    let _fleet = Fleet::open_with_concurrency(server.address, count, STORM, room)?;
    let (took, cpu) = (start.elapsed(), server.cpu()?.since(cpu));

    let name = format!("storm {count}");
    title(&name, format!("all reset and reconnecting together, {STORM} at a time, {}", options.setting()));
    let (seconds, each) = (took.as_secs_f64(), micros_each(cpu.total(), count as u64));
    line("until the last has reconnected", format!("{} s, {}/s", rounded(seconds), grouped(count as f64 / seconds)));
    line("server CPU", format!("{} µs per return", rounded(each)));
    report.noise(cpu, took);
    report.figure(&name, "CPU per return", each, "µs", None);
    report.figure(&name, "returns", count as f64 / seconds, "/s", None);
    report.figure(&name, "until the last has reconnected", seconds, "s", None);
    Ok(())
}
