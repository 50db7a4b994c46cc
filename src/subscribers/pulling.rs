//! Pulls: a subscriber without a socket asks for events, which are in flight from the answer on.
//!
//! **Rule**: of several pulls that wait, the newest receives the events. The others wait behind it:
//! if a newer pull ended an older one, two idle workers would end each other's pulls in a loop.

use super::content::Content;
use super::{Active, Outlet, Subscribers, bounded};
use crate::messages::attachment::{AttachmentId, SubscriberError, SubscriberReply};
use crate::messages::subscribers::{DeliveredEvent, PullAnswer};
use crate::queue::change::Refusal;
use crate::queue::record::{SubscriberKey, UnixMillis};

/// Time for which a pull may wait for a read of the store in addition to its own time.
const READ_WAIT_MS: u64 = 5_000;

/// Maximum number of pulls of one subscriber that wait.
const WAITING_MAX: usize = 64;

/// The state of a subscriber that pulls.
#[derive(Debug, Default)]
pub(super) struct PullState {
    /// Pulls that wait, the newest last.
    waiting: Vec<WaitingPull>,
    /// Events for the newest of them.
    collected: Vec<DeliveredEvent>,
}

#[derive(Debug)]
struct WaitingPull {
    limit: usize,
    until: UnixMillis,
    reply: SubscriberReply<PullAnswer>,
}

impl PullState {
    pub(super) fn push(&mut self, number: u64, redelivered: bool, content: &Content) {
        let (room, payload, published_at) = (content.room.clone(), content.payload.clone(), content.published_at);
        self.collected.push(DeliveredEvent { number, room, payload, published_at, redelivered });
    }

    pub(super) fn fail(self, error: &SubscriberError) {
        for pull in self.waiting {
            let _ = pull.reply.send(Err(error.clone()));
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl Subscribers {
    /// Begins a pull. While the server is closing, a pull is dropped, which notifies its caller.
    pub(super) fn on_pull(
        &mut self,
        key: SubscriberKey,
        limit: usize,
        wait: std::time::Duration,
        reply: SubscriberReply<PullAnswer>,
    ) {
        if self.is_closing {
            return;
        }
        let until = self.clock.now().plus(bounded(wait, self.settings.pull_wait_max));
        // The newest pull holds up the others until it has an event.
        let pull = WaitingPull { limit: limit.max(1), until, reply };
        match self.id_of(&key) {
            Some(id) if self.has_socket(id) => {
                let _ = pull.reply.send(Err(SubscriberError::Busy));
            }
            Some(id) => self.wait_for_events(id, pull),
            None => {
                let (id, outlet) = (AttachmentId::next(), PullState { waiting: vec![pull], collected: Vec::new() });
                let (done, _) = tokio::sync::oneshot::channel();
                self.on_attach(id, key, Outlet::Pull(outlet), done);
            }
        }
    }

    fn wait_for_events(&mut self, id: AttachmentId, pull: WaitingPull) {
        if pull.reply.is_closed() {
            return;
        }
        let Some(active) = self.active.get_mut(&id) else { return };
        let Outlet::Pull(state) = &mut active.outlet else { return };
        state.waiting.retain(|other| !other.reply.is_closed());
        if state.waiting.len() >= WAITING_MAX {
            let (found, limit) = (state.waiting.len() as u64, WAITING_MAX as u64);
            let refusal = Refusal::Overloaded { what: "waiting_pulls", found, limit };
            let _ = pull.reply.send(Err(refusal.into()));
            return;
        }
        let limit = pull.limit.saturating_sub(state.collected.len());
        state.waiting.push(pull);
        self.with(id, |delivery, now, effects| delivery.on_pull(limit, now, effects));
    }

    /// Passes a pull on to the delivery of an earlier pull.
    pub(super) fn join_pull(&mut self, id: AttachmentId, state: PullState) {
        for pull in state.waiting {
            self.wait_for_events(id, pull);
        }
    }

    /// Asks the new delivery for the events of the pull that began it.
    pub(super) fn begin_pull(&mut self, id: AttachmentId) {
        let Some(Active { outlet: Outlet::Pull(state), .. }) = self.active.get_mut(&id) else { return };
        for pull in std::mem::take(&mut state.waiting) {
            self.wait_for_events(id, pull);
        }
    }

    /// Answers the newest pull that has events, once no read is outstanding that may bring more.
    pub(super) fn answer_pull(&mut self, id: AttachmentId) {
        if let Some(active) = self.active.get(&id)
            && let Outlet::Pull(state) = &active.outlet
            && !state.collected.is_empty()
            && !active.is_reading()
        {
            self.finish_pull(id);
        }
    }

    /// Answers pulls that have waited long enough.
    pub(super) fn end_late_pulls(&mut self, id: AttachmentId, now: UnixMillis) {
        let Some(active) = self.active.get_mut(&id) else { return };
        let (pause, gaps) = (active.read_pause(), active.gaps.unconfirmed());
        let Outlet::Pull(state) = &mut active.outlet else { return };
        let is_late = |pull: &WaitingPull| pull.until.plus(pause) <= now;
        let newest = state.waiting.pop();
        for pull in state.waiting.extract_if(.., |pull| is_late(pull)) {
            let _ = pull.reply.send(Ok(PullAnswer { events: Vec::new(), gaps: gaps.clone() }));
        }
        let is_newest_late = newest.as_ref().is_some_and(is_late);
        state.waiting.extend(newest);
        if is_newest_late {
            self.finish_pull(id);
        }
    }

    /// The caller of a pull has gone. It may be any of those that wait, or another one.
    pub(super) fn end_dropped_pull(&mut self, key: &SubscriberKey) {
        let Some(id) = self.id_of(key) else { return };
        let Some(Active { outlet: Outlet::Pull(state), .. }) = self.active.get_mut(&id) else { return };
        let newest = state.waiting.pop();
        state.waiting.retain(|pull| !pull.reply.is_closed());
        let has_gone = newest.as_ref().is_some_and(|pull| pull.reply.is_closed());
        state.waiting.extend(newest);
        if has_gone {
            self.finish_pull(id);
        }
    }

    /// Answers the newest pull. The events that follow are for the one before it.
    fn finish_pull(&mut self, id: AttachmentId) {
        let Some(active) = self.active.get_mut(&id) else { return };
        let Outlet::Pull(state) = &mut active.outlet else { return };
        let Some(waiting) = state.waiting.pop() else { return };
        let next = state.waiting.last().map_or(0, |next| next.limit);
        let (mut events, gaps) = (std::mem::take(&mut state.collected), active.gaps.unconfirmed());
        events.sort_unstable_by_key(|event| event.number);
        // Events that a former pull was about to receive may be too many for this one.
        let mut rest = events.split_off(events.len().min(waiting.limit));
        if let Err(Ok(unsent)) = waiting.reply.send(Ok(PullAnswer { events, gaps })) {
            // The caller has gone. Events of earlier pulls stay in flight.
            rest.extend(unsent.events);
        }
        let numbers: Vec<u64> = rest.iter().map(|event| event.number).collect();
        self.with(id, |delivery, now, effects| {
            delivery.on_pull(0, now, effects);
            if !numbers.is_empty() {
                delivery.on_returned(&numbers, now, effects);
            }
            delivery.on_pull(next, now, effects);
        });
    }

    pub(super) fn fail_pull(&mut self, id: AttachmentId, error: &SubscriberError) {
        if let Some(Active { outlet: Outlet::Pull(state), .. }) = self.active.get_mut(&id) {
            std::mem::take(state).fail(error);
        }
    }
}

impl Active {
    /// The time at which a pull is answered without events.
    pub(super) fn pull_deadline(&self) -> Option<UnixMillis> {
        let Outlet::Pull(state) = &self.outlet else { return None };
        let until = state.waiting.iter().map(|pull| pull.until).min()?;
        Some(until.plus(self.read_pause()))
    }

    /// The time for which pulls wait longer, for a read that may bring events.
    fn read_pause(&self) -> u64 {
        if self.is_reading() { READ_WAIT_MS } else { 0 }
    }
}
