//! Connections by signed tokens, with the middleware of the library.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use stentor::{Auth, Event, Identity, Server, TokenKeys};

use crate::support::{Http, Hub, Transport, on_every_transport};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn auth() -> Auth {
    Auth::jwt(TokenKeys::hmac(SECRET).unwrap())
}

/// A token of a user that expires in a minute, with more claims.
fn token(user: &str, more: &Value) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut claims = json!({ "sub": user, "exp": now + 60 });
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes()).unwrap()).unwrap()
}

/// A hub whose clients need a token in `/` and `/chat`. A client is in the rooms of its token, and
/// `whoami` answers with its user. `renew` replaces its token.
fn hub(auth: &Auth) -> Hub {
    Hub::start(
        |builder| builder,
        |io| {
            register(io, "/", auth);
            register(io, "/chat", auth);
        },
    )
}

fn register(io: &Server, namespace: &str, auth: &Auth) {
    let renewing = auth.clone();
    io.of(namespace)
        .with(auth.middleware())
        .on_connection(|socket| async move {
            Identity::of(&socket).join_rooms(&socket).await?;
            Ok(())
        })
        .on("whoami", |socket, event: Event<()>| async move {
            event.ack.send((Identity::of(&socket).user().map(str::to_owned), socket.rooms().await?.len()))?;
            Ok(())
        })
        .on("renew", move |socket, event: Event<String>| {
            let auth = renewing.clone();
            async move {
                match auth.renew(&socket, &event.data).await {
                    Ok(_) => event.ack.send("ok")?,
                    Err(error) => event.ack.send(error.code())?,
                }
                Ok(())
            }
        });
}

#[test]
fn a_client_connects_with_its_token_and_is_in_its_rooms() {
    let hub = hub(&auth());
    let token = token("42", &json!({ "stentor": { "rooms": ["lobby"] } }));
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        client.connect_with("", &json!({ "token": token }).to_string());
        client.send(r#"421["whoami"]"#);
        // The room of its user, and the room of the token.
        client.expect(r#"431["42",2]"#);
    });
}

#[test]
fn a_client_without_a_valid_token_is_refused_with_a_code() {
    let hub = hub(&auth());
    let of_one_namespace = token("42", &json!({ "stentor": { "namespaces": ["/chat"] } }));
    let expired = token("42", &json!({ "exp": 1 }));
    let early = token("42", &json!({ "nbf": 9_000_000_000u64 }));
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        for (auth, code) in [
            (String::new(), "token_missing"),
            ("{}".to_owned(), "token_missing"),
            (r#"{"token":""}"#.to_owned(), "token_missing"),
            (r#"{"token":null}"#.to_owned(), "token_missing"),
            (r#"{"token":7}"#.to_owned(), "token_invalid"),
            (r#"{"token":"x"}"#.to_owned(), "token_invalid"),
            (json!({ "token": "A".repeat(9_000) }).to_string(), "token_invalid"),
            (json!({ "token": expired }).to_string(), "token_expired"),
            (json!({ "token": early }).to_string(), "token_not_yet_valid"),
            (json!({ "token": of_one_namespace }).to_string(), "forbidden"),
        ] {
            client.send(&format!("40{auth}"));
            let refusal = client.recv_text();
            let refusal: Value = serde_json::from_str(refusal.strip_prefix("44").expect("a refusal")).expect("JSON");
            assert_eq!(refusal["data"]["code"], code, "{refusal}");
        }
        client.send(&format!("40{}", json!({ "token": "A".repeat(20_000) })));
        client.expect(r#"44{"message":"Auth is too large"}"#);
        client.connect_with("/chat,", &json!({ "token": of_one_namespace }).to_string());
    });
}

#[test]
fn a_token_is_read_from_a_header_and_not_from_the_query() {
    let hub = hub(&auth());
    let token = token("42", &json!({}));
    let answer = |query: &str, header: &str| {
        let mut http = Http::connect(hub.address);
        let open = http.request(
            "GET",
            &format!("/socket.io/?EIO=4&transport=polling{query}"),
            &[("Authorization", header)],
            b"",
        );
        let open: Value = serde_json::from_str(&open.body[1..]).unwrap();
        let target = format!("/socket.io/?EIO=4&transport=polling&sid={}", open["sid"].as_str().unwrap());
        assert_eq!(http.post(&target, "40").body, "ok");
        http.get(&target).body
    };
    for scheme in ["Bearer", "bearer", "BEARER "] {
        assert!(answer("", &format!("{scheme} {token}")).starts_with("40{"), "{scheme}");
    }
    for (query, header) in [(format!("&token={token}&access_token={token}"), "Basic dTpw"), (String::new(), &*token)] {
        let refusal = answer(&query, header);
        assert!(refusal.contains("token_missing"), "{refusal}");
    }
}

#[test]
fn anonymous_clients_connect_where_they_are_permitted() {
    let hub = hub(&auth().anonymous(true));
    let mut client = hub.open(Transport::Websocket);
    client.connect("");
    client.send(r#"421["whoami"]"#);
    client.expect(r#"431[null,0]"#);
    let mut wrong = hub.open(Transport::Websocket);
    wrong.send(r#"40{"token":"x"}"#);
    assert!(wrong.recv_text().contains("token_invalid"));
}

#[test]
fn a_token_is_renewed_for_the_same_user_and_namespace() {
    let hub = hub(&auth());
    let mut client = hub.open(Transport::Websocket);
    client.connect_with("", &json!({ "token": token("42", &json!({})) }).to_string());
    for (token, answer) in [
        (token("42", &json!({})), "ok"),
        (token("43", &json!({})), "token_invalid"),
        (token("42", &json!({ "exp": 1 })), "token_expired"),
        (token("42", &json!({ "stentor": { "namespaces": [] } })), "forbidden"),
    ] {
        client.send(&format!(r#"421{}"#, json!(["renew", token])));
        client.expect(&format!(r#"431["{answer}"]"#));
    }
    client.send(r#"422["whoami"]"#);
    client.expect(r#"432["42",1]"#);
}
