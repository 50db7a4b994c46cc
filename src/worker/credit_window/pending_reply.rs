//! Recipients of the hub's answers to commands: callers, and sessions themselves.

use tokio::sync::oneshot;

use crate::ids::{RoomName, SocketId};
use crate::messages::answer::{
    Answer, ConnectAnswer, Done, Joined, NoAnswer, PublishRefusal, RequestError, ResumedSession, RoomListPage, Stored,
    answer,
};
use crate::messages::session::SocketRef;
use crate::protocol::reason::NotRecovered;
use crate::state::rooms::MembershipError;
use crate::worker::ack_collector::AckCollector;

#[derive(Debug)]
pub(crate) enum PendingReply {
    Nobody,
    Connect(SocketId),
    Resume(SocketId),
    Emit(Done),
    Publish(oneshot::Sender<Result<Stored, RequestError<PublishRefusal>>>),
    Join(oneshot::Sender<Result<Joined, RequestError<MembershipError>>>),
    /// The session itself joins a room of a subscription.
    Rejoin(SocketId, RoomName),
    Leave(oneshot::Sender<Result<(), NoAnswer>>),
    /// An emit that collects acks of many sockets.
    Collect(Box<AckCollector>),
    List(oneshot::Sender<Result<RoomListPage, NoAnswer>>),
    /// A query for sockets. Each worker with members sends a part of the answer.
    Fetch {
        caller: oneshot::Sender<Result<Vec<SocketRef>, NoAnswer>>,
        /// Number of parts that have not arrived. `None` until the hub has answered.
        missing: Option<usize>,
        sockets: Vec<SocketRef>,
    },
}

impl PendingReply {
    /// Returns whether the command may fail with `Overloaded` when too many commands wait.
    ///
    /// Commands without a caller must not be lost. These are acks, and emits to a congested client,
    /// whose number the session bounds. CONNECTs must not be lost either. There are only few such
    /// commands.
    pub(super) fn can_be_refused(&self) -> bool {
        !matches!(self, Self::Nobody | Self::Rejoin(..) | Self::Connect(_) | Self::Resume(_))
    }

    /// Returns whether the command is a durable publish. Only further ones may follow it before it
    /// is answered.
    pub(super) fn is_publish(&self) -> bool {
        matches!(self, Self::Publish(_))
    }

    /// Returns whether the command is still carried out after its sender has ended, since other
    /// sockets or callers depend on it.
    pub(super) fn outlives_sender(&self) -> bool {
        matches!(self, Self::Emit(_) | Self::Publish(_) | Self::Collect(_) | Self::List(_) | Self::Fetch { .. })
    }

    /// Passes an answer to the caller. If the session itself must handle the answer, returns it.
    pub(super) fn resolve(self, given: Answer) -> Option<SessionAnswer> {
        match (self, given) {
            (Self::Connect(socket), Answer::Connect(how)) => return Some(SessionAnswer::Connect(socket, how)),
            (Self::Resume(socket), Answer::ResumeChecked(session)) => {
                return Some(SessionAnswer::ResumeChecked(socket, session));
            }
            (Self::Emit(done), Answer::Emit(result)) => done.complete(result.map_err(RequestError::Refused)),
            (Self::Publish(done), Answer::Publish(result)) => answer(done, result.map_err(RequestError::Refused)),
            (Self::Join(done), Answer::Join(result)) => answer(done, result.map_err(RequestError::Refused)),
            (Self::Rejoin(..), Answer::Join(Ok(_))) => {}
            (Self::Rejoin(socket, room), Answer::Join(Err(refusal))) => {
                return Some(SessionAnswer::RejoinRefused(socket, room, refusal));
            }
            (Self::Leave(done), Answer::Leave) => answer(done, Ok(())),
            (Self::List(caller), Answer::List(page)) => answer(caller, Ok(page)),
            (Self::Collect(collecting), Answer::Collect(Err(refusal))) => {
                collecting.fail(RequestError::Refused(refusal));
            }
            _ => log::error!("hub sent an answer of the wrong kind for a command"),
        }
        None
    }

    pub(super) fn fail(self, error: NoAnswer) {
        match self {
            Self::Nobody | Self::Rejoin(..) | Self::Connect(_) | Self::Resume(_) => {}
            Self::Emit(done) => done.fail(error),
            Self::Publish(done) => answer(done, Err(error.into())),
            Self::Join(done) => answer(done, Err(error.into())),
            Self::Leave(done) => answer(done, Err(error)),
            Self::Collect(collecting) => collecting.fail(error.into()),
            Self::List(caller) => answer(caller, Err(error)),
            Self::Fetch { caller, .. } => answer(caller, Err(error)),
        }
    }
}

#[derive(Debug)]
pub(crate) enum SessionAnswer {
    Connect(SocketId, ConnectAnswer),
    /// Result of the hub's first check of a resume request.
    ResumeChecked(SocketId, Result<ResumedSession, NotRecovered>),
    /// The hub has refused the join of a room of a subscription.
    RejoinRefused(SocketId, RoomName, MembershipError),
}
