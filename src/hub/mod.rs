//! The one central actor: which rooms exist, which workers have members, and *the order*.
//!
//! The order in which it carries commands out (`intake`) is the order of connects, joins, leaves and broadcasts that all observe. It
//! never waits: not for a worker, not for a session, not for the disk.

mod intake;
pub(crate) mod journal_writer;
mod ordering;
mod replaying;
mod resume;
mod room_events;
#[cfg(test)]
mod tests;
mod workers;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use std::vec;

use actix::{Actor, AsyncContext, Context, Handler, Recipient};
use tokio::sync::broadcast;

use crate::ids::{PrivateId, WorkerId};
use crate::limits::Limits;
use crate::messages::abort::AbortOnUnwind;
use crate::messages::hub::{HubBatch, HubCommand, HubControl, OrderedCommand};
use crate::messages::room_change::RoomChange;
use crate::metrics::Metrics;
use crate::protocol::reason::DisconnectReason;
use crate::state::budget::{Budgets, Part};
use crate::state::rooms::Rooms;
use crate::state::schedule::Schedule;
use crate::state::shares::Shares;

use self::intake::CommandSender;
use self::journal_writer::JournalWriter;
use self::workers::WorkerLinks;

/// Before a batch is offered again to a worker whose mailbox was full.
const WORKER_RETRY: Duration = Duration::from_millis(1);

/// The central actor.
pub(crate) struct Hub {
    limits: Limits,
    rooms: Rooms,
    /// Set while recovery is on.
    writer: Option<JournalWriter>,
    /// Bytes read for one of them at a time: no more than an outbox that asks has room for.
    replay_bytes: usize,
    /// Commands that wait for their senders' turn.
    schedule: Schedule<CommandSender, OrderedCommand>,
    /// The sender that resumed each session last, since commands began to wait: a new connection inherits what the one before has
    /// overdrawn.
    resumed_by: HashMap<PrivateId, CommandSender>,
    /// The share of each session in the journal, and the commands of those that wait for theirs.
    shares: Shares<CommandSender, OrderedCommand>,
    /// What is left of the batch in hand, and the worker that sent it. The next message is handled only when this is empty.
    incoming: (WorkerId, vec::IntoIter<HubCommand>),
    /// Work done in this turn, in bytes.
    work: usize,
    /// Bytes given to workers in this turn, all members counted.
    fanout_bytes: usize,
    /// Bytes journalled for commands so far.
    journalled: u64,
    /// True while a look at those that wait for their share is scheduled.
    releasing: bool,
    /// Time of the next warning that one waits.
    warn_share_at_ms: u64,
    /// Whether a turn is due for those that wait.
    serving: bool,
    workers: WorkerLinks,
    /// Events so far that want acks of many.
    collections: u64,
    /// For those who watch rooms.
    room_changes: broadcast::Sender<RoomChange>,
    retrying: bool,
    metrics: Arc<Metrics>,
    budgets: Arc<Budgets>,
    /// What the budget of rooms was last charged.
    published: Part,
}

/// What a hub keeps, beside its rooms.
#[derive(Default)]
pub(crate) struct Stores {
    /// With a history, events are numbered and bear tokens, and clients come back to them.
    pub(crate) writer: Option<JournalWriter>,
    /// What the hub counts, beside what its workers count.
    pub(crate) metrics: Arc<Metrics>,
    /// What all clients of the server share.
    pub(crate) budgets: Arc<Budgets>,
}

impl Hub {
    pub(crate) fn new(limits: Limits, stores: Stores, room_changes: broadcast::Sender<RoomChange>) -> Self {
        let Stores { writer, metrics, budgets } = stores;
        let share_bytes = limits.journal.sender_bytes_max.unwrap_or(usize::MAX);
        Self {
            rooms: Rooms::default(),
            writer,
            replay_bytes: limits.recovery.replay_bytes.min(limits.sessions.outbox_bytes_max / 4).max(1),
            schedule: Schedule::default(),
            resumed_by: HashMap::new(),
            shares: Shares::new(share_bytes, limits.recovery.window),
            incoming: (WorkerId(0), Vec::new().into_iter()),
            work: 0,
            fanout_bytes: 0,
            journalled: 0,
            releasing: false,
            warn_share_at_ms: 0,
            serving: false,
            workers: WorkerLinks::new(limits.hub.worker_bytes_max),
            limits,
            collections: 0,
            room_changes,
            retrying: false,
            metrics,
            budgets,
            published: Part::default(),
        }
    }

    /// Shows what there is at the end of a turn.
    fn count(&mut self) {
        let metrics = &self.metrics.hub;
        metrics.rooms.set(self.rooms.rooms());
        metrics.sockets.set(self.rooms.sockets());
        metrics.answers_held.set(self.schedule.queued() + self.shares.queued());
        metrics.unwritten_bytes.set(self.workers.unwritten());
        let now = Part { bytes: self.rooms.bytes(), holders: 0 };
        self.budgets.rooms.replace(std::mem::replace(&mut self.published, now), now);
    }

    /// Sends what this turn has for the workers, and clears up after workers that have died.
    fn end_turn(&mut self, ctx: &mut Context<Self>) {
        if let Some(writer) = &mut self.writer {
            // Before anything of this turn is revealed.
            writer.flush();
        }
        self.count();
        let outcome = self.workers.flush();
        for worker in outcome.dead {
            self.schedule.remove(|sender| sender.worker == worker);
            self.shares.remove(|sender| sender.worker == worker);
            log::warn!("worker is gone, its sockets are taken out worker={}", worker.0);
            for (socket, slot) in self.rooms.sockets_of(worker) {
                self.apply_disconnect(worker, slot, socket, false, None);
            }
        }
        self.settle_accounts();
        self.release_later(ctx);
        self.serve_soon(ctx);
        if outcome.full && !self.retrying {
            self.retrying = true;
            ctx.run_later(WORKER_RETRY, |hub, ctx| {
                let _guard = AbortOnUnwind("hub");
                hub.retrying = false;
                hub.end_turn(ctx);
            });
        }
    }
}

impl Actor for Hub {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(self.limits.hub.mailbox_batches);
    }
}

impl Handler<HubBatch> for Hub {
    type Result = ();

    fn handle(&mut self, batch: HubBatch, ctx: &mut Context<Self>) {
        let _guard = AbortOnUnwind("hub");
        self.metrics.hub.commands_taken.add(batch.commands.len() as u64);
        self.incoming = (batch.worker, batch.commands.into_iter());
        self.accept_batch(ctx);
    }
}

impl Handler<HubControl> for Hub {
    type Result = ();

    fn handle(&mut self, control: HubControl, ctx: &mut Context<Self>) {
        let _guard = AbortOnUnwind("hub");
        match control {
            HubControl::Shutdown => self.workers.close_all(DisconnectReason::ServerShuttingDown),
            HubControl::Close(done) => {
                if let Some(writer) = &mut self.writer {
                    writer.close();
                }
                // Who asked may have given up waiting.
                let _ = done.send(());
            }
        }
        self.end_turn(ctx);
    }
}

/// The hub's two addresses.
#[derive(Clone)]
pub(crate) struct HubAddress {
    pub(crate) commands: Recipient<HubBatch>,
    /// For the process around.
    pub(crate) control: Recipient<HubControl>,
}
