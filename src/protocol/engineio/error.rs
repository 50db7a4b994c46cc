//! Errors of decoding Engine.IO packets and payloads.

use thiserror::Error;

/// Reason why a text is not a valid Engine.IO packet or payload. Each error is a fault of the peer
/// and ends the session ("parse error").
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum EngineDecodeError {
    /// The packet or payload is empty. A packet has at least a type.
    #[error("packet is empty")]
    Empty,

    /// The first character is neither a digit from `0` to `6` nor `b`.
    #[error("packet type {found:?} is unknown")]
    UnknownType { found: char },

    /// The text after `b` is not base64.
    #[error("binary packet is not base64: {0}")]
    Base64(#[source] base64::DecodeError),
}
