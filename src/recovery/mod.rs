//! The index of recoverable sessions: which of them a client can resume, from which position, and
//! which events it has missed.
//!
//! **Invariant**: a resume succeeds only if every event for the session after the given position
//! can be read from the journal; otherwise it is refused with a reason. It may be refused although
//! no event was missed (see [`NotRecovered`]).
//!
//! The index is built from records in hub order. The same records lead to the same state, at run
//! time and at a start. It is sans-IO: journal positions and time are arguments.

mod ack_wanted;
mod activity;
mod intervals;
#[cfg(test)]
mod model;
mod resume;
mod session;
mod sizes;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use self::ack_wanted::wants_ack;
use self::activity::Activity;
pub(crate) use self::resume::{JournalState, Resumable, ResumeQuery};
use self::session::RecoverableSession;
use self::sizes::SessionSizes;
use crate::ids::{Lsn, NamespacePath, PrivateId, Recipient, RoomName, SocketId};
use crate::journal::{EventRecord, GiveUpReason, Record, RecordBody, RoomSpan, SessionRecord};
use crate::protocol::reason::NotRecovered;

#[derive(Debug, Clone, Copy)]
pub(crate) struct RecoveryBounds {
    /// Time for which a session can be resumed after its connection was lost; Socket.IO's
    /// `maxDisconnectionDuration`.
    pub window: Duration,
    /// Maximum number of sessions. A further one replaces the session that has been disconnected
    /// longest. If all are connected, the newest cannot be resumed.
    pub sessions_max: usize,
    /// Maximum number of bytes of all sessions: 128 for each session, 64 for each interval in a
    /// room, and the bytes of namespaces, room names and data. Above this bound, sessions are given
    /// up: first those above 1 KiB in order of size, then those disconnected longest, then the
    /// newest.
    pub bytes_max: usize,
    /// Maximum number of bytes of one session, counted as in `bytes_max`. A larger session is given
    /// up: it can no longer be resumed.
    pub session_bytes_max: usize,
    /// Maximum number of intervals of one session. A session with more is given up, after its
    /// intervals before the oldest record have been forgotten.
    pub intervals_max: usize,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct MissedEvents<'a> {
    session: &'a RecoverableSession,
    activity: &'a Activity,
}

impl MissedEvents<'_> {
    /// Returns whether the event at `lsn` is for the session. Valid for positions after the
    /// session's own, and for rooms that it has left since too.
    pub(crate) fn includes(self, lsn: Lsn, event: &EventRecord) -> bool {
        self.session.includes_event(lsn, event)
    }

    /// The oldest position after `after` that may hold an event for the session.
    pub(crate) fn next(self, after: Lsn) -> Option<Lsn> {
        self.session.oldest_event(after, self.activity)
    }
}

/// All sessions that are known, resumable or given up.
#[derive(Debug)]
pub(crate) struct RecoveryIndex {
    bounds: RecoveryBounds,
    /// Boxed, so that empty buckets of the table are small.
    sessions: HashMap<PrivateId, Box<RecoverableSession>>,
    by_socket: HashMap<SocketId, PrivateId>,
    by_record: BTreeMap<Lsn, PrivateId>,
    /// Disconnected sessions by the time at which they lost their connection.
    disconnected: BTreeSet<(u64, PrivateId)>,
    activity: Activity,
    sizes: SessionSizes,
    /// The journal has dropped the records up to this position.
    trimmed_to: Lsn,
}

impl RecoveryIndex {
    pub(crate) fn new(bounds: RecoveryBounds) -> Self {
        Self {
            bounds,
            sessions: HashMap::new(),
            by_socket: HashMap::new(),
            by_record: BTreeMap::new(),
            disconnected: BTreeSet::new(),
            activity: Activity::default(),
            sizes: SessionSizes::default(),
            trimmed_to: Lsn(0),
        }
    }

    /// Applies the next record. A record of an unknown socket changes nothing.
    pub(crate) fn apply(&mut self, record: &Record) {
        let lsn = record.lsn;
        match &record.body {
            RecordBody::Event(event) => {
                let wants_ack = wants_ack(&event.message);
                self.activity.push(&event.namespace, &event.rooms, lsn, wants_ack);
                for recipient in &event.rooms {
                    let Recipient::Socket(socket) = recipient else { continue };
                    let known = self.session(socket).filter(|(session, _)| session.namespace == event.namespace);
                    if let Some((session, _)) = known {
                        session.push_own_event(lsn, wants_ack);
                    }
                }
            }
            RecordBody::Connect { pid, socket, namespace, at_unix_ms } => {
                self.insert(RecoverableSession::new(*pid, *socket, namespace.clone(), *at_unix_ms, lsn), &[]);
            }
            RecordBody::Join { socket, room } => self.join(socket, room, lsn),
            RecordBody::Leave { socket, room } => {
                if let Some((session, _)) = self.session(socket) {
                    session.leave(room, lsn);
                }
            }
            RecordBody::Data { socket, data } => self.change(socket, |session, _| session.set_data(data.clone())),
            RecordBody::Disconnect { socket, forever, at_unix_ms } => self.disconnect(socket, *forever, *at_unix_ms),
            RecordBody::Session(session) => self.apply_session(session, lsn),
            RecordBody::Resumed { socket, position, at_unix_ms } => self.apply_resume(socket, *position, *at_unix_ms),
            RecordBody::ProcessEnded { at_unix_ms } => self.end_process(*at_unix_ms),
            RecordBody::GivenUp { socket, why } => self.give_up(socket, *why),
            RecordBody::Expired { until_unix_ms } => {
                while let Some((_, pid)) =
                    self.disconnected.first().copied().filter(|(since, _)| since <= until_unix_ms)
                {
                    self.forget(&pid);
                }
            }
        }
    }

    /// Records that the journal has dropped the records up to `to`. The hub calls it after each
    /// append.
    pub(crate) fn set_trimmed_to(&mut self, to: Lsn) {
        self.trimmed_to = self.trimmed_to.max(to);
    }

    /// Checks whether a client can resume a session. Changes nothing. To resume it, the caller
    /// evicts the stale connection, if there is one, and journals and applies a
    /// [`Resumed`](RecordBody::Resumed).
    pub(crate) fn check_resume(
        &self,
        query: &ResumeQuery<'_>,
        journal_state: &JournalState,
        now_unix_ms: u64,
    ) -> Result<Resumable<'_>, NotRecovered> {
        let ResumeQuery { pid, namespace, offset } = query;
        let session = self.sessions.get(pid);
        // A client with a new session keeps the last token of its previous one until it receives
        // another. Such a token is older than the session, since all events of this session have
        // newer tokens.
        let offset =
            offset.filter(|offset| !session.is_some_and(|session| session.began_after(offset, journal_state.epoch)));
        if offset.is_some_and(|offset| offset.epoch != journal_state.epoch) {
            return Err(NotRecovered::ForeignEpoch);
        }
        let session = session.ok_or(NotRecovered::UnknownPid)?;
        if session.namespace != **namespace {
            return Err(NotRecovered::OtherNamespace);
        }
        if let Some(why) = session.given_up {
            return Err(why.into());
        }
        if !session.connected && self.has_expired(session.at_unix_ms, now_unix_ms) {
            return Err(NotRecovered::Expired);
        }
        let position = offset.map_or_else(|| session.position(), |offset| offset.lsn);
        if position > journal_state.head {
            return Err(NotRecovered::FutureOffset);
        }
        if offset.is_some() && !journal_state.knows_offset {
            return Err(NotRecovered::UnknownOffset);
        }
        if position < session.position() {
            return Err(NotRecovered::OldOffset);
        }
        if let Some(why) = session.resume_error(position, journal_state.trimmed_to, &self.activity) {
            return Err(why);
        }
        if offset.is_none() && session.rooms_now().next().is_none() {
            return Err(NotRecovered::NothingToRecover);
        }
        Ok(Resumable { position, session })
    }

    /// Number of a session's intervals, each of which a resume check looks at.
    pub(crate) fn interval_count(&self, pid: &PrivateId) -> Option<usize> {
        self.sessions.get(pid).map(|session| session.intervals())
    }

    /// Returns whether an event for these recipients (none means the whole namespace) can be for a
    /// known session. Other events need no record, because sessions are forgotten by a record only,
    /// so that no later start knows more sessions.
    pub(crate) fn concerns(&self, namespace: &NamespacePath, rooms: &[Recipient]) -> bool {
        self.activity.is_known(namespace, rooms)
            || rooms.iter().any(|recipient| {
                let Recipient::Socket(socket) = recipient else { return false };
                let known = self.by_socket.get(socket).and_then(|pid| self.sessions.get(pid));
                known.is_some_and(|known| known.given_up.is_none() && known.namespace == *namespace)
            })
    }

    /// The events for a socket; `None` if its session is unknown or given up.
    pub(crate) fn missed_events(&self, socket: &SocketId) -> Option<MissedEvents<'_>> {
        let session = self.by_socket.get(socket).and_then(|pid| self.sessions.get(pid))?;
        session.given_up.is_none().then_some(MissedEvents { session, activity: &self.activity })
    }

    /// Returns whether the session of a socket is known, resumable or given up.
    pub(crate) fn remembers(&self, socket: &SocketId) -> bool {
        self.by_socket.contains_key(socket)
    }

    /// Returns whether the journal still has all events for the socket after `cursor`. The caller
    /// checks this after every trimmed read. It also does so after it has journalled a resume,
    /// because that record may trim the journal. If this returns false, the caller must close the
    /// connection.
    pub(crate) fn is_whole(&self, socket: &SocketId, cursor: Lsn, trimmed_to: Lsn) -> bool {
        self.missed_events(socket)
            .is_some_and(|MissedEvents { session, .. }| !session.has_missed(cursor, trimmed_to, &self.activity))
    }

    /// The record of the session to be rewritten next: the one with the oldest complete record, if
    /// that is not newer than `at_risk` and the session has at most `bytes_max` bytes. The caller
    /// journals and applies the record, and asks again.
    pub(crate) fn at_risk(&mut self, at_risk: Lsn, bytes_max: usize) -> Option<SessionRecord> {
        let (record, pid) = self.by_record.first_key_value()?;
        if *record > at_risk || self.sessions.get(pid)?.bytes() > bytes_max {
            return None;
        }
        let pid = *pid;
        self.forget_intervals(&pid);
        Some(self.sessions.get(&pid)?.to_record(&self.activity))
    }

    /// Returns whether a session's newest complete record is not newer than `at_risk`.
    pub(crate) fn has_at_risk(&self, at_risk: Lsn) -> bool {
        self.by_record.first_key_value().is_some_and(|(record, _)| *record <= at_risk)
    }

    /// Returns whether a start needs a [`ProcessEnded`](RecordBody::ProcessEnded): a session seems
    /// connected, or has a time in the future.
    pub(crate) fn is_changed_by_start(&self, now_unix_ms: u64) -> bool {
        self.sessions.values().any(|session| session.connected || session.at_unix_ms > now_unix_ms)
    }

    /// The record that forgets all sessions whose window has passed; `None` if there are none.
    pub(crate) fn next_expired(&self, now_unix_ms: u64) -> Option<RecordBody> {
        let (first, _) = self.disconnected.first()?;
        let window = u64::try_from(self.bounds.window.as_millis()).unwrap_or(u64::MAX);
        let until_unix_ms = now_unix_ms.checked_sub(window)?.checked_sub(1)?;
        (*first <= until_unix_ms).then_some(RecordBody::Expired { until_unix_ms })
    }

    /// Number of known sessions, resumable or given up.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(crate) fn bytes(&self) -> (usize, usize) {
        (self.sizes.bytes(), self.bounds.bytes_max)
    }

    fn has_expired(&self, at_unix_ms: u64, now_unix_ms: u64) -> bool {
        u128::from(now_unix_ms.saturating_sub(at_unix_ms)) > self.bounds.window.as_millis()
    }

    fn session(&mut self, socket: &SocketId) -> Option<(&mut RecoverableSession, &mut Activity)> {
        let session = self.sessions.get_mut(self.by_socket.get(socket)?)?;
        session.given_up.is_none().then_some((session, &mut self.activity))
    }

    /// Changes a session that is not given up, and updates its size.
    fn change(&mut self, socket: &SocketId, change: impl FnOnce(&mut RecoverableSession, &mut Activity)) {
        let Some((session, activity)) = self.session(socket) else { return };
        let before = session.bytes();
        change(session, activity);
        let (pid, after) = (session.pid, session.bytes());
        self.sizes.change(pid, before, after);
    }

    fn insert(&mut self, mut session: RecoverableSession, rooms: &[RoomSpan]) {
        self.forget(&session.pid);
        if let Some(pid) = self.by_socket.get(&session.socket).copied() {
            self.forget(&pid);
        }
        session.enter(rooms, &mut self.activity);
        self.sizes.change(session.pid, 0, session.bytes());
        self.by_socket.insert(session.socket, session.pid);
        self.by_record.insert(session.record, session.pid);
        if !session.connected {
            self.disconnected.insert((session.at_unix_ms, session.pid));
        }
        self.sessions.insert(session.pid, Box::new(session));
    }

    fn forget(&mut self, pid: &PrivateId) {
        let Some(mut session) = self.sessions.remove(pid) else { return };
        self.by_socket.remove(&session.socket);
        self.disconnected.remove(&(session.at_unix_ms, *pid));
        self.sizes.change(*pid, session.bytes(), 0);
        if session.given_up.is_none() {
            self.by_record.remove(&session.record);
            session.exit(&mut self.activity);
        }
    }

    /// Forgets the intervals of a session that end before every position it can be resumed from.
    fn forget_intervals(&mut self, pid: &PrivateId) {
        let Some(session) = self.sessions.get_mut(pid) else { return };
        let before = session.bytes();
        session.forget_intervals(self.trimmed_to, &mut self.activity);
        self.sizes.change(*pid, before, session.bytes());
    }

    /// Drops the state of a session except for the reason.
    fn give_up(&mut self, socket: &SocketId, why: GiveUpReason) {
        self.change(socket, |session, activity| {
            session.given_up = Some(why);
            session.exit(activity);
        });
        let known = self.by_socket.get(socket).and_then(|pid| self.sessions.get(pid));
        if let Some(session) = known.filter(|session| session.given_up.is_some()) {
            self.by_record.remove(&session.record);
        }
    }

    fn join(&mut self, socket: &SocketId, room: &RoomName, lsn: Lsn) {
        self.change(socket, |session, activity| session.join(room, lsn, activity));
        let intervals_max = self.bounds.intervals_max;
        let Some((session, _)) = self.session(socket) else { return };
        if session.intervals() > intervals_max {
            let pid = session.pid;
            self.sizes.overflowing = Some(pid);
        }
    }

    fn disconnect(&mut self, socket: &SocketId, forever: bool, at_unix_ms: u64) {
        let Some(pid) = self.by_socket.get(socket).copied() else { return };
        if forever {
            // The session is forgotten immediately, so that a client that repeatedly connects and
            // disconnects displaces no other session.
            self.forget(&pid);
        } else {
            self.set_connected(&pid, false, at_unix_ms);
        }
    }

    fn set_connected(&mut self, pid: &PrivateId, connected: bool, at_unix_ms: u64) {
        let Some(session) = self.sessions.get_mut(pid) else { return };
        if !session.connected {
            self.disconnected.remove(&(session.at_unix_ms, *pid));
        }
        (session.connected, session.at_unix_ms) = (connected, at_unix_ms);
        if !connected {
            self.disconnected.insert((at_unix_ms, *pid));
        }
    }

    fn apply_resume(&mut self, socket: &SocketId, position: Lsn, at_unix_ms: u64) {
        let Some((session, _)) = self.session(socket) else { return };
        session.advance_to(position);
        let pid = session.pid;
        self.set_connected(&pid, true, at_unix_ms);
        self.forget_intervals(&pid);
    }

    fn end_process(&mut self, at_unix_ms: u64) {
        let changed = self.sessions.values().filter(|known| known.connected || known.at_unix_ms > at_unix_ms);
        for pid in changed.map(|known| known.pid).collect::<Vec<_>>() {
            self.set_connected(&pid, false, at_unix_ms);
        }
    }

    fn apply_session(&mut self, record: &SessionRecord, lsn: Lsn) {
        let known = self.sessions.get_mut(&record.pid).filter(|session| session.socket == record.socket);
        let Some(session) = known else {
            return self.insert(RecoverableSession::from_record(record, lsn), &record.rooms);
        };
        if session.given_up.is_some() {
            return;
        }
        // A session that is known already has more detail than the record.
        self.by_record.remove(&session.record);
        session.record = lsn;
        session.advance_to(record.position);
        self.by_record.insert(lsn, record.pid);
        self.set_connected(&record.pid, record.connected, record.at_unix_ms);
        self.forget_intervals(&record.pid);
    }
}
