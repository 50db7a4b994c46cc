//! Publishes that are refused: a clear error, nothing stored, and the server still serves.

use std::time::Duration;

use serde_json::{Value, json};
use stentor::limits::RetentionRule;
use stentor::{Limits, PublishError, Queue, Recovery, Server};

use super::{answer, hub, member, post};
use crate::support::product::vocabulary::{self, Access, Policy};
use crate::support::{Hub, Transport};

#[test]
fn publishes_of_clients_are_refused_with_what_was_expected() {
    let hub = hub(Queue::memory(), Recovery::memory());
    let mut client = member(&hub, Transport::Websocket);
    let rooms: Vec<String> = (0..1_025).map(|n| n.to_string()).collect();
    let (long, megabyte) = ("i".repeat(129), "i".repeat(900_000));
    for (target, code, part) in [
        (json!({"rooms": [], "durable": true}), "bad_request", "rooms: expected one room at least, got none"),
        (json!({"rooms": rooms, "durable": true}), "bad_request", "1025 rooms exceed limit of 1024"),
        (json!({"room": "", "durable": true}), "bad_room", ""),
        (json!({"room": "a", "durable": true, "dedup_id": ""}), "bad_request", "expected 1 to 128 bytes"),
        (json!({"room": "a", "durable": true, "dedup_id": long}), "bad_request", "expected 1 to 128 bytes"),
        (json!({"room": "a", "durable": true, "dedup_id": megabyte}), "bad_request", "expected 1 to 128 bytes"),
        (json!({"room": "a", "durable": true, "dedup_id": 7}), "bad_request", "invalid type: integer `7`"),
        (json!({"room": "a", "durable": true, "expires_in": -1}), "bad_request", "invalid value: integer `-1`"),
        (json!({"room": "a", "durable": true, "expires_in": "1s"}), "bad_request", "invalid type: string"),
        (json!({"room": "a", "durable": true, "volatile": true}), "bad_request", "do not support volatile"),
        (json!({"room": "a", "durable": true, "ttl": 1}), "bad_request", "unknown field `ttl`"),
        (json!({"room": "a", "durable": "yes"}), "bad_request", "invalid type: string"),
        (json!({"room": "a", "expires_in": 1}), "bad_request", "expires_in: expected \"durable\": true as well"),
    ] {
        client.send(&format!(r#"429["publish",{target},"x"]"#));
        let error = answer(&client.recv_text(), 9)["error"].clone();
        let message = error["message"].as_str().unwrap_or_default();
        assert!(error["code"] == code && message.contains(part), "{part}: {error}");
    }
    client.send(r#"429["publish",{"room":"a","durable":true},"stentor:x"]"#);
    assert_eq!(answer(&client.recv_text(), 9)["error"]["code"], "bad_event");
    assert_eq!(hub.metric("stentor_queue_stored_events_total"), 0);
    // The longest time is one that never passes.
    client.send(&format!(r#"429["publish",{{"room":"a","durable":true,"expires_in":{}}},"x"]"#, u64::MAX));
    assert!(client.recv_text().starts_with(r#"42["x""#));
    assert_eq!(answer(&client.recv_text(), 9)["level"], "stored");
    client.expect_echo();
}

#[test]
fn an_event_over_the_limit_is_refused() {
    let limits = Limits::with(|limits| limits.queue.event_bytes_max = 1_000);
    let hub = Hub::start(
        |builder| builder.queue(Queue::memory()).limits(limits),
        |io| drop(vocabulary::install(io.of("/"), Policy::open(Access::Open, 1_024))),
    );
    let body = json!({"room": "a", "event": "e", "durable": true, "args": ["x".repeat(1_000)]});
    let (status, error) = post(&hub, &body);
    assert_eq!((status, &error["error"]["code"]), (413, &json!("too_large")), "{error}");
    assert_eq!(error["error"]["message"], "event of 1008 bytes exceeds limit of 1000");
}

#[test]
fn a_full_queue_refuses_publishers_and_serves_others() {
    let limits = Limits::with(|limits| {
        limits.queue.bytes_max = 10_000;
        // Without a rule, an event without subscribers is removed.
        let mut rule = RetentionRule::new("*");
        rule.max_age = Some(Duration::from_secs(3_600));
        limits.queue.retention.push(rule);
    });
    let hub = Hub::start(
        |builder| builder.queue(Queue::memory()).limits(limits),
        |io| drop(vocabulary::install(io.of("/"), Policy::open(Access::Open, 1_024))),
    );
    let mut client = member(&hub, Transport::Websocket);
    let body = json!({"room": "a", "event": "e", "durable": true, "args": ["x".repeat(1_000)]});
    let answers: Vec<(u16, Value)> = (0..9).map(|_| post(&hub, &body)).collect();
    let (status, error) = answers.last().unwrap();
    assert_eq!((*status, &error["error"]["code"]), (429, &json!("overloaded")), "{answers:?}");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("queue is overloaded: bytes ") && message.ends_with(" of 8000"), "{message}");
    let stored = answers.iter().filter(|(status, _)| *status == 200).count();
    (0..stored).for_each(|_| assert!(client.recv_text().starts_with(r#"42["e","#)));
    client.expect_echo();
}

#[test]
fn a_handler_receives_each_error_as_a_value() {
    let (errors, received) = std::sync::mpsc::channel();
    let register = move |io: &Server| {
        vocabulary::install(io.of("/"), Policy::open(Access::Open, 1_024)).on(
            "try",
            move |socket, event: stentor::Event<()>| {
                let errors = errors.clone();
                async move {
                    let a = || socket.all().to("a");
                    let results = [
                        socket.all().durable().emit("x", ()).await,
                        a().except("b").durable().emit("x", ()).await,
                        a().volatile().durable().emit("x", ()).await,
                        a().to("").durable().emit("x", ()).await,
                        a().durable().emit("connect", ()).await,
                        a().durable().dedup_id("").emit("x", ()).await,
                    ];
                    errors.send(results.map(Result::unwrap_err)).unwrap();
                    event.ack.send(())?;
                    Ok(())
                }
            },
        );
    };
    let hub = Hub::start(|builder| builder.queue(Queue::memory()), register);
    let mut client = hub.join(Transport::Websocket);
    client.send(r#"421["try"]"#);
    client.expect("431[]");
    let [no_room, except, volatile, room, reserved, id] = received.recv().unwrap();
    assert!(matches!(no_room, PublishError::Rooms { rooms: 0 }), "{no_room}");
    assert!(matches!(except, PublishError::Unsupported("except")), "{except}");
    assert!(matches!(volatile, PublishError::Unsupported("volatile")), "{volatile}");
    assert!(matches!(room, PublishError::Room(_)), "{room}");
    assert!(matches!(reserved, PublishError::Event(_)), "{reserved}");
    assert!(matches!(id, PublishError::DedupId), "{id}");
}

#[test]
fn publishing_without_a_queue_names_the_remedy() {
    let hub = hub(Queue::off(), Recovery::off());
    let body = json!({"room": "a", "event": "e", "durable": true});
    let (status, error) = post(&hub, &body);
    assert_eq!((status, &error["error"]["code"]), (400, &json!("bad_request")), "{error}");
    assert!(error["error"]["message"].as_str().unwrap().starts_with("queue is off"), "{error}");
}
