//! A secret of the configuration. It is compared in constant time and never printed.

use std::fmt;

/// Text that is masked in logs.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Compares the texts in a time that depends only on their lengths.
    pub(crate) fn matches(&self, guess: &str) -> bool {
        subtle::ConstantTimeEq::ct_eq(self.0.as_bytes(), guess.as_bytes()).into()
    }
}

/// The bytes of the text, as a key for signatures.
impl AsRef<[u8]> for Secret {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("********")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_compared_and_not_printed() {
        let secret = Secret::new("0123456789abcdef");
        assert!(secret.matches("0123456789abcdef"));
        for guess in ["", "0123456789abcde", "0123456789abcdeF", "0123456789abcdef0"] {
            assert!(!secret.matches(guess), "{guess:?}");
        }
        assert_eq!(format!("{secret:?}"), "********");
    }
}
