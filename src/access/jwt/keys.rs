//! The keys that verify tokens. The kind of a key determines its algorithms.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Validation};
use serde_json::{Map, Value};

use super::error::{HMAC_BYTES_MIN, TokenError, TokenKeyError};
use super::jwks::Jwks;

/// Bytes of a point on P-256 and on P-384, uncompressed.
const P256_POINT_BYTES: usize = 65;
const P384_POINT_BYTES: usize = 97;

/// Bytes of the modulus of a key of 2048 bits, the smallest that is used.
const RSA_BYTES_MIN: usize = 256;

/// One key with the algorithms for which it may be used.
#[derive(Clone)]
pub(super) struct Key {
    key: DecodingKey,
    /// Verification of the signature only. The claims are checked in `claims`.
    validation: Validation,
}

impl Key {
    pub(super) fn new(key: DecodingKey, algorithms: &[Algorithm]) -> Self {
        let validation = Validation {
            algorithms: algorithms.to_vec(),
            required_spec_claims: HashSet::new(),
            validate_exp: false,
            validate_aud: false,
            ..Validation::default()
        };
        Self { key, validation }
    }

    pub(super) fn allows(&self, algorithm: Algorithm) -> bool {
        self.validation.algorithms.contains(&algorithm)
    }

    /// Verifies the signature, and returns the claims.
    pub(super) fn claims(&self, token: &str) -> Result<Map<String, Value>, TokenError> {
        match jsonwebtoken::decode(token, &self.key, &self.validation) {
            Ok(data) => Ok(data.claims),
            Err(error) => Err(match error.kind() {
                ErrorKind::InvalidAlgorithm => self.wrong_algorithm(token),
                ErrorKind::InvalidSignature => TokenError::Signature,
                ErrorKind::Base64(_) => TokenError::Malformed("it is not base64url without padding"),
                ErrorKind::Json(_) | ErrorKind::Utf8(_) => {
                    TokenError::Malformed("its header or claims are no JSON object, or its algorithm is unknown")
                }
                _ => TokenError::Malformed("it is not a signed JWT, three parts with dots between them"),
            }),
        }
    }

    fn wrong_algorithm(&self, token: &str) -> TokenError {
        let found = jsonwebtoken::decode_header(token).map_or_else(|_| "?".into(), |header| name(header.alg));
        let expected: Vec<_> = self.validation.algorithms.iter().copied().map(name).collect();
        TokenError::Algorithm { found, expected: expected.join(" or ") }
    }
}

fn name(algorithm: Algorithm) -> String {
    format!("{algorithm:?}")
}

/// The keys that verify tokens. A token is accepted only with an algorithm of the kind of its key:
/// an HMAC secret never verifies a token for a public key, nor the reverse, and `none` is refused.
#[derive(Clone)]
pub struct TokenKeys(pub(super) Source);

/// Source of the keys.
#[derive(Clone)]
pub(super) enum Source {
    /// Keys that are tried in this order.
    Known(Vec<Key>),
    Url(Arc<Jwks>),
}

impl TokenKeys {
    /// A secret that this server and the issuer of tokens share, for HS256, HS384 and HS512. Its
    /// bytes are the key: neither hexadecimal digits nor base64 are decoded.
    ///
    /// # Errors
    ///
    /// Fails if the secret is shorter than 32 bytes.
    pub fn hmac(secret: impl AsRef<[u8]>) -> Result<Self, TokenKeyError> {
        Ok(Self(Source::Known(vec![hmac(secret.as_ref())?])))
    }

    /// Secrets of which the first signs new tokens, and the second has signed tokens that are still
    /// valid. To change a secret, give the issuer the new one while the server knows both.
    ///
    /// # Errors
    ///
    /// Fails if one of the secrets is shorter than 32 bytes.
    pub fn hmac_with_previous(secret: impl AsRef<[u8]>, previous: impl AsRef<[u8]>) -> Result<Self, TokenKeyError> {
        Ok(Self(Source::Known(vec![hmac(secret.as_ref())?, hmac(previous.as_ref())?])))
    }

    /// A public key in PEM: RSA for RS256 to RS512 and PS256 to PS512, EC P-256 for ES256, EC P-384
    /// for ES384, Ed25519 for EdDSA.
    ///
    /// # Errors
    ///
    /// Fails if the text is not such a key, for instance since it is a private key.
    pub fn public_pem(pem: impl AsRef<[u8]>) -> Result<Self, TokenKeyError> {
        Ok(Self(Source::Known(vec![public(pem.as_ref())?])))
    }

    /// Keys that an issuer publishes at a URL as a JSON Web Key Set, as Auth0, Keycloak and other
    /// identity providers do. Such an issuer signs tokens for other services too: only tokens with
    /// this `audience` are accepted, in addition to those of
    /// [`Auth::audience`](super::Auth::audience).
    ///
    /// The keys are fetched when the first token is verified, once an hour, and when a token names
    /// an unknown key, at most every 10 seconds. If a fetch fails, the earlier keys are kept.
    /// Symmetric keys in the set are ignored. Fetches run on the tokio runtime that verifies
    /// tokens.
    ///
    /// # Errors
    ///
    /// Fails if the URL is not one of `https` or `http`, or if the audience is empty.
    pub fn jwks(url: &str, audience: &str) -> Result<Self, TokenKeyError> {
        if audience.is_empty() {
            return Err(TokenKeyError::NoAudience);
        }
        Ok(Self(Source::Url(Arc::new(Jwks::new(url, audience)?))))
    }
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Known(keys) => write!(f, "TokenKeys({} keys)", keys.len()),
            Source::Url(jwks) => write!(f, "TokenKeys({})", jwks.url()),
        }
    }
}

fn hmac(secret: &[u8]) -> Result<Key, TokenKeyError> {
    let too_short = TokenKeyError::SecretTooShort { bytes: secret.len() };
    if secret.len() < HMAC_BYTES_MIN {
        return Err(too_short);
    }
    let key = DecodingKey::from_secret(secret).map_err(|_| too_short)?;
    Ok(Key::new(key, AlgorithmFamily::Hmac.algorithms()))
}

fn public(pem: &[u8]) -> Result<Key, TokenKeyError> {
    let text = String::from_utf8_lossy(pem);
    if text.contains("PRIVATE KEY-----") {
        return Err(TokenKeyError::Pem("this is a private key, which only the issuer may have"));
    }
    if text.contains("CERTIFICATE-----") {
        return Err(TokenKeyError::Pem("this is a certificate (`openssl x509 -pubkey -noout` prints its key)"));
    }
    if let Ok(key) = DecodingKey::from_ec_pem(pem) {
        let algorithm = match key.try_get_as_bytes().map_or(0, <[u8]>::len) {
            P256_POINT_BYTES => Algorithm::ES256,
            P384_POINT_BYTES => Algorithm::ES384,
            _ => return Err(TokenKeyError::Pem("this EC key has another curve")),
        };
        return Ok(Key::new(key, &[algorithm]));
    }
    if let Ok(key) = DecodingKey::from_ed_pem(pem) {
        return Ok(Key::new(key, &[Algorithm::EdDSA]));
    }
    let key = DecodingKey::from_rsa_pem(pem).map_err(|_| TokenKeyError::Pem("the text is not a key"))?;
    if key.try_get_as_bytes().map_or(0, <[u8]>::len) < RSA_BYTES_MIN {
        return Err(TokenKeyError::Pem("this RSA key is too small"));
    }
    Ok(Key::new(key, AlgorithmFamily::Rsa.algorithms()))
}
