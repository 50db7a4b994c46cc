//! Subscribers of the queue over HTTP.

mod refusals;
mod tool;

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use stentor::limits::QueueLimits;
use stentor::{Builder, Limits, Queue};

use crate::support::product::http::ApiLimits;
use crate::support::{API_KEY, Http, Hub, Process, Transport, eventually, stentor};

const KEY: (&str, &str) = ("Authorization", "Bearer 0123456789abcdef");
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// An offset of another queue.
const FOREIGN: &str = "---------------1-";

fn queue(change: impl FnOnce(&mut Limits)) -> impl FnOnce(Builder) -> Builder {
    let limits = Limits::with(change);
    |builder| builder.queue(Queue::memory()).limits(limits)
}

/// A hub with a queue in memory. Each socket in `/phone` is attached to the subscriber `phone`.
fn hub(change: impl FnOnce(&mut QueueLimits)) -> Hub {
    let api = ApiLimits { body_bytes_max: 100_000, page_entries_max: 3, rooms_max: 4, ..ApiLimits::default() };
    Hub::with_api(api, queue(|limits| change(&mut limits.queue)), |io| {
        io.of("/phone").on_connection(|socket| async move {
            socket.subscribe_as("phone").await?;
            Ok(())
        });
    })
}

fn ask(http: &mut Http, method: &str, target: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let response = http.request(method, &format!("/api/v1/{target}"), &[KEY, JSON], body.as_bytes());
    (response.head.status, serde_json::from_str(&response.body).expect("JSON"))
}

/// Sends a request that succeeds.
#[track_caller]
fn done(http: &mut Http, method: &str, target: &str, body: Value) -> Value {
    let (status, reply) = ask(http, method, target, &body);
    assert_eq!(status, 200, "{method} {target} {body}: {reply}");
    reply
}

/// Sends a request that is refused. Its connection may end, since the body may be left unread.
#[track_caller]
fn refused(hub: &Hub, request: (&str, &str, Value), status: u16, code: &str, part: &str) {
    let (method, target, body) = request;
    let (got, reply) = ask(&mut hub.http(), method, target, &body);
    let error = &reply["error"];
    assert_eq!((got, error["code"].as_str()), (status, Some(code)), "{method} {target} {body}: {reply}");
    assert!(error["message"].as_str().is_some_and(|message| message.contains(part)), "{part}: {reply}");
}

/// Publishes a durable event to `orders`, and returns its offset.
#[track_caller]
fn publish(http: &mut Http, number: u32) -> String {
    let event = json!({"room": "orders", "event": "order", "args": [number], "durable": true});
    let stored = done(http, "POST", "publish", event);
    assert_eq!(stored["level"], "stored", "{stored}");
    stored["offset"].as_str().unwrap().to_owned()
}

fn subscribe(http: &mut Http, name: &str) {
    done(http, "PUT", &format!("subscribers/{name}"), json!({"rooms": ["orders"]}));
}

/// Pulls at most this number of events. Returns the first argument and the offset of each.
#[track_caller]
fn pull(http: &mut Http, name: &str, limit: u32, wait_ms: u32) -> Vec<(u64, String)> {
    let pulled = done(http, "POST", &format!("subscribers/{name}/pull"), json!({"limit": limit, "wait_ms": wait_ms}));
    events(&pulled)
}

fn events(pulled: &Value) -> Vec<(u64, String)> {
    let events = pulled["events"].as_array().unwrap_or_else(|| panic!("{pulled}"));
    events
        .iter()
        .map(|event| (event["args"][0].as_u64().unwrap(), event["offset"].as_str().unwrap().to_owned()))
        .collect()
}

/// Sends a pull that waits, and returns when the server has it.
fn begin_pull(mut http: Http, target: &str) -> Http {
    let body = br#"{"limit":10,"wait_ms":60000}"#;
    http.write_head("POST", &format!("/api/v1/{target}"), &[KEY, JSON], Some(body.len()));
    http.write(body);
    http.wait_until_polling();
    http
}

/// The response to a pull that was begun.
fn pulled(mut http: Http) -> (u16, Value) {
    let response = http.response();
    (response.head.status, serde_json::from_str(&response.body).expect("JSON"))
}

#[test]
fn an_event_is_pulled_and_acknowledged_over_http() {
    let hub = hub(|_| {});
    let mut http = hub.http();
    let created = done(&mut http, "PUT", "subscribers/billing", json!({"rooms": ["orders", "bills"]}));
    assert_eq!((&created["name"], &created["rooms"]), (&json!("billing"), &json!(["bills", "orders"])), "{created}");
    assert_eq!((&created["events"], &created["attached"]), (&json!(0), &json!(false)), "{created}");
    let (first, second) = (publish(&mut http, 1), publish(&mut http, 2));
    let (status, one) = ask(&mut http, "POST", "subscribers/billing/pull", &json!({"limit": 1}));
    let event = json!({"offset": first, "room": "orders", "event": "order", "args": [1],
                       "published_at": one["events"][0]["published_at"]});
    assert_eq!((status, one), (200, json!({"events": [event], "gaps": []})));
    assert_eq!(pull(&mut http, "billing", 10, 0), [(2, second.clone())]);
    let shown = done(&mut http, "GET", "subscribers/billing", Value::Null);
    assert_eq!(
        (&shown["in_flight"], &shown["oldest_in_flight"], &shown["head"]),
        (&json!(2), &json!(first), &json!(second))
    );
    let both = json!({"offsets": [first, second]});
    assert_eq!(done(&mut http, "POST", "subscribers/billing/ack", both.clone()), json!({"acked": 2}));
    // An ack that comes twice changes nothing.
    assert_eq!(done(&mut http, "POST", "subscribers/billing/ack", both), json!({"acked": 0}));
    let third = publish(&mut http, 3);
    let up_to = json!({"up_to": third});
    assert_eq!(done(&mut http, "POST", "subscribers/billing/ack", up_to.clone()), up_to);
    assert_eq!(done(&mut http, "POST", "subscribers/billing/pull", json!({})), json!({"events": [], "gaps": []}));
    assert_eq!(done(&mut http, "GET", "subscribers/billing", Value::Null)["events"], 0);
}

#[test]
fn a_pull_waits_until_an_event_is_published() {
    let hub = hub(|_| {});
    let mut http = hub.http();
    subscribe(&mut http, "billing");
    let waiting = begin_pull(hub.http(), "subscribers/billing/pull");
    let offset = publish(&mut http, 1);
    let (status, reply) = pulled(waiting);
    assert_eq!((status, events(&reply)), (200, vec![(1, offset)]));
}

#[test]
fn time_limits_of_requests_do_not_cut_a_pull() {
    // Its wait is lowered to `pull_wait_max`, which exceeds the limits of the connection.
    let hub = Hub::start(
        queue(|limits| {
            limits.http.body_timeout = Duration::from_millis(50);
            limits.http.head_timeout = Duration::from_millis(50);
            limits.http.response_timeout = Duration::from_millis(50);
            limits.http.keep_alive = Duration::from_millis(50);
            limits.transport.close_linger = Duration::from_millis(50);
            limits.queue.pull_wait_max = Duration::from_millis(600);
        }),
        |_| {},
    );
    done(&mut hub.http(), "PUT", "subscribers/billing", Value::Null);
    let wait = json!({"wait_ms": 1_000_000_000_000_u64});
    assert_eq!(done(&mut hub.http(), "POST", "subscribers/billing/pull", wait), json!({"events": [], "gaps": []}));
}

#[test]
fn the_newest_of_two_pulls_that_wait_receives_the_event() {
    let hub = hub(|_| {});
    let mut http = hub.http();
    subscribe(&mut http, "billing");
    let older = begin_pull(hub.http(), "subscribers/billing/pull");
    let newer = begin_pull(hub.http(), "subscribers/billing/pull");
    let offset = publish(&mut http, 1);
    assert_eq!(events(&pulled(newer).1), [(1, offset)]);
    let offset = publish(&mut http, 2);
    assert_eq!(events(&pulled(older).1), [(2, offset)]);
}

#[test]
fn a_client_that_closes_its_connection_ends_its_pull() {
    let hub = hub(|_| {});
    let mut http = hub.http();
    subscribe(&mut http, "billing");
    let first = publish(&mut http, 1);
    assert_eq!(pull(&mut http, "billing", 1, 0), [(1, first.clone())]);
    for (number, close) in [(2, Http::send_fin as fn(Http)), (3, Http::reset)] {
        close(begin_pull(hub.http(), "subscribers/billing/pull"));
        // The worker has read the end of the connection when it responds to another one.
        hub.http().get("/healthz");
        hub.http().get("/healthz");
        let offset = publish(&mut http, number);
        // An event of the pull that ended would be in flight for `ack_wait`, which is longer.
        let (status, reply) = ask(&mut http, "POST", "subscribers/billing/pull", &json!({"wait_ms": 10_000}));
        assert_eq!((status, events(&reply)), (200, vec![(number.into(), offset)]));
    }
    // The event of the worker that is still there has stayed in flight.
    assert_eq!(done(&mut http, "GET", "subscribers/billing", Value::Null)["oldest_in_flight"], json!(first));
}

#[test]
fn a_server_that_stops_ends_a_pull_that_waits() {
    let serving =
        Process::run(stentor(&["serve", "--queue", "memory", "--recovery", "off"]).env("STENTOR_API_KEY", API_KEY));
    subscribe(&mut serving.http(), "billing");
    let waiting = begin_pull(serving.http(), "subscribers/billing/pull");
    serving.signal(Signal::TERM);
    let (status, reply) = pulled(waiting);
    assert_eq!((status, &reply["error"]["code"]), (503, &json!("unavailable")), "{reply}");
    serving.stop();
}

#[test]
fn a_subscriber_and_its_events_survive_a_restart() {
    let data: PathBuf = std::env::temp_dir().join(format!("stentor-queue-http-{}", std::process::id()));
    let start = || {
        let mut command = stentor(&["serve", "--workers", "2", "--recovery", "off", "--queue", "disk", "--data-dir"]);
        Process::run(command.arg(&data).env("STENTOR_API_KEY", API_KEY))
    };
    let serving = start();
    let mut http = serving.http();
    subscribe(&mut http, "billing");
    let offsets: Vec<String> = (1..=3).map(|number| publish(&mut http, number)).collect();
    assert_eq!(pull(&mut http, "billing", 2, 0).len(), 2);
    done(&mut http, "POST", "subscribers/billing/ack", json!({"offsets": [offsets[0]]}));
    serving.signal(Signal::KILL);
    drop(serving);

    let serving = start();
    let mut http = serving.http();
    let reply = done(&mut http, "POST", "subscribers/billing/pull", json!({"wait_ms": 10_000}));
    assert_eq!(events(&reply), [(2, offsets[1].clone()), (3, offsets[2].clone())]);
    assert_eq!(reply["events"][0]["redelivered"], true, "{reply}");
    assert_eq!(
        done(&mut http, "POST", "subscribers/billing/ack", json!({"up_to": offsets[2]})),
        json!({"up_to": offsets[2]})
    );
    serving.stop();
    std::fs::remove_dir_all(&data).unwrap();
}

#[test]
fn a_refused_event_comes_again_and_one_given_up_is_a_dead_letter() {
    let hub = hub(|_| {});
    let mut http = hub.http();
    subscribe(&mut http, "billing");
    let offset = publish(&mut http, 1);
    let one = json!({"offset": offset});
    let error = format!("event {offset} is not in flight");
    refused(&hub, ("POST", "subscribers/billing/nak", one.clone()), 404, "not_found", &error);
    pull(&mut http, "billing", 1, 0);
    assert_eq!(done(&mut http, "POST", "subscribers/billing/in_progress", one.clone()), json!({}));
    done(&mut http, "POST", "subscribers/billing/nak", json!({"offset": offset, "delay": 0}));
    let again = done(&mut http, "POST", "subscribers/billing/pull", json!({"wait_ms": 10_000}));
    assert_eq!((events(&again), &again["events"][0]["redelivered"]), (vec![(1, offset.clone())], &json!(true)));
    // The delay is lowered to `nak_delay_max`.
    done(&mut http, "POST", "subscribers/billing/nak", json!({"offset": offset, "delay": 1_000_000_000_000_u64}));
    assert_eq!(pull(&mut http, "billing", 1, 0), []);
    done(&mut http, "POST", "subscribers/billing/term", json!({"offset": offset, "reason": "no such table"}));
    refused(&hub, ("POST", "subscribers/billing/term", one.clone()), 404, "not_found", "is not pending");
    refused(&hub, ("POST", "subscribers/billing/in_progress", one), 404, "not_found", "is not in flight");

    let (second, third) = (publish(&mut http, 2), publish(&mut http, 3));
    for offset in [&second, &third] {
        done(&mut http, "POST", "subscribers/billing/term", json!({"offset": offset}));
    }
    let page = done(&mut http, "GET", "subscribers/billing/dead?limit=2", Value::Null);
    let dead = &page["events"][0];
    assert_eq!(
        (&dead["offset"], &dead["reason"], &dead["args"]),
        (&json!(offset), &json!("no such table"), &json!([1]))
    );
    assert_eq!((events(&page).len(), &page["next"]), (2, &json!(second)));
    let page = done(&mut http, "GET", &format!("subscribers/billing/dead?after={second}"), Value::Null);
    assert_eq!((events(&page), &page["next"]), (vec![(3, third)], &Value::Null));
    let some = json!({"offsets": [second]});
    assert_eq!(done(&mut http, "POST", "subscribers/billing/dead/replay", some), json!({"replayed": 1}));
    assert_eq!(done(&mut http, "POST", "subscribers/billing/dead/replay", Value::Null), json!({"replayed": 2}));
    assert_eq!(done(&mut http, "POST", "subscribers/billing/dead/replay", json!({})), json!({"replayed": 0}));
    let replayed = pull(&mut http, "billing", 10, 10_000);
    assert_eq!(replayed.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 1, 3]);
    assert!(replayed.iter().all(|(_, offset)| *offset != second), "{replayed:?}");
}

#[test]
fn purged_events_become_a_gap_of_the_next_pull() {
    let hub = hub(|_| {});
    let mut http = hub.http();
    subscribe(&mut http, "billing");
    let (first, second) = (publish(&mut http, 1), publish(&mut http, 2));
    assert_eq!(done(&mut http, "POST", "subscribers/billing/purge", json!({"up_to": second})), json!({}));
    let third = publish(&mut http, 3);
    let reply = done(&mut http, "POST", "subscribers/billing/pull", json!({"wait_ms": 10_000}));
    assert_eq!(events(&reply), [(3, third.clone())]);
    let gap = &reply["gaps"][0];
    assert_eq!(
        (&gap["from"], &gap["to"], &gap["reason"]),
        (&json!(first), &json!(second), &json!("purged")),
        "{reply}"
    );
    done(&mut http, "POST", "subscribers/billing/ack", json!({"offsets": [third]}));
    eventually("the gap is confirmed", || {
        done(&mut http, "GET", "subscribers/billing", Value::Null)["gaps"] == json!([])
    });
}

#[test]
fn a_subscription_may_begin_in_the_past_and_ends_on_request() {
    let hub = hub(|_| {});
    let mut http = hub.http();
    subscribe(&mut http, "first");
    let (first, second) = (publish(&mut http, 1), publish(&mut http, 2));
    let late = json!({"rooms": ["orders"], "from": first});
    assert_eq!(done(&mut http, "PUT", "subscribers/late", late)["events"], 1);
    assert_eq!(pull(&mut http, "late", 10, 10_000), [(2, second)]);
    assert_eq!(done(&mut http, "DELETE", "subscribers/first/rooms/orders", Value::Null), json!({}));
    let shown = done(&mut http, "GET", "subscribers/first", Value::Null);
    assert_eq!((&shown["rooms"], &shown["events"]), (&json!([]), &json!(0)));
    // Also without the subscription.
    assert_eq!(done(&mut http, "DELETE", "subscribers/first/rooms/a%2Fb%20%C3%BC", Value::Null), json!({}));
}

#[test]
fn subscribers_are_listed_in_pages_and_removed() {
    let hub = hub(|_| {});
    let mut http = hub.http();
    let of_other = "subscribers/d?namespace=/phone";
    done(&mut http, "PUT", of_other, Value::Null);
    for name in ["c", "a%2Fb%20%C3%BC", "b", "d"] {
        done(&mut http, "PUT", &format!("subscribers/{name}"), json!({}));
    }
    let page = |http: &mut Http, query: &str| {
        let page = done(http, "GET", &format!("subscribers{query}"), Value::Null);
        let names: Vec<_> = page["subscribers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect();
        (names.join(" | "), page["next"].clone())
    };
    assert_eq!(page(&mut http, "?limit=3"), ("a/b ü | b | c".into(), json!("c")));
    assert_eq!(page(&mut http, "?after=c&limit=3"), ("d".into(), Value::Null));
    assert_eq!(page(&mut http, "?namespace=/phone"), ("d".into(), Value::Null));
    let one = done(&mut http, "GET", "subscribers?limit=1", Value::Null);
    assert_eq!((&one["namespace"], &one["subscribers"][0]["rooms"]), (&json!("/"), &json!(0)));
    assert_eq!(one["subscribers"][0]["expired_at"], Value::Null, "{one}");
    assert_eq!(done(&mut http, "GET", "subscribers/a%2Fb%20%C3%BC", Value::Null)["name"], "a/b ü");
    assert_eq!(done(&mut http, "DELETE", "subscribers/a%2Fb%20%C3%BC", Value::Null), json!({}));
    refused(&hub, ("GET", "subscribers/a%2Fb%20%C3%BC", Value::Null), 404, "not_found", "does not exist");
    assert_eq!(page(&mut http, "?limit=1").0, "b");
    assert_eq!(done(&mut http, "GET", of_other, Value::Null)["name"], "d");
}

#[test]
fn a_subscriber_with_a_socket_is_not_pulled() {
    let hub = hub(|_| {});
    let mut http = hub.http();
    let of_phone = |operation: &str| format!("subscribers/phone{operation}?namespace=/phone");
    done(&mut http, "PUT", &of_phone(""), json!({"rooms": ["orders"]}));
    let waiting = begin_pull(hub.http(), &of_phone("/pull"));
    let mut phone = hub.open(Transport::Websocket);
    phone.connect("/phone,");
    let (status, reply) = pulled(waiting);
    assert_eq!((status, &reply["error"]["code"]), (409, &json!("conflict")), "{reply}");
    assert!(phone.recv_text().contains("stentor:attached"));
    let again = ("POST", of_phone("/pull"), json!({}));
    refused(&hub, (again.0, &again.1, again.2), 409, "conflict", "attached to a socket");
    assert_eq!(done(&mut http, "GET", &of_phone(""), Value::Null)["attached"], true);
    done(&mut http, "DELETE", &of_phone(""), Value::Null);
    assert_eq!(phone.recv_text(), r#"42/phone,["stentor:evicted",{"reason":"removed"}]"#);
}

#[test]
fn an_expired_subscriber_is_gone_until_it_is_created_again() {
    let hub = hub(|limits| limits.subscriber_expiry = Duration::from_secs(1));
    let mut http = hub.http();
    subscribe(&mut http, "billing");
    let offset = publish(&mut http, 1);
    eventually("the subscriber expires", || ask(&mut http, "GET", "subscribers/billing", &Value::Null).0 == 410);
    for (method, target, body) in [
        ("GET", "subscribers/billing", Value::Null),
        ("GET", "subscribers/billing/dead", Value::Null),
        ("POST", "subscribers/billing/pull", json!({})),
        ("POST", "subscribers/billing/ack", json!({"offsets": [offset]})),
        ("POST", "subscribers/billing/term", json!({"offset": offset})),
        ("POST", "subscribers/billing/purge", json!({"up_to": offset})),
        ("POST", "subscribers/billing/dead/replay", Value::Null),
        ("DELETE", "subscribers/billing/rooms/orders", Value::Null),
    ] {
        refused(&hub, (method, target, body), 410, "expired", "has expired");
    }
    let listed = done(&mut http, "GET", "subscribers", Value::Null);
    assert!(listed["subscribers"][0]["expired_at"].is_u64(), "{listed}");
    assert_eq!(done(&mut http, "PUT", "subscribers/billing", Value::Null)["rooms"], json!([]));
}
