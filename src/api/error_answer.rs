//! The error that is sent in an ack or in a `stentor:error` event.

use serde::Serialize;

/// An error as JSON: `{"error":{"code","message"}}`.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorAnswer {
    pub(crate) error: ErrorBody,
}

impl ErrorAnswer {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { error: ErrorBody::new(code, message) }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct ErrorBody {
    /// Machine-readable code, such as `rate_limited`.
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl ErrorBody {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}
