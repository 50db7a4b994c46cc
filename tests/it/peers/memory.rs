//! Floods and unfinished requests against the real binary: it survives, its memory stays flat, and
//! it logs the reason of each refusal.

use crate::support::{Client, Frame, Packet, Process, Transport, Websocket, frame, header, write_until_blocked};

fn text(packet: impl Into<String>) -> Packet {
    Packet::Text(packet.into())
}

/// Number of clients of each kind in one round.
const CLIENTS: usize = 8;

fn joined(process: &Process, count: usize) -> Vec<Client> {
    (0..count).map(|_| process.join(Transport::Websocket)).collect()
}

#[test]
fn bodies_of_100_mb_take_no_memory() {
    let mut process = Process::start(&["--close-linger", "100ms"]);
    process.expect_flat_memory(6, |process| {
        for chunked in [false, true] {
            let client = process.join(Transport::Polling);
            let mut http = process.http();
            let chunk = match chunked {
                false => {
                    http.write_head("POST", &client.poll_target(), &[], Some(100 << 20));
                    "4".repeat(1 << 20)
                }
                true => {
                    http.write_head("POST", &client.poll_target(), &[("Transfer-Encoding", "chunked")], None);
                    format!("100000\r\n{}\r\n", "4".repeat(1 << 20))
                }
            };
            let mut answers = http.writer();
            // Refused at one megabyte; the rest is read and dropped for at most `close_linger`.
            write_until_blocked(
                |bytes| http.try_write(bytes),
                chunk.as_bytes(),
                if chunked { usize::MAX } else { 100 << 20 },
            );
            assert_eq!(answers.head().status, 413);
            let mut client = client;
            client.expect_echo();
            client.send("1");
        }
    });
    process.expect_healthy();
}

#[test]
fn messages_over_the_limit_take_no_memory() {
    let mut process = Process::start(&[]);
    let whole = frame(0x81, format!(r#"42["echo","{}"]"#, "x".repeat(2_000_000)).as_bytes());
    process.expect_flat_memory(20, |process| {
        for mut client in joined(process, CLIENTS) {
            // The server closes at the header and then reads only for the client's close frame.
            let _ = client.websocket().try_write(&whole);
            assert!(matches!(client.websocket().read_to_end(), (Some(1009) | None, _)));
        }
    });
    process.expect_log("exceeds limit of 1000000");
    assert!(process.metric(r#"stentor_sessions_closed_total{reason="transport error"}"#) >= 176);
    process.expect_healthy();
}

#[test]
fn memory_of_unfinished_frames_is_released() {
    let mut process = Process::start(&[]);
    process.expect_flat_memory(20, |process| {
        let mut clients = joined(process, CLIENTS);
        for client in &mut clients {
            let mut part = header(0x82, 999_999, 0x80);
            part.resize(900_000, 0);
            client.websocket().write(&part);
            client.websocket().write(b"more");
        }
    });
    process.expect_log("session closed");
    process.expect_healthy();
}

#[test]
fn memory_of_unfinished_fragments_is_released() {
    let mut process = Process::start(&[]);
    let tiny: Vec<u8> = (0..1_000).flat_map(|number| frame(if number == 0 { 0x01 } else { 0x00 }, b"4")).collect();
    let huge: Vec<u8> = (0..9).flat_map(|number| frame(if number == 0 { 0x02 } else { 0x00 }, &[0; 100_000])).collect();
    process.expect_flat_memory(20, |process| {
        let mut clients = joined(process, CLIENTS);
        for (number, client) in clients.iter_mut().enumerate() {
            client.websocket().write(if number % 2 == 0 { &tiny } else { &huge });
            client.wait_until_handled();
        }
    });
    process.expect_log("session closed");
    process.expect_healthy();
}

#[test]
fn memory_of_unfinished_binary_packets_is_released() {
    let mut process = Process::start(&[]);
    let placeholders: Vec<_> = (0..10).map(|number| format!(r#"{{"_placeholder":true,"num":{number}}}"#)).collect();
    let head = text(format!(r#"4510-["echo",{}]"#, placeholders.join(",")));
    process.expect_flat_memory(4, |process| {
        for transport in Transport::ALL {
            let mut client = process.join(transport);
            client.send_all(std::slice::from_ref(&head));
            for _ in 0..9 {
                client.send_all(&[Packet::Binary(vec![7; 100_000])]);
            }
            client.wait_until_handled();
            // A text packet is an error now; it ends the session with its nine attachments.
            client.send(r#"42["echo"]"#);
            client.expect_end();
        }
    });
    process.expect_log("text packet while attachments are awaited");
    process.expect_healthy();
}

#[test]
fn memory_of_unfinished_posts_is_released() {
    let mut process = Process::start(&[]);
    process.expect_flat_memory(15, |process| {
        for number in 0..CLIENTS {
            let client = process.join(Transport::Polling);
            let mut http = process.http();
            http.write_head("POST", &client.poll_target(), &[], Some(999_999));
            http.write(&[b'4'; 900_000]);
            if number % 2 == 0 { http.reset() } else { http.send_fin() }
        }
    });
    process.expect_log("a POST was aborted");
    process.expect_healthy();
}

#[test]
fn floods_of_pings_and_pongs_leave_nothing_behind() {
    let mut process = Process::start(&["--send-buffer-bytes", "4096"]);
    let pings = frame(0x89, &[b'x'; 125]).repeat(500);
    let pongs = [frame(0x8a, &[b'x'; 125]).repeat(300), frame(0x81, b"3").repeat(1_000)].concat();
    process.expect_flat_memory(10, |process| {
        for flood in [&pings, &pongs] {
            let mut client = process.join(Transport::Websocket);
            for _ in 0..4 {
                client.websocket().write(flood);
            }
            // The newest ping is answered; pongs are dropped.
            client.websocket().write(&frame(0x81, br#"421["echo"]"#));
            while !matches!(client.websocket().recv(), Frame::Whole(0x81, payload) if payload == b"431[]") {}
        }
        let mut unread = Client::open_with_small_buffer(process.address);
        unread.connect("");
        let taken = write_until_blocked(|bytes| unread.websocket().try_write(bytes), &pings, 64 << 20);
        assert!(taken < 64 << 20, "the hub accepts pings without end");
    });
    process.expect_log("peer does not read its control packets");
    process.expect_healthy();
}

#[test]
fn memory_of_endless_request_headers_is_released() {
    let mut process = Process::start(&[]);
    let many: String = (0..100_000).map(|number| format!("X-{number}: {number}\r\n")).collect();
    process.expect_flat_memory(10, |process| {
        let first = "GET /socket.io/ HTTP/1.1\r\nHost: hub\r\n";
        for (begin, flood) in
            [(first, many.as_str()), (&format!("{first}X-Huge: "), "x"), ("GET /socket.io/?", "y"), ("GET ", "/")]
        {
            let mut http = process.http();
            http.write(begin.as_bytes());
            let taken = write_until_blocked(
                |bytes| http.try_write(bytes),
                flood.repeat((64 << 10) / flood.len() + 1).as_bytes(),
                32 << 20,
            );
            assert!(taken < 32 << 20, "the hub accepts headers of any size: {begin}");
        }
    });
    process.expect_healthy();
}

#[test]
fn joining_and_leaving_ten_thousand_times_leaves_nothing_behind() {
    let mut process = Process::start(&[]);
    process.expect_flat_memory(3, |process| {
        let mut client = process.join(Transport::Websocket);
        for _ in 0..20 {
            client.send_all(&(0..500).flat_map(|_| [text("41"), text("40")]).collect::<Vec<_>>());
            for _ in 0..500 {
                assert!(client.recv_text().starts_with("40{"));
            }
        }
        client.expect_echo();
        client.send("1");
    });
    process.expect_healthy();
}

#[test]
fn ten_thousand_connects_on_one_connection_leave_nothing_behind() {
    let mut process = Process::start(&[]);
    process.expect_flat_memory(3, |process| {
        let mut client = process.join(Transport::Websocket);
        client.send_all(&(0..10_000).map(|number| text(format!("40/{number},"))).collect::<Vec<_>>());
        for _ in 0..10_000 {
            assert!(client.recv_text().starts_with("44/"));
        }
        client.send("1");
    });
    process.expect_log("connect refused");
    process.expect_healthy();
}

#[test]
fn joining_the_maximum_number_of_rooms_leaves_nothing_behind() {
    // A fraction of the limit, because an unoptimised build is slow; an optimised one joins a
    // million rooms in seconds.
    let limit = 10_000;
    let mut process = Process::start(&["--log-level", "stentor=info", "--rooms-per-socket-max", "10000"]);
    let mut client = process.join(Transport::Websocket);
    let (mut joined, mut refused) = (0, 0);
    for first in (0..limit + 1_000).step_by(1_000) {
        let joins = (first..first + 1_000).map(|number| text(format!(r#"421["join","{number}"]"#)));
        client.send_all(&joins.collect::<Vec<_>>());
        for _ in 0..1_000 {
            match client.recv_text() {
                reply if reply.starts_with(r#"431[{"room":"#) => joined += 1,
                reply if reply.starts_with(r#"431[{"error":"#) => refused += 1,
                reply => panic!("{reply}"),
            }
        }
    }
    assert_eq!(joined, limit);
    assert!(refused >= 500, "{refused}");
    assert_eq!(process.metric("stentor_rooms"), limit);
    let megabytes = process.resident_bytes() >> 20;
    assert!(megabytes < 100, "{megabytes} MiB");
    client.send("1");
    process.expect_healthy();
    assert_eq!(process.metric("stentor_rooms"), 0);
}

#[test]
fn invalid_packets_leave_nothing_behind() {
    let mut process = Process::start(&[]);
    let unreadable = [
        format!("40{{\"a\":\"{}", "x".repeat(300_000)),
        format!("45{}-[\"a\"]", "9".repeat(300_000)),
        format!("42{{{}", "x".repeat(300_000)),
    ];
    let dropped = [
        format!(r#"42["a",{}"#, "[".repeat(300_000)),
        format!(r#"42["a",{}0{}]"#, "[".repeat(150_000), "]".repeat(150_000)),
        format!("42{}[\"a\"]", "9".repeat(300_000)),
        format!("42/{},[\"a\"]", "n".repeat(300_000)),
        format!(r#"42[{{"{}":1}}]"#, "x".repeat(300_000)),
    ];
    let refused = format!("/{},", "n".repeat(300_000));
    process.expect_flat_memory(3, |process| {
        for transport in Transport::ALL {
            for packet in &unreadable {
                let mut client = process.join(transport);
                client.send(packet);
                client.expect_end();
            }
            let mut client = process.join(transport);
            for packet in &dropped {
                client.send(packet);
            }
            client.send(&format!("40{refused}"));
            client.expect(&format!(r#"44{refused}{{"message":"Invalid namespace"}}"#));
            client.send("1");
            client.expect_end();
        }
        for body in ["\x1e".repeat(1_000_000), format!("b{}", "!".repeat(300_000)), format!("b{}", "A".repeat(300_001))]
        {
            let client = process.join(Transport::Polling);
            process.http().post(&client.poll_target(), body);
        }
    });
    process.expect_log(r#"reason="parse error""#);
    process.expect_log("packet dropped");
    assert!(process.metric(r#"stentor_sessions_closed_total{reason="parse error"}"#) >= 54);
    process.expect_healthy();
}

#[test]
fn thousands_of_handshakes_and_guessed_ids_leave_nothing_behind() {
    let mut process = Process::start(&["--ping-interval", "500ms", "--ping-timeout", "500ms"]);
    let query = "EIO=4&transport=polling";
    process.expect_flat_memory(5, |process| {
        let mut http = process.http();
        for guess in 0..200 {
            http.reconnect_if_closed();
            let target = format!("/socket.io/?{query}&sid=AAAAAAAAAAAA{guess:08}");
            assert_eq!(http.get(&target).status_and_body(), (400, r#"{"code":1,"message":"Session ID unknown"}"#));
        }
        for _ in 0..200 {
            http.reconnect_if_closed();
            // No client resumes these sessions; they end at their pong deadline.
            assert_eq!(http.get(&format!("/socket.io/?{query}")).head.status, 200);
        }
        for _ in 0..100 {
            drop(Websocket::open(process.address, "/socket.io/?EIO=4&transport=websocket"));
        }
    });
    process.expect_log("request refused");
    assert!(process.metric(r#"stentor_requests_refused_total{code="1",reason="unknown_session"}"#) >= 1_400);
    process.expect_healthy();
}
