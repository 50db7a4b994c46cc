//! Why a text is not a Socket.IO packet. Refuses to say what follows from it: the session decides that.

use thiserror::Error;

use super::NESTING_MAX;
use crate::ids::IdError;

/// Why the message of a peer could not be read as Socket.IO. All of them are the peer's fault; what each ends is said by
/// [`Rejection`](super::rejection::Rejection).
///
/// Messages quote nothing of unbounded length that the peer has sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum DecodeError {
    /// The message has no byte; a packet needs at least its type.
    #[error("packet is empty")]
    Empty,

    /// The message is longer than positions in it can be counted; no transport should let it get here.
    #[error("packet of {bytes} bytes exceeds limit of {}", u32::MAX)]
    TooLong {
        /// Length of the message.
        bytes: usize,
    },

    /// The first character is none of `0` to `6`.
    #[error("packet type {found:?} is unknown")]
    UnknownType {
        /// The character in the place of the type.
        found: char,
    },

    /// A binary packet does not start with a number of attachments from 1 up and a dash.
    #[error("binary packet has no legal number of attachments")]
    IllegalAttachments,

    /// A binary packet announces more attachments than the protocol allows.
    #[error("{count} attachments exceed limit of {limit}")]
    TooManyAttachments {
        /// Attachments announced; `usize::MAX` also stands for everything above it.
        count: usize,
        /// How many there may be.
        limit: usize,
    },

    /// A placeholder names no attachment of its packet.
    #[error("placeholder names none of {attachments} attachments")]
    IllegalPlaceholder {
        /// Attachments of the packet; placeholders count from zero.
        attachments: usize,
    },

    /// The namespace cannot be the name of one.
    #[error("namespace is illegal: {0}")]
    IllegalNamespace(#[source] IdError),

    /// The ack id does not fit into 64 bits.
    #[error("ack id of {digits} digits exceeds limit of {}", u64::MAX)]
    AckIdTooLarge {
        /// Digits of the id.
        digits: usize,
    },

    /// An ack must say what it acknowledges.
    #[error("ack has no id")]
    MissingAckId,

    /// The packet lacks its data, or carries data of another kind than its type wants.
    #[error("data of {packet} must be {expected}")]
    WrongData {
        /// The packet's type, in the protocol's words.
        packet: &'static str,
        /// What may stand there.
        expected: &'static str,
    },

    /// The credentials of a CONNECT are neither an object nor absent.
    #[error("auth must be an object or absent")]
    WrongAuth,

    /// The data is not JSON.
    #[error("data is not valid JSON: {reason}")]
    InvalidJson {
        /// What the JSON parser says, with line and column.
        reason: String,
    },

    /// A msgpack packet lacks one of its parts, or has something else in its place.
    #[error("{field} must be {expected}")]
    WrongField {
        /// Which part, in the protocol's words.
        field: &'static str,
        /// What must stand there.
        expected: &'static str,
    },

    /// The message is not msgpack, or holds what a packet cannot hold.
    #[error("message is not a msgpack packet: {found} before byte {at}")]
    InvalidMsgpack {
        /// Where reading ended.
        at: usize,
        /// What was found there.
        found: &'static str,
    },

    /// The data nests deeper than [`NESTING_MAX`].
    #[error("data nests deeper than limit of {NESTING_MAX}")]
    TooDeep,

    /// The first element of an event is neither a string nor a number, or none that can be a name: a string with a
    /// lone surrogate, a number out of range.
    #[error("event name is neither a string nor a number")]
    IllegalEventName,

    /// The event has a name that Socket.IO gives a meaning of its own.
    #[error("event name {name:?} is reserved")]
    ReservedEventName { name: &'static str },
}
