//! Recipients of a broadcast, and their resolution to rooms and sockets.

use smallvec::SmallVec;

use super::{Rooms, SocketLocation};
use crate::ids::{NamespacePath, Recipient, RoomId, SocketId, WorkerId};

/// Recipients of a broadcast.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Target {
    /// Rooms and sockets that receive the broadcast. If empty, all sockets in the namespace receive
    /// it.
    pub rooms: SmallVec<[Recipient; 1]>,
    /// Rooms and sockets that do not receive the broadcast.
    pub except: SmallVec<[Recipient; 1]>,
    /// A single socket that does not receive the broadcast, usually the sender.
    pub exclude: Option<SocketId>,
    /// Limits the recipients to sockets of this server. Has no effect yet, since there is only one
    /// server.
    pub local: bool,
}

impl Target {
    pub(crate) fn socket(id: SocketId) -> Self {
        Self { rooms: SmallVec::from_elem(id.into(), 1), ..Self::default() }
    }
}

/// A target with its names resolved to numbers and locations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Route {
    pub rooms: SmallVec<[RoomId; 2]>,
    pub except: SmallVec<[RoomId; 2]>,
    /// Sockets addressed by their ids.
    pub sockets: SmallVec<[SocketLocation; 1]>,
    pub exclude: SmallVec<[SocketLocation; 1]>,
}

impl Rooms {
    /// Resolves a target. Rooms without members are omitted.
    pub(crate) fn route(&self, namespace: &NamespacePath, target: &Target) -> Route {
        let mut route = Route::default();
        let Some(number) = self.by_path.get(namespace) else { return route };
        if target.rooms.is_empty() {
            route.rooms.push(self.namespaces[*number as usize].namespace_room);
        }
        for recipient in &target.rooms {
            self.resolve(*number, recipient, &mut route.rooms, &mut route.sockets);
        }
        for recipient in &target.except {
            self.resolve(*number, recipient, &mut route.except, &mut route.exclude);
        }
        if let Some(entry) = target.exclude.and_then(|socket| self.sockets.get(&socket)) {
            route.exclude.push(entry.location);
        }
        route
    }

    /// Upper bound of the number of members on `worker` that a route reaches. Exclusions and
    /// overlaps are not subtracted.
    pub(crate) fn member_count(&self, route: &Route, worker: WorkerId) -> usize {
        let in_room = |room: &RoomId| {
            let counts = &self.rooms[room.0 as usize].per_worker;
            counts.get(usize::from(worker.0)).map_or(0, |count| *count as usize)
        };
        route.rooms.iter().map(in_room).sum::<usize>()
            + route.sockets.iter().filter(|location| location.worker == worker).count()
    }

    fn resolve(
        &self,
        namespace: u32,
        recipient: &Recipient,
        rooms: &mut SmallVec<[RoomId; 2]>,
        sockets: &mut SmallVec<[SocketLocation; 1]>,
    ) {
        rooms.extend(recipient.with_name(|name| self.namespaces[namespace as usize].rooms.get(name).copied()));
        if let Recipient::Socket(id) = recipient {
            let socket = self.sockets.get(id).filter(|entry| entry.namespace == namespace);
            sockets.extend(socket.map(|entry| entry.location));
        }
    }
}
