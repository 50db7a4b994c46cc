//! Requests of the application about one subscriber.

use std::time::Duration;

use tokio::sync::oneshot;

use super::attaching::{GAPS_READ, outcome};
use super::delivering::Cause;
use super::reads::ReadJob;
use super::{Outlet, REQUESTED_READS_MAX, Subscribers, UNSUBMITTED_MAX, bounded};
use crate::ids::{RoomName, SocketId};
use crate::messages::attachment::{AttachmentId, AttachmentUpdate, SubscriberError, SubscriberReply};
use crate::messages::session::{SessionLink, SocketRef};
use crate::messages::subscribers::{Description, PendingJoin, SubscriberRequest};
use crate::queue::change::{Acked, Change, Outcome, Refusal, StartPosition};
use crate::queue::committer::unix_millis;
use crate::queue::record::{DurableEvent, SubscriberInfo, SubscriberKey, SubscriberState};
use crate::queue::store::{DeadLetterPage, PageLimit, StoreError};

/// Pending events that are counted for a description.
const DESCRIBED_MAX: usize = 10_000;

/// Pending events that are acknowledged at a time.
const ACKED_AT_A_TIME: usize = 256;

/// Subscribers of one listing.
const LISTED_MAX: usize = 1_000;

/// Events of one page for the application.
pub(super) const EVENTS_MAX: usize = 1_000;

/// Bytes of one page for the application.
pub(super) const PAGE_BYTES_MAX: usize = 1 << 20;

impl Subscribers {
    pub(super) fn on_request(&mut self, key: SubscriberKey, request: SubscriberRequest) {
        // Ends are not refused: nobody would repeat them.
        let is_end = matches!(request, SubscriberRequest::Release { .. } | SubscriberRequest::PullDropped);
        if !is_end && self.unsubmitted.len() >= UNSUBMITTED_MAX {
            return request.fail(SubscriberError::Overloaded);
        }
        match request {
            SubscriberRequest::Create(reply) => {
                self.change_then(Change::CreateSubscriber { subscriber: key }, reply, |_, _| ());
            }
            SubscriberRequest::Subscribe { room, from, reply } => self.on_subscribe(key, room, from, reply),
            SubscriberRequest::Unsubscribe { room, reply } => self.on_unsubscribe(key, room, reply),
            SubscriberRequest::Ack { events: Acked::Numbers(numbers), reply } => self.ack_numbers(key, numbers, reply),
            SubscriberRequest::Ack { events: Acked::UpTo(up_to), reply } => {
                self.read_for(reply, move |actor, reply| actor.ack_up_to(key, up_to, reply));
            }
            SubscriberRequest::Nak { number, delay, reply } => self.on_nak(&key, number, delay, reply),
            SubscriberRequest::Term { number, reason, reply } => {
                let change = Change::Term { subscriber: key.clone(), number, attempts: None, reason };
                self.change_then(change, reply, move |actor, _| {
                    actor.metrics.subscribers.terms.add(1);
                    actor.metrics.subscribers.dead_lettered.add(1);
                    actor.on_handled_elsewhere(&key, number);
                });
            }
            SubscriberRequest::Progress { number, reply } => {
                let id = self.in_flight_of(&key, number);
                let _ = reply.send(id.map(|id| {
                    self.with(id, |delivery, now, _| delivery.on_progress(number, now));
                }));
            }
            SubscriberRequest::Pull { limit, wait, reply } => self.on_pull(key, limit, wait, reply),
            SubscriberRequest::PullDropped => self.end_dropped_pull(&key),
            SubscriberRequest::Release { socket } => self.release(&key, socket.as_ref()),
            SubscriberRequest::Describe(reply) => self.list_for(reply, move |actor, reply| {
                let description = actor.describe(&key);
                actor.answer(reply, description)
            }),
            SubscriberRequest::DeadLetters { after, limit, reply } => self.list_for(reply, move |actor, reply| {
                let page = actor.dead_letters(&key, after, limit);
                actor.answer(reply, page)
            }),
            SubscriberRequest::ReplayDead { numbers, reply } => {
                self.replay_dead(key, numbers, Vec::new(), reply);
            }
            SubscriberRequest::Purge { up_to, reply } => {
                let change = Change::PurgeSubscriber { subscriber: key.clone(), up_to };
                self.change_then(change, reply, move |actor, _| {
                    if let Some(id) = actor.by_key.get(&key).copied() {
                        actor.with(id, |delivery, now, effects| delivery.on_removed(1, up_to, now, effects));
                        actor.look_for_gaps(id);
                    }
                });
            }
            SubscriberRequest::Remove(reply) => {
                self.change_then(Change::RemoveSubscriber { subscriber: key.clone() }, reply, move |actor, _| {
                    if let Some(id) = actor.by_key.get(&key).copied() {
                        actor.evict(id, "removed");
                    }
                });
            }
        }
    }

    /// Commits a change, continues, and answers.
    fn change_then<T: Send + 'static>(
        &mut self,
        change: Change,
        reply: SubscriberReply<T>,
        then: impl FnOnce(&mut Self, Outcome) -> T + Send + 'static,
    ) {
        self.submit(change, move |actor, result| {
            let result = outcome(result).map(|outcome| then(actor, outcome));
            // Packets of this turn precede the answer: an acknowledged event does not arrive after
            // it.
            actor.finish_changed();
            let _ = reply.send(result);
        });
    }

    /// Reads the store in a later turn, unless too many reads wait.
    fn read_for<T: Send + 'static>(
        &mut self,
        reply: SubscriberReply<T>,
        read: impl FnOnce(&mut Self, SubscriberReply<T>) -> Result<(), StoreError> + Send + 'static,
    ) {
        if self.reads.requested() >= REQUESTED_READS_MAX {
            let _ = reply.send(Err(SubscriberError::Overloaded));
            return;
        }
        self.reads.push(ReadJob::Request(Box::new(move |actor| read(actor, reply))));
    }

    /// Reads the store in a turn that deliveries leave, unless too many such reads wait.
    fn list_for<T: Send + 'static>(
        &mut self,
        reply: SubscriberReply<T>,
        read: impl FnOnce(&mut Self, SubscriberReply<T>) -> Result<(), StoreError> + Send + 'static,
    ) {
        if self.reads.listings() >= REQUESTED_READS_MAX {
            let _ = reply.send(Err(SubscriberError::Overloaded));
            return;
        }
        self.reads.push_listing(Box::new(move |actor| read(actor, reply)));
    }

    /// Answers with the result of a read. A store that failed is unavailable.
    fn answer<T>(
        &self,
        reply: SubscriberReply<T>,
        result: Result<Result<T, SubscriberError>, StoreError>,
    ) -> Result<(), StoreError> {
        match result {
            Ok(result) => {
                let _ = reply.send(result);
                Ok(())
            }
            Err(error) => {
                let _ = reply.send(Err(SubscriberError::Unavailable));
                Err(error)
            }
        }
    }

    fn on_subscribe(
        &mut self,
        key: SubscriberKey,
        room: RoomName,
        from: StartPosition,
        reply: SubscriberReply<PendingJoin>,
    ) {
        // A subscriber of another socket's own room would receive the events that are addressed to
        // that socket.
        if let Some(owner) = room.owner()
            && self.socket_of(&key).is_none_or(|socket| socket.info.id != owner)
        {
            let _ = reply.send(Err(SubscriberError::ForeignRoom));
            return;
        }
        let change = Change::Subscribe { subscriber: key.clone(), room: room.clone(), from };
        self.change_then(change, reply, move |actor, outcome| {
            let Outcome::Subscribed { after, .. } = outcome else { return None };
            let id = actor.by_key.get(&key).copied()?;
            let is_known = actor.active.get(&id).is_some_and(|active| active.rooms.contains_key(&room));
            let joined = actor.add_room(id, room, after);
            if !is_known {
                // Events since the commit may have been missed, and earlier ones were asked for.
                actor.with(id, |delivery, now, effects| delivery.on_rewind(after, now, effects));
            }
            actor.look_for_gaps(id);
            joined
        });
    }

    fn socket_of(&self, key: &SubscriberKey) -> Option<&SocketRef> {
        match &self.active.get(self.by_key.get(key)?)?.outlet {
            Outlet::Socket { socket, .. } => Some(socket),
            Outlet::Pull(_) => None,
        }
    }

    fn add_room(&mut self, id: AttachmentId, room: RoomName, after: u64) -> PendingJoin {
        let active = self.active.get_mut(&id)?;
        active.rooms.insert(room.clone(), after);
        self.by_room.entry((active.key.namespace.clone(), room.clone())).or_default().insert(id);
        matches!(active.outlet, Outlet::Socket { .. }).then(|| {
            let (sender, receiver) = oneshot::channel();
            active.tell(id, AttachmentUpdate::JoinNew { room, after, done: sender });
            receiver
        })
    }

    fn on_unsubscribe(&mut self, key: SubscriberKey, room: RoomName, reply: SubscriberReply<()>) {
        let change = Change::Unsubscribe { subscriber: key.clone(), room: room.clone() };
        self.change_then(change, reply, move |actor, _| {
            let Some(id) = actor.by_key.get(&key).copied() else { return };
            let Some(active) = actor.active.get_mut(&id) else { return };
            active.rooms.remove(&room);
            actor.forget_room(&key, &room, id);
            if let Some(active) = actor.active.get(&id) {
                active.tell(id, AttachmentUpdate::Leave(room));
            }
            // They may not be pending any more, or only in another room.
            actor.with(id, |delivery, now, effects| delivery.reread_unsent(now, effects));
            // An event that was removed from another room was pending through this one.
            actor.look_for_gaps(id);
        });
    }

    fn ack_numbers(&mut self, key: SubscriberKey, numbers: Vec<u64>, reply: SubscriberReply<u64>) {
        let change = Change::Ack { subscriber: key.clone(), events: Acked::Numbers(numbers.clone()) };
        self.change_then(change, reply, move |actor, outcome| {
            for number in numbers {
                actor.on_handled_elsewhere(&key, number);
            }
            actor.count_acked(&outcome)
        });
    }

    fn count_acked(&self, outcome: &Outcome) -> u64 {
        let Outcome::Acked { events } = outcome else { return 0 };
        self.metrics.subscribers.acks.add(*events);
        *events
    }

    /// An event was handled by a request, and its delivery is notified.
    fn on_handled_elsewhere(&mut self, key: &SubscriberKey, number: u64) {
        if let Some(id) = self.by_key.get(key).copied() {
            self.with(id, |delivery, now, effects| delivery.on_removed(number, number, now, effects));
            self.confirm_gaps(id, number);
        }
    }

    /// Acknowledges the event of a number, and those before it but for what the subscriber may not
    /// have received: gaps that it does not know are not confirmed, events that have expired become
    /// gaps, and those whose delivery has failed come again. The other events are then acknowledged
    /// one by one.
    fn ack_up_to(&mut self, key: SubscriberKey, up_to: u64, reply: SubscriberReply<u64>) -> Result<(), StoreError> {
        let head = match self.reader.totals() {
            Ok(totals) => totals.head.number,
            Err(error) => return self.answer(reply, Err(error)),
        };
        if up_to > head {
            return self.answer(reply, Ok(Err(Refusal::BeyondHead { number: up_to, head }.into())));
        }
        if let Some(id) = self.by_key.get(&key).copied() {
            self.confirm_gaps(id, up_to);
        }
        // In this order: an event that is removed between the two reads is a gap in the second.
        let has_expired = match self.reader.has_expired(up_to, unix_millis()) {
            Ok(has_expired) => has_expired,
            Err(error) => return self.answer(reply, Err(error)),
        };
        let gaps = match self.reader.gaps(&key, 0, GAPS_READ) {
            Ok(page) => page.gaps,
            Err(error) => return self.answer(reply, Err(error)),
        };
        let first_failed = match self.reader.first_failed(&key, 1) {
            Ok(first_failed) => first_failed,
            Err(error) => return self.answer(reply, Err(error)),
        };
        if has_expired {
            self.housekeeping.hurry();
        }
        let has_gaps = has_expired || gaps.iter().any(|gap| gap.from <= up_to);
        if has_gaps && let Some(id) = self.by_key.get(&key).copied() {
            self.look_for_gaps(id);
        }
        if has_gaps || first_failed.is_some_and(|number| number <= up_to) {
            return self.ack_pending(key, 0, up_to, 0, reply);
        }
        let change = Change::Ack { subscriber: key.clone(), events: Acked::UpTo(up_to) };
        self.change_then(change, reply, move |actor, outcome| {
            if let Some(id) = actor.by_key.get(&key).copied() {
                actor.with(id, |delivery, now, effects| delivery.on_removed(1, up_to, now, effects));
            }
            actor.count_acked(&outcome)
        });
        Ok(())
    }

    /// Acknowledges pending events after a number, up to another one.
    fn ack_pending(
        &mut self,
        key: SubscriberKey,
        after: u64,
        up_to: u64,
        acked: u64,
        reply: SubscriberReply<u64>,
    ) -> Result<(), StoreError> {
        let limit = PageLimit { events: ACKED_AT_A_TIME, bytes: PAGE_BYTES_MAX };
        let page = match self.reader.pending(&key, after, limit) {
            Ok(page) => page,
            Err(error) => return self.answer(reply, Err(error)),
        };
        let now = unix_millis();
        let mut numbers = Vec::new();
        for DurableEvent { number, expires_at, .. } in page.events.iter().filter(|event| event.number <= up_to) {
            let has_failed = match self.reader.first_failed(&key, *number) {
                Ok(first) => first == Some(*number),
                Err(error) => return self.answer(reply, Err(error)),
            };
            let has_expired = expires_at.is_some_and(|at| at <= now);
            if *number == up_to || !(has_failed || has_expired) || self.in_flight_of(&key, *number).is_ok() {
                numbers.push(*number);
            }
        }
        let is_last = !page.has_more || page.next >= up_to;
        let change = Change::Ack { subscriber: key.clone(), events: Acked::Numbers(numbers.clone()) };
        self.submit(change, move |actor, result| match outcome(result) {
            Ok(outcome) => {
                for number in numbers {
                    actor.on_handled_elsewhere(&key, number);
                }
                let acked = acked + actor.count_acked(&outcome);
                if is_last {
                    actor.finish_changed();
                    let _ = reply.send(Ok(acked));
                } else {
                    actor.read_for(reply, move |actor, reply| actor.ack_pending(key, page.next, up_to, acked, reply));
                }
            }
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        });
        Ok(())
    }

    /// The delivery in which an event is in flight.
    fn in_flight_of(&self, key: &SubscriberKey, number: u64) -> Result<AttachmentId, SubscriberError> {
        let id = self.by_key.get(key).copied();
        let is_in_flight =
            |id: &AttachmentId| self.active.get(id).is_some_and(|active| active.delivery.is_in_flight(number));
        id.filter(is_in_flight).ok_or(SubscriberError::NotInFlight { number })
    }

    fn on_nak(&mut self, key: &SubscriberKey, number: u64, delay: Option<Duration>, reply: SubscriberReply<()>) {
        let id = match self.in_flight_of(key, number) {
            Ok(id) => id,
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        self.metrics.subscribers.naks.add(1);
        if let Some(active) = self.active.get_mut(&id) {
            active.naks.push((number, reply));
        }
        let delay = delay.map(|delay| bounded(delay, Duration::MAX));
        self.with_cause(id, Cause::Nak, |delivery, now, effects| delivery.on_nak(number, delay, now, effects));
        self.confirm_gaps(id, number);
    }

    fn release(&mut self, key: &SubscriberKey, socket: Option<&(SocketId, SessionLink)>) {
        let Some(id) = self.by_key.get(key).copied() else { return };
        let Some(active) = self.active.get(&id) else { return };
        match &active.outlet {
            // A socket that was resumed has its id, and another session.
            Outlet::Socket { socket: attached, .. }
                if socket.is_some_and(|(socket, link)| *socket == attached.info.id && link.is(&attached.link)) =>
            {
                for room in active.rooms.keys() {
                    active.tell(id, AttachmentUpdate::Leave(room.clone()));
                }
                active.tell(id, AttachmentUpdate::Ended(None));
            }
            Outlet::Pull(_) if socket.is_none() => self.fail_pull(id, &SubscriberError::Busy),
            _ => return,
        }
        self.end(id);
    }

    fn describe(&mut self, key: &SubscriberKey) -> Result<Result<Description, SubscriberError>, StoreError> {
        let Some(info) = self.reader.subscriber(key)? else { return Ok(Err(Refusal::UnknownSubscriber.into())) };
        if let SubscriberState::Expired { at } = info.state {
            return Ok(Err(Refusal::SubscriberExpired { at }.into()));
        }
        let backlog = self.reader.backlog(key, DESCRIBED_MAX)?;
        let gaps = self.reader.gaps(key, 0, GAPS_READ)?.gaps;
        let head = self.reader.totals()?.head.number;
        let id = self.by_key.get(key).copied();
        let delivery = id.and_then(|id| self.active.get(&id)).map(|active| &active.delivery);
        Ok(Ok(Description {
            info,
            is_attached: id.is_some_and(|id| self.is_attached(id)),
            backlog,
            gaps,
            in_flight: delivery.map_or(0, |delivery| delivery.in_flight()),
            oldest_in_flight: delivery.and_then(|delivery| delivery.oldest_in_flight()),
            head,
        }))
    }

    fn dead_letters(
        &mut self,
        key: &SubscriberKey,
        after: u64,
        limit: usize,
    ) -> Result<Result<DeadLetterPage, SubscriberError>, StoreError> {
        match self.reader.subscriber(key)?.map(|info| info.state) {
            None => return Ok(Err(Refusal::UnknownSubscriber.into())),
            Some(SubscriberState::Expired { at }) => return Ok(Err(Refusal::SubscriberExpired { at }.into())),
            Some(SubscriberState::Active) => {}
        }
        let limit = PageLimit { events: limit.clamp(1, EVENTS_MAX), bytes: PAGE_BYTES_MAX };
        self.reader.dead_letters(key, after, limit).map(Ok)
    }

    /// Replays until no dead letter is left of those that were asked for.
    fn replay_dead(
        &mut self,
        key: SubscriberKey,
        numbers: Option<Vec<u64>>,
        mut replayed: Vec<(u64, u64)>,
        reply: SubscriberReply<Vec<(u64, u64)>>,
    ) {
        let change = Change::ReplayDead { subscriber: key.clone(), numbers: numbers.clone() };
        self.submit(change, move |actor, result| match outcome(result) {
            Ok(Outcome::Replayed { events, has_more }) => {
                let first = events.iter().map(|(_, new)| *new).min();
                let id = actor.by_key.get(&key).copied();
                if let (Some(id), Some(first)) = (id, first) {
                    actor.with(id, |delivery, now, effects| delivery.on_rewind(first - 1, now, effects));
                }
                replayed.extend(events);
                // One that has become a dead letter again meanwhile is not replayed for ever.
                let begin = replayed.first().map_or(u64::MAX, |(_, new)| *new);
                if has_more && replayed.last().is_none_or(|(old, _)| *old < begin) {
                    actor.replay_dead(key, numbers, replayed, reply);
                } else {
                    let _ = reply.send(Ok(replayed));
                }
            }
            Ok(_) => {
                let _ = reply.send(Err(SubscriberError::Indeterminate));
            }
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        });
    }

    pub(super) fn list(&mut self, after: SubscriberKey, limit: usize, reply: SubscriberReply<Vec<SubscriberInfo>>) {
        self.list_for(reply, move |actor, reply| {
            let found = actor.reader.subscribers(Some(&after), limit.clamp(1, LISTED_MAX)).map(|mut found| {
                found.retain(|info| info.key.namespace == after.namespace);
                Ok(found)
            });
            actor.answer(reply, found)
        });
    }
}

impl SubscriberRequest {
    pub(super) fn fail(self, error: SubscriberError) {
        fn send<T>(reply: SubscriberReply<T>, error: SubscriberError) {
            let _ = reply.send(Err(error));
        }
        match self {
            Self::Create(reply) | Self::Remove(reply) => send(reply, error),
            Self::Subscribe { reply, .. } => send(reply, error),
            Self::Unsubscribe { reply, .. }
            | Self::Nak { reply, .. }
            | Self::Term { reply, .. }
            | Self::Progress { reply, .. }
            | Self::Purge { reply, .. } => send(reply, error),
            Self::Ack { reply, .. } => send(reply, error),
            Self::Pull { reply, .. } => send(reply, error),
            Self::Describe(reply) => send(reply, error),
            Self::DeadLetters { reply, .. } => send(reply, error),
            Self::ReplayDead { reply, .. } => send(reply, error),
            Self::Release { .. } | Self::PullDropped => {}
        }
    }
}
