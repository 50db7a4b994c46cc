//! Keys of the HTTP API with scopes.

use serde_json::{Value, json};

use crate::support::{Process, stentor};

const PUBLISH: &str = "publish-0123456789";
const READ: &str = "read-0123456789";
const WORKER: &str = "worker-0123456789";
const ADMIN: &str = "admin-0123456789";

fn serving() -> Process {
    let keys = format!("publish:{PUBLISH}x,publish:{PUBLISH},read:{READ}xx,read+publish:{READ}xxx,subscribe:{WORKER}");
    let mut command = stentor(&["serve", "--workers", "1", "--queue", "memory", "--recovery", "off"]);
    Process::run(command.env("STENTOR_API_KEYS", keys).env("STENTOR_API_KEY", ADMIN))
}

/// Status and code of the response to a request.
fn ask(serving: &Process, key: &str, method: &str, target: &str, body: &Value) -> (u16, String) {
    let authorization = format!("Bearer {key}");
    let headers = [("Content-Type", "application/json"), ("Authorization", authorization.as_str())];
    let response = serving.http().request(method, target, &headers, body.to_string().as_bytes());
    let body: Value = serde_json::from_str(&response.body).expect("JSON");
    (response.head.status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_key_may_do_what_its_scopes_say() {
    let serving = serving();
    let event = json!({"room": "a", "event": "e"});
    let requests = [
        ("POST", "/api/v1/publish", &event),
        ("GET", "/api/v1/rooms", &json!({})),
        ("PUT", "/api/v1/subscribers/worker", &json!({})),
        ("POST", "/api/v1/subscribers/worker/pull", &json!({})),
        ("POST", "/api/v1/users/1/disconnect", &json!({})),
        ("DELETE", "/api/v1/subscribers/worker", &json!({})),
    ];
    for (key, allowed) in [
        (PUBLISH, [true, false, false, false, false, false]),
        (&format!("{READ}xxx"), [true, true, false, false, false, false]),
        (&format!("{READ}xx"), [false, true, false, false, false, false]),
        (WORKER, [false, false, true, true, false, false]),
        (ADMIN, [true; 6]),
    ] {
        for ((method, target, body), allowed) in requests.into_iter().zip(allowed) {
            let expected = if allowed { (200, String::new()) } else { (403, "forbidden".into()) };
            assert_eq!(ask(&serving, key, method, target, body), expected, "{key} {method} {target}");
        }
    }
    serving.expect_log(
        "API request refused reason=\"the API key has no scope read\" address=127.0.0.1 path=\"/api/v1/rooms\"",
    );
    assert_eq!(serving.metric("stentor_api_keys_refused_total{reason=\"scope\"}"), 18);
    assert_eq!(serving.metric("stentor_api_requests_total{status=\"2xx\"}"), 12);
    assert_eq!(serving.metric("stentor_api_requests_total{status=\"4xx\"}"), 18);
}

#[test]
fn keys_tried_in_a_loop_are_counted_and_logged_once_a_second() {
    let serving = serving();
    let tries = 200;
    for nth in 0..tries {
        let guess = format!("{nth:016}");
        assert_eq!(ask(&serving, &guess, "GET", "/api/v1/rooms", &json!({})), (401, "unauthorized".into()));
    }
    assert_eq!(serving.metric("stentor_api_keys_refused_total{reason=\"wrong\"}"), tries);
    // The right key works meanwhile.
    assert_eq!(ask(&serving, ADMIN, "GET", "/api/v1/rooms", &json!({})).0, 200);
    let log = serving.stop();
    let lines = log.lines().filter(|line| line.contains("the API key is wrong")).count() as u64;
    assert!((1..tries / 4).contains(&lines), "{lines} lines");
    for key in [PUBLISH, READ, WORKER, ADMIN] {
        assert!(!log.contains(key), "{log}");
    }
}
