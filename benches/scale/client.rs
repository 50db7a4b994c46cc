//! Clients that listen and check, clients that also publish, and their counters.
//!
//! An event's argument is a string: phase, number, filler. A phase is one measurement; in it, each
//! member of the room must receive the numbers from 0 on, each once and in order.

use std::sync::atomic::{AtomicU64, Ordering};

use bytestring::ByteString;
use stentor::bench_support::line::Client;

pub(crate) const PAYLOAD_BYTES: usize = 100;
const PHASE_DIGITS: usize = 4;
const DIGITS: usize = 12;

/// The measured event on the wire, up to its argument.
const NEWS: &[u8] = br#"42["news",""#;

/// Start of the event that makes publishers begin.
const GO: &[u8] = br#"42["go",""#;

/// Counters of one thread's clients, written by that thread only.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Tally {
    /// Clients that have joined all of their rooms.
    pub(crate) ready: Count,
    pub(crate) pings: Count,
    pub(crate) events: Count,
    /// Clients that received an event, once for each phase.
    pub(crate) listeners: Count,
    /// Events that were not the next.
    pub(crate) disorder: Count,
    pub(crate) strange: Count,
}

#[derive(Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

pub(crate) fn payload(phase: u16, number: u32) -> String {
    format!("{phase:04}{number:08}{:x<1$}", "", PAYLOAD_BYTES - DIGITS)
}

/// Phase and number of an argument that starts like this.
fn read(text: &[u8]) -> Option<(u16, u32)> {
    let (phase, rest) = text.split_at_checked(PHASE_DIGITS)?;
    Some((digits(phase)? as u16, digits(rest.get(..DIGITS - PHASE_DIGITS)?)?))
}

fn digits(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0')))
}

/// Connects, answers pings, checks events. It is small because there are a million.
pub(crate) struct Listener {
    tally: &'static Tally,
    received: u32,
    phase: u16,
}

impl Listener {
    pub(crate) fn new(tally: &'static Tally) -> Self {
        Self { tally, received: 0, phase: 0 }
    }

    /// Checks an event of a phase, which must be the next.
    fn check(&mut self, phase: u16, number: u32) {
        if phase != self.phase {
            (self.phase, self.received) = (phase, 0);
            self.tally.listeners.add();
        }
        if number != self.received {
            self.tally.disorder.add();
        }
        self.received += 1;
        self.tally.events.add();
    }
}

impl Client for Listener {
    fn on_packet(&mut self, packet: &[u8], answers: &mut Vec<ByteString>) {
        if let Some((phase, number)) = packet.strip_prefix(NEWS).and_then(read) {
            return self.check(phase, number);
        }
        match packet {
            [b'0', ..] => answers.push(ByteString::from_static("40")),
            b"2" => {
                self.tally.pings.add();
                answers.push(ByteString::from_static("3"));
            }
            [b'4', b'0', ..] => {}
            _ => self.tally.strange.add(),
        }
    }
}

/// Listens, and on command keeps some events in flight until all are published.
pub(crate) struct Publisher {
    listener: Listener,
    room: String,
    window: u32,
    sent: u32,
    wanted: u32,
}

impl Publisher {
    pub(crate) fn new(tally: &'static Tally, room: String, window: u32) -> Self {
        Self { listener: Listener::new(tally), room, window, sent: 0, wanted: 0 }
    }

    fn publish(&mut self, phase: u16, answers: &mut Vec<ByteString>) {
        if self.sent < self.wanted {
            answers.push(format!(r#"42["publish","{}","{}"]"#, self.room, payload(phase, self.sent)).into());
            self.sent += 1;
        }
    }
}

impl Client for Publisher {
    fn on_packet(&mut self, packet: &[u8], answers: &mut Vec<ByteString>) {
        if let Some((phase, wanted)) = packet.strip_prefix(GO).and_then(read) {
            (self.sent, self.wanted) = (0, wanted);
            return (0..self.window).for_each(|_| self.publish(phase, answers));
        }
        if let Some((phase, number)) = packet.strip_prefix(NEWS).and_then(read) {
            self.listener.check(phase, number);
            return self.publish(phase, answers);
        }
        self.listener.on_packet(packet, answers);
    }
}
