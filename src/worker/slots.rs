//! The outbox slab: all outboxes of a worker, each with its drainer, and the list of those that want to be flushed.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::ids::{Offset, SlotKey};
use crate::limits::Limits;
use crate::messages::session::{SessionCommand, SessionLink};
use crate::messages::sink::{Drained, FrameSink, Goodbye};
use crate::metrics::WorkerMetrics;
use crate::protocol::encoded::{Encoded, Message};
use crate::state::outbox::Outbox;

/// How a slot stands towards its session's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Open,
    /// The last word is queued; the session wants to know when it is out.
    Goodbye,
    /// The session was told that the drainer is lost, or that all is out. Nothing more is queued.
    Over,
}

/// A session's outbox and its drainer.
pub(super) struct Slot {
    link: SessionLink,
    outbox: Outbox,
    sink: Option<Box<dyn FrameSink>>,
    /// The newest position pushed: what an unnumbered event bears as token.
    last_offset: Option<Offset>,
    queued: bool,
    blocked: bool,
    /// The session holds emits back until the outbox is low.
    tell_when_low: bool,
    /// Set while the session is shown what is queued: how many of those it has not looked at yet.
    observed: Option<usize>,
    ending: Ending,
}

impl Slot {
    fn notify(&mut self, ending: Ending, command: SessionCommand) {
        self.ending = ending;
        // A session that is gone has closed its slot, or is about to.
        let _ = self.link.post(command);
    }

    fn is_ready(&self) -> bool {
        self.sink.is_some() && !self.blocked
    }
}

struct Place {
    generation: u32,
    slot: Option<Slot>,
}

/// All outboxes of one worker.
pub(super) struct Slots {
    places: Vec<Place>,
    vacant: Vec<u32>,
    dirty: VecDeque<SlotKey>,
    /// Those with control packets; flushed first.
    urgent: VecDeque<SlotKey>,
    outbox_bytes_max: usize,
    observed_events_max: usize,
    metrics: Arc<WorkerMetrics>,
}

impl Slots {
    pub(super) fn new(limits: &Limits, metrics: Arc<WorkerMetrics>) -> Self {
        Self {
            places: Vec::new(),
            vacant: Vec::new(),
            dirty: VecDeque::new(),
            urgent: VecDeque::new(),
            outbox_bytes_max: limits.outbox_bytes_max,
            observed_events_max: limits.observed_events_max,
            metrics,
        }
    }

    pub(super) fn open(&mut self, link: SessionLink) -> SlotKey {
        let slot = Slot {
            link,
            outbox: Outbox::default(),
            sink: None,
            last_offset: None,
            queued: false,
            blocked: false,
            tell_when_low: false,
            observed: None,
            ending: Ending::Open,
        };
        if let Some(index) = self.vacant.pop() {
            let place = &mut self.places[index as usize];
            place.slot = Some(slot);
            return SlotKey { index, generation: place.generation };
        }
        self.places.push(Place { generation: 0, slot: Some(slot) });
        SlotKey { index: (self.places.len() - 1) as u32, generation: 0 }
    }

    pub(super) fn close(&mut self, key: SlotKey) -> Option<Slot> {
        let place = self.places.get_mut(key.index as usize).filter(|place| place.generation == key.generation)?;
        let slot = place.slot.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.vacant.push(key.index);
        Some(slot)
    }

    pub(super) fn link(&self, key: SlotKey) -> Option<&SessionLink> {
        self.get(key).map(|slot| &slot.link)
    }

    pub(super) fn links(&self) -> impl Iterator<Item = &SessionLink> {
        self.places.iter().filter_map(|place| place.slot.as_ref()).map(|slot| &slot.link)
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

    pub(super) fn set_drainer(&mut self, key: SlotKey, sink: Option<Box<dyn FrameSink>>) -> Option<Box<dyn FrameSink>> {
        let slot = self.get_mut(key)?;
        slot.blocked = false;
        std::mem::replace(&mut slot.sink, sink)
    }

    pub(super) fn unblock(&mut self, key: SlotKey) {
        if let Some(slot) = self.get_mut(key) {
            slot.blocked = false;
            self.enqueue(key);
        }
    }

    pub(super) fn set_reading(&mut self, key: SlotKey, reading: bool) {
        if let Some(sink) = self.get_mut(key).and_then(|slot| slot.sink.as_mut()) {
            sink.set_reading(reading);
        }
    }

    /// Queues a message. `ready_only`: not where the drainer is not ready. Returns whether it was queued.
    pub(super) fn push(&mut self, key: SlotKey, message: &Message, offset: Option<Offset>, ready_only: bool) -> bool {
        let (limit, observed_max) = (self.outbox_bytes_max, self.observed_events_max);
        let Some(slot) = self.get_mut(key).filter(|slot| slot.ending == Ending::Open) else { return false };
        if ready_only && !slot.is_ready() {
            self.metrics.dropped_volatile.add(1);
            return false;
        }
        match slot.outbox.push(message, limit) {
            Ok(()) => {
                slot.last_offset = offset.or(slot.last_offset);
                if let Some(unseen) = slot.observed.as_mut().filter(|unseen| **unseen < observed_max)
                    && slot.link.hint(SessionCommand::Sent(message.clone()))
                {
                    *unseen += 1;
                }
                self.enqueue(key);
                true
            }
            Err(full) => {
                // Its client would get none of it in time, and others want the memory.
                let dropped = slot.outbox.clear();
                slot.notify(Ending::Over, SessionCommand::OutboxFull(full.to_string()));
                self.metrics.dropped_overflow.add(1 + dropped as u64);
                false
            }
        }
    }

    /// Shows the session what is queued from here on.
    pub(super) fn observe(&mut self, key: SlotKey) {
        if let Some(slot) = self.get_mut(key) {
            slot.observed.get_or_insert_default();
        }
    }

    /// The session has looked at one of them.
    pub(super) fn seen(&mut self, key: SlotKey) {
        if let Some(unseen) = self.get_mut(key).and_then(|slot| slot.observed.as_mut()) {
            *unseen = unseen.saturating_sub(1);
        }
    }

    /// Sets where an outbox begins: the position of its socket's connect.
    pub(super) fn start_at(&mut self, key: SlotKey, offset: Option<Offset>) {
        if let Some(slot) = self.get_mut(key) {
            slot.last_offset = offset.or(slot.last_offset);
        }
    }

    pub(super) fn push_control(&mut self, key: SlotKey, packet: Encoded) {
        let Some(slot) = self.get_mut(key).filter(|slot| slot.ending == Ending::Open) else { return };
        match slot.outbox.push_control(packet) {
            Ok(()) => self.enqueue(key),
            Err(full) => slot.notify(Ending::Over, SessionCommand::DrainerLost(full.to_string())),
        }
    }

    pub(super) fn say_goodbye(&mut self, key: SlotKey, goodbye: Goodbye) -> bool {
        let Some(slot) = self.get_mut(key) else { return false };
        let Some(sink) = slot.sink.as_mut() else { return false };
        sink.say_goodbye(goodbye, &mut slot.outbox);
        slot.ending = Ending::Goodbye;
        true
    }

    pub(super) fn is_congested(&mut self, key: SlotKey) -> bool {
        let high = self.outbox_bytes_max / 2;
        let Some(slot) = self.get_mut(key) else { return false };
        slot.tell_when_low |= slot.outbox.event_bytes() > high;
        slot.tell_when_low
    }

    pub(super) fn leave_last_word(&mut self, key: SlotKey, word: Encoded) {
        if let Some(slot) = self.get_mut(key) {
            slot.outbox.push_last(word);
            slot.ending = Ending::Goodbye;
        }
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
        let low = self.outbox_bytes_max / 4;
        let Some(slot) = self.get_mut(key) else { return };
        slot.queued = false;
        let ended = slot.outbox.is_empty() && slot.ending == Ending::Goodbye;
        if !slot.is_ready() || (slot.outbox.is_empty() && !ended) {
            return;
        }
        let Some(sink) = slot.sink.as_mut() else { return };
        let (packets, bytes) = slot.outbox.waiting();
        let drained = sink.drain(&mut slot.outbox);
        let (packets_left, bytes_left) = slot.outbox.waiting();
        if slot.tell_when_low && slot.outbox.event_bytes() <= low {
            slot.tell_when_low = false;
            let _ = slot.link.post(SessionCommand::OutboxLow);
        }
        match drained {
            Drained::Blocked => slot.blocked = true,
            Drained::Lost(why) if slot.ending != Ending::Over => {
                slot.notify(Ending::Over, SessionCommand::DrainerLost(why));
            }
            Drained::Lost(_) => {}
            Drained::All | Drained::Finished if slot.ending == Ending::Goodbye && slot.outbox.is_empty() => {
                slot.notify(Ending::Over, SessionCommand::DrainedLast);
            }
            Drained::All => {}
            Drained::Finished => slot.sink = None,
        }
        if packets_left < packets {
            self.metrics.flushed(packets - packets_left, bytes - bytes_left);
        }
    }

    fn enqueue(&mut self, key: SlotKey) {
        let Some(slot) = self.get_mut(key) else { return };
        if !slot.is_ready() || std::mem::replace(&mut slot.queued, true) {
            return;
        }
        if slot.outbox.is_urgent() { self.urgent.push_back(key) } else { self.dirty.push_back(key) }
    }

    fn get(&self, key: SlotKey) -> Option<&Slot> {
        let place = self.places.get(key.index as usize).filter(|place| place.generation == key.generation)?;
        place.slot.as_ref()
    }

    fn get_mut(&mut self, key: SlotKey) -> Option<&mut Slot> {
        let place = self.places.get_mut(key.index as usize).filter(|place| place.generation == key.generation)?;
        place.slot.as_mut()
    }
}
