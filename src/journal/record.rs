//! The records of the journal, as values. [`codec`](super::codec) has their form on disk.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::ids::{Fingerprint, Lsn, NamespacePath, PrivateId, Recipient, RoomName, SocketId};
use crate::protocol::encoded::Message;

#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub(crate) struct Record {
    pub lsn: Lsn,
    /// Random, so that a client cannot guess the token of a record it has not received.
    pub fingerprint: Fingerprint,
    pub body: RecordBody,
}

/// The content of a record. The large kinds are boxed, because most records in the memory of a
/// server with many sockets are connects and joins.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub(crate) enum RecordBody {
    Event(Arc<EventRecord>),
    Connect {
        pid: PrivateId,
        socket: SocketId,
        namespace: NamespacePath,
        /// Wall-clock time in milliseconds since 1970, as in the other records.
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
    /// The application changed the data of a socket.
    Data {
        socket: SocketId,
        /// JSON text; `None` removes the data.
        data: Option<Box<str>>,
    },
    Disconnect {
        socket: SocketId,
        /// True if the session cannot be resumed: the socket was disconnected from its namespace,
        /// or its client violated the protocol.
        forever: bool,
        /// Start of the recovery window.
        at_unix_ms: u64,
    },
    /// The complete state of a session, rewritten before the ring drops the previous complete
    /// record.
    Session(Box<SessionRecord>),
    Resumed {
        socket: SocketId,
        /// The client has received all of its events up to this position.
        position: Lsn,
        at_unix_ms: u64,
    },
    /// A new process opened the journal: every connected session had lost its connection.
    ProcessEnded {
        /// Time of the start. Later times in earlier records count as this time.
        at_unix_ms: u64,
    },
    /// A session cannot be resumed any more. Its client is notified when it reconnects.
    GivenUp {
        socket: SocketId,
        why: GiveUpReason,
    },
    /// The sessions that lost their connection at or before this time are forgotten.
    Expired {
        until_unix_ms: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GiveUpReason {
    /// The session exceeded a bound for a single session: its number of room intervals, or the
    /// bytes of its rooms and data.
    TooLarge,
    /// All sessions together exceeded the bytes that the ring can hold.
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
    /// The packet as it was sent, with its token; shared with the outboxes that hold it.
    pub message: Message,
}

/// The complete state of a session: no earlier record is needed to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionRecord {
    pub pid: PrivateId,
    pub socket: SocketId,
    pub namespace: NamespacePath,
    /// Rooms that the socket is in, and those that it left after `position`.
    pub rooms: Vec<RoomSpan>,
    pub data: Option<Box<str>>,
    pub connected: bool,
    /// Time at which the socket connected or lost its connection.
    pub at_unix_ms: u64,
    /// The client has received all of its events up to this position.
    pub position: Lsn,
    /// The newest event before this record that may have been for the socket. A client that has
    /// received it has missed no dropped event.
    pub last_event: Lsn,
    /// The newest event before this record that may have been for the socket and requested an ack.
    pub last_ack_event: Lsn,
}

/// An interval in a room: events after `joined` are for the member, and none after `left`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoomSpan {
    pub room: RoomName,
    pub joined: Lsn,
    pub left: Option<Lsn>,
}

impl RecordBody {
    /// Approximate bytes of a record in memory, as the bounds of journals count them. Shared names
    /// and messages count in full.
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
            Self::Join { room, .. } | Self::Leave { room, .. } => room.as_str().len(),
            Self::Connect { .. }
            | Self::Disconnect { .. }
            | Self::Resumed { .. }
            | Self::ProcessEnded { .. }
            | Self::GivenUp { .. }
            | Self::Expired { .. } => 0,
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
        // Each connected socket has two of them in memory.
        assert!(size_of::<Record>() <= 72, "{} bytes", size_of::<Record>());
    }
}
