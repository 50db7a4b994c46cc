//! Messages from the hub to a worker: the only channel in that direction.
//!
//! The fanout applies deliveries first and passes answers on afterwards, so an answer cannot overtake an event.

use std::sync::Arc;
use std::time::Duration;

use actix::Message;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use crate::ids::{AckId, Lsn, MemberKey, Offset, RoomId, RoomName, SlotKey, SocketId, WorkerId};
use crate::messages::hub::{DirectPacket, ReplyTo};
use crate::messages::request::{EmitRefusal, Joined, Receipt, RoomPage};
use crate::messages::socket::SocketInfo;
use crate::protocol::encoded::{EncodedFrame, Message as Packets};
use crate::protocol::reason::{DisconnectReason, NotRecovered};
use crate::protocol::socketio::packet::Args;
use crate::state::credit::Ticket;
use crate::state::rooms::MembershipError;

/// What one turn of the hub means for one worker, in the hub's order. Bounded by credit: above `worker_bytes_max`
/// unwritten bytes events wait in the hub.
pub(crate) struct FanoutBatch {
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
    pub fanout_bytes: usize,
    /// Set when the recipients are to answer.
    pub collect: Option<Collect>,
}

/// A list of members on this worker, which a session (or the server sender) asked for.
#[derive(Debug)]
pub(crate) struct FetchSockets {
    /// The worker of the sender that asked.
    pub worker: WorkerId,
    /// Where the list goes.
    pub to: ReplyTo,
    /// Members of any of these.
    pub rooms: SmallVec<[RoomId; 2]>,
    /// But not of these.
    pub except: SmallVec<[RoomId; 2]>,
    /// And these by name.
    pub members: SmallVec<[MemberKey; 1]>,
    /// But not these.
    pub exclude: SmallVec<[MemberKey; 1]>,
}

/// Where the acks of an event go that wants acks of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Collect {
    /// The ack id that the event bears.
    pub id: AckId,
    /// The worker of the one who collects.
    pub worker: WorkerId,
    /// The one who collects, and for what.
    pub to: ReplyTo,
    /// For how long.
    pub timeout: Duration,
}

/// The answer to a command: a variant for each kind of reply that waits for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The session that a client may resume, as things stand.
    ResumeChecked(Result<ResumedSession, NotRecovered>),
    /// The result of a connect.
    Connect(ConnectAnswer),
    /// The result of a join.
    Join(Result<Joined, MembershipError>),
    /// The socket is not in the room.
    Leave,
    /// The event is numbered, journalled and on its way; or nothing was done.
    Emit(Result<Receipt, EmitRefusal>),
    /// The same for an event that wants acks of many, with the number of workers that have receivers.
    Collect(Result<usize, EmitRefusal>),
    /// The number of workers that list their members.
    Fetch(usize),
    /// The rooms that were asked for.
    List(RoomPage),
    /// A packet is in its sender's outbox, or a socket's data is journalled.
    Done,
}

/// The result of a connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectAnswer {
    /// The socket is connected.
    Connected {
        /// Whether it is the socket that it was before its connection was lost: nothing that was for it is missing.
        recovered: bool,
    },
    /// The session to resume is lost since it was looked up. The socket is not connected.
    Lost,
}

/// From where the events of a socket come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryMode {
    /// From the hub, as they are emitted.
    Live {
        /// What finds no room in the outbox can be read from the journal later; else it ends the session.
        recoverable: bool,
    },
    /// As they are emitted, without tokens: its client declined recovery.
    WithoutToken,
    /// From the journal, behind this position, until it has caught up.
    CatchingUp(Lsn),
}

/// A session that a client may go on with, as things stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResumedSession {
    /// The id of its socket.
    pub socket: SocketId,
    /// What the application kept with it.
    pub data: Option<Box<str>>,
}

/// Some of what a socket has missed.
#[derive(Debug)]
pub(crate) struct Replay {
    pub member: MemberKey,
    pub events: Vec<(Offset, Packets)>,
    /// As far as was looked.
    pub upto: Lsn,
    /// That was all: from here on it gets what is emitted.
    pub is_all: bool,
    /// Bytes that the hub has booked for it with this worker.
    pub fanout_bytes: usize,
}

/// One thing for a worker to do.
pub(crate) enum FanoutCommand {
    /// A socket is connected: send its CONNECT reply, and deliver to it from here on.
    Attach {
        member: MemberKey,
        /// The room of everybody in its namespace.
        everybody: RoomId,
        reply: EncodedFrame,
        /// Where its cursor starts.
        offset: Option<Offset>,
        /// From where its events come.
        mode: DeliveryMode,
    },
    /// What a socket asked the journal for. Behind every live event that it must not see twice.
    Replay(Box<Replay>),
    /// What a socket has to read next is gone from the journal: end its session, its client will be told.
    FellBehind {
        member: MemberKey,
    },
    /// The client of a socket came back over another connection: end this one.
    Evict {
        member: MemberKey,
    },
    /// A socket is gone: its place may be given away.
    Detach {
        member: MemberKey,
        /// Receives the rooms it was in, and these.
        told: Option<(oneshot::Sender<Vec<RoomName>>, Vec<RoomName>)>,
    },
    /// A socket is in a room.
    Join {
        member: MemberKey,
        room: RoomId,
    },
    /// A socket is not in a room any more.
    Leave {
        member: MemberKey,
        room: RoomId,
    },
    Deliver(Box<Delivery>),
    /// A packet of a session on this worker comes back, for its own client.
    Relay {
        slot: SlotKey,
        packet: DirectPacket,
    },
    /// A command of a session (or the server sender) on this worker is answered: its credit is back.
    Answer {
        to: ReplyTo,
        /// How it ended.
        answer: Answer,
    },
    /// List members, and send them back through the hub sender.
    Fetch(Box<FetchSockets>),
    /// A part of what a session (or the server sender) on this worker asked for.
    Fetched {
        slot: SlotKey,
        ticket: Ticket,
        /// Members on one worker.
        sockets: Vec<Arc<SocketInfo>>,
    },
    /// An ack for someone on this worker who collects them.
    Acked {
        /// Who, and for what.
        to: ReplyTo,
        socket: SocketId,
        /// Its answer; `None` if it has gone instead.
        answer: Option<Args>,
    },
    /// End every session on this worker.
    CloseAll(DisconnectReason),
}
