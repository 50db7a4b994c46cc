//! In which rooms one session was, and when: a list while they are few, as they nearly always are, and a tree beyond.
//!
//! Refuses to be the fastest of either: it is small for many sessions, and not linear for one that stays in 65 536 rooms.

use std::collections::BTreeMap;

use crate::ids::{Lsn, RoomName};

/// Stays up to which a list is searched. A tree has room for eleven as soon as it has one.
const FEW: usize = 32;

/// In one room, from a join to a leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) joined: Lsn,
    /// [`LASTS`](Self::LASTS) until it is over.
    pub(super) left: Lsn,
}

impl Interval {
    /// Beyond every position.
    pub(super) const LASTS: Lsn = Lsn(Lsn::END);

    /// Whether an event at `lsn` fell into it.
    pub(super) fn includes(&self, lsn: Lsn) -> bool {
        self.joined < lsn && lsn < self.left
    }
}

/// The intervals of one session in its rooms.
#[derive(Debug)]
pub(super) enum RoomIntervals {
    /// Those of one room as they began.
    Few(Vec<(RoomName, Interval)>),
    /// By room and beginning: when each ended.
    Many(BTreeMap<(RoomName, Lsn), Lsn>),
}

impl Default for RoomIntervals {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl RoomIntervals {
    /// How many, of all rooms.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Few(list) => list.len(),
            Self::Many(tree) => tree.len(),
        }
    }

    /// All of them; those of one room in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&RoomName, Interval)> {
        let (list, tree) = match self {
            Self::Few(list) => (Some(list), None),
            Self::Many(tree) => (None, Some(tree)),
        };
        let list = list.into_iter().flatten().map(|(room, interval)| (room, *interval));
        list.chain(
            tree.into_iter().flatten().map(|((room, joined), left)| (room, Interval { joined: *joined, left: *left })),
        )
    }

    /// The newest of a room.
    pub(super) fn newest(&self, room: &RoomName) -> Option<Interval> {
        match self {
            Self::Few(list) => list.iter().rev().find(|(known, _)| known == room).map(|(_, interval)| *interval),
            Self::Many(tree) => {
                let ((_, joined), left) =
                    tree.range((room.clone(), Lsn(0))..=(room.clone(), Interval::LASTS)).next_back()?;
                Some(Interval { joined: *joined, left: *left })
            }
        }
    }

    /// Whether an event at `lsn` fell into one of a room.
    pub(super) fn include(&self, room: &str, lsn: Lsn) -> bool {
        match self {
            Self::Few(list) => list.iter().any(|(known, interval)| known.as_str() == room && interval.includes(lsn)),
            Self::Many(tree) => {
                // They do not overlap: only the last that began before can have lasted until then.
                let Ok(room) = RoomName::parse(room) else { return false };
                let began = tree.range((room.clone(), Lsn(0))..(room, lsn)).next_back();
                began.is_some_and(|(_, left)| lsn < *left)
            }
        }
    }

    /// One that begins behind all others of its room.
    pub(super) fn push(&mut self, room: RoomName, interval: Interval) {
        match self {
            Self::Few(list) if list.len() < FEW => {
                // Most sessions are in one room, and a vector of one would make place for four.
                if list.is_empty() {
                    list.reserve_exact(1);
                }
                list.push((room, interval));
            }
            Self::Few(list) => {
                let tree = list
                    .drain(..)
                    .chain([(room, interval)])
                    .map(|(room, Interval { joined, left })| ((room, joined), left));
                *self = Self::Many(tree.collect());
            }
            Self::Many(tree) => drop(tree.insert((room, interval.joined), interval.left)),
        }
    }

    /// The newest of a room ends at `lsn`, if it lasts.
    pub(super) fn end(&mut self, room: &RoomName, lsn: Lsn) {
        let newest = match self {
            Self::Few(list) => {
                list.iter_mut().rev().find(|(known, _)| known == room).map(|(_, interval)| &mut interval.left)
            }
            Self::Many(tree) => {
                let of_room = tree.range_mut((room.clone(), Lsn(0))..=(room.clone(), Interval::LASTS));
                of_room.map(|(_, left)| left).next_back()
            }
        };
        if let Some(left) = newest.filter(|left| **left == Interval::LASTS) {
            *left = lsn;
        }
    }

    /// Forgets those that `keep` does not want.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&RoomName, Interval) -> bool) {
        match self {
            Self::Few(list) => list.retain(|(room, interval)| keep(room, *interval)),
            Self::Many(tree) => {
                tree.retain(|(room, joined), left| keep(room, Interval { joined: *joined, left: *left }));
                // Half of what made it a tree, so that a session that goes in and out of one room does not rebuild it each time.
                if tree.len() <= FEW / 2 {
                    let mut list: Vec<_> = std::mem::take(tree)
                        .into_iter()
                        .map(|((room, joined), left)| (room, Interval { joined, left }))
                        .collect();
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
    fn many_are_a_tree_until_they_are_few_again() {
        let mut intervals = RoomIntervals::default();
        let lasting = |lsn| Interval { joined: Lsn(lsn), left: Interval::LASTS };
        (0..40).for_each(|n| intervals.push(room(n), lasting(1)));
        assert!(matches!(intervals, RoomIntervals::Many(_)));
        intervals.end(&room(7), Lsn(5));
        intervals.push(room(7), lasting(8));
        assert_eq!(intervals.newest(&room(7)), Some(lasting(8)));
        let heard: Vec<_> = (0..12).filter(|lsn| intervals.include(room(7).as_str(), Lsn(*lsn))).collect();
        assert_eq!(heard, [2, 3, 4, 9, 10, 11]);
        intervals.retain(|known, _| (0..10).any(|n| *known == room(n)));
        assert!(matches!(intervals, RoomIntervals::Few(_)));
        assert_eq!((intervals.len(), intervals.newest(&room(7))), (11, Some(lasting(8))));
    }

    proptest! {
        #[test]
        fn they_are_a_list_at_every_size(steps in steps()) {
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
