//! The comparison as a bar chart: `benches/results.svg`, one panel per load with its own scale.
//! Plain SVG, readable on dark and light pages.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::Failure;
use crate::figures::rounded;
use crate::target::Target;
use crate::trial::{Cell, Trial, cell, ratio};

const COLUMNS: usize = 2;
const PANEL_WIDTH: usize = 480;
const ROW_HEIGHT: usize = 22;
const PANEL_HEIGHT: usize = 62 + ROW_HEIGHT * Target::ALL.len();
/// Left edge of the bars and length of the longest bar.
const BAR_LEFT: usize = 130;
const BAR_MAX: f64 = 210.0;

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#24292f}.title{font-weight:600}.unit{fill:#57606a;font-size:12px}\
rect{fill:#8c959f}.stentor{fill:#0969da}.bare{fill:none;stroke:#8c959f}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.unit{fill:#9198a1}rect{fill:#6e7681}.stentor{fill:#4493f8}\
.bare{fill:none;stroke:#9198a1}}";

pub(crate) fn write(cells: &[Cell], trials: &[&'static Trial]) -> Result<(), Failure> {
    let (width, height) = (COLUMNS * PANEL_WIDTH, trials.len().div_ceil(COLUMNS) * PANEL_HEIGHT);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\">\n\
         <title>What one operation costs each server; less is better</title>\n<style>{STYLE}</style>\n"
    );
    for (at, trial) in trials.iter().enumerate() {
        let (x, y) = (at % COLUMNS * PANEL_WIDTH, at / COLUMNS * PANEL_HEIGHT);
        writeln!(svg, "<g transform=\"translate({x},{y})\">")?;
        panel(&mut svg, cells, trial)?;
        svg += "</g>\n";
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results.svg");
    fs::write(&path, svg + "</svg>\n").map_err(|error| format!("cannot write {}: {error}", path.display()).into())
}

fn panel(svg: &mut String, cells: &[Cell], trial: &Trial) -> Result<(), Failure> {
    writeln!(svg, "<text class=\"title\" x=\"8\" y=\"20\">{}</text>", trial.heading)?;
    writeln!(svg, "<text class=\"unit\" x=\"8\" y=\"38\">{} per {}, less is better</text>", trial.unit, trial.each())?;
    let of = |server| cell(cells, server, trial)?.median(|measured| Some(measured.cost));
    let most = Target::ALL.into_iter().filter_map(of).fold(f64::MIN_POSITIVE, f64::max);
    for (row, server) in Target::ALL.into_iter().enumerate() {
        let (top, base) = (48 + row * ROW_HEIGHT, 62 + row * ROW_HEIGHT);
        writeln!(svg, "<text x=\"8\" y=\"{base}\">{}</text>", server.word())?;
        let Some(cost) = of(server) else {
            writeln!(svg, "<text class=\"unit\" x=\"{BAR_LEFT}\" y=\"{base}\">–</text>")?;
            continue;
        };
        let class = match server {
            Target::Bare => " class=\"bare\"",
            ours if ours.is_stentor() => " class=\"stentor\"",
            _ => "",
        };
        let length = (cost / most * BAR_MAX).max(1.0);
        writeln!(svg, "<rect{class} x=\"{BAR_LEFT}\" y=\"{top}\" width=\"{length:.1}\" height=\"16\" rx=\"2\"/>")?;
        let ratio = cell(cells, server, trial).and_then(|cell| ratio(cells, cell));
        let ratio = ratio.map(|ratio| format!(" · {ratio:.2}×")).unwrap_or_default();
        let at = BAR_LEFT as f64 + length + 6.0;
        writeln!(svg, "<text x=\"{at:.1}\" y=\"{base}\">{}{ratio}</text>", rounded(cost))?;
    }
    Ok(())
}
