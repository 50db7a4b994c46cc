//! What can go wrong for the caller of a handle, one enum an operation.

use std::fmt;

use serde::Serialize;
use thiserror::Error;

use crate::ids::IdError;
use crate::messages::answer::{ClientGone, EmitRefusal, NoAnswer, RequestError};
use crate::state::rooms::MembershipError;

/// Why an event was not emitted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EmitError {
    /// The socket, or the server, is gone. Nothing was emitted; do not retry on this socket.
    #[error("socket is disconnected")]
    Disconnected,
    /// The socket is not connected yet: connection middleware still decides about it. Nothing was emitted; emit in
    /// [`on_connection`](crate::Namespace::on_connection), which runs before the socket's events.
    #[error("socket is not connected yet: emit to it in on_connection, not in connection middleware")]
    NotYetConnected,
    /// The hub is busier than its limits allow. Nothing was emitted; slow down and try again.
    #[error("hub is overloaded")]
    Overloaded,
    /// No answer within the deadline, or none before the session ended: the event may or may not have been emitted.
    #[error("no answer within the deadline, or the session has ended: the event may or may not have been emitted")]
    Unanswered,
    /// The data has no JSON form; mend the type.
    #[error("data cannot be written as JSON: {0}")]
    Data(#[from] serde_json::Error),
    /// A room of the target has no valid name; mend the call.
    #[error("target room is invalid: {0}")]
    Room(#[from] IdError),
    /// The name means something else to every client (`connect`, `disconnect`, …); choose another.
    #[error("event name {0:?} is reserved")]
    ReservedName(String),
    /// More attachments than a client accepts; send fewer per event.
    #[error("{count} attachments exceed limit of {limit}")]
    TooManyAttachments {
        /// How many there were.
        count: usize,
        /// How many there may be; it depends on the server's parser.
        limit: usize,
    },
    /// The event is larger than a segment of the journal, where recovery is on disk. Nothing was emitted; emit less at a time, or
    /// set [`limits.journal.segment_bytes`](crate::limits::JournalLimits::segment_bytes).
    #[error("event is larger than a segment of the journal")]
    TooLarge,
}

impl From<NoAnswer> for EmitError {
    fn from(error: NoAnswer) -> Self {
        match error {
            NoAnswer::Disconnected => Self::Disconnected,
            NoAnswer::NotYetConnected => Self::NotYetConnected,
            NoAnswer::Overloaded => Self::Overloaded,
            NoAnswer::Unanswered => Self::Unanswered,
        }
    }
}

impl From<RequestError<EmitRefusal>> for EmitError {
    fn from(error: RequestError<EmitRefusal>) -> Self {
        match error {
            RequestError::NoAnswer(error) => error.into(),
            RequestError::Refused(EmitRefusal::NotConnected) => Self::Disconnected,
            RequestError::Refused(EmitRefusal::TooLarge) => Self::TooLarge,
        }
    }
}

/// Why an emit with ack has no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AckError {
    /// The event was not emitted.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// The client did not answer in time. It may have got the event.
    #[error("client did not acknowledge in time")]
    Timeout,
    /// The client has gone before its answer came. It may have got the event.
    #[error("client has gone before it answered")]
    Gone,
    /// With the answers of others the client's would have been more than
    /// [`limits.acks.answers_bytes_max`](crate::limits::AckLimits::answers_bytes_max). It has got the event.
    #[error("answers together exceed their limit, this one was not kept")]
    TooLarge,
    /// The client's answer is not of the expected type.
    #[error("acknowledgement is not of the expected type: {0}")]
    Data(serde_json::Error),
}

impl From<RequestError<ClientGone>> for AckError {
    fn from(error: RequestError<ClientGone>) -> Self {
        match error {
            RequestError::NoAnswer(NoAnswer::Unanswered) => Self::Timeout,
            RequestError::NoAnswer(error) => Self::Emit(error.into()),
            RequestError::Refused(ClientGone) => Self::Gone,
        }
    }
}

/// Why a client was refused: what its `connect_error` listeners get, as `message` and `data`.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize)]
#[error("{message}")]
pub struct ConnectError {
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<serde_json::Value>,
}

impl ConnectError {
    /// With a message for the client.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), data: None }
    }

    /// With data beside the message: anything `serde_json::json!` makes.
    #[must_use]
    pub fn with_data(mut self, data: impl Into<serde_json::Value>) -> Self {
        self.data = Some(data.into());
        self
    }
}

/// Why a socket did not join, or leave, a room, or why a room was not listed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RoomError {
    /// The socket is gone.
    #[error("socket is disconnected")]
    Disconnected,
    /// The socket is not connected yet: connection middleware still decides about it. Join in
    /// [`on_connection`](crate::Namespace::on_connection), which runs before the socket's events.
    #[error(
        "socket is not connected yet: join, leave and ask for rooms in on_connection, not in connection middleware"
    )]
    NotYetConnected,
    /// The hub is busier than its limits allow; try again later.
    #[error("hub is overloaded")]
    Overloaded,
    /// No answer within the deadline.
    #[error("no answer from the hub within the deadline")]
    Unanswered,
    /// The room's name is invalid.
    #[error(transparent)]
    Name(#[from] IdError),
    /// The socket is in as many rooms as one may be, by number or by the bytes of their names; leave some, or allow more by
    /// [`limits.sockets.rooms_max`](crate::limits::SocketLimits::rooms_max) and
    /// [`limits.sockets.room_bytes_max`](crate::limits::SocketLimits::room_bytes_max).
    #[error("socket is in as many rooms as rooms_per_socket_max and room_bytes_per_socket_max allow")]
    TooManyRooms,
    /// The name is the id of another connected socket, whose own room nobody else may join; choose another name.
    #[error("room is another socket's own")]
    ForeignRoom,
}

impl From<NoAnswer> for RoomError {
    fn from(error: NoAnswer) -> Self {
        match error {
            NoAnswer::Disconnected => Self::Disconnected,
            NoAnswer::NotYetConnected => Self::NotYetConnected,
            NoAnswer::Overloaded => Self::Overloaded,
            NoAnswer::Unanswered => Self::Unanswered,
        }
    }
}

impl From<RequestError<MembershipError>> for RoomError {
    fn from(error: RequestError<MembershipError>) -> Self {
        match error {
            RequestError::NoAnswer(error) => error.into(),
            RequestError::Refused(MembershipError::NotConnected) => Self::Disconnected,
            RequestError::Refused(MembershipError::TooManyRooms) => Self::TooManyRooms,
            RequestError::Refused(MembershipError::BudgetSpent) => Self::Overloaded,
            RequestError::Refused(MembershipError::ForeignRoom) => Self::ForeignRoom,
        }
    }
}

/// Why no handler ran for an event of a client.
#[derive(Debug, Error)]
pub(crate) enum EventError {
    /// None is registered.
    #[error("event has no handler")]
    NoHandler,
    /// They are not of the handler's type.
    #[error("arguments do not fit: {0}")]
    Arguments(serde_json::Error),
}

impl EventError {
    /// The code of the answer.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::NoHandler => "unknown_event",
            Self::Arguments(_) => "bad_request",
        }
    }
}

/// Why data was not kept with a socket.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// The data has no JSON form; mend the type.
    #[error("data cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// More than [`limits.sockets.data_bytes_max`](crate::limits::SocketLimits::data_bytes_max); keep it elsewhere, and its key here.
    #[error("data of {bytes} bytes exceeds limit of {limit}")]
    TooLarge {
        /// Length of the refused data's JSON.
        bytes: usize,
        /// The most that is accepted.
        limit: usize,
    },
}

/// Why a handler failed: any error. Logged with the event's name; the socket stays.
///
/// Not itself an [`std::error::Error`], so that `?` converts every error into it.
pub struct HandlerError(Box<dyn std::error::Error>);

impl HandlerError {
    /// Whether it only says that a socket has disconnected: the ordinary end of what was under way for it.
    pub(crate) fn is_of_a_client_that_left(&self) -> bool {
        matches!(self.0.downcast_ref(), Some(EmitError::Disconnected))
    }
}

impl<E: std::error::Error + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
