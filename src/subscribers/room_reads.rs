//! Reads of the stored events of rooms, without a subscriber. A read without events may wait for
//! the next one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::requests::{EVENTS_MAX, PAGE_BYTES_MAX};
use super::{Subscribers, bounded};
use crate::messages::attachment::{SubscriberError, SubscriberReply};
use crate::messages::subscribers::{DeliveredEvent, RoomsRead, RoomsToRead};
use crate::queue::change::Refusal;
use crate::queue::record::UnixMillis;
use crate::queue::service::RevealedEvent;
use crate::queue::store::{PageLimit, StoreError};

/// Maximum number of reads that wait for events.
const WAITING_MAX: usize = 4_096;

#[derive(Default)]
pub(super) struct RoomReads {
    ready: VecDeque<RoomRead>,
    /// Reads that wait for the next event of their rooms.
    waiting: Vec<RoomRead>,
}

struct RoomRead {
    rooms: RoomsToRead,
    until: UnixMillis,
    reply: SubscriberReply<RoomsRead>,
}

impl RoomReads {
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn deadline(&self) -> Option<UnixMillis> {
        self.waiting.iter().map(|read| read.until).min()
    }

    pub(super) fn on_event(&mut self, event: &RevealedEvent) {
        self.wake(|read| {
            read.rooms.namespace == event.namespace && read.rooms.rooms.iter().any(|room| event.rooms.contains(room))
        });
    }

    pub(super) fn on_missed(&mut self) {
        self.wake(|_| true);
    }

    fn wake(&mut self, is_ready: impl Fn(&RoomRead) -> bool) {
        if !self.waiting.is_empty() {
            let (ready, waiting) = self.waiting.drain(..).partition(is_ready);
            self.waiting = waiting;
            let ready: Vec<RoomRead> = ready;
            self.ready.extend(ready);
        }
    }
}

impl Subscribers {
    pub(super) fn on_read_rooms(&mut self, rooms: RoomsToRead, wait: Duration, reply: SubscriberReply<RoomsRead>) {
        let is_foreign = rooms.after.is_some_and(|after| after.epoch != self.queue.epoch());
        let refusal = if is_foreign {
            Some(SubscriberError::Refused(Refusal::ForeignEpoch))
        } else if rooms.rooms.iter().any(|room| room.owner().is_some()) {
            Some(SubscriberError::ForeignRoom)
        } else if self.room_reads.waiting.len() + self.room_reads.ready.len() >= WAITING_MAX {
            Some(SubscriberError::Overloaded)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            let _ = reply.send(Err(refusal));
            return;
        }
        let until = self.clock.now().plus(bounded(wait, self.settings.pull_wait_max));
        self.room_reads.ready.push_back(RoomRead { rooms, until, reply });
    }

    /// Carries out one read that is ready.
    pub(super) fn read_rooms(&mut self) -> Result<(), StoreError> {
        let now = self.clock.now();
        self.room_reads.wake(|read| read.until <= now);
        let Some(read) = self.room_reads.ready.pop_front() else { return Ok(()) };
        if read.reply.is_closed() {
            return Ok(());
        }
        match self.read_page_of(&read.rooms) {
            Ok(found)
                if found.events.is_empty() && !found.has_more && found.removed_to.is_none() && read.until > now =>
            {
                self.room_reads.waiting.push(read);
            }
            Ok(found) => {
                let _ = read.reply.send(Ok(found));
            }
            Err(error) => {
                let _ = read.reply.send(Err(SubscriberError::Unavailable));
                return Err(error);
            }
        }
        Ok(())
    }

    fn read_page_of(&mut self, read: &RoomsToRead) -> Result<RoomsRead, StoreError> {
        let RoomsToRead { namespace, rooms, after, limit } = read;
        let (limit, after) = ((*limit).clamp(1, EVENTS_MAX), *after);
        let from = after.map_or(0, |after| after.number);
        let head = self.reader.totals()?.head.number;
        // Rooms are read one after the other: a new event may be in the later ones only.
        let (mut events, mut known_to, mut removed_to, mut has_more) = (Vec::new(), head, 0, false);
        for room in rooms {
            let page = self.reader.events(namespace, room, from, PageLimit { events: limit, bytes: PAGE_BYTES_MAX })?;
            if page.has_more {
                known_to = known_to.min(page.next);
                has_more = true;
            }
            removed_to = removed_to.max(page.removed_to);
            events.extend(page.events);
        }
        events.sort_by_key(|event| event.number);
        events.dedup_by_key(|event| event.number);
        let read = events.len();
        events.retain(|event| event.number <= known_to);
        has_more |= events.len() < read;
        let mut bytes = 0;
        let fits = |event: &crate::queue::record::DurableEvent| {
            bytes += event.payload.bytes();
            bytes
        };
        let sizes: Vec<usize> = events.iter().map(fits).collect();
        let count = sizes.iter().take_while(|sum| **sum <= PAGE_BYTES_MAX).count().max(1).min(limit);
        let is_cut = events.len() > count;
        has_more |= is_cut;
        events.truncate(count);
        let last = events.last().map_or(from, |last| last.number.max(from));
        // After the last event there may be damaged ones, which are not read again.
        let next = if has_more && !is_cut { known_to } else { last };
        let events = events.into_iter().map(|event| DeliveredEvent {
            number: event.number,
            room: event.room,
            payload: Arc::new(event.payload),
            published_at: event.published_at,
            redelivered: false,
        });
        let removed_to = Some(removed_to).filter(|removed_to| after.is_some() && *removed_to > from);
        Ok(RoomsRead { events: events.collect(), next, head, has_more, removed_to })
    }
}
