//! How a session's outbox is drained: the contract between the flusher and the transports.
//!
//! A long-poll GET, a websocket and an upgrade are three ways to drain one session. An upgrade changes the drainer.

use std::io;
use std::pin::Pin;

use bytes::Bytes;
use futures_core::Stream;

use crate::protocol::encoded::EncodedFrame;
use crate::protocol::engineio::packet::EnginePacket;
use crate::protocol::reason::DisconnectReason;
use crate::state::outbox::Outbox;

/// How far a drain got.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// The outbox is empty.
    All,
    /// The peer takes no more at present; the transport says [`Incoming::Writable`] when it does again.
    Blocked,
    /// This drainer took its one batch and is used up.
    Finished,
    /// The connection is broken.
    Lost(String),
}

/// The reason in a transport's final packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The session has ended, for this reason.
    Ended(DisconnectReason),
    /// The client was too far behind, and what waited for it was dropped.
    OutboxFull,
}

/// Takes packets out of an outbox. Lives in the outbox slab; called by the flusher of its worker only. Never blocks.
pub(crate) trait FrameSink {
    /// Takes what the peer takes now.
    fn drain(&mut self, outbox: &mut Outbox) -> Drained;

    /// Stops or resumes reading, where reading goes through this connection.
    fn set_reading(&mut self, _reading: bool) {}

    /// Whether the peer has closed its side, as far as can be told without reading.
    fn is_peer_gone(&self) -> bool {
        false
    }

    /// Queues the transport's final packet behind what is queued already.
    fn queue_close(&mut self, close_reason: CloseReason, outbox: &mut Outbox);

    /// The final packet is out: ends the sending side. Returns whether the peer's end is worth waiting for.
    fn finish(&mut self) -> bool;

    /// Ends the connection so that nothing stays behind in the kernel (a websocket is reset).
    fn abort(&mut self);
}

/// What comes in over a connection that its session owns.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// Packets, in order.
    Packets(Vec<EnginePacket>),
    /// The transport answers its own protocol (a websocket's pong): send this ahead of queued events.
    Control(EncodedFrame),
    /// The socket takes bytes again.
    Writable,
    /// What came is no packet; nothing more comes.
    Undecodable(String),
    /// The peer went over a limit and was told so; nothing more comes.
    TooLarge(String),
    /// The peer's message was refused, since it took too long or its memory is not to be had, and the peer was told so; nothing
    /// more comes.
    Refused(String),
    /// The peer asks to close in order, and awaits the answer.
    Leaving,
    /// The peer has closed its side; nothing more comes.
    Closed,
    /// The connection broke; nothing more comes.
    Broken(String),
}

/// Both halves of a connection, on the worker that drives it.
pub(crate) struct Connection {
    /// The writing half.
    pub sink: Box<dyn FrameSink>,
    /// The reading half. Ends after the first item that says so.
    pub incoming: Pin<Box<dyn Stream<Item = Incoming>>>,
    /// What the peer must have before any packet: the transport's own answer, which then shares a write with the first of them.
    pub answer: Bytes,
}

/// A connection that was accepted on some worker and travels to its session's.
pub(crate) trait Handoff: Send {
    /// Takes root on the current thread.
    fn attach(self: Box<Self>) -> io::Result<Connection>;
}
