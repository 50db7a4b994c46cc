//! Recovery of connections: which sessions there are, who may resume which, from where, and what is owed to it.
//!
//! **Invariant**: a claim is granted only if every event that was for the session and lies behind the claimed position can be
//! read from the journal; else it is refused with a reason. It may refuse where nothing was missed (see [`NotRecovered`]).
//!
//! It is fed records in hub order, as they are journalled or as they are read back at a start: both give the same state. Sans-IO:
//! it reads no journal and no clock, writes nothing, and replays nothing.

#[cfg(test)]
mod model;
mod places;
mod session;
mod stays;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use thiserror::Error;

use self::places::Places;
use self::session::Session;
use super::{Entry, EventEntry, Journal, Record, RoomSpan, SessionEntry};
use crate::ids::{Epoch, Lsn, NamespacePath, Offset, PrivateId, RoomName, SocketId};
use crate::protocol::encoded::Message;
use crate::protocol::socketio::packet::Packet;

/// How much is remembered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// For how long a session can be resumed after its connection was lost; Socket.IO's `maxDisconnectionDuration`.
    pub window: Duration,
    /// Sessions known at a time. A further one takes the place of the one that has been away longest; if none is away, it will
    /// not be resumable.
    pub sessions_max: usize,
    /// Stays in rooms that are known of one session: those that last, and those that ended behind what is trimmed. One that
    /// needs more will not be resumable.
    pub stays_max: usize,
}

/// Who wants to resume what, from where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim<'a> {
    /// Names the session, and proves that it is its client's.
    pub pid: PrivateId,
    /// Where the client connects.
    pub namespace: &'a NamespacePath,
    /// The last token that it saw; none if it never saw one.
    pub offset: Option<Offset>,
}

/// What the journal says about a claim.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// The life of the journal.
    pub epoch: Epoch,
    /// The newest position.
    pub head: Lsn,
    /// Every record up to here is gone.
    pub trimmed_to: Lsn,
    /// Whether the claim's offset, if it has one, is a position of the journal.
    pub knows: bool,
}

impl Facts {
    /// Asks `journal`.
    pub(crate) fn of(journal: &dyn Journal, offset: Option<&Offset>) -> Self {
        let knows = offset.is_none_or(|offset| journal.knows(offset));
        Self { epoch: journal.epoch(), head: journal.head(), trimmed_to: journal.trimmed_to(), knows }
    }
}

/// Why a client gets a fresh session instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub(crate) enum NotRecovered {
    /// The token is of another log: an earlier one that ended with its process or its machine, or another server's.
    #[error("offset is of another epoch")]
    ForeignEpoch,
    /// Never known here, or forgotten: its window has passed, too many are away, or it was disconnected from the namespace by either
    /// side or broke the protocol.
    #[error("session is unknown")]
    UnknownPid,
    /// It connects to another namespace than the session's.
    #[error("session is of another namespace")]
    OtherNamespace,
    /// It stayed in more rooms, one after another, than are remembered of one session.
    #[error("session was in too many rooms")]
    TooManyStays,
    /// It was away for longer than the window.
    #[error("session expired")]
    Expired,
    /// The position has not been given away yet.
    #[error("offset is in the future")]
    FutureOffset,
    /// No record bears this token.
    #[error("offset is of no record")]
    UnknownOffset,
    /// The position is older than the session, or than where it was resumed from before.
    #[error("offset is older than the session")]
    OldOffset,
    /// An event behind the position wanted an ack. Whether the client saw it is not known, as such events bear no token.
    #[error("an event that wanted an ack was sent meanwhile")]
    AckMissed,
    /// An event of its namespace or rooms behind the position is gone from the journal, or may be: of each room only the
    /// longest silences are known, it is not known who was excepted, and of what happened before a session was carried
    /// forward over a start, only the newest event is.
    #[error("an event it may have missed is gone from the journal")]
    Trimmed,
    /// It is in no room and its client has seen no event of it: perhaps its first `join` was lost with the connection, so that it would
    /// go on in no room, unnoticed.
    #[error("session is in no room and has received no event")]
    NothingToRecover,
}

impl NotRecovered {
    /// Every reason, in the order of their declaration.
    pub(crate) const ALL: [Self; 11] = [
        Self::ForeignEpoch,
        Self::UnknownPid,
        Self::OtherNamespace,
        Self::TooManyStays,
        Self::Expired,
        Self::FutureOffset,
        Self::UnknownOffset,
        Self::OldOffset,
        Self::AckMissed,
        Self::Trimmed,
        Self::NothingToRecover,
    ];

    /// The label of its metric.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::ForeignEpoch => "foreign_epoch",
            Self::UnknownPid => "unknown_pid",
            Self::OtherNamespace => "other_namespace",
            Self::TooManyStays => "too_many_stays",
            Self::Expired => "expired",
            Self::FutureOffset => "future_offset",
            Self::UnknownOffset => "unknown_offset",
            Self::OldOffset => "old_offset",
            Self::AckMissed => "ack_missed",
            Self::Trimmed => "trimmed",
            Self::NothingToRecover => "nothing_to_recover",
        }
    }
}

/// What is owed to one session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owed<'a> {
    session: &'a Session,
    places: &'a Places,
}

impl Owed<'_> {
    /// Whether the event at `lsn` is, to one whose cursor has not passed it. Holds for every position behind the one it was
    /// resumed from, also for rooms it has left since.
    pub(crate) fn includes(self, lsn: Lsn, event: &EventEntry) -> bool {
        self.session.is_owed(lsn, event)
    }

    /// The oldest position behind `after` that may hold such an event; none if there is none up to now.
    pub(crate) fn next(self, after: Lsn) -> Option<Lsn> {
        self.session.oldest(after, self.places)
    }
}

/// Every session that can be resumed.
#[derive(Debug)]
pub(crate) struct Recovery {
    bounds: Bounds,
    /// Each by itself, so that places of the table that stand empty are small.
    sessions: HashMap<PrivateId, Box<Session>>,
    by_socket: HashMap<SocketId, PrivateId>,
    /// Those that can be resumed, by the newest record that tells all of each.
    by_record: BTreeMap<Lsn, PrivateId>,
    /// Those without a connection, by when they lost it.
    away: BTreeSet<(u64, PrivateId)>,
    places: Places,
    /// As far as the journal was known to be trimmed.
    trimmed_to: Lsn,
}

impl Recovery {
    /// Knows nobody.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            sessions: HashMap::new(),
            by_socket: HashMap::new(),
            by_record: BTreeMap::new(),
            away: BTreeSet::new(),
            places: Places::default(),
            trimmed_to: Lsn(0),
        }
    }

    /// Takes what was journalled, in order. Records about sockets that are not known change nothing.
    pub(crate) fn apply(&mut self, record: &Record) {
        let lsn = record.lsn;
        match &record.entry {
            Entry::Event(event) => {
                let wants_ack = wants_ack(&event.message);
                self.places.push(&event.namespace, &event.rooms, lsn, wants_ack);
                for socket in event.rooms.iter().filter_map(|room| SocketId::parse(room.as_str()).ok()) {
                    let known = self.session(&socket).filter(|(session, _)| session.namespace == event.namespace);
                    if let Some((session, _)) = known {
                        session.push(lsn, wants_ack);
                    }
                }
            }
            Entry::Connect { pid, socket, namespace, at_unix_ms } => {
                self.insert(Session::connected(*pid, *socket, namespace.clone(), *at_unix_ms, lsn), &[]);
            }
            Entry::Join { socket, room } => self.join(socket, room, lsn),
            Entry::Leave { socket, room } => {
                if let Some((session, _)) = self.session(socket) {
                    session.leave(room, lsn);
                }
            }
            Entry::Data { socket, data } => {
                if let Some((session, _)) = self.session(socket) {
                    session.data.clone_from(data);
                }
            }
            Entry::Disconnect { socket, forever, at_unix_ms } => self.disconnect(socket, *forever, *at_unix_ms),
            Entry::Session(entry) => self.carry(entry, lsn),
        }
    }

    /// Takes how far the journal is trimmed. The hub says it after appending.
    pub(crate) fn trimmed(&mut self, to: Lsn) {
        self.trimmed_to = self.trimmed_to.max(to);
    }

    /// Judges a claim. Changes nothing: gives the session as it goes on. Journal that, and apply the record, before anything is revealed.
    /// It holds the socket's id, its rooms, and its data; what is owed lies behind its `position`. If its older connection has not
    /// been seen to end, let nothing of that one reach the journal any more.
    pub(crate) fn resume(
        &self,
        claim: &Claim<'_>,
        facts: &Facts,
        now_unix_ms: u64,
    ) -> Result<SessionEntry, NotRecovered> {
        let Claim { pid, namespace, offset } = claim;
        let session = self.sessions.get(pid);
        // A client that got a new session keeps the last token of the one before until it sees another: of this one it has seen none,
        // since everything that goes out over it bears a token of where it began or of behind.
        let offset = offset.filter(|offset| !session.is_some_and(|session| session.began_after(offset, facts.epoch)));
        if offset.is_some_and(|offset| offset.epoch != facts.epoch) {
            return Err(NotRecovered::ForeignEpoch);
        }
        let session = session.ok_or(NotRecovered::UnknownPid)?;
        if session.namespace != **namespace {
            return Err(NotRecovered::OtherNamespace);
        }
        if session.has_lost_count {
            return Err(NotRecovered::TooManyStays);
        }
        if !session.connected && self.is_over(session.at_unix_ms, now_unix_ms) {
            return Err(NotRecovered::Expired);
        }
        let position = session.position();
        let from = offset.map_or(position, |offset| offset.lsn);
        if from > facts.head {
            return Err(NotRecovered::FutureOffset);
        }
        if offset.is_some() && !facts.knows {
            return Err(NotRecovered::UnknownOffset);
        }
        if from < position {
            return Err(NotRecovered::OldOffset);
        }
        if session.was_asked(from, &self.places) {
            return Err(NotRecovered::AckMissed);
        }
        if session.missed(from, facts.trimmed_to, &self.places) {
            return Err(NotRecovered::Trimmed);
        }
        if offset.is_none() && !session.is_in_rooms() {
            return Err(NotRecovered::NothingToRecover);
        }
        let entry = session.to_entry(&self.places);
        Ok(SessionEntry { connected: true, at_unix_ms: now_unix_ms, position: from, ..entry })
    }

    /// What is owed to a socket; none if its session is not known, or cannot be resumed.
    pub(crate) fn owed(&self, socket: &SocketId) -> Option<Owed<'_>> {
        let session = self.by_socket.get(socket).and_then(|pid| self.sessions.get(pid))?;
        (!session.has_lost_count).then_some(Owed { session, places: &self.places })
    }

    /// Whether a session is known of a socket, one that cannot be resumed too: it is known until its window has passed.
    pub(crate) fn remembers(&self, socket: &SocketId) -> bool {
        self.by_socket.contains_key(socket)
    }

    /// Whether nothing that was for the socket is gone behind `cursor`, now that the journal is trimmed up to `trimmed_to`. To be asked
    /// whenever a read says that it was trimmed, and after the record of a resume, which may itself have trimmed; if not, the
    /// connection is closed.
    pub(crate) fn is_whole(&self, socket: &SocketId, cursor: Lsn, trimmed_to: Lsn) -> bool {
        self.owed(socket).is_some_and(|Owed { session, .. }| !session.missed(cursor, trimmed_to, &self.places))
    }

    /// A session that must be written again, because its newest record is not behind `at_risk`; none if there is none. Journal it,
    /// apply the record, and ask again.
    pub(crate) fn at_risk(&mut self, at_risk: Lsn) -> Option<SessionEntry> {
        let (record, pid) = self.by_record.first_key_value()?;
        if *record > at_risk {
            return None;
        }
        let session = self.sessions.get_mut(pid)?;
        session.forget_stays(self.trimmed_to, &mut self.places);
        Some(session.to_entry(&self.places))
    }

    /// The sockets that have a connection. After a start these are the ones whose connections ended with the process: journal and
    /// apply a `Disconnect` for each, and their windows begin.
    pub(crate) fn connected(&self) -> impl Iterator<Item = SocketId> + '_ {
        self.sessions.values().filter(|session| session.connected).map(|session| session.socket)
    }

    /// Forgets sessions that have been away for longer than the window. Returns how many.
    pub(crate) fn expire(&mut self, now_unix_ms: u64) -> usize {
        let before = self.sessions.len();
        while let Some((at_unix_ms, pid)) = self.away.first().copied() {
            if !self.is_over(at_unix_ms, now_unix_ms) {
                break;
            }
            self.forget(&pid);
        }
        before - self.sessions.len()
    }

    /// Sessions known, those that cannot be resumed among them until their window has passed.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    fn is_over(&self, at_unix_ms: u64, now_unix_ms: u64) -> bool {
        u128::from(now_unix_ms.saturating_sub(at_unix_ms)) > self.bounds.window.as_millis()
    }

    /// A session that can be resumed, with the places.
    fn session(&mut self, socket: &SocketId) -> Option<(&mut Session, &mut Places)> {
        let session = self.sessions.get_mut(self.by_socket.get(socket)?)?;
        (!session.has_lost_count).then_some((session, &mut self.places))
    }

    fn insert(&mut self, mut session: Session, rooms: &[RoomSpan]) {
        self.forget(&session.pid);
        if let Some(pid) = self.by_socket.get(&session.socket).copied() {
            self.forget(&pid);
        }
        while self.sessions.len() >= self.bounds.sessions_max {
            let Some((_, longest_away)) = self.away.first().copied() else { return };
            self.forget(&longest_away);
        }
        session.enter(rooms, &mut self.places);
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
        if !session.has_lost_count {
            self.by_record.remove(&session.record);
            session.exit(&mut self.places);
        }
    }

    /// From here on only the reason is known of it.
    fn lose_count(&mut self, socket: &SocketId) {
        let Some((session, places)) = self.session(socket) else { return };
        session.has_lost_count = true;
        session.data = None;
        session.exit(places);
        let record = session.record;
        self.by_record.remove(&record);
    }

    fn join(&mut self, socket: &SocketId, room: &RoomName, lsn: Lsn) {
        let (stays_max, trimmed_to) = (self.bounds.stays_max, self.trimmed_to);
        let Some((session, places)) = self.session(socket) else { return };
        session.join(room, lsn, places);
        if session.stays() > stays_max {
            session.forget_stays(trimmed_to, places);
            if session.stays() > stays_max {
                self.lose_count(socket);
            }
        }
    }

    fn disconnect(&mut self, socket: &SocketId, forever: bool, at_unix_ms: u64) {
        if forever {
            // At once: a client may come and go as often as it likes, and takes nobody's place.
            if let Some(pid) = self.by_socket.get(socket).copied() {
                self.forget(&pid);
            }
            return;
        }
        let Some(session) = self.by_socket.get(socket).and_then(|pid| self.sessions.get_mut(pid)) else { return };
        if !session.connected {
            self.away.remove(&(session.at_unix_ms, session.pid));
        }
        session.connected = false;
        session.at_unix_ms = at_unix_ms;
        self.away.insert((at_unix_ms, session.pid));
    }

    fn carry(&mut self, entry: &SessionEntry, lsn: Lsn) {
        let known = self.sessions.get_mut(&entry.pid).filter(|session| session.socket == entry.socket);
        let Some(session) = known else { return self.insert(Session::carried(entry, lsn), &entry.rooms) };
        if session.has_lost_count {
            return;
        }
        // Who was known before this record knows more than it says.
        self.away.remove(&(session.at_unix_ms, session.pid));
        self.by_record.remove(&session.record);
        session.connected = entry.connected;
        session.at_unix_ms = entry.at_unix_ms;
        session.resumed_from(entry.position);
        session.record = lsn;
        session.forget_stays(self.trimmed_to, &mut self.places);
        if !session.connected {
            self.away.insert((session.at_unix_ms, session.pid));
        }
        self.by_record.insert(lsn, session.pid);
    }
}

/// Whether a packet wants an ack: its id stands before the arguments.
fn wants_ack(message: &Message) -> bool {
    let Some(head) = message.packets().next() else { return false };
    if head.is_binary() {
        return matches!(message.read_back(), Some(Packet::Event { ack: Some(_), .. }));
    }
    // `42/chat,7["e"]`, `451-/chat,7["e"]`: the arguments begin with the first bracket behind the namespace's comma.
    let body = head.body();
    let path = body.iter().position(|byte| matches!(byte, b'/' | b'['));
    let end = match path {
        Some(at) if body[at] == b'/' => body[at..].iter().position(|byte| *byte == b',').map(|comma| at + comma + 1),
        _ => {
            body.iter().position(|byte| *byte == b'-').filter(|at| path.is_some_and(|path| *at < path)).map(|at| at + 1)
        }
    };
    body.get(end.unwrap_or(2)).is_some_and(u8::is_ascii_digit)
}
