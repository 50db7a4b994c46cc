//! Simulation of hub, workers and journal without sessions and sockets: random steps of a few
//! clients, compared with the events that each client must receive.
//!
//! A client that stays connected, or recovers, receives every plain event of its rooms once and in
//! order. In a third of the cases, the limit of recovery is so low that some sessions become
//! unrecoverable. Half of the cases use a journal on disk, which survives when a step kills the
//! process. A case has 40 steps, so `PROPTEST_CASES=25000` runs a million steps.

mod peer;
mod step;

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use actix::{Actor, Addr, System};
use proptest::collection::vec;
use proptest::prelude::*;
use smallvec::SmallVec;

use self::peer::{Peer, PeerSink, SessionStub};
use self::step::{Step, any_step};

use crate::hub::journal_writer::JournalWriter;
use crate::hub::{Hub, Stores};
use crate::ids::{Epoch, Lsn, NamespacePath, Offset, PrivateId, Recipient, RoomName, SlotKey, SocketId, WorkerId};
use crate::journal::Journal;
use crate::journal::contract::scratch::Scratch;
use crate::journal::file::{FileJournal, FileOptions};
use crate::journal::folder::BootId;
use crate::journal::memory::MemoryJournal;
use crate::limits::Limits;
use crate::messages::answer::{ConnectAnswer, ReplyTo};
use crate::messages::event::{AckWanted, Emit, Grade};
use crate::messages::handshake::{Arrival, Handshake};
use crate::messages::hub::{Connect, ConnectKind, HubBatch, HubCommand, OrderedCommand};
use crate::messages::session::SessionLink;
use crate::messages::socket::SocketInfo;
use crate::metrics::Metrics;
use crate::protocol::draft::Draft;
use crate::protocol::encoded::EncodedFrame;
use crate::protocol::reason::NotRecovered;
use crate::protocol::socketio::Parser;
use crate::protocol::socketio::resume::ResumeAttempt;
use crate::state::credit::Ticket;
use crate::state::rooms::Target;
use crate::worker::Worker;
use crate::worker::outbox_handle::OutboxHandle;

const CLIENTS: usize = 4;
const ROOMS: [&str; 3] = ["a", "b", "c"];

/// Limits so low that within 40 steps clients lag and the journal drops segments.
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

struct Connection {
    worker: usize,
    outbox: Rc<OutboxHandle>,
    peer: Rc<Peer>,
    /// True if the client no longer reads.
    is_cut: bool,
}

/// State of a client, and the events that the client must still receive.
struct Client {
    pid: PrivateId,
    socket: SocketId,
    connection: Option<Connection>,
    /// True once the client was connected, so that a session can be resumed.
    has_session: bool,
    /// Last offset received.
    offset: Option<Offset>,
    rooms: BTreeSet<RoomName>,
    /// Plain events for the client, in order.
    undelivered: VecDeque<u64>,
    /// Volatile events for the client. The client may or may not receive them.
    volatile: BTreeSet<u64>,
}

/// Actors of one process.
struct Process {
    hub: Addr<Hub>,
    workers: Vec<Rc<Worker>>,
}

struct World {
    on_disk: Option<Scratch>,
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
            volatile: BTreeSet::new(),
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

    /// Returns the bytes of a new unique id.
    fn draw(&mut self) -> [u8; 15] {
        self.drawn += 1;
        let mut bytes = [0xee; 15];
        bytes[..8].copy_from_slice(&self.drawn.to_le_bytes());
        bytes
    }

    fn start_process(&self) -> Process {
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
        Process { hub, workers }
    }

    fn from(&mut self, slot: SlotKey) -> ReplyTo {
        self.tickets += 1;
        ReplyTo { slot, ticket: Ticket(self.tickets) }
    }

    /// Sends a command directly to the hub, which receives commands in the order of the steps.
    fn send(&self, process: &Process, worker: usize, command: impl Into<HubCommand>) {
        let batch = HubBatch { worker: WorkerId(worker as u16), commands: vec![command.into()] };
        assert!(process.hub.try_send(batch).is_ok(), "the hub receives commands");
    }

    async fn connect_client(&mut self, process: &Process, who: usize, worker: usize) {
        let peer = Rc::new(Peer::default());
        let link = SessionLink::new(SessionStub(peer.clone()).start().recipient());
        let outbox = OutboxHandle::open(process.workers[worker].clone(), link);
        outbox.set_drainer(Box::new(PeerSink(peer.clone())));
        let client = &self.clients[who];
        let attempt = client.has_session.then_some(ResumeAttempt { pid: client.pid, offset: client.offset });
        if let Some(attempt) = attempt {
            self.connect(process, who, worker, &outbox, ConnectKind::Resuming(attempt));
        }
        let old = self.clients[who].connection.replace(Connection {
            worker,
            outbox: outbox.clone(),
            peer: peer.clone(),
            is_cut: false,
        });
        if let Some(old) = old {
            // In the simulation, the old session ends immediately.
            let socket = self.clients[who].socket;
            let slot = old.outbox.slot;
            self.send(process, old.worker, OrderedCommand::Disconnect { slot, socket, forever: false, rooms: None });
        }
        if attempt.is_some() && peer.answered().await == (ConnectAnswer::Connected { recovered: true }) {
            return;
        }
        // As in a real session, the client gets a new socket and no earlier events.
        let pid = PrivateId::from_random(self.draw());
        let socket = SocketId::from_random(self.draw());
        let client = &mut self.clients[who];
        (client.pid, client.socket, client.has_session, client.offset) = (pid, socket, true, None);
        client.rooms.clear();
        client.undelivered.clear();
        client.volatile.clear();
        self.connect(process, who, worker, &outbox, ConnectKind::New(pid));
        peer.answered().await;
    }

    fn connect(&mut self, process: &Process, who: usize, worker: usize, outbox: &OutboxHandle, kind: ConnectKind) {
        let (socket, namespace) = (self.clients[who].socket, NamespacePath::root());
        let arrival = Arrival { at: UNIX_EPOCH, address: None, secure: false };
        let handshake = Arc::new(Handshake::new("", std::iter::empty(), arrival));
        let info = SocketInfo::new(socket, namespace.clone(), handshake, None, true);
        let member = outbox.add_member(Arc::new(info));
        let (from, reply) = (self.from(outbox.slot), EncodedFrame::text("40"));
        let connect = Connect { from, socket, member, namespace, kind, filter: None, reply };
        self.send(process, worker, OrderedCommand::Connect(Box::new(connect)));
    }

    /// Checks that the client received the undelivered events in order.
    fn check_received(&mut self, who: usize) -> Result<(), TestCaseError> {
        let client = &mut self.clients[who];
        let Some(connection) = &client.connection else { return Ok(()) };
        for packet in connection.peer.received.take() {
            let Some(event) = packet.strip_prefix(r#"42["e","#) else {
                prop_assert_eq!(packet, "40");
                continue;
            };
            let (number, token) = event.strip_suffix(r#""]"#).and_then(|event| event.split_once(",\"")).unwrap();
            let number: u64 = number.parse().unwrap();
            client.offset = Some(Offset::parse(token).unwrap());
            if client.volatile.remove(&number) {
                continue;
            }
            let next = client.undelivered.front().copied();
            prop_assert_eq!(Some(number), next, "client {} got {} and expected {:?}", who, number, client.undelivered);
            client.undelivered.pop_front();
        }
        Ok(())
    }

    fn emit(&mut self, process: &Process, target: Target, volatile: bool) {
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
                (true, true) => drop(client.volatile.insert(number)),
                (false, _) => {}
            }
        }
        let draft = Draft::event(Parser::Json, NamespacePath::root(), "e", &number.to_string(), vec![], true);
        let grade = if volatile { Grade::Volatile } else { Grade::Plain };
        let from = self.from(SlotKey { index: u32::MAX, generation: 0 });
        let emit = Box::new(Emit { target, draft, grade });
        self.send(process, 0, OrderedCommand::Broadcast { from, emit, ack: AckWanted::No });
    }

    fn target(&self, rooms: &[usize], except: &[usize], exclude: Option<usize>) -> Target {
        let names =
            |names: &[usize]| -> SmallVec<[Recipient; 1]> { names.iter().map(|name| self.room(*name)).collect() };
        let exclude = exclude.map(|who| self.clients[who].socket);
        Target { rooms: names(rooms), except: names(except), exclude, local: false }
    }

    /// Returns one of the rooms or, less often, the socket of a client.
    fn room(&self, name: usize) -> Recipient {
        match name {
            own if own < CLIENTS => self.clients[own].socket.into(),
            shared => Recipient::parse(ROOMS[shared % ROOMS.len()]).unwrap(),
        }
    }

    fn read(&self, who: usize, count: usize) {
        if let Some(connection) = self.clients[who].connection.as_ref().filter(|connection| !connection.is_cut) {
            connection.peer.allowed.set(connection.peer.allowed.get().saturating_add(count));
            connection.outbox.on_writable();
        }
    }

    fn drop_connection(&mut self, process: &Process, who: usize) {
        let socket = self.clients[who].socket;
        let Some(Connection { worker, outbox, .. }) = self.clients[who].connection.take() else { return };
        let slot = outbox.slot;
        self.send(process, worker, OrderedCommand::Disconnect { slot, socket, forever: false, rooms: None });
    }

    fn join_or_leave(&mut self, process: &Process, who: usize, name: usize, joins: bool) {
        let socket = self.clients[who].socket;
        let room = RoomName::parse(ROOMS[name % ROOMS.len()]).unwrap();
        let Some((worker, slot)) =
            self.clients[who].connection.as_ref().map(|connection| (connection.worker, connection.outbox.slot))
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
        self.send(process, worker, command);
    }

    /// Runs the actors for 64 turns, which suffice to handle all messages.
    async fn settle(&self) {
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
    }

    fn check_all(&mut self, process: &Process) -> Result<(), TestCaseError> {
        for who in 0..CLIENTS {
            self.check_received(who)?;
            if self.clients[who].connection.as_ref().is_some_and(|connection| connection.peer.is_ended.get()) {
                self.drop_connection(process, who);
            }
        }
        Ok(())
    }

    async fn step(&mut self, process: &Process, step: &Step) {
        match step {
            Step::Join(who, name) => self.join_or_leave(process, *who, *name, true),
            Step::Leave(who, name) => self.join_or_leave(process, *who, *name, false),
            Step::Emit { rooms, except, exclude, volatile, times } => {
                for _ in 0..*times {
                    self.emit(process, self.target(rooms, except, *exclude), *volatile);
                }
            }
            Step::Direct(who) => self.emit(process, Target::socket(self.clients[*who].socket), false),
            Step::Read(who, count) => self.read(*who, *count),
            Step::Cut(who) => {
                if let Some(connection) = &mut self.clients[*who].connection {
                    connection.peer.allowed.set(0);
                    connection.is_cut = true;
                }
            }
            Step::Drop(who) => self.drop_connection(process, *who),
            Step::Connect(who, worker) => self.connect_client(process, *who, *worker).await,
            Step::Turns(count) => {
                for _ in 0..*count {
                    tokio::task::yield_now().await;
                }
            }
            Step::Kill => {}
        }
    }

    /// Runs the steps in one process, which is killed at the end.
    async fn run_process(&mut self, steps: &[Step], is_last: bool) -> Result<(), TestCaseError> {
        self.draw();
        let process = self.start_process();
        self.settle().await;
        for step in steps {
            self.step(&process, step).await;
            self.check_all(&process)?;
        }
        self.settle().await;
        self.check_all(&process)?;
        if is_last {
            return self.catch_up(&process).await;
        }
        if let Some(scratch) = &self.on_disk {
            // Copies the files as a killed process would leave them, since dropping the journal
            // closes it properly.
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

    /// Reconnects all clients, lets them read everything, and checks that no event is missing.
    async fn catch_up(&mut self, process: &Process) -> Result<(), TestCaseError> {
        for _ in 0..8 {
            for who in 0..CLIENTS {
                if self.clients[who].connection.as_ref().is_none_or(|connection| connection.is_cut) {
                    self.connect_client(process, who, who % process.workers.len()).await;
                }
                self.read(who, 1_000_000);
            }
            for _ in 0..8 {
                self.settle().await;
            }
            self.check_all(process)?;
        }
        for (who, client) in self.clients.iter().enumerate() {
            prop_assert!(client.undelivered.is_empty(), "client {} did not receive {:?}", who, client.undelivered);
        }
        for worker in &process.workers {
            prop_assert_eq!(worker.metrics().catching_up.get(), 0);
        }
        Ok(())
    }
}

fn run(world: &mut World, steps: &[Step]) -> Result<(), TestCaseError> {
    let processes: Vec<_> = steps.split(|step| matches!(step, Step::Kill)).collect();
    for (nth, steps) in processes.iter().enumerate() {
        let is_last = nth + 1 == processes.len();
        System::new().block_on(async {
            let done = tokio::time::timeout(Duration::from_secs(20), world.run_process(steps, is_last));
            done.await.map_err(|_| TestCaseError::fail("the process hangs"))?
        })?;
    }
    Ok(())
}

proptest! {
    #[test]
    fn clients_receive_every_event_once_and_in_order(
        steps in vec(any_step(), 40),
        on_disk: bool,
        recovery_bytes_max in prop_oneof![2 => Just(Limits::default().recovery.bytes_max), 1 => 500usize..2_500],
    ) {
        run(&mut World::new(on_disk, recovery_bytes_max), &steps)?;
    }
}

#[test]
fn unrecoverable_sessions_receive_live_events() {
    for on_disk in [false, true] {
        let mut world = World::new(on_disk, 700);
        let mut steps: Vec<_> = (0..CLIENTS).map(|who| Step::Connect(who, who % 2)).collect();
        steps.extend((0..CLIENTS).flat_map(|who| (0..ROOMS.len()).map(move |room| Step::Join(who, room))));
        steps.extend((0..CLIENTS).map(|who| Step::Read(who, 1_000)));
        steps.push(Step::Emit { rooms: vec![], except: vec![], exclude: None, volatile: false, times: 20 });
        steps.extend([Step::Turns(20), Step::Drop(0), Step::Cut(1), Step::Connect(1, 0), Step::Connect(0, 1)]);
        run(&mut world, &steps).unwrap();
        assert!(world.metrics.hub.given_up.get() > 0);
        let refused = |why: NotRecovered| world.metrics.hub.not_recovered[why].get();
        assert!(refused(NotRecovered::GivenUp) + refused(NotRecovered::TooManyIntervals) > 0);
    }
}
