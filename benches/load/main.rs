//! The load generator: drives a real server process over loopback websockets and reports the cost
//! of an event.
//!
//! ```text
//! cargo bench --bench load -- fanout --recovery memory
//! cargo bench --bench load -- echo --server node
//! ```
//!
//! One thread, one poll, a few dozen bytes per connection: the generator shares the machine with
//! the server, so its own cost distorts the figures. It checks everything it receives, and exits
//! with an error if one event was lost, repeated or out of order. A figure over its budget is
//! marked and does not fail the run.
//!
//! - `options`: the command line.
//! - `target`: the servers that can be measured. `process`: the server under test and its figures
//!   from /proc.
//! - `wire`: bytes of websocket handshake and frames. `http`: bytes of long polling. `connection`:
//!   one client. `fleet`: all clients. `turns`: the poll.
//! - `fanout`, `echo`, `polling`, `idle`, `churn`, `storm`, `resume`, `noisy_neighbours`,
//!   `durable`, `backlog`, `restart`, `slope`, `side_by_side`: the loads. `subscribers`: those of
//!   the queue. `payload`: content of events. `latency`: quantiles. `profile`: a perf record of the
//!   server.
//! - `report`: figures and their budgets. `figures`: formatting of numbers.
//! - `compare`: all servers under all loads. `trial`: those loads and their results. `results`,
//!   `chart`: the written results.

mod backlog;
mod chart;
mod churn;
mod compare;
mod connection;
mod durable;
mod echo;
mod fanout;
mod figures;
mod fleet;
mod http;
mod idle;
mod latency;
mod noisy_neighbours;
mod options;
mod payload;
mod polling;
mod process;
mod profile;
mod report;
mod restart;
mod results;
mod resume;
mod side_by_side;
mod slope;
mod storm;
mod subscribers;
mod target;
mod trial;
mod turns;
mod wire;

use std::process::ExitCode;

use clap::Parser;
use options::{Load, Options};
use report::Report;

/// Reason why a run stopped, as a sentence for the user. No run recovers from an error.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    if std::env::args().len() < 2 {
        // `cargo test --all-targets` runs benches too, without the `--bench` that `cargo bench`
        // passes.
        println!("load: nothing measured; run `cargo bench --bench load`");
        return ExitCode::SUCCESS;
    }
    let mut report = Report::default();
    let outcome = Options::parse().validate().and_then(|options| run(&options, &mut report));
    report.print_summary();
    if let Err(failure) = outcome {
        eprintln!("load: {failure}");
        return ExitCode::FAILURE;
    }
    if report.is_broken() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn run(options: &Options, report: &mut Report) -> Result<(), Failure> {
    for load in &options.loads {
        match load {
            Load::Fanout => fanout::measure(options, report)?,
            Load::Echo => echo::measure(options, report)?,
            Load::Polling => polling::measure(options, report)?,
            Load::Idle => idle::measure(options, report)?,
            Load::Churn => churn::measure(options, report)?,
            Load::Storm => storm::measure(options, report)?,
            Load::Resume => resume::measure(options, report)?,
            Load::NoisyNeighbours => noisy_neighbours::measure(options, report)?,
            Load::Durable => durable::measure(options, report)?,
            Load::DurableNeighbours => durable::measure_neighbours(options, report)?,
            Load::Backlog => backlog::measure_one(options, report)?,
            Load::Backlogs => backlog::measure_many(options, report)?,
            Load::Restart => restart::measure(options, report)?,
            Load::Absent => restart::measure_absent(options, report)?,
            Load::Slope => slope::measure(options, report)?,
            Load::SideBySide => side_by_side::measure(options, report)?,
            Load::All => {
                use Load::{Churn, Echo, Fanout, Idle, Polling, Storm};
                let loads = vec![Fanout, Echo, Polling, Idle, Churn, Storm];
                run(&Options { loads, ..options.clone() }, report)?;
            }
            Load::Compare => compare::run_all(false, options, run)?,
            Load::CompareAll => compare::run_all(true, options, run)?,
        }
    }
    Ok(())
}
