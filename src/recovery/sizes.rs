//! The sum of what all sessions count for, and the choice of those that are given up when it is too much.

use std::collections::BTreeSet;

use super::RecoveryIndex;
use crate::ids::PrivateId;
use crate::journal::{GiveUpReason, RecordBody};

/// Sessions above this are ordered by size, and given up before all others. Few honest ones are, so that the order costs little.
const LARGE_BYTES: usize = 1 << 10;

/// What sessions count for.
#[derive(Debug, Default)]
pub(super) struct SessionSizes {
    bytes: usize,
    large: BTreeSet<(usize, PrivateId)>,
    /// The session that grew last.
    grown: Option<PrivateId>,
    /// A session that was in more rooms, one after another, than are remembered.
    pub(super) overflowing: Option<PrivateId>,
}

impl SessionSizes {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A session counted for `before`, and counts for `after` now.
    pub(super) fn change(&mut self, pid: PrivateId, before: usize, after: usize) {
        if before == after {
            return;
        }
        self.bytes = self.bytes - before + after;
        if before > LARGE_BYTES {
            self.large.remove(&(before, pid));
        }
        if after > LARGE_BYTES {
            self.large.insert((after, pid));
        }
        if after > before {
            self.grown = Some(pid);
        }
    }
}

impl RecoveryIndex {
    /// The record by which a session is given up or forgotten, because it is too large or there is no room for all; none if everything
    /// is within the bounds. Journal it, apply it, and ask again.
    pub(crate) fn next_to_give_up(&mut self) -> Option<RecordBody> {
        if let Some(pid) = self.budget.overflowing.take() {
            self.forget_intervals(&pid);
            let session = self.sessions.get(&pid).filter(|session| session.given_up.is_none());
            if let Some(session) = session.filter(|session| session.intervals() > self.bounds.intervals_max) {
                return Some(RecordBody::GivenUp { socket: session.socket, why: GiveUpReason::TooLarge });
            }
        }
        loop {
            let largest = self.budget.large.last().copied();
            let too_large = largest.filter(|(bytes, _)| *bytes > self.bounds.session_bytes_max);
            let is_full = self.budget.bytes > self.bounds.bytes_max;
            let Some((bytes, pid)) = too_large.or_else(|| largest.filter(|_| is_full)) else { break };
            // Perhaps it is large because of rooms that it has left.
            self.forget_intervals(&pid);
            let session = self.sessions.get(&pid)?;
            if session.bytes() == bytes {
                let why = if too_large.is_some() { GiveUpReason::TooLarge } else { GiveUpReason::NoRoom };
                return Some(RecordBody::GivenUp { socket: session.socket, why });
            }
        }
        let has_too_many = self.sessions.len() > self.bounds.sessions_max;
        if !has_too_many && self.budget.bytes <= self.bounds.bytes_max {
            return None;
        }
        let longest_away = self.away.first().map(|(_, pid)| *pid);
        let newest =
            || self.budget.grown.filter(|pid| self.sessions.get(pid).is_some_and(|known| known.given_up.is_none()));
        let any =
            || self.by_record.last_key_value().map(|(_, pid)| *pid).or_else(|| self.sessions.keys().next().copied());
        let session = self.sessions.get(&longest_away.or_else(newest).or_else(any)?)?;
        let (socket, at_unix_ms) = (session.socket, session.at_unix_ms);
        // Of one that was given up the reason is all that is left; and where there are too many, nothing may be.
        Some(if has_too_many || session.given_up.is_some() {
            RecordBody::Disconnect { socket, forever: true, at_unix_ms }
        } else {
            RecordBody::GivenUp { socket, why: GiveUpReason::NoRoom }
        })
    }
}
