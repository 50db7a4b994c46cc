//! The central actor. It has the table of rooms, and orders, numbers and journals events.
//!
//! All clients observe connects, joins, leaves and broadcasts in the order in which the hub
//! executes commands (`intake`). The hub never blocks on a worker or a session, and writes the
//! journal without an fsync.

mod intake;
pub(crate) mod journal_writer;
mod ordering;
pub(crate) mod publishing;
mod replaying;
mod resume;
mod resume_senders;
mod room_events;
#[cfg(test)]
mod tests;
mod workers;

use std::sync::Arc;
use std::time::Duration;
use std::vec;

use actix::{Actor, AsyncContext, Context, Handler, Recipient};
use tokio::sync::broadcast;

use crate::ids::WorkerId;
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

use self::intake::{CommandSender, TURN_WORK};
use self::journal_writer::JournalWriter;
use self::publishing::{HubQueue, Publishing};
use self::resume_senders::ResumeSenders;
use self::workers::WorkerLinks;

/// Delay before a batch is sent again to a worker whose mailbox was full.
const WORKER_RETRY: Duration = Duration::from_millis(1);

pub(crate) struct Hub {
    limits: Limits,
    rooms: Rooms,
    /// `None` while recovery is off.
    writer: Option<JournalWriter>,
    /// `None` while the queue is off.
    publishing: Option<Publishing>,
    /// Maximum number of bytes of one replay. At most a quarter of an outbox.
    replay_bytes: usize,
    schedule: Schedule<CommandSender, OrderedCommand>,
    /// Entries exist only while senders have accounts in `schedule`.
    resume_senders: ResumeSenders,
    /// Journalled bytes of each sender, and the commands of senders that have used up their share.
    shares: Shares<CommandSender, OrderedCommand>,
    /// The worker that sent the current batch, and the remaining commands of the batch. They are
    /// executed before the next message is handled.
    incoming: (WorkerId, vec::IntoIter<HubCommand>),
    /// Work done in this turn, in bytes.
    work: usize,
    /// Bytes of the events sent to workers in this turn, each event multiplied by the number of its
    /// receivers, and the work of listing members.
    fanout_bytes: usize,
    /// Bytes of records that were journalled for commands since the start.
    journalled: u64,
    /// True while [`Hub::schedule_release`] has a timer running.
    release_scheduled: bool,
    /// Earliest time of the next warning about a sender that has used up its share.
    warn_share_at_ms: u64,
    /// True while [`Hub::schedule_turn`] has a turn pending.
    turn_scheduled: bool,
    workers: WorkerLinks,
    collections: u64,
    room_changes: broadcast::Sender<RoomChange>,
    /// True while a timer for [`WORKER_RETRY`] is running.
    retry_scheduled: bool,
    metrics: Arc<Metrics>,
    budgets: Arc<Budgets>,
    /// Usage that was last reported to the budget of rooms.
    reported: Part,
}

#[derive(Default)]
pub(crate) struct Stores {
    /// If set, events have numbers and tokens, and clients can resume their sessions.
    pub(crate) writer: Option<JournalWriter>,
    /// `None` while the queue is off.
    pub(crate) queue: Option<HubQueue>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) budgets: Arc<Budgets>,
}

impl Hub {
    pub(crate) fn new(limits: Limits, stores: Stores, room_changes: broadcast::Sender<RoomChange>) -> Self {
        let Stores { writer, queue, metrics, budgets } = stores;
        let share_bytes = limits.journal.sender_bytes_max.unwrap_or(usize::MAX);
        Self {
            rooms: Rooms::default(),
            writer,
            publishing: queue.map(Publishing::new),
            replay_bytes: limits.recovery.replay_bytes.min(limits.sessions.outbox_bytes_max / 4).max(1),
            schedule: Schedule::default(),
            resume_senders: ResumeSenders::default(),
            shares: Shares::new(share_bytes, limits.recovery.window),
            incoming: (WorkerId(0), Vec::new().into_iter()),
            work: 0,
            fanout_bytes: 0,
            journalled: 0,
            release_scheduled: false,
            warn_share_at_ms: 0,
            turn_scheduled: false,
            workers: WorkerLinks::new(limits.hub.worker_bytes_max),
            limits,
            collections: 0,
            room_changes,
            retry_scheduled: false,
            metrics,
            budgets,
            reported: Part::default(),
        }
    }

    /// Updates gauges and the budget of rooms at the end of a turn.
    fn report(&mut self) {
        let metrics = &self.metrics.hub;
        metrics.rooms.set(self.rooms.rooms());
        metrics.sockets.set(self.rooms.sockets());
        metrics.answers_held.set(self.schedule.queued() + self.shares.queued());
        metrics.unwritten_bytes.set(self.workers.unwritten());
        let now = Part { bytes: self.rooms.bytes(), holders: 0 };
        self.budgets.rooms.replace(std::mem::replace(&mut self.reported, now), now);
    }

    /// Flushes the journal, sends the turn's batches to the workers, and removes workers that have
    /// ended.
    fn end_turn(&mut self, ctx: &mut Context<Self>) {
        if let Some(writer) = &mut self.writer {
            // The records must be written before workers receive the events.
            writer.flush();
        }
        self.report();
        let outcome = self.workers.flush();
        for worker in outcome.dead {
            self.schedule.remove(|sender| sender.worker == worker);
            self.shares.remove(|sender| sender.worker == worker);
            self.resume_senders.remove_worker(worker);
            log::warn!("worker ended, its sockets are disconnected worker={}", worker.0);
            for (socket, slot) in self.rooms.sockets_of(worker) {
                self.apply_disconnect(worker, slot, socket, false, None);
            }
        }
        self.forget_accounts();
        self.notify_queue(ctx);
        self.schedule_release(ctx);
        self.schedule_turn(ctx);
        if outcome.full && !self.retry_scheduled {
            self.retry_scheduled = true;
            ctx.run_later(WORKER_RETRY, |hub, ctx| {
                let _guard = AbortOnUnwind("hub");
                hub.retry_scheduled = false;
                hub.end_turn(ctx);
            });
        }
    }
}

impl Actor for Hub {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(self.limits.hub.mailbox_batches);
        if let Some(publishing) = &self.publishing {
            let hub = ctx.address().downgrade();
            // A full mailbox needs no message: the hub takes reports in every turn.
            publishing.wake_with(move || _ = hub.upgrade().map(|hub| hub.try_send(HubControl::QueueCommitted)));
        }
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
            HubControl::QueueCommitted => self.process_reports(TURN_WORK),
            HubControl::Close(done) => {
                self.process_all_reports();
                self.stop_notifications();
                if let Some(writer) = &mut self.writer {
                    writer.close();
                }
                // The send fails if the requester has stopped waiting.
                let _ = done.send(());
            }
        }
        self.end_turn(ctx);
    }
}

#[derive(Clone)]
pub(crate) struct HubAddress {
    pub(crate) commands: Recipient<HubBatch>,
    pub(crate) control: Recipient<HubControl>,
}
