//! Limit of the log lines that peers can cause.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Limit of one log line per second.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// Time of the last line, in seconds since the Unix epoch.
    last: AtomicU64,
    skipped: AtomicU64,
}

impl Throttle {
    pub(crate) const fn new() -> Self {
        Self { last: AtomicU64::new(0), skipped: AtomicU64::new(0) }
    }

    /// If a line may be logged now, returns the number of lines that were skipped before.
    pub(crate) fn is_due(&self) -> Option<u64> {
        let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.last.swap(second, Ordering::Relaxed) == second {
            self.skipped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.skipped.swap(0, Ordering::Relaxed))
    }
}
