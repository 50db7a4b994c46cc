//! The hub's one FIFO between its two stages: what has been numbered, and must be applied in that order.
//!
//! An entry that waits for nobody passes at once, unless an entry ahead of it still waits for the committer. So
//! membership when an event is applied *is* membership as of its emit.

use std::collections::VecDeque;

/// Position of an entry, increasing from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position(pub u64);

#[derive(Debug)]
struct Entry<E> {
    waits: bool,
    entry: E,
}

/// Entries between check (stage 1) and effect (stage 2). Bounded by the credit of those who sent them: an entry is
/// answered when it is applied.
#[derive(Debug)]
pub(crate) struct Pipeline<E> {
    first: u64,
    entries: VecDeque<Entry<E>>,
}

impl<E> Default for Pipeline<E> {
    fn default() -> Self {
        Self { first: 0, entries: VecDeque::new() }
    }
}

impl<E> Pipeline<E> {
    /// Whether nothing is queued: an entry that waits for nobody may then be applied without a detour.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The position that the next entry will get.
    pub(crate) fn next_position(&self) -> Position {
        Position(self.first + self.entries.len() as u64)
    }

    /// Queues an entry; one that `waits` holds up everything behind it until it is released.
    pub(crate) fn push(&mut self, entry: E, waits: bool) -> Position {
        let position = self.next_position();
        self.entries.push_back(Entry { waits, entry });
        position
    }

    /// The entry at `position` waits no longer. A position that is not queued changes nothing.
    pub(crate) fn release(&mut self, position: Position) {
        let index = position.0.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) {
            entry.waits = false;
        }
    }

    /// Takes the next entry whose turn has come.
    pub(crate) fn pop(&mut self) -> Option<E> {
        if self.entries.front()?.waits {
            return None;
        }
        self.first += 1;
        self.entries.pop_front().map(|entry| entry.entry)
    }

    /// Whether an entry is queued for which `test` holds.
    pub(crate) fn any(&self, test: impl FnMut(&E) -> bool) -> bool {
        self.entries.iter().map(|entry| &entry.entry).any(test)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn popped(pipeline: &mut Pipeline<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| pipeline.pop()).collect()
    }

    #[test]
    fn what_waits_for_nobody_passes_at_once() {
        let mut pipeline = Pipeline::default();
        pipeline.push("join", false);
        assert_eq!(popped(&mut pipeline), ["join"]);
    }

    #[test]
    fn everything_waits_behind_a_waiting_entry() {
        let mut pipeline = Pipeline::default();
        let first = pipeline.push("durable 1", true);
        pipeline.push("join", false);
        let second = pipeline.push("durable 2", true);
        pipeline.push("plain", false);
        assert_eq!(popped(&mut pipeline), [""; 0]);
        pipeline.release(second);
        assert_eq!(popped(&mut pipeline), [""; 0]);
        pipeline.release(first);
        assert_eq!(popped(&mut pipeline), ["durable 1", "join", "durable 2", "plain"]);
    }

    #[test]
    fn a_stale_release_changes_nothing() {
        let mut pipeline = Pipeline::default();
        let first = pipeline.push("a", true);
        pipeline.release(first);
        assert_eq!(popped(&mut pipeline), ["a"]);
        pipeline.push("b", true);
        pipeline.release(first);
        pipeline.release(Position(99));
        assert_eq!(popped(&mut pipeline), [""; 0]);
        assert!(pipeline.any(|entry| *entry == "b"));
    }
}
