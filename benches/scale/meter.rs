//! Use of CPU and memory: CPU time of each thread of this process, in nanoseconds of the scheduler,
//! its resident memory, and the CPU time of other processes.

use std::collections::HashMap;
use std::fs;
use std::time::Instant;

use crate::Failure;

pub(crate) struct Times(HashMap<i32, Share>);

#[derive(Clone, Copy, Default)]
pub(crate) struct Share {
    /// Time on a CPU.
    pub(crate) ran: u64,
    /// Time ready to run, while others had the CPUs.
    pub(crate) waited: u64,
}

impl Times {
    pub(crate) fn now() -> Result<Self, Failure> {
        let mut times = HashMap::new();
        for task in fs::read_dir("/proc/self/task")? {
            let path = task?.path().join("schedstat");
            let thread = path.iter().rev().nth(1).and_then(|name| name.to_str()?.parse().ok());
            // A thread that has ended meanwhile has no file.
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let mut fields = text.split_ascii_whitespace().map_while(|field| field.parse().ok());
            let (Some(thread), Some(ran), Some(waited)) = (thread, fields.next(), fields.next()) else {
                return Err(format!("{}: expected nanoseconds on CPU and waiting, got {text:?}", path.display()).into());
            };
            times.insert(thread, Share { ran, waited });
        }
        Ok(Self(times))
    }

    /// CPU time of each thread since `before`.
    pub(crate) fn since(&self, before: &Self) -> CpuUsage {
        let spent = self.0.iter().map(|(thread, share)| {
            let earlier = before.0.get(thread).copied().unwrap_or_default();
            (*thread, Share { ran: share.ran - earlier.ran, waited: share.waited - earlier.waited })
        });
        CpuUsage(spent.collect())
    }
}

/// CPU time of each thread in an interval.
#[derive(Default)]
pub(crate) struct CpuUsage(HashMap<i32, Share>);

impl CpuUsage {
    pub(crate) fn of(&self, thread: i32) -> Share {
        self.0.get(&thread).copied().unwrap_or_default()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (thread, share) in &other.0 {
            let sum = self.0.entry(*thread).or_default();
            (sum.ran, sum.waited) = (sum.ran + share.ran, sum.waited + share.waited);
        }
    }

    pub(crate) fn all(&self) -> u64 {
        self.0.values().map(|share| share.ran).sum()
    }
}

/// The kernel's name of this thread.
pub(crate) fn thread() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

pub(crate) fn resident() -> Result<u64, Failure> {
    let text = fs::read_to_string("/proc/self/statm")?;
    let pages: u64 =
        text.split_ascii_whitespace().nth(1).ok_or("/proc/self/statm: expected a second field")?.parse()?;
    Ok(pages * rustix::param::page_size() as u64)
}

pub(crate) fn peak() -> Result<u64, Failure> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line.ok_or("/proc/self/status: expected a line VmHWM")?.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}

/// Start of the observation of other processes.
pub(crate) struct Others {
    since: Instant,
    nanos: u64,
}

impl Others {
    pub(crate) fn watch() -> Result<Self, Failure> {
        Ok(Self { since: Instant::now(), nanos: Self::nanos()? })
    }

    /// Number of cores that other processes have kept busy.
    pub(crate) fn cores(&self) -> Result<f64, Failure> {
        Ok(Self::nanos()?.saturating_sub(self.nanos) as f64 / self.since.elapsed().as_nanos() as f64)
    }

    /// CPU time of all other processes on this machine, and of its hypervisor's other machines.
    fn nanos() -> Result<u64, Failure> {
        let stat = fs::read_to_string("/proc/stat")?;
        let total = stat.lines().next().unwrap_or_default().split_ascii_whitespace();
        // Name of the line, then: user nice system idle iowait irq softirq steal.
        let used = total.enumerate().filter(|(field, _)| matches!(field, 1..=3 | 6..=8));
        let ticks: u64 = used.filter_map(|(_, field)| field.parse::<u64>().ok()).sum();
        let own: u64 = Times::now()?.0.values().map(|share| share.ran).sum();
        Ok((ticks * (1_000_000_000 / rustix::param::clock_ticks_per_second())).saturating_sub(own))
    }
}
