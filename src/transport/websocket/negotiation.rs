//! Options of a websocket handshake: the subprotocol, and base64 for binary packets.

use actix_http::header::{HeaderMap, HeaderValue, SEC_WEBSOCKET_PROTOCOL};

/// Subprotocol of the response: the first subprotocol that the client offers, as in Node's `ws`.
/// `None` if the client offers none, or if the first element is not a token.
pub(super) fn subprotocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let offer = headers.get(SEC_WEBSOCKET_PROTOCOL)?.as_bytes();
    let first = offer.split(|byte| *byte == b',').next()?.trim_ascii();
    (!first.is_empty() && first.iter().all(is_token)).then(|| HeaderValue::from_bytes(first).ok()).flatten()
}

/// Returns whether the client requests binary packets as text: the letter `b`, followed by the data
/// in base64. Any non-empty value of `b64` counts, as in engine.io.
pub(super) fn wants_base64(query: Option<&str>) -> bool {
    form_urlencoded::parse(query.unwrap_or("").as_bytes()).any(|(name, value)| name == "b64" && !value.is_empty())
}

/// Returns whether the byte may be part of a token (RFC 9110, 5.6.2).
fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}
