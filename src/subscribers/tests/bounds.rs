//! Bounds: what waits, and what one turn or one subscriber costs.

use tokio::sync::oneshot::error::TryRecvError;

use super::reads::ReadJob;
use super::*;

impl Rig {
    /// Passes an event to the live feed, although it is not stored.
    fn feed(&mut self, number: u64, room: &str, size: usize) {
        let offset = QueueOffset { epoch: self.actor.queue.epoch(), number };
        let text = Bytes::from(format!("[\"e\",\"{}\"]", "x".repeat(size)));
        self.actor.queue.feed(RevealedEvent {
            offset,
            namespace: NamespacePath::root(),
            rooms: [RoomName::parse(room).unwrap()].into(),
            payload: Arc::new(Payload { text, attachments: Vec::new() }),
            published_at: UnixMillis(0),
            expires_at: None,
        });
    }
}

#[test]
fn live_events_that_a_turn_does_not_handle_count_towards_the_feed() {
    run(async {
        let mut rig = Rig::new(|_| {});
        let mut clients = Vec::new();
        for name in 0..200 {
            let name = format!("s{name}");
            rig.subscribe(&name, "a").await;
            clients.push(rig.attached(&name).await);
        }
        let mut missed = 0;
        for turn in 0..20 {
            for number in 1..=80 {
                rig.feed(80 * turn + number, "a", 100_000);
            }
            rig.actor.turn();
            missed += rig.actor.live.iter().filter(|live| matches!(live, Live::LeftOut)).count();
        }
        assert!(rig.actor.live.len() <= 84 && missed > 0, "{} {missed}", rig.actor.live.len());
        rig.settle().await;
        assert!(rig.actor.live.is_empty() && rig.actor.queue.live().is_empty());
    });
}

#[test]
fn events_are_fed_only_while_a_subscriber_or_a_read_waits() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        rig.feed(1, "a", 1);
        assert!(rig.actor.queue.live().is_empty(), "nobody waits");
        let read = rig.read_rooms_of(None, &["a"], 10, Duration::from_secs(60));
        rig.settle().await;
        rig.feed(1, "a", 1);
        assert_eq!(rig.actor.queue.live().take().len(), 1, "a read waits");
        drop(read);
        rig.pass(Duration::from_secs(61)).await;
        rig.settle().await;
        let client = rig.attached("s").await;
        rig.feed(1, "a", 1);
        assert_eq!(rig.actor.queue.live().take().len(), 1, "a subscriber is attached");
        rig.actor.link.post(SubscriberCommand::Detach { id: client.id });
        rig.settle().await;
        rig.feed(1, "a", 1);
        assert!(rig.actor.queue.live().is_empty(), "nobody waits any more");
    });
}

#[test]
fn an_event_that_was_not_fed_is_received_after_the_next_attach() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        let number = rig.publish("a", true).await;
        let client = rig.attached("s").await;
        assert_eq!(client.events(), [number.to_string()]);
    });
}

#[test]
fn a_page_of_damaged_events_of_rooms_is_read_on_after_them() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        for _ in 0..3 {
            rig.publish("a", false).await;
        }
        rig.store.faults().damaged.extend([1, 2]);
        let answer = rig.read_rooms(&["a"], 2);
        rig.settle().await;
        let page = answer.await.unwrap().unwrap();
        assert_eq!((page.events.len(), page.has_more, page.next), (0, true, 2));
    });
}

#[test]
fn reads_of_rooms_are_bounded_for_each_session() {
    run(async {
        let mut rig = Rig::new(|_| {});
        let session = || SessionLink::new(Recorder(Log::default()).start().recipient());
        let (first, second) = (session(), session());
        let wait = Duration::from_secs(60);
        let read = |rig: &Rig, session: &SessionLink| rig.read_rooms_of(Some(session), &["a", "b"], 10, wait);
        let mut waiting: Vec<RoomAnswer> = (0..16).map(|_| read(&rig, &first)).collect();
        let mut refused = read(&rig, &first);
        let mut other = read(&rig, &second);
        rig.settle().await;
        let error = refused.try_recv().expect("an answer").unwrap_err().to_string();
        assert_eq!(error, "queue is overloaded: reads of rooms of one session 16 of 16");
        assert!(waiting.iter_mut().chain([&mut other]).all(|answer| answer.try_recv().is_err()));
        // One whose caller has gone makes room.
        waiting.pop();
        waiting.push(read(&rig, &first));
        rig.subscribe("s", "b").await;
        rig.publish("c", true).await;
        assert!(waiting.iter_mut().chain([&mut other]).all(|answer| answer.try_recv().is_err()), "of another room");
        rig.publish("b", true).await;
        assert!(waiting.iter_mut().chain([&mut other]).all(|answer| answer.try_recv().unwrap().unwrap().next == 2));
        assert_eq!(rig.actor.room_reads.deadline(), None);
    });
}

#[test]
fn reads_of_rooms_of_ended_sessions_make_room() {
    run(async {
        let mut rig = Rig::new(|_| {});
        let session = || SessionLink::new(Recorder(Log::default()).start().recipient());
        let sessions: Vec<SessionLink> = (0..256).map(|_| session()).collect();
        let wait = Duration::from_secs(60);
        // Handlers wait for the answers also after the sessions have ended.
        let mut waiting: Vec<RoomAnswer> = Vec::new();
        for session in &sessions {
            waiting.extend((0..16).map(|_| rig.read_rooms_of(Some(session), &["a"], 10, wait)));
        }
        let mut refused = rig.read_rooms(&["a"], 10);
        rig.settle().await;
        let error = refused.try_recv().expect("an answer").unwrap_err().to_string();
        assert_eq!(error, "queue is overloaded: reads of rooms 4096 of 4096");
        assert!(waiting.iter_mut().all(|answer| matches!(answer.try_recv(), Err(TryRecvError::Empty))));
        sessions[..255].iter().for_each(SessionLink::close);
        let mut read = rig.read_rooms(&["a"], 10);
        rig.settle().await;
        assert!(read.try_recv().expect("an answer").is_ok());
        let ended = waiting.iter_mut().filter_map(|answer| answer.try_recv().err());
        assert_eq!(ended.filter(|error| *error == TryRecvError::Closed).count(), 255 * 16);
    });
}

#[test]
fn a_read_of_many_rooms_reads_as_much_as_it_answers() {
    run(async {
        let mut rig = Rig::new(|_| {});
        let rooms: Vec<String> = (0..64).map(|room| format!("room {room:02}")).collect();
        let rooms: Vec<&str> = rooms.iter().map(String::as_str).collect();
        for room in &rooms {
            rig.subscribe("s", room).await;
            rig.publish(room, false).await;
            rig.publish(room, false).await;
        }
        let answer = rig.read_rooms(&rooms, 10);
        rig.settle().await;
        let page = answer.await.unwrap().unwrap();
        assert_eq!((page.events.len(), page.next, page.head, page.has_more), (10, 10, 128, true));
        assert_eq!(rig.store.faults().events_read, 10);
    });
}

#[test]
fn changes_of_subscribers_leave_half_of_the_queue_to_publishers() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        let (share, before) = (rig.actor.queue.waiting_max() / 2, rig.store.changes());
        for _ in 0..share + 10 {
            rig.actor.submit_lazily(Change::Touch { subscriber: key("s"), seen_at: UnixMillis(1) });
        }
        assert_eq!(rig.actor.unsubmitted.len(), 10);
        rig.settle().await;
        assert_eq!(rig.store.changes() - before, share + 10);
    });
}

#[test]
fn signs_of_life_of_many_subscribers_are_stored_in_several_rounds() {
    run(async {
        let mut rig = Rig::new(|limits| limits.queue.subscriber_expiry = Duration::from_secs(8 * 3600));
        let mut clients = Vec::new();
        for name in 0..260 {
            let name = format!("s{name}");
            rig.subscribe(&name, "a").await;
            clients.push(rig.attached(&name).await);
        }
        let start = rig.actor.clock.now();
        let touched = |rig: &Rig| rig.actor.active.values().filter(|active| active.touched_at > start).count();
        rig.pass(Duration::from_secs(3600)).await;
        assert_eq!(touched(&rig), 256);
        rig.pass(Duration::from_millis(100)).await;
        assert_eq!(touched(&rig), 260);
    });
}

#[test]
fn listings_have_one_read_in_eight_while_deliveries_wait() {
    run(async {
        let mut rig = Rig::new(|_| {});
        let mut answers = Vec::new();
        for _ in 0..16 {
            rig.actor.reads.push(ReadJob::Page(AttachmentId::next()));
            let (reply, answer) = oneshot::channel();
            rig.actor.list(key("s"), 10, reply);
            answers.push(answer);
        }
        let mut answered = |rig: &mut Rig, reads: usize| {
            (0..reads).for_each(|_| rig.actor.read_next());
            answers.iter_mut().filter_map(|answer| answer.try_recv().ok()).count()
        };
        assert_eq!(answered(&mut rig, 16), 2);
        assert_eq!(answered(&mut rig, 16), 14, "all of them, as soon as no delivery waits");
    });
}

#[test]
fn gaps_are_looked_for_only_after_some_arose_and_confirmed_in_one_change() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        let client = rig.attached("s").await;
        let expire = Duration::from_secs(61);
        let before = rig.store.faults().gap_reads;
        rig.pass(expire).await;
        assert_eq!(rig.store.faults().gap_reads, before, "nothing was removed");
        // Each gap is apart from the others, since an event between them is pending.
        for _ in 0..3 {
            rig.publish_until(&["a"], false, Some(UnixMillis(1))).await;
            rig.publish("a", true).await;
        }
        rig.commit(Change::Revealed { up_to: 6 }).await;
        rig.pass(expire).await;
        assert_eq!(rig.store.faults().gap_reads, before + 1);
        let gaps = client.log.borrow().iter().filter(|packet| packet.contains("stentor:gap")).count();
        assert_eq!(gaps, 3);
        let number = rig.publish("a", true).await;
        let before = rig.store.changes();
        rig.ack(&client, number).await;
        assert_eq!(rig.store.changes() - before, 2, "the ack and its gaps");
        assert!(rig.actor.active[&client.id].gaps.unconfirmed().is_empty());
    });
}

#[test]
fn a_sample_counts_a_bounded_number_of_events() {
    run(async {
        let mut rig = Rig::new(|_| {});
        for name in 0..20 {
            rig.subscribe(&format!("s{name}"), "a").await;
        }
        for _ in 0..400 {
            rig.publish("a", false).await;
        }
        let mut counted = 0;
        for _ in 0..7 {
            let counts = |rig: &Rig| {
                let faults = rig.store.faults();
                (faults.events_counted, faults.subscribers_read)
            };
            let before = counts(&rig);
            rig.pass(Duration::from_secs(1)).await;
            let after = counts(&rig);
            let (sample, read) = (after.0 - before.0, after.1 - before.1);
            assert!((400..1_400).contains(&sample) && read <= 8, "{sample} {read}");
            counted += sample;
        }
        assert_eq!(counted, 20 * 400, "each subscriber once");
        assert_eq!(rig.actor.metrics.subscribers.largest_backlog.get(), 400);
        // All subscribers fit into one sample.
        let (namespace, room) = (NamespacePath::root(), RoomName::parse("a").unwrap());
        rig.commit(Change::PurgeRoom { namespace, room, up_to: 400 }).await;
        let before = rig.store.faults().subscribers_read;
        rig.pass(Duration::from_secs(1)).await;
        assert_eq!(rig.store.faults().subscribers_read - before, 20);
    });
}
