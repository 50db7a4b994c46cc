//! Why a connection ended, in Socket.IO's words.

use std::fmt;

/// Why a session, and with it its sockets, ended; or why one socket left its namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DisconnectReason {
    /// The connection broke: reset, an HTTP request out of turn, a peer that takes no bytes.
    TransportError,
    /// The client closed the connection, or it ended in order.
    TransportClose,
    /// The server closed the connection.
    ForcedClose,
    /// No pong within the ping timeout.
    PingTimeout,
    /// The client sent what is no packet, or one that is illegal where it stood.
    ParseError,
    /// The server is going away; the client may come back.
    ServerShuttingDown,
    /// The session ended because the server closed it while sockets were joined.
    ForcedServerClose,
    /// The client left this namespace.
    ClientNamespaceDisconnect,
    /// The server put the socket out of this namespace.
    ServerNamespaceDisconnect,
}

impl DisconnectReason {
    /// Every reason, in the order of their declaration.
    pub(crate) const ALL: [Self; 9] = [
        Self::TransportError,
        Self::TransportClose,
        Self::ForcedClose,
        Self::PingTimeout,
        Self::ParseError,
        Self::ServerShuttingDown,
        Self::ForcedServerClose,
        Self::ClientNamespaceDisconnect,
        Self::ServerNamespaceDisconnect,
    ];

    /// Whether a socket that ends so cannot come back: it is for good for both sides, or nobody can tell what its client has got.
    pub(crate) const fn is_final(self) -> bool {
        matches!(self, Self::ClientNamespaceDisconnect | Self::ServerNamespaceDisconnect | Self::ParseError)
    }

    /// The words that Socket.IO uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TransportError => "transport error",
            Self::TransportClose => "transport close",
            Self::ForcedClose => "forced close",
            Self::PingTimeout => "ping timeout",
            Self::ParseError => "parse error",
            Self::ServerShuttingDown => "server shutting down",
            Self::ForcedServerClose => "forced server close",
            Self::ClientNamespaceDisconnect => "client namespace disconnect",
            Self::ServerNamespaceDisconnect => "server namespace disconnect",
        }
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
