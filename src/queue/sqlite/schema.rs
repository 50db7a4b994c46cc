//! Tables of the queue, and the settings of a connection.
//!
//! `application_id` says that a file is a queue, `user_version` which format it has. A newer format
//! is refused.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::folder::error_at;
use crate::ids::Epoch;
use crate::queue::store::StoreError;

/// Mark of a queue in the header of its file: "StQu".
pub(super) const APPLICATION_ID: i64 = 0x5374_5175;
pub(super) const FORMAT: i64 = 1;

/// `event_room.remaining` is the number of subscriptions of the room that have not handled the
/// event; `gone` keeps that number for events that were removed before. `subscriber.sent_up_to` is
/// null while the subscriber is attached. Columns after `bytes` may lie on overflow pages.
const TABLES: &str = "
CREATE TABLE queue (
    id INTEGER PRIMARY KEY CHECK (id = 1), epoch INTEGER NOT NULL, head INTEGER NOT NULL, revealed INTEGER NOT NULL,
    swept INTEGER NOT NULL, events INTEGER NOT NULL, bytes INTEGER NOT NULL, dead_letters INTEGER NOT NULL,
    subscribers INTEGER NOT NULL, removed_to INTEGER NOT NULL, dedup_ids INTEGER NOT NULL, retention TEXT NOT NULL,
    last_at INTEGER NOT NULL, steady_since INTEGER NOT NULL, commits INTEGER NOT NULL
);
CREATE TABLE room (
    id INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT NOT NULL, name TEXT NOT NULL, own INTEGER NOT NULL,
    subscribers INTEGER NOT NULL, counting INTEGER NOT NULL, events INTEGER NOT NULL, bytes INTEGER NOT NULL,
    gone INTEGER NOT NULL, removed_to INTEGER NOT NULL, lost_to INTEGER NOT NULL, purging INTEGER,
    UNIQUE (namespace, name, own)
);
CREATE INDEX room_idle ON room (id) WHERE subscribers = 0 AND events = 0 AND gone = 0;
CREATE INDEX room_purging ON room (id) WHERE purging IS NOT NULL;
CREATE TABLE event (
    number INTEGER PRIMARY KEY, rooms BLOB NOT NULL, bytes INTEGER NOT NULL, at INTEGER NOT NULL, expires_at INTEGER,
    replay_of INTEGER, via TEXT, crc INTEGER NOT NULL, origin BLOB NOT NULL, attachments INTEGER NOT NULL,
    payload BLOB NOT NULL
);
CREATE INDEX event_expiry ON event (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE event_room (
    room INTEGER NOT NULL, number INTEGER NOT NULL, remaining INTEGER NOT NULL, PRIMARY KEY (room, number)
) WITHOUT ROWID;
CREATE INDEX event_room_handled ON event_room (number) WHERE remaining = 0;
CREATE TABLE gone (
    room INTEGER NOT NULL, number INTEGER NOT NULL, remaining INTEGER NOT NULL, reason INTEGER NOT NULL,
    PRIMARY KEY (room, number)
) WITHOUT ROWID;
CREATE INDEX gone_number ON gone (number);
CREATE TABLE dedup (
    number INTEGER PRIMARY KEY, at INTEGER NOT NULL, namespace TEXT NOT NULL, id BLOB NOT NULL, content BLOB NOT NULL,
    pending_for INTEGER NOT NULL
);
CREATE TABLE subscriber (
    id INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT, name TEXT, created_at INTEGER NOT NULL, seen_at INTEGER NOT NULL,
    dead_letters INTEGER NOT NULL, sent_up_to INTEGER, UNIQUE (namespace, name)
);
CREATE INDEX subscriber_attached ON subscriber (id) WHERE sent_up_to IS NULL AND name IS NOT NULL;
CREATE INDEX subscriber_seen ON subscriber (seen_at) WHERE name IS NOT NULL;
CREATE INDEX subscriber_removed ON subscriber (id) WHERE name IS NULL;
CREATE TABLE expired_subscriber (
    namespace TEXT NOT NULL, name TEXT NOT NULL, created_at INTEGER NOT NULL, seen_at INTEGER NOT NULL, expired_at INTEGER NOT NULL,
    PRIMARY KEY (namespace, name)
) WITHOUT ROWID;
CREATE INDEX expired_subscriber_at ON expired_subscriber (expired_at);
CREATE TABLE subscription (
    id INTEGER PRIMARY KEY AUTOINCREMENT, subscriber INTEGER NOT NULL, room INTEGER NOT NULL, start INTEGER NOT NULL,
    joined INTEGER NOT NULL, counted INTEGER NOT NULL, floor INTEGER NOT NULL, dropped INTEGER NOT NULL, ended INTEGER,
    lost_confirmed INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX subscription_subscriber ON subscription (subscriber, room);
CREATE INDEX subscription_room ON subscription (room, subscriber) WHERE ended IS NULL;
CREATE INDEX subscription_counting ON subscription (room) WHERE ended IS NULL AND counted < joined;
CREATE INDEX subscription_work ON subscription (id)
    WHERE dropped < coalesce(ended, floor) OR ended IS NOT NULL OR counted < joined;
CREATE TABLE acked (
    subscription INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (subscription, first)
) WITHOUT ROWID;
CREATE TABLE attempt (
    subscriber INTEGER NOT NULL, number INTEGER NOT NULL, attempts INTEGER NOT NULL, alone INTEGER NOT NULL,
    retry_at INTEGER NOT NULL, PRIMARY KEY (subscriber, number)
) WITHOUT ROWID;
CREATE INDEX attempt_retry ON attempt (subscriber, retry_at, number);
CREATE INDEX attempt_number ON attempt (number);
CREATE TABLE dead_letter (
    subscriber INTEGER NOT NULL, number INTEGER NOT NULL, room TEXT NOT NULL, bytes INTEGER NOT NULL, dead_at INTEGER NOT NULL,
    at INTEGER NOT NULL, attempts INTEGER NOT NULL, reason TEXT NOT NULL, origin BLOB NOT NULL, attachments INTEGER NOT NULL,
    payload BLOB NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY (subscriber, number)
);
CREATE TABLE gap (
    subscriber INTEGER NOT NULL, reason INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, events INTEGER,
    PRIMARY KEY (subscriber, reason, first)
) WITHOUT ROWID;
";

/// Opens the connection that writes, and makes the tables of a new queue.
pub(super) fn open_writer(path: &Path, epoch: Epoch, pages_max: Option<u32>) -> Result<Connection, StoreError> {
    let fail = |error| error_at(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(fail)?;
    connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(fail)?;
    connection.set_prepared_statement_cache_capacity(128);
    keep_plans(&connection).map_err(fail)?;
    check_format(&connection, path)?;
    if connection.is_readonly(rusqlite::MAIN_DB).map_err(fail)? {
        return Err(StoreError::NotPermitted { path: path.to_owned(), error: "the file is read-only".to_owned() });
    }
    let is_new = pragma(&connection, "application_id").map_err(fail)? == 0;
    // Settings of the file, which count only before its first table.
    if is_new {
        connection.execute_batch("PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL;").map_err(fail)?;
    }
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(fail)?;
    if mode != "wal" {
        let error = format!("journal_mode is {mode}, expected wal; the file system must support shared memory");
        return Err(StoreError::Io { path: path.to_owned(), error });
    }
    connection
        .execute_batch(
            "PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA wal_autocheckpoint = 0; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0;
             PRAGMA cache_size = -65536; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF;",
        )
        .map_err(fail)?;
    if let Some(pages) = pages_max {
        connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).map_err(fail)?;
    }
    if is_new {
        create(&connection, epoch).map_err(fail)?;
    }
    // Readers are short, and the only other writers are operators.
    connection.busy_timeout(std::time::Duration::from_millis(250)).map_err(fail)?;
    // Writes that a killed process did not sync are made durable before anything is read from them.
    if checkpoint(&connection, "TRUNCATE").map_err(fail)?.left > 0 {
        // A reader needs the log as it is.
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let synced = std::fs::File::open(&log).and_then(|log| log.sync_all());
        synced.map_err(|error| StoreError::Io { path: log.into(), error: error.to_string() })?;
    }
    Ok(connection)
}

fn create(connection: &Connection, epoch: Epoch) -> rusqlite::Result<()> {
    let tables = format!(
        "BEGIN IMMEDIATE; {TABLES}
         INSERT INTO queue VALUES (1, {}, 0, 0, 0, 0, 0, 0, 0, 0, 0, '', 0, 0, 0);
         PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}; COMMIT;",
        epoch.to_bits()
    );
    connection.execute_batch(&tables)
}

pub(super) fn open_read_only(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
}

/// Opens a connection that reads beside the writer.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    prepare_reader(open_read_only(path), path)
}

/// Opens a connection that reads a file which no other process uses. SQLite creates no file then,
/// and takes no lock.
pub(super) fn open_unused(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    // SQLite decodes the name.
    let name = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    prepare_reader(Connection::open_with_flags(format!("file:{name}?immutable=1"), flags), path)
}

fn prepare_reader(connection: rusqlite::Result<Connection>, path: &Path) -> Result<Connection, StoreError> {
    let fail = |error| error_at(path, &error);
    let connection = connection.map_err(fail)?;
    connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(fail)?;
    connection.set_prepared_statement_cache_capacity(64);
    keep_plans(&connection).map_err(fail)?;
    check_format(&connection, path)?;
    connection
        .execute_batch(
            "PRAGMA query_only = ON; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0; PRAGMA cache_size = -8192;",
        )
        .map_err(fail)?;
    Ok(connection)
}

/// Plans do not depend on bound values. Otherwise statements with ranges would be compiled again
/// for every value.
fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(|_| ())
}

/// An empty file is a queue that is not made yet.
fn check_format(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let fail = |error| error_at(path, &error);
    let application = pragma(connection, "application_id").map_err(fail)?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(fail)?;
    if application == 0 && tables == 0 {
        return Ok(());
    }
    if application != APPLICATION_ID {
        return Err(StoreError::NotAQueue { path: path.to_owned(), found: application, expected: APPLICATION_ID });
    }
    let found = pragma(connection, "user_version").map_err(fail)?;
    if found > FORMAT {
        return Err(StoreError::Newer { path: path.to_owned(), found, expected: FORMAT });
    }
    Ok(())
}

pub(super) fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
}

/// State of the write-ahead log, in frames.
pub(super) struct Log {
    pub(super) frames: i64,
    /// Frames that are not in the database file yet, as far as known.
    pub(super) left: i64,
}

impl Log {
    /// From the answer of a checkpoint, which has -1 twice if it could not begin.
    fn new(frames: i64, moved: i64) -> Self {
        let left = if moved < 0 { i64::MAX } else { frames - moved };
        Self { frames: frames.max(0), left }
    }
}

/// Runs a checkpoint: copies the log into the database file as far as readers allow, both synced.
/// `NOOP` only reports.
pub(super) fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<Log> {
    let mut pragma = connection.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?;
    pragma.query_row([], |row| Ok(Log::new(row.get(1)?, row.get(2)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_that_could_not_begin_has_everything_left() {
        let left = |frames, moved| Log::new(frames, moved).left;
        assert_eq!((left(0, 0), left(9, 9), left(9, 4), left(-1, -1)), (0, 0, 5, i64::MAX));
    }
}
