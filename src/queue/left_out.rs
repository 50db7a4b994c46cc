//! The log of stored events that readers leave out, since they cannot be read.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::ids::QueueOffset;

/// Events that are logged. Clients may read them again and again.
const LOGGED_MAX: usize = 1_024;

static LOGGED: Mutex<BTreeSet<QueueOffset>> = Mutex::new(BTreeSet::new());

/// Logs an event that is left out, once. Past a bound, further events are not logged. Returns
/// whether it was logged.
pub(crate) fn log_once(offset: QueueOffset, reason: &str) -> bool {
    let mut logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
    let is_new = logged.len() < LOGGED_MAX && logged.insert(offset);
    if is_new {
        log::error!("queue event left out number={} offset={offset}: {reason}", offset.number);
        if logged.len() == LOGGED_MAX {
            log::error!("queue events left out: {LOGGED_MAX} were logged, further ones are not");
        }
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
        assert!(log(1) && !log(1));
        assert!((1..=LOGGED_MAX as u64 + 1).filter(|number| log(*number)).count() < LOGGED_MAX);
        assert!(!log(LOGGED_MAX as u64 + 2));
    }
}
