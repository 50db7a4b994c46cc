//! Sockets that read from the journal: the requests for their next chunks, within the replay
//! budget.

use std::time::Instant;

use super::{OutboxMessage, OutboxSlot, Outboxes};
use crate::ids::{Lsn, MemberKey, SlotKey, SocketId};
use crate::messages::fanout::Replay;

#[derive(Debug)]
pub(super) struct JournalReader {
    member: MemberKey,
    socket: SocketId,
    /// Position after which the socket's next chunk begins.
    after: Lsn,
    next: ReadState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadState {
    /// The outbox has no room, or another socket of the session is next.
    Deferred,
    /// The session waits in the queue for the replay budget.
    Queued,
    /// The hub was asked for the next chunk.
    Requested,
}

/// A request to the hub for the next chunk of a socket.
#[derive(Debug, Clone, Copy)]
pub(in crate::worker) struct ReplayRequest {
    pub(in crate::worker) slot: SlotKey,
    pub(in crate::worker) socket: SocketId,
    pub(in crate::worker) after: Lsn,
}

pub(super) fn requested(readers: &[JournalReader]) -> usize {
    readers.iter().filter(|reader| reader.next == ReadState::Requested).count()
}

impl Outboxes {
    /// Starts to read from the journal for a socket. The first chunk begins after position `after`.
    pub(in crate::worker) fn start_reading(&mut self, key: SlotKey, member: MemberKey, socket: SocketId, after: Lsn) {
        let Some(slot) = self.get_mut(key) else { return };
        slot.readers.get_or_insert_default().push(JournalReader { member, socket, after, next: ReadState::Deferred });
        self.metrics.catching_up.add(1);
        self.request_next_chunk(key);
    }

    /// Queues a requested chunk. The outbox limit is not checked, since the request was sent only
    /// when there was room. The last chunk (`is_all`) ends the reading.
    pub(in crate::worker) fn replay(&mut self, key: SlotKey, replay: &Replay, now: Instant) {
        let Some(readers) = self.get_mut(key).and_then(|slot| slot.readers.as_mut()) else { return };
        let Some(at) = readers.iter().position(|reader| reader.member == replay.member) else { return };
        let reader = readers.remove(at);
        // The reader moves to the end of the list, so that the other sockets of the session read
        // first.
        readers.push(JournalReader { after: replay.upto, next: ReadState::Deferred, ..reader });
        self.held.requested_chunks -= usize::from(reader.next == ReadState::Requested);
        let fanout_bytes = u32::try_from(replay.fanout_bytes).unwrap_or(u32::MAX);
        self.charge_replay(key, fanout_bytes, now);
        for (offset, message) in &replay.events {
            let _ = self.try_push(key, OutboxMessage::numbered(message, *offset), usize::MAX);
        }
        self.metrics.replayed.add(replay.events.len() as u64);
        if replay.is_all {
            self.stop_reading(key, replay.member);
        } else {
            self.request_next_chunk(key);
        }
    }

    /// Ends the reading of a socket that has caught up or has disconnected.
    pub(in crate::worker) fn stop_reading(&mut self, key: SlotKey, member: MemberKey) {
        let low = self.low();
        let Some(slot) = self.get_mut(key) else { return };
        let Some(readers) = slot.readers.as_mut() else { return };
        let (before, before_requested) = (readers.len(), requested(readers));
        readers.retain(|reader| reader.member != member);
        let removed = before - readers.len();
        let no_longer_requested = before_requested - requested(readers);
        if readers.is_empty() {
            slot.readers = None;
            slot.notify_if_low(low);
        }
        self.held.requested_chunks -= no_longer_requested;
        self.metrics.catching_up.add(-(removed as i64));
        self.request_next_chunk(key);
    }

    /// Removes and returns the queued requests for which the replay budget has room.
    pub(in crate::worker) fn take_replay_requests(&mut self, now: Instant) -> Vec<ReplayRequest> {
        self.recharge_unread_replays(now);
        let mut requests = Vec::new();
        while let Some(key) = self.awaiting_budget.front().copied()
            && self.held.has_replay_budget()
        {
            self.awaiting_budget.pop_front();
            let Some(slot) = self.get_mut(key) else { continue };
            slot.waits_for_budget = false;
            let mut readers = slot.readers.iter_mut().flat_map(|readers| readers.iter_mut());
            let Some(reader) = readers.find(|reader| reader.next == ReadState::Queued) else { continue };
            reader.next = ReadState::Requested;
            requests.push(ReplayRequest { slot: key, socket: reader.socket, after: reader.after });
            self.held.requested_chunks += 1;
        }
        requests
    }

    pub(in crate::worker) fn has_waiting_readers(&self) -> bool {
        !self.awaiting_budget.is_empty()
    }

    /// Queues the next journal reader of a session for the replay budget, if the outbox has room.
    /// The next chunk may fill all of that room, so only one socket of a session reads at a time.
    pub(super) fn request_next_chunk(&mut self, key: SlotKey) {
        let (low, is_scarce) = (self.low(), self.held.is_scarce);
        let has_room = |slot: &&mut OutboxSlot| {
            slot.outbox.event_bytes() <= low && (!is_scarce || slot.is_ready() || slot.outbox.is_empty())
        };
        let Some(slot) = self.get_mut(key).filter(has_room) else { return };
        let Some(readers) = slot.readers.as_mut() else { return };
        if readers.iter().any(|reader| reader.next != ReadState::Deferred) {
            return;
        }
        let Some(first) = readers.first_mut() else { return };
        first.next = ReadState::Queued;
        if std::mem::replace(&mut slot.waits_for_budget, true) {
            return;
        }
        if self.awaiting_budget.len() >= 2 * self.cells.len() {
            // At this length, at least half of the queued sessions are closed. They are removed
            // here.
            let awaiting_budget = std::mem::take(&mut self.awaiting_budget);
            self.awaiting_budget = awaiting_budget.into_iter().filter(|key| self.get(*key).is_some()).collect();
        }
        self.awaiting_budget.push_back(key);
    }
}
