//! The actor of an Engine.IO session. It runs on the worker that accepted the handshake. An upgrade
//! of the transport does not replace the actor.
//!
//! The actor drives the sans-IO [`SessionState`], owns timers, starts handlers, and forwards
//! requests to the hub. This file contains the fields, the lifecycle and the dispatch of commands.
//! The submodules contain the behaviour.

mod admission;
mod closing;
pub(crate) mod directory;
mod effects;
mod guard;
mod handlers;
mod rates;
mod requests;
mod sockets;
mod subscriber;
mod transports;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix::{Actor, AsyncContext, Context, Handler, StreamHandler};

use crate::api::core::Core;
use crate::ids::{RANDOM_ID_BYTES, SessionId, SocketId};
use crate::messages::answer::{Done, NoAnswer, answer};
use crate::messages::handshake::Handshake;
use crate::messages::session::{SessionCommand, SessionLink};
use crate::messages::sink::{Handoff, Incoming};
use crate::protocol::encoded::EncodedFrame;
use crate::protocol::engineio::open::Open;
use crate::protocol::engineio::transport_kind::TransportKind;
use crate::protocol::reason::DisconnectReason;
use crate::state::acks::Acks;
use crate::state::budget::Charge;
use crate::state::inbox::Inbox;
use crate::state::lazy_queue::LazyQueue;
use crate::state::session::{ClientEvent, SessionState};
use crate::state::upgrade::Upgrade;
use crate::worker::Worker;
use crate::worker::credit_window::CreditWindow;
use crate::worker::outbox_handle::OutboxHandle;

use self::closing::ClosePhase;
use self::directory::{Directory, SessionPermit};
use self::guard::SessionGuard;
use self::handlers::RunningHandlers;
use self::rates::RateLimiter;
use self::sockets::{Call, SessionSocket};
use self::transports::{PendingPost, ProbedWebsocket};

/// The shared state that every session of a server uses.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) core: Arc<Core>,
    pub(crate) directory: Arc<Directory>,
}

/// A handshake that was admitted and may open a session.
pub(crate) struct PendingSession {
    pub(crate) id: SessionId,
    pub(crate) handshake: Handshake,
    pub(crate) permit: SessionPermit,
}

impl PendingSession {
    pub(crate) fn new(handshake: Handshake, permit: SessionPermit) -> Result<Self, getrandom::Error> {
        Ok(Self { id: SessionId::from_random(random()?), handshake, permit })
    }
}

/// The transport on which a session starts.
pub(crate) enum InitialTransport {
    /// The handshake is a GET, whose response contains the first packets of the outbox.
    Polling,
    Websocket(Box<dyn Handoff>),
}

impl InitialTransport {
    fn kind(&self) -> TransportKind {
        match self {
            Self::Polling => TransportKind::Polling,
            Self::Websocket(_) => TransportKind::Websocket,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Polling,
    /// A websocket, with its number among the session's connections.
    Websocket(u32),
}

pub(crate) struct Session {
    guard: SessionGuard,
    outbox: Rc<OutboxHandle>,
    link: SessionLink,
    core: Arc<Core>,
    handshake: Arc<Handshake>,
    state: SessionState<SessionSocket>,
    credit_window: CreditWindow,
    acks: Acks<Call>,
    /// Emits whose events are queued but whose client is lagging. Each emit completes when the
    /// client has caught up, at the latest at the stored deadline. The number of emits is bounded
    /// by `limits.hub.credit_waiting_max`.
    congested: LazyQueue<(Instant, Done)>,
    inbox: Inbox<SocketId, ClientEvent>,
    /// Bytes of held client input that are charged to the budget. Boxed, since most sessions hold
    /// no input.
    charge: Option<Box<Charge>>,
    /// Bytes of the `auth` payloads of the session's sockets.
    auth_bytes: usize,
    running: Rc<RunningHandlers>,
    transport: Transport,
    upgrade: Upgrade<ProbedWebsocket>,
    /// Number of websocket connections so far. Late input from a former connection is recognised by
    /// its smaller number.
    connections: u32,
    /// False while input limits are exceeded and reading is paused.
    reading: bool,
    /// The POST that is being processed, or that is answered when reading resumes. Boxed, since
    /// most sessions have none.
    post: Option<Box<PendingPost>>,
    phase: ClosePhase,
    /// `None` while no rate is limited and no refused join was counted.
    rates: Option<Box<RateLimiter>>,
    /// Time of the next wake-up. Wake-ups before this time are ignored.
    armed: Option<Instant>,
}

impl Session {
    /// Opens a session on the current thread, and queues its Engine.IO open packet.
    pub(crate) fn open(
        worker: Rc<Worker>,
        core: Arc<Core>,
        pending: PendingSession,
        initial: InitialTransport,
    ) -> SessionLink {
        let PendingSession { id, handshake, permit } = pending;
        let context = Context::new();
        let link = SessionLink::new(context.address().recipient());
        let transport_kind = initial.kind();
        let rates =
            RateLimiter::new(&permit.directory().limits.get(), handshake.address(), permit.directory(), Instant::now());
        let guard = SessionGuard::new(id, worker.metrics().clone(), permit, link.clone(), transport_kind);
        let outbox = OutboxHandle::open(worker, link.clone());
        let session = Self {
            state: SessionState::new(core.encoder.parser, core.limits.clone(), Instant::now()),
            credit_window: CreditWindow::new(outbox.clone()),
            acks: Acks::default(),
            congested: LazyQueue::default(),
            inbox: Inbox::default(),
            charge: None,
            auth_bytes: 0,
            running: Rc::new(RunningHandlers::new(link.clone())),
            transport: Transport::Polling,
            upgrade: Upgrade::default(),
            connections: 0,
            reading: true,
            post: None,
            phase: ClosePhase::Open,
            rates,
            armed: None,
            handshake: Arc::new(handshake),
            link: link.clone(),
            guard,
            outbox,
            core,
        };
        session.begin(initial, context);
        link
    }

    fn begin(mut self, initial: InitialTransport, mut context: Context<Self>) {
        let transport_kind = initial.kind();
        let limits = &self.core.limits;
        let open = Open {
            sid: &self.guard.id.to_string(),
            upgrades: if transport_kind == TransportKind::Polling { &[TransportKind::Websocket.as_str()] } else { &[] },
            ping_interval: limits.sessions.ping_interval,
            ping_timeout: limits.sessions.ping_timeout,
            max_payload: limits.transport.payload_bytes_max,
        };
        let packet = EncodedFrame::text(&open.to_packet());
        self.outbox.push_control(packet);
        log::debug!("session opened sid={:?} transport={}", self.guard.id, transport_kind.as_str());
        if let InitialTransport::Websocket(handoff) = initial {
            self.take_first_websocket(handoff, &mut context);
        }
        context.run(self);
    }

    /// Ends a turn of the actor: starts handlers of held events, and schedules the next wake-up.
    fn end_turn(&mut self, ctx: &mut Context<Self>) {
        if !self.inbox.is_empty() {
            self.release_events();
        }
        self.regulate_reading();
        self.close_if_drained(ctx);
        self.arm(ctx);
    }

    fn arm(&mut self, ctx: &mut Context<Self>) {
        let deadline = match self.phase {
            ClosePhase::Closing { until, .. } => until,
            ClosePhase::Closed => match self.credit_window.deadline() {
                Some(deadline) => deadline,
                None => return,
            },
            ClosePhase::Draining { until, .. } => until,
            ClosePhase::Open => [
                self.credit_window.deadline(),
                self.acks.deadline(),
                self.upgrade.deadline(),
                self.congested.front().map(|(until, _)| *until),
                self.paused_until(),
            ]
            .into_iter()
            .flatten()
            .fold(self.state.deadline(), Instant::min),
        };
        if self.armed.is_some_and(|armed| armed <= deadline) {
            return;
        }
        self.armed = Some(deadline);
        if let Some(wait) = self.outbox.wake_at(deadline) {
            ctx.run_later(wait, |session, ctx| {
                session.on_wake(ctx);
                session.end_turn(ctx);
            });
        }
    }

    /// Handles a wake-up. A wake-up for a deadline that was replaced by an earlier deadline is
    /// ignored.
    fn on_wake(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        if self.armed.is_none_or(|armed| armed > now) {
            return;
        }
        self.armed = None;
        if self.on_linger_timer(now, ctx) {
            return self.credit_window.on_timeout(now);
        }
        if !self.reading {
            // The pong deadline is suspended while reading is paused, so a disconnected client is
            // detected here.
            if self.outbox.is_peer_gone() {
                return self.on_connection_ended(DisconnectReason::TransportClose, "closed by the client", ctx);
            }
            self.state.on_not_reading(now);
        }
        if self.outbox.is_stalled(now) {
            return self.on_stalled(now, ctx);
        }
        self.credit_window.on_timeout(now);
        self.complete_congested(|until| until <= now);
        for call in self.acks.expire(now) {
            answer(call.asker, Err(NoAnswer::Unanswered.into()));
        }
        let mut effects = Vec::new();
        self.state.on_timeout(now, &mut effects);
        self.apply(effects, ctx);
        let step = self.upgrade.on_timeout(now, &self.core.limits);
        self.on_upgrade_step(step);
    }
}

fn random() -> Result<[u8; RANDOM_ID_BYTES], getrandom::Error> {
    let mut bytes = [0; RANDOM_ID_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

impl Actor for Session {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(self.core.limits.hub.credit_waiting_max);
        self.arm(ctx);
    }
}

impl Handler<SessionCommand> for Session {
    type Result = ();

    fn handle(&mut self, command: SessionCommand, ctx: &mut Context<Self>) {
        match command {
            SessionCommand::Request(request) => self.on_request(request),
            SessionCommand::Answered { ticket, answer } => self.on_answer(ticket, answer, ctx),
            SessionCommand::Fetched { ticket, sockets } => self.credit_window.on_sockets(ticket, sockets),
            // `end_turn` below starts the handlers.
            SessionCommand::HandlersFreed => {}
            SessionCommand::Pause => self.on_pause(),
            SessionCommand::Wake => self.on_wake(ctx),
            SessionCommand::Acked { ticket, socket, answer } => self.credit_window.on_ack(ticket, socket, answer),
            SessionCommand::Admitted { socket, refusal } => self.on_admitted(&socket, refusal, ctx),
            SessionCommand::Opened { socket } if self.is_current(&socket) => self.state.mark_open(socket.id),
            SessionCommand::Opened { .. } => {}
            SessionCommand::Sent(message) => self.on_sent(&message),
            SessionCommand::Attachment { socket, id, update } => self.on_attachment(socket, id, update),
            SessionCommand::HandlerPanicked { socket, handler } => self.on_panic(&socket, &handler),
            SessionCommand::Drain { sink, reply } => self.on_drain(sink, reply, ctx),
            SessionCommand::Post { packets, reply } => self.on_post(packets, reply, ctx),
            SessionCommand::ResumePost => self.take_post(ctx),
            SessionCommand::Websocket(handoff) => self.on_websocket(handoff, ctx),
            SessionCommand::TransportFailed(detail) => self.on_transport_failed(detail, ctx),
            SessionCommand::DrainerLost(detail) => self.on_drainer_lost(detail, ctx),
            SessionCommand::OutboxFull(detail) => self.on_outbox_full(&detail, ctx),
            SessionCommand::OutboxCut { detail, can_notify } => self.on_outbox_cut(&detail, can_notify, ctx),
            SessionCommand::OutboxLow => self.complete_congested(|_| true),
            SessionCommand::Evicted => {
                self.close(DisconnectReason::ForcedServerClose, "resumed over another connection", ctx);
            }
            SessionCommand::ClosingDrained => self.on_closing_drained(ctx),
            SessionCommand::Close(reason) => self.close(reason, "requested by the server", ctx),
        }
        self.end_turn(ctx);
    }
}

/// Input of a connection, with the number of that connection.
struct Numbered(u32, Incoming);

impl StreamHandler<Numbered> for Session {
    fn handle(&mut self, Numbered(number, incoming): Numbered, ctx: &mut Context<Self>) {
        self.on_incoming(number, incoming, ctx);
        self.end_turn(ctx);
    }

    // Does nothing, since the last item of the stream has reported why the connection ended. The
    // default implementation would stop the actor.
    fn finished(&mut self, _: &mut Context<Self>) {}
}
