//! The attachment of a socket to a subscriber: its id, what the socket receives through it, and the
//! errors of requests about subscribers.

use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;
use tokio::sync::oneshot;

use super::answer::{Joined, NoAnswer, RequestError};
use crate::ids::RoomName;
use crate::protocol::encoded::Message;
use crate::queue::change::Refusal;
use crate::state::rooms::MembershipError;

/// Id of one attachment, of a socket or of pulls, unique in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct AttachmentId(u64);

impl AttachmentId {
    pub(crate) fn next() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        Self(COUNT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Receives the result of a request about a subscriber.
pub(crate) type SubscriberReply<T> = oneshot::Sender<Result<T, SubscriberError>>;

/// The result of a join in the hub.
pub(crate) type JoinResult = Result<Joined, RequestError<MembershipError>>;

/// Reason why a request about a subscriber failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum SubscriberError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store has failed and nothing was changed.
    #[error("queue is unavailable, nothing was changed")]
    Unavailable,
    /// The commit failed.
    #[error("commit failed, the change may be stored or not")]
    Indeterminate,
    #[error("queue has too many requests, nothing was changed")]
    Overloaded,
    /// The request was not answered, since the socket is gone, or not connected yet, or the server
    /// is overloaded.
    #[error("no answer")]
    NoAnswer(NoAnswer),
    #[error("subscriber is attached to a socket, which receives its events")]
    Busy,
    #[error("subscriber was closed while the pull waited")]
    Closed,
    /// The name is the id of another socket.
    #[error("room is another socket's own")]
    ForeignRoom,
    #[error("event {number} is not in flight")]
    NotInFlight { number: u64 },
    /// The socket is attached to this other subscriber.
    #[error("socket is the subscriber {name:?} already")]
    OtherSubscriber { name: String },
    /// The queue is off.
    #[error("queue is off")]
    Off,
}

impl From<NoAnswer> for SubscriberError {
    fn from(error: NoAnswer) -> Self {
        Self::NoAnswer(error)
    }
}

/// An update for the session of an attached socket, from the subscribers' actor. Bounded by the
/// events in flight, by requests that are answered, and by gaps.
#[derive(Debug)]
pub(crate) enum AttachmentUpdate {
    /// Packets for the client, in order.
    Packets(Vec<Message>),
    /// The socket joins the rooms of its subscriptions, and leaves those of subscriptions that have
    /// ended since a session that it resumed.
    Join(Vec<RoomName>),
    /// The socket joins the room of a new subscription, and the result is reported.
    JoinNew {
        room: RoomName,
        after: u64,
        done: oneshot::Sender<JoinResult>,
    },
    Leave(RoomName),
    /// The attachment has ended. The client receives the packet and is disconnected from the
    /// namespace, unless the packet is missing.
    Ended(Option<Message>),
}

/// The answer of a client to a durable event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EventAnswer {
    Ack,
    /// The client wants the event again, after so many milliseconds if it said so.
    Nak(Option<u64>),
    /// The client gives the event up.
    Term(String),
}
