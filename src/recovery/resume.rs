//! The input and the result of a resume check.

use super::session::RecoverableSession;
use crate::ids::{Epoch, Lsn, NamespacePath, Offset, PrivateId, RoomName, SocketId};
use crate::journal::{GiveUpReason, Journal};
use crate::protocol::reason::NotRecovered;

#[derive(Debug, Clone, Copy)]
pub(crate) struct ResumeQuery<'a> {
    /// Secret id of the session, which proves that the client owns the session.
    pub pid: PrivateId,
    pub namespace: &'a NamespacePath,
    pub offset: Option<Offset>,
}

/// The state of the journal, as far as a resume check needs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JournalState {
    pub epoch: Epoch,
    pub head: Lsn,
    /// The records up to this position were dropped.
    pub trimmed_to: Lsn,
    /// False if the client sent an offset that the journal does not know (see [`Journal::knows`]).
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

    pub(crate) fn data(self) -> Option<&'a str> {
        self.session.data()
    }

    /// The current rooms, and rooms that the session has left, of which it may have missed events.
    /// A room may occur several times.
    pub(crate) fn rooms(self) -> impl Iterator<Item = &'a RoomName> {
        self.session.rooms()
    }

    pub(crate) fn rooms_now(self) -> impl Iterator<Item = &'a RoomName> {
        self.session.rooms_now()
    }
}
