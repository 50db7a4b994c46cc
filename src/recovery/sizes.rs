//! The counted bytes of all sessions, and the choice of the sessions to give up when a bound is
//! exceeded.

use std::collections::BTreeSet;

use super::RecoveryIndex;
use crate::ids::PrivateId;
use crate::journal::{GiveUpReason, RecordBody};

/// Maximum number of bytes of a session that is not large. Large sessions are given up before all
/// others, the largest first. Few sessions are large, so keeping them in order costs little.
const LARGE_BYTES: usize = 1 << 10;

#[derive(Debug, Default)]
pub(super) struct SessionSizes {
    bytes: usize,
    large: BTreeSet<(usize, PrivateId)>,
    /// The session that grew most recently.
    grown: Option<PrivateId>,
    /// A session with more intervals than the bounds allow.
    pub(super) overflowing: Option<PrivateId>,
}

impl SessionSizes {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

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
    /// Returns the record that gives up or forgets one session, because this session or all
    /// sessions together exceed a bound. `None` if no bound is exceeded. The caller journals and
    /// applies the record, and calls this method again.
    pub(crate) fn next_to_give_up(&mut self) -> Option<RecordBody> {
        if let Some(pid) = self.sizes.overflowing.take() {
            self.forget_intervals(&pid);
            let session = self.sessions.get(&pid).filter(|session| session.given_up.is_none());
            if let Some(session) = session.filter(|session| session.intervals() > self.bounds.intervals_max) {
                return Some(RecordBody::GivenUp { socket: session.socket, why: GiveUpReason::TooLarge });
            }
        }
        loop {
            let largest = self.sizes.large.last().copied();
            let too_large = largest.filter(|(bytes, _)| *bytes > self.bounds.session_bytes_max);
            let is_full = self.sizes.bytes > self.bounds.bytes_max;
            let Some((bytes, pid)) = too_large.or_else(|| largest.filter(|_| is_full)) else { break };
            // Before the session is given up, the intervals that no resume needs are forgotten,
            // which may suffice.
            self.forget_intervals(&pid);
            let session = self.sessions.get(&pid)?;
            if session.bytes() == bytes {
                let why = if too_large.is_some() { GiveUpReason::TooLarge } else { GiveUpReason::NoRoom };
                return Some(RecordBody::GivenUp { socket: session.socket, why });
            }
        }
        let has_too_many = self.sessions.len() > self.bounds.sessions_max;
        if !has_too_many && self.sizes.bytes <= self.bounds.bytes_max {
            return None;
        }
        let longest_disconnected = self.disconnected.first().map(|(_, pid)| *pid);
        let newest =
            || self.sizes.grown.filter(|pid| self.sessions.get(pid).is_some_and(|known| known.given_up.is_none()));
        let any =
            || self.by_record.last_key_value().map(|(_, pid)| *pid).or_else(|| self.sessions.keys().next().copied());
        let session = self.sessions.get(&longest_disconnected.or_else(newest).or_else(any)?)?;
        let (socket, at_unix_ms) = (session.socket, session.at_unix_ms);
        // A session that was already given up, of which only the reason is stored, is forgotten.
        // Beyond the maximum number of sessions, the session is forgotten in any case.
        Some(if has_too_many || session.given_up.is_some() {
            RecordBody::Disconnect { socket, forever: true, at_unix_ms }
        } else {
            RecordBody::GivenUp { socket, why: GiveUpReason::NoRoom }
        })
    }
}
