//! One room of 1000 members (or `--members`); one publisher, then four, that are not in it; a closed loop. Every member must see every
//! event once, each publisher's in order, and all members the publishers in one and the same interleaving.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::connection::{Outgoing, Workload, unexpected};
use crate::fleet::Fleet;
use crate::options::Options;
use crate::payload;
use crate::process::{self, Server};
use crate::report::{self, Report, Verdict, grouped, line, micros_each, rounded, title};

const PUBLISHERS: [usize; 2] = [1, 4];
const WARM_UP: Duration = Duration::from_secs(2);
/// design.md section 9: user CPU per delivery above the write itself.
const USER_MICROS_BUDGET: f64 = 0.6;

/// A delivery up to the payload. What may follow its closing quote is the token that recovery adds.
const DELIVERY: &[u8] = br#"42["ev",""#;

pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), Failure> {
    for publishers in PUBLISHERS {
        measure_with(publishers, options, report)?;
    }
    Ok(())
}

fn measure_with(publishers: usize, options: &Options, report: &mut Report) -> Result<(), Failure> {
    let members = options.members;
    process::allow_descriptors(members + publishers)?;
    let server = Server::under_test(options, process::PING_INTERVAL)?;
    let room = move |index| (index < members).then(|| "hall".to_owned());
    let mut fleet = Fleet::open(server.address, members + publishers, room)?;
    let mut load = Fanout::new(members, publishers, options.window);

    fleet.send(|outgoing| load.open_windows(outgoing))?;
    fleet.run(WARM_UP, &mut load)?;
    load.latencies.clear();
    let (start, cpu, delivered) = (fleet.sample(), server.cpu()?, load.delivered);
    fleet.run(options.measured, &mut load)?;
    let (end, cpu, delivered) = (fleet.sample(), server.cpu()?.since(cpu), load.delivered - delivered);
    let latencies = std::mem::take(&mut load.latencies);
    load.closing = true;
    fleet.drain(&mut load, Fanout::is_drained)?;

    let name = format!("fanout 1 × {members}, {publishers} publisher(s)");
    let seconds = (end.at - start.at).as_secs_f64();
    let setting = options.setting();
    title(&name, format!("100-byte payload, {} outstanding each, {seconds:.1} s, {setting}", options.window));
    let per_second = delivered as f64 / seconds;
    let per_read = delivered as f64 / (end.reads - start.reads).max(1) as f64;
    line("deliveries", format!("{}/s, {} per read of a member", grouped(per_second), rounded(per_read)));
    report::cpu_line(cpu, delivered, "delivery", end.at - start.at);
    line("publish to last member", latency(latencies));
    report::generator_line(&start, &end, cpu);
    report.verdict(&name, &load.verdict());
    report.figure(&name, "deliveries", per_second, "/s", None);
    report.figure(&name, "CPU per delivery", micros_each(cpu.total(), delivered), "µs", None);
    report.figure(&name, "user CPU per delivery", micros_each(cpu.user, delivered), "µs", Some(USER_MICROS_BUDGET));
    Ok(())
}

struct Fanout {
    members: usize,
    publishers: Vec<Publisher>,
    window: u32,
    /// The next sequence number of each member and publisher, member by member.
    expected: Vec<u32>,
    /// A rolling hash of each member's deliveries in their order.
    histories: Vec<u64>,
    /// (member, publisher, sequence number) that were skipped and may yet come late.
    skipped: HashSet<(usize, usize, u32)>,
    delivered: u64,
    duplicates: u64,
    late: u64,
    /// Microseconds from each publish to its last delivery.
    latencies: Vec<u32>,
    /// Set at the end: a complete publish is followed by none.
    closing: bool,
}

struct Publisher {
    published: u32,
    completed: u32,
    /// Deliveries still missing, and the time of publishing, of the publishes in the window; by sequence number modulo
    /// window.
    outstanding: Vec<(u32, Instant)>,
}

impl Fanout {
    fn new(members: usize, publishers: usize, window: usize) -> Self {
        let publisher = |_| Publisher { published: 0, completed: 0, outstanding: vec![(0, Instant::now()); window] };
        Self {
            members,
            publishers: (0..publishers).map(publisher).collect(),
            window: window as u32,
            expected: vec![0; members * publishers],
            histories: vec![0; members],
            skipped: HashSet::new(),
            delivered: 0,
            duplicates: 0,
            late: 0,
            latencies: Vec::new(),
            closing: false,
        }
    }

    fn open_windows(&mut self, outgoing: &mut Outgoing) {
        for publisher in 0..self.publishers.len() {
            for _ in 0..self.window {
                self.publish(publisher, outgoing);
            }
        }
    }

    fn publish(&mut self, publisher: usize, outgoing: &mut Outgoing) {
        let this = &mut self.publishers[publisher];
        let payload = payload::write(publisher, this.published);
        this.outstanding[(this.published % self.window) as usize] = (self.members as u32, Instant::now());
        this.published += 1;
        outgoing.send(self.members + publisher, &[br#"42["publish","hall","ev",""#, &payload[..], br#""]"#].concat());
    }

    /// One member has received one event, for the first time.
    fn count(&mut self, publisher: usize, sequence: u32, outgoing: &mut Outgoing) {
        self.delivered += 1;
        let this = &mut self.publishers[publisher];
        let (missing, since) = &mut this.outstanding[(sequence % self.window) as usize];
        *missing -= 1;
        if *missing == 0 {
            self.latencies.push(since.elapsed().as_micros() as u32);
            self.slide_window(publisher, outgoing);
        }
    }

    /// Replaces what is complete by new publishes, oldest first: a younger one that is complete before it waits, and
    /// keeps its place in the window.
    fn slide_window(&mut self, publisher: usize, outgoing: &mut Outgoing) {
        loop {
            let this = &mut self.publishers[publisher];
            let (missing, _) = this.outstanding[(this.completed % self.window) as usize];
            if missing > 0 || this.completed == this.published {
                return;
            }
            this.completed += 1;
            if !self.closing {
                self.publish(publisher, outgoing);
            }
        }
    }

    /// A delivery out of its place: too early, late, or a second time.
    #[cold]
    fn on_misplaced(&mut self, member: usize, publisher: usize, sequence: u32, outgoing: &mut Outgoing) {
        let expected = &mut self.expected[member * self.publishers.len() + publisher];
        if sequence > *expected {
            self.skipped.extend((*expected..sequence).map(|skipped| (member, publisher, skipped)));
            *expected = sequence + 1;
            self.count(publisher, sequence, outgoing);
        } else if self.skipped.remove(&(member, publisher, sequence)) {
            self.late += 1;
            self.count(publisher, sequence, outgoing);
        } else {
            self.duplicates += 1;
        }
    }

    fn is_drained(&self) -> bool {
        self.publishers.iter().all(|publisher| publisher.completed == publisher.published)
    }

    fn verdict(&self) -> Verdict {
        let published: u64 = self.publishers.iter().map(|publisher| u64::from(publisher.published)).sum();
        let interleavings: HashSet<u64> = self.histories.iter().copied().collect();
        Verdict {
            checked: self.delivered + self.duplicates,
            faults: vec![
                (published * self.members as u64 - self.delivered, "lost"),
                (self.duplicates, "duplicate"),
                (self.late, "out of order"),
                (interleavings.len() as u64 - 1, "other interleavings"),
            ],
        }
    }
}

impl Workload for Fanout {
    fn on_packet(&mut self, at: usize, packet: &[u8], outgoing: &mut Outgoing) -> Result<(), Failure> {
        let delivery = read_delivery(packet).filter(|(publisher, sequence)| {
            at < self.members
                && self.publishers.get(*publisher).is_some_and(|publisher| *sequence < publisher.published)
        });
        let (publisher, sequence) = delivery.ok_or_else(|| unexpected(packet, "a delivery of what was published"))?;
        let history = &mut self.histories[at];
        *history = (*history ^ ((publisher as u64) << 32 | u64::from(sequence)))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(31);
        let expected = &mut self.expected[at * self.publishers.len() + publisher];
        if sequence != *expected {
            self.on_misplaced(at, publisher, sequence, outgoing);
            return Ok(());
        }
        *expected += 1;
        self.count(publisher, sequence, outgoing);
        Ok(())
    }

    fn received(&self) -> u64 {
        self.delivered
    }
}

/// Publisher and sequence number of a delivery.
fn read_delivery(packet: &[u8]) -> Option<(usize, u32)> {
    let (publisher, sequence, rest) = payload::read(packet.strip_prefix(DELIVERY)?)?;
    matches!(rest, [b'"', b']' | b',', ..]).then_some((publisher, sequence))
}

fn latency(mut micros: Vec<u32>) -> String {
    micros.sort_unstable();
    let millis = |share: f64| match micros.get((micros.len() as f64 * share) as usize) {
        Some(micros) => rounded(f64::from(*micros) / 1000.0),
        None => "-".to_owned(),
    };
    format!("p50 {} ms, p99 {} ms, of {} publishes", millis(0.5), millis(0.99), micros.len())
}
