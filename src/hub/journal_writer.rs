//! The writer of the journal. It numbers the records and maintains the index of recoverable
//! sessions.
//!
//! Each record gets an LSN and a fingerprint, and is appended to the journal in the order of LSNs.
//! The index is derived from the records only, both at run time and after a restart. If the journal
//! fails, recovery starts over in memory under a new epoch. Clients with older tokens are then
//! notified of a possible loss.

mod clock;
mod missed_events;
mod rewriting;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::clock::Clock;
pub(super) use self::missed_events::MissedChunk;
use self::rewriting::Rewriting;
use crate::ids::{Epoch, Fingerprint, Lsn, NamespacePath, Offset, PrivateId, QueueOffset, Recipient, SocketId};
use crate::journal::memory::MemoryJournal;
use crate::journal::{Journal, JournalError, Record, RecordBody, event_bytes_max};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::protocol::draft::Draft;
use crate::protocol::reason::NotRecovered;
use crate::protocol::socketio::resume::ResumeAttempt;
use crate::queue::change::Refusal;
use crate::recovery::{self, JournalState, RecoveryBounds, RecoveryIndex, Resumable};
use crate::state::rooms::Target;

/// Maximum number of records of one read for a socket that catches up.
const CHUNK_RECORDS: usize = 256;

/// Maximum number of records of one read while the journal is loaded at a start.
const START_CHUNK_RECORDS: usize = 16_384;

/// Maximum number of bytes of one read while the journal is loaded at a start.
const START_CHUNK_BYTES: usize = 4 << 20;

#[derive(Debug, Clone, Copy)]
struct Ring {
    records_max: usize,
    bytes_max: usize,
}

pub(crate) struct JournalWriter {
    journal: Box<dyn Journal>,
    sessions: RecoveryIndex,
    bounds: RecoveryBounds,
    ring: Ring,
    last_lsn: Lsn,
    /// Offset of the newest record. Events without a record carry this offset as their token.
    applied: Offset,
    /// Random source of fingerprints. Later fingerprints must not be guessable by counting, but
    /// need no cryptographic strength.
    random: fastrand::Rng,
    clock: Clock,
    rewriting: Rewriting,
    /// Position in the queue of the newest durable event in the journal.
    newest_stored: Option<QueueOffset>,
    /// LSN of the newest record that says so.
    newest_stored_at: Lsn,
    metrics: Arc<Metrics>,
}

impl JournalWriter {
    /// Builds the index from the journal. Sessions that were connected in the previous process
    /// count as disconnected now.
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
            last_lsn: journal.head(),
            applied: start,
            random: fastrand::Rng::with_seed(seed),
            clock,
            rewriting: Rewriting::new(journal.used_bytes()),
            journal,
            newest_stored: None,
            newest_stored_at: Lsn(0),
            metrics,
        };
        writer.load()?;
        writer.flush();
        Ok(writer)
    }

    /// Reads the whole journal into the index. Sessions are not rewritten here, but later in
    /// proportion to the appended records.
    fn load(&mut self) -> Result<(), JournalError> {
        self.sessions.set_trimmed_to(self.journal.trimmed_to());
        loop {
            let chunk = self.journal.read(self.applied.lsn, START_CHUNK_RECORDS, START_CHUNK_BYTES)?;
            for record in &chunk.records {
                self.sessions.apply(record);
                self.note_stored(record);
                self.applied = Offset { lsn: record.lsn, fingerprint: record.fingerprint, ..self.applied };
            }
            if !chunk.more {
                break;
            }
        }
        let at_unix_ms = self.now_unix_ms();
        if self.sessions.is_changed_by_start(at_unix_ms) {
            self.journal_decision(RecordBody::ProcessEnded { at_unix_ms });
        }
        Ok(())
    }

    pub(super) fn now_unix_ms(&self) -> u64 {
        self.clock.now_unix_ms()
    }

    fn note_stored(&mut self, record: &Record) {
        if let Some(stored) = record.body.stored() {
            (self.newest_stored, self.newest_stored_at) = (Some(stored), record.lsn);
        }
    }

    /// Carries over what a discarded journal knew of the queue.
    pub(crate) fn carry_stored(&mut self, stored: QueueOffset) {
        if self.newest_stored.is_none() {
            self.newest_stored = Some(stored);
            self.journal_decision(RecordBody::Stored(stored));
            self.flush();
        }
    }

    /// Position in the queue of the newest durable event that was revealed, by the journal.
    pub(crate) fn newest_stored(&self) -> Option<QueueOffset> {
        self.newest_stored
    }

    /// Checks that the journal can hold a durable event, before the event is stored.
    pub(super) fn check_event(&self, namespace: &NamespacePath, target: &Target, draft: &Draft) -> Result<(), Refusal> {
        let Some(limit) = self.journal.record_bytes_max() else { return Ok(()) };
        let names = target.rooms.iter().chain(&target.except).map(Recipient::name_len);
        let bytes = event_bytes_max(namespace, names, draft.packets(), draft.packet_bytes_max());
        if bytes > limit { Err(Refusal::TooLarge { bytes, limit }) } else { Ok(()) }
    }

    pub(crate) fn session_bytes(&self) -> (usize, usize) {
        self.sessions.bytes()
    }

    pub(crate) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn applied(&self) -> Offset {
        self.applied
    }

    /// Allocates the next LSN and its fingerprint.
    pub(super) fn next_offset(&mut self) -> Offset {
        self.last_lsn = self.last_lsn.next();
        let fingerprint = Fingerprint::new(self.random.u32(..1 << 24));
        Offset { epoch: self.journal.epoch(), lsn: self.last_lsn, fingerprint }
    }

    /// Returns true if the socket has a session that was not given up.
    pub(super) fn is_recoverable(&self, socket: &SocketId) -> bool {
        self.sessions.missed_events(socket).is_some()
    }

    pub(super) fn remembers(&self, socket: &SocketId) -> bool {
        self.sessions.remembers(socket)
    }

    /// Returns true if a known session may receive an event for these recipients. An event that no
    /// known session may receive needs no record.
    pub(super) fn concerns(&self, namespace: &NamespacePath, rooms: &[Recipient]) -> bool {
        self.sessions.concerns(namespace, rooms)
    }

    /// Journals a record. Returns false if the record is too large. The event of that record must
    /// then not be sent.
    pub(super) fn journal(&mut self, offset: Offset, body: RecordBody) -> bool {
        let is_journalled = self.append(offset, body);
        self.give_up_excess();
        self.rewrite_sessions();
        is_journalled
    }

    fn append(&mut self, offset: Offset, body: RecordBody) -> bool {
        let record = Record { lsn: offset.lsn, fingerprint: offset.fingerprint, body };
        // Update the index first, since the append consumes the record. If the journal then rejects
        // the record, the index contains one event too many. The only possible effect is that a
        // resume is refused.
        self.sessions.apply(&record);
        self.note_stored(&record);
        match self.journal.append(record) {
            Ok(()) => {}
            Err(error @ JournalError::TooLarge { .. }) => {
                log::error!("record not journalled lsn={} error={error}", offset.lsn.0);
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

    pub(super) fn interval_count(&self, pid: &PrivateId) -> Option<usize> {
        self.sessions.interval_count(pid)
    }

    pub(super) fn check_resume(
        &self,
        claim: ResumeAttempt,
        namespace: &NamespacePath,
    ) -> Result<Resumable<'_>, NotRecovered> {
        let ResumeAttempt { pid, offset } = claim;
        let journal_state = JournalState::of(&*self.journal, offset.as_ref());
        self.sessions.check_resume(
            &recovery::ResumeQuery { pid, namespace, offset },
            &journal_state,
            self.now_unix_ms(),
        )
    }

    /// Writes the records of a turn to the journal. The hub sends the turn's events only
    /// afterwards.
    pub(super) fn flush(&mut self) {
        let now_unix_ms = self.now_unix_ms();
        if let Some(expired) = self.sessions.next_expired(now_unix_ms) {
            self.journal_decision(expired);
        }
        if let Err(error) = self.journal.flush() {
            self.restart_in_memory(&error);
        }
        self.metrics.hub.recovery_sessions.set(self.sessions.len());
        self.report_bytes(now_unix_ms);
    }

    /// Closes the journal. Later records are kept in memory.
    pub(super) fn close(&mut self) {
        if let Err(error) = self.journal.close() {
            log::error!("journal not closed, no session survives the restart error={error}");
        }
        self.replace();
    }

    /// Replaces a failed journal by one in memory. Clients with tokens of the old epoch are
    /// notified of a possible loss.
    fn restart_in_memory(&mut self, error: &JournalError) {
        log::error!("journal failed, recovery starts over in memory until the next restart error={error}");
        self.metrics.hub.journals_failed.add(1);
        self.replace();
    }

    fn replace(&mut self) {
        let epoch = Epoch::new((self.now_unix_ms() / 1_000) as u32, self.random.u16(..));
        let Ring { records_max, bytes_max } = self.ring;
        self.applied = Offset { epoch, lsn: self.last_lsn, fingerprint: Fingerprint::new(0) };
        self.journal = Box::new(MemoryJournal::new(epoch, self.last_lsn, records_max, bytes_max));
        self.rewriting = Rewriting::new(self.journal.used_bytes());
        self.sessions = RecoveryIndex::new(self.bounds);
        self.sessions.set_trimmed_to(self.last_lsn);
    }
}

/// The bounds of the index. All sessions together use at most a quarter of the ring (see
/// [`rewriting`]).
fn bounds(limits: &Limits, ring_bytes: Option<u64>) -> RecoveryBounds {
    let quarter = ring_bytes.map_or(usize::MAX, |bytes| usize::try_from(bytes / 4).unwrap_or(usize::MAX));
    let bytes_max = limits.recovery.bytes_max.min(quarter);
    RecoveryBounds {
        window: limits.recovery.window,
        sessions_max: limits.recovery.sessions_max,
        bytes_max,
        // One session uses at most a quarter of the bytes of all sessions, even if the ring is
        // small.
        session_bytes_max: limits.recovery.session_bytes_max.min(bytes_max / 4),
        intervals_max: limits.sockets.rooms_max.saturating_add(limits.recovery.left_rooms_max),
    }
}
