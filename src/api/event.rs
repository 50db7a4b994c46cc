//! What handlers get: an event that a client emitted, and how a socket left.

use bytestring::ByteString;

use super::ack::Ack;
use crate::protocol::reason::DisconnectReason;

/// An event from a client.
#[derive(Debug)]
#[non_exhaustive]
pub struct Event<T> {
    /// The name under which it was emitted.
    pub name: ByteString,
    /// Its arguments, read as `T`: one value, a tuple, or [`Args`](crate::Args) as they came.
    pub data: T,
    /// The way to answer it.
    pub ack: Ack,
}

impl<T> Event<T> {
    pub(crate) fn new(name: ByteString, data: T, ack: Ack) -> Self {
        Self { name, data, ack }
    }
}

/// How a socket left.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Disconnecting {
    /// Why, in Socket.IO's words.
    pub reason: DisconnectReason,
    /// The rooms it was in until then, in the order of their names; without its own.
    pub rooms: Vec<String>,
}
