//! Engine.IO over HTTP polling: the handshake, its errors, and requests in flight.

use std::net::SocketAddr;

use serde_json::Value;
use stentor::Limits;

use crate::support::{Client, Ended, Http, Hub, Reports, Transport, eventually, report_channel, report_disconnects};

/// A hub with a small `max_payload` that reports why sessions end.
fn hub() -> (Hub, Reports) {
    let (reporter, reports) = report_channel();
    (Hub::limited(|limits| limits.transport.payload_bytes_max = 1_000, |io| report_disconnects(io, &reporter)), reports)
}

/// A connected polling client and the target of its session.
fn joined(hub: &Hub) -> (Client, String) {
    let client = hub.join(Transport::Polling);
    let target = client.poll_target();
    (client, target)
}

#[test]
fn a_handshake_is_answered_by_an_open_packet_with_exactly_five_keys() {
    let hub = Hub::plain();
    let response = hub.http().get("/socket.io/?EIO=4&transport=polling");

    assert_eq!(response.head.status, 200, "{response:?}");
    assert_eq!(response.head.header("content-type"), Some("text/plain; charset=UTF-8"), "{response:?}");
    assert_eq!(response.head.header("cache-control"), Some("no-store"), "{response:?}");
    let open: Value = serde_json::from_str(response.body.strip_prefix('0').unwrap()).unwrap();
    let sid = open["sid"].as_str().unwrap();
    assert_eq!(sid.len(), 20, "{sid}");
    let expected = format!(
        r#"0{{"sid":"{sid}","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}}"#
    );
    assert_eq!(response.body, expected);
}

#[test]
fn the_open_packet_has_the_configured_limits() {
    let hub = Hub::limited(
        |limits| {
            *limits = Limits::with(|limits| {
                limits.sessions.ping_interval = std::time::Duration::from_millis(1_500);
                limits.sessions.ping_timeout = std::time::Duration::from_secs(3);
                limits.transport.payload_bytes_max = 77;
            })
        },
        |_| {},
    );
    let body = hub.http().get("/socket.io/?EIO=4&transport=polling").body;
    assert!(body.ends_with(r#""pingInterval":1500,"pingTimeout":3000,"maxPayload":77}"#), "{body}");
}

#[test]
fn the_path_matches_with_and_without_a_trailing_slash() {
    let hub = Hub::plain();
    for target in ["/socket.io/?EIO=4&transport=polling", "/socket.io?EIO=4&transport=polling"] {
        assert_eq!(hub.http().get(target).head.status, 200, "{target}");
    }
    for target in ["/", "/socket.i", "/socket.io/x?EIO=4&transport=polling", "/socket.iox?EIO=4&transport=polling"] {
        assert_eq!(hub.http().get(target).head.status, 404, "{target}");
    }
}

#[test]
fn the_path_is_configurable() {
    let hub = Hub::start(|builder| builder.path("/hub/"), |_| {});
    assert_eq!(hub.http().get("/hub/?EIO=4&transport=polling").head.status, 200);
    assert_eq!(hub.http().get("/hub?EIO=4&transport=polling").head.status, 200);
    assert_eq!(hub.http().get("/socket.io/?EIO=4&transport=polling").head.status, 404);
}

#[test]
fn the_cache_buster_t_is_ignored() {
    let hub = Hub::plain();
    let mut http = hub.http();
    assert_eq!(http.get("/socket.io/?EIO=4&transport=polling&t=PXYZ.0&t=again").head.status, 200);
    let (client, target) = joined(&hub);
    assert_eq!(http.post(&format!("{target}&t=1"), "3").status_and_body(), (200, "ok"));
    drop(client);
}

#[test]
fn errors_are_400_with_a_numeric_code_and_a_message() {
    let hub = Hub::plain();
    let mut http = hub.http();
    for (method, query, code, message) in [
        ("GET", "EIO=4", 0, "Transport unknown"),
        ("GET", "", 0, "Transport unknown"),
        ("GET", "EIO=4&transport=", 0, "Transport unknown"),
        ("GET", "EIO=4&transport=carrier-pigeon", 0, "Transport unknown"),
        ("GET", "EIO=4&transport=__proto__", 0, "Transport unknown"),
        ("GET", "EIO=4&transport=constructor", 0, "Transport unknown"),
        ("GET", "EIO=4&transport=webtransport", 0, "Transport unknown"),
        ("GET", "EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA", 1, "Session ID unknown"),
        ("GET", "EIO=4&transport=polling&sid=nope", 1, "Session ID unknown"),
        ("GET", "EIO=4&transport=polling&sid=", 1, "Session ID unknown"),
        ("GET", "EIO=4&transport=polling&sid=%00%ff", 1, "Session ID unknown"),
        ("GET", "EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA&sid=AAAAAAAAAAAAAAAAAAAB", 1, "Session ID unknown"),
        ("POST", "EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA", 1, "Session ID unknown"),
        ("POST", "EIO=4&transport=polling", 2, "Bad handshake method"),
        ("PUT", "EIO=4&transport=polling", 2, "Bad handshake method"),
        ("DELETE", "EIO=4&transport=polling", 2, "Bad handshake method"),
        ("OPTIONS", "EIO=4&transport=polling", 2, "Bad handshake method"),
        ("GET", "EIO=4&transport=websocket", 3, "Bad request"),
        ("GET", "transport=polling", 5, "Unsupported protocol version"),
        ("GET", "EIO=3&transport=polling", 5, "Unsupported protocol version"),
        ("GET", "EIO=5&transport=polling", 5, "Unsupported protocol version"),
        ("GET", "EIO=four&transport=polling", 5, "Unsupported protocol version"),
        // Checks run in this order: transport, session, method, version.
        ("POST", "EIO=3&transport=nope&sid=nope", 0, "Transport unknown"),
        ("POST", "EIO=3&transport=polling&sid=nope", 1, "Session ID unknown"),
        ("POST", "EIO=3&transport=polling", 2, "Bad handshake method"),
    ] {
        let response = http.request(method, &format!("/socket.io/?{query}"), &[], b"");
        // The messages of engine.io; those of a handshake may have a `detail` behind them.
        let expected = format!(r#"{{"code":{code},"message":"{message}""#);
        assert_eq!(response.head.status, 400, "{method} {query}");
        assert!(response.body.starts_with(&expected), "{method} {query}: {}", response.body);
        assert_eq!(response.head.header("content-type"), Some("application/json"), "{method} {query}");
    }
    assert_eq!(hub.io.sessions(), 0, "a refused request opens no session");
}

#[test]
fn a_request_that_does_not_fit_its_session_leaves_the_session_open() {
    let hub = Hub::plain();
    let (mut client, target) = joined(&hub);
    let sid = client.sid.clone();
    for query in ["EIO=3&transport=polling", "transport=polling", "EIO=4&transport=websocket"] {
        let response = hub.http().get(&format!("/socket.io/?{query}&sid={sid}"));
        assert_eq!(response.status_and_body(), (400, r#"{"code":3,"message":"Bad request"}"#), "{query}");
    }
    for method in ["PUT", "DELETE", "PATCH"] {
        assert_eq!(hub.http().request(method, &target, &[], b"").head.status, 400, "{method}");
    }
    client.expect_echo();
}

#[test]
fn a_head_request_is_refused_without_a_body() {
    let hub = Hub::plain();
    let mut client = hub.join(Transport::Polling);
    for target in ["/socket.io/?EIO=4&transport=polling", "/socket.io/?EIO=4&transport=nope", &client.poll_target()] {
        let mut http = hub.http();
        http.write_head("HEAD", target, &[("Connection", "close")], None);
        let answer = String::from_utf8(http.rest()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{target}: {answer:?}");
        assert!(answer.ends_with("\r\n\r\n"), "{target}: {answer:?}");
    }
    client.expect_echo();
}

/// The whole response to one request, up to the end of the connection.
fn request_once(address: SocketAddr, request: &str) -> String {
    let mut http = Http::connect(address);
    http.write(request.as_bytes());
    String::from_utf8(http.rest()).unwrap()
}

/// The body of a response without chunks.
fn body(answer: &str) -> &str {
    assert!(answer.starts_with("HTTP/1."), "{answer:?}");
    assert!(answer.contains(" 200 OK\r\n"), "{answer:?}");
    assert!(!answer.contains("chunked"), "{answer:?}");
    answer.split_once("\r\n\r\n").expect("complete headers").1
}

#[test]
fn http_1_0_clients_are_served() {
    let hub = Hub::plain();
    for address in [hub.address, hub.host.address] {
        let open = request_once(address, "GET /socket.io/?EIO=4&transport=polling HTTP/1.0\r\n\r\n");
        let sid = body(&open).split('"').nth(3).expect("a sid").to_owned();
        let target = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
        let post = format!("POST {target} HTTP/1.0\r\nContent-Length: 2\r\n\r\n40");
        assert_eq!(body(&request_once(address, &post)), "ok");
        let poll = format!("GET {target} HTTP/1.0\r\n\r\n");
        assert!(body(&request_once(address, &poll)).starts_with(r#"40{"sid":"#));

        // A waiting poll is answered with a length too: HTTP/1.0 has no chunks.
        for connection in ["", "Connection: keep-alive\r\n"] {
            let mut waits = Http::connect(address);
            waits.write(format!("GET {target} HTTP/1.0\r\n{connection}\r\n").as_bytes());
            assert_eq!(Http::connect(address).post(&target, r#"421["echo"]"#).status_and_body(), (200, "ok"));
            assert_eq!(waits.response().status_and_body(), (200, "431[]"), "{connection}");
        }
    }
}

/// python-socketio's AsyncClient (aiohttp) does not recover from response headers whose body never
/// arrives.
#[test]
fn a_waiting_poll_is_answered_with_headers_and_body_together() {
    let hub = Hub::plain();
    for transport in [Transport::Polling, Transport::Pump] {
        let address = if transport.is_hosted() { hub.host.address } else { hub.address };
        let mut client = Client::open(address, Transport::Polling);
        client.connect("");
        let target = client.poll_target();
        let (mut gets, mut posts) = client.connections();
        // Nothing is sent while it waits: `start_poll` checks that.
        gets.start_poll(&target);
        assert_eq!(posts.post(&target, r#"421["echo"]"#).status_and_body(), (200, "ok"));
        let head = gets.head();
        assert_eq!(head.header("content-length"), Some("5"), "{head:?}");
        assert_eq!(gets.body(&head), "431[]");
    }
}

#[test]
fn connection_close_is_honoured() {
    let hub = Hub::plain();
    let once = |method: &str, target: &str, body: &str| {
        let mut http = hub.http();
        http.write_head(method, target, &[("Connection", "close")], Some(body.len()));
        http.write(body.as_bytes());
        let response = http.response();
        assert_eq!(response.head.header("connection"), Some("close"), "{response:?}");
        assert_eq!(http.rest(), b"", "the server closes the connection");
        response.body
    };
    let open = once("GET", "/socket.io/?EIO=4&transport=polling", "");
    let sid = open.split('"').nth(3).expect("a sid");
    let target = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    assert_eq!(once("POST", &target, "40"), "ok");
    assert!(once("GET", &target, "").starts_with(r#"40{"sid":"#));

    let mut waits = hub.http();
    waits.write_head("GET", &target, &[("Connection", "close")], None);
    assert_eq!(once("POST", &target, r#"421["echo"]"#), "ok");
    assert_eq!(waits.response().status_and_body(), (200, "431[]"));
    assert_eq!(waits.rest(), b"");
}

#[test]
fn binary_is_base64_in_a_poll() {
    let hub = Hub::plain();
    let (_client, target) = joined(&hub);
    let packets = "451-7[\"echo\",{\"_placeholder\":true,\"num\":0}]\x1ebBAD/";
    assert_eq!(hub.http().post(&target, packets).status_and_body(), (200, "ok"));
    let answer = "461-7[{\"_placeholder\":true,\"num\":0}]\x1ebBAD/";
    assert_eq!(hub.http().get(&target).status_and_body(), (200, answer));
}

#[test]
fn a_post_is_answered_ok() {
    let hub = Hub::plain();
    let (client, target) = joined(&hub);
    let (_gets, mut posts) = client.connections();
    let response = posts.post(&target, "3");
    assert_eq!(response.status_and_body(), (200, "ok"));
    assert_eq!(response.head.header("content-type"), Some("text/html"));
    assert_eq!(response.head.header("cache-control"), Some("no-store"));
    assert_eq!(posts.post(&target, "42[\"a\"]\x1e42[\"b\"]").status_and_body(), (200, "ok"));
}

#[test]
fn a_body_over_max_payload_is_refused_and_the_session_stays_open() {
    let (hub, _reports) = hub();
    let (mut client, target) = joined(&hub);
    let padded = |bytes: usize| {
        let shell = r#"427["echo",""]"#.len();
        format!(r#"427["echo","{}"]"#, "x".repeat(bytes - shell))
    };
    client.send(&padded(1_000));
    assert!(client.recv_text().starts_with(r#"437["xxx"#));

    let response = hub.http().post(&target, padded(1_001));
    assert_eq!(response.head.status, 413, "{response:?}");
    client.expect_echo();
}

#[test]
fn a_chunked_body_over_max_payload_is_refused() {
    let (hub, _reports) = hub();
    let (mut client, target) = joined(&hub);
    let mut http = hub.http();
    http.write_head("POST", &target, &[("Transfer-Encoding", "chunked")], None);
    for _ in 0..11 {
        http.write(format!("64\r\n{}\r\n", "4".repeat(100)).as_bytes());
    }
    assert_eq!(http.head().status, 413);
    client.expect_echo();
}

#[test]
fn a_post_of_octet_stream_is_refused_and_ends_the_session() {
    let (hub, reports) = hub();
    let (mut client, target) = joined(&hub);
    let response = hub.http().request("POST", &target, &[("Content-Type", "application/octet-stream")], b"3");
    assert_eq!(response.head.status, 400, "{response:?}");
    assert_eq!(reports.next(), "transport error");
    assert_eq!(client.expect_end(), Ended::UnknownSession);
}

#[test]
fn a_second_get_is_refused_and_closes_the_session_and_the_first_get() {
    let (hub, reports) = hub();
    let (client, target) = joined(&hub);
    let (mut first, mut second) = client.connections();
    first.start_poll(&target);

    assert_eq!(second.get(&target).head.status, 400);
    assert_eq!(first.response().body, "1");
    assert_eq!(reports.next(), "transport error");
    assert_eq!(first.get(&target).status_and_body(), (400, r#"{"code":1,"message":"Session ID unknown"}"#));
}

#[test]
fn a_second_post_is_refused_and_ends_the_session() {
    let (hub, reports) = hub();
    let (client, target) = joined(&hub);
    let (mut gets, mut first) = client.connections();
    gets.start_poll(&target);
    first.write_head("POST", &target, &[("Expect", "100-continue")], Some(4));
    assert_eq!(first.head().status, 100, "from here on the first POST is being read");

    assert_eq!(hub.http().post(&target, "3").head.status, 400);
    assert_eq!(gets.response().body, "1");
    assert_eq!(reports.next(), "transport error");
    first.write(b"3\x1e3\x1e");
    assert_eq!(first.response().head.status, 400);
}

#[test]
fn a_close_packet_answers_the_pending_poll_with_a_noop() {
    let (hub, reports) = hub();
    let (client, target) = joined(&hub);
    let (mut gets, mut posts) = client.connections();
    gets.start_poll(&target);

    assert_eq!(posts.post(&target, "1").status_and_body(), (200, "ok"));
    assert_eq!(gets.response().body, "6");
    assert_eq!(reports.next(), "transport close");
    assert_eq!(posts.post(&target, "3").status_and_body(), (400, r#"{"code":1,"message":"Session ID unknown"}"#));
}

#[test]
fn an_invalid_payload_is_a_parse_error_and_closes_the_pending_poll() {
    let (hub, reports) = hub();
    for body in [
        &b""[..],
        b"\x1e",
        b"\x1e\x1e\x1e",
        b"3\x1e",
        b"\x1e3",
        b"x",
        b"7",
        b"-1",
        b"4\xff\xfe",
        b"b!!!",
        b"bAQI",
        b"{\"code\":1}",
        "4ä\x1eü".as_bytes(),
    ] {
        let (client, target) = joined(&hub);
        let (mut gets, mut posts) = client.connections();
        gets.start_poll(&target);
        let response = posts.post(&target, body);
        assert!([200, 400].contains(&response.head.status), "{:?}: {response:?}", String::from_utf8_lossy(body));
        assert_eq!(gets.response().body, "1", "{:?}", String::from_utf8_lossy(body));
        assert_eq!(reports.next(), "parse error", "{:?}", String::from_utf8_lossy(body));
    }
    hub.expect_healthy();
}

#[test]
fn a_ping_from_a_client_ends_the_session() {
    let (hub, reports) = hub();
    let (mut client, _) = joined(&hub);
    client.send("2");
    assert_eq!(reports.next(), "transport error");
    assert_eq!(client.expect_end(), Ended::UnknownSession);
}

#[test]
fn a_poll_gets_all_queued_packets_in_order() {
    let hub = Hub::plain();
    let (client, target) = joined(&hub);
    let (mut gets, mut posts) = client.connections();
    posts.post(&target, "421[\"echo\",1]\x1e422[\"echo\",2]");
    let mut body = String::new();
    // The acks come from two handlers, so they may arrive in one poll or in two.
    eventually("both acks", || {
        body += &gets.get(&target).body;
        body += "\x1e";
        body.matches('\x1e').count() == 2
    });
    assert_eq!(body, "431[1]\x1e432[2]\x1e");
}

#[test]
fn packets_over_the_poll_limit_come_in_several_polls() {
    let hub = Hub::limited(|limits| limits.transport.poll_bytes_max = 30, |_| {});
    let mut client = hub.join(Transport::Polling);
    let words = ["a".repeat(20), "b".repeat(20), "c".repeat(40)];
    for word in &words {
        client.send(&format!(r#"421["echo","{word}"]"#));
    }
    let target = client.poll_target();
    let (mut gets, _posts) = client.connections();
    for word in &words {
        assert_eq!(gets.get(&target).body, format!(r#"431["{word}"]"#));
    }
}

#[test]
fn requests_on_one_connection_may_be_pipelined() {
    let hub = Hub::plain();
    let mut http = hub.http();
    let request = b"GET /socket.io/?EIO=4&transport=nope HTTP/1.1\r\nHost: hub\r\n\r\n";
    http.write(&[&request[..], request].concat());
    assert_eq!(http.response().head.status, 400);
    assert_eq!(http.response().head.status, 400);
}
