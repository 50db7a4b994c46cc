//! Rooms and their recipients. Each client reads up to a mark emitted to all, so a missing event is
//! noticed as well.

use stentor::{Args, Event, Server};

use crate::support::{Client, Hub, Transport, eventually, on_every_transport};

/// Room operations as events, each answered when it has taken effect. A mark to all sockets follows
/// each broadcast.
fn register(io: &Server) {
    let server = io.clone();
    io.of("/")
        .on("join", |socket, event: Event<String>| async move {
            let joined = socket.join(&event.data).await?;
            event.ack.send(joined.members)?;
            Ok(())
        })
        .on("leave", |socket, event: Event<String>| async move {
            socket.leave(&event.data).await?;
            event.ack.send(())?;
            Ok(())
        })
        .on("others in", |socket, event: Event<String>| async move {
            socket.to(&event.data).emit("said", &event.data).await?;
            socket.all().emit("mark", ()).await?;
            Ok(())
        })
        .on("all in", move |socket, event: Event<String>| {
            let io = server.clone();
            async move {
                io.to(&event.data).emit("said", &event.data).await?;
                socket.all().emit("mark", ()).await?;
                Ok(())
            }
        })
        .on("all in both", |socket, event: Event<(String, String)>| async move {
            let (one, other) = event.data;
            socket.all().to(one).within(other).emit("said", "both").await?;
            socket.all().emit("mark", ()).await?;
            Ok(())
        })
        .on("all in but not in", |socket, event: Event<(String, String)>| async move {
            let (room, except) = event.data;
            socket.all().to(room).except(except).emit("said", "except").await?;
            socket.all().emit("mark", ()).await?;
            Ok(())
        })
        .on("others not in", |socket, event: Event<String>| async move {
            socket.except(event.data).emit("said", "not in").await?;
            socket.all().emit("mark", ()).await?;
            Ok(())
        })
        .on("others", |socket, _: Event<()>| async move {
            socket.broadcast().emit("said", "others").await?;
            socket.all().emit("mark", ()).await?;
            Ok(())
        })
        .on("list", |socket, event: Event<String>| async move {
            let ids = socket.all().to(&event.data).socket_ids().await?;
            event.ack.send(ids.iter().map(ToString::to_string).collect::<Vec<_>>())?;
            Ok(())
        })
        .on("pass on", |socket, event: Event<Args>| async move {
            socket.all().emit("passed", event.data).await?;
            Ok(())
        });
}

fn hub() -> Hub {
    Hub::on_workers(2, |builder| builder, register)
}

/// A client in these rooms, and the id of its socket.
fn member(hub: &Hub, transport: Transport, rooms: &[&str]) -> (Client, String) {
    let mut client = hub.open(transport);
    let id = client.connect("")["sid"].as_str().unwrap().to_owned();
    for room in rooms {
        join(&mut client, room);
    }
    (client, id)
}

fn join(client: &mut Client, room: &str) {
    client.send(&format!(r#"421["join","{room}"]"#));
    let reply = client.recv_text();
    assert!(reply.starts_with("431["), "{reply}");
}

/// Events that a client receives up to the next mark.
fn received(client: &mut Client) -> Vec<String> {
    let mut said = Vec::new();
    loop {
        match client.recv_text() {
            mark if mark == r#"42["mark"]"# => return said,
            other => {
                let what = other.strip_prefix(r#"42["said",""#).and_then(|rest| rest.strip_suffix(r#""]"#));
                said.push(what.unwrap_or_else(|| panic!("unexpected {other}")).to_owned());
            }
        }
    }
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_room_receives_its_events_and_socket_to_excludes_the_sender() {
    on_every_transport(|transport| {
        let hub = hub();
        let (mut sender, _) = member(&hub, transport, &["red"]);
        let (mut same, _) = member(&hub, transport, &["red"]);
        let (mut other, _) = member(&hub, transport, &["blue"]);

        sender.send(r#"42["others in","red"]"#);
        assert_eq!(
            (received(&mut sender), received(&mut same), received(&mut other)),
            (vec![], vec!["red".into()], vec![])
        );

        sender.send(r#"42["all in","red"]"#);
        assert_eq!(received(&mut sender), ["red"]);
        assert_eq!(received(&mut same), ["red"]);
        assert_eq!(received(&mut other), NOTHING);

        sender.send(r#"42["others"]"#);
        assert_eq!(received(&mut sender), NOTHING);
        assert_eq!(received(&mut same), ["others"]);
        assert_eq!(received(&mut other), ["others"]);
    });
}

#[test]
fn a_member_of_two_rooms_receives_an_event_once() {
    on_every_transport(|transport| {
        let hub = hub();
        let (mut sender, _) = member(&hub, transport, &[]);
        let (mut both, _) = member(&hub, transport, &["red", "blue"]);
        let (mut one, _) = member(&hub, transport, &["blue"]);
        sender.send(r#"42["all in both","red","blue"]"#);
        assert_eq!(received(&mut sender), NOTHING);
        assert_eq!(received(&mut both), ["both"]);
        assert_eq!(received(&mut one), ["both"]);
    });
}

#[test]
fn members_of_an_excepted_room_receive_nothing() {
    on_every_transport(|transport| {
        let hub = hub();
        let (mut sender, _) = member(&hub, transport, &["red"]);
        let (mut quiet, _) = member(&hub, transport, &["red", "quiet"]);
        let (mut outside, _) = member(&hub, transport, &[]);

        sender.send(r#"42["all in but not in","red","quiet"]"#);
        assert_eq!(received(&mut sender), ["except"]);
        assert_eq!(received(&mut quiet), NOTHING);
        assert_eq!(received(&mut outside), NOTHING);

        sender.send(r#"42["others not in","quiet"]"#);
        assert_eq!(received(&mut sender), NOTHING);
        assert_eq!(received(&mut quiet), NOTHING);
        assert_eq!(received(&mut outside), ["not in"]);
    });
}

#[test]
fn a_sockets_id_is_a_room_of_its_own() {
    on_every_transport(|transport| {
        let hub = hub();
        let (mut sender, own) = member(&hub, transport, &[]);
        let (mut meant, id) = member(&hub, transport, &[]);
        let (mut other, _) = member(&hub, transport, &[]);

        sender.send(&format!(r#"42["others in","{id}"]"#));
        assert_eq!(received(&mut sender), NOTHING);
        assert_eq!(received(&mut meant), [id.as_str()]);
        assert_eq!(received(&mut other), NOTHING);

        sender.send(&format!(r#"42["all in","{own}"]"#));
        assert_eq!(received(&mut sender), [own.as_str()]);
        assert_eq!(received(&mut meant), NOTHING);
        assert_eq!(received(&mut other), NOTHING);

        sender.send(&format!(r#"42["others not in","{id}"]"#));
        assert_eq!(received(&mut sender), NOTHING);
        assert_eq!(received(&mut meant), NOTHING);
        assert_eq!(received(&mut other), ["not in"]);
    });
}

#[test]
fn a_socket_that_left_a_room_receives_nothing_of_it() {
    on_every_transport(|transport| {
        let hub = hub();
        let (mut sender, _) = member(&hub, transport, &[]);
        let (mut client, _) = member(&hub, transport, &["red"]);
        sender.send(r#"42["all in","red"]"#);
        assert_eq!((received(&mut sender), received(&mut client)), (vec![], vec!["red".into()]));
        for _ in 0..2 {
            // The second time it is not in the room, which is no error.
            client.send(r#"422["leave","red"]"#);
            client.expect("432[]");
            sender.send(r#"42["all in","red"]"#);
            assert_eq!((received(&mut sender), received(&mut client)), (vec![], vec![]));
        }
    });
}

#[test]
fn the_member_count_of_a_room_follows_joins_and_leaves() {
    on_every_transport(|transport| {
        let hub = hub();
        let (mut one, first) = member(&hub, transport, &[]);
        let (mut other, second) = member(&hub, transport, &[]);
        one.send(r#"421["join","red"]"#);
        one.expect("431[1]");
        other.send(r#"421["join","red"]"#);
        other.expect("431[2]");
        one.send(r#"422["join","red"]"#);
        one.expect("432[2]");

        one.send(r#"423["list","red"]"#);
        let list = one.recv_text();
        assert!(list.contains(&first) && list.contains(&second), "{list} without {first} or {second}");
        other.send("41");
        other.connect("");
        one.send(r#"424["list","red"]"#);
        one.expect(&format!(r#"434[["{first}"]]"#));
        one.send(r#"425["list","nobody"]"#);
        one.expect("435[[]]");
    });
}

#[test]
fn a_disconnected_socket_is_in_no_room() {
    on_every_transport(|transport| {
        let hub = hub();
        let (mut stays, id) = member(&hub, transport, &["red"]);
        let (mut goes, _) = member(&hub, transport, &["red"]);
        goes.send("1");
        // Two workers: the request may reach the hub before the disconnect of the other client.
        eventually("one member is left", || {
            stays.send(r#"421["list","red"]"#);
            stays.recv_text() == format!(r#"431[["{id}"]]"#)
        });
        stays.send(r#"421["join","red"]"#);
        stays.expect("431[1]");
    });
}

#[test]
fn a_room_of_another_namespace_is_another_room() {
    let hub = Hub::start(
        |builder| builder,
        |io| {
            register(io);
            io.of("/chat").on_connection(|socket| async move {
                socket.join("red").await?;
                Ok(())
            });
        },
    );
    on_every_transport(|transport| {
        let (mut client, _) = member(&hub, transport, &[]);
        client.connect("/chat,");
        client.send(r#"42["all in","red"]"#);
        assert_eq!(received(&mut client), NOTHING);
    });
}

#[test]
fn all_members_receive_the_events_of_a_room_in_one_order() {
    on_every_transport(|transport| {
        let hub = hub();
        let mut clients: Vec<_> = (0..4).map(|_| member(&hub, transport, &[]).0).collect();
        for round in 0..25 {
            for (sender, client) in clients.iter_mut().enumerate() {
                client.send(&format!(r#"42["pass on",{round},{sender}]"#));
            }
        }
        let seen: Vec<Vec<_>> =
            clients.iter_mut().map(|client| (0..100).map(|_| client.recv_text()).collect()).collect();
        for (client, other) in seen.iter().enumerate().skip(1) {
            assert_eq!(*other, seen[0], "client {client} saw another order than client 0");
        }
        for sender in 0..4 {
            let of_one = seen[0].iter().filter(|event| event.ends_with(&format!(",{sender}]")));
            let expected = (0..25).map(|round| format!(r#"42["passed",{round},{sender}]"#));
            assert!(of_one.cloned().eq(expected), "the events of client {sender} are out of order");
        }
    });
}

#[test]
fn an_event_with_attachments_reaches_every_member() {
    use crate::support::Packet;
    on_every_transport(|transport| {
        let hub = hub();
        let mut clients: Vec<_> = (0..3).map(|_| member(&hub, transport, &[]).0).collect();
        let header = r#"451-["pass on",{"_placeholder":true,"num":0}]"#;
        clients[0].send_all(&[Packet::Text(header.into()), Packet::Binary(b"abc".into())]);
        for client in &mut clients {
            client.expect(r#"451-["passed",{"_placeholder":true,"num":0}]"#);
            client.expect_binary(b"abc");
        }
    });
}

#[test]
fn an_invalid_room_name_is_an_error_of_the_handler_only() {
    on_every_transport(|transport| {
        let hub = hub();
        let (mut client, _) = member(&hub, transport, &[]);
        let long = "r".repeat(257);
        for event in [
            r#"421["join",""]"#.to_owned(),
            r#"421["leave",""]"#.to_owned(),
            r#"421["others in",""]"#.to_owned(),
            r#"421["others not in",""]"#.to_owned(),
            format!(r#"421["join","{long}"]"#),
        ] {
            client.send(&event);
            client.expect_echo();
        }
    });
}

#[test]
fn rooms_of_a_socket_are_limited_in_number() {
    on_every_transport(|transport| {
        let hub = Hub::limited(|limits| limits.sockets.rooms_max = 5, register);
        let (mut client, _) = member(&hub, transport, &["1", "2", "3", "4", "5"]);
        client.send(r#"421["join","6"]"#);
        client.expect_echo();
        client.send(r#"421["join","5"]"#);
        client.expect("431[1]");
        client.send(r#"421["leave","5"]"#);
        client.expect("431[]");
        client.send(r#"421["join","6"]"#);
        client.expect("431[1]");
    });
}

#[test]
fn room_names_of_a_socket_are_limited_in_bytes() {
    on_every_transport(|transport| {
        let hub = Hub::limited(|limits| limits.sockets.room_bytes_max = 5, register);
        let (mut client, _) = member(&hub, transport, &["1", "234"]);
        client.send(r#"421["join","56"]"#);
        client.expect_echo();
        client.send(r#"421["join","5"]"#);
        client.expect("431[1]");
    });
}
