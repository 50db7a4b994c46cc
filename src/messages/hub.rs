//! Messages to the hub: by workers, in one FIFO each, and by the process around it.

use std::sync::Arc;
use std::time::Duration;

use actix::{Message, Recipient};
use tokio::sync::oneshot;

use super::fanout::FanoutBatch;
use super::request::Listing;
use super::socket::SocketInfo;
use crate::ids::{Lsn, MemberKey, NamespacePath, Offset, PrivateId, RoomName, SlotKey, SocketId, WorkerId};
use crate::protocol::draft::Draft;
use crate::protocol::encoded::{EncodedFrame, Message as Packets};
use crate::protocol::socketio::packet::Args;
use crate::state::credit::Ticket;
use crate::state::pipeline::Position;
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
    /// Revealed only after the queue has committed it.
    Durable,
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
    /// Of one socket, whose session drew this id.
    OfOne(u64),
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

/// How a socket connects: new, not recoverable, or resuming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectKind {
    /// As a new one, which cannot be recovered.
    Unrecoverable,
    /// As a new one, which may come back under this id.
    New(PrivateId),
    /// As the one that it was. When that is not there any more, nothing happens, and `ResumeLost` is the answer.
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

/// One thing for the hub to do. Sent by sessions, the server sender and fanouts through their worker's hub sender.
pub(crate) enum HubCommand {
    /// A worker introduces itself, before anything else.
    Register {
        /// The only channel back.
        fanout: Recipient<FanoutBatch>,
    },
    /// A client says that it comes back: is there what it claims? Answered at once by `Claimed`; nothing changes.
    CheckResume {
        /// Who is answered.
        from: ReplyTo,
        /// Where it connects.
        namespace: NamespacePath,
        /// What it claims.
        claim: ResumeAttempt,
    },
    /// A session connects a socket. Answered by `Connected`, behind the `Attach` that carries the CONNECT reply, or by
    /// `ResumeLost`.
    Connect(Box<Connect>),
    /// What the application keeps with a socket has changed. Answered by `Relayed`.
    Data {
        /// Who is answered.
        from: ReplyTo,
        socket: SocketId,
        /// JSON; none if there is nothing any more.
        data: Option<Box<str>>,
    },
    /// What is there for a socket behind a position? Answered by `Replay`, or by `FellBehind`. Needs no credit: a socket asks
    /// again only when it has been answered.
    Read {
        /// The socket's session.
        slot: SlotKey,
        /// Who wants to know.
        socket: SocketId,
        /// Everything up to here is in its outbox, or has left it.
        after: Lsn,
    },
    /// A socket is gone. Not answered: `Detach` frees its place. Needs no credit, since it ends what held some.
    Disconnect {
        /// The session it was of; of another one it is not taken away.
        slot: SlotKey,
        socket: SocketId,
        /// Set when it cannot come back: either side has disconnected it from its namespace, or its client broke the protocol.
        forever: bool,
        /// Who wants to know which rooms it was in. Answered behind everything that was delivered to it.
        rooms: Option<oneshot::Sender<Vec<RoomName>>>,
    },
    /// A socket joins a room. Answered by `Joined`.
    Join {
        /// Who is answered.
        from: ReplyTo,
        socket: SocketId,
        room: RoomName,
    },
    /// A socket leaves a room. Answered by `Left`, also if it was not there.
    Leave {
        /// Who is answered.
        from: ReplyTo,
        socket: SocketId,
        room: RoomName,
    },
    /// An event. Answered by `Emitted`.
    Broadcast(Box<EmitCommand>),
    /// A packet for the sender's own client that must not overtake what the sender has under way here: it comes straight
    /// back, in order. Answered by `Relayed`.
    Relay { from: ReplyTo, packet: DirectPacket },
    /// Who is there? Answered at once by `Asked`, and then by as many `Fetched` parts as there are workers with members.
    Fetch {
        /// Who is answered.
        from: ReplyTo,
        namespace: NamespacePath,
        target: Target,
    },
    /// A fanout's part of an answer to `Fetch`, to be passed on.
    Fetched {
        /// The worker of the one who asked.
        worker: WorkerId,
        /// The one who asked, and what.
        to: ReplyTo,
        /// Members on this worker.
        sockets: Vec<Arc<SocketInfo>>,
    },
    /// Which rooms are there? Answered by `Listed`.
    List {
        /// Who is answered.
        from: ReplyTo,
        /// Which of them.
        listing: Listing,
    },
    /// A client's ack of an event that wanted acks of many, on its way to who collects them. Not answered.
    Acked {
        /// The worker of the one who collects.
        worker: WorkerId,
        /// The one who collects, and for what.
        to: ReplyTo,
        socket: SocketId,
        /// Its answer; `None` if it has gone instead.
        answer: Option<Args>,
    },
    /// This worker has written out so many bytes since it last said so.
    Consumed {
        /// Of events, all members counted.
        bytes: usize,
        replayed: usize,
    },
}

/// What the process around the hub tells it. Sent by the committer and by the server; a handful at a time.
pub(crate) enum HubControl {
    /// The entry at this position of the pipeline is safe on disk.
    #[cfg_attr(not(test), expect(dead_code, reason = "said by the committer, which comes with the durable queue"))]
    Committed(Position),
    /// Close every session, now; clients may come back.
    Shutdown,
    /// Everybody has gone: end the journal in order, and say so.
    Close(oneshot::Sender<()>),
}

impl Message for HubControl {
    type Result = ();
}
