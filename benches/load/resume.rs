//! All members lose the connection, miss some events, and reconnect together. Measures the cost of
//! a resume, the time until the last has caught up, and the effect on clients that stayed
//! connected. Every member must receive every event once and in order.

use std::time::{Duration, Instant};

use crate::Failure;
use crate::connection::{Outgoing, Workload, unexpected};
use crate::figures::{grouped, rounded};
use crate::fleet::Fleet;
use crate::latency::{Latencies, Quantiles};
use crate::options::{CONNECTIONS, Options};
use crate::payload;
use crate::process::{self, Server};
use crate::report::{Report, Verdict, line, micros_each, title};
use crate::target::Recovery;

/// Maximum number of clients that reconnect at one time.
const STORM: usize = 2_000;
/// Duration of the measurement of undisturbed latency.
const QUIET: Duration = Duration::from_secs(3);
/// Interval between two events of a client that stays connected.
const PROBE_EVERY: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(120);
/// Characters of an offset.
const TOKEN: usize = 21;

pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), Failure> {
    if options.recovery == Recovery::Off || !options.server.is_stentor() {
        println!("\nresume: not measured, it needs our server with --recovery memory or disk");
        return Ok(());
    }
    let count = options.connections.unwrap_or(CONNECTIONS);
    let payload = options.payload;
    // Number of events that each member misses.
    let missed = u32::try_from(options.pending.div_ceil(payload))?;
    process::allow_descriptors(count + 1)?;
    let server = Server::under_test(options, process::PING_INTERVAL)?;
    let mut live = Fleet::open(server.address, 1, |_| Some("live".to_owned()))?;
    let mut probe = Probe::default();
    let mut fleet = Fleet::open(server.address, count, |_| Some("hall".to_owned()))?;
    let mut members =
        Members { seen: vec![0; count], tokens: vec![String::new(); count], payload, ..Members::default() };

    // The first event gives each client an offset.
    publish(&mut live, payload, 0)?;
    while members.received < count as u64 {
        fleet.turn(Some(Duration::ZERO), &mut members)?;
        probe.turn(&mut live, false)?;
    }
    let quiet = probe.run(&mut live, QUIET)?;
    let pids = fleet.into_pids();
    let tokens = std::mem::take(&mut members.tokens);
    members.tokens = vec![String::new(); count];
    for sequence in 1..=missed {
        publish(&mut live, payload, sequence)?;
        // Sent in windows, so that no command waits longer than its time limit.
        while probe.acks + 32 < sequence {
            probe.turn(&mut live, false)?;
        }
    }
    while probe.acks < missed + 1 {
        probe.turn(&mut live, false)?;
    }

    let auth = move |at: usize| Some(format!(r#"{{"pid":"{}","offset":"{}"}}"#, pids[at], tokens[at]));
    let mut fleet = Fleet::resuming(auth)?;
    let (begun, cpu) = (Instant::now(), server.cpu()?);
    let all = (count as u64) * u64::from(missed + 1);
    while members.received < all {
        fleet.start_some(server.address, count, STORM)?;
        fleet.turn(Some(Duration::ZERO), &mut members)?;
        probe.turn(&mut live, true)?;
        if begun.elapsed() > PATIENCE {
            break;
        }
    }
    let (took, cpu) = (begun.elapsed(), server.cpu()?.since(cpu));
    let storm = probe.latencies.take();

    let name = format!("resume {count}");
    title(&name, format!("{missed} events of {payload} bytes missed by each, all at once, {}", options.setting()));
    line(
        "until the last has it all",
        format!("{} s, {} resumes/s", rounded(took.as_secs_f64()), grouped(count as f64 / took.as_secs_f64())),
    );
    line("server CPU", format!("{} µs per resume, probes included", rounded(micros_each(cpu.total(), count as u64))));
    line("publish to delivery", format!("undisturbed {quiet}, meanwhile {storm}"));
    let lost = all - members.received.min(all);
    let faults = vec![
        (lost, "lost"),
        (members.wrong_events, "out of order or repeated"),
        (fleet.unrecovered(), "not recovered"),
    ];
    report.verdict(&name, &Verdict { checked: members.received, faults });
    report.figure(&name, "CPU per resume", micros_each(cpu.total(), count as u64), "µs", None);
    if let Some(p99) = storm.p99 {
        report.figure(&name, "publish to delivery meanwhile, p99", p99, "ms", None);
    }
    report.figure(&name, "until the last has it all", took.as_secs_f64(), "s", None);
    Ok(())
}

fn publish(live: &mut Fleet, bytes: usize, sequence: u32) -> Result<(), Failure> {
    let mut packet = br#"429["publish","hall","ev",""#.to_vec();
    payload::push(&mut packet, bytes, 0, sequence);
    packet.extend_from_slice(br#""]"#);
    live.send(|outgoing| outgoing.send(0, &packet))
}

#[derive(Default)]
struct Members {
    seen: Vec<u32>,
    tokens: Vec<String>,
    received: u64,
    wrong_events: u64,
    payload: usize,
}

impl Workload for Members {
    fn on_packet(&mut self, at: usize, packet: &[u8], _: &mut Outgoing) -> Result<(), Failure> {
        let delivery = packet.strip_prefix(br#"42["ev",""#).and_then(|text| payload::read(text, self.payload));
        let (_, sequence, rest) = delivery.ok_or_else(|| unexpected(packet, "an event of the hall"))?;
        let token = rest.strip_prefix(br#"",""#).and_then(|rest| rest.get(..TOKEN));
        let token = token.ok_or_else(|| unexpected(packet, "a token"))?;
        if sequence != self.seen[at] {
            self.wrong_events += 1;
        }
        self.seen[at] = sequence + 1;
        self.tokens[at] = String::from_utf8_lossy(token).into_owned();
        self.received += 1;
        Ok(())
    }

    fn received(&self) -> u64 {
        self.received
    }
}

/// A client that stays connected and emits to its own room.
#[derive(Default)]
struct Probe {
    sent: Option<Instant>,
    next: Option<Instant>,
    acks: u32,
    probes: u64,
    latencies: Latencies,
}

impl Probe {
    fn turn(&mut self, live: &mut Fleet, emits: bool) -> Result<(), Failure> {
        let now = Instant::now();
        if emits && self.sent.is_none() && self.next.is_none_or(|next| next <= now) {
            (self.sent, self.next) = (Some(now), Some(now + PROBE_EVERY));
            live.send(|outgoing| outgoing.send(0, br#"42["publish","live","probe"]"#))?;
        }
        live.turn(Some(Duration::ZERO), self)
    }

    fn run(&mut self, live: &mut Fleet, time: Duration) -> Result<Quantiles, Failure> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn(live, true)?;
        }
        Ok(self.latencies.take())
    }
}

impl Workload for Probe {
    fn on_packet(&mut self, _: usize, packet: &[u8], _: &mut Outgoing) -> Result<(), Failure> {
        if packet.starts_with(br#"42["probe""#) {
            let sent = self.sent.take().ok_or_else(|| unexpected(packet, "one probe at a time"))?;
            self.latencies.push(sent.elapsed());
            self.probes += 1;
        } else if packet.starts_with(b"439[") {
            self.acks += 1;
        } else {
            return Err(unexpected(packet, "a probe or an ack"));
        }
        Ok(())
    }

    fn received(&self) -> u64 {
        self.probes
    }
}
