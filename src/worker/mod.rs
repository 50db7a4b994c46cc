//! What lives once per worker thread: the outboxes of its sessions, the index of its room members, the way to the hub,
//! and the two tasks that move things (fanout in, flusher out).
//!
//! Everything here is reached through one [`Worker`], shared on its thread by sessions, fanout and flusher. No borrow of
//! its insides outlives a call, so none is held across an await.

mod collecting;
mod collections;
pub(crate) mod complaints;
pub(crate) mod desk;
mod fanout;
mod flusher;
pub(crate) mod gate;
pub(crate) mod local;
pub(crate) mod members;
mod port;
mod slots;
#[cfg(test)]
mod tests;
mod wakeups;

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

use self::collections::Collections;
use self::complaints::Complaints;
use self::fanout::Fanout;
use self::flusher::{Alarm, Backlog};
use self::members::Members;
use self::port::Port;
use self::slots::{Slots, Wanted};
use self::wakeups::Wakeups;

/// A worker thread's shared state. Lives on that thread only.
pub(crate) struct Worker {
    limits: Limits,
    budgets: Arc<Budgets>,
    metrics: Arc<WorkerMetrics>,
    started: Instant,
    slots: RefCell<Slots>,
    members: RefCell<Members>,
    collections: RefCell<Collections>,
    port: RefCell<Port>,
    /// Wakes the flusher.
    alarm: Alarm,
    /// What is delivered and not yet written out.
    backlog: Backlog,
    /// Bytes of commands that wait for credit and whose senders have ended.
    departed_bytes: Cell<usize>,
    complaints: Complaints,
    wakeups: RefCell<Wakeups>,
    /// Rung when somebody is to be woken sooner than all others.
    sooner: Alarm,
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
            slots: RefCell::new(Slots::new(&limits, budgets.clone(), metrics.clone())),
            members: RefCell::default(),
            collections: RefCell::default(),
            port: RefCell::new(Port::new(id, hub, metrics.clone())),
            alarm: Alarm::default(),
            backlog: Backlog::new(limits.outbox_bytes_max),
            departed_bytes: Cell::new(0),
            complaints: Complaints::default(),
            wakeups: RefCell::default(),
            sooner: Alarm::default(),
            limits,
            budgets,
            metrics,
        });
        let fanout = Fanout::new(worker.clone()).start();
        worker.send(HubCommand::Register { fanout: fanout.recipient() });
        actix::spawn(flusher::run(worker.clone()));
        actix::spawn(wakeups::run(worker.clone()));
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
    pub(crate) fn complaints(&self) -> &Complaints {
        &self.complaints
    }

    /// Queues a command for the hub, behind all earlier ones of this worker; it leaves at the end of this turn.
    pub(crate) fn send(&self, command: HubCommand) {
        self.port.borrow_mut().push(command);
        self.alarm.ring();
    }

    /// Opens an outbox for a session.
    pub(crate) fn open_slot(&self, link: SessionLink) -> SlotKey {
        self.slots.borrow_mut().open(link)
    }

    /// Drops a session's outbox and drainer. Deliveries that still name it fall away.
    pub(crate) fn close_slot(&self, slot: SlotKey) {
        // Dropped outside the borrow: a drainer's end may wake others.
        let closed = self.slots.borrow_mut().close(slot);
        drop(closed);
    }

    /// What a connection that drains the outbox must begin with, in front of every packet.
    pub(crate) fn begin_with(&self, slot: SlotKey, answer: Bytes) {
        self.slots.borrow_mut().begin_with(slot, answer);
    }

    /// Gives the outbox a drainer, which takes what waits right away. Returns the drainer that it had.
    pub(crate) fn set_drainer(&self, slot: SlotKey, sink: Box<dyn FrameSink>) -> Option<Box<dyn FrameSink>> {
        let before = self.slots.borrow_mut().set_drainer(slot, Some(sink));
        self.slots.borrow_mut().flush(slot);
        self.send_wanted();
        before
    }

    /// Asks the hub for what readers want.
    fn send_wanted(&self) {
        let wanted = self.slots.borrow_mut().take_wanted(Instant::now());
        for Wanted { slot, socket, after } in wanted {
            self.send(HubCommand::Read { slot, socket, after });
        }
    }

    /// Whether readers wait until other clients have read what was replayed to them.
    fn has_hungry(&self) -> bool {
        self.slots.borrow().is_hungry()
    }

    /// Whether clients have yet to take what was replayed to them.
    fn has_lent(&self) -> bool {
        self.slots.borrow().has_lent()
    }

    /// Takes the outbox's drainer away; packets wait for the next one.
    pub(crate) fn take_drainer(&self, slot: SlotKey) -> Option<Box<dyn FrameSink>> {
        self.slots.borrow_mut().set_drainer(slot, None)
    }

    /// Whether the outbox has a drainer.
    pub(crate) fn has_drainer(&self, slot: SlotKey) -> bool {
        self.slots.borrow().has_drainer(slot)
    }

    /// The drainer's peer takes bytes again.
    pub(crate) fn writable(&self, slot: SlotKey) {
        self.slots.borrow_mut().unblock(slot);
        self.alarm.ring();
    }

    /// Stops or resumes reading from the drainer's connection.
    pub(crate) fn set_reading(&self, slot: SlotKey, reading: bool) {
        self.slots.borrow_mut().set_reading(slot, reading);
    }

    /// Whether the client has taken nothing of what waits for [`Limits::stall_timeout`]. Its session asks with each ping.
    pub(crate) fn is_stalled(&self, slot: SlotKey, now: Instant) -> bool {
        self.slots.borrow_mut().is_stalled(slot, now)
    }

    /// Whether the drainer's peer has closed its side; for sessions that do not read at present.
    pub(crate) fn is_peer_gone(&self, slot: SlotKey) -> bool {
        self.slots.borrow().is_peer_gone(slot)
    }

    /// Queues a session's packet for its own client; a full outbox loses its session
    /// ([`OutboxFull`](crate::messages::session::SessionCommand)).
    pub(crate) fn push(&self, slot: SlotKey, packet: DirectPacket) {
        let mut slots = self.slots.borrow_mut();
        let bytes = packet.byte_len();
        match packet {
            DirectPacket::Sealed(message) => slots.push(slot, &message, None, false),
            DirectPacket::Unnumbered { draft, volatile } => {
                let token = slots.last_offset(slot);
                slots.push(slot, &draft.seal(None, token.as_ref()), None, volatile)
            }
        };
        slots.push_fresh(slot, bytes);
        self.alarm.ring();
    }

    /// Queues a packet ahead of all events.
    pub(crate) fn push_control(&self, slot: SlotKey, packet: EncodedFrame) {
        self.slots.borrow_mut().push_control(slot, packet);
        self.alarm.ring();
    }

    /// Lets the drainer say its final packet; the session hears `ClosingDrained` once everything is out. Returns false if
    /// there is no drainer to wait for.
    pub(crate) fn queue_close(&self, slot: SlotKey, close_reason: CloseReason) -> bool {
        let mut slots = self.slots.borrow_mut();
        let waits = slots.queue_close(slot, close_reason);
        slots.flush(slot);
        waits
    }

    /// Queues the final packet for a drainer that is yet to come; the session hears `ClosingDrained` once it is out.
    pub(crate) fn queue_final_packet(&self, slot: SlotKey, word: EncodedFrame) {
        self.slots.borrow_mut().queue_final_packet(slot, word);
    }

    /// Whether nothing waits in the outbox.
    pub(crate) fn is_drained(&self, slot: SlotKey) -> bool {
        self.slots.borrow().is_drained(slot)
    }

    /// Whether emits to this outbox should wait; if so, the session hears `OutboxLow` when they need not any more.
    pub(crate) fn is_congested(&self, slot: SlotKey) -> bool {
        self.slots.borrow_mut().is_congested(slot)
    }

    /// The same for emits that the journal takes: also while the client has yet to read from it.
    pub(crate) fn is_behind(&self, slot: SlotKey) -> bool {
        self.slots.borrow_mut().is_behind(slot)
    }

    /// Shows the session what is queued for its client from here on ([`Sent`](crate::messages::session::SessionCommand)).
    pub(crate) fn observe(&self, slot: SlotKey) {
        self.slots.borrow_mut().observe(slot);
    }

    /// The session has looked at one of those.
    pub(crate) fn seen(&self, slot: SlotKey) {
        self.slots.borrow_mut().seen(slot);
    }

    /// A socket's client answered an event that wanted acks of many.
    pub(crate) fn acked(&self, socket: SocketId, id: u64, args: Args) {
        let whose = self.collections.borrow_mut().answered(socket, id);
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
