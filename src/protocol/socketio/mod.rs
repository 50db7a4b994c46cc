//! Socket.IO v5: what an Engine.IO message says.
//!
//! Text becomes a [`Packet`](packet::Packet), or a [`PartialPacket`] when binary attachments are still to come. Refuses to look into the
//! arguments of an event further than the protocol itself does (its name, the placeholders): payload JSON passes
//! through as text.

pub(crate) mod binary;
mod error;
mod event_name;
mod json;
pub(crate) mod packet;
#[cfg(test)]
mod proptests;
pub(crate) mod text;

pub(crate) use binary::PartialPacket;
pub(crate) use error::DecodeError;
pub(crate) use event_name::RESERVED_EVENTS;

/// Most attachments a packet may have. The reference parser applies the same limit on both sides, so a packet with
/// more is illegal from a client and would be refused by one: never emit more.
pub(crate) const ATTACHMENTS_MAX: usize = 10;

/// How deep the JSON of a packet may nest, the array around its arguments included.
///
/// It is what serde_json parses: what has been decoded never fails there for its depth. Without the limit, an event
/// passed on as text would reach the recursion of other people's clients.
pub(crate) const NESTING_MAX: usize = 127;
