//! Echo over long polling: 64 clients with two persistent connections each, one for the waiting GET
//! and one for a POST per event; one event in flight. Every ack must match its event and have its
//! content.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Token};

use crate::connection::{connect, unexpected};
use crate::echo::{is_echo, push_number, read_ack};
use crate::figures::grouped;
use crate::latency::Latencies;
use crate::options::Options;
use crate::process::{self, Server};
use crate::report::{self, Report, Verdict, line, micros_each, title};
use crate::turns::Turns;
use crate::{Failure, http, payload};

const CLIENTS: usize = 64;
const WARM_UP: Duration = Duration::from_secs(2);
/// Time without any packet after which missing packets are lost.
const STALL: Duration = Duration::from_secs(5);
const BUFFER_BYTES: usize = 64 * 1024;
/// Separator of the packets of one payload.
const SEPARATOR: u8 = 0x1e;

/// The connection of the polls, and that of the posts.
const GET: usize = 0;
const POST: usize = 1;

pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), Failure> {
    process::allow_descriptors(2 * CLIENTS)?;
    let server = Server::under_test(options, process::PING_INTERVAL)?;
    let mut load = Polling::open(server.address, options.payload)?;

    load.run(WARM_UP)?;
    load.latencies.take();
    let (start, cpu, acks) = (load.turns.moment(), server.cpu()?, load.acks);
    load.run(options.measured)?;
    let (end, cpu, acks) = (load.turns.moment(), server.cpu()?.since(cpu), load.acks - acks);
    let latencies = load.latencies.take();
    load.closing = true;
    load.run(STALL)?;

    let name = format!("polling {CLIENTS} × 1 in flight");
    let interval = end.since(&start);
    title(&name, format!("{}-byte payload, {:.1} s, {}", options.payload, interval.as_secs_f64(), options.setting()));
    let per_second = acks as f64 / interval.as_secs_f64();
    line("acks", format!("{}/s, a GET and a POST each", grouped(per_second)));
    report::cpu_line(cpu, acks, "ack", interval);
    report.trust(&start, &end, cpu);
    let faults = vec![(load.missing(), "lost"), (load.wrong, "unknown or altered")];
    report.verdict(&name, &Verdict { checked: load.acks, faults });
    report.figure(&name, "acks", per_second, "/s", None);
    report.figure(&name, "CPU per ack", micros_each(cpu.total(), acks), "µs", None);
    report.latencies(&name, "emit to ack", &latencies);
    Ok(())
}

struct Polling {
    turns: Turns,
    clients: Vec<Client>,
    host: String,
    payload: usize,
    acks: u64,
    /// Number of acks without a pending event, or with other content.
    wrong: u64,
    /// Time from each event to its ack.
    latencies: Latencies,
    /// Set at the end: no more events.
    closing: bool,
}

struct Client {
    lines: [Line; 2],
    /// Empty before the handshake.
    sid: String,
    outbox: Vec<u8>,
    next: u32,
    /// Time of the event whose ack is pending.
    since: Option<Instant>,
}

struct Line {
    stream: TcpStream,
    incoming: Vec<u8>,
    unsent: Vec<u8>,
    is_waiting: bool,
}

impl Polling {
    fn open(server: SocketAddr, payload: usize) -> Result<Self, Failure> {
        let turns = Turns::new()?;
        let line = |token: usize| -> Result<Line, Failure> {
            let mut stream = connect(server, token)?;
            turns.registry().register(&mut stream, Token(token), Interest::READABLE | Interest::WRITABLE)?;
            Ok(Line { stream, incoming: Vec::new(), unsent: Vec::new(), is_waiting: false })
        };
        let client = |at: usize| -> Result<Client, Failure> {
            let lines = [line(2 * at + GET)?, line(2 * at + POST)?];
            Ok(Client { lines, sid: String::new(), outbox: Vec::new(), next: 0, since: None })
        };
        let clients = (0..CLIENTS).map(client).collect::<Result<_, _>>()?;
        let (host, latencies) = (server.to_string(), Latencies::default());
        Ok(Self { turns, clients, host, payload, acks: 0, wrong: 0, latencies, closing: false })
    }

    fn missing(&self) -> u64 {
        self.clients.iter().filter(|client| client.since.is_some()).count() as u64
    }

    /// Runs until the end of `time`, until no packet arrives for `STALL`, or until the last ack if
    /// there are no more events.
    fn run(&mut self, time: Duration) -> Result<(), Failure> {
        let (end, mut progress) = (Instant::now() + time, (self.acks, Instant::now()));
        let mut buffer = vec![0; BUFFER_BYTES];
        for at in 0..CLIENTS {
            self.request(at)?;
        }
        loop {
            self.turns.next(Some(Duration::ZERO))?;
            let now = self.turns.now;
            let tokens: Vec<usize> = self.turns.events.iter().map(|event| event.token().0).collect();
            for token in tokens {
                let (at, kind) = (token / 2, token % 2);
                self.serve(at, kind, &mut buffer).map_err(|failure| format!("client {at}: {failure}"))?;
            }
            if self.acks != progress.0 {
                progress = (self.acks, now);
            }
            if now > end || now.duration_since(progress.1) > STALL || (self.closing && self.missing() == 0) {
                return Ok(());
            }
        }
    }

    fn serve(&mut self, at: usize, kind: usize, buffer: &mut [u8]) -> Result<(), Failure> {
        let line = &mut self.clients[at].lines[kind];
        line.write()?;
        line.read(buffer)?;
        // One request at a time, so there is one response.
        let Some((body, length)) = http::response(&line.incoming)? else {
            return Ok(());
        };
        line.incoming.drain(..length);
        line.is_waiting = false;
        if kind == POST && body != b"ok" {
            return Err(unexpected(&body, "ok"));
        }
        if kind == GET {
            for packet in body.split(|byte| *byte == SEPARATOR) {
                self.on_packet(at, packet)?;
            }
        }
        self.request(at)
    }

    fn on_packet(&mut self, at: usize, packet: &[u8]) -> Result<(), Failure> {
        let client = &mut self.clients[at];
        if packet == b"2" {
            client.push(b"3");
        } else if packet.starts_with(b"0{") {
            client.sid = sid(packet).ok_or_else(|| unexpected(packet, "a sid"))?;
            client.push(b"40");
        } else if packet.starts_with(b"40{") {
            self.emit(at);
        } else {
            let (id, arguments) = read_ack(packet).ok_or_else(|| unexpected(packet, "an ack"))?;
            let since = client.since.filter(|_| id + 1 == client.next && is_echo(arguments, self.payload, at, id));
            let Some(since) = since else {
                self.wrong += 1;
                return Ok(());
            };
            client.since = None;
            self.acks += 1;
            self.latencies.push(since.elapsed());
            if !self.closing {
                self.emit(at);
            }
        }
        Ok(())
    }

    fn emit(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let mut packet = b"42".to_vec();
        push_number(&mut packet, client.next);
        packet.extend_from_slice(br#"["echo",""#);
        payload::push(&mut packet, self.payload, at, client.next);
        packet.extend_from_slice(br#""]"#);
        client.push(&packet);
        client.next += 1;
        client.since = Some(Instant::now());
    }

    /// Sends a poll if none waits, and a POST of all packets since the last one.
    fn request(&mut self, at: usize) -> Result<(), Failure> {
        let client = &mut self.clients[at];
        if !client.lines[GET].is_waiting {
            let request = http::request(&self.host, at, &client.sid, None);
            client.lines[GET].send(&request)?;
        }
        if !client.lines[POST].is_waiting && !client.outbox.is_empty() {
            let body = std::mem::take(&mut client.outbox);
            let request = http::request(&self.host, at, &client.sid, Some(&body));
            client.lines[POST].send(&request)?;
        }
        Ok(())
    }
}

impl Client {
    fn push(&mut self, packet: &[u8]) {
        if !self.outbox.is_empty() {
            self.outbox.push(SEPARATOR);
        }
        self.outbox.extend_from_slice(packet);
    }
}

impl Line {
    fn send(&mut self, request: &[u8]) -> Result<(), Failure> {
        self.is_waiting = true;
        self.unsent.extend_from_slice(request);
        self.write()
    }

    fn write(&mut self) -> Result<(), Failure> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                // A connecting socket reports "not connected".
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), Failure> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err("the server closed a connection that it was asked to keep".into()),
                Ok(count) => self.incoming.extend_from_slice(&buffer[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn sid(open: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(open).ok()?;
    Some(text.split_once("\"sid\":\"")?.1.split('"').next()?.to_owned())
}
