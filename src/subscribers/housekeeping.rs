//! Upkeep: expiry in the store, signs of life of attached subscribers, gaps that arise while they
//! are attached, pulls that are not continued, and the times of samples.

use std::collections::VecDeque;
use std::time::Duration;

use super::attaching::outcome;
use super::clock::millis;
use super::sampling::{SAMPLE_PAUSE_MS, Sample};
use super::{Active, Outlet, Subscribers};
use crate::messages::attachment::AttachmentId;
use crate::queue::change::{Change, Outcome};
use crate::queue::committer::unix_millis;
use crate::queue::record::UnixMillis;

/// Longest pause between two rounds of upkeep.
const ROUND_MS: u64 = 60_000;

/// Pause between two expiries that expired events ask for.
const HURRIED_MS: u64 = 1_000;

/// Rows of one expiry.
const EXPIRE_BUDGET: usize = 1_024;

/// Subscribers touched in one round; if more are due, the next round follows after
/// `TOUCH_PAUSE_MS`.
const TOUCHED: usize = 256;
const TOUCH_PAUSE_MS: u64 = 100;

#[derive(Debug)]
pub(super) struct Housekeeping {
    round: u64,
    touch_every: u64,
    next_round: UnixMillis,
    next_expiry: UnixMillis,
    last_expiry: UnixMillis,
    is_expiring: bool,
    next_sample: UnixMillis,
    pub(super) sample: Sample,
    /// The store has gaps that were not there at the last look.
    has_new_gaps: bool,
    /// Attached subscribers whose gaps are looked for when no other read waits.
    gap_checks: VecDeque<AttachmentId>,
}

impl Housekeeping {
    pub(super) fn new(now: UnixMillis, subscriber_expiry: Duration) -> Self {
        let touch_every = (millis(subscriber_expiry) / 8).clamp(100, 60 * ROUND_MS);
        let round = touch_every.min(ROUND_MS);
        Self {
            round,
            touch_every,
            next_round: now.plus(round),
            next_expiry: now.plus(round),
            last_expiry: now,
            is_expiring: false,
            next_sample: now.plus(SAMPLE_PAUSE_MS),
            sample: Sample::default(),
            has_new_gaps: false,
            gap_checks: VecDeque::new(),
        }
    }

    pub(super) fn next(&self) -> UnixMillis {
        let expiry = (!self.is_expiring).then_some(self.next_expiry);
        [self.next_round, self.next_sample].into_iter().chain(expiry).min().unwrap_or(self.next_round)
    }

    /// Brings the next expiry forward, since expired events are still stored.
    pub(super) fn hurry(&mut self) {
        self.next_expiry = self.next_expiry.min(self.last_expiry.plus(HURRIED_MS));
    }
}

impl Subscribers {
    pub(super) fn keep_house(&mut self, now: UnixMillis) {
        let house = &mut self.housekeeping;
        if house.next_expiry <= now && !house.is_expiring {
            house.is_expiring = true;
            house.last_expiry = now;
            self.expire();
        }
        if self.housekeeping.next_round <= now {
            let has_more = self.touch_attached(now);
            let pause = if has_more { TOUCH_PAUSE_MS } else { self.housekeeping.round };
            self.housekeeping.next_round = now.plus(pause);
            self.end_idle_pulls();
        }
        if self.housekeeping.next_sample <= now {
            self.housekeeping.next_sample = now.plus(SAMPLE_PAUSE_MS);
            // Deliveries have the store for themselves.
            if !self.reads.has_ready()
                && let Err(error) = self.sample(now)
            {
                log::debug!("queue not sampled error=\"{error}\"");
            }
        }
    }

    fn expire(&mut self) {
        self.submit(Change::Expire { budget: EXPIRE_BUDGET }, |actor, result| {
            match outcome(result) {
                Ok(Outcome::Expired { has_more, has_new_gaps }) => {
                    actor.housekeeping.has_new_gaps |= has_new_gaps;
                    if has_more {
                        return actor.expire();
                    }
                }
                // The store may have forgotten them when it failed.
                _ => actor.housekeeping.has_new_gaps = true,
            }
            let now = actor.clock.now();
            actor.housekeeping.is_expiring = false;
            actor.housekeeping.next_expiry = now.plus(actor.housekeeping.round);
            // Attached subscribers receive the gaps.
            if actor.housekeeping.gap_checks.is_empty() && std::mem::take(&mut actor.housekeeping.has_new_gaps) {
                actor.housekeeping.gap_checks = actor.active.keys().copied().collect();
            }
        });
    }

    /// The next attached subscriber whose gaps are looked for. One for which a look waits already
    /// is passed over, also while that look pauses after a failure.
    pub(super) fn next_gap_check(&mut self) -> Option<AttachmentId> {
        while let Some(id) = self.housekeeping.gap_checks.pop_front() {
            if self.active.get_mut(&id).is_some_and(|active| active.gaps.begin_read()) {
                return Some(id);
            }
        }
        None
    }

    pub(super) fn has_gap_checks(&self) -> bool {
        !self.housekeeping.gap_checks.is_empty()
    }

    /// Stores that attached subscribers are there. Returns true if some are left for a next round.
    fn touch_attached(&mut self, now: UnixMillis) -> bool {
        let touch_every = self.housekeeping.touch_every;
        let is_late = |active: &&mut Active| active.touched_at.plus(touch_every) <= now;
        let mut late = self.active.values_mut().filter(is_late);
        let mut keys = Vec::new();
        for active in late.by_ref().take(TOUCHED) {
            active.touched_at = now;
            keys.push(active.key.clone());
        }
        let has_more = late.next().is_some();
        for subscriber in keys {
            // By the clock of the committer, which decides what expires.
            self.submit_lazily(Change::Touch { subscriber, seen_at: unix_millis() });
        }
        has_more
    }

    /// Ends the deliveries of subscribers that have stopped to pull.
    fn end_idle_pulls(&mut self) {
        let idle = self.active.iter().filter(|(_, active)| match &active.outlet {
            Outlet::Pull(pull) => !pull.is_waiting() && active.delivery.in_flight() == 0,
            Outlet::Socket { .. } => false,
        });
        let idle: Vec<AttachmentId> = idle.map(|(id, _)| *id).collect();
        for id in idle {
            self.end(id);
        }
    }
}
