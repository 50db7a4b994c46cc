//! Far deadlines: which sessions are to be woken at which of the worker's common instants.
//!
//! One timer for all, where each session would have one of its own; they wake together, so their pings share one turn of the
//! thread, and so do the pongs. A deadline that is near is the session's own affair.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Worker;
use crate::ids::SlotKey;
use crate::messages::abort::AbortOnUnwind;
use crate::messages::session::SessionCommand;

/// Between two common instants: by so much a deadline may be late, never early.
const TICK: Duration = Duration::from_millis(100);

/// Deadlines nearer than this are for a timer of the session's own.
const FAR: Duration = Duration::from_secs(1);

/// An entry is looked at after a minute at the latest, so that those of sessions that have gone do not stay.
const LOOK_TICKS: u32 = 600;

/// Who is to be woken when, counted in ticks since the worker began.
#[derive(Default)]
pub(super) struct Timers {
    /// By the tick at which they are looked at: the session, and the tick that it wants.
    entries: BTreeMap<u32, Vec<(SlotKey, u32)>>,
}

impl Timers {
    /// Returns whether it is now to be looked at sooner than before.
    fn add(&mut self, now: u32, slot: SlotKey, wanted: u32) -> bool {
        let look = wanted.min(now.saturating_add(LOOK_TICKS));
        let is_first = self.first().is_none_or(|first| look < first);
        self.entries.entry(look).or_default().push((slot, wanted));
        is_first
    }

    fn first(&self) -> Option<u32> {
        self.entries.keys().next().copied()
    }

    /// Takes those whose time has come; keeps those who want to be woken later and live.
    fn take_due(&mut self, now: u32, lives: impl Fn(SlotKey) -> bool) -> Vec<SlotKey> {
        let later = self.entries.split_off(&(now.saturating_add(1)));
        let mut due = Vec::new();
        for (slot, wanted) in std::mem::replace(&mut self.entries, later).into_values().flatten() {
            match wanted {
                wanted if wanted <= now => due.push(slot),
                wanted if lives(slot) => drop(self.add(now, slot, wanted)),
                _ => {}
            }
        }
        due
    }
}

impl Worker {
    /// Has the session told [`Wake`](SessionCommand::Wake) once the deadline is over, by a tick at most later. A deadline that is
    /// too near for that is given back as the time to wait.
    pub(super) fn wake_at(&self, slot: SlotKey, deadline: Instant) -> Option<Duration> {
        let wait = deadline.saturating_duration_since(Instant::now());
        if wait < FAR {
            return Some(wait);
        }
        let wanted = self.ticks_until(deadline, u128::div_ceil);
        if self.timers.borrow_mut().add(self.ticks_until(Instant::now(), |time, tick| time / tick), slot, wanted) {
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
            // One that has gone meanwhile needs no waking.
            let _ = link.post(SessionCommand::Wake);
        }
        drop(outboxes);
        // Other workers may have left it to this one to free some of the budget.
        self.outboxes.borrow_mut().settle();
    }
}

/// Wakes for as long as the thread lives.
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
    fn each_is_taken_at_its_tick_and_not_before() {
        let mut timers = Timers::default();
        assert!(timers.add(0, slot(1), 250));
        assert!(!timers.add(0, slot(2), 251), "there is a sooner one");
        assert!(timers.add(0, slot(3), 100));
        assert_eq!(timers.first(), Some(100));
        assert_eq!(timers.take_due(99, |_| true), []);
        assert_eq!(timers.take_due(250, |_| true), [slot(3), slot(1)]);
        assert_eq!(timers.take_due(251, |_| true), [slot(2)]);
        assert_eq!(timers.first(), None);
    }

    #[test]
    fn who_has_gone_is_forgotten_in_a_minute_and_who_lives_is_woken_in_time() {
        let mut timers = Timers::default();
        timers.add(0, slot(1), 2_000);
        timers.add(0, slot(2), u32::MAX);
        assert_eq!(timers.first(), Some(LOOK_TICKS));
        assert_eq!(timers.take_due(LOOK_TICKS, |who| who == slot(1)), []);
        assert_eq!(timers.entries.values().map(Vec::len).sum::<usize>(), 1);
        for now in [1_200, 1_800, 1_999] {
            assert_eq!(timers.take_due(now, |_| true), []);
        }
        assert_eq!(timers.take_due(2_000, |_| true), [slot(1)]);
        assert_eq!(timers.first(), None);
    }
}
