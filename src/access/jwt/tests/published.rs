//! Tests of keys that an issuer publishes at a URL.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jsonwebtoken::jwk::Jwk;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::jwks::Jwks;
use super::*;

const LONG: Duration = Duration::from_secs(60);

/// An issuer that answers each request with the same bytes. Without bytes it never answers.
#[derive(Clone)]
struct Issuer {
    url: String,
    response: Arc<Mutex<Vec<u8>>>,
    requests: Arc<AtomicUsize>,
}

impl Issuer {
    async fn start(response: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let issuer = Self {
            url: format!("http://{}/keys", listener.local_addr().expect("an address")),
            response: Arc::new(Mutex::new(response.into())),
            requests: Arc::default(),
        };
        let serving = issuer.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        issuer
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.is_ok_and(|bytes| bytes > 0) {}
        self.requests.fetch_add(1, Ordering::Relaxed);
        let response = self.response.lock().expect("a response").clone();
        if response.is_empty() {
            // Waits until the client has closed the connection.
            let _ = stream.read_buf(&mut head).await;
        }
        let _ = stream.write_all(&response).await;
    }

    fn answer(&self, response: impl Into<Vec<u8>>) {
        *self.response.lock().expect("a response") = response.into();
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Verification of tokens of this issuer, with this minimum time between two fetches.
    fn auth(&self, timeout: Duration, interval_min: Duration) -> Auth {
        let jwks = Jwks::with_times(&self.url, "hub", timeout, interval_min).expect("a URL");
        Auth::jwt(TokenKeys(Source::Url(Arc::new(jwks))))
    }
}

/// A key of an issuer.
struct Signer {
    id: &'static str,
    key: EncodingKey,
}

impl Signer {
    fn new(id: &'static str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
        Self { id, key: EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).expect("a private key") }
    }

    fn published(&self) -> Value {
        let mut key = Jwk::from_encoding_key(&self.key, Algorithm::ES256).expect("a public key");
        key.common.key_id = Some(self.id.to_owned());
        serde_json::to_value(key).expect("JSON")
    }

    fn token(&self, id: Option<&str>) -> String {
        let header = Header { kid: id.map(str::to_owned), ..Header::new(Algorithm::ES256) };
        encode(&header, &json!({ "sub": "42", "aud": "hub", "exp": now() + 60 }), &self.key).expect("claims")
    }
}

fn response(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn set(keys: &[Value]) -> String {
    response("200 OK", &json!({ "keys": keys }).to_string())
}

#[tokio::test]
async fn keys_of_a_url_are_fetched_once_for_many_tokens() {
    let signer = Signer::new("one");
    let issuer = Issuer::start(set(&[signer.published()])).await;
    let auth = issuer.auth(LONG, LONG);
    for id in [Some("one"), None] {
        let identity = auth.verify(&signer.token(id)).await.expect("a valid token");
        assert_eq!(identity.user(), Some("42"));
    }
    assert_eq!(issuer.requests(), 1);
    let forged = Signer::new("one").token(Some("one"));
    assert_eq!(auth.verify(&forged).await.err(), Some(TokenError::Signature));
    let symmetric = Header { kid: Some("one".into()), ..Header::new(Algorithm::HS256) };
    let key = EncodingKey::from_secret(SECRET.as_bytes()).expect("a secret");
    let symmetric = encode(&symmetric, &json!({ "sub": "42", "aud": "hub", "exp": now() + 60 }), &key).expect("claims");
    let refusal = auth.verify(&symmetric).await.expect_err("a token of another kind");
    assert_eq!(refusal.to_string(), "token is signed by HS256, expected ES256");
}

#[tokio::test]
async fn tokens_for_other_audiences_of_the_issuer_are_refused() {
    let signer = Signer::new("one");
    let issuer = Issuer::start(set(&[signer.published()])).await;
    let header = Header { kid: Some("one".into()), ..Header::new(Algorithm::ES256) };
    for audience in [json!("shop"), Value::Null] {
        let claims = json!({ "sub": "42", "aud": audience, "exp": now() + 60 });
        let token = encode(&header, &claims, &signer.key).expect("claims");
        let refusal = issuer.auth(LONG, LONG).verify(&token).await.expect_err("another audience");
        assert!(refusal.to_string().starts_with("token claim \"aud\""), "{refusal}");
    }
}

#[tokio::test]
async fn a_flood_of_unknown_keys_causes_one_fetch() {
    let (signer, stranger) = (Signer::new("one"), Signer::new("stranger"));
    let issuer = Issuer::start(set(&[signer.published()])).await;
    let auth = issuer.auth(LONG, LONG);
    let unknown = stranger.token(Some("stranger"));
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let (auth, unknown) = (auth.clone(), unknown.clone());
            tokio::spawn(async move { auth.verify(&unknown).await.err() })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.expect("no panic"), Some(TokenError::UnknownKey));
    }
    for id in ["a", "b", "c"] {
        assert_eq!(auth.verify(&stranger.token(Some(id))).await.err(), Some(TokenError::KeysUnavailable));
    }
    assert!(auth.verify(&signer.token(Some("one"))).await.is_ok());
    assert_eq!(issuer.requests(), 1);
}

#[tokio::test]
async fn a_new_key_is_fetched_when_a_token_names_it() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let issuer = Issuer::start(set(&[old.published()])).await;
    let auth = issuer.auth(LONG, Duration::ZERO);
    assert!(auth.verify(&old.token(Some("old"))).await.is_ok());
    issuer.answer(set(&[old.published(), new.published()]));
    assert!(auth.verify(&new.token(Some("new"))).await.is_ok());
    assert_eq!(issuer.requests(), 2);
    // With two keys, a token must name its key.
    assert_eq!(auth.verify(&new.token(None)).await.err(), Some(TokenError::UnknownKey));
    issuer.answer(set(&[new.published()]));
    auth.fetch_keys().await.expect("keys");
    assert_eq!(auth.verify(&old.token(Some("old"))).await.err(), Some(TokenError::UnknownKey));
}

#[tokio::test]
async fn an_answer_without_usable_keys_leaves_the_earlier_keys() {
    let (signer, stranger) = (Signer::new("one"), Signer::new("stranger"));
    let mut of_encryption = stranger.published();
    of_encryption["use"] = json!("enc");
    let mut of_another_algorithm = stranger.published();
    of_another_algorithm["alg"] = json!("RS256");
    let many = vec![stranger.published(); 101];
    let answers = [
        response("500 Internal Server Error", "{}"),
        response("200 OK", "<!doctype html><title>Log in</title>"),
        response("200 OK", &" ".repeat(10 << 20)),
        response("200 OK", r#"{"keys":7}"#),
        set(&[]),
        set(&[json!({ "kty": "oct", "k": "c2VjcmV0", "kid": "stranger" }), json!(7)]),
        set(&[of_encryption, of_another_algorithm]),
        set(&many),
        "not HTTP".to_owned(),
    ];
    for answer in answers {
        let start = answer.chars().take(60).collect::<String>();
        let issuer = Issuer::start(answer.clone()).await;
        let auth = issuer.auth(LONG, Duration::ZERO);
        let (known, unknown) = (signer.token(Some("one")), stranger.token(Some("stranger")));
        assert_eq!(auth.verify(&known).await.err(), Some(TokenError::KeysUnavailable), "{start}");
        assert_eq!(TokenError::KeysUnavailable.code(), "unavailable");
        issuer.answer(set(&[signer.published()]));
        assert!(auth.verify(&known).await.is_ok(), "{start}");
        issuer.answer(answer);
        assert_eq!(auth.verify(&unknown).await.err(), Some(TokenError::UnknownKey), "{start}");
        assert!(auth.verify(&known).await.is_ok(), "{start}");
        assert_eq!(issuer.requests(), 3, "{start}");
    }
}

#[tokio::test]
async fn an_issuer_that_never_answers_delays_only_unknown_keys() {
    let (signer, stranger) = (Signer::new("one"), Signer::new("stranger"));
    let issuer = Issuer::start(set(&[signer.published()])).await;
    let auth = issuer.auth(Duration::from_millis(50), Duration::ZERO);
    assert!(auth.verify(&signer.token(Some("one"))).await.is_ok());
    issuer.answer([]);
    let (waiting, unknown) = (auth.clone(), stranger.token(Some("stranger")));
    let waiting = tokio::spawn(async move { waiting.verify(&unknown).await.err() });
    tokio::task::yield_now().await;
    assert!(verify(&auth, &signer.token(Some("one"))).is_ok());
    assert_eq!(waiting.await.expect("no panic"), Some(TokenError::UnknownKey));
    // Nobody listens on this port.
    let nobody = TokenKeys::jwks("http://127.0.0.1:9/keys", "hub").expect("a URL");
    let refusal = Auth::jwt(nobody).verify(&signer.token(Some("one"))).await;
    assert_eq!(refusal.err(), Some(TokenError::KeysUnavailable));
}
