//! The records of the journal: what happened, and for whom. Values only; how they look on disk is the codec's business.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::ids::{Fingerprint, Lsn, NamespacePath, PrivateId, Recipient, RoomName, SocketId};
use crate::protocol::encoded::Message;

/// One position of the log.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub(crate) struct Record {
    pub lsn: Lsn,
    /// Drawn for this record.
    pub fingerprint: Fingerprint,
    pub body: RecordBody,
}

/// What a record says. Every record says for whom it is. The large kinds stand elsewhere: most records that are kept in memory on a
/// server of many sockets say who connected and joined.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub(crate) enum RecordBody {
    /// An event was emitted. Shared with anyone who reads it.
    Event(Arc<EventRecord>),
    /// A recoverable socket connected.
    Connect {
        /// Its private id.
        pid: PrivateId,
        /// Its public id.
        socket: SocketId,
        namespace: NamespacePath,
        /// When, by the wall clock, in milliseconds since 1970.
        at_unix_ms: u64,
    },
    /// A socket joined a room.
    Join {
        /// Who. Its public id, which it keeps through every recovery.
        socket: SocketId,
        room: RoomName,
    },
    /// A socket left a room.
    Leave { socket: SocketId, room: RoomName },
    /// The application changed what it keeps with a socket.
    Data {
        socket: SocketId,
        /// JSON; none if there is nothing any more.
        data: Option<Box<str>>,
    },
    /// A socket's connection ended.
    Disconnect {
        socket: SocketId,
        /// Set when it cannot be recovered: it was disconnected from the namespace, or broke the protocol.
        forever: bool,
        /// When, by the wall clock: its window counts on through a restart.
        at_unix_ms: u64,
    },
    /// All that is known of a session, written again before its last such record leaves the ring.
    Session(Box<SessionRecord>),
    /// A client resumed its session.
    Resumed {
        /// The session's socket.
        socket: SocketId,
        /// Everything up to here has reached the client, or was never for it.
        position: Lsn,
        /// Time of the resume, by the wall clock.
        at_unix_ms: u64,
    },
    /// A process took up the journal of one that ended: every session that was connected lost its connection.
    ProcessEnded {
        /// Time of the start, by the wall clock. Times of earlier records that lie behind it count as this one.
        at_unix_ms: u64,
    },
    /// A session cannot be resumed any more; its client is notified when it comes back.
    GivenUp {
        /// The session's socket.
        socket: SocketId,
        why: GiveUpReason,
    },
    /// Every session whose connection was lost by then is forgotten.
    Expired {
        /// The newest loss among them, by the wall clock.
        until_unix_ms: u64,
    },
}

/// Why a session was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GiveUpReason {
    /// It was in more rooms, or its rooms and data have more bytes, than one session may have.
    TooLarge,
    /// All sessions together have more bytes than the journal can carry.
    NoRoom,
}

/// An event, and for whom it was.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub(crate) struct EventRecord {
    /// In this namespace.
    pub namespace: NamespacePath,
    /// For these; none means everybody in the namespace.
    pub rooms: SmallVec<[Recipient; 1]>,
    /// But not for these.
    pub except: SmallVec<[Recipient; 1]>,
    /// And not for this socket.
    pub exclude: Option<SocketId>,
    /// The packet as it went out; shared with every outbox that holds it.
    pub message: Message,
}

/// A session carried forward: anyone who reads this record needs none before it to know the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionRecord {
    /// The private id by which its client claims it.
    pub pid: PrivateId,
    /// Its socket's public id.
    pub socket: SocketId,
    pub namespace: NamespacePath,
    /// Rooms it is in, and rooms it left after its position.
    pub rooms: Vec<RoomSpan>,
    /// The application's data of the socket, as JSON.
    pub data: Option<Box<str>>,
    /// Whether it has a connection.
    pub connected: bool,
    /// Since when, by the wall clock, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// Everything up to here has reached its client, or was never for it.
    pub position: Lsn,
    /// The newest event before this record that may have been for it: anyone who saw that one missed none that is gone.
    pub last_event: Lsn,
    /// The newest of those that wanted an ack.
    pub last_ack_event: Lsn,
}

/// A stay in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoomSpan {
    pub room: RoomName,
    /// Events behind this position are for the member.
    pub joined: Lsn,
    /// And none behind this one, once it has left.
    pub left: Option<Lsn>,
}

impl RecordBody {
    /// Bytes that a record of this holds in memory, about, names counted as if nobody shared them; what bounds in memory count.
    pub(crate) fn byte_len(&self) -> usize {
        let entry = match self {
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
        size_of::<Record>() + entry
    }
}

impl Record {
    /// [`RecordBody::byte_len`] of what it holds.
    pub(crate) fn byte_len(&self) -> usize {
        self.body.byte_len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_small() {
        // Two of them come with each socket.
        assert!(size_of::<Record>() <= 72, "{} bytes", size_of::<Record>());
    }
}
