//! The command line of the load generator.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::Failure;
use crate::payload;
use crate::target::Target;

const USAGE: &str = "usage: cargo bench --bench load -- [fanout|echo|polling|idle|churn|storm|resume|company|slope|side-by-side|all]… | compare | compare-all \
[--server stentor|stentor-disk|node|bun|bare|oxide|oxide-mimalloc] [--recovery off|memory|disk] [--workers 1] \
[--seconds 8] [--connections 10000] [--rooms 1] [--members 1000] [--publishers 1,4] [--payload 100] [--window 1] \
[--pending BYTES_OF_EACH_THAT_RETURNS] [--rate PUBLISHES_PER_SECOND] [--in-flight 1,16] [--repetitions 3] [--profile FILE] [--url 127.0.0.1:PORT --pid PID]
The server is $STENTOR_BIN, or `stentor` in the target directory of this bench. One that already runs is not pinned here: \
start it under `taskset -c 0`, for idle with a ping interval of 10 s or less.";

/// Connections of the loads that open many, unless told otherwise.
pub(crate) const CONNECTIONS: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Load {
    Fanout,
    Echo,
    /// Echo over long polling.
    Polling,
    Idle,
    Churn,
    Storm,
    Resume,
    /// Members of a room beside clients that read too slowly or ask for too much.
    NoisyNeighbours,
    /// Idle connections, more and more of them.
    Slope,
    /// Several server processes.
    SideBySide,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Recovery {
    Off,
    Memory,
    /// In a folder of its own under the system's temporary one.
    Disk,
}

impl Recovery {
    /// The value of `--recovery`, here and on the server's own command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Extent {
    Quick,
    Full,
}

/// A server that somebody else started, and that is left running.
#[derive(Clone, Copy)]
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) pid: i32,
}

#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) loads: Vec<Load>,
    pub(crate) server: Target,
    pub(crate) recovery: Recovery,
    pub(crate) workers: usize,
    /// Length of each measured interval, after a warm-up that is not counted.
    pub(crate) measured: Duration,
    /// Publishes each publisher keeps outstanding. The default of 1 is the lock-step in which batching is hardest: what
    /// shares a write then came from different publishers.
    pub(crate) window: usize,
    /// How many connections are opened: in the idle load, the storm, the slope (at last) and side by side; how many come back in the
    /// resume load. None is what each of them does by itself.
    pub(crate) connections: Option<usize>,
    /// How many members each room of the fan-out has; one of them shows what a direct emit costs.
    pub(crate) members: usize,
    pub(crate) rooms: usize,
    /// How many publishers the fan-out has; one measurement for each number.
    pub(crate) publishers: Vec<usize>,
    /// Bytes of an event's argument.
    pub(crate) payload: usize,
    /// Bytes of events that each client misses which comes back.
    pub(crate) pending: usize,
    /// Publishes per second, of all publishers together: the open loop.
    pub(crate) rate: Option<u32>,
    /// Events of one connection of the echo that wait for their acks; one measurement for each number.
    pub(crate) in_flight: Vec<u32>,
    /// Whether the idle load also waits for pings.
    pub(crate) heartbeat: bool,
    /// Whether, and how much, servers are compared; then loads and server are the comparison's.
    pub(crate) comparison: Option<Extent>,
    /// How often the comparison measures the same.
    pub(crate) repetitions: usize,
    pub(crate) running: Option<Running>,
    /// Where `perf` writes what it sees of the server during the measured interval of a fan-out or an echo.
    pub(crate) profile: Option<PathBuf>,
}

impl Options {
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, Failure> {
        let mut options = Self {
            loads: Vec::new(),
            server: Target::Stentor,
            recovery: Recovery::Off,
            workers: 1,
            measured: Duration::from_secs(8),
            window: 1,
            connections: None,
            members: 1_000,
            rooms: 1,
            publishers: vec![1, 4],
            payload: 100,
            pending: 2_000,
            rate: None,
            in_flight: vec![1, 16],
            heartbeat: true,
            comparison: None,
            repetitions: 3,
            running: None,
            profile: None,
        };
        let (mut address, mut pid) = (None, None);
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let (name, inline) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (argument.as_str(), None),
            };
            let mut value = |expected: &str| match inline.or_else(|| rest.next().map(String::as_str)) {
                Some(value) => Ok((name.to_owned(), value.to_owned(), expected.to_owned())),
                None => Err(format!("{name}: expected {expected} after it\n{USAGE}")),
            };
            match name {
                "--bench" => {} // cargo's own
                "fanout" => options.add(&[Load::Fanout]),
                "echo" => options.add(&[Load::Echo]),
                "idle" => options.add(&[Load::Idle]),
                "polling" => options.add(&[Load::Polling]),
                "churn" => options.add(&[Load::Churn]),
                "storm" => options.add(&[Load::Storm]),
                "resume" => options.add(&[Load::Resume]),
                "company" => options.add(&[Load::NoisyNeighbours]),
                "slope" => options.add(&[Load::Slope]),
                "side-by-side" => options.add(&[Load::SideBySide]),
                "all" => {
                    options.add(&[Load::Fanout, Load::Echo, Load::Polling, Load::Idle, Load::Churn, Load::Storm]);
                }
                "compare" => options.comparison = Some(Extent::Quick),
                "compare-all" => options.comparison = Some(Extent::Full),
                "--server" => {
                    let given = value("a server of the table in benches/load/target.rs")?;
                    options.server = Target::named(&given.1).ok_or_else(|| refusal(&given))?;
                }
                "--recovery" => {
                    options.recovery = match value("off, memory or disk")? {
                        (_, word, _) if word == "off" => Recovery::Off,
                        (_, word, _) if word == "memory" => Recovery::Memory,
                        (_, word, _) if word == "disk" => Recovery::Disk,
                        refused => return Err(refusal(&refused)),
                    }
                }
                "--workers" => options.workers = in_range(&value("a number from 1 to 64")?, 1, 64)?,
                "--seconds" => {
                    let seconds = in_range(&value("whole seconds from 1 to 600")?, 1, 600)?;
                    options.measured = Duration::from_secs(seconds as u64);
                }
                "--window" => options.window = in_range(&value("a number from 1 to 1024")?, 1, 1024)?,
                "--connections" => {
                    let given = value("a number from 100 to 1000000")?;
                    options.connections = Some(in_range(&given, 100, 1_000_000)?);
                }
                "--members" => options.members = in_range(&value("a number from 1 to 10000")?, 1, 10_000)?,
                "--rooms" => options.rooms = in_range(&value("a number from 1 to 1000")?, 1, 1_000)?,
                "--publishers" => options.publishers = list(&value("numbers from 1 to 99, such as 1,4")?, 1, 99)?,
                "--pending" => options.pending = in_range(&value("bytes, up to 100000000")?, 1, 100_000_000)?,
                "--payload" => {
                    let given = value("bytes from 10 to 60000")?;
                    options.payload = in_range(&given, payload::DIGITS, payload::BYTES_MAX)?;
                }
                "--rate" => {
                    options.rate =
                        Some(in_range(&value("publishes per second from 1 to 1000000")?, 1, 1_000_000)? as u32);
                }
                "--in-flight" => {
                    let given = value("numbers from 1 to 1024, such as 1,16")?;
                    options.in_flight = list(&given, 1, 1024)?.into_iter().map(|number| number as u32).collect();
                }
                "--repetitions" => options.repetitions = in_range(&value("a number from 1 to 100")?, 1, 100)?,
                "--profile" => {
                    let (_, path, _) = value("the file that perf is to write")?;
                    options.profile = Some(PathBuf::from(path));
                }
                "--url" => {
                    let given = value("an address such as 127.0.0.1:3000")?;
                    let bare = given.1.trim_start_matches("http://").trim_end_matches('/');
                    address = Some(bare.parse::<SocketAddr>().map_err(|_| refusal(&given))?);
                }
                "--pid" => {
                    pid = Some(in_range(&value("the process id of the server at --url")?, 1, i32::MAX as usize)?)
                }
                "--help" | "-h" => return Err(USAGE.into()),
                unknown => {
                    return Err(format!("{unknown}: expected a load or an option\n{USAGE}").into());
                }
            }
        }
        if options.loads.is_empty() {
            options.add(&[Load::Fanout, Load::Echo, Load::Idle]);
        }
        if options.server == Target::StentorDisk {
            options.recovery = Recovery::Disk;
        }
        if options.profile.is_some() && !options.loads.iter().all(|load| matches!(load, Load::Fanout | Load::Echo)) {
            return Err("--profile: expected fanout or echo, which measure one thing at a time".into());
        }
        options.running = match (address, pid) {
            (Some(address), Some(pid)) => Some(Running { address, pid: pid as i32 }),
            (None, None) => None,
            _ => return Err("expected --url and --pid together: the CPU time of a server is read by its pid".into()),
        };
        Ok(options)
    }

    /// What the figures hold for, as the title of a block says it.
    pub(crate) fn setting(&self) -> String {
        match self.running {
            Some(running) => format!("recovery {}, process {}", self.recovery.word(), running.pid),
            None if self.server.is_stentor() => {
                format!("stentor, recovery {}, workers {}", self.recovery.word(), self.workers)
            }
            None => self.server.word().to_owned(),
        }
    }

    /// A budget is ours, not a peer's.
    pub(crate) fn budget(&self, most: f64) -> Option<f64> {
        self.server.is_stentor().then_some(most)
    }

    fn add(&mut self, loads: &[Load]) {
        for load in loads {
            if !self.loads.contains(load) {
                self.loads.push(*load);
            }
        }
    }
}

/// Name, value, and what was expected of it.
type Given = (String, String, String);

fn in_range(given: &Given, least: usize, most: usize) -> Result<usize, Failure> {
    match given.1.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(refusal(given)),
    }
}

fn list((name, value, expected): &Given, least: usize, most: usize) -> Result<Vec<usize>, Failure> {
    value.split(',').map(|one| in_range(&(name.clone(), one.to_owned(), expected.clone()), least, most)).collect()
}

fn refusal((name, value, expected): &Given) -> Failure {
    format!("{name} = {value:?}: expected {expected}").into()
}
