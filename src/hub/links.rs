//! The hub's lines to its workers: one batch a turn, and the account of what each worker has not written out yet.

use std::collections::VecDeque;
use std::sync::Arc;

use actix::Recipient;
use actix::dev::SendError;
use smallvec::SmallVec;

use crate::ids::{Offset, WorkerId};
use crate::messages::fanout::{Delivery, FanoutBatch, FanoutCommand, Outcome, Replay};
use crate::messages::hub::ReplyTo;
use crate::messages::socket::SocketInfo;
use crate::protocol::encoded::Message;
use crate::protocol::reason::DisconnectReason;
use crate::state::outbox::PACKET_OVERHEAD_BYTES;

struct Link {
    fanout: Recipient<FanoutBatch>,
    /// For this turn, or kept while the worker's mailbox is full.
    batch: Vec<FanoutCommand>,
    /// Bytes delivered and not yet reported as consumed.
    unwritten: usize,
}

/// What [`Links::flush`] met.
#[derive(Debug, Default)]
pub(super) struct Flushed {
    /// A mailbox was full; its batch is kept.
    pub(super) full: bool,
    /// Workers that are gone.
    pub(super) dead: Vec<WorkerId>,
}

/// All workers, by number.
pub(super) struct Links {
    links: Vec<Option<Link>>,
    unwritten_max: usize,
    /// Answers to publishers, held while a worker is behind: their credit dries up, and in the end their TCP windows.
    /// Bounded by that credit.
    held: VecDeque<(WorkerId, ReplyTo, Outcome)>,
}

impl Links {
    pub(super) fn new(unwritten_max: usize) -> Self {
        Self { links: Vec::new(), unwritten_max, held: VecDeque::new() }
    }

    pub(super) fn register(&mut self, worker: WorkerId, fanout: Recipient<FanoutBatch>) {
        let index = usize::from(worker.0);
        if self.links.len() <= index {
            self.links.resize_with(index + 1, || None);
        }
        self.links[index] = Some(Link { fanout, batch: Vec::new(), unwritten: 0 });
    }

    pub(super) fn workers(&self) -> impl Iterator<Item = WorkerId> + use<> {
        let present: SmallVec<[WorkerId; 16]> =
            (0..).zip(&self.links).filter(|(_, link)| link.is_some()).map(|(id, _)| WorkerId(id)).collect();
        present.into_iter()
    }

    pub(super) fn tell(&mut self, worker: WorkerId, command: FanoutCommand) {
        if let Some(link) = self.link(worker) {
            link.batch.push(command);
        }
    }

    pub(super) fn deliver(&mut self, worker: WorkerId, delivery: Delivery) {
        if let Some(link) = self.link(worker) {
            link.unwritten += delivery.weight;
            link.batch.push(FanoutCommand::Deliver(Box::new(delivery)));
        }
    }

    /// Gives a socket what it has missed, booked like what is delivered.
    pub(super) fn replay(&mut self, worker: WorkerId, mut replay: Replay) {
        if let Some(link) = self.link(worker) {
            let cost = |(_, message): &(Offset, Message)| message.byte_len() + PACKET_OVERHEAD_BYTES;
            replay.weight = replay.events.iter().map(cost).sum();
            link.unwritten += replay.weight;
            link.batch.push(FanoutCommand::Replay(Box::new(replay)));
        }
    }

    /// Answers what costs no worker anything.
    pub(super) fn answer(&mut self, worker: WorkerId, to: ReplyTo, outcome: Outcome) {
        self.tell(worker, FanoutCommand::Answer { to, outcome });
    }

    /// Answers a publisher, now or when no worker is behind any more.
    pub(super) fn answer_publisher(&mut self, worker: WorkerId, to: ReplyTo, outcome: Outcome) {
        if self.held.is_empty() && !self.is_pressed() {
            self.answer(worker, to, outcome);
        } else {
            self.held.push_back((worker, to, outcome));
        }
    }

    pub(super) fn fetched(&mut self, worker: WorkerId, to: ReplyTo, sockets: Vec<Arc<SocketInfo>>) {
        self.tell(worker, FanoutCommand::Fetched { slot: to.slot, ticket: to.ticket, sockets });
    }

    pub(super) fn consumed(&mut self, worker: WorkerId, bytes: usize) {
        if let Some(link) = self.link(worker) {
            link.unwritten = link.unwritten.saturating_sub(bytes);
        }
        if !self.is_pressed() {
            self.release_held();
        }
    }

    pub(super) fn close_all(&mut self, reason: DisconnectReason) {
        for worker in self.workers() {
            self.tell(worker, FanoutCommand::CloseAll(reason));
        }
    }

    /// Answers to publishers that wait.
    pub(super) fn answers_held(&self) -> usize {
        self.held.len()
    }

    /// Bytes delivered to all workers and not yet reported as consumed.
    pub(super) fn unwritten(&self) -> usize {
        self.links.iter().flatten().map(|link| link.unwritten).sum()
    }

    pub(super) fn flush(&mut self) -> Flushed {
        let mut flushed = Flushed::default();
        for (id, place) in (0..).zip(&mut self.links) {
            let Some(link) = place else { continue };
            if link.batch.is_empty() {
                continue;
            }
            let commands = std::mem::take(&mut link.batch);
            match link.fanout.try_send(FanoutBatch { commands }) {
                Ok(()) => {}
                Err(SendError::Full(batch)) => {
                    link.batch = batch.commands;
                    flushed.full = true;
                }
                Err(SendError::Closed(_)) => {
                    *place = None;
                    flushed.dead.push(WorkerId(id));
                }
            }
        }
        if !flushed.dead.is_empty() && !self.is_pressed() {
            self.release_held();
        }
        flushed
    }

    fn release_held(&mut self) {
        while let Some((worker, to, outcome)) = self.held.pop_front() {
            self.answer(worker, to, outcome);
        }
    }

    fn is_pressed(&self) -> bool {
        self.links.iter().flatten().any(|link| link.unwritten > self.unwritten_max)
    }

    fn link(&mut self, worker: WorkerId) -> Option<&mut Link> {
        self.links.get_mut(usize::from(worker.0))?.as_mut()
    }
}
