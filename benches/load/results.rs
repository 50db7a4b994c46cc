//! The comparison as a page: `benches/RESULTS.md`. Every figure in it comes from the run that wrote
//! it.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::Failure;
use crate::figures::{rounded, shown};
use crate::options::Options;
use crate::target::{Target, command_output};
use crate::trial::{Cell, Measured, Trial, cell, ratio};

pub(crate) struct Run<'a> {
    pub(crate) is_full: bool,
    pub(crate) options: &'a Options,
    pub(crate) repetition: usize,
    pub(crate) took: Duration,
}

pub(crate) fn write(run: &Run<'_>, cells: &[Cell], trials: &[&'static Trial]) -> Result<(), Failure> {
    let mut page = head(run)?;
    let runs: usize = cells.iter().map(|cell| cell.measured.len()).sum();
    let noisy: usize = cells.iter().map(Cell::noisy).sum();
    if noisy > runs / 4 {
        writeln!(
            page,
            "\n**Measured on a busy machine ({noisy} of {runs} runs): compare only ratios, and measure again.**"
        )?;
    }
    page += "\n## Cost of one operation for the server\n\nMedian, (the run with the least use of the machine by others), and \
             the ratio to the bare Bun server. Less is better.\n\n";
    page += &table(
        trials,
        |server, trial| cost(cells, cell(cells, server, trial)?),
        |trial| format!("{}<br>{} per {}", trial.heading, trial.unit, trial.each()),
    )?;
    page += "\n![bar chart](results.svg)\n\n## Operations per second on one core\n\n";
    let pace = |server, trial: &Trial| {
        let pace = cell(cells, server, trial)?.median(|measured| measured.pace)?;
        Some(rounded(pace))
    };
    page += &table(&trials_with(trials, cells, |measured| measured.pace), pace, |trial| trial.heading.to_owned())?;
    page += "\n## Latency\n\np50 / p99 / p99.9 in milliseconds, from a publish to its last delivery, or from an event to its ack: in a closed \
             loop it follows from the throughput. In the open loop to each delivery, from the time when the publish was due. With too few \
             samples, –.\n\n";
    let latency = |server, trial: &Trial| {
        let cell = cell(cells, server, trial)?;
        let quantile = |at: usize| cell.median(|measured| measured.latency[at]);
        quantile(0)?;
        Some([0, 1, 2].map(|at| shown(quantile(at))).join(" / "))
    };
    page +=
        &table(&trials_with(trials, cells, |measured| measured.latency[0]), latency, |trial| trial.heading.to_owned())?;
    page += &reliability(cells, trials)?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/RESULTS.md");
    fs::write(&path, page).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    println!("\ncompare: wrote {} after {} s", path.display(), run.took.as_secs());
    Ok(())
}

fn head(run: &Run<'_>) -> Result<String, Failure> {
    let Run { options, repetition, .. } = run;
    let command = if run.is_full { "make compare-all" } else { "make compare" };
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let changed =
        if command_output("git", &["status", "--porcelain", "--", "src", "benches/load", "benches/peers"]).is_empty() {
            ""
        } else {
            ", with changes"
        };
    let mut head = format!("# Comparison\n\nWritten by `{command}`; do not edit.\n\n");
    let mut fact = |name: &str, value: String| writeln!(head, "- {name}: {value}");
    fact("command", format!("`cargo bench --bench load -- {}`", arguments.join(" ")))?;
    fact("commit", format!("{}{changed}", command_output("git", &["rev-parse", "--short", "HEAD"])))?;
    fact(
        "when",
        format!("{}, {} minutes", command_output("date", &["-u", "+%F %H:%M UTC"]), run.took.as_secs().div_ceil(60)),
    )?;
    fact("machine", machine())?;
    fact(
        "method",
        format!(
            "{repetition} repetitions, interleaved, each with a fresh process and {} s behind a warm-up; the server on one core, the \
             generator on another, over loopback; a browser's headers, no compression; every packet checked",
            options.measured.as_secs()
        ),
    )?;
    for server in Target::ALL {
        fact(server.word(), server.about())?;
    }
    Ok(head)
}

/// A table with servers in rows and loads in columns.
fn table(
    trials: &[&'static Trial],
    of: impl Fn(Target, &Trial) -> Option<String>,
    heading: impl Fn(&Trial) -> String,
) -> Result<String, Failure> {
    let mut table = String::from("| |");
    for trial in trials {
        write!(table, " {} |", heading(trial))?;
    }
    write!(table, "\n|---|{}", "---|".repeat(trials.len()))?;
    for server in Target::ALL {
        write!(table, "\n| {} |", server.word())?;
        for trial in trials {
            write!(table, " {} |", of(server, trial).unwrap_or_else(|| "–".to_owned()))?;
        }
    }
    Ok(table + "\n")
}

fn cost(cells: &[Cell], cell: &Cell) -> Option<String> {
    if !cell.failures.is_empty() {
        return Some("✗ failed, see below".to_owned());
    }
    let (median, quietest) = (cell.median(|measured| Some(measured.cost))?, cell.quietest()?);
    let ratio = ratio(cells, cell).map(|ratio| format!(" {ratio:.2}×")).unwrap_or_default();
    Some(format!("**{}** ({}){ratio}", rounded(median), rounded(quietest)))
}

/// Loads that have this figure.
fn trials_with(
    trials: &[&'static Trial],
    cells: &[Cell],
    of: impl Fn(&Measured) -> Option<f64>,
) -> Vec<&'static Trial> {
    let has = |trial: &Trial| {
        cells.iter().any(|cell| std::ptr::eq(cell.trial, trial) && cell.measured.iter().any(|run| of(run).is_some()))
    };
    trials.iter().copied().filter(|trial| has(trial)).collect()
}

/// Notes on noise, saturation and failures.
fn reliability(cells: &[Cell], trials: &[&'static Trial]) -> Result<String, Failure> {
    let mut text = String::from("\n## Reliability\n\n");
    for cell in cells {
        for failure in &cell.failures {
            let failure: String = failure.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect();
            writeln!(text, "- **failed**: {}, {}: {failure}", cell.server.word(), cell.trial.heading)?;
        }
        if cell.failures.is_empty() && cell.measured.is_empty() {
            writeln!(text, "- not measured: {} has no long polling", cell.server.word())?;
        }
    }
    let mut others: Vec<f64> = cells.iter().flat_map(|cell| &cell.measured).map(|measured| measured.others).collect();
    others.sort_by(f64::total_cmp);
    let median = others.get(others.len() / 2).copied().unwrap_or_default();
    let most = others.last().copied().unwrap_or_default();
    writeln!(
        text,
        "- other processes (and the hypervisor) used {:.0} % of a core in the median run, {:.0} % in the worst",
        100.0 * median,
        100.0 * most
    )?;
    for trial in trials {
        let cells = || cells.iter().filter(|cell| std::ptr::eq(cell.trial, *trial));
        let runs: usize = cells().map(|cell| cell.measured.len()).sum();
        let mut note = |what: &str, count: fn(&Cell) -> usize| {
            let of: Vec<String> = cells()
                .filter(|cell| count(cell) > 0)
                .map(|cell| format!("{} {}", cell.server.word(), count(cell)))
                .collect();
            match cells().map(count).sum::<usize>() {
                0 => Ok(()),
                all if all == runs => writeln!(text, "- {what}: {}: all {runs} runs", trial.heading),
                some => writeln!(text, "- {what}: {}: {some} of {runs} runs ({})", trial.heading, of.join(", ")),
            }
        };
        note("noisy, other processes above 10 % of a core", Cell::noisy)?;
        note("the generator was saturated", Cell::saturated)?;
    }
    Ok(text)
}

fn machine() -> String {
    let of = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (model, memory) = (of("/proc/cpuinfo", "model name"), of("/proc/meminfo", "MemTotal"));
    let cores = fs::read_to_string("/proc/cpuinfo").unwrap_or_default().matches("processor\t:").count();
    format!("{cores} × {model}, {memory} memory, Linux {}", kernel.trim())
}
