//! The accept loops of the ports of a server. The first thread accepts connections and dispatches
//! them to all threads in turn, including itself.
//!
//! A single worker runs on the hub's own thread, so that a command and its answer stay on one
//! thread.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Arbiter, ArbiterHandle};
use actix_http::error::DispatchError;
use actix_service::ServiceFactory;
use tokio::sync::{mpsc, oneshot, watch};

use super::http_connection::{Deadlines, HttpConnections, HttpStream};
use super::http_permits::{HttpPermit, HttpPermits};
use super::port::{Acceptor, ListeningSocket, PortRules};
use super::port_worker::PortWorker;
use crate::live::Live;
use crate::metrics::WorkerMetrics;
use crate::transport::AccessPolicy;
use crate::transport::network_stream::{DetachedStream, PlainStream};

/// Pause after a failed accept. The usual reason is that no file descriptor is left.
const ACCEPT_RETRY: Duration = Duration::from_millis(500);

/// A connection, sent to a worker. The number of permits bounds the number of queued connections.
pub(super) struct AcceptedConnection {
    pub(super) stream: AcceptedStream,
    /// Address of the peer. Peers of a unix socket have none.
    pub(super) peer: Option<SocketAddr>,
    pub(super) port: Arc<PortRules>,
    pub(super) permit: HttpPermit,
}

#[derive(Clone)]
struct WorkerChannel {
    sender: mpsc::UnboundedSender<AcceptedConnection>,
    is_accepting_thread: bool,
}

pub(super) enum AcceptedStream {
    /// A stream registered with the reactor of the accepting thread.
    Local(PlainStream),
    Detached(DetachedStream),
}

impl AcceptedStream {
    pub(super) fn into_stream(self) -> io::Result<PlainStream> {
        match self {
            Self::Local(stream) => Ok(stream),
            Self::Detached(stream) => stream.attach(),
        }
    }

    fn detach(self) -> io::Result<Self> {
        match self {
            Self::Local(stream) => stream.detach().map(Self::Detached),
            detached @ Self::Detached(_) => Ok(detached),
        }
    }
}

/// The ports of a server, and what their connections have in common.
pub(super) struct Ports {
    pub(super) sockets: Vec<(ListeningSocket, PortRules)>,
    pub(super) permits: HttpPermits,
    pub(super) deadlines: Deadlines,
    pub(super) policy: Live<AccessPolicy>,
}

/// Accept loops of ports and their workers. Dropping this value closes the ports and all
/// connections.
pub(super) struct AcceptLoop {
    /// Sending false closes the ports. Dropping the sender also closes all connections.
    accepting: watch::Sender<bool>,
    /// Threads that serve only these ports. Empty if there is a single worker, which runs on the
    /// hub's thread.
    threads: Vec<Arbiter>,
    /// Resolves when the loops of all ports have ended.
    ended: oneshot::Receiver<()>,
}

impl AcceptLoop {
    /// Serves the ports' connections with services that `service` creates. If there is a single
    /// worker, it runs on the hub's thread. Several workers have threads of their own.
    pub(super) async fn start<S, F>(
        hub: &ArbiterHandle,
        workers: usize,
        ports: Ports,
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
        let Ports { sockets, permits, deadlines, policy } = ports;
        let (accepting, phase) = watch::channel(true);
        let (guard, ended) = oneshot::channel();
        let mut accept_loop = Self { accepting, threads: Vec::new(), ended };
        if workers > 1 {
            accept_loop.threads = (0..workers).map(|_| Arbiter::try_new()).collect::<io::Result<_>>()?;
        }
        let mut handles: Vec<_> = accept_loop.threads.iter().map(Arbiter::handle).collect();
        if handles.is_empty() {
            handles.push(hub.clone());
        }
        let mut channels = Vec::new();
        for thread in &handles {
            let (sender, accepted) = mpsc::unbounded_channel();
            let (ready, readiness) = oneshot::channel();
            let (service, phase) = (service.clone(), phase.clone());
            let (permits, metrics, policy) = (permits.clone(), metrics.clone(), policy.clone());
            channels.push(WorkerChannel { sender, is_accepting_thread: channels.is_empty() });
            thread.spawn_fn(move || {
                let worker =
                    PortWorker { permits, deadlines, policy, metrics, connections: HttpConnections::default() };
                drop(actix::spawn(async move {
                    let Ok(service) = service().new_service(()).await else { return };
                    let _ = ready.send(());
                    worker.serve(service, accepted, phase).await;
                }));
            });
            // The receiver also fails if the creation of the service panics.
            readiness.await.map_err(|_| io::Error::other("HTTP could not be set up on a worker"))?;
        }
        let (started, start) = oneshot::channel();
        handles[0].spawn(async move {
            // The sockets are registered on this thread, since each belongs to the reactor of the
            // thread that registers it.
            let register = |(socket, rules): (ListeningSocket, PortRules)| Ok((socket.register()?, Arc::new(rules)));
            let registered: io::Result<Vec<_>> = sockets.into_iter().map(register).collect();
            let (ports, outcome) = registered.map_or_else(|error| (Vec::new(), Err(error)), |ports| (ports, Ok(())));
            let _ = started.send(outcome);
            let guard = Arc::new(guard);
            for (socket, rules) in ports {
                let dispatcher = Dispatcher { rules, channels: channels.clone(), next: 0 };
                drop(actix::spawn(accept(phase.clone(), socket, dispatcher, permits.clone(), guard.clone())));
            }
        });
        start.await.unwrap_or_else(|_| Err(io::Error::other("the server's thread has ended")))?;
        Ok(accept_loop)
    }

    /// Closes the ports. Open connections are still served.
    pub(super) fn pause(&self) {
        self.accepting.send_replace(false);
    }

    /// Waits until accepting ends because every worker has ended. Never completes after
    /// [`pause`](Self::pause).
    pub(super) async fn failed(&mut self) -> io::Error {
        let _ = (&mut self.ended).await;
        if !*self.accepting.borrow() {
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

/// Accepts connections on the thread of the first channel until accepting is paused or no worker is
/// left. Connections without a permit wait in the kernel.
async fn accept(
    // The first parameter is dropped last, so the port is already closed when this receiver is
    // dropped.
    mut phase: watch::Receiver<bool>,
    socket: Acceptor,
    mut dispatcher: Dispatcher,
    permits: HttpPermits,
    _guard: Arc<oneshot::Sender<()>>,
) {
    while !dispatcher.channels.is_empty() {
        let accepted = async {
            permits.available().await;
            let (stream, peer) = socket.accept().await?;
            // This may wait, since another port of this server may have acquired the available
            // permit.
            let permit = permits.acquire().await.ok_or(io::ErrorKind::Other)?;
            io::Result::Ok((stream, peer, permit))
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            // The wait also ends, with an error, if the accept loop was dropped. Both cases close
            // the port.
            _ = phase.wait_for(|accepting| !accepting) => return,
        };
        let dispatched = accepted.and_then(|(stream, peer, permit)| dispatcher.dispatch(stream, peer, permit));
        match dispatched {
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
    log::error!("port closed, no worker is left");
}

/// Sends the connections of one port to the workers in turn.
struct Dispatcher {
    rules: Arc<PortRules>,
    channels: Vec<WorkerChannel>,
    next: usize,
}

impl Dispatcher {
    /// Sends a connection to the next worker that has not ended.
    fn dispatch(&mut self, stream: PlainStream, peer: Option<SocketAddr>, permit: HttpPermit) -> io::Result<()> {
        let stream = AcceptedStream::Local(stream);
        let mut accepted = AcceptedConnection { stream, peer, port: self.rules.clone(), permit };
        while !self.channels.is_empty() {
            let at = self.next % self.channels.len();
            if !self.channels[at].is_accepting_thread {
                accepted.stream = accepted.stream.detach()?;
            }
            match self.channels[at].sender.send(accepted) {
                Ok(()) => {
                    self.next = at + 1;
                    return Ok(());
                }
                Err(refused) => {
                    accepted = refused.0;
                    self.channels.remove(at);
                    log::error!("worker ended, new connections go to the others left={}", self.channels.len());
                }
            }
        }
        Ok(())
    }
}

/// Returns whether the error concerns one connection only, so that the next accept may succeed.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread::{self, ThreadId};

    use actix::System;
    use actix_service::fn_service;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::limits::Limits;
    use crate::server::port::Port;

    /// Number of permits that no test exhausts.
    const MANY: usize = 8;

    fn deadlines() -> Deadlines {
        Deadlines::new(&Limits::default())
    }

    fn ports(socket: TcpListener, ordinary: usize) -> Ports {
        let sockets = vec![Port::from(socket).into_parts(false)];
        Ports { sockets, permits: HttpPermits::new(ordinary, 0), deadlines: deadlines(), policy: Live::default() }
    }

    /// Serves a port. Every connection reports its thread to the test, sends a byte, and ends when
    /// the client closes it.
    async fn serve(
        hub: &ArbiterHandle,
        workers: usize,
        ordinary: usize,
    ) -> (AcceptLoop, SocketAddr, mpsc::UnboundedReceiver<ThreadId>) {
        let port = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = port.local_addr().expect("an address");
        let (served, serves) = mpsc::unbounded_channel();
        let service = move || {
            let served = served.clone();
            fn_service(move |mut stream: HttpStream| {
                let reported = served.send(thread::current().id());
                async move {
                    reported.map_err(io::Error::other)?;
                    stream.write_all(b"!").await?;
                    stream.read_to_end(&mut Vec::new()).await.map_err(DispatchError::Io).map(drop)
                }
            })
        };
        let serving = AcceptLoop::start(hub, workers, ports(port, ordinary), Arc::default(), service);
        let serving = serving.await.expect("the accept loop starts");
        (serving, address, serves)
    }

    /// Opens a connection and waits for the byte from the server.
    async fn served(address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.expect("the port is open");
        assert_eq!(stream.read_u8().await.expect("a byte"), b'!');
        stream
    }

    #[test]
    fn one_worker_serves_on_the_hub_thread_several_on_their_own() {
        System::new().block_on(async {
            let hub = Arbiter::new().handle();
            let (reported, thread_of_hub) = oneshot::channel();
            hub.spawn_fn(move || assert!(reported.send(thread::current().id()).is_ok()));
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
    fn a_service_that_cannot_be_created_is_an_error() {
        System::new().block_on(async {
            for workers in [1, 2] {
                let hub = Arbiter::new().handle();
                let port = TcpListener::bind("127.0.0.1:0").expect("a free port");
                let broken = || {
                    actix_service::fn_factory(|| async {
                        Err::<actix_service::boxed::BoxService<HttpStream, (), DispatchError>, ()>(())
                    })
                };
                assert!(AcceptLoop::start(&hub, workers, ports(port, MANY), Arc::default(), broken).await.is_err());
            }
        });
    }

    #[test]
    fn connections_of_an_ended_worker_go_to_the_others() {
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
                // The first thread is stopped last, since it accepts.
                let worker = serving.threads.pop().expect("a thread");
                worker.stop();
                worker.join().expect("the worker ends");
            }
            assert_eq!(serving.failed().await.to_string(), "no worker is left to serve connections");
        });
    }

    #[test]
    fn a_connection_without_a_permit_waits_for_one() {
        System::new().block_on(async {
            let hub = Arbiter::new().handle();
            let (_serving, address, mut serves) = serve(&hub, 1, 1).await;
            let first = served(address).await;
            let mut second = TcpStream::connect(address).await.expect("the kernel accepts the connection");
            // With a second permit, the server would have accepted the second connection within a
            // hundred turns of the thread.
            let (done, turns) = oneshot::channel();
            hub.spawn(async move {
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                let _ = done.send(());
            });
            turns.await.expect("the thread runs");
            assert!(serves.try_recv().is_ok() && serves.try_recv().is_err());
            drop(first);
            assert_eq!(second.read_u8().await.expect("a byte"), b'!');
        });
    }

    #[test]
    fn open_connections_survive_a_pause_and_end_with_the_port() {
        System::new().block_on(async {
            for workers in [1, 2] {
                let hub = Arbiter::new().handle();
                let (serving, address, _serves) = serve(&hub, workers, MANY).await;
                let mut open = served(address).await;
                serving.pause();
                // When only the workers still hold a receiver, the accept loop has ended.
                while serving.accepting.receiver_count() > workers {
                    tokio::task::yield_now().await;
                }
                TcpStream::connect(address).await.expect_err("the port is closed");
                assert!(open.try_read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock));
                drop(serving);
                assert_eq!(open.read(&mut [0]).await.expect("the end of the stream"), 0);
            }
        });
    }
}
