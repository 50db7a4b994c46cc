//! A million sessions in one process, without sockets: what a session takes of memory and time, and what a delivery costs,
//! however many hear it; then two workers against one.
//!
//! ```text
//! cargo bench --features bench-internals --bench scale
//! cargo bench --features bench-internals --bench scale -- sessions --sessions 100000
//! ```
//!
//! Sessions are the hub's own, on threads of the hub's own; only their connections are not: what is written to one is counted and
//! forgotten ([`stentor::bench_support::line`]). So no figure here has the kernel's part in it, and every figure is CPU time as the
//! kernel counts it for each thread, or resident memory. Every delivery is checked: all members, each event once, in order. If
//! one is missing, the run fails.
//!
//! - `options`: the command line. `client`: what listens and publishes. `fleet`: a server and its clients. `meter`: CPU time of
//!   threads, and memory. `sessions`, `workers`: the two measurements. `table`: their figures.

mod client;
mod fleet;
mod meter;
mod options;
mod sessions;
mod table;
mod workers;

use std::process::ExitCode;

use meter::Others;
use options::Options;
use table::Table;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What stopped a run: a sentence for the person who started it. Nothing here recovers from anything.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty() {
        // `cargo test --all-targets` runs benches too, without the `--bench` that `cargo bench` passes.
        println!("scale: nothing measured; run `cargo bench --features bench-internals --bench scale`");
        return ExitCode::SUCCESS;
    }
    let mut table = Table::default();
    let outcome = Options::parse(&arguments).and_then(|options| {
        actix::System::new().block_on(async {
            let others = Others::watch()?;
            if options.sessions_wanted {
                sessions::measure(&options, &mut table).await?;
            }
            if options.workers_wanted {
                workers::measure(&options, &mut table).await?;
            }
            table.add("others on this machine", format!("{:.0} % of a core", 100.0 * others.cores()?));
            Ok(())
        })
    });
    table.print();
    let code = match outcome {
        Ok(()) => 0,
        Err(failure) => {
            eprintln!("scale: {failure}");
            1
        }
    };
    // Not by returning: to take a million sessions down in order is no part of the measurement.
    std::process::exit(code)
}
