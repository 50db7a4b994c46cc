//! Refused requests: Engine.IO's error codes and messages, HTTP statuses, and their log lines.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::time::Instant;

use actix_http::RequestHead;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use log::Level;
use serde::Serialize;

use crate::messages::session::TransportRefusal;
use crate::metrics::Labelled;
use crate::protocol::reason::RefusalKind;
use crate::session::directory::SessionLimit;
use crate::worker::log_throttle::Throttle;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HttpRefusal {
    UnknownTransport,
    UnknownSession,
    BadMethod,
    BadRequest,
    UnsupportedVersion,
    /// Refused by the application. The message for the client may be empty.
    Forbidden(String),
    /// The application did not decide in time. This reason and the following ones are not part of
    /// Engine.IO. Clients try again.
    Undecided,
    /// The server has the maximum number of sessions. Clients try again.
    Full,
    /// The server is closing. Clients try again and reach another server.
    Closing,
    /// The client's address has the maximum number of sessions.
    AddressFull,
    /// The client's address opens sessions faster than the limit. Clients try again.
    AddressRate,
    /// The budget of incoming bytes has no room for the request body. Clients try again.
    Overloaded,
    HeadTooLarge {
        bytes: usize,
        limit: usize,
    },
}

impl HttpRefusal {
    pub(super) fn kind(&self) -> RefusalKind {
        match self {
            Self::UnknownTransport => RefusalKind::UnknownTransport,
            Self::UnknownSession => RefusalKind::UnknownSession,
            Self::BadMethod => RefusalKind::BadMethod,
            Self::BadRequest => RefusalKind::BadRequest,
            Self::Forbidden(_) => RefusalKind::Forbidden,
            Self::UnsupportedVersion => RefusalKind::UnsupportedVersion,
            Self::Full => RefusalKind::Full,
            Self::Closing => RefusalKind::Closing,
            Self::Undecided => RefusalKind::Undecided,
            Self::AddressFull => RefusalKind::AddressFull,
            Self::AddressRate => RefusalKind::AddressRate,
            Self::Overloaded => RefusalKind::Overloaded,
            Self::HeadTooLarge { .. } => RefusalKind::HeadTooLarge,
        }
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
            Self::AddressRate => "Too many connects from this address",
            Self::Overloaded => "Server has no memory for the body now",
            Self::HeadTooLarge { .. } => "Request head too large",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Undecided | Self::Full | Self::Closing | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::AddressFull | Self::AddressRate => StatusCode::TOO_MANY_REQUESTS,
            Self::HeadTooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// HTTP status of a refused upgrade. As in engine.io, `Forbidden` is answered with 400 instead
    /// of 403.
    pub(super) fn upgrade_status(&self) -> StatusCode {
        match self {
            Self::Forbidden(_) => StatusCode::BAD_REQUEST,
            _ => self.status(),
        }
    }

    /// HTTP response `{"code":…,"message":…}` as in engine.io, with `detail` if there are details.
    pub(super) fn response(&self, detail: Option<&str>) -> HttpResponse {
        #[derive(Serialize)]
        struct Body<'a> {
            code: u8,
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            detail: Option<&'a str>,
        }
        HttpResponse::build(self.status()).json(Body { code: self.kind().code(), message: self.message(), detail })
    }

    /// Details of a refused handshake, in addition to the message.
    pub(super) fn detail(&self, head: &RequestHead) -> Option<String> {
        let given = |name: &str| {
            let query = head.uri.query().unwrap_or("");
            let value = form_urlencoded::parse(query.as_bytes()).filter(|(known, _)| known == name).last();
            value.map_or_else(|| format!("no {name}"), |(_, value)| format!("{name}={}", clipped(&value)))
        };
        match self {
            Self::UnsupportedVersion => {
                Some(format!("{}: this server requires EIO=4 (Socket.IO client version 3 or later)", given("EIO")))
            }
            Self::UnknownTransport => Some(format!("{}: expected polling or websocket", given("transport"))),
            Self::BadMethod => Some(format!("{}: a handshake requires GET", clipped(head.method.as_str()))),
            Self::BadRequest if head.upgrade() => {
                Some(format!("{}: not a websocket handshake of version 13", given("transport")))
            }
            Self::BadRequest => Some(format!(
                "{}: no upgrade requested, or a proxy has removed the headers Upgrade and Connection",
                given("transport")
            )),
            Self::HeadTooLarge { bytes, limit } => Some(format!("head of {bytes} bytes exceeds limit of {limit}")),
            _ => None,
        }
    }

    /// Level of the log line.
    fn level(&self) -> Level {
        match self {
            // Every client that was closed returns, and its refusal is part of the stop.
            Self::Closing => Level::Debug,
            _ => Level::Warn,
        }
    }
}

impl From<SessionLimit> for HttpRefusal {
    fn from(refusal: SessionLimit) -> Self {
        match refusal {
            SessionLimit::Server => Self::Full,
            SessionLimit::Address => Self::AddressFull,
        }
    }
}

impl From<TransportRefusal> for HttpRefusal {
    fn from(refusal: TransportRefusal) -> Self {
        match refusal {
            TransportRefusal::WrongTransport | TransportRefusal::SecondPoll => Self::BadRequest,
            TransportRefusal::Ended => Self::UnknownSession,
        }
    }
}

/// The first 64 characters of a text that a peer sent, for a log line or a response.
fn clipped(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(64) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}

/// Log of refused handshakes. Logs at most one line of each kind per second, since clients can
/// cause any number of refusals.
#[derive(Debug, Default)]
pub(super) struct RefusalLog {
    refused: Labelled<RefusalKind, Throttle, { RefusalKind::COUNT }>,
    wrong_path: Throttle,
}

impl RefusalLog {
    pub(super) fn log_refusal(&self, refusal: &HttpRefusal, detail: Option<&str>, from: &RequestSource<'_>) {
        let Some(skipped) = self.refused[refusal.kind()].is_due(Instant::now()) else { return };
        let (message, detail) = (refusal.message(), detail.unwrap_or(""));
        let what = if from.is_upgrade { "websocket" } else { "handshake" };
        log::log!(refusal.level(), "{what} refused reason={message:?} detail={detail:?} {from} skipped={skipped}");
    }

    /// Logs a Socket.IO handshake for a path that is not served.
    pub(super) fn log_wrong_path(&self, path: &str, from: &RequestSource<'_>) {
        if let Some(skipped) = self.wrong_path.is_due(Instant::now()) {
            log::warn!("handshake refused reason=\"Not found\" path={:?} {from} skipped={skipped}", clipped(path));
        }
    }
}

/// Source of a refused request, for the log line.
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
