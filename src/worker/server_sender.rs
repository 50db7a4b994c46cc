//! The sender for code outside of sessions, such as `io.emit` in the application. Each server has
//! one server sender, whose credit all such code shares.

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
use crate::messages::answer::{
    Collected, Done, EmitRefusal, NoAnswer, PublishRefusal, RequestError, RoomListPage, Stored, answer,
};
use crate::messages::event::{AckWanted, DurableEmit, Emit};
use crate::messages::hub::{HubBatch, OrderedCommand};
use crate::messages::session::{Listing, Request, SessionCommand, SessionLink, SocketRef};
use crate::metrics::WorkerMetrics;
use crate::state::budget::Budgets;
use crate::state::rooms::Target;

pub(crate) struct ServerSender {
    credit_window: CreditWindow,
    timer: Option<(Instant, SpawnHandle)>,
}

impl ServerSender {
    /// Starts the server sender on the current thread, as a worker without sessions, and returns
    /// its address.
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
            // This cannot happen, since `create` calls the closure before it returns.
            None => unreachable!("actor was not created"),
        }
    }

    fn request(&mut self, request: Request, now: Instant) {
        match request {
            Request::Broadcast { emit, done } => self::emit(&mut self.credit_window, now, emit, done),
            Request::Publish { emit, done } => publish(&mut self.credit_window, now, emit, done),
            Request::Collect { emit, timeout, answer } => {
                collect(&mut self.credit_window, now, emit, timeout, answer);
            }
            Request::Fetch { namespace, target, answer } => {
                fetch(&mut self.credit_window, now, namespace, target, answer)
            }
            Request::List { listing, answer } => list(&mut self.credit_window, now, listing, answer),
            // All other requests concern the session of a socket. Dropping such a request notifies
            // its caller.
            other => log::error!("server sender received a request for a session request={other:?}"),
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

pub(crate) fn emit(credit_window: &mut CreditWindow, now: Instant, emit: Emit, done: Done) {
    submit_emit(credit_window, now, emit, AckWanted::No, PendingReply::Emit(done));
}

/// Maximum timeout for acks: one year. A maximum is needed, since adding a very large `Duration` to
/// an `Instant` panics.
pub(crate) const ACK_WAIT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Submits an emit that collects the acks of all receivers. The emit fails with `Overloaded` if
/// `collections_max` such emits of the sender are unanswered.
pub(crate) fn collect(
    credit_window: &mut CreditWindow,
    now: Instant,
    emit: Emit,
    timeout: Duration,
    caller: oneshot::Sender<Result<Collected, RequestError<EmitRefusal>>>,
) {
    if credit_window.collecting() >= credit_window.limits().acks.collections_max {
        return answer(caller, Err(NoAnswer::Overloaded.into()));
    }
    let timeout = timeout.min(ACK_WAIT_MAX);
    let reply = PendingReply::Collect(Box::new(AckCollector::new(caller, timeout, credit_window.charge())));
    submit_emit(credit_window, now, emit, AckWanted::OfMany(timeout), reply);
}

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

pub(crate) fn publish(
    credit_window: &mut CreditWindow,
    now: Instant,
    emit: Box<DurableEmit>,
    caller: oneshot::Sender<Result<Stored, RequestError<PublishRefusal>>>,
) {
    let bytes = emit.byte_len();
    credit_window.submit(now, bytes, PendingReply::Publish(caller), move |from| OrderedCommand::Publish { from, emit });
}

pub(crate) fn fetch(
    credit_window: &mut CreditWindow,
    now: Instant,
    namespace: NamespacePath,
    target: Target,
    caller: oneshot::Sender<Result<Vec<SocketRef>, NoAnswer>>,
) {
    let reply = PendingReply::Fetch { caller, missing: None, sockets: Vec::new() };
    credit_window.submit(now, 0, reply, move |from| OrderedCommand::Fetch { from, namespace, target });
}

pub(crate) fn list(
    credit_window: &mut CreditWindow,
    now: Instant,
    listing: Listing,
    caller: oneshot::Sender<Result<RoomListPage, NoAnswer>>,
) {
    credit_window.submit(now, 0, PendingReply::List(caller), move |from| OrderedCommand::List { from, listing });
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
            // All other commands concern a client or the end of a session. The server sender has no
            // client, and ends with its thread.
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

    /// A hub that ignores all commands.
    struct Ignoring;

    impl Actor for Ignoring {
        type Context = Context<Self>;
    }

    impl Handler<HubBatch> for Ignoring {
        type Result = ();

        fn handle(&mut self, _: HubBatch, _: &mut Context<Self>) {}
    }

    #[test]
    fn a_panicking_server_sender_ends_the_process() {
        // Regression: the panic ended only the actor, and all later emits by code outside sessions
        // failed.
        if !is_to_panic() {
            return aborts("worker::server_sender::tests::a_panicking_server_sender_ends_the_process");
        }
        System::new().block_on(async {
            let hub = Ignoring.start().recipient();
            let worker = Worker::start(WorkerId(0), hub.clone(), Limits::default(), Arc::default(), Arc::default());
            let link = ServerSender::open(WorkerId(1), hub, Limits::default(), Arc::default(), Arc::default());
            let credit_window = CreditWindow::new(OutboxHandle::open(worker.clone(), link));
            let server_sender = ServerSender { credit_window, timer: None }.start();
            turns().await;
            // The leaked borrow makes the next borrow panic.
            std::mem::forget(worker.hub_sender.borrow_mut());
            let (answer, _) = oneshot::channel();
            let listing = Listing::InNamespace { namespace: NamespacePath::root(), from: 0 };
            assert!(server_sender.try_send(SessionCommand::Request(Request::List { listing, answer })).is_ok());
            turns().await;
        });
    }
}
