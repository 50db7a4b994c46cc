//! Bounds of the queue, and the rules by which rooms retain events.

use std::time::Duration;

use super::record::UnixMillis;

/// Maximum number of events that one publish removes from a room that exceeds its rule.
pub(crate) const TRIMMED_MAX: usize = 4;

/// Bounds of a store. Each is reached by a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueLimits {
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

impl Default for QueueLimits {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        Self {
            queue_bytes_max: 1 << 30,
            high_water_percent: 80,
            event_bytes_max: 1_000_000,
            subscribers_max: 100_000,
            subscriptions_per_subscriber_max: 1_000,
            dead_letters_max: 10_000,
            subscriber_expiry: days(7),
            tombstone_for: days(30),
            dedup_window: days(1),
            dedup_ids_max: 1_000_000,
            gaps_per_room_max: 4_096,
            retention: Vec::new(),
        }
    }
}

impl QueueLimits {
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

/// Limits up to which the rooms of a pattern retain events, also for subscribers that come later.
/// Past a limit the oldest events are removed, handled or not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RetentionRule {
    /// Room name, in which `*` stands for any text.
    pub pattern: String,
    pub max_age: Option<Duration>,
    pub max_events: Option<u64>,
    pub max_bytes: Option<u64>,
}

impl RetentionRule {
    pub(crate) fn matches(&self, room: &str) -> bool {
        let mut parts = self.pattern.split('*');
        let Some(mut rest) = room.strip_prefix(parts.next().unwrap_or_default()) else {
            return false;
        };
        let mut parts: Vec<&str> = parts.collect();
        let Some(last) = parts.pop() else {
            return rest.is_empty();
        };
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }

    /// True if so many events or bytes exceed the rule.
    pub(crate) fn is_exceeded(&self, events: u64, bytes: u64) -> bool {
        self.max_events.is_some_and(|max| events > max) || self.max_bytes.is_some_and(|max| bytes > max)
    }

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
    pub(crate) fn on_commit(&mut self, now: UnixMillis, limits: &QueueLimits) {
        if has_passed(self.last, limits.reconnect_time(), now) {
            self.steady_since = now;
        }
        self.steady_since = self.steady_since.min(now);
        self.last = now;
    }

    /// True if absent subscribers had time to reconnect.
    pub(crate) fn is_steady(&self, limits: &QueueLimits) -> bool {
        has_passed(self.steady_since, limits.reconnect_time(), self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_in_a_pattern_stands_for_any_text() {
        let matches =
            |pattern: &str, room| RetentionRule { pattern: pattern.into(), ..Default::default() }.matches(room);
        for (pattern, room) in [("a", "a"), ("*", ""), ("*", "x"), ("a.*", "a."), ("a.*.c", "a.b.c"), ("*a*a", "aa")] {
            assert!(matches(pattern, room), "{pattern} {room}");
        }
        for (pattern, room) in [("a", "ab"), ("a.*", "b.a."), ("a.*.c", "a.c"), ("*a*a", "a"), ("", "x")] {
            assert!(!matches(pattern, room), "{pattern} {room}");
        }
    }
}
