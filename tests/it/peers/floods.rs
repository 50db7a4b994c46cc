//! Clients that send very many packets, nearly all of them legal.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::support::{Ended, Frame, Hub, Packet, Transport, Websocket, ends, frame, on_every_transport, report};

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
        client.echoes();
        client.send("1");
    });
    hub.is_unharmed();
}

#[test]
fn ten_thousand_unread_refusals_end_the_session() {
    let (tell, told) = report();
    let hub = Hub::limited(|limits| limits.outbox_bytes_max = 64 << 10, |io| ends(io, &tell));
    let mut client = hub.join(Transport::Polling);
    let connects: Vec<_> = (0..10_000).map(|number| format!("40/{number},")).collect();
    // Refused, or dropped at the end of the session.
    let response = hub.http().post(&client.polls(), connects.join("\x1e"));
    assert!([200, 400].contains(&response.head.status), "{response:?}");
    assert_eq!(told.next(), "transport error");
    client.ends_after(|text| text.starts_with("44/"));
    hub.is_unharmed();
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
        client.echoes();
        client.send("1");
    });
    hub.is_unharmed();
}

#[test]
fn a_client_joining_faster_than_the_hub_answers_is_not_read() {
    // Unread input stays in the client's own connection. Regression: its commands piled up in the
    // session without bound.
    let hub = Hub::limited(
        |limits| {
            limits.credit_commands = 1;
            limits.credit_waiting_max = 1;
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
        let replies = hub.http().get(&client.polls()).body;
        let count = replies.split('\x1e').count();
        assert!(count >= if unknown { 1_000 } else { 999 }, "{count} replies");
        client.echoes_after(|text| text.starts_with("40") || text.starts_with("44"));
    }
    client.send("1");
    hub.is_unharmed();
}

#[test]
fn a_client_that_reconnects_while_handlers_hang_is_not_read_meanwhile() {
    let (tell, told) = report();
    let release = Arc::new(Notify::new());
    let hub = Hub::limited(
        |limits| limits.handlers_pending_max = 4,
        |io| {
            let release = release.clone();
            io.of("/").on_disconnect(move |_, _| {
                tell.say("left");
                let release = release.clone();
                async move {
                    release.notified().await;
                    Ok(())
                }
            });
        },
    );
    let client = hub.join(Transport::Polling);
    let target = client.polls();
    let (mut gets, mut posts) = client.connections();
    for _ in 0..4 {
        assert_eq!(posts.post(&target, "41\x1e40").told(), (200, "ok"));
        assert_eq!(told.next(), "left");
        // Only a socket that was connected leaves.
        assert!(gets.get(&target).body.starts_with("40{"));
    }
    posts.begin("POST", &target, &[], Some(5));
    posts.write(b"41\x1e40");
    assert_eq!(told.next(), "left");
    let mut other = hub.join(Transport::Websocket);
    other.echoes();
    assert!(!posts.has_answer(), "the session goes on reading");
    release.notify_one();
    assert_eq!(posts.response().told(), (200, "ok"));
    release.notify_waiters();
}

#[test]
fn unread_answers_to_a_flood_of_websocket_pings_are_bounded() {
    let (tell, told) = report();
    let hub = Hub::limited(|limits| limits.send_buffer_bytes = 4 << 10, |io| ends(io, &tell));
    let mut other = hub.join(Transport::Websocket);
    let mut flooder = hub.join_narrow();
    let pings = frame(0x89, &[b'x'; 125]).repeat(500);
    let mut written = 0;
    while flooder.websocket().try_write(&pings).is_ok() {
        written += pings.len();
        assert!(written < 256 << 20, "the hub takes pings without end");
    }
    assert_eq!(told.next(), "transport error");
    other.echoes();
    other.send("1");
    drop(flooder);
    hub.is_unharmed();
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
    client.echoes();
}

#[test]
fn a_flood_of_pongs_has_no_effect() {
    let hub = Hub::plain();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        let pongs: Vec<_> = (0..9_000).map(|_| text("3")).collect();
        client.send_all(&pongs);
        client.echoes();
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
            other.echoes();
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
        client.echoes();
    });
}

#[test]
fn sessions_that_never_connect_are_ended() {
    let hub = Hub::limited(|limits| limits.connect_timeout = Duration::from_millis(500), |_| {});
    let mut clients: Vec<_> = Transport::ALL.iter().cycle().take(90).map(|transport| hub.open(*transport)).collect();
    hub.wait_for_sessions(0);
    for client in &mut clients {
        let ended = client.ends();
        assert!(matches!(ended, Ended::Told | Ended::Unknown | Ended::Closed(Some(1000))), "{ended:?}");
    }
}

#[test]
fn hundreds_of_abandoned_websockets_are_removed() {
    let hub = Hub::plain();
    for _ in 0..300 {
        drop(hub.open(Transport::Websocket));
    }
    hub.is_unharmed();
}

#[test]
fn a_handshake_over_the_session_limit_is_refused_until_one_ends() {
    let hub = Hub::limited(|limits| limits.sessions_max = 2, |_| {});
    let mut first = hub.join(Transport::Polling);
    let mut second = hub.join(Transport::Websocket);
    let refused = (503, r#"{"code":4,"message":"Too many sessions"}"#);
    assert_eq!(hub.http().get("/socket.io/?EIO=4&transport=polling").told(), refused);
    let upgrade = Websocket::ask(hub.http(), "/socket.io/?EIO=4&transport=websocket", &[]);
    let answer = String::from_utf8(upgrade.unwrap_err()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nToo many sessions"), "{answer}");
    first.echoes();
    second.echoes();
    first.send("1");
    second.send("1");
    hub.is_unharmed();
}
