//! Serving a server on a port of its own: raw websockets and the HTTP beside them.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::num::NonZero;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use actix_http::{HttpService, KeepAlive, Request};
use actix_service::{fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpRequest};
use socket2::{Domain, Protocol, Socket, Type};

use super::Server;
use super::serving::Serving;
use crate::transport::{polling, websocket::raw};

type Configure = Arc<dyn Fn(&mut ServiceConfig) + Send + Sync>;

/// A bound port, about to serve.
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
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, "address resolves to nothing");
        for address in address.to_socket_addrs()? {
            match listen(address, server.endpoint.services.core.limits.backlog) {
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

    /// The address bound, with the port that the system chose if port 0 was asked for.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Worker threads; by default one per core.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers.max(1));
        self
    }

    /// How long to take for closing the sessions when the process is asked to end; at once if not given. See
    /// [`Server::drain`]. Asked a second time, it closes what is left at once.
    #[must_use]
    pub fn drain(mut self, over: Duration) -> Self {
        self.drain = over;
        self
    }

    /// Adds HTTP resources beside the hub's own path.
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

    /// Serves until the process is asked to end; then closes every session so that its client comes back. With
    /// [signals disabled](Self::disable_signals), serves until it is dropped; what speaks HTTP then ends, and
    /// [`Server::close`](super::Server::close), called before, ends the sessions.
    ///
    /// One worker runs on the hub's own thread, which spares what is said between the two its wake-ups; several have threads of
    /// their own. Connections are dealt out to them in turn.
    pub async fn run(self) -> io::Result<()> {
        let Self { server, socket, workers, configure, signals, drain } = self;
        let io = server.clone();
        // A polling client may have nothing to say from one ping to the next; a connection closed under its POST would cost
        // it the session.
        let limits = &server.endpoint.services.core.limits;
        let (request_head_timeout, close_linger) = (limits.request_head_timeout, limits.close_linger);
        let keep_alive = KeepAlive::Timeout(limits.ping_interval + limits.ping_timeout);
        let factory = move || {
            let (endpoint, path, configure) = (io.endpoint.clone(), io.path.clone(), configure.clone());
            let app = app(io.clone(), configure);
            HttpService::build()
                // A poll's head leaves before its batch: the batch must not wait for the head's ack. Nor may a websocket's small frames.
                .tcp_nodelay(true)
                .keep_alive(keep_alive)
                .client_request_timeout(request_head_timeout)
                // A request that is refused unread: closed at once, the client would see a reset and not the answer.
                .client_disconnect_timeout(close_linger)
                // A client that closes its side has gone: its pending poll must end, and not wait for a batch.
                .h1_allow_half_closed(false)
                .upgrade(fn_service(move |request: (Request, _)| {
                    let (endpoint, path) = (endpoint.clone(), path.clone());
                    async move { raw::on_upgrade(endpoint, &path, request).await.map_err(actix_web::Error::from) }
                }))
                .finish(map_config(app, |_| AppConfig::default()))
                .tcp()
        };
        let workers = workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get));
        let port = (socket, limits.http_connections_max);
        let serving = Serving::start(&server.hub_thread, workers, port, factory).await?;
        if signals {
            stop_on_signal(server, &serving, drain).await;
            Ok(())
        } else {
            std::future::pending().await
        }
    }
}

/// The HTTP application beside the raw websockets.
fn app(
    io: Server,
    configure: Vec<Configure>,
) -> App<
    impl actix_service::ServiceFactory<
        actix_web::dev::ServiceRequest,
        Config = (),
        Response = actix_web::dev::ServiceResponse,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    App::new().configure(move |config| {
        let paths = [io.path.to_string(), format!("{}/", io.path)];
        let handler = move |request: HttpRequest, payload| polling::handle(io.endpoint.clone(), request, payload);
        config.service(web::resource(paths.to_vec()).route(web::to(handler)));
        for configure in &configure {
            configure(config);
        }
    })
}

pub(super) fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for connections of the last life to time out.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

async fn stop_on_signal(server: Server, serving: &Serving, drain: Duration) {
    let signal = wait_for_signal().await;
    log::info!("server stops signal={signal} sessions={} drain={drain:?}", server.sessions());
    if !drain.is_zero() {
        // Connections are still taken meanwhile: a load balancer is to see that this server is not ready.
        tokio::select! {
            () = server.drain(drain) => {}
            signal = wait_for_signal() => log::info!("server stops at once signal={signal}"),
        }
    }
    serving.pause();
    server.close().await;
}

#[cfg(unix)]
async fn wait_for_signal() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        log::error!("signals cannot be awaited; end the process by force");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}

#[cfg(not(unix))]
async fn wait_for_signal() -> &'static str {
    let _ = tokio::signal::ctrl_c().await;
    "ctrl-c"
}
