//! Deliveries: their effects, the answers of clients, reads, and live events.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::attaching::outcome;
use super::content::{Content, Eviction};
use super::reads::{READ_PAUSE_MS, ReadJob};
use super::{Active, LIVE_PER_TURN, Outlet, Subscribers};
use crate::ids::RoomName;
use crate::messages::attachment::{AttachmentId, EventAnswer, SubscriberError};
use crate::queue::change::{ACKED_MAX, Acked, Change, Refusal};
use crate::queue::committer::CommitResult;
use crate::queue::delivery::{Delivery, Effect, Page, PendingEvent, Refused, Settlement};
use crate::queue::left_out::log_once;
use crate::queue::record::{DamagedEvent, SubscriberKey, UnixMillis};
use crate::queue::service::{Live, RevealedEvent};
use crate::queue::store::{PageLimit, StoreError};

/// A page that a delivery wants to read.
#[derive(Debug)]
pub(super) struct ReadWanted {
    after: u64,
    except: Vec<u64>,
    limit: PageLimit,
}

pub(super) type Effects = Vec<Effect<Arc<Content>>>;

/// The reason for which an event is sent again, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Nak,
    TimedOut,
}

impl Subscribers {
    /// Calls a delivery, and carries out its effects.
    pub(super) fn with<T>(
        &mut self,
        id: AttachmentId,
        call: impl FnOnce(&mut Delivery<Arc<Content>>, UnixMillis, &mut Effects) -> T,
    ) -> Option<T> {
        self.with_cause(id, Cause::TimedOut, call)
    }

    pub(super) fn with_cause<T>(
        &mut self,
        id: AttachmentId,
        cause: Cause,
        call: impl FnOnce(&mut Delivery<Arc<Content>>, UnixMillis, &mut Effects) -> T,
    ) -> Option<T> {
        let (now, mut effects) = (self.clock.now(), Vec::new());
        let result = call(&mut self.active.get_mut(&id)?.delivery, now, &mut effects);
        self.carry_out(id, cause, now, effects);
        Some(result)
    }

    pub(super) fn advance(&mut self, id: AttachmentId) {
        self.with(id, |delivery, now, effects| delivery.advance(now, effects));
    }

    fn carry_out(&mut self, id: AttachmentId, cause: Cause, now: UnixMillis, effects: Effects) {
        self.changed.insert(id);
        let mut effects = std::collections::VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            let Some(active) = self.active.get_mut(&id) else { return };
            match effect {
                Effect::Read { after, except, events_max, bytes_max } => {
                    let limit = PageLimit { events: events_max, bytes: bytes_max };
                    active.read = Some(ReadWanted { after, except, limit });
                    let job = ReadJob::Page(id);
                    if active.read_after > now {
                        self.reads.push_at(active.read_after, job);
                    } else {
                        self.reads.push(job);
                    }
                }
                Effect::Send { number, content, .. } if content.has_expired() => {
                    // The store removes it, and the subscriber gets a gap.
                    self.metrics.subscribers.expired.add(1);
                    let mut more = Vec::new();
                    active.delivery.on_expired(number, now, &mut more);
                    effects.extend(more);
                    self.housekeeping.hurry();
                }
                Effect::Send { number, redelivered, content } => self.send(id, number, redelivered, &content),
                Effect::Commit { number, settlement: Settlement::Acked } => active.acks.push(number),
                Effect::Commit { number, settlement } => {
                    let metrics = &self.metrics.subscribers;
                    match (settlement, cause) {
                        (Settlement::Retry { .. }, Cause::Nak) => metrics.redelivered_nak.add(1),
                        (Settlement::Retry { .. }, Cause::TimedOut) => metrics.redelivered_timeout.add(1),
                        (Settlement::Undeliverable { .. }, _) => metrics.undeliverable.add(1),
                        _ => {}
                    }
                    let (key, reason) = (active.key.clone(), active.terms.get(&number).cloned().unwrap_or_default());
                    let change = settlement_change(&key, number, settlement, reason);
                    self.submit(change, move |actor, result| actor.on_settled(id, &[number], settlement, &result));
                }
            }
        }
    }

    fn send(&mut self, id: AttachmentId, number: u64, redelivered: bool, content: &Content) {
        let parser = self.settings.parser;
        let Some(active) = self.active.get_mut(&id) else { return };
        self.metrics.subscribers.sent.add(1);
        active.gaps.on_sent(number, redelivered, self.settings.delivery.in_flight_max);
        match &mut active.outlet {
            Outlet::Pull(pull) => pull.push(number, redelivered, content),
            Outlet::Socket { .. } => match content.packet(parser, &active.key.namespace, redelivered) {
                Some(packet) => active.packets.push(packet),
                None => drop(log_once(content.offset, "its stored payload is not that of an event")),
            },
        }
    }

    /// Commits the acks of this turn.
    pub(super) fn flush_acks(&mut self, id: AttachmentId) {
        let Some(active) = self.active.get_mut(&id) else { return };
        let (mut acks, key) = (std::mem::take(&mut active.acks), active.key.clone());
        while !acks.is_empty() {
            let rest = acks.split_off(acks.len().min(ACKED_MAX));
            let numbers = std::mem::replace(&mut acks, rest);
            let change = Change::Ack { subscriber: key.clone(), events: Acked::Numbers(numbers.clone()) };
            self.submit(change, move |actor, result| actor.on_settled(id, &numbers, Settlement::Acked, &result));
        }
    }

    fn on_settled(&mut self, id: AttachmentId, numbers: &[u64], settlement: Settlement, result: &CommitResult) {
        let result = outcome(result.clone());
        let is_committed = matches!(result, Ok(_) | Err(SubscriberError::Refused(_)));
        let (metrics, count) = (&self.metrics.subscribers, numbers.len() as u64);
        match settlement {
            _ if result.is_err() => {}
            Settlement::Acked => metrics.acks.add(count),
            Settlement::Terminated | Settlement::Undeliverable { .. } => metrics.dead_lettered.add(count),
            Settlement::Retry { .. } => {}
        }
        if let Err(SubscriberError::Refused(Refusal::UnknownSubscriber | Refusal::SubscriberExpired { .. })) = result {
            return self.evict(id, Eviction::Removed);
        }
        for number in numbers {
            if let Some(active) = self.active.get_mut(&id) {
                for (_, reply) in active.naks.extract_if(.., |(waiting, _)| waiting == number) {
                    let _ = reply.send(result.clone().map(|_| ()));
                }
            }
            self.with(id, |delivery, now, effects| {
                delivery.on_commit(*number, settlement, is_committed, now, effects);
            });
            // The reason is used again only if an event in flight is committed again.
            if let Some(active) = self.active.get_mut(&id)
                && (is_committed || !active.delivery.is_in_flight(*number))
            {
                active.terms.remove(number);
            }
        }
    }

    /// Handles a client's answer to an event.
    pub(super) fn on_answered(&mut self, id: AttachmentId, number: u64, answer: EventAnswer) {
        let Some(active) = self.active.get_mut(&id) else {
            // An answer to an earlier connection's event, which comes again.
            if let Some(pending) = self.attaching.get(&id) {
                pending.outlet().on_handled();
            }
            return;
        };
        active.outlet.on_handled();
        let answered = match answer {
            EventAnswer::Ack => self.with(id, |delivery, now, effects| delivery.on_ack(number, now, effects)),
            EventAnswer::Nak(delay) => {
                self.metrics.subscribers.naks.add(1);
                self.with_cause(id, Cause::Nak, |delivery, now, effects| delivery.on_nak(number, delay, now, effects))
            }
            EventAnswer::Term(reason) => {
                self.metrics.subscribers.terms.add(1);
                // Bounded by the events in flight and the settlements under way, since others are
                // refused.
                active.terms.insert(number, reason);
                let answered = self.with(id, |delivery, now, effects| delivery.on_term(number, now, effects));
                if answered != Some(Ok(()))
                    && let Some(active) = self.active.get_mut(&id)
                {
                    active.terms.remove(&number);
                }
                answered
            }
        };
        match answered {
            Some(Ok(())) => self.confirm_gaps(id, number),
            Some(Err(Refused::NeverSent)) => self.metrics.subscribers.answers_unknown.add(1),
            // The event comes again.
            Some(Err(Refused::Overloaded)) => self.metrics.subscribers.answers_dropped.add(1),
            None => {}
        }
    }

    pub(super) fn read_page(&mut self, id: AttachmentId) -> Result<(), StoreError> {
        let Some(active) = self.active.get_mut(&id) else { return Ok(()) };
        let Some(read) = &active.read else { return Ok(()) };
        let now = self.clock.now();
        let head = self.reader.totals()?.head.number;
        let page = self.reader.deliverable(&active.key, read.after, &read.except, now, read.limit)?;
        active.read = None;
        for DamagedEvent { number, error: damage } in page.damaged {
            self.submit(Change::RemoveDamaged { number }, move |actor, result| match outcome(result) {
                Ok(_) => {
                    log::error!("queue event removed, its stored bytes are damaged number={number} error=\"{damage}\"");
                    actor.look_for_gaps(id);
                }
                Err(error) => actor.on_damage_kept(id, number, &error),
            });
        }
        let epoch = self.queue.epoch();
        let mut expired = 0;
        let mut contents = |events: Vec<crate::queue::record::DurableEvent>| {
            let found = events.into_iter().map(|event| Content::stored(event, epoch));
            let (late, pending): (Vec<_>, Vec<_>) = found.partition(|event| event.content.has_expired());
            expired += late.len() as u64;
            pending
        };
        let (due, fresh) = (contents(page.due), contents(page.fresh));
        if expired > 0 {
            self.metrics.subscribers.expired.add(expired);
            self.housekeeping.hurry();
        }
        // The last page has all pending events up to the head: the live copy of one is late.
        let next = if page.has_more { page.next } else { page.next.max(head) };
        let page = Page { due, fresh, next, more: page.has_more, next_due: page.next_due };
        self.with(id, |delivery, now, effects| delivery.on_page(page, now, effects));
        Ok(())
    }

    /// An event that was not read was not removed: it is not damaged, or the store has failed. It
    /// is read again.
    fn on_damage_kept(&mut self, id: AttachmentId, number: u64, error: &SubscriberError) {
        log::error!("damaged queue event not removed number={number} error=\"{error}\"");
        let now = self.clock.now();
        if let Some(active) = self.active.get_mut(&id)
            && !matches!(error, SubscriberError::Refused(_))
        {
            active.read_after = now.plus(READ_PAUSE_MS);
        }
        self.with(id, |delivery, now, effects| delivery.on_rewind(number - 1, now, effects));
    }

    /// Passes live events to the deliveries of their rooms.
    pub(super) fn take_live(&mut self) {
        let mut count = 0;
        while count < LIVE_PER_TURN
            && let Some(live) = self.live.pop_front()
        {
            count += match live {
                Live::Event(event) => self.on_live(&event),
                Live::LeftOut => self.on_left_out(),
            };
        }
    }

    fn on_live(&mut self, event: &RevealedEvent) -> usize {
        let (number, namespace) = (event.offset.number, &event.namespace);
        self.room_reads.on_event(event);
        let mut rooms: Vec<&RoomName> = event.rooms.iter().collect();
        // A subscriber of several rooms receives it through the first one, as from the store.
        rooms.sort_unstable();
        let (mut given, mut count) = (BTreeSet::new(), 1);
        for room in &rooms {
            let Some(ids) = self.by_room.get(&(namespace.clone(), (*room).clone())) else { continue };
            let ids: Vec<AttachmentId> = ids.iter().copied().collect();
            let content = Content::live(event, (*room).clone());
            for id in ids {
                let is_pending = self
                    .active
                    .get(&id)
                    .is_some_and(|active| active.rooms.get(*room).is_some_and(|after| *after < number));
                if is_pending && (rooms.len() == 1 || given.insert(id)) {
                    let bytes = event.payload.bytes();
                    let event = PendingEvent { number, attempts: 0, alone: false, bytes, content: content.clone() };
                    self.with(id, |delivery, now, effects| delivery.on_event(event, now, effects));
                    count += 1;
                }
            }
        }
        count
    }

    /// Live events were left out: every delivery reads from the store.
    fn on_left_out(&mut self) -> usize {
        let ids: Vec<AttachmentId> = self.active.keys().copied().collect();
        for id in &ids {
            self.with(*id, |delivery, now, effects| delivery.reread_unsent(now, effects));
        }
        self.room_reads.on_left_out();
        ids.len()
    }

    pub(super) fn forget_room(&mut self, key: &SubscriberKey, room: &RoomName, id: AttachmentId) {
        let place = (key.namespace.clone(), room.clone());
        if let Some(ids) = self.by_room.get_mut(&place) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_room.remove(&place);
            }
        }
    }
}

/// The change that commits a settlement.
pub(super) fn settlement_change(
    subscriber: &SubscriberKey,
    number: u64,
    settlement: Settlement,
    reason: String,
) -> Change {
    let subscriber = subscriber.clone();
    match settlement {
        Settlement::Acked => Change::Ack { subscriber, events: Acked::Numbers(vec![number]) },
        Settlement::Terminated => Change::Term { subscriber, number, attempts: None, reason },
        Settlement::Undeliverable { attempts } => {
            let reason = format!("not acknowledged after {attempts} deliveries");
            Change::Term { subscriber, number, attempts: Some(attempts), reason }
        }
        Settlement::Retry { attempts, alone, at } => {
            Change::DeliveryFailed { subscriber, number, attempts, alone, retry_at: at }
        }
    }
}

impl Active {
    /// True while a read that may bring events is outstanding.
    pub(super) fn is_reading(&self) -> bool {
        self.read.is_some()
    }
}
