//! The error of operations on subscribers of the queue.

use std::fmt::Display;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;

use super::error::RoomError;
use crate::ids::QueueOffset;
use crate::messages::answer::NoAnswer;
use crate::messages::attachment::SubscriberError;
use crate::queue::change::Refusal;
use crate::queue::record::SubscriberNameError;

/// An operation on a subscriber failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The server has no queue. Set one with [`Builder::queue`](crate::Builder::queue).
    #[error("queue is off: set one with Builder::queue")]
    Off,
    /// The name is invalid. Choose one of 1 to 256 bytes without control characters.
    #[error(transparent)]
    Name(#[from] SubscriberNameError),
    /// The name of a room is invalid, or the attached socket did not join the room.
    #[error(transparent)]
    Room(RoomError),
    /// The request has no room or too many. Request fewer rooms at a time.
    #[error("request has {rooms} rooms, expected 1 to {limit}")]
    Rooms {
        /// Rooms of the request, counted up to one more than the limit.
        rooms: usize,
        /// Maximum number of rooms.
        limit: usize,
    },
    /// The request names too many events. Split it.
    #[error("request names {numbers} events, expected at most {limit}")]
    TooManyOffsets {
        /// Events of the request.
        numbers: usize,
        /// Maximum number of events.
        limit: usize,
    },
    /// The socket has disconnected, or the server has ended. Attach again over the next connection.
    #[error("socket is disconnected, or the server is closed")]
    Disconnected,
    /// The socket is not connected yet. Attach in
    /// [`on_connection`](crate::Namespace::on_connection), not in connection middleware.
    #[error("socket is not connected yet: attach it in on_connection, not in connection middleware")]
    NotYetConnected,
    /// The socket is attached to another subscriber. Use one socket for each.
    #[error("socket is attached to the subscriber {name:?} already")]
    OtherSubscriber {
        /// Name of the other subscriber.
        name: String,
    },
    /// A socket is attached to the subscriber and receives its events, so they cannot be pulled.
    #[error("subscriber is attached to a socket, which receives its events")]
    Busy,
    /// The subscriber was closed while the pull waited. Pull again to continue.
    #[error("subscriber was closed while the pull waited")]
    Closed,
    /// The subscriber does not exist. Create it with
    /// [`Namespace::subscriber`](crate::Namespace::subscriber).
    #[error("subscriber does not exist")]
    UnknownSubscriber,
    /// The subscriber was away for too long and was removed. Create it again; what was pending for
    /// it is gone.
    #[error("subscriber has expired")]
    Expired {
        /// Time of the expiry.
        at: SystemTime,
    },
    /// There are as many subscribers as
    /// [`limits.queue.subscribers_max`](crate::limits::QueueLimits::subscribers_max) allows. Remove
    /// some, or raise the limit.
    #[error("queue has {limit} subscribers, the limit")]
    TooManySubscribers {
        /// Maximum number of subscribers.
        limit: u64,
    },
    /// The subscriber has as many rooms as `subscriptions_per_subscriber_max` of
    /// [`limits.queue`](crate::limits::QueueLimits) allows. Unsubscribe from some, or raise the
    /// limit.
    #[error("subscriber has {limit} subscriptions, the limit")]
    TooManySubscriptions {
        /// Maximum number of rooms.
        limit: u64,
    },
    /// The offset belongs to another queue. Start without an offset.
    #[error("offset belongs to another queue")]
    ForeignEpoch,
    /// The offset is that of a future event.
    #[error("offset is beyond the newest event: number={number} newest={head}")]
    BeyondHead {
        /// Number of the offset.
        number: u64,
        /// Number of the newest event.
        head: u64,
    },
    /// The event is not pending for the subscriber: it was handled or removed before.
    #[error("event {offset} is not pending for the subscriber")]
    NotPending {
        /// Position of the event.
        offset: QueueOffset,
    },
    /// The event is not in flight: it was handled, or is to be delivered again.
    #[error("event {offset} is not in flight")]
    NotInFlight {
        /// Position of the event.
        offset: QueueOffset,
    },
    /// There are too many requests of one kind. Nothing was changed. Wait for the answers to some.
    #[error("queue is overloaded: {requests} {found} of {limit}")]
    TooManyRequests {
        /// The kind of requests.
        requests: &'static str,
        /// Number of such requests without an answer.
        found: u64,
        /// Maximum number of them.
        limit: u64,
    },
    /// The queue has too many requests. Nothing was changed. Retry later, at a slower pace.
    #[error("queue is overloaded")]
    Overloaded,
    /// The store has failed. Nothing was changed. Retry later; the log says why.
    #[error("queue is unavailable: its store has failed, retry later")]
    Unavailable,
    /// The commit failed. The change may be stored or not. Retry: every operation may be repeated.
    #[error("result is unknown: the change may be stored or not, retry")]
    Indeterminate,
}

impl From<NoAnswer> for QueueError {
    fn from(error: NoAnswer) -> Self {
        match error {
            NoAnswer::Disconnected => Self::Disconnected,
            NoAnswer::NotYetConnected => Self::NotYetConnected,
            NoAnswer::Overloaded => Self::Overloaded,
            NoAnswer::Unanswered => Self::Indeterminate,
        }
    }
}

impl From<SubscriberError> for QueueError {
    fn from(error: SubscriberError) -> Self {
        match error {
            SubscriberError::Refused(refusal) => refusal.into(),
            SubscriberError::Unavailable => Self::Unavailable,
            SubscriberError::Indeterminate => Self::Indeterminate,
            SubscriberError::Overloaded => Self::Overloaded,
            SubscriberError::NoAnswer(error) => error.into(),
            SubscriberError::Busy => Self::Busy,
            SubscriberError::Closed => Self::Closed,
            SubscriberError::ForeignRoom => Self::Room(RoomError::ForeignRoom),
            SubscriberError::NotInFlight { number } => unexpected(&format_args!("event {number} is not in flight")),
            SubscriberError::OtherSubscriber { name } => Self::OtherSubscriber { name },
            SubscriberError::Off => Self::Off,
        }
    }
}

impl From<Refusal> for QueueError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownSubscriber => Self::UnknownSubscriber,
            Refusal::SubscriberExpired { at } => {
                let at = UNIX_EPOCH.checked_add(Duration::from_millis(at.0)).unwrap_or(UNIX_EPOCH);
                Self::Expired { at }
            }
            Refusal::TooManySubscribers { limit } => Self::TooManySubscribers { limit },
            Refusal::TooManySubscriptions { limit } => Self::TooManySubscriptions { limit },
            Refusal::ForeignEpoch => Self::ForeignEpoch,
            Refusal::BeyondHead { number, head } => Self::BeyondHead { number, head },
            Refusal::TooManyNumbers { numbers } => {
                Self::TooManyOffsets { numbers, limit: crate::queue::change::ACKED_MAX }
            }
            Refusal::Overloaded { what, found, limit } => Self::TooManyRequests { requests: what, found, limit },
            // The others concern publishing or one event, or need a new queue.
            refusal => unexpected(&refusal),
        }
    }
}

fn unexpected(error: &dyn Display) -> QueueError {
    log::error!("change of a subscriber refused error=\"{error}\"");
    QueueError::Unavailable
}
