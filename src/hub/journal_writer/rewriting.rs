//! Sessions in a ring of files: each is written again before its last whole record is dropped, and given up where there are too many.
//!
//! Let R be the bytes that are written behind a record before it is dropped ([`ring_bytes`](crate::journal::Journal::ring_bytes)). A session
//! is due once its newest whole record lies 3R/8 behind the head. From then on, each byte of the ring that an appended record uses
//! earns three bytes of carrying, spent on the session whose record is the oldest.
//!
//! **Invariant**: a session is written again before its record is dropped. All sessions together have at most R/4 bytes. While the ring
//! continues by the 5R/8 that are left to a session that is due, 5R/32 are appended and 15R/32 can be carried. What is carried before it
//! are sessions with older records: R/4 bytes as they stand when it becomes due, and at most as much as is appended meanwhile by which
//! they grow, 13R/32 in all. The rest, R/16, is for one session that waits for its last bytes, for a look at the ring that is one
//! piece of its index late, and for what sessions leave free at the ends of segments.
//!
//! So the ring never takes more than four times what is appended, and an idle server writes nothing.

use super::JournalWriter;
use crate::ids::Offset;
use crate::journal::{GiveUpReason, Record, RecordBody};

/// Bytes of carrying for each byte that an appended record uses.
const CARRIED_PER_BYTE: u64 = 3;

/// Sessions given up behind one record. Only a start with smaller bounds than before gives up more, a part behind each record.
const GIVEN_UP_AT_A_TIME: usize = 256;

/// Between two warnings that sessions were given up, or nearly fill their bound.
const WARNING_INTERVAL_MS: u64 = 10_000;

/// The account of what may be carried.
#[derive(Debug, Default)]
pub(super) struct Rewriting {
    /// Bytes of the ring that were used at the last look.
    used: u64,
    /// Bytes that may be carried.
    credit: u64,
    /// Sessions given up and not reported yet.
    given_up: usize,
    /// Time of the next warning.
    warn_at_unix_ms: u64,
}

impl Rewriting {
    pub(super) fn new(used: u64) -> Self {
        Self { used, ..Self::default() }
    }
}

impl JournalWriter {
    /// Writes again what is due, as far as the records that were appended have earned it.
    pub(super) fn carry_forward(&mut self) {
        let used = self.journal.used_bytes();
        self.rewriting.credit += CARRIED_PER_BYTE * (used - self.rewriting.used);
        self.rewriting.used = used;
        let at_risk = self.journal.at_risk();
        if !self.sessions.has_at_risk(at_risk) {
            self.rewriting.credit = 0;
            return;
        }
        while let Some(session) = self.sessions.at_risk(at_risk, self.rewriting.credit as usize) {
            let offset = self.next();
            self.append(offset, RecordBody::Session(Box::new(session)));
            let used = self.journal.used_bytes();
            self.rewriting.credit = self.rewriting.credit.saturating_sub(used - self.rewriting.used);
            self.rewriting.used = used;
        }
    }

    /// Gives up sessions that are too large, or have no room beside the others.
    pub(super) fn keep_within_bounds(&mut self) {
        for _ in 0..GIVEN_UP_AT_A_TIME {
            let Some(entry) = self.sessions.next_to_give_up() else { return };
            if let RecordBody::GivenUp { socket, why } = &entry {
                log::debug!("session given up socket={socket} reason={why:?}");
                self.metrics.hub.given_up.add(1);
                self.rewriting.given_up += usize::from(*why == GiveUpReason::NoRoom);
            }
            self.note(entry);
        }
    }

    /// Journals what the hub decides about sessions by itself. Where the journal ends with its process, they alone have to know.
    pub(super) fn note(&mut self, entry: RecordBody) {
        if self.journal.ring_bytes().is_some() {
            let offset = self.next();
            self.append(offset, entry);
        } else {
            let Offset { lsn, fingerprint, .. } = self.applied;
            self.sessions.apply(&Record { lsn, fingerprint, body: entry });
        }
    }

    /// Shows how much room sessions take, and warns before and when there is too little.
    pub(super) fn report_bytes(&mut self, now_unix_ms: u64) {
        let (bytes, bytes_max) = self.sessions.bytes();
        self.metrics.hub.recovery_session_bytes.set(bytes);
        let is_scarce = bytes / 4 >= bytes_max / 5 && bytes > 0;
        if (is_scarce || self.rewriting.given_up > 0) && now_unix_ms >= self.rewriting.warn_at_unix_ms {
            let given_up = std::mem::take(&mut self.rewriting.given_up);
            self.rewriting.warn_at_unix_ms = now_unix_ms.saturating_add(WARNING_INTERVAL_MS);
            log::warn!(
                "room for recoverable sessions is scarce bytes={bytes} bytes_max={bytes_max} sessions={} given_up={given_up}; \
                 set journal_segment_bytes or recovery_bytes_max higher",
                self.sessions.len()
            );
        }
    }
}
