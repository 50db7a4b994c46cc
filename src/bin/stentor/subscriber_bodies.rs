//! Subscribers, their events and their dead letters as JSON, for acks and HTTP responses.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;
use stentor::{
    Args, DeadLetterEvent, DeadLetters, IdError, PulledEvent, QueueError, QueueGap, QueueOffset, StoredEvents,
    SubscriberDetails,
};

use super::error_code::ErrorCode;
use super::replies::ErrorBody;

/// Milliseconds since 1970, as `Date.now()` in JavaScript.
pub(super) fn unix_millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// A durable event.
#[derive(Debug, Serialize)]
pub(super) struct EventBody {
    offset: String,
    room: String,
    event: String,
    args: Vec<Box<RawValue>>,
    /// Binary attachments as base64. A placeholder in the arguments has the index of one in `num`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<String>,
    published_at: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    redelivered: bool,
}

impl From<PulledEvent> for EventBody {
    fn from(pulled: PulledEvent) -> Self {
        let PulledEvent { offset, room, name, args, published_at, redelivered } = pulled;
        let (offset, published_at) = (offset.to_string(), unix_millis(published_at));
        let attachments = attachments(&args);
        Self { offset, room, event: name, args: raw(&args), attachments, published_at, redelivered }
    }
}

fn raw(args: &Args) -> Vec<Box<RawValue>> {
    // Stored arguments were read as JSON before.
    args.iter().filter_map(|arg| RawValue::from_string(arg.to_owned()).ok()).collect()
}

fn attachments(args: &Args) -> Vec<String> {
    args.attachments().iter().map(|bytes| STANDARD.encode(bytes)).collect()
}

#[derive(Debug, Serialize)]
pub(super) struct GapBody {
    from: String,
    to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<u64>,
    reason: &'static str,
}

impl From<QueueGap> for GapBody {
    fn from(gap: QueueGap) -> Self {
        let QueueGap { from, to, events, reason } = gap;
        Self { from: from.to_string(), to: to.to_string(), events, reason: reason.as_str() }
    }
}

/// State of a subscriber.
#[derive(Debug, Serialize)]
pub(super) struct SubscriberBody {
    name: String,
    rooms: Vec<String>,
    attached: bool,
    /// Pending events, counted up to a bound.
    events: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    events_capped: bool,
    oldest_at: Option<u64>,
    in_flight: usize,
    oldest_in_flight: Option<String>,
    dead_letters: u64,
    /// Newest event of the queue.
    head: String,
    gaps: Vec<GapBody>,
    created_at: u64,
    seen_at: u64,
}

impl From<SubscriberDetails> for SubscriberBody {
    fn from(details: SubscriberDetails) -> Self {
        Self {
            name: details.name,
            rooms: details.rooms,
            attached: details.is_attached,
            events: details.pending,
            events_capped: details.pending_capped,
            oldest_at: details.oldest_at.map(unix_millis),
            in_flight: details.in_flight,
            oldest_in_flight: details.oldest_in_flight.map(|offset| offset.to_string()),
            dead_letters: details.dead_letters,
            head: details.head.to_string(),
            gaps: details.gaps.into_iter().map(GapBody::from).collect(),
            created_at: unix_millis(details.created_at),
            seen_at: unix_millis(details.seen_at),
        }
    }
}

#[derive(Debug, Serialize)]
struct DeadLetterBody {
    offset: String,
    room: String,
    event: String,
    args: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<String>,
    published_at: u64,
    attempts: u32,
    reason: String,
    dead_at: u64,
}

impl From<DeadLetterEvent> for DeadLetterBody {
    fn from(dead: DeadLetterEvent) -> Self {
        Self {
            offset: dead.offset.to_string(),
            room: dead.room,
            event: dead.name,
            args: raw(&dead.args),
            attachments: attachments(&dead.args),
            published_at: unix_millis(dead.published_at),
            attempts: dead.attempts,
            reason: dead.reason,
            dead_at: unix_millis(dead.dead_at),
        }
    }
}

/// A page of dead letters.
#[derive(Debug, Serialize)]
pub(super) struct DeadLettersBody {
    events: Vec<DeadLetterBody>,
    /// Offset to read on from, if there are more.
    next: Option<String>,
}

impl From<DeadLetters> for DeadLettersBody {
    fn from(page: DeadLetters) -> Self {
        let next = page.next.map(|offset| offset.to_string());
        Self { events: page.events.into_iter().map(DeadLetterBody::from).collect(), next }
    }
}

/// A page of the stored events of rooms.
#[derive(Debug, Serialize)]
pub(super) struct StoredEventsBody {
    events: Vec<EventBody>,
    next: String,
    head: String,
    more: bool,
    /// Newest event of the rooms after the requested offset that is not stored any more.
    gap: Option<String>,
}

impl From<StoredEvents> for StoredEventsBody {
    fn from(page: StoredEvents) -> Self {
        Self {
            events: page.events.into_iter().map(EventBody::from).collect(),
            next: page.next.to_string(),
            head: page.head.to_string(),
            more: page.has_more,
            gap: page.removed_to.map(|offset| offset.to_string()),
        }
    }
}

/// Parses an offset of the queue. `event` and `what` name it in the error.
pub(super) fn parse_offset(text: &str, event: &str, what: &str) -> Result<QueueOffset, ErrorBody> {
    QueueOffset::parse(text).map_err(|error: IdError| {
        ErrorBody::new(ErrorCode::BadRequest, format!("{event}: {what}: {error}; expected one that this server gave"))
    })
}

/// The error of what needs a queue, in terms of the server's settings.
pub(super) const QUEUE_OFF: &str = "queue is off: set queue to \"disk\" or \"memory\" (STENTOR_QUEUE, --queue)";

impl From<QueueError> for ErrorBody {
    fn from(error: QueueError) -> Self {
        let code = match &error {
            QueueError::Room(_) => ErrorCode::BadRoom,
            QueueError::UnknownSubscriber | QueueError::NotPending { .. } | QueueError::NotInFlight { .. } => {
                ErrorCode::NotFound
            }
            QueueError::Busy | QueueError::Closed | QueueError::OtherSubscriber { .. } => ErrorCode::Conflict,
            QueueError::Expired { .. } => ErrorCode::Expired,
            QueueError::TooManySubscribers { .. }
            | QueueError::TooManySubscriptions { .. }
            | QueueError::TooManyRequests { .. }
            | QueueError::Overloaded => ErrorCode::Overloaded,
            QueueError::Unavailable => ErrorCode::Unavailable,
            QueueError::Disconnected | QueueError::NotYetConnected => ErrorCode::Disconnected,
            QueueError::Indeterminate => ErrorCode::Indeterminate,
            _ => ErrorCode::BadRequest,
        };
        let message = match error {
            QueueError::Off => QUEUE_OFF.to_owned(),
            error => error.to_string(),
        };
        Self::new(code, message)
    }
}
