//! Warnings that a client can bring about as often as it likes: a few a second of each kind are logged on a worker, and the next one
//! tells how many were not. Refuses to know what they say.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// Rate-limited warnings, one counter per kind.
pub(crate) struct LogThrottles {
    /// A session stops reading. It does so hundreds of times a second while its client floods.
    pub(crate) reading_stopped: Throttle,
    /// A handler failed. More of them, since each may be another defect of the application.
    pub(crate) handler_failed: Throttle,
    /// A client emits an event that has no handler.
    pub(crate) event_unhandled: Throttle,
    /// A client asks for more rooms than it may have.
    pub(crate) join_refused: Throttle,
    /// A packet was dropped that the server does not accept.
    pub(crate) packet_dropped: Throttle,
    /// A client takes nothing and is disconnected. One cut in the network may do that to thousands at once.
    pub(crate) taking_nothing: Throttle,
    /// An outbox is emptied because all of them are over their budget. One scan may do that to thousands.
    pub(crate) outbox_cut: Throttle,
    /// A message takes too long, or the memory for it is not to be had.
    pub(crate) message_refused: Throttle,
}

impl Default for LogThrottles {
    fn default() -> Self {
        Self {
            reading_stopped: Throttle::new(1),
            handler_failed: Throttle::new(10),
            event_unhandled: Throttle::new(1),
            join_refused: Throttle::new(1),
            packet_dropped: Throttle::new(1),
            taking_nothing: Throttle::new(10),
            outbox_cut: Throttle::new(10),
            message_refused: Throttle::new(10),
        }
    }
}

/// One kind of log line, of which a few a second are logged. May be shared by threads.
#[derive(Debug)]
pub(crate) struct Throttle {
    per_second: u32,
    /// When the present second began, in microseconds since a second before `EPOCH`; 0 before the first line.
    since: AtomicU64,
    /// Number of lines logged in it.
    logged: AtomicU32,
    /// Number of lines skipped since the last one.
    skipped: AtomicU64,
}

/// A moment before all log lines, as atomics hold no instants.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Default for Throttle {
    /// One a second.
    fn default() -> Self {
        Self::new(1)
    }
}

impl Throttle {
    /// This many are logged a second.
    pub(crate) fn new(per_second: u32) -> Self {
        LazyLock::force(&EPOCH);
        Self { per_second, since: AtomicU64::new(0), logged: AtomicU32::new(0), skipped: AtomicU64::new(0) }
    }

    /// Whether to log it now; if so, how many of its kind were not logged before it.
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
    fn so_many_a_second_are_logged_and_the_next_tells_of_the_others() {
        let (complaint, start) = (Throttle::new(2), Instant::now());
        assert_eq!([0; 5].map(|_| complaint.is_due(start)), [Some(0), Some(0), None, None, None]);
        assert_eq!(complaint.is_due(start + SECOND - Duration::from_millis(1)), None);
        assert_eq!([0; 3].map(|_| complaint.is_due(start + SECOND)), [Some(4), Some(0), None]);
        assert_eq!(complaint.is_due(start + 10 * SECOND), Some(1));
    }
}
