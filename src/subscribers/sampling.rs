//! Samples of all subscribers for the metrics.

use super::Subscribers;
use crate::queue::record::{SubscriberKey, UnixMillis};
use crate::queue::store::StoreError;

/// Pause between two samples.
pub(super) const SAMPLE_PAUSE_MS: u64 = 1_000;

/// Maximum number of subscribers of one sample.
const SAMPLED: usize = 64;

/// Subscribers that a sample reads at a time, with their rooms.
const SAMPLED_AT_ONCE: usize = 8;

/// Maximum count of pending events of one subscriber. A sample ends after as many events and rooms.
const SAMPLED_BACKLOG_MAX: usize = 1_000;

/// A walk over all subscribers, which takes a second for each sample. Metrics show the greatest
/// values of the last walk, or of this one if they are greater.
#[derive(Debug, Default)]
pub(super) struct Sample {
    after: Option<SubscriberKey>,
    largest_backlog: usize,
    oldest_at: Option<UnixMillis>,
    last_largest_backlog: usize,
    last_oldest_at: Option<UnixMillis>,
}

impl Subscribers {
    pub(super) fn sample(&mut self, now: UnixMillis) -> Result<(), StoreError> {
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
