//! `stentor serve` as a child process, whose log and memory are its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::{Client, Http, Transport, eventually};

/// Growth of memory that still counts as flat: allocators keep some freed memory, a leak grows on.
const SLACK: usize = 6 << 20;

/// Rounds before the measurement: buffers, pools and tables reach their sizes.
const WARM_UP: usize = 2;

/// The binary with these arguments, without variables of this process's environment that would
/// configure it.
pub(crate) fn stentor(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stentor"));
    command.args(args);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("STENTOR_")) {
        command.env_remove(name);
    }
    command
}

/// A running `stentor serve`, killed when dropped.
pub(crate) struct Process {
    child: Child,
    /// Address of the first port that has one.
    pub(crate) address: SocketAddr,
    /// URLs of all ports in their order, those for operators last.
    pub(crate) urls: Vec<String>,
    log: Arc<Mutex<Vec<String>>>,
    logger: Option<JoinHandle<()>>,
    /// Folder of its data, removed when dropped.
    data: PathBuf,
}

impl Process {
    /// Starts one on a free port with two workers and these flags. Recovery is off unless the flags
    /// set it, so that stored events do not count as memory growth. Every client may do everything,
    /// on each address, unless the flags say who may connect.
    pub(crate) fn start(flags: &[&str]) -> Self {
        let mut command = stentor(&["serve", "--workers", "2"]);
        if !flags.contains(&"--log-level") {
            command.args(["--log-level", "stentor=debug"]);
        }
        if !flags.contains(&"--recovery") {
            command.args(["--recovery", "off"]);
        }
        if !flags.iter().any(|flag| ["--anonymous", "--hooks-url"].contains(flag) || flag.starts_with("--token")) {
            command.args(["--anonymous", "true", "--join-default", "any", "--publish-default", "any"]);
        }
        Self::run(command.args(flags))
    }

    /// Starts this `stentor serve` on a free port.
    pub(crate) fn run(command: &mut Command) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let nth = STARTED.fetch_add(1, Ordering::Relaxed);
        let data = std::env::temp_dir().join(format!("stentor-it-{}-{nth}", std::process::id()));
        command.env("STENTOR_DATA_DIR", &data);
        command.args(["--port", "0"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary was built");
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let urls = first.trim().strip_prefix("stentor listens on ").expect("an address");
        let urls = urls.replace(", internally on", "");
        let urls: Vec<_> = urls.split(' ').map(str::to_owned).collect();
        let address = urls.iter().find_map(|url| address_of(url)).unwrap_or_else(|| SocketAddr::from(([0; 4], 0)));
        let log = Arc::<Mutex<Vec<String>>>::default();
        let (lines, written) = (BufReader::new(child.stderr.take().unwrap()).lines(), log.clone());
        let logger = move || lines.map_while(Result::ok).for_each(|line| written.lock().unwrap().push(line));
        Self { child, address, urls, log, logger: Some(thread::spawn(logger)), data }
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Lets the files of the process grow as far as its hard limit admits.
    pub(crate) fn lift_file_limit(&self) {
        let (pid, resource) = (rustix::process::Pid::from_child(&self.child), rustix::process::Resource::Fsize);
        let maximum = rustix::process::getrlimit(resource).maximum;
        let limit = rustix::process::Rlimit { current: maximum, maximum };
        rustix::process::prlimit(Some(pid), resource, limit).unwrap();
    }

    pub(crate) fn stop(mut self) -> String {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
        self.logger.take().unwrap().join().unwrap();
        std::mem::take(&mut *self.log.lock().unwrap()).join("\n")
    }

    pub(crate) fn open(&self, transport: Transport) -> Client {
        Client::open(self.address, transport)
    }

    pub(crate) fn join(&self, transport: Transport) -> Client {
        let mut client = self.open(transport);
        client.connect("");
        client
    }

    pub(crate) fn http(&self) -> Http {
        Http::connect(self.address)
    }

    /// Waits for this text in the log. Text up to there is not searched again.
    #[track_caller]
    pub(crate) fn expect_log(&self, words: &str) {
        eventually(&format!("a log line with {words:?}"), || {
            let mut log = self.log.lock().unwrap();
            let found = log.iter().position(|line| line.contains(words));
            found.map(|at| drop(log.drain(..=at))).is_some()
        });
    }

    /// Value of the metric with this name and these labels.
    #[track_caller]
    pub(crate) fn metric(&self, metric: &str) -> u64 {
        let metrics = self.http().get("/metrics").body;
        let value = metrics.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no {metric} in\n{metrics}"))
    }

    /// Runs `round` repeatedly and checks that the memory of the process stays flat.
    #[track_caller]
    pub(crate) fn expect_flat_memory(&self, rounds: usize, mut round: impl FnMut(&Self)) {
        (0..WARM_UP).for_each(|_| round(self));
        let before = self.resident_bytes();
        (0..rounds).for_each(|_| round(self));
        let after = self.resident_bytes();
        assert!(after < before + SLACK, "{} KiB resident, {} KiB after {rounds} rounds", before >> 10, after >> 10);
    }

    pub(crate) fn resident_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the process runs");
        let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        kilobytes.expect("VmRSS").parse::<usize>().unwrap() << 10
    }

    /// Checks that the process runs, has removed all sessions, and serves new clients on every
    /// transport.
    pub(crate) fn expect_healthy(&mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "the process has ended");
        for transport in Transport::ALL {
            let mut client = self.join(transport);
            client.expect_echo();
            client.send("1");
        }
        eventually("all sessions are removed", || {
            ["polling", "websocket"].iter().all(|transport| self.sessions(transport) == 0)
        });
    }

    fn sessions(&self, transport: &str) -> u64 {
        self.metric(&format!(r#"stentor_connections{{transport="{transport}"}}"#))
    }
}

/// The address in the URL of a port.
pub(crate) fn address_of(url: &str) -> Option<SocketAddr> {
    url.split_once("://")?.1.parse().ok()
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}
