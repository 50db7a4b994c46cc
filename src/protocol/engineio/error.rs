//! Why a text is not an Engine.IO packet or payload. Refuses to say what follows from it: the session decides that.

use thiserror::Error;

/// Why the text of a peer could not be read as Engine.IO. All of them are the peer's fault ("parse error").
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum EngineDecodeError {
    /// A packet needs at least its type; this one (or the whole payload) has no byte. Close the session.
    #[error("packet is empty")]
    Empty,

    /// The first character is none of `0` to `6` (nor `b`, in a payload). Close the session.
    #[error("packet type {found:?} is unknown")]
    UnknownType {
        /// The character in the place of the type.
        found: char,
    },

    /// What follows `b` in a payload is not standard, padded base64. Close the session.
    #[error("binary packet is not base64: {0}")]
    Base64(#[source] base64::DecodeError),
}
