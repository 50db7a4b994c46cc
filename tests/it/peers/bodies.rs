//! Requests that are too large, too slow, or not HTTP.

use std::time::Duration;

use stentor::Limits;

use crate::support::{
    Ended, Hub, Packet, Reports, Transport, on_every_transport, report_channel, report_disconnects,
    write_until_blocked, write_until_closed,
};

fn hub(change: impl FnOnce(&mut Limits)) -> (Hub, Reports) {
    let (reporter, reports) = report_channel();
    (Hub::limited(change, |io| report_disconnects(io, &reporter)), reports)
}

#[test]
fn a_body_of_100_mb_is_refused_before_it_is_complete() {
    let (hub, _reports) = hub(|_| {});
    let mut client = hub.join(Transport::Polling);
    let target = client.poll_target();
    let mut http = hub.http();
    http.write_head("POST", &target, &[], Some(100 << 20));
    http.write(&[b'4'; 1_000_001]);
    assert_eq!(http.head().status, 413);
    client.expect_echo();
    client.send("1");
    hub.expect_healthy();
}

#[test]
fn an_endless_chunked_body_is_refused_and_its_connection_closed() {
    // Regression: the rest of the body was read and dropped for as long as it arrived, without any
    // deadline.
    let (hub, reports) = hub(|limits| limits.transport.close_linger = Duration::from_millis(50));
    let chunk = format!("10000\r\n{}\r\n", "4".repeat(0x10000));
    let mut client = hub.join(Transport::Polling);
    let known = client.poll_target();
    let unknown = "/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA";
    for (method, target, kind, status) in [
        ("POST", known.as_str(), "text/plain", 413),
        ("POST", unknown, "text/plain", 400),
        ("GET", unknown, "text/plain", 400),
        ("PUT", known.as_str(), "text/plain", 400),
        ("POST", known.as_str(), "application/octet-stream", 400),
    ] {
        let mut http = hub.http();
        http.write_head(method, target, &[("Transfer-Encoding", "chunked"), ("Content-Type", kind)], None);
        let mut rest = http.writer();
        let chunk = chunk.clone();
        let pouring = std::thread::spawn(move || {
            write_until_blocked(|bytes| rest.try_write(bytes), chunk.as_bytes(), usize::MAX)
        });
        let head = http.head();
        assert_eq!((head.status, head.header("connection")), (status, Some("close")), "{method} {target}");
        assert!(pouring.join().is_ok());
        if kind == "text/plain" {
            client.expect_echo();
        }
    }
    assert_eq!(reports.next(), "transport error");
    hub.expect_healthy();
}

#[test]
fn a_body_that_arrives_too_slowly_ends_its_session() {
    let (hub, reports) = hub(|limits| limits.http.body_timeout = Duration::from_millis(200));
    let client = hub.join(Transport::Polling);
    let target = client.poll_target();
    let mut slow = hub.http();
    slow.write_head("POST", &target, &[], Some(1_000));
    slow.write(b"42");
    assert_eq!(slow.head().status, 400);
    assert_eq!(reports.next(), "transport error");
    drop(client);
    hub.expect_healthy();
}

#[test]
fn a_body_sent_in_small_chunks_too_slowly_ends_its_session() {
    let (hub, reports) = hub(|limits| limits.http.body_timeout = Duration::from_millis(200));
    let client = hub.join(Transport::Polling);
    let target = client.poll_target();
    let mut slow = hub.http();
    slow.write_head("POST", &target, &[("Transfer-Encoding", "chunked")], None);
    // Each chunk arrives in time, the whole body never does.
    let mut drip = slow.writer();
    let mut other = hub.join(Transport::Websocket);
    let dripping = std::thread::spawn(move || write_until_closed(&mut drip, b"1\r\n4\r\n", &mut other));
    assert_eq!(slow.head().status, 400);
    assert_eq!(reports.next(), "transport error");
    slow.send_fin();
    dripping.join().unwrap();
    drop(client);
    hub.expect_healthy();
}

#[test]
fn a_payload_of_only_separators_is_a_parse_error() {
    let (hub, reports) = hub(|_| {});
    for count in [1, 2, 1_000, 1_000_000] {
        let client = hub.join(Transport::Polling);
        hub.http().post(&client.poll_target(), "\x1e".repeat(count));
        reports.expect("parse error", count);
    }
    hub.expect_healthy();
}

#[test]
fn json_that_nests_too_deep_is_dropped_with_its_packet() {
    let (hub, reports) = hub(|_| {});
    let deep =
        |open: &str, close: &str, depth: usize| format!(r#"42["a",{}0{}]"#, open.repeat(depth), close.repeat(depth));
    on_every_transport(|transport| {
        for packet in [
            deep("[", "]", 200),
            deep("[", "]", 100_000),
            deep(r#"{"a":"#, "}", 100_000),
            format!(r#"42["a",{}"#, "[".repeat(500_000)),
            format!("431{}", "[".repeat(500_000)),
        ] {
            let mut client = hub.join(transport);
            client.send(&packet);
            client.expect_echo();
            client.send("1");
            reports.expect("transport close", &packet[..20]);
        }
        // Moderate nesting is accepted.
        let mut client = hub.join(transport);
        client.send(&format!("40/other,{}", r#"{"a":"#.repeat(100_000)));
        client.expect(r#"44/other,{"message":"data nests deeper than limit of 127"}"#);
        client.send(&format!(r#"421["echo",{}{}]"#, "[".repeat(100), "]".repeat(100)));
        client.expect(&format!("431[{}{}]", "[".repeat(100), "]".repeat(100)));
        client.send("1");
        reports.expect("transport close", transport);
    });
    hub.expect_healthy();
}

#[test]
fn credentials_of_a_megabyte_are_refused_without_other_effect() {
    let (hub, _reports) = hub(|_| {});
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        client.send(&format!(r#"40{{"token":"{}"}}"#, "x".repeat(900_000)));
        client.expect(r#"44{"message":"Auth is too large"}"#);
        client.connect("");
        client.expect_echo();
        client.send("1");
    });
    hub.expect_healthy();
}

#[test]
fn endless_request_headers_end_the_connection() {
    let (hub, _reports) = hub(|_| {});
    let mut http = hub.http();
    http.write(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: hub\r\n");
    let header = format!("X-Flood: {}\r\n", "x".repeat(1_000));
    let mut written = 0;
    while http.try_write(header.as_bytes()).is_ok() {
        written += header.len();
        assert!(written < 64 << 20, "the hub accepts headers of any size");
    }
    drop(http);
    hub.expect_healthy();
}

#[test]
fn input_that_is_not_http_ends_the_connection() {
    let (hub, _reports) = hub(|_| {});
    for bytes in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"\0\0\0\0\r\n\r\n", b"hello\r\n\r\n"] {
        let mut http = hub.http();
        http.write(bytes);
        let answer = String::from_utf8_lossy(&http.rest()).into_owned();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{bytes:?}: {answer:?}");
    }
    hub.expect_healthy();
}

#[test]
fn a_query_of_many_kilobytes_is_answered() {
    let (hub, _reports) = hub(|_| {});
    let target = format!("/socket.io/?EIO=4&transport=polling&x={}", "y".repeat(16_000));
    assert!(hub.http().get(&target).head.status < 500);
    hub.wait_for_sessions(1);
}

#[test]
fn sids_cannot_be_guessed_by_trying() {
    let (hub, _reports) = hub(|_| {});
    let mut client = hub.join(Transport::Polling);
    let mut http = hub.http();
    for guess in 0..500_u64 {
        let mut sid = client.sid.clone();
        sid.truncate(12);
        let target = format!("/socket.io/?EIO=4&transport=polling&sid={sid}{guess:08}");
        assert_eq!(http.get(&target).status_and_body(), (400, r#"{"code":1,"message":"Session ID unknown"}"#));
    }
    client.expect_echo();
}

#[test]
fn an_octet_stream_ends_its_session_whatever_it_contains() {
    let (hub, reports) = hub(|_| {});
    for kind in ["application/octet-stream", "Application/Octet-Stream; charset=UTF-8"] {
        let mut client = hub.join(Transport::Polling);
        let response = hub.http().request("POST", &client.poll_target(), &[("Content-Type", kind)], b"\0\x01\xff4");
        assert_eq!(response.head.status, 400, "{kind}");
        reports.expect("transport error", kind);
        assert!(matches!(client.expect_end(), Ended::ClosePacket | Ended::UnknownSession));
    }
    hub.expect_healthy();
}

#[test]
fn announced_attachments_take_no_memory_before_they_arrive() {
    let (hub, reports) = hub(|limits| limits.transport.attachments_timeout = Duration::from_millis(100));
    on_every_transport(|transport| {
        for header in ["459999999-[\"a\"]", "4511-[\"a\"]", "454294967296-[\"a\"]"] {
            let mut client = hub.join(transport);
            client.send_all(&[Packet::Text(header.into())]);
            reports.expect("parse error", header);
            client.expect_end();
        }
    });
    hub.expect_healthy();
}
