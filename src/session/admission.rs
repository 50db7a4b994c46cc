//! How a socket comes to be: checked, led past the application's middleware, connected by the hub; or refused.

use std::sync::Arc;
use std::time::Instant;

use actix::Context;
use bytestring::ByteString;

use super::{Session, SessionSocket, random};
use crate::api::error::ConnectError;
use crate::api::handler::HandlerStack;
use crate::api::socket::Socket;
use crate::ids::{NamespacePath, PrivateId, SocketId};
use crate::messages::fanout::{HubRefusal, Outcome, ResumedSession};
use crate::messages::hub::{Connect, ConnectKind, DirectPacket, HubCommand, ResumeAttempt};
use crate::messages::socket::SocketInfo;
use crate::protocol::draft::{connect_error, connect_reply, disconnect};
use crate::protocol::encoded::EncodedFrame;
use crate::protocol::reason::DisconnectReason;
use crate::protocol::socketio::resume::{RecoveryRequest, ResumeRequest};
use crate::protocol::socketio::{DecodeError, Parser};
use crate::recovery::NotRecovered;
use crate::state::credit::Ticket;
use crate::worker::credit_window::{PendingReply, ResumingConnect};

/// What a CONNECT wants of recovery.
enum RecoveryIntent {
    /// To be left alone by it.
    Declined,
    /// To be recoverable from here on.
    Nothing,
    /// To go on with a session.
    Session(ResumeAttempt),
}

const NO_RANDOM_BYTES: &str = "the system gives no random bytes";

impl Session {
    /// A client asks for a namespace.
    pub(super) fn connect(&mut self, namespace: NamespacePath, auth: Option<ByteString>, ctx: &mut Context<Self>) {
        if self.is_closing() {
            return;
        }
        // A client connects, disconnects and connects in one turn, and says only the two CONNECTs.
        let replaces_answered = self.detach_replaced(&namespace);
        let refuse = |session: &mut Self, error| {
            session.refuse_connect(&namespace, replaces_answered, &ConnectError::new(error))
        };
        let Some(handlers) = self.core.registry.handlers(&namespace) else {
            return refuse(self, "Invalid namespace");
        };
        if self.state.namespaces() >= self.core.limits.namespaces_per_session_max {
            return refuse(self, "Too many namespaces");
        }
        if auth.as_ref().is_some_and(|auth| auth.len() > self.core.limits.auth_bytes_max) {
            return refuse(self, "Auth is too large");
        }
        let auth_bytes = auth.as_ref().map_or(0, |auth| auth.len());
        if !self.charge_for_held(auth_bytes) {
            self.guard.worker.metrics().incoming_refused.add(1);
            return refuse(self, "Server has no memory for it now");
        }
        self.auth_bytes += auth_bytes as u32;
        let Ok(id) = random().map(SocketId::from_random) else {
            return self.close(DisconnectReason::ForcedServerClose, NO_RANDOM_BYTES, ctx);
        };
        // As they came they share their whole packet's memory; this copy stays as long as the socket.
        let auth: Option<Box<str>> = auth.map(|auth| Box::from(&*auth));
        let handlers = HandlerStack::new(handlers);
        self.state.begin_admission(namespace.clone(), id, replaces_answered);
        match self.claim(&handlers, auth.as_deref()) {
            RecoveryIntent::Declined => {
                let info = self.info(id, namespace, auth, false);
                self.begin_admission(info, handlers, None, ctx);
            }
            RecoveryIntent::Nothing => {
                let info = self.info(id, namespace, auth, true);
                self.begin_admission(info, handlers, None, ctx);
            }
            RecoveryIntent::Session(claim) => {
                let claimed = ResumingConnect { socket: id, namespace: namespace.clone(), auth, claim };
                self.credit_window.submit(Instant::now(), 0, PendingReply::Resume(Box::new(claimed)), move |from| {
                    HubCommand::CheckResume { from, namespace, claim }
                });
            }
        }
    }

    /// What the client wants of recovery.
    fn claim(&self, handlers: &HandlerStack, auth: Option<&str>) -> RecoveryIntent {
        let RecoveryRequest { wants, claim } = RecoveryRequest::read(auth);
        let asked = wants.or_else(|| match self.handshake.query_value("recovery").as_deref() {
            Some("0" | "false") => Some(false),
            Some("1" | "true") => Some(true),
            _ => None,
        });
        let clients = handlers.recovery_clients().unwrap_or(self.core.recovery_clients);
        // Who comes back with an id of ours has not declined before.
        if !self.core.recovery
            || !asked.unwrap_or_else(|| claim != ResumeRequest::Nothing || clients.includes(&self.handshake))
        {
            return RecoveryIntent::Declined;
        }
        match claim {
            ResumeRequest::Nothing => RecoveryIntent::Nothing,
            ResumeRequest::Session(pid, offset) => RecoveryIntent::Session(ResumeAttempt { pid, offset }),
            ResumeRequest::Malformed => {
                self.guard.worker.metrics().claims_malformed.add(1);
                log::debug!("not recovered sid={:?} reason=\"malformed pid or offset\"", self.guard.id);
                RecoveryIntent::Nothing
            }
        }
    }

    /// The hub has looked up what a client claims.
    pub(super) fn on_resume_checked(
        &mut self,
        ticket: Ticket,
        claimed: Result<ResumedSession, NotRecovered>,
        ctx: &mut Context<Self>,
    ) {
        let Some(claimant) = self.credit_window.on_resume_checked(Instant::now(), ticket) else { return };
        let ResumingConnect { socket, namespace, auth, claim } = *claimant;
        if !self.state.is_admitting(socket) {
            return;
        }
        let Some(handlers) = self.core.registry.handlers(&namespace) else {
            let is_answered = self.state.is_answered(socket);
            self.state.remove_socket(socket);
            return self.refuse_connect(&namespace, is_answered, &ConnectError::new("Invalid namespace"));
        };
        let handlers = HandlerStack::new(handlers);
        match claimed {
            Ok(ResumedSession { socket: before, data }) => {
                self.rename_socket(socket, before);
                let info = self.info(before, namespace, auth, true).resumed(data);
                self.begin_admission(info, handlers, Some(Box::new(claim)), ctx);
            }
            Err(_) => {
                let info = self.info(socket, namespace, auth, true);
                self.begin_admission(info, handlers, None, ctx);
            }
        }
    }

    fn info(&self, id: SocketId, namespace: NamespacePath, auth: Option<Box<str>>, recoverable: bool) -> SocketInfo {
        SocketInfo::new(id, namespace, self.link.clone(), self.handshake.clone(), auth, recoverable)
    }

    /// Leads a socket past the application's middleware, if there is any.
    fn begin_admission(
        &mut self,
        info: SocketInfo,
        handlers: HandlerStack,
        claim: Option<Box<ResumeAttempt>>,
        ctx: &mut Context<Self>,
    ) {
        let id = info.id;
        let session_socket = SessionSocket { socket: Socket::new(Arc::new(info), self.core.clone()), handlers, claim };
        if !session_socket.handlers.has_connect_middleware() {
            self.sockets.push(session_socket);
            self.admit(id, ctx);
        } else {
            self.start_admission(&session_socket);
            self.sockets.push(session_socket);
        }
    }

    /// Connection middleware has decided.
    pub(super) fn on_admitted(&mut self, socket: SocketId, refusal: Option<EncodedFrame>, ctx: &mut Context<Self>) {
        match refusal {
            Some(packet) => self.refuse_with(socket, packet),
            None => match self.without_declined_claim(socket) {
                Ok(socket) => self.admit(socket, ctx),
                Err(detail) => self.close(DisconnectReason::ForcedServerClose, detail, ctx),
            },
        }
    }

    /// Whom to admit: where middleware declined that `socket` continues as who it was, a new one.
    fn without_declined_claim(&mut self, socket: SocketId) -> Result<SocketId, &'static str> {
        match self.find_socket(socket) {
            Some(session_socket)
                if session_socket.claim.is_some() && !session_socket.socket.info().is_recoverable() =>
            {
                self.reconnect_as_new(socket)
            }
            _ => Ok(socket),
        }
    }

    /// Lets the client of `socket` connect as a new socket, which bears nothing of the other but the data that middleware left it.
    fn reconnect_as_new(&mut self, socket: SocketId) -> Result<SocketId, &'static str> {
        let core = self.core.clone();
        let Some(session_socket) = self.find_socket_mut(socket) else { return Ok(socket) };
        let info = session_socket.socket.info();
        let id = random().map(SocketId::from_random).map_err(|_| NO_RANDOM_BYTES)?;
        let info = info.as_new_socket(id);
        session_socket.claim = None;
        session_socket.socket = Socket::new(Arc::new(info), core);
        self.rename_socket(socket, id);
        Ok(id)
    }

    /// A socket that is being admitted has another id now; so have the events that its client has sent already.
    fn rename_socket(&mut self, from: SocketId, to: SocketId) {
        self.state.rename(from, to);
        self.inbox.rename(&from, &to);
    }

    /// Asks the hub for a socket, unless it has gone meanwhile.
    fn admit(&mut self, id: SocketId, ctx: &mut Context<Self>) {
        if !self.state.begin_connect(id) {
            return;
        }
        let Some(session_socket) = self.find_socket(id) else { return };
        let info = session_socket.socket.info().clone();
        let (parser, namespace) = (self.core.parser, info.namespace.clone());
        let (kind, pid) = match session_socket.claim.as_deref() {
            _ if !self.core.recovery || !info.is_recoverable() => (ConnectKind::Unrecoverable, None),
            Some(claim) => (ConnectKind::Resuming(*claim), Some(claim.pid)),
            None => {
                let Ok(pid) = random().map(PrivateId::from_random) else {
                    return self.close(DisconnectReason::ForcedServerClose, NO_RANDOM_BYTES, ctx);
                };
                (ConnectKind::New(pid), Some(pid))
            }
        };
        let reply = connect_reply(parser, &namespace, &id.to_string(), pid.map(|pid| pid.to_string()).as_deref());
        let (worker, slot) = (self.guard.worker.clone(), self.guard.slot);
        if session_socket.handlers.observes_outgoing() {
            worker.observe(slot);
        }
        self.guard.add(id);
        let now = Instant::now();
        self.credit_window.submit(now, reply.frame().len(), PendingReply::Connect(id), move |from| {
            let member = worker.add_member(info, slot);
            HubCommand::Connect(Box::new(Connect { from, socket: id, member, namespace, kind, reply }))
        });
        // Behind it: middleware may have given it some data.
        self.keep_data(id, now);
    }

    /// Journals what the application keeps with a socket, if that has changed.
    pub(super) fn keep_data(&mut self, socket: SocketId, now: Instant) {
        let changed =
            self.find_socket(socket).and_then(|session_socket| session_socket.socket.info().take_changed_data());
        let Some(data) = changed.filter(|_| self.core.recovery) else { return };
        let bytes = data.as_ref().map_or(0, |data| data.len());
        self.credit_window.submit(now, bytes, PendingReply::Nobody, move |from| HubCommand::Data {
            from,
            socket,
            data,
        });
    }

    /// Refuses a socket that is not connected yet; the transport stays.
    pub(super) fn refuse(&mut self, socket: SocketId, error: &ConnectError) {
        if let Some(session_socket) = self.find_socket(socket) {
            let packet = refusal_packet(self.core.parser, session_socket.socket.path(), error);
            self.refuse_with(socket, packet);
        }
    }

    fn refuse_with(&mut self, socket: SocketId, packet: EncodedFrame) {
        // Gone, or refused already because its middleware was late.
        let Some(at) = self.sockets.iter().position(|session_socket| session_socket.socket.id() == socket) else {
            return;
        };
        let session_socket = self.sockets.remove(at);
        self.recount_auth();
        let packet = match self.state.is_answered(socket) {
            true => disconnect(self.core.parser, session_socket.socket.path()),
            false => packet,
        };
        self.state.remove_socket(socket);
        self.inbox.forget(&socket);
        self.credit_window.push(Instant::now, DirectPacket::Sealed(packet.into()));
    }

    /// A CONNECT whose namespace is known and which cannot be accepted.
    pub(super) fn on_unreadable_connect(&mut self, namespace: &NamespacePath, error: &DecodeError) {
        if self.is_closing() {
            return;
        }
        let replaces_answered = self.detach_replaced(namespace);
        let error = match error {
            DecodeError::IllegalNamespace(_) => "Invalid namespace".to_owned(),
            error => error.to_string(),
        };
        self.refuse_connect(namespace, replaces_answered, &ConnectError::new(error));
    }

    /// `is_answered`: the client considers the namespace connected. A CONNECT_ERROR would leave it so, without a `disconnect` event; a
    /// DISCONNECT does not, and the reason follows when it connects again.
    pub(super) fn refuse_connect(&mut self, namespace: &NamespacePath, is_answered: bool, error: &ConnectError) {
        let path: String = namespace.as_str().chars().take(64).collect();
        log::debug!("connect refused sid={:?} namespace={path} error=\"{error}\"", self.guard.id);
        let packet = match is_answered {
            true => disconnect(self.core.parser, namespace),
            false => refusal_packet(self.core.parser, namespace, error),
        };
        self.credit_window.push(Instant::now, DirectPacket::Sealed(packet.into()));
    }

    /// The hub answered a command of this session.
    pub(super) fn on_answer(&mut self, ticket: Ticket, outcome: Outcome, ctx: &mut Context<Self>) {
        let now = Instant::now();
        if let Outcome::Refused(refusal @ (HubRefusal::TooManyRooms | HubRefusal::RoomsSpent)) = outcome {
            self.on_join_refused(refusal, now);
        }
        let Some((socket, outcome)) = self.credit_window.on_answer(now, ticket, outcome) else { return };
        let Some(session_socket) = self.find_socket_mut(socket) else { return };
        match outcome {
            Outcome::Connected { recovered, .. } => match session_socket.mark_connected(recovered) {
                Some(handler) => {
                    self.start_connection_handler(socket, handler);
                    self.state.mark_connected(socket, now);
                }
                None => self.state.mark_open(socket),
            },
            Outcome::ResumeLost => return self.on_resume_lost(socket, ctx),
            outcome => self.close(DisconnectReason::ForcedServerClose, &format!("hub refused: {outcome:?}"), ctx),
        }
        self.keep_data(socket, now);
    }

    /// Who was to go on where it was went for good, or fell out of the journal, while middleware ran.
    fn on_resume_lost(&mut self, socket: SocketId, ctx: &mut Context<Self>) {
        self.guard.forget(socket);
        match self.reconnect_as_new(socket) {
            Ok(id) => self.admit(id, ctx),
            Err(detail) => self.close(DisconnectReason::ForcedServerClose, detail, ctx),
        }
    }
}

/// The CONNECT_ERROR packet that says so.
pub(super) fn refusal_packet(parser: Parser, namespace: &NamespacePath, error: &ConnectError) -> EncodedFrame {
    // A map of strings and JSON values is always JSON.
    connect_error(parser, namespace, &serde_json::to_string(error).unwrap_or_default())
}
