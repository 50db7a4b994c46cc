//! What is known of one session: who it is, in which rooms it was when, and how far back its story is whole.
//!
//! It decides nothing about time and keeps no events.

use super::activity::{Activity, RoomActivity};
use super::intervals::{Interval, RoomIntervals};
use crate::ids::{Epoch, Lsn, NamespacePath, Offset, PrivateId, Recipient, RoomName, SocketId};
use crate::journal::{EventRecord, GiveUpReason, RoomSpan, SessionRecord};
use crate::protocol::reason::NotRecovered;

/// What one session counts for without rooms and data: more than its record has on disk.
const SESSION_BYTES: usize = 128;

/// What one counts for that cannot be resumed any more, until its client has been told or its window has passed.
const GIVEN_UP_BYTES: u32 = 64;

/// What a stay in a room counts for beside the room's name: more than it has in a record, and about a third of what it has in memory
/// where no other session knows the room.
const INTERVAL_BYTES: usize = 64;

/// One recoverable session. There is one for every socket that is connected: each of its bytes is multiplied by all of them.
#[derive(Debug)]
pub(super) struct RecoverableSession {
    pub(super) pid: PrivateId,
    pub(super) socket: SocketId,
    pub(super) namespace: NamespacePath,
    intervals: RoomIntervals,
    /// Events for its socket alone, once there was one: what is sent to the room that bears the socket's id.
    own: Option<Box<RoomActivity>>,
    data: Option<Box<str>>,
    /// What it counts for: at least the bytes of its whole record.
    bytes: u32,
    pub(super) connected: bool,
    /// Since when it is connected, or not.
    pub(super) at_unix_ms: u64,
    /// Set once it cannot be resumed any more.
    pub(super) given_up: Option<GiveUpReason>,
    /// Everything up to here has reached its client, or was never for it: it connected here, or was resumed from here.
    position: Lsn,
    /// Its position is where it began.
    is_at_start: bool,
    /// The newest record from which it can be known without any before.
    pub(super) record: Lsn,
    /// The newest event that may have been for it, of those that `activity` does not tell.
    last_event: Lsn,
    /// The same for events that wanted an ack.
    last_ack_event: Lsn,
}

impl RecoverableSession {
    /// A session that connected at `lsn`.
    pub(super) fn new(pid: PrivateId, socket: SocketId, namespace: NamespacePath, at_unix_ms: u64, lsn: Lsn) -> Self {
        let bytes = (SESSION_BYTES + namespace.as_str().len()) as u32;
        Self {
            pid,
            socket,
            namespace,
            bytes,
            intervals: RoomIntervals::default(),
            own: None,
            data: None,
            connected: true,
            at_unix_ms,
            given_up: None,
            position: lsn,
            is_at_start: true,
            record: lsn,
            last_event: Lsn(0),
            last_ack_event: Lsn(0),
        }
    }

    /// A session of which nothing is known but what its record at `lsn` says. Its rooms come with [`enter`](Self::enter).
    pub(super) fn from_record(entry: &SessionRecord, lsn: Lsn) -> Self {
        let mut session = Self::new(entry.pid, entry.socket, entry.namespace.clone(), entry.at_unix_ms, entry.position);
        session.set_data(entry.data.clone());
        session.connected = entry.connected;
        (session.is_at_start, session.record) = (false, lsn);
        (session.last_event, session.last_ack_event) = (entry.last_event, entry.last_ack_event);
        session
    }

    /// What it counts for: at least the bytes of its whole record.
    pub(super) fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// The application's data of the socket, as JSON.
    pub(super) fn data(&self) -> Option<&str> {
        self.data.as_deref()
    }

    /// The application keeps this with it from now on.
    pub(super) fn set_data(&mut self, data: Option<Box<str>>) {
        let len = |data: &Option<Box<str>>| data.as_ref().map_or(0, |data| data.len() as u32);
        self.bytes = self.bytes - len(&self.data) + len(&data);
        self.data = data;
    }

    /// The rooms it is in, without its own.
    pub(super) fn rooms_now(&self) -> impl Iterator<Item = &RoomName> {
        self.intervals.iter().filter(|(_, interval)| interval.left == Interval::LASTS).map(|(room, _)| room)
    }

    /// Everything up to here has reached its client, or was never for it.
    pub(super) fn position(&self) -> Lsn {
        self.position
    }

    /// Its client has come back, and had seen everything up to `position`.
    pub(super) fn advance_to(&mut self, position: Lsn) {
        if position > self.position {
            (self.position, self.is_at_start) = (position, false);
        }
    }

    /// Whether its client saw this token before the session began, and none since.
    pub(super) fn began_after(&self, offset: &Offset, epoch: Epoch) -> bool {
        self.is_at_start && (offset.epoch != epoch || offset.lsn < self.position)
    }

    /// Makes its places known: its namespace, and the rooms in which it was.
    pub(super) fn enter(&mut self, rooms: &[RoomSpan], activity: &mut Activity) {
        activity.enter(&self.namespace);
        for RoomSpan { room, joined, left } in rooms {
            let interval = Interval { joined: *joined, left: left.unwrap_or(Interval::LASTS) };
            self.intervals.push(activity.hold(&self.namespace, room), interval);
            self.bytes += interval_bytes(room);
        }
    }

    /// Forgets its rooms and its data, and the places that only it knew.
    pub(super) fn exit(&mut self, activity: &mut Activity) {
        for (room, _) in std::mem::take(&mut self.intervals).iter() {
            activity.release(&self.namespace, room);
        }
        (self.own, self.data, self.bytes) = (None, None, GIVEN_UP_BYTES);
        activity.exit(&self.namespace);
    }

    /// An event at `lsn` was for its socket alone.
    pub(super) fn push(&mut self, lsn: Lsn, wants_ack: bool) {
        self.own.get_or_insert_default().push(lsn, wants_ack);
    }

    /// Whether this is the room that bears its socket's id; it is in there for as long as it lives.
    fn owns(&self, room: &RoomName) -> bool {
        room.owner() == Some(self.socket)
    }

    /// It is in `room` from `lsn` on.
    pub(super) fn join(&mut self, room: &RoomName, lsn: Lsn, activity: &mut Activity) {
        if !self.owns(room) && self.intervals.newest(room).is_none_or(|interval| interval.left != Interval::LASTS) {
            self.bytes += interval_bytes(room);
            let room = activity.hold(&self.namespace, room);
            self.intervals.push(room, Interval { joined: lsn, left: Interval::LASTS });
        }
    }

    /// Stays that are remembered, of all rooms.
    pub(super) fn intervals(&self) -> usize {
        self.intervals.len()
    }

    /// It is not in `room` from `lsn` on.
    pub(super) fn leave(&mut self, room: &RoomName, lsn: Lsn) {
        self.intervals.end(room, lsn);
    }

    /// Forgets intervals that ended by `trimmed_to` or by its position: no resume that succeeds begins before. What happened in them is
    /// remembered as one position, so that a resume from before is refused.
    pub(super) fn forget_intervals(&mut self, trimmed_to: Lsn, activity: &mut Activity) {
        let over = trimmed_to.max(self.position);
        let Self { intervals, namespace, last_event, last_ack_event, bytes, .. } = self;
        intervals.retain(|room, Interval { joined, left }| {
            if left > over {
                return true;
            }
            if let Some(room_activity) = activity.room(namespace, room) {
                *last_event = room_activity.newest_event(joined, left).max(*last_event);
                *last_ack_event = room_activity.newest_ack_event(joined, left).max(*last_ack_event);
            }
            *bytes -= interval_bytes(room);
            activity.release(namespace, room);
            false
        });
    }

    /// The newest position in `(after, until]` that may have held an event for it, and the newest such that wanted an ack.
    pub(super) fn newest(&self, after: Lsn, until: Lsn, activity: &Activity) -> (Lsn, Lsn) {
        let (mut event, mut ack_events) = (Lsn(0), Lsn(0));
        let mut look = |room_activity: Option<&RoomActivity>, after: Lsn, until: Lsn| {
            let Some(room_activity) = room_activity else { return };
            event = event.max(room_activity.newest_event(after, until));
            ack_events = ack_events.max(room_activity.newest_ack_event(after, until));
        };
        look(activity.everybody(&self.namespace), after, until);
        look(self.own.as_deref(), after, until);
        for (room, Interval { joined, left }) in self.intervals.iter() {
            look(activity.room(&self.namespace, room), after.max(joined), until.min(left));
        }
        (event, ack_events)
    }

    /// The oldest position behind `after` that may hold an event for it.
    pub(super) fn oldest(&self, after: Lsn, activity: &Activity) -> Option<Lsn> {
        if after < self.last_event {
            // Places do not tell what came before its record.
            return Some(after.next());
        }
        let look =
            |room_activity: Option<&RoomActivity>, after: Lsn, until: Lsn| room_activity?.oldest_event(after, until);
        let own = look(self.own.as_deref(), after, Lsn(Lsn::END));
        let everybody = look(activity.everybody(&self.namespace), after, Lsn(Lsn::END));
        let rooms = self.intervals.iter().filter_map(|(room, Interval { joined, left })| {
            look(activity.room(&self.namespace, room), after.max(joined), left)
        });
        rooms.chain(own).chain(everybody).min()
    }

    /// Whether it may have missed what cannot be had again if it resumes from `after`: an event up to `trimmed_to`.
    pub(super) fn has_missed(&self, after: Lsn, trimmed_to: Lsn, activity: &Activity) -> bool {
        after < trimmed_to && (after < self.last_event || self.newest(after, trimmed_to, activity).0 > after)
    }

    /// Why it cannot be resumed from `after`, if it cannot. Looks at each of its rooms once, and once more only where something is gone.
    pub(super) fn resume_error(&self, after: Lsn, trimmed_to: Lsn, activity: &Activity) -> Option<NotRecovered> {
        let (event, ack_events) = self.newest(after, Lsn(Lsn::END), activity);
        if after < self.last_ack_event || ack_events > after {
            return Some(NotRecovered::AckMissed);
        }
        let may_have_missed = after < self.last_event || event > after;
        (may_have_missed && self.has_missed(after, trimmed_to, activity)).then_some(NotRecovered::Trimmed)
    }

    /// Whether the event at `lsn` is for it.
    pub(super) fn includes_event(&self, lsn: Lsn, event: &EventRecord) -> bool {
        let is_in = |recipient: &Recipient| {
            *recipient == Recipient::Socket(self.socket)
                || recipient.with_name(|name| self.intervals.include(name, lsn))
        };
        lsn > self.position
            && event.namespace == self.namespace
            && event.exclude != Some(self.socket)
            && (event.rooms.is_empty() || event.rooms.iter().any(is_in))
            && !event.except.iter().any(is_in)
    }

    /// Everything there is to know of it, to be written as one record.
    pub(super) fn to_entry(&self, activity: &Activity) -> SessionRecord {
        let (event, ack_events) = self.newest(self.position, Lsn(Lsn::END), activity);
        let span = |(room, Interval { joined, left }): (&RoomName, Interval)| RoomSpan {
            room: room.clone(),
            joined,
            left: (left != Interval::LASTS).then_some(left),
        };
        let mut rooms: Vec<_> = self.intervals.iter().map(span).collect();
        rooms.sort_unstable_by(|a, b| (&a.room, a.joined).cmp(&(&b.room, b.joined)));
        SessionRecord {
            pid: self.pid,
            socket: self.socket,
            namespace: self.namespace.clone(),
            rooms,
            data: self.data.clone(),
            connected: self.connected,
            at_unix_ms: self.at_unix_ms,
            position: self.position,
            last_event: self.last_event.max(event),
            last_ack_event: self.last_ack_event.max(ack_events),
        }
    }
}

fn interval_bytes(room: &RoomName) -> u32 {
    (INTERVAL_BYTES + room.as_str().len()) as u32
}
