//! The server's heartbeat: a ping after each interval, a pong within the timeout, or the session has ended.

use std::time::{Duration, Instant};

use crate::limits::Limits;

/// By no more than this are deadlines looked at late, unless the process was stopped, or starved.
const LATE: Duration = Duration::from_secs(1);

/// What [`Heartbeat::on_timeout`] asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beat {
    /// Nothing is due.
    Quiet,
    /// Send a ping now.
    Ping,
    /// No pong came in time: close with "ping timeout".
    Dead,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Resting { ping_at: Instant },
    Awaiting { pong_by: Instant, refreshed: bool },
}

/// One session's heartbeat.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    phase: Phase,
}

impl Heartbeat {
    /// Starts resting: the first ping leaves after one interval, not at once.
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        Self { phase: Phase::Resting { ping_at: now + limits.sessions.ping_interval } }
    }

    /// A pong came. One that nobody waits for changes nothing: a flood of pongs must not put off the ping.
    pub(crate) fn on_pong(&mut self, now: Instant, limits: &Limits) {
        if let Phase::Awaiting { .. } = self.phase {
            self.phase = Phase::Resting { ping_at: now + limits.sessions.ping_interval };
        }
    }

    /// Another packet came. It is no pong, but it refreshes the deadline, once.
    pub(crate) fn on_other_packet(&mut self, now: Instant, limits: &Limits) {
        if let Phase::Awaiting { pong_by, refreshed: refreshed @ false } = &mut self.phase {
            *pong_by = now + limits.sessions.ping_timeout;
            *refreshed = true;
        }
    }

    /// The transport changed. A ping may have been lost with the old one, so an outstanding pong gets a fresh deadline
    /// instead of none at all (the zombie of socket.io after an upgrade).
    pub(crate) fn on_upgrade(&mut self, now: Instant, limits: &Limits) {
        if let Phase::Awaiting { pong_by, .. } = &mut self.phase {
            *pong_by = now + limits.sessions.ping_timeout;
        }
    }

    /// The session does not read at present: nothing that the client sends could count, so the deadline stands still.
    pub(crate) fn on_not_reading(&mut self, now: Instant, limits: &Limits) {
        if let Phase::Awaiting { pong_by, .. } = &mut self.phase {
            *pong_by = now + limits.sessions.ping_timeout;
        }
    }

    /// When [`Heartbeat::on_timeout`] is next worth a call.
    pub(crate) fn deadline(&self) -> Instant {
        match self.phase {
            Phase::Resting { ping_at } => ping_at,
            Phase::Awaiting { pong_by, .. } => pong_by,
        }
    }

    /// What is due at `now`.
    pub(crate) fn on_timeout(&mut self, now: Instant, limits: &Limits) -> Beat {
        match self.phase {
            Phase::Resting { ping_at } if ping_at <= now => {
                self.phase = Phase::Awaiting { pong_by: now + limits.sessions.ping_timeout, refreshed: false };
                Beat::Ping
            }
            // So late, it is we who stood still: the pong may lie unread, or the ping unwritten.
            Phase::Awaiting { pong_by, refreshed } if pong_by + LATE <= now => {
                self.phase = Phase::Awaiting { pong_by: now + limits.sessions.ping_timeout, refreshed };
                Beat::Quiet
            }
            Phase::Awaiting { pong_by, .. } if pong_by <= now => Beat::Dead,
            _ => Beat::Quiet,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(25);
    const TIMEOUT: Duration = Duration::from_secs(20);
    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> Limits {
        Limits::with(|limits| {
            limits.sessions.ping_interval = INTERVAL;
            limits.sessions.ping_timeout = TIMEOUT;
        })
    }

    fn awaiting() -> (Heartbeat, Instant) {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(&limits(), start);
        assert_eq!(heartbeat.on_timeout(start, &limits()), Beat::Quiet);
        assert_eq!(heartbeat.on_timeout(start + INTERVAL, &limits()), Beat::Ping);
        (heartbeat, start + INTERVAL)
    }

    #[test]
    fn a_pong_starts_the_next_interval() {
        let (mut heartbeat, now) = awaiting();
        heartbeat.on_pong(now + SECOND, &limits());
        assert_eq!(heartbeat.deadline(), now + SECOND + INTERVAL);
    }

    #[test]
    fn no_pong_in_time_is_death() {
        let (mut heartbeat, now) = awaiting();
        assert_eq!(heartbeat.on_timeout(now + TIMEOUT - SECOND, &limits()), Beat::Quiet);
        assert_eq!(heartbeat.on_timeout(now + TIMEOUT, &limits()), Beat::Dead);
    }

    #[test]
    fn another_packet_refreshes_the_deadline_only_once() {
        let (mut heartbeat, now) = awaiting();
        heartbeat.on_other_packet(now + 10 * SECOND, &limits());
        assert_eq!(heartbeat.deadline(), now + 10 * SECOND + TIMEOUT);
        heartbeat.on_other_packet(now + 15 * SECOND, &limits());
        assert_eq!(heartbeat.deadline(), now + 10 * SECOND + TIMEOUT);
    }

    #[test]
    fn a_ping_outstanding_at_an_upgrade_still_times_out() {
        let (mut heartbeat, now) = awaiting();
        heartbeat.on_upgrade(now + 5 * SECOND, &limits());
        assert_eq!(heartbeat.on_timeout(now + TIMEOUT, &limits()), Beat::Quiet, "its deadline was armed again");
        assert_eq!(heartbeat.on_timeout(now + 5 * SECOND + TIMEOUT, &limits()), Beat::Dead);
    }

    #[test]
    fn a_deadline_that_we_slept_through_is_not_held_against_the_client() {
        // A worker that got no CPU for longer than the ping timeout disconnected hundreds of thousands of healthy clients together.
        let (mut heartbeat, now) = awaiting();
        let awake = now + 2 * TIMEOUT;
        assert_eq!(heartbeat.on_timeout(awake, &limits()), Beat::Quiet);
        assert_eq!(heartbeat.on_timeout(awake + TIMEOUT - SECOND, &limits()), Beat::Quiet);
        assert_eq!(heartbeat.on_timeout(awake + TIMEOUT, &limits()), Beat::Dead, "it had its time");
    }

    #[test]
    fn unasked_pongs_do_not_put_off_the_ping() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(&limits(), start);
        heartbeat.on_pong(start + 20 * SECOND, &limits());
        assert_eq!(heartbeat.on_timeout(start + INTERVAL, &limits()), Beat::Ping);
    }
}
