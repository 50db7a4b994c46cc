//! Room changes for subscribers. If there are no subscribers, a change costs one comparison.

use super::Hub;
use crate::ids::{RoomName, SocketId};
use crate::messages::room_change::{RoomChange, RoomChangeKind};

impl Hub {
    pub(super) fn is_watched(&self) -> bool {
        self.room_changes.receiver_count() > 0
    }

    pub(super) fn publish_joined(&self, socket: &SocketId, room: &RoomName, members: usize) {
        if members == 1 {
            self.publish(socket, room, RoomChangeKind::Created);
        }
        self.publish(socket, room, RoomChangeKind::Joined(*socket));
    }

    pub(super) fn publish_left(&self, socket: &SocketId, room: &RoomName, members: usize) {
        self.publish(socket, room, RoomChangeKind::Left(*socket));
        if members == 0 {
            self.publish(socket, room, RoomChangeKind::Deleted);
        }
    }

    fn publish(&self, socket: &SocketId, room: &RoomName, change: RoomChangeKind) {
        if self.is_watched()
            && !room.is_shadow()
            && let Some(namespace) = self.rooms.namespace_of(socket)
        {
            // The send fails if the last subscriber has just been dropped.
            let _ = self.room_changes.send(RoomChange { namespace: namespace.clone(), room: room.clone(), change });
        }
    }
}
