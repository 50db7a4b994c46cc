//! A session's handle to its outbox.

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

/// An open outbox of a worker. Dropping the handle closes the outbox.
pub(crate) struct OutboxHandle {
    pub(crate) worker: Rc<Worker>,
    pub(crate) slot: SlotKey,
}

impl OutboxHandle {
    /// Opens an outbox for a session or the server sender.
    pub(crate) fn open(worker: Rc<Worker>, link: SessionLink) -> Rc<Self> {
        let slot = worker.outboxes.borrow_mut().open(link);
        Rc::new(Self { worker, slot })
    }

    /// Drops the packets and the drainer. Later deliveries to the slot are ignored.
    pub(super) fn close(&self) {
        // The drainer is dropped after the borrow has ended, since it may wake other tasks.
        let closed = self.worker.outboxes.borrow_mut().close(self.slot);
        drop(closed);
    }

    /// Sets the bytes that a connection must send before any packet.
    pub(crate) fn begin_with(&self, answer: Bytes) {
        self.worker.outboxes.borrow_mut().begin_with(self.slot, answer);
    }

    /// Sets the drainer and flushes the outbox to it. Returns the previous drainer.
    pub(crate) fn set_drainer(&self, sink: Box<dyn FrameSink>) -> Option<Box<dyn FrameSink>> {
        let before = self.worker.outboxes.borrow_mut().set_drainer(self.slot, Some(sink));
        self.worker.outboxes.borrow_mut().flush(self.slot);
        self.worker.send_replay_requests();
        before
    }

    /// Removes and returns the drainer. Packets wait until another drainer is set.
    pub(crate) fn take_drainer(&self) -> Option<Box<dyn FrameSink>> {
        self.worker.outboxes.borrow_mut().set_drainer(self.slot, None)
    }

    pub(crate) fn has_drainer(&self) -> bool {
        self.worker.outboxes.borrow().has_drainer(self.slot)
    }

    /// Continues to write to a connection that was blocked.
    pub(crate) fn on_writable(&self) {
        self.worker.outboxes.borrow_mut().unblock(self.slot);
        self.worker.flush_notify.notify();
    }

    pub(crate) fn set_reading(&self, reading: bool) {
        self.worker.outboxes.borrow_mut().set_reading(self.slot, reading);
    }

    /// Returns whether the client has read nothing from a non-empty outbox for `stall_timeout`. The
    /// session checks this at each wake-up.
    pub(crate) fn is_stalled(&self, now: Instant) -> bool {
        self.worker.outboxes.borrow_mut().is_stalled(self.slot, now)
    }

    /// Returns whether the peer has closed its side. Needed while the session has paused reading,
    /// since the end of the stream is not read then.
    pub(crate) fn is_peer_gone(&self) -> bool {
        self.worker.outboxes.borrow().is_peer_gone(self.slot)
    }

    /// Queues a packet of the session for its own client. If the outbox overflows, it is emptied,
    /// and the session receives [`OutboxFull`](crate::messages::session::SessionCommand).
    pub(crate) fn push(&self, packet: DirectPacket) {
        self.worker.push(self.slot, packet);
    }

    /// Queues a packet ahead of all events.
    pub(crate) fn push_control(&self, packet: EncodedFrame) {
        self.worker.outboxes.borrow_mut().push_control(self.slot, packet);
        self.worker.flush_notify.notify();
    }

    /// Queues the drainer's final packet. The session receives `ClosingDrained` once all packets
    /// are written. Returns false if there is no drainer.
    pub(crate) fn queue_close(&self, close_reason: CloseReason) -> bool {
        let mut outboxes = self.worker.outboxes.borrow_mut();
        let waits = outboxes.queue_close(self.slot, close_reason);
        outboxes.flush(self.slot);
        waits
    }

    /// Queues the final packet for a later drainer. The session receives `ClosingDrained` once the
    /// packet is written.
    pub(crate) fn queue_final_packet(&self, packet: EncodedFrame) {
        self.worker.outboxes.borrow_mut().queue_final_packet(self.slot, packet);
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.worker.outboxes.borrow().is_drained(self.slot)
    }

    /// Returns whether emits to this client should wait. If so, the session receives `OutboxLow`
    /// when emits may continue.
    pub(crate) fn is_congested(&self) -> bool {
        self.worker.outboxes.borrow_mut().is_congested(self.slot)
    }

    /// Like [`is_congested`](Self::is_congested), but for journalled emits. Also returns true while
    /// the client still has to read events from the journal.
    pub(crate) fn is_behind(&self) -> bool {
        self.worker.outboxes.borrow_mut().is_behind(self.slot)
    }

    /// Requests a copy of each message that is queued later
    /// ([`Sent`](crate::messages::session::SessionCommand)). No copy is sent while the session has
    /// not handled `observed_events_max` copies.
    pub(crate) fn observe(&self) {
        self.worker.outboxes.borrow_mut().observe(self.slot);
    }

    /// Records that the session has handled one of the copies that [`observe`](Self::observe)
    /// requested.
    pub(crate) fn mark_seen(&self) {
        self.worker.outboxes.borrow_mut().mark_seen(self.slot);
    }

    /// Adds a socket to the worker's members. The hub's `Detach` command removes the member.
    pub(crate) fn add_member(&self, socket: Arc<SocketInfo>) -> MemberKey {
        self.worker.members.borrow_mut().add(socket, self.slot)
    }

    /// Sends the session [`Wake`](crate::messages::session::SessionCommand::Wake) at the first tick
    /// that is not before the deadline. If the deadline is too near for that, returns the time that
    /// the session must wait instead.
    pub(crate) fn wake_at(&self, deadline: Instant) -> Option<Duration> {
        self.worker.wake_at(self.slot, deadline)
    }
}

impl Drop for OutboxHandle {
    fn drop(&mut self) {
        self.close();
    }
}
