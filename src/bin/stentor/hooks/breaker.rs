//! Circuit breaker of one hook: a back end that does not answer gets no request for a second, and
//! then one. Sans-IO: time arrives as `now`.

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Failures in a row of different clients, within [`WINDOW`], that open the circuit.
const FAILURES: usize = 3;
const WINDOW: Duration = Duration::from_secs(1);

/// Time for which nothing is asked after the circuit has opened.
const OPEN_FOR: Duration = Duration::from_secs(1);

/// The client whose request has failed: a user, or an address without one. The failures of one
/// client count once, since it may send what the back end cannot handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    User(String),
    Address(Option<IpAddr>),
}

/// State of the circuit.
#[derive(Debug)]
pub(super) struct Breaker {
    /// The last failures in a row, one of each client, oldest first. Fewer than [`FAILURES`].
    failures: Vec<(Instant, Origin)>,
    /// Time from which one more request may be sent, while the circuit is open.
    open_until: Option<Instant>,
    /// Time limit of a request. While the request that tests the back end is under way, no other
    /// one is sent.
    timeout: Duration,
}

/// Change of the circuit by an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Opened,
    Closed,
}

impl Breaker {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { failures: Vec::new(), open_until: None, timeout }
    }

    /// True if a request may be sent now. An open circuit admits one request, as a test.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        match self.open_until {
            Some(until) if now < until => false,
            Some(_) => {
                // A test whose outcome is not reported does not block later ones.
                self.open_until = Some(now + self.timeout + OPEN_FOR);
                true
            }
            None => true,
        }
    }

    pub(super) fn on_success(&mut self) -> Option<Change> {
        self.failures.clear();
        self.open_until.take().map(|_| Change::Closed)
    }

    pub(super) fn on_failure(&mut self, now: Instant, origin: Origin) -> Option<Change> {
        if self.open_until.is_some() {
            self.open_until = Some(now + OPEN_FOR);
            return None;
        }
        self.failures.retain(|(at, of)| *of != origin && now.saturating_duration_since(*at) <= WINDOW);
        self.failures.push((now, origin));
        (self.failures.len() >= FAILURES).then(|| {
            self.failures.clear();
            self.open_until = Some(now + OPEN_FOR);
            Change::Opened
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(2);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn user(number: u32) -> Origin {
        Origin::User(number.to_string())
    }

    fn opened(at: Instant) -> Breaker {
        let mut breaker = Breaker::new(TIMEOUT);
        assert_eq!(breaker.on_failure(at, user(1)), None);
        assert_eq!(breaker.on_failure(at + ms(500), user(2)), None);
        assert_eq!(breaker.on_failure(at + ms(1_000), user(3)), Some(Change::Opened));
        breaker
    }

    #[test]
    fn three_failures_in_a_row_within_a_second_open_the_circuit() {
        let start = Instant::now();
        let mut breaker = opened(start);
        assert!(!breaker.admit(start + ms(1_999)));
        assert!(breaker.admit(start + ms(2_000)));
    }

    #[test]
    fn slower_failures_or_a_success_between_keep_it_closed() {
        let start = Instant::now();
        let mut breaker = Breaker::new(TIMEOUT);
        for at in 0..10 {
            assert_eq!(breaker.on_failure(start + ms(501) * at, user(at)), None, "{at}");
        }
        for at in 0..10 {
            assert_eq!(breaker.on_failure(start + ms(6_000 + at), user(1)), None, "{at}");
            assert_eq!(breaker.on_failure(start + ms(6_000 + at), user(2)), None, "{at}");
            assert_eq!(breaker.on_success(), None, "{at}");
        }
        assert!(breaker.admit(start + ms(7_000)));
    }

    #[test]
    fn failures_of_one_client_count_once() {
        let start = Instant::now();
        let mut breaker = Breaker::new(TIMEOUT);
        for at in 0..100 {
            assert_eq!(breaker.on_failure(start + ms(at), user(1)), None, "{at}");
            assert_eq!(breaker.on_failure(start + ms(at), Origin::Address(None)), None, "{at}");
        }
        assert_eq!(breaker.on_failure(start + ms(100), user(2)), Some(Change::Opened));
    }

    #[test]
    fn one_request_tests_the_back_end_and_its_outcome_decides() {
        let start = Instant::now();
        let mut breaker = opened(start);
        let tested = start + ms(2_500);
        assert!(breaker.admit(tested));
        assert!(!breaker.admit(tested) && !breaker.admit(tested + TIMEOUT));
        assert_eq!(breaker.on_failure(tested + ms(10), user(1)), None);
        assert!(!breaker.admit(tested + ms(1_009)));
        assert!(breaker.admit(tested + ms(1_010)));
        assert_eq!(breaker.on_success(), Some(Change::Closed));
        assert!(breaker.admit(tested + ms(1_010)) && breaker.admit(tested + ms(1_010)));
    }

    #[test]
    fn a_test_without_an_outcome_is_repeated() {
        let start = Instant::now();
        let mut breaker = opened(start);
        assert!(breaker.admit(start + ms(2_000)));
        assert!(!breaker.admit(start + ms(4_999)));
        assert!(breaker.admit(start + ms(5_000)));
    }
}
