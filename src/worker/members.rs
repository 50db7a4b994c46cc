//! Index of this worker's sockets by room.

use std::sync::Arc;

use slab::Slab;

use crate::ids::{MemberKey, RoomId, SlotKey};
use crate::messages::fanout::DeliveryMode;
use crate::messages::socket::SocketInfo;
use crate::state::memberships::{Memberships, RemovedRooms};

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) socket: Arc<SocketInfo>,
    pub(crate) slot: SlotKey,
    /// Source of the socket's events: the hub (live), or the journal.
    pub(crate) mode: DeliveryMode,
    /// Number of the last selection that visited this member, so that a member of several rooms is
    /// visited once.
    seen: u32,
    /// Rooms of the member, each with the member's index in the room's list.
    rooms: Memberships<u32>,
}

/// A member that is being removed from its rooms.
#[derive(Debug)]
pub(crate) struct Removal {
    key: MemberKey,
    /// True if the hub had connected the socket. A connected socket is at least in the namespace
    /// room.
    pub(crate) was_attached: bool,
    rooms: RemovedRooms<u32>,
}

impl Removal {
    pub(crate) fn rooms_left(&self) -> usize {
        self.rooms.size_hint().0
    }
}

/// Members of one worker. Rooms are indexed by the numbers that the hub assigns.
#[derive(Debug, Default)]
pub(crate) struct Members {
    members: Slab<Member>,
    rooms: Vec<Vec<MemberKey>>,
    selection: u32,
}

/// Selects the members of `rooms` and the members in `named`. Members of the rooms in `except` and
/// members in `exclude` are not selected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Selection<'a> {
    pub(crate) rooms: &'a [RoomId],
    pub(crate) except: &'a [RoomId],
    pub(crate) named: &'a [MemberKey],
    pub(crate) exclude: &'a [MemberKey],
}

/// Progress of a selection. Rooms must not change before the selection ends.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursor {
    /// Number of finished lists. The lists of excluded members come first, then the lists of
    /// selected members.
    lists: usize,
    /// Number of finished members of the current list.
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

    /// Begins to remove a member. Until the removal ends, rooms must not change in any other way.
    pub(crate) fn begin_removal(&mut self, key: MemberKey) -> Option<Removal> {
        let member = self.members.get_mut(key.0 as usize)?;
        Some(Removal { key, was_attached: member.rooms.len() != 0, rooms: member.rooms.take() })
    }

    /// Removes a member from up to `most` rooms. Returns the member when it has left all rooms.
    pub(crate) fn continue_removal(&mut self, removal: &mut Removal, most: usize) -> Option<Member> {
        for _ in 0..most {
            match removal.rooms.next() {
                Some((room, at)) => self.take_out(room, at),
                None => return self.members.try_remove(removal.key.0 as usize),
            }
        }
        None
    }

    /// Calls `visit` once for each selected member. Visits at most `most` members, and continues at
    /// `cursor` in the next call. Returns whether the selection is finished.
    pub(crate) fn select(
        &mut self,
        selection: Selection<'_>,
        cursor: &mut Cursor,
        most: usize,
        mut visit: impl FnMut(MemberKey, &mut Member),
    ) -> bool {
        let Selection { rooms, except, named, exclude } = selection;
        if let ([room], [], []) = (rooms, except, named) {
            // No member occurs twice in one room, so visited members need not be marked.
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
            // The counter has wrapped after 2^32 selections. The marks are reset, since an old mark
            // could equal the number of a new selection.
            self.members.iter_mut().for_each(|(_, member)| member.seen = 0);
            self.selection = 1;
        }
    }

    /// Removes the entry at index `at` of a room's list. The last entry of the list moves to this
    /// index.
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
        /// Removes a member, leaving one room per step.
        fn remove(&mut self, key: MemberKey) {
            let Some(mut removal) = self.begin_removal(key) else { return };
            while self.continue_removal(&mut removal, 1).is_none() {}
        }
    }

    fn slot(index: u32) -> SlotKey {
        SlotKey { index, generation: 0 }
    }

    #[test]
    fn rooms_take_no_memory_when_all_members_have_left() {
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
        // One member per step gives the same result as all members in one step.
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
