//! The transports of Engine.IO.

use crate::protocol::label::labels;

labels! {
    /// The kind of connection that carries a session, as Engine.IO names it.
    pub(crate) enum TransportKind {
        /// Long polling.
        Polling = "polling",
        /// A websocket.
        Websocket = "websocket",
    }
}
