//! Pulling without a socket.

use super::*;

const NONE: Duration = Duration::ZERO;

#[test]
fn a_pull_gives_events_in_order_and_they_are_in_flight() {
    let hub = hub(|_| {});
    let worker = subscriber(&hub, "worker", &["a"]);
    publish_all(&hub, "a", 1..=5);
    let pulled = run(worker.pull(3, NONE)).unwrap();
    assert_eq!(pulled.events.iter().map(|event| event.args.json()).collect::<Vec<_>>(), ["1", "2", "3"]);
    assert!(pulled.events.iter().all(|event| event.name == "order" && event.room == "a" && !event.redelivered));
    assert!(run(worker.ack(&pulled.events[0].offset)).unwrap());
    assert!(!run(worker.ack(&pulled.events[0].offset)).unwrap(), "twice");
    run(worker.nak(&pulled.events[1].offset, Some(NONE))).unwrap();
    let rest = run(worker.pull(usize::MAX, NONE)).unwrap();
    let rest: Vec<_> = rest.events.iter().map(|event| (event.args.json(), event.redelivered)).collect();
    assert_eq!(rest, [("2", true), ("4", false), ("5", false)]);
    run(worker.ack_up_to(&pulled.events[2].offset)).unwrap();
    wait_for_pending(&worker, 2);
    let late = pulled.events[2].offset;
    let refused = run(worker.term(&late, "late")).unwrap_err().to_string();
    assert_eq!(refused, format!("event {late} is not pending for the subscriber"));
}

#[test]
fn acks_up_to_an_offset_leave_the_gap_of_an_expired_event() {
    let hub = hub(|_| {});
    let worker = subscriber(&hub, "worker", &["a"]);
    let brief = hub.io.of("/").all().to("a").durable().expires_in(Duration::from_millis(1));
    let expired = run(brief.emit_confirmed("order", 1)).unwrap().offset;
    let end = std::time::SystemTime::now() + Duration::from_millis(2);
    let kept = publish(&hub, "a", 2).offset;
    while std::time::SystemTime::now() < end {
        std::thread::yield_now();
    }
    let pulled = run(worker.pull(10, NONE)).unwrap();
    assert_eq!(pulled.events.iter().map(|event| event.offset).collect::<Vec<_>>(), [kept]);
    run(worker.ack_up_to(&kept)).unwrap();
    crate::support::eventually("a gap of the expired event", || {
        let gaps = run(worker.info()).unwrap().gaps;
        gaps.iter().map(|gap| (gap.from, gap.to)).eq([(expired, expired)])
    });
}

#[test]
fn pulls_wait_for_events_and_each_receives_one() {
    let hub = hub(|_| {});
    let worker = subscriber(&hub, "worker", &["a"]);
    assert!(run(worker.pull(1, NONE)).unwrap().events.is_empty());
    let (first, second, ()) = run(async {
        tokio::join!(worker.pull(1, DEADLINE), worker.pull(1, DEADLINE), async {
            hub.io.of("/").all().to("a").durable().emit("order", 1).await.unwrap();
            hub.io.of("/").all().to("a").durable().emit("order", 2).await.unwrap();
        })
    });
    let mut events = [first.unwrap().events, second.unwrap().events].concat();
    events.sort_by_key(|event| event.offset);
    assert_eq!(events.iter().map(|event| event.args.json()).collect::<Vec<_>>(), ["1", "2"]);
}

#[test]
fn a_pull_is_refused_while_a_socket_is_attached() {
    let hub = hub(|_| {});
    let worker = subscriber(&hub, "worker", &["a"]);
    let (pulled, mut attached) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| run(worker.pull(1, DEADLINE)));
        // Whichever comes first, the socket has the name.
        let attached = Attached::open(&hub, Transport::Websocket, "worker");
        (waiting.join().unwrap(), attached)
    });
    assert!(pulled.unwrap_err().to_string().contains("attached to a socket"));
    assert!(run(worker.pull(1, NONE)).is_err());
    publish(&hub, "a", 1);
    let event = attached.recv_data(1);
    run(worker.ack(&offset(&event))).unwrap();
    wait_for_pending(&worker, 0);
}

#[test]
fn a_pulled_event_that_is_not_acknowledged_comes_again() {
    let hub = hub(fast);
    let worker = subscriber(&hub, "worker", &["a"]);
    publish(&hub, "a", 1);
    assert_eq!(run(worker.pull(1, NONE)).unwrap().events.len(), 1);
    let again = run(worker.pull(1, DEADLINE)).unwrap();
    assert!(again.events[0].redelivered);
    run(worker.clone().remove()).unwrap();
    assert!(matches!(run(worker.pull(1, NONE)), Err(stentor::QueueError::UnknownSubscriber)));
}

#[test]
fn subscribers_are_listed_by_name_within_their_namespace() {
    let hub = hub(|_| {});
    for name in ["c", "a", "b"] {
        subscriber(&hub, name, &["r"]);
    }
    hub.io.of("/other");
    run(hub.io.of("/other").subscriber("a")).unwrap();
    let names = |after, limit| -> Vec<String> {
        let found = run(hub.io.of("/").subscribers(after, limit)).unwrap();
        found.into_iter().map(|subscriber| subscriber.name).collect()
    };
    assert_eq!(names(None, 9), ["a", "b", "c"]);
    assert_eq!(names(Some("a"), 1), ["b"]);
    assert_eq!(run(hub.io.of("/other").subscribers(None, 9)).unwrap().len(), 1);
}

#[test]
fn stored_events_of_rooms_are_read_without_a_subscriber() {
    let hub = hub(|limits| {
        let mut rule = stentor::limits::RetentionRule::new("kept.*");
        rule.max_events = Some(3);
        limits.queue.retention = vec![rule];
    });
    let first = publish(&hub, "kept.a", 1);
    publish_all(&hub, "kept.b", 2..=4);
    let namespace = hub.io.of("/");
    let read = |after, limit, wait| run(namespace.stored_events(["kept.a", "kept.b"], after, limit, wait)).unwrap();
    let page = read(None, 2, NONE);
    assert_eq!(page.events.iter().map(|event| event.args.json()).collect::<Vec<_>>(), ["1", "2"]);
    assert!(page.has_more && page.removed_to.is_none() && page.head.number == 4);
    let rest = read(Some(page.next), 9, NONE);
    assert_eq!((rest.events.len(), rest.has_more), (2, false));
    // A publish trims events that are known to be revealed.
    let late = || read(Some(first.offset), 9, NONE);
    crate::support::eventually("events are trimmed", || {
        publish(&hub, "kept.b", 5);
        late().removed_to.is_some()
    });
    let late = late();
    let waited = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| read(Some(late.head), 9, DEADLINE));
        publish(&hub, "kept.a", 7);
        waiting.join().unwrap()
    });
    assert_eq!(waited.events.len(), 1);
}

#[test]
fn the_delivery_ends_with_its_server() {
    let hub = hub(|_| {});
    let worker = subscriber(&hub, "worker", &["a"]);
    let waiting = {
        let worker = worker.clone();
        std::thread::spawn(move || run(worker.pull(1, DEADLINE)).map(|pulled| pulled.events.len()))
    };
    actix::System::new().block_on(hub.io.close());
    // A pull that waits ends empty, or with the delivery.
    assert_eq!(waiting.join().expect("the pull completes").unwrap_or(0), 0);
    let late = run(worker.info()).expect_err("nobody reads the store any more");
    assert_eq!(late.to_string(), "socket is disconnected, or the server is closed");
}
