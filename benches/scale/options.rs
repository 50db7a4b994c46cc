//! The command line of the scale bench.

use stentor::Recovery;

use crate::Failure;

const USAGE: &str = "usage: cargo bench --features bench-internals --bench scale -- [sessions|workers]… \
[--sessions 1000000] [--workers 1] [--against 2] [--recovery off|memory] [--deliveries 2000000] [--seconds 2] [--repetitions 5]
sessions: memory and CPU of --sessions sessions on --workers workers, --deliveries of them to each size of room. \
workers: --against workers against one, --seconds each, in turns.";

pub(crate) struct Options {
    pub(crate) sessions_wanted: bool,
    pub(crate) workers_wanted: bool,
    pub(crate) sessions: usize,
    /// Threads of the sessions.
    pub(crate) workers: usize,
    /// Workers that are compared with one.
    pub(crate) against: usize,
    pub(crate) recovery: Recovery,
    /// Approximate deliveries to each size of room.
    pub(crate) deliveries: usize,
    /// Duration of each turn of the comparison.
    pub(crate) seconds: f64,
    /// Turns of each side of the comparison.
    pub(crate) repetitions: usize,
}

impl Options {
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, Failure> {
        let mut options = Self {
            sessions_wanted: false,
            workers_wanted: false,
            sessions: 1_000_000,
            workers: 1,
            against: 2,
            recovery: Recovery::off(),
            deliveries: 2_000_000,
            seconds: 2.0,
            repetitions: 5,
        };
        let mut rest = arguments.iter().map(String::as_str);
        while let Some(argument) = rest.next() {
            let (name, inline) = argument.split_once('=').map_or((argument, None), |(name, value)| (name, Some(value)));
            let mut value = || {
                inline
                    .or_else(|| rest.next())
                    .ok_or_else(|| Failure::from(format!("{name}: expected a value\n{USAGE}")))
            };
            match name {
                // Passed by cargo.
                "--bench" => {}
                "--help" => return Err(USAGE.into()),
                "sessions" => options.sessions_wanted = true,
                "workers" => options.workers_wanted = true,
                "--sessions" => options.sessions = number(name, value()?, 1_000)?,
                "--workers" => options.workers = number(name, value()?, 1)?,
                "--against" => options.against = number(name, value()?, 2)?,
                "--deliveries" => options.deliveries = number(name, value()?, 1)?,
                "--repetitions" => options.repetitions = number(name, value()?, 1)?,
                "--seconds" => options.seconds = number(name, value()?, 1)? as f64,
                "--recovery" => {
                    options.recovery = match value()? {
                        "off" => Recovery::off(),
                        "memory" => Recovery::memory(),
                        other => return Err(format!("--recovery {other:?}: expected off or memory\n{USAGE}").into()),
                    }
                }
                _ => return Err(format!("unknown argument {argument:?}\n{USAGE}").into()),
            }
        }
        if !options.sessions_wanted && !options.workers_wanted {
            (options.sessions_wanted, options.workers_wanted) = (true, true);
        }
        Ok(options)
    }
}

fn number(name: &str, text: &str, least: usize) -> Result<usize, Failure> {
    let number = text.replace('_', "").parse().ok().filter(|number| *number >= least);
    number.ok_or_else(|| format!("{name} {text:?}: expected a number of {least} or more\n{USAGE}").into())
}
