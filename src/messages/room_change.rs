//! What the hub tells those who watch rooms, over a channel that forgets what nobody takes in time.

use crate::ids::{NamespacePath, RoomName, SocketId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RoomChangeKind {
    /// The first member is about to join.
    Created,
    /// This socket joined.
    Joined(SocketId),
    /// This socket left, or has gone.
    Left(SocketId),
    /// The last member has left.
    Deleted,
}

/// Something that happened to a room. Sent by the hub, when it is applied, while someone watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoomChange {
    pub namespace: NamespacePath,
    /// To which room.
    pub room: RoomName,
    pub change: RoomChangeKind,
}
