//! Requests of the application through handles: sent by `api`, taken by the current session or by the server sender.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::hub::Grade;
use super::socket::SocketInfo;
use crate::ids::{NamespacePath, Offset, RoomName, SocketId};
use crate::protocol::draft::Draft;
use crate::protocol::encoded::Message;
use crate::protocol::socketio::packet::Args;
use crate::state::rooms::{MembershipError, Target};

/// The reason why a request of any kind got no answer from the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The socket is gone; nothing was done.
    Disconnected,
    /// The socket is not connected yet; nothing was done.
    NotYetConnected,
    /// No credit before the deadline, or too many requests waiting; nothing was done. Try again later.
    Overloaded,
    /// No answer in time, or none before the session ended. For an emit: it may or may not have happened.
    Unanswered,
}

/// The reason why a request was not carried out; `R` is what the hub or the client may refuse it for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestError<R> {
    /// There is no answer.
    NoAnswer(NoAnswer),
    /// The answer is no.
    Refused(R),
}

impl<R> From<NoAnswer> for RequestError<R> {
    fn from(error: NoAnswer) -> Self {
        Self::NoAnswer(error)
    }
}

/// Why the hub did not emit an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EmitRefusal {
    /// The sender's socket is not connected (any more).
    NotConnected,
    /// The event is larger than the journal keeps.
    TooLarge,
}

/// The client has gone before its ack came. It may have got the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientGone;

/// What the hub did with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Its position in the log; `None` with recovery off or for a volatile event.
    pub offset: Option<Offset>,
}

/// What a join led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    /// Members of the room, this socket included, over all workers.
    pub members: usize,
    /// Position of the join in the log; `None` with recovery off.
    pub offset: Option<Offset>,
}

/// Which rooms are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listing {
    /// Those of one socket, all at once.
    OfSocket(SocketId),
    /// Those of a namespace, a page at a time: the hub looks at no more than [`ROOMS_PER_PAGE`] in one turn.
    InNamespace {
        namespace: NamespacePath,
        /// Where the page begins: 0, or what the last page said.
        from: u32,
    },
}

/// Rooms that the hub looks at for one page.
pub(crate) const ROOMS_PER_PAGE: usize = 1_024;

/// Rooms, as of one position in the hub's order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RoomPage {
    /// Each with its members over all workers.
    pub rooms: Vec<(RoomName, usize)>,
    /// Where the next page begins, if there may be more. A room that lives meanwhile is on exactly one page.
    pub next: Option<u32>,
}

/// Why a socket is not among those who answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// No answer in time.
    Late,
    /// It has gone.
    Gone,
    /// Its answer would have been too much to keep.
    TooMuch,
}

/// What many sockets answered to one emit.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    /// Who answered what.
    pub answers: Vec<(SocketId, Args)>,
    /// Who did not.
    pub missing: Vec<(SocketId, Missing)>,
}

/// Changes something whose type the caller knows.
type HandlerChange = Box<dyn FnOnce(&mut dyn Any) + Send>;

/// A change of what is registered on one socket. What that is only `api` and `session` know.
pub(crate) struct HandlerRegistration(pub HandlerChange);

impl fmt::Debug for HandlerRegistration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandlerRegistration")
    }
}

/// When an emit is answered.
#[derive(Debug)]
pub(crate) enum Done {
    /// As soon as the command has credit.
    WhenTaken(oneshot::Sender<Result<(), RequestError<EmitRefusal>>>),
    /// When the hub has numbered it.
    WhenNumbered(oneshot::Sender<Result<Receipt, RequestError<EmitRefusal>>>),
}

impl Done {
    /// Answers how it ended.
    pub(crate) fn complete(self, result: Result<Receipt, RequestError<EmitRefusal>>) {
        match self {
            Self::WhenTaken(done) => answer(done, result.map(|_| ())),
            Self::WhenNumbered(done) => answer(done, result),
        }
    }

    /// Answers that it failed.
    pub(crate) fn fail(self, error: NoAnswer) {
        self.complete(Err(error.into()));
    }
}

/// Answers the asker. An asker that has gone wants no answer.
pub(crate) fn answer<T>(asker: oneshot::Sender<T>, with: T) {
    let _ = asker.send(with);
}

/// One thing that code asks for. Bounded: each waits for its answer, or belongs to one event of the client.
#[derive(Debug)]
pub(crate) enum Request {
    /// Emit to rooms.
    Broadcast {
        target: Target,
        draft: Draft,
        /// How much it is worth.
        grade: Grade,
        /// Receives the answer.
        done: Done,
    },
    /// Emit to the session's own socket.
    Direct {
        /// Which of its sockets.
        socket: SocketId,
        draft: Draft,
        /// How much it is worth.
        grade: Grade,
        /// Receives the answer.
        done: Done,
    },
    /// Emit to the session's own socket and wait for its ack.
    Call {
        /// Which of its sockets.
        socket: SocketId,
        draft: Draft,
        /// How much it is worth.
        grade: Grade,
        /// For how long.
        timeout: Duration,
        /// Gets the ack's arguments.
        answer: oneshot::Sender<Result<Args, RequestError<ClientGone>>>,
    },
    /// Emit to rooms and collect the acks.
    Collect {
        target: Target,
        draft: Draft,
        /// How much it is worth.
        grade: Grade,
        /// For how long.
        timeout: Duration,
        /// Gets the acks.
        answer: oneshot::Sender<Result<Collected, RequestError<EmitRefusal>>>,
    },
    /// Register handlers on the session's own socket.
    Register {
        /// Which of its sockets.
        socket: SocketId,
        registration: HandlerRegistration,
    },
    /// Answer an event that the client emitted with an ack id. At most one per such event.
    Acknowledge {
        /// Which of its sockets.
        socket: SocketId,
        /// The ACK packet.
        message: Message,
    },
    /// Put the session's socket into a room.
    Join {
        /// Which of its sockets.
        socket: SocketId,
        room: RoomName,
        /// Receives the answer.
        done: oneshot::Sender<Result<Joined, RequestError<MembershipError>>>,
    },
    /// Take the session's socket out of a room.
    Leave {
        /// Which of its sockets.
        socket: SocketId,
        room: RoomName,
        /// Receives the answer.
        done: oneshot::Sender<Result<(), NoAnswer>>,
    },
    Fetch {
        namespace: NamespacePath,
        target: Target,
        /// Gets them, in no particular order, as of one position in the hub's order.
        answer: oneshot::Sender<Result<Vec<Arc<SocketInfo>>, NoAnswer>>,
    },
    List {
        listing: Listing,
        answer: oneshot::Sender<Result<RoomPage, NoAnswer>>,
    },
    /// Journal what the application keeps with the session's socket. At most one per socket under way.
    KeepData {
        /// Which of its sockets.
        socket: SocketId,
    },
    /// Put the session's socket out of its namespace.
    Disconnect {
        /// Which of its sockets.
        socket: SocketId,
        /// End the whole session instead.
        close_session: bool,
    },
}
