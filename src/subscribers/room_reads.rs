//! Reads of the stored events of rooms, without a subscriber. A read without events may wait for
//! the next one.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::requests::{EVENTS_MAX, PAGE_BYTES_MAX};
use super::{Subscribers, bounded};
use crate::ids::{NamespacePath, QueueOffset, RoomName};
use crate::messages::attachment::{SubscriberError, SubscriberReply};
use crate::messages::session::SessionLink;
use crate::messages::subscribers::{DeliveredEvent, RoomQuery, StoredEventsPage};
use crate::queue::change::Refusal;
use crate::queue::left_out::log_once;
use crate::queue::record::UnixMillis;
use crate::queue::service::RevealedEvent;
use crate::queue::store::{PageLimit, StoreError};

/// Maximum number of reads that have no answer yet.
const READS_MAX: usize = 4_096;

/// Maximum number of those of one session. A client needs one at a time.
const READS_PER_SESSION_MAX: usize = 16;

/// Reads that have no answer yet.
#[derive(Default)]
pub(super) struct RoomReads {
    reads: BTreeMap<u64, PendingRead>,
    /// Reads that are carried out next, in order.
    ready: VecDeque<u64>,
    /// The other reads, which wait for the next event of their rooms.
    by_room: HashMap<(NamespacePath, RoomName), BTreeSet<u64>>,
    deadlines: BTreeSet<(UnixMillis, u64)>,
    by_session: HashMap<usize, BTreeSet<u64>>,
    last: u64,
    /// Abandoned reads were dropped in this turn.
    is_swept: bool,
}

struct PendingRead {
    query: RoomQuery,
    until: UnixMillis,
    /// The session of the client that asked.
    session: Option<SessionLink>,
    reply: SubscriberReply<StoredEventsPage>,
}

impl PendingRead {
    /// True if the answer reaches no caller. A handler of the application waits for it also after
    /// the client's session has ended.
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed() || self.session.as_ref().is_some_and(|session| !session.is_open())
    }
}

impl RoomReads {
    pub(super) fn is_empty(&self) -> bool {
        self.reads.is_empty()
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn deadline(&self) -> Option<UnixMillis> {
        self.deadlines.first().map(|(until, _)| *until)
    }

    pub(super) fn on_event(&mut self, event: &RevealedEvent) {
        if self.by_room.is_empty() {
            return;
        }
        let of_room = |room: &RoomName| self.by_room.get(&(event.namespace.clone(), room.clone()));
        let woken: BTreeSet<u64> = event.rooms.iter().filter_map(of_room).flatten().copied().collect();
        self.wake(woken);
    }

    pub(super) fn on_left_out(&mut self) {
        let woken: Vec<u64> = self.deadlines.iter().map(|(_, id)| *id).collect();
        self.wake(woken);
    }

    fn end_waits(&mut self, now: UnixMillis) {
        let late: Vec<u64> = self.deadlines.iter().take_while(|(until, _)| *until <= now).map(|(_, id)| *id).collect();
        self.wake(late);
    }

    fn wake(&mut self, ids: impl IntoIterator<Item = u64>) {
        for id in ids {
            self.end_wait(id);
            self.ready.push_back(id);
        }
    }

    /// Adds a read, unless there are too many without those whose callers have gone.
    fn add(&mut self, read: PendingRead) -> Result<(), (Refusal, SubscriberReply<StoredEventsPage>)> {
        let session = read.session.as_ref().map(SessionLink::address);
        let of_session =
            |reads: &Self| session.and_then(|session| reads.by_session.get(&session)).map_or(0, BTreeSet::len);
        if of_session(self) >= READS_PER_SESSION_MAX || self.reads.len() >= READS_MAX {
            self.drop_abandoned();
        }
        for (what, found, limit) in [
            ("reads of rooms of one session", of_session(self), READS_PER_SESSION_MAX),
            ("reads of rooms", self.reads.len(), READS_MAX),
        ] {
            if found >= limit {
                return Err((Refusal::Overloaded { what, found: found as u64, limit: limit as u64 }, read.reply));
            }
        }
        self.last += 1;
        if let Some(session) = session {
            self.by_session.entry(session).or_default().insert(self.last);
        }
        self.reads.insert(self.last, read);
        self.ready.push_back(self.last);
        Ok(())
    }

    /// Drops abandoned reads, once a turn. The requests of one turn are taken before it: their
    /// callers had dropped earlier reads by then.
    fn drop_abandoned(&mut self) {
        if std::mem::replace(&mut self.is_swept, true) {
            return;
        }
        let abandoned = self.reads.iter().filter(|(_, read)| read.is_abandoned()).map(|(id, _)| *id);
        let abandoned: Vec<u64> = abandoned.collect();
        if abandoned.is_empty() {
            return;
        }
        for id in abandoned {
            self.remove(id);
        }
        self.ready.retain(|id| self.reads.contains_key(id));
    }

    fn remove(&mut self, id: u64) -> Option<PendingRead> {
        self.end_wait(id);
        let read = self.reads.remove(&id)?;
        if let Some(session) = &read.session
            && let Some(ids) = self.by_session.get_mut(&session.address())
        {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_session.remove(&session.address());
            }
        }
        Some(read)
    }

    fn begin_wait(&mut self, id: u64) {
        let Some(PendingRead { query, until, .. }) = self.reads.get(&id) else { return };
        for room in &query.rooms {
            self.by_room.entry((query.namespace.clone(), room.clone())).or_default().insert(id);
        }
        self.deadlines.insert((*until, id));
    }

    fn end_wait(&mut self, id: u64) {
        let Some(PendingRead { query, until, .. }) = self.reads.get(&id) else { return };
        if !self.deadlines.remove(&(*until, id)) {
            return;
        }
        for room in &query.rooms {
            let key = (query.namespace.clone(), room.clone());
            if let Some(ids) = self.by_room.get_mut(&key) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_room.remove(&key);
                }
            }
        }
    }
}

impl Subscribers {
    pub(super) fn on_read_rooms(
        &mut self,
        query: RoomQuery,
        wait: Duration,
        session: Option<SessionLink>,
        reply: SubscriberReply<StoredEventsPage>,
    ) {
        let is_foreign = query.after.is_some_and(|after| after.epoch != self.queue.epoch());
        let (refusal, reply) = if is_foreign {
            (SubscriberError::Refused(Refusal::ForeignEpoch), reply)
        } else if query.rooms.iter().any(|room| room.owner().is_some()) {
            (SubscriberError::ForeignRoom, reply)
        } else {
            let until = self.clock.now().plus(bounded(wait, self.settings.pull_wait_max));
            let read = PendingRead { query, until, session, reply };
            if read.is_abandoned() {
                return;
            }
            match self.room_reads.add(read) {
                Ok(()) => return,
                Err((refusal, reply)) => (refusal.into(), reply),
            }
        };
        let _ = reply.send(Err(refusal));
    }

    /// Carries out one read that is ready.
    pub(super) fn read_rooms(&mut self) -> Result<(), StoreError> {
        let now = self.clock.now();
        self.room_reads.is_swept = false;
        self.room_reads.end_waits(now);
        let Some(id) = self.room_reads.ready.pop_front() else { return Ok(()) };
        let Some(read) = self.room_reads.reads.get(&id) else { return Ok(()) };
        if read.is_abandoned() {
            self.room_reads.remove(id);
            return Ok(());
        }
        let (until, query) = (read.until, read.query.clone());
        let (answer, result) = match self.read_page_of(&query) {
            Ok(found) if found.events.is_empty() && !found.has_more && found.removed_to.is_none() && until > now => {
                self.room_reads.begin_wait(id);
                return Ok(());
            }
            Ok(found) => (Ok(found), Ok(())),
            Err(error) => (Err(SubscriberError::Unavailable), Err(error)),
        };
        if let Some(read) = self.room_reads.remove(id) {
            let _ = read.reply.send(answer);
        }
        result
    }

    fn read_page_of(&mut self, query: &RoomQuery) -> Result<StoredEventsPage, StoreError> {
        let RoomQuery { namespace, rooms, after, limit } = query;
        let limit = PageLimit { events: (*limit).clamp(1, EVENTS_MAX), bytes: PAGE_BYTES_MAX };
        let from = after.map_or(0, |after| after.number);
        let page = self.reader.events(namespace, rooms, from, limit)?;
        // Read last, so that it is not before an event of the page.
        let head = self.reader.totals()?.head.number;
        for damaged in &page.damaged {
            log_once(QueueOffset { epoch: self.queue.epoch(), number: damaged.number }, &damaged.error);
        }
        let events = page.events.into_iter().map(|event| DeliveredEvent {
            number: event.number,
            room: event.room,
            payload: Arc::new(event.payload),
            published_at: event.published_at,
            redelivered: false,
        });
        let removed_to = Some(page.removed_to).filter(|removed_to| after.is_some() && *removed_to > from);
        Ok(StoredEventsPage { events: events.collect(), next: page.next, head, has_more: page.has_more, removed_to })
    }
}
