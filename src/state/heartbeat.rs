//! The server's heartbeat: a ping after each interval, and a time limit for the pong.

use std::time::{Duration, Instant};

use crate::limits::Limits;

/// Minimum delay of a check at which the process is assumed to have been suspended or without CPU
/// time.
const LATE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beat {
    Quiet,
    Ping,
    /// No pong arrived in time. The session must be closed with the reason "ping timeout".
    Dead,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Resting { ping_at: Instant },
    Awaiting { pong_by: Instant, refreshed: bool },
}

#[derive(Debug)]
pub(crate) struct Heartbeat {
    phase: Phase,
}

impl Heartbeat {
    /// Creates a heartbeat whose first ping is due after one interval.
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        Self { phase: Phase::Resting { ping_at: now + limits.sessions.ping_interval } }
    }

    /// Handles a pong. An unsolicited pong is ignored, so that a flood of pongs does not postpone
    /// the ping.
    pub(crate) fn on_pong(&mut self, now: Instant, limits: &Limits) {
        if let Phase::Awaiting { .. } = self.phase {
            self.phase = Phase::Resting { ping_at: now + limits.sessions.ping_interval };
        }
    }

    /// Handles a packet other than a pong. The first such packet after a ping extends the deadline
    /// of the pong.
    pub(crate) fn on_other_packet(&mut self, now: Instant, limits: &Limits) {
        if let Phase::Awaiting { pong_by, refreshed: refreshed @ false } = &mut self.phase {
            *pong_by = now + limits.sessions.ping_timeout;
            *refreshed = true;
        }
    }

    /// Extends the deadline of an outstanding pong after an upgrade, since the old transport may
    /// have lost the ping. The Node server (socket.io) has no deadline in this case.
    pub(crate) fn on_upgrade(&mut self, now: Instant, limits: &Limits) {
        if let Phase::Awaiting { pong_by, .. } = &mut self.phase {
            *pong_by = now + limits.sessions.ping_timeout;
        }
    }

    /// Extends the deadline of an outstanding pong while the session does not read, since a
    /// received pong would stay unread.
    pub(crate) fn on_not_reading(&mut self, now: Instant, limits: &Limits) {
        if let Phase::Awaiting { pong_by, .. } = &mut self.phase {
            *pong_by = now + limits.sessions.ping_timeout;
        }
    }

    /// Earliest instant at which [`Heartbeat::on_timeout`] has an effect.
    pub(crate) fn deadline(&self) -> Instant {
        match self.phase {
            Phase::Resting { ping_at } => ping_at,
            Phase::Awaiting { pong_by, .. } => pong_by,
        }
    }

    pub(crate) fn on_timeout(&mut self, now: Instant, limits: &Limits) -> Beat {
        match self.phase {
            Phase::Resting { ping_at } if ping_at <= now => {
                self.phase = Phase::Awaiting { pong_by: now + limits.sessions.ping_timeout, refreshed: false };
                Beat::Ping
            }
            // The check is so late that the server itself was suspended. The deadline is extended,
            // since the pong may be unread or the ping may not be written yet.
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
    fn a_missing_pong_ends_the_session() {
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
    fn a_ping_before_an_upgrade_still_times_out() {
        let (mut heartbeat, now) = awaiting();
        heartbeat.on_upgrade(now + 5 * SECOND, &limits());
        assert_eq!(heartbeat.on_timeout(now + TIMEOUT, &limits()), Beat::Quiet, "the upgrade extends the deadline");
        assert_eq!(heartbeat.on_timeout(now + 5 * SECOND + TIMEOUT, &limits()), Beat::Dead);
    }

    #[test]
    fn a_deadline_missed_by_the_server_is_extended() {
        // Regression: a worker without CPU time for longer than the ping timeout disconnected
        // hundreds of thousands of healthy clients.
        let (mut heartbeat, now) = awaiting();
        let awake = now + 2 * TIMEOUT;
        assert_eq!(heartbeat.on_timeout(awake, &limits()), Beat::Quiet);
        assert_eq!(heartbeat.on_timeout(awake + TIMEOUT - SECOND, &limits()), Beat::Quiet);
        assert_eq!(heartbeat.on_timeout(awake + TIMEOUT, &limits()), Beat::Dead, "the extended deadline is over");
    }

    #[test]
    fn unsolicited_pongs_do_not_postpone_the_ping() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(&limits(), start);
        heartbeat.on_pong(start + 20 * SECOND, &limits());
        assert_eq!(heartbeat.on_timeout(start + INTERVAL, &limits()), Beat::Ping);
    }
}
