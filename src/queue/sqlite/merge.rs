//! Open rows of all subscriptions of a subscriber, merged in order of their numbers.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use rusqlite::{Connection, params};

use super::event::load_rooms;
use super::read::{reason, room_name};
use super::{from_sql, to_sql};
use crate::ids::RoomName;
use crate::queue::record::{Gap, GapReason};

/// Rows of a room that are read ahead when rooms are merged.
const READ_AHEAD_MIN: usize = 4;
const READ_AHEAD_MAX: usize = 256;

/// Acknowledged ranges that are read at a time.
const RANGES_STEP: usize = 256;

/// A subscription as a reader sees it, or a room.
pub(super) struct Source {
    /// `None` for a room, of which no event is handled.
    pub(super) subscription: Option<i64>,
    pub(super) room: i64,
    pub(super) name: RoomName,
    pub(super) start: u64,
    pub(super) floor: u64,
    pub(super) lost_to: u64,
    pub(super) lost_confirmed: u64,
}

impl Source {
    pub(super) fn room(room: i64, name: RoomName) -> Self {
        Self { subscription: None, room, name, start: 0, floor: 0, lost_to: 0, lost_confirmed: 0 }
    }

    /// The range of the room in which removed events are not remembered one by one, as far as the
    /// subscriber has not confirmed it.
    pub(super) fn lost_range(&self) -> Option<Gap> {
        let Self { start, floor, lost_to, lost_confirmed, .. } = *self;
        let from = start.max(floor).max(lost_confirmed) + 1;
        (from <= lost_to).then_some(Gap { from, to: lost_to, events: None, reason: GapReason::Trimmed })
    }
}

/// Open rows of one subscription, in order.
struct Cursor<'a> {
    source: &'a Source,
    sql: &'static str,
    after: u64,
    read_ahead: usize,
    rows: VecDeque<(u64, i64)>,
    /// Some acknowledged ranges that end after `after`, in order.
    ranges: VecDeque<(u64, u64)>,
    /// No further ranges are stored.
    are_ranges_read: bool,
}

pub(super) const LIVE_ROWS: &str =
    "SELECT number, 0 FROM event_room WHERE room = ? AND number > ? ORDER BY number LIMIT ?";
pub(super) const GONE_ROWS: &str =
    "SELECT number, reason FROM gone WHERE room = ? AND number > ? ORDER BY number LIMIT ?";

impl Cursor<'_> {
    /// The next row that the subscription has not handled, with the reason of its removal.
    fn next(&mut self, connection: &Connection) -> rusqlite::Result<Option<(u64, i64)>> {
        loop {
            if self.rows.is_empty() {
                let mut select = connection.prepare_cached(self.sql)?;
                let values = params![self.source.room, to_sql(self.after), self.read_ahead as i64];
                let rows = select.query_map(values, |row| Ok((from_sql(row.get(0)?), row.get(1)?)))?;
                self.rows = rows.collect::<rusqlite::Result<_>>()?;
            }
            let Some((number, reason)) = self.rows.pop_front() else { return Ok(None) };
            self.after = number;
            self.skip_ranges(connection, number)?;
            match self.ranges.front() {
                Some((first, last)) if number >= *first => {
                    // The rows of the range are not read.
                    self.after = *last;
                    self.rows.retain(|(number, _)| number > last);
                }
                _ => return Ok(Some((number, reason))),
            }
        }
    }
}

impl Cursor<'_> {
    /// Passes ranges that end before a number, and reads further ones.
    fn skip_ranges(&mut self, connection: &Connection, number: u64) -> rusqlite::Result<()> {
        loop {
            while self.ranges.front().is_some_and(|(_, last)| *last < number) {
                self.ranges.pop_front();
            }
            if self.are_ranges_read || !self.ranges.is_empty() {
                return Ok(());
            }
            let sql = "SELECT first, last FROM acked WHERE subscription = ?1 AND first >= coalesce( \
                       (SELECT max(first) FROM acked WHERE subscription = ?1 AND first <= ?2), ?2) ORDER BY first LIMIT ?3";
            let mut select = connection.prepare_cached(sql)?;
            let values = params![self.source.subscription, to_sql(number), RANGES_STEP as i64];
            let ranges = select.query_map(values, |row| Ok((from_sql(row.get(0)?), from_sql(row.get(1)?))))?;
            self.ranges = ranges.collect::<rusqlite::Result<_>>()?;
            self.are_ranges_read = self.ranges.len() < RANGES_STEP;
        }
    }
}

/// Open rows of all subscriptions of a subscriber, merged by number.
pub(super) struct Merged<'a> {
    connection: &'a Connection,
    cursors: Vec<Cursor<'a>>,
    heads: BinaryHeap<Reverse<(u64, &'a RoomName, usize, i64)>>,
}

impl<'a> Merged<'a> {
    pub(super) fn new(
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
            let (rows, ranges) = (VecDeque::new(), VecDeque::new());
            let are_ranges_read = source.subscription.is_none();
            merged.cursors.push(Cursor { source, sql, after, read_ahead, rows, ranges, are_ranges_read });
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

    pub(super) fn peek(&self) -> Option<u64> {
        self.heads.peek().map(|Reverse((number, ..))| *number)
    }

    /// The next number, once, with the first of its rooms.
    pub(super) fn next(&mut self) -> rusqlite::Result<Option<(u64, RoomName, i64)>> {
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

/// An event that was removed before the subscriber handled it.
pub(super) struct RemovedEvent {
    pub(super) number: u64,
    pub(super) reason: GapReason,
    /// An event is pending between this one and the removed one before it.
    pub(super) is_apart: bool,
}

/// Removed events of a subscriber in order. An event that is pending through another room is
/// delivered, not lost.
pub(super) struct Removed<'a> {
    gone: Merged<'a>,
    live: Merged<'a>,
}

impl<'a> Removed<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        sources: &'a [Source],
        after: u64,
        limit: usize,
    ) -> rusqlite::Result<Self> {
        let gone = Merged::new(connection, sources, GONE_ROWS, after, limit)?;
        Ok(Self { gone, live: Merged::new(connection, sources, LIVE_ROWS, after, limit)? })
    }

    pub(super) fn next(&mut self) -> rusqlite::Result<Option<RemovedEvent>> {
        let mut is_apart = false;
        while let Some((number, _, code)) = self.gone.next()? {
            while self.live.peek().is_some_and(|pending| pending < number) {
                self.live.next()?;
                is_apart = true;
            }
            if self.live.peek() != Some(number) {
                return Ok(Some(RemovedEvent { number, reason: reason(code)?, is_apart }));
            }
        }
        Ok(None)
    }

    pub(super) fn has_more(&self) -> bool {
        self.gone.peek().is_some()
    }
}

/// The first of some rooms through which an event is pending.
fn pending_room_of<'a>(
    connection: &Connection,
    sources: &'a [Source],
    rooms: &[i64],
    number: u64,
) -> rusqlite::Result<Option<&'a RoomName>> {
    for room in rooms {
        let Some(source) = sources.iter().find(|source| source.room == *room && source.floor < number) else {
            continue;
        };
        let sql = "SELECT 1 FROM event_room WHERE room = ?1 AND number = ?2 AND NOT EXISTS \
                   (SELECT 1 FROM acked WHERE subscription = ?3 AND first <= ?2 AND last >= ?2)";
        if connection.prepare_cached(sql)?.exists(params![room, to_sql(number), source.subscription])? {
            return Ok(Some(&source.name));
        }
    }
    Ok(None)
}

/// The first room through which an event is pending. Its payload is not read. The rooms of a
/// damaged event are not known: all are tried.
pub(super) fn pending_room<'a>(
    connection: &Connection,
    sources: &'a [Source],
    number: u64,
) -> rusqlite::Result<Option<&'a RoomName>> {
    let all = || sources.iter().map(|source| source.room).collect();
    let rooms: Vec<i64> = load_rooms(connection, number)?.unwrap_or_else(all);
    pending_room_of(connection, sources, &rooms, number)
}

pub(super) fn sources(connection: &Connection, subscriber: i64) -> rusqlite::Result<Vec<Source>> {
    let sql = "SELECT subscription.id, room, name, start, floor, lost_to, lost_confirmed FROM subscription JOIN room ON room.id = room \
               WHERE subscriber = ? AND ended IS NULL";
    let mut select = connection.prepare_cached(sql)?;
    let rows = select.query_map([subscriber], |row| {
        Ok(Source {
            subscription: row.get(0)?,
            room: row.get(1)?,
            name: room_name(row.get_ref(2)?.as_str()?)?,
            start: from_sql(row.get(3)?),
            floor: from_sql(row.get(4)?),
            lost_to: from_sql(row.get(5)?),
            lost_confirmed: from_sql(row.get(6)?),
        })
    })?;
    rows.collect()
}
