//! The values that handlers receive: an event of a client, and a disconnection.

use bytestring::ByteString;

use super::ack::Ack;
use crate::protocol::reason::DisconnectReason;

/// An event from a client.
#[derive(Debug)]
#[non_exhaustive]
pub struct Event<T> {
    /// Name of the event.
    pub name: ByteString,
    /// Arguments, read as `T`: one value, a tuple, or the received [`Args`](crate::Args).
    pub data: T,
    /// Acknowledgement of the event.
    pub ack: Ack,
}

impl<T> Event<T> {
    pub(crate) fn new(name: ByteString, data: T, ack: Ack) -> Self {
        Self { name, data, ack }
    }
}

/// A socket's disconnection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Disconnecting {
    /// Reason of the disconnection.
    pub reason: DisconnectReason,
    /// Rooms that the socket was in, sorted, without the socket's own room.
    pub rooms: Vec<String>,
}
