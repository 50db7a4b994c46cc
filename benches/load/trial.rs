//! The loads of a comparison, and the results of each server under them.

use crate::options::{Load, Options};
use crate::report::NOISY;
use crate::target::Target;

pub(crate) struct Trial {
    pub(crate) heading: &'static str,
    /// Name and unit of the figure that is the cost of one operation.
    pub(crate) cost: &'static str,
    pub(crate) unit: &'static str,
    /// Name of the figure for operations per second.
    pub(crate) pace: Option<&'static str>,
    /// True if `make compare` has it too.
    pub(crate) is_quick: bool,
    pub(crate) load: Load,
    pub(crate) set: fn(&mut Options),
}

pub(crate) struct Measured {
    pub(crate) cost: f64,
    pub(crate) pace: Option<f64>,
    /// p50, p99, p99.9 in milliseconds, where there were enough samples.
    pub(crate) latency: [Option<f64>; 3],
    /// Use of the machine by other processes, as a share of a core.
    pub(crate) others: f64,
    pub(crate) is_saturated: bool,
}

pub(crate) struct Cell {
    pub(crate) server: Target,
    pub(crate) trial: &'static Trial,
    pub(crate) measured: Vec<Measured>,
    /// Faults found by the checks, or the reason for a missing figure.
    pub(crate) failures: Vec<String>,
}

const MICROS: &str = "µs CPU";
const DELIVERIES: Option<&str> = Some("deliveries");

#[rustfmt::skip]
pub(crate) static TRIALS: [Trial; 13] = [
    Trial { heading: "fan-out 1 × 1000, 100 B, 1 publisher", cost: "CPU per delivery", unit: MICROS, pace: DELIVERIES,
        is_quick: true, load: Load::Fanout, set: |options| options.publishers = vec![1] },
    Trial { heading: "fan-out 1 × 1000, 100 B, 4 publishers", cost: "CPU per delivery", unit: MICROS, pace: DELIVERIES,
        is_quick: true, load: Load::Fanout, set: |options| options.publishers = vec![4] },
    Trial { heading: "fan-out 1 × 1000, 4 KiB, 1 publisher", cost: "CPU per delivery", unit: MICROS, pace: DELIVERIES,
        is_quick: false, load: Load::Fanout, set: |options| (options.publishers, options.payload) = (vec![1], 4096) },
    Trial { heading: "fan-out 1 × 1000, 4 KiB, 4 publishers", cost: "CPU per delivery", unit: MICROS, pace: DELIVERIES,
        is_quick: false, load: Load::Fanout, set: |options| (options.publishers, options.payload) = (vec![4], 4096) },
    Trial { heading: "fan-out 100 × 10, 100 B, 1 publisher", cost: "CPU per delivery", unit: MICROS, pace: DELIVERIES,
        is_quick: false, load: Load::Fanout,
        set: |options| (options.publishers, options.rooms, options.members) = (vec![1], 100, 10) },
    Trial { heading: "fan-out 100 × 10, 100 B, 4 publishers", cost: "CPU per delivery", unit: MICROS, pace: DELIVERIES,
        is_quick: false, load: Load::Fanout,
        set: |options| (options.publishers, options.rooms, options.members) = (vec![4], 100, 10) },
    Trial { heading: "open loop: 40 publishes/s to 1000, 4 publishers", cost: "CPU per delivery", unit: MICROS, pace: DELIVERIES,
        is_quick: false, load: Load::Fanout, set: |options| (options.publishers, options.rate) = (vec![4], Some(40)) },
    Trial { heading: "echo, 1 in flight", cost: "CPU per ack", unit: MICROS, pace: Some("acks"),
        is_quick: false, load: Load::Echo, set: |options| options.in_flight = vec![1] },
    Trial { heading: "echo, 16 in flight", cost: "CPU per ack", unit: MICROS, pace: Some("acks"),
        is_quick: true, load: Load::Echo, set: |options| options.in_flight = vec![16] },
    Trial { heading: "polling echo", cost: "CPU per ack", unit: MICROS, pace: Some("acks"),
        is_quick: false, load: Load::Polling, set: |_| {} },
    Trial { heading: "connect + join + leave", cost: "CPU per visit", unit: MICROS, pace: Some("visits"),
        is_quick: false, load: Load::Churn, set: |_| {} },
    Trial { heading: "reconnect storm of 5000", cost: "CPU per return", unit: MICROS, pace: Some("returns"),
        is_quick: false, load: Load::Storm, set: |options| options.connections = Some(5_000) },
    Trial { heading: "idle connection, 10 000 of them", cost: "resident per connection", unit: "KiB resident", pace: None,
        is_quick: true, load: Load::Idle, set: |options| (options.connections, options.heartbeat) = (Some(10_000), false) },
];

impl Trial {
    /// The operation of the cost: a delivery or an ack.
    pub(crate) fn each(&self) -> &'static str {
        self.cost.rsplit(' ').next().unwrap_or_default()
    }
}

impl Cell {
    /// None if a check failed in any run: there is no figure to compare then.
    pub(crate) fn median(&self, of: impl Fn(&Measured) -> Option<f64>) -> Option<f64> {
        let mut values: Vec<f64> = self.measured.iter().filter_map(of).collect();
        values.sort_by(f64::total_cmp);
        let middle = *values.get(values.len() / 2)?;
        self.failures.is_empty().then_some(middle)
    }

    /// The cost in the run in which other processes used least of the machine.
    pub(crate) fn quietest(&self) -> Option<f64> {
        let quietest = self.measured.iter().min_by(|one, other| one.others.total_cmp(&other.others))?;
        Some(quietest.cost)
    }

    pub(crate) fn noisy(&self) -> usize {
        self.measured.iter().filter(|measured| measured.others > NOISY).count()
    }

    pub(crate) fn saturated(&self) -> usize {
        self.measured.iter().filter(|measured| measured.is_saturated).count()
    }
}

/// The cell of a server under a load.
pub(crate) fn cell<'a>(cells: &'a [Cell], server: Target, trial: &Trial) -> Option<&'a Cell> {
    cells.iter().find(|cell| cell.server == server && std::ptr::eq(cell.trial, trial))
}

/// The cost as a multiple of the cost of the bare Bun server.
pub(crate) fn ratio(cells: &[Cell], cell: &Cell) -> Option<f64> {
    let of = |cell: &Cell| cell.median(|measured| Some(measured.cost));
    Some(of(cell)? / of(self::cell(cells, Target::Bare, cell.trial)?)?)
}
