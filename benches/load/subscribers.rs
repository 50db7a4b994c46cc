//! Subscribers of the queue: they are created, are absent while events are published for them, and
//! return. Subscriber `n` is subscribed to room `n` modulo the number of rooms.

use std::time::Duration;

use crate::Failure;
use crate::connection::{Outgoing, Workload, unexpected};
use crate::durable::read_answer;
use crate::fleet::Fleet;
use crate::payload;
use crate::process::Server;
use crate::report::Verdict;

/// Time limit for all subscribers to receive and acknowledge everything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Time limits for the preparation: one step of the creation of subscribers, and all publishes.
const CREATION_PATIENCE: Duration = Duration::from_secs(30);
const PUBLISHING_PATIENCE: Duration = Duration::from_secs(120);
/// Maximum number of subscribers that are created at one time.
const CREATED_TOGETHER: usize = 1_000;
/// Publishers of a backlog, and unanswered publishes of each: fewer than the queue accepts.
const PUBLISHERS: usize = 64;
const WINDOW: u32 = 32;

/// Event by which the server says that a subscriber is attached.
const ATTACHED: &[u8] = br#"42["stentor:attached",{"#;

/// Credentials of a subscriber.
pub(crate) fn auth(subscriber: usize) -> String {
    format!(r#"{{"subscriber":"phone-{subscriber}"}}"#)
}

fn room(number: usize, rooms: usize) -> String {
    format!("backlog-{}", number % rooms)
}

fn contains(packet: &[u8], text: &[u8]) -> bool {
    packet.windows(text.len()).any(|window| window == text)
}

/// Creates subscribers. Their connections are closed afterwards.
pub(crate) fn create(server: &Server, count: usize, rooms: usize) -> Result<(), Failure> {
    for first in (0..count).step_by(CREATED_TOGETHER) {
        let some = CREATED_TOGETHER.min(count - first);
        let mut fleet = Fleet::of(|_| None, move |at| Some(auth(first + at)))?;
        let mut load = Creation { first, rooms, received: 0, missing: some };
        fleet.start_some(server.address, some, some)?;
        fleet.run_until(CREATION_PATIENCE, &mut load, |load| load.missing == 0)?;
        if load.missing > 0 {
            let missing = load.missing;
            return Err(format!("{missing} of {some} subscriptions were not answered, after {first} others").into());
        }
    }
    Ok(())
}

struct Creation {
    first: usize,
    rooms: usize,
    received: u64,
    missing: usize,
}

impl Workload for Creation {
    fn on_packet(&mut self, at: usize, packet: &[u8], outgoing: &mut Outgoing) -> Result<(), Failure> {
        self.received += 1;
        if packet.starts_with(ATTACHED) && contains(packet, br#""status":"reset""#) {
            let room = room(self.first + at, self.rooms);
            outgoing.send(at, format!(r#"420["join","{room}",{{"durable":true}}]"#).as_bytes());
        } else if packet.starts_with(b"430[{") && contains(packet, br#""durable":true"#) {
            self.missing -= 1;
        } else {
            return Err(unexpected(packet, "a new subscriber, or the ack of its join"));
        }
        Ok(())
    }

    fn received(&self) -> u64 {
        self.received
    }
}

/// Publishes durable events to the rooms in turn. Every one must be answered as stored.
pub(crate) fn publish(
    server: &Server,
    events: usize,
    rooms: usize,
    payload: usize,
    has_dedup_id: bool,
) -> Result<(), Failure> {
    let mut fleet = Fleet::open(server.address, PUBLISHERS, |_| None)?;
    let mut load = Backlog { events, rooms, payload, has_dedup_id, published: vec![0; PUBLISHERS], stored: 0 };
    fleet.send(|outgoing| {
        for publisher in 0..PUBLISHERS {
            (0..WINDOW).for_each(|_| load.publish(publisher, outgoing));
        }
    })?;
    fleet.run_until(PUBLISHING_PATIENCE, &mut load, |load| load.stored == load.events)?;
    if load.stored < events {
        return Err(format!("{} of {events} events were stored within {PUBLISHING_PATIENCE:?}", load.stored).into());
    }
    Ok(())
}

struct Backlog {
    events: usize,
    rooms: usize,
    payload: usize,
    has_dedup_id: bool,
    /// Number of publishes of each publisher.
    published: Vec<u32>,
    stored: usize,
}

/// Number of a publisher's event among all events, which decides its room.
fn event_number(publisher: usize, sequence: u32) -> usize {
    sequence as usize * PUBLISHERS + publisher
}

impl Backlog {
    /// Publishes the next event of a publisher, unless all are published.
    fn publish(&mut self, publisher: usize, outgoing: &mut Outgoing) {
        let sequence = self.published[publisher];
        let number = event_number(publisher, sequence);
        if number >= self.events {
            return;
        }
        self.published[publisher] += 1;
        let room = room(number, self.rooms);
        let dedup_id = if self.has_dedup_id { format!(r#","dedup_id":"order-{number}""#) } else { String::new() };
        let head = format!(r#"42{sequence}["publish",{{"room":"{room}","durable":true{dedup_id}}},"ev",""#);
        let mut packet = head.into_bytes();
        payload::push(&mut packet, self.payload, publisher, sequence);
        packet.extend_from_slice(br#""]"#);
        outgoing.send(publisher, &packet);
    }
}

impl Workload for Backlog {
    fn on_packet(&mut self, at: usize, packet: &[u8], outgoing: &mut Outgoing) -> Result<(), Failure> {
        let answer = read_answer(packet).filter(|answer| answer.is_stored && !answer.is_duplicate);
        answer.ok_or_else(|| unexpected(packet, "the receipt of a stored event"))?;
        self.stored += 1;
        self.publish(at, outgoing);
        Ok(())
    }

    fn received(&self) -> u64 {
        self.stored as u64
    }
}

/// Subscribers that return and acknowledge each event. Connection `first` belongs to subscriber 0.
pub(crate) struct Returning {
    first: usize,
    rooms: usize,
    payload: usize,
    /// Number of events that each subscriber has to receive.
    missing: Vec<usize>,
    /// Smallest sequence number that each subscriber may receive of each publisher.
    next: Vec<u32>,
    pub(crate) received: u64,
    repeated: u64,
    redelivered: u64,
    strays: u64,
    /// Number of subscribers that received everything and have nothing pending.
    finished: usize,
}

impl Returning {
    /// `events` were published to the rooms in turn.
    pub(crate) fn new(first: usize, subscribers: usize, events: usize, rooms: usize, payload: usize) -> Self {
        Self {
            first,
            rooms,
            payload,
            missing: (0..subscribers).map(|at| (events + rooms - 1 - at % rooms) / rooms).collect(),
            next: vec![0; subscribers * PUBLISHERS],
            received: 0,
            repeated: 0,
            redelivered: 0,
            strays: 0,
            finished: 0,
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished == self.missing.len()
    }

    pub(crate) fn verdict(&self) -> Verdict {
        Verdict {
            checked: self.received + self.repeated + self.strays,
            faults: vec![
                (self.missing.iter().sum::<usize>() as u64, "lost or late"),
                (self.repeated, "repeated or out of order"),
                (self.redelivered, "marked as redelivered"),
                (self.strays, "in the wrong room"),
                ((self.missing.len() - self.finished) as u64, "subscribers with pending events"),
            ],
        }
    }

    fn on_event(&mut self, subscriber: usize, publisher: usize, sequence: u32) {
        let next = &mut self.next[subscriber * PUBLISHERS + publisher];
        if event_number(publisher, sequence) % self.rooms != subscriber % self.rooms {
            self.strays += 1;
        } else if sequence < *next || self.missing[subscriber] == 0 {
            self.repeated += 1;
        } else {
            *next = sequence + 1;
            self.missing[subscriber] -= 1;
            self.received += 1;
        }
    }
}

impl Workload for Returning {
    fn on_packet(&mut self, at: usize, packet: &[u8], outgoing: &mut Outgoing) -> Result<(), Failure> {
        /// Asks for what is pending, once everything was received and acknowledged.
        const PENDING: &[u8] = br#"421["pending"]"#;
        let subscriber = at - self.first;
        if packet.starts_with(ATTACHED) && contains(packet, br#""status":"resumed""#) {
            return Ok(());
        }
        if packet.starts_with(b"431[{") {
            match contains(packet, br#""events":0,"#) {
                true => self.finished += 1,
                false => outgoing.send(at, PENDING),
            }
            return Ok(());
        }
        let (ack, delivery) = read_event(packet).ok_or_else(|| unexpected(packet, "a durable event"))?;
        let read = payload::read(delivery, self.payload).filter(|(publisher, ..)| *publisher < PUBLISHERS);
        let (publisher, sequence, rest) = read.ok_or_else(|| unexpected(packet, "a published event"))?;
        self.redelivered += u64::from(contains(rest, br#""redelivered":true"#));
        self.on_event(subscriber, publisher, sequence);
        outgoing.send(at, &[b"43", ack, b"[]"].concat());
        if self.missing[subscriber] == 0 {
            outgoing.send(at, PENDING);
        }
        Ok(())
    }

    fn received(&self) -> u64 {
        self.received + self.finished as u64
    }
}

/// Ack id of a durable event, and its text from the payload on.
fn read_event(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    let packet = packet.strip_prefix(b"42")?;
    let (ack, text) = packet.split_at(packet.iter().position(|byte| !byte.is_ascii_digit())?);
    Some((ack, text.strip_prefix(br#"["ev",""#)?)).filter(|_| !ack.is_empty())
}
