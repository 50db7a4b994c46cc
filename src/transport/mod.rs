//! Transports: admission of requests, and the connections over which a session's packets are sent.

pub(crate) mod access_policy;
pub(crate) mod body;
pub(crate) mod cookie;
pub(crate) mod cors;
pub(crate) mod encryption;
pub(crate) mod hosts;
pub(crate) mod network_stream;
pub(crate) mod networks;
mod origins;
pub(crate) mod polling;
pub(crate) mod proxies;
mod refusal;
pub(crate) mod websocket;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use actix_http::RequestHead;
use actix_web::http::header::{self, HeaderValue};

use self::cookie::Cookie;
use self::cors::Cors;
use self::hosts::Hosts;
use self::networks::AddressRules;
use self::proxies::Proxies;
use self::websocket::frame_reader::MessageBounds;
use crate::live::Live;
use crate::messages::session::SessionLink;
use crate::session::{InitialTransport, PendingSession, Services, Session};
use crate::worker::Worker;
use crate::worker::per_thread::WorkerFactory;

use self::access_policy::names_session;
pub(crate) use self::access_policy::{Admitted, AllowRequest, HandshakeRequest};
pub(crate) use self::refusal::HttpRefusal;
use self::refusal::{RefusalLog, RequestSource};

#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) services: Services,
    pub(crate) workers: Arc<WorkerFactory>,
    pub(crate) policy: Live<AccessPolicy>,
    /// True if new sessions are accepted. Set to false, permanently, when the server begins to
    /// close.
    pub(crate) accepting: Arc<AtomicBool>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct AccessPolicy {
    /// Web pages of other origins that may use the server. If `None`, no CORS headers are sent.
    pub(crate) cors: Option<Cors>,
    pub(crate) cookie: Option<Cookie>,
    /// True if websockets of other origins are refused, unless `cors` admits them.
    pub(crate) guards_origins: bool,
    /// Accepted Host headers. If `None`, the default for the listening address applies.
    pub(crate) hosts: Option<Hosts>,
    /// Trusted proxies, whose headers name the client's address.
    pub(crate) proxies: Proxies,
    /// Addresses from which clients may connect.
    pub(crate) addresses: AddressRules,
    /// The application's check of handshakes. If `None`, all handshakes are admitted.
    pub(crate) allow_request: Option<AllowRequest>,
    pub(crate) messages: Arc<MessageBounds>,
    refusals: Arc<RefusalLog>,
}

impl AccessPolicy {
    /// Keeps of `former` what belongs to the server and not to its settings.
    pub(crate) fn continue_from(&mut self, former: &Self) {
        self.messages = former.messages.clone();
        self.refusals = former.refusals.clone();
    }

    fn cookie(&self, pending: &PendingSession) -> Option<HeaderValue> {
        self.cookie.as_ref()?.header(&pending.id)
    }

    /// Returns whether a connection from `peer` may send requests. A trusted proxy may; its clients
    /// are checked with each of their requests.
    pub(crate) fn admits_peer(&self, peer: IpAddr) -> bool {
        self.addresses.admit(peer) || self.proxies.trusts(peer.to_canonical())
    }

    /// Returns whether the client of a request may send it. A trusted proxy may send requests of
    /// its own, such as health checks, and so may a peer of a unix socket, which has no address.
    pub(crate) fn admits_client(&self, head: &RequestHead) -> bool {
        let client = || self.proxies.client(head.peer_addr, &head.headers).address;
        !self.addresses.are_set() || client().is_none_or(|client| self.admits_peer(client))
    }
}

impl Endpoint {
    /// Counts and logs a refused request. Returns details for the client, if there are any.
    fn record_refusal(&self, refusal: &HttpRefusal, head: &RequestHead) -> Option<String> {
        self.worker().metrics().requests_refused[refusal.kind()].add(1);
        if names_session(head) {
            // Clients often return with the id of an ended session, which is normal. The query is
            // not logged, since the session id in it is a secret.
            log::debug!("request refused method={} refusal={refusal:?}", head.method);
            return None;
        }
        let detail = refusal.detail(head);
        self.policy.get().refusals.log_refusal(refusal, detail.as_deref(), &self.source(head));
        detail
    }

    /// Logs a request for a path that the server does not serve, if it is a Socket.IO handshake.
    pub(crate) fn record_not_found(&self, head: &RequestHead) {
        if head.uri.query().is_some_and(|query| query.contains("EIO=")) {
            self.policy.get().refusals.log_wrong_path(head.uri.path(), &self.source(head));
        }
    }

    fn source<'a>(&self, head: &'a RequestHead) -> RequestSource<'a> {
        RequestSource {
            address: self.policy.get().proxies.client(head.peer_addr, &head.headers).address,
            origin: head.headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok()),
            is_upgrade: head.upgrade(),
        }
    }

    fn worker(&self) -> Rc<Worker> {
        self.workers.current()
    }

    pub(crate) fn open(&self, pending: PendingSession, initial: InitialTransport) -> SessionLink {
        Session::open(self.worker(), self.services.core.clone(), pending, initial)
    }
}
