//! The state of one recoverable session: its ids, its rooms with the positions of joins and leaves,
//! its data, and the position from which its client can continue.

use super::activity::{Activity, RoomActivity};
use super::intervals::{Interval, RoomIntervals};
use crate::ids::{Epoch, Lsn, NamespacePath, Offset, PrivateId, Recipient, RoomName, SocketId};
use crate::journal::{EventRecord, GiveUpReason, RoomSpan, SessionRecord};
use crate::protocol::reason::NotRecovered;

/// Bytes counted for a session without namespace, rooms and data. The record on disk is smaller.
const SESSION_BYTES: usize = 128;

/// Bytes counted for a session that was given up.
const GIVEN_UP_BYTES: u32 = 64;

/// Bytes counted for an interval without the name of the room. An interval in a record is smaller.
/// An interval in memory is about three times as large if no other session was in the room.
const INTERVAL_BYTES: usize = 64;

/// One recoverable session. Every connected socket has one, so the size of this type matters.
#[derive(Debug)]
pub(super) struct RecoverableSession {
    pub(super) pid: PrivateId,
    pub(super) socket: SocketId,
    pub(super) namespace: NamespacePath,
    intervals: RoomIntervals,
    own_events: Option<Box<RoomActivity>>,
    data: Option<Box<str>>,
    bytes: u32,
    pub(super) connected: bool,
    /// Time at which the socket connected or lost its connection.
    pub(super) at_unix_ms: u64,
    /// Set once the session cannot be resumed any more.
    pub(super) given_up: Option<GiveUpReason>,
    /// The client has received all of its events up to this position, which is that of the connect
    /// or of the last resume.
    position: Lsn,
    /// True if `position` is known to be the position of the connect. Always false for a session
    /// that was created from a complete record.
    is_at_start: bool,
    /// Position of the newest complete record of the session.
    pub(super) record: Lsn,
    /// Position of the newest event that may have been for the socket and is not in [`Activity`].
    last_event: Lsn,
    /// Position of the newest event that requested an ack, may have been for the socket, and is not
    /// in [`Activity`].
    last_ack_event: Lsn,
}

impl RecoverableSession {
    pub(super) fn new(pid: PrivateId, socket: SocketId, namespace: NamespacePath, at_unix_ms: u64, lsn: Lsn) -> Self {
        let bytes = (SESSION_BYTES + namespace.as_str().len()) as u32;
        Self {
            pid,
            socket,
            namespace,
            bytes,
            intervals: RoomIntervals::default(),
            own_events: None,
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

    /// Creates a session from its complete record at `lsn`. [`enter`](Self::enter) adds the rooms.
    pub(super) fn from_record(record: &SessionRecord, lsn: Lsn) -> Self {
        let mut session =
            Self::new(record.pid, record.socket, record.namespace.clone(), record.at_unix_ms, record.position);
        session.set_data(record.data.clone());
        session.connected = record.connected;
        (session.is_at_start, session.record) = (false, lsn);
        (session.last_event, session.last_ack_event) = (record.last_event, record.last_ack_event);
        session
    }

    /// Counted bytes, at least the size of the session's complete record.
    pub(super) fn bytes(&self) -> usize {
        self.bytes as usize
    }

    pub(super) fn data(&self) -> Option<&str> {
        self.data.as_deref()
    }

    pub(super) fn set_data(&mut self, data: Option<Box<str>>) {
        let len = |data: &Option<Box<str>>| data.as_ref().map_or(0, |data| data.len() as u32);
        self.bytes = self.bytes - len(&self.data) + len(&data);
        self.data = data;
    }

    /// The current rooms, without the socket's own room.
    pub(super) fn rooms_now(&self) -> impl Iterator<Item = &RoomName> {
        self.intervals.iter().filter(|(_, interval)| interval.left == Interval::LASTS).map(|(room, _)| room)
    }

    /// The current rooms, and rooms that the session has left, of which it may have missed events.
    /// A room may occur several times.
    pub(super) fn rooms(&self) -> impl Iterator<Item = &RoomName> {
        self.intervals.iter().map(|(room, _)| room)
    }

    pub(super) fn position(&self) -> Lsn {
        self.position
    }

    /// Records that the client has received all of its events up to `position`.
    pub(super) fn advance_to(&mut self, position: Lsn) {
        if position > self.position {
            (self.position, self.is_at_start) = (position, false);
        }
    }

    /// Returns whether the session's position is still that of the connect, and `offset` is older
    /// or from another epoch.
    pub(super) fn began_after(&self, offset: &Offset, epoch: Epoch) -> bool {
        self.is_at_start && (offset.epoch != epoch || offset.lsn < self.position)
    }

    /// Adds `rooms` to the session, and the namespace and `rooms` to the activity.
    pub(super) fn enter(&mut self, rooms: &[RoomSpan], activity: &mut Activity) {
        activity.enter(&self.namespace);
        for RoomSpan { room, joined, left } in rooms {
            let interval = Interval { joined: *joined, left: left.unwrap_or(Interval::LASTS) };
            self.intervals.push(activity.hold(&self.namespace, room), interval);
            self.bytes += interval_bytes(room);
        }
    }

    /// Drops rooms and data, and removes namespace and rooms from the activity.
    pub(super) fn exit(&mut self, activity: &mut Activity) {
        for (room, _) in std::mem::take(&mut self.intervals).iter() {
            activity.release(&self.namespace, room);
        }
        (self.own_events, self.data, self.bytes) = (None, None, GIVEN_UP_BYTES);
        activity.exit(&self.namespace);
    }

    pub(super) fn push_own_event(&mut self, lsn: Lsn, wants_ack: bool) {
        self.own_events.get_or_insert_default().push(lsn, wants_ack);
    }

    /// Returns whether `room` is named after the socket's id. The socket is always a member of that
    /// room.
    fn owns(&self, room: &RoomName) -> bool {
        room.owner() == Some(self.socket)
    }

    pub(super) fn join(&mut self, room: &RoomName, lsn: Lsn, activity: &mut Activity) {
        if !self.owns(room) && self.intervals.newest(room).is_none_or(|interval| interval.left != Interval::LASTS) {
            self.bytes += interval_bytes(room);
            let room = activity.hold(&self.namespace, room);
            self.intervals.push(room, Interval { joined: lsn, left: Interval::LASTS });
        }
    }

    pub(super) fn intervals(&self) -> usize {
        self.intervals.len()
    }

    pub(super) fn leave(&mut self, room: &RoomName, lsn: Lsn) {
        self.intervals.end(room, lsn);
    }

    /// Forgets all intervals in a room, so that none of its missed events is for the session any
    /// more, except one that has another of its rooms as well.
    pub(super) fn revoke(&mut self, room: &RoomName, activity: &mut Activity) {
        let Self { intervals, namespace, bytes, .. } = self;
        intervals.retain(|known, _| {
            if known != room {
                return true;
            }
            *bytes -= interval_bytes(known);
            activity.release(namespace, known);
            false
        });
    }

    /// Forgets the intervals that ended at or before the later of `trimmed_to` and the session's
    /// position. `last_event` and `last_ack_event` keep the newest events of these intervals, so
    /// that a resume from an older position is refused.
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

    /// The newest positions in `(after, until]` that may hold an event for the session: that of any
    /// event, and that of an event that requested an ack. 0 if there is none.
    fn newest_events(&self, after: Lsn, until: Lsn, activity: &Activity) -> (Lsn, Lsn) {
        let (mut event, mut ack_events) = (Lsn(0), Lsn(0));
        let mut look = |room_activity: Option<&RoomActivity>, after: Lsn, until: Lsn| {
            let Some(room_activity) = room_activity else { return };
            event = event.max(room_activity.newest_event(after, until));
            ack_events = ack_events.max(room_activity.newest_ack_event(after, until));
        };
        look(activity.namespace(&self.namespace), after, until);
        look(self.own_events.as_deref(), after, until);
        for (room, Interval { joined, left }) in self.intervals.iter() {
            look(activity.room(&self.namespace, room), after.max(joined), until.min(left));
        }
        (event, ack_events)
    }

    /// The oldest position after `after` that may hold an event for the session.
    pub(super) fn oldest_event(&self, after: Lsn, activity: &Activity) -> Option<Lsn> {
        if after < self.last_event {
            // The activity lacks the events before the complete record and those of forgotten
            // intervals, so any position after `after` may hold an event.
            return Some(after.next());
        }
        let look =
            |room_activity: Option<&RoomActivity>, after: Lsn, until: Lsn| room_activity?.oldest_event(after, until);
        let own_event = look(self.own_events.as_deref(), after, Lsn(Lsn::END));
        let for_namespace = look(activity.namespace(&self.namespace), after, Lsn(Lsn::END));
        let rooms = self.intervals.iter().filter_map(|(room, Interval { joined, left })| {
            look(activity.room(&self.namespace, room), after.max(joined), left)
        });
        rooms.chain(own_event).chain(for_namespace).min()
    }

    /// Returns whether the journal may have dropped an event for the session in `(after,
    /// trimmed_to]`.
    pub(super) fn has_missed(&self, after: Lsn, trimmed_to: Lsn, activity: &Activity) -> bool {
        after < trimmed_to && (after < self.last_event || self.newest_events(after, trimmed_to, activity).0 > after)
    }

    /// Returns the reason why the session cannot be resumed from `after`, or `None` if it can.
    /// Visits each room once, and a second time only if records were dropped.
    pub(super) fn resume_error(&self, after: Lsn, trimmed_to: Lsn, activity: &Activity) -> Option<NotRecovered> {
        let (event, ack_events) = self.newest_events(after, Lsn(Lsn::END), activity);
        if after < self.last_ack_event || ack_events > after {
            return Some(NotRecovered::AckMissed);
        }
        let may_have_missed = after < self.last_event || event > after;
        (may_have_missed && self.has_missed(after, trimmed_to, activity)).then_some(NotRecovered::Trimmed)
    }

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

    pub(super) fn to_record(&self, activity: &Activity) -> SessionRecord {
        let (event, ack_events) = self.newest_events(self.position, Lsn(Lsn::END), activity);
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
