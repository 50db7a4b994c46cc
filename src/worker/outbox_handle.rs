//! A session's outbox, as its session uses it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Worker;
use crate::ids::{MemberKey, SlotKey};
use crate::messages::event::DirectPacket;
use crate::messages::session::SessionLink;
use crate::messages::sink::{CloseReason, FrameSink};
use crate::messages::socket::SocketInfo;
use crate::protocol::encoded::EncodedFrame;

/// An open outbox of a worker. Dropped, it closes.
pub(crate) struct OutboxHandle {
    pub(crate) worker: Rc<Worker>,
    pub(crate) slot: SlotKey,
}

impl OutboxHandle {
    /// Opens an outbox for the session (or server sender) of this address.
    pub(crate) fn open(worker: Rc<Worker>, link: SessionLink) -> Rc<Self> {
        let slot = worker.outboxes.borrow_mut().open(link);
        Rc::new(Self { worker, slot })
    }

    /// Drops packets and drainer. Deliveries that still name the slot fall away.
    pub(super) fn close(&self) {
        // Dropped outside the borrow: a drainer's end may wake others.
        let closed = self.worker.outboxes.borrow_mut().close(self.slot);
        drop(closed);
    }

    /// Sets what a connection that drains the outbox must begin with, in front of every packet.
    pub(crate) fn begin_with(&self, answer: Bytes) {
        self.worker.outboxes.borrow_mut().begin_with(self.slot, answer);
    }

    /// Gives the outbox a drainer, which takes what waits right away. Returns the drainer that it had.
    pub(crate) fn set_drainer(&self, sink: Box<dyn FrameSink>) -> Option<Box<dyn FrameSink>> {
        let before = self.worker.outboxes.borrow_mut().set_drainer(self.slot, Some(sink));
        self.worker.outboxes.borrow_mut().flush(self.slot);
        self.worker.send_wanted();
        before
    }

    /// Takes the drainer away; packets wait for the next one.
    pub(crate) fn take_drainer(&self) -> Option<Box<dyn FrameSink>> {
        self.worker.outboxes.borrow_mut().set_drainer(self.slot, None)
    }

    pub(crate) fn has_drainer(&self) -> bool {
        self.worker.outboxes.borrow().has_drainer(self.slot)
    }

    /// The drainer's peer takes bytes again.
    pub(crate) fn on_writable(&self) {
        self.worker.outboxes.borrow_mut().unblock(self.slot);
        self.worker.flush_notify.notify();
    }

    /// Stops or resumes reading from the drainer's connection.
    pub(crate) fn set_reading(&self, reading: bool) {
        self.worker.outboxes.borrow_mut().set_reading(self.slot, reading);
    }

    /// Whether the client has taken nothing of what waits for
    /// [`limits.sessions.stall_timeout`](crate::limits::SessionLimits::stall_timeout). Its session asks with each ping.
    pub(crate) fn is_stalled(&self, now: Instant) -> bool {
        self.worker.outboxes.borrow_mut().is_stalled(self.slot, now)
    }

    /// Whether the drainer's peer has closed its side; for sessions that do not read at present.
    pub(crate) fn is_peer_gone(&self) -> bool {
        self.worker.outboxes.borrow().is_peer_gone(self.slot)
    }

    /// Queues a session's packet for its own client; a full outbox loses its session
    /// ([`OutboxFull`](crate::messages::session::SessionCommand)).
    pub(crate) fn push(&self, packet: DirectPacket) {
        self.worker.push(self.slot, packet);
    }

    /// Queues a packet ahead of all events.
    pub(crate) fn push_control(&self, packet: EncodedFrame) {
        self.worker.outboxes.borrow_mut().push_control(self.slot, packet);
        self.worker.flush_notify.notify();
    }

    /// Lets the drainer write its final packet; the session receives `ClosingDrained` once everything is out. Returns false if
    /// there is no drainer to wait for.
    pub(crate) fn queue_close(&self, close_reason: CloseReason) -> bool {
        let mut outboxes = self.worker.outboxes.borrow_mut();
        let waits = outboxes.queue_close(self.slot, close_reason);
        outboxes.flush(self.slot);
        waits
    }

    /// Queues the final packet for a drainer that is yet to come; the session receives `ClosingDrained` once it is out.
    pub(crate) fn queue_final_packet(&self, packet: EncodedFrame) {
        self.worker.outboxes.borrow_mut().queue_final_packet(self.slot, packet);
    }

    /// Whether nothing waits in the outbox.
    pub(crate) fn is_drained(&self) -> bool {
        self.worker.outboxes.borrow().is_drained(self.slot)
    }

    /// Whether emits to this outbox should wait; if so, the session receives `OutboxLow` when they need not any more.
    pub(crate) fn is_congested(&self) -> bool {
        self.worker.outboxes.borrow_mut().is_congested(self.slot)
    }

    /// The same for emits that the journal takes: also while the client has yet to read from it.
    pub(crate) fn is_behind(&self) -> bool {
        self.worker.outboxes.borrow_mut().is_behind(self.slot)
    }

    /// Shows the session what is queued for its client from here on ([`Sent`](crate::messages::session::SessionCommand)).
    pub(crate) fn observe(&self) {
        self.worker.outboxes.borrow_mut().observe(self.slot);
    }

    /// The session has looked at one of those.
    pub(crate) fn mark_seen(&self) {
        self.worker.outboxes.borrow_mut().mark_seen(self.slot);
    }

    /// Keeps a place among the worker's members for a socket. It is given back by the hub's `Detach`.
    pub(crate) fn add_member(&self, socket: Arc<SocketInfo>) -> MemberKey {
        self.worker.members.borrow_mut().add(socket, self.slot)
    }

    /// Has the session receive [`Wake`](crate::messages::session::SessionCommand::Wake) once the deadline is over, by a tick at
    /// most later. A deadline that is too near for that is given back as the time to wait.
    pub(crate) fn wake_at(&self, deadline: Instant) -> Option<Duration> {
        self.worker.wake_at(self.slot, deadline)
    }
}

impl Drop for OutboxHandle {
    fn drop(&mut self) {
        self.close();
    }
}
