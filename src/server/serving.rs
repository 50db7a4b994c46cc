//! The threads that serve a port: the first takes connections in, and deals them out in turn to all, itself included.
//!
//! One worker lives on the hub's own thread: a command and its answer then cross no thread, and wake none. What a connection
//! says is not known here.

use std::fmt::Debug;
use std::future::poll_fn;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Arbiter, ArbiterHandle};
use actix_service::{Service, ServiceFactory};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;

/// Before connections are taken again when the system has refused one: no descriptor is left, mostly.
const ACCEPT_RETRY: Duration = Duration::from_millis(500);

/// A connection on its way to its worker, and its place among those that speak HTTP. There are as many as there are places.
type Dealt = (Taken, OwnedSemaphorePermit);

/// A connection that was taken in.
enum Taken {
    /// For the thread that took it in, whose reactor knows it.
    Here(TcpStream),
    /// For another.
    Elsewhere(std::net::TcpStream),
}

impl Taken {
    fn of(stream: TcpStream, line: usize) -> io::Result<Self> {
        if line == 0 { Ok(Self::Here(stream)) } else { stream.into_std().map(Self::Elsewhere) }
    }

    fn settle(self) -> io::Result<TcpStream> {
        match self {
            Self::Here(stream) => Ok(stream),
            Self::Elsewhere(stream) => TcpStream::from_std(stream),
        }
    }
}

/// A port that is served, until this is dropped.
pub(super) struct Serving {
    /// Whether connections are taken in. Its end is the end of all.
    accepting: watch::Sender<bool>,
    /// Of this port alone, with everything on them.
    threads: Vec<Arbiter>,
}

impl Serving {
    /// Serves what comes in on the port with what `service` makes: on the hub's thread if that is the one worker, else on
    /// `workers` threads of its own.
    pub(super) async fn start<S, F>(
        hub: &ArbiterHandle,
        workers: usize,
        (port, places): (TcpListener, usize),
        service: S,
    ) -> io::Result<Self>
    where
        S: Fn() -> F + Clone + Send + 'static,
        F: ServiceFactory<TcpStream, Config = (), InitError = (), Service: 'static, Error: Debug> + 'static,
    {
        let (accepting, phase) = watch::channel(true);
        let mut serving = Self { accepting, threads: Vec::new() };
        if workers > 1 {
            serving.threads = (0..workers).map(|_| Arbiter::try_new()).collect::<io::Result<_>>()?;
        }
        let mut handles: Vec<_> = serving.threads.iter().map(Arbiter::handle).collect();
        if handles.is_empty() {
            handles.push(hub.clone());
        }
        let mut lines = Vec::new();
        for thread in &handles {
            let (line, dealt) = mpsc::unbounded_channel();
            let (ready, readiness) = oneshot::channel();
            let (service, phase) = (service.clone(), phase.clone());
            lines.push(line);
            thread.spawn_fn(move || drop(actix::spawn(work(service(), ready, dealt, phase))));
            // Fails also when what sets the service up panics.
            readiness.await.map_err(|_| io::Error::other("HTTP could not be set up on a worker"))?;
        }
        let (begun, beginning) = oneshot::channel();
        let places = Arc::new(Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS)));
        handles[0].spawn(async move {
            // The listener belongs to the reactor of the thread that it was made on.
            let listener = tokio::net::TcpListener::from_std(port);
            let (listener, outcome) = listener.map_or_else(|error| (None, Err(error)), |it| (Some(it), Ok(())));
            let _ = begun.send(outcome);
            if let Some(listener) = listener {
                drop(actix::spawn(accept(phase, listener, lines, places)));
            }
        });
        beginning.await.unwrap_or_else(|_| Err(io::Error::other("the server's thread has ended")))?;
        Ok(serving)
    }

    /// Takes no more connections in; those that are there go on.
    pub(super) fn pause(&self) {
        self.accepting.send_replace(false);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        for thread in &self.threads {
            thread.stop();
        }
    }
}

/// Takes connections in until it is to pause, no more than there are places for; further ones wait in the kernel. Runs on the
/// thread of the first line.
async fn accept(
    // Dropped last: who sees that nobody looks at the phase any more finds the port closed.
    mut phase: watch::Receiver<bool>,
    listener: tokio::net::TcpListener,
    lines: Vec<mpsc::UnboundedSender<Dealt>>,
    places: Arc<Semaphore>,
) {
    for (at, line) in lines.iter().enumerate().cycle() {
        let taken = async {
            let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
            let (stream, _) = listener.accept().await?;
            io::Result::Ok((Taken::of(stream, at)?, place))
        };
        let taken = tokio::select! {
            taken = taken => taken,
            // Also when the port is given up.
            _ = phase.wait_for(|accepting| !accepting) => return,
        };
        match taken {
            Ok(dealt) => {
                if line.send(dealt).is_err() {
                    log::error!("connection closed, its worker is gone");
                }
            }
            Err(error) if is_of_one_connection(&error) => log::debug!("connection not taken in error={error}"),
            Err(error) => {
                log::warn!("no connections are taken in for {ACCEPT_RETRY:?} error={error}");
                let paused = phase.wait_for(|accepting| !accepting);
                if tokio::time::timeout(ACCEPT_RETRY, paused).await.is_ok() {
                    return;
                }
            }
        }
    }
}

/// Whether the next connection may fare better right away.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Serves what is dealt to this thread, until the port is given up; what is open then ends.
async fn work<F>(
    service: F,
    ready: oneshot::Sender<()>,
    mut dealt: mpsc::UnboundedReceiver<Dealt>,
    mut phase: watch::Receiver<bool>,
) where
    F: ServiceFactory<TcpStream, Config = (), InitError = (), Service: 'static, Error: Debug>,
{
    let Ok(service) = service.new_service(()).await.map(Rc::new) else { return };
    let _ = ready.send(());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some((stream, place)) = dealt.recv() => {
                let stream = match stream.settle() {
                    Ok(stream) => stream,
                    Err(error) => {
                        log::warn!("connection not served error={error}");
                        continue;
                    }
                };
                let service = service.clone();
                connections.spawn_local(async move {
                    let served = match poll_fn(|cx| service.poll_ready(cx)).await {
                        Ok(()) => service.call(stream).await,
                        Err(error) => Err(error),
                    };
                    if let Err(error) = served {
                        log::debug!("connection ended error={error:?}");
                    }
                    drop(place);
                });
            }
            Some(_) = connections.join_next() => {}
            Err(_) = phase.wait_for(|_| false) => return,
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
    use crate::server::listener::listen;

    /// Connections that no test runs out of.
    const MANY: usize = 8;

    /// Serves a port: every connection says a byte, tells the test its thread, and ends when its client has.
    async fn serve(
        hub: &ArbiterHandle,
        workers: usize,
        places: usize,
    ) -> (Serving, SocketAddr, mpsc::UnboundedReceiver<ThreadId>) {
        let port = listen("127.0.0.1:0".parse().expect("an address"), 16).expect("a free port");
        let address = port.local_addr().expect("an address");
        let (served, serves) = mpsc::unbounded_channel();
        let service = move || {
            let served = served.clone();
            fn_service(move |mut stream: TcpStream| {
                let told = served.send(thread::current().id());
                async move {
                    told.map_err(io::Error::other)?;
                    stream.write_all(b"!").await?;
                    stream.read_to_end(&mut Vec::new()).await
                }
            })
        };
        let serving = Serving::start(hub, workers, (port, places), service).await.expect("it begins");
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
                let port = || listen("127.0.0.1:0".parse().expect("an address"), 16).expect("a free port");
                let broken = || {
                    actix_service::fn_factory(|| async {
                        Err::<actix_service::boxed::BoxService<TcpStream, (), io::Error>, ()>(())
                    })
                };
                assert!(Serving::start(&hub, workers, (port(), MANY), broken).await.is_err());
            }
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
