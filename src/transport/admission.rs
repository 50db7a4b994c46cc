//! Admission: from the head of a request to the session that it is for, or to a newcomer who may open one.
//!
//! Both transports and both ways to a websocket come through here. Nothing is answered or opened yet.

use std::sync::atomic::Ordering;

use actix_http::RequestHead;
use actix_web::http::Method;
use actix_web::web::Query;

use super::{Endpoint, Refusal};

use crate::ids::SessionId;
use crate::messages::handshake::Handshake;
use crate::messages::session::SessionLink;
use crate::session::Newcomer;

/// A request at the door.
#[derive(Clone, Copy)]
pub(crate) struct Knock<'a> {
    /// What it says.
    pub(crate) head: &'a RequestHead,
    /// Whether it asks to become a websocket.
    pub(crate) upgrade: bool,
}

/// Who is let in.
pub(crate) enum Admitted {
    /// The client of this session.
    Session(SessionLink),
    /// Somebody who may open one.
    Newcomer(Newcomer),
}

impl Endpoint {
    /// Checks a request in the order of engine.io: transport, session, method, version, application.
    pub(crate) async fn admit(&self, knock: Knock<'_>) -> Result<Admitted, Refusal> {
        let head = knock.head;
        if knock.upgrade && self.door.cors.as_ref().is_some_and(|cors| !cors.admits_websocket(&head.headers)) {
            return Err(Refusal::Forbidden("Origin not allowed".into()));
        }
        match route(head.uri.query().unwrap_or(""), &head.method, knock.upgrade)? {
            Route::Session(id) => self.find(&id).map(Admitted::Session),
            Route::Handshake => self.admit_newcomer(knock).await.map(Admitted::Newcomer),
        }
    }

    async fn admit_newcomer(&self, knock: Knock<'_>) -> Result<Newcomer, Refusal> {
        let head = knock.head;
        let bytes_max = self.services.core.limits.handshake_bytes_max;
        self.has_room()?;
        let headers = head.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let handshake = Handshake::new(head.uri.query().unwrap_or(""), headers, head.peer_addr, bytes_max);
        Newcomer::new(handshake).map_err(|error| {
            log::error!("session not opened, the system gives no random bytes error={error}");
            Refusal::BadRequest
        })
    }

    /// Whether one more session may be opened.
    fn has_room(&self) -> Result<(), Refusal> {
        let room = self.room();
        if room == Err(Refusal::Full) {
            log::warn!("session refused, there are as many as there may be count={}", self.services.directory.len());
        }
        room
    }

    /// The same, for whoever only wants to know.
    pub(crate) fn room(&self) -> Result<(), Refusal> {
        if !self.accepting.load(Ordering::Relaxed) {
            return Err(Refusal::Closing);
        }
        if self.services.directory.len() >= self.services.core.limits.sessions_max {
            return Err(Refusal::Full);
        }
        Ok(())
    }

    fn find(&self, id: &SessionId) -> Result<SessionLink, Refusal> {
        self.services.directory.find(id).ok_or(Refusal::UnknownSession)
    }
}

/// What a request is for. That its transport is a websocket exactly if it is an upgrade has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// A new session.
    Handshake,
    /// This session.
    Session(SessionId),
}

/// Reads what a request is for. Checks in the order of engine.io: transport, session, method, version.
pub(crate) fn route(query: &str, method: &Method, upgrade: bool) -> Result<Route, Refusal> {
    let pairs = Query::<Vec<(String, String)>>::from_query(query).map_or_else(|_| Vec::new(), Query::into_inner);
    let websocket = match single(&pairs, "transport", Refusal::UnknownTransport)? {
        Some("polling") => false,
        Some("websocket") => true,
        _ => return Err(Refusal::UnknownTransport),
    };
    let version = single(&pairs, "EIO", Refusal::UnsupportedVersion);
    let Some(sid) = single(&pairs, "sid", Refusal::UnknownSession)? else {
        if method != Method::GET {
            return Err(Refusal::BadMethod);
        }
        if websocket != upgrade {
            return Err(Refusal::BadRequest);
        }
        return match version? {
            Some("4") => Ok(Route::Handshake),
            _ => Err(Refusal::UnsupportedVersion),
        };
    };
    let id = SessionId::parse(sid).map_err(|_| Refusal::UnknownSession)?;
    if websocket != upgrade || version.ok().flatten() != Some("4") {
        return Err(Refusal::BadRequest);
    }
    Ok(Route::Session(id))
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

    fn session() -> Result<Route, Refusal> {
        Ok(Route::Session(SessionId::from_random([0; 15])))
    }

    #[test]
    fn requests_are_routed_by_their_query() {
        let get = |query: &str| route(query, &Method::GET, false);
        let upgrade = |query: &str| route(query, &Method::GET, true);
        let post = |query: &str| route(query, &Method::POST, false);
        let with_sid = |rest: &str| format!("{rest}&sid={SID}");
        assert_eq!(get("EIO=4&transport=polling&t=abc"), Ok(Route::Handshake));
        assert_eq!(upgrade("transport=websocket&EIO=4"), Ok(Route::Handshake));
        assert_eq!(post(&with_sid("EIO=4&transport=polling")), session());
        assert_eq!(upgrade(&with_sid("EIO=4&transport=websocket")), session());

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
