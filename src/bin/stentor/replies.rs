//! What `stentor serve` answers, to clients and over HTTP in the same words: receipts, and failures with a code.

use serde::Serialize;

use stentor::{EmitError, Receipt, RoomError};

use super::error_code::ErrorCode;

/// The answer to an event or a request that is not carried out: `{"error":{"code","message"}}`.
#[derive(Debug, Serialize)]
pub(super) struct ErrorAnswer {
    pub(super) error: ErrorBody,
}

/// The reason why something was not carried out.
#[derive(Debug, Serialize)]
pub(super) struct ErrorBody {
    /// For programs; one vocabulary everywhere.
    pub(super) code: ErrorCode,
    pub(super) message: String,
}

impl ErrorBody {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// An event was published.
#[derive(Debug, Serialize)]
pub(super) struct Published {
    level: &'static str,
    offset: Option<String>,
    duplicate: bool,
}

impl From<Receipt> for Published {
    fn from(receipt: Receipt) -> Self {
        Self { level: "accepted", offset: receipt.offset.map(|offset| offset.to_string()), duplicate: false }
    }
}

impl From<RoomError> for ErrorBody {
    fn from(error: RoomError) -> Self {
        let code = match error {
            RoomError::Name(_) | RoomError::ForeignRoom => ErrorCode::BadRoom,
            RoomError::TooManyRooms => ErrorCode::TooManyRooms,
            RoomError::Disconnected | RoomError::NotYetConnected => ErrorCode::Disconnected,
            // Overloaded, Unanswered.
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
            // Unanswered.
            _ => ErrorCode::Indeterminate,
        };
        Self { code, message: error.to_string() }
    }
}

/// How the names of events begin that the server alone emits.
const RESERVED_PREFIX: &str = "stentor:";

/// Refuses to publish an event under a name by which clients know the server's own: anybody could forge one.
pub(super) fn check_event_name(name: &str) -> Result<(), ErrorBody> {
    if name.starts_with(RESERVED_PREFIX) {
        let message =
            format!("event name {name:?} is reserved: names that begin with {RESERVED_PREFIX:?} are the server's");
        return Err(ErrorBody::new(ErrorCode::BadEvent, message));
    }
    Ok(())
}
