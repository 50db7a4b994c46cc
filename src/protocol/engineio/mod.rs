//! Engine.IO v4: packets, the payloads that carry them over long polling, and the handshake answer.
//!
//! Refuses to know what a message says (that is [`socketio`](super::socketio)) and what a session does with a packet.

mod error;
pub(crate) mod open;
pub(crate) mod packet;
pub(crate) mod payload;
pub(crate) mod transport_kind;

pub(crate) use error::EngineDecodeError;
pub(crate) use packet::EnginePacket;
