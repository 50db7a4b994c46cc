//! What the hub keeps so that clients can come back: the journal and its numbers, and who may go on from where.
//!
//! Every recoverable entry gets an LSN and a fingerprint and goes into the journal in that order; what is journalled is what the
//! sessions are known by, at run time and after a restart alike. It refuses to lose anything silently: when the journal fails, it
//! starts over, so that anyone who comes back is notified.

mod clock;
mod reading;
mod rewriting;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::clock::Clock;
pub(super) use self::reading::ReadError;
use self::rewriting::Rewriting;
use crate::ids::{Epoch, Fingerprint, Lsn, NamespacePath, Offset, PrivateId, Recipient, SocketId};
use crate::journal::memory::MemoryJournal;
use crate::journal::{Journal, JournalError, Record, RecordBody};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::protocol::reason::NotRecovered;
use crate::protocol::socketio::resume::ResumeAttempt;
use crate::recovery::{self, JournalState, RecoveryBounds, RecoveryIndex, Resumable};

/// Records read at a time for a client.
const CHUNK_RECORDS: usize = 256;

/// Records read at a time at a start.
const START_CHUNK_RECORDS: usize = 16_384;

/// Bytes read at a time at a start.
const START_CHUNK_BYTES: usize = 4 << 20;

/// Where a memory journal ends.
#[derive(Debug, Clone, Copy)]
struct Ring {
    records_max: usize,
    bytes_max: usize,
}

/// The one writer of the journal.
pub(crate) struct JournalWriter {
    journal: Box<dyn Journal>,
    sessions: RecoveryIndex,
    bounds: RecoveryBounds,
    ring: Ring,
    /// The newest number given.
    given: Lsn,
    /// The newest position applied: what an unnumbered broadcast bears as token.
    applied: Offset,
    /// Fingerprints must not be guessed by counting; more is not asked of them.
    random: fastrand::Rng,
    clock: Clock,
    rewriting: Rewriting,
    metrics: Arc<Metrics>,
}

impl JournalWriter {
    /// Takes up what the journal holds. Sessions that were connected when it ended have lost their connections now.
    pub(crate) fn open(
        journal: Box<dyn Journal>,
        seed: u64,
        limits: &Limits,
        metrics: Arc<Metrics>,
    ) -> Result<Self, JournalError> {
        Self::open_at(journal, seed, limits, metrics, Clock::start())
    }

    fn open_at(
        journal: Box<dyn Journal>,
        seed: u64,
        limits: &Limits,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Result<Self, JournalError> {
        let bounds = bounds(limits, journal.ring_bytes());
        metrics.hub.recovery_session_bytes_max.set(bounds.bytes_max);
        let start = Offset { epoch: journal.epoch(), lsn: journal.trimmed_to(), fingerprint: Fingerprint::new(0) };
        let mut writer = Self {
            sessions: RecoveryIndex::new(bounds),
            bounds,
            ring: Ring { records_max: limits.journal.records_max, bytes_max: limits.journal.bytes_max },
            given: journal.head(),
            applied: start,
            random: fastrand::Rng::with_seed(seed),
            clock,
            rewriting: Rewriting::new(journal.used_bytes()),
            journal,
            metrics,
        };
        writer.load()?;
        writer.flush();
        Ok(writer)
    }

    /// Reads the journal once. Nothing is written again here: that is earned by what is appended later.
    fn load(&mut self) -> Result<(), JournalError> {
        self.sessions.set_trimmed_to(self.journal.trimmed_to());
        loop {
            let chunk = self.journal.read(self.applied.lsn, START_CHUNK_RECORDS, START_CHUNK_BYTES)?;
            for record in &chunk.records {
                self.sessions.apply(record);
                self.applied = Offset { lsn: record.lsn, fingerprint: record.fingerprint, ..self.applied };
            }
            if !chunk.more {
                break;
            }
        }
        let at_unix_ms = self.now_unix_ms();
        if self.sessions.is_changed_by_start(at_unix_ms) {
            self.note(RecordBody::ProcessEnded { at_unix_ms });
        }
        Ok(())
    }

    /// The time by which recovery windows are counted, in milliseconds since 1970.
    pub(super) fn now_unix_ms(&self) -> u64 {
        self.clock.now_unix_ms()
    }

    /// What sessions count for together, and how much that may be, in bytes.
    pub(crate) fn session_bytes(&self) -> (usize, usize) {
        self.sessions.bytes()
    }

    /// Sessions that clients may go on with.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The newest position applied.
    pub(super) fn applied(&self) -> Offset {
        self.applied
    }

    /// The next number, with its fingerprint.
    pub(super) fn next(&mut self) -> Offset {
        self.given = self.given.next();
        let fingerprint = Fingerprint::new(self.random.u32(..1 << 24));
        Offset { epoch: self.journal.epoch(), lsn: self.given, fingerprint }
    }

    /// Whether a socket can come back.
    pub(super) fn knows(&self, socket: &SocketId) -> bool {
        self.sessions.missed_events(socket).is_some()
    }

    /// Whether a record of this socket exists, resumable or not.
    pub(super) fn remembers(&self, socket: &SocketId) -> bool {
        self.sessions.remembers(socket)
    }

    /// Whether an event for these rooms can be for a client that comes back. If not, it need not be journalled.
    pub(super) fn concerns(&self, namespace: &NamespacePath, rooms: &[Recipient]) -> bool {
        self.sessions.concerns(namespace, rooms)
    }

    /// Journals what is about to be revealed. Returns false if it is too large to be kept; then nothing may be revealed.
    pub(super) fn journal(&mut self, offset: Offset, entry: RecordBody) -> bool {
        let is_kept = self.append(offset, entry);
        self.keep_within_bounds();
        self.carry_forward();
        is_kept
    }

    fn append(&mut self, offset: Offset, entry: RecordBody) -> bool {
        let record = Record { lsn: offset.lsn, fingerprint: offset.fingerprint, body: entry };
        // Before the journal takes it away. Of a record that is then refused at most too much is known: that something was there.
        self.sessions.apply(&record);
        match self.journal.append(record) {
            Ok(()) => {}
            Err(error @ JournalError::TooLarge { .. }) => {
                log::error!("record not journalled, it is too large lsn={} error={error}", offset.lsn.0);
                return false;
            }
            Err(error) => {
                self.restart_in_memory(&error);
                return true;
            }
        }
        self.metrics.hub.journalled.add(1);
        self.applied = offset;
        self.sessions.set_trimmed_to(self.journal.trimmed_to());
        true
    }

    /// Rooms that are known of a session, those it has left among them.
    pub(super) fn rooms_known(&self, pid: &PrivateId) -> Option<usize> {
        self.sessions.stays_of(pid)
    }

    /// What a claim would get now.
    pub(super) fn claim(&self, claim: ResumeAttempt, namespace: &NamespacePath) -> Result<Resumable<'_>, NotRecovered> {
        let ResumeAttempt { pid, offset } = claim;
        let journal_state = JournalState::of(&*self.journal, offset.as_ref());
        self.sessions.check_resume(
            &recovery::ResumeQuery { pid, namespace, offset },
            &journal_state,
            self.now_unix_ms(),
        )
    }

    /// The end of a turn: what it journalled is as safe as it will be, and may be revealed.
    pub(super) fn flush(&mut self) {
        let now_unix_ms = self.now_unix_ms();
        if let Some(expired) = self.sessions.next_expired(now_unix_ms) {
            self.note(expired);
        }
        if let Err(error) = self.journal.flush() {
            self.restart_in_memory(&error);
        }
        self.metrics.hub.recovery_sessions.set(self.sessions.len());
        self.report_bytes(now_unix_ms);
    }

    /// Ends the journal in order. What still comes is kept in memory.
    pub(super) fn close(&mut self) {
        if let Err(error) = self.journal.close() {
            log::error!("journal not closed in order, sessions will not be recovered error={error}");
        }
        self.replace();
    }

    /// The journal takes nothing more. Events go on; anyone who comes back with a token of before is notified that it missed something.
    fn restart_in_memory(&mut self, error: &JournalError) {
        log::error!("journal failed, recovery starts over in memory and until the next start only error={error}");
        self.metrics.hub.journals_failed.add(1);
        self.replace();
    }

    fn replace(&mut self) {
        let epoch = Epoch::new((self.now_unix_ms() / 1_000) as u32, self.random.u16(..));
        let Ring { records_max, bytes_max } = self.ring;
        self.applied = Offset { epoch, lsn: self.given, fingerprint: Fingerprint::new(0) };
        self.journal = Box::new(MemoryJournal::new(epoch, self.given, records_max, bytes_max));
        self.rewriting = Rewriting::new(self.journal.used_bytes());
        self.sessions = RecoveryIndex::new(self.bounds);
        self.sessions.set_trimmed_to(self.given);
    }
}

/// How much is remembered of sessions, where a journal keeps each record for so many bytes.
fn bounds(limits: &Limits, ring_bytes: Option<u64>) -> RecoveryBounds {
    let carried = ring_bytes.map_or(usize::MAX, |bytes| usize::try_from(bytes / 4).unwrap_or(usize::MAX));
    let bytes_max = limits.recovery.bytes_max.min(carried);
    RecoveryBounds {
        window: limits.recovery.window,
        sessions_max: limits.recovery.sessions_max,
        bytes_max,
        // Where the ring is tiny, so that one session is a small part of it.
        session_bytes_max: limits.recovery.session_bytes_max.min(bytes_max / 4),
        intervals_max: limits.sockets.rooms_max.saturating_add(limits.recovery.left_rooms_max),
    }
}
