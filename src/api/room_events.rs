//! A stream of changes of rooms: created, joined, left, deleted.

use thiserror::Error;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::ids::{NamespacePath, SocketId};
use crate::messages::room_change::{RoomChange, RoomChangeKind};

/// A change of a room. Changes of sockets' own rooms are not reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomEvent {
    /// The room was created: its first member is about to join.
    Created {
        /// Name of the room.
        room: String,
    },
    /// A socket joined the room.
    Joined {
        /// Name of the room.
        room: String,
        /// The socket that joined.
        socket: SocketId,
    },
    /// A socket left the room, or disconnected.
    Left {
        /// Name of the room.
        room: String,
        /// The socket that left.
        socket: SocketId,
    },
    /// The room was deleted: its last member has left.
    Deleted {
        /// Name of the room.
        room: String,
    },
}

/// The receiver was too slow, and missed this number of events. The stream continues with the
/// oldest event that is still available.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0} room events of all namespaces were missed")]
pub struct Lagged(pub u64);

/// The changes of one namespace's rooms, in the hub's order.
///
/// If a receiver is slow, it can receive only the newest
/// [`limits.hub.room_events_max`](crate::limits::HubLimits::room_events_max) events of all
/// namespaces (rounded up to a power of two), and skips older ones with [`Lagged`]. While there are
/// no receivers, the hub reports no changes.
#[derive(Debug)]
pub struct RoomEvents {
    changes: Receiver<RoomChange>,
    namespace: NamespacePath,
}

impl RoomEvents {
    pub(crate) fn new(changes: Receiver<RoomChange>, namespace: NamespacePath) -> Self {
        Self { changes, namespace }
    }

    /// Waits for the next event. Returns `None` when the server has ended.
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
