//! The sender of the last resume of each session. If a client resumes again over a new connection,
//! the new connection inherits the account of the previous one.

use std::collections::HashMap;

use super::intake::CommandSender;
use crate::ids::{PrivateId, WorkerId};

/// Minimum number of entries at which entries that are no longer needed are removed.
const PRUNE_AT: usize = 64;

/// Senders by session. The maximum number of entries is twice the number that the last removal
/// left, but at least `PRUNE_AT`.
#[derive(Debug)]
pub(super) struct ResumeSenders {
    senders: HashMap<PrivateId, CommandSender>,
    prune_at: usize,
}

impl Default for ResumeSenders {
    fn default() -> Self {
        Self { senders: HashMap::new(), prune_at: PRUNE_AT }
    }
}

impl ResumeSenders {
    pub(super) fn get(&self, pid: &PrivateId) -> Option<&CommandSender> {
        self.senders.get(pid)
    }

    /// Records the sender of a resume. If there are many entries, removes the entries for which
    /// `is_needed` returns false.
    pub(super) fn insert(
        &mut self,
        pid: PrivateId,
        sender: CommandSender,
        is_needed: impl Fn(&PrivateId, &CommandSender) -> bool,
    ) {
        if self.senders.len() >= self.prune_at {
            self.senders.retain(|pid, sender| is_needed(pid, sender));
            self.prune_at = (2 * self.senders.len()).max(PRUNE_AT);
            self.senders.shrink_to(self.prune_at);
        }
        self.senders.insert(pid, sender);
    }

    pub(super) fn remove_worker(&mut self, worker: WorkerId) {
        self.senders.retain(|_, sender| sender.worker != worker);
    }

    /// Removes all entries and releases their memory.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SlotKey;

    fn pid(n: u32) -> PrivateId {
        let mut bytes = [0; 15];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        PrivateId::from_random(bytes)
    }

    fn sender(worker: u16, index: u32) -> CommandSender {
        CommandSender { worker: WorkerId(worker), slot: SlotKey { index, generation: 0 } }
    }

    #[test]
    fn entries_are_at_most_twice_those_that_are_needed() {
        let mut senders = ResumeSenders::default();
        for n in 0..100_000 {
            // The hundred newest senders have an account, so their entries are needed.
            senders.insert(pid(n), sender(0, n), |_, sender| sender.slot.index + 100 >= n);
            assert!(senders.senders.len() <= 200, "{} entries", senders.senders.len());
            assert!((n.saturating_sub(99)..=n).all(|kept| senders.get(&pid(kept)) == Some(&sender(0, kept))));
        }
    }

    #[test]
    fn a_dead_worker_takes_its_entries_along() {
        let mut senders = ResumeSenders::default();
        (0..10).for_each(|n| senders.insert(pid(n), sender((n % 2) as u16, n), |_, _| true));
        senders.remove_worker(WorkerId(1));
        assert!((0..10).all(|n| senders.get(&pid(n)).is_some() == (n % 2 == 0)));
    }
}
