//! Clients that send very many packets, nearly all of them legal.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::support::{
    Ended, Frame, Hub, Packet, Transport, Websocket, frame, on_every_transport, report_channel, report_disconnects,
};

fn text(packet: impl Into<String>) -> Packet {
    Packet::Text(packet.into())
}

#[test]
fn ten_thousand_connects_to_unknown_namespaces_are_each_refused() {
    let hub = Hub::plain();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        let connects: Vec<_> = (0..10_000).map(|number| text(format!("40/{number},"))).collect();
        client.send_all(&connects);
        for number in 0..10_000 {
            client.expect(&format!(r#"44/{number},{{"message":"Invalid namespace"}}"#));
        }
        client.expect_echo();
        client.send("1");
    });
    hub.expect_healthy();
}

#[test]
fn ten_thousand_unread_refusals_end_the_session() {
    let (reporter, reports) = report_channel();
    let hub =
        Hub::limited(|limits| limits.sessions.outbox_bytes_max = 64 << 10, |io| report_disconnects(io, &reporter));
    let mut client = hub.join(Transport::Polling);
    let connects: Vec<_> = (0..10_000).map(|number| format!("40/{number},")).collect();
    // Refused, or dropped at the end of the session.
    let response = hub.http().post(&client.poll_target(), connects.join("\x1e"));
    assert!([200, 400].contains(&response.head.status), "{response:?}");
    assert_eq!(reports.next(), "transport error");
    client.expect_end_after(|text| text.starts_with("44/"));
    hub.expect_healthy();
}

#[test]
fn repeated_joining_and_leaving_leaves_nothing_behind() {
    let hub = Hub::plain();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        for _ in 0..20 {
            let packets: Vec<_> = (0..50).flat_map(|_| [text("41"), text("40")]).collect();
            client.send_all(&packets);
        }
        for _ in 0..1_000 {
            let reply = client.recv_text();
            assert!(reply.starts_with(r#"40{"sid":"#), "{reply}");
        }
        client.expect_echo();
        client.send("1");
    });
    hub.expect_healthy();
}

#[test]
fn a_client_joining_faster_than_the_hub_answers_is_not_read() {
    // Unread input stays in the client's own connection. Regression: its commands piled up in the
    // session without bound.
    let hub = Hub::limited(
        |limits| {
            limits.hub.credit_commands = 1;
            limits.hub.credit_waiting_max = 1;
        },
        |_| {},
    );
    let mut client = hub.join(Transport::Polling);
    for unknown in [false, true] {
        let packets: Vec<_> = match unknown {
            false => (0..1_000).flat_map(|_| [text("41"), text("40")]).collect(),
            true => [text("41"), text("40")].into_iter().chain((0..1_000).map(|_| text("40/unknown,"))).collect(),
        };
        // Answered once the session reads again: by then the hub has answered all but the last
        // commands.
        client.send_all(&packets);
        let replies = hub.http().get(&client.poll_target()).body;
        let count = replies.split('\x1e').count();
        assert!(count >= if unknown { 1_000 } else { 999 }, "{count} replies");
        client.expect_echo_after(|text| text.starts_with("40") || text.starts_with("44"));
    }
    client.send("1");
    hub.expect_healthy();
}

#[test]
fn a_client_that_reconnects_while_handlers_hang_is_not_read_meanwhile() {
    let (reporter, reports) = report_channel();
    let release = Arc::new(Notify::new());
    let hub = Hub::limited(
        |limits| limits.handlers.pending_max = 4,
        |io| {
            let release = release.clone();
            io.of("/").on_disconnect(move |_, _| {
                reporter.report("left");
                let release = release.clone();
                async move {
                    release.notified().await;
                    Ok(())
                }
            });
        },
    );
    let client = hub.join(Transport::Polling);
    let target = client.poll_target();
    let (mut gets, mut posts) = client.connections();
    for _ in 0..4 {
        assert_eq!(posts.post(&target, "41\x1e40").status_and_body(), (200, "ok"));
        assert_eq!(reports.next(), "left");
        // Only a socket that was connected leaves.
        assert!(gets.get(&target).body.starts_with("40{"));
    }
    posts.write_head("POST", &target, &[], Some(5));
    posts.write(b"41\x1e40");
    assert_eq!(reports.next(), "left");
    let mut other = hub.join(Transport::Websocket);
    other.expect_echo();
    assert!(!posts.has_response(), "the session reads again");
    release.notify_one();
    assert_eq!(posts.response().status_and_body(), (200, "ok"));
    release.notify_waiters();
}

#[test]
fn unread_answers_to_a_flood_of_websocket_pings_are_bounded() {
    let (reporter, reports) = report_channel();
    let hub =
        Hub::limited(|limits| limits.transport.send_buffer_bytes = 4 << 10, |io| report_disconnects(io, &reporter));
    let mut other = hub.join(Transport::Websocket);
    let mut flooder = hub.join_with_small_buffer();
    let pings = frame(0x89, &[b'x'; 125]).repeat(500);
    let mut written = 0;
    while flooder.websocket().try_write(&pings).is_ok() {
        written += pings.len();
        assert!(written < 256 << 20, "the hub accepts pings without end");
    }
    assert_eq!(reports.next(), "transport error");
    other.expect_echo();
    other.send("1");
    drop(flooder);
    hub.expect_healthy();
}

#[test]
fn websocket_pings_whose_answers_are_read_have_no_other_effect() {
    let hub = Hub::plain();
    let mut client = hub.join(Transport::Websocket);
    let mut pings: Vec<u8> = (0..5_000_u32).flat_map(|number| frame(0x89, &number.to_be_bytes())).collect();
    pings.extend(frame(0x81, br#"421["echo"]"#));
    client.websocket().write(&pings);
    // The newest ping has to be answered, others need not (RFC 6455, 5.5.3).
    let (mut newest, mut acked) = (None, false);
    while !acked || newest != Some(4_999_u32.to_be_bytes().to_vec()) {
        match client.websocket().recv() {
            Frame::Whole(0x8a, payload) => newest = Some(payload),
            Frame::Whole(0x81, payload) => acked = payload == b"431[]",
            other => panic!("unexpected {other:?}"),
        }
    }
    client.expect_echo();
}

#[test]
fn a_flood_of_pongs_has_no_effect() {
    let hub = Hub::plain();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        let pongs: Vec<_> = (0..9_000).map(|_| text("3")).collect();
        client.send_all(&pongs);
        client.expect_echo();
    });
}

#[test]
fn a_flood_of_events_is_handled_in_order_while_others_are_served() {
    let hub = Hub::plain();
    on_every_transport(|transport| {
        let (mut flooder, mut other) = (hub.join(transport), hub.join(Transport::Websocket));
        for batch in 0..10 {
            let events = (0..500).map(|number| text(format!(r#"421["echo",{}]"#, batch * 500 + number)));
            flooder.send_all(&events.collect::<Vec<_>>());
            other.expect_echo();
        }
        for number in 0..5_000 {
            flooder.expect(&format!("431[{number}]"));
        }
    });
}

#[test]
fn a_flood_of_unexpected_acks_has_no_effect() {
    let hub = Hub::plain();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        let acks: Vec<_> = (0..9_000).map(|number| text(format!("43{number}[]"))).collect();
        client.send_all(&acks);
        client.expect_echo();
    });
}

#[test]
fn sessions_that_never_connect_are_ended() {
    let hub = Hub::limited(|limits| limits.sessions.connect_timeout = Duration::from_millis(500), |_| {});
    let mut clients: Vec<_> = Transport::ALL.iter().cycle().take(90).map(|transport| hub.open(*transport)).collect();
    hub.wait_for_sessions(0);
    for client in &mut clients {
        let ended = client.expect_end();
        assert!(
            matches!(ended, Ended::ClosePacket | Ended::UnknownSession | Ended::CloseFrame(Some(1000))),
            "{ended:?}"
        );
    }
}

#[test]
fn hundreds_of_abandoned_websockets_are_removed() {
    let hub = Hub::plain();
    for _ in 0..300 {
        drop(hub.open(Transport::Websocket));
    }
    hub.expect_healthy();
}

#[test]
fn a_handshake_over_the_session_limit_is_refused_until_one_ends() {
    let hub = Hub::limited(|limits| limits.sessions.max = 2, |_| {});
    let mut first = hub.join(Transport::Polling);
    let mut second = hub.join(Transport::Websocket);
    let refused = (503, r#"{"code":4,"message":"Too many sessions"}"#);
    assert_eq!(hub.http().get("/socket.io/?EIO=4&transport=polling").status_and_body(), refused);
    let upgrade = Websocket::try_upgrade(hub.http(), "/socket.io/?EIO=4&transport=websocket", &[]);
    let answer = String::from_utf8(upgrade.unwrap_err()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nToo many sessions"), "{answer}");
    first.expect_echo();
    second.expect_echo();
    first.send("1");
    second.send("1");
    hub.expect_healthy();
}
