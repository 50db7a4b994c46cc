//! The outbox slab: all outboxes of a worker, each with its drainer, and the list of those that want to be flushed.

mod held;
mod reading;

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

use self::held::{Held, HeldBytes, SHORT_BYTES};
pub(super) use self::reading::WantedReplay;
use self::reading::{JournalReader, requested};

/// How a slot stands towards its session's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotPhase {
    Open,
    /// The final packet is queued; the session wants to know when it is out.
    Closing,
    /// The session was told that the drainer is lost, or that all is out. Nothing more is queued.
    Closed,
}

/// Whether an event has its place in an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    Queued,
    /// Its drainer was not ready, or its session has ended.
    Dropped,
    /// There is no room for what can be read later as well.
    NoRoom,
}

/// A message to be queued in an outbox.
#[derive(Debug, Clone, Copy)]
pub(super) struct OutboxMessage<'a> {
    pub(super) message: &'a Message,
    /// Its position in the journal.
    pub(super) offset: Option<Offset>,
    /// Dropped where the drainer is not ready.
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

/// A session's outbox and its drainer.
pub(super) struct OutboxSlot {
    link: SessionLink,
    outbox: Outbox,
    sink: Option<Box<dyn FrameSink>>,
    /// The newest position pushed: what an unnumbered event bears as token.
    last_offset: Option<Offset>,
    queued: bool,
    blocked: bool,
    /// Bytes have left since its session last looked.
    moved: bool,
    /// The session holds emits back until the outbox is low.
    notify_when_low: bool,
    /// Those of its sockets that read from the journal. Boxed, since it is rare.
    #[expect(clippy::box_collection, reason = "a list is three times the size, and every session has room for it")]
    readers: Option<Box<Vec<JournalReader>>>,
    /// Bytes in the outbox that were replayed, at most: the server chose to read them, so that they are not charged to its client.
    replayed_bytes: u32,
    /// In the queue of those that want to read.
    awaits_budget: bool,
    /// Set while the session is shown what is queued: how many of those it has not looked at yet.
    observed: Option<usize>,
    phase: SlotPhase,
}

impl OutboxSlot {
    fn notify(&mut self, phase: SlotPhase, command: SessionCommand) {
        self.phase = phase;
        // A session that is gone has closed its slot, or is about to.
        let _ = self.link.post(command);
    }

    fn is_ready(&self) -> bool {
        self.sink.is_some() && !self.blocked
    }

    /// Bytes that count against the budgets: all while its client takes nothing. What a ready drainer is about to take does not.
    fn held(&self) -> HeldBytes {
        if self.is_ready() {
            return HeldBytes::default();
        }
        let all = self.outbox.memory_bytes();
        let replayed = all.min(self.replayed_bytes as usize);
        HeldBytes { own: all - replayed, replayed }
    }

    /// Emits that are held back may complete, if there are any and nothing of this session waits elsewhere.
    fn notify_if_low(&mut self, low: usize) {
        if self.notify_when_low && self.readers.is_none() && self.outbox.event_bytes() <= low {
            self.notify_when_low = false;
            let _ = self.link.post(SessionCommand::OutboxLow);
        }
    }

    /// Whether a volatile event may go in: not while others wait for it to take what it has missed.
    fn takes_volatile(&self) -> bool {
        self.is_ready() && self.readers.is_none()
    }
}

struct SlabCell {
    generation: u32,
    slot: Option<OutboxSlot>,
}

/// All outboxes of one worker.
pub(super) struct Outboxes {
    cells: Vec<SlabCell>,
    vacant: Vec<u32>,
    dirty: VecDeque<SlotKey>,
    /// Those with control packets; flushed first.
    urgent: VecDeque<SlotKey>,
    /// Sessions with a reader whose outbox has room for more, in the order in which they get it: each once, and closed ones.
    awaiting_budget: VecDeque<SlotKey>,
    /// Sessions that have not taken all that was replayed to them, and since when.
    lent: HashMap<SlotKey, Instant>,
    /// The time for which they may hold it while the budget of replays is spent.
    pub(super) lent_for: Duration,
    /// What the budget is charged for.
    pub(super) held: Held,
    /// Sessions whose outbox was not empty when they looked, each with when bytes had last left by then.
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
            lent: HashMap::new(),
            lent_for: held::LENT_FOR,
            held: Held::new(budgets, limits.recovery.replay_bytes.max(limits.transport.payload_bytes_max)),
            stalled: HashMap::new(),
            stall_timeout: limits.sessions.stalls_after(),
            outbox_bytes_max: limits.sessions.outbox_bytes_max,
            observed_events_max: limits.handlers.observed_events_max,
            metrics,
        }
    }

    /// From here down emits that were held back go on, and a reader asks for its next chunk, which is not larger than this.
    fn low(&self) -> usize {
        self.outbox_bytes_max / 4
    }

    /// From here up emits are held back, and events that the journal has wait there. The other half is for what cannot be read
    /// again.
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
            awaits_budget: false,
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
        self.held.asked -= slot.readers.as_ref().map_or(0, |readers| requested(readers));
        if !self.stalled.is_empty() {
            self.stalled.remove(&key);
        }
        if slot.replayed_bytes > 0 {
            self.lent.remove(&key);
        }
        self.metrics.catching_up.add(-(slot.readers.as_ref().map_or(0, |readers| readers.len()) as i64));
        cell.generation = cell.generation.wrapping_add(1);
        self.vacant.push(key.index);
        Some(slot)
    }

    pub(super) fn link(&self, key: SlotKey) -> Option<&SessionLink> {
        self.get(key).map(|slot| &slot.link)
    }

    /// The sessions in `most` places from this one on; none behind the last.
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

    /// Queues a message. Returns whether it was queued.
    pub(super) fn push(&mut self, key: SlotKey, message: OutboxMessage<'_>) -> bool {
        match self.try_push(key, message, self.outbox_bytes_max) {
            Ok(pushed) => pushed == Pushed::Queued,
            Err(full) => {
                // Its client would get none of it in time, and others want the memory.
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

    /// Queues an event that can be read from the journal as well. Half of the outbox is kept for what cannot.
    pub(super) fn push_journalled(&mut self, key: SlotKey, message: &Message, offset: Offset) -> Pushed {
        let is_short = self.held.is_short && self.get(key).is_some_and(|slot| !slot.is_ready());
        let room = if is_short { self.half().min(SHORT_BYTES) } else { self.half() };
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
        if volatile && !slot.takes_volatile() {
            self.metrics.dropped_volatile.add(1);
            return Ok(Pushed::Dropped);
        }
        let before = slot.held();
        slot.outbox.push(message, limit)?;
        let held = (before, slot.held());
        // A reader of another namespace may be behind.
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

    /// Shows the session what is queued from here on.
    pub(super) fn observe(&mut self, key: SlotKey) {
        if let Some(slot) = self.get_mut(key) {
            slot.observed.get_or_insert_default();
        }
    }

    /// The session has looked at one of them.
    pub(super) fn mark_seen(&mut self, key: SlotKey) {
        if let Some(unseen) = self.get_mut(key).and_then(|slot| slot.observed.as_mut()) {
            *unseen = unseen.saturating_sub(1);
        }
    }

    /// Sets where an outbox begins: the position of its socket's connect.
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
        let said = self.with(key, |slot| {
            let Some(sink) = slot.sink.as_mut() else { return false };
            sink.queue_close(close_reason, &mut slot.outbox);
            slot.phase = SlotPhase::Closing;
            true
        });
        said.unwrap_or_default()
    }

    pub(super) fn is_congested(&mut self, key: SlotKey) -> bool {
        let half = self.half();
        let Some(slot) = self.get_mut(key) else { return false };
        slot.notify_when_low |= slot.outbox.event_bytes() > half;
        slot.notify_when_low
    }

    /// The same, and whether a socket of it has yet to read what was emitted before.
    pub(super) fn is_behind(&mut self, key: SlotKey) -> bool {
        if let Some(slot) = self.get_mut(key) {
            slot.notify_when_low |= slot.readers.is_some();
        }
        self.is_congested(key)
    }

    pub(super) fn queue_final_packet(&mut self, key: SlotKey, word: EncodedFrame) {
        self.with(key, |slot| {
            slot.outbox.push_final(word);
            slot.phase = SlotPhase::Closing;
        });
    }

    pub(super) fn is_drained(&self, key: SlotKey) -> bool {
        self.get(key).is_none_or(|slot| slot.outbox.is_empty())
    }

    /// How many outboxes want to be flushed.
    pub(super) fn dirty_len(&self) -> usize {
        self.urgent.len() + self.dirty.len()
    }

    /// The next outbox to flush.
    pub(super) fn next_dirty(&mut self) -> Option<SlotKey> {
        self.urgent.pop_front().or_else(|| self.dirty.pop_front())
    }

    /// Lets the drainer take what it takes now.
    pub(super) fn flush(&mut self, key: SlotKey) {
        let low = self.low();
        let Some(slot) = self.get_mut(key) else { return };
        slot.queued = false;
        let ended = slot.outbox.is_empty() && slot.phase == SlotPhase::Closing;
        if !slot.is_ready() || (slot.outbox.is_empty() && !ended) {
            return;
        }
        let Some(sink) = slot.sink.as_mut() else { return };
        // Ready, so that it holds nothing of the budget.
        let ((packets, bytes), unsent) = (slot.outbox.waiting(), slot.outbox.unsent_bytes());
        let drained = sink.drain(&mut slot.outbox);
        let (packets_left, bytes_left) = slot.outbox.waiting();
        slot.moved |= slot.outbox.unsent_bytes() < unsent;
        let was_lent = slot.replayed_bytes > 0;
        slot.replayed_bytes = slot.replayed_bytes.min(u32::try_from(slot.outbox.memory_bytes()).unwrap_or(u32::MAX));
        let is_returned = was_lent && slot.replayed_bytes == 0;
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
        if is_returned {
            self.lent.remove(&key);
        }
        self.held.change(HeldBytes::default(), held);
        if packets_left < packets {
            self.metrics.flushed(packets - packets_left, bytes - bytes_left);
        }
        if reads {
            self.ask_for_more(key);
        }
    }

    /// Changes a slot, and what the budget is charged for it.
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
