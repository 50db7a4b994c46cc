//! Errors of decoding Socket.IO packets.

use thiserror::Error;

use super::NESTING_MAX;
use crate::ids::IdError;

/// Reason why a message is not a valid Socket.IO packet. Every reason is a fault of the peer.
/// [`Rejection`](super::rejection::Rejection) determines the consequence.
///
/// Data of the peer in error texts has a bounded length.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum DecodeError {
    /// The message is empty. A packet has at least a type.
    #[error("packet is empty")]
    Empty,

    /// The message is too long for 32-bit positions. The limits of the transports are lower.
    #[error("packet of {bytes} bytes exceeds limit of {}", u32::MAX)]
    TooLong { bytes: usize },

    #[error("packet type {found:?} is unknown")]
    UnknownType { found: char },

    /// The type of a binary packet is not followed by a number of attachments, at least 1, and a
    /// hyphen.
    #[error("binary packet has no legal number of attachments")]
    IllegalAttachments,

    #[error("{count} attachments exceed limit of {limit}")]
    TooManyAttachments {
        /// Announced number of attachments. Larger numbers than `usize::MAX` become `usize::MAX`.
        count: usize,
        limit: usize,
    },

    #[error("placeholder refers to none of {attachments} attachments")]
    IllegalPlaceholder { attachments: usize },

    #[error("namespace is illegal: {0}")]
    IllegalNamespace(#[source] IdError),

    #[error("ack id of {digits} digits exceeds limit of {}", u64::MAX)]
    AckIdTooLarge { digits: usize },

    #[error("ack has no id")]
    MissingAckId,

    /// The data is missing, or does not have the JSON type that the packet type requires.
    #[error("data of {packet} must be {expected}")]
    WrongData { packet: &'static str, expected: &'static str },

    /// The credentials of a CONNECT are neither an object nor absent.
    #[error("auth must be an object or absent")]
    WrongAuth,

    #[error("data is not valid JSON: {reason}")]
    InvalidJson {
        /// Message of the JSON parser, with line and column.
        reason: String,
    },

    /// A field of a msgpack packet is missing or has the wrong type.
    #[error("{field} must be {expected}")]
    WrongField { field: &'static str, expected: &'static str },

    /// The message is not msgpack, or contains a value that a packet cannot contain.
    #[error("message is not a msgpack packet: {found} before byte {at}")]
    InvalidMsgpack { at: usize, found: &'static str },

    #[error("data nests deeper than limit of {NESTING_MAX}")]
    TooDeep,

    /// The event has no name, its name is neither a string nor a number, or the name is a number
    /// beyond the range of a double.
    #[error("event name is neither a string nor a number")]
    IllegalEventName,

    #[error("event name {name:?} is reserved")]
    ReservedEventName { name: &'static str },
}
