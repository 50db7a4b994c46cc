//! Events that want acks of many: which sockets of this worker are still to answer, and to whom the answers go.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use crate::ids::{SocketId, WorkerId};
use crate::messages::fanout::Collect;
use crate::messages::hub::ReplyTo;

struct Collection {
    worker: WorkerId,
    to: ReplyTo,
    until: Instant,
    awaiting: HashSet<SocketId>,
}

/// What is collected on one worker. Bounded by what those who collect may have open at a time (`collections_max`).
#[derive(Default)]
pub(super) struct Collections {
    by_id: HashMap<u64, Collection>,
    /// From so many on, what is overdue is looked for; doubled with what is left, so that looking costs little each time.
    crowded_at: usize,
}

/// Fewer collections are not worth a look at what is overdue.
const CROWDED: usize = 64;

impl Collections {
    /// These sockets were given an event and are to answer it. Forgets what is overdue once there is much.
    pub(super) fn open(&mut self, collect: Collect, awaiting: HashSet<SocketId>, now: Instant) {
        if self.by_id.len() >= self.crowded_at.max(CROWDED) {
            self.by_id.retain(|_, collection| collection.until > now);
            self.crowded_at = 2 * self.by_id.len();
        }
        if !awaiting.is_empty() {
            let Collect { id, worker, to, timeout } = collect;
            self.by_id.insert(id, Collection { worker, to, until: now + timeout, awaiting });
        }
    }

    /// A socket answered. `None` if it was not asked, or did so before: then the answer goes nowhere.
    pub(super) fn answered(&mut self, socket: SocketId, id: u64) -> Option<(WorkerId, ReplyTo)> {
        let collection = self.by_id.get_mut(&id)?;
        if !collection.awaiting.remove(&socket) {
            return None;
        }
        let whose = (collection.worker, collection.to);
        if collection.awaiting.is_empty() {
            self.by_id.remove(&id);
        }
        Some(whose)
    }

    /// A socket has gone. Gives all who wait for it.
    pub(super) fn gone(&mut self, socket: SocketId) -> Vec<(WorkerId, ReplyTo)> {
        let waiting = self.by_id.iter().filter(|(_, collection)| collection.awaiting.contains(&socket));
        let mut ids: Vec<_> = waiting.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.into_iter().filter_map(|id| self.answered(socket, id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SlotKey;
    use crate::state::credit::Ticket;
    use std::time::Duration;

    fn collect(id: u64, seconds: u64) -> Collect {
        let to = ReplyTo { slot: SlotKey { index: 7, generation: 0 }, ticket: Ticket(id) };
        Collect { id, worker: WorkerId(3), to, timeout: Duration::from_secs(seconds) }
    }

    fn sockets(ids: &[u8]) -> HashSet<SocketId> {
        ids.iter().map(|n| SocketId::from_random([*n; 15])).collect()
    }

    fn socket(n: u8) -> SocketId {
        SocketId::from_random([n; 15])
    }

    #[test]
    fn each_socket_that_was_asked_answers_once() {
        let mut collections = Collections::default();
        collections.open(collect(6, 10), sockets(&[1, 2]), Instant::now());
        assert_eq!(collections.answered(socket(9), 6), None);
        assert_eq!(collections.answered(socket(1), 10), None);
        assert_eq!(collections.answered(socket(1), 6), Some((WorkerId(3), collect(6, 10).to)));
        assert_eq!(collections.answered(socket(1), 6), None);
        assert!(collections.answered(socket(2), 6).is_some());
        assert!(collections.by_id.is_empty());
    }

    #[test]
    fn who_has_gone_is_missed_wherever_it_was_awaited() {
        let mut collections = Collections::default();
        collections.open(collect(6, 10), sockets(&[1, 2]), Instant::now());
        collections.open(collect(10, 10), sockets(&[1]), Instant::now());
        assert_eq!(collections.gone(socket(1)).len(), 2);
        assert_eq!(collections.gone(socket(1)), []);
        assert_eq!(collections.by_id.len(), 1);
    }

    #[test]
    fn what_is_overdue_is_forgotten() {
        let (mut collections, now) = (Collections::default(), Instant::now());
        for n in 0..10 * CROWDED as u64 {
            collections.open(collect(4 * n + 2, 1), sockets(&[1]), now + Duration::from_secs(n));
            assert!(collections.by_id.len() <= CROWDED + 1, "{}", collections.by_id.len());
        }
    }
}
