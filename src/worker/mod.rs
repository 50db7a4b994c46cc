//! Per-thread state: the outboxes of the sessions, the index of room members, the queue to the hub,
//! and the tasks that move packets from the hub to the outboxes (fanout) and from the outboxes to
//! the sockets (flusher).
//!
//! Sessions, fanout and flusher of a thread share one [`Worker`]. No borrow of a field outlives a
//! method call, so no borrow is held across an await.

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
use self::outboxes::{OutboxMessage, Outboxes, ReplayRequest};
use self::timers::Timers;

/// State shared within a worker thread.
pub(crate) struct Worker {
    limits: Limits,
    budgets: Arc<Budgets>,
    metrics: Arc<WorkerMetrics>,
    started: Instant,
    outboxes: RefCell<Outboxes>,
    members: RefCell<Members>,
    ack_routes: RefCell<AckRoutes>,
    hub_sender: RefCell<HubSender>,
    flush_notify: LocalNotify,
    backlog: Backlog,
    /// Bytes of commands that wait for credit after their sender has ended.
    departed_bytes: Cell<usize>,
    log_throttles: LogThrottles,
    timers: RefCell<Timers>,
    /// Notification of a new deadline that is earlier than all others.
    timer_notify: LocalNotify,
}

impl Worker {
    /// Starts a worker on the current thread, which must run an actix system, and registers it with
    /// the hub.
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

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn budgets(&self) -> &Budgets {
        &self.budgets
    }

    pub(crate) fn metrics(&self) -> &Arc<WorkerMetrics> {
        &self.metrics
    }

    pub(crate) fn log_throttles(&self) -> &LogThrottles {
        &self.log_throttles
    }

    /// Queues a command for the hub in FIFO order. The flusher sends it at the end of the turn.
    pub(crate) fn send(&self, command: impl Into<HubCommand>) {
        self.hub_sender.borrow_mut().push(command.into());
        self.flush_notify.notify();
    }

    /// Requests the next chunks for sockets that read from the journal.
    fn send_replay_requests(&self) {
        let requests = self.outboxes.borrow_mut().take_replay_requests(Instant::now());
        for ReplayRequest { slot, socket, after } in requests {
            self.send(ImmediateCommand::ReadJournal { slot, socket, after });
        }
    }

    fn has_waiting_readers(&self) -> bool {
        self.outboxes.borrow().has_waiting_readers()
    }

    fn has_unread_replays(&self) -> bool {
        self.outboxes.borrow().has_unread_replays()
    }

    /// Queues a packet of a session for its own client. If the outbox overflows, it is emptied, and
    /// the session receives [`OutboxFull`](crate::messages::session::SessionCommand).
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

    /// Passes a client's ack to the worker that collects it, if the event was emitted to many
    /// sockets.
    pub(crate) fn on_ack(&self, socket: SocketId, id: AckId, args: Args) {
        let route = self.ack_routes.borrow_mut().on_answer(socket, id);
        if let Some((worker, to)) = route {
            // The arguments are copied. Otherwise they would keep the whole read buffer in memory.
            let answer = Some(args.detached());
            self.send(ImmediateCommand::Acked { worker, to, socket, answer });
        }
    }
}
