//! Websockets and upgrades to them: refusals, probes, and no event lost or sent twice.

use std::time::Duration;

use serde_json::Value;
use stentor::{Args, Event};

use crate::support::{
    Client, Frame, Http, Hub, Packet, Transport, Websocket, frame, report_channel, report_disconnects,
};

const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

/// The raw response to a refused upgrade.
fn refused(http: Http, target: &str, changed: &[(&str, &str)]) -> String {
    let answer = Websocket::try_upgrade(http, target, changed).expect_err("the upgrade is refused");
    String::from_utf8(answer).unwrap()
}

/// Checks that the candidate is closed, by any means.
fn expect_closed(websocket: &mut Websocket) {
    let (_, ended) = websocket.read_to_end();
    assert!(matches!(ended, Frame::Fin | Frame::Reset), "{ended:?}");
}

#[test]
fn a_session_may_start_on_a_websocket_and_has_no_upgrades() {
    let hub = Hub::plain();
    for target in [WEBSOCKET, "/socket.io?EIO=4&transport=websocket&t=abc"] {
        let open = Websocket::open(hub.address, target).text();
        let value: Value = serde_json::from_str(open.strip_prefix('0').unwrap()).unwrap();
        let sid = value["sid"].as_str().unwrap();
        let expected = format!(
            r#"0{{"sid":"{sid}","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}}"#
        );
        assert_eq!(open, expected, "{target}");
    }
}

#[test]
fn a_refused_upgrade_is_a_bare_400_and_the_connection_closed() {
    let hub = Hub::plain();
    let client = hub.join(Transport::Polling);
    let sid = &client.sid;
    for (query, message) in [
        ("", "Transport unknown"),
        ("EIO=4", "Transport unknown"),
        ("EIO=4&transport=constructor", "Transport unknown"),
        ("transport=websocket", "Unsupported protocol version"),
        ("EIO=3&transport=websocket", "Unsupported protocol version"),
        ("EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAAAAAAA", "Session ID unknown"),
        ("EIO=4&transport=websocket&sid=nope", "Session ID unknown"),
        ("EIO=4&transport=polling", "Bad request"),
        (&format!("EIO=3&transport=websocket&sid={sid}"), "Bad request"),
        (&format!("EIO=4&transport=polling&sid={sid}"), "Bad request"),
    ] {
        for address in [hub.address, hub.host.address] {
            let answer = refused(Http::connect(address), &format!("/socket.io/?{query}"), &[]);
            assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{query}: {answer:?}");
            assert!(answer.ends_with(&format!("\r\n\r\n{message}")), "{query}: {answer:?}");
            assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{query}: {answer:?}");
        }
    }
}

#[test]
fn an_invalid_websocket_handshake_is_refused() {
    let hub = Hub::plain();
    for changed in
        [("Sec-WebSocket-Key", ""), ("Sec-WebSocket-Version", ""), ("Sec-WebSocket-Version", "12"), ("Upgrade", "h2c")]
    {
        for address in [hub.address, hub.host.address] {
            let answer = refused(Http::connect(address), WEBSOCKET, &[changed]);
            assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{changed:?}: {answer:?}");
        }
    }
    assert_eq!(hub.io.sessions(), 0);
}

#[test]
fn an_upgrade_of_an_unknown_path_is_not_found() {
    let hub = Hub::plain();
    for target in ["/", "/other/?EIO=4&transport=websocket", "/socket.io/x?EIO=4&transport=websocket"] {
        let answer = refused(hub.http(), target, &[]);
        assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{target}: {answer:?}");
    }
}

#[test]
fn an_upgrade_with_offered_extensions_and_protocols_succeeds() {
    let hub = Hub::plain();
    let offered = [("Sec-WebSocket-Extensions", "permessage-deflate"), ("Sec-WebSocket-Protocol", "a, b")];
    for address in [hub.address, hub.host.address] {
        let mut websocket = Websocket::try_upgrade(Http::connect(address), WEBSOCKET, &offered).unwrap();
        assert!(websocket.text().starts_with("0{"));
    }
}

#[test]
fn large_extension_and_protocol_headers_are_answered_immediately() {
    // Regular expressions in other servers took minutes for these.
    let hub = Hub::plain();
    for value in ["a;".repeat(4_000), "a=\"".repeat(3_000), ",".repeat(8_000), " ".repeat(8_000) + "a"] {
        for name in ["Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"] {
            let mut websocket = Websocket::try_upgrade(hub.http(), WEBSOCKET, &[(name, &value)]).unwrap();
            assert!(websocket.text().starts_with("0{"), "{name}");
        }
    }
}

#[test]
fn packets_sent_in_one_write_with_the_handshake_are_handled() {
    let hub = Hub::plain();
    for address in [hub.address, hub.host.address] {
        let mut http = Http::connect(address);
        let request = format!(
            "GET {WEBSOCKET} HTTP/1.1\r\nHost: hub\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        http.write(&[request.as_bytes(), &frame(0x81, b"40"), &frame(0x81, br#"421["echo"]"#)].concat());
        assert_eq!(http.head().status, 101);
        let mut websocket = Websocket::from_http(http);
        for beginning in [r#"0{"sid":""#, r#"40{"sid":""#, "431[]"] {
            let packet = websocket.text();
            assert!(packet.starts_with(beginning), "expected {beginning}, got {packet}");
        }
    }
}

#[test]
fn after_the_upgrade_polling_with_that_sid_is_a_bad_request() {
    let hub = Hub::plain();
    let mut client = hub.join(Transport::Upgraded);
    client.expect_echo();
    let target = client.poll_target();
    assert_eq!(hub.http().get(&target).status_and_body(), (400, r#"{"code":3,"message":"Bad request"}"#));
    assert_eq!(hub.http().post(&target, "1").status_and_body(), (400, r#"{"code":3,"message":"Bad request"}"#));
    client.expect_echo();
}

#[test]
fn a_second_websocket_of_a_session_is_closed_and_the_session_unaffected() {
    let hub = Hub::plain();
    for transport in Transport::WEBSOCKETS {
        let mut client = hub.join(transport);
        expect_closed(&mut Websocket::open(hub.host.address, &client.upgrade_target()));
        expect_closed(&mut Websocket::open(hub.address, &client.upgrade_target()));
        client.expect_echo();
    }
}

#[test]
fn a_second_candidate_is_closed_and_the_first_may_finish() {
    let hub = Hub::plain();
    let client = hub.join(Transport::Polling);
    let mut first = Websocket::open(hub.address, &client.upgrade_target());
    first.send("2probe");
    assert_eq!(first.text(), "3probe");

    expect_closed(&mut Websocket::open(hub.address, &client.upgrade_target()));
    first.send("5");
    first.send(r#"421["echo"]"#);
    assert_eq!(first.text(), "431[]");
}

#[test]
fn a_candidate_that_never_probes_is_closed_and_polling_continues() {
    let hub = Hub::limited(|limits| limits.transport.upgrade_timeout = Duration::from_millis(50), |_| {});
    let mut client = hub.join(Transport::Polling);
    expect_closed(&mut Websocket::open(hub.address, &client.upgrade_target()));
    client.expect_echo();
    // The client may try again.
    let mut client = client.upgrade();
    client.expect_echo();
}

#[test]
fn a_probe_without_upgrade_is_closed_and_the_session_stays_open() {
    let hub = Hub::limited(|limits| limits.transport.upgrade_timeout = Duration::from_millis(150), |_| {});
    let mut client = hub.join(Transport::Polling);
    let mut candidate = Websocket::open(hub.address, &client.upgrade_target());
    candidate.send("2probe");
    assert_eq!(candidate.text(), "3probe");
    expect_closed(&mut candidate);
    client.expect_echo();
}

#[test]
fn a_candidate_that_sends_anything_else_is_closed_alone() {
    let hub = Hub::plain();
    let mut client = hub.join(Transport::Polling);
    let text = |packet: &str| frame(0x81, packet.as_bytes());
    for wrong in [
        text("2"),
        text("2prob"),
        text("5"),
        text("3probe"),
        text(r#"42["echo"]"#),
        text("1"),
        text(""),
        text("?"),
        frame(0x82, b"2probe"),
        frame(0xc1, b"2probe"),
        b"\x81\x062probe".to_vec(),
        [text("2probe"), text("2probe")].concat(),
        [text("2probe"), text(r#"42["echo"]"#)].concat(),
        // A close frame.
        frame(0x88, b""),
    ] {
        let mut candidate = Websocket::open(hub.address, &client.upgrade_target());
        candidate.write(&wrong);
        expect_closed(&mut candidate);
        client.expect_echo();
    }
}

#[test]
fn a_candidate_that_disconnects_leaves_the_polling_session_open() {
    let hub = Hub::plain();
    let mut client = hub.join(Transport::Polling);
    for probe in [false, true] {
        for reset in [false, true] {
            let mut candidate = Websocket::open(hub.address, &client.upgrade_target());
            if probe {
                candidate.send("2probe");
                assert_eq!(candidate.text(), "3probe");
            }
            if reset {
                candidate.reset()
            } else {
                candidate.send_fin()
            }
            client.expect_echo();
        }
    }
}

#[test]
fn a_waiting_poll_gets_a_noop_once_the_candidate_has_probed() {
    let hub = Hub::plain();
    let client = hub.join(Transport::Polling);
    let (target, upgrades) = (client.poll_target(), client.upgrade_target());
    let (mut gets, _posts) = client.connections();
    gets.start_poll(&target);
    let mut candidate = Websocket::open(hub.address, &upgrades);
    candidate.send("2probe");
    assert_eq!(candidate.text(), "3probe");
    assert_eq!(gets.response().body, "6");

    // A poll sent in between is answered by the next noop.
    assert_eq!(gets.get(&target).status_and_body(), (200, "6"));
    candidate.send("5");
    candidate.send(r#"421["echo"]"#);
    assert_eq!(candidate.text(), "431[]");
}

#[test]
fn a_poll_waiting_at_the_upgrade_is_answered_with_a_noop() {
    let hub = Hub::limited(|limits| limits.transport.upgrade_noop_interval = Duration::from_secs(3_600), |_| {});
    let client = hub.join(Transport::Polling);
    let (target, upgrades) = (client.poll_target(), client.upgrade_target());
    let (mut gets, _posts) = client.connections();
    let mut candidate = Websocket::open(hub.address, &upgrades);
    candidate.send("2probe");
    assert_eq!(candidate.text(), "3probe");
    gets.write_head("GET", &target, &[], None);
    candidate.send("5");
    assert_eq!(gets.response().body, "6");
    candidate.send(r#"421["echo"]"#);
    assert_eq!(candidate.text(), "431[]");
}

/// A hub whose `count` emits the requested number of numbered events.
fn counting_hub() -> Hub {
    Hub::limited(
        |_| {},
        |io| {
            io.of("/").on("count", |socket, event: Event<(u32, u32)>| async move {
                for number in event.data.0..event.data.1 {
                    socket.emit("n", number).await?;
                }
                event.ack.send(())?;
                Ok(())
            });
        },
    )
}

#[test]
fn packets_queued_while_probing_come_once_in_order_on_one_transport() {
    let hub = counting_hub();
    let mut client = hub.join(Transport::Polling);
    client.send(r#"42["count",0,10]"#);
    let mut candidate = Websocket::open(hub.address, &client.upgrade_target());
    candidate.send("2probe");
    assert_eq!(candidate.text(), "3probe");
    client.send(r#"421["count",10,20]"#);
    candidate.send("5");
    candidate.send(r#"422["count",20,30]"#);

    let came: Vec<String> = (0..32).map(|_| candidate.text()).collect();
    let expected: Vec<String> = (0..20)
        .map(|number| format!(r#"42["n",{number}]"#))
        .chain(["431[]".into()])
        .chain((20..30).map(|number| format!(r#"42["n",{number}]"#)))
        .chain(["432[]".into()])
        .collect();
    assert_eq!(came, expected);
}

#[test]
fn packets_polled_while_probing_do_not_repeat_on_the_websocket() {
    let hub = counting_hub();
    let mut client = hub.join(Transport::Polling);
    let mut candidate = Websocket::open(hub.address, &client.upgrade_target());
    candidate.send("2probe");
    assert_eq!(candidate.text(), "3probe");
    client.send(r#"421["count",0,3]"#);
    for expected in [r#"42["n",0]"#, r#"42["n",1]"#, r#"42["n",2]"#, "431[]"] {
        client.expect(expected);
    }
    candidate.send("5");
    candidate.send(r#"422["count",3,4]"#);
    assert_eq!(candidate.text(), r#"42["n",3]"#);
    assert_eq!(candidate.text(), "432[]");
}

#[test]
fn packets_sent_in_one_write_with_the_upgrade_are_handled_after_it() {
    let hub = Hub::plain();
    let client = hub.join(Transport::Polling);
    let mut candidate = Websocket::open(hub.address, &client.upgrade_target());
    candidate.send("2probe");
    assert_eq!(candidate.text(), "3probe");
    candidate.write(&[frame(0x81, b"5"), frame(0x81, br#"421["echo",1]"#), frame(0x81, br#"422["echo",2]"#)].concat());
    assert_eq!(candidate.text(), "431[1]");
    assert_eq!(candidate.text(), "432[2]");
}

#[test]
fn a_websocket_on_another_worker_than_its_session_works() {
    let hub = Hub::on_workers(2, |builder| builder, |_| {});
    for attempt in 0..24 {
        let mut client = hub.join(Transport::Polling);
        // An odd number of connections per round makes both workers meet in every way.
        let extra = (attempt % 3 == 0).then(|| hub.http());
        client = client.upgrade();
        client.expect_echo();
        // These bytes are in flight while the socket moves.
        let mut other = hub.join(Transport::Polling);
        let mut candidate = Websocket::open(hub.address, &other.upgrade_target());
        candidate.write(&[frame(0x81, b"2probe"), frame(0x89, b"in flight")].concat());
        let mut came = [candidate.recv(), candidate.recv()];
        came.sort_by_key(|frame| matches!(frame, Frame::Whole(0x8a, _)));
        assert_eq!(came, [Frame::Whole(0x81, b"3probe".into()), Frame::Whole(0x8a, b"in flight".into())]);
        other.expect_echo();
        drop((extra, candidate));
    }
}

#[test]
fn websocket_pings_are_answered_with_their_data() {
    let hub = Hub::plain();
    let mut client = hub.join(Transport::Websocket);
    for data in [&b""[..], b"x", &[0xff; 125]] {
        client.websocket().write(&frame(0x89, data));
        assert_eq!(client.websocket().recv(), Frame::Whole(0x8a, data.into()));
    }
    client.websocket().write(&frame(0x8a, b"a pong that nobody asked for"));
    client.expect_echo();
}

#[test]
fn a_fragmented_message_with_control_frames_between_is_one_packet() {
    let hub = Hub::plain();
    let mut client = hub.join(Transport::Websocket);
    let websocket = client.websocket();
    websocket.write(&frame(0x01, br#"421["ec"#));
    websocket.write(&frame(0x89, b"between"));
    websocket.write(&frame(0x00, b"ho\",\"\xc3"));
    websocket.write(&frame(0x80, b"\xa4\"]"));
    assert_eq!(websocket.recv(), Frame::Whole(0x8a, b"between".into()));
    assert_eq!(websocket.text(), r#"431["ä"]"#);
}

#[test]
fn a_message_that_arrives_byte_by_byte_is_one_packet() {
    let hub = Hub::plain();
    let mut client = hub.join(Transport::Websocket);
    for byte in frame(0x81, br#"421["echo"]"#) {
        client.websocket().write(&[byte]);
    }
    client.expect("431[]");
}

#[test]
fn a_large_message_within_the_limit_works_in_both_directions() {
    let hub = Hub::plain();
    let mut client = hub.join(Transport::Websocket);
    let text = "x".repeat(900_000);
    client.send(&format!(r#"421["echo","{text}"]"#));
    let came = client.recv_text();
    assert!(came == format!(r#"431["{text}"]"#), "{} bytes came", came.len());
}

#[test]
fn the_end_of_a_websocket_has_the_reason_of_socket_io() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(|builder| builder, |io| report_disconnects(io, &reporter));
    type End = fn(Client);
    let ways: [(&str, End, &str); 4] = [
        ("a close packet", |mut client| client.send("1"), "transport close"),
        ("a close frame", |mut client| client.websocket().write(&frame(0x88, &[3, 0xe8])), "transport close"),
        ("a FIN", |client| client.into_websocket().send_fin(), "transport close"),
        ("a reset", |client| client.into_websocket().reset(), "transport error"),
    ];
    for transport in Transport::WEBSOCKETS {
        for (way, end, reason) in ways {
            // A host application does not report how a connection ended.
            let reason = if transport.is_hosted() { "transport close" } else { reason };
            end(hub.join(transport));
            assert_eq!(reports.next(), reason, "{way} on {transport:?}");
        }
    }
    hub.expect_healthy();
}

/// Code and reason of the next close frame.
fn close_frame(client: &mut Client) -> (u16, String) {
    loop {
        match client.websocket().recv() {
            Frame::Whole(0x88, payload) => {
                let (code, words) = payload.split_at(2);
                return (u16::from_be_bytes(code.try_into().unwrap()), String::from_utf8(words.into()).unwrap());
            }
            Frame::Whole(..) => {}
            ended => panic!("{ended:?}, without a close frame"),
        }
    }
}

#[test]
fn a_close_frame_has_code_and_reason() {
    let hub = Hub::limited(
        |limits| {
            limits.transport.payload_bytes_max = 1_000;
            limits.transport.fragments_max = 8;
            limits.sessions.connect_timeout = Duration::from_millis(200);
            limits.transport.attachments_timeout = Duration::from_millis(50);
        },
        |io| {
            io.of("/").on("leave", |socket, _: Event<Args>| async move {
                socket.disconnect(true);
                Ok(())
            });
        },
    );
    let text = |packet: &str| frame(0x81, packet.as_bytes());
    let tiny: Vec<u8> = (0..9).flat_map(|number| frame(if number == 0 { 0x01 } else { 0x00 }, b"4")).collect();
    for (bytes, code, words) in [
        (text("1"), 1000, "transport close"),
        (frame(0x88, &[3, 0xe9]), 1001, "transport close"),
        (text("2"), 1000, "transport error"),
        (text(r#"42["leave"]"#), 1000, "forced server close"),
        (text("42[1"), 1002, "parse error"),
        (frame(0xf1, b"3"), 1002, "parse error"),
        (frame(0x81, b"4\xff"), 1007, "parse error"),
        (text(r#"451-["up",{"_placeholder":true,"num":0}]"#), 1002, "parse error"),
        (frame(0x82, &[0; 1_001]), 1009, "message of 1001 bytes exceeds limit of 1000"),
        (tiny, 1009, "message of more than 8 fragments"),
    ] {
        for transport in Transport::WEBSOCKETS {
            let mut client = hub.join(transport);
            client.websocket().write(&bytes);
            assert_eq!(close_frame(&mut client), (code, words.to_owned()), "{transport:?}");
        }
    }
    for transport in Transport::WEBSOCKETS {
        let mut idle = hub.open(transport);
        assert_eq!(close_frame(&mut idle), (1000, "transport close".to_owned()), "no CONNECT in time on {transport:?}");
    }
}

#[test]
fn a_close_frame_is_answered_by_a_close_frame() {
    let hub = Hub::plain();
    let mut client = hub.join(Transport::Websocket);
    client.websocket().write(&frame(0x88, &[3, 0xe8]));
    let (code, ended) = client.websocket().read_to_end();
    assert_eq!((code, ended), (Some(1000), Frame::Fin));
}

#[test]
fn binary_is_a_bare_frame_on_a_websocket() {
    let hub = Hub::limited(
        |_| {},
        |io| {
            io.of("/").on("binary", |_, event: Event<Args>| async move {
                event.ack.send(event.data)?;
                Ok(())
            });
        },
    );
    let mut client = hub.join(Transport::Websocket);
    client.send_all(&[
        Packet::Text(r#"451-7["binary",{"_placeholder":true,"num":0}]"#.into()),
        Packet::Binary(vec![4, 0, 255]),
    ]);
    client.expect(r#"461-7[{"_placeholder":true,"num":0}]"#);
    assert_eq!(client.websocket().recv(), Frame::Whole(0x82, vec![4, 0, 255]));
}
