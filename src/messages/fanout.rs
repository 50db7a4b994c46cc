//! Messages from the hub to a worker: the only channel in that direction.
//!
//! The fanout applies deliveries first and passes answers on afterwards, so an answer cannot
//! overtake an event.

use std::time::Duration;

use actix::Message;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::answer::{Answer, ReplyTo};
use super::event::DirectPacket;
use super::session::SocketRef;
use crate::ids::{AckId, Lsn, MemberKey, Offset, RoomId, RoomName, SlotKey, SocketId, WorkerId};
use crate::protocol::encoded::{EncodedFrame, Message as Packets};
use crate::protocol::reason::DisconnectReason;
use crate::protocol::socketio::packet::Args;
use crate::state::credit::Ticket;

/// The commands of one turn of the hub for one worker, in the hub's order. Bounded by credit: above
/// `worker_bytes_max` unwritten bytes, events wait in the hub.
pub(crate) struct FanoutBatch {
    pub commands: Vec<FanoutCommand>,
}

impl Message for FanoutBatch {
    type Result = ();
}

/// One event for its recipients on this worker. Each member receives it at most once.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    /// Rooms whose members receive the event.
    pub rooms: SmallVec<[RoomId; 2]>,
    /// Rooms whose members do not receive it.
    pub except: SmallVec<[RoomId; 2]>,
    /// Members that are addressed by their socket id, whatever rooms are in `rooms`.
    pub members: SmallVec<[MemberKey; 1]>,
    /// Members that never receive it.
    pub exclude: SmallVec<[MemberKey; 1]>,
    pub message: Packets,
    /// Position of a recoverable event.
    pub offset: Option<Offset>,
    /// True if the event is dropped where the drainer is not ready.
    pub volatile: bool,
    /// Bytes that the hub has charged to this worker for the delivery.
    pub fanout_bytes: usize,
    /// The collector, if the event asks for acks of all recipients.
    pub collect: Option<Collect>,
}

/// A request for the sockets on this worker, selected as those of a [`Delivery`] are.
#[derive(Debug)]
pub(crate) struct FetchSockets {
    /// The worker of the sender that asked.
    pub worker: WorkerId,
    pub to: ReplyTo,
    pub rooms: SmallVec<[RoomId; 2]>,
    pub except: SmallVec<[RoomId; 2]>,
    pub members: SmallVec<[MemberKey; 1]>,
    pub exclude: SmallVec<[MemberKey; 1]>,
}

/// The collector of the acks of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Collect {
    /// The ack id in the packet.
    pub id: AckId,
    /// The worker of the collector.
    pub worker: WorkerId,
    pub to: ReplyTo,
    pub timeout: Duration,
}

/// The source of a socket's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryMode {
    /// The hub, as events are emitted.
    Live {
        /// True if events beyond the outbox can be read from the journal later; otherwise a full
        /// outbox ends the session.
        recoverable: bool,
    },
    /// The hub; tokens are removed, since the client declined recovery.
    WithoutToken,
    /// The journal, behind this position, until the socket has caught up.
    CatchingUp(Lsn),
}

/// A chunk of the events that a socket has missed.
#[derive(Debug)]
pub(crate) struct Replay {
    pub member: MemberKey,
    pub events: Vec<(Offset, Packets)>,
    /// The last position that was searched.
    pub upto: Lsn,
    /// True for the last chunk: the next events arrive live.
    pub is_all: bool,
    /// Bytes that the hub has charged to this worker for the chunk.
    pub fanout_bytes: usize,
}

pub(crate) enum FanoutCommand {
    /// Connects a socket: its CONNECT reply is sent, and deliveries to it begin.
    Attach {
        member: MemberKey,
        /// The room of all sockets of its namespace.
        namespace_room: RoomId,
        reply: EncodedFrame,
        /// Position of the connect, for the first offset token.
        offset: Option<Offset>,
        mode: DeliveryMode,
    },
    /// Answers a read of the journal. Sent behind every live event that precedes its position.
    Replay(Box<Replay>),
    /// The next events of a socket are gone from the journal. Ends the whole session.
    FellBehind {
        member: MemberKey,
    },
    /// A socket was resumed over another connection. Ends the whole session of this connection.
    Evict {
        member: MemberKey,
    },
    /// The socket is disconnected: its member key is free for reuse.
    Detach {
        member: MemberKey,
        /// Receives the rooms that the socket was in, which are given here.
        rooms_reply: Option<(oneshot::Sender<Vec<RoomName>>, Vec<RoomName>)>,
    },
    Join {
        member: MemberKey,
        room: RoomId,
    },
    Leave {
        member: MemberKey,
        room: RoomId,
    },
    Deliver(Box<Delivery>),
    /// A packet of a session on this worker that passed through the hub to keep its order.
    Relay {
        slot: SlotKey,
        packet: DirectPacket,
    },
    /// The answer to a command of a sender on this worker. It returns the command's credit.
    Answer {
        to: ReplyTo,
        answer: Answer,
    },
    /// Lists members; the list is sent back through the hub sender.
    Fetch(Box<FetchSockets>),
    /// The sockets on one worker, for a sender on this worker.
    Fetched {
        slot: SlotKey,
        ticket: Ticket,
        sockets: Vec<SocketRef>,
    },
    /// An ack for a collector on this worker.
    Acked {
        to: ReplyTo,
        socket: SocketId,
        /// `None` if the socket disconnected without an ack.
        answer: Option<Args>,
    },
    /// Ends every session on this worker.
    CloseAll(DisconnectReason),
}
