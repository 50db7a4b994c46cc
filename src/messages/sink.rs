//! The contract between the flusher and the transports, which drain the outbox of a session.
//!
//! A long-poll GET, a websocket and an upgrade are three ways to drain one session. An upgrade
//! changes the drainer.

use std::io;
use std::pin::Pin;

use bytes::Bytes;
use futures_core::Stream;

use crate::protocol::encoded::EncodedFrame;
use crate::protocol::engineio::packet::EnginePacket;
use crate::protocol::reason::DisconnectReason;
use crate::state::outbox::Outbox;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// The outbox is empty.
    All,
    /// The connection is not writable; the transport reports [`Incoming::Writable`] when it is.
    Blocked,
    /// The drainer has taken the one batch that it accepts.
    Finished,
    Lost(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseReason {
    Ended(DisconnectReason),
    /// The client was lagging too far, and its packets were dropped.
    OutboxFull,
}

/// Drains an outbox into a connection. Stored with the outbox; called by the flusher of its worker
/// only. Never blocks.
pub(crate) trait FrameSink {
    /// Writes as much of the outbox as the connection accepts now.
    fn drain(&mut self, outbox: &mut Outbox) -> Drained;

    /// Pauses or resumes reading, for a connection that reads.
    fn set_reading(&mut self, _reading: bool) {}

    /// True if the peer has closed its side, as far as is known without reading.
    fn is_peer_gone(&self) -> bool {
        false
    }

    /// Queues the transport's final packet behind all others.
    fn queue_close(&mut self, close_reason: CloseReason, outbox: &mut Outbox);

    /// Ends the sending side after the final packet. Returns true if the peer's end should be
    /// awaited.
    fn finish(&mut self) -> bool;

    /// Ends the connection and discards unsent bytes in the kernel (a websocket is reset).
    fn abort(&mut self);
}

/// An input of a connection that its session owns.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// Packets in order of arrival.
    Packets(Vec<EnginePacket>),
    /// A reply of the transport's own protocol (a websocket's pong), to be sent ahead of queued
    /// events.
    Control(EncodedFrame),
    /// The connection is writable again.
    Writable,
    /// Invalid input; nothing follows.
    Undecodable(String),
    /// The peer exceeded a limit and was notified; nothing follows.
    TooLarge(String),
    /// The peer's message was refused, since it took too long or exceeds the memory budget, and the
    /// peer was notified; nothing follows.
    Refused(String),
    /// The peer started the closing handshake and awaits the answer.
    Leaving,
    /// The peer has closed its side; nothing follows.
    Closed,
    /// The connection broke; nothing follows.
    Broken(String),
}

/// Both halves of a connection, on the worker that drives it.
pub(crate) struct Connection {
    pub sink: Box<dyn FrameSink>,
    /// Yields the inputs. Ends after an [`Incoming`] whose description says "nothing follows".
    pub incoming: Pin<Box<dyn Stream<Item = Incoming>>>,
    /// The transport's own response, sent before any packet and in one write with the first.
    pub answer: Bytes,
}

/// A connection on its way from the worker that accepted it to its session's worker.
pub(crate) trait Handoff: Send {
    /// Registers the connection with the current thread.
    fn attach(self: Box<Self>) -> io::Result<Connection>;
}
