//! Random steps of a few clients, compared with a simple model. In the model, each client records
//! the events that it should receive according to its rooms at the time of the emit.
//!
//! A case has 40 steps, so `PROPTEST_CASES=25000` runs a million steps.

mod resumes;
mod steps;

use std::collections::{BTreeSet, VecDeque};

use proptest::collection::vec;
use proptest::prelude::*;

use self::steps::{Kind, Name, Step, any_step};
use super::*;
use crate::ids::{Epoch, Fingerprint, Offset, Recipient};
use crate::journal::Journal;
use crate::journal::memory::MemoryJournal;
use crate::protocol::encoded::EncodedFrame;

const CLIENTS: usize = 3;
/// Index of the client in the namespace `/chat`.
const CHATS: usize = 2;
/// Maximum number of records in the journal. The older half is at risk of being dropped.
const RECORDS_MAX: usize = 32;
const WINDOW_MS: u64 = 1_000;
const EPOCH: Epoch = Epoch::new(1, 1);
/// Bytes of about three sessions in one room each.
const SCARCE_BYTES: usize = 640;

/// A client, with the events that it should have received.
struct Client {
    pid: PrivateId,
    socket: SocketId,
    namespace: NamespacePath,
    rooms: BTreeSet<RoomName>,
    data: Option<Box<str>>,
    receives: bool,
    /// Time at which the server noticed the lost connection.
    away: Option<u64>,
    forever: bool,
    /// Position of the connect or of the last resume.
    start: Lsn,
    began: Lsn,
    /// Positions of all events for the client that are not volatile. The flag is true if the event
    /// requested an ack.
    events: Vec<(Lsn, bool)>,
    /// Position of the newest event for the client's namespace, rooms or socket, including events
    /// from which the client was excepted.
    named: Lsn,
    tokens: Vec<Offset>,
}

struct World {
    /// True if the bounds are so small that sessions are given up.
    is_scarce: bool,
    journal: MemoryJournal,
    recovery: RecoveryIndex,
    clients: Vec<Client>,
    lsns: VecDeque<Lsn>,
    random: u32,
    now: u64,
}

impl World {
    fn new(is_scarce: bool) -> Self {
        let journal = MemoryJournal::new(EPOCH, Lsn(0), RECORDS_MAX, usize::MAX);
        let recovery = Self::empty_index(is_scarce);
        let mut world = Self {
            is_scarce,
            journal,
            recovery,
            clients: Vec::new(),
            lsns: VecDeque::new(),
            random: 0,
            now: 1_000_000,
        };
        (0..CLIENTS).for_each(|who| world.connect(who));
        world
    }

    fn empty_index(is_scarce: bool) -> RecoveryIndex {
        RecoveryIndex::new(RecoveryBounds {
            window: Duration::from_millis(WINDOW_MS),
            sessions_max: 1_000,
            bytes_max: if is_scarce { SCARCE_BYTES } else { usize::MAX },
            session_bytes_max: if is_scarce { SCARCE_BYTES / 2 } else { usize::MAX },
            intervals_max: 1_000,
        })
    }

    fn append(&mut self, entry: RecordBody) -> Offset {
        let offset = self.append_only(entry);
        while let Some(entry) = self.recovery.next_to_give_up() {
            assert!(self.is_scarce, "given up without need: {entry:?}");
            self.append_only(entry);
        }
        // By the contract of the journal, at most the older half of the records is at risk.
        while let Some(at_risk) = self.lsns.len().checked_sub(RECORDS_MAX / 2 + 1).map(|at| self.lsns[at]) {
            let Some(entry) = self.recovery.at_risk(at_risk, usize::MAX) else { break };
            self.append_only(RecordBody::Session(entry.into()));
        }
        offset
    }

    fn append_only(&mut self, entry: RecordBody) -> Offset {
        // Before about every third record, one LSN is skipped.
        let lsn = Lsn(self.journal.head().0 + 1 + u64::from(self.random.is_multiple_of(3)));
        self.random += 1;
        let fingerprint = Fingerprint::new(self.random);
        let record = Record { lsn, fingerprint, body: entry };
        self.journal.append(record.clone()).unwrap();
        self.recovery.apply(&record);
        self.recovery.set_trimmed_to(self.journal.trimmed_to());
        self.lsns.push_back(lsn);
        Offset { epoch: EPOCH, lsn, fingerprint }
    }

    /// Connects a new client at index `who`, which replaces the previous client, if there is one.
    fn connect(&mut self, who: usize) {
        self.random += 1;
        let mut bytes = [0; 15];
        bytes[..4].copy_from_slice(&self.random.to_le_bytes());
        let (pid, socket) = (PrivateId::from_random(bytes), SocketId::from_random(bytes));
        let namespace = namespace(who == CHATS);
        let entry = RecordBody::Connect { pid, socket, namespace: namespace.clone(), at_unix_ms: self.now };
        let start = self.append(entry).lsn;
        let client = Client {
            pid,
            socket,
            namespace,
            rooms: BTreeSet::from([socket.into()]),
            data: None,
            receives: true,
            away: None,
            forever: false,
            start,
            began: start,
            events: Vec::new(),
            named: Lsn(0),
            tokens: Vec::new(),
        };
        if who < self.clients.len() { self.clients[who] = client } else { self.clients.push(client) }
    }

    fn name(&self, name: &Name) -> RoomName {
        match name.index(CLIENTS + 8) {
            who if who < CLIENTS => self.clients[who].socket.into(),
            room => RoomName::parse(["a", "b"][room % 2]).unwrap(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Join(who, name) => {
                let (room, socket) = (self.name(&name), self.clients[who].socket);
                // The step is skipped for a socket's own room, which no other socket can join.
                if self.clients[who].away.is_none() && self.clients.iter().all(|client| room != client.socket.into()) {
                    self.append(RecordBody::Join { socket, room: room.clone() });
                    self.clients[who].rooms.insert(room);
                }
            }
            Step::Leave(who, name) => {
                let Client { socket, rooms, away, .. } = &mut self.clients[who];
                let (socket, own) = (*socket, RoomName::from(*socket));
                let joined: Vec<_> = rooms.iter().filter(|room| **room != own).cloned().collect();
                if away.is_none() && !joined.is_empty() {
                    let room = name.get(&joined).clone();
                    rooms.remove(&room);
                    self.append(RecordBody::Leave { socket, room });
                }
            }
            Step::Data(who, data) => {
                if self.clients[who].away.is_none() {
                    let data = Some(data.to_string().into_boxed_str());
                    self.clients[who].data = data.clone();
                    self.append(RecordBody::Data { socket: self.clients[who].socket, data });
                }
            }
            Step::Emit { chat, rooms, except, exclude, kind } => {
                let rooms: Vec<_> = rooms.iter().map(|name| self.name(name)).collect();
                let except: Vec<_> = except.iter().map(|name| self.name(name)).collect();
                let exclude = exclude.map(|who| self.clients[who].socket);
                self.emit(namespace(chat), rooms, except, exclude, kind);
            }
            Step::Noise(events) => {
                for _ in 0..events {
                    let message = EncodedFrame::text(r#"42["e","token"]"#).into();
                    let (namespace, rooms) = (NamespacePath::root(), vec![Recipient::parse("noise").unwrap()].into());
                    let event =
                        EventRecord { namespace, rooms, except: vec![].into(), exclude: None, stored: None, message };
                    self.append(RecordBody::Event(event.into()));
                }
            }
            Step::Cut(who) => self.clients[who].receives = false,
            Step::Disconnect(who, forever) => self.disconnect(who, forever),
            Step::Resume(who, token) => self.resume(who, token),
            Step::Wait(ms) => self.now += ms,
            Step::Expire => {
                if let Some(expired) = self.recovery.next_expired(self.now) {
                    self.append_only(expired);
                }
            }
            Step::Restart => self.restart(),
        }
    }

    fn emit(
        &mut self,
        namespace: NamespacePath,
        rooms: Vec<RoomName>,
        except: Vec<RoomName>,
        exclude: Option<SocketId>,
        kind: Kind,
    ) {
        let text = if kind == Kind::Asking { r#"42/chat,7["e"]"# } else { r#"42/chat,["e","token"]"# };
        let message = EncodedFrame::text(text).into();
        let event = EventRecord {
            namespace: namespace.clone(),
            rooms: rooms.iter().cloned().map(Recipient::from).collect(),
            except: except.iter().cloned().map(Recipient::from).collect(),
            exclude,
            stored: None,
            message,
        };
        // A volatile event is not journalled, and has the token of the newest record.
        let offset = match kind {
            Kind::Volatile => self.newest(),
            // As in the hub, an event that concerns no session has an LSN but is not journalled.
            _ if !self.recovery.concerns(&namespace, &event.rooms) => {
                Offset { epoch: EPOCH, lsn: self.journal.head().next(), fingerprint: Fingerprint::new(0) }
            }
            Kind::Plain | Kind::Asking => self.append(RecordBody::Event(event.into())),
        };
        for client in &mut self.clients {
            let named = rooms.is_empty() || rooms.iter().any(|room| client.rooms.contains(room));
            if client.namespace != namespace || !named {
                continue;
            }
            let excepted = except.iter().any(|room| client.rooms.contains(room)) || exclude == Some(client.socket);
            if kind != Kind::Volatile {
                client.named = offset.lsn;
            }
            if excepted {
                continue;
            }
            if kind != Kind::Volatile {
                client.events.push((offset.lsn, kind == Kind::Asking));
            }
            if client.receives && kind != Kind::Asking {
                client.tokens.push(offset);
            }
        }
    }

    fn newest(&self) -> Offset {
        let before = self.lsns[self.lsns.len() - 2];
        let record = self.journal.read(before, 1, usize::MAX).unwrap().records.pop().unwrap();
        Offset { epoch: EPOCH, lsn: record.lsn, fingerprint: record.fingerprint }
    }

    fn disconnect(&mut self, who: usize, forever: bool) {
        let (now, client) = (self.now, &mut self.clients[who]);
        if client.away.is_none() {
            (client.receives, client.away, client.forever) = (false, Some(now), forever);
            let socket = client.socket;
            self.append(RecordBody::Disconnect { socket, forever, at_unix_ms: now });
        }
    }

    /// Simulates the start of a new process, which reads the journal.
    fn restart(&mut self) {
        self.recovery = Self::empty_index(self.is_scarce);
        self.recovery.set_trimmed_to(self.journal.trimmed_to());
        let mut cursor = Lsn(0);
        loop {
            let chunk = self.journal.read(cursor, 5, usize::MAX).unwrap();
            for record in &chunk.records {
                self.recovery.apply(record);
                cursor = record.lsn;
            }
            if !chunk.more {
                break;
            }
        }
        let connected = self.recovery.sessions.values().filter(|session| session.connected);
        let ended: BTreeSet<_> = connected.map(|session| session.socket).collect();
        let connected = self.clients.iter().filter(|client| client.away.is_none()).map(|client| client.socket);
        assert!(self.is_scarce || ended == connected.collect());
        if self.recovery.is_changed_by_start(self.now) {
            self.append_only(RecordBody::ProcessEnded { at_unix_ms: self.now });
        }
        for client in &mut self.clients {
            client.receives = false;
            client.away.get_or_insert(self.now);
        }
    }
}

fn namespace(chat: bool) -> NamespacePath {
    if chat { NamespacePath::parse("/chat").unwrap() } else { NamespacePath::root() }
}

proptest! {
    #[test]
    fn resumed_clients_receive_missed_events_once_others_are_notified(
        steps in vec(any_step(), 40..41),
        is_scarce in proptest::bool::weighted(0.3),
    ) {
        let mut world = World::new(is_scarce);
        for step in steps {
            world.step(step);
        }
    }
}
