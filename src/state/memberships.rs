//! The rooms of one socket, with a value for each room. Few rooms are stored in a list, many rooms
//! in a hash map.
//!
//! The list saves memory for the many sockets in few rooms. The hash map avoids linear searches for
//! a socket in up to 65 536 rooms.

use std::collections::{HashMap, hash_map};

use smallvec::SmallVec;

use crate::ids::RoomId;

/// Maximum number of rooms in a list. A hash map with this number of rooms takes two to three times
/// the memory.
const LIST_MAX: usize = 32;

#[derive(Debug)]
#[expect(clippy::box_collection, reason = "an unboxed hash map would double the size of every socket's list")]
pub(crate) enum Memberships<V> {
    Few(SmallVec<[(RoomId, V); 2]>),
    Many(Box<HashMap<RoomId, V>>),
}

#[derive(Debug)]
pub(crate) enum RemovedRooms<V> {
    Few(smallvec::IntoIter<[(RoomId, V); 2]>),
    Many(hash_map::IntoIter<RoomId, V>),
}

impl<V> Iterator for RemovedRooms<V> {
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

    pub(crate) fn get_mut(&mut self, room: RoomId) -> Option<&mut V> {
        match self {
            Self::Few(list) => list.iter_mut().find(|(known, _)| *known == room).map(|(_, value)| value),
            Self::Many(index) => index.get_mut(&room),
        }
    }

    pub(crate) fn contains(&self, room: RoomId) -> bool {
        match self {
            Self::Few(list) => list.iter().any(|(known, _)| *known == room),
            Self::Many(index) => index.contains_key(&room),
        }
    }

    /// Adds a room that the socket is not in yet.
    pub(crate) fn insert(&mut self, room: RoomId, value: V) {
        debug_assert!(!self.contains(room));
        match self {
            Self::Few(list) if list.len() < LIST_MAX => list.push((room, value)),
            Self::Few(list) => {
                let index = list.drain(..).chain([(room, value)]).collect();
                *self = Self::Many(Box::new(index));
            }
            Self::Many(index) => drop(index.insert(room, value)),
        }
    }

    pub(crate) fn remove(&mut self, room: RoomId) -> Option<V> {
        let index = match self {
            Self::Few(list) => {
                let at = list.iter().position(|(known, _)| *known == room)?;
                return Some(list.swap_remove(at).1);
            }
            Self::Many(index) => index,
        };
        let value = index.remove(&room)?;
        // The threshold is half of `LIST_MAX`, so that a socket that joins and leaves one room
        // repeatedly does not rebuild the hash map each time.
        if index.len() <= LIST_MAX / 2 {
            *self = Self::Few(index.drain().collect());
        } else if index.len() < index.capacity() / 8 {
            index.shrink_to(index.len() * 2);
        }
        Some(value)
    }

    /// Removes all rooms, in arbitrary order.
    pub(crate) fn take(&mut self) -> RemovedRooms<V> {
        match std::mem::take(self) {
            Self::Few(list) => RemovedRooms::Few(list.into_iter()),
            Self::Many(index) => RemovedRooms::Many(index.into_iter()),
        }
    }

    /// All rooms, in arbitrary order.
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
    fn memory_of_many_rooms_is_freed() {
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
    fn a_socket_in_few_rooms_takes_little_memory() {
        assert!(size_of::<Memberships<u32>>() <= 32, "{} bytes", size_of::<Memberships<u32>>());
    }
}
