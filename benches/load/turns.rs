//! The poll under a load, and the share of its time without work.

use std::time::{Duration, Instant};

use mio::{Events, Poll, Registry};

use crate::Failure;

pub(crate) struct Turns {
    poll: Poll,
    pub(crate) events: Events,
    pub(crate) now: Instant,
    /// True if the last poll, or the load after it, had something to do.
    is_busy: bool,
    /// Wall time of all polls without work, including the time before them.
    idle: Duration,
}

/// One moment; a figure is the difference of two.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) at: Instant,
    idle: Duration,
}

impl Turns {
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            now: Instant::now(),
            is_busy: false,
            idle: Duration::ZERO,
        })
    }

    pub(crate) fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Polls into `events`.
    pub(crate) fn next(&mut self, wait: Option<Duration>) -> Result<(), Failure> {
        match self.poll.poll(&mut self.events, wait) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => self.events.clear(),
            other => other?,
        }
        let now = Instant::now();
        if !self.is_busy {
            self.idle += now.duration_since(self.now);
        }
        (self.now, self.is_busy) = (now, !self.events.is_empty());
        Ok(())
    }

    /// Marks the turn as busy for work that the poll did not report.
    pub(crate) fn count_as_busy(&mut self) {
        self.is_busy = true;
    }

    /// True if the last poll had something to do.
    pub(crate) fn is_busy(&self) -> bool {
        self.is_busy
    }

    pub(crate) fn moment(&self) -> Moment {
        Moment { at: Instant::now(), idle: self.idle }
    }
}

impl Moment {
    /// Share of the interval in which the generator had something to do. Near 1, the generator and
    /// not the server limits the pace.
    pub(crate) fn busy_since(&self, before: &Self) -> f64 {
        1.0 - (self.idle - before.idle).as_secs_f64() / self.since(before).as_secs_f64()
    }

    pub(crate) fn since(&self, before: &Self) -> Duration {
        self.at - before.at
    }
}
