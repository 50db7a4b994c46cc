//! The shared handle of a server's queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::change::Change;
use super::committer::{Committer, CommitterOptions, CommitterState, Completion, NotSubmitted, Open};
use super::limits::StoreLimits;
use super::record::{Payload, QueueOffset, UnixMillis};
use super::store::{QueueReader, StoreError};
use super::wake_queue::WakeQueue;
use crate::ids::{Epoch, NamespacePath, RoomName};

/// A durable event that was revealed, as the hub passes it to the subscribers.
#[derive(Debug, Clone)]
pub(crate) struct RevealedEvent {
    pub offset: QueueOffset,
    pub namespace: NamespacePath,
    pub rooms: Arc<[RoomName]>,
    pub payload: Arc<Payload>,
    pub published_at: UnixMillis,
    pub expires_at: Option<UnixMillis>,
}

/// An item of the live feed.
#[derive(Debug, Clone)]
pub(crate) enum Live {
    Event(RevealedEvent),
    /// Events were left out, since the feed was full. They are in the store.
    LeftOut,
}

/// Bytes of events that may wait in the live feed.
const LIVE_BYTES_MAX: usize = 8 << 20;

/// Bytes that an event counts for the feed, in addition to its payload.
const LIVE_OVERHEAD_BYTES: usize = 512;

/// A running queue: commits of changes, and the feed of new events for subscribers.
#[derive(Debug)]
pub(crate) struct QueueService {
    committer: Committer,
    epoch: Epoch,
    limits: StoreLimits,
    waiting_max: usize,
    waiting_bytes_max: usize,
    live: WakeQueue<Live>,
    /// True while a subscriber or a read of rooms may wait for events.
    live_is_wanted: AtomicBool,
    /// Readers of a store that was opened again.
    reopened: Arc<WakeQueue<Box<dyn QueueReader>>>,
}

impl QueueService {
    /// Opens the store, starts the committer and returns a reader of the store.
    pub(crate) fn start(
        options: CommitterOptions,
        limits: StoreLimits,
        open: Open,
    ) -> Result<(Self, Box<dyn QueueReader>), StoreError> {
        let CommitterOptions { waiting_max, waiting_bytes_max, .. } = options;
        let reopened = Arc::<WakeQueue<_>>::default();
        let readers = reopened.clone();
        let options = CommitterOptions { on_reopened: Box::new(move |reader| readers.push(reader)), ..options };
        let (committer, mut reader) = Committer::start(options, open)?;
        let epoch = reader.totals()?.head.epoch;
        // Before anything else is committed: what an earlier process sent ends at the head.
        let _ = committer.submit(Change::DetachAll, Box::new(drop));
        let (live, live_is_wanted) = (WakeQueue::default(), AtomicBool::new(false));
        Ok((Self { committer, epoch, limits, waiting_max, waiting_bytes_max, live, live_is_wanted, reopened }, reader))
    }

    /// The bounds of the store.
    pub(crate) fn limits(&self) -> &StoreLimits {
        &self.limits
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Submits a change. Changes are committed in the order in which they were submitted.
    pub(crate) fn submit(&self, change: Change, complete: Completion) -> Result<(), NotSubmitted> {
        self.committer.submit(change, complete)
    }

    /// Maximum number of changes that wait for the committer.
    pub(crate) fn waiting_max(&self) -> usize {
        self.waiting_max
    }

    /// Maximum bytes of changes that wait for the committer.
    pub(crate) fn waiting_bytes_max(&self) -> usize {
        self.waiting_bytes_max
    }

    /// Commits what was submitted and ends the committer. Later changes are not accepted. Blocks
    /// until the store is closed.
    pub(crate) fn close(&self) {
        self.committer.close();
    }

    pub(crate) fn state(&self) -> &Arc<CommitterState> {
        self.committer.state()
    }

    /// Passes a revealed event to the subscribers. A full feed leaves it out, and so does one that
    /// nobody waits for: subscribers then read it from the store.
    pub(crate) fn feed(&self, event: RevealedEvent) {
        if !self.live_is_wanted.load(Ordering::SeqCst) {
            return;
        }
        let bytes = event.payload.bytes() + LIVE_OVERHEAD_BYTES;
        if !self.live.push_within(Live::Event(event), bytes, LIVE_BYTES_MAX) {
            // Fits once into a full feed.
            self.live.push_within(Live::LeftOut, LIVE_BYTES_MAX, 2 * LIVE_BYTES_MAX);
        }
    }

    /// The reader to use from now on, if the store was opened again.
    pub(crate) fn reopened(&self) -> Option<Box<dyn QueueReader>> {
        self.reopened.take().pop()
    }

    /// Says whether anybody waits for events. It is said before the store is read: an event that
    /// was revealed earlier is in the store then, a later one is in the feed.
    pub(crate) fn want_live(&self, is_wanted: bool) {
        self.live_is_wanted.store(is_wanted, Ordering::SeqCst);
    }

    /// The live feed, which one actor takes from.
    pub(crate) fn live(&self) -> &WakeQueue<Live> {
        &self.live
    }
}
