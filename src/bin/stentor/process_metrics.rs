//! Metrics of the process under the names that Prometheus clients use. Linux only; empty elsewhere.

use std::fs;

/// Ticks per second in which Linux reports times of processes to programs (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Values of one process. A value is `None` if the system does not report it.
#[derive(Debug, Default, PartialEq)]
struct Usage {
    cpu_seconds: Option<f64>,
    start_seconds: Option<f64>,
    virtual_bytes: Option<u64>,
    resident_bytes: Option<u64>,
    open_files: Option<u64>,
    open_files_max: Option<u64>,
}

/// Returns the metrics in the Prometheus format. This may take milliseconds, since kernels before
/// 6.2 have no count of open files.
pub(crate) fn text() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mut usage = Usage::parse(&read("/proc/self/stat"), &read("/proc/self/status"), &read("/proc/stat"));
    usage.open_files = open_files().or_else(|| Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64));
    usage.open_files_max = open_files_max();
    usage.text()
}

/// True if the process has 95 % of the files open that it may open. False if the kernel has no
/// count of open files (before Linux 6.2).
pub(crate) fn are_files_nearly_exhausted() -> bool {
    open_files().zip(open_files_max()).is_some_and(|(open, most)| is_near(open, most))
}

fn is_near(open: u64, most: u64) -> bool {
    open >= most - most / 20
}

/// Number of open files. Since Linux 6.2 this is the size of a folder, which is read quickly.
fn open_files() -> Option<u64> {
    fs::metadata("/proc/self/fd").ok().map(|folder| folder.len()).filter(|count| *count > 0)
}

/// Limit on open files. `None` if there is no limit.
fn open_files_max() -> Option<u64> {
    parse_open_files_max(&fs::read_to_string("/proc/self/limits").ok()?)
}

/// Parses the soft limit, which comes before the hard limit.
fn parse_open_files_max(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Usage {
    /// Parses the files `stat` and `status` of a process, and the `stat` of the system.
    fn parse(stat: &str, status: &str, system: &str) -> Self {
        // The second field is the name of the program in parentheses, and may contain spaces.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
        let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let seconds = |ticks: u64| ticks as f64 / TICKS_PER_SECOND;
        let number = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let kib = |name: &str| number(status, name).map(|kib| kib * 1_024);
        Self {
            cpu_seconds: ticks(11).zip(ticks(12)).map(|(user, system)| seconds(user.saturating_add(system))),
            start_seconds: number(system, "btime").zip(ticks(19)).map(|(boot, ticks)| boot as f64 + seconds(ticks)),
            virtual_bytes: kib("VmSize:"),
            resident_bytes: kib("VmRSS:"),
            ..Self::default()
        }
    }

    fn text(&self) -> String {
        let count = |value: Option<u64>| value.map(|value| value.to_string());
        let seconds = |value: Option<f64>| value.map(|value| format!("{value:.2}"));
        [
            ("cpu_seconds", "counter", "CPU time of the process, of users and system", seconds(self.cpu_seconds)),
            ("start_time_seconds", "gauge", "Start of the process, since the Unix epoch", seconds(self.start_seconds)),
            ("virtual_memory_bytes", "gauge", "Virtual memory of the process", count(self.virtual_bytes)),
            ("resident_memory_bytes", "gauge", "Resident memory of the process", count(self.resident_bytes)),
            ("open_fds", "gauge", "Open files of the process", count(self.open_files)),
            ("max_fds", "gauge", "Limit on open files of the process", count(self.open_files_max)),
        ]
        .into_iter()
        .filter_map(|(name, kind, help, value)| {
            let (value, total) = (value?, if kind == "counter" { "_total" } else { "" });
            Some(format!(
                "# HELP process_{name} {help}.\n# TYPE process_{name} {kind}\nprocess_{name}{total} {value}\n"
            ))
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_system_are_parsed() {
        let stat = "42 (a b) c) S 1 42 42 0 -1 4194304 1 2 3 4 150 50 5 6 20 0 9 0 1000 111 222";
        let status = "Name:\tstentor\nVmSize:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        let usage = Usage::parse(stat, status, "cpu 1 2\nbtime 1700000000\n");
        let expected = Usage {
            cpu_seconds: Some(2.0),
            start_seconds: Some(1_700_000_010.0),
            virtual_bytes: Some(2 << 20),
            resident_bytes: Some(1 << 20),
            ..Usage::default()
        };
        assert_eq!(usage, expected);
        assert_eq!(Usage::parse("", "VmSize:\n", ""), Usage::default());
        let limits = |soft: &str| format!("Limit  Soft Limit  Hard Limit\nMax open files   {soft}   4096   files\n");
        assert_eq!(["1024", "unlimited"].map(|soft| parse_open_files_max(&limits(soft))), [Some(1_024), None]);
        assert_eq!(Usage::default().text(), "");
        assert!(usage.text().contains("\nprocess_cpu_seconds_total 2.00\n"), "{}", usage.text());
    }

    #[test]
    fn ninety_five_percent_of_the_files_are_near_the_limit() {
        for (open, most, near) in [(949, 1_000, false), (950, 1_000, true), (1_001, 1_000, true), (0, 1_000, false)] {
            assert_eq!(is_near(open, most), near, "{open} of {most}");
        }
    }
}
