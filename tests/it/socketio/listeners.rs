//! Handlers on one socket, event middleware, and catch-all listeners.

use std::sync::Arc;

use serde_json::json;
use stentor::{Args, Event, Server};

use crate::support::{Hub, Packet, Reporter, on_every_transport, report_channel};

/// A handler that answers with this text.
macro_rules! answer {
    ($with:expr) => {
        |_, event: Event<Args>| async move {
            event.ack.send($with)?;
            Ok(())
        }
    };
}

#[test]
fn a_sockets_own_handler_precedes_its_namespaces_for_it_alone() {
    let hub = Hub::start(
        |builder| builder,
        |io| {
            io.of("/").on("who", answer!("namespace")).on_unhandled(answer!("nobody")).on_connection(
                |socket| async move {
                    if socket.auth::<Option<Args2>>()?.is_some() {
                        socket.on("who", answer!("socket")).on("own", answer!("own")).once("once", answer!("first"));
                    }
                    Ok(())
                },
            );
        },
    );
    on_every_transport(|transport| {
        let mut other = hub.join(transport);
        let mut client = hub.open(transport);
        client.send(r#"40{"own":true}"#);
        assert!(client.recv_text().starts_with(r#"40{"sid":"#));
        for (event, expected) in
            [("who", "socket"), ("own", "own"), ("once", "first"), ("once", "nobody"), ("else", "nobody")]
        {
            client.send(&format!(r#"421["{event}"]"#));
            client.expect(&format!(r#"431["{expected}"]"#));
        }
        for (event, expected) in [("who", "namespace"), ("own", "nobody")] {
            other.send(&format!(r#"421["{event}"]"#));
            other.expect(&format!(r#"431["{expected}"]"#));
        }
    });
}

#[derive(serde::Deserialize)]
struct Args2 {}

#[test]
fn a_removed_handler_uncovers_the_one_below_it() {
    let hub = Hub::start(
        |builder| builder,
        |io| {
            io.of("/").on("who", answer!("namespace")).on("off", |socket, event: Event<()>| async move {
                socket.off("who");
                event.ack.send(())?;
                Ok(())
            });
            io.of("/").on_connection(|socket| async move {
                socket.on("who", answer!("socket"));
                Ok(())
            });
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send(r#"421["who"]"#);
        client.expect(r#"431["socket"]"#);
        client.send(r#"422["off"]"#);
        client.expect("432[]");
        client.send(r#"423["who"]"#);
        client.expect(r#"433["namespace"]"#);
    });
}

#[test]
fn middleware_forwards_changes_or_drops_events() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            let reporter = reporter.clone();
            io.of("/")
                .with_events(|_, mut event| async move {
                    match &*event.name {
                        "secret" => {
                            event.ack.send("forbidden")?;
                            return Ok(None);
                        }
                        "old name" => event.name = "echo".into(),
                        "broken" => return Err(std::io::Error::other("planted").into()),
                        _ => {}
                    }
                    Ok(Some(event))
                })
                .with_events(move |_, event| {
                    reporter.report(&*event.name);
                    async move { Ok(Some(event)) }
                });
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send(r#"421["secret"]"#);
        client.expect(r#"431["forbidden"]"#);
        client.send(r#"422["broken"]"#);
        client.send(r#"423["old name",1]"#);
        client.expect("433[1]");
        assert_eq!(
            reports.next(),
            "echo",
            "an event dropped or failed by the first middleware does not reach the second"
        );
        client.send("1");
    });
}

/// Reports every incoming and every outgoing event.
fn watch(io: &Server, reporter: &Reporter) {
    let (incoming, outgoing) = (reporter.clone(), reporter.clone());
    io.of("/")
        .on_any(move |_, name, args| incoming.report(format!("in {name} {}", args.json())))
        .on_any_outgoing(move |_, name, args| outgoing.report(format!("out {name} {}", args.json())))
        .on("go", |socket, _: Event<Args>| async move {
            socket.join("room").await?;
            socket.emit("direct", (1, "a")).await?;
            socket.all().to("room").emit("to the room", json!({"n": 2})).await?;
            let _: u32 = socket.emit_with_ack("question", ()).await?;
            Ok(())
        });
}

#[test]
fn catch_all_listeners_see_all_events_without_the_offset() {
    for recovery in [stentor::Recovery::off(), stentor::Recovery::memory()] {
        let (reporter, reports) = report_channel();
        let hub = Hub::start(|builder| builder.recovery(recovery), |io| watch(io, &reporter));
        on_every_transport(|transport| {
            let mut client = hub.join(transport);
            client.send(r#"42["go",1,"x"]"#);
            let question = std::iter::from_fn(|| Some(client.recv_text())).find(|text| text.contains("question"));
            let question = question.unwrap();
            let id: String = question.chars().skip(2).take_while(char::is_ascii_digit).collect();
            client.send(&format!("43{id}[1]"));
            client.send(r#"42["unheard"]"#);
            assert_eq!(
                reports.take(5),
                [r#"in go 1,"x""#, r#"out direct 1,"a""#, r#"out to the room {"n":2}"#, "out question ", "in unheard "]
            );
            client.send("1");
        });
    }
}

#[test]
fn a_panicking_observer_disconnects_only_its_socket() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            crate::support::report_disconnects(io, &reporter);
            io.of("/").on_any(|_, name, _| assert_ne!(name, "panic"));
        },
    );
    on_every_transport(|transport| {
        let mut other = hub.join(transport);
        let mut client = hub.join(transport);
        client.send(r#"42["panic"]"#);
        client.expect("41");
        assert_eq!(reports.next(), "server namespace disconnect");
        other.expect_echo();
        other.send("1");
        assert_eq!(reports.next(), "transport close");
    });
}

#[test]
fn handlers_registered_on_another_thread_serve_later_events() {
    let (sockets, connected) = std::sync::mpsc::channel();
    let sockets = Arc::new(std::sync::Mutex::new(sockets));
    let hub = Hub::start(
        |builder| builder,
        |io| {
            io.of("/").on_connection(move |socket| {
                sockets.lock().unwrap().send(socket).unwrap();
                async { Ok(()) }
            });
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        let socket = connected.recv_timeout(crate::support::DEADLINE).unwrap();
        socket.on("late", answer!("here"));
        // All messages to a socket use one mailbox, so after an answered echo the handler is
        // registered.
        client.expect_echo();
        client.send(r#"421["late"]"#);
        client.expect(r#"431["here"]"#);
    });
}

#[test]
fn a_once_handler_takes_one_event_of_several_sent_together() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            let says = |reporter: &Reporter, what: &'static str| {
                let reporter = reporter.clone();
                move |_, _: Event<Args>| {
                    reporter.report(what);
                    async { Ok(()) }
                }
            };
            let (once, every) = (says(&reporter, "once"), says(&reporter, "every"));
            io.of("/").on("e", every).on_connection(move |socket| {
                socket.once("e", once.clone());
                async { Ok(()) }
            });
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        let events: Vec<_> = (0..4).map(|_| Packet::Text(r#"42["e"]"#.into())).collect();
        client.send_all(&events);
        assert_eq!(reports.take(4), ["once", "every", "every", "every"]);
        client.send("1");
    });
}
