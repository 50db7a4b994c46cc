//! What a turn of the hub carries out: the commands of all senders, fairly and within a budget of work.
//!
//! A turn takes commands in the order in which they came while its budget lasts. A sender that has caused much is put behind the
//! others ([`Schedule`](crate::state::schedule::Schedule)), and events wait while workers have enough before them: so an event is
//! answered when it is handed over, and only those who cause a backlog wait for it.

use actix::fut::{ActorFutureExt, wrap_future};
use actix::{AsyncContext, Context};

use super::Hub;
use crate::ids::{SlotKey, WorkerId};
use crate::messages::abort::AbortOnUnwind;
use crate::messages::fanout::FanoutCommand;
use crate::messages::hub::HubCommand;
use crate::state::schedule::{Load, QUANTUM};

/// Work of one turn, in bytes; a byte of work is about a nanosecond. 1 MiB, so about a millisecond.
const TURN_WORK: usize = 1 << 20;

/// Work of a command beside what it carries.
const COMMAND_WORK: usize = 1 << 10;

/// Work for each room that a command names, enters or leaves: a look-up and a copy of the name.
pub(super) const ROOM_WORK: usize = 256;

/// A command that costs less is not charged to its sender while nothing is queued: small commands alone make no backlog.
const CHARGED_WORK: usize = QUANTUM / 4;

/// Who is charged for a command: a session (or the desk) by its worker and its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Sender {
    pub(super) worker: WorkerId,
    pub(super) slot: SlotKey,
}

impl HubCommand {
    /// The sender that a command is charged to. None for what workers report: that ends work, or carries what others caused.
    fn sender(&self) -> Option<SlotKey> {
        match self {
            Self::Claim { from, .. }
            | Self::Data { from, .. }
            | Self::Join { from, .. }
            | Self::Leave { from, .. }
            | Self::Pass { from, .. }
            | Self::Fetch { from, .. }
            | Self::List { from, .. } => Some(from.slot),
            Self::Connect(connect) => Some(connect.from.slot),
            Self::Broadcast(broadcast) => Some(broadcast.from.slot),
            // In its place behind what its session sent before.
            Self::Disconnect { slot, .. } => Some(*slot),
            Self::Register { .. }
            | Self::Read { .. }
            | Self::Fetched { .. }
            | Self::Acked { .. }
            | Self::Consumed { .. } => None,
        }
    }

    /// Whether workers have work with it for each member of a room.
    fn fans_out(&self) -> bool {
        matches!(self, Self::Broadcast(_) | Self::Fetch { .. })
    }
}

impl Hub {
    /// Carries out a command now, or queues it behind others of its sender.
    fn submit(&mut self, worker: WorkerId, command: HubCommand) {
        let Some(slot) = command.sender() else { return self.take_report(worker, command) };
        let sender = Sender { worker, slot };
        let fans_out = command.fans_out();
        let load = if fans_out { self.links.load() } else { Load::Light };
        match self.schedule.admits(&sender, fans_out, load) {
            true => self.carry_out(sender, command, load),
            false => self.schedule.push(sender, command),
        }
    }

    fn carry_out(&mut self, sender: Sender, command: HubCommand, load: Load) {
        let (work, weight) = (self.work, self.weight);
        self.work += COMMAND_WORK;
        self.take(sender.worker, command);
        let cost = self.work - work + self.weight - weight;
        if cost >= CHARGED_WORK || load > Load::Light || !self.schedule.is_idle() {
            self.schedule.charge(sender, cost);
        }
    }

    pub(super) fn take_report(&mut self, worker: WorkerId, command: HubCommand) {
        match command {
            HubCommand::Register { fanout } => self.links.register(worker, fanout),
            HubCommand::Read { slot, socket, after } => self.links.read(worker, slot, socket, after),
            HubCommand::Fetched { worker, to, sockets } => self.links.fetched(worker, to, sockets),
            HubCommand::Acked { worker, to, socket, answer } => {
                self.links.tell(worker, FanoutCommand::Acked { to, socket, answer });
            }
            HubCommand::Consumed { bytes, replayed } => self.links.consumed(worker, bytes, replayed),
            // Charged to their senders.
            _ => log::error!("hub got a report that is none worker={}", worker.0),
        }
    }

    /// Takes what has come, as much as this turn may. The next message is handled when nothing of it is left.
    pub(super) fn take_in(&mut self, ctx: &mut Context<Self>) {
        while self.work < TURN_WORK
            && let Some(command) = self.taken_in.1.next()
        {
            self.submit(self.taken_in.0, command);
        }
        let is_spent = self.work >= TURN_WORK;
        self.end_turn(ctx);
        if is_spent {
            self.begin_turn();
            ctx.wait(wrap_future(tokio::task::yield_now()).map(|(), hub: &mut Self, ctx| {
                let _guard = AbortOnUnwind("hub");
                if hub.taken_in.1.len() > 0 {
                    hub.take_in(ctx);
                }
            }));
        }
    }

    /// Others of this thread had their turn.
    fn begin_turn(&mut self) {
        (self.work, self.weight) = (0, 0);
    }

    /// Sees to it that what waits is served once the mailbox is empty, and the others of this thread have had their turn.
    pub(super) fn serve_soon(&mut self, ctx: &mut Context<Self>) {
        let waits = self.schedule.has_next(self.links.load()) || self.links.has_readers();
        if !waits || std::mem::replace(&mut self.serving, true) {
            return;
        }
        ctx.spawn(wrap_future(tokio::task::yield_now()).map(|(), hub: &mut Self, ctx| {
            let _guard = AbortOnUnwind("hub");
            hub.serving = false;
            hub.begin_turn();
            hub.serve_queued();
            hub.serve_readers();
            hub.end_turn(ctx);
        }));
    }

    /// Serves the queues for a turn.
    fn serve_queued(&mut self) {
        while self.work < TURN_WORK {
            let load = self.links.load();
            let Some((sender, command)) = self.schedule.next(load) else { break };
            self.carry_out(sender, command, load);
        }
    }

    /// Accounts end when nobody waits for anybody.
    pub(super) fn settle_accounts(&mut self) {
        if !self.schedule.is_idle() && self.schedule.queued() == 0 && self.links.load() == Load::Light {
            self.schedule.forget();
        }
    }
}
