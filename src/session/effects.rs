//! Doing what the session's machine decided.

use std::sync::Arc;
use std::time::Instant;

use actix::Context;
use bytestring::ByteString;

use super::{Presence, Session, random};
use crate::api::socket::Socket;
use crate::ids::{NamespacePath, PrivateId, SocketId};
use crate::messages::fanout::Outcome;
use crate::messages::hub::{HubCommand, OwnPacket};
use crate::messages::request::answer;
use crate::messages::socket::SocketInfo;
use crate::protocol::encoded::{connect_error, connect_reply};
use crate::protocol::engineio::packet::Packet;
use crate::protocol::reason::DisconnectReason;
use crate::state::credit::Ticket;
use crate::state::session::Effect;
use crate::worker::gate::Waiter;

impl Session {
    /// A packet came over the session's transport.
    pub(super) fn on_packet(&mut self, packet: Packet, ctx: &mut Context<Self>) {
        let metrics = self.registration.worker.metrics();
        metrics.packets_received.add(1);
        metrics.bytes_received.add(packet.data_len() as u64);
        let mut effects = Vec::new();
        self.state.on_packet(packet, Instant::now(), &mut effects);
        self.apply(effects, ctx);
    }

    pub(super) fn apply(&mut self, effects: Vec<Effect>, ctx: &mut Context<Self>) {
        for effect in effects {
            match effect {
                Effect::Control(packet) => self.registration.worker.push_control(self.registration.slot, packet),
                Effect::FreePoll => self.free_poll(),
                Effect::Candidate(packet) => self.send_to_candidate(packet),
                Effect::Promote => self.promote_candidate(),
                Effect::DropCandidate => self.drop_candidate("probe failed or timed out"),
                Effect::Connect { namespace, auth } => self.connect(namespace, auth, ctx),
                Effect::Event { socket, event } => self.on_event(socket, event),
                Effect::Ack { socket, id, args } => {
                    if let Some(call) = self.acks.resolve(id, |call| call.socket == socket) {
                        answer(call.asker, Ok(args));
                    }
                }
                Effect::Leave(socket) => {
                    self.detach(socket, DisconnectReason::ClientNamespaceDisconnect);
                }
                Effect::ReleaseHeld(socket) => log::warn!(
                    "connection handler has not returned in time, events go on sid={:?} socket={socket}",
                    self.registration.id
                ),
                Effect::Close { reason, detail } => self.close(reason, &detail, ctx),
            }
        }
    }

    /// A client asks for a namespace: checked here, then connected by the hub.
    fn connect(&mut self, namespace: NamespacePath, auth: Option<ByteString>, ctx: &mut Context<Self>) {
        if self.is_parting() {
            return;
        }
        let Some(handlers) = self.core.registry.handlers(&namespace) else {
            return self.refuse_connect(&namespace, "Invalid namespace");
        };
        if self.presences.len() >= self.core.limits.namespaces_per_session_max {
            return self.refuse_connect(&namespace, "Too many namespaces");
        }
        if auth.as_ref().is_some_and(|auth| auth.len() > self.core.limits.auth_bytes_max) {
            return self.refuse_connect(&namespace, "Auth is too large");
        }
        let (Ok(id), Ok(pid)) = (random(), random()) else {
            return self.close(DisconnectReason::ForcedServerClose, "the system gives no random bytes", ctx);
        };
        let id = SocketId::from_random(id);
        let pid = self.core.recovery.then(|| PrivateId::from_random(pid));
        let reply = connect_reply(&namespace, &id.to_string(), pid.map(|pid| pid.to_string()).as_deref());
        // The path as it came shares its whole packet's memory; this copy stays as long as the socket.
        let namespace = NamespacePath::parse(namespace.as_str().to_owned().into()).unwrap_or(namespace);
        self.state.connecting(namespace.clone(), id);
        self.registration.add(id);
        let auth = auth.map(|auth| Box::from(&*auth));
        let info = SocketInfo::new(id, namespace.clone(), self.link.clone(), self.handshake.clone(), auth);
        let socket = Socket::new(Arc::new(info), self.core.clone());
        let info = socket.info().clone();
        self.presences.push(Presence { socket, handlers });
        let (worker, slot) = (self.registration.worker.clone(), self.registration.slot);
        self.gate.submit(Instant::now(), reply.frame().len(), Waiter::Connect(id), move |from| {
            let member = worker.add_member(info, slot);
            HubCommand::Connect { from, socket: id, member, namespace, pid, reply }
        });
    }

    fn refuse_connect(&mut self, namespace: &NamespacePath, message: &str) {
        log::debug!("connect refused sid={:?} namespace={namespace} message={message:?}", self.registration.id);
        let data = format!(r#"{{"message":"{message}"}}"#);
        self.gate.push(Instant::now(), OwnPacket::Sealed(connect_error(namespace, &data).into()));
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

    /// Takes a socket out of its namespace, here and at the hub, and tells the application why. Returns whether it was.
    pub(super) fn detach(&mut self, socket: SocketId, reason: DisconnectReason) -> bool {
        let Some(at) = self.presences.iter().position(|presence| presence.socket.id() == socket) else {
            return false;
        };
        let presence = self.presences.remove(at);
        let was_connected = self.state.is_connected(socket);
        presence.socket.info().set_connected(false);
        self.state.gone(socket);
        self.inbox.forget(&socket);
        // Dropping them tells who waits that the socket is disconnected.
        drop(self.acks.forget(|call| call.socket == socket));
        self.registration.forget(socket);
        self.gate.submit_free(HubCommand::Disconnect { socket });
        if was_connected {
            self.start_disconnect_handler(&presence, reason);
        }
        true
    }
}
