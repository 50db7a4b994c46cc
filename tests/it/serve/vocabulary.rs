//! What clients of `stentor serve` can say, beside what the JavaScript client's tests say to it.

use stentor::Recovery;

use crate::support::product::vocabulary;
use crate::support::{Hub, Transport, on_every_transport};

fn hub() -> Hub {
    Hub::start(
        |builder| builder.recovery(Recovery::memory()),
        |io| {
            vocabulary::install(io.of("/"));
        },
    )
}

/// An event that is not kept has no place in what is kept.
const RECEIPT: &str = r#"432[{"level":"accepted","offset":null,"duplicate":false}]"#;

#[test]
fn publish_takes_an_object_for_the_room_that_says_the_grade() {
    let hub = hub();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send(r#"421["join","lobby"]"#);
        assert!(client.recv_text().starts_with(r#"431[{"room":"lobby""#));
        client.send(r#"422["publish",{"room":"lobby","volatile":true},"news",1]"#);
        let mut told = client.recv_text();
        // A polling client may be between two requests, and then does not hear it.
        let heard = told.starts_with(r#"42["news",1,"#);
        assert!(heard || transport == Transport::Polling, "{told}");
        if heard {
            told = client.recv_text();
        }
        assert_eq!(told, RECEIPT);
        client.send(r#"423["publish",{"room":"lobby"},"news",2]"#);
        assert!(client.recv_text().starts_with(r#"42["news",2,"#));
        let receipt = client.recv_text();
        assert!(receipt.starts_with(r#"433[{"level":"accepted","offset":""#), "{receipt}");
    });
}

#[test]
fn publish_says_what_is_wrong_with_such_an_object() {
    let hub = hub();
    let mut client = hub.join(Transport::Websocket);
    for (argument, wrong) in [
        (r#"{}"#, "missing field `room`"),
        (r#"{"room":1}"#, "invalid type: integer `1`"),
        (r#"{"room":"lobby","durable":true}"#, "unknown field `durable`"),
        (r#"{"room":"lobby","volatile":"yes"}"#, "invalid type: string"),
        ("[]", "publish: argument 1 (room) is not a string"),
    ] {
        client.send(&format!(r#"421["publish",{argument},"news"]"#));
        let answer = client.recv_text();
        assert!(answer.starts_with(r#"431[{"error":{"code":"bad_request","#), "{argument}: {answer}");
        assert!(answer.contains(&wrong.replace('"', "\\\"")), "{argument}: {answer}");
    }
}

// Any client could forge `stentor:error` to others.
#[test]
fn names_that_the_server_uses_are_not_published() {
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
        member.echoes();
        client.send(r#"421["publish","lobby","stentor",1]"#);
        assert!(client.recv_text().starts_with(r#"431[{"level""#));
    });
}

// `emit("join", "lobby", undefined, callback)`: undefined travels as null.
#[test]
fn null_is_an_argument_that_is_not_given() {
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

// A text that was cut within an emoji. Such an event never ran, and was never answered.
#[test]
fn lone_surrogates_are_replaced_where_text_is_read() {
    let hub = hub();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send(r#"421["join","a\ud83d"]"#);
        assert!(client.recv_text().starts_with("431[{\"room\":\"a\u{fffd}\""));
        client.send(r#"422["publish",{"room":"a\udc00"},"new\ud83ds","\ud83d"]"#);
        let told = client.recv_text();
        // Raw arguments pass as they came.
        assert!(told.starts_with("42[\"new\u{fffd}s\",\"\\ud83d\","), "{told}");
        client.recv_text();
        client.send(r#"423["echo\ud83d"]"#);
        assert!(client.recv_text().contains("unknown_event"));
    });
}
