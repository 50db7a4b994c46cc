//! Engine.IO v4: packets, polling payloads, and the handshake response. The data of a message is
//! decoded in [`socketio`](super::socketio).

mod error;
pub(crate) mod open;
pub(crate) mod packet;
pub(crate) mod payload;
pub(crate) mod transport_kind;

pub(crate) use error::EngineDecodeError;
pub(crate) use packet::EnginePacket;
