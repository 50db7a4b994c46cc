//! The transports of Engine.IO.

use crate::protocol::label::labels;

labels! {
    /// Transport of a session, by its name in Engine.IO.
    pub(crate) enum TransportKind {
        Polling = "polling",
        Websocket = "websocket",
    }
}
