//! A slot of the outbox slab: a session's outbox with its drainer.

use super::held::HeldBytes;
use super::reading::JournalReader;
use crate::ids::Offset;
use crate::messages::session::{SessionCommand, SessionLink};
use crate::messages::sink::FrameSink;
use crate::state::outbox::Outbox;

/// State of a slot with respect to the end of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotPhase {
    Open,
    /// The final packet is queued. The session is notified when the packet is written.
    Closing,
    /// The session was notified that the drainer is lost, that the outbox was full or cut, or that
    /// all packets are written. Only a final packet may still be queued.
    Closed,
}

pub(in crate::worker) struct OutboxSlot {
    pub(super) link: SessionLink,
    pub(super) outbox: Outbox,
    pub(super) sink: Option<Box<dyn FrameSink>>,
    /// Newest offset of the events queued so far and of the sockets' CONNECTs. Unnumbered events
    /// are sent with this offset as their token.
    pub(super) last_offset: Option<Offset>,
    pub(super) queued: bool,
    pub(super) blocked: bool,
    /// True if bytes were written since the session's last check for a stall.
    pub(super) moved: bool,
    /// True if the session delays emits until the outbox is low.
    pub(super) notify_when_low: bool,
    /// The session's sockets that read from the journal. Boxed, since they are rare.
    #[expect(clippy::box_collection, reason = "an unboxed list is three times as large, for every session")]
    pub(super) readers: Option<Box<Vec<JournalReader>>>,
    /// Upper bound of the replayed bytes in the outbox, which are not charged to the client.
    pub(super) replayed_bytes: u32,
    /// True if the session is in the queue for the replay budget.
    pub(super) waits_for_budget: bool,
    /// Number of copies that the session has not handled yet, if it observes its packets.
    pub(super) observed: Option<usize>,
    pub(super) phase: SlotPhase,
}

impl OutboxSlot {
    pub(super) fn notify(&mut self, phase: SlotPhase, command: SessionCommand) {
        self.phase = phase;
        // The error is ignored, since an ended session has closed its slot or is about to close it.
        let _ = self.link.post(command);
    }

    pub(super) fn is_ready(&self) -> bool {
        self.sink.is_some() && !self.blocked
    }

    /// Bytes that count against the budgets. If the drainer is ready, no bytes count, since they
    /// will be written soon.
    pub(super) fn held(&self) -> HeldBytes {
        if self.is_ready() {
            return HeldBytes::default();
        }
        let all = self.outbox.memory_bytes();
        let replayed = all.min(self.replayed_bytes as usize);
        HeldBytes { own: all - replayed, replayed }
    }

    /// Notifies a session that delays emits, if the outbox is low and no socket of the session
    /// reads from the journal.
    pub(super) fn notify_if_low(&mut self, low: usize) {
        if self.notify_when_low && self.readers.is_none() && self.outbox.event_bytes() <= low {
            self.notify_when_low = false;
            let _ = self.link.post(SessionCommand::OutboxLow);
        }
    }

    /// Returns whether a volatile event is accepted. Returns false while earlier events are read
    /// from the journal.
    pub(super) fn accepts_volatile(&self) -> bool {
        self.is_ready() && self.readers.is_none()
    }
}
