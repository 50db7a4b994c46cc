//! The command line of the scale bench.

use clap::builder::RangedU64ValueParser;
use clap::{Parser, ValueEnum};
use stentor::Recovery;

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Measurement {
    /// Memory and CPU per session
    Sessions,
    /// Several workers against one
    Workers,
}

/// Measures a million sessions in this process, without sockets.
#[derive(Parser)]
#[command(name = "scale", bin_name = "cargo bench --features bench-internals --bench scale --")]
pub(crate) struct Options {
    /// Measurements to run
    #[arg(value_enum, default_values_t = [Measurement::Sessions, Measurement::Workers])]
    pub(crate) measurements: Vec<Measurement>,
    /// Number of sessions
    #[arg(long, default_value_t = 1_000_000, value_parser = at_least(1_000))]
    pub(crate) sessions: usize,
    /// Worker threads of the sessions
    #[arg(long, default_value_t = 1, value_parser = at_least(1))]
    pub(crate) workers: usize,
    /// Worker threads that are compared with one
    #[arg(long, default_value_t = 2, value_parser = at_least(2))]
    pub(crate) against: usize,
    /// Recovery mode of the server: off or memory
    #[arg(long, default_value = "off", value_parser = recovery)]
    pub(crate) recovery: Recovery,
    /// Approximate number of deliveries to each size of room
    #[arg(long, default_value_t = 2_000_000, value_parser = at_least(1))]
    pub(crate) deliveries: usize,
    /// Seconds of each turn of the comparison
    #[arg(long, default_value_t = 2, value_parser = at_least(1))]
    pub(crate) seconds: usize,
    /// Turns of each side of the comparison
    #[arg(long, default_value_t = 5, value_parser = at_least(1))]
    pub(crate) repetitions: usize,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

fn at_least(least: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(least..)
}

fn recovery(text: &str) -> Result<Recovery, &'static str> {
    match text {
        "off" => Ok(Recovery::off()),
        "memory" => Ok(Recovery::memory()),
        _ => Err("expected off or memory"),
    }
}
