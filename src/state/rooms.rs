//! The hub's table of sockets, rooms and namespaces, with the number of members of each room on
//! each worker.
//!
//! The workers know the members themselves. The hub only needs to know which workers have any.

mod route;

use std::collections::{HashMap, VecDeque};

use slab::Slab;
use smallvec::SmallVec;

pub(crate) use self::route::Target;
use super::memberships::{Memberships, RemovedRooms};
use crate::ids::{MemberKey, NamespacePath, RoomId, RoomName, SlotKey, SocketId, WorkerId};
use crate::limits::Limits;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketLocation {
    pub worker: WorkerId,
    /// Slot of its session on the worker.
    pub slot: SlotKey,
    /// Index in the worker's member table.
    pub member: MemberKey,
}

#[derive(Debug)]
struct SocketEntry {
    location: SocketLocation,
    namespace: u32,
    /// Bytes of the names of its rooms.
    name_bytes: u32,
    /// Joined rooms. The namespace room is not among them.
    rooms: Memberships<()>,
}

#[derive(Debug)]
struct Room {
    namespace: u32,
    /// Name of the room. `None` for a namespace room, which contains all sockets of a namespace.
    name: Option<RoomName>,
    per_worker: SmallVec<[u32; 4]>,
}

impl Room {
    fn members(&self) -> usize {
        self.per_worker.iter().map(|count| *count as usize).sum()
    }
}

#[derive(Debug)]
struct Namespace {
    path: NamespacePath,
    namespace_room: RoomId,
    rooms: HashMap<RoomName, RoomId>,
}

/// Upper bound of the memory for one membership, in the hub, on a worker and in recovery.
const MEMBERSHIP_BYTES: usize = 160;

/// Memory of a room besides its name: tables of the hub and of a worker, and its activity in the
/// journal.
const ROOM_BYTES: usize = 320;

/// Number of rooms that a socket may join until the budget is used up. Joins of a socket in more
/// rooms are refused when three quarters of the budget are used.
const FEW_ROOMS: usize = 32;

#[derive(Debug, Clone, Copy)]
pub(crate) struct RoomBounds {
    /// Maximum number of rooms of a socket.
    pub rooms_max: usize,
    /// Maximum bytes of their names.
    pub name_bytes_max: usize,
    /// Budget of all rooms of all sockets.
    pub bytes_max: usize,
}

impl From<&Limits> for RoomBounds {
    fn from(limits: &Limits) -> Self {
        Self {
            rooms_max: limits.sockets.rooms_max,
            name_bytes_max: limits.sockets.room_bytes_max,
            bytes_max: limits.memory.rooms_bytes_max.unwrap_or(usize::MAX),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JoinChange {
    pub location: SocketLocation,
    pub room: RoomId,
    /// Number of members on all workers.
    pub members: usize,
    /// False if the socket was in the room before.
    pub is_new: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeaveChange {
    pub location: SocketLocation,
    pub room: RoomId,
    /// Number of remaining members on all workers.
    pub members: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MembershipError {
    NotConnected,
    /// The socket is in the maximum number of rooms, or their names are too long in total.
    TooManyRooms,
    BudgetSpent,
    /// The name is the id of another socket. A member would receive events for that socket alone.
    ForeignRoom,
}

/// A disconnected socket that is still counted in some rooms.
#[derive(Debug)]
struct PendingRemoval {
    worker: WorkerId,
    rooms: RemovedRooms<()>,
    namespace_room: RoomId,
}

/// Number of rooms that a socket leaves in one turn of the hub. Further rooms are left in later
/// turns.
pub(crate) const ROOMS_PER_REMOVAL: usize = 1_024;

/// Maximum number of sockets that a search for a log line reads, in about a millisecond.
const SEARCHED_MAX: usize = 1 << 16;

#[derive(Debug, Default)]
pub(crate) struct Rooms {
    sockets: HashMap<SocketId, SocketEntry>,
    rooms: Slab<Room>,
    namespaces: Slab<Namespace>,
    by_path: HashMap<NamespacePath, u32>,
    /// Disconnected sockets that are still counted in some rooms.
    pending_removals: VecDeque<PendingRemoval>,
    bytes: usize,
    /// Number of rooms below which the table is shortened.
    shorten_below: usize,
}

impl Rooms {
    /// Adds a socket to its namespace. Returns the namespace room.
    pub(crate) fn connect(&mut self, socket: SocketId, namespace: &NamespacePath, location: SocketLocation) -> RoomId {
        let number = self.namespace(namespace);
        let namespace_room = self.namespaces[number as usize].namespace_room;
        self.sockets
            .insert(socket, SocketEntry { location, namespace: number, name_bytes: 0, rooms: Memberships::default() });
        self.count_up(namespace_room, location.worker);
        namespace_room
    }

    /// Adds a socket to a room, and creates the room if necessary.
    pub(crate) fn join(
        &mut self,
        socket: &SocketId,
        name: &RoomName,
        bounds: RoomBounds,
    ) -> Result<JoinChange, MembershipError> {
        if name.owner().is_some_and(|id| id != *socket && self.sockets.contains_key(&id)) {
            return Err(MembershipError::ForeignRoom);
        }
        let entry = self.sockets.get(socket).ok_or(MembershipError::NotConnected)?;
        let existing = self.namespaces[entry.namespace as usize].rooms.get(name);
        if !existing.is_some_and(|room| entry.rooms.contains(*room)) {
            let name_bytes = entry.name_bytes as usize + name.as_str().len();
            if entry.rooms.len() >= bounds.rooms_max || name_bytes > bounds.name_bytes_max {
                return Err(MembershipError::TooManyRooms);
            }
            let share = if entry.rooms.len() >= FEW_ROOMS { bounds.bytes_max / 4 } else { 0 };
            let room = if existing.is_some() { 0 } else { room_bytes(name) };
            if self.bytes + MEMBERSHIP_BYTES + room > bounds.bytes_max - share {
                return Err(MembershipError::BudgetSpent);
            }
        }
        self.rejoin(socket, name).ok_or(MembershipError::NotConnected)
    }

    /// Like [`join`](Self::join), without the checks; for a socket that rejoins after recovery.
    /// `None` if there is no such socket.
    pub(crate) fn rejoin(&mut self, socket: &SocketId, name: &RoomName) -> Option<JoinChange> {
        let entry = self.sockets.get_mut(socket)?;
        let location = entry.location;
        let namespace = &mut self.namespaces[entry.namespace as usize];
        let existing = namespace.rooms.get(name).copied();
        if let Some(room) = existing.filter(|room| entry.rooms.contains(*room)) {
            return Some(JoinChange { location, room, members: self.rooms[room.0 as usize].members(), is_new: false });
        }
        let room = existing.unwrap_or_else(|| {
            let room = Room { namespace: entry.namespace, name: Some(name.clone()), per_worker: SmallVec::new() };
            let room = RoomId(self.rooms.insert(room) as u32);
            self.shorten_below = self.shorten_below.max(self.rooms.len() / 8);
            self.bytes += room_bytes(name);
            namespace.rooms.insert(name.clone(), room);
            room
        });
        entry.rooms.insert(room, ());
        entry.name_bytes += name.as_str().len() as u32;
        self.bytes += MEMBERSHIP_BYTES;
        self.count_up(room, location.worker);
        Some(JoinChange { location, room, members: self.rooms[room.0 as usize].members(), is_new: true })
    }

    pub(crate) fn name_of(&self, room: RoomId) -> Option<&RoomName> {
        self.rooms.get(room.0 as usize)?.name.as_ref()
    }

    pub(crate) fn location_of(&self, socket: &SocketId) -> Option<SocketLocation> {
        self.sockets.get(socket).map(|entry| entry.location)
    }

    pub(crate) fn namespace_of(&self, socket: &SocketId) -> Option<&NamespacePath> {
        self.sockets.get(socket).map(|entry| &self.namespaces[entry.namespace as usize].path)
    }

    /// Removes a socket from a room. The room is removed with its last member. `None` if the socket
    /// was not in it.
    pub(crate) fn leave(&mut self, socket: &SocketId, name: &RoomName) -> Option<LeaveChange> {
        let entry = self.sockets.get_mut(socket)?;
        let namespace = &self.namespaces[entry.namespace as usize];
        let room = *namespace.rooms.get(name)?;
        entry.rooms.remove(room)?;
        entry.name_bytes -= name.as_str().len() as u32;
        self.bytes -= MEMBERSHIP_BYTES;
        let location = entry.location;
        let members = self.rooms[room.0 as usize].members() - 1;
        self.count_down(room, location.worker);
        Some(LeaveChange { location, room, members })
    }

    /// Removes a socket from all rooms, and returns its location. If there are more than
    /// [`ROOMS_PER_REMOVAL`], the rest counts it until [`Rooms::continue_removal`] was called often
    /// enough.
    pub(crate) fn disconnect(&mut self, socket: &SocketId) -> Option<SocketLocation> {
        let SocketEntry { location, namespace, mut rooms, .. } = self.sockets.remove(socket)?;
        let namespace_room = self.namespaces[namespace as usize].namespace_room;
        let mut removal = PendingRemoval { worker: location.worker, rooms: rooms.take(), namespace_room };
        if !self.leave_some(&mut removal) {
            self.pending_removals.push_back(removal);
        }
        Some(location)
    }

    /// Returns whether disconnected sockets are still counted in rooms.
    pub(crate) fn has_pending_removals(&self) -> bool {
        !self.pending_removals.is_empty()
    }

    /// Removes one of these sockets from [`ROOMS_PER_REMOVAL`] rooms.
    pub(crate) fn continue_removal(&mut self) {
        let Some(mut removal) = self.pending_removals.pop_front() else { return };
        if !self.leave_some(&mut removal) {
            self.pending_removals.push_back(removal);
        }
    }

    /// Returns whether the socket is removed from all rooms.
    fn leave_some(&mut self, removal: &mut PendingRemoval) -> bool {
        for _ in 0..ROOMS_PER_REMOVAL {
            let Some((room, ())) = removal.rooms.next() else {
                // The namespace room is last: the namespace is removed with its last member.
                self.count_down(removal.namespace_room, removal.worker);
                return true;
            };
            self.count_down(room, removal.worker);
            self.bytes -= MEMBERSHIP_BYTES;
        }
        false
    }

    /// Number of rooms of a socket, without the namespace room.
    pub(crate) fn room_count(&self, socket: &SocketId) -> usize {
        self.sockets.get(socket).map_or(0, |entry| entry.rooms.len())
    }

    /// Rooms of a socket with their numbers of members, without the namespace room.
    pub(crate) fn rooms_of(&self, socket: &SocketId) -> Vec<(RoomName, usize)> {
        let rooms = self.sockets.get(socket).into_iter().flat_map(|entry| entry.rooms.iter());
        rooms.filter_map(|(room, ())| self.named(room.0 as usize)).map(|(_, name, members)| (name, members)).collect()
    }

    /// A page of the rooms in a namespace with their numbers of members. Scans `scan_max` room
    /// numbers, starting at `from`. Returns the number at which to continue, if there are more.
    pub(crate) fn rooms_in(
        &self,
        namespace: &NamespacePath,
        from: u32,
        scan_max: usize,
    ) -> (Vec<(RoomName, usize)>, Option<u32>) {
        let Some(wanted) = self.by_path.get(namespace) else { return (Vec::new(), None) };
        let end = self.rooms.capacity().min((from as usize).saturating_add(scan_max));
        let found = (from as usize..end).filter_map(|number| self.named(number));
        let rooms = found.filter(|(namespace, ..)| namespace == wanted).map(|(_, name, members)| (name, members));
        (rooms.collect(), (end < self.rooms.capacity()).then_some(end as u32))
    }

    /// Namespace, name and number of members of a room, unless it is a namespace room.
    fn named(&self, number: usize) -> Option<(u32, RoomName, usize)> {
        let room = self.rooms.get(number)?;
        Some((room.namespace, room.name.clone()?, room.members()))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of rooms, without namespace rooms.
    pub(crate) fn rooms(&self) -> usize {
        self.rooms.len() - self.namespaces.len()
    }

    pub(crate) fn sockets(&self) -> usize {
        self.sockets.len()
    }

    /// Sockets on a worker, with the slots of their sessions.
    pub(crate) fn sockets_of(&self, worker: WorkerId) -> Vec<(SocketId, SlotKey)> {
        let here = self.sockets.iter().filter(|(_, entry)| entry.location.worker == worker);
        here.map(|(id, entry)| (*id, entry.location.slot)).collect()
    }

    /// Searches at most [`SEARCHED_MAX`] sockets for one of the session.
    pub(crate) fn find_socket_at(&self, worker: WorkerId, slot: SlotKey) -> Option<SocketId> {
        let at = |location: &SocketLocation| location.worker == worker && location.slot == slot;
        self.sockets.iter().take(SEARCHED_MAX).find(|(_, entry)| at(&entry.location)).map(|(id, _)| *id)
    }

    fn namespace(&mut self, path: &NamespacePath) -> u32 {
        if let Some(number) = self.by_path.get(path) {
            return *number;
        }
        let vacant = self.namespaces.vacant_entry();
        let number = vacant.key() as u32;
        let namespace_room = Room { namespace: number, name: None, per_worker: SmallVec::new() };
        let namespace_room = RoomId(self.rooms.insert(namespace_room) as u32);
        vacant.insert(Namespace { path: path.clone(), namespace_room, rooms: HashMap::new() });
        self.by_path.insert(path.clone(), number);
        number
    }

    fn count_up(&mut self, room: RoomId, worker: WorkerId) {
        let counts = &mut self.rooms[room.0 as usize].per_worker;
        let index = usize::from(worker.0);
        if counts.len() <= index {
            counts.resize(index + 1, 0);
        }
        counts[index] += 1;
    }

    fn count_down(&mut self, room: RoomId, worker: WorkerId) {
        let entry = &mut self.rooms[room.0 as usize];
        entry.per_worker[usize::from(worker.0)] -= 1;
        if entry.members() > 0 {
            return;
        }
        let entry = self.rooms.remove(room.0 as usize);
        if self.rooms.len() < self.shorten_below {
            // Low numbers are reused first. A room with a high number keeps the table long.
            self.rooms.shrink_to_fit();
            self.shorten_below = self.rooms.len() / 2;
        }
        match entry.name {
            Some(name) => {
                self.bytes -= room_bytes(&name);
                let rooms = &mut self.namespaces[entry.namespace as usize].rooms;
                rooms.remove(&name);
                if rooms.len() < rooms.capacity() / 8 {
                    rooms.shrink_to(rooms.len() * 2);
                }
            }
            None => {
                let namespace = self.namespaces.remove(entry.namespace as usize);
                self.by_path.remove(&namespace.path);
            }
        }
    }
}

fn room_bytes(name: &RoomName) -> usize {
    ROOM_BYTES + name.as_str().len()
}

#[cfg(test)]
mod tests;
