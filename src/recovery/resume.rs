//! Verdicts about clients that want to resume a session: the claim, what the journal says about it, and the reasons of a refusal.

use thiserror::Error;

use super::session::RecoverableSession;
use crate::ids::{Epoch, Lsn, NamespacePath, Offset, PrivateId, RoomName, SocketId};
use crate::journal::{GiveUpReason, Journal};

/// Who wants to resume what, from where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResumeQuery<'a> {
    /// Names the session, and proves that it is its client's.
    pub pid: PrivateId,
    /// Where the client connects.
    pub namespace: &'a NamespacePath,
    /// The last token that it saw; none if it never saw one.
    pub offset: Option<Offset>,
}

/// What the journal says about a claim.
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

/// Why a client gets a fresh session instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub(crate) enum NotRecovered {
    /// The token is of another log: an earlier one that ended with its process or its machine, or another server's.
    #[error("offset is of another epoch")]
    ForeignEpoch,
    /// Never known here, or forgotten: its window has passed, too many are away, or it was disconnected from the namespace by either
    /// side or broke the protocol.
    #[error("session is unknown")]
    UnknownPid,
    /// It connects to another namespace than the session's.
    #[error("session is of another namespace")]
    OtherNamespace,
    /// It stayed in more rooms, one after another, or has more bytes of rooms and data, than one session may have.
    #[error("session was in too many rooms")]
    TooManyIntervals,
    /// All sessions together had more bytes than the journal can carry, and this one was the largest, or away for longest.
    #[error("session was given up, there was no room for it")]
    GivenUp,
    /// It was away for longer than the window.
    #[error("session expired")]
    Expired,
    /// The position has not been given away yet.
    #[error("offset is in the future")]
    FutureOffset,
    /// No record bears this token.
    #[error("offset is of no record")]
    UnknownOffset,
    /// The position is older than the session, or than where it was resumed from before.
    #[error("offset is older than the session")]
    OldOffset,
    /// An event behind the position wanted an ack. Whether the client saw it is not known, as such events bear no token.
    #[error("an event that wanted an ack was sent meanwhile")]
    AckMissed,
    /// An event of its namespace or rooms behind the position is gone from the journal, or may be: of each room only the
    /// longest silences are known, it is not known who was excepted, and of what happened before a session was carried
    /// forward over a start, only the newest event is.
    #[error("an event it may have missed is gone from the journal")]
    Trimmed,
    /// It is in no room and its client has seen no event of it: perhaps its first `join` was lost with the connection, so that it would
    /// go on in no room, unnoticed.
    #[error("session is in no room and has received no event")]
    NothingToRecover,
}

impl NotRecovered {
    /// Every reason, in the order of their declaration.
    pub(crate) const ALL: [Self; 12] = [
        Self::ForeignEpoch,
        Self::UnknownPid,
        Self::OtherNamespace,
        Self::TooManyIntervals,
        Self::GivenUp,
        Self::Expired,
        Self::FutureOffset,
        Self::UnknownOffset,
        Self::OldOffset,
        Self::AckMissed,
        Self::Trimmed,
        Self::NothingToRecover,
    ];

    /// The label of its metric.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::ForeignEpoch => "foreign_epoch",
            Self::UnknownPid => "unknown_pid",
            Self::OtherNamespace => "other_namespace",
            Self::TooManyIntervals => "too_many_stays",
            Self::GivenUp => "given_up",
            Self::Expired => "expired",
            Self::FutureOffset => "future_offset",
            Self::UnknownOffset => "unknown_offset",
            Self::OldOffset => "old_offset",
            Self::AckMissed => "ack_missed",
            Self::Trimmed => "trimmed",
            Self::NothingToRecover => "nothing_to_recover",
        }
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

    /// What the application keeps with it, as JSON.
    pub(crate) fn data(self) -> Option<&'a str> {
        self.session.data()
    }

    /// The rooms it is in, without its own.
    pub(crate) fn rooms_now(self) -> impl Iterator<Item = &'a RoomName> {
        self.session.rooms_now()
    }
}
