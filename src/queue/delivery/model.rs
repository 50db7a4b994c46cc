//! `Delivery` against a reference: a list of all events with what happened to each, and a store
//! that answers late or fails.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

const IN_FLIGHT: usize = 4;
const IN_FLIGHT_BYTES: usize = 100;
const ACK_WAIT: u64 = 30;
const MAX_DELIVER: u32 = 4;

fn limits() -> DeliveryLimits {
    DeliveryLimits {
        in_flight_max: IN_FLIGHT,
        in_flight_bytes_max: IN_FLIGHT_BYTES,
        ack_wait: ACK_WAIT,
        back_off: vec![1, 5, 20],
        max_deliver: MAX_DELIVER,
        nak_delay_max: 50,
    }
}

#[derive(Debug, Clone)]
enum Step {
    Publish {
        bytes: usize,
    },
    /// An event of a room to which the subscriber has not subscribed yet.
    PublishElsewhere,
    Ack(usize),
    Term(usize),
    Nak(usize, Option<u64>),
    Progress(usize),
    /// An ack of any number, sent or not.
    AckNumber(u64),
    Purge(u64, u64),
    /// The stored bytes of an event are damaged from now on.
    Damage(u64),
    Pass(u64),
    /// The store reads the page that arrives later.
    Read,
    Page,
    Commit,
    FailCommit,
    Pull(usize),
    LoseConnection,
    /// The process ends: neither page nor commit under way arrives.
    Crash,
    /// Subscribes to that room from its first event on.
    Subscribe,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..150usize).prop_map(|bytes| Step::Publish { bytes }),
        1 => Just(Step::PublishElsewhere),
        6 => (0..8usize).prop_map(Step::Ack),
        1 => (0..8usize).prop_map(Step::Term),
        3 => (0..8usize, proptest::option::of(prop_oneof![0..9u64, Just(u64::MAX)])).prop_map(|(at, delay)| Step::Nak(at, delay)),
        1 => (0..8usize).prop_map(Step::Progress),
        4 => (0..12u64).prop_map(Step::AckNumber),
        2 => (0..16u64, 0..3u64).prop_map(|(from, count)| Step::Purge(from, from + count)),
        2 => (0..16u64).prop_map(Step::Damage),
        4 => (0..40u64).prop_map(Step::Pass),
        3 => Just(Step::Read),
        8 => Just(Step::Page),
        8 => Just(Step::Commit),
        2 => Just(Step::FailCommit),
        3 => (0..6usize).prop_map(Step::Pull),
        1 => Just(Step::LoseConnection),
        1 => Just(Step::Crash),
        1 => Just(Step::Subscribe),
    ];
    proptest::collection::vec(step, 0..120)
}

#[derive(Debug, Clone, Copy)]
struct Stored {
    event: PendingEvent,
    retry_at: Option<UnixMillis>,
    /// Pages have the event no more, unless it waits for a retry.
    is_damaged: bool,
}

type Read = (u64, Vec<u64>, usize, usize);

struct World {
    delivery: Delivery,
    is_pull: bool,
    now: UnixMillis,
    newest: u64,
    /// The store: what is pending.
    pending: BTreeMap<u64, Stored>,
    elsewhere: BTreeMap<u64, Stored>,
    commits: VecDeque<(u64, Settlement)>,
    read: Option<(Read, Option<Page>)>,
    /// Everything that was ever sent, over all connections.
    sent: BTreeSet<u64>,
    /// Events in flight on this connection, as the client sees them.
    in_flight: BTreeMap<u64, PendingEvent>,
    demand: usize,
    dead: BTreeSet<u64>,
    retry_due: BTreeMap<u64, UnixMillis>,
    /// The oldest event in flight that is not being settled, and since when it is the oldest.
    oldest: Option<(u64, UnixMillis)>,
}

impl World {
    fn new(is_pull: bool) -> Self {
        let mode = if is_pull { Mode::Pull { demand: 0 } } else { Mode::Push };
        Self {
            delivery: Delivery::new(limits(), mode, 0, 0),
            is_pull,
            now: UnixMillis(1),
            newest: 0,
            pending: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            commits: VecDeque::new(),
            read: None,
            sent: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            demand: 0,
            dead: BTreeSet::new(),
            retry_due: BTreeMap::new(),
            oldest: None,
        }
    }

    fn run(&mut self, step: Step) {
        let (now, mut effects) = (self.now, Vec::new());
        let nth = |world: &Self, at: usize| world.in_flight.keys().nth(at).copied();
        match step {
            Step::Publish { bytes } => {
                let event = self.next_event(bytes);
                self.pending.insert(event.number, Stored { event, retry_at: None, is_damaged: false });
                self.delivery.on_event(event, now, &mut effects);
            }
            Step::PublishElsewhere => {
                let event = self.next_event(1);
                self.elsewhere.insert(event.number, Stored { event, retry_at: None, is_damaged: false });
            }
            Step::Ack(at) => {
                if let Some(number) = nth(self, at) {
                    let answer = self.delivery.on_ack(number, now, &mut effects);
                    self.on_answer(number, answer);
                }
            }
            Step::Term(at) => {
                if let Some(number) = nth(self, at) {
                    let answer = self.delivery.on_term(number, now, &mut effects);
                    self.on_answer(number, answer);
                }
            }
            Step::Nak(at, delay) => {
                if let Some(number) = nth(self, at) {
                    assert_eq!(self.delivery.on_nak(number, delay, now, &mut effects), Ok(()));
                }
            }
            Step::Progress(at) => {
                if let Some(number) = nth(self, at) {
                    assert_eq!(self.delivery.on_progress(number, now), Ok(()));
                    self.oldest =
                        self.oldest.map(|(oldest, since)| (oldest, if oldest == number { now } else { since }));
                }
            }
            Step::AckNumber(number) => {
                let known = number > 0 && self.sent.last().is_some_and(|last| number <= *last);
                match self.delivery.on_ack(number, now, &mut effects) {
                    Err(Refused::NeverSent) => assert!(!known, "ack of {number}, which was sent"),
                    answer => {
                        assert!(known, "ack of {number}, which was never sent");
                        // It may have been passed over; a client that acknowledges it has seen it.
                        self.sent.insert(number);
                        self.on_answer(number, answer);
                    }
                }
            }
            Step::Purge(from, to) => {
                self.pending.retain(|number, _| !(from..=to).contains(number));
                self.in_flight.retain(|number, _| !(from..=to).contains(number));
                self.delivery.on_removed(from, to, now, &mut effects);
            }
            Step::Damage(number) => {
                if let Some(stored) = self.pending.get_mut(&number) {
                    stored.is_damaged = true;
                }
            }
            Step::Pass(time) => {
                self.now = self.now.plus(time);
                self.delivery.advance(self.now, &mut effects);
                let failed = effects.iter().filter_map(|effect| match effect {
                    Effect::Commit { number, settlement } => Some((*number, *settlement)),
                    _ => None,
                });
                let failed: Vec<(u64, Settlement)> = failed.collect();
                if self.is_pull {
                    self.check_attempts(&failed);
                } else {
                    let expected =
                        self.oldest.filter(|(_, since)| self.now >= since.plus(ACK_WAIT)).map(|(number, _)| number);
                    assert_eq!(failed.first().map(|(number, _)| *number), expected, "the attempt that fails");
                    assert!(failed.len() <= 1, "only the oldest event's attempt fails: {failed:?}");
                }
            }
            Step::Page => {
                if let Some((read, page)) = self.read.take() {
                    let page = page.unwrap_or_else(|| self.page(&read));
                    self.delivery.on_page(page, now, &mut effects);
                }
            }
            Step::Read => {
                if let Some((read, None)) = &self.read {
                    self.read = Some((read.clone(), Some(self.page(read))));
                }
            }
            Step::Commit => {
                if let Some((number, settlement)) = self.commits.pop_front() {
                    self.commit(number, settlement);
                    self.delivery.on_commit(number, settlement, true, now, &mut effects);
                }
            }
            Step::FailCommit => {
                if let Some((number, settlement)) = self.commits.pop_front() {
                    self.delivery.on_commit(number, settlement, false, now, &mut effects);
                }
            }
            Step::Pull(count) => {
                self.demand = count;
                self.delivery.on_pull(count, now, &mut effects);
            }
            Step::LoseConnection if self.is_pull => {}
            Step::LoseConnection => self.lose_connection(),
            Step::Crash => {
                self.commits.clear();
                self.attach();
            }
            Step::Subscribe => {
                let first = self.elsewhere.first_key_value().map_or(self.newest, |(first, _)| first - 1);
                self.pending.append(&mut self.elsewhere);
                self.delivery.on_rewind(first, now, &mut effects);
            }
        }
        self.take(effects);
        let ready = &self.delivery.ready;
        assert!(ready.len() <= IN_FLIGHT && self.delivery.settling.len() <= IN_FLIGHT);
        assert!(ready.len() <= 1 || ready.iter().map(|event| event.bytes).sum::<usize>() <= IN_FLIGHT_BYTES);
        let mut waiting = self.in_flight.keys().filter(|number| self.commits.iter().all(|commit| commit.0 != **number));
        let oldest = waiting.next().copied();
        if oldest != self.oldest.map(|(number, _)| number) {
            self.oldest = oldest.map(|number| (number, self.now));
        }
    }

    /// Of events whose time is over together, the attempt of the first counts.
    fn check_attempts(&self, failed: &[(u64, Settlement)]) {
        for (at, (number, settlement)) in failed.iter().enumerate() {
            if let (Some(stored), Settlement::Retry { attempts, .. }) = (self.pending.get(number), settlement) {
                assert_eq!(*attempts, stored.event.attempts + u32::from(at == 0));
            }
        }
    }

    fn next_event(&mut self, bytes: usize) -> PendingEvent {
        self.newest += 1;
        PendingEvent { number: self.newest, attempts: 0, alone: false, bytes, content: () }
    }

    fn on_answer(&mut self, number: u64, answer: Result<(), Refused>) {
        match answer {
            Ok(()) => self.override_retry(number),
            Err(refused) => {
                assert_eq!(refused, Refused::Overloaded);
                assert!(self.commits.len() >= IN_FLIGHT);
            }
        }
    }

    /// An event that is acknowledged while its retry is committed is not in flight any more.
    fn override_retry(&mut self, number: u64) {
        let retries = |commit: &(u64, Settlement)| commit.0 == number && matches!(commit.1, Settlement::Retry { .. });
        if self.commits.iter().any(retries) {
            self.in_flight.remove(&number);
        }
    }

    fn lose_connection(&mut self) {
        let oldest = self.delivery.oldest_in_flight();
        let mut effects = Vec::new();
        let next = Delivery::new(limits(), Mode::Push, 0, 0);
        std::mem::replace(&mut self.delivery, next).on_connection_lost(self.now, &mut effects);
        let already = self.commits.len();
        self.take(effects);
        assert!(self.commits.len() - already <= 1, "one attempt at most fails with a connection");
        if let (Some(oldest), Some((number, settlement))) = (oldest, self.commits.get(already)) {
            assert!(*number >= oldest);
            if let Settlement::Retry { attempts, alone, at } = settlement {
                assert_eq!((*alone, *at), (*attempts >= 2, self.now));
            }
        }
        // The store takes what is under way before the next connection reads.
        while let Some((number, settlement)) = self.commits.pop_front() {
            self.commit(number, settlement);
        }
        self.attach();
    }

    fn attach(&mut self) {
        let mode = if self.is_pull { Mode::Pull { demand: 0 } } else { Mode::Push };
        let floor = self.pending.keys().next().map_or(self.newest, |first| first - 1);
        self.delivery = Delivery::new(limits(), mode, floor, self.sent.last().copied().unwrap_or(0));
        (self.read, self.demand) = (None, 0);
        self.in_flight.clear();
        let mut effects = Vec::new();
        self.delivery.advance(self.now, &mut effects);
        self.take(effects);
    }

    /// The store's answer at this moment.
    fn page(&self, (after, except, events_max, bytes_max): &Read) -> Page {
        let mut page = Page { next: *after, ..Page::default() };
        let (mut bytes, mut count) = (0, 0);
        let due = self.pending.values().filter(|stored| stored.retry_at.is_some_and(|at| at <= self.now));
        let above = self.pending.range(after + 1..).map(|(_, stored)| (false, stored));
        for (is_due, stored) in due.map(|stored| (true, stored)).chain(above) {
            let Stored { event, retry_at, is_damaged } = *stored;
            let is_left_out = except.contains(&event.number) || (!is_due && retry_at.is_some());
            if !is_left_out && (count == *events_max || (count > 0 && bytes + event.bytes > *bytes_max)) {
                page.more = true;
                break;
            }
            if !is_due {
                page.next = event.number;
            }
            if !is_left_out {
                count += 1;
                if is_due || !is_damaged {
                    bytes += event.bytes;
                    if is_due { &mut page.due } else { &mut page.fresh }.push(event);
                }
            }
        }
        page.next_due = self.pending.values().filter_map(|stored| stored.retry_at).filter(|at| *at > self.now).min();
        page
    }

    fn commit(&mut self, number: u64, settlement: Settlement) {
        match settlement {
            Settlement::Retry { attempts, alone, at } => {
                if let Some(stored) = self.pending.get_mut(&number) {
                    assert!(attempts - stored.event.attempts <= 1);
                    stored.event.attempts = attempts;
                    stored.event.alone = alone;
                    stored.retry_at = Some(at);
                    self.retry_due.insert(number, at);
                    self.in_flight.remove(&number);
                }
            }
            settled => {
                if let Some(stored) = self.pending.remove(&number) {
                    if let Settlement::Undeliverable { attempts } = settled {
                        assert_eq!((attempts, stored.event.attempts + 1), (MAX_DELIVER, MAX_DELIVER));
                    }
                    self.dead.insert(number);
                }
                self.in_flight.remove(&number);
            }
        }
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Read { after, except, events_max, bytes_max } => {
                    assert!(
                        self.read.replace(((after, except, events_max, bytes_max), None)).is_none(),
                        "two reads at a time"
                    );
                }
                Effect::Send { number, redelivered, content: () } => self.send(number, redelivered),
                Effect::Commit { number, settlement } => {
                    if let Settlement::Retry { at, .. } = settlement {
                        assert!(at <= self.now.plus(limits().nak_delay_max));
                    }
                    assert!(self.sent.last().is_some_and(|last| number <= *last), "settles what was never sent");
                    let is_again = self.commits.contains(&(number, settlement));
                    assert!(!is_again || !self.pending.contains_key(&number), "{number} is settled twice");
                    self.commits.push_back((number, settlement));
                }
            }
        }
    }

    fn send(&mut self, number: u64, redelivered: bool) {
        let stored = *self.pending.get(&number).unwrap_or_else(|| panic!("sends {number}, which is not pending"));
        assert!(!self.dead.contains(&number), "sends {number} after it was settled");
        if self.sent.insert(number) {
            let is_skipped = |(earlier, stored): &(&u64, &Stored)| !stored.is_damaged && !self.sent.contains(earlier);
            let skipped = self.pending.range(..number).find(is_skipped);
            assert_eq!(skipped.map(|(earlier, _)| *earlier), None, "{number} is sent first");
        } else {
            assert!(redelivered, "{number} was sent before and is not marked");
        }
        if let Some(due) = self.retry_due.remove(&number) {
            assert!(due <= self.now, "{number} is retried at {:?} instead of {due:?}", self.now);
        }
        assert!(self.in_flight.insert(number, stored.event).is_none(), "{number} is sent twice on one connection");
        let bytes: usize = self.in_flight.values().map(|event| event.bytes).sum();
        assert!(self.in_flight.len() <= IN_FLIGHT);
        assert!(bytes <= IN_FLIGHT_BYTES || self.in_flight.len() == 1);
        assert!(self.in_flight.len() == 1 || self.in_flight.values().all(|event| !event.alone), "not alone");
        if self.is_pull {
            assert!(self.demand > 0, "sends more than was asked for");
            self.demand -= 1;
        }
    }

    /// With a store that answers and a client that acknowledges, everything gets settled.
    fn drain(&mut self) {
        for _ in 0..self.pending.len() * 20 + 200 {
            self.run(Step::Page);
            self.run(Step::Commit);
            self.run(Step::Ack(0));
            if self.is_pull {
                self.run(Step::Pull(3));
            }
            if self.read.is_none()
                && self.commits.is_empty()
                && let Some(deadline) = self.delivery.next_deadline().filter(|_| self.in_flight.is_empty())
            {
                self.run(Step::Pass(deadline.0.saturating_sub(self.now.0)));
            }
        }
        let left: Vec<&Stored> = self.pending.values().filter(|stored| !stored.is_damaged).collect();
        assert!(left.is_empty(), "{left:?} {:?}", self.delivery);
    }
}

/// `PROPTEST_CASES` asks for more.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn delivery_agrees_with_its_reference(is_pull in any::<bool>(), steps in steps()) {
        let mut world = World::new(is_pull);
        for step in steps {
            world.run(step);
        }
        world.drain();
    }
}
