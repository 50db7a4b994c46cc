//! Facts that hold for every store: each is checked on the one in memory and on the one in a
//! folder.

mod attaching;
mod attempts;
mod damage;
mod faults;
mod handling;
mod inspection;
mod limits;
mod model;
mod publishing;
mod steps;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::change::{Acked, Change, Dedup, Outcome, Publish, Refusal, StartPosition};
use super::limits::StoreLimits;
use super::memory::MemoryStore;
use super::record::{
    ContentHash, DeadLetter, DurableEvent, Gap, GapReason, Payload, PublishReceipt, QueueOffset, SubscriberKey,
    SubscriberName, Totals, UnixMillis,
};
use super::sqlite::{SqliteOptions, SqliteStore, WORK_ROWS};
use super::store::{EventPage, PASSED_MAX, PASSED_PAUSE_MS, PageLimit, QueueReader, QueueStore, StoreError};
use crate::ids::{Epoch, NamespacePath, RoomName};

const EPOCH: Epoch = Epoch::new(1_700_000_000, 7);

/// No bound that a test reaches.
const ALL: PageLimit = PageLimit { events: 100_000, bytes: usize::MAX };

/// A folder under the system's temporary one, removed with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("stentor-queue-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn options(folder: &Path, limits: StoreLimits) -> SqliteOptions {
    let folder = folder.to_owned();
    SqliteOptions { folder, epoch: EPOCH, limits, head_min: None, work_rows: WORK_ROWS, pages_max: None }
}

fn open(folder: &Path) -> SqliteStore {
    SqliteStore::open(options(folder, StoreLimits::default())).unwrap()
}

/// A store under test, its clock, and what one needs to write facts in a line.
struct Bench {
    store: Box<dyn QueueStore>,
    reader: Box<dyn QueueReader>,
    now: UnixMillis,
    kind: &'static str,
    scratch: Option<Scratch>,
    limits: StoreLimits,
    /// Instructions of SQLite's virtual machine, in steps of 100.
    instructions: Arc<AtomicU64>,
}

impl Bench {
    fn memory(limits: StoreLimits) -> Self {
        let store: Box<dyn QueueStore> = Box::new(MemoryStore::new(EPOCH, limits.clone()));
        let reader = store.reader().unwrap();
        Self {
            store,
            reader,
            now: UnixMillis(1_000_000),
            kind: "memory",
            scratch: None,
            limits,
            instructions: Arc::default(),
        }
    }

    fn sqlite(limits: StoreLimits) -> Self {
        Self::sqlite_with(limits, WORK_ROWS)
    }

    fn sqlite_with(limits: StoreLimits, work_rows: usize) -> Self {
        let scratch = Scratch::new();
        let options = SqliteOptions { work_rows, ..options(scratch.path(), limits.clone()) };
        let mut store = SqliteStore::open(options).unwrap();
        let instructions = Arc::<AtomicU64>::default();
        store.count_instructions(instructions.clone());
        let store: Box<dyn QueueStore> = Box::new(store);
        let reader = store.reader().unwrap();
        let (now, scratch) = (UnixMillis(1_000_000), Some(scratch));
        Self { store, reader, now, kind: "sqlite", scratch, limits, instructions }
    }

    /// Number of instructions that SQLite executes for `work`.
    fn instructions<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> u64 {
        let before = self.instructions.load(Ordering::Relaxed);
        work(self);
        self.instructions.load(Ordering::Relaxed) - before
    }

    /// Closes the store and opens it again, where there is something to open.
    fn reopen(self) -> Self {
        self.reopen_with(WORK_ROWS)
    }

    fn reopen_with(self, work_rows: usize) -> Self {
        let Self { store, reader, now, kind, scratch, limits, instructions } = self;
        let Some(scratch) = scratch else {
            return Self { store, reader, now, kind, scratch, limits, instructions };
        };
        drop((store, reader));
        let options = SqliteOptions { work_rows, ..options(scratch.path(), limits.clone()) };
        let store: Box<dyn QueueStore> = Box::new(SqliteStore::open(options).unwrap());
        let reader = store.reader().unwrap();
        Self { store, reader, now, kind, scratch: Some(scratch), limits, instructions }
    }

    fn commit(&mut self, changes: &[Change]) -> Vec<Outcome> {
        let outcomes = self.store.commit(changes, self.now).unwrap();
        assert_eq!(outcomes.len(), changes.len(), "{}", self.kind);
        self.settle();
        outcomes
    }

    /// Finishes the work that changes left over.
    fn settle(&mut self) {
        while self.store.has_work() {
            self.store.commit(&[], self.now).unwrap();
        }
    }

    fn apply(&mut self, change: Change) -> Outcome {
        self.commit(&[change]).remove(0)
    }

    /// Applies a change and its repetitions.
    fn complete(&mut self, change: &Change) {
        while matches!(self.apply(change.clone()), Outcome::Expired { has_more: true, .. }) {}
    }

    fn expire(&mut self) {
        self.complete(&Change::Expire { budget: 10_000 });
    }

    fn wait(&mut self, duration: Duration) {
        self.now.0 += duration.as_millis() as u64;
    }

    /// Creates a subscriber with subscriptions that begin now.
    fn subscribe(&mut self, name: &str, rooms: &[&str]) {
        self.apply(Change::CreateSubscriber { subscriber: key(name) });
        for room in rooms {
            let outcome = self.apply(subscribe(name, room, StartPosition::Now));
            assert!(matches!(outcome, Outcome::Subscribed { is_new: true, .. }), "{} {outcome:?}", self.kind);
        }
    }

    /// Publishes and reveals an event, and returns its receipt.
    fn publish(&mut self, rooms: &[&str], text: &str) -> PublishReceipt {
        let receipt = receipt(self.apply(publish(rooms, text)));
        self.reveal();
        receipt
    }

    fn reveal(&mut self) {
        let up_to = self.store.head().number;
        self.apply(Change::Revealed { up_to });
    }

    fn pending(&mut self, name: &str) -> Vec<u64> {
        numbers(&self.page(name, 0, ALL))
    }

    fn page(&mut self, name: &str, after: u64, limit: PageLimit) -> EventPage {
        self.reader.pending(&key(name), after, limit).unwrap()
    }

    fn gaps(&mut self, name: &str) -> Vec<Gap> {
        self.reader.gaps(&key(name), 0, 100_000).unwrap().gaps
    }

    /// Confirms all gaps of a subscriber.
    fn ack_gaps(&mut self, name: &str) {
        for gap in self.gaps(name) {
            self.apply(ack_gap(name, gap));
        }
    }

    fn dead(&mut self, name: &str) -> Vec<DeadLetter> {
        self.reader.dead_letters(&key(name), 0, ALL).unwrap().dead_letters
    }

    fn totals(&mut self) -> Totals {
        self.reader.totals().unwrap()
    }
}

fn both(check: impl Fn(Bench)) {
    with_limits(&StoreLimits::default(), check);
}

fn with_limits(limits: &StoreLimits, check: impl Fn(Bench)) {
    check(Bench::memory(limits.clone()));
    check(Bench::sqlite(limits.clone()));
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

fn key(name: &str) -> SubscriberKey {
    SubscriberKey { namespace: NamespacePath::root(), name: SubscriberName::parse(name).unwrap() }
}

fn payload(text: &str) -> Payload {
    Payload { text: Bytes::copy_from_slice(text.as_bytes()), attachments: Vec::new() }
}

fn event(rooms: &[&str], text: &str) -> Publish {
    Publish {
        namespace: NamespacePath::root(),
        rooms: rooms.iter().map(|name| room(name)).collect(),
        payload: payload(text),
        origin: Bytes::from_static(b"origin"),
        dedup: None,
        expires_at: None,
    }
}

fn publish(rooms: &[&str], text: &str) -> Change {
    Change::Publish(Box::new(event(rooms, text)))
}

fn publish_once(id: &str, rooms: &[&str], text: &str) -> Change {
    let mut event = event(rooms, text);
    let content = ContentHash::of(&event.rooms, &event.payload);
    event.dedup = Some(Dedup { id: Bytes::copy_from_slice(id.as_bytes()), content });
    Change::Publish(Box::new(event))
}

fn subscribe(name: &str, to: &str, from: StartPosition) -> Change {
    Change::Subscribe { subscriber: key(name), room: room(to), from }
}

fn unsubscribe(name: &str, from: &str) -> Change {
    Change::Unsubscribe { subscriber: key(name), room: room(from) }
}

fn ack(name: &str, numbers: &[u64]) -> Change {
    Change::Ack { subscriber: key(name), events: Acked::Numbers(numbers.to_vec()) }
}

fn ack_up_to(name: &str, up_to: u64) -> Change {
    Change::Ack { subscriber: key(name), events: Acked::UpTo(up_to) }
}

fn ack_gap(name: &str, gap: Gap) -> Change {
    Change::AckGaps { subscriber: key(name), gaps: vec![gap] }
}

fn failed(name: &str, number: u64, attempts: u32, retry_at: UnixMillis) -> Change {
    Change::DeliveryFailed { subscriber: key(name), number, attempts, alone: attempts > 2, retry_at }
}

fn term(name: &str, number: u64) -> Change {
    Change::Term { subscriber: key(name), number, attempts: None, reason: "poison".to_owned() }
}

fn after(number: u64) -> StartPosition {
    StartPosition::After(QueueOffset { epoch: EPOCH, number })
}

fn sizes(b: &mut Bench) -> (u64, u64) {
    let totals = b.totals();
    (totals.events, totals.bytes)
}

fn receipt(outcome: Outcome) -> PublishReceipt {
    match outcome {
        Outcome::Published(receipt) => receipt,
        other => panic!("not published: {other:?}"),
    }
}

fn numbers(page: &EventPage) -> Vec<u64> {
    assert!(page.damaged.is_empty(), "{:?}", page.damaged);
    page.events.iter().map(|event| event.number).collect()
}

fn gap(from: u64, to: u64, events: Option<u64>, reason: GapReason) -> Gap {
    Gap { from, to, events, reason }
}
