//! A host application: an actix-web server on a free port of 127.0.0.1, in its own thread, stopped
//! when dropped.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use actix_web::web::ServiceConfig;
use actix_web::{App, HttpServer};
use tokio::sync::oneshot;

use super::{DEADLINE, eventually};

#[derive(Debug, Clone, Copy)]
pub(crate) struct HostSettings {
    pub(crate) workers: usize,
    /// Time for a client to close a finished connection; 0 by default, so that tests do not wait.
    /// (Other values below half a second may never pass: actix-http 3.20 measures them with a clock
    /// that it reads twice a second.)
    pub(crate) linger: Duration,
    /// Default of actix-web: a client that closed its side may still expect its response.
    pub(crate) half_closed: bool,
    /// True if `stentor::on_connect` is installed.
    pub(crate) prepared: bool,
}

impl Default for HostSettings {
    fn default() -> Self {
        Self { workers: 1, linger: Duration::ZERO, half_closed: true, prepared: true }
    }
}

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    /// Serves the application that `configure` sets up.
    pub(crate) fn start(
        settings: HostSettings,
        configure: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
    ) -> Self {
        let (ready, started) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || serve(settings, configure, &ready, stopped));
        let address = started.recv_timeout(DEADLINE).expect("the host starts");
        Self { address, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.stop.take());
        let Some(thread) = self.thread.take().filter(|_| !thread::panicking()) else { return };
        eventually("the host's thread ends", || thread.is_finished());
        assert!(thread.join().is_ok(), "the host's thread panicked");
    }
}

fn serve(
    settings: HostSettings,
    configure: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
    ready: &mpsc::Sender<SocketAddr>,
    stop: oneshot::Receiver<()>,
) {
    let HostSettings { workers, linger, half_closed, prepared } = settings;
    actix::System::new().block_on(async {
        let mut server = HttpServer::new(move || App::new().configure(configure.clone()))
            .workers(workers)
            .disable_signals()
            .client_disconnect_timeout(linger)
            .h1_allow_half_closed(half_closed);
        if prepared {
            server = server.on_connect(stentor::on_connect);
        }
        let server = server.bind("127.0.0.1:0").expect("a free port");
        ready.send(server.addrs()[0]).expect("the test waits");
        let running = server.run();
        let handle = running.handle();
        let running = actix::spawn(running);
        let _ = stop.await;
        handle.stop(false).await;
        running.await.expect("the host has not panicked").expect("the host ends without error");
    });
}
