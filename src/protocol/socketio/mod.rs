//! Socket.IO v5: the packets in Engine.IO messages.
//!
//! Text is decoded to a [`Packet`](packet::Packet), or to a [`PartialPacket`] if binary attachments
//! follow. Of an event's arguments, only the name and the placeholders are parsed; payload JSON
//! passes through as text.

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

/// Packet format of a server and all its clients. Both sides must be configured alike: a packet in
/// another format closes the connection with "parse error".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Parser {
    /// JSON text, with binary data in separate messages. The default of all clients.
    #[default]
    Json,
    /// One binary msgpack message per packet, for clients with `parser` set to
    /// `socket.io-msgpack-parser`. Smaller, especially for numbers and many small pieces of binary
    /// data. If several placeholders refer to one attachment, it is sent in place of the first; the
    /// others become null.
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

/// Maximum number of attachments of a JSON packet. The reference parser has the same limit on both
/// sides.
pub(crate) const ATTACHMENTS_MAX: usize = 10;

/// Maximum nesting depth of a packet's JSON, including the array of its arguments.
///
/// Equal to serde_json's limit, so that decoded arguments can always be parsed. It also protects
/// the recursive parsers of clients to which events are forwarded.
pub(crate) const NESTING_MAX: usize = 127;
