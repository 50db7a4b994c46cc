//! The execution of the effects that the session state returns.

use std::time::Instant;

use actix::Context;

use super::Session;
use crate::ids::AckOwner;
use crate::messages::answer::answer;
use crate::protocol::engineio::packet::EnginePacket;
use crate::protocol::reason::DisconnectReason;
use crate::state::session::Effect;

impl Session {
    pub(super) fn on_packet(&mut self, packet: EnginePacket, ctx: &mut Context<Self>) {
        let metrics = self.outbox.worker.metrics();
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
                Effect::Control(packet) => self.outbox.push_control(packet),
                Effect::Connect { namespace, auth } => match self.charge_event() {
                    Ok(()) => self.on_connect(namespace, auth, ctx),
                    // The client sent this second CONNECT before it received the reply to the
                    // first. The second is dropped without an answer, since a CONNECT_ERROR after
                    // that reply would make the client drop a connected socket.
                    Err(message) if self.state.sockets.in_namespace(&namespace).is_some() => {
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
                    Some(AckOwner::Hub) => self.outbox.worker.on_ack(socket, id, args),
                    Some(AckOwner::Session) => {
                        if let Some(call) = self.acks.resolve(id, |call| call.socket == socket) {
                            answer(call.asker, Ok(args));
                        }
                    }
                    Some(AckOwner::Durable) => self.on_event_answered(socket, id.number(), &args),
                    None => {}
                },
                Effect::Leave(socket) => {
                    // A DISCONNECT is never refused, but counts towards the rate of the client.
                    let _ = self.charge_event();
                    self.detach(socket, DisconnectReason::ClientNamespaceDisconnect);
                }
                Effect::ReleaseHeld(socket) => log::warn!(
                    "connection handler has not returned in time, events are released sid={:?} socket={socket}",
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
        } else if let Some(skipped) = self.outbox.worker.log_throttles().packet_dropped.is_due(Instant::now()) {
            log::warn!("packet dropped sid={sid:?} skipped={skipped} detail=\"{detail}\"");
        }
    }
}
