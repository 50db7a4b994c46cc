//! Rate limits for log lines that a client can cause arbitrarily often. The next logged line states
//! the number of suppressed lines.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// Rate-limited warnings, one counter per kind.
pub(crate) struct LogThrottles {
    /// A session paused reading. A flooding client causes this hundreds of times a second.
    pub(crate) reading_stopped: Throttle,
    /// A handler failed. The limit is higher, since each line may show another defect of the
    /// application.
    pub(crate) handler_failed: Throttle,
    /// A client emitted an event without a handler.
    pub(crate) event_unhandled: Throttle,
    /// A CONNECT was refused, by a limit or by middleware.
    pub(crate) connect_refused: Throttle,
    /// A client's join was refused because of the limits on rooms.
    pub(crate) join_refused: Throttle,
    /// The server dropped an invalid packet.
    pub(crate) packet_dropped: Throttle,
    /// A client that reads nothing was disconnected. A network failure may cause thousands of such
    /// lines at the same time.
    pub(crate) stalled: Throttle,
    /// An outbox was emptied because the budget of outboxes is exceeded. One check of the budget
    /// may empty thousands of outboxes.
    pub(crate) outbox_cut: Throttle,
    /// A message exceeded its time limit or the memory budget.
    pub(crate) message_refused: Throttle,
}

impl Default for LogThrottles {
    fn default() -> Self {
        Self {
            reading_stopped: Throttle::new(1),
            handler_failed: Throttle::new(10),
            event_unhandled: Throttle::new(1),
            connect_refused: Throttle::new(1),
            join_refused: Throttle::new(1),
            packet_dropped: Throttle::new(1),
            stalled: Throttle::new(10),
            outbox_cut: Throttle::new(10),
            message_refused: Throttle::new(10),
        }
    }
}

/// Rate limit for one kind of log line. Can be shared between threads.
#[derive(Debug)]
pub(crate) struct Throttle {
    per_second: u32,
    /// Start of the current second, in microseconds since one second before `EPOCH`. 0 before the
    /// first line.
    since: AtomicU64,
    /// Number of lines logged in the current second.
    logged: AtomicU32,
    skipped: AtomicU64,
}

/// Reference instant before all log lines. Needed since atomics cannot store an `Instant`.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Default for Throttle {
    /// Logs at most one line per second.
    fn default() -> Self {
        Self::new(1)
    }
}

impl Throttle {
    pub(crate) fn new(per_second: u32) -> Self {
        LazyLock::force(&EPOCH);
        Self { per_second, since: AtomicU64::new(0), logged: AtomicU32::new(0), skipped: AtomicU64::new(0) }
    }

    /// Returns `None` if the line must be suppressed. Otherwise returns the number of lines that
    /// were suppressed since the last logged line.
    pub(crate) fn is_due(&self, now: Instant) -> Option<u64> {
        let now = (now.saturating_duration_since(*EPOCH) + SECOND).as_micros() as u64;
        let since = self.since.load(Relaxed);
        if now.saturating_sub(since) >= SECOND.as_micros() as u64
            && self.since.compare_exchange(since, now, Relaxed, Relaxed).is_ok()
        {
            self.logged.store(0, Relaxed);
        }
        if self.logged.fetch_add(1, Relaxed) >= self.per_second {
            self.skipped.fetch_add(1, Relaxed);
            return None;
        }
        Some(self.skipped.swap(0, Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_over_the_limit_are_suppressed_and_counted_in_the_next() {
        let (throttle, start) = (Throttle::new(2), Instant::now());
        assert_eq!([0; 5].map(|_| throttle.is_due(start)), [Some(0), Some(0), None, None, None]);
        assert_eq!(throttle.is_due(start + SECOND - Duration::from_millis(1)), None);
        assert_eq!([0; 3].map(|_| throttle.is_due(start + SECOND)), [Some(4), Some(0), None]);
        assert_eq!(throttle.is_due(start + 10 * SECOND), Some(1));
    }
}
