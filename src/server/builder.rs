//! Setting a server up.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix::{Actor, Arbiter, System};
use thiserror::Error;
use tokio::sync::broadcast;

use super::http_permits::HttpPermits;
use super::{Server, memory};
use crate::api::core::Core;
use crate::api::encoder::Encoder;
use crate::api::namespace::Namespace;
use crate::api::recovery_clients::RecoveryClients;
use crate::api::registry::Registry;
use crate::hub::journal_writer::JournalWriter;
use crate::hub::{Hub, HubAddress, Stores};
use crate::ids::{Epoch, Lsn, NamespacePath};
use crate::journal::file::{FileJournal, FileOptions, Start};
use crate::journal::folder::BootId;
use crate::journal::memory::MemoryJournal;
use crate::journal::{Journal, OpenError as JournalOpenError};
use crate::limits::Limits;
use crate::messages::handshake::Handshake;
use crate::messages::room_change::RoomChange;
use crate::metrics::Metrics;
use crate::protocol::socketio::Parser;
use crate::session::Services;
use crate::session::directory::Directory;
use crate::state::budget::Budgets;
use crate::transport::cookie::{Cookie, CookieError};
use crate::transport::cors::{Cors, CorsError};
use crate::transport::hosts::Hosts;
use crate::transport::proxies::Proxies;
use crate::transport::websocket::frames::MessageBounds;
use crate::transport::{AccessPolicy, AllowRequest, Endpoint};
use crate::worker::per_thread::WorkerFactory;
use crate::worker::server_sender::ServerSender;

/// For the hub's thread to say that it stands.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether, and where, events are kept for clients that come back.
///
/// With recovery on, every event without ack id bears an offset token as its last argument, and CONNECT replies a `pid`, for
/// clients that are recoverable (see [`RecoveryClients`]); a client
/// of `socket.io-client` 4.6 or later that loses its connection comes back with both, within [`limits.recovery.window`](crate::limits::RecoveryLimits::window), and is
/// the socket that it was, with its id, rooms and data, and with every event that it missed, volatile ones excepted. Where one of those
/// cannot be had any more, it is a new socket and its `recovered` is false.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    journal_kind: JournalKind,
    clients: RecoveryClients,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum JournalKind {
    #[default]
    Off,
    Memory,
    Folder(PathBuf),
}

impl Recovery {
    /// Nothing is numbered, events bear no token.
    pub const fn off() -> Self {
        Self { journal_kind: JournalKind::Off, clients: RecoveryClients::Auto }
    }

    /// Events are numbered and kept in memory, bounded by [`limits.journal.records_max`](crate::limits::JournalLimits::records_max) and
    /// [`limits.journal.bytes_max`](crate::limits::JournalLimits::bytes_max); gone with the process.
    pub const fn memory() -> Self {
        Self { journal_kind: JournalKind::Memory, clients: RecoveryClients::Auto }
    }

    /// Events are numbered and kept in files of this folder, which is made if it is not there, bounded by
    /// [`limits.journal.segments_max`](crate::limits::JournalLimits::segments_max) and [`limits.journal.segment_bytes`](crate::limits::JournalLimits::segment_bytes); the newest of them in memory too.
    ///
    /// An event is shown to clients after it has been written, without fsync: it outlives the process, however that dies. After the
    /// machine has lost power nobody can say what is missing, so what was kept is discarded, and all clients are notified. One
    /// server at a time may use the folder.
    pub fn disk(folder: impl Into<PathBuf>) -> Self {
        Self { journal_kind: JournalKind::Folder(folder.into()), clients: RecoveryClients::Auto }
    }

    /// Which clients are recoverable; [`RecoveryClients::Auto`] by default. To all others events look as they do without recovery.
    #[must_use]
    pub fn clients(mut self, clients: RecoveryClients) -> Self {
        self.clients = clients;
        self
    }
}

/// Why a server cannot be built.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Build it inside an actix system: under `#[actix_web::main]`, or in `actix::System::new().block_on(…)`. `#[tokio::main]`
    /// starts none; there, use [`Builder::spawn`].
    #[error(
        "no actix system runs on this thread; #[tokio::main] starts none: use Builder::spawn, #[actix_web::main], or \
         actix::System::new().block_on(…), and build the server inside"
    )]
    NoSystem,
    /// The path must begin with a slash, and not end with one.
    #[error("path {0:?} does not begin with \"/\", or ends with it")]
    Path(String),
    /// Which pages of other origins may use the server cannot be told to browsers.
    #[error("cors: {0}")]
    Cors(#[from] CorsError),
    /// The cookie cannot be set.
    #[error("cookie: {0}")]
    Cookie(#[from] CookieError),
    /// Write addresses, or networks with the length of their prefix.
    #[error("trusted proxy {0:?}: expected an address or a network such as \"10.0.0.0/8\"")]
    Proxy(String),
    /// Write a host's name or address without scheme and port, or `*`.
    #[error("allowed host {0:?}: expected a name or an address without a port, such as \"hub.example.org\"")]
    Host(String),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(#[from] getrandom::Error),
    /// The journal cannot be taken up: its folder is another server's, or cannot be used.
    #[error("recovery: {0}")]
    Journal(#[from] JournalOpenError),
    /// The journal was opened, and cannot be read.
    #[error("recovery: {0}")]
    JournalRead(String),
    /// The hub's thread did not come up.
    #[error("the hub's thread did not start")]
    Hub,
}

/// The settings of a server to be.
#[derive(Debug, Clone)]
pub struct Builder {
    path: String,
    recovery: Recovery,
    parser: Parser,
    limits: Limits,
    ack_errors: bool,
    policy: AccessPolicy,
    trusted_proxies: Vec<String>,
    allowed_hosts: Option<Vec<String>>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            path: "/socket.io".into(),
            recovery: Recovery::off(),
            parser: Parser::default(),
            limits: Limits::default(),
            ack_errors: false,
            policy: AccessPolicy::default(),
            trusted_proxies: Vec::new(),
            allowed_hosts: None,
        }
    }
}

impl Builder {
    /// The path that clients connect to; `/socket.io` by default, with or without a slash at its end.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        self.path = path.strip_suffix('/').unwrap_or(path).to_owned();
        self
    }

    /// Whether, and where, events are kept; off by default.
    #[must_use]
    pub fn recovery(mut self, recovery: Recovery) -> Self {
        self.recovery = recovery;
        self
    }

    /// The form in which packets travel, for all clients; [`Parser::Json`] by default. Clients must be set to the same.
    #[must_use]
    pub fn parser(mut self, parser: Parser) -> Self {
        self.parser = parser;
        self
    }

    /// Whether an event that wants an ack is answered where it has no handler, or its arguments are not of the handler's type: with
    /// `{"error":{"code","message"}}`, where `code` is `unknown_event` or `bad_request`. By default it is not, as with Node; the log
    /// names event and reason in either case.
    #[must_use]
    pub fn ack_errors(mut self, ack_errors: bool) -> Self {
        self.ack_errors = ack_errors;
        self
    }

    /// Bounds and deadlines.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Which web pages of other origins may use the server. By default no header speaks of origins, so that browsers
    /// keep such pages away.
    #[must_use]
    pub fn cors(mut self, cors: Cors) -> Self {
        self.policy.cors = Some(cors);
        self
    }

    /// The hosts that requests may name, without ports, beside the names of the loopback (`localhost` and names below it,
    /// `127.0.0.0/8`, `[::1]`); `*` is any host. Others are refused with 421. It keeps away pages of other sites whose name was
    /// made to point at this machine (DNS rebinding).
    ///
    /// By default a [`Listener`](crate::Listener) on a loopback address admits the names of the loopback alone, and every other
    /// one any host; in an application of one's own ([`Server::routes`]) any host is admitted.
    #[must_use]
    pub fn allowed_hosts(mut self, hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.allowed_hosts = Some(hosts.into_iter().map(Into::into).collect());
        self
    }

    /// Refuses websockets that name the origin of another site, which browsers do at each that a page opens, unless
    /// [`Builder::cors`] admits it. The server's own site is that of the request's Host, or of the X-Forwarded-Host of a trusted
    /// proxy. Clients that are no browsers name no origin, and pass. Off by default, as in engine.io.
    #[must_use]
    pub fn guard_origins(mut self) -> Self {
        self.policy.guards_origins = true;
        self
    }

    /// A cookie that holds the session's id, for load balancers that keep a client on one server by it. None by default.
    #[must_use]
    pub fn cookie(mut self, cookie: Cookie) -> Self {
        self.policy.cookie = Some(cookie);
        self
    }

    /// Decides who may open a session, after the checks of the protocol and before anything is kept. The closure sees the
    /// whole head of the request; what it starts need not be `Send`. `Err` refuses with 403 and this message (400 on a
    /// websocket, as engine.io does), or with "Forbidden" where it is empty. No decision within
    /// [`limits.handlers.allow_request_timeout`](crate::limits::HandlerLimits::allow_request_timeout) refuses with 503.
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

    /// Addresses and networks (`10.0.0.0/8`, `fd00::/8`) of proxies in front of the server. What they say of clients in
    /// `X-Forwarded-For` and `X-Forwarded-Proto`, or in `Forwarded` (RFC 7239), is believed, as far as trusted proxies
    /// wrote it; see [`Handshake::address`]. Nobody is believed by default.
    ///
    /// Of these headers a proxy must write one kind. Where both are there and name different clients, one of them is the
    /// client's invention, and the proxy's own address stands.
    #[must_use]
    pub fn trusted_proxies(mut self, networks: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.trusted_proxies = networks.into_iter().map(Into::into).collect();
        self
    }

    /// Checks what [`build`](Self::build) would refuse before it starts anything: path, cors, cookie, trusted proxies and
    /// allowed hosts. Needs no actix system.
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
        policy.hosts = self.allowed_hosts.as_ref().map(Hosts::parse).transpose().map_err(BuildError::Host)?;
        Ok(policy)
    }

    /// Builds the server on a thread of its own, for a program without an actix system, such as one under `#[tokio::main]`.
    /// `serve` runs on that thread: it registers handlers and serves a port. The server ends with it; an error is logged.
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
    /// The server that is returned works on every thread and under every runtime of tokio. With signals disabled, as here, call
    /// [`Server::close`] before the program ends, so that clients come back; otherwise SIGINT and SIGTERM end `serve`.
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
                if let Err(error) = serve(server).await {
                    log::error!("server ended error={error}");
                }
            });
        };
        thread::Builder::new().name("stentor".into()).spawn(run).map_err(|_| BuildError::Hub)?;
        built.recv().unwrap_or(Err(BuildError::Hub))
    }

    /// Starts the hub on a thread of its own. Must be called inside an actix system, with which the hub ends.
    pub fn build(self) -> Result<Server, BuildError> {
        if System::try_current().is_none() {
            return Err(BuildError::NoSystem);
        }
        let mut policy = self.access_policy()?;
        let Self { path, recovery, parser, limits, ack_errors, .. } = self;
        let limits = limits.bounded().within(memory::available());
        log_budgets(&limits);
        let budgets = Arc::new(Budgets::new(&limits));
        policy.messages = Arc::new(MessageBounds::new(&limits, budgets.incoming.clone()));
        let metrics = Arc::<Metrics>::default();
        let (room_changes, _) = broadcast::channel(limits.hub.room_events_max.max(1));
        let hub = start_hub(&limits, &recovery.journal_kind, metrics.clone(), budgets.clone(), room_changes.clone())?;
        let workers = Arc::new(WorkerFactory::new(hub.commands.clone(), limits.clone(), budgets, metrics.clone()));
        let server_sender = open_server_sender(&hub, &workers, &limits, &metrics)?;
        let http_permits = HttpPermits::new(limits.http.connections_max, limits.http.reserve);
        let core = Arc::new(Core {
            server_sender,
            encoder: Encoder { parser, recovery: recovery.journal_kind != JournalKind::Off, ack_errors },
            recovery_clients: recovery.clients,
            limits: limits.into(),
            registry: Registry::default(),
            room_changes,
        });
        let root = Namespace::new(core.clone(), NamespacePath::root());
        let services = Services { core, directory: Arc::new(Directory::default()) };
        let accepting = Arc::new(AtomicBool::new(true));
        let endpoint = Endpoint { services, workers, policy: Arc::new(policy), accepting };
        Ok(Server {
            endpoint,
            hub: hub.address,
            hub_thread: hub.thread,
            path: path.into(),
            root,
            metrics,
            http_permits,
        })
    }
}

/// Says which bounds follow from memory, so that an operator sees what is in force.
fn log_budgets(limits: &Limits) {
    let bytes = |bound: Option<usize>| bound.unwrap_or_default();
    log::info!(
        "memory budgets memory={} outboxes={} incoming={} rooms={} journal={} sessions={} http_connections={}",
        bytes(limits.memory.bytes_max),
        bytes(limits.memory.outboxes_bytes_max),
        bytes(limits.memory.incoming_bytes_max),
        bytes(limits.memory.rooms_bytes_max),
        limits.journal.bytes_max,
        limits.sessions.max,
        limits.http.connections_max
    );
}

struct StartedHub {
    thread: actix::ArbiterHandle,
    address: HubAddress,
    commands: actix::Recipient<crate::messages::hub::HubBatch>,
}

fn start_hub(
    limits: &Limits,
    journal_kind: &JournalKind,
    metrics: Arc<Metrics>,
    budgets: Arc<Budgets>,
    room_changes: broadcast::Sender<RoomChange>,
) -> Result<StartedHub, BuildError> {
    let writer = open_journal(limits, journal_kind)?.map(|(journal, seed)| {
        JournalWriter::open(journal, seed, limits, metrics.clone())
            .map_err(|error| BuildError::JournalRead(error.to_string()))
    });
    let writer = writer.transpose()?;
    if let Some(writer) = &writer {
        let (bytes, bytes_max) = writer.session_bytes();
        log::info!(
            "recovery starts sessions={} bytes={bytes} bytes_max={bytes_max} sessions_max={} (of 200 bytes)",
            writer.sessions(),
            (bytes_max / 200).min(limits.recovery.sessions_max)
        );
    }
    let stores = Stores { writer, metrics, budgets };
    let thread = Arbiter::new().handle();
    let limits = limits.clone();
    let hub = Hub::start_in_arbiter(&thread, move |_| Hub::new(limits, stores, room_changes));
    let address = HubAddress { commands: hub.clone().recipient(), control: hub.recipient() };
    Ok(StartedHub { thread, commands: address.commands.clone(), address })
}

/// A journal, and random bits to draw fingerprints from.
type SeededJournal = (Box<dyn Journal>, u64);

fn open_journal(limits: &Limits, journal_kind: &JournalKind) -> Result<Option<SeededJournal>, BuildError> {
    let mut random = [0; 10];
    getrandom::fill(&mut random)?;
    let seed = u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|at| random[at]));
    // An epoch's time only sorts epochs: a wrong clock costs nothing, the random bits still tell them apart.
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let epoch = Epoch::new(seconds as u32, u16::from_le_bytes([random[8], random[9]]));
    let journal: Box<dyn Journal> = match journal_kind {
        JournalKind::Off => return Ok(None),
        JournalKind::Memory => {
            Box::new(MemoryJournal::new(epoch, Lsn(0), limits.journal.records_max, limits.journal.bytes_max))
        }
        JournalKind::Folder(folder) => {
            let journal = FileJournal::open(folder, FileOptions::new(epoch, BootId::of_this_machine(), limits))?;
            match journal.start() {
                Start::New => log::info!("journal begins folder={}", folder.display()),
                Start::Continued { records, cut } => {
                    log::info!("journal continues folder={} records={records} bytes_cut={cut}", folder.display());
                }
                Start::Discarded { reason } => log::warn!(
                    "journal discarded, no session can be recovered folder={} reason=\"{reason}\"",
                    folder.display()
                ),
            }
            Box::new(journal)
        }
    };
    Ok(Some((journal, seed)))
}

/// Opens the server sender on the hub's thread, as a worker without sessions.
fn open_server_sender(
    hub: &StartedHub,
    workers: &WorkerFactory,
    limits: &Limits,
    metrics: &Metrics,
) -> Result<crate::messages::session::SessionLink, BuildError> {
    let (sender, opened) = mpsc::channel();
    let (id, commands, limits, metrics) =
        (workers.next_id(), hub.commands.clone(), limits.clone(), metrics.new_worker());
    let budgets = workers.budgets().clone();
    let spawned =
        hub.thread.spawn_fn(move || drop(sender.send(ServerSender::open(id, commands, limits, budgets, metrics))));
    if !spawned {
        return Err(BuildError::Hub);
    }
    opened.recv_timeout(START_TIMEOUT).map_err(|_| BuildError::Hub)
}
