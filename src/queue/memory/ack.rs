//! Handling of events by subscribers: acknowledgements, gaps, dead letters, purging.

use super::apply::{Result, open_rows};
use super::{Room, RoomKey, State, StoredEvent};
use crate::ids::RoomName;
use crate::queue::change::{
    ACKED_MAX, DEAD_REMOVED_MAX, Outcome, REPLAYED_BYTES_MAX, REPLAYED_MAX, Refusal, cut_reason,
};
use crate::queue::record::{DeadLetter, Gap, GapReason, SubscriberKey, UnixMillis, event_bytes};

impl State {
    /// Rooms through which an event is open for a subscriber.
    fn open_rooms(&self, key: &SubscriberKey, number: u64) -> Vec<RoomKey> {
        let Some(subscriber) = self.subscribers.get(key) else { return Vec::new() };
        let open = subscriber.subscriptions.iter().filter(|(room, subscription)| {
            subscription.is_open(number)
                && self
                    .rooms
                    .get(room)
                    .is_some_and(|room| room.live.contains_key(&number) || room.gone.contains_key(&number))
        });
        open.map(|(room, _)| room.clone()).collect()
    }

    /// The first room through which an event is pending.
    pub(super) fn pending_room(&self, key: &SubscriberKey, number: u64) -> Result<RoomKey> {
        let is_live = |room: &RoomKey| self.rooms.get(room).is_some_and(|room| room.live.contains_key(&number));
        self.open_rooms(key, number).into_iter().find(is_live).ok_or(Refusal::NotPending { number })
    }

    /// Marks an event as handled, everywhere or where it is gone. False if it was not open.
    pub(super) fn handle(&mut self, key: &SubscriberKey, number: u64, is_gap: bool) -> bool {
        let mut rooms = self.open_rooms(key, number);
        if is_gap {
            rooms.retain(|room| self.rooms.get(room).is_some_and(|room| room.gone.contains_key(&number)));
        }
        for room in &rooms {
            self.mark(key, room, number);
            self.subtract(room, number);
        }
        if !is_gap
            && !rooms.is_empty()
            && let Some(subscriber) = self.subscribers.get_mut(key)
        {
            subscriber.attempts.remove(&number);
        }
        !rooms.is_empty()
    }

    /// Adds a number to what a subscription has handled, and raises its floor.
    fn mark(&mut self, key: &SubscriberKey, room: &RoomKey, number: u64) {
        let (Some(subscriber), Some(room_state)) = (self.subscribers.get_mut(key), self.rooms.get(room)) else {
            return;
        };
        let Some(subscription) = subscriber.subscriptions.get_mut(room) else { return };
        subscription.handled.insert(number);
        while let Some(first) = subscription.handled.first().copied() {
            if has_row_between(room_state, subscription.floor, first) {
                break;
            }
            subscription.handled.remove(&first);
            subscription.floor = first;
        }
    }

    pub(super) fn handle_up_to(&mut self, key: &SubscriberKey, up_to: u64) {
        let Some(subscriber) = self.subscribers.get_mut(key) else { return };
        subscriber.attempts.retain(|number, _| *number > up_to);
        let rooms: Vec<RoomKey> = subscriber.subscriptions.keys().cloned().collect();
        for key_of_room in rooms {
            let Some(room) = self.rooms.get(&key_of_room) else { continue };
            let Some(subscription) = self.subscribers.get_mut(key).and_then(|s| s.subscriptions.get_mut(&key_of_room))
            else {
                continue;
            };
            let open = open_rows(room, subscription, up_to);
            subscription.floor = subscription.floor.max(up_to);
            subscription.handled.retain(|number| *number > up_to);
            for number in open {
                self.subtract(&key_of_room, number);
            }
        }
    }

    pub(super) fn ack_gaps(&mut self, key: &SubscriberKey, gaps: &[Gap]) -> Result<()> {
        self.subscriber(key)?;
        let mut left = ACKED_MAX as u64;
        for gap in gaps {
            let ranges = self.subscriber(key)?.gaps.entry(gap.reason).or_default();
            if let Some(at) = ranges.iter().position(|range| range == gap) {
                ranges.remove(at);
                continue;
            }
            let events = gap.events.unwrap_or(1).max(1);
            if events > left {
                break;
            }
            left -= events;
            self.ack_removed(key, gap);
        }
        Ok(())
    }

    fn ack_removed(&mut self, key: &SubscriberKey, gap: &Gap) {
        match gap.events {
            Some(events) => {
                let removed = self.removed(&self.subscribers[key], gap.from.saturating_sub(1)).into_iter();
                let removed = removed.filter(|event| event.number <= gap.to && event.reason == gap.reason);
                let numbers: Vec<u64> = removed.map(|event| event.number).collect();
                if numbers.len() as u64 <= events {
                    for number in numbers {
                        self.handle(key, number, true);
                    }
                }
            }
            None if gap.reason == GapReason::Trimmed => {
                let Self { subscribers, rooms, .. } = self;
                let subscriptions = subscribers.get_mut(key).into_iter().flat_map(|s| &mut s.subscriptions);
                for (room, subscription) in subscriptions {
                    let lost_to = rooms.get(room).map_or(0, |room| room.lost_to);
                    let (known_to, confirmed) = (subscription.known_to(), gap.to.min(lost_to));
                    if gap.from <= known_to + 1 && confirmed > known_to {
                        subscription.lost_confirmed = confirmed;
                    }
                }
            }
            None => {}
        }
    }

    pub(super) fn add_gap(&mut self, key: &SubscriberKey, from: u64, to: u64, events: Option<u64>, reason: GapReason) {
        if let Some(subscriber) = self.subscribers.get_mut(key) {
            Gap { from, to, events, reason }.add_to(subscriber.gaps.entry(reason).or_default());
            self.has_new_gaps = true;
        }
    }

    pub(super) fn term(
        &mut self,
        key: &SubscriberKey,
        number: u64,
        attempts: Option<u32>,
        reason: &str,
        now: UnixMillis,
    ) -> Result<Outcome> {
        self.subscriber(key)?;
        let room = self.pending_room(key, number)?;
        let Some(event) = self.events.get(&number) else { return Err(Refusal::NotPending { number }) };
        let dead = DeadLetter {
            number,
            room: event.via.clone().unwrap_or(room.name),
            published_at: event.at,
            origin: event.origin.clone(),
            payload: event.payload.clone(),
            attempts: 0,
            reason: cut_reason(reason).to_owned(),
            dead_at: now,
        };
        let bytes = event_bytes(&dead.payload, &dead.origin, 1);
        self.remove_dead(key, number);
        let subscriber = self.subscriber(key)?;
        let stored = || subscriber.attempts.get(&number).map_or(0, |failed| failed.attempts);
        let attempts = attempts.unwrap_or_else(stored);
        subscriber.dead.insert(number, DeadLetter { attempts, ..dead });
        self.bytes += bytes;
        self.dead_letters += 1;
        self.handle(key, number, false);
        for _ in 0..DEAD_REMOVED_MAX {
            let dead = &self.subscriber(key)?.dead;
            let (count, oldest) = (dead.len() as u64, dead.keys().next().copied());
            let is_over = count > self.limits.dead_letters_max || self.bytes > self.limits.queue_bytes_max;
            let Some(oldest) = oldest.filter(|_| is_over) else { break };
            self.remove_dead(key, oldest);
            self.add_gap(key, oldest, oldest, Some(1), GapReason::TooManyDead);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn remove_dead(&mut self, key: &SubscriberKey, number: u64) -> Option<DeadLetter> {
        let dead = self.subscribers.get_mut(key)?.dead.remove(&number)?;
        self.dead_letters -= 1;
        self.bytes -= event_bytes(&dead.payload, &dead.origin, 1);
        Some(dead)
    }

    pub(super) fn replay_dead(
        &mut self,
        key: &SubscriberKey,
        numbers: Option<&[u64]>,
        now: UnixMillis,
    ) -> Result<Outcome> {
        let subscriber = self.subscriber(key)?;
        let numbers: Vec<u64> = match numbers {
            Some(numbers) if numbers.len() > ACKED_MAX => {
                return Err(Refusal::TooManyNumbers { numbers: numbers.len() });
            }
            Some(numbers) => numbers.to_vec(),
            None => subscriber.dead.keys().copied().collect(),
        };
        let (mut events, mut replayed_bytes, mut has_more) = (Vec::new(), 0, false);
        for number in numbers {
            if events.len() >= REPLAYED_MAX || replayed_bytes >= REPLAYED_BYTES_MAX {
                has_more = true;
                break;
            }
            if !self.subscriber(key)?.dead.contains_key(&number) {
                continue;
            }
            self.check_head()?;
            let Some(dead) = self.remove_dead(key, number) else { continue };
            replayed_bytes += dead.payload.bytes();
            let Ok(name) = RoomName::parse(key.name.as_str()) else { return Err(Refusal::UnknownSubscriber) };
            let room = RoomKey { namespace: key.namespace.clone(), name, is_own: true };
            if !self.subscriber(key)?.subscriptions.contains_key(&room) {
                self.begin_subscription(key, &room, self.head);
            }
            let bytes = event_bytes(&dead.payload, &dead.origin, 1);
            let event = StoredEvent {
                rooms: vec![room],
                at: now,
                expires_at: None,
                replay_of: Some(number),
                via: Some(dead.room),
                origin: dead.origin,
                payload: dead.payload,
                bytes,
            };
            events.push((number, self.insert(event)));
        }
        Ok(Outcome::Replayed { events, has_more })
    }

    pub(super) fn purge_subscriber(&mut self, key: &SubscriberKey, up_to: u64) -> Result<Outcome> {
        let up_to = up_to.min(self.head);
        self.subscriber(key)?;
        let subscriptions = self.subscribers[key].subscriptions.iter();
        let open = subscriptions
            .filter_map(|(room, subscription)| open_rows(self.rooms.get(room)?, subscription, up_to).into_iter().min());
        if let Some(first) = open.min() {
            self.handle_up_to(key, up_to);
            self.add_gap(key, first, up_to, None, GapReason::Purged);
        }
        Ok(Outcome::Done)
    }
}

fn has_row_between(room: &Room, after: u64, before: u64) -> bool {
    if before <= after + 1 {
        return false;
    }
    let range = after + 1..before;
    room.live.range(range.clone()).next().is_some() || room.gone.range(range).next().is_some()
}
