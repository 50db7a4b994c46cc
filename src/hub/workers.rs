//! The hub's links to its workers. A link has the worker's queued commands, its number of unwritten
//! bytes, and its sockets that wait for a replay.

use std::collections::VecDeque;

use actix::Recipient;
use actix::dev::SendError;
use smallvec::SmallVec;

use super::replaying::{REPLAY_BYTES_MAX, WaitingReader};
use crate::ids::{Lsn, Offset, SlotKey, SocketId, WorkerId};
use crate::messages::answer::{Answer, ReplyTo};
use crate::messages::fanout::{Delivery, FanoutBatch, FanoutCommand, Replay};
use crate::messages::session::SocketRef;
use crate::protocol::encoded::Message;
use crate::protocol::reason::DisconnectReason;
use crate::state::outbox::PACKET_OVERHEAD_BYTES;
use crate::state::schedule::Load;

struct Link {
    fanout: Recipient<FanoutBatch>,
    /// Commands of this turn, after those that a full mailbox has not accepted.
    batch: Vec<FanoutCommand>,
    /// Delivered bytes that the worker has not yet reported as written.
    unwritten: usize,
    /// Replayed bytes that the worker has not yet reported as written. Unlike `unwritten`, they do
    /// not delay senders.
    replaying: usize,
    /// True once a session of the worker has connected. The server sender has no sessions.
    has_sessions: bool,
    /// Sockets that wait for a replay. A socket is queued at most once.
    readers: VecDeque<WaitingReader>,
}

impl Link {
    /// Returns true if a socket waits for a replay and the worker has room for one.
    fn may_replay(&self) -> bool {
        !self.readers.is_empty() && self.replaying < REPLAY_BYTES_MAX
    }
}

#[derive(Debug, Default)]
pub(super) struct FlushReport {
    /// True if the mailbox of a worker was full. The worker's batch is then kept for a retry.
    pub(super) full: bool,
    pub(super) dead: Vec<WorkerId>,
}

pub(super) struct WorkerLinks {
    workers: Vec<Option<Link>>,
    unwritten_max: usize,
    /// Index of the worker that received the last replay.
    last_served: usize,
}

impl WorkerLinks {
    pub(super) fn new(unwritten_max: usize) -> Self {
        Self { workers: Vec::new(), unwritten_max, last_served: 0 }
    }

    pub(super) fn register(&mut self, worker: WorkerId, fanout: Recipient<FanoutBatch>) {
        let index = usize::from(worker.0);
        if self.workers.len() <= index {
            self.workers.resize_with(index + 1, || None);
        }
        let (batch, readers) = (Vec::new(), VecDeque::new());
        self.workers[index] = Some(Link { fanout, batch, unwritten: 0, replaying: 0, has_sessions: false, readers });
    }

    pub(super) fn workers(&self) -> impl Iterator<Item = WorkerId> + use<> {
        let present: SmallVec<[WorkerId; 16]> =
            (0..).zip(&self.workers).filter(|(_, link)| link.is_some()).map(|(id, _)| WorkerId(id)).collect();
        present.into_iter()
    }

    pub(super) fn queue_command(&mut self, worker: WorkerId, command: FanoutCommand) {
        if let Some(link) = self.link(worker) {
            link.batch.push(command);
        }
    }

    pub(super) fn deliver(&mut self, worker: WorkerId, delivery: Delivery) {
        if let Some(link) = self.link(worker) {
            link.unwritten += delivery.fanout_bytes;
            link.batch.push(FanoutCommand::Deliver(Box::new(delivery)));
        }
    }

    pub(super) fn note_sessions(&mut self, worker: WorkerId) {
        if let Some(link) = self.link(worker) {
            link.has_sessions = true;
        }
    }

    pub(super) fn has_sessions(&self, worker: WorkerId) -> bool {
        self.workers.get(usize::from(worker.0)).and_then(Option::as_ref).is_some_and(|link| link.has_sessions)
    }

    pub(super) fn queue_reader(&mut self, worker: WorkerId, slot: SlotKey, socket: SocketId, after: Lsn) {
        if let Some(link) = self.link(worker) {
            link.readers.push_back(WaitingReader { slot, socket, after });
        }
    }

    /// Removes and returns the next socket that may receive a replay. Workers take turns.
    pub(super) fn next_reader(&mut self) -> Option<(WorkerId, WaitingReader)> {
        for _ in 0..self.workers.len() {
            self.last_served = (self.last_served + 1) % self.workers.len();
            if let Some(link) = &mut self.workers[self.last_served]
                && link.may_replay()
            {
                let worker = WorkerId(u16::try_from(self.last_served).ok()?);
                return link.readers.pop_front().map(|reader| (worker, reader));
            }
        }
        None
    }

    pub(super) fn has_readers(&self) -> bool {
        self.workers.iter().flatten().any(Link::may_replay)
    }

    /// Queues a replay and adds its bytes to the worker's replayed bytes in flight.
    pub(super) fn replay(&mut self, worker: WorkerId, mut replay: Replay) {
        if let Some(link) = self.link(worker) {
            let cost = |(_, message): &(Offset, Message)| message.byte_len() + PACKET_OVERHEAD_BYTES;
            replay.fanout_bytes = replay.events.iter().map(cost).sum();
            link.replaying += replay.fanout_bytes;
            link.batch.push(FanoutCommand::Replay(Box::new(replay)));
        }
    }

    pub(super) fn answer(&mut self, worker: WorkerId, to: ReplyTo, answer: Answer) {
        self.queue_command(worker, FanoutCommand::Answer { to, answer });
    }

    pub(super) fn send_sockets(&mut self, worker: WorkerId, to: ReplyTo, sockets: Vec<SocketRef>) {
        self.queue_command(worker, FanoutCommand::Fetched { slot: to.slot, ticket: to.ticket, sockets });
    }

    /// Handles a worker's report of written bytes: `bytes` of deliveries and `replayed` of replays.
    pub(super) fn on_consumed(&mut self, worker: WorkerId, bytes: usize, replayed: usize) {
        if let Some(link) = self.link(worker) {
            link.unwritten = link.unwritten.saturating_sub(bytes);
            link.replaying = link.replaying.saturating_sub(replayed);
        }
    }

    pub(super) fn close_all(&mut self, reason: DisconnectReason) {
        for worker in self.workers() {
            self.queue_command(worker, FanoutCommand::CloseAll(reason));
        }
    }

    pub(super) fn unwritten(&self) -> usize {
        self.workers.iter().flatten().map(|link| link.unwritten).sum()
    }

    pub(super) fn flush(&mut self) -> FlushReport {
        let mut report = FlushReport::default();
        for (id, entry) in (0..).zip(&mut self.workers) {
            let Some(link) = entry else { continue };
            if link.batch.is_empty() {
                continue;
            }
            let commands = std::mem::take(&mut link.batch);
            match link.fanout.try_send(FanoutBatch { commands }) {
                Ok(()) => {}
                Err(SendError::Full(batch)) => {
                    link.batch = batch.commands;
                    report.full = true;
                }
                Err(SendError::Closed(_)) => {
                    *entry = None;
                    report.dead.push(WorkerId(id));
                }
            }
        }
        report
    }

    /// The load of the worker with the largest backlog. Beyond a quarter of `worker_bytes_max`, the
    /// events of senders that have used up their quantum wait.
    pub(super) fn load(&self) -> Load {
        match self.workers.iter().flatten().map(|link| link.unwritten).max().unwrap_or(0) {
            unwritten if unwritten > self.unwritten_max => Load::Full,
            unwritten if unwritten > self.unwritten_max / 4 => Load::Pressed,
            _ => Load::Light,
        }
    }

    fn link(&mut self, worker: WorkerId) -> Option<&mut Link> {
        self.workers.get_mut(usize::from(worker.0))?.as_mut()
    }
}
