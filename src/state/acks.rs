//! Acks that the server awaits: their ids, waiting callers and deadlines.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::ids::{AckId, AckOwner};

#[derive(Debug)]
pub(crate) struct Acks<W> {
    assigned: u64,
    /// Awaited acks. `None` if there are none, to save memory.
    open: Option<Box<Open<W>>>,
}

#[derive(Debug)]
struct Open<W> {
    waiting: BTreeMap<AckId, (Instant, W)>,
    /// Lower bound of all deadlines. It is not updated when an ack arrives.
    earliest: Instant,
}

impl<W> Default for Acks<W> {
    fn default() -> Self {
        Self { assigned: 0, open: None }
    }
}

impl<W> Acks<W> {
    /// Registers a waiter that expires at `deadline`, and returns the id of its ack. If `limit`
    /// acks are awaited already, returns the waiter as error.
    pub(crate) fn expect(&mut self, waiter: W, deadline: Instant, limit: usize) -> Result<AckId, W> {
        if self.len() >= limit {
            return Err(waiter);
        }
        let id = AckId::new(AckOwner::Session, self.assigned);
        self.assigned += 1;
        let fresh = || Box::new(Open { waiting: BTreeMap::new(), earliest: deadline });
        let open = self.open.get_or_insert_with(fresh);
        open.waiting.insert(id, (deadline, waiter));
        open.earliest = open.earliest.min(deadline);
        Ok(id)
    }

    /// Removes and returns the waiter of the ack `id`. Returns `None` for late, unknown and
    /// repeated acks. If `matches` rejects the waiter, the waiter stays, and `None` is returned.
    pub(crate) fn resolve(&mut self, id: AckId, matches: impl Fn(&W) -> bool) -> Option<W> {
        let waiting = &mut self.open.as_mut()?.waiting;
        waiting.get(&id).filter(|(_, waiter)| matches(waiter))?;
        let (_, waiter) = waiting.remove(&id)?;
        if waiting.is_empty() {
            self.open = None;
        }
        Some(waiter)
    }

    /// Removes and returns the waiters that match `test`. Used when a socket has disconnected.
    pub(crate) fn forget(&mut self, test: impl Fn(&W) -> bool) -> Vec<W> {
        self.take(|_, waiter| test(waiter))
    }

    pub(crate) fn len(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.waiting.len())
    }

    /// Instant before which [`Acks::expire`] has no effect. `None` if no ack is awaited.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        Some(self.open.as_ref()?.earliest)
    }

    pub(crate) fn expire(&mut self, now: Instant) -> Vec<W> {
        if self.deadline().is_none_or(|earliest| earliest > now) {
            return Vec::new();
        }
        self.take(|deadline, _| deadline <= now)
    }

    fn take(&mut self, which: impl Fn(Instant, &W) -> bool) -> Vec<W> {
        let Some(open) = &mut self.open else { return Vec::new() };
        let taken = open.waiting.extract_if(.., |_, (deadline, waiter)| which(*deadline, waiter));
        let taken = taken.map(|(_, (_, waiter))| waiter).collect();
        match open.waiting.values().map(|(deadline, _)| *deadline).min() {
            Some(earliest) => open.earliest = earliest,
            None => self.open = None,
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_ack_resolves_its_waiter_once() {
        let mut acks = Acks::default();
        let now = Instant::now();
        let id = acks.expect("first", now, 8).unwrap();
        assert_eq!(id.owner(), Some(AckOwner::Session));
        assert_eq!(acks.resolve(id, |waiter| *waiter == "another"), None);
        assert_eq!(acks.resolve(id, |_| true), Some("first"));
        assert_eq!(acks.resolve(id, |_| true), None);
        assert_eq!(acks.resolve(AckId::from_wire(u64::MAX), |_| true), None);
    }

    #[test]
    fn waiters_are_bounded_and_expire() {
        let mut acks = Acks::default();
        let now = Instant::now();
        let second = Duration::from_secs(1);
        acks.expect("early", now + second, 2).unwrap();
        acks.expect("late", now + 3 * second, 2).unwrap();
        assert_eq!(acks.expect("too many", now, 2), Err("too many"));
        assert_eq!(acks.deadline(), Some(now + second));
        assert_eq!(acks.expire(now + 2 * second), ["early"]);
        assert_eq!(acks.deadline(), Some(now + 3 * second));
    }
}
