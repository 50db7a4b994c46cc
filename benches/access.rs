//! The cost of access control: the check of a room by the permissions of a client, and of a token.

use criterion::{BenchmarkId, Criterion};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use stentor::{AccessRules, Auth, DefaultAccess, Identity, RoomAccess, RoomPattern, TokenError, TokenKeys};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A user who may publish to the rooms of `count` patterns, of which the last fits `chat:7`.
fn user(count: usize) -> Identity {
    let mut user = Identity::of_user("42").expect("a user");
    let others = (1..count).map(|number| format!("team-{number}:*"));
    let patterns = others.chain(["chat:*".to_owned()]).map(RoomPattern::new);
    user.permissions.publish = patterns.collect::<Result<_, _>>().expect("patterns");
    user
}

fn rules(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("access");
    let mut rules = AccessRules::default();
    rules.publish_default = DefaultAccess::Member;
    for count in [1, 8, 64] {
        let user = user(count);
        for (room, expected) in
            [("chat:7", RoomAccess::Allowed), ("news", RoomAccess::IfMember), ("user:43", RoomAccess::IfMember)]
        {
            assert_eq!(rules.may_publish(&user, room), expected);
            group.bench_function(BenchmarkId::new(format!("publish to {room}, patterns"), count), |bencher| {
                bencher.iter(|| rules.may_publish(black_box(&user), black_box(room)))
            });
        }
    }
}

/// A token with the claims of a usual client.
fn token(algorithm: Algorithm, key: &EncodingKey) -> String {
    let expiry = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs() + 86_400;
    let claims = serde_json::json!({
        "sub": "42", "exp": expiry, "iat": expiry - 90_000, "jti": "5f1c4c0e-8a36-4b0f-9d7a-2f6d1f0c8f0e", "info": { "name": "Ada" },
        "stentor": { "rooms": ["lobby"], "join": ["chat:*"], "publish": ["chat:*"], "members": ["chat:*"] },
    });
    encode(&Header::new(algorithm), &claims, key).expect("claims")
}

/// Verifies a token by a known key, which does not wait.
fn verify(auth: &Auth, token: &str) -> Result<Identity, TokenError> {
    match pin!(auth.verify(token)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(verified) => verified,
        Poll::Pending => unreachable!("a known key is not waited for"),
    }
}

fn tokens(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("access");
    let secret = "0123456789abcdef0123456789abcdef";
    let hmac = Auth::jwt(TokenKeys::hmac(secret).expect("a secret"));
    let of_hmac = token(Algorithm::HS256, &EncodingKey::from_secret(secret.as_bytes()).expect("a secret"));
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let p256 = Auth::jwt(TokenKeys::public_pem(pair.public_key_pem()).expect("a public key"));
    let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).expect("a private key");
    let of_p256 = token(Algorithm::ES256, &key);
    for (name, auth, token) in [("HS256", hmac, of_hmac), ("ES256", p256, of_p256)] {
        verify(&auth, &token).expect("a valid token");
        group.bench_function(BenchmarkId::new("verify a token", name), |bencher| {
            bencher.iter(|| verify(&auth, black_box(&token)))
        });
    }
}

fn main() {
    let mut criterion = Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    rules(&mut criterion);
    tokens(&mut criterion);
    criterion.final_summary();
}
