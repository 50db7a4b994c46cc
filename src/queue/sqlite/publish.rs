//! Publishing: numbers, deduplication, bounds, rows.

use rusqlite::params;

use super::event::{Checked, encode_payload, encode_rooms};
use super::{Result, SqliteStore, to_sql};
use crate::queue::change::{Outcome, Publish, Refusal};
use crate::queue::limits::TRIMMED_MAX;
use crate::queue::record::{GapReason, NUMBER_END, Payload, PublishReceipt, QueueOffset, UnixMillis, event_bytes};

/// An event about to be stored in rooms that exist.
pub(super) struct NewEvent<'a> {
    pub(super) rooms: Vec<i64>,
    pub(super) payload: &'a Payload,
    pub(super) origin: &'a [u8],
    pub(super) expires_at: Option<UnixMillis>,
    pub(super) replay_of: Option<u64>,
    /// Name of the room to report, of a replayed dead letter.
    pub(super) via: Option<&'a str>,
    pub(super) at: UnixMillis,
}

impl SqliteStore {
    pub(super) fn publish(&mut self, publish: &Publish, now: UnixMillis) -> Result<Outcome> {
        publish.check(&self.limits)?;
        let namespace = publish.namespace.as_str();
        if let Some(dedup) = &publish.dedup {
            if let Some(receipt) = self.find_dedup(namespace, dedup, now)? {
                return Ok(Outcome::Published(receipt));
            }
            let (found, limit) = (self.dedup.len(), self.limits.dedup_ids_max);
            if found >= limit {
                return Err(Refusal::Overloaded { what: "dedup_ids", found, limit }.into());
            }
        }
        let rooms = publish.distinct_rooms();
        let bytes = event_bytes(&publish.payload, &publish.origin, rooms.len());
        let (found, limit) = (self.counters.bytes + bytes, self.limits.high_water_bytes());
        if found > limit {
            return Err(Refusal::Overloaded { what: "bytes", found, limit }.into());
        }
        self.check_head()?;
        let rooms: Vec<i64> = rooms
            .into_iter()
            .map(|room| self.find_or_create_room(&publish.namespace, room, false))
            .collect::<Result<_>>()?;
        let pending_for = self.distinct_subscribers(&rooms)?;
        let number = self.insert_event(NewEvent {
            rooms: rooms.clone(),
            payload: &publish.payload,
            origin: &publish.origin,
            expires_at: publish.expiry(),
            replay_of: None,
            via: None,
            at: now,
        })?;
        if let Some(dedup) = &publish.dedup {
            self.insert_dedup(namespace, dedup, number, pending_for, now)?;
        }
        for room in rooms {
            self.trim_to_rule(room, TRIMMED_MAX)?;
        }
        let offset = QueueOffset { epoch: self.epoch, number };
        Ok(Outcome::Published(PublishReceipt { offset, duplicate: false, pending_for, published_at: now }))
    }

    pub(super) fn check_head(&self) -> Result<(), Refusal> {
        if self.counters.head + 1 >= NUMBER_END { Err(Refusal::Exhausted) } else { Ok(()) }
    }

    /// Stores an event under the next number.
    pub(super) fn insert_event(&mut self, event: NewEvent<'_>) -> Result<u64> {
        let number = self.counters.head + 1;
        let bytes = event_bytes(event.payload, event.origin, event.rooms.len());
        let rooms = encode_rooms(number, &event.rooms);
        let (attachments, payload) = encode_payload(event.payload);
        let crc = Checked {
            number,
            rooms: &rooms,
            at: event.at,
            expires_at: event.expires_at,
            replay_of: event.replay_of,
            via: event.via,
            origin: event.origin,
            attachments,
            payload: &payload,
        }
        .crc();
        let sql = "INSERT INTO event (number, rooms, bytes, at, expires_at, replay_of, via, crc, origin, attachments, payload) \
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        self.connection.prepare_cached(sql)?.execute(params![
            to_sql(number),
            rooms,
            to_sql(bytes),
            to_sql(event.at.0),
            event.expires_at.map(|at| to_sql(at.0)),
            event.replay_of.map(to_sql),
            event.via,
            crc,
            event.origin,
            attachments,
            payload
        ])?;
        self.rows_written += event.rooms.len();
        let mut is_claimed = false;
        for room in &event.rooms {
            let (room, subscribers) = (*room, self.room(*room)?.subscribers);
            is_claimed |= subscribers > 0;
            let sql = "INSERT INTO event_room (room, number, remaining) VALUES (?, ?, ?)";
            self.connection.prepare_cached(sql)?.execute([room, to_sql(number), to_sql(subscribers)])?;
            self.change_room(room, |room| {
                room.events += 1;
                room.bytes += bytes;
            })?;
        }
        if !is_claimed {
            self.unclaimed.insert(number, event.rooms, bytes);
        }
        self.counters.head = number;
        self.counters.events += 1;
        self.counters.bytes += bytes;
        Ok(number)
    }

    /// Subscribers with a subscription to one of these rooms.
    fn distinct_subscribers(&mut self, rooms: &[i64]) -> Result<u64> {
        let mut with_subscribers = Vec::new();
        for room in rooms {
            if self.room(*room)?.subscribers > 0 {
                with_subscribers.push(*room);
            }
        }
        match with_subscribers[..] {
            [] => return Ok(0),
            [room] => return Ok(self.room(room)?.subscribers),
            _ => {}
        }
        if let Some(count) = self.rooms.distinct.get(&with_subscribers) {
            return Ok(count);
        }
        self.subscriptions.write_back(&self.connection)?;
        let mut subscribers = std::collections::HashSet::new();
        let mut select =
            self.connection.prepare_cached("SELECT subscriber FROM subscription WHERE room = ? AND ended IS NULL")?;
        for room in &with_subscribers {
            let mut rows = select.query([room])?;
            while let Some(row) = rows.next()? {
                subscribers.insert(row.get::<_, i64>(0)?);
            }
        }
        drop(select);
        let count = subscribers.len() as u64;
        self.rooms.distinct.insert(with_subscribers, count);
        Ok(count)
    }

    /// Removes the oldest events of a room that exceeds its rule, at most so many. Returns how many
    /// were removed.
    pub(super) fn trim_to_rule(&mut self, room: i64, limit: usize) -> Result<usize> {
        for removed in 0..limit {
            let (events, bytes) = {
                let room = self.room(room)?;
                (room.events, room.bytes)
            };
            let rule = self.ruled.get(room);
            if !rule.is_some_and(|rule| events > 1 && rule.is_exceeded(events, bytes)) {
                return Ok(removed);
            }
            match self.oldest_event(room)? {
                Some(number) if number <= self.counters.revealed => {
                    self.remove_row(room, number, GapReason::Trimmed)?;
                }
                _ => return Ok(removed),
            }
        }
        Ok(limit)
    }

    pub(super) fn oldest_event(&self, room: i64) -> Result<Option<u64>> {
        let sql = "SELECT min(number) FROM event_room WHERE room = ?";
        let number: Option<i64> = self.connection.prepare_cached(sql)?.query_row([room], |row| row.get(0))?;
        Ok(number.map(super::from_sql))
    }

    pub(super) fn reveal(&mut self, up_to: u64) -> Outcome {
        self.counters.revealed = self.counters.revealed.max(up_to.min(self.counters.head));
        self.work.sweep = true;
        Outcome::Done
    }
}
