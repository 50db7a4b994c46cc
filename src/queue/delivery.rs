//! Delivery of one subscriber's pending events: order, bound of events in flight, acks, retries.
//!
//! A state machine without a clock and without a store. Its effects are reads, sends and commits;
//! the results of reads and commits are passed back to it. Every event that is not settled is in
//! the store, so a dropped `Delivery` loses nothing.
//!
//! **Invariant**: an event is sent for the first time only after every pending event with a lower
//! number was sent, is waiting for its retry, or is damaged.
//!
//! **Invariant**: memory is bounded by [`DeliveryLimits`], not by the number of pending events or
//! of retries.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;

use super::record::UnixMillis;

/// Bounds and times of one subscriber's delivery.
#[derive(Debug, Clone)]
pub(crate) struct DeliveryLimits {
    /// Events sent and not settled. At least one.
    pub in_flight_max: usize,
    /// Payload bytes of those events; a larger event is sent alone.
    pub in_flight_bytes_max: usize,
    /// Milliseconds from the moment at which an event is the oldest in flight until its attempt has
    /// failed. For a pulled event: from the pull.
    pub ack_wait: u64,
    /// Milliseconds until a retry, by the number of failed attempts; the last one repeats. Not
    /// empty.
    pub back_off: Vec<u64>,
    /// Failed attempts after which an event becomes a dead letter. At least one.
    pub max_deliver: u32,
    /// Longest delay in milliseconds that a client may ask for.
    pub nak_delay_max: u64,
}

/// An event that is pending for the subscriber, as the store has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PendingEvent<C = ()> {
    pub number: u64,
    /// Attempts that have failed.
    pub attempts: u32,
    /// The event is sent while no other is in flight: it may be what ends the subscriber's
    /// connections.
    pub alone: bool,
    /// Bytes of its payload.
    pub bytes: usize,
    /// Its content, which comes out again when the event is sent.
    pub content: C,
}

impl<C> PendingEvent<C> {
    /// The event without its content.
    fn split(self) -> (PendingEvent, C) {
        let Self { number, attempts, alone, bytes, content } = self;
        (PendingEvent { number, attempts, alone, bytes, content: () }, content)
    }
}

/// Pending events of the subscriber, read at one moment.
#[derive(Debug)]
pub(crate) struct Page<C = ()> {
    /// Events whose retry is due, in ascending order.
    pub due: Vec<PendingEvent<C>>,
    /// Events above the number asked for that wait for no retry, in ascending order. Damaged events
    /// are not among them.
    pub fresh: Vec<PendingEvent<C>>,
    /// Number to read fresh events on from.
    pub next: u64,
    /// More events are due, or fresh above `next`.
    pub more: bool,
    /// The time of the earliest retry that is not due.
    pub next_due: Option<UnixMillis>,
}

impl<C> Default for Page<C> {
    fn default() -> Self {
        Self { due: Vec::new(), fresh: Vec::new(), next: 0, more: false, next_due: None }
    }
}

/// How a subscriber receives events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Over a connection, as many as may be in flight.
    Push,
    /// As many as were asked for and not yet sent.
    Pull { demand: usize },
}

/// The result of an event for its subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settlement {
    /// The subscriber acknowledged the event.
    Acked,
    /// The subscriber gave the event up. It becomes a dead letter.
    Terminated,
    /// So many attempts failed, at least `max_deliver`. The event becomes a dead letter.
    Undeliverable { attempts: u32 },
    /// The event is sent again at `at`, or later.
    Retry { attempts: u32, alone: bool, at: UnixMillis },
}

/// An action that the owner of the machine carries out. Effects are carried out in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect<C = ()> {
    /// Read a page of pending events above `after` and of due retries, without those in `except`,
    /// and pass it to [`Delivery::on_page`]. It has one event at least, if there is one, and stays
    /// within the bounds otherwise.
    Read { after: u64, except: Vec<u64>, events_max: usize, bytes_max: usize },
    /// Send the event. `redelivered` is true if the subscriber may have received it before.
    Send { number: u64, redelivered: bool, content: C },
    /// Commit the settlement, and pass the result to [`Delivery::on_commit`].
    Commit { number: u64, settlement: Settlement },
}

/// The answer to a subscriber whose acknowledgement is not accepted. Nothing has changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The event was never sent to this subscriber.
    NeverSent,
    /// The commits of `in_flight_max` events that are not in flight are under way.
    Overloaded,
}

/// The reason why an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// The subscriber wants the event again, after so many milliseconds if it said so.
    Nak(Option<u64>),
    TimedOut,
    ConnectionLost,
    /// The attempt of another event that was pulled with this one failed.
    Bystander,
}

/// An event that was sent and is not settled.
#[derive(Debug)]
struct InFlight {
    event: PendingEvent,
    /// The time at which the attempt fails, unless an older event of the connection is in flight.
    deadline: UnixMillis,
    /// The settlement whose commit is under way.
    committing: Option<Settlement>,
    /// The settlement, other than a retry, whose commit failed. It is committed again when the
    /// attempt's time is over.
    failed: Option<Settlement>,
}

/// One subscriber's delivery, from the moment at which its connection (or its first pull) begins.
#[derive(Debug)]
pub(crate) struct Delivery<C = ()> {
    limits: DeliveryLimits,
    mode: Mode,
    /// Every pending event up to here was sent, is in `ready`, waits for its retry, or is damaged.
    cursor: u64,
    /// The highest number that was sent, on earlier connections included.
    sent_up_to: u64,
    /// Events that were read and not sent. Retries come first.
    ready: VecDeque<PendingEvent<C>>,
    in_flight: BTreeMap<u64, InFlight>,
    in_flight_bytes: usize,
    /// Events that are not in flight and that the subscriber settles: it received them earlier.
    settling: BTreeSet<u64>,
    /// The store may have events that were not read.
    unread: bool,
    read: Option<ReadUnderWay>,
    /// The time of the earliest retry that was committed and not read.
    next_due: Option<UnixMillis>,
}

/// Changes since the read under way began, which its page may not show.
#[derive(Debug, Default)]
struct ReadUnderWay {
    /// The earliest retry.
    next_due: Option<UnixMillis>,
    /// Events that the page may have were settled or removed.
    is_stale: bool,
    /// Events that the page may not have were published.
    has_news: bool,
}

impl<C> Delivery<C> {
    /// Starts above `floor`, up to which everything is settled. Events up to `sent_up_to` may have
    /// been sent before. The commits of the subscriber's former `Delivery` have ended before the
    /// first page is read.
    pub(crate) fn new(limits: DeliveryLimits, mode: Mode, floor: u64, sent_up_to: u64) -> Self {
        Self {
            limits,
            mode,
            cursor: floor,
            sent_up_to,
            ready: VecDeque::new(),
            in_flight: BTreeMap::new(),
            in_flight_bytes: 0,
            settling: BTreeSet::new(),
            unread: true,
            read: None,
            next_due: None,
        }
    }

    /// The highest number that was sent, on earlier connections included.
    pub(crate) fn sent_up_to(&self) -> u64 {
        self.sent_up_to
    }

    pub(crate) fn is_in_flight(&self, number: u64) -> bool {
        self.in_flight.contains_key(&number)
    }

    /// Number of events in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The oldest event in flight.
    pub(crate) fn oldest_in_flight(&self) -> Option<u64> {
        self.in_flight.keys().next().copied()
    }

    /// The time at which [`advance`](Self::advance) has something to do.
    pub(crate) fn next_deadline(&self) -> Option<UnixMillis> {
        let due = self.next_due.filter(|_| self.read.is_none() && self.ready.is_empty() && self.has_room());
        self.expiring().map(|sent| sent.deadline).into_iter().chain(due).min()
    }

    /// Sends, reads and gives up what has become possible or due by `now`.
    pub(crate) fn advance(&mut self, now: UnixMillis, effects: &mut Vec<Effect<C>>) {
        self.expire(now, effects);
        while self.may_send() {
            let Some(event) = self.ready.pop_front() else { break };
            self.send(event, now, effects);
        }
        let is_due = self.next_due.is_some_and(|due| due <= now);
        if self.ready.is_empty() && self.read.is_none() && (self.unread || is_due) && self.has_room() {
            self.read = Some(ReadUnderWay::default());
            let (events_max, bytes_max) = self.page_bounds();
            let except = self.in_flight.keys().chain(&self.settling).copied().collect();
            effects.push(Effect::Read { after: self.cursor, except, events_max, bytes_max });
        }
    }

    /// Takes the page of the read under way.
    pub(crate) fn on_page(&mut self, page: Page<C>, now: UnixMillis, effects: &mut Vec<Effect<C>>) {
        let Some(read) = self.read.take() else { return };
        if read.is_stale {
            self.unread = true;
        } else {
            self.unread = page.more || read.has_news;
            self.next_due = page.next_due.into_iter().chain(read.next_due).min();
            self.cursor = page.next;
            self.ready.extend(page.due.into_iter().chain(page.fresh));
        }
        self.advance(now, effects);
    }

    /// A new event is pending for the subscriber.
    pub(crate) fn on_event(&mut self, event: PendingEvent<C>, now: UnixMillis, effects: &mut Vec<Effect<C>>) {
        let fits = self.fits_in_ready(event.bytes);
        match &mut self.read {
            Some(read) => read.has_news = true,
            None if self.unread || !fits => self.unread = true,
            None if event.number > self.cursor => {
                self.cursor = event.number;
                self.ready.push_back(event);
            }
            None => {}
        }
        self.advance(now, effects);
    }

    /// Pending events above `after` were added below those that were sent.
    pub(crate) fn on_rewind(&mut self, after: u64, now: UnixMillis, effects: &mut Vec<Effect<C>>) {
        self.rewind(after);
        self.advance(now, effects);
    }

    /// Events that were not sent may be missing here, or not be pending any more; none was added
    /// below them. They are read from the store again.
    pub(crate) fn reread_unsent(&mut self, now: UnixMillis, effects: &mut Vec<Effect<C>>) {
        self.on_rewind(u64::MAX, now, effects);
    }

    /// Asks for `count` events of a subscriber that pulls, in place of those it asked for before.
    pub(crate) fn on_pull(&mut self, count: usize, now: UnixMillis, effects: &mut Vec<Effect<C>>) {
        if let Mode::Pull { demand } = &mut self.mode {
            *demand = count;
        }
        self.advance(now, effects);
    }

    /// The subscriber has acknowledged the event: any number of times, also after its attempt has
    /// failed.
    pub(crate) fn on_ack(&mut self, number: u64, now: UnixMillis, effects: &mut Vec<Effect<C>>) -> Result<(), Refused> {
        self.on_settlement(number, Settlement::Acked, now, effects)
    }

    /// The subscriber gives the event up.
    pub(crate) fn on_term(
        &mut self,
        number: u64,
        now: UnixMillis,
        effects: &mut Vec<Effect<C>>,
    ) -> Result<(), Refused> {
        self.on_settlement(number, Settlement::Terminated, now, effects)
    }

    /// The subscriber wants the event again, after `delay` milliseconds or after the back-off.
    pub(crate) fn on_nak(
        &mut self,
        number: u64,
        delay: Option<u64>,
        now: UnixMillis,
        effects: &mut Vec<Effect<C>>,
    ) -> Result<(), Refused> {
        match self.in_flight.get(&number) {
            Some(sent) => {
                let settlement = self.after_failure(sent.event.attempts, Failure::Nak(delay), now);
                self.settle(number, settlement, now, effects);
                Ok(())
            }
            // Its retry is planned, or it is settled.
            None => self.require_sent(number),
        }
    }

    /// The subscriber is still working on the event, whose attempt has as long again.
    pub(crate) fn on_progress(&mut self, number: u64, now: UnixMillis) -> Result<(), Refused> {
        match self.in_flight.get_mut(&number) {
            Some(sent) => {
                sent.deadline = now.plus(self.limits.ack_wait);
                Ok(())
            }
            None => self.require_sent(number),
        }
    }

    /// The settlement of `number` was committed, or the store has failed and nothing has changed. A
    /// change that the store refused counts as committed: the event is not pending any more.
    pub(crate) fn on_commit(
        &mut self,
        number: u64,
        settlement: Settlement,
        is_committed: bool,
        now: UnixMillis,
        effects: &mut Vec<Effect<C>>,
    ) {
        let is_retry = matches!(settlement, Settlement::Retry { .. });
        match self.in_flight.get_mut(&number).filter(|sent| sent.committing == Some(settlement)) {
            Some(_) if is_committed => self.remove(number, now),
            Some(sent) => {
                sent.failed = sent.committing.take().filter(|_| !is_retry);
                sent.deadline = now.plus(self.limits.ack_wait);
            }
            // The event may be pending without a retry.
            None if !is_retry && self.settling.remove(&number) && !is_committed => self.rewind(number - 1),
            None => {}
        }
        if let (Settlement::Retry { at, .. }, true) = (settlement, is_committed) {
            let next_due = self.read.as_mut().map_or(&mut self.next_due, |read| &mut read.next_due);
            *next_due = next_due.iter().copied().chain([at]).min();
        }
        self.advance(now, effects);
    }

    /// Events `from..=to` are not pending any more.
    pub(crate) fn on_removed(&mut self, from: u64, to: u64, now: UnixMillis, effects: &mut Vec<Effect<C>>) {
        self.forget(from..=to, now);
        self.advance(now, effects);
    }

    /// The event had expired when it was to be sent, and was not sent. A subscriber that pulls
    /// receives another one for it.
    pub(crate) fn on_expired(&mut self, number: u64, now: UnixMillis, effects: &mut Vec<Effect<C>>) {
        if self.is_in_flight(number)
            && let Mode::Pull { demand } = &mut self.mode
        {
            *demand += 1;
        }
        self.on_removed(number, number, now, effects);
    }

    /// The subscriber has not received these events, which were sent. They are sent again.
    pub(crate) fn on_returned(&mut self, numbers: &[u64], now: UnixMillis, effects: &mut Vec<Effect<C>>) {
        for number in numbers {
            self.remove(*number, now);
        }
        if let Some(first) = numbers.iter().min() {
            self.rewind(first - 1);
        }
        self.advance(now, effects);
    }

    /// The connection is lost. The attempt of the oldest event in flight has failed, since that
    /// event may be what ended the client; the attempts of the others do not count.
    pub(crate) fn on_connection_lost(mut self, now: UnixMillis, effects: &mut Vec<Effect<C>>) {
        if let Some(sent) = self.oldest_waiting() {
            let (number, settlement) = (sent.event.number, self.after_attempt(sent, Failure::ConnectionLost, now));
            self.settle(number, settlement, now, effects);
        }
    }

    /// Does not send events that were read, or are being read, and are not pending any more.
    fn forget(&mut self, numbers: RangeInclusive<u64>, now: UnixMillis) {
        if numbers.is_empty() {
            return;
        }
        self.ready.retain(|event| !numbers.contains(&event.number));
        let sent: Vec<u64> = self.in_flight.range(numbers).map(|(number, _)| *number).collect();
        for number in sent {
            self.remove(number, now);
        }
        self.discard_page();
    }

    fn rewind(&mut self, after: u64) {
        let unsent = self.ready.drain(..).map(|event| event.number - 1).min();
        self.cursor = unsent.into_iter().chain([self.cursor, after]).min().unwrap_or(after);
        self.unread = true;
        self.discard_page();
    }

    /// Discards the page of the read under way.
    fn discard_page(&mut self) {
        if let Some(read) = &mut self.read {
            read.is_stale = true;
        }
    }

    fn require_sent(&self, number: u64) -> Result<(), Refused> {
        if (1..=self.sent_up_to).contains(&number) { Ok(()) } else { Err(Refused::NeverSent) }
    }

    /// The oldest event in flight whose settlement is not under way.
    fn oldest_waiting(&self) -> Option<&InFlight> {
        self.in_flight.values().find(|sent| sent.committing.is_none())
    }

    /// The event in flight whose attempt fails next.
    fn expiring(&self) -> Option<&InFlight> {
        match self.mode {
            // A client that handles one event after the other needs longer for the later ones.
            Mode::Push => self.oldest_waiting(),
            Mode::Pull { .. } => {
                self.in_flight.values().filter(|sent| sent.committing.is_none()).min_by_key(|sent| sent.deadline)
            }
        }
    }

    /// Ends the attempts whose time is over.
    fn expire(&mut self, now: UnixMillis, effects: &mut Vec<Effect<C>>) {
        let mut failure = Failure::TimedOut;
        while let Some(sent) = self.expiring().filter(|sent| sent.deadline <= now) {
            let (number, settlement) = (sent.event.number, self.after_attempt(sent, failure, now));
            self.settle(number, settlement, now, effects);
            // Of events that were pulled together the first may have stopped the others.
            failure = Failure::Bystander;
        }
    }

    /// The settlement of an event whose attempt has ended without one that was committed.
    fn after_attempt(&self, sent: &InFlight, failure: Failure, now: UnixMillis) -> Settlement {
        sent.failed.unwrap_or_else(|| self.after_failure(sent.event.attempts, failure, now))
    }

    fn after_failure(&self, attempts: u32, failure: Failure, now: UnixMillis) -> Settlement {
        let failed = attempts + u32::from(failure != Failure::Bystander);
        if failed >= self.limits.max_deliver {
            return Settlement::Undeliverable { attempts: failed };
        }
        let steps = &self.limits.back_off;
        let back_off = steps[(attempts as usize).min(steps.len() - 1)];
        let delay = match failure {
            Failure::Nak(delay) => delay.map_or(back_off, |delay| delay.min(self.limits.nak_delay_max)),
            Failure::TimedOut => back_off,
            Failure::ConnectionLost | Failure::Bystander => 0,
        };
        let alone = failure == Failure::ConnectionLost && failed >= SUSPECT_ATTEMPTS;
        Settlement::Retry { attempts: failed, alone, at: now.plus(delay) }
    }

    fn on_settlement(
        &mut self,
        number: u64,
        settlement: Settlement,
        now: UnixMillis,
        effects: &mut Vec<Effect<C>>,
    ) -> Result<(), Refused> {
        self.require_sent(number)?;
        match self.in_flight.get(&number).map(|sent| sent.committing) {
            Some(None) => self.settle(number, settlement, now, effects),
            // Its retry is planned, or it was sent on an earlier connection, or it is settled,
            // which the store knows.
            None | Some(Some(Settlement::Retry { .. })) => {
                if self.settling.contains(&number) {
                    return Ok(());
                }
                if self.settling.len() >= self.limits.in_flight_max {
                    return Err(Refused::Overloaded);
                }
                self.settling.insert(number);
                self.forget(number..=number, now);
                effects.push(Effect::Commit { number, settlement });
            }
            Some(Some(_)) => {}
        }
        Ok(())
    }

    /// Commits the settlement of an event in flight whose settlement is not under way.
    fn settle(&mut self, number: u64, settlement: Settlement, now: UnixMillis, effects: &mut Vec<Effect<C>>) {
        let Some(sent) = self.in_flight.get_mut(&number).filter(|sent| sent.committing.is_none()) else { return };
        sent.committing = Some(settlement);
        effects.push(Effect::Commit { number, settlement });
        self.restart_wait(number, now);
    }

    fn remove(&mut self, number: u64, now: UnixMillis) {
        if let Some(sent) = self.in_flight.remove(&number) {
            self.in_flight_bytes -= sent.event.bytes;
            if sent.committing.is_none() {
                self.restart_wait(number, now);
            }
        }
    }

    /// Restarts the wait of the oldest event in flight, unless it is older than `number`.
    fn restart_wait(&mut self, number: u64, now: UnixMillis) {
        let oldest = self.in_flight.values_mut().find(|sent| sent.committing.is_none());
        if let (Mode::Push, Some(oldest)) = (self.mode, oldest)
            && oldest.event.number > number
        {
            oldest.deadline = oldest.deadline.max(now.plus(self.limits.ack_wait));
        }
    }

    fn send(&mut self, event: PendingEvent<C>, now: UnixMillis, effects: &mut Vec<Effect<C>>) {
        if let Mode::Pull { demand } = &mut self.mode {
            *demand -= 1;
        }
        let (event, content) = event.split();
        let redelivered = event.number <= self.sent_up_to;
        effects.push(Effect::Send { number: event.number, redelivered, content });
        self.sent_up_to = self.sent_up_to.max(event.number);
        self.in_flight_bytes += event.bytes;
        let deadline = now.plus(self.limits.ack_wait);
        self.in_flight.insert(event.number, InFlight { event, deadline, committing: None, failed: None });
    }

    /// True if `ready` has room for an event of so many bytes, within the bounds of a page.
    fn fits_in_ready(&self, event_bytes: usize) -> bool {
        let bytes: usize = self.ready.iter().map(|event| event.bytes).sum();
        let fits = bytes + event_bytes <= self.limits.in_flight_bytes_max;
        self.ready.is_empty() || (fits && self.ready.len() < self.limits.in_flight_max)
    }

    /// Events and bytes of a page: those that can be sent, or more if a page would be small.
    fn page_bounds(&self) -> (usize, usize) {
        let DeliveryLimits { in_flight_max, in_flight_bytes_max, .. } = self.limits;
        let events = in_flight_max.saturating_sub(self.in_flight.len()).max(in_flight_max / PAGE_EVENTS_SHARE);
        let bytes = in_flight_bytes_max.saturating_sub(self.in_flight_bytes);
        (events, bytes.max(in_flight_bytes_max / PAGE_BYTES_SHARE))
    }

    fn has_room(&self) -> bool {
        self.in_flight.len() < self.limits.in_flight_max
            && self.in_flight_bytes < self.limits.in_flight_bytes_max
            && self.mode != Mode::Pull { demand: 0 }
    }

    /// True if the next event fits beside those in flight.
    fn may_send(&self) -> bool {
        let Some(next) = self.ready.front() else { return false };
        let alone = next.alone || self.in_flight.values().any(|sent| sent.event.alone);
        let fits = self.in_flight_bytes + next.bytes <= self.limits.in_flight_bytes_max;
        self.has_room() && (self.in_flight.is_empty() || (fits && !alone))
    }
}

/// The smallest page, as parts of the events and of the bytes that may be in flight.
const PAGE_EVENTS_SHARE: usize = 4;
const PAGE_BYTES_SHARE: usize = 16;

/// Failed attempts after which an event whose connection was lost is sent alone. Two: one lost
/// connection says little.
const SUSPECT_ATTEMPTS: u32 = 2;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
