//! The one central actor: which rooms exist, which workers have members, and *the order*.
//!
//! Its mailbox order is the order of connects, joins, leaves and broadcasts that everybody observes. It never waits: not
//! for a worker, not for a session, not for the disk.

pub(crate) mod history;
mod links;
mod returning;
mod stages;
#[cfg(test)]
mod tests;
mod watching;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::{ActorFutureExt, wrap_future};
use actix::{Actor, AsyncContext, Context, Handler, Recipient};
use tokio::sync::broadcast;

use crate::ids::WorkerId;
use crate::limits::Limits;
use crate::log::Queue;
use crate::messages::abort::AbortOnUnwind;
use crate::messages::fanout::FanoutCommand;
use crate::messages::hub::{HubBatch, HubCommand, HubControl};
use crate::messages::room_change::RoomChange;
use crate::metrics::Metrics;
use crate::protocol::reason::DisconnectReason;
use crate::state::pipeline::Pipeline;
use crate::state::rooms::Rooms;

use self::history::History;
use self::links::Links;
use self::returning::Reader;
use self::stages::Entry;

/// Before a batch is offered again to a worker whose mailbox was full.
const WORKER_RETRY: Duration = Duration::from_millis(1);

/// Commands between two looks at other work of this thread, which is the desk's: about a millisecond of them.
const COMMANDS_PER_TURN: usize = 1_024;

/// The central actor.
pub(crate) struct Hub {
    limits: Limits,
    rooms: Rooms,
    /// What is numbered and not yet applied.
    pipeline: Pipeline<Entry>,
    /// Set while recovery is on.
    history: Option<History>,
    /// Sockets that catch up and want more; each is here once at most.
    readers: VecDeque<Reader>,
    /// Bytes read for one of them at a time: no more than an outbox that asks has room for.
    replay_bytes: usize,
    /// Whether a turn is due for those who could not be served in the last one.
    serving: bool,
    /// Set where durable events are kept.
    queue: Option<Box<dyn Queue>>,
    links: Links,
    /// Events so far that want acks of many.
    collections: u64,
    /// For those who watch rooms.
    room_changes: broadcast::Sender<RoomChange>,
    retrying: bool,
    /// Commands taken since others of this thread had their turn.
    taken: usize,
    metrics: Arc<Metrics>,
}

/// What a hub keeps, beside its rooms.
#[derive(Default)]
pub(crate) struct Stores {
    /// With a history, events are numbered and bear tokens, and clients come back to them.
    pub(crate) history: Option<History>,
    /// With a queue, durable events are taken.
    pub(crate) queue: Option<Box<dyn Queue>>,
    /// What the hub counts, beside what its workers count.
    pub(crate) metrics: Arc<Metrics>,
}

impl Hub {
    pub(crate) fn new(limits: Limits, stores: Stores, room_changes: broadcast::Sender<RoomChange>) -> Self {
        let Stores { history, queue, metrics } = stores;
        Self {
            rooms: Rooms::default(),
            pipeline: Pipeline::default(),
            history,
            readers: VecDeque::new(),
            replay_bytes: limits.replay_bytes.min(limits.outbox_bytes_max / 4).max(1),
            serving: false,
            queue,
            links: Links::new(limits.worker_bytes_max),
            limits,
            collections: 0,
            room_changes,
            retrying: false,
            taken: 0,
            metrics,
        }
    }

    fn take(&mut self, worker: WorkerId, command: HubCommand) {
        match command {
            HubCommand::Register { fanout } => self.links.register(worker, fanout),
            HubCommand::Claim { from, namespace, claim } => self.take_claim(worker, from, &namespace, claim),
            HubCommand::Connect(connect) => {
                let offset = self.number();
                self.pass(Entry::Connect { worker, connect, offset });
            }
            HubCommand::Read { slot, socket, after } => self.readers.push_back(Reader { worker, slot, socket, after }),
            HubCommand::Data { from, socket, data } => {
                let offset = self.number();
                self.pass(Entry::Data { worker, from, socket, data, offset });
            }
            HubCommand::Disconnect { slot, socket, forever, rooms } => {
                let offset = self.number();
                self.pass(Entry::Disconnect { worker, slot, socket, forever, rooms, offset });
            }
            HubCommand::Join { from, socket, room } => {
                let offset = self.number();
                self.pass(Entry::Join { worker, from, socket, room, offset });
            }
            HubCommand::Leave { from, socket, room } => {
                let offset = self.number();
                self.pass(Entry::Leave { worker, from, socket, room, offset });
            }
            HubCommand::Broadcast(broadcast) => {
                self.metrics.hub.events.add(1);
                self.take_event(worker, *broadcast);
            }
            HubCommand::Pass { from, packet } => self.pass(Entry::Pass { worker, from, packet }),
            HubCommand::Fetch { from, namespace, target } => {
                self.pass(Entry::Fetch { worker, from, namespace, target });
            }
            HubCommand::List { from, listing } => self.pass(Entry::List { worker, from, listing }),
            HubCommand::Fetched { worker, to, sockets } => self.links.fetched(worker, to, sockets),
            HubCommand::Acked { worker, to, socket, answer } => {
                self.links.tell(worker, FanoutCommand::Acked { to, socket, answer })
            }
            HubCommand::Consumed { bytes } => self.links.consumed(worker, bytes),
        }
    }

    /// Shows what there is at the end of a turn.
    fn count(&self) {
        let metrics = &self.metrics.hub;
        metrics.rooms.set(self.rooms.rooms());
        metrics.sockets.set(self.rooms.sockets());
        metrics.answers_held.set(self.links.answers_held());
        metrics.unwritten_bytes.set(self.links.unwritten());
    }

    /// Sends what this turn has for the workers, and clears up after workers that have died.
    fn end_turn(&mut self, ctx: &mut Context<Self>) {
        if self.serve_readers() && !self.serving {
            self.serving = true;
            ctx.spawn(wrap_future(tokio::task::yield_now()).map(|(), hub: &mut Self, ctx| {
                let _guard = AbortOnUnwind("hub");
                hub.serving = false;
                hub.end_turn(ctx);
            }));
        }
        if let Some(history) = &mut self.history {
            // Before anything of this turn is revealed.
            history.flush();
        }
        self.count();
        let outcome = self.links.flush();
        for worker in outcome.dead {
            log::warn!("worker is gone, its sockets are taken out worker={}", worker.0);
            for (socket, slot) in self.rooms.sockets_of(worker) {
                let offset = self.number();
                self.pass(Entry::Disconnect { worker, slot, socket, forever: false, rooms: None, offset });
            }
        }
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
        ctx.set_mailbox_capacity(self.limits.mailbox_batches);
    }
}

impl Handler<HubBatch> for Hub {
    type Result = ();

    fn handle(&mut self, batch: HubBatch, ctx: &mut Context<Self>) {
        let _guard = AbortOnUnwind("hub");
        self.taken += batch.commands.len();
        self.metrics.hub.commands_taken.add(batch.commands.len() as u64);
        for command in batch.commands {
            self.take(batch.worker, command);
        }
        self.end_turn(ctx);
        if self.taken >= COMMANDS_PER_TURN {
            self.taken = 0;
            ctx.wait(wrap_future(tokio::task::yield_now()));
        }
    }
}

impl Handler<HubControl> for Hub {
    type Result = ();

    fn handle(&mut self, control: HubControl, ctx: &mut Context<Self>) {
        let _guard = AbortOnUnwind("hub");
        match control {
            HubControl::Committed(position) => {
                self.pipeline.release(position);
                self.advance();
            }
            HubControl::Shutdown => self.links.close_all(DisconnectReason::ServerShuttingDown),
            HubControl::Close(done) => {
                if let Some(history) = &mut self.history {
                    history.close();
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
    /// For workers.
    pub(crate) commands: Recipient<HubBatch>,
    /// For the process around.
    pub(crate) control: Recipient<HubControl>,
}
