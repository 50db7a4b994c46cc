//! Verdicts about clients that want to resume a session: the claim, what the journal says about it, and the reasons of a refusal.

use super::session::RecoverableSession;
use crate::ids::{Epoch, Lsn, NamespacePath, Offset, PrivateId, RoomName, SocketId};
use crate::journal::{GiveUpReason, Journal};
use crate::protocol::reason::NotRecovered;

/// The session that a client wants to resume, and from which position.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResumeQuery<'a> {
    /// Names the session, and proves that it is its client's.
    pub pid: PrivateId,
    /// The namespace that the client connects to.
    pub namespace: &'a NamespacePath,
    /// The last token that it saw; none if it never saw one.
    pub offset: Option<Offset>,
}

/// The journal's answer to a claim.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JournalState {
    /// The life of the journal.
    pub epoch: Epoch,
    /// The newest position.
    pub head: Lsn,
    /// Every record up to here is gone.
    pub trimmed_to: Lsn,
    /// Whether the claim's offset, if it has one, is a position of the journal.
    pub knows: bool,
}

impl JournalState {
    pub(crate) fn of(journal: &dyn Journal, offset: Option<&Offset>) -> Self {
        let knows = offset.is_none_or(|offset| journal.knows(offset));
        Self { epoch: journal.epoch(), head: journal.head(), trimmed_to: journal.trimmed_to(), knows }
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

/// A session that its client may resume.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resumable<'a> {
    /// The events behind it are for the client.
    pub position: Lsn,
    pub(super) session: &'a RecoverableSession,
}

impl<'a> Resumable<'a> {
    /// Its socket's public id.
    pub(crate) fn socket(self) -> SocketId {
        self.session.socket
    }

    /// The application's data of the socket, as JSON.
    pub(crate) fn data(self) -> Option<&'a str> {
        self.session.data()
    }

    /// The rooms it is in, without its own.
    pub(crate) fn rooms_now(self) -> impl Iterator<Item = &'a RoomName> {
        self.session.rooms_now()
    }
}
