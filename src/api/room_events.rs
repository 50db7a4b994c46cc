//! What happens to rooms: created, joined, left, deleted, for code that watches.

use thiserror::Error;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::ids::{NamespacePath, SocketId};
use crate::messages::room_change::{RoomChange, RoomChangeKind};

/// Something that happened to a room. Sockets' own rooms do not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomEvent {
    /// The room came to be: its first member joins.
    Created {
        /// Name of the room.
        room: String,
    },
    /// A socket joined.
    Joined {
        /// What it joined.
        room: String,
        /// The socket that joined.
        socket: SocketId,
    },
    /// A socket left, or has gone.
    Left {
        /// What it left.
        room: String,
        /// The socket that left.
        socket: SocketId,
    },
    /// The room is no more: its last member has left.
    Deleted {
        /// Name of the room.
        room: String,
    },
}

/// Some events were not kept for this watcher, who was slower than they came. It continues with the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0} room events of all namespaces were missed")]
pub struct Lagged(pub u64);

/// What happens to the rooms of one namespace, in the hub's order.
///
/// Watching costs the hub nothing while nobody does. The newest
/// [`limits.hub.room_events_max`](crate::limits::HubLimits::room_events_max) of all namespaces are kept for those who are slower.
#[derive(Debug)]
pub struct RoomEvents {
    changes: Receiver<RoomChange>,
    namespace: NamespacePath,
}

impl RoomEvents {
    pub(crate) fn new(changes: Receiver<RoomChange>, namespace: NamespacePath) -> Self {
        Self { changes, namespace }
    }

    /// The next event; `None` when the server has gone.
    pub async fn next(&mut self) -> Option<Result<RoomEvent, Lagged>> {
        loop {
            match self.changes.recv().await {
                Ok(change) if change.namespace == self.namespace => return Some(Ok(event(&change))),
                Ok(_) => {}
                Err(RecvError::Lagged(count)) => return Some(Err(Lagged(count))),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

fn event(RoomChange { room, change, .. }: &RoomChange) -> RoomEvent {
    let room = room.to_string();
    match *change {
        RoomChangeKind::Created => RoomEvent::Created { room },
        RoomChangeKind::Joined(socket) => RoomEvent::Joined { room, socket },
        RoomChangeKind::Left(socket) => RoomEvent::Left { room, socket },
        RoomChangeKind::Deleted => RoomEvent::Deleted { room },
    }
}
