//! A rule by which rooms of the queue retain events.

use std::time::Duration;

/// Limits up to which the rooms of a pattern retain events, also for subscribers that come later.
/// Past a limit the oldest events are removed, handled or not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RetentionRule {
    /// Room name, in which `*` stands for any text.
    pub pattern: String,
    /// Age from which an event is removed.
    pub max_age: Option<Duration>,
    /// Maximum number of events of one room.
    pub max_events: Option<u64>,
    /// Maximum number of bytes of the events of one room.
    pub max_bytes: Option<u64>,
}

impl RetentionRule {
    /// Creates a rule without limits: the rooms of the pattern retain all events.
    ///
    /// ```
    /// # use stentor::limits::{Limits, RetentionRule};
    /// let mut rule = RetentionRule::new("orders.*");
    /// rule.max_events = Some(1_000);
    /// let limits = Limits::with(|limits| limits.queue.retention = vec![rule]);
    /// ```
    pub fn new(pattern: impl Into<String>) -> Self {
        Self { pattern: pattern.into(), ..Self::default() }
    }

    /// True if the rule is for a room of that name.
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
