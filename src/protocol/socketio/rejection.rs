//! What a packet that cannot be accepted ends: itself, the CONNECT of a namespace, or the whole stream.
//!
//! `docs/errors.md` has the table for people.

use bytes::Bytes;

use super::{DecodeError, msgpack, text};
use crate::ids::NamespacePath;

/// What follows from a [`DecodeError`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// The peer does not speak the protocol, or nobody can say where the next packet begins: the connection ends.
    Stream,
    /// The packet is dropped, and with it so many binary messages that follow it.
    Packet { attachments: usize },
    /// The packet is a CONNECT: its namespace is refused.
    Connect { namespace: NamespacePath },
}

impl Rejection {
    /// Judges a message of text.
    pub(crate) fn of_text(message: &str, error: &DecodeError) -> Self {
        match (Scope::of(error), text::connect_path(message), text::attachments(message)) {
            (Scope::Packet, Some(path), _) => Self::Connect { namespace: NamespacePath::refused(path) },
            (Scope::Packet, None, Some(attachments)) => Self::Packet { attachments },
            _ => Self::Stream,
        }
    }

    /// Judges a message of msgpack.
    pub(crate) fn of_msgpack(message: &Bytes, error: &DecodeError) -> Self {
        match (Scope::of(error), msgpack::connect_path(message)) {
            (Scope::Packet, Some(path)) => Self::Connect { namespace: NamespacePath::refused(&path) },
            (Scope::Packet, None) => Self::Packet { attachments: 0 },
            (Scope::Stream, _) => Self::Stream,
        }
    }
}

enum Scope {
    Packet,
    Stream,
}

impl Scope {
    fn of(error: &DecodeError) -> Self {
        match error {
            // It can be read, and says what this server does not accept.
            DecodeError::TooManyAttachments { .. }
            | DecodeError::IllegalPlaceholder { .. }
            | DecodeError::IllegalNamespace(_)
            | DecodeError::AckIdTooLarge { .. }
            | DecodeError::MissingAckId
            | DecodeError::TooDeep
            | DecodeError::IllegalEventName
            | DecodeError::ReservedEventName { .. }
            | DecodeError::WrongAuth => Self::Packet,
            DecodeError::Empty
            | DecodeError::TooLong { .. }
            | DecodeError::UnknownType { .. }
            | DecodeError::IllegalAttachments
            | DecodeError::WrongData { .. }
            | DecodeError::InvalidJson { .. }
            | DecodeError::WrongField { .. }
            | DecodeError::InvalidMsgpack { .. } => Self::Stream,
        }
    }
}
