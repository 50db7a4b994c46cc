//! A store in memory, for queues that need not outlive their process, and for comparison with the
//! other store.
//!
//! It follows the contract with other means: every change is complete when it is applied, and
//! nothing is left for later commits.

mod ack;
mod apply;
mod expire;
mod read;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, RwLock};

use bytes::Bytes;

use self::read::MemoryReader;
use super::change::{Change, Outcome};
use super::limits::{CommitTimes, FutureTimes, RetentionRule, StoreLimits};
use super::record::{ContentHash, DeadLetter, Gap, GapReason, Payload, QueueOffset, SubscriberKey, UnixMillis};
use super::store::{QueueReader, QueueStore, StoreError};
use crate::ids::{Epoch, NamespacePath, RoomName};

/// Name of a room. A subscriber's own room, for its replayed dead letters, has a name that no other
/// room has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct RoomKey {
    namespace: NamespacePath,
    name: RoomName,
    is_own: bool,
}

#[derive(Debug)]
struct StoredEvent {
    rooms: Vec<RoomKey>,
    at: UnixMillis,
    expires_at: Option<UnixMillis>,
    replay_of: Option<u64>,
    via: Option<RoomName>,
    origin: Bytes,
    payload: Payload,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Room {
    /// Events, each with the number of subscriptions that have not handled it.
    live: BTreeMap<u64, u64>,
    /// Removed events that some subscription has not handled.
    gone: BTreeMap<u64, (u64, GapReason)>,
    bytes: u64,
    subscribers: BTreeSet<SubscriberKey>,
    removed_to: u64,
    lost_to: u64,
    rule: Option<RetentionRule>,
    future: FutureTimes,
}

#[derive(Debug)]
struct Subscription {
    start: u64,
    /// Events up to here are handled.
    floor: u64,
    handled: BTreeSet<u64>,
    /// The subscriber knows that events of the room up to here may be lost.
    lost_confirmed: u64,
}

impl Subscription {
    /// Up to here nothing is lost of which the subscriber does not know.
    fn known_to(&self) -> u64 {
        self.start.max(self.floor).max(self.lost_confirmed)
    }

    fn is_open(&self, number: u64) -> bool {
        number > self.floor && !self.handled.contains(&number)
    }
}

#[derive(Debug)]
struct Subscriber {
    created_at: UnixMillis,
    seen_at: UnixMillis,
    subscriptions: BTreeMap<RoomKey, Subscription>,
    attempts: BTreeMap<u64, Attempts>,
    dead: BTreeMap<u64, DeadLetter>,
    gaps: BTreeMap<GapReason, Vec<Gap>>,
    /// The newest event that it may have received. `None` while it is attached.
    sent_up_to: Option<u64>,
}

/// Failed deliveries of an event.
#[derive(Debug, Clone, Copy)]
struct Attempts {
    attempts: u32,
    alone: bool,
    retry_at: UnixMillis,
}

#[derive(Debug)]
struct Expired {
    created_at: UnixMillis,
    seen_at: UnixMillis,
    at: UnixMillis,
}

#[derive(Debug)]
struct DedupEntry {
    at: UnixMillis,
    key: (NamespacePath, Bytes),
    content: ContentHash,
    pending_for: u64,
}

/// All that is stored.
#[derive(Debug)]
struct State {
    epoch: Epoch,
    limits: StoreLimits,
    head: u64,
    revealed: u64,
    bytes: u64,
    dead_letters: u64,
    /// The newest freed event of rooms that are not stored any more.
    removed_to: u64,
    events: BTreeMap<u64, StoredEvent>,
    rooms: BTreeMap<RoomKey, Room>,
    subscribers: BTreeMap<SubscriberKey, Subscriber>,
    expired: BTreeMap<SubscriberKey, Expired>,
    dedup: BTreeMap<u64, DedupEntry>,
    dedup_numbers: HashMap<(NamespacePath, Bytes), u64>,
    future_ids: FutureTimes,
    times: CommitTimes,
    commits: u64,
    /// Gaps arose since the last [`Change::Expire`].
    has_new_gaps: bool,
}

/// The writing side of a queue in memory.
pub(crate) struct MemoryStore {
    state: Arc<RwLock<State>>,
}

impl MemoryStore {
    pub(crate) fn new(epoch: Epoch, limits: StoreLimits) -> Self {
        let state = State {
            epoch,
            limits,
            head: 0,
            revealed: 0,
            bytes: 0,
            dead_letters: 0,
            removed_to: 0,
            events: BTreeMap::new(),
            rooms: BTreeMap::new(),
            subscribers: BTreeMap::new(),
            expired: BTreeMap::new(),
            dedup: BTreeMap::new(),
            dedup_numbers: HashMap::new(),
            future_ids: FutureTimes::default(),
            times: CommitTimes::default(),
            commits: 0,
            has_new_gaps: false,
        };
        Self { state: Arc::new(RwLock::new(state)) }
    }

    /// A second writing side, as after a failure.
    #[cfg(test)]
    pub(crate) fn reopened(&self) -> Self {
        Self { state: Arc::clone(&self.state) }
    }
}

impl QueueStore for MemoryStore {
    fn commit(&mut self, changes: &[Change], now: UnixMillis) -> Result<Vec<Outcome>, StoreError> {
        let mut state = self.state.write().map_err(|_| StoreError::Failed)?;
        state.on_commit(now);
        Ok(changes.iter().map(|change| state.apply(change, now).unwrap_or_else(Outcome::Refused)).collect())
    }

    fn has_work(&self) -> bool {
        false
    }

    fn maintain(&mut self, _is_idle: bool) -> Result<(), StoreError> {
        Ok(())
    }

    fn head(&self) -> QueueOffset {
        let state = self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        QueueOffset { epoch: state.epoch, number: state.head }
    }

    fn commits(&self) -> u64 {
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner).commits
    }

    fn sizes(&self) -> (u64, u64) {
        let state = self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        (state.events.len() as u64 + state.dead_letters, state.bytes)
    }

    fn reader(&self) -> Result<Box<dyn QueueReader>, StoreError> {
        Ok(Box::new(MemoryReader { state: Arc::clone(&self.state) }))
    }
}
