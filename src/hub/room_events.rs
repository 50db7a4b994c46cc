//! Telling those who watch rooms. Costs one look at a counter while nobody does.

use super::Hub;
use crate::ids::{RoomName, SocketId};
use crate::messages::room_change::{RoomChange, RoomChangeKind};

impl Hub {
    /// Whether anybody watches.
    pub(super) fn is_watched(&self) -> bool {
        self.room_changes.receiver_count() > 0
    }

    /// A socket joined a room, which has so many members now.
    pub(super) fn tell_joined(&self, socket: &SocketId, room: &RoomName, members: usize) {
        if members == 1 {
            self.tell(socket, room, RoomChangeKind::Created);
        }
        self.tell(socket, room, RoomChangeKind::Joined(*socket));
    }

    /// A socket left a room, which has so many members now.
    pub(super) fn tell_left(&self, socket: &SocketId, room: &RoomName, members: usize) {
        self.tell(socket, room, RoomChangeKind::Left(*socket));
        if members == 0 {
            self.tell(socket, room, RoomChangeKind::Deleted);
        }
    }

    fn tell(&self, socket: &SocketId, room: &RoomName, change: RoomChangeKind) {
        if self.is_watched()
            && let Some(namespace) = self.rooms.namespace_of(socket)
        {
            // An error says that the last watcher has just gone.
            let _ = self.room_changes.send(RoomChange { namespace: namespace.clone(), room: room.clone(), change });
        }
    }
}
