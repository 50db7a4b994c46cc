//! Signature of a request: `t=<unix seconds>,v1=<hex of HMAC-SHA256(hooks_key, t + "." + body)>`.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::super::secret::Secret;

/// Name of the header with the signature.
pub(super) const HEADER: &str = "stentor-signature";

/// Returns the value of the header for a body that is sent at this time, in seconds since 1970.
pub(super) fn sign(key: &Secret, seconds: u64, body: &[u8]) -> String {
    let mut signature = format!("t={seconds},v1=");
    // A key may have any length, so the error does not occur.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.as_ref()) else { return signature };
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    for byte in mac.finalize().into_bytes() {
        // Writing to a string cannot fail.
        let _ = write!(signature, "{byte:02x}");
    }
    signature
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_other_implementations() {
        // printf '1795900000.{"hook":"join"}' | openssl dgst -sha256 -hmac 0123456789abcdef
        assert_eq!(
            sign(&Secret::new("0123456789abcdef"), 1_795_900_000, br#"{"hook":"join"}"#),
            "t=1795900000,v1=e5d7b2441db573f2290996c316a19a57a0279854ef0bf59567e5ddb91f24e9e4"
        );
    }
}
