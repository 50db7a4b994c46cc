//! Events that are refused, not acknowledged, or end their client.

use super::*;

#[test]
fn a_refused_event_comes_again_after_its_delay_and_others_do_not_wait() {
    let hub = hub(fast);
    subscriber(&hub, "phone", &["a"]);
    let mut phone = Attached::open(&hub, Transport::Websocket, "phone");
    publish(&hub, "a", 1);
    let refused = phone.recv_data(1);
    phone.answer(&refused, r#"{"nak":true,"delay":300}"#);
    publish(&hub, "a", 2);
    let next = phone.recv_data(2);
    phone.ack(&next);
    let again = phone.recv_data(1);
    assert_eq!((again.ack, again.redelivered), (refused.ack, true));
    phone.answer(&again, r#"{"nak":true}"#);
    let third = phone.recv_data(1);
    phone.ack(&third);
    wait_for_pending(&subscriber(&hub, "phone", &[]), 0);
}

#[test]
fn an_event_that_is_given_up_becomes_a_dead_letter_that_can_be_replayed() {
    let hub = hub(fast);
    let api = subscriber(&hub, "phone", &["a"]);
    let mut phone = Attached::open(&hub, Transport::Websocket, "phone");
    publish(&hub, "a", 1);
    let event = phone.recv_data(1);
    phone.answer(&event, r#"{"term":true,"reason":"no such order"}"#);
    wait_for_pending(&api, 0);
    let dead = run(api.dead_letters(None, 9)).unwrap();
    assert_eq!((dead.events.len(), dead.next), (1, None));
    assert_eq!((dead.events[0].reason.as_str(), dead.events[0].room.as_str()), ("no such order", "a"));
    assert_eq!((dead.events[0].offset, dead.events[0].args.json()), (offset(&event), "1"));
    let replayed = run(api.replay_dead(Some(&[offset(&event)]))).unwrap();
    assert_eq!((replayed.len(), replayed[0].0), (1, offset(&event)));
    let again = phone.recv_data(1);
    assert_eq!((offset(&again), again.room.as_str()), (replayed[0].1, "a"));
    phone.ack(&again);
    wait_for_pending(&api, 0);
    assert!(run(api.dead_letters(None, 9)).unwrap().events.is_empty());
}

#[test]
fn a_handler_that_never_answers_makes_its_event_a_dead_letter() {
    let hub = hub(|limits| {
        fast(limits);
        limits.queue.max_deliver = 3;
        limits.queue.in_flight_max = 2;
    });
    let api = subscriber(&hub, "phone", &["a"]);
    let mut phone = Attached::open(&hub, Transport::Websocket, "phone");
    publish(&hub, "a", 1);
    for attempt in 0..3 {
        assert_eq!(phone.recv_data(1).redelivered, attempt > 0);
    }
    crate::support::eventually("a dead letter", || run(api.info()).unwrap().dead_letters == 1);
    let dead = run(api.dead_letters(None, 9)).unwrap();
    assert_eq!(dead.events[0].reason, "not acknowledged after 3 deliveries");
    assert_eq!(hub.metric(r#"stentor_subscriber_redeliveries_total{reason="timeout"}"#), 2);
    publish(&hub, "a", 2);
    let event = phone.recv_data(2);
    phone.ack(&event);
}

#[test]
fn a_poison_event_is_sent_alone_and_burns_no_attempts_of_its_neighbours() {
    let hub = hub(|limits| {
        limits.queue.max_deliver = 4;
        limits.queue.back_off = vec![Duration::ZERO];
    });
    let api = subscriber(&hub, "worker", &["a"]);
    let poison = publish(&hub, "a", 1);
    publish_all(&hub, "a", 2..=3);
    let mut alone = 0;
    for connection in 1..=4 {
        assert_eq!(run(api.info()).unwrap().dead_letters, 0, "before connection {connection}");
        let mut worker = Attached::open(&hub, Transport::Websocket, "worker");
        // The event ends its client, as soon as it has come.
        let mut received = Vec::new();
        while received.last() != Some(&1) {
            received.push(worker.recv().data);
        }
        worker.client.send(r#"421["echo"]"#);
        let more = worker.client.recv_text();
        alone += usize::from(received == [1] && more.starts_with("431"));
        worker.leave();
        crate::support::eventually("it is away", || !run(api.info()).unwrap().is_attached);
    }
    // The last attempt is committed after the end of its connection.
    crate::support::eventually("each connection is an attempt", || run(api.info()).unwrap().dead_letters == 1);
    assert!(alone >= 1, "a suspect is sent alone");
    let dead = run(api.dead_letters(None, 9)).unwrap();
    assert_eq!(dead.events.iter().map(|dead| dead.offset).collect::<Vec<_>>(), [poison.offset]);
    // The others are delivered, and may fail as often as any event.
    let mut worker = Attached::open(&hub, Transport::Websocket, "worker");
    for data in 2..=3 {
        let event = worker.recv_data(data);
        worker.ack(&event);
    }
    wait_for_pending(&api, 0);
}

#[test]
fn an_unanswered_event_does_not_hold_up_others_until_the_bound() {
    let hub = hub(|limits| limits.queue.in_flight_max = 2);
    let api = subscriber(&hub, "phone", &["a"]);
    let mut phone = Attached::open(&hub, Transport::Websocket, "phone");
    publish_all(&hub, "a", 1..=4);
    let held = phone.recv_data(1);
    for data in 2..=4 {
        let event = phone.recv_data(data);
        phone.ack(&event);
    }
    wait_for_pending(&api, 1);
    let info = run(api.info()).unwrap();
    assert_eq!((info.in_flight, info.oldest_in_flight), (1, Some(offset(&held))));
    run(api.in_progress(&offset(&held))).unwrap();
    phone.ack(&held);
    wait_for_pending(&api, 0);
}
