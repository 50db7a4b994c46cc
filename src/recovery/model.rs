//! Random lives of a few clients against a reference that is too simple to be wrong: each client remembers what it should have
//! seen, judged by the rooms it was in when the event was emitted.
//!
//! Steps in all: 40 a case; `PROPTEST_CASES=25000` makes a million.

use std::collections::{BTreeSet, VecDeque};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::ids::{Epoch, Fingerprint, Offset, Recipient};
use crate::journal::Journal;
use crate::journal::memory::MemoryJournal;
use crate::protocol::encoded::EncodedFrame;

const CLIENTS: usize = 3;
/// The one who is in the other namespace.
const CHATS: usize = 2;
/// Records that the ring holds; half of them are at risk.
const RECORDS_MAX: usize = 32;
const WINDOW_MS: u64 = 1_000;
const EPOCH: Epoch = Epoch::new(1, 1);
/// Room for three sessions in one room each, or so.
const SCARCE_BYTES: usize = 640;

/// One of two rooms, or, less often, a client's own.
type Name = prop::sample::Index;

#[derive(Debug, Clone)]
enum Step {
    Join(usize, Name),
    Leave(usize, Name),
    Data(usize, u8),
    Emit {
        chat: bool,
        rooms: Vec<Name>,
        except: Vec<Name>,
        exclude: Option<usize>,
        kind: Kind,
    },
    /// Many events for nobody who is here.
    Noise(usize),
    /// The client's line is dead, and the server has not noticed.
    Cut(usize),
    Disconnect(usize, bool),
    Resume(usize, Token),
    Wait(u64),
    Expire,
    Restart,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    Volatile,
    Asking,
}

/// What a client shows when it comes back.
#[derive(Debug, Clone, Copy)]
enum Token {
    /// The last one it saw.
    Honest,
    /// One that it saw before.
    Earlier(Name),
    Forged,
    Future,
    Foreign,
    OtherNamespace,
    OtherPid,
}

fn any_step() -> impl Strategy<Value = Step> {
    let who = || 0..CLIENTS;
    let name = any::<Name>;
    let kind = prop_oneof![6 => Just(Kind::Plain), 1 => Just(Kind::Volatile), 1 => Just(Kind::Asking)];
    let emit = (
        proptest::bool::weighted(0.2),
        vec(name(), 0..3),
        vec(name(), 0..2),
        proptest::option::weighted(0.2, who()),
        kind,
    );
    let token = prop_oneof![
        12 => Just(Token::Honest),
        3 => name().prop_map(Token::Earlier),
        1 => Just(Token::Forged),
        1 => Just(Token::Future),
        1 => Just(Token::Foreign),
        1 => Just(Token::OtherNamespace),
        1 => Just(Token::OtherPid),
    ];
    prop_oneof![
        6 => (who(), name()).prop_map(|(who, name)| Step::Join(who, name)),
        4 => (who(), name()).prop_map(|(who, name)| Step::Leave(who, name)),
        1 => (who(), any::<u8>()).prop_map(|(who, data)| Step::Data(who, data)),
        12 => emit.prop_map(|(chat, rooms, except, exclude, kind)| Step::Emit { chat, rooms, except, exclude, kind }),
        2 => (1usize..24).prop_map(Step::Noise),
        3 => who().prop_map(Step::Cut),
        3 => (who(), proptest::bool::weighted(0.1)).prop_map(|(who, forever)| Step::Disconnect(who, forever)),
        8 => (who(), token).prop_map(|(who, token)| Step::Resume(who, token)),
        1 => (1..WINDOW_MS).prop_map(Step::Wait),
        1 => Just(Step::Expire),
        1 => Just(Step::Restart),
    ]
}

/// One client, and all that it should ever have seen.
struct Client {
    pid: PrivateId,
    socket: SocketId,
    namespace: NamespacePath,
    rooms: BTreeSet<RoomName>,
    data: Option<Box<str>>,
    /// Whether its line works.
    hears: bool,
    /// Since when the server knows that it is gone.
    away: Option<u64>,
    forever: bool,
    start: Lsn,
    /// Where it connected.
    began: Lsn,
    /// Every journalled event that was for it, and whether it wanted an ack.
    undelivered: Vec<(Lsn, bool)>,
    /// The newest event that named it, its rooms or everybody, anyone who was excepted.
    named: Lsn,
    /// Every token it saw.
    tokens: Vec<Offset>,
}

struct World {
    /// Whether sessions may have to be given up.
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
        let recovery = Self::knowing_nobody(is_scarce);
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

    fn knowing_nobody(is_scarce: bool) -> RecoveryIndex {
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
        // As the contract of the journal has it: at least half of the ring is behind what is at risk.
        while let Some(at_risk) = self.lsns.len().checked_sub(RECORDS_MAX / 2 + 1).map(|at| self.lsns[at]) {
            let Some(entry) = self.recovery.at_risk(at_risk, usize::MAX) else { break };
            self.append_only(RecordBody::Session(entry.into()));
        }
        offset
    }

    fn append_only(&mut self, entry: RecordBody) -> Offset {
        // Every third number is skipped.
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

    /// A client starts over in the place of an older one.
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
            hears: true,
            away: None,
            forever: false,
            start,
            began: start,
            undelivered: Vec::new(),
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
                // Only its own client is in a socket's own room.
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
                    let event = EventRecord { namespace, rooms, except: vec![].into(), exclude: None, message };
                    self.append(RecordBody::Event(event.into()));
                }
            }
            Step::Cut(who) => self.clients[who].hears = false,
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
            message,
        };
        // A volatile event is not journalled, and bears the newest token there is.
        let offset = match kind {
            Kind::Volatile => self.newest(),
            // As the hub does: it has a number, and is not journalled.
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
                client.undelivered.push((offset.lsn, kind == Kind::Asking));
            }
            if client.hears && kind != Kind::Asking {
                client.tokens.push(offset);
            }
        }
    }

    /// The token of the newest record.
    fn newest(&self) -> Offset {
        let before = self.lsns[self.lsns.len() - 2];
        let record = self.journal.read(before, 1, usize::MAX).unwrap().records.pop().unwrap();
        Offset { epoch: EPOCH, lsn: record.lsn, fingerprint: record.fingerprint }
    }

    fn disconnect(&mut self, who: usize, forever: bool) {
        let (now, client) = (self.now, &mut self.clients[who]);
        if client.away.is_none() {
            (client.hears, client.away, client.forever) = (false, Some(now), forever);
            let socket = client.socket;
            self.append(RecordBody::Disconnect { socket, forever, at_unix_ms: now });
        }
    }

    fn resume(&mut self, who: usize, token: Token) {
        let client = &self.clients[who];
        let last = client.tokens.last().copied();
        let mut claim = ResumeQuery { pid: client.pid, namespace: &client.namespace.clone(), offset: last };
        let any = last.unwrap_or_else(|| self.newest());
        let other = namespace(who != CHATS);
        let expected = match token {
            Token::Honest => None,
            Token::Earlier(at) => {
                claim.offset = (!client.tokens.is_empty()).then(|| *at.get(&client.tokens));
                None
            }
            Token::Forged => {
                let fingerprint = Fingerprint::new(any.fingerprint.to_bits() ^ 1);
                claim.offset = Some(Offset { fingerprint, ..any });
                // What is trimmed is known by its position alone, and a position is no secret.
                (any.lsn > self.journal.trimmed_to()).then_some(NotRecovered::UnknownOffset)
            }
            Token::Future => {
                claim.offset = Some(Offset { lsn: self.journal.head().next(), ..any });
                Some(NotRecovered::FutureOffset)
            }
            Token::Foreign => {
                claim.offset = Some(Offset { epoch: Epoch::new(1, 2), ..any });
                // Of a session that was resumed from a token its client has one.
                (client.start != client.began).then_some(NotRecovered::ForeignEpoch)
            }
            Token::OtherNamespace => {
                claim.namespace = &other;
                Some(NotRecovered::OtherNamespace)
            }
            Token::OtherPid => {
                claim.pid = PrivateId::from_random([0xff; 15]);
                Some(NotRecovered::UnknownPid)
            }
        };
        let journal_state = JournalState::of(&self.journal, claim.offset.as_ref());
        let verdict = self.recovery.check_resume(&claim, &journal_state, self.now);
        let verdict = verdict.map(Resumed::from);
        let gone = client.forever || client.away.is_some_and(|since| self.now - since > WINDOW_MS);
        if let Some(expected) = expected {
            let refused = verdict.unwrap_err();
            let given_up = self.is_scarce && matches!(refused, NotRecovered::GivenUp | NotRecovered::TooManyIntervals);
            let gone = gone || given_up || (self.is_scarce && refused == NotRecovered::UnknownPid);
            assert!(refused == expected || gone, "{refused:?} instead of {expected:?}");
            return;
        }
        let from = claim.offset.filter(|offset| offset.epoch == EPOCH).map_or(client.start, |offset| offset.lsn);
        let trimmed_to = journal_state.trimmed_to;
        let behind = || client.undelivered.iter().filter(|(lsn, _)| *lsn > from);
        let lost = behind().any(|(lsn, ack_events)| *ack_events || *lsn <= trimmed_to);
        let must_refuse = gone || lost || from < client.start;
        let nothing_named_it = client.named <= from;
        let nothing_gone = from >= trimmed_to && behind().all(|(_, ack_events)| !ack_events);
        // Its client has seen no token of it, and it is in no room but its own.
        let has_nothing = from == client.start && client.start == client.began && client.rooms.len() == 1;
        let has_nothing = has_nothing && claim.offset.is_none_or(|offset| offset.epoch != EPOCH || offset.lsn < from);
        match verdict {
            Ok(resumed) => {
                assert!(!has_nothing, "a session without rooms and events is new");
                assert!(
                    !must_refuse,
                    "a silent gap behind {from:?}: {:?}, trimmed to {trimmed_to:?}",
                    client.undelivered
                );
                self.take_over(who, from, resumed);
            }
            // Where it began is not known behind a start.
            Err(NotRecovered::ForeignEpoch) => {}
            Err(NotRecovered::NothingToRecover) => {
                assert!(has_nothing, "{:?} from {:?}", client.rooms, claim.offset);
                self.disconnect(who, true);
                self.connect(who);
            }
            Err(why) => {
                // An excepted client may be refused for an event that wanted an ack: it is not known who was excepted.
                let for_others = why == NotRecovered::AckMissed && client.named > from;
                let given_up =
                    matches!(why, NotRecovered::GivenUp | NotRecovered::TooManyIntervals | NotRecovered::UnknownPid);
                let may_refuse = must_refuse || (self.is_scarce && given_up);
                let must_resume = !may_refuse && (nothing_named_it || (nothing_gone && !for_others));
                assert!(!must_resume, "refused without need behind {from:?}: {why:?}, {:?}", client.undelivered);
                // It is notified, and starts over.
                self.disconnect(who, true);
                self.connect(who);
            }
        }
    }

    /// The client is back: it gets what it missed, once and in order, and then what is live.
    fn take_over(&mut self, who: usize, from: Lsn, resumed: Resumed) {
        let client = &self.clients[who];
        let Resumed { socket, position, data, mut rooms } = resumed;
        assert_eq!((socket, position, &data), (client.socket, from, &client.data));
        rooms.insert(client.socket.into());
        assert_eq!(rooms, client.rooms);
        self.append(RecordBody::Resumed { socket, position, at_unix_ms: self.now });
        self.clients[who].away = None;
        let trimmed_to = self.journal.trimmed_to();
        if !self.recovery.is_whole(&socket, from, trimmed_to) {
            // Its own record, or what it led to, pushed out what it missed, or the session itself. It is notified, and starts over.
            assert!(self.is_scarce || self.clients[who].named > from, "closed without need");
            self.disconnect(who, true);
            return self.connect(who);
        }
        let (client, mut cursor, mut seen) = (&mut self.clients[who], from, Vec::new());
        loop {
            let chunk = self.journal.read(cursor, 3, usize::MAX).unwrap();
            for Record { lsn, fingerprint, body: entry } in chunk.records {
                cursor = lsn;
                if let RecordBody::Event(event) = entry
                    && self
                        .recovery
                        .missed_events(&client.socket)
                        .is_some_and(|undelivered| undelivered.includes(lsn, &event))
                {
                    seen.push(lsn);
                    client.tokens.push(Offset { epoch: EPOCH, lsn, fingerprint });
                }
            }
            if !chunk.more {
                break;
            }
        }
        let missed: Vec<_> = client.undelivered.iter().map(|(lsn, _)| *lsn).filter(|lsn| *lsn > from).collect();
        assert_eq!(seen, missed, "behind {from:?}");
        (client.start, client.hears) = (from, true);
    }

    /// The process dies, and another one reads the journal.
    fn restart(&mut self) {
        self.recovery = Self::knowing_nobody(self.is_scarce);
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
            client.hears = false;
            client.away.get_or_insert(self.now);
        }
    }
}

/// What a client gets back.
#[derive(Debug)]
struct Resumed {
    socket: SocketId,
    position: Lsn,
    data: Option<Box<str>>,
    rooms: BTreeSet<RoomName>,
}

impl From<Resumable<'_>> for Resumed {
    fn from(session: Resumable<'_>) -> Self {
        Self {
            socket: session.socket(),
            position: session.position,
            data: session.data().map(Box::from),
            rooms: session.rooms_now().cloned().collect(),
        }
    }
}

fn namespace(chat: bool) -> NamespacePath {
    if chat { NamespacePath::parse("/chat").unwrap() } else { NamespacePath::root() }
}

proptest! {
    #[test]
    fn resumed_sockets_get_what_they_missed_once_others_are_notified(
        steps in vec(any_step(), 40..41),
        is_scarce in proptest::bool::weighted(0.3),
    ) {
        let mut world = World::new(is_scarce);
        for step in steps {
            world.step(step);
        }
    }
}
