//! Messages to a session, and the address they go to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix::dev::SendError;
use actix::{Message, Recipient};
use thiserror::Error;
use tokio::sync::oneshot;

use super::fanout::Answer;
use super::request::Request;
use super::sink::{FrameSink, Handoff};
use super::socket::SocketInfo;
use crate::ids::SocketId;
use crate::protocol::encoded::{EncodedFrame, Message as Packets};
use crate::protocol::engineio::payload::PayloadReader;
use crate::protocol::reason::DisconnectReason;
use crate::protocol::socketio::packet::Args;
use crate::state::credit::Ticket;

/// Why a session refuses what a transport brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum TransportRefusal {
    /// The session is on another transport: 400, code 3.
    #[error("session is on another transport")]
    WrongTransport,
    /// Another GET waits already; both end the session: 400.
    #[error("a second poll while one waits")]
    SecondPoll,
    /// The session has ended: 400, code 1.
    #[error("session has ended")]
    Ended,
}

/// One thing for a session to do.
pub(crate) enum SessionCommand {
    /// A GET asks for a batch. One at a time; sent by the polling transport.
    Drain {
        /// Takes the batch.
        sink: Box<dyn FrameSink + Send>,
        /// Whether it was let in.
        reply: oneshot::Sender<Result<(), TransportRefusal>>,
    },
    /// A POST brought packets, or what is no payload. One at a time; sent by the polling transport.
    Post {
        /// What was read.
        packets: Result<PayloadReader, String>,
        /// Answered once all of it is taken in, and the session continues reading.
        reply: oneshot::Sender<Result<(), TransportRefusal>>,
    },
    /// The next slice of a POST is due. Sent by the session to itself, behind other work of its worker.
    ResumePost,
    /// A websocket was accepted for this session. Sent by the websocket transport.
    Websocket(Box<dyn Handoff>),
    /// The client broke the rules of its transport, or dropped a poll. Sent by transports.
    TransportFailed(String),
    /// The hub answered a command. Sent by the fanout; bounded by credit.
    Answered {
        ticket: Ticket,
        /// How it ended.
        answer: Answer,
    },
    /// A part of the answer to a question. Sent by the fanout; bounded by the parts announced.
    Fetched {
        ticket: Ticket,
        /// Some of the sockets.
        sockets: Vec<Arc<SocketInfo>>,
    },
    /// The client has come back over another connection. Sent by the worker, once.
    Evicted,
    /// The drainer is lost. Sent by the worker, once.
    DrainerLost(String),
    /// The outbox was full; what waited in it is dropped already. Sent by the worker, once.
    OutboxFull(String),
    /// The outboxes of all clients were over their budget, and this one was among the largest; what waited in it is dropped already.
    /// Sent by the worker, once.
    OutboxCut {
        detail: String,
        /// False if a packet was dropped of which a part had left: nothing can follow it on this connection.
        can_be_told: bool,
    },
    /// The outbox is down to where emits may complete again. Sent by the worker, once each time it was asked for.
    OutboxLow,
    /// The outbox of a closing session has been written out. Sent by the worker, once.
    ClosingDrained,
    /// Code asks for something. Sent by handles.
    Request(Request),
    /// Handlers have finished and events are held. Sent by the last of them, once until the session has looked.
    HandlersFreed,
    /// Many handlers have ended where they began. Sent by the session to itself, behind what they asked for.
    Pause,
    /// A deadline is over, or was. Sent by the worker, which keeps the far ones.
    Wake,
    /// Connection middleware has let a socket in, or refused it. Sent once for each socket that has to pass some.
    Admitted {
        /// The socket that was judged. A resumed socket has the id of its session, which another one may have by now.
        socket: Arc<SocketInfo>,
        /// The CONNECT_ERROR packet, if it is refused.
        refusal: Option<EncodedFrame>,
    },
    /// A connection handler returned. Sent once for each socket.
    Opened { socket: Arc<SocketInfo> },
    /// One of those who answer an event of this session did, or has gone. Sent by the fanout; bounded by how many got the event.
    Acked {
        ticket: Ticket,
        socket: SocketId,
        /// Its answer, if it has not gone.
        answer: Option<Args>,
    },
    /// A message was queued for this session's client, and someone watches. Sent by the worker; dropped when the session is
    /// behind.
    Sent(Packets),
    /// A handler panicked: put its socket out, nothing else.
    HandlerPanicked {
        socket: SocketId,
        /// Name of the event, or of the handler.
        handler: String,
    },
    /// End the session. Sent by the fanout for the hub, and by the server.
    Close(DisconnectReason),
}

impl Message for SessionCommand {
    type Result = ();
}

/// The session is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("session has ended")]
pub(crate) struct SessionGone;

/// Why a session did not take a command. The command was dropped, and with it anyone who waits is notified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum OfferError {
    /// The session has more to do than its mailbox holds.
    #[error("session is overloaded")]
    Full,
    /// The session is gone.
    #[error("session has ended")]
    Gone,
}

struct Mailbox {
    commands: Recipient<SessionCommand>,
    posting: AtomicBool,
    /// Cleared when the session closes for the application, though its connection may still take final packets.
    open: AtomicBool,
}

/// The address of a session (or of the server sender). Cheap to clone, owned, usable from any thread.
#[derive(Clone)]
pub(crate) struct SessionLink(Arc<Mailbox>);

impl SessionLink {
    /// Makes the address of an actor that takes session commands.
    pub(crate) fn new(commands: Recipient<SessionCommand>) -> Self {
        Self(Arc::new(Mailbox { commands, posting: AtomicBool::new(false), open: AtomicBool::new(true) }))
    }

    /// Sends a command whose number is bounded by its own protocol. Never waits, fails only when the session is gone.
    pub(crate) fn post(&self, command: SessionCommand) -> Result<(), SessionGone> {
        match self.0.commands.try_send(command) {
            Ok(()) => Ok(()),
            Err(SendError::Closed(_)) => Err(SessionGone),
            // A fresh clone has one place of its own past the capacity, so this succeeds unless the session has gone.
            Err(SendError::Full(command)) => self.0.commands.clone().try_send(command).map_err(|_| SessionGone),
        }
    }

    /// Hands in what code asks for, of which it may produce any number; refused when the mailbox is full.
    pub(crate) fn offer(&self, request: Request) -> Result<(), OfferError> {
        if !self.is_open() {
            return Err(OfferError::Gone);
        }
        self.0.commands.try_send(SessionCommand::Request(request)).map_err(|error| match error {
            SendError::Full(_) => OfferError::Full,
            SendError::Closed(_) => OfferError::Gone,
        })
    }

    /// Tells what the session may miss when it is behind; returns whether it was told.
    pub(crate) fn hint(&self, command: SessionCommand) -> bool {
        self.0.commands.try_send(command).is_ok()
    }

    /// Hands in what belongs to one event of the client, or comes once: never refused for want of room.
    pub(crate) fn request(&self, request: Request) -> Result<(), SessionGone> {
        if !self.is_open() {
            return Err(SessionGone);
        }
        self.post(SessionCommand::Request(request))
    }

    /// The session has closed for the application.
    pub(crate) fn close(&self) {
        self.0.open.store(false, Ordering::Release);
    }

    /// Whether the session is open to the application.
    pub(crate) fn is_open(&self) -> bool {
        self.0.open.load(Ordering::Acquire)
    }

    /// Claims the session's one POST. `None` while another is being read.
    pub(crate) fn begin_post(&self) -> Option<PostClaim> {
        let free = !self.0.posting.swap(true, Ordering::AcqRel);
        free.then(|| PostClaim { link: self.clone(), done: false })
    }

    /// Whether both are the address of one session.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl std::fmt::Debug for SessionLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionLink")
    }
}

/// The session's one POST, free again when this is dropped. Dropped before it is done, it ends the session: the client
/// broke off, and what it had wanted to say is lost.
#[derive(Debug)]
pub(crate) struct PostClaim {
    link: SessionLink,
    done: bool,
}

impl PostClaim {
    /// The POST was read whole, or refused in order.
    pub(crate) fn complete(mut self) {
        self.done = true;
    }
}

impl Drop for PostClaim {
    fn drop(&mut self) {
        self.link.0.posting.store(false, Ordering::Release);
        if !self.done {
            let _ = self.link.post(SessionCommand::TransportFailed("a POST broke off".into()));
        }
    }
}
