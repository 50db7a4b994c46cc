//! Answers: what the hub, a session or a client replies to a request of the application.

use tokio::sync::oneshot;

use crate::ids::{Offset, RoomName, SlotKey, SocketId};
use crate::protocol::reason::NotRecovered;
use crate::protocol::socketio::packet::Args;
use crate::state::credit::Ticket;
use crate::state::rooms::MembershipError;

/// The sender of a command on its worker, and which of its commands the answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplyTo {
    /// The session, or the server sender.
    pub slot: SlotKey,
    pub ticket: Ticket,
}

/// The hub's answer to a command, one variant per kind of pending reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The session that a client may resume now, or the reason why it cannot.
    ResumeChecked(Result<ResumedSession, NotRecovered>),
    Connect(ConnectAnswer),
    Join(Result<Joined, MembershipError>),
    /// The socket is not in the room.
    Leave,
    /// `Ok`: the event is numbered, journalled and on its way. `Err`: nothing was done.
    Emit(Result<Receipt, EmitRefusal>),
    /// `Ok`: the number of workers that report receivers of an event with acks. `Err`: nothing was
    /// done.
    Collect(Result<usize, EmitRefusal>),
    /// The number of workers that list their members.
    Fetch(usize),
    List(RoomPage),
    /// A packet is in its sender's outbox, or a socket's data is journalled.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectAnswer {
    /// The socket is connected.
    Connected {
        /// True if the socket resumed its session: no event for it is missing.
        recovered: bool,
    },
    /// The session can no longer be resumed. The socket is not connected.
    Lost,
}

/// A session that a client may resume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResumedSession {
    pub socket: SocketId,
    /// The application's JSON, as last journalled.
    pub data: Option<Box<str>>,
}

/// A request of any kind got no answer from the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The socket has disconnected; nothing was done.
    Disconnected,
    /// The socket is not connected yet; nothing was done.
    NotYetConnected,
    /// No credit before the deadline, or too many requests waiting; nothing was done.
    Overloaded,
    /// No answer before the deadline or the end of the session. An event may have been emitted.
    Unanswered,
}

/// A request that failed; `R` is the refusal of its kind.
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

/// The hub did not emit an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EmitRefusal {
    /// The sender's socket is not connected (any more).
    NotConnected,
    /// The event is larger than the journal keeps.
    TooLarge,
}

/// The client disconnected before its ack came. It may have received the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientGone;

/// The hub's confirmation of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Position of the event in the journal; `None` with recovery off or for a volatile event.
    pub offset: Option<Offset>,
}

/// The hub's confirmation of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    /// Members of the room, this socket included, over all workers.
    pub members: usize,
    /// Position of the join in the journal; `None` with recovery off.
    pub offset: Option<Offset>,
}

/// Room numbers that the hub examines for one page.
pub(crate) const ROOMS_PER_PAGE: usize = 1_024;

/// Rooms with members: a snapshot at one point in the hub's sequence of commands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RoomPage {
    /// Each room with its number of members, over all workers.
    pub rooms: Vec<(RoomName, usize)>,
    /// Start of the next page, if there may be more. A room that exists throughout is on exactly
    /// one page.
    pub next: Option<u32>,
}

/// The reason why an ack of one socket is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// No ack before the deadline.
    Late,
    /// The socket disconnected.
    Gone,
    /// The ack exceeds the byte limit of all acks.
    TooMuch,
}

/// The acks of one event, of all its receivers.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub answers: Vec<(SocketId, Args)>,
    pub missing: Vec<(SocketId, Missing)>,
}

/// The condition on which an emit completes, with its caller.
#[derive(Debug)]
pub(crate) enum Done {
    /// The command has credit.
    WhenTaken(oneshot::Sender<Result<(), RequestError<EmitRefusal>>>),
    /// The hub has numbered the event.
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

/// Answers a caller; one that no longer waits is ignored.
pub(crate) fn answer<T>(asker: oneshot::Sender<T>, with: T) {
    let _ = asker.send(with);
}
