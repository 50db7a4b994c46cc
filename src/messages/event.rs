//! Outgoing events and packets, before the hub has numbered them.

use std::time::Duration;

use crate::ids::{AckId, RoomName, SocketId};
use crate::protocol::draft::Draft;
use crate::protocol::encoded::Message;
use crate::queue::change::Publish;
use crate::state::rooms::Target;

/// The delivery promise of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Grade {
    /// The event may be dropped, and is neither numbered nor journalled.
    Volatile,
    /// While recovery is on, the event is numbered, and is journalled if a session stored for
    /// recovery may receive it.
    #[default]
    Plain,
}

/// An event and its recipients, without its sender.
#[derive(Debug)]
pub(crate) struct Emit {
    pub target: Target,
    pub draft: Draft,
    pub grade: Grade,
}

/// A durable event, as its publisher submits it.
#[derive(Debug)]
pub(crate) struct DurableEmit {
    /// The hub writes the origin.
    pub publish: Box<Publish>,
    /// The event for the members of its rooms.
    pub draft: Draft,
    /// The socket of the publisher, if it does not receive the event.
    pub exclude: Option<SocketId>,
}

impl DurableEmit {
    /// Approximate bytes that the event takes until it is revealed.
    pub(crate) fn byte_len(&self) -> usize {
        let rooms = self.publish.rooms.iter().map(|room| room.as_str().len() + size_of::<RoomName>());
        self.publish.payload.bytes() + self.draft.byte_len() + rooms.sum::<usize>()
    }
}

/// The acks that an event requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AckWanted {
    No,
    /// The ack of the sender's own socket, which is the only recipient of the event.
    OfOne {
        socket: SocketId,
        /// The ack id, which the session of the socket has chosen.
        id: AckId,
    },
    /// The acks of all recipients that arrive within this time. The hub chooses the ack id.
    OfMany(Duration),
}

/// A packet of a session for its own client.
#[derive(Debug)]
pub(crate) enum DirectPacket {
    /// A complete packet: an ack, a DISCONNECT, or an event that requests an ack.
    Sealed(Message),
    /// An event without a position in the journal. When the event is queued, it receives the newest
    /// offset token of the outbox.
    Unnumbered {
        draft: Draft,
        /// True if the packet is dropped while the drainer is not ready.
        volatile: bool,
    },
}

impl DirectPacket {
    /// Approximate size on a websocket, in bytes.
    pub(crate) fn byte_len(&self) -> usize {
        match self {
            Self::Sealed(message) => message.byte_len(),
            Self::Unnumbered { draft, .. } => draft.byte_len(),
        }
    }
}
