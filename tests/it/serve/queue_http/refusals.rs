//! Requests about subscribers that are refused, with the code and what was expected.

use serde_json::{Value, json};

use super::{FOREIGN, JSON, KEY, done, hub, publish, refused, subscribe};
use crate::support::Hub;

#[test]
fn invalid_names_and_unknown_subscribers_are_refused() {
    let hub = hub(|_| {});
    let mut http = hub.http();
    let long = format!("subscribers/{}", "x".repeat(257));
    for (target, part) in [
        (long.as_str(), "257 bytes"),
        ("subscribers/a%0Ab", "control"),
        ("subscribers/%00", "control"),
        ("subscribers/%FF", "expected names in UTF-8"),
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            refused(&hub, (method, target, Value::Null), 400, "bad_request", part);
        }
        refused(&hub, ("POST", &format!("{target}/pull"), json!({})), 400, "bad_request", part);
    }
    // A name may have the character that the router has for bytes that are not UTF-8.
    assert_eq!(done(&mut http, "PUT", "subscribers/%EF%BF%BD", Value::Null)["name"], "\u{fffd}");
    for target in
        ["subscribers/", "subscribers//pull", "subscribers/a/push", "subscribers/a/rooms", "subscribers/a/b/c"]
    {
        refused(&hub, ("POST", target, json!({})), 404, "not_found", "nothing at /api/v1/subscribers/");
    }
    let offset = publish(&mut http, 1);
    for (method, target, body) in [
        ("GET", "subscribers/a", Value::Null),
        ("DELETE", "subscribers/a", Value::Null),
        ("DELETE", "subscribers/a/rooms/orders", Value::Null),
        ("GET", "subscribers/a/dead", Value::Null),
        ("POST", "subscribers/a/dead/replay", Value::Null),
        ("POST", "subscribers/a/pull", json!({"wait_ms": 60_000})),
        ("POST", "subscribers/a/ack", json!({"offsets": [offset]})),
        ("POST", "subscribers/a/ack", json!({"up_to": offset})),
        ("POST", "subscribers/a/term", json!({"offset": offset})),
        ("POST", "subscribers/a/purge", json!({"up_to": offset})),
    ] {
        refused(&hub, (method, target, body), 404, "not_found", "subscriber does not exist");
    }
}

#[test]
fn wrong_offsets_and_bodies_are_refused_and_change_nothing() {
    let hub = hub(|_| {});
    let mut http = hub.http();
    subscribe(&mut http, "a");
    let offset = publish(&mut http, 1);
    let future = format!("{}zz", &offset[..15]);
    let journal = format!("{offset}0000");
    for (operation, field) in
        [("ack", "up_to"), ("nak", "offset"), ("term", "offset"), ("in_progress", "offset"), ("purge", "up_to")]
    {
        let target = format!("subscribers/a/{operation}");
        let with = |value: &str, part: &str| {
            refused(&hub, ("POST", &target, json!({ field: value })), 400, "bad_request", part);
        };
        with(FOREIGN, "offset belongs to another queue");
        with("x", &format!("{operation}: {field}: "));
        with(&journal, &format!("{operation}: {field}: "));
        refused(
            &hub,
            ("POST", &target, json!({"offset": offset, "x": 1, "y": 2})),
            400,
            "bad_request",
            "unknown field",
        );
        refused(&hub, ("POST", &target, json!([])), 400, "bad_request", "expected an object of");
        refused(&hub, ("POST", &target, Value::Null), 400, "bad_request", "expected an object of");
    }
    let many: Vec<&str> = vec![&offset; 1_025];
    for (target, body, part) in [
        ("subscribers/a/ack", json!({"up_to": future}), "beyond the newest event"),
        ("subscribers/a/ack", json!({"offsets": [future, FOREIGN]}), "belongs to another queue"),
        ("subscribers/a/ack", json!({"offsets": many}), "names 1025 events, expected at most 1024"),
        ("subscribers/a/dead/replay", json!({"offsets": many}), "names 1025 events"),
        ("subscribers/a/dead/replay", json!({"offset": offset}), "unknown field \"offset\""),
        ("subscribers/a/pull", json!({"limit": 1_000_000_000}), "from 1 to 1000"),
        ("subscribers/a/pull", json!({"limit": 0}), "from 1 to 1000"),
        ("subscribers/a/nak", json!({"offset": offset, "delay": -1}), "a number of milliseconds, got -1"),
    ] {
        refused(&hub, ("POST", target, body), 400, "bad_request", part);
    }
    for (body, code, part) in [
        (json!({"rooms": ["a", "b", "c", "d", "e"]}), "bad_request", "5 rooms exceed limit of 4"),
        (json!({"rooms": "orders"}), "bad_request", "rooms: expected an array of strings"),
        (json!({"rooms": [""]}), "bad_room", "room"),
        (json!({"room": "orders"}), "bad_request", "unknown field \"room\", expected rooms, from"),
        (json!({"from": offset}), "bad_request", "from: expected rooms as well"),
        (json!({"rooms": ["orders"], "from": "x"}), "bad_request", "subscribe: from: "),
        (json!({"rooms": ["bills"], "from": FOREIGN}), "bad_request", "belongs to another queue"),
        (json!({"rooms": ["bills"], "from": future}), "bad_request", "beyond the newest event"),
        (json!([]), "bad_request", "expected an object of rooms, from"),
    ] {
        refused(&hub, ("PUT", "subscribers/a", body), 400, code, part);
    }
    for (target, part) in [
        ("subscribers?limit=4", "from 1 to 3"),
        ("subscribers?before=x", "expected namespace, after, limit"),
        ("subscribers/a?after=x", "unknown parameter \"after\", expected namespace"),
        ("subscribers/a/dead?after=x", "dead: after: "),
    ] {
        refused(&hub, ("GET", target, Value::Null), 400, "bad_request", part);
    }
    refused(&hub, ("GET", "subscribers?namespace=/new", Value::Null), 404, "unknown_namespace", "\"/new\"");
    // Acks of events that were not sent, or that are none, change nothing.
    assert_eq!(done(&mut http, "POST", "subscribers/a/ack", json!({"offsets": []})), json!({"acked": 0}));
    assert_eq!(
        done(&mut http, "POST", "subscribers/a/pull", json!({"wait_ms": 10_000}))["events"][0]["offset"],
        json!(offset)
    );
    assert_eq!(done(&mut http, "GET", "subscribers/a", Value::Null)["rooms"], json!(["orders"]));
}

#[test]
fn subscribers_need_the_key_the_method_and_json() {
    let hub = hub(|_| {});
    for (target, allowed) in [
        ("subscribers", "GET"),
        ("subscribers/a", "GET, PUT, DELETE"),
        ("subscribers/a/rooms/orders", "DELETE"),
        ("subscribers/a/pull", "POST"),
        ("subscribers/a/ack", "POST"),
        ("subscribers/a/nak", "POST"),
        ("subscribers/a/term", "POST"),
        ("subscribers/a/in_progress", "POST"),
        ("subscribers/a/purge", "POST"),
        ("subscribers/a/dead", "GET"),
        ("subscribers/a/dead/replay", "POST"),
    ] {
        let target = format!("/api/v1/{target}");
        let response = hub.http().request("PATCH", &target, &[KEY, JSON], b"{}");
        assert_eq!((response.head.status, response.head.header("allow")), (405, Some(allowed)), "{response:?}");
        for method in allowed.split(", ") {
            let response = hub.http().request(method, &target, &[JSON], b"{}");
            assert_eq!((response.head.status, response.head.header("www-authenticate")), (401, Some("Bearer")));
        }
    }
    let text = ("Content-Type", "text/plain");
    for (method, target) in [("PUT", "subscribers/a"), ("POST", "subscribers/a/ack")] {
        let response = hub.http().request(method, &format!("/api/v1/{target}"), &[KEY, text], b"{}");
        assert_eq!(response.head.status, 415, "{response:?}");
        let large = json!({"rooms": ["x".repeat(100_000)]});
        refused(&hub, (method, target, large), 413, "too_large", "100000 bytes");
    }
    refused(&hub, ("GET", "subscribers/a", Value::Null), 404, "not_found", "does not exist");
}

#[test]
fn a_server_without_a_queue_refuses_with_the_remedy() {
    let hub = Hub::plain();
    for (method, target, body) in [
        ("GET", "subscribers", Value::Null),
        ("PUT", "subscribers/a", Value::Null),
        ("POST", "subscribers/a/pull", json!({})),
    ] {
        refused(&hub, (method, target, body), 400, "bad_request", "queue is off: set queue");
    }
}
