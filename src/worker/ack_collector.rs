//! Events that want an ack of each receiver: the collector on the side of the sender, and the routes of a worker
//! by which the acks of its sockets reach it.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::ids::{AckId, SocketId, WorkerId};
use crate::messages::answer::{Collected, EmitRefusal, Missing, ReplyTo, RequestError, answer};
use crate::messages::fanout::Collect;
use crate::protocol::socketio::packet::Args;
use crate::state::budget::Charge;

/// The acks of one emit so far.
#[derive(Debug)]
pub(crate) struct AckCollector {
    asker: oneshot::Sender<Result<Collected, RequestError<EmitRefusal>>>,
    /// For how long acks are awaited.
    pub(super) timeout: Duration,
    /// Workers that have members, once the hub has said how many.
    parts: Option<usize>,
    /// Those that have said who got the event. Their words may come before the hub's.
    parts_seen: usize,
    awaiting: HashSet<SocketId>,
    collected: Collected,
    bytes: usize,
    charge: Charge,
}

impl AckCollector {
    pub(super) fn new(
        asker: oneshot::Sender<Result<Collected, RequestError<EmitRefusal>>>,
        timeout: Duration,
        charge: Charge,
    ) -> Self {
        Self {
            asker,
            timeout,
            parts: None,
            parts_seen: 0,
            awaiting: HashSet::new(),
            collected: Collected::default(),
            bytes: 0,
            charge,
        }
    }

    /// The hub said how many workers have members.
    pub(super) fn expect(&mut self, parts: usize) {
        self.parts = Some(parts);
    }

    /// These got the event.
    pub(super) fn add_receivers(&mut self, sockets: impl Iterator<Item = SocketId>) {
        self.parts_seen += 1;
        self.awaiting.extend(sockets);
    }

    /// One of them answered, or has gone.
    pub(super) fn on_answer(&mut self, socket: SocketId, args: Option<Args>, bytes_max: usize) {
        if !self.awaiting.remove(&socket) {
            return;
        }
        match args {
            Some(args)
                if self.bytes + args.memory_len() <= bytes_max
                    && self.charge.set(self.bytes + args.memory_len()).is_ok() =>
            {
                self.bytes += args.memory_len();
                self.collected.answers.push((socket, args));
            }
            Some(_) => self.collected.missing.push((socket, Missing::TooMuch)),
            None => self.collected.missing.push((socket, Missing::Gone)),
        }
    }

    /// Whether the hub has said that the event is on its way.
    pub(super) fn is_emitted(&self) -> bool {
        self.parts.is_some()
    }

    /// Whether nobody is awaited any more.
    pub(super) fn is_complete(&self) -> bool {
        self.parts == Some(self.parts_seen) && self.awaiting.is_empty()
    }

    /// Hands over what there is; who has not answered is late.
    pub(super) fn finish(mut self) {
        let late = self.awaiting.into_iter().map(|socket| (socket, Missing::Late));
        self.collected.missing.extend(late);
        answer(self.asker, Ok(self.collected));
    }

    /// The event was not emitted.
    pub(super) fn fail(self, error: RequestError<EmitRefusal>) {
        answer(self.asker, Err(error));
    }
}

struct AckRoute {
    worker: WorkerId,
    to: ReplyTo,
    until: Instant,
    awaiting: HashSet<SocketId>,
}

/// The collections of acks on one worker. Bounded by the number that may be open at a time (`collections_max`).
#[derive(Default)]
pub(super) struct AckRoutes {
    by_id: HashMap<AckId, AckRoute>,
    /// From so many on, what is overdue is looked for; doubled with what is left, so that looking costs little each time.
    crowded_at: usize,
}

/// Fewer collections are not worth a look at what is overdue.
const CROWDED: usize = 64;

impl AckRoutes {
    /// These sockets were given an event and are to answer it. Forgets what is overdue once there is much.
    pub(super) fn open(&mut self, collect: Collect, awaiting: HashSet<SocketId>, now: Instant) {
        if self.by_id.len() >= self.crowded_at.max(CROWDED) {
            self.by_id.retain(|_, ack_route| ack_route.until > now);
            self.crowded_at = 2 * self.by_id.len();
        }
        if !awaiting.is_empty() {
            let Collect { id, worker, to, timeout } = collect;
            self.by_id.insert(id, AckRoute { worker, to, until: now + timeout, awaiting });
        }
    }

    /// A socket answered. `None` if it was not asked, or did so before: then the answer goes nowhere.
    pub(super) fn on_answer(&mut self, socket: SocketId, id: AckId) -> Option<(WorkerId, ReplyTo)> {
        let ack_route = self.by_id.get_mut(&id)?;
        if !ack_route.awaiting.remove(&socket) {
            return None;
        }
        let whose = (ack_route.worker, ack_route.to);
        if ack_route.awaiting.is_empty() {
            self.by_id.remove(&id);
        }
        Some(whose)
    }

    /// A socket has gone. Gives all who wait for it.
    pub(super) fn remove_socket(&mut self, socket: SocketId) -> Vec<(WorkerId, ReplyTo)> {
        let waiting = self.by_id.iter().filter(|(_, ack_route)| ack_route.awaiting.contains(&socket));
        let mut ids: Vec<_> = waiting.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.into_iter().filter_map(|id| self.on_answer(socket, id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{AckOwner, SlotKey};
    use crate::state::credit::Ticket;
    use std::time::Duration;

    fn id(number: u64) -> AckId {
        AckId::new(AckOwner::Hub, number)
    }

    fn collect(number: u64, seconds: u64) -> Collect {
        let to = ReplyTo { slot: SlotKey { index: 7, generation: 0 }, ticket: Ticket(number) };
        Collect { id: id(number), worker: WorkerId(3), to, timeout: Duration::from_secs(seconds) }
    }

    fn sockets(ids: &[u8]) -> HashSet<SocketId> {
        ids.iter().map(|n| SocketId::from_random([*n; 15])).collect()
    }

    fn socket(n: u8) -> SocketId {
        SocketId::from_random([n; 15])
    }

    #[test]
    fn each_socket_that_was_asked_answers_once() {
        let mut ack_routes = AckRoutes::default();
        ack_routes.open(collect(1, 10), sockets(&[1, 2]), Instant::now());
        assert_eq!(ack_routes.on_answer(socket(9), id(1)), None);
        assert_eq!(ack_routes.on_answer(socket(1), id(2)), None);
        assert_eq!(ack_routes.on_answer(socket(1), id(1)), Some((WorkerId(3), collect(1, 10).to)));
        assert_eq!(ack_routes.on_answer(socket(1), id(1)), None);
        assert!(ack_routes.on_answer(socket(2), id(1)).is_some());
        assert!(ack_routes.by_id.is_empty());
    }

    #[test]
    fn who_has_gone_is_missed_wherever_it_was_awaited() {
        let mut ack_routes = AckRoutes::default();
        ack_routes.open(collect(1, 10), sockets(&[1, 2]), Instant::now());
        ack_routes.open(collect(2, 10), sockets(&[1]), Instant::now());
        assert_eq!(ack_routes.remove_socket(socket(1)).len(), 2);
        assert_eq!(ack_routes.remove_socket(socket(1)), []);
        assert_eq!(ack_routes.by_id.len(), 1);
    }

    #[test]
    fn what_is_overdue_is_forgotten() {
        let (mut ack_routes, now) = (AckRoutes::default(), Instant::now());
        for n in 0..10 * CROWDED as u64 {
            ack_routes.open(collect(n, 1), sockets(&[1]), now + Duration::from_secs(n));
            assert!(ack_routes.by_id.len() <= CROWDED + 1, "{}", ack_routes.by_id.len());
        }
    }
}
