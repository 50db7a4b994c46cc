//! What a worker is told by the hub: the only channel in that direction.
//!
//! The fanout applies deliveries first and passes answers on afterwards, so an answer cannot overtake an event.

use std::sync::Arc;
use std::time::Duration;

use actix::Message;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use crate::ids::{MemberKey, Offset, RoomId, RoomName, SlotKey, SocketId, WorkerId};
use crate::messages::hub::{OwnPacket, ReplyTo};
use crate::messages::request::RoomPage;
use crate::messages::socket::SocketInfo;
use crate::protocol::encoded::{Encoded, Message as Packets};
use crate::protocol::reason::DisconnectReason;
use crate::protocol::socketio::packet::Args;
use crate::state::credit::Ticket;

/// What one turn of the hub means for one worker, in the hub's order. Bounded by credit: above `worker_bytes_max`
/// unwritten bytes the hub delays answers.
pub(crate) struct FanoutBatch {
    /// In order.
    pub commands: Vec<FanoutCommand>,
}

impl Message for FanoutBatch {
    type Result = ();
}

/// One event for the members of some rooms on this worker.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    /// Members of any of these get it, once.
    pub rooms: SmallVec<[RoomId; 2]>,
    /// Members of these do not.
    pub except: SmallVec<[RoomId; 2]>,
    /// These get it by name.
    pub members: SmallVec<[MemberKey; 1]>,
    /// These do not, whatever else names them.
    pub exclude: SmallVec<[MemberKey; 1]>,
    /// The packet, shared by all.
    pub message: Packets,
    /// Its position, when it is recoverable.
    pub offset: Option<Offset>,
    /// Dropped where the drainer is not ready.
    pub volatile: bool,
    /// Bytes that the hub has booked for it with this worker.
    pub weight: usize,
    /// Set when whoever gets it is to answer.
    pub collect: Option<Collect>,
}

/// Where the acks of an event go that wants acks of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Collect {
    /// The ack id that the event bears.
    pub id: u64,
    /// The worker of the one who collects.
    pub worker: WorkerId,
    /// The one who collects, and for what.
    pub to: ReplyTo,
    /// For how long.
    pub timeout: Duration,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The socket is connected.
    Connected {
        /// Position of the connect; `None` with recovery off.
        offset: Option<Offset>,
    },
    /// The socket is in the room.
    Joined {
        /// Members now, over all workers.
        members: usize,
        /// Position of the join (the last position applied, if it was there already).
        offset: Option<Offset>,
    },
    /// The socket is not in the room.
    Left,
    /// The event is numbered, journalled and on its way.
    Emitted {
        /// Its position; `None` if it is not recoverable.
        offset: Option<Offset>,
    },
    /// The packet is in the sender's outbox.
    Passed,
    /// The question was passed on to this many workers.
    Asked {
        /// Parts to wait for.
        parts: usize,
    },
    /// Nothing was done.
    Refused(Refusal),
}

/// Why the hub did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The socket is not connected (any more).
    NotConnected,
    /// The socket is in as many rooms as it may be.
    TooManyRooms,
    /// The room is another socket's own.
    ForeignRoom,
    /// Durable events need a queue, and this server has none.
    NoQueue,
    /// Durable events need at least one room.
    DurableNeedsRoom,
    /// The queue or the journal takes no more.
    Overloaded,
}

/// One thing for a worker to do.
pub(crate) enum FanoutCommand {
    /// A socket is connected: send its CONNECT reply, and deliver to it from here on.
    Attach {
        /// Which.
        member: MemberKey,
        /// The room of everybody in its namespace.
        everybody: RoomId,
        /// The reply.
        reply: Encoded,
        /// Where its cursor starts.
        offset: Option<Offset>,
    },
    /// A socket is gone: its place may be given away.
    Detach {
        /// Which.
        member: MemberKey,
        /// Who is told the rooms it was in, and these.
        told: Option<(oneshot::Sender<Vec<RoomName>>, Vec<RoomName>)>,
    },
    /// A socket is in a room.
    Join {
        /// Which.
        member: MemberKey,
        /// Where.
        room: RoomId,
    },
    /// A socket is not in a room any more.
    Leave {
        /// Which.
        member: MemberKey,
        /// Where.
        room: RoomId,
    },
    /// An event.
    Deliver(Box<Delivery>),
    /// A packet of a session on this worker comes back, for its own client.
    Pass {
        /// Whose.
        slot: SlotKey,
        /// What.
        packet: OwnPacket,
    },
    /// A command of a session (or the desk) on this worker is answered: its credit is back.
    Answer {
        /// Whose.
        to: ReplyTo,
        /// How it ended.
        outcome: Outcome,
    },
    /// List members, and send them back through the port.
    Fetch {
        /// The worker of the one who asked.
        worker: WorkerId,
        /// The one who asked, and what.
        to: ReplyTo,
        /// Members of any of these.
        rooms: SmallVec<[RoomId; 2]>,
        /// But not of these.
        except: SmallVec<[RoomId; 2]>,
        /// And these by name.
        members: SmallVec<[MemberKey; 1]>,
        /// But not these.
        exclude: SmallVec<[MemberKey; 1]>,
    },
    /// A part of what a session (or the desk) on this worker asked for.
    Fetched {
        /// Whose.
        slot: SlotKey,
        /// Which question.
        ticket: Ticket,
        /// Members on one worker.
        sockets: Vec<Arc<SocketInfo>>,
    },
    /// The answer to `List`: its credit is back.
    Listed {
        /// Whose.
        to: ReplyTo,
        /// What was asked for.
        page: RoomPage,
    },
    /// An ack for somebody on this worker who collects them.
    Acked {
        /// Who, and for what.
        to: ReplyTo,
        /// Who answered.
        socket: SocketId,
        /// Its answer; `None` if it has gone instead.
        answer: Option<Args>,
    },
    /// End every session on this worker.
    CloseAll(DisconnectReason),
}
