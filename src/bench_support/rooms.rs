//! Who is where: the hub's table of rooms, and a worker's index of their members.

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

/// The hub's table. Sockets and rooms are named by number.
pub struct Table {
    rooms: Rooms,
    names: Vec<RoomName>,
}

impl Table {
    /// A table of so many sockets, dealt out in turn to so many rooms.
    pub fn new(sockets: usize, rooms: usize) -> Self {
        let names = (0..rooms).filter_map(|room| RoomName::parse(&format!("room-{room}")).ok()).collect();
        let mut table = Self { rooms: Rooms::default(), names };
        for socket in 0..sockets {
            table.connect(socket);
            table.join(socket, socket % rooms);
        }
        table
    }

    /// A socket comes.
    pub fn connect(&mut self, socket: usize) {
        let slot = SlotKey { index: socket as u32, generation: 0 };
        let location = SocketLocation { worker: WorkerId(0), slot, member: MemberKey(socket as u32) };
        self.rooms.connect(id(socket), &NamespacePath::root(), location);
    }

    /// A socket goes; whether it was there.
    pub fn disconnect(&mut self, socket: usize) -> bool {
        self.rooms.disconnect(&id(socket)).is_some()
    }

    /// Puts a socket into a room; how many are in it then.
    pub fn join(&mut self, socket: usize, room: usize) -> usize {
        let joined = self.rooms.join(&id(socket), &self.names[room], RoomBounds::from(&Limits::default()));
        joined.map_or(0, |joined| joined.members)
    }

    /// Takes a socket out of a room; how many are left.
    pub fn leave(&mut self, socket: usize, room: usize) -> usize {
        self.rooms.leave(&id(socket), &self.names[room]).map_or(0, |left| left.members)
    }

    /// Resolves a broadcast to a room from one of its members; how many members it reaches.
    pub fn resolve(&self, room: usize, sender: usize) -> usize {
        let rooms = std::iter::once(self.names[room].clone().into()).collect();
        let target = Target { rooms, exclude: Some(id(sender)), ..Target::default() };
        let route = self.rooms.route(&NamespacePath::root(), &target);
        self.rooms.member_count(&route, WorkerId(0))
    }
}

/// A worker's index. Members and rooms are named by number.
pub struct Index {
    members: Members,
    keys: Vec<MemberKey>,
}

impl Index {
    /// An index of so many members, dealt out in turn to so many rooms.
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

    /// Puts a member into a room.
    pub fn join(&mut self, member: usize, room: usize) {
        self.members.join(self.keys[member], RoomId(room as u32));
    }

    /// Takes a member out of a room.
    pub fn leave(&mut self, member: usize, room: usize) {
        self.members.leave(self.keys[member], RoomId(room as u32));
    }

    /// Selects the members of rooms but for one; how many they are.
    pub fn select(&mut self, rooms: &[usize], sender: usize) -> usize {
        let rooms: Vec<_> = rooms.iter().map(|room| RoomId(*room as u32)).collect();
        let exclude = [self.keys[sender]];
        let mut selected = 0;
        let selection = Selection { rooms: &rooms, except: &[], named: &[], exclude: &exclude };
        self.members.select(selection, &mut Cursor::default(), usize::MAX, |_, _| selected += 1);
        selected
    }
}
