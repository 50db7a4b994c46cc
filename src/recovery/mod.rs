//! Recovery of connections: which sessions there are, who may resume which, from where, and the events it has missed.
//!
//! **Invariant**: a claim is granted only if every event that was for the session and lies behind the claimed position can be
//! read from the journal; else it is refused with a reason. It may refuse where nothing was missed (see [`NotRecovered`]).
//!
//! It is fed records in hub order, as they are journalled or as they are read back at a start: both give the same state. Sans-IO:
//! it reads no journal and no clock, writes nothing, and replays nothing.

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

/// How much is remembered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecoveryBounds {
    /// For how long a session can be resumed after its connection was lost; Socket.IO's `maxDisconnectionDuration`.
    pub window: Duration,
    /// Sessions known at a time. A further one takes the place of the one that has been away longest; if none is away, it will
    /// not be resumable.
    pub sessions_max: usize,
    /// Bytes of all sessions: 128 each, 64 for each stay in a room, and those of namespaces, room names and data. Beyond, sessions are
    /// given up: those above 1 KiB, the largest first, then those away for longest, then the newest.
    pub bytes_max: usize,
    /// Bytes of one session; a larger one will not be resumable.
    pub session_bytes_max: usize,
    /// Stays in rooms that are known of one session: those that last, and those that ended behind what is trimmed. One that
    /// needs more will not be resumable.
    pub intervals_max: usize,
}

/// The events that one session has missed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MissedEvents<'a> {
    session: &'a RecoverableSession,
    activity: &'a Activity,
}

impl MissedEvents<'_> {
    /// Whether the event at `lsn` is, to one whose cursor has not passed it. Holds for every position behind the one it was
    /// resumed from, also for rooms it has left since.
    pub(crate) fn includes(self, lsn: Lsn, event: &EventRecord) -> bool {
        self.session.includes_event(lsn, event)
    }

    /// The oldest position behind `after` that may hold such an event; none if there is none up to now.
    pub(crate) fn next(self, after: Lsn) -> Option<Lsn> {
        self.session.oldest(after, self.activity)
    }
}

/// Every session that can be resumed.
#[derive(Debug)]
pub(crate) struct RecoveryIndex {
    bounds: RecoveryBounds,
    /// Each by itself, so that places of the table that stand empty are small.
    sessions: HashMap<PrivateId, Box<RecoverableSession>>,
    by_socket: HashMap<SocketId, PrivateId>,
    /// Those that can be resumed, by the newest record that tells all of each.
    by_record: BTreeMap<Lsn, PrivateId>,
    /// Those without a connection, by when they lost it.
    away: BTreeSet<(u64, PrivateId)>,
    activity: Activity,
    budget: SessionSizes,
    /// As far as the journal was known to be trimmed.
    trimmed_to: Lsn,
}

impl RecoveryIndex {
    pub(crate) fn new(bounds: RecoveryBounds) -> Self {
        Self {
            bounds,
            sessions: HashMap::new(),
            by_socket: HashMap::new(),
            by_record: BTreeMap::new(),
            away: BTreeSet::new(),
            activity: Activity::default(),
            budget: SessionSizes::default(),
            trimmed_to: Lsn(0),
        }
    }

    /// Takes what was journalled, in order. Records about sockets that are not known change nothing.
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
                        session.push(lsn, wants_ack);
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
            RecordBody::Session(entry) => self.carry(entry, lsn),
            RecordBody::Resumed { socket, position, at_unix_ms } => self.apply_resume(socket, *position, *at_unix_ms),
            RecordBody::ProcessEnded { at_unix_ms } => self.end_process(*at_unix_ms),
            RecordBody::GivenUp { socket, why } => self.give_up(socket, *why),
            RecordBody::Expired { until_unix_ms } => {
                while let Some((_, pid)) = self.away.first().copied().filter(|(since, _)| since <= until_unix_ms) {
                    self.forget(&pid);
                }
            }
        }
    }

    /// Takes how far the journal is trimmed. The hub says it after appending.
    pub(crate) fn set_trimmed_to(&mut self, to: Lsn) {
        self.trimmed_to = self.trimmed_to.max(to);
    }

    /// Judges a claim. Changes nothing, and copies nothing. To grant it, journal a [`Resumed`](RecordBody::Resumed) and apply that record
    /// before anything is revealed; if the older connection has not been seen to end, let nothing of that one reach the journal any more.
    pub(crate) fn check_resume(
        &self,
        claim: &ResumeQuery<'_>,
        journal_state: &JournalState,
        now_unix_ms: u64,
    ) -> Result<Resumable<'_>, NotRecovered> {
        let ResumeQuery { pid, namespace, offset } = claim;
        let session = self.sessions.get(pid);
        // A client that got a new session keeps the last token of the one before until it sees another: of this one it has seen none,
        // since everything that goes out over it bears a token of where it began or of behind.
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
        if !session.connected && self.is_over(session.at_unix_ms, now_unix_ms) {
            return Err(NotRecovered::Expired);
        }
        let position = offset.map_or_else(|| session.position(), |offset| offset.lsn);
        if position > journal_state.head {
            return Err(NotRecovered::FutureOffset);
        }
        if offset.is_some() && !journal_state.knows {
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

    /// Stays in rooms that are known of a session: a claim to it looks at each.
    pub(crate) fn stays_of(&self, pid: &PrivateId) -> Option<usize> {
        self.sessions.get(pid).map(|session| session.intervals())
    }

    /// Whether an event for these rooms, all in one namespace, can be for a session that is known; no room means everybody there.
    /// What cannot need not be journalled: each session that is forgotten is so by a record.
    pub(crate) fn concerns(&self, namespace: &NamespacePath, rooms: &[Recipient]) -> bool {
        self.activity.know(namespace, rooms)
            || rooms.iter().any(|recipient| {
                let Recipient::Socket(socket) = recipient else { return false };
                let known = self.by_socket.get(socket).and_then(|pid| self.sessions.get(pid));
                known.is_some_and(|known| known.given_up.is_none() && known.namespace == *namespace)
            })
    }

    /// The events that a socket has missed; none if its session is not known, or cannot be resumed.
    pub(crate) fn missed_events(&self, socket: &SocketId) -> Option<MissedEvents<'_>> {
        let session = self.by_socket.get(socket).and_then(|pid| self.sessions.get(pid))?;
        session.given_up.is_none().then_some(MissedEvents { session, activity: &self.activity })
    }

    /// Whether a session is known of a socket, one that cannot be resumed too: it is known until its window has passed.
    pub(crate) fn remembers(&self, socket: &SocketId) -> bool {
        self.by_socket.contains_key(socket)
    }

    /// Whether nothing that was for the socket is gone behind `cursor`, now that the journal is trimmed up to `trimmed_to`. To be asked
    /// whenever a read says that it was trimmed, and after the record of a resume, which may itself have trimmed; if not, the
    /// connection is closed.
    pub(crate) fn is_whole(&self, socket: &SocketId, cursor: Lsn, trimmed_to: Lsn) -> bool {
        self.missed_events(socket)
            .is_some_and(|MissedEvents { session, .. }| !session.has_missed(cursor, trimmed_to, &self.activity))
    }

    /// A session that is to be written again: the one whose newest whole record is the oldest, if that is not behind `at_risk` and the
    /// session has no more than `bytes_max` bytes. Journal it, apply the record, and ask again.
    pub(crate) fn at_risk(&mut self, at_risk: Lsn, bytes_max: usize) -> Option<SessionRecord> {
        let (record, pid) = self.by_record.first_key_value()?;
        if *record > at_risk || self.sessions.get(pid)?.bytes() > bytes_max {
            return None;
        }
        let pid = *pid;
        self.forget_intervals(&pid);
        Some(self.sessions.get(&pid)?.to_entry(&self.activity))
    }

    /// Whether some session's newest whole record is not behind `at_risk`.
    pub(crate) fn has_at_risk(&self, at_risk: Lsn) -> bool {
        self.by_record.first_key_value().is_some_and(|(record, _)| *record <= at_risk)
    }

    /// Whether the record of a start changes anything: a session seems connected, or lost its connection in the future.
    pub(crate) fn is_changed_by_start(&self, now_unix_ms: u64) -> bool {
        self.sessions.values().any(|session| session.connected || session.at_unix_ms > now_unix_ms)
    }

    /// The record by which those are forgotten that have been away for longer than the window; none if there are none.
    pub(crate) fn next_expired(&self, now_unix_ms: u64) -> Option<RecordBody> {
        let (first, _) = self.away.first()?;
        let window = u64::try_from(self.bounds.window.as_millis()).unwrap_or(u64::MAX);
        let until_unix_ms = now_unix_ms.checked_sub(window)?.checked_sub(1)?;
        (*first <= until_unix_ms).then_some(RecordBody::Expired { until_unix_ms })
    }

    /// Sessions known, those that cannot be resumed among them until their window has passed.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// What all sessions count for, and how much that may be.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        (self.budget.bytes(), self.bounds.bytes_max)
    }

    fn is_over(&self, at_unix_ms: u64, now_unix_ms: u64) -> bool {
        u128::from(now_unix_ms.saturating_sub(at_unix_ms)) > self.bounds.window.as_millis()
    }

    /// A session that can be resumed, with the places.
    fn session(&mut self, socket: &SocketId) -> Option<(&mut RecoverableSession, &mut Activity)> {
        let session = self.sessions.get_mut(self.by_socket.get(socket)?)?;
        session.given_up.is_none().then_some((session, &mut self.activity))
    }

    /// Changes a session that can be resumed, and what it counts for.
    fn change(&mut self, socket: &SocketId, change: impl FnOnce(&mut RecoverableSession, &mut Activity)) {
        let Some((session, activity)) = self.session(socket) else { return };
        let before = session.bytes();
        change(session, activity);
        let (pid, after) = (session.pid, session.bytes());
        self.budget.change(pid, before, after);
    }

    fn insert(&mut self, mut session: RecoverableSession, rooms: &[RoomSpan]) {
        self.forget(&session.pid);
        if let Some(pid) = self.by_socket.get(&session.socket).copied() {
            self.forget(&pid);
        }
        session.enter(rooms, &mut self.activity);
        self.budget.change(session.pid, 0, session.bytes());
        self.by_socket.insert(session.socket, session.pid);
        self.by_record.insert(session.record, session.pid);
        if !session.connected {
            self.away.insert((session.at_unix_ms, session.pid));
        }
        self.sessions.insert(session.pid, Box::new(session));
    }

    fn forget(&mut self, pid: &PrivateId) {
        let Some(mut session) = self.sessions.remove(pid) else { return };
        self.by_socket.remove(&session.socket);
        self.away.remove(&(session.at_unix_ms, *pid));
        self.budget.change(*pid, session.bytes(), 0);
        if session.given_up.is_none() {
            self.by_record.remove(&session.record);
            session.exit(&mut self.activity);
        }
    }

    /// Forgets intervals of a session that no resume can reach any more.
    fn forget_intervals(&mut self, pid: &PrivateId) {
        let Some(session) = self.sessions.get_mut(pid) else { return };
        let before = session.bytes();
        session.forget_intervals(self.trimmed_to, &mut self.activity);
        self.budget.change(*pid, before, session.bytes());
    }

    /// From here on only the reason is known of it.
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
            self.budget.overflowing = Some(pid);
        }
    }

    fn disconnect(&mut self, socket: &SocketId, forever: bool, at_unix_ms: u64) {
        let Some(pid) = self.by_socket.get(socket).copied() else { return };
        if forever {
            // Immediately: a client may come and go as often as it likes, and takes nobody's place.
            self.forget(&pid);
        } else {
            self.set_connected(&pid, false, at_unix_ms);
        }
    }

    fn set_connected(&mut self, pid: &PrivateId, connected: bool, at_unix_ms: u64) {
        let Some(session) = self.sessions.get_mut(pid) else { return };
        if !session.connected {
            self.away.remove(&(session.at_unix_ms, *pid));
        }
        (session.connected, session.at_unix_ms) = (connected, at_unix_ms);
        if !connected {
            self.away.insert((at_unix_ms, *pid));
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
        let concerned = self.sessions.values().filter(|known| known.connected || known.at_unix_ms > at_unix_ms);
        for pid in concerned.map(|known| known.pid).collect::<Vec<_>>() {
            self.set_connected(&pid, false, at_unix_ms);
        }
    }

    fn carry(&mut self, entry: &SessionRecord, lsn: Lsn) {
        let known = self.sessions.get_mut(&entry.pid).filter(|session| session.socket == entry.socket);
        let Some(session) = known else {
            return self.insert(RecoverableSession::from_record(entry, lsn), &entry.rooms);
        };
        if session.given_up.is_some() {
            return;
        }
        // Who was known before this record knows more than it says.
        self.by_record.remove(&session.record);
        session.record = lsn;
        session.advance_to(entry.position);
        self.by_record.insert(lsn, entry.pid);
        self.set_connected(&entry.pid, entry.connected, entry.at_unix_ms);
        self.forget_intervals(&entry.pid);
    }
}
