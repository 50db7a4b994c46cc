//! Messages to the hub: from workers, in one FIFO each, and from the process around it.

use actix::{Message, Recipient};
use tokio::sync::oneshot;

use super::answer::ReplyTo;
use super::event::{AckWanted, DirectPacket, Emit};
use super::fanout::FanoutBatch;
use super::session::{Listing, SocketRef};
use crate::ids::{Lsn, MemberKey, NamespacePath, PrivateId, RoomName, SlotKey, SocketId, WorkerId};
use crate::protocol::encoded::EncodedFrame;
use crate::protocol::socketio::packet::Args;
use crate::protocol::socketio::resume::ResumeAttempt;
use crate::state::rooms::Target;

/// The commands of one turn of a worker, in order. Bounded by the credit of its senders.
pub(crate) struct HubBatch {
    pub worker: WorkerId,
    pub commands: Vec<HubCommand>,
}

impl Message for HubBatch {
    type Result = ();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectKind {
    /// A new socket that cannot be recovered.
    Unrecoverable,
    /// A new socket, recoverable under this id.
    New(PrivateId),
    /// A socket that resumes its session. If that is lost, nothing is connected and the answer is
    /// `Lost`.
    Resuming(ResumeAttempt),
}

#[derive(Debug)]
pub(crate) struct Connect {
    pub from: ReplyTo,
    pub socket: SocketId,
    /// Key of the socket in the worker's member table.
    pub member: MemberKey,
    pub namespace: NamespacePath,
    pub kind: ConnectKind,
    /// The CONNECT reply, which is sent before any event.
    pub reply: EncodedFrame,
}

/// A command to the hub, sent through a worker's hub sender.
pub(crate) enum HubCommand {
    /// The hub charges the command to its sender and carries it out in the sender's turn.
    Ordered(OrderedCommand),
    /// The hub carries the command out on arrival.
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

/// A command of a session or of the server sender. Commands of one sender are carried out in order.
pub(crate) enum OrderedCommand {
    /// Looks up the session that a client wants to resume; nothing changes. Answered by
    /// `ResumeChecked`.
    CheckResume { from: ReplyTo, namespace: NamespacePath, claim: ResumeAttempt },
    /// Connects a socket. Answered by `Connect`, behind the `Attach` that carries the CONNECT
    /// reply.
    Connect(Box<Connect>),
    /// Journals the application's JSON of a socket. Answered by `Done`.
    Data { from: ReplyTo, socket: SocketId, data: Option<Box<str>> },
    /// Disconnects a socket. Not answered: `Detach` frees its member key. Needs no credit, since
    /// the session may be at its end.
    Disconnect {
        /// The session of the socket; a socket of another session is not touched.
        slot: SlotKey,
        socket: SocketId,
        /// True if the session cannot be resumed: either side has left the namespace, or the client
        /// violated the protocol.
        forever: bool,
        /// Receives the rooms that the socket was in, behind everything that was delivered to it.
        rooms: Option<oneshot::Sender<Vec<RoomName>>>,
    },
    /// Puts a socket into a room. Answered by `Join`.
    Join { from: ReplyTo, socket: SocketId, room: RoomName },
    /// Takes a socket out of a room. Answered by `Leave`, also if it was not there.
    Leave { from: ReplyTo, socket: SocketId, room: RoomName },
    /// Emits an event. Answered by `Emit`, or by `Collect` for [`AckWanted::OfMany`].
    Broadcast { from: ReplyTo, emit: Box<Emit>, ack: AckWanted },
    /// Sends a packet back to the sender's own client, behind the sender's commands in flight.
    /// Answered by `Done`.
    Relay { from: ReplyTo, packet: DirectPacket },
    /// Lists sockets. Answered by `Fetch`, and then by a `Fetched` of each worker with members.
    Fetch { from: ReplyTo, namespace: NamespacePath, target: Target },
    /// Lists rooms. Answered by `List`.
    List { from: ReplyTo, listing: Listing },
}

/// A report of a worker, which ends work or belongs to a command that was charged already.
pub(crate) enum ImmediateCommand {
    /// Introduces a worker, before anything else; `fanout` is the only channel back.
    Register { fanout: Recipient<FanoutBatch> },
    /// Reads the journal behind `after` for a socket. Answered by `Replay` or `FellBehind`, and not
    /// sent again before that.
    ReadJournal { slot: SlotKey, socket: SocketId, after: Lsn },
    /// The sockets on one worker, for the sender `to` on `worker`.
    Fetched { worker: WorkerId, to: ReplyTo, sockets: Vec<SocketRef> },
    /// A client's ack for the collector `to` on `worker`; `None` if the client disconnected
    /// without an ack.
    Acked { worker: WorkerId, to: ReplyTo, socket: SocketId, answer: Option<Args> },
    /// Bytes of events (all members counted) and of replays that the worker has written since its
    /// last report.
    Consumed { bytes: usize, replayed: usize },
}

/// A command of the server to the hub during shutdown.
pub(crate) enum HubControl {
    /// Closes every session; clients may resume theirs on the next process.
    Shutdown,
    /// Closes the journal, and completes the sender when it is closed.
    Close(oneshot::Sender<()>),
}

impl Message for HubControl {
    type Result = ();
}
