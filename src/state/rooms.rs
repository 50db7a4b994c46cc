//! The hub's table of sockets and rooms: which rooms exist, and on which workers they have members.
//!
//! Who the members are is the workers' knowledge; a broadcast needs only the workers that have any.

use std::collections::{HashMap, VecDeque};

use slab::Slab;
use smallvec::SmallVec;

use super::memberships::{Memberships, Taken};
use crate::ids::{MemberKey, NamespacePath, Recipient, RoomId, RoomName, SlotKey, SocketId, WorkerId};
use crate::limits::Limits;

/// Where a socket lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketLocation {
    pub worker: WorkerId,
    /// Its session there.
    pub slot: SlotKey,
    /// Its place in that worker's member table.
    pub member: MemberKey,
}

#[derive(Debug)]
struct SocketEntry {
    location: SocketLocation,
    namespace: u32,
    /// Bytes of the names of its rooms.
    name_bytes: u32,
    /// Without the room of all sockets.
    rooms: Memberships<()>,
}

#[derive(Debug)]
struct Room {
    namespace: u32,
    /// `None` for the room of everybody in the namespace.
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
    everybody: RoomId,
    rooms: HashMap<RoomName, RoomId>,
}

/// What one more membership takes at most, in the hub, in its worker and in what recovery knows of the session.
const MEMBERSHIP_BYTES: usize = 160;

/// What one more room takes beside the bytes of its name: tables of the hub and of a worker, and its activity in the journal.
const ROOM_BYTES: usize = 320;

/// Rooms in which a socket may be until the budget of all rooms is spent; one in more is refused from three quarters on.
const FEW_ROOMS: usize = 32;

/// How many rooms there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoomBounds {
    /// Rooms of one socket.
    pub rooms_max: usize,
    /// Bytes of their names.
    pub name_bytes_max: usize,
    /// Bytes of all rooms of all sockets.
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

/// Whom a broadcast is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Target {
    /// Rooms and sockets; none means everybody in the namespace.
    pub rooms: SmallVec<[Recipient; 1]>,
    /// Sockets, and rooms whose members do not get it.
    pub except: SmallVec<[Recipient; 1]>,
    /// One socket that does not get it, mostly the sender.
    pub exclude: Option<SocketId>,
    /// Only sockets of this server, which is one process today.
    pub local: bool,
}

impl Target {
    /// Exactly one socket.
    pub(crate) fn socket(id: SocketId) -> Self {
        Self { rooms: SmallVec::from_elem(id.into(), 1), ..Self::default() }
    }
}

/// A target resolved to numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Route {
    /// Rooms that exist.
    pub rooms: SmallVec<[RoomId; 2]>,
    /// Excepted rooms that exist.
    pub except: SmallVec<[RoomId; 2]>,
    /// Sockets named by their own room.
    pub sockets: SmallVec<[SocketLocation; 1]>,
    /// Sockets excluded: by name, or through their own room.
    pub exclude: SmallVec<[SocketLocation; 1]>,
}

/// What a join changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JoinChange {
    /// Where the socket lives.
    pub location: SocketLocation,
    /// The room's number.
    pub room: RoomId,
    /// Members in it now, over all workers.
    pub members: usize,
    /// False if the socket was in it already.
    pub fresh: bool,
}

/// What a leave changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeaveChange {
    /// Where the socket lives.
    pub location: SocketLocation,
    /// The room's number.
    pub room: RoomId,
    /// Members left in it, over all workers.
    pub members: usize,
}

/// Why a join cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MembershipError {
    /// No such socket is connected.
    NotConnected,
    /// The socket is in as many rooms as it may be.
    TooManyRooms,
    /// The budget of all rooms is spent.
    BudgetSpent,
    /// The name is the id of another socket: anyone who joined would hear what is meant for that one alone.
    ForeignRoom,
}

/// A socket that has gone, and the rooms in which it is still counted.
#[derive(Debug)]
struct Departing {
    worker: WorkerId,
    rooms: Taken<()>,
    everybody: RoomId,
}

/// Rooms that a socket leaves together with its end. Who is in more is counted out of the others later, in turns of as many.
pub(crate) const ROOMS_PER_DEPARTURE: usize = 1_024;

/// Sockets, rooms and namespaces of one hub.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    sockets: HashMap<SocketId, SocketEntry>,
    rooms: Slab<Room>,
    namespaces: Slab<Namespace>,
    by_path: HashMap<NamespacePath, u32>,
    /// Sockets that have gone and are still counted in their rooms.
    departing: VecDeque<Departing>,
    /// What all of them take.
    bytes: usize,
    /// With fewer rooms than this the table of rooms is shortened.
    shorten_below: usize,
}

impl Rooms {
    /// Enters a socket and puts it into the room of everybody in `namespace`, which is returned.
    pub(crate) fn connect(&mut self, socket: SocketId, namespace: &NamespacePath, location: SocketLocation) -> RoomId {
        let number = self.namespace(namespace);
        let everybody = self.namespaces[number as usize].everybody;
        self.sockets
            .insert(socket, SocketEntry { location, namespace: number, name_bytes: 0, rooms: Memberships::default() });
        self.count_up(everybody, location.worker);
        everybody
    }

    /// Puts a socket into a room, which comes to be if it was not there.
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
        let known = self.namespaces[entry.namespace as usize].rooms.get(name);
        if !known.is_some_and(|room| entry.rooms.contains(*room)) {
            let name_bytes = entry.name_bytes as usize + name.as_str().len();
            if entry.rooms.len() >= bounds.rooms_max || name_bytes > bounds.name_bytes_max {
                return Err(MembershipError::TooManyRooms);
            }
            let share = if entry.rooms.len() >= FEW_ROOMS { bounds.bytes_max / 4 } else { 0 };
            let room = if known.is_some() { 0 } else { room_bytes(name) };
            if self.bytes + MEMBERSHIP_BYTES + room > bounds.bytes_max - share {
                return Err(MembershipError::BudgetSpent);
            }
        }
        self.enter(socket, name).ok_or(MembershipError::NotConnected)
    }

    /// The same for one who may: it joined before. None if there is no such socket.
    pub(crate) fn enter(&mut self, socket: &SocketId, name: &RoomName) -> Option<JoinChange> {
        let entry = self.sockets.get_mut(socket)?;
        let location = entry.location;
        let namespace = &mut self.namespaces[entry.namespace as usize];
        let known = namespace.rooms.get(name).copied();
        if let Some(room) = known.filter(|room| entry.rooms.contains(*room)) {
            return Some(JoinChange { location, room, members: self.rooms[room.0 as usize].members(), fresh: false });
        }
        let room = known.unwrap_or_else(|| {
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
        Some(JoinChange { location, room, members: self.rooms[room.0 as usize].members(), fresh: true })
    }

    /// The name of a room, shared by all who know it.
    pub(crate) fn name_of(&self, room: RoomId) -> Option<&RoomName> {
        self.rooms.get(room.0 as usize)?.name.as_ref()
    }

    /// Where a socket lives.
    pub(crate) fn location_of(&self, socket: &SocketId) -> Option<SocketLocation> {
        self.sockets.get(socket).map(|entry| entry.location)
    }

    /// The namespace of a socket.
    pub(crate) fn namespace_of(&self, socket: &SocketId) -> Option<&NamespacePath> {
        self.sockets.get(socket).map(|entry| &self.namespaces[entry.namespace as usize].path)
    }

    /// Takes a socket out of a room, if it is there; the room is gone with its last member.
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

    /// Takes a socket out of everything. Returns where it was. Rooms beyond [`ROOMS_PER_DEPARTURE`] count it until
    /// [`Rooms::depart`] has been called often enough.
    pub(crate) fn disconnect(&mut self, socket: &SocketId) -> Option<SocketLocation> {
        let SocketEntry { location, namespace, mut rooms, .. } = self.sockets.remove(socket)?;
        let everybody = self.namespaces[namespace as usize].everybody;
        let mut departing = Departing { worker: location.worker, rooms: rooms.take(), everybody };
        if !self.count_out(&mut departing) {
            self.departing.push_back(departing);
        }
        Some(location)
    }

    /// Whether sockets that have gone are still counted in rooms.
    pub(crate) fn has_departing(&self) -> bool {
        !self.departing.is_empty()
    }

    /// Counts one of them out of [`ROOMS_PER_DEPARTURE`] rooms.
    pub(crate) fn depart(&mut self) {
        let Some(mut departing) = self.departing.pop_front() else { return };
        if !self.count_out(&mut departing) {
            self.departing.push_back(departing);
        }
    }

    /// Returns whether the socket is out of all.
    fn count_out(&mut self, departing: &mut Departing) -> bool {
        for _ in 0..ROOMS_PER_DEPARTURE {
            let Some((room, ())) = departing.rooms.next() else {
                // Everybody's goes last: the namespace ends with it.
                self.count_down(departing.everybody, departing.worker);
                return true;
            };
            self.count_down(room, departing.worker);
            self.bytes -= MEMBERSHIP_BYTES;
        }
        false
    }

    /// Resolves a target as of now. Rooms that do not exist have no members and drop out.
    pub(crate) fn route(&self, namespace: &NamespacePath, target: &Target) -> Route {
        let mut route = Route::default();
        let Some(number) = self.by_path.get(namespace) else { return route };
        if target.rooms.is_empty() {
            route.rooms.push(self.namespaces[*number as usize].everybody);
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

    /// How many members on `worker` a route reaches at most (excepted ones and overlaps are not taken off).
    pub(crate) fn member_count(&self, route: &Route, worker: WorkerId) -> usize {
        let in_room = |room: &RoomId| {
            let counts = &self.rooms[room.0 as usize].per_worker;
            counts.get(usize::from(worker.0)).map_or(0, |count| *count as usize)
        };
        route.rooms.iter().map(in_room).sum::<usize>()
            + route.sockets.iter().filter(|location| location.worker == worker).count()
    }

    /// How many rooms a socket is in; without everybody's.
    pub(crate) fn room_count(&self, socket: &SocketId) -> usize {
        self.sockets.get(socket).map_or(0, |entry| entry.rooms.len())
    }

    /// The rooms of a socket, each with its members; without everybody's.
    pub(crate) fn rooms_of(&self, socket: &SocketId) -> Vec<(RoomName, usize)> {
        let rooms = self.sockets.get(socket).into_iter().flat_map(|entry| entry.rooms.iter());
        rooms.filter_map(|(room, ())| self.named(room.0 as usize)).map(|(_, name, members)| (name, members)).collect()
    }

    /// A page of a namespace's rooms, each with its members: those found among `look_at` numbers from `from` on, and the
    /// number from which to go on, if there are more.
    pub(crate) fn rooms_in(
        &self,
        namespace: &NamespacePath,
        from: u32,
        look_at: usize,
    ) -> (Vec<(RoomName, usize)>, Option<u32>) {
        let Some(wanted) = self.by_path.get(namespace) else { return (Vec::new(), None) };
        let end = self.rooms.capacity().min((from as usize).saturating_add(look_at));
        let found = (from as usize..end).filter_map(|number| self.named(number));
        let rooms = found.filter(|(namespace, ..)| namespace == wanted).map(|(_, name, members)| (name, members));
        (rooms.collect(), (end < self.rooms.capacity()).then_some(end as u32))
    }

    /// Namespace, name and members of a room that has a name.
    fn named(&self, number: usize) -> Option<(u32, RoomName, usize)> {
        let room = self.rooms.get(number)?;
        Some((room.namespace, room.name.clone()?, room.members()))
    }

    /// What all rooms, their names and memberships take, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Rooms with members; those of everybody in a namespace and those of single sockets do not count.
    pub(crate) fn rooms(&self) -> usize {
        self.rooms.len() - self.namespaces.len()
    }

    /// Sockets connected, over all namespaces.
    pub(crate) fn sockets(&self) -> usize {
        self.sockets.len()
    }

    /// Every socket of a worker, with its session there.
    pub(crate) fn sockets_of(&self, worker: WorkerId) -> Vec<(SocketId, SlotKey)> {
        let here = self.sockets.iter().filter(|(_, entry)| entry.location.worker == worker);
        here.map(|(id, entry)| (*id, entry.location.slot)).collect()
    }

    /// A socket of a session. Looks at all sockets.
    pub(crate) fn socket_at(&self, worker: WorkerId, slot: SlotKey) -> Option<SocketId> {
        let at = |location: &SocketLocation| location.worker == worker && location.slot == slot;
        self.sockets.iter().find(|(_, entry)| at(&entry.location)).map(|(id, _)| *id)
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

    fn namespace(&mut self, path: &NamespacePath) -> u32 {
        if let Some(number) = self.by_path.get(path) {
            return *number;
        }
        let vacant = self.namespaces.vacant_entry();
        let number = vacant.key() as u32;
        let everybody = Room { namespace: number, name: None, per_worker: SmallVec::new() };
        let everybody = RoomId(self.rooms.insert(everybody) as u32);
        vacant.insert(Namespace { path: path.clone(), everybody, rooms: HashMap::new() });
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
            // Rooms of low numbers come first again; one of a high number that lives on keeps the table long.
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
mod tests {
    use super::*;

    fn socket(n: u8) -> SocketId {
        SocketId::from_random([n; 15])
    }

    fn location(worker: u16, member: u32) -> SocketLocation {
        SocketLocation {
            worker: WorkerId(worker),
            slot: SlotKey { index: member, generation: 0 },
            member: MemberKey(member),
        }
    }

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).unwrap()
    }

    fn to(names: &[&str]) -> Target {
        Target { rooms: names.iter().map(|name| room(name).into()).collect(), ..Target::default() }
    }

    fn up_to(rooms_max: usize) -> RoomBounds {
        RoomBounds { rooms_max, name_bytes_max: 100, bytes_max: usize::MAX }
    }

    fn two_sockets() -> Rooms {
        let mut rooms = Rooms::default();
        rooms.connect(socket(1), &NamespacePath::root(), location(0, 10));
        rooms.connect(socket(2), &NamespacePath::root(), location(1, 20));
        rooms
    }

    #[test]
    fn a_room_lives_from_its_first_member_to_its_last() {
        let mut rooms = two_sockets();
        assert!(rooms.route(&NamespacePath::root(), &to(&["a"])).rooms.is_empty());
        let joined = rooms.join(&socket(1), &room("a"), up_to(9)).unwrap();
        assert!(joined.fresh);
        assert_eq!(rooms.join(&socket(2), &room("a"), up_to(9)).unwrap().members, 2);
        assert!(!rooms.join(&socket(2), &room("a"), up_to(9)).unwrap().fresh);
        let route = rooms.route(&NamespacePath::root(), &to(&["a"]));
        assert_eq!((rooms.member_count(&route, WorkerId(0)), rooms.member_count(&route, WorkerId(1))), (1, 1));
        assert_eq!(
            rooms.leave(&socket(1), &room("a")),
            Some(LeaveChange { location: location(0, 10), room: joined.room, members: 1 })
        );
        assert_eq!(rooms.leave(&socket(1), &room("a")), None);
        rooms.disconnect(&socket(2));
        assert!(rooms.route(&NamespacePath::root(), &to(&["a"])).rooms.is_empty());
    }

    #[test]
    fn no_target_room_means_everybody_in_the_namespace() {
        let mut rooms = two_sockets();
        let route = rooms.route(&NamespacePath::root(), &Target::default());
        assert_eq!(rooms.member_count(&route, WorkerId(0)) + rooms.member_count(&route, WorkerId(1)), 2);
        rooms.disconnect(&socket(1));
        rooms.disconnect(&socket(2));
        assert_eq!(rooms.route(&NamespacePath::root(), &Target::default()), Route::default());
        assert!(rooms.rooms.is_empty() && rooms.namespaces.is_empty() && rooms.by_path.is_empty());
    }

    #[test]
    fn the_last_socket_takes_its_rooms_and_the_namespace_along() {
        let mut rooms = Rooms::default();
        rooms.connect(socket(1), &NamespacePath::root(), location(0, 1));
        for name in ["a", "b", "c"] {
            rooms.join(&socket(1), &room(name), up_to(9)).unwrap();
        }
        rooms.leave(&socket(1), &room("a")).unwrap();
        assert_eq!(rooms.disconnect(&socket(1)), Some(location(0, 1)));
        assert!(rooms.rooms.is_empty() && rooms.namespaces.is_empty() && rooms.by_path.is_empty());
    }

    #[test]
    fn a_socket_id_names_the_sockets_own_room() {
        let rooms = two_sockets();
        let route = rooms.route(&NamespacePath::root(), &Target::socket(socket(2)));
        assert_eq!(route.sockets.as_slice(), [location(1, 20)]);
        let excluded = Target { except: SmallVec::from_elem(socket(1).into(), 1), ..Target::default() };
        assert_eq!(rooms.route(&NamespacePath::root(), &excluded).exclude.as_slice(), [location(0, 10)]);
    }

    #[test]
    fn another_sockets_own_room_cannot_be_joined() {
        let mut rooms = two_sockets();
        assert_eq!(rooms.join(&socket(1), &socket(2).into(), up_to(9)), Err(MembershipError::ForeignRoom));
        assert!(rooms.join(&socket(1), &socket(1).into(), up_to(9)).is_ok());
        assert!(rooms.join(&socket(1), &socket(7).into(), up_to(9)).is_ok(), "nobody's id is a name like any other");
    }

    #[test]
    fn a_socket_may_be_in_a_bounded_number_of_rooms() {
        let mut rooms = two_sockets();
        rooms.join(&socket(1), &room("a"), up_to(1)).unwrap();
        assert_eq!(rooms.join(&socket(1), &room("b"), up_to(1)), Err(MembershipError::TooManyRooms));
        assert!(!rooms.join(&socket(1), &room("a"), up_to(1)).unwrap().fresh);
        assert_eq!(rooms.join(&socket(9), &room("a"), up_to(1)), Err(MembershipError::NotConnected));
    }

    #[test]
    fn names_of_one_sockets_rooms_have_so_many_bytes() {
        let mut rooms = two_sockets();
        let bounds = RoomBounds { name_bytes_max: 5, ..up_to(9) };
        rooms.join(&socket(1), &room("abc"), bounds).unwrap();
        assert_eq!(rooms.join(&socket(1), &room("def"), bounds), Err(MembershipError::TooManyRooms));
        assert!(!rooms.join(&socket(1), &room("abc"), bounds).unwrap().fresh);
        rooms.join(&socket(2), &room("def"), bounds).unwrap();
        rooms.leave(&socket(1), &room("abc")).unwrap();
        rooms.join(&socket(1), &room("def"), bounds).unwrap();
    }

    #[test]
    fn a_socket_in_many_rooms_is_refused_before_one_in_few() {
        let mut rooms = two_sockets();
        let bounds = RoomBounds { bytes_max: 200 * (MEMBERSHIP_BYTES + ROOM_BYTES), ..up_to(1_000) };
        let bounds = RoomBounds { name_bytes_max: 10_000, ..bounds };
        let mut join = |who: u8, number: usize| rooms.join(&socket(who), &room(&number.to_string()), bounds);
        let many = (0..).take_while(|number| join(1, *number).is_ok()).count();
        assert!((140..=150).contains(&many), "{many} rooms: three quarters");
        let few = (1_000..).take_while(|number| join(2, *number).is_ok()).count();
        assert_eq!(few, FEW_ROOMS);
        assert_eq!(join(1, 2_000), Err(MembershipError::BudgetSpent));
        assert!(!join(1, 0).unwrap().fresh, "what it has it keeps");
    }

    #[test]
    fn a_socket_in_many_rooms_is_counted_out_of_them_in_turns() {
        let mut rooms = two_sockets();
        let count = 2 * ROOMS_PER_DEPARTURE + 2;
        for number in 0..count {
            rooms.enter(&socket(1), &room(&number.to_string()));
        }
        rooms.enter(&socket(2), &room("0"));
        assert_eq!(rooms.disconnect(&socket(1)), Some(location(0, 10)));
        assert!(rooms.route(&NamespacePath::root(), &Target::socket(socket(1))).sockets.is_empty(), "it has gone");
        let left = [rooms.rooms(), (rooms.depart(), rooms.rooms()).1, (rooms.depart(), rooms.rooms()).1];
        assert!(left[0] > left[1] && left[1] > left[2] && left[2] == 1 && !rooms.has_departing(), "{left:?}");
        // One that comes back meanwhile.
        rooms.connect(socket(1), &NamespacePath::root(), location(0, 11));
        for number in 0..count {
            rooms.enter(&socket(1), &room(&number.to_string()));
        }
        rooms.disconnect(&socket(1));
        rooms.connect(socket(1), &NamespacePath::root(), location(1, 12));
        for number in 0..count {
            rooms.enter(&socket(1), &room(&number.to_string()));
        }
        while rooms.has_departing() {
            rooms.depart();
        }
        assert_eq!(rooms.rooms(), count);
        rooms.disconnect(&socket(2));
        rooms.disconnect(&socket(1));
        while rooms.has_departing() {
            rooms.depart();
        }
        assert!(rooms.rooms.is_empty() && rooms.namespaces.is_empty() && rooms.bytes() == 0);
    }

    #[test]
    fn rooms_take_no_memory_when_everybody_has_gone() {
        let mut rooms = two_sockets();
        for number in 0..10_000 {
            rooms.enter(&socket(1), &room(&number.to_string()));
            rooms.enter(&socket(2), &room(&(number / 2).to_string()));
        }
        assert!(rooms.bytes() > 10_000 * ROOM_BYTES);
        rooms.disconnect(&socket(1));
        rooms.leave(&socket(2), &room("7")).unwrap();
        rooms.disconnect(&socket(2));
        while rooms.has_departing() {
            rooms.depart();
        }
        assert_eq!(rooms.bytes(), 0);
        assert!(rooms.rooms.capacity() < 100, "room for {}", rooms.rooms.capacity());
    }
}
