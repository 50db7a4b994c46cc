//! Durable events of clients, of handlers and over HTTP.

use std::cell::RefCell;

use serde_json::{Value, json};
use stentor::{Queue, QueueOffset, Recovery};

use super::{Scratch, answer, durable, hub, member, post};
use crate::support::product::vocabulary::{self, Access, Policy};
use crate::support::{Hub, Transport, on_every_transport};

fn offset(answer: &Value) -> QueueOffset {
    QueueOffset::parse(answer["offset"].as_str().expect("an offset")).expect("an offset of the queue")
}

#[test]
fn a_durable_event_is_confirmed_after_its_members_received_it() {
    on_every_transport(|transport| {
        let hub = hub(Queue::memory(), Recovery::off());
        let mut client = member(&hub, transport);
        client.send(r#"422["publish",{"room":"a","durable":true,"dedup_id":"1"},"order","soup",2]"#);
        client.expect(r#"42["order","soup",2]"#);
        let receipt = answer(&client.recv_text(), 2);
        assert_eq!((&receipt["level"], &receipt["duplicate"]), (&json!("stored"), &json!(false)));
        assert_eq!((offset(&receipt).number, &receipt["pending_for"]), (1, &json!(0)));
    });
}

#[test]
fn an_event_of_several_rooms_reaches_each_member_once() {
    let hub = hub(Queue::memory(), Recovery::memory());
    on_every_transport(|transport| {
        let mut client = member(&hub, transport);
        client.send(r#"422["join","b"]"#);
        client.recv_text();
        client.send(r#"423["publish",{"rooms":["a","b","c"],"durable":true,"expires_in":60000},"x"]"#);
        assert!(client.recv_text().starts_with(r#"42["x",""#), "with an offset of the journal");
        answer(&client.recv_text(), 3);
        client.expect_echo();
        client.send("1");
    });
}

#[test]
fn publishing_over_http_completes_when_the_event_is_stored() {
    let hub = hub(Queue::memory(), Recovery::off());
    let mut client = member(&hub, Transport::Websocket);
    let (status, first) = post(&hub, &durable("x", Some("id")));
    assert_eq!((status, &first["level"], &first["duplicate"]), (200, &json!("stored"), &json!(false)));
    client.expect(r#"42["x"]"#);
    let (status, again) = post(&hub, &durable("x", Some("id")));
    assert_eq!((status, &again["duplicate"], &again["offset"]), (200, &json!(true), &first["offset"]));
    let (status, other) = post(&hub, &durable("y", Some("id")));
    assert_eq!((status, &other["error"]["code"]), (409, &json!("conflict")));
    let message = other["error"]["message"].as_str().unwrap();
    assert!(message.ends_with(first["offset"].as_str().unwrap()), "{message}");
    client.expect_echo();
    assert_eq!(hub.metric("stentor_queue_stored_events_total"), 1);
    assert_eq!(hub.metric("stentor_queue_duplicates_total"), 1);
    assert_eq!(hub.metric(r#"stentor_queue_refused_total{reason="conflict"}"#), 1);
    assert_eq!(hub.metric("stentor_queue_available"), 1);
    assert!(hub.metric("stentor_queue_commit_seconds_count") >= 1);
}

#[test]
fn a_sender_is_excluded_and_its_event_is_stored() {
    let register = |io: &stentor::Server| {
        vocabulary::install(io.of("/"), Policy::open(Access::Open, 1_024)).on(
            "order",
            |socket, event: stentor::Event<String>| async move {
                let stored = socket.to("a").durable().emit_confirmed("order", &event.data).await?;
                event.ack.send(stored.offset.number)?;
                Ok(())
            },
        );
    };
    let hub = Hub::start(|builder| builder.queue(Queue::memory()), register);
    let mut sender = member(&hub, Transport::Websocket);
    let mut other = member(&hub, Transport::Websocket);
    sender.send(r#"425["order","soup"]"#);
    sender.expect("435[1]");
    other.expect(r#"42["order","soup"]"#);
    sender.expect_echo();
}

#[test]
fn what_was_stored_survives_the_server() {
    let scratch = Scratch::new();
    let first = {
        let hub = hub(Queue::disk(scratch.path()), Recovery::off());
        post(&hub, &durable("x", Some("id"))).1
    };
    let hub = hub(Queue::disk(scratch.path()), Recovery::off());
    let again = post(&hub, &durable("x", Some("id"))).1;
    assert_eq!((&again["duplicate"], &again["offset"]), (&json!(true), &first["offset"]));
    let next = post(&hub, &durable("x", None)).1;
    assert_eq!((offset(&next).epoch, offset(&next).number), (offset(&first).epoch, offset(&first).number + 1));
}

#[test]
fn a_second_server_on_the_same_folder_is_refused_with_the_holder() {
    let scratch = Scratch::new();
    let _hub = hub(Queue::disk(scratch.path()), Recovery::off());
    let second = actix::System::new()
        .block_on(async { stentor::Server::builder().queue(Queue::disk(scratch.path())).build().unwrap_err() });
    let expected = format!("in use by process {}; stop that", std::process::id());
    assert!(second.to_string().starts_with("queue: ") && second.to_string().contains(&expected), "{second}");
}

#[test]
fn what_a_closing_server_confirmed_is_stored() {
    let scratch = Scratch::new();
    let confirmed = RefCell::new(Vec::new());
    {
        let hub = hub(Queue::disk(scratch.path()), Recovery::off());
        let mut client = hub.join(Transport::Websocket);
        for n in 0..50 {
            client.send(&format!(r#"42{n}["publish",{{"room":"a","durable":true,"dedup_id":"{n}"}},"x"]"#));
        }
        let is_confirmation = |text: &str| {
            let id = text.strip_prefix("43").and_then(|rest| rest.split('[').next()?.parse::<u32>().ok());
            confirmed.borrow_mut().extend(id.filter(|_| text.contains(r#""level":"stored""#)));
            id.is_some()
        };
        // The server has read some of them.
        assert!(is_confirmation(&client.recv_text()));
        drop(hub);
        client.expect_end_after(is_confirmation);
    }
    let hub = hub(Queue::disk(scratch.path()), Recovery::off());
    let confirmed = confirmed.into_inner();
    assert!(!confirmed.is_empty());
    for n in confirmed {
        let (status, again) = post(&hub, &durable("x", Some(&n.to_string())));
        assert_eq!((status, &again["duplicate"]), (200, &json!(true)), "{n}");
    }
}
