//! HTTP connection of a server's own port, until the connection becomes a websocket: stream,
//! deadlines, permit.
//!
//! Only the progress of a request moves a deadline. Single received bytes do not. While a complete
//! request is served, an ordinary connection has no deadline until the client stops reading the
//! response, since a poll waits as long as its session allows.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use local_waker::LocalWaker;
use slab::Slab;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::http_permits::HttpPermit;
use super::port::PortRules;
use crate::limits::Limits;
use crate::protocol::reason::HttpCloseReason;
use crate::session::directory::ClientPrefix;
use crate::transport::network_stream::NetworkStream;

/// Maximum lifetime of a connection of the reserve. A request of an operator takes milliseconds.
const RESERVE_LIFE: Duration = Duration::from_secs(2);

/// Minimum time for which a connection must have waited for its client before it can be evicted for
/// a new client with another address.
const WAIT_MIN: Duration = Duration::from_secs(1);

/// Minimum number of connections of a crowded address on one thread. A new client with a crowded
/// address evicts a connection of that address, even if none has waited for [`WAIT_MIN`]. A
/// household has fewer connections.
const CROWD_MIN: usize = 16;

/// A crowded address must also have at least one in `CROWD_SHARE` connections of the thread.
const CROWD_SHARE: usize = 4;

/// Time limits of the phases of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    head: Duration,
    keep_alive: Duration,
    body: Duration,
    response: Duration,
    /// Additional time for the response that reports a timeout.
    grace: Duration,
}

impl Deadlines {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            head: limits.http.head_timeout,
            keep_alive: limits.http.keep_alive,
            body: limits.http.body_timeout,
            response: limits.http.response_timeout,
            grace: limits.transport.close_linger,
        }
    }
}

/// State of a connection, with the time at which the state began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The TLS handshake is incomplete.
    Handshake(Instant),
    /// The first request is incomplete.
    First(Instant),
    /// The last request has ended, and no other request has begun.
    Idle(Instant),
    /// The head of a further request is incomplete.
    Head(Instant),
    /// A request is being served, or its response is being written.
    Serving {
        /// Time at which the head was complete. `None` if there is no body, or once the body is
        /// complete.
        body: Option<Instant>,
        /// True once bytes of the next request have arrived.
        next_begun: bool,
    },
    Upgraded,
}

/// Connection state shared by stream, requests and task.
pub(super) struct HttpConnection {
    deadlines: Deadlines,
    port: Arc<PortRules>,
    client: Option<ClientPrefix>,
    opened: Instant,
    phase: Cell<Phase>,
    /// Time at which the client stopped reading a response. Cleared when the whole response has
    /// been written.
    blocked: Cell<Option<Instant>>,
    permit: RefCell<Option<HttpPermit>>,
    is_evicted: Cell<bool>,
    task: LocalWaker,
}

impl HttpConnection {
    pub(super) fn new(
        deadlines: Deadlines,
        port: Arc<PortRules>,
        client: Option<ClientPrefix>,
        permit: HttpPermit,
        now: Instant,
    ) -> Self {
        let phase = if port.is_encrypted() { Phase::Handshake(now) } else { Phase::First(now) };
        Self {
            deadlines,
            port,
            client,
            opened: now,
            phase: Cell::new(phase),
            blocked: Cell::default(),
            permit: RefCell::new(Some(permit)),
            is_evicted: Cell::default(),
            task: LocalWaker::new(),
        }
    }

    /// Rules of the port that accepted the connection.
    pub(super) fn port(&self) -> &PortRules {
        &self.port
    }

    /// Records the end of the TLS handshake, after which the first request has its own deadline.
    pub(super) fn end_handshake(&self) {
        if let Phase::Handshake(_) = self.phase.get() {
            self.phase.set(Phase::First(Instant::now()));
        }
    }

    /// True if the connection has a permit of the reserve. Such a connection may only serve
    /// operators or become a websocket.
    pub(super) fn is_of_reserve(&self) -> bool {
        self.permit.borrow().as_ref().is_some_and(|permit| permit.is_of_reserve)
    }

    /// Replaces the permit of the reserve by an ordinary permit.
    pub(super) fn promote(&self, permit: HttpPermit) {
        self.permit.replace(Some(permit));
    }

    pub(super) fn begin_request(&self, has_body: bool) {
        self.phase.set(Phase::Serving { body: has_body.then(Instant::now), next_begun: false });
    }

    pub(super) fn end_body(&self) {
        if let Phase::Serving { next_begun, .. } = self.phase.get() {
            self.phase.set(Phase::Serving { body: None, next_begun });
        }
    }

    /// Records that the whole response has been passed to actix-http. If the request body is
    /// incomplete, its deadline stays.
    pub(super) fn end_request(&self) {
        if let Phase::Serving { body: None, next_begun } = self.phase.get() {
            let now = Instant::now();
            self.phase.set(if next_begun { Phase::Head(now) } else { Phase::Idle(now) });
        }
    }

    fn on_read(&self) {
        match self.phase.get() {
            Phase::Idle(_) => self.phase.set(Phase::Head(Instant::now())),
            Phase::Serving { body: None, next_begun: false } => {
                self.phase.set(Phase::Serving { body: None, next_begun: true });
            }
            _ => {}
        }
    }

    /// Time at which the connection is closed unless it makes progress, and the reason.
    fn deadline(&self) -> Option<(Instant, HttpCloseReason)> {
        let Deadlines { head, keep_alive, body, response, grace } = self.deadlines;
        let phase = match self.phase.get() {
            Phase::Upgraded => return None,
            Phase::Handshake(since) => Some((since + head, HttpCloseReason::Tls)),
            // `grace` leaves time for the 408 response of actix-http to a first head that times
            // out.
            Phase::First(since) => Some((since + head + grace, HttpCloseReason::Head)),
            Phase::Idle(since) => Some((since + keep_alive, HttpCloseReason::Idle)),
            Phase::Head(since) => Some((since + head, HttpCloseReason::Head)),
            Phase::Serving { body: since, .. } => since.map(|since| (since + body + grace, HttpCloseReason::Body)),
        };
        let blocked = self.blocked.get().map(|since| (since + response, HttpCloseReason::Response));
        let reserve = self.is_of_reserve().then_some((self.opened + RESERVE_LIFE, HttpCloseReason::Reserve));
        [phase, blocked, reserve].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Time at which the connection began to wait for its client. `None` if it does not wait.
    fn waiting_since(&self) -> Option<Instant> {
        match self.phase.get() {
            Phase::Handshake(since) | Phase::First(since) | Phase::Idle(since) | Phase::Head(since) => Some(since),
            Phase::Serving { body, .. } => body.or_else(|| self.blocked.get()),
            Phase::Upgraded => None,
        }
    }

    fn evict(&self) -> Option<HttpPermit> {
        self.is_evicted.set(true);
        self.task.wake();
        self.permit.take()
    }

    /// Runs `serving` until the future ends, a deadline passes, or the connection is evicted.
    pub(super) async fn serve<F: Future>(&self, serving: F) -> Result<F::Output, HttpCloseReason> {
        let mut serving = std::pin::pin!(serving);
        let mut timer = std::pin::pin!(tokio::time::sleep_until(self.opened.into()));
        std::future::poll_fn(|cx| {
            if self.is_evicted.get() {
                return Poll::Ready(Err(HttpCloseReason::Evicted));
            }
            if let Poll::Ready(output) = serving.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            self.task.register(cx.waker());
            // The timer is reset immediately only for an earlier deadline. If the deadline has
            // become later, the timer fires too early and is reset then.
            while let Some((at, reason)) = self.deadline() {
                let at: tokio::time::Instant = at.into();
                if timer.is_elapsed() || timer.deadline() > at {
                    if at <= tokio::time::Instant::now() {
                        return Poll::Ready(Err(reason));
                    }
                    timer.as_mut().reset(at);
                }
                if timer.as_mut().poll(cx).is_pending() {
                    break;
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Connections of one thread.
#[derive(Clone, Default)]
pub(super) struct HttpConnections(Rc<RefCell<Slab<Rc<HttpConnection>>>>);

/// Registration of a connection with its thread, removed when dropped.
pub(super) struct Registered {
    all: HttpConnections,
    key: usize,
}

impl HttpConnections {
    pub(super) fn register(&self, connection: Rc<HttpConnection>) -> Registered {
        Registered { all: self.clone(), key: self.0.borrow_mut().insert(connection) }
    }

    /// Evicts the connection that has waited longest for its client, if it has waited for at least
    /// [`WAIT_MIN`]. Otherwise, if the address of the new client is crowded (see [`CROWD_MIN`]),
    /// evicts the connection of that address that has waited longest. Returns the permit of the
    /// evicted connection. Visits all connections, but is called only while no ordinary permit is
    /// free.
    pub(super) fn evict_longest_waiting(&self, new_client: Option<ClientPrefix>, now: Instant) -> Option<HttpPermit> {
        let all = self.0.borrow();
        let longest_waiting = |of: Option<ClientPrefix>| {
            let all = all.iter().map(|(_, one)| one).filter(|one| of.is_none() || one.client == of);
            let evictable = all.filter(|one| !one.is_evicted.get() && !one.is_of_reserve());
            evictable.filter_map(|one| Some((one.waiting_since()?, one))).min_by_key(|(since, _)| *since)
        };
        let (since, longest) = longest_waiting(None)?;
        if now.saturating_duration_since(since) >= WAIT_MIN {
            return longest.evict();
        }
        let own = all.iter().filter(|(_, one)| new_client.is_some() && one.client == new_client).count();
        // Without this rule, one address could fill the reserve and the kernel's backlog, and
        // requests of operators would wait.
        let is_crowd = own >= CROWD_MIN && own * CROWD_SHARE >= all.len();
        if is_crowd { longest_waiting(new_client)?.1.evict() } else { None }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.all.0.borrow_mut().try_remove(self.key);
    }
}

/// Stream of a connection. Reads and writes update the connection state.
pub(super) struct HttpStream {
    stream: NetworkStream,
    /// Address of the peer. Peers of a unix socket have none.
    peer: Option<SocketAddr>,
    connection: Rc<HttpConnection>,
}

impl HttpStream {
    pub(super) fn new(stream: NetworkStream, peer: Option<SocketAddr>, connection: Rc<HttpConnection>) -> Self {
        Self { stream, peer, connection }
    }

    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.stream.is_encrypted()
    }

    pub(super) fn connection(&self) -> &Rc<HttpConnection> {
        &self.connection
    }

    /// Ends the HTTP deadlines, and returns the socket for a protocol with its own deadlines.
    pub(super) fn into_upgraded(self) -> NetworkStream {
        self.connection.phase.set(Phase::Upgraded);
        self.stream
    }
}

impl AsyncRead for HttpStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.connection.on_read();
        }
        read
    }
}

impl AsyncWrite for HttpStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if written.is_pending() && self.connection.blocked.get().is_none() {
            self.connection.blocked.set(Some(Instant::now()));
        }
        written
    }

    /// Clears `blocked`, since actix-http flushes when it has written everything.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.blocked.set(None);
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::server::http_permits::HttpPermits;

    const SECOND: Duration = Duration::from_secs(1);

    fn connection(permits: &HttpPermits) -> Rc<HttpConnection> {
        connection_from(permits, None)
    }

    fn connection_from(permits: &HttpPermits, client: Option<ClientPrefix>) -> Rc<HttpConnection> {
        let permit = permits.try_ordinary().expect("a permit");
        let (deadlines, port) = (Deadlines::new(&Limits::default()), Arc::new(PortRules::plain()));
        Rc::new(HttpConnection::new(deadlines, port, client, permit, Instant::now()))
    }

    fn close_reason(connection: &HttpConnection) -> Option<HttpCloseReason> {
        connection.deadline().map(|(_, reason)| reason)
    }

    #[test]
    fn a_deadline_moves_with_requests_and_not_with_bytes() {
        let one = connection(&HttpPermits::new(1, 0));
        let first = one.deadline();
        one.on_read();
        assert_eq!(one.deadline(), first);
        one.begin_request(false);
        assert_eq!(close_reason(&one), None, "a poll waits as long as it may");
        one.end_request();
        assert_eq!(close_reason(&one), Some(HttpCloseReason::Idle));
        one.on_read();
        let head = one.deadline();
        assert_eq!(close_reason(&one), Some(HttpCloseReason::Head));
        one.on_read();
        assert_eq!(one.deadline(), head);
    }

    #[test]
    fn a_tls_handshake_has_a_deadline_and_is_evictable() {
        let permits = HttpPermits::new(1, 0);
        let one = connection(&permits);
        one.phase.set(Phase::Handshake(one.opened));
        let handshake = one.deadline();
        one.on_read();
        assert_eq!((one.deadline(), close_reason(&one)), (handshake, Some(HttpCloseReason::Tls)));
        assert_eq!(one.waiting_since(), Some(one.opened));
        one.end_handshake();
        assert_eq!(close_reason(&one), Some(HttpCloseReason::Head));
    }

    #[test]
    fn an_unread_body_keeps_its_deadline_after_the_response() {
        let one = connection(&HttpPermits::new(1, 0));
        one.begin_request(true);
        let body = one.deadline();
        one.on_read();
        one.end_request();
        assert_eq!((one.deadline(), close_reason(&one)), (body, Some(HttpCloseReason::Body)));
        one.begin_request(true);
        one.end_body();
        assert_eq!(close_reason(&one), None);
        one.on_read();
        one.end_request();
        assert_eq!(close_reason(&one), Some(HttpCloseReason::Head), "the next request has begun");
    }

    #[test]
    fn the_longest_waiting_connection_is_evicted() {
        let permits = HttpPermits::new(3, 0);
        let all = HttpConnections::default();
        let [old, young, serving] = [(); 3].map(|()| connection(&permits));
        let _registered = [&old, &young, &serving].map(|one| all.register(one.clone()));
        let now = Instant::now();
        assert!(all.evict_longest_waiting(None, now).is_none(), "none has waited long");
        serving.begin_request(false);
        young.phase.set(Phase::Idle(now + SECOND));
        assert!(all.evict_longest_waiting(None, now + 2 * SECOND).is_some() && old.is_evicted.get());
        assert!(all.evict_longest_waiting(None, now + 2 * SECOND).is_some() && young.is_evicted.get());
        assert!(all.evict_longest_waiting(None, now + 2 * SECOND).is_none() && !serving.is_evicted.get());
    }

    #[test]
    fn new_clients_of_a_crowded_address_evict_its_connections() {
        // In an earlier version, these clients held the reserve for two seconds each, and health
        // checks waited in the kernel.
        let permits = HttpPermits::new(4 * CROWD_MIN + 1, 0);
        let all = HttpConnections::default();
        let [crowd, other] = [2, 3].map(|last| Some(ClientPrefix::from(IpAddr::from([127, 0, 0, last]))));
        let many: Vec<_> = (0..CROWD_MIN).map(|_| connection_from(&permits, crowd)).collect();
        let mut registered: Vec<_> = many.iter().map(|one| all.register(one.clone())).collect();
        let now = Instant::now();
        assert!(all.evict_longest_waiting(other, now).is_none() && all.evict_longest_waiting(None, now).is_none());
        assert!(all.evict_longest_waiting(crowd, now).is_some() && many[0].is_evicted.get());
        let others: Vec<_> = (0..=3 * CROWD_MIN).map(|_| connection_from(&permits, other)).collect();
        registered.extend(others.iter().map(|one| all.register(one.clone())));
        assert!(all.evict_longest_waiting(crowd, now).is_none(), "less than a quarter is no crowd");
    }
}
