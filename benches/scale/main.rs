//! A million sessions in one process without sockets: memory and time per session, and the cost of
//! a delivery for any number of members; then two workers against one.
//!
//! ```text
//! cargo bench --features bench-internals --bench scale
//! cargo bench --features bench-internals --bench scale -- sessions --sessions 100000
//! ```
//!
//! Sessions and their threads are the hub's own; only their connections are replaced: written bytes
//! are counted and dropped ([`stentor::bench_support::line`]). So the figures exclude the kernel's
//! network stack. Each is CPU time as the kernel counts it per thread, or resident memory. Every
//! delivery is checked: all members, each event once, in order. If one is missing, the run fails.
//!
//! - `options`: the command line. `client`: clients that listen and publish. `fleet`: a server and
//!   its clients. `meter`: CPU time of threads, and memory. `sessions`, `workers`: the two
//!   measurements. `table`: their figures.

mod client;
mod fleet;
mod meter;
mod options;
mod sessions;
mod table;
mod workers;

use std::process::ExitCode;

use clap::Parser;
use meter::Others;
use options::{Measurement, Options};
use table::Table;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Reason why a run stopped, as a sentence for the user. No run recovers from an error.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    if std::env::args().len() < 2 {
        // `cargo test --all-targets` runs benches too, without the `--bench` that `cargo bench`
        // passes.
        println!("scale: nothing measured; run `cargo bench --features bench-internals --bench scale`");
        return ExitCode::SUCCESS;
    }
    let mut table = Table::default();
    let options = Options::parse();
    let outcome: Result<(), Failure> = actix::System::new().block_on(async {
        let others = Others::watch()?;
        for measurement in &options.measurements {
            match measurement {
                Measurement::Sessions => sessions::measure(&options, &mut table).await?,
                Measurement::Workers => workers::measure(&options, &mut table).await?,
            }
        }
        table.add("other processes", format!("{:.0} % of a core", 100.0 * others.cores()?));
        Ok(())
    });
    table.print();
    let code = match outcome {
        Ok(()) => 0,
        Err(failure) => {
            eprintln!("scale: {failure}");
            1
        }
    };
    // Exits without returning: dropping a million sessions is no part of the measurement.
    std::process::exit(code)
}
