//! Event handlers: start, order, limits, errors and panics.

use std::future::{Ready, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use stentor::{Event, HandlerError, Socket};
use tokio::sync::Notify;

use crate::support::{Hub, Packet, Reporter, Transport, on_every_transport, report_channel, report_disconnects};

fn text(packet: impl Into<String>) -> Packet {
    Packet::Text(packet.into())
}

/// A handler of `n` that reports the number.
fn numbers(reporter: &Reporter) -> impl Fn(Socket, Event<u32>) -> Ready<Result<(), HandlerError>> + use<> {
    let reporter = reporter.clone();
    move |_, event| {
        reporter.report(format!("event {}", event.data));
        std::future::ready(Ok(()))
    }
}

#[test]
fn events_are_held_in_order_until_the_connection_handler_returns() {
    let (reporter, reports) = report_channel();
    let go = Arc::new(Notify::new());
    let hub = Hub::start(
        |builder| builder,
        |io| {
            let (reporter, go) = (reporter.clone(), go.clone());
            let namespace = io.of("/").on("n", numbers(&reporter));
            namespace.on_connection(move |_| {
                let (reporter, go) = (reporter.clone(), go.clone());
                async move {
                    go.notified().await;
                    reporter.report("connected");
                    Ok(())
                }
            });
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send_all(&[text(r#"42["n",1]"#), text(r#"42["n",2]"#)]);
        client.send(r#"42["n",3]"#);
        client.wait_until_handled();
        assert_eq!(reports.rest(), [""; 0]);
        go.notify_one();
        assert_eq!(reports.take(4), ["connected", "event 1", "event 2", "event 3"]);
    });
}

#[test]
fn events_sent_together_with_connect_are_handled_after_it() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            let namespace = io.of("/").on("n", numbers(&reporter));
            namespace.on_connection(move |socket| {
                let reporter = reporter.clone();
                async move {
                    socket.join("room").await?;
                    reporter.report("connected");
                    Ok(())
                }
            });
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        client.send_all(&[text("40"), text(r#"42["n",1]"#), text(r#"42["n",2]"#)]);
        assert_eq!(reports.take(3), ["connected", "event 1", "event 2"]);
        assert!(client.recv_text().starts_with(r#"40{"sid":"#));
        client.expect_echo();
    });
}

#[test]
fn a_hanging_connection_handler_releases_events_at_its_deadline() {
    let (reporter, reports) = report_channel();
    let hub = Hub::limited(
        |limits| limits.handlers.connection_timeout = Duration::from_millis(100),
        |io| {
            let namespace = io.of("/").on("n", numbers(&reporter));
            namespace.on_connection(|_| std::future::pending());
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send(r#"42["n",1]"#);
        assert_eq!(reports.next(), "event 1");
    });
}

#[test]
fn a_held_event_does_not_hold_up_another_namespace() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            io.of("/held").on_connection(|_| std::future::pending()).on("n", numbers(&reporter));
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.connect("/held,");
        client.send(r#"42/held,["n",1]"#);
        client.expect_echo();
        assert_eq!(reports.rest(), [""; 0]);
    });
}

#[test]
fn handlers_start_in_the_order_of_their_events() {
    let (reporter, reports) = report_channel();
    let hub = Hub::on_workers(
        2,
        |builder| builder,
        |io| {
            let namespace = io.of("/").on("n", {
                let reporter = reporter.clone();
                move |socket: Socket, event: Event<u32>| {
                    let reporter = reporter.clone();
                    async move {
                        reporter.report(format!("event {}", event.data));
                        // Earlier handlers are still running when later ones start.
                        socket.join(format!("room {}", event.data)).await?;
                        Ok(())
                    }
                }
            });
            namespace.on("m", numbers(&reporter));
        },
    );
    let expected: Vec<_> = (0..300).map(|number| format!("event {number}")).collect();
    let event = |number| text(format!(r#"42["{}",{number}]"#, if number % 3 == 0 { "m" } else { "n" }));
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send_all(&(0..300).map(event).collect::<Vec<_>>());
        assert_eq!(reports.take(300), expected);
        for number in 0..300 {
            client.send_all(&[event(number)]);
        }
        assert_eq!(reports.take(300), expected);
    });
}

#[test]
fn a_waiting_handler_does_not_delay_the_next() {
    let (reporter, reports) = report_channel();
    let go = Arc::new(Notify::new());
    let hub = Hub::start(
        |builder| builder,
        |io| {
            let (reporter, go) = (reporter.clone(), go.clone());
            io.of("/").on("n", numbers(&reporter)).on("wait", move |_, _: Event<()>| {
                let (reporter, go) = (reporter.clone(), go.clone());
                async move {
                    go.notified().await;
                    reporter.report("waited");
                    Ok(())
                }
            });
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send_all(&[text(r#"42["wait"]"#), text(r#"42["n",1]"#)]);
        assert_eq!(reports.next(), "event 1");
        go.notify_one();
        assert_eq!(reports.next(), "waited");
    });
}

#[test]
fn events_over_the_number_of_handlers_are_held_and_handled_in_order() {
    let (reporter, reports) = report_channel();
    let go = Arc::new(tokio::sync::Semaphore::new(0));
    let hub = Hub::limited(
        |limits| {
            limits.handlers.pending_max = 4;
            limits.handlers.held_events_max = 8;
        },
        |io| {
            let (reporter, go) = (reporter.clone(), go.clone());
            io.of("/").on("n", move |_, event: Event<u32>| {
                let (reporter, go) = (reporter.clone(), go.clone());
                async move {
                    reporter.report(format!("event {}", event.data));
                    go.acquire().await?.forget();
                    Ok(())
                }
            });
        },
    );
    for transport in Transport::WEBSOCKETS {
        let mut client = hub.join(transport);
        // Both bounds are exceeded: the session pauses reading meanwhile.
        for number in 0..40 {
            client.send(&format!(r#"42["n",{number}]"#));
        }
        assert_eq!(reports.take(4), ["event 0", "event 1", "event 2", "event 3"]);
        assert_eq!(reports.rest(), [""; 0]);
        go.add_permits(40);
        assert_eq!(reports.take(36), (4..40).map(|number| format!("event {number}")).collect::<Vec<_>>());
        client.expect_echo();
    }
}

#[test]
fn a_post_that_fills_the_held_events_is_answered_once_there_is_room() {
    let (reporter, reports) = report_channel();
    let go = Arc::new(tokio::sync::Semaphore::new(0));
    let hub = Hub::limited(
        |limits| {
            limits.handlers.pending_max = 1;
            limits.handlers.held_events_max = 2;
        },
        |io| {
            let (reporter, go) = (reporter.clone(), go.clone());
            io.of("/").on("n", move |_, event: Event<u32>| {
                let (reporter, go) = (reporter.clone(), go.clone());
                async move {
                    reporter.report(format!("event {}", event.data));
                    go.acquire().await?.forget();
                    Ok(())
                }
            });
        },
    );
    let client = hub.join(Transport::Polling);
    let target = client.poll_target();
    let (_gets, mut posts) = client.connections();
    let body = "42[\"n\",0]\x1e42[\"n\",1]\x1e42[\"n\",2]\x1e42[\"n\",3]";
    posts.write_head("POST", &target, &[], Some(body.len()));
    posts.write(body.as_bytes());
    assert_eq!(reports.next(), "event 0");
    go.add_permits(4);
    assert_eq!(posts.response().status_and_body(), (200, "ok"));
    assert_eq!(reports.take(3), ["event 1", "event 2", "event 3"]);
    assert_eq!(posts.post(&target, "3").status_and_body(), (200, "ok"));
}

/// A future that is ready after this many polls and panics if it is dropped before.
fn panics_if_dropped(mut waits: u32) -> impl Future<Output = Result<(), HandlerError>> {
    struct PanicOnDrop;
    impl Drop for PanicOnDrop {
        fn drop(&mut self) {
            panic!("a handler that panics as it is dropped");
        }
    }
    let bomb = PanicOnDrop;
    poll_fn(move |cx| {
        let PanicOnDrop = &bomb;
        if waits == 0 {
            return Poll::Ready(Ok(()));
        }
        waits -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

#[test]
fn a_panicking_handler_disconnects_only_its_socket() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            report_disconnects(io, &reporter);
            io.of("/")
                .on("panic at once", |_, event: Event<()>| {
                    assert!(event.ack.is_wanted(), "a handler that panics before its future is made");
                    async { Ok(()) }
                })
                .on("panic later", |socket, _: Event<()>| async move {
                    socket.join("room").await?;
                    panic!("a handler that panics while it runs");
                })
                .on("panic when dropped", |_, _: Event<()>| panics_if_dropped(0))
                .on("panic when dropped later", |_, _: Event<()>| panics_if_dropped(1));
        },
    );
    let mut other = hub.join(Transport::Websocket);
    on_every_transport(|transport| {
        for event in ["panic at once", "panic later", "panic when dropped", "panic when dropped later"] {
            let mut client = hub.join(transport);
            client.send(&format!(r#"42["{event}"]"#));
            assert_eq!(reports.next(), "server namespace disconnect", "{event}");
            client.expect("41");
            // The connection stays open, and the client may connect again.
            client.connect("");
            client.expect_echo();
            other.expect_echo();
            client.send("1");
            assert_eq!(reports.next(), "transport close", "{event}");
        }
    });
    other.send("1");
    assert_eq!(reports.next(), "transport close");
    hub.expect_healthy();
}

#[test]
fn a_panicking_connection_handler_disconnects_only_its_socket() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            for (path, later) in [("/at once", false), ("/later", true)] {
                let reporter = reporter.clone();
                let namespace = io.of(path).on_connection(move |socket| {
                    assert!(later, "a connection handler that panics before its future is made");
                    async move {
                        socket.join("room").await?;
                        panic!("a connection handler that panics while it runs");
                    }
                });
                namespace.on_disconnect(move |_, reason| {
                    reporter.report(reason.as_str());
                    async { Ok(()) }
                });
            }
        },
    );
    let mut other = hub.join(Transport::Websocket);
    on_every_transport(|transport| {
        for namespace in ["/later", "/at once"] {
            let mut client = hub.join(transport);
            client.send(&format!("40{namespace},"));
            reports.expect("server namespace disconnect", namespace);
            assert!(client.recv_text().starts_with(&format!("40{namespace},")));
            client.expect(&format!("41{namespace},"));
            client.expect_echo();
            other.expect_echo();
            client.send("1");
        }
    });
    other.send("1");
    hub.expect_healthy();
}

#[test]
fn a_panicking_disconnect_handler_leaves_nothing_behind() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            for (path, later) in [("/at once", false), ("/later", true)] {
                let reporter = reporter.clone();
                io.of(path).on_disconnect(move |_, reason| {
                    reporter.report(reason.as_str());
                    assert!(later, "a disconnect handler that panics before its future is made");
                    async { panic!("a disconnect handler that panics while it runs") }
                });
            }
        },
    );
    let mut other = hub.join(Transport::Websocket);
    on_every_transport(|transport| {
        for namespace in ["/later", "/at once"] {
            // Both by leaving and by closing the connection.
            let mut client = hub.join(transport);
            client.connect(&format!("{namespace},"));
            client.send(&format!("41{namespace},"));
            assert_eq!(reports.next(), "client namespace disconnect", "{namespace}");
            client.expect_echo();
            client.connect(&format!("{namespace},"));
            client.send("1");
            assert_eq!(reports.next(), "transport close", "{namespace}");
            client.expect_end();
            other.expect_echo();
        }
    });
    other.send("1");
    hub.expect_healthy();
}

#[test]
fn a_handler_that_fails_leaves_its_socket_connected() {
    let hub = Hub::start(
        |builder| builder,
        |io| {
            io.of("/")
                .on("fail", |_, _: Event<()>| async { Err(std::io::Error::other("as it should").into()) })
                .on("number", |_, event: Event<u32>| async move {
                    event.ack.send(event.data + 1)?;
                    Ok(())
                })
                .on_connection(|_| async { Err(std::io::Error::other("as it should").into()) });
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send(r#"421["fail"]"#);
        client.expect_echo();
        // Arguments of another type fail as the handler does.
        for event in [r#"421["number","seven"]"#, r#"421["number"]"#, r#"421["number",-1]"#] {
            client.send(event);
            client.expect_echo();
        }
        client.send(r#"421["number",7,"and more"]"#);
        client.expect("431[8]");
    });
}

#[test]
fn events_without_their_own_handler_go_to_the_fallback_handler() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            let rest = reporter.clone();
            io.of("/").on("n", numbers(&reporter)).on_unhandled(move |_, event: Event<stentor::Args>| {
                rest.report(format!("unhandled {:?} {}", event.name, event.data.json()));
                async { Ok(()) }
            });
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send_all(&[text(r#"42["n",1]"#), text(r#"42["\u00e4",{},2]"#), text(r#"42[7,"x"]"#)]);
        assert_eq!(reports.take(3), ["event 1", "unhandled \"ä\" {},2", "unhandled \"7\" \"x\""]);
    });
}

#[test]
fn reading_resumes_when_held_events_end_with_their_socket() {
    let hub = Hub::limited(
        |limits| {
            limits.handlers.pending_max = 1;
            limits.handlers.held_events_max = 1;
        },
        |io| {
            io.of("/").on("hang", |_, _: Event<()>| std::future::pending());
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        let mut packets = vec![text(r#"42["hang"]"#); 5];
        packets.push(text("41"));
        client.send_all(&packets);
        client.connect("");
        client.send("1");
    });
    hub.expect_healthy();
}

#[test]
fn a_disconnect_handler_can_notify_other_sockets() {
    let hub = Hub::start(
        |builder| builder,
        |io| {
            io.of("/").on_disconnect(|socket, reason| async move {
                socket.all().emit("left", reason.as_str()).await?;
                assert!(socket.emit("nobody", ()).await.is_err());
                Ok(())
            });
        },
    );
    on_every_transport(|transport| {
        let mut other = hub.join(Transport::Websocket);
        let mut client = hub.join(transport);
        client.send("1");
        other.expect(r#"42["left","transport close"]"#);
        other.send("1");
        hub.wait_for_sessions(0);
    });
}

#[test]
fn requests_of_many_handlers_do_not_delay_other_sessions() {
    let hub = Hub::start(
        |builder| builder,
        |io| {
            io.of("/").on("emit", |socket, event: Event<()>| async move {
                let emitted = socket.all().emit("received", ()).await;
                event.ack.send(emitted.err().map(|error| error.to_string()))?;
                Ok(())
            });
        },
    );
    // More acks than the session has room for requests.
    const ECHOES: usize = 3_000;
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        let mut packets: Vec<_> = (0..ECHOES).map(|id| text(format!(r#"42{id}["echo",{id}]"#))).collect();
        packets.push(text(format!(r#"42{ECHOES}["emit"]"#)));
        client.send_all(&packets);
        for id in 0..ECHOES {
            client.expect(&format!("43{id}[{id}]"));
        }
        client.expect(r#"42["received"]"#);
        client.expect(&format!("43{ECHOES}[null]"));
    });
}

#[test]
fn an_event_without_handler_is_answered_if_the_application_asks() {
    for ack_errors in [true, false] {
        let hub = Hub::start(
            |builder| builder.ack_errors(ack_errors),
            |io| {
                io.of("/").on("number", |_, event: Event<u8>| async move {
                    event.ack.send(event.data)?;
                    Ok(())
                });
                // With middleware, events take the slow path.
                io.of("/long").with_events(|_, event| async move { Ok(Some(event)) });
            },
        );
        on_every_transport(|transport| {
            let mut client = hub.join(transport);
            client.connect("/long,");
            client.send(r#"421["number","seven"]"#);
            client.send(r#"422["nobody"]"#);
            client.send(r#"42/long,3["nobody"]"#);
            client.send(r#"42["nobody"]"#);
            if ack_errors {
                let answer = client.recv_text();
                let expected =
                    r#"431[{"error":{"code":"bad_request","message":"arguments do not fit: invalid type: string"#;
                assert!(answer.starts_with(expected), "{answer}");
                let unknown = r#"[{"error":{"code":"unknown_event","message":"event has no handler"}}]"#;
                client.expect(&format!("432{unknown}"));
                client.expect(&format!("43/long,3{unknown}"));
            }
            client.send(r#"424["number",7]"#);
            client.expect("434[7]");
        });
    }
}
