//! A room whose members are undisturbed at first, and then share the server with clients that read
//! too slowly or request too much, one kind after the other and all kinds together. Measures the
//! members' latency and the server's memory, and reads its log about disconnected clients. Every
//! event must reach every undisturbed member once and in order.

mod neighbour;
mod pushers;
mod readers;
mod scripted;
mod watch;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::connection::{Outgoing, Workload};
use crate::fanout::Fanout;
use crate::figures::grouped;
use crate::fleet::Fleet;
use crate::options::Options;
use crate::process::{self, Server};
use crate::report::{Report, line, title};
use crate::target::Recovery;
use neighbour::{Neighbour, ROOM};
use pushers::{Flood, Pusher, RoomCycler};
use readers::Reader;
use scripted::{Script, Scripted};
use watch::{Log, Resident};

/// Default publishes per second: with a thousand members about half a core.
const RATE: u32 = 100;
/// Short, so that a client that does not answer is disconnected within a measurement. The
/// measurement without neighbours uses it too.
const PING_INTERVAL: Duration = Duration::from_secs(4);
const PING_TIMEOUT: &str = "2s";
/// Time for the neighbours to connect and to start.
const WARM_UP: Duration = Duration::from_secs(2);
/// Time between the end of the neighbours and the reading of memory.
const QUIET: Duration = Duration::from_secs(1);
/// One in this many connections is a neighbour.
const BAD_EVERY: usize = 1_000;
/// Budget: maximum factor by which the members' latency may grow.
const RATIO_BUDGET: f64 = 2.0;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    NeverReads,
    ReadsAByteASecond,
    Floods,
    /// Publishes large echoes, and requests an ack of each event.
    FloodsForAcks,
    JoinsAndLeaves,
    Scripted(Script),
}

/// Each kind alone, and then all of them; floods are limited to one, which already uses all of the
/// server. The last measurement shows whether the machine stayed the same.
const PHASES: [(&str, &[Kind]); 14] = [
    ("undisturbed", &[]),
    ("never reads", &[Kind::NeverReads]),
    ("a byte a second", &[Kind::ReadsAByteASecond]),
    ("flood", &[Kind::Floods]),
    ("flood with acks", &[Kind::FloodsForAcks]),
    ("joins 10 000 rooms", &[Kind::JoinsAndLeaves]),
    ("stays in many rooms", &[Kind::Scripted(Script::JoinsRooms)]),
    ("resumes again and again", &[Kind::Scripted(Script::Resumes)]),
    ("publishes and leaves", &[Kind::Scripted(Script::NeverReadsEchoes), Kind::Scripted(Script::PublishesAndLeaves)]),
    ("never reads echoes", &[Kind::Scripted(Script::NeverReadsEchoes)]),
    ("messages left open", &[Kind::Scripted(Script::LeavesMessagesOpen)]),
    ("slow heads", &[Kind::Scripted(Script::SlowHeads)]),
    ("all together", &ALL),
    ("undisturbed again", &[]),
];

/// All kinds but `Floods`, since one kind of flood is enough. The events of `PublishesAndLeaves` go
/// to the clients of `NeverReadsEchoes`.
const ALL: [Kind; 10] = [
    Kind::NeverReads,
    Kind::ReadsAByteASecond,
    Kind::FloodsForAcks,
    Kind::JoinsAndLeaves,
    Kind::Scripted(Script::JoinsRooms),
    Kind::Scripted(Script::Resumes),
    Kind::Scripted(Script::PublishesAndLeaves),
    Kind::Scripted(Script::NeverReadsEchoes),
    Kind::Scripted(Script::LeavesMessagesOpen),
    Kind::Scripted(Script::SlowHeads),
];

pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), Failure> {
    let options = Options { rooms: 1, rate: Some(options.rate.unwrap_or(RATE)), ..options.clone() };
    let members = options.members;
    let bad = members.div_ceil(BAD_EVERY);
    // A slow reader and its feeder are two connections, each with a poll.
    process::allow_descriptors(members + 256 + 8 * bad)?;
    let log = Log::new()?;
    let output = log.output()?;
    let server = Server::adjusted(&options, PING_INTERVAL, |command| {
        command.env("STENTOR_LOG_LEVEL", "info").env("STENTOR_PING_TIMEOUT", PING_TIMEOUT).stderr(output);
    })?;
    let fleet = Fleet::open(server.address, members + 1, move |index| (index < members).then(|| ROOM.to_owned()))?;
    let load = MembersBeside {
        fanout: Fanout::new(1, &options),
        neighbours: Vec::new(),
        resident: Resident::new(&server),
        wrong_events: 0,
    };
    let mut scene = Measurement { options: &options, server: &server, fleet, load, log };
    scene.fleet.send(|outgoing| scene.load.fanout.start(outgoing))?;

    let mut p99s = Vec::new();
    for (what, kinds) in PHASES {
        if kinds == [Kind::Scripted(Script::Resumes)] && options.recovery == Recovery::Off {
            continue;
        }
        let neighbours = gather(kinds, bad, server.address, options.payload)?;
        let p99 = scene.play(what, neighbours, report)?;
        p99s.push((what, kinds.is_empty(), p99));
    }
    // The better of the two, so that a disturbance at the start does not hide later ones.
    let undisturbed = p99s.iter().filter(|(_, is_undisturbed, _)| *is_undisturbed);
    let undisturbed = undisturbed.filter_map(|(_, _, p99)| *p99).fold(f64::INFINITY, f64::min);
    for (what, _, p99) in p99s {
        if let Some(p99) = p99 {
            let budget = options.budget(RATIO_BUDGET);
            report.figure(&format!("noisy neighbours: {what}"), "p99 to undisturbed", p99 / undisturbed, "×", budget);
        }
    }
    let Measurement { mut fleet, mut load, .. } = scene;
    load.fanout.closing = true;
    fleet.drain(&mut load, |load| load.fanout.is_drained())?;
    let mut verdict = load.fanout.verdict();
    verdict.faults.push((load.wrong_events, "out of order in the flooded room"));
    report.verdict("noisy neighbours", &verdict);
    Ok(())
}

/// The server, the members, and the observation of both.
struct Measurement<'a> {
    options: &'a Options,
    server: &'a Server,
    fleet: Fleet,
    load: MembersBeside<'a>,
    log: Log,
}

impl Measurement<'_> {
    /// Measures the members beside these neighbours, from their connects to their end. Gives the
    /// p99.
    fn play(
        &mut self,
        what: &str,
        neighbours: Vec<Box<dyn Neighbour>>,
        report: &mut Report,
    ) -> Result<Option<f64>, Failure> {
        let Self { options, server, fleet, load, log } = self;
        log.skip();
        let before = load.resident.restart()?;
        load.neighbours = neighbours;
        fleet.run(WARM_UP, load)?;
        load.fanout.latencies.take();
        let (start, cpu) = (fleet.sample(), server.cpu()?);
        fleet.run(options.measured, load)?;
        let (end, cpu) = (fleet.sample(), server.cpu()?.since(cpu));
        let quantiles = load.fanout.latencies.take();
        let (work_report, disconnects) = load.end_neighbours();
        fleet.run(QUIET, load)?;
        let (peak, after) = (load.resident.peak(), load.resident.now()?);

        let Options { members, payload, .. } = **options;
        let (rate, setting) = (options.rate.unwrap_or_default(), options.setting());
        let seconds = end.moment.since(&start.moment).as_secs_f64();
        let share = 100.0 * cpu.total().as_secs_f64() / seconds;
        let name = format!("noisy neighbours: {what}");
        title(&name, format!("{members} members, {rate} events/s of {payload} B, {seconds:.1} s, {setting}"));
        for deed in work_report {
            line("neighbours", deed);
        }
        line("server CPU", format!("{share:.0} % of a core"));
        report.trust(&start.moment, &end.moment, cpu);
        report.latencies(&name, "due to each member", &quantiles);
        line("resident", format!("{} KiB before, {} at most, {} after", kib(before), kib(peak), kib(after)));
        match options.running() {
            // Only our own server's log file and its lines about disconnects are known.
            Some(_) => line("log", "unknown: the server was started elsewhere"),
            None => log.print(if options.server.is_stentor() { disconnects } else { 0 }),
        }
        report.figure(&name, "server CPU", share, "%", None);
        report.figure(&name, "resident at most", peak as f64 / 1024.0, "MiB", None);
        Ok(quantiles.p99)
    }
}

/// Neighbours of these kinds, `count` of each that reads too slowly. They connect in turn.
fn gather(
    kinds: &[Kind],
    count: usize,
    server: SocketAddr,
    payload: usize,
) -> Result<Vec<Box<dyn Neighbour>>, Failure> {
    let mut neighbours: Vec<Box<dyn Neighbour>> = Vec::new();
    for kind in kinds {
        match kind {
            Kind::NeverReads | Kind::ReadsAByteASecond => {
                let reads = *kind == Kind::ReadsAByteASecond;
                for number in 0..count {
                    neighbours.push(Box::new(Reader::new(server, reads, number)?));
                }
            }
            Kind::Floods => neighbours.push(Box::new(Pusher::new(server, Flood::new(payload, false))?)),
            Kind::FloodsForAcks => neighbours.push(Box::new(Pusher::new(server, Flood::new(payload, true))?)),
            Kind::JoinsAndLeaves => neighbours.push(Box::new(Pusher::new(server, RoomCycler::default())?)),
            Kind::Scripted(script) => neighbours.push(Box::new(Scripted::new(server, *script))),
        }
    }
    Ok(neighbours)
}

struct MembersBeside<'a> {
    fanout: Fanout,
    neighbours: Vec<Box<dyn Neighbour>>,
    resident: Resident<'a>,
    wrong_events: u64,
}

impl MembersBeside<'_> {
    /// Ends the neighbours without a closing handshake. Gives their reports, and the number of
    /// disconnects by the server.
    fn end_neighbours(&mut self) -> (Vec<String>, u64) {
        let neighbours = std::mem::take(&mut self.neighbours);
        self.wrong_events += neighbours.iter().map(|neighbour| neighbour.wrong_events()).sum::<u64>();
        let disconnects = neighbours.iter().map(|neighbour| neighbour.disconnects()).sum();
        (neighbours.iter().map(|neighbour| neighbour.work_report()).collect(), disconnects)
    }
}

impl Workload for MembersBeside<'_> {
    fn on_packet(&mut self, at: usize, packet: &[u8], outgoing: &mut Outgoing) -> Result<(), Failure> {
        self.fanout.on_packet(at, packet, outgoing)
    }

    fn received(&self) -> u64 {
        self.fanout.received()
    }

    fn on_time(&mut self, now: Instant, outgoing: &mut Outgoing) -> Result<bool, Failure> {
        let mut worked = self.fanout.on_time(now, outgoing)?;
        for neighbour in &mut self.neighbours {
            worked |= neighbour.turn(now)?;
        }
        self.resident.sample(now)?;
        Ok(worked)
    }
}

fn kib(kib: u64) -> String {
    grouped(kib as f64)
}
