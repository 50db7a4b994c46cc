//! Slow readers: a client joins the members' room and a room of its own, and then never reads
//! again, or reads one byte per second. A feeder publishes enough to the client's own room that the
//! server reaches its limit within seconds; the members' room would need minutes. A disconnected
//! client reconnects.

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::neighbour::{Neighbour, ROOM};
use crate::Failure;
use crate::connection::{Outgoing, Workload};
use crate::figures::{grouped, rounded};
use crate::fleet::Fleet;
use crate::payload;

/// 2.5 MB/s.
const FEED_BYTES: usize = 50_000;
const FEED_EVERY: Duration = Duration::from_millis(20);
/// Interval between two checks of the connection.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const BYTE_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Reader {
    server: SocketAddr,
    room: String,
    /// True if it reads one byte per second.
    reads: bool,
    state: State,
    feeder: Fleet,
    next_meal: Instant,
    fed: u64,
    /// Number of bytes read slowly.
    read: u64,
    lives: Vec<Duration>,
}

enum State {
    /// Connecting, and reading normally.
    Connecting(Box<Fleet>, JoinAcks),
    Reading {
        stream: TcpStream,
        since: Instant,
        next_look: Instant,
        next_byte: Instant,
    },
}

impl Reader {
    pub(super) fn new(server: SocketAddr, reads: bool, number: usize) -> Result<Self, Failure> {
        let kind = if reads { "slow" } else { "stalled" };
        Ok(Self {
            server,
            room: format!("{kind}-{number}"),
            reads,
            state: State::connecting()?,
            feeder: Fleet::empty(|_| None)?,
            next_meal: Instant::now(),
            fed: 0,
            read: 0,
            lives: Vec::new(),
        })
    }

    fn feed(&mut self, now: Instant) -> Result<bool, Failure> {
        self.feeder.start_some(self.server, 1, 1)?;
        self.feeder.turn(Some(Duration::ZERO), &mut JoinAcks::default())?;
        let is_hungry = matches!(self.state, State::Reading { .. }) && now >= self.next_meal;
        if !is_hungry || self.feeder.settled() == 0 || self.feeder.is_write_blocked(0) {
            return Ok(self.feeder.is_busy());
        }
        self.next_meal = now + FEED_EVERY;
        let mut packet = format!(r#"42["publish","{}","ev",""#, self.room).into_bytes();
        payload::push(&mut packet, FEED_BYTES, 0, 0);
        packet.extend_from_slice(br#""]"#);
        self.feeder.send(|outgoing| outgoing.send(0, &packet))?;
        self.fed += FEED_BYTES as u64;
        Ok(true)
    }
}

impl State {
    fn connecting() -> Result<Self, Failure> {
        Ok(Self::Connecting(Box::new(Fleet::empty(|_| None)?), JoinAcks::default()))
    }
}

impl Neighbour for Reader {
    fn turn(&mut self, now: Instant) -> Result<bool, Failure> {
        let fed = self.feed(now)?;
        match &mut self.state {
            State::Connecting(fleet, arrival) => {
                fleet.start_some(self.server, 1, 1)?;
                fleet.turn(Some(Duration::ZERO), arrival)?;
                if fleet.settled() == 1 && !std::mem::replace(&mut arrival.has_asked, true) {
                    let joins = [ROOM, &self.room].map(|room| format!(r#"420["join","{room}"]"#));
                    fleet.send(|outgoing| joins.iter().for_each(|join| outgoing.send(0, join.as_bytes())))?;
                }
                if arrival.answers == 2 {
                    let stream = fleet.pop_stream().ok_or("expected the connection of a bad reader")?;
                    self.state = State::Reading { stream, since: now, next_look: now, next_byte: now + BYTE_EVERY };
                }
                Ok(true)
            }
            State::Reading { stream, since, next_look, next_byte } => {
                let mut has_ended = false;
                if self.reads && now >= *next_byte {
                    *next_byte = now + BYTE_EVERY;
                    match stream.read(&mut [0]) {
                        Ok(0) => has_ended = true,
                        Ok(_) => self.read += 1,
                        Err(error) => has_ended = error.kind() != ErrorKind::WouldBlock,
                    }
                }
                if now >= *next_look {
                    *next_look = now + LOOK_EVERY;
                    has_ended |= stream.take_error()?.is_some();
                }
                if has_ended {
                    self.lives.push(now.duration_since(*since));
                    self.state = State::connecting()?;
                }
                Ok(fed || has_ended)
            }
        }
    }

    fn work_report(&self) -> String {
        let reads = if self.reads { format!("read {} bytes", self.read) } else { "read nothing".to_owned() };
        let lives: Vec<String> = self.lives.iter().map(|life| rounded(life.as_secs_f64())).collect();
        let end = if lives.is_empty() {
            "still connected".to_owned()
        } else {
            format!("disconnected {} times, after {} s", lives.len(), lives.join(", "))
        };
        format!("{}: {reads} of {} KB that were for it, {end}", self.room, grouped(self.fed as f64 / 1000.0))
    }

    fn disconnects(&self) -> u64 {
        self.lives.len() as u64
    }
}

/// Counts the acks of the two joins, and ignores all other packets.
#[derive(Default)]
struct JoinAcks {
    has_asked: bool,
    answers: u32,
}

impl Workload for JoinAcks {
    fn on_packet(&mut self, _: usize, packet: &[u8], _: &mut Outgoing) -> Result<(), Failure> {
        self.answers += u32::from(packet.starts_with(b"430["));
        Ok(())
    }

    fn received(&self) -> u64 {
        u64::from(self.answers)
    }
}
