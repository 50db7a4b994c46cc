//! State machine of an upgrade from polling: a candidate websocket is probed and promoted, or
//! dropped.

use std::time::Instant;

use crate::limits::Limits;
use crate::protocol::engineio::packet::EnginePacket;

/// Action of the upgrade. `C` is the candidate's connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step<C> {
    Wait,
    AnswerProbe,
    /// Sends a noop to the pending poll, so that it ends and the client can finish the upgrade.
    Noop,
    /// Makes the candidate the session's transport.
    Promote(C),
    /// Closes the candidate. The session continues over polling.
    Drop(C),
}

#[derive(Debug)]
struct Candidate<C> {
    connection: C,
    drop_at: Instant,
    /// Time of the next noop. `None` until the candidate was probed.
    noop_at: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Upgrade<C> {
    /// Boxed, since most sessions have no candidate most of the time.
    candidate: Option<Box<Candidate<C>>>,
}

impl<C> Default for Upgrade<C> {
    fn default() -> Self {
        Self { candidate: None }
    }
}

impl<C> Upgrade<C> {
    pub(crate) fn candidate(&self) -> Option<&C> {
        self.candidate.as_ref().map(|candidate| &candidate.connection)
    }

    pub(crate) fn candidate_mut(&mut self) -> Option<&mut C> {
        self.candidate.as_mut().map(|candidate| &mut candidate.connection)
    }

    /// Ends the upgrade. Returns the candidate, if there is one.
    pub(crate) fn take_candidate(&mut self) -> Option<C> {
        self.candidate.take().map(|candidate| candidate.connection)
    }

    /// Returns whether the client may switch to the candidate at any time.
    pub(crate) fn is_probed(&self) -> bool {
        self.candidate.as_ref().is_some_and(|candidate| candidate.noop_at.is_some())
    }

    /// Makes a connection the candidate. There must be no other candidate.
    pub(crate) fn begin(&mut self, connection: C, now: Instant, limits: &Limits) {
        debug_assert!(self.candidate.is_none(), "a second candidate is refused before it is attached");
        self.candidate =
            Some(Box::new(Candidate { connection, drop_at: now + limits.transport.upgrade_timeout, noop_at: None }));
    }

    /// Handles a packet from the candidate. The client must send `2probe` and then `5`. Any other
    /// packet aborts the upgrade.
    pub(crate) fn on_packet(&mut self, packet: &EnginePacket, now: Instant) -> Step<C> {
        let Some(candidate) = &mut self.candidate else { return Step::Wait };
        match packet {
            EnginePacket::Ping(data) if candidate.noop_at.is_none() && data == "probe" => {
                candidate.noop_at = Some(now);
                Step::AnswerProbe
            }
            EnginePacket::Upgrade if candidate.noop_at.is_some() => self.end_with(Step::Promote),
            _ => self.end_with(Step::Drop),
        }
    }

    /// Earliest instant at which [`Upgrade::on_timeout`] has an effect.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let Candidate { drop_at, noop_at, .. } = self.candidate.as_deref()?;
        Some(noop_at.map_or(*drop_at, |noop_at| noop_at.min(*drop_at)))
    }

    pub(crate) fn on_timeout(&mut self, now: Instant, limits: &Limits) -> Step<C> {
        let Some(candidate) = &mut self.candidate else { return Step::Wait };
        if candidate.drop_at <= now {
            return self.end_with(Step::Drop);
        }
        match &mut candidate.noop_at {
            Some(noop_at) if *noop_at <= now => {
                *noop_at = now + limits.transport.upgrade_noop_interval;
                Step::Noop
            }
            _ => Step::Wait,
        }
    }

    fn end_with(&mut self, step: impl FnOnce(C) -> Step<C>) -> Step<C> {
        self.take_candidate().map_or(Step::Wait, step)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);
    const NOOP: Duration = Duration::from_millis(100);

    fn limits() -> Limits {
        Limits::with(|limits| {
            limits.transport.upgrade_timeout = TIMEOUT;
            limits.transport.upgrade_noop_interval = NOOP;
        })
    }

    fn probe() -> EnginePacket {
        EnginePacket::Ping("probe".into())
    }

    fn candidate() -> (Upgrade<&'static str>, Instant) {
        let now = Instant::now();
        let mut upgrade = Upgrade::default();
        upgrade.begin("websocket", now, &limits());
        (upgrade, now)
    }

    #[test]
    fn probe_then_upgrade_promotes() {
        let (mut upgrade, now) = candidate();
        assert_eq!(upgrade.on_packet(&probe(), now), Step::AnswerProbe);
        assert_eq!(upgrade.on_packet(&EnginePacket::Upgrade, now), Step::Promote("websocket"));
        assert!(upgrade.candidate.is_none());
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
            assert_eq!(upgrade.on_packet(&packet, now), Step::Drop("websocket"), "{packet:?}");
        }
        let (mut upgrade, now) = candidate();
        upgrade.on_packet(&probe(), now);
        assert_eq!(upgrade.on_packet(&probe(), now), Step::Drop("websocket"));
    }

    #[test]
    fn noops_are_sent_every_interval_until_the_timeout() {
        let (mut upgrade, now) = candidate();
        assert_eq!(upgrade.on_timeout(now, &limits()), Step::Wait);
        upgrade.on_packet(&probe(), now);
        assert_eq!(upgrade.on_timeout(now, &limits()), Step::Noop);
        assert_eq!(upgrade.on_timeout(now, &limits()), Step::Wait);
        assert_eq!(upgrade.on_timeout(now + NOOP, &limits()), Step::Noop);
        assert_eq!(upgrade.on_timeout(now + TIMEOUT, &limits()), Step::Drop("websocket"));
        assert!(upgrade.candidate.is_none());
    }
}
