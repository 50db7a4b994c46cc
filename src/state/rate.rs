//! Token buckets: rate limits of clients, and pauses of reading for clients that exceed the limits.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::limits::RateLimits;

/// Maximum pause for one refused packet. It is well below the default time limit for a pong.
const PAUSE_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy)]
pub(crate) enum Cost {
    /// An event, a CONNECT or a DISCONNECT.
    Event,
    /// A packet of this length in bytes.
    Bytes(usize),
    /// A handshake of a client.
    Connect,
}

/// Limits per second. If a limit is `None`, the rate is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rates {
    /// Events, CONNECTs and DISCONNECTs.
    pub(crate) events: Option<NonZeroU32>,
    pub(crate) bytes: Option<NonZeroU32>,
    /// Handshakes. Only addresses have this limit.
    pub(crate) connects: Option<NonZeroU32>,
}

impl Rates {
    /// Limits of each session.
    pub(crate) fn of_session(limits: &RateLimits) -> Self {
        Self { events: limits.events_per_second, bytes: limits.bytes_per_second, connects: None }
    }

    /// Limits of all sessions of one address.
    pub(crate) fn of_address(limits: &RateLimits) -> Self {
        let (events, bytes) = (limits.address_events_per_second, limits.address_bytes_per_second);
        let set = Self { events, bytes, connects: limits.address_connects_per_second };
        set.or_tenfold(Self::of_session(limits))
    }

    /// Returns whether what a session sends is limited.
    pub(crate) fn limit_packets(&self) -> bool {
        self.events.is_some() || self.bytes.is_some()
    }

    /// Fills in unset rates with ten times the rates of `session`.
    fn or_tenfold(self, session: Self) -> Self {
        let tenfold = |rate: Option<NonZeroU32>| {
            rate.map(|rate| rate.saturating_mul(const { NonZeroU32::MIN.saturating_add(9) }))
        };
        Self {
            events: self.events.or_else(|| tenfold(session.events)),
            bytes: self.bytes.or_else(|| tenfold(session.bytes)),
            ..self
        }
    }
}

/// Rate limiter of one session, or of all sessions of one address.
#[derive(Debug)]
pub(crate) struct Meter {
    events: Option<Bucket>,
    bytes: Option<Bucket>,
    connects: Option<Bucket>,
}

impl Meter {
    pub(crate) fn new(rates: Rates, now: Instant) -> Self {
        let bucket = |rate: Option<NonZeroU32>| rate.map(|rate| Bucket::full(f64::from(rate.get()), now));
        Self { events: bucket(rates.events), bytes: bucket(rates.bytes), connects: bucket(rates.connects) }
    }

    fn bucket(&mut self, cost: Cost) -> Option<(&mut Bucket, f64)> {
        match cost {
            Cost::Event => Some((self.events.as_mut()?, 1.0)),
            Cost::Bytes(bytes) => Some((self.bytes.as_mut()?, bytes as f64)),
            Cost::Connect => Some((self.connects.as_mut()?, 1.0)),
        }
    }

    pub(crate) fn admits(&mut self, cost: Cost, now: Instant) -> bool {
        self.bucket(cost).is_none_or(|(bucket, _)| bucket.has_some(now))
    }

    pub(crate) fn take(&mut self, cost: Cost) {
        if let Some((bucket, amount)) = self.bucket(cost) {
            bucket.left -= amount;
        }
    }

    /// Charges an action that this meter refused. Returns the time for which reading should pause.
    pub(crate) fn refuse(&mut self, cost: Cost) -> Duration {
        self.bucket(cost).map_or(Duration::ZERO, |(bucket, amount)| bucket.refuse(amount))
    }

    /// Returns whether the buckets are full, so that the meter may be dropped.
    pub(crate) fn is_full(&mut self, now: Instant) -> bool {
        [&mut self.events, &mut self.bytes, &mut self.connects].into_iter().flatten().all(|bucket| bucket.is_full(now))
    }
}

/// Two token buckets: `left` for accepted actions and `refusals_left` for refused actions. Each
/// bucket holds the tokens of two seconds. Reading pauses when the bucket for refused actions is
/// empty.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    left: f64,
    refusals_left: f64,
    filled: Instant,
}

impl Bucket {
    fn full(per_second: f64, now: Instant) -> Self {
        let burst = 2.0 * per_second;
        Self { per_second, left: burst, refusals_left: burst, filled: now }
    }

    fn refill(&mut self, now: Instant) {
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * self.per_second;
        let burst = 2.0 * self.per_second;
        self.left = (self.left + gained).min(burst);
        self.refusals_left = (self.refusals_left + gained).min(burst);
        self.filled = now;
    }

    /// Returns whether a token is left. An action that costs more than is left is accepted and
    /// delays the next action. Otherwise a packet that is larger than the bucket could never pass.
    fn has_some(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.left >= 1.0
    }

    fn refuse(&mut self, amount: f64) -> Duration {
        self.refusals_left -= amount;
        let most = PAUSE_MAX.as_secs_f64() * self.per_second;
        self.refusals_left = self.refusals_left.max(-most);
        Duration::from_secs_f64((-self.refusals_left / self.per_second).clamp(0.0, PAUSE_MAX.as_secs_f64()))
    }

    fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        let burst = 2.0 * self.per_second;
        self.left >= burst && self.refusals_left >= burst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(events: u32, bytes: u32, now: Instant) -> Meter {
        Meter::new(Rates { events: NonZeroU32::new(events), bytes: NonZeroU32::new(bytes), connects: None }, now)
    }

    fn admitted_count(meter: &mut Meter, cost: Cost, tries: usize, now: Instant) -> usize {
        let mut take = || {
            let admitted = meter.admits(cost, now);
            if admitted {
                meter.take(cost);
            }
            admitted
        };
        (0..tries).filter(|_| take()).count()
    }

    #[test]
    fn a_bucket_admits_a_burst_of_twice_the_rate_and_then_the_rate() {
        let start = Instant::now();
        let mut meter = meter(10, 10, start);
        assert_eq!(admitted_count(&mut meter, Cost::Event, 100, start), 20);
        assert_eq!(admitted_count(&mut meter, Cost::Event, 100, start + Duration::from_millis(500)), 5);
        assert_eq!(admitted_count(&mut meter, Cost::Event, 100, start + Duration::from_secs(3_600)), 20);
    }

    #[test]
    fn a_packet_above_the_burst_passes_and_delays_the_next() {
        let start = Instant::now();
        let mut meter = meter(10, 100, start);
        assert_eq!(admitted_count(&mut meter, Cost::Bytes(1_000), 5, start), 1);
        assert!(!meter.admits(Cost::Bytes(1), start + Duration::from_secs(8)));
        assert!(meter.admits(Cost::Bytes(1), start + Duration::from_secs(9)));
        assert!(meter.admits(Cost::Event, start), "events have a bucket of their own");
    }

    #[test]
    fn refusals_beyond_a_burst_pause_reading_in_proportion() {
        let start = Instant::now();
        let mut meter = meter(10, 10, start);
        assert_eq!((0..20).map(|_| meter.refuse(Cost::Event)).max(), Some(Duration::ZERO));
        assert_eq!(meter.refuse(Cost::Event), Duration::from_millis(100));
        assert_eq!((0..9).map(|_| meter.refuse(Cost::Event)).max(), Some(Duration::from_secs(1)));
        assert_eq!((0..10_000).map(|_| meter.refuse(Cost::Event)).max(), Some(PAUSE_MAX));
    }

    #[test]
    fn a_meter_is_full_again_after_its_time() {
        let start = Instant::now();
        let mut meter = meter(10, 100, start);
        assert!(meter.is_full(start));
        meter.take(Cost::Event);
        assert!(!meter.is_full(start));
        assert!(meter.is_full(start + Duration::from_secs(1)));
        meter.refuse(Cost::Bytes(100));
        assert!(!meter.is_full(start + Duration::from_millis(1_500)));
        assert!(meter.is_full(start + Duration::from_secs(3)));
    }

    #[test]
    fn an_address_has_ten_times_the_session_unless_set() {
        let rate = NonZeroU32::new;
        let session = Rates { events: rate(5), ..Rates::default() };
        let address = Rates::default().or_tenfold(session);
        assert_eq!(address, Rates { events: rate(50), ..Rates::default() });
        assert_eq!(Rates { events: rate(7), bytes: rate(8), connects: None }.or_tenfold(session).events, rate(7));
        assert!(!Rates::default().limit_packets());
    }
}
