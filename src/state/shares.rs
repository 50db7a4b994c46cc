//! What each sender may spend of something that all share and that is replenished with time; whose share is spent waits.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

/// Accounts at a time: less than 1 MB. Beyond, those that have spent little are forgotten, and then new clients are not booked.
const ACCOUNTS_MAX: usize = 16_384;

/// Accounts from which on those that are balanced are looked for.
const FORGET_AT: usize = 64;

/// Between two looks over all accounts while they are full.
const LOOK_INTERVAL_MS: u64 = 100;

#[derive(Debug)]
struct Account {
    spent: u64,
    at_ms: u64,
}

/// Accounts of senders that have spent something lately, and the commands of those that wait. A sender may spend `bytes_max` before it
/// waits, and twice as much in each window.
#[derive(Debug)]
pub(crate) struct Shares<S, T> {
    bytes_max: u64,
    window_ms: u64,
    accounts: HashMap<S, Account>,
    forget_at: usize,
    /// Bounded by the senders' credit, like [`Schedule`](super::schedule::Schedule).
    waiting: HashMap<S, VecDeque<T>>,
    queued: usize,
    /// The next look for accounts to be forgotten where the last one found too few.
    look_at_ms: u64,
}

impl<S: Copy + Eq + Hash, T> Shares<S, T> {
    pub(crate) fn new(bytes_max: usize, window: Duration) -> Self {
        Self {
            bytes_max: (bytes_max as u64).max(1),
            window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX).max(1),
            accounts: HashMap::new(),
            forget_at: FORGET_AT,
            waiting: HashMap::new(),
            queued: 0,
            look_at_ms: 0,
        }
    }

    /// Commands of senders that wait.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Whether a sender waits.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether this sender waits.
    pub(crate) fn waits(&self, sender: &S) -> bool {
        self.has_waiting() && self.waiting.contains_key(sender)
    }

    /// Books what a sender has spent. Returns whether its share is spent.
    pub(crate) fn book(&mut self, sender: S, bytes: u64, now_ms: u64) -> bool {
        let before = self.spent(&sender, now_ms);
        if before == 0 && !self.accounts.contains_key(&sender) && !self.has_room(now_ms) {
            return false;
        }
        let spent = before.saturating_add(bytes);
        self.accounts.insert(sender, Account { spent, at_ms: now_ms });
        spent >= self.bytes_max
    }

    /// From now on a sender waits, with what it has queued.
    pub(crate) fn hold(&mut self, sender: S, queue: VecDeque<T>) {
        self.queued += queue.len();
        self.waiting.entry(sender).or_default().extend(queue);
    }

    /// Queues a command of a sender that waits.
    pub(crate) fn push(&mut self, sender: S, command: T) {
        self.queued += 1;
        self.waiting.entry(sender).or_default().push_back(command);
    }

    /// Gives what senders had queued that have something of their share again.
    pub(crate) fn release(&mut self, now_ms: u64) -> Vec<(S, VecDeque<T>)> {
        let ready = self.waiting.keys().copied().filter(|sender| self.spent(sender, now_ms) < self.bytes_max);
        let ready: Vec<S> = ready.collect();
        let ready: Vec<_> = ready.into_iter().filter_map(|sender| self.waiting.remove_entry(&sender)).collect();
        self.queued -= ready.iter().map(|(_, queue)| queue.len()).sum::<usize>();
        ready
    }

    /// Drops what senders have queued, and their accounts.
    pub(crate) fn remove(&mut self, gone: impl Fn(&S) -> bool) {
        self.accounts.retain(|sender, _| !gone(sender));
        self.waiting.retain(|sender, _| !gone(sender));
        self.queued = self.waiting.values().map(VecDeque::len).sum();
    }

    /// Bytes that a sender has spent and not got back yet.
    fn spent(&self, sender: &S, now_ms: u64) -> u64 {
        self.accounts.get(sender).map_or(0, |account| self.left_of(account, now_ms))
    }

    fn left_of(&self, account: &Account, now_ms: u64) -> u64 {
        let elapsed = u128::from(now_ms.saturating_sub(account.at_ms));
        let back = elapsed * 2 * u128::from(self.bytes_max) / u128::from(self.window_ms);
        account.spent.saturating_sub(u64::try_from(back).unwrap_or(u64::MAX))
    }

    /// Makes room for one more account.
    fn has_room(&mut self, now_ms: u64) -> bool {
        if self.accounts.len() >= self.forget_at && now_ms >= self.look_at_ms {
            self.forget(now_ms, 0);
            if self.accounts.len() >= ACCOUNTS_MAX {
                self.forget(now_ms, self.bytes_max / 16);
            }
            self.forget_at = (2 * self.accounts.len()).clamp(FORGET_AT, ACCOUNTS_MAX);
            let is_full = self.accounts.len() >= ACCOUNTS_MAX;
            self.look_at_ms = if is_full { now_ms.saturating_add(LOOK_INTERVAL_MS) } else { 0 };
        }
        self.accounts.len() < ACCOUNTS_MAX
    }

    /// Ends accounts that owe no more than that.
    fn forget(&mut self, now_ms: u64, bytes: u64) {
        let mut accounts = std::mem::take(&mut self.accounts);
        accounts.retain(|_, account| self.left_of(account, now_ms) > bytes);
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
    fn a_sender_waits_from_its_share_on_and_until_it_has_some_again() {
        let mut shares = shares();
        assert!(!shares.book(1, 999, 0) && !shares.waits(&1));
        assert!(shares.book(1, 11, 0));
        shares.hold(1, VecDeque::from([1, 2]));
        shares.push(1, 3);
        assert!(shares.waits(&1) && !shares.waits(&2) && shares.queued() == 3);
        // A byte a millisecond comes back.
        assert!(shares.release(10).is_empty());
        assert_eq!(shares.release(11), [(1, VecDeque::from([1, 2, 3]))]);
        assert!(!shares.has_waiting() && shares.book(1, 1, 11));
        assert!(!shares.book(1, 999, 1_011), "it is whole again");
    }

    #[test]
    fn a_clock_that_stands_still_gives_nothing_back() {
        let mut shares = shares();
        assert!(shares.book(1, 2_000, 5_000));
        shares.hold(1, VecDeque::new());
        assert!(shares.release(5_000).is_empty() && shares.release(0).is_empty());
        assert_eq!(shares.release(u64::MAX).len(), 1);
    }

    #[test]
    fn accounts_are_bounded_and_small_ones_are_forgotten() {
        let mut shares = shares();
        shares.book(0, 900, 0);
        for sender in 1..3 * ACCOUNTS_MAX as u32 {
            shares.book(sender, 1, 0);
            assert!(shares.accounts.len() <= ACCOUNTS_MAX);
        }
        assert!(shares.book(0, 100, 0), "one that has spent much is known");
        for sender in 1..2 * ACCOUNTS_MAX as u32 {
            shares.book(sender, 500, 0);
        }
        assert_eq!(shares.accounts.len(), ACCOUNTS_MAX);
        shares.book(u32::MAX, 1, 10_000);
        assert_eq!(shares.accounts.len(), 1, "balanced ones are forgotten");
    }

    #[test]
    fn a_removed_sender_leaves_nothing_of_its_share() {
        let mut shares = shares();
        shares.book(1, 2_000, 0);
        shares.hold(1, VecDeque::from([1]));
        shares.remove(|sender| *sender == 1);
        assert!(!shares.has_waiting() && shares.accounts.is_empty());
    }
}
