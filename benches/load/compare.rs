//! All servers under all loads, interleaved and repeated, so that noise of the machine affects all
//! servers alike. The results are written to `benches/RESULTS.md` and `benches/results.svg` after
//! each repetition.

use std::time::Instant;

use crate::options::{Load, Options};
use crate::report::{P50, P99, P999, Report};
use crate::target::{Recovery, Target};
use crate::trial::{Cell, Measured, TRIALS};
use crate::{Failure, chart, results};

type Run = fn(&Options, &mut Report) -> Result<(), Failure>;

pub(crate) fn run_all(is_full: bool, options: &Options, run: Run) -> Result<(), Failure> {
    let begun = Instant::now();
    let trials = || TRIALS.iter().filter(move |trial| trial.is_quick || is_full);
    let mut cells: Vec<Cell> = trials()
        .flat_map(|trial| Target::ALL.map(|server| Cell { server, trial, measured: vec![], failures: vec![] }))
        .collect();
    for repetition in 1..=options.repetitions {
        for cell in &mut cells {
            println!("\n--- {repetition} of {}: {}, {}", options.repetitions, cell.trial.heading, cell.server.word());
            measure(cell, options, run);
        }
        let page = results::Run { is_full, options, repetition, took: begun.elapsed() };
        results::write(&page, &cells, &trials().collect::<Vec<_>>())?;
        chart::write(&cells, &trials().collect::<Vec<_>>())?;
    }
    Ok(())
}

fn measure(cell: &mut Cell, options: &Options, run: Run) {
    if cell.server == Target::Bare && cell.trial.load == Load::Polling {
        return;
    }
    let mut options = options.clone();
    (options.loads, options.server) = (vec![cell.trial.load], cell.server);
    if cell.server == Target::StentorDisk {
        options.recovery = Recovery::Disk;
    }
    (cell.trial.set)(&mut options);
    let mut report = Report::default();
    let outcome = run(&options, &mut report);
    if let Err(failure) = outcome {
        println!("FAILED {failure}");
        cell.failures.push(failure.to_string());
    } else if report.is_broken() {
        cell.failures.extend_from_slice(report.broken());
    } else if let Some(cost) = report.value(cell.trial.cost) {
        cell.measured.push(Measured {
            cost,
            pace: cell.trial.pace.and_then(|name| report.value(name)),
            latency: [P50, P99, P999].map(|name| report.value(name)),
            others: report.others,
            is_saturated: report.is_saturated,
        });
    }
}
