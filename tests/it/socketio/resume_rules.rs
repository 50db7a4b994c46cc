//! Decisions of connection middleware about a session that a client resumes, and connections that
//! the application closes.

use serde_json::{Value, json};
use stentor::{ConnectError, Event, Recovery, Server};

use crate::support::{Client, Ended, Hub, on_every_transport, report_channel, report_disconnects, run};

/// Keeps the rooms that `auth.rooms` lists. Gives a client with `auth.other` a session of its own.
fn with_rules(io: &Server) {
    io.of("/")
        .with(|socket| async move {
            let auth: Value = socket.auth().map_err(|error| ConnectError::new(error.to_string()))?;
            if auth["other"] == true {
                socket.decline_resume();
            }
            if let Some(rooms) = auth["rooms"].as_array().cloned() {
                socket.retain_rooms(move |room| rooms.iter().any(|kept| kept == room));
                socket.retain_rooms(|room| room != "never");
            }
            Ok(())
        })
        .on_connection(|socket| async move {
            if !socket.recovered() {
                for room in ["kept", "secret", "never"] {
                    socket.join(room).await?;
                }
            }
            Ok(())
        })
        .on("rooms", |socket, event: Event<()>| async move {
            event.ack.send(socket.rooms().await?)?;
            Ok(())
        })
        .on("close", |socket, _: Event<()>| async move {
            socket.emit("last", ()).await?;
            socket.close_transport();
            Ok(())
        });
}

fn hub() -> Hub {
    Hub::start(|builder| builder.recovery(Recovery::memory()), with_rules)
}

fn emit(hub: &Hub, room: &str, data: &str) {
    run(hub.io.of("/").to(room).emit_confirmed("news", data)).unwrap();
}

/// The name and the first argument of the next event.
#[track_caller]
fn event(client: &mut Client) -> Value {
    let packet = client.recv_text();
    let event: Value = serde_json::from_str(packet.strip_prefix("42").expect("an event")).expect("JSON");
    json!([event[0], event[1]])
}

/// Connects, leaves the connection, and returns the private id.
fn leave_session(hub: &Hub, client: &mut Client) -> Value {
    let reply = client.connect("");
    client.send(r#"420["rooms"]"#);
    client.expect(r#"430[["kept","never","secret"]]"#);
    client.send("1");
    hub.wait_for_sessions(0);
    reply
}

#[test]
fn a_resumed_socket_keeps_only_the_rooms_that_middleware_retains() {
    let hub = hub();
    on_every_transport(|transport| {
        let first = leave_session(&hub, &mut hub.open(transport));
        for room in ["secret", "kept", "never"] {
            emit(&hub, room, room);
        }
        let mut client = hub.open(transport);
        let auth = json!({ "pid": first["pid"], "rooms": ["kept", "never"] });
        assert_eq!(client.connect_with("", &auth.to_string())["pid"], first["pid"], "it is recovered");
        assert_eq!(event(&mut client), json!(["news", "kept"]));
        emit(&hub, "secret", "live");
        client.send(r#"420["rooms"]"#);
        client.expect(r#"430[["kept"]]"#);
        client.send("1");
        hub.wait_for_sessions(0);
    });
}

#[test]
fn a_declined_resume_yields_another_session_that_can_be_resumed() {
    let hub = hub();
    on_every_transport(|transport| {
        let first = leave_session(&hub, &mut hub.open(transport));
        emit(&hub, "secret", "for the first user");
        let mut other = hub.open(transport);
        let reply = other.connect_with("", &json!({ "pid": first["pid"], "other": true }).to_string());
        assert_ne!(reply["sid"], first["sid"]);
        assert!(reply["pid"].is_string() && reply["pid"] != first["pid"], "{reply}");
        other.expect_echo();
        other.send("1");
        hub.wait_for_sessions(0);
        for before in [&reply, &first] {
            let mut client = hub.open(transport);
            let again = client.connect_with("", &json!({ "pid": before["pid"] }).to_string());
            assert_eq!(again["sid"], before["sid"], "both sessions can be resumed");
            if before == &first {
                assert_eq!(event(&mut client), json!(["news", "for the first user"]));
            }
            client.send("1");
            hub.wait_for_sessions(0);
        }
    });
}

#[test]
fn a_client_whose_transport_was_closed_resumes_its_session() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| builder.recovery(Recovery::memory()),
        |io| {
            with_rules(io);
            report_disconnects(io, &reporter);
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        let first = client.connect("");
        client.send(r#"42["close"]"#);
        assert_eq!(event(&mut client)[0], "last", "events before it are sent");
        let end = client.expect_end();
        if transport == crate::support::Transport::Polling {
            assert!(matches!(end, Ended::ClosePacket | Ended::UnknownSession), "{end:?}");
        } else {
            assert_eq!(end, Ended::CloseFrame(Some(1000)));
        }
        assert!(reports.next().contains("forced close"));
        let mut again = hub.open(transport);
        let reply = again.connect_with("", &json!({ "pid": first["pid"] }).to_string());
        assert_eq!(reply["sid"], first["sid"], "it is recovered");
        again.send("1");
        reports.next();
        hub.wait_for_sessions(0);
    });
}
