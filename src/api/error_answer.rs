//! What is answered to an event, or a request, that is not carried out.

use serde::Serialize;

/// The answer: `{"error":{"code","message"}}`.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorAnswer {
    pub(crate) error: ErrorBody,
}

impl ErrorAnswer {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { error: ErrorBody::new(code, message) }
    }
}

/// Why something was not done.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorBody {
    /// For programs; one vocabulary everywhere.
    pub(crate) code: &'static str,
    /// A sentence for people.
    pub(crate) message: String,
}

impl ErrorBody {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}
