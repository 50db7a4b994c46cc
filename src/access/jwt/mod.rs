//! Signed tokens (JWT) that state who a client is and what it may do.

mod claims;
mod error;
mod jwks;
mod keys;
#[cfg(test)]
mod tests;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::decode_header;
use serde::Deserialize;
use serde_json::Value;

pub use self::claims::RoomGrant;
use self::claims::{Claims, Expected};
pub use self::error::{TokenError, TokenKeyError};
pub use self::keys::TokenKeys;
use self::keys::{Key, Source};
use super::identity::Identity;
use crate::api::core::Socket;
use crate::api::error::ConnectError;

/// Default of [`Auth::token_bytes_max`]. A header of HTTP has about as much room.
const TOKEN_BYTES_MAX: usize = 8 << 10;

/// Default of [`Auth::leeway`], in seconds. Clocks that a time service sets differ by less.
const LEEWAY_SECONDS: u64 = 10;

/// Verification of signed tokens (JWT), by which clients connect.
///
/// A client sends its token as `auth: { token }`, or in the header `Authorization: Bearer …` of its
/// first request. Tokens in the URL are ignored, since URLs are logged. Claims of a token:
///
/// | claim | content |
/// |---|---|
/// | `sub` | id of the user; [`Auth::user_claim`] names another claim |
/// | `exp` | time of expiry in seconds since 1970, required |
/// | `nbf` | time from which the token is valid |
/// | `iss`, `aud` | issuer and audience, compared if they are set here |
/// | `info` | any JSON about the user |
/// | `stentor` | permissions: `{"join": ["chat:*"], "publish": […], "members": […], "rooms": ["lobby"], "namespaces": ["/"]}`, all optional; [`Auth::claims`] names another claim |
///
/// ```
/// use stentor::{Auth, Event, Identity, TokenKeys};
///
/// # fn register(io: &stentor::Server) -> Result<(), Box<dyn std::error::Error>> {
/// let secret = "a secret of 32 bytes or more, which the issuer has too";
/// let auth = Auth::jwt(TokenKeys::hmac(secret)?).issuer("https://example.org");
/// io.of("/")
///     .with(auth.middleware())
///     .on_connection(|socket| async move {
///         Identity::of(&socket).join_rooms(&socket).await?;
///         Ok(())
///     })
///     .on("whoami", |socket, event: Event<()>| async move {
///         event.ack.send(Identity::of(&socket).user())?;
///         Ok(())
///     });
/// # Ok(()) }
/// ```
///
/// A token is verified in a few microseconds without waiting, except for a key of a URL that is not
/// known yet. Clones share their keys.
#[derive(Clone)]
pub struct Auth {
    keys: TokenKeys,
    expected: Arc<Expected>,
    token_bytes_max: usize,
    anonymous: bool,
}

/// The part of a client's `auth` that is read here.
#[derive(Deserialize)]
struct TokenAuth {
    #[serde(default)]
    token: Value,
}

impl Auth {
    /// Verification by these keys. Tokens need the claims `sub` and `exp`.
    pub fn jwt(keys: TokenKeys) -> Self {
        let audiences = match &keys.0 {
            Source::Known(_) => Vec::new(),
            Source::Url(jwks) => vec![jwks.audience.clone()],
        };
        let expected = Expected {
            issuer: None,
            audiences,
            user_claim: "sub".into(),
            claims: "stentor".into(),
            leeway: LEEWAY_SECONDS,
        };
        Self { keys, expected: Arc::new(expected), token_bytes_max: TOKEN_BYTES_MAX, anonymous: false }
    }

    fn expecting(mut self, change: impl FnOnce(&mut Expected)) -> Self {
        change(Arc::make_mut(&mut self.expected));
        self
    }

    /// Requires that the claim `iss` is this issuer.
    #[must_use]
    pub fn issuer(self, issuer: impl Into<String>) -> Self {
        self.expecting(|expected| expected.issuer = Some(issuer.into()))
    }

    /// Requires that the claim `aud` contains this audience; of several audiences, one. Without
    /// an audience, a token that has the claim is refused, since it is meant for another server.
    #[must_use]
    pub fn audience(self, audience: impl Into<String>) -> Self {
        self.expecting(|expected| expected.audiences.push(audience.into()))
    }

    /// Sets the claim with the id of the user; `sub` by default. A dot leads into an object, unless
    /// a claim has the whole name.
    #[must_use]
    pub fn user_claim(self, claim: impl Into<String>) -> Self {
        self.expecting(|expected| expected.user_claim = claim.into())
    }

    /// Sets the claim with the permissions; `stentor` by default. Some issuers require a URL, such
    /// as `https://example.org/stentor`. A dot leads into an object, unless a claim has the whole
    /// name.
    #[must_use]
    pub fn claims(self, claim: impl Into<String>) -> Self {
        self.expecting(|expected| expected.claims = claim.into())
    }

    /// Sets by how much the clock of the issuer may differ; 10 seconds by default, rounded down to
    /// whole seconds.
    #[must_use]
    pub fn leeway(self, leeway: Duration) -> Self {
        self.expecting(|expected| expected.leeway = leeway.as_secs())
    }

    /// Sets the maximum length of a token in bytes; 8 KiB by default.
    #[must_use]
    pub fn token_bytes_max(mut self, bytes: usize) -> Self {
        self.token_bytes_max = bytes;
        self
    }

    /// Permits clients without a token. Their identity has neither a user nor permissions. A client
    /// with a token that is refused is refused also then.
    #[must_use]
    pub fn anonymous(mut self, permitted: bool) -> Self {
        self.anonymous = permitted;
        self
    }

    /// Connection middleware for [`Namespace::with`](crate::Namespace::with): verifies the token of
    /// a socket and stores its [`Identity`], or refuses the socket with a [`TokenError`].
    pub fn middleware(
        &self,
    ) -> impl Fn(Socket) -> Pin<Box<dyn Future<Output = Result<(), ConnectError>>>> + Send + Sync + 'static {
        let auth = self.clone();
        move |socket| {
            let auth = auth.clone();
            Box::pin(async move {
                socket.extensions().insert(auth.identify(&socket).await?);
                Ok(())
            })
        }
    }

    /// The identity of a socket by the token that it has sent, for connection middleware of the
    /// application's own.
    ///
    /// # Errors
    ///
    /// Fails if the socket has no valid token, or one that does not allow its namespace.
    pub async fn identify(&self, socket: &Socket) -> Result<Identity, TokenError> {
        let identity = match token_of(socket)? {
            Some(token) => self.verify(&token).await?,
            None if self.anonymous => Identity::default(),
            None => return Err(TokenError::Missing),
        };
        if !identity.may_connect_to(socket.namespace().path()) {
            return Err(TokenError::Namespace);
        }
        Ok(identity)
    }

    /// Verifies a token for a connection.
    ///
    /// # Errors
    ///
    /// Fails with the reason for which the token is refused.
    pub async fn verify(&self, token: &str) -> Result<Identity, TokenError> {
        let claims = self.signed_claims(token).await?;
        self.expected.identity(&claims, now())
    }

    /// Verifies a new token of a connected socket and replaces its identity, so that it stays valid
    /// until the new token expires.
    ///
    /// # Errors
    ///
    /// Fails if the token is refused, is that of another user, or does not allow the namespace. The
    /// socket then keeps its identity.
    pub async fn renew(&self, socket: &Socket, token: &str) -> Result<Identity, TokenError> {
        let identity = self.verify(token).await?;
        if identity.user() != Identity::of(socket).user() {
            return Err(TokenError::OtherUser);
        }
        if !identity.may_connect_to(socket.namespace().path()) {
            return Err(TokenError::Namespace);
        }
        socket.extensions().insert(identity.clone());
        Ok(identity)
    }

    /// Verifies a token for one join: claims `sub` (the user), `room`, `exp`, `namespace` if the
    /// room is in another one than `/`, and `publish` if the client may also publish to the room.
    ///
    /// # Errors
    ///
    /// Fails if the token is refused, or is not that of this user, namespace and room.
    pub async fn verify_room_token(
        &self,
        token: &str,
        identity: &Identity,
        namespace: &str,
        room: &str,
    ) -> Result<RoomGrant, TokenError> {
        let claims = self.signed_claims(token).await?;
        self.expected.room_grant(&claims, identity.user(), namespace, room, now())
    }

    /// Fetches the keys of a URL now, instead of when the first client connects. Does nothing for
    /// other keys.
    ///
    /// # Errors
    ///
    /// Fails with [`TokenError::KeysUnavailable`] if there are no keys. The log has the cause.
    pub async fn fetch_keys(&self) -> Result<(), TokenError> {
        match &self.keys.0 {
            Source::Known(_) => Ok(()),
            Source::Url(jwks) => jwks.fetch_now().await,
        }
    }

    /// The claims of a token with a valid signature.
    async fn signed_claims(&self, token: &str) -> Result<Claims, TokenError> {
        if token.len() > self.token_bytes_max {
            return Err(TokenError::TooLarge { bytes: token.len(), limit: self.token_bytes_max });
        }
        match &self.keys.0 {
            Source::Known(keys) => claims_by_any(keys, token),
            Source::Url(jwks) => {
                let header = decode_header(token).map_err(|_| {
                    TokenError::Malformed("its header is not that of a JWT, or its algorithm is unknown")
                })?;
                jwks.key(&header).await?.claims(token)
            }
        }
    }
}

/// The claims of a token that one of the keys has signed.
fn claims_by_any(keys: &[Key], token: &str) -> Result<Claims, TokenError> {
    let mut refusal = TokenError::Signature;
    for key in keys {
        match key.claims(token) {
            Err(TokenError::Signature) => {}
            Err(error) => refusal = error,
            claims => return claims,
        }
    }
    Err(refusal)
}

/// The token that the client of a socket has sent.
fn token_of(socket: &Socket) -> Result<Option<String>, TokenError> {
    // An `auth` that is no object has no token.
    let token = socket.auth::<TokenAuth>().map_or(Value::Null, |auth| auth.token);
    match token {
        Value::String(token) if !token.is_empty() => return Ok(Some(token)),
        // Pages send an empty token before the login.
        Value::Null | Value::String(_) => {}
        _ => return Err(TokenError::Malformed("auth.token is not a string")),
    }
    let header = socket.handshake().header("authorization").and_then(|header| header.split_once(' '));
    let bearer = header.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    Ok(bearer.map(|(_, token)| token.trim().to_owned()).filter(|token| !token.is_empty()))
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("keys", &self.keys).field("expected", &self.expected).finish_non_exhaustive()
    }
}
