//! The command line of the load generator.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{RangedU64ValueParser, TypedValueParser};
use clap::{Parser, ValueEnum};

use crate::Failure;
use crate::payload;
use crate::target::{Recovery, Target};

/// Default number of connections of loads that open many.
pub(crate) const CONNECTIONS: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Load {
    /// Rooms whose members get what publishers send.
    Fanout,
    /// Events that are answered by acks.
    Echo,
    /// Echo over long polling.
    Polling,
    /// Connections that only answer pings.
    Idle,
    /// Clients that connect, join, leave and disconnect.
    Churn,
    /// All clients reconnect together.
    Storm,
    /// Clients that resume and receive missed events.
    Resume,
    /// Members of a room beside clients that read too slowly or request too much.
    NoisyNeighbours,
    /// 1, 8, 64 and 512 publishers that wait until their durable events are stored.
    Durable,
    /// Plain events with and without 10 000 durable events a second beside them.
    DurableNeighbours,
    /// One subscriber that returns to 100 000 durable events, beside plain ones.
    Backlog,
    /// 1 000 subscribers that return to 1 000 durable events each, beside plain ones.
    Backlogs,
    /// Restarts with 100 000 and 1 000 000 stored events.
    Restart,
    /// A restart with 100 000 absent subscribers.
    Absent,
    /// Idle connections, in growing numbers.
    Slope,
    /// Several server processes.
    SideBySide,
    /// Fanout, echo, polling, idle, churn and storm.
    All,
    /// All servers under four loads, into benches/RESULTS.md.
    Compare,
    /// All servers under all loads, into benches/RESULTS.md.
    CompareAll,
}

/// Value of the server's setting `queue`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum QueueMode {
    Off,
    Memory,
    Disk,
}

impl QueueMode {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }
}

/// A server that runs already and keeps running.
#[derive(Clone, Copy)]
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) pid: i32,
}

/// Drives a server process over loopback and reports the cost of an event.
///
/// The server is $STENTOR_BIN, or `stentor` in the target directory of this bench. A server that
/// already runs is not pinned: start it under `taskset -c 0`, and for idle with a ping interval of
/// 10 s or less.
#[derive(Clone, Parser)]
#[command(name = "load", bin_name = "cargo bench --bench load --", args_override_self = true)]
pub(crate) struct Options {
    /// Loads to run, one after the other
    #[arg(value_enum, default_values_t = [Load::Fanout, Load::Echo, Load::Idle])]
    pub(crate) loads: Vec<Load>,
    /// Server to measure
    #[arg(long, value_enum, default_value_t = Target::Stentor)]
    pub(crate) server: Target,
    /// Recovery mode of the server
    #[arg(long, value_enum, default_value_t = Recovery::Off)]
    pub(crate) recovery: Recovery,
    /// Worker threads of the server
    #[arg(long, default_value_t = 1, value_parser = between(1, 64))]
    pub(crate) workers: usize,
    /// Seconds of each measured interval, after a warm-up that is not counted
    #[arg(long = "seconds", default_value = "8", value_parser = between(1, 600).map(|seconds| Duration::from_secs(seconds as u64)))]
    pub(crate) measured: Duration,
    /// Unacknowledged publishes of each publisher; 1 is the lock-step in which batching is hardest
    #[arg(long, default_value_t = 1, value_parser = between(1, 1024))]
    pub(crate) window: usize,
    /// Connections of the loads that open many, or that resume, and subscribers; each load has its
    /// own default
    #[arg(long, value_parser = between(100, 1_000_000))]
    pub(crate) connections: Option<usize>,
    /// Members of each room of the fan-out; with one member, the cost of a direct emit
    #[arg(long, default_value_t = 1_000, value_parser = between(1, 10_000))]
    pub(crate) members: usize,
    /// Rooms of the fan-out, and of the subscribers of backlogs and absent
    #[arg(long, default_value_t = 1, value_parser = between(1, 1_000))]
    pub(crate) rooms: usize,
    /// Publishers of the fan-out; one measurement for each number
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4], value_parser = between(1, 99))]
    pub(crate) publishers: Vec<usize>,
    /// Bytes of an event's argument
    #[arg(long, default_value_t = 100, value_parser = between(payload::DIGITS, payload::BYTES_MAX))]
    pub(crate) payload: usize,
    /// Durable events of each room of the backlog and backlogs, and of restart; one measurement for
    /// each number
    #[arg(long, value_delimiter = ',', value_parser = between(1, 10_000_000))]
    pub(crate) events: Vec<usize>,
    /// Queue of the server under the idle load; one measurement for each
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) queue: Vec<QueueMode>,
    /// Bytes of events that each resuming client has missed
    #[arg(long, default_value_t = 2_000, value_parser = between(1, 100_000_000))]
    pub(crate) pending: usize,
    /// Publishes per second of all publishers together, in an open loop
    #[arg(long, value_parser = between(1, 1_000_000).map(|rate| rate as u32))]
    pub(crate) rate: Option<u32>,
    /// Unacknowledged events of one connection of the echo; one measurement for each number
    #[arg(long, value_delimiter = ',', default_values = ["1", "16"], value_parser = between(1, 1024).map(|number| number as u32))]
    pub(crate) in_flight: Vec<u32>,
    /// Number of runs of each measurement in a comparison
    #[arg(long, default_value_t = 3, value_parser = between(1, 100))]
    pub(crate) repetitions: usize,
    /// File for a perf record of the server during the measured interval of a fan-out or an echo
    #[arg(long)]
    pub(crate) profile: Option<PathBuf>,
    /// Address of a server that already runs, such as 127.0.0.1:3000
    #[arg(long, requires = "pid", value_parser = address)]
    pub(crate) url: Option<SocketAddr>,
    /// Process id of the server at --url, for its CPU time
    #[arg(long, requires = "url", value_parser = between(1, i32::MAX as usize).map(|pid| pid as i32))]
    pub(crate) pid: Option<i32>,
    /// False if the idle load does not wait for pings.
    #[arg(skip = true)]
    pub(crate) heartbeat: bool,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

impl Options {
    /// Applies options that imply or exclude others.
    pub(crate) fn validate(mut self) -> Result<Self, Failure> {
        if self.server == Target::StentorDisk {
            self.recovery = Recovery::Disk;
        }
        if self.profile.is_some() && !self.loads.iter().all(|load| matches!(load, Load::Fanout | Load::Echo)) {
            return Err("--profile: expected fanout or echo, which measure one thing at a time".into());
        }
        Ok(self)
    }

    /// Numbers of events, or the default ones of a load.
    pub(crate) fn events_or<'a>(&'a self, default: &'a [usize]) -> &'a [usize] {
        if self.events.is_empty() { default } else { &self.events }
    }

    pub(crate) fn running(&self) -> Option<Running> {
        self.url.zip(self.pid).map(|(address, pid)| Running { address, pid })
    }

    /// Settings of a measurement, for the title of its block.
    pub(crate) fn setting(&self) -> String {
        match self.pid {
            Some(pid) => format!("recovery {}, process {pid}", self.recovery.word()),
            None if self.server.is_stentor() => {
                format!("stentor, recovery {}, workers {}", self.recovery.word(), self.workers)
            }
            None => self.server.word().to_owned(),
        }
    }

    /// The budget of our own server; None for others.
    pub(crate) fn budget(&self, most: f64) -> Option<f64> {
        self.server.is_stentor().then_some(most)
    }
}

fn between(least: usize, most: usize) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(least as u64..=most as u64)
}

fn address(text: &str) -> Result<SocketAddr, std::net::AddrParseError> {
    text.trim_start_matches("http://").trim_end_matches('/').parse()
}
