//! Operations on many sockets: collected acks, joins, leaves and disconnects of all, and watchers
//! of rooms.

use std::time::Duration;

use stentor::{AckError, Answers, Args, Event, RoomEvent, Server};

use crate::support::{Client, Hub, on_every_transport, report_channel};

/// Connects with a name, which becomes a room of the socket.
fn named(hub: &Hub, transport: crate::support::Transport, name: &str) -> Client {
    let mut client = hub.open(transport);
    client.send(&format!(r#"40{{"name":"{name}"}}"#));
    assert!(client.recv_text().starts_with(r#"40{"sid":"#));
    client.send(r#"420["join","all"]"#);
    client.expect("430[]");
    client
}

#[derive(serde::Deserialize)]
struct Auth {
    name: String,
}

fn register(io: &Server) {
    io.of("/")
        .on_connection(|socket| async move {
            socket.set_data(socket.auth::<Auth>()?.name)?;
            Ok(())
        })
        .on("join", |socket, event: Event<String>| async move {
            socket.join(&event.data).await?;
            event.ack.send(())?;
            Ok(())
        })
        .on("ask", |socket, event: Event<u64>| async move {
            let asked = socket.to("all").timeout(Duration::from_millis(event.data)).emit_with_ack("question", "?");
            event.ack.send(outcome(asked.await?))?;
            Ok(())
        })
        .on("move", |socket, event: Event<(String, Vec<String>, Vec<String>)>| async move {
            let (from, join, leave) = event.data;
            let joined = socket.all().to(&from).sockets_join(&join).await?;
            let left = socket.all().to(&from).sockets_leave(&leave).await?;
            for room in join.iter().chain(&leave) {
                socket.all().to(room).emit("here", room).await?;
            }
            socket.all().emit("mark", ()).await?;
            event.ack.send((joined, left))?;
            Ok(())
        })
        .on("end", |socket, event: Event<(String, bool)>| async move {
            let (room, close) = event.data;
            event.ack.send(socket.to(room).disconnect_sockets(close).await?)?;
            Ok(())
        });
}

/// Answers and reasons, sorted.
fn outcome(answers: Answers<String>) -> (Vec<String>, Vec<String>) {
    let mut answered: Vec<_> = answers.answers.into_iter().map(|(_, answer)| answer).collect();
    answered.sort_unstable();
    let missing = answers.missing.into_iter().map(|(_, why)| match why {
        AckError::Data(_) => "data".to_owned(),
        why => why.to_string(),
    });
    let mut missing: Vec<String> = missing.collect();
    missing.sort_unstable();
    (answered, missing)
}

fn question(client: &mut Client) -> String {
    let text = client.recv_text();
    let (id, rest) = text.strip_prefix("42").unwrap().split_at(text.find('[').unwrap() - 2);
    assert_eq!(rest, r#"["question","?"]"#);
    assert_eq!(id.parse::<u64>().unwrap() % 4, 2, "ids of acks of many are 4n+2");
    id.to_owned()
}

#[test]
fn collected_acks_name_the_sockets_that_did_not_answer() {
    let hub = Hub::on_workers(2, |builder| builder, register);
    on_every_transport(|transport| {
        let [mut asker, mut one, mut two, mut silent, mut wrong] =
            ["asker", "one", "two", "silent", "wrong"].map(|name| named(&hub, transport, name));
        asker.send(r#"421["ask",20000]"#);
        for (client, answer) in [(&mut one, "1"), (&mut two, "2")] {
            let id = question(client);
            client.send(&format!(r#"43{id}["{answer}"]"#));
            // A second answer of one socket changes nothing.
            client.send(&format!(r#"43{id}["again"]"#));
        }
        let id = question(&mut wrong);
        wrong.send(&format!("43{id}[17]"));
        question(&mut silent);
        // A disconnected socket does not delay the result until the timeout.
        silent.send("1");
        asker.expect(r#"431[["1","2"],["client has disconnected before it acknowledged","data"]]"#);
        for mut client in [asker, one, two, wrong] {
            client.expect_echo();
            client.send("1");
        }
        hub.wait_for_sessions(0);
    });
}

#[test]
fn collected_acks_end_at_the_timeout_with_the_answers_so_far() {
    let hub = Hub::on_workers(2, |builder| builder.recovery(stentor::Recovery::memory()), register);
    on_every_transport(|transport| {
        let [mut asker, mut one, mut silent] = ["asker", "one", "silent"].map(|name| named(&hub, transport, name));
        asker.send(r#"421["ask",300]"#);
        let id = question(&mut one);
        one.send(&format!(r#"43{id}["1"]"#));
        let late = question(&mut silent);
        asker.expect(r#"431[["1"],["client did not acknowledge in time"]]"#);
        silent.send(&format!(r#"43{late}["late"]"#));
        for mut client in [asker, one, silent] {
            client.expect_echo();
            client.send("1");
        }
        hub.wait_for_sessions(0);
    });
}

#[test]
fn no_recipients_are_answered_immediately() {
    let hub = Hub::start(|builder| builder, register);
    on_every_transport(|transport| {
        let mut asker = named(&hub, transport, "asker");
        asker.send(r#"421["ask",20000]"#);
        asker.expect("431[[],[]]");
        asker.send("1");
        hub.wait_for_sessions(0);
    });
}

#[test]
fn answers_over_the_limit_are_not_kept() {
    let hub = Hub::limited(|limits| limits.acks.answers_bytes_max = 20, register);
    on_every_transport(|transport| {
        let [mut asker, mut one, mut two] = ["asker", "one", "two"].map(|name| named(&hub, transport, name));
        asker.send(r#"421["ask",20000]"#);
        for client in [&mut one, &mut two] {
            let id = question(client);
            client.send(&format!(r#"43{id}["12345"]"#));
        }
        asker.expect(r#"431[["12345"],["acks together exceed their limit, this one was dropped"]]"#);
        for mut client in [asker, one, two] {
            client.send("1");
        }
        hub.wait_for_sessions(0);
    });
}

#[test]
fn code_outside_handlers_collects_acks() {
    let hub = Hub::on_workers(2, |builder| builder, register);
    on_every_transport(|transport| {
        let mut clients = ["one", "two"].map(|name| named(&hub, transport, name));
        let io = hub.io.clone();
        let asked = std::thread::spawn(move || {
            actix::System::new()
                .block_on(async move { io.emit_with_ack::<String, _>("question", "?").await.map(outcome) })
        });
        for (client, answer) in clients.iter_mut().zip(["1", "2"]) {
            let id = question(client);
            client.send(&format!(r#"43{id}["{answer}"]"#));
        }
        let (answers, missing) = asked.join().unwrap().unwrap();
        assert_eq!((answers, missing.len()), (vec!["1".into(), "2".into()], 0));
        clients.into_iter().for_each(|mut client| client.send("1"));
        hub.wait_for_sessions(0);
    });
}

#[test]
fn many_sockets_join_and_leave_before_the_next_emit() {
    let hub = Hub::on_workers(2, |builder| builder, register);
    on_every_transport(|transport| {
        let [mut one, mut two, mut other] = ["one", "two", "other"].map(|name| named(&hub, transport, name));
        for client in [&mut one, &mut two] {
            client.send(r#"421["join","old"]"#);
            client.expect("431[]");
        }
        other.send(r#"422["move","old",["new","newer"],["old"]]"#);
        for client in [&mut one, &mut two] {
            client.expect(r#"42["here","new"]"#);
            client.expect(r#"42["here","newer"]"#);
            client.expect(r#"42["mark"]"#);
        }
        other.expect(r#"42["mark"]"#);
        other.expect("432[2,2]");
        for mut client in [one, two, other] {
            client.send("1");
        }
        hub.wait_for_sessions(0);
    });
}

#[test]
fn many_sockets_are_disconnected_from_the_namespace_or_closed() {
    let hub = Hub::on_workers(2, |builder| builder, register);
    on_every_transport(|transport| {
        let [mut boss, mut one, mut two] = ["boss", "one", "two"].map(|name| named(&hub, transport, name));
        boss.send(r#"421["end","all",false]"#);
        for client in [&mut one, &mut two] {
            client.expect("41");
        }
        boss.expect("431[2]");
        let three = named(&hub, transport, "three");
        boss.send(r#"422["end","all",true]"#);
        boss.expect("432[1]");
        let mut three = three;
        three.expect_end_after(|text| text == "41");
        for mut client in [boss, one, two] {
            client.send("1");
        }
        hub.wait_for_sessions(0);
    });
}

#[test]
fn a_disconnecting_handler_gets_the_rooms_that_it_leaves() {
    let (reporter, reports) = report_channel();
    let hub = Hub::on_workers(
        2,
        |builder| builder,
        |io| {
            let (leaving, left) = (reporter.clone(), reporter.clone());
            register(io);
            io.of("/")
                .on_disconnecting(move |socket, how| {
                    let reporter = leaving.clone();
                    async move {
                        // The application notifies the rooms.
                        for room in &how.rooms {
                            socket.to(room).emit("left", socket.data::<String>()?).await?;
                        }
                        reporter.report(format!("disconnecting {} {:?}", how.reason, how.rooms));
                        Ok(())
                    }
                })
                .on_disconnect(move |_, reason| {
                    left.report(format!("disconnect {reason}"));
                    async { Ok(()) }
                });
        },
    );
    on_every_transport(|transport| {
        let mut stays = named(&hub, transport, "stays");
        for (word, reason) in [("41", "client namespace disconnect"), ("1", "transport close")] {
            let mut goes = named(&hub, transport, "goes");
            goes.send(r#"421["join","den"]"#);
            goes.expect("431[]");
            goes.send(word);
            assert_eq!(
                reports.take(2),
                [format!(r#"disconnecting {reason} ["all", "den"]"#), format!("disconnect {reason}")]
            );
            stays.expect(r#"42["left","goes"]"#);
            if word == "41" {
                goes.send("1");
            }
        }
        stays.send("1");
        hub.wait_for_sessions(0);
        reports.take(2);
    });
}

#[test]
fn watchers_of_rooms_see_sockets_join_and_leave() {
    let hub = Hub::on_workers(2, |builder| builder, register);
    let mut events = hub.io.of("/").room_events();
    let mut next = move || {
        actix::System::new().block_on(async {
            tokio::time::timeout(crate::support::DEADLINE, events.next()).await.unwrap().unwrap().unwrap()
        })
    };
    on_every_transport(|transport| {
        let mut one = named(&hub, transport, "one");
        let all = || "all".to_owned();
        assert_eq!(next(), RoomEvent::Created { room: all() });
        let RoomEvent::Joined { socket: first, .. } = next() else { panic!("a join") };
        let mut two = named(&hub, transport, "two");
        let RoomEvent::Joined { room, socket: second } = next() else { panic!("a join") };
        assert_eq!(room, "all");
        one.send("41");
        assert_eq!(next(), RoomEvent::Left { room: all(), socket: first });
        two.send("1");
        assert_eq!(next(), RoomEvent::Left { room: all(), socket: second });
        assert_eq!(next(), RoomEvent::Deleted { room: all() });
        one.send("1");
        hub.wait_for_sessions(0);
    });
}

#[test]
fn a_slow_watcher_receives_the_number_of_missed_events() {
    let hub = Hub::limited(|limits| limits.hub.room_events_max = 2, register);
    let mut events = hub.io.of("/").room_events();
    let mut client = named(&hub, crate::support::Transport::Websocket, "one");
    for room in 0..3 {
        client.send(&format!(r#"421["join","{room}"]"#));
        client.expect("431[]");
    }
    let first = actix::System::new().block_on(events.next());
    assert!(matches!(first, Some(Err(stentor::Lagged(6)))), "{first:?}");
}

#[test]
fn volatile_events_to_one_socket_reach_a_ready_one_in_order() {
    let hub = Hub::start(
        |builder| builder,
        |io| {
            io.of("/").on("go", |socket, event: Event<Args>| async move {
                for n in 0..10 {
                    socket.volatile().emit("volatile", n).await?;
                    socket.emit("plain", n).await?;
                }
                event.ack.send(())?;
                Ok(())
            });
        },
    );
    let mut client = hub.join(crate::support::Transport::Websocket);
    client.send(r#"421["go"]"#);
    for n in 0..10 {
        client.expect(&format!(r#"42["volatile",{n}]"#));
        client.expect(&format!(r#"42["plain",{n}]"#));
    }
    client.expect("431[]");
}

#[test]
fn emits_of_a_socket_with_operators_exclude_the_socket() {
    let hub = Hub::start(
        |builder| builder,
        |io| {
            register(io);
            io.of("/").on("all ways", |socket, _: Event<Args>| async move {
                socket.local().emit("n", 1).await?;
                socket.volatile().broadcast().emit("n", 2).await?;
                socket.compress(true).to("all").emit("n", 3).await?;
                socket.timeout(Duration::from_secs(1)).except("nobody").emit("n", 4).await?;
                socket.namespace().volatile().compress(false).local().emit("n", 5).await?;
                Ok(())
            });
        },
    );
    let transport = crate::support::Transport::Websocket;
    let (mut one, mut two) = (named(&hub, transport, "one"), named(&hub, transport, "two"));
    one.send(r#"42["all ways"]"#);
    for n in 1..=5 {
        two.expect(&format!(r#"42["n",{n}]"#));
    }
    one.expect(r#"42["n",5]"#);
}

#[test]
fn emits_with_collected_acks_are_bounded() {
    // Regression: a silent member kept them open, with any number of handlers.
    let hub = Hub::limited(
        |limits| limits.acks.collections_max = 3,
        |io| {
            register(io);
            io.of("/").on("ask on", |socket, event: Event<()>| async move {
                match socket.to("all").emit_with_ack::<u8, _>("question", "?").await {
                    Ok(_) => event.ack.send("asked")?,
                    Err(error) => event.ack.send(error.to_string())?,
                }
                Ok(())
            });
        },
    );
    let transport = crate::support::Transport::Websocket;
    let (mut asker, mut silent) = (named(&hub, transport, "asker"), named(&hub, transport, "silent"));
    for n in 1..=4 {
        asker.send(&format!(r#"42{n}["ask on"]"#));
    }
    asker.expect(r#"434["hub is overloaded"]"#);
    (0..3).for_each(|_| drop(question(&mut silent)));
    silent.send("1");
    for n in 1..=3 {
        asker.expect(&format!(r#"43{n}["asked"]"#));
    }
}

#[test]
fn collected_acks_are_reported_when_the_askers_session_ends() {
    // Regression: the error was "disconnected, nothing was emitted" after all members had received
    // the event.
    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            register(io);
            io.of("/").on("ask on", move |socket, _: Event<()>| {
                let reporter = reporter.clone();
                async move {
                    let asked = socket.to("all").emit_with_ack::<String, _>("question", "?").await?;
                    reporter.report(format!("{} answered, {} did not", asked.answers.len(), asked.missing.len()));
                    Ok(())
                }
            });
        },
    );
    on_every_transport(|transport| {
        let [mut asker, mut one, mut silent] = ["asker", "one", "silent"].map(|name| named(&hub, transport, name));
        asker.send(r#"42["ask on"]"#);
        question(&mut silent);
        let id = question(&mut one);
        one.send(&format!(r#"43{id}["1"]"#));
        one.send(r#"421["join","more"]"#);
        one.expect("431[]");
        // Earlier packets of this client have passed the hub by now and are at the asker when this
        // one arrives.
        asker.expect_echo();
        asker.send("1");
        assert_eq!(reports.next(), "1 answered, 1 did not");
        for mut client in [one, silent] {
            client.send("1");
        }
        hub.wait_for_sessions(0);
    });
}
