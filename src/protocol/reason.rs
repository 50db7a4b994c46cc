//! Reasons why connections and sockets end, requests are refused, and sessions are not resumed.

use std::fmt;

use thiserror::Error;

use super::label::labels;

labels! {
    /// Reason why a session and its sockets ended, or why one socket left its namespace.
    /// [`as_str`](Self::as_str) returns the text that Socket.IO uses.
    pub enum DisconnectReason {
        /// The connection was reset, the client sent a wrong HTTP request, a ping, or a message
        /// that was too large or too late, or the client read too slowly.
        TransportError = "transport error",
        /// The client closed the connection, or sent no CONNECT in time.
        TransportClose = "transport close",
        /// The application closed the connection with
        /// [`Socket::close_transport`](crate::Socket::close_transport). The client may reconnect.
        ForcedClose = "forced close",
        /// No pong arrived within the ping timeout.
        PingTimeout = "ping timeout",
        /// The client sent an invalid packet, or one that is not allowed in the current state, or
        /// the attachments of a packet came too late.
        ParseError = "parse error",
        /// The server is shutting down. The client may reconnect.
        ServerShuttingDown = "server shutting down",
        /// The application disconnected the session, or the client resumed it over another
        /// connection.
        ForcedServerClose = "forced server close",
        /// The client disconnected from the namespace.
        ClientNamespaceDisconnect = "client namespace disconnect",
        /// The server disconnected the socket from the namespace.
        ServerNamespaceDisconnect = "server namespace disconnect",
    }
}

impl DisconnectReason {
    /// Returns whether the socket cannot be recovered, because the client or the server
    /// disconnected it from the namespace, or because the server does not know which packets the
    /// client received.
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
        AddressRate = "address_rate",
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
            Self::Forbidden
            | Self::Full
            | Self::Closing
            | Self::Undecided
            | Self::AddressFull
            | Self::AddressRate
            | Self::Overloaded => 4,
            Self::UnsupportedVersion => 5,
        }
    }
}

labels! {
    pub(crate) enum HttpCloseReason {
        /// A keep-alive connection received no request within its time limit.
        Idle = "idle",
        /// A new client needed the permit of the connection, which had waited longest for its
        /// client.
        Evicted = "evicted",
        /// The head of a request did not arrive in time.
        Head = "head",
        /// The body of a request did not arrive in time.
        Body = "body",
        /// The client did not read the response in time.
        Response = "response",
        /// A connection of the operators' reserve exceeded its time limit.
        Reserve = "reserve",
        Malformed = "malformed",
        /// The address of the peer is denied, or not among those that are allowed.
        Denied = "denied",
        /// The TLS handshake failed, as with a client that speaks no TLS, or did not end in time.
        Tls = "tls",
    }
}

labels! {
    /// Reason why a session is not resumed. The client gets a new session.
    #[derive(Error)]
    pub(crate) enum NotRecovered {
        /// The token belongs to the journal of an earlier run of the server, or of another server.
        #[error("offset belongs to another epoch")]
        ForeignEpoch = "foreign_epoch",
        /// No session with this id is stored. A session is removed after its recovery window, when
        /// too many sessions are stored, after a disconnect from the namespace, and after a
        /// protocol violation.
        #[error("session is unknown")]
        UnknownPid = "unknown_pid",
        /// The session belongs to another namespace than the one to which the client connects.
        #[error("session belongs to another namespace")]
        OtherNamespace = "other_namespace",
        /// The session exceeded the limit on its intervals in rooms (each from a join to the next
        /// leave), or the limit on its bytes.
        #[error("session was in too many rooms")]
        TooManyIntervals = "too_many_rooms",
        /// All sessions together exceeded the limit on their bytes. This session was given up as
        /// the largest, the one disconnected longest, or the one that grew last.
        #[error("session was given up for lack of space")]
        GivenUp = "given_up",
        /// The recovery window of the session has passed.
        #[error("session expired")]
        Expired = "expired",
        /// The position of the token is beyond the end of the journal.
        #[error("offset is in the future")]
        FutureOffset = "future_offset",
        /// The journal has no record at the position, or one with another fingerprint than the
        /// token.
        #[error("offset refers to no record")]
        UnknownOffset = "unknown_offset",
        /// The position is older than the start of the session, or than the position of its last
        /// resume.
        #[error("offset is older than the session")]
        OldOffset = "old_offset",
        /// An event that requests an ack may have been sent to the client after the position. Such
        /// events have no token, so the server does not know whether the client received the event.
        #[error("an event that wanted an ack was sent meanwhile")]
        AckMissed = "ack_missed",
        /// The journal may have dropped an event for the namespace, the socket or the session's
        /// rooms after the position. The server may also refuse a resume although no event was
        /// missed: for each room it stores only the longest gaps between events, and it ignores
        /// exceptions. After a restart, it knows only the newest of the events before the session's
        /// oldest complete record in the journal.
        #[error("the journal no longer has an event that the client may have missed")]
        Trimmed = "trimmed",
        /// The session is in no room, and the client has received no event since the session began.
        /// The first `join` may have been lost with the connection, so after a resume the client
        /// could miss all events without notice.
        #[error("session is in no room and has received no event")]
        NothingToRecover = "nothing_to_recover",
    }
}
