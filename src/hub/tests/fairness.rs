//! Tests of commands that wait for a worker, for other senders, or for a share of the journal.

use super::*;

#[test]
fn events_wait_while_a_worker_is_behind() {
    run(async {
        let limits = Limits::with(|limits| limits.hub.worker_bytes_max = 100);
        let mut rig = Rig::new(limits, Stores::default());
        rig.connect(1);
        rig.join(1, "a");
        rig.received().await;
        for event in ["one", "two", "three", "four"] {
            rig.emit("a", event, Grade::Plain);
        }
        rig.join(1, "b");
        let said = rig.received().await;
        // An event is answered once it is delivered. Later commands of the same sender wait until
        // then.
        assert_eq!(said.first().map(String::as_str), Some(r#"deliver 42["one"]"#));
        assert!(
            said.contains(&"answer 3 emitted".to_owned()) && !said.contains(&"answer 6 emitted".to_owned()),
            "{said:?}"
        );
        assert!(!said.contains(&"join 1".to_owned()), "{said:?}");
        let mut rest = Vec::new();
        for _ in 0..8 {
            rig.tell(ImmediateCommand::Consumed { bytes: 100, replayed: 0 });
            rest.extend(rig.received().await);
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
        rig.received().await;
        let large = "x".repeat(300_000);
        for _ in 0..50 {
            rig.emit("a", &large, Grade::Plain);
        }
        let delivered = |said: &[String]| said.iter().filter(|line| line.starts_with("deliver")).count();
        let said = rig.received().await;
        assert_eq!(delivered(&said), 1, "the rest waits");
        rig.slot.index = 1;
        for _ in 0..30 {
            rig.emit("a", "small", Grade::Plain);
        }
        let said = rig.received().await;
        assert_eq!(delivered(&said), 30);
        assert_eq!(said.iter().filter(|line| line.ends_with("emitted")).count(), 30, "its events are answered too");
        for left in (0..49).rev() {
            rig.tell(ImmediateCommand::Consumed { bytes: 300_100, replayed: 0 });
            assert!(delivered(&rig.received().await) == 1, "{left} left");
        }
    });
}

/// Receives lines until `expected` is among them, and returns all lines.
async fn said_until(rig: &Rig, expected: &str) -> Vec<String> {
    let mut said = Vec::new();
    while !said.iter().any(|line| line == expected) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        said.extend(rig.received().await);
    }
    said
}

#[test]
fn only_a_sender_whose_journal_share_is_spent_waits_in_order() {
    // In an earlier version, a sender that emitted to its own room displaced all other events from
    // the journal.
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
        let said = said_until(&rig, "answer 8 emitted").await;
        let answers = |said: &[String]| -> Vec<String> {
            said.iter().filter(|line| line.ends_with("emitted")).cloned().collect()
        };
        assert_eq!(answers(&said), ["answer 3 emitted", "answer 4 emitted", "answer 8 emitted"]);
        let said = said_until(&rig, "answer 7 emitted").await;
        assert_eq!(answers(&said), [5, 6, 7].map(|n| format!("answer {n} emitted")));
    });
}

#[test]
fn code_outside_of_sessions_has_no_share_of_the_journal() {
    run(async {
        let limits = Limits::with(|limits| limits.journal.sender_bytes_max = Some(1));
        let mut rig = Rig::new(limits, Stores { writer: writer(journal()), ..Stores::default() });
        rig.slot.index = 9;
        rig.connect(1);
        // The server sender is registered like a worker.
        let (sender, lines) = mpsc::channel();
        let mut commands: Vec<HubCommand> =
            vec![ImmediateCommand::Register { fanout: Listener(sender).start().recipient() }.into()];
        for n in 0..20 {
            let draft = Draft::event(Parser::Json, NamespacePath::root(), "e", "", Vec::new(), false);
            let from = ReplyTo { slot: SLOT, ticket: Ticket(n) };
            let emit = Box::new(Emit { target: Target::default(), draft, grade: Grade::Plain });
            commands.push(OrderedCommand::Broadcast { from, emit, ack: AckWanted::No }.into());
        }
        assert!(rig.hub.try_send(HubBatch { worker: WorkerId(1), commands }).is_ok());
        let mut answers = 0;
        while answers < 20 {
            tokio::task::yield_now().await;
            answers += lines.try_iter().filter(|line| line.ends_with("emitted")).count();
        }
        rig.join(1, "a");
        rig.emit("a", "waits", Grade::Plain);
        assert!(!rig.received().await.iter().any(|line| line.ends_with("emitted")), "a session has a share");
    });
}

#[test]
fn replays_to_a_full_worker_are_bounded_and_delay_no_event() {
    // In an earlier version, replays counted as deliveries and delayed the answers to all senders.
    run(async {
        let limits = Limits::with(|limits| limits.recovery.replay_bytes = 256 << 10);
        let journal = MemoryJournal::new(Epoch::new(1, 1), Lsn(0), 1_000, usize::MAX);
        let mut rig = Rig::new(limits, Stores { writer: writer(journal), ..Stores::default() });
        rig.connect(1);
        rig.join(1, "a");
        rig.received().await;
        let large = "x".repeat(200_000);
        for _ in 0..40 {
            rig.emit("a", &large, Grade::Plain);
            rig.tell(ImmediateCommand::Consumed { bytes: usize::MAX, replayed: 0 });
        }
        rig.received().await;
        let replays = |said: &[String]| said.iter().filter(|line| line.starts_with("replay")).count();
        let read = |rig: &Rig, after| {
            rig.tell(ImmediateCommand::ReadJournal { slot: SLOT, socket: socket(1), after: Lsn(after) })
        };
        for after in 0..20 {
            read(&rig, after);
        }
        let said = rig.received().await;
        let given = replays(&said);
        assert!((2..=4).contains(&given), "{given} chunks in flight");
        rig.slot.index = 1;
        rig.emit("a", "live", Grade::Plain);
        assert_eq!(rig.received().await.last().map(String::as_str), Some("answer 43 emitted"));
        rig.tell(ImmediateCommand::Consumed { bytes: 0, replayed: usize::MAX });
        assert!(replays(&rig.received().await) > 0, "further readers are served");
    });
}

#[test]
fn other_tasks_of_the_hubs_thread_run_while_commands_keep_coming() {
    // The server sender runs on the hub's thread. In an earlier version, the hub handled all ready
    // batches before that thread's other tasks ran.
    run(async {
        let mut rig = Rig::new(Limits::default(), Stores::default());
        rig.connect(1);
        rig.received().await;
        for _ in 0..3_000 {
            rig.join(1, "a");
        }
        tokio::task::yield_now().await;
        let mut received = rig.lines.try_iter().count();
        assert!(received < 3_000, "all were handled in one turn");
        while received < 3_001 {
            received += rig.received().await.len();
        }
    });
}

#[test]
fn a_socket_in_many_rooms_leaves_them_behind_other_commands() {
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
            rig.received().await;
        }
        rig.slot.index = 1;
        rig.connect(2);
        rig.join(2, "a");
        rig.received().await;
        rig.tell(disconnect(1));
        rig.emit("a", "innocent", Grade::Plain);
        let mut said = Vec::new();
        while !said.iter().any(|line: &String| line.starts_with("deliver")) {
            tokio::task::yield_now().await;
            said.extend(rig.lines.try_iter());
        }
        assert_eq!(said[0], "detach 1");
        assert!(metrics.hub.rooms.get() > 1, "some of its rooms remain");
        while metrics.hub.rooms.get() > 1 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn resumes_with_many_rooms_wait_for_senders_within_their_quantum() {
    // Each connection has its own quantum. A client could therefore cause much work with many
    // connections: a request of 350 bytes costs the hub most of a millisecond.
    run(async {
        let journal = MemoryJournal::new(Epoch::new(1, 1), Lsn(0), 10_000, usize::MAX);
        let mut rig = Rig::new(Limits::default(), Stores { writer: writer(journal), ..Stores::default() });
        rig.connect(1);
        rig.connect(2);
        rig.join(2, "own");
        for n in 0..200 {
            rig.join(1, &format!("room {n}"));
            rig.received().await;
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
            let connect = Connect { from, socket, member, namespace, kind, filter: None, reply };
            commands.push(OrderedCommand::Connect(Box::new(connect)).into());
        }
        assert!(rig.hub.try_send(HubBatch { worker: WORKER, commands }).is_ok());
        rig.slot = SlotKey { index: 99, generation: 0 };
        rig.emit("own", "innocent", Grade::Plain);
        let mut said = Vec::new();
        while said.iter().filter(|line: &&String| line.ends_with("recovered")).count() < 20 {
            said.extend(rig.received().await);
        }
        assert!(said[0].starts_with("deliver") && said[1].ends_with("emitted"), "{:?}", &said[..4]);
    });
}

#[test]
fn resumes_of_one_session_over_new_connections_share_an_account() {
    run(async {
        let journal = MemoryJournal::new(Epoch::new(1, 1), Lsn(0), 10_000, usize::MAX);
        let mut rig = Rig::new(Limits::default(), Stores { writer: writer(journal), ..Stores::default() });
        rig.connect(1);
        for n in 0..200 {
            rig.join(1, &format!("room {n}"));
            rig.received().await;
        }
        let mut commands = Vec::new();
        for index in 10..30 {
            let slot = SlotKey { index, generation: 0 };
            let claim = ResumeAttempt { pid: pid(1), offset: None };
            let (from, reply) = (ReplyTo { slot, ..rig.from() }, EncodedFrame::text("40"));
            let (socket, member, kind) = (socket(1), MemberKey(index), ConnectKind::Resuming(claim));
            let namespace = NamespacePath::root();
            let connect = Connect { from, socket, member, namespace, kind, filter: None, reply };
            commands.push(OrderedCommand::Connect(Box::new(connect)).into());
        }
        // These events cause as much work as one of the resumes.
        for _ in 0..4 {
            let body = format!("\"{}\"", "x".repeat(200 << 10));
            let draft = Draft::event(Parser::Json, NamespacePath::root(), "e", &body, Vec::new(), false);
            let from = ReplyTo { slot: SlotKey { index: 99, generation: 0 }, ..rig.from() };
            let emit = Box::new(Emit { target: Target::default(), draft, grade: Grade::Plain });
            commands.push(OrderedCommand::Broadcast { from, emit, ack: AckWanted::No }.into());
        }
        assert!(rig.hub.try_send(HubBatch { worker: WORKER, commands }).is_ok());
        let mut said = Vec::new();
        while said.iter().filter(|line: &&String| line.ends_with("recovered")).count() < 20 {
            let lines = rig.received().await;
            said.extend(lines.into_iter().filter(|line| line.ends_with("recovered") || line.ends_with("emitted")));
            rig.tell(ImmediateCommand::Consumed { bytes: usize::MAX, replayed: 0 });
        }
        let last = said.iter().rposition(|line| line.ends_with("emitted"));
        assert!(last < Some(12), "its four events wait for few of the twenty: {said:?}");
    });
}
