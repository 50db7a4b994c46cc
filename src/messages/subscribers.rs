//! Commands to the actor that delivers durable events to subscribers, and its address.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use super::attachment::{AttachmentId, EventAnswer, JoinResult, SubscriberReply};
use super::session::{SessionLink, SocketRef};
use crate::ids::{NamespacePath, QueueOffset, RoomName, SocketId};
use crate::queue::change::{Acked, StartPosition};
use crate::queue::record::{Backlog, Gap, Payload, SubscriberInfo, SubscriberKey, UnixMillis};
use crate::queue::store::DeadLetterPage;
use crate::queue::wake_queue::WakeQueue;

/// A command to the subscribers' actor.
pub(crate) enum SubscriberCommand {
    /// Attaches a socket to a subscriber, which is created if it does not exist. Sent by sessions.
    /// Repeated with the same id, it has no further effect.
    Attach {
        id: AttachmentId,
        key: SubscriberKey,
        socket: SocketRef,
        unhandled: Arc<AtomicUsize>,
        done: SubscriberReply<()>,
    },
    /// The attachment has ended with its socket. Sent when the session drops it, once.
    Detach { id: AttachmentId },
    /// A client's answer to an event. Sent by sessions, within a bound for each attachment.
    Answered { id: AttachmentId, number: u64, answer: EventAnswer },
    /// A request of the application.
    Request { key: SubscriberKey, request: SubscriberRequest },
    /// Lists subscribers of a namespace after a name.
    List { after: SubscriberKey, limit: usize, reply: SubscriberReply<Vec<SubscriberInfo>> },
    /// Reads stored events of rooms, for the client of a session or for the application.
    ReadRooms {
        query: RoomQuery,
        wait: Duration,
        session: Option<SessionLink>,
        reply: SubscriberReply<StoredEventsPage>,
    },
    /// Stores the ends of all attachments, and completes the sender. Sent by the server, once.
    Close(oneshot::Sender<()>),
}

/// A request of the application about one subscriber. Every change is answered after its commit.
pub(crate) enum SubscriberRequest {
    Create(SubscriberReply<()>),
    Subscribe {
        room: RoomName,
        from: StartPosition,
        reply: SubscriberReply<PendingJoin>,
    },
    Unsubscribe {
        room: RoomName,
        reply: SubscriberReply<()>,
    },
    /// Answered with the number of events that were pending.
    Ack {
        events: Acked,
        reply: SubscriberReply<u64>,
    },
    Nak {
        number: u64,
        delay: Option<Duration>,
        reply: SubscriberReply<()>,
    },
    Term {
        number: u64,
        reason: String,
        reply: SubscriberReply<()>,
    },
    /// More time for an event in flight.
    Progress {
        number: u64,
        reply: SubscriberReply<()>,
    },
    Pull {
        limit: usize,
        wait: Duration,
        reply: SubscriberReply<PullAnswer>,
    },
    /// The caller of a pull has dropped it, without an answer.
    PullDropped,
    /// Ends the attachment of this socket, or without a socket that of pulls. Events in flight are
    /// pending again immediately.
    Release {
        socket: Option<(SocketId, SessionLink)>,
    },
    Describe(SubscriberReply<Description>),
    DeadLetters {
        after: u64,
        limit: usize,
        reply: SubscriberReply<DeadLetterPage>,
    },
    /// These, or all. Answered with old and new numbers.
    ReplayDead {
        numbers: Option<Vec<u64>>,
        reply: SubscriberReply<Vec<(u64, u64)>>,
    },
    Purge {
        up_to: u64,
        reply: SubscriberReply<()>,
    },
    Remove(SubscriberReply<()>),
}

/// Receives the result of the attached socket's join, if a socket is attached.
pub(crate) type PendingJoin = Option<oneshot::Receiver<JoinResult>>;

/// An event that was sent to a subscriber that pulls.
#[derive(Debug, Clone)]
pub(crate) struct DeliveredEvent {
    pub number: u64,
    pub room: RoomName,
    pub payload: Arc<Payload>,
    pub published_at: UnixMillis,
    pub redelivered: bool,
}

/// The answer to a pull.
#[derive(Debug, Clone, Default)]
pub(crate) struct PullAnswer {
    pub events: Vec<DeliveredEvent>,
    /// Gaps that the subscriber has not confirmed.
    pub gaps: Vec<Gap>,
}

/// State of a subscriber.
#[derive(Debug, Clone)]
pub(crate) struct Description {
    pub info: SubscriberInfo,
    /// A socket is attached to the subscriber.
    pub has_socket: bool,
    pub backlog: Backlog,
    pub gaps: Vec<Gap>,
    pub in_flight: usize,
    /// The oldest event in flight.
    pub oldest_in_flight: Option<u64>,
    /// The newest number of the queue.
    pub head: u64,
}

/// Rooms whose stored events are read, after a number.
#[derive(Debug, Clone)]
pub(crate) struct RoomQuery {
    pub namespace: NamespacePath,
    pub rooms: Vec<RoomName>,
    /// `None` for the oldest stored events.
    pub after: Option<QueueOffset>,
    pub limit: usize,
}

/// Stored events of rooms, in order of their numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoredEventsPage {
    pub events: Vec<DeliveredEvent>,
    /// Number to read on from.
    pub next: u64,
    /// The newest number of the queue.
    pub head: u64,
    pub has_more: bool,
    /// The newest removed event of these rooms, if it is after the number that was asked for.
    pub removed_to: Option<u64>,
}

/// Bytes of requests that may wait for the actor.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// Bytes that a request counts, in addition to its content.
const REQUEST_BYTES: usize = 512;

/// Address of the subscribers' actor. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SubscribersLink(Arc<Inbox>);

#[derive(Default)]
struct Inbox {
    commands: WakeQueue<SubscriberCommand>,
    /// The actor has ended; commands are dropped, which notifies their callers.
    is_closed: AtomicBool,
}

impl SubscribersLink {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// Sends a command whose number is bounded by its protocol.
    pub(crate) fn post(&self, command: SubscriberCommand) {
        self.0.commands.push(command);
        self.drop_if_closed();
    }

    /// Sends a request that the application may make in any number. Returns whether it was
    /// accepted.
    pub(crate) fn offer(&self, command: SubscriberCommand) -> bool {
        let bytes = REQUEST_BYTES + command.bytes();
        let is_accepted = self.0.commands.push_within(command, bytes, WAITING_BYTES_MAX);
        self.drop_if_closed();
        is_accepted
    }

    pub(crate) fn wake_with(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.0.commands.wake_with(wake);
    }

    pub(crate) fn take(&self) -> Vec<SubscriberCommand> {
        self.0.commands.take()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.commands.is_empty()
    }

    /// Drops all commands, also later ones. Called when the actor ends.
    pub(crate) fn close(&self) {
        self.0.is_closed.store(true, Ordering::Release);
        self.drop_if_closed();
    }

    fn drop_if_closed(&self) {
        if self.0.is_closed.load(Ordering::Acquire) {
            drop(self.take());
        }
    }
}

impl fmt::Debug for SubscribersLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubscribersLink")
    }
}

impl SubscriberCommand {
    /// Bytes of lists and texts that the command holds.
    fn bytes(&self) -> usize {
        match self {
            Self::Request { request: SubscriberRequest::Ack { events: Acked::Numbers(numbers), .. }, .. } => {
                numbers.len() * 8
            }
            Self::Request { request: SubscriberRequest::ReplayDead { numbers: Some(numbers), .. }, .. } => {
                numbers.len() * 8
            }
            Self::Request { request: SubscriberRequest::Term { reason, .. }, .. } => reason.len(),
            Self::ReadRooms { query, .. } => query.rooms.len() * 64,
            _ => 0,
        }
    }
}

/// The attachment of a socket, held by its session. Dropping it notifies the actor.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub id: AttachmentId,
    pub key: SubscriberKey,
    link: SubscribersLink,
    /// Answers of the client that the actor has not handled.
    unhandled: Arc<AtomicUsize>,
    unhandled_max: usize,
}

impl Attachment {
    pub(crate) fn new(key: SubscriberKey, link: SubscribersLink, in_flight_max: usize) -> Self {
        let unhandled_max = in_flight_max.saturating_mul(4);
        Self { id: AttachmentId::next(), key, link, unhandled: Arc::default(), unhandled_max }
    }

    /// Attaches the socket to the subscriber.
    pub(crate) fn attach(&self, socket: SocketRef, done: SubscriberReply<()>) {
        let (id, key, unhandled) = (self.id, self.key.clone(), self.unhandled.clone());
        self.link.post(SubscriberCommand::Attach { id, key, socket, unhandled, done });
    }

    /// Passes a client's answer on. Returns false if too many wait; the event is then sent again
    /// when its time is over.
    pub(crate) fn answered(&self, number: u64, answer: EventAnswer) -> bool {
        if self.unhandled.fetch_add(1, Ordering::Relaxed) >= self.unhandled_max {
            self.unhandled.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.link.post(SubscriberCommand::Answered { id: self.id, number, answer });
        true
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.link.post(SubscriberCommand::Detach { id: self.id });
    }
}
