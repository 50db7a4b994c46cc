//! A rule by which rooms of the queue retain events.

use std::time::Duration;

use crate::pattern;

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
        pattern::matches(&self.pattern, room)
    }

    /// True if so many events or bytes exceed the rule.
    pub(crate) fn is_exceeded(&self, events: u64, bytes: u64) -> bool {
        self.max_events.is_some_and(|max| events > max) || self.max_bytes.is_some_and(|max| bytes > max)
    }
}
