//! Recipients of an event: rooms or sockets.

use std::fmt;

use super::{IdError, RANDOM_ID_CHARS, RoomName, SocketId};

/// A room or socket to which an event is addressed, or which is excluded from an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Recipient {
    /// The members of the room with this name, which is not a socket id.
    Room(RoomName),
    /// The socket with this id, and the members of the room with the same name. These members may
    /// have joined the room before the socket existed.
    Socket(SocketId),
}

impl Recipient {
    /// Parses the name of a room or the id of a socket.
    pub(crate) fn parse(name: &str) -> Result<Self, IdError> {
        match SocketId::parse(name) {
            Ok(id) => Ok(Self::Socket(id)),
            Err(_) => RoomName::parse(name).map(Self::Room),
        }
    }

    /// Calls `f` with the name of the room, without an allocation.
    pub(crate) fn with_name<R>(&self, f: impl FnOnce(&str) -> R) -> R {
        match self {
            Self::Room(room) => f(room.as_str()),
            Self::Socket(id) => id.with_text(f),
        }
    }

    pub(crate) fn name_len(&self) -> usize {
        match self {
            Self::Room(room) => room.as_str().len(),
            Self::Socket(_) => RANDOM_ID_CHARS,
        }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_name(|name| f.write_str(name))
    }
}

impl From<SocketId> for Recipient {
    fn from(id: SocketId) -> Self {
        Self::Socket(id)
    }
}

impl From<RoomName> for Recipient {
    fn from(room: RoomName) -> Self {
        room.owner().map_or(Self::Room(room), Self::Socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_recipient_is_read_back_from_its_name(name in "[-_a-zA-Z0-9]{20}|[^\0\n].{0,29}") {
            let recipient = Recipient::parse(&name).unwrap();
            prop_assert_eq!(recipient.to_string(), name.clone());
            prop_assert_eq!(recipient.name_len(), name.len());
            prop_assert_eq!(matches!(recipient, Recipient::Socket(_)), SocketId::parse(&name).is_ok());
            prop_assert_eq!(Recipient::from(RoomName::parse(&name).unwrap()), recipient);
        }
    }
}
