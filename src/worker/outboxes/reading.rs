//! Sockets of a worker that read from the journal: what each wants next, and its share of the budget of replays.

use std::time::Instant;

use super::{OutboxMessage, OutboxSlot, Outboxes};
use crate::ids::{Lsn, MemberKey, SlotKey, SocketId};
use crate::messages::fanout::Replay;

/// A socket of the session that reads from the journal.
#[derive(Debug)]
pub(super) struct JournalReader {
    member: MemberKey,
    socket: SocketId,
    /// Everything up to here is in the outbox, or has left it.
    after: Lsn,
    next: ReadState,
}

/// The state of a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadState {
    /// Its outbox has no room for it, or another socket of its session has its turn.
    Deferred,
    /// It is queued for a part of the budget of replays.
    Queued,
    /// The hub has been asked for it.
    Requested,
}

/// A socket's position in the journal, from which it wants to read.
#[derive(Debug, Clone, Copy)]
pub(in crate::worker) struct WantedReplay {
    pub(in crate::worker) slot: SlotKey,
    pub(in crate::worker) socket: SocketId,
    pub(in crate::worker) after: Lsn,
}

/// Readers for which the hub has been asked.
pub(super) fn requested(readers: &[JournalReader]) -> usize {
    readers.iter().filter(|reader| reader.next == ReadState::Requested).count()
}

impl Outboxes {
    /// A socket of this session reads from the journal from here on, behind `after`.
    pub(in crate::worker) fn read_behind(&mut self, key: SlotKey, member: MemberKey, socket: SocketId, after: Lsn) {
        let Some(slot) = self.get_mut(key) else { return };
        slot.readers.get_or_insert_default().push(JournalReader { member, socket, after, next: ReadState::Deferred });
        self.metrics.catching_up.add(1);
        self.ask_for_more(key);
    }

    /// Queues what a reader asked for, whatever the bounds say: they were looked at when it asked. With `is_all` it reads no more.
    pub(in crate::worker) fn replay(&mut self, key: SlotKey, replay: &Replay, now: Instant) {
        let Some(readers) = self.get_mut(key).and_then(|slot| slot.readers.as_mut()) else { return };
        let Some(at) = readers.iter().position(|reader| reader.member == replay.member) else { return };
        let reader = readers.remove(at);
        // Others of its session have their turn.
        readers.push(JournalReader { after: replay.upto, next: ReadState::Deferred, ..reader });
        self.held.asked -= usize::from(reader.next == ReadState::Requested);
        let fanout_bytes = u32::try_from(replay.fanout_bytes).unwrap_or(u32::MAX);
        self.lend(key, fanout_bytes, now);
        for (offset, message) in &replay.events {
            // No bound, so it finds room.
            let _ = self.try_push(key, OutboxMessage::numbered(message, *offset), usize::MAX);
        }
        self.metrics.replayed.add(replay.events.len() as u64);
        if replay.is_all {
            self.stop_reading(key, replay.member);
        } else {
            self.ask_for_more(key);
        }
    }

    /// A socket of this session takes its events as they come, or has gone.
    pub(in crate::worker) fn stop_reading(&mut self, key: SlotKey, member: MemberKey) {
        let low = self.low();
        let Some(slot) = self.get_mut(key) else { return };
        let Some(readers) = slot.readers.as_mut() else { return };
        let (before, asked) = (readers.len(), requested(readers));
        readers.retain(|reader| reader.member != member);
        let gone = before - readers.len();
        let asked = asked - requested(readers);
        if readers.is_empty() {
            slot.readers = None;
            slot.notify_if_low(low);
        }
        self.held.asked -= asked;
        self.metrics.catching_up.add(-(gone as i64));
        self.ask_for_more(key);
    }

    /// What readers want, to be passed on to the hub: as much as the budget of replays has room for.
    pub(in crate::worker) fn take_wanted(&mut self, now: Instant) -> Vec<WantedReplay> {
        self.reclaim(now);
        let mut wanted = Vec::new();
        while let Some(key) = self.awaiting_budget.front().copied()
            && self.held.may_ask()
        {
            self.awaiting_budget.pop_front();
            let Some(slot) = self.get_mut(key) else { continue };
            slot.awaits_budget = false;
            let mut readers = slot.readers.iter_mut().flat_map(|readers| readers.iter_mut());
            let Some(reader) = readers.find(|reader| reader.next == ReadState::Queued) else { continue };
            reader.next = ReadState::Requested;
            wanted.push(WantedReplay { slot: key, socket: reader.socket, after: reader.after });
            self.held.asked += 1;
        }
        wanted
    }

    /// Whether readers wait for the budget of replays.
    pub(in crate::worker) fn awaits_budget(&self) -> bool {
        !self.awaiting_budget.is_empty()
    }

    /// Queues a reader for its next chunk if the outbox has room for it: one at a time, since each is given as much as has room.
    pub(super) fn ask_for_more(&mut self, key: SlotKey) {
        let (low, is_short) = (self.low(), self.held.is_short);
        let has_room = |slot: &&mut OutboxSlot| {
            slot.outbox.event_bytes() <= low && (!is_short || slot.is_ready() || slot.outbox.is_empty())
        };
        let Some(slot) = self.get_mut(key).filter(has_room) else { return };
        let Some(readers) = slot.readers.as_mut() else { return };
        if readers.iter().any(|reader| reader.next != ReadState::Deferred) {
            return;
        }
        let Some(first) = readers.first_mut() else { return };
        first.next = ReadState::Queued;
        if std::mem::replace(&mut slot.awaits_budget, true) {
            return;
        }
        if self.awaiting_budget.len() >= 2 * self.cells.len() {
            // Of sessions that have been closed.
            let awaiting_budget = std::mem::take(&mut self.awaiting_budget);
            self.awaiting_budget = awaiting_budget.into_iter().filter(|key| self.get(*key).is_some()).collect();
        }
        self.awaiting_budget.push_back(key);
    }
}
