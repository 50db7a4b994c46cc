//! How a socket comes to be: checked, led past the application's middleware, connected by the hub; or refused.

use std::sync::Arc;
use std::time::Instant;

use actix::Context;
use bytestring::ByteString;

use super::{Presence, Session, random};
use crate::api::error::ConnectError;
use crate::api::handler::Layers;
use crate::api::socket::Socket;
use crate::ids::{NamespacePath, PrivateId, SocketId};
use crate::messages::fanout::Outcome;
use crate::messages::hub::{HubCommand, OwnPacket};
use crate::messages::socket::SocketInfo;
use crate::protocol::encoded::{Encoded, connect_error, connect_reply};
use crate::protocol::reason::DisconnectReason;
use crate::protocol::socketio::Parser;
use crate::state::credit::Ticket;
use crate::worker::gate::Waiter;

impl Session {
    /// A client asks for a namespace.
    pub(super) fn connect(&mut self, namespace: NamespacePath, auth: Option<ByteString>, ctx: &mut Context<Self>) {
        if self.is_parting() {
            return;
        }
        let Some(handlers) = self.core.registry.handlers(&namespace) else {
            return self.refuse_connect(&namespace, &ConnectError::new("Invalid namespace"));
        };
        if self.presences.len() >= self.core.limits.namespaces_per_session_max {
            return self.refuse_connect(&namespace, &ConnectError::new("Too many namespaces"));
        }
        if auth.as_ref().is_some_and(|auth| auth.len() > self.core.limits.auth_bytes_max) {
            return self.refuse_connect(&namespace, &ConnectError::new("Auth is too large"));
        }
        let Ok(id) = random().map(SocketId::from_random) else {
            return self.close(DisconnectReason::ForcedServerClose, "the system gives no random bytes", ctx);
        };
        // Path and credentials as they came share their whole packet's memory; these copies stay as long as the socket.
        let namespace = NamespacePath::parse(namespace.as_str().to_owned().into()).unwrap_or(namespace);
        let auth = auth.map(|auth| Box::from(&*auth));
        let info = SocketInfo::new(id, namespace.clone(), self.link.clone(), self.handshake.clone(), auth);
        let socket = Socket::new(Arc::new(info), self.core.clone());
        let presence = Presence { socket, layers: Layers::new(handlers) };
        self.state.admitting(namespace, id);
        if !presence.layers.has_admissions() {
            self.presences.push(presence);
            self.admit(id, ctx);
        } else {
            self.start_admission(&presence);
            self.presences.push(presence);
        }
    }

    /// Connection middleware has decided.
    pub(super) fn on_admitted(&mut self, socket: SocketId, refusal: Option<Encoded>, ctx: &mut Context<Self>) {
        match refusal {
            Some(packet) => self.refuse_with(socket, packet),
            None => self.admit(socket, ctx),
        }
    }

    /// Asks the hub for a socket, unless it has gone meanwhile.
    fn admit(&mut self, id: SocketId, ctx: &mut Context<Self>) {
        if !self.state.connecting(id) {
            return;
        }
        let Some(presence) = self.presence(id) else { return };
        let Ok(pid) = random().map(PrivateId::from_random) else {
            return self.close(DisconnectReason::ForcedServerClose, "the system gives no random bytes", ctx);
        };
        let (info, pid) = (presence.socket.info().clone(), self.core.recovery.then_some(pid));
        let namespace = info.namespace.clone();
        let reply =
            connect_reply(self.core.parser, &namespace, &id.to_string(), pid.map(|pid| pid.to_string()).as_deref());
        let (worker, slot) = (self.registration.worker.clone(), self.registration.slot);
        if presence.layers.observes_outgoing() {
            worker.observe(slot);
        }
        self.registration.add(id);
        self.gate.submit(Instant::now(), reply.frame().len(), Waiter::Connect(id), move |from| {
            let member = worker.add_member(info, slot);
            HubCommand::Connect { from, socket: id, member, namespace, pid, reply }
        });
    }

    /// Refuses a socket that is not connected yet; the transport stays.
    pub(super) fn refuse(&mut self, socket: SocketId, error: &ConnectError) {
        if let Some(presence) = self.presence(socket) {
            let packet = refusal_packet(self.core.parser, presence.socket.path(), error);
            self.refuse_with(socket, packet);
        }
    }

    fn refuse_with(&mut self, socket: SocketId, packet: Encoded) {
        // Gone, or refused already because its middleware was late.
        let Some(at) = self.presences.iter().position(|presence| presence.socket.id() == socket) else { return };
        self.presences.remove(at);
        self.state.gone(socket);
        self.inbox.forget(&socket);
        self.gate.push(Instant::now(), OwnPacket::Sealed(packet.into()));
    }

    fn refuse_connect(&mut self, namespace: &NamespacePath, error: &ConnectError) {
        log::debug!("connect refused sid={:?} namespace={namespace} error=\"{error}\"", self.registration.id);
        self.gate.push(Instant::now(), OwnPacket::Sealed(refusal_packet(self.core.parser, namespace, error).into()));
    }

    /// The hub answered a command of this session.
    pub(super) fn on_answer(&mut self, ticket: Ticket, outcome: Outcome, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let Some((socket, outcome)) = self.gate.answered(now, ticket, outcome) else { return };
        let Some(presence) = self.presence(socket) else { return };
        match outcome {
            Outcome::Connected { .. } => match presence.connected() {
                Some(handler) => {
                    self.start_connection_handler(presence, handler);
                    self.state.opening(socket, now);
                }
                None => self.state.opened(socket),
            },
            outcome => self.close(DisconnectReason::ForcedServerClose, &format!("hub refused: {outcome:?}"), ctx),
        }
    }
}

/// The CONNECT_ERROR packet that says so.
pub(super) fn refusal_packet(parser: Parser, namespace: &NamespacePath, error: &ConnectError) -> Encoded {
    // A map of strings and JSON values is always JSON.
    connect_error(parser, namespace, &serde_json::to_string(error).unwrap_or_default())
}
