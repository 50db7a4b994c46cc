//! How many events a socket may emit: a token bucket for each, on the thread where all of the socket's handlers run.
//!
//! An entry comes with a socket's first event and goes with its disconnect, so there are no more than sockets.

use std::cell::RefCell;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::ids::SocketId;

/// Between two complaints about a socket's rate.
const COMPLAINT_EVERY: Duration = Duration::from_secs(1);

/// Events per second, in bursts of twice that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate(u32);

impl Rate {
    pub(super) fn new(per_second: NonZeroU32) -> Self {
        Self(per_second.get())
    }

    pub(super) fn per_second(self) -> u32 {
        self.0
    }
}

struct Bucket {
    /// Events that may come now.
    left: f64,
    filled: Instant,
    complained: Option<Instant>,
}

impl Bucket {
    fn full(rate: Rate, now: Instant) -> Self {
        Self { left: burst(rate), filled: now, complained: None }
    }

    fn spend(&mut self, rate: Rate, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * f64::from(rate.0);
        self.left = (self.left + gained).min(burst(rate));
        self.filled = now;
        let may = self.left >= 1.0;
        self.left -= if may { 1.0 } else { 0.0 };
        may
    }

    fn may_complain(&mut self, now: Instant) -> bool {
        let may = self.complained.is_none_or(|last| now.saturating_duration_since(last) >= COMPLAINT_EVERY);
        if may {
            self.complained = Some(now);
        }
        may
    }
}

fn burst(rate: Rate) -> f64 {
    2.0 * f64::from(rate.0)
}

thread_local! {
    static BUCKETS: RefCell<HashMap<SocketId, Bucket>> = RefCell::default();
}

/// Takes one event off what the socket may emit now; false if there is nothing left.
pub(super) fn spend(socket: SocketId, rate: Rate, now: Instant) -> bool {
    BUCKETS.with_borrow_mut(|buckets| buckets.entry(socket).or_insert_with(|| Bucket::full(rate, now)).spend(rate, now))
}

/// Whether the socket may be told, unasked, that it is over its rate.
pub(super) fn may_complain(socket: SocketId, now: Instant) -> bool {
    BUCKETS.with_borrow_mut(|buckets| buckets.get_mut(&socket).is_some_and(|bucket| bucket.may_complain(now)))
}

/// The socket has gone.
pub(super) fn forget(socket: SocketId) {
    BUCKETS.with_borrow_mut(|buckets| {
        buckets.remove(&socket);
        if buckets.is_empty() {
            // An idle thread keeps no table.
            *buckets = HashMap::new();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_a_burst_of_twice_the_rate_and_then_the_rate() {
        let (rate, start) = (Rate(10), Instant::now());
        let mut bucket = Bucket::full(rate, start);
        assert_eq!((0..100).filter(|_| bucket.spend(rate, start)).count(), 20);
        let later = start + Duration::from_millis(500);
        assert_eq!((0..100).filter(|_| bucket.spend(rate, later)).count(), 5);
        let much_later = start + Duration::from_secs(3_600);
        assert_eq!((0..100).filter(|_| bucket.spend(rate, much_later)).count(), 20);
    }

    #[test]
    fn complaints_come_once_a_second() {
        let (rate, start) = (Rate(1), Instant::now());
        let mut bucket = Bucket::full(rate, start);
        assert!(bucket.may_complain(start));
        assert!(!bucket.may_complain(start + Duration::from_millis(999)));
        assert!(bucket.may_complain(start + Duration::from_secs(1)));
    }
}
