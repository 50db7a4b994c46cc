//! Bounds of the queue, and the rules by which rooms retain events.

use std::time::Duration;

use super::committer::CommitterOptions;
use super::delivery::DeliveryLimits;
use super::record::UnixMillis;
use crate::limits;
pub(crate) use crate::limits::RetentionRule;

/// Maximum number of events that one publish removes from a room that exceeds its rule.
pub(crate) const TRIMMED_MAX: usize = 4;

/// Bounds of a store. Each is reached by a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoreLimits {
    /// Bytes of events and dead letters; publishers are refused from `high_water_percent` of it.
    pub queue_bytes_max: u64,
    pub high_water_percent: u8,
    /// Bytes of one event's payload.
    pub event_bytes_max: usize,
    pub subscribers_max: u64,
    pub subscriptions_per_subscriber_max: u64,
    /// Dead letters of one subscriber. Past it, or past `queue_bytes_max`, the oldest ones become a
    /// gap.
    pub dead_letters_max: u64,
    /// A subscriber that was not seen for so long is removed, but not within an hour (or a quarter
    /// of this time) after a leap of the clock.
    pub subscriber_expiry: Duration,
    /// The name of an expired subscriber is remembered for so long.
    pub tombstone_for: Duration,
    /// A `dedup_id` is remembered for so long after its first event.
    pub dedup_window: Duration,
    /// Past it, publishers with a new `dedup_id` are refused.
    pub dedup_ids_max: u64,
    /// Removed events of a room that are remembered one by one for subscribers that had not handled
    /// them. Older ones become one range of the room.
    pub gaps_per_room_max: u64,
    /// The first rule that matches a room applies. A room without rule frees an event when all its
    /// subscribers have handled it.
    pub retention: Vec<RetentionRule>,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self::from(&limits::QueueLimits::default())
    }
}

impl From<&limits::QueueLimits> for StoreLimits {
    fn from(limits: &limits::QueueLimits) -> Self {
        Self {
            queue_bytes_max: limits.bytes_max as u64,
            high_water_percent: limits.high_water_percent.min(100),
            event_bytes_max: limits.event_bytes_max,
            subscribers_max: limits.subscribers_max as u64,
            subscriptions_per_subscriber_max: limits.subscriptions_per_subscriber_max as u64,
            dead_letters_max: limits.dead_letters_max as u64,
            subscriber_expiry: limits.subscriber_expiry,
            tombstone_for: limits.tombstone_expiry,
            dedup_window: limits.dedup_window,
            dedup_ids_max: limits.dedup_ids_max as u64,
            gaps_per_room_max: limits.gaps_per_room_max as u64,
            retention: limits.retention.clone(),
        }
    }
}

impl From<&limits::QueueLimits> for DeliveryLimits {
    fn from(limits: &limits::QueueLimits) -> Self {
        let millis = |duration: &Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let back_off: Vec<u64> = limits.back_off.iter().map(millis).collect();
        Self {
            in_flight_max: limits.in_flight_max.max(1),
            in_flight_bytes_max: limits.in_flight_bytes_max,
            ack_wait: millis(&limits.ack_wait),
            back_off: if back_off.is_empty() { vec![millis(&limits.ack_wait)] } else { back_off },
            max_deliver: limits.max_deliver.max(1),
            nak_delay_max: millis(&limits.nak_delay_max),
        }
    }
}

impl From<&limits::QueueLimits> for CommitterOptions {
    fn from(limits: &limits::QueueLimits) -> Self {
        Self {
            waiting_max: limits.waiting_max.max(1),
            waiting_bytes_max: limits.waiting_bytes_max,
            batch_max: limits.batch_max.max(1),
            batch_bytes_max: limits.batch_bytes_max,
            ..Self::default()
        }
    }
}

impl StoreLimits {
    /// Stored bytes from which publishers are refused.
    pub(crate) fn high_water_bytes(&self) -> u64 {
        (u128::from(self.queue_bytes_max) * u128::from(self.high_water_percent) / 100) as u64
    }

    fn reconnect_time(&self) -> Duration {
        RECONNECT_TIME.min(self.subscriber_expiry / 4)
    }

    /// The retention rule of a room.
    pub(crate) fn rule(&self, room: &str) -> Option<&RetentionRule> {
        self.retention.iter().find(|rule| rule.matches(room))
    }
}

impl RetentionRule {
    /// True if an event of that age is too old.
    pub(crate) fn is_too_old(&self, published_at: UnixMillis, now: UnixMillis) -> bool {
        self.max_age.is_some_and(|max| has_passed(published_at, max, now))
    }
}

/// True if `duration` has passed since `since`.
pub(crate) fn has_passed(since: UnixMillis, duration: Duration, now: UnixMillis) -> bool {
    u128::from(since.0) + duration.as_millis() <= u128::from(now.0)
}

/// Start of the time that counts for entries whose time lies in the future, since the clock was set
/// back.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FutureTimes {
    /// The newest event when such a time was first met.
    up_to: u64,
    met_at: UnixMillis,
}

impl FutureTimes {
    /// The time from which an event or an id counts as stored: `at`, or the time at which it was
    /// found to lie in the future.
    pub(crate) fn stored_at(&mut self, number: u64, at: UnixMillis, head: u64, now: UnixMillis) -> UnixMillis {
        if at <= now {
            return at;
        }
        if number > self.up_to || self.met_at > now {
            *self = Self { up_to: head, met_at: now };
        }
        self.met_at
    }
}

/// Longest time that subscribers have to reconnect after a leap of the clock.
const RECONNECT_TIME: Duration = Duration::from_secs(3600);

/// Times of commits. After a leap of the clock, or a pause of the process, subscribers do not
/// expire before they had time to reconnect.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CommitTimes {
    pub last: UnixMillis,
    /// The end of the last leap.
    pub steady_since: UnixMillis,
}

impl CommitTimes {
    pub(crate) fn on_commit(&mut self, now: UnixMillis, limits: &StoreLimits) {
        if has_passed(self.last, limits.reconnect_time(), now) {
            self.steady_since = now;
        }
        self.steady_since = self.steady_since.min(now);
        self.last = now;
    }

    /// True if absent subscribers had time to reconnect.
    pub(crate) fn is_steady(&self, limits: &StoreLimits) -> bool {
        has_passed(self.steady_since, limits.reconnect_time(), self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_of_the_store_are_those_of_the_public_limits() {
        let public = limits::QueueLimits::default();
        assert_eq!(StoreLimits::from(&public), StoreLimits::default());
        let (delivery, committer) = (DeliveryLimits::from(&public), CommitterOptions::from(&public));
        assert_eq!(delivery.back_off, [1_000, 5_000, 30_000, 120_000, 600_000]);
        assert_eq!((delivery.in_flight_max, delivery.in_flight_bytes_max), (64, 1 << 20));
        assert_eq!((delivery.ack_wait, delivery.max_deliver, delivery.nak_delay_max), (30_000, 20, 86_400_000));
        assert_eq!((committer.batch_max, committer.batch_bytes_max), (512, 1 << 20));
        let default = CommitterOptions::default();
        assert_eq!(
            (committer.waiting_max, committer.waiting_bytes_max),
            (default.waiting_max, default.waiting_bytes_max)
        );
    }

    #[test]
    fn limits_that_cannot_work_are_raised_to_those_that_can() {
        let mut public = limits::QueueLimits::default();
        (public.in_flight_max, public.max_deliver, public.high_water_percent) = (0, 0, 200);
        (public.batch_max, public.waiting_max) = (0, 0);
        public.back_off.clear();
        let delivery = DeliveryLimits::from(&public);
        assert_eq!((delivery.in_flight_max, delivery.max_deliver), (1, 1));
        assert_eq!(delivery.back_off, [30_000]);
        let committer = CommitterOptions::from(&public);
        assert_eq!((committer.batch_max, committer.waiting_max), (1, 1));
        assert_eq!(StoreLimits::from(&public).high_water_percent, 100);
    }
}
