//! Clients that hold HTTP connections without using them: each ends at a deadline, and operators
//! are served meanwhile.

use std::time::Duration;

use stentor::{Limits, NotAccepting};

use crate::support::{
    DEADLINE, Frame, Http, Hub, Transport, Websocket, eventually, write_until_blocked, write_until_closed,
};

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: hub\r\n\r\n";
const HALF: Duration = Duration::from_millis(500);

/// A hub that allows one HTTP connection; the next connection is accepted when it ends.
fn hub(change: impl FnOnce(&mut Limits)) -> Hub {
    let small = |limits: &mut Limits| {
        limits.http.connections_max = 1;
        limits.transport.close_linger = Duration::from_millis(100);
        change(limits);
    };
    Hub::limited(small, |_| {})
}

fn expect_closed(hub: &Hub) {
    eventually("the connection is closed", || hub.io.accepting().is_ok());
}

fn expect_open(hub: &Hub) {
    eventually("the connection is served", || hub.io.accepting() == Err(NotAccepting::HttpFull));
}

#[test]
fn request_headers_after_a_request_must_arrive_in_time() {
    let hub = hub(|limits| (limits.http.head_timeout, limits.http.keep_alive) = (HALF, 4 * HALF));
    for begun in [&b"G"[..], b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nX-A: "] {
        let mut http = hub.http();
        http.write(HEALTH);
        assert_eq!(http.response().status_and_body(), (200, "ok"));
        http.write(begun);
        assert_eq!(http.rest(), b"");
        expect_closed(&hub);
        // The bytes come together with the request before, so the connection counts as idle.
        let mut http = hub.http();
        http.write(&[HEALTH, begun].concat());
        assert_eq!(http.response().status_and_body(), (200, "ok"));
        assert_eq!(http.rest(), b"");
        expect_closed(&hub);
    }
}

#[test]
fn connections_that_the_server_closes_are_counted_by_reason() {
    let hub = Hub::limited(|limits| (limits.http.head_timeout, limits.http.keep_alive) = (HALF, HALF), |_| {});
    for (reason, begun) in [("head", &b"G"[..]), ("idle", b""), ("malformed", b"\0\r\n\r\n")] {
        let counted = format!("stentor_http_connections_closed_total{{reason=\"{reason}\"}} 1\n");
        assert!(!hub.io.metrics().contains(&counted), "{reason}");
        let mut http = hub.http();
        assert_eq!(http.get("/healthz").status_and_body(), (200, "ok"));
        http.write(begun);
        eventually(reason, || hub.io.metrics().contains(&counted));
    }
}

#[test]
fn request_headers_sent_byte_by_byte_must_arrive_in_time() {
    let hub = hub(|limits| limits.http.head_timeout = HALF);
    let mut pace = hub.join(Transport::Websocket);
    let mut http = hub.http();
    http.write(HEALTH);
    assert_eq!(http.response().status_and_body(), (200, "ok"));
    let mut drip = http.writer();
    drip.write(b"GET / HTTP/1.1\r\nX-Drip: ");
    let dripping = std::thread::spawn(move || write_until_closed(&mut drip, b"x", &mut pace));
    assert_eq!(http.rest(), b"");
    dripping.join().unwrap();
}

#[test]
fn a_connection_without_a_further_request_ends_after_keep_alive() {
    let hub = hub(|limits| limits.http.keep_alive = HALF);
    let mut http = hub.http();
    assert_eq!(http.get("/healthz").status_and_body(), (200, "ok"));
    assert_eq!(http.rest(), b"");
    expect_closed(&hub);
}

#[test]
fn short_pings_do_not_close_busy_connections() {
    let hub = Hub::limited(
        |limits| {
            (limits.sessions.ping_interval, limits.sessions.ping_timeout) =
                (Duration::from_millis(100), Duration::from_secs(5))
        },
        |_| {},
    );
    let mut pinged = hub.join(Transport::Websocket);
    pinged.is_silent = true;
    let mut http = hub.http();
    for _ in 0..5 {
        for _ in 0..2 {
            pinged.expect("2");
            pinged.send("3");
        }
        assert_eq!(http.get("/healthz").status_and_body(), (200, "ok"));
    }
}

#[test]
fn bodies_that_no_handler_reads_must_end_in_time() {
    let hub = hub(|limits| limits.http.body_timeout = HALF);
    for target in ["/", "/healthz", "/api/v1/publish", "/api/v1/nothing", "/nothing"] {
        for begun in ["", "5\r\nhello\r\n", "5;ext=", "0\r\nX-Trailer: "] {
            let mut http = hub.http();
            http.write_head("POST", target, &[("Transfer-Encoding", "chunked")], None);
            http.write(begun.as_bytes());
            expect_open(&hub);
            expect_closed(&hub);
            http.rest();
        }
    }
}

#[test]
fn a_body_sent_in_small_pieces_must_end_in_time() {
    let hub = hub(|limits| limits.http.body_timeout = HALF);
    for (target, bytes) in [("/", &b"1\r\nx\r\n"[..]), ("/api/v1/publish", b"1;a=b\r\nx\r\n")] {
        let mut pace = hub.join(Transport::Websocket);
        let mut http = hub.http();
        http.write_head("POST", target, &[("Transfer-Encoding", "chunked")], None);
        let mut drip = http.writer();
        let dripping = std::thread::spawn(move || write_until_closed(&mut drip, bytes, &mut pace));
        http.rest();
        dripping.join().unwrap();
        expect_closed(&hub);
    }
}

#[test]
fn an_unread_response_ends_its_connection() {
    let hub = hub(|limits| limits.http.response_timeout = HALF);
    let mut http = hub.http();
    let requests = b"GET /metrics HTTP/1.1\r\nHost: hub\r\n\r\n".repeat(100);
    // Fills the connection until the server reads no further request, because its responses are not
    // read.
    write_until_blocked(|bytes| http.try_write(bytes), &requests, 8 << 20);
    expect_closed(&hub);
    hub.http().get("/healthz");
    drop(http);
}

#[test]
fn a_poll_may_wait_longer_than_every_http_deadline() {
    let hub = Hub::limited(
        |limits| {
            let each = [&mut limits.http.head_timeout, &mut limits.http.keep_alive, &mut limits.http.response_timeout];
            each.into_iter().for_each(|limit| *limit = Duration::from_millis(100));
            (limits.http.body_timeout, limits.transport.close_linger) =
                (Duration::from_millis(100), Duration::from_millis(100));
            limits.sessions.ping_interval = Duration::from_secs(1);
        },
        |_| {},
    );
    let mut client = hub.join(Transport::Polling);
    client.is_silent = true;
    client.expect("2");
}

#[test]
fn operators_are_served_while_all_connections_are_held() {
    let hub = Hub::limited(|limits| limits.http.connections_max = 20, |_| {});
    let mut held: Vec<_> = (0..20)
        .map(|_| {
            let mut http = hub.http();
            http.write(HEALTH);
            assert_eq!(http.response().status_and_body(), (200, "ok"));
            // The next request's headers are incomplete until their deadline.
            http.write(b"G");
            http
        })
        .collect();
    expect_open(&hub);
    let once = |target: &str, headers: &[(&str, &str)]| hub.http().request("GET", target, headers, b"");
    for _ in 0..20 {
        let health = once("/healthz", &[]);
        assert_eq!(health.status_and_body(), (200, "ok"));
        assert!(once("/metrics", &[]).head.status == 200);
    }
    let rooms = once("/api/v1/rooms", &[("Authorization", "Bearer 0123456789abcdef")]);
    assert_eq!(rooms.head.status, 200, "{rooms:?}");
    // New connections are served as soon as one has been held for a second.
    eventually("a new client is served", || once("/socket.io/?EIO=4&transport=polling", &[]).head.status == 200);
    let closed = held.iter_mut().filter_map(|http| http.has_response().then_some(())).count();
    assert!((1..20).contains(&closed), "{closed} were closed");
}

#[test]
fn a_request_without_a_free_connection_is_refused() {
    let hub = Hub::limited(|limits| limits.http.connections_max = 1, |_| {});
    let mut client = hub.join(Transport::Websocket);
    // A poll may wait as long as its session allows, and is not closed in favour of others.
    let mut waiting = hub.http();
    let open = waiting.get("/socket.io/?EIO=4&transport=polling").body;
    let target = format!("/socket.io/?EIO=4&transport=polling&sid={}", open.split('"').nth(3).unwrap());
    waiting.write_head("GET", &target, &[], None);
    expect_open(&hub);
    eventually("the reserve refuses", || {
        let refused = hub.http().get("/");
        refused.head.status == 503
            && refused.head.header("connection") == Some("close")
            && refused.body.contains("http_connections_max")
    });
    assert_eq!(hub.http().get("/healthz").status_and_body(), (200, "ok"));
    let ready = hub.http().get("/readyz");
    assert_eq!(ready.status_and_body(), (503, "server has as many HTTP connections as http_connections_max allows"));
    let mut websocket =
        Websocket::try_upgrade(hub.http(), "/socket.io/?EIO=4&transport=websocket", &[]).expect("a websocket");
    assert!(matches!(websocket.recv(), Frame::Whole(0x81, _)));
    client.expect_echo();
}

#[test]
fn idle_connections_do_not_keep_the_reserve() {
    let hub = Hub::limited(|limits| (limits.http.connections_max, limits.http.reserve) = (1, 2), |_| {});
    let silent: Vec<Http> = (0..6).map(|_| hub.http()).collect();
    let mut operator = hub.http();
    operator.write_head("GET", "/healthz", &[], None);
    // Within the general deadline; idle connections alone would delay it longer.
    assert_eq!(operator.response().status_and_body(), (200, "ok"), "{DEADLINE:?}");
    drop(silent);
}
