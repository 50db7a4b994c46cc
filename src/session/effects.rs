//! Doing what the session's machine decided.

use std::time::Instant;

use actix::Context;

use super::{Call, Session};
use crate::ids::{AckOwner, NamespacePath, SocketId};
use crate::messages::hub::OrderedCommand;
use crate::messages::request::{ClientGone, RequestError, answer};
use crate::protocol::engineio::packet::EnginePacket;
use crate::protocol::reason::DisconnectReason;
use crate::state::session::Effect;

impl Session {
    /// A packet came over the session's transport.
    pub(super) fn on_packet(&mut self, packet: EnginePacket, ctx: &mut Context<Self>) {
        let metrics = self.guard.worker.metrics();
        metrics.packets_received.add(1);
        metrics.bytes_received.add(packet.data_len() as u64);
        let (mut effects, now) = (Vec::new(), Instant::now());
        self.charge_bytes(packet.data_len(), now);
        self.state.on_packet(packet, now, &mut effects);
        self.apply(effects, ctx);
    }

    pub(super) fn apply(&mut self, effects: Vec<Effect>, ctx: &mut Context<Self>) {
        for effect in effects {
            match effect {
                Effect::Control(packet) => self.guard.worker.push_control(self.guard.slot, packet),
                Effect::FreePoll => self.free_poll(),
                Effect::Candidate(packet) => self.send_to_candidate(packet),
                Effect::Promote => self.promote_candidate(),
                Effect::DropCandidate => self.drop_candidate("probe failed or timed out"),
                Effect::Connect { namespace, auth } => match self.charge_event() {
                    Ok(()) => self.connect(namespace, auth, ctx),
                    // The client sent it before it received the reply to the first CONNECT. That reply still arrives; a
                    // CONNECT_ERROR after it would make the client drop a socket that stays connected here.
                    Err(message) if self.state.socket_in(&namespace).is_some() => {
                        self.on_dropped(&format!("second CONNECT, {message}"), false);
                    }
                    Err(message) => self.refuse_fast_connect(&namespace, message),
                },
                Effect::RefuseConnect { namespace, error } => self.on_unreadable_connect(&namespace, &error),
                Effect::Dropped { detail, crossed } => self.on_dropped(&detail, crossed),
                Effect::Event { socket, event } => match self.charge_event() {
                    Ok(()) => self.on_event(socket, event),
                    Err(message) => self.refuse_fast_event(socket, &event, message),
                },
                Effect::Ack { socket, id, args } => match id.owner() {
                    Some(AckOwner::Hub) => self.guard.worker.on_ack(socket, id, args),
                    Some(AckOwner::Session) => {
                        if let Some(call) = self.acks.resolve(id, |call| call.socket == socket) {
                            answer(call.asker, Ok(args));
                        }
                    }
                    Some(AckOwner::Durable) | None => {}
                },
                Effect::Leave(socket) => {
                    // Not refused, but a client that does little else is slowed down.
                    let _ = self.charge_event();
                    self.detach(socket, DisconnectReason::ClientNamespaceDisconnect);
                }
                Effect::ReleaseHeld(socket) => log::warn!(
                    "connection handler has not returned in time, events go on sid={:?} socket={socket}",
                    self.guard.id
                ),
                Effect::Close { reason, detail } => self.close(reason, &detail, ctx),
            }
        }
    }

    fn on_dropped(&self, detail: &str, crossed: bool) {
        let sid = self.guard.id;
        if crossed {
            log::debug!("packet dropped sid={sid:?} detail=\"{detail}\"");
        } else if let Some(skipped) = self.guard.worker.log_throttles().packet_dropped.is_due(Instant::now()) {
            log::warn!("packet dropped sid={sid:?} skipped={skipped} detail=\"{detail}\"");
        }
    }

    /// These acks will not come any more.
    pub(super) fn forget_calls(&mut self, which: impl Fn(&Call) -> bool) {
        for call in self.acks.forget(which) {
            answer(call.asker, Err(RequestError::Refused(ClientGone)));
        }
    }

    /// Takes a socket out of its namespace, here and at the hub, and tells the application why. Returns whether it was.
    pub(super) fn detach(&mut self, socket: SocketId, reason: DisconnectReason) -> bool {
        self.detach_socket(socket, reason, reason.is_final())
    }

    /// Makes way for another CONNECT to the same namespace. A session that the former socket was about to resume stays resumable,
    /// unless its client has been answered: then it has been read on from where the other would begin. Returns whether it has.
    pub(super) fn detach_replaced(&mut self, namespace: &NamespacePath) -> bool {
        let Some(socket) = self.state.socket_in(namespace) else { return false };
        let is_answered = self.state.is_answered(socket);
        let is_resuming = self.find_socket(socket).is_some_and(|session_socket| session_socket.claim.is_some());
        self.detach_socket(socket, DisconnectReason::ClientNamespaceDisconnect, !is_resuming);
        is_answered
    }

    /// `forever`: nobody can resume the session of this socket.
    fn detach_socket(&mut self, socket: SocketId, reason: DisconnectReason, forever: bool) -> bool {
        let Some(at) = self.sockets.iter().position(|session_socket| session_socket.socket.id() == socket) else {
            // One that is still being looked up.
            self.state.remove_socket(socket);
            return false;
        };
        let session_socket = self.sockets.remove(at);
        self.recount_auth();
        let was_connected = self.state.is_connected(socket);
        session_socket.socket.info().set_connected(false);
        self.state.remove_socket(socket);
        self.inbox.forget(&socket);
        self.forget_calls(|call| call.socket == socket);
        self.guard.forget(socket);
        let slot = self.guard.slot;
        let rooms = was_connected.then(|| self.start_disconnecting_handlers(&session_socket, reason)).flatten();
        self.credit_window.submit_free(OrderedCommand::Disconnect { slot, socket, forever, rooms });
        true
    }
}
