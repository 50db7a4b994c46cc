//! Start of the application's handlers in the order in which events arrive. If a handler cannot
//! start yet, its event is held.

use std::cell::{Cell, RefCell};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytestring::ByteString;
use tokio::sync::oneshot;

use super::Session;
use super::admission::connect_refusal;
use super::sockets::SessionSocket;
use crate::api::ack::Ack;
use crate::api::core::{HandlerFn, HandlerFuture};
use crate::api::current::InSession;
use crate::api::error::{ConnectError, EventError, HandlerError};
use crate::api::event::{Disconnecting, Event};
use crate::ids::{RoomName, SessionId, SocketId};
use crate::messages::session::{ConnectRefusal, SessionCommand, SessionLink};
use crate::messages::socket::SocketInfo;
use crate::protocol::encoded::Message;
use crate::protocol::reason::DisconnectReason;
use crate::protocol::socketio::packet::Packet;
use crate::state::budget::Charge;
use crate::state::session::ClientEvent;
use crate::state::sockets::SocketRecord;
use crate::worker::Worker;

/// Maximum number of bytes held for one client that are not charged to the budget. An idle session
/// uses more memory than that.
const FREE_BYTES: usize = 1 << 10;

/// The running handlers of a session.
pub(super) struct RunningHandlers {
    link: SessionLink,
    count: Cell<usize>,
    /// Number of handlers since the last pause that completed without waiting.
    immediate: Cell<usize>,
    /// True if the session must be notified when a handler ends.
    watched: Cell<bool>,
    /// Name of the handler that started last.
    newest: RefCell<ByteString>,
}

impl RunningHandlers {
    pub(super) fn new(link: SessionLink) -> Self {
        Self {
            link,
            count: Cell::new(0),
            immediate: Cell::new(0),
            watched: Cell::new(false),
            newest: RefCell::default(),
        }
    }

    fn begin(self: &Rc<Self>, name: ByteString) -> RunningHandler {
        self.count.set(self.count.get() + 1);
        *self.newest.borrow_mut() = name;
        RunningHandler(self.clone())
    }
}

struct RunningHandler(Rc<RunningHandlers>);

impl Drop for RunningHandler {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        if self.0.count.get() == 0 {
            // The name is dropped, since it keeps the memory of its whole packet.
            drop(self.0.newest.take());
        }
        if self.0.watched.replace(false) {
            let _ = self.0.link.post(SessionCommand::HandlersFreed);
        }
    }
}

impl Session {
    /// Starts the handler of an event, or holds the event.
    pub(super) fn on_event(&mut self, socket: SocketId, event: ClientEvent) {
        if self.is_closing() {
            return;
        }
        self.outbox.worker.metrics().events_received.add(1);
        if self.inbox.is_empty() && self.may_start(socket) {
            return self.start_event_handler(socket, event);
        }
        let (bytes, event) = event.detached();
        self.inbox.hold(socket, bytes, event);
    }

    /// Starts as many handlers of held events as may run.
    pub(super) fn release_events(&mut self) {
        loop {
            let (sockets, may_start_any) = (&self.state.sockets, self.may_start_any());
            let is_open = |socket| sockets.get(socket).is_some_and(SocketRecord::is_open);
            let Some((socket, event)) = self.inbox.release(|socket| may_start_any && is_open(*socket)) else { break };
            self.start_event_handler(socket, event);
        }
    }

    /// Pauses reading while input limits are exceeded, and resumes reading afterwards.
    pub(super) fn regulate_reading(&mut self) {
        let paused_for = self.paused_for();
        let is_charged = self.charge_for_held(0);
        let limits = &self.core.limits;
        let too_much = if paused_for.is_some() {
            paused_for
        } else if self.inbox.is_full(limits.handlers.held_events_max, limits.handlers.held_bytes_max) {
            Some("events held")
        } else if self.credit_window.is_full() {
            Some("commands that wait for credit")
        } else if self.pending() > limits.handlers.pending_max {
            // Event handlers never exceed the limit, but connection and disconnect handlers may.
            Some("handlers running")
        } else if !is_charged {
            Some("bytes held by all clients")
        } else {
            None
        };
        self.running.watched.set(too_much.is_some() || !self.inbox.is_empty());
        if too_much.is_none() == self.reading {
            return;
        }
        if let Some(what) = too_much
            && let Some(skipped) = self.outbox.worker.log_throttles().reading_stopped.is_due(Instant::now())
        {
            log::warn!(
                "session pauses reading, too many {what} sid={:?} running={} newest_handler={:?} skipped={skipped}",
                self.guard.id,
                self.running.count.get(),
                self.running.newest.borrow()
            );
        }
        self.set_reading(too_much.is_none());
    }

    /// Charges the budget of client input with the bytes held for this client and `more` bytes.
    /// Returns false if the budget is exhausted.
    pub(super) fn charge_for_held(&mut self, more: usize) -> bool {
        let waiting = self.inbox.bytes() + self.credit_window.waiting_bytes() + self.state.partial_bytes();
        let bytes = waiting + self.auth_bytes + more;
        if bytes <= FREE_BYTES && self.charge.is_none() {
            return true;
        }
        let budget = &self.outbox.worker.budgets().incoming;
        let charge = self.charge.get_or_insert_with(|| Box::new(Charge::new(budget.clone())));
        let is_charged = charge.set(bytes).is_ok();
        if bytes <= FREE_BYTES {
            self.charge = None;
        }
        is_charged
    }

    fn may_start(&self, socket: SocketId) -> bool {
        self.may_start_any() && self.state.sockets.get(socket).is_some_and(SocketRecord::is_open)
    }

    fn may_start_any(&self) -> bool {
        let max = self.core.limits.handlers.pending_max;
        self.pending() < max && self.running.immediate.get() < max && self.credit_window.has_credit()
    }

    pub(super) fn on_pause(&self) {
        self.running.immediate.set(0);
    }

    /// Number of running handlers. Handlers that wait for an ack of this client are not counted,
    /// since the ack could not arrive while reading is paused.
    fn pending(&self) -> usize {
        self.running.count.get().saturating_sub(self.acks.len() + self.credit_window.collecting())
    }

    fn start_event_handler(&mut self, socket: SocketId, event: ClientEvent) {
        let Some(session_socket) = self.find_socket(socket) else { return };
        let ClientEvent { name, ack, args } = event;
        let socket = session_socket.socket.clone();
        let event = Event::new(name.clone(), args, Ack::new(ack, socket.reference(), self.core.encoder));
        if !session_socket.handlers.is_direct() {
            let handlers = session_socket.handlers.clone();
            return self.run(socket.info().clone(), name, move || Box::pin(handlers.run(socket, event)));
        }
        let Some(handler) = session_socket.handlers.event(&name).cloned() else {
            event.ack.refuse(&EventError::NoHandler);
            if let Some(skipped) = self.outbox.worker.log_throttles().event_unhandled.is_due(Instant::now()) {
                let (session, name) = (self.guard.id, excerpt(&name));
                log::warn!("event has no handler sid={session:?} event={name:?} skipped={skipped}");
            }
            return;
        };
        self.run(socket.info().clone(), name, move || handler(socket, event));
    }

    /// Passes a queued event to the outgoing observers of its socket.
    pub(super) fn on_sent(&self, message: &Message) {
        self.outbox.mark_seen();
        let mut sockets = self.state.sockets.iter();
        if !sockets.any(|record| record.kept.handlers.observes_outgoing()) {
            return;
        }
        let Some(Packet::Event { namespace, name, ack, args }) = message.read_back() else { return };
        let observed = self.state.sockets.in_namespace(&namespace).map(|record| &record.kept);
        if let Some(session_socket) = observed.filter(|session_socket| session_socket.handlers.observes_outgoing()) {
            // Observers do not receive the token, which is the last argument.
            let has_token =
                self.core.encoder.recovery && session_socket.socket.info().is_recoverable() && ack.is_none();
            let args = if has_token { args.first(args.len().saturating_sub(1)) } else { args };
            let (handlers, socket) = (session_socket.handlers.clone(), session_socket.socket.clone());
            self.spawn(socket.info().clone(), name.clone(), move || {
                handlers.observe_outgoing(&socket, &name, &args);
                Box::pin(std::future::ready(Ok(())))
            });
        }
    }

    /// Runs the connection handler. The socket's events are held until the handler has returned.
    pub(super) fn start_connection_handler(&self, id: SocketId, handler: HandlerFn<()>) {
        let Some(socket) = self.find_socket(id).map(|session_socket| session_socket.socket.clone()) else { return };
        let (link, opened) = (self.link.clone(), socket.info().clone());
        self.spawn(opened.clone(), ByteString::from_static("connection"), move || {
            let running = handler(socket, ());
            Box::pin(async move {
                let result = running.await;
                let _ = link.post(SessionCommand::Opened { socket: opened });
                result
            })
        });
    }

    /// If the socket was connected, runs its disconnect handlers one after the other. Returns a
    /// sender for the socket's rooms if one of the handlers receives them.
    pub(super) fn start_disconnecting_handlers(
        &self,
        removed: &SocketRecord<SessionSocket>,
        reason: DisconnectReason,
    ) -> Option<oneshot::Sender<Vec<RoomName>>> {
        if !removed.is_connected() {
            return None;
        }
        let session_socket = &removed.kept;
        let patience = self.core.limits.hub.answer_timeout;
        let (asker, rooms) = oneshot::channel::<Vec<RoomName>>();
        let mut before = None;
        let disconnecting = session_socket.handlers.disconnecting().cloned().map(|handler| {
            let socket = session_socket.socket.clone();
            let (done, ended) = oneshot::channel::<()>();
            before = Some(ended);
            self.spawn(socket.info().clone(), ByteString::from_static("disconnecting"), move || {
                Box::pin(async move {
                    // `_done` is dropped when the handler ends, also after a panic. The next
                    // handler then starts.
                    let _done = done;
                    let rooms =
                        tokio::time::timeout(patience, rooms).await.ok().and_then(Result::ok).unwrap_or_default();
                    let mut rooms: Vec<_> = rooms.iter().map(ToString::to_string).collect();
                    rooms.sort_unstable();
                    handler(socket, Disconnecting { reason, rooms }).await
                })
            });
        });
        for handler in session_socket.handlers.disconnect().cloned() {
            let socket = session_socket.socket.clone();
            let (done, ended) = oneshot::channel::<()>();
            let before = before.replace(ended);
            self.spawn(socket.info().clone(), ByteString::from_static("disconnect"), move || {
                Box::pin(async move {
                    let _done = done;
                    if let Some(before) = before {
                        // Because of the time limit, an earlier handler that hangs does not block
                        // this handler.
                        let _ = tokio::time::timeout(patience, before).await;
                    }
                    handler(socket, reason).await
                })
            });
        }
        disconnecting.map(|()| asker)
    }

    /// Runs the connection middleware. If it ends without waiting, returns the refusal, which is
    /// `Some(None)` for an admitted socket. Otherwise the session receives `Admitted`.
    pub(super) fn start_admission(&self, session_socket: &SessionSocket) -> Option<Option<ConnectRefusal>> {
        let (admission, mut immediate) = oneshot::channel();
        let (link, socket, handlers) =
            (self.link.clone(), session_socket.socket.clone(), session_socket.handlers.clone());
        let (info, parser) = (socket.info().clone(), self.core.encoder.parser);
        let patience = self.core.limits.handlers.middleware_timeout;
        let log_refusal = self.connect_refusal_log();
        self.run(info, ByteString::from_static("middleware"), move || {
            Box::pin(async move {
                let passed = tokio::time::timeout(patience, handlers.admit(&socket)).await;
                let passed = passed.unwrap_or_else(|_| Err(ConnectError::new("Middleware timed out")));
                let passed = passed.inspect_err(|error| log_refusal(socket.path(), error));
                let refusal = passed.err().map(|error| connect_refusal(parser, socket.path(), &error));
                if let Err(refusal) = admission.send(refusal) {
                    let _ = link.post(SessionCommand::Admitted { socket: socket.info().clone(), refusal });
                }
                Ok(())
            })
        });
        immediate.try_recv().ok()
    }

    /// Starts a handler in a task of its own. Tasks are first polled in the order in which they
    /// were spawned, so handlers start in arrival order. Handlers run to completion even if the
    /// session ends.
    fn spawn(
        &self,
        socket: Arc<SocketInfo>,
        name: ByteString,
        start: impl FnOnce() -> HandlerFuture + Unpin + 'static,
    ) {
        let (supervisor, handler) = self.supervised(socket, name, start);
        actix::spawn(async move {
            let begun = Instant::now();
            supervisor.on_end(handler.await, begun.elapsed());
        });
    }

    /// Runs the handler of an event until it waits. A task is spawned only then, since most
    /// handlers never wait. After `limits.handlers.pending_max` handlers that did not wait, the
    /// session processes the requests of these handlers before it runs more.
    fn run(&self, socket: Arc<SocketInfo>, name: ByteString, start: impl FnOnce() -> HandlerFuture + Unpin + 'static) {
        let (supervisor, mut handler) = self.supervised(socket, name, start);
        let begun = Instant::now();
        let Poll::Ready(outcome) = Pin::new(&mut handler).poll(&mut Context::from_waker(Waker::noop())) else {
            // The task immediately polls the handler again, with a real waker.
            actix::spawn(async move { supervisor.on_end(handler.await, begun.elapsed()) });
            return;
        };
        supervisor.on_end(outcome, begun.elapsed());
        self.running.immediate.set(self.running.immediate.get() + 1);
        if self.running.immediate.get() == self.core.limits.handlers.pending_max {
            let _ = self.link.post(SessionCommand::Pause);
        }
    }

    fn supervised<F: FnOnce() -> HandlerFuture + Unpin>(
        &self,
        socket: Arc<SocketInfo>,
        name: ByteString,
        start: F,
    ) -> (Supervisor, InSession<CatchPanic<F>>) {
        let supervisor = Supervisor {
            running: self.running.begin(name.clone()),
            worker: self.outbox.worker.clone(),
            session: self.guard.id,
            socket,
            name,
        };
        (supervisor, InSession::new(self.core.identity(), self.link.clone(), CatchPanic::Waiting(start)))
    }
}

/// Counts a handler while it runs, and reports its outcome.
struct Supervisor {
    running: RunningHandler,
    worker: Rc<Worker>,
    session: SessionId,
    socket: Arc<SocketInfo>,
    name: ByteString,
}

impl Supervisor {
    fn on_end(self, outcome: Result<Result<(), HandlerError>, Panicked>, took: Duration) {
        let Self { running, worker, session, socket, name } = &self;
        let metrics = worker.metrics();
        metrics.record_handler(took);
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                metrics.handlers_failed.add(1);
                if error.is_disconnected() {
                    log::debug!(
                        "handler failed, its client has disconnected sid={session:?} handler={name:?} error={error}"
                    );
                } else if let Some(skipped) = worker.log_throttles().handler_failed.is_due(Instant::now()) {
                    let (name, error) = (excerpt(name), excerpt(&error.to_string()));
                    log::warn!("handler failed sid={session:?} handler={name:?} skipped={skipped} error={error}");
                }
            }
            Err(Panicked) => {
                metrics.handlers_panicked.add(1);
                let panicked = SessionCommand::HandlerPanicked { socket: socket.clone(), handler: name.to_string() };
                let _ = running.0.link.post(panicked);
            }
        }
    }
}

/// Returns the first 200 characters of a text that a client can choose, for the log.
fn excerpt(text: &str) -> String {
    text.chars().take(200).collect()
}

struct Panicked;

/// A future that calls a handler when it is first polled. If the handler or its future panics, even
/// when the completed future is dropped, the output is an error.
enum CatchPanic<F> {
    Waiting(F),
    Running(HandlerFuture),
    Over,
}

impl<F: FnOnce() -> HandlerFuture + Unpin> Future for CatchPanic<F> {
    type Output = Result<Result<(), HandlerError>, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let mut running = match mem::replace(&mut *self, Self::Over) {
                Self::Waiting(start) => start(),
                Self::Running(running) => running,
                Self::Over => return Poll::Ready(Err(Panicked)),
            };
            let polled = running.as_mut().poll(cx);
            if polled.is_pending() {
                *self = Self::Running(running);
            }
            polled.map(Ok)
        }));
        polled.unwrap_or(Poll::Ready(Err(Panicked)))
    }
}
