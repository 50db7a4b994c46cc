//! Memory budgets shared by all clients of a server.
//!
//! Other limits apply to a single client. A budget limits the sum over all clients. The counted
//! bytes are estimates: they may differ from what the allocator uses, but are proportional to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::limits::Limits;

/// A client may hold this many bytes until a budget is used up. Bytes that would exceed this number
/// are refused when three quarters of the budget are used, so that the most expensive clients are
/// refused first.
pub(crate) const SMALL_SHARE_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Budgets {
    /// Packets that clients have not read (`memory.outboxes_bytes_max`).
    pub outboxes: Budget,
    /// Events that were read from the journal and that clients have not read. The limit is a
    /// quarter of `memory.outboxes_bytes_max`, in addition to the limit of `outboxes`.
    pub replays: Budget,
    /// Data from clients that the application has not handled (`memory.incoming_bytes_max`).
    pub incoming: Arc<Budget>,
    /// Rooms, their names and memberships (`memory.rooms_bytes_max`).
    pub rooms: Budget,
}

impl Budgets {
    /// Creates the budgets from `limits`. If a limit is unset, its budget is unlimited.
    pub(crate) fn new(limits: &Limits) -> Self {
        let budget = |bytes_max: Option<usize>| Budget::new(bytes_max.unwrap_or(usize::MAX));
        Self {
            outboxes: budget(limits.memory.outboxes_bytes_max),
            replays: budget(limits.memory.outboxes_bytes_max.map(|bytes| bytes / 4)),
            incoming: budget(limits.memory.incoming_bytes_max).into(),
            rooms: budget(limits.memory.rooms_bytes_max),
        }
    }
}

impl Default for Budgets {
    fn default() -> Self {
        Self::new(&Limits::default())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("budget exceeded bytes={bytes} bytes_max={bytes_max} requested={wanted}")]
pub(crate) struct BudgetExceeded {
    pub bytes: usize,
    pub bytes_max: usize,
    pub wanted: usize,
}

/// A limit of bytes, with the number of bytes that all threads use.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    bytes: AtomicUsize,
    /// Number of clients that hold bytes. 0 if the budget does not count clients.
    holders: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: AtomicUsize::new(0), holders: AtomicUsize::new(0) }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    pub(crate) fn mean(&self) -> usize {
        self.bytes() / self.holders.load(Relaxed).max(1)
    }

    /// Changes the share of one thread from `before` to `now`, regardless of the limit.
    pub(crate) fn replace(&self, before: Part, now: Part) {
        adjust(&self.bytes, before.bytes, now.bytes);
        adjust(&self.holders, before.holders, now.holders);
    }

    /// Changes the share of one client from `before` to `now` bytes, if the limit allows it.
    pub(crate) fn change(&self, before: usize, now: usize) -> Result<(), BudgetExceeded> {
        let Some(more) = now.checked_sub(before) else {
            self.bytes.fetch_sub(before - now, Relaxed);
            return Ok(());
        };
        let bytes = self.bytes.fetch_add(more, Relaxed).saturating_add(more);
        let bound = if now > SMALL_SHARE_BYTES { self.bytes_max - self.bytes_max / 4 } else { self.bytes_max };
        if more > 0 && bytes > bound {
            let bytes = self.bytes.fetch_sub(more, Relaxed) - more;
            return Err(BudgetExceeded { bytes, bytes_max: self.bytes_max, wanted: now });
        }
        Ok(())
    }
}

fn adjust(count: &AtomicUsize, before: usize, now: usize) {
    if now >= before {
        count.fetch_add(now - before, Relaxed);
    } else {
        count.fetch_sub(before - now, Relaxed);
    }
}

/// The share of a budget that one thread uses for its clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub bytes: usize,
    pub holders: usize,
}

/// The share of a budget that one client uses. Dropping it releases the bytes.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, bytes: 0 }
    }

    /// Sets the charge to `bytes`. If the budget refuses, the charge stays unchanged.
    pub(crate) fn set(&mut self, bytes: usize) -> Result<(), BudgetExceeded> {
        self.budget.change(self.bytes, bytes)?;
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.bytes.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_charge_is_refused_before_a_small_one() {
        let budget = Arc::new(Budget::new(4 * SMALL_SHARE_BYTES));
        let (mut large, mut small) = (Charge::new(budget.clone()), Charge::new(budget.clone()));
        large.set(3 * SMALL_SHARE_BYTES).unwrap();
        let refused = large.set(3 * SMALL_SHARE_BYTES + 1).unwrap_err();
        assert_eq!(refused.bytes, 3 * SMALL_SHARE_BYTES);
        small.set(SMALL_SHARE_BYTES).unwrap();
        assert!(Charge::new(budget.clone()).set(1).is_err(), "small charges are refused at the limit");
        large.set(1).unwrap();
        assert_eq!(budget.bytes(), SMALL_SHARE_BYTES + 1);
    }

    #[test]
    fn a_dropped_charge_releases_its_bytes() {
        let budget = Arc::new(Budget::new(100));
        let mut charge = Charge::new(budget.clone());
        charge.set(70).unwrap();
        assert!(charge.set(101).is_err());
        assert_eq!(budget.bytes(), 70);
        drop(charge);
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn the_mean_is_taken_over_all_threads() {
        let budget = Budget::new(100);
        let part = |bytes, holders| Part { bytes, holders };
        budget.replace(Part::default(), part(60, 2));
        budget.replace(Part::default(), part(40, 3));
        assert_eq!((budget.bytes(), budget.mean()), (100, 20));
        budget.replace(part(60, 2), Part::default());
        budget.replace(part(40, 3), Part::default());
        assert_eq!((budget.bytes(), budget.mean()), (0, 0));
    }
}
