//! Requests with endless, huge or malicious headers, and session ids that clients guess.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::support::{Frame, Http, Hub, Transport, Websocket, write_until_closed};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

/// Checks that the hub refuses or serves the request immediately, and closes what it refuses.
fn response_to(mut http: Http, bytes: &[u8]) -> String {
    // The hub may refuse and close before the request is complete.
    let _ = http.try_write(bytes);
    String::from_utf8_lossy(&http.rest()).into_owned()
}

#[test]
fn oversized_request_headers_are_refused_and_the_connection_closed() {
    let hub = Hub::plain();
    let line = format!("GET {POLLING} HTTP/1.1\r\nHost: hub\r\n");
    let many: String = (0..50_000).map(|number| format!("X-{number}: {number}\r\n")).collect();
    for head in [
        format!("{line}{many}\r\n"),
        format!("{line}X-Huge: {}\r\n\r\n", "x".repeat(4 << 20)),
        format!("GET {POLLING}&x={} HTTP/1.1\r\nHost: hub\r\n\r\n", "x".repeat(4 << 20)),
        format!("{} {POLLING} HTTP/1.1\r\nHost: hub\r\n\r\n", "G".repeat(4 << 20)),
        format!("{line}{}: x\r\n\r\n", "X".repeat(4 << 20)),
        format!("{line}Cookie: {}\r\n\r\n", "a=b; ".repeat(1 << 20)),
    ] {
        let answer = response_to(hub.http(), head.as_bytes());
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{}: {answer}", &head[..40]);
    }
    hub.expect_healthy();
}

#[test]
fn request_headers_that_do_not_arrive_in_time_end_the_connection() {
    let hub = Hub::limited(|limits| limits.http.head_timeout = Duration::from_secs(1), |_| {});
    let parts = ["", "G", "GET / HTTP/1.1\r\nHost: hub\r\n", "GET / HTTP/1.1\r\nX-Unfinished: "];
    let waiting = parts.map(|part| {
        let mut http = hub.http();
        http.write(part.as_bytes());
        (part, http)
    });
    for (part, http) in waiting {
        let answer = String::from_utf8(http.rest()).unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{part:?}: {answer}");
    }
    // A slow client sends every byte in time, but not all headers.
    let http = hub.http();
    let mut drip = http.writer();
    drip.write(b"GET / HTTP/1.1\r\nX-Drip: ");
    let mut other = hub.join(Transport::Websocket);
    let dripping = std::thread::spawn(move || write_until_closed(&mut drip, b"x", &mut other));
    let answer = String::from_utf8(http.rest()).unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    dripping.join().unwrap();
    hub.expect_healthy();
}

#[test]
fn huge_or_backtracking_websocket_headers_are_answered_immediately() {
    let hub = Hub::plain();
    for name in ["Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Sec-WebSocket-Key", "Sec-WebSocket-Version"] {
        for (value, huge) in [
            // Regular expressions in other servers ran for minutes on these.
            (format!("a{}b", " ".repeat(60_000)), false),
            (",".repeat(60_000), false),
            (format!("a;b=\"{}", "\\\"".repeat(30_000)), false),
            (format!("permessage-deflate{}", "; client_max_window_bits=15".repeat(2_000)), false),
            ("x, ".repeat(20_000), false),
            ("x".repeat(4 << 20), true),
            ("x, ".repeat(1 << 20), true),
        ] {
            let begun = Instant::now();
            if huge {
                let usual = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
                let head = format!("GET {WEBSOCKET} HTTP/1.1\r\nHost: hub\r\n{usual}{name}: {value}\r\n\r\n");
                let answer = response_to(hub.http(), head.as_bytes());
                assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{name}: {answer}");
            } else if let Ok(mut websocket) = Websocket::try_upgrade(hub.http(), WEBSOCKET, &[(name, &value)]) {
                // Neither is used; the session is an ordinary one.
                assert!(matches!(websocket.recv(), Frame::Whole(0x81, open) if open.starts_with(b"0{")));
            }
            // No measurement: only the general deadline, which a quadratic parser would miss.
            assert!(begun.elapsed() < Duration::from_secs(20), "{name}: {}", &value[..10]);
        }
    }
    hub.expect_healthy();
}

#[test]
fn session_ids_are_random_and_independent() {
    let hub = Hub::plain();
    let mut ids = Vec::new();
    for number in 0..200 {
        let mut client = hub.open(if number % 2 == 0 { Transport::Polling } else { Transport::Websocket });
        ids.push(client.sid.clone());
        for _ in 0..2 {
            let reply = client.connect("");
            ids.push(reply["sid"].as_str().unwrap().to_owned());
            client.send("41");
        }
        client.send("1");
    }
    assert!(
        ids.iter()
            .all(|id| id.len() == 20 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)))
    );
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 600, "all are distinct");
    // 120 bits: in 600 ids each of the 20 characters takes nearly all of its 64 values, and rarely
    // repeats that of the id before (about 9 times by chance).
    for place in 0..20 {
        let column: Vec<_> = ids.iter().map(|id| id.as_bytes()[place]).collect();
        let values = column.iter().collect::<HashSet<_>>().len();
        let repeated = column.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!(
            values > 50 && repeated < 60,
            "character {place}: {values} values, {repeated} times equal to the id before"
        );
    }
    hub.expect_healthy();
}

#[test]
fn an_id_that_differs_in_one_character_is_unknown() {
    let hub = Hub::plain();
    let mut client = hub.join(Transport::Polling);
    let sid = client.sid.clone();
    let unknown = (400, r#"{"code":1,"message":"Session ID unknown"}"#);
    let mut http = hub.http();
    for place in 0..20 {
        let mut near = sid.clone().into_bytes();
        near[place] = if near[place] == b'A' { b'B' } else { b'A' };
        let near = String::from_utf8(near).unwrap();
        assert_eq!(http.get(&format!("{POLLING}&sid={near}")).status_and_body(), unknown);
        assert_eq!(hub.http().post(&format!("{POLLING}&sid={near}"), "1").status_and_body(), unknown);
    }
    for wrong in [&sid[..19], &format!("{sid}A"), &sid.to_lowercase(), &format!("%20{sid}"), &"A".repeat(10_000)] {
        if wrong != sid {
            assert_eq!(http.get(&format!("{POLLING}&sid={wrong}")).status_and_body(), unknown, "{}", &wrong[..19]);
        }
    }
    client.expect_echo();
    client.send("1");
    hub.expect_healthy();
}
