//! Clients that send as fast as the server reads, limited only by the window of their connection.
//! They publish, or join ten thousand rooms and leave them, repeatedly. They read all input, and
//! reconnect when they are disconnected.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::neighbour::Neighbour;
use crate::Failure;
use crate::connection::{Outgoing, Workload};
use crate::figures::{grouped, rounded};
use crate::fleet::Fleet;
use crate::payload;

/// Number of events between two turns of the generator: few, so that other clients do not wait.
const BATCH: u32 = 32;
/// Number of rooms that a client joins and leaves in turn.
const ROOMS: u32 = 10_000;

/// Packets of a pusher, and its reaction to answers.
pub(super) trait Pushing: Workload {
    /// Number of connections; the last one pushes.
    const CONNECTIONS: usize;

    fn restart(&mut self);

    /// Sends some of the packets that are due. True if there were any.
    fn push(&mut self, from: usize, outgoing: &mut Outgoing) -> bool;

    fn work_report(&self) -> String;

    fn wrong_events(&self) -> u64 {
        0
    }
}

pub(super) struct Pusher<P> {
    server: SocketAddr,
    pushing: P,
    fleet: Fleet,
    begun: Instant,
    disconnects: u64,
    last_reason: String,
}

impl<P: Pushing> Pusher<P> {
    pub(super) fn new(server: SocketAddr, pushing: P) -> Result<Self, Failure> {
        let fleet = Self::gather()?;
        Ok(Self { server, pushing, fleet, begun: Instant::now(), disconnects: 0, last_reason: String::new() })
    }

    /// Connections that do not push receive, in the room of the flood.
    fn gather() -> Result<Fleet, Failure> {
        Fleet::empty(|index| (index + 1 < P::CONNECTIONS).then(|| FLOODED.to_owned()))
    }

    fn step(&mut self) -> Result<bool, Failure> {
        self.fleet.start_some(self.server, P::CONNECTIONS, P::CONNECTIONS)?;
        self.fleet.turn(Some(Duration::ZERO), &mut self.pushing)?;
        let (from, mut worked) = (P::CONNECTIONS - 1, self.fleet.is_busy());
        if self.fleet.settled() == P::CONNECTIONS && !self.fleet.is_write_blocked(from) {
            self.fleet.send(|outgoing| worked |= self.pushing.push(from, outgoing))?;
        }
        Ok(worked)
    }
}

impl<P: Pushing> Neighbour for Pusher<P> {
    fn turn(&mut self, _now: Instant) -> Result<bool, Failure> {
        match self.step() {
            Err(failure) => {
                self.disconnects += 1;
                self.last_reason = failure.to_string();
                self.pushing.restart();
                self.fleet = Self::gather()?;
                Ok(true)
            }
            worked => worked,
        }
    }

    fn work_report(&self) -> String {
        let end = match self.disconnects {
            0 => "still connected".to_owned(),
            disconnects => format!("disconnected {disconnects} times, last reason: {}", self.last_reason),
        };
        format!("{} in {} s, {end}", self.pushing.work_report(), rounded(self.begun.elapsed().as_secs_f64()))
    }

    fn disconnects(&self) -> u64 {
        self.disconnects
    }

    fn wrong_events(&self) -> u64 {
        self.pushing.wrong_events()
    }
}

const FLOODED: &str = "flood";

/// Publishes to a room with one member.
pub(super) struct Flood {
    payload: usize,
    wants_acks: bool,
    published: u32,
    /// Next number that the member expects; total number of all connections.
    expected: u32,
    delivered: u64,
    acks: u64,
    refused: u64,
    wrong_events: u64,
    scratch: Vec<u8>,
}

impl Flood {
    pub(super) fn new(payload: usize, wants_acks: bool) -> Self {
        Self {
            payload,
            wants_acks,
            published: 0,
            expected: 0,
            delivered: 0,
            acks: 0,
            refused: 0,
            wrong_events: 0,
            scratch: Vec::new(),
        }
    }
}

impl Pushing for Flood {
    const CONNECTIONS: usize = 2;

    fn restart(&mut self) {
        (self.published, self.expected) = (0, 0);
    }

    fn push(&mut self, from: usize, outgoing: &mut Outgoing) -> bool {
        for _ in 0..BATCH {
            self.scratch.clear();
            let id = if self.wants_acks { "7" } else { "" };
            self.scratch.extend_from_slice(format!(r#"42{id}["publish","{FLOODED}","ev",""#).as_bytes());
            // The numbers wrap at the number of digits.
            payload::push(&mut self.scratch, self.payload, 0, self.published % SEQUENCES);
            self.scratch.extend_from_slice(br#""]"#);
            outgoing.send(from, &self.scratch);
            self.published += 1;
        }
        true
    }

    fn work_report(&self) -> String {
        let acks = match (self.wants_acks, self.refused) {
            (false, 0) => String::new(),
            (false, refused) => format!(", {} complaints", grouped(refused as f64)),
            (true, refused) => {
                format!(", {} acks, {} of them refusals", grouped(self.acks as f64), grouped(refused as f64))
            }
        };
        format!("flood: {} of its events delivered{acks}", grouped(self.delivered as f64))
    }

    fn wrong_events(&self) -> u64 {
        self.wrong_events
    }
}

/// One more than the largest number of eight digits.
const SEQUENCES: u32 = 100_000_000;

impl Workload for Flood {
    fn on_packet(&mut self, at: usize, packet: &[u8], _: &mut Outgoing) -> Result<(), Failure> {
        if at == Self::CONNECTIONS - 1 {
            let is_refusal = packet.windows(8).any(|place| place == br#""error":"#);
            self.acks += 1;
            self.refused += u64::from(is_refusal);
            return Ok(());
        }
        let text = packet.strip_prefix(br#"42["ev",""#).and_then(|text| payload::read(text, self.payload));
        match text {
            Some((0, sequence, _)) if sequence == self.expected % SEQUENCES => self.expected += 1,
            _ => self.wrong_events += 1,
        }
        self.delivered += 1;
        Ok(())
    }

    fn received(&self) -> u64 {
        self.delivered
    }
}

/// Joins ten thousand rooms, waits for the acks, and leaves them again.
#[derive(Default)]
pub(super) struct RoomCycler {
    sent: u32,
    answered: u32,
    answers: u64,
    refused: u64,
}

impl Pushing for RoomCycler {
    const CONNECTIONS: usize = 1;

    fn restart(&mut self) {
        (self.sent, self.answered) = (0, 0);
    }

    fn push(&mut self, from: usize, outgoing: &mut Outgoing) -> bool {
        // The second half of a round starts when the first is fully acknowledged.
        if self.sent.is_multiple_of(ROOMS) && self.answered < self.sent {
            return false;
        }
        for _ in 0..BATCH.min(ROOMS - self.sent % ROOMS) {
            let verb = if (self.sent / ROOMS).is_multiple_of(2) { "join" } else { "leave" };
            outgoing.send(from, format!(r#"421["{verb}","sight-{}"]"#, self.sent % ROOMS).as_bytes());
            self.sent += 1;
        }
        true
    }

    fn work_report(&self) -> String {
        let tours = self.answers as f64 / f64::from(2 * ROOMS);
        let refused = grouped(self.refused as f64);
        format!("tourist: {} tours of {ROOMS} joins and leaves, {refused} refused", rounded(tours))
    }
}

impl Workload for RoomCycler {
    fn on_packet(&mut self, _: usize, packet: &[u8], _: &mut Outgoing) -> Result<(), Failure> {
        self.refused += u64::from(packet.windows(8).any(|place| place == br#""error":"#));
        self.answered += 1;
        self.answers += 1;
        Ok(())
    }

    fn received(&self) -> u64 {
        self.answers
    }
}
