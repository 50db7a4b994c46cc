//! Clients of `stentor serve` that are subscribers of the queue.

use serde_json::{Value, json};
use stentor::Queue;

use crate::support::product::secret::Secret;
use crate::support::product::signature::sign;
use crate::support::product::vocabulary::{self, Access, Policy};
use crate::support::{Client, Hub, Transport, on_every_transport};

fn hub(access: Access) -> Hub {
    Hub::start(
        |builder| builder.queue(Queue::memory()),
        move |io| drop(vocabulary::install(io.of("/"), Policy::open(access, 1_024))),
    )
}

/// Sends CONNECT with `auth`, and returns the error of the CONNECT_ERROR, or the reply to CONNECT.
#[track_caller]
fn connect(hub: &Hub, auth: &Value) -> (Client, Value) {
    let mut client = hub.open(Transport::Websocket);
    client.send(&format!("40{auth}"));
    let packet = client.recv_text();
    let answer = serde_json::from_str(&packet[2..]).expect("an object");
    (client, answer)
}

#[track_caller]
fn refused(hub: &Hub, auth: &Value) -> (String, String) {
    let (_, error) = connect(hub, auth);
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{auth}: {error}")).to_owned();
    (text(&error["data"]["code"]), text(&error["message"]))
}

/// Connects a subscriber, and returns the argument of `stentor:attached`.
#[track_caller]
fn attach(hub: &Hub, transport: Transport, auth: &Value) -> (Client, Value) {
    let mut client = hub.open(transport);
    client.connect_with("", &auth.to_string());
    let packet = client.recv_text();
    let attached: Value = serde_json::from_str(packet.strip_prefix("42").expect("an event")).expect("JSON");
    assert_eq!(attached[0], "stentor:attached", "{packet}");
    (client, attached[1].clone())
}

/// Emits an event that requests an ack, and returns the first argument of the ack.
#[track_caller]
fn ask(client: &mut Client, event: &Value) -> Value {
    client.send(&format!("421{event}"));
    let packet = client.recv_text();
    let answer: Value = serde_json::from_str(packet.strip_prefix("431").unwrap_or("null")).unwrap_or(Value::Null);
    assert!(answer.is_array(), "{event}: {packet}");
    answer[0].clone()
}

#[test]
fn a_name_needs_a_signature_where_the_server_expects_one() {
    let key = Secret::new("0123456789abcdef");
    let hub = hub(Access::Signed(key.clone()));
    let signature = sign(&key, "/", "kitchen");
    let (_, attached) = attach(&hub, Transport::Websocket, &json!({ "subscriber": "kitchen", "signature": signature }));
    assert_eq!(attached, json!({ "status": "reset", "reason": "new", "pending": 0, "gaps": [] }));
    let expected = ("unauthorized".to_owned(), "subscriber: signature is not that of the name".to_owned());
    assert_eq!(refused(&hub, &json!({ "subscriber": "billing", "signature": signature })), expected);
    let expected = "subscriber: the server expects a signature of the name as well";
    assert_eq!(refused(&hub, &json!({ "subscriber": "kitchen" })).1, expected);
    let wrong = refused(&hub, &json!({ "subscriber": "kitchen", "signature": 7 }));
    assert!(wrong.0 == "bad_request" && wrong.1.contains("invalid type: integer `7`"), "{wrong:?}");
    let (mut client, _) = connect(&hub, &json!({}));
    assert_eq!(ask(&mut client, &json!(["echo", 1])), 1, "a client without a name needs no signature");
}

#[test]
fn a_server_without_subscribers_says_so() {
    let hub = hub(Access::Off);
    let expected = "subscriber: this server has no subscribers: its setting `subscribers` is off";
    assert_eq!(refused(&hub, &json!({ "subscriber": "kitchen" })), ("bad_request".into(), expected.into()));
    let mut client = hub.join(Transport::Websocket);
    assert_eq!(ask(&mut client, &json!(["pending"]))["error"]["code"], "unknown_event");
    assert_eq!(ask(&mut client, &json!(["join", "a", { "durable": true }]))["error"]["code"], "bad_request");
}

#[test]
fn a_bad_name_is_refused_at_the_connect() {
    let hub = hub(Access::Open);
    for (name, wrong) in [
        (json!(""), "subscriber name is empty".to_owned()),
        (json!("n".repeat(257)), "subscriber name of 257 bytes exceeds limit of 256".to_owned()),
        (json!("a\nb"), "subscriber name contains the control character '\\n'".to_owned()),
        (json!(7), "invalid type: integer `7`, expected a string".to_owned()),
        (json!(["a"]), "invalid type: sequence, expected a string".to_owned()),
    ] {
        let (code, message) = refused(&hub, &json!({ "subscriber": name }));
        assert!(code == "bad_request" && message.contains(&wrong), "{name}: {message}");
    }
    let (mut client, _) = connect(&hub, &json!({ "subscriber": null }));
    assert_eq!(ask(&mut client, &json!(["echo", 1])), 1);
    drop(client);
    hub.expect_healthy();
}

#[test]
fn a_client_that_invents_names_is_refused_past_the_limit() {
    let mut limits = stentor::Limits::default();
    limits.queue.subscribers_max = 3;
    let build = move |builder: stentor::Builder| builder.queue(Queue::memory()).limits(limits);
    let hub = Hub::start(build, |io| drop(vocabulary::install(io.of("/"), Policy::open(Access::Open, 1_024))));
    let auth = |number: usize| json!({ "subscriber": format!("phone-{number}") });
    for number in 0..3 {
        attach(&hub, Transport::Websocket, &auth(number));
    }
    for number in 3..100 {
        let (mut client, _) = connect(&hub, &auth(number));
        let error = r#"{"error":{"code":"overloaded","message":"queue has 3 subscribers, the limit"}}"#;
        assert_eq!(client.recv_text(), format!(r#"42["stentor:error",{error}]"#));
        assert_eq!(client.recv_text(), "41");
    }
    let (_, attached) = attach(&hub, Transport::Websocket, &auth(0));
    assert_eq!(attached["status"], "resumed");
    hub.expect_healthy();
}

#[test]
fn a_subscriber_receives_acknowledges_and_returns() {
    let hub = hub(Access::Open);
    on_every_transport(|transport| {
        let name = json!({ "subscriber": format!("kitchen over {transport:?}") });
        let (mut kitchen, _) = attach(&hub, transport, &name);
        let joined = ask(&mut kitchen, &json!(["join", "orders", { "durable": true }]));
        assert_eq!((&joined["room"], &joined["durable"]), (&json!("orders"), &json!(true)));
        kitchen.send("1");
        let mut publisher = hub.join(transport);
        let to = json!({ "room": "orders", "durable": true });
        let stored: Vec<Value> =
            [1, 2, 3].iter().map(|data| ask(&mut publisher, &json!(["publish", to, "order", data]))).collect();
        assert!(stored.iter().all(|stored| stored["level"] == "stored" && stored["pending_for"] != 0), "{stored:?}");

        let (mut kitchen, attached) = attach(&hub, transport, &name);
        assert_eq!(attached, json!({ "status": "resumed", "pending": 3, "gaps": [] }));
        let mut offsets = Vec::new();
        for data in 1..=3 {
            let packet = kitchen.recv_text();
            let at = packet.find('[').expect("an event");
            let event: Value = serde_json::from_str(&packet[at..]).expect("JSON");
            assert_eq!((&event[0], &event[1], &event[2]["room"]), (&json!("order"), &json!(data), &json!("orders")));
            offsets.push(event[2]["offset"].clone());
        }
        assert_eq!(offsets, stored.iter().map(|stored| stored["offset"].clone()).collect::<Vec<_>>());
        assert_eq!(ask(&mut kitchen, &json!(["in_progress", offsets[0]])), json!({}));
        let state = ask(&mut kitchen, &json!(["pending"]));
        assert_eq!(
            (&state["events"], &state["in_flight"], &state["rooms"]),
            (&json!(3), &json!(3), &json!(["orders"]))
        );
        assert_eq!(ask(&mut kitchen, &json!(["received", offsets[1]])), json!({ "up_to": offsets[1] }));
        assert_eq!(ask(&mut kitchen, &json!(["pending"]))["events"], 1);
        let history = ask(&mut publisher, &json!(["pull", { "rooms": ["orders"], "limit": 1 }]));
        assert_eq!(history["head"], offsets[2]);
        assert_eq!(ask(&mut kitchen, &json!(["leave", "orders"])), json!({ "room": "orders" }));
        assert_eq!(ask(&mut kitchen, &json!(["pending"]))["events"], 0);
        kitchen.send("1");
    });
}

#[test]
fn bad_arguments_name_what_was_expected() {
    let hub = hub(Access::Open);
    let (mut kitchen, _) = attach(&hub, Transport::Websocket, &json!({ "subscriber": "kitchen" }));
    let mut other = hub.join(Transport::Websocket);
    let foreign = "ZZZZZZZZ--------0";
    let journal = "ZZZZZZZZ--------00000";
    for (event, wrong) in [
        (json!(["received"]), "received: argument 1 (offset) is missing, expected a string"),
        (json!(["received", 7]), "received: argument 1 (offset) is not a string"),
        (json!(["received", journal]), "offset of the queue is not 17 characters"),
        (json!(["received", foreign]), "offset belongs to another queue"),
        (json!(["in_progress", foreign]), "offset belongs to another queue"),
        (json!(["join", "a", { "durable": 1 }]), "expected a boolean"),
        (json!(["join", "a", { "durables": true }]), "unknown field `durables`"),
        (json!(["join", "a", { "from": foreign }]), "join: from: expected \"durable\": true as well"),
        (json!(["join", "a", { "durable": true, "from": foreign }]), "offset belongs to another queue"),
        (json!(["pull"]), "pull: argument 1: argument is missing"),
        (json!(["pull", { "rooms": [] }]), "request has 0 rooms"),
        (
            json!(["pull", { "rooms": ["a"], "limit": 1_000_000_000 }]),
            "pull: limit: found 1000000000, expected 1 to 1000",
        ),
        (json!(["pull", { "rooms": ["a"], "wait_ms": -1 }]), "expected u64"),
        (json!(["pull", { "rooms": ["a"], "after": "x" }]), "pull: after: offset of the queue"),
        (json!(["dead", { "limit": 0 }]), "dead: limit: found 0, expected 1 to 1000"),
        (json!(["replay_dead", { "offsets": ["x"] }]), "replay_dead: offsets: offset of the queue"),
    ] {
        let error = ask(&mut kitchen, &event)["error"].clone();
        let message = error["message"].as_str().unwrap_or_default();
        assert!(error["code"] == "bad_request" && message.contains(wrong), "{event}: {error}");
    }
    for event in
        [json!(["received", foreign]), json!(["pending"]), json!(["dead"]), json!(["join", "a", { "durable": true }])]
    {
        let message = ask(&mut other, &event)["error"]["message"].clone();
        assert!(message.as_str().unwrap_or_default().contains("this socket is no subscriber"), "{event}: {message}");
    }
    assert_eq!(ask(&mut kitchen, &json!(["echo", 1])), 1);
    drop((kitchen, other));
    hub.expect_healthy();
}

#[test]
fn another_sockets_own_room_has_no_durable_events_for_a_client() {
    let hub = hub(Access::Open);
    let (_other, connected) = connect(&hub, &json!({}));
    let other = &connected["sid"];
    let (mut kitchen, _) = attach(&hub, Transport::Websocket, &json!({ "subscriber": "kitchen" }));
    let joined = ask(&mut kitchen, &json!(["join", other, { "durable": true }]));
    assert_eq!(joined["error"]["code"], "bad_room", "{joined}");
    assert_eq!(ask(&mut kitchen, &json!(["pending"]))["rooms"], json!([]), "nothing is stored");
    let pulled = ask(&mut kitchen, &json!(["pull", { "rooms": ["orders", other] }]));
    assert_eq!(pulled["error"]["code"], "bad_room", "{pulled}");
}
