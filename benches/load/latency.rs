//! Durations, all of them stored, and their quantiles.

use std::fmt::{self, Display};
use std::time::Duration;

use crate::figures::shown;

/// Minimum number of samples above a quantile; with fewer it is chance.
const BEYOND_MIN: f64 = 10.0;

#[derive(Default)]
pub(crate) struct Latencies {
    micros: Vec<u32>,
}

/// p50, p99, p99.9 and maximum, in milliseconds. None where fewer than ten samples lie above.
pub(crate) struct Quantiles {
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
    pub(crate) p999: Option<f64>,
    most: Option<f64>,
    count: usize,
}

impl Latencies {
    pub(crate) fn push(&mut self, time: Duration) {
        self.micros.push(u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
    }

    /// Takes the samples; starts again without any.
    pub(crate) fn take(&mut self) -> Quantiles {
        let mut micros = std::mem::take(&mut self.micros);
        micros.sort_unstable();
        let millis = |micros: &u32| f64::from(*micros) / 1000.0;
        let quantile = |beyond: f64| {
            let count = micros.len() as f64 * beyond;
            (count >= BEYOND_MIN).then(|| millis(&micros[micros.len() - count as usize]))
        };
        Quantiles {
            p50: quantile(0.5),
            p99: quantile(0.01),
            p999: quantile(0.001),
            most: micros.last().map(millis),
            count: micros.len(),
        }
    }
}

impl Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p99, p999, most, count } = *self;
        let [p50, p99, p999, most] = [p50, p99, p999, most].map(shown);
        write!(f, "p50 {p50} p99 {p99} p99.9 {p999} max {most} ms of {count}")
    }
}
