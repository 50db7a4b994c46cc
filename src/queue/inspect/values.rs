//! Contents of a queue as an operator sees them.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::ids::{Epoch, NamespacePath, QueueOffset};
use crate::queue::record::{Backlog, DeadLetter, DurableEvent, Gap, SubscriberInfo, SubscriberState, UnixMillis};

/// Sizes of a queue on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// The newest event.
    pub head: QueueOffset,
    /// The newest event that was sent to the connected members of its rooms.
    pub revealed: QueueOffset,
    /// Number of stored events.
    pub events: u64,
    /// Bytes of events and dead letters, which `queue_bytes_max` bounds.
    pub bytes: u64,
    /// Number of rooms with events or subscribers.
    pub rooms: u64,
    /// Number of subscribers that have not expired.
    pub subscribers: u64,
    /// Number of dead letters of all subscribers.
    pub dead_letters: u64,
    /// Number of stored ids for deduplication.
    pub dedup_ids: u64,
    /// Number of commits since the queue was made.
    pub commits: u64,
    /// Time of the newest commit.
    pub last_commit_at: SystemTime,
    /// Files of the queue, with their bytes.
    pub files: Vec<(PathBuf, u64)>,
    /// Bytes within the database that are free.
    pub unused_bytes: u64,
}

/// A subscriber with its backlog.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectedSubscriber {
    /// Namespace of the subscriber.
    pub namespace: NamespacePath,
    /// Name within its namespace.
    pub name: String,
    /// Time at which the subscriber was created.
    pub created_at: SystemTime,
    /// Time at which a connection of the subscriber was last seen.
    pub seen_at: SystemTime,
    /// Time at which the subscriber expired.
    pub expired_at: Option<SystemTime>,
    /// Number of rooms that the subscriber subscribes to.
    pub rooms: usize,
    /// Number of events that are pending, up to the bound of the count.
    pub pending: u64,
    /// More events are pending than were counted.
    pub is_capped: bool,
    /// Publication time of the oldest pending event.
    pub oldest_at: Option<SystemTime>,
    /// Number of dead letters.
    pub dead_letters: u64,
}

/// A subscription of a subscriber to a room.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectedSubscription {
    /// Name of the room.
    pub room: String,
    /// The room has the replayed dead letters of the subscriber, and only the subscriber has it.
    pub is_own: bool,
    /// Events after this offset belong to the subscription.
    pub after: QueueOffset,
    /// All events up to this offset are handled.
    pub floor: QueueOffset,
    /// Number of ranges of events beyond `floor` that are acknowledged.
    pub acked_ranges: u64,
    /// Number of pending events of the room, up to the bound of the count.
    pub pending: u64,
    /// More events are pending than were counted.
    pub is_capped: bool,
}

/// A stored event as a subscriber receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectedEvent {
    /// Offset of the event.
    pub offset: QueueOffset,
    /// The room through which the subscriber receives it.
    pub room: String,
    /// Publication time of the event.
    pub published_at: SystemTime,
    /// Time from which the event is removed, if the publisher set one.
    pub expires_at: Option<SystemTime>,
    /// Number of failed deliveries.
    pub attempts: u32,
    /// The event is delivered while no other is in flight.
    pub alone: bool,
    /// Time of the next delivery, after a failed one.
    pub retry_at: Option<SystemTime>,
    /// The dead letter that was replayed as this event.
    pub replay_of: Option<QueueOffset>,
    /// Name and arguments as a JSON array.
    pub payload: Bytes,
    /// Binary attachments in their order.
    pub attachments: Vec<Bytes>,
}

/// An event that a subscriber gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectedDeadLetter {
    /// Offset of the event.
    pub offset: QueueOffset,
    /// The room through which the subscriber received it.
    pub room: String,
    /// Publication time of the event.
    pub published_at: SystemTime,
    /// Time at which the event became a dead letter.
    pub dead_at: SystemTime,
    /// Number of failed deliveries.
    pub attempts: u32,
    /// Reason that the subscriber or the server gave.
    pub reason: String,
    /// Name and arguments as a JSON array.
    pub payload: Bytes,
    /// Binary attachments in their order.
    pub attachments: Vec<Bytes>,
}

/// A range of events that a subscriber did not receive and will not, until it confirms the gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectedGap {
    /// First event of the range.
    pub from: QueueOffset,
    /// Last event of the range.
    pub to: QueueOffset,
    /// Number of events, if it is known.
    pub events: Option<u64>,
    /// Reason of the removal, such as `expired`.
    pub reason: &'static str,
}

/// Events of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectedRoom {
    /// Number of subscriptions.
    pub subscribers: u64,
    /// Number of stored events.
    pub events: u64,
    /// Number of stored events up to the offset that was asked for.
    pub events_up_to: u64,
}

/// Time by the clock of the machine. Times that no clock has are cut at the year 9999.
fn time(at: UnixMillis) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(at.0.min(253_402_300_799_000))
}

impl InspectedSubscriber {
    pub(super) fn new(info: SubscriberInfo, backlog: Backlog) -> Self {
        Self {
            namespace: info.key.namespace,
            name: info.key.name.as_str().to_owned(),
            created_at: time(info.created_at),
            seen_at: time(info.seen_at),
            expired_at: match info.state {
                SubscriberState::Active => None,
                SubscriberState::Expired { at } => Some(time(at)),
            },
            rooms: info.rooms.len(),
            pending: backlog.events,
            is_capped: backlog.is_capped,
            oldest_at: backlog.oldest_at.map(time),
            dead_letters: info.dead_letters,
        }
    }
}

impl InspectedEvent {
    pub(super) fn new(epoch: Epoch, event: DurableEvent) -> Self {
        let offset = |number| QueueOffset { epoch, number };
        Self {
            offset: offset(event.number),
            room: event.room.as_str().to_owned(),
            published_at: time(event.published_at),
            expires_at: event.expires_at.map(time),
            attempts: event.attempts,
            alone: event.alone,
            retry_at: event.retry_at.map(time),
            replay_of: event.replay_of.map(offset),
            payload: event.payload.text,
            attachments: event.payload.attachments,
        }
    }
}

impl InspectedDeadLetter {
    pub(super) fn new(epoch: Epoch, dead: DeadLetter) -> Self {
        Self {
            offset: QueueOffset { epoch, number: dead.number },
            room: dead.room.as_str().to_owned(),
            published_at: time(dead.published_at),
            dead_at: time(dead.dead_at),
            attempts: dead.attempts,
            reason: dead.reason,
            payload: dead.payload.text,
            attachments: dead.payload.attachments,
        }
    }
}

impl InspectedGap {
    pub(super) fn new(epoch: Epoch, gap: &Gap) -> Self {
        let offset = |number| QueueOffset { epoch, number };
        Self { from: offset(gap.from), to: offset(gap.to), events: gap.events, reason: gap.reason.as_str() }
    }
}

impl QueueStats {
    pub(super) fn time(at: UnixMillis) -> SystemTime {
        time(at)
    }
}
