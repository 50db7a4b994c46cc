//! Keys that an issuer publishes at a URL (JSON Web Key Set, RFC 7517).

use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Header};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::error::{TokenError, TokenKeyError};
use super::keys::Key;

/// Time limit of a fetch. Clients whose tokens name an unknown key wait for it.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Minimum time between two fetches, since clients can name unknown keys arbitrarily often.
const FETCH_INTERVAL_MIN: Duration = Duration::from_secs(10);

/// Age from which the keys are fetched again, to drop keys that the issuer has withdrawn.
const AGE_MAX: Duration = Duration::from_secs(60 * 60);

/// Maximum number of bytes of a set. Sets of large issuers with certificates have about 20 KiB.
const BYTES_MAX: usize = 256 << 10;

/// Maximum number of keys in a set. Issuers publish two or three.
const KEYS_MAX: usize = 100;

const REDIRECTS_MAX: usize = 3;

/// Minimum number of base64 characters of the modulus of an RSA key of 2048 bits.
const RSA_CHARS_MIN: usize = 341;

/// Keys of one URL, with the fetch that replaces them.
pub(super) struct Jwks {
    url: Url,
    pub(super) audience: String,
    client: Client,
    interval_min: Duration,
    /// Locked, because connections of all threads read the keys, and one of them starts a fetch. No
    /// fetch runs while the lock is held.
    state: Mutex<State>,
    /// Changes when a fetch has ended.
    ended: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    keys: Vec<PublishedKey>,
    /// Time of the last successful fetch.
    fetched_at: Option<Instant>,
    /// Start of the last fetch.
    started_at: Option<Instant>,
    is_fetching: bool,
}

impl State {
    /// Begins a fetch, unless one is under way.
    fn begin_fetch(&mut self, now: Instant) -> bool {
        if self.is_fetching {
            return false;
        }
        (self.is_fetching, self.started_at) = (true, Some(now));
        true
    }
}

struct PublishedKey {
    id: Option<String>,
    key: Arc<Key>,
}

/// A fetch that is under way. It ends also if its runtime ends first.
struct Fetching(Arc<Jwks>);

impl Drop for Fetching {
    fn drop(&mut self) {
        self.0.lock().is_fetching = false;
        self.0.ended.send_replace(());
    }
}

impl Jwks {
    pub(super) fn new(url: &str, audience: &str) -> Result<Self, TokenKeyError> {
        Self::with_times(url, audience, FETCH_TIMEOUT, FETCH_INTERVAL_MIN)
    }

    pub(super) fn with_times(
        url: &str,
        audience: &str,
        timeout: Duration,
        interval_min: Duration,
    ) -> Result<Self, TokenKeyError> {
        let parsed = Url::parse(url).map_err(|error| TokenKeyError::Url(error.to_string()))?;
        if !matches!(parsed.scheme(), "https" | "http") {
            return Err(TokenKeyError::Url(format!("scheme {:?}", parsed.scheme())));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(TokenKeyError::Url("a URL with a user or password".into()));
        }
        let client = Client::builder()
            .timeout(timeout)
            .https_only(parsed.scheme() == "https")
            .redirect(Policy::limited(REDIRECTS_MAX))
            // A connection belongs to the runtime of one thread, and fetches run on any.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| TokenKeyError::Url(causes(&error)))?;
        let (ended, _) = watch::channel(());
        Ok(Self { url: parsed, audience: audience.to_owned(), client, interval_min, state: Mutex::default(), ended })
    }

    pub(super) fn url(&self) -> &str {
        self.url.as_str()
    }

    /// The key that has signed a token with this header. Waits for a fetch if the key is unknown
    /// and the last fetch is not recent. After a recent one, the keys count as not available.
    pub(super) async fn key(self: &Arc<Self>, header: &Header) -> Result<Arc<Key>, TokenError> {
        let (found, starts, mut ended) = {
            let (mut state, now) = (self.lock(), Instant::now());
            let found = find(&state.keys, header);
            let is_old = state.fetched_at.is_none_or(|at| now.duration_since(at) >= AGE_MAX);
            let may_fetch = state.started_at.is_none_or(|at| now.duration_since(at) >= self.interval_min);
            let starts = (found.is_none() || is_old) && may_fetch && state.begin_fetch(now);
            (found, starts, state.is_fetching.then(|| self.ended.subscribe()))
        };
        if starts {
            self.spawn_fetch();
        }
        if let Some(key) = found {
            return Ok(key);
        }
        // The issuer may have published the key since the last fetch, whose time a stranger can
        // determine. A client that is refused for good does not come back.
        let Some(ended) = &mut ended else { return Err(TokenError::KeysUnavailable) };
        // The sender lives as long as these keys.
        let _ = ended.changed().await;
        let state = self.lock();
        find(&state.keys, header).ok_or_else(|| unknown(&state))
    }

    /// Fetches the keys, and waits for the end of the fetch.
    pub(super) async fn fetch_now(self: &Arc<Self>) -> Result<(), TokenError> {
        let (starts, mut ended) = (self.lock().begin_fetch(Instant::now()), self.ended.subscribe());
        if starts {
            self.spawn_fetch();
        }
        let _ = ended.changed().await;
        if self.lock().keys.is_empty() { Err(TokenError::KeysUnavailable) } else { Ok(()) }
    }

    /// Starts the fetch that [`State::begin_fetch`] has begun. The state must not be locked: a
    /// runtime that ends drops the fetch immediately.
    fn spawn_fetch(self: &Arc<Self>) {
        let fetching = Fetching(self.clone());
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move { fetching.0.store(fetching.0.fetch().await) })),
            Err(error) => log::error!("token keys not fetched url={} error=\"{error}\"", self.url),
        }
    }

    /// At most one line is logged for each fetch, and fetches are rare.
    fn store(&self, fetched: Result<Vec<PublishedKey>, String>) {
        match fetched {
            Ok(keys) => {
                log::debug!("token keys fetched url={} keys={}", self.url, keys.len());
                let mut state = self.lock();
                (state.keys, state.fetched_at) = (keys, Some(Instant::now()));
            }
            Err(error) => {
                let kept = self.lock().keys.len();
                log::warn!("token keys not fetched url={} error={error:?} keys_kept={kept}", self.url);
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<PublishedKey>, String> {
        let sent = self.client.get(self.url.clone()).send().await;
        let mut response = sent.map_err(|error| causes(&error))?;
        if response.status() != StatusCode::OK {
            return Err(format!("status {}, expected 200", response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| causes(&error))? {
            if body.len() + chunk.len() > BYTES_MAX {
                return Err(format!("response exceeds limit of {BYTES_MAX} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        read_set(&body)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(state: &State) -> TokenError {
    if state.keys.is_empty() { TokenError::KeysUnavailable } else { TokenError::UnknownKey }
}

/// The key with the id in the header. A header without an id fits only if one key has its
/// algorithm, since a search for the right key could be made expensive.
fn find(keys: &[PublishedKey], header: &Header) -> Option<Arc<Key>> {
    let allowed = |known: &&PublishedKey| known.key.allows(header.alg);
    match &header.kid {
        Some(id) => {
            let of_id = || keys.iter().filter(|known| known.id.as_deref() == Some(id));
            of_id().find(allowed).or_else(|| of_id().next()).map(|known| known.key.clone())
        }
        None => {
            let mut fitting = keys.iter().filter(allowed);
            fitting.next().filter(|_| fitting.next().is_none()).map(|known| known.key.clone())
        }
    }
}

/// Reads a set. Keys of other kinds, and keys that do not verify signatures, are left out.
fn read_set(body: &[u8]) -> Result<Vec<PublishedKey>, String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let set: Set = serde_json::from_slice(body).map_err(|error| format!("no JSON Web Key Set: {error}"))?;
    if set.keys.len() > KEYS_MAX {
        return Err(format!("{} keys exceed limit of {KEYS_MAX}", set.keys.len()));
    }
    let keys: Vec<_> = set.keys.into_iter().filter_map(read_key).collect();
    if keys.is_empty() {
        return Err("no key that can be used: expected RSA of 2048 bits or more, P-256, P-384 or Ed25519".into());
    }
    Ok(keys)
}

fn read_key(value: Value) -> Option<PublishedKey> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    if jwk.common.public_key_use.as_ref().is_some_and(|used_for| *used_for != PublicKeyUse::Signature) {
        return None;
    }
    if jwk.common.key_operations.as_ref().is_some_and(|allowed| !allowed.contains(&KeyOperations::Verify)) {
        return None;
    }
    let of_kind = match &jwk.algorithm {
        AlgorithmParameters::RSA(key) if key.n.len() >= RSA_CHARS_MIN => AlgorithmFamily::Rsa.algorithms(),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => &[Algorithm::ES256],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => &[Algorithm::ES384],
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
        _ => return None,
    };
    let named = match jwk.common.key_algorithm {
        Some(named) => Some(Algorithm::from_str(&named.to_string()).ok().filter(|named| of_kind.contains(named))?),
        None => None,
    };
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    let key = Key::new(key, if named.is_some() { named.as_slice() } else { of_kind });
    Some(PublishedKey { id: jwk.common.key_id, key: Arc::new(key) })
}

/// The error with its causes, of which reqwest's own text names none. The URL is logged beside it.
fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
