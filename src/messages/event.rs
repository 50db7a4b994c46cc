//! Outgoing events and packets, before the hub has numbered them.

use std::time::Duration;

use crate::ids::{AckId, SocketId};
use crate::protocol::draft::Draft;
use crate::protocol::encoded::Message;
use crate::state::rooms::Target;

/// The delivery promise of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Grade {
    /// The event may be dropped; it is neither numbered nor journalled.
    Volatile,
    /// The event is numbered and journalled while recovery is on.
    #[default]
    Plain,
}

/// An event and its recipients. It names no sender: any part of this process, or a peer, may emit
/// it.
#[derive(Debug)]
pub(crate) struct Emit {
    pub target: Target,
    pub draft: Draft,
    pub grade: Grade,
}

/// The acks that an event asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AckWanted {
    No,
    /// The ack of the sender's own socket, which is the only recipient.
    OfOne {
        socket: SocketId,
        /// Drawn by the socket's session.
        id: AckId,
    },
    /// The acks of all recipients, until this time limit. The hub draws the id.
    OfMany(Duration),
}

/// A packet of a session for its own client.
#[derive(Debug)]
pub(crate) enum DirectPacket {
    /// A complete packet: an ack, a DISCONNECT, an event that asks for an ack.
    Sealed(Message),
    /// An event that gets the newest offset token of the outbox when it is queued there.
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
