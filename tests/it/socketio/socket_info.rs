//! Credentials, data and extensions of sockets, and queries of rooms and sockets.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use stentor::{DataError, Event};

use crate::support::{Client, Hub, Transport, on_every_transport, report_channel};

fn leave(hub: &Hub, clients: impl IntoIterator<Item = Client>) {
    clients.into_iter().for_each(|mut client| client.send("1"));
    hub.wait_for_sessions(0);
}

#[test]
fn credentials_and_data_stay_with_the_socket_to_its_end() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            let (connecting, ending) = (reporter.clone(), reporter.clone());
            io.of("/")
                .on_connection(move |socket| {
                    let reporter = connecting.clone();
                    async move {
                        let auth: Value = socket.auth()?;
                        assert_eq!(socket.data::<Option<Value>>()?, None);
                        socket.set_data(json!({ "name": auth["name"] }))?;
                        reporter.report(format!("{auth} connected={}", socket.is_connected()));
                        Ok(())
                    }
                })
                .on_disconnect(move |socket, _| {
                    let reporter = ending.clone();
                    async move {
                        reporter.report(format!("{} connected={}", socket.data::<Value>()?, socket.is_connected()));
                        Ok(())
                    }
                });
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        client.send(r#"40{"name":"kim","n":1}"#);
        assert!(client.recv_text().starts_with(r#"40{"sid":"#));
        assert_eq!(reports.next(), r#"{"n":1,"name":"kim"} connected=true"#);
        client.send("1");
        assert_eq!(reports.next(), r#"{"name":"kim"} connected=false"#);
    });
}

#[test]
fn extensions_are_kept_by_type_from_middleware_to_disconnect() {
    struct Visits(AtomicU32);

    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            let (visiting, leaving) = (reporter.clone(), reporter.clone());
            io.of("/")
                .with(|socket| async move {
                    assert!(socket.extensions().get::<Visits>().is_none(), "of another socket");
                    socket.extensions().insert(Visits(AtomicU32::new(0)));
                    // A socket to be recovered gets another id when it is connected.
                    socket.decline_recovery();
                    Ok(())
                })
                .on("visit", move |socket, event: Event<()>| {
                    let reporter = visiting.clone();
                    async move {
                        let visits = socket
                            .extensions()
                            .get::<Visits>()
                            .ok_or_else(|| std::io::Error::other("nothing is kept"))?;
                        reporter.report((visits.0.fetch_add(1, Ordering::Relaxed) + 1).to_string());
                        event.ack.send(())?;
                        Ok(())
                    }
                })
                .on_disconnect(move |socket, _| {
                    let visits = socket.extensions().remove::<Visits>();
                    leaving.report(format!("{:?} at the end", visits.map(|visits| visits.0.load(Ordering::Relaxed))));
                    async { Ok(()) }
                });
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send(r#"42["visit"]"#);
        client.send(r#"42["visit"]"#);
        assert_eq!((reports.next(), reports.next()), ("1".into(), "2".into()));
        client.send("1");
        assert_eq!(reports.next(), "Some(2) at the end");
    });
}

#[test]
fn a_socket_without_credentials_reads_null_or_an_empty_object() {
    #[derive(Debug, serde::Deserialize)]
    struct Auth {
        token: Option<String>,
    }
    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            io.of("/").on_connection(move |socket| {
                let token = socket.auth::<Auth>().map(|auth| auth.token);
                reporter.report(format!("{:?} {token:?}", socket.auth::<Option<Value>>()));
                async { Ok(()) }
            });
        },
    );
    on_every_transport(|transport| {
        hub.join(transport);
        assert_eq!(reports.next(), "Ok(None) Ok(None)");
    });
}

#[test]
fn ids_are_sent_as_text() {
    let hub = Hub::start(
        |builder| builder,
        |io| {
            io.of("/").on("who", |socket, event: Event<()>| async move {
                event.ack.send((socket.id(), socket.namespace().path()))?;
                Ok(())
            });
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send(r#"421["who"]"#);
        let reply = client.recv_text();
        let (id, path): (String, String) = serde_json::from_str(reply.strip_prefix("431").unwrap()).unwrap();
        assert_eq!((id.len(), path.as_str()), (20, "/"), "{reply}");
    });
}

#[test]
fn credentials_over_the_limit_are_refused_and_the_transport_stays_open() {
    let hub = Hub::limited(|limits| limits.sockets.auth_bytes_max = 20, |_| {});
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        client.send(r#"40{"token":"0123456789"}"#);
        client.expect(r#"44{"message":"Auth is too large"}"#);
        client.send(r#"40{"token":"01234567"}"#);
        assert!(client.recv_text().starts_with(r#"40{"sid":"#));
        client.expect_echo();
    });
}

#[test]
fn data_over_the_limit_is_refused_and_earlier_data_stays() {
    let hub = Hub::limited(
        |limits| limits.sockets.data_bytes_max = 8,
        |io| {
            io.of("/").on("keep", |socket, event: Event<String>| async move {
                match socket.set_data(event.data) {
                    Ok(()) => event.ack.send("kept")?,
                    Err(DataError::TooLarge { bytes, limit }) => {
                        event.ack.send((bytes, limit, socket.data::<String>()?))?
                    }
                    Err(error) => return Err(error.into()),
                }
                Ok(())
            });
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send(r#"421["keep","123456"]"#);
        client.expect(r#"431["kept"]"#);
        client.send(r#"422["keep","1234567"]"#);
        client.expect(r#"432[9,8,"123456"]"#);
    });
}

#[test]
fn a_change_of_data_is_made_again_if_another_thread_was_faster() {
    let hub = Hub::start(
        |builder| builder,
        |io| {
            io.of("/").on("add", |socket, event: Event<()>| async move {
                let mut is_first = true;
                socket.update_data(|names: &mut Vec<String>| {
                    if std::mem::take(&mut is_first) {
                        let other = socket.clone();
                        let set = std::thread::spawn(move || other.set_data(["theirs"]).is_ok());
                        assert!(set.join().is_ok_and(|is_set| is_set));
                    }
                    names.push("own".to_owned());
                })?;
                event.ack.send((socket.data::<Vec<String>>()?,))?;
                Ok(())
            });
            io.of("/").on_connection(|socket| async move { Ok(socket.set_data([""; 0])?) });
        },
    );
    let mut client = hub.join(Transport::Websocket);
    client.send(r#"421["add"]"#);
    client.expect(r#"431[["theirs","own"]]"#);
}

#[test]
fn rooms_are_listed_with_their_members_on_all_workers() {
    let hub = Hub::on_workers(
        2,
        |builder| builder,
        |io| {
            let server = io.clone();
            io.of("/")
                .on("join", |socket, event: Event<Vec<String>>| async move {
                    for room in event.data {
                        socket.join(room).await?;
                    }
                    event.ack.send(socket.rooms().await?)?;
                    Ok(())
                })
                .on("rooms", move |_, event: Event<()>| {
                    let io = server.clone();
                    async move {
                        let rooms = io.of("/").rooms().await?;
                        event
                            .ack
                            .send([rooms.into_iter().map(|room| (room.name, room.members)).collect::<Vec<_>>()])?;
                        Ok(())
                    }
                });
            io.of("/other").on_connection(|socket| async move {
                socket.join("elsewhere").await?;
                Ok(())
            });
        },
    );
    on_every_transport(|transport| {
        let mut clients: Vec<_> = (0..4).map(|_| hub.join(transport)).collect();
        clients[0].connect("/other,");
        for client in &mut clients {
            client.send(r#"421["join",["b","a"]]"#);
            client.expect(r#"431[["a","b"]]"#);
        }
        clients[3].send(r#"422["join",["c"]]"#);
        clients[3].expect(r#"432[["a","b","c"]]"#);
        clients[3].send(r#"423["rooms"]"#);
        clients[3].expect(r#"433[[["a",4],["b",4],["c",1]]]"#);
        leave(&hub, clients);
    });
}

#[test]
fn a_namespace_with_more_rooms_than_one_page_is_listed_completely() {
    let hub = Hub::limited(
        |limits| limits.sockets.rooms_max = 3_000,
        |io| {
            let server = io.clone();
            io.of("/").on("fill", move |socket, event: Event<usize>| {
                let io = server.clone();
                async move {
                    for n in 0..event.data {
                        socket.join(format!("room {n:05}")).await?;
                    }
                    let rooms = io.of("/").rooms().await?;
                    let in_order = rooms.iter().enumerate().all(|(n, room)| room.name == format!("room {n:05}"));
                    event.ack.send((rooms.len(), in_order))?;
                    Ok(())
                }
            });
        },
    );
    let mut client = hub.join(Transport::Websocket);
    client.send(r#"421["fill",3000]"#);
    client.expect(r#"431[3000,true]"#);
}

#[test]
fn fetched_sockets_are_handles_of_sockets_on_any_worker() {
    let hub = Hub::on_workers(
        2,
        |builder| builder,
        |io| {
            io.of("/")
                .on_connection(|socket| async move {
                    socket.set_data(&socket.auth::<Value>()?["name"])?;
                    Ok(())
                })
                .on("greet all", |socket, event: Event<()>| async move {
                    let mut names = Vec::new();
                    for other in socket.all().fetch_sockets().await? {
                        names.push(other.data::<String>()?);
                        other.emit("greeting", ()).await?;
                    }
                    names.sort_unstable();
                    event.ack.send([names])?;
                    Ok(())
                });
        },
    );
    on_every_transport(|transport| {
        let mut clients = ["ada", "bob", "cy", "dee"].map(|name| {
            let mut client = hub.open(transport);
            client.send(&format!(r#"40{{"name":"{name}"}}"#));
            assert!(client.recv_text().starts_with(r#"40{"sid":"#));
            client
        });
        clients[0].send(r#"421["greet all"]"#);
        // Its own greeting comes first: events emitted by a handler reach its own client in order.
        clients[0].expect(r#"42["greeting"]"#);
        clients[0].expect(r#"431[["ada","bob","cy","dee"]]"#);
        clients[1..].iter_mut().for_each(|client| client.expect(r#"42["greeting"]"#));
        leave(&hub, clients);
    });
}
