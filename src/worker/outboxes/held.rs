//! What the outboxes of one worker hold for clients that take nothing at present, and its share of the budget for that.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{OutboxSlot, Outboxes, SlotPhase};
use crate::ids::SlotKey;
use crate::messages::session::SessionCommand;
use crate::state::budget::{Budgets, Part};

/// The share of a worker. Counted in plain fields at each change, published once a turn.
pub(in crate::worker) struct Held {
    budgets: Arc<Budgets>,
    now: Part,
    published: Part,
    replayed_bytes: usize,
    published_replays: Part,
    /// Chunks that readers have asked for and not got yet.
    pub(super) asked: usize,
    /// The size at which such a chunk is counted until it has come.
    chunk_bytes: usize,
    /// Bytes that sessions pushed into their own outboxes since the flusher last began a round. Drainers may be about to take
    /// them, but nobody else shares their memory.
    fresh_bytes: usize,
    /// Bytes that they pushed since the share was last published.
    unpublished_bytes: usize,
    /// Whether more than half of the budget is spent.
    pub(super) is_short: bool,
    /// What was held when nothing could be freed, so that no slots are looked at again before more is held.
    fruitless_bytes: usize,
}

/// Bytes that one outbox holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct HeldBytes {
    /// Charged to its client.
    pub(super) own: usize,
    /// Replayed, which the server paces by itself and never cuts a session for.
    pub(super) replayed: usize,
}

/// What is to be freed.
pub(super) struct Excess {
    pub(super) bytes: usize,
    /// The smallest outbox that may be cut: a mean one, so that a worker with small ones leaves it to the others.
    pub(super) least: usize,
}

/// What an outbox may hold of events that the journal has as well while the budget is more than half spent.
pub(super) const SHORT_BYTES: usize = 16 << 10;

/// How long a client may hold a share of the budget of replays once that is spent. A chunk of 256 KiB takes a mobile client about as
/// long; who needs longer is charged like anybody who is slow.
pub(super) const LENT_FOR: Duration = Duration::from_secs(1);

/// Bytes pushed directly after which the budget is looked at in the same turn.
const FRESH_BYTES: usize = 1 << 20;

impl Held {
    pub(super) fn new(budgets: Arc<Budgets>, chunk_bytes: usize) -> Self {
        Self {
            budgets,
            replayed_bytes: 0,
            published_replays: Part::default(),
            asked: 0,
            chunk_bytes,
            now: Part::default(),
            published: Part::default(),
            fresh_bytes: 0,
            unpublished_bytes: 0,
            is_short: false,
            fruitless_bytes: 0,
        }
    }

    /// An outbox held `before` bytes and holds `now`.
    pub(super) fn change(&mut self, before: HeldBytes, now: HeldBytes) {
        self.now.bytes = self.now.bytes + now.own - before.own;
        self.now.holders = self.now.holders + usize::from(now.own > 0) - usize::from(before.own > 0);
        self.replayed_bytes = self.replayed_bytes + now.replayed - before.replayed;
    }

    /// Whether the budget of replays has room for a further chunk; one may always be under way.
    pub(super) fn may_ask(&mut self) -> bool {
        let bytes = self.replayed_bytes + self.asked * self.chunk_bytes;
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

    /// The flusher begins a round.
    pub(in crate::worker) fn begin_round(&mut self) {
        self.fresh_bytes = 0;
    }

    /// Publishes what is held. Returns what is to be freed, if the budget is spent.
    pub(super) fn settle(&mut self) -> Option<Excess> {
        self.unpublished_bytes = 0;
        self.publish_replays(self.replayed_bytes + self.asked * self.chunk_bytes);
        let budget = &self.budgets.outboxes;
        let now = Part { bytes: self.now.bytes + self.fresh_bytes, holders: self.now.holders };
        if now != self.published {
            budget.replace(self.published, now);
            self.published = now;
        }
        let (bytes, bytes_max) = (budget.bytes(), budget.bytes_max());
        self.is_short = bytes > bytes_max / 2;
        if bytes <= bytes_max {
            self.fruitless_bytes = 0;
            return None;
        }
        if self.fruitless_bytes > 0 && self.now.bytes < self.fruitless_bytes.saturating_add(bytes_max / 64) {
            return None;
        }
        let is_far_over = bytes > bytes_max.saturating_add(bytes_max / 4);
        Some(Excess { bytes: bytes - (bytes_max - bytes_max / 8), least: if is_far_over { 0 } else { budget.mean() } })
    }

    /// `freed` bytes are not held any more.
    pub(super) fn settled(&mut self, freed: usize) {
        self.fruitless_bytes = if freed == 0 { self.now.bytes.max(1) } else { 0 };
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
    /// A session pushed `bytes` into its own outbox.
    pub(in crate::worker) fn push_fresh(&mut self, key: SlotKey, bytes: usize) {
        // Where the drainer is not ready, they are held already.
        if self.get(key).is_some_and(OutboxSlot::is_ready) {
            self.held.fresh_bytes += bytes;
        }
        self.held.unpublished_bytes += bytes;
        if self.held.unpublished_bytes >= FRESH_BYTES {
            self.settle();
        }
    }

    /// So many bytes are about to be replayed to a client.
    pub(super) fn lend(&mut self, key: SlotKey, bytes: u32, now: Instant) {
        let is_first = self.with(key, |slot| {
            let before = slot.replayed_bytes;
            slot.replayed_bytes = before.saturating_add(bytes);
            before == 0 && bytes > 0
        });
        if is_first == Some(true) {
            self.lent.insert(key, now);
        }
    }

    /// While the budget of replays is spent, what clients have not taken of chunks that were replayed to them [`LENT_FOR`] ago counts
    /// as theirs from here on. So it leaves the budget to those that wait, and the largest of those that take nothing are cut when the
    /// budget of outboxes is spent.
    pub(super) fn reclaim(&mut self, now: Instant) {
        if self.lent.is_empty() || self.held.may_ask() {
            return;
        }
        let is_due = |since: &Instant| now.saturating_duration_since(*since) >= self.lent_for;
        let mut due: Vec<_> =
            self.lent.iter().filter(|(_, since)| is_due(since)).map(|(key, since)| (*since, *key)).collect();
        due.sort_unstable_by_key(|(since, _)| *since);
        for (_, key) in due {
            self.lent.remove(&key);
            self.with(key, |slot| slot.replayed_bytes = 0);
            if self.held.may_ask() {
                return;
            }
        }
    }

    /// Whether clients hold what was replayed to them.
    pub(in crate::worker) fn has_lent(&self) -> bool {
        !self.lent.is_empty()
    }

    /// Whether nothing has left an outbox for too long that was never empty when this was asked: for its session, with each ping.
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

    /// Charges the budget for what waits on this worker, once a turn. While the budget is spent, ends the sessions whose outboxes
    /// hold most until an eighth of it is free.
    pub(in crate::worker) fn settle(&mut self) {
        let Some(excess) = self.held.settle() else { return };
        let most = |slot: &OutboxSlot| (slot.phase == SlotPhase::Open).then(|| slot.held().own);
        let cells = (0..).zip(&self.cells);
        let mut largest: Vec<(usize, SlotKey)> = cells
            .filter_map(|(index, cell)| {
                let held = cell.slot.as_ref().and_then(most).filter(|held| *held > 0 && *held >= excess.least)?;
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
        self.held.settled(freed);
    }

    /// Drops what waits for a client, and lets its session end.
    fn cut(&mut self, key: SlotKey, held: usize) {
        let detail = format!("outboxes are over their budget, this one held {held} bytes");
        let dropped = self.with(key, |slot| {
            // A large packet that has left in part would stay as long as the client likes, so that the client cannot be told.
            let can_notify = slot.outbox.memory_bytes() - slot.outbox.event_bytes() <= SHORT_BYTES;
            let dropped = if can_notify { slot.outbox.clear() } else { slot.outbox.abandon() };
            slot.notify(SlotPhase::Closed, SessionCommand::OutboxCut { detail, can_notify });
            dropped
        });
        self.metrics.outboxes_cut.add(1);
        self.metrics.dropped_overflow.add(dropped.unwrap_or_default() as u64);
    }

    /// Whether nothing is remembered of sessions that were stalled.
    #[cfg(test)]
    pub(in crate::worker) fn is_nobody_stalled(&self) -> bool {
        self.stalled.is_empty()
    }
}
