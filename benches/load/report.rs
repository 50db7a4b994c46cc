//! Figures and their budgets: a block at the end of each load, and one table at the end of the run.

use std::fmt::Display;
use std::time::Duration;

use crate::figures::{grouped, rounded};
use crate::latency::Quantiles;
use crate::process::CpuTime;
use crate::turns::Moment;

/// Share of busy wall time above which the generator limits the pace.
const SATURATED: f64 = 0.95;
/// Share of a core above which other processes affect the figures.
pub(crate) const NOISY: f64 = 0.1;
pub(crate) const P50: &str = "p50";
pub(crate) const P99: &str = "p99";
pub(crate) const P999: &str = "p99.9";

#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    broken: Vec<String>,
    /// True if the generator limited the pace of some load.
    pub(crate) is_saturated: bool,
    /// CPU use of other processes on this machine, as a share of a core: the maximum of all loads.
    pub(crate) others: f64,
}

struct Row {
    load: String,
    figure: &'static str,
    value: f64,
    unit: String,
    budget: Option<(f64, bool)>,
}

/// Counts of a load's checks; a count other than `checked` that is not zero fails the run.
pub(crate) struct Verdict {
    pub(crate) checked: u64,
    pub(crate) faults: Vec<(u64, &'static str)>,
}

impl Report {
    /// A line of the summary. `budget` is a maximum in the unit of the value.
    pub(crate) fn figure(&mut self, load: &str, figure: &'static str, value: f64, unit: &str, budget: Option<f64>) {
        self.rows.push(Row {
            load: load.to_owned(),
            figure,
            value,
            unit: unit.to_owned(),
            budget: budget.map(|budget| (budget, value <= budget)),
        });
    }

    /// Prints quantiles of durations, and adds them to the summary.
    pub(crate) fn latencies(&mut self, load: &str, subject: &str, quantiles: &Quantiles) {
        line(subject, quantiles);
        let figures = [(P50, quantiles.p50), (P99, quantiles.p99), (P999, quantiles.p999)];
        for (name, value) in figures {
            if let Some(value) = value {
                self.figure(load, name, value, "ms", None);
            }
        }
    }

    pub(crate) fn value(&self, figure: &str) -> Option<f64> {
        self.rows.iter().find(|row| row.figure == figure).map(|row| row.value)
    }

    /// Reports whether the generator kept up, and whether other processes used the machine.
    pub(crate) fn trust(&mut self, start: &Moment, end: &Moment, cpu: CpuTime) {
        let busy = end.busy_since(start);
        self.is_saturated |= busy > SATURATED;
        let warning = if busy > SATURATED { ": SATURATED, the throughput is the generator's" } else { "" };
        line("generator", format!("{:.0} % busy{warning}", 100.0 * busy));
        self.noise(cpu, end.since(start));
    }

    /// Reports the use of the machine by others, for a load whose generator sleeps.
    pub(crate) fn noise(&mut self, cpu: CpuTime, interval: Duration) {
        let others = cpu.others.as_secs_f64() / interval.as_secs_f64();
        self.others = self.others.max(others);
        let warning = if others > NOISY { ": NOISY, measure again" } else { "" };
        line("other processes", format!("{:.0} % of a core{warning}", 100.0 * others));
    }

    /// Faults of each load.
    pub(crate) fn broken(&self) -> &[String] {
        &self.broken
    }

    /// Prints a verdict; a bad one changes the exit code.
    pub(crate) fn verdict(&mut self, load: &str, verdict: &Verdict) {
        let faults: Vec<String> =
            verdict.faults.iter().map(|(count, kind)| format!("{} {kind}", grouped(*count as f64))).collect();
        let faults = faults.join(", ");
        let bad = verdict.faults.iter().any(|(count, _)| *count > 0);
        let mark = if bad { "  <-- BROKEN" } else { "" };
        line("checked", format!("{} packets: {faults}{mark}", grouped(verdict.checked as f64)));
        if bad {
            let found = verdict.faults.iter().filter(|(count, _)| *count > 0);
            let found: Vec<String> = found.map(|(count, kind)| format!("{} {kind}", grouped(*count as f64))).collect();
            self.broken.push(format!("{load}: {}", found.join(", ")));
        }
    }

    pub(crate) fn is_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    pub(crate) fn print_summary(&self) {
        if !self.rows.is_empty() {
            println!("\n{:<44} {:<30} {:>16}   budget", "load", "figure", "value");
        }
        for row in &self.rows {
            let budget = match row.budget {
                Some((budget, kept)) => {
                    format!("≤ {} {}", rounded(budget), if kept { "ok" } else { "OVER" })
                }
                None => String::new(),
            };
            let value = format!("{} {}", rounded(row.value), row.unit);
            println!("{:<44} {:<30} {value:>16}   {budget}", row.load, row.figure);
        }
        for broken in &self.broken {
            println!("BROKEN {broken}");
        }
    }
}

pub(crate) fn title(load: &str, facts: impl Display) {
    println!("\n{load}: {facts}");
}

pub(crate) fn line(subject: &str, facts: impl Display) {
    println!("  {subject:<26} {facts}");
}

/// Prints the server's CPU time divided by `operations`, called `each`, and as a share of a core in
/// `interval`.
pub(crate) fn cpu_line(cpu: CpuTime, operations: u64, each: &str, interval: Duration) {
    line(
        "server CPU",
        format!(
            "{} µs per {each}: user {}, kernel {}; {:.0} % of a core",
            rounded(micros_each(cpu.total(), operations)),
            rounded(micros_each(cpu.user, operations)),
            rounded(micros_each(cpu.kernel, operations)),
            100.0 * cpu.total().as_secs_f64() / interval.as_secs_f64()
        ),
    );
}

pub(crate) fn micros_each(time: Duration, operations: u64) -> f64 {
    time.as_secs_f64() * 1e6 / operations.max(1) as f64
}
