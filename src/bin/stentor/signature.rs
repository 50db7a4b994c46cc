//! Signatures of subscriber names: HMAC-SHA256 of `<namespace>\n<name>` as base64url without
//! padding. A name has no control characters, so no other pair has the same text.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::secret::Secret;

/// Returns the signature of a name, 43 characters.
pub(crate) fn sign(key: &Secret, namespace: &str, name: &str) -> String {
    // A key may have any length, so the error does not occur.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.as_ref()) else { return String::new() };
    for part in [namespace, "\n", name] {
        mac.update(part.as_bytes());
    }
    URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

/// True if the signature is that of the name. Takes a time that does not depend on the correct one.
pub(crate) fn verify(key: &Secret, namespace: &str, name: &str, signature: &str) -> bool {
    let expected = sign(key, namespace, name);
    !expected.is_empty() && expected.as_bytes().ct_eq(signature.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_other_implementations() {
        // printf '/\nkitchen-3' | openssl dgst -sha256 -hmac 0123456789abcdef -binary |
        //     basenc --base64url
        let key = Secret::new("0123456789abcdef");
        assert_eq!(sign(&key, "/", "kitchen-3"), "5jIW0D8q5NUYGlugYH_CaHr6WWe8NChqstHAnAlqkpY");
        assert_eq!(sign(&Secret::new("k".repeat(200)), "/shop", "é"), "_S5zeljeWCaNpng2EnkcaiNS4Q2cscr9uBVgzUVicb0");
    }

    #[test]
    fn a_signature_is_valid_for_its_key_namespace_and_name_alone() {
        let key = Secret::new("0123456789abcdef");
        let signature = sign(&key, "/", "kitchen-3");
        let is_valid = |key: &str, path, name| verify(&Secret::new(key), path, name, &signature);
        assert!(is_valid("0123456789abcdef", "/", "kitchen-3"));
        assert!(!is_valid("0123456789abcdeF", "/", "kitchen-3"));
        assert!(!is_valid("0123456789abcdef", "/shop", "kitchen-3"));
        assert!(!is_valid("0123456789abcdef", "/", "kitchen-4"));
        let longer = format!("{signature}=");
        for wrong in ["", &signature[1..], &longer, &"A".repeat(43), "é"] {
            assert!(!verify(&key, "/", "kitchen-3", wrong), "{wrong}");
        }
    }
}
