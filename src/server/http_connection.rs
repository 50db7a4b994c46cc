//! One HTTP connection of a server's own port, until it is a websocket: its stream, its deadlines, its permit.
//!
//! A deadline is set by the progress of requests, never by single bytes. A request that is being served has none: a poll
//! waits as long as its session lets it.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use local_waker::LocalWaker;
use slab::Slab;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::http_permits::HttpPermit;
use crate::limits::Limits;
use crate::session::directory::ClientPrefix;

/// Longest life of a connection of the reserve: one request of an operator takes milliseconds.
const RESERVE_LIFE: Duration = Duration::from_secs(2);

/// A connection that has waited for its client for less than this is not closed in favour of a new client of another address.
const WAIT_MIN: Duration = Duration::from_secs(1);

/// Connections of one address on one thread from which on they are closed in favour of new clients of that address, however short
/// they have waited. One household has fewer.
const CROWD_MIN: usize = 16;

/// So many times over, they must outnumber all connections of the thread.
const CROWD_SHARE: usize = 4;

/// How long each phase of a connection may last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    head: Duration,
    keep_alive: Duration,
    body: Duration,
    response: Duration,
    /// For an answer that says what came too late.
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

/// What a connection does, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waits for its first request, whole.
    First(Instant),
    /// Waits for a further request.
    Idle(Instant),
    /// A further request's head has begun.
    Head(Instant),
    /// A request is served, or its response is written.
    Serving {
        /// When its body was first awaited; `None` once it is there.
        body: Option<Instant>,
        /// Whether bytes of the next request have come.
        next_begun: bool,
    },
    /// It has left HTTP.
    Upgraded,
}

/// Why a connection was closed by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    /// Nothing came on a connection that was kept alive.
    Idle,
    /// It waited for its client for longest when a new client needed its place.
    Evicted,
    Head,
    Body,
    Response,
    /// A connection of the reserve that took too long.
    Reserve,
}

/// The state of a connection, shared by its stream, its requests and its task.
pub(super) struct HttpConnection {
    deadlines: Deadlines,
    client: Option<ClientPrefix>,
    opened: Instant,
    phase: Cell<Phase>,
    /// When the client stopped taking the bytes of a response. Cleared when all have been taken.
    blocked: Cell<Option<Instant>>,
    permit: RefCell<Option<HttpPermit>>,
    is_evicted: Cell<bool>,
    task: LocalWaker,
}

impl HttpConnection {
    pub(super) fn new(deadlines: Deadlines, client: Option<ClientPrefix>, permit: HttpPermit, now: Instant) -> Self {
        Self {
            deadlines,
            client,
            opened: now,
            phase: Cell::new(Phase::First(now)),
            blocked: Cell::default(),
            permit: RefCell::new(Some(permit)),
            is_evicted: Cell::default(),
            task: LocalWaker::new(),
        }
    }

    /// Whether it may only serve operators, or become a websocket.
    pub(super) fn is_of_reserve(&self) -> bool {
        self.permit.borrow().as_ref().is_some_and(|permit| permit.is_of_reserve)
    }

    /// Gives it an ordinary permit in place of the one that it has.
    pub(super) fn promote(&self, permit: HttpPermit) {
        self.permit.replace(Some(permit));
    }

    /// A request's head is there, and its body is awaited or not.
    pub(super) fn begin_request(&self, has_body: bool) {
        self.phase.set(Phase::Serving { body: has_body.then(Instant::now), next_begun: false });
    }

    /// The body of the request has come in whole.
    pub(super) fn end_body(&self) {
        if let Phase::Serving { next_begun, .. } = self.phase.get() {
            self.phase.set(Phase::Serving { body: None, next_begun });
        }
    }

    /// The response has been handed over to be written. While the rest of a body is awaited, its deadline stays.
    pub(super) fn end_request(&self) {
        if let Phase::Serving { body: None, next_begun } = self.phase.get() {
            let now = Instant::now();
            self.phase.set(if next_begun { Phase::Head(now) } else { Phase::Idle(now) });
        }
    }

    fn bytes_came(&self) {
        match self.phase.get() {
            Phase::Idle(_) => self.phase.set(Phase::Head(Instant::now())),
            Phase::Serving { body: None, next_begun: false } => {
                self.phase.set(Phase::Serving { body: None, next_begun: true });
            }
            _ => {}
        }
    }

    /// When it is to be closed, and why.
    fn deadline(&self) -> Option<(Instant, Expired)> {
        let Deadlines { head, keep_alive, body, response, grace } = self.deadlines;
        let phase = match self.phase.get() {
            Phase::Upgraded => return None,
            // The HTTP layer answers the first head that is late, with 408.
            Phase::First(since) => Some((since + head + grace, Expired::Head)),
            Phase::Idle(since) => Some((since + keep_alive, Expired::Idle)),
            Phase::Head(since) => Some((since + head, Expired::Head)),
            Phase::Serving { body: since, .. } => since.map(|since| (since + body + grace, Expired::Body)),
        };
        let blocked = self.blocked.get().map(|since| (since + response, Expired::Response));
        let reserve = self.is_of_reserve().then_some((self.opened + RESERVE_LIFE, Expired::Reserve));
        [phase, blocked, reserve].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Since when it has been waiting for its client.
    fn waits_since(&self) -> Option<Instant> {
        match self.phase.get() {
            Phase::First(since) | Phase::Idle(since) | Phase::Head(since) => Some(since),
            Phase::Serving { body, .. } => body.or_else(|| self.blocked.get()),
            Phase::Upgraded => None,
        }
    }

    fn evict(&self) -> Option<HttpPermit> {
        self.is_evicted.set(true);
        self.task.wake();
        self.permit.take()
    }

    /// Serves it until it ends, or a deadline has passed.
    pub(super) async fn serve<F: Future>(&self, serving: F) -> Result<F::Output, Expired> {
        let mut serving = std::pin::pin!(serving);
        let mut alarm = std::pin::pin!(tokio::time::sleep_until(self.opened.into()));
        std::future::poll_fn(|cx| {
            if self.is_evicted.get() {
                return Poll::Ready(Err(Expired::Evicted));
            }
            if let Poll::Ready(output) = serving.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            self.task.register(cx.waker());
            // The alarm is only ever brought forward; one that comes too early is set again.
            while let Some((at, expired)) = self.deadline() {
                let at: tokio::time::Instant = at.into();
                if alarm.is_elapsed() || alarm.deadline() > at {
                    if at <= tokio::time::Instant::now() {
                        return Poll::Ready(Err(expired));
                    }
                    alarm.as_mut().reset(at);
                }
                if alarm.as_mut().poll(cx).is_pending() {
                    break;
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// The connections of one thread.
#[derive(Clone, Default)]
pub(super) struct HttpConnections(Rc<RefCell<Slab<Rc<HttpConnection>>>>);

/// A connection's entry among those of its thread, removed when dropped.
pub(super) struct Registered {
    all: HttpConnections,
    key: usize,
}

impl HttpConnections {
    pub(super) fn register(&self, connection: Rc<HttpConnection>) -> Registered {
        Registered { all: self.clone(), key: self.0.borrow_mut().insert(connection) }
    }

    /// Closes the connection that has been waiting for its client the longest, and gives its permit to a new client. Where none has
    /// been waiting for a second, it is the longest waiting one of the new client's own address, if that has a crowd of them here;
    /// else `None`. Looks at all connections, which happens only while permits are short.
    pub(super) fn evict_longest_waiting(&self, newcomer: Option<ClientPrefix>, now: Instant) -> Option<HttpPermit> {
        let all = self.0.borrow();
        let longest_waiting = |of: Option<ClientPrefix>| {
            let all = all.iter().map(|(_, one)| one).filter(|one| of.is_none() || one.client == of);
            let evictable = all.filter(|one| !one.is_evicted.get() && !one.is_of_reserve());
            evictable.filter_map(|one| Some((one.waits_since()?, one))).min_by_key(|(since, _)| *since)
        };
        let (since, longest) = longest_waiting(None)?;
        if now.saturating_duration_since(since) >= WAIT_MIN {
            return longest.evict();
        }
        let own = all.iter().filter(|(_, one)| newcomer.is_some() && one.client == newcomer).count();
        // Otherwise they would fill the reserve, and then the kernel's queue, behind which operators wait.
        let is_crowd = own >= CROWD_MIN && own * CROWD_SHARE >= all.len();
        if is_crowd { longest_waiting(newcomer)?.1.evict() } else { None }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.all.0.borrow_mut().try_remove(self.key);
    }
}

/// The stream of a connection, which tells its state what moves.
pub(super) struct HttpStream {
    stream: TcpStream,
    connection: Rc<HttpConnection>,
}

impl HttpStream {
    pub(super) fn new(stream: TcpStream, connection: Rc<HttpConnection>) -> Self {
        Self { stream, connection }
    }

    pub(super) fn get_ref(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn connection(&self) -> &Rc<HttpConnection> {
        &self.connection
    }

    /// The socket, for a protocol with deadlines of its own.
    pub(super) fn into_upgraded(self) -> TcpStream {
        self.connection.phase.set(Phase::Upgraded);
        self.stream
    }
}

impl AsyncRead for HttpStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.connection.bytes_came();
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

    /// The HTTP layer asks for it when it has written all that it had.
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
        Rc::new(HttpConnection::new(Deadlines::new(&Limits::default()), client, permit, Instant::now()))
    }

    fn expires(connection: &HttpConnection) -> Option<Expired> {
        connection.deadline().map(|(_, expired)| expired)
    }

    #[test]
    fn bytes_do_not_move_a_deadline_and_requests_do() {
        let one = connection(&HttpPermits::new(1, 0));
        let first = one.deadline();
        one.bytes_came();
        assert_eq!(one.deadline(), first);
        one.begin_request(false);
        assert_eq!(expires(&one), None, "a poll waits as long as it may");
        one.end_request();
        assert_eq!(expires(&one), Some(Expired::Idle));
        one.bytes_came();
        let head = one.deadline();
        assert_eq!(expires(&one), Some(Expired::Head));
        one.bytes_came();
        assert_eq!(one.deadline(), head);
    }

    #[test]
    fn an_unread_body_keeps_its_deadline_behind_the_response() {
        let one = connection(&HttpPermits::new(1, 0));
        one.begin_request(true);
        let body = one.deadline();
        one.bytes_came();
        one.end_request();
        assert_eq!((one.deadline(), expires(&one)), (body, Some(Expired::Body)));
        one.begin_request(true);
        one.end_body();
        assert_eq!(expires(&one), None);
        one.bytes_came();
        one.end_request();
        assert_eq!(expires(&one), Some(Expired::Head), "the next request has begun");
    }

    #[test]
    fn the_longest_waiting_connection_gives_up_its_permit() {
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
    fn a_crowd_of_one_address_makes_room_for_its_own_newcomers() {
        // They took the reserve for two seconds each, and health checks waited behind them in the kernel.
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
