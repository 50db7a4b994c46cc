//! The hub alone, with a worker that only listens: the order, the numbers, the credit, the guard.

mod resume;

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
use crate::messages::answer::{Answer, ConnectAnswer, ReplyTo};
use crate::messages::event::{AckWanted, Emit, Grade};
use crate::messages::fanout::{FanoutBatch, FanoutCommand, Replay};
use crate::messages::hub::{Connect, ConnectKind, HubBatch, HubCommand, HubControl, ImmediateCommand, OrderedCommand};
use crate::protocol::draft::Draft;
use crate::protocol::encoded::EncodedFrame;
use crate::protocol::socketio::Parser;
use crate::protocol::socketio::resume::ResumeAttempt;
use crate::state::credit::Ticket;
use crate::state::rooms::Target;

const WORKER: WorkerId = WorkerId(0);

/// A worker that passes on what it receives, in words.
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
                FanoutCommand::Attach { member, mode, .. } => resume::attached(member, mode),
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
        Answer::Collect(Ok(parts)) | Answer::Fetch(parts) => format!("asked {parts}"),
        Answer::List(page) => format!("listed {}", page.rooms.len()),
        Answer::Done => "passed".into(),
    }
}

/// A hub and what it said.
struct Rig {
    hub: Addr<Hub>,
    heard: mpsc::Receiver<String>,
    ticket: u64,
    /// The session that sends.
    slot: SlotKey,
}

impl Rig {
    fn new(limits: Limits, stores: Stores) -> Self {
        let (said, heard) = mpsc::channel();
        let (room_changes, _) = tokio::sync::broadcast::channel(1);
        let hub = Hub::new(limits, stores, room_changes).start();
        let fanout = Listener(said).start().recipient();
        let rig = Self { hub, heard, ticket: 0, slot: SLOT };
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
        let connect = Connect { from, socket, member, namespace, kind, reply };
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

    /// Everything said up to now: the hub and its worker have nothing left to do.
    async fn heard(&self) -> Vec<String> {
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        self.heard.try_iter().collect()
    }
}

fn socket(n: u8) -> SocketId {
    SocketId::from_random([n; 15])
}

/// The slot of every socket: one worker, one session.
const SLOT: SlotKey = SlotKey { index: 0, generation: 0 };

fn gone(n: u8) -> OrderedCommand {
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

#[test]
fn events_wait_while_a_worker_is_behind() {
    run(async {
        let limits = Limits::with(|limits| limits.hub.worker_bytes_max = 100);
        let mut rig = Rig::new(limits, Stores::default());
        rig.connect(1);
        rig.join(1, "a");
        rig.heard().await;
        for event in ["one", "two", "three", "four"] {
            rig.emit("a", event, Grade::Plain);
        }
        rig.join(1, "b");
        let told = rig.heard().await;
        // An event is answered when it is handed over; what its sender did after one that waits keeps its place behind it.
        assert_eq!(told.first().map(String::as_str), Some(r#"deliver 42["one"]"#));
        assert!(
            told.contains(&"answer 3 emitted".to_owned()) && !told.contains(&"answer 6 emitted".to_owned()),
            "{told:?}"
        );
        assert!(!told.contains(&"join 1".to_owned()), "{told:?}");
        let mut rest = Vec::new();
        for _ in 0..8 {
            rig.tell(ImmediateCommand::Consumed { bytes: 100, replayed: 0 });
            rest.extend(rig.heard().await);
        }
        assert!(
            rest.ends_with(
                &[r#"deliver 42["four"]"#, "answer 6 emitted", "join 1", "answer 7 joined 1"].map(str::to_owned)
            ),
            "{rest:?}"
        );
    });
}

#[test]
fn a_light_sender_passes_while_a_heavy_one_waits() {
    run(async {
        let limits = Limits::with(|limits| limits.hub.worker_bytes_max = 1 << 20);
        let mut rig = Rig::new(limits, Stores::default());
        rig.connect(1);
        rig.join(1, "a");
        rig.heard().await;
        let large = "x".repeat(300_000);
        for _ in 0..50 {
            rig.emit("a", &large, Grade::Plain);
        }
        let delivered = |told: &[String]| told.iter().filter(|said| said.starts_with("deliver")).count();
        let told = rig.heard().await;
        assert_eq!(delivered(&told), 1, "the rest waits for relief");
        rig.slot.index = 1;
        for _ in 0..30 {
            rig.emit("a", "small", Grade::Plain);
        }
        let told = rig.heard().await;
        assert_eq!(delivered(&told), 30);
        assert_eq!(told.iter().filter(|said| said.ends_with("emitted")).count(), 30, "so do its answers");
        for left in (0..49).rev() {
            rig.tell(ImmediateCommand::Consumed { bytes: 300_100, replayed: 0 });
            assert!(delivered(&rig.heard().await) == 1, "{left} left");
        }
    });
}

/// Hears until `expected` has been said.
async fn heard_until(rig: &Rig, expected: &str) -> Vec<String> {
    let mut told = Vec::new();
    while !told.iter().any(|said| said == expected) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        told.extend(rig.heard().await);
    }
    told
}

#[test]
fn who_has_spent_its_share_of_the_journal_waits_in_order_and_alone() {
    // One publisher to a room of its own dropped everybody's events out of the journal.
    run(async {
        let limits = Limits::with(|limits| {
            limits.journal.sender_bytes_max = Some(1_500);
            limits.recovery.window = Duration::from_secs(5);
        });
        let mut rig = Rig::new(limits, Stores { writer: writer(journal()), ..Stores::default() });
        rig.connect(1);
        rig.join(1, "a");
        rig.slot.index = 1;
        let large = "x".repeat(700);
        for _ in 0..4 {
            rig.emit("a", &large, Grade::Plain);
        }
        rig.emit("nobody", "last", Grade::Plain);
        rig.slot.index = 2;
        rig.emit("a", "small", Grade::Plain);
        let told = heard_until(&rig, "answer 8 emitted").await;
        let answers = |told: &[String]| -> Vec<String> {
            told.iter().filter(|said| said.ends_with("emitted")).cloned().collect()
        };
        assert_eq!(answers(&told), ["answer 3 emitted", "answer 4 emitted", "answer 8 emitted"]);
        let told = heard_until(&rig, "answer 7 emitted").await;
        assert_eq!(answers(&told), [5, 6, 7].map(|n| format!("answer {n} emitted")));
    });
}

#[test]
fn code_outside_of_sessions_has_no_share_of_the_journal() {
    run(async {
        let limits = Limits::with(|limits| limits.journal.sender_bytes_max = Some(1));
        let mut rig = Rig::new(limits, Stores { writer: writer(journal()), ..Stores::default() });
        rig.slot.index = 9;
        rig.connect(1);
        // The server sender is a worker of its own.
        let (said, heard) = mpsc::channel();
        let mut commands: Vec<HubCommand> =
            vec![ImmediateCommand::Register { fanout: Listener(said).start().recipient() }.into()];
        for n in 0..20 {
            let draft = Draft::event(Parser::Json, NamespacePath::root(), "e", "", Vec::new(), false);
            let from = ReplyTo { slot: SLOT, ticket: Ticket(n) };
            let emit = Box::new(Emit { target: Target::default(), draft, grade: Grade::Plain });
            commands.push(OrderedCommand::Broadcast { from, emit, ack: AckWanted::No }.into());
        }
        assert!(rig.hub.try_send(HubBatch { worker: WorkerId(1), commands }).is_ok());
        let mut told = 0;
        while told < 20 {
            tokio::task::yield_now().await;
            told += heard.try_iter().filter(|said| said.ends_with("emitted")).count();
        }
        rig.join(1, "a");
        rig.emit("a", "waits", Grade::Plain);
        assert!(!rig.heard().await.iter().any(|said| said.ends_with("emitted")), "a session has one");
    });
}

#[test]
fn a_reader_gets_chunks_beside_a_full_worker_and_holds_up_no_event() {
    // Replays counted as what is delivered: they held up the answers to everybody.
    run(async {
        let limits = Limits::with(|limits| limits.recovery.replay_bytes = 256 << 10);
        let journal = MemoryJournal::new(Epoch::new(1, 1), Lsn(0), 1_000, usize::MAX);
        let mut rig = Rig::new(limits, Stores { writer: writer(journal), ..Stores::default() });
        rig.connect(1);
        rig.join(1, "a");
        rig.heard().await;
        let large = "x".repeat(200_000);
        for _ in 0..40 {
            rig.emit("a", &large, Grade::Plain);
            rig.tell(ImmediateCommand::Consumed { bytes: usize::MAX, replayed: 0 });
        }
        rig.heard().await;
        let replays = |told: &[String]| told.iter().filter(|said| said.starts_with("replay")).count();
        let read =
            |rig: &Rig, after| rig.tell(ImmediateCommand::Read { slot: SLOT, socket: socket(1), after: Lsn(after) });
        for after in 0..20 {
            read(&rig, after);
        }
        let told = rig.heard().await;
        let given = replays(&told);
        assert!((2..=4).contains(&given), "{given} chunks are under way");
        rig.slot.index = 1;
        rig.emit("a", "live", Grade::Plain);
        assert_eq!(rig.heard().await.last().map(String::as_str), Some("answer 43 emitted"));
        rig.tell(ImmediateCommand::Consumed { bytes: 0, replayed: usize::MAX });
        assert!(replays(&rig.heard().await) > 0, "the next have their turn");
    });
}

/// A memory journal that shows each record before it takes it.
struct Spied<F>(MemoryJournal, F);

impl<F: FnMut(&Record) + Send> Journal for Spied<F> {
    fn epoch(&self) -> Epoch {
        self.0.epoch()
    }
    fn head(&self) -> Lsn {
        self.0.head()
    }
    fn append(&mut self, record: Record) -> Result<(), JournalError> {
        self.1(&record);
        self.0.append(record)
    }
    fn trimmed_to(&self) -> Lsn {
        self.0.trimmed_to()
    }
    fn flush(&mut self) -> Result<(), JournalError> {
        self.0.flush()
    }
    fn at_risk(&self) -> Lsn {
        self.0.at_risk()
    }
    fn read(&self, after: Lsn, records_max: usize, bytes_max: usize) -> Result<Chunk, JournalError> {
        self.0.read(after, records_max, bytes_max)
    }
    fn knows(&self, offset: &Offset) -> bool {
        self.0.knows(offset)
    }
    fn close(&mut self) -> Result<(), JournalError> {
        self.0.close()
    }
}

#[test]
fn recoverable_entries_are_journalled_in_the_order_of_their_numbers() {
    run(async {
        let (appended, journalled) = mpsc::channel();
        let journal = Spied(journal(), move |record: &Record| {
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
        rig.tell(gone(1));
        rig.tell(gone(1));
        rig.heard().await;
        let records: Vec<_> = journalled.try_iter().collect();
        assert_eq!(
            records.iter().map(|(_, kind)| *kind).collect::<Vec<_>>(),
            ["connect", "join", "event", "leave", "disconnect"],
            "what changes nothing, and what is volatile, leaves no record"
        );
        assert!(records.is_sorted_by(|(a, _), (b, _)| a < b), "{records:?}");
    });
}

#[test]
fn a_dead_worker_takes_its_sockets_along() {
    run(async {
        let mut rig = Rig::new(Limits::default(), Stores::default());
        let (said, _) = mpsc::channel();
        let doomed = Listener(said).start();
        let other = WorkerId(1);
        let batch = |command| HubBatch { worker: other, commands: vec![command] };
        assert!(
            rig.hub.try_send(batch(ImmediateCommand::Register { fanout: doomed.clone().recipient() }.into())).is_ok()
        );
        let (from, member) = (rig.from(), MemberKey(9));
        let (namespace, reply) = (NamespacePath::root(), EncodedFrame::text("40"));
        let connect =
            Box::new(Connect { from, socket: socket(9), member, namespace, kind: ConnectKind::Unrecoverable, reply });
        assert!(rig.hub.try_send(batch(OrderedCommand::Connect(connect).into())).is_ok());
        rig.connect(1);
        rig.heard().await;
        // Its mailbox closes when the thread's system drops it; here, the actor is stopped.
        stop(&doomed).await;
        let target = Target::default();
        let draft = Draft::event(Parser::Json, NamespacePath::root(), "e", "", Vec::new(), false);
        let from = rig.from();
        let emit = Box::new(Emit { target: target.clone(), draft, grade: Grade::Plain });
        rig.tell(OrderedCommand::Broadcast { from, emit, ack: AckWanted::No });
        rig.heard().await;
        let (from, namespace) = (rig.from(), NamespacePath::root());
        rig.tell(OrderedCommand::Fetch { from, namespace, target });
        assert_eq!(rig.heard().await, ["fetch 4", "answer 4 asked 1"], "only this worker is asked");
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
        let journal = Spied(journal(), |_: &Record| panic!("planted"));
        let mut rig = Rig::new(Limits::default(), Stores { writer: writer(journal), ..Stores::default() });
        rig.connect(1);
        rig.heard().await;
    });
}

#[test]
fn others_of_the_hubs_thread_have_their_turn_while_commands_keep_coming() {
    // The server sender lives there. The hub once handled all its ready batches first.
    run(async {
        let mut rig = Rig::new(Limits::default(), Stores::default());
        rig.connect(1);
        rig.heard().await;
        for _ in 0..3_000 {
            rig.join(1, "a");
        }
        tokio::task::yield_now().await;
        let mut heard = rig.heard.try_iter().count();
        assert!(heard < 3_000, "all were handled in one turn");
        while heard < 3_001 {
            heard += rig.heard().await.len();
        }
    });
}

#[test]
fn a_hub_that_panics_when_it_tries_again_ends_the_process() {
    if !is_to_panic() {
        return aborts("hub::tests::a_hub_that_panics_when_it_tries_again_ends_the_process");
    }
    run(async {
        let journal = Spied(journal(), |record: &Record| {
            assert!(!matches!(record.body, RecordBody::Disconnect { .. }), "planted");
        });
        let mut rig = Rig::new(Limits::default(), Stores { writer: writer(journal), ..Stores::default() });
        // A worker whose mailbox nobody empties: the hub will try again. By then it is gone, and its sockets with it.
        let never_run = Context::<Listener>::new();
        rig.tell(ImmediateCommand::Register { fanout: never_run.address().recipient() });
        for n in 0..40 {
            rig.connect(n);
            rig.heard().await;
        }
        drop(never_run);
        std::future::pending::<()>().await;
    });
}

#[test]
fn a_socket_in_very_many_rooms_leaves_them_behind_what_others_send() {
    run(async {
        let limits = Limits::with(|limits| {
            limits.sockets.rooms_max = 10_000;
            limits.sockets.room_bytes_max = usize::MAX;
        });
        let metrics = Arc::<crate::metrics::Metrics>::default();
        let mut rig = Rig::new(limits, Stores { metrics: metrics.clone(), ..Stores::default() });
        rig.connect(1);
        for n in 0..6_000 {
            rig.join(1, &n.to_string());
            rig.heard().await;
        }
        rig.slot.index = 1;
        rig.connect(2);
        rig.join(2, "a");
        rig.heard().await;
        rig.tell(gone(1));
        rig.emit("a", "innocent", Grade::Plain);
        let mut told = Vec::new();
        while !told.iter().any(|said: &String| said.starts_with("deliver")) {
            tokio::task::yield_now().await;
            told.extend(rig.heard.try_iter());
        }
        assert_eq!(told[0], "detach 1");
        assert!(metrics.hub.rooms.get() > 1, "some of its rooms are left");
        while metrics.hub.rooms.get() > 1 {
            tokio::task::yield_now().await;
        }
    });
}
