//! Tests of tokens, their claims and their keys.

mod published;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const OTHER_SECRET: &str = "another secret of more than 32 bytes";

/// A time of most tests, in seconds since 1970.
const NOW: u64 = 1_800_000_000;

fn hmac() -> Auth {
    Auth::jwt(TokenKeys::hmac(SECRET).expect("a secret of 32 bytes"))
}

fn signed_by(secret: &str, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes()).expect("a secret");
    encode(&Header::new(Algorithm::HS256), claims, &key).expect("claims")
}

/// Claims of user 42 that expire in a minute, with changes. A claim of `null` is left out.
fn claims(changes: &Value) -> Value {
    let mut claims = json!({ "sub": "42", "exp": NOW + 60 });
    for (name, value) in changes.as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    claims
}

/// Verifies claims at the time [`NOW`].
fn verified(auth: &Auth, changes: &Value) -> Result<Identity, TokenError> {
    let claims = claims(changes);
    auth.expected.identity(claims.as_object().expect("an object"), NOW)
}

fn code(auth: &Auth, changes: &Value) -> Option<&'static str> {
    verified(auth, changes).err().map(|error| error.code())
}

/// Verifies a token at the present time.
fn verify(auth: &Auth, token: &str) -> Result<Identity, TokenError> {
    // Without a URL, nothing is waited for.
    let mut verification = std::pin::pin!(auth.verify(token));
    match verification.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(verified) => verified,
        std::task::Poll::Pending => unreachable!("a known key is not waited for"),
    }
}

fn patterns(patterns: &[crate::RoomPattern]) -> Vec<&str> {
    patterns.iter().map(crate::RoomPattern::as_str).collect()
}

#[test]
fn a_token_describes_an_identity() {
    let hub =
        json!({ "namespaces": ["/"], "rooms": ["lobby"], "join": ["chat:*"], "publish": ["a", "b"], "members": ["c"] });
    let token =
        signed_by(SECRET, &json!({ "sub": "42", "exp": now() + 60, "info": { "name": "Ada" }, "stentor": hub }));
    let identity = verify(&hmac(), &token).expect("a valid token");
    assert_eq!((identity.user(), identity.rooms().collect::<Vec<_>>()), (Some("42"), vec!["lobby"]));
    assert_eq!(patterns(&identity.permissions.join), ["chat:*"]);
    assert_eq!(patterns(&identity.permissions.publish), ["a", "b"]);
    assert_eq!(patterns(&identity.permissions.members), ["c"]);
    assert!(identity.may_connect_to("/") && !identity.may_connect_to("/chat"));
    assert_eq!(identity.info.as_ref().map(|info| info.get()), Some(r#"{"name":"Ada"}"#));
    assert!(identity.expires_at.is_some_and(|at| at > now()));
    let least = verify(&hmac(), &signed_by(SECRET, &json!({ "sub": 7, "exp": now() + 60 }))).expect("a valid token");
    assert_eq!((least.user(), least.permissions.is_empty(), least.info.is_none()), (Some("7"), true, true));
}

#[test]
fn a_changed_secret_accepts_tokens_of_both_secrets() {
    let keys = TokenKeys::hmac_with_previous(SECRET, OTHER_SECRET).expect("two secrets");
    let (auth, claims) = (Auth::jwt(keys), json!({ "sub": "42", "exp": now() + 60 }));
    for secret in [SECRET, OTHER_SECRET] {
        assert!(verify(&auth, &signed_by(secret, &claims)).is_ok());
    }
    let third = signed_by("a third secret that is also long enough", &claims);
    assert_eq!(verify(&auth, &third).err(), Some(TokenError::Signature));
    assert_eq!(verify(&hmac(), &signed_by(OTHER_SECRET, &claims)).err(), Some(TokenError::Signature));
    let expired = json!({ "sub": "42", "exp": 1 });
    assert_eq!(
        verify(&auth, &signed_by(OTHER_SECRET, &expired)).map_err(|error| error.code()).err(),
        Some("token_expired")
    );
}

#[test]
fn an_unsigned_token_is_refused() {
    let token = signed_by(SECRET, &claims(&json!({ "exp": now() + 60 })));
    let (message, signature) = token.rsplit_once('.').expect("three parts");
    let (_, payload) = message.split_once('.').expect("two parts");
    // {"alg":"none","typ":"JWT"}, {"alg":"None"}, {"typ":"JWT"}
    for header in ["eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0", "eyJhbGciOiJOb25lIn0", "eyJ0eXAiOiJKV1QifQ"] {
        for signature in ["", signature] {
            let error = verify(&hmac(), &format!("{header}.{payload}.{signature}")).expect_err("an unsigned token");
            assert!(matches!(error, TokenError::Malformed(_)), "{error}");
        }
    }
    for empty in [format!("{message}."), message.to_owned(), format!("{message}.AAAA")] {
        assert!(verify(&hmac(), &empty).is_err(), "{empty}");
    }
}

#[test]
fn a_public_key_is_no_hmac_secret_and_the_reverse() {
    let pair = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).expect("a key");
    let (private, public) = (pair.serialize_pem(), pair.public_key_pem());
    let auth = Auth::jwt(TokenKeys::public_pem(&public).expect("a public key"));
    let claims = json!({ "sub": "42", "exp": now() + 60 });
    let rsa = EncodingKey::from_rsa_pem(private.as_bytes()).expect("a private key");
    let of_rsa = encode(&Header::new(Algorithm::RS256), &claims, &rsa).expect("claims");
    assert_eq!(verify(&auth, &of_rsa).expect("a valid token").user(), Some("42"));
    // The text of the public key is known to everyone.
    let forged = signed_by(&public, &claims);
    let refusal = verify(&auth, &forged).expect_err("a forged token");
    assert!(matches!(&refusal, TokenError::Algorithm { found, .. } if found == "HS256"), "{refusal}");
    let refusal = verify(&hmac(), &of_rsa).expect_err("a token of another kind");
    assert_eq!(refusal.to_string(), "token is signed by RS256, expected HS256 or HS384 or HS512");
}

#[test]
fn each_kind_of_public_key_verifies_its_tokens() {
    for (kind, algorithm) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, Algorithm::ES256),
        (&rcgen::PKCS_ECDSA_P384_SHA384, Algorithm::ES384),
        (&rcgen::PKCS_ED25519, Algorithm::EdDSA),
    ] {
        let pair = rcgen::KeyPair::generate_for(kind).expect("a key");
        let private = pair.serialize_pem();
        let key = match algorithm {
            Algorithm::EdDSA => EncodingKey::from_ed_pem(private.as_bytes()),
            _ => EncodingKey::from_ec_pem(private.as_bytes()),
        };
        let claims = json!({ "sub": "42", "exp": now() + 60 });
        let token = encode(&Header::new(algorithm), &claims, &key.expect("a private key")).expect("claims");
        let auth = Auth::jwt(TokenKeys::public_pem(pair.public_key_pem()).expect("a public key"));
        assert!(verify(&auth, &token).is_ok(), "{algorithm:?}");
        assert!(verify(&auth, &token[..token.len() - 4]).is_err(), "{algorithm:?}");
        let other = rcgen::KeyPair::generate_for(kind).expect("a key");
        let other = Auth::jwt(TokenKeys::public_pem(other.public_key_pem()).expect("a public key"));
        assert_eq!(verify(&other, &token).err(), Some(TokenError::Signature), "{algorithm:?}");
        assert!(matches!(TokenKeys::public_pem(private), Err(TokenKeyError::Pem(_))));
    }
}

#[test]
fn keys_that_are_weak_or_no_keys_are_refused() {
    assert_eq!(TokenKeys::hmac("k".repeat(31)).err(), Some(TokenKeyError::SecretTooShort { bytes: 31 }));
    assert!(TokenKeys::hmac_with_previous(SECRET, "short").is_err());
    for wrong in ["", "port = 1", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
        assert!(matches!(TokenKeys::public_pem(wrong), Err(TokenKeyError::Pem(_))), "{wrong}");
    }
    for url in ["", "example.org/keys", "ftp://example.org/keys", "https://u:p@example.org/keys"] {
        assert!(matches!(TokenKeys::jwks(url, "hub"), Err(TokenKeyError::Url(_))), "{url}");
    }
    assert_eq!(TokenKeys::jwks("https://example.org/keys", "").err(), Some(TokenKeyError::NoAudience));
}

#[test]
fn a_token_is_valid_from_nbf_to_exp_within_the_leeway() {
    let auth = hmac();
    for (changes, expected) in [
        (json!({ "exp": NOW + 1 }), None),
        (json!({ "exp": NOW - 9 }), None),
        (json!({ "exp": NOW - 10 }), Some("token_expired")),
        (json!({ "exp": 0 }), Some("token_expired")),
        (json!({ "exp": (NOW + 1) as f64 + 0.5 }), None),
        (json!({ "exp": 253_402_300_799_u64 }), None),
        (json!({ "exp": NOW * 1_000 }), Some("token_invalid")),
        (json!({ "exp": u64::MAX }), Some("token_invalid")),
        (json!({ "nbf": NOW + 10 }), None),
        (json!({ "nbf": NOW + 11 }), Some("token_not_yet_valid")),
        (json!({ "nbf": u64::MAX }), Some("token_invalid")),
        (json!({ "exp": null }), Some("token_invalid")),
        (json!({ "exp": "tomorrow" }), Some("token_invalid")),
        (json!({ "exp": -1 }), Some("token_invalid")),
        (json!({ "exp": 1e300 }), Some("token_invalid")),
        (json!({ "nbf": [] }), Some("token_invalid")),
    ] {
        assert_eq!(code(&auth, &changes), expected, "{changes}");
    }
    let exact = auth.leeway(Duration::ZERO);
    assert_eq!(code(&exact, &json!({ "exp": NOW })), Some("token_expired"));
    assert_eq!(code(&exact, &json!({ "nbf": NOW + 1 })), Some("token_not_yet_valid"));
    let refusal = verified(&exact, &json!({ "exp": NOW - 5 })).expect_err("an expired token");
    assert_eq!(refusal.to_string(), "token expired 5 s ago");
}

#[test]
fn issuer_and_audience_are_compared_where_they_are_set() {
    let set = hmac().issuer("https://a.example").audience("hub");
    for (changes, expected) in [
        (json!({ "iss": "https://a.example", "aud": "hub" }), None),
        (json!({ "iss": "https://a.example", "aud": ["other", "hub"] }), None),
        (json!({ "iss": "https://a.example", "aud": "other" }), Some("token_invalid")),
        (json!({ "iss": "https://a.example", "aud": ["other"] }), Some("token_invalid")),
        (json!({ "iss": "https://a.example", "aud": [] }), Some("token_invalid")),
        (json!({ "iss": "https://a.example", "aud": 7 }), Some("token_invalid")),
        (json!({ "iss": "https://a.example" }), Some("token_invalid")),
        (json!({ "iss": "https://a.example/", "aud": "hub" }), Some("token_invalid")),
        (json!({ "iss": ["https://a.example"], "aud": "hub" }), Some("token_invalid")),
        (json!({ "aud": "hub" }), Some("token_invalid")),
    ] {
        assert_eq!(code(&set, &changes), expected, "{changes}");
    }
    assert_eq!(code(&hmac(), &json!({ "iss": "anyone" })), None);
    let refusal = verified(&hmac(), &json!({ "aud": "hub" })).expect_err("a token for an audience");
    assert_eq!(refusal.to_string(), "token claim \"aud\": this token is for an audience, and this server has none");
}

#[test]
fn names_of_claims_are_whole_names_or_paths() {
    let auth = hmac().user_claim("user.id").claims("https://a.example/stentor");
    let hub = json!({ "join": ["a"], "info": 1 });
    let changes = json!({ "user": { "id": 7 }, "https://a.example/stentor": hub, "info": 2 });
    let identity = verified(&auth, &changes).expect("valid claims");
    assert_eq!((identity.user(), patterns(&identity.permissions.join)), (Some("7"), vec!["a"]));
    assert_eq!(identity.info.as_ref().map(|info| info.get()), Some("1"));
    assert_eq!(verified(&auth, &json!({ "user.id": "9" })).expect("valid claims").user(), Some("9"));
    assert_eq!(code(&auth, &json!({ "user": "7" })), Some("token_invalid"));
}

#[test]
fn claims_of_the_wrong_form_are_refused_by_name() {
    let auth = hmac();
    for (changes, expected) in [
        (json!({ "sub": null }), "token claim \"sub\": missing"),
        (json!({ "sub": "" }), "token claim \"sub\": user id is empty"),
        (json!({ "sub": "u".repeat(300) }), "token claim \"sub\": user id of 300 bytes exceeds"),
        (json!({ "sub": { "id": 1 } }), "token claim \"sub\": expected a string"),
        (json!({ "sub": 1.5 }), "token claim \"sub\": expected a string"),
        (json!({ "stentor": 1 }), "token claim \"stentor\": "),
        (json!({ "stentor": { "join": "chat:*" } }), "token claim \"stentor\": "),
        (json!({ "stentor": { "join": [""] } }), "token claim \"stentor\": pattern is empty"),
        (json!({ "stentor": { "rooms": [""] } }), "token claim \"stentor\": room to join: room name is empty"),
        (json!({ "stentor": { "publsh": [] } }), "token claim \"stentor\": unknown field `publsh`, expected one of"),
        (json!({ "room": "chat:7" }), "token claim \"room\": this token is for a join, not for a connection"),
    ] {
        let refusal = verified(&auth, &changes).expect_err("wrong claims");
        assert!(refusal.to_string().starts_with(expected), "{changes}: {refusal}");
    }
    let long = json!({ "stentor": { "é".repeat(2_000): [] } });
    let refusal = verified(&auth, &long).expect_err("an unknown field").to_string();
    assert!(refusal.len() < 250, "{refusal}");
}

#[test]
fn a_token_for_a_room_is_for_one_user_and_room() {
    let grant = |changes: Value, user: Option<&str>, room: &str| {
        let claims = claims(&changes);
        hmac().expected.room_grant(claims.as_object().expect("an object"), user, "/", room, NOW)
    };
    let room = || json!({ "room": "chat:7", "publish": true });
    assert_eq!(grant(room(), Some("42"), "chat:7"), Ok(RoomGrant { publish: true, expires_at: NOW + 60 }));
    let reading = grant(json!({ "room": "chat:7" }), Some("42"), "chat:7");
    assert!(reading.is_ok_and(|grant| !grant.publish));
    assert_eq!(grant(room(), Some("43"), "chat:7"), Err(TokenError::OtherUser));
    assert_eq!(grant(room(), None, "chat:7"), Err(TokenError::OtherUser));
    // A pattern in a token for a room is the name of that room.
    assert!(grant(json!({ "room": "chat:*" }), Some("42"), "chat:7").is_err());
    for (changes, room) in [
        (room(), "chat:8"),
        (room(), "chat:*"),
        (json!({}), "chat:7"),
        (json!({ "room": "chat:7", "publish": "yes" }), "chat:7"),
        (json!({ "room": "chat:7", "namespace": "/admin" }), "chat:7"),
        (json!({ "room": "chat:7", "namespace": 7 }), "chat:7"),
    ] {
        assert_eq!(
            grant(changes.clone(), Some("42"), room).map_err(|error| error.code()),
            Err("token_invalid"),
            "{changes}"
        );
    }
    let expired = grant(json!({ "room": "chat:7", "exp": 1 }), Some("42"), "chat:7");
    assert_eq!(expired.map_err(|error| error.code()), Err("token_expired"));
}

#[test]
fn a_token_for_a_room_is_for_one_namespace() {
    let code = |claim: Value, namespace: &str| {
        let claims = claims(&json!({ "room": "chat:7", "namespace": claim }));
        let granted =
            hmac().expected.room_grant(claims.as_object().expect("an object"), Some("42"), namespace, "chat:7", NOW);
        granted.err().map(|error| error.code())
    };
    assert_eq!(code(Value::Null, "/"), None);
    assert_eq!(code(json!("/"), "/"), None);
    assert_eq!(code(json!("/admin"), "/admin"), None);
    assert_eq!(code(Value::Null, "/admin"), Some("token_invalid"));
    assert_eq!(code(json!("/"), "/admin"), Some("token_invalid"));
}

#[test]
fn a_token_of_a_megabyte_is_refused_before_it_is_read() {
    let long = "A".repeat(1 << 20);
    assert_eq!(verify(&hmac(), &long).err(), Some(TokenError::TooLarge { bytes: 1 << 20, limit: 8 << 10 }));
    for text in ["", ".", "..", "...", "a.b.c", "é.é.é", "\0", "eyJhbGciOiJIUzI1NiJ9..", "eyJhbGciOiJIUzI1NiJ9.e30."]
    {
        assert!(verify(&hmac(), text).is_err(), "{text}");
    }
}

#[test]
fn a_refusal_reaches_the_client_with_its_code() {
    let refusal = serde_json::to_value(ConnectError::from(TokenError::Expired { seconds: 3 })).expect("JSON");
    assert_eq!(refusal, json!({ "message": "token expired 3 s ago", "data": { "code": "token_expired" } }));
    let shown = format!("{:?}", hmac());
    assert!(!shown.contains(SECRET) && shown.contains("sub"), "{shown}");
}
