//! Machine-readable error codes. Acks and HTTP responses use the same codes.

use actix_web::http::StatusCode;
use serde::Serialize;

/// Error code, serialized in snake case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ErrorCode {
    /// The configuration has errors, and was not reloaded.
    BadConfiguration,
    BadEvent,
    BadRequest,
    BadRoom,
    /// The `dedup_id` was used for another event.
    Conflict,
    Disconnected,
    /// The subscriber was away for too long and was removed.
    Expired,
    /// The client or the API key may not do this.
    Forbidden,
    /// The event may or may not have been emitted or stored.
    Indeterminate,
    MethodNotAllowed,
    NoApiKey,
    NotFound,
    Overloaded,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    TokenNotYetValid,
    TooLarge,
    TooManyRooms,
    TooSlow,
    Unauthorized,
    /// The queue's store has failed.
    Unavailable,
    UnknownEvent,
    UnknownNamespace,
    UnsupportedMediaType,
}

impl ErrorCode {
    /// HTTP status of a response with this code.
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::BadEvent | Self::BadRequest | Self::BadRoom | Self::TooManyRooms | Self::UnknownEvent => {
                StatusCode::BAD_REQUEST
            }
            Self::TokenExpired
            | Self::TokenInvalid
            | Self::TokenMissing
            | Self::TokenNotYetValid
            | Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::NoApiKey => StatusCode::FORBIDDEN,
            Self::NotFound | Self::UnknownNamespace => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Conflict => StatusCode::CONFLICT,
            Self::BadConfiguration => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Expired => StatusCode::GONE,
            Self::Overloaded => StatusCode::TOO_MANY_REQUESTS,
            Self::Disconnected | Self::Indeterminate | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// True if the hub was overloaded, or the queue's store has failed. Another request would then
    /// probably fail as well.
    pub(super) const fn is_of_overload(self) -> bool {
        matches!(self, Self::Overloaded | Self::Indeterminate | Self::Unavailable)
    }
}
