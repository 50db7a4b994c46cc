//! Journal positions of events, stored as a few ranges for each room that a session is or was in.
//!
//! The ranges contain the positions of all events. They may also contain positions without an
//! event.

use std::collections::HashMap;

use crate::ids::{Lsn, NamespacePath, Recipient, RoomName};

/// Maximum number of ranges of one room, at 16 bytes each. Four ranges preserve the three longest
/// gaps between events. If all dropped records after a client's position are in a gap, the client
/// has missed nothing.
const RANGES_MAX: usize = 4;

/// Positions of events, oldest first. When there are too many ranges, the two with the smallest gap
/// between them are merged.
#[derive(Debug, Default)]
struct PositionRanges {
    ranges: Vec<Range>,
}

/// A range of positions, with events at `first` and `last`, and perhaps between them.
#[derive(Debug, Clone, Copy)]
struct Range {
    first: Lsn,
    last: Lsn,
}

impl PositionRanges {
    /// Adds the position of an event that is newer than all others.
    fn push(&mut self, lsn: Lsn) {
        if self.ranges.is_empty() {
            self.ranges.reserve_exact(RANGES_MAX + 1);
        }
        self.ranges.push(Range { first: lsn, last: lsn });
        if self.ranges.len() > RANGES_MAX {
            let gap = |at: &usize| self.ranges[*at].first.0 - self.ranges[*at - 1].last.0;
            let smallest = (1..self.ranges.len()).min_by_key(gap).unwrap_or(1);
            self.ranges[smallest - 1].last = self.ranges[smallest].last;
            self.ranges.remove(smallest);
        }
    }

    /// The newest position in `(after, until]` that may hold an event, or 0 if there is none.
    fn newest(&self, after: Lsn, until: Lsn) -> Lsn {
        if after >= until {
            return Lsn(0);
        }
        let overlaps = |range: &&Range| range.first <= until && range.last > after;
        self.ranges.iter().rev().find(overlaps).map_or(Lsn(0), |range| range.last.min(until))
    }

    /// The oldest position in `(after, until]` that may hold an event.
    fn oldest(&self, after: Lsn, until: Lsn) -> Option<Lsn> {
        let range = self.ranges.iter().find(|range| range.last > after)?;
        Some(range.first.max(after.next())).filter(|oldest| *oldest <= until)
    }
}

/// Positions of the events for one room, one socket, or all sockets of a namespace.
#[derive(Debug, Default)]
pub(super) struct RoomActivity {
    events: PositionRanges,
    ack_events: PositionRanges,
}

impl RoomActivity {
    pub(super) fn push(&mut self, lsn: Lsn, wants_ack: bool) {
        self.events.push(lsn);
        if wants_ack {
            self.ack_events.push(lsn);
        }
    }

    pub(super) fn newest_event(&self, after: Lsn, until: Lsn) -> Lsn {
        self.events.newest(after, until)
    }

    pub(super) fn oldest_event(&self, after: Lsn, until: Lsn) -> Option<Lsn> {
        self.events.oldest(after, until)
    }

    /// The newest position in `(after, until]` that may hold an event that requested an ack, or 0
    /// if there is none.
    pub(super) fn newest_ack_event(&self, after: Lsn, until: Lsn) -> Lsn {
        self.ack_events.newest(after, until)
    }
}

#[derive(Debug, Default)]
struct Namespace {
    /// Number of sessions. A namespace without sessions is removed.
    sessions: usize,
    namespace_activity: RoomActivity,
    rooms: HashMap<RoomName, RoomEntry>,
}

#[derive(Debug, Default)]
struct RoomEntry {
    /// Number of the sessions' intervals in the room. A room without intervals is removed.
    intervals: usize,
    room_activity: RoomActivity,
}

/// Positions of events in the rooms and namespaces of all sessions. There are at most as many
/// namespaces as sessions, and at most as many rooms as intervals of all sessions.
#[derive(Debug, Default)]
pub(super) struct Activity {
    namespaces: HashMap<NamespacePath, Namespace>,
}

impl Activity {
    pub(super) fn enter(&mut self, namespace: &NamespacePath) {
        self.namespaces.entry(namespace.clone()).or_default().sessions += 1;
    }

    /// Removes a session from a namespace. The caller must have released the rooms of the session.
    pub(super) fn exit(&mut self, namespace: &NamespacePath) {
        let Some(known) = self.namespaces.get_mut(namespace) else { return };
        known.sessions = known.sessions.saturating_sub(1);
        if known.sessions == 0 {
            self.namespaces.remove(namespace);
        }
    }

    /// Counts an interval of a session in `room`. The session must have entered the namespace.
    /// Returns the shared copy of the room's name.
    #[must_use]
    pub(super) fn hold(&mut self, namespace: &NamespacePath, room: &RoomName) -> RoomName {
        let Some(known) = self.namespaces.get_mut(namespace) else { return room.clone() };
        let entry = known.rooms.entry(room.clone());
        let shared = entry.key().clone();
        entry.or_default().intervals += 1;
        shared
    }

    pub(super) fn release(&mut self, namespace: &NamespacePath, room: &RoomName) {
        let Some(known) = self.namespaces.get_mut(namespace) else { return };
        let Some(held) = known.rooms.get_mut(room) else { return };
        held.intervals = held.intervals.saturating_sub(1);
        if held.intervals == 0 {
            known.rooms.remove(room);
        }
    }

    /// Adds an event for the members of `rooms` or, if `rooms` is empty, for all sockets of the
    /// namespace.
    pub(super) fn push(&mut self, namespace: &NamespacePath, rooms: &[Recipient], lsn: Lsn, wants_ack: bool) {
        let Some(known) = self.namespaces.get_mut(namespace) else { return };
        if rooms.is_empty() {
            known.namespace_activity.push(lsn, wants_ack);
        }
        for room in rooms {
            if let Some(held) = room.with_name(|name| known.rooms.get_mut(name)) {
                held.room_activity.push(lsn, wants_ack);
            }
        }
    }

    /// Returns whether a session is or was in one of `rooms` or, if `rooms` is empty, in the
    /// namespace.
    pub(super) fn is_known(&self, namespace: &NamespacePath, rooms: &[Recipient]) -> bool {
        let known = self.namespaces.get(namespace);
        let knows = |known: &Namespace, room: &Recipient| room.with_name(|name| known.rooms.contains_key(name));
        known.is_some_and(|known| rooms.is_empty() || rooms.iter().any(|room| knows(known, room)))
    }

    pub(super) fn namespace(&self, namespace: &NamespacePath) -> Option<&RoomActivity> {
        self.namespaces.get(namespace).map(|known| &known.namespace_activity)
    }

    pub(super) fn room(&self, namespace: &NamespacePath, room: &RoomName) -> Option<&RoomActivity> {
        Some(&self.namespaces.get(namespace)?.rooms.get(room)?.room_activity)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.namespaces.values().map(|known| 1 + known.rooms.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn ranges(lsns: &[u64]) -> PositionRanges {
        let mut ranges = PositionRanges::default();
        lsns.iter().for_each(|lsn| ranges.push(Lsn(*lsn)));
        ranges
    }

    #[test]
    fn ranges_preserve_the_longest_gaps() {
        let ranges = ranges(&[1, 2, 3, 500, 501, 502, 9_000, 9_001, 20_000, 20_001]);
        assert_eq!(ranges.ranges.len(), RANGES_MAX);
        for (after, until) in [(3, 499), (502, 8_999), (9_001, 19_999), (20_001, 30_000)] {
            assert_eq!(ranges.newest(Lsn(after), Lsn(until)), Lsn(0), "({after}, {until}]");
        }
        assert_eq!(ranges.newest(Lsn(400), Lsn(8_000)), Lsn(502));
        assert_eq!(ranges.newest(Lsn(600), Lsn(500)), Lsn(0), "an empty range holds nothing");
    }

    proptest! {
        #[test]
        fn ranges_never_miss_an_event(steps in vec(1u64..50, 1..40), after in 0u64..900, length in 0u64..900) {
            let lsns: Vec<_> = steps.iter().scan(0, |lsn, step| { *lsn += step; Some(*lsn) }).collect();
            let ranges = ranges(&lsns);
            let until = after + length;
            let newest = lsns.iter().copied().filter(|lsn| (after + 1..=until).contains(lsn)).max().unwrap_or(0);
            prop_assert!(ranges.ranges.len() <= RANGES_MAX);
            prop_assert!(ranges.newest(Lsn(after), Lsn(until)) >= Lsn(newest));
            let oldest = lsns.iter().copied().find(|lsn| (after + 1..=until).contains(lsn));
            let found = ranges.oldest(Lsn(after), Lsn(until));
            prop_assert!(found.is_none_or(|found| found > Lsn(after) && found <= Lsn(until)));
            prop_assert!(oldest.is_none_or(|oldest| found.is_some_and(|found| found <= Lsn(oldest))));
        }
    }
}
