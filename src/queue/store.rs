//! The contract of a store of the queue.
//!
//! A store belongs to one thread, the committer's. Readers belong to others and see what was
//! committed. Nothing in the contract presumes an engine: time is an argument, a batch is the unit
//! of atomicity and durability, and a page is the unit of reading.

use std::path::PathBuf;

use thiserror::Error;

use super::change::{Change, Outcome};
use super::record::{
    Backlog, DamagedEvent, DeadLetter, DurableEvent, Gap, QueueOffset, SubscriberInfo, SubscriberKey, Totals,
    UnixMillis,
};
use crate::ids::{NamespacePath, RoomName};

/// Why a store was not opened, or failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum StoreError {
    #[error("queue folder {}: it is a file; name a folder", path.display())]
    NotAFolder { path: PathBuf },
    #[error(
        "queue folder {}: it holds {found:?}, which is no part of a queue; name an empty folder, or one that does not exist yet",
        path.display()
    )]
    Foreign { path: PathBuf, found: String },
    #[error(
        "queue file {}: found no SQLite database, expected one of a queue; restore the file, or name another folder",
        path.display()
    )]
    NotSqlite { path: PathBuf },
    #[error(
        "queue file {}: found an SQLite database with application_id {found:#x}, expected {expected:#x}; name another folder",
        path.display()
    )]
    NotAQueue { path: PathBuf, found: i64, expected: i64 },
    #[error(
        "queue file {}: found format {found}, expected at most {expected}; run the newer program that wrote it, or name another \
         folder",
        path.display()
    )]
    Newer { path: PathBuf, found: i64, expected: i64 },
    #[error("queue folder {}: in use by {by}; stop that, or name another folder", path.display())]
    Locked { path: PathBuf, by: String },
    #[error(
        "queue file {}: not permitted ({error}); the user of this process must be able to read and write there",
        path.display()
    )]
    NotPermitted { path: PathBuf, error: String },
    #[error("queue file {}: no space left ({error}); make room on the disk", path.display())]
    Full { path: PathBuf, error: String },
    #[error("queue file {}: damaged ({found}); restore it from a backup, or move the folder away", path.display())]
    Damaged { path: PathBuf, found: String },
    #[error(
        "queue file {}: found {found} commits, expected at least {expected}, which were confirmed; restore the newest copy of \
         the file, or restart to continue without these commits",
        path.display()
    )]
    Lost { path: PathBuf, found: u64, expected: u64 },
    /// Nothing was applied and the store has not failed: commit again.
    #[error("queue file {}: another program is writing to it; end its transaction", path.display())]
    Busy { path: PathBuf },
    #[error("queue file {}: {error}", path.display())]
    Io { path: PathBuf, error: String },
    /// Open the store again.
    #[error("queue has failed and was not opened again yet")]
    Failed,
}

/// Storage of durable events and of the state of subscribers.
pub(crate) trait QueueStore: Send {
    /// Applies changes in order, atomically and durably: after `Ok` all of them survive a crash, or
    /// none was applied. A refused change is an outcome and does not prevent the others.
    ///
    /// After an error other than [`StoreError::Busy`] it is unknown whether the changes are stored.
    /// The store answers [`StoreError::Failed`] from then on; the caller drops it and opens it
    /// again.
    ///
    /// A commit also continues work that earlier changes left over, within a bound.
    fn commit(&mut self, changes: &[Change], now: UnixMillis) -> Result<Vec<Outcome>, StoreError>;

    /// True if a commit without changes would continue work.
    fn has_work(&self) -> bool;

    /// Bounded upkeep that no publisher should wait for. Called between commits; `is_idle` if no
    /// change waits.
    fn maintain(&mut self, is_idle: bool) -> Result<(), StoreError>;

    /// The newest number that was given to an event.
    fn head(&self) -> QueueOffset;

    /// Number of commits since the queue was made.
    fn commits(&self) -> u64;

    /// Number and bytes of the stored events and dead letters, for metrics.
    fn sizes(&self) -> (u64, u64) {
        (0, 0)
    }

    /// Opens a reader, which may move to another thread.
    fn reader(&self) -> Result<Box<dyn QueueReader>, StoreError>;
}

/// Bound of a page. A page has at least one event if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageLimit {
    pub events: usize,
    /// Bytes of payloads, past the first event.
    pub bytes: usize,
}

/// Bound of one read of unrevealed events.
const UNREVEALED_PAGE: PageLimit = PageLimit { events: 1_024, bytes: 4 << 20 };

/// Pending events that one read of deliverable events passes over: those that wait for a retry, and
/// those that were excepted.
pub(crate) const PASSED_MAX: usize = 1_024;

/// Time after which retries are read again, if a read passed over so many events that are
/// not pending any more and found none that is due.
pub(crate) const PASSED_PAUSE_MS: u64 = 100;

/// Events in order of their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct EventPage {
    pub events: Vec<DurableEvent>,
    /// Events of the page that cannot be read; the others are whole.
    pub damaged: Vec<DamagedEvent>,
    /// Number to read on from.
    pub next: u64,
    /// More events follow after `next`.
    pub has_more: bool,
    /// Number of the newest event that is no longer stored in these rooms; 0 if none.
    pub removed_to: u64,
}

/// Events to be delivered to a subscriber, read at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct DeliveryPage {
    /// Events whose retry is due, in ascending order. If not all fit, those that have waited
    /// longest.
    pub due: Vec<DurableEvent>,
    /// Events without failed deliveries, in ascending order.
    pub fresh: Vec<DurableEvent>,
    pub damaged: Vec<DamagedEvent>,
    /// Number to read fresh events on from.
    pub next: u64,
    /// More events are due, or fresh after `next`.
    pub has_more: bool,
    /// The time of the earliest retry that is not due, or of another look at the due ones.
    pub next_due: Option<UnixMillis>,
}

/// Dead letters in order of their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct DeadLetterPage {
    pub dead_letters: Vec<DeadLetter>,
    pub damaged: Vec<DamagedEvent>,
    /// Number to read on from.
    pub next: u64,
    pub has_more: bool,
}

/// Gaps in order of their numbers. Ranges of different reasons may overlap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct GapPage {
    pub gaps: Vec<Gap>,
    /// Number to read on from.
    pub next: u64,
    pub has_more: bool,
}

/// Reads what was committed. A read of an unknown subscriber is empty.
pub(crate) trait QueueReader: Send {
    /// Events that are pending for a subscriber, after a number.
    fn pending(&mut self, subscriber: &SubscriberKey, after: u64, limit: PageLimit) -> Result<EventPage, StoreError>;

    /// Pending events to be delivered at `now`: due retries of any number, and fresh ones after a
    /// number. Those in `except` are left out everywhere. A page may be empty although `has_more`
    /// is true, since one read passes over a bounded number of events.
    fn deliverable(
        &mut self,
        subscriber: &SubscriberKey,
        after: u64,
        except: &[u64],
        now: UnixMillis,
        limit: PageLimit,
    ) -> Result<DeliveryPage, StoreError>;

    /// Stored events of rooms, after a number, each once and with the first of its rooms.
    fn events(
        &mut self,
        namespace: &NamespacePath,
        rooms: &[RoomName],
        after: u64,
        limit: PageLimit,
    ) -> Result<EventPage, StoreError>;

    /// Stored events of all rooms after a number, each with the rooms in which it is stored, for
    /// revealing them after a restart. A page may be empty although `has_more` is true.
    fn unrevealed(&mut self, after: u64, limit: PageLimit) -> Result<UnrevealedPage, StoreError>;

    fn subscriber(&mut self, subscriber: &SubscriberKey) -> Result<Option<SubscriberInfo>, StoreError>;

    /// Subscribers after a key, in order, also expired ones.
    fn subscribers(&mut self, after: Option<&SubscriberKey>, limit: usize) -> Result<Vec<SubscriberInfo>, StoreError>;

    /// Counts what is pending for a subscriber, up to a bound.
    fn backlog(&mut self, subscriber: &SubscriberKey, events_max: usize) -> Result<Backlog, StoreError>;

    fn dead_letters(
        &mut self,
        subscriber: &SubscriberKey,
        after: u64,
        limit: PageLimit,
    ) -> Result<DeadLetterPage, StoreError>;

    /// Gaps of a subscriber that it has not confirmed and that end after a number, of at most
    /// `limit` removed events. A limit beyond 1024, which one change may confirm, counts as 1024.
    fn gaps(&mut self, subscriber: &SubscriberKey, after: u64, limit: usize) -> Result<GapPage, StoreError>;

    /// The lowest number, from `from` on, of an event whose last delivery to the subscriber has
    /// failed. The event may have been handled since.
    fn first_failed(&mut self, subscriber: &SubscriberKey, from: u64) -> Result<Option<u64>, StoreError>;

    /// True if an event up to a number has expired and was not removed yet.
    fn has_expired(&mut self, up_to: u64, now: UnixMillis) -> Result<bool, StoreError>;

    fn totals(&mut self) -> Result<Totals, StoreError>;
}

/// Events that were committed and possibly not revealed, in order of their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct UnrevealedPage {
    pub events: Vec<UnrevealedEvent>,
    pub damaged: Vec<DamagedEvent>,
    /// Number to read on from.
    pub next: u64,
    pub has_more: bool,
}

/// An event that was committed and possibly not revealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnrevealedEvent {
    pub namespace: NamespacePath,
    pub rooms: Vec<RoomName>,
    pub event: DurableEvent,
}

/// Calls a function with each event after a number, in order, and logs damaged events. Returns the
/// number from which a later call continues.
pub(crate) fn for_each_unrevealed(
    reader: &mut dyn QueueReader,
    mut after: u64,
    mut pass: impl FnMut(UnrevealedEvent),
) -> Result<u64, StoreError> {
    loop {
        let page = reader.unrevealed(after, UNREVEALED_PAGE)?;
        for damaged in page.damaged {
            log::error!("stored event is not revealed number={} error=\"{}\"", damaged.number, damaged.error);
        }
        page.events.into_iter().for_each(&mut pass);
        after = page.next;
        if !page.has_more {
            return Ok(after);
        }
    }
}
