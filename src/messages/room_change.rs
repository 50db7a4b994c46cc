//! The changes of rooms that the hub broadcasts to receivers of room events; slow receivers miss
//! some.

use crate::ids::{NamespacePath, RoomName, SocketId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RoomChangeKind {
    /// The first member is about to join.
    Created,
    Joined(SocketId),
    /// The socket left the room, or disconnected.
    Left(SocketId),
    /// The last member has left.
    Deleted,
}

/// One change of a room. Sent by the hub when it is applied, while there are receivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoomChange {
    pub namespace: NamespacePath,
    pub room: RoomName,
    pub change: RoomChangeKind,
}
