//! Consequences of an invalid packet: the server drops the packet, refuses a namespace, or closes
//! the connection. `docs/errors.md` has a table.

use bytes::Bytes;

use super::{DecodeError, msgpack, text};
use crate::ids::NamespacePath;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// The server closes the connection, since the peer does not speak the protocol, or the start
    /// of the next packet is unknown.
    Stream,
    /// The packet is dropped, and so are the next `attachments` binary messages.
    Packet { attachments: usize },
    /// The packet is a CONNECT. The server refuses the connection to the namespace.
    Connect { namespace: NamespacePath },
}

impl Rejection {
    pub(crate) fn of_text(message: &str, error: &DecodeError) -> Self {
        match (Scope::of(error), text::connect_path(message), text::attachments(message)) {
            (Scope::Packet, Some(path), _) => Self::Connect { namespace: NamespacePath::refused(path) },
            (Scope::Packet, None, Some(attachments)) => Self::Packet { attachments },
            _ => Self::Stream,
        }
    }

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
            // The packet is well-formed, but the server does not accept its content.
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
