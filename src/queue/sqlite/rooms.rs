//! Rooms, their rows of events, and the freeing and removal of events.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::event::decode_rooms;
use super::{Result, SqliteStore, from_sql, to_sql};
use crate::ids::{NamespacePath, RoomName};
use crate::queue::limits::{FutureTimes, RetentionRule, StoreLimits};
use crate::queue::record::GapReason;

/// Rooms kept in memory between commits, about 200 bytes each.
const CACHED_ROOMS_MAX: usize = 16_384;

/// Rooms of all sets for which the number of distinct subscribers is kept, 8 bytes each.
const DISTINCT_ROOMS_MAX: usize = 1 << 18;

/// A row of the table `room`.
#[derive(Debug, Clone)]
pub(super) struct Room {
    pub(super) id: i64,
    pub(super) namespace: String,
    pub(super) name: String,
    /// The room is one subscriber's, for its replayed dead letters.
    pub(super) is_own: bool,
    /// Subscriptions that have not ended.
    pub(super) subscribers: u64,
    /// Subscriptions to the past that are not counted completely.
    pub(super) counting: u64,
    pub(super) events: u64,
    pub(super) bytes: u64,
    /// Removed events that some subscriber has not confirmed.
    pub(super) gone: u64,
    /// The newest event that was freed, with or without trace.
    pub(super) removed_to: u64,
    /// The newest removed event that became part of a range.
    pub(super) lost_to: u64,
    pub(super) purging: Option<u64>,
    is_dirty: bool,
}

impl Room {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let number = |at| row.get(at).map(from_sql);
        Ok(Self {
            id: row.get(0)?,
            namespace: row.get(1)?,
            name: row.get(2)?,
            is_own: row.get(3)?,
            subscribers: number(4)?,
            counting: number(5)?,
            events: number(6)?,
            bytes: number(7)?,
            gone: number(8)?,
            removed_to: number(9)?,
            lost_to: number(10)?,
            purging: row.get::<_, Option<i64>>(11)?.map(from_sql),
            is_dirty: false,
        })
    }
}

/// Rooms by id and by name. What changes is written once a commit.
#[derive(Default)]
pub(super) struct RoomCache {
    by_id: HashMap<i64, Room>,
    by_name: HashMap<(String, String, bool), i64>,
    dirty: Vec<i64>,
    pub(super) distinct: DistinctCounts,
}

/// Distinct subscribers of sets of rooms, until a subscription changes.
#[derive(Default)]
pub(super) struct DistinctCounts {
    counts: HashMap<Vec<i64>, u64>,
    /// Rooms of all sets.
    rooms: usize,
}

impl DistinctCounts {
    pub(super) fn get(&self, rooms: &[i64]) -> Option<u64> {
        self.counts.get(rooms).copied()
    }

    pub(super) fn insert(&mut self, rooms: Vec<i64>, count: u64) {
        if self.rooms + rooms.len() > DISTINCT_ROOMS_MAX {
            self.clear();
        }
        self.rooms += rooms.len();
        self.counts.insert(rooms, count);
    }

    pub(super) fn clear(&mut self) {
        self.counts.clear();
        self.rooms = 0;
    }
}

impl RoomCache {
    pub(super) fn write_back(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if !self.dirty.is_empty() {
            let sql = "UPDATE room SET subscribers = ?2, counting = ?3, events = ?4, bytes = ?5, gone = ?6, removed_to = ?7, \
                       lost_to = ?8, purging = ?9 WHERE id = ?1";
            let mut update = connection.prepare_cached(sql)?;
            for id in self.dirty.drain(..) {
                if let Some(room) = self.by_id.get_mut(&id) {
                    room.is_dirty = false;
                    let [subscribers, counting, events, bytes, gone, removed_to, lost_to] = [
                        room.subscribers,
                        room.counting,
                        room.events,
                        room.bytes,
                        room.gone,
                        room.removed_to,
                        room.lost_to,
                    ]
                    .map(to_sql);
                    update.execute(params![
                        id,
                        subscribers,
                        counting,
                        events,
                        bytes,
                        gone,
                        removed_to,
                        lost_to,
                        room.purging.map(to_sql)
                    ])?;
                }
            }
        }
        if self.by_id.len() > CACHED_ROOMS_MAX {
            self.by_id.clear();
            self.by_name.clear();
        }
        Ok(())
    }

    fn insert(&mut self, room: Room) {
        self.by_name.insert((room.namespace.clone(), room.name.clone(), room.is_own), room.id);
        self.by_id.insert(room.id, room);
    }

    fn remove(&mut self, id: i64) {
        if let Some(room) = self.by_id.remove(&id) {
            self.by_name.remove(&(room.namespace, room.name, room.is_own));
        }
    }
}

/// Rooms with a retention rule, and the one that expiry continues with.
#[derive(Default)]
pub(super) struct RuledRooms {
    rules: BTreeMap<i64, RetentionRule>,
    /// Rooms whose oldest event has a time in the future.
    pub(super) future: HashMap<i64, FutureTimes>,
    pub(super) next: i64,
}

impl RuledRooms {
    pub(super) fn load(connection: &Connection, limits: &StoreLimits) -> rusqlite::Result<Self> {
        let mut ruled = Self::default();
        if !limits.retention.is_empty() {
            let mut select = connection.prepare("SELECT id, name FROM room WHERE own = 0")?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                if let Some(rule) = limits.rule(row.get_ref(1)?.as_str()?) {
                    ruled.rules.insert(row.get(0)?, rule.clone());
                }
            }
        }
        Ok(ruled)
    }

    pub(super) fn get(&self, room: i64) -> Option<&RetentionRule> {
        self.rules.get(&room)
    }

    pub(super) fn from(&self, room: i64, limit: usize) -> Vec<i64> {
        self.rules.range(room..).take(limit).map(|(room, _)| *room).collect()
    }
}

/// Outcome of subtracting or removing a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowKind {
    Live,
    Gone,
}

impl SqliteStore {
    /// The room with this id. A row of an event or of a subscription names only rooms that exist.
    pub(super) fn room(&mut self, id: i64) -> Result<&mut Room> {
        if !self.rooms.by_id.contains_key(&id) {
            let mut select = self.connection.prepare_cached("SELECT * FROM room WHERE id = ?")?;
            let room = select.query_row([id], Room::read)?;
            drop(select);
            self.rooms.insert(room);
        }
        self.rooms.by_id.get_mut(&id).ok_or_else(|| rusqlite::Error::QueryReturnedNoRows.into())
    }

    /// Changes a room; the change is written with the commit.
    pub(super) fn change_room(&mut self, id: i64, change: impl FnOnce(&mut Room)) -> Result<()> {
        let room = self.room(id)?;
        change(room);
        if !room.is_dirty {
            room.is_dirty = true;
            self.rooms.dirty.push(id);
        }
        Ok(())
    }

    pub(super) fn find_room(&mut self, namespace: &str, name: &str, is_own: bool) -> Result<Option<i64>> {
        let key = (namespace.to_owned(), name.to_owned(), is_own);
        if let Some(id) = self.rooms.by_name.get(&key) {
            return Ok(Some(*id));
        }
        let sql = "SELECT * FROM room WHERE namespace = ? AND name = ? AND own = ?";
        let mut select = self.connection.prepare_cached(sql)?;
        let room = select.query_row(params![namespace, name, is_own], Room::read).optional()?;
        drop(select);
        Ok(room.map(|room| {
            let id = room.id;
            self.rooms.insert(room);
            id
        }))
    }

    pub(super) fn find_or_create_room(
        &mut self,
        namespace: &NamespacePath,
        room: &RoomName,
        is_own: bool,
    ) -> Result<i64> {
        let (namespace, name) = (namespace.as_str(), room.as_str());
        if let Some(id) = self.find_room(namespace, name, is_own)? {
            return Ok(id);
        }
        // The history of a former room of this name is lost.
        let removed_to = self.counters.removed_to;
        let sql = "INSERT INTO room (namespace, name, own, subscribers, counting, events, bytes, gone, removed_to, lost_to) \
                   VALUES (?, ?, ?, 0, 0, 0, 0, 0, ?, 0)";
        self.connection.prepare_cached(sql)?.execute(params![namespace, name, is_own, to_sql(removed_to)])?;
        let id = self.connection.last_insert_rowid();
        if !is_own && let Some(rule) = self.limits.rule(name) {
            self.ruled.rules.insert(id, rule.clone());
        }
        self.rooms.insert(Room {
            id,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            is_own,
            subscribers: 0,
            counting: 0,
            events: 0,
            bytes: 0,
            gone: 0,
            removed_to,
            lost_to: 0,
            purging: None,
            is_dirty: false,
        });
        Ok(id)
    }

    /// Removes a room without events, gaps and subscriptions.
    pub(super) fn remove_room(&mut self, id: i64) -> Result<()> {
        let removed_to = self.room(id)?.removed_to;
        self.counters.removed_to = self.counters.removed_to.max(removed_to);
        self.connection.prepare_cached("DELETE FROM room WHERE id = ?")?.execute([id])?;
        self.rooms.remove(id);
        self.rooms.dirty.retain(|dirty| *dirty != id);
        self.ruled.rules.remove(&id);
        self.ruled.future.remove(&id);
        Ok(())
    }

    /// The kind and count of a room's row for an event.
    pub(super) fn row(&self, room: i64, number: u64) -> Result<Option<(RowKind, u64)>> {
        for (kind, sql) in [
            (RowKind::Live, "SELECT remaining FROM event_room WHERE room = ? AND number = ?"),
            (RowKind::Gone, "SELECT remaining FROM gone WHERE room = ? AND number = ?"),
        ] {
            let mut select = self.connection.prepare_cached(sql)?;
            if let Some(remaining) = select.query_row([room, to_sql(number)], |row| row.get(0)).optional()? {
                return Ok(Some((kind, from_sql(remaining))));
            }
        }
        Ok(None)
    }

    /// Numbers of a room's rows, live and gone, in `(after, up_to]`.
    pub(super) fn rows_between(&self, room: i64, after: u64, up_to: u64, limit: usize) -> Result<Vec<u64>> {
        let sql = "SELECT number FROM (SELECT number FROM event_room WHERE room = ?1 AND number > ?2 AND number <= ?3 \
                   ORDER BY number LIMIT ?4) UNION SELECT number FROM (SELECT number FROM gone WHERE room = ?1 AND \
                   number > ?2 AND number <= ?3 ORDER BY number LIMIT ?4) ORDER BY number LIMIT ?4";
        Ok(self.numbers(sql, &[room, to_sql(after), to_sql(up_to), limit as i64])?)
    }

    /// True if a room has a row, live or gone, in `(after, before)`.
    pub(super) fn has_row_between(&self, room: i64, after: u64, before: u64) -> Result<bool> {
        if before <= after + 1 {
            return Ok(false);
        }
        for sql in [
            "SELECT 1 FROM event_room WHERE room = ? AND number > ? AND number < ? LIMIT 1",
            "SELECT 1 FROM gone WHERE room = ? AND number > ? AND number < ? LIMIT 1",
        ] {
            if self.connection.prepare_cached(sql)?.exists([room, to_sql(after), to_sql(before)])? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One subscription of the room has handled the event.
    pub(super) fn subtract(&mut self, room: i64, number: u64) -> Result<()> {
        let Some((kind, remaining)) = self.row(room, number)? else {
            return Ok(());
        };
        if remaining <= 1 && self.is_freeable(room, number, kind)? {
            return self.free(room, number, kind);
        }
        self.set_remaining(room, number, kind, remaining.saturating_sub(1))
    }

    /// A subscription of the room counts from now on for the event.
    pub(super) fn add(&mut self, room: i64, number: u64) -> Result<()> {
        match self.row(room, number)? {
            Some((kind, remaining)) => self.set_remaining(room, number, kind, remaining + 1),
            None => Ok(()),
        }
    }

    fn set_remaining(&mut self, room: i64, number: u64, kind: RowKind, remaining: u64) -> Result<()> {
        self.unclaimed.remove(number);
        let sql = match kind {
            RowKind::Live => "UPDATE event_room SET remaining = ? WHERE room = ? AND number = ?",
            RowKind::Gone => "UPDATE gone SET remaining = ? WHERE room = ? AND number = ?",
        };
        self.connection.prepare_cached(sql)?.execute([to_sql(remaining), room, to_sql(number)])?;
        Ok(())
    }

    /// Frees a row that nobody waits for.
    pub(super) fn free_if_handled(&mut self, room: i64, number: u64) -> Result<()> {
        match self.row(room, number)? {
            Some((kind, 0)) if self.is_freeable(room, number, kind)? => self.free(room, number, kind),
            _ => Ok(()),
        }
    }

    /// True if a row that no subscription counts for may be freed.
    fn is_freeable(&mut self, room: i64, number: u64, kind: RowKind) -> Result<bool> {
        // Replayed dead letters are not revealed.
        let is_unrevealed = number > self.counters.revealed && !self.room(room)?.is_own;
        let is_needed = kind == RowKind::Live && (is_unrevealed || self.ruled.get(room).is_some());
        Ok(!is_needed && !self.is_held(room, number)?)
    }

    /// True while a subscription to the past has still to be counted for the event.
    fn is_held(&mut self, room: i64, number: u64) -> Result<bool> {
        if self.room(room)?.counting == 0 {
            return Ok(false);
        }
        // Subscriptions changed in this commit are written first.
        self.subscriptions.write_back(&self.connection)?;
        let sql = "SELECT 1 FROM subscription WHERE room = ?1 AND ended IS NULL AND counted < joined AND counted < ?2 \
                   AND joined >= ?2";
        Ok(self.connection.prepare_cached(sql)?.exists([room, to_sql(number)])?)
    }

    fn free(&mut self, room: i64, number: u64, kind: RowKind) -> Result<()> {
        match kind {
            RowKind::Live => self.delete_live_row(room, number)?,
            RowKind::Gone => self.delete_gone_row(room, number)?,
        }
        self.change_room(room, |room| room.removed_to = room.removed_to.max(number))
    }

    fn delete_gone_row(&mut self, room: i64, number: u64) -> Result<()> {
        let sql = "DELETE FROM gone WHERE room = ? AND number = ?";
        self.connection.prepare_cached(sql)?.execute([room, to_sql(number)])?;
        self.change_room(room, |room| room.gone = room.gone.saturating_sub(1))
    }

    /// Deletes a row, and the event with its last row.
    fn delete_live_row(&mut self, room: i64, number: u64) -> Result<()> {
        self.unclaimed.remove(number);
        let sql = "DELETE FROM event_room WHERE room = ? AND number = ?";
        self.connection.prepare_cached(sql)?.execute([room, to_sql(number)])?;
        let event = self.event_rooms(number)?;
        let bytes = event.as_ref().map_or(0, |event| event.bytes);
        self.change_room(room, |room| {
            room.events = room.events.saturating_sub(1);
            // The bytes of damaged events are not known.
            room.bytes = if room.events == 0 { 0 } else { room.bytes.saturating_sub(bytes) };
        })?;
        // An event whose rooms are unknown stays until it is removed as damaged.
        let Some(rooms) = event.and_then(|event| event.rooms) else { return Ok(()) };
        // Most rows are freed in the order of this list, so the last ones are still there.
        for other in rooms.into_iter().rev() {
            if other != room {
                let sql = "SELECT 1 FROM event_room WHERE room = ? AND number = ?";
                if self.connection.prepare_cached(sql)?.exists([other, to_sql(number)])? {
                    return Ok(());
                }
            }
        }
        self.delete_event(number, bytes)
    }

    fn delete_event(&mut self, number: u64, bytes: u64) -> Result<()> {
        let deleted =
            self.connection.prepare_cached("DELETE FROM event WHERE number = ?")?.execute([to_sql(number)])?;
        self.connection.prepare_cached("DELETE FROM attempt WHERE number = ?")?.execute([to_sql(number)])?;
        if deleted > 0 {
            self.counters.events = self.counters.events.saturating_sub(1);
            self.counters.bytes = self.counters.bytes.saturating_sub(bytes);
        }
        Ok(())
    }

    /// Removes an event from all rooms that have it, also if the list of them is damaged. Returns
    /// the number of rooms.
    pub(super) fn remove_event(&mut self, number: u64, reason: GapReason) -> Result<usize> {
        let event = self.event_rooms(number)?;
        let bytes = event.as_ref().map_or(0, |event| event.bytes);
        let known = event.and_then(|event| event.rooms);
        let is_damaged = known.is_none();
        let rooms = match known {
            Some(rooms) => rooms,
            None => {
                let rooms = self.numbers("SELECT room FROM event_room WHERE number = ?", &[to_sql(number)])?;
                rooms.into_iter().map(to_sql).collect()
            }
        };
        for room in &rooms {
            self.remove_row(*room, number, reason)?;
        }
        if is_damaged {
            self.delete_event(number, bytes)?;
            self.recount()?;
        }
        Ok(rooms.len())
    }

    /// Removes an event from a room. Subscriptions that have not handled it get a gap.
    pub(super) fn remove_row(&mut self, room: i64, number: u64, reason: GapReason) -> Result<()> {
        let Some((RowKind::Live, remaining)) = self.row(room, number)? else {
            return Ok(());
        };
        if remaining == 0 && !self.is_held(room, number)? {
            return self.free(room, number, RowKind::Live);
        }
        self.delete_live_row(room, number)?;
        self.delete_idle_attempts(number)?;
        self.work.has_new_gaps = true;
        let sql = "INSERT INTO gone (room, number, remaining, reason) VALUES (?, ?, ?, ?)";
        self.connection.prepare_cached(sql)?.execute([room, to_sql(number), to_sql(remaining), reason.code()])?;
        let gaps_max = self.limits.gaps_per_room_max;
        self.change_room(room, |room| room.gone += 1)?;
        if self.room(room)?.gone > gaps_max {
            let sql = "SELECT min(number) FROM gone WHERE room = ?";
            let oldest = from_sql(self.connection.prepare_cached(sql)?.query_row([room], |row| row.get(0))?);
            self.delete_gone_row(room, oldest)?;
            self.change_room(room, |room| {
                room.lost_to = room.lost_to.max(oldest);
                room.removed_to = room.removed_to.max(oldest);
            })?;
        }
        Ok(())
    }

    /// Counts events and bytes, since those of damaged events are not known.
    fn recount(&mut self) -> Result<()> {
        let sql = "SELECT count(*), total(bytes), (SELECT total(bytes) FROM dead_letter) FROM event";
        let (events, bytes) = self.connection.query_row(sql, [], |row| {
            Ok((row.get(0).map(from_sql)?, (row.get::<_, f64>(1)? + row.get::<_, f64>(2)?) as u64))
        })?;
        (self.counters.events, self.counters.bytes) = (events, bytes);
        Ok(())
    }

    /// Rooms and bytes of a stored event.
    pub(super) fn event_rooms(&self, number: u64) -> Result<Option<EventRooms>> {
        let mut select = self.connection.prepare_cached("SELECT rooms, bytes FROM event WHERE number = ?")?;
        let event = select.query_row([to_sql(number)], |row| {
            let rooms = row.get_ref(0)?.as_blob().ok().and_then(|rooms| decode_rooms(number, rooms));
            Ok(EventRooms { rooms, bytes: row.get(1).map_or(0, from_sql) })
        });
        Ok(event.optional()?)
    }
}

/// Rooms and bytes of an event.
pub(super) struct EventRooms {
    /// None if they are damaged.
    pub(super) rooms: Option<Vec<i64>>,
    pub(super) bytes: u64,
}
