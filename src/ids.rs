//! The names of things: who a session, a socket, a room or a record is.
//!
//! Every type here is valid by construction. Randomness arrives from outside as bytes: this file draws none.

mod ack;
mod recipient;

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;

pub(crate) use self::ack::{AckId, AckOwner};
pub(crate) use self::recipient::Recipient;

/// Bytes of randomness in a session, socket or private id: 120 bits, 20 characters of base64url.
pub(crate) const RANDOM_ID_BYTES: usize = 15;

/// Characters of a session, socket or private id on the wire.
pub(crate) const RANDOM_ID_CHARS: usize = 20;

/// Longest namespace path accepted, in bytes.
pub(crate) const NAMESPACE_BYTES_MAX: usize = 256;

/// Longest room name accepted, in bytes.
pub(crate) const ROOM_BYTES_MAX: usize = 256;

/// Why a text is not the id it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// A namespace path must begin with a slash; name the path as the client would.
    #[error("namespace {0:?} does not begin with \"/\"")]
    NamespaceWithoutSlash(String),
    /// A comma would end the path on the wire; choose another name.
    #[error("namespace {0:?} contains \",\"")]
    NamespaceWithComma(String),
    /// Shorten the path.
    #[error("namespace path of {bytes} bytes exceeds limit of {NAMESPACE_BYTES_MAX}")]
    NamespaceTooLong {
        /// Length of the refused path.
        bytes: usize,
    },
    /// A room needs a name of at least one byte.
    #[error("room name is empty")]
    RoomEmpty,
    /// Shorten the room's name.
    #[error("room name of {bytes} bytes exceeds limit of {ROOM_BYTES_MAX}")]
    RoomTooLong {
        /// Length of the refused name.
        bytes: usize,
    },
    /// Not 20 characters of base64url.
    #[error("id is not {RANDOM_ID_CHARS} characters of base64url")]
    NotARandomId,
    /// Not an offset that this version of the hub writes.
    #[error("offset is not {OFFSET_CHARS} characters of the offset alphabet")]
    NotAnOffset,
}

macro_rules! random_id {
    ($(#[$doc:meta])* $visibility:vis $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $visibility struct $name([u8; RANDOM_ID_BYTES]);

        impl $name {
            /// Makes an id of bytes that the caller drew from the system's random source.
            pub(crate) const fn from_random(bytes: [u8; RANDOM_ID_BYTES]) -> Self {
                Self(bytes)
            }

            /// The bytes it was made of, to be kept with what it names.
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

fn with_text<R>(bytes: &[u8; RANDOM_ID_BYTES], look: impl FnOnce(&str) -> R) -> R {
    let mut text = [0; RANDOM_ID_CHARS];
    // Cannot fail: 15 bytes are exactly 20 characters.
    let written = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text).unwrap_or(0);
    look(std::str::from_utf8(&text[..written]).unwrap_or(""))
}

macro_rules! parsed_id {
    ($visibility:vis $name:ident) => {
        impl $name {
            /// Reads the wire form: exactly 20 characters of base64url.
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
    /// A session: one client connection (Engine.IO `sid`). A bearer secret, so `Debug` prints only its beginning.
    pub(crate) SessionId
}

random_id! {
    /// A socket: a session's presence in one namespace (Socket.IO `sid`). Public; also the name of the socket's own room.
    pub SocketId
}

random_id! {
    /// The private id by which a client claims its socket again after a lost connection. A bearer secret.
    pub(crate) PrivateId
}

parsed_id!(pub(crate) SessionId);
parsed_id!(pub SocketId);
parsed_id!(pub(crate) PrivateId);

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}…", self.to_string())
    }
}

impl SocketId {
    /// Calls `look` with the wire form, which is not kept anywhere.
    fn with_text<R>(&self, look: impl FnOnce(&str) -> R) -> R {
        with_text(&self.0, look)
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

/// The path of a namespace: begins with `/`, holds no `,`, at most 256 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespacePath(
    /// None for `/`, where most sockets are. A copy otherwise: as it came it shares the memory of everything read together with it.
    Option<Arc<str>>,
);

impl NamespacePath {
    /// The namespace `/`, which needs no path on the wire.
    pub(crate) const fn root() -> Self {
        Self(None)
    }

    /// Checks and takes a path, by the rule that [`Server::of`](crate::Server::of) keeps.
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

    /// The path by which a peer asked for a namespace that it is refused; it may be no legal one.
    pub(crate) fn refused(path: &str) -> Self {
        Self((path != "/").then(|| Arc::from(path)))
    }

    /// Whether this is `/`.
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

/// The name of a room: 1 to 256 bytes of any text. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RoomName(Arc<str>);

impl RoomName {
    /// Checks and takes a name.
    pub(crate) fn parse(name: &str) -> Result<Self, IdError> {
        match name.len() {
            0 => Err(IdError::RoomEmpty),
            bytes if bytes > ROOM_BYTES_MAX => Err(IdError::RoomTooLong { bytes }),
            _ => Ok(Self(Arc::from(name))),
        }
    }

    /// The name as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The socket whose own room this is, if the name is a socket's id.
    pub(crate) fn owner(&self) -> Option<SocketId> {
        SocketId::parse(&self.0).ok()
    }
}

impl From<SocketId> for RoomName {
    /// The socket's own room.
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

/// A worker thread of this process, counted from 0 in the order in which they met the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct WorkerId(pub u16);

/// A session's place in its worker's outbox slab. The generation tells a reused place from the one that was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SlotKey {
    /// Position in the slab.
    pub index: u32,
    /// How often the position had been given away before.
    pub generation: u32,
}

/// A socket's place in its worker's member table. Valid from `Connect` until the hub's answer to `Disconnect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct MemberKey(pub u32);

/// A room's number, given by the hub while the room has members, so that workers need not hash names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RoomId(pub u32);

/// Log sequence number: the position of a record in the hub's order. Increasing, not contiguous, below 2^51, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// First value that no LSN reaches, so that ack ids made of one stay exact in a JavaScript number (2^53).
    pub const END: u64 = 1 << 51;

    /// The next number.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The number before, given away or not: what is read behind it begins here.
    #[must_use]
    pub(crate) const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// One life of the log, 48 bits. An offset of another epoch names a record that this log never held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(u64);

impl Epoch {
    /// An epoch from when it began (so that later ones sort behind) and 16 random bits (so that two of one second differ).
    pub const fn new(unix_seconds: u32, random: u16) -> Self {
        Self((unix_seconds as u64) << 16 | random as u64)
    }

    /// Its 48 bits.
    pub(crate) const fn to_bits(self) -> u64 {
        self.0
    }

    /// Takes the low 48 bits.
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits & 0xffff_ffff_ffff)
    }
}

/// A few random bits drawn per record (24), so that an offset cannot be guessed by counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(u32);

impl Fingerprint {
    /// Takes the low 24 bits.
    pub const fn new(random: u32) -> Self {
        Self(random & 0x00ff_ffff)
    }

    /// Its 24 bits.
    pub(crate) const fn to_bits(self) -> u32 {
        self.0
    }
}

/// Characters of an offset token on the wire.
pub(crate) const OFFSET_CHARS: usize = 21;

const EPOCH_CHARS: usize = 8;
const LSN_CHARS: usize = 9;
const FINGERPRINT_CHARS: usize = 4;

/// URL-safe and in ASCII order, so that tokens sort as their numbers do.
const OFFSET_ALPHABET: &[u8; 64] = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";

/// A position in the log as clients hold it: epoch, LSN and the record's fingerprint in 21 characters.
///
/// Opaque to clients, fixed in width, URL-safe; tokens of one epoch sort by LSN. A position, not a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Offset {
    /// Which life of the log.
    pub epoch: Epoch,
    /// Position in it.
    pub lsn: Lsn,
    /// Drawn with the record.
    pub fingerprint: Fingerprint,
}

impl Offset {
    /// The token that clients send back, as text.
    pub fn encode(&self) -> [u8; OFFSET_CHARS] {
        let mut token = [0; OFFSET_CHARS];
        write_digits(&mut token[..EPOCH_CHARS], self.epoch.0);
        write_digits(&mut token[EPOCH_CHARS..EPOCH_CHARS + LSN_CHARS], self.lsn.0);
        write_digits(&mut token[EPOCH_CHARS + LSN_CHARS..], u64::from(self.fingerprint.0));
        token
    }

    /// Reads a token. Says nothing on whether the record exists.
    pub fn parse(token: &str) -> Result<Self, IdError> {
        let token = token.as_bytes();
        if token.len() != OFFSET_CHARS {
            return Err(IdError::NotAnOffset);
        }
        let epoch = read_digits(&token[..EPOCH_CHARS])?;
        let lsn = read_digits(&token[EPOCH_CHARS..EPOCH_CHARS + LSN_CHARS])?;
        let fingerprint = read_digits(&token[OFFSET_CHARS - FINGERPRINT_CHARS..])?;
        if lsn >= Lsn::END {
            return Err(IdError::NotAnOffset);
        }
        Ok(Self { epoch: Epoch(epoch), lsn: Lsn(lsn), fingerprint: Fingerprint(fingerprint as u32) })
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.encode()).unwrap_or(""))
    }
}

fn write_digits(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = OFFSET_ALPHABET[(value & 63) as usize];
        value >>= 6;
    }
}

fn read_digits(digits: &[u8]) -> Result<u64, IdError> {
    digits.iter().try_fold(0, |value, digit| {
        let position = OFFSET_ALPHABET.binary_search(digit).map_err(|_| IdError::NotAnOffset)?;
        Ok(value << 6 | position as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn offset(lsn: u64, random: u32) -> Offset {
        Offset { epoch: Epoch::new(1_700_000_000, 7), lsn: Lsn(lsn), fingerprint: Fingerprint::new(random) }
    }

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

    proptest! {
        #[test]
        fn an_offset_survives_its_token(lsn in 0..Lsn::END, random: u32) {
            let token = offset(lsn, random).to_string();
            prop_assert_eq!(token.len(), OFFSET_CHARS);
            prop_assert_eq!(Offset::parse(&token), Ok(offset(lsn, random)));
        }

        #[test]
        fn tokens_of_one_epoch_sort_by_lsn(a in 0..Lsn::END, b in 0..Lsn::END, x: u32, y: u32) {
            prop_assume!(a != b);
            prop_assert_eq!(offset(a, x).to_string() < offset(b, y).to_string(), a < b);
        }

        #[test]
        fn any_text_is_an_offset_or_an_error(text in ".{0,40}") {
            let _ = Offset::parse(&text);
        }
    }
}
