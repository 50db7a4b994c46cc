//! Composition root: hub, server sender, workers and transports behind the handle `io`.

mod accept;
mod builder;
mod embedding;
mod http_connection;
mod http_permits;
mod http_requests;
mod listener;
mod memory;
mod metrics;
mod port;
mod port_worker;
mod queue;
mod recovery;
mod resources;
#[cfg(test)]
mod simulation;
#[cfg(unix)]
mod socket_file;
mod start;
#[cfg(feature = "tls")]
mod tls;

use std::io;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::ArbiterHandle;
use actix::dev::SendError;
use thiserror::Error;
use tokio::sync::oneshot;

use self::http_permits::HttpPermits;
use crate::api::answers::Answers;
use crate::api::args::{FromArgs, ToArgs};
use crate::api::broadcast::Broadcast;
use crate::api::core::Socket;
use crate::api::error::{EmitError, RoomError};
use crate::api::namespace::{Namespace, NamespacePattern};
use crate::api::operators::emitter;
use crate::hub::HubAddress;
use crate::ids::NamespacePath;
use crate::limits::Limits;
use crate::messages::hub::HubControl;
use crate::messages::session::SessionCommand;
use crate::messages::subscribers::SubscriberCommand;
use crate::metrics::Metrics;
use crate::protocol::reason::DisconnectReason;
use crate::queue::service::QueueService;
use crate::transport::{Endpoint, HttpRefusal};

pub use self::builder::{BuildError, Builder};
pub use self::embedding::on_connect;
pub use self::listener::Listener;
pub use self::metrics::METRICS_CONTENT_TYPE;
pub use self::port::Port;
pub use self::queue::Queue;
pub use self::recovery::Recovery;
pub use self::resources::RequestBody;
#[cfg(feature = "tls")]
pub use self::tls::{Tls, TlsError};

/// Reason why a server accepts no new sessions, or should receive none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotAccepting {
    /// The server is closing and will not accept sessions again.
    #[error("server is closing")]
    Closing,
    /// [`limits.sessions.max`](crate::limits::SessionLimits::max) is reached.
    #[error("server has as many sessions as sessions_max allows")]
    Full,
    /// 95 % of [`limits.sessions.max`](crate::limits::SessionLimits::max) are reached. Sessions are
    /// still accepted, so that a load balancer has time to choose another server.
    #[error("server has nearly as many sessions as sessions_max allows")]
    NearlyFull,
    /// 95 % of [`limits.http.connections_max`](crate::limits::HttpLimits::connections_max) are
    /// reached. Connections are still accepted.
    #[error("server has nearly as many HTTP connections as http_connections_max allows")]
    HttpNearlyFull,
    /// [`limits.http.connections_max`](crate::limits::HttpLimits::connections_max) is reached.
    #[error("server has as many HTTP connections as http_connections_max allows")]
    HttpFull,
    /// The system refuses further connections, usually because no file descriptor is left.
    #[error("connections cannot be accepted; see the log")]
    AcceptFails,
}

/// Returns whether at least 95 % of a limit are in use.
fn is_near((used, most): (usize, usize)) -> bool {
    used >= most - most / 20
}

/// Returns the number of sessions per wave, at least one, and the pause between waves that spreads
/// the waves over the time `over`.
fn drain_waves(sessions: usize, over: Duration) -> (usize, Duration) {
    let waves_max = usize::try_from(over.as_millis() / DRAIN_WAVE.as_millis()).unwrap_or(usize::MAX).max(1);
    let wave_sessions = sessions.div_ceil(waves_max).max(1);
    let waves = sessions.div_ceil(wave_sessions).max(1);
    (wave_sessions, over / u32::try_from(waves).unwrap_or(u32::MAX))
}

/// Interval between log lines while a closing server waits for its journal.
const CLOSE_REPORT: Duration = Duration::from_secs(5);

/// Time limit for sessions to end when the server closes.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Minimum pause between waves of a drain.
const DRAIN_WAVE: Duration = Duration::from_millis(100);

/// Interval between checks for remaining sessions.
const CLOSE_POLL: Duration = Duration::from_millis(5);

/// Handle of a server, the `io` of Socket.IO. The handle is cheap to clone and usable from any
/// thread.
#[derive(Clone)]
pub struct Server {
    endpoint: Endpoint,
    hub: HubAddress,
    queue: Option<Arc<QueueService>>,
    hub_thread: ArbiterHandle,
    path: Arc<str>,
    root: Namespace,
    metrics: Arc<Metrics>,
    http_permits: HttpPermits,
}

impl Server {
    /// Returns a builder for a server. Settings that exist in Socket.IO have the same defaults.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Returns a namespace and creates it if it does not exist. `/` always exists.
    ///
    /// # Panics
    ///
    /// If `path` does not begin with `/`, contains a comma, or is longer than 256 bytes.
    pub fn of(&self, path: &str) -> Namespace {
        match NamespacePath::parse(path) {
            Ok(path) => Namespace::new(self.endpoint.services.core.clone(), path),
            Err(error) => panic!("Server::of({path:?}): {error}"),
        }
    }

    /// Registers all namespaces whose paths match. Such a namespace exists while it has sockets. If
    /// several patterns match a path, the one that was registered first is used. A namespace
    /// created by [`of`](Self::of) takes precedence over all patterns.
    ///
    /// `matches` is called for every CONNECT to a path that `of` has not created. To check
    /// credentials, add middleware to the pattern ([`NamespacePattern::with`]).
    ///
    /// ```no_run
    /// # use stentor::{ConnectError, Server};
    /// # fn register(io: &Server) {
    /// io.of_matching(|path| path.starts_with("/tenant-"))
    ///     .with(|socket| async move {
    ///         let token: Option<String> = socket.auth().map_err(|_| ConnectError::new("token is not a string"))?;
    ///         token.map(drop).ok_or_else(|| ConnectError::new("token is missing"))
    ///     })
    ///     .on_connection(|socket| async move {
    ///         log::info!("connected to {}", socket.namespace().path());
    ///         Ok(())
    ///     });
    /// # }
    /// ```
    pub fn of_matching(&self, matches: impl Fn(&str) -> bool + Send + Sync + 'static) -> NamespacePattern {
        NamespacePattern::new(self.endpoint.services.core.clone(), Arc::new(matches))
    }

    /// Returns a namespace that exists or whose path matches a pattern. Unlike [`Server::of`], this
    /// method creates no namespace.
    pub fn find(&self, path: &str) -> Option<Namespace> {
        let path = NamespacePath::parse(path).ok()?;
        let core = &self.endpoint.services.core;
        core.registry.contains(&path).then(|| Namespace::existing(core.clone(), path))
    }

    emitter!();

    /// Targets every socket of `/`.
    pub fn all(&self) -> Broadcast {
        self.root.all()
    }

    /// Limits of the start, which [`reload`](Self::reload) does not change. Limits on memory that
    /// [`Builder::limits`] left unset have computed values.
    pub fn limits(&self) -> &Limits {
        &self.endpoint.services.core.limits
    }

    /// Number of connected sessions on all transports.
    pub fn sessions(&self) -> usize {
        self.endpoint.services.directory.len()
    }

    /// Checks whether the server accepts new sessions and is below 95 % of its limits, for the
    /// readiness probe of a load balancer.
    pub fn accepting(&self) -> Result<(), NotAccepting> {
        let sessions_max = self.endpoint.services.directory.limits.get().sessions.max;
        match self.endpoint.check_capacity() {
            Ok(()) if self.http_permits.is_accept_failing(Instant::now()) => Err(NotAccepting::AcceptFails),
            Ok(()) if self.http_permits.is_full() => Err(NotAccepting::HttpFull),
            Ok(()) if is_near((self.sessions(), sessions_max)) => Err(NotAccepting::NearlyFull),
            Ok(()) if is_near(self.http_permits.in_use()) => Err(NotAccepting::HttpNearlyFull),
            Ok(()) => Ok(()),
            Err(HttpRefusal::Closing) => Err(NotAccepting::Closing),
            Err(_) => Err(NotAccepting::Full),
        }
    }

    /// True while the store of the queue has failed. Durable publishes then fail, and everything
    /// else continues. The server opens the store again by itself.
    pub fn queue_has_failed(&self) -> bool {
        self.queue.as_ref().is_some_and(|queue| !queue.state().is_available())
    }

    /// Returns the metrics as text for Prometheus (OpenMetrics 1.0, content type
    /// [`METRICS_CONTENT_TYPE`]).
    ///
    /// Each thread has its own counters. A scrape adds them up without locks, so the result is not
    /// a snapshot of one moment.
    ///
    /// | name | kind | unit | |
    /// |---|---|---|---|
    /// | `stentor_build_info{version}` | gauge | | 1 |
    /// | `stentor_sessions_max` | gauge | sessions | limit in force, [`limits.sessions.max`](crate::limits::SessionLimits::max) |
    /// | `stentor_http_connections_max` | gauge | connections | limit in force, [`limits.http.connections_max`](crate::limits::HttpLimits::connections_max) |
    /// | `stentor_connections{transport}` | gauge | sessions | by current transport: `polling`, `websocket` |
    /// | `stentor_sessions_opened_total{transport}` | counter | sessions | by first transport |
    /// | `stentor_upgrades_total` | counter | sessions | upgraded from polling to websocket |
    /// | `stentor_sessions_closed_total{reason}` | counter | sessions | by [`DisconnectReason`] |
    /// | `stentor_requests_refused_total{code,reason}` | counter | requests | by code of Engine.IO and reason |
    /// | `stentor_http_connections_closed_total{reason}` | counter | connections | closed by the server: idle, evicted for a new client, timed out, malformed, failed TLS handshakes |
    /// | `stentor_oversized_messages_total{transport}` | counter | messages | larger than [`limits.transport.payload_bytes_max`](crate::limits::TransportLimits::payload_bytes_max) |
    /// | `stentor_received_packets_total` | counter | packets | Engine.IO packets from clients |
    /// | `stentor_received_bytes_total` | counter | bytes | data of received packets, without framing |
    /// | `stentor_received_events_total` | counter | events | from clients on connected sockets |
    /// | `stentor_sent_packets_total` | counter | packets | sent by websockets and polls |
    /// | `stentor_sent_bytes_total` | counter | bytes | sent packets, counted as websocket frames on both transports |
    /// | `stentor_deliveries_total` | counter | events | broadcast, once for each recipient |
    /// | `stentor_dropped_events_total{reason}` | counter | events | once for each recipient: `not_ready` (volatile), `outbox_full` (the session ends) |
    /// | `stentor_replayed_events_total` | counter | events | read from the journal for one client |
    /// | `stentor_lags_total` | counter | sockets | read too slowly and continued from the journal |
    /// | `stentor_catching_up_sockets` | gauge | sockets | receive events from the journal |
    /// | `stentor_recoveries_total{verdict}` | counter | sockets | requests to recover: `recovered`, or the reason of the refusal |
    /// | `stentor_recovery_sessions` | gauge | sessions | known for recovery, connected or disconnected |
    /// | `stentor_recovery_session_bytes` | gauge | bytes | of the sessions known for recovery; see [`limits.recovery.bytes_max`](crate::limits::RecoveryLimits::bytes_max) |
    /// | `stentor_recovery_session_bytes_max` | gauge | bytes | limit of `stentor_recovery_session_bytes` |
    /// | `stentor_recovery_given_up_total` | counter | sessions | given up, because one session or all together exceeded a limit |
    /// | `stentor_journal_records_total` | counter | records | written to the journal |
    /// | `stentor_journal_failures_total` | counter | journals | replaced after an error; recovery starts over |
    /// | `stentor_flush_packets` | histogram | packets | in one write |
    /// | `stentor_handler_seconds` | histogram | seconds | duration of a handler, waits included |
    /// | `stentor_handlers_failed_total{how}` | counter | handlers | `error`, `panic` |
    /// | `stentor_sockets` | gauge | sockets | connected to namespaces |
    /// | `stentor_rooms` | gauge | rooms | with members, without the sockets' own rooms |
    /// | `stentor_hub_commands_total` | counter | commands | received by the hub |
    /// | `stentor_hub_events_total` | counter | events | received by the hub, once each |
    /// | `stentor_hub_queue_commands` | gauge | commands | sent to the hub and not yet received |
    /// | `stentor_hub_answers_held` | gauge | commands | held back: their senders caused much work, or workers are lagging |
    /// | `stentor_hub_unwritten_bytes` | gauge | bytes | sent to workers and not yet written |
    /// | `stentor_credit_waits_total` | counter | commands | waited for credit |
    /// | `stentor_credit_refusals_total` | counter | commands | failed as overloaded for lack of credit |
    /// | `stentor_rate_limited_total` | counter | events | events, CONNECTs and DISCONNECTs beyond a rate limit |
    /// | `stentor_outboxes_cut_total` | counter | sessions | ended because the budget of outboxes was exceeded |
    /// | `stentor_stalled_sessions_total` | counter | sessions | ended because clients read nothing |
    /// | `stentor_incoming_refused_total` | counter | messages | refused because the budget of input was exceeded |
    /// | `stentor_budget_bytes{budget}` | gauge | bytes | used by clients of `outboxes`, `incoming`, `rooms` |
    /// | `stentor_budget_bytes_max{budget}` | gauge | bytes | limit of each budget |
    /// | `stentor_joins_refused_total` | counter | joins | refused because a limit of rooms was reached |
    /// | `stentor_journal_waits_total` | counter | commands | delayed because the journal share of their sender was used up |
    ///
    /// With a [queue](crate::Queue) also:
    ///
    /// | name | kind | unit | |
    /// |---|---|---|---|
    /// | `stentor_queue_events` | gauge | events | stored, and dead letters |
    /// | `stentor_queue_bytes` | gauge | bytes | of stored events and dead letters; see [`limits.queue.bytes_max`](crate::limits::QueueLimits::bytes_max) |
    /// | `stentor_queue_bytes_max` | gauge | bytes | limit of `stentor_queue_bytes` |
    /// | `stentor_queue_waiting_changes` | gauge | changes | wait for a commit |
    /// | `stentor_queue_available` | gauge | | 1 while durable events can be stored, otherwise 0 |
    /// | `stentor_queue_failures_total` | counter | | failed commits and openings of the store |
    /// | `stentor_queue_stored_events_total` | counter | events | stored for their publishers |
    /// | `stentor_queue_duplicates_total` | counter | publishes | of an event that was stored before |
    /// | `stentor_queue_refused_total{reason}` | counter | publishes | failed: `conflict`, `indeterminate`, `invalid`, `overloaded`, `too_large`, `unavailable` |
    /// | `stentor_queue_commit_seconds` | histogram | seconds | duration of a commit |
    /// | `stentor_queue_commit_changes` | histogram | changes | in one commit |
    /// | `stentor_subscribers{state}` | gauge | subscribers | `attached` to a socket, `away` |
    /// | `stentor_subscriber_in_flight_events` | gauge | events | sent to subscribers and not handled |
    /// | `stentor_subscriber_oldest_age_seconds` | gauge | seconds | age of the oldest event that is not acknowledged; found by a walk over all subscribers, at most 64 each second |
    /// | `stentor_subscriber_largest_backlog_events` | gauge | events | pending for the subscriber with most, counted up to 1 000; found by the same walk |
    /// | `stentor_subscriber_dead_letters` | gauge | events | stored dead letters |
    /// | `stentor_subscriber_sent_events_total` | counter | events | sent to subscribers, repetitions included |
    /// | `stentor_subscriber_answers_total{answer}` | counter | events | `ack` (once committed), `nak`, `term` |
    /// | `stentor_subscriber_answers_ignored_total{reason}` | counter | answers | `unknown` (to events never sent), `overload` (the event is sent again) |
    /// | `stentor_subscriber_redeliveries_total{reason}` | counter | events | failed deliveries that are repeated: `nak`, `timeout`, `connection_lost` |
    /// | `stentor_subscriber_undeliverable_total` | counter | events | given up after all deliveries |
    /// | `stentor_subscriber_dead_lettered_total` | counter | events | became dead letters |
    /// | `stentor_subscriber_gaps_total{reason}` | counter | gaps | reported, by [`GapReason`](crate::GapReason) |
    /// | `stentor_subscriber_evictions_total` | counter | sockets | replaced by newer ones of their name, or removed |
    /// | `stentor_subscriber_expired_events_total` | counter | events | not sent since they had expired |
    /// | `stentor_subscriber_read_failures_total` | counter | reads | of the store that failed |
    pub fn metrics(&self) -> String {
        let (limits, budgets) = (self.endpoint.services.directory.limits.get(), self.endpoint.workers.budgets());
        metrics::text(self.metrics.clone(), limits, budgets.clone(), self.queue.clone())
    }

    /// Binds a TCP address for a port of the server's own. For unix sockets, TLS and sockets that
    /// are bound already, use [`listen`](Self::listen).
    pub fn bind(&self, address: impl ToSocketAddrs) -> io::Result<Listener> {
        self.listen(Port::bind(address)?)
    }

    /// Returns a listener on a port of the server's own. [`Listener::and`] adds further ports.
    pub fn listen(&self, port: impl Into<Port>) -> io::Result<Listener> {
        Listener::new(self.clone(), port.into())
    }

    /// Serves on an address until SIGINT or SIGTERM. If serving fails, the server is also
    /// [closed](Self::close), so that the next server can continue the journal.
    pub async fn run(&self, address: impl ToSocketAddrs) -> io::Result<()> {
        let outcome = match self.bind(address) {
            Ok(listener) => listener.run().await,
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            self.close().await;
        }
        outcome
    }

    #[cfg(feature = "bench-internals")]
    pub(crate) fn hub_thread(&self) -> &ArbiterHandle {
        &self.hub_thread
    }

    #[cfg(feature = "bench-internals")]
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn stop_accepting(&self) {
        self.endpoint.accepting.store(false, Ordering::Relaxed);
    }

    /// Closes every session as [`close`](Self::close) does, but in waves over the time `over`, so
    /// that clients do not all reconnect at the same moment. New sessions are refused immediately.
    pub async fn drain(&self, over: Duration) {
        self.stop_accepting();
        let links = self.endpoint.services.directory.links();
        let (wave_sessions, pause) = drain_waves(links.len(), over);
        for (nth, wave) in links.chunks(wave_sessions).enumerate() {
            if nth > 0 {
                tokio::time::sleep(pause).await;
            }
            for link in wave {
                // An error is ignored, since it means that the session has already ended.
                let _ = link.post(SessionCommand::Close(DisconnectReason::ServerShuttingDown));
            }
        }
        self.close().await;
    }

    /// Closes every session at transport level, without a DISCONNECT packet, so that clients
    /// reconnect. Waits for at most half a second until all sessions have ended. Then waits until
    /// durable events that were published are stored, and until the journal is on the disk, each
    /// for at most [`limits.journal.stop_timeout`](crate::limits::JournalLimits::stop_timeout).
    pub async fn close(&self) {
        self.stop_accepting();
        self.control_hub(HubControl::Shutdown);
        let all_gone = async {
            while self.sessions() > 0 {
                tokio::time::sleep(CLOSE_POLL).await;
            }
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, all_gone).await.is_err() {
            log::warn!("sessions not ended in time count={}", self.sessions());
        }
        self.close_queue().await;
        let (done, closed) = oneshot::channel();
        self.control_hub(HubControl::Close(done));
        let stop_timeout = self.limits().journal.stop_timeout;
        if !is_closed_within(closed, "journal", stop_timeout).await {
            log::error!("journal not closed in time, a reboot of the machine loses it stop_timeout={stop_timeout:?}");
        }
    }

    /// Sends a message to the hub also if its mailbox is full: it must close what it keeps.
    fn control_hub(&self, control: HubControl) {
        let sent = self.hub.control.try_send(control).or_else(|error| match error {
            // A new clone may send one message beyond the capacity of the mailbox.
            SendError::Full(control) => self.hub.control.clone().try_send(control),
            closed => Err(closed),
        });
        if sent.is_err() {
            log::warn!("hub has ended before the server was closed");
        }
    }

    /// Commits the durable events that were submitted. The hub still reveals them.
    async fn close_queue(&self) {
        let Some(queue) = self.queue.clone() else { return };
        if let Some(subscribers) = &self.endpoint.services.core.subscribers {
            // Until then, what attached subscribers may have received is not stored.
            let (done, closed) = oneshot::channel();
            subscribers.post(SubscriberCommand::Close(done));
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, closed).await;
        }
        let (done, closed) = oneshot::channel();
        // Closing blocks while the disk does, and an actix system may have only this thread.
        let thread = std::thread::Builder::new().name("stentor-close".into()).spawn(move || {
            queue.close();
            let _ = done.send(());
        });
        let stop_timeout = self.limits().journal.stop_timeout;
        if thread.is_err() || !is_closed_within(closed, "queue", stop_timeout).await {
            log::error!("queue not closed in time, its publishers get no answer stop_timeout={stop_timeout:?}");
        }
    }
}

/// Waits until the journal or the queue is closed, and logs the wait every few seconds. Returns
/// false if it is not closed within `stop_timeout`.
async fn is_closed_within(mut closed: oneshot::Receiver<()>, what: &str, stop_timeout: Duration) -> bool {
    let start = tokio::time::Instant::now();
    loop {
        let left = stop_timeout.saturating_sub(start.elapsed());
        match tokio::time::timeout(left.min(CLOSE_REPORT), &mut closed).await {
            Ok(closed) => return closed.is_ok(),
            Err(_) if start.elapsed() >= stop_timeout => return false,
            Err(_) => {
                log::info!("server waits for the {what} to be written waited={:?}", start.elapsed());
            }
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("path", &self.path).field("sessions", &self.sessions()).finish_non_exhaustive()
    }
}

/// Compiles the Rust blocks of the documents as doc tests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../docs/migrating-from-node.md")]
    struct MigratingFromNode;
    #[doc = include_str!("../../docs/queue.md")]
    struct Queue;
    #[doc = include_str!("../../docs/server-api.md")]
    struct ServerApi;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_waits_for_the_journal_until_its_time_limit() {
        // In an earlier version, the server waited for half a second, and a slow disk left the
        // journal open.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (done, closed) = oneshot::channel();
            tokio::spawn(async move {
                tokio::time::sleep(CLOSE_TIMEOUT * 3 / 2).await;
                let _ = done.send(());
            });
            assert!(is_closed_within(closed, "journal", Duration::from_secs(30)).await);
            let (_slow, never_closed) = oneshot::channel();
            assert!(!is_closed_within(never_closed, "journal", Duration::from_millis(1)).await);
            let (_, hub_is_gone) = oneshot::channel();
            assert!(!is_closed_within(hub_is_gone, "journal", Duration::from_secs(30)).await);
        });
    }

    #[test]
    fn waves_are_spread_over_the_whole_time() {
        let minute = Duration::from_secs(60);
        for (sessions, over, wave_sessions, pause) in [
            (10, minute, 1, Duration::from_secs(6)),
            (600, minute, 1, DRAIN_WAVE),
            (60_000, minute, 100, DRAIN_WAVE),
            (900, minute, 2, Duration::from_secs(60) / 450),
            (1, minute, 1, minute),
            (0, minute, 1, minute),
            (7, Duration::ZERO, 7, Duration::ZERO),
            (2, Duration::MAX, 1, Duration::MAX / 2),
        ] {
            assert_eq!(drain_waves(sessions, over), (wave_sessions, pause), "{sessions} in {over:?}");
        }
    }
}
