//! Where events went: for each room that a session is or was in, roughly which positions held an event for it.
//!
//! It holds no records and no members. Its answers err on one side only: an event that was there is never denied.

use std::collections::HashMap;

use crate::ids::{Lsn, NamespacePath, Recipient, RoomName};

/// Runs one trail may have. Default 4: the three longest silences of a room are known, which is where a client that is behind
/// what is trimmed can stand without having missed anything. More cost 16 bytes a room each.
const RANGES_MAX: usize = 4;

/// Positions of the events of one room, oldest first; when there are too many, the two that stand closest become one run.
#[derive(Debug, Default)]
struct PositionRanges {
    ranges: Vec<Range>,
}

/// Events stand at `first` and at `last`, and perhaps between them.
#[derive(Debug, Clone, Copy)]
struct Range {
    first: Lsn,
    last: Lsn,
}

impl PositionRanges {
    /// An event was at `lsn`, behind all that are known.
    fn push(&mut self, lsn: Lsn) {
        if self.ranges.is_empty() {
            self.ranges.reserve_exact(RANGES_MAX + 1);
        }
        self.ranges.push(Range { first: lsn, last: lsn });
        if self.ranges.len() > RANGES_MAX {
            let silence = |at: &usize| self.ranges[*at].first.0 - self.ranges[*at - 1].last.0;
            let shortest = (1..self.ranges.len()).min_by_key(silence).unwrap_or(1);
            self.ranges[shortest - 1].last = self.ranges[shortest].last;
            self.ranges.remove(shortest);
        }
    }

    /// The newest position in `(after, until]` that may hold an event; 0 if none does.
    fn newest(&self, after: Lsn, until: Lsn) -> Lsn {
        if after >= until {
            return Lsn(0);
        }
        let meets = |run: &&Range| run.first <= until && run.last > after;
        self.ranges.iter().rev().find(meets).map_or(Lsn(0), |run| run.last.min(until))
    }

    /// The oldest position in `(after, until]` that may hold an event.
    fn oldest(&self, after: Lsn, until: Lsn) -> Option<Lsn> {
        let run = self.ranges.iter().find(|run| run.last > after)?;
        Some(run.first.max(after.next())).filter(|oldest| *oldest <= until)
    }
}

/// Where events went: one room, one socket, or everybody in a namespace.
#[derive(Debug, Default)]
pub(super) struct RoomActivity {
    events: PositionRanges,
    /// Those events that wanted an ack.
    ack_events: PositionRanges,
}

impl RoomActivity {
    /// An event at `lsn` was for it.
    pub(super) fn push(&mut self, lsn: Lsn, wants_ack: bool) {
        self.events.push(lsn);
        if wants_ack {
            self.ack_events.push(lsn);
        }
    }

    /// The newest position in `(after, until]` that may hold an event of this place; 0 if none does.
    pub(super) fn newest_event(&self, after: Lsn, until: Lsn) -> Lsn {
        self.events.newest(after, until)
    }

    /// The oldest position in `(after, until]` that may hold an event of this place.
    pub(super) fn oldest_event(&self, after: Lsn, until: Lsn) -> Option<Lsn> {
        self.events.oldest(after, until)
    }

    /// The same for events that wanted an ack.
    pub(super) fn newest_ack_event(&self, after: Lsn, until: Lsn) -> Lsn {
        self.ack_events.newest(after, until)
    }
}

/// The places of one namespace.
#[derive(Debug, Default)]
struct Namespace {
    /// Sessions in it; without any it is forgotten.
    sessions: usize,
    everybody: RoomActivity,
    rooms: HashMap<RoomName, Held>,
}

/// A room, as long as a stay in it is remembered.
#[derive(Debug, Default)]
struct Held {
    intervals: usize,
    room_activity: RoomActivity,
}

/// All rooms and namespaces that some session knows. As many as sessions have rooms, which is what bounds them.
#[derive(Debug, Default)]
pub(super) struct Activity {
    namespaces: HashMap<NamespacePath, Namespace>,
}

impl Activity {
    /// A session begins in a namespace.
    pub(super) fn enter(&mut self, namespace: &NamespacePath) {
        self.namespaces.entry(namespace.clone()).or_default().sessions += 1;
    }

    /// A session is forgotten; it has released its rooms.
    pub(super) fn exit(&mut self, namespace: &NamespacePath) {
        let Some(known) = self.namespaces.get_mut(namespace) else { return };
        known.sessions = known.sessions.saturating_sub(1);
        if known.sessions == 0 {
            self.namespaces.remove(namespace);
        }
    }

    /// A session that has entered the namespace stays in a room. Gives the name that all who know the room share.
    #[must_use]
    pub(super) fn hold(&mut self, namespace: &NamespacePath, room: &RoomName) -> RoomName {
        let Some(known) = self.namespaces.get_mut(namespace) else { return room.clone() };
        let entry = known.rooms.entry(room.clone());
        let shared = entry.key().clone();
        entry.or_default().intervals += 1;
        shared
    }

    /// A stay is not remembered any more.
    pub(super) fn release(&mut self, namespace: &NamespacePath, room: &RoomName) {
        let Some(known) = self.namespaces.get_mut(namespace) else { return };
        let Some(held) = known.rooms.get_mut(room) else { return };
        held.intervals = held.intervals.saturating_sub(1);
        if held.intervals == 0 {
            known.rooms.remove(room);
        }
    }

    /// An event for members of `rooms`, or for everybody if none is named.
    pub(super) fn push(&mut self, namespace: &NamespacePath, rooms: &[Recipient], lsn: Lsn, wants_ack: bool) {
        let Some(known) = self.namespaces.get_mut(namespace) else { return };
        if rooms.is_empty() {
            known.everybody.push(lsn, wants_ack);
        }
        for room in rooms {
            if let Some(held) = room.with_name(|name| known.rooms.get_mut(name)) {
                held.room_activity.push(lsn, wants_ack);
            }
        }
    }

    /// Whether a session is or was in one of `rooms`, or in the namespace if none is named.
    pub(super) fn know(&self, namespace: &NamespacePath, rooms: &[Recipient]) -> bool {
        let known = self.namespaces.get(namespace);
        let knows = |known: &Namespace, room: &Recipient| room.with_name(|name| known.rooms.contains_key(name));
        known.is_some_and(|known| rooms.is_empty() || rooms.iter().any(|room| knows(known, room)))
    }

    /// Everybody in a namespace.
    pub(super) fn everybody(&self, namespace: &NamespacePath) -> Option<&RoomActivity> {
        self.namespaces.get(namespace).map(|known| &known.everybody)
    }

    /// A room of a namespace.
    pub(super) fn room(&self, namespace: &NamespacePath, room: &RoomName) -> Option<&RoomActivity> {
        Some(&self.namespaces.get(namespace)?.rooms.get(room)?.room_activity)
    }

    /// Places known: namespaces and rooms.
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

    fn trail(lsns: &[u64]) -> PositionRanges {
        let mut trail = PositionRanges::default();
        lsns.iter().for_each(|lsn| trail.push(Lsn(*lsn)));
        trail
    }

    #[test]
    fn a_trail_keeps_its_longest_silences() {
        let trail = trail(&[1, 2, 3, 500, 501, 502, 9_000, 9_001, 20_000, 20_001]);
        assert_eq!(trail.ranges.len(), RANGES_MAX);
        for (after, until) in [(3, 499), (502, 8_999), (9_001, 19_999), (20_001, 30_000)] {
            assert_eq!(trail.newest(Lsn(after), Lsn(until)), Lsn(0), "({after}, {until}]");
        }
        assert_eq!(trail.newest(Lsn(400), Lsn(8_000)), Lsn(502));
        assert_eq!(trail.newest(Lsn(600), Lsn(500)), Lsn(0), "an empty range holds nothing");
    }

    proptest! {
        #[test]
        fn a_trail_never_denies_an_event(steps in vec(1u64..50, 1..40), after in 0u64..900, length in 0u64..900) {
            let lsns: Vec<_> = steps.iter().scan(0, |lsn, step| { *lsn += step; Some(*lsn) }).collect();
            let trail = trail(&lsns);
            let until = after + length;
            let newest = lsns.iter().copied().filter(|lsn| (after + 1..=until).contains(lsn)).max().unwrap_or(0);
            prop_assert!(trail.ranges.len() <= RANGES_MAX);
            prop_assert!(trail.newest(Lsn(after), Lsn(until)) >= Lsn(newest));
            let oldest = lsns.iter().copied().find(|lsn| (after + 1..=until).contains(lsn));
            let told = trail.oldest(Lsn(after), Lsn(until));
            prop_assert!(told.is_none_or(|told| told > Lsn(after) && told <= Lsn(until)));
            prop_assert!(oldest.is_none_or(|oldest| told.is_some_and(|told| told <= Lsn(oldest))));
        }
    }
}
