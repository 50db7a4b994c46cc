//! Builder of a server: its settings, their checks, and the start of the server.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};
use std::thread;

use actix::System;
use thiserror::Error;
use tokio::sync::broadcast;

use super::http_permits::HttpPermits;
use super::queue::Queue;
use super::recovery::{JournalKind, Recovery};
use super::start::{HubSettings, for_durable, log_budgets, open_server_sender, start_hub};
use super::{Server, memory};
use crate::api::core::Core;
use crate::api::encoder::Encoder;
use crate::api::namespace::Namespace;
use crate::api::registry::Registry;
use crate::ids::NamespacePath;
use crate::journal::OpenError as JournalOpenError;
use crate::limits::Limits;
use crate::live::Live;
use crate::messages::handshake::Handshake;
use crate::metrics::Metrics;
use crate::protocol::socketio::Parser;
use crate::session::Services;
use crate::session::directory::Directory;
use crate::state::budget::Budgets;
use crate::transport::cookie::{Cookie, CookieError};
use crate::transport::cors::{Cors, CorsError};
use crate::transport::hosts::Hosts;
use crate::transport::networks::{AddressRules, Networks};
use crate::transport::proxies::Proxies;
use crate::transport::websocket::frame_reader::MessageBounds;
use crate::transport::{AccessPolicy, AllowRequest, Endpoint};
use crate::worker::per_thread::WorkerFactory;

/// Error of [`Builder::build`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No actix system runs on the thread. Build the server under `#[actix_web::main]` or in
    /// `actix::System::new().block_on(…)`. Under `#[tokio::main]`, use [`Builder::spawn`].
    #[error(
        "no actix system runs on this thread; #[tokio::main] starts none: use Builder::spawn, #[actix_web::main], or \
         actix::System::new().block_on(…), and build the server inside"
    )]
    NoSystem,
    /// The path must begin with a slash and, apart from one trailing slash that is ignored, not end
    /// with one.
    #[error("path {0:?} must begin with \"/\" and not end with it")]
    Path(String),
    /// An origin of [`Builder::cors`] is invalid, or the settings contradict each other.
    #[error("cors: {0}")]
    Cors(#[from] CorsError),
    /// The cookie is invalid.
    #[error("cookie: {0}")]
    Cookie(#[from] CookieError),
    /// A trusted proxy is invalid. It must be an address, a network with a prefix length, or
    /// `unix`.
    #[error("trusted proxy {0:?}: expected an address, a network such as \"10.0.0.0/8\", or \"unix\"")]
    Proxy(String),
    /// An allowed or denied address is invalid. It must be an address, or a network with a prefix
    /// length.
    #[error("address {0:?}: expected an address or a network such as \"192.0.2.0/24\"")]
    Address(String),
    /// An allowed host is invalid. It must be a name or an address, without scheme and port, or
    /// `*`.
    #[error("allowed host {0:?}: expected a name or an address without a port, such as \"hub.example.org\"")]
    Host(String),
    /// The system provides no random bytes.
    #[error("the system provides no random bytes: {0}")]
    Random(#[from] getrandom::Error),
    /// The journal cannot be opened: another server uses its folder, or the folder is unusable.
    #[error("recovery: {0}")]
    Journal(#[from] JournalOpenError),
    /// The journal was opened but cannot be read.
    #[error("recovery: {0}")]
    JournalRead(String),
    /// The queue cannot be opened: another server uses its folder, or the folder is unusable. The
    /// text says what to do.
    #[error("queue: {0}")]
    Queue(String),
    /// The hub's thread did not start.
    #[error("the hub's thread did not start")]
    Hub,
}

/// Settings of a server that is not yet built.
#[derive(Debug, Clone)]
pub struct Builder {
    path: String,
    recovery: Recovery,
    queue: Queue,
    parser: Parser,
    limits: Limits,
    ack_errors: bool,
    policy: AccessPolicy,
    trusted_proxies: Vec<String>,
    allowed_hosts: Option<Vec<String>>,
    allowed_addresses: Vec<String>,
    denied_addresses: Vec<String>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            path: "/socket.io".into(),
            recovery: Recovery::off(),
            queue: Queue::off(),
            parser: Parser::default(),
            limits: Limits::default(),
            ack_errors: false,
            policy: AccessPolicy::default(),
            trusted_proxies: Vec::new(),
            allowed_hosts: None,
            allowed_addresses: Vec::new(),
            denied_addresses: Vec::new(),
        }
    }
}

impl Builder {
    /// Path to which clients connect. A trailing slash makes no difference, neither here nor in
    /// requests. The default is `/socket.io`.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        self.path = path.strip_suffix('/').unwrap_or(path).to_owned();
        self
    }

    /// Storage of events for clients that reconnect. The default is [`Recovery::off`].
    #[must_use]
    pub fn recovery(mut self, recovery: Recovery) -> Self {
        self.recovery = recovery;
        self
    }

    /// Storage of durable events. The default is [`Queue::off`].
    #[must_use]
    pub fn queue(mut self, queue: Queue) -> Self {
        self.queue = queue;
        self
    }

    /// Encoding of packets. All clients must use the same encoding. The default is
    /// [`Parser::Json`].
    #[must_use]
    pub fn parser(mut self, parser: Parser) -> Self {
        self.parser = parser;
        self
    }

    /// Enables acks with errors. If an event that expects an ack has no handler (`unknown_event`),
    /// or if its arguments have the wrong type (`bad_request`), the ack is
    /// `{"error":{"code","message"}}`. By default, such an event gets no ack, as in the Node
    /// server. With and without this setting, the log contains the event and the reason.
    #[must_use]
    pub fn ack_errors(mut self, ack_errors: bool) -> Self {
        self.ack_errors = ack_errors;
        self
    }

    /// Limits on numbers, sizes, rates and times.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Web pages of other origins that may use the server. By default the server sends no CORS
    /// headers, so browsers block such pages.
    #[must_use]
    pub fn cors(mut self, cors: Cors) -> Self {
        self.policy.cors = Some(cors);
        self
    }

    /// Host names, without ports, that the Host header of a request may have, in addition to the
    /// loopback names (`localhost` and its subdomains, `127.0.0.0/8`, `[::1]`). `*` allows any
    /// host. Requests with another Host get status 421. This check blocks pages of other sites
    /// whose host name resolves to this machine (DNS rebinding).
    ///
    /// By default a [`Port`](crate::Port) on a loopback address, and a unix socket, admit only the
    /// loopback names. Other ports, and applications with [`Server::routes`], admit any host.
    #[must_use]
    pub fn allowed_hosts(mut self, hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.allowed_hosts = Some(hosts.into_iter().map(Into::into).collect());
        self
    }

    /// Refuses websockets whose Origin header names another site, unless [`Builder::cors`] admits
    /// that origin. The server's own site is the Host of the request, or the X-Forwarded-Host of a
    /// trusted proxy. Clients that are not browsers send no Origin and are accepted. As in
    /// engine.io, this check is off by default.
    #[must_use]
    pub fn guard_origins(mut self) -> Self {
        self.policy.guards_origins = true;
        self
    }

    /// Cookie with the session id, for load balancers that route by this cookie. By default, the
    /// server sets no cookie.
    #[must_use]
    pub fn cookie(mut self, cookie: Cookie) -> Self {
        self.policy.cookie = Some(cookie);
        self
    }

    /// Callback that accepts or refuses handshakes. The callback runs after the protocol checks and
    /// before a session exists, and receives the whole head of the request. Its future need not be
    /// `Send`. If the future returns an error, the handshake is refused with status 403 (400 on a
    /// websocket, as in engine.io) and the error as message, or "Forbidden" if the error is empty.
    /// A handshake without a decision within [`allow_request_timeout`] gets status 503.
    ///
    /// [`allow_request_timeout`]: crate::limits::HandlerLimits::allow_request_timeout
    ///
    /// ```
    /// # use stentor::Server;
    /// let builder = Server::builder().allow_request(|handshake| async move {
    ///     match handshake.header("origin") {
    ///         None | Some("https://example.org") => Ok(()),
    ///         Some(origin) => Err(format!("{origin} is not welcome")),
    ///     }
    /// });
    /// ```
    #[must_use]
    pub fn allow_request<F, Fut>(mut self, allow: F) -> Self
    where
        F: Fn(Handshake) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + 'static,
    {
        self.policy.allow_request = Some(AllowRequest::new(allow));
        self
    }

    /// Addresses and networks (`10.0.0.0/8`, `fd00::/8`) of proxies in front of the server. The
    /// server trusts the entries that these proxies wrote into the headers `X-Forwarded-For` and
    /// `X-Forwarded-Proto`, or `Forwarded` (RFC 7239). See [`Handshake::address`]. No proxy is
    /// trusted by default.
    ///
    /// A proxy must write only one of the two kinds of headers. If both kinds are present and name
    /// different clients, one is forged, and the server uses the address of the proxy.
    ///
    /// `unix` names the peers of unix sockets, which have no address.
    #[must_use]
    pub fn trusted_proxies(mut self, networks: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.trusted_proxies = networks.into_iter().map(Into::into).collect();
        self
    }

    /// Addresses and networks from which clients may connect. By default, or if the list is empty,
    /// these are all addresses. A port of the server's own closes other connections when it accepts
    /// them. Behind [trusted proxies](Self::trusted_proxies), and in a host application, requests
    /// of other clients get status 403. The proxies themselves are always allowed.
    #[must_use]
    pub fn allowed_addresses(mut self, networks: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.allowed_addresses = networks.into_iter().map(Into::into).collect();
        self
    }

    /// Addresses and networks from which clients may not connect, even if
    /// [`allowed_addresses`](Self::allowed_addresses) contains them.
    #[must_use]
    pub fn denied_addresses(mut self, networks: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.denied_addresses = networks.into_iter().map(Into::into).collect();
        self
    }

    /// Checks path, CORS, cookie, trusted proxies, addresses and allowed hosts as
    /// [`build`](Self::build) does. Needs no actix system.
    pub fn check(&self) -> Result<(), BuildError> {
        self.access_policy().map(drop)
    }

    fn access_policy(&self) -> Result<AccessPolicy, BuildError> {
        if !self.path.starts_with('/') || self.path.ends_with('/') {
            return Err(BuildError::Path(self.path.clone()));
        }
        self.policy.cors.as_ref().map_or(Ok(()), Cors::check)?;
        self.policy.cookie.as_ref().map_or(Ok(()), Cookie::check)?;
        let mut policy = self.policy.clone();
        policy.proxies = Proxies::parse(&self.trusted_proxies).map_err(BuildError::Proxy)?;
        policy.addresses = AddressRules {
            allowed: Networks::parse(&self.allowed_addresses).map_err(BuildError::Address)?,
            denied: Networks::parse(&self.denied_addresses).map_err(BuildError::Address)?,
        };
        policy.hosts = self.allowed_hosts.as_ref().map(Hosts::parse).transpose().map_err(BuildError::Host)?;
        Ok(policy)
    }

    /// Builds the server on a thread of its own, for programs without an actix system, such as
    /// those under `#[tokio::main]`. `serve` runs on that thread, registers handlers and serves a
    /// port. The server [closes](Server::close) when `serve` returns, after which no durable event
    /// is stored. If `serve` returns an error, such as that of a port in use, the error is logged.
    ///
    /// ```no_run
    /// # fn start() -> Result<(), Box<dyn std::error::Error>> {
    /// let io = stentor::Server::builder().spawn(|io| async move {
    ///     io.of("/").on_connection(|socket| async move { Ok(socket.join("lobby").await.map(drop)?) });
    ///     io.bind(("127.0.0.1", 3000))?.disable_signals().run().await
    /// })?;
    /// # let _ = io;
    /// # Ok(()) }
    /// ```
    ///
    /// The returned server works on every thread and in every tokio runtime. If signals are
    /// disabled, as in this example, call [`Server::close`] before the program ends, so that
    /// clients reconnect. If signals are enabled, SIGINT and SIGTERM end `serve`.
    pub fn spawn<F, Fut>(self, serve: F) -> Result<Server, BuildError>
    where
        F: FnOnce(Server) -> Fut + Send + 'static,
        Fut: Future<Output = io::Result<()>> + 'static,
    {
        let (sender, built) = mpsc::channel();
        let run = move || {
            System::new().block_on(async {
                let io = self.build();
                let server = io.as_ref().ok().cloned();
                let _ = sender.send(io);
                let Some(server) = server else { return };
                if let Err(error) = serve(server.clone()).await {
                    log::error!("server ended error={error}");
                }
                // Also after an error, when no listener has closed it.
                server.close().await;
            });
        };
        thread::Builder::new().name("stentor".into()).spawn(run).map_err(|_| BuildError::Hub)?;
        built.recv().unwrap_or(Err(BuildError::Hub))
    }

    /// Builds the server and starts its hub on a separate thread. Must be called inside an actix
    /// system. The hub ends with the system.
    pub fn build(self) -> Result<Server, BuildError> {
        if System::try_current().is_none() {
            return Err(BuildError::NoSystem);
        }
        let mut policy = self.access_policy()?;
        let Self { path, recovery, queue, parser, limits, ack_errors, .. } = self;
        let limits = limits.bounded().within(memory::available());
        log_budgets(&limits);
        let budgets = Arc::new(Budgets::new(&limits));
        policy.messages = Arc::new(MessageBounds::new(&limits, budgets.incoming.clone()));
        let metrics = Arc::<Metrics>::default();
        let (room_changes, _) = broadcast::channel(limits.hub.room_events_max.max(1));
        let settings =
            HubSettings { limits: &limits, journal_kind: &recovery.journal_kind, queue_kind: &queue.kind, parser };
        let hub = start_hub(settings, metrics.clone(), budgets.clone(), room_changes.clone())?;
        let workers =
            Arc::new(WorkerFactory::new(hub.address.commands.clone(), limits.clone(), budgets, metrics.clone()));
        let server_sender = open_server_sender(&hub, &workers, &limits, &metrics)?;
        let durable_sender = match hub.queue {
            Some(_) => open_server_sender(&hub, &workers, &for_durable(&limits), &metrics)?,
            None => server_sender.clone(),
        };
        let http_permits = HttpPermits::new(limits.http.connections_max, limits.http.reserve);
        let core = Arc::new(Core {
            server_sender,
            durable_sender,
            encoder: Encoder { parser, recovery: recovery.journal_kind != JournalKind::Off, ack_errors },
            recovery_clients: recovery.clients,
            limits: limits.into(),
            registry: Registry::default(),
            room_changes,
            queue: hub.queue.clone(),
            subscribers: hub.subscribers,
        });
        let root = Namespace::new(core.clone(), NamespacePath::root());
        let directory = Directory::new(Limits::clone(&core.limits));
        let services = Services { core, directory: Arc::new(directory) };
        let accepting = Arc::new(AtomicBool::new(true));
        let endpoint = Endpoint { services, workers, policy: Live::new(policy), accepting };
        Ok(Server {
            endpoint,
            hub: hub.address,
            queue: hub.queue,
            hub_thread: hub.thread,
            path: path.into(),
            root,
            metrics,
            http_permits,
        })
    }
}

impl Server {
    /// Replaces those settings of the running server that can change by the ones of `builder`: who
    /// may connect ([`Builder::cors`], [`Builder::guard_origins`], [`Builder::allowed_hosts`],
    /// [`Builder::allowed_addresses`], [`Builder::denied_addresses`], [`Builder::allow_request`]),
    /// [`Builder::trusted_proxies`], [`Builder::cookie`], and of the limits [`sessions.max`],
    /// [`sessions.per_address_max`] and the [rates] of clients. All other settings of `builder` are
    /// ignored.
    ///
    /// The settings apply to requests and sessions that begin afterwards; open sessions continue.
    /// If `sessions.per_address_max` was not set before, only later sessions count towards it.
    ///
    /// # Errors
    ///
    /// Fails as [`Builder::check`] does, and then changes nothing.
    ///
    /// [`sessions.max`]: crate::limits::SessionLimits::max
    /// [`sessions.per_address_max`]: crate::limits::SessionLimits::per_address_max
    /// [rates]: crate::limits::RateLimits
    pub fn reload(&self, builder: &Builder) -> Result<(), BuildError> {
        let mut policy = builder.access_policy()?;
        policy.continue_from(&self.endpoint.policy.get());
        let directory = &self.endpoint.services.directory;
        let new = builder.limits.clone().bounded().within(memory::available());
        let mut limits = Limits::clone(&directory.limits.get());
        limits.sessions.max = new.sessions.max;
        limits.sessions.per_address_max = new.sessions.per_address_max;
        limits.rates = new.rates;
        self.endpoint.policy.set(policy);
        directory.set_limits(limits);
        Ok(())
    }
}
