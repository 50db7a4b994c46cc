//! Upkeep: expiry in the store, signs of life of attached subscribers, gaps that arise while they
//! are attached, pulls that are not continued, and samples for the metrics.

use std::collections::VecDeque;
use std::time::Duration;

use super::attaching::outcome;
use super::clock::millis;
use super::{Active, Outlet, Subscribers};
use crate::messages::attachment::AttachmentId;
use crate::queue::change::{Change, Outcome};
use crate::queue::committer::unix_millis;
use crate::queue::record::{SubscriberKey, UnixMillis};
use crate::queue::store::StoreError;

/// Longest pause between two rounds of upkeep.
const ROUND: u64 = 60_000;

/// Pause between two expiries that expired events ask for.
const HURRIED: u64 = 1_000;

/// Rows of one expiry.
const EXPIRE_BUDGET: usize = 1_024;

/// Attached subscribers of which one round stores that they are there, and the pause after which a
/// round follows for others.
const TOUCHED: usize = 256;
const TOUCH_PAUSE: u64 = 100;

/// Pause between two samples, and the maximum number of subscribers of one sample.
const SAMPLE_PAUSE: u64 = 1_000;
const SAMPLED: usize = 64;

/// Subscribers that a sample reads at a time, with their rooms.
const SAMPLED_AT_ONCE: usize = 8;

/// Pending events that are counted of one subscriber. A sample ends when it has counted as many of
/// all, with their rooms.
const SAMPLED_BACKLOG_MAX: usize = 1_000;

#[derive(Debug)]
pub(super) struct Housekeeping {
    round: u64,
    touch_every: u64,
    next_round: UnixMillis,
    next_expiry: UnixMillis,
    last_expiry: UnixMillis,
    is_expiring: bool,
    next_sample: UnixMillis,
    sample: Sample,
    /// The store has gaps that were not there at the last look.
    has_new_gaps: bool,
    /// Attached subscribers whose gaps are looked for when no other read waits.
    gap_checks: VecDeque<AttachmentId>,
}

/// A walk over all subscribers, which takes a second for each sample. Metrics show the greatest
/// values of the last walk, or of this one if they are greater.
#[derive(Debug, Default)]
struct Sample {
    after: Option<SubscriberKey>,
    largest_backlog: usize,
    oldest_at: Option<UnixMillis>,
    last_largest_backlog: usize,
    last_oldest_at: Option<UnixMillis>,
}

impl Housekeeping {
    pub(super) fn new(now: UnixMillis, subscriber_expiry: Duration) -> Self {
        let touch_every = (millis(subscriber_expiry) / 8).clamp(100, 60 * ROUND);
        let round = touch_every.min(ROUND);
        Self {
            round,
            touch_every,
            next_round: now.plus(round),
            next_expiry: now.plus(round),
            last_expiry: now,
            is_expiring: false,
            next_sample: now.plus(SAMPLE_PAUSE),
            sample: Sample::default(),
            has_new_gaps: false,
            gap_checks: VecDeque::new(),
        }
    }

    pub(super) fn next(&self) -> UnixMillis {
        let expiry = (!self.is_expiring).then_some(self.next_expiry);
        [self.next_round, self.next_sample].into_iter().chain(expiry).min().unwrap_or(self.next_round)
    }

    /// Events have expired that the store still has.
    pub(super) fn hurry(&mut self) {
        self.next_expiry = self.next_expiry.min(self.last_expiry.plus(HURRIED));
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
            let pause = if has_more { TOUCH_PAUSE } else { self.housekeeping.round };
            self.housekeeping.next_round = now.plus(pause);
            self.end_idle_pulls();
        }
        if self.housekeeping.next_sample <= now {
            self.housekeeping.next_sample = now.plus(SAMPLE_PAUSE);
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

    fn sample(&mut self, now: UnixMillis) -> Result<(), StoreError> {
        let totals = self.reader.totals()?;
        let metrics = &self.metrics.subscribers;
        let connected = usize::try_from(metrics.connected.get()).unwrap_or(0);
        metrics.away.set((totals.subscribers as usize).saturating_sub(connected));
        metrics.dead_letters.set(totals.dead_letters as usize);
        let (mut counted, mut read, mut is_last) = (0, 0, false);
        while counted < SAMPLED_BACKLOG_MAX && read < SAMPLED && !is_last {
            let found = self.reader.subscribers(self.housekeeping.sample.after.as_ref(), SAMPLED_AT_ONCE)?;
            is_last = found.len() < SAMPLED_AT_ONCE;
            for info in found {
                if counted >= SAMPLED_BACKLOG_MAX {
                    is_last = false;
                    break;
                }
                let backlog = self.reader.backlog(&info.key, SAMPLED_BACKLOG_MAX)?;
                read += 1;
                counted += backlog.events as usize + info.rooms.len();
                let sample = &mut self.housekeeping.sample;
                sample.largest_backlog = sample.largest_backlog.max(backlog.events as usize);
                sample.oldest_at = sample.oldest_at.into_iter().chain(backlog.oldest_at).min();
                sample.after = Some(info.key);
            }
        }
        let sample = &mut self.housekeeping.sample;
        if is_last {
            sample.after = None;
            sample.last_largest_backlog = std::mem::take(&mut sample.largest_backlog);
            sample.last_oldest_at = sample.oldest_at.take();
        }
        metrics.largest_backlog.set(sample.largest_backlog.max(sample.last_largest_backlog));
        let oldest_at = sample.oldest_at.into_iter().chain(sample.last_oldest_at).min();
        metrics.oldest_age_ms.set(oldest_at.map_or(0, |at| now.0.saturating_sub(at.0) as usize));
        Ok(())
    }
}
