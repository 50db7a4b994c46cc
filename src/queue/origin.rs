//! The origin of an event: what the hub needs, besides content and rooms, to reveal the event.
//!
//! The stored form is empty, or one byte (1) followed by the 15 bytes of a socket id.

use bytes::Bytes;

use crate::ids::{RANDOM_ID_BYTES, SocketId};

/// First byte of an origin with an excluded socket.
const EXCLUDED: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Origin {
    /// The socket of the publisher, if it does not receive the event as a member of the rooms.
    pub exclude: Option<SocketId>,
}

impl Origin {
    pub(crate) fn encode(self) -> Bytes {
        let Some(socket) = self.exclude else { return Bytes::new() };
        [&[EXCLUDED], &socket.as_bytes()[..]].concat().into()
    }

    /// Decodes an origin. One of an unknown form excludes nothing.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let socket = bytes.strip_prefix(&[EXCLUDED]).and_then(|socket| <[u8; RANDOM_ID_BYTES]>::try_from(socket).ok());
        Self { exclude: socket.map(SocketId::from_random) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_read_back() {
        for exclude in [None, Some(SocketId::from_random([7; 15]))] {
            let origin = Origin { exclude };
            assert_eq!(Origin::decode(&origin.encode()), origin);
        }
        for unknown in [&b"\x01short"[..], b"\x02", b"x"] {
            assert_eq!(Origin::decode(unknown), Origin::default());
        }
    }
}
