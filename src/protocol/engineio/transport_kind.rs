//! The transports of Engine.IO.

use crate::protocol::label::labels;

labels! {
    /// The kind of connection that carries a session, as Engine.IO names it.
    pub(crate) enum TransportKind {
        Polling = "polling",
        Websocket = "websocket",
    }
}
