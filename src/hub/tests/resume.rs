//! Tests of refused and successful resumes, replays, and stale connections.

use super::*;

#[test]
fn a_resumed_socket_has_its_rooms_and_catches_up() {
    run(async {
        let mut rig = Rig::recovering(Limits::with(|limits| limits.recovery.replay_bytes = 1));
        rig.connect(1);
        rig.join(1, "a");
        rig.join(1, "b");
        let from = rig.from();
        rig.tell(OrderedCommand::Data { from, socket: socket(1), data: Some("7".into()) });
        let from = rig.from();
        rig.tell(OrderedCommand::Leave { from, socket: socket(1), room: room("b") });
        rig.tell(disconnect(1));
        rig.emit("a", "missed", Grade::Plain);
        rig.emit("b", "not for it", Grade::Plain);
        rig.emit("a", "lost", Grade::Volatile);
        rig.emit("a", "missed too", Grade::Plain);
        rig.received().await;

        rig.check_resume(1, None);
        assert_eq!(rig.received().await, [r#"claimed Some("7")"#]);
        rig.resume(1, None);
        assert_eq!(rig.received().await, ["attach 101 behind 1", "join 101", "answer 11 recovered"]);
        rig.emit("a", "live", Grade::Plain);
        assert_eq!(rig.received().await, [r#"deliver 42["live"]"#, "answer 12 emitted"], "its worker drops this copy");
        rig.read(1, Lsn(1));
        assert_eq!(rig.received().await, [r#"replay 101 42["missed"] more"#]);
        rig.read(1, Lsn(7));
        assert_eq!(rig.received().await, [r#"replay 101 42["missed too"] more"#]);
        rig.emit("a", "while it reads", Grade::Plain);
        rig.received().await;
        rig.read(1, Lsn(9));
        assert_eq!(rig.received().await, [r#"replay 101 42["live"] more"#]);
        rig.read(1, Lsn(11));
        assert_eq!(rig.received().await, [r#"replay 101 42["while it reads"] live"#]);
    });
}

#[test]
fn rooms_that_a_filter_refuses_are_left_before_anything_is_replayed() {
    run(async {
        let mut rig = Rig::recovering(Limits::default());
        rig.connect(1);
        for name in ["kept", "secret", "former"] {
            rig.join(1, name);
        }
        rig.emit("former", "missed", Grade::Plain);
        let from = rig.from();
        rig.tell(OrderedCommand::Leave { from, socket: socket(1), room: room("former") });
        rig.tell(disconnect(1));
        for name in ["secret", "kept"] {
            rig.emit(name, name, Grade::Plain);
        }
        rig.received().await;
        rig.resume_with(1, None, Some(RoomFilter::new(|name| name == "kept")));
        let resumed = rig.received().await;
        assert_eq!(resumed[..2], ["attach 101 behind 1", "join 101"], "{resumed:?}");
        assert!(resumed[2].ends_with("recovered"), "{resumed:?}");
        rig.read(1, Lsn(1));
        assert_eq!(rig.received().await, [r#"replay 101 42["kept"] live"#]);
        rig.emit("secret", "live", Grade::Plain);
        let emitted = rig.received().await;
        assert!(emitted.iter().all(|line| !line.starts_with("deliver")), "{emitted:?}");
        // The rooms stay left when the client resumes again, without a filter.
        rig.tell(OrderedCommand::Disconnect { slot: LATER, socket: socket(1), forever: false, rooms: None });
        rig.received().await;
        rig.resume(1, None);
        assert_eq!(rig.received().await[..2], ["attach 101 behind 1", "join 101"]);
        rig.read(1, Lsn(1));
        assert_eq!(rig.received().await, [r#"replay 101 42["kept"] live"#]);
    });
}

#[test]
fn a_resume_is_journalled_with_the_position_it_continues_from() {
    // Without a record of the resume, the session would expire although it is connected. The next
    // start would resume it from the position of its connect.
    run(async {
        let (appended, journalled) = mpsc::channel();
        let journal = TestJournal::observed(move |record: &Record| {
            if let RecordBody::Resumed { socket, position, .. } = record.body {
                let _ = appended.send((socket, position));
            }
        });
        let mut rig = Rig::new(Limits::default(), Stores { writer: writer(journal), ..Stores::default() });
        rig.connect(1);
        rig.join(1, "a");
        rig.tell(disconnect(1));
        rig.resume(1, None);
        assert_eq!(rig.received().await.last().map(String::as_str), Some("answer 3 recovered"));
        assert_eq!(journalled.try_iter().collect::<Vec<_>>(), [(socket(1), Lsn(1))]);
    });
}

#[test]
fn commands_of_an_evicted_connection_are_ignored() {
    run(async {
        let mut rig = Rig::recovering(Limits::default());
        rig.connect(1);
        rig.join(1, "a");
        rig.received().await;
        rig.resume(1, None);
        assert_eq!(rig.received().await, ["evict 1", "attach 101 behind 1", "join 101", "answer 3 recovered"]);
        // The old connection sent these commands before it was evicted.
        rig.join(1, "b");
        let from = rig.from();
        rig.tell(OrderedCommand::Leave { from, socket: socket(1), room: room("a") });
        let from = rig.from();
        rig.tell(OrderedCommand::Data { from, socket: socket(1), data: Some("8".into()) });
        rig.tell(ImmediateCommand::ReadJournal { slot: SLOT, socket: socket(1), after: Lsn(0) });
        rig.tell(disconnect(1));
        assert_eq!(rig.received().await, ["answer 4 refused NotConnected", "answer 5 left", "answer 6 passed"]);
        rig.emit("a", "e", Grade::Plain);
        assert_eq!(rig.received().await, [r#"deliver 42["e"]"#, "answer 7 emitted"]);
        rig.check_resume(1, None);
        assert_eq!(rig.received().await, ["claimed None"]);
    });
}

#[test]
fn a_resume_refused_at_connect_leaves_the_other_connection() {
    run(async {
        let mut rig = Rig::recovering(Limits::default());
        rig.connect(1);
        rig.join(1, "a");
        rig.received().await;
        // The test omits the check before middleware, as if that check had succeeded.
        let stale = Offset { epoch: Epoch::new(1, 1), lsn: Lsn(99), fingerprint: crate::ids::Fingerprint::new(1) };
        rig.resume(1, Some(stale));
        assert_eq!(rig.received().await, ["detach 101", "answer 3 claim lost"]);
        rig.emit("a", "x", Grade::Plain);
        assert_eq!(rig.received().await[0], r#"deliver 42["x"]"#);
        rig.check_resume(1, None);
        assert_eq!(rig.received().await, ["claimed None"]);
    });
}

#[test]
fn the_own_room_of_a_disconnected_socket_cannot_be_joined() {
    // A member of that room would receive events that are meant for the socket only. The socket may
    // resume under the same id.
    run(async {
        let mut rig = Rig::recovering(Limits::default());
        rig.connect(1);
        rig.connect(2);
        rig.tell(disconnect(1));
        rig.received().await;
        rig.join(2, &socket(1).to_string());
        assert_eq!(rig.received().await, ["answer 3 refused ForeignRoom"]);
    });
}

#[test]
fn a_session_given_up_for_its_rooms_is_forgotten_when_it_expires() {
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
        rig.check_resume(1, None);
        assert_eq!(rig.received().await.last().unwrap(), "not claimed: session was in too many rooms");
        rig.tell(disconnect(1));
        rig.received().await;
        std::thread::sleep(Duration::from_millis(5));
        rig.emit("a", "a turn", Grade::Plain);
        rig.received().await;
        assert_eq!(metrics.hub.recovery_sessions.get(), 0);
    });
}

#[test]
fn an_ack_request_of_an_evicted_connection_is_refused() {
    // The new connection's session may request an ack under the same id.
    run(async {
        let mut rig = Rig::recovering(Limits::default());
        rig.connect(1);
        rig.join(1, "a");
        rig.resume(1, None);
        rig.received().await;
        let draft = Draft::event(Parser::Json, NamespacePath::root(), "question", "", Vec::new(), false);
        let (from, target, grade) = (rig.from(), Target::socket(socket(1)), Grade::Plain);
        let ack = AckWanted::OfOne { socket: socket(1), id: AckId::new(AckOwner::Session, 0) };
        rig.tell(OrderedCommand::Broadcast { from, emit: Box::new(Emit { target, draft, grade }), ack });
        assert_eq!(rig.received().await, ["answer 4 refused NotConnected"]);
    });
}
