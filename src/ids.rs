//! Identifiers and names of sessions, sockets, namespaces, rooms and workers.
//!
//! Every value is valid by construction. Callers provide the random bytes.

mod ack;
mod offset;
mod recipient;

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Serialize, Serializer};
use thiserror::Error;

pub(crate) use self::ack::{AckId, AckOwner};
pub use self::offset::{Epoch, Fingerprint, Lsn, Offset, QueueOffset};
pub(crate) use self::offset::{OFFSET_CHARS, QUEUE_OFFSET_CHARS};
pub(crate) use self::recipient::Recipient;

/// Number of random bytes in a session, socket or private id. These 120 bits are 20 characters of
/// base64url.
pub(crate) const RANDOM_ID_BYTES: usize = 15;

/// Number of characters of a session, socket or private id on the wire.
pub(crate) const RANDOM_ID_CHARS: usize = 20;

/// Maximum length of a namespace path in bytes.
pub(crate) const NAMESPACE_BYTES_MAX: usize = 256;

/// Maximum length of a room name in bytes.
pub(crate) const ROOM_BYTES_MAX: usize = 256;

/// Reason why a text is not a valid identifier.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// A namespace path must begin with a slash.
    #[error("namespace {0:?} does not begin with \"/\"")]
    NamespaceWithoutSlash(String),
    /// A namespace path must not contain a comma, since a comma ends the path on the wire.
    #[error("namespace {0:?} contains \",\"")]
    NamespaceWithComma(String),
    /// The namespace path is too long.
    #[error("namespace path of {bytes} bytes exceeds limit of {NAMESPACE_BYTES_MAX}")]
    NamespaceTooLong {
        /// Length of the path in bytes.
        bytes: usize,
    },
    /// A room name must have at least one byte.
    #[error("room name is empty")]
    RoomEmpty,
    /// The room name is too long.
    #[error("room name of {bytes} bytes exceeds limit of {ROOM_BYTES_MAX}")]
    RoomTooLong {
        /// Length of the name in bytes.
        bytes: usize,
    },
    /// Names that begin with the character U+0000 are used by the server itself.
    #[error("room name begins with the reserved character U+0000")]
    RoomReserved,
    /// The text is not 20 characters of base64url.
    #[error("id is not {RANDOM_ID_CHARS} characters of base64url")]
    NotARandomId,
    /// The text is not an offset, or is an offset in another format.
    #[error("offset is not {OFFSET_CHARS} characters of the offset alphabet")]
    NotAnOffset,
    /// The text is not an offset of the queue. An offset of the journal is none either.
    #[error("offset of the queue is not {QUEUE_OFFSET_CHARS} characters of the offset alphabet")]
    NotAQueueOffset,
}

macro_rules! random_id {
    ($(#[$doc:meta])* $visibility:vis $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $visibility struct $name([u8; RANDOM_ID_BYTES]);

        impl $name {
            /// Creates an id from bytes of the system's random source.
            pub(crate) const fn from_random(bytes: [u8; RANDOM_ID_BYTES]) -> Self {
                Self(bytes)
            }

            /// The random bytes, for storage.
            #[allow(dead_code, reason = "not every id is written to disk")]
            pub(crate) const fn as_bytes(&self) -> &[u8; RANDOM_ID_BYTES] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                with_text(&self.0, |text| f.write_str(text))
            }
        }
    };
}

fn with_text<R>(bytes: &[u8; RANDOM_ID_BYTES], f: impl FnOnce(&str) -> R) -> R {
    let mut text = [0; RANDOM_ID_CHARS];
    // The encoding cannot fail, since 15 bytes are exactly 20 characters.
    let written = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text).unwrap_or(0);
    f(std::str::from_utf8(&text[..written]).unwrap_or(""))
}

macro_rules! parsed_id {
    ($visibility:vis $name:ident) => {
        impl $name {
            /// Parses the wire form: exactly 20 characters of base64url.
            $visibility fn parse(text: &str) -> Result<Self, IdError> {
                let mut bytes = [0; RANDOM_ID_BYTES];
                match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
                    Ok(RANDOM_ID_BYTES) if text.len() == RANDOM_ID_CHARS => Ok(Self(bytes)),
                    _ => Err(IdError::NotARandomId),
                }
            }
        }
    };
}

random_id! {
    /// Id of a session, which is one client connection (Engine.IO `sid`). The id is secret, so
    /// `Debug` prints only its beginning.
    pub(crate) SessionId
}

random_id! {
    /// Id of a socket, which represents a session in one namespace (Socket.IO `sid`). The id is
    /// public, and is also the name of the socket's own room.
    pub SocketId
}

random_id! {
    /// Private id with which a client resumes its session after a lost connection. The id is
    /// secret.
    pub(crate) PrivateId
}

/// Public values that applications send as text.
macro_rules! serialized_as_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

serialized_as_text!(SocketId, NamespacePath, Offset, QueueOffset);

parsed_id!(pub(crate) SessionId);
parsed_id!(pub SocketId);
parsed_id!(pub(crate) PrivateId);

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}…", self.to_string())
    }
}

impl SocketId {
    /// Calls `f` with the wire form, without an allocation.
    fn with_text<R>(&self, f: impl FnOnce(&str) -> R) -> R {
        with_text(&self.0, f)
    }
}

impl fmt::Debug for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for PrivateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}…", self.to_string())
    }
}

/// Path of a namespace. It starts with `/`, contains no comma, and has at most 256 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespacePath(
    /// `None` for `/`, which most sockets use. Other paths are copied, since a slice would keep the
    /// whole received buffer in memory.
    Option<Arc<str>>,
);

impl NamespacePath {
    pub(crate) const fn root() -> Self {
        Self(None)
    }

    /// Validates a path by the rules of [`Server::of`](crate::Server::of).
    pub fn parse(path: &str) -> Result<Self, IdError> {
        if !path.starts_with('/') {
            return Err(IdError::NamespaceWithoutSlash(path.chars().take(64).collect()));
        }
        if path.contains(',') {
            return Err(IdError::NamespaceWithComma(path.chars().take(64).collect()));
        }
        if path.len() > NAMESPACE_BYTES_MAX {
            return Err(IdError::NamespaceTooLong { bytes: path.len() });
        }
        Ok(Self((path != "/").then(|| Arc::from(path))))
    }

    /// The path of a refused CONNECT packet. The path may be invalid.
    pub(crate) fn refused(path: &str) -> Self {
        Self((path != "/").then(|| Arc::from(path)))
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.is_none()
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("/")
    }
}

impl fmt::Display for NamespacePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for NamespacePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// First character of the names of shadow rooms.
const SHADOW_MARK: char = '\0';

/// First character, as long as [`SHADOW_MARK`], of a room that was named before that was reserved.
const REPLACED_MARK: char = '\u{1}';

/// Name of a room: 1 to 256 bytes of text. Cheap to clone.
///
/// A room has a shadow room, whose members are the members of the room that receive its durable
/// events from the queue. A durable event is delivered to the members of its rooms except those of
/// the shadow rooms. Only the server itself names shadow rooms.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RoomName(Arc<str>);

impl RoomName {
    pub(crate) fn parse(name: &str) -> Result<Self, IdError> {
        match name.len() {
            0 => Err(IdError::RoomEmpty),
            bytes if bytes > ROOM_BYTES_MAX => Err(IdError::RoomTooLong { bytes }),
            _ if name.starts_with(SHADOW_MARK) => Err(IdError::RoomReserved),
            _ => Ok(Self(Arc::from(name))),
        }
    }

    /// Parses a name from a record of the journal, which may be that of a shadow room.
    pub(crate) fn parse_recorded(name: &str) -> Result<Self, IdError> {
        match name.strip_prefix(SHADOW_MARK) {
            Some(room) => Self::parse(room).map(|room| Self::shadow_of(&room)),
            None => Self::parse(name),
        }
    }

    /// Parses a name from a record of a version that did not know shadow rooms. A name that is
    /// reserved now gets another first character: nobody can publish to that room any more.
    pub(crate) fn parse_unreserved(name: &str) -> Result<Self, IdError> {
        match name.strip_prefix(SHADOW_MARK) {
            Some(rest) => Self::parse(&format!("{REPLACED_MARK}{rest}")),
            None => Self::parse(name),
        }
    }

    pub(crate) fn shadow_of(room: &Self) -> Self {
        Self(format!("{SHADOW_MARK}{room}").into())
    }

    /// The room of a shadow room.
    pub(crate) fn of_shadow(&self) -> Option<Self> {
        self.0.strip_prefix(SHADOW_MARK).map(|room| Self(room.into()))
    }

    pub(crate) fn is_shadow(&self) -> bool {
        self.0.starts_with(SHADOW_MARK)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the socket whose own room has this name, if the name is a valid socket id.
    pub(crate) fn owner(&self) -> Option<SocketId> {
        SocketId::parse(&self.0).ok()
    }
}

impl From<SocketId> for RoomName {
    fn from(id: SocketId) -> Self {
        id.with_text(|text| Self(Arc::from(text)))
    }
}

impl Borrow<str> for RoomName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Number of a worker or of the server sender, counted from 0 in the order in which they start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct WorkerId(pub u16);

/// Slot of a session in the outbox slab of its worker. The generation distinguishes successive
/// sessions in one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SlotKey {
    pub index: u32,
    /// Number of previous uses of the slot.
    pub generation: u32,
}

/// Index of a socket in the member table of its worker. The index is valid from `Connect` until the
/// hub's `Detach` or `Evict`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct MemberKey(pub u32);

/// Number of a room. The room keeps the number while it has members. Workers use the number, so
/// that they need not hash names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RoomId(pub u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_id_is_twenty_characters_of_base64url() {
        let id = SocketId::from_random([0xff; 15]);
        assert_eq!(id.to_string(), "____________________");
        assert_eq!(SocketId::parse("____________________"), Ok(id));
        for bad in ["", "short", "___________________", "_____________________", "__________________/_"] {
            assert_eq!(SocketId::parse(bad), Err(IdError::NotARandomId), "{bad:?}");
        }
    }

    #[test]
    fn a_session_id_does_not_show_itself_in_debug_output() {
        let id = SessionId::from_random([0; 15]);
        assert_eq!(format!("{id:?}"), "AAAAAA…");
    }

    #[test]
    fn a_namespace_begins_with_a_slash_and_holds_no_comma() {
        let parse = NamespacePath::parse;
        assert!(parse("/chat").is_ok_and(|path| path.as_str() == "/chat" && !path.is_root()));
        assert_eq!(parse("/"), Ok(NamespacePath::root()));
        assert!(matches!(parse("chat"), Err(IdError::NamespaceWithoutSlash(_))));
        assert!(matches!(parse("/a,b"), Err(IdError::NamespaceWithComma(_))));
        assert!(matches!(parse(&format!("/{}", "x".repeat(256))), Err(IdError::NamespaceTooLong { bytes: 257 })));
    }

    #[test]
    fn a_room_name_is_bounded() {
        assert_eq!(RoomName::parse(""), Err(IdError::RoomEmpty));
        assert_eq!(RoomName::parse(&"r".repeat(257)), Err(IdError::RoomTooLong { bytes: 257 }));
        assert!(RoomName::parse(&"r".repeat(256)).is_ok());
    }

    #[test]
    fn a_shadow_room_has_a_name_that_no_room_has() {
        let room = RoomName::parse(&"r".repeat(256)).unwrap();
        let shadow = RoomName::shadow_of(&room);
        assert!(shadow.is_shadow() && !room.is_shadow());
        assert_eq!((shadow.of_shadow(), room.of_shadow()), (Some(room.clone()), None));
        assert_eq!(RoomName::parse(shadow.as_str()), Err(IdError::RoomTooLong { bytes: 257 }));
        assert_eq!(RoomName::parse("\0r"), Err(IdError::RoomReserved));
        assert_eq!(RoomName::parse_recorded(shadow.as_str()), Ok(shadow));
        assert_eq!(RoomName::parse_recorded(room.as_str()), Ok(room));
    }
}
