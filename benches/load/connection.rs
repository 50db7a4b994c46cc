//! One client: its socket, its state, incomplete frames, and bytes to be written.
//!
//! It proceeds by itself from the upgrade to its room (and leaves it for a short connection),
//! answers pings, and passes every later packet to the load.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::Failure;
use crate::wire::{self, FRAME_BYTES_MAX, Frame};

/// The reaction of a load to packets of its connections.
pub(crate) trait Workload {
    /// Handles `packet`, the text of one frame of connection `at`: an Engine.IO message including
    /// its type byte.
    fn on_packet(&mut self, at: usize, packet: &[u8], outgoing: &mut Outgoing) -> Result<(), Failure>;

    /// Number of packets received so far. The load is stalled while it does not change.
    fn received(&self) -> u64;

    /// Sends packets that are due at `now`; called every turn. True if there was something to do.
    fn on_time(&mut self, _now: Instant, _outgoing: &mut Outgoing) -> Result<bool, Failure> {
        Ok(false)
    }
}

/// Frames to be written at the end of the current read, in order of sending.
#[derive(Default)]
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    spans: Vec<(usize, Range<usize>)>,
}

/// State shared by all connections: buffers, rooms, and counters.
pub(crate) struct Shared {
    /// Has space for the longest frame in addition to the rest of one read.
    buffer: Box<[u8]>,
    pub(crate) outgoing: Outgoing,
    room_of: Box<dyn Fn(usize) -> Option<String>>,
    /// Credentials of a client that resumes; such a client joins no room.
    auth_of: Box<dyn Fn(usize) -> Option<String>>,
    /// Connections leave their room, disconnect and close.
    pub(crate) leaves_after_join: bool,
    /// Private id of each connection, if the server sends one.
    pub(crate) pids: Vec<String>,
    /// Number of clients that reconnected and were not recovered.
    pub(crate) unrecovered: u64,
    pub(crate) settled: usize,
    pub(crate) pings: u64,
    /// Number of reads that returned bytes. Packets per read show how well the server batches.
    pub(crate) reads: u64,
    /// The interval announced in the open packet.
    pub(crate) ping_interval: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    AwaitsUpgrade,
    AwaitsOpen,
    AwaitsConnect,
    AwaitsJoin,
    Settled,
    AwaitsLeave,
    AwaitsClose,
    Gone,
}

pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    phase: Phase,
    /// An incomplete frame.
    rest: Vec<u8>,
    /// Bytes that the kernel did not accept yet.
    unsent: Vec<u8>,
}

impl Outgoing {
    pub(crate) fn send(&mut self, to: usize, text: &[u8]) {
        self.append(to, |bytes| wire::push_text(bytes, text));
    }

    fn append(&mut self, to: usize, push: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        push(&mut self.bytes);
        match self.spans.last_mut() {
            Some((last, span)) if *last == to => span.end = self.bytes.len(),
            _ => self.spans.push((to, start..self.bytes.len())),
        }
    }

    /// Writes all frames, each run of frames for one connection together.
    pub(crate) fn flush(&mut self, connections: &mut [Connection]) -> Result<(), Failure> {
        for (to, span) in self.spans.drain(..) {
            connections[to].write(&self.bytes[span])?;
        }
        self.bytes.clear();
        Ok(())
    }
}

impl Shared {
    pub(crate) fn new(
        room_of: impl Fn(usize) -> Option<String> + 'static,
        auth_of: impl Fn(usize) -> Option<String> + 'static,
    ) -> Self {
        Self {
            buffer: vec![0; 2 * FRAME_BYTES_MAX].into_boxed_slice(),
            outgoing: Outgoing::default(),
            room_of: Box::new(room_of),
            auth_of: Box::new(auth_of),
            leaves_after_join: false,
            pids: Vec::new(),
            unrecovered: 0,
            settled: 0,
            pings: 0,
            reads: 0,
            ping_interval: Duration::ZERO,
        }
    }
}

impl Connection {
    /// Starts to connect; the upgrade request is sent once the socket is writable.
    pub(crate) fn start(server: SocketAddr, index: usize) -> Result<Self, Failure> {
        Ok(Self {
            stream: connect(server, index)?,
            phase: Phase::AwaitsUpgrade,
            rest: Vec::new(),
            unsent: wire::upgrade_request(&server.to_string(), index),
        })
    }

    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.phase, Phase::Settled | Phase::Gone)
    }

    /// True if the server reads more slowly than this connection writes.
    pub(crate) fn is_write_blocked(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// The packet that this connection expects, for errors.
    pub(crate) fn expected_packet(&self) -> &'static str {
        match self.phase {
            Phase::AwaitsUpgrade => "the answer to its upgrade request",
            Phase::AwaitsOpen => "the Engine.IO open packet",
            Phase::AwaitsConnect => "the CONNECT reply",
            Phase::AwaitsJoin => "the ack of its join",
            Phase::AwaitsLeave => "the ack of its leave",
            Phase::AwaitsClose => "the close frame",
            Phase::Settled | Phase::Gone => "nothing",
        }
    }

    /// Reads until the socket is empty. A read that does not fill the buffer has emptied it, and
    /// new bytes raise a new event. The end of the stream may come with the last bytes:
    /// `to_the_end` reads on.
    pub(crate) fn read(
        &mut self,
        at: usize,
        to_the_end: bool,
        shared: &mut Shared,
        load: &mut impl Workload,
    ) -> Result<(), Failure> {
        loop {
            let kept = self.rest.len();
            // Taken out, so that packets can borrow from it while `shared` changes.
            let mut buffer = std::mem::take(&mut shared.buffer);
            buffer[..kept].copy_from_slice(&self.rest);
            let read = self.stream.read(&mut buffer[kept..]);
            let (filled, more) = match read {
                Ok(0) | Err(_) if self.phase == Phase::Gone => (kept, false),
                Ok(0) => {
                    return Err("the server closed the connection without a close frame".into());
                }
                Ok(count) => (kept + count, to_the_end || kept + count == buffer.len()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => (kept, false),
                Err(error) if error.kind() == ErrorKind::Interrupted => (kept, true),
                Err(error) => return Err(error.into()),
            };
            if filled > kept {
                shared.reads += 1;
                let used = self.take_frames(at, &buffer[..filled], shared, load)?;
                self.rest.clear();
                self.rest.extend_from_slice(&buffer[used..filled]);
            }
            shared.buffer = buffer;
            if !more {
                return Ok(());
            }
        }
    }

    /// Writes pending bytes to a writable socket.
    pub(crate) fn resume_writing(&mut self) -> Result<(), Failure> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let unsent = std::mem::take(&mut self.unsent);
        self.write(&unsent)
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        while self.unsent.is_empty() && !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                // A connecting socket reports "not connected".
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.unsent.extend_from_slice(bytes);
        Ok(())
    }

    /// Number of `bytes` in complete frames, all of which are handled now.
    fn take_frames(
        &mut self,
        at: usize,
        bytes: &[u8],
        shared: &mut Shared,
        load: &mut impl Workload,
    ) -> Result<usize, Failure> {
        let mut used = 0;
        if self.phase == Phase::AwaitsUpgrade {
            let Some(length) = wire::upgrade_response(bytes)? else {
                return Ok(0);
            };
            used = length;
            self.phase = Phase::AwaitsOpen;
        }
        while let Some((frame, length)) = wire::next_frame(&bytes[used..])? {
            used += length;
            match frame {
                Frame::Text(b"2") => {
                    shared.pings += 1;
                    shared.outgoing.send(at, b"3");
                }
                Frame::Text(packet) if self.phase == Phase::Settled => {
                    load.on_packet(at, packet, &mut shared.outgoing)?
                }
                Frame::Text(packet) => self.advance(at, packet, shared)?,
                Frame::Ping(payload) => shared.outgoing.append(at, |out| wire::push_pong(out, payload)),
                Frame::Pong => {}
                Frame::Close(_) if self.phase == Phase::AwaitsClose => {
                    self.phase = Phase::Gone;
                    shared.settled += 1;
                }
                Frame::Close(payload) => return Err(wire::closed(payload)),
            }
        }
        Ok(used)
    }

    /// Advances one step from the open packet to the room.
    fn advance(&mut self, at: usize, packet: &[u8], shared: &mut Shared) -> Result<(), Failure> {
        self.phase = match self.phase {
            Phase::AwaitsOpen if packet.starts_with(b"0{") => {
                shared.ping_interval = ping_interval(packet).ok_or_else(|| unexpected(packet, "pingInterval"))?;
                let auth = (shared.auth_of)(at).unwrap_or_default();
                shared.outgoing.send(at, format!("40{auth}").as_bytes());
                Phase::AwaitsConnect
            }
            Phase::AwaitsConnect if packet.starts_with(b"40{") => {
                let pid = pid(packet).unwrap_or_default();
                shared.unrecovered += u64::from((shared.auth_of)(at).is_some_and(|auth| !auth.contains(&pid)));
                shared.pids.resize(shared.pids.len().max(at + 1), String::new());
                shared.pids[at] = pid;
                match (shared.room_of)(at) {
                    Some(room) => {
                        shared.outgoing.send(at, format!(r#"420["join","{room}"]"#).as_bytes());
                        Phase::AwaitsJoin
                    }
                    None => Phase::Settled,
                }
            }
            Phase::AwaitsJoin if is_ack(packet, b"430[{") => match (shared.room_of)(at) {
                Some(room) if shared.leaves_after_join => {
                    shared.outgoing.send(at, format!(r#"421["leave","{room}"]"#).as_bytes());
                    Phase::AwaitsLeave
                }
                _ => Phase::Settled,
            },
            Phase::AwaitsLeave if is_ack(packet, b"431[{") => {
                shared.outgoing.send(at, b"41");
                shared.outgoing.append(at, wire::push_close);
                Phase::AwaitsClose
            }
            _ => return Err(unexpected(packet, self.expected_packet())),
        };
        if self.phase == Phase::Settled {
            // Ten thousand idle connections do not need the buffers of their handshakes.
            (self.rest, self.unsent) = (Vec::new(), Vec::new());
            shared.settled += 1;
        }
        Ok(())
    }
}

/// Starts to connect. Writes before that fail as not connected.
pub(crate) fn connect(server: SocketAddr, index: usize) -> Result<TcpStream, Failure> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    // Closes with a reset, because minutes of TIME_WAIT would use up the ports of the next run.
    socket.set_linger(Some(Duration::ZERO))?;
    if let Some(source) = source_address(server, index) {
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    match socket.connect(&SockAddr::from(server)) {
        Err(error) if error.raw_os_error() != Some(EINPROGRESS) => {
            return Err(format!("connection {index} to {server}: {error}").into());
        }
        _ => {}
    }
    Ok(TcpStream::from_std(socket.into()))
}

pub(crate) fn unexpected(packet: &[u8], expected: &str) -> Failure {
    let shown = String::from_utf8_lossy(&packet[..packet.len().min(300)]);
    format!("expected {expected}, got {shown:?}").into()
}

const EINPROGRESS: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();

/// Linux has some 28 000 ports per source address; one address for every 5 000 connections avoids a
/// slow search for a free port.
fn source_address(server: SocketAddr, index: usize) -> Option<Ipv4Addr> {
    match server.ip() {
        IpAddr::V4(ip) if ip.is_loopback() => {
            Some(Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + 1 + index as u32 / 5000))
        }
        _ => None,
    }
}

/// JSON objects have no order: a server may send the members in any order.
fn is_ack(packet: &[u8], start: &[u8]) -> bool {
    let names = |name: &[u8]| packet.windows(name.len()).any(|place| place == name);
    packet.starts_with(start) && names(b"\"room\":") && !names(b"\"error\":")
}

fn pid(reply: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(reply).ok()?;
    let (_, after) = text.split_once("\"pid\":\"")?;
    Some(after.split('"').next()?.to_owned())
}

fn ping_interval(open: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(open).ok()?;
    let (_, after) = text.split_once("\"pingInterval\":")?;
    let digits = after.split(|c: char| !c.is_ascii_digit()).next()?;
    Some(Duration::from_millis(digits.parse().ok()?))
}
