//! Servers that can be measured: names and start commands. `benches/peers` has the sources of the
//! other servers, `make peers` builds them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::Failure;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    Stentor,
    StentorDisk,
    Node,
    Bun,
    Bare,
    Oxide,
    OxideMimalloc,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Recovery {
    Off,
    Memory,
    /// Recovery from a journal in its own temporary folder.
    Disk,
}

impl Recovery {
    /// The value of `--recovery`, here and on the server's command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }
}

impl ValueEnum for Recovery {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Off, Self::Memory, Self::Disk]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(self.word().into())
    }
}

impl ValueEnum for Target {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(self.word().into())
    }
}

impl Target {
    pub(crate) const ALL: [Self; 7] =
        [Self::Stentor, Self::StentorDisk, Self::Node, Self::Bun, Self::Bare, Self::Oxide, Self::OxideMimalloc];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Stentor => "stentor",
            Self::StentorDisk => "stentor-disk",
            Self::Node => "node",
            Self::Bun => "bun",
            Self::Bare => "bare",
            Self::Oxide => "oxide",
            Self::OxideMimalloc => "oxide-mimalloc",
        }
    }

    /// Description with the installed versions.
    pub(crate) fn about(self) -> String {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
        let npm = |package: &str| {
            let file = peers.join("node_modules").join(package).join("package.json");
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let version = text.split_once("\"version\": \"").and_then(|(_, rest)| rest.split('"').next());
            format!("{package} {}", version.unwrap_or("?"))
        };
        let oxide = || {
            let text = std::fs::read_to_string(peers.join("oxide/Cargo.lock")).unwrap_or_default();
            let after =
                text.split_once("name = \"socketioxide\"\nversion = \"").and_then(|(_, rest)| rest.split('"').next());
            format!("socketioxide {}", after.unwrap_or("?"))
        };
        match self {
            Self::Stentor => "this server, recovery off, one worker".to_owned(),
            Self::StentorDisk => "this server, recovery from a journal on disk, one worker".to_owned(),
            Self::Node => format!("{} on Node {}", npm("socket.io"), command_output("node", &["--version"])),
            Self::Bun => format!("{}, {} on {}", npm("socket.io"), npm("@socket.io/bun-engine"), npm("bun")),
            Self::Bare => {
                format!("a minimal websocket server on {} with its native publish, as an upper limit", npm("bun"))
            }
            Self::Oxide => format!("{}, one thread, glibc's allocator", oxide()),
            Self::OxideMimalloc => format!("{}, one thread, mimalloc", oxide()),
        }
    }

    pub(crate) fn is_stentor(self) -> bool {
        matches!(self, Self::Stentor | Self::StentorDisk)
    }

    /// The command that serves on `port` of 127.0.0.1, with its data in the folder `data`.
    pub(crate) fn command(
        self,
        recovery: Recovery,
        workers: usize,
        port: u16,
        ping_interval: Duration,
        data: &Path,
    ) -> Result<Command, Failure> {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
        let bun = peers.join("node_modules/.bin/bun");
        let mut command = match self {
            Self::Stentor | Self::StentorDisk => {
                let mut command =
                    Command::new(existing(stentor()?, "`cargo build --release`, or name it in STENTOR_BIN")?);
                command
                    // Settings that a load may override are set in the environment.
                    .env("STENTOR_LOG_LEVEL", "warn")
                    // The publishers of a load are trusted: they may fill the journal.
                    .env("STENTOR_JOURNAL_SENDER_BYTES_MAX", "1GiB")
                    .env_remove("STENTOR_BIN")
                    .args(["serve", "--host", "127.0.0.1"])
                    .args(["--recovery", recovery.word(), "--recovery-window", "10m"])
                    .args(["--port", &port.to_string(), "--workers", &workers.to_string()])
                    .args(["--ping-interval", &format!("{}ms", ping_interval.as_millis())])
                    .arg("--data-dir")
                    .arg(data);
                return Ok(command);
            }
            Self::Node => {
                existing(peers.join("node_modules/socket.io"), "`make peers`")?;
                let mut command = Command::new("node");
                command.env("NODE_ENV", "production").arg(peers.join("node.mjs"));
                command
            }
            Self::Bun | Self::Bare => {
                let mut command = Command::new(existing(bun, "`make peers`")?);
                command.env("NODE_ENV", "production").arg(peers.join(format!("{}.mjs", self.word())));
                command
            }
            Self::Oxide | Self::OxideMimalloc => {
                Command::new(existing(peers.join("oxide/target").join(self.word()), "`make peers`")?)
            }
        };
        command.args([port.to_string(), ping_interval.as_millis().to_string()]);
        Ok(command)
    }
}

fn stentor() -> Result<PathBuf, Failure> {
    Ok(match std::env::var_os("STENTOR_BIN") {
        Some(path) => PathBuf::from(path),
        None => {
            // The bench is target/release/deps/load-…, the server target/release/stentor.
            let bench = std::env::current_exe()?;
            bench.ancestors().nth(2).unwrap_or(&bench).join("stentor")
        }
    })
}

fn existing(path: PathBuf, remedy: &str) -> Result<PathBuf, Failure> {
    if path.exists() { Ok(path) } else { Err(format!("nothing at {}: build it with {remedy}", path.display()).into()) }
}

/// Output of a command; empty if it fails.
pub(crate) fn command_output(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
