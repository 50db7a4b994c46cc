//! Credit: how much one sender may have at the hub unanswered.
//!
//! Commands are numbered by *tickets*. The hub answers every ticket; answers may come out of turn.

use std::collections::VecDeque;

/// Number of one command of one sender, increasing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub u64);

#[derive(Debug)]
struct UnderWay {
    ticket: Ticket,
    bytes: usize,
    answered: bool,
}

/// One sender's account.
#[derive(Debug)]
pub(crate) struct Credit {
    commands_max: usize,
    bytes_max: usize,
    next: u64,
    bytes: usize,
    /// In ticket order; answered ones leave from the front, so the front is the oldest unanswered command.
    under_way: VecDeque<UnderWay>,
    unanswered: usize,
}

impl Credit {
    /// An account that allows this many commands and bytes at a time.
    pub(crate) fn new(commands_max: usize, bytes_max: usize) -> Self {
        Self { commands_max, bytes_max, next: 0, bytes: 0, under_way: VecDeque::new(), unanswered: 0 }
    }

    /// Whether a command of `bytes` may go now. One of any size may go while nothing is under way.
    pub(crate) fn allows(&self, bytes: usize) -> bool {
        self.unanswered == 0 || (self.unanswered < self.commands_max && self.bytes + bytes <= self.bytes_max)
    }

    /// Books a command of `bytes` and numbers it.
    pub(crate) fn spend(&mut self, bytes: usize) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.bytes += bytes;
        self.unanswered += 1;
        self.under_way.push_back(UnderWay { ticket, bytes, answered: false });
        ticket
    }

    /// The hub answered. A ticket that is not under way changes nothing.
    pub(crate) fn answered(&mut self, ticket: Ticket) {
        let Some(first) = self.under_way.front() else { return };
        let Some(position) = ticket.0.checked_sub(first.ticket.0) else { return };
        let Some(entry) = self.under_way.get_mut(position as usize) else { return };
        if !entry.answered {
            entry.answered = true;
            self.bytes -= entry.bytes;
            self.unanswered -= 1;
        }
        while self.under_way.front().is_some_and(|entry| entry.answered) {
            self.under_way.pop_front();
        }
        if self.under_way.is_empty() {
            self.under_way = VecDeque::new();
        }
    }

    /// Whether every command is answered.
    pub(crate) fn is_settled(&self) -> bool {
        self.unanswered == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_bytes_are_bounded() {
        let mut credit = Credit::new(2, 100);
        assert!(credit.allows(1000), "anything may go alone");
        let first = credit.spend(60);
        assert!(credit.allows(40));
        assert!(!credit.allows(41));
        credit.spend(10);
        assert!(!credit.allows(0), "two commands are under way");
        credit.answered(first);
        assert!(credit.allows(90));
    }

    #[test]
    fn answers_may_come_out_of_turn() {
        let mut credit = Credit::new(8, 100);
        let tickets: Vec<_> = (0..3).map(|_| credit.spend(10)).collect();
        for ticket in [tickets[1], tickets[2], tickets[0]] {
            assert!(!credit.is_settled());
            credit.answered(ticket);
        }
        assert!(credit.is_settled());
        assert!(credit.under_way.is_empty());
    }

    #[test]
    fn a_repeated_or_foreign_answer_changes_nothing() {
        let mut credit = Credit::new(8, 100);
        let ticket = credit.spend(5);
        credit.spend(5);
        credit.answered(Ticket(99));
        credit.answered(ticket);
        credit.answered(ticket);
        assert!(!credit.is_settled());
        assert!(credit.allows(95) && !credit.allows(96));
    }
}
