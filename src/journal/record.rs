//! The records of the journal as Rust types. [`codec`](super::codec) encodes and decodes them for
//! the disk.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::ids::{Fingerprint, Lsn, NamespacePath, PrivateId, QueueOffset, Recipient, RoomName, SocketId};
use crate::protocol::encoded::Message;

#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub(crate) struct Record {
    pub lsn: Lsn,
    /// Random number, so that a client cannot guess the offset token of a record that it has not
    /// received.
    pub fingerprint: Fingerprint,
    pub body: RecordBody,
}

/// The content of a record. Large variants are boxed, because most records of a server with many
/// sockets are small: `Connect` and `Join`.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub(crate) enum RecordBody {
    Event(Arc<EventRecord>),
    Connect {
        pid: PrivateId,
        socket: SocketId,
        namespace: NamespacePath,
        /// Wall-clock time in milliseconds since 1970, as in the other variants.
        at_unix_ms: u64,
    },
    Join {
        socket: SocketId,
        room: RoomName,
    },
    Leave {
        socket: SocketId,
        room: RoomName,
    },
    /// A socket that resumed its session may no longer be in a room. It leaves the room, and
    /// receives none of the room's events that it has missed.
    Revoked {
        socket: SocketId,
        room: RoomName,
    },
    /// The application changed the data of a socket.
    Data {
        socket: SocketId,
        /// JSON text. If `None`, the data is removed.
        data: Option<Box<str>>,
    },
    Disconnect {
        socket: SocketId,
        /// True if the session cannot be resumed: the socket was disconnected from its namespace,
        /// or the client violated the protocol.
        forever: bool,
        /// Start of the recovery window.
        at_unix_ms: u64,
    },
    /// The complete state of a session. Another such record is written before the ring drops this
    /// one.
    Session(Box<SessionRecord>),
    Resumed {
        socket: SocketId,
        /// Position up to which the client has received all events for its socket.
        position: Lsn,
        at_unix_ms: u64,
    },
    /// A new process opened the journal. All sessions that were still connected have lost their
    /// connections.
    ProcessEnded {
        /// Time at which the process started. If an earlier record has a later time, this time is
        /// used for that record.
        at_unix_ms: u64,
    },
    /// A session can no longer be resumed. The client is notified when it reconnects.
    GivenUp {
        socket: SocketId,
        why: GiveUpReason,
    },
    /// The sessions that lost their connections at or before this time can no longer be resumed.
    Expired {
        until_unix_ms: u64,
    },
    /// Position in the queue of the newest durable event that was revealed. Written before the ring
    /// drops the last record that says it.
    Stored(QueueOffset),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GiveUpReason {
    /// The session exceeded a limit for one session: the maximum number of room intervals, or the
    /// maximum number of bytes of rooms and data.
    TooLarge,
    /// All sessions together exceeded their maximum number of bytes.
    NoRoom,
}

#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub(crate) struct EventRecord {
    pub namespace: NamespacePath,
    /// Empty if the event is for all sockets of the namespace.
    pub rooms: SmallVec<[Recipient; 1]>,
    pub except: SmallVec<[Recipient; 1]>,
    /// The sending socket, if it does not receive the event.
    pub exclude: Option<SocketId>,
    /// Position in the queue of a durable event. After a restart, the hub reveals the events of the
    /// queue after the newest of these positions.
    pub stored: Option<QueueOffset>,
    /// The packet as it was sent, including the offset token. Shared with the outboxes in which the
    /// packet is queued.
    pub message: Message,
}

impl RecordBody {
    /// Position in the queue that the record says was revealed.
    pub(crate) fn stored(&self) -> Option<QueueOffset> {
        match self {
            Self::Event(event) => event.stored,
            Self::Stored(stored) => Some(*stored),
            _ => None,
        }
    }
}

/// The complete state of a session. No earlier record is needed to restore the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionRecord {
    pub pid: PrivateId,
    pub socket: SocketId,
    pub namespace: NamespacePath,
    /// Rooms that the socket is in, and rooms that the socket left after `position`.
    pub rooms: Vec<RoomSpan>,
    pub data: Option<Box<str>>,
    pub connected: bool,
    /// Time at which the socket connected or lost its connection.
    pub at_unix_ms: u64,
    /// Position up to which the client has received all events for its socket.
    pub position: Lsn,
    /// Position of the newest event before this record that may have been for the socket. A client
    /// that has received this event has missed no event before this record.
    pub last_event: Lsn,
    /// Position of the newest event before this record that may have been for the socket and
    /// requested an ack.
    pub last_ack_event: Lsn,
}

/// An interval during which a socket is in a room. The socket receives events of the room that come
/// after `joined` and not after `left`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoomSpan {
    pub room: RoomName,
    pub joined: Lsn,
    pub left: Option<Lsn>,
}

impl RecordBody {
    /// Approximate number of bytes of a record in memory, as counted towards the limits of a
    /// journal. Shared room names and messages count in full. Namespaces are not counted.
    pub(crate) fn byte_len(&self) -> usize {
        let content = match self {
            Self::Event(event) => {
                let names = event.rooms.iter().chain(&event.except).map(Recipient::name_len);
                size_of::<EventRecord>() + names.sum::<usize>() + event.message.byte_len()
            }
            Self::Session(session) => {
                let rooms = session.rooms.iter().map(|span| size_of::<RoomSpan>() + span.room.as_str().len());
                size_of::<SessionRecord>() + rooms.sum::<usize>() + session.data.as_ref().map_or(0, |data| data.len())
            }
            Self::Data { data, .. } => data.as_ref().map_or(0, |data| data.len()),
            Self::Join { room, .. } | Self::Leave { room, .. } | Self::Revoked { room, .. } => room.as_str().len(),
            Self::Connect { .. }
            | Self::Disconnect { .. }
            | Self::Resumed { .. }
            | Self::ProcessEnded { .. }
            | Self::GivenUp { .. }
            | Self::Expired { .. }
            | Self::Stored(_) => 0,
        };
        size_of::<Record>() + content
    }
}

impl Record {
    pub(crate) fn byte_len(&self) -> usize {
        self.body.byte_len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_small() {
        // Each connected socket has two records in memory.
        assert!(size_of::<Record>() <= 72, "{} bytes", size_of::<Record>());
    }
}
