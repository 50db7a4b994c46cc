//! A store in a folder: one SQLite database in WAL mode, written by one connection.
//!
//! **Scheme.** Publishing writes one row a room, whatever the number of its subscribers:
//! `event_room (room, number, remaining)` begins with the number of the room's subscriptions.
//! Handling an event subtracts one in every room through which the subscriber has it, and at zero
//! the row is freed, with the last row the event. So no distinct count is kept, and none is needed
//! for freeing. What a subscription has handled is a floor and ranges above it (`acked`), which end
//! at events that are not handled: there are at most as many ranges as open events.
//!
//! **Removal** of an event that is not handled moves its row to `gone`, with the same number and a
//! reason. It remains open for the same subscriptions, as a gap, and is confirmed by the same
//! subtraction. So one statement per room removes an event and records the gap of all its
//! subscribers. Past `gaps_per_room_max` the oldest becomes part of one range of the room
//! (`room.lost_to`); `lost_confirmed` of a subscription says how far it has confirmed that range.
//!
//! **Steps.** What concerns many rows is made true by one row, and the counts follow in steps of
//! later commits: acknowledging up to a number sets `floor`, the end of a subscription sets
//! `ended`, and `dropped` says how far its rows have been subtracted; a subscription to the past
//! sets `joined`, and `counted` says how far it has been added; removed subscribers lose their name
//! first. A subscription is counted in `remaining` of an event exactly if `Subscription::holds` it
//! and it has not acknowledged it.
//!
//! **Price.** Publish: 1 row an event and 1 a room, 1 for a `dedup_id`; the room and the counters
//! once a commit. Acknowledge: the row of the event, 1 row a room of the subscriber, the
//! subscription once a commit. The number of distinct subscribers of several rooms is read from the
//! index and kept until a subscription changes: about 0.1 µs a subscription on the first event for
//! a set of rooms. The ids for deduplication are appended, and found through an index in memory
//! (about 30 bytes an id), since random inserts would cost a page each.
//!
//! **Durability.** `synchronous=FULL` syncs the log in every commit. Opening checkpoints first, so
//! that nothing is read that a killed process had written without sync. After an error the
//! connection is not used again.

mod ack;
mod dedup;
mod event;
mod expire;
pub(super) mod folder;
pub(super) mod inspect;
mod merge;
mod publish;
mod read;
mod rooms;
mod schema;
mod subscribers;
mod subscriptions;
mod unclaimed;
mod work;

use std::path::{Path, PathBuf};
#[cfg(test)]
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use self::dedup::DedupIndex;
use self::folder::{Folder, FolderLock, error_at};
use self::read::SqliteReader;
use self::rooms::{RoomCache, RuledRooms};
use self::subscriptions::SubscriptionCache;
use self::unclaimed::Unclaimed;
use self::work::Work;
use super::change::{Acked, Change, Outcome, Refusal};
use super::limits::{CommitTimes, FutureTimes, StoreLimits};
use super::record::{GapReason, NUMBER_END, QueueOffset, UnixMillis};
use super::store::{QueueReader, QueueStore, StoreError};
use crate::ids::Epoch;

/// Maximum rows of unfinished work that one commit processes.
pub(crate) const WORK_ROWS: usize = 1_024;

/// Frames of the log that are checkpointed between commits (16 MiB), and when no change waits (1
/// MiB).
const WAL_FRAMES_MAX: i64 = 4_096;
const WAL_FRAMES_IDLE: i64 = 256;

/// Frames past which the log starts over (64 MiB). Readers are waited for at most 250 ms.
const WAL_FRAMES_RESTART: i64 = 16_384;

/// Pause between attempts to start the log over.
const RESTART_PAUSE: Duration = Duration::from_secs(5);

/// Attempts to begin a commit while another program writes, of at most 250 ms each.
const BEGIN_ATTEMPTS: usize = 20;

/// Free pages that the file keeps (32 MiB), and pages that are given back at a time.
const FREE_PAGES_KEPT: i64 = 8_192;
const FREE_PAGES_STEP: i64 = 256;

/// Options of opening a store.
#[derive(Debug, Clone)]
pub(crate) struct SqliteOptions {
    pub folder: PathBuf,
    /// Epoch of a new queue; an existing one keeps its own.
    pub epoch: Epoch,
    pub limits: StoreLimits,
    /// The newest event that is known to have been stored. A file of this epoch that does not have
    /// it was restored from a copy: its next number follows this one, and subscribers get a gap.
    pub head_min: Option<QueueOffset>,
    /// Maximum rows of unfinished work that one commit processes.
    pub work_rows: usize,
    /// Bound of the file in pages of 4 KiB, for tests of a full disk.
    pub pages_max: Option<u32>,
}

type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a change was not applied: refused, or the store failed.
enum Failure {
    Refused(Refusal),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<rusqlite::types::FromSqlError> for Failure {
    fn from(error: rusqlite::types::FromSqlError) -> Self {
        Self::Sqlite(error.into())
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The row of the table `queue`.
#[derive(Debug, Clone, Default)]
struct Counters {
    head: u64,
    revealed: u64,
    /// Handled events up to here were freed when they were revealed.
    swept: u64,
    events: u64,
    bytes: u64,
    dead_letters: u64,
    subscribers: u64,
    /// The newest freed event of rooms that are not stored any more.
    removed_to: u64,
    times: CommitTimes,
    commits: u64,
}

/// The writing side of a queue in a folder.
pub(crate) struct SqliteStore {
    connection: Connection,
    limits: StoreLimits,
    epoch: Epoch,
    counters: Counters,
    rooms: RoomCache,
    ruled: RuledRooms,
    subscriptions: SubscriptionCache,
    unclaimed: Unclaimed,
    dedup: DedupIndex,
    /// Ids for deduplication with times in the future.
    future_ids: FutureTimes,
    work: Work,
    work_rows: usize,
    has_failed: bool,
    /// Rows of events and rooms that the commit under way has written.
    rows_written: usize,
    /// The last attempt to start the log over.
    restarted_at: Option<Instant>,
    folder: Folder,
}

impl SqliteStore {
    /// Opens the queue in a folder, which is made if it does not exist.
    pub(crate) fn open(options: SqliteOptions) -> Result<Self, StoreError> {
        Self::open_locked(options, &mut None)
    }

    /// Like [`open`](Self::open), with the lock that an earlier opening has left in `locked`. The
    /// folder stays locked until that is dropped as well.
    pub(crate) fn open_locked(options: SqliteOptions, locked: &mut Option<FolderLock>) -> Result<Self, StoreError> {
        let folder = Folder::open(&options.folder, locked)?;
        let connection = schema::open_writer(&folder.database, options.epoch, options.pages_max)?;
        let path = folder.database.clone();
        let store = Self::load(folder, connection, options.limits, options.work_rows).and_then(|mut store| {
            if let Some(to) = options.head_min.filter(|min| min.epoch == store.epoch) {
                store.raise_head(to.number, true)?;
            }
            Ok(store)
        });
        store.map_err(|error| error_at(&path, &error))
    }

    fn load(folder: Folder, connection: Connection, limits: StoreLimits, work_rows: usize) -> rusqlite::Result<Self> {
        let rules = format!("{:?}", limits.retention);
        let (epoch, mut counters, stored_rules) = connection.query_row("SELECT * FROM queue", [], |row| {
            let number = |column| row.get::<&str, _>(column).map(from_sql);
            let counters = Counters {
                head: number("head")?,
                revealed: number("revealed")?,
                swept: number("swept")?,
                events: number("events")?,
                bytes: number("bytes")?,
                dead_letters: number("dead_letters")?,
                subscribers: number("subscribers")?,
                removed_to: number("removed_to")?,
                times: CommitTimes {
                    last: UnixMillis(number("last_at")?),
                    steady_since: UnixMillis(number("steady_since")?),
                },
                commits: number("commits")?,
            };
            Ok((Epoch::from_bits(number("epoch")?), counters, row.get::<_, String>("retention")?))
        })?;
        if rules != stored_rules {
            // Events that a former rule retained are looked at again.
            counters.swept = 0;
            connection.execute("UPDATE queue SET swept = 0, retention = ?", [rules])?;
        }
        let dedup = DedupIndex::load(&connection)?;
        let ruled = RuledRooms::load(&connection, &limits)?;
        Ok(Self {
            connection,
            limits,
            epoch,
            counters,
            rooms: RoomCache::default(),
            ruled,
            subscriptions: SubscriptionCache::default(),
            unclaimed: Unclaimed::default(),
            dedup,
            future_ids: FutureTimes::default(),
            work: Work::all(),
            work_rows,
            has_failed: false,
            rows_written: 0,
            restarted_at: None,
            folder,
        })
    }

    /// Continues after a number, since events up to it were lost. `is_revealed` if the stored ones
    /// were revealed as well.
    fn raise_head(&mut self, to: u64, is_revealed: bool) -> rusqlite::Result<()> {
        let head = self.counters.head;
        if to <= head {
            return Ok(());
        }
        let revealed = if is_revealed { to } else { self.counters.revealed };
        let (from, to, reason) = (to_sql(head + 1), to_sql(to), GapReason::Restored.code());
        let path = self.path().display();
        log::warn!("queue file was restored from a copy without the newest events path={path} from={from} to={to}");
        let transaction = self.connection.transaction()?;
        transaction.execute(
            "INSERT INTO gap (subscriber, reason, first, last) SELECT id, ?1, ?2, ?3 FROM subscriber WHERE name IS NOT NULL \
             AND EXISTS (SELECT 1 FROM subscription WHERE subscriber = subscriber.id AND ended IS NULL) \
             ON CONFLICT DO UPDATE SET last = excluded.last",
            [reason, from, to],
        )?;
        transaction.execute("UPDATE room SET removed_to = ?", [to])?;
        transaction.execute("UPDATE queue SET head = ?1, revealed = ?2, removed_to = ?1", [to, to_sql(revealed)])?;
        transaction.commit()?;
        let head = from_sql(to);
        (self.counters.head, self.counters.revealed, self.counters.removed_to) = (head, revealed, head);
        self.rooms = RoomCache::default();
        Ok(())
    }

    /// Continues after so many numbers that are given to no event. Subscribers receive a gap over
    /// them. Returns the last of these numbers.
    pub(crate) fn leave_out_numbers(&mut self, count: u64) -> Result<QueueOffset, StoreError> {
        let to = (self.counters.head + count).min(NUMBER_END - 1);
        self.raise_head(to, false).map_err(|error| error_at(self.path(), &error))?;
        Ok(self.head())
    }

    fn path(&self) -> &Path {
        &self.folder.database
    }

    /// Begins a commit. False if another program writes.
    fn try_begin(&self) -> rusqlite::Result<bool> {
        for _ in 0..BEGIN_ATTEMPTS {
            match self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([]) {
                Ok(_) => return Ok(true),
                Err(error) if is_busy(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    fn try_commit(&mut self, changes: &[Change], now: UnixMillis) -> rusqlite::Result<Vec<Outcome>> {
        self.counters.times.on_commit(now, &self.limits);
        self.counters.commits += 1;
        self.rows_written = 0;
        let mut outcomes = Vec::with_capacity(changes.len());
        for change in changes {
            match self.apply(change, now) {
                Ok(outcome) => outcomes.push(outcome),
                Err(Failure::Refused(refusal)) => outcomes.push(Outcome::Refused(refusal)),
                Err(Failure::Sqlite(error)) => return Err(error),
            }
        }
        self.continue_work(self.work_rows)?;
        self.write_back()?;
        // A start commits other changes.
        let has_publish = changes.iter().any(|change| matches!(change, Change::Publish(_)));
        if has_publish {
            super::planted_crash::crash_if_planted("before_commit");
        }
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        if has_publish {
            super::planted_crash::crash_if_planted("after_commit");
        }
        Ok(outcomes)
    }

    fn apply(&mut self, change: &Change, now: UnixMillis) -> Result<Outcome> {
        match change {
            Change::Publish(publish) => self.publish(publish, now),
            Change::Revealed { up_to } => Ok(self.reveal(*up_to)),
            Change::CreateSubscriber { subscriber } => self.recreate_subscriber(subscriber, now),
            Change::Attach { subscriber, create } => self.attach(subscriber, *create, now),
            Change::Detach { subscriber, sent_up_to } => self.detach(subscriber, *sent_up_to, now),
            Change::DetachAll => self.detach_all(),
            Change::Subscribe { subscriber, room, from } => self.subscribe(subscriber, room, *from),
            Change::Unsubscribe { subscriber, room } => self.unsubscribe(subscriber, room),
            Change::Ack { subscriber, events: Acked::Numbers(numbers) } => self.ack(subscriber, numbers),
            Change::Ack { subscriber, events: Acked::UpTo(up_to) } => self.ack_up_to(subscriber, *up_to),
            Change::AckGaps { subscriber, gaps } => self.ack_gaps(subscriber, gaps),
            Change::Term { subscriber, number, attempts, reason } => {
                self.term(subscriber, *number, *attempts, reason, now)
            }
            Change::DeliveryFailed { subscriber, number, attempts, alone, retry_at } => {
                self.delivery_failed(subscriber, *number, *attempts, *alone, *retry_at)
            }
            Change::ReplayDead { subscriber, numbers } => self.replay_dead(subscriber, numbers.as_deref(), now),
            Change::PurgeSubscriber { subscriber, up_to } => self.purge_subscriber(subscriber, *up_to),
            Change::PurgeRoom { namespace, room, up_to } => self.purge_room(namespace, room, *up_to),
            Change::RemoveDamaged { number } => self.remove_damaged(*number),
            Change::RemoveSubscriber { subscriber } => self.remove_subscriber(subscriber),
            Change::Touch { subscriber, seen_at } => self.touch(subscriber, *seen_at),
            Change::Expire { budget } => self.expire(*budget, now),
        }
    }

    /// Writes what changed in memory during the transaction.
    fn write_back(&mut self) -> rusqlite::Result<()> {
        self.subscriptions.write_back(&self.connection)?;
        self.rooms.write_back(&self.connection)?;
        let Counters { head, revealed, swept, events, bytes, dead_letters, subscribers, removed_to, times, commits } =
            self.counters;
        let (dedup_ids, times) = (self.dedup.len(), [times.last.0, times.steady_since.0, commits]);
        let numbers = [head, revealed, swept, events, bytes, dead_letters, subscribers, removed_to, dedup_ids];
        let sql = "UPDATE queue SET head = ?, revealed = ?, swept = ?, events = ?, bytes = ?, dead_letters = ?, subscribers = ?, \
                   removed_to = ?, dedup_ids = ?, last_at = ?, steady_since = ?, commits = ?";
        let numbers = numbers.into_iter().chain(times).map(to_sql);
        self.connection.prepare_cached(sql)?.execute(rusqlite::params_from_iter(numbers))?;
        Ok(())
    }

    /// The first column of the rows of a statement.
    fn numbers(&self, sql: &str, values: &[i64]) -> rusqlite::Result<Vec<u64>> {
        let mut select = self.connection.prepare_cached(sql)?;
        let rows = select.query_map(rusqlite::params_from_iter(values), |row| row.get(0).map(from_sql))?;
        rows.collect()
    }

    fn fail(&mut self, error: &rusqlite::Error) -> StoreError {
        self.has_failed = true;
        error_at(self.path(), error)
    }
}

impl QueueStore for SqliteStore {
    fn commit(&mut self, changes: &[Change], now: UnixMillis) -> Result<Vec<Outcome>, StoreError> {
        if self.has_failed {
            return Err(StoreError::Failed);
        }
        match self.try_begin() {
            Ok(true) => {}
            Ok(false) => return Err(StoreError::Busy { path: self.path().to_owned() }),
            Err(error) => return Err(self.fail(&error)),
        }
        self.try_commit(changes, now).map_err(|error| {
            // The connection is closed next; a failing rollback changes nothing.
            let _ = self.connection.execute_batch("ROLLBACK");
            self.fail(&error)
        })
    }

    fn has_work(&self) -> bool {
        !self.has_failed && self.work.is_left()
    }

    fn maintain(&mut self, is_idle: bool) -> Result<(), StoreError> {
        if self.has_failed {
            return Err(StoreError::Failed);
        }
        let frames_max = if is_idle { WAL_FRAMES_IDLE } else { WAL_FRAMES_MAX };
        match self.try_maintain(frames_max, is_idle) {
            // Later, when the other program has ended its transaction.
            Err(error) if is_busy(&error) => Ok(()),
            maintained => maintained.map_err(|error| self.fail(&error)),
        }
    }

    fn head(&self) -> QueueOffset {
        QueueOffset { epoch: self.epoch, number: self.counters.head }
    }

    fn commits(&self) -> u64 {
        self.counters.commits
    }

    fn sizes(&self) -> (u64, u64) {
        (self.counters.events + self.counters.dead_letters, self.counters.bytes)
    }

    fn reader(&self) -> Result<Box<dyn QueueReader>, StoreError> {
        Ok(Box::new(SqliteReader::open(self.path())?))
    }
}

impl SqliteStore {
    /// Weakens the durability of commits, for the controls of the power-cut rig: `OFF` syncs
    /// nothing, `NORMAL` only checkpoints.
    #[cfg(feature = "bench-internals")]
    pub(crate) fn set_synchronous(&self, mode: &str) -> Result<(), StoreError> {
        let set = self.connection.execute_batch(&format!("PRAGMA synchronous = {mode}"));
        set.map_err(|error| error_at(self.path(), &error))
    }

    /// Adds the number of instructions that the connection executes to `counter`, in steps of 100.
    #[cfg(test)]
    pub(super) fn count_instructions(&mut self, counter: Arc<AtomicU64>) {
        let count = move || {
            counter.fetch_add(100, Ordering::Relaxed);
            false
        };
        self.connection.progress_handler(100, Some(count)).unwrap();
    }

    /// The value of a setting of the writing connection.
    #[cfg(test)]
    pub(super) fn setting(&self, name: &str) -> i64 {
        schema::pragma(&self.connection, name).unwrap()
    }

    fn try_maintain(&mut self, frames_max: i64, is_idle: bool) -> rusqlite::Result<()> {
        if is_idle && schema::pragma(&self.connection, "freelist_count")? > FREE_PAGES_KEPT {
            let mut vacuum = self.connection.prepare(&format!("PRAGMA incremental_vacuum({FREE_PAGES_STEP})"))?;
            let mut rows = vacuum.query([])?;
            while rows.next()?.is_some() {}
        }
        let log = schema::checkpoint(&self.connection, "NOOP")?;
        let is_restart_due = self.restarted_at.is_none_or(|at| at.elapsed() > RESTART_PAUSE);
        if log.frames > WAL_FRAMES_RESTART && is_restart_due {
            self.restarted_at = Some(Instant::now());
            if schema::checkpoint(&self.connection, "TRUNCATE")?.left > 0 {
                let path = self.path().display();
                log::warn!(
                    "queue file has a reader that keeps its log from starting over path={path} frames={}",
                    log.frames
                );
            }
        } else if log.left > frames_max {
            schema::checkpoint(&self.connection, "PASSIVE")?;
        }
        Ok(())
    }
}

/// True if another program holds a lock.
fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// SQLite's integers are signed; numbers stay below 2^51, and counts do not come near.
fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
