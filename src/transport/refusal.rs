//! Why a request is refused, in Engine.IO's words and numbers.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use actix_http::RequestHead;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use log::Level;
use serde::Serialize;

use crate::messages::session::TransportRefusal;
use crate::metrics::REFUSALS;
use crate::session::directory::SessionLimit;

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
    /// The head of a handshake exceeds what is kept of it.
    HeadTooLarge {
        bytes: usize,
        /// How many there may be.
        limit: usize,
    },
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
        (3, "head_too_large"),
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
            Self::HeadTooLarge { .. } => 11,
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
            Self::HeadTooLarge { .. } => "Request head too large",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Undecided | Self::Full | Self::Closing | Self::Spent => StatusCode::SERVICE_UNAVAILABLE,
            Self::AddressFull => StatusCode::TOO_MANY_REQUESTS,
            Self::HeadTooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
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

    /// The answer over HTTP: `{"code":…,"message":…}` as engine.io has it, and `detail` where there is more to say.
    pub(super) fn response(&self, detail: Option<&str>) -> HttpResponse {
        #[derive(Serialize)]
        struct Body<'a> {
            code: u8,
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            detail: Option<&'a str>,
        }
        HttpResponse::build(self.status()).json(Body { code: self.code(), message: self.message(), detail })
    }

    /// What was wrong with a handshake, where the message does not say it.
    pub(super) fn detail(&self, head: &RequestHead) -> Option<String> {
        let given = |name: &str| {
            let query = head.uri.query().unwrap_or("");
            let value = form_urlencoded::parse(query.as_bytes()).filter(|(known, _)| known == name).last();
            value.map_or_else(|| format!("no {name}"), |(_, value)| format!("{name}={}", clipped(&value)))
        };
        match self {
            Self::UnsupportedVersion => Some(format!(
                "{}: this server speaks EIO=4, which Socket.IO clients from version 3 on do",
                given("EIO")
            )),
            Self::UnknownTransport => Some(format!("{}: there are polling and websocket", given("transport"))),
            Self::BadMethod => Some(format!("{}: a handshake is a GET", clipped(head.method.as_str()))),
            Self::BadRequest if head.upgrade() => {
                Some(format!("{}: the upgrade is no websocket handshake of version 13", given("transport")))
            }
            Self::BadRequest => Some(format!(
                "{}: no upgrade to websocket was asked for, or a proxy has dropped the headers Upgrade and Connection",
                given("transport")
            )),
            Self::HeadTooLarge { bytes, limit } => Some(format!("head of {bytes} bytes exceeds limit of {limit}")),
            _ => None,
        }
    }

    /// Whether the hub protects itself by it, and its operator may want to act.
    fn is_protective(&self) -> bool {
        matches!(self, Self::Undecided | Self::Full | Self::AddressFull)
    }
}

impl From<SessionLimit> for Refusal {
    fn from(refusal: SessionLimit) -> Self {
        match refusal {
            SessionLimit::Server => Self::Full,
            SessionLimit::Address => Self::AddressFull,
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

/// The beginning of what a peer has said, for a log or an answer.
fn clipped(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(64) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}

/// Logs refused handshakes, of each kind one a second at most: those who cause them could cause many.
#[derive(Debug, Default)]
pub(super) struct RefusalLog([SharedThrottle; REFUSALS], SharedThrottle);

impl RefusalLog {
    /// A handshake was refused.
    pub(super) fn log_refusal(&self, refusal: &Refusal, detail: Option<&str>, from: &RequestSource<'_>) {
        let Some(skipped) = self.0[refusal.kind()].is_due(SystemTime::now()) else { return };
        let level = if refusal.is_protective() { Level::Warn } else { Level::Info };
        let (message, detail) = (refusal.message(), detail.unwrap_or(""));
        let what = if from.is_upgrade { "websocket" } else { "handshake" };
        log::log!(level, "{what} refused reason={message:?} detail={detail:?} {from} skipped={skipped}");
    }

    /// A client of Socket.IO asked for a path where there is none.
    pub(super) fn log_wrong_path(&self, path: &str, from: &RequestSource<'_>) {
        if let Some(skipped) = self.1.is_due(SystemTime::now()) {
            log::info!("handshake refused reason=\"Not found\" path={:?} {from} skipped={skipped}", clipped(path));
        }
    }
}

/// Whom a refused request came from.
pub(super) struct RequestSource<'a> {
    pub(super) address: Option<IpAddr>,
    pub(super) origin: Option<&'a str>,
    pub(super) is_upgrade: bool,
}

impl fmt::Display for RequestSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "address={address}")?,
            None => f.write_str("address=unknown")?,
        }
        match self.origin {
            Some(origin) => write!(f, " origin={:?}", clipped(origin)),
            None => Ok(()),
        }
    }
}

/// One line a second. Shared by all workers.
#[derive(Debug, Default)]
struct SharedThrottle {
    /// The second of the last line.
    last: AtomicU64,
    /// Lines that were not written since.
    skipped: AtomicU64,
}

impl SharedThrottle {
    /// Whether to write a line now; if so, how many were not written before it.
    fn is_due(&self, now: SystemTime) -> Option<u64> {
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.last.swap(second, Ordering::Relaxed) == second {
            self.skipped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.skipped.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn refusals_are_logged_once_a_second() {
        let throttle = SharedThrottle::default();
        let due = [1_000, 1_001, 1_999, 2_000, 2_500].map(|at| throttle.is_due(UNIX_EPOCH + Duration::from_millis(at)));
        assert_eq!(due, [Some(0), None, None, Some(2), None]);
    }
}
