//! Subscriptions, and what each has handled: a floor and ranges above it.

use std::collections::{BTreeSet, HashMap};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Result, SqliteStore, from_sql, to_sql};

/// A row of the table `subscription`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) id: i64,
    pub(super) subscriber: i64,
    pub(super) room: i64,
    /// Events after it belong to the subscription.
    pub(super) start: u64,
    /// The newest event when the subscription began.
    pub(super) joined: u64,
    /// Events in `(counted, joined]` do not count the subscription yet.
    pub(super) counted: u64,
    /// Events up to here are handled.
    pub(super) floor: u64,
    /// Events up to here do not count the subscription any more. Below `floor` only while work is
    /// left.
    pub(super) dropped: u64,
    /// The newest event when the subscription ended.
    pub(super) ended: Option<u64>,
    /// The subscriber knows that events of the room up to here may be lost.
    pub(super) lost_confirmed: u64,
}

impl Subscription {
    pub(super) const COLUMNS: &'static str =
        "id, subscriber, room, start, joined, counted, floor, dropped, ended, lost_confirmed";

    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let number = |at| row.get(at).map(from_sql);
        Ok(Self {
            id: row.get(0)?,
            subscriber: row.get(1)?,
            room: row.get(2)?,
            start: number(3)?,
            joined: number(4)?,
            counted: number(5)?,
            floor: number(6)?,
            dropped: number(7)?,
            ended: row.get::<_, Option<i64>>(8)?.map(from_sql),
            lost_confirmed: number(9)?,
        })
    }

    /// True if the subscription counts in the event's row, unless it acknowledged the event.
    pub(super) fn holds(&self, number: u64) -> bool {
        number > self.dropped
            && self.ended.is_none_or(|ended| number <= ended)
            && (number <= self.counted || number > self.joined)
    }

    pub(super) fn is_counting(&self) -> bool {
        self.ended.is_none() && self.counted < self.joined
    }
}

/// Subscriptions read or changed in one commit.
#[derive(Default)]
pub(super) struct SubscriptionCache {
    by_id: HashMap<i64, Subscription>,
    /// The subscription of a subscriber and a room that has not ended.
    active: HashMap<(i64, i64), Option<i64>>,
    dirty: BTreeSet<i64>,
}

impl SubscriptionCache {
    /// Writes and forgets all.
    pub(super) fn write_back(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if !self.dirty.is_empty() {
            let sql = "UPDATE subscription SET counted = ?2, floor = ?3, dropped = ?4, ended = ?5, lost_confirmed = ?6 WHERE id = ?1";
            let mut update = connection.prepare_cached(sql)?;
            for id in std::mem::take(&mut self.dirty) {
                if let Some(Subscription { counted, floor, dropped, ended, lost_confirmed, .. }) = self.by_id.get(&id) {
                    let [counted, floor, dropped, lost_confirmed] =
                        [*counted, *floor, *dropped, *lost_confirmed].map(to_sql);
                    update.execute(params![id, counted, floor, dropped, ended.map(to_sql), lost_confirmed])?;
                }
            }
        }
        self.by_id.clear();
        self.active.clear();
        Ok(())
    }
}

impl SqliteStore {
    pub(super) fn insert_subscription(&mut self, new: Subscription) -> Result<Subscription> {
        let sql = "INSERT INTO subscription (subscriber, room, start, joined, counted, floor, dropped) VALUES (?, ?, ?, ?, ?, ?, ?)";
        let Subscription { subscriber, room, start, joined, counted, floor, dropped, .. } = new;
        let numbers = [start, joined, counted, floor, dropped].map(to_sql);
        let mut insert = self.connection.prepare_cached(sql)?;
        insert.execute(params![subscriber, room, numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]])?;
        drop(insert);
        let new = Subscription { id: self.connection.last_insert_rowid(), ..new };
        self.subscriptions.active.insert((subscriber, room), Some(new.id));
        self.subscriptions.by_id.insert(new.id, new);
        Ok(new)
    }

    pub(super) fn active_subscription(&mut self, subscriber: i64, room: i64) -> Result<Option<Subscription>> {
        if let Some(id) = self.subscriptions.active.get(&(subscriber, room)) {
            return Ok(id.and_then(|id| self.subscriptions.by_id.get(&id)).copied());
        }
        let sql = format!(
            "SELECT {} FROM subscription WHERE room = ? AND subscriber = ? AND ended IS NULL",
            Subscription::COLUMNS
        );
        let mut select = self.connection.prepare_cached(&sql)?;
        let found = select.query_row([room, subscriber], Subscription::read).optional()?;
        drop(select);
        self.subscriptions.active.insert((subscriber, room), found.map(|found| found.id));
        if let Some(found) = found {
            self.subscriptions.by_id.insert(found.id, found);
        }
        Ok(found)
    }

    /// All subscriptions of a subscriber that have not ended.
    pub(super) fn active_subscriptions(&mut self, subscriber: i64) -> Result<Vec<Subscription>> {
        self.subscriptions.write_back(&self.connection)?;
        let sql = format!("SELECT {} FROM subscription WHERE subscriber = ? AND ended IS NULL", Subscription::COLUMNS);
        let mut select = self.connection.prepare_cached(&sql)?;
        let found = select.query_map([subscriber], Subscription::read)?.collect::<rusqlite::Result<_>>()?;
        Ok(found)
    }

    /// Keeps a changed subscription; it is written with the commit.
    pub(super) fn save(&mut self, subscription: Subscription) {
        let Subscription { id, subscriber, room, ended, .. } = subscription;
        if ended.is_none() {
            self.subscriptions.active.insert((subscriber, room), Some(id));
        } else if self.subscriptions.active.get(&(subscriber, room)) == Some(&Some(id)) {
            self.subscriptions.active.insert((subscriber, room), None);
        }
        self.subscriptions.by_id.insert(id, subscription);
        self.subscriptions.dirty.insert(id);
    }

    /// Ends a subscription: it counts no longer for new events, and in steps for the others.
    pub(super) fn end_subscription(&mut self, mut subscription: Subscription) -> Result<()> {
        let is_counting = subscription.is_counting();
        subscription.ended = Some(self.counters.head);
        self.change_room(subscription.room, |room| {
            room.subscribers = room.subscribers.saturating_sub(1);
            room.counting = room.counting.saturating_sub(u64::from(is_counting));
        })?;
        self.rooms.distinct.clear();
        self.save(subscription);
        self.work.subscriptions = true;
        Ok(())
    }

    /// The range of acknowledged events that begins at or before a number.
    fn range_before(&self, subscription: i64, number: u64) -> Result<Option<(u64, u64)>> {
        let sql = "SELECT first, last FROM acked WHERE subscription = ? AND first <= ? ORDER BY first DESC LIMIT 1";
        let mut select = self.connection.prepare_cached(sql)?;
        let range =
            select.query_row([subscription, to_sql(number)], |row| Ok((from_sql(row.get(0)?), from_sql(row.get(1)?))));
        Ok(range.optional()?)
    }

    /// True if an event is in a stored range. Ranges below the floor stay until `dropped` has
    /// passed them.
    pub(super) fn is_in_range(&self, subscription: &Subscription, number: u64) -> Result<bool> {
        Ok(self.range_before(subscription.id, number)?.is_some_and(|(_, last)| number <= last))
    }

    pub(super) fn is_handled(&self, subscription: &Subscription, number: u64) -> Result<bool> {
        Ok(number <= subscription.floor || self.is_in_range(subscription, number)?)
    }

    /// The first row of a subscription that it has not handled, in `(floor, up_to]`.
    pub(super) fn first_open(&self, subscription: &Subscription, up_to: u64) -> Result<Option<u64>> {
        let mut after = subscription.floor;
        loop {
            let Some(number) = self.rows_between(subscription.room, after, up_to, 1)?.first().copied() else {
                return Ok(None);
            };
            match self.range_before(subscription.id, number)? {
                Some((_, last)) if number <= last => after = last,
                _ => return Ok(Some(number)),
            }
        }
    }

    /// Adds an event to what a subscription has handled. The event's row no longer counts the
    /// subscription.
    pub(super) fn add_handled(&mut self, mut subscription: Subscription, number: u64) -> Result<()> {
        let Subscription { id, room, floor, .. } = subscription;
        let before = self.range_before(id, number)?.filter(|(_, last)| *last > floor);
        let sql = "SELECT first, last FROM acked WHERE subscription = ? AND first > ? ORDER BY first LIMIT 1";
        let behind = self
            .connection
            .prepare_cached(sql)?
            .query_row([id, to_sql(number)], |row| Ok((from_sql(row.get(0)?), from_sql(row.get(1)?))))
            .optional()?;
        let behind = match behind {
            Some((first, last)) if !self.has_row_between(room, number, first)? => Some((first, last)),
            _ => None,
        };
        let last = behind.map_or(number, |(_, last)| last);
        if let Some((first, _)) = behind {
            self.delete_range(id, first)?;
        }
        let joins = !self.has_row_between(room, before.map_or(floor, |(_, last)| last), number)?;
        match before {
            Some((first, _)) if joins => {
                let sql = "UPDATE acked SET last = ? WHERE subscription = ? AND first = ?";
                self.connection.prepare_cached(sql)?.execute([to_sql(last), id, to_sql(first)])?;
            }
            // While `dropped` is below the floor, rows up to the floor are still subtracted unless
            // they are in a range.
            None if joins && subscription.dropped == floor => {
                subscription.floor = last;
                subscription.dropped = last;
                self.save(subscription);
            }
            _ => {
                let sql = "INSERT INTO acked (subscription, first, last) VALUES (?, ?, ?)";
                self.connection.prepare_cached(sql)?.execute([id, to_sql(number), to_sql(last)])?;
            }
        }
        Ok(())
    }

    pub(super) fn delete_range(&mut self, subscription: i64, first: u64) -> Result<()> {
        let sql = "DELETE FROM acked WHERE subscription = ? AND first = ?";
        self.connection.prepare_cached(sql)?.execute([subscription, to_sql(first)])?;
        Ok(())
    }

    /// After `dropped` has reached the floor: ranges up to the floor are not needed, and one that
    /// adjoins it raises it.
    pub(super) fn merge_ranges_into_floor(&mut self, mut subscription: Subscription) -> Result<Subscription> {
        loop {
            let sql = "SELECT first, last FROM acked WHERE subscription = ? ORDER BY first LIMIT 1";
            let mut select = self.connection.prepare_cached(sql)?;
            let range = select
                .query_row([subscription.id], |row| Ok((from_sql(row.get(0)?), from_sql(row.get(1)?))))
                .optional()?;
            drop(select);
            match range {
                Some((first, last))
                    if first <= subscription.floor
                        || !self.has_row_between(subscription.room, subscription.floor, first)? =>
                {
                    self.delete_range(subscription.id, first)?;
                    subscription.floor = subscription.floor.max(last);
                    subscription.dropped = subscription.floor;
                }
                _ => return Ok(subscription),
            }
        }
    }
}
