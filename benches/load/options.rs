//! The command line of the load generator.

use std::net::SocketAddr;
use std::time::Duration;

use crate::Failure;
use crate::contender::Contender;

const USAGE: &str = "usage: cargo bench --bench load -- [fanout|echo|idle|resume|all]… \
[--server stentor|stentor-disk|node|bun|bare|oxide|oxide-mimalloc] [--recovery off|memory|disk] [--workers 1] \
[--seconds 8] [--window 1] [--connections 10000] [--members 1000] [--url 127.0.0.1:PORT --pid PID]
The server is $STENTOR_BIN, or `stentor` in the target directory of this bench. One that already runs is not pinned here: \
start it under `taskset -c 0`, for idle with a ping interval of 10 s or less.";

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Load {
    Fanout,
    Echo,
    Idle,
    Resume,
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

/// A server that somebody else started, and that is left running.
#[derive(Clone, Copy)]
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) pid: i32,
}

pub(crate) struct Options {
    pub(crate) loads: Vec<Load>,
    pub(crate) server: Contender,
    pub(crate) recovery: Recovery,
    pub(crate) workers: usize,
    /// Length of each measured interval, after a warm-up that is not counted.
    pub(crate) measured: Duration,
    /// Publishes each publisher keeps outstanding. The default of 1 is the lock-step in which batching is hardest: what
    /// shares a write then came from different publishers.
    pub(crate) window: usize,
    /// How many connections the idle load opens, and how many come back in the resume load.
    pub(crate) connections: usize,
    /// How many members the room of the fan-out has; one of them shows what a direct emit costs.
    pub(crate) members: usize,
    pub(crate) running: Option<Running>,
}

impl Options {
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, Failure> {
        let mut options = Self {
            loads: Vec::new(),
            server: Contender::Stentor,
            recovery: Recovery::Off,
            workers: 1,
            measured: Duration::from_secs(8),
            window: 1,
            connections: 10_000,
            members: 1_000,
            running: None,
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
                "resume" => options.add(&[Load::Resume]),
                "all" => options.add(&[Load::Fanout, Load::Echo, Load::Idle]),
                "--server" => {
                    let given = value("a server of the table in benches/load/contender.rs")?;
                    options.server = Contender::named(&given.1).ok_or_else(|| refusal(&given))?;
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
                    options.connections = in_range(&value("a number from 100 to 1000000")?, 100, 1_000_000)?;
                }
                "--members" => options.members = in_range(&value("a number from 1 to 10000")?, 1, 10_000)?,
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
        if options.server == Contender::StentorDisk {
            options.recovery = Recovery::Disk;
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

fn refusal((name, value, expected): &Given) -> Failure {
    format!("{name} = {value:?}: expected {expected}").into()
}
