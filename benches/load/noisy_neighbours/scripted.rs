//! Clients that write prepared bytes whatever the server answers: they request echoes that they do
//! not read, send unfinished messages, or resume the same session repeatedly. A connection that
//! ends is replaced.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::neighbour::Neighbour;
use crate::Failure;
use crate::figures::grouped;

/// Number of rooms of a client in many rooms, and bytes of their names.
const ROOMS: u32 = 60_000;
const ROOM_BYTES: usize = 200;
const ECHOES: u32 = 4;
/// Bytes near the largest message that a server accepts.
const LARGE: usize = 900_000;
/// Number of publishes of a client that then disconnects.
const PUBLISHES: usize = 1_500;
/// Room of the clients that do not read their echoes; clients that disconnect publish to it.
const ABANDONED: &str = "abandoned";
/// Interval between two bytes of a slow connection, and pause before a reconnect.
const PAUSE: Duration = Duration::from_millis(200);
const READ_MAX: usize = 16 << 10;
/// Longest answer that contains an id or an offset.
const ANSWER_BYTES: usize = 512;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Script {
    JoinsRooms,
    /// Resumes its session, in many rooms, repeatedly.
    Resumes,
    /// Publishes, disconnects, and reconnects to do the same.
    PublishesAndLeaves,
    /// Requests large echoes and never reads.
    NeverReadsEchoes,
    /// Sends all but the end of a large message.
    LeavesMessagesOpen,
    /// Sends one complete request, and then the next one byte at a time.
    SlowHeads,
}

impl Script {
    /// Number of connections of each kind, enough to affect a server without limits.
    pub(super) const fn connections(self) -> usize {
        match self {
            Self::JoinsRooms | Self::Resumes | Self::PublishesAndLeaves => 2,
            Self::NeverReadsEchoes | Self::LeavesMessagesOpen => 16,
            Self::SlowHeads => 64,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::JoinsRooms => "joins rooms",
            Self::Resumes => "resumes",
            Self::PublishesAndLeaves => "publishes and leaves",
            Self::NeverReadsEchoes => "never reads echoes",
            Self::LeavesMessagesOpen => "leaves messages open",
            Self::SlowHeads => "slow heads",
        }
    }

    /// All bytes that a connection writes. `claim` has the JSON fields of the session to resume.
    fn bytes(self, claim: Option<&str>) -> Vec<u8> {
        let mut bytes = match self {
            Self::SlowHeads => return b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET ".to_vec(),
            _ => HANDSHAKE.to_vec(),
        };
        match (self, claim) {
            (_, Some(claim)) => push(&mut bytes, &format!(r#"40{{"recovery":true,{claim}}}"#)),
            _ => push(&mut bytes, r#"40{"recovery":true}"#),
        }
        match self {
            Self::Resumes if claim.is_some() => {}
            Self::JoinsRooms | Self::Resumes => {
                for room in 0..ROOMS {
                    push(&mut bytes, &format!(r#"42["join","{room:x<ROOM_BYTES$}"]"#));
                }
                push(&mut bytes, r#"421["join","own"]"#);
            }
            Self::PublishesAndLeaves => {
                for _ in 0..PUBLISHES {
                    push(&mut bytes, &format!(r#"42["publish","{ABANDONED}","x"]"#));
                }
            }
            Self::NeverReadsEchoes => {
                push(&mut bytes, &format!(r#"42["join","{ABANDONED}"]"#));
                for id in 0..ECHOES {
                    push(&mut bytes, &format!(r#"42{id}["echo","{}"]"#, "x".repeat(LARGE)));
                }
            }
            Self::LeavesMessagesOpen => {
                let mut message = Vec::new();
                push(&mut message, &"4".repeat(LARGE));
                bytes.extend_from_slice(&message[..message.len() - 1]);
            }
            Self::SlowHeads => {}
        }
        bytes
    }
}

const HANDSHAKE: &[u8] =
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A text frame with a masking key of zero.
fn push(bytes: &mut Vec<u8>, text: &str) {
    let length = text.len();
    match length {
        0..126 => bytes.extend_from_slice(&[0x81, 0x80 | length as u8]),
        126..65_536 => {
            bytes.extend_from_slice(&[0x81, 0xfe]);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            bytes.extend_from_slice(&[0x81, 0xff]);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(text.as_bytes());
}

pub(super) struct Scripted {
    script: Script,
    connections: Vec<Connection>,
}

impl Scripted {
    pub(super) fn new(server: SocketAddr, script: Script) -> Self {
        Self { script, connections: (0..script.connections()).map(|_| Connection::new(server, script)).collect() }
    }
}

impl Neighbour for Scripted {
    fn turn(&mut self, now: Instant) -> Result<bool, Failure> {
        let mut has_worked = false;
        for connection in &mut self.connections {
            has_worked |= connection.turn(now)?;
        }
        Ok(has_worked)
    }

    fn work_report(&self) -> String {
        let rounds: u64 = self.connections.iter().map(|connection| connection.rounds).sum();
        let [count, rounds, disconnects] =
            [self.connections.len() as u64, rounds, self.disconnects()].map(|n| grouped(n as f64));
        format!("{}: {count} connections, {rounds} rounds, disconnected {disconnects} times", self.script.name())
    }

    fn disconnects(&self) -> u64 {
        self.connections.iter().map(|connection| connection.disconnects).sum()
    }
}

struct Connection {
    server: SocketAddr,
    script: Script,
    stream: Option<TcpStream>,
    bytes: Vec<u8>,
    written: usize,
    read: Vec<u8>,
    pid: Option<String>,
    /// Offset from which it resumes.
    offset: Option<String>,
    /// Both, as the fields of a JSON object.
    claim: Option<String>,
    next: Instant,
    disconnects: u64,
    rounds: u64,
}

impl Connection {
    fn new(server: SocketAddr, script: Script) -> Self {
        Self {
            server,
            script,
            stream: None,
            bytes: Vec::new(),
            written: 0,
            read: Vec::new(),
            pid: None,
            offset: None,
            claim: None,
            next: Instant::now(),
            disconnects: 0,
            rounds: 0,
        }
    }

    fn turn(&mut self, now: Instant) -> Result<bool, Failure> {
        if self.stream.is_none() {
            if now < self.next {
                return Ok(false);
            }
            self.connect()?;
        }
        let is_written = self.written == self.bytes.len();
        let has_ended = (!is_written && self.write()) | self.read();
        if has_ended {
            self.disconnects += 1;
            (self.offset, self.claim) = (None, None);
            self.leave(now);
            return Ok(true);
        }
        if !is_written {
            return Ok(true);
        }
        let is_done = match self.script {
            Script::PublishesAndLeaves => true,
            Script::Resumes => !self.read.is_empty() && self.read_credentials(),
            _ => false,
        };
        if is_done {
            self.rounds += 1;
            self.leave(now);
        }
        if self.script == Script::SlowHeads && now >= self.next {
            self.next = now + PAUSE;
            self.bytes.push(b'a');
        }
        Ok(is_done)
    }

    fn connect(&mut self) -> Result<(), Failure> {
        self.stream = Some(TcpStream::connect(self.server)?);
        self.bytes = self.script.bytes(self.claim.as_deref());
        (self.written, self.read, self.pid) = (0, Vec::new(), None);
        Ok(())
    }

    /// Ends the connection; the next one starts after a pause.
    fn leave(&mut self, now: Instant) {
        self.stream = None;
        self.next = now + PAUSE;
    }

    /// Writes as much as the connection accepts. True if it has ended.
    fn write(&mut self) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        match stream.write(&self.bytes[self.written..]) {
            Ok(count) => self.written += count,
            Err(error) => return !is_later(&error),
        }
        false
    }

    /// Reads available bytes if the script reads at all. True if the connection has ended.
    fn read(&mut self) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        if self.script == Script::NeverReadsEchoes {
            return stream.take_error().is_ok_and(|error| error.is_some());
        }
        let mut buffer = [0; READ_MAX];
        match stream.read(&mut buffer) {
            Ok(0) => true,
            Ok(count) => {
                self.read.extend_from_slice(&buffer[..count]);
                if self.script != Script::Resumes {
                    self.read.clear();
                }
                false
            }
            Err(error) => !is_later(&error),
        }
    }

    /// Searches the input for the credentials of its session. True if they were received.
    fn read_credentials(&mut self) -> bool {
        let text = String::from_utf8_lossy(&self.read);
        if let Some(pid) = field(&text, r#""pid":""#) {
            self.pid = Some(pid.to_owned());
        }
        if let Some(offset) = text.find("431[").and_then(|at| field(&text[at..], r#""offset":""#)) {
            self.offset = Some(offset.to_owned());
        }
        // An answer may arrive in two pieces.
        self.read.drain(..self.read.len().saturating_sub(ANSWER_BYTES));
        let (Some(pid), Some(offset)) = (&self.pid, &self.offset) else { return false };
        self.claim = Some(format!(r#""pid":"{pid}","offset":"{offset}""#));
        true
    }
}

fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split_once(key).and_then(|(_, rest)| rest.split_once('"')).map(|(value, _)| value)
}

fn is_later(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected | ErrorKind::Interrupted)
}
