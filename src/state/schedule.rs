//! Fair scheduling of commands by sender, with deficit round robin as in packet routers.
//!
//! A command of a sender within its quantum is queued only under full load, or if the command is
//! postponed ([`Schedule::postpone`]). A sender that has overdrawn its quantum waits until the
//! other senders have had their turns. The exact cost of a command is known only after its
//! execution, so a sender may overdraw by one command. The debt is deducted from the sender's
//! quanta of later rounds.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Work that a sender may cause in one round, in bytes.
pub(crate) const QUANTUM: usize = 64 << 10;

/// Load of the workers that carry out the results of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Load {
    /// All senders are served.
    Light,
    /// Only senders within their quantum are served.
    Pressed,
    /// No command that adds to the load is served.
    Full,
}

#[derive(Debug)]
struct Flow<T> {
    /// Work that the sender may still cause in this round, in bytes. Zero or negative if the sender
    /// has overdrawn.
    left: i64,
    /// Commands in order. A sender with commands is in one of the lists of the [`Schedule`].
    queue: VecDeque<T>,
}

impl<T> Flow<T> {
    fn new() -> Self {
        Self { left: QUANTUM as i64, queue: VecDeque::new() }
    }

    fn is_overdrawn(&self) -> bool {
        self.left <= 0
    }
}

/// Queued commands, and accounts of the senders that have caused work since the queue was last
/// empty. A queued command has no answer yet, so it still uses credit of its sender. This bounds
/// the number of queued commands.
#[derive(Debug)]
pub(crate) struct Schedule<S, T> {
    flows: HashMap<S, Flow<T>>,
    /// Senders that were within their quantum when they were queued. They are served first, and
    /// also at load [`Load::Pressed`].
    fresh: VecDeque<S>,
    /// Senders that had overdrawn and have received a new quantum.
    ready: VecDeque<S>,
    /// Senders that wait for the next round.
    overdrawn: VecDeque<S>,
    queued: usize,
}

impl<S, T> Default for Schedule<S, T> {
    fn default() -> Self {
        Self {
            flows: HashMap::new(),
            fresh: VecDeque::new(),
            ready: VecDeque::new(),
            overdrawn: VecDeque::new(),
            queued: 0,
        }
    }
}

impl<S: Copy + Eq + Hash, T> Schedule<S, T> {
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Returns whether there are no accounts. If so, no command is queued, and small commands need
    /// not be charged.
    pub(crate) fn is_idle(&self) -> bool {
        self.flows.is_empty()
    }

    /// Returns whether a sender has queued commands or has used part of its quantum.
    pub(crate) fn has_account(&self, sender: &S) -> bool {
        self.flows.contains_key(sender)
    }

    /// Returns whether a command may be served immediately. Its sender must have no queued commands
    /// and must not have overdrawn its quantum, and the command must not add to a full load.
    pub(crate) fn admits(&self, sender: &S, adds_load: bool, load: Load) -> bool {
        if adds_load && load == Load::Full {
            return false;
        }
        self.is_idle() || self.flows.get(sender).is_none_or(|flow| flow.queue.is_empty() && !flow.is_overdrawn())
    }

    /// Queues a command after all others of its sender.
    pub(crate) fn push(&mut self, sender: S, command: T) {
        let flow = self.flows.entry(sender).or_insert_with(Flow::new);
        if flow.queue.is_empty() {
            let list = if flow.is_overdrawn() { &mut self.overdrawn } else { &mut self.fresh };
            list.push_back(sender);
        }
        flow.queue.push_back(command);
        self.queued += 1;
    }

    /// Queues a command that costs more than a quantum. Its sender waits behind all senders that
    /// have queued commands.
    pub(crate) fn postpone(&mut self, sender: S, command: T) {
        let flow = self.flows.entry(sender).or_insert_with(Flow::new);
        if flow.queue.is_empty() {
            self.overdrawn.push_back(sender);
        }
        flow.queue.push_back(command);
        self.queued += 1;
    }

    pub(crate) fn is_overdrawn(&self, sender: &S) -> bool {
        self.flows.get(sender).is_some_and(Flow::is_overdrawn)
    }

    /// Queues a command of an overdrawn sender again, before the sender's other commands.
    pub(crate) fn put_back(&mut self, sender: S, command: T) {
        let flow = self.flows.entry(sender).or_insert_with(Flow::new);
        if flow.queue.is_empty() {
            self.overdrawn.push_back(sender);
        }
        flow.queue.push_front(command);
        self.queued += 1;
    }

    /// Transfers the debt of `before` to `sender`.
    pub(crate) fn inherit(&mut self, before: &S, sender: S) {
        if let Some(left) = self.flows.get(before).map(|flow| flow.left).filter(|left| *left < QUANTUM as i64) {
            let flow = self.flows.entry(sender).or_insert_with(Flow::new);
            flow.left = flow.left.min(left);
        }
    }

    pub(crate) fn charge(&mut self, sender: S, cost: usize) {
        let flow = self.flows.entry(sender).or_insert_with(Flow::new);
        flow.left = flow.left.saturating_sub(i64::try_from(cost).unwrap_or(i64::MAX));
    }

    /// Removes and returns the next command to be served.
    pub(crate) fn next(&mut self, load: Load) -> Option<(S, T)> {
        match load {
            Load::Full => None,
            Load::Pressed => self.pop(|schedule| &mut schedule.fresh),
            Load::Light => self.pop(|schedule| &mut schedule.fresh).or_else(|| self.pop_ready()),
        }
    }

    pub(crate) fn has_next(&self, load: Load) -> bool {
        let within = |sender: &S| self.flows.get(sender).is_some_and(|flow| !flow.is_overdrawn());
        match load {
            Load::Full => false,
            Load::Pressed => self.fresh.iter().any(within),
            Load::Light => self.queued > 0,
        }
    }

    /// Removes all accounts. The queue must be empty and the load light.
    pub(crate) fn forget(&mut self) {
        debug_assert_eq!(self.queued, 0);
        // A new map is created to free the memory, since there may have been many accounts.
        self.flows = HashMap::new();
    }

    /// Removes and returns the queued commands of a sender. The sender keeps its account.
    pub(crate) fn withdraw(&mut self, sender: &S) -> VecDeque<T> {
        let queue = self.flows.get_mut(sender).map(|flow| std::mem::take(&mut flow.queue)).unwrap_or_default();
        if !queue.is_empty() {
            self.queued -= queue.len();
            for list in [&mut self.fresh, &mut self.ready, &mut self.overdrawn] {
                list.retain(|listed| listed != sender);
            }
        }
        queue
    }

    pub(crate) fn remove(&mut self, is_gone: impl Fn(&S) -> bool) {
        for list in [&mut self.fresh, &mut self.ready, &mut self.overdrawn] {
            list.retain(|sender| !is_gone(sender));
        }
        self.flows.retain(|sender, _| !is_gone(sender));
        self.queued = self.flows.values().map(|flow| flow.queue.len()).sum();
    }

    fn pop_ready(&mut self) -> Option<(S, T)> {
        loop {
            if let Some(next) = self.pop(|schedule| &mut schedule.ready) {
                return Some(next);
            }
            if self.overdrawn.is_empty() {
                return None;
            }
            self.begin_round();
        }
    }

    /// Removes and returns a command of the first sender in `list` that has not overdrawn. The
    /// overdrawn senders before it are moved to the next round.
    fn pop(&mut self, list: impl Fn(&mut Self) -> &mut VecDeque<S>) -> Option<(S, T)> {
        loop {
            let sender = *list(self).front()?;
            let flow = self.flows.get_mut(&sender)?;
            if flow.is_overdrawn() {
                list(self).pop_front();
                self.overdrawn.push_back(sender);
                continue;
            }
            let command = flow.queue.pop_front()?;
            let is_last = flow.queue.is_empty();
            if is_last {
                list(self).pop_front();
            }
            self.queued -= 1;
            return Some((sender, command));
        }
    }

    /// Adds to each account as many quanta as the waiting sender with the smallest debt needs to be
    /// served. Accounts that have a full quantum and no commands are removed.
    fn begin_round(&mut self) {
        let quantum = QUANTUM as i64;
        let debts = self.overdrawn.iter().filter_map(|sender| self.flows.get(sender)).map(|flow| -flow.left);
        let given = quantum * (debts.min().unwrap_or(0).max(0) / quantum + 1);
        self.flows.retain(|_, flow| {
            flow.left = flow.left.saturating_add(given).min(quantum);
            flow.left < quantum || !flow.queue.is_empty()
        });
        for _ in 0..self.overdrawn.len() {
            let Some(sender) = self.overdrawn.pop_front() else { break };
            let waits = self.flows.get(&sender).is_some_and(Flow::is_overdrawn);
            let list = if waits { &mut self.overdrawn } else { &mut self.ready };
            list.push_back(sender);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Plain = Schedule<u8, (u64, usize)>;

    /// Serves or queues a command, as the hub does.
    fn submit(schedule: &mut Plain, sender: u8, command: (u64, usize), load: Load) -> bool {
        let admitted = schedule.admits(&sender, true, load);
        if admitted {
            schedule.charge(sender, command.1)
        } else {
            schedule.push(sender, command)
        }
        admitted
    }

    #[test]
    fn a_postponed_command_waits_for_earlier_ones() {
        let mut schedule = Plain::default();
        submit(&mut schedule, 1, (0, 2 * QUANTUM), Load::Light);
        submit(&mut schedule, 1, (1, QUANTUM), Load::Light);
        schedule.postpone(2, (2, 20 * QUANTUM));
        submit(&mut schedule, 2, (3, 1), Load::Light);
        assert!(schedule.admits(&3, true, Load::Light));
        schedule.push(3, (4, 1));
        let mut order = Vec::new();
        while let Some((sender, (number, cost))) = schedule.next(Load::Light) {
            schedule.charge(sender, cost);
            order.push(number);
        }
        assert_eq!(order, [4, 2, 1, 3], "a sender within its quantum is first, and each sender keeps its order");
        assert_eq!(schedule.queued(), 0);
    }

    #[test]
    fn an_inherited_debt_delays_the_next_command() {
        let mut schedule = Plain::default();
        schedule.charge(1, 5 * QUANTUM);
        schedule.inherit(&1, 2);
        schedule.inherit(&7, 3);
        assert!(!schedule.admits(&2, true, Load::Light) && schedule.admits(&3, true, Load::Light));
        schedule.charge(2, QUANTUM);
        schedule.inherit(&1, 2);
        assert_eq!(schedule.flows[&2].left, -5 * QUANTUM as i64, "the larger debt stays");
    }

    #[test]
    fn waiting_senders_are_served_while_commands_are_postponed() {
        let mut schedule = Plain::default();
        schedule.charge(0, 20 * QUANTUM);
        schedule.push(0, (0, 1));
        for sender in 1..100 {
            schedule.postpone(sender, (u64::from(sender), 12 * QUANTUM));
            let (served, (_, cost)) = schedule.next(Load::Light).unwrap();
            schedule.charge(served, cost);
            if served == 0 {
                assert!(sender <= 25, "served after {sender} postponed commands");
                return;
            }
        }
        panic!("the waiting sender was never served");
    }

    #[test]
    fn a_sender_within_its_quantum_is_not_queued() {
        let mut schedule = Plain::default();
        for n in 0..1_000 {
            submit(&mut schedule, 1, (n, QUANTUM), Load::Light);
        }
        assert_eq!(schedule.queued(), 999, "the first command overdraws");
        assert!(schedule.admits(&2, true, Load::Pressed));
        assert!(!schedule.admits(&2, true, Load::Full) && schedule.admits(&2, false, Load::Full));
        assert!(!schedule.admits(&1, false, Load::Light), "a sender's commands stay in order");
    }

    #[test]
    fn a_queued_light_sender_is_served_before_heavy_ones() {
        let mut schedule = Plain::default();
        for sender in 0..100 {
            for n in 0..20 {
                submit(&mut schedule, sender, (n, QUANTUM), Load::Light);
            }
        }
        assert!(!submit(&mut schedule, 200, (7, 10), Load::Full));
        assert!(!schedule.has_next(Load::Full) && schedule.next(Load::Full).is_none());
        assert!(schedule.has_next(Load::Pressed));
        assert_eq!(schedule.next(Load::Pressed), Some((200, (7, 10))));
        assert!(
            !schedule.has_next(Load::Pressed) && schedule.next(Load::Pressed).is_none(),
            "overdrawn senders wait for a light load"
        );
    }

    #[test]
    fn heavy_senders_share_evenly_by_cost() {
        let mut schedule = Plain::default();
        let cost = |sender: u8| if sender == 1 { QUANTUM } else { QUANTUM / 8 };
        for n in 0..1_000 {
            for sender in [1, 2] {
                submit(&mut schedule, sender, (n, cost(sender)), Load::Light);
            }
        }
        let mut served = [0; 3];
        for _ in 0..450 {
            let Some((sender, command)) = schedule.next(Load::Light) else { break };
            schedule.charge(sender, command.1);
            served[usize::from(sender)] += command.1;
        }
        let (one, two) = (served[1] as i64, served[2] as i64);
        assert!((one - two).abs() <= 2 * QUANTUM as i64, "{served:?}");
    }

    #[test]
    fn a_removed_sender_has_no_commands() {
        let mut schedule = Plain::default();
        for n in 0..10 {
            submit(&mut schedule, 1, (n, QUANTUM), Load::Light);
            submit(&mut schedule, 2, (n, QUANTUM), Load::Light);
        }
        schedule.remove(|sender| *sender == 1);
        assert_eq!(schedule.queued(), 9);
        while let Some((sender, command)) = schedule.next(Load::Light) {
            schedule.charge(sender, command.1);
            assert_eq!(sender, 2);
        }
        assert_eq!(schedule.queued(), 0);
        schedule.forget();
        assert!(schedule.is_idle());
    }

    #[test]
    fn withdrawn_commands_can_be_queued_again_in_order() {
        let mut schedule = Plain::default();
        for n in 0..4 {
            submit(&mut schedule, 1, (n, QUANTUM), Load::Light);
            submit(&mut schedule, 2, (n, QUANTUM), Load::Light);
        }
        let queue = schedule.withdraw(&1);
        assert_eq!(queue.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(schedule.queued() == 3 && schedule.withdraw(&3).is_empty());
        for command in queue {
            schedule.push(1, command);
        }
        let mut served: [Vec<u64>; 2] = Default::default();
        while let Some((sender, command)) = schedule.next(Load::Light) {
            schedule.charge(sender, command.1);
            served[usize::from(sender - 1)].push(command.0);
        }
        assert_eq!(served, [[1, 2, 3], [1, 2, 3]]);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Submit(u8, usize),
        Serve(usize),
        Load(Load),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let cost = prop_oneof![3 => 1..1_000usize, 2 => 1..4 * QUANTUM, 1 => 1..100 * QUANTUM];
        let load = prop_oneof![3 => Just(Load::Light), 1 => Just(Load::Pressed), 1 => Just(Load::Full)];
        prop_oneof![
            8 => (0..6u8, cost).prop_map(|(sender, cost)| Step::Submit(sender, cost)),
            4 => (0..10usize).prop_map(Step::Serve),
            1 => load.prop_map(Step::Load),
        ]
    }

    proptest! {
        /// Each sender's commands are served once and in order. Senders within their quantum are
        /// not delayed by overdrawn senders, and the queue becomes empty under a light load.
        #[test]
        fn commands_of_each_sender_are_carried_out_once_and_in_order(steps in proptest::collection::vec(any_step(), 0..400)) {
            let mut schedule = Plain::default();
            let (mut load, mut number) = (Load::Light, 0);
            let mut expected: HashMap<u8, VecDeque<u64>> = HashMap::new();
            let mut left: HashMap<u8, i64> = HashMap::new();
            let done = |sender: u8, number: u64, expected: &mut HashMap<u8, VecDeque<u64>>| {
                expected.get_mut(&sender).and_then(VecDeque::pop_front) == Some(number)
            };
            for step in steps {
                match step {
                    Step::Load(next) => load = next,
                    Step::Submit(sender, cost) => {
                        number += 1;
                        expected.entry(sender).or_default().push_back(number);
                        let idle = expected[&sender].len() == 1 && *left.get(&sender).unwrap_or(&1) > 0;
                        let admitted = submit(&mut schedule, sender, (number, cost), load);
                        if idle && load != Load::Full {
                            prop_assert!(admitted, "a sender within its quantum had to wait");
                        }
                        if admitted {
                            prop_assert!(load != Load::Full);
                            prop_assert!(done(sender, number, &mut expected));
                            *left.entry(sender).or_insert(QUANTUM as i64) -= cost as i64;
                        }
                    }
                    Step::Serve(times) => for _ in 0..times {
                        let had_next = schedule.has_next(load);
                        let Some((sender, (number, cost))) = schedule.next(load) else {
                            prop_assert!(!had_next && (load != Load::Light || schedule.queued() == 0));
                            break;
                        };
                        prop_assert!(had_next);
                        prop_assert!(done(sender, number, &mut expected));
                        schedule.charge(sender, cost);
                        // Rounds may have changed the accounts, so the model no longer expects any
                        // sender to be within its quantum.
                        left.clear();
                        left.extend((0..6).map(|sender| (sender, 0)));
                    },
                }
                prop_assert_eq!(schedule.queued(), expected.values().map(VecDeque::len).sum::<usize>());
            }
            while let Some((sender, (number, cost))) = schedule.next(Load::Light) {
                prop_assert!(done(sender, number, &mut expected));
                schedule.charge(sender, cost);
            }
            prop_assert!(expected.values().all(VecDeque::is_empty));
            schedule.forget();
        }
    }
}
