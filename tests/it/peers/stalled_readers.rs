//! Clients that stop reading: they are reset at their pong deadline or when their outbox is full,
//! and other clients are served.

use std::time::Duration;

use stentor::{EmitError, Event, Limits, Recovery};

use crate::support::{Client, Ended, Frame, Hub, Reports, Transport, eventually, report_channel, report_disconnects};

/// A hub that reports how sessions ended. Its `flood` emits 8 MB to its client, at the client's
/// pace; its `pour` emits as much to the client's own room, at the hub's pace.
fn hub(change: impl FnOnce(&mut Limits)) -> (Hub, Reports) {
    let (reporter, reports) = report_channel();
    let hub = Hub::limited(
        |limits| {
            limits.transport.send_buffer_bytes = 16 << 10;
            change(limits);
        },
        |io| {
            report_disconnects(io, &reporter);
            io.of("/").on("flood", |socket, _: Event<()>| async move {
                let kilobytes = "x".repeat(8 << 10);
                for _ in 0..1_000 {
                    socket.emit("flood", &kilobytes).await?;
                }
                Ok(())
            });
            io.of("/").on("pour", |socket, _: Event<()>| async move {
                let kilobytes = "x".repeat(8 << 10);
                for _ in 0..1_000 {
                    socket.all().to(socket.id().to_string()).emit("flood", &kilobytes).await?;
                }
                Ok(())
            });
        },
    );
    (hub, reports)
}

/// A client that requested a flood and reads none of it.
fn stalled(hub: &Hub, event: &str) -> Client {
    let mut client = hub.join_with_small_buffer();
    client.send(&format!(r#"42["{event}"]"#));
    client
}

/// Expects a reset: the kernel of the hub would queue a FIN behind the unread data and keep all of
/// it.
fn expect_reset(mut client: Client) {
    let mut bytes = 0;
    loop {
        match client.websocket().recv() {
            Frame::Whole(0x81, payload) => bytes += payload.len(),
            ended => {
                assert_eq!(ended, Frame::Reset);
                assert!(bytes < 1 << 20, "{bytes} bytes were still readable");
                return;
            }
        }
    }
}

#[test]
fn a_client_that_reads_nothing_is_reset_at_its_pong_deadline() {
    let (hub, reports) = hub(|limits| {
        limits.sessions.ping_interval = Duration::from_millis(400);
        limits.sessions.ping_timeout = Duration::from_millis(400);
        limits.sessions.outbox_bytes_max = 64 << 20;
    });
    let mut other = hub.join(Transport::Websocket);
    let client = stalled(&hub, "flood");
    let mut reasons = Vec::new();
    // The other client stays connected and answers its pings meanwhile.
    eventually("the stalled client is reset", || {
        other.expect_echo();
        reasons = reports.rest();
        !reasons.is_empty()
    });
    assert_eq!(reasons, ["ping timeout"]);
    expect_reset(client);
    other.send("1");
    assert_eq!(reports.next(), "transport close");
    hub.expect_healthy();
}

#[test]
fn a_client_that_reads_nothing_is_reset_when_its_outbox_is_full() {
    let (hub, reports) = hub(|limits| {
        limits.sessions.outbox_bytes_max = 256 << 10;
        limits.transport.close_linger = Duration::from_millis(50);
    });
    let mut other = hub.join(Transport::Websocket);
    let mut client = stalled(&hub, "pour");
    other.expect_echo();
    assert_eq!(reports.next(), "transport error");
    eventually("it is reset", || client.websocket().was_reset());
    other.expect_echo();
    other.send("1");
    assert_eq!(reports.next(), "transport close");
    hub.expect_healthy();
}

#[test]
fn a_slow_reader_receives_the_reason_when_its_outbox_was_full() {
    let (hub, reports) = hub(|limits| {
        limits.sessions.outbox_bytes_max = 256 << 10;
        limits.transport.close_linger = Duration::from_secs(60);
    });
    let mut client = stalled(&hub, "pour");
    assert_eq!(reports.next(), "transport error");
    // A frame that was partly written arrives whole; later ones do not arrive.
    let mut bytes = 0;
    loop {
        match client.websocket().recv() {
            Frame::Whole(0x81, event) => {
                assert_eq!(event.len(), r#"42["flood",""]"#.len() + (8 << 10));
                bytes += event.len();
            }
            Frame::Whole(0x88, close) => {
                assert_eq!(close, [&1008_u16.to_be_bytes()[..], b"outbox full"].concat());
                break;
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(bytes < 256 << 10, "{bytes} bytes were still readable");
    assert_eq!(client.websocket().recv(), Frame::Fin);
    hub.expect_healthy();
    assert!(hub.metric(r#"stentor_dropped_events_total{reason="outbox_full"}"#) > 1);
}

#[test]
fn a_slow_polling_client_gets_a_close_packet() {
    let (hub, reports) = hub(|limits| {
        limits.sessions.outbox_bytes_max = 256 << 10;
        limits.transport.close_linger = Duration::from_secs(60);
    });
    let mut client = hub.join(Transport::Polling);
    client.send(r#"42["pour"]"#);
    assert_eq!(reports.next(), "transport error");
    assert_eq!(client.expect_end(), Ended::ClosePacket);
    assert_eq!(client.expect_end(), Ended::UnknownSession);
    hub.expect_healthy();
}

#[test]
fn an_emit_that_waits_for_a_disconnecting_client_is_unanswered() {
    // Regression: the emit returned "nothing was emitted", though the event was in the outbox and
    // may have been sent.
    let (reporter, reports) = report_channel();
    let hub = Hub::limited(
        |limits| limits.sessions.outbox_bytes_max = 256 << 10,
        |io| {
            io.of("/").on("flood", move |socket, _: Event<()>| {
                let reporter = reporter.clone();
                async move {
                    let kilobytes = "x".repeat(200 << 10);
                    let emitted = socket.emit("flood", &kilobytes).await;
                    reporter.report(emitted.map_or_else(|error| error.to_string(), |()| "emitted".into()));
                    Ok(())
                }
            });
        },
    );
    let mut client = hub.join(Transport::Polling);
    client.send(r#"42["flood"]"#);
    client.send("1");
    assert_eq!(
        reports.next(),
        "no answer within the deadline, or the session has ended: the event may or may not have been emitted"
    );
    hub.expect_healthy();
}

#[test]
fn a_polling_client_that_stops_polling_ends_when_its_outbox_is_full() {
    let (hub, reports) = hub(|limits| limits.sessions.outbox_bytes_max = 256 << 10);
    let mut client = hub.join(Transport::Polling);
    client.send(r#"42["pour"]"#);
    assert_eq!(reports.next(), "transport error");
    hub.expect_healthy();
}

#[test]
fn a_client_that_reads_gets_the_whole_flood() {
    // A send buffer below the loopback's segment size makes every write wait for a delayed ack (40
    // ms).
    let (hub, _reports) =
        hub(|limits| limits.transport.send_buffer_bytes = Limits::default().transport.send_buffer_bytes);
    for transport in Transport::ALL {
        let mut client = hub.join(transport);
        client.send(r#"42["flood"]"#);
        for _ in 0..1_000 {
            let event = client.recv_text();
            assert!(event.len() == r#"42["flood",""]"#.len() + (8 << 10), "{} bytes", event.len());
        }
        client.expect_echo();
    }
}

#[test]
fn members_of_a_room_are_served_while_one_of_them_reads_nothing() {
    let (reporter, reports) = report_channel();
    let hub = Hub::limited(
        |limits| {
            limits.transport.send_buffer_bytes = 16 << 10;
            limits.sessions.outbox_bytes_max = 512 << 10;
            limits.transport.close_linger = Duration::from_millis(50);
        },
        |io| {
            report_disconnects(io, &reporter);
            io.of("/").on("say", |socket, event: Event<u32>| async move {
                socket.all().emit("said", (event.data, "x".repeat(8 << 10))).await?;
                Ok(())
            });
        },
    );
    let mut stalled = hub.join_with_small_buffer();
    let (mut sender, mut member) = (hub.join(Transport::Websocket), hub.join(Transport::Polling));
    for number in 0..200 {
        sender.send(&format!(r#"42["say",{number}]"#));
        for client in [&mut sender, &mut member] {
            let event = client.recv_text();
            assert!(event.starts_with(&format!(r#"42["said",{number},"#)), "{}", &event[..30]);
        }
    }
    assert_eq!(reports.next(), "transport error");
    eventually("it is reset", || stalled.websocket().was_reset());
    for mut client in [sender, member] {
        client.send("1");
        assert_eq!(reports.next(), "transport close");
    }
    hub.expect_healthy();
}

#[test]
fn a_disconnect_is_noticed_while_the_session_does_not_read() {
    // Its handlers never return, and it sends until the session pauses reading.
    for (transport, reset) in
        [Transport::Websocket, Transport::Pump].into_iter().flat_map(|way| [(way, true), (way, false)])
    {
        let (reporter, reports) = report_channel();
        let hub = Hub::limited(
            |limits| {
                limits.sessions.ping_interval = Duration::from_millis(500);
                limits.sessions.ping_timeout = Duration::from_millis(500);
                limits.handlers.pending_max = 1;
                limits.handlers.held_events_max = 1;
            },
            |io| {
                report_disconnects(io, &reporter);
                let started = reporter.clone();
                io.of("/").on("hang", move |_, _: Event<()>| {
                    started.report("started");
                    std::future::pending()
                });
            },
        );
        let mut client = hub.join(transport);
        for _ in 0..10 {
            client.send(r#"42["hang"]"#);
        }
        assert_eq!(reports.next(), "started");
        let websocket = client.into_websocket();
        if reset {
            websocket.reset()
        } else {
            websocket.send_fin()
        }
        let reason = reports.next();
        assert!(["transport error", "transport close", "ping timeout"].contains(&reason.as_str()), "{reason}");
        hub.expect_healthy();
    }
}

#[test]
fn a_client_that_reads_nothing_does_not_delay_closing_the_server() {
    let (hub, _reports) = hub(|_| {});
    let mut client = hub.join_with_small_buffer();
    client.send(r#"42["flood"]"#);
    // The first event was sent, so the flood has begun.
    assert!(matches!(client.websocket().recv(), Frame::Whole(0x81, _)));
    let io = hub.io.clone();
    actix::System::new().block_on(async move { io.close().await });
    assert_eq!(hub.io.sessions(), 0);
}

#[test]
fn emits_behind_one_to_a_room_wait_for_their_client_too() {
    // Regression: each emit kept the credit window busy for the next one, so none checked the
    // outbox, and a slow client lost its session.
    let hub = Hub::limited(
        |limits| limits.sessions.outbox_bytes_max = 1 << 20,
        |io| {
            io.of("/").on("flood", |socket, _: Event<()>| async move {
                let kilobytes = "x".repeat(2 << 10);
                for n in 0..4_000 {
                    if n % 50 == 0 {
                        socket.all().to("nobody").emit("elsewhere", ()).await?;
                    }
                    socket.emit("flood", (n, &kilobytes)).await?;
                }
                Ok(())
            });
        },
    );
    let mut client = hub.join_with_small_buffer();
    client.send(r#"42["flood"]"#);
    // Other sessions of this worker are served while the client reads nothing.
    let mut other = hub.join(Transport::Websocket);
    (0..1_000).for_each(|_| other.expect_echo());
    for n in 0..4_000 {
        let event = client.recv_text();
        assert!(event.starts_with(&format!(r#"42["flood",{n},"#)), "{}", &event[..40.min(event.len())]);
    }
    client.expect_echo();
}

#[test]
fn with_recovery_a_handler_waits_for_its_client_too() {
    let limits = Limits::with(|limits| {
        limits.sessions.outbox_bytes_max = 1 << 20;
        limits.journal.bytes_max = 2 << 20;
    });
    let hub = Hub::start(
        |builder| builder.recovery(Recovery::memory()).limits(limits),
        |io| {
            io.of("/").on("flood", |socket, _: Event<()>| async move {
                let kilobytes = "x".repeat(2 << 10);
                for n in 0..8_000 {
                    socket.emit("flood", (n, &kilobytes)).await?;
                }
                Ok(())
            });
        },
    );
    let mut client = hub.join_with_small_buffer();
    client.send(r#"42["flood"]"#);
    let mut other = hub.join(Transport::Websocket);
    (0..1_000).for_each(|_| other.expect_echo());
    for n in 0..8_000 {
        let event = client.recv_text();
        assert!(event.starts_with(&format!(r#"42["flood",{n},"#)), "{}", &event[..40.min(event.len())]);
    }
}

#[test]
fn emits_that_wait_for_a_client_to_read_are_bounded() {
    // Regression: code that did not await each emit could have any number of them pending, with
    // their arguments.
    for recovery in [Recovery::off(), Recovery::memory()] {
        let (reporter, reports) = report_channel();
        let limits = Limits::with(|limits| {
            limits.sessions.outbox_bytes_max = 4 << 20;
            limits.transport.send_buffer_bytes = 16 << 10;
            limits.hub.credit_waiting_max = 16;
            limits.hub.credit_timeout = Duration::from_millis(500);
        });
        let hub = Hub::start(
            |builder| builder.recovery(recovery.clone()).limits(limits),
            |io| {
                io.of("/").on("flood", move |socket, _: Event<()>| {
                    let reporter = reporter.clone();
                    async move {
                        let mut emits = Vec::new();
                        // The first takes more than half of the outbox; small ones follow.
                        for bytes in [700 << 10; 5].into_iter().chain([10; 200]) {
                            let socket = socket.clone();
                            let emit = async move { socket.emit("flood", "x".repeat(bytes)).await };
                            emits.push(actix::spawn(emit));
                            // The mailbox of the session is bounded too, and must not be the limit
                            // here.
                            for _ in 0..8 {
                                tokio::task::yield_now().await;
                            }
                        }
                        let mut refused = 0;
                        for emit in emits {
                            refused += usize::from(matches!(emit.await, Ok(Err(EmitError::Overloaded))));
                        }
                        reporter.report(format!("{refused}"));
                        Ok(())
                    }
                });
            },
        );
        let mut client = hub.join_with_small_buffer();
        client.send(r#"42["flood"]"#);
        let refused: usize = reports.next().parse().unwrap();
        assert!(refused >= 150, "{recovery:?}: {refused} of 205 were refused");
    }
}
