//! Replies of `stentor serve` in acks and HTTP responses: receipts, and errors with a code.

use serde::Serialize;

use stentor::{EmitError, Receipt, RoomError};

use super::error_code::ErrorCode;

/// Reply to a failed event or request: `{"error":{"code","message"}}`.
#[derive(Debug, Serialize)]
pub(super) struct ErrorAnswer {
    pub(super) error: ErrorBody,
}

#[derive(Debug, Serialize)]
pub(super) struct ErrorBody {
    pub(super) code: ErrorCode,
    pub(super) message: String,
}

impl ErrorBody {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Receipt of a published event, as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Published {
    pub(super) level: &'static str,
    pub(super) offset: Option<String>,
    pub(super) duplicate: bool,
    /// Subscribers that a durable event is pending for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pending_for: Option<u64>,
}

impl Published {
    /// Receipt of an event that the back end has skipped.
    pub(super) fn skipped() -> Self {
        Self { level: "skipped", offset: None, duplicate: false, pending_for: None }
    }
}

impl From<Receipt> for Published {
    fn from(receipt: Receipt) -> Self {
        let offset = receipt.offset.map(|offset| offset.to_string());
        Self { level: "accepted", offset, duplicate: false, pending_for: None }
    }
}

impl From<RoomError> for ErrorBody {
    fn from(error: RoomError) -> Self {
        let code = match error {
            RoomError::Name(_) | RoomError::ForeignRoom => ErrorCode::BadRoom,
            RoomError::TooManyRooms => ErrorCode::TooManyRooms,
            RoomError::Disconnected | RoomError::NotYetConnected => ErrorCode::Disconnected,
            // The remaining errors are Overloaded and Unanswered.
            _ => ErrorCode::Overloaded,
        };
        Self { code, message: error.to_string() }
    }
}

impl From<EmitError> for ErrorBody {
    fn from(error: EmitError) -> Self {
        let code = match error {
            EmitError::Room(_) => ErrorCode::BadRoom,
            EmitError::ReservedName(_)
            | EmitError::Data(_)
            | EmitError::TooManyAttachments { .. }
            | EmitError::TooLarge => ErrorCode::BadEvent,
            EmitError::Disconnected | EmitError::NotYetConnected => ErrorCode::Disconnected,
            EmitError::Overloaded => ErrorCode::Overloaded,
            // The remaining error is Unanswered.
            _ => ErrorCode::Indeterminate,
        };
        Self { code, message: error.to_string() }
    }
}

/// Prefix of event names that are reserved for the server.
const RESERVED_PREFIX: &str = "stentor:";

/// Checks that a client does not publish an event under a name that is reserved for the server.
pub(super) fn check_event_name(name: &str) -> Result<(), ErrorBody> {
    if name.starts_with(RESERVED_PREFIX) {
        let message =
            format!("event name {name:?} is reserved: names that begin with {RESERVED_PREFIX:?} belong to the server");
        return Err(ErrorBody::new(ErrorCode::BadEvent, message));
    }
    Ok(())
}
