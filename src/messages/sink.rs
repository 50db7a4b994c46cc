//! The contract between the flusher and the transports, which drain the outbox of a session.
//!
//! A long-poll GET and a websocket can drain the outbox of a session. An upgrade replaces the
//! drainer.

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
    /// The connection is not writable. The transport reports [`Incoming::Writable`] when the
    /// connection becomes writable.
    Blocked,
    /// The drainer has accepted one batch and accepts no other.
    Finished,
    Lost(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseReason {
    Ended(DisconnectReason),
    /// The client was too slow, and its packets were dropped.
    OutboxFull,
}

/// Writes an outbox to a connection. A sink is stored with the outbox and is called only by the
/// flusher of the worker. Calls never block.
pub(crate) trait FrameSink {
    /// Writes as much of the outbox as the connection accepts now.
    fn drain(&mut self, outbox: &mut Outbox) -> Drained;

    /// Pauses or resumes reading from the connection. Does nothing if the connection is only
    /// written, as in a poll.
    fn set_reading(&mut self, _reading: bool) {}

    /// Returns true if the peer has closed its side, as far as this is known without reading from
    /// the connection.
    fn is_peer_gone(&self) -> bool {
        false
    }

    /// Queues the final packet of the transport after all other packets.
    fn queue_close(&mut self, close_reason: CloseReason, outbox: &mut Outbox);

    /// Closes the sending side after the final packet. Returns true if the caller should wait until
    /// the peer closes its side.
    fn finish(&mut self) -> bool;

    /// Closes the connection and discards unsent bytes in the kernel (a websocket is reset).
    fn abort(&mut self);
}

/// An input from a connection that belongs to a session.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// Packets in order of arrival.
    Packets(Vec<EnginePacket>),
    /// A reply of the transport's own protocol (a websocket's pong), to be sent before queued
    /// events.
    Control(EncodedFrame),
    /// The connection is writable again.
    Writable,
    /// The input is invalid. Nothing follows.
    Undecodable(String),
    /// The peer exceeded a limit and was notified. Nothing follows.
    TooLarge(String),
    /// A message of the peer was refused, because it took too long or exceeded the memory budget.
    /// The peer was notified. Nothing follows.
    Refused(String),
    /// The peer started the closing handshake and waits for the reply.
    Leaving,
    /// The peer has closed its side. Nothing follows.
    Closed,
    /// The connection broke. Nothing follows.
    Broken(String),
}

/// The writing and the reading half of a connection, on the worker that uses them.
pub(crate) struct Connection {
    pub sink: Box<dyn FrameSink>,
    /// Yields the inputs. Ends after an [`Incoming`] whose description says "Nothing follows".
    pub incoming: Pin<Box<dyn Stream<Item = Incoming>>>,
    /// The response with which the transport accepts the connection, sent in one write with the
    /// first packet.
    pub answer: Bytes,
}

/// A connection that is moved from the worker that accepted it to the worker of its session.
pub(crate) trait Handoff: Send {
    /// Registers the connection with the current thread.
    fn attach(self: Box<Self>) -> io::Result<Connection>;
}
