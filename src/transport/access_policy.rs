//! Admission of requests: finds the session that a request names, or checks a handshake.
//!
//! Requests over both transports, on the server's own port and inside a host application, are
//! checked here. This module sends no responses and opens no sessions.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use actix_http::RequestHead;
use actix_web::HttpRequest;
use actix_web::http::Method;
use actix_web::http::uri::PathAndQuery;

use super::network_stream::IsEncrypted;
use super::{Endpoint, HttpRefusal};
use crate::ids::SessionId;
use crate::messages::handshake::{Arrival, Handshake};
use crate::messages::session::SessionLink;
use crate::session::PendingSession;
use crate::state::rate::{Cost, Rates};

/// Error message for requests inside a host application. On the server's own port, the Host header
/// is checked earlier.
const HOST_REFUSAL: &str = "Host not allowed; add it to Builder::allowed_hosts";

const ADDRESS_REFUSAL: &str = "Address not allowed";

const ORIGIN_REFUSAL: &str = "Origin not allowed; add it to cors_origins (STENTOR_CORS_ORIGINS, Builder::cors)";

/// A request that opens a session, or that contains a session id.
#[derive(Clone, Copy)]
pub(crate) struct HandshakeRequest<'a> {
    pub(crate) head: &'a RequestHead,
    /// True if the request asks for an upgrade to a websocket.
    pub(crate) upgrade: bool,
    /// True if the connection to this server is encrypted.
    pub(crate) encrypted: bool,
}

/// Returns whether a request came over an encrypted connection, of a host application or of a port
/// of the server's own.
pub(super) fn is_encrypted(request: &HttpRequest) -> bool {
    request.app_config().secure() || request.conn_data::<IsEncrypted>().is_some()
}

impl HandshakeRequest<'_> {
    fn to_handshake(self, arrival: Arrival) -> Handshake {
        let headers = self.head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        Handshake::new(self.url(), headers, arrival)
    }

    fn url(&self) -> &str {
        self.head.uri.path_and_query().map_or("", PathAndQuery::as_str)
    }

    /// Length of the head on the wire: the request line, and a line for each header.
    fn head_bytes(&self) -> usize {
        let line = self.head.method.as_str().len() + self.url().len() + "  HTTP/1.1\r\n".len();
        let headers = self.head.headers.iter();
        line + headers.map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum::<usize>()
    }
}

pub(crate) enum Admitted {
    Session(SessionLink),
    PendingSession(PendingSession),
}

/// The application's check of handshakes. The returned future need not be `Send`, since it runs on
/// the worker that received the request.
#[derive(Clone)]
pub(crate) struct AllowRequest(Arc<dyn Fn(Handshake) -> Decision + Send + Sync>);

type Decision = Pin<Box<dyn Future<Output = Result<(), String>>>>;

impl AllowRequest {
    pub(crate) fn new<F, Fut>(allow: F) -> Self
    where
        F: Fn(Handshake) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + 'static,
    {
        Self(Arc::new(move |handshake| Box::pin(allow(handshake))))
    }
}

impl fmt::Debug for AllowRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AllowRequest")
    }
}

impl Endpoint {
    /// Checks the address, the host and the origin of a request, and then in engine.io's order:
    /// transport, session, method, version, application.
    pub(crate) async fn admit(&self, request: HandshakeRequest<'_>) -> Result<Admitted, HttpRefusal> {
        let head = request.head;
        let policy = self.policy.get();
        if !policy.admits_client(head) {
            return Err(HttpRefusal::Forbidden(ADDRESS_REFUSAL.into()));
        }
        if policy.hosts.as_ref().is_some_and(|hosts| hosts.admit(&head.headers).is_err()) {
            return Err(HttpRefusal::Forbidden(HOST_REFUSAL.into()));
        }
        if request.upgrade && !policy.admits_origin(head) {
            return Err(HttpRefusal::Forbidden(ORIGIN_REFUSAL.into()));
        }
        match route(head.uri.query().unwrap_or(""), &head.method, request.upgrade)? {
            RequestRoute::Session(id) => self.find(&id).map(Admitted::Session),
            RequestRoute::Handshake => self.admit_pending(request).await.map(Admitted::PendingSession),
        }
    }

    async fn admit_pending(&self, request: HandshakeRequest<'_>) -> Result<PendingSession, HttpRefusal> {
        let limits = self.services.directory.limits.get();
        let (bytes, limit) = (request.head_bytes(), limits.http.handshake_bytes_max);
        if bytes > limit {
            return Err(HttpRefusal::HeadTooLarge { bytes, limit });
        }
        let client = self.policy.get().proxies.client(request.head.peer_addr, &request.head.headers);
        let arrival =
            Arrival { at: SystemTime::now(), address: client.address, secure: request.encrypted || client.secure };
        self.charge_connect(arrival.address)?;
        // The permit is reserved before the application is asked, so that pending handshakes count
        // against the limits.
        let permit = self.services.directory.reserve(arrival.address, &limits)?;
        self.ask_application(request, arrival).await?;
        // This is checked last, since the server may begin to close while the application decides.
        self.check_accepting()?;
        PendingSession::new(request.to_handshake(arrival), permit).map_err(|error| {
            log::error!("session not opened, no random bytes from the system error={error}");
            HttpRefusal::BadRequest
        })
    }

    /// Charges a handshake of this address.
    fn charge_connect(&self, address: Option<IpAddr>) -> Result<(), HttpRefusal> {
        let limits = self.services.directory.limits.get();
        let (Some(address), Some(_)) = (address, limits.rates.address_connects_per_second) else { return Ok(()) };
        let (rates, now) = (Rates::of_address(&limits.rates), Instant::now());
        let admitted = self.services.directory.with_meter(address, rates, now, limits.rates.addresses_max, |meter| {
            let admits = meter.admits(Cost::Connect, now);
            if admits {
                meter.take(Cost::Connect);
            }
            admits
        });
        if admitted == Some(false) { Err(HttpRefusal::AddressRate) } else { Ok(()) }
    }

    async fn ask_application(&self, request: HandshakeRequest<'_>, arrival: Arrival) -> Result<(), HttpRefusal> {
        let policy = self.policy.get();
        let Some(AllowRequest(allow)) = &policy.allow_request else { return Ok(()) };
        let decided = allow(request.to_handshake(arrival));
        match tokio::time::timeout(self.services.core.limits.handlers.allow_request_timeout, decided).await {
            Ok(decision) => decision.map_err(HttpRefusal::Forbidden),
            Err(_) => Err(HttpRefusal::Undecided),
        }
    }

    /// Checks whether one more session may be opened, without reserving a permit.
    pub(crate) fn check_capacity(&self) -> Result<(), HttpRefusal> {
        self.check_accepting()?;
        if self.services.directory.len() >= self.services.directory.limits.get().sessions.max {
            return Err(HttpRefusal::Full);
        }
        Ok(())
    }

    fn check_accepting(&self) -> Result<(), HttpRefusal> {
        if self.accepting.load(Ordering::Relaxed) { Ok(()) } else { Err(HttpRefusal::Closing) }
    }

    fn find(&self, id: &SessionId) -> Result<SessionLink, HttpRefusal> {
        self.services.directory.find(id).ok_or(HttpRefusal::UnknownSession)
    }
}

/// Destination of a request. Upgrades, and no other requests, have the transport `websocket`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RequestRoute {
    Handshake,
    Session(SessionId),
}

/// Returns whether a request contains a session id, valid or not.
pub(super) fn names_session(head: &RequestHead) -> bool {
    form_urlencoded::parse(head.uri.query().unwrap_or("").as_bytes()).any(|(name, _)| name == "sid")
}

/// Parses the destination of a request. Checks in engine.io's order: transport, session, method,
/// version.
pub(crate) fn route(query: &str, method: &Method, upgrade: bool) -> Result<RequestRoute, HttpRefusal> {
    let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    let websocket = match last(&pairs, "transport") {
        Some("polling") => false,
        Some("websocket") => true,
        _ => return Err(HttpRefusal::UnknownTransport),
    };
    let version = last(&pairs, "EIO");
    let Some(sid) = last(&pairs, "sid") else {
        if method != Method::GET {
            return Err(HttpRefusal::BadMethod);
        }
        if websocket != upgrade {
            return Err(HttpRefusal::BadRequest);
        }
        return match version {
            Some("4") => Ok(RequestRoute::Handshake),
            _ => Err(HttpRefusal::UnsupportedVersion),
        };
    };
    let id = SessionId::parse(sid).map_err(|_| HttpRefusal::UnknownSession)?;
    if websocket != upgrade || version != Some("4") {
        return Err(HttpRefusal::BadRequest);
    }
    Ok(RequestRoute::Session(id))
}

/// The last value of a key, as in engine.io. Some clients append their parameters to a query that
/// contains them already.
fn last<'a>(pairs: &'a [(Cow<'_, str>, Cow<'_, str>)], key: &str) -> Option<&'a str> {
    pairs.iter().rfind(|(name, _)| name == key).map(|(_, value)| &**value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SID: &str = "AAAAAAAAAAAAAAAAAAAA";

    fn session() -> Result<RequestRoute, HttpRefusal> {
        Ok(RequestRoute::Session(SessionId::from_random([0; 15])))
    }

    #[test]
    fn requests_are_routed_by_their_query() {
        let get = |query: &str| route(query, &Method::GET, false);
        let upgrade = |query: &str| route(query, &Method::GET, true);
        let post = |query: &str| route(query, &Method::POST, false);
        let with_sid = |rest: &str| format!("{rest}&sid={SID}");
        assert_eq!(get("EIO=4&transport=polling&t=abc"), Ok(RequestRoute::Handshake));
        assert_eq!(upgrade("transport=websocket&EIO=4"), Ok(RequestRoute::Handshake));
        assert_eq!(post(&with_sid("EIO=4&transport=polling")), session());
        assert_eq!(upgrade(&with_sid("EIO=4&transport=websocket")), session());
        // python-socketio and rust_socketio append their parameters to a URL that contains them
        // already.
        assert_eq!(get("EIO=4&transport=polling&EIO=4&transport=polling"), Ok(RequestRoute::Handshake));
        assert_eq!(get("EIO=3&transport=websocket&transport=polling&EIO=4"), Ok(RequestRoute::Handshake));
        assert_eq!(post(&with_sid("EIO=4&transport=polling&sid=a")), session());

        for (query, expected) in [
            ("", HttpRefusal::UnknownTransport),
            ("EIO=4", HttpRefusal::UnknownTransport),
            ("EIO=4&transport=constructor", HttpRefusal::UnknownTransport),
            ("EIO=4&transport=__proto__", HttpRefusal::UnknownTransport),
            ("EIO=4&transport=polling&transport=", HttpRefusal::UnknownTransport),
            ("transport=polling", HttpRefusal::UnsupportedVersion),
            ("EIO=3&transport=polling", HttpRefusal::UnsupportedVersion),
            ("EIO=4&EIO=3&transport=polling", HttpRefusal::UnsupportedVersion),
            ("EIO=4&transport=polling&sid=", HttpRefusal::UnknownSession),
            ("EIO=4&transport=polling&sid=nope", HttpRefusal::UnknownSession),
            ("EIO=4&transport=polling&sid=a&sid=b", HttpRefusal::UnknownSession),
            ("EIO=4&transport=websocket", HttpRefusal::BadRequest),
            (&with_sid("EIO=3&transport=polling"), HttpRefusal::BadRequest),
            (&with_sid("EIO=4&transport=websocket"), HttpRefusal::BadRequest),
        ] {
            assert_eq!(get(query), Err(expected), "{query}");
        }
        assert_eq!(post("EIO=4&transport=polling"), Err(HttpRefusal::BadMethod));
        assert_eq!(upgrade("EIO=4&transport=polling"), Err(HttpRefusal::BadRequest));
    }
}
