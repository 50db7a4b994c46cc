//! 64 connections that emit and wait for the ack, with 1 and with 16 events in flight each. Every
//! ack must match a pending event, have its content, and come in order.

use std::collections::HashSet;
use std::time::Duration;

use crate::Failure;
use crate::connection::{Outgoing, Workload, unexpected};
use crate::figures::{grouped, rounded};
use crate::fleet::Fleet;
use crate::options::Options;
use crate::payload;
use crate::process::{self, Server};
use crate::profile::Profile;
use crate::report::{self, Report, Verdict, line, micros_each, title};

const CONNECTIONS: usize = 64;
const WARM_UP: Duration = Duration::from_secs(2);

pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), Failure> {
    for in_flight in &options.in_flight {
        measure_with(*in_flight, options, report)?;
    }
    Ok(())
}

fn measure_with(in_flight: u32, options: &Options, report: &mut Report) -> Result<(), Failure> {
    process::allow_descriptors(CONNECTIONS)?;
    let server = Server::under_test(options, process::PING_INTERVAL)?;
    let mut fleet = Fleet::open(server.address, CONNECTIONS, |_| None)?;
    let mut load = Echo { payload: options.payload, ..Echo::default() };

    let profile = Profile::begin(options, &server, WARM_UP)?;
    fleet.send(|outgoing| load.open_windows(in_flight, outgoing))?;
    fleet.run(WARM_UP, &mut load)?;
    let (start, cpu, acks) = (fleet.sample(), server.cpu()?, load.acks);
    fleet.run(options.measured, &mut load)?;
    let (end, cpu, acks) = (fleet.sample(), server.cpu()?.since(cpu), load.acks - acks);
    profile.end()?;
    load.closing = true;
    fleet.drain(&mut load, |load| load.missing() == 0)?;

    let name = format!("echo {CONNECTIONS} × {in_flight} in flight");
    let seconds = end.moment.since(&start.moment).as_secs_f64();
    title(&name, format!("{}-byte payload, {seconds:.1} s, {}", options.payload, options.setting()));
    let per_second = acks as f64 / seconds;
    let per_read = acks as f64 / (end.reads - start.reads).max(1) as f64;
    line("acks", format!("{}/s, {} per read", grouped(per_second), rounded(per_read)));
    report::cpu_line(cpu, acks, "ack", end.moment.since(&start.moment));
    report.trust(&start.moment, &end.moment, cpu);
    report.verdict(&name, &load.verdict());
    report.figure(&name, "acks", per_second, "/s", None);
    report.figure(&name, "CPU per ack", micros_each(cpu.total(), acks), "µs", None);
    report.figure(&name, "user CPU per ack", micros_each(cpu.user, acks), "µs", None);
    Ok(())
}

#[derive(Default)]
struct Echo {
    payload: usize,
    clients: Vec<Client>,
    acks: u64,
    /// Number of acks before the ack of an older event.
    early: u64,
    /// Number of acks without a pending event.
    unknown: u64,
    /// Number of acks with other arguments than their event.
    altered: u64,
    closing: bool,
    scratch: Vec<u8>,
}

/// Ids from `oldest` to before `next` are pending, except those in `early`.
#[derive(Default)]
struct Client {
    oldest: u32,
    next: u32,
    early: HashSet<u32>,
}

impl Echo {
    fn open_windows(&mut self, in_flight: u32, outgoing: &mut Outgoing) {
        self.clients.resize_with(CONNECTIONS, Client::default);
        for at in 0..CONNECTIONS {
            for _ in 0..in_flight {
                self.emit(at, outgoing);
            }
        }
    }

    fn emit(&mut self, at: usize, outgoing: &mut Outgoing) {
        let id = self.clients[at].next;
        self.clients[at].next += 1;
        self.scratch.clear();
        self.scratch.extend_from_slice(b"42");
        push_number(&mut self.scratch, id);
        self.scratch.extend_from_slice(br#"["echo",""#);
        payload::push(&mut self.scratch, self.payload, at, id);
        self.scratch.extend_from_slice(br#""]"#);
        outgoing.send(at, &self.scratch);
    }

    fn missing(&self) -> u64 {
        self.clients.iter().map(|client| u64::from(client.next - client.oldest) - client.early.len() as u64).sum()
    }

    fn verdict(&self) -> Verdict {
        Verdict {
            checked: self.acks + self.unknown,
            faults: vec![
                (self.missing(), "lost"),
                (self.unknown, "unknown or duplicate"),
                (self.altered, "altered"),
                (self.early, "out of order"),
            ],
        }
    }
}

impl Workload for Echo {
    fn on_packet(&mut self, at: usize, packet: &[u8], outgoing: &mut Outgoing) -> Result<(), Failure> {
        let (id, arguments) = read_ack(packet).ok_or_else(|| unexpected(packet, "an ack"))?;
        let client = &mut self.clients[at];
        if id == client.oldest {
            client.oldest += 1;
            while !client.early.is_empty() && client.early.remove(&client.oldest) {
                client.oldest += 1;
            }
        } else if (client.oldest..client.next).contains(&id) && client.early.insert(id) {
            self.early += 1;
        } else {
            self.unknown += 1;
            return Ok(());
        }
        self.acks += 1;
        self.altered += u64::from(!is_echo(arguments, self.payload, at, id));
        if !self.closing {
            self.emit(at, outgoing);
        }
        Ok(())
    }

    fn received(&self) -> u64 {
        self.acks
    }
}

/// Id and arguments of an ack in the main namespace.
pub(crate) fn read_ack(packet: &[u8]) -> Option<(u32, &[u8])> {
    let rest = packet.strip_prefix(b"43")?;
    let (id, arguments) = rest.split_at(rest.iter().position(|byte| *byte == b'[')?);
    Some((payload::read_digits(id)?, arguments))
}

pub(crate) fn is_echo(arguments: &[u8], bytes: usize, at: usize, id: u32) -> bool {
    let echoed = arguments.strip_prefix(b"[\"").and_then(|text| payload::read(text, bytes));
    echoed.is_some_and(|(from, sequence, rest)| (from, sequence, rest) == (at, id, b"\"]"))
}

pub(crate) fn push_number(out: &mut Vec<u8>, number: u32) {
    if number >= 10 {
        push_number(out, number / 10);
    }
    out.push(b'0' + (number % 10) as u8);
}
