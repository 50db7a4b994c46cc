//! Flow control between one sender and the hub. Commands within the sender's credit are sent. Later
//! commands wait in order.
//!
//! **Invariant** (order): packets and events from one sender reach a socket in the order in which
//! they were emitted. A packet for the sender's own client goes straight into the outbox only while
//! no command of the sender is waiting or unanswered. Otherwise the packet passes through the hub,
//! behind the earlier commands.
//!
//! A durable publish is executed only when it was committed, while the hub continues with other
//! commands. So while a durable publish of a sender is unanswered, only further durable publishes
//! of it are sent, which are committed in order. Everything else waits here, until the publish is
//! given up.

mod pending_reply;

use std::rc::Rc;
use std::time::Instant;

pub(crate) use self::pending_reply::{PendingReply, SessionAnswer};
use super::Worker;
use super::outbox_handle::OutboxHandle;
use crate::ids::SocketId;
use crate::limits::Limits;
use crate::messages::answer::{Answer, Done, NoAnswer, ReplyTo, answer};
use crate::messages::event::DirectPacket;
use crate::messages::hub::OrderedCommand;
use crate::messages::session::SocketRef;
use crate::protocol::socketio::packet::Args;
use crate::state::budget::Charge;
use crate::state::credit::{Credit, Ticket};
use crate::state::lazy_queue::LazyQueue;

type Command = Box<dyn FnOnce(ReplyTo) -> OrderedCommand>;

enum QueuedCommand {
    Command {
        give_up: Instant,
        bytes: usize,
        command: Command,
        reply: PendingReply,
        /// Memory reserved for the command. `None` until its sender has ended.
        _reservation: Option<OrphanedCommand>,
    },
    /// A command that needs no credit, but keeps its position in the queue.
    Free(OrderedCommand),
}

/// Memory reserved for a waiting command whose sender has ended. Released on drop.
struct OrphanedCommand {
    worker: Rc<Worker>,
    bytes: usize,
}

impl OrphanedCommand {
    /// Returns `None` if `departed_bytes_max` would be exceeded.
    fn reserve(worker: &Rc<Worker>, bytes: usize) -> Option<Self> {
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

impl AwaitedReply {
    /// Returns whether the reply may time out. The reply to a CONNECT may not: if the hub connects
    /// the socket late, the session must still open the socket.
    fn may_expire(&self) -> bool {
        !matches!(self.reply, PendingReply::Connect(_) | PendingReply::Resume(_))
    }
}

/// Credit of one sender, with the commands that wait for credit and the unanswered commands.
pub(crate) struct CreditWindow {
    outbox: Rc<OutboxHandle>,
    credit: Credit,
    /// Commands that wait for credit, in order of submission.
    waiting: LazyQueue<QueuedCommand>,
    /// Unanswered commands in ticket order.
    awaited: LazyQueue<AwaitedReply>,
    /// Number of unanswered emits that collect acks of many sockets.
    collecting: u32,
    /// Number of durable publishes in `awaited`. One that was given up holds nothing back: its
    /// commit may hang for long, and the client is still served.
    publishing: u32,
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
            publishing: 0,
            is_retired: false,
        }
    }

    /// Returns whether no command waits for credit and there is credit left. Only then do events of
    /// the client start handlers.
    pub(crate) fn has_credit(&self) -> bool {
        self.waiting.is_empty() && self.allows(0)
    }

    fn allows(&self, bytes: usize) -> bool {
        self.credit.allows(bytes, self.outbox.worker.limits())
    }

    /// Returns whether the first waiting command may be sent.
    fn admits(&self, first: &QueuedCommand) -> bool {
        match first {
            QueuedCommand::Command { bytes, reply, .. } => {
                self.allows(*bytes) && (self.publishing == 0 || reply.is_publish())
            }
            QueuedCommand::Free(_) => self.publishing == 0,
        }
    }

    /// Returns whether at least `credit_waiting_max` commands wait for credit. The session then
    /// stops reading, since the commands that a client's CONNECTs and DISCONNECTs cause cannot be
    /// refused.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= self.outbox.worker.limits().hub.credit_waiting_max
    }

    /// Sends a command as soon as there is credit for its `bytes`, after all commands that were
    /// submitted before.
    pub(crate) fn submit(
        &mut self,
        now: Instant,
        bytes: usize,
        reply: PendingReply,
        command: impl FnOnce(ReplyTo) -> OrderedCommand + 'static,
    ) {
        let keeps_order = self.publishing == 0 || reply.is_publish();
        if self.waiting.is_empty() && keeps_order && self.allows(bytes) {
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
            _reservation: None,
        });
    }

    /// Sends a command that needs no credit, after all commands that were submitted before.
    pub(crate) fn submit_free(&mut self, command: OrderedCommand) {
        if self.waiting.is_empty() && self.publishing == 0 {
            self.outbox.worker.send(command);
        } else {
            self.waiting.push_back(QueuedCommand::Free(command));
        }
    }

    /// Queues a packet for the sender's own client, after the results of all commands that were
    /// submitted before. `now` is called only if the packet has to go through the hub.
    pub(crate) fn push(&mut self, now: impl FnOnce() -> Instant, packet: DirectPacket) {
        if self.is_settled() {
            return self.outbox.push(packet);
        }
        let bytes = packet.byte_len();
        self.submit(now(), bytes, PendingReply::Nobody, move |from| OrderedCommand::Relay { from, packet });
    }

    /// Handles the hub's answer. If the session itself must handle the answer, returns it.
    pub(crate) fn on_answer(&mut self, now: Instant, ticket: Ticket, answer: Answer) -> Option<SessionAnswer> {
        let for_session = self.resolve(ticket, answer);
        self.credit.on_answer(ticket);
        self.advance(now);
        for_session
    }

    /// Handles one worker's part of an answer: sockets that match a query, or receivers of an
    /// event.
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

    /// Handles the ack of a socket. `args` is `None` if the socket has disconnected.
    pub(crate) fn on_ack(&mut self, ticket: Ticket, socket: SocketId, args: Option<Args>) {
        let Some(at) = self.position(ticket) else { return };
        let bytes_max = self.outbox.worker.limits().acks.answers_bytes_max;
        if let Some(PendingReply::Collect(collecting)) = self.reply(at) {
            collecting.on_answer(socket, args, bytes_max);
        }
        self.finish_question(at);
    }

    pub(super) fn charge(&self) -> Charge {
        Charge::new(self.outbox.worker.budgets().incoming.clone())
    }

    pub(crate) fn waiting_bytes(&self) -> usize {
        let bytes = |waiting: &QueuedCommand| match waiting {
            QueuedCommand::Command { bytes, .. } => *bytes,
            QueuedCommand::Free(_) => 0,
        };
        self.waiting.iter().map(bytes).sum()
    }

    pub(crate) fn limits(&self) -> &Limits {
        self.outbox.worker.limits()
    }

    /// Number of unanswered emits that collect acks of many sockets.
    pub(crate) fn collecting(&self) -> usize {
        self.collecting as usize
    }

    /// Returns whether no command waits or is unanswered.
    pub(crate) fn is_settled(&self) -> bool {
        self.waiting.is_empty() && self.credit.is_settled()
    }

    /// Ends the sender. Commands without credit cost are sent immediately. Emits and queries keep
    /// waiting for credit and answers, but fail with `Overloaded` if their memory would exceed
    /// `departed_bytes_max`. All other commands fail with `Disconnected`.
    pub(crate) fn retire(&mut self, now: Instant) {
        self.is_retired = true;
        for waiting in self.waiting.take() {
            match waiting {
                // These commands are sent, since the hub would otherwise keep sockets that have
                // disconnected.
                QueuedCommand::Free(command) => self.outbox.worker.send(command),
                QueuedCommand::Command { reply, .. } if !reply.outlives_sender() => reply.fail(NoAnswer::Disconnected),
                QueuedCommand::Command { give_up, bytes, command, reply, .. } => {
                    match OrphanedCommand::reserve(&self.outbox.worker, bytes) {
                        Some(reservation) => {
                            let _reservation = Some(reservation);
                            self.waiting.push_back(QueuedCommand::Command {
                                give_up,
                                bytes,
                                command,
                                reply,
                                _reservation,
                            });
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
        // A durable publish outlives its sender, so `publishing` stays as it is.
        for AwaitedReply { ticket, give_up, reply } in self.awaited.take() {
            if reply.outlives_sender() {
                self.awaited.push_back(AwaitedReply { ticket, give_up: give_up.min(until), reply })
            } else {
                reply.fail(NoAnswer::Disconnected)
            }
        }
        self.advance(now);
    }

    /// Returns whether no command waits and no answer is awaited, so that an ended sender may be
    /// dropped.
    pub(crate) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.awaited.is_empty()
    }

    /// Fails all waiting commands and awaited answers, except collections of acks whose event was
    /// emitted: these return the acks so far. Commands without credit cost are still sent, since
    /// the hub would otherwise keep sockets that have disconnected.
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

    /// Earliest instant at which [`CreditWindow::on_timeout`] has an effect.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().find_map(|waiting| match waiting {
            QueuedCommand::Command { give_up, reply, .. } if reply.can_be_refused() => Some(*give_up),
            _ => None,
        });
        let awaited = self.awaited.iter().filter(|awaited| awaited.may_expire());
        waiting.into_iter().chain(awaited.map(|awaited| awaited.give_up)).min()
    }

    /// Fails commands and replies whose deadline is over. A collection of acks whose event was
    /// emitted returns the acks so far instead.
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

    fn advance(&mut self, now: Instant) {
        while let Some(first) = self.waiting.front() {
            if !self.admits(first) {
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
        self.publishing += u32::from(reply.is_publish());
        self.outbox.worker.send(command(ReplyTo { slot: self.outbox.slot, ticket }));
        match reply {
            PendingReply::Nobody => {}
            PendingReply::Emit(Done::WhenTaken(done)) => answer(done, Ok(())),
            reply => {
                let timeout = match &reply {
                    PendingReply::Collect(collecting) if !self.is_retired => collecting.timeout,
                    _ => self.outbox.worker.limits().hub.answer_timeout,
                };
                let give_up = now + timeout;
                self.collecting += u32::from(matches!(reply, PendingReply::Collect(_)));
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
        self.collecting -= u32::from(matches!(awaited.reply, PendingReply::Collect(_)));
        self.publishing -= u32::from(awaited.reply.is_publish());
        Some(awaited)
    }

    /// Passes an answer to the caller that waits for it, if there still is one. If the session
    /// itself must handle the answer, returns it.
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

    /// Answers a query once all its parts have arrived.
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
            Some(PendingReply::Fetch { caller, sockets, .. }) => answer(caller, Ok(sockets)),
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
