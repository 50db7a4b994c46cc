//! The clock of deliveries.

use std::time::{Duration, Instant};

use crate::queue::committer::unix_millis;
use crate::queue::record::UnixMillis;

/// A clock that starts at the wall-clock time and then follows the monotonic clock, so that a wall
/// clock that is set does not stop retries.
#[derive(Debug)]
pub(super) struct Clock {
    start: UnixMillis,
    started: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { start: unix_millis(), started: Instant::now() }
    }

    pub(super) fn now(&self) -> UnixMillis {
        self.start.plus(millis(self.started.elapsed()))
    }

    /// Lets time pass.
    #[cfg(test)]
    pub(super) fn pass(&mut self, duration: Duration) {
        self.start = self.start.plus(millis(duration));
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
