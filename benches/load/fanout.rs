//! Rooms of members, and publishers outside of them: by default one room of 1000 with one
//! publisher, then with four. Each publisher publishes to the rooms in turn, in a closed loop or
//! (`--rate`) by the clock. Every member must receive every event of its room once, each
//! publisher's in order, and all members of a room in the same interleaving.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::connection::{Outgoing, Workload, unexpected};
use crate::figures::{grouped, rounded};
use crate::fleet::Fleet;
use crate::latency::Latencies;
use crate::options::Options;
use crate::payload;
use crate::process::{self, Server};
use crate::profile::Profile;
use crate::report::{self, Report, Verdict, line, micros_each, title};

const WARM_UP: Duration = Duration::from_secs(2);
/// Maximum number of a publisher's publishes in flight in the open loop. Above it the publisher
/// waits, and its latencies count from the time when the publish was due.
const OPEN_WINDOW: usize = 1024;
/// Budget of user CPU per delivery above the cost of the write itself.
const USER_MICROS_BUDGET: f64 = 0.6;

/// Sequence number that a member expects of a publisher that does not publish to its room.
const NEVER: u32 = u32::MAX;

/// A delivery up to the payload. After its closing quote, recovery may add an offset.
const DELIVERY: &[u8] = br#"42["ev",""#;

pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), Failure> {
    for publishers in &options.publishers {
        measure_with(*publishers, options, report)?;
    }
    Ok(())
}

fn measure_with(publishers: usize, options: &Options, report: &mut Report) -> Result<(), Failure> {
    let Options { rooms, members, payload, .. } = *options;
    let audience = rooms * members;
    process::allow_descriptors(audience + publishers)?;
    let server = Server::under_test(options, process::PING_INTERVAL)?;
    let room = move |index| (index < audience).then(|| format!("hall-{}", index % rooms));
    let mut fleet = Fleet::open(server.address, audience + publishers, room)?;
    let mut load = Fanout::new(publishers, options);

    let profile = Profile::begin(options, &server, WARM_UP)?;
    fleet.send(|outgoing| load.start(outgoing))?;
    fleet.run(WARM_UP, &mut load)?;
    load.latencies.take();
    let (start, cpu, delivered) = (fleet.sample(), server.cpu()?, load.delivered);
    fleet.run(options.measured, &mut load)?;
    let (end, cpu, delivered) = (fleet.sample(), server.cpu()?.since(cpu), load.delivered - delivered);
    let latencies = load.latencies.take();
    profile.end()?;
    load.closing = true;
    fleet.drain(&mut load, Fanout::is_drained)?;

    let interval = end.moment.since(&start.moment);
    let pace = match options.rate {
        Some(rate) => format!("{rate} publishes/s"),
        None => format!("{} outstanding each", options.window),
    };
    let name = format!("fanout {rooms} × {members}, {payload} B, {publishers} publisher(s)");
    title(&name, format!("{pace}, {:.1} s, {}", interval.as_secs_f64(), options.setting()));
    let per_second = delivered as f64 / interval.as_secs_f64();
    let per_read = delivered as f64 / (end.reads - start.reads).max(1) as f64;
    line("deliveries", format!("{}/s, {} per read of a member", grouped(per_second), rounded(per_read)));
    report::cpu_line(cpu, delivered, "delivery", interval);
    report.trust(&start.moment, &end.moment, cpu);
    report.verdict(&name, &load.verdict());
    report.figure(&name, "deliveries", per_second, "/s", None);
    report.figure(&name, "CPU per delivery", micros_each(cpu.total(), delivered), "µs", None);
    let user = micros_each(cpu.user, delivered);
    report.figure(&name, "user CPU per delivery", user, "µs", options.budget(USER_MICROS_BUDGET));
    let subject = if options.rate.is_some() { "due to each member" } else { "publish to last member" };
    report.latencies(&name, subject, &latencies);
    Ok(())
}

/// The load, which other loads measure too.
pub(crate) struct Fanout {
    rooms: usize,
    /// Number of rooms that each publisher publishes to, starting with the room of its own number.
    rounds: usize,
    members: usize,
    payload: usize,
    publishers: Vec<Publisher>,
    window: u32,
    /// Open loop: time when the next publish is due, and interval between publishes.
    schedule: Option<(Instant, Duration)>,
    next_publisher: usize,
    /// Next sequence number of each member and publisher, member by member.
    expected: Vec<u32>,
    /// Rolling hash of each member's deliveries in order.
    histories: Vec<u64>,
    /// (member, publisher, sequence number) of skipped deliveries, which may arrive late.
    skipped: HashSet<(usize, usize, u32)>,
    pub(crate) delivered: u64,
    duplicates: u64,
    late: u64,
    /// Number of events of another room.
    strays: u64,
    /// Time from each publish to its last delivery. In the open loop: from the due time of the
    /// publish to each delivery.
    pub(crate) latencies: Latencies,
    /// Set at the end: no more publishes.
    pub(crate) closing: bool,
    scratch: Vec<u8>,
}

struct Publisher {
    published: u32,
    completed: u32,
    /// Number of missing deliveries and time of publishing of each publish in the window; indexed
    /// by sequence number modulo window.
    outstanding: Vec<(u32, Instant)>,
}

impl Fanout {
    pub(crate) fn new(publishers: usize, options: &Options) -> Self {
        let rooms = options.rooms;
        Self::in_turn(rooms, publishers, options)
    }

    /// Each publisher publishes only to the room of its own number.
    pub(crate) fn separate(options: &Options) -> Self {
        Self::in_turn(1, options.rooms, options)
    }

    fn in_turn(rounds: usize, publishers: usize, options: &Options) -> Self {
        let Options { rooms, members, payload, .. } = *options;
        let window = if options.rate.is_some() { OPEN_WINDOW } else { options.window };
        let publisher = |_| Publisher { published: 0, completed: 0, outstanding: vec![(0, Instant::now()); window] };
        // Event n of a publisher goes to room n + publisher, modulo the number of rooms.
        let first = |member: usize, publisher: usize| match (member % rooms + rooms - publisher % rooms) % rooms {
            round if round < rounds => round as u32,
            _ => NEVER,
        };
        let audience = rooms * members;
        Self {
            rooms,
            rounds,
            members,
            payload,
            publishers: (0..publishers).map(publisher).collect(),
            window: window as u32,
            schedule: options.rate.map(|rate| (Instant::now(), Duration::from_secs(1) / rate)),
            next_publisher: 0,
            expected: (0..audience * publishers).map(|at| first(at / publishers, at % publishers)).collect(),
            histories: vec![0; audience],
            skipped: HashSet::new(),
            delivered: 0,
            duplicates: 0,
            late: 0,
            strays: 0,
            latencies: Latencies::default(),
            closing: false,
            scratch: Vec::new(),
        }
    }

    /// Fills the windows of the closed loop, or starts the schedule.
    pub(crate) fn start(&mut self, outgoing: &mut Outgoing) {
        let now = Instant::now();
        if let Some((due, _)) = &mut self.schedule {
            *due = now;
            return;
        }
        for publisher in 0..self.publishers.len() {
            for _ in 0..self.window {
                self.publish(publisher, now, outgoing);
            }
        }
    }

    fn publish(&mut self, publisher: usize, since: Instant, outgoing: &mut Outgoing) {
        let this = &mut self.publishers[publisher];
        let sequence = this.published;
        this.published += 1;
        this.outstanding[(sequence % self.window) as usize] = (self.members as u32, since);
        let room = (sequence as usize % self.rounds + publisher) % self.rooms;
        self.scratch.clear();
        self.scratch.extend_from_slice(format!(r#"42["publish","hall-{room}","ev",""#).as_bytes());
        payload::push(&mut self.scratch, self.payload, publisher, sequence);
        self.scratch.extend_from_slice(br#""]"#);
        outgoing.send(self.histories.len() + publisher, &self.scratch);
    }

    /// Records the first delivery of an event to one member.
    fn count(&mut self, publisher: usize, sequence: u32, outgoing: &mut Outgoing) {
        self.delivered += 1;
        let this = &mut self.publishers[publisher];
        let (missing, since) = &mut this.outstanding[(sequence % self.window) as usize];
        *missing -= 1;
        // In the closed loop the last delivery delays the next publish; in the open loop every
        // delivery counts.
        if *missing == 0 || self.schedule.is_some() {
            self.latencies.push(since.elapsed());
        }
        if *missing == 0 {
            self.slide_window(publisher, outgoing);
        }
    }

    /// Replaces complete publishes by new ones, oldest first: a younger complete one waits and
    /// keeps its position in the window.
    fn slide_window(&mut self, publisher: usize, outgoing: &mut Outgoing) {
        loop {
            let this = &mut self.publishers[publisher];
            let (missing, _) = this.outstanding[(this.completed % self.window) as usize];
            if missing > 0 || this.completed == this.published {
                return;
            }
            this.completed += 1;
            if !self.closing && self.schedule.is_none() {
                self.publish(publisher, Instant::now(), outgoing);
            }
        }
    }

    /// Classifies an unexpected delivery: too early, late, repeated, or in the wrong room.
    #[cold]
    fn on_unexpected(&mut self, member: usize, publisher: usize, sequence: u32, outgoing: &mut Outgoing) {
        let expected = &mut self.expected[member * self.publishers.len() + publisher];
        if *expected == NEVER || !sequence.abs_diff(*expected).is_multiple_of(self.rounds as u32) {
            self.strays += 1;
        } else if sequence > *expected {
            let skipped = (*expected..sequence).step_by(self.rounds);
            self.skipped.extend(skipped.map(|skipped| (member, publisher, skipped)));
            *expected = sequence + self.rounds as u32;
            self.count(publisher, sequence, outgoing);
        } else if self.skipped.remove(&(member, publisher, sequence)) {
            self.late += 1;
            self.count(publisher, sequence, outgoing);
        } else {
            self.duplicates += 1;
        }
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.publishers.iter().all(|publisher| publisher.completed == publisher.published)
    }

    pub(crate) fn verdict(&self) -> Verdict {
        let published: u64 = self.publishers.iter().map(|publisher| u64::from(publisher.published)).sum();
        let interleavings: HashSet<(usize, u64)> =
            self.histories.iter().enumerate().map(|(member, history)| (member % self.rooms, *history)).collect();
        Verdict {
            checked: self.delivered + self.duplicates,
            faults: vec![
                (published * self.members as u64 - self.delivered, "lost"),
                (self.duplicates, "duplicate"),
                (self.late, "out of order"),
                (self.strays, "in the wrong room"),
                ((interleavings.len() - self.rooms) as u64, "other interleavings"),
            ],
        }
    }
}

impl Workload for Fanout {
    fn on_packet(&mut self, at: usize, packet: &[u8], outgoing: &mut Outgoing) -> Result<(), Failure> {
        let delivery = read_delivery(packet, self.payload).filter(|(publisher, sequence)| {
            at < self.histories.len()
                && self.publishers.get(*publisher).is_some_and(|publisher| *sequence < publisher.published)
        });
        let (publisher, sequence) = delivery.ok_or_else(|| unexpected(packet, "a delivery of what was published"))?;
        let history = &mut self.histories[at];
        *history = (*history ^ ((publisher as u64) << 32 | u64::from(sequence)))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(31);
        let expected = &mut self.expected[at * self.publishers.len() + publisher];
        if sequence != *expected {
            self.on_unexpected(at, publisher, sequence, outgoing);
            return Ok(());
        }
        *expected += self.rounds as u32;
        self.count(publisher, sequence, outgoing);
        Ok(())
    }

    fn received(&self) -> u64 {
        self.delivered
    }

    fn on_time(&mut self, now: Instant, outgoing: &mut Outgoing) -> Result<bool, Failure> {
        let mut worked = false;
        while let Some((due, interval)) = self.schedule {
            let publisher = &self.publishers[self.next_publisher];
            if self.closing || due > now || publisher.published - publisher.completed == self.window {
                break;
            }
            worked = true;
            self.publish(self.next_publisher, due, outgoing);
            self.next_publisher = (self.next_publisher + 1) % self.publishers.len();
            self.schedule = Some((due + interval, interval));
        }
        Ok(worked)
    }
}

/// Publisher and sequence number of a delivery.
fn read_delivery(packet: &[u8], bytes: usize) -> Option<(usize, u32)> {
    let (publisher, sequence, rest) = payload::read(packet.strip_prefix(DELIVERY)?, bytes)?;
    matches!(rest, [b'"', b']' | b',', ..]).then_some((publisher, sequence))
}
