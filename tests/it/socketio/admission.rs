//! Admission to namespaces: connection middleware, CONNECT_ERROR with data, namespaces by pattern.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use stentor::{ConnectError, EmitError, Event, RoomError};
use tokio::sync::Notify;

use crate::support::{Hub, Packet, on_every_transport, report_channel};

#[test]
fn middleware_runs_in_order_and_its_refusal_reaches_the_client() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            let (one, two, three) = (reporter.clone(), reporter.clone(), reporter.clone());
            io.of("/guarded")
                .with(move |socket| {
                    let reporter = one.clone();
                    async move {
                        tokio::task::yield_now().await;
                        reporter.report(format!("first connected={}", socket.is_connected()));
                        Ok(())
                    }
                })
                .with(move |socket| {
                    two.report("second");
                    async move {
                        let auth: Value = socket.auth().map_err(|_| ConnectError::new("unreadable"))?;
                        match auth["token"] == "secret" {
                            true => Ok(()),
                            false => Err(ConnectError::new("not authorized").with_data(json!({"code": 17}))),
                        }
                    }
                })
                .on_connection(move |_| {
                    three.report("connected");
                    async { Ok(()) }
                });
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        client.send(r#"40/guarded,{"token":"guess"}"#);
        client.expect(r#"44/guarded,{"message":"not authorized","data":{"code":17}}"#);
        assert_eq!(reports.take(2), ["first connected=false", "second"]);
        // The transport stays open, and the client may try again.
        client.send(r#"40/guarded,{"token":"secret"}"#);
        assert!(client.recv_text().starts_with(r#"40/guarded,{"sid":"#));
        assert_eq!(reports.take(3), ["first connected=false", "second", "connected"]);
        client.connect("");
        client.expect_echo();
    });
}

#[test]
fn events_during_middleware_are_held_and_dropped_on_refusal() {
    let (reporter, reports) = report_channel();
    let go = Arc::new(Notify::new());
    let hub = Hub::start(
        |builder| builder,
        |io| {
            let go = go.clone();
            io.of("/")
                .with(move |socket| {
                    let go = go.clone();
                    async move {
                        go.notified().await;
                        match socket.auth::<Option<Value>>() {
                            Ok(None) => Ok(()),
                            _ => Err(ConnectError::new("no")),
                        }
                    }
                })
                .on("n", move |_, event: Event<u32>| {
                    reporter.report(event.data.to_string());
                    async { Ok(()) }
                });
        },
    );
    on_every_transport(|transport| {
        let mut refused = hub.open(transport);
        refused.send_all(&[r#"40{"a":1}"#, r#"42["n",1]"#].map(|text| Packet::Text(text.into())));
        refused.wait_until_handled();
        go.notify_one();
        refused.expect(r#"44{"message":"no"}"#);
        let mut client = hub.open(transport);
        client.send_all(&["40", r#"42["n",2]"#, r#"42["n",3]"#].map(|text| Packet::Text(text.into())));
        client.wait_until_handled();
        assert_eq!(reports.rest(), [""; 0]);
        go.notify_one();
        assert!(client.recv_text().starts_with(r#"40{"sid":"#));
        assert_eq!(reports.take(2), ["2", "3"]);
    });
}

// After a CONNECT_ERROR, stock clients do not come back.
#[test]
fn a_temporary_refusal_closes_the_connection() {
    let hub = Hub::start(
        |builder| builder,
        |io| {
            let refusal = || ConnectError::new("not now").temporary();
            io.of("/immediately").with(move |_| async move { Err(refusal()) });
            io.of("/later").with(move |_| async move {
                tokio::task::yield_now().await;
                Err(refusal())
            });
        },
    );
    on_every_transport(|transport| {
        for namespace in ["/immediately", "/later"] {
            let mut client = hub.join(transport);
            client.send(&format!("40{namespace},"));
            client.expect_end();
        }
    });
    hub.wait_for_sessions(0);
}

#[test]
fn endless_or_panicking_middleware_refuses_only_its_socket() {
    let hub = Hub::limited(
        |limits| limits.handlers.middleware_timeout = Duration::from_millis(100),
        |io| {
            io.of("/slow").with(|_| std::future::pending());
            io.of("/broken").with(|_| async { panic!("planted") });
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send("40/slow,");
        client.expect(r#"44/slow,{"message":"Middleware timed out"}"#);
        client.send("40/broken,");
        client.expect(r#"44/broken,{"message":"Internal error"}"#);
        client.expect_echo();
    });
}

#[test]
fn a_client_that_leaves_during_middleware_is_never_connected() {
    let (reporter, reports) = report_channel();
    let go = Arc::new(Notify::new());
    let hub = Hub::start(
        |builder| builder,
        |io| {
            let (go, left) = (go.clone(), reporter.clone());
            io.of("/late")
                .with(move |_| {
                    let go = go.clone();
                    async move {
                        go.notified().await;
                        Ok(())
                    }
                })
                .on_connection(move |_| {
                    reporter.report("connected");
                    async { Ok(()) }
                })
                .on_disconnect(move |_, _| {
                    left.report("disconnected");
                    async { Ok(()) }
                });
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send("40/late,");
        client.send("41/late,");
        client.wait_until_handled();
        go.notify_one();
        client.expect_echo();
        assert_eq!(reports.rest(), [""; 0]);
    });
}

#[test]
fn a_socket_in_middleware_can_neither_join_nor_be_emitted_to() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            io.of("/").with(move |socket| {
                let reporter = reporter.clone();
                async move {
                    let joined = matches!(socket.join("room").await, Err(RoomError::NotYetConnected));
                    let emitted = matches!(socket.emit("early", ()).await, Err(EmitError::NotYetConnected));
                    reporter.report(format!("{joined} {emitted}"));
                    Ok(())
                }
            });
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        assert_eq!(reports.next(), "true true");
        client.expect_echo();
    });
}

#[test]
fn a_pattern_creates_namespaces_that_exist_while_they_have_sockets() {
    let hub = Hub::start(
        |builder| builder,
        |io| {
            io.of_matching(|path| path.strip_prefix("/tenant-").is_some_and(|n| n.parse::<u32>().is_ok())).on(
                "say",
                |socket, event: Event<String>| async move {
                    let namespace = socket.namespace();
                    namespace.emit("said", (namespace.path(), &event.data)).await?;
                    Ok(())
                },
            );
        },
    );
    on_every_transport(|transport| {
        let [mut one, mut two, mut other] = [1, 1, 2].map(|tenant| {
            let mut client = hub.open(transport);
            client.connect(&format!("/tenant-{tenant},"));
            client
        });
        one.send(r#"42/tenant-1,["say","hi"]"#);
        one.expect(r#"42/tenant-1,["said","/tenant-1","hi"]"#);
        two.expect(r#"42/tenant-1,["said","/tenant-1","hi"]"#);
        other.send(r#"42/tenant-2,["say","ho"]"#);
        other.expect(r#"42/tenant-2,["said","/tenant-2","ho"]"#);
        other.send("40/tenant-x,");
        other.expect(r#"44/tenant-x,{"message":"Invalid namespace"}"#);
    });
}

#[test]
fn a_named_namespace_precedes_patterns_and_of_adds_to_them() {
    let hub = Hub::start(
        |builder| builder,
        |io| {
            let answer = |with: &'static str| {
                move |_, event: Event<()>| async move {
                    event.ack.send(with)?;
                    Ok(())
                }
            };
            io.of("/p/named").on("who", answer("named"));
            io.of_matching(|path| path.starts_with("/p/")).on("who", answer("first"));
            io.of_matching(|path| path.starts_with("/p/")).on("who", answer("second"));
            io.of("/p/added").on("more", answer("more"));
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        for namespace in ["/p/named,", "/p/any,", "/p/added,"] {
            client.connect(namespace);
        }
        client.send(r#"42/p/named,1["who"]"#);
        client.expect(r#"43/p/named,1["named"]"#);
        client.send(r#"42/p/any,1["who"]"#);
        client.expect(r#"43/p/any,1["first"]"#);
        client.send(r#"42/p/added,1["who"]"#);
        client.expect(r#"43/p/added,1["first"]"#);
        client.send(r#"42/p/added,1["more"]"#);
        client.expect(r#"43/p/added,1["more"]"#);
    });
}

#[test]
fn a_pattern_that_panics_matches_nothing() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let hub = Hub::start(
        |builder| builder,
        move |io| {
            io.of_matching(move |_| {
                counter.fetch_add(1, Ordering::Relaxed);
                panic!("planted")
            });
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send("40/any,");
        client.expect(r#"44/any,{"message":"Invalid namespace"}"#);
        client.expect_echo();
    });
    assert!(asked.load(Ordering::Relaxed) > 0);
}

#[test]
fn a_refused_client_that_does_not_retry_is_disconnected() {
    // Regression: one refused CONNECT kept a session open without end.
    let hub = Hub::limited(
        |limits| limits.sessions.connect_timeout = Duration::from_millis(200),
        |io| {
            io.of("/guarded").with(|_| async { Err(ConnectError::new("no")) });
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        client.send("40/guarded,");
        client.expect(r#"44/guarded,{"message":"no"}"#);
        client.expect_end();
    });
    hub.wait_for_sessions(0);
}

#[test]
fn a_socket_disconnected_while_the_hub_connects_it_leaves_nothing() {
    // Regression: the hub kept the socket, and a client that reconnected got every broadcast twice.
    let hub = Hub::limited(
        // The second CONNECT waits for credit.
        |limits| limits.hub.credit_commands = 1,
        |io| {
            io.of("/put-out").with(|socket| async move {
                let late = socket.clone();
                actix_web::rt::spawn(async move {
                    tokio::task::yield_now().await;
                    late.disconnect(false);
                });
                Ok(())
            });
        },
    );
    let io = hub.io.clone();
    let present = move || {
        let io = io.clone();
        actix::System::new().block_on(async move { io.of("/put-out").fetch_sockets().await.unwrap().len() })
    };
    on_every_transport(|transport| {
        for _ in 0..10 {
            let mut client = hub.open(transport);
            client.send_all(&["40", "40/put-out,"].map(|text| Packet::Text(text.into())));
            assert!(client.recv_text().starts_with(r#"40{"sid":"#));
            let said = client.recv_text();
            match said.starts_with("40/put-out,") {
                true => client.expect("41/put-out,"),
                false => assert!(said.starts_with("44/put-out,"), "{said}"),
            }
            client.expect_echo();
            assert_eq!(present(), 0);
            client.send("1");
        }
    });
    hub.wait_for_sessions(0);
}

// Regression: the error was "socket is disconnected".
#[test]
fn operations_too_early_in_middleware_name_the_right_place() {
    let hub = Hub::start(
        |builder| builder.recovery(stentor::Recovery::memory()),
        |io| {
            io.of("/").with(|socket| async move {
                let early = [
                    socket.join("a").await.unwrap_err().to_string(),
                    socket.leave("a").await.unwrap_err().to_string(),
                    socket.rooms().await.unwrap_err().to_string(),
                    socket.emit("e", ()).await.unwrap_err().to_string(),
                    socket.volatile().emit("e", ()).await.unwrap_err().to_string(),
                    socket.emit_with_ack::<(), _>("e", ()).await.unwrap_err().to_string(),
                ];
                let says = early.iter().all(|text| text.contains("on_connection, not in connection middleware"));
                socket.set_data(early).map_err(|_| ConnectError::new("no data"))?;
                if says { Ok(()) } else { Err(ConnectError::new(format!("{:?}", socket.data::<Vec<String>>()))) }
            });
        },
    );
    on_every_transport(|transport| {
        hub.join(transport).expect_echo();
    });
}
