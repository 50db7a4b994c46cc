//! Commands to a session, including requests of the application, and the address of a session.
//!
//! A request for sockets is answered with the addresses of their sessions, so the types of requests
//! and addresses contain each other.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::dev::SendError;
use actix::{Message, Recipient};
use thiserror::Error;
use tokio::sync::oneshot;

use super::answer::{
    Answer, ClientGone, Collected, Done, EmitRefusal, Joined, NoAnswer, PublishRefusal, RequestError, RoomListPage,
    Stored,
};
use super::attachment::{AttachmentId, AttachmentUpdate, SubscriberReply};
use super::event::{DurableEmit, Emit, Grade};
use super::sink::{FrameSink, Handoff};
use super::socket::SocketInfo;
use crate::ids::{NamespacePath, RoomName, SocketId};
use crate::protocol::draft::Draft;
use crate::protocol::encoded::{EncodedFrame, Message as Packets};
use crate::protocol::engineio::payload::PayloadReader;
use crate::protocol::reason::DisconnectReason;
use crate::protocol::socketio::packet::Args;
use crate::queue::record::SubscriberKey;
use crate::state::credit::Ticket;
use crate::state::rooms::{MembershipError, Target};

/// Reason why a session refuses a request of a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum TransportRefusal {
    /// The response has status 400 and code 3.
    #[error("session is on another transport")]
    WrongTransport,
    /// Both polls are answered with status 400, and the session ends.
    #[error("a second poll while one waits")]
    SecondPoll,
    /// The response has status 400 and code 1.
    #[error("session has ended")]
    Ended,
}

type HandlerChange = Box<dyn FnOnce(&mut dyn Any) + Send>;

/// A change of the handlers of one socket. Only `api` and `session` know the type of these
/// handlers.
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
    /// One page of the rooms of a namespace. A page covers
    /// [`ROOMS_PER_PAGE`](super::answer::ROOMS_PER_PAGE) room numbers.
    InNamespace {
        namespace: NamespacePath,
        /// First room number of the page: 0, or [`RoomListPage::next`] of the previous page.
        from: u32,
    },
}

/// A request of the application, sent by a handle to the current session or to the server sender.
/// The number of requests is bounded: the caller of each request waits for the answer, or the
/// request belongs to one event of the client.
#[derive(Debug)]
pub(crate) enum Request {
    /// Emits to rooms.
    Broadcast {
        emit: Emit,
        done: Done,
    },
    /// Publishes a durable event.
    Publish {
        emit: Box<DurableEmit>,
        done: oneshot::Sender<Result<Stored, RequestError<PublishRefusal>>>,
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
    /// Sends an ACK packet, at most one for each event that requested an ack.
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
    /// Lists sockets in no particular order. The list is a snapshot at one point in the hub's
    /// sequence of commands.
    Fetch {
        namespace: NamespacePath,
        target: Target,
        answer: oneshot::Sender<Result<Vec<SocketRef>, NoAnswer>>,
    },
    List {
        listing: Listing,
        answer: oneshot::Sender<Result<RoomListPage, NoAnswer>>,
    },
    /// Attaches one of the session's own sockets to a subscriber of the queue.
    SubscribeAs {
        socket: SocketId,
        key: SubscriberKey,
        done: SubscriberReply<()>,
    },
    /// Journals the changed data of a socket. At most one such request per socket is pending.
    JournalData {
        socket: SocketId,
    },
    /// Disconnects a socket from its namespace, or ends the whole session.
    Disconnect {
        socket: SocketId,
        close_session: bool,
    },
    /// Closes the connection of the session, which the client may resume.
    CloseTransport {
        socket: SocketId,
    },
}

/// Refusal of a socket by connection middleware.
pub(crate) enum ConnectRefusal {
    /// The client receives this CONNECT_ERROR.
    Packet(EncodedFrame),
    /// The connection of the client is closed, so that the client reconnects.
    Temporary { message: String },
}

pub(crate) enum SessionCommand {
    /// A GET that drains one batch. Sent by the polling transport, at most one at a time.
    Drain { sink: Box<dyn FrameSink + Send>, reply: oneshot::Sender<Result<(), TransportRefusal>> },
    /// The packets of a POST, or the reason why its body is not a payload. Sent by the polling
    /// transport, at most one at a time.
    Post {
        packets: Result<PayloadReader, String>,
        /// Completed when all packets are processed and the session accepts further input.
        reply: oneshot::Sender<Result<(), TransportRefusal>>,
    },
    /// The session should process the next packets of a POST. Sent by the session to itself, so
    /// that other work of the worker is done first.
    ResumePost,
    /// A websocket was accepted for this session. Sent by the websocket transport.
    Websocket(Box<dyn Handoff>),
    /// The client violated the protocol of its transport, or aborted a pending poll. Sent by
    /// transports.
    TransportFailed(String),
    /// The hub's answer to a command. Sent by the fanout. The number of answers is bounded by
    /// credit.
    Answered { ticket: Ticket, answer: Answer },
    /// The sockets on one worker, which are one part of the result of a query. Sent by the fanout,
    /// once for each part that the hub has announced.
    Fetched { ticket: Ticket, sockets: Vec<SocketRef> },
    /// The client resumed its session over another connection. Sent by the worker, once.
    Evicted,
    /// The drainer has lost its connection. Sent by the worker, once.
    DrainerLost(String),
    /// The outbox was full, and its packets have been dropped. Sent by the worker, once.
    OutboxFull(String),
    /// All outboxes together exceeded their budget, and the outbox of this session was among the
    /// largest. Its packets have been dropped. Sent by the worker, once.
    OutboxCut {
        detail: String,
        /// False if a dropped packet was partially written. In this case, no other packet can
        /// follow on this connection.
        can_notify: bool,
    },
    /// The outbox has been written far enough for waiting emits to complete. Sent by the worker,
    /// once for each time that the session asks to be notified.
    OutboxLow,
    /// The outbox of a closing session has been written completely. Sent by the worker, once.
    ClosingDrained,
    /// A request of the application. Sent by handles.
    Request(Request),
    /// A handler has finished while events are held. Sent by the handler, at most once per turn of
    /// the session.
    HandlersFreed,
    /// Many handlers have finished without waiting. Sent by the session to itself, so that the
    /// requests of these handlers are processed before more handlers run.
    Pause,
    /// A deadline may have passed. Sent by the worker, which stores deadlines that are far in the
    /// future.
    Wake,
    /// Connection middleware admitted or refused the socket. Sent once for each socket whose
    /// namespace has connection middleware.
    Admitted {
        /// The socket that was admitted or refused. Its id is not sufficient: a resumed socket has
        /// the id of the resumed session, which another socket may have by now.
        socket: Arc<SocketInfo>,
        refusal: Option<ConnectRefusal>,
    },
    /// A connection handler returned. Sent once for each socket.
    Opened { socket: Arc<SocketInfo> },
    /// An ack for an event of this session. `answer` is `None` if the receiver disconnected. Sent
    /// by the fanout, at most once for each receiver.
    Acked { ticket: Ticket, socket: SocketId, answer: Option<Args> },
    /// A message was queued for the client of this session while listeners observe outgoing events.
    /// Sent by the worker. Dropped if the mailbox is full.
    Sent(Packets),
    /// An update of a socket's attachment to a subscriber. Sent by the subscribers' actor. The
    /// number of updates is bounded by the events in flight and by requests.
    Attachment { socket: SocketId, id: AttachmentId, update: AttachmentUpdate },
    /// A handler panicked. Only the socket of the handler is disconnected.
    HandlerPanicked {
        socket: Arc<SocketInfo>,
        /// Name of the event that was handled, or name of the handler.
        handler: String,
    },
    /// Ends the session. Sent by the fanout on behalf of the hub, and by the server.
    Close(DisconnectReason),
}

impl Message for SessionCommand {
    type Result = ();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("session has ended")]
pub(crate) struct SessionGone;

/// Reason why a session did not accept a request. The request was dropped, which notifies its
/// caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum OfferError {
    #[error("session is overloaded")]
    Full,
    #[error("session has ended")]
    Gone,
}

struct Mailbox {
    commands: Recipient<SessionCommand>,
    posting: AtomicBool,
    /// False once the session is closed for the application's handles. The connection may still
    /// send final packets.
    open: AtomicBool,
}

/// The address of an actor that accepts session commands: a session or the server sender. A clone
/// is cheap and can be used on any thread.
#[derive(Clone)]
pub(crate) struct SessionLink(Arc<Mailbox>);

impl SessionLink {
    pub(crate) fn new(commands: Recipient<SessionCommand>) -> Self {
        Self(Arc::new(Mailbox { commands, posting: AtomicBool::new(false), open: AtomicBool::new(true) }))
    }

    /// Sends a command of a type whose number is bounded by its protocol. Never waits. Fails only
    /// if the session has ended.
    pub(crate) fn post(&self, command: SessionCommand) -> Result<(), SessionGone> {
        match self.0.commands.try_send(command) {
            Ok(()) => Ok(()),
            Err(SendError::Closed(_)) => Err(SessionGone),
            // A new clone of the recipient may send one message beyond the capacity of the mailbox,
            // so this call fails only if the session has ended.
            Err(SendError::Full(command)) => self.0.commands.clone().try_send(command).map_err(|_| SessionGone),
        }
    }

    /// Sends a request of a type that the application may send in any number. The request is
    /// refused if the mailbox is full.
    pub(crate) fn offer(&self, request: Request) -> Result<(), OfferError> {
        self.offer_or_return(request).map_err(|refused| match refused {
            Some(_) => OfferError::Full,
            None => OfferError::Gone,
        })
    }

    /// Like [`offer`](Self::offer), but returns a request for which the mailbox is full.
    pub(crate) fn offer_or_return(&self, request: Request) -> Result<(), Option<Box<Request>>> {
        if !self.is_open() {
            return Err(None);
        }
        self.0.commands.try_send(SessionCommand::Request(request)).map_err(|error| match error {
            SendError::Full(SessionCommand::Request(request)) => Some(request.into()),
            SendError::Full(_) | SendError::Closed(_) => None,
        })
    }

    /// Sends a command that may be dropped. Returns whether the command was queued.
    pub(crate) fn hint(&self, command: SessionCommand) -> bool {
        self.0.commands.try_send(command).is_ok()
    }

    /// Sends a request that belongs to one event of the client or occurs only once. A full mailbox
    /// accepts such a request too.
    pub(crate) fn request(&self, request: Request) -> Result<(), SessionGone> {
        if !self.is_open() {
            return Err(SessionGone);
        }
        self.post(SessionCommand::Request(request))
    }

    /// Closes the session for the application's handles. The connection is closed separately.
    pub(crate) fn close(&self) {
        self.0.open.store(false, Ordering::Release);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.open.load(Ordering::Acquire)
    }

    /// Acquires the right to send a POST to the session. Returns `None` while another POST is being
    /// processed.
    pub(crate) fn begin_post(&self) -> Option<PostClaim> {
        let free = !self.0.posting.swap(true, Ordering::AcqRel);
        free.then(|| PostClaim { link: self.clone(), done: false })
    }

    /// Differs from that of every other session of which a link exists.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    /// Returns true if both links are the address of the same session.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for SessionLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionLink")
    }
}

/// A reference to a socket: information about the socket, and the address that accepts requests for
/// it.
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

/// The exclusive right to send a POST to a session, released on drop. If the right is dropped
/// before [`complete`](Self::complete), the session ends, because packets of the client are lost.
#[derive(Debug)]
pub(crate) struct PostClaim {
    link: SessionLink,
    done: bool,
}

impl PostClaim {
    /// Releases the right after the POST was read completely or refused.
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
