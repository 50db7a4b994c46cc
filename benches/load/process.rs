//! The server under test: start, pinning, readiness, kill; and its CPU time and memory from /proc.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getrlimit, kill_process, set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::Failure;
use crate::options::Options;

const SERVER_CPU: usize = 0;
const GENERATOR_CPU: usize = 1;
/// Default of Socket.IO.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(25);
const START_DEADLINE: Duration = Duration::from_secs(10);
/// Time limits for a stop, for a start with stored data, and for the reply to a request.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
const RESTART_DEADLINE: Duration = Duration::from_secs(60);
const REPLY_DEADLINE: Duration = Duration::from_secs(10);
/// Pause between two looks at a server that starts or stops.
const LOOK: Duration = Duration::from_millis(1);

/// The server under test. Dropping it kills the process that it started, also after an error.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pid: i32,
    /// None if the server was started elsewhere.
    child: Option<Child>,
    command: Option<Command>,
    /// Folder of its data, removed with it.
    data: PathBuf,
}

/// CPU time of all threads of the server since its start, to the kernel's tick of 10 ms.
#[derive(Clone, Copy)]
pub(crate) struct CpuTime {
    pub(crate) user: Duration,
    pub(crate) kernel: Duration,
    /// CPU time of other processes on this machine, and of its hypervisor's other machines.
    pub(crate) others: Duration,
}

#[derive(Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) resident_kib: u64,
    /// Memory in pages that no other process shares.
    pub(crate) private_kib: u64,
}

impl Server {
    /// A new server for one measurement, or the running one if requested. A running one is neither
    /// pinned nor killed.
    pub(crate) fn under_test(options: &Options, ping_interval: Duration) -> Result<Self, Failure> {
        Self::adjusted(options, ping_interval, |_| {})
    }

    /// Starts a server whose command `change` has changed.
    pub(crate) fn adjusted(
        options: &Options,
        ping_interval: Duration,
        adjust: impl FnOnce(&mut Command),
    ) -> Result<Self, Failure> {
        let mut server = match options.running() {
            Some(running) => {
                Self { address: running.address, pid: running.pid, child: None, command: None, data: PathBuf::new() }
            }
            None => Self::spawn(options, ping_interval, adjust)?,
        };
        pin(GENERATOR_CPU);
        server.wait_until_it_accepts()?;
        Ok(server)
    }

    fn spawn(options: &Options, ping_interval: Duration, adjust: impl FnOnce(&mut Command)) -> Result<Self, Failure> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let data = std::env::temp_dir().join(format!("stentor-load-{port}"));
        let mut command = options.server.command(options.recovery, options.workers, port, ping_interval, &data)?;
        command.stdin(Stdio::null()).stdout(Stdio::null());
        adjust(&mut command);
        die_with_parent(&mut command);
        let (child, pid) = spawn_pinned(&mut command)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Self { address, pid, child: Some(child), command: Some(command), data })
    }

    /// Ends the server with a signal. Its data remains.
    pub(crate) fn stop(&mut self, signal: Signal) -> Result<(), Failure> {
        let child = self.child.as_mut().ok_or("a server at --url is not restarted: expected one of this bench")?;
        kill_process(Pid::from_child(child), signal)?;
        let deadline = Instant::now() + STOP_DEADLINE;
        while child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Err(format!("waited {STOP_DEADLINE:?} for the server to end by {signal:?}").into());
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Starts a stopped server with its data. Returns the time until it was ready.
    pub(crate) fn start_again(&mut self) -> Result<Duration, Failure> {
        let command = self.command.as_mut().ok_or("a server at --url is not restarted: expected one of this bench")?;
        let begun = Instant::now();
        let (child, pid) = spawn_pinned(command)?;
        (self.child, self.pid) = (Some(child), pid);
        pin(GENERATOR_CPU);
        loop {
            match self.get("/readyz") {
                Ok(body) if body == "ok" => return Ok(begun.elapsed()),
                Ok(body) => return Err(format!("/readyz after a restart: expected \"ok\", got {body:?}").into()),
                Err(error) if begun.elapsed() > RESTART_DEADLINE => {
                    return Err(format!("waited {RESTART_DEADLINE:?} for the server to be ready: {error}").into());
                }
                Err(_) => {
                    if let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
                        return Err(format!("the server ended before it was ready: {status}").into());
                    }
                    std::thread::sleep(LOOK);
                }
            }
        }
    }

    /// Body of the response to a GET request.
    pub(crate) fn get(&self, path: &str) -> Result<String, Failure> {
        let mut stream = TcpStream::connect_timeout(&self.address, REPLY_DEADLINE)?;
        stream.set_read_timeout(Some(REPLY_DEADLINE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address)?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        match response.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
            _ => Err(format!("{path}: expected 200, got:\n{response}").into()),
        }
    }

    /// Bytes that the files of the queue occupy on disk.
    pub(crate) fn queue_bytes(&self) -> Result<u64, Failure> {
        let folder = self.data.join("queue");
        let failed = |error: io::Error| format!("cannot read {}: {error}", folder.display());
        let mut bytes = 0;
        for file in fs::read_dir(&folder).map_err(failed)? {
            // The unit of st_blocks, whatever the file system's.
            bytes += 512 * file.and_then(|file| file.metadata()).map_err(failed)?.blocks();
        }
        Ok(bytes)
    }

    fn wait_until_it_accepts(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            if let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
                return Err(format!("the server ended before it accepted a connection: {status}").into());
            }
            match TcpStream::connect_timeout(&self.address, Duration::from_secs(1)) {
                Ok(_) => break,
                Err(error) if Instant::now() > deadline => {
                    let address = self.address;
                    return Err(
                        format!("waited {START_DEADLINE:?} for the server to accept at {address}: {error}").into()
                    );
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        // Other threads may still be starting; their stacks count as memory before the first
        // connection.
        std::thread::sleep(Duration::from_millis(300));
        Ok(())
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    pub(crate) fn cpu(&self) -> Result<CpuTime, Failure> {
        let (user, kernel) = process_time(&format!("/proc/{}/stat", self.pid))?;
        let (own_user, own_kernel) = process_time("/proc/self/stat")?;
        let others = machine_time()?.saturating_sub(user + kernel + own_user + own_kernel);
        Ok(CpuTime { user, kernel, others })
    }

    /// CPU time of all living threads in nanoseconds: for durations below several ticks.
    pub(crate) fn run_time(&self) -> Result<Duration, Failure> {
        let threads = format!("/proc/{}/task", self.pid);
        let mut nanos = 0;
        for thread in fs::read_dir(&threads).map_err(|error| format!("cannot read {threads}: {error}"))? {
            let path = thread?.path().join("schedstat");
            let stat = read_proc(&path.to_string_lossy())?;
            let ran = stat.split_ascii_whitespace().next().and_then(|ran| ran.parse::<u64>().ok());
            nanos += ran.ok_or_else(|| format!("{}: expected nanoseconds in its first field", path.display()))?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Resident KiB; reading takes microseconds, so it can be called often.
    pub(crate) fn resident_kib(&self) -> Result<u64, Failure> {
        let path = format!("/proc/{}/statm", self.pid);
        let pages = read_proc(&path)?.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
        let pages = pages.ok_or_else(|| format!("{path}: expected the resident pages in its second field"))?;
        Ok(pages * (rustix::param::page_size() as u64 / 1024))
    }

    pub(crate) fn memory(&self) -> Result<Memory, Failure> {
        let path = format!("/proc/{}/smaps_rollup", self.pid);
        let rollup = read_proc(&path)?;
        let kib = |wanted: &str| -> Result<u64, Failure> {
            let line = rollup.lines().find_map(|line| line.strip_prefix(wanted));
            let figure = line.ok_or_else(|| format!("{path}: expected a line {wanted}"))?.trim();
            Ok(figure.trim_end_matches(" kB").parse()?)
        };
        Ok(Memory { resident_kib: kib("Rss:")?, private_kib: kib("Private_Clean:")? + kib("Private_Dirty:")? })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Both fail only if the process has ended already, which is the goal.
            let _ = child.kill();
            let _ = child.wait();
            let _ = fs::remove_dir_all(&self.data);
        }
    }
}

impl CpuTime {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            user: self.user.saturating_sub(before.user),
            kernel: self.kernel.saturating_sub(before.kernel),
            others: self.others.saturating_sub(before.others),
        }
    }

    pub(crate) fn total(self) -> Duration {
        self.user + self.kernel
    }
}

/// Raises the soft limit of file descriptors to the hard one, for this process and the server that
/// it starts; fails if that is too low.
pub(crate) fn allow_descriptors(connections: usize) -> Result<(), Failure> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let needed = connections as u64 + 64;
    match limit.maximum {
        Some(hard) if hard < needed => Err(format!(
            "{connections} connections need {needed} file descriptors in a process, its hard limit is {hard}: \
             expected --connections {} or fewer",
            hard.saturating_sub(64)
        )
        .into()),
        _ => Ok(()),
    }
}

/// Starts a server on its CPU, and returns its process id as well. This thread is left on that CPU.
fn spawn_pinned(command: &mut Command) -> Result<(Child, i32), Failure> {
    // A child inherits the affinity of the forking thread, so none of its threads ever ran on
    // another CPU.
    pin(SERVER_CPU);
    let child = command.spawn().map_err(|error| format!("cannot start {:?}: {error}", command.get_program()))?;
    let pid = i32::try_from(child.id())?;
    Ok((child, pid))
}

/// Lets the server end with a killed generator. Otherwise it would disturb the next measurement.
pub(crate) fn die_with_parent(command: &mut Command) {
    let before_exec = || set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from);
    // SAFETY: the closure runs between fork and exec; it makes one system call, allocates nothing
    // and takes no lock.
    #[expect(unsafe_code, reason = "std offers no safe way to set the parent-death signal of a child")]
    unsafe {
        command.pre_exec(before_exec);
    }
}

/// Pins this thread and the processes that it starts from now on.
fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    if let Err(error) = sched_setaffinity(None, &set) {
        eprintln!("notice: not pinned to CPU {cpu} ({error}); figures of this run are noisier");
    }
}

/// User and kernel time of all threads of a process, from its stat file.
fn process_time(path: &str) -> Result<(Duration, Duration), Failure> {
    let stat = read_proc(path)?;
    // The name, in parentheses, may contain any character; utime and stime are fields 14 and 15 of
    // the line.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    match ticks(fields).skip(11).take(2).collect::<Vec<_>>()[..] {
        [user, kernel] => Ok((user, kernel)),
        _ => Err(format!("{path}: expected 15 fields, got {stat:?}").into()),
    }
}

/// CPU time of the whole machine, including stolen time, without idle time.
fn machine_time() -> Result<Duration, Failure> {
    let stat = read_proc("/proc/stat")?;
    let total = stat.lines().next().unwrap_or_default();
    // Name of the line, then: user nice system idle iowait irq softirq steal.
    let used = ticks(total).enumerate().filter(|(field, _)| matches!(field, 1..=3 | 6..=8));
    Ok(used.map(|(_, time)| time).sum())
}

/// Fields of a line as durations in the kernel's ticks; a field that is no number is 0.
fn ticks(fields: &str) -> impl Iterator<Item = Duration> {
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    fields.split_ascii_whitespace().map(move |field| {
        let ticks: u32 = field.parse().unwrap_or_default();
        Duration::from_secs_f64(f64::from(ticks) / per_second)
    })
}

fn read_proc(path: &str) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("{path} is missing: the server has ended").into(),
        _ => format!("cannot read {path}: {error}").into(),
    })
}
