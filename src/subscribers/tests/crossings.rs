//! Acks, attachments and pulls that cross each other, and clocks that differ.

use super::*;
use crate::queue::change::Acked;
use crate::queue::committer::unix_millis;

impl Rig {
    fn pull(&self, limit: usize, wait: u64) -> oneshot::Receiver<Result<PullAnswer, SubscriberError>> {
        let (reply, answer) = oneshot::channel();
        let request = SubscriberRequest::Pull { limit, wait: Duration::from_secs(wait), reply };
        self.actor.link.post(SubscriberCommand::Request { key: key("s"), request });
        answer
    }

    async fn pulled(&mut self, mut answer: oneshot::Receiver<Result<PullAnswer, SubscriberError>>) -> Vec<u64> {
        let mut found = None;
        self.until("an answer", |_| {
            found = answer.try_recv().ok();
            found.is_some()
        })
        .await;
        found.unwrap().unwrap().events.iter().map(|event| event.number).collect()
    }

    async fn detach(&mut self, client: &Client) {
        self.actor.link.post(SubscriberCommand::Detach { id: client.id });
        self.settle().await;
    }
}

#[test]
fn a_late_live_copy_of_an_acknowledged_event_is_not_sent() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        let number = rig.publish("a", false).await;
        let first = rig.attached("s").await;
        rig.ack(&first, number).await;
        rig.detach(&first).await;
        let second = rig.attached("s").await;
        let offset = QueueOffset { epoch: rig.actor.queue.epoch(), number };
        let payload = Payload { text: Bytes::from_static(br#"["e"]"#), attachments: Vec::new() };
        rig.feed_event(offset, &[RoomName::parse("a").unwrap()], payload, None);
        rig.settle().await;
        assert!(second.events().is_empty());
        rig.publish("a", true).await;
        assert_eq!(second.events(), ["2"]);
    });
}

#[test]
fn an_end_that_is_stored_after_the_next_attach_does_not_hide_redelivery() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        let first = rig.attached("s").await;
        let (second, mut attached) = rig.attach("s");
        rig.actor.link.post(SubscriberCommand::Detach { id: first.id });
        rig.until("attached", |_| attached.try_recv().is_ok()).await;
        rig.settle().await;
        rig.publish("a", true).await;
        assert_eq!(second.events(), ["1"]);
        // The process is killed, and started again.
        rig.actor.active.clear();
        rig.actor.by_key.clear();
        rig.actor.by_room.clear();
        rig.actor.deadlines.clear();
        rig.commit(Change::DetachAll).await;
        let third = rig.attached("s").await;
        assert_eq!(third.events(), ["1+"]);
    });
}

#[test]
fn an_ack_up_to_a_future_offset_is_refused_also_after_a_gap() {
    run(async {
        let mut rig = Rig::new(|limits| limits.queue.in_flight_max = 1);
        rig.subscribe("s", "a").await;
        rig.publish("a", false).await;
        rig.request("s", |reply| SubscriberRequest::Purge { up_to: 1, reply }).await.unwrap();
        rig.publish("a", false).await;
        let acked = rig.request("s", |reply| SubscriberRequest::Ack { events: Acked::UpTo(99), reply }).await;
        assert_eq!(acked, Err(SubscriberError::Refused(Refusal::BeyondHead { number: 99, head: 2 })));
        assert_eq!(rig.pending("s"), 1);
    });
}

#[test]
fn an_ack_up_to_an_offset_leaves_events_whose_delivery_has_failed() {
    run(async {
        let mut rig = Rig::new(|limits| limits.queue.ack_wait = Duration::from_secs(1));
        rig.subscribe("s", "a").await;
        let lost = rig.attached("s").await;
        rig.publish("a", true).await;
        rig.publish("a", true).await;
        assert_eq!(lost.events(), ["1", "2"]);
        // The client is not there any more, and its connection is lost later.
        rig.pass(Duration::from_secs(1)).await;
        rig.actor.link.post(SubscriberCommand::Detach { id: lost.id });
        rig.settle().await;
        let client = rig.attached("s").await;
        assert_eq!(client.events(), ["2+"], "the first one waits for its retry");
        rig.request("s", |reply| SubscriberRequest::Ack { events: Acked::UpTo(2), reply }).await.unwrap();
        assert_eq!(rig.pending("s"), 1);
        rig.pass(Duration::from_secs(10)).await;
        assert_eq!(client.events(), ["2+", "1+"]);
        rig.request("s", |reply| SubscriberRequest::Ack { events: Acked::UpTo(2), reply }).await.unwrap();
        assert_eq!(rig.pending("s"), 0);
    });
}

#[test]
fn an_event_expires_by_the_wall_clock_and_not_that_of_deliveries() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        let client = rig.attached("s").await;
        // The process has started while the wall clock was an hour ahead.
        rig.actor.clock.pass(Duration::from_secs(3_600));
        let expires_at = Some(unix_millis().plus(600_000));
        rig.publish_until(&["a"], true, expires_at).await;
        assert_eq!(client.events(), ["1"]);
        rig.request("s", |reply| SubscriberRequest::Ack { events: Acked::UpTo(1), reply }).await.unwrap();
        assert_eq!(rig.pending("s"), 0);
        rig.publish_until(&["a"], false, expires_at).await;
        let client = rig.attached("s").await;
        assert_eq!(client.events(), ["2"]);
    });
}

#[test]
fn a_gap_is_not_confirmed_by_an_ack_of_the_former_connection() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        rig.publish("a", false).await;
        let first = rig.attached("s").await;
        rig.detach(&first).await;
        rig.publish_until(&["a"], false, Some(UnixMillis(1))).await;
        rig.commit(Change::Revealed { up_to: 2 }).await;
        rig.commit(Change::Expire { budget: 100 }).await;
        let second = rig.attached("s").await;
        rig.ack(&second, 1).await;
        rig.detach(&second).await;
        let third = rig.attached("s").await;
        assert!(third.log.borrow().iter().any(|packet| packet.contains(r#""status":"partial""#)));
    });
}

#[test]
fn closing_an_old_handle_leaves_the_attachment_of_the_resumed_socket() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        let first = rig.attached("s").await;
        let closed = |rig: &Rig, id| match &rig.actor.active.get(&id).unwrap().outlet {
            Outlet::Socket { socket, .. } => Some((socket.info.id, socket.link.clone())),
            Outlet::Pull(_) => None,
        };
        let old = closed(&rig, first.id);
        rig.detach(&first).await;
        // It has the same id, as after a resume.
        let second = rig.attached("s").await;
        let own = closed(&rig, second.id);
        for (socket, is_active) in [(old, true), (own, false)] {
            let request = SubscriberRequest::Release { socket };
            rig.actor.link.post(SubscriberCommand::Request { key: key("s"), request });
            rig.settle().await;
            assert_eq!(rig.actor.active.contains_key(&second.id), is_active);
        }
    });
}

#[test]
fn a_dropped_pull_returns_its_own_events_only() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        rig.publish("a", true).await;
        let first = rig.pull(1, 0);
        assert_eq!(rig.pulled(first).await, [1]);
        let waiting = rig.pull(1, 60);
        rig.settle().await;
        drop(waiting);
        rig.publish("a", true).await;
        let last = rig.pull(9, 0);
        assert_eq!(rig.pulled(last).await, [2], "the first one stays in flight");
    });
}

#[test]
fn a_newer_pull_keeps_its_own_limit() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        for _ in 0..3 {
            rig.publish("a", false).await;
        }
        let first = rig.pull(1, 0);
        assert_eq!(rig.pulled(first).await, [1]);
        let id = *rig.actor.by_key.get(&key("s")).unwrap();
        // Both events are on their way to the second pull when the third one comes.
        let (second, third) = (rig.pull(2, 60), rig.pull(1, 60));
        let commands = rig.actor.link.take();
        rig.actor.commands.extend(commands);
        let command = rig.actor.commands.pop_front().unwrap();
        rig.actor.on_command(command);
        rig.actor.read_next();
        assert_eq!(rig.actor.active.get(&id).unwrap().delivery.in_flight(), 3);
        assert_eq!((rig.pulled(third).await, rig.pulled(second).await), (vec![2], vec![3]));
    });
}

#[test]
fn an_event_of_two_rooms_comes_through_the_one_that_is_not_left() {
    run(async {
        let mut rig = Rig::new(|limits| limits.queue.in_flight_max = 2);
        rig.subscribe("s", "a").await;
        rig.subscribe("s", "b").await;
        let client = rig.attached("s").await;
        for rooms in [["a", "b"], ["a", "b"], ["a", "c"], ["a", "b"]] {
            rig.publish_until(&rooms, true, None).await;
        }
        assert_eq!(client.events(), ["1", "2"]);
        let room = RoomName::parse("a").unwrap();
        rig.request("s", |reply| SubscriberRequest::Unsubscribe { room, reply }).await.unwrap();
        rig.ack(&client, 1).await;
        assert_eq!(client.events(), ["1", "2", "4"]);
        assert!(client.last().contains(r#""room":"b""#), "{}", client.last());
    });
}

#[test]
fn a_repeated_subscription_reads_nothing_again() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        let client = rig.attached("s").await;
        rig.publish("a", true).await;
        let before = rig.store.faults().pages;
        rig.subscribe("s", "a").await;
        assert_eq!(rig.store.faults().pages, before);
        rig.publish("a", true).await;
        assert_eq!(client.events(), ["1", "2"]);
    });
}

#[test]
fn an_event_that_has_expired_takes_no_place_in_a_pull() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        let pull = rig.pull(1, 60);
        rig.settle().await;
        rig.publish_until(&["a"], true, Some(UnixMillis(1))).await;
        assert_eq!(rig.actor.metrics.subscribers.expired.get(), 1);
        rig.publish("a", true).await;
        assert_eq!(rig.pulled(pull).await, [2]);
    });
}

#[test]
fn two_idle_workers_do_not_end_each_others_pulls() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        let (mut older, newer) = (rig.pull(1, 30), rig.pull(1, 60));
        rig.settle().await;
        assert!(older.try_recv().is_err());
        rig.publish("a", true).await;
        assert_eq!(rig.pulled(newer).await, [1]);
        rig.publish("a", true).await;
        assert_eq!(rig.pulled(older).await, [2]);
        // Each ends in its own time.
        let (mut long, short) = (rig.pull(1, 60), rig.pull(1, 10));
        rig.settle().await;
        rig.pass(Duration::from_secs(11)).await;
        assert_eq!(rig.pulled(short).await, [0; 0]);
        let (mut first, last) = (rig.pull(1, 5), rig.pull(1, 60));
        rig.settle().await;
        rig.pass(Duration::from_secs(6)).await;
        assert!(first.try_recv().unwrap().unwrap().events.is_empty() && long.try_recv().is_err());
        // Those whose callers have gone receive nothing.
        drop(last);
        rig.publish("a", true).await;
        assert_eq!(rig.pulled(long).await, [3]);
    });
}

#[test]
fn pulls_of_one_name_that_wait_are_bounded() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        let mut waiting: Vec<_> = (0..64).map(|_| rig.pull(1, 60)).collect();
        rig.settle().await;
        let mut refused = rig.pull(1, 60);
        rig.settle().await;
        let error = refused.try_recv().expect("an answer").unwrap_err().to_string();
        assert_eq!(error, "queue is overloaded: waiting pulls of one subscriber 64 of 64");
        assert!(waiting.iter_mut().all(|pull| pull.try_recv().is_err()));
    });
}

#[test]
fn an_event_that_another_room_has_lost_is_a_gap_after_the_last_room_is_left() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        rig.subscribe("s", "b").await;
        let number = rig.publish_until(&["a", "b"], true, None).await;
        let client = rig.attached("s").await;
        let room = |name| RoomName::parse(name).unwrap();
        rig.commit(Change::PurgeRoom { namespace: NamespacePath::root(), room: room("a"), up_to: number }).await;
        rig.pass(Duration::from_secs(120)).await;
        assert!(!client.log.borrow().iter().any(|line| line.contains("stentor:gap")), "pending through the other room");
        rig.request("s", |reply| SubscriberRequest::Unsubscribe { room: room("b"), reply }).await.unwrap();
        rig.settle().await;
        rig.until("a gap", |_| client.last().contains("stentor:gap")).await;
    });
}

#[test]
fn a_pull_of_no_events_is_one_of_a_single_event() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        rig.publish("a", true).await;
        let answer = rig.pull(0, 1);
        assert_eq!(rig.pulled(answer).await, [1]);
    });
}
