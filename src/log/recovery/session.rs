//! What is known of one session: who it is, in which rooms it was when, and how far back its story is whole.
//!
//! It decides nothing about time and keeps no events.

use std::collections::HashMap;

use smallvec::SmallVec;

use super::places::{Place, Places};
use crate::ids::{Epoch, Lsn, NamespacePath, Offset, PrivateId, RoomName, SocketId};
use crate::log::{EventEntry, RoomSpan, SessionEntry};

/// From a join to a leave.
#[derive(Debug, Clone, Copy)]
struct Stay {
    joined: Lsn,
    left: Option<Lsn>,
}

impl Stay {
    /// Where it ends: beyond every position while it lasts.
    fn end(&self) -> Lsn {
        self.left.unwrap_or(Lsn(Lsn::END))
    }
}

/// One recoverable session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) pid: PrivateId,
    pub(super) socket: SocketId,
    pub(super) namespace: NamespacePath,
    /// The room that bears its socket's id; it is in there for as long as it lives.
    own: RoomName,
    rooms: HashMap<RoomName, SmallVec<[Stay; 1]>>,
    /// Of all rooms together.
    stays: usize,
    pub(super) data: Option<Box<str>>,
    pub(super) connected: bool,
    /// Since when it is connected, or not.
    pub(super) at_unix_ms: u64,
    /// It stayed in more rooms, one after another, than are remembered, and cannot be resumed.
    pub(super) has_lost_count: bool,
    /// Everything up to here has reached its client, or was never for it: it connected here, or was resumed from here.
    pub(super) position: Lsn,
    /// Where it began, if that is known.
    began: Option<Lsn>,
    /// The newest record from which it can be known without any before.
    pub(super) record: Lsn,
    /// The newest event that may have been for it, of those that `places` does not tell.
    touched: Lsn,
    /// The same for events that wanted an ack.
    asked: Lsn,
}

impl Session {
    /// A session that connected at `lsn`.
    pub(super) fn connected(
        pid: PrivateId,
        socket: SocketId,
        namespace: NamespacePath,
        at_unix_ms: u64,
        lsn: Lsn,
    ) -> Self {
        Self {
            pid,
            socket,
            namespace,
            own: RoomName::from(socket),
            rooms: HashMap::new(),
            stays: 0,
            data: None,
            connected: true,
            at_unix_ms,
            has_lost_count: false,
            position: lsn,
            began: Some(lsn),
            record: lsn,
            touched: Lsn(0),
            asked: Lsn(0),
        }
    }

    /// A session of which nothing is known but what its record at `lsn` says.
    pub(super) fn carried(entry: &SessionEntry, lsn: Lsn) -> Self {
        let mut session =
            Self::connected(entry.pid, entry.socket, entry.namespace.clone(), entry.at_unix_ms, entry.position);
        for RoomSpan { room, joined, left } in &entry.rooms {
            session.rooms.entry(room.clone()).or_default().push(Stay { joined: *joined, left: *left });
        }
        session.stays = entry.rooms.len();
        session.data = entry.data.clone();
        session.connected = entry.connected;
        (session.began, session.record) = (None, lsn);
        (session.touched, session.asked) = (entry.touched, entry.asked);
        session
    }

    /// Whether its client saw this token before the session began, and none since.
    pub(super) fn began_after(&self, offset: &Offset, epoch: Epoch) -> bool {
        self.began == Some(self.position) && (offset.epoch != epoch || offset.lsn < self.position)
    }

    /// Makes its places known.
    pub(super) fn enter(&self, places: &mut Places) {
        places.enter(&self.namespace);
        for room in self.rooms.keys().chain([&self.own]) {
            places.hold(&self.namespace, room);
        }
    }

    /// Forgets its rooms, and the places that only it knew.
    pub(super) fn exit(&mut self, places: &mut Places) {
        for room in std::mem::take(&mut self.rooms).keys().chain([&self.own]) {
            places.release(&self.namespace, room);
        }
        self.stays = 0;
        places.exit(&self.namespace);
    }

    /// It is in `room` from `lsn` on.
    pub(super) fn join(&mut self, room: &RoomName, lsn: Lsn, places: &mut Places) {
        if *room != self.own {
            let stays = self.rooms.entry(room.clone()).or_insert_with(|| {
                places.hold(&self.namespace, room);
                SmallVec::new()
            });
            if stays.last().is_none_or(|stay| stay.left.is_some()) {
                stays.push(Stay { joined: lsn, left: None });
                self.stays += 1;
            }
        }
    }

    /// Stays that are remembered, of all rooms.
    pub(super) fn stays(&self) -> usize {
        self.stays
    }

    /// It is not in `room` from `lsn` on.
    pub(super) fn leave(&mut self, room: &RoomName, lsn: Lsn) {
        let last = self.rooms.get_mut(room).and_then(|stays| stays.last_mut());
        if let Some(stay) = last.filter(|stay| stay.left.is_none()) {
            stay.left = Some(lsn);
        }
    }

    /// Forgets stays that ended by `trimmed_to` or by its position: no resume that succeeds begins before. What happened in them is
    /// remembered as one position, so that a resume from before is refused.
    pub(super) fn forget_stays(&mut self, trimmed_to: Lsn, places: &mut Places) {
        let over = trimmed_to.max(self.position);
        let Self { rooms, namespace, touched, asked, stays: count, .. } = self;
        rooms.retain(|room, stays| {
            stays.retain(|stay| {
                if stay.end() > over {
                    return true;
                }
                if let Some(place) = places.room(namespace, room) {
                    *touched = place.newest_event(stay.joined, stay.end()).max(*touched);
                    *asked = place.newest_asking(stay.joined, stay.end()).max(*asked);
                }
                *count -= 1;
                false
            });
            if stays.is_empty() {
                places.release(namespace, room);
            }
            !stays.is_empty()
        });
    }

    /// The newest position in `(after, until]` that may have held an event for it, and the newest such that wanted an ack.
    pub(super) fn newest(&self, after: Lsn, until: Lsn, places: &Places) -> (Lsn, Lsn) {
        let (mut event, mut asking) = (Lsn(0), Lsn(0));
        let mut look = |place: Option<&Place>, after: Lsn, until: Lsn| {
            let Some(place) = place else { return };
            event = event.max(place.newest_event(after, until));
            asking = asking.max(place.newest_asking(after, until));
        };
        look(places.everybody(&self.namespace), after, until);
        look(places.room(&self.namespace, &self.own), after, until);
        for (room, stays) in &self.rooms {
            let place = places.room(&self.namespace, room);
            for stay in stays {
                look(place, after.max(stay.joined), until.min(stay.end()));
            }
        }
        (event, asking)
    }

    /// The oldest position behind `after` that may hold an event for it.
    pub(super) fn oldest(&self, after: Lsn, places: &Places) -> Option<Lsn> {
        if after < self.touched {
            // Places do not tell what came before its record.
            return Some(after.next());
        }
        let look = |place: Option<&Place>, after: Lsn, until: Lsn| place?.oldest_event(after, until);
        let own = look(places.room(&self.namespace, &self.own), after, Lsn(Lsn::END));
        let everybody = look(places.everybody(&self.namespace), after, Lsn(Lsn::END));
        let rooms = self.rooms.iter().flat_map(|(room, stays)| {
            let place = places.room(&self.namespace, room);
            stays.iter().filter_map(move |stay| look(place, after.max(stay.joined), stay.end()))
        });
        rooms.chain(own).chain(everybody).min()
    }

    /// Whether it may have missed what cannot be had again if it resumes from `after`: an event up to `trimmed_to`.
    pub(super) fn missed(&self, after: Lsn, trimmed_to: Lsn, places: &Places) -> bool {
        after < trimmed_to && (after < self.touched || self.newest(after, trimmed_to, places).0 > after)
    }

    /// Whether an event behind `after` wanted an ack of it.
    pub(super) fn was_asked(&self, after: Lsn, places: &Places) -> bool {
        after < self.asked || self.newest(after, Lsn(Lsn::END), places).1 > after
    }

    /// Whether the event at `lsn` is for it.
    pub(super) fn is_owed(&self, lsn: Lsn, event: &EventEntry) -> bool {
        let is_in = |room: &RoomName| {
            *room == self.own
                || self
                    .rooms
                    .get(room)
                    .is_some_and(|stays| stays.iter().any(|stay| stay.joined < lsn && lsn < stay.end()))
        };
        lsn > self.position
            && event.namespace == self.namespace
            && event.exclude != Some(self.socket)
            && (event.rooms.is_empty() || event.rooms.iter().any(is_in))
            && !event.except.iter().any(is_in)
    }

    /// Everything there is to know of it, to be written as one record.
    pub(super) fn to_entry(&self, places: &Places) -> SessionEntry {
        let (event, asking) = self.newest(self.position, Lsn(Lsn::END), places);
        let spans = self.rooms.iter().flat_map(|(room, stays)| {
            stays.iter().map(|stay| RoomSpan { room: room.clone(), joined: stay.joined, left: stay.left })
        });
        let mut rooms: Vec<_> = spans.collect();
        rooms.sort_unstable_by(|a, b| (&a.room, a.joined).cmp(&(&b.room, b.joined)));
        SessionEntry {
            pid: self.pid,
            socket: self.socket,
            namespace: self.namespace.clone(),
            rooms,
            data: self.data.clone(),
            connected: self.connected,
            at_unix_ms: self.at_unix_ms,
            position: self.position,
            touched: self.touched.max(event),
            asked: self.asked.max(asking),
        }
    }
}
