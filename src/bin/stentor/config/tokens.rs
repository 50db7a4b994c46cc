//! Settings of the tokens by which clients connect.

use std::fs;
use std::io::{self, Read};
use std::time::Duration;

use stentor::{Auth, TokenKeyError, TokenKeys};
use thiserror::Error;

use super::super::secret::Secret;

/// Maximum number of bytes of a file with a public key. A key of 8192 bits has about 1500.
const KEY_FILE_BYTES_MAX: u64 = 64 << 10;

/// Values of the settings that start with `token_`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenSettings {
    pub(crate) hmac_key: Option<Secret>,
    pub(super) hmac_key_previous: Option<Secret>,
    pub(super) public_key_file: Option<String>,
    pub(super) jwks_url: Option<String>,
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Option<String>,
    pub(crate) user_claim: String,
    pub(crate) claims: String,
    pub(super) leeway: Duration,
}

impl Default for TokenSettings {
    fn default() -> Self {
        Self {
            hmac_key: None,
            hmac_key_previous: None,
            public_key_file: None,
            jwks_url: None,
            issuer: None,
            audience: None,
            user_claim: "sub".into(),
            claims: "stentor".into(),
            leeway: Duration::from_secs(10),
        }
    }
}

/// The key of tokens cannot be used.
#[derive(Debug, Error)]
pub(crate) enum TokenSettingError {
    #[error("token_public_key_file = {path:?}: the file cannot be read: {error}")]
    File { path: String, error: io::Error },
    #[error("{setting}: {error}")]
    Key { setting: &'static str, error: TokenKeyError },
}

impl TokenSettings {
    /// Returns true if there is a key, so that clients connect with tokens.
    pub(crate) fn is_set(&self) -> bool {
        self.hmac_key.is_some() || self.public_key_file.is_some() || self.jwks_url.is_some()
    }

    /// Returns true if the keys are those of a URL.
    pub(crate) fn has_url(&self) -> bool {
        self.jwks_url.is_some()
    }

    /// Verification of tokens by the configured key. `None` if there is no key.
    pub(crate) fn auth(&self) -> Result<Option<Auth>, TokenSettingError> {
        let Some(keys) = self.keys()? else { return Ok(None) };
        let mut auth = Auth::jwt(keys).user_claim(&self.user_claim).claims(&self.claims).leeway(self.leeway);
        if let Some(issuer) = &self.issuer {
            auth = auth.issuer(issuer);
        }
        // The keys of a URL have the audience already.
        if let Some(audience) = self.audience.as_ref().filter(|_| self.jwks_url.is_none()) {
            auth = auth.audience(audience);
        }
        Ok(Some(auth))
    }

    fn keys(&self) -> Result<Option<TokenKeys>, TokenSettingError> {
        let (setting, keys) = match self {
            Self { hmac_key: Some(key), hmac_key_previous: Some(previous), .. } => {
                ("token_hmac_key", TokenKeys::hmac_with_previous(key, previous))
            }
            Self { hmac_key: Some(key), .. } => ("token_hmac_key", TokenKeys::hmac(key)),
            Self { public_key_file: Some(path), .. } => {
                let pem = read(path).map_err(|error| TokenSettingError::File { path: path.clone(), error })?;
                ("token_public_key_file", TokenKeys::public_pem(pem))
            }
            Self { jwks_url: Some(url), .. } => {
                ("token_jwks_url", TokenKeys::jwks(url, self.audience.as_deref().unwrap_or_default()))
            }
            _ => return Ok(None),
        };
        keys.map(Some).map_err(|error| TokenSettingError::Key { setting, error })
    }

    /// Returns the name of a setting that contradicts the others, and what is expected of it.
    pub(super) fn contradictions(&self) -> Vec<(&'static str, String)> {
        let (has_hmac, has_file, has_url) =
            (self.hmac_key.is_some(), self.public_key_file.is_some(), self.jwks_url.is_some());
        let alone = "one of token_hmac_key, token_public_key_file and token_jwks_url, since each kind of key has its own algorithms";
        let needs_key = "token_hmac_key, token_public_key_file or token_jwks_url as well";
        let checks = [
            (has_file && has_hmac, "token_public_key_file", alone),
            (has_url && (has_hmac || has_file), "token_jwks_url", alone),
            (
                has_url && self.audience.is_none(),
                "token_jwks_url",
                "token_audience as well, since the issuer signs tokens for others too",
            ),
            (self.hmac_key_previous.is_some() && !has_hmac, "token_hmac_key_previous", "token_hmac_key as well"),
            (self.issuer.is_some() && !self.is_set(), "token_issuer", needs_key),
            (self.audience.is_some() && !self.is_set(), "token_audience", needs_key),
        ];
        let wrong = checks.into_iter().filter(|(is_wrong, ..)| *is_wrong);
        wrong.map(|(_, name, expected)| (name, expected.to_owned())).collect()
    }
}

/// Reads a file up to a bound.
fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    fs::File::open(path)?.take(KEY_FILE_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}
