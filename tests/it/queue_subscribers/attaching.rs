//! Attaching, eviction, and events of a subscriber that was away.

use super::*;
use crate::support::on_every_transport;

#[test]
fn a_returning_subscriber_receives_what_it_missed_in_order() {
    on_every_transport(|transport| {
        let hub = hub(|_| {});
        let mut phone = Attached::open(&hub, transport, "phone");
        assert_eq!(phone.attached, json!({"status": "reset", "reason": "new", "pending": 0, "gaps": []}));
        phone.subscribe("phone", "a");
        assert_eq!(publish(&hub, "a", 1).pending_for, 1);
        let first = phone.recv_data(1);
        assert_eq!((first.room.as_str(), first.redelivered), ("a", false));
        phone.ack(&first);
        let api = subscriber(&hub, "phone", &[]);
        wait_for_pending(&api, 0);
        phone.leave();
        crate::support::eventually("the subscriber is away", || !run(api.info()).unwrap().is_attached);
        for data in 2..=4 {
            publish(&hub, "a", data);
        }
        let mut phone = Attached::open(&hub, transport, "phone");
        assert_eq!(phone.attached, json!({"status": "resumed", "pending": 3, "gaps": []}));
        for data in 2..=4 {
            let event = phone.recv_data(data);
            assert!(!event.redelivered, "{event:?}");
            phone.ack(&event);
        }
        wait_for_pending(&api, 0);
        phone.expect_nothing();
    });
}

#[test]
fn a_subscriber_receives_an_event_of_two_rooms_once_and_not_as_a_member() {
    let hub = hub(|_| {});
    let mut phone = Attached::open(&hub, Transport::Websocket, "phone");
    phone.client.send(r#"421["join","a"]"#);
    phone.client.expect(r#"431["ok"]"#);
    phone.subscribe("phone", "a");
    phone.subscribe("phone", "b");
    let event = hub.io.of("/").all().to("b").to("a").durable();
    run(event.emit("order", 1)).unwrap();
    assert_eq!(phone.recv_data(1).room, "a");
    run(hub.io.of("/").all().to("b").emit("order", 2)).unwrap();
    phone.client.expect(r#"42["order",2]"#);
    phone.client.send(r#"421["rooms"]"#);
    phone.client.expect(r#"431[["a","b"]]"#);
}

#[test]
fn a_second_socket_of_the_same_name_evicts_the_first() {
    for (first, second) in [(Transport::Polling, Transport::Websocket), (Transport::Websocket, Transport::Polling)] {
        let hub = hub(|_| {});
        subscriber(&hub, "phone", &["a"]);
        let mut old = Attached::open(&hub, first, "phone");
        publish(&hub, "a", 1);
        let sent = old.recv_data(1);
        let mut new = Attached::open(&hub, second, "phone");
        assert_eq!(notice(&mut old.client, "stentor:evicted"), json!({"reason": "replaced"}));
        old.client.expect("41");
        let again = new.recv_data(1);
        assert_eq!((again.ack, again.redelivered), (sent.ack, true));
        new.ack(&again);
        publish(&hub, "a", 2);
        let event = new.recv_data(2);
        assert!(!event.redelivered);
        new.ack(&event);
        wait_for_pending(&subscriber(&hub, "phone", &[]), 0);
    }
}

#[test]
fn a_socket_has_one_subscriber_and_may_attach_it_again() {
    let hub = hub(|_| {});
    let mut phone = Attached::open(&hub, Transport::Websocket, "phone");
    phone.client.send(r#"421["attach","phone"]"#);
    phone.client.expect(r#"431["ok"]"#);
    phone.client.send(r#"421["attach","other"]"#);
    phone.client.expect(r#"431["socket is attached to the subscriber \"phone\" already"]"#);
    phone.client.send(r#"421["attach",""]"#);
    phone.client.expect(r#"431["subscriber name is empty"]"#);
}

#[test]
fn a_removed_subscriber_ends_its_attachment() {
    let hub = hub(|_| {});
    let mut phone = Attached::open(&hub, Transport::Websocket, "phone");
    phone.subscribe("phone", "a");
    run(subscriber(&hub, "phone", &[]).remove()).unwrap();
    assert_eq!(notice(&mut phone.client, "stentor:evicted"), json!({"reason": "removed"}));
    phone.client.expect("41");
    let again = Attached::open(&hub, Transport::Websocket, "phone");
    assert_eq!(again.attached["reason"], "new");
}

#[test]
fn a_closed_subscriber_leaves_its_rooms_and_exists_on() {
    let hub = hub_with(|builder| builder);
    hub.io.of("/").on("close", |socket, event: Event<String>| async move {
        socket.subscribe_as(event.data).await?.close();
        Ok(())
    });
    let mut phone = Attached::open(&hub, Transport::Websocket, "phone");
    phone.subscribe("phone", "a");
    phone.client.send(r#"42["close","phone"]"#);
    let api = subscriber(&hub, "phone", &[]);
    crate::support::eventually("the subscriber is away", || !run(api.info()).unwrap().is_attached);
    publish(&hub, "a", 1);
    crate::support::eventually("the socket has left", || {
        phone.client.send(r#"421["rooms"]"#);
        phone.client.recv_text() == "431[[]]"
    });
    assert_eq!(run(api.pull(9, Duration::ZERO)).unwrap().events.len(), 1);
}

#[test]
fn a_subscriber_of_a_thousand_rooms_receives_the_events_of_each() {
    let hub = hub(|_| {});
    let rooms: Vec<String> = (0..1_000).map(|room| format!("room-{room}")).collect();
    let api = subscriber(&hub, "many", &rooms.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(run(api.subscribe("one more")).is_err());
    let mut many = Attached::open(&hub, Transport::Websocket, "many");
    for room in [0, 500, 999] {
        publish(&hub, &rooms[room], room as u64);
        let event = many.recv_data(room as u64);
        assert_eq!(event.room, rooms[room]);
        many.ack(&event);
    }
    // It has joined them for plain events as well.
    crate::support::eventually("all rooms are joined", || {
        many.client.send(r#"421["rooms"]"#);
        many.client.recv_text().matches("room-").count() == 1_000
    });
}

#[test]
fn a_subscribed_room_that_may_not_be_joined_has_its_durable_events() {
    let hub = hub(|limits| limits.sockets.rooms_max = 1);
    let api = subscriber(&hub, "phone", &["a", "b"]);
    let mut phone = hub.open(Transport::Websocket);
    phone.connect_with("", &json!({ "subscriber": "phone" }).to_string());
    let mut packets = [phone.recv_text(), phone.recv_text()];
    packets.sort();
    assert!(packets[0].contains("stentor:attached"), "{packets:?}");
    assert_eq!(
        packets[1],
        r#"42["stentor:error",{"error":{"code":"too_many_rooms","message":"subscription of room \"b\" has its durable events only: socket is in as many rooms as rooms_per_socket_max and room_bytes_per_socket_max allow"}}]"#
    );
    publish(&hub, "b", 1);
    assert!(phone.recv_text().contains(r#"["order",1,{"#));
    wait_for_pending(&api, 1);
}

#[test]
fn a_subscriber_kept_with_its_socket_is_dropped_with_it() {
    struct Kept(#[allow(dead_code)] Subscriber, std::sync::mpsc::Sender<()>);
    impl Drop for Kept {
        fn drop(&mut self) {
            let _ = self.1.send(());
        }
    }
    let (sender, dropped) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let hub = Hub::start(
        |builder| builder.queue(Queue::memory()),
        move |io| {
            io.of("/").on_connection(move |socket| {
                let sender = sender.lock().expect("no panic").clone();
                async move {
                    let subscriber = socket.subscribe_as("phone").await?;
                    socket.extensions().insert(Kept(subscriber, sender));
                    Ok(())
                }
            });
        },
    );
    let phone = Attached::open(&hub, Transport::Websocket, "phone");
    phone.leave();
    dropped.recv_timeout(DEADLINE).expect("the socket's values are dropped");
}
