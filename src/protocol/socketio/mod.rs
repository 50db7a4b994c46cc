//! Socket.IO v5: the packets in Engine.IO messages.
//!
//! Text decodes to a [`Packet`](packet::Packet), or to a [`PartialPacket`] if binary attachments
//! follow. Only the name and the placeholders of an event are parsed. All other JSON passes through
//! as text.

pub(crate) mod binary;
mod error;
mod event_name;
pub(crate) mod json;
pub(crate) mod msgpack;
pub(crate) mod packet;
#[cfg(test)]
mod proptests;
pub(crate) mod rejection;
pub(crate) mod resume;
pub(crate) mod text;

pub(crate) use binary::PartialPacket;
pub(crate) use error::DecodeError;
pub(crate) use event_name::RESERVED_EVENTS;

/// Packet format of the server and of all its clients. If a client sends a packet in another
/// format, the server closes the connection with the reason "parse error".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Parser {
    /// JSON text, with binary data in separate messages. All clients use this format by default.
    #[default]
    Json,
    /// One binary msgpack message per packet, for clients with `parser` set to
    /// `socket.io-msgpack-parser`. Messages are smaller than with JSON, especially for numbers and
    /// for many small binary values. If several placeholders refer to one attachment, the
    /// attachment replaces the first placeholder, and the others become null.
    Msgpack,
}

impl Parser {
    pub(crate) const fn attachments_max(self) -> usize {
        match self {
            Self::Json => ATTACHMENTS_MAX,
            Self::Msgpack => msgpack::ATTACHMENTS_MAX,
        }
    }
}

/// Maximum number of attachments of a JSON packet. The reference parser has the same limit for
/// servers and clients.
pub(crate) const ATTACHMENTS_MAX: usize = 10;

/// Maximum nesting depth of a packet's JSON, including the array of its arguments.
///
/// This is the limit of serde_json, so that decoded arguments can always be parsed. The limit also
/// protects recursive parsers in the clients that receive the events.
pub(crate) const NESTING_MAX: usize = 127;
