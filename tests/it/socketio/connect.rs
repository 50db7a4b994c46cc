//! CONNECT: replies, order, refusals.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use stentor::{ConnectError, Event, Limits, Recovery};
use tokio::sync::Notify;

use crate::support::{Ended, Hub, Packet, Transport, on_every_transport, report_channel, report_disconnects};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn is_id(id: &str) -> bool {
    id.len() == 20 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

#[test]
fn the_reply_has_only_a_sid() {
    let hub = Hub::plain();
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        client.send("40");
        let reply = client.recv_text();
        let sid = reply.strip_prefix(r#"40{"sid":""#).and_then(|rest| rest.strip_suffix(r#""}"#));
        let sid = sid.unwrap_or_else(|| panic!("not a reply: {reply}"));
        assert!(is_id(sid), "{sid}");
        assert_ne!(sid, client.sid, "only the client knows its session id");
    });
}

#[test]
fn with_recovery_the_reply_has_a_pid_as_well() {
    let hub = Hub::start(|builder| builder.recovery(Recovery::memory()), |_| {});
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        let reply = client.connect("");
        assert_eq!(keys(&reply), ["pid", "sid"], "{reply}");
        let (sid, pid) = (reply["sid"].as_str().unwrap(), reply["pid"].as_str().unwrap());
        assert!(is_id(sid), "{reply}");
        assert!(!pid.is_empty() && pid != sid && pid != client.sid, "{reply}");
    });
}

#[test]
fn connect_may_carry_data_and_name_the_main_namespace() {
    let hub = Hub::plain();
    on_every_transport(|transport| {
        for packet in ["40", "40{}", r#"40{"token":"123","nested":{"a":[1]}}"#, "40/,", r#"40/,{"a":1}"#] {
            let mut client = hub.open(transport);
            client.send(packet);
            assert!(client.recv_text().starts_with(r#"40{"sid":""#), "{packet}");
            client.expect_echo();
        }
    });
}

#[test]
fn a_session_has_another_socket_id_in_every_namespace() {
    let hub = Hub::start(
        |builder| builder,
        |io| {
            let _ = (io.of("/one"), io.of("/two?query=is+part+of+it"));
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        let one = client.connect("/one,");
        assert_eq!(keys(&one), ["sid"]);
        let two = client.connect("/two?query=is+part+of+it,");
        let ids: HashSet<_> = [&one["sid"], &two["sid"]].map(|sid| sid.as_str().unwrap().to_owned()).into();
        assert_eq!(ids.len(), 2, "{ids:?}");
        client.expect_echo();
    });
}

#[test]
fn an_unknown_namespace_is_refused_and_the_transport_stays_open() {
    let hub = Hub::plain();
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        client.send("40/nope,");
        client.expect(r#"44/nope,{"message":"Invalid namespace"}"#);
        client.send(r#"40/nope,{"token":1}"#);
        client.expect(r#"44/nope,{"message":"Invalid namespace"}"#);
        client.connect("");
        client.expect_echo();
    });
}

#[test]
fn the_main_namespace_need_not_be_connected_first() {
    let hub = Hub::start(
        |builder| builder,
        |io| {
            io.of("/chat").on("hi", |_, event: Event<()>| async move {
                event.ack.send("chat")?;
                Ok(())
            });
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        client.connect("/chat,");
        client.send(r#"42/chat,0["hi"]"#);
        client.expect(r#"43/chat,0["chat"]"#);
    });
}

#[test]
fn namespaces_over_the_limit_are_refused_and_the_transport_stays_open() {
    let hub = Hub::limited(
        |limits| limits.sessions.namespaces_max = 3,
        |io| {
            let _ = (io.of("/a"), io.of("/b"), io.of("/c"), io.of("/d"));
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.connect("/a,");
        client.connect("/b,");
        for namespace in ["/c", "/d"] {
            client.send(&format!("40{namespace},"));
            client.expect(&format!(r#"44{namespace},{{"message":"Too many namespaces"}}"#));
        }
        // Leaving one namespace makes room for another.
        client.send("41/a,");
        client.connect("/c,");
        client.expect_echo();
    });
}

#[test]
fn a_session_without_connect_ends_at_the_connect_timeout() {
    let hub = Hub::limited(|limits| limits.sessions.connect_timeout = Duration::from_secs(1), |_| {});
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        let ended = client.expect_end();
        assert!(matches!(ended, Ended::ClosePacket | Ended::UnknownSession | Ended::CloseFrame(_)), "{ended:?}");
        hub.wait_for_sessions(0);
    });
}

#[test]
fn a_refused_connect_does_not_stop_the_connect_timeout() {
    let hub = Hub::limited(|limits| limits.sessions.connect_timeout = Duration::from_secs(1), |_| {});
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        client.send("40/nope,");
        client.expect(r#"44/nope,{"message":"Invalid namespace"}"#);
        let ended = client.expect_end();
        assert!(matches!(ended, Ended::ClosePacket | Ended::UnknownSession | Ended::CloseFrame(_)), "{ended:?}");
    });
}

#[test]
fn a_client_that_connects_in_time_is_not_ended() {
    let hub = Hub::limited(
        |limits| {
            limits.sessions.connect_timeout = Duration::from_secs(1);
            // The second ping comes after the connect timeout.
            limits.sessions.ping_interval = Duration::from_millis(600);
        },
        |_| {},
    );
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.is_silent = true;
        for _ in 0..2 {
            client.expect("2");
            client.send("3");
        }
        client.is_silent = false;
        client.expect_echo();
    });
}

#[test]
fn a_connection_handler_reads_the_connect_data() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            io.of("/").on_connection(move |socket| {
                let handshake = socket.handshake();
                reporter.report(format!("{:?} {:?}", handshake.query(), handshake.header("host")));
                reporter.report(format!("{}", handshake.address().is_some_and(|address| address.is_loopback())));
                async { Ok(()) }
            });
        },
    );
    hub.join(Transport::Polling);
    assert_eq!(reports.take(2), [r#""EIO=4&transport=polling" Some("localhost")"#, "true"]);
    hub.join(Transport::Websocket);
    assert_eq!(reports.take(2), [r#""EIO=4&transport=websocket" Some("localhost")"#, "true"]);
}

/// React's StrictMode: `connect(); disconnect(); connect()` in one turn sends CONNECT twice without
/// DISCONNECT in between.
#[test]
fn a_second_connect_replaces_the_first_socket() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            report_disconnects(io, &reporter);
            io.of("/other");
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        client.connect("/other,");
        let first = client.connect("");
        let second = client.connect_with("", r#"{"token":1}"#);
        assert_ne!(first["sid"], second["sid"], "{transport:?}");
        reports.expect("client namespace disconnect", transport);
        client.expect_echo();
        // Both are sent before the first is answered.
        client.send_all(&[Packet::Text("40".into()), Packet::Text("40".into())]);
        let replies = [client.recv_text(), client.recv_text()];
        assert!(replies.iter().all(|reply| reply.starts_with("40{")) && replies[0] != replies[1], "{replies:?}");
        reports.expect("client namespace disconnect", transport);
        client.expect_echo();
        client.send("1");
        // The socket in between never reached a handler.
        reports.expect("transport close", transport);
        assert_eq!(reports.rest(), [""; 0]);
    });
    hub.expect_healthy();
}

#[test]
fn a_second_connect_during_middleware_gets_the_reply() {
    let go = Arc::new(Notify::new());
    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            report_disconnects(io, &reporter);
            let go = go.clone();
            io.of("/").with(move |socket| {
                let (go, reporter) = (go.clone(), reporter.clone());
                async move {
                    let auth: Value = socket.auth().unwrap_or_default();
                    reporter.report(auth["n"].to_string());
                    go.notified().await;
                    if auth["refuse"] == true { Err(ConnectError::new("no")) } else { Ok(()) }
                }
            });
        },
    );
    on_every_transport(|transport| {
        for first in [r#"40{"n":1}"#, r#"40{"n":1,"refuse":true}"#] {
            let mut client = hub.open(transport);
            client.send(first);
            reports.expect("1", transport);
            client.send(r#"40{"n":2}"#);
            reports.expect("2", transport);
            go.notify_one();
            go.notify_one();
            assert!(client.recv_text().starts_with("40{"), "{transport:?}");
            client.expect_echo();
            client.send("1");
            reports.expect("transport close", transport);
        }
    });
    hub.wait_for_sessions(0);
}

/// Regression: the server answered with CONNECT_ERROR. The stock client then kept a connected
/// socket that received nothing.
#[test]
fn a_refused_second_connect_disconnects_the_client_from_its_namespace() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| builder.limits(Limits::with(|limits| limits.sockets.auth_bytes_max = 64)),
        |io| {
            report_disconnects(io, &reporter);
            io.of("/checked").with(|socket| async move {
                let auth: Value = socket.auth().unwrap_or_default();
                if auth["waits"] == true {
                    std::future::pending::<()>().await;
                }
                if auth["refuse"] == true { Err(ConnectError::new("no")) } else { Ok(()) }
            });
        },
    );
    let large = format!(r#"40{{"token":"{}"}}"#, "x".repeat(64));
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        for refused in [&large, r#"40"text""#] {
            client.connect("");
            client.send(refused);
            assert_eq!(client.recv_text(), "41", "{transport:?}: {refused}");
            reports.expect("client namespace disconnect", transport);
            client.send(refused);
            assert!(client.recv_text().starts_with("44{"), "{transport:?}: the reason follows");
            // Both at once: the reply to the first is in flight when the second is refused.
            client.send_all(&[Packet::Text("40".into()), Packet::Text(refused.into())]);
            assert!(client.recv_text().starts_with("40{"), "{transport:?}: {refused}");
            assert_eq!(client.recv_text(), "41", "{transport:?}: {refused}");
        }
        let refused = r#"40/checked,{"refuse":true}"#;
        client.connect("/checked,");
        client.send(refused);
        assert_eq!(client.recv_text(), "41/checked,", "{transport:?}");
        // The first has no reply yet that could be revoked.
        client.send(r#"40/checked,{"waits":true}"#);
        client.send(refused);
        assert_eq!(client.recv_text(), r#"44/checked,{"message":"no"}"#, "{transport:?}");
        // The socket in between has no reply, the one before has one.
        client.connect("/checked,");
        client.send(r#"40/checked,{"waits":true}"#);
        client.send(refused);
        assert_eq!(client.recv_text(), "41/checked,", "{transport:?}");
        client.connect("");
        client.expect_echo();
        client.send("1");
        reports.expect("transport close", transport);
    });
    hub.expect_healthy();
}

#[test]
fn a_second_connect_that_resumes_continues_the_first_session() {
    let hub = Hub::start(
        |builder| builder.recovery(Recovery::memory()),
        |io| {
            // A socket in no room has nothing to recover.
            io.of("/").on_connection(|socket| async move {
                socket.join("lobby").await?;
                Ok(())
            });
        },
    );
    on_every_transport(|transport| {
        let mut before = hub.open(transport);
        let old = before.connect("");
        // The reply comes after the connection handler has returned.
        before.expect_echo();
        before.send("1");
        let mut after = hub.open(transport);
        let connect = Packet::Text(format!("40{}", json!({ "pid": old["pid"] })));
        after.send_all(&[connect.clone(), connect.clone()]);
        let mut reply = after.recv_text();
        // Over some transports the first CONNECT is answered before the second arrives.
        let mut replies = vec![reply.clone()];
        after.send(r#"4277["echo","there?"]"#);
        loop {
            reply = after.recv_text();
            if reply.starts_with("43") {
                break;
            }
            replies.push(reply.clone());
        }
        let last: Value = serde_json::from_str(&replies.last().unwrap()[2..]).unwrap();
        assert_eq!((&last["sid"], &last["pid"]), (&old["sid"], &old["pid"]), "{transport:?}: {replies:?}");
        // An answered socket has received events past the second CONNECT's offset, so the second
        // gets a new socket.
        after.send_all(&[connect]);
        let reply: Value = serde_json::from_str(&after.recv_text()[2..]).unwrap();
        assert!(reply["sid"] != old["sid"] && reply["pid"] != old["pid"], "{transport:?}: {reply}");
        after.expect_echo();
    });
}
