//! Short connections: connect, join, leave, disconnect, close; 64 at a time. Measures the cost of
//! one and whether its memory is released.

use std::time::{Duration, Instant};

use crate::Failure;
use crate::figures::{grouped, rounded};
use crate::fleet::Fleet;
use crate::options::Options;
use crate::process::{self, Server};
use crate::report::{Report, line, micros_each, title};

const ROOMS: usize = 8;
const WARM_UP: Duration = Duration::from_secs(1);
/// Time for the server's remaining work, between the last close and the reading of its figures.
const QUIET: Duration = Duration::from_millis(500);

pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), Failure> {
    process::allow_descriptors(1_000)?;
    let server = Server::under_test(options, process::PING_INTERVAL)?;
    let visit_for = |time: Duration| -> Result<(u64, Duration), Failure> {
        let (start, mut visits) = (Instant::now(), 0);
        while start.elapsed() < time {
            visits += Fleet::connect_and_leave(server.address, |index| Some(format!("hall-{}", index % ROOMS)))?;
        }
        let took = start.elapsed();
        std::thread::sleep(QUIET);
        Ok((visits, took))
    };
    visit_for(WARM_UP)?;
    let (cpu, memory) = (server.cpu()?, server.memory()?);
    let (visits, took) = visit_for(options.measured)?;
    let cpu = server.cpu()?.since(cpu);

    title("churn", format!("connect, join, leave, disconnect, {:.1} s, {}", took.as_secs_f64(), options.setting()));
    let per_second = visits as f64 / took.as_secs_f64();
    let each = micros_each(cpu.total(), visits);
    line("visits", format!("{}/s, {} µs CPU each", grouped(per_second), rounded(each)));
    let (before, after) = (memory.resident_kib, server.memory()?.resident_kib);
    line("resident", format!("{before} KiB after the warm-up, {after} KiB at the end, no connection left"));
    report.noise(cpu, took + QUIET);
    report.figure("churn", "visits", per_second, "/s", None);
    report.figure("churn", "CPU per visit", each, "µs", None);
    Ok(())
}
