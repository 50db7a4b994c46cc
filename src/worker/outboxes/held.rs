//! Memory that a worker's outboxes hold for clients that read nothing, and the worker's share of
//! the budget.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{OutboxSlot, Outboxes, SlotPhase};
use crate::ids::SlotKey;
use crate::messages::session::SessionCommand;
use crate::state::budget::{Budgets, Part};

/// The worker's share of the budgets. It is counted in plain fields, and published to the shared
/// budgets once per turn.
pub(in crate::worker) struct Held {
    budgets: Arc<Budgets>,
    now: Part,
    published: Part,
    replayed_bytes: usize,
    published_replays: Part,
    /// Number of chunks that were requested from the hub and have not arrived.
    pub(super) requested_chunks: usize,
    /// Assumed size of a requested chunk.
    chunk_bytes: usize,
    /// Bytes that sessions queued for clients with a ready drainer since the flusher's last round.
    /// Only direct packets are counted, since their memory is not shared with other clients.
    fresh_bytes: usize,
    /// Bytes that sessions queued since the share was last published.
    unpublished_bytes: usize,
    /// True if more than half of the budget of outboxes is used.
    pub(super) is_scarce: bool,
    /// Bytes that were held when the last pass over the outboxes freed nothing, otherwise 0. The
    /// next pass is delayed until clearly more bytes are held.
    unfreeable_bytes: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct HeldBytes {
    /// Bytes charged to the client.
    pub(super) own: usize,
    /// Bytes of replayed events. The server itself limits the rate of replays, so no session is
    /// ended because of these bytes.
    pub(super) replayed: usize,
}

pub(super) struct Excess {
    pub(super) bytes: usize,
    /// Minimum size of an outbox to be cut. This is the mean size of all outboxes that hold bytes,
    /// so that a worker with small outboxes leaves the cuts to other workers. 0 if the budget is
    /// far exceeded.
    pub(super) outbox_min: usize,
}

/// Size up to which journalled events may fill an outbox without a ready drainer while more than
/// half of the budget is used.
pub(super) const SCARCE_OUTBOX_BYTES: usize = 16 << 10;

/// Time limit for a client to read a replayed chunk while the replay budget is used up. A mobile
/// client needs about this time for 256 KiB. A slower client is charged like any other slow client.
pub(super) const REPLAY_READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes of direct packets after which the budget is checked within the turn.
const FRESH_BYTES: usize = 1 << 20;

impl Held {
    pub(super) fn new(budgets: Arc<Budgets>, chunk_bytes: usize) -> Self {
        Self {
            budgets,
            replayed_bytes: 0,
            published_replays: Part::default(),
            requested_chunks: 0,
            chunk_bytes,
            now: Part::default(),
            published: Part::default(),
            fresh_bytes: 0,
            unpublished_bytes: 0,
            is_scarce: false,
            unfreeable_bytes: 0,
        }
    }

    /// Changes the counted bytes of one outbox from `before` to `now`.
    pub(super) fn change(&mut self, before: HeldBytes, now: HeldBytes) {
        self.now.bytes = self.now.bytes + now.own - before.own;
        self.now.holders = self.now.holders + usize::from(now.own > 0) - usize::from(before.own > 0);
        self.replayed_bytes = self.replayed_bytes + now.replayed - before.replayed;
    }

    /// Returns whether the replay budget has room for one more chunk. If no bytes of the budget are
    /// used, one chunk is always allowed.
    pub(super) fn has_replay_budget(&mut self) -> bool {
        let bytes = self.replayed_bytes + self.requested_chunks * self.chunk_bytes;
        self.publish_replays(bytes);
        let all = self.budgets.replays.bytes();
        all == 0 || all.saturating_add(self.chunk_bytes) <= self.budgets.replays.bytes_max()
    }

    fn publish_replays(&mut self, bytes: usize) {
        let now = Part { bytes, holders: 0 };
        if now != self.published_replays {
            self.budgets.replays.replace(self.published_replays, now);
            self.published_replays = now;
        }
    }

    pub(in crate::worker) fn begin_round(&mut self) {
        self.fresh_bytes = 0;
    }

    /// Publishes the worker's share. If outboxes must be cut, returns the excess over the budget.
    pub(super) fn publish(&mut self) -> Option<Excess> {
        self.unpublished_bytes = 0;
        self.publish_replays(self.replayed_bytes + self.requested_chunks * self.chunk_bytes);
        let budget = &self.budgets.outboxes;
        let now = Part { bytes: self.now.bytes + self.fresh_bytes, holders: self.now.holders };
        if now != self.published {
            budget.replace(self.published, now);
            self.published = now;
        }
        let (bytes, bytes_max) = (budget.bytes(), budget.bytes_max());
        self.is_scarce = bytes > bytes_max / 2;
        if bytes <= bytes_max {
            self.unfreeable_bytes = 0;
            return None;
        }
        if self.unfreeable_bytes > 0 && self.now.bytes < self.unfreeable_bytes.saturating_add(bytes_max / 64) {
            return None;
        }
        let is_far_over = bytes > bytes_max.saturating_add(bytes_max / 4);
        Some(Excess {
            bytes: bytes - (bytes_max - bytes_max / 8),
            outbox_min: if is_far_over { 0 } else { budget.mean() },
        })
    }

    /// Records the result of a pass that cut outboxes.
    pub(super) fn on_freed(&mut self, freed: usize) {
        self.unfreeable_bytes = if freed == 0 { self.now.bytes.max(1) } else { 0 };
        let now = Part { bytes: self.now.bytes + self.fresh_bytes, holders: self.now.holders };
        self.budgets.outboxes.replace(self.published, now);
        self.published = now;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budgets.outboxes.replace(self.published, Part::default());
        self.budgets.replays.replace(self.published_replays, Part::default());
    }
}

impl Outboxes {
    /// Records bytes that a session queued for its own client.
    pub(in crate::worker) fn push_fresh(&mut self, key: SlotKey, bytes: usize) {
        // While the drainer is not ready, the whole outbox already counts as held.
        if self.get(key).is_some_and(OutboxSlot::is_ready) {
            self.held.fresh_bytes += bytes;
        }
        self.held.unpublished_bytes += bytes;
        if self.held.unpublished_bytes >= FRESH_BYTES {
            self.enforce_budget();
        }
    }

    /// Charges the replay budget for a chunk.
    pub(super) fn charge_replay(&mut self, key: SlotKey, bytes: u32, now: Instant) {
        let is_first = self.with(key, |slot| {
            let before = slot.replayed_bytes;
            slot.replayed_bytes = before.saturating_add(bytes);
            before == 0 && bytes > 0
        });
        if is_first == Some(true) {
            self.unread_replays.insert(key, now);
        }
    }

    /// Moves unread chunks older than [`REPLAY_READ_TIMEOUT`] to the budget of outboxes while the
    /// replay budget is used up. These chunks then no longer delay other readers, and a client that
    /// reads nothing may be disconnected because of them.
    pub(super) fn recharge_unread_replays(&mut self, now: Instant) {
        if self.unread_replays.is_empty() || self.held.has_replay_budget() {
            return;
        }
        let is_due = |since: &Instant| now.saturating_duration_since(*since) >= self.replay_read_timeout;
        let mut due: Vec<_> =
            self.unread_replays.iter().filter(|(_, since)| is_due(since)).map(|(key, since)| (*since, *key)).collect();
        due.sort_unstable_by_key(|(since, _)| *since);
        for (_, key) in due {
            self.unread_replays.remove(&key);
            self.with(key, |slot| slot.replayed_bytes = 0);
            if self.held.has_replay_budget() {
                return;
            }
        }
    }

    pub(in crate::worker) fn has_unread_replays(&self) -> bool {
        !self.unread_replays.is_empty()
    }

    /// Returns whether nothing was written from a non-empty outbox for `stall_timeout`. The session
    /// checks this at each wake-up.
    pub(in crate::worker) fn is_stalled(&mut self, key: SlotKey, now: Instant) -> bool {
        let stall_timeout = self.stall_timeout;
        let Some(slot) = self.get_mut(key) else { return false };
        let moved = std::mem::take(&mut slot.moved);
        if slot.outbox.is_empty() {
            if !self.stalled.is_empty() {
                self.stalled.remove(&key);
            }
            return false;
        }
        let since = self.stalled.entry(key).or_insert(now);
        if moved {
            *since = now;
        }
        now.saturating_duration_since(*since) >= stall_timeout
    }

    /// Publishes the worker's share of the budgets. Called at least once per turn. If the budget of
    /// outboxes is exceeded, cuts the largest outboxes (drops their packets and ends their
    /// sessions) until an eighth of the budget is free.
    pub(in crate::worker) fn enforce_budget(&mut self) {
        let Some(excess) = self.held.publish() else { return };
        let most = |slot: &OutboxSlot| (slot.phase == SlotPhase::Open).then(|| slot.held().own);
        let cells = (0..).zip(&self.cells);
        let mut largest: Vec<(usize, SlotKey)> = cells
            .filter_map(|(index, cell)| {
                let held = cell.slot.as_ref().and_then(most).filter(|held| *held > 0 && *held >= excess.outbox_min)?;
                Some((held, SlotKey { index, generation: cell.generation }))
            })
            .collect();
        largest.sort_unstable_by_key(|(held, _)| Reverse(*held));
        let mut freed = 0;
        for (held, key) in largest {
            if freed >= excess.bytes {
                break;
            }
            freed += held;
            self.cut(key, held);
        }
        self.held.on_freed(freed);
    }

    fn cut(&mut self, key: SlotKey, held: usize) {
        let detail = format!("outboxes exceed their budget held_bytes={held}");
        let dropped = self.with(key, |slot| {
            // A packet that is sent in part would stay in memory until the client has read it. If
            // such a packet is large, it is dropped as well, and the connection is reset without a
            // close packet.
            let can_notify = slot.outbox.memory_bytes() - slot.outbox.event_bytes() <= SCARCE_OUTBOX_BYTES;
            let dropped = if can_notify { slot.outbox.clear() } else { slot.outbox.abandon() };
            slot.notify(SlotPhase::Closed, SessionCommand::OutboxCut { detail, can_notify });
            dropped
        });
        self.metrics.outboxes_cut.add(1);
        self.metrics.dropped_overflow.add(dropped.unwrap_or_default() as u64);
    }

    #[cfg(test)]
    pub(in crate::worker) fn is_stalled_empty(&self) -> bool {
        self.stalled.is_empty()
    }
}
