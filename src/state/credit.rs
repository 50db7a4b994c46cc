//! Credit of a sender: the limits on its commands that the hub has not answered.
//!
//! Each command has a number, its *ticket*. The hub answers every ticket, not necessarily in order.

use super::lazy_queue::LazyQueue;
use crate::limits::Limits;

/// Number of a command. Each sender numbers its commands consecutively.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub u64);

#[derive(Debug)]
struct InFlight {
    ticket: Ticket,
    bytes: usize,
    answered: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Credit {
    next: u64,
    bytes: usize,
    /// Commands in ticket order. Answered commands at the front are removed, so the first command
    /// is unanswered.
    in_flight: LazyQueue<InFlight>,
    unanswered: usize,
}

impl Credit {
    /// Returns whether a command of `bytes` may be sent. If no command is unanswered, a command of
    /// any size may be sent.
    pub(crate) fn allows(&self, bytes: usize, limits: &Limits) -> bool {
        let (commands_max, bytes_max) = (limits.hub.credit_commands, limits.hub.credit_bytes);
        self.unanswered == 0 || (self.unanswered < commands_max && self.bytes + bytes <= bytes_max)
    }

    /// Charges a command of `bytes`, and assigns its ticket.
    pub(crate) fn spend(&mut self, bytes: usize) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.bytes += bytes;
        self.unanswered += 1;
        self.in_flight.push_back(InFlight { ticket, bytes, answered: false });
        ticket
    }

    /// Releases the credit of an answered command. An unknown ticket is ignored.
    pub(crate) fn on_answer(&mut self, ticket: Ticket) {
        let Some(first) = self.in_flight.front() else { return };
        let Some(position) = ticket.0.checked_sub(first.ticket.0) else { return };
        let Some(entry) = self.in_flight.get_mut(position as usize) else { return };
        if !entry.answered {
            entry.answered = true;
            self.bytes -= entry.bytes;
            self.unanswered -= 1;
        }
        while self.in_flight.front().is_some_and(|entry| entry.answered) {
            self.in_flight.pop_front();
        }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.unanswered == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(credit_commands: usize, credit_bytes: usize) -> Limits {
        Limits::with(|limits| {
            limits.hub.credit_commands = credit_commands;
            limits.hub.credit_bytes = credit_bytes;
        })
    }

    #[test]
    fn commands_and_bytes_are_bounded() {
        let (mut credit, limits) = (Credit::default(), limits(2, 100));
        assert!(credit.allows(1000, &limits), "a single command may have any size");
        let first = credit.spend(60);
        assert!(credit.allows(40, &limits));
        assert!(!credit.allows(41, &limits));
        credit.spend(10);
        assert!(!credit.allows(0, &limits), "two commands are unanswered");
        credit.on_answer(first);
        assert!(credit.allows(90, &limits));
    }

    #[test]
    fn answers_may_come_out_of_turn() {
        let mut credit = Credit::default();
        let tickets: Vec<_> = (0..3).map(|_| credit.spend(10)).collect();
        for ticket in [tickets[1], tickets[2], tickets[0]] {
            assert!(!credit.is_settled());
            credit.on_answer(ticket);
        }
        assert!(credit.is_settled());
        assert!(credit.in_flight.is_empty());
    }

    #[test]
    fn a_repeated_or_foreign_answer_changes_nothing() {
        let (mut credit, limits) = (Credit::default(), limits(8, 100));
        let ticket = credit.spend(5);
        credit.spend(5);
        credit.on_answer(Ticket(99));
        credit.on_answer(ticket);
        credit.on_answer(ticket);
        assert!(!credit.is_settled());
        assert!(credit.allows(95, &limits) && !credit.allows(96, &limits));
    }
}
