//! Retention and expiry of the state in memory.

use super::{Expired, Room, RoomKey, State, StoredEvent, Subscriber};
use crate::queue::limits::has_passed;
use crate::queue::record::{GapReason, UnixMillis};

impl State {
    /// Removes the oldest events of a room that exceeds its rule, at most so many.
    pub(super) fn trim_to_rule(&mut self, key: &RoomKey, limit: usize) {
        for _ in 0..limit {
            let revealed = self.revealed;
            let room = self.room(key);
            let (events, bytes) = (room.live.len() as u64, room.bytes);
            let is_exceeded = room.rule.as_ref().is_some_and(|rule| events > 1 && rule.is_exceeded(events, bytes));
            match room.live.keys().next().copied() {
                Some(number) if is_exceeded && number <= revealed => self.remove(key, number, GapReason::Trimmed),
                _ => return,
            }
        }
    }

    pub(super) fn on_commit(&mut self, now: UnixMillis) {
        self.times.on_commit(now, &self.limits);
        self.commits += 1;
    }

    pub(super) fn expire(&mut self, now: UnixMillis) {
        while let Some(entry) = self.dedup.first_entry() {
            let stored_at = self.future_ids.stored_at(*entry.key(), entry.get().at, self.head, now);
            if !has_passed(stored_at, self.limits.dedup_window, now) {
                break;
            }
            let (number, entry) = entry.remove_entry();
            if self.dedup_numbers.get(&entry.key) == Some(&number) {
                self.dedup_numbers.remove(&entry.key);
            }
        }
        let revealed = self.revealed;
        let is_expired = |event: &StoredEvent| event.expires_at.is_some_and(|at| at <= now);
        let events = self.events.iter().filter(|(number, event)| **number <= revealed && is_expired(event));
        let events: Vec<(u64, Vec<RoomKey>)> = events.map(|(number, event)| (*number, event.rooms.clone())).collect();
        for (number, rooms) in events {
            for room in rooms {
                self.remove(&room, number, GapReason::Expired);
            }
        }
        let expiry = self.limits.subscriber_expiry;
        let is_steady = self.times.is_steady(&self.limits);
        let is_expired = |subscriber: &Subscriber| is_steady && has_passed(subscriber.seen_at, expiry, now);
        let expired = self.subscribers.iter().filter(|(_, subscriber)| is_expired(subscriber));
        for key in expired.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            if let Some(Subscriber { created_at, seen_at, .. }) = self.subscribers.get(&key) {
                self.expired.insert(key.clone(), Expired { created_at: *created_at, seen_at: *seen_at, at: now });
            }
            self.remove_subscriber(&key);
        }
        let tombstone_for = self.limits.tombstone_for;
        self.expired.retain(|_, expired| !has_passed(expired.at, tombstone_for, now));
        let oldest = self.events.keys().next().copied().unwrap_or(u64::MAX);
        for subscriber in self.subscribers.values_mut() {
            subscriber.attempts.retain(|number, _| *number >= oldest);
        }
        self.trim_rooms(now);
        let is_idle = |room: &Room| room.live.is_empty() && room.gone.is_empty() && room.subscribers.is_empty();
        let idle = self.rooms.iter().filter(|(_, room)| is_idle(room)).map(|(key, _)| key.clone());
        for key in idle.collect::<Vec<_>>() {
            let removed_to = self.rooms.remove(&key).map_or(0, |room| room.removed_to);
            self.removed_to = self.removed_to.max(removed_to);
        }
    }

    fn trim_rooms(&mut self, now: UnixMillis) {
        let ruled = self.rooms.iter().filter(|(_, room)| room.rule.is_some()).map(|(key, _)| key.clone());
        for key in ruled.collect::<Vec<_>>() {
            self.trim_to_rule(&key, usize::MAX);
            while let Some(number) = self.too_old(&key, now) {
                self.remove(&key, number, GapReason::Trimmed);
            }
        }
    }

    fn too_old(&mut self, key: &RoomKey, now: UnixMillis) -> Option<u64> {
        let room = self.rooms.get_mut(key)?;
        let number = *room.live.keys().next()?;
        let at = room.future.stored_at(number, self.events.get(&number)?.at, self.head, now);
        (number <= self.revealed && room.rule.as_ref()?.is_too_old(at, now)).then_some(number)
    }
}
