//! What a server's process needs of the system: descriptors, and a life after its terminal.

use std::io;

use stentor::Limits;

/// Descriptors that are no client's: the journal's header and folder, the log, the port, files of the system. A segment of the
/// journal takes one more.
const RESERVE: u64 = 56;

/// Descriptors of one thread's runtime.
const PER_THREAD: u64 = 4;

/// The limit on open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// As the process found it.
    pub(crate) before: u64,
    /// Now in force; `u64::MAX` is no limit.
    pub(crate) now: u64,
}

/// Raises the limit on open files as far as the system lets this process.
#[cfg(unix)]
pub(crate) fn raise_descriptors() -> io::Result<Descriptors> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let found = getrlimit(Resource::Nofile);
    let before = found.current.unwrap_or(u64::MAX);
    if found.current == found.maximum {
        return Ok(Descriptors { before, now: before });
    }
    setrlimit(Resource::Nofile, Rlimit { current: found.maximum, maximum: found.maximum })?;
    Ok(Descriptors { before, now: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) })
}

/// There is no such limit.
#[cfg(not(unix))]
pub(crate) fn raise_descriptors() -> io::Result<Descriptors> {
    Ok(Descriptors { before: u64::MAX, now: u64::MAX })
}

/// Lowers the bounds on connections to what so many descriptors allow, with a reserve for everything else: a quarter is for
/// connections that speak HTTP, the rest for sessions.
pub(crate) fn fit(limits: &mut Limits, descriptors: u64, workers: usize) {
    // Also the hub's thread, and the first one.
    let threads = workers as u64 + 2;
    let others = RESERVE + limits.journal.segments_max as u64 + PER_THREAD * threads + limits.http.reserve as u64;
    let usable = descriptors.saturating_sub(others);
    let usable = usize::try_from(usable).unwrap_or(usize::MAX);
    limits.http.connections_max = limits.http.connections_max.min(usable / 4).max(1);
    limits.sessions.max = limits.sessions.max.min(usable - limits.http.connections_max.min(usable)).max(1);
}

/// Logs that the process's terminal has gone (SIGHUP), by which it would end otherwise. Must be called inside an actix system.
#[cfg(unix)]
pub(crate) fn outlive_terminal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::hangup()) {
        Ok(mut hangups) => drop(actix::spawn(async move {
            while hangups.recv().await.is_some() {
                log::info!("signal ignored signal=SIGHUP; a configuration is read at start only");
            }
        })),
        Err(error) => log::warn!("SIGHUP cannot be handled, and ends the process error={error}"),
    }
}

/// Nothing to do here.
#[cfg(not(unix))]
pub(crate) fn outlive_terminal() {}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(descriptors: u64) -> (usize, usize) {
        let mut limits = Limits::default();
        fit(&mut limits, descriptors, 2);
        (limits.sessions.max, limits.http.connections_max)
    }

    #[test]
    fn connections_fit_the_descriptors_with_a_reserve() {
        let defaults = Limits::default();
        assert_eq!(fitted(u64::MAX), (defaults.sessions.max, defaults.http.connections_max));
        for descriptors in [256, 1_024, 65_536, 1 << 20] {
            let (sessions, http) = fitted(descriptors);
            assert!((sessions + http) as u64 <= descriptors - RESERVE, "{descriptors}: {sessions} {http}");
            assert!(sessions > http, "{descriptors}: {sessions} {http}");
        }
        assert_eq!(fitted(64), (1, 1));
    }
}
