//! Counters of the subscribers of the queue.

use super::{Counter, Gauge};

/// Counts of the subscribers of the queue, written by their actor.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct SubscriberMetrics {
    /// Subscribers with an attached socket.
    pub(crate) connected: Gauge,
    /// Other subscribers, sampled each second.
    pub(crate) away: Gauge,
    /// Age of the oldest event that a subscriber has not acknowledged, in milliseconds. Sampled.
    pub(crate) oldest_age_ms: Gauge,
    /// Pending events of the subscriber that has most, up to 1 000. Sampled.
    pub(crate) largest_backlog: Gauge,
    pub(crate) in_flight: Gauge,
    /// Stored dead letters, sampled each second.
    pub(crate) dead_letters: Gauge,
    /// Events sent to subscribers, repetitions included.
    pub(crate) sent: Counter,
    /// Events that were acknowledged, once committed.
    pub(crate) acks: Counter,
    pub(crate) naks: Counter,
    pub(crate) terms: Counter,
    /// Answers to events that were never sent.
    pub(crate) answers_unknown: Counter,
    /// Answers dropped since too many settlements were under way.
    pub(crate) answers_dropped: Counter,
    /// Failed deliveries that are repeated, by reason.
    pub(crate) redelivered_nak: Counter,
    pub(crate) redelivered_timeout: Counter,
    pub(crate) redelivered_lost: Counter,
    /// Events that were given up after too many deliveries.
    pub(crate) undeliverable: Counter,
    /// Events that became dead letters.
    pub(crate) dead_lettered: Counter,
    /// Reported gaps by the code of their reason.
    pub(crate) gaps: [Counter; 7],
    /// Attachments that were ended by newer ones, or with their subscriber.
    pub(crate) evictions: Counter,
    /// Events not sent since they had expired.
    pub(crate) expired: Counter,
    /// Reads of the store that failed.
    pub(crate) reads_failed: Counter,
}
