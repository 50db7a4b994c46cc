//! Reads for operators, beside a server or on a folder that no process uses: what blocks a
//! subscriber, counts, and the check of every row.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use super::event::{DEAD_LETTER, Stored, load_event, read_dead_letter};
use super::merge::{LIVE_ROWS, Merged, Source, pending_room, sources};
use super::read::{SqliteReader, find, read_attempts};
use super::{from_sql, schema, to_sql};
use crate::ids::{NamespacePath, RoomName};
use crate::queue::record::{DurableEvent, SubscriberKey, UnixMillis};
use crate::queue::store::{QueueReader, StoreError};

/// Rows that are checked on one snapshot.
const CHECKED_ROWS: usize = 1_024;

/// Errors of one integrity check that are reported.
const INTEGRITY_ERRORS_MAX: usize = 100;

/// A subscription that has not ended.
pub(in crate::queue) struct SubscriptionRow {
    pub(in crate::queue) room: RoomName,
    /// The room has the subscriber's replayed dead letters.
    pub(in crate::queue) is_own: bool,
    pub(in crate::queue) start: u64,
    pub(in crate::queue) floor: u64,
    pub(in crate::queue) acked_ranges: u64,
    pub(in crate::queue) pending: u64,
    pub(in crate::queue) is_capped: bool,
}

/// Figures of the file that no other reader needs.
pub(in crate::queue) struct FileFigures {
    pub(in crate::queue) commits: u64,
    pub(in crate::queue) last_commit_at: UnixMillis,
    pub(in crate::queue) rooms: u64,
    pub(in crate::queue) unused_bytes: u64,
}

/// Stored events of a room.
pub(in crate::queue) struct RoomRow {
    pub(in crate::queue) subscribers: u64,
    pub(in crate::queue) events: u64,
    /// Events up to the number that was asked for.
    pub(in crate::queue) events_up_to: u64,
}

/// Damage in a table, or in the file if the table is empty.
pub(in crate::queue) struct Damage {
    pub(in crate::queue) table: &'static str,
    pub(in crate::queue) row: String,
    pub(in crate::queue) found: String,
}

/// State of a database without log, which no process uses.
struct Unused {
    log: PathBuf,
    len: u64,
    modified: Option<SystemTime>,
}

impl Unused {
    /// None while a log exists: a server uses the database, or was killed.
    fn look(database: &Path) -> Option<Self> {
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        let (log, metadata) = (PathBuf::from(log), std::fs::metadata(database).ok()?);
        let unused = Self { log, len: metadata.len(), modified: metadata.modified().ok() };
        (!unused.log.exists()).then_some(unused)
    }

    fn is_unchanged(&self, database: &Path) -> bool {
        Self::look(database).is_some_and(|now| now.len == self.len && now.modified == self.modified)
    }
}

/// A reader that writes nothing. Beside a server, or after one was killed, it needs the log and its
/// index; without a log it leaves the folder as it is.
pub(in crate::queue) struct Inspector {
    reader: SqliteReader,
    database: PathBuf,
    unused: Option<Unused>,
}

impl Inspector {
    pub(in crate::queue) fn open(database: &Path) -> Result<Self, StoreError> {
        let unused = Unused::look(database);
        let reader = match &unused {
            Some(_) => SqliteReader::open_unused(database)?,
            None => SqliteReader::open(database)?,
        };
        Ok(Self { reader, database: database.to_owned(), unused })
    }

    pub(in crate::queue) fn reader(&mut self) -> &mut dyn QueueReader {
        &mut self.reader
    }

    /// False if a server has begun to use the folder since, so that what was read may be wrong.
    pub(in crate::queue) fn is_valid(&self) -> bool {
        self.unused.as_ref().is_none_or(|unused| unused.is_unchanged(&self.database))
    }

    /// False if a server has not finished its first start.
    pub(in crate::queue) fn is_made(&mut self) -> Result<bool, StoreError> {
        self.reader.read(|connection, _| Ok(schema::pragma(connection, "application_id")? != 0))
    }

    pub(in crate::queue) fn figures(&mut self) -> Result<FileFigures, StoreError> {
        self.reader.read(|connection, _| {
            let unused = schema::pragma(connection, "freelist_count")? * schema::pragma(connection, "page_size")?;
            let sql = "SELECT commits, last_at, (SELECT count(*) FROM room WHERE own = 0) FROM queue";
            connection.query_row(sql, [], |row| {
                Ok(FileFigures {
                    commits: from_sql(row.get(0)?),
                    last_commit_at: UnixMillis(from_sql(row.get(1)?)),
                    rooms: from_sql(row.get(2)?),
                    unused_bytes: from_sql(unused),
                })
            })
        })
    }

    /// The subscriptions of a subscriber by room, with counts of at most `count_max` pending
    /// events.
    pub(in crate::queue) fn subscriptions(
        &mut self,
        subscriber: &SubscriberKey,
        count_max: usize,
    ) -> Result<Vec<SubscriptionRow>, StoreError> {
        self.reader.read(|connection, _| {
            let Some(id) = find(connection, subscriber)? else { return Ok(Vec::new()) };
            let mut found = Vec::new();
            for source in sources(connection, id)? {
                let (pending, is_capped) = count(connection, std::slice::from_ref(&source), 0, u64::MAX, count_max)?;
                let sql = "SELECT (SELECT count(*) FROM acked WHERE subscription = ?1), own FROM room WHERE id = ?2";
                let mut select = connection.prepare_cached(sql)?;
                let (acked_ranges, is_own) = select.query_row(params![source.subscription, source.room], |row| {
                    Ok((from_sql(row.get(0)?), row.get(1)?))
                })?;
                let Source { name: room, start, floor, .. } = source;
                found.push(SubscriptionRow { room, is_own, start, floor, acked_ranges, pending, is_capped });
            }
            found.sort_unstable_by(|a, b| (a.is_own, &a.room).cmp(&(b.is_own, &b.room)));
            Ok(found)
        })
    }

    /// Pending events with failed deliveries, oldest first.
    pub(in crate::queue) fn failed(
        &mut self,
        subscriber: &SubscriberKey,
        limit: usize,
    ) -> Result<Vec<DurableEvent>, StoreError> {
        self.reader.read(|connection, _| {
            let mut events = Vec::new();
            let Some(id) = find(connection, subscriber)? else { return Ok(events) };
            let sources = sources(connection, id)?;
            let mut select = connection.prepare("SELECT number FROM attempt WHERE subscriber = ? ORDER BY number")?;
            let mut rows = select.query([id])?;
            while events.len() < limit
                && let Some(row) = rows.next()?
            {
                let number = from_sql(row.get(0)?);
                let Some(room) = pending_room(connection, &sources, number)? else { continue };
                if let Stored::Event(event) = load_event(connection, number)? {
                    let mut event = event.into_event(number, room.clone());
                    read_attempts(connection, id, &mut event)?;
                    events.push(event);
                }
            }
            Ok(events)
        })
    }

    /// Number of events that are pending for a subscriber up to a number.
    pub(in crate::queue) fn pending_up_to(
        &mut self,
        subscriber: &SubscriberKey,
        up_to: u64,
    ) -> Result<u64, StoreError> {
        self.reader.read(|connection, _| {
            let Some(id) = find(connection, subscriber)? else { return Ok(0) };
            Ok(count(connection, &sources(connection, id)?, 0, up_to, usize::MAX)?.0)
        })
    }

    /// Number of events after a number that are stored in the rooms of a subscriber.
    pub(in crate::queue) fn stored_after(&mut self, subscriber: &SubscriberKey, after: u64) -> Result<u64, StoreError> {
        self.reader.read(|connection, _| {
            let Some(id) = find(connection, subscriber)? else { return Ok(0) };
            // Subscriptions that have handled nothing.
            let sources = sources(connection, id)?.into_iter();
            let sources: Vec<_> = sources.map(|source| Source { subscription: None, floor: 0, ..source }).collect();
            Ok(count(connection, &sources, after, u64::MAX, usize::MAX)?.0)
        })
    }

    pub(in crate::queue) fn room(
        &mut self,
        namespace: &NamespacePath,
        room: &RoomName,
        up_to: u64,
    ) -> Result<Option<RoomRow>, StoreError> {
        self.reader.read(|connection, _| {
            let sql = "SELECT subscribers, events, (SELECT count(*) FROM event_room WHERE room = room.id AND number <= ?3) \
                       FROM room WHERE namespace = ?1 AND name = ?2 AND own = 0";
            let read = |row: &rusqlite::Row<'_>| {
                let number = |at: usize| row.get(at).map(from_sql);
                Ok(RoomRow { subscribers: number(0)?, events: number(1)?, events_up_to: number(2)? })
            };
            let values = params![namespace.as_str(), room.as_str(), to_sql(up_to)];
            connection.query_row(sql, values, read).optional()
        })
    }

    /// SQLite's own check of the file: pages, indexes, constraints.
    pub(in crate::queue) fn check_file(&mut self) -> Result<Vec<Damage>, StoreError> {
        let damage = |found| Damage { table: "", row: String::new(), found };
        let checked = self.reader.read(|connection, _| {
            let mut check = connection.prepare(&format!("PRAGMA integrity_check({INTEGRITY_ERRORS_MAX})"))?;
            check.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()
        });
        match checked {
            Ok(found) => Ok(found.into_iter().filter(|found| found != "ok").map(damage).collect()),
            Err(StoreError::Damaged { found, .. }) => Ok(vec![damage(found)]),
            Err(error) => Err(error),
        }
    }

    /// Checks rows after a position: their number, the damage, and the position to continue at.
    pub(in crate::queue) fn check_rows(&mut self, table: Table, after: Position) -> Result<Checked, StoreError> {
        self.reader.read(|connection, _| {
            let mut checked = Checked { rows: 0, damage: Vec::new(), next: None };
            match read_rows(connection, table, after, &mut checked) {
                // The rows behind a damaged page cannot be reached.
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
                    let row = format!("{} and later", table.row(checked.next.unwrap_or(after)));
                    checked.damage.push(Damage { table: table.name(), row, found: error.to_string() });
                    checked.next = None;
                    Ok(checked)
                }
                read => read.map(|()| checked),
            }
        })
    }
}

/// Tables whose rows are checked one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::queue) enum Table {
    Events,
    DeadLetters,
    /// Rooms of events, of which each must have its event.
    EventRooms,
}

/// Key of a row: the number of an event after 0, or with the id of a subscriber or a room.
pub(in crate::queue) type Position = (i64, i64);

impl Table {
    pub(in crate::queue) const ALL: [Self; 3] = [Self::Events, Self::DeadLetters, Self::EventRooms];

    const fn name(self) -> &'static str {
        match self {
            Self::Events => "event",
            Self::DeadLetters => "dead_letter",
            Self::EventRooms => "event_room",
        }
    }

    fn row(self, (owner, number): Position) -> String {
        match self {
            Self::Events => number.to_string(),
            Self::DeadLetters => format!("{number} of subscriber {owner}"),
            Self::EventRooms => format!("{number} of room {owner}"),
        }
    }
}

/// Rows that were checked.
pub(in crate::queue) struct Checked {
    pub(in crate::queue) rows: usize,
    pub(in crate::queue) damage: Vec<Damage>,
    /// None after the last row.
    pub(in crate::queue) next: Option<Position>,
}

fn read_rows(
    connection: &Connection,
    table: Table,
    (owner, number): Position,
    checked: &mut Checked,
) -> rusqlite::Result<()> {
    let limit = CHECKED_ROWS as i64;
    match table {
        Table::Events => {
            let mut select =
                connection.prepare_cached("SELECT number FROM event WHERE number > ? ORDER BY number LIMIT ?")?;
            for row in select.query_map([number, limit], |row| row.get(0))? {
                let number: i64 = row?;
                let found = match load_event(connection, from_sql(number))? {
                    Stored::Damaged(found) => Some(found),
                    // It was removed meanwhile, or cannot be read through its index.
                    Stored::Event(_) | Stored::Missing => None,
                };
                checked.add(table, (0, number), found);
            }
        }
        Table::DeadLetters => {
            // The index is read first: a row that is damaged may not be readable.
            let sql = "SELECT subscriber, number FROM dead_letter WHERE (subscriber, number) > (?, ?) \
                       ORDER BY subscriber, number LIMIT ?";
            let mut select = connection.prepare_cached(sql)?;
            let sql = format!("SELECT {DEAD_LETTER} WHERE subscriber = ? AND number = ?");
            let mut load = connection.prepare_cached(&sql)?;
            for row in select.query_map([owner, number, limit], |row| Ok((row.get(0)?, row.get(1)?)))? {
                let key: Position = row?;
                let found = match load.query_row([key.0, key.1], read_dead_letter).optional() {
                    Ok(letter) => letter.and_then(|(_, letter)| letter.err()),
                    Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
                        Some(error.to_string())
                    }
                    Err(error) => return Err(error),
                };
                checked.add(table, key, found);
            }
        }
        Table::EventRooms => {
            let sql = "SELECT room, number, EXISTS (SELECT 1 FROM event WHERE event.number = event_room.number), \
                       EXISTS (SELECT 1 FROM room WHERE room.id = event_room.room) FROM event_room \
                       WHERE (room, number) > (?, ?) ORDER BY room, number LIMIT ?";
            let mut select = connection.prepare_cached(sql)?;
            let rows = select.query_map([owner, number, limit], |row| {
                Ok(((row.get(0)?, row.get(1)?), row.get::<_, bool>(2)?, row.get::<_, bool>(3)?))
            })?;
            for row in rows {
                let (key, has_event, has_room) = row?;
                let found = match (has_event, has_room) {
                    (true, true) => None,
                    (false, _) => Some("its row of the table event is missing".to_owned()),
                    (true, false) => Some("its row of the table room is missing".to_owned()),
                };
                checked.add(table, key, found);
            }
        }
    }
    if checked.rows < CHECKED_ROWS {
        checked.next = None;
    }
    Ok(())
}

impl Checked {
    fn add(&mut self, table: Table, key: Position, found: Option<String>) {
        self.rows += 1;
        self.next = Some(key);
        self.damage.extend(found.map(|found| Damage { table: table.name(), row: table.row(key), found }));
    }
}

/// Counts open events in `(after, up_to]`, at most `count_max`. True if there are more.
fn count(
    connection: &Connection,
    sources: &[Source],
    after: u64,
    up_to: u64,
    count_max: usize,
) -> rusqlite::Result<(u64, bool)> {
    let mut merged = Merged::new(connection, sources, LIVE_ROWS, after, count_max.min(1 << 20))?;
    let mut events = 0;
    while merged.next()?.is_some_and(|(number, ..)| number <= up_to) {
        if events == count_max as u64 {
            return Ok((events, true));
        }
        events += 1;
    }
    Ok((events, false))
}
