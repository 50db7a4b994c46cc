//! The composition root: puts hub, server sender, workers and transports together, and hands out the `io` handle.

mod accept;
mod builder;
mod embedding;
mod http_connection;
mod http_permits;
mod http_requests;
mod listener;
mod memory;
mod metrics;
mod resources;
#[cfg(test)]
mod simulation;

use std::io;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::ArbiterHandle;
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
use crate::metrics::Metrics;
use crate::protocol::reason::DisconnectReason;
use crate::transport::{Endpoint, Refusal};

pub use self::builder::{BuildError, Builder, Recovery};
pub use self::embedding::on_connect;
pub use self::listener::Listener;
pub use self::metrics::METRICS_CONTENT_TYPE;
pub use self::resources::RequestBody;

/// Why a server lets no new sessions in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotAccepting {
    /// It is closing; it will not accept again.
    #[error("server is closing")]
    Closing,
    /// It has as many sessions as [`limits.sessions.max`](crate::limits::SessionLimits::max) allows.
    #[error("server has as many sessions as it may have")]
    Full,
    /// As many connections speak HTTP as [`limits.http.connections_max`](crate::limits::HttpLimits::connections_max) allows.
    #[error("server has as many HTTP connections as http_connections_max allows")]
    HttpFull,
    /// The system refuses further connections, mostly since no descriptor is left.
    #[error("connections cannot be accepted; see the log")]
    AcceptFails,
}

/// Sessions in each wave, at least one, and the time between two waves, so that all waves take about this long.
fn drain_waves(sessions: usize, over: Duration) -> (usize, Duration) {
    let waves_max = usize::try_from(over.as_millis() / DRAIN_WAVE.as_millis()).unwrap_or(usize::MAX).max(1);
    let wave_sessions = sessions.div_ceil(waves_max).max(1);
    let waves = sessions.div_ceil(wave_sessions).max(1);
    (wave_sessions, over / u32::try_from(waves).unwrap_or(u32::MAX))
}

/// Between two lines about what a server that closes still waits for.
const CLOSE_REPORT: Duration = Duration::from_secs(5);

/// Longest a server waits for its sessions to part when it closes.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// At least so long between two waves of sessions that are closed.
const DRAIN_WAVE: Duration = Duration::from_millis(100);

/// Between two looks at how many sessions are left.
const CLOSE_LOOK: Duration = Duration::from_millis(5);

/// A server: the `io` of Socket.IO. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Server {
    endpoint: Endpoint,
    hub: HubAddress,
    hub_thread: ArbiterHandle,
    path: Arc<str>,
    root: Namespace,
    metrics: Arc<Metrics>,
    http_permits: HttpPermits,
}

impl Server {
    /// Begins a server. Every setting has Socket.IO's default where Socket.IO has one.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A namespace, which comes to be if it was not there. `/` always is.
    ///
    /// # Panics
    ///
    /// If `path` does not begin with `/`, holds a comma, or is longer than 256 bytes: a mistake in the program.
    pub fn of(&self, path: &str) -> Namespace {
        match NamespacePath::parse(path) {
            Ok(path) => Namespace::new(self.endpoint.services.core.clone(), path),
            Err(error) => panic!("Server::of({path:?}): {error}"),
        }
    }

    /// All namespaces whose paths match: they exist while they have sockets. Where several patterns match a path, the first
    /// that was made counts; a namespace made by [`of`](Self::of) goes before all patterns.
    ///
    /// `matches` is asked at every CONNECT to a path that `of` has not made; what else a client must bring is for
    /// [`NamespacePattern::with`] to see.
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
    ///         log::info!("someone came to {}", socket.namespace().path());
    ///         Ok(())
    ///     });
    /// # }
    /// ```
    pub fn of_matching(&self, matches: impl Fn(&str) -> bool + Send + Sync + 'static) -> NamespacePattern {
        NamespacePattern::new(self.endpoint.services.core.clone(), Arc::new(matches))
    }

    /// A namespace that is there already, or whose path a pattern matches. Unlike [`Server::of`] this brings none into being.
    pub fn find(&self, path: &str) -> Option<Namespace> {
        let path = NamespacePath::parse(path).ok()?;
        let core = &self.endpoint.services.core;
        core.registry.contains(&path).then(|| Namespace::existing(core.clone(), path))
    }

    emitter!();

    /// Every socket of `/`, to be narrowed.
    pub fn all(&self) -> Broadcast {
        self.root.all()
    }

    /// The bounds in force: those of [`Builder::limits`], with what follows from the memory of this process filled in.
    pub fn limits(&self) -> &Limits {
        &self.endpoint.services.core.limits
    }

    /// Sessions connected at present, in all transports.
    pub fn sessions(&self) -> usize {
        self.endpoint.services.directory.len()
    }

    /// Whether a new session would be let in now: what a load balancer wants to know.
    pub fn accepting(&self) -> Result<(), NotAccepting> {
        match self.endpoint.check_room() {
            Ok(()) if self.http_permits.is_accept_failing(Instant::now()) => Err(NotAccepting::AcceptFails),
            Ok(()) if self.http_permits.is_full() => Err(NotAccepting::HttpFull),
            Ok(()) => Ok(()),
            Err(Refusal::Closing) => Err(NotAccepting::Closing),
            Err(_) => Err(NotAccepting::Full),
        }
    }

    /// What this server counts, as text for Prometheus (OpenMetrics 1.0, to be served as [`METRICS_CONTENT_TYPE`]).
    ///
    /// Adds up what each thread has counted for itself, so it disturbs none of them; a scrape is some moments of each.
    ///
    /// | name | kind | unit | |
    /// |---|---|---|---|
    /// | `stentor_connections{transport}` | gauge | sessions | by what carries them now: `polling`, `websocket` |
    /// | `stentor_sessions_opened_total{transport}` | counter | sessions | by what they began on |
    /// | `stentor_upgrades_total` | counter | sessions | went from polling to websocket |
    /// | `stentor_sessions_closed_total{reason}` | counter | sessions | by [`DisconnectReason`] |
    /// | `stentor_requests_refused_total{code,reason}` | counter | requests | by Engine.IO's code, and in words |
    /// | `stentor_http_connections_closed_total{reason}` | counter | connections | idle, evicted for a new client, late, or malformed |
    /// | `stentor_oversized_messages_total{transport}` | counter | messages | from clients, over [`limits.transport.payload_bytes_max`](crate::limits::TransportLimits::payload_bytes_max) |
    /// | `stentor_received_packets_total` | counter | packets | Engine.IO packets from clients |
    /// | `stentor_received_bytes_total` | counter | bytes | their data, without framing |
    /// | `stentor_received_events_total` | counter | events | emitted by clients to sockets that are connected |
    /// | `stentor_sent_packets_total` | counter | packets | taken out of outboxes by websockets and polls |
    /// | `stentor_sent_bytes_total` | counter | bytes | their websocket frames, on both transports |
    /// | `stentor_deliveries_total` | counter | events | broadcasts, once for each recipient |
    /// | `stentor_dropped_events_total{reason}` | counter | events | once for each recipient: `not_ready` (volatile), `outbox_full` (its session ends) |
    /// | `stentor_replayed_events_total` | counter | events | read from the journal for one client |
    /// | `stentor_lags_total` | counter | sockets | read too slowly and went over to the journal |
    /// | `stentor_catching_up_sockets` | gauge | sockets | read from the journal now |
    /// | `stentor_recoveries_total{verdict}` | counter | sockets | came back: `recovered`, or why not |
    /// | `stentor_recovery_sessions` | gauge | sessions | known for recovery, connected or away |
    /// | `stentor_recovery_session_bytes` | gauge | bytes | that they count for; see [`limits.recovery.bytes_max`](crate::limits::RecoveryLimits::bytes_max) |
    /// | `stentor_recovery_session_bytes_max` | gauge | bytes | that they may count for |
    /// | `stentor_recovery_given_up_total` | counter | sessions | given up: too large, or no room beside the others |
    /// | `stentor_journal_records_total` | counter | records | written to the journal |
    /// | `stentor_journal_failures_total` | counter | journals | given up because of an error; recovery started over |
    /// | `stentor_flush_packets` | histogram | packets | in one write |
    /// | `stentor_handler_seconds` | histogram | seconds | from a handler's start to its end, its waits included |
    /// | `stentor_handlers_failed_total{how}` | counter | handlers | `error`, `panic` |
    /// | `stentor_sockets` | gauge | sockets | connected to namespaces |
    /// | `stentor_rooms` | gauge | rooms | with members; sockets' own rooms do not count |
    /// | `stentor_hub_commands_total` | counter | commands | the hub has taken |
    /// | `stentor_hub_events_total` | counter | events | of those: emitted by the server, each once |
    /// | `stentor_hub_queue_commands` | gauge | commands | sent to the hub and not yet taken |
    /// | `stentor_hub_answers_held` | gauge | commands | not carried out yet: their senders caused much, or workers are behind |
    /// | `stentor_hub_unwritten_bytes` | gauge | bytes | handed to workers and not yet written out |
    /// | `stentor_credit_waits_total` | counter | commands | waited because their sender had too many under way |
    /// | `stentor_credit_refusals_total` | counter | commands | refused as overloaded after such a wait |
    /// | `stentor_rate_limited_total` | counter | events | events and CONNECTs that exceeded a rate |
    /// | `stentor_outboxes_cut_total` | counter | sessions | ended because outboxes were over their budget |
    /// | `stentor_stalled_sessions_total` | counter | sessions | ended because their clients took nothing |
    /// | `stentor_incoming_refused_total` | counter | messages | refused because their budget was spent |
    /// | `stentor_budget_bytes{budget}` | gauge | bytes | that clients hold of `outboxes`, `incoming`, `rooms` |
    /// | `stentor_budget_bytes_max{budget}` | gauge | bytes | bound of each of these budgets |
    /// | `stentor_joins_refused_total` | counter | joins | refused because a bound of rooms was met |
    /// | `stentor_journal_waits_total` | counter | commands | after which their sender waited, its share of the journal spent |
    pub fn metrics(&self) -> String {
        metrics::text(self.metrics.clone(), self.endpoint.workers.budgets().clone())
    }

    /// Binds an address, to serve this server there and nothing else.
    pub fn bind(&self, address: impl ToSocketAddrs) -> io::Result<Listener> {
        Listener::bind(self.clone(), address)
    }

    /// Serves on an address until the process is asked to end (SIGINT, SIGTERM). After an error too, the server is
    /// [closed](Self::close), so that the next one continues with its journal.
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

    /// Where the hub lives.
    #[cfg(feature = "bench-internals")]
    pub(crate) fn hub_thread(&self) -> &ArbiterHandle {
        &self.hub_thread
    }

    /// Where clients are let in.
    #[cfg(feature = "bench-internals")]
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// From here on new handshakes are refused with 503.
    fn stop_accepting(&self) {
        self.endpoint.accepting.store(false, Ordering::Relaxed);
    }

    /// Closes every session as [`close`](Self::close) does, but in waves spread over this time, so that the clients do not come
    /// back all at once. New sessions are refused from the beginning.
    pub async fn drain(&self, over: Duration) {
        self.stop_accepting();
        let links = self.endpoint.services.directory.links();
        let (wave_sessions, pause) = drain_waves(links.len(), over);
        for (nth, wave) in links.chunks(wave_sessions).enumerate() {
            if nth > 0 {
                tokio::time::sleep(pause).await;
            }
            for link in wave {
                // One that has gone meanwhile is what was wanted.
                let _ = link.post(SessionCommand::Close(DisconnectReason::ServerShuttingDown));
            }
        }
        self.close().await;
    }

    /// Closes every session at transport level, without a DISCONNECT packet, so that clients come back. Completes when
    /// all have parted, after half a second at the latest, and the journal is on the disk, after
    /// [`limits.journal.stop_timeout`](crate::limits::JournalLimits::stop_timeout) at the latest.
    pub async fn close(&self) {
        self.stop_accepting();
        if self.hub.control.try_send(HubControl::Shutdown).is_err() {
            log::warn!("hub takes no shutdown, sessions end with their threads");
            return;
        }
        let all_gone = async {
            while self.sessions() > 0 {
                tokio::time::sleep(CLOSE_LOOK).await;
            }
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, all_gone).await.is_err() {
            log::warn!("sessions left behind count={}", self.sessions());
        }
        let (done, closed) = oneshot::channel();
        let asked = self.hub.control.try_send(HubControl::Close(done)).is_ok();
        let stop_timeout = self.limits().journal.stop_timeout;
        if !asked || !is_closed_within(closed, stop_timeout).await {
            log::error!("journal not closed stop_timeout={stop_timeout:?}; the next boot of the machine discards it");
        }
    }
}

/// Waits for the journal, and says so every few seconds.
async fn is_closed_within(mut closed: oneshot::Receiver<()>, stop_timeout: Duration) -> bool {
    let start = tokio::time::Instant::now();
    loop {
        let left = stop_timeout.saturating_sub(start.elapsed());
        match tokio::time::timeout(left.min(CLOSE_REPORT), &mut closed).await {
            Ok(told) => return told.is_ok(),
            Err(_) if start.elapsed() >= stop_timeout => return false,
            Err(_) => {
                log::info!("server waits for the disk to take the journal waited={:?}", start.elapsed());
            }
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("path", &self.path).field("sessions", &self.sessions()).finish_non_exhaustive()
    }
}

/// The README's programs, which are compiled as tests of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_waits_for_the_journal_as_long_as_it_may() {
        // It waited for half a second, and a slow disk left the journal open.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (done, closed) = oneshot::channel();
            tokio::spawn(async move {
                tokio::time::sleep(CLOSE_TIMEOUT * 3 / 2).await;
                let _ = done.send(());
            });
            assert!(is_closed_within(closed, Duration::from_secs(30)).await);
            let (_slow, never_closed) = oneshot::channel();
            assert!(!is_closed_within(never_closed, Duration::from_millis(1)).await);
            let (_, hub_is_gone) = oneshot::channel();
            assert!(!is_closed_within(hub_is_gone, Duration::from_secs(30)).await);
        });
    }

    #[test]
    fn waves_are_spread_over_the_whole_time_however_few_sessions_there_are() {
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
