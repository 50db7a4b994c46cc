//! Reading from a connection of its own: every read is one snapshot.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::folder::{DATABASE, error_at};
use super::publish::{Checked, decode_payload};
use super::rooms::decode_rooms;
use super::{i, n, schema};
use crate::ids::{Epoch, NamespacePath, RoomName};
use crate::queue::record::{
    Backlog, DamagedEvent, DeadLetter, DurableEvent, Gap, GapReason, Payload, QueueOffset, SubscriberInfo,
    SubscriberKey, SubscriberName, SubscriberState, Totals, UnixMillis,
};
use crate::queue::store::{EventPage, GapPage, PageLimit, QueueReader, StoreError, UnrevealedEvent};

/// Rows of a room that are read ahead when rooms are merged.
const READ_AHEAD_MIN: usize = 4;
const READ_AHEAD_MAX: usize = 256;

/// A stored event, read and checked.
pub(super) enum Stored {
    Event(Box<StoredEvent>),
    Missing,
    Damaged(String),
}

pub(super) struct StoredEvent {
    pub(super) rooms: Vec<i64>,
    pub(super) at: UnixMillis,
    pub(super) expires_at: Option<UnixMillis>,
    pub(super) replay_of: Option<u64>,
    pub(super) via: Option<String>,
    pub(super) origin: Bytes,
    pub(super) payload: Payload,
}

impl StoredEvent {
    fn into_event(self, number: u64, room: RoomName) -> DurableEvent {
        let room = self.via.and_then(|via| RoomName::parse(&via).ok()).unwrap_or(room);
        DurableEvent {
            number,
            room,
            published_at: self.at,
            expires_at: self.expires_at,
            origin: self.origin,
            payload: self.payload,
            replay_of: self.replay_of,
            attempts: 0,
            retry_at: None,
        }
    }
}

/// Reads an event. A row whose values have other types than they were written with is damaged too.
pub(super) fn load_event(connection: &Connection, number: u64) -> rusqlite::Result<Stored> {
    let sql =
        "SELECT rooms, at, expires_at, replay_of, via, crc, origin, attachments, payload FROM event WHERE number = ?";
    let mut select = connection.prepare_cached(sql)?;
    let mut rows = select.query([i(number)])?;
    let Some(row) = rows.next()? else { return Ok(Stored::Missing) };
    Ok(check_event(row, number).unwrap_or_else(|error| Stored::Damaged(error.to_string())))
}

fn check_event(row: &Row<'_>, number: u64) -> rusqlite::Result<Stored> {
    let (rooms, origin, payload) = (row.get_ref(0)?.as_blob()?, row.get_ref(6)?.as_blob()?, row.get_ref(8)?.as_blob()?);
    let checked = Checked {
        number,
        rooms,
        at: UnixMillis(n(row.get(1)?)),
        expires_at: row.get::<_, Option<i64>>(2)?.map(|at| UnixMillis(n(at))),
        replay_of: row.get::<_, Option<i64>>(3)?.map(n),
        via: row.get_ref(4)?.as_str_or_null()?,
        origin,
        attachments: row.get(7)?,
        payload,
    };
    let (stored, found) = (row.get::<_, u32>(5)?, checked.crc());
    if stored != found {
        return Ok(Stored::Damaged(format!("checksum is {found:#010x}, expected {stored:#010x}")));
    }
    let Some(content) = decode_payload(checked.attachments, payload) else {
        return Ok(Stored::Damaged("payload ends early".to_owned()));
    };
    Ok(Stored::Event(Box::new(StoredEvent {
        rooms: decode_rooms(rooms),
        at: checked.at,
        expires_at: checked.expires_at,
        replay_of: checked.replay_of,
        via: checked.via.map(str::to_owned),
        origin: Bytes::copy_from_slice(origin),
        payload: content,
    })))
}

/// A reader beside the writer.
pub(super) struct SqliteReader {
    connection: Connection,
    path: PathBuf,
}

/// A subscription as a reader sees it.
struct Source {
    subscription: i64,
    room: i64,
    name: RoomName,
    start: u64,
    floor: u64,
    lost_to: u64,
}

/// Open rows of one subscription, in order.
struct Cursor<'a> {
    source: &'a Source,
    sql: &'static str,
    after: u64,
    read_ahead: usize,
    rows: VecDeque<(u64, i64)>,
    /// Acknowledged ranges that end behind `after`.
    ranges: VecDeque<(u64, u64)>,
}

const LIVE_ROWS: &str = "SELECT number, 0 FROM event_room WHERE room = ? AND number > ? ORDER BY number LIMIT ?";
const GONE_ROWS: &str = "SELECT number, reason FROM gone WHERE room = ? AND number > ? ORDER BY number LIMIT ?";

impl Cursor<'_> {
    /// The next row that the subscription has not handled, with the reason of its removal.
    fn next(&mut self, connection: &Connection) -> rusqlite::Result<Option<(u64, i64)>> {
        loop {
            if self.rows.is_empty() {
                let mut select = connection.prepare_cached(self.sql)?;
                let values = params![self.source.room, i(self.after), self.read_ahead as i64];
                let rows = select.query_map(values, |row| Ok((n(row.get(0)?), row.get(1)?)))?;
                self.rows = rows.collect::<rusqlite::Result<_>>()?;
            }
            let Some((number, reason)) = self.rows.pop_front() else { return Ok(None) };
            self.after = number;
            while self.ranges.front().is_some_and(|(_, last)| *last < number) {
                self.ranges.pop_front();
            }
            if self.ranges.front().is_none_or(|(first, _)| number < *first) {
                return Ok(Some((number, reason)));
            }
        }
    }
}

/// Open rows of all subscriptions of a subscriber, merged by number.
struct Merged<'a> {
    connection: &'a Connection,
    cursors: Vec<Cursor<'a>>,
    heads: BinaryHeap<Reverse<(u64, &'a RoomName, usize, i64)>>,
}

impl<'a> Merged<'a> {
    fn new(
        connection: &'a Connection,
        sources: &'a [Source],
        sql: &'static str,
        after: u64,
        limit: usize,
    ) -> rusqlite::Result<Self> {
        let read_ahead = (limit / sources.len().max(1) + 1).clamp(READ_AHEAD_MIN, READ_AHEAD_MAX);
        let mut merged = Self { connection, cursors: Vec::new(), heads: BinaryHeap::new() };
        for source in sources {
            let after = after.max(source.floor);
            let mut select = connection
                .prepare_cached("SELECT first, last FROM acked WHERE subscription = ? AND last > ? ORDER BY first")?;
            let ranges =
                select.query_map([source.subscription, i(after)], |row| Ok((n(row.get(0)?), n(row.get(1)?))))?;
            let ranges = ranges.collect::<rusqlite::Result<_>>()?;
            merged.cursors.push(Cursor { source, sql, after, read_ahead, rows: VecDeque::new(), ranges });
            merged.advance(merged.cursors.len() - 1)?;
        }
        Ok(merged)
    }

    fn advance(&mut self, at: usize) -> rusqlite::Result<()> {
        let cursor = &mut self.cursors[at];
        if let Some((number, reason)) = cursor.next(self.connection)? {
            self.heads.push(Reverse((number, &cursor.source.name, at, reason)));
        }
        Ok(())
    }

    fn peek(&self) -> Option<u64> {
        self.heads.peek().map(|Reverse((number, ..))| *number)
    }

    /// The next number, once, with the first of its rooms.
    fn next(&mut self) -> rusqlite::Result<Option<(u64, RoomName, i64)>> {
        let Some(Reverse((number, room, at, reason))) = self.heads.pop() else { return Ok(None) };
        self.advance(at)?;
        while self.peek() == Some(number) {
            if let Some(Reverse((.., at, _))) = self.heads.pop() {
                self.advance(at)?;
            }
        }
        Ok(Some((number, room.clone(), reason)))
    }
}

impl SqliteReader {
    pub(super) fn open(database: &Path) -> Result<Self, StoreError> {
        Ok(Self { connection: schema::open_reader(database)?, path: database.to_owned() })
    }

    /// Runs a read on one snapshot.
    fn read<T>(&mut self, read: impl FnOnce(&Connection, &Path) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let Self { connection, path } = self;
        let result = connection.transaction().and_then(|transaction| read(&transaction, path));
        result.map_err(|error| error_at(path, &error))
    }
}

fn find(connection: &Connection, key: &SubscriberKey) -> rusqlite::Result<Option<i64>> {
    let mut select = connection.prepare_cached("SELECT id FROM subscriber WHERE namespace = ? AND name = ?")?;
    select.query_row([key.namespace.as_str(), key.name.as_str()], |row| row.get(0)).optional()
}

fn sources(connection: &Connection, subscriber: i64) -> rusqlite::Result<Vec<Source>> {
    let sql = "SELECT subscription.id, room, name, start, floor, lost_to FROM subscription JOIN room ON room.id = room \
               WHERE subscriber = ? AND ended IS NULL";
    let mut select = connection.prepare_cached(sql)?;
    let rows = select.query_map([subscriber], |row| {
        Ok(Source {
            subscription: row.get(0)?,
            room: row.get(1)?,
            name: room_name(row.get_ref(2)?.as_str()?)?,
            start: n(row.get(3)?),
            floor: n(row.get(4)?),
            lost_to: n(row.get(5)?),
        })
    })?;
    rows.collect()
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
}

fn room_name(name: &str) -> rusqlite::Result<RoomName> {
    RoomName::parse(name).map_err(invalid)
}

fn key(namespace: &str, name: &str) -> rusqlite::Result<SubscriberKey> {
    let namespace = NamespacePath::parse(namespace).map_err(invalid)?;
    Ok(SubscriberKey { namespace, name: SubscriberName::parse(name).map_err(invalid)? })
}

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
        Stored::Missing => "the row is missing".to_owned(),
        Stored::Damaged(error) => error,
    };
    page.next = number;
    let error = format!("queue file {DATABASE}: table event, row {number}: {damage}");
    page.damaged.push(DamagedEvent { number, error });
    None
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
                    let sql = "SELECT attempts, retry_at FROM attempt WHERE subscriber = ? AND number = ?";
                    let mut select = connection.prepare_cached(sql)?;
                    let failed = select.query_row([id, i(number)], |row| Ok((row.get(0)?, n(row.get(1)?))));
                    if let Some((attempts, retry_at)) = failed.optional()? {
                        (event.attempts, event.retry_at) = (attempts, Some(UnixMillis(retry_at)));
                    }
                }
                page.has_more |= page.events.len() + page.damaged.len() >= limit.events && merged.peek().is_some();
                if page.has_more || page.events.len() + page.damaged.len() >= limit.events {
                    break;
                }
            }
            Ok(page)
        })
    }

    fn events(
        &mut self,
        namespace: &NamespacePath,
        room: &RoomName,
        after: u64,
        limit: PageLimit,
    ) -> Result<EventPage, StoreError> {
        self.read(|connection, _| {
            let sql = "SELECT id, removed_to FROM room WHERE namespace = ? AND name = ? AND own = 0";
            let mut select = connection.prepare_cached(sql)?;
            let found = select
                .query_row([namespace.as_str(), room.as_str()], |row| Ok((row.get::<_, i64>(0)?, n(row.get(1)?))));
            let Some((id, removed_to)) = found.optional()? else {
                // The room has no rows: what it had is known of all such rooms together.
                let removed_to = connection.query_row("SELECT removed_to FROM queue", [], |row| row.get(0).map(n))?;
                return Ok(EventPage { next: after, removed_to, ..EventPage::default() });
            };
            let mut page = EventPage { next: after, removed_to, ..EventPage::default() };
            let mut select = connection.prepare_cached(LIVE_ROWS)?;
            let rows = limit.events.saturating_add(1).min(1 << 30) as i64;
            let numbers = select.query_map(params![id, i(after), rows], |row| row.get(0).map(n))?;
            let mut bytes = 0;
            for number in numbers {
                let number = number?;
                if page.events.len() + page.damaged.len() >= limit.events {
                    page.has_more = true;
                    break;
                }
                push(&mut page, &mut bytes, limit, (number, load_event(connection, number)?, room.clone()));
                if page.has_more {
                    break;
                }
            }
            Ok(page)
        })
    }

    fn unrevealed(&mut self, after: u64, limit: PageLimit) -> Result<Vec<UnrevealedEvent>, StoreError> {
        self.read(|connection, _| {
            let mut select = connection.prepare_cached("SELECT number FROM event WHERE number > ? ORDER BY number LIMIT ?")?;
            let numbers = select.query_map([i(after), limit.events as i64], |row| row.get(0).map(n))?;
            let (mut events, mut bytes) = (Vec::new(), 0);
            for number in numbers {
                let number = number?;
                let Stored::Event(event) = load_event(connection, number)? else { continue };
                bytes += event.payload.bytes();
                if !events.is_empty() && bytes > limit.bytes {
                    break;
                }
                let mut rooms = Vec::new();
                let mut namespace = NamespacePath::root();
                for room in &event.rooms {
                    let sql = "SELECT namespace, name FROM room JOIN event_room ON event_room.room = id AND number = ?2 \
                               WHERE id = ?1 AND own = 0";
                    let mut select = connection.prepare_cached(sql)?;
                    let named = select.query_row([*room, i(number)], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)));
                    if let Some((of, name)) = named.optional()? {
                        namespace = NamespacePath::parse(&of).map_err(invalid)?;
                        rooms.push(room_name(&name)?);
                    }
                }
                // Replayed dead letters are for their subscriber alone.
                if let Some(room) = rooms.first().cloned() {
                    events.push(UnrevealedEvent { namespace, rooms, event: event.into_event(number, room) });
                }
            }
            Ok(events)
        })
    }

    fn subscriber(&mut self, subscriber: &SubscriberKey) -> Result<Option<SubscriberInfo>, StoreError> {
        self.read(|connection, _| {
            let sql = format!("SELECT * FROM ({SUBSCRIBERS}) WHERE namespace = ?1 AND name = ?2");
            let mut select = connection.prepare_cached(&sql)?;
            let values = [subscriber.namespace.as_str(), subscriber.name.as_str()];
            let found = select.query_row(values, |row| info(connection, row)).optional()?;
            Ok(found)
        })
    }

    fn subscribers(&mut self, after: Option<&SubscriberKey>, limit: usize) -> Result<Vec<SubscriberInfo>, StoreError> {
        self.read(|connection, _| {
            let (namespace, name) = after.map_or(("", ""), |key| (key.namespace.as_str(), key.name.as_str()));
            let sql = format!(
                "SELECT * FROM ({SUBSCRIBERS}) WHERE (namespace, name) > (?1, ?2) ORDER BY namespace, name LIMIT ?3"
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
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        self.read(|connection, _| {
            let Some(id) = find(connection, subscriber)? else { return Ok(Vec::new()) };
            let sql = "SELECT number, room, at, origin, attachments, payload, attempts, reason, dead_at FROM dead_letter \
                       WHERE subscriber = ? AND number > ? ORDER BY number LIMIT ?";
            let mut select = connection.prepare_cached(sql)?;
            let rows = select.query_map(params![id, i(after), limit as i64], |row| {
                Ok(DeadLetter {
                    number: n(row.get(0)?),
                    room: room_name(row.get_ref(1)?.as_str()?)?,
                    published_at: UnixMillis(n(row.get(2)?)),
                    origin: Bytes::copy_from_slice(row.get_ref(3)?.as_blob()?),
                    payload: decode_payload(row.get(4)?, row.get_ref(5)?.as_blob()?).unwrap_or_default(),
                    attempts: row.get(6)?,
                    reason: row.get(7)?,
                    dead_at: UnixMillis(n(row.get(8)?)),
                })
            })?;
            rows.collect()
        })
    }

    fn gaps(&mut self, subscriber: &SubscriberKey, after: u64, limit: usize) -> Result<GapPage, StoreError> {
        self.read(|connection, _| {
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
            for source in &sources {
                page.gaps.extend(lost_range(connection, source, after)?);
            }
            let mut gone = Merged::new(connection, &sources, GONE_ROWS, after, limit)?;
            let mut live = Merged::new(connection, &sources, LIVE_ROWS, after, limit)?;
            let mut ranges = BTreeMap::<u64, Gap>::new();
            let mut last: Option<(u64, GapReason)> = None;
            for _ in 0..limit {
                let Some((number, _, code)) = gone.next()? else { break };
                page.next = number;
                while live.peek().is_some_and(|pending| pending < number) {
                    live.next()?;
                }
                // An event that is live through another room is delivered, not lost.
                if live.peek() == Some(number) {
                    continue;
                }
                let reason = reason(code)?;
                match last.and_then(|(from, of)| ranges.get_mut(&from).filter(|_| of == reason)) {
                    Some(gap) => {
                        gap.to = number;
                        gap.events = gap.events.map(|events| events + 1);
                    }
                    None => {
                        ranges.insert(number, Gap { from: number, to: number, events: Some(1), reason });
                        last = Some((number, reason));
                    }
                }
            }
            page.has_more = gone.peek().is_some();
            page.gaps.extend(ranges.into_values());
            page.gaps.sort_unstable_by_key(|gap| (gap.from, gap.to, gap.reason));
            Ok(page)
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

/// The range of a room in which removed events are not remembered one by one.
fn lost_range(connection: &Connection, source: &Source, after: u64) -> rusqlite::Result<Option<Gap>> {
    let Source { subscription, start, floor, lost_to, .. } = *source;
    let from = start.max(floor) + 1;
    if lost_to < from || lost_to <= after {
        return Ok(None);
    }
    let sql = "SELECT 1 FROM acked WHERE subscription = ?1 AND first <= ?2 AND last >= ?2";
    if connection.prepare_cached(sql)?.exists([subscription, i(lost_to)])? {
        return Ok(None);
    }
    Ok(Some(Gap { from, to: lost_to, events: None, reason: GapReason::Trimmed }))
}

fn reason(code: i64) -> rusqlite::Result<GapReason> {
    GapReason::from_code(code).ok_or(rusqlite::Error::IntegralValueOutOfRange(0, code))
}

/// Active and expired subscribers.
const SUBSCRIBERS: &str = "SELECT namespace, name, created_at, seen_at, dead_letters, NULL AS expired_at, id FROM subscriber \
     WHERE name IS NOT NULL UNION ALL SELECT namespace, name, created_at, seen_at, 0, expired_at, 0 FROM expired_subscriber";

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
