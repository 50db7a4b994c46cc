//! A port of the server's own: raw websockets, polling, and the application's HTTP resources.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::num::NonZero;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use actix_codec::Framed;
use actix_http::h1::Codec;
use actix_http::{HttpService, KeepAlive, Protocol, Request, StatusCode};
use actix_service::{Service, ServiceFactoryExt, fn_service, map_config};
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpRequest};
use socket2::{Domain, Socket, Type};

use super::Server;
use super::accept::{AcceptLoop, Port};
use super::http_connection::{Deadlines, HttpStream};
use super::http_requests::{self, HOST_REFUSAL, RequestRules};
use crate::transport::hosts::Hosts;
use crate::transport::{Endpoint, polling, websocket::raw};

type Configure = Arc<dyn Fn(&mut ServiceConfig) + Send + Sync>;

/// A bound port of a server. [`run`](Self::run) serves the port.
pub struct Listener {
    server: Server,
    socket: TcpListener,
    workers: Option<usize>,
    configure: Vec<Configure>,
    signals: bool,
    drain: Duration,
}

impl Listener {
    pub(super) fn bind(server: Server, address: impl ToSocketAddrs) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, "address has no IP address");
        for address in address.to_socket_addrs()? {
            match listen(address, server.limits().http.backlog) {
                Ok(socket) => {
                    return Ok(Self {
                        server,
                        socket,
                        workers: None,
                        configure: Vec::new(),
                        signals: true,
                        drain: Duration::ZERO,
                    });
                }
                Err(error) => last = io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")),
            }
        }
        Err(last)
    }

    /// Returns the bound address. If port 0 was requested, the address has the port that the system
    /// chose.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Number of worker threads. The default is one per core.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers.max(1));
        self
    }

    /// Time over which sessions are closed after SIGINT or SIGTERM, as in [`Server::drain`]. The
    /// default is zero. A second signal closes the remaining sessions immediately.
    #[must_use]
    pub fn drain(mut self, over: Duration) -> Self {
        self.drain = over;
        self
    }

    /// Adds HTTP resources at paths other than that of the server.
    #[must_use]
    pub fn configure(mut self, configure: impl Fn(&mut ServiceConfig) + Send + Sync + 'static) -> Self {
        self.configure.push(Arc::new(configure));
        self
    }

    /// Leaves SIGINT and SIGTERM to the application.
    #[must_use]
    pub fn disable_signals(mut self) -> Self {
        self.signals = false;
        self
    }

    /// Serves until SIGINT or SIGTERM, then closes every session so that its client reconnects.
    /// With [signals disabled](Self::disable_signals), serves until the future is dropped, which
    /// closes the HTTP connections. Call [`Server::close`](super::Server::close) before that, to
    /// end the sessions.
    ///
    /// A single worker runs on the hub's own thread, which saves wake-ups. Several workers have
    /// threads of their own and receive connections in turn.
    pub async fn run(self) -> io::Result<()> {
        let Self { server, socket, workers, configure, signals, drain } = self;
        let signals = signals.then(StopSignals::new);
        let limits = server.limits();
        let deadlines = Deadlines::new(limits);
        let (request_head_timeout, close_linger) = (limits.http.head_timeout, limits.transport.close_linger);
        let hosts = default_hosts(&socket);
        let io = server.clone();
        let factory = move || {
            let (endpoint, path, configure) = (io.endpoint.clone(), io.path.clone(), configure.clone());
            let rules = RequestRules::new(io.http_permits.clone(), hosts.clone(), endpoint.policy.clone());
            let rules = Rc::new(rules);
            let app = app(io.clone(), configure, rules.clone());
            let http = HttpService::build()
                // Connections have their own deadlines. The request timeout only causes the 408
                // response to a first head that times out.
                .keep_alive(KeepAlive::Os)
                .client_request_timeout(request_head_timeout)
                // Without this timeout, a client whose request is refused before it was read would
                // see a reset instead of the response.
                .client_disconnect_timeout(close_linger)
                // A client that closes its side of the connection has disconnected, so its pending
                // poll must end.
                .h1_allow_half_closed(false)
                .on_connect_ext(|stream: &HttpStream, data| drop(data.insert(stream.connection().clone())))
                .upgrade(fn_service(move |(request, framed)| {
                    let upgrading = upgrade(endpoint.clone(), path.clone(), rules.clone(), request, framed);
                    async move { upgrading.await.map_err(actix_web::Error::from) }
                }))
                .finish(map_config(app, |_| AppConfig::default()));
            fn_service(|stream: HttpStream| async move {
                // Small frames, and the body of a poll response after its head, must not wait for
                // TCP acknowledgements.
                if let Err(error) = stream.get_ref().set_nodelay(true) {
                    log::debug!("connection not set to TCP_NODELAY error={error}");
                }
                let peer = stream.get_ref().peer_addr().ok();
                Ok((stream, Protocol::Http1, peer))
            })
            .and_then(http)
        };
        let workers = workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get));
        let port =
            Port { socket, permits: server.http_permits.clone(), deadlines, policy: server.endpoint.policy.clone() };
        let mut serving =
            AcceptLoop::start(&server.hub_thread, workers, port, server.metrics.new_worker(), factory).await?;
        let Some(mut signals) = signals else { return Err(serving.failed().await) };
        let signal = tokio::select! {
            signal = signals.next() => signal,
            failure = serving.failed() => return Err(failure),
        };
        stop(server, &serving, signals, signal, drain).await;
        Ok(())
    }
}

/// Hosts that are allowed by default. On a loopback address, only the loopback names are allowed.
/// On any other address, all hosts are allowed.
fn default_hosts(socket: &TcpListener) -> Hosts {
    match socket.local_addr() {
        Ok(address) if address.ip().to_canonical().is_loopback() => Hosts::LOOPBACK,
        _ => Hosts::Any,
    }
}

async fn upgrade(
    endpoint: Endpoint,
    path: Arc<str>,
    rules: Rc<RequestRules>,
    request: Request,
    framed: Framed<HttpStream, Codec>,
) -> io::Result<()> {
    let framed = framed.into_map_io(HttpStream::into_upgraded);
    if !rules.admits_host(request.head()) {
        return raw::refuse_upgrade(&endpoint, framed, StatusCode::MISDIRECTED_REQUEST, HOST_REFUSAL).await;
    }
    raw::on_upgrade(endpoint, &path, request, framed).await
}

fn app(
    io: Server,
    configure: Vec<Configure>,
    rules: Rc<RequestRules>,
) -> App<
    impl actix_service::ServiceFactory<
        actix_web::dev::ServiceRequest,
        Config = (),
        Response = ServiceResponse<http_requests::Response>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    let endpoint = io.endpoint.clone();
    let app = App::new().configure(move |config| {
        let paths = [io.path.to_string(), format!("{}/", io.path)];
        let handler = move |request: HttpRequest, payload| polling::handle(io.endpoint.clone(), request, payload);
        config.service(web::resource(paths.to_vec()).route(web::to(handler)));
        for configure in &configure {
            configure(config);
        }
    });
    app.wrap_fn(move |request, service| {
        let (request, admission) = rules.admit(request);
        let answer = request.map(|request| service.call(request));
        let endpoint = endpoint.clone();
        async move {
            let response = match answer {
                Ok(answer) => answer.await?,
                Err(refused) => refused,
            };
            if response.status() == StatusCode::NOT_FOUND {
                endpoint.record_not_found(response.request().head());
            }
            Ok(admission.finish(response))
        }
    })
}

pub(super) fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(socket2::Protocol::TCP))?;
    // The address can be reused, so that a restart need not wait until connections of the previous
    // process time out.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

async fn stop(server: Server, serving: &AcceptLoop, mut signals: StopSignals, signal: &str, drain: Duration) {
    let start = Instant::now();
    log::info!("server stops signal={signal} sessions={} drain={drain:?}", server.sessions());
    if !drain.is_zero() {
        // Connections are still accepted during the drain, so that the health check of a load
        // balancer gets the answer that this server is not ready.
        tokio::select! {
            () = server.drain(drain) => {}
            signal = signals.next() => log::info!("server stops immediately signal={signal}"),
        }
    }
    serving.pause();
    server.close().await;
    log::info!("server stopped took={:?}", start.elapsed());
}

/// Signals that stop the server. Once this value has been created, these signals no longer end the
/// process.
#[cfg(unix)]
struct StopSignals(io::Result<[tokio::signal::unix::Signal; 2]>);

#[cfg(unix)]
impl StopSignals {
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let interrupt = signal(SignalKind::interrupt());
        Self(interrupt.and_then(|interrupt| Ok([interrupt, signal(SignalKind::terminate())?])))
    }

    /// Waits for the next signal and returns its name.
    async fn next(&mut self) -> &'static str {
        match &mut self.0 {
            Ok([interrupt, terminate]) => tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            },
            Err(error) => {
                log::error!("signals not available, end the process by force error={error}");
                std::future::pending().await
            }
        }
    }
}

#[cfg(not(unix))]
struct StopSignals;

#[cfg(not(unix))]
impl StopSignals {
    fn new() -> Self {
        Self
    }

    /// Waits for the next signal and returns its name.
    async fn next(&mut self) -> &'static str {
        let _ = tokio::signal::ctrl_c().await;
        "ctrl-c"
    }
}
