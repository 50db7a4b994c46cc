//! Offsets of events: present and growing with recovery on, absent with recovery off.

use std::sync::Arc;

use serde_json::{Value, json};
use stentor::{Args, ConnectError, Event, Offset, Recovery, Server};
use tokio::sync::Notify;

use crate::support::{Client, Hub, Packet, Transport, on_every_transport, report_channel};

/// A hub whose `emit` emits to the client in every way.
fn hub(recovery: Recovery) -> Hub {
    Hub::start(
        |builder| builder.recovery(recovery),
        |io: &Server| {
            let server = io.clone();
            io.of("/")
                .on("emit", move |socket, event: Event<Args>| {
                    let io = server.clone();
                    async move {
                        socket.emit("direct", 1).await?;
                        io.emit("everybody", ("two", 2)).await?;
                        socket.all().to(socket.id().to_string()).emit("room", ()).await?;
                        event.ack.send("done")?;
                        Ok(())
                    }
                })
                .on("volatile", |socket, event: Event<()>| async move {
                    socket.all().emit("before", ()).await?;
                    socket.all().volatile().emit("volatile", ()).await?;
                    socket.volatile().emit("own", 1).await?;
                    event.ack.send(())?;
                    Ok(())
                })
                .on("back", |socket, event: Event<Args>| async move {
                    socket.emit("here", event.data).await?;
                    Ok(())
                })
                .on("ask", |socket, event: Event<()>| async move {
                    let answer: u32 = socket.emit_with_ack("question", 1).await?;
                    event.ack.send(answer)?;
                    Ok(())
                });
        },
    )
}

/// The offset at the end of the next packet, which must begin with `prefix`.
fn token(client: &mut Client, prefix: &str) -> Offset {
    let packet = client.recv_text();
    let token = packet.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(r#""]"#));
    let token = token.unwrap_or_else(|| panic!("expected {prefix}TOKEN\"], got {packet}"));
    Offset::parse(token).unwrap_or_else(|error| panic!("{packet}: {error}"))
}

#[test]
fn with_recovery_off_no_event_has_an_offset() {
    let hub = hub(Recovery::off());
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send(r#"421["emit"]"#);
        for packet in [r#"42["direct",1]"#, r#"42["everybody","two",2]"#, r#"42["room"]"#, r#"431["done"]"#] {
            client.expect(packet);
        }
        client.send("1");
        hub.wait_for_sessions(0);
    });
}

#[test]
fn a_client_that_opted_out_gets_no_offsets_on_any_kind_of_event() {
    let hub = hub(Recovery::memory());
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        assert_eq!(client.connect_with("", r#"{"recovery":false}"#).get("pid"), None);
        client.send(r#"421["emit"]"#);
        for packet in [r#"42["direct",1]"#, r#"42["everybody","two",2]"#, r#"42["room"]"#, r#"431["done"]"#] {
            client.expect(packet);
        }
        client.send("1");
        hub.wait_for_sessions(0);
    });
    for transport in Transport::WEBSOCKETS {
        let mut client = hub.open(transport);
        client.connect_with("", r#"{"recovery":false}"#);
        client.send(r#"421["volatile"]"#);
        for packet in [r#"42["before"]"#, r#"42["volatile"]"#, r#"42["own",1]"#, "431[]"] {
            client.expect(packet);
        }
    }
}

#[test]
fn with_recovery_on_offsets_are_the_last_argument_and_grow() {
    let hub = hub(Recovery::memory());
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        let mut last = None;
        for _ in 0..20 {
            client.send(r#"421["emit"]"#);
            for prefix in [r#"42["direct",1,""#, r#"42["everybody","two",2,""#, r#"42["room",""#] {
                let token = token(&mut client, prefix);
                assert!(last.is_none_or(|last: Offset| last.lsn < token.lsn && last.epoch == token.epoch), "{prefix}");
                last = Some(token);
            }
            client.expect(r#"431["done"]"#);
        }
        client.send("1");
        hub.wait_for_sessions(0);
    });
}

#[test]
fn a_volatile_event_has_the_offset_of_the_event_before_it() {
    let hub = hub(Recovery::memory());
    // It may be dropped where no poll waits.
    for transport in Transport::WEBSOCKETS {
        let mut client = hub.join(transport);
        client.send(r#"421["volatile"]"#);
        let before = token(&mut client, r#"42["before",""#);
        assert_eq!(token(&mut client, r#"42["volatile",""#), before);
        assert_eq!(token(&mut client, r#"42["own",1,""#), before);
        client.expect("431[]");
    }
}

#[test]
fn a_binary_event_has_its_offset_after_the_placeholders() {
    let hub = hub(Recovery::memory());
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        let header = r#"451-["back",{"_placeholder":true,"num":0}]"#;
        client.send_all(&[Packet::Text(header.into()), Packet::Binary(b"x".into())]);
        token(&mut client, r#"451-["here",{"_placeholder":true,"num":0},""#);
        client.expect_binary(b"x");
    });
}

#[test]
fn an_event_with_an_ack_has_no_offset() {
    let hub = hub(Recovery::memory());
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send(r#"421["ask"]"#);
        let question = client.recv_text();
        let id = question.strip_prefix("42").and_then(|rest| rest.strip_suffix(r#"["question",1]"#));
        let id = id.unwrap_or_else(|| panic!("an offset? {question}")).to_owned();
        client.send(&format!("43{id}[7]"));
        client.expect("431[7]");
    });
}

#[test]
fn members_of_a_room_get_the_same_offset() {
    let hub = hub(Recovery::memory());
    on_every_transport(|transport| {
        let (mut one, mut other) = (hub.join(transport), hub.join(transport));
        one.send(r#"42["emit"]"#);
        token(&mut one, r#"42["direct",1,""#);
        let here = token(&mut one, r#"42["everybody","two",2,""#);
        assert_eq!(token(&mut other, r#"42["everybody","two",2,""#), here);
        drop((one, other));
    });
}

/// Both sockets have the id of the session that they resume, so the id does not tell their
/// middleware apart.
#[test]
fn middleware_of_a_replaced_resume_does_not_affect_its_successor() {
    let (reporter, reports) = report_channel();
    let admit = Arc::new(Notify::new());
    let refuse = Arc::new(Notify::new());
    let hub = Hub::start(
        |builder| builder.recovery(Recovery::memory()),
        |io| {
            let (admit, refuse) = (admit.clone(), refuse.clone());
            io.of("/")
                .with(move |socket| {
                    let (admit, refuse, reporter) = (admit.clone(), refuse.clone(), reporter.clone());
                    async move {
                        if !socket.recovered() {
                            return Ok(());
                        }
                        let auth: Value = socket.auth().unwrap_or_default();
                        reporter.report(format!("{} {}", socket.id(), auth["token"]));
                        if auth["token"] == "good" {
                            admit.notified().await;
                            return Ok(());
                        }
                        refuse.notified().await;
                        Err(ConnectError::new("bad token"))
                    }
                })
                .on_connection(|socket| async move {
                    socket.join("a").await?;
                    Ok(())
                });
        },
    );
    on_every_transport(|transport| {
        let mut before = hub.open(transport);
        let first = before.connect("");
        let sid = first["sid"].as_str().unwrap();
        before.send("1");
        let mut after = hub.open(transport);
        for token in ["good", "bad"] {
            after.send(&format!("40{}", json!({ "pid": first["pid"], "token": token })));
            assert_eq!(reports.next(), format!("{sid} \"{token}\""), "{transport:?}");
        }
        admit.notify_one();
        after.wait_until_handled();
        refuse.notify_one();
        assert!(after.recv_text().starts_with("44{"), "{transport:?}: the counted token is bad");
        // The hub keeps nothing of it: the session can be resumed.
        after.send(&format!("40{}", json!({ "pid": first["pid"], "token": "good" })));
        reports.next();
        admit.notify_one();
        let reply: Value = serde_json::from_str(&after.recv_text()[2..]).unwrap();
        assert_eq!(reply["sid"], sid, "{transport:?}");
        after.send("1");
    });
    hub.expect_healthy();
}

#[test]
fn claim_lost_during_middleware_yields_a_new_socket() {
    let (reporter, reports) = report_channel();
    let go = Arc::new(Notify::new());
    let hub = Hub::start(
        |builder| builder.recovery(Recovery::memory()),
        |io| {
            let go = go.clone();
            io.of("/")
                .with(move |socket| {
                    let (go, reporter) = (go.clone(), reporter.clone());
                    async move {
                        if socket.recovered() {
                            let data: Option<String> = socket.data().map_err(|_| ConnectError::new("unreadable"))?;
                            reporter.report(format!("{} {data:?}", socket.id()));
                            go.notified().await;
                            socket.set_data("from middleware").map_err(|_| ConnectError::new("no data"))?;
                        }
                        Ok(())
                    }
                })
                .on_connection(|socket| async move {
                    // A session in no room has nothing to recover before its first event.
                    socket.join("a").await?;
                    Ok(())
                })
                .on("me", |socket, event: Event<()>| async move {
                    let data: Option<String> = socket.data()?;
                    event.ack.send((socket.id().to_string(), data, socket.recovered()))?;
                    Ok(())
                });
        },
    );
    on_every_transport(|transport| {
        let mut before = hub.open(transport);
        let first = before.connect("");
        let mut after = hub.open(transport);
        // The client sends before the reply; the socket that it finally gets handles the event.
        after.send_all(&[
            Packet::Text(format!("40{}", json!({ "pid": first["pid"] }))),
            Packet::Text(r#"420["me"]"#.into()),
        ]);
        let sid = first["sid"].as_str().unwrap();
        assert_eq!(reports.next(), format!("{sid} None"), "middleware sees the old identity");
        // The DISCONNECT of the old connection was in flight all the time.
        before.send("41");
        before.wait_until_handled();
        go.notify_one();
        let reply: Value = serde_json::from_str(&after.recv_text()[2..]).unwrap();
        assert_ne!(reply["sid"], first["sid"]);
        assert_ne!(reply["pid"], first["pid"]);
        let sid = reply["sid"].as_str().unwrap();
        after.expect(&format!(r#"430["{sid}","from middleware",false]"#));
        // The new socket keeps the data that middleware set.
        after.send("1");
        go.notify_one();
        let mut again = hub.open(transport);
        let back = again.connect_with("", &json!({ "pid": reply["pid"] }).to_string());
        assert_eq!((&back["sid"], &back["pid"]), (&reply["sid"], &reply["pid"]));
        assert_eq!(reports.next(), format!(r#"{sid} Some("from middleware")"#));
    });
}
