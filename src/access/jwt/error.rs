//! Reasons why a token is refused, and why a key cannot be used.

use serde_json::json;
use thiserror::Error;

use crate::access::identity::IdentityError;
use crate::api::error::ConnectError;

/// A token is refused. The text is for the client, and contains nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The client has sent no token, and anonymous clients are refused.
    #[error("token is missing: send it as auth.token, or in the header \"Authorization: Bearer\"")]
    Missing,
    /// The token, or what the client has sent as one, is not a signed token. The text is the cause.
    #[error("token is not valid: {0}")]
    Malformed(&'static str),
    /// The token is too long.
    #[error("token of {bytes} bytes exceeds limit of {limit}")]
    TooLarge {
        /// Length of the token in bytes.
        bytes: usize,
        /// Maximum number of bytes.
        limit: usize,
    },
    /// The token names an algorithm that does not belong to the key.
    #[error("token is signed by {found}, expected {expected}")]
    Algorithm {
        /// Algorithm in the header of the token.
        found: String,
        /// Algorithms of the key.
        expected: String,
    },
    /// The signature is not that of the key.
    #[error("token has the signature of another key")]
    Signature,
    /// The issuer publishes no key with the id in the header of the token.
    #[error("token is signed by a key that the issuer does not publish")]
    UnknownKey,
    /// The keys of the issuer could not be fetched. Retry later.
    #[error("token cannot be verified now: the keys of its issuer are not available")]
    KeysUnavailable,
    /// The token has expired. The client needs a new one.
    #[error("token expired {seconds} s ago")]
    Expired {
        /// Time since the expiry, in seconds.
        seconds: u64,
    },
    /// The token is not valid yet. A clock may be wrong.
    #[error("token is not valid before {seconds} s from now")]
    NotYetValid {
        /// Time until the token is valid, in seconds.
        seconds: u64,
    },
    /// A claim of the token is missing or not as expected.
    #[error("token claim {claim:?}: {problem}")]
    Claim {
        /// Name of the claim.
        claim: String,
        /// Cause of the refusal, and the expectation.
        problem: String,
    },
    /// The token is that of another user.
    #[error("token is that of another user")]
    OtherUser,
    /// The token does not allow this namespace.
    #[error("token does not allow this namespace")]
    Namespace,
}

impl TokenError {
    /// Code of the refusal for clients: `token_missing`, `token_expired`, `token_not_yet_valid`,
    /// `forbidden` for a namespace that the token does not allow, `unavailable` if the client may
    /// retry with the same token, and otherwise `token_invalid`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "token_missing",
            Self::Expired { .. } => "token_expired",
            Self::NotYetValid { .. } => "token_not_yet_valid",
            Self::Namespace => "forbidden",
            Self::KeysUnavailable => "unavailable",
            _ => "token_invalid",
        }
    }

    pub(super) fn claim(claim: &str, problem: impl Into<String>) -> Self {
        Self::Claim { claim: claim.to_owned(), problem: problem.into() }
    }

    pub(super) fn identity(claim: &str, error: &IdentityError) -> Self {
        Self::claim(claim, error.to_string())
    }
}

/// The client receives the text as message, and the code as `data.code`. If the keys are not
/// available, its connection is closed instead, since it then tries again by itself.
impl From<TokenError> for ConnectError {
    fn from(error: TokenError) -> Self {
        let refusal = Self::new(error.to_string()).with_data(json!({ "code": error.code() }));
        if error == TokenError::KeysUnavailable { refusal.temporary() } else { refusal }
    }
}

/// A key cannot be used to verify tokens.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenKeyError {
    /// The secret is too short for HMAC with SHA-256.
    #[error("secret of {bytes} bytes, expected {HMAC_BYTES_MIN} or more, for instance from `openssl rand -hex 32`")]
    SecretTooShort {
        /// Length of the secret in bytes.
        bytes: usize,
    },
    /// The text is not a public key that can be used. The text is the cause.
    #[error(
        "{0}, expected a public key in PEM (\"-----BEGIN PUBLIC KEY-----\"): RSA of 2048 bits or more, EC P-256 or P-384, or Ed25519"
    )]
    Pem(&'static str),
    /// The URL cannot be used. The text is the cause.
    #[error("{0}, expected a URL such as \"https://example.org/.well-known/jwks.json\"")]
    Url(String),
    /// Tokens of a URL with keys need an audience, since the issuer signs tokens for others too.
    #[error("audience is empty: keys of a URL need the audience of this server")]
    NoAudience,
}

/// Minimum length of a secret in bytes: the output of SHA-256 (RFC 7518, section 3.2).
pub(super) const HMAC_BYTES_MIN: usize = 32;
