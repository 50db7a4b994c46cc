//! The sender for code outside any session: requests of the server to its hub.
//!
//! One per server, on a thread of its own choosing; all such code shares the server sender's one credit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext, Context, Handler, SpawnHandle};
use tokio::sync::oneshot;

use super::Worker;
use super::ack_collector::AckCollector;
use super::credit_window::{CreditWindow, PendingReply};
use super::outbox_handle::OutboxHandle;
use crate::ids::{NamespacePath, WorkerId};
use crate::limits::Limits;
use crate::messages::abort::AbortOnUnwind;
use crate::messages::answer::{Collected, Done, EmitRefusal, NoAnswer, RequestError, RoomPage, answer};
use crate::messages::event::{AckWanted, Emit};
use crate::messages::hub::{HubBatch, OrderedCommand};
use crate::messages::session::{Listing, Request, SessionCommand, SessionLink, SocketRef};
use crate::metrics::WorkerMetrics;
use crate::state::budget::Budgets;
use crate::state::rooms::Target;

/// Takes requests that no session takes.
pub(crate) struct ServerSender {
    credit_window: CreditWindow,
    timer: Option<(Instant, SpawnHandle)>,
}

impl ServerSender {
    /// Opens the server sender on the current thread, as a worker without sessions, and returns its address.
    pub(crate) fn open(
        id: WorkerId,
        hub: actix::Recipient<HubBatch>,
        limits: Limits,
        budgets: Arc<Budgets>,
        metrics: Arc<WorkerMetrics>,
    ) -> SessionLink {
        let mailbox = limits.hub.mailbox_batches;
        let worker = Worker::start(id, hub, limits, budgets, metrics);
        let mut opened = None;
        Self::create(|ctx| {
            ctx.set_mailbox_capacity(mailbox);
            let link = SessionLink::new(ctx.address().recipient());
            let outbox = OutboxHandle::open(worker, link.clone());
            opened = Some(link);
            Self { credit_window: CreditWindow::new(outbox), timer: None }
        });
        match opened {
            Some(link) => link,
            // `create` has called the closure before it returns.
            None => unreachable!("actor was not created"),
        }
    }

    fn request(&mut self, request: Request, now: Instant) {
        match request {
            Request::Broadcast { emit, done } => self::emit(&mut self.credit_window, now, emit, done),
            Request::Collect { emit, timeout, answer } => {
                collect(&mut self.credit_window, now, emit, timeout, answer);
            }
            Request::Fetch { namespace, target, answer } => {
                fetch(&mut self.credit_window, now, namespace, target, answer)
            }
            Request::List { listing, answer } => list(&mut self.credit_window, now, listing, answer),
            // For a socket's own session only; handles do not send these here. Dropping them fails the caller.
            other => log::error!("server sender got a request for a session: {other:?}"),
        }
    }

    fn arm(&mut self, ctx: &mut Context<Self>) {
        let Some(deadline) = self.credit_window.deadline() else { return };
        if self.timer.as_ref().is_some_and(|(armed, _)| *armed <= deadline) {
            return;
        }
        if let Some((_, timer)) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let wait = deadline.saturating_duration_since(Instant::now());
        let timer = ctx.run_later(wait, |server_sender, ctx| {
            let _guard = AbortOnUnwind("server sender");
            server_sender.timer = None;
            server_sender.credit_window.on_timeout(Instant::now());
            server_sender.arm(ctx);
        });
        self.timer = Some((deadline, timer));
    }
}

/// Submits an emit to rooms.
pub(crate) fn emit(credit_window: &mut CreditWindow, now: Instant, emit: Emit, done: Done) {
    submit_emit(credit_window, now, emit, AckWanted::No, PendingReply::Emit(done));
}

/// Longest wait for an ack: a year, since no session lives longer and an instant cannot be put off for ever.
pub(crate) const ACK_WAIT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Submits an emit to rooms that wants everybody's ack; refused while the sender has too many such open.
pub(crate) fn collect(
    credit_window: &mut CreditWindow,
    now: Instant,
    emit: Emit,
    timeout: Duration,
    asker: oneshot::Sender<Result<Collected, RequestError<EmitRefusal>>>,
) {
    if credit_window.collecting() >= credit_window.limits().acks.collections_max {
        return answer(asker, Err(NoAnswer::Overloaded.into()));
    }
    let timeout = timeout.min(ACK_WAIT_MAX);
    let waiter = PendingReply::Collect(Box::new(AckCollector::new(asker, timeout, credit_window.charge())));
    submit_emit(credit_window, now, emit, AckWanted::OfMany(timeout), waiter);
}

/// Submits an event, charged by its size.
pub(crate) fn submit_emit(
    credit_window: &mut CreditWindow,
    now: Instant,
    emit: Emit,
    ack: AckWanted,
    reply: PendingReply,
) {
    let (bytes, emit) = (emit.draft.byte_len(), Box::new(emit));
    credit_window.submit(now, bytes, reply, move |from| OrderedCommand::Broadcast { from, emit, ack });
}

/// Submits a question for the sockets in a target.
pub(crate) fn fetch(
    credit_window: &mut CreditWindow,
    now: Instant,
    namespace: NamespacePath,
    target: Target,
    asker: oneshot::Sender<Result<Vec<SocketRef>, NoAnswer>>,
) {
    let waiter = PendingReply::Fetch { asker, missing: None, sockets: Vec::new() };
    credit_window.submit(now, 0, waiter, move |from| OrderedCommand::Fetch { from, namespace, target });
}

/// Submits a question for rooms.
pub(crate) fn list(
    credit_window: &mut CreditWindow,
    now: Instant,
    listing: Listing,
    asker: oneshot::Sender<Result<RoomPage, NoAnswer>>,
) {
    credit_window.submit(now, 0, PendingReply::List(asker), move |from| OrderedCommand::List { from, listing });
}

impl Actor for ServerSender {
    type Context = Context<Self>;
}

impl Handler<SessionCommand> for ServerSender {
    type Result = ();

    fn handle(&mut self, command: SessionCommand, ctx: &mut Context<Self>) {
        let _guard = AbortOnUnwind("server sender");
        let now = Instant::now();
        match command {
            SessionCommand::Request(request) => self.request(request, now),
            SessionCommand::Answered { ticket, answer } => {
                self.credit_window.on_answer(now, ticket, answer);
            }
            SessionCommand::Fetched { ticket, sockets } => self.credit_window.on_sockets(ticket, sockets),
            SessionCommand::Acked { ticket, socket, answer } => self.credit_window.on_ack(ticket, socket, answer),
            // The server sender outlives sessions; the server ends it by ending its thread.
            _ => {}
        }
        self.arm(ctx);
    }
}

#[cfg(test)]
mod tests {
    use actix::System;

    use super::super::tests::turns;
    use super::*;
    use crate::messages::abort::tests::{aborts, is_to_panic};

    /// Stands for the hub.
    struct Ignoring;

    impl Actor for Ignoring {
        type Context = Context<Self>;
    }

    impl Handler<HubBatch> for Ignoring {
        type Result = ();

        fn handle(&mut self, _: HubBatch, _: &mut Context<Self>) {}
    }

    #[test]
    fn a_panicking_desk_ends_the_process() {
        // It died alone: whatever code outside of sessions emitted failed from there on, and the process went on.
        if !is_to_panic() {
            return aborts("worker::server_sender::tests::a_panicking_desk_ends_the_process");
        }
        System::new().block_on(async {
            let hub = Ignoring.start().recipient();
            let worker = Worker::start(WorkerId(0), hub.clone(), Limits::default(), Arc::default(), Arc::default());
            let link = ServerSender::open(WorkerId(1), hub, Limits::default(), Arc::default(), Arc::default());
            let credit_window = CreditWindow::new(OutboxHandle::open(worker.clone(), link));
            let server_sender = ServerSender { credit_window, timer: None }.start();
            turns().await;
            // Borrowed for ever, which is what a defect could do.
            std::mem::forget(worker.hub_sender.borrow_mut());
            let (answer, _) = oneshot::channel();
            let listing = Listing::InNamespace { namespace: NamespacePath::root(), from: 0 };
            assert!(server_sender.try_send(SessionCommand::Request(Request::List { listing, answer })).is_ok());
            turns().await;
        });
    }
}
