//! A durable event as a builder, and the errors of publishing it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use super::args::ToArgs;
use super::core::Core;
use super::error::EmitError;
use crate::ids::{IdError, NamespacePath, QueueOffset, Recipient, RoomName};
use crate::messages::answer::{NoAnswer, PublishRefusal, RequestError, Stored};
use crate::messages::event::DurableEmit;
use crate::messages::session::{Request, SessionLink};
use crate::queue::change::{Dedup, Publish, Refusal};
use crate::queue::committer::unix_millis;
use crate::queue::record::{ContentHash, DEDUP_ID_BYTES_MAX, ROOMS_MAX};
use crate::queue::service::QueueService;
use crate::state::rooms::Target;

/// A durable event, as a builder. Nothing happens until [`emit`](Self::emit) or
/// [`emit_confirmed`](Self::emit_confirmed). Made by
/// [`Broadcast::durable`](crate::Broadcast::durable).
///
/// # Promise
///
/// - **Durability.** A publish completes after an fsync (with [`Queue::disk`](crate::Queue::disk)).
///   From then on the event survives any end of the process and a power loss. No client receives
///   the event before.
/// - **Delivery.** Each subscriber of one of the rooms receives the event at least once, until it
///   acknowledges it, or until a limit removes the event; then the subscriber receives a gap. The
///   connected members of the rooms receive the event as any other, and miss it if they are away
///   for longer than their connections can be recovered.
/// - **Order.** All receivers receive durable events in the order of their offsets. What a socket's
///   handlers emit after a durable event comes after it: until the event is stored, everything else
///   that this socket's client causes waits. Nobody else waits. Two exceptions: an event that was
///   answered with [`PublishError::Indeterminate`] may be sent after later events, and what is
///   emitted after the socket's session has ended, as in a handler of its disconnect, may overtake
///   the event. Code outside of handlers keeps the order by awaiting each publish, and each plain
///   event before it with [`Broadcast::emit_confirmed`](crate::Broadcast::emit_confirmed).
/// - **Repetition.** A publish with the [`dedup_id`](Self::dedup_id) of a stored event stores
///   nothing and gets the confirmation of the first one. So after [`PublishError::Indeterminate`],
///   publish again with the same id.
///
/// The publisher's own socket receives nothing as a member, as in every broadcast of a socket. A
/// subscriber receives what it published itself.
#[derive(Debug, Clone)]
#[must_use = "nothing happens until `emit`"]
pub struct Durable {
    pub(super) core: Arc<Core>,
    pub(super) namespace: NamespacePath,
    /// The session of the socket on which the broadcast was created.
    pub(super) own: Option<SessionLink>,
    pub(super) target: Target,
    pub(super) is_volatile: bool,
    pub(super) invalid: Option<IdError>,
    pub(super) dedup_id: Option<Bytes>,
    pub(super) expires_in: Option<Duration>,
}

impl Durable {
    /// Sets an id by which the queue recognises a repeated publish: 1 to 128 bytes, unique within
    /// the namespace. The id is remembered for
    /// [`limits.queue.dedup_window`](crate::limits::QueueLimits::dedup_window) after the first
    /// publish. The same id with other content or rooms is a [`PublishError::Conflict`].
    pub fn dedup_id(mut self, id: impl AsRef<[u8]>) -> Self {
        // A longer id is refused. It is not copied.
        let id = id.as_ref();
        self.dedup_id = Some(Bytes::copy_from_slice(&id[..id.len().min(DEDUP_ID_BYTES_MAX + 1)]));
        self
    }

    /// Removes the event after this time, counted from now. Subscribers that have not acknowledged
    /// it by then receive a gap. By default, an event is kept until all its subscribers have
    /// acknowledged it.
    pub fn expires_in(mut self, duration: Duration) -> Self {
        self.expires_in = Some(duration);
        self
    }

    /// Publishes the event. Completes when the event is stored.
    ///
    /// # Errors
    ///
    /// Each variant of [`PublishError`] says whether the event may be stored, and what to do.
    pub async fn emit<T: ToArgs>(self, name: &str, data: T) -> Result<(), PublishError> {
        self.emit_confirmed(name, data).await.map(drop)
    }

    /// Publishes the event like [`emit`](Self::emit), and returns its position in the queue and the
    /// number of subscribers that it is pending for.
    pub async fn emit_confirmed<T: ToArgs>(self, name: &str, data: T) -> Result<Stored, PublishError> {
        let Self { core, namespace, own, target, is_volatile, invalid, dedup_id, expires_in } = self;
        if let Some(error) = invalid {
            return Err(error.into());
        }
        let Some(queue) = core.queue.clone() else { return Err(PublishError::QueueOff) };
        if is_volatile {
            return Err(PublishError::Unsupported("volatile"));
        }
        if !target.except.is_empty() {
            return Err(PublishError::Unsupported("except"));
        }
        let mut rooms = target.rooms.iter().map(room_name).collect::<Result<Vec<_>, _>>()?;
        rooms.sort_unstable();
        rooms.dedup();
        let (draft, payload) = core.encoder.durable_event(&namespace, name, &data)?;
        let dedup = dedup_id.map(|id| Dedup { id, content: ContentHash::of(&rooms, &payload) });
        let expires_at = expires_in.map(|duration| {
            let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
            unix_millis().plus(milliseconds)
        });
        let publish = Publish { namespace, rooms, payload, origin: Bytes::new(), dedup, expires_at };
        publish.check(queue.limits()).map_err(|refusal| PublishError::refused(refusal, &queue))?;
        let emit = Box::new(DurableEmit { publish: Box::new(publish), draft, exclude: target.exclude });
        let link = core.durable_outlet(own.as_ref());
        let asked = Core::ask(&link, |done| Request::Publish { emit, done }).await;
        asked.map_err(|error| PublishError::of_request(error, &queue))
    }
}

/// The name of a room. That of a socket's own room is the id of the socket.
fn room_name(recipient: &Recipient) -> Result<RoomName, IdError> {
    match recipient {
        Recipient::Room(room) => Ok(room.clone()),
        Recipient::Socket(socket) => RoomName::parse(&socket.to_string()),
    }
}

/// A durable event was not published, or it is unknown whether it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The server has no queue. Set one with [`Builder::queue`](crate::Builder::queue).
    #[error("queue is off: set one with Builder::queue, or publish without durable")]
    QueueOff,
    /// The broadcast has a setting that durable events do not support: `volatile` or `except`.
    /// Remove it.
    #[error("durable events do not support {0}")]
    Unsupported(&'static str),
    /// The event has no room or too many. Nothing was stored. Select 1 to 1024 rooms.
    #[error("durable event has {rooms} rooms, expected 1 to {ROOMS_MAX}")]
    Rooms {
        /// Rooms of the event.
        rooms: usize,
    },
    /// The `dedup_id` is empty or too long. Nothing was stored. Use an id of 1 to 128 bytes.
    #[error("dedup_id is empty or too long, expected 1 to {DEDUP_ID_BYTES_MAX} bytes")]
    DedupId,
    /// Another event was published with the same `dedup_id`. Nothing was stored. Publish with
    /// another id.
    #[error("dedup_id was used for another event offset={first}")]
    Conflict {
        /// Position of the other event.
        first: QueueOffset,
    },
    /// The queue is full, or too many publishes wait. Nothing was stored. Publish again later. If
    /// `what` is `bytes` or `dedup_ids`, raise the limit, or let subscribers acknowledge more.
    #[error("queue is overloaded: {what} {found} of {limit}")]
    Overloaded {
        /// Name of the bound that was reached.
        what: &'static str,
        /// Value at the time of the publish.
        found: u64,
        /// Maximum of this value.
        limit: u64,
    },
    /// The event exceeds a limit of the queue or of the journal. Nothing was stored. Publish less
    /// data in one event, or raise [`limits.queue`](crate::limits::QueueLimits) or
    /// [`limits.journal.segment_bytes`](crate::limits::JournalLimits::segment_bytes).
    #[error("event of {bytes} bytes exceeds limit of {limit}")]
    TooLarge {
        /// Bytes of the event.
        bytes: usize,
        /// Maximum number of bytes.
        limit: usize,
    },
    /// The store has failed. Nothing was stored. Publish again later; the log says why.
    #[error("queue is unavailable: its store has failed, publish again later")]
    Unavailable,
    /// The commit failed, or its result did not arrive in time. The event may be stored or not.
    /// Publish again with the same `dedup_id`.
    #[error("result is unknown: the event may be stored or not, publish again with the same dedup_id")]
    Indeterminate,
    /// The hub has too much work. Nothing was stored. Publish again later, at a slower pace.
    #[error("hub is overloaded")]
    HubOverloaded,
    /// The server has ended, or its part that publishes. Nothing was stored.
    #[error("server has ended, or its part that publishes")]
    Disconnected,
    /// The event cannot be encoded, as [`EmitError`] says. Nothing was stored. Change the call.
    #[error(transparent)]
    Event(EmitError),
    /// A room name is invalid. Nothing was stored. Change the call.
    #[error("target room is invalid: {0}")]
    Room(#[from] IdError),
}

impl From<EmitError> for PublishError {
    fn from(error: EmitError) -> Self {
        Self::Event(error)
    }
}

impl PublishError {
    fn of_request(error: RequestError<PublishRefusal>, queue: &QueueService) -> Self {
        match error {
            RequestError::NoAnswer(NoAnswer::Overloaded) => Self::HubOverloaded,
            RequestError::NoAnswer(NoAnswer::Unanswered) => Self::Indeterminate,
            RequestError::NoAnswer(NoAnswer::Disconnected | NoAnswer::NotYetConnected) => Self::Disconnected,
            RequestError::Refused(PublishRefusal::QueueOff) => Self::QueueOff,
            RequestError::Refused(PublishRefusal::Unavailable) => Self::Unavailable,
            RequestError::Refused(PublishRefusal::Indeterminate) => Self::Indeterminate,
            RequestError::Refused(PublishRefusal::Refused(refusal)) => Self::refused(refusal, queue),
        }
    }

    fn refused(refusal: Refusal, queue: &QueueService) -> Self {
        match refusal {
            Refusal::Conflict { first } => {
                Self::Conflict { first: QueueOffset { epoch: queue.epoch(), number: first } }
            }
            Refusal::Overloaded { what, found, limit } => Self::Overloaded { what, found, limit },
            Refusal::TooLarge { bytes, limit } => Self::TooLarge { bytes, limit },
            Refusal::Rooms { rooms } => Self::Rooms { rooms },
            Refusal::DedupId { .. } => Self::DedupId,
            // The others do not concern publishing, or need a new queue.
            refusal => {
                log::error!("durable event refused error=\"{refusal}\"");
                Self::Unavailable
            }
        }
    }
}
