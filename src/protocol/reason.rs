//! Reasons: why a connection or a socket ended, why a request was refused, why a session was not resumed.

use std::fmt;

use thiserror::Error;

use super::label::labels;

labels! {
    /// The reason why a socket, or a whole session, was disconnected; [`as_str`](Self::as_str) is
    /// Socket.IO's text of it.
    pub enum DisconnectReason {
        /// The connection broke: a reset, an HTTP request out of turn, a peer that reads nothing.
        TransportError = "transport error",
        /// The client closed the connection.
        TransportClose = "transport close",
        /// The server closed the connection.
        ForcedClose = "forced close",
        /// No pong arrived within the ping timeout.
        PingTimeout = "ping timeout",
        /// The client sent an invalid packet, or a valid one at an invalid time.
        ParseError = "parse error",
        /// The server is shutting down; the client may reconnect.
        ServerShuttingDown = "server shutting down",
        /// The server ended the session while sockets were connected.
        ForcedServerClose = "forced server close",
        /// The client left this namespace.
        ClientNamespaceDisconnect = "client namespace disconnect",
        /// The server disconnected the socket from this namespace.
        ServerNamespaceDisconnect = "server namespace disconnect",
    }
}

impl DisconnectReason {
    /// Whether a socket with this reason cannot be recovered: one side left for good, or it is unknown
    /// which events the client has received.
    pub(crate) const fn is_final(self) -> bool {
        matches!(self, Self::ClientNamespaceDisconnect | Self::ServerNamespaceDisconnect | Self::ParseError)
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

labels! {
    /// The kinds of refused requests.
    pub(crate) enum RefusalKind {
        UnknownTransport = "unknown_transport",
        UnknownSession = "unknown_session",
        BadMethod = "bad_method",
        BadRequest = "bad_request",
        Forbidden = "forbidden",
        UnsupportedVersion = "unsupported_version",
        Full = "full",
        Closing = "closing",
        Undecided = "undecided",
        AddressFull = "address_full",
        Spent = "spent",
        HeadTooLarge = "head_too_large",
    }
}

impl RefusalKind {
    /// The code that Engine.IO has for it.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::UnknownTransport => 0,
            Self::UnknownSession => 1,
            Self::BadMethod => 2,
            Self::BadRequest | Self::HeadTooLarge => 3,
            Self::Forbidden | Self::Full | Self::Closing | Self::Undecided | Self::AddressFull | Self::Spent => 4,
            Self::UnsupportedVersion => 5,
        }
    }
}

labels! {
    /// Why the server closed an HTTP connection.
    pub(crate) enum HttpCloseReason {
        /// Nothing came on a connection that was kept alive.
        Idle = "idle",
        /// It waited for its client for longest when a new client needed its place.
        Evicted = "evicted",
        /// The head of a request did not come in time.
        Head = "head",
        /// The body of a request did not come in time.
        Body = "body",
        /// The client did not read the response in time.
        Response = "response",
        /// A connection of the reserve took too long.
        Reserve = "reserve",
        /// A request could not be read.
        Malformed = "malformed",
    }
}

labels! {
    /// Why a client gets a fresh session instead of the one that it wants to resume.
    #[derive(Error)]
    pub(crate) enum NotRecovered {
        /// The token is of another log: an earlier one that ended with its process or its machine, or another server's.
        #[error("offset is of another epoch")]
        ForeignEpoch = "foreign_epoch",
        /// Never known here, or forgotten: its window has passed, too many are away, or it was disconnected from the namespace by either
        /// side or broke the protocol.
        #[error("session is unknown")]
        UnknownPid = "unknown_pid",
        /// It connects to another namespace than the session's.
        #[error("session is of another namespace")]
        OtherNamespace = "other_namespace",
        /// It stayed in more rooms, one after another, or has more bytes of rooms and data, than one session may have.
        #[error("session was in too many rooms")]
        TooManyIntervals = "too_many_rooms",
        /// All sessions together had more bytes than the journal can carry, and this one was the largest, or away for longest.
        #[error("session was given up, there was no room for it")]
        GivenUp = "given_up",
        /// It was away for longer than the window.
        #[error("session expired")]
        Expired = "expired",
        /// The position has not been given away yet.
        #[error("offset is in the future")]
        FutureOffset = "future_offset",
        /// No record bears this token.
        #[error("offset is of no record")]
        UnknownOffset = "unknown_offset",
        /// The position is older than the session, or than where it was resumed from before.
        #[error("offset is older than the session")]
        OldOffset = "old_offset",
        /// An event behind the position wanted an ack. Whether the client saw it is not known, as such events bear no token.
        #[error("an event that wanted an ack was sent meanwhile")]
        AckMissed = "ack_missed",
        /// An event of its namespace or rooms behind the position is gone from the journal, or may be: of each room only the
        /// longest silences are known, it is not known who was excepted, and of what happened before a session was carried
        /// forward over a start, only the newest event is.
        #[error("an event it may have missed is gone from the journal")]
        Trimmed = "trimmed",
        /// It is in no room and its client has seen no event of it: perhaps its first `join` was lost with the connection, so that it would
        /// go on in no room, unnoticed.
        #[error("session is in no room and has received no event")]
        NothingToRecover = "nothing_to_recover",
    }
}
