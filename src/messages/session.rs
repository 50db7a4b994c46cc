//! Commands to a session, requests of the application among them, and the session's address.
//!
//! A request for sockets is answered with their addresses, so these types contain each other.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::dev::SendError;
use actix::{Message, Recipient};
use thiserror::Error;
use tokio::sync::oneshot;

use super::answer::{Answer, ClientGone, Collected, Done, EmitRefusal, Joined, NoAnswer, RequestError, RoomPage};
use super::event::{Emit, Grade};
use super::sink::{FrameSink, Handoff};
use super::socket::SocketInfo;
use crate::ids::{NamespacePath, RoomName, SocketId};
use crate::protocol::draft::Draft;
use crate::protocol::encoded::{EncodedFrame, Message as Packets};
use crate::protocol::engineio::payload::PayloadReader;
use crate::protocol::reason::DisconnectReason;
use crate::protocol::socketio::packet::Args;
use crate::state::credit::Ticket;
use crate::state::rooms::{MembershipError, Target};

/// Reason why a session refuses a request of a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum TransportRefusal {
    /// The response is 400 with code 3.
    #[error("session is on another transport")]
    WrongTransport,
    /// The response is 400, also that of the first poll; the session ends.
    #[error("a second poll while one waits")]
    SecondPoll,
    /// The response is 400 with code 1.
    #[error("session has ended")]
    Ended,
}

type HandlerChange = Box<dyn FnOnce(&mut dyn Any) + Send>;

/// A change of the handlers of one socket, whose type only `api` and `session` know.
pub(crate) struct HandlerRegistration(pub HandlerChange);

impl fmt::Debug for HandlerRegistration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandlerRegistration")
    }
}

/// The rooms that a request lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listing {
    /// All rooms of one socket.
    OfSocket(SocketId),
    /// One page of the rooms of a namespace, made from
    /// [`ROOMS_PER_PAGE`](super::answer::ROOMS_PER_PAGE) room numbers.
    InNamespace {
        namespace: NamespacePath,
        /// 0, or [`RoomPage::next`] of the page before.
        from: u32,
    },
}

/// A request of the application, sent by a handle to the current session or to the server sender.
/// Requests are bounded: each waits for its answer, or belongs to one event of the client.
#[derive(Debug)]
pub(crate) enum Request {
    /// Emits to rooms.
    Broadcast {
        emit: Emit,
        done: Done,
    },
    /// Emits to one of the session's own sockets.
    Direct {
        socket: SocketId,
        draft: Draft,
        grade: Grade,
        done: Done,
    },
    /// Emits to one of the session's own sockets and waits for its ack, for at most `timeout`.
    Call {
        socket: SocketId,
        draft: Draft,
        grade: Grade,
        timeout: Duration,
        answer: oneshot::Sender<Result<Args, RequestError<ClientGone>>>,
    },
    /// Emits to rooms and collects the acks that arrive within `timeout`.
    Collect {
        emit: Emit,
        timeout: Duration,
        answer: oneshot::Sender<Result<Collected, RequestError<EmitRefusal>>>,
    },
    /// Changes the handlers of one of the session's own sockets.
    Register {
        socket: SocketId,
        registration: HandlerRegistration,
    },
    /// Sends an ACK packet. At most one for each event that asked for an ack.
    Acknowledge {
        socket: SocketId,
        message: Packets,
    },
    Join {
        socket: SocketId,
        room: RoomName,
        done: oneshot::Sender<Result<Joined, RequestError<MembershipError>>>,
    },
    Leave {
        socket: SocketId,
        room: RoomName,
        done: oneshot::Sender<Result<(), NoAnswer>>,
    },
    /// Lists sockets, unsorted: a snapshot at one point in the hub's sequence of commands.
    Fetch {
        namespace: NamespacePath,
        target: Target,
        answer: oneshot::Sender<Result<Vec<SocketRef>, NoAnswer>>,
    },
    List {
        listing: Listing,
        answer: oneshot::Sender<Result<RoomPage, NoAnswer>>,
    },
    /// Journals the changed data of a socket. At most one in flight per socket.
    JournalData {
        socket: SocketId,
    },
    /// Disconnects a socket from its namespace, or ends the whole session.
    Disconnect {
        socket: SocketId,
        close_session: bool,
    },
}

pub(crate) enum SessionCommand {
    /// A GET that drains one batch. At most one at a time; sent by the polling transport.
    Drain { sink: Box<dyn FrameSink + Send>, reply: oneshot::Sender<Result<(), TransportRefusal>> },
    /// The packets of a POST, or why it is no payload. At most one at a time; sent by the polling
    /// transport.
    Post {
        packets: Result<PayloadReader, String>,
        /// Completed when all packets are processed and the session reads on.
        reply: oneshot::Sender<Result<(), TransportRefusal>>,
    },
    /// The next slice of a POST is due. Sent by the session to itself, behind other work of its
    /// worker.
    ResumePost,
    /// A websocket was accepted for this session. Sent by the websocket transport.
    Websocket(Box<dyn Handoff>),
    /// The client violated the protocol of its transport, or dropped a poll. Sent by transports.
    TransportFailed(String),
    /// The hub's answer to a command. Sent by the fanout; bounded by credit.
    Answered { ticket: Ticket, answer: Answer },
    /// Sockets on one worker: one part of the result of a query. Sent by the fanout, at most as
    /// often as the hub has announced parts.
    Fetched { ticket: Ticket, sockets: Vec<SocketRef> },
    /// The client resumed its session over another connection. Sent by the worker, once.
    Evicted,
    /// The drainer is lost. Sent by the worker, once.
    DrainerLost(String),
    /// The outbox was full; its packets are dropped already. Sent by the worker, once.
    OutboxFull(String),
    /// All outboxes together exceeded their budget and this one was among the largest; its packets
    /// are dropped already. Sent by the worker, once.
    OutboxCut {
        detail: String,
        /// False if a packet was dropped that was written in part: nothing can follow it on this
        /// connection.
        can_notify: bool,
    },
    /// The outbox is low enough for emits to complete. Sent by the worker, once per request.
    OutboxLow,
    /// The outbox of a closing session has been written out. Sent by the worker, once.
    ClosingDrained,
    /// A request of the application. Sent by handles.
    Request(Request),
    /// Handlers have finished while events are held. Sent by the last of them, once per turn.
    HandlersFreed,
    /// Many handlers have completed in one turn. Sent by the session to itself, behind their
    /// requests.
    Pause,
    /// A deadline may be over. Sent by the worker, which stores far deadlines.
    Wake,
    /// Connection middleware admitted or refused the socket. Sent once for each socket whose
    /// namespace has connection middleware.
    Admitted {
        /// The socket in question. A resumed socket has the id of its session, which another socket
        /// may have by now.
        socket: Arc<SocketInfo>,
        /// The CONNECT_ERROR packet, if the socket is refused.
        refusal: Option<EncodedFrame>,
    },
    /// A connection handler returned. Sent once for each socket.
    Opened { socket: Arc<SocketInfo> },
    /// An ack for an event of this session, or `None` for a receiver that disconnected. Sent by the
    /// fanout; bounded by the number of receivers.
    Acked { ticket: Ticket, socket: SocketId, answer: Option<Args> },
    /// A message was queued for this session's client while outgoing events are observed. Sent by
    /// the worker; dropped when the mailbox is full.
    Sent(Packets),
    /// A handler panicked: its socket is disconnected, nothing else.
    HandlerPanicked {
        socket: Arc<SocketInfo>,
        /// Name of the event, or of the handler.
        handler: String,
    },
    /// End the session. Sent by the fanout for the hub, and by the server.
    Close(DisconnectReason),
}

impl Message for SessionCommand {
    type Result = ();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("session has ended")]
pub(crate) struct SessionGone;

/// A session did not accept a request. The request was dropped, which notifies its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum OfferError {
    /// The mailbox is full.
    #[error("session is overloaded")]
    Full,
    #[error("session has ended")]
    Gone,
}

struct Mailbox {
    commands: Recipient<SessionCommand>,
    posting: AtomicBool,
    /// False once the session is closed for the application's handles. Its connection may still
    /// send final packets.
    open: AtomicBool,
}

/// The address of an actor that accepts session commands: a session, or the server sender. Cheap to
/// clone, usable from any thread.
#[derive(Clone)]
pub(crate) struct SessionLink(Arc<Mailbox>);

impl SessionLink {
    pub(crate) fn new(commands: Recipient<SessionCommand>) -> Self {
        Self(Arc::new(Mailbox { commands, posting: AtomicBool::new(false), open: AtomicBool::new(true) }))
    }

    /// Sends a command whose number is bounded by its own protocol. Never waits; fails only when
    /// the session has ended.
    pub(crate) fn post(&self, command: SessionCommand) -> Result<(), SessionGone> {
        match self.0.commands.try_send(command) {
            Ok(()) => Ok(()),
            Err(SendError::Closed(_)) => Err(SessionGone),
            // A fresh clone has one slot of its own past the capacity, so this succeeds unless the
            // session has ended.
            Err(SendError::Full(command)) => self.0.commands.clone().try_send(command).map_err(|_| SessionGone),
        }
    }

    /// Sends a request of which code may produce any number; refused when the mailbox is full.
    pub(crate) fn offer(&self, request: Request) -> Result<(), OfferError> {
        if !self.is_open() {
            return Err(OfferError::Gone);
        }
        self.0.commands.try_send(SessionCommand::Request(request)).map_err(|error| match error {
            SendError::Full(_) => OfferError::Full,
            SendError::Closed(_) => OfferError::Gone,
        })
    }

    /// Sends a command that the session may miss; returns whether it was queued.
    pub(crate) fn hint(&self, command: SessionCommand) -> bool {
        self.0.commands.try_send(command).is_ok()
    }

    /// Sends a request that belongs to one event of the client, or occurs once; accepted by a full
    /// mailbox.
    pub(crate) fn request(&self, request: Request) -> Result<(), SessionGone> {
        if !self.is_open() {
            return Err(SessionGone);
        }
        self.post(SessionCommand::Request(request))
    }

    /// Closes the session for the application's handles. Its connection is closed separately.
    pub(crate) fn close(&self) {
        self.0.open.store(false, Ordering::Release);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.open.load(Ordering::Acquire)
    }

    /// Claims the session's one POST. `None` while another is being read.
    pub(crate) fn begin_post(&self) -> Option<PostClaim> {
        let free = !self.0.posting.swap(true, Ordering::AcqRel);
        free.then(|| PostClaim { link: self.clone(), done: false })
    }

    /// True if both are the address of one session.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for SessionLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionLink")
    }
}

/// A reference to a socket: its information, and the address that accepts requests for it.
#[derive(Clone)]
pub(crate) struct SocketRef {
    pub info: Arc<SocketInfo>,
    pub link: SessionLink,
}

impl fmt::Debug for SocketRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("id", &self.info.id)
            .field("namespace", &self.info.namespace)
            .finish_non_exhaustive()
    }
}

/// The exclusive right to deliver a session's only POST, released on drop. A drop before
/// [`complete`](Self::complete) ends the session, since packets of the client are lost.
#[derive(Debug)]
pub(crate) struct PostClaim {
    link: SessionLink,
    done: bool,
}

impl PostClaim {
    /// The POST was read to its end, or refused.
    pub(crate) fn complete(mut self) {
        self.done = true;
    }
}

impl Drop for PostClaim {
    fn drop(&mut self) {
        self.link.0.posting.store(false, Ordering::Release);
        if !self.done {
            let _ = self.link.post(SessionCommand::TransportFailed("a POST was aborted".into()));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use actix::{Actor, AsyncContext, Context, Handler};

    struct Nobody;

    impl Actor for Nobody {
        type Context = Context<Self>;
    }

    impl Handler<SessionCommand> for Nobody {
        type Result = ();

        fn handle(&mut self, _: SessionCommand, _: &mut Context<Self>) {}
    }

    /// The address of a session that ignores every command.
    pub(crate) fn link() -> SessionLink {
        SessionLink::new(Context::<Nobody>::new().address().recipient())
    }
}
