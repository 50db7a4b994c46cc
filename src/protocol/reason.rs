//! Reasons for the end of connections and sockets, for refused requests, and for sessions that are
//! not resumed.

use std::fmt;

use thiserror::Error;

use super::label::labels;

labels! {
    /// Reason why a session and its sockets ended, or why one socket left its namespace.
    /// [`as_str`](Self::as_str) returns Socket.IO's text.
    pub enum DisconnectReason {
        /// The connection failed: a reset, an HTTP request in a wrong state, or a client that reads
        /// nothing.
        TransportError = "transport error",
        /// The client closed the connection.
        TransportClose = "transport close",
        /// The server closed the connection. Never reported by this server; Socket.IO has it.
        ForcedClose = "forced close",
        /// No pong arrived within the ping timeout.
        PingTimeout = "ping timeout",
        /// The client sent an invalid packet, or one that is not allowed in the current state.
        ParseError = "parse error",
        /// The server is shutting down; the client may reconnect.
        ServerShuttingDown = "server shutting down",
        /// The server ended the session: the application disconnected it, or it was resumed over
        /// another connection.
        ForcedServerClose = "forced server close",
        /// The client left this namespace.
        ClientNamespaceDisconnect = "client namespace disconnect",
        /// The server disconnected the socket from this namespace.
        ServerNamespaceDisconnect = "server namespace disconnect",
    }
}

impl DisconnectReason {
    /// Returns whether the socket cannot be recovered: a side disconnected it for good, or the
    /// server does not know which packets the client has received.
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
        Overloaded = "overloaded",
        HeadTooLarge = "head_too_large",
    }
}

impl RefusalKind {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::UnknownTransport => 0,
            Self::UnknownSession => 1,
            Self::BadMethod => 2,
            Self::BadRequest | Self::HeadTooLarge => 3,
            Self::Forbidden | Self::Full | Self::Closing | Self::Undecided | Self::AddressFull | Self::Overloaded => 4,
            Self::UnsupportedVersion => 5,
        }
    }
}

labels! {
    pub(crate) enum HttpCloseReason {
        /// No request arrived on a kept-alive connection in time.
        Idle = "idle",
        /// The connection had waited longest for its client when a new client needed a connection.
        Evicted = "evicted",
        /// The head of a request did not arrive in time.
        Head = "head",
        /// The body of a request did not arrive in time.
        Body = "body",
        /// The client did not read the response in time.
        Response = "response",
        /// A connection of the reserve exceeded its time limit.
        Reserve = "reserve",
        Malformed = "malformed",
    }
}

labels! {
    /// Reason why a session is not resumed. The client gets a new one.
    #[derive(Error)]
    pub(crate) enum NotRecovered {
        /// The token belongs to another journal: to that of an earlier run of the server, or of
        /// another server.
        #[error("offset is of another epoch")]
        ForeignEpoch = "foreign_epoch",
        /// The session was never known, or was removed: its recovery window has passed, too many
        /// sessions are stored, it was disconnected from the namespace, or it violated the
        /// protocol.
        #[error("session is unknown")]
        UnknownPid = "unknown_pid",
        /// The client connects to another namespace than the session's.
        #[error("session is of another namespace")]
        OtherNamespace = "other_namespace",
        /// The session exceeds its limit of rooms over time, or of bytes for rooms and data.
        #[error("session was in too many rooms")]
        TooManyIntervals = "too_many_rooms",
        /// The sessions together exceed the space in the journal, and this one was the largest or
        /// the one disconnected for longest.
        #[error("session was given up for lack of space")]
        GivenUp = "given_up",
        /// The recovery window of the session has passed.
        #[error("session expired")]
        Expired = "expired",
        /// The journal has not reached the position yet.
        #[error("offset is in the future")]
        FutureOffset = "future_offset",
        /// The journal's record at the position does not have the token's fingerprint.
        #[error("offset is of no record")]
        UnknownOffset = "unknown_offset",
        /// The position is older than the session, or than the one from which it was resumed
        /// before.
        #[error("offset is older than the session")]
        OldOffset = "old_offset",
        /// An event with an ack was sent after the position. Such events have no token, so the
        /// server does not know whether the client received it.
        #[error("an event that wanted an ack was sent meanwhile")]
        AckMissed = "ack_missed",
        /// The journal may have trimmed an event of the namespace or the session's rooms after the
        /// position. The positions per room are approximate: only the longest gaps between events
        /// are stored, exceptions are not, and of the time before a session was carried over a
        /// restart only the newest event is known.
        #[error("the journal no longer has an event that it may have missed")]
        Trimmed = "trimmed",
        /// The session is in no room, and its client has received no event. Its first `join` may
        /// have been lost with the connection, so a resumed session could miss all events without
        /// notice.
        #[error("session is in no room and has received no event")]
        NothingToRecover = "nothing_to_recover",
    }
}
