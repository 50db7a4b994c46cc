//! A budget of memory that all clients of a server share: how much of it is taken, and who may take more.
//!
//! Bounds beside it hold for one client each; a budget holds for their sum. What it counts may differ from what the allocator
//! takes, but is proportional to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::limits::Limits;

/// What one client may hold until a budget is spent. A client that holds more is refused from three quarters on, so that
/// those that cost most are the first to be refused.
pub(crate) const SMALL_SHARE_BYTES: usize = 64 << 10;

/// The budgets of one server.
#[derive(Debug)]
pub(crate) struct Budgets {
    /// What waits to be read by clients ([`limits.memory.outboxes_bytes_max`](crate::limits::MemoryLimits::outboxes_bytes_max)).
    pub outboxes: Budget,
    /// What was read from the journal for clients that catch up and waits to be read by them: a quarter as much again.
    pub replays: Budget,
    /// What clients have sent and the application has not taken ([`limits.memory.incoming_bytes_max`](crate::limits::MemoryLimits::incoming_bytes_max)).
    pub incoming: Arc<Budget>,
    /// Rooms, their names and memberships ([`limits.memory.rooms_bytes_max`](crate::limits::MemoryLimits::rooms_bytes_max)).
    pub rooms: Budget,
}

impl Budgets {
    /// Budgets of these bounds; one that is not set has no bound.
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

/// The budget has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("clients hold {bytes} bytes (limit {bytes_max}), this one wants {wanted}")]
pub(crate) struct Spent {
    /// Bytes that all clients hold.
    pub bytes: usize,
    pub bytes_max: usize,
    /// Bytes that this client would hold.
    pub wanted: usize,
}

/// Bytes taken of a bound, by any thread.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    bytes: AtomicUsize,
    /// Clients among which the bytes are divided, where that is counted.
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

    /// An even share: the bytes taken, divided by those who hold some.
    pub(crate) fn mean(&self) -> usize {
        self.bytes() / self.holders.load(Relaxed).max(1)
    }

    /// Replaces what one thread has taken for its clients, whatever the bound says.
    pub(crate) fn replace(&self, before: Part, now: Part) {
        adjust(&self.bytes, before.bytes, now.bytes);
        adjust(&self.holders, before.holders, now.holders);
    }

    /// Changes what one client has taken from `before` to `now` bytes, if the bound allows it.
    pub(crate) fn change(&self, before: usize, now: usize) -> Result<(), Spent> {
        let Some(more) = now.checked_sub(before) else {
            self.bytes.fetch_sub(before - now, Relaxed);
            return Ok(());
        };
        let bytes = self.bytes.fetch_add(more, Relaxed).saturating_add(more);
        let bound = if now > SMALL_SHARE_BYTES { self.bytes_max - self.bytes_max / 4 } else { self.bytes_max };
        if more > 0 && bytes > bound {
            let bytes = self.bytes.fetch_sub(more, Relaxed) - more;
            return Err(Spent { bytes, bytes_max: self.bytes_max, wanted: now });
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

/// What one thread has taken of a budget for its clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub bytes: usize,
    /// Clients that hold some of them.
    pub holders: usize,
}

/// What one client has taken of a budget; given back when dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    /// Of this budget, nothing yet.
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, bytes: 0 }
    }

    /// Changes what is taken to `bytes`. Refused, it stays as it was.
    pub(crate) fn set(&mut self, bytes: usize) -> Result<(), Spent> {
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
        let spent = large.set(3 * SMALL_SHARE_BYTES + 1).unwrap_err();
        assert_eq!(spent.bytes, 3 * SMALL_SHARE_BYTES);
        small.set(SMALL_SHARE_BYTES).unwrap();
        assert!(Charge::new(budget.clone()).set(1).is_err(), "everybody is refused at the bound");
        large.set(1).unwrap();
        assert_eq!(budget.bytes(), SMALL_SHARE_BYTES + 1);
    }

    #[test]
    fn a_charge_is_given_back_when_it_is_dropped() {
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
