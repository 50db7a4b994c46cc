//! The hub's table of rooms, and a worker's index of room members.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use crate::ids::{MemberKey, NamespacePath, RoomId, RoomName, SlotKey, SocketId, WorkerId};
use crate::limits::Limits;
use crate::messages::handshake::{Arrival, Handshake};
use crate::messages::socket::SocketInfo;
use crate::state::rooms::{RoomBounds, Rooms, SocketLocation, Target};
use crate::worker::members::{Cursor, Members, Selection};

fn id(number: usize) -> SocketId {
    let mut bytes = [0; 15];
    bytes[..8].copy_from_slice(&(number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    SocketId::from_random(bytes)
}

/// The hub's table of rooms. Sockets and rooms are named by their numbers.
pub struct Table {
    rooms: Rooms,
    names: Vec<RoomName>,
}

impl Table {
    /// A table with the given numbers of sockets and rooms. The sockets are distributed evenly.
    pub fn new(sockets: usize, rooms: usize) -> Self {
        let names = (0..rooms).filter_map(|room| RoomName::parse(&format!("room-{room}")).ok()).collect();
        let mut table = Self { rooms: Rooms::default(), names };
        for socket in 0..sockets {
            table.connect(socket);
            table.join(socket, socket % rooms);
        }
        table
    }

    /// Adds a socket.
    pub fn connect(&mut self, socket: usize) {
        let slot = SlotKey { index: socket as u32, generation: 0 };
        let location = SocketLocation { worker: WorkerId(0), slot, member: MemberKey(socket as u32) };
        self.rooms.connect(id(socket), &NamespacePath::root(), location);
    }

    /// Removes a socket. Returns false if the socket was absent.
    pub fn disconnect(&mut self, socket: usize) -> bool {
        self.rooms.disconnect(&id(socket)).is_some()
    }

    /// Adds a socket to a room and returns the number of members.
    pub fn join(&mut self, socket: usize, room: usize) -> usize {
        let joined = self.rooms.join(&id(socket), &self.names[room], RoomBounds::from(&Limits::default()));
        joined.map_or(0, |joined| joined.members)
    }

    /// Removes a socket from a room and returns the number of remaining members.
    pub fn leave(&mut self, socket: usize, room: usize) -> usize {
        self.rooms.leave(&id(socket), &self.names[room]).map_or(0, |left| left.members)
    }

    /// Resolves a broadcast from a member of a room to the other members, and returns their number.
    pub fn resolve(&self, room: usize, sender: usize) -> usize {
        let rooms = std::iter::once(self.names[room].clone().into()).collect();
        let target = Target { rooms, exclude: Some(id(sender)), ..Target::default() };
        let route = self.rooms.route(&NamespacePath::root(), &target);
        self.rooms.member_count(&route, WorkerId(0))
    }
}

/// A worker's index of room members. Members and rooms are identified by their numbers.
pub struct Index {
    members: Members,
    keys: Vec<MemberKey>,
}

impl Index {
    /// An index with the given numbers of members and rooms. The members are distributed evenly.
    pub fn new(members: usize, rooms: usize) -> Self {
        let arrival = Arrival { at: UNIX_EPOCH, address: None, secure: false };
        let handshake = Arc::new(Handshake::new("", std::iter::empty(), arrival));
        let mut index = Self { members: Members::default(), keys: Vec::new() };
        for member in 0..members {
            let root = NamespacePath::root();
            let socket = Arc::new(SocketInfo::new(id(member), root, handshake.clone(), None, false));
            let slot = SlotKey { index: member as u32, generation: 0 };
            index.keys.push(index.members.add(socket, slot));
            index.join(member, member % rooms);
        }
        index
    }

    /// Adds a member to a room.
    pub fn join(&mut self, member: usize, room: usize) {
        self.members.join(self.keys[member], RoomId(room as u32));
    }

    /// Removes a member from a room.
    pub fn leave(&mut self, member: usize, room: usize) {
        self.members.leave(self.keys[member], RoomId(room as u32));
    }

    /// Selects the members of rooms except the sender, and returns their number.
    pub fn select(&mut self, rooms: &[usize], sender: usize) -> usize {
        let rooms: Vec<_> = rooms.iter().map(|room| RoomId(*room as u32)).collect();
        let exclude = [self.keys[sender]];
        let mut selected = 0;
        let selection = Selection { rooms: &rooms, except: &[], named: &[], exclude: &exclude };
        self.members.select(selection, &mut Cursor::default(), usize::MAX, |_, _| selected += 1);
        selected
    }
}
