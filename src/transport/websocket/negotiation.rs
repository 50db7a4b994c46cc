//! What a websocket's request asks for beside the websocket itself: a subprotocol, and binary as base64.

use actix_http::header::{HeaderMap, HeaderValue, SEC_WEBSOCKET_PROTOCOL};

/// The subprotocol to answer with: the first that the client offers, as Node's ws chooses. `None` without an offer, or if the
/// first element is not a token.
pub(super) fn subprotocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let offer = headers.get(SEC_WEBSOCKET_PROTOCOL)?.as_bytes();
    let first = offer.split(|byte| *byte == b',').next()?.trim_ascii();
    (!first.is_empty() && first.iter().all(is_token)).then(|| HeaderValue::from_bytes(first).ok()).flatten()
}

/// Whether the client wants binary packets as text, `b` and base64 (`b64=1`; any value counts, as in engine.io).
pub(super) fn wants_base64(query: Option<&str>) -> bool {
    form_urlencoded::parse(query.unwrap_or("").as_bytes()).any(|(name, value)| name == "b64" && !value.is_empty())
}

/// RFC 9110, 5.6.2.
fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}
