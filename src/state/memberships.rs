//! The rooms of one socket, each with a value: a list while they are few, as they nearly always are, and an index beyond.
//!
//! Refuses to be the fastest of either: it is small for many sockets, and not linear for one that is in 65 536 rooms.

use std::collections::{HashMap, hash_map};

use smallvec::SmallVec;

use crate::ids::RoomId;

/// Rooms up to which a list is searched. A cache line or four; an index of so many takes five times the memory.
const FEW: usize = 32;

/// One socket's rooms.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "an index is twice the size of a list, and every socket has room for either")]
pub(crate) enum Memberships<V> {
    /// In no order.
    Few(SmallVec<[(RoomId, V); 2]>),
    /// Indexed by room.
    Many(Box<HashMap<RoomId, V>>),
}

/// Rooms that a socket was in.
#[derive(Debug)]
pub(crate) enum Taken<V> {
    Few(smallvec::IntoIter<[(RoomId, V); 2]>),
    Many(hash_map::IntoIter<RoomId, V>),
}

impl<V> Iterator for Taken<V> {
    type Item = (RoomId, V);

    fn next(&mut self) -> Option<(RoomId, V)> {
        match self {
            Self::Few(list) => list.next(),
            Self::Many(index) => index.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::Few(list) => list.size_hint(),
            Self::Many(index) => index.size_hint(),
        }
    }
}

impl<V> Default for Memberships<V> {
    fn default() -> Self {
        Self::Few(SmallVec::new())
    }
}

impl<V> Memberships<V> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Few(list) => list.len(),
            Self::Many(index) => index.len(),
        }
    }

    /// The value of a room, if the socket is in it.
    pub(crate) fn get_mut(&mut self, room: RoomId) -> Option<&mut V> {
        match self {
            Self::Few(list) => list.iter_mut().find(|(known, _)| *known == room).map(|(_, value)| value),
            Self::Many(index) => index.get_mut(&room),
        }
    }

    /// Whether the socket is in a room.
    pub(crate) fn contains(&self, room: RoomId) -> bool {
        match self {
            Self::Few(list) => list.iter().any(|(known, _)| *known == room),
            Self::Many(index) => index.contains_key(&room),
        }
    }

    /// Adds a room that is not there yet.
    pub(crate) fn insert(&mut self, room: RoomId, value: V) {
        debug_assert!(!self.contains(room));
        match self {
            Self::Few(list) if list.len() < FEW => list.push((room, value)),
            Self::Few(list) => {
                let index = list.drain(..).chain([(room, value)]).collect();
                *self = Self::Many(Box::new(index));
            }
            Self::Many(index) => drop(index.insert(room, value)),
        }
    }

    /// Takes a room out, and gives its value.
    pub(crate) fn remove(&mut self, room: RoomId) -> Option<V> {
        let index = match self {
            Self::Few(list) => {
                let at = list.iter().position(|(known, _)| *known == room)?;
                return Some(list.swap_remove(at).1);
            }
            Self::Many(index) => index,
        };
        let value = index.remove(&room)?;
        // Half of what made it an index, so that a socket that goes in and out of one room does not rebuild it each time.
        if index.len() <= FEW / 2 {
            *self = Self::Few(index.drain().collect());
        } else if index.len() < index.capacity() / 8 {
            index.shrink_to(index.len() * 2);
        }
        Some(value)
    }

    /// Takes out all of them, in no order.
    pub(crate) fn take(&mut self) -> Taken<V> {
        match std::mem::take(self) {
            Self::Few(list) => Taken::Few(list.into_iter()),
            Self::Many(index) => Taken::Many(index.into_iter()),
        }
    }

    /// All of them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (RoomId, &V)> + '_ {
        let (list, index) = match self {
            Self::Few(list) => (Some(list), None),
            Self::Many(index) => (None, Some(index)),
        };
        let list = list.into_iter().flatten().map(|(room, value)| (*room, value));
        list.chain(index.into_iter().flat_map(|index| index.iter()).map(|(room, value)| (*room, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_map_at_every_size(steps in proptest::collection::vec((any::<bool>(), 0..80_u32), 0..400)) {
            let (mut rooms, mut model) = (Memberships::default(), HashMap::new());
            for (step, (join, room)) in (0..).zip(steps) {
                let room = RoomId(room);
                prop_assert_eq!(rooms.contains(room), model.contains_key(&room));
                if join && !rooms.contains(room) {
                    rooms.insert(room, step);
                    model.insert(room, step);
                } else if join {
                    rooms.get_mut(room).into_iter().chain(model.get_mut(&room)).for_each(|value| *value = step);
                } else {
                    prop_assert_eq!(rooms.remove(room), model.remove(&room));
                }
                prop_assert_eq!(rooms.len(), model.len());
                let listed: HashMap<_, _> = rooms.iter().map(|(room, value)| (room, *value)).collect();
                prop_assert_eq!(&listed, &model);
            }
        }
    }

    #[test]
    fn memory_of_many_rooms_is_given_back() {
        let mut rooms = Memberships::default();
        for room in 0..65_536 {
            rooms.insert(RoomId(room), ());
        }
        for room in 0..65_436 {
            rooms.remove(RoomId(room));
        }
        assert!(matches!(&rooms, Memberships::Many(index) if index.len() == 100 && index.capacity() < 1_000));
        for room in 65_436..65_530 {
            rooms.remove(RoomId(room));
        }
        assert!(matches!(rooms, Memberships::Few(list) if list.len() == 6));
    }

    #[test]
    fn a_socket_in_few_rooms_pays_little_for_those_in_many() {
        assert!(size_of::<Memberships<u32>>() <= 32, "{} bytes", size_of::<Memberships<u32>>());
    }
}
