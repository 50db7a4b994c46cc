//! Hub, workers and journal together, without sessions and sockets: random lives of a few clients whose peers take packets when the
//! program says so, against a reference that knows what each client should have seen.
//!
//! A client that is notified `recovered`, or stays connected, sees every plain event of its rooms once and in order. A third of them has so little room
//! for sessions that some are given up. Steps in all: 40 a case, half of them on disk with kills; `PROPTEST_CASES=25000` makes a million.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use actix::{Actor, Addr, Context, Handler, System};
use proptest::collection::vec;
use proptest::prelude::*;
use smallvec::SmallVec;

use crate::hub::journal_writer::JournalWriter;
use crate::hub::{Hub, Stores};
use crate::ids::{Epoch, Lsn, NamespacePath, Offset, PrivateId, Recipient, RoomName, SlotKey, SocketId, WorkerId};
use crate::journal::Journal;
use crate::journal::contract::scratch::Scratch;
use crate::journal::file::{FileJournal, FileOptions};
use crate::journal::folder::BootId;
use crate::journal::memory::MemoryJournal;
use crate::limits::Limits;
use crate::messages::answer::{Answer, ConnectAnswer, ReplyTo};
use crate::messages::event::{AckWanted, Emit, Grade};
use crate::messages::handshake::{Arrival, Handshake};
use crate::messages::hub::{Connect, ConnectKind, HubBatch, HubCommand, OrderedCommand};
use crate::messages::session::{SessionCommand, SessionLink};
use crate::messages::sink::{CloseReason, Drained, FrameSink};
use crate::messages::socket::SocketInfo;
use crate::metrics::Metrics;
use crate::protocol::draft::Draft;
use crate::protocol::encoded::EncodedFrame;
use crate::protocol::reason::NotRecovered;
use crate::protocol::socketio::Parser;
use crate::protocol::socketio::resume::ResumeAttempt;
use crate::state::credit::Ticket;
use crate::state::outbox::Outbox;
use crate::state::rooms::Target;
use crate::worker::Worker;
use crate::worker::outbox_handle::OutboxHandle;

const CLIENTS: usize = 4;
const ROOMS: [&str; 3] = ["a", "b", "c"];

/// Small enough that clients are late and rings turn within forty steps.
fn limits(recovery_bytes_max: usize) -> Limits {
    Limits::with(|limits| {
        limits.recovery.bytes_max = recovery_bytes_max;
        limits.sessions.outbox_bytes_max = 2_000;
        limits.recovery.replay_bytes = 300;
        limits.recovery.replay_records_per_turn = 7;
        limits.journal.records_max = 48;
        limits.journal.bytes_max = 1 << 20;
        limits.journal.segments_max = 4;
        limits.journal.segment_bytes = 4_096;
    })
}

#[derive(Debug, Clone)]
enum Step {
    Join(usize, usize),
    Leave(usize, usize),
    Emit {
        rooms: Vec<usize>,
        except: Vec<usize>,
        exclude: Option<usize>,
        volatile: bool,
        times: usize,
    },
    /// An event for one client's own room.
    Direct(usize),
    /// Its peer takes this many packets.
    Take(usize, usize),
    /// It does not hear any more, and nobody has noticed.
    Cut(usize),
    /// Its connection is seen to end.
    Drop(usize),
    /// It comes back, or comes for the first time, on one of the workers.
    Come(usize, usize),
    /// The process dies, and another takes up its journal.
    Kill,
    /// The others have their turn.
    Turns(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    let who = || 0..CLIENTS;
    let name = || 0..ROOMS.len() * 3 + CLIENTS;
    let emit = (
        vec(name(), 0..3),
        vec(name(), 0..2),
        proptest::option::weighted(0.2, who()),
        proptest::bool::weighted(0.15),
        prop_oneof![3 => Just(1usize), 1 => 2usize..30],
    );
    prop_oneof![
        8 => (who(), name()).prop_map(|(who, room)| Step::Join(who, room)),
        4 => (who(), name()).prop_map(|(who, room)| Step::Leave(who, room)),
        14 => emit.prop_map(|(rooms, except, exclude, volatile, times)| Step::Emit { rooms, except, exclude, volatile, times }),
        3 => who().prop_map(Step::Direct),
        10 => (who(), 1usize..40).prop_map(|(who, count)| Step::Take(who, count)),
        2 => who().prop_map(Step::Cut),
        3 => who().prop_map(Step::Drop),
        8 => (who(), 0usize..2).prop_map(|(who, worker)| Step::Come(who, worker)),
        1 => Just(Step::Kill),
        6 => (0usize..12).prop_map(Step::Turns),
    ]
}

/// The packets that one connection's peer has taken.
#[derive(Default)]
struct Line {
    allowed: Cell<usize>,
    taken: RefCell<VecDeque<String>>,
    /// The answer to its connect.
    answer: Cell<Option<ConnectAnswer>>,
    /// Its worker wants it closed.
    ended: Cell<bool>,
}

impl Line {
    async fn answered(&self) -> ConnectAnswer {
        loop {
            match self.answer.take() {
                Some(answer) => return answer,
                None => tokio::task::yield_now().await,
            }
        }
    }
}

struct Sink(Rc<Line>);

impl FrameSink for Sink {
    fn drain(&mut self, outbox: &mut Outbox) -> Drained {
        while self.0.allowed.get() > 0 {
            let Some(packet) = outbox.pop() else { return Drained::All };
            self.0.allowed.set(self.0.allowed.get() - 1);
            self.0.taken.borrow_mut().push_back(String::from_utf8_lossy(packet.body()).into_owned());
        }
        if outbox.is_empty() { Drained::All } else { Drained::Blocked }
    }
    fn queue_close(&mut self, _: CloseReason, _: &mut Outbox) {}
    fn finish(&mut self) -> bool {
        false
    }
    fn abort(&mut self) {}
}

/// Stands for a session.
struct Ear(Rc<Line>);

impl Actor for Ear {
    type Context = Context<Self>;
}

impl Handler<SessionCommand> for Ear {
    type Result = ();

    fn handle(&mut self, command: SessionCommand, _: &mut Context<Self>) {
        match command {
            SessionCommand::Answered { answer: Answer::Connect(answer), .. } => self.0.answer.set(Some(answer)),
            SessionCommand::OutboxFull(_) | SessionCommand::Evicted | SessionCommand::DrainerLost(_) => {
                self.0.ended.set(true);
            }
            _ => {}
        }
    }
}

struct Connection {
    worker: usize,
    outbox: Rc<OutboxHandle>,
    line: Rc<Line>,
    /// It takes nothing any more.
    is_cut: bool,
}

/// What a client is, and what it should still see.
struct Client {
    pid: PrivateId,
    socket: SocketId,
    connection: Option<Connection>,
    /// Whether it ever was connected: only then has it something to claim.
    has_session: bool,
    /// The last token it saw.
    offset: Option<Offset>,
    rooms: BTreeSet<RoomName>,
    /// Plain events for it, in order.
    undelivered: VecDeque<u64>,
    /// Volatile events that were for it.
    may_see: BTreeSet<u64>,
}

/// One life of the process.
struct Life {
    hub: Addr<Hub>,
    workers: Vec<Rc<Worker>>,
}

struct World {
    on_disk: Option<Scratch>,
    /// Room for what recovery knows of sessions, in bytes.
    recovery_bytes_max: usize,
    metrics: Arc<Metrics>,
    clients: Vec<Client>,
    events: u64,
    drawn: u64,
    tickets: u64,
}

impl World {
    fn new(on_disk: bool, recovery_bytes_max: usize) -> Self {
        let client = |n: usize| Client {
            pid: PrivateId::from_random([n as u8; 15]),
            socket: SocketId::from_random([n as u8; 15]),
            connection: None,
            has_session: false,
            offset: None,
            rooms: BTreeSet::new(),
            undelivered: VecDeque::new(),
            may_see: BTreeSet::new(),
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self {
            on_disk: on_disk.then(Scratch::new),
            recovery_bytes_max,
            metrics: Arc::default(),
            clients,
            events: 0,
            drawn: 100,
            tickets: 0,
        }
    }

    /// Bytes for an id that nobody has.
    fn draw(&mut self) -> [u8; 15] {
        self.drawn += 1;
        let mut bytes = [0xee; 15];
        bytes[..8].copy_from_slice(&self.drawn.to_le_bytes());
        bytes
    }

    fn begin_life(&self) -> Life {
        let limits = limits(self.recovery_bytes_max);
        let journal: Box<dyn Journal> = match &self.on_disk {
            None => Box::new(MemoryJournal::new(Epoch::new(1, 1), Lsn(0), limits.journal.records_max, usize::MAX)),
            Some(scratch) => {
                let options = FileOptions::new(Epoch::new(self.drawn as u32, 1), BootId::new(7), &limits);
                Box::new(FileJournal::open(&scratch.0, options).unwrap())
            }
        };
        let writer = JournalWriter::open(journal, 7, &limits, self.metrics.clone()).unwrap();
        let stores = Stores { writer: Some(writer), metrics: self.metrics.clone(), ..Stores::default() };
        let (room_changes, _) = tokio::sync::broadcast::channel(1);
        let hub = Hub::new(limits.clone(), stores, room_changes).start();
        let start =
            |id| Worker::start(WorkerId(id), hub.clone().recipient(), limits.clone(), Arc::default(), Arc::default());
        let workers = (0..2).map(start).collect();
        Life { hub, workers }
    }

    fn from(&mut self, slot: SlotKey) -> ReplyTo {
        self.tickets += 1;
        ReplyTo { slot, ticket: Ticket(self.tickets) }
    }

    /// Straight into the hub's mailbox, so that its order is the program's.
    fn tell(&self, life: &Life, worker: usize, command: impl Into<HubCommand>) {
        let batch = HubBatch { worker: WorkerId(worker as u16), commands: vec![command.into()] };
        assert!(life.hub.try_send(batch).is_ok(), "hub takes commands");
    }

    async fn come(&mut self, life: &Life, who: usize, worker: usize) {
        let line = Rc::new(Line::default());
        let link = SessionLink::new(Ear(line.clone()).start().recipient());
        let outbox = OutboxHandle::open(life.workers[worker].clone(), link);
        outbox.set_drainer(Box::new(Sink(line.clone())));
        let client = &self.clients[who];
        let claim = client.has_session.then_some(ResumeAttempt { pid: client.pid, offset: client.offset });
        if let Some(claim) = claim {
            self.connect(life, who, worker, &outbox, ConnectKind::Resuming(claim));
        }
        let old = self.clients[who].connection.replace(Connection {
            worker,
            outbox: outbox.clone(),
            line: line.clone(),
            is_cut: false,
        });
        if let Some(old) = old {
            // Its session ends when it likes; here, at once.
            let socket = self.clients[who].socket;
            let slot = old.outbox.slot;
            self.tell(life, old.worker, OrderedCommand::Disconnect { slot, socket, forever: false, rooms: None });
        }
        if claim.is_some() && line.answered().await == (ConnectAnswer::Connected { recovered: true }) {
            return;
        }
        // As a session does: it is another socket, and the client is notified. Nothing from before is pending.
        let pid = PrivateId::from_random(self.draw());
        let socket = SocketId::from_random(self.draw());
        let client = &mut self.clients[who];
        (client.pid, client.socket, client.has_session, client.offset) = (pid, socket, true, None);
        client.rooms.clear();
        client.undelivered.clear();
        client.may_see.clear();
        self.connect(life, who, worker, &outbox, ConnectKind::New(pid));
        line.answered().await;
    }

    fn connect(&mut self, life: &Life, who: usize, worker: usize, outbox: &OutboxHandle, kind: ConnectKind) {
        let (socket, namespace) = (self.clients[who].socket, NamespacePath::root());
        let arrival = Arrival { at: UNIX_EPOCH, address: None, secure: false };
        let handshake = Arc::new(Handshake::new("", std::iter::empty(), arrival));
        let info = SocketInfo::new(socket, namespace.clone(), handshake, None, true);
        let member = outbox.add_member(Arc::new(info));
        let (from, reply) = (self.from(outbox.slot), EncodedFrame::text("40"));
        let connect = Connect { from, socket, member, namespace, kind, reply };
        self.tell(life, worker, OrderedCommand::Connect(Box::new(connect)));
    }

    /// The client's peer has taken exactly what was undelivered.
    fn look(&mut self, who: usize) -> Result<(), TestCaseError> {
        let client = &mut self.clients[who];
        let Some(connection) = &client.connection else { return Ok(()) };
        for packet in connection.line.taken.take() {
            let Some(event) = packet.strip_prefix(r#"42["e","#) else {
                prop_assert_eq!(packet, "40");
                continue;
            };
            let (number, token) = event.strip_suffix(r#""]"#).and_then(|event| event.split_once(",\"")).unwrap();
            let number: u64 = number.parse().unwrap();
            client.offset = Some(Offset::parse(token).unwrap());
            if client.may_see.remove(&number) {
                continue;
            }
            let next = client.undelivered.front().copied();
            prop_assert_eq!(Some(number), next, "client {} got {} and expected {:?}", who, number, client.undelivered);
            client.undelivered.pop_front();
        }
        Ok(())
    }

    fn emit(&mut self, life: &Life, target: Target, volatile: bool) {
        let number = self.events;
        self.events += 1;
        for client in &mut self.clients {
            let is_in = |recipient: &Recipient| match recipient {
                Recipient::Room(room) => client.rooms.contains(room),
                Recipient::Socket(socket) => *socket == client.socket,
            };
            let is_for = client.has_session
                && target.exclude != Some(client.socket)
                && (target.rooms.is_empty() || target.rooms.iter().any(is_in))
                && !target.except.iter().any(is_in);
            match (is_for, volatile) {
                (true, false) => client.undelivered.push_back(number),
                (true, true) => drop(client.may_see.insert(number)),
                (false, _) => {}
            }
        }
        let draft = Draft::event(Parser::Json, NamespacePath::root(), "e", &number.to_string(), vec![], true);
        let grade = if volatile { Grade::Volatile } else { Grade::Plain };
        let from = self.from(SlotKey { index: u32::MAX, generation: 0 });
        let emit = Box::new(Emit { target, draft, grade });
        self.tell(life, 0, OrderedCommand::Broadcast { from, emit, ack: AckWanted::No });
    }

    fn target(&self, rooms: &[usize], except: &[usize], exclude: Option<usize>) -> Target {
        let names =
            |names: &[usize]| -> SmallVec<[Recipient; 1]> { names.iter().map(|name| self.room(*name)).collect() };
        let exclude = exclude.map(|who| self.clients[who].socket);
        Target { rooms: names(rooms), except: names(except), exclude, local: false }
    }

    /// One of the rooms, or, less often, a client's own.
    fn room(&self, name: usize) -> Recipient {
        match name {
            own if own < CLIENTS => self.clients[own].socket.into(),
            shared => Recipient::parse(ROOMS[shared % ROOMS.len()]).unwrap(),
        }
    }

    fn take(&self, who: usize, count: usize) {
        if let Some(connection) = self.clients[who].connection.as_ref().filter(|connection| !connection.is_cut) {
            connection.line.allowed.set(connection.line.allowed.get().saturating_add(count));
            connection.outbox.on_writable();
        }
    }

    fn drop_connection(&mut self, life: &Life, who: usize) {
        let socket = self.clients[who].socket;
        let Some(Connection { worker, outbox, .. }) = self.clients[who].connection.take() else { return };
        let slot = outbox.slot;
        self.tell(life, worker, OrderedCommand::Disconnect { slot, socket, forever: false, rooms: None });
    }

    fn join_or_leave(&mut self, life: &Life, who: usize, name: usize, joins: bool) {
        let socket = self.clients[who].socket;
        let room = RoomName::parse(ROOMS[name % ROOMS.len()]).unwrap();
        let Some((worker, slot)) = self.clients[who].connection.as_ref().map(|line| (line.worker, line.outbox.slot))
        else {
            return;
        };
        let from = self.from(slot);
        let rooms = &mut self.clients[who].rooms;
        let command = if joins {
            rooms.insert(room.clone());
            OrderedCommand::Join { from, socket, room }
        } else {
            rooms.remove(&room);
            OrderedCommand::Leave { from, socket, room }
        };
        self.tell(life, worker, command);
    }

    /// Everything that was said has been taken in.
    async fn settle(&self) {
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
    }

    fn look_at_all(&mut self, life: &Life) -> Result<(), TestCaseError> {
        for who in 0..CLIENTS {
            self.look(who)?;
            if self.clients[who].connection.as_ref().is_some_and(|connection| connection.line.ended.get()) {
                self.drop_connection(life, who);
            }
        }
        Ok(())
    }

    async fn step(&mut self, life: &Life, step: &Step) {
        match step {
            Step::Join(who, name) => self.join_or_leave(life, *who, *name, true),
            Step::Leave(who, name) => self.join_or_leave(life, *who, *name, false),
            Step::Emit { rooms, except, exclude, volatile, times } => {
                for _ in 0..*times {
                    self.emit(life, self.target(rooms, except, *exclude), *volatile);
                }
            }
            Step::Direct(who) => self.emit(life, Target::socket(self.clients[*who].socket), false),
            Step::Take(who, count) => self.take(*who, *count),
            Step::Cut(who) => {
                if let Some(connection) = &mut self.clients[*who].connection {
                    connection.line.allowed.set(0);
                    connection.is_cut = true;
                }
            }
            Step::Drop(who) => self.drop_connection(life, *who),
            Step::Come(who, worker) => self.come(life, *who, *worker).await,
            Step::Turns(count) => {
                for _ in 0..*count {
                    tokio::task::yield_now().await;
                }
            }
            Step::Kill => {}
        }
    }

    /// One life. At its end the process is killed.
    async fn live(&mut self, steps: &[Step], is_last: bool) -> Result<(), TestCaseError> {
        self.draw();
        let life = self.begin_life();
        self.settle().await;
        for step in steps {
            self.step(&life, step).await;
            self.look_at_all(&life)?;
        }
        self.settle().await;
        self.look_at_all(&life)?;
        if is_last {
            return self.catch_up(&life).await;
        }
        if let Some(scratch) = &self.on_disk {
            // What a killed process leaves behind: dropped, the journal would be closed in order.
            let left = Scratch::new();
            std::fs::create_dir(&left.0).unwrap();
            for file in std::fs::read_dir(&scratch.0).unwrap() {
                let file = file.unwrap();
                std::fs::copy(file.path(), left.0.join(file.file_name())).unwrap();
            }
            self.on_disk = Some(left);
        }
        self.clients.iter_mut().for_each(|client| client.connection = None);
        Ok(())
    }

    /// Everybody comes back, takes all there is, and has seen everything.
    async fn catch_up(&mut self, life: &Life) -> Result<(), TestCaseError> {
        for _ in 0..8 {
            for who in 0..CLIENTS {
                if self.clients[who].connection.as_ref().is_none_or(|connection| connection.is_cut) {
                    self.come(life, who, who % life.workers.len()).await;
                }
                self.take(who, 1_000_000);
            }
            for _ in 0..8 {
                self.settle().await;
            }
            self.look_at_all(life)?;
        }
        for (who, client) in self.clients.iter().enumerate() {
            prop_assert!(client.undelivered.is_empty(), "client {} never got {:?}", who, client.undelivered);
        }
        for worker in &life.workers {
            prop_assert_eq!(worker.metrics().catching_up.get(), 0);
        }
        Ok(())
    }
}

fn run(world: &mut World, steps: &[Step]) -> Result<(), TestCaseError> {
    let lives: Vec<_> = steps.split(|step| matches!(step, Step::Kill)).collect();
    for (nth, steps) in lives.iter().enumerate() {
        let is_last = nth + 1 == lives.len();
        System::new().block_on(async {
            let living = tokio::time::timeout(Duration::from_secs(20), world.live(steps, is_last));
            living.await.map_err(|_| TestCaseError::fail("it hangs"))?
        })?;
    }
    Ok(())
}

proptest! {
    #[test]
    fn who_is_recovered_or_stays_sees_every_event_once_and_in_order(
        steps in vec(any_step(), 40),
        on_disk: bool,
        recovery_bytes_max in prop_oneof![2 => Just(Limits::default().recovery.bytes_max), 1 => 500usize..2_500],
    ) {
        run(&mut World::new(on_disk, recovery_bytes_max), &steps)?;
    }
}

#[test]
fn sessions_without_room_are_given_up_and_receive_what_is_live() {
    for on_disk in [false, true] {
        let mut world = World::new(on_disk, 700);
        let mut steps: Vec<_> = (0..CLIENTS).map(|who| Step::Come(who, who % 2)).collect();
        steps.extend((0..CLIENTS).flat_map(|who| (0..ROOMS.len()).map(move |room| Step::Join(who, room))));
        steps.extend((0..CLIENTS).map(|who| Step::Take(who, 1_000)));
        steps.push(Step::Emit { rooms: vec![], except: vec![], exclude: None, volatile: false, times: 20 });
        steps.extend([Step::Turns(20), Step::Drop(0), Step::Cut(1), Step::Come(1, 0), Step::Come(0, 1)]);
        run(&mut world, &steps).unwrap();
        assert!(world.metrics.hub.given_up.get() > 0);
        let refused = |why: NotRecovered| world.metrics.hub.not_recovered[why].get();
        assert!(refused(NotRecovered::GivenUp) + refused(NotRecovered::TooManyIntervals) > 0);
    }
}
