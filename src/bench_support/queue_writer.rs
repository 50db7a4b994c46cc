//! Publishers that keep publishing while the disk fails, as the power-cut rig needs them: one line
//! of text for each result, as soon as it is known.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use bytes::Bytes;

use crate::ids::{Epoch, NamespacePath, RoomName};
use crate::queue::change::{Acked, Change, Dedup, Outcome, Publish, StartPosition};
use crate::queue::committer::{CommitResult, Committer, CommitterOptions};
use crate::queue::limits::StoreLimits;
use crate::queue::record::{ContentHash, Payload, SubscriberKey, SubscriberName};
use crate::queue::sqlite::{SqliteOptions, SqliteStore, WORK_ROWS};
use crate::queue::store::{QueueStore, StoreError};

/// Pause before a change is submitted again that was not committed.
const RETRY: Duration = Duration::from_millis(5);

/// Stored events after which nothing is submitted for a while, so that the store's upkeep of idle
/// times runs.
const IDLE_EVERY: u64 = 300;
const IDLE: Duration = Duration::from_millis(600);

/// The subscriber acknowledges events whose number is a multiple of this.
const ACKED_EVERY: u64 = 8;

/// The queue, its publishers, and how much they publish.
pub struct WriterOptions {
    /// Folder of the queue.
    pub folder: PathBuf,
    /// Number of the first event of each publisher. Event 7 of publisher 0 has the `dedup_id` 0-7.
    pub first: Vec<u64>,
    /// Stored events after which the writer ends.
    pub events: u64,
    /// Another value of SQLite's `synchronous`, for controls: commits that a power cut must lose.
    pub synchronous: Option<String>,
}

/// A change whose result is awaited.
#[derive(Clone)]
enum Request {
    Subscribe(usize),
    Event { publisher: usize, number: u64 },
    Ack(u64),
}

struct Writer {
    committer: Committer,
    sender: Sender<(Request, CommitResult)>,
    room: RoomName,
    subscriber: SubscriberKey,
}

fn open(folder: &Path, synchronous: Option<&str>) -> Result<Box<dyn QueueStore>, StoreError> {
    let (folder, epoch, limits) = (folder.to_owned(), Epoch::new(1, 1), StoreLimits::default());
    let options = SqliteOptions { folder, epoch, limits, head_min: None, work_rows: WORK_ROWS, pages_max: None };
    let store = SqliteStore::open(options)?;
    if let Some(mode) = synchronous {
        store.set_synchronous(mode)?;
    }
    Ok(Box::new(store))
}

fn event(id: &str, number: u64, room: &RoomName) -> Change {
    // Some fit into one page of the store, others need several.
    let filling = "x".repeat((number as usize).wrapping_mul(997) % 6_000);
    let text = Bytes::from(format!(r#"["order","{id}","{filling}"]"#));
    let (rooms, payload) = (vec![room.clone()], Payload { text, attachments: Vec::new() });
    let dedup = Some(Dedup { id: Bytes::copy_from_slice(id.as_bytes()), content: ContentHash::of(&rooms, &payload) });
    let (namespace, origin) = (NamespacePath::root(), Bytes::new());
    Change::Publish(Box::new(Publish { namespace, rooms, payload, origin, dedup, expires_at: None }))
}

impl Writer {
    fn submit(&self, request: Request) -> Result<(), String> {
        let change = match &request {
            Request::Subscribe(0) => Change::CreateSubscriber { subscriber: self.subscriber.clone() },
            Request::Subscribe(_) => Change::Subscribe {
                subscriber: self.subscriber.clone(),
                room: self.room.clone(),
                from: StartPosition::Now,
            },
            Request::Event { publisher, number } => event(&format!("{publisher}-{number}"), *number, &self.room),
            Request::Ack(number) => {
                Change::Ack { subscriber: self.subscriber.clone(), events: Acked::Numbers(vec![*number]) }
            }
        };
        let sender = self.sender.clone();
        let complete = Box::new(move |result| sender.send((request, result)).unwrap_or(()));
        self.committer.submit(change, complete).map_err(|_| "the queue is full".to_owned())
    }
}

/// Opens the queue, prints `open`, calls `wait`, and publishes. The subscriber `kitchen` of the
/// room acknowledges every eighth event.
///
/// Lines: `stored <number> <id>[ duplicate]`, `acked <number>`, `indeterminate <id>`, `unavailable
/// <id>`. A change that was not committed is submitted again.
pub fn run(options: &WriterOptions, wait: impl FnOnce(), mut print: impl FnMut(&str)) -> Result<(), String> {
    let (folder, synchronous) = (options.folder.clone(), options.synchronous.clone());
    let committer = CommitterOptions { retry_max: Duration::from_millis(200), ..CommitterOptions::default() };
    let (committer, _reader) = Committer::start(committer, Box::new(move || open(&folder, synchronous.as_deref())))
        .map_err(|error: StoreError| error.to_string())?;
    let name = SubscriberName::parse("kitchen").map_err(|error| error.to_string())?;
    let (sender, results) = channel();
    let writer = Writer {
        committer,
        sender,
        room: RoomName::parse("orders").map_err(|error| error.to_string())?,
        subscriber: SubscriberKey { namespace: NamespacePath::root(), name },
    };
    print("open");
    wait();
    writer.submit(Request::Subscribe(0))?;
    writer.submit(Request::Subscribe(1))?;
    let mut stored = 0;
    for (request, result) in &results {
        let failure = match result {
            CommitResult::Committed(outcome) => {
                match (request, outcome) {
                    (Request::Subscribe(0), _) => {}
                    (Request::Subscribe(_), _) => {
                        for (publisher, number) in options.first.iter().copied().enumerate() {
                            writer.submit(Request::Event { publisher, number })?;
                        }
                    }
                    (Request::Ack(number), _) => print(&format!("acked {number}")),
                    (Request::Event { publisher, number }, Outcome::Published(receipt)) => {
                        let duplicate = if receipt.duplicate { " duplicate" } else { "" };
                        let at = receipt.offset.number;
                        print(&format!("stored {at} {publisher}-{number}{duplicate}"));
                        stored += 1;
                        if stored == options.events {
                            return Ok(());
                        }
                        if stored % IDLE_EVERY == 0 {
                            std::thread::sleep(IDLE);
                        }
                        if at % ACKED_EVERY == 0 {
                            let ignored = Box::new(|_| {});
                            let _ = writer.committer.submit(Change::Revealed { up_to: at }, ignored);
                            writer.submit(Request::Ack(at))?;
                        }
                        writer.submit(Request::Event { publisher, number: number + 1 })?;
                    }
                    (Request::Event { .. }, other) => return Err(format!("not stored: {other:?}")),
                }
                continue;
            }
            CommitResult::Indeterminate => "indeterminate",
            CommitResult::Unavailable => "unavailable",
        };
        if let Request::Event { publisher, number } = &request {
            print(&format!("{failure} {publisher}-{number}"));
        }
        std::thread::sleep(RETRY);
        writer.submit(request)?;
    }
    Ok(())
}
