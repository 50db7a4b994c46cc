//! The transports of Engine.IO.

/// The kind of connection that carries a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransportKind {
    Polling,
    Websocket,
}

impl TransportKind {
    /// Every kind, in the order of their declaration.
    pub(crate) const ALL: [Self; 2] = [Self::Polling, Self::Websocket];

    /// As Engine.IO names the transport.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::Websocket => "websocket",
        }
    }
}
