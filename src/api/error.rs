//! The errors of the operations of handles, one enum for each kind of operation.

use std::fmt;

use serde::Serialize;
use thiserror::Error;

use crate::ids::IdError;
use crate::messages::answer::{ClientGone, EmitRefusal, NoAnswer, RequestError};
use crate::state::rooms::MembershipError;

/// An event was not emitted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EmitError {
    /// The socket has disconnected, or the server has ended. Nothing was emitted. Do not retry on
    /// this socket.
    #[error("socket is disconnected")]
    Disconnected,
    /// The socket is not connected yet, since connection middleware is running. Nothing was
    /// emitted. Emit in [`on_connection`](crate::Namespace::on_connection), which runs before the
    /// handlers of the socket's events.
    #[error("socket is not connected yet: emit to it in on_connection, not in connection middleware")]
    NotYetConnected,
    /// The hub has too much work. Nothing was emitted. Retry later, at a slower pace.
    #[error("hub is overloaded")]
    Overloaded,
    /// No answer arrived before the deadline or the end of the session. The event may or may not
    /// have been emitted.
    #[error("no answer within the deadline, or the session has ended: the event may or may not have been emitted")]
    Unanswered,
    /// The data has no JSON form, or stored data is not of the expected type.
    #[error("data cannot be written or read as JSON: {0}")]
    Data(#[from] serde_json::Error),
    /// A room name in the target is invalid. Change the call.
    #[error("target room is invalid: {0}")]
    Room(#[from] IdError),
    /// The event name has a special meaning for every client (`connect`, `disconnect`, …). Choose
    /// another name.
    #[error("event name {0:?} is reserved")]
    ReservedName(String),
    /// The event has more attachments than a client accepts. Send fewer attachments in one event.
    #[error("{count} attachments exceed limit of {limit}")]
    TooManyAttachments {
        /// Attachments of the event.
        count: usize,
        /// Maximum number of attachments that the server's parser accepts.
        limit: usize,
    },
    /// The event is larger than a segment of the journal on disk. Nothing was emitted. Emit less
    /// data in one event, or raise
    /// [`limits.journal.segment_bytes`](crate::limits::JournalLimits::segment_bytes).
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

/// The acknowledgement of an event was not received, or cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AckError {
    /// The event was not emitted.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// The client sent no ack in time. The client may have received the event.
    #[error("client did not acknowledge in time")]
    Timeout,
    /// The client disconnected before its ack arrived. The client may have received the event.
    #[error("client has disconnected before it acknowledged")]
    Gone,
    /// The acks of the event together exceed
    /// [`limits.acks.answers_bytes_max`](crate::limits::AckLimits::answers_bytes_max), and this ack
    /// was dropped. The client has received the event.
    #[error("acks together exceed their limit, this one was dropped")]
    TooLarge,
    /// The ack is not of the expected type.
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

/// The refusal of a socket. The client's `connect_error` listeners receive the `message` and `data`
/// of the refusal.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize)]
#[error("{message}")]
pub struct ConnectError {
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<serde_json::Value>,
    #[serde(skip)]
    is_temporary: bool,
}

impl ConnectError {
    /// A refusal with a message for the client.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), data: None, is_temporary: false }
    }

    /// Marks the refusal as temporary: the client's connection is closed in place of a
    /// CONNECT_ERROR. Clients reconnect by themselves after a lost connection, and not after a
    /// CONNECT_ERROR. They do not receive message and data, which are logged at the level debug.
    ///
    /// The sockets that the client has in other namespaces lose their connection as well.
    #[must_use]
    pub fn temporary(mut self) -> Self {
        self.is_temporary = true;
        self
    }

    pub(crate) fn is_temporary(&self) -> bool {
        self.is_temporary
    }

    /// Adds data for the client, for instance from `serde_json::json!`.
    #[must_use]
    pub fn with_data(mut self, data: impl Into<serde_json::Value>) -> Self {
        self.data = Some(data.into());
        self
    }
}

/// A socket did not join or leave a room, or rooms or sockets were not listed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RoomError {
    /// The socket has disconnected.
    #[error("socket is disconnected")]
    Disconnected,
    /// The socket is not connected yet, since connection middleware is running. Join in
    /// [`on_connection`](crate::Namespace::on_connection), which runs before the handlers of the
    /// socket's events.
    #[error(
        "socket is not connected yet: join, leave and ask for rooms in on_connection, not in connection middleware"
    )]
    NotYetConnected,
    /// The hub has too much work. Retry later.
    #[error("hub is overloaded")]
    Overloaded,
    /// No answer arrived within the deadline.
    #[error("no answer from the hub within the deadline")]
    Unanswered,
    /// The name of the room is invalid.
    #[error(transparent)]
    Name(#[from] IdError),
    /// The socket has reached the maximum number of rooms, or of bytes of room names. Leave some
    /// rooms, or raise [`limits.sockets.rooms_max`](crate::limits::SocketLimits::rooms_max) and
    /// [`limits.sockets.room_bytes_max`](crate::limits::SocketLimits::room_bytes_max).
    #[error("socket is in as many rooms as rooms_per_socket_max and room_bytes_per_socket_max allow")]
    TooManyRooms,
    /// The name is the id of another socket, and no socket can join another socket's own room.
    /// Choose another name.
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

/// No handler ran for an event of a client.
#[derive(Debug, Error)]
pub(crate) enum EventError {
    #[error("event has no handler")]
    NoHandler,
    #[error("arguments do not fit: {0}")]
    Arguments(serde_json::Error),
}

impl EventError {
    /// Code of the error in the ack.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::NoHandler => "unknown_event",
            Self::Arguments(_) => "bad_request",
        }
    }
}

/// The application's data was not stored with a socket.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// The data has no JSON form. Change its type.
    #[error("data cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The data exceeds
    /// [`limits.sockets.data_bytes_max`](crate::limits::SocketLimits::data_bytes_max). Store the
    /// data elsewhere, and only its key with the socket.
    #[error("data of {bytes} bytes exceeds limit of {limit}")]
    TooLarge {
        /// Bytes of the data as JSON.
        bytes: usize,
        /// Maximum number of bytes.
        limit: usize,
    },
}

/// Any error that a handler returns. The error is logged with the name of the event, and the socket
/// stays connected.
///
/// `HandlerError` does not implement [`std::error::Error`], so that `?` can convert every error
/// into it.
pub struct HandlerError(Box<dyn std::error::Error>);

impl HandlerError {
    /// True if the handler emitted to a socket that has disconnected, which is not a defect of the
    /// handler.
    pub(crate) fn is_disconnected(&self) -> bool {
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
