//! Users and sockets over HTTP: publishing to them, their rooms, disconnection, lists.

use serde_json::{Value, json};
use stentor::{Identity, Recovery};

use super::api::{ask, expect_refused};
use crate::support::{Client, Ended, Hub, Transport, on_every_transport};

/// A hub on which a client is the user that its `auth` names, in `/` and in `/other`.
fn hub() -> Hub {
    Hub::start(
        |builder| builder.recovery(Recovery::memory()),
        |io| {
            for namespace in ["/", "/other"] {
                io.of(namespace).on_connection(|socket| async move {
                    let auth: Value = socket.auth()?;
                    if let Some(user) = auth["user"].as_str() {
                        let identity = Identity::of_user(user)?;
                        socket.join(identity.user_room().unwrap_or_default()).await?;
                        socket.extensions().insert(identity);
                    }
                    Ok(())
                });
            }
        },
    )
}

/// A client of this user, with the id of its socket.
fn sign_in(hub: &Hub, transport: Transport, user: &str) -> (Client, String) {
    let mut client = hub.open(transport);
    let reply = client.connect_with("", &json!({"user": user, "recovery": false}).to_string());
    client.expect_echo();
    (client, reply["sid"].as_str().unwrap().to_owned())
}

fn post(hub: &Hub, target: &str, body: Value) -> (u16, Value) {
    ask(hub, "POST", &format!("/api/v1/{target}"), &body.to_string())
}

fn changed(sockets: usize) -> (u16, Value) {
    (200, json!({"sockets": sockets}))
}

#[test]
fn an_event_to_a_user_reaches_all_sockets_of_the_user() {
    let hub = hub();
    on_every_transport(|transport| {
        let (mut phone, _) = sign_in(&hub, transport, "a/b|1");
        let (mut laptop, _) = sign_in(&hub, transport, "a/b|1");
        let (mut other, _) = sign_in(&hub, transport, "2");
        let (status, receipt) = post(&hub, "users/a%2Fb%7C1/publish", json!({"event": "news", "args": [1]}));
        assert_eq!((status, &receipt["level"]), (200, &json!("accepted")));
        assert_eq!(post(&hub, "publish", json!({"users": ["a/b|1", "2"], "event": "more"})).0, 200);
        for client in [&mut phone, &mut laptop] {
            client.expect(r#"42["news",1]"#);
            client.expect(r#"42["more"]"#);
        }
        other.expect(r#"42["more"]"#);
    });
}

#[test]
fn an_event_for_all_reaches_all_sockets_but_the_excepted() {
    let hub = hub();
    let (mut first, first_id) = sign_in(&hub, Transport::Websocket, "1");
    // A client without a waiting poll does not receive volatile events.
    let (mut second, _) = sign_in(&hub, Transport::Websocket, "2");
    assert_eq!(post(&hub, "publish", json!({"all": true, "except": first_id, "event": "news"})).0, 200);
    let (status, receipt) = post(&hub, "publish", json!({"all": true, "volatile": true, "event": "tick"}));
    assert_eq!((status, &receipt["offset"]), (200, &Value::Null), "a volatile event is not kept");
    second.expect(r#"42["news"]"#);
    for client in [&mut first, &mut second] {
        client.expect(r#"42["tick"]"#);
    }
}

#[test]
fn an_event_to_a_socket_reaches_this_socket_only() {
    let hub = hub();
    let (mut first, id) = sign_in(&hub, Transport::Websocket, "1");
    let (mut second, _) = sign_in(&hub, Transport::Websocket, "1");
    assert_eq!(post(&hub, &format!("sockets/{id}/publish"), json!({"event": "news"})).0, 200);
    first.expect(r#"42["news"]"#);
    second.expect_echo();
}

#[test]
fn sockets_and_users_join_and_leave_rooms() {
    let hub = hub();
    let (mut first, id) = sign_in(&hub, Transport::Websocket, "1");
    let (mut second, _) = sign_in(&hub, Transport::Polling, "1");
    let news = || post(&hub, "publish", json!({"room": "a", "event": "news"}));
    assert_eq!(post(&hub, "users/1/join", json!({"rooms": ["a", "b"]})), changed(2));
    assert_eq!(post(&hub, &format!("sockets/{id}/leave"), json!({"room": "a"})), changed(1));
    assert_eq!(news().0, 200);
    second.expect(r#"42["news"]"#);
    first.expect_echo();
    assert_eq!(post(&hub, &format!("sockets/{id}/join"), json!({"room": "a"})), changed(1));
    assert_eq!(post(&hub, "users/1/leave", json!({"room": "b"})), changed(2));
    assert_eq!(news().0, 200);
    first.expect(r#"42["news"]"#);
    assert_eq!(ask(&hub, "GET", &format!("/api/v1/sockets/{id}"), "").1["rooms"], json!(["a", "user:1"]));
    assert_eq!(post(&hub, "users/3/join", json!({"room": "a"})), changed(0), "a user without sockets");
}

#[test]
fn rooms_of_users_are_joined_and_left_by_the_server_alone() {
    let hub = hub();
    let (_client, id) = sign_in(&hub, Transport::Websocket, "1");
    for target in [format!("sockets/{id}/join"), format!("sockets/{id}/leave"), "users/1/join".into()] {
        let answer = post(&hub, &target, json!({"rooms": ["a", "user:2"]}));
        expect_refused(answer, 400, "bad_room", "room \"user:2\" belongs to a user");
    }
    assert_eq!(ask(&hub, "GET", &format!("/api/v1/sockets/{id}"), "").1["rooms"], json!(["user:1"]));
}

#[test]
fn a_disconnected_socket_leaves_its_namespace_and_others_stay() {
    let hub = hub();
    on_every_transport(|transport| {
        let (mut first, id) = sign_in(&hub, transport, "1");
        let (mut second, _) = sign_in(&hub, transport, "1");
        first.connect_with("/other,", r#"{"recovery":false}"#);
        assert_eq!(ask(&hub, "POST", &format!("/api/v1/sockets/{id}/disconnect"), ""), changed(1));
        first.expect("41");
        second.expect_echo();
        assert_eq!(post(&hub, "users/1/disconnect", json!({"reconnect": false})), changed(1));
        second.expect("41");
        let gone = post(&hub, &format!("sockets/{id}/disconnect"), json!({}));
        expect_refused(gone, 404, "not_found", "is not connected to namespace \"/\"");
        assert_eq!(post(&hub, "users/1/disconnect", json!({})), changed(0));
        assert_eq!(post(&hub, "publish", json!({"namespace": "/other", "all": true, "event": "here"})).0, 200);
        first.expect(r#"42/other,["here"]"#);
    });
}

#[test]
fn with_reconnect_the_connection_is_closed_without_a_disconnect() {
    let hub = hub();
    on_every_transport(|transport| {
        let (mut client, id) = sign_in(&hub, transport, "1");
        assert_eq!(post(&hub, &format!("sockets/{id}/disconnect"), json!({"reconnect": true})), changed(1));
        // No "41": a client that receives it stays away.
        let ended = client.expect_end();
        assert!(matches!(ended, Ended::ClosePacket | Ended::CloseFrame(_) | Ended::UnknownSession), "{ended:?}");
    });
}

#[test]
fn sockets_of_a_user_are_listed_in_pages() {
    let hub = hub();
    let clients: Vec<_> = (0..3).map(|_| sign_in(&hub, Transport::Websocket, "1")).collect();
    let mut ids: Vec<&str> = clients.iter().map(|(_, id)| id.as_str()).collect();
    ids.sort_unstable();
    let page = |query: &str| ask(&hub, "GET", &format!("/api/v1/users/1{query}"), "").1;
    let listed = |page: &Value| -> Vec<String> {
        page["sockets"].as_array().unwrap().iter().map(|socket| socket["id"].as_str().unwrap().to_owned()).collect()
    };
    let first = page("?limit=2");
    assert_eq!(
        (listed(&first), &first["count"], &first["next"]),
        (ids[..2].to_vec().iter().map(|id| (*id).into()).collect(), &json!(3), &json!(ids[1]))
    );
    let second = page(&format!("?limit=2&after={}", ids[1]));
    assert_eq!((listed(&second), &second["next"]), (vec![ids[2].to_owned()], &Value::Null));
    let socket = &first["sockets"][0];
    assert_eq!(
        (&socket["user"], &socket["address"], &socket["info"]),
        (&json!("1"), &json!("127.0.0.1"), &Value::Null)
    );
    let nobody = json!({"namespace": "/", "user": "nobody", "count": 0, "sockets": [], "next": null});
    assert_eq!(ask(&hub, "GET", "/api/v1/users/nobody", ""), (200, nobody));
}

#[test]
fn wrong_users_and_sockets_are_refused_with_the_expected_form() {
    let hub = hub();
    let (_client, id) = sign_in(&hub, Transport::Websocket, "1");
    // The name of a room is no socket, so that its members are not disconnected.
    for target in ["sockets/lobby/disconnect", "sockets/user:1/join", "sockets/AAAA/publish"] {
        expect_refused(post(&hub, target, json!({})), 400, "bad_request", "path: expected the id of a socket");
    }
    let unknown = "A".repeat(20);
    expect_refused(post(&hub, &format!("sockets/{unknown}/join"), json!({"room": "a"})), 404, "not_found", &unknown);
    let elsewhere = post(&hub, &format!("sockets/{id}/join"), json!({"room": "a", "namespace": "/other"}));
    expect_refused(elsewhere, 404, "not_found", "namespace \"/other\"");
    let missing = json!({"room": "a", "namespace": "/new"});
    expect_refused(post(&hub, "users/1/join", missing), 404, "unknown_namespace", "\"/new\"");
    expect_refused(post(&hub, "users/1/join", json!({})), 400, "bad_request", "room is missing");
    expect_refused(
        post(&hub, "users/1/disconnect", json!({"close": true})),
        400,
        "bad_request",
        "expected namespace, reconnect",
    );
    expect_refused(
        post(&hub, "users/1/publish", json!({"room": "a", "event": "e"})),
        400,
        "bad_request",
        "unknown field \"room\"",
    );
    let long = "u".repeat(252);
    expect_refused(post(&hub, &format!("users/{long}/join"), json!({"room": "a"})), 400, "bad_request", "252 bytes");
    expect_refused(ask(&hub, "GET", "/api/v1/users/%FF", ""), 400, "bad_request", "UTF-8");
    expect_refused(ask(&hub, "GET", &format!("/api/v1/users/1/{unknown}"), ""), 404, "not_found", "nothing at");
}
