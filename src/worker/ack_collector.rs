//! Acks of an event that was emitted to many sockets: the collector on the worker of the sender,
//! and the routes by which acks from other workers reach the collector.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::ids::{AckId, SocketId, WorkerId};
use crate::messages::answer::{Collected, EmitRefusal, Missing, ReplyTo, RequestError, answer};
use crate::messages::fanout::Collect;
use crate::protocol::socketio::packet::Args;
use crate::state::budget::Charge;

#[derive(Debug)]
pub(crate) struct AckCollector {
    caller: oneshot::Sender<Result<Collected, RequestError<EmitRefusal>>>,
    pub(super) timeout: Duration,
    /// Number of workers with members in the target. `None` until the hub has answered.
    workers: Option<usize>,
    /// Number of workers that have reported their receivers. Reports may arrive before the hub's
    /// answer.
    workers_reported: usize,
    awaiting: HashSet<SocketId>,
    collected: Collected,
    bytes: usize,
    charge: Charge,
}

impl AckCollector {
    pub(super) fn new(
        caller: oneshot::Sender<Result<Collected, RequestError<EmitRefusal>>>,
        timeout: Duration,
        charge: Charge,
    ) -> Self {
        Self {
            caller,
            timeout,
            workers: None,
            workers_reported: 0,
            awaiting: HashSet::new(),
            collected: Collected::default(),
            bytes: 0,
            charge,
        }
    }

    pub(super) fn expect(&mut self, workers: usize) {
        self.workers = Some(workers);
    }

    /// Adds the sockets on one worker that have received the event.
    pub(super) fn add_receivers(&mut self, sockets: impl Iterator<Item = SocketId>) {
        self.workers_reported += 1;
        self.awaiting.extend(sockets);
    }

    /// Records the ack of a socket. `args` is `None` if the socket has disconnected. An ack over
    /// the byte limit or the budget counts as `TooMuch`.
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

    /// Returns whether the hub has emitted the event.
    pub(super) fn is_emitted(&self) -> bool {
        self.workers.is_some()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.workers == Some(self.workers_reported) && self.awaiting.is_empty()
    }

    /// Sends the collected acks to the caller. Sockets that have not acknowledged yet are reported
    /// as `Late`.
    pub(super) fn finish(mut self) {
        let late = self.awaiting.into_iter().map(|socket| (socket, Missing::Late));
        self.collected.missing.extend(late);
        answer(self.caller, Ok(self.collected));
    }

    pub(super) fn fail(self, error: RequestError<EmitRefusal>) {
        answer(self.caller, Err(error));
    }
}

struct AckRoute {
    worker: WorkerId,
    to: ReplyTo,
    until: Instant,
    awaiting: HashSet<SocketId>,
}

/// Routes of acks from receivers on this worker to their collectors. `collections_max` bounds the
/// number of collections of each sender.
#[derive(Default)]
pub(super) struct AckRoutes {
    by_id: HashMap<AckId, AckRoute>,
    /// Number of routes at which expired routes are removed. Each removal sets this to twice the
    /// number of remaining routes, so that the amortized cost of a removal is constant.
    sweep_at: usize,
}

/// Minimum number of routes at which expired routes are removed.
const SWEEP_MIN: usize = 64;

impl AckRoutes {
    /// Opens a route for the acks of the sockets in `awaiting`. Opens none if there are no such
    /// sockets.
    pub(super) fn open(&mut self, collect: Collect, awaiting: HashSet<SocketId>, now: Instant) {
        if self.by_id.len() >= self.sweep_at.max(SWEEP_MIN) {
            self.by_id.retain(|_, ack_route| ack_route.until > now);
            self.sweep_at = 2 * self.by_id.len();
        }
        if !awaiting.is_empty() {
            let Collect { id, worker, to, timeout } = collect;
            self.by_id.insert(id, AckRoute { worker, to, until: now + timeout, awaiting });
        }
    }

    /// Records an ack. Returns its destination, or `None` if no ack of this socket is awaited.
    pub(super) fn on_answer(&mut self, socket: SocketId, id: AckId) -> Option<(WorkerId, ReplyTo)> {
        let ack_route = self.by_id.get_mut(&id)?;
        if !ack_route.awaiting.remove(&socket) {
            return None;
        }
        let route = (ack_route.worker, ack_route.to);
        if ack_route.awaiting.is_empty() {
            self.by_id.remove(&id);
        }
        Some(route)
    }

    /// Removes a disconnected socket. Returns the destinations that await its ack.
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
    fn only_the_first_ack_of_a_receiver_counts() {
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
    fn a_disconnected_socket_is_removed_from_all_collections() {
        let mut ack_routes = AckRoutes::default();
        ack_routes.open(collect(1, 10), sockets(&[1, 2]), Instant::now());
        ack_routes.open(collect(2, 10), sockets(&[1]), Instant::now());
        assert_eq!(ack_routes.remove_socket(socket(1)).len(), 2);
        assert_eq!(ack_routes.remove_socket(socket(1)), []);
        assert_eq!(ack_routes.by_id.len(), 1);
    }

    #[test]
    fn expired_routes_are_removed() {
        let (mut ack_routes, now) = (AckRoutes::default(), Instant::now());
        for n in 0..10 * SWEEP_MIN as u64 {
            ack_routes.open(collect(n, 1), sockets(&[1]), now + Duration::from_secs(n));
            assert!(ack_routes.by_id.len() <= SWEEP_MIN + 1, "{}", ack_routes.by_id.len());
        }
    }
}
