//! Messages from the hub to a worker: the only channel in that direction.
//!
//! The fanout processes deliveries first and forwards answers afterwards, so an answer cannot
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

/// The commands of one turn of the hub for one worker, in the hub's order. The number of batches is
/// bounded, because events wait in the hub while more than `worker_bytes_max` bytes are unwritten.
pub(crate) struct FanoutBatch {
    pub commands: Vec<FanoutCommand>,
}

impl Message for FanoutBatch {
    type Result = ();
}

/// One event for its recipients on this worker. Each member receives the event at most once.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    /// Rooms whose members receive the event.
    pub rooms: SmallVec<[RoomId; 2]>,
    /// Rooms whose members do not receive the event.
    pub except: SmallVec<[RoomId; 2]>,
    /// Members that are addressed by their socket ids, in addition to the members of `rooms`.
    pub members: SmallVec<[MemberKey; 1]>,
    /// Members that do not receive the event even if they are addressed.
    pub exclude: SmallVec<[MemberKey; 1]>,
    pub message: Packets,
    /// Position of the event in the journal. `None` if the event is not recoverable.
    pub offset: Option<Offset>,
    /// True if the event is dropped for members whose drainers are not ready.
    pub volatile: bool,
    /// Bytes that the hub has charged to this worker for the delivery.
    pub fanout_bytes: usize,
    /// The collector of acks, if the event requests acks from all recipients.
    pub collect: Option<Collect>,
}

/// Requests a list of sockets on this worker. The last four fields select the sockets like the
/// fields of [`Delivery`] with the same names.
#[derive(Debug)]
pub(crate) struct FetchSockets {
    /// The worker of the sender that requested the list.
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
    /// The hub, which sends events as they are emitted.
    Live {
        /// True if events that do not fit into the outbox can be read from the journal later. If
        /// false, a full outbox ends the session.
        recoverable: bool,
    },
    /// The hub, which sends events as they are emitted. Offset tokens are removed, because the
    /// client declined recovery.
    WithoutToken,
    /// The journal after this position, until the socket has caught up.
    CatchingUp(Lsn),
}

/// A chunk of the events that a socket has missed, read from the journal.
#[derive(Debug)]
pub(crate) struct Replay {
    pub member: MemberKey,
    pub events: Vec<(Offset, Packets)>,
    /// The last position of the journal that was searched for these events.
    pub upto: Lsn,
    /// True for the last chunk. Later events are sent as they are emitted.
    pub is_all: bool,
    /// Bytes that the hub has charged to this worker for the chunk.
    pub fanout_bytes: usize,
}

pub(crate) enum FanoutCommand {
    /// Connects a socket. The socket receives the CONNECT reply and all later deliveries.
    Attach {
        member: MemberKey,
        /// The room that contains all sockets of the namespace.
        namespace_room: RoomId,
        reply: EncodedFrame,
        /// Position of the connect in the journal, for the first offset token.
        offset: Option<Offset>,
        mode: DeliveryMode,
    },
    /// Answers a read of the journal. Sent after every live event that precedes the last position
    /// of the replay.
    Replay(Box<Replay>),
    /// The journal has dropped the next events for a socket. Ends the whole session of the socket.
    FellBehind {
        member: MemberKey,
    },
    /// A socket was resumed over another connection. Ends the whole session of the old connection.
    Evict {
        member: MemberKey,
    },
    /// The socket is disconnected. The member key may be reused.
    Detach {
        member: MemberKey,
        /// If set, the fanout sends the rooms that the socket was in (the second element) through
        /// the channel (the first element).
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
    /// A packet of a session on this worker for its own client. The packet was sent through the
    /// hub, so that it keeps its order relative to events.
    Relay {
        slot: SlotKey,
        packet: DirectPacket,
    },
    /// The answer to a command of a sender on this worker. The answer also returns the credit of
    /// the command.
    Answer {
        to: ReplyTo,
        answer: Answer,
    },
    /// Lists members. The list is returned to the hub through the hub sender.
    Fetch(Box<FetchSockets>),
    /// The list of sockets on one worker, for a sender on this worker.
    Fetched {
        slot: SlotKey,
        ticket: Ticket,
        sockets: Vec<SocketRef>,
    },
    /// An ack for a collector on this worker.
    Acked {
        to: ReplyTo,
        socket: SocketId,
        /// `None` if the socket disconnected before it sent an ack.
        answer: Option<Args>,
    },
    /// Ends every session on this worker.
    CloseAll(DisconnectReason),
}
