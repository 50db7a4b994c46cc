//! Begin and end of attachments. One attachment of a subscriber is active; a newer one of a socket
//! ends it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use super::content::{AttachStatus, Eviction};
use super::delivering::settlement_change;
use super::gaps::ReportedGaps;
use super::reads::ReadJob;
use super::{Active, Outlet, Subscribers};
use crate::messages::attachment::{AttachmentId, AttachmentUpdate, SubscriberError, SubscriberReply};
use crate::messages::session::SessionCommand;
use crate::queue::change::{Change, Outcome, Refusal};
use crate::queue::committer::CommitResult;
use crate::queue::delivery::{Delivery, Effect, Mode, Settlement};
use crate::queue::record::{Backlog, Gap, SubscriberInfo, SubscriberKey, UnixMillis};
use crate::queue::store::StoreError;

/// Pending events that are counted for the client. Counting more takes longer than a turn should.
const PENDING_COUNTED_MAX: usize = 1_000;

/// Removed events that one look at the gaps of a subscriber reads.
pub(super) const GAPS_READ: usize = 1_024;

/// An attach whose commit or first read is outstanding.
pub(super) struct PendingAttach {
    key: SubscriberKey,
    outlet: Outlet,
    replies: Vec<SubscriberReply<()>>,
    /// The outcome of the commit, once there is one.
    committed: Option<FormerState>,
    /// The attach was committed again.
    is_repeated: bool,
}

/// The state of a subscriber before it was attached.
#[derive(Debug, Clone, Copy, Default)]
struct FormerState {
    is_new: bool,
    has_expired: bool,
    sent_up_to: Option<u64>,
}

/// All attaches whose commits or first reads are outstanding.
#[derive(Default)]
pub(super) struct Attaching {
    pending: HashMap<AttachmentId, PendingAttach>,
    /// Their number for each subscriber.
    counts: HashMap<SubscriberKey, usize>,
}

impl Attaching {
    pub(super) fn get(&self, id: &AttachmentId) -> Option<&PendingAttach> {
        self.pending.get(id)
    }

    fn get_mut(&mut self, id: &AttachmentId) -> Option<&mut PendingAttach> {
        self.pending.get_mut(id)
    }

    fn contains_subscriber(&self, key: &SubscriberKey) -> bool {
        self.counts.contains_key(key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    fn insert(&mut self, id: AttachmentId, attach: PendingAttach) {
        *self.counts.entry(attach.key.clone()).or_default() += 1;
        self.pending.insert(id, attach);
    }

    fn remove(&mut self, id: &AttachmentId) -> Option<PendingAttach> {
        let attach = self.pending.remove(id)?;
        if let Entry::Occupied(mut count) = self.counts.entry(attach.key.clone()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        Some(attach)
    }
}

impl PendingAttach {
    pub(super) fn outlet(&self) -> &Outlet {
        &self.outlet
    }
}

impl Subscribers {
    pub(super) fn on_attach(
        &mut self,
        id: AttachmentId,
        key: SubscriberKey,
        outlet: Outlet,
        done: SubscriberReply<()>,
    ) {
        if self.active.contains_key(&id) {
            let _ = done.send(Ok(()));
            return;
        }
        if let Some(pending) = self.attaching.get_mut(&id) {
            return pending.replies.push(done);
        }
        self.attaching
            .insert(id, PendingAttach { key, outlet, replies: vec![done], committed: None, is_repeated: false });
        self.submit_attach(id);
    }

    fn submit_attach(&mut self, id: AttachmentId) {
        let Some(pending) = self.attaching.get(&id) else { return };
        // Who pulls has created the subscriber before; if it has expired since, the pull fails.
        let create = matches!(pending.outlet, Outlet::Socket { .. });
        let key = pending.key.clone();
        let change = Change::Attach { subscriber: key.clone(), create };
        self.submit(change, move |actor, result| actor.on_attached(id, key, result));
    }

    fn repeat_attach(&mut self, id: AttachmentId) {
        if let Some(pending) = self.attaching.get_mut(&id) {
            pending.is_repeated = true;
        }
        self.submit_attach(id);
    }

    /// Undoes the attach of a socket that has gone before its delivery began.
    fn undo_attach(&mut self, subscriber: SubscriberKey, sent_up_to: Option<u64>) {
        // Another attach that follows leaves the subscriber attached: what it may have received is
        // then everything.
        let is_wanted = self.by_key.contains_key(&subscriber) || self.attaching.contains_subscriber(&subscriber);
        if let (Some(sent_up_to), false) = (sent_up_to, is_wanted) {
            self.submit_lazily(Change::Detach { subscriber, sent_up_to });
        }
    }

    fn on_attached(&mut self, id: AttachmentId, key: SubscriberKey, result: CommitResult) {
        let (is_new, expired_at, sent_up_to) = match outcome(result) {
            Ok(Outcome::Attached { is_new, expired_at, sent_up_to }) => (is_new, expired_at, sent_up_to),
            Ok(_) => return self.fail_attach(id, &SubscriberError::Indeterminate),
            Err(error) => return self.fail_attach(id, &error),
        };
        let Some(pending) = self.attaching.get_mut(&id) else { return self.undo_attach(key, sent_up_to) };
        let before = pending.committed.unwrap_or_default();
        pending.committed = Some(FormerState {
            is_new: is_new || before.is_new,
            has_expired: expired_at.is_some() || before.has_expired,
            sent_up_to,
        });
        self.reads.push(ReadJob::Begin(id));
    }

    fn fail_attach(&mut self, id: AttachmentId, error: &SubscriberError) {
        let Some(pending) = self.attaching.remove(&id) else { return };
        match pending.outlet {
            Outlet::Pull(pull) => pull.fail(error),
            Outlet::Socket { socket, .. } => {
                let (socket, update) = (&socket, AttachmentUpdate::Ended(None));
                let _ = socket.link.post(SessionCommand::Attachment { socket: socket.info.id, id, update });
            }
        }
        for reply in pending.replies {
            let _ = reply.send(Err(error.clone()));
        }
    }

    /// Begins the delivery of an attached subscriber.
    pub(super) fn begin(&mut self, id: AttachmentId) -> Result<(), StoreError> {
        let Some(pending) = self.attaching.get(&id) else { return Ok(()) };
        let key = pending.key.clone();
        let is_socket = matches!(pending.outlet, Outlet::Socket { .. });
        if self.is_closing && !is_socket {
            self.on_detach(id);
            return Ok(());
        }
        if let Some(other) = self.id_of(&key) {
            if !is_socket && self.has_socket(other) {
                self.fail_attach(id, &SubscriberError::Busy);
                return Ok(());
            }
            if !is_socket && let Some(PendingAttach { outlet: Outlet::Pull(state), .. }) = self.attaching.remove(&id) {
                self.join_pull(other, state);
                return Ok(());
            }
            self.evict(other, Eviction::Replaced);
            // The commits of the other delivery end before this one.
            self.repeat_attach(id);
            return Ok(());
        }
        if !pending.is_repeated && pending.committed.is_none_or(|committed| committed.sent_up_to.is_none()) {
            // Another attachment was active, and has stored its end after this attach.
            self.repeat_attach(id);
            return Ok(());
        }
        let Some(info) = self.reader.subscriber(&key)? else {
            self.fail_attach(id, &SubscriberError::Refused(Refusal::UnknownSubscriber));
            return Ok(());
        };
        let gaps = self.reader.gaps(&key, 0, GAPS_READ)?.gaps;
        let backlog = if is_socket { self.reader.backlog(&key, PENDING_COUNTED_MAX)? } else { Backlog::default() };
        let head = self.reader.totals()?.head.number;
        let Some(pending) = self.attaching.remove(&id) else { return Ok(()) };
        self.activate(id, pending, info, &gaps, backlog, head);
        Ok(())
    }

    fn activate(
        &mut self,
        id: AttachmentId,
        pending: PendingAttach,
        info: SubscriberInfo,
        gaps: &[Gap],
        backlog: Backlog,
        head: u64,
    ) {
        let PendingAttach { key, outlet, replies, committed, .. } = pending;
        let FormerState { is_new, has_expired, sent_up_to } = committed.unwrap_or_default();
        let mode = match &outlet {
            Outlet::Socket { .. } => Mode::Push,
            Outlet::Pull(_) => Mode::Pull { demand: 0 },
        };
        // Without a stored end of the former attachment, everything may have been sent.
        let delivery = Delivery::new(self.settings.delivery.clone(), mode, 0, sent_up_to.unwrap_or(head));
        let rooms: BTreeMap<_, _> = info.rooms.into_iter().map(|room| (room, 0)).collect();
        for room in rooms.keys() {
            self.by_room.entry((key.namespace.clone(), room.clone())).or_default().insert(id);
        }
        self.by_key.insert(key.clone(), id);
        let is_socket = matches!(outlet, Outlet::Socket { .. });
        self.metrics.subscribers.connected.add(i64::from(is_socket));
        let mut active = Active {
            key,
            delivery,
            outlet,
            rooms,
            read: None,
            read_after: UnixMillis(0),
            acks: Vec::new(),
            packets: Vec::new(),
            terms: HashMap::new(),
            naks: Vec::new(),
            gaps: ReportedGaps::default(),
            deadline: None,
            counted_in_flight: 0,
            touched_at: self.clock.now(),
        };
        if is_socket {
            let status = match (is_new, has_expired) {
                (_, true) => AttachStatus::Expired,
                (true, false) => AttachStatus::New,
                (false, false) if gaps.is_empty() => AttachStatus::Resumed,
                (false, false) => AttachStatus::Partial,
            };
            active.tell(id, AttachmentUpdate::Join(active.rooms.keys().cloned().collect()));
            active.packets.push(self.notices.attached(&active.key.namespace, status, backlog, gaps));
        }
        self.count_gaps(active.gaps.report(gaps));
        self.active.insert(id, active);
        for reply in replies {
            let _ = reply.send(Ok(()));
        }
        self.begin_pull(id);
        self.advance(id);
    }

    /// The attachment of an active subscriber.
    pub(super) fn id_of(&self, key: &SubscriberKey) -> Option<AttachmentId> {
        self.by_key.get(key).copied()
    }

    /// True if the outlet is a socket, not pulls.
    pub(super) fn has_socket(&self, id: AttachmentId) -> bool {
        self.active.get(&id).is_some_and(|active| matches!(active.outlet, Outlet::Socket { .. }))
    }

    /// The socket of an attachment has gone.
    pub(super) fn on_detach(&mut self, id: AttachmentId) {
        match self.attaching.remove(&id) {
            Some(PendingAttach { key, committed: Some(attached), .. }) => {
                self.undo_attach(key, attached.sent_up_to);
            }
            // The commit is outstanding.
            Some(_) => {}
            None => self.end(id),
        }
    }

    /// Ends an attachment in favour of another one, or since its subscriber was removed.
    pub(super) fn evict(&mut self, id: AttachmentId, eviction: Eviction) {
        let Some(active) = self.active.get_mut(&id) else { return };
        match &active.outlet {
            Outlet::Socket { .. } => {
                self.metrics.subscribers.evictions.add(1);
                let packets = std::mem::take(&mut active.packets);
                active.tell(id, AttachmentUpdate::Packets(packets));
                let packet = self.notices.evicted(&active.key.namespace, eviction);
                active.tell(id, AttachmentUpdate::Ended(Some(packet)));
            }
            Outlet::Pull(_) => {
                let error = match eviction {
                    Eviction::Replaced => SubscriberError::Busy,
                    Eviction::Removed => SubscriberError::Refused(Refusal::UnknownSubscriber),
                };
                self.fail_pull(id, &error);
            }
        }
        self.end(id);
    }

    /// Ends a delivery. What it has not settled stays in the store.
    pub(super) fn end(&mut self, id: AttachmentId) {
        self.flush_acks(id);
        let Some(active) = self.active.remove(&id) else { return };
        self.by_key.remove(&active.key);
        for room in active.rooms.keys() {
            self.forget_room(&active.key, room, id);
        }
        if let Some(deadline) = active.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        let metrics = &self.metrics.subscribers;
        metrics.in_flight.add(-(active.counted_in_flight as i64));
        let (subscriber, sent_up_to) = (active.key, active.delivery.sent_up_to());
        if matches!(active.outlet, Outlet::Socket { .. }) {
            metrics.connected.add(-1);
            let mut effects = Vec::new();
            active.delivery.on_connection_lost(self.clock.now(), &mut effects);
            for effect in effects {
                if let Effect::Commit { number, settlement } = effect {
                    if matches!(settlement, Settlement::Retry { .. }) {
                        self.metrics.subscribers.redelivered_lost.add(1);
                    }
                    let change = settlement_change(&subscriber, number, settlement, String::new());
                    self.submit_lazily(change);
                }
            }
        }
        self.submit_lazily(Change::Detach { subscriber, sent_up_to });
    }
}

/// The outcome of a commit, or why there is none.
pub(super) fn outcome(result: CommitResult) -> Result<Outcome, SubscriberError> {
    match result {
        CommitResult::Committed(Outcome::Refused(refusal)) => Err(refusal.into()),
        CommitResult::Committed(outcome) => Ok(outcome),
        CommitResult::Indeterminate => Err(SubscriberError::Indeterminate),
        CommitResult::Unavailable => Err(SubscriberError::Unavailable),
    }
}
