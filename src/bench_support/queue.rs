//! The store in a folder and the committer, as the hub uses them: publishers that wait for their
//! commit, acknowledgements, reads.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::ids::{Epoch, NamespacePath, RoomName};
use crate::queue::change::{Acked, Change, Dedup, Outcome, Publish, StartPosition};
use crate::queue::committer::{CommitResult, Committer, CommitterOptions, unix_millis};
use crate::queue::limits::StoreLimits;
use crate::queue::record::{ContentHash, Payload, SubscriberKey, SubscriberName};
use crate::queue::sqlite::{SqliteOptions, SqliteStore, WORK_ROWS};
use crate::queue::store::{PageLimit, QueueReader, QueueStore};

/// A queue on disk with the bounds of a server's default, but for room for what a bench stores.
pub struct Queue {
    store: Box<dyn QueueStore>,
    reader: Box<dyn QueueReader>,
    sent: u64,
}

/// Times of events, from submission to answer.
pub struct Latencies {
    /// Number of events.
    pub events: u64,
    /// Wall-clock time of all of them.
    pub took: Duration,
    /// Median of one.
    pub p50: Duration,
    /// The time that 99 of 100 stay below.
    pub p99: Duration,
}

impl Latencies {
    /// The quantiles of these times.
    pub fn new(mut times: Vec<Duration>, took: Duration) -> Self {
        times.sort_unstable();
        let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
        Self { events: times.len() as u64, took, p50: at(50), p99: at(99) }
    }
}

fn open(folder: &Path) -> Result<Box<dyn QueueStore>, crate::queue::store::StoreError> {
    let limits = StoreLimits { queue_bytes_max: 1 << 36, dedup_ids_max: 10_000_000, ..StoreLimits::default() };
    let (folder, epoch) = (folder.to_owned(), Epoch::new(1, 1));
    let options = SqliteOptions { folder, epoch, limits, head_min: None, work_rows: WORK_ROWS, pages_max: None };
    Ok(Box::new(SqliteStore::open(options)?))
}

fn room(name: &str) -> Result<RoomName, String> {
    RoomName::parse(name).map_err(|error| error.to_string())
}

fn key(name: &str) -> Result<SubscriberKey, String> {
    let name = SubscriberName::parse(name).map_err(|error| error.to_string())?;
    Ok(SubscriberKey { namespace: NamespacePath::root(), name })
}

/// An event with a `dedup_id` of its own.
fn event(number: u64, rooms: &[RoomName], bytes: usize) -> Change {
    let mut text = vec![b'x'; bytes];
    text[..8.min(bytes)].copy_from_slice(&number.to_be_bytes()[..8.min(bytes)]);
    let payload = Payload { text: Bytes::from(text), attachments: Vec::new() };
    // Ids of publishers are random: they do not arrive in order.
    let id = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    let dedup = Some(Dedup { id: Bytes::copy_from_slice(&id), content: ContentHash::of(rooms, &payload) });
    Change::Publish(Box::new(Publish {
        namespace: NamespacePath::root(),
        rooms: rooms.to_vec(),
        payload,
        origin: Bytes::from_static(b"origin"),
        dedup,
        expires_at: None,
    }))
}

impl Queue {
    /// The queue in this folder, which is made if it does not exist.
    pub fn open(folder: &Path) -> Result<Self, String> {
        let store = open(folder).map_err(|error| error.to_string())?;
        let reader = store.reader().map_err(|error| error.to_string())?;
        let sent = store.head().number;
        Ok(Self { store, reader, sent })
    }

    fn commit(&mut self, changes: &[Change]) -> Result<Vec<Outcome>, String> {
        let outcomes = self.store.commit(changes, unix_millis()).map_err(|error| error.to_string())?;
        self.store.maintain(false).map_err(|error| error.to_string())?;
        let refused = outcomes.iter().find(|outcome| matches!(outcome, Outcome::Refused(_)));
        refused.map_or(Ok(()), |refused| Err(format!("{refused:?}")))?;
        Ok(outcomes)
    }

    /// Creates subscribers of these names with a subscription to a room.
    pub fn subscribe(&mut self, names: &[String], to: &str) -> Result<(), String> {
        for names in names.chunks(256) {
            let mut changes = Vec::new();
            for name in names {
                changes.push(Change::CreateSubscriber { subscriber: key(name)? });
                changes.push(Change::Subscribe { subscriber: key(name)?, room: room(to)?, from: StartPosition::Now });
            }
            self.commit(&changes)?;
        }
        Ok(())
    }

    /// Commits a batch of events to a room, and that the ones before were revealed. The time is
    /// that of the commit.
    pub fn publish(&mut self, to: &str, events: u64, bytes: usize) -> Result<Duration, String> {
        let rooms = [room(to)?];
        let mut changes = vec![Change::Revealed { up_to: self.sent }];
        changes.extend((0..events).map(|at| event(self.sent + at, &rooms, bytes)));
        self.sent += events;
        let begun = Instant::now();
        self.commit(&changes)?;
        Ok(begun.elapsed())
    }

    /// Reads and acknowledges all that is pending for a subscriber, a page and a commit at a time.
    /// How many that was.
    pub fn drain(&mut self, name: &str, page: usize) -> Result<u64, String> {
        let subscriber = key(name)?;
        let mut acked = 0;
        self.commit(&[Change::Revealed { up_to: self.sent }])?;
        loop {
            let limit = PageLimit { events: page, bytes: usize::MAX };
            let page = self.reader.pending(&subscriber, 0, limit).map_err(|error| error.to_string())?;
            if page.events.is_empty() {
                return Ok(acked);
            }
            let ack = |number| Change::Ack { subscriber: subscriber.clone(), events: Acked::Numbers(vec![number]) };
            let changes: Vec<Change> = page.events.iter().map(|event| ack(event.number)).collect();
            acked += self.commit(&changes)?.len() as u64;
        }
    }

    /// Number of stored events.
    pub fn events(&mut self) -> Result<u64, String> {
        self.reader.totals().map(|totals| totals.events).map_err(|error| error.to_string())
    }

    /// Moves the log into the database file.
    pub fn checkpoint(&mut self) -> Result<(), String> {
        self.store.maintain(true).map_err(|error| error.to_string())
    }
}

/// State that all publishers share.
struct Publishing {
    committer: Committer,
    rooms: [RoomName; 1],
    bytes: usize,
    /// Number of publishers, and the distance of the numbers of one publisher's events.
    count: u64,
    end: Instant,
}

/// A publisher that lives in the completions of its events, on the committer's thread.
struct Publisher {
    shared: Arc<Publishing>,
    /// Number of its next event.
    next: u64,
    times: Vec<Duration>,
    /// The newest event that the queue was notified of as revealed. One publisher does so, about as
    /// often as a hub.
    notified: Option<u64>,
    finished: Sender<Result<Vec<Duration>, String>>,
}

impl Publisher {
    fn publish(mut self: Box<Self>) {
        let Publishing { rooms, bytes, count, .. } = &*self.shared;
        let change = event(self.next, rooms, *bytes);
        self.next += count;
        let (shared, finished, begun) = (self.shared.clone(), self.finished.clone(), Instant::now());
        let complete = Box::new(move |result| self.on_result(result, begun));
        if shared.committer.submit(change, complete).is_err() {
            let _ = finished.send(Err("the committer accepted no further event".to_owned()));
        }
    }

    fn on_result(mut self: Box<Self>, result: CommitResult, begun: Instant) {
        let number = match result {
            CommitResult::Committed(Outcome::Published(receipt)) if !receipt.duplicate => receipt.offset.number,
            other => return drop(self.finished.send(Err(format!("expected a stored event, got {other:?}")))),
        };
        self.times.push(begun.elapsed());
        if let Some(notified) = &mut self.notified
            && number >= *notified + REVEALED_MAX
        {
            *notified = number;
            let _ = self.shared.committer.submit(Change::Revealed { up_to: number }, Box::new(|_| {}));
        }
        if Instant::now() < self.shared.end {
            self.publish();
        } else {
            let _ = self.finished.send(Ok(self.times));
        }
    }
}

/// Number of events after which the hub notifies the queue that they were revealed.
const REVEALED_MAX: u64 = 256;

/// Publishers that each submit their next event when they receive the answer to the one before, for
/// so much time. No thread is woken between the commits.
pub fn publishers(folder: &Path, to: &str, count: usize, time: Duration, bytes: usize) -> Result<Latencies, String> {
    let (folder, options) = (folder.to_owned(), CommitterOptions::default());
    let (committer, mut reader) =
        Committer::start(options, Box::new(move || open(&folder))).map_err(|error| error.to_string())?;
    let first = reader.totals().map_err(|error| error.to_string())?.head.number;
    let (finished, results) = channel();
    let (begun, count) = (Instant::now(), count as u64);
    let shared = Arc::new(Publishing { committer, rooms: [room(to)?], bytes, count, end: begun + time });
    for number in 0..count {
        let (shared, finished, notified) = (shared.clone(), finished.clone(), (number == 0).then_some(first));
        let publisher = Publisher { shared, next: first + number, times: Vec::new(), notified, finished };
        Box::new(publisher).publish();
    }
    let results: Result<Vec<Vec<Duration>>, String> = results.iter().take(count as usize).collect();
    let took = begun.elapsed();
    // Ends the completions, so that the last handle of the committer is dropped here.
    shared.committer.close();
    Ok(Latencies::new(results?.concat(), took))
}
