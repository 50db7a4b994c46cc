//! What a turn of the hub carries out: the commands of all senders, fairly and within a budget of work.
//!
//! A turn takes commands in the order in which they came while its budget lasts. A sender that has caused much is put behind the
//! others ([`Schedule`](crate::state::schedule::Schedule)), and events wait while workers have enough before them: so an event is
//! answered when it is handed over, and only those who cause a backlog wait for it.

use actix::fut::{ActorFutureExt, wrap_future};
use actix::{AsyncContext, Context};

use std::collections::HashMap;
use std::time::Duration;

use super::Hub;
use crate::ids::{PrivateId, SlotKey, WorkerId};
use crate::messages::abort::AbortOnUnwind;
use crate::messages::fanout::FanoutCommand;
use crate::messages::hub::{ConnectKind, HubCommand, ImmediateCommand, OrderedCommand};
use crate::state::rooms::ROOMS_PER_DEPARTURE;
use crate::state::schedule::{Load, QUANTUM};

/// Work of one turn, in bytes; a byte of work is about a nanosecond. 1 MiB, so about a millisecond.
const TURN_WORK: usize = 1 << 20;

/// Work of a command beside what it carries.
const COMMAND_WORK: usize = 1 << 10;

/// Work for each room that a command names, enters or leaves: a look-up and a copy of the name.
pub(super) const ROOM_WORK: usize = 256;

/// Rooms from which on a resume costs its sender more than a quantum: each is looked up, judged, journalled and entered again.
const MANY_ROOMS: usize = QUANTUM / (4 * ROOM_WORK);

/// Between two looks whether senders that wait for their share of the journal have some again.
const RELEASE_INTERVAL: Duration = Duration::from_millis(50);

/// Between two warnings that a sender waits for its share.
const WARNING_INTERVAL_MS: u64 = 10_000;

/// A command that costs less is not charged to its sender while nothing is queued: small commands alone make no backlog.
const CHARGED_WORK: usize = QUANTUM / 4;

/// The payer of a command: a session (or the server sender) by its worker and its slot there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct CommandSender {
    pub(super) worker: WorkerId,
    pub(super) slot: SlotKey,
}

impl OrderedCommand {
    /// The sender's place in its worker.
    fn sender(&self) -> SlotKey {
        match self {
            Self::CheckResume { from, .. }
            | Self::Data { from, .. }
            | Self::Join { from, .. }
            | Self::Broadcast { from, .. }
            | Self::Leave { from, .. }
            | Self::Relay { from, .. }
            | Self::Fetch { from, .. }
            | Self::List { from, .. } => from.slot,
            Self::Connect(connect) => connect.from.slot,
            // In its place behind what its session sent before.
            Self::Disconnect { slot, .. } => *slot,
        }
    }

    /// The session that a client wants to resume.
    fn resumes(&self) -> Option<PrivateId> {
        match self {
            Self::CheckResume { claim, .. } => Some(claim.pid),
            Self::Connect(connect) => match connect.kind {
                ConnectKind::Resuming(claim) => Some(claim.pid),
                ConnectKind::Unrecoverable | ConnectKind::New(_) => None,
            },
            _ => None,
        }
    }

    /// Whether workers have work with it for each member of a room.
    fn fans_out(&self) -> bool {
        matches!(self, Self::Broadcast { .. } | Self::Fetch { .. })
    }
}

impl Hub {
    /// Carries out a command now, or queues it behind others of its sender.
    fn submit(&mut self, worker: WorkerId, command: OrderedCommand) {
        let sender = CommandSender { worker, slot: command.sender() };
        if self.shares.waits(&sender) {
            return self.shares.push(sender, command);
        }
        if let Some(pid) = command.resumes() {
            self.inherit(&pid, sender);
            // While the load is not light, what is postponed waits until it is: too long for a client that reconnects.
            if self.rooms_known(&pid) >= MANY_ROOMS && self.workers.load() == Load::Light {
                return self.schedule.postpone(sender, command);
            }
        }
        let fans_out = command.fans_out();
        let load = if fans_out { self.workers.load() } else { Load::Light };
        if self.schedule.admits(&sender, fans_out, load) {
            self.carry_out(sender, command, load)
        } else {
            self.schedule.push(sender, command)
        }
    }

    /// Charges the sender of a resume for the last one of the same session, which came over another connection.
    fn inherit(&mut self, pid: &PrivateId, sender: CommandSender) {
        if let Some(before) = self.resumed_by.get(pid).filter(|before| **before != sender) {
            self.schedule.inherit(before, sender);
        }
    }

    /// Rooms at which a resume of this session looks.
    pub(super) fn rooms_known(&self, pid: &PrivateId) -> usize {
        self.writer.as_ref().and_then(|writer| writer.rooms_known(pid)).unwrap_or(0)
    }

    fn carry_out(&mut self, sender: CommandSender, command: OrderedCommand, load: Load) {
        let (work, fanout_bytes, journalled) = (self.work, self.fanout_bytes, self.journalled);
        self.work += COMMAND_WORK;
        if let Some(pid) = command.resumes()
            && self.rooms_known(&pid) > 0
        {
            self.resumed_by.insert(pid, sender);
        }
        self.apply(sender.worker, command);
        let cost = self.work - work + self.fanout_bytes - fanout_bytes;
        if cost >= CHARGED_WORK || load > Load::Light || !self.schedule.is_idle() {
            self.schedule.charge(sender, cost);
        }
        if self.journalled > journalled {
            self.book_journalled(sender, self.journalled - journalled);
        }
    }

    /// Books what a command put into the journal. A session whose share is spent waits with all that it sends; code outside of sessions
    /// has no share.
    fn book_journalled(&mut self, sender: CommandSender, bytes: u64) {
        let Some(writer) = &self.writer else { return };
        let now_ms = writer.now_unix_ms();
        let is_bounded = self.limits.journal.sender_bytes_max.is_some() && self.workers.has_sessions(sender.worker);
        if !is_bounded || !self.shares.book(sender, bytes, now_ms) {
            return;
        }
        let queue = self.schedule.withdraw(&sender);
        self.shares.hold(sender, queue);
        self.metrics.hub.journal_waits.add(1);
        if now_ms >= self.warn_share_at_ms {
            self.warn_share_at_ms = now_ms.saturating_add(WARNING_INTERVAL_MS);
            let socket = self.rooms.socket_at(sender.worker, sender.slot).map(|socket| socket.to_string());
            log::warn!(
                "client waits, its share of the journal is spent socket={}; set journal_sender_bytes_max higher if it may publish more",
                socket.as_deref().unwrap_or("gone")
            );
        }
    }

    /// Sees to it that senders that wait for their share are served when they have some again.
    pub(super) fn release_later(&mut self, ctx: &mut Context<Self>) {
        if !self.shares.has_waiting() || std::mem::replace(&mut self.releasing, true) {
            return;
        }
        ctx.run_later(RELEASE_INTERVAL, |hub, ctx| {
            let _guard = AbortOnUnwind("hub");
            hub.releasing = false;
            let now_ms = hub.now_unix_ms();
            for (sender, queue) in hub.shares.release(now_ms) {
                for command in queue {
                    hub.schedule.push(sender, command);
                }
            }
            hub.begin_turn();
            hub.end_turn(ctx);
        });
    }

    fn apply_immediately(&mut self, worker: WorkerId, command: ImmediateCommand) {
        match command {
            ImmediateCommand::Register { fanout } => self.workers.register(worker, fanout),
            ImmediateCommand::Read { slot, socket, after } => self.workers.read(worker, slot, socket, after),
            ImmediateCommand::Fetched { worker, to, sockets } => self.workers.send_sockets(worker, to, sockets),
            ImmediateCommand::Acked { worker, to, socket, answer } => {
                self.workers.queue_command(worker, FanoutCommand::Acked { to, socket, answer });
            }
            ImmediateCommand::Consumed { bytes, replayed } => self.workers.on_consumed(worker, bytes, replayed),
        }
    }

    /// Takes what has come, as much as this turn may. The next message is handled when nothing of it is left.
    pub(super) fn accept_batch(&mut self, ctx: &mut Context<Self>) {
        while self.work < TURN_WORK
            && let Some(command) = self.incoming.1.next()
        {
            let worker = self.incoming.0;
            match command {
                HubCommand::Ordered(command) => self.submit(worker, command),
                HubCommand::Immediate(command) => self.apply_immediately(worker, command),
            }
        }
        let is_spent = self.work >= TURN_WORK;
        self.end_turn(ctx);
        if is_spent {
            self.begin_turn();
            ctx.wait(wrap_future(tokio::task::yield_now()).map(|(), hub: &mut Self, ctx| {
                let _guard = AbortOnUnwind("hub");
                if hub.incoming.1.len() > 0 {
                    hub.accept_batch(ctx);
                }
            }));
        }
    }

    /// Others of this thread had their turn.
    fn begin_turn(&mut self) {
        (self.work, self.fanout_bytes) = (0, 0);
    }

    /// Sees to it that what waits is served once the mailbox is empty, and the others of this thread have had their turn.
    pub(super) fn serve_soon(&mut self, ctx: &mut Context<Self>) {
        let waits =
            self.schedule.has_next(self.workers.load()) || self.workers.has_readers() || self.rooms.has_departing();
        if !waits || std::mem::replace(&mut self.serving, true) {
            return;
        }
        ctx.spawn(wrap_future(tokio::task::yield_now()).map(|(), hub: &mut Self, ctx| {
            let _guard = AbortOnUnwind("hub");
            hub.serving = false;
            hub.begin_turn();
            hub.count_out_departed();
            hub.serve_queued();
            hub.serve_readers();
            hub.end_turn(ctx);
        }));
    }

    /// Serves the queues for a turn.
    fn serve_queued(&mut self) {
        while self.work < TURN_WORK {
            let load = self.workers.load();
            let Some((sender, command)) = self.schedule.next(load) else { break };
            if let Some(pid) = command.resumes() {
                self.inherit(&pid, sender);
                if self.schedule.is_overdrawn(&sender) {
                    self.work += COMMAND_WORK;
                    self.schedule.put_back(sender, command);
                    continue;
                }
            }
            self.carry_out(sender, command, load);
        }
    }

    /// Takes sockets that have gone out of further rooms, for half a turn at most.
    fn count_out_departed(&mut self) {
        while self.rooms.has_departing() && self.work < TURN_WORK / 2 {
            self.rooms.depart();
            self.work += ROOMS_PER_DEPARTURE * ROOM_WORK;
        }
    }

    /// Accounts end when nobody waits for anybody.
    pub(super) fn settle_accounts(&mut self) {
        if !self.schedule.is_idle() && self.schedule.queued() == 0 && self.workers.load() == Load::Light {
            self.schedule.forget();
        }
        if self.schedule.is_idle() && !self.resumed_by.is_empty() {
            self.resumed_by = HashMap::new();
        }
    }
}
