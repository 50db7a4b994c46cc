//! Properties of the process: the limit on open files, and the signal SIGHUP.

use std::io;

use stentor::Limits;

/// Descriptors for purposes other than clients: header and folder of the journal, log, listening
/// socket, system files. Each segment of the journal needs one more descriptor.
const RESERVE: u64 = 56;

/// Descriptors that the runtime of one thread needs.
const PER_THREAD: u64 = 4;

/// Limit on open files, before and after it was raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// Limit at start.
    pub(crate) before: u64,
    /// Limit in force. `u64::MAX` means that there is no limit.
    pub(crate) now: u64,
}

/// Raises the limit on open files as far as the system allows.
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

#[cfg(not(unix))]
pub(crate) fn raise_descriptors() -> io::Result<Descriptors> {
    Ok(Descriptors { before: u64::MAX, now: u64::MAX })
}

/// Lowers the limits on connections to the number that `descriptors` allows. Some descriptors are
/// reserved for other purposes. Of the rest, at most a quarter is for HTTP connections, and the
/// remainder is for sessions.
pub(crate) fn fit_connections(limits: &mut Limits, descriptors: u64, workers: usize) {
    // The main thread and the hub's thread are added to the workers.
    let threads = workers as u64 + 2;
    let others = RESERVE + limits.journal.segments_max as u64 + PER_THREAD * threads + limits.http.reserve as u64;
    let usable = descriptors.saturating_sub(others);
    let usable = usize::try_from(usable).unwrap_or(usize::MAX);
    limits.http.connections_max = limits.http.connections_max.min(usable / 4).max(1);
    limits.sessions.max = limits.sessions.max.min(usable - limits.http.connections_max.min(usable)).max(1);
}

/// Takes SIGHUP, which would end the process otherwise. Must be called inside an actix system.
#[cfg(unix)]
pub(crate) fn hangups() -> Hangups {
    use tokio::signal::unix::{SignalKind, signal};
    let hangups = signal(SignalKind::hangup());
    if let Err(error) = &hangups {
        log::warn!("signal not handled, it will end the process signal=SIGHUP error={error}");
    }
    Hangups(hangups.ok())
}

/// Signals SIGHUP since [`hangups`] was called.
#[cfg(unix)]
pub(crate) struct Hangups(Option<tokio::signal::unix::Signal>);

#[cfg(unix)]
impl Hangups {
    /// Calls `handle` after each signal, on a thread that may block.
    pub(crate) fn each(self, handle: impl Fn() + Send + Sync + Clone + 'static) {
        let Self(Some(mut hangups)) = self else { return };
        actix::spawn(async move {
            while hangups.recv().await.is_some() {
                let _ = actix_web::web::block(handle.clone()).await;
            }
        });
    }
}

#[cfg(not(unix))]
pub(crate) fn hangups() -> Hangups {
    Hangups
}

#[cfg(not(unix))]
pub(crate) struct Hangups;

#[cfg(not(unix))]
impl Hangups {
    pub(crate) fn each(self, _: impl Fn() + Send + Sync + Clone + 'static) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(descriptors: u64) -> (usize, usize) {
        let mut limits = Limits::default();
        fit_connections(&mut limits, descriptors, 2);
        (limits.sessions.max, limits.http.connections_max)
    }

    #[test]
    fn connections_fit_into_the_limit_on_open_files() {
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
