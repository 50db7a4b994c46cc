//! Gaps: ranges of events that a subscriber did not receive and will not.
//!
//! **Rule**: a gap is reported over every attachment until it is confirmed. It is confirmed when
//! the subscriber answers an event that was sent for the first time, over the same attachment after
//! the report, since packets of one connection arrive in order. The answer to another event may be
//! to an earlier packet of it. Only the range that was reported is confirmed, so a gap that has
//! grown is reported again.

use std::collections::VecDeque;

use super::attaching::{GAPS_READ, outcome};
use super::reads::ReadJob;
use super::{Outlet, Subscribers};
use crate::messages::attachment::AttachmentId;
use crate::queue::change::{ACKED_MAX, Change};
use crate::queue::record::Gap;
use crate::queue::store::StoreError;

/// Maximum number of reported gaps that are not confirmed. Further ones are reported later.
const REPORTED_MAX: usize = 2 * GAPS_READ;

/// Gaps that were reported over one attachment.
#[derive(Debug, Default)]
pub(super) struct ReportedGaps {
    reported: Vec<ReportedGap>,
    /// Number of events that were sent for the first time, over the attachment.
    sent: u64,
    /// The newest events that were sent for the first time after a report, each with its position
    /// among all.
    recent: VecDeque<(u64, u64)>,
    /// A look at the store waits for its turn.
    is_read_queued: bool,
}

#[derive(Debug)]
struct ReportedGap {
    gap: Gap,
    /// Number of events that had been sent before the report.
    sent_before: u64,
    /// The commit of the confirmation is under way.
    is_confirmed: bool,
}

impl ReportedGaps {
    /// Adds gaps, and returns those that are new.
    pub(super) fn report(&mut self, gaps: &[Gap]) -> Vec<Gap> {
        let mut new = Vec::new();
        for gap in gaps {
            if self.reported.len() < REPORTED_MAX && !self.reported.iter().any(|known| known.gap == *gap) {
                // An earlier form of this gap can no longer be confirmed.
                self.reported.retain(|known| (known.gap.from, known.gap.reason) != (gap.from, gap.reason));
                let reported = ReportedGap { gap: gap.clone(), sent_before: self.sent, is_confirmed: false };
                self.reported.push(reported);
                new.push(gap.clone());
            }
        }
        new
    }

    /// Notes that a look at the store waits. Returns false if one does already.
    pub(super) fn begin_read(&mut self) -> bool {
        !std::mem::replace(&mut self.is_read_queued, true)
    }

    pub(super) fn unconfirmed(&self) -> Vec<Gap> {
        self.reported.iter().filter(|known| !known.is_confirmed).map(|known| known.gap.clone()).collect()
    }

    /// An event was sent, which may have been received before if it is `redelivered`.
    pub(super) fn on_sent(&mut self, number: u64, redelivered: bool, in_flight_max: usize) {
        if redelivered {
            return;
        }
        self.sent += 1;
        if self.reported.is_empty() {
            return self.recent.clear();
        }
        if self.recent.len() >= in_flight_max.saturating_mul(2) {
            self.recent.pop_front();
        }
        self.recent.push_back((number, self.sent));
    }

    /// Returns the gaps that the answer to an event confirms.
    fn confirm(&mut self, number: u64) -> Vec<Gap> {
        let Some((_, position)) = self.recent.iter().find(|(sent, _)| *sent == number).copied() else {
            return Vec::new();
        };
        let confirmed = self.reported.iter_mut().filter(|known| known.sent_before < position && !known.is_confirmed);
        let mark = |known: &mut ReportedGap| {
            known.is_confirmed = true;
            known.gap.clone()
        };
        confirmed.map(mark).collect()
    }

    /// The confirmation of gaps was committed, or the store has failed.
    fn on_commit(&mut self, gaps: &[Gap], is_committed: bool) {
        self.reported.retain_mut(|known| {
            let is_of_commit = gaps.contains(&known.gap);
            known.is_confirmed &= !is_of_commit;
            !is_of_commit || !is_committed
        });
    }
}

/// Maximum number of gaps that one change confirms, since the store searches the rooms for each.
const GAPS_OF_CHANGE: usize = 64;

/// Number of the first gaps that one change confirms, at least one.
fn one_change(gaps: &[Gap]) -> usize {
    let mut events = 0;
    let fits = |gap: &&Gap| {
        events += gap.events.unwrap_or(1).clamp(1, ACKED_MAX as u64);
        events <= ACKED_MAX as u64
    };
    gaps.iter().take(GAPS_OF_CHANGE).take_while(fits).count()
}

impl Subscribers {
    /// The subscriber has answered an event.
    pub(super) fn confirm_gaps(&mut self, id: AttachmentId, number: u64) {
        let Some(active) = self.active.get_mut(&id) else { return };
        let (mut left, subscriber) = (active.gaps.confirm(number), active.key.clone());
        while !left.is_empty() {
            let rest = left.split_off(one_change(&left));
            let gaps = std::mem::replace(&mut left, rest);
            let change = Change::AckGaps { subscriber: subscriber.clone(), gaps: gaps.clone() };
            self.submit(change, move |actor, result| {
                if let Some(active) = actor.active.get_mut(&id) {
                    active.gaps.on_commit(&gaps, outcome(result).is_ok());
                }
                // One that has grown was not confirmed, and there may be more than one look reads.
                actor.look_for_gaps(id);
            });
        }
    }

    /// Reports gaps that the subscriber has and does not know, in a later turn.
    pub(super) fn look_for_gaps(&mut self, id: AttachmentId) {
        let Some(active) = self.active.get_mut(&id) else { return };
        if active.gaps.begin_read() {
            self.reads.push(ReadJob::Gaps(id));
        }
    }

    pub(super) fn read_gaps(&mut self, id: AttachmentId) -> Result<(), StoreError> {
        let Some(active) = self.active.get_mut(&id) else { return Ok(()) };
        let gaps = self.reader.gaps(&active.key, 0, GAPS_READ)?.gaps;
        active.gaps.is_read_queued = false;
        let new = active.gaps.report(&gaps);
        if matches!(active.outlet, Outlet::Socket { .. }) {
            let packets = new.iter().map(|gap| self.notices.gap(&active.key.namespace, gap));
            active.packets.extend(packets);
        }
        self.changed.insert(id);
        self.count_gaps(new);
        Ok(())
    }

    pub(super) fn count_gaps(&self, gaps: Vec<Gap>) {
        for gap in gaps {
            self.metrics.subscribers.gaps[gap.reason as usize].add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::record::GapReason;

    #[test]
    fn a_gap_is_confirmed_by_an_event_that_was_first_sent_after_its_report() {
        let gap = |from, to| Gap { from, to, events: None, reason: GapReason::Trimmed };
        let mut gaps = ReportedGaps::default();
        gaps.on_sent(7, false, 2);
        assert_eq!(gaps.report(&[gap(1, 3)]), [gap(1, 3)]);
        assert_eq!(gaps.report(&[gap(1, 3)]), [], "known");
        assert_eq!(gaps.confirm(7), [], "sent before");
        gaps.on_sent(7, true, 2);
        assert_eq!(gaps.confirm(7), [], "the answer may be to the first packet");
        gaps.on_sent(8, false, 2);
        assert_eq!(gaps.report(&[gap(1, 4)]), [gap(1, 4)], "it has grown");
        assert_eq!(gaps.confirm(8), []);
        gaps.on_sent(9, false, 2);
        assert_eq!(gaps.confirm(10), [], "never sent");
        assert_eq!(gaps.confirm(9), [gap(1, 4)]);
        assert_eq!((gaps.confirm(9), gaps.unconfirmed()), (vec![], vec![]), "its commit is under way");
        gaps.on_commit(&[gap(1, 4)], false);
        assert_eq!((gaps.confirm(9), gaps.report(&[gap(1, 4)])), (vec![gap(1, 4)], vec![]));
        gaps.on_commit(&[gap(1, 4)], true);
        assert_eq!(gaps.report(&[gap(1, 4)]), [gap(1, 4)], "it is still there");
    }
}
