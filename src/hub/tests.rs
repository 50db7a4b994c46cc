//! Tests of the hub with a worker that records the commands it receives.

mod fairness;
mod journal;
mod publishing;
mod resume;
mod shadows;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use actix::{Actor, Addr, AsyncContext, Context, Handler, System};
use smallvec::SmallVec;

use super::journal_writer::JournalWriter;
use super::{Hub, Stores};
use crate::ids::{
    AckId, AckOwner, Epoch, Lsn, MemberKey, NamespacePath, Offset, PrivateId, RoomName, SlotKey, SocketId, WorkerId,
};
use crate::journal::memory::MemoryJournal;
use crate::journal::{Chunk, Journal, JournalError, Record, RecordBody};
use crate::limits::Limits;
use crate::messages::abort::tests::{aborts, is_to_panic};
use crate::messages::answer::{Answer, ConnectAnswer, ReplyTo, Stored};
use crate::messages::event::{AckWanted, Emit, Grade};
use crate::messages::fanout::{DeliveryMode, FanoutBatch, FanoutCommand, Replay};
use crate::messages::hub::{Connect, ConnectKind, HubBatch, HubCommand, HubControl, ImmediateCommand, OrderedCommand};
use crate::messages::room_filter::RoomFilter;
use crate::protocol::draft::Draft;
use crate::protocol::encoded::EncodedFrame;
use crate::protocol::socketio::Parser;
use crate::protocol::socketio::resume::ResumeAttempt;
use crate::state::credit::Ticket;
use crate::state::rooms::Target;

const WORKER: WorkerId = WorkerId(0);

/// A worker that sends a line of text for each command that it receives.
struct Listener(mpsc::Sender<String>);

impl Actor for Listener {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(Limits::default().hub.mailbox_batches);
    }
}

impl Handler<FanoutBatch> for Listener {
    type Result = ();

    fn handle(&mut self, batch: FanoutBatch, _: &mut Context<Self>) {
        for command in batch.commands {
            let words = match command {
                FanoutCommand::Attach { member, mode, .. } => attached(member, mode),
                FanoutCommand::Detach { member, .. } => format!("detach {}", member.0),
                FanoutCommand::Join { member, .. } => format!("join {}", member.0),
                FanoutCommand::Leave { member, .. } => format!("leave {}", member.0),
                FanoutCommand::Deliver(delivery) => format!("deliver {}", delivery.message.text()),
                FanoutCommand::Answer { answer: answer @ (Answer::ResumeChecked(_) | Answer::List(_)), .. } => {
                    words(answer)
                }
                FanoutCommand::Answer { to, answer } => format!("answer {} {}", to.ticket.0, words(answer)),
                FanoutCommand::Fetch(fetch) => format!("fetch {}", fetch.to.ticket.0),
                FanoutCommand::Fetched { ticket, sockets, .. } => format!("fetched {} {}", ticket.0, sockets.len()),
                FanoutCommand::Acked { to, .. } => format!("acked {}", to.ticket.0),
                FanoutCommand::Relay { .. } => "pass".into(),
                FanoutCommand::CloseAll(reason) => format!("close all: {reason}"),
                FanoutCommand::Replay(replay) => replayed(&replay),
                FanoutCommand::FellBehind { member } => format!("fell behind {}", member.0),
                FanoutCommand::Evict { member } => format!("evict {}", member.0),
            };
            let _ = self.0.send(words);
        }
    }
}

fn attached(member: MemberKey, mode: DeliveryMode) -> String {
    match mode {
        DeliveryMode::CatchingUp(after) => format!("attach {} behind {}", member.0, after.0),
        DeliveryMode::WithoutToken => format!("attach {} bare", member.0),
        DeliveryMode::Live { .. } => format!("attach {}", member.0),
    }
}

fn replayed(replay: &Replay) -> String {
    let events: Vec<_> = replay.events.iter().map(|(_, message)| message.text()).collect();
    let then = if replay.is_all { "live" } else { "more" };
    format!("replay {} {} {then}", replay.member.0, events.join(" "))
}

fn words(answer: Answer) -> String {
    match answer {
        Answer::Connect(ConnectAnswer::Connected { recovered: true }) => "recovered".into(),
        Answer::Connect(ConnectAnswer::Connected { recovered: false }) => "connected".into(),
        Answer::Connect(ConnectAnswer::Lost) => "claim lost".into(),
        Answer::ResumeChecked(Ok(session)) => format!("claimed {:?}", session.data),
        Answer::ResumeChecked(Err(why)) => format!("not claimed: {why}"),
        Answer::Join(Ok(joined)) => format!("joined {}", joined.members),
        Answer::Join(Err(refusal)) => format!("refused {refusal:?}"),
        Answer::Leave => "left".into(),
        Answer::Emit(Ok(_)) => "emitted".into(),
        Answer::Emit(Err(refusal)) | Answer::Collect(Err(refusal)) => format!("refused {refusal:?}"),
        Answer::Publish(Ok(Stored { offset, duplicate, pending_for })) => {
            format!("stored {}{} for {pending_for}", offset.number, if duplicate { " again" } else { "" })
        }
        Answer::Publish(Err(refusal)) => format!("refused {refusal:?}"),
        Answer::Collect(Ok(parts)) | Answer::Fetch(parts) => format!("asked {parts}"),
        Answer::List(page) => format!("listed {}", page.rooms.len()),
        Answer::Done => "passed".into(),
    }
}

/// A hub, with the lines of its worker.
struct Rig {
    hub: Addr<Hub>,
    lines: mpsc::Receiver<String>,
    ticket: u64,
    /// Slot of the session that sends the next commands.
    slot: SlotKey,
}

impl Rig {
    fn new(limits: Limits, stores: Stores) -> Self {
        let (sender, lines) = mpsc::channel();
        Self::with_worker(limits, stores, Listener(sender).start(), lines)
    }

    fn with_worker(limits: Limits, stores: Stores, worker: Addr<Listener>, lines: mpsc::Receiver<String>) -> Self {
        let (room_changes, _) = tokio::sync::broadcast::channel(1);
        let hub = Hub::new(limits, stores, room_changes).start();
        let fanout = worker.recipient();
        let rig = Self { hub, lines, ticket: 0, slot: SLOT };
        rig.tell(ImmediateCommand::Register { fanout });
        rig
    }

    fn tell(&self, command: impl Into<HubCommand>) {
        let batch = HubBatch { worker: WORKER, commands: vec![command.into()] };
        assert!(self.hub.try_send(batch).is_ok(), "hub takes commands");
    }

    fn from(&mut self) -> ReplyTo {
        self.ticket += 1;
        ReplyTo { slot: self.slot, ticket: Ticket(self.ticket) }
    }

    fn connect(&mut self, n: u8) {
        let (from, socket) = (self.from(), socket(n));
        let (member, namespace) = (MemberKey(n.into()), NamespacePath::root());
        let (kind, reply) = (ConnectKind::New(PrivateId::from_random([n; 15])), EncodedFrame::text("40"));
        let connect = Connect { from, socket, member, namespace, kind, filter: None, reply };
        self.tell(OrderedCommand::Connect(Box::new(connect)));
    }

    fn join(&mut self, n: u8, name: &str) {
        let (from, socket) = (self.from(), socket(n));
        self.tell(OrderedCommand::Join { from, socket, room: room(name) });
    }

    fn emit(&mut self, name: &str, event: &str, grade: Grade) {
        let draft = Draft::event(Parser::Json, NamespacePath::root(), event, "", Vec::new(), false);
        let target = Target { rooms: SmallVec::from_elem(room(name).into(), 1), ..Target::default() };
        let (from, emit) = (self.from(), Box::new(Emit { target, draft, grade }));
        self.tell(OrderedCommand::Broadcast { from, emit, ack: AckWanted::No });
    }

    /// Returns the lines that are received until hub and worker have no work left.
    async fn received(&self) -> Vec<String> {
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        self.lines.try_iter().collect()
    }
}

/// Slot of a client's second connection.
const LATER: SlotKey = SlotKey { index: 1, generation: 0 };

fn pid(n: u8) -> PrivateId {
    PrivateId::from_random([n; 15])
}

impl Rig {
    fn recovering(limits: Limits) -> Self {
        Self::new(limits, Stores { writer: writer(journal()), ..Stores::default() })
    }

    fn check_resume(&mut self, n: u8, offset: Option<Offset>) {
        let (from, claim) = (self.from(), ResumeAttempt { pid: pid(n), offset });
        self.tell(OrderedCommand::CheckResume { from, namespace: NamespacePath::root(), claim });
    }

    /// Resumes socket `n` in another slot, as member `n + 100`.
    fn resume(&mut self, n: u8, offset: Option<Offset>) {
        self.resume_with(n, offset, None);
    }

    fn resume_with(&mut self, n: u8, offset: Option<Offset>, filter: Option<RoomFilter>) {
        let (from, member) = (ReplyTo { slot: LATER, ..self.from() }, MemberKey(u32::from(n) + 100));
        let (namespace, reply) = (NamespacePath::root(), EncodedFrame::text("40"));
        let kind = ConnectKind::Resuming(ResumeAttempt { pid: pid(n), offset });
        let connect = Connect { from, socket: socket(n), member, namespace, kind, filter, reply };
        self.tell(OrderedCommand::Connect(Box::new(connect)));
    }

    fn read(&mut self, n: u8, after: Lsn) {
        self.tell(ImmediateCommand::ReadJournal { slot: LATER, socket: socket(n), after });
    }
}

fn socket(n: u8) -> SocketId {
    SocketId::from_random([n; 15])
}

/// Slot of every socket, unless a test sets another one.
const SLOT: SlotKey = SlotKey { index: 0, generation: 0 };

fn disconnect(n: u8) -> OrderedCommand {
    OrderedCommand::Disconnect { slot: SLOT, socket: socket(n), forever: false, rooms: None }
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

fn journal() -> MemoryJournal {
    MemoryJournal::new(Epoch::new(1, 1), Lsn(0), 100, usize::MAX)
}

fn writer(journal: impl Journal + 'static) -> Option<JournalWriter> {
    Some(JournalWriter::open(Box::new(journal), 7, &Limits::default(), Arc::default()).unwrap())
}

fn run<F: Future<Output = ()>>(test: F) {
    System::new().block_on(async { tokio::time::timeout(Duration::from_secs(20), test).await.unwrap() });
}

/// A memory journal whose appends and flushes are observed, whose reads are counted, and whose
/// flushes fail once the head reaches a position.
struct TestJournal {
    inner: MemoryJournal,
    on_append: Box<dyn FnMut(&Record) + Send>,
    on_flush: Box<dyn FnMut() + Send>,
    reads: Arc<AtomicUsize>,
    flush_fails_at: Lsn,
    record_bytes_max: Option<usize>,
}

impl TestJournal {
    fn new(inner: MemoryJournal) -> Self {
        Self {
            inner,
            on_append: Box::new(|_| {}),
            on_flush: Box::new(|| {}),
            reads: Arc::default(),
            flush_fails_at: Lsn(Lsn::END),
            record_bytes_max: None,
        }
    }

    fn observed(on_append: impl FnMut(&Record) + Send + 'static) -> Self {
        Self { on_append: Box::new(on_append), ..Self::new(journal()) }
    }
}

impl Journal for TestJournal {
    fn epoch(&self) -> Epoch {
        self.inner.epoch()
    }
    fn head(&self) -> Lsn {
        self.inner.head()
    }
    fn append(&mut self, record: Record) -> Result<(), JournalError> {
        (self.on_append)(&record);
        self.inner.append(record)
    }
    fn trimmed_to(&self) -> Lsn {
        self.inner.trimmed_to()
    }
    fn flush(&mut self) -> Result<(), JournalError> {
        (self.on_flush)();
        let full = || JournalError::Io { path: "x".into(), kind: std::io::ErrorKind::StorageFull };
        if self.head() < self.flush_fails_at { Ok(()) } else { Err(full()) }
    }
    fn at_risk(&self) -> Lsn {
        self.inner.at_risk()
    }
    fn record_bytes_max(&self) -> Option<usize> {
        self.record_bytes_max
    }
    fn read(&self, after: Lsn, records_max: usize, bytes_max: usize) -> Result<Chunk, JournalError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.inner.read(after, records_max, bytes_max)
    }
    fn knows(&self, offset: &Offset) -> bool {
        self.inner.knows(offset)
    }
    fn close(&mut self) -> Result<(), JournalError> {
        self.inner.close()
    }
}

#[test]
fn changes_are_journalled_in_the_order_of_their_lsns() {
    run(async {
        let (appended, journalled) = mpsc::channel();
        let journal = TestJournal::observed(move |record: &Record| {
            let kind = match record.body {
                RecordBody::Event(_) => "event",
                RecordBody::Connect { .. } => "connect",
                RecordBody::Join { .. } => "join",
                RecordBody::Leave { .. } => "leave",
                RecordBody::Disconnect { .. } => "disconnect",
                _ => "other",
            };
            let _ = appended.send((record.lsn, kind));
        });
        let mut rig = Rig::new(Limits::default(), Stores { writer: writer(journal), ..Stores::default() });
        rig.connect(1);
        rig.join(1, "a");
        rig.join(1, "a");
        rig.emit("a", "plain", Grade::Plain);
        rig.emit("a", "volatile", Grade::Volatile);
        let from = rig.from();
        rig.tell(OrderedCommand::Leave { from, socket: socket(1), room: room("a") });
        rig.tell(disconnect(1));
        rig.tell(disconnect(1));
        rig.received().await;
        let records: Vec<_> = journalled.try_iter().collect();
        assert_eq!(
            records.iter().map(|(_, kind)| *kind).collect::<Vec<_>>(),
            ["connect", "join", "event", "leave", "disconnect"],
            "commands without effect and volatile events have no record"
        );
        assert!(records.is_sorted_by(|(a, _), (b, _)| a < b), "{records:?}");
    });
}

#[test]
fn a_dead_worker_disconnects_its_sockets() {
    run(async {
        let mut rig = Rig::new(Limits::default(), Stores::default());
        let (sender, _) = mpsc::channel();
        let doomed = Listener(sender).start();
        let other = WorkerId(1);
        let batch = |command| HubBatch { worker: other, commands: vec![command] };
        assert!(
            rig.hub.try_send(batch(ImmediateCommand::Register { fanout: doomed.clone().recipient() }.into())).is_ok()
        );
        let (from, member) = (rig.from(), MemberKey(9));
        let (namespace, reply) = (NamespacePath::root(), EncodedFrame::text("40"));
        let connect = Box::new(Connect {
            from,
            socket: socket(9),
            member,
            namespace,
            kind: ConnectKind::Unrecoverable,
            filter: None,
            reply,
        });
        assert!(rig.hub.try_send(batch(OrderedCommand::Connect(connect).into())).is_ok());
        rig.connect(1);
        rig.received().await;
        // Stopping the actor closes the mailbox, like the end of the worker's thread.
        stop(&doomed).await;
        let target = Target::default();
        let draft = Draft::event(Parser::Json, NamespacePath::root(), "e", "", Vec::new(), false);
        let from = rig.from();
        let emit = Box::new(Emit { target: target.clone(), draft, grade: Grade::Plain });
        rig.tell(OrderedCommand::Broadcast { from, emit, ack: AckWanted::No });
        rig.received().await;
        let (from, namespace) = (rig.from(), NamespacePath::root());
        rig.tell(OrderedCommand::Fetch { from, namespace, target });
        assert_eq!(rig.received().await, ["fetch 4", "answer 4 asked 1"], "only this worker is asked");
    });
}

async fn stop(listener: &Addr<Listener>) {
    struct Stop;
    impl actix::Message for Stop {
        type Result = ();
    }
    impl Handler<Stop> for Listener {
        type Result = ();
        fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
            actix::ActorContext::stop(ctx);
        }
    }
    let _ = listener.send(Stop).await;
    while listener.connected() {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_panicking_hub_ends_the_process() {
    if !is_to_panic() {
        return aborts("hub::tests::a_panicking_hub_ends_the_process");
    }
    run(async {
        let journal = TestJournal::observed(|_: &Record| panic!("planted"));
        let mut rig = Rig::new(Limits::default(), Stores { writer: writer(journal), ..Stores::default() });
        rig.connect(1);
        rig.received().await;
    });
}

#[test]
fn a_panic_in_a_retry_of_the_hub_ends_the_process() {
    if !is_to_panic() {
        return aborts("hub::tests::a_panic_in_a_retry_of_the_hub_ends_the_process");
    }
    run(async {
        let journal = TestJournal::observed(|record: &Record| {
            assert!(!matches!(record.body, RecordBody::Disconnect { .. }), "planted");
        });
        let mut rig = Rig::new(Limits::default(), Stores { writer: writer(journal), ..Stores::default() });
        // The mailbox of this worker fills up, so that the hub has to retry. By then, the worker
        // has ended.
        let never_run = Context::<Listener>::new();
        rig.tell(ImmediateCommand::Register { fanout: never_run.address().recipient() });
        for n in 0..40 {
            rig.connect(n);
            rig.received().await;
        }
        drop(never_run);
        std::future::pending::<()>().await;
    });
}
