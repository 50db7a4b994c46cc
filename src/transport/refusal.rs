//! Why a request is refused, in Engine.IO's words and numbers.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;

use crate::messages::session::TransportRefusal;
use crate::metrics::REFUSALS;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownTransport,
    UnknownSession,
    BadMethod,
    BadRequest,
    UnsupportedVersion,
    /// By the application; its words for the client, or none.
    Forbidden(String),
    /// Not one of Engine.IO's: the server has as many sessions as it may have. Clients try again.
    Full,
    /// Nor is this: the server is going away. Clients try again, and reach another one.
    Closing,
}

impl Refusal {
    /// Engine.IO's code, and a name for the metric, of each kind.
    pub(crate) const KINDS: [(u8, &str); REFUSALS] = [
        (0, "unknown_transport"),
        (1, "unknown_session"),
        (2, "bad_method"),
        (3, "bad_request"),
        (4, "forbidden"),
        (5, "unsupported_version"),
        (4, "full"),
        (4, "closing"),
    ];

    /// Its place in [`Refusal::KINDS`].
    pub(super) fn kind(&self) -> usize {
        match self {
            Self::UnknownTransport => 0,
            Self::UnknownSession => 1,
            Self::BadMethod => 2,
            Self::BadRequest => 3,
            Self::Forbidden(_) => 4,
            Self::UnsupportedVersion => 5,
            Self::Full => 6,
            Self::Closing => 7,
        }
    }

    fn code(&self) -> u8 {
        Self::KINDS[self.kind()].0
    }

    pub(super) fn message(&self) -> &str {
        match self {
            Self::UnknownTransport => "Transport unknown",
            Self::UnknownSession => "Session ID unknown",
            Self::BadMethod => "Bad handshake method",
            Self::BadRequest => "Bad request",
            Self::UnsupportedVersion => "Unsupported protocol version",
            Self::Forbidden(message) if message.is_empty() => "Forbidden",
            Self::Forbidden(message) => message,
            Self::Full => "Too many sessions",
            Self::Closing => "Server is closing",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Full | Self::Closing => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The status of a refused upgrade: engine.io says 400 to all of its own refusals there.
    pub(super) fn upgrade_status(&self) -> StatusCode {
        match self {
            Self::Forbidden(_) => StatusCode::BAD_REQUEST,
            _ => self.status(),
        }
    }

    /// The answer over HTTP: `{"code":…,"message":…}`.
    pub(super) fn response(&self) -> HttpResponse {
        #[derive(Serialize)]
        struct Body<'a> {
            code: u8,
            message: &'a str,
        }
        HttpResponse::build(self.status()).json(Body { code: self.code(), message: self.message() })
    }
}

impl From<TransportRefusal> for Refusal {
    fn from(refusal: TransportRefusal) -> Self {
        match refusal {
            TransportRefusal::WrongTransport | TransportRefusal::SecondPoll => Self::BadRequest,
            TransportRefusal::Ended => Self::UnknownSession,
        }
    }
}
