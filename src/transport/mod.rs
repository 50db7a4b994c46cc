//! Transports: from a request's query to a session, and Engine.IO's HTTP errors.

pub(crate) mod polling;
pub(crate) mod websocket;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use actix_http::RequestHead;
use actix_web::HttpResponse;
use actix_web::http::{Method, StatusCode, header::HeaderMap};
use actix_web::web::Query;
use serde::Serialize;

use crate::ids::SessionId;
use crate::messages::handshake::Handshake;
use crate::messages::session::{SessionLink, TransportRefusal};
use crate::session::{Opening, Services, Session};
use crate::worker::Worker;
use crate::worker::local::Workers;

/// Where transports are let in: what they need of their server.
#[derive(Clone)]
pub(crate) struct Endpoint {
    /// What sessions need.
    pub(crate) services: Services,
    /// Where sessions live.
    pub(crate) workers: Arc<Workers>,
}

impl Endpoint {
    fn worker(&self) -> Rc<Worker> {
        self.workers.here()
    }

    /// Whether one more session may be opened.
    fn has_room(&self) -> Result<(), Refusal> {
        if self.services.directory.len() < self.services.core.limits.sessions_max {
            return Ok(());
        }
        log::warn!("session refused, there are as many as there may be count={}", self.services.directory.len());
        Err(Refusal::Full)
    }

    /// Opens a session for a request.
    fn open(&self, head: &RequestHead, opening: Opening) -> Result<SessionLink, Refusal> {
        let limits = &self.services.core.limits;
        let handshake = pack(head.uri.query().unwrap_or(""), &head.headers, head.peer_addr, limits.handshake_bytes_max);
        Session::open(self.worker(), self.services.clone(), handshake, opening).map_err(|error| {
            log::error!("session not opened, the system gives no random bytes error={error}");
            Refusal::BadRequest
        })
    }

    fn find(&self, id: &SessionId) -> Result<SessionLink, Refusal> {
        self.services.directory.find(id).ok_or(Refusal::UnknownSession)
    }
}

fn pack(query: &str, headers: &HeaderMap, address: Option<SocketAddr>, bytes_max: usize) -> Handshake {
    let headers = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    Handshake::new(query, headers, address, bytes_max)
}

/// Which transport a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Polling,
    Websocket,
}

/// What a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Route {
    /// A new session.
    Handshake(Kind),
    /// This session.
    Session(SessionId, Kind),
}

/// Why a request is refused, in Engine.IO's words and numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownTransport,
    UnknownSession,
    BadMethod,
    BadRequest,
    UnsupportedVersion,
    /// Not one of Engine.IO's: the server has as many sessions as it may have. Clients try again.
    Full,
}

impl Refusal {
    const fn code(self) -> u8 {
        match self {
            Self::UnknownTransport => 0,
            Self::UnknownSession => 1,
            Self::BadMethod => 2,
            Self::BadRequest => 3,
            Self::Full => 4,
            Self::UnsupportedVersion => 5,
        }
    }

    const fn message(self) -> &'static str {
        match self {
            Self::UnknownTransport => "Transport unknown",
            Self::UnknownSession => "Session ID unknown",
            Self::BadMethod => "Bad handshake method",
            Self::BadRequest => "Bad request",
            Self::Full => "Too many sessions",
            Self::UnsupportedVersion => "Unsupported protocol version",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::Full => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The answer over HTTP: `{"code":…,"message":…}`.
    fn response(self) -> HttpResponse {
        #[derive(Serialize)]
        struct Body {
            code: u8,
            message: &'static str,
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

/// Reads what a request is for. Checks in the order of engine.io: transport, session, method, version.
fn route(query: &str, method: &Method, upgrade: bool) -> Result<Route, Refusal> {
    let pairs = Query::<Vec<(String, String)>>::from_query(query).map_or_else(|_| Vec::new(), Query::into_inner);
    let kind = match single(&pairs, "transport", Refusal::UnknownTransport)? {
        Some("polling") => Kind::Polling,
        Some("websocket") => Kind::Websocket,
        _ => return Err(Refusal::UnknownTransport),
    };
    let version = single(&pairs, "EIO", Refusal::UnsupportedVersion);
    let Some(sid) = single(&pairs, "sid", Refusal::UnknownSession)? else {
        if method != Method::GET {
            return Err(Refusal::BadMethod);
        }
        if (kind == Kind::Websocket) != upgrade {
            return Err(Refusal::BadRequest);
        }
        return match version? {
            Some("4") => Ok(Route::Handshake(kind)),
            _ => Err(Refusal::UnsupportedVersion),
        };
    };
    let id = SessionId::parse(sid).map_err(|_| Refusal::UnknownSession)?;
    if (kind == Kind::Websocket) != upgrade || version.ok().flatten() != Some("4") {
        return Err(Refusal::BadRequest);
    }
    Ok(Route::Session(id, kind))
}

/// The one value of a key. A key given twice is as good as a wrong value.
fn single<'a>(pairs: &'a [(String, String)], key: &str, twice: Refusal) -> Result<Option<&'a str>, Refusal> {
    let mut values = pairs.iter().filter(|(name, _)| name == key).map(|(_, value)| value.as_str());
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(twice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SID: &str = "AAAAAAAAAAAAAAAAAAAA";

    fn session(kind: Kind) -> Result<Route, Refusal> {
        Ok(Route::Session(SessionId::from_random([0; 15]), kind))
    }

    #[test]
    fn requests_are_routed_by_their_query() {
        let get = |query: &str| route(query, &Method::GET, false);
        let upgrade = |query: &str| route(query, &Method::GET, true);
        let post = |query: &str| route(query, &Method::POST, false);
        let with_sid = |rest: &str| format!("{rest}&sid={SID}");
        assert_eq!(get("EIO=4&transport=polling&t=abc"), Ok(Route::Handshake(Kind::Polling)));
        assert_eq!(upgrade("transport=websocket&EIO=4"), Ok(Route::Handshake(Kind::Websocket)));
        assert_eq!(post(&with_sid("EIO=4&transport=polling")), session(Kind::Polling));
        assert_eq!(upgrade(&with_sid("EIO=4&transport=websocket")), session(Kind::Websocket));

        for (query, expected) in [
            ("", Refusal::UnknownTransport),
            ("EIO=4", Refusal::UnknownTransport),
            ("EIO=4&transport=constructor", Refusal::UnknownTransport),
            ("EIO=4&transport=__proto__", Refusal::UnknownTransport),
            ("EIO=4&transport=polling&transport=polling", Refusal::UnknownTransport),
            ("transport=polling", Refusal::UnsupportedVersion),
            ("EIO=3&transport=polling", Refusal::UnsupportedVersion),
            ("EIO=4&EIO=4&transport=polling", Refusal::UnsupportedVersion),
            ("EIO=4&transport=polling&sid=", Refusal::UnknownSession),
            ("EIO=4&transport=polling&sid=nope", Refusal::UnknownSession),
            ("EIO=4&transport=polling&sid=a&sid=b", Refusal::UnknownSession),
            ("EIO=4&transport=websocket", Refusal::BadRequest),
            (&with_sid("EIO=3&transport=polling"), Refusal::BadRequest),
            (&with_sid("EIO=4&transport=websocket"), Refusal::BadRequest),
        ] {
            assert_eq!(get(query), Err(expected), "{query}");
        }
        assert_eq!(post("EIO=4&transport=polling"), Err(Refusal::BadMethod));
        assert_eq!(upgrade("EIO=4&transport=polling"), Err(Refusal::BadRequest));
    }
}
