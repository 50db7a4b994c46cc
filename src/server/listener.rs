//! Ports of the server's own: raw websockets, polling, and the application's HTTP resources.

use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use actix_codec::Framed;
use actix_http::error::DispatchError;
use actix_http::h1::Codec;
use actix_http::{HttpService, KeepAlive, Protocol, Request, StatusCode};
use actix_service::{Service, ServiceFactory, ServiceFactoryExt, fn_factory, fn_service, map_config};
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpRequest};

use super::Server;
use super::accept::{AcceptLoop, Ports};
use super::http_connection::{Deadlines, HttpStream};
use super::http_requests::{self, HOST_REFUSAL, RequestRules};
use super::port::Port;
use crate::transport::network_stream::IsEncrypted;
use crate::transport::{Endpoint, polling, websocket::raw};

type Configure = Arc<dyn Fn(&mut ServiceConfig) + Send + Sync>;

/// The bound ports of a server. [`run`](Self::run) serves them.
pub struct Listener {
    server: Server,
    ports: Vec<Port>,
    internal_ports: Vec<Port>,
    workers: Option<usize>,
    configure: Vec<Configure>,
    configure_internal: Vec<Configure>,
    signals: bool,
    drain: Duration,
}

impl Listener {
    pub(super) fn new(server: Server, port: Port) -> io::Result<Self> {
        let listener = Self {
            server,
            ports: Vec::new(),
            internal_ports: Vec::new(),
            workers: None,
            configure: Vec::new(),
            configure_internal: Vec::new(),
            signals: true,
            drain: Duration::ZERO,
        };
        listener.and(port)
    }

    /// Serves on one more port.
    pub fn and(mut self, port: impl Into<Port>) -> io::Result<Self> {
        let port = port.into();
        port.set_backlog(self.server.limits().http.backlog)?;
        self.ports.push(port);
        Ok(self)
    }

    /// Serves the resources of [`configure_internal`](Self::configure_internal), and nothing else,
    /// on this port. Clients cannot connect to it.
    pub fn and_internal(mut self, port: impl Into<Port>) -> io::Result<Self> {
        let port = port.into();
        port.set_backlog(self.server.limits().http.backlog)?;
        self.internal_ports.push(port);
        Ok(self)
    }

    /// Returns the address of the first port that has one. If port 0 was requested, the address has
    /// the port that the system chose. If all ports are unix sockets, returns an error.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let no_address = || Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "a unix socket has no IP address"));
        self.ports.iter().find_map(Port::local_addr).unwrap_or_else(no_address)
    }

    /// URLs of the ports for clients, such as `http://127.0.0.1:3000`, in the order in which they
    /// were added. See [`Port::url`].
    pub fn urls(&self) -> Vec<String> {
        self.ports.iter().map(Port::url).collect()
    }

    /// URLs of the ports of [`and_internal`](Self::and_internal).
    pub fn internal_urls(&self) -> Vec<String> {
        self.internal_ports.iter().map(Port::url).collect()
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

    /// Adds HTTP resources at paths other than that of the server, on the ports for clients.
    #[must_use]
    pub fn configure(mut self, configure: impl Fn(&mut ServiceConfig) + Send + Sync + 'static) -> Self {
        self.configure.push(Arc::new(configure));
        self
    }

    /// Adds HTTP resources on the ports of [`and_internal`](Self::and_internal).
    #[must_use]
    pub fn configure_internal(mut self, configure: impl Fn(&mut ServiceConfig) + Send + Sync + 'static) -> Self {
        self.configure_internal.push(Arc::new(configure));
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
    ///
    /// Certificates of encrypted ports are read again when their files change.
    pub async fn run(mut self) -> io::Result<()> {
        #[cfg(unix)]
        let _files: Vec<_> =
            self.ports.iter_mut().chain(&mut self.internal_ports).filter_map(Port::take_file).collect();
        let certificates = self.watch_certificates();
        tokio::select! {
            served = self.serve() => served,
            () = certificates => Ok(()),
        }
    }

    /// Watches the certificates of all ports. Never completes.
    #[cfg(feature = "tls")]
    fn watch_certificates(&self) -> impl Future<Output = ()> + use<> {
        let ports = self.ports.iter().chain(&self.internal_ports);
        let mut certificates: Vec<super::tls::Tls> = Vec::new();
        for tls in ports.filter_map(Port::certificate) {
            if !certificates.iter().any(|known| known.is(tls)) {
                certificates.push(tls.clone());
            }
        }
        async move {
            let mut watches = tokio::task::JoinSet::new();
            for tls in certificates {
                watches.spawn_local(async move { tls.watch().await });
            }
            while watches.join_next().await.is_some() {}
            std::future::pending::<()>().await;
        }
    }

    #[cfg(not(feature = "tls"))]
    fn watch_certificates(&self) -> impl Future<Output = ()> + use<> {
        std::future::pending()
    }

    async fn serve(self) -> io::Result<()> {
        let Self { server, ports, internal_ports, workers, configure, configure_internal, signals, drain } = self;
        let signals = signals.then(StopSignals::new);
        let has_internal = !internal_ports.is_empty();
        let io = server.clone();
        let factory = move || {
            let http = |is_internal: bool| {
                let configure = if is_internal { &configure_internal } else { &configure };
                http_service(&io, configure.clone(), is_internal)
            };
            let (public, internal) = (http(false), has_internal.then(|| http(true)));
            let services = Rc::new((public, internal));
            fn_factory(move || {
                let services = services.clone();
                async move {
                    let public = services.0.new_service(()).await?;
                    let internal = match &services.1 {
                        Some(internal) => Some(internal.new_service(()).await?),
                        None => None,
                    };
                    Ok(ServiceOfPort { public, internal })
                }
            })
        };
        let public = ports.into_iter().map(|port| port.into_parts(false));
        let internal = internal_ports.into_iter().map(|port| port.into_parts(true));
        let ports = Ports {
            sockets: public.chain(internal).collect(),
            permits: server.http_permits.clone(),
            deadlines: Deadlines::new(server.limits()),
            policy: server.endpoint.policy.clone(),
        };
        let workers = workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get));
        let mut serving =
            AcceptLoop::start(&server.hub_thread, workers, ports, server.metrics.new_worker(), factory).await?;
        let Some(mut signals) = signals else { return Err(serving.failed().await) };
        let signal = tokio::select! {
            signal = signals.next() => signal,
            failure = serving.failed() => return Err(failure),
        };
        stop(server, &serving, signals, signal, drain).await;
        Ok(())
    }
}

/// Services of one thread. A connection is served according to its port.
struct ServiceOfPort<S> {
    public: S,
    internal: Option<S>,
}

impl<S: Service<HttpStream>> Service<HttpStream> for ServiceOfPort<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let internal = self.internal.as_ref().map_or(Poll::Ready(Ok(())), |internal| internal.poll_ready(cx));
        match internal {
            Poll::Ready(Ok(())) => self.public.poll_ready(cx),
            waiting => waiting,
        }
    }

    fn call(&self, stream: HttpStream) -> Self::Future {
        match &self.internal {
            Some(internal) if stream.connection().port().is_internal => internal.call(stream),
            _ => self.public.call(stream),
        }
    }
}

/// Creates the HTTP service of the ports for clients, or of the internal ports.
fn http_service(
    io: &Server,
    configure: Vec<Configure>,
    is_internal: bool,
) -> impl ServiceFactory<
    HttpStream,
    Config = (),
    Response = (),
    InitError = (),
    Service: 'static,
    Error = DispatchError,
    Future: 'static,
> + use<> {
    let (limits, endpoint, path) = (io.limits(), io.endpoint.clone(), io.path.clone());
    let rules = Rc::new(RequestRules::new(io.http_permits.clone(), endpoint.policy.clone()));
    let app = app(io.clone(), configure, rules.clone(), is_internal);
    let http = HttpService::build()
        // Connections have their own deadlines. The request timeout only causes the 408 response to
        // a first head that times out.
        .keep_alive(KeepAlive::Os)
        .client_request_timeout(limits.http.head_timeout)
        // Without this timeout, a client whose request is refused before it was read would see a
        // reset instead of the response.
        .client_disconnect_timeout(limits.transport.close_linger)
        // A client that closes its side of the connection has disconnected, so its pending poll
        // must end.
        .h1_allow_half_closed(false)
        .on_connect_ext(|stream: &HttpStream, data| {
            data.insert(stream.connection().clone());
            if stream.is_encrypted() {
                data.insert(IsEncrypted);
            }
        })
        .upgrade(fn_service(move |(request, framed)| {
            let path = (!is_internal).then(|| path.clone());
            let upgrading = upgrade(endpoint.clone(), path, rules.clone(), request, framed);
            async move { upgrading.await.map_err(actix_web::Error::from) }
        }))
        .finish(map_config(app, |_| AppConfig::default()));
    fn_service(|stream: HttpStream| async move {
        let peer = stream.peer();
        Ok((stream, Protocol::Http1, peer))
    })
    .and_then(http)
}

/// Answers an upgrade request. Internal ports have no path for clients.
async fn upgrade(
    endpoint: Endpoint,
    path: Option<Arc<str>>,
    rules: Rc<RequestRules>,
    request: Request,
    framed: Framed<HttpStream, Codec>,
) -> io::Result<()> {
    let is_host_admitted = rules.admits_host(&framed.io_ref().connection().port().default_hosts, request.head());
    let framed = framed.into_map_io(HttpStream::into_upgraded);
    if !is_host_admitted {
        return raw::refuse_upgrade(&endpoint, framed, StatusCode::MISDIRECTED_REQUEST, HOST_REFUSAL).await;
    }
    match path {
        Some(path) => raw::on_upgrade(endpoint, &path, request, framed).await,
        None => raw::refuse_upgrade(&endpoint, framed, StatusCode::NOT_FOUND, "Not found").await,
    }
}

fn app(
    io: Server,
    configure: Vec<Configure>,
    rules: Rc<RequestRules>,
    is_internal: bool,
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
        if !is_internal {
            config.service(web::resource(paths.to_vec()).route(web::to(handler)));
        }
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
