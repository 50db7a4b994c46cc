//! The input and the result of a resume check.

use super::session::RecoverableSession;
use crate::ids::{Epoch, Lsn, NamespacePath, Offset, PrivateId, RoomName, SocketId};
use crate::journal::{GiveUpReason, Journal};
use crate::protocol::reason::NotRecovered;

/// A client's request to resume a session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResumeQuery<'a> {
    /// Identifies the session, and proves that the client owns it.
    pub pid: PrivateId,
    /// The namespace that the client connects to.
    pub namespace: &'a NamespacePath,
    /// The last token that the client has received.
    pub offset: Option<Offset>,
}

/// The state of the journal, as far as a resume check needs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JournalState {
    pub epoch: Epoch,
    /// The newest LSN in use.
    pub head: Lsn,
    /// The records up to this position were dropped.
    pub trimmed_to: Lsn,
    /// Whether the client's offset is a position of the journal; true without an offset.
    pub knows_offset: bool,
}

impl JournalState {
    pub(crate) fn of(journal: &dyn Journal, offset: Option<&Offset>) -> Self {
        let knows_offset = offset.is_none_or(|offset| journal.knows(offset));
        Self { epoch: journal.epoch(), head: journal.head(), trimmed_to: journal.trimmed_to(), knows_offset }
    }
}

impl From<GiveUpReason> for NotRecovered {
    fn from(why: GiveUpReason) -> Self {
        match why {
            GiveUpReason::TooLarge => Self::TooManyIntervals,
            GiveUpReason::NoRoom => Self::GivenUp,
        }
    }
}

/// A session that a client can resume.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resumable<'a> {
    /// The client receives the events after this position.
    pub position: Lsn,
    pub(super) session: &'a RecoverableSession,
}

impl<'a> Resumable<'a> {
    pub(crate) fn socket(self) -> SocketId {
        self.session.socket
    }

    /// The application's data of the socket, as JSON text.
    pub(crate) fn data(self) -> Option<&'a str> {
        self.session.data()
    }

    /// The current rooms, without the socket's own.
    pub(crate) fn rooms_now(self) -> impl Iterator<Item = &'a RoomName> {
        self.session.rooms_now()
    }
}
