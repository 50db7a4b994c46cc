//! The log of stored events that readers leave out, since they cannot be read.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::ids::QueueOffset;

/// Events that are logged. Clients may read them again and again.
const LOGGED_MAX: usize = 1_024;

/// Numbers of events that were logged, each in the slot that its remainder names.
static LOGGED: [AtomicU64; LOGGED_MAX] = [const { AtomicU64::new(0) }; LOGGED_MAX];

/// Logs an event that is left out, once. One whose slot is taken by another event is not logged, so
/// the log is bounded. Returns whether it was logged.
pub(crate) fn log_once(offset: QueueOffset, reason: &str) -> bool {
    let slot = &LOGGED[(offset.number % LOGGED_MAX as u64) as usize];
    let is_new = slot.compare_exchange(0, offset.number, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    if is_new {
        log::error!("queue event left out number={} offset={offset} reason=\"{reason}\"", offset.number);
    }
    is_new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Epoch;

    #[test]
    fn an_event_that_is_left_out_is_logged_once_and_their_number_is_bounded() {
        let log = |number| log_once(QueueOffset { epoch: Epoch::new(9, 9), number }, "planted");
        assert!(log(700) && !log(700));
        let logged = (1..=3 * LOGGED_MAX as u64).filter(|number| log(*number)).count();
        assert!((1..LOGGED_MAX).contains(&logged), "{logged}");
    }
}
