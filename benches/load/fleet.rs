//! All connections of one load, and the poll that drives them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Token};

use crate::Failure;
use crate::connection::{Connection, Outgoing, Shared, Workload, unexpected};
use crate::turns::{Moment, Turns};

/// Maximum number of connections between connect and settled: enough to keep the server busy, too
/// few to overflow its accept queue, where a lost SYN costs a second.
const HANDSHAKES_MAX: usize = 64;
/// Time without any packet after which missing packets are lost.
const STALL: Duration = Duration::from_secs(5);
/// Number of turns without any packet, in addition: on a busy machine, the generator may not run
/// for seconds between two turns.
const STALL_TURNS: u32 = 1_000;
/// Time limit for the largest windows with the slowest server.
const DRAIN_MAX: Duration = Duration::from_secs(120);

pub(crate) struct Fleet {
    turns: Turns,
    connections: Vec<Connection>,
    shared: Shared,
}

/// Counters at one moment; figures are differences of two.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) moment: Moment,
    pub(crate) pings: u64,
    pub(crate) reads: u64,
}

impl Fleet {
    /// Opens `count` connections; connection `n` joins `room_of(n)`. Waits for all acks.
    pub(crate) fn open(
        server: SocketAddr,
        count: usize,
        room_of: impl Fn(usize) -> Option<String> + 'static,
    ) -> Result<Self, Failure> {
        Self::open_with_concurrency(server, count, HANDSHAKES_MAX, room_of)
    }

    /// Opens connections like `open`, with `at_a_time` of them settling at most.
    pub(crate) fn open_with_concurrency(
        server: SocketAddr,
        count: usize,
        at_a_time: usize,
        room_of: impl Fn(usize) -> Option<String> + 'static,
    ) -> Result<Self, Failure> {
        let mut fleet = Self::empty(room_of)?;
        fleet.settle(&[server], count, at_a_time)?;
        Ok(fleet)
    }

    /// Opens connections that join, leave, disconnect and close. Returns their number.
    pub(crate) fn connect_and_leave(
        server: SocketAddr,
        room_of: impl Fn(usize) -> Option<String> + 'static,
    ) -> Result<u64, Failure> {
        let mut shared = Shared::new(room_of, |_| None);
        shared.leaves_after_join = true;
        Self::new(shared)?.settle(&[server], HANDSHAKES_MAX, HANDSHAKES_MAX)?;
        Ok(HANDSHAKES_MAX as u64)
    }

    /// Opens more connections until there are `count`; connection `n` goes to server `n` modulo the
    /// number of servers.
    pub(crate) fn grow(&mut self, servers: &[SocketAddr], count: usize) -> Result<(), Failure> {
        self.settle(servers, count, HANDSHAKES_MAX)
    }

    fn settle(&mut self, servers: &[SocketAddr], count: usize, at_a_time: usize) -> Result<(), Failure> {
        let patience = Duration::from_secs(20) + Duration::from_millis(3) * count as u32;
        let deadline = Instant::now() + patience;
        while self.shared.settled < count {
            self.start_among(servers, count, at_a_time)?;
            self.turn(Some(Duration::from_millis(100)), &mut Silence)?;
            if Instant::now() > deadline {
                let stuck = self.connections.iter().position(|connection| !connection.is_settled()).unwrap_or_default();
                return Err(format!(
                    "waited {patience:?} for {count} connections, {} are settled; connection {stuck} waits for {}",
                    self.shared.settled,
                    self.connections[stuck].expected_packet()
                )
                .into());
            }
        }
        Ok(())
    }

    /// Connections that resume with these credentials as soon as they are started.
    pub(crate) fn resuming(auth_of: impl Fn(usize) -> Option<String> + 'static) -> Result<Self, Failure> {
        Self::of(|_| None, auth_of)
    }

    /// A fleet without connections. Connection `n` will join `room_of(n)`, and connect with the
    /// credentials `auth_of(n)`.
    pub(crate) fn of(
        room_of: impl Fn(usize) -> Option<String> + 'static,
        auth_of: impl Fn(usize) -> Option<String> + 'static,
    ) -> Result<Self, Failure> {
        Self::new(Shared::new(room_of, auth_of))
    }

    /// A fleet without connections; its load starts and drives them itself.
    pub(crate) fn empty(room_of: impl Fn(usize) -> Option<String> + 'static) -> Result<Self, Failure> {
        Self::new(Shared::new(room_of, |_| None))
    }

    fn new(shared: Shared) -> Result<Self, Failure> {
        Ok(Self { turns: Turns::new()?, connections: Vec::new(), shared })
    }

    /// Starts connections until there are `count`, with `at_a_time` of them settling at most.
    pub(crate) fn start_some(&mut self, server: SocketAddr, count: usize, at_a_time: usize) -> Result<(), Failure> {
        self.start_among(&[server], count, at_a_time)
    }

    fn start_among(&mut self, servers: &[SocketAddr], count: usize, at_a_time: usize) -> Result<(), Failure> {
        while self.connections.len() < count && self.connections.len() - self.shared.settled < at_a_time {
            self.start_connection(servers[self.connections.len() % servers.len()])?;
        }
        Ok(())
    }

    /// Ends all connections. Gives the private id of each.
    pub(crate) fn into_pids(self) -> Vec<String> {
        self.shared.pids
    }

    /// Removes the newest connection; gives its socket.
    pub(crate) fn pop_stream(&mut self) -> Option<TcpStream> {
        self.connections.pop().map(|connection| connection.stream)
    }

    /// Number of connections whose join was acknowledged.
    pub(crate) fn settled(&self) -> usize {
        self.shared.settled
    }

    /// True if the server reads more slowly than connection `at` writes.
    pub(crate) fn is_write_blocked(&self, at: usize) -> bool {
        self.connections[at].is_write_blocked()
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.turns.is_busy()
    }

    /// Number of connections that reconnected and were not recovered.
    pub(crate) fn unrecovered(&self) -> u64 {
        self.shared.unrecovered
    }

    pub(crate) fn ping_interval(&self) -> Duration {
        self.shared.ping_interval
    }

    pub(crate) fn sample(&self) -> Sample {
        Sample { moment: self.turns.moment(), pings: self.shared.pings, reads: self.shared.reads }
    }

    /// Sends packets of a load that do not answer a packet.
    pub(crate) fn send(&mut self, with: impl FnOnce(&mut Outgoing)) -> Result<(), Failure> {
        with(&mut self.shared.outgoing);
        self.shared.outgoing.flush(&mut self.connections)
    }

    /// Runs `load` for `time`. If no packet arrives for `STALL`, ends with an error that names the
    /// missing packets.
    pub(crate) fn run(&mut self, time: Duration, load: &mut impl Workload) -> Result<(), Failure> {
        self.run_until(time, load, |_| false)
    }

    /// Receives packets in flight until `is_drained`, or until no packet arrives for `STALL`.
    pub(crate) fn drain<L: Workload>(&mut self, load: &mut L, is_drained: fn(&L) -> bool) -> Result<(), Failure> {
        self.run_until(DRAIN_MAX, load, is_drained)
    }

    /// Runs `load` until `done`, the end of `time`, or until no packet arrives for `STALL`. A
    /// completed handshake counts as a packet.
    pub(crate) fn run_until<L: Workload>(
        &mut self,
        time: Duration,
        load: &mut L,
        done: fn(&L) -> bool,
    ) -> Result<(), Failure> {
        let (mut progress, mut turns) = ((0, Instant::now()), 0);
        self.spin(time, load, |load, settled, now| {
            let arrived = load.received() + settled as u64;
            if arrived != progress.0 {
                (progress, turns) = ((arrived, now), 0);
            }
            turns += 1;
            let is_stalled = now.duration_since(progress.1) > STALL && turns > STALL_TURNS;
            if is_stalled {
                eprintln!("notice: nothing has arrived for {STALL:?}");
            }
            is_stalled || done(load)
        })
    }

    /// Runs turns until `done` or the end of `time`. `done` receives the number of settled
    /// connections as well.
    ///
    /// Polls without sleeping: otherwise each write of the server would have to wake the generator.
    fn spin<L: Workload>(
        &mut self,
        time: Duration,
        load: &mut L,
        mut done: impl FnMut(&L, usize, Instant) -> bool,
    ) -> Result<(), Failure> {
        let end = Instant::now() + time;
        loop {
            self.turn(Some(Duration::ZERO), load)?;
            if self.turns.now >= end || done(load, self.shared.settled, self.turns.now) {
                return Ok(());
            }
            if load.on_time(self.turns.now, &mut self.shared.outgoing)? {
                self.turns.count_as_busy();
            }
            self.shared.outgoing.flush(&mut self.connections)?;
        }
    }

    /// Answers pings for `time`, and expects no other packet.
    pub(crate) fn answer_pings(&mut self, time: Duration) -> Result<(), Failure> {
        self.spin(time, &mut Silence, |_, _, _| false)
    }

    /// Answers pings for `time`, sleeping in between.
    pub(crate) fn rest(&mut self, time: Duration) -> Result<(), Failure> {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.turn(Some(left), &mut Silence)?;
        }
        Ok(())
    }

    fn start_connection(&mut self, server: SocketAddr) -> Result<(), Failure> {
        let index = self.connections.len();
        let mut connection = Connection::start(server, index)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.turns.registry().register(&mut connection.stream, Token(index), interest)?;
        self.connections.push(connection);
        Ok(())
    }

    pub(crate) fn turn(&mut self, wait: Option<Duration>, load: &mut impl Workload) -> Result<(), Failure> {
        self.turns.next(wait)?;
        for event in &self.turns.events {
            let Token(at) = event.token();
            handle(event, &mut self.connections, &mut self.shared, load)
                .map_err(|failure| format!("connection {at}: {failure}"))?;
        }
        Ok(())
    }
}

fn handle(
    event: &Event,
    connections: &mut [Connection],
    shared: &mut Shared,
    load: &mut impl Workload,
) -> Result<(), Failure> {
    let Token(at) = event.token();
    if event.is_writable() {
        connections[at].resume_writing()?;
    }
    if event.is_readable() || event.is_error() {
        let to_the_end = event.is_read_closed() || event.is_error();
        connections[at].read(at, to_the_end, shared, load)?;
    }
    shared.outgoing.flush(connections)
}

/// A load without traffic: any packet is unexpected.
struct Silence;

impl Workload for Silence {
    fn on_packet(&mut self, _at: usize, packet: &[u8], _outgoing: &mut Outgoing) -> Result<(), Failure> {
        Err(unexpected(packet, "silence"))
    }

    fn received(&self) -> u64 {
        0
    }
}
