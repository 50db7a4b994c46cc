//! Admission or refusal of a socket: limits, resume, connection middleware, connect in the hub.

use std::sync::Arc;
use std::time::Instant;

use actix::Context;
use bytestring::ByteString;

use super::sockets::SessionSocket;
use super::{Session, random};
use crate::api::error::ConnectError;
use crate::api::handler::HandlerStack;
use crate::ids::{NamespacePath, PrivateId, SocketId};
use crate::messages::answer::{Answer, ConnectAnswer, ResumedSession};
use crate::messages::event::DirectPacket;
use crate::messages::hub::{Connect, ConnectKind, OrderedCommand};
use crate::messages::room_filter::RoomFilter;
use crate::messages::session::ConnectRefusal;
use crate::messages::socket::SocketInfo;
use crate::protocol::draft::{connect_error, connect_reply, disconnect};
use crate::protocol::encoded::EncodedFrame;
use crate::protocol::reason::{DisconnectReason, NotRecovered};
use crate::protocol::socketio::resume::{RecoveryRequest, ResumeAttempt, ResumeRequest};
use crate::protocol::socketio::{DecodeError, Parser};
use crate::state::credit::Ticket;
use crate::state::rooms::MembershipError;
use crate::worker::credit_window::{PendingReply, SessionAnswer};

const NO_RANDOM_BYTES: &str = "the system provides no random bytes";

impl Session {
    pub(super) fn on_connect(&mut self, namespace: NamespacePath, auth: Option<ByteString>, ctx: &mut Context<Self>) {
        if self.is_closing() {
            return;
        }
        // The CONNECT may replace a socket: a client that connects, disconnects and connects again
        // in one turn sends only the two CONNECTs.
        let replaces_answered = self.detach_replaced(&namespace);
        let refuse = |session: &mut Self, error| {
            session.refuse_connect(&namespace, replaces_answered, &ConnectError::new(error))
        };
        let Some(handlers) = self.core.registry.handlers(&namespace) else {
            return refuse(self, "Invalid namespace");
        };
        if self.state.sockets.len() >= self.core.limits.sessions.namespaces_max {
            return refuse(self, "Too many namespaces");
        }
        if auth.as_ref().is_some_and(|auth| auth.len() > self.core.limits.sockets.auth_bytes_max) {
            return refuse(self, "Auth is too large");
        }
        let auth_bytes = auth.as_ref().map_or(0, |auth| auth.len());
        if !self.charge_for_held(auth_bytes) {
            self.outbox.worker.metrics().incoming_refused.add(1);
            return refuse(self, "Server has no memory for the auth data now");
        }
        let Ok(id) = random().map(SocketId::from_random) else {
            return self.close(DisconnectReason::ForcedServerClose, NO_RANDOM_BYTES, ctx);
        };
        // The credentials are copied, since the received text keeps the memory of its whole packet.
        let auth: Option<Box<str>> = auth.map(|auth| Box::from(&*auth));
        let handlers = HandlerStack::new(handlers);
        let (recoverable, attempt) = self.recovery_intent(&handlers, auth.as_deref());
        let info = SocketInfo::new(id, namespace.clone(), self.handshake.clone(), auth, recoverable);
        let socket = SessionSocket::new(info, self.link.clone(), self.core.clone(), handlers, attempt.map(Box::new));
        self.add_socket(socket, replaces_answered);
        match attempt {
            Some(claim) => self.credit_window.submit(Instant::now(), 0, PendingReply::Resume(id), move |from| {
                OrderedCommand::CheckResume { from, namespace, claim }
            }),
            None => self.begin_admission(id, ctx),
        }
    }

    /// Returns whether the socket should be recoverable, and the session that it should resume, if
    /// any.
    fn recovery_intent(&self, handlers: &HandlerStack, auth: Option<&str>) -> (bool, Option<ResumeAttempt>) {
        let RecoveryRequest { wants, claim } = RecoveryRequest::read(auth);
        let asked = wants.or_else(|| match self.handshake.query_value("recovery").as_deref() {
            Some("0" | "false") => Some(false),
            Some("1" | "true") => Some(true),
            _ => None,
        });
        let clients = handlers.recovery_clients().unwrap_or(self.core.recovery_clients);
        // By default, recovery is on for a client that sends a private id, since it has not
        // declined recovery before.
        let is_default = || claim != ResumeRequest::Nothing || clients.includes(&self.handshake);
        if !self.core.encoder.recovery || !asked.unwrap_or_else(is_default) {
            return (false, None);
        }
        match claim {
            ResumeRequest::Nothing => (true, None),
            ResumeRequest::Session(attempt) => (true, Some(attempt)),
            ResumeRequest::Malformed => {
                self.outbox.worker.metrics().claims_malformed.add(1);
                log::debug!("session not resumed sid={:?} reason=\"malformed pid or offset\"", self.guard.id);
                (true, None)
            }
        }
    }

    fn on_resume_checked(
        &mut self,
        socket: SocketId,
        session: Result<ResumedSession, NotRecovered>,
        ctx: &mut Context<Self>,
    ) {
        let Some(session_socket) = self.find_socket_mut(socket) else { return };
        match session {
            Ok(ResumedSession { socket: before, data }) => {
                let info = session_socket.socket.info().as_resumed(before, data);
                self.replace_socket(socket, info);
                self.begin_admission(before, ctx);
            }
            Err(_) => {
                session_socket.attempt = None;
                self.begin_admission(socket, ctx);
            }
        }
    }

    /// Runs the connection middleware, if there is any, before the hub connects the socket. If the
    /// middleware does not wait, packets behind the CONNECT find the socket admitted or refused.
    fn begin_admission(&mut self, socket: SocketId, ctx: &mut Context<Self>) {
        match self.find_socket(socket) {
            Some(session_socket) if session_socket.handlers.has_connect_middleware() => {
                let info = session_socket.socket.info().clone();
                if let Some(refusal) = self.start_admission(session_socket) {
                    self.on_admitted(&info, refusal, ctx);
                }
            }
            _ => self.admit(socket, ctx),
        }
    }

    pub(super) fn on_admitted(
        &mut self,
        info: &Arc<SocketInfo>,
        refusal: Option<ConnectRefusal>,
        ctx: &mut Context<Self>,
    ) {
        let socket = info.id;
        if !self.is_current(info) || !self.is_admitting(socket) {
            return;
        }
        match refusal {
            Some(ConnectRefusal::Packet(packet)) => self.refuse_with(socket, packet),
            Some(ConnectRefusal::Temporary { message }) => {
                self.close(DisconnectReason::ForcedClose, &message, ctx);
            }
            None => match self.without_declined_resume(socket) {
                Ok(socket) => self.admit(socket, ctx),
                Err(detail) => self.close(DisconnectReason::ForcedServerClose, detail, ctx),
            },
        }
    }

    /// Returns the socket to connect. If middleware declined the resume of `socket`, this is a new
    /// socket.
    fn without_declined_resume(&mut self, socket: SocketId) -> Result<SocketId, &'static str> {
        match self.find_socket(socket) {
            Some(session_socket)
                if session_socket.attempt.is_some() && !session_socket.socket.info().is_recovered() =>
            {
                self.reconnect_as_new(socket)
            }
            _ => Ok(socket),
        }
    }

    /// Replaces a socket whose resume was declined or failed by a new socket of the same client.
    /// The new socket keeps the data that middleware has stored.
    fn reconnect_as_new(&mut self, socket: SocketId) -> Result<SocketId, &'static str> {
        let id = random().map(SocketId::from_random).map_err(|_| NO_RANDOM_BYTES)?;
        let Some(session_socket) = self.find_socket_mut(socket) else { return Ok(socket) };
        session_socket.attempt = None;
        let info = session_socket.socket.info().as_new_socket(id);
        self.replace_socket(socket, info);
        Ok(id)
    }

    /// Requests the connect from the hub, unless the socket was removed meanwhile.
    fn admit(&mut self, id: SocketId, ctx: &mut Context<Self>) {
        if !self.state.begin_connect(id) {
            return;
        }
        let Some(session_socket) = self.state.sockets.get_mut(id).map(|record| &mut record.kept) else { return };
        session_socket.is_in_hub = true;
        let info = session_socket.socket.info().clone();
        let (parser, namespace) = (self.core.encoder.parser, info.namespace.clone());
        let (kind, pid) = match session_socket.attempt.as_deref() {
            _ if !self.core.encoder.recovery || !info.is_recoverable() => (ConnectKind::Unrecoverable, None),
            Some(claim) => (ConnectKind::Resuming(*claim), Some(claim.pid)),
            None => {
                let Ok(pid) = random().map(PrivateId::from_random) else {
                    return self.close(DisconnectReason::ForcedServerClose, NO_RANDOM_BYTES, ctx);
                };
                (ConnectKind::New(pid), Some(pid))
            }
        };
        let reply = connect_reply(parser, &namespace, &id.to_string(), pid.map(|pid| pid.to_string()).as_deref());
        let outbox = self.outbox.clone();
        let filter = info.extensions.remove::<RoomFilter>().map(|filter| (*filter).clone());
        if session_socket.handlers.observes_outgoing() {
            outbox.observe();
        }
        let now = Instant::now();
        self.credit_window.submit(now, reply.frame().len(), PendingReply::Connect(id), move |from| {
            let member = outbox.add_member(info);
            OrderedCommand::Connect(Box::new(Connect { from, socket: id, member, namespace, kind, filter, reply }))
        });
        // The data is journalled after the connect, since middleware may have stored some.
        self.journal_data(id, now);
    }

    /// Journals the application's data of a socket, if the data has changed.
    pub(super) fn journal_data(&mut self, socket: SocketId, now: Instant) {
        let changed =
            self.find_socket(socket).and_then(|session_socket| session_socket.socket.info().take_changed_data());
        let Some(data) = changed.filter(|_| self.core.encoder.recovery) else { return };
        let bytes = data.as_ref().map_or(0, |data| data.len());
        self.credit_window.submit(now, bytes, PendingReply::Nobody, move |from| OrderedCommand::Data {
            from,
            socket,
            data,
        });
    }

    /// Refuses a socket that is not connected yet. The session continues.
    pub(super) fn refuse(&mut self, socket: SocketId, error: &ConnectError) {
        if let Some(session_socket) = self.find_socket(socket) {
            let packet = refusal_packet(self.core.encoder.parser, session_socket.socket.path(), error);
            self.refuse_with(socket, packet);
        }
    }

    fn refuse_with(&mut self, socket: SocketId, packet: EncodedFrame) {
        // The socket may have been removed meanwhile, or refused because its middleware timed out.
        let Some(removed) = self.remove_socket(socket) else { return };
        self.leave_hub(&removed, false, None);
        let packet = if removed.is_answered() {
            disconnect(self.core.encoder.parser, removed.kept.socket.path())
        } else {
            packet
        };
        self.credit_window.push(Instant::now, DirectPacket::Sealed(packet.into()));
    }

    /// Refuses an invalid CONNECT whose namespace could be read.
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

    /// Refuses a CONNECT. If `is_answered`, the client considers the namespace connected, and a
    /// CONNECT_ERROR would cause no `disconnect` event. The client therefore receives a DISCONNECT,
    /// and the error when it connects again.
    pub(super) fn refuse_connect(&mut self, namespace: &NamespacePath, is_answered: bool, error: &ConnectError) {
        self.connect_refusal_log()(namespace, error);
        let packet = if is_answered {
            disconnect(self.core.encoder.parser, namespace)
        } else {
            refusal_packet(self.core.encoder.parser, namespace, error)
        };
        self.credit_window.push(Instant::now, DirectPacket::Sealed(packet.into()));
    }

    /// Returns a function that logs a refused CONNECT of this session. Each worker logs at most one
    /// per second.
    pub(super) fn connect_refusal_log(&self) -> impl Fn(&NamespacePath, &ConnectError) + use<> {
        let (worker, sid, address) = (self.outbox.worker.clone(), self.guard.id, self.handshake.address());
        move |namespace, error| {
            let Some(skipped) = worker.log_throttles().connect_refused.is_due(Instant::now()) else { return };
            let address = address.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
            let namespace: String = namespace.as_str().chars().take(64).collect();
            let reason: String = error.to_string().chars().take(128).collect();
            log::warn!(
                "connect refused sid={sid:?} address={address} namespace={namespace:?} reason={reason:?} skipped={skipped}"
            );
        }
    }

    pub(super) fn on_answer(&mut self, ticket: Ticket, answer: Answer, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let refused = match &answer {
            Answer::Join(Err(refusal @ (MembershipError::TooManyRooms | MembershipError::BudgetSpent))) => {
                Some(*refusal)
            }
            _ => None,
        };
        let for_session = self.credit_window.on_answer(now, ticket, answer);
        if let (Some(refusal), None) = (refused, &for_session) {
            self.on_join_refused(refusal, now);
        }
        match for_session {
            Some(SessionAnswer::RejoinRefused(socket, room, refusal)) => {
                self.on_rejoin_refused(socket, &room, refusal, now);
            }
            Some(SessionAnswer::Connect(socket, answer)) => self.on_connected(socket, answer, now, ctx),
            Some(SessionAnswer::ResumeChecked(socket, session)) => self.on_resume_checked(socket, session, ctx),
            None => {}
        }
    }

    fn on_connected(&mut self, socket: SocketId, answer: ConnectAnswer, now: Instant, ctx: &mut Context<Self>) {
        if self.find_socket(socket).is_none() {
            return;
        }
        match answer {
            ConnectAnswer::Connected { recovered } => self.open_socket(socket, recovered, now),
            ConnectAnswer::Lost => return self.on_resume_lost(socket, ctx),
        }
        self.journal_data(socket, now);
    }

    /// Connects a new socket, because the session to resume ended for good, or was dropped from the
    /// journal, while middleware ran.
    fn on_resume_lost(&mut self, socket: SocketId, ctx: &mut Context<Self>) {
        if let Some(session_socket) = self.find_socket_mut(socket) {
            session_socket.is_in_hub = false;
        }
        match self.reconnect_as_new(socket) {
            Ok(id) => self.admit(id, ctx),
            Err(detail) => self.close(DisconnectReason::ForcedServerClose, detail, ctx),
        }
    }
}

pub(super) fn connect_refusal(parser: Parser, namespace: &NamespacePath, error: &ConnectError) -> ConnectRefusal {
    if error.is_temporary() {
        ConnectRefusal::Temporary { message: error.to_string() }
    } else {
        ConnectRefusal::Packet(refusal_packet(parser, namespace, error))
    }
}

fn refusal_packet(parser: Parser, namespace: &NamespacePath, error: &ConnectError) -> EncodedFrame {
    // Serialization cannot fail, since strings and JSON values always have a JSON form.
    connect_error(parser, namespace, &serde_json::to_string(error).unwrap_or_default())
}
