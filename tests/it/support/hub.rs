//! A hub on two free ports of 127.0.0.1, its own and that of a host application, in its own thread,
//! stopped when dropped.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use actix_web::web::ServiceConfig;
use stentor::{AccessRules, Args, Builder, Event, Limits, Listener, Server};
use tokio::sync::oneshot;

use super::product::http::{self, ApiKey, ApiLimits, ApiSettings, Reloaded, Scopes};
use super::product::live::Live;
use super::{Client, DEADLINE, Host, HostSettings, Http, Transport, eventually};

/// Mounts a hub in a host application under the default path.
pub(crate) fn mount(io: &Server) -> impl Fn(&mut ServiceConfig) + Clone + Send + use<> {
    let io = io.clone();
    move |config| {
        config.configure(io.routes("/socket.io"));
    }
}

pub(crate) const API_KEY: &str = "0123456789abcdef";

pub(crate) struct Hub {
    pub(crate) address: SocketAddr,
    pub(crate) host: Host,
    pub(crate) io: Server,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Hub {
    /// A hub with default limits and `echo` in `/`.
    pub(crate) fn plain() -> Self {
        Self::start(|builder| builder, |_| {})
    }

    /// A hub with these limits and `echo` in `/`.
    pub(crate) fn limited(change: impl FnOnce(&mut Limits), register: impl FnOnce(&Server)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        Self::start(|builder| builder.limits(limits), register)
    }

    /// A hub with these limits of the HTTP API.
    pub(crate) fn with_api(
        api: ApiLimits,
        build: impl FnOnce(Builder) -> Builder,
        register: impl FnOnce(&Server),
    ) -> Self {
        Self::run(1, api, build(any_host()), |_, listener| listener, register)
    }

    /// A hub with one worker, which handles the input of two connections in order of arrival.
    pub(crate) fn start(build: impl FnOnce(Builder) -> Builder, register: impl FnOnce(&Server)) -> Self {
        Self::on_workers(1, build, register)
    }

    /// A hub with resources of the test beside those of `stentor serve`.
    pub(crate) fn with_http<C>(resources: impl FnOnce(&Server) -> C + Send + 'static) -> Self
    where
        C: Fn(&mut ServiceConfig) + Send + Sync + 'static,
    {
        Self::run(1, ApiLimits::default(), any_host(), |io, listener| listener.configure(resources(io)), |_| {})
    }

    pub(crate) fn on_workers(
        workers: usize,
        build: impl FnOnce(Builder) -> Builder,
        register: impl FnOnce(&Server),
    ) -> Self {
        Self::run(workers, ApiLimits::default(), build(any_host()), |_, listener| listener, register)
    }

    fn run(
        workers: usize,
        api: ApiLimits,
        builder: Builder,
        listen: impl FnOnce(&Server, Listener) -> Listener + Send + 'static,
        register: impl FnOnce(&Server),
    ) -> Self {
        let (ready, started) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || serve(builder, workers, api, listen, &ready, stopped));
        let (address, io) = started.recv_timeout(DEADLINE).expect("the hub starts");
        // `echo` answers with its arguments; every hub has it, as a check that it responds.
        io.of("/").on("echo", |_, event: Event<Args>| async move {
            event.ack.send(&event.data)?;
            Ok(())
        });
        register(&io);
        let host = Host::start(HostSettings { workers, ..HostSettings::default() }, mount(&io));
        Self { address, host, io, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn open(&self, transport: Transport) -> Client {
        Client::open(if transport.is_hosted() { self.host.address } else { self.address }, transport)
    }

    pub(crate) fn join(&self, transport: Transport) -> Client {
        let mut client = self.open(transport);
        client.connect("");
        client
    }

    /// Opens a session on a websocket whose send buffer fills after a few kilobytes, and connects
    /// to `/`.
    pub(crate) fn join_with_small_buffer(&self) -> Client {
        let mut client = Client::open_with_small_buffer(self.address);
        client.connect("");
        client
    }

    pub(crate) fn http(&self) -> Http {
        Http::connect(self.address)
    }

    /// Value of the metric with this name and these labels.
    #[track_caller]
    pub(crate) fn metric(&self, metric: &str) -> u64 {
        let metrics = self.io.metrics();
        let value = metrics.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no {metric} in\n{metrics}"))
    }

    pub(crate) fn wait_for_sessions(&self, count: usize) {
        eventually(&format!("{count} sessions, there are {}", self.io.sessions()), || self.io.sessions() == count);
    }

    /// Checks that all sessions are removed and that new clients are served on every transport.
    pub(crate) fn expect_healthy(&self) {
        self.wait_for_sessions(0);
        for transport in Transport::ALL {
            let mut client = self.join(transport);
            client.expect_echo();
            client.send("1");
        }
        self.wait_for_sessions(0);
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        drop(self.stop.take());
        let Some(thread) = self.thread.take().filter(|_| !thread::panicking()) else { return };
        eventually("the hub's thread ends", || thread.is_finished());
        assert!(thread.join().is_ok(), "the hub's thread panicked");
    }
}

/// Tests send any Host header; tests about hosts set the allowed ones.
fn any_host() -> Builder {
    Server::builder().allowed_hosts(["*"])
}

fn serve(
    builder: Builder,
    workers: usize,
    api: ApiLimits,
    listen: impl FnOnce(&Server, Listener) -> Listener,
    ready: &mpsc::Sender<(SocketAddr, Server)>,
    stop: oneshot::Receiver<()>,
) {
    let system = actix::System::new();
    system.block_on(async {
        let io = builder.build().expect("the server is built");
        let listener = io.bind("127.0.0.1:0").expect("a free port").workers(workers).disable_signals();
        let keys = vec![ApiKey::new(Scopes::ALL, API_KEY)];
        let api = Live::new(ApiSettings { keys, limits: api, rules: AccessRules::default() });
        let listener =
            listen(&io, listener.configure(http::routes(io.clone(), api, Arc::new(|| Ok(Reloaded::default())))));
        let address = listener.local_addr().expect("an address");
        let running = actix::spawn(listener.run());
        ready.send((address, io.clone())).expect("the test waits");
        let _ = stop.await;
        io.close().await;
        running.abort();
    });
    // Stops the arbiters of workers and hub.
    actix::System::current().stop();
    system.run().expect("the system ends");
}
