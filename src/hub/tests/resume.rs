//! Clients that come back to a hub: what they claim, what they are given, and that their stale connections are not heard any more.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::messages::fanout::DeliveryMode;

/// The slot of a client's second connection.
const LATER: SlotKey = SlotKey { index: 1, generation: 0 };

fn pid(n: u8) -> PrivateId {
    PrivateId::from_random([n; 15])
}

impl Rig {
    fn recovering(limits: Limits) -> Self {
        Self::new(limits, Stores { writer: writer(journal()), ..Stores::default() })
    }

    fn claim(&mut self, n: u8, offset: Option<Offset>) {
        let (from, claim) = (self.from(), ResumeAttempt { pid: pid(n), offset });
        self.tell(OrderedCommand::CheckResume { from, namespace: NamespacePath::root(), claim });
    }

    /// Socket `n` comes back in another slot, as member `n + 100`.
    fn come_back(&mut self, n: u8, offset: Option<Offset>) {
        let (from, member) = (ReplyTo { slot: LATER, ..self.from() }, MemberKey(u32::from(n) + 100));
        let (namespace, reply) = (NamespacePath::root(), EncodedFrame::text("40"));
        let kind = ConnectKind::Resuming(ResumeAttempt { pid: pid(n), offset });
        let connect = Connect { from, socket: socket(n), member, namespace, kind, reply };
        self.tell(OrderedCommand::Connect(Box::new(connect)));
    }

    fn read(&mut self, n: u8, after: Lsn) {
        self.tell(ImmediateCommand::Read { slot: LATER, socket: socket(n), after });
    }
}

#[test]
fn a_resumed_socket_has_its_rooms_and_catches_up_before_it_is_live() {
    run(async {
        let mut rig = Rig::recovering(Limits::with(|limits| limits.recovery.replay_bytes = 1));
        rig.connect(1);
        rig.join(1, "a");
        rig.join(1, "b");
        let from = rig.from();
        rig.tell(OrderedCommand::Data { from, socket: socket(1), data: Some("7".into()) });
        let from = rig.from();
        rig.tell(OrderedCommand::Leave { from, socket: socket(1), room: room("b") });
        rig.tell(gone(1));
        rig.emit("a", "missed", Grade::Plain);
        rig.emit("b", "not for it", Grade::Plain);
        rig.emit("a", "lost", Grade::Volatile);
        rig.emit("a", "missed too", Grade::Plain);
        rig.heard().await;

        rig.claim(1, None);
        assert_eq!(rig.heard().await, [r#"claimed Some("7")"#]);
        rig.come_back(1, None);
        assert_eq!(rig.heard().await, ["attach 101 behind 1", "join 101", "answer 11 recovered"]);
        rig.emit("a", "live", Grade::Plain);
        assert_eq!(rig.heard().await, [r#"deliver 42["live"]"#, "answer 12 emitted"], "which its worker drops");
        rig.read(1, Lsn(1));
        assert_eq!(rig.heard().await, [r#"replay 101 42["missed"] more"#]);
        rig.read(1, Lsn(7));
        assert_eq!(rig.heard().await, [r#"replay 101 42["missed too"] more"#]);
        rig.emit("a", "while it reads", Grade::Plain);
        rig.heard().await;
        rig.read(1, Lsn(9));
        assert_eq!(rig.heard().await, [r#"replay 101 42["live"] more"#]);
        rig.read(1, Lsn(11));
        assert_eq!(rig.heard().await, [r#"replay 101 42["while it reads"] live"#]);
    });
}

#[test]
fn a_resume_is_journalled_with_the_position_it_continues_from() {
    // Without the record a client that came back expires as one that is away, and the next start does not know what it has seen.
    run(async {
        let (appended, journalled) = mpsc::channel();
        let journal = super::Spied(journal(), move |record: &Record| {
            if let RecordBody::Resumed { socket, position, .. } = record.body {
                let _ = appended.send((socket, position));
            }
        });
        let mut rig = Rig::new(Limits::default(), Stores { writer: writer(journal), ..Stores::default() });
        rig.connect(1);
        rig.join(1, "a");
        rig.tell(gone(1));
        rig.come_back(1, None);
        assert_eq!(rig.heard().await.last().map(String::as_str), Some("answer 3 recovered"));
        assert_eq!(journalled.try_iter().collect::<Vec<_>>(), [(socket(1), Lsn(1))]);
    });
}

#[test]
fn a_stale_connection_is_disconnected_and_no_longer_heard() {
    run(async {
        let mut rig = Rig::recovering(Limits::default());
        rig.connect(1);
        rig.join(1, "a");
        rig.heard().await;
        rig.come_back(1, None);
        assert_eq!(rig.heard().await, ["evict 1", "attach 101 behind 1", "join 101", "answer 3 recovered"]);
        // What the old connection still says, in whatever order it gets through.
        rig.join(1, "b");
        let from = rig.from();
        rig.tell(OrderedCommand::Leave { from, socket: socket(1), room: room("a") });
        let from = rig.from();
        rig.tell(OrderedCommand::Data { from, socket: socket(1), data: Some("8".into()) });
        rig.tell(ImmediateCommand::Read { slot: SLOT, socket: socket(1), after: Lsn(0) });
        rig.tell(gone(1));
        assert_eq!(rig.heard().await, ["answer 4 refused NotConnected", "answer 5 left", "answer 6 passed"]);
        rig.emit("a", "e", Grade::Plain);
        assert_eq!(rig.heard().await, [r#"deliver 42["e"]"#, "answer 7 emitted"]);
        rig.claim(1, None);
        assert_eq!(rig.heard().await, ["claimed None"]);
    });
}

#[test]
fn a_session_that_lost_its_claim_is_notified_and_the_other_stays() {
    run(async {
        let mut rig = Rig::recovering(Limits::default());
        rig.connect(1);
        rig.join(1, "a");
        rig.heard().await;
        // In connection middleware its claim was still good.
        let stale = Offset { epoch: Epoch::new(1, 1), lsn: Lsn(99), fingerprint: crate::ids::Fingerprint::new(1) };
        rig.come_back(1, Some(stale));
        assert_eq!(rig.heard().await, ["detach 101", "answer 3 claim lost"]);
        rig.emit("a", "x", Grade::Plain);
        assert_eq!(rig.heard().await[0], r#"deliver 42["x"]"#);
        rig.claim(1, None);
        assert_eq!(rig.heard().await, ["claimed None"]);
    });
}

#[test]
fn what_one_turn_has_no_time_for_is_read_in_the_next() {
    run(async {
        let mut rig = Rig::recovering(Limits::with(|limits| limits.recovery.replay_records_per_turn = 2));
        rig.connect(1);
        rig.connect(2);
        rig.join(1, "a");
        rig.join(2, "a");
        rig.tell(gone(1));
        rig.tell(gone(2));
        rig.come_back(1, None);
        rig.come_back(2, None);
        for _ in 0..3 {
            rig.emit("a", "e", Grade::Plain);
        }
        rig.heard().await;
        rig.read(1, Lsn(1));
        rig.read(2, Lsn(2));
        let heard = rig.heard().await;
        let two = r#"42["e"] 42["e"] more"#;
        assert_eq!(heard, [format!("replay 101 {two}"), format!("replay 102 {two}")], "each in a turn of its own");
    });
}

#[test]
fn a_reader_of_trimmed_records_is_notified() {
    run(async {
        let journal = MemoryJournal::new(Epoch::new(1, 1), Lsn(0), 4, usize::MAX);
        let mut rig = Rig::new(Limits::default(), Stores { writer: writer(journal), ..Stores::default() });
        rig.connect(1);
        rig.join(1, "a");
        rig.tell(gone(1));
        rig.come_back(1, None);
        for _ in 0..4 {
            rig.emit(&socket(1).to_string(), "one", Grade::Plain);
        }
        rig.heard().await;
        rig.read(1, Lsn(4));
        assert_eq!(rig.heard().await.len(), 1, "nothing of it is gone yet");
        rig.emit(&socket(1).to_string(), "one more", Grade::Plain);
        rig.heard().await;
        rig.read(1, Lsn(4));
        assert_eq!(rig.heard().await, ["fell behind 101"]);
    });
}

/// A memory journal whose writes fail from a position on.
struct Failing(MemoryJournal, Lsn);

impl Journal for Failing {
    fn epoch(&self) -> Epoch {
        self.0.epoch()
    }
    fn head(&self) -> Lsn {
        self.0.head()
    }
    fn append(&mut self, record: Record) -> Result<(), JournalError> {
        self.0.append(record)
    }
    fn trimmed_to(&self) -> Lsn {
        self.0.trimmed_to()
    }
    fn flush(&mut self) -> Result<(), JournalError> {
        let full = || JournalError::Io { path: "x".into(), kind: std::io::ErrorKind::StorageFull };
        if self.0.head() < self.1 { Ok(()) } else { Err(full()) }
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
fn a_journal_that_fails_costs_recovery_and_nothing_else() {
    run(async {
        let journal = Failing(journal(), Lsn(4));
        let mut rig = Rig::new(Limits::default(), Stores { writer: writer(journal), ..Stores::default() });
        rig.connect(1);
        rig.join(1, "a");
        rig.emit("a", "before", Grade::Plain);
        rig.heard().await;
        rig.emit("a", "the one that fails", Grade::Plain);
        rig.emit("a", "after", Grade::Plain);
        let heard = rig.heard().await;
        assert_eq!(heard.iter().filter(|said| said.starts_with("deliver")).count(), 2, "{heard:?}");
        rig.claim(1, None);
        assert_eq!(rig.heard().await, ["not claimed: session is unknown"]);
        // Who connects from now on can come back as before.
        rig.connect(2);
        rig.join(2, "b");
        rig.tell(gone(2));
        rig.emit(&socket(2).to_string(), "missed", Grade::Plain);
        rig.come_back(2, None);
        let heard = rig.heard().await;
        assert_eq!(heard.last().map(String::as_str), Some("answer 10 recovered"), "{heard:?}");
        rig.read(2, Lsn(6));
        assert_eq!(rig.heard().await, [r#"replay 102 42["missed"] live"#]);
    });
}

#[test]
fn a_closed_hub_has_closed_its_journal_and_continues_quietly() {
    run(async {
        let (said, closed) = mpsc::channel();
        let journal = super::Spied(journal(), move |_: &Record| {
            let _ = said.send(());
        });
        let mut rig = Rig::new(Limits::default(), Stores { writer: writer(journal), ..Stores::default() });
        rig.connect(1);
        let (done, told) = tokio::sync::oneshot::channel();
        assert!(rig.hub.try_send(HubControl::Close(done)).is_ok());
        told.await.unwrap();
        assert_eq!(closed.try_iter().count(), 1);
        rig.heard().await;
        rig.emit(&socket(1).to_string(), "late", Grade::Plain);
        assert_eq!(rig.heard().await, [r#"deliver 42["late"]"#, "answer 2 emitted"]);
        assert_eq!(closed.try_iter().count(), 0);
    });
}

/// How an `Attach` is put into words.
pub(super) fn attached(member: MemberKey, mode: DeliveryMode) -> String {
    match mode {
        DeliveryMode::CatchingUp(after) => format!("attach {} behind {}", member.0, after.0),
        DeliveryMode::WithoutToken => format!("attach {} bare", member.0),
        DeliveryMode::Live { .. } => format!("attach {}", member.0),
    }
}

#[test]
fn nobody_joins_the_own_room_of_a_socket_that_is_away() {
    // It would hear what is meant for that one alone, which comes back under the same id.
    run(async {
        let mut rig = Rig::recovering(Limits::default());
        rig.connect(1);
        rig.connect(2);
        rig.tell(gone(1));
        rig.heard().await;
        rig.join(2, &socket(1).to_string());
        assert_eq!(rig.heard().await, ["answer 3 refused ForeignRoom"]);
    });
}

#[test]
fn one_that_was_in_too_many_rooms_is_forgotten_after_its_end() {
    run(async {
        let limits = Limits::with(|limits| {
            limits.sockets.rooms_max = 1;
            limits.recovery.left_rooms_max = 1;
            limits.recovery.window = Duration::ZERO;
        });
        let metrics = Arc::<crate::metrics::Metrics>::default();
        let writer = JournalWriter::open(Box::new(journal()), 7, &limits, metrics.clone()).unwrap();
        let stores = Stores { writer: Some(writer), metrics: metrics.clone(), ..Stores::default() };
        let mut rig = Rig::new(limits, stores);
        rig.connect(1);
        for name in ["a", "b", "c"] {
            rig.join(1, name);
            let from = rig.from();
            rig.tell(OrderedCommand::Leave { from, socket: socket(1), room: room(name) });
        }
        rig.claim(1, None);
        assert_eq!(rig.heard().await.last().unwrap(), "not claimed: session was in too many rooms");
        rig.tell(gone(1));
        rig.heard().await;
        std::thread::sleep(Duration::from_millis(5));
        rig.emit("a", "a turn", Grade::Plain);
        rig.heard().await;
        assert_eq!(metrics.hub.recovery_sessions.get(), 0);
    });
}

#[test]
fn a_question_of_an_evicted_connection_is_not_asked_for_its_successor() {
    // Its answer would be taken for the answer to whatever the new session asks under the same id.
    run(async {
        let mut rig = Rig::recovering(Limits::default());
        rig.connect(1);
        rig.join(1, "a");
        rig.come_back(1, None);
        rig.heard().await;
        let draft = Draft::event(Parser::Json, NamespacePath::root(), "question", "", Vec::new(), false);
        let (from, target, grade) = (rig.from(), Target::socket(socket(1)), Grade::Plain);
        let ack = AckWanted::OfOne { socket: socket(1), id: AckId::new(AckOwner::Session, 0) };
        rig.tell(OrderedCommand::Broadcast { from, emit: Box::new(Emit { target, draft, grade }), ack });
        assert_eq!(rig.heard().await, ["answer 4 refused NotConnected"]);
    });
}

/// A memory journal that counts how often it is read.
struct Counted(MemoryJournal, Arc<AtomicUsize>);

impl Journal for Counted {
    fn epoch(&self) -> Epoch {
        self.0.epoch()
    }
    fn head(&self) -> Lsn {
        self.0.head()
    }
    fn append(&mut self, record: Record) -> Result<(), JournalError> {
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
        self.1.fetch_add(1, Ordering::Relaxed);
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
fn what_is_for_others_is_looked_through_in_few_reads() {
    // A chunk was as large as had room: behind an event that left little, one record at a time, each looked for in its file again.
    run(async {
        let reads = Arc::<AtomicUsize>::default();
        let journal = MemoryJournal::new(Epoch::new(1, 1), Lsn(0), 4_000, usize::MAX);
        let limits = Limits::with(|limits| limits.recovery.replay_bytes = 80);
        let stores = Stores { writer: writer(Counted(journal, reads.clone())), ..Stores::default() };
        let mut rig = Rig::new(limits, stores);
        rig.connect(1);
        rig.join(1, "a");
        rig.tell(gone(1));
        rig.emit(&socket(1).to_string(), &"x".repeat(60), Grade::Plain);
        for _ in 0..1_000 {
            rig.emit("elsewhere", "e", Grade::Plain);
            rig.heard().await;
        }
        rig.come_back(1, None);
        rig.heard().await;
        reads.store(0, Ordering::Relaxed);
        rig.read(1, Lsn(1));
        let heard = rig.heard().await;
        assert!(heard[0].ends_with("live"), "{heard:?}");
        assert!(reads.load(Ordering::Relaxed) < 10, "{reads:?} reads");
    });
}

#[test]
fn resumes_in_many_rooms_wait_for_those_who_have_caused_little() {
    // Each came over a connection of its own, with a quantum of its own, and 350 bytes cost the hub most of a millisecond.
    run(async {
        let journal = MemoryJournal::new(Epoch::new(1, 1), Lsn(0), 10_000, usize::MAX);
        let mut rig = Rig::new(Limits::default(), Stores { writer: writer(journal), ..Stores::default() });
        rig.connect(1);
        rig.connect(2);
        rig.join(2, "own");
        for n in 0..200 {
            rig.join(1, &format!("room {n}"));
            rig.heard().await;
        }
        let mut commands = Vec::new();
        for index in 10..30 {
            let slot = SlotKey { index, generation: 0 };
            let namespace = NamespacePath::root();
            let claim = ResumeAttempt { pid: pid(1), offset: None };
            let from = ReplyTo { slot, ..rig.from() };
            commands.push(OrderedCommand::CheckResume { from, namespace: namespace.clone(), claim }.into());
            let (from, reply) = (ReplyTo { slot, ..rig.from() }, EncodedFrame::text("40"));
            let (socket, member, kind) = (socket(1), MemberKey(index), ConnectKind::Resuming(claim));
            let connect = Connect { from, socket, member, namespace, kind, reply };
            commands.push(OrderedCommand::Connect(Box::new(connect)).into());
        }
        assert!(rig.hub.try_send(HubBatch { worker: WORKER, commands }).is_ok());
        rig.slot = SlotKey { index: 99, generation: 0 };
        rig.emit("own", "innocent", Grade::Plain);
        let mut told = Vec::new();
        while told.iter().filter(|said: &&String| said.ends_with("recovered")).count() < 20 {
            told.extend(rig.heard().await);
        }
        assert!(told[0].starts_with("deliver") && told[1].ends_with("emitted"), "{:?}", &told[..4]);
    });
}

#[test]
fn a_session_that_is_resumed_again_over_new_connections_has_one_account() {
    run(async {
        let journal = MemoryJournal::new(Epoch::new(1, 1), Lsn(0), 10_000, usize::MAX);
        let mut rig = Rig::new(Limits::default(), Stores { writer: writer(journal), ..Stores::default() });
        rig.connect(1);
        for n in 0..200 {
            rig.join(1, &format!("room {n}"));
            rig.heard().await;
        }
        let mut commands = Vec::new();
        for index in 10..30 {
            let slot = SlotKey { index, generation: 0 };
            let claim = ResumeAttempt { pid: pid(1), offset: None };
            let (from, reply) = (ReplyTo { slot, ..rig.from() }, EncodedFrame::text("40"));
            let (socket, member, kind) = (socket(1), MemberKey(index), ConnectKind::Resuming(claim));
            let namespace = NamespacePath::root();
            let connect = Connect { from, socket, member, namespace, kind, reply };
            commands.push(OrderedCommand::Connect(Box::new(connect)).into());
        }
        // A publisher that has caused as much as one of them.
        for _ in 0..4 {
            let body = format!("\"{}\"", "x".repeat(200 << 10));
            let draft = Draft::event(Parser::Json, NamespacePath::root(), "e", &body, Vec::new(), false);
            let from = ReplyTo { slot: SlotKey { index: 99, generation: 0 }, ..rig.from() };
            let emit = Box::new(Emit { target: Target::default(), draft, grade: Grade::Plain });
            commands.push(OrderedCommand::Broadcast { from, emit, ack: AckWanted::No }.into());
        }
        assert!(rig.hub.try_send(HubBatch { worker: WORKER, commands }).is_ok());
        let mut told = Vec::new();
        while told.iter().filter(|said: &&String| said.ends_with("recovered")).count() < 20 {
            let heard = rig.heard().await;
            told.extend(heard.into_iter().filter(|said| said.ends_with("recovered") || said.ends_with("emitted")));
            rig.tell(ImmediateCommand::Consumed { bytes: usize::MAX, replayed: 0 });
        }
        let last = told.iter().rposition(|said| said.ends_with("emitted"));
        assert!(last < Some(12), "its four events wait for few of the twenty: {told:?}");
    });
}
