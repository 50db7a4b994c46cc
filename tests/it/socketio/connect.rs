//! CONNECT: what is answered, to whom, and what is refused.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use stentor::{ConnectError, Event, Limits, Recovery};
use tokio::sync::Notify;

use crate::support::{Ended, Hub, Packet, Transport, ends, on_every_transport, report};

/// In the order of the alphabet.
fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn is_id(id: &str) -> bool {
    id.len() == 20 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

#[test]
fn the_reply_is_a_sid_and_nothing_else() {
    let hub = Hub::plain();
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        client.send("40");
        let reply = client.recv_text();
        let sid = reply.strip_prefix(r#"40{"sid":""#).and_then(|rest| rest.strip_suffix(r#""}"#));
        let sid = sid.unwrap_or_else(|| panic!("not a reply: {reply}"));
        assert!(is_id(sid), "{sid}");
        assert_ne!(sid, client.sid, "the session's id is a secret of its client");
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
            client.echoes();
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
        client.echoes();
    });
}

#[test]
fn an_unknown_namespace_is_refused_and_the_transport_stays() {
    let hub = Hub::plain();
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        client.send("40/nope,");
        client.expect(r#"44/nope,{"message":"Invalid namespace"}"#);
        client.send(r#"40/nope,{"token":1}"#);
        client.expect(r#"44/nope,{"message":"Invalid namespace"}"#);
        client.connect("");
        client.echoes();
    });
}

#[test]
fn the_main_namespace_need_not_be_joined_first() {
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
fn more_namespaces_than_allowed_are_refused_and_the_transport_stays() {
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
        // Whoever leaves one may join another.
        client.send("41/a,");
        client.connect("/c,");
        client.echoes();
    });
}

#[test]
fn without_a_connect_in_time_the_session_ends() {
    let hub = Hub::limited(|limits| limits.sessions.connect_timeout = Duration::from_secs(1), |_| {});
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        let ended = client.ends();
        assert!(matches!(ended, Ended::Told | Ended::Unknown | Ended::Closed(_)), "{ended:?}");
        hub.wait_for_sessions(0);
    });
}

#[test]
fn a_connect_that_is_refused_does_not_stop_the_connect_timeout() {
    let hub = Hub::limited(|limits| limits.sessions.connect_timeout = Duration::from_secs(1), |_| {});
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        client.send("40/nope,");
        client.expect(r#"44/nope,{"message":"Invalid namespace"}"#);
        let ended = client.ends();
        assert!(matches!(ended, Ended::Told | Ended::Unknown | Ended::Closed(_)), "{ended:?}");
    });
}

#[test]
fn a_client_that_connected_in_time_stays() {
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
        client.echoes();
    });
}

#[test]
fn a_handler_sees_what_the_client_said_when_it_connected() {
    let (tell, told) = report();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            io.of("/").on_connection(move |socket| {
                let handshake = socket.handshake();
                tell.say(format!("{:?} {:?}", handshake.query(), handshake.header("host")));
                tell.say(format!("{}", handshake.address().is_some_and(|address| address.is_loopback())));
                async { Ok(()) }
            });
        },
    );
    hub.join(Transport::Polling);
    assert_eq!(told.take(2), [r#""EIO=4&transport=polling" Some("localhost")"#, "true"]);
    hub.join(Transport::Websocket);
    assert_eq!(told.take(2), [r#""EIO=4&transport=websocket" Some("localhost")"#, "true"]);
}

/// React's StrictMode: `connect(); disconnect(); connect()` in one turn says CONNECT twice, and no DISCONNECT between.
#[test]
fn a_second_connect_replaces_the_first_socket() {
    let (tell, told) = report();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            ends(io, &tell);
            io.of("/other");
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        client.connect("/other,");
        let first = client.connect("");
        let second = client.connect_with("", r#"{"token":1}"#);
        assert_ne!(first["sid"], second["sid"], "{transport:?}");
        told.expect("client namespace disconnect", transport);
        client.echoes();
        // Together, before the first is answered.
        client.send_all(&[Packet::Text("40".into()), Packet::Text("40".into())]);
        let replies = [client.recv_text(), client.recv_text()];
        assert!(replies.iter().all(|reply| reply.starts_with("40{")) && replies[0] != replies[1], "{replies:?}");
        told.expect("client namespace disconnect", transport);
        client.echoes();
        client.send("1");
        // The one between never got as far as a handler.
        told.expect("transport close", transport);
        assert_eq!(told.rest(), [""; 0]);
    });
    hub.is_unharmed();
}

#[test]
fn a_second_connect_during_middleware_is_the_one_that_is_answered() {
    let go = Arc::new(Notify::new());
    let (tell, told) = report();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            ends(io, &tell);
            let go = go.clone();
            io.of("/").with(move |socket| {
                let (go, tell) = (go.clone(), tell.clone());
                async move {
                    let auth: Value = socket.auth().unwrap_or_default();
                    tell.say(auth["n"].to_string());
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
            told.expect("1", transport);
            client.send(r#"40{"n":2}"#);
            told.expect("2", transport);
            go.notify_one();
            go.notify_one();
            assert!(client.recv_text().starts_with("40{"), "{transport:?}");
            client.echoes();
            client.send("1");
            told.expect("transport close", transport);
        }
    });
    hub.wait_for_sessions(0);
}

/// It was a CONNECT_ERROR: the stock client then kept a socket that says that it is connected, and heard nothing.
#[test]
fn a_refused_second_connect_disconnects_the_client_from_its_namespace() {
    let (tell, told) = report();
    let hub = Hub::start(
        |builder| builder.limits(Limits::with(|limits| limits.sockets.auth_bytes_max = 64)),
        |io| {
            ends(io, &tell);
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
            told.expect("client namespace disconnect", transport);
            client.send(refused);
            assert!(client.recv_text().starts_with("44{"), "{transport:?}: the reason follows");
            // Together: the reply to the first is on its way when the second is refused.
            client.send_all(&[Packet::Text("40".into()), Packet::Text(refused.into())]);
            assert!(client.recv_text().starts_with("40{"), "{transport:?}: {refused}");
            assert_eq!(client.recv_text(), "41", "{transport:?}: {refused}");
        }
        let refused = r#"40/checked,{"refuse":true}"#;
        client.connect("/checked,");
        client.send(refused);
        assert_eq!(client.recv_text(), "41/checked,", "{transport:?}");
        // The first has no reply that could be taken back.
        client.send(r#"40/checked,{"waits":true}"#);
        client.send(refused);
        assert_eq!(client.recv_text(), r#"44/checked,{"message":"no"}"#, "{transport:?}");
        // The one between has none, the one before it has.
        client.connect("/checked,");
        client.send(r#"40/checked,{"waits":true}"#);
        client.send(refused);
        assert_eq!(client.recv_text(), "41/checked,", "{transport:?}");
        client.connect("");
        client.echoes();
        client.send("1");
        told.expect("transport close", transport);
    });
    hub.is_unharmed();
}

#[test]
fn a_second_connect_that_resumes_continues_the_first_session() {
    let hub = Hub::start(
        |builder| builder.recovery(Recovery::memory()),
        |io| {
            // A socket in no room has nothing to resume.
            io.of("/").on_connection(|socket| async move {
                socket.join("lobby").await?;
                Ok(())
            });
        },
    );
    on_every_transport(|transport| {
        let mut before = hub.open(transport);
        let old = before.connect("");
        // Answered when the connection handler has returned.
        before.echoes();
        before.send("1");
        let mut after = hub.open(transport);
        let connect = Packet::Text(format!("40{}", json!({ "pid": old["pid"] })));
        after.send_all(&[connect.clone(), connect.clone()]);
        let mut reply = after.recv_text();
        // Over some transports the first was looked up and answered before the second came.
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
        // One that was answered has been read on from where the other would begin: it is a new one, and its client is told.
        after.send_all(&[connect]);
        let reply: Value = serde_json::from_str(&after.recv_text()[2..]).unwrap();
        assert!(reply["sid"] != old["sid"] && reply["pid"] != old["pid"], "{transport:?}: {reply}");
        after.echoes();
    });
}
