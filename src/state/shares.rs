//! Each sender's share of a resource that all senders use and that is replenished over time. A
//! sender that has used up its share waits.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

/// Maximum number of accounts, which take about 1 MB. When this number is reached, accounts with
/// little use are removed. If there are none, new senders are not charged.
const ACCOUNTS_MAX: usize = 16_384;

/// Minimum number of accounts at which unused accounts are removed.
const SWEEP_AT: usize = 64;

/// Interval between passes over all accounts while their number is at the maximum.
const SWEEP_INTERVAL_MS: u64 = 100;

#[derive(Debug)]
struct Account {
    spent: u64,
    at_ms: u64,
}

/// Accounts of senders that have recently used the resource, and the commands of waiting senders. A
/// sender may use `bytes_max` bytes before it waits. Twice this number is replenished in each
/// window.
#[derive(Debug)]
pub(crate) struct Shares<S, T> {
    bytes_max: u64,
    window_ms: u64,
    accounts: HashMap<S, Account>,
    sweep_at: usize,
    /// Queued commands. Their number is bounded by the senders' credit, as in
    /// [`Schedule`](super::schedule::Schedule).
    waiting: HashMap<S, VecDeque<T>>,
    queued: usize,
    /// Earliest time of the next pass over all accounts. 0 unless the last pass removed too few
    /// accounts.
    sweep_at_ms: u64,
}

impl<S: Copy + Eq + Hash, T> Shares<S, T> {
    pub(crate) fn new(bytes_max: usize, window: Duration) -> Self {
        Self {
            bytes_max: (bytes_max as u64).max(1),
            window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX).max(1),
            accounts: HashMap::new(),
            sweep_at: SWEEP_AT,
            waiting: HashMap::new(),
            queued: 0,
            sweep_at_ms: 0,
        }
    }

    /// Number of commands of waiting senders.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn waits(&self, sender: &S) -> bool {
        self.has_waiting() && self.waiting.contains_key(sender)
    }

    /// Charges a sender. Returns whether its share is used up.
    pub(crate) fn charge(&mut self, sender: S, bytes: u64, now_ms: u64) -> bool {
        let before = self.spent(&sender, now_ms);
        if before == 0 && !self.accounts.contains_key(&sender) && !self.has_room(now_ms) {
            return false;
        }
        let spent = before.saturating_add(bytes);
        self.accounts.insert(sender, Account { spent, at_ms: now_ms });
        spent >= self.bytes_max
    }

    /// Makes a sender wait, with its queued commands.
    pub(crate) fn hold(&mut self, sender: S, queue: VecDeque<T>) {
        self.queued += queue.len();
        self.waiting.entry(sender).or_default().extend(queue);
    }

    /// Queues a command of a waiting sender.
    pub(crate) fn push(&mut self, sender: S, command: T) {
        self.queued += 1;
        self.waiting.entry(sender).or_default().push_back(command);
    }

    /// Removes and returns the waiting senders whose share is no longer used up, with their
    /// commands.
    pub(crate) fn release(&mut self, now_ms: u64) -> Vec<(S, VecDeque<T>)> {
        let ready = self.waiting.keys().copied().filter(|sender| self.spent(sender, now_ms) < self.bytes_max);
        let ready: Vec<S> = ready.collect();
        let ready: Vec<_> = ready.into_iter().filter_map(|sender| self.waiting.remove_entry(&sender)).collect();
        self.queued -= ready.iter().map(|(_, queue)| queue.len()).sum::<usize>();
        ready
    }

    pub(crate) fn remove(&mut self, is_gone: impl Fn(&S) -> bool) {
        self.accounts.retain(|sender, _| !is_gone(sender));
        self.waiting.retain(|sender, _| !is_gone(sender));
        self.queued = self.waiting.values().map(VecDeque::len).sum();
    }

    /// Bytes that a sender has used and that are not replenished yet.
    fn spent(&self, sender: &S, now_ms: u64) -> u64 {
        self.accounts.get(sender).map_or(0, |account| self.unreplenished(account, now_ms))
    }

    fn unreplenished(&self, account: &Account, now_ms: u64) -> u64 {
        let elapsed = u128::from(now_ms.saturating_sub(account.at_ms));
        let back = elapsed * 2 * u128::from(self.bytes_max) / u128::from(self.window_ms);
        account.spent.saturating_sub(u64::try_from(back).unwrap_or(u64::MAX))
    }

    /// Makes room for one more account if necessary. Returns whether there is room.
    fn has_room(&mut self, now_ms: u64) -> bool {
        if self.accounts.len() >= self.sweep_at && now_ms >= self.sweep_at_ms {
            self.forget(now_ms, 0);
            if self.accounts.len() >= ACCOUNTS_MAX {
                self.forget(now_ms, self.bytes_max / 16);
            }
            self.sweep_at = (2 * self.accounts.len()).clamp(SWEEP_AT, ACCOUNTS_MAX);
            let is_full = self.accounts.len() >= ACCOUNTS_MAX;
            self.sweep_at_ms = if is_full { now_ms.saturating_add(SWEEP_INTERVAL_MS) } else { 0 };
        }
        self.accounts.len() < ACCOUNTS_MAX
    }

    /// Removes the accounts of senders that have used at most `bytes`.
    fn forget(&mut self, now_ms: u64, bytes: u64) {
        let mut accounts = std::mem::take(&mut self.accounts);
        accounts.retain(|_, account| self.unreplenished(account, now_ms) > bytes);
        accounts.shrink_to_fit();
        self.accounts = accounts;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares() -> Shares<u32, u8> {
        Shares::new(1_000, Duration::from_millis(2_000))
    }

    #[test]
    fn a_sender_waits_until_its_share_is_replenished() {
        let mut shares = shares();
        assert!(!shares.charge(1, 999, 0) && !shares.waits(&1));
        assert!(shares.charge(1, 11, 0));
        shares.hold(1, VecDeque::from([1, 2]));
        shares.push(1, 3);
        assert!(shares.waits(&1) && !shares.waits(&2) && shares.queued() == 3);
        // The share is replenished by a byte per millisecond.
        assert!(shares.release(10).is_empty());
        assert_eq!(shares.release(11), [(1, VecDeque::from([1, 2, 3]))]);
        assert!(!shares.has_waiting() && shares.charge(1, 1, 11));
        assert!(!shares.charge(1, 999, 1_011), "the share is replenished completely");
    }

    #[test]
    fn a_stopped_clock_replenishes_nothing() {
        let mut shares = shares();
        assert!(shares.charge(1, 2_000, 5_000));
        shares.hold(1, VecDeque::new());
        assert!(shares.release(5_000).is_empty() && shares.release(0).is_empty());
        assert_eq!(shares.release(u64::MAX).len(), 1);
    }

    #[test]
    fn accounts_are_bounded_and_small_ones_are_removed() {
        let mut shares = shares();
        shares.charge(0, 900, 0);
        for sender in 1..3 * ACCOUNTS_MAX as u32 {
            shares.charge(sender, 1, 0);
            assert!(shares.accounts.len() <= ACCOUNTS_MAX);
        }
        assert!(shares.charge(0, 100, 0), "the account with much use is kept");
        for sender in 1..2 * ACCOUNTS_MAX as u32 {
            shares.charge(sender, 500, 0);
        }
        assert_eq!(shares.accounts.len(), ACCOUNTS_MAX);
        shares.charge(u32::MAX, 1, 10_000);
        assert_eq!(shares.accounts.len(), 1, "unused accounts are removed");
    }

    #[test]
    fn a_removed_sender_has_no_account() {
        let mut shares = shares();
        shares.charge(1, 2_000, 0);
        shares.hold(1, VecDeque::from([1]));
        shares.remove(|sender| *sender == 1);
        assert!(!shares.has_waiting() && shares.accounts.is_empty());
    }
}
