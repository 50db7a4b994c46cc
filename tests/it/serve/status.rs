//! `/healthz` and `/readyz`.

use std::collections::BTreeSet;

use stentor::NotAccepting;

use crate::support::{Hub, Process, Transport};

#[test]
fn a_hub_below_its_limits_is_healthy_and_ready() {
    let hub = Hub::plain();
    let mut http = hub.http();
    assert_eq!(http.get("/healthz").status_and_body(), (200, "ok"));
    assert_eq!(http.get("/readyz").status_and_body(), (200, "ok"));
}

#[test]
fn health_and_metrics_are_read_only() {
    let hub = Hub::plain();
    for target in ["/healthz", "/readyz", "/metrics"] {
        let response = hub.http().request("POST", target, &[], b"");
        assert_eq!((response.head.status, response.head.header("allow")), (405, Some("GET, HEAD")), "{target}");
    }
}

#[test]
fn a_full_hub_is_healthy_but_not_ready_until_a_client_leaves() {
    let hub = Hub::limited(|limits| limits.sessions.max = 1, |_| {});
    let mut http = hub.http();
    let mut client = hub.join(Transport::Websocket);
    assert_eq!(http.get("/healthz").status_and_body(), (200, "ok"));
    assert_eq!(http.get("/readyz").status_and_body(), (503, "server has as many sessions as sessions_max allows"));
    assert_eq!(hub.io.accepting(), Err(NotAccepting::Full));

    client.send("1");
    hub.wait_for_sessions(0);
    assert_eq!(http.get("/readyz").status_and_body(), (200, "ok"));
}

#[test]
fn a_closing_hub_is_not_ready_and_refuses_handshakes_with_503() {
    let hub = Hub::plain();
    let mut http = hub.http();
    actix::System::new().block_on(hub.io.close());
    assert_eq!(hub.io.accepting(), Err(NotAccepting::Closing));
    assert_eq!(http.get("/healthz").status_and_body(), (200, "ok"));
    assert_eq!(http.get("/readyz").status_and_body(), (503, "server is closing"));
    let handshake = http.get("/socket.io/?EIO=4&transport=polling");
    assert_eq!(handshake.status_and_body(), (503, r#"{"code":4,"message":"Server is closing"}"#));
}

#[test]
fn near_a_limit_a_server_is_not_ready_and_still_accepts() {
    let hub = Hub::limited(|limits| limits.sessions.max = 20, |_| {});
    let mut http = hub.http();
    let mut clients: Vec<_> = (0..18).map(|_| hub.join(Transport::Websocket)).collect();
    assert_eq!(http.get("/readyz").status_and_body(), (200, "ok"));
    clients.push(hub.join(Transport::Websocket));
    let expected = "server has nearly as many sessions as sessions_max allows";
    assert_eq!(http.get("/readyz").status_and_body(), (503, expected));
    assert_eq!(hub.io.accepting(), Err(NotAccepting::NearlyFull));
    clients.push(hub.join(Transport::Websocket));
    assert_eq!(hub.io.accepting(), Err(NotAccepting::Full));
}

#[test]
fn head_is_answered_like_get_without_a_body() {
    let process = Process::start(&["--api-key", "0123456789abcdef"]);
    let key = [("Authorization", "Bearer 0123456789abcdef")];
    for target in [
        "/",
        "/healthz",
        "/readyz",
        "/metrics",
        "/client/index.js",
        "/client/index.d.ts",
        "/api/v1/rooms",
        "/api/v1/rooms/lobby",
        "/api/v1/subscribers",
        "/nothing",
    ] {
        let headers = |method: &str| {
            let mut http = process.http();
            http.write_head(method, target, &key, None);
            let head = http.head();
            if method == "GET" {
                http.body(&head);
            }
            // Were there a body after the head of HEAD, this would not be a response.
            assert_eq!(http.get("/healthz").status_and_body(), (200, "ok"), "{method} {target}");
            let same = |(name, _): &(String, String)| !["date", "content-length"].contains(&name.as_str());
            let length = head.header("content-length").map(str::to_owned);
            let headers: BTreeSet<_> = head.headers.into_iter().filter(same).collect();
            (head.status, headers, length)
        };
        let (get, head) = (headers("GET"), headers("HEAD"));
        assert_eq!((get.0, get.1), (head.0, head.1), "{target}");
        // The text of metrics differs from one request to the next.
        assert!(get.2 == head.2 || target == "/metrics", "{target}: {:?} {:?}", get.2, head.2);
    }
}
