//! A store in memory whose commits and reads can fail.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::ids::{Epoch, NamespacePath, QueueOffset, RoomName};
use crate::queue::change::{Change, Outcome};
use crate::queue::committer::Open;
use crate::queue::limits::StoreLimits;
use crate::queue::memory::MemoryStore;
use crate::queue::record::{Backlog, DamagedEvent, DurableEvent, SubscriberInfo, SubscriberKey, Totals, UnixMillis};
use crate::queue::store::{
    DeadLetterPage, DeliveryPage, EventPage, GapPage, PageLimit, QueueReader, QueueStore, StoreError, UnrevealedPage,
};

#[derive(Default)]
struct State {
    commits_fail: AtomicBool,
    reads_fail: AtomicBool,
    changes: AtomicUsize,
    /// Times that the store was opened.
    openings: AtomicUsize,
    faults: Mutex<Faults>,
}

/// Faults of single reads.
#[derive(Default)]
pub(super) struct Faults {
    /// The subscriber whose pages cannot be read.
    pub(super) subscriber: Option<SubscriberKey>,
    /// Events of rooms cannot be read.
    pub(super) rooms: bool,
    /// Events that are damaged.
    pub(super) damaged: BTreeSet<u64>,
    /// Readers of earlier openings see the events up to here, as those of a file that was replaced.
    pub(super) stale_head: Option<u64>,
    /// Number of pages that were asked for.
    pub(super) pages: usize,
    /// Number of events of rooms that were read.
    pub(super) events_read: usize,
    /// Number of subscribers that were listed.
    pub(super) subscribers_read: usize,
    /// Number of pending events that were counted.
    pub(super) events_counted: u64,
    /// Number of looks at gaps.
    pub(super) gap_reads: usize,
}

impl Faults {
    /// Moves damaged events out of a page.
    fn take_damaged(&self, events: &mut Vec<DurableEvent>) -> Vec<DamagedEvent> {
        let damaged = events.extract_if(.., |event| self.damaged.contains(&event.number));
        damaged.map(|event| DamagedEvent { number: event.number, error: "planted".into() }).collect()
    }
}

pub(super) struct Failing {
    store: MemoryStore,
    state: Arc<State>,
}

fn failure() -> StoreError {
    StoreError::Io { path: "test".into(), error: "planted".into() }
}

impl Failing {
    pub(super) fn new(limits: StoreLimits) -> Self {
        Self { store: MemoryStore::new(Epoch::new(1, 2), limits), state: Arc::default() }
    }

    fn share(&self) -> Self {
        Self { store: self.store.reopened(), state: self.state.clone() }
    }

    pub(super) fn open(&self) -> Open {
        let shared = self.share();
        Box::new(move || {
            if shared.state.commits_fail.load(Ordering::SeqCst) {
                return Err(failure());
            }
            shared.state.openings.fetch_add(1, Ordering::SeqCst);
            Ok(Box::new(shared.share()))
        })
    }

    pub(super) fn fail_commits(&self, fail: bool) {
        self.state.commits_fail.store(fail, Ordering::SeqCst);
    }

    pub(super) fn fail_reads(&self, fail: bool) {
        self.state.reads_fail.store(fail, Ordering::SeqCst);
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.state.faults.lock().unwrap()
    }

    /// Number of changes that were committed.
    pub(super) fn changes(&self) -> usize {
        self.state.changes.load(Ordering::SeqCst)
    }
}

impl QueueStore for Failing {
    fn commit(&mut self, changes: &[Change], now: UnixMillis) -> Result<Vec<Outcome>, StoreError> {
        if self.state.commits_fail.load(Ordering::SeqCst) {
            return Err(failure());
        }
        self.state.changes.fetch_add(changes.len(), Ordering::SeqCst);
        self.store.commit(changes, now)
    }

    fn has_work(&self) -> bool {
        false
    }

    fn maintain(&mut self, _: bool) -> Result<(), StoreError> {
        Ok(())
    }

    fn head(&self) -> QueueOffset {
        self.store.head()
    }

    fn commits(&self) -> u64 {
        self.store.commits()
    }

    fn reader(&self) -> Result<Box<dyn QueueReader>, StoreError> {
        let opening = self.state.openings.load(Ordering::SeqCst);
        Ok(Box::new(FailingReader { reader: self.store.reader()?, state: self.state.clone(), opening }))
    }
}

struct FailingReader {
    reader: Box<dyn QueueReader>,
    state: Arc<State>,
    opening: usize,
}

impl QueueReader for FailingReader {
    fn pending(&mut self, subscriber: &SubscriberKey, after: u64, limit: PageLimit) -> Result<EventPage, StoreError> {
        self.reader.pending(subscriber, after, limit)
    }

    fn deliverable(
        &mut self,
        subscriber: &SubscriberKey,
        after: u64,
        except: &[u64],
        now: UnixMillis,
        limit: PageLimit,
    ) -> Result<DeliveryPage, StoreError> {
        let mut faults = self.state.faults.lock().unwrap();
        faults.pages += 1;
        if self.state.reads_fail.load(Ordering::SeqCst) || faults.subscriber.as_ref() == Some(subscriber) {
            return Err(failure());
        }
        let mut page = self.reader.deliverable(subscriber, after, except, now, limit)?;
        page.damaged.extend(faults.take_damaged(&mut page.fresh));
        if let Some(head) = faults.stale_head
            && self.opening < self.state.openings.load(Ordering::SeqCst)
        {
            page.fresh.retain(|event| event.number <= head);
        }
        Ok(page)
    }

    fn events(
        &mut self,
        namespace: &NamespacePath,
        rooms: &[RoomName],
        after: u64,
        limit: PageLimit,
    ) -> Result<EventPage, StoreError> {
        let mut faults = self.state.faults.lock().unwrap();
        if faults.rooms {
            return Err(failure());
        }
        let mut page = self.reader.events(namespace, rooms, after, limit)?;
        faults.events_read += page.events.len();
        page.damaged.extend(faults.take_damaged(&mut page.events));
        Ok(page)
    }

    fn unrevealed(&mut self, after: u64, limit: PageLimit) -> Result<UnrevealedPage, StoreError> {
        self.reader.unrevealed(after, limit)
    }

    fn subscriber(&mut self, subscriber: &SubscriberKey) -> Result<Option<SubscriberInfo>, StoreError> {
        self.reader.subscriber(subscriber)
    }

    fn subscribers(&mut self, after: Option<&SubscriberKey>, limit: usize) -> Result<Vec<SubscriberInfo>, StoreError> {
        let found = self.reader.subscribers(after, limit)?;
        self.state.faults.lock().unwrap().subscribers_read += found.len();
        Ok(found)
    }

    fn backlog(&mut self, subscriber: &SubscriberKey, events_max: usize) -> Result<Backlog, StoreError> {
        let backlog = self.reader.backlog(subscriber, events_max)?;
        self.state.faults.lock().unwrap().events_counted += backlog.events;
        Ok(backlog)
    }

    fn dead_letters(
        &mut self,
        subscriber: &SubscriberKey,
        after: u64,
        limit: PageLimit,
    ) -> Result<DeadLetterPage, StoreError> {
        self.reader.dead_letters(subscriber, after, limit)
    }

    fn gaps(&mut self, subscriber: &SubscriberKey, after: u64, limit: usize) -> Result<GapPage, StoreError> {
        self.state.faults.lock().unwrap().gap_reads += 1;
        self.reader.gaps(subscriber, after, limit)
    }

    fn first_failed(&mut self, subscriber: &SubscriberKey, from: u64) -> Result<Option<u64>, StoreError> {
        self.reader.first_failed(subscriber, from)
    }

    fn has_expired(&mut self, up_to: u64, now: UnixMillis) -> Result<bool, StoreError> {
        self.reader.has_expired(up_to, now)
    }

    fn totals(&mut self) -> Result<Totals, StoreError> {
        self.reader.totals()
    }
}
