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
use bytes::Bytes;

use crate::ids::{MemberKey, SlotKey, SocketId, WorkerId};
use crate::limits::Limits;
use crate::messages::hub::{DirectPacket, HubBatch, HubCommand};
use crate::messages::session::SessionLink;
use crate::messages::sink::{CloseReason, FrameSink};
use crate::messages::socket::SocketInfo;
use crate::metrics::WorkerMetrics;
use crate::protocol::encoded::EncodedFrame;
use crate::protocol::socketio::packet::Args;
use crate::state::budget::Budgets;

use self::ack_collector::AckRoutes;
use self::fanout::Fanout;
use self::flusher::{Backlog, LocalNotify};
use self::hub_sender::HubSender;
use self::log_throttle::LogThrottles;
use self::members::Members;
use self::outboxes::{Outboxes, WantedReplay};
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
            backlog: Backlog::new(limits.outbox_bytes_max),
            departed_bytes: Cell::new(0),
            log_throttles: LogThrottles::default(),
            timers: RefCell::default(),
            timer_notify: LocalNotify::default(),
            limits,
            budgets,
            metrics,
        });
        let fanout = Fanout::new(worker.clone()).start();
        worker.send(HubCommand::Register { fanout: fanout.recipient() });
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
    pub(crate) fn send(&self, command: HubCommand) {
        self.hub_sender.borrow_mut().push(command);
        self.flush_notify.notify();
    }

    /// Opens an outbox for a session.
    pub(crate) fn open_slot(&self, link: SessionLink) -> SlotKey {
        self.outboxes.borrow_mut().open(link)
    }

    /// Drops a session's outbox and drainer. Deliveries that still name it fall away.
    pub(crate) fn close_slot(&self, slot: SlotKey) {
        // Dropped outside the borrow: a drainer's end may wake others.
        let closed = self.outboxes.borrow_mut().close(slot);
        drop(closed);
    }

    /// What a connection that drains the outbox must begin with, in front of every packet.
    pub(crate) fn begin_with(&self, slot: SlotKey, answer: Bytes) {
        self.outboxes.borrow_mut().begin_with(slot, answer);
    }

    /// Gives the outbox a drainer, which takes what waits right away. Returns the drainer that it had.
    pub(crate) fn set_drainer(&self, slot: SlotKey, sink: Box<dyn FrameSink>) -> Option<Box<dyn FrameSink>> {
        let before = self.outboxes.borrow_mut().set_drainer(slot, Some(sink));
        self.outboxes.borrow_mut().flush(slot);
        self.send_wanted();
        before
    }

    /// Asks the hub for what readers want.
    fn send_wanted(&self) {
        let wanted = self.outboxes.borrow_mut().take_wanted(Instant::now());
        for WantedReplay { slot, socket, after } in wanted {
            self.send(HubCommand::Read { slot, socket, after });
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

    /// Takes the outbox's drainer away; packets wait for the next one.
    pub(crate) fn take_drainer(&self, slot: SlotKey) -> Option<Box<dyn FrameSink>> {
        self.outboxes.borrow_mut().set_drainer(slot, None)
    }

    /// Whether the outbox has a drainer.
    pub(crate) fn has_drainer(&self, slot: SlotKey) -> bool {
        self.outboxes.borrow().has_drainer(slot)
    }

    /// The drainer's peer takes bytes again.
    pub(crate) fn on_writable(&self, slot: SlotKey) {
        self.outboxes.borrow_mut().unblock(slot);
        self.flush_notify.notify();
    }

    /// Stops or resumes reading from the drainer's connection.
    pub(crate) fn set_reading(&self, slot: SlotKey, reading: bool) {
        self.outboxes.borrow_mut().set_reading(slot, reading);
    }

    /// Whether the client has taken nothing of what waits for [`Limits::stall_timeout`]. Its session asks with each ping.
    pub(crate) fn is_stalled(&self, slot: SlotKey, now: Instant) -> bool {
        self.outboxes.borrow_mut().is_stalled(slot, now)
    }

    /// Whether the drainer's peer has closed its side; for sessions that do not read at present.
    pub(crate) fn is_peer_gone(&self, slot: SlotKey) -> bool {
        self.outboxes.borrow().is_peer_gone(slot)
    }

    /// Queues a session's packet for its own client; a full outbox loses its session
    /// ([`OutboxFull`](crate::messages::session::SessionCommand)).
    pub(crate) fn push(&self, slot: SlotKey, packet: DirectPacket) {
        let mut outboxes = self.outboxes.borrow_mut();
        let bytes = packet.byte_len();
        match packet {
            DirectPacket::Sealed(message) => outboxes.push(slot, &message, None, false),
            DirectPacket::Unnumbered { draft, volatile } => {
                let token = outboxes.last_offset(slot);
                outboxes.push(slot, &draft.seal(None, token.as_ref()), None, volatile)
            }
        };
        outboxes.push_fresh(slot, bytes);
        self.flush_notify.notify();
    }

    /// Queues a packet ahead of all events.
    pub(crate) fn push_control(&self, slot: SlotKey, packet: EncodedFrame) {
        self.outboxes.borrow_mut().push_control(slot, packet);
        self.flush_notify.notify();
    }

    /// Lets the drainer say its final packet; the session hears `ClosingDrained` once everything is out. Returns false if
    /// there is no drainer to wait for.
    pub(crate) fn queue_close(&self, slot: SlotKey, close_reason: CloseReason) -> bool {
        let mut outboxes = self.outboxes.borrow_mut();
        let waits = outboxes.queue_close(slot, close_reason);
        outboxes.flush(slot);
        waits
    }

    /// Queues the final packet for a drainer that is yet to come; the session hears `ClosingDrained` once it is out.
    pub(crate) fn queue_final_packet(&self, slot: SlotKey, word: EncodedFrame) {
        self.outboxes.borrow_mut().queue_final_packet(slot, word);
    }

    /// Whether nothing waits in the outbox.
    pub(crate) fn is_drained(&self, slot: SlotKey) -> bool {
        self.outboxes.borrow().is_drained(slot)
    }

    /// Whether emits to this outbox should wait; if so, the session hears `OutboxLow` when they need not any more.
    pub(crate) fn is_congested(&self, slot: SlotKey) -> bool {
        self.outboxes.borrow_mut().is_congested(slot)
    }

    /// The same for emits that the journal takes: also while the client has yet to read from it.
    pub(crate) fn is_behind(&self, slot: SlotKey) -> bool {
        self.outboxes.borrow_mut().is_behind(slot)
    }

    /// Shows the session what is queued for its client from here on ([`Sent`](crate::messages::session::SessionCommand)).
    pub(crate) fn observe(&self, slot: SlotKey) {
        self.outboxes.borrow_mut().observe(slot);
    }

    /// The session has looked at one of those.
    pub(crate) fn mark_seen(&self, slot: SlotKey) {
        self.outboxes.borrow_mut().mark_seen(slot);
    }

    /// A socket's client answered an event that wanted acks of many.
    pub(crate) fn on_ack(&self, socket: SocketId, id: u64, args: Args) {
        let whose = self.ack_routes.borrow_mut().on_answer(socket, id);
        if let Some((worker, to)) = whose {
            // A copy: as they came they share the memory of everything that was read together with them.
            let answer = Some(args.detached());
            self.send(HubCommand::Acked { worker, to, socket, answer });
        }
    }

    /// Keeps a place for a socket. It is given back by the hub's `Detach`.
    pub(crate) fn add_member(&self, socket: Arc<SocketInfo>, slot: SlotKey) -> MemberKey {
        self.members.borrow_mut().add(socket, slot)
    }
}
