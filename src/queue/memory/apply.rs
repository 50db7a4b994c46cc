//! Changes, applied to the state in memory.

use std::collections::BTreeSet;

use super::{Attempts, DedupEntry, Room, RoomKey, State, StoredEvent, Subscriber, Subscription};
use crate::ids::{NamespacePath, RoomName};
use crate::queue::change::{ACKED_MAX, Acked, Change, Outcome, Publish, Refusal, StartPosition};
use crate::queue::limits::{TRIMMED_MAX, has_passed};
use crate::queue::record::{
    GapReason, NUMBER_END, PublishReceipt, QueueOffset, SubscriberKey, UnixMillis, event_bytes,
};

pub(super) type Result<T, E = Refusal> = std::result::Result<T, E>;

impl State {
    pub(super) fn apply(&mut self, change: &Change, now: UnixMillis) -> Result<Outcome> {
        match change {
            Change::Publish(publish) => return self.publish(publish, now),
            Change::Revealed { up_to } => self.reveal(*up_to),
            Change::CreateSubscriber { subscriber } => return self.recreate_subscriber(subscriber, now),
            Change::Attach { subscriber, create } => return self.attach(subscriber, *create, now),
            Change::Detach { subscriber, sent_up_to } => {
                let subscriber = self.subscriber(subscriber)?;
                subscriber.sent_up_to = Some(*sent_up_to);
                subscriber.seen_at = subscriber.seen_at.max(now);
            }
            Change::DetachAll => {
                let head = self.head;
                self.subscribers.values_mut().for_each(|subscriber| {
                    subscriber.sent_up_to.get_or_insert(head);
                });
            }
            Change::Subscribe { subscriber, room, from } => return self.subscribe(subscriber, room, *from),
            Change::Unsubscribe { subscriber, room } => {
                self.subscriber(subscriber)?;
                self.end_subscription(subscriber, &shared(&subscriber.namespace, room));
            }
            Change::Ack { subscriber, events: Acked::Numbers(numbers) } => {
                self.subscriber(subscriber)?;
                if numbers.len() > ACKED_MAX {
                    return Err(Refusal::TooManyNumbers { numbers: numbers.len() });
                }
                let events = numbers.iter().filter(|number| self.handle(subscriber, **number, false)).count() as u64;
                return Ok(Outcome::Acked { events });
            }
            Change::Ack { subscriber, events: Acked::UpTo(up_to) } => {
                self.subscriber(subscriber)?;
                self.check_number(*up_to)?;
                self.handle_up_to(subscriber, *up_to);
            }
            Change::AckGaps { subscriber, gaps } => self.ack_gaps(subscriber, gaps)?,
            Change::Term { subscriber, number, attempts, reason } => {
                return self.term(subscriber, *number, *attempts, reason, now);
            }
            Change::DeliveryFailed { subscriber, number, attempts, alone, retry_at } => {
                self.subscriber(subscriber)?;
                self.pending_room(subscriber, *number)?;
                let attempt = Attempts { attempts: *attempts, alone: *alone, retry_at: *retry_at };
                self.subscriber(subscriber)?.attempts.insert(*number, attempt);
            }
            Change::ReplayDead { subscriber, numbers } => return self.replay_dead(subscriber, numbers.as_deref(), now),
            Change::PurgeSubscriber { subscriber, up_to } => return self.purge_subscriber(subscriber, *up_to),
            Change::PurgeRoom { namespace, room, up_to } => {
                let key = shared(namespace, room);
                let numbers = self.rooms.get(&key).map(|room| numbers_up_to(room, *up_to)).unwrap_or_default();
                for number in numbers {
                    self.remove(&key, number, GapReason::Purged);
                }
            }
            // Memory is not damaged.
            Change::RemoveDamaged { number } => return Err(Refusal::NotDamaged { number: *number }),
            Change::RemoveSubscriber { subscriber } => {
                self.subscriber(subscriber)?;
                self.remove_subscriber(subscriber);
            }
            Change::Touch { subscriber, seen_at } => {
                let subscriber = self.subscriber(subscriber)?;
                subscriber.seen_at = subscriber.seen_at.max(*seen_at);
            }
            Change::Expire { .. } => {
                self.expire(now);
                let has_new_gaps = std::mem::take(&mut self.has_new_gaps);
                return Ok(Outcome::Expired { has_more: false, has_new_gaps });
            }
        }
        Ok(Outcome::Done)
    }

    pub(super) fn subscriber(&mut self, key: &SubscriberKey) -> Result<&mut Subscriber> {
        match (self.subscribers.get_mut(key), self.expired.get(key)) {
            (Some(subscriber), _) => Ok(subscriber),
            (None, Some(expired)) => Err(Refusal::SubscriberExpired { at: expired.at }),
            (None, None) => Err(Refusal::UnknownSubscriber),
        }
    }

    fn check_number(&self, number: u64) -> Result<()> {
        if number > self.head { Err(Refusal::BeyondHead { number, head: self.head }) } else { Ok(()) }
    }

    fn publish(&mut self, publish: &Publish, now: UnixMillis) -> Result<Outcome> {
        publish.check(&self.limits)?;
        let dedup = publish.dedup.as_ref().map(|dedup| ((publish.namespace.clone(), dedup.id.clone()), dedup.content));
        if let Some((key, content)) = &dedup {
            let found = self.dedup_numbers.get(key).and_then(|number| Some((*number, self.dedup.get(number)?)));
            if let Some((first, entry)) = found
                && !has_passed(entry.at, self.limits.dedup_window, now)
            {
                if entry.content != *content {
                    return Err(Refusal::Conflict { first });
                }
                let offset = QueueOffset { epoch: self.epoch, number: first };
                let DedupEntry { at: published_at, pending_for, .. } = *entry;
                return Ok(Outcome::Published(PublishReceipt { offset, duplicate: true, pending_for, published_at }));
            }
            let (found, limit) = (self.dedup.len() as u64, self.limits.dedup_ids_max);
            if found >= limit {
                return Err(Refusal::Overloaded { what: "dedup_ids", found, limit });
            }
        }
        let rooms: Vec<RoomKey> =
            publish.distinct_rooms().into_iter().map(|room| shared(&publish.namespace, room)).collect();
        let bytes = event_bytes(&publish.payload, &publish.origin, rooms.len());
        let (found, limit) = (self.bytes + bytes, self.limits.high_water_bytes());
        if found > limit {
            return Err(Refusal::Overloaded { what: "bytes", found, limit });
        }
        self.check_head()?;
        let subscribers: BTreeSet<&SubscriberKey> =
            rooms.iter().filter_map(|room| self.rooms.get(room)).flat_map(|room| &room.subscribers).collect();
        let pending_for = subscribers.len() as u64;
        let event = StoredEvent {
            rooms: rooms.clone(),
            at: now,
            expires_at: publish.expiry(),
            replay_of: None,
            via: None,
            origin: publish.origin.clone(),
            payload: publish.payload.clone(),
            bytes,
        };
        let number = self.insert(event);
        if let Some((key, content)) = dedup {
            self.dedup_numbers.insert(key.clone(), number);
            self.dedup.insert(number, DedupEntry { at: now, key, content, pending_for });
        }
        for room in &rooms {
            self.trim_to_rule(room, TRIMMED_MAX);
        }
        let offset = QueueOffset { epoch: self.epoch, number };
        Ok(Outcome::Published(PublishReceipt { offset, duplicate: false, pending_for, published_at: now }))
    }

    pub(super) fn check_head(&self) -> Result<()> {
        if self.head + 1 >= NUMBER_END { Err(Refusal::Exhausted) } else { Ok(()) }
    }

    pub(super) fn insert(&mut self, event: StoredEvent) -> u64 {
        self.head += 1;
        let number = self.head;
        for key in &event.rooms {
            let room = self.room(key);
            room.live.insert(number, room.subscribers.len() as u64);
            room.bytes += event.bytes;
        }
        self.bytes += event.bytes;
        self.events.insert(number, event);
        number
    }

    pub(super) fn room(&mut self, key: &RoomKey) -> &mut Room {
        let (removed_to, limits) = (self.removed_to, &self.limits);
        self.rooms.entry(key.clone()).or_insert_with(|| {
            let rule = if key.is_own { None } else { limits.rule(key.name.as_str()).cloned() };
            Room { removed_to, rule, ..Room::default() }
        })
    }

    fn reveal(&mut self, up_to: u64) {
        let from = self.revealed;
        self.revealed = from.max(up_to.min(self.head));
        let revealed: Vec<(RoomKey, u64)> = self
            .events
            .range(from + 1..=self.revealed.max(from + 1))
            .flat_map(|(number, event)| event.rooms.iter().map(|room| (room.clone(), *number)))
            .collect();
        for (room, number) in revealed {
            self.free_if_handled(&room, number);
        }
    }

    fn create_subscriber(&mut self, key: &SubscriberKey, now: UnixMillis) -> Result<Outcome> {
        if let Some(existing) = self.subscribers.get_mut(key) {
            existing.seen_at = existing.seen_at.max(now);
            return Ok(Outcome::Created { is_new: false, expired_at: None });
        }
        let limit = self.limits.subscribers_max;
        if self.subscribers.len() as u64 >= limit {
            return Err(Refusal::TooManySubscribers { limit });
        }
        let expired_at = self.expired.remove(key).map(|expired| expired.at);
        let new = Subscriber {
            created_at: now,
            seen_at: now,
            subscriptions: Default::default(),
            attempts: Default::default(),
            dead: Default::default(),
            gaps: Default::default(),
            sent_up_to: Some(0),
        };
        self.subscribers.insert(key.clone(), new);
        Ok(Outcome::Created { is_new: true, expired_at })
    }

    /// Creates a subscriber for a caller that may not pass on what had expired. It becomes a gap.
    fn recreate_subscriber(&mut self, key: &SubscriberKey, now: UnixMillis) -> Result<Outcome> {
        let outcome = self.create_subscriber(key, now)?;
        let head = self.head;
        if matches!(outcome, Outcome::Created { expired_at: Some(_), .. }) && head > 0 {
            self.add_gap(key, 1, head, None, GapReason::NotRetained);
        }
        Ok(outcome)
    }

    fn attach(&mut self, key: &SubscriberKey, create: bool, now: UnixMillis) -> Result<Outcome> {
        if !create {
            self.subscriber(key)?;
        }
        let Outcome::Created { is_new, expired_at } = self.create_subscriber(key, now)? else {
            return Err(Refusal::UnknownSubscriber);
        };
        let sent_up_to = self.subscriber(key)?.sent_up_to.take();
        Ok(Outcome::Attached { is_new, expired_at, sent_up_to })
    }

    fn subscribe(&mut self, key: &SubscriberKey, room: &RoomName, from: StartPosition) -> Result<Outcome> {
        self.subscriber(key)?;
        let head = self.head;
        let after = match from {
            StartPosition::Now => head,
            StartPosition::After(offset) if offset.epoch != self.epoch => return Err(Refusal::ForeignEpoch),
            StartPosition::After(offset) => {
                self.check_number(offset.number)?;
                offset.number
            }
        };
        let limit = self.limits.subscriptions_per_subscriber_max;
        let room = shared(&key.namespace, room);
        let subscriber = self.subscriber(key)?;
        if let Some(existing) = subscriber.subscriptions.get(&room) {
            return Ok(Outcome::Subscribed { after: existing.start, is_new: false });
        }
        if subscriber.subscriptions.keys().filter(|room| !room.is_own).count() as u64 >= limit {
            return Err(Refusal::TooManySubscriptions { limit });
        }
        let removed_to = self.room(&room).removed_to;
        if after < removed_to {
            self.add_gap(key, after + 1, removed_to, None, GapReason::NotRetained);
        }
        self.begin_subscription(key, &room, after);
        Ok(Outcome::Subscribed { after, is_new: true })
    }

    pub(super) fn begin_subscription(&mut self, key: &SubscriberKey, room: &RoomKey, after: u64) {
        let subscription = Subscription { start: after, floor: after, handled: BTreeSet::new(), lost_confirmed: 0 };
        if let Some(subscriber) = self.subscribers.get_mut(key) {
            subscriber.subscriptions.insert(room.clone(), subscription);
        }
        let room = self.room(room);
        room.subscribers.insert(key.clone());
        room.live.range_mut(after + 1..).for_each(|(_, remaining)| *remaining += 1);
        room.gone.range_mut(after + 1..).for_each(|(_, (remaining, _))| *remaining += 1);
    }

    fn end_subscription(&mut self, key: &SubscriberKey, room: &RoomKey) {
        let removed = self.subscribers.get_mut(key).and_then(|subscriber| subscriber.subscriptions.remove(room));
        let Some(subscription) = removed else { return };
        self.room(room).subscribers.remove(key);
        for number in open_rows(self.room(room), &subscription, u64::MAX) {
            self.subtract(room, number);
            self.remove_idle_attempts(key, number);
        }
    }

    /// Forgets failed deliveries of an event that is not pending for the subscriber any more.
    fn remove_idle_attempts(&mut self, key: &SubscriberKey, number: u64) {
        let has_failed = |subscriber: &Subscriber| subscriber.attempts.contains_key(&number);
        if self.subscribers.get(key).is_some_and(has_failed)
            && self.pending_room(key, number).is_err()
            && let Some(subscriber) = self.subscribers.get_mut(key)
        {
            subscriber.attempts.remove(&number);
        }
    }

    pub(super) fn subtract(&mut self, key: &RoomKey, number: u64) {
        let room = self.room(key);
        if let Some(remaining) = room.live.get_mut(&number) {
            *remaining -= 1;
        } else if let Some((remaining, _)) = room.gone.get_mut(&number) {
            *remaining -= 1;
        }
        self.free_if_handled(key, number);
    }

    fn free_if_handled(&mut self, key: &RoomKey, number: u64) {
        let revealed = self.revealed;
        let room = self.room(key);
        let is_revealed = number <= revealed || key.is_own;
        if room.live.get(&number) == Some(&0) && is_revealed && room.rule.is_none() {
            self.free(key, number);
        } else if room.gone.get(&number).is_some_and(|(remaining, _)| *remaining == 0) {
            room.gone.remove(&number);
            room.removed_to = room.removed_to.max(number);
        }
    }

    fn free(&mut self, key: &RoomKey, number: u64) {
        self.delete_live(key, number);
        let room = self.room(key);
        room.removed_to = room.removed_to.max(number);
    }

    /// Deletes a row, and the event with its last row.
    fn delete_live(&mut self, key: &RoomKey, number: u64) {
        let Some(event) = self.events.get(&number) else { return };
        let bytes = event.bytes;
        let is_elsewhere = event
            .rooms
            .iter()
            .any(|other| other != key && self.rooms.get(other).is_some_and(|other| other.live.contains_key(&number)));
        let room = self.room(key);
        room.live.remove(&number);
        room.bytes -= bytes;
        if !is_elsewhere {
            self.events.remove(&number);
            self.bytes -= bytes;
        }
    }

    /// Removes an event from a room. Subscriptions that have not handled it get a gap.
    pub(super) fn remove(&mut self, key: &RoomKey, number: u64, reason: GapReason) {
        let gaps_max = self.limits.gaps_per_room_max;
        match self.room(key).live.get(&number).copied() {
            None => {}
            Some(0) => self.free(key, number),
            Some(remaining) => {
                self.delete_live(key, number);
                self.has_new_gaps = true;
                let room = self.room(key);
                room.gone.insert(number, (remaining, reason));
                if room.gone.len() as u64 > gaps_max
                    && let Some((oldest, _)) = room.gone.pop_first()
                {
                    room.lost_to = room.lost_to.max(oldest);
                    room.removed_to = room.removed_to.max(oldest);
                }
                let Self { rooms, subscribers, .. } = &*self;
                let of_room = rooms.get(key).into_iter().flat_map(|room| &room.subscribers);
                let has_failed = |subscriber: &&SubscriberKey| {
                    subscribers.get(*subscriber).is_some_and(|found| found.attempts.contains_key(&number))
                };
                let failed: Vec<SubscriberKey> = of_room.filter(has_failed).cloned().collect();
                for subscriber in failed {
                    self.remove_idle_attempts(&subscriber, number);
                }
            }
        }
    }

    pub(super) fn remove_subscriber(&mut self, key: &SubscriberKey) {
        let rooms = self.subscribers.get(key).map(|s| s.subscriptions.keys().cloned().collect::<Vec<_>>());
        for room in rooms.unwrap_or_default() {
            self.end_subscription(key, &room);
        }
        let dead = self.subscribers.get(key).map(|s| s.dead.keys().copied().collect::<Vec<_>>());
        for number in dead.unwrap_or_default() {
            self.remove_dead(key, number);
        }
        self.subscribers.remove(key);
    }
}

fn shared(namespace: &NamespacePath, room: &RoomName) -> RoomKey {
    RoomKey { namespace: namespace.clone(), name: room.clone(), is_own: false }
}

fn numbers_up_to(room: &Room, up_to: u64) -> Vec<u64> {
    room.live.range(..=up_to).map(|(number, _)| *number).collect()
}

/// Rows that a subscription has not handled, up to a number.
pub(super) fn open_rows(room: &Room, subscription: &Subscription, up_to: u64) -> Vec<u64> {
    if up_to <= subscription.floor {
        return Vec::new();
    }
    let range = subscription.floor + 1..=up_to;
    let numbers = room.live.range(range.clone()).map(|(number, _)| *number);
    let gone = room.gone.range(range).map(|(number, _)| *number);
    numbers.chain(gone).filter(|number| subscription.is_open(*number)).collect()
}
