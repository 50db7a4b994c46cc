//! Reading from a connection of its own: every read is one snapshot.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::event::{DEAD_LETTER, Stored, StoredEvent, load_event, read_dead_letter};
use super::folder::{DATABASE, error_at};
use super::merge::{LIVE_ROWS, Merged, Removed, RemovedEvent, Source, pending_room, sources};
use super::{i, n, schema};
use crate::ids::{Epoch, NamespacePath, RoomName};
use crate::queue::change::ACKED_MAX;
use crate::queue::record::{
    Backlog, DamagedEvent, DurableEvent, Gap, GapReason, QueueOffset, SubscriberInfo, SubscriberKey, SubscriberName,
    SubscriberState, Totals, UnixMillis,
};
use crate::queue::store::{
    DeadLetterPage, DeliveryPage, EventPage, GapPage, PASSED_MAX, PASSED_PAUSE, PageLimit, QueueReader, StoreError,
    UnrevealedEvent, UnrevealedPage,
};

/// A reader beside the writer.
pub(super) struct SqliteReader {
    connection: Connection,
    path: PathBuf,
}

impl SqliteReader {
    pub(super) fn open(database: &Path) -> Result<Self, StoreError> {
        Ok(Self { connection: schema::open_reader(database)?, path: database.to_owned() })
    }

    /// Opens a database that no other process uses.
    pub(super) fn open_unused(database: &Path) -> Result<Self, StoreError> {
        Ok(Self { connection: schema::open_unused(database)?, path: database.to_owned() })
    }

    /// Runs a read on one snapshot.
    pub(super) fn read<T>(
        &mut self,
        read: impl FnOnce(&Connection, &Path) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let Self { connection, path } = self;
        let result = connection.transaction().and_then(|transaction| read(&transaction, path));
        result.map_err(|error| error_at(path, &error))
    }
}

pub(super) fn find(connection: &Connection, key: &SubscriberKey) -> rusqlite::Result<Option<i64>> {
    let mut select = connection.prepare_cached("SELECT id FROM subscriber WHERE namespace = ? AND name = ?")?;
    select.query_row([key.namespace.as_str(), key.name.as_str()], |row| row.get(0)).optional()
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
}

pub(super) fn room_name(name: &str) -> rusqlite::Result<RoomName> {
    RoomName::parse(name).map_err(invalid)
}

fn key(namespace: &str, name: &str) -> rusqlite::Result<SubscriberKey> {
    let namespace = NamespacePath::parse(namespace).map_err(invalid)?;
    Ok(SubscriberKey { namespace, name: SubscriberName::parse(name).map_err(invalid)? })
}

const MISSING: &str = "the row is missing";

/// Adds an event to a page. False if the page was full before.
fn push<'a>(
    page: &'a mut EventPage,
    bytes: &mut usize,
    limit: PageLimit,
    (number, stored, room): (u64, Stored, RoomName),
) -> Option<&'a mut DurableEvent> {
    let damage = match stored {
        Stored::Event(event) => {
            *bytes += event.payload.bytes();
            if !page.events.is_empty() && *bytes > limit.bytes {
                page.has_more = true;
                return None;
            }
            page.next = number;
            page.events.push(event.into_event(number, room));
            return page.events.last_mut();
        }
        Stored::Missing => MISSING.to_owned(),
        Stored::Damaged(error) => error,
    };
    page.next = number;
    page.damaged.push(damaged("event", number, &damage));
    None
}

/// Reads the failed deliveries of an event.
pub(super) fn read_attempts(
    connection: &Connection,
    subscriber: i64,
    event: &mut DurableEvent,
) -> rusqlite::Result<()> {
    let sql = "SELECT attempts, alone, retry_at FROM attempt WHERE subscriber = ? AND number = ?";
    let mut select = connection.prepare_cached(sql)?;
    let values = [subscriber, i(event.number)];
    let failed = select.query_row(values, |row| Ok((row.get(0)?, row.get(1)?, n(row.get(2)?))));
    if let Some((attempts, alone, retry_at)) = failed.optional()? {
        (event.attempts, event.alone, event.retry_at) = (attempts, alone, Some(UnixMillis(retry_at)));
    }
    Ok(())
}

/// The time of the earliest retry of a pending event that is not due.
fn next_due(
    connection: &Connection,
    subscriber: i64,
    sources: &[Source],
    except: &HashSet<u64>,
    now: UnixMillis,
) -> rusqlite::Result<Option<UnixMillis>> {
    let sql = "SELECT number, retry_at FROM attempt WHERE subscriber = ? AND retry_at > ? ORDER BY retry_at, number";
    let mut select = connection.prepare_cached(sql)?;
    let mut retries = select.query([subscriber, i(now.0)])?;
    let mut passed = 0;
    while let Some(row) = retries.next()? {
        let number = n(row.get(0)?);
        if !except.contains(&number) {
            // A subscription may have ended a moment ago. Then the next read is early.
            if passed >= PASSED_MAX || pending_room(connection, sources, number)?.is_some() {
                return Ok(Some(UnixMillis(n(row.get(1)?))));
            }
            passed += 1;
        }
    }
    Ok(None)
}

fn damaged(table: &str, number: u64, damage: &str) -> DamagedEvent {
    DamagedEvent { number, error: format!("queue file {DATABASE}: table {table}, row {number}: {damage}") }
}

/// The event with the rooms in which it is stored. None for a replayed dead letter, which is for
/// its subscriber alone.
fn unrevealed(
    connection: &Connection,
    number: u64,
    event: Box<StoredEvent>,
) -> rusqlite::Result<Option<UnrevealedEvent>> {
    let mut rooms = Vec::new();
    let mut namespace = NamespacePath::root();
    for room in &event.rooms {
        let sql = "SELECT namespace, name FROM room JOIN event_room ON event_room.room = id AND number = ?2 \
                   WHERE id = ?1 AND own = 0";
        let mut select = connection.prepare_cached(sql)?;
        let named =
            select.query_row([*room, i(number)], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)));
        if let Some((of, name)) = named.optional()? {
            namespace = NamespacePath::parse(&of).map_err(invalid)?;
            rooms.push(room_name(&name)?);
        }
    }
    let room = rooms.first().cloned();
    Ok(room.map(|room| UnrevealedEvent { namespace, rooms, event: event.into_event(number, room) }))
}

impl QueueReader for SqliteReader {
    fn pending(&mut self, subscriber: &SubscriberKey, after: u64, limit: PageLimit) -> Result<EventPage, StoreError> {
        self.read(|connection, _| {
            let mut page = EventPage { next: after, ..EventPage::default() };
            let Some(id) = find(connection, subscriber)? else { return Ok(page) };
            let sources = sources(connection, id)?;
            let mut merged = Merged::new(connection, &sources, LIVE_ROWS, after, limit.events)?;
            let mut bytes = 0;
            while let Some((number, room, _)) = merged.next()? {
                let stored = load_event(connection, number)?;
                if let Some(event) = push(&mut page, &mut bytes, limit, (number, stored, room)) {
                    read_attempts(connection, id, event)?;
                }
                page.has_more |= page.events.len() + page.damaged.len() >= limit.events && merged.peek().is_some();
                if page.has_more || page.events.len() + page.damaged.len() >= limit.events {
                    break;
                }
            }
            Ok(page)
        })
    }

    fn deliverable(
        &mut self,
        subscriber: &SubscriberKey,
        after: u64,
        except: &[u64],
        now: UnixMillis,
        limit: PageLimit,
    ) -> Result<DeliveryPage, StoreError> {
        self.read(|connection, _| {
            let Some(id) = find(connection, subscriber)? else {
                return Ok(DeliveryPage { next: after, ..DeliveryPage::default() });
            };
            let sources = sources(connection, id)?;
            let except: HashSet<u64> = except.iter().copied().collect();
            let is_full = |page: &EventPage| page.events.len() + page.damaged.len() >= limit.events;
            let (mut page, mut bytes) = (EventPage::default(), 0);
            let sql = "SELECT number FROM attempt WHERE subscriber = ? AND retry_at <= ? ORDER BY retry_at, number";
            let mut select = connection.prepare_cached(sql)?;
            let mut retries = select.query([id, i(now.0)])?;
            let mut passed = 0;
            while !page.has_more
                && let Some(row) = retries.next()?
            {
                let number = n(row.get(0)?);
                if except.contains(&number) {
                    continue;
                }
                // A subscription may have ended a moment ago: its failed deliveries are being
                // deleted.
                let Some(room) = pending_room(connection, &sources, number)? else {
                    passed += 1;
                    page.has_more = passed >= PASSED_MAX;
                    continue;
                };
                if is_full(&page) {
                    page.has_more = true;
                    break;
                }
                let stored = load_event(connection, number)?;
                if let Some(event) = push(&mut page, &mut bytes, limit, (number, stored, room.clone())) {
                    read_attempts(connection, id, event)?;
                }
            }
            let mut due = std::mem::take(&mut page.events);
            due.sort_unstable_by_key(|event| event.number);
            let mut next_due = next_due(connection, id, &sources, &except, now)?;
            if passed >= PASSED_MAX && due.is_empty() && page.damaged.is_empty() {
                // The same read would find the same rows, until the committer has deleted them.
                page.has_more = false;
                next_due = next_due.into_iter().chain([now.plus(PASSED_PAUSE)]).min();
            }
            let mut found =
                DeliveryPage { due, next: after, has_more: page.has_more, next_due, ..DeliveryPage::default() };
            let mut merged = Merged::new(connection, &sources, LIVE_ROWS, after, limit.events)?;
            let mut passed = 0;
            while let Some((number, room, _)) = merged.next()? {
                let sql = "SELECT 1 FROM attempt WHERE subscriber = ? AND number = ?";
                if except.contains(&number) || connection.prepare_cached(sql)?.exists([id, i(number)])? {
                    found.next = number;
                    passed += 1;
                    if passed >= PASSED_MAX {
                        found.has_more = true;
                        break;
                    }
                    continue;
                }
                let is_first = found.due.is_empty() && page.events.is_empty();
                let read = found.due.len() + page.events.len() + page.damaged.len();
                let stored = load_event(connection, number)?;
                if let Stored::Event(event) = &stored {
                    bytes += event.payload.bytes();
                }
                if read >= limit.events || !is_first && bytes > limit.bytes {
                    found.has_more = true;
                    break;
                }
                found.next = number;
                match stored {
                    Stored::Event(event) => page.events.push(event.into_event(number, room)),
                    Stored::Missing => page.damaged.push(damaged("event", number, MISSING)),
                    Stored::Damaged(damage) => page.damaged.push(damaged("event", number, &damage)),
                }
            }
            (found.fresh, found.damaged) = (page.events, page.damaged);
            Ok(found)
        })
    }

    fn events(
        &mut self,
        namespace: &NamespacePath,
        rooms: &[RoomName],
        after: u64,
        limit: PageLimit,
    ) -> Result<EventPage, StoreError> {
        self.read(|connection, _| {
            let (mut sources, mut page) = (Vec::new(), EventPage { next: after, ..EventPage::default() });
            for room in rooms {
                let sql = "SELECT id, removed_to FROM room WHERE namespace = ? AND name = ? AND own = 0";
                let mut select = connection.prepare_cached(sql)?;
                let values = [namespace.as_str(), room.as_str()];
                let found = select.query_row(values, |row| Ok((row.get(0)?, n(row.get(1)?)))).optional()?;
                let removed_to = match found {
                    Some((id, removed_to)) => {
                        sources.push(Source::room(id, room.clone()));
                        removed_to
                    }
                    // The room has no rows: what it had is known of all such rooms together.
                    None => connection.query_row("SELECT removed_to FROM queue", [], |row| row.get(0).map(n))?,
                };
                page.removed_to = page.removed_to.max(removed_to);
            }
            let mut merged = Merged::new(connection, &sources, LIVE_ROWS, after, limit.events)?;
            let mut bytes = 0;
            while let Some((number, room, _)) = merged.next()? {
                if page.events.len() + page.damaged.len() >= limit.events {
                    page.has_more = true;
                    break;
                }
                push(&mut page, &mut bytes, limit, (number, load_event(connection, number)?, room));
                if page.has_more {
                    break;
                }
            }
            Ok(page)
        })
    }

    fn unrevealed(&mut self, after: u64, limit: PageLimit) -> Result<UnrevealedPage, StoreError> {
        self.read(|connection, _| {
            let mut page = UnrevealedPage { next: after, ..UnrevealedPage::default() };
            let mut select = connection.prepare_cached("SELECT number FROM event WHERE number > ? ORDER BY number")?;
            let numbers = select.query_map([i(after)], |row| row.get(0).map(n))?;
            let mut bytes = 0;
            for (read, number) in numbers.enumerate() {
                let number = number?;
                let stored = load_event(connection, number)?;
                if let Stored::Event(event) = &stored {
                    bytes += event.payload.bytes();
                }
                if read >= limit.events || (!page.events.is_empty() && bytes > limit.bytes) {
                    page.has_more = true;
                    break;
                }
                page.next = number;
                match stored {
                    Stored::Event(event) => page.events.extend(unrevealed(connection, number, event)?),
                    Stored::Missing => {}
                    Stored::Damaged(damage) => page.damaged.push(damaged("event", number, &damage)),
                }
            }
            Ok(page)
        })
    }

    fn subscriber(&mut self, subscriber: &SubscriberKey) -> Result<Option<SubscriberInfo>, StoreError> {
        self.read(|connection, _| {
            let of_key = "namespace = ?1 AND name = ?2";
            let sql = format!("{ACTIVE} AND {of_key} UNION ALL {EXPIRED} WHERE {of_key}");
            let mut select = connection.prepare_cached(&sql)?;
            let values = [subscriber.namespace.as_str(), subscriber.name.as_str()];
            let found = select.query_row(values, |row| info(connection, row)).optional()?;
            Ok(found)
        })
    }

    fn subscribers(&mut self, after: Option<&SubscriberKey>, limit: usize) -> Result<Vec<SubscriberInfo>, StoreError> {
        self.read(|connection, _| {
            let (namespace, name) = after.map_or(("", ""), |key| (key.namespace.as_str(), key.name.as_str()));
            let (after, first) = ("(namespace, name) > (?1, ?2)", "ORDER BY namespace, name LIMIT ?3");
            let sql = format!(
                "SELECT * FROM ({ACTIVE} AND {after} {first}) UNION ALL SELECT * FROM ({EXPIRED} WHERE {after} {first}) {first}"
            );
            let mut select = connection.prepare_cached(&sql)?;
            let found = select.query_map(params![namespace, name, limit as i64], |row| info(connection, row))?;
            found.collect()
        })
    }

    fn backlog(&mut self, subscriber: &SubscriberKey, events_max: usize) -> Result<Backlog, StoreError> {
        self.read(|connection, _| {
            let mut backlog = Backlog::default();
            let Some(id) = find(connection, subscriber)? else { return Ok(backlog) };
            let sources = sources(connection, id)?;
            let mut merged = Merged::new(connection, &sources, LIVE_ROWS, 0, events_max)?;
            while let Some((number, ..)) = merged.next()? {
                if backlog.events == 0 {
                    let mut select = connection.prepare_cached("SELECT at FROM event WHERE number = ?")?;
                    let at = select.query_row([i(number)], |row| row.get(0).map(n)).optional()?;
                    backlog.oldest_at = at.map(UnixMillis);
                }
                if backlog.events >= events_max as u64 {
                    backlog.is_capped = true;
                    break;
                }
                backlog.events += 1;
            }
            Ok(backlog)
        })
    }

    fn dead_letters(
        &mut self,
        subscriber: &SubscriberKey,
        after: u64,
        limit: PageLimit,
    ) -> Result<DeadLetterPage, StoreError> {
        self.read(|connection, _| {
            let mut page = DeadLetterPage { next: after, ..DeadLetterPage::default() };
            let Some(id) = find(connection, subscriber)? else { return Ok(page) };
            let sql = format!("SELECT {DEAD_LETTER} WHERE subscriber = ? AND number > ? ORDER BY number");
            let mut select = connection.prepare_cached(&sql)?;
            let mut bytes = 0;
            for (read, letter) in select.query_map([id, i(after)], read_dead_letter)?.enumerate() {
                let (number, letter) = letter?;
                bytes += letter.as_ref().map_or(0, |dead| dead.payload.bytes());
                if read >= limit.events || (!page.dead_letters.is_empty() && bytes > limit.bytes) {
                    page.has_more = true;
                    break;
                }
                page.next = number;
                match letter {
                    Ok(dead) => page.dead_letters.push(dead),
                    Err(damage) => page.damaged.push(damaged("dead_letter", number, &damage)),
                }
            }
            Ok(page)
        })
    }

    fn gaps(&mut self, subscriber: &SubscriberKey, after: u64, limit: usize) -> Result<GapPage, StoreError> {
        self.read(|connection, _| {
            let limit = limit.min(ACKED_MAX);
            let mut page = GapPage { next: after, ..GapPage::default() };
            let Some(id) = find(connection, subscriber)? else { return Ok(page) };
            let mut select = connection
                .prepare_cached("SELECT first, last, events, reason FROM gap WHERE subscriber = ? AND last > ?")?;
            let own = select.query_map([id, i(after)], |row| {
                let events = row.get::<_, Option<i64>>(2)?.map(n);
                Ok(Gap { from: n(row.get(0)?), to: n(row.get(1)?), events, reason: reason(row.get(3)?)? })
            })?;
            page.gaps = own.collect::<rusqlite::Result<_>>()?;
            let sources = sources(connection, id)?;
            page.gaps.extend(sources.iter().filter_map(Source::lost_range).filter(|gap| gap.to > after));
            let mut removed = Removed::new(connection, &sources, after, limit)?;
            let mut ranges: Vec<Gap> = Vec::new();
            for _ in 0..limit {
                let Some(RemovedEvent { number, reason, is_apart }) = removed.next()? else { break };
                page.next = number;
                match ranges.last_mut().filter(|gap| gap.reason == reason && !is_apart) {
                    Some(gap) => {
                        gap.to = number;
                        gap.events = gap.events.map(|events| events + 1);
                    }
                    None => ranges.push(Gap { from: number, to: number, events: Some(1), reason }),
                }
            }
            page.has_more = removed.has_more();
            page.gaps.extend(ranges);
            page.gaps.sort_unstable_by_key(|gap| (gap.from, gap.to, gap.reason));
            Ok(page)
        })
    }

    fn first_failed(&mut self, subscriber: &SubscriberKey, from: u64) -> Result<Option<u64>, StoreError> {
        self.read(|connection, _| {
            let Some(id) = find(connection, subscriber)? else { return Ok(None) };
            let sql = "SELECT min(number) FROM attempt WHERE subscriber = ? AND number >= ?";
            let first = connection.prepare_cached(sql)?.query_row([id, i(from)], |row| row.get::<_, Option<i64>>(0))?;
            Ok(first.map(n))
        })
    }

    fn has_expired(&mut self, up_to: u64, now: UnixMillis) -> Result<bool, StoreError> {
        self.read(|connection, _| {
            let sql = "SELECT EXISTS (SELECT 1 FROM event \
                       WHERE expires_at IS NOT NULL AND expires_at <= ? AND number <= ?)";
            connection.prepare_cached(sql)?.query_row([i(now.0), i(up_to)], |row| row.get(0))
        })
    }

    fn totals(&mut self) -> Result<Totals, StoreError> {
        self.read(|connection, _| {
            let sql = "SELECT epoch, head, revealed, events, bytes, subscribers, dead_letters, dedup_ids FROM queue";
            connection.query_row(sql, [], |row| {
                let number = |at| row.get(at).map(n);
                Ok(Totals {
                    head: QueueOffset { epoch: Epoch::from_bits(number(0)?), number: number(1)? },
                    revealed: number(2)?,
                    events: number(3)?,
                    bytes: number(4)?,
                    subscribers: number(5)?,
                    dead_letters: number(6)?,
                    dedup_ids: number(7)?,
                })
            })
        })
    }
}

pub(super) fn reason(code: i64) -> rusqlite::Result<GapReason> {
    GapReason::from_code(code).ok_or(rusqlite::Error::IntegralValueOutOfRange(0, code))
}

const ACTIVE: &str = "SELECT namespace, name, created_at, seen_at, dead_letters, NULL AS expired_at, id FROM subscriber \
     WHERE name IS NOT NULL";
const EXPIRED: &str = "SELECT namespace, name, created_at, seen_at, 0, expired_at, 0 FROM expired_subscriber";

fn info(connection: &Connection, row: &Row<'_>) -> rusqlite::Result<SubscriberInfo> {
    let expired_at = row.get::<_, Option<i64>>(5)?.map(|at| UnixMillis(n(at)));
    let sql = "SELECT name FROM subscription JOIN room ON room.id = room WHERE subscriber = ? AND ended IS NULL AND own = 0 \
               ORDER BY name";
    let mut select = connection.prepare_cached(sql)?;
    let rooms = select.query_map([row.get::<_, i64>(6)?], |row| room_name(row.get_ref(0)?.as_str()?))?;
    Ok(SubscriberInfo {
        key: key(row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?)?,
        state: expired_at.map_or(SubscriberState::Active, |at| SubscriberState::Expired { at }),
        created_at: UnixMillis(n(row.get(2)?)),
        seen_at: UnixMillis(n(row.get(3)?)),
        rooms: rooms.collect::<rusqlite::Result<_>>()?,
        dead_letters: n(row.get(4)?),
    })
}
