//! A sender's gate to the hub: commands that have credit go, the rest wait in order.
//!
//! **Invariant** (order): what one sender's code emits reaches one socket in the order in which it was emitted. A packet
//! for the sender's own client goes straight into the outbox only while nothing is under way at the hub; otherwise it
//! takes the same way as everything before and behind it, through the hub.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::Worker;
use super::collecting::Collecting;
use crate::ids::{NamespacePath, SlotKey, SocketId};
use crate::limits::Limits;
use crate::messages::fanout::{HubRefusal, Outcome};
use crate::messages::hub::{DirectPacket, HubCommand, ReplyTo, ResumeAttempt};
use crate::messages::request::{Done, Joined, Receipt, RequestError, RoomPage, answer};
use crate::messages::socket::SocketInfo;
use crate::protocol::socketio::packet::Args;
use crate::state::budget::Charge;
use crate::state::credit::{Credit, Ticket};
use crate::state::lazy_queue::LazyQueue;

/// Who is told how a command ended.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// Nobody.
    Nobody,
    /// The session itself, which has a socket to open.
    Connect(SocketId),
    /// The session itself, which has a socket to claim.
    Resume(Box<ResumingConnect>),
    /// An emit.
    Emit(Done),
    /// A join.
    Join(oneshot::Sender<Result<Joined, RequestError>>),
    /// A leave.
    Leave(oneshot::Sender<Result<(), RequestError>>),
    /// An emit whose acks are collected.
    Collect(Box<Collecting>),
    /// A question for rooms.
    List(oneshot::Sender<Result<RoomPage, RequestError>>),
    /// A question, of which parts come in.
    Fetch {
        /// Gets the whole.
        asker: oneshot::Sender<Result<Vec<Arc<SocketInfo>>, RequestError>>,
        /// Parts still to come, once the hub has said how many.
        missing: Option<usize>,
        /// What came so far.
        sockets: Vec<Arc<SocketInfo>>,
    },
}

/// A CONNECT whose client claims a session.
#[derive(Debug)]
pub(crate) struct ResumingConnect {
    /// The id of its socket should there be no such session.
    pub(crate) socket: SocketId,
    /// Where it connects.
    pub(crate) namespace: NamespacePath,
    /// What came with it.
    pub(crate) auth: Option<Box<str>>,
    /// What it claims.
    pub(crate) claim: ResumeAttempt,
}

impl Waiter {
    /// Packets without a waiter are acks and the like: they belong to events of the client, which start no handlers while
    /// credit is out. So they are few, as CONNECTs are, and must not be lost. A session's emits to a client that is behind have
    /// none either, since their sender waits for the client: the session bounds them.
    fn can_be_refused(&self) -> bool {
        !matches!(self, Self::Nobody | Self::Connect(_) | Self::Resume(_))
    }

    /// Whether it matters to others, or to code that goes on, when the sender has ended.
    fn outlives_sender(&self) -> bool {
        matches!(self, Self::Emit(_) | Self::Collect(_) | Self::List(_) | Self::Fetch { .. })
    }

    fn fail(self, error: RequestError) {
        match self {
            Self::Nobody | Self::Connect(_) | Self::Resume(_) => {}
            Self::Emit(done) => done.fail(error),
            Self::Join(done) => answer(done, Err(error)),
            Self::Leave(done) => answer(done, Err(error)),
            Self::Collect(collecting) => collecting.fail(error),
            Self::List(asker) => answer(asker, Err(error)),
            Self::Fetch { asker, .. } => answer(asker, Err(error)),
        }
    }
}

impl Answering {
    /// A socket that the hub connects after all must be opened: its client has the reply.
    fn may_expire(&self) -> bool {
        !matches!(self.waiter, Waiter::Connect(_) | Waiter::Resume(_))
    }
}

type Command = Box<dyn FnOnce(ReplyTo) -> HubCommand>;

enum Waiting {
    Command {
        give_up: Instant,
        bytes: usize,
        command: Command,
        waiter: Waiter,
        /// Set when its sender has ended.
        _booked: Option<Departed>,
    },
    /// A command that needs no credit but must keep its place.
    Free(HubCommand),
}

/// The account of a command that waits for credit and whose sender has ended; closed by being dropped.
struct Departed {
    worker: Rc<Worker>,
    bytes: usize,
}

impl Departed {
    /// None if too much waits of such senders already.
    fn book(worker: &Rc<Worker>, bytes: usize) -> Option<Self> {
        let bytes = bytes + size_of::<Waiting>();
        let all = worker.departed_bytes.get() + bytes;
        (all <= worker.limits.departed_bytes_max).then(|| {
            worker.departed_bytes.set(all);
            Self { worker: worker.clone(), bytes }
        })
    }
}

impl Drop for Departed {
    fn drop(&mut self) {
        self.worker.departed_bytes.set(self.worker.departed_bytes.get() - self.bytes);
    }
}

struct Answering {
    ticket: Ticket,
    give_up: Instant,
    waiter: Waiter,
}

/// One sender's gate.
pub(crate) struct Gate {
    worker: Rc<Worker>,
    slot: SlotKey,
    credit: Credit,
    /// In order; the first has no credit yet.
    waiting: LazyQueue<Waiting>,
    /// In ticket order.
    answering: LazyQueue<Answering>,
    /// Of those, emits whose acks are collected.
    collecting: usize,
    /// Whether the sender has ended.
    is_retired: bool,
}

impl Gate {
    pub(crate) fn new(worker: Rc<Worker>, slot: SlotKey) -> Self {
        Self {
            worker,
            slot,
            credit: Credit::default(),
            waiting: LazyQueue::default(),
            answering: LazyQueue::default(),
            collecting: 0,
            is_retired: false,
        }
    }

    /// Whether nothing waits for credit: events of the client may start handlers.
    pub(crate) fn has_credit(&self) -> bool {
        self.waiting.is_empty() && self.allows(0)
    }

    fn allows(&self, bytes: usize) -> bool {
        self.credit.allows(bytes, self.worker.limits())
    }

    /// Whether as many commands wait for credit as may. Some cannot be refused (what answers a client's CONNECTs and
    /// DISCONNECTs), so the session stops reading until it is not.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= self.worker.limits().credit_waiting_max
    }

    /// Sends a command as soon as there is credit for its `bytes`, behind everything submitted before.
    pub(crate) fn submit(
        &mut self,
        now: Instant,
        bytes: usize,
        waiter: Waiter,
        command: impl FnOnce(ReplyTo) -> HubCommand + 'static,
    ) {
        if self.waiting.is_empty() && self.allows(bytes) {
            return self.spend(now, bytes, waiter, command);
        }
        let limits = self.worker.limits();
        if self.waiting.len() >= limits.credit_waiting_max && waiter.can_be_refused() {
            self.worker.metrics().credit_refusals.add(1);
            return waiter.fail(RequestError::Overloaded);
        }
        self.worker.metrics().credit_waits.add(1);
        let give_up = now + limits.credit_timeout;
        self.waiting.push_back(Waiting::Command { give_up, bytes, command: Box::new(command), waiter, _booked: None });
    }

    /// Sends a command that needs no credit, behind everything submitted before.
    pub(crate) fn submit_free(&mut self, command: HubCommand) {
        if self.waiting.is_empty() {
            self.worker.send(command);
        } else {
            self.waiting.push_back(Waiting::Free(command));
        }
    }

    /// Puts a packet into the sender's own outbox, behind everything submitted before.
    /// `now` is asked only if it cannot go straight there.
    pub(crate) fn push(&mut self, now: impl FnOnce() -> Instant, packet: DirectPacket) {
        if self.is_settled() {
            return self.worker.push(self.slot, packet);
        }
        let bytes = packet.byte_len();
        self.submit(now(), bytes, Waiter::Nobody, move |from| HubCommand::Relay { from, packet });
    }

    /// The hub answered. Returns the socket that is now connected, or refused, if that was the question.
    pub(crate) fn answered(&mut self, now: Instant, ticket: Ticket, outcome: Outcome) -> Option<(SocketId, Outcome)> {
        let opened = self.resolve(ticket, outcome);
        self.credited(now, ticket);
        opened
    }

    /// A command's credit is back: others may go.
    fn credited(&mut self, now: Instant, ticket: Ticket) {
        self.credit.on_answer(ticket);
        self.advance(now);
    }

    /// The hub listed rooms.
    pub(crate) fn listed(&mut self, now: Instant, ticket: Ticket, page: RoomPage) {
        if let Some(at) = self.position(ticket)
            && let Some(Answering { waiter: Waiter::List(asker), .. }) = self.take_answering(at)
        {
            answer(asker, Ok(page));
        }
        self.credited(now, ticket);
    }

    /// The hub looked up a claim. Returns whose it was.
    pub(crate) fn claimed(&mut self, now: Instant, ticket: Ticket) -> Option<Box<ResumingConnect>> {
        let waiter = self.position(ticket).and_then(|at| self.take_answering(at)).map(|answering| answering.waiter);
        self.credited(now, ticket);
        match waiter? {
            Waiter::Resume(claimant) => Some(claimant),
            _ => None,
        }
    }

    /// A part of an answer to a question came.
    pub(crate) fn fetched(&mut self, ticket: Ticket, part: Vec<Arc<SocketInfo>>) {
        let Some(at) = self.position(ticket) else { return };
        match self.waiter(at) {
            Some(Waiter::Fetch { missing, sockets, .. }) => {
                sockets.extend(part);
                *missing = missing.map(|parts| parts.saturating_sub(1));
            }
            Some(Waiter::Collect(collecting)) => collecting.got(part.iter().map(|socket| socket.id)),
            _ => {}
        }
        self.finish_question(at);
    }

    /// A client answered an event whose acks are collected, or has gone.
    pub(crate) fn acked(&mut self, ticket: Ticket, socket: SocketId, args: Option<Args>) {
        let Some(at) = self.position(ticket) else { return };
        let bytes_max = self.worker.limits().answers_bytes_max;
        if let Some(Waiter::Collect(collecting)) = self.waiter(at) {
            collecting.answered(socket, args, bytes_max);
        }
        self.finish_question(at);
    }

    /// Of the budget of what clients send, nothing yet.
    pub(super) fn charge(&self) -> Charge {
        Charge::new(self.worker.budgets().incoming.clone())
    }

    /// Bytes of commands that wait for credit.
    pub(crate) fn waiting_bytes(&self) -> usize {
        let bytes = |waiting: &Waiting| match waiting {
            Waiting::Command { bytes, .. } => *bytes,
            Waiting::Free(_) => 0,
        };
        self.waiting.iter().map(bytes).sum()
    }

    /// The server's bounds.
    pub(crate) fn limits(&self) -> &Limits {
        self.worker.limits()
    }

    /// How many emits have their acks collected.
    pub(crate) fn collecting(&self) -> usize {
        self.collecting
    }

    /// Whether nothing waits here and everything is answered.
    pub(crate) fn is_settled(&self) -> bool {
        self.waiting.is_empty() && self.credit.is_settled()
    }

    /// The sender has ended. What others are to hear, and what was asked of the hub, still goes at the pace of this credit; what
    /// needs none goes now, and what concerned only the sender has failed. Emits that wait beyond `departed_bytes_max` fail as those
    /// of an overloaded hub.
    pub(crate) fn retire(&mut self, now: Instant) {
        self.is_retired = true;
        for waiting in self.waiting.take() {
            match waiting {
                // Or the hub would keep sockets that have left.
                Waiting::Free(command) => self.worker.send(command),
                Waiting::Command { waiter, .. } if !waiter.outlives_sender() => waiter.fail(RequestError::Disconnected),
                Waiting::Command { give_up, bytes, command, waiter, .. } => match Departed::book(&self.worker, bytes) {
                    Some(booked) => {
                        let _booked = Some(booked);
                        self.waiting.push_back(Waiting::Command { give_up, bytes, command, waiter, _booked });
                    }
                    None => {
                        self.worker.metrics().credit_refusals.add(1);
                        waiter.fail(RequestError::Overloaded);
                    }
                },
            }
        }
        let until = now + self.worker.limits().hub_answer_timeout;
        for Answering { ticket, give_up, waiter } in self.answering.take() {
            match waiter.outlives_sender() {
                true => self.answering.push_back(Answering { ticket, give_up: give_up.min(until), waiter }),
                false => waiter.fail(RequestError::Disconnected),
            }
        }
        self.advance(now);
    }

    /// Whether nothing waits here for anything: a sender that has ended may go.
    pub(crate) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.answering.is_empty()
    }

    /// Nobody drives the gate any more. What needs no credit still goes, or the hub would keep sockets that have left.
    fn close(&mut self) {
        for waiting in self.waiting.take() {
            match waiting {
                Waiting::Command { waiter, .. } => waiter.fail(RequestError::Disconnected),
                Waiting::Free(command) => self.worker.send(command),
            }
        }
        for Answering { waiter, .. } in self.answering.take() {
            match waiter {
                Waiter::Collect(collecting) if collecting.is_emitted() => collecting.finish(),
                waiter => waiter.fail(RequestError::Unanswered),
            }
        }
    }

    /// When [`Gate::on_timeout`] is next worth a call.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().find_map(|waiting| match waiting {
            Waiting::Command { give_up, waiter, .. } if waiter.can_be_refused() => Some(*give_up),
            _ => None,
        });
        let answering = self.answering.iter().filter(|answering| answering.may_expire());
        waiting.into_iter().chain(answering.map(|answering| answering.give_up)).min()
    }

    /// Gives up what is overdue.
    pub(crate) fn on_timeout(&mut self, now: Instant) {
        let late = |answering: &Answering| answering.give_up <= now && answering.may_expire();
        while let Some(at) = self.answering.iter().position(late) {
            match self.take_answering(at).map(|answering| answering.waiter) {
                Some(Waiter::Collect(collecting)) if collecting.is_emitted() => collecting.finish(),
                Some(waiter) => waiter.fail(RequestError::Unanswered),
                None => break,
            }
        }
        let overdue = |waiting: &Waiting| matches!(waiting, Waiting::Command { give_up, waiter, .. } if *give_up <= now && waiter.can_be_refused());
        while let Some(at) = self.waiting.iter().position(overdue) {
            if let Some(Waiting::Command { waiter, .. }) = self.waiting.remove(at) {
                self.worker.metrics().credit_refusals.add(1);
                waiter.fail(RequestError::Overloaded);
            }
        }
        self.advance(now);
    }

    /// Lets go what may go now.
    fn advance(&mut self, now: Instant) {
        while let Some(first) = self.waiting.front() {
            if matches!(first, Waiting::Command { bytes, .. } if !self.allows(*bytes)) {
                break;
            }
            match self.waiting.pop_front() {
                Some(Waiting::Command { bytes, command, waiter, .. }) => self.spend(now, bytes, waiter, command),
                Some(Waiting::Free(command)) => self.worker.send(command),
                None => break,
            }
        }
    }

    fn spend(&mut self, now: Instant, bytes: usize, waiter: Waiter, command: impl FnOnce(ReplyTo) -> HubCommand) {
        let ticket = self.credit.spend(bytes);
        self.worker.send(command(ReplyTo { slot: self.slot, ticket }));
        match waiter {
            Waiter::Nobody => {}
            Waiter::Emit(Done::WhenTaken(done)) => answer(done, Ok(())),
            waiter => {
                let patience = match &waiter {
                    Waiter::Collect(collecting) if !self.is_retired => collecting.timeout,
                    _ => self.worker.limits().hub_answer_timeout,
                };
                let give_up = now + patience;
                self.collecting += usize::from(matches!(waiter, Waiter::Collect(_)));
                self.answering.push_back(Answering { ticket, give_up, waiter });
            }
        }
    }

    fn position(&self, ticket: Ticket) -> Option<usize> {
        self.answering.binary_search_by_key(&ticket, |answering| answering.ticket).ok()
    }

    fn waiter(&mut self, at: usize) -> Option<&mut Waiter> {
        self.answering.get_mut(at).map(|answering| &mut answering.waiter)
    }

    fn take_answering(&mut self, at: usize) -> Option<Answering> {
        let answering = self.answering.remove(at)?;
        self.collecting -= usize::from(matches!(answering.waiter, Waiter::Collect(_)));
        Some(answering)
    }

    fn resolve(&mut self, ticket: Ticket, outcome: Outcome) -> Option<(SocketId, Outcome)> {
        let at = self.position(ticket)?;
        if let Outcome::Asked { parts } = outcome {
            match self.waiter(at) {
                Some(Waiter::Fetch { missing, sockets, .. }) => {
                    // Every part passes through the hub behind the answer, so none has come yet.
                    debug_assert!(sockets.is_empty());
                    *missing = Some(parts);
                }
                Some(Waiter::Collect(collecting)) => collecting.expect(parts),
                waiter => log::error!("hub answered {waiter:?} with {outcome:?}"),
            }
            self.finish_question(at);
            return None;
        }
        let waiter = self.take_answering(at)?.waiter;
        match (waiter, outcome) {
            (Waiter::Connect(socket), outcome) => return Some((socket, outcome)),
            (waiter, Outcome::Refused(refusal)) => waiter.fail(error(refusal)),
            (Waiter::Emit(Done::WhenNumbered(done)), Outcome::Emitted { offset }) => {
                answer(done, Ok(Receipt { offset }));
            }
            (Waiter::Join(done), Outcome::Joined { members, offset }) => {
                answer(done, Ok(Joined { members, offset }));
            }
            (Waiter::Leave(done), Outcome::Left) => answer(done, Ok(())),
            (Waiter::Nobody, Outcome::Relayed) => {}
            (waiter, outcome) => {
                log::error!("hub answered {waiter:?} with {outcome:?}");
                waiter.fail(RequestError::Unanswered);
            }
        }
        None
    }

    /// Answers a question of which everything has come.
    fn finish_question(&mut self, at: usize) {
        let is_complete = match &self.answering[at].waiter {
            Waiter::Fetch { missing, .. } => *missing == Some(0),
            Waiter::Collect(collecting) => collecting.is_complete(),
            _ => false,
        };
        if !is_complete {
            return;
        }
        match self.take_answering(at).map(|answering| answering.waiter) {
            Some(Waiter::Fetch { asker, sockets, .. }) => answer(asker, Ok(sockets)),
            Some(Waiter::Collect(collecting)) => collecting.finish(),
            _ => {}
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.close();
    }
}

fn error(refusal: HubRefusal) -> RequestError {
    match refusal {
        HubRefusal::NotConnected => RequestError::Disconnected,
        HubRefusal::TooManyRooms => RequestError::TooManyRooms,
        HubRefusal::ForeignRoom => RequestError::ForeignRoom,
        HubRefusal::NoQueue | HubRefusal::DurableNeedsRoom => RequestError::NotDurable,
        HubRefusal::Overloaded | HubRefusal::RoomsSpent => RequestError::Overloaded,
        HubRefusal::TooLarge => RequestError::TooLarge,
    }
}
