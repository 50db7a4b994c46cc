//! The hub's table of sockets, rooms and namespaces, with the number of members of each room on
//! each worker.
//!
//! Only the workers know which sockets are members of a room. The hub only needs to know which
//! workers have members.

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
    /// Slot of the socket's session on the worker.
    pub slot: SlotKey,
    /// Index in the worker's member table.
    pub member: MemberKey,
}

#[derive(Debug)]
struct SocketEntry {
    location: SocketLocation,
    namespace: u32,
    /// Total length of the names of the joined rooms, in bytes.
    name_bytes: u32,
    /// Joined rooms, without the namespace room.
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

/// Upper bound of the memory for one membership, in the hub, on a worker and in recovery together.
const MEMBERSHIP_BYTES: usize = 160;

/// Memory of a room in addition to its name: entries in the tables of the hub and of a worker, and
/// the record of the room's activity in the journal.
const ROOM_BYTES: usize = 320;

/// A socket in fewer rooms than this may join further rooms until the budget is used up. If a
/// socket is in this many rooms or more, its joins are refused when three quarters of the budget
/// are used.
const FEW_ROOMS: usize = 32;

#[derive(Debug, Clone, Copy)]
pub(crate) struct RoomBounds {
    /// Maximum number of rooms of a socket.
    pub rooms_max: usize,
    /// Maximum total length of the names of a socket's rooms, in bytes.
    pub name_bytes_max: usize,
    /// Maximum memory of all rooms and memberships, in bytes.
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
    /// The socket is in the maximum number of rooms, or the names of its rooms would be too long in
    /// total.
    TooManyRooms,
    BudgetSpent,
    /// The name is the id of another connected socket. A member of such a room would receive the
    /// events that are addressed to that socket.
    ForeignRoom,
}

/// A disconnected socket that is still counted in some rooms.
#[derive(Debug)]
struct PendingRemoval {
    worker: WorkerId,
    rooms: RemovedRooms<()>,
    namespace_room: RoomId,
}

/// Maximum number of rooms that a disconnected socket leaves in one turn of the hub. It leaves
/// further rooms in later turns.
pub(crate) const ROOMS_PER_REMOVAL: usize = 1_024;

/// Maximum number of sockets that are searched for a log line. Such a search takes about a
/// millisecond.
const SEARCHED_MAX: usize = 1 << 16;

/// Number of the shadow rooms of a socket, and the bytes of their names.
#[derive(Debug, Default, Clone, Copy)]
struct ShadowRooms {
    rooms: usize,
    name_bytes: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Rooms {
    sockets: HashMap<SocketId, SocketEntry>,
    rooms: Slab<Room>,
    namespaces: Slab<Namespace>,
    by_path: HashMap<NamespacePath, u32>,
    pending_removals: VecDeque<PendingRemoval>,
    bytes: usize,
    /// Number of shadow rooms.
    shadows: usize,
    /// The shadow rooms of sockets that are in any. Other sockets need no memory for it.
    shadows_of: HashMap<SocketId, ShadowRooms>,
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
        self.check_join(socket, name, bounds)?;
        self.rejoin(socket, name).ok_or(MembershipError::NotConnected)
    }

    /// Checks whether a socket may join a room. A shadow room counts for memory only: the socket
    /// joins it together with its room.
    pub(crate) fn check_join(
        &self,
        socket: &SocketId,
        name: &RoomName,
        bounds: RoomBounds,
    ) -> Result<(), MembershipError> {
        if name.owner().is_some_and(|id| id != *socket && self.sockets.contains_key(&id)) {
            return Err(MembershipError::ForeignRoom);
        }
        let entry = self.sockets.get(socket).ok_or(MembershipError::NotConnected)?;
        let existing = self.namespaces[entry.namespace as usize].rooms.get(name);
        if !existing.is_some_and(|room| entry.rooms.contains(*room)) {
            let shadows = self.shadows_of.get(socket).copied().unwrap_or_default();
            let rooms = entry.rooms.len() - shadows.rooms;
            let name_bytes = entry.name_bytes as usize - shadows.name_bytes + name.as_str().len();
            if !name.is_shadow() && (rooms >= bounds.rooms_max || name_bytes > bounds.name_bytes_max) {
                return Err(MembershipError::TooManyRooms);
            }
            let share = if entry.rooms.len() >= FEW_ROOMS { bounds.bytes_max / 4 } else { 0 };
            let room = if existing.is_some() { 0 } else { room_bytes(name) };
            if self.bytes + MEMBERSHIP_BYTES + room > bounds.bytes_max - share {
                return Err(MembershipError::BudgetSpent);
            }
        }
        Ok(())
    }

    /// Like [`join`](Self::join), but without the checks. For a socket that rejoins its rooms after
    /// recovery. Returns `None` if the socket is not connected.
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
            self.shadows += usize::from(name.is_shadow());
            namespace.rooms.insert(name.clone(), room);
            room
        });
        entry.rooms.insert(room, ());
        entry.name_bytes += name.as_str().len() as u32;
        if name.is_shadow() {
            let shadows = self.shadows_of.entry(*socket).or_default();
            shadows.rooms += 1;
            shadows.name_bytes += name.as_str().len();
        }
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

    /// Removes a socket from a room. The room is removed with its last member. Returns `None` if
    /// the socket was not in the room.
    pub(crate) fn leave(&mut self, socket: &SocketId, name: &RoomName) -> Option<LeaveChange> {
        let entry = self.sockets.get_mut(socket)?;
        let namespace = &self.namespaces[entry.namespace as usize];
        let room = *namespace.rooms.get(name)?;
        entry.rooms.remove(room)?;
        entry.name_bytes -= name.as_str().len() as u32;
        if name.is_shadow()
            && let Some(shadows) = self.shadows_of.get_mut(socket)
        {
            shadows.rooms -= 1;
            shadows.name_bytes -= name.as_str().len();
            if shadows.rooms == 0 {
                self.shadows_of.remove(socket);
            }
        }
        self.bytes -= MEMBERSHIP_BYTES;
        let location = entry.location;
        let members = self.rooms[room.0 as usize].members() - 1;
        self.count_down(room, location.worker);
        Some(LeaveChange { location, room, members })
    }

    /// Removes a socket, and returns its location. The socket leaves up to [`ROOMS_PER_REMOVAL`]
    /// rooms. Further rooms count it as a member until [`Rooms::continue_removal`] has removed it
    /// from them.
    pub(crate) fn disconnect(&mut self, socket: &SocketId) -> Option<SocketLocation> {
        let SocketEntry { location, namespace, mut rooms, .. } = self.sockets.remove(socket)?;
        self.shadows_of.remove(socket);
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

    /// Removes one disconnected socket from up to [`ROOMS_PER_REMOVAL`] further rooms.
    pub(crate) fn continue_removal(&mut self) {
        let Some(mut removal) = self.pending_removals.pop_front() else { return };
        if !self.leave_some(&mut removal) {
            self.pending_removals.push_back(removal);
        }
    }

    /// Removes a disconnected socket from up to [`ROOMS_PER_REMOVAL`] rooms. Returns whether it has
    /// left all rooms.
    fn leave_some(&mut self, removal: &mut PendingRemoval) -> bool {
        for _ in 0..ROOMS_PER_REMOVAL {
            let Some((room, ())) = removal.rooms.next() else {
                // The socket leaves the namespace room last, since the namespace is removed with
                // the last member of that room.
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

    /// Rooms of a socket with their numbers of members, without the namespace room and shadow
    /// rooms.
    pub(crate) fn rooms_of(&self, socket: &SocketId) -> Vec<(RoomName, usize)> {
        let rooms = self.sockets.get(socket).into_iter().flat_map(|entry| entry.rooms.iter());
        rooms.filter_map(|(room, ())| self.named(room.0 as usize)).map(|(_, name, members)| (name, members)).collect()
    }

    /// Rooms whose durable events a socket receives from the queue.
    pub(crate) fn durable_rooms_of(&self, socket: &SocketId) -> Vec<RoomName> {
        let entry = self.sockets.get(socket).filter(|_| self.shadows_of.contains_key(socket));
        let rooms = entry.into_iter().flat_map(|entry| entry.rooms.iter());
        rooms.filter_map(|(room, ())| self.name_of(room)?.of_shadow()).collect()
    }

    /// A page of the rooms in a namespace, without shadow rooms, with their numbers of members.
    /// Scans up to `scan_max` room numbers, starting at `from`. If room numbers remain, also
    /// returns the number at which to continue.
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

    /// Namespace, name and number of members of a room. `None` for a namespace room or a shadow
    /// room.
    fn named(&self, number: usize) -> Option<(u32, RoomName, usize)> {
        let room = self.rooms.get(number)?;
        let name = room.name.clone().filter(|name| !name.is_shadow())?;
        Some((room.namespace, name, room.members()))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of rooms, without namespace rooms and shadow rooms.
    pub(crate) fn rooms(&self) -> usize {
        self.rooms.len() - self.namespaces.len() - self.shadows
    }

    pub(crate) fn sockets(&self) -> usize {
        self.sockets.len()
    }

    /// Sockets on a worker, with the slots of their sessions.
    pub(crate) fn sockets_of(&self, worker: WorkerId) -> Vec<(SocketId, SlotKey)> {
        let here = self.sockets.iter().filter(|(_, entry)| entry.location.worker == worker);
        here.map(|(id, entry)| (*id, entry.location.slot)).collect()
    }

    /// Searches at most [`SEARCHED_MAX`] sockets for a socket of the session in `slot`.
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
            // This frees unused entries at the end of the table, and lets new rooms reuse the
            // lowest numbers first. A room with a high number keeps the table long.
            self.rooms.shrink_to_fit();
            self.shorten_below = self.rooms.len() / 2;
        }
        match entry.name {
            Some(name) => {
                self.bytes -= room_bytes(&name);
                self.shadows -= usize::from(name.is_shadow());
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
