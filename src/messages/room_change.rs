//! Changes of rooms that the hub broadcasts to receivers of room events. Slow receivers miss some
//! of these changes.

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

/// One change of a room. If there are receivers, the hub sends each change when it applies the
/// change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoomChange {
    pub namespace: NamespacePath,
    pub room: RoomName,
    pub change: RoomChangeKind,
}
