//! Execution of the senders' commands in turns, fairly and with a bounded amount of work per turn.
//!
//! A turn executes commands in the order of arrival until its budget is spent. Commands of a sender
//! that has caused much work wait behind those of other senders
//! ([`Schedule`](crate::state::schedule::Schedule)). While workers have a backlog, events wait as
//! well. An event is answered once it is in a worker's batch, so that a backlog delays only the
//! senders that caused it.

use actix::fut::{ActorFutureExt, wrap_future};
use actix::{AsyncContext, Context};

use std::time::Duration;

use super::Hub;
use crate::ids::{PrivateId, SlotKey, WorkerId};
use crate::messages::abort::AbortOnUnwind;
use crate::messages::fanout::FanoutCommand;
use crate::messages::hub::{ConnectKind, HubCommand, ImmediateCommand, OrderedCommand};
use crate::state::rooms::ROOMS_PER_REMOVAL;
use crate::state::schedule::{Load, QUANTUM};

/// Work at which a turn ends, in bytes. A byte of work takes about a nanosecond, so that a turn
/// takes about a millisecond.
pub(super) const TURN_WORK: usize = 1 << 20;

/// Work of every command, in addition to the work for its contents.
pub(super) const COMMAND_WORK: usize = 1 << 10;

/// Work for each room that a command names, joins or leaves: a look-up and a copy of the name.
pub(super) const ROOM_WORK: usize = 256;

/// Minimum number of room intervals of a session for which its resume is postponed. With that many,
/// the work of both commands of a resume is about a quantum, since each interval is checked twice,
/// and each room is looked up and joined.
const MANY_ROOMS: usize = QUANTUM / (4 * ROOM_WORK);

/// Interval between checks of the senders that wait for their share of the journal.
const RELEASE_INTERVAL: Duration = Duration::from_millis(50);

/// Minimum interval between warnings about senders that have used up their share of the journal.
const WARNING_INTERVAL_MS: u64 = 10_000;

/// Minimum cost of a command that is charged although no sender has an account and the load is
/// light. Smaller commands alone cause no backlog.
const CHARGED_WORK: usize = QUANTUM / 4;

/// The session or server sender to which a command is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct CommandSender {
    pub(super) worker: WorkerId,
    pub(super) slot: SlotKey,
}

impl OrderedCommand {
    fn sender(&self) -> SlotKey {
        match self {
            Self::CheckResume { from, .. }
            | Self::Data { from, .. }
            | Self::Join { from, .. }
            | Self::JoinDurable { from, .. }
            | Self::Broadcast { from, .. }
            | Self::Publish { from, .. }
            | Self::Leave { from, .. }
            | Self::LeaveDurable { from, .. }
            | Self::KeepDurable { from, .. }
            | Self::Relay { from, .. }
            | Self::Fetch { from, .. }
            | Self::List { from, .. } => from.slot,
            Self::Connect(connect) => connect.from.slot,
            // A disconnect is charged to its session, so that it stays behind the session's earlier
            // commands.
            Self::Disconnect { slot, .. } => *slot,
        }
    }

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

    /// Returns true if the command causes work in workers for each member of a room.
    fn fans_out(&self) -> bool {
        matches!(self, Self::Broadcast { .. } | Self::Publish { .. } | Self::Fetch { .. })
    }
}

impl Hub {
    /// Executes a command, or queues it behind other commands.
    fn submit(&mut self, worker: WorkerId, command: OrderedCommand) {
        let sender = CommandSender { worker, slot: command.sender() };
        if self.shares.waits(&sender) {
            return self.shares.push(sender, command);
        }
        if let Some(pid) = command.resumes() {
            self.inherit(&pid, sender);
            // Under load, resumes are not postponed. Postponed commands wait until the load is
            // light, which would take too long for a client that reconnects.
            if self.interval_count(&pid) >= MANY_ROOMS && self.workers.load() == Load::Light {
                return self.schedule.postpone(sender, command);
            }
        }
        let fans_out = command.fans_out();
        let load = if fans_out { self.workers.load() } else { Load::Light };
        if self.schedule.admits(&sender, fans_out, load) {
            self.execute(sender, command, load)
        } else {
            self.schedule.push(sender, command)
        }
    }

    /// Charges the sender of a resume request for the previous resume of the same session over
    /// another connection.
    fn inherit(&mut self, pid: &PrivateId, sender: CommandSender) {
        if let Some(before) = self.resume_senders.get(pid).filter(|before| **before != sender) {
            self.schedule.inherit(before, sender);
        }
    }

    pub(super) fn interval_count(&self, pid: &PrivateId) -> usize {
        self.writer.as_ref().and_then(|writer| writer.interval_count(pid)).unwrap_or(0)
    }

    fn execute(&mut self, sender: CommandSender, command: OrderedCommand, load: Load) {
        if let OrderedCommand::JoinDurable { after, .. } = &command {
            // Before the work of the command is measured: their publishers are charged.
            self.reveal_up_to(*after);
        }
        let (work, fanout_bytes, journalled) = (self.work, self.fanout_bytes, self.journalled);
        self.work += COMMAND_WORK;
        if let Some(pid) = command.resumes()
            && self.interval_count(&pid) > 0
        {
            let (schedule, writer) = (&self.schedule, &self.writer);
            let is_known = |pid: &_| writer.as_ref().is_some_and(|writer| writer.interval_count(pid).is_some());
            self.resume_senders.insert(pid, sender, |pid, sender| schedule.has_account(sender) && is_known(pid));
        }
        self.apply(sender.worker, command);
        let cost = self.work - work + self.fanout_bytes - fanout_bytes;
        self.charge_work(sender, cost, load);
        if self.journalled > journalled {
            self.charge_journal(sender, self.journalled - journalled);
        }
    }

    pub(super) fn charge_work(&mut self, sender: CommandSender, cost: usize, load: Load) {
        if cost >= CHARGED_WORK || load > Load::Light || !self.schedule.is_idle() {
            self.schedule.charge(sender, cost);
        }
    }

    /// Charges the journalled bytes of a command to its sender. When the share of a session is used
    /// up, further commands of the session wait. Senders outside of sessions are not limited.
    pub(super) fn charge_journal(&mut self, sender: CommandSender, bytes: u64) {
        let Some(writer) = &self.writer else { return };
        let now_ms = writer.now_unix_ms();
        let is_bounded = self.limits.journal.sender_bytes_max.is_some() && self.workers.has_sessions(sender.worker);
        if !is_bounded || !self.shares.charge(sender, bytes, now_ms) {
            return;
        }
        let queue = self.schedule.withdraw(&sender);
        self.shares.hold(sender, queue);
        self.metrics.hub.journal_waits.add(1);
        if now_ms >= self.warn_share_at_ms {
            self.warn_share_at_ms = now_ms.saturating_add(WARNING_INTERVAL_MS);
            let socket = self.rooms.find_socket_at(sender.worker, sender.slot).map(|socket| socket.to_string());
            log::warn!(
                "client waits, its share of the journal is spent socket={}; \
                 raise journal_sender_bytes_max if it may publish more",
                socket.as_deref().unwrap_or("unknown")
            );
        }
    }

    /// Schedules a check of the senders that wait for their share of the journal.
    pub(super) fn schedule_release(&mut self, ctx: &mut Context<Self>) {
        if !self.shares.has_waiting() || std::mem::replace(&mut self.release_scheduled, true) {
            return;
        }
        ctx.run_later(RELEASE_INTERVAL, |hub, ctx| {
            let _guard = AbortOnUnwind("hub");
            hub.release_scheduled = false;
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
            ImmediateCommand::ReadJournal { slot, socket, after } => {
                self.workers.queue_reader(worker, slot, socket, after)
            }
            ImmediateCommand::Fetched { worker, to, sockets } => self.workers.send_sockets(worker, to, sockets),
            ImmediateCommand::Acked { worker, to, socket, answer } => {
                self.workers.queue_command(worker, FanoutCommand::Acked { to, socket, answer });
            }
            ImmediateCommand::Consumed { bytes, replayed } => self.workers.on_consumed(worker, bytes, replayed),
        }
    }

    /// Executes the current batch until the turn's budget is spent. The remaining commands are
    /// executed in the next turn, before the next batch.
    pub(super) fn accept_batch(&mut self, ctx: &mut Context<Self>) {
        self.process_reports(TURN_WORK / 2);
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

    pub(super) fn begin_turn(&mut self) {
        (self.work, self.fanout_bytes) = (0, 0);
    }

    /// Schedules a turn for queued commands, reports of the queue's committer, replays and removals
    /// of disconnected sockets. The turn runs after the messages in the mailbox and the other tasks
    /// of this thread.
    pub(super) fn schedule_turn(&mut self, ctx: &mut Context<Self>) {
        let has_work = self.schedule.has_next(self.workers.load())
            || self.workers.has_readers()
            || self.rooms.has_pending_removals()
            || self.has_reports();
        if !has_work || std::mem::replace(&mut self.turn_scheduled, true) {
            return;
        }
        ctx.spawn(wrap_future(tokio::task::yield_now()).map(|(), hub: &mut Self, ctx| {
            let _guard = AbortOnUnwind("hub");
            hub.turn_scheduled = false;
            hub.begin_turn();
            hub.continue_removals();
            // Also beside removals that have used their half.
            hub.process_reports((hub.work + TURN_WORK / 4).max(TURN_WORK / 2));
            hub.execute_queued();
            hub.send_replays();
            hub.end_turn(ctx);
        }));
    }

    fn execute_queued(&mut self) {
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
            self.execute(sender, command, load);
        }
    }

    /// Removes disconnected sockets from some more of their rooms. Uses at most half of a turn's
    /// budget.
    fn continue_removals(&mut self) {
        while self.rooms.has_pending_removals() && self.work < TURN_WORK / 2 {
            self.rooms.continue_removal();
            self.work += ROOMS_PER_REMOVAL * ROOM_WORK;
        }
    }

    /// Removes the accounts of all senders once no commands are queued and the load is light.
    pub(super) fn forget_accounts(&mut self) {
        if !self.schedule.is_idle() && self.schedule.queued() == 0 && self.workers.load() == Load::Light {
            self.schedule.forget();
        }
        if self.schedule.is_idle() {
            self.resume_senders.clear();
        }
    }
}
