//! Messages to the hub: by workers, in one FIFO each, and by the process around it.

use std::sync::Arc;
use std::time::Duration;

use actix::{Message, Recipient};
use tokio::sync::oneshot;

use super::fanout::FanoutBatch;
use super::request::Listing;
use super::socket::SocketInfo;
use crate::ids::{AckId, Lsn, MemberKey, NamespacePath, Offset, PrivateId, RoomName, SlotKey, SocketId, WorkerId};
use crate::protocol::draft::Draft;
use crate::protocol::encoded::{EncodedFrame, Message as Packets};
use crate::protocol::socketio::packet::Args;
use crate::state::credit::Ticket;
use crate::state::rooms::Target;

/// What a worker's sessions said in one turn, in order. Bounded by the sessions' credit.
pub(crate) struct HubBatch {
    pub worker: WorkerId,
    pub commands: Vec<HubCommand>,
}

impl Message for HubBatch {
    type Result = ();
}

/// Where the answer to a command goes. The worker is that of the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplyTo {
    /// The session (or the server sender).
    pub slot: SlotKey,
    /// Which of its commands.
    pub ticket: Ticket,
}

/// How much an event is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Grade {
    /// May be dropped; is neither numbered nor journalled.
    Volatile,
    /// Numbered and journalled while recovery is on.
    #[default]
    Plain,
}

/// A packet of a session for its own client.
#[derive(Debug)]
pub(crate) enum DirectPacket {
    /// Complete: an ack, a DISCONNECT, an emit that wants an ack.
    Sealed(Packets),
    /// An event that bears the newest token of the outbox at the time it goes in.
    Unnumbered {
        draft: Draft,
        /// Dropped where the drainer is not ready.
        volatile: bool,
    },
}

impl DirectPacket {
    /// Bytes that it puts on a websocket, about.
    pub(crate) fn byte_len(&self) -> usize {
        match self {
            Self::Sealed(message) => message.byte_len(),
            Self::Unnumbered { draft, .. } => draft.byte_len(),
        }
    }
}

/// An event on its way to the hub.
#[derive(Debug)]
pub(crate) struct EmitCommand {
    /// Who is answered.
    pub from: ReplyTo,
    /// For whom it is.
    pub target: Target,
    /// The packet, open for its token.
    pub draft: Draft,
    /// How much it is worth.
    pub grade: Grade,
    /// Whether its receivers are to answer.
    pub ack: AckWanted,
}

/// Whether an event wants acks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AckWanted {
    /// It does not.
    No,
    /// Of the sender's own socket.
    OfOne {
        /// The only receiver.
        socket: SocketId,
        /// The id that the socket's session drew.
        id: AckId,
    },
    /// Of everyone who gets it, for so long. The hub draws the id.
    OfMany(Duration),
}

/// A client's word that it had a session here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResumeAttempt {
    pub pid: PrivateId,
    /// The last token it saw.
    pub offset: Option<Offset>,
}

/// The kind of a connect: new, not recoverable, or resuming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectKind {
    /// As a new one, which cannot be recovered.
    Unrecoverable,
    /// As a new one, which may come back under this id.
    New(PrivateId),
    /// As the one that it was. If that is gone, nothing happens, and `Lost` is the answer.
    Resuming(ResumeAttempt),
}

/// A socket that is to be connected.
#[derive(Debug)]
pub(crate) struct Connect {
    /// Who is answered.
    pub from: ReplyTo,
    /// The new socket.
    pub socket: SocketId,
    /// Its place in the worker's member table.
    pub member: MemberKey,
    /// Where it connects.
    pub namespace: NamespacePath,
    pub kind: ConnectKind,
    /// The CONNECT reply, which goes out before any event.
    pub reply: EncodedFrame,
}

/// One thing for the hub to do. Sent through a worker's hub sender.
pub(crate) enum HubCommand {
    /// Charged to its sender, and carried out when its turn has come.
    Ordered(OrderedCommand),
    /// Carried out as soon as it comes.
    Immediate(ImmediateCommand),
}

impl From<OrderedCommand> for HubCommand {
    fn from(command: OrderedCommand) -> Self {
        Self::Ordered(command)
    }
}

impl From<ImmediateCommand> for HubCommand {
    fn from(command: ImmediateCommand) -> Self {
        Self::Immediate(command)
    }
}

/// A command of a session or of the server sender, carried out in the order in which that gave it.
pub(crate) enum OrderedCommand {
    /// Looks up the session that a client claims; nothing changes. Answered by `ResumeChecked`.
    CheckResume { from: ReplyTo, namespace: NamespacePath, claim: ResumeAttempt },
    /// Connects a socket. Answered by `Connect`, behind the `Attach` that carries the CONNECT reply.
    Connect(Box<Connect>),
    /// Keeps data with a socket, as JSON. Answered by `Done`.
    Data { from: ReplyTo, socket: SocketId, data: Option<Box<str>> },
    /// Takes out a socket. Not answered: `Detach` frees its place. Needs no credit, since it ends
    /// what held some.
    Disconnect {
        /// The session of the socket; a socket of another session is left where it is.
        slot: SlotKey,
        socket: SocketId,
        /// True if the session cannot be resumed: either side has left the namespace, or the client
        /// broke the protocol.
        forever: bool,
        /// Receives the rooms that the socket was in, behind everything that was delivered to it.
        rooms: Option<oneshot::Sender<Vec<RoomName>>>,
    },
    /// Puts a socket into a room. Answered by `Join`.
    Join { from: ReplyTo, socket: SocketId, room: RoomName },
    /// Takes a socket out of a room. Answered by `Leave`, also if it was not there.
    Leave { from: ReplyTo, socket: SocketId, room: RoomName },
    /// Emits an event. Answered by `Emit`, or by `Collect` if it wants acks of many.
    Broadcast(Box<EmitCommand>),
    /// Sends a packet back to the sender's own client, which must not overtake what the sender has
    /// under way here. Answered by `Done`.
    Relay { from: ReplyTo, packet: DirectPacket },
    /// Lists sockets. Answered by `Fetch`, and then by a `Fetched` of each worker with members.
    Fetch { from: ReplyTo, namespace: NamespacePath, target: Target },
    /// Lists rooms. Answered by `List`.
    List { from: ReplyTo, listing: Listing },
}

/// A report of a worker, which ends work or carries what others were charged for.
pub(crate) enum ImmediateCommand {
    /// Introduces a worker, before anything else; `fanout` is the only channel back.
    Register { fanout: Recipient<FanoutBatch> },
    /// Asks for the journal's events for a socket behind `after`. Answered by `Replay` or
    /// `FellBehind`, and not sent again before that.
    Read { slot: SlotKey, socket: SocketId, after: Lsn },
    /// A worker's part of the answer to `Fetch`, for the sender `to` on `worker`.
    Fetched { worker: WorkerId, to: ReplyTo, sockets: Vec<Arc<SocketInfo>> },
    /// A client's ack for the collector `to` on `worker`; no answer if the client has gone instead.
    Acked { worker: WorkerId, to: ReplyTo, socket: SocketId, answer: Option<Args> },
    /// Bytes of events (all members counted) and of replays that the worker has written out since
    /// its last report.
    Consumed { bytes: usize, replayed: usize },
}

/// A command of the process around the hub: a handful in its life.
pub(crate) enum HubControl {
    /// Close every session, now; clients may come back.
    Shutdown,
    /// Everybody has gone: end the journal in order, and say so.
    Close(oneshot::Sender<()>),
}

impl Message for HubControl {
    type Result = ();
}
