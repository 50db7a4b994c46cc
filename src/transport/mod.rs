//! Transports: who is let in, and the ways in which a session's packets travel.

pub(crate) mod access_policy;
pub(crate) mod body;
pub(crate) mod cookie;
pub(crate) mod cors;
pub(crate) mod hosts;
mod origins;
pub(crate) mod polling;
pub(crate) mod proxies;
mod refusal;
pub(crate) mod websocket;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use actix_http::RequestHead;
use actix_web::http::header::{self, HeaderValue};

use self::cookie::Cookie;
use self::cors::Cors;
use self::hosts::Hosts;
use self::proxies::Proxies;
use self::websocket::frames::MessageBounds;
use crate::messages::session::SessionLink;
use crate::session::{InitialTransport, PendingSession, Services, Session};
use crate::worker::Worker;
use crate::worker::per_thread::WorkerFactory;

use self::access_policy::is_of_session;
pub(crate) use self::access_policy::{Admitted, AllowRequest, HandshakeRequest};
pub(crate) use self::refusal::Refusal;
use self::refusal::{RefusalLog, RequestSource};

/// The server, as its transports see it.
#[derive(Clone)]
pub(crate) struct Endpoint {
    /// What sessions need.
    pub(crate) services: Services,
    /// Where sessions live.
    pub(crate) workers: Arc<WorkerFactory>,
    /// Decides which requests are admitted, and the answers to the others.
    pub(crate) policy: Arc<AccessPolicy>,
    /// Whether new sessions are let in. Cleared, for good, by the server when it begins to close.
    pub(crate) accepting: Arc<AtomicBool>,
}

/// The settings by which a server admits clients.
#[derive(Debug, Clone, Default)]
pub(crate) struct AccessPolicy {
    /// Which web pages of other origins may use the server. `None`: nothing is said of them.
    pub(crate) cors: Option<Cors>,
    /// What the answer to a handshake sets.
    pub(crate) cookie: Option<Cookie>,
    /// Whether websockets that name the origin of another site are refused, unless `cors` admits it.
    pub(crate) guards_origins: bool,
    /// Under which names the server may be reached. `None`: it depends on the address that is listened on.
    pub(crate) hosts: Option<Hosts>,
    /// Who is believed about addresses.
    pub(crate) proxies: Proxies,
    /// The application's check of handshakes. `None`: all are admitted.
    pub(crate) allow_request: Option<AllowRequest>,
    /// What bounds the messages of websockets.
    pub(crate) messages: Arc<MessageBounds>,
    refusals: Arc<RefusalLog>,
}

impl AccessPolicy {
    /// The cookie for a new client.
    fn cookie(&self, pending: &PendingSession) -> Option<HeaderValue> {
        self.cookie.as_ref()?.header(&pending.id)
    }
}

impl Endpoint {
    /// A request was refused. Gives what was wrong, where there is more to say than the refusal does.
    fn record_refusal(&self, refusal: &Refusal, head: &RequestHead) -> Option<String> {
        self.worker().metrics().requests_refused[refusal.kind()].add(1);
        if is_of_session(head) {
            // Clients come back with ids of sessions that have ended: nothing to look at. Without the query: the id in it is a
            // bearer secret.
            log::debug!("request refused method={} refusal={refusal:?}", head.method);
            return None;
        }
        let detail = refusal.detail(head);
        self.policy.refusals.log_refusal(refusal, detail.as_deref(), &self.origin(head));
        detail
    }

    /// A request was for no path of this server.
    pub(crate) fn record_not_found(&self, head: &RequestHead) {
        if head.uri.query().is_some_and(|query| query.contains("EIO=")) {
            self.policy.refusals.log_wrong_path(head.uri.path(), &self.origin(head));
        }
    }

    fn origin<'a>(&self, head: &'a RequestHead) -> RequestSource<'a> {
        RequestSource {
            address: head.peer_addr.map(|peer| self.policy.proxies.client(peer.ip(), &head.headers).address),
            origin: head.headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok()),
            is_upgrade: head.upgrade(),
        }
    }

    fn worker(&self) -> Rc<Worker> {
        self.workers.current()
    }

    /// Opens a session for a handshake that was admitted.
    pub(crate) fn open(&self, pending: PendingSession, initial: InitialTransport) -> SessionLink {
        Session::open(self.worker(), self.services.core.clone(), pending, initial)
    }
}
