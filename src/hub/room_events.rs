//! Room events for the application. Without receivers, one costs a comparison.

use super::Hub;
use crate::ids::{RoomName, SocketId};
use crate::messages::room_change::{RoomChange, RoomChangeKind};

impl Hub {
    pub(super) fn is_watched(&self) -> bool {
        self.room_changes.receiver_count() > 0
    }

    pub(super) fn announce_joined(&self, socket: &SocketId, room: &RoomName, members: usize) {
        if members == 1 {
            self.announce(socket, room, RoomChangeKind::Created);
        }
        self.announce(socket, room, RoomChangeKind::Joined(*socket));
    }

    pub(super) fn announce_left(&self, socket: &SocketId, room: &RoomName, members: usize) {
        self.announce(socket, room, RoomChangeKind::Left(*socket));
        if members == 0 {
            self.announce(socket, room, RoomChangeKind::Deleted);
        }
    }

    fn announce(&self, socket: &SocketId, room: &RoomName, change: RoomChangeKind) {
        if self.is_watched()
            && !room.is_shadow()
            && let Some(namespace) = self.rooms.namespace_of(socket)
        {
            // The send fails if the last receiver has just been dropped.
            let _ = self.room_changes.send(RoomChange { namespace: namespace.clone(), room: room.clone(), change });
        }
    }
}
