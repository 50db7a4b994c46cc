//! Values of subscribers and of stored events, as the application receives them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::ids::QueueOffset;
use crate::messages::subscribers::DeliveredEvent;
use crate::protocol::socketio::packet::Args;
use crate::queue::left_out::log_once;
use crate::queue::record::{DeadLetter, Gap, GapReason, SubscriberInfo, SubscriberState, UnixMillis};

/// A durable event that was pulled, or read from a room.
#[derive(Debug, Clone)]
pub struct PulledEvent {
    /// Position of the event in the queue.
    pub offset: QueueOffset,
    /// The room through which the subscriber receives the event.
    pub room: String,
    /// Name of the event.
    pub name: String,
    /// Arguments of the event.
    pub args: Args,
    /// Time at which the event was stored.
    pub published_at: SystemTime,
    /// True if the subscriber may have received the event before.
    pub redelivered: bool,
}

/// A range of events that a subscriber did not receive and will not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueGap {
    /// Position of the first event of the range.
    pub from: QueueOffset,
    /// Position of the last event of the range.
    pub to: QueueOffset,
    /// Number of events, if it is known.
    pub events: Option<u64>,
    /// Reason for which they were removed.
    pub reason: GapReason,
}

/// The result of [`Subscriber::pull`](crate::Subscriber::pull).
#[derive(Debug, Clone, Default)]
pub struct Pulled {
    /// The events, in order. Each is in flight until it is acknowledged, or until
    /// [`limits.queue.ack_wait`](crate::limits::QueueLimits::ack_wait) is over.
    pub events: Vec<PulledEvent>,
    /// Gaps that the subscriber has not confirmed. They are repeated until an event that was pulled
    /// with them or later is acknowledged.
    pub gaps: Vec<QueueGap>,
}

/// State of a subscriber.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SubscriberDetails {
    /// Name of the subscriber.
    pub name: String,
    /// Rooms that it subscribes to, sorted.
    pub rooms: Vec<String>,
    /// A socket is attached to the subscriber.
    pub is_attached: bool,
    /// Number of pending events, counted up to 10 000.
    pub pending: u64,
    /// True if there are more pending events than `pending` says.
    pub pending_capped: bool,
    /// Time at which the oldest pending event was stored.
    pub oldest_at: Option<SystemTime>,
    /// Number of events that were delivered and are not handled.
    pub in_flight: usize,
    /// The oldest of these. While it is not handled and in-flight events have reached their limit,
    /// no further event is delivered.
    pub oldest_in_flight: Option<QueueOffset>,
    /// Number of dead letters.
    pub dead_letters: u64,
    /// Position of the newest event of the queue, of whatever room.
    pub head: QueueOffset,
    /// Gaps that the subscriber has not confirmed.
    pub gaps: Vec<QueueGap>,
    /// Time of the creation.
    pub created_at: SystemTime,
    /// Time at which the subscriber was last seen; updated rarely while it is attached.
    pub seen_at: SystemTime,
}

/// A subscriber in a listing.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SubscriberSummary {
    /// Name of the subscriber.
    pub name: String,
    /// Rooms that it subscribes to, sorted.
    pub rooms: Vec<String>,
    /// Number of dead letters.
    pub dead_letters: u64,
    /// Time of the creation.
    pub created_at: SystemTime,
    /// Time at which the subscriber was last seen; updated rarely while it is attached.
    pub seen_at: SystemTime,
    /// Time of the expiry, if the subscriber has expired.
    pub expired_at: Option<SystemTime>,
}

/// An event that a subscriber gave up, or that was not acknowledged after
/// [`limits.queue.max_deliver`](crate::limits::QueueLimits::max_deliver) deliveries.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeadLetterEvent {
    /// Position of the event in the queue.
    pub offset: QueueOffset,
    /// The room through which the subscriber received the event.
    pub room: String,
    /// Name of the event.
    pub name: String,
    /// Arguments of the event.
    pub args: Args,
    /// Time at which the event was stored.
    pub published_at: SystemTime,
    /// Number of failed deliveries.
    pub attempts: u32,
    /// Reason that the subscriber gave, or that deliveries failed.
    pub reason: String,
    /// Time at which the event became a dead letter.
    pub dead_at: SystemTime,
}

/// A page of [`Subscriber::dead_letters`](crate::Subscriber::dead_letters).
#[derive(Debug, Clone, Default)]
pub struct DeadLetters {
    /// The dead letters, in order of their offsets.
    pub events: Vec<DeadLetterEvent>,
    /// Position to read on from. `None` if these are the last ones.
    pub next: Option<QueueOffset>,
}

/// A page of [`Namespace::stored_events`](crate::Namespace::stored_events).
#[derive(Debug, Clone)]
pub struct StoredEvents {
    /// The events, in order of their offsets.
    pub events: Vec<PulledEvent>,
    /// Position to read on from.
    pub next: QueueOffset,
    /// Position of the newest event of the queue, of whatever room.
    pub head: QueueOffset,
    /// More events are stored after `next`.
    pub has_more: bool,
    /// The newest event of these rooms after the requested position that is not stored any more.
    /// `None` if nothing is missing.
    pub removed_to: Option<QueueOffset>,
}

/// Reason for which an event is left out.
const NO_EVENT: &str = "its stored payload is not that of an event";

pub(super) fn system_time(at: UnixMillis) -> SystemTime {
    // A time beyond what the clock can represent is that of a damaged row.
    UNIX_EPOCH.checked_add(Duration::from_millis(at.0)).unwrap_or(UNIX_EPOCH)
}

pub(super) fn gap(gap: &Gap, offset: impl Fn(u64) -> QueueOffset) -> QueueGap {
    QueueGap { from: offset(gap.from), to: offset(gap.to), events: gap.events, reason: gap.reason }
}

/// `None` if the stored payload is not that of an event.
pub(super) fn pulled(event: DeliveredEvent, offset: impl Fn(u64) -> QueueOffset) -> Option<PulledEvent> {
    let Some((name, args)) = event.payload.event() else {
        log_once(offset(event.number), NO_EVENT);
        return None;
    };
    Some(PulledEvent {
        offset: offset(event.number),
        room: event.room.to_string(),
        name,
        args,
        published_at: system_time(event.published_at),
        redelivered: event.redelivered,
    })
}

pub(super) fn dead_letter(dead: DeadLetter, offset: impl Fn(u64) -> QueueOffset) -> Option<DeadLetterEvent> {
    let Some((name, args)) = dead.payload.event() else {
        log_once(offset(dead.number), NO_EVENT);
        return None;
    };
    Some(DeadLetterEvent {
        offset: offset(dead.number),
        room: dead.room.to_string(),
        name,
        args,
        published_at: system_time(dead.published_at),
        attempts: dead.attempts,
        reason: dead.reason,
        dead_at: system_time(dead.dead_at),
    })
}

pub(super) fn summary(info: SubscriberInfo) -> SubscriberSummary {
    let mut rooms: Vec<String> = info.rooms.iter().map(ToString::to_string).collect();
    rooms.sort_unstable();
    SubscriberSummary {
        name: info.key.name.to_string(),
        rooms,
        dead_letters: info.dead_letters,
        created_at: system_time(info.created_at),
        seen_at: system_time(info.seen_at),
        expired_at: match info.state {
            SubscriberState::Active => None,
            SubscriberState::Expired { at } => Some(system_time(at)),
        },
    }
}
