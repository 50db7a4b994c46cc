//! Pulls: a subscriber without a socket asks for events, which are in flight from the answer on.

use super::content::Content;
use super::{Active, Outlet, Subscribers, bounded};
use crate::messages::attachment::{AttachmentId, SubscriberError, SubscriberReply};
use crate::messages::subscribers::{DeliveredEvent, PullAnswer};
use crate::queue::record::{SubscriberKey, UnixMillis};

/// Time for which a pull may wait for a read of the store in addition to its own time.
const READ_WAIT: u64 = 5_000;

/// The state of a subscriber that pulls.
#[derive(Debug, Default)]
pub(super) struct PullState {
    waiting: Option<WaitingPull>,
    /// Events for the waiting pull.
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

    pub(super) fn fail(self, error: SubscriberError) {
        if let Some(waiting) = self.waiting {
            let _ = waiting.reply.send(Err(error));
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }
}

impl Subscribers {
    /// Begins a pull. A pull of the same subscriber that waits is answered without events. While
    /// the server is closing, a pull is dropped, which notifies its caller.
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
        let pull = WaitingPull { limit, until, reply };
        match self.by_key.get(&key).copied() {
            Some(id) if self.is_attached(id) => {
                let _ = pull.reply.send(Err(SubscriberError::Busy));
            }
            Some(id) => self.wait_for_events(id, pull),
            None => {
                let (id, outlet) = (AttachmentId::next(), PullState { waiting: Some(pull), collected: Vec::new() });
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
        let limit = pull.limit.saturating_sub(state.collected.len());
        if let Some(before) = state.waiting.replace(pull) {
            let _ = before.reply.send(Ok(PullAnswer::default()));
        }
        self.with(id, |delivery, now, effects| delivery.on_pull(limit, now, effects));
    }

    /// Passes a pull on to the delivery of an earlier pull.
    pub(super) fn join_pull(&mut self, id: AttachmentId, mut state: PullState) {
        if let Some(pull) = state.waiting.take() {
            self.wait_for_events(id, pull);
        }
    }

    /// Asks the new delivery for the events of the pull that began it.
    pub(super) fn begin_pull(&mut self, id: AttachmentId) {
        let Some(Active { outlet: Outlet::Pull(state), .. }) = self.active.get_mut(&id) else { return };
        if let Some(pull) = state.waiting.take() {
            self.wait_for_events(id, pull);
        }
    }

    /// Answers a waiting pull that has events, once no read is outstanding that may bring more.
    pub(super) fn answer_pull(&mut self, id: AttachmentId) {
        if let Some(active) = self.active.get(&id)
            && let Outlet::Pull(state) = &active.outlet
            && !state.collected.is_empty()
            && !active.is_reading()
        {
            self.finish_pull(id);
        }
    }

    pub(super) fn end_late_pull(&mut self, id: AttachmentId, now: UnixMillis) {
        if self.active.get(&id).and_then(Active::pull_deadline).is_some_and(|until| until <= now) {
            self.finish_pull(id);
        }
    }

    /// The caller of a pull has gone. It may be another one than that of the pull that waits.
    pub(super) fn end_dropped_pull(&mut self, key: &SubscriberKey) {
        let Some(id) = self.by_key.get(key).copied() else { return };
        let Some(Active { outlet: Outlet::Pull(state), .. }) = self.active.get(&id) else { return };
        if state.waiting.as_ref().is_some_and(|pull| pull.reply.is_closed()) {
            self.finish_pull(id);
        }
    }

    fn finish_pull(&mut self, id: AttachmentId) {
        let Some(active) = self.active.get_mut(&id) else { return };
        let Outlet::Pull(state) = &mut active.outlet else { return };
        let Some(waiting) = state.waiting.take() else { return };
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
        });
    }

    pub(super) fn fail_pull(&mut self, id: AttachmentId, error: &SubscriberError) {
        if let Some(Active { outlet: Outlet::Pull(state), .. }) = self.active.get_mut(&id) {
            std::mem::take(state).fail(error.clone());
        }
    }
}

impl Active {
    /// The time at which a waiting pull is answered without events.
    pub(super) fn pull_deadline(&self) -> Option<UnixMillis> {
        let Outlet::Pull(state) = &self.outlet else { return None };
        let until = state.waiting.as_ref()?.until;
        Some(if self.is_reading() { until.plus(READ_WAIT) } else { until })
    }
}
