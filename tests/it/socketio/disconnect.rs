//! Leaving a namespace and closing a connection from either side, and the disconnect handlers.

use stentor::{Args, Event, Server};

use crate::support::{Ended, Hub, Reporter, Transport, on_every_transport, report_channel, report_disconnects};

/// Handlers that disconnect their own client.
fn with_exits(io: &Server, reporter: &Reporter) {
    report_disconnects(io, reporter);
    io.of("/")
        .on("out", |socket, _: Event<()>| async move {
            socket.emit("bye", ()).await?;
            socket.disconnect(false);
            Ok(())
        })
        .on("end", |socket, _: Event<()>| async move {
            socket.emit("bye", ()).await?;
            socket.disconnect(true);
            Ok(())
        });
    let reporter = reporter.clone();
    io.of("/chat").on_disconnect(move |_, reason| {
        reporter.report(format!("chat: {reason}"));
        async { Ok(()) }
    });
}

#[test]
fn a_client_leaves_a_namespace_and_its_transport_stays_open() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(|builder| builder, |io| with_exits(io, &reporter));
    on_every_transport(|transport| {
        for leave in ["41", "41/,"] {
            let mut client = hub.join(transport);
            client.send(leave);
            assert_eq!(reports.next(), "client namespace disconnect");
            client.connect("");
            client.expect_echo();
            client.send("1");
            assert_eq!(reports.next(), "transport close");
        }
    });
    hub.expect_healthy();
}

#[test]
fn all_disconnect_handlers_run_in_the_order_of_registration() {
    let (reporter, reports) = report_channel();
    let say = move |words: &'static str| {
        let reporter = reporter.clone();
        move |_, _| {
            let reporter = reporter.clone();
            async move {
                // Later handlers wait for the end of this one.
                tokio::task::yield_now().await;
                reporter.report(words);
                if words == "second" { Err(std::io::Error::other("as it should").into()) } else { Ok(()) }
            }
        }
    };
    let hub = Hub::start(
        |builder| builder,
        |io| {
            io.of("/").on_disconnect(say("first")).on_disconnect(say("second"));
            io.of("/").on("register", move |socket, event: Event<()>| {
                socket.on_disconnect(say("of the socket"));
                async move { Ok(event.ack.send(())?) }
            });
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send(r#"421["register"]"#);
        client.expect("431[]");
        client.send("41");
        assert_eq!(reports.take(3), ["first", "second", "of the socket"]);
        client.send("1");
    });
    hub.expect_healthy();
}

#[test]
fn leaving_one_namespace_leaves_the_others_connected() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(|builder| builder, |io| with_exits(io, &reporter));
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.connect("/chat,");
        client.send("41/chat,");
        assert_eq!(reports.next(), "chat: client namespace disconnect");
        client.expect_echo();
        client.connect("/chat,");
        client.send("41");
        assert_eq!(reports.next(), "client namespace disconnect");
        client.connect("");
        client.expect_echo();
        client.send("1");
        let mut reasons = reports.take(2);
        reasons.sort();
        assert_eq!(reasons, ["chat: transport close", "transport close"]);
    });
}

#[test]
fn leaving_a_namespace_that_is_not_connected_is_ignored() {
    let hub = Hub::plain();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send("41/nope,");
        client.expect_echo();
    });
}

#[test]
fn the_server_disconnects_a_socket_and_the_transport_stays_open() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(|builder| builder, |io| with_exits(io, &reporter));
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.connect("/chat,");
        client.send(r#"42["out"]"#);
        client.expect(r#"42["bye"]"#);
        client.expect("41");
        assert_eq!(reports.next(), "server namespace disconnect");
        client.connect("");
        client.expect_echo();
        client.send("1");
        reports.take(2);
    });
}

#[test]
fn closing_a_connection_first_disconnects_every_namespace() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(|builder| builder, |io| with_exits(io, &reporter));
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.connect("/chat,");
        client.send(r#"42["end"]"#);
        client.expect(r#"42["bye"]"#);
        let mut said = [client.recv_text(), client.recv_text()];
        said.sort();
        assert_eq!(said, ["41", "41/chat,"]);
        let ended = client.expect_end();
        assert!(
            matches!(ended, Ended::ClosePacket | Ended::UnknownSession | Ended::CloseFrame(Some(1000))),
            "{ended:?}"
        );
        let mut reasons = reports.take(2);
        reasons.sort();
        assert_eq!(reasons, ["chat: server namespace disconnect", "server namespace disconnect"]);
    });
    hub.expect_healthy();
}

#[test]
fn a_disconnected_polling_client_gets_its_packet_without_a_waiting_poll() {
    // `client.expect` polls only after the POST was answered, so the packet was in the outbox when
    // the session ended.
    let (reporter, reports) = report_channel();
    let hub = Hub::start(|builder| builder, |io| with_exits(io, &reporter));
    let mut client = hub.join(crate::support::Transport::Polling);
    client.send(r#"42["end"]"#);
    assert_eq!(reports.next(), "server namespace disconnect");
    client.expect(r#"42["bye"]"#);
    client.expect("41");
    client.expect_end();
}

#[test]
fn a_disconnected_polling_client_that_never_polls_is_removed() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(|builder| builder, |io| with_exits(io, &reporter));
    let mut client = hub.join(crate::support::Transport::Polling);
    client.send(r#"42["end"]"#);
    assert_eq!(reports.next(), "server namespace disconnect");
    hub.wait_for_sessions(0);
    assert_eq!(hub.http().get(&client.poll_target()).head.status, 400);
}

#[test]
fn a_handler_of_a_disconnected_socket_gets_errors_and_runs_to_its_end() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            let reporter = reporter.clone();
            io.of("/").on("leave me", move |socket, _: Event<()>| {
                let reporter = reporter.clone();
                async move {
                    socket.disconnect(true);
                    // Repeated until the socket is gone: each join waits for the hub.
                    while let Ok(joined) = socket.join("room").await {
                        reporter.report(format!("joined with {} members", joined.members));
                    }
                    reporter.report(format!(
                        "emit: {:?}",
                        socket.emit("more", ()).await.map_err(|error| error.to_string())
                    ));
                    reporter.report(format!(
                        "call: {:?}",
                        socket.emit_with_ack::<(), _>("?", ()).await.map_err(|e| e.to_string())
                    ));
                    Ok(())
                }
            });
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send(r#"421["leave me"]"#);
        client.expect("41");
        client.expect_end();
        let received = reports.take(2);
        assert_eq!(received, [r#"emit: Err("socket is disconnected")"#, r#"call: Err("socket is disconnected")"#]);
    });
    hub.expect_healthy();
}

#[test]
fn a_client_that_stops_polling_after_close_ends_as_transport_close() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(|builder| builder, |io| with_exits(io, &reporter));
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send("1");
        assert_eq!(reports.next(), "transport close");
        let ended = client.expect_end();
        assert!(
            matches!(ended, Ended::ClosePacket | Ended::UnknownSession | Ended::CloseFrame(Some(1000))),
            "{ended:?}"
        );
    });
    hub.expect_healthy();
}

#[test]
fn final_packets_over_the_poll_limit_come_with_the_next_polls() {
    // Regression: packets that did not fit into the waiting poll were dropped with the session.
    let hub = Hub::limited(
        |limits| limits.transport.poll_bytes_max = 30,
        |io| {
            io.of("/").on("leave", |socket, _: Event<()>| async move {
                // A broadcast comes first, so that all of them leave the hub together.
                let word = |letter: &str| letter.repeat(20);
                let (a, b, c) = (word("a"), word("b"), word("c"));
                let _ = tokio::join!(
                    socket.to("nobody").emit("x", ()),
                    socket.emit("last", &a),
                    socket.emit("last", &b),
                    socket.emit("last", &c),
                    async { socket.disconnect(true) },
                );
                Ok(())
            });
        },
    );
    let client = hub.join(Transport::Polling);
    let target = client.poll_target();
    let (mut gets, mut posts) = client.connections();
    gets.start_poll(&target);
    assert_eq!(posts.post(&target, r#"42["leave"]"#).status_and_body(), (200, "ok"));
    let mut received = gets.response().body;
    for _ in 0..5 {
        if received.ends_with("\x1e1") {
            break;
        }
        let response = gets.get(&target);
        assert_eq!(response.head.status, 200, "{received:?}, then {response:?}");
        received += "\x1e";
        received += &response.body;
    }
    let event = |letter: &str| format!(r#"42["last","{}"]"#, letter.repeat(20));
    assert_eq!(received.split('\x1e').collect::<Vec<_>>(), [&event("a"), &event("b"), &event("c"), "41", "1"]);
    hub.expect_healthy();
}

#[test]
fn events_emitted_to_others_while_a_session_ends_are_delivered() {
    // Regression: the emit was handed to the session, which ended in the same turn and dropped it.
    let hub = Hub::start(
        |builder| builder,
        |io| {
            io.of("/").on("leave", |socket, event: Event<Args>| async move {
                socket.disconnect(true);
                socket.to("all").emit("first", event.data.clone()).await?;
                socket.to("all").emit("second", event.data).await?;
                Ok(())
            });
            io.of("/").on_connection(|socket| async move {
                socket.join("all").await?;
                Ok(())
            });
        },
    );
    on_every_transport(|transport| {
        let mut stays = hub.join(Transport::Websocket);
        let mut leaves = hub.join(transport);
        leaves.expect_echo();
        leaves.send(r#"42["leave",1]"#);
        stays.expect(r#"42["first",1]"#);
        stays.expect(r#"42["second",1]"#);
        stays.send("1");
        hub.wait_for_sessions(0);
    });
}
