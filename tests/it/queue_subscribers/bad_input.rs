//! Answers and offsets that make no sense.

use super::*;
use stentor::QueueError;

#[test]
fn answers_to_events_never_sent_are_counted_and_ignored() {
    let hub = hub(|limits| limits.queue.in_flight_max = 4);
    let api = subscriber(&hub, "phone", &["a"]);
    subscriber(&hub, "other", &["b"]);
    let mut phone = Attached::open(&hub, Transport::Websocket, "phone");
    publish(&hub, "a", 1);
    let event = phone.recv_data(1);
    let foreign = publish(&hub, "b", 2);
    for ack in [1, 4 * (foreign.offset.number + 7) + 1, u64::MAX - 2, 9_007_199_254_740_993] {
        phone.client.send(&format!("43{ack}[]"));
    }
    // Of another subscriber's event, beyond what was sent here.
    phone.client.send(&format!("43{}[]", 4 * foreign.offset.number + 1));
    phone.expect_nothing();
    crate::support::eventually("they are counted", || {
        hub.metric(r#"stentor_subscriber_answers_ignored_total{reason="unknown"}"#) >= 4
    });
    wait_for_pending(&api, 1);
    assert_eq!(run(hub.io.of("/").subscriber("other")).map(|other| run(other.info()).unwrap().pending).unwrap(), 1);
    phone.ack(&event);
    phone.ack(&event);
    wait_for_pending(&api, 0);
    // A client without a subscriber.
    let mut stranger = hub.join(Transport::Websocket);
    stranger.send("435[]");
    stranger.expect_echo();
}

#[test]
fn a_hundred_thousand_answers_cost_only_their_client() {
    let hub = hub(|limits| limits.queue.in_flight_max = 4);
    let (flooding, calm) = (subscriber(&hub, "flooding", &["a"]), subscriber(&hub, "calm", &["b"]));
    let mut flood = Attached::open(&hub, Transport::Websocket, "flooding");
    let mut other = Attached::open(&hub, Transport::Websocket, "calm");
    publish(&hub, "a", 1);
    let event = flood.recv_data(1);
    let answers: Vec<Packet> = (0..1_000).map(|_| Packet::Text(format!("43{}[]", event.ack))).collect();
    for _ in 0..100 {
        flood.client.send_all(&answers);
    }
    for data in 0..10 {
        publish(&hub, "b", data);
        let event = other.recv_data(data);
        other.ack(&event);
    }
    wait_for_pending(&calm, 0);
    flood.expect_nothing();
    wait_for_pending(&flooding, 0);
    publish(&hub, "a", 2);
    let event = flood.recv_data(2);
    flood.ack(&event);
    wait_for_pending(&flooding, 0);
}

#[test]
fn strange_refusals_are_bounded_or_acknowledge() {
    let hub = hub(|limits| {
        fast(limits);
        limits.queue.ack_wait = Duration::from_secs(30);
        limits.queue.nak_delay_max = Duration::from_millis(30);
    });
    let api = subscriber(&hub, "phone", &["a"]);
    let mut phone = Attached::open(&hub, Transport::Websocket, "phone");
    publish(&hub, "a", 1);
    for delay in ["-1", "1000000000000", "1e999", "null", "\"NaN\"", "[]"] {
        let event = phone.recv_data(1);
        phone.answer(&event, &format!(r#"{{"nak":true,"delay":{delay}}}"#));
    }
    let event = phone.recv_data(1);
    phone.answer(&event, r#""anything else",{"nak":true}"#);
    wait_for_pending(&api, 0);
    publish(&hub, "a", 2);
    let event = phone.recv_data(2);
    phone.answer(&event, &format!(r#"{{"term":true,"reason":"{}"}}"#, "ä".repeat(50_000)));
    wait_for_pending(&api, 0);
    assert_eq!(run(api.dead_letters(None, 9)).unwrap().events[0].reason.len(), 1_024);
}

#[test]
fn offsets_of_other_queues_and_of_future_events_are_refused() {
    let hub = hub(|_| {});
    let api = subscriber(&hub, "phone", &["a"]);
    let stored = publish(&hub, "a", 1).offset;
    let other = self::hub(|_| {});
    let epoch = publish(&other, "a", 1).offset.epoch;
    let foreign = QueueOffset { epoch, ..stored };
    let future = QueueOffset { number: 99, ..stored };
    for offset in [foreign, future] {
        let result = run(api.ack_up_to(&offset));
        let is_expected = matches!(result, Err(QueueError::ForeignEpoch | QueueError::BeyondHead { .. }));
        assert!(is_expected, "{result:?}");
        assert!(run(api.subscribe_from("b", offset)).is_err());
        assert!(run(api.nak(&offset, None)).is_err() && run(api.in_progress(&offset)).is_err());
        assert!(run(api.term(&offset, "")).is_err());
    }
    assert!(matches!(run(api.ack(&foreign)), Err(QueueError::ForeignEpoch)));
    assert!(!run(api.ack(&future)).unwrap());
    wait_for_pending(&api, 1);
}

#[test]
fn names_are_bounded() {
    let hub = hub(|_| {});
    let long = "n".repeat(257);
    for (name, error) in [("", "empty"), ("a\nb", "control character"), (long.as_str(), "257 bytes")] {
        let result = run(hub.io.of("/").subscriber(name)).unwrap_err().to_string();
        assert!(result.contains(error), "{result}");
    }
    let long = "r".repeat(257);
    let api = subscriber(&hub, "phone", &[]);
    for room in ["", "\0a", long.as_str()] {
        assert!(matches!(run(api.subscribe(room)), Err(QueueError::Room(_))), "{room}");
    }
}

#[test]
fn without_a_queue_every_operation_says_so() {
    let hub = Hub::start(|builder| builder, register);
    assert!(matches!(run(hub.io.of("/").subscriber("phone")), Err(QueueError::Off)));
    let mut client = hub.join(Transport::Websocket);
    client.send(r#"421["attach","phone"]"#);
    client.expect(r#"431["queue is off: set one with Builder::queue"]"#);
}
