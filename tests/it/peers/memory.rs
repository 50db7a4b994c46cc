//! Floods and half-finished business against the real binary: it lives, its memory stays flat, and it says why it refused.

use crate::support::{Client, Frame, Packet, Process, Transport, Websocket, frame, header, pour};

fn text(packet: impl Into<String>) -> Packet {
    Packet::Text(packet.into())
}

/// How many clients of a kind there are in one round.
const CLIENTS: usize = 8;

fn joined(process: &Process, count: usize) -> Vec<Client> {
    (0..count).map(|_| process.join(Transport::Websocket)).collect()
}

#[test]
fn bodies_of_a_hundred_megabytes_take_no_memory() {
    let mut process = Process::start(&["--close-linger", "100ms"]);
    process.stays_flat(6, |process| {
        for chunked in [false, true] {
            let client = process.join(Transport::Polling);
            let mut http = process.http();
            let chunk = match chunked {
                false => {
                    http.begin("POST", &client.polls(), &[], Some(100 << 20));
                    "4".repeat(1 << 20)
                }
                true => {
                    http.begin("POST", &client.polls(), &[("Transfer-Encoding", "chunked")], None);
                    format!("100000\r\n{}\r\n", "4".repeat(1 << 20))
                }
            };
            let mut answers = http.writer();
            // Refused at a megabyte; from there on it is read and forgotten, for `close_linger` at most.
            pour(|bytes| http.try_write(bytes), chunk.as_bytes(), if chunked { usize::MAX } else { 100 << 20 });
            assert_eq!(answers.head().status, 413);
            let mut client = client;
            client.echoes();
            client.send("1");
        }
    });
    process.is_unharmed();
}

#[test]
fn messages_over_the_limit_take_no_memory() {
    let mut process = Process::start(&[]);
    let whole = frame(0x81, format!(r#"42["echo","{}"]"#, "x".repeat(2_000_000)).as_bytes());
    process.stays_flat(20, |process| {
        for mut client in joined(process, CLIENTS) {
            // It closes at the header, and reads on only to hear the answer to its close frame.
            let _ = client.websocket().try_write(&whole);
            assert!(matches!(client.websocket().closed(), (Some(1009) | None, _)));
        }
    });
    process.logs("exceeds limit of 1000000");
    assert!(process.counted(r#"stentor_sessions_closed_total{reason="transport error"}"#) >= 176);
    process.is_unharmed();
}

#[test]
fn frames_that_are_never_completed_are_given_back() {
    let mut process = Process::start(&[]);
    process.stays_flat(20, |process| {
        let mut clients = joined(process, CLIENTS);
        for client in &mut clients {
            let mut part = header(0x82, 999_999, 0x80);
            part.resize(900_000, 0);
            client.websocket().write(&part);
            client.websocket().write(b"more");
        }
    });
    process.logs("session closed");
    process.is_unharmed();
}

#[test]
fn fragments_that_are_never_completed_are_given_back() {
    let mut process = Process::start(&[]);
    let tiny: Vec<u8> = (0..1_000).flat_map(|number| frame(if number == 0 { 0x01 } else { 0x00 }, b"4")).collect();
    let huge: Vec<u8> = (0..9).flat_map(|number| frame(if number == 0 { 0x02 } else { 0x00 }, &[0; 100_000])).collect();
    process.stays_flat(20, |process| {
        let mut clients = joined(process, CLIENTS);
        for (number, client) in clients.iter_mut().enumerate() {
            client.websocket().write(if number % 2 == 0 { &tiny } else { &huge });
            client.settle();
        }
    });
    process.logs("session closed");
    process.is_unharmed();
}

#[test]
fn binary_packets_that_are_never_completed_are_given_back() {
    let mut process = Process::start(&[]);
    let placeholders: Vec<_> = (0..10).map(|number| format!(r#"{{"_placeholder":true,"num":{number}}}"#)).collect();
    let head = text(format!(r#"4510-["echo",{}]"#, placeholders.join(",")));
    process.stays_flat(4, |process| {
        for transport in Transport::ALL {
            let mut client = process.join(transport);
            client.send_all(std::slice::from_ref(&head));
            for _ in 0..9 {
                client.send_all(&[Packet::Binary(vec![7; 100_000])]);
            }
            client.settle();
            // Text now is an error; it ends the session with its nine attachments.
            client.send(r#"42["echo"]"#);
            client.ends();
        }
    });
    process.logs("text packet while attachments are awaited");
    process.is_unharmed();
}

#[test]
fn posts_that_are_never_completed_are_given_back() {
    let mut process = Process::start(&[]);
    process.stays_flat(15, |process| {
        for number in 0..CLIENTS {
            let client = process.join(Transport::Polling);
            let mut http = process.http();
            http.begin("POST", &client.polls(), &[], Some(999_999));
            http.write(&[b'4'; 900_000]);
            if number % 2 == 0 { http.reset() } else { http.finish() }
        }
    });
    process.logs("a POST was aborted");
    process.is_unharmed();
}

#[test]
fn floods_of_pings_and_pongs_leave_nothing_behind() {
    let mut process = Process::start(&["--send-buffer-bytes", "4096"]);
    let pings = frame(0x89, &[b'x'; 125]).repeat(500);
    let pongs = [frame(0x8a, &[b'x'; 125]).repeat(300), frame(0x81, b"3").repeat(1_000)].concat();
    process.stays_flat(10, |process| {
        for flood in [&pings, &pongs] {
            let mut client = process.join(Transport::Websocket);
            for _ in 0..4 {
                client.websocket().write(flood);
            }
            // Of pings the newest is answered; all pongs are let go.
            client.websocket().write(&frame(0x81, br#"421["echo"]"#));
            while !matches!(client.websocket().recv(), Frame::Whole(0x81, payload) if payload == b"431[]") {}
        }
        let mut deaf = Client::open_narrow(process.address);
        deaf.connect("");
        let taken = pour(|bytes| deaf.websocket().try_write(bytes), &pings, 64 << 20);
        assert!(taken < 64 << 20, "the hub takes pings without end");
    });
    process.logs("control packets wait already");
    process.is_unharmed();
}

#[test]
fn heads_without_end_are_given_back() {
    let mut process = Process::start(&[]);
    let many: String = (0..100_000).map(|number| format!("X-{number}: {number}\r\n")).collect();
    process.stays_flat(10, |process| {
        let first = "GET /socket.io/ HTTP/1.1\r\nHost: hub\r\n";
        for (begin, flood) in
            [(first, many.as_str()), (&format!("{first}X-Huge: "), "x"), ("GET /socket.io/?", "y"), ("GET ", "/")]
        {
            let mut http = process.http();
            http.write(begin.as_bytes());
            let taken =
                pour(|bytes| http.try_write(bytes), flood.repeat((64 << 10) / flood.len() + 1).as_bytes(), 32 << 20);
            assert!(taken < 32 << 20, "the hub takes a head of any size: {begin}");
        }
    });
    process.is_unharmed();
}

#[test]
fn joining_and_leaving_ten_thousand_times_leaves_nothing_behind() {
    let mut process = Process::start(&[]);
    process.stays_flat(3, |process| {
        let mut client = process.join(Transport::Websocket);
        for _ in 0..20 {
            client.send_all(&(0..500).flat_map(|_| [text("41"), text("40")]).collect::<Vec<_>>());
            for _ in 0..500 {
                assert!(client.recv_text().starts_with("40{"));
            }
        }
        client.echoes();
        client.send("1");
    });
    process.is_unharmed();
}

#[test]
fn ten_thousand_connects_on_one_connection_leave_nothing_behind() {
    let mut process = Process::start(&[]);
    process.stays_flat(3, |process| {
        let mut client = process.join(Transport::Websocket);
        client.send_all(&(0..10_000).map(|number| text(format!("40/{number},"))).collect::<Vec<_>>());
        for _ in 0..10_000 {
            assert!(client.recv_text().starts_with("44/"));
        }
        client.send("1");
    });
    process.logs("connect refused");
    process.is_unharmed();
}

#[test]
fn one_socket_in_as_many_rooms_as_it_may_be_leaves_nothing_behind() {
    // A part of what is allowed: an unoptimised build takes its time. Optimised, a million take seconds.
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
    assert_eq!(process.counted("stentor_rooms"), limit);
    let megabytes = process.resident_bytes() >> 20;
    assert!(megabytes < 100, "{megabytes} MiB");
    client.send("1");
    process.is_unharmed();
    assert_eq!(process.counted("stentor_rooms"), 0);
}

#[test]
fn packets_that_are_none_leave_nothing_behind() {
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
    process.stays_flat(3, |process| {
        for transport in Transport::ALL {
            for packet in &unreadable {
                let mut client = process.join(transport);
                client.send(packet);
                client.ends();
            }
            let mut client = process.join(transport);
            for packet in &dropped {
                client.send(packet);
            }
            client.send(&format!("40{refused}"));
            client.expect(&format!(r#"44{refused}{{"message":"Invalid namespace"}}"#));
            client.send("1");
            client.ends();
        }
        for body in ["\x1e".repeat(1_000_000), format!("b{}", "!".repeat(300_000)), format!("b{}", "A".repeat(300_001))]
        {
            let client = process.join(Transport::Polling);
            process.http().post(&client.polls(), body);
        }
    });
    process.logs(r#"reason="parse error""#);
    process.logs("packet dropped");
    assert!(process.counted(r#"stentor_sessions_closed_total{reason="parse error"}"#) >= 54);
    process.is_unharmed();
}

#[test]
fn guesses_and_handshakes_by_the_thousand_leave_nothing_behind() {
    let mut process = Process::start(&["--ping-interval", "500ms", "--ping-timeout", "500ms"]);
    let query = "EIO=4&transport=polling";
    process.stays_flat(5, |process| {
        let mut http = process.http();
        for guess in 0..200 {
            http.refresh();
            let target = format!("/socket.io/?{query}&sid=AAAAAAAAAAAA{guess:08}");
            assert_eq!(http.get(&target).told(), (400, r#"{"code":1,"message":"Session ID unknown"}"#));
        }
        for _ in 0..200 {
            http.refresh();
            // Nobody comes back for these; they end at their pong deadline.
            assert_eq!(http.get(&format!("/socket.io/?{query}")).head.status, 200);
        }
        for _ in 0..100 {
            drop(Websocket::open(process.address, "/socket.io/?EIO=4&transport=websocket"));
        }
    });
    process.logs("request refused");
    assert!(process.counted(r#"stentor_requests_refused_total{code="1",reason="unknown_session"}"#) >= 1_400);
    process.is_unharmed();
}
