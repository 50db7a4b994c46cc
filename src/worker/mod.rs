//! What lives once per worker thread: the outboxes of its sessions, the index of its room members, the way to the hub,
//! and the two tasks that move things (fanout in, flusher out).
//!
//! Everything here is reached through one [`Worker`], shared on its thread by sessions, fanout and flusher. No borrow of
//! its insides outlives a call, so none is held across an await.

mod ack_collector;
pub(crate) mod credit_window;
mod fanout;
mod flusher;
mod hub_sender;
pub(crate) mod log_throttle;
pub(crate) mod members;
pub(crate) mod outbox_handle;
mod outboxes;
pub(crate) mod per_thread;
pub(crate) mod server_sender;
#[cfg(test)]
mod tests;
mod timers;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix::{Actor, Recipient};

use crate::ids::{AckId, SlotKey, SocketId, WorkerId};
use crate::limits::Limits;
use crate::messages::event::DirectPacket;
use crate::messages::hub::{HubBatch, HubCommand, ImmediateCommand};
use crate::metrics::WorkerMetrics;
use crate::protocol::socketio::packet::Args;
use crate::state::budget::Budgets;

use self::ack_collector::AckRoutes;
use self::fanout::Fanout;
use self::flusher::{Backlog, LocalNotify};
use self::hub_sender::HubSender;
use self::log_throttle::LogThrottles;
use self::members::Members;
use self::outboxes::{OutboxMessage, Outboxes, WantedReplay};
use self::timers::Timers;

/// A worker thread's shared state. Lives on that thread only.
pub(crate) struct Worker {
    limits: Limits,
    budgets: Arc<Budgets>,
    metrics: Arc<WorkerMetrics>,
    started: Instant,
    outboxes: RefCell<Outboxes>,
    members: RefCell<Members>,
    ack_routes: RefCell<AckRoutes>,
    hub_sender: RefCell<HubSender>,
    /// Wakes the flusher.
    flush_notify: LocalNotify,
    /// What is delivered and not yet written out.
    backlog: Backlog,
    /// Bytes of commands that wait for credit and whose senders have ended.
    departed_bytes: Cell<usize>,
    log_throttles: LogThrottles,
    timers: RefCell<Timers>,
    /// Rung when someone is to be woken sooner than all others.
    timer_notify: LocalNotify,
}

impl Worker {
    /// Sets the worker up on the current thread, which must run an actix system, and introduces it to the hub.
    pub(crate) fn start(
        id: WorkerId,
        hub: Recipient<HubBatch>,
        limits: Limits,
        budgets: Arc<Budgets>,
        metrics: Arc<WorkerMetrics>,
    ) -> Rc<Self> {
        let worker = Rc::new(Self {
            started: Instant::now(),
            outboxes: RefCell::new(Outboxes::new(&limits, budgets.clone(), metrics.clone())),
            members: RefCell::default(),
            ack_routes: RefCell::default(),
            hub_sender: RefCell::new(HubSender::new(id, hub, metrics.clone())),
            flush_notify: LocalNotify::default(),
            backlog: Backlog::new(limits.sessions.outbox_bytes_max),
            departed_bytes: Cell::new(0),
            log_throttles: LogThrottles::default(),
            timers: RefCell::default(),
            timer_notify: LocalNotify::default(),
            limits,
            budgets,
            metrics,
        });
        let fanout = Fanout::new(worker.clone()).start();
        worker.send(ImmediateCommand::Register { fanout: fanout.recipient() });
        actix::spawn(flusher::run(worker.clone()));
        actix::spawn(timers::run(worker.clone()));
        worker
    }

    /// The server's bounds.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What all clients of the server share.
    pub(crate) fn budgets(&self) -> &Budgets {
        &self.budgets
    }

    /// What this worker counts.
    pub(crate) fn metrics(&self) -> &Arc<WorkerMetrics> {
        &self.metrics
    }

    /// How often its sessions may warn of their clients.
    pub(crate) fn log_throttles(&self) -> &LogThrottles {
        &self.log_throttles
    }

    /// Queues a command for the hub, behind all earlier ones of this worker; it leaves at the end of this turn.
    pub(crate) fn send(&self, command: impl Into<HubCommand>) {
        self.hub_sender.borrow_mut().push(command.into());
        self.flush_notify.notify();
    }

    /// Asks the hub for what readers want.
    fn send_wanted(&self) {
        let wanted = self.outboxes.borrow_mut().take_wanted(Instant::now());
        for WantedReplay { slot, socket, after } in wanted {
            self.send(ImmediateCommand::Read { slot, socket, after });
        }
    }

    /// Whether readers wait until other clients have read what was replayed to them.
    fn has_readers_awaiting_budget(&self) -> bool {
        self.outboxes.borrow().awaits_budget()
    }

    /// Whether clients have yet to take what was replayed to them.
    fn has_lent(&self) -> bool {
        self.outboxes.borrow().has_lent()
    }

    /// Queues a session's packet for its own client; a full outbox loses its session
    /// ([`OutboxFull`](crate::messages::session::SessionCommand)).
    fn push(&self, slot: SlotKey, packet: DirectPacket) {
        let mut outboxes = self.outboxes.borrow_mut();
        let bytes = packet.byte_len();
        match packet {
            DirectPacket::Sealed(message) => outboxes.push(slot, OutboxMessage::unnumbered(&message)),
            DirectPacket::Unnumbered { draft, volatile } => {
                let token = outboxes.last_offset(slot);
                let message = draft.seal(None, token.as_ref());
                outboxes.push(slot, OutboxMessage { volatile, ..OutboxMessage::unnumbered(&message) })
            }
        };
        outboxes.push_fresh(slot, bytes);
        self.flush_notify.notify();
    }

    /// A socket's client answered an event that wanted acks of many.
    pub(crate) fn on_ack(&self, socket: SocketId, id: AckId, args: Args) {
        let whose = self.ack_routes.borrow_mut().on_answer(socket, id);
        if let Some((worker, to)) = whose {
            // A copy: as they came they share the memory of everything that was read together with them.
            let answer = Some(args.detached());
            self.send(ImmediateCommand::Acked { worker, to, socket, answer });
        }
    }
}
