//! Durable events: their commit, and their reveal to the connected members of their rooms.
//!
//! 1. The hub checks a durable event and submits it to the queue's committer. Nobody else waits.
//! 2. The committer reports what became of it. The hub takes the reports in its turns.
//! 3. A committed event is revealed: it gets its LSN, is journalled with its queue offset, and is
//!    sent to the workers, before its publisher is answered and the subscribers receive it.
//! 4. Some time later the queue is notified of what was revealed.
//!
//! **Invariant**: events are revealed in the order of their numbers, each once. What a failed
//! commit has stored nevertheless is reported before any later commit. What was committed and not
//! revealed when the process ended is revealed at the next start ([`starting`]).

mod reports;
mod starting;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix::{AsyncContext, Context};

use self::reports::{Publisher, Report};
pub(crate) use self::reports::{Reports, found_events};
pub(crate) use self::starting::reveal_stored;
use super::Hub;
use super::intake::{CommandSender, ROOM_WORK, TURN_WORK};
use super::ordering::event_record;
use crate::ids::{QueueOffset, Recipient, RoomName, SocketId, WorkerId};
use crate::messages::abort::AbortOnUnwind;
use crate::messages::answer::{Answer, PublishRefusal, ReplyTo, Stored};
use crate::messages::event::DurableEmit;
use crate::protocol::draft::Draft;
use crate::protocol::socketio::Parser;
use crate::queue::change::{Change, Outcome, Refusal};
use crate::queue::committer::{CommitResult, NotSubmitted};
use crate::queue::origin::Origin;
use crate::queue::planted_crash::crash_if_planted;
use crate::queue::record::{PublishReceipt, UnixMillis};
use crate::queue::service::{QueueService, RevealedEvent};
use crate::queue::store::UnrevealedEvent;
use crate::state::rooms::Target;
use crate::state::schedule::Load;

/// Longest time after which the queue is notified of revealed events.
const REVEALED_INTERVAL: Duration = Duration::from_millis(50);

/// Number of revealed events after which the queue is notified without delay.
const REVEALED_MAX: u64 = 256;

/// Work of a report, most of which is that of the worker that answers the publisher. A turn
/// processes at most 64 of a commit's reports, so that they do not hold up other events.
const REPORT_WORK: usize = TURN_WORK / 64;

/// A server's queue, as the hub uses it.
pub(crate) struct HubQueue {
    pub(crate) service: Arc<QueueService>,
    pub(crate) reports: Arc<Reports>,
    pub(crate) parser: Parser,
    /// Events up to here were revealed before the hub started.
    pub(crate) revealed_before_start: u64,
}

/// State of the hub's durable events.
pub(super) struct Publishing {
    queue: HubQueue,
    /// The newest revealed event. Written by `reveal`.
    revealed: u64,
    /// Reports that were taken and not processed.
    taken: VecDeque<Report>,
    /// Events that were submitted and not revealed or refused, and their bytes.
    unrevealed: usize,
    unrevealed_bytes: usize,
    /// The newest revealed event of which the queue was notified.
    notified: u64,
    /// True while a notification is being committed.
    is_notifying: bool,
    /// True while a timer for [`REVEALED_INTERVAL`] runs.
    notify_scheduled: bool,
    /// True if the last notification failed. The next one waits for the timer.
    notify_failed: bool,
    /// True after the queue was closed.
    is_closed: bool,
}

/// An event about to be revealed.
struct Revealing {
    offset: QueueOffset,
    draft: Draft,
    exclude: Option<SocketId>,
    event: RevealedEvent,
}

impl Publishing {
    pub(super) fn new(queue: HubQueue) -> Self {
        let revealed = queue.revealed_before_start;
        Self {
            queue,
            revealed,
            taken: VecDeque::new(),
            unrevealed: 0,
            unrevealed_bytes: 0,
            notified: revealed,
            is_notifying: false,
            notify_scheduled: false,
            notify_failed: false,
            is_closed: false,
        }
    }

    pub(super) fn wake_with(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.queue.reports.wake_with(wake);
    }

    fn take_reports(&mut self) {
        self.taken.extend(self.queue.reports.take());
    }

    pub(super) fn has_reports(&self) -> bool {
        !self.taken.is_empty()
    }

    fn has_unrevealed_up_to(&self, number: u64) -> bool {
        let next = self.taken.iter().find_map(Report::new_event);
        next.is_some_and(|next| next <= number)
    }

    /// Commits that events were revealed.
    fn notify(&mut self) {
        let up_to = self.revealed;
        if self.is_notifying || up_to == self.notified {
            return;
        }
        let reports = self.queue.reports.clone();
        let complete = Box::new(move |result: CommitResult| {
            let is_committed = matches!(result, CommitResult::Committed(_));
            reports.push(Report::Notified { up_to, is_committed });
        });
        // Tried again later if too many changes wait.
        self.is_notifying = self.queue.service.submit(Change::Revealed { up_to }, complete).is_ok();
        self.notify_failed = !self.is_notifying;
    }
}

impl Hub {
    /// Submits a durable event to the queue. The answer follows when it was committed or refused.
    pub(super) fn apply_publish(&mut self, worker: WorkerId, from: ReplyTo, emit: DurableEmit) {
        // The names are checked, and copied for the target.
        self.work += emit.byte_len() + 2 * emit.publish.rooms.len() * ROOM_WORK;
        if let Err(refusal) = self.submit_publish(worker, from, emit) {
            self.count_refusal(&refusal);
            self.workers.answer(worker, from, Answer::Publish(Err(refusal)));
        }
    }

    fn submit_publish(&mut self, worker: WorkerId, from: ReplyTo, emit: DurableEmit) -> Result<(), PublishRefusal> {
        let Some(publishing) = &mut self.publishing else { return Err(PublishRefusal::QueueOff) };
        let bytes = emit.byte_len();
        let DurableEmit { mut publish, draft, exclude } = emit;
        publish.origin = Origin { exclude }.encode();
        let service = &publishing.queue.service;
        publish.check(service.limits())?;
        let target = target(&publish.rooms, exclude);
        if let Some(writer) = &self.writer {
            writer.check_event(&publish.namespace, &target, &draft)?;
        }
        check_bound("unrevealed_events", publishing.unrevealed, 1, service.waiting_max())?;
        check_bound("unrevealed_bytes", publishing.unrevealed_bytes, bytes, service.waiting_bytes_max())?;
        publishing.unrevealed += 1;
        publishing.unrevealed_bytes += bytes;
        let publisher = Publisher {
            sender: CommandSender { worker, slot: from.slot },
            to: from,
            namespace: publish.namespace.clone(),
            rooms: publish.rooms.as_slice().into(),
            payload: Arc::new(publish.payload.clone()),
            expires_at: publish.expires_at,
            draft,
            exclude,
            bytes,
        };
        let complete = publisher.completion(publishing.queue.reports.clone());
        if let Err(not_submitted) = service.submit(Change::Publish(publish), complete) {
            let result = match &not_submitted {
                NotSubmitted::Full(..) => {
                    let (found, limit) = (service.state().waiting() as u64, service.waiting_max() as u64);
                    CommitResult::Committed(Outcome::Refused(Refusal::Overloaded {
                        what: "waiting_changes",
                        found,
                        limit,
                    }))
                }
                NotSubmitted::Closed(_) => CommitResult::Unavailable,
            };
            not_submitted.into_completion()(result);
        }
        Ok(())
    }

    /// Processes reports of the committer until this turn has done so much work.
    pub(super) fn process_reports(&mut self, work_max: usize) {
        if let Some(publishing) = &mut self.publishing {
            publishing.take_reports();
        }
        while self.work < work_max && self.has_reports() {
            self.process_report();
        }
    }

    /// Processes all reports, before the journal closes.
    pub(super) fn process_all_reports(&mut self) {
        self.process_reports(0);
        while self.publishing.as_ref().is_some_and(Publishing::has_reports) {
            self.process_report();
        }
    }

    /// Processes reports until the events up to a number are revealed, whatever the load: a socket
    /// is about to receive later ones from the queue. All these reports have arrived, since the
    /// subscription was committed after the events.
    pub(super) fn reveal_up_to(&mut self, number: u64) {
        if let Some(publishing) = &mut self.publishing {
            publishing.take_reports();
        }
        while self.publishing.as_ref().is_some_and(|publishing| publishing.has_unrevealed_up_to(number)) {
            self.process_report();
        }
    }

    /// Returns true if reports wait and workers can receive events.
    pub(super) fn has_reports(&self) -> bool {
        self.publishing.as_ref().is_some_and(Publishing::has_reports) && self.workers.load() < Load::Full
    }

    fn process_report(&mut self) {
        self.work += REPORT_WORK;
        let Some(publishing) = &mut self.publishing else { return };
        match publishing.taken.pop_front() {
            Some(Report::Published(publisher, result)) => {
                publishing.unrevealed -= 1;
                publishing.unrevealed_bytes -= publisher.bytes;
                self.on_published(*publisher, result);
            }
            Some(Report::Found(event)) => self.on_found(*event),
            Some(Report::Notified { up_to, is_committed }) => {
                publishing.is_notifying = false;
                publishing.notify_failed = !is_committed;
                if is_committed {
                    publishing.notified = publishing.notified.max(up_to);
                }
            }
            None => {}
        }
    }

    fn on_published(&mut self, publisher: Publisher, result: CommitResult) {
        let Publisher { sender, to, namespace, rooms, payload, expires_at, draft, exclude, .. } = publisher;
        let answer = match result {
            CommitResult::Committed(Outcome::Published(receipt)) => {
                let PublishReceipt { offset, duplicate, pending_for, published_at } = receipt;
                if !duplicate {
                    let event = RevealedEvent { offset, namespace, rooms, payload, published_at, expires_at };
                    self.reveal_for(sender, Revealing { offset, draft, exclude, event });
                }
                Ok(Stored { offset, duplicate, pending_for })
            }
            CommitResult::Committed(Outcome::Refused(refusal)) => Err(refusal.into()),
            CommitResult::Committed(outcome) => {
                log::error!("queue answered a publish with another outcome={outcome:?}");
                Err(PublishRefusal::Indeterminate)
            }
            CommitResult::Indeterminate => Err(PublishRefusal::Indeterminate),
            CommitResult::Unavailable => Err(PublishRefusal::Unavailable),
        };
        match &answer {
            Ok(stored) if stored.duplicate => self.metrics.publishes.duplicates.add(1),
            Ok(_) => self.metrics.publishes.stored.add(1),
            Err(refusal) => self.count_refusal(refusal),
        }
        self.workers.answer(sender.worker, to, Answer::Publish(answer));
    }

    fn count_refusal(&self, refusal: &PublishRefusal) {
        let publishes = &self.metrics.publishes;
        let counter = match refusal {
            PublishRefusal::QueueOff => return,
            PublishRefusal::Refused(Refusal::Conflict { .. }) => &publishes.conflicts,
            PublishRefusal::Refused(Refusal::Overloaded { .. }) => &publishes.overloaded,
            PublishRefusal::Refused(Refusal::TooLarge { .. }) => &publishes.too_large,
            PublishRefusal::Refused(_) => &publishes.invalid,
            PublishRefusal::Unavailable => &publishes.unavailable,
            PublishRefusal::Indeterminate => &publishes.indeterminate,
        };
        counter.add(1);
    }

    /// Reveals an event that a failed commit has stored. Its publisher was answered
    /// `Indeterminate`.
    fn on_found(&mut self, found: UnrevealedEvent) {
        let Some(publishing) = &self.publishing else { return };
        let HubQueue { service, parser, .. } = &publishing.queue;
        let Some(draft) = draft_of(&found, *parser, self.writer.is_some()) else { return };
        let UnrevealedEvent { namespace, rooms, event } = found;
        let offset = QueueOffset { epoch: service.epoch(), number: event.number };
        let exclude = Origin::decode(&event.origin).exclude;
        let (payload, rooms) = (Arc::new(event.payload), rooms.into());
        let (published_at, expires_at): (UnixMillis, _) = (event.published_at, event.expires_at);
        let event = RevealedEvent { offset, namespace, rooms, payload, published_at, expires_at };
        self.reveal(Revealing { offset, draft, exclude, event });
    }

    /// Reveals an event and charges its publisher.
    fn reveal_for(&mut self, sender: CommandSender, revealing: Revealing) {
        let (work, fanout_bytes, journalled) = (self.work, self.fanout_bytes, self.journalled);
        self.reveal(revealing);
        self.charge_work(sender, self.work - work + self.fanout_bytes - fanout_bytes, self.workers.load());
        if self.journalled > journalled {
            self.charge_journal(sender, self.journalled - journalled);
        }
    }

    fn reveal(&mut self, revealing: Revealing) {
        crash_if_planted("before_reveal");
        let Revealing { offset: stored, draft, exclude, event } = revealing;
        let Some(publishing) = &mut self.publishing else { return };
        if stored.number <= publishing.revealed {
            log::error!("stored event was revealed before number={}", stored.number);
            return;
        }
        publishing.revealed = stored.number;
        self.metrics.hub.events.add(1);
        let offset = self.next_offset();
        let message = draft.seal(None, offset.as_ref());
        let target = target(&event.rooms, exclude);
        let namespace = &event.namespace;
        // Journalled also if no session may miss it, so that the next start knows that it was
        // revealed.
        if !self.journal(offset, || event_record(namespace, &target, &message, Some(stored))) {
            log_not_journalled(stored);
        }
        self.deliver(namespace, &target, &message, offset, false, None);
        if let Some(publishing) = &self.publishing {
            publishing.queue.service.feed(event);
        }
    }

    /// Notifies the queue of revealed events: without delay if there are many, otherwise some time
    /// later.
    pub(super) fn notify_queue(&mut self, ctx: &mut Context<Self>) {
        let Some(publishing) = &mut self.publishing else { return };
        let unnotified = publishing.revealed - publishing.notified;
        if publishing.is_closed {
            return;
        }
        if unnotified >= REVEALED_MAX && !publishing.notify_failed {
            publishing.notify();
        }
        if unnotified == 0 || publishing.is_notifying || std::mem::replace(&mut publishing.notify_scheduled, true) {
            return;
        }
        ctx.run_later(REVEALED_INTERVAL, |hub, ctx| {
            let _guard = AbortOnUnwind("hub");
            if let Some(publishing) = &mut hub.publishing {
                publishing.notify_scheduled = false;
                if !publishing.is_closed {
                    publishing.notify();
                }
            }
            hub.notify_queue(ctx);
        });
    }

    /// Ends the notifications, after the queue was closed. The journal knows what was revealed.
    pub(super) fn stop_notifications(&mut self) {
        if let Some(publishing) = &mut self.publishing {
            publishing.is_closed = true;
        }
    }
}

fn check_bound(what: &'static str, found: usize, more: usize, limit: usize) -> Result<(), Refusal> {
    // One event may have any size that the queue admits.
    if found == 0 || found + more <= limit {
        return Ok(());
    }
    Err(Refusal::Overloaded { what, found: found as u64, limit: limit as u64 })
}

/// The packet of a stored event. `None`, which is logged, if its payload is not that of an event.
fn draft_of(stored: &UnrevealedEvent, parser: Parser, token_hole: bool) -> Option<Draft> {
    let UnrevealedEvent { namespace, event, .. } = stored;
    let draft = event.payload.draft(parser, namespace.clone(), token_hole);
    if draft.is_none() {
        log::error!("stored event has no event's payload, it is not revealed number={}", event.number);
    }
    draft
}

fn log_not_journalled(stored: QueueOffset) {
    log::error!("revealed event is not in the journal, clients that missed it are not recovered stored={stored}");
}

/// The connected sockets that receive a durable event: the members of its rooms, except durable
/// subscribers, who receive it from the queue.
fn target(rooms: &[RoomName], exclude: Option<SocketId>) -> Target {
    let recipients = rooms.iter().cloned().map(Recipient::from).collect();
    let except = rooms.iter().map(|room| RoomName::shadow_of(room).into()).collect();
    Target { rooms: recipients, except, exclude, local: false }
}
