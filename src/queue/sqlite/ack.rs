//! Handling of events by subscribers: acknowledgements, dead letters, failed deliveries; purging
//! and damage.

use rusqlite::{OptionalExtension, params};

use super::event::{DEAD_LETTER, Stored, dead_letter_crc, encode_payload, load_event, read_dead_letter};
use super::merge::{Removed, sources};
use super::publish::NewEvent;
use super::read::room_name;
use super::rooms::RowKind;
use super::subscriptions::Subscription;
use super::{Result, SqliteStore, from_sql, schema, to_sql};
use crate::ids::{NamespacePath, RoomName};
use crate::queue::change::{
    ACKED_MAX, DEAD_REMOVED_MAX, Outcome, REPLAYED_BYTES_MAX, REPLAYED_MAX, Refusal, cut_reason,
};
use crate::queue::limits::StoreLimits;
use crate::queue::record::{DeadLetter, Gap, GapReason, SubscriberKey, UnixMillis, event_bytes};

/// Attempts for an event (`?1`) of subscribers for which it is not pending.
const DELETE_IDLE_ATTEMPTS: &str = "DELETE FROM attempt WHERE number = ?1 AND NOT EXISTS (SELECT 1 FROM subscription WHERE \
    subscription.subscriber = attempt.subscriber AND ended IS NULL AND floor < ?1 AND EXISTS (SELECT 1 FROM event_room WHERE \
    event_room.room = subscription.room AND event_room.number = ?1) AND NOT EXISTS (SELECT 1 FROM acked WHERE \
    acked.subscription = subscription.id AND first <= ?1 AND last >= ?1))";

impl SqliteStore {
    /// The subscriptions through which an event is open for a subscriber, in order of room names.
    fn open_through(&mut self, subscriber: i64, number: u64) -> Result<Vec<(Subscription, RowKind)>> {
        let rooms = match self.event_rooms(number)?.and_then(|event| event.rooms) {
            Some(rooms) => rooms,
            // Only gaps are left of it, or its rooms are damaged.
            None => {
                let rooms = self.numbers("SELECT room FROM gone WHERE number = ?", &[to_sql(number)])?;
                rooms.into_iter().map(to_sql).collect()
            }
        };
        let mut open = Vec::new();
        for room in rooms {
            let Some(subscription) = self.active_subscription(subscriber, room)? else { continue };
            if !self.is_handled(&subscription, number)?
                && let Some((kind, _)) = self.row(subscription.room, number)?
            {
                open.push((subscription, kind));
            }
        }
        Ok(open)
    }

    /// Marks an event as handled through these subscriptions.
    fn handle(&mut self, subscriber: i64, number: u64, open: Vec<(Subscription, RowKind)>) -> Result<()> {
        for (subscription, _) in open {
            if subscription.holds(number) {
                self.subtract(subscription.room, number)?;
            }
            self.add_handled(subscription, number)?;
        }
        let sql = "DELETE FROM attempt WHERE subscriber = ? AND number = ?";
        self.connection.prepare_cached(sql)?.execute([subscriber, to_sql(number)])?;
        Ok(())
    }

    pub(super) fn ack(&mut self, key: &SubscriberKey, numbers: &[u64]) -> Result<Outcome> {
        let subscriber = self.subscriber(key)?;
        if numbers.len() > ACKED_MAX {
            return Err(Refusal::TooManyNumbers { numbers: numbers.len() }.into());
        }
        // `make torture-planted` compiles this bug in, to check that the torture test finds it.
        #[cfg(stentor_planted_bug)]
        let numbers = &numbers.iter().flat_map(|n| [*n, n + u64::from(n.is_multiple_of(20))]).collect::<Vec<_>>()[..];
        let mut events = 0;
        for number in numbers {
            let open = self.open_through(subscriber, *number)?;
            if !open.is_empty() {
                self.handle(subscriber, *number, open)?;
                events += 1;
            }
        }
        Ok(Outcome::Acked { events })
    }

    fn check_number(&self, number: u64) -> Result<(), Refusal> {
        let head = self.counters.head;
        if number > head { Err(Refusal::BeyondHead { number, head }) } else { Ok(()) }
    }

    pub(super) fn ack_up_to(&mut self, key: &SubscriberKey, up_to: u64) -> Result<Outcome> {
        let subscriber = self.subscriber(key)?;
        self.check_number(up_to)?;
        self.raise_floors(subscriber, up_to)?;
        Ok(Outcome::Done)
    }

    /// All up to a number is handled; rows are subtracted in steps.
    fn raise_floors(&mut self, subscriber: i64, up_to: u64) -> Result<()> {
        for mut subscription in self.active_subscriptions(subscriber)? {
            if subscription.floor < up_to {
                subscription.floor = up_to;
                self.save(subscription);
                self.work.subscriptions = true;
            }
        }
        let sql = "DELETE FROM attempt WHERE subscriber = ? AND number <= ?";
        self.connection.prepare_cached(sql)?.execute([subscriber, to_sql(up_to)])?;
        Ok(())
    }

    pub(super) fn ack_gaps(&mut self, key: &SubscriberKey, gaps: &[Gap]) -> Result<Outcome> {
        let subscriber = self.subscriber(key)?;
        let mut left = ACKED_MAX as u64;
        for gap in gaps {
            if self.delete_gap(subscriber, gap)? {
                continue;
            }
            let events = gap.events.unwrap_or(1).max(1);
            if events > left {
                break;
            }
            left -= events;
            self.subscriptions.write_back(&self.connection)?;
            match gap.events {
                Some(events) => self.ack_removed(subscriber, gap, events)?,
                None if gap.reason == GapReason::Trimmed => self.ack_lost(subscriber, gap.from, gap.to)?,
                None => {}
            }
        }
        Ok(Outcome::Done)
    }

    /// Returns false if no such range is stored.
    fn delete_gap(&self, subscriber: i64, gap: &Gap) -> Result<bool> {
        let Gap { from, to, events, reason } = *gap;
        let sql = "DELETE FROM gap WHERE subscriber = ? AND reason = ? AND first = ? AND last = ? AND events IS ?";
        let values = params![subscriber, reason.code(), to_sql(from), to_sql(to), events.map(to_sql)];
        Ok(self.connection.prepare_cached(sql)?.execute(values)? > 0)
    }

    /// Confirms removed events of a range, if there are not more than were reported.
    fn ack_removed(&mut self, subscriber: i64, gap: &Gap, events: u64) -> Result<()> {
        let (after, limit) = (gap.from.saturating_sub(1), (events as usize).saturating_add(1));
        let sources = sources(&self.connection, subscriber)?;
        let mut removed = Removed::new(&self.connection, &sources, after, limit)?;
        let mut numbers = Vec::new();
        while let Some(event) = removed.next()?.filter(|event| event.number <= gap.to) {
            if event.reason == gap.reason {
                numbers.push(event.number);
            }
            if numbers.len() as u64 > events {
                return Ok(());
            }
        }
        drop(removed);
        for number in numbers {
            let mut open = self.open_through(subscriber, number)?;
            open.retain(|(_, kind)| *kind == RowKind::Gone);
            self.handle(subscriber, number, open)?;
        }
        Ok(())
    }

    fn ack_lost(&mut self, subscriber: i64, from: u64, to: u64) -> Result<()> {
        for mut subscription in self.active_subscriptions(subscriber)? {
            let known_to = subscription.start.max(subscription.floor).max(subscription.lost_confirmed);
            let confirmed = to.min(self.room(subscription.room)?.lost_to);
            if from <= known_to + 1 && confirmed > known_to {
                subscription.lost_confirmed = confirmed;
                self.save(subscription);
            }
        }
        Ok(())
    }

    /// The subscriptions through which an event is pending.
    fn pending_through(&mut self, subscriber: i64, number: u64) -> Result<Vec<(Subscription, RowKind)>> {
        let open = self.open_through(subscriber, number)?;
        if open.iter().any(|(_, kind)| *kind == RowKind::Live) {
            Ok(open)
        } else {
            Err(Refusal::NotPending { number }.into())
        }
    }

    pub(super) fn delivery_failed(
        &mut self,
        key: &SubscriberKey,
        number: u64,
        attempts: u32,
        alone: bool,
        retry_at: UnixMillis,
    ) -> Result<Outcome> {
        let subscriber = self.subscriber(key)?;
        self.pending_through(subscriber, number)?;
        let sql =
            "INSERT OR REPLACE INTO attempt (subscriber, number, attempts, alone, retry_at) VALUES (?, ?, ?, ?, ?)";
        let values = params![subscriber, to_sql(number), attempts, alone, to_sql(retry_at.0)];
        self.connection.prepare_cached(sql)?.execute(values)?;
        Ok(Outcome::Done)
    }

    /// Deletes failed deliveries of an event to subscribers for which it is not pending any more.
    pub(super) fn delete_idle_attempts(&self, number: u64) -> Result<()> {
        self.connection.prepare_cached(DELETE_IDLE_ATTEMPTS)?.execute([to_sql(number)])?;
        Ok(())
    }

    /// Deletes failed deliveries of an event to one subscriber, unless it is pending for it.
    pub(super) fn delete_idle_attempts_of(&self, subscriber: i64, number: u64) -> Result<()> {
        let sql = format!("{DELETE_IDLE_ATTEMPTS} AND subscriber = ?2");
        self.connection.prepare_cached(&sql)?.execute([to_sql(number), subscriber])?;
        Ok(())
    }

    pub(super) fn term(
        &mut self,
        key: &SubscriberKey,
        number: u64,
        attempts: Option<u32>,
        reason: &str,
        now: UnixMillis,
    ) -> Result<Outcome> {
        let subscriber = self.subscriber(key)?;
        let open = self.pending_through(subscriber, number)?;
        let Stored::Event(event) = load_event(&self.connection, number)? else {
            return Err(Refusal::NotPending { number }.into());
        };
        let room =
            open.iter().find(|(_, kind)| *kind == RowKind::Live).map_or(0, |(subscription, _)| subscription.room);
        let room = match event.via {
            Some(via) => via,
            None => self.room(room)?.name.clone(),
        };
        let sql = "SELECT attempts FROM attempt WHERE subscriber = ? AND number = ?";
        let mut select = self.connection.prepare_cached(sql)?;
        let stored: Option<u32> = select.query_row([subscriber, to_sql(number)], |row| row.get(0)).optional()?;
        drop(select);
        // A subscription to the past may bring an event back that was given up before.
        let sql = "SELECT 1 FROM dead_letter WHERE subscriber = ? AND number = ?";
        if self.connection.prepare_cached(sql)?.exists([subscriber, to_sql(number)])? {
            self.delete_dead_letter(subscriber, number)?;
        }
        let dead = DeadLetter {
            number,
            room: room_name(&room)?,
            published_at: event.at,
            origin: event.origin,
            payload: event.payload,
            attempts: attempts.or(stored).unwrap_or(0),
            reason: cut_reason(reason).to_owned(),
            dead_at: now,
        };
        let bytes = event_bytes(&dead.payload, &dead.origin, 1);
        let (attachments, payload) = encode_payload(&dead.payload);
        let sql = "INSERT INTO dead_letter (subscriber, number, room, bytes, dead_at, at, attempts, reason, origin, attachments, \
                   payload, crc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        self.connection.prepare_cached(sql)?.execute(params![
            subscriber,
            to_sql(number),
            room,
            to_sql(bytes),
            to_sql(now.0),
            to_sql(event.at.0),
            dead.attempts,
            dead.reason,
            &dead.origin[..],
            attachments,
            payload,
            dead_letter_crc(&dead, attachments, &payload)
        ])?;
        self.counters.dead_letters += 1;
        self.counters.bytes += bytes;
        self.handle(subscriber, number, open)?;
        let sql = "UPDATE subscriber SET dead_letters = dead_letters + 1 WHERE id = ? RETURNING dead_letters";
        let count = from_sql(self.connection.prepare_cached(sql)?.query_row([subscriber], |row| row.get(0))?);
        for removed in 0..count.min(DEAD_REMOVED_MAX as u64) {
            let StoreLimits { dead_letters_max, queue_bytes_max, .. } = self.limits;
            if count - removed <= dead_letters_max && self.counters.bytes <= queue_bytes_max {
                break;
            }
            let sql = "SELECT min(number) FROM dead_letter WHERE subscriber = ?";
            let oldest = from_sql(self.connection.prepare_cached(sql)?.query_row([subscriber], |row| row.get(0))?);
            self.delete_dead_letter(subscriber, oldest)?;
            let gap = Gap { from: oldest, to: oldest, events: Some(1), reason: GapReason::TooManyDead };
            self.add_gap(subscriber, gap)?;
        }
        Ok(Outcome::Done)
    }

    pub(super) fn delete_dead_letter(&mut self, subscriber: i64, number: u64) -> Result<()> {
        let sql = "DELETE FROM dead_letter WHERE subscriber = ? AND number = ? RETURNING bytes";
        let bytes =
            from_sql(self.connection.prepare_cached(sql)?.query_row([subscriber, to_sql(number)], |row| row.get(0))?);
        let sql = "UPDATE subscriber SET dead_letters = dead_letters - 1 WHERE id = ?";
        self.connection.prepare_cached(sql)?.execute([subscriber])?;
        self.counters.dead_letters = self.counters.dead_letters.saturating_sub(1);
        self.counters.bytes = self.counters.bytes.saturating_sub(bytes);
        Ok(())
    }

    /// Publishes dead letters in a room that only their subscriber has.
    pub(super) fn replay_dead(
        &mut self,
        key: &SubscriberKey,
        numbers: Option<&[u64]>,
        now: UnixMillis,
    ) -> Result<Outcome> {
        let (subscriber, is_all) = (self.subscriber(key)?, numbers.is_none());
        let numbers: Vec<u64> = match numbers {
            Some(numbers) if numbers.len() > ACKED_MAX => {
                return Err(Refusal::TooManyNumbers { numbers: numbers.len() }.into());
            }
            Some(numbers) => numbers.to_vec(),
            None => {
                let sql = "SELECT number FROM dead_letter WHERE subscriber = ? ORDER BY number LIMIT ?";
                self.numbers(sql, &[subscriber, REPLAYED_MAX as i64 + 1])?
            }
        };
        let (mut events, mut bytes, mut has_more) = (Vec::new(), 0, is_all && numbers.len() > REPLAYED_MAX);
        for number in numbers {
            if events.len() >= REPLAYED_MAX || bytes >= REPLAYED_BYTES_MAX {
                has_more = true;
                break;
            }
            let sql = format!("SELECT {DEAD_LETTER} WHERE subscriber = ? AND number = ?");
            let found = self.connection.prepare_cached(&sql)?.query_row([subscriber, to_sql(number)], read_dead_letter);
            let Some((_, letter)) = found.optional()? else { continue };
            let Ok(dead) = letter else {
                self.delete_dead_letter(subscriber, number)?;
                let gap = Gap { from: number, to: number, events: Some(1), reason: GapReason::Damaged };
                self.add_gap(subscriber, gap)?;
                continue;
            };
            self.check_head()?;
            let room = self.own_room(key, subscriber)?;
            let new = self.insert_event(NewEvent {
                rooms: vec![room],
                payload: &dead.payload,
                origin: &dead.origin,
                expires_at: None,
                replay_of: Some(number),
                via: Some(dead.room.as_str()),
                at: now,
            })?;
            self.delete_dead_letter(subscriber, number)?;
            bytes += dead.payload.bytes();
            events.push((number, new));
        }
        Ok(Outcome::Replayed { events, has_more })
    }

    fn own_room(&mut self, key: &SubscriberKey, subscriber: i64) -> Result<i64> {
        // Subscriber names are bounded as room names are.
        let Ok(name) = RoomName::parse(key.name.as_str()) else {
            return Err(Refusal::UnknownSubscriber.into());
        };
        let room = self.find_or_create_room(&key.namespace, &name, true)?;
        if self.active_subscription(subscriber, room)?.is_none() {
            self.begin_subscription(subscriber, room, self.counters.head)?;
        }
        Ok(room)
    }

    pub(super) fn purge_subscriber(&mut self, key: &SubscriberKey, up_to: u64) -> Result<Outcome> {
        let subscriber = self.subscriber(key)?;
        let up_to = up_to.min(self.counters.head);
        let mut first = None;
        for subscription in self.active_subscriptions(subscriber)? {
            let open = self.first_open(&subscription, up_to)?;
            first = match (first, open) {
                (Some(first), Some(open)) => Some(u64::min(first, open)),
                (first, open) => first.or(open),
            };
        }
        if let Some(from) = first {
            self.raise_floors(subscriber, up_to)?;
            self.add_gap(subscriber, Gap { from, to: up_to, events: None, reason: GapReason::Purged })?;
        }
        Ok(Outcome::Done)
    }

    pub(super) fn purge_room(&mut self, namespace: &NamespacePath, room: &RoomName, up_to: u64) -> Result<Outcome> {
        let up_to = up_to.min(self.counters.head);
        if let Some(room) = self.find_room(namespace.as_str(), room.as_str(), false)? {
            self.change_room(room, |room| {
                room.purging = Some(room.purging.map_or(up_to, |purging| purging.max(up_to)))
            })?;
            self.work.purges.insert(room);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn remove_damaged(&mut self, number: u64) -> Result<Outcome> {
        // SQLite ends a transaction that has met a damaged page: another connection looks.
        let reader = schema::open_read_only(self.path())?;
        let stored = match load_event(&reader, number)? {
            Stored::Missing => load_event(&self.connection, number)?,
            stored => stored,
        };
        if matches!(stored, Stored::Event(_)) {
            return Err(Refusal::NotDamaged { number }.into());
        }
        let rooms = self.remove_event(number, GapReason::Damaged)?;
        if rooms == 0 && matches!(stored, Stored::Missing) {
            return Err(Refusal::NotDamaged { number }.into());
        }
        Ok(Outcome::Done)
    }
}
