//! The upgrade from polling: a websocket candidate is probed, freed of the pending poll, and promoted; or dropped.

use std::time::Instant;

use crate::limits::Limits;
use crate::protocol::engineio::packet::EnginePacket;

/// What a step of the upgrade asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// No upgrade is under way.
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

#[derive(Debug)]
struct Probe {
    drop_at: Instant,
    /// Set once it has probed.
    noop_at: Option<Instant>,
}

/// One session's upgrade.
#[derive(Debug, Default)]
pub(crate) struct Upgrade {
    /// Boxed, since most sessions have none for most of their life.
    candidate: Option<Box<Probe>>,
}

impl Upgrade {
    /// Whether the client may be about to go over to the candidate.
    pub(crate) fn is_probed(&self) -> bool {
        self.candidate.as_ref().is_some_and(|candidate| candidate.noop_at.is_some())
    }

    /// A websocket for this session opened. Returns whether it may be the candidate: a second one is closed at once.
    pub(crate) fn on_candidate(&mut self, now: Instant, limits: &Limits) -> bool {
        let free = self.candidate.is_none();
        if free {
            self.candidate = Some(Box::new(Probe { drop_at: now + limits.upgrade_timeout, noop_at: None }));
        }
        free
    }

    /// The candidate sent a packet. Anything but `2probe`, then `5`, ends the attempt.
    pub(crate) fn on_packet(&mut self, packet: &EnginePacket, now: Instant) -> Step {
        match (&mut self.candidate, packet) {
            (Some(candidate), EnginePacket::Ping(data)) if candidate.noop_at.is_none() && data == "probe" => {
                candidate.noop_at = Some(now);
                Step::AnswerProbe
            }
            (Some(candidate), EnginePacket::Upgrade) if candidate.noop_at.is_some() => {
                self.candidate = None;
                Step::Promote
            }
            _ => {
                self.candidate = None;
                Step::Drop
            }
        }
    }

    /// The candidate closed by itself.
    pub(crate) fn on_candidate_closed(&mut self) {
        self.candidate = None;
    }

    /// When [`Upgrade::on_timeout`] is next worth a call.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let Probe { drop_at, noop_at } = self.candidate.as_deref()?;
        Some(noop_at.map_or(*drop_at, |noop_at| noop_at.min(*drop_at)))
    }

    /// What is due at `now`.
    pub(crate) fn on_timeout(&mut self, now: Instant, limits: &Limits) -> Step {
        let Some(candidate) = &mut self.candidate else { return Step::Wait };
        if candidate.drop_at <= now {
            self.candidate = None;
            return Step::Drop;
        }
        match &mut candidate.noop_at {
            Some(noop_at) if *noop_at <= now => {
                *noop_at = now + limits.upgrade_noop_interval;
                Step::Noop
            }
            _ => Step::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);
    const NOOP: Duration = Duration::from_millis(100);

    fn limits() -> Limits {
        Limits { upgrade_timeout: TIMEOUT, upgrade_noop_interval: NOOP, ..Limits::default() }
    }

    fn probe() -> EnginePacket {
        EnginePacket::Ping("probe".into())
    }

    fn candidate() -> (Upgrade, Instant) {
        let now = Instant::now();
        let mut upgrade = Upgrade::default();
        assert!(upgrade.on_candidate(now, &limits()));
        (upgrade, now)
    }

    #[test]
    fn probe_then_upgrade_promotes() {
        let (mut upgrade, now) = candidate();
        assert_eq!(upgrade.on_packet(&probe(), now), Step::AnswerProbe);
        assert_eq!(upgrade.on_packet(&EnginePacket::Upgrade, now), Step::Promote);
        assert!(upgrade.candidate.is_none());
    }

    #[test]
    fn a_second_candidate_is_refused_and_the_first_lives() {
        let (mut upgrade, now) = candidate();
        assert!(!upgrade.on_candidate(now, &limits()));
        assert_eq!(upgrade.on_packet(&probe(), now), Step::AnswerProbe);
    }

    #[test]
    fn anything_else_drops_the_candidate() {
        for packet in [
            EnginePacket::Upgrade,
            EnginePacket::Ping("".into()),
            EnginePacket::Message("0".into()),
            EnginePacket::Close,
        ] {
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
        assert_eq!(upgrade.on_timeout(now, &limits()), Step::Wait);
        upgrade.on_packet(&probe(), now);
        assert_eq!(upgrade.on_timeout(now, &limits()), Step::Noop);
        assert_eq!(upgrade.on_timeout(now, &limits()), Step::Wait);
        assert_eq!(upgrade.on_timeout(now + NOOP, &limits()), Step::Noop);
        assert_eq!(upgrade.on_timeout(now + TIMEOUT, &limits()), Step::Drop);
        assert!(upgrade.candidate.is_none());
    }
}
