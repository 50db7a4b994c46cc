//! What the hub keeps so that clients can come back: the journal and its numbers, and who may go on from where.
//!
//! Every recoverable entry gets an LSN and a fingerprint and goes into the journal in that order; what is journalled is what the
//! sessions are known by, at run time and after a restart alike. It refuses to lose anything silently: when the journal fails, it
//! begins anew, so that whoever comes back is told.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::ids::{Epoch, Fingerprint, Lsn, NamespacePath, Offset, SocketId};
use crate::limits::Limits;
use crate::log::memory::MemoryJournal;
use crate::log::recovery::{self, Bounds, Facts, NotRecovered, Recovery};
use crate::log::{Entry, Journal, JournalError, Record, SessionEntry};
use crate::messages::hub::Claim;
use crate::metrics::Metrics;
use crate::protocol::encoded::Message;

/// Records read at a time, here and at a start.
const CHUNK_RECORDS: usize = 256;

/// Bytes read at a time for a client, whoever they were for.
const CHUNK_BYTES: usize = 256 << 10;

/// A record larger than this counts as several of those that may be looked at in a turn.
const RECORD_BYTES: usize = 1 << 10;

/// Sessions written again behind one record: a fraction of a millisecond, and more bytes than nearly every record has, so that a
/// segment's sessions are out of it in time.
const CARRIED_AT_A_TIME: usize = 256;

/// Bytes read at a time at a start.
const START_CHUNK_BYTES: usize = 4 << 20;

/// Where a memory journal ends.
#[derive(Debug, Clone, Copy)]
struct Ring {
    records_max: usize,
    bytes_max: usize,
}

/// The one writer of the journal.
pub(crate) struct History {
    journal: Box<dyn Journal>,
    sessions: Recovery,
    bounds: Bounds,
    ring: Ring,
    /// The newest number given.
    given: Lsn,
    /// The newest position applied: what an unnumbered broadcast bears as token.
    applied: Offset,
    /// xorshift64*: fingerprints must not be guessed by counting, more is not asked of them.
    random: u64,
    metrics: Arc<Metrics>,
}

/// What was found for one socket.
#[derive(Debug)]
pub(super) struct Missed {
    /// In order.
    pub(super) events: Vec<(Offset, Message)>,
    /// As far as was looked.
    pub(super) upto: Lsn,
    /// Nothing is left.
    pub(super) is_all: bool,
}

impl History {
    /// Takes up what the journal holds. Sessions that were connected when it ended have lost their connections now.
    pub(crate) fn open(
        journal: Box<dyn Journal>,
        seed: u64,
        limits: &Limits,
        metrics: Arc<Metrics>,
    ) -> Result<Self, JournalError> {
        let bounds = Bounds {
            window: limits.recovery_window,
            sessions_max: limits.recovery_sessions_max,
            stays_max: limits.rooms_per_socket_max.saturating_add(limits.recovery_left_rooms_max),
        };
        let start = Offset { epoch: journal.epoch(), lsn: journal.trimmed_to(), fingerprint: Fingerprint::new(0) };
        let mut history = Self {
            sessions: Recovery::new(bounds),
            bounds,
            ring: Ring { records_max: limits.journal_records_max, bytes_max: limits.journal_bytes_max },
            given: journal.head(),
            applied: start,
            random: seed | 1,
            journal,
            metrics,
        };
        history.take_up()?;
        history.flush();
        Ok(history)
    }

    fn take_up(&mut self) -> Result<(), JournalError> {
        self.sessions.trimmed(self.journal.trimmed_to());
        loop {
            let chunk = self.journal.read(self.applied.lsn, CHUNK_RECORDS, START_CHUNK_BYTES)?;
            for record in &chunk.records {
                self.sessions.apply(record);
                self.applied = Offset { lsn: record.lsn, fingerprint: record.fingerprint, ..self.applied };
            }
            if !chunk.more {
                break;
            }
        }
        let lost: Vec<_> = self.sessions.connected().collect();
        let at_unix_ms = now_unix_ms();
        for socket in lost {
            let offset = self.next();
            self.journal(offset, Entry::Disconnect { socket, forever: false, at_unix_ms });
        }
        self.sessions.expire(at_unix_ms);
        Ok(())
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
        let fingerprint = Fingerprint::new((self.draw() >> 40) as u32);
        Offset { epoch: self.journal.epoch(), lsn: self.given, fingerprint }
    }

    fn draw(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Whether a socket can come back.
    pub(super) fn knows(&self, socket: &SocketId) -> bool {
        self.sessions.owed(socket).is_some()
    }

    /// Whether anything is known of a socket, be it that it cannot come back.
    pub(super) fn remembers(&self, socket: &SocketId) -> bool {
        self.sessions.remembers(socket)
    }

    /// Journals what is about to be revealed. Returns false if it is too large to be kept; then nothing may be revealed.
    pub(super) fn journal(&mut self, offset: Offset, entry: Entry) -> bool {
        let is_kept = self.append(offset, entry);
        self.carry_forward();
        is_kept
    }

    fn append(&mut self, offset: Offset, entry: Entry) -> bool {
        let record = Record { lsn: offset.lsn, fingerprint: offset.fingerprint, entry };
        // Before the journal takes it away. Of a record that is then refused at most too much is known: that something was there.
        self.sessions.apply(&record);
        match self.journal.append(record) {
            Ok(()) => {}
            Err(error @ JournalError::TooLarge { .. }) => {
                log::error!("record not journalled, it is too large lsn={} error={error}", offset.lsn.0);
                return false;
            }
            Err(error) => {
                self.begin_anew(&error);
                return true;
            }
        }
        self.metrics.hub.journalled.add(1);
        self.applied = offset;
        self.sessions.trimmed(self.journal.trimmed_to());
        true
    }

    /// Writes sessions again whose only records are about to go, some behind each record. Numbers that are given and not applied yet
    /// come first, so this may have to wait for the last of them; there is a whole segment of time. A ring too small for all sessions
    /// turns for ever, which is why there is an end to it here: who is not written again in time is unknown to the next start.
    fn carry_forward(&mut self) {
        for _ in 0..CARRIED_AT_A_TIME {
            if self.given != self.applied.lsn {
                return;
            }
            let Some(session) = self.sessions.at_risk(self.journal.at_risk()) else { return };
            let offset = self.next();
            self.append(offset, Entry::Session(Box::new(session)));
        }
    }

    /// What a claim would get now.
    pub(super) fn claim(&self, claim: Claim, namespace: &NamespacePath) -> Result<SessionEntry, NotRecovered> {
        let Claim { pid, offset } = claim;
        let facts = Facts::of(&*self.journal, offset.as_ref());
        self.sessions.resume(&recovery::Claim { pid, namespace, offset }, &facts, now_unix_ms())
    }

    /// Looks for what a socket missed behind `after`, at no more records than are `left` in this turn. None if something of it may be
    /// gone.
    pub(super) fn read(&self, socket: &SocketId, after: Lsn, bytes_max: usize, left: &mut usize) -> Option<Missed> {
        let owed = self.sessions.owed(socket)?;
        let mut missed = Missed { events: Vec::new(), upto: after, is_all: false };
        let mut bytes = 0;
        'looking: while *left > 0 {
            let Some(next) = owed.next(missed.upto) else {
                (missed.upto, missed.is_all) = (self.applied.lsn, true);
                break;
            };
            // What lies between is for others. Not as much as has room: what is not for the socket takes none.
            let after = next.before().max(missed.upto);
            let chunk = match self.journal.read(after, CHUNK_RECORDS.min(*left), CHUNK_BYTES) {
                Ok(chunk) => chunk,
                Err(error) => {
                    log::error!("journal not read, a client is told that it missed something error={error}");
                    return None;
                }
            };
            if chunk.trimmed && !self.sessions.is_whole(socket, missed.upto, self.journal.trimmed_to()) {
                return None;
            }
            for record in chunk.records {
                *left = left.saturating_sub(1 + record.byte_len() / RECORD_BYTES);
                let Record { lsn, fingerprint, entry } = record;
                if let Entry::Event(event) = entry
                    && owed.includes(lsn, &event)
                {
                    bytes += event.message.byte_len();
                    if bytes > bytes_max && !missed.events.is_empty() {
                        break 'looking;
                    }
                    missed.events.push((Offset { epoch: self.applied.epoch, lsn, fingerprint }, event.message.clone()));
                }
                missed.upto = lsn;
            }
            if !chunk.more {
                missed.is_all = true;
                break;
            }
        }
        Some(missed)
    }

    /// The end of a turn: what it journalled is as safe as it will be, and may be revealed.
    pub(super) fn flush(&mut self) {
        if let Err(error) = self.journal.flush() {
            self.begin_anew(&error);
        }
        self.sessions.expire(now_unix_ms());
        self.metrics.hub.recovery_sessions.set(self.sessions.len());
    }

    /// Ends the journal in order. What still comes is kept in memory.
    pub(super) fn close(&mut self) {
        if let Err(error) = self.journal.close() {
            log::error!("journal not closed in order, sessions will not be recovered error={error}");
        }
        self.replace();
    }

    /// The journal takes nothing more. Events go on; whoever comes back with a token of before is told that it missed something.
    fn begin_anew(&mut self, error: &JournalError) {
        log::error!("journal failed, recovery begins anew in memory and until the next start only error={error}");
        self.metrics.hub.journals_failed.add(1);
        self.replace();
    }

    fn replace(&mut self) {
        let epoch = Epoch::new((now_unix_ms() / 1_000) as u32, self.draw() as u16);
        let Ring { records_max, bytes_max } = self.ring;
        self.applied = Offset { epoch, lsn: self.given, fingerprint: Fingerprint::new(0) };
        self.journal = Box::new(MemoryJournal::new(epoch, self.given, records_max, bytes_max));
        self.sessions = Recovery::new(self.bounds);
        self.sessions.trimmed(self.given);
    }
}

/// The wall clock: windows go on through a restart.
pub(super) fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
