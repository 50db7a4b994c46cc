//! An event that a client emitted, as its handler gets it.

use bytestring::ByteString;

use super::ack::Ack;

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
