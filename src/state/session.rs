//! State machine of one session: heartbeat, namespaces, incomplete binary packets. The session
//! actor carries out its [`Effect`]s.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use bytestring::ByteString;

use super::heartbeat::{Beat, Heartbeat};
use super::sockets::{Phase, SocketRecord, Sockets};
use crate::ids::{AckId, NamespacePath, SocketId};
use crate::limits::Limits;
use crate::protocol::encoded::EncodedFrame;
use crate::protocol::engineio::packet::EnginePacket;
use crate::protocol::reason::DisconnectReason;
use crate::protocol::socketio::binary::PartialPacket;
use crate::protocol::socketio::packet::{Args, Packet};
use crate::protocol::socketio::rejection::Rejection;
use crate::protocol::socketio::text::{self, Decoded};
use crate::protocol::socketio::{DecodeError, Parser, msgpack};

#[derive(Debug)]
pub(crate) struct ClientEvent {
    pub name: ByteString,
    /// Ack id, if the client requests an ack.
    pub ack: Option<u64>,
    pub args: Args,
}

impl ClientEvent {
    /// Copies the event, so that a held event does not keep the read buffer in memory. Returns the
    /// memory of the copy in bytes, and the copy.
    pub(crate) fn detached(&self) -> (usize, Self) {
        let (name, args) = (ByteString::from(self.name.to_string()), self.args.detached());
        (name.len() + args.memory_len(), Self { name, ack: self.ack, args })
    }
}

/// An action for the session actor, which carries out effects in order.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Sends a control packet ahead of queued events.
    Control(EncodedFrame),
    Connect {
        namespace: NamespacePath,
        /// The `auth` payload: the raw JSON of an object.
        auth: Option<ByteString>,
    },
    RefuseConnect {
        namespace: NamespacePath,
        error: DecodeError,
    },
    /// A packet was dropped. The session continues.
    Dropped {
        detail: String,
        /// True if the packet probably crossed a DISCONNECT or CONNECT_ERROR from the server, so
        /// that the client is not at fault.
        crossed: bool,
    },
    Event {
        socket: SocketId,
        event: ClientEvent,
    },
    Ack {
        socket: SocketId,
        id: AckId,
        args: Args,
    },
    /// The client disconnected from a namespace.
    Leave(SocketId),
    /// The connection handler of this socket exceeds its time limit. Logs a warning and releases
    /// the socket's events.
    ReleaseHeld(SocketId),
    /// Ends the session. `detail` is for the log.
    Close {
        reason: DisconnectReason,
        detail: String,
    },
}

/// Binary messages that are awaited.
#[derive(Debug)]
enum Awaiting {
    /// The attachments of this packet.
    Packet(PartialPacket),
    /// This number of attachments of a dropped packet, which are dropped as well.
    Dropped(usize),
}

impl Awaiting {
    fn received_bytes(&self) -> usize {
        match self {
            Self::Packet(partial) => partial.received_bytes(),
            Self::Dropped(_) => 0,
        }
    }
}

/// State of one session. Each socket stores a `T`.
#[derive(Debug)]
pub(crate) struct SessionState<T> {
    parser: Parser,
    heartbeat: Heartbeat,
    /// Deadline for the first admitted CONNECT.
    connect_by: Option<Instant>,
    /// Awaited binary messages and their deadline. Boxed, since the value is large and rarely
    /// present.
    partial: Option<Box<(Awaiting, Instant)>>,
    pub(crate) sockets: Sockets<T>,
    limits: Arc<Limits>,
}

impl<T> SessionState<T> {
    /// Bytes of an incomplete binary packet.
    pub(crate) fn partial_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.0.received_bytes())
    }

    pub(crate) fn new(parser: Parser, limits: Arc<Limits>, now: Instant) -> Self {
        Self {
            parser,
            heartbeat: Heartbeat::new(&limits, now),
            connect_by: Some(now + limits.sessions.connect_timeout),
            partial: None,
            sockets: Sockets::default(),
            limits,
        }
    }

    pub(crate) fn on_packet(&mut self, packet: EnginePacket, now: Instant, effects: &mut Vec<Effect>) {
        match packet {
            EnginePacket::Pong(_) => return self.heartbeat.on_pong(now, &self.limits),
            EnginePacket::Message(text) => self.on_text(text, now, effects),
            EnginePacket::Binary(data) => self.on_binary(data, effects),
            EnginePacket::Close => {
                effects.push(close(DisconnectReason::TransportClose, "close packet from the client"))
            }
            // In Engine.IO v4, only the server sends pings.
            EnginePacket::Ping(_) => effects.push(close(DisconnectReason::TransportError, "ping packet from a client")),
            // These packets have no meaning when a client sends them. engine.io ignores them as
            // well.
            EnginePacket::Open(_) | EnginePacket::Upgrade | EnginePacket::Noop => {}
        }
        self.heartbeat.on_other_packet(now, &self.limits);
    }

    /// Handles data that is not a valid packet.
    pub(crate) fn on_undecodable(&mut self, detail: String, effects: &mut Vec<Effect>) {
        effects.push(Effect::Close { reason: DisconnectReason::ParseError, detail });
    }

    /// Extends the pong deadline while reading is paused.
    pub(crate) fn on_not_reading(&mut self, now: Instant) {
        self.heartbeat.on_not_reading(now, &self.limits);
    }

    pub(crate) fn on_upgrade(&mut self, now: Instant) {
        self.heartbeat.on_upgrade(now, &self.limits);
    }

    /// Marks that the session asks the hub to connect the socket. Returns false if the socket is
    /// unknown or not being admitted.
    pub(crate) fn begin_connect(&mut self, socket: SocketId) -> bool {
        let Some(record) = self.sockets.get_mut(socket).filter(|record| record.is_admitting()) else { return false };
        record.phase = Phase::Connecting;
        self.connect_by = None;
        true
    }

    /// Marks that the hub has connected the socket and that its connection handler starts.
    pub(crate) fn mark_connected(&mut self, socket: SocketId, now: Instant) {
        let release_at = now + self.limits.handlers.connection_timeout;
        if let Some(record) = self.sockets.get_mut(socket) {
            record.phase = Phase::Opening { release_at };
        }
    }

    /// Marks that the connection handler has returned or exceeded its time limit, so that events
    /// may start handlers.
    pub(crate) fn mark_open(&mut self, socket: SocketId) {
        if let Some(record) = self.sockets.get_mut(socket) {
            record.phase = Phase::Open;
        }
    }

    /// Earliest instant at which [`SessionState::on_timeout`] has an effect.
    pub(crate) fn deadline(&self) -> Instant {
        let releases = self.sockets.iter().filter_map(|record| match record.phase {
            Phase::Opening { release_at } => Some(release_at),
            Phase::Admitting | Phase::Connecting | Phase::Open => None,
        });
        let partial = self.partial.as_ref().map(|partial| partial.1);
        [self.connect_by, partial].into_iter().flatten().chain(releases).fold(self.heartbeat.deadline(), Instant::min)
    }

    pub(crate) fn on_timeout(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        match self.heartbeat.on_timeout(now, &self.limits) {
            Beat::Quiet => {}
            Beat::Ping => effects.push(Effect::Control(EncodedFrame::text("2"))),
            Beat::Dead => effects.push(close(DisconnectReason::PingTimeout, "no pong within the ping timeout")),
        }
        if self.connect_by.is_some_and(|by| by <= now) {
            // A socket that is being admitted extends the deadline. A refused socket does not.
            let admitting = self.sockets.iter().any(SocketRecord::is_admitting);
            self.connect_by = admitting.then(|| now + self.limits.sessions.connect_timeout);
            if !admitting {
                effects.push(close(DisconnectReason::TransportClose, "no CONNECT within the connect timeout"));
            }
        }
        if self.partial.as_ref().is_some_and(|partial| partial.1 <= now) {
            self.partial = None;
            effects.push(close(DisconnectReason::ParseError, "attachments of a binary packet did not arrive in time"));
        }
        for record in self.sockets.iter_mut() {
            if matches!(record.phase, Phase::Opening { release_at } if release_at <= now) {
                record.phase = Phase::Open;
                effects.push(Effect::ReleaseHeld(record.id));
            }
        }
    }

    fn on_text(&mut self, text: ByteString, now: Instant, effects: &mut Vec<Effect>) {
        if self.parser == Parser::Msgpack {
            return self.on_undecodable("text packet, but the parser of this server is msgpack".into(), effects);
        }
        if self.partial.is_some() {
            return self.on_undecodable("text packet while attachments are awaited".into(), effects);
        }
        match text::decode(&text) {
            Ok(decoded) => self.on_decoded(decoded, now, effects),
            Err(error) => {
                let rejection = Rejection::of_text(&text, &error);
                if let Rejection::Packet { attachments: count @ 1.. } = rejection {
                    self.partial =
                        Some(Box::new((Awaiting::Dropped(count), now + self.limits.transport.attachments_timeout)));
                }
                self.on_rejected(rejection, error, effects);
            }
        }
    }

    fn on_rejected(&mut self, rejection: Rejection, error: DecodeError, effects: &mut Vec<Effect>) {
        match rejection {
            Rejection::Stream => self.on_undecodable(error.to_string(), effects),
            Rejection::Packet { .. } => effects.push(Effect::Dropped { detail: error.to_string(), crossed: false }),
            Rejection::Connect { namespace } => effects.push(Effect::RefuseConnect { namespace, error }),
        }
    }

    fn on_binary(&mut self, data: Bytes, effects: &mut Vec<Effect>) {
        if self.parser == Parser::Msgpack {
            return match msgpack::decode(&data) {
                Ok(packet) => self.on_socketio(packet, effects),
                Err(error) => self.on_rejected(Rejection::of_msgpack(&data, &error), error, effects),
            };
        }
        let Some((awaiting, by)) = self.partial.take().map(|partial| *partial) else {
            return self.on_undecodable(
                "binary packet while no attachment is awaited, but the parser of this server is json".into(),
                effects,
            );
        };
        // The deadline is not extended. Otherwise a client could keep a packet incomplete for ever
        // by sending an attachment every few seconds.
        let partial = match awaiting {
            Awaiting::Packet(partial) => partial,
            Awaiting::Dropped(1) => return,
            Awaiting::Dropped(count) => {
                self.partial = Some(Box::new((Awaiting::Dropped(count - 1), by)));
                return;
            }
        };
        match partial.push(data) {
            Ok(Decoded::Partial(partial)) => self.partial = Some(Box::new((Awaiting::Packet(partial), by))),
            Ok(Decoded::Complete(packet)) => self.on_socketio(packet, effects),
            Err(error) => self.on_undecodable(error.to_string(), effects),
        }
    }

    fn on_decoded(&mut self, decoded: Decoded, now: Instant, effects: &mut Vec<Effect>) {
        match decoded {
            Decoded::Complete(packet) => self.on_socketio(packet, effects),
            Decoded::Partial(partial) => {
                self.partial =
                    Some(Box::new((Awaiting::Packet(partial), now + self.limits.transport.attachments_timeout)));
            }
        }
    }

    fn on_socketio(&mut self, packet: Packet, effects: &mut Vec<Effect>) {
        let effect = match packet {
            Packet::Connect { namespace, auth } => Effect::Connect { namespace, auth },
            Packet::Event { namespace, name, ack, args } => match self.socket_in(&namespace) {
                Some(socket) => Effect::Event { socket, event: ClientEvent { name, ack, args } },
                None => crossed("EVENT", &namespace),
            },
            Packet::Ack { namespace, id, args } => match self.socket_in(&namespace) {
                Some(socket) => Effect::Ack { socket, id: AckId::from_wire(id), args },
                None => crossed("ACK", &namespace),
            },
            Packet::Disconnect { namespace } => match self.socket_in(&namespace) {
                Some(socket) => Effect::Leave(socket),
                None => crossed("DISCONNECT", &namespace),
            },
            Packet::ConnectError { namespace, .. } => {
                Effect::Dropped { detail: format!("CONNECT_ERROR from a client for {namespace}"), crossed: false }
            }
        };
        effects.push(effect);
    }

    fn socket_in(&self, namespace: &NamespacePath) -> Option<SocketId> {
        self.sockets.in_namespace(namespace).map(|record| record.id)
    }
}

fn close(reason: DisconnectReason, detail: &str) -> Effect {
    Effect::Close { reason, detail: detail.into() }
}

/// Drops a packet for a namespace without a socket. The server may have disconnected or refused the
/// socket while the packet was on its way.
fn crossed(packet: &str, namespace: &NamespacePath) -> Effect {
    Effect::Dropped { detail: format!("{packet} for {namespace}, which is not connected"), crossed: true }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    fn socket() -> SocketId {
        SocketId::from_random([1; 15])
    }

    fn joined() -> (SessionState<()>, Instant) {
        let now = Instant::now();
        let mut state = SessionState::<()>::new(Parser::Json, Arc::default(), now);
        state.sockets.add(NamespacePath::root(), socket(), false, ());
        assert!(state.begin_connect(socket()));
        state.mark_connected(socket(), now);
        state.mark_open(socket());
        (state, now)
    }

    fn effects(state: &mut SessionState<()>, packet: EnginePacket, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        state.on_packet(packet, now, &mut effects);
        effects
    }

    fn message(text: &'static str) -> EnginePacket {
        EnginePacket::Message(ByteString::from_static(text))
    }

    fn reason(effects: &[Effect]) -> Option<DisconnectReason> {
        match effects {
            [Effect::Close { reason, .. }] => Some(*reason),
            _ => None,
        }
    }

    #[test]
    fn undecodable_packets_close_the_session() {
        for (packet, expected) in [
            (message("2[1"), DisconnectReason::ParseError),
            (message("2{}"), DisconnectReason::ParseError),
            (message(""), DisconnectReason::ParseError),
            (EnginePacket::Binary(Bytes::new()), DisconnectReason::ParseError),
            (EnginePacket::Ping("".into()), DisconnectReason::TransportError),
            (EnginePacket::Close, DisconnectReason::TransportClose),
        ] {
            let (mut state, now) = joined();
            let got = effects(&mut state, packet.clone(), now);
            assert_eq!(reason(&got), Some(expected), "{packet:?} gave {got:?}");
        }
    }

    #[test]
    fn a_packet_that_is_not_accepted_is_dropped_alone() {
        let deep = format!("2[\"e\",{}{}]", "[".repeat(200), "]".repeat(200));
        for text in ["2/nope,[\"e\"]", "3/nope,1[]", "1/nope,", "4{}", "2[\"connect\"]", "2[{}]", "2", "3[]", &deep] {
            let (mut state, now) = joined();
            let got = effects(&mut state, EnginePacket::Message(text.into()), now);
            assert!(matches!(got.as_slice(), [Effect::Dropped { .. }]), "{text}: {got:?}");
        }
    }

    #[test]
    fn attachments_of_a_dropped_packet_are_dropped() {
        let (mut state, now) = joined();
        let binary = || EnginePacket::Binary(Bytes::from_static(b"x"));
        assert!(matches!(effects(&mut state, message("512-[\"e\"]"), now)[..], [Effect::Dropped { .. }]));
        for _ in 0..12 {
            assert!(effects(&mut state, binary(), now).is_empty());
        }
        assert!(matches!(effects(&mut state, message("2[\"e\"]"), now)[..], [Effect::Event { .. }]));
        assert_eq!(reason(&effects(&mut state, binary(), now)), Some(DisconnectReason::ParseError));
    }

    #[test]
    fn a_binary_event_is_complete_with_its_last_attachment() {
        let (mut state, now) = joined();
        let header = r#"51-["up",{"_placeholder":true,"num":0}]"#;
        assert!(effects(&mut state, message(header), now).is_empty());
        let got = effects(&mut state, EnginePacket::Binary(Bytes::from_static(b"xy")), now);
        let [Effect::Event { event, .. }] = got.as_slice() else { panic!("{got:?}") };
        assert_eq!(event.args.attachments(), [Bytes::from_static(b"xy")]);
    }

    #[test]
    fn a_detached_event_does_not_keep_the_read_buffer() {
        // Regression: a held event of ten bytes kept the megabyte of its POST in memory, but
        // counted as ten bytes.
        struct Body(
            Vec<u8>,
            #[expect(dead_code, reason = "its reference count shows whether the body is alive")] Arc<()>,
        );
        impl AsRef<[u8]> for Body {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        let (mut state, now) = joined();
        let alive = Arc::new(());
        let read = |bytes: &[u8]| {
            let padded = [bytes, &[b'x'; 1_000]].concat();
            Bytes::from_owner(Body(padded, alive.clone())).slice(..bytes.len())
        };
        let text = |text: &str| EnginePacket::Message(ByteString::try_from(read(text.as_bytes())).unwrap());
        assert!(effects(&mut state, text(r#"51-["up",{"_placeholder":true,"num":0}]"#), now).is_empty());
        let mut got = effects(&mut state, EnginePacket::Binary(read(b"xy")), now);
        let Some(Effect::Event { event, .. }) = got.pop() else { panic!("{got:?}") };
        assert!(Arc::strong_count(&alive) > 1);
        let (bytes, detached) = event.detached();
        assert_eq!((&detached.name, detached.ack, &detached.args), (&event.name, event.ack, &event.args));
        assert!((30..200).contains(&bytes), "{bytes} bytes");
        drop(event);
        assert_eq!(Arc::strong_count(&alive), 1, "the detached event shares the body");
    }

    #[test]
    fn text_while_attachments_are_awaited_is_a_parse_error() {
        let (mut state, now) = joined();
        effects(&mut state, message(r#"51-["up",{"_placeholder":true,"num":0}]"#), now);
        assert_eq!(reason(&effects(&mut state, message("2[\"e\"]"), now)), Some(DisconnectReason::ParseError));
    }

    #[test]
    fn a_binary_packet_that_is_never_finished_times_out() {
        let (mut state, now) = joined();
        effects(&mut state, message(r#"52-["up",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#), now);
        let due = state.deadline();
        assert_eq!(due, now + Limits::default().transport.attachments_timeout);
        effects(&mut state, EnginePacket::Binary(Bytes::new()), now + Duration::from_secs(9));
        let mut got = Vec::new();
        state.on_timeout(due, &mut got);
        assert_eq!(reason(&got), Some(DisconnectReason::ParseError));
    }

    #[test]
    fn a_session_without_connect_is_closed() {
        let now = Instant::now();
        let mut state = SessionState::<()>::new(Parser::Json, Arc::default(), now);
        let mut got = Vec::new();
        // The pong keeps the heartbeat alive.
        state.on_timeout(now + Duration::from_secs(25), &mut got);
        state.on_packet(EnginePacket::Pong("".into()), now + Duration::from_secs(26), &mut got);
        got.clear();
        state.on_timeout(now + Duration::from_secs(45), &mut got);
        assert_eq!(reason(&got), Some(DisconnectReason::TransportClose));
    }

    #[test]
    fn an_overdue_connection_handler_releases_events() {
        let now = Instant::now();
        let mut state = SessionState::<()>::new(Parser::Json, Arc::default(), now);
        state.sockets.add(NamespacePath::root(), socket(), false, ());
        assert!(state.begin_connect(socket()));
        state.mark_connected(socket(), now);
        assert!(!state.sockets.get(socket()).unwrap().is_open());
        assert_eq!(state.deadline(), now + Limits::default().handlers.connection_timeout);
        let mut got = Vec::new();
        state.on_timeout(state.deadline(), &mut got);
        assert!(matches!(got.as_slice(), [Effect::ReleaseHeld(_)]), "{got:?}");
        assert!(state.sockets.get(socket()).unwrap().is_open());
    }
}
