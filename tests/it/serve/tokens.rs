//! Clients of `stentor serve` with tokens: who connects, and what they may do.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use stentor::{AccessRules, Auth, Builder, DefaultAccess, Queue, Recovery, TokenKeys};

use crate::support::product::vocabulary::{self, Access, Policy};
use crate::support::{Client, Hub, Packet, Transport, on_every_transport, run};

const SECRET: &str = "a secret of at least 32 bytes, for tests";

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A token of a user for an hour, with these permissions.
fn token(user: &str, permissions: &Value) -> String {
    sign(&json!({ "sub": user, "exp": unix_seconds() + 3_600, "stentor": permissions }))
}

fn sign(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes()).unwrap();
    encode(&Header::default(), claims, &key).unwrap()
}

fn auth(token: &str) -> Value {
    json!({ "token": token })
}

fn policy() -> Policy {
    let auth = Auth::jwt(TokenKeys::hmac(SECRET).unwrap());
    Policy { auth: Some(auth), rules: AccessRules::default(), ..Policy::open(Access::Token, 8) }
}

fn hub_with(policy: Policy, build: impl FnOnce(Builder) -> Builder) -> Hub {
    Hub::start(build, |io| drop(vocabulary::install(io.of("/"), policy)))
}

fn hub() -> Hub {
    hub_with(policy(), |builder| builder.recovery(Recovery::memory()).queue(Queue::memory()))
}

/// Sends CONNECT, and returns the error of the CONNECT_ERROR or the reply.
#[track_caller]
fn connect(client: &mut Client, auth: &Value) -> Value {
    client.send(&format!("40{auth}"));
    let packet = client.recv_text();
    serde_json::from_str(&packet[2..]).unwrap_or_else(|error| panic!("{packet}: {error}"))
}

#[track_caller]
fn join_with(hub: &Hub, transport: Transport, token: &str) -> Client {
    let mut client = hub.open(transport);
    client.connect_with("", &auth(token).to_string());
    client
}

/// Emits an event that requests an ack, and returns the first argument of the ack.
#[track_caller]
fn ask(client: &mut Client, event: &Value) -> Value {
    client.send(&format!("421{event}"));
    loop {
        let packet = client.recv_text();
        if let Some(answer) = packet.strip_prefix("431") {
            let answer: Value = serde_json::from_str(answer).expect("JSON");
            return answer[0].clone();
        }
    }
}

/// The code of the error with which an event is answered. Null if it succeeds.
#[track_caller]
fn code(client: &mut Client, event: &Value) -> Value {
    ask(client, event)["error"]["code"].clone()
}

/// Name and first argument of the next event.
#[track_caller]
fn event(client: &mut Client) -> Value {
    let packet = client.recv_text();
    let event: Value = serde_json::from_str(packet.strip_prefix("42").expect(&packet)).expect("JSON");
    json!([event[0], event[1]])
}

#[test]
fn clients_without_a_good_token_are_refused_with_a_code() {
    let hub = hub();
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        let expired = sign(&json!({ "sub": "42", "exp": unix_seconds() - 3_600 }));
        let other_namespace = token("42", &json!({ "namespaces": ["/chat"] }));
        for (auth, expected) in [
            (json!({}), "token_missing"),
            (auth("guess"), "token_invalid"),
            (auth(&expired), "token_expired"),
            (auth(&other_namespace), "forbidden"),
        ] {
            let error = connect(&mut client, &auth);
            assert_eq!(error["data"]["code"], expected, "{error}");
        }
        assert!(connect(&mut client, &auth(&token("42", &json!({}))))["sid"].is_string());
        client.expect_echo();
        client.send("1");
    });
}

#[test]
fn clients_act_only_in_rooms_that_their_tokens_name() {
    let hub = hub();
    let permissions = json!({ "join": ["chat:*"], "publish": ["chat:1", "news"], "members": ["chat:1"] });
    let mut client = join_with(&hub, Transport::Websocket, &token("42", &permissions));
    let other = hub.open(Transport::Websocket).connect_with("", &auth(&token("43", &json!({}))).to_string());
    for (event, expected) in [
        (json!(["join", "chat:1"]), Value::Null),
        (json!(["join", "staff"]), json!("forbidden")),
        (json!(["join", "*"]), json!("forbidden")),
        (json!(["join", "chat*"]), json!("forbidden")),
        (json!(["join", "user:43"]), json!("forbidden")),
        (json!(["leave", "user:42"]), json!("forbidden")),
        (json!(["publish", "chat:1", "e"]), Value::Null),
        (json!(["publish", "news", "e"]), Value::Null),
        (json!(["publish", "chat:2", "e"]), json!("forbidden")),
        (json!(["publish", { "rooms": ["chat:1", "chat:2"] }, "e"]), json!("forbidden")),
        (json!(["publish", { "room": "chat:2", "durable": true }, "e"]), json!("forbidden")),
        (json!(["publish", "user:43", "e"]), json!("forbidden")),
        (json!(["publish", other["sid"], "e"]), json!("forbidden")),
        (json!(["members", "chat:1"]), Value::Null),
        (json!(["members", "chat:2"]), json!("forbidden")),
        (json!(["members", "user:43"]), json!("forbidden")),
        (json!(["pull", { "rooms": ["chat:1"] }]), Value::Null),
        (json!(["pull", { "rooms": ["chat:1", "staff"] }]), json!("forbidden")),
        (json!(["join", "staff", { "durable": true }]), json!("forbidden")),
    ] {
        assert_eq!(code(&mut client, &event), expected, "{event}");
    }
    let message = ask(&mut client, &json!(["publish", "staff", "e"]))["error"]["message"].clone();
    let expected =
        "publish: room \"staff\": permission is missing, expected a pattern in \"publish\" of the client's token";
    assert!(message.as_str().unwrap_or_default().starts_with(expected), "{message}");
}

#[test]
fn members_of_a_room_may_act_in_it_where_the_default_is_member() {
    let mut policy = policy();
    (policy.rules.join_default, policy.rules.publish_default) = (DefaultAccess::Member, DefaultAccess::Member);
    let hub = hub_with(policy, |builder| builder);
    let mut client = join_with(&hub, Transport::Websocket, &token("42", &json!({ "rooms": ["lobby"] })));
    for (event, expected) in [
        (json!(["publish", "lobby", "e"]), Value::Null),
        (json!(["members", "lobby"]), Value::Null),
        (json!(["join", "lobby"]), Value::Null),
        (json!(["publish", "staff", "e"]), json!("forbidden")),
        (json!(["join", "staff"]), json!("forbidden")),
    ] {
        assert_eq!(code(&mut client, &event), expected, "{event}");
    }
}

#[test]
fn a_client_is_in_its_rooms_before_its_first_event_is_handled() {
    let hub = hub();
    on_every_transport(|transport| {
        let token = token("42", &json!({ "rooms": ["lobby"], "publish": ["lobby", "user:42"] }));
        let mut client = hub.open(transport);
        let sent = [format!("40{}", auth(&token)), r#"42["publish",{"rooms":["lobby"]},"hello",1]"#.to_owned()];
        client.send_all(&sent.map(Packet::Text));
        assert!(client.recv_text().starts_with("40"));
        assert_eq!(event(&mut client), json!(["hello", 1]));
        client.send(r#"42["publish","user:42","own",2]"#);
        assert_eq!(event(&mut client), json!(["own", 2]));
        client.send("1");
    });
}

#[test]
fn a_publish_to_a_user_reaches_every_device_and_no_one_else() {
    let hub = hub();
    on_every_transport(|transport| {
        let mut devices: Vec<_> = (0..2).map(|_| join_with(&hub, transport, &token("42", &json!({})))).collect();
        let mut other = join_with(&hub, transport, &token("43", &json!({ "publish": ["user:*"] })));
        assert_eq!(code(&mut other, &json!(["publish", "user:42", "order", 7])), Value::Null);
        for device in &mut devices {
            assert_eq!(event(device), json!(["order", 7]));
            device.send("1");
        }
        other.expect_echo();
        other.send("1");
    });
}

#[test]
fn a_new_token_replaces_the_permissions_and_leaves_other_rooms() {
    let hub = hub();
    on_every_transport(|transport| {
        let mut client = join_with(&hub, transport, &token("42", &json!({ "join": ["a", "b"] })));
        for room in ["a", "b"] {
            assert_eq!(code(&mut client, &json!(["join", room])), Value::Null);
        }
        let of_another = token("43", &json!({ "join": ["*"] }));
        assert_eq!(code(&mut client, &json!(["token", of_another])), "token_invalid");
        assert_eq!(code(&mut client, &json!(["token", "guess"])), "token_invalid");
        assert_eq!(code(&mut client, &json!(["token"])), "bad_request");
        let exp = unix_seconds() + 60;
        let claims = json!({ "sub": "42", "exp": exp, "stentor": { "join": ["b", "c"], "rooms": ["d"] } });
        assert_eq!(ask(&mut client, &json!(["token", sign(&claims)])), json!({ "exp": exp }));
        for room in ["a", "b", "c", "d", "user:42"] {
            run(hub.io.of("/").to(room).emit(room, 0)).unwrap();
        }
        for room in ["b", "d", "user:42"] {
            assert_eq!(event(&mut client), json!([room, 0]));
        }
        assert_eq!(code(&mut client, &json!(["join", "a"])), "forbidden");
        client.send("1");
        hub.wait_for_sessions(0);
    });
}

#[test]
fn a_client_whose_token_expires_is_warned_and_its_transport_closed() {
    let hub = hub();
    let expiring = || sign(&json!({ "sub": "42", "exp": unix_seconds() + 3, "stentor": { "join": ["a"] } }));
    let mut clients: Vec<_> = Transport::ALL
        .into_iter()
        .map(|transport| {
            let mut client = hub.open(transport);
            let reply = connect(&mut client, &auth(&expiring()));
            assert_eq!(code(&mut client, &json!(["join", "a"])), Value::Null);
            (transport, client, reply["pid"].clone())
        })
        .collect();
    let mut renewed = join_with(&hub, Transport::Websocket, &expiring());
    assert!(renewed.recv_text().contains(r#"["stentor:expiring",{"in_ms":"#));
    assert_eq!(code(&mut renewed, &json!(["token", token("42", &json!({}))])), Value::Null);
    for (transport, client, pid) in &mut clients {
        client.expect_end_after(|packet| packet.contains("stentor:expiring"));
        let mut again = hub.open(*transport);
        let stale = json!({ "pid": pid, "token": sign(&json!({ "sub": "42", "exp": unix_seconds() - 60 })) });
        assert_eq!(connect(&mut again, &stale)["data"]["code"], "token_expired");
        let fresh = json!({ "pid": pid, "token": token("42", &json!({ "join": ["a"] })) });
        assert_eq!(connect(&mut again, &fresh)["pid"], *pid, "{transport:?}: it is recovered");
    }
    renewed.expect_echo();
}

#[test]
fn a_session_is_resumed_only_by_its_user_and_without_forbidden_rooms() {
    let folder = std::env::temp_dir().join(format!("stentor-it-tokens-{}", std::process::id()));
    let start = || hub_with(policy(), |builder| builder.recovery(Recovery::disk(&folder)));
    let all = token("42", &json!({ "join": ["*"] }));
    for restarts in [false, true] {
        let mut hub = start();
        let mut client = hub.open(Transport::Websocket);
        let first = connect(&mut client, &auth(&all));
        for room in ["kept", "secret"] {
            assert_eq!(code(&mut client, &json!(["join", room])), Value::Null);
        }
        client.send("1");
        hub.wait_for_sessions(0);
        for room in ["secret", "kept", "user:42"] {
            // Confirmed, so that the event is in the journal before the hub ends.
            run(hub.io.of("/").to(room).emit_confirmed(room, 0)).unwrap();
        }
        if restarts {
            drop(hub);
            hub = start();
        }
        let mut other = hub.open(Transport::Websocket);
        let stolen = json!({ "pid": first["pid"], "token": token("43", &json!({ "join": ["*"] })) });
        let reply = connect(&mut other, &stolen);
        assert!(reply["sid"].is_string() && reply["sid"] != first["sid"], "{reply}");
        other.expect_echo();
        let mut own = hub.open(Transport::Websocket);
        let narrower = json!({ "pid": first["pid"], "token": token("42", &json!({ "join": ["kept"] })) });
        assert_eq!(connect(&mut own, &narrower)["pid"], first["pid"], "it is recovered");
        for room in ["kept", "user:42"] {
            assert_eq!(event(&mut own), json!([room, 0]));
        }
        run(hub.io.of("/").to("secret").emit("secret", 1)).unwrap();
        own.expect_echo();
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_token_for_a_room_admits_to_this_room_alone() {
    let hub = hub();
    let of_room = |user: &str, room: &str, publish: bool| {
        sign(&json!({ "sub": user, "room": room, "publish": publish, "exp": unix_seconds() + 3_600 }))
    };
    let mut client = hub.open(Transport::Websocket);
    let first = connect(&mut client, &auth(&token("42", &json!({}))));
    for (room, token, expected) in [
        ("a", of_room("42", "a", true), Value::Null),
        ("b", of_room("42", "b", false), Value::Null),
        ("c", of_room("42", "a", true), json!("token_invalid")),
        ("c", of_room("43", "c", true), json!("token_invalid")),
        ("user:43", of_room("42", "user:43", true), json!("forbidden")),
    ] {
        assert_eq!(code(&mut client, &json!(["join", room, { "token": token }])), expected, "{room}");
    }
    assert_eq!(code(&mut client, &json!(["publish", "a", "e"])), Value::Null);
    assert_eq!(code(&mut client, &json!(["publish", "b", "e"])), "forbidden");
    client.send("1");
    hub.wait_for_sessions(0);
    run(hub.io.of("/").to("b").emit("missed", 0)).unwrap();
    let mut client = hub.open(Transport::Websocket);
    let back = json!({ "pid": first["pid"], "token": token("42", &json!({})) });
    assert_eq!(connect(&mut client, &back)["pid"], first["pid"]);
    client.expect_echo_after(|packet| packet.contains(r#"["e","#) || packet.contains(r#"["missed",0"#));
    assert_eq!(code(&mut client, &json!(["publish", "a", "e"])), Value::Null, "the room is kept");
}

#[test]
fn users_are_subscribers_under_their_own_names() {
    let hub = hub();
    let named = |user: &str, name: &str| json!({ "subscriber": name, "token": token(user, &json!({})) });
    for (user, name, is_admitted) in [
        ("42", "42", true),
        ("42", "42/phone", true),
        ("42", "42/", false),
        ("42", "43", false),
        ("42", "421", false),
        ("42", "4", false),
        ("a/b", "a/b", false),
    ] {
        let mut client = hub.open(Transport::Websocket);
        let reply = connect(&mut client, &named(user, name));
        let expected = if is_admitted { Value::Null } else { json!("forbidden") };
        assert_eq!(reply["data"]["code"], expected, "{user} as {name}: {reply}");
    }
}

#[test]
fn a_subscription_that_a_new_token_does_not_allow_is_ended() {
    let hub = hub();
    let as_phone = |join: Value| json!({ "subscriber": "42/phone", "token": token("42", &json!({ "join": join })) });
    let mut phone = hub.open(Transport::Websocket);
    connect(&mut phone, &as_phone(json!(["kept", "secret"])));
    for room in ["kept", "secret"] {
        assert_eq!(code(&mut phone, &json!(["join", room, { "durable": true }])), Value::Null);
    }
    phone.send("1");
    hub.wait_for_sessions(0);
    for room in ["secret", "kept"] {
        run(hub.io.of("/").to(room).durable().emit(room, 0)).unwrap();
    }
    let mut phone = hub.open(Transport::Websocket);
    connect(&mut phone, &as_phone(json!(["kept"])));
    let notice = phone.recv_text();
    assert!(notice.contains("stentor:error") && notice.contains(r#"room \"secret\" has ended"#), "{notice}");
    let attached = phone.recv_text();
    assert!(attached.contains("stentor:attached") && attached.contains(r#""pending":1"#), "{attached}");
    let delivered = phone.recv_text();
    assert!(delivered.contains(r#"["kept",0"#), "{delivered}");
    let state = ask(&mut phone, &json!(["pending"]));
    assert_eq!(state["rooms"], json!(["kept"]));
}

#[test]
fn a_room_that_the_server_has_joined_is_kept_until_the_server_leaves_it() {
    let hub = hub();
    let rooms = |operation: &str| {
        let body = json!({ "room": "team" }).to_string();
        super::api::ask(&hub, "POST", &format!("/api/v1/users/42/{operation}"), &body).0
    };
    let mut client = hub.open(Transport::Websocket);
    let first = connect(&mut client, &auth(&token("42", &json!({}))));
    assert_eq!(rooms("join"), 200);
    for expected in ["missed", "left"] {
        client.send("1");
        hub.wait_for_sessions(0);
        run(hub.io.of("/").to("team").emit("missed", 0)).unwrap();
        client = hub.open(Transport::Websocket);
        let back = json!({ "pid": first["pid"], "token": token("42", &json!({})) });
        assert_eq!(connect(&mut client, &back)["pid"], first["pid"]);
        if expected == "missed" {
            assert_eq!(event(&mut client), json!(["missed", 0]));
            assert_eq!(rooms("leave"), 200);
        }
        client.expect_echo();
    }
}

#[test]
fn a_leave_by_the_server_ends_the_durable_subscription_of_the_room() {
    let hub = hub();
    let rooms = |operation: &str| {
        let body = json!({ "room": "team" }).to_string();
        super::api::ask(&hub, "POST", &format!("/api/v1/users/42/{operation}"), &body).0
    };
    let mut client = hub.open(Transport::Websocket);
    connect(&mut client, &json!({ "subscriber": "42", "token": token("42", &json!({})) }));
    assert!(client.recv_text().contains("stentor:attached"));
    assert_eq!(rooms("join"), 200);
    assert_eq!(code(&mut client, &json!(["join", "team", { "durable": true }])), Value::Null);
    assert_eq!(rooms("leave"), 200);
    run(hub.io.of("/").to("team").durable().emit("secret", 0)).unwrap();
    assert_eq!(ask(&mut client, &json!(["pending"]))["rooms"], json!([]));
    client.expect_echo();
}

#[test]
fn a_join_by_the_server_keeps_what_a_token_for_the_room_permits() {
    let hub = hub();
    let mut client = join_with(&hub, Transport::Websocket, &token("42", &json!({})));
    let of_room = sign(&json!({ "sub": "42", "room": "team", "publish": true, "exp": unix_seconds() + 3_600 }));
    assert_eq!(code(&mut client, &json!(["join", "team", { "token": of_room }])), Value::Null);
    let body = json!({ "room": "team" }).to_string();
    assert_eq!(super::api::ask(&hub, "POST", "/api/v1/users/42/join", &body).0, 200);
    assert_eq!(code(&mut client, &json!(["publish", "team", "e"])), Value::Null);
    assert_eq!(super::api::ask(&hub, "POST", "/api/v1/users/42/leave", &body).0, 200);
    assert_eq!(code(&mut client, &json!(["publish", "team", "e"])), "forbidden");
}

#[test]
fn a_room_is_left_when_the_token_for_it_expires() {
    let hub = hub();
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        connect(&mut client, &json!({ "subscriber": format!("42/{transport:?}"), "token": token("42", &json!({})) }));
        assert!(client.recv_text().contains("stentor:attached"));
        for (room, seconds) in [("long", 3_600), ("short", 4), ("kept", 4), ("renewed", 4), ("renewed", 3_600)] {
            let exp = unix_seconds() + seconds;
            let options = json!({ "durable": true, "token": sign(&json!({ "sub": "42", "room": room, "exp": exp })) });
            assert_eq!(code(&mut client, &json!(["join", room, options])), Value::Null, "{room}");
        }
        let body = json!({ "room": "kept" }).to_string();
        assert_eq!(super::api::ask(&hub, "POST", "/api/v1/users/42/join", &body).0, 200);
        let notice = event(&mut client);
        assert_eq!(notice[0], "stentor:error");
        assert_eq!(notice[1]["error"]["code"], "token_expired");
        for room in ["short", "kept", "renewed", "long"] {
            run(hub.io.of("/").to(room).emit(room, 0)).unwrap();
        }
        for room in ["kept", "renewed", "long"] {
            assert_eq!(event(&mut client), json!([room, 0]));
        }
        assert_eq!(ask(&mut client, &json!(["pending"]))["rooms"], json!(["kept", "long", "renewed"]));
        client.send("1");
        hub.wait_for_sessions(0);
    });
}

#[test]
fn a_subscription_by_a_token_for_the_room_outlives_the_session() {
    let hub = hub();
    let of_room = |user: &str| sign(&json!({ "sub": user, "room": "a", "exp": unix_seconds() + 3_600 }));
    let named = |room_tokens: Value| json!({ "subscriber": "42", "token": token("42", &json!({})), "room_tokens": room_tokens });
    let mut client = hub.open(Transport::Websocket);
    connect(&mut client, &named(json!({})));
    assert!(client.recv_text().contains("stentor:attached"));
    let options = json!({ "durable": true, "token": of_room("42") });
    assert_eq!(code(&mut client, &json!(["join", "a", options])), Value::Null);
    client.send("1");
    hub.wait_for_sessions(0);
    run(hub.io.of("/").to("a").durable().emit("missed", 0)).unwrap();
    let mut client = hub.open(Transport::Websocket);
    for (tokens, expected) in [
        (json!({ "a": of_room("43") }), "token_invalid"),
        (json!({ "b": of_room("42") }), "token_invalid"),
        (json!({ "user:42": of_room("42") }), "forbidden"),
        (json!({ "a": 1 }), "bad_request"),
        (json!([of_room("42")]), "bad_request"),
    ] {
        assert_eq!(connect(&mut client, &named(tokens.clone()))["data"]["code"], expected, "{tokens}");
    }
    connect(&mut client, &named(json!({ "a": of_room("42") })));
    assert!(client.recv_text().contains("stentor:attached"));
    assert!(client.recv_text().contains(r#"["missed",0"#));
    assert_eq!(ask(&mut client, &json!(["pending"]))["rooms"], json!(["a"]));
}

#[test]
fn a_pattern_for_all_rooms_does_not_reach_the_sockets_of_others() {
    let hub = hub();
    let other = hub.open(Transport::Websocket).connect_with("", &auth(&token("43", &json!({}))).to_string());
    let id = other["sid"].as_str().unwrap();
    for (pattern, expected) in [("*", json!("forbidden")), ("***", json!("forbidden")), (id, Value::Null)] {
        let mut client = hub.open(Transport::Websocket);
        let own = connect(&mut client, &auth(&token("42", &json!({ "publish": [pattern, "doc-*"] }))));
        assert_eq!(code(&mut client, &json!(["publish", id, "e"])), expected, "{pattern}");
        assert_eq!(code(&mut client, &json!(["publish", "doc-0123456789abcdef", "e"])), Value::Null);
        if pattern == "*" {
            assert_eq!(code(&mut client, &json!(["publish", own["sid"], "e"])), Value::Null);
        }
    }
}
