//! Warnings that a client can bring about as often as it likes: a few a second of each kind are logged on a worker, and the next one
//! tells how many were not. Refuses to know what they say.

use std::cell::Cell;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// What clients can be complained of.
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
    /// A request to the HTTP API has no key.
    pub(crate) api_key_missing: Throttle,
    /// A request to the HTTP API has an Authorization header of another scheme.
    pub(crate) api_key_scheme: Throttle,
    /// A request to the HTTP API has a wrong key. Apart from the others, so that these do not hide who guesses keys.
    pub(crate) api_key_wrong: Throttle,
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
            api_key_missing: Throttle::new(1),
            api_key_scheme: Throttle::new(1),
            api_key_wrong: Throttle::new(1),
            outbox_cut: Throttle::new(10),
            message_refused: Throttle::new(10),
        }
    }
}

/// One kind of warning.
pub(crate) struct Throttle {
    per_second: u32,
    /// When the present second began.
    since: Cell<Option<Instant>>,
    /// How many were logged in it.
    logged: Cell<u32>,
    /// How many were not, since the last that was.
    skipped: Cell<u64>,
}

impl Throttle {
    /// This many are logged a second.
    pub(crate) fn new(per_second: u32) -> Self {
        Self { per_second, since: Cell::new(None), logged: Cell::new(0), skipped: Cell::new(0) }
    }

    /// Whether to log it now; if so, how many of its kind were not logged before it.
    pub(crate) fn is_due(&self, now: Instant) -> Option<u64> {
        if self.since.get().is_none_or(|since| now.saturating_duration_since(since) >= SECOND) {
            self.since.set(Some(now));
            self.logged.set(0);
        }
        if self.logged.get() == self.per_second {
            self.skipped.set(self.skipped.get() + 1);
            return None;
        }
        self.logged.set(self.logged.get() + 1);
        Some(self.skipped.take())
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
