//! The clock of recovery windows.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A clock that starts at the wall-clock time and then follows the monotonic clock. So windows
/// continue across a restart, and a change of the wall clock while the process runs does not affect
/// them.
#[derive(Debug)]
pub(super) struct Clock {
    start_unix_ms: u64,
    start: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start_unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX), start: Instant::now() }
    }

    pub(super) fn now_unix_ms(&self) -> u64 {
        let since = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.start_unix_ms.saturating_add(since)
    }

    #[cfg(test)]
    pub(super) fn shifted(by_ms: i64) -> Self {
        let clock = Self::start();
        Self { start_unix_ms: clock.start_unix_ms.saturating_add_signed(by_ms), ..clock }
    }
}
