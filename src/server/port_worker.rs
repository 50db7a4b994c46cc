//! Worker of the ports: the connections that one thread serves.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix_http::error::DispatchError;
use actix_service::Service;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::accept::AcceptedConnection;
use super::http_connection::{Deadlines, HttpConnection, HttpConnections, HttpStream};
use super::http_permits::{HttpPermit, HttpPermits};
use crate::live::Live;
use crate::metrics::{Labelled, WorkerMetrics};
use crate::protocol::reason::HttpCloseReason;
use crate::session::directory::ClientPrefix;
use crate::transport::AccessPolicy;
use crate::worker::log_throttle::Throttle;

/// Maximum number of warnings of one kind per second and worker. Without this limit, clients could
/// cause any number of warnings.
const WARNINGS_PER_SECOND: u32 = 1;

pub(super) struct PortWorker {
    pub(super) permits: HttpPermits,
    pub(super) deadlines: Deadlines,
    pub(super) policy: Live<AccessPolicy>,
    /// Shared by all threads of the port.
    pub(super) metrics: Arc<WorkerMetrics>,
    pub(super) connections: HttpConnections,
}

impl PortWorker {
    /// Serves the connections sent to this thread. When the accept loop is dropped, closes the
    /// connections and returns.
    pub(super) async fn serve(
        self,
        service: impl Service<HttpStream, Response = (), Error = DispatchError> + 'static,
        mut accepted: mpsc::UnboundedReceiver<AcceptedConnection>,
        mut phase: watch::Receiver<bool>,
    ) {
        let service = Rc::new(service);
        let log = Rc::new(CloseLog::new(self.metrics.clone()));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Some(accepted) = accepted.recv() => {
                    let AcceptedConnection { stream, peer, port, permit } = accepted;
                    let stream = match stream.into_stream() {
                        Ok(stream) => stream,
                        Err(error) => {
                            log::warn!("connection not served error={error}");
                            continue;
                        }
                    };
                    let (service, log) = (service.clone(), log.clone());
                    if peer.is_some_and(|peer| !self.policy.get().admits_peer(peer.ip())) {
                        log.closed(peer, HttpCloseReason::Denied);
                        continue;
                    }
                    // A connection of a trusted proxy has no client prefix, since it transports
                    // requests of many clients.
                    let client = peer.filter(|peer| !self.policy.get().proxies.trusts(peer.ip().to_canonical()));
                    let client = client.map(|peer| peer.ip().into());
                    let (permit, now) = (self.upgrade_permit(permit, client), Instant::now());
                    let connection = HttpConnection::new(self.deadlines, port.clone(), client, permit, now);
                    let connection = Rc::new(connection);
                    let registered = self.connections.register(connection.clone());
                    connections.spawn_local(async move {
                        // Small frames, and the body of a poll response after its head, must not
                        // wait for TCP acknowledgements.
                        if let Err(error) = stream.set_nodelay() {
                            log::debug!("connection not set to TCP_NODELAY error={error}");
                        }
                        let served = connection.serve(async {
                            let stream = port.secure(stream).await.map_err(ConnectionError::Tls)?;
                            connection.end_handshake();
                            poll_fn(|cx| service.poll_ready(cx)).await.map_err(ConnectionError::Http)?;
                            let stream = HttpStream::new(stream, peer, connection.clone());
                            service.call(stream).await.map_err(ConnectionError::Http)
                        });
                        match served.await {
                            Ok(Ok(())) => {}
                            Ok(Err(ConnectionError::Tls(error))) => log.handshake_failed(peer, &error),
                            Ok(Err(ConnectionError::Http(error))) => log.ended(peer, &error),
                            Err(reason) => log.closed(peer, reason),
                        }
                        drop(registered);
                    });
                }
                Some(_) = connections.join_next() => {}
                Err(_) = phase.wait_for(|_| false) => return,
            }
        }
    }

    /// Replaces a permit of the reserve by an ordinary permit, if one is free or can be freed by an
    /// eviction on this thread.
    fn upgrade_permit(&self, permit: HttpPermit, client: Option<ClientPrefix>) -> HttpPermit {
        if !permit.is_of_reserve {
            return permit;
        }
        let ordinary = self.permits.try_ordinary();
        ordinary.or_else(|| self.connections.evict_longest_waiting(client, Instant::now())).unwrap_or(permit)
    }
}

/// Error that ended a connection.
enum ConnectionError {
    /// The TLS handshake failed.
    Tls(io::Error),
    Http(DispatchError),
}

/// Counters and rate-limited log lines of connections that ended.
struct CloseLog {
    metrics: Arc<WorkerMetrics>,
    /// One throttle for each reason, so that many warnings for one reason do not hide those for
    /// another.
    throttles: Labelled<HttpCloseReason, Throttle, { HttpCloseReason::COUNT }>,
}

impl CloseLog {
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
            log::warn!("request malformed address={} error={error} skipped={skipped}", display(peer));
        }
    }

    fn handshake_failed(&self, peer: Option<SocketAddr>, error: &io::Error) {
        self.metrics.http_closed[HttpCloseReason::Tls].add(1);
        if let Some(skipped) = self.throttles[HttpCloseReason::Tls].is_due(Instant::now()) {
            log::warn!("TLS handshake failed address={} error=\"{error}\" skipped={skipped}", display(peer));
        }
    }

    fn closed(&self, peer: Option<SocketAddr>, reason: HttpCloseReason) {
        self.metrics.http_closed[reason].add(1);
        let why = match reason {
            HttpCloseReason::Idle => return log::debug!("connection closed, it was idle address={}", display(peer)),
            HttpCloseReason::Evicted => "a new client needed its permit",
            HttpCloseReason::Head => "request head timed out",
            HttpCloseReason::Body => "request body timed out",
            HttpCloseReason::Response => "reading of the response timed out",
            HttpCloseReason::Reserve => "request on a connection of the reserve timed out",
            HttpCloseReason::Malformed => "request malformed",
            HttpCloseReason::Denied => "its address is not allowed",
            HttpCloseReason::Tls => "TLS handshake timed out",
        };
        if let Some(skipped) = self.throttles[reason].is_due(Instant::now()) {
            log::warn!("connection closed, {why} address={} skipped={skipped}", display(peer));
        }
    }
}

/// Peers of a unix socket have no address.
fn display(peer: Option<SocketAddr>) -> String {
    peer.map_or_else(|| "unix".to_owned(), |address| address.to_string())
}
