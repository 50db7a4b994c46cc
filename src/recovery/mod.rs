//! Index of recoverable sessions. It determines whether a client can resume a session, from which
//! position, and which events the client has missed.
//!
//! **Invariant**: a resume succeeds only if every event for the session after the given position
//! can be read from the journal. Otherwise, the resume is refused with a reason. A resume may also
//! be refused although no event was missed (see [`NotRecovered`]).
//!
//! The index is built from records in the order of the hub. The same records lead to the same
//! state, whether they are applied at run time or read at the start of a process. The index does no
//! I/O. Callers pass the journal positions and the time.

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
    /// Time for which a session can be resumed after its connection was lost. Socket.IO's name for
    /// this setting is `maxDisconnectionDuration`.
    pub window: Duration,
    /// Maximum number of sessions. Beyond the maximum, the session that has been disconnected
    /// longest is forgotten. If all sessions are connected, the newest is forgotten.
    pub sessions_max: usize,
    /// Maximum number of bytes of all sessions together. Each session counts 128 bytes, plus 64 for
    /// each interval in a room, plus the bytes of its namespace, room names and data. A session
    /// that was given up counts 64 bytes. Beyond the maximum, sessions are given up, so that they
    /// can no longer be resumed: first those larger than 1 KiB, the largest first, then those
    /// disconnected longest, then the one that grew last.
    pub bytes_max: usize,
    /// Maximum number of bytes of one session, counted as in `bytes_max`. A larger session is given
    /// up.
    pub session_bytes_max: usize,
    /// Maximum number of intervals of one session. If a session has more, its intervals that no
    /// resume needs are forgotten. If too many intervals remain, the session is given up.
    pub intervals_max: usize,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct MissedEvents<'a> {
    session: &'a RecoverableSession,
    activity: &'a Activity,
}

impl MissedEvents<'_> {
    /// Returns whether the session should receive the event at `lsn`. This includes events of rooms
    /// that the session has left since. Always false up to the session's position.
    pub(crate) fn includes(self, lsn: Lsn, event: &EventRecord) -> bool {
        self.session.includes_event(lsn, event)
    }

    /// The oldest position after `after` that may hold an event for the session.
    pub(crate) fn next(self, after: Lsn) -> Option<Lsn> {
        self.session.oldest_event(after, self.activity)
    }
}

/// All stored sessions: those that can be resumed, and those that were given up.
#[derive(Debug)]
pub(crate) struct RecoveryIndex {
    bounds: RecoveryBounds,
    /// The sessions are boxed, so that empty buckets of the table are small.
    sessions: HashMap<PrivateId, Box<RecoverableSession>>,
    by_socket: HashMap<SocketId, PrivateId>,
    by_record: BTreeMap<Lsn, PrivateId>,
    /// Disconnected sessions, ordered by the time at which they lost their connection.
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
            RecordBody::Revoked { socket, room } => {
                self.change(socket, |session, activity| session.revoke(room, activity));
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
            RecordBody::Stored(_) => {}
        }
    }

    /// Records that the journal has dropped the records up to `to`. The hub calls this method after
    /// each append.
    pub(crate) fn set_trimmed_to(&mut self, to: Lsn) {
        self.trimmed_to = self.trimmed_to.max(to);
    }

    /// Checks whether a client can resume a session, without changing the index. To resume the
    /// session, the caller closes the stale connection, if there is one, and then journals and
    /// applies a [`Resumed`](RecordBody::Resumed) record.
    pub(crate) fn check_resume(
        &self,
        query: &ResumeQuery<'_>,
        journal_state: &JournalState,
        now_unix_ms: u64,
    ) -> Result<Resumable<'_>, NotRecovered> {
        let ResumeQuery { pid, namespace, offset } = query;
        let session = self.sessions.get(pid);
        // A token from before the session is ignored. A client with a new session keeps the last
        // token of its previous session until it receives an event. All events of the new session
        // have newer tokens.
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

    /// Number of intervals of a session. A resume check reads all of them.
    pub(crate) fn interval_count(&self, pid: &PrivateId) -> Option<usize> {
        self.sessions.get(pid).map(|session| session.intervals())
    }

    /// Returns whether an event for `rooms` (if empty, for the whole namespace) can be for a stored
    /// session. Other events need no record. Only a record makes the index forget a session, so a
    /// session that is unknown now is also unknown after a restart.
    pub(crate) fn concerns(&self, namespace: &NamespacePath, rooms: &[Recipient]) -> bool {
        self.activity.is_known(namespace, rooms)
            || rooms.iter().any(|recipient| {
                let Recipient::Socket(socket) = recipient else { return false };
                let known = self.by_socket.get(socket).and_then(|pid| self.sessions.get(pid));
                known.is_some_and(|known| known.given_up.is_none() && known.namespace == *namespace)
            })
    }

    /// Selects the events for a socket. `None` if the session of the socket is unknown or was given
    /// up.
    pub(crate) fn missed_events(&self, socket: &SocketId) -> Option<MissedEvents<'_>> {
        let session = self.by_socket.get(socket).and_then(|pid| self.sessions.get(pid))?;
        session.given_up.is_none().then_some(MissedEvents { session, activity: &self.activity })
    }

    /// Returns whether the session of a socket is stored. The session may have been given up.
    pub(crate) fn remembers(&self, socket: &SocketId) -> bool {
        self.by_socket.contains_key(socket)
    }

    /// Returns whether the journal still has all events for the socket after `cursor`. The caller
    /// must check this after every read that is marked as trimmed, and after it has journalled a
    /// resume, because that record may trim the journal. If the result is false, the caller must
    /// close the connection.
    pub(crate) fn is_whole(&self, socket: &SocketId, cursor: Lsn, trimmed_to: Lsn) -> bool {
        self.missed_events(socket)
            .is_some_and(|MissedEvents { session, .. }| !session.has_missed(cursor, trimmed_to, &self.activity))
    }

    /// Returns a new complete record of the session whose last complete record is the oldest.
    /// `None` if that last record is newer than `at_risk`, or if the session has more than
    /// `bytes_max` bytes. The caller journals and applies the new record, and calls this method
    /// again.
    pub(crate) fn at_risk(&mut self, at_risk: Lsn, bytes_max: usize) -> Option<SessionRecord> {
        let (record, pid) = self.by_record.first_key_value()?;
        if *record > at_risk || self.sessions.get(pid)?.bytes() > bytes_max {
            return None;
        }
        let pid = *pid;
        self.forget_intervals(&pid);
        Some(self.sessions.get(&pid)?.to_record(&self.activity))
    }

    /// Returns whether any session has its newest complete record at or before position `at_risk`.
    pub(crate) fn has_at_risk(&self, at_risk: Lsn) -> bool {
        self.by_record.first_key_value().is_some_and(|(record, _)| *record <= at_risk)
    }

    /// Returns whether the start of a process must append a
    /// [`ProcessEnded`](RecordBody::ProcessEnded) record, because a session is still marked as
    /// connected or has a time in the future.
    pub(crate) fn is_changed_by_start(&self, now_unix_ms: u64) -> bool {
        self.sessions.values().any(|session| session.connected || session.at_unix_ms > now_unix_ms)
    }

    /// Record that forgets all sessions whose recovery window has passed. `None` if there are no
    /// such sessions.
    pub(crate) fn next_expired(&self, now_unix_ms: u64) -> Option<RecordBody> {
        let (first, _) = self.disconnected.first()?;
        let window = u64::try_from(self.bounds.window.as_millis()).unwrap_or(u64::MAX);
        let until_unix_ms = now_unix_ms.checked_sub(window)?.checked_sub(1)?;
        (*first <= until_unix_ms).then_some(RecordBody::Expired { until_unix_ms })
    }

    /// Number of stored sessions, including those that were given up.
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

    /// Calls `change` with a session, unless the session is unknown or was given up, and updates
    /// its size.
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

    /// Forgets the intervals of a session that no resume needs (see
    /// [`RecoverableSession::forget_intervals`]).
    fn forget_intervals(&mut self, pid: &PrivateId) {
        let Some(session) = self.sessions.get_mut(pid) else { return };
        let before = session.bytes();
        session.forget_intervals(self.trimmed_to, &mut self.activity);
        self.sizes.change(*pid, before, session.bytes());
    }

    /// Drops the state of a session, and stores the reason.
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
        // The rooms and data of the record are ignored, since a session that is already known has
        // more detail.
        self.by_record.remove(&session.record);
        session.record = lsn;
        session.advance_to(record.position);
        self.by_record.insert(lsn, record.pid);
        self.set_connected(&record.pid, record.connected, record.at_unix_ms);
        self.forget_intervals(&record.pid);
    }
}
