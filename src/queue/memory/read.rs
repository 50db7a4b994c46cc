//! Reads of the state in memory.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, RwLock, RwLockReadGuard};

use super::{Attempts, RoomKey, State, StoredEvent, Subscriber};
use crate::ids::{NamespacePath, RoomName};
use crate::queue::change::ACKED_MAX;
use crate::queue::record::{
    Backlog, DurableEvent, Gap, GapReason, QueueOffset, SubscriberInfo, SubscriberKey, SubscriberState, Totals,
    UnixMillis,
};
use crate::queue::store::{
    DeadLetterPage, DeliveryPage, EventPage, GapPage, PASSED_MAX, PageLimit, QueueReader, StoreError, UnrevealedEvent,
    UnrevealedPage,
};

/// A reader beside the writer.
pub(super) struct MemoryReader {
    pub(super) state: Arc<RwLock<State>>,
}

impl MemoryReader {
    fn state(&self) -> Result<RwLockReadGuard<'_, State>, StoreError> {
        self.state.read().map_err(|_| StoreError::Failed)
    }
}

/// An event that was removed before the subscriber handled it.
#[derive(Debug, Clone, Copy)]
pub(super) struct RemovedEvent {
    pub(super) number: u64,
    pub(super) reason: GapReason,
    /// An event is pending between this one and the removed one before it.
    is_apart: bool,
}

impl StoredEvent {
    fn to_event(&self, number: u64, room: &RoomName) -> DurableEvent {
        DurableEvent {
            number,
            room: self.via.as_ref().unwrap_or(room).clone(),
            published_at: self.at,
            expires_at: self.expires_at,
            origin: self.origin.clone(),
            payload: self.payload.clone(),
            replay_of: self.replay_of,
            attempts: 0,
            alone: false,
            retry_at: None,
        }
    }
}

impl Subscriber {
    fn read_attempts(&self, event: &mut DurableEvent) {
        if let Some(Attempts { attempts, alone, retry_at }) = self.attempts.get(&event.number).copied() {
            (event.attempts, event.alone, event.retry_at) = (attempts, alone, Some(retry_at));
        }
    }
}

impl State {
    /// The first numbers that are pending for a subscriber after a number, at most so many, each
    /// with the first of its rooms.
    fn pending<'a>(&self, subscriber: &'a Subscriber, after: u64, limit: usize) -> BTreeMap<u64, &'a RoomName> {
        let mut pending = BTreeMap::new();
        for (key, subscription) in &subscriber.subscriptions {
            let Some(room) = self.rooms.get(key) else { continue };
            let rows = room.live.range((Bound::Excluded(after.max(subscription.floor)), Bound::Unbounded));
            for (number, _) in rows.filter(|(number, _)| subscription.is_open(**number)).take(limit) {
                if pending.len() >= limit && pending.last_key_value().is_some_and(|(last, _)| number > last) {
                    break;
                }
                pending.entry(*number).or_insert(&key.name);
                if pending.len() > limit {
                    pending.pop_last();
                }
            }
        }
        pending
    }

    /// The first room through which an event is pending for a subscriber.
    fn room_of<'a>(&self, subscriber: &'a Subscriber, number: u64) -> Option<&'a RoomName> {
        let mut subscriptions = subscriber.subscriptions.iter();
        let is_live = |key: &RoomKey| self.rooms.get(key).is_some_and(|room| room.live.contains_key(&number));
        let found = subscriptions.find(|(key, subscription)| subscription.is_open(number) && is_live(key));
        found.map(|(key, _)| &key.name)
    }

    /// True if an event between two numbers is pending for a subscriber.
    fn has_pending_between(&self, subscriber: &Subscriber, after: u64, before: u64) -> bool {
        subscriber.subscriptions.iter().any(|(key, subscription)| {
            let Some(room) = self.rooms.get(key) else { return false };
            let mut rows = room.live.range(after + 1..before.max(after + 1));
            rows.any(|(number, _)| subscription.is_open(*number))
        })
    }

    /// Removed events that a subscriber has not handled, each with the reason of the first of its
    /// rooms.
    fn gone(&self, subscriber: &Subscriber, after: u64) -> BTreeMap<u64, GapReason> {
        let mut gone = BTreeMap::new();
        for (key, subscription) in &subscriber.subscriptions {
            let Some(room) = self.rooms.get(key) else { continue };
            for (number, (_, reason)) in room.gone.range((Bound::Excluded(after), Bound::Unbounded)) {
                if subscription.is_open(*number) {
                    gone.entry(*number).or_insert(*reason);
                }
            }
        }
        gone
    }

    /// Those of them that are not pending through another room.
    pub(super) fn removed(&self, subscriber: &Subscriber, after: u64) -> Vec<RemovedEvent> {
        let (mut before, mut removed) = (after, Vec::new());
        for (number, reason) in self.gone(subscriber, after) {
            if self.room_of(subscriber, number).is_none() {
                let is_apart = self.has_pending_between(subscriber, before, number);
                removed.push(RemovedEvent { number, reason, is_apart });
                before = number;
            }
        }
        removed
    }

    /// Events as a page, with their rooms.
    fn page<'a>(&self, after: u64, limit: PageLimit, numbers: impl Iterator<Item = (u64, &'a RoomName)>) -> EventPage {
        let mut page = EventPage { next: after, ..EventPage::default() };
        let mut bytes = 0;
        for (number, room) in numbers {
            let Some(event) = self.events.get(&number) else { continue };
            bytes += event.payload.bytes();
            if page.events.len() >= limit.events || !page.events.is_empty() && bytes > limit.bytes {
                page.has_more = true;
                break;
            }
            page.next = number;
            page.events.push(event.to_event(number, room));
        }
        page
    }

    fn info(&self, key: &SubscriberKey) -> Option<SubscriberInfo> {
        if let Some(subscriber) = self.subscribers.get(key) {
            let rooms = subscriber.subscriptions.keys().filter(|room| !room.is_own);
            return Some(SubscriberInfo {
                key: key.clone(),
                state: SubscriberState::Active,
                created_at: subscriber.created_at,
                seen_at: subscriber.seen_at,
                rooms: rooms.map(|room| room.name.clone()).collect(),
                dead_letters: subscriber.dead.len() as u64,
            });
        }
        let expired = self.expired.get(key)?;
        Some(SubscriberInfo {
            key: key.clone(),
            state: SubscriberState::Expired { at: expired.at },
            created_at: expired.created_at,
            seen_at: expired.seen_at,
            rooms: Vec::new(),
            dead_letters: 0,
        })
    }
}

impl QueueReader for MemoryReader {
    fn pending(&mut self, subscriber: &SubscriberKey, after: u64, limit: PageLimit) -> Result<EventPage, StoreError> {
        let state = self.state()?;
        let Some(subscriber) = state.subscribers.get(subscriber) else {
            return Ok(EventPage { next: after, ..EventPage::default() });
        };
        let pending = state.pending(subscriber, after, limit.events.saturating_add(1));
        let mut page = state.page(after, limit, pending.into_iter());
        for event in &mut page.events {
            subscriber.read_attempts(event);
        }
        Ok(page)
    }

    fn deliverable(
        &mut self,
        subscriber: &SubscriberKey,
        after: u64,
        except: &[u64],
        now: UnixMillis,
        limit: PageLimit,
    ) -> Result<DeliveryPage, StoreError> {
        let state = self.state()?;
        let mut page = DeliveryPage { next: after, ..DeliveryPage::default() };
        let Some(subscriber) = state.subscribers.get(subscriber) else { return Ok(page) };
        let fresh = state.pending(subscriber, after, limit.events.saturating_add(PASSED_MAX + except.len() + 1));
        let retries = subscriber.attempts.iter().filter(|(number, _)| !except.contains(number));
        let mut retries: Vec<(UnixMillis, u64)> = retries.map(|(number, failed)| (failed.retry_at, *number)).collect();
        retries.sort_unstable();
        let is_pending = |number: u64| state.room_of(subscriber, number).is_some();
        let later = retries.iter().filter(|(retry_at, _)| *retry_at > now);
        page.next_due = later.copied().find(|(_, number)| is_pending(*number)).map(|(retry_at, _)| retry_at);
        let due = retries.into_iter().filter(|(retry_at, _)| *retry_at <= now).map(|(_, number)| number);
        let (mut bytes, mut passed) = (0, 0);
        for (is_due, numbers) in [(true, due.collect::<Vec<_>>()), (false, fresh.into_keys().collect())] {
            for number in numbers {
                if !is_due && (except.contains(&number) || subscriber.attempts.contains_key(&number)) {
                    page.next = number;
                    passed += 1;
                    if passed >= PASSED_MAX {
                        page.has_more = true;
                        break;
                    }
                    continue;
                }
                let room = state.room_of(subscriber, number);
                let (Some(event), Some(room)) = (state.events.get(&number), room) else { continue };
                let read = page.due.len() + page.fresh.len();
                bytes += event.payload.bytes();
                if read >= limit.events || (read > 0 && bytes > limit.bytes) {
                    page.has_more = true;
                    break;
                }
                let mut event = event.to_event(number, room);
                subscriber.read_attempts(&mut event);
                if is_due {
                    page.due.push(event);
                } else {
                    page.next = number;
                    page.fresh.push(event);
                }
            }
        }
        page.due.sort_unstable_by_key(|event| event.number);
        Ok(page)
    }

    fn events(
        &mut self,
        namespace: &NamespacePath,
        rooms: &[RoomName],
        after: u64,
        limit: PageLimit,
    ) -> Result<EventPage, StoreError> {
        let state = self.state()?;
        let (mut numbers, mut removed_to) = (BTreeMap::new(), 0);
        let mut rooms: Vec<&RoomName> = rooms.iter().collect();
        rooms.sort_unstable();
        for room in rooms {
            let key = RoomKey { namespace: namespace.clone(), name: room.clone(), is_own: false };
            let found = state.rooms.get(&key);
            removed_to = removed_to.max(found.map_or(state.removed_to, |found| found.removed_to));
            let rows = found.into_iter().flat_map(|found| found.live.range((Bound::Excluded(after), Bound::Unbounded)));
            for (number, _) in rows.take(limit.events.saturating_add(1)) {
                numbers.entry(*number).or_insert(room);
            }
        }
        Ok(EventPage { removed_to, ..state.page(after, limit, numbers.into_iter()) })
    }

    fn unrevealed(&mut self, after: u64, limit: PageLimit) -> Result<UnrevealedPage, StoreError> {
        let state = self.state()?;
        let mut page = UnrevealedPage { next: after, ..UnrevealedPage::default() };
        let mut bytes = 0;
        for (read, (number, event)) in state.events.range((Bound::Excluded(after), Bound::Unbounded)).enumerate() {
            bytes += event.payload.bytes();
            if read >= limit.events || (!page.events.is_empty() && bytes > limit.bytes) {
                page.has_more = true;
                break;
            }
            page.next = *number;
            let is_stored =
                |key: &&RoomKey| !key.is_own && state.rooms.get(key).is_some_and(|room| room.live.contains_key(number));
            let rooms: Vec<&RoomKey> = event.rooms.iter().filter(is_stored).collect();
            if let Some(first) = rooms.first() {
                page.events.push(UnrevealedEvent {
                    namespace: first.namespace.clone(),
                    rooms: rooms.iter().map(|room| room.name.clone()).collect(),
                    event: event.to_event(*number, &first.name),
                });
            }
        }
        Ok(page)
    }

    fn subscriber(&mut self, subscriber: &SubscriberKey) -> Result<Option<SubscriberInfo>, StoreError> {
        Ok(self.state()?.info(subscriber))
    }

    fn subscribers(&mut self, after: Option<&SubscriberKey>, limit: usize) -> Result<Vec<SubscriberInfo>, StoreError> {
        let state = self.state()?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut keys: Vec<&SubscriberKey> =
            state.subscribers.range((from, Bound::Unbounded)).map(|(key, _)| key).take(limit).collect();
        keys.extend(state.expired.range((from, Bound::Unbounded)).map(|(key, _)| key).take(limit));
        keys.sort_unstable();
        Ok(keys.into_iter().take(limit).filter_map(|key| state.info(key)).collect())
    }

    fn backlog(&mut self, subscriber: &SubscriberKey, events_max: usize) -> Result<Backlog, StoreError> {
        let state = self.state()?;
        let Some(subscriber) = state.subscribers.get(subscriber) else { return Ok(Backlog::default()) };
        let pending = state.pending(subscriber, 0, events_max.saturating_add(1));
        let oldest = pending.keys().next().and_then(|number| state.events.get(number));
        Ok(Backlog {
            events: pending.len().min(events_max) as u64,
            oldest_at: oldest.map(|event| event.at),
            is_capped: pending.len() > events_max,
        })
    }

    fn dead_letters(
        &mut self,
        subscriber: &SubscriberKey,
        after: u64,
        limit: PageLimit,
    ) -> Result<DeadLetterPage, StoreError> {
        let state = self.state()?;
        let mut page = DeadLetterPage { next: after, ..DeadLetterPage::default() };
        let Some(subscriber) = state.subscribers.get(subscriber) else { return Ok(page) };
        let mut bytes = 0;
        for (number, dead) in subscriber.dead.range((Bound::Excluded(after), Bound::Unbounded)) {
            bytes += dead.payload.bytes();
            let read = page.dead_letters.len();
            if read >= limit.events || (read > 0 && bytes > limit.bytes) {
                page.has_more = true;
                break;
            }
            page.next = *number;
            page.dead_letters.push(dead.clone());
        }
        Ok(page)
    }

    fn gaps(&mut self, subscriber: &SubscriberKey, after: u64, limit: usize) -> Result<GapPage, StoreError> {
        let limit = limit.min(ACKED_MAX);
        let state = self.state()?;
        let mut page = GapPage { next: after, ..GapPage::default() };
        let Some(subscriber) = state.subscribers.get(subscriber) else { return Ok(page) };
        page.gaps = subscriber.gaps.values().flatten().filter(|gap| gap.to > after).cloned().collect();
        for (key, subscription) in &subscriber.subscriptions {
            let (from, lost_to) = (subscription.known_to() + 1, state.rooms.get(key).map_or(0, |room| room.lost_to));
            if lost_to >= from.max(after + 1) {
                page.gaps.push(Gap { from, to: lost_to, events: None, reason: GapReason::Trimmed });
            }
        }
        let removed = state.removed(subscriber, after);
        let mut ranges: Vec<Gap> = Vec::new();
        for RemovedEvent { number, reason, is_apart } in removed.iter().copied().take(limit) {
            page.next = number;
            match ranges.last_mut().filter(|gap| gap.reason == reason && !is_apart) {
                Some(gap) => {
                    gap.to = number;
                    gap.events = gap.events.map(|events| events + 1);
                }
                None => ranges.push(Gap { from: number, to: number, events: Some(1), reason }),
            }
        }
        let last = state.gone(subscriber, after).last_key_value().map_or(0, |(number, _)| *number);
        page.has_more = removed.len() >= limit && last > page.next;
        page.gaps.extend(ranges);
        page.gaps.sort_unstable_by_key(|gap| (gap.from, gap.to, gap.reason));
        Ok(page)
    }

    fn first_failed(&mut self, subscriber: &SubscriberKey, from: u64) -> Result<Option<u64>, StoreError> {
        let state = self.state()?;
        let failed = state.subscribers.get(subscriber).map(|subscriber| &subscriber.attempts);
        Ok(failed.and_then(|failed| failed.range(from..).next()).map(|(number, _)| *number))
    }

    fn has_expired(&mut self, up_to: u64, now: UnixMillis) -> Result<bool, StoreError> {
        let state = self.state()?;
        Ok(state.events.range(..=up_to).any(|(_, event)| event.expires_at.is_some_and(|at| at <= now)))
    }

    fn totals(&mut self) -> Result<Totals, StoreError> {
        let state = self.state()?;
        Ok(Totals {
            head: QueueOffset { epoch: state.epoch, number: state.head },
            revealed: state.revealed,
            events: state.events.len() as u64,
            bytes: state.bytes,
            subscribers: state.subscribers.len() as u64,
            dead_letters: state.dead_letters,
            dedup_ids: state.dedup.len() as u64,
        })
    }
}
