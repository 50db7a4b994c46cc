//! The time by which recovery windows are counted.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The wall clock as it stood when the process started, moved on by the monotonic clock: windows go on through a restart, and a wall
/// clock that is set changes none of them while the process runs.
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

    /// Milliseconds since 1970.
    pub(super) fn now_unix_ms(&self) -> u64 {
        let since = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.start_unix_ms.saturating_add(since)
    }

    /// A clock that starts so many milliseconds before or behind the wall clock.
    #[cfg(test)]
    pub(super) fn shifted(by_ms: i64) -> Self {
        let clock = Self::start();
        Self { start_unix_ms: clock.start_unix_ms.saturating_add_signed(by_ms), ..clock }
    }
}
