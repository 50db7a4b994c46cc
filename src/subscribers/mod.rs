//! The actor that delivers durable events to subscribers. It owns a reader of the queue and the
//! delivery of every subscriber that is attached or pulls.
//!
//! This file contains the fields, the lifecycle and the turn. The submodules contain the behaviour:
//! `attaching` (begin and end of attachments), `delivering` (effects of deliveries, reads, live
//! events), `content` (events and packets), `reads` (order of reads of the store), `room_reads`
//! (reads of rooms without a subscriber), `gaps`, `pulling`, `requests` (of the application),
//! `housekeeping`, `sampling`, `clock`.
//!
//! **Invariant**: nothing is lost if the actor drops a delivery, or misses a live event: every
//! event that is not settled is in the store.
//!
//! **Order of changes**: changes are committed in the order in which the actor submits them. So
//! after the commit of an attach, every commit of the subscriber's former delivery has ended.

mod attaching;
mod clock;
mod content;
mod delivering;
mod gaps;
mod housekeeping;
mod pulling;
mod reads;
mod requests;
mod room_reads;
mod sampling;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::{Actor, ActorContext, Arbiter, AsyncContext, Context, Handler, Message, SpawnHandle};
use tokio::sync::oneshot;

use self::attaching::Attaching;
use self::clock::{Clock, millis};
use self::content::{Content, Notices};
use self::delivering::ReadWanted;
use self::gaps::ReportedGaps;
use self::housekeeping::Housekeeping;
use self::pulling::PullState;
use self::reads::Reads;
use self::room_reads::RoomReads;
use crate::ids::{NamespacePath, RoomName};
use crate::limits::Limits;
use crate::messages::abort::AbortOnUnwind;
use crate::messages::attachment::{AttachmentId, AttachmentUpdate, SubscriberReply};
use crate::messages::session::{SessionCommand, SocketRef};
use crate::messages::subscribers::{SubscriberCommand, SubscribersLink};
use crate::metrics::Metrics;
use crate::protocol::encoded::Message as Packet;
use crate::protocol::socketio::Parser;
use crate::queue::change::Change;
use crate::queue::committer::{CommitResult, Completion, NotSubmitted};
use crate::queue::delivery::{Delivery, DeliveryLimits};
use crate::queue::record::{SubscriberKey, UnixMillis};
use crate::queue::service::{Live, QueueService};
use crate::queue::store::QueueReader;
use crate::queue::wake_queue::WakeQueue;

/// Commands that one turn handles.
const COMMANDS_PER_TURN: usize = 256;

/// Deliveries of live events after which a turn takes no further one.
const LIVE_PER_TURN: usize = 4_096;

/// Pause after which changes are submitted again that the committer had no room for.
const RESUBMIT_PAUSE_MS: u64 = 5;

/// Changes without room at the committer from which requests of the application are refused.
const UNSUBMITTED_MAX: usize = 16_384;

/// Requested reads of each queue from which further ones are refused.
const REQUESTED_READS_MAX: usize = 16_384;

/// Bounds and times of the actor.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) parser: Parser,
    pub(crate) delivery: DeliveryLimits,
    pub(crate) pull_wait_max: Duration,
    pub(crate) subscriber_expiry: Duration,
}

impl Settings {
    pub(crate) fn new(limits: &Limits, parser: Parser) -> Self {
        let queue = &limits.queue;
        let (pull_wait_max, subscriber_expiry) = (queue.pull_wait_max, queue.subscriber_expiry);
        Self { parser, delivery: DeliveryLimits::from(queue), pull_wait_max, subscriber_expiry }
    }
}

/// Continuation of the actor's work after a commit.
type Continuation = Box<dyn FnOnce(&mut Subscribers, CommitResult) + Send>;

type Results = Arc<WakeQueue<(Continuation, CommitResult)>>;

/// Passes a result back to the actor. A committer that drops it has panicked.
struct PendingResult {
    results: Results,
    then: Option<Continuation>,
}

impl PendingResult {
    fn finish(&mut self, result: CommitResult) {
        if let Some(then) = self.then.take() {
            self.results.push((then, result));
        }
    }
}

impl Drop for PendingResult {
    fn drop(&mut self) {
        self.finish(CommitResult::Indeterminate);
    }
}

/// How the events of an active subscriber leave the actor.
enum Outlet {
    Socket { socket: SocketRef, unhandled: Arc<AtomicUsize> },
    Pull(PullState),
}

/// A subscriber that is attached or pulls.
struct Active {
    key: SubscriberKey,
    delivery: Delivery<Arc<Content>>,
    outlet: Outlet,
    /// Rooms of the subscriptions, each with the number after which events belong to it.
    rooms: BTreeMap<RoomName, u64>,
    /// A read that waits for its turn.
    read: Option<ReadWanted>,
    /// No page is read before this time.
    read_after: UnixMillis,
    /// Acknowledged events that are committed at the end of the turn.
    acks: Vec<u64>,
    /// Packets that are sent at the end of the turn.
    packets: Vec<Packet>,
    /// Reasons of events that are being given up.
    terms: HashMap<u64, String>,
    /// Callers whose events are sent again once that is committed.
    naks: Vec<(u64, SubscriberReply<()>)>,
    gaps: ReportedGaps,
    deadline: Option<UnixMillis>,
    /// Events in flight as counted by the metric.
    counted_in_flight: usize,
    touched_at: UnixMillis,
}

/// The actor. It runs on an arbiter of its own.
pub(crate) struct Subscribers {
    queue: Arc<QueueService>,
    reader: Box<dyn QueueReader>,
    link: SubscribersLink,
    results: Results,
    settings: Settings,
    notices: Notices,
    metrics: Arc<Metrics>,
    clock: Clock,
    /// Commands that were taken and not handled.
    commands: VecDeque<SubscriberCommand>,
    live: VecDeque<Live>,
    /// Changes that the committer had no room for, in order.
    unsubmitted: VecDeque<(Change, Completion)>,
    attaching: Attaching,
    active: HashMap<AttachmentId, Active>,
    by_key: HashMap<SubscriberKey, AttachmentId>,
    /// Active subscribers of each room.
    by_room: HashMap<(NamespacePath, RoomName), BTreeSet<AttachmentId>>,
    reads: Reads,
    deadlines: BTreeSet<(UnixMillis, AttachmentId)>,
    /// Active subscribers that have changed in this turn.
    changed: BTreeSet<AttachmentId>,
    housekeeping: Housekeeping,
    room_reads: RoomReads,
    /// Completed when all changes were committed, after the server has asked for the end.
    closing: Option<oneshot::Sender<()>>,
    /// The server has asked for the end. No pull waits from then on.
    is_closing: bool,
    /// Nothing is left to do, and the actor ends.
    is_done: bool,
    /// Changes whose results are outstanding.
    committing: usize,
    timer: Option<(UnixMillis, SpawnHandle)>,
    is_woken: bool,
}

impl Subscribers {
    pub(crate) fn new(
        queue: Arc<QueueService>,
        reader: Box<dyn QueueReader>,
        link: SubscribersLink,
        settings: Settings,
        metrics: Arc<Metrics>,
    ) -> Self {
        let clock = Clock::start();
        let notices = Notices { parser: settings.parser, epoch: queue.epoch() };
        Self {
            housekeeping: Housekeeping::new(clock.now(), settings.subscriber_expiry),
            queue,
            reader,
            link,
            results: Arc::default(),
            settings,
            notices,
            metrics,
            clock,
            commands: VecDeque::new(),
            live: VecDeque::new(),
            unsubmitted: VecDeque::new(),
            attaching: Attaching::default(),
            active: HashMap::new(),
            by_key: HashMap::new(),
            by_room: HashMap::new(),
            reads: Reads::default(),
            deadlines: BTreeSet::new(),
            changed: BTreeSet::new(),
            room_reads: RoomReads::default(),
            closing: None,
            is_closing: false,
            is_done: false,
            committing: 0,
            timer: None,
            is_woken: false,
        }
    }

    /// Commits a change, after all that were submitted before, and continues with the result.
    fn submit(&mut self, change: Change, then: impl FnOnce(&mut Self, CommitResult) + Send + 'static) {
        let mut pending = PendingResult { results: self.results.clone(), then: Some(Box::new(then)) };
        self.committing += 1;
        self.unsubmitted.push_back((change, Box::new(move |result| pending.finish(result))));
        self.submit_waiting();
    }

    /// Commits a change whose outcome makes no difference.
    fn submit_lazily(&mut self, change: Change) {
        self.submit(change, |_, _| {});
    }

    /// Submits changes while at most half of those that may wait for the committer are of this
    /// actor. The others are for publishers.
    fn submit_waiting(&mut self) {
        let share = (self.queue.waiting_max() / 2).max(1);
        while self.committing - self.unsubmitted.len() < share
            && let Some((change, complete)) = self.unsubmitted.pop_front()
        {
            match self.queue.submit(change, complete) {
                Ok(()) => {}
                Err(NotSubmitted::Full(change, complete)) => return self.unsubmitted.push_front((change, complete)),
                Err(NotSubmitted::Closed(complete)) => complete(CommitResult::Unavailable),
            }
        }
    }

    /// Handles what has come, and what has become due. Returns the time of the next turn, if there
    /// is one without a wake-up.
    fn turn(&mut self) -> Option<UnixMillis> {
        // What waits elsewhere counts towards the bounds there.
        if self.commands.is_empty() {
            self.commands.extend(self.link.take());
        }
        if self.live.is_empty() {
            self.live.extend(self.queue.live().take());
        }
        let results = self.results.take();
        // After the results: those of a store that was opened again are followed by reads of it.
        if let Some(reader) = self.queue.reopened() {
            self.reader = reader;
        }
        for (then, result) in results {
            self.committing -= 1;
            then(self, result);
        }
        self.submit_waiting();
        // Live events before commands: a pull then finds the events that were published before it.
        self.take_live();
        for _ in 0..COMMANDS_PER_TURN {
            let Some(command) = self.commands.pop_front() else { break };
            self.on_command(command);
        }
        self.queue.want_live(self.waits_for_events());
        self.read_next();
        let now = self.clock.now();
        while let Some((deadline, id)) = self.deadlines.first().copied().filter(|(deadline, _)| *deadline <= now) {
            self.deadlines.remove(&(deadline, id));
            self.on_deadline(id, now);
        }
        self.keep_house(now);
        self.finish_changed();
        self.close_if_done();
        self.next_turn()
    }

    fn waits_for_events(&self) -> bool {
        !self.attaching.is_empty() || !self.active.is_empty() || !self.room_reads.is_empty()
    }

    fn next_turn(&self) -> Option<UnixMillis> {
        let now = self.clock.now();
        let has_commands = !self.commands.is_empty() || !self.link.is_empty();
        let has_reads = self.reads.has_ready() || self.room_reads.has_ready() || self.has_gap_checks();
        let has_work = has_commands || has_reads || !self.live.is_empty() || !self.queue.live().is_empty();
        let unsubmitted = (!self.unsubmitted.is_empty()).then(|| now.plus(RESUBMIT_PAUSE_MS));
        let deadlines = self.deadlines.first().map(|(deadline, _)| *deadline);
        let reads = [self.reads.next_paused(), self.room_reads.deadline()];
        let others = [unsubmitted, deadlines, Some(self.housekeeping.next())].into_iter().chain(reads);
        has_work.then_some(now).into_iter().chain(others.flatten()).min()
    }

    fn on_command(&mut self, command: SubscriberCommand) {
        match command {
            SubscriberCommand::Attach { id, key, socket, unhandled, done } => {
                self.on_attach(id, key, Outlet::Socket { socket, unhandled }, done);
            }
            SubscriberCommand::Detach { id } => self.on_detach(id),
            SubscriberCommand::Answered { id, number, answer } => self.on_answered(id, number, answer),
            SubscriberCommand::Request { key, request } => self.on_request(key, request),
            SubscriberCommand::List { after, limit, reply } => self.list(after, limit, reply),
            SubscriberCommand::ReadRooms { query, wait, session, reply } => {
                self.on_read_rooms(query, wait, session, reply);
            }
            SubscriberCommand::Close(done) => self.on_close(done),
        }
    }

    /// Sends the packets of this turn, commits its acks, and sets the next deadlines.
    fn finish_changed(&mut self) {
        while let Some(id) = self.changed.pop_first() {
            self.flush_acks(id);
            let Some(active) = self.active.get_mut(&id) else { continue };
            let (now_in_flight, before) = (active.delivery.in_flight(), active.counted_in_flight);
            active.counted_in_flight = now_in_flight;
            self.metrics.subscribers.in_flight.add(now_in_flight as i64 - before as i64);
            if !active.packets.is_empty() {
                let packets = std::mem::take(&mut active.packets);
                active.tell(id, AttachmentUpdate::Packets(packets));
            }
            self.answer_pull(id);
            self.set_deadline(id);
        }
    }

    fn set_deadline(&mut self, id: AttachmentId) {
        let Some(active) = self.active.get_mut(&id) else { return };
        let next = active.delivery.next_deadline().into_iter().chain(active.pull_deadline()).min();
        if next != active.deadline {
            if let Some(before) = std::mem::replace(&mut active.deadline, next) {
                self.deadlines.remove(&(before, id));
            }
            self.deadlines.extend(next.map(|next| (next, id)));
        }
    }

    fn on_deadline(&mut self, id: AttachmentId, now: UnixMillis) {
        if let Some(active) = self.active.get_mut(&id) {
            active.deadline = None;
        }
        self.end_late_pulls(id, now);
        self.advance(id);
    }

    fn on_close(&mut self, done: oneshot::Sender<()>) {
        let ids: Vec<AttachmentId> = self.active.keys().copied().collect();
        for id in ids {
            self.end(id);
        }
        // Dropping them notifies their callers.
        self.attaching = Attaching::default();
        self.room_reads = RoomReads::default();
        (self.is_closing, self.closing) = (true, Some(done));
    }

    fn close_if_done(&mut self) {
        // An attachment that begins later is detached by the next start.
        if self.committing == 0
            && let Some(done) = self.closing.take()
        {
            let _ = done.send(());
            self.is_done = true;
        }
    }
}

impl Drop for Subscribers {
    fn drop(&mut self) {
        self.link.close();
    }
}

impl Active {
    /// Sends an update to the session of an attached socket.
    fn tell(&self, id: AttachmentId, update: AttachmentUpdate) {
        if let Outlet::Socket { socket, .. } = &self.outlet {
            // A session that has ended drops its attachment, which ends the delivery.
            let _ = socket.link.post(SessionCommand::Attachment { socket: socket.info.id, id, update });
        }
    }
}

impl Outlet {
    /// Counts an answer of the client as handled.
    fn on_handled(&self) {
        if let Self::Socket { unhandled, .. } = self {
            unhandled.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Wakes the actor.
struct Wake;

impl Message for Wake {
    type Result = ();
}

impl Actor for Subscribers {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let wake = || {
            let address = ctx.address().recipient();
            // A full mailbox has wake-ups already.
            move || drop(address.try_send(Wake))
        };
        self.link.wake_with(wake());
        self.results.wake_with(wake());
        self.queue.live().wake_with(wake());
        self.run_turn(ctx);
    }
}

impl Handler<Wake> for Subscribers {
    type Result = ();

    fn handle(&mut self, _: Wake, ctx: &mut Context<Self>) {
        self.is_woken = false;
        self.run_turn(ctx);
    }
}

impl Subscribers {
    fn run_turn(&mut self, ctx: &mut Context<Self>) {
        let _guard = AbortOnUnwind("subscribers");
        let next = self.turn();
        if self.is_done {
            // Later commands are refused, and the thread is this actor's alone.
            ctx.stop();
            Arbiter::current().stop();
            return;
        }
        let Some(at) = next else { return };
        let now = self.clock.now();
        if at <= now {
            // In a later turn of the thread, so that timers and wake-ups have their share.
            if !std::mem::replace(&mut self.is_woken, true) {
                let address = ctx.address();
                actix::spawn(async move {
                    tokio::task::yield_now().await;
                    let _ = address.try_send(Wake);
                });
            }
            return;
        }
        if self.timer.as_ref().is_some_and(|(armed, _)| *armed <= at && *armed > now) {
            return;
        }
        if let Some((_, timer)) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        // The clock counts whole milliseconds.
        let wait = Duration::from_millis(at.0 - now.0 + 1);
        let timer = ctx.run_later(wait, |actor, ctx| {
            actor.timer = None;
            actor.run_turn(ctx);
        });
        self.timer = Some((at, timer));
    }
}

/// A duration that a caller may choose, in milliseconds, at most `max`.
fn bounded(duration: Duration, max: Duration) -> u64 {
    millis(duration.min(max))
}
