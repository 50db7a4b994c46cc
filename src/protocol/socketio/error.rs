//! Errors of decoding Socket.IO packets.

use thiserror::Error;

use super::NESTING_MAX;
use crate::ids::IdError;

/// Reason why a message is not a valid Socket.IO packet. Each is a fault of the peer;
/// [`Rejection`](super::rejection::Rejection) determines the consequence.
///
/// Error texts contain no unbounded data of the peer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum DecodeError {
    /// The message is empty; a packet needs at least its type.
    #[error("packet is empty")]
    Empty,

    /// The message is too long for its 32-bit positions. Transports limit messages to less.
    #[error("packet of {bytes} bytes exceeds limit of {}", u32::MAX)]
    TooLong { bytes: usize },

    #[error("packet type {found:?} is unknown")]
    UnknownType { found: char },

    /// A binary packet does not start with a number of attachments of at least 1 and a dash.
    #[error("binary packet has no legal number of attachments")]
    IllegalAttachments,

    #[error("{count} attachments exceed limit of {limit}")]
    TooManyAttachments {
        /// Number announced. `usize::MAX` stands for all larger numbers as well.
        count: usize,
        limit: usize,
    },

    #[error("placeholder names none of {attachments} attachments")]
    IllegalPlaceholder { attachments: usize },

    #[error("namespace is illegal: {0}")]
    IllegalNamespace(#[source] IdError),

    #[error("ack id of {digits} digits exceeds limit of {}", u64::MAX)]
    AckIdTooLarge { digits: usize },

    #[error("ack has no id")]
    MissingAckId,

    /// The data is missing, or not of the kind that the packet type requires.
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

    /// A field of a msgpack packet is missing or of the wrong type.
    #[error("{field} must be {expected}")]
    WrongField { field: &'static str, expected: &'static str },

    /// The message is not msgpack, or contains a value that a packet cannot contain.
    #[error("message is not a msgpack packet: {found} before byte {at}")]
    InvalidMsgpack { at: usize, found: &'static str },

    #[error("data nests deeper than limit of {NESTING_MAX}")]
    TooDeep,

    /// The first element of an event is not a valid name: not a string or number, a string with a
    /// lone surrogate, or a number out of range.
    #[error("event name is neither a string nor a number")]
    IllegalEventName,

    #[error("event name {name:?} is reserved")]
    ReservedEventName { name: &'static str },
}
