//! Memory that this process may use: the smallest limit of machine, cgroup and address space.

use std::fs;
use std::path::Path;

/// Bytes assumed on a system that does not report its memory. This is the memory of a small
/// machine.
const UNKNOWN_BYTES: usize = 1 << 30;

/// Returns the bytes of memory that this process may use at present.
pub(super) fn available() -> usize {
    let read = |path: &str| fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| of_machine(&text));
    let address_space = read("/proc/self/limits").and_then(|text| of_address_space(&text));
    let cgroup = read("/proc/self/cgroup").and_then(|text| of_cgroup(&text, &read));
    [machine, address_space, cgroup].into_iter().flatten().min().unwrap_or(UNKNOWN_BYTES)
}

/// Parses the line `MemTotal:       24731648 kB` of `/proc/meminfo`.
fn of_machine(meminfo: &str) -> Option<usize> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: usize = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Parses the soft limit in the line `Max address space` of `/proc/self/limits`.
fn of_address_space(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Returns the smallest limit of the process's cgroup and its ancestors. In `/proc/self/cgroup`,
/// the line `0::/a/b` names the cgroup of version 2, and `4:memory:/a/b` names that of version 1.
/// Inside a container, the path may exist on the host only. The root is then the cgroup of the
/// container.
fn of_cgroup(cgroup: &str, read: &dyn Fn(&str) -> Option<String>) -> Option<usize> {
    let files = cgroup.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        if controllers.split(',').any(|controller| controller == "memory") {
            Some(("/sys/fs/cgroup/memory", "memory.limit_in_bytes", path))
        } else {
            (number == "0").then_some(("/sys/fs/cgroup", "memory.max", path))
        }
    });
    let limits = files.flat_map(|(mount, file, path)| {
        let folders = Path::new(path).ancestors().filter_map(Path::to_str);
        folders.filter_map(move |folder| {
            let folder = folder.trim_end_matches('/');
            // A cgroup without a limit has "max", which does not parse, or about 2^63 in version 1.
            read(&format!("{mount}{folder}/{file}"))?.trim().parse::<usize>().ok()
        })
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_and_address_space_are_read() {
        assert_eq!(of_machine("MemFree: 1 kB\nMemTotal:       24731648 kB\n"), Some(24_731_648 << 10));
        let limits = "Max open files  1024  1024  files\nMax address space         1024000000           unlimited            bytes\n";
        assert_eq!(of_address_space(limits), Some(1_024_000_000));
        assert_eq!(of_address_space("Max address space         unlimited            unlimited            bytes"), None);
    }

    #[test]
    fn the_smallest_limit_of_all_enclosing_cgroups_counts() {
        let files = |path: &str| match path {
            "/sys/fs/cgroup/pod/box/memory.max" => Some("max\n".to_owned()),
            "/sys/fs/cgroup/pod/memory.max" => Some("536870912\n".to_owned()),
            "/sys/fs/cgroup/memory/pod/memory.limit_in_bytes" => Some("268435456".to_owned()),
            "/sys/fs/cgroup/memory/memory.limit_in_bytes" => Some("9223372036854771712".to_owned()),
            _ => None,
        };
        assert_eq!(of_cgroup("0::/pod/box", &files), Some(512 << 20));
        assert_eq!(of_cgroup("5:cpu,memory:/pod\n0::/", &files), Some(256 << 20));
        assert_eq!(of_cgroup("4:memory:/not/here", &files), Some(9_223_372_036_854_771_712));
        assert_eq!(of_cgroup("0::/", &files), None);
    }

    #[test]
    fn this_machine_reports_memory() {
        assert!(available() > 64 << 20);
    }
}
