//! Why a request is refused, in Engine.IO's words and numbers.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use actix_http::RequestHead;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, ORIGIN};
use serde::Serialize;

use crate::messages::session::TransportRefusal;
use crate::metrics::REFUSALS;
use crate::session::directory::NoPlace;

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
    /// Not of Engine.IO, as are the next: the application did not decide in time. Clients try again.
    Undecided,
    /// The server has as many sessions as it may have. Clients try again.
    Full,
    /// The server is going away. Clients try again, and reach another one.
    Closing,
    /// The client's address has as many sessions as one may have.
    AddressFull,
    /// The memory for the request's body is not to be had. Clients try again.
    Spent,
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
        (4, "undecided"),
        (4, "address_full"),
        (4, "spent"),
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
            Self::Undecided => 8,
            Self::AddressFull => 9,
            Self::Spent => 10,
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
            Self::Undecided => "Not decided in time",
            Self::Full => "Too many sessions",
            Self::Closing => "Server is closing",
            Self::AddressFull => "Too many sessions from this address",
            Self::Spent => "Server has no memory for the body now",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Undecided | Self::Full | Self::Closing | Self::Spent => StatusCode::SERVICE_UNAVAILABLE,
            Self::AddressFull => StatusCode::TOO_MANY_REQUESTS,
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

impl From<NoPlace> for Refusal {
    fn from(refusal: NoPlace) -> Self {
        match refusal {
            NoPlace::Anywhere => Self::Full,
            NoPlace::ForAddress => Self::AddressFull,
        }
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

/// Warns of refusals by which the hub protects itself, once a second at most: those who cause them could cause many.
#[derive(Debug, Default)]
pub(super) struct RefusalLog {
    /// The second of the last warning.
    last: AtomicU64,
}

impl RefusalLog {
    pub(super) fn warn(&self, refusal: &Refusal, address: Option<IpAddr>) {
        if self.is_due(SystemTime::now()) {
            let address = address.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
            log::warn!("handshake refused reason=\"{}\" address={address}", refusal.message());
        }
    }

    /// Of a request that names an origin.
    pub(super) fn warn_of_origin(&self, refusal: &Refusal, head: &RequestHead) {
        if self.is_due(SystemTime::now()) {
            let origin = head.headers.get(ORIGIN).map_or(&b""[..], HeaderValue::as_bytes);
            let origin = String::from_utf8_lossy(origin);
            let address = head.peer_addr.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
            log::warn!("websocket refused reason=\"{}\" origin={origin:?} address={address}", refusal.message());
        }
    }

    fn is_due(&self, now: SystemTime) -> bool {
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.last.swap(second, Ordering::Relaxed) != second
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn refusals_are_logged_once_a_second() {
        let log = RefusalLog::default();
        let due = [1_000, 1_001, 1_999, 2_000, 2_500].map(|at| log.is_due(UNIX_EPOCH + Duration::from_millis(at)));
        assert_eq!(due, [true, false, false, true, false]);
    }
}
