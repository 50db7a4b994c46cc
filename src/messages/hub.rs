//! Messages to the hub: from workers, with one FIFO queue per worker, and from the server.

use actix::{Message, Recipient};
use tokio::sync::oneshot;

use super::answer::ReplyTo;
use super::event::{AckWanted, DirectPacket, DurableEmit, Emit};
use super::fanout::FanoutBatch;
use super::room_filter::RoomFilter;
use super::session::{Listing, SocketRef};
use crate::ids::{Lsn, MemberKey, NamespacePath, PrivateId, RoomName, SlotKey, SocketId, WorkerId};
use crate::protocol::encoded::EncodedFrame;
use crate::protocol::socketio::packet::Args;
use crate::protocol::socketio::resume::ResumeAttempt;
use crate::state::rooms::Target;

/// The commands of one turn of a worker, in order. Their number is bounded by the credit of the
/// worker's senders.
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
    /// A new socket that can be recovered with this private id.
    New(PrivateId),
    /// A socket that resumes its session. If the session can no longer be resumed, no socket is
    /// connected and the answer is `Lost`.
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
    /// Rooms that a socket keeps if it resumes its session. `None` for all.
    pub filter: Option<RoomFilter>,
    /// The CONNECT reply, which is sent before any event.
    pub reply: EncodedFrame,
}

/// A command to the hub, sent through a worker's hub sender.
pub(crate) enum HubCommand {
    /// The hub charges the command to its sender and executes it in the sender's turn.
    Ordered(OrderedCommand),
    /// The hub executes the command on arrival.
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

/// A command of a session or of the server sender. The commands of one sender are executed in
/// order.
pub(crate) enum OrderedCommand {
    /// Looks up the session that a client wants to resume, without changing the session. Answered
    /// by `ResumeChecked`.
    CheckResume { from: ReplyTo, namespace: NamespacePath, claim: ResumeAttempt },
    /// Connects a socket. Answered by `Connect`. If the socket was connected, the worker receives
    /// the `Attach` command with the CONNECT reply before this answer.
    Connect(Box<Connect>),
    /// Journals the JSON data of the application for a socket. Answered by `Done`.
    Data { from: ReplyTo, socket: SocketId, data: Option<Box<str>> },
    /// Disconnects a socket. There is no answer, but `Detach` frees the member key. The command
    /// needs no credit, because the session may be about to end.
    Disconnect {
        /// The slot of the socket's session. If the socket belongs to another session, it is not
        /// disconnected.
        slot: SlotKey,
        socket: SocketId,
        /// True if the session cannot be resumed: either side has left the namespace, or the client
        /// violated the protocol.
        forever: bool,
        /// Receives the rooms that the socket was in, after all deliveries to the socket.
        rooms: Option<oneshot::Sender<Vec<RoomName>>>,
    },
    /// Adds a socket to a room. Answered by `Join`.
    Join { from: ReplyTo, socket: SocketId, room: RoomName },
    /// Removes a socket from a room. Answered by `Leave`, even if the socket was not in the room.
    Leave { from: ReplyTo, socket: SocketId, room: RoomName },
    /// Adds a socket to a room whose durable events it receives from the queue: to the room and to
    /// its shadow room. Answered by `Join`.
    JoinDurable {
        from: ReplyTo,
        socket: SocketId,
        room: RoomName,
        /// Events up to this number do not belong to the subscription: the socket receives them
        /// as the plain member that it was.
        after: u64,
    },
    /// Undoes `JoinDurable`. Answered by `Leave`.
    LeaveDurable { from: ReplyTo, socket: SocketId, room: RoomName },
    /// Undoes `JoinDurable` for rooms other than these, which a resumed session may have kept.
    /// Answered by `Leave`.
    KeepDurable { from: ReplyTo, socket: SocketId, rooms: Vec<RoomName> },
    /// Emits an event. Answered by `Emit`, or by `Collect` for [`AckWanted::OfMany`].
    Broadcast { from: ReplyTo, emit: Box<Emit>, ack: AckWanted },
    /// Stores a durable event, and then emits it. Answered by `Publish` after the commit.
    Publish { from: ReplyTo, emit: Box<DurableEmit> },
    /// Sends a packet to the sender's own client, after the sender's earlier commands were
    /// executed. Answered by `Done`.
    Relay { from: ReplyTo, packet: DirectPacket },
    /// Lists sockets. Answered by `Fetch`, and then by one `Fetched` from each worker with matching
    /// sockets.
    Fetch { from: ReplyTo, namespace: NamespacePath, target: Target },
    /// Lists rooms. Answered by `List`.
    List { from: ReplyTo, listing: Listing },
}

/// A report of a worker. The report completes work, or belongs to a command that was already
/// charged to its sender.
pub(crate) enum ImmediateCommand {
    /// Registers a worker. This is the first command of a worker. `fanout` is the only channel from
    /// the hub to the worker.
    Register { fanout: Recipient<FanoutBatch> },
    /// Reads the journal after the position `after` for a socket. Answered by `Replay` or
    /// `FellBehind`. Each socket has at most one unanswered command of this kind.
    ReadJournal { slot: SlotKey, socket: SocketId, after: Lsn },
    /// The list of sockets on one worker, for the sender `to` on `worker`.
    Fetched { worker: WorkerId, to: ReplyTo, sockets: Vec<SocketRef> },
    /// An ack of a client, for the collector `to` on `worker`. `answer` is `None` if the client
    /// disconnected before it sent an ack.
    Acked { worker: WorkerId, to: ReplyTo, socket: SocketId, answer: Option<Args> },
    /// Bytes that, since the worker's last report, were written or began to wait for a slow client:
    /// `bytes` of events, counted for each member, and `replayed` of replays.
    Consumed { bytes: usize, replayed: usize },
}

/// A command of the server to the hub during shutdown.
pub(crate) enum HubControl {
    /// Closes every session. Clients may resume their sessions in the next process.
    Shutdown,
    /// The committer of the queue has reports for the hub. Sent when the first of them waits.
    QueueCommitted,
    /// Reveals the durable events that were committed. Then closes the journal, and completes the
    /// sender when the journal is closed.
    Close(oneshot::Sender<()>),
}

impl Message for HubControl {
    type Result = ();
}
