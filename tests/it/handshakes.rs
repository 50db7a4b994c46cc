//! Request headers of a handshake as the application reads them, and the reasons of refused
//! handshakes.

use stentor::Server;

use crate::support::{Client, Http, Hub, Process, Reporter, Reports, Transport, Websocket, report_channel};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

/// Chrome's usual headers.
const CHROME: [(&str, &str); 12] = [
    ("Accept", "*/*"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Accept-Language", "de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7"),
    ("Cache-Control", "no-cache"),
    ("Origin", "https://app.example.org"),
    ("Pragma", "no-cache"),
    ("Referer", "https://app.example.org/rooms/42"),
    ("Sec-Ch-Ua", "\"Chromium\";v=\"142\", \"Google Chrome\";v=\"142\", \"Not_A Brand\";v=\"99\""),
    ("Sec-Ch-Ua-Mobile", "?0"),
    ("Sec-Ch-Ua-Platform", "\"Linux\""),
    (
        "User-Agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    ),
    ("X-Forwarded-For", "203.0.113.7"),
];

/// A hub that reports these headers of each client, as text and as bytes.
fn hub(names: &'static [&'static str]) -> (Hub, Reports) {
    let (reporter, reports) = report_channel();
    (Hub::start(|builder| builder, |io| report_headers(io, &reporter, names)), reports)
}

fn report_headers(io: &Server, reporter: &Reporter, names: &'static [&'static str]) {
    let reporter = reporter.clone();
    io.of("/").on_connection(move |socket| {
        for name in names {
            let handshake = socket.handshake();
            let bytes = handshake.header_bytes(name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            reporter.report(format!("{name}: {:?} {bytes:?}", handshake.header(name)));
        }
        async { Ok(()) }
    });
}

/// Opens a session with these headers over both transports of both ports, and connects to `/`.
fn with_headers(hub: &Hub, headers: &[(&str, &str)], mut joined: impl FnMut()) {
    for address in [hub.address, hub.host.address] {
        let response = Http::connect(address).request("GET", POLLING, headers, b"");
        let sid = response.body.split('"').nth(3).expect("a sid");
        Http::connect(address).post(&format!("{POLLING}&sid={sid}"), "40");
        joined();
        let mut websocket = Websocket::try_upgrade(Http::connect(address), WEBSOCKET, headers).expect("an upgrade");
        websocket.send("40");
        joined();
    }
}

#[test]
fn authentication_headers_are_kept_whole() {
    let (hub, reports) = hub(&["cookie", "authorization", "origin", "x-forwarded-for", "user-agent"]);
    let cookie = format!("session={}", "c".repeat(439));
    let authorization = format!("Bearer {}", "t".repeat(250));
    let headers = [&CHROME[..], &[("Cookie", &*cookie), ("Authorization", &*authorization)]].concat();
    let said = |name: &str, value: &str| format!("{name}: {:?} {:?}", Some(value), Some(value));
    for _ in 0..10 {
        with_headers(&hub, &headers, || {
            assert_eq!(reports.next(), said("cookie", &cookie));
            assert_eq!(reports.next(), said("authorization", &authorization));
            assert_eq!(reports.next(), said("origin", CHROME[4].1));
            assert_eq!(reports.next(), said("x-forwarded-for", CHROME[11].1));
            assert_eq!(reports.next(), said("user-agent", CHROME[10].1));
        });
    }
}

#[test]
fn a_header_with_non_ascii_bytes_is_kept_as_bytes_and_as_latin_1() {
    let (hub, reports) = hub(&["cookie"]);
    with_headers(&hub, &[("Cookie", "name=José; session=good")], || {
        let text = "name=Jos\u{c3}\u{a9}; session=good";
        assert_eq!(reports.next(), format!("cookie: {:?} {:?}", Some(text), Some("name=José; session=good")));
    });
}

#[test]
fn long_headers_are_kept_and_longer_ones_are_refused_with_431() {
    let (hub, reports) = hub(&["cookie"]);
    let long = "c".repeat(15_000);
    with_headers(&hub, &[("Cookie", &long)], || {
        assert_eq!(reports.next(), format!("cookie: {:?} {:?}", Some(&long), Some(&long)));
    });
    let longer = "c".repeat(16_384);
    for address in [hub.address, hub.host.address] {
        let in_header = Http::connect(address).request("GET", POLLING, &[("Cookie", &longer)], b"");
        let in_query = Http::connect(address).get(&format!("{POLLING}&token={longer}"));
        for refused in [in_header, in_query] {
            assert_eq!(refused.head.status, 431);
            let expected = r#"{"code":3,"message":"Request head too large","detail":"head of 16"#;
            assert!(refused.body.starts_with(expected), "{}", refused.body);
            assert!(refused.body.ends_with(r#"bytes exceeds limit of 16384"}"#), "{}", refused.body);
        }
        let refused = Websocket::try_upgrade(Http::connect(address), WEBSOCKET, &[("Cookie", &longer)]).unwrap_err();
        let refused = String::from_utf8(refused).unwrap();
        assert!(refused.starts_with("HTTP/1.1 431 "), "{refused}");
        assert!(refused.ends_with("Request head too large"), "{refused}");
    }
    // Headers of a later request do not end an open session.
    let client = Client::open(hub.address, Transport::Polling);
    let target = client.poll_target();
    let response = hub.http().request("POST", &target, &[("Cookie", &longer)], b"40");
    assert_eq!(response.status_and_body(), (200, "ok"));
}

#[test]
fn a_refused_handshake_states_the_reason() {
    let hub = Hub::plain();
    for address in [hub.address, hub.host.address] {
        for (method, query, detail) in [
            (
                "GET",
                "EIO=3&transport=polling",
                "EIO=3: this server requires EIO=4 (Socket.IO client version 3 or later)",
            ),
            ("GET", "transport=polling", "no EIO: this server requires EIO=4 (Socket.IO client version 3 or later)"),
            ("GET", "EIO=4&transport=pigeon", "transport=pigeon: expected polling or websocket"),
            ("POST", "EIO=4&transport=polling", "POST: a handshake requires GET"),
            (
                "GET",
                "EIO=4&transport=websocket",
                "transport=websocket: no upgrade requested, or a proxy has removed the headers Upgrade and \
                 Connection",
            ),
        ] {
            let response = Http::connect(address).request(method, &format!("/socket.io/?{query}"), &[], b"");
            let expected = format!(r#","detail":"{detail}"}}"#);
            assert!(response.body.ends_with(&expected), "{query}: {}", response.body);
        }
    }
}

#[test]
fn refused_handshakes_are_warnings_with_a_rate_limit() {
    let process = Process::start(&["--log-level", "warn"]);
    for attempt in 0..50 {
        let get = |target: &str| process.http().request("GET", target, &[("Origin", "https://a.example")], b"");
        assert_eq!(get("/socket.io/?EIO=3&transport=polling").head.status, 400, "{attempt}");
        assert_eq!(get("/other.io/?EIO=4&transport=polling").head.status, 404, "{attempt}");
        assert_eq!(get("/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA").head.status, 400, "{attempt}");
    }
    let log = process.stop();
    let lines = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    let version = lines(r#"handshake refused reason="Unsupported protocol version" detail="EIO=3:"#);
    assert!((1..50).contains(&version), "{log}");
    let path =
        lines(r#"handshake refused reason="Not found" path="/other.io/" address=127.0.0.1 origin="https://a.example""#);
    assert!((1..50).contains(&path), "{log}");
    assert_eq!(lines("Session ID unknown"), 0, "{log}");
}
