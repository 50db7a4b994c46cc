//! Subscribers and their subscriptions: creation, end, removal.

use rusqlite::{OptionalExtension, params};

use super::subscriptions::Subscription;
use super::{Result, SqliteStore, from_sql, to_sql};
use crate::ids::RoomName;
use crate::queue::change::{Outcome, Refusal, StartPosition};
use crate::queue::record::{Gap, GapReason, SubscriberKey, UnixMillis};

impl SqliteStore {
    pub(super) fn find_subscriber(&self, key: &SubscriberKey) -> Result<Option<i64>> {
        let sql = "SELECT id FROM subscriber WHERE namespace = ? AND name = ?";
        let mut select = self.connection.prepare_cached(sql)?;
        Ok(select.query_row([key.namespace.as_str(), key.name.as_str()], |row| row.get(0)).optional()?)
    }

    /// The id of a subscriber, or why it has none.
    pub(super) fn subscriber(&self, key: &SubscriberKey) -> Result<i64> {
        if let Some(id) = self.find_subscriber(key)? {
            return Ok(id);
        }
        Err(match self.find_expired(key)? {
            Some(at) => Refusal::SubscriberExpired { at }.into(),
            None => Refusal::UnknownSubscriber.into(),
        })
    }

    fn find_expired(&self, key: &SubscriberKey) -> Result<Option<UnixMillis>> {
        let sql = "SELECT expired_at FROM expired_subscriber WHERE namespace = ? AND name = ?";
        let mut select = self.connection.prepare_cached(sql)?;
        let at = select.query_row([key.namespace.as_str(), key.name.as_str()], |row| row.get(0)).optional()?;
        Ok(at.map(|at| UnixMillis(from_sql(at))))
    }

    pub(super) fn create_subscriber(&mut self, key: &SubscriberKey, now: UnixMillis) -> Result<Outcome> {
        if self.find_subscriber(key)?.is_some() {
            self.touch(key, now)?;
            return Ok(Outcome::Created { is_new: false, expired_at: None });
        }
        let limit = self.limits.subscribers_max;
        if self.counters.subscribers >= limit {
            return Err(Refusal::TooManySubscribers { limit }.into());
        }
        let names = [key.namespace.as_str(), key.name.as_str()];
        let expired_at = self.find_expired(key)?;
        if expired_at.is_some() {
            let sql = "DELETE FROM expired_subscriber WHERE namespace = ? AND name = ?";
            self.connection.prepare_cached(sql)?.execute(names)?;
        }
        let sql = "INSERT INTO subscriber (namespace, name, created_at, seen_at, dead_letters, sent_up_to) \
                   VALUES (?, ?, ?, ?, 0, 0)";
        self.connection.prepare_cached(sql)?.execute(params![names[0], names[1], to_sql(now.0), to_sql(now.0)])?;
        self.counters.subscribers += 1;
        Ok(Outcome::Created { is_new: true, expired_at })
    }

    /// Creates a subscriber for a caller that may not pass on what had expired. It becomes a gap.
    pub(super) fn recreate_subscriber(&mut self, key: &SubscriberKey, now: UnixMillis) -> Result<Outcome> {
        let outcome = self.create_subscriber(key, now)?;
        let head = self.counters.head;
        if matches!(outcome, Outcome::Created { expired_at: Some(_), .. }) && head > 0 {
            let gap = Gap { from: 1, to: head, events: None, reason: GapReason::NotRetained };
            self.add_gap(self.subscriber(key)?, gap)?;
        }
        Ok(outcome)
    }

    pub(super) fn attach(&mut self, key: &SubscriberKey, create: bool, now: UnixMillis) -> Result<Outcome> {
        if !create {
            self.subscriber(key)?;
        }
        let Outcome::Created { is_new, expired_at } = self.create_subscriber(key, now)? else {
            return Err(Refusal::UnknownSubscriber.into());
        };
        let id = self.subscriber(key)?;
        let mut select = self.connection.prepare_cached("SELECT sent_up_to FROM subscriber WHERE id = ?")?;
        let sent_up_to: Option<i64> = select.query_row([id], |row| row.get(0))?;
        if sent_up_to.is_some() {
            self.connection.prepare_cached("UPDATE subscriber SET sent_up_to = NULL WHERE id = ?")?.execute([id])?;
        }
        Ok(Outcome::Attached { is_new, expired_at, sent_up_to: sent_up_to.map(from_sql) })
    }

    pub(super) fn detach(&self, key: &SubscriberKey, sent_up_to: u64, now: UnixMillis) -> Result<Outcome> {
        let id = self.subscriber(key)?;
        let sql = "UPDATE subscriber SET sent_up_to = ?2, seen_at = max(seen_at, ?3) WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute([id, to_sql(sent_up_to), to_sql(now.0)])?;
        Ok(Outcome::Done)
    }

    pub(super) fn detach_all(&self) -> Result<Outcome> {
        let sql = "UPDATE subscriber SET sent_up_to = ? WHERE sent_up_to IS NULL AND name IS NOT NULL";
        self.connection.prepare_cached(sql)?.execute([to_sql(self.counters.head)])?;
        Ok(Outcome::Done)
    }

    pub(super) fn touch(&mut self, key: &SubscriberKey, seen_at: UnixMillis) -> Result<Outcome> {
        let id = self.subscriber(key)?;
        let sql = "UPDATE subscriber SET seen_at = ?2 WHERE id = ?1 AND seen_at < ?2";
        self.connection.prepare_cached(sql)?.execute([id, to_sql(seen_at.0)])?;
        Ok(Outcome::Done)
    }

    pub(super) fn subscribe(&mut self, key: &SubscriberKey, room: &RoomName, from: StartPosition) -> Result<Outcome> {
        let subscriber = self.subscriber(key)?;
        let head = self.counters.head;
        let after = match from {
            StartPosition::Now => head,
            StartPosition::After(offset) if offset.epoch != self.epoch => return Err(Refusal::ForeignEpoch.into()),
            StartPosition::After(offset) if offset.number > head => {
                return Err(Refusal::BeyondHead { number: offset.number, head }.into());
            }
            StartPosition::After(offset) => offset.number,
        };
        if let Some(room) = self.find_room(key.namespace.as_str(), room.as_str(), false)?
            && let Some(existing) = self.active_subscription(subscriber, room)?
        {
            return Ok(Outcome::Subscribed { after: existing.start, is_new: false });
        }
        let limit = self.limits.subscriptions_per_subscriber_max;
        if self.count_subscriptions(subscriber)? >= limit {
            return Err(Refusal::TooManySubscriptions { limit }.into());
        }
        let room = self.find_or_create_room(&key.namespace, room, false)?;
        let removed_to = self.room(room)?.removed_to;
        if after < removed_to {
            let gap = Gap { from: after + 1, to: removed_to, events: None, reason: GapReason::NotRetained };
            self.add_gap(subscriber, gap)?;
        }
        self.begin_subscription(subscriber, room, after)?;
        Ok(Outcome::Subscribed { after, is_new: true })
    }

    /// Subscriptions that count for the bound: not the one to the subscriber's own room.
    fn count_subscriptions(&mut self, subscriber: i64) -> Result<u64> {
        self.subscriptions.write_back(&self.connection)?;
        let sql = "SELECT count(*) FROM subscription JOIN room ON room.id = subscription.room \
                   WHERE subscriber = ? AND ended IS NULL AND own = 0";
        Ok(from_sql(self.connection.prepare_cached(sql)?.query_row([subscriber], |row| row.get(0))?))
    }

    pub(super) fn begin_subscription(&mut self, subscriber: i64, room: i64, after: u64) -> Result<()> {
        let joined = self.counters.head;
        let new = Subscription {
            id: 0,
            subscriber,
            room,
            start: after,
            joined,
            counted: after,
            floor: after,
            dropped: after,
            ended: None,
            lost_confirmed: 0,
        };
        let new = self.insert_subscription(new)?;
        self.rooms.distinct.clear();
        self.work.subscriptions |= new.is_counting();
        self.change_room(room, |room| {
            room.subscribers += 1;
            room.counting += u64::from(new.is_counting());
        })
    }

    pub(super) fn unsubscribe(&mut self, key: &SubscriberKey, room: &RoomName) -> Result<Outcome> {
        let subscriber = self.subscriber(key)?;
        if let Some(room) = self.find_room(key.namespace.as_str(), room.as_str(), false)?
            && let Some(subscription) = self.active_subscription(subscriber, room)?
        {
            self.end_subscription(subscription)?;
        }
        Ok(Outcome::Done)
    }

    pub(super) fn remove_subscriber(&mut self, key: &SubscriberKey) -> Result<Outcome> {
        let id = self.subscriber(key)?;
        self.remove_subscriber_by_id(id)?;
        Ok(Outcome::Done)
    }

    /// Ends all subscriptions; the name is free immediately, and the rest goes in steps.
    pub(super) fn remove_subscriber_by_id(&mut self, id: i64) -> Result<()> {
        for subscription in self.active_subscriptions(id)? {
            self.end_subscription(subscription)?;
        }
        self.connection.prepare_cached("DELETE FROM gap WHERE subscriber = ?")?.execute([id])?;
        self.connection
            .prepare_cached("UPDATE subscriber SET namespace = NULL, name = NULL WHERE id = ?")?
            .execute([id])?;
        self.counters.subscribers = self.counters.subscribers.saturating_sub(1);
        self.work.subscribers = true;
        Ok(())
    }

    /// Adds a range to the gaps that a subscriber has for its reason.
    pub(super) fn add_gap(&mut self, subscriber: i64, new: Gap) -> Result<()> {
        let reason = new.reason;
        self.work.has_new_gaps = true;
        let sql = "SELECT first, last, events FROM gap WHERE subscriber = ? AND reason = ? ORDER BY first";
        let mut select = self.connection.prepare_cached(sql)?;
        let rows = select.query_map([subscriber, reason.code()], |row| {
            let events = row.get::<_, Option<i64>>(2)?.map(from_sql);
            Ok(Gap { from: from_sql(row.get(0)?), to: from_sql(row.get(1)?), events, reason })
        })?;
        let before: Vec<Gap> = rows.collect::<rusqlite::Result<_>>()?;
        let mut after = before.clone();
        new.add_to(&mut after);
        for gap in before.iter().filter(|gap| !after.contains(gap)) {
            let sql = "DELETE FROM gap WHERE subscriber = ? AND reason = ? AND first = ?";
            self.connection.prepare_cached(sql)?.execute([subscriber, reason.code(), to_sql(gap.from)])?;
        }
        for gap in after.iter().filter(|gap| !before.contains(gap)) {
            let sql = "INSERT INTO gap (subscriber, reason, first, last, events) VALUES (?, ?, ?, ?, ?)";
            let values = params![subscriber, reason.code(), to_sql(gap.from), to_sql(gap.to), gap.events.map(to_sql)];
            self.connection.prepare_cached(sql)?.execute(values)?;
        }
        Ok(())
    }
}
