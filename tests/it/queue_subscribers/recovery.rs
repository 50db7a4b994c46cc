//! Subscribers whose sessions are recovered.

use super::*;
use stentor::Recovery;

/// The next packet, without the token of a plain event.
fn parts(packet: &str) -> (Value, Option<String>) {
    let mut json: Value = serde_json::from_str(packet.strip_prefix("42").expect("an event")).expect("JSON");
    let token = json.as_array_mut().expect("an array").pop().and_then(|token| token.as_str().map(ToOwned::to_owned));
    (json, token)
}

/// An attached phone, and the private id with which its session is resumed.
fn recoverable_phone(hub: &Hub) -> (Attached, String) {
    let mut phone = hub.open(Transport::Websocket);
    let auth = json!({"subscriber": "phone", "recovery": true});
    let reply = phone.connect_with("", &auth.to_string());
    let pid = reply["pid"].as_str().expect("a recoverable session").to_owned();
    (Attached { attached: notice(&mut phone, "stentor:attached"), client: phone }, pid)
}

#[test]
fn a_phone_that_changes_networks_receives_each_event_by_one_way() {
    let hub = hub_with(|builder| builder.recovery(Recovery::memory()));
    let (mut phone, pid) = recoverable_phone(&hub);
    phone.subscribe("phone", "a");
    let emit = |data: u64| run(hub.io.of("/").all().to("a").emit("plain", data)).unwrap();
    emit(1);
    let (event, token) = parts(&phone.client.recv_text());
    assert_eq!(event, json!(["plain", 1]));
    let token = token.expect("a token");
    publish(&hub, "a", 2);
    let event = phone.recv_data(2);
    phone.ack(&event);
    publish(&hub, "a", 3);
    phone.recv_data(3);
    let api = subscriber(&hub, "phone", &[]);
    wait_for_pending(&api, 1);
    // The old network is gone, and nobody has noticed.
    let _old = phone;
    emit(4);
    publish(&hub, "a", 5);

    let auth = json!({"subscriber": "phone", "recovery": true, "pid": pid, "offset": token});
    let mut phone = hub.open(Transport::Websocket);
    let reply = phone.connect_with("", &auth.to_string());
    assert_eq!(reply["pid"], pid, "it is recovered");
    let (mut plain, mut durable) = (Vec::new(), Vec::new());
    while plain.len() + durable.len() < 3 {
        let packet = phone.recv_text();
        match parse(&packet) {
            Some(event) => {
                durable.push((event.data, event.redelivered));
                phone.send(&format!("43{}[]", event.ack));
            }
            None if packet.contains("stentor:attached") => {}
            None => plain.push(parts(&packet).0),
        }
    }
    assert_eq!(plain, [json!(["plain", 4])]);
    assert_eq!(durable, [(3, true), (5, true)], "both were sent to the old connection");
    wait_for_pending(&api, 0);
    phone.expect_echo();
    emit(6);
    assert_eq!(parts(&phone.recv_text()).0, json!(["plain", 6]));
    publish(&hub, "a", 7);
    assert!(phone.recv_text().contains(r#"["order",7,{"#));
    phone.expect_echo();
}

#[test]
fn a_resumed_session_leaves_the_rooms_of_ended_subscriptions() {
    let hub = hub_with(|builder| builder.recovery(Recovery::memory()));
    let (mut phone, pid) = recoverable_phone(&hub);
    phone.subscribe("phone", "a");
    phone.subscribe("phone", "b");
    run(hub.io.of("/").all().to("b").emit("plain", 1)).unwrap();
    let (_, token) = parts(&phone.client.recv_text());
    drop(phone);
    let api = subscriber(&hub, "phone", &[]);
    crate::support::eventually("it is away", || !run(api.info()).unwrap().is_attached);
    run(api.unsubscribe("a")).unwrap();
    let auth = json!({"subscriber": "phone", "recovery": true, "pid": pid, "offset": token});
    let mut phone = hub.open(Transport::Websocket);
    assert_eq!(phone.connect_with("", &auth.to_string())["pid"], pid, "it is recovered");
    notice(&mut phone, "stentor:attached");
    phone.send(r#"420["rooms"]"#);
    assert_eq!(phone.recv_text(), r#"430[["b"]]"#);
}
