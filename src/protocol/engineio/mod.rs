//! Engine.IO v4: packets, the payloads that carry them over long polling, and the handshake answer.
//!
//! Refuses to know what a message says (that is [`socketio`](super::socketio)) and what a session does with a packet.

mod error;
pub mod open;
pub mod packet;
pub mod payload;

pub use error::DecodeError;
pub use packet::Packet;
