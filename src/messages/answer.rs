//! Answers of the hub, a session or a client to requests of the application.

use tokio::sync::oneshot;

use crate::ids::{Offset, QueueOffset, RoomName, SlotKey, SocketId};
use crate::protocol::reason::NotRecovered;
use crate::protocol::socketio::packet::Args;
use crate::queue::change::Refusal;
use crate::state::credit::Ticket;
use crate::state::rooms::MembershipError;

/// Address of an answer: the sender of a command on its worker, and the ticket of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplyTo {
    /// The slot of the session or of the server sender.
    pub slot: SlotKey,
    pub ticket: Ticket,
}

/// The hub's answer to a command, one variant per kind of pending reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The session that a client may resume now, or the reason why the session cannot be resumed.
    ResumeChecked(Result<ResumedSession, NotRecovered>),
    Connect(ConnectAnswer),
    Join(Result<Joined, MembershipError>),
    /// The socket is no longer in the room.
    Leave,
    /// If `Ok`, the event is sent to the workers, and was numbered and journalled before if its
    /// [`Grade`](super::event::Grade) requires this. If `Err`, nothing was done.
    Emit(Result<Receipt, EmitRefusal>),
    /// If `Ok`, the value is the number of workers that report receivers of an event with acks. If
    /// `Err`, nothing was done.
    Collect(Result<usize, EmitRefusal>),
    /// The number of workers that send a list of sockets.
    Fetch(usize),
    /// If `Ok`, the event is stored, and was sent to the workers as in `Emit`.
    Publish(Result<Stored, PublishRefusal>),
    List(RoomListPage),
    /// The packet is in the outbox of its sender, or the data of the socket is journalled.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectAnswer {
    Connected {
        /// True if the socket resumed its session and has missed no event.
        recovered: bool,
    },
    /// The session can no longer be resumed. The socket is not connected.
    Lost,
}

/// A session that a client may resume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResumedSession {
    pub socket: SocketId,
    /// JSON data of the application for the socket, as last journalled.
    pub data: Option<Box<str>>,
}

/// Reason why a request received no answer from the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The socket has disconnected. Nothing was done.
    Disconnected,
    /// The socket is not connected yet. Nothing was done.
    NotYetConnected,
    /// The request did not obtain credit before its deadline, or too many requests were waiting.
    /// Nothing was done.
    Overloaded,
    /// No answer arrived before the deadline or the end of the session. The event of an emit may
    /// have been sent.
    Unanswered,
}

/// Reason why a request failed. `R` is the refusal specific to this kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestError<R> {
    NoAnswer(NoAnswer),
    Refused(R),
}

impl<R> From<NoAnswer> for RequestError<R> {
    fn from(error: NoAnswer) -> Self {
        Self::NoAnswer(error)
    }
}

/// Reason why the hub did not emit an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EmitRefusal {
    /// The sender's socket is not connected, or no longer connected.
    NotConnected,
    /// The event is too large for a record of the journal.
    TooLarge,
}

/// Reason why a durable event was not published, or may not have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PublishRefusal {
    /// The queue is off.
    QueueOff,
    /// The store refused the event. Nothing was stored.
    Refused(Refusal),
    /// The store has failed. Nothing was stored.
    Unavailable,
    /// The commit failed. The event may be stored or not.
    Indeterminate,
}

impl From<Refusal> for PublishRefusal {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The client disconnected before its ack arrived. The client may have received the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientGone;

/// The hub's confirmation of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Position of the event in the journal. `None` if recovery is off or the event is volatile.
    pub offset: Option<Offset>,
}

/// Confirmation that a durable event is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Position of the event in the queue.
    pub offset: QueueOffset,
    /// True if an event with the same `dedup_id` and content was stored before. `offset` is that of
    /// the first event, and nothing was stored or sent now.
    pub duplicate: bool,
    /// Number of subscribers that the event was pending for when it was stored.
    pub pending_for: u64,
}

/// The hub's confirmation of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    /// Number of members of the room on all workers, including this socket.
    pub members: usize,
    /// Position of the join in the journal. `None` if recovery is off.
    pub offset: Option<Offset>,
}

/// Maximum number of room numbers that the hub examines for one page.
pub(crate) const ROOMS_PER_PAGE: usize = 1_024;

/// One page of the rooms with members: a snapshot at one point in the hub's sequence of commands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RoomListPage {
    /// Each room with its number of members on all workers.
    pub rooms: Vec<(RoomName, usize)>,
    /// Start of the next page. `None` if this is the last page. A room that exists during the whole
    /// listing is on exactly one page.
    pub next: Option<u32>,
}

/// The reason why an ack of one socket is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// No ack arrived before the deadline.
    Late,
    /// The socket disconnected.
    Gone,
    /// With this ack, all acks of the event would exceed their byte limit.
    TooMuch,
}

/// The acks of one event from all of its receivers.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub answers: Vec<(SocketId, Args)>,
    pub missing: Vec<(SocketId, Missing)>,
}

/// The point at which an emit completes, with the channel to the caller.
#[derive(Debug)]
pub(crate) enum Done {
    /// The emit completes when its command has credit.
    WhenTaken(oneshot::Sender<Result<(), RequestError<EmitRefusal>>>),
    /// The emit completes when the hub has answered its command.
    WhenNumbered(oneshot::Sender<Result<Receipt, RequestError<EmitRefusal>>>),
}

impl Done {
    pub(crate) fn complete(self, result: Result<Receipt, RequestError<EmitRefusal>>) {
        match self {
            Self::WhenTaken(done) => answer(done, result.map(|_| ())),
            Self::WhenNumbered(done) => answer(done, result),
        }
    }

    pub(crate) fn fail(self, error: NoAnswer) {
        self.complete(Err(error.into()));
    }
}

/// Sends an answer to a caller. If the caller no longer waits, the answer is dropped.
pub(crate) fn answer<T>(asker: oneshot::Sender<T>, with: T) {
    let _ = asker.send(with);
}
