//! A sender's credit towards the hub: commands that have credit go, the rest wait in order.
//!
//! **Invariant** (order): what one sender's code emits reaches one socket in the order in which it was emitted. A packet
//! for the sender's own client goes straight into the outbox only while nothing is under way at the hub; otherwise it
//! takes the same way as everything before and behind it, through the hub.

use std::rc::Rc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::Worker;
use super::ack_collector::AckCollector;
use super::outbox_handle::OutboxHandle;
use crate::ids::SocketId;
use crate::limits::Limits;
use crate::messages::answer::{
    Answer, ConnectAnswer, Done, Joined, NoAnswer, ReplyTo, RequestError, ResumedSession, RoomPage, answer,
};
use crate::messages::event::DirectPacket;
use crate::messages::hub::OrderedCommand;
use crate::messages::session::SocketRef;
use crate::protocol::reason::NotRecovered;
use crate::protocol::socketio::packet::Args;
use crate::state::budget::Charge;
use crate::state::credit::{Credit, Ticket};
use crate::state::lazy_queue::LazyQueue;
use crate::state::rooms::MembershipError;

/// The caller that waits for the end of a command.
#[derive(Debug)]
pub(crate) enum PendingReply {
    /// No caller waits.
    Nobody,
    /// The session itself, which has a socket to open.
    Connect(SocketId),
    /// The session itself, which has a socket to resume.
    Resume(SocketId),
    Emit(Done),
    Join(oneshot::Sender<Result<Joined, RequestError<MembershipError>>>),
    Leave(oneshot::Sender<Result<(), NoAnswer>>),
    /// An emit whose acks are collected.
    Collect(Box<AckCollector>),
    /// A question for rooms.
    List(oneshot::Sender<Result<RoomPage, NoAnswer>>),
    /// A question, of which parts come in.
    Fetch {
        /// Gets the whole.
        asker: oneshot::Sender<Result<Vec<SocketRef>, NoAnswer>>,
        /// Parts still to come, once the hub has said how many.
        missing: Option<usize>,
        /// The answers so far.
        sockets: Vec<SocketRef>,
    },
}

impl PendingReply {
    /// Packets without a waiter are acks and the like: they belong to events of the client, which start no handlers while
    /// credit is out. So they are few, as CONNECTs are, and must not be lost. A session's emits to a client that is behind have
    /// none either, since their sender waits for the client: the session bounds them.
    fn can_be_refused(&self) -> bool {
        !matches!(self, Self::Nobody | Self::Connect(_) | Self::Resume(_))
    }

    /// Whether it matters to others, or to code that continues, when the sender has ended.
    fn outlives_sender(&self) -> bool {
        matches!(self, Self::Emit(_) | Self::Collect(_) | Self::List(_) | Self::Fetch { .. })
    }

    /// Completes with the answer of its kind. Returns an answer that concerns the session itself.
    fn resolve(self, given: Answer) -> Option<SessionAnswer> {
        match (self, given) {
            (Self::Connect(socket), Answer::Connect(how)) => return Some(SessionAnswer::Connect(socket, how)),
            (Self::Resume(socket), Answer::ResumeChecked(session)) => {
                return Some(SessionAnswer::ResumeChecked(socket, session));
            }
            (Self::Emit(done), Answer::Emit(result)) => done.complete(result.map_err(RequestError::Refused)),
            (Self::Join(done), Answer::Join(result)) => answer(done, result.map_err(RequestError::Refused)),
            (Self::Leave(done), Answer::Leave) => answer(done, Ok(())),
            (Self::List(asker), Answer::List(page)) => answer(asker, Ok(page)),
            (Self::Collect(collecting), Answer::Collect(Err(refusal))) => {
                collecting.fail(RequestError::Refused(refusal));
            }
            _ => log::error!("hub answered a command with an answer of another kind"),
        }
        None
    }

    fn fail(self, error: NoAnswer) {
        match self {
            Self::Nobody | Self::Connect(_) | Self::Resume(_) => {}
            Self::Emit(done) => done.fail(error),
            Self::Join(done) => answer(done, Err(error.into())),
            Self::Leave(done) => answer(done, Err(error)),
            Self::Collect(collecting) => collecting.fail(error.into()),
            Self::List(asker) => answer(asker, Err(error)),
            Self::Fetch { asker, .. } => answer(asker, Err(error)),
        }
    }
}

/// An answer that concerns the session itself.
#[derive(Debug)]
pub(crate) enum SessionAnswer {
    /// To a socket that it connects.
    Connect(SocketId, ConnectAnswer),
    /// To a client that claims a session.
    ResumeChecked(SocketId, Result<ResumedSession, NotRecovered>),
}

impl AwaitedReply {
    /// A socket that the hub connects after all must be opened: its client has the reply.
    fn may_expire(&self) -> bool {
        !matches!(self.reply, PendingReply::Connect(_) | PendingReply::Resume(_))
    }
}

type Command = Box<dyn FnOnce(ReplyTo) -> OrderedCommand>;

enum QueuedCommand {
    Command {
        give_up: Instant,
        bytes: usize,
        command: Command,
        reply: PendingReply,
        /// Set when its sender has ended.
        _booked: Option<OrphanedCommand>,
    },
    /// A command that needs no credit but must keep its place.
    Free(OrderedCommand),
}

/// The account of a command that waits for credit and whose sender has ended; closed by being dropped.
struct OrphanedCommand {
    worker: Rc<Worker>,
    bytes: usize,
}

impl OrphanedCommand {
    /// None if too much waits of such senders already.
    fn book(worker: &Rc<Worker>, bytes: usize) -> Option<Self> {
        let bytes = bytes + size_of::<QueuedCommand>();
        let all = worker.departed_bytes.get() + bytes;
        (all <= worker.limits.hub.departed_bytes_max).then(|| {
            worker.departed_bytes.set(all);
            Self { worker: worker.clone(), bytes }
        })
    }
}

impl Drop for OrphanedCommand {
    fn drop(&mut self) {
        self.worker.departed_bytes.set(self.worker.departed_bytes.get() - self.bytes);
    }
}

struct AwaitedReply {
    ticket: Ticket,
    give_up: Instant,
    reply: PendingReply,
}

/// One sender's credit, and the commands that wait for it.
pub(crate) struct CreditWindow {
    outbox: Rc<OutboxHandle>,
    credit: Credit,
    /// In order; the first has no credit yet.
    waiting: LazyQueue<QueuedCommand>,
    /// In ticket order.
    awaited: LazyQueue<AwaitedReply>,
    /// Of those, emits whose acks are collected.
    collecting: usize,
    /// Whether the sender has ended.
    is_retired: bool,
}

impl CreditWindow {
    pub(crate) fn new(outbox: Rc<OutboxHandle>) -> Self {
        Self {
            outbox,
            credit: Credit::default(),
            waiting: LazyQueue::default(),
            awaited: LazyQueue::default(),
            collecting: 0,
            is_retired: false,
        }
    }

    /// Whether nothing waits for credit: events of the client may start handlers.
    pub(crate) fn has_credit(&self) -> bool {
        self.waiting.is_empty() && self.allows(0)
    }

    fn allows(&self, bytes: usize) -> bool {
        self.credit.allows(bytes, self.outbox.worker.limits())
    }

    /// Whether as many commands wait for credit as may. Some cannot be refused (what answers a client's CONNECTs and
    /// DISCONNECTs), so the session stops reading until it is not.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= self.outbox.worker.limits().hub.credit_waiting_max
    }

    /// Sends a command as soon as there is credit for its `bytes`, behind everything submitted before.
    pub(crate) fn submit(
        &mut self,
        now: Instant,
        bytes: usize,
        reply: PendingReply,
        command: impl FnOnce(ReplyTo) -> OrderedCommand + 'static,
    ) {
        if self.waiting.is_empty() && self.allows(bytes) {
            return self.spend(now, bytes, reply, command);
        }
        let limits = self.outbox.worker.limits();
        if self.waiting.len() >= limits.hub.credit_waiting_max && reply.can_be_refused() {
            self.outbox.worker.metrics().credit_refusals.add(1);
            return reply.fail(NoAnswer::Overloaded);
        }
        self.outbox.worker.metrics().credit_waits.add(1);
        let give_up = now + limits.hub.credit_timeout;
        self.waiting.push_back(QueuedCommand::Command {
            give_up,
            bytes,
            command: Box::new(command),
            reply,
            _booked: None,
        });
    }

    /// Sends a command that needs no credit, behind everything submitted before.
    pub(crate) fn submit_free(&mut self, command: OrderedCommand) {
        if self.waiting.is_empty() {
            self.outbox.worker.send(command);
        } else {
            self.waiting.push_back(QueuedCommand::Free(command));
        }
    }

    /// Puts a packet into the sender's own outbox, behind everything submitted before.
    /// `now` is asked only if it cannot go straight there.
    pub(crate) fn push(&mut self, now: impl FnOnce() -> Instant, packet: DirectPacket) {
        if self.is_settled() {
            return self.outbox.push(packet);
        }
        let bytes = packet.byte_len();
        self.submit(now(), bytes, PendingReply::Nobody, move |from| OrderedCommand::Relay { from, packet });
    }

    /// The hub answered. Returns what the session itself wanted to know.
    pub(crate) fn on_answer(&mut self, now: Instant, ticket: Ticket, answer: Answer) -> Option<SessionAnswer> {
        let for_session = self.resolve(ticket, answer);
        // Others may go now.
        self.credit.on_answer(ticket);
        self.advance(now);
        for_session
    }

    /// A part of an answer to a question came.
    pub(crate) fn on_sockets(&mut self, ticket: Ticket, part: Vec<SocketRef>) {
        let Some(at) = self.position(ticket) else { return };
        match self.reply(at) {
            Some(PendingReply::Fetch { missing, sockets, .. }) => {
                sockets.extend(part);
                *missing = missing.map(|parts| parts.saturating_sub(1));
            }
            Some(PendingReply::Collect(collecting)) => {
                collecting.add_receivers(part.iter().map(|socket| socket.info.id))
            }
            _ => {}
        }
        self.finish_question(at);
    }

    /// A client answered an event whose acks are collected, or has gone.
    pub(crate) fn on_ack(&mut self, ticket: Ticket, socket: SocketId, args: Option<Args>) {
        let Some(at) = self.position(ticket) else { return };
        let bytes_max = self.outbox.worker.limits().acks.answers_bytes_max;
        if let Some(PendingReply::Collect(collecting)) = self.reply(at) {
            collecting.on_answer(socket, args, bytes_max);
        }
        self.finish_question(at);
    }

    /// Of the budget of what clients send, nothing yet.
    pub(super) fn charge(&self) -> Charge {
        Charge::new(self.outbox.worker.budgets().incoming.clone())
    }

    /// Bytes of commands that wait for credit.
    pub(crate) fn waiting_bytes(&self) -> usize {
        let bytes = |waiting: &QueuedCommand| match waiting {
            QueuedCommand::Command { bytes, .. } => *bytes,
            QueuedCommand::Free(_) => 0,
        };
        self.waiting.iter().map(bytes).sum()
    }

    /// The server's bounds.
    pub(crate) fn limits(&self) -> &Limits {
        self.outbox.worker.limits()
    }

    /// Number of emits whose acks are collected.
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
                QueuedCommand::Free(command) => self.outbox.worker.send(command),
                QueuedCommand::Command { reply, .. } if !reply.outlives_sender() => reply.fail(NoAnswer::Disconnected),
                QueuedCommand::Command { give_up, bytes, command, reply, .. } => {
                    match OrphanedCommand::book(&self.outbox.worker, bytes) {
                        Some(booked) => {
                            let _booked = Some(booked);
                            self.waiting.push_back(QueuedCommand::Command { give_up, bytes, command, reply, _booked });
                        }
                        None => {
                            self.outbox.worker.metrics().credit_refusals.add(1);
                            reply.fail(NoAnswer::Overloaded);
                        }
                    }
                }
            }
        }
        let until = now + self.outbox.worker.limits().hub.answer_timeout;
        for AwaitedReply { ticket, give_up, reply } in self.awaited.take() {
            if reply.outlives_sender() {
                self.awaited.push_back(AwaitedReply { ticket, give_up: give_up.min(until), reply })
            } else {
                reply.fail(NoAnswer::Disconnected)
            }
        }
        self.advance(now);
    }

    /// Whether nothing waits here for anything: a sender that has ended may go.
    pub(crate) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.awaited.is_empty()
    }

    /// Nobody drives the credit window any more. What needs no credit still goes, or the hub would keep sockets that have left.
    fn close(&mut self) {
        for waiting in self.waiting.take() {
            match waiting {
                QueuedCommand::Command { reply, .. } => reply.fail(NoAnswer::Disconnected),
                QueuedCommand::Free(command) => self.outbox.worker.send(command),
            }
        }
        for AwaitedReply { reply, .. } in self.awaited.take() {
            match reply {
                PendingReply::Collect(collecting) if collecting.is_emitted() => collecting.finish(),
                reply => reply.fail(NoAnswer::Unanswered),
            }
        }
    }

    /// When [`CreditWindow::on_timeout`] is next worth a call.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().find_map(|waiting| match waiting {
            QueuedCommand::Command { give_up, reply, .. } if reply.can_be_refused() => Some(*give_up),
            _ => None,
        });
        let awaited = self.awaited.iter().filter(|awaited| awaited.may_expire());
        waiting.into_iter().chain(awaited.map(|awaited| awaited.give_up)).min()
    }

    /// Gives up what is overdue.
    pub(crate) fn on_timeout(&mut self, now: Instant) {
        let late = |awaited: &AwaitedReply| awaited.give_up <= now && awaited.may_expire();
        while let Some(at) = self.awaited.iter().position(late) {
            match self.take_reply(at) {
                Some(PendingReply::Collect(collecting)) if collecting.is_emitted() => collecting.finish(),
                Some(reply) => reply.fail(NoAnswer::Unanswered),
                None => break,
            }
        }
        let overdue = |waiting: &QueuedCommand| matches!(waiting, QueuedCommand::Command { give_up, reply, .. } if *give_up <= now && reply.can_be_refused());
        while let Some(at) = self.waiting.iter().position(overdue) {
            if let Some(QueuedCommand::Command { reply, .. }) = self.waiting.remove(at) {
                self.outbox.worker.metrics().credit_refusals.add(1);
                reply.fail(NoAnswer::Overloaded);
            }
        }
        self.advance(now);
    }

    /// Lets go what may go now.
    fn advance(&mut self, now: Instant) {
        while let Some(first) = self.waiting.front() {
            if matches!(first, QueuedCommand::Command { bytes, .. } if !self.allows(*bytes)) {
                break;
            }
            match self.waiting.pop_front() {
                Some(QueuedCommand::Command { bytes, command, reply, .. }) => self.spend(now, bytes, reply, command),
                Some(QueuedCommand::Free(command)) => self.outbox.worker.send(command),
                None => break,
            }
        }
    }

    fn spend(
        &mut self,
        now: Instant,
        bytes: usize,
        reply: PendingReply,
        command: impl FnOnce(ReplyTo) -> OrderedCommand,
    ) {
        let ticket = self.credit.spend(bytes);
        self.outbox.worker.send(command(ReplyTo { slot: self.outbox.slot, ticket }));
        match reply {
            PendingReply::Nobody => {}
            PendingReply::Emit(Done::WhenTaken(done)) => answer(done, Ok(())),
            reply => {
                let patience = match &reply {
                    PendingReply::Collect(collecting) if !self.is_retired => collecting.timeout,
                    _ => self.outbox.worker.limits().hub.answer_timeout,
                };
                let give_up = now + patience;
                self.collecting += usize::from(matches!(reply, PendingReply::Collect(_)));
                self.awaited.push_back(AwaitedReply { ticket, give_up, reply });
            }
        }
    }

    fn position(&self, ticket: Ticket) -> Option<usize> {
        self.awaited.binary_search_by_key(&ticket, |awaited| awaited.ticket).ok()
    }

    fn reply(&mut self, at: usize) -> Option<&mut PendingReply> {
        self.awaited.get_mut(at).map(|awaited| &mut awaited.reply)
    }

    fn take_awaited(&mut self, at: usize) -> Option<AwaitedReply> {
        let awaited = self.awaited.remove(at)?;
        self.collecting -= usize::from(matches!(awaited.reply, PendingReply::Collect(_)));
        Some(awaited)
    }

    /// Passes an answer to the reply that awaits it. The reply may have been given up, or there was none.
    fn resolve(&mut self, ticket: Ticket, given: Answer) -> Option<SessionAnswer> {
        let at = self.position(ticket)?;
        match (self.reply(at)?, &given) {
            (PendingReply::Collect(collecting), Answer::Collect(Ok(parts))) => collecting.expect(*parts),
            (PendingReply::Fetch { missing, .. }, Answer::Fetch(parts)) => *missing = Some(*parts),
            _ => return self.take_reply(at)?.resolve(given),
        }
        self.finish_question(at);
        None
    }

    fn take_reply(&mut self, at: usize) -> Option<PendingReply> {
        self.take_awaited(at).map(|awaited| awaited.reply)
    }

    /// Answers a question of which everything has come.
    fn finish_question(&mut self, at: usize) {
        let is_complete = match &self.awaited[at].reply {
            PendingReply::Fetch { missing, .. } => *missing == Some(0),
            PendingReply::Collect(collecting) => collecting.is_complete(),
            _ => false,
        };
        if !is_complete {
            return;
        }
        match self.take_reply(at) {
            Some(PendingReply::Fetch { asker, sockets, .. }) => answer(asker, Ok(sockets)),
            Some(PendingReply::Collect(collecting)) => collecting.finish(),
            _ => {}
        }
    }
}

impl Drop for CreditWindow {
    fn drop(&mut self) {
        self.close();
    }
}
