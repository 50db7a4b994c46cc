//! The upgrade from polling: a websocket candidate is probed, freed of the pending poll, and promoted; or dropped.

use std::time::{Duration, Instant};

use crate::protocol::engineio::packet::Packet;

/// What a step of the upgrade asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Wait,
    /// Answer the candidate with `3probe`.
    AnswerProbe,
    /// Put a noop into the pending poll, so that the client's poll ends and it can finish the upgrade.
    Noop,
    /// The candidate is the transport from here on.
    Promote,
    /// Close the candidate; the polling session lives on.
    Drop,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Absent,
    Opened { drop_at: Instant },
    Probed { drop_at: Instant, noop_at: Instant },
}

/// One session's upgrade.
#[derive(Debug)]
pub(crate) struct Upgrade {
    timeout: Duration,
    noop_interval: Duration,
    phase: Phase,
}

impl Upgrade {
    /// No candidate yet.
    pub(crate) fn new(timeout: Duration, noop_interval: Duration) -> Self {
        Self { timeout, noop_interval, phase: Phase::Absent }
    }

    /// Whether a candidate is being probed.
    pub(crate) fn is_under_way(&self) -> bool {
        !matches!(self.phase, Phase::Absent)
    }

    /// Whether the client may be about to go over to the candidate.
    pub(crate) fn is_probed(&self) -> bool {
        matches!(self.phase, Phase::Probed { .. })
    }

    /// A websocket for this session opened. Returns whether it may be the candidate: a second one is closed at once.
    pub(crate) fn on_candidate(&mut self, now: Instant) -> bool {
        let free = !self.is_under_way();
        if free {
            self.phase = Phase::Opened { drop_at: now + self.timeout };
        }
        free
    }

    /// The candidate sent a packet. Anything but `2probe`, then `5`, ends the attempt.
    pub(crate) fn on_packet(&mut self, packet: &Packet, now: Instant) -> Step {
        match (self.phase, packet) {
            (Phase::Opened { drop_at }, Packet::Ping(data)) if data == "probe" => {
                self.phase = Phase::Probed { drop_at, noop_at: now };
                Step::AnswerProbe
            }
            (Phase::Probed { .. }, Packet::Upgrade) => {
                self.phase = Phase::Absent;
                Step::Promote
            }
            _ => {
                self.phase = Phase::Absent;
                Step::Drop
            }
        }
    }

    /// The candidate closed by itself.
    pub(crate) fn on_candidate_closed(&mut self) {
        self.phase = Phase::Absent;
    }

    /// When [`Upgrade::on_timeout`] is next worth a call.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Absent => None,
            Phase::Opened { drop_at } => Some(drop_at),
            Phase::Probed { drop_at, noop_at } => Some(drop_at.min(noop_at)),
        }
    }

    /// What is due at `now`.
    pub(crate) fn on_timeout(&mut self, now: Instant) -> Step {
        match &mut self.phase {
            Phase::Opened { drop_at } | Phase::Probed { drop_at, .. } if *drop_at <= now => {
                self.phase = Phase::Absent;
                Step::Drop
            }
            Phase::Probed { noop_at, .. } if *noop_at <= now => {
                *noop_at = now + self.noop_interval;
                Step::Noop
            }
            _ => Step::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);
    const NOOP: Duration = Duration::from_millis(100);

    fn probe() -> Packet {
        Packet::Ping("probe".into())
    }

    fn candidate() -> (Upgrade, Instant) {
        let now = Instant::now();
        let mut upgrade = Upgrade::new(TIMEOUT, NOOP);
        assert!(upgrade.on_candidate(now));
        (upgrade, now)
    }

    #[test]
    fn probe_then_upgrade_promotes() {
        let (mut upgrade, now) = candidate();
        assert_eq!(upgrade.on_packet(&probe(), now), Step::AnswerProbe);
        assert_eq!(upgrade.on_packet(&Packet::Upgrade, now), Step::Promote);
        assert!(!upgrade.is_under_way());
    }

    #[test]
    fn a_second_candidate_is_refused_and_the_first_lives() {
        let (mut upgrade, now) = candidate();
        assert!(!upgrade.on_candidate(now));
        assert_eq!(upgrade.on_packet(&probe(), now), Step::AnswerProbe);
    }

    #[test]
    fn anything_else_drops_the_candidate() {
        for packet in [Packet::Upgrade, Packet::Ping("".into()), Packet::Message("0".into()), Packet::Close] {
            let (mut upgrade, now) = candidate();
            assert_eq!(upgrade.on_packet(&packet, now), Step::Drop, "{packet:?}");
        }
        let (mut upgrade, now) = candidate();
        upgrade.on_packet(&probe(), now);
        assert_eq!(upgrade.on_packet(&probe(), now), Step::Drop);
    }

    #[test]
    fn noops_leave_every_interval_until_the_timeout() {
        let (mut upgrade, now) = candidate();
        assert_eq!(upgrade.on_timeout(now), Step::Wait);
        upgrade.on_packet(&probe(), now);
        assert_eq!(upgrade.on_timeout(now), Step::Noop);
        assert_eq!(upgrade.on_timeout(now), Step::Wait);
        assert_eq!(upgrade.on_timeout(now + NOOP), Step::Noop);
        assert_eq!(upgrade.on_timeout(now + TIMEOUT), Step::Drop);
        assert!(!upgrade.is_under_way());
    }
}
