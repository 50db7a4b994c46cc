//! Socket.IO v5: what an Engine.IO message says.
//!
//! Text becomes a [`Packet`](packet::Packet), or a [`PartialPacket`] when binary attachments are still to come. Refuses to look into the
//! arguments of an event further than the protocol itself does (its name, the placeholders): payload JSON passes
//! through as text.

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

/// The form in which packets travel, for all clients of a server. Neither side can tell which one the other uses: packets in
/// another form are illegal, and the connection is closed with "parse error".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Parser {
    /// JSON text, and each piece of binary data in a message of its own behind it: what clients speak if told nothing.
    #[default]
    Json,
    /// One binary message of msgpack for each packet: what clients speak with `parser` set to `socket.io-msgpack-parser`.
    /// Smaller, above all with numbers and many small pieces of binary data. A piece that several placeholders name is sent in
    /// the place of the first, and null in the others'.
    Msgpack,
}

impl Parser {
    /// Most attachments a packet may have.
    pub(crate) const fn attachments_max(self) -> usize {
        match self {
            Self::Json => ATTACHMENTS_MAX,
            Self::Msgpack => msgpack::ATTACHMENTS_MAX,
        }
    }
}

/// Most attachments a packet of JSON may have. The reference parser applies the same limit on both sides, so a packet with
/// more is illegal from a client and would be refused by one: never emit more.
pub(crate) const ATTACHMENTS_MAX: usize = 10;

/// How deep the JSON of a packet may nest, the array around its arguments included.
///
/// It is what serde_json parses: what has been decoded never fails there for its depth. Without the limit, an event
/// passed on as text would reach the recursion of other people's clients.
pub(crate) const NESTING_MAX: usize = 127;
