//! Tests of replays of journalled events, and of journals that fail or are closed.

use super::*;

#[test]
fn replays_beyond_the_records_of_a_turn_follow_in_the_next() {
    run(async {
        let mut rig = Rig::recovering(Limits::with(|limits| limits.recovery.replay_records_per_turn = 2));
        rig.connect(1);
        rig.connect(2);
        rig.join(1, "a");
        rig.join(2, "a");
        rig.tell(disconnect(1));
        rig.tell(disconnect(2));
        rig.resume(1, None);
        rig.resume(2, None);
        for _ in 0..3 {
            rig.emit("a", "e", Grade::Plain);
        }
        rig.received().await;
        rig.read(1, Lsn(1));
        rig.read(2, Lsn(2));
        let lines = rig.received().await;
        let two = r#"42["e"] 42["e"] more"#;
        assert_eq!(lines, [format!("replay 101 {two}"), format!("replay 102 {two}")], "one in each turn");
    });
}

#[test]
fn a_reader_of_dropped_records_falls_behind() {
    run(async {
        let journal = MemoryJournal::new(Epoch::new(1, 1), Lsn(0), 4, usize::MAX);
        let mut rig = Rig::new(Limits::default(), Stores { writer: writer(journal), ..Stores::default() });
        rig.connect(1);
        rig.join(1, "a");
        rig.tell(disconnect(1));
        rig.resume(1, None);
        for _ in 0..4 {
            rig.emit(&socket(1).to_string(), "one", Grade::Plain);
        }
        rig.received().await;
        rig.read(1, Lsn(4));
        assert_eq!(rig.received().await.len(), 1, "all of its events can still be read");
        rig.emit(&socket(1).to_string(), "one more", Grade::Plain);
        rig.received().await;
        rig.read(1, Lsn(4));
        assert_eq!(rig.received().await, ["fell behind 101"]);
    });
}

#[test]
fn events_are_sent_after_the_journal_is_flushed() {
    run(async {
        let (sender, lines) = mpsc::channel::<String>();
        let (seen, order) = mpsc::channel();
        let appended = seen.clone();
        let mut journal = TestJournal::observed(move |record: &Record| {
            if matches!(record.body, RecordBody::Event(_)) {
                let _ = appended.send("event appended".to_owned());
            }
        });
        // A flush takes longer than the worker, on its own thread, needs to receive an event.
        journal.on_flush = Box::new(move || {
            while let Ok(line) = lines.recv_timeout(Duration::from_millis(50)) {
                let _ = seen.send(line);
            }
            let _ = seen.send("flushed".to_owned());
        });
        let worker = Listener::start_in_arbiter(&actix::Arbiter::new().handle(), |_| Listener(sender));
        let stores = Stores { writer: writer(journal), ..Stores::default() };
        let mut rig = Rig::with_worker(Limits::default(), stores, worker, mpsc::channel().1);
        rig.connect(1);
        rig.join(1, "a");
        rig.received().await;
        let mut lines = Vec::new();
        while !lines.iter().any(|line: &String| line.starts_with("deliver")) {
            rig.emit("a", "e", Grade::Plain);
            rig.received().await;
            lines.extend(order.try_iter());
        }
        let after_append = lines.iter().skip_while(|line| *line != "event appended");
        let next = after_append.clone().find(|line| *line == "flushed" || line.starts_with("deliver"));
        assert_eq!(next.map(String::as_str), Some("flushed"), "{lines:?}");
    });
}

#[test]
fn a_failed_journal_affects_recovery_only() {
    run(async {
        let journal = TestJournal { flush_fails_at: Lsn(4), ..TestJournal::new(journal()) };
        let mut rig = Rig::new(Limits::default(), Stores { writer: writer(journal), ..Stores::default() });
        rig.connect(1);
        rig.join(1, "a");
        rig.emit("a", "before", Grade::Plain);
        rig.received().await;
        rig.emit("a", "the one that fails", Grade::Plain);
        rig.emit("a", "after", Grade::Plain);
        let lines = rig.received().await;
        assert_eq!(lines.iter().filter(|line| line.starts_with("deliver")).count(), 2, "{lines:?}");
        rig.check_resume(1, None);
        assert_eq!(rig.received().await, ["not claimed: session is unknown"]);
        // Sessions that connect after the failure can be resumed.
        rig.connect(2);
        rig.join(2, "b");
        rig.tell(disconnect(2));
        rig.emit(&socket(2).to_string(), "missed", Grade::Plain);
        rig.resume(2, None);
        let lines = rig.received().await;
        assert_eq!(lines.last().map(String::as_str), Some("answer 10 recovered"), "{lines:?}");
        rig.read(2, Lsn(6));
        assert_eq!(rig.received().await, [r#"replay 102 42["missed"] live"#]);
    });
}

#[test]
fn a_closed_hub_continues_without_journalling() {
    run(async {
        let (sender, appended) = mpsc::channel();
        let journal = TestJournal::observed(move |_: &Record| {
            let _ = sender.send(());
        });
        let mut rig = Rig::new(Limits::default(), Stores { writer: writer(journal), ..Stores::default() });
        rig.connect(1);
        let (done, closed) = tokio::sync::oneshot::channel();
        assert!(rig.hub.try_send(HubControl::Close(done)).is_ok());
        closed.await.unwrap();
        assert_eq!(appended.try_iter().count(), 1);
        rig.received().await;
        rig.emit(&socket(1).to_string(), "late", Grade::Plain);
        assert_eq!(rig.received().await, [r#"deliver 42["late"]"#, "answer 2 emitted"]);
        assert_eq!(appended.try_iter().count(), 0);
    });
}

#[test]
fn records_for_others_are_skipped_in_few_reads() {
    // In an earlier version, the byte budget of the socket bounded each read, so that a read could
    // return a single record.
    run(async {
        let journal = TestJournal::new(MemoryJournal::new(Epoch::new(1, 1), Lsn(0), 4_000, usize::MAX));
        let reads = journal.reads.clone();
        let limits = Limits::with(|limits| limits.recovery.replay_bytes = 80);
        let stores = Stores { writer: writer(journal), ..Stores::default() };
        let mut rig = Rig::new(limits, stores);
        rig.connect(1);
        rig.join(1, "a");
        rig.tell(disconnect(1));
        rig.emit(&socket(1).to_string(), &"x".repeat(60), Grade::Plain);
        for _ in 0..1_000 {
            rig.emit("elsewhere", "e", Grade::Plain);
            rig.received().await;
        }
        rig.resume(1, None);
        rig.received().await;
        reads.store(0, Ordering::Relaxed);
        rig.read(1, Lsn(1));
        let lines = rig.received().await;
        assert!(lines[0].ends_with("live"), "{lines:?}");
        assert!(reads.load(Ordering::Relaxed) < 10, "{reads:?} reads");
    });
}
