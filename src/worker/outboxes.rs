//! All outboxes of a worker, each with its drainer, and the queues of outboxes to be flushed.

mod held;
mod reading;
mod slot;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::ids::{Offset, SlotKey};
use crate::limits::Limits;
use crate::messages::session::{SessionCommand, SessionLink};
use crate::messages::sink::{CloseReason, Drained, FrameSink};
use crate::metrics::WorkerMetrics;
use crate::protocol::encoded::{EncodedFrame, Message};
use crate::state::budget::Budgets;
use crate::state::outbox::{Outbox, OutboxFull};

use self::held::{Held, HeldBytes, SCARCE_OUTBOX_BYTES};
pub(super) use self::reading::ReplayRequest;
use self::reading::requested;
use self::slot::{OutboxSlot, SlotPhase};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    Queued,
    /// The event is volatile and the slot does not accept volatile events now, or the session has
    /// ended.
    Dropped,
    /// The outbox has no room for an event that can be read from the journal later.
    NoRoom,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct OutboxMessage<'a> {
    pub(super) message: &'a Message,
    pub(super) offset: Option<Offset>,
    /// True for a volatile event, which is dropped if the drainer is not ready or a socket of the
    /// session reads from the journal.
    pub(super) volatile: bool,
}

impl<'a> OutboxMessage<'a> {
    pub(super) fn numbered(message: &'a Message, offset: Offset) -> Self {
        Self { message, offset: Some(offset), volatile: false }
    }

    pub(super) fn unnumbered(message: &'a Message) -> Self {
        Self { message, offset: None, volatile: false }
    }
}

struct SlabCell {
    generation: u32,
    slot: Option<OutboxSlot>,
}

pub(super) struct Outboxes {
    cells: Vec<SlabCell>,
    vacant: Vec<u32>,
    dirty: VecDeque<SlotKey>,
    /// Slots with control packets, which are flushed first.
    urgent: VecDeque<SlotKey>,
    /// Sessions that wait for the replay budget. Each had a journal reader and room in its outbox
    /// when it was queued, and is queued at most once. Closed sessions may still be queued.
    awaiting_budget: VecDeque<SlotKey>,
    /// Sessions with unread replayed bytes. The time is that of the first chunk that was queued
    /// while the session had no such bytes.
    unread_replays: HashMap<SlotKey, Instant>,
    /// Time limit for reading a chunk while the replay budget is used up.
    pub(super) replay_read_timeout: Duration,
    pub(super) held: Held,
    /// Sessions whose outbox was not empty at the last check for a stall, with the time of the last
    /// check that found written bytes or, if there is none, of the first check.
    stalled: HashMap<SlotKey, Instant>,
    stall_timeout: Duration,
    outbox_bytes_max: usize,
    observed_events_max: usize,
    metrics: Arc<WorkerMetrics>,
}

impl Outboxes {
    pub(super) fn new(limits: &Limits, budgets: Arc<Budgets>, metrics: Arc<WorkerMetrics>) -> Self {
        Self {
            cells: Vec::new(),
            vacant: Vec::new(),
            dirty: VecDeque::new(),
            urgent: VecDeque::new(),
            awaiting_budget: VecDeque::new(),
            unread_replays: HashMap::new(),
            replay_read_timeout: held::REPLAY_READ_TIMEOUT,
            held: Held::new(budgets, limits.recovery.replay_bytes.max(limits.transport.payload_bytes_max)),
            stalled: HashMap::new(),
            stall_timeout: limits.sessions.stalls_after(),
            outbox_bytes_max: limits.sessions.outbox_bytes_max,
            observed_events_max: limits.handlers.observed_events_max,
            metrics,
        }
    }

    /// Maximum size of an outbox at which delayed emits continue and a journal reader requests its
    /// next chunk. It is also the maximum size of a chunk.
    fn low(&self) -> usize {
        self.outbox_bytes_max / 4
    }

    /// Size of an outbox beyond which emits are delayed and journalled events are not queued. The
    /// other half is reserved for packets that are not in the journal.
    fn half(&self) -> usize {
        self.outbox_bytes_max / 2
    }

    pub(super) fn open(&mut self, link: SessionLink) -> SlotKey {
        let slot = OutboxSlot {
            link,
            outbox: Outbox::default(),
            sink: None,
            last_offset: None,
            queued: false,
            blocked: false,
            moved: false,
            notify_when_low: false,
            readers: None,
            replayed_bytes: 0,
            waits_for_budget: false,
            observed: None,
            phase: SlotPhase::Open,
        };
        if let Some(index) = self.vacant.pop() {
            let cell = &mut self.cells[index as usize];
            cell.slot = Some(slot);
            return SlotKey { index, generation: cell.generation };
        }
        self.cells.push(SlabCell { generation: 0, slot: Some(slot) });
        SlotKey { index: (self.cells.len() - 1) as u32, generation: 0 }
    }

    pub(super) fn close(&mut self, key: SlotKey) -> Option<OutboxSlot> {
        let cell = self.cells.get_mut(key.index as usize).filter(|cell| cell.generation == key.generation)?;
        let slot = cell.slot.take()?;
        self.held.change(slot.held(), HeldBytes::default());
        self.held.requested_chunks -= slot.readers.as_ref().map_or(0, |readers| requested(readers));
        if !self.stalled.is_empty() {
            self.stalled.remove(&key);
        }
        if slot.replayed_bytes > 0 {
            self.unread_replays.remove(&key);
        }
        self.metrics.catching_up.add(-(slot.readers.as_ref().map_or(0, |readers| readers.len()) as i64));
        cell.generation = cell.generation.wrapping_add(1);
        self.vacant.push(key.index);
        Some(slot)
    }

    pub(super) fn link(&self, key: SlotKey) -> Option<&SessionLink> {
        self.get(key).map(|slot| &slot.link)
    }

    /// Links of the sessions in up to `most` slots, starting at index `from`. `None` if there is no
    /// such slot.
    pub(super) fn links_from(&self, from: usize, most: usize) -> Option<impl Iterator<Item = &SessionLink>> {
        let cells = self.cells.get(from..).filter(|cells| !cells.is_empty())?;
        Some(cells.iter().take(most).filter_map(|cell| cell.slot.as_ref()).map(|slot| &slot.link))
    }

    pub(super) fn has_drainer(&self, key: SlotKey) -> bool {
        self.get(key).is_some_and(|slot| slot.sink.is_some())
    }

    pub(super) fn is_peer_gone(&self, key: SlotKey) -> bool {
        self.get(key).and_then(|slot| slot.sink.as_ref()).is_some_and(|sink| sink.is_peer_gone())
    }

    pub(super) fn last_offset(&self, key: SlotKey) -> Option<Offset> {
        self.get(key).and_then(|slot| slot.last_offset)
    }

    pub(super) fn begin_with(&mut self, key: SlotKey, answer: Bytes) {
        self.with(key, |slot| slot.outbox.begin_with(answer));
    }

    pub(super) fn set_drainer(&mut self, key: SlotKey, sink: Option<Box<dyn FrameSink>>) -> Option<Box<dyn FrameSink>> {
        let replaced = self.with(key, |slot| {
            slot.blocked = false;
            std::mem::replace(&mut slot.sink, sink)
        });
        replaced.flatten()
    }

    pub(super) fn unblock(&mut self, key: SlotKey) {
        if self.with(key, |slot| slot.blocked = false).is_some() {
            self.enqueue(key);
        }
    }

    pub(super) fn set_reading(&mut self, key: SlotKey, reading: bool) {
        if let Some(sink) = self.get_mut(key).and_then(|slot| slot.sink.as_mut()) {
            sink.set_reading(reading);
        }
    }

    /// Queues a message. Returns whether it was queued. If the outbox overflows, it is emptied, and
    /// the session ends.
    pub(super) fn push(&mut self, key: SlotKey, message: OutboxMessage<'_>) -> bool {
        match self.try_push(key, message, self.outbox_bytes_max) {
            Ok(pushed) => pushed == Pushed::Queued,
            Err(full) => {
                // The queued packets are dropped, since the client would not read them in time and
                // other clients need the memory.
                let dropped = self.with(key, |slot| {
                    slot.notify(SlotPhase::Closed, SessionCommand::OutboxFull(full.to_string()));
                    slot.outbox.clear()
                });
                let dropped = dropped.unwrap_or_default();
                self.metrics.dropped_overflow.add(1 + dropped as u64);
                false
            }
        }
    }

    /// Queues an event that can also be read from the journal. Such events may fill at most half of
    /// the outbox.
    pub(super) fn push_journalled(&mut self, key: SlotKey, message: &Message, offset: Offset) -> Pushed {
        let is_scarce = self.held.is_scarce && self.get(key).is_some_and(|slot| !slot.is_ready());
        let room = if is_scarce { self.half().min(SCARCE_OUTBOX_BYTES) } else { self.half() };
        self.try_push(key, OutboxMessage::numbered(message, offset), room).unwrap_or(Pushed::NoRoom)
    }

    fn try_push(
        &mut self,
        key: SlotKey,
        OutboxMessage { message, offset, volatile }: OutboxMessage<'_>,
        limit: usize,
    ) -> Result<Pushed, OutboxFull> {
        let observed_max = self.observed_events_max;
        let Some(slot) = self.get_mut(key).filter(|slot| slot.phase == SlotPhase::Open) else {
            return Ok(Pushed::Dropped);
        };
        if volatile && !slot.accepts_volatile() {
            self.metrics.dropped_volatile.add(1);
            return Ok(Pushed::Dropped);
        }
        let before = slot.held();
        slot.outbox.push(message, limit)?;
        let held = (before, slot.held());
        // The maximum is stored, since a socket of another namespace may be reading older events.
        slot.last_offset = slot.last_offset.max(offset);
        if let Some(unseen) = slot.observed.as_mut().filter(|unseen| **unseen < observed_max)
            && slot.link.hint(SessionCommand::Sent(message.clone()))
        {
            *unseen += 1;
        }
        self.held.change(held.0, held.1);
        self.enqueue(key);
        Ok(Pushed::Queued)
    }

    /// Requests copies of the messages that are queued later, for the session.
    pub(super) fn observe(&mut self, key: SlotKey) {
        if let Some(slot) = self.get_mut(key) {
            slot.observed.get_or_insert_default();
        }
    }

    /// Records that the session has handled the copy of one packet.
    pub(super) fn mark_seen(&mut self, key: SlotKey) {
        if let Some(unseen) = self.get_mut(key).and_then(|slot| slot.observed.as_mut()) {
            *unseen = unseen.saturating_sub(1);
        }
    }

    /// Raises the last offset of the outbox to the offset of a socket's CONNECT.
    pub(super) fn start_at(&mut self, key: SlotKey, offset: Option<Offset>) {
        if let Some(slot) = self.get_mut(key) {
            slot.last_offset = slot.last_offset.max(offset);
        }
    }

    pub(super) fn push_control(&mut self, key: SlotKey, packet: EncodedFrame) {
        let Some(slot) = self.get_mut(key).filter(|slot| slot.phase == SlotPhase::Open) else { return };
        match slot.outbox.push_control(packet) {
            Ok(()) => self.enqueue(key),
            Err(full) => slot.notify(SlotPhase::Closed, SessionCommand::DrainerLost(full.to_string())),
        }
    }

    pub(super) fn queue_close(&mut self, key: SlotKey, close_reason: CloseReason) -> bool {
        let queued = self.with(key, |slot| {
            let Some(sink) = slot.sink.as_mut() else { return false };
            sink.queue_close(close_reason, &mut slot.outbox);
            slot.phase = SlotPhase::Closing;
            true
        });
        queued.unwrap_or_default()
    }

    pub(super) fn is_congested(&mut self, key: SlotKey) -> bool {
        let half = self.half();
        let Some(slot) = self.get_mut(key) else { return false };
        slot.notify_when_low |= slot.outbox.event_bytes() > half;
        slot.notify_when_low
    }

    /// Like `is_congested`, and also true while a socket of the session reads from the journal.
    pub(super) fn is_behind(&mut self, key: SlotKey) -> bool {
        if let Some(slot) = self.get_mut(key) {
            slot.notify_when_low |= slot.readers.is_some();
        }
        self.is_congested(key)
    }

    pub(super) fn queue_final_packet(&mut self, key: SlotKey, packet: EncodedFrame) {
        self.with(key, |slot| {
            slot.outbox.push_final(packet);
            slot.phase = SlotPhase::Closing;
        });
    }

    pub(super) fn is_drained(&self, key: SlotKey) -> bool {
        self.get(key).is_none_or(|slot| slot.outbox.is_empty())
    }

    pub(super) fn dirty_len(&self) -> usize {
        self.urgent.len() + self.dirty.len()
    }

    pub(super) fn next_dirty(&mut self) -> Option<SlotKey> {
        self.urgent.pop_front().or_else(|| self.dirty.pop_front())
    }

    /// Writes to the drainer until the drainer is blocked or the outbox is empty.
    pub(super) fn flush(&mut self, key: SlotKey) {
        let low = self.low();
        let Some(slot) = self.get_mut(key) else { return };
        slot.queued = false;
        let ended = slot.outbox.is_empty() && slot.phase == SlotPhase::Closing;
        if !slot.is_ready() || (slot.outbox.is_empty() && !ended) {
            return;
        }
        let Some(sink) = slot.sink.as_mut() else { return };
        // An outbox with a ready drainer is not charged to the budget, so its held bytes are zero
        // before the write.
        let ((packets, bytes), unsent) = (slot.outbox.waiting(), slot.outbox.unsent_bytes());
        let drained = sink.drain(&mut slot.outbox);
        let (packets_left, bytes_left) = slot.outbox.waiting();
        slot.moved |= slot.outbox.unsent_bytes() < unsent;
        let had_replays = slot.replayed_bytes > 0;
        slot.replayed_bytes = slot.replayed_bytes.min(u32::try_from(slot.outbox.memory_bytes()).unwrap_or(u32::MAX));
        let has_read_replays = had_replays && slot.replayed_bytes == 0;
        slot.notify_if_low(low);
        match drained {
            Drained::Blocked => slot.blocked = true,
            Drained::Lost(why) if slot.phase != SlotPhase::Closed => {
                slot.notify(SlotPhase::Closed, SessionCommand::DrainerLost(why));
            }
            Drained::Lost(_) => {}
            Drained::All | Drained::Finished if slot.phase == SlotPhase::Closing && slot.outbox.is_empty() => {
                slot.notify(SlotPhase::Closed, SessionCommand::ClosingDrained);
            }
            Drained::All => {}
            Drained::Finished => slot.sink = None,
        }
        let (reads, held) = (slot.readers.is_some(), slot.held());
        if has_read_replays {
            self.unread_replays.remove(&key);
        }
        self.held.change(HeldBytes::default(), held);
        if packets_left < packets {
            self.metrics.record_flush(packets - packets_left, bytes - bytes_left);
        }
        if reads {
            self.request_next_chunk(key);
        }
    }

    /// Changes a slot, and updates the bytes that are charged to the budget.
    fn with<R>(&mut self, key: SlotKey, change: impl FnOnce(&mut OutboxSlot) -> R) -> Option<R> {
        let slot = self.get_mut(key)?;
        let before = slot.held();
        let result = change(slot);
        let held = slot.held();
        self.held.change(before, held);
        Some(result)
    }

    fn enqueue(&mut self, key: SlotKey) {
        let Some(slot) = self.get_mut(key) else { return };
        if !slot.is_ready() || std::mem::replace(&mut slot.queued, true) {
            return;
        }
        if slot.outbox.is_urgent() { self.urgent.push_back(key) } else { self.dirty.push_back(key) }
    }

    fn get(&self, key: SlotKey) -> Option<&OutboxSlot> {
        let cell = self.cells.get(key.index as usize).filter(|cell| cell.generation == key.generation)?;
        cell.slot.as_ref()
    }

    fn get_mut(&mut self, key: SlotKey) -> Option<&mut OutboxSlot> {
        let cell = self.cells.get_mut(key.index as usize).filter(|cell| cell.generation == key.generation)?;
        cell.slot.as_mut()
    }
}
