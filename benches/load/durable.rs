//! Durable publishes: publishers that each wait for their commit, beside a bare fdatasync of the
//! same disk; and members of a room whose plain events share the server with durable ones. Every
//! publish must be answered as stored, and none as a duplicate.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::connection::{Outgoing, Workload, unexpected};
use crate::fanout::Fanout;
use crate::figures::grouped;
use crate::fleet::Fleet;
use crate::latency::{Latencies, Quantiles};
use crate::options::Options;
use crate::payload;
use crate::process::{self, Server};
use crate::report::{self, Report, Verdict, line, title};

/// Publishers of each measurement; each waits for the commit of its event.
const WAITING: [usize; 4] = [1, 8, 64, 512];
pub(crate) const WARM_UP: Duration = Duration::from_secs(2);
/// Bytes of a commit's log for one event: a few pages.
const RAW_BYTES: usize = 3 * 4_096;
const RAW_SYNCS: usize = 1_000;
/// Budget of a lone publish above a bare fdatasync, at the median.
const ABOVE_SYNC_MILLIS: f64 = 0.3;

/// Durable events per second beside the plain ones, and their publishers.
const BESIDE_RATE: u32 = 10_000;
const BESIDE_PUBLISHERS: usize = 64;
/// Default of plain events per second.
const PLAIN_RATE: u32 = 100;
/// Budget: maximum factor by which the latency of plain events may grow.
const RATIO_BUDGET: f64 = 1.1;

/// Unanswered publishes of one publisher; a power of two below the credit of a session.
const WINDOW: usize = 32;

/// A server with a queue on disk, which accepts what the loads store.
pub(crate) fn start(options: &Options) -> Result<Server, Failure> {
    Server::adjusted(options, process::PING_INTERVAL, |command| {
        command
            .env("STENTOR_QUEUE", "disk")
            .env("STENTOR_QUEUE_BYTES_MAX", "16GiB")
            .env("STENTOR_SUBSCRIBERS_MAX", "1000000")
            .env("STENTOR_DEDUP_IDS_MAX", "100000000");
    })
}

/// Times of appending and syncing a few pages.
fn bare_syncs(folder: &Path) -> Result<Quantiles, Failure> {
    let path = folder.join(format!("stentor-load-raw-{}", std::process::id()));
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let (data, mut times) = (vec![0x5a; RAW_BYTES], Latencies::default());
    for _ in 0..RAW_SYNCS {
        let begin = Instant::now();
        file.write_all(&data)?;
        file.sync_data()?;
        times.push(begin.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok(times.take())
}

pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), Failure> {
    for publishers in WAITING {
        measure_waiting(publishers, options, report)?;
    }
    Ok(())
}

fn measure_waiting(publishers: usize, options: &Options, report: &mut Report) -> Result<(), Failure> {
    process::allow_descriptors(publishers)?;
    let raw = bare_syncs(&std::env::temp_dir())?;
    let server = start(options)?;
    let mut fleet = Fleet::open(server.address, publishers, |_| None)?;
    let mut load = Publishers::new(0, publishers, options.payload, None);
    fleet.send(|outgoing| load.start(outgoing))?;
    fleet.run(WARM_UP, &mut load)?;
    load.latencies.take();
    let (start, cpu, stored) = (fleet.sample(), server.cpu()?, load.stored);
    fleet.run(options.measured, &mut load)?;
    let (end, cpu, stored) = (fleet.sample(), server.cpu()?.since(cpu), load.stored - stored);
    let latencies = load.latencies.take();
    load.closing = true;
    fleet.drain(&mut load, Publishers::is_drained)?;

    let interval = end.moment.since(&start.moment);
    let name = format!("durable, {publishers} waiting publisher(s)");
    title(&name, format!("{} B, {:.1} s, {}", options.payload, interval.as_secs_f64(), options.setting()));
    let per_second = stored as f64 / interval.as_secs_f64();
    line("stored", format!("{}/s", grouped(per_second)));
    line("bare fdatasync", &raw);
    report::cpu_line(cpu, stored, "event", interval);
    report.trust(&start.moment, &end.moment, cpu);
    report.verdict(&name, &load.verdict());
    report.figure(&name, "stored", per_second, "/s", None);
    report.latencies(&name, "publish to answer", &latencies);
    if let (1, Some(p50), Some(raw)) = (publishers, latencies.p50, raw.p50) {
        report.figure(&name, "p50 above fdatasync", p50 - raw, "ms", options.budget(ABOVE_SYNC_MILLIS));
    }
    Ok(())
}

/// Measures plain events alone, beside other plain publishes of the same rate, beside durable ones,
/// and alone again. The other plain publishes show the cost of so many publishes without commits.
pub(crate) fn measure_neighbours(options: &Options, report: &mut Report) -> Result<(), Failure> {
    let options = Options { rooms: 1, rate: Some(options.rate.unwrap_or(PLAIN_RATE)), ..options.clone() };
    let members = options.members;
    process::allow_descriptors(members + 1 + BESIDE_PUBLISHERS)?;
    let server = start(&options)?;
    let room = move |index| (index < members).then(|| "hall-0".to_owned());
    let mut fleet = Fleet::open(server.address, members + 1 + BESIDE_PUBLISHERS, room)?;
    let durable = Publishers::new(members + 1, BESIDE_PUBLISHERS, options.payload, Some(BESIDE_RATE));
    let mut load = Beside { plain: Fanout::new(1, &options), first: members + 1, other: durable };
    load.other.closing = true;
    fleet.send(|outgoing| load.plain.start(outgoing))?;

    let mut alone = f64::INFINITY;
    let mut beside = Vec::new();
    for (what, is_beside, is_durable) in [
        ("alone", false, false),
        ("beside plain publishes", true, false),
        ("beside durable events", true, true),
        ("alone again", false, false),
    ] {
        (load.other.closing, load.other.is_durable) = (!is_beside, is_durable);
        load.other.restart();
        fleet.run(WARM_UP, &mut load)?;
        load.plain.latencies.take();
        load.other.latencies.take();
        let (start, cpu, stored) = (fleet.sample(), server.cpu()?, load.other.stored);
        fleet.run(options.measured, &mut load)?;
        let (end, cpu, stored) = (fleet.sample(), server.cpu()?.since(cpu), load.other.stored - stored);
        let (plain, durable) = (load.plain.latencies.take(), load.other.latencies.take());
        let interval = end.moment.since(&start.moment);
        let name = format!("plain events {what}");
        let rate = options.rate.unwrap_or_default();
        title(
            &name,
            format!("{members} members, {rate} plain events/s of {} B, {}", options.payload, options.setting()),
        );
        line("other publishes", format!("{}/s answered", grouped(stored as f64 / interval.as_secs_f64())));
        line("server CPU", format!("{:.0} % of a core", 100.0 * cpu.total().as_secs_f64() / interval.as_secs_f64()));
        report.trust(&start.moment, &end.moment, cpu);
        report.latencies(&name, "due to each member", &plain);
        match plain.p99 {
            Some(p99) if is_beside => beside.push((name.clone(), p99)),
            Some(p99) => alone = alone.min(p99),
            None => {}
        }
        if is_beside {
            report.latencies(&format!("other publishes, {what}"), "publish to answer", &durable);
        }
    }
    for (name, p99) in &beside {
        report.figure(name, "p99 to alone", p99 / alone, "×", None);
    }
    if let [(_, plain), (name, durable)] = &beside[..] {
        let budget = options.budget(RATIO_BUDGET);
        report.figure(name, "p99 to plain publishes", durable / plain, "×", budget);
    }
    (load.plain.closing, load.other.closing) = (true, true);
    fleet.drain(&mut load, |load| load.plain.is_drained() && load.other.is_drained())?;
    report.verdict("plain events", &load.plain.verdict());
    report.verdict("durable events", &load.other.verdict());
    Ok(())
}

/// Plain events to members, and another load of the connections behind them.
pub(crate) struct Beside<L> {
    pub(crate) plain: Fanout,
    /// Index of the first connection of the other load.
    pub(crate) first: usize,
    pub(crate) other: L,
}

impl<L: Workload> Workload for Beside<L> {
    fn on_packet(&mut self, at: usize, packet: &[u8], outgoing: &mut Outgoing) -> Result<(), Failure> {
        if at >= self.first {
            self.other.on_packet(at, packet, outgoing)
        } else {
            self.plain.on_packet(at, packet, outgoing)
        }
    }

    fn received(&self) -> u64 {
        self.plain.received() + self.other.received()
    }

    fn on_time(&mut self, now: Instant, outgoing: &mut Outgoing) -> Result<bool, Failure> {
        Ok(self.plain.on_time(now, outgoing)? | self.other.on_time(now, outgoing)?)
    }
}

/// Connections that publish durably, each to a room of its own without members.
struct Publishers {
    /// Index of the first connection.
    first: usize,
    payload: usize,
    senders: Vec<Sender>,
    /// Open loop: time when the next publish is due, and interval between publishes.
    schedule: Option<(Instant, Duration)>,
    next: usize,
    stored: u64,
    refused: u64,
    duplicates: u64,
    /// From each publish to its answer; in the open loop, from the due time.
    latencies: Latencies,
    /// No more publishes.
    closing: bool,
    is_durable: bool,
    scratch: Vec<u8>,
}

struct Sender {
    published: u32,
    answered: u32,
    /// Times of unanswered publishes, by number modulo window.
    since: [Instant; WINDOW],
}

impl Publishers {
    fn new(first: usize, count: usize, payload: usize, rate: Option<u32>) -> Self {
        let now = Instant::now();
        Self {
            first,
            payload,
            senders: (0..count).map(|_| Sender { published: 0, answered: 0, since: [now; WINDOW] }).collect(),
            schedule: rate.map(|rate| (now, Duration::from_secs(1) / rate)),
            next: 0,
            stored: 0,
            refused: 0,
            duplicates: 0,
            latencies: Latencies::default(),
            closing: false,
            is_durable: true,
            scratch: Vec::new(),
        }
    }

    /// Begins the closed loop.
    fn start(&mut self, outgoing: &mut Outgoing) {
        let now = Instant::now();
        (0..self.senders.len()).for_each(|sender| self.publish(sender, now, outgoing));
    }

    /// Begins the open loop now.
    fn restart(&mut self) {
        if let Some((due, _)) = &mut self.schedule {
            *due = Instant::now();
        }
    }

    fn publish(&mut self, sender: usize, since: Instant, outgoing: &mut Outgoing) {
        let this = &mut self.senders[sender];
        let number = this.published;
        this.published += 1;
        this.since[number as usize % WINDOW] = since;
        self.scratch.clear();
        let room = format!(r#"{{"room":"store-{sender}","durable":true,"dedup_id":"{sender}-{number}"}}"#);
        let room = if self.is_durable { room } else { format!(r#"{{"room":"store-{sender}"}}"#) };
        let head = format!(r#"42{number}["publish",{room},"ev",""#);
        self.scratch.extend_from_slice(head.as_bytes());
        payload::push(&mut self.scratch, self.payload, sender % 100, number);
        self.scratch.extend_from_slice(br#""]"#);
        outgoing.send(self.first + sender, &self.scratch);
    }

    fn is_drained(&self) -> bool {
        self.senders.iter().all(|sender| sender.answered == sender.published)
    }

    fn verdict(&self) -> Verdict {
        let unanswered = self.senders.iter().map(|sender| u64::from(sender.published - sender.answered)).sum();
        Verdict {
            checked: self.stored + self.refused + self.duplicates,
            faults: vec![(self.refused, "refused"), (self.duplicates, "duplicate"), (unanswered, "unanswered")],
        }
    }
}

impl Workload for Publishers {
    fn on_packet(&mut self, at: usize, packet: &[u8], outgoing: &mut Outgoing) -> Result<(), Failure> {
        let answer = read_answer(packet).ok_or_else(|| unexpected(packet, "the answer to a publish"))?;
        let sender = at - self.first;
        let this = &mut self.senders[sender];
        this.answered += 1;
        self.latencies.push(this.since[answer.number as usize % WINDOW].elapsed());
        match answer {
            Answer { is_stored: false, .. } => self.refused += 1,
            Answer { is_duplicate: true, .. } => self.duplicates += 1,
            Answer { .. } => self.stored += 1,
        }
        if !self.closing && self.schedule.is_none() {
            self.publish(sender, Instant::now(), outgoing);
        }
        Ok(())
    }

    fn received(&self) -> u64 {
        self.stored + self.refused + self.duplicates
    }

    fn on_time(&mut self, now: Instant, outgoing: &mut Outgoing) -> Result<bool, Failure> {
        let mut worked = false;
        while let Some((due, interval)) = self.schedule {
            let sender = &self.senders[self.next];
            if self.closing || due > now || (sender.published - sender.answered) as usize == WINDOW {
                break;
            }
            worked = true;
            self.publish(self.next, due, outgoing);
            self.next = (self.next + 1) % self.senders.len();
            self.schedule = Some((due + interval, interval));
        }
        Ok(worked)
    }
}

/// Answer to a publish.
pub(crate) struct Answer {
    number: u32,
    pub(crate) is_stored: bool,
    pub(crate) is_duplicate: bool,
}

pub(crate) fn read_answer(packet: &[u8]) -> Option<Answer> {
    let packet = packet.strip_prefix(b"43")?;
    let at = packet.iter().position(|byte| *byte == b'[')?;
    let contains = |text: &[u8]| packet.windows(text.len()).any(|window| window == text);
    Some(Answer {
        number: payload::read_digits(&packet[..at])?,
        is_stored: contains(br#""level":""#),
        is_duplicate: contains(br#""duplicate":true"#),
    })
}
