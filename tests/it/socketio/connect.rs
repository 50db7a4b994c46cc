//! CONNECT: what is answered, to whom, and what is refused.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value;
use stentor::{Event, Recovery};

use crate::support::{Ended, Hub, Transport, on_every_transport, report};

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
        |limits| limits.namespaces_per_session_max = 3,
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
    let hub = Hub::limited(|limits| limits.connect_timeout = Duration::from_secs(1), |_| {});
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        let ended = client.ends();
        assert!(matches!(ended, Ended::Told | Ended::Unknown | Ended::Closed(_)), "{ended:?}");
        hub.wait_for_sessions(0);
    });
}

#[test]
fn a_connect_that_is_refused_does_not_stop_the_connect_timeout() {
    let hub = Hub::limited(|limits| limits.connect_timeout = Duration::from_secs(1), |_| {});
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
            limits.connect_timeout = Duration::from_secs(1);
            // The second ping comes after the connect timeout.
            limits.ping_interval = Duration::from_millis(600);
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
