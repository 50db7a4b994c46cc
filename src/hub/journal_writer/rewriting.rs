//! Rewriting of sessions before a ring of files drops their records, and giving up of sessions that
//! exceed the bounds.
//!
//! Let R be the bytes written after a record before the record is dropped
//! ([`ring_bytes`](crate::journal::Journal::ring_bytes)). A session is due once its newest complete
//! record is 3R/8 behind the head. While sessions are due, each byte that an appended record
//! occupies in the ring adds three bytes to the credit for rewriting. The credit is used for the
//! session with the oldest record.
//!
//! **Invariant**: a session is rewritten before its record is dropped. All sessions together have
//! at most R/4 bytes. When a session becomes due, the ring can advance by 5R/8 before the record of
//! the session is dropped. Of these bytes, 5R/32 are appended and 15R/32 can be rewritten. The
//! sessions with older records are rewritten first. They have at most R/4 bytes, and grow by at
//! most the 5R/32 that are appended meanwhile, so they need at most 13R/32. The remaining R/16
//! covers one session that waits for its last bytes of credit, an index that is one entry late, and
//! the bytes left free at the ends of segments, and the position in the queue, which is repeated
//! after each 3R/8.
//!
//! In total, at most four times the appended bytes are written to the ring, and an idle server
//! writes nothing.

use super::JournalWriter;
use crate::ids::{Lsn, Offset};
use crate::journal::{GiveUpReason, Record, RecordBody};

/// Bytes that may be rewritten for each byte that an appended record occupies.
const REWRITTEN_PER_BYTE: u64 = 3;

/// Maximum number of sessions given up after one record. More sessions may exceed the bounds if
/// these were lowered before this start.
const GIVEN_UP_AT_A_TIME: usize = 256;

/// Minimum interval between warnings about sessions that were given up or that nearly fill their
/// bound.
const WARNING_INTERVAL_MS: u64 = 10_000;

#[derive(Debug, Default)]
pub(super) struct Rewriting {
    /// Used bytes of the ring at the last update of `credit`.
    used: u64,
    /// Bytes that may be rewritten.
    credit: u64,
    /// Number of sessions given up for lack of room since the last warning.
    given_up: usize,
    /// Earliest time of the next warning.
    warn_at_unix_ms: u64,
}

impl Rewriting {
    pub(super) fn new(used: u64) -> Self {
        Self { used, ..Self::default() }
    }
}

impl JournalWriter {
    /// Rewrites due sessions, as long as the credit covers all bytes of the next session.
    pub(super) fn rewrite_sessions(&mut self) {
        let used = self.journal.used_bytes();
        self.rewriting.credit += REWRITTEN_PER_BYTE * (used - self.rewriting.used);
        self.rewriting.used = used;
        let at_risk = self.journal.at_risk();
        self.rewrite_stored(at_risk);
        if !self.sessions.has_at_risk(at_risk) {
            self.rewriting.credit = 0;
            return;
        }
        while let Some(session) = self.sessions.at_risk(at_risk, self.rewriting.credit as usize) {
            let offset = self.next_offset();
            self.append(offset, RecordBody::Session(Box::new(session)));
            let used = self.journal.used_bytes();
            self.rewriting.credit = self.rewriting.credit.saturating_sub(used - self.rewriting.used);
            self.rewriting.used = used;
        }
    }

    /// Repeats the position in the queue before the ring drops the record that says it. Otherwise,
    /// a queue that is restored from a copy would use numbers again.
    fn rewrite_stored(&mut self, at_risk: Lsn) {
        if let Some(stored) = self.newest_stored
            && self.newest_stored_at <= at_risk
            && self.journal.ring_bytes().is_some()
        {
            let offset = self.next_offset();
            self.append(offset, RecordBody::Stored(stored));
            self.rewriting.used = self.journal.used_bytes();
        }
    }

    pub(super) fn give_up_excess(&mut self) {
        for _ in 0..GIVEN_UP_AT_A_TIME {
            let Some(body) = self.sessions.next_to_give_up() else { return };
            if let RecordBody::GivenUp { socket, why } = &body {
                log::debug!("session given up socket={socket} reason={why:?}");
                self.metrics.hub.given_up.add(1);
                self.rewriting.given_up += usize::from(*why == GiveUpReason::NoRoom);
            }
            self.journal_decision(body);
        }
    }

    /// Journals a decision of the hub about sessions. If the journal is in memory, only the index
    /// is updated.
    pub(super) fn journal_decision(&mut self, body: RecordBody) {
        if self.journal.ring_bytes().is_some() {
            let offset = self.next_offset();
            self.append(offset, body);
        } else {
            let Offset { lsn, fingerprint, .. } = self.applied;
            self.sessions.apply(&Record { lsn, fingerprint, body });
        }
    }

    /// Reports the bytes of all sessions in the metrics. Warns if the bytes are near their maximum,
    /// or if sessions were given up for lack of room.
    pub(super) fn report_bytes(&mut self, now_unix_ms: u64) {
        let (bytes, bytes_max) = self.sessions.bytes();
        self.metrics.hub.recovery_session_bytes.set(bytes);
        let is_scarce = bytes / 4 >= bytes_max / 5 && bytes > 0;
        if (is_scarce || self.rewriting.given_up > 0) && now_unix_ms >= self.rewriting.warn_at_unix_ms {
            let given_up = std::mem::take(&mut self.rewriting.given_up);
            self.rewriting.warn_at_unix_ms = now_unix_ms.saturating_add(WARNING_INTERVAL_MS);
            log::warn!(
                "recoverable sessions are near their maximum bytes={bytes} bytes_max={bytes_max} sessions={} given_up={given_up}; \
                 raise journal_segment_bytes or recovery_bytes_max",
                self.sessions.len()
            );
        }
    }
}
