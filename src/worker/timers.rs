//! Timers of a worker for deadlines that are at least a second ahead.
//!
//! All sessions share one timer that fires at common ticks. Sessions that wake together send their
//! pings in one turn of the thread. For a nearer deadline, a session uses a timer of its own.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Worker;
use crate::ids::SlotKey;
use crate::messages::abort::AbortOnUnwind;
use crate::messages::session::SessionCommand;

/// Interval between ticks. A session is woken at most this long after its deadline, and never
/// before it.
const TICK: Duration = Duration::from_millis(100);

/// The shared timer is used for deadlines that are at least this far ahead.
const FAR: Duration = Duration::from_secs(1);

/// Maximum number of ticks between two checks of an entry (one minute). These checks remove entries
/// of ended sessions.
const CHECK_TICKS: u32 = 600;

/// Deadlines of sessions, in ticks since the worker was started.
#[derive(Default)]
pub(super) struct Timers {
    /// Sessions and their deadlines, by the tick of the next check.
    entries: BTreeMap<u32, Vec<(SlotKey, u32)>>,
}

impl Timers {
    /// Adds an entry. Returns whether the new entry is due before all others.
    fn add(&mut self, now: u32, slot: SlotKey, deadline_tick: u32) -> bool {
        let check_at = deadline_tick.min(now.saturating_add(CHECK_TICKS));
        let is_first = self.first().is_none_or(|first| check_at < first);
        self.entries.entry(check_at).or_default().push((slot, deadline_tick));
        is_first
    }

    fn first(&self) -> Option<u32> {
        self.entries.keys().next().copied()
    }

    /// Removes due entries and those of ended sessions. Returns the sessions to wake.
    fn take_due(&mut self, now: u32, is_open: impl Fn(SlotKey) -> bool) -> Vec<SlotKey> {
        let later = self.entries.split_off(&(now.saturating_add(1)));
        let mut due = Vec::new();
        for (slot, deadline_tick) in std::mem::replace(&mut self.entries, later).into_values().flatten() {
            match deadline_tick {
                deadline_tick if deadline_tick <= now => due.push(slot),
                deadline_tick if is_open(slot) => drop(self.add(now, slot, deadline_tick)),
                _ => {}
            }
        }
        due
    }
}

impl Worker {
    /// Sends the session [`Wake`](SessionCommand::Wake) at the first tick that is not before the
    /// deadline. If the deadline is too near for that, returns the time that the session must wait
    /// instead.
    pub(super) fn wake_at(&self, slot: SlotKey, deadline: Instant) -> Option<Duration> {
        let wait = deadline.saturating_duration_since(Instant::now());
        if wait < FAR {
            return Some(wait);
        }
        let deadline_tick = self.ticks_until(deadline, u128::div_ceil);
        if self.timers.borrow_mut().add(self.ticks_until(Instant::now(), |time, tick| time / tick), slot, deadline_tick)
        {
            self.timer_notify.notify();
        }
        None
    }

    fn ticks_until(&self, instant: Instant, divide: impl Fn(u128, u128) -> u128) -> u32 {
        let since_start = instant.saturating_duration_since(self.started);
        u32::try_from(divide(since_start.as_micros(), TICK.as_micros())).unwrap_or(u32::MAX)
    }

    fn wake_due(&self) {
        let _guard = AbortOnUnwind("timers");
        let now = self.ticks_until(Instant::now(), |time, tick| time / tick);
        let outboxes = self.outboxes.borrow();
        let due = self.timers.borrow_mut().take_due(now, |slot| outboxes.link(slot).is_some());
        for link in due.into_iter().filter_map(|slot| outboxes.link(slot)) {
            // The error is ignored, since the session may have ended meanwhile.
            let _ = link.post(SessionCommand::Wake);
        }
        drop(outboxes);
        // Other workers may have exceeded the budget while this worker holds the largest outboxes,
        // which only it can cut.
        self.outboxes.borrow_mut().enforce_budget();
    }
}

pub(super) async fn run(worker: Rc<Worker>) {
    loop {
        let first = worker.timers.borrow().first();
        let at = first.map(|tick| worker.started + TICK * tick);
        tokio::select! {
            () = tokio::time::sleep_until(at.unwrap_or(worker.started).into()), if at.is_some() => worker.wake_due(),
            () = worker.timer_notify.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(index: u32) -> SlotKey {
        SlotKey { index, generation: 0 }
    }

    #[test]
    fn each_session_is_woken_at_its_tick_and_not_before() {
        let mut timers = Timers::default();
        assert!(timers.add(0, slot(1), 250));
        assert!(!timers.add(0, slot(2), 251), "session 1 has an earlier deadline");
        assert!(timers.add(0, slot(3), 100));
        assert_eq!(timers.first(), Some(100));
        assert_eq!(timers.take_due(99, |_| true), []);
        assert_eq!(timers.take_due(250, |_| true), [slot(3), slot(1)]);
        assert_eq!(timers.take_due(251, |_| true), [slot(2)]);
        assert_eq!(timers.first(), None);
    }

    #[test]
    fn ended_sessions_are_removed_within_a_minute_live_ones_woken_in_time() {
        let mut timers = Timers::default();
        timers.add(0, slot(1), 2_000);
        timers.add(0, slot(2), u32::MAX);
        assert_eq!(timers.first(), Some(CHECK_TICKS));
        assert_eq!(timers.take_due(CHECK_TICKS, |who| who == slot(1)), []);
        assert_eq!(timers.entries.values().map(Vec::len).sum::<usize>(), 1);
        for now in [1_200, 1_800, 1_999] {
            assert_eq!(timers.take_due(now, |_| true), []);
        }
        assert_eq!(timers.take_due(2_000, |_| true), [slot(1)]);
        assert_eq!(timers.first(), None);
    }
}
