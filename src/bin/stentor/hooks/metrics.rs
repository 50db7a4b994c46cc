//! Counters of hooks, and their text.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Hook;

/// Outcome of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Accepted,
    Refused,
    Disconnect,
    Overloaded,
    CircuitOpen,
    Timeout,
    Unreachable,
    Status,
    Invalid,
}

impl Outcome {
    const ALL: [Self; 9] = [
        Self::Accepted,
        Self::Refused,
        Self::Disconnect,
        Self::Overloaded,
        Self::CircuitOpen,
        Self::Timeout,
        Self::Unreachable,
        Self::Status,
        Self::Invalid,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Disconnect => "disconnect",
            Self::Overloaded => "overloaded",
            Self::CircuitOpen => "circuit_open",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Status => "status",
            Self::Invalid => "invalid",
        }
    }
}

/// Upper bounds of the buckets of the time until an answer, in microseconds.
const TIMES: [u64; 8] = [1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000, 5_000_000];

#[derive(Default)]
pub(super) struct HookMetrics {
    outcomes: [[AtomicU64; Outcome::ALL.len()]; Hook::ALL.len()],
    times: [Times; Hook::ALL.len()],
}

/// Times of the requests of one hook. The last bucket has those above all bounds.
#[derive(Default)]
struct Times {
    buckets: [AtomicU64; TIMES.len() + 1],
    micros: AtomicU64,
}

impl HookMetrics {
    pub(super) fn record(&self, hook: Hook, outcome: Outcome) {
        self.outcomes[hook as usize][outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Records the time of a request that was sent.
    pub(super) fn record_time(&self, hook: Hook, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let times = &self.times[hook as usize];
        let bucket = TIMES.iter().position(|bound| micros <= *bound).unwrap_or(TIMES.len());
        times.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        times.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Text of the metrics in the Prometheus format.
    pub(super) fn text(&self, pending: usize) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text, pending);
        text
    }

    fn write(&self, text: &mut String, pending: usize) -> std::fmt::Result {
        writeln!(text, "# HELP stentor_hooks Hooks by outcome.\n# TYPE stentor_hooks counter")?;
        for hook in Hook::ALL {
            for outcome in Outcome::ALL {
                let count = self.outcomes[hook as usize][outcome as usize].load(Ordering::Relaxed);
                let (hook, outcome) = (hook.as_str(), outcome.as_str());
                writeln!(text, "stentor_hooks_total{{hook=\"{hook}\",result=\"{outcome}\"}} {count}")?;
            }
        }
        writeln!(text, "# HELP stentor_hooks_pending Requests to the back end that are under way.")?;
        writeln!(text, "# TYPE stentor_hooks_pending gauge\nstentor_hooks_pending {pending}")?;
        writeln!(text, "# HELP stentor_hook_seconds Time until the back end answered.")?;
        writeln!(text, "# TYPE stentor_hook_seconds histogram")?;
        for hook in Hook::ALL {
            self.times[hook as usize].write(text, hook.as_str())?;
        }
        Ok(())
    }
}

impl Times {
    fn write(&self, text: &mut String, hook: &str) -> std::fmt::Result {
        let mut count = 0;
        let bounds = TIMES.iter().map(|micros| format!("{:?}", *micros as f64 / 1e6)).chain(["+Inf".to_owned()]);
        for (bucket, bound) in self.buckets.iter().zip(bounds) {
            count += bucket.load(Ordering::Relaxed);
            writeln!(text, "stentor_hook_seconds_bucket{{le=\"{bound}\",hook=\"{hook}\"}} {count}")?;
        }
        let seconds = self.micros.load(Ordering::Relaxed) as f64 / 1e6;
        writeln!(text, "stentor_hook_seconds_sum{{hook=\"{hook}\"}} {seconds:?}")?;
        writeln!(text, "stentor_hook_seconds_count{{hook=\"{hook}\"}} {count}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_and_times_are_written_for_each_hook() {
        let metrics = HookMetrics::default();
        metrics.record(Hook::Join, Outcome::Refused);
        metrics.record_time(Hook::Join, Duration::from_millis(3));
        metrics.record_time(Hook::Join, Duration::from_secs(7));
        let text = metrics.text(2);
        for line in [
            r#"stentor_hooks_total{hook="join",result="refused"} 1"#,
            r#"stentor_hooks_total{hook="event",result="circuit_open"} 0"#,
            "stentor_hooks_pending 2",
            r#"stentor_hook_seconds_bucket{le="0.0025",hook="join"} 0"#,
            r#"stentor_hook_seconds_bucket{le="0.005",hook="join"} 1"#,
            r#"stentor_hook_seconds_bucket{le="+Inf",hook="join"} 2"#,
            r#"stentor_hook_seconds_sum{hook="join"} 7.003"#,
            r#"stentor_hook_seconds_count{hook="join"} 2"#,
        ] {
            assert!(text.lines().any(|written| written == line), "no {line} in\n{text}");
        }
    }
}
