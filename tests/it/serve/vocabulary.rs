//! Events of clients of `stentor serve` that the JavaScript client's tests do not cover.

use stentor::Recovery;

use crate::support::product::vocabulary::{self, Access, Policy};
use crate::support::{Hub, Transport, on_every_transport};

fn hub() -> Hub {
    Hub::start(
        |builder| builder.recovery(Recovery::memory()),
        |io| {
            vocabulary::install(io.of("/"), Policy::open(Access::Open, 2));
        },
    )
}

/// A volatile event is not stored and has no offset.
const RECEIPT: &str = r#"432[{"level":"accepted","offset":null,"duplicate":false}]"#;

#[test]
fn publish_accepts_an_object_with_room_and_grade() {
    let hub = hub();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send(r#"421["join","lobby"]"#);
        assert!(client.recv_text().starts_with(r#"431[{"room":"lobby""#));
        client.send(r#"422["publish",{"room":"lobby","volatile":true},"news",1]"#);
        let mut answer = client.recv_text();
        // A polling client may be between two requests, and then misses a volatile event.
        let received = answer.starts_with(r#"42["news",1,"#);
        assert!(received || transport == Transport::Polling, "{answer}");
        if received {
            answer = client.recv_text();
        }
        assert_eq!(answer, RECEIPT);
        client.send(r#"423["publish",{"room":"lobby"},"news",2]"#);
        assert!(client.recv_text().starts_with(r#"42["news",2,"#));
        let receipt = client.recv_text();
        assert!(receipt.starts_with(r#"433[{"level":"accepted","offset":""#), "{receipt}");
    });
}

#[test]
fn publish_names_the_error_in_an_invalid_object() {
    let hub = hub();
    let mut client = hub.join(Transport::Websocket);
    for (argument, wrong) in [
        (r#"{}"#, "room is missing, expected a string; or rooms, an array of strings"),
        (r#"{"room":1}"#, "invalid type: integer `1`"),
        (r#"{"room":"lobby","durables":true}"#, "unknown field `durables`"),
        (r#"{"room":"lobby","rooms":["a"]}"#, "room, rooms: expected one of them, got both"),
        (r#"{"rooms":["a","b","c"]}"#, "3 rooms exceed limit of 2"),
        (r#"{"rooms":[]}"#, "rooms: expected one room at least, got none"),
        (r#"{"room":"lobby","dedup_id":"1"}"#, "dedup_id: expected \"durable\": true as well"),
        (
            r#"{"room":"lobby","durable":true}"#,
            "queue is off: set queue to \"disk\" or \"memory\" (STENTOR_QUEUE, --queue), or publish",
        ),
        (r#"{"room":"lobby","volatile":"yes"}"#, "invalid type: string"),
        ("[]", "publish: argument 1 (room) is not a string"),
    ] {
        client.send(&format!(r#"421["publish",{argument},"news"]"#));
        let answer = client.recv_text();
        assert!(answer.starts_with(r#"431[{"error":{"code":"bad_request","#), "{argument}: {answer}");
        assert!(answer.contains(&wrong.replace('"', "\\\"")), "{argument}: {answer}");
    }
}

// Regression: any client could forge `stentor:error` for other clients.
#[test]
fn reserved_event_names_are_not_published() {
    let hub = hub();
    on_every_transport(|transport| {
        let mut member = hub.join(transport);
        member.send(r#"421["join","lobby"]"#);
        member.recv_text();
        let mut client = hub.join(transport);
        for name in ["stentor:error", "stentor:", "stentor:\u{fffd}", "\\u0073tentor:error", "connect", "disconnecting"]
        {
            client.send(&format!(r#"421["publish","lobby","{name}",1]"#));
            let answer = client.recv_text();
            assert!(answer.starts_with(r#"431[{"error":{"code":"bad_event","#), "{name}: {answer}");
        }
        member.expect_echo();
        client.send(r#"421["publish","lobby","stentor",1]"#);
        assert!(client.recv_text().starts_with(r#"431[{"level""#));
    });
}

// `emit("join", "lobby", undefined, callback)`: undefined is sent as null.
#[test]
fn null_counts_as_a_missing_argument() {
    let hub = hub();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        for (event, expected) in [
            (r#""join","lobby",null"#, r#"{"room":"lobby","members":"#),
            (r#""join","lobby",{"durable":null}"#, r#"{"room":"lobby","members":"#),
            (r#""members","lobby",null"#, r#"{"members":["#),
            (r#""publish",{"room":"nobody","volatile":null},"news""#, r#"{"level":"accepted""#),
            (r#""leave","lobby",null"#, r#"{"room":"lobby"}"#),
            (r#""join",null"#, r#"{"error":{"code":"bad_request","message":"join: argument 1 (room) is missing"#),
            (
                r#""publish","nobody",null"#,
                r#"{"error":{"code":"bad_request","message":"publish: argument 2 (event) is"#,
            ),
        ] {
            client.send(&format!("421[{event}]"));
            let answer = client.recv_text();
            assert!(answer.starts_with(&format!("431[{expected}")), "{event}: {answer}");
        }
    });
}

// Regression: an event with text cut within an emoji was neither handled nor answered.
#[test]
fn lone_surrogates_are_replaced_in_decoded_text() {
    let hub = hub();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send(r#"421["join","a\ud83d"]"#);
        assert!(client.recv_text().starts_with("431[{\"room\":\"a\u{fffd}\""));
        client.send(r#"422["publish",{"room":"a\udc00"},"new\ud83ds","\ud83d"]"#);
        let answer = client.recv_text();
        // Raw arguments are forwarded unchanged.
        assert!(answer.starts_with("42[\"new\u{fffd}s\",\"\\ud83d\","), "{answer}");
        client.recv_text();
        client.send(r#"423["echo\ud83d"]"#);
        assert!(client.recv_text().contains("unknown_event"));
    });
}
