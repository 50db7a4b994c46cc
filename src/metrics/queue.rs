//! Counters of durable events and of commits.

use std::time::Duration;

use super::{Counter, Histogram};

/// Upper bounds of the buckets of commit times. An fsync takes from a tenth of a millisecond to
/// some ten milliseconds.
pub(crate) const COMMIT_TIMES: [Duration; 9] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_secs(1),
];

/// Upper bounds of the buckets of commits, in changes.
pub(crate) const COMMIT_CHANGES: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 256, 1_024];

/// Outcomes of durable publishes. Written by the hub.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct PublishMetrics {
    /// Events that were stored for their publishers.
    pub(crate) stored: Counter,
    /// Publishes of an event that was stored before.
    pub(crate) duplicates: Counter,
    /// Publishes with the `dedup_id` of another event.
    pub(crate) conflicts: Counter,
    /// Publishes refused because a bound of the queue was reached.
    pub(crate) overloaded: Counter,
    pub(crate) too_large: Counter,
    /// Publishes with a wrong number of rooms or a wrong `dedup_id`.
    pub(crate) invalid: Counter,
    /// Publishes refused because the store had failed.
    pub(crate) unavailable: Counter,
    /// Publishes whose commit failed.
    pub(crate) indeterminate: Counter,
}

/// Commits of the queue. Written by its committer.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct CommitMetrics {
    pub(crate) micros: Histogram<{ COMMIT_TIMES.len() }>,
    pub(crate) changes: Histogram<{ COMMIT_CHANGES.len() }>,
}

impl CommitMetrics {
    pub(crate) fn record(&self, changes: usize, took: Duration) {
        self.micros.observe(took.as_micros() as u64, |at| COMMIT_TIMES[at].as_micros() as u64);
        self.changes.observe(changes as u64, |at| COMMIT_CHANGES[at]);
    }
}
