//! Which sockets of this worker are in which room.

use std::sync::Arc;

use slab::Slab;

use crate::ids::{MemberKey, RoomId, SlotKey};
use crate::messages::fanout::DeliveryMode;
use crate::messages::socket::SocketInfo;
use crate::state::memberships::{Memberships, Taken};

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) socket: Arc<SocketInfo>,
    pub(crate) slot: SlotKey,
    /// From where its events come.
    pub(crate) mode: DeliveryMode,
    /// The last selection that has seen this member, so that overlapping rooms count once.
    seen: u32,
    /// Its rooms, and where in each it stands.
    rooms: Memberships<u32>,
}

/// A member that is taken out of its rooms.
#[derive(Debug)]
pub(crate) struct Leaving {
    key: MemberKey,
    /// Whether the hub had connected it: then it was in the room of everybody at least.
    pub(crate) was_attached: bool,
    rooms: Taken<u32>,
}

impl Leaving {
    /// Rooms from which it is still to be taken.
    pub(crate) fn rooms_left(&self) -> usize {
        self.rooms.size_hint().0
    }
}

/// The members on one worker. Rooms are indexed by the numbers that the hub gives them.
#[derive(Debug, Default)]
pub(crate) struct Members {
    members: Slab<Member>,
    rooms: Vec<Vec<MemberKey>>,
    selection: u32,
}

/// A selection of members: of any of the rooms, or named; but not of the excepted rooms, and not excluded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Selection<'a> {
    pub(crate) rooms: &'a [RoomId],
    pub(crate) except: &'a [RoomId],
    pub(crate) named: &'a [MemberKey],
    pub(crate) exclude: &'a [MemberKey],
}

/// How far a selection has come. Rooms change only between selections, so a place in their lists keeps its meaning.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursor {
    /// Lists that are done: first those whose members are not selected, then those whose members are.
    lists: usize,
    /// Members of the next list that are done.
    members: usize,
}

impl Members {
    pub(crate) fn add(&mut self, socket: Arc<SocketInfo>, slot: SlotKey) -> MemberKey {
        let mode = DeliveryMode::Live { recoverable: false };
        MemberKey(self.members.insert(Member { socket, slot, mode, seen: 0, rooms: Memberships::default() }) as u32)
    }

    pub(crate) fn get_mut(&mut self, member: MemberKey) -> Option<&mut Member> {
        self.members.get_mut(member.0 as usize)
    }

    pub(crate) fn join(&mut self, key: MemberKey, room: RoomId) {
        let Some(member) = self.members.get_mut(key.0 as usize) else { return };
        let index = room.0 as usize;
        if self.rooms.len() <= index {
            self.rooms.resize_with(index + 1, Vec::new);
        }
        member.rooms.insert(room, self.rooms[index].len() as u32);
        self.rooms[index].push(key);
    }

    pub(crate) fn leave(&mut self, key: MemberKey, room: RoomId) {
        let Some(member) = self.members.get_mut(key.0 as usize) else { return };
        if let Some(at) = member.rooms.remove(room) {
            self.take_out(room, at);
        }
    }

    /// Begins to take a member out of its rooms. Until that is done, no room may change otherwise.
    pub(crate) fn begin_removal(&mut self, key: MemberKey) -> Option<Leaving> {
        let member = self.members.get_mut(key.0 as usize)?;
        Some(Leaving { key, was_attached: member.rooms.len() != 0, rooms: member.rooms.take() })
    }

    /// Takes a member out of `most` more of its rooms. Returns it when it is out of all.
    pub(crate) fn continue_removal(&mut self, leaving: &mut Leaving, most: usize) -> Option<Member> {
        for _ in 0..most {
            match leaving.rooms.next() {
                Some((room, at)) => self.take_out(room, at),
                None => return self.members.try_remove(leaving.key.0 as usize),
            }
        }
        None
    }

    /// Calls `visit` with each selected member, once; looks at `most` members and continues behind `cursor` when it is called again.
    /// Returns whether that were all.
    pub(crate) fn select(
        &mut self,
        selection: Selection<'_>,
        cursor: &mut Cursor,
        most: usize,
        mut visit: impl FnMut(MemberKey, &mut Member),
    ) -> bool {
        let Selection { rooms, except, named, exclude } = selection;
        if let ([room], [], []) = (rooms, except, named) {
            // One room, nobody excepted: no member can come twice.
            let room = self.rooms.get(room.0 as usize).map_or(&[][..], Vec::as_slice);
            let end = room.len().min(cursor.members.saturating_add(most));
            for key in room.get(cursor.members..end).into_iter().flatten() {
                if !exclude.contains(key) {
                    visit(*key, &mut self.members[key.0 as usize]);
                }
            }
            cursor.members = end;
            return end == room.len();
        }
        if (cursor.lists, cursor.members) == (0, 0) {
            self.begin_selection();
        }
        let mut left = most;
        while cursor.lists < except.len() + rooms.len() + 2 {
            let is_taken = cursor.lists > except.len();
            let (of_rooms, last, at) = if is_taken {
                (rooms, named, cursor.lists - except.len() - 1)
            } else {
                (except, exclude, cursor.lists)
            };
            let list = match of_rooms.get(at) {
                Some(room) => self.rooms.get(room.0 as usize).map_or(&[][..], Vec::as_slice),
                None => last,
            };
            let end = list.len().min(cursor.members.saturating_add(left));
            for key in list.get(cursor.members..end).into_iter().flatten() {
                let Some(member) = self.members.get_mut(key.0 as usize) else { continue };
                if std::mem::replace(&mut member.seen, self.selection) != self.selection && is_taken {
                    visit(*key, member);
                }
            }
            left = left.saturating_sub(end.saturating_sub(cursor.members));
            cursor.members = end;
            if end < list.len() {
                return false;
            }
            *cursor = Cursor { lists: cursor.lists + 1, members: 0 };
        }
        true
    }

    fn begin_selection(&mut self) {
        self.selection = self.selection.wrapping_add(1);
        if self.selection == 0 {
            // Once in four billion selections, old marks could be taken for new ones.
            self.members.iter_mut().for_each(|(_, member)| member.seen = 0);
            self.selection = 1;
        }
    }

    /// Closes the gap at `at` with the room's last member, whose index changes.
    fn take_out(&mut self, room: RoomId, at: u32) {
        let list = &mut self.rooms[room.0 as usize];
        list.swap_remove(at as usize);
        if let Some(moved) = list.get(at as usize).and_then(|key| self.members.get_mut(key.0 as usize))
            && let Some(place) = moved.rooms.get_mut(room)
        {
            *place = at;
        }
        if list.is_empty() {
            *list = Vec::new();
            while self.rooms.last().is_some_and(Vec::is_empty) {
                self.rooms.pop();
            }
            if self.rooms.len() < self.rooms.capacity() / 8 {
                self.rooms.shrink_to(self.rooms.len() * 2);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::socket::tests::socket;

    impl Members {
        /// A room at a time is as good as all in one.
        fn remove(&mut self, key: MemberKey) {
            let Some(mut leaving) = self.begin_removal(key) else { return };
            while self.continue_removal(&mut leaving, 1).is_none() {}
        }
    }

    fn slot(index: u32) -> SlotKey {
        SlotKey { index, generation: 0 }
    }

    #[test]
    fn rooms_take_no_memory_when_everybody_has_left() {
        let mut members = Members::default();
        let keys = [1, 2].map(|n| members.add(socket(n), slot(n.into())));
        for room in 0..10_000 {
            keys.iter().for_each(|key| members.join(*key, RoomId(room)));
        }
        members.remove(keys[0]);
        (1..10_000).for_each(|room| members.leave(keys[1], RoomId(room)));
        assert_eq!(members.rooms.len(), 1);
        assert!(members.rooms.capacity() < 100, "room for {}", members.rooms.capacity());
    }

    fn three() -> (Members, Vec<MemberKey>) {
        let mut members = Members::default();
        let keys = (0..3).map(|n| members.add(socket(n), slot(u32::from(n)))).collect();
        (members, keys)
    }

    fn outboxes(members: &mut Members, selection: Selection<'_>) -> Vec<u32> {
        let mut outboxes = Vec::new();
        // One at a time is as good as all in one.
        let mut cursor = Cursor::default();
        while !members.select(selection, &mut cursor, 1, |_, member| outboxes.push(member.slot.index)) {}
        let mut all = Vec::new();
        assert!(members.select(selection, &mut Cursor::default(), usize::MAX, |_, member| all.push(member.slot.index)));
        assert_eq!(outboxes, all);
        outboxes.sort_unstable();
        outboxes
    }

    const NOBODY: Selection<'static> = Selection { rooms: &[], except: &[], named: &[], exclude: &[] };

    #[test]
    fn a_member_of_two_target_rooms_is_selected_once() {
        let (mut members, keys) = three();
        let (a, b) = (RoomId(0), RoomId(5));
        for key in &keys[..2] {
            members.join(*key, a);
        }
        for key in &keys {
            members.join(*key, b);
        }
        assert_eq!(outboxes(&mut members, Selection { rooms: &[a, b], ..NOBODY }), [0, 1, 2]);
        assert_eq!(outboxes(&mut members, Selection { rooms: &[a], named: &[keys[0], keys[2]], ..NOBODY }), [0, 1, 2]);
        assert_eq!(outboxes(&mut members, Selection { rooms: &[b], except: &[a], ..NOBODY }), [2]);
        assert_eq!(outboxes(&mut members, Selection { rooms: &[b], exclude: &[keys[1]], ..NOBODY }), [0, 2]);
    }

    #[test]
    fn leaving_and_removing_keep_the_others_in_place() {
        let (mut members, keys) = three();
        let room = RoomId(1);
        for key in &keys {
            members.join(*key, room);
        }
        members.leave(keys[0], room);
        members.leave(keys[0], room);
        assert_eq!(outboxes(&mut members, Selection { rooms: &[room], ..NOBODY }), [1, 2]);
        members.remove(keys[2]);
        members.remove(keys[2]);
        assert_eq!(outboxes(&mut members, Selection { rooms: &[room], ..NOBODY }), [1]);
        members.leave(keys[1], room);
        assert_eq!(outboxes(&mut members, Selection { rooms: &[room], ..NOBODY }), [0; 0]);
        assert_eq!(outboxes(&mut members, Selection { rooms: &[RoomId(99)], named: &[keys[2]], ..NOBODY }), [0; 0]);
    }
}
