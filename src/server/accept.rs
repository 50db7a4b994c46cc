//! The threads that serve a port: the first takes connections in, and deals them out in turn to all, itself included.
//!
//! One worker lives on the hub's own thread: a command and its answer then cross no thread, and wake none. What a connection
//! says is not known here.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Arbiter, ArbiterHandle};
use actix_http::error::DispatchError;
use actix_service::{Service, ServiceFactory};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::http_connection::{Deadlines, Expired, HttpConnection, HttpConnections, HttpStream};
use super::http_permits::{HttpPermit, HttpPermits};
use crate::metrics::{Labelled, WorkerMetrics};
use crate::protocol::reason::HttpCloseReason;
use crate::session::directory::ClientPrefix;
use crate::transport::AccessPolicy;
use crate::worker::log_throttle::Throttle;

/// Before connections are taken again when the system has refused one: no descriptor is left, mostly.
const ACCEPT_RETRY: Duration = Duration::from_millis(500);

/// A connection on its way to its worker. There are as many as there are permits.
type Accepted = (AcceptedStream, HttpPermit);

/// The way to a worker.
struct Line {
    dealt: mpsc::UnboundedSender<Accepted>,
    /// Whether it is the thread that accepts.
    is_here: bool,
}

/// Warnings a second of each kind, for each worker: clients can cause any number.
const WARNINGS_PER_SECOND: u32 = 1;

/// A connection that was taken in.
enum AcceptedStream {
    /// For the thread that took it in, whose reactor knows it.
    Here(TcpStream),
    Elsewhere(std::net::TcpStream),
}

impl AcceptedStream {
    fn into_stream(self) -> io::Result<TcpStream> {
        match self {
            Self::Here(stream) => Ok(stream),
            Self::Elsewhere(stream) => TcpStream::from_std(stream),
        }
    }

    /// For any thread.
    fn elsewhere(self) -> io::Result<Self> {
        match self {
            Self::Here(stream) => stream.into_std().map(Self::Elsewhere),
            elsewhere @ Self::Elsewhere(_) => Ok(elsewhere),
        }
    }
}

/// The service of a port, and its rules.
pub(super) struct Port {
    pub(super) socket: TcpListener,
    pub(super) permits: HttpPermits,
    pub(super) deadlines: Deadlines,
    pub(super) policy: Arc<AccessPolicy>,
}

/// A port that is served, until this is dropped.
pub(super) struct AcceptLoop {
    /// Whether connections are taken in. Its end is the end of all.
    accepting: watch::Sender<bool>,
    /// Of this port alone, with everything on them.
    threads: Vec<Arbiter>,
    /// Ends when connections can no longer be taken in.
    failed: oneshot::Receiver<()>,
}

impl AcceptLoop {
    /// Serves what comes in on the port with what `service` makes: on the hub's thread if that is the one worker, else on
    /// `workers` threads of its own.
    pub(super) async fn start<S, F>(
        hub: &ArbiterHandle,
        workers: usize,
        port: Port,
        metrics: Arc<WorkerMetrics>,
        service: S,
    ) -> io::Result<Self>
    where
        S: Fn() -> F + Clone + Send + 'static,
        F: ServiceFactory<
                HttpStream,
                Config = (),
                Response = (),
                InitError = (),
                Service: 'static,
                Error = DispatchError,
            > + 'static,
    {
        let Port { socket, permits, deadlines, policy } = port;
        let (accepting, phase) = watch::channel(true);
        let (failure, failed) = oneshot::channel();
        let mut serving = Self { accepting, threads: Vec::new(), failed };
        if workers > 1 {
            serving.threads = (0..workers).map(|_| Arbiter::try_new()).collect::<io::Result<_>>()?;
        }
        let mut handles: Vec<_> = serving.threads.iter().map(Arbiter::handle).collect();
        if handles.is_empty() {
            handles.push(hub.clone());
        }
        let mut lines = Vec::new();
        for thread in &handles {
            let (sender, dealt) = mpsc::unbounded_channel();
            let (ready, readiness) = oneshot::channel();
            let (service, phase) = (service.clone(), phase.clone());
            let (permits, metrics, policy) = (permits.clone(), metrics.clone(), policy.clone());
            lines.push(Line { dealt: sender, is_here: lines.is_empty() });
            thread.spawn_fn(move || {
                let worker =
                    PortWorker { permits, deadlines, policy, metrics, connections: HttpConnections::default() };
                drop(actix::spawn(async move {
                    let Ok(service) = service().new_service(()).await else { return };
                    let _ = ready.send(());
                    worker.work(service, dealt, phase).await;
                }));
            });
            // Fails also when what sets the service up panics.
            readiness.await.map_err(|_| io::Error::other("HTTP could not be set up on a worker"))?;
        }
        let (begun, beginning) = oneshot::channel();
        handles[0].spawn(async move {
            // The listener belongs to the reactor of the thread that it was made on.
            let listener = tokio::net::TcpListener::from_std(socket);
            let (listener, outcome) = listener.map_or_else(|error| (None, Err(error)), |it| (Some(it), Ok(())));
            let _ = begun.send(outcome);
            if let Some(listener) = listener {
                drop(actix::spawn(accept(phase, listener, lines, permits, failure)));
            }
        });
        beginning.await.unwrap_or_else(|_| Err(io::Error::other("the server's thread has ended")))?;
        Ok(serving)
    }

    /// Takes no more connections in; those that are there go on.
    pub(super) fn pause(&self) {
        self.accepting.send_replace(false);
    }

    /// Waits until connections can no longer be taken in though they should be: every worker has ended.
    pub(super) async fn failed(&mut self) -> io::Error {
        let _ = (&mut self.failed).await;
        if !*self.accepting.borrow() {
            // It was asked to pause.
            std::future::pending::<()>().await;
        }
        io::Error::other("no worker is left to serve connections")
    }
}

impl Drop for AcceptLoop {
    fn drop(&mut self) {
        for thread in &self.threads {
            thread.stop();
        }
    }
}

/// Takes connections in until it is to pause, no more than there are permits for; further ones wait in the kernel. Runs on the
/// thread of the first line. Ends also when no worker is left.
async fn accept(
    // Dropped last: who sees that nobody looks at the phase any more finds the port closed.
    mut phase: watch::Receiver<bool>,
    listener: tokio::net::TcpListener,
    mut lines: Vec<Line>,
    permits: HttpPermits,
    _failure: oneshot::Sender<()>,
) {
    let mut next = 0;
    while !lines.is_empty() {
        let taken = async {
            permits.available().await;
            let (stream, _) = listener.accept().await?;
            // Until one is free again: the one that was seen may have been given to another connection.
            let permit = permits.acquire().await.ok_or(io::ErrorKind::Other)?;
            io::Result::Ok((stream, permit))
        };
        let taken = tokio::select! {
            taken = taken => taken,
            // Also when the port is given up.
            _ = phase.wait_for(|accepting| !accepting) => return,
        };
        let dealt = taken.and_then(|(stream, permit)| deal(stream, permit, &mut lines, &mut next));
        match dealt {
            Ok(()) => {}
            Err(error) if is_of_one_connection(&error) => log::debug!("connection not accepted error={error}"),
            Err(error) => {
                permits.accept_failed(Instant::now());
                log::warn!("accept failed, pausing for {ACCEPT_RETRY:?} error={error}");
                let paused = phase.wait_for(|accepting| !accepting);
                if tokio::time::timeout(ACCEPT_RETRY, paused).await.is_ok() {
                    return;
                }
            }
        }
    }
    log::error!("no worker is left, the port is closed");
}

/// Hands a connection to the worker whose turn it is, or to the next one that lives.
fn deal(stream: TcpStream, permit: HttpPermit, lines: &mut Vec<Line>, next: &mut usize) -> io::Result<()> {
    let mut dealt = (AcceptedStream::Here(stream), permit);
    while !lines.is_empty() {
        let at = *next % lines.len();
        if !lines[at].is_here {
            dealt.0 = dealt.0.elsewhere()?;
        }
        match lines[at].dealt.send(dealt) {
            Ok(()) => {
                *next = at + 1;
                return Ok(());
            }
            Err(refused) => {
                dealt = refused.0;
                lines.remove(at);
                log::error!("worker has ended, its connections go to the others left={}", lines.len());
            }
        }
    }
    Ok(())
}

/// Whether the next connection may fare better right away.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// What one thread of a port needs.
struct PortWorker {
    permits: HttpPermits,
    deadlines: Deadlines,
    policy: Arc<AccessPolicy>,
    /// Of the port, on all its threads.
    metrics: Arc<WorkerMetrics>,
    connections: HttpConnections,
}

impl PortWorker {
    /// Serves what is dealt to this thread, until the port is given up; what is open then ends.
    async fn work(
        self,
        service: impl Service<HttpStream, Response = (), Error = DispatchError> + 'static,
        mut dealt: mpsc::UnboundedReceiver<Accepted>,
        mut phase: watch::Receiver<bool>,
    ) {
        let service = Rc::new(service);
        let warnings = Rc::new(Warnings::new(self.metrics.clone()));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Some((stream, permit)) = dealt.recv() => {
                    let stream = match stream.into_stream() {
                        Ok(stream) => stream,
                        Err(error) => {
                            log::warn!("connection not served error={error}");
                            continue;
                        }
                    };
                    let (service, warnings) = (service.clone(), warnings.clone());
                    let peer = stream.peer_addr().ok();
                    // A trusted proxy's connections are of many clients.
                    let client = peer.filter(|peer| !self.policy.proxies.trusts(peer.ip().to_canonical()));
                    let client = client.map(|peer| peer.ip().into());
                    let (permit, now) = (self.permit(permit, client), Instant::now());
                    let connection = Rc::new(HttpConnection::new(self.deadlines, client, permit, now));
                    let registered = self.connections.register(connection.clone());
                    connections.spawn_local(async move {
                        let stream = HttpStream::new(stream, connection.clone());
                        let served = connection.serve(async {
                            poll_fn(|cx| service.poll_ready(cx)).await?;
                            service.call(stream).await
                        });
                        match served.await {
                            Ok(Ok(())) => {}
                            Ok(Err(error)) => warnings.ended(peer, &error),
                            Err(expired) => warnings.expired(peer, expired),
                        }
                        drop(registered);
                    });
                }
                Some(_) = connections.join_next() => {}
                Err(_) = phase.wait_for(|_| false) => return,
            }
        }
    }

    /// The permit of a new connection: for one of the reserve an ordinary one, if one is free or can be made free here.
    fn permit(&self, permit: HttpPermit, client: Option<ClientPrefix>) -> HttpPermit {
        if !permit.is_of_reserve {
            return permit;
        }
        let ordinary = self.permits.try_ordinary();
        ordinary.or_else(|| self.connections.evict_longest_waiting(client, Instant::now())).unwrap_or(permit)
    }
}

/// Connections that the server closed: counted, and rate-limited warnings of those that ended badly.
struct Warnings {
    metrics: Arc<WorkerMetrics>,
    /// By reason, so that a flood of one kind hides no other.
    throttles: Labelled<HttpCloseReason, Throttle, { HttpCloseReason::COUNT }>,
}

impl Warnings {
    fn new(metrics: Arc<WorkerMetrics>) -> Self {
        Self { metrics, throttles: Labelled::from_fn(|_| Throttle::new(WARNINGS_PER_SECOND)) }
    }

    fn ended(&self, peer: Option<SocketAddr>, error: &DispatchError) {
        let DispatchError::Parse(error) = error else {
            log::debug!("connection ended error={error:?}");
            return;
        };
        self.metrics.http_closed[HttpCloseReason::Malformed].add(1);
        if let Some(skipped) = self.throttles[HttpCloseReason::Malformed].is_due(Instant::now()) {
            log::warn!("request malformed address={} error={error} skipped={skipped}", Shown(peer));
        }
    }

    fn expired(&self, peer: Option<SocketAddr>, expired: Expired) {
        let (reason, why) = match expired {
            Expired::Idle => {
                self.metrics.http_closed[HttpCloseReason::Idle].add(1);
                log::debug!("connection closed, it was idle address={}", Shown(peer));
                return;
            }
            Expired::Evicted => (HttpCloseReason::Evicted, "a new client needed its place"),
            Expired::Head => (HttpCloseReason::Head, "request head timed out"),
            Expired::Body => (HttpCloseReason::Body, "request body timed out"),
            Expired::Response => (HttpCloseReason::Response, "reading of the response timed out"),
            Expired::Reserve => (HttpCloseReason::Reserve, "request on a connection of the reserve timed out"),
        };
        self.metrics.http_closed[reason].add(1);
        if let Some(skipped) = self.throttles[reason].is_due(Instant::now()) {
            log::warn!("connection closed, {why} address={} skipped={skipped}", Shown(peer));
        }
    }
}

/// A peer's address, which is not known if the peer has gone.
struct Shown(Option<SocketAddr>);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::thread::{self, ThreadId};

    use actix::System;
    use actix_service::fn_service;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::limits::Limits;
    use crate::server::listener::listen;

    /// Connections that no test runs out of.
    const MANY: usize = 8;

    fn deadlines() -> Deadlines {
        Deadlines::new(&Limits::default())
    }

    fn port(socket: TcpListener, ordinary: usize) -> Port {
        Port { socket, permits: HttpPermits::new(ordinary, 0), deadlines: deadlines(), policy: Arc::default() }
    }

    /// Serves a port: every connection says a byte, tells the test its thread, and ends when its client has.
    async fn serve(
        hub: &ArbiterHandle,
        workers: usize,
        ordinary: usize,
    ) -> (AcceptLoop, SocketAddr, mpsc::UnboundedReceiver<ThreadId>) {
        let port = listen("127.0.0.1:0".parse().expect("an address"), 16).expect("a free port");
        let address = port.local_addr().expect("an address");
        let (served, serves) = mpsc::unbounded_channel();
        let service = move || {
            let served = served.clone();
            fn_service(move |mut stream: HttpStream| {
                let told = served.send(thread::current().id());
                async move {
                    told.map_err(io::Error::other)?;
                    stream.write_all(b"!").await?;
                    stream.read_to_end(&mut Vec::new()).await.map_err(DispatchError::Io).map(drop)
                }
            })
        };
        let serving = AcceptLoop::start(hub, workers, self::port(port, ordinary), Arc::default(), service);
        let serving = serving.await.expect("it begins");
        (serving, address, serves)
    }

    /// A connection that is being served.
    async fn served(address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.expect("the port is open");
        assert_eq!(stream.read_u8().await.expect("its byte"), b'!');
        stream
    }

    #[test]
    fn one_worker_serves_on_the_hubs_thread_and_several_in_turn_on_their_own() {
        System::new().block_on(async {
            let hub = Arbiter::new().handle();
            let (told, thread_of_hub) = oneshot::channel();
            hub.spawn_fn(move || assert!(told.send(thread::current().id()).is_ok()));
            let thread_of_hub = thread_of_hub.await.expect("the hub's thread runs");

            let (_one, address, mut serves) = serve(&hub, 1, MANY).await;
            served(address).await;
            assert_eq!(serves.recv().await, Some(thread_of_hub));

            let (_two, address, mut serves) = serve(&hub, 2, MANY).await;
            let mut threads = Vec::new();
            for _ in 0..4 {
                served(address).await;
                threads.extend(serves.recv().await);
            }
            assert_eq!(threads[..2], threads[2..]);
            assert_ne!(threads[0], threads[1]);
            assert!(!threads.contains(&thread_of_hub), "{threads:?} {thread_of_hub:?}");
        });
    }

    #[test]
    fn a_service_that_cannot_be_set_up_is_an_error_at_once() {
        System::new().block_on(async {
            for workers in [1, 2] {
                let hub = Arbiter::new().handle();
                let port = listen("127.0.0.1:0".parse().expect("an address"), 16).expect("a free port");
                let broken = || {
                    actix_service::fn_factory(|| async {
                        Err::<actix_service::boxed::BoxService<HttpStream, (), DispatchError>, ()>(())
                    })
                };
                assert!(
                    AcceptLoop::start(&hub, workers, self::port(port, MANY), Arc::default(), broken).await.is_err()
                );
            }
        });
    }

    #[test]
    fn connections_of_a_dead_worker_go_to_living_ones() {
        System::new().block_on(async {
            let hub = Arbiter::new().handle();
            let (mut serving, address, mut serves) = serve(&hub, 3, MANY).await;
            let mut threads = Vec::new();
            for stopped in 0..3 {
                threads.clear();
                for _ in 0..6 {
                    served(address).await;
                    threads.extend(serves.recv().await);
                }
                let living: std::collections::HashSet<_> = threads.iter().collect();
                assert_eq!(living.len(), 3 - stopped, "{threads:?}");
                // The last one first: the thread of the first one accepts.
                let worker = serving.threads.pop().expect("a thread");
                worker.stop();
                worker.join().expect("it ends");
            }
            assert_eq!(serving.failed().await.to_string(), "no worker is left to serve connections");
        });
    }

    #[test]
    fn who_finds_no_place_waits_for_one() {
        System::new().block_on(async {
            let hub = Arbiter::new().handle();
            let (_serving, address, mut serves) = serve(&hub, 1, 1).await;
            let first = served(address).await;
            let mut second = TcpStream::connect(address).await.expect("the kernel takes it in");
            // Had a second place been there, it would have been served by the time that a whole round of the thread is over.
            let (told, round) = oneshot::channel();
            hub.spawn(async move {
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                let _ = told.send(());
            });
            round.await.expect("the thread runs");
            assert!(serves.try_recv().is_ok() && serves.try_recv().is_err());
            drop(first);
            assert_eq!(second.read_u8().await.expect("its byte"), b'!');
        });
    }

    #[test]
    fn what_is_open_outlives_a_pause_and_ends_with_the_port() {
        System::new().block_on(async {
            for workers in [1, 2] {
                let hub = Arbiter::new().handle();
                let (serving, address, _serves) = serve(&hub, workers, MANY).await;
                let mut open = served(address).await;
                serving.pause();
                // Until the workers alone look at it.
                while serving.accepting.receiver_count() > workers {
                    tokio::task::yield_now().await;
                }
                TcpStream::connect(address).await.expect_err("the port is closed");
                assert!(open.try_read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock));
                drop(serving);
                assert_eq!(open.read(&mut [0]).await.expect("its end"), 0);
            }
        });
    }
}
