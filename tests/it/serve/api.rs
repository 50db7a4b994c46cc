//! The HTTP API: authentication, publishing, room queries, and its errors.

use std::time::Duration;

use serde_json::{Value, json};
use stentor::Limits;

use crate::support::product::http::ApiLimits;
use crate::support::product::vocabulary::{self, Access, Policy};
use crate::support::{API_KEY, Client, Hub, Process, Transport, on_every_transport, stentor};

/// A hub with the vocabulary in `/` and `/other`.
fn hub() -> Hub {
    let limits = Limits::with(|limits| limits.http.body_timeout = Duration::from_millis(100));
    Hub::with_api(
        ApiLimits { body_bytes_max: 10_000, batch_max: 4, page_entries_max: 3, ..ApiLimits::default() },
        |builder| builder.limits(limits),
        |io| {
            for namespace in ["/", "/other"] {
                vocabulary::install(io.of(namespace), Policy::open(Access::Open, 1_024));
            }
        },
    )
}

fn joined(hub: &Hub, transport: Transport, rooms: &[&str]) -> (Client, String) {
    let mut client = hub.open(transport);
    let id = client.connect("")["sid"].as_str().unwrap().to_owned();
    for room in rooms {
        client.send(&format!(r#"421["join",{}]"#, json!(room)));
        assert!(client.recv_text().starts_with(r#"431[{"room":"#));
    }
    (client, id)
}

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// Sends a request with the key; gives status and body.
pub(super) fn ask(hub: &Hub, method: &str, target: &str, body: &str) -> (u16, Value) {
    let key = format!("Bearer {API_KEY}");
    let response = hub.http().request(method, target, &[JSON, ("Authorization", &key)], body.as_bytes());
    assert_eq!(response.head.header("content-type"), Some("application/json"), "{response:?}");
    (response.head.status, serde_json::from_str(&response.body).expect("JSON"))
}

fn publish(hub: &Hub, body: &Value) -> (u16, Value) {
    ask(hub, "POST", "/api/v1/publish", &body.to_string())
}

#[track_caller]
pub(super) fn expect_refused(answered: (u16, Value), status: u16, code: &str, part: &str) {
    let (got, body) = answered;
    let error = &body["error"];
    assert_eq!((got, error["code"].as_str()), (status, Some(code)), "{body}");
    assert!(error["message"].as_str().is_some_and(|message| message.contains(part)), "{part}: {body}");
}

#[test]
fn an_event_published_over_http_reaches_only_the_members() {
    let hub = hub();
    on_every_transport(|transport| {
        let (mut member, _) = joined(&hub, transport, &["a"]);
        let (mut of_both, _) = joined(&hub, transport, &["a", "b"]);
        let (mut outsider, _) = joined(&hub, transport, &["c"]);
        let accepted = json!({"level": "accepted", "offset": null, "duplicate": false});
        let event = json!({"room": "a", "event": "news", "args": [1, {"z": 1}, "ü"]});
        assert_eq!(publish(&hub, &event), (200, accepted.clone()));
        let event = json!({"namespace": "/", "rooms": ["a", "b"], "except": "b", "event": "more"});
        assert_eq!(publish(&hub, &event), (200, accepted.clone()));
        let event = json!({"namespace": "/other", "room": "a", "event": "elsewhere"});
        assert_eq!(publish(&hub, &event), (200, accepted));
        member.expect(r#"42["news",1,{"z":1},"ü"]"#);
        member.expect(r#"42["more"]"#);
        of_both.expect(r#"42["news",1,{"z":1},"ü"]"#);
        for client in [&mut member, &mut of_both, &mut outsider] {
            client.expect_echo();
        }
    });
}

#[test]
fn a_batch_is_published_in_order_and_answered_item_by_item() {
    let hub = hub();
    let (mut member, _) = joined(&hub, Transport::Websocket, &["a"]);
    let batch = json!([
        {"room": "a", "event": "e", "args": [1]},
        {"room": "a"},
        {"room": "a", "namespace": "/no", "event": "e"},
        {"room": "a", "event": "e", "args": [2]},
    ]);
    let (status, answers) = ask(&hub, "POST", "/api/v1/publish/batch", &batch.to_string());
    let codes: Vec<_> = answers.as_array().unwrap().iter().map(|item| item["error"]["code"].as_str()).collect();
    assert_eq!((status, codes), (200, vec![None, Some("bad_request"), Some("unknown_namespace"), None]), "{answers}");
    assert_eq!(answers[0], json!({"level": "accepted", "offset": null, "duplicate": false}));
    member.expect(r#"42["e",1]"#);
    member.expect(r#"42["e",2]"#);

    assert_eq!(ask(&hub, "POST", "/api/v1/publish/batch", "[]"), (200, json!([])));
    let five = json!([{}, {}, {}, {}, {}]).to_string();
    expect_refused(ask(&hub, "POST", "/api/v1/publish/batch", &five), 413, "too_large", "5 events exceed limit of 4");
    expect_refused(ask(&hub, "POST", "/api/v1/publish/batch", "{}"), 400, "bad_request", "expected an array of events");
}

#[test]
fn with_recovery_the_response_has_the_offset_of_the_event() {
    let hub = Hub::start(|builder| builder.recovery(stentor::Recovery::memory()), |_| {});
    let (status, body) = publish(&hub, &json!({"room": "a", "event": "e"}));
    assert_eq!(status, 200);
    assert!(body["offset"].is_string(), "{body}");
}

#[test]
fn requests_without_the_key_are_refused_without_effect() {
    let hub = hub();
    let (mut member, _) = joined(&hub, Transport::Websocket, &["a"]);
    let event = br#"{"room":"a","event":"e"}"#;
    let wrong = format!("Bearer {}", API_KEY.to_uppercase());
    let longer = format!("Bearer {API_KEY}0");
    let basic = format!("Basic {API_KEY}");
    for (target, headers, part) in [
        ("/api/v1/publish", vec![], "expected the header"),
        ("/api/v1/publish", vec![("Authorization", wrong.as_str())], "wrong, expected the header"),
        ("/api/v1/publish", vec![("Authorization", longer.as_str())], "wrong"),
        ("/api/v1/publish", vec![("Authorization", basic.as_str())], "is not Bearer"),
        ("/api/v1/publish", vec![("Authorization", "Bearer")], "expected the header"),
        ("/api/v1/publish/batch", vec![], "expected the header"),
        ("/api/v1/rooms", vec![], "expected the header"),
        ("/api/v1/rooms/a", vec![], "expected the header"),
        ("/api/nothing", vec![], "expected the header"),
    ] {
        let headers = [headers, vec![JSON]].concat();
        let response = hub.http().request("POST", target, &headers, event);
        assert_eq!(response.head.header("www-authenticate"), Some("Bearer"), "{target}: {response:?}");
        let body = serde_json::from_str(&response.body).unwrap();
        expect_refused((response.head.status, body), 401, "unauthorized", part);
    }
    member.expect_echo();
    let scraped = hub.http().get("/metrics").body;
    for (reason, count) in [("missing", 6), ("scheme", 1), ("wrong", 2), ("scope", 0)] {
        let line = format!("\nstentor_api_keys_refused_total{{reason=\"{reason}\"}} {count}\n");
        assert!(scraped.contains(&line), "{line}{scraped}");
    }
    assert!(scraped.ends_with("\n# EOF\n"), "{scraped}");
}

#[test]
fn a_wrong_api_key_is_logged_with_the_address_once_a_second() {
    let serving = Process::run(stentor(&["serve"]).env("STENTOR_API_KEY", API_KEY));
    for _ in 0..20 {
        serving.http().request("GET", "/api/v1/rooms", &[("Authorization", "Bearer x")], b"");
    }
    serving.expect_log(
        "API request refused reason=\"the API key is wrong\" address=127.0.0.1 path=\"/api/v1/rooms\" skipped=0",
    );
    assert_eq!(serving.metric("stentor_api_keys_refused_total{reason=\"wrong\"}"), 20);
}

#[test]
fn requests_without_a_key_do_not_suppress_the_warning_of_a_wrong_one() {
    let serving = Process::run(stentor(&["serve", "--workers", "1"]).env("STENTOR_API_KEY", API_KEY));
    for headers in [&[][..], &[("Authorization", "Basic x")], &[("Authorization", "Bearer x")]] {
        for _ in 0..20 {
            serving.http().request("GET", "/api/v1/rooms", headers, b"");
        }
    }
    for reason in
        ["the API key is missing", "the scheme of the Authorization header is not Bearer", "the API key is wrong"]
    {
        serving.expect_log(&format!(
            "API request refused reason=\"{reason}\" address=127.0.0.1 path=\"/api/v1/rooms\" skipped=0"
        ));
    }
}

#[test]
fn a_body_over_the_budget_of_incoming_bytes_is_refused() {
    let hub = Hub::limited(
        |limits| limits.memory.incoming_bytes_max = Some(200_000),
        |io| drop(vocabulary::install(io.of("/"), Policy::open(Access::Open, 1_024))),
    );
    let (mut member, _) = joined(&hub, Transport::Websocket, &["a"]);
    let event = |bytes: usize| json!({"room": "a", "event": "e", "args": ["x".repeat(bytes)]});
    expect_refused(publish(&hub, &event(300_000)), 429, "overloaded", "no memory for the body");
    assert_eq!(hub.metric("stentor_incoming_refused_total"), 1);
    // Refused and completed bodies free their share: their sum exceeds the budget.
    for _ in 0..8 {
        assert_eq!(publish(&hub, &event(50_000)).0, 200);
        assert!(member.recv_text().starts_with(r#"42["e","xxx"#));
    }
}

#[test]
fn reserved_event_names_cannot_be_published_over_http() {
    let hub = hub();
    for name in ["stentor:error", "connect"] {
        expect_refused(publish(&hub, &json!({"room": "a", "event": name})), 400, "bad_event", "is reserved");
    }
}

#[test]
fn without_a_configured_key_all_requests_are_refused_with_the_remedy() {
    let serving = Process::run(&mut stentor(&["serve"]));
    let response = serving.http().request("GET", "/api/v1/rooms", &[("Authorization", "Bearer x")], b"");
    let body = serde_json::from_str(&response.body).unwrap();
    expect_refused((response.head.status, body), 403, "no_api_key", "STENTOR_API_KEY");
}

#[test]
fn invalid_requests_are_refused_with_the_expected_form() {
    let hub = hub();
    let event = json!({"room": "a", "event": "e"});
    expect_refused(publish(&hub, &json!({"room": "", "event": "e"})), 400, "bad_room", "room");
    expect_refused(publish(&hub, &json!({"room": "a", "event": "disconnect"})), 400, "bad_event", "reserved");
    expect_refused(
        publish(&hub, &json!({"room": "a", "event": "e", "x": 1})),
        400,
        "bad_request",
        "unknown field \"x\"",
    );
    expect_refused(publish(&hub, &json!([])), 400, "bad_request", "expected an object");
    expect_refused(ask(&hub, "POST", "/api/v1/publish", "{"), 400, "bad_request", "EOF");
    expect_refused(ask(&hub, "POST", "/api/v1/publish", ""), 400, "bad_request", "EOF");
    let missing = json!({"namespace": "/new", "room": "a", "event": "e"});
    expect_refused(publish(&hub, &missing), 404, "unknown_namespace", "\"/new\"");
    // The query did not create the room.
    let mut client = hub.join(Transport::Websocket);
    client.send("40/new,");
    client.expect(r#"44/new,{"message":"Invalid namespace"}"#);

    let large = json!({"room": "a", "event": "e", "args": ["x".repeat(10_000)]});
    expect_refused(publish(&hub, &large), 413, "too_large", "10000 bytes");
    expect_refused(
        ask(&hub, "PUT", "/api/v1/publish", &event.to_string()),
        405,
        "method_not_allowed",
        "expected POST, got PUT",
    );
    expect_refused(ask(&hub, "GET", "/api/v1/publish/batch", ""), 405, "method_not_allowed", "expected POST, got GET");
    expect_refused(ask(&hub, "POST", "/api/v1/rooms", "{}"), 405, "method_not_allowed", "expected GET, got POST");
    expect_refused(ask(&hub, "GET", "/api/v2/rooms", ""), 404, "not_found", "/api/v2/rooms");

    let key = format!("Bearer {API_KEY}");
    let text = [("Content-Type", "text/plain"), ("Authorization", key.as_str())];
    let response = hub.http().request("POST", "/api/v1/publish", &text, event.to_string().as_bytes());
    let body = serde_json::from_str(&response.body).unwrap();
    expect_refused((response.head.status, body), 415, "unsupported_media_type", "application/json");
    let with_charset = [("Content-Type", "application/json; charset=utf-8"), ("Authorization", key.as_str())];
    let response = hub.http().request("POST", "/api/v1/publish", &with_charset, event.to_string().as_bytes());
    assert_eq!(response.head.status, 200);
}

#[test]
fn chunked_bodies_that_are_too_large_or_incomplete_are_refused() {
    let hub = hub();
    let key = format!("Bearer {API_KEY}");
    let headers = [JSON, ("Authorization", key.as_str())];
    let mut http = hub.http();
    http.write_head("POST", "/api/v1/publish", &[headers[0], headers[1], ("Transfer-Encoding", "chunked")], None);
    http.write(format!("2af8\r\n{}\r\n", "x".repeat(11_000)).as_bytes());
    let response = http.response();
    expect_refused((response.head.status, serde_json::from_str(&response.body).unwrap()), 413, "too_large", "10000");

    let mut http = hub.http();
    http.write_head("POST", "/api/v1/publish", &headers, Some(50));
    let response = http.response();
    expect_refused((response.head.status, serde_json::from_str(&response.body).unwrap()), 408, "too_slow", "100ms");
}

#[test]
fn rooms_are_listed_in_pages_in_the_order_of_their_names() {
    let hub = hub();
    assert_eq!(ask(&hub, "GET", "/api/v1/rooms", ""), (200, json!({"namespace": "/", "rooms": [], "next": null})));
    let (_first, _) = joined(&hub, Transport::Websocket, &["d", "b", "a"]);
    let (_second, _) = joined(&hub, Transport::Polling, &["c", "a"]);
    let page = |query: &str| ask(&hub, "GET", &format!("/api/v1/rooms{query}"), "");
    let room = |name: &str, members: u8| json!({"name": name, "members": members});
    let (a, b, c, d) = (room("a", 2), room("b", 1), room("c", 1), room("d", 1));
    assert_eq!(page("").1, json!({"namespace": "/", "rooms": [a, b, c], "next": "c"}));
    assert_eq!(page("?after=c&limit=3").1, json!({"namespace": "/", "rooms": [d], "next": null}));
    assert_eq!(page("?limit=2&namespace=/").1, json!({"namespace": "/", "rooms": [a, b], "next": "b"}));
    assert_eq!(page("?namespace=/other").1, json!({"namespace": "/other", "rooms": [], "next": null}));
    expect_refused(page("?namespace=/new"), 404, "unknown_namespace", "\"/new\"");
    expect_refused(page("?limit=4"), 400, "bad_request", "from 1 to 3");
    expect_refused(page("?limit=0"), 400, "bad_request", "from 1 to 3");
    expect_refused(page("?before=x"), 400, "bad_request", "unknown parameter \"before\"");
}

#[test]
fn members_of_a_room_are_listed_in_pages() {
    let hub = hub();
    let name = "a/b c%ü";
    let joined: Vec<_> = (0..4).map(|_| joined(&hub, Transport::Websocket, &[name])).collect();
    let mut ids: Vec<&str> = joined.iter().map(|(_, id)| id.as_str()).collect();
    ids.sort_unstable();
    let target = "/api/v1/rooms/a%2Fb%20c%25%C3%BC";
    let page = json!({"namespace": "/", "room": name, "members": 4, "sockets": &ids[..3], "next": ids[2]});
    assert_eq!(ask(&hub, "GET", target, ""), (200, page));
    let page = json!({"namespace": "/", "room": name, "members": 4, "sockets": &ids[3..], "next": null});
    assert_eq!(ask(&hub, "GET", &format!("{target}?after={}", ids[2]), ""), (200, page));
    let (status, body) = ask(&hub, "GET", "/api/v1/rooms/nobody", "");
    assert_eq!((status, &body["sockets"], &body["members"]), (200, &json!([]), &json!(0)));
}
