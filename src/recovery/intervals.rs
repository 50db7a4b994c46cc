//! The rooms of one session, with the positions of its joins and leaves.
//!
//! A few intervals, the usual case, are stored in a list. More intervals are stored in a tree, so
//! that a session in 65 536 rooms is not searched linearly.

use std::collections::BTreeMap;

use smallvec::{SmallVec, smallvec};

use crate::ids::{Lsn, RoomName};

/// Maximum number of intervals in the list.
const FEW: usize = 32;

/// The positions of a join and of the leave that follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) joined: Lsn,
    /// Position of the leave, or [`LASTS`](Self::LASTS) while the session is in the room.
    pub(super) left: Lsn,
}

impl Interval {
    pub(super) const LASTS: Lsn = Lsn(Lsn::END);

    /// Returns whether the session was in the room at position `lsn`.
    pub(super) fn includes(&self, lsn: Lsn) -> bool {
        self.joined < lsn && lsn < self.left
    }
}

#[derive(Debug)]
pub(super) enum RoomIntervals {
    /// Intervals of all rooms. Those of one room are in order of their positions.
    Few(Vec<(RoomName, Interval)>),
    Many(Box<Tree>),
}

/// The intervals of each room, in order of their positions. Rooms without intervals are removed.
#[derive(Debug, Default)]
pub(super) struct Tree {
    rooms: BTreeMap<RoomName, SmallVec<[Interval; 1]>>,
    /// Number of intervals of all rooms.
    len: usize,
}

impl Tree {
    fn push(&mut self, room: RoomName, interval: Interval) {
        self.len += 1;
        self.rooms.entry(room).and_modify(|of_room| of_room.push(interval)).or_insert_with(|| smallvec![interval]);
    }
}

impl Default for RoomIntervals {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl RoomIntervals {
    /// Number of intervals of all rooms.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Few(list) => list.len(),
            Self::Many(tree) => tree.len,
        }
    }

    /// All intervals. Those of one room are in order of their positions.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&RoomName, Interval)> {
        let (list, tree) = match self {
            Self::Few(list) => (Some(list), None),
            Self::Many(tree) => (None, Some(&tree.rooms)),
        };
        let list = list.into_iter().flatten().map(|(room, interval)| (room, *interval));
        let tree = tree.into_iter().flatten();
        list.chain(tree.flat_map(|(room, of_room)| of_room.iter().map(move |interval| (room, *interval))))
    }

    pub(super) fn newest(&self, room: &RoomName) -> Option<Interval> {
        match self {
            Self::Few(list) => list.iter().rev().find(|(known, _)| known == room).map(|(_, interval)| *interval),
            Self::Many(tree) => tree.rooms.get(room)?.last().copied(),
        }
    }

    /// Returns whether the session was in `room` at position `lsn`.
    pub(super) fn include(&self, room: &str, lsn: Lsn) -> bool {
        match self {
            Self::Few(list) => list.iter().any(|(known, interval)| known.as_str() == room && interval.includes(lsn)),
            Self::Many(tree) => tree.rooms.get(room).is_some_and(|of_room| {
                // Intervals of a room do not overlap, so only the last interval that began before
                // `lsn` can include `lsn`.
                let began = of_room.partition_point(|interval| interval.joined < lsn);
                began.checked_sub(1).is_some_and(|last| of_room[last].includes(lsn))
            }),
        }
    }

    /// Adds an interval that begins after all others of the same room.
    pub(super) fn push(&mut self, room: RoomName, interval: Interval) {
        match self {
            Self::Few(list) if list.len() < FEW => {
                // Capacity for one interval is reserved, since most sessions are in one room. The
                // default capacity would be four.
                if list.is_empty() {
                    list.reserve_exact(1);
                }
                list.push((room, interval));
            }
            Self::Few(list) => {
                let mut tree = Box::<Tree>::default();
                list.drain(..).chain([(room, interval)]).for_each(|(room, interval)| tree.push(room, interval));
                *self = Self::Many(tree);
            }
            Self::Many(tree) => tree.push(room, interval),
        }
    }

    /// Ends the newest interval of a room at `lsn`, unless that interval has already ended.
    pub(super) fn end(&mut self, room: &RoomName, lsn: Lsn) {
        let newest = match self {
            Self::Few(list) => list.iter_mut().rev().find(|(known, _)| known == room).map(|(_, interval)| interval),
            Self::Many(tree) => tree.rooms.get_mut(room).and_then(|of_room| of_room.last_mut()),
        };
        if let Some(interval) = newest.filter(|interval| interval.left == Interval::LASTS) {
            interval.left = lsn;
        }
    }

    /// Removes the intervals for which `keep` returns false.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&RoomName, Interval) -> bool) {
        match self {
            Self::Few(list) => list.retain(|(room, interval)| keep(room, *interval)),
            Self::Many(tree) => {
                tree.rooms.retain(|room, of_room| {
                    of_room.retain(|interval| keep(room, *interval));
                    of_room.shrink_to_fit();
                    !of_room.is_empty()
                });
                tree.len = tree.rooms.values().map(SmallVec::len).sum();
                // The tree becomes a list at half of the list's maximum, so that a session that
                // repeatedly joins and leaves one room does not cause a conversion each time.
                if tree.len <= FEW / 2 {
                    let rooms = std::mem::take(&mut tree.rooms).into_iter();
                    let each = |(room, of_room): (RoomName, SmallVec<_>)| {
                        of_room.into_iter().map(move |interval| (room.clone(), interval))
                    };
                    let mut list: Vec<_> = rooms.flat_map(each).collect();
                    list.shrink_to_fit();
                    *self = Self::Few(list);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Join(u8),
        Leave(u8),
        Forget(u8),
    }

    fn room(number: u8) -> RoomName {
        RoomName::parse(&format!("room {number}")).unwrap()
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            60 => (0..60u8).prop_map(Step::Join),
            30 => (0..60u8).prop_map(Step::Leave),
            1 => (0..60u8).prop_map(Step::Forget),
        ];
        proptest::collection::vec(step, 0..150)
    }

    #[test]
    fn many_intervals_are_a_tree_until_they_are_few_again() {
        let mut intervals = RoomIntervals::default();
        let lasting = |lsn| Interval { joined: Lsn(lsn), left: Interval::LASTS };
        (0..40).for_each(|n| intervals.push(room(n), lasting(1)));
        assert!(matches!(intervals, RoomIntervals::Many(_)));
        intervals.end(&room(7), Lsn(5));
        intervals.push(room(7), lasting(8));
        assert_eq!(intervals.newest(&room(7)), Some(lasting(8)));
        let included: Vec<_> = (0..12).filter(|lsn| intervals.include(room(7).as_str(), Lsn(*lsn))).collect();
        assert_eq!(included, [2, 3, 4, 9, 10, 11]);
        intervals.retain(|known, _| (0..10).any(|n| *known == room(n)));
        assert!(matches!(intervals, RoomIntervals::Few(_)));
        assert_eq!((intervals.len(), intervals.newest(&room(7))), (11, Some(lasting(8))));
    }

    #[test]
    fn forgotten_intervals_of_a_room_release_their_memory() {
        let mut intervals = RoomIntervals::default();
        (0..40).for_each(|n| intervals.push(room(n), Interval { joined: Lsn(1), left: Interval::LASTS }));
        for lsn in (2..4_000).step_by(2) {
            intervals.end(&room(7), Lsn(lsn));
            intervals.push(room(7), Interval { joined: Lsn(lsn + 1), left: Interval::LASTS });
        }
        intervals.retain(|_, interval| interval.left == Interval::LASTS);
        let RoomIntervals::Many(tree) = intervals else { panic!("40 rooms are a tree") };
        assert!(tree.rooms.values().all(|of_room| of_room.capacity() <= 4));
    }

    proptest! {
        #[test]
        fn intervals_equal_a_plain_list_at_every_size(steps in steps()) {
            let (mut intervals, mut model) = (RoomIntervals::default(), Vec::<(RoomName, Interval)>::new());
            for (at, step) in (1..).zip(steps) {
                match step {
                    Step::Join(n) => {
                        let newest = model.iter().rev().find(|(known, _)| *known == room(n)).map(|(_, interval)| *interval);
                        prop_assert_eq!(intervals.newest(&room(n)), newest);
                        if newest.is_none_or(|interval| interval.left != Interval::LASTS) {
                            let interval = Interval { joined: Lsn(at), left: Interval::LASTS };
                            intervals.push(room(n), interval);
                            model.push((room(n), interval));
                        }
                    }
                    Step::Leave(n) => {
                        intervals.end(&room(n), Lsn(at));
                        for (known, interval) in &mut model {
                            if *known == room(n) && interval.left == Interval::LASTS {
                                interval.left = Lsn(at);
                            }
                        }
                    }
                    Step::Forget(n) => {
                        intervals.retain(|known, _| *known >= room(n));
                        model.retain(|(known, _)| *known >= room(n));
                    }
                }
                prop_assert_eq!(intervals.len(), model.len());
            }
            for n in 0..60 {
                for lsn in (0..160).step_by(3).map(Lsn) {
                    let is_in = model.iter().any(|(known, interval)| *known == room(n) && interval.includes(lsn));
                    prop_assert_eq!(intervals.include(room(n).as_str(), lsn), is_in);
                }
            }
            let sorted = |mut all: Vec<(RoomName, Interval)>| {
                all.sort_unstable_by(|a, b| (&a.0, a.1.joined).cmp(&(&b.0, b.1.joined)));
                all
            };
            prop_assert_eq!(sorted(intervals.iter().map(|(room, interval)| (room.clone(), interval)).collect()), sorted(model));
        }
    }
}
