//! Keys of the HTTP API, and the scopes of each key.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Shortest key, in characters.
const KEY_CHARS_MIN: usize = 16;

/// A kind of requests to the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Publishing, to rooms, users and sockets.
    Publish,
    /// Lists of rooms, sockets and subscribers.
    Read,
    /// The work of a subscriber of the queue: subscribing, pulling and acknowledging.
    Subscribe,
    /// Changes of sockets, removal of subscribers and their events, reload. A key with this scope
    /// has all others as well.
    Admin,
}

impl Scope {
    const ALL: [Self; 4] = [Self::Publish, Self::Read, Self::Subscribe, Self::Admin];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Read => "read",
            Self::Subscribe => "subscribe",
            Self::Admin => "admin",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Scopes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scopes(u8);

impl Scopes {
    /// Scopes of `api_key`.
    pub(crate) const ALL: Self = Self(Scope::Admin.bit());

    pub(crate) const fn contains(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }

    /// Reads names of scopes that are joined by `+`.
    fn read(text: &str) -> Option<Self> {
        let bit = |name| Scope::ALL.into_iter().find(|scope| scope.name() == name).map(Scope::bit);
        text.split('+').try_fold(0, |bits, name| Some(bits | bit(name)?)).map(Self)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Scope::ALL.into_iter().filter(|scope| self.0 & scope.bit() != 0).map(Scope::name);
        f.write_str(&names.collect::<Vec<_>>().join("+"))
    }
}

/// A key of the API. Only the digest of the key is kept, since it has the same length for all keys.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ApiKey {
    scopes: Scopes,
    digest: [u8; 32],
}

impl ApiKey {
    pub(crate) fn new(scopes: Scopes, key: impl AsRef<[u8]>) -> Self {
        Self { scopes, digest: Sha256::digest(key).into() }
    }

    /// Reads a key with its scopes, such as `publish+read:0123456789abcdef`. Keys contain no comma,
    /// since commas separate keys in variables and flags.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (scopes, key) = text.split_once(':')?;
        let is_key = is_api_key(key) && !key.contains(',');
        Some(Self::new(Scopes::read(scopes)?, key)).filter(|_| is_key)
    }
}

/// Checks the form of a key, without its scopes.
pub(crate) fn is_api_key(text: &str) -> bool {
    text.len() >= KEY_CHARS_MIN && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The scopes, and the key masked.
impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:********", self.scopes)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Returns the scopes of the key `guess`, or `None` if there is no such key. Compares with every
/// key, and whole digests, so that the time shows nothing of the keys. A key that is listed more
/// than once has the scopes of all.
pub(super) fn scopes_of(keys: &[ApiKey], guess: &str) -> Option<Scopes> {
    let digest: [u8; 32] = Sha256::digest(guess).into();
    let found = keys.iter().fold(0, |found, key| found | (key.scopes.0 * key.digest.ct_eq(&digest).unwrap_u8()));
    (found != 0).then_some(Scopes(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef";

    #[test]
    fn a_key_has_its_scopes_and_an_admin_key_all() {
        let key = |text: &str| ApiKey::read(text).unwrap();
        let other = "fedcba9876543210";
        let keys = [key(&format!("publish+read:{KEY}")), key(&format!("admin:{other}"))];
        let scopes = scopes_of(&keys, KEY).unwrap();
        assert_eq!(Scope::ALL.map(|scope| scopes.contains(scope)), [true, true, false, false]);
        let scopes = scopes_of(&keys, other).unwrap();
        assert_eq!(Scope::ALL.map(|scope| scopes.contains(scope)), [true; 4]);
        for wrong in ["", "0123456789abcde", "0123456789abcdeF", "0123456789abcdef0", "publish+read:0123456789abcdef"] {
            assert_eq!(scopes_of(&keys, wrong), None, "{wrong:?}");
        }
        assert_eq!(scopes_of(&[], KEY), None);
    }

    #[test]
    fn a_match_does_not_end_the_comparison_with_further_keys() {
        let keys = ["read", "admin", "publish"].map(|scope| ApiKey::read(&format!("{scope}:{KEY}")).unwrap());
        assert_eq!(scopes_of(&keys, KEY).unwrap().to_string(), "publish+read+admin");
    }

    #[test]
    fn keys_are_read_with_their_scopes_and_printed_masked() {
        let key = ApiKey::read("read+publish:0123456789:abcdef").unwrap();
        assert_eq!(
            (key.to_string(), format!("{key:?}")),
            ("publish+read:********".into(), "publish+read:********".into())
        );
        for wrong in [
            "",
            KEY,
            "publish:short",
            ":0123456789abcdef",
            "publish+:0123456789abcdef",
            "write:0123456789abcdef",
            "publish:0123456789 abcdef",
            "publish:0123456789,abcdef",
            "publish,read:0123456789abcdef",
        ] {
            assert_eq!(ApiKey::read(wrong), None, "{wrong:?}");
        }
    }
}
