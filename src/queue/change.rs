//! The changes that a commit may contain, and the outcome of each.

use bytes::Bytes;
use thiserror::Error;

use super::limits::StoreLimits;
use super::record::{
    ContentHash, DEDUP_ID_BYTES_MAX, Gap, ORIGIN_BYTES_MAX, Payload, PublishReceipt, QueueOffset, ROOMS_MAX,
    SubscriberKey, UnixMillis,
};
use crate::ids::{NamespacePath, RoomName};

/// An event to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publish {
    pub namespace: NamespacePath,
    /// 1 to 1024 rooms; repeated ones count once.
    pub rooms: Vec<RoomName>,
    pub payload: Payload,
    /// Description of the publisher, with all that is needed to reveal the event after a restart.
    /// Opaque to the store, at most 4 KiB.
    pub origin: Bytes,
    pub dedup: Option<Dedup>,
    pub expires_at: Option<UnixMillis>,
}

/// Id under which a publisher may repeat an event. An id is unique within its namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dedup {
    /// 1 to 128 bytes.
    pub id: Bytes,
    pub content: ContentHash,
}

/// First event of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartPosition {
    Now,
    /// The first stored event after this offset.
    After(QueueOffset),
}

/// Events that a subscriber acknowledges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Acked {
    /// These, at most 1024. Numbers that are not pending for the subscriber are ignored.
    Numbers(Vec<u64>),
    /// All up to this number. Gaps stay, since the subscriber may not know them.
    UpTo(u64),
}

/// One change of a batch. Changes apply in order; a refused one leaves no trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Publish(Box<Publish>),
    /// Events up to here were revealed to connected members of their rooms. An event is freed,
    /// trimmed or expired only after it was revealed; an operator may remove it before.
    Revealed {
        up_to: u64,
    },
    /// Creates a subscriber, or marks an existing one as seen. One that had expired gets a gap.
    CreateSubscriber {
        subscriber: SubscriberKey,
    },
    /// Marks a subscriber as attached: it receives events from now on, and which of them it may
    /// have received is unknown until it is detached.
    Attach {
        subscriber: SubscriberKey,
        /// Creates the subscriber if it does not exist.
        create: bool,
    },
    /// Stores the newest event that a subscriber may have received, at the end of its attachment.
    Detach {
        subscriber: SubscriberKey,
        sent_up_to: u64,
    },
    /// Detaches the subscribers that an earlier process left attached: they may have received
    /// everything that is stored now. The first change of a process.
    DetachAll,
    /// Creates a subscription; an existing one stays as it is.
    Subscribe {
        subscriber: SubscriberKey,
        room: RoomName,
        from: StartPosition,
    },
    /// Ends a subscription, and with it what is pending through it alone.
    Unsubscribe {
        subscriber: SubscriberKey,
        room: RoomName,
    },
    Ack {
        subscriber: SubscriberKey,
        events: Acked,
    },
    /// Confirms gaps as they were reported. Events that were removed since, or that are pending,
    /// are not confirmed: they are reported by another gap. A gap that is not reported any more, or
    /// that has grown, is ignored, and so are those after 1024 events that are remembered singly.
    AckGaps {
        subscriber: SubscriberKey,
        gaps: Vec<Gap>,
    },
    /// Moves a pending event to the subscriber's dead letters. A reason is cut at 1 KiB.
    Term {
        subscriber: SubscriberKey,
        number: u64,
        /// Deliveries that have failed, if the last of them was not stored.
        attempts: Option<u32>,
        reason: String,
    },
    /// Stores the number of failed deliveries of a pending event, and when it is delivered again.
    DeliveryFailed {
        subscriber: SubscriberKey,
        number: u64,
        attempts: u32,
        /// The event is delivered while no other is in flight.
        alone: bool,
        retry_at: UnixMillis,
    },
    /// Publishes dead letters to their subscriber alone, under new numbers: at most 256 and about
    /// 1 MiB of them, so repeat the change while more are left. A damaged one is removed, and the
    /// subscriber gets a gap.
    ReplayDead {
        subscriber: SubscriberKey,
        /// These, at most 1024, or the oldest ones. Numbers that are no dead letters of the
        /// subscriber are ignored.
        numbers: Option<Vec<u64>>,
    },
    /// Removes what is pending for a subscriber up to a number; the subscriber receives a gap.
    PurgeSubscriber {
        subscriber: SubscriberKey,
        up_to: u64,
    },
    /// Removes the events of a room up to a number; its subscribers receive gaps.
    PurgeRoom {
        namespace: NamespacePath,
        room: RoomName,
        up_to: u64,
    },
    /// Removes an event whose stored bytes are damaged; its subscribers receive gaps.
    RemoveDamaged {
        number: u64,
    },
    RemoveSubscriber {
        subscriber: SubscriberKey,
    },
    /// Records that a subscriber is connected, which postpones its expiry.
    Touch {
        subscriber: SubscriberKey,
        seen_at: UnixMillis,
    },
    /// Removes whatever has expired, in at most about `budget` rows. Subscribers expire only if
    /// commits are less than an hour (or a quarter of `subscriber_expiry`) apart.
    Expire {
        budget: usize,
    },
}

/// Maximum number of events that one change names.
pub(crate) const ACKED_MAX: usize = 1024;

/// Bytes that each room of an event after the first counts for bounds of queues and batches: it
/// costs a row.
pub(crate) const ROOM_BYTES: usize = 1 << 10;

/// Bytes that a confirmed gap counts for bounds of queues and batches: the rooms of the subscriber
/// are searched for it.
const GAP_BYTES: usize = 2 << 10;

/// Bytes that a dead letter counts for bounds of queues and batches, whatever its event has.
const TERM_BYTES: usize = 64 << 10;

/// Longest reason of a dead letter, in bytes.
const REASON_BYTES_MAX: usize = 1024;

/// The reason as it is stored.
pub(crate) fn cut_reason(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)]
}

/// Maximum number of old dead letters that one new one removes.
pub(crate) const DEAD_REMOVED_MAX: usize = 16;

/// Maximum number of dead letters that one change replays.
pub(crate) const REPLAYED_MAX: usize = 256;

/// Bytes of dead letters after which one change replays no further one.
pub(crate) const REPLAYED_BYTES_MAX: usize = 1 << 20;

/// Result of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Published(PublishReceipt),
    /// The subscriber exists. `expired_at` is set if it was created again after it had expired.
    Created {
        is_new: bool,
        expired_at: Option<UnixMillis>,
    },
    /// The subscriber is attached. See [`Outcome::Created`] for the first two values.
    Attached {
        is_new: bool,
        expired_at: Option<UnixMillis>,
        /// The newest event that it may have received before. `None` if it was attached already.
        sent_up_to: Option<u64>,
    },
    /// Events after this number belong to the subscription.
    Subscribed {
        after: u64,
        is_new: bool,
    },
    /// Number of events that were pending and are acknowledged now.
    Acked {
        events: u64,
    },
    /// Dead letters that were replayed.
    Replayed {
        /// Their old and new numbers.
        events: Vec<(u64, u64)>,
        /// Others are left of those that were asked for: repeat the change.
        has_more: bool,
    },
    /// The outcome of [`Change::Expire`].
    Expired {
        /// Not everything that has expired was removed: repeat the change. What other changes leave
        /// over has no effect on reads, and is done by later commits.
        has_more: bool,
        /// Gaps arose since the last such change, by the removal of events.
        has_new_gaps: bool,
    },
    Refused(Refusal),
}

/// Why a change was not applied.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    /// Publish under another id.
    #[error("dedup_id was used for another event number={first}")]
    Conflict { first: u64 },
    /// Publish again later.
    #[error("queue is overloaded: {what} {found} of {limit}")]
    Overloaded { what: &'static str, found: u64, limit: u64 },
    #[error("event of {bytes} bytes exceeds limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("durable event has {rooms} rooms, expected 1 to {ROOMS_MAX}")]
    Rooms { rooms: usize },
    #[error("dedup_id has {bytes} bytes, expected 1 to {DEDUP_ID_BYTES_MAX}")]
    DedupId { bytes: usize },
    /// A defect of the caller.
    #[error("origin of {bytes} bytes exceeds limit of {ORIGIN_BYTES_MAX}")]
    Origin { bytes: usize },
    /// Create the subscriber first.
    #[error("subscriber does not exist")]
    UnknownSubscriber,
    /// Create the subscriber again; what was pending for it is gone.
    #[error("subscriber expired at={}", at.0)]
    SubscriberExpired { at: UnixMillis },
    #[error("queue has {limit} subscribers, the limit")]
    TooManySubscribers { limit: u64 },
    #[error("subscriber has {limit} subscriptions, the limit")]
    TooManySubscriptions { limit: u64 },
    #[error("offset belongs to another epoch of the queue")]
    ForeignEpoch,
    #[error("number {number} is beyond the newest event {head}")]
    BeyondHead { number: u64, head: u64 },
    #[error("event {number} is not pending for the subscriber")]
    NotPending { number: u64 },
    /// Commit several changes.
    #[error("change names {numbers} events, expected at most {ACKED_MAX}")]
    TooManyNumbers { numbers: usize },
    #[error("event {number} is not damaged")]
    NotDamaged { number: u64 },
    /// Begin a new queue.
    #[error("event numbers are used up")]
    Exhausted,
}

impl Publish {
    /// Checks what does not depend on the state of a store.
    pub(crate) fn check(&self, limits: &StoreLimits) -> Result<(), Refusal> {
        let (rooms, bytes) = (self.rooms.len(), self.payload.bytes());
        if !(1..=ROOMS_MAX).contains(&rooms) {
            return Err(Refusal::Rooms { rooms });
        }
        if bytes > limits.event_bytes_max {
            return Err(Refusal::TooLarge { bytes, limit: limits.event_bytes_max });
        }
        if self.origin.len() > ORIGIN_BYTES_MAX {
            return Err(Refusal::Origin { bytes: self.origin.len() });
        }
        match &self.dedup {
            Some(Dedup { id, .. }) if !(1..=DEDUP_ID_BYTES_MAX).contains(&id.len()) => {
                Err(Refusal::DedupId { bytes: id.len() })
            }
            _ => Ok(()),
        }
    }

    /// `expires_at`, at most the latest time that a store holds.
    pub(crate) fn expiry(&self) -> Option<UnixMillis> {
        self.expires_at.map(|at| at.min(UnixMillis(i64::MAX as u64)))
    }

    /// The rooms in order, each once.
    pub(crate) fn distinct_rooms(&self) -> Vec<&RoomName> {
        let mut rooms: Vec<&RoomName> = self.rooms.iter().collect();
        rooms.sort_unstable();
        rooms.dedup();
        rooms
    }
}

impl Change {
    /// Bytes that the change holds or may write, for bounds of queues and batches.
    pub(crate) fn bytes(&self) -> usize {
        let content = match self {
            Self::Publish(publish) => {
                publish.payload.bytes()
                    + publish.origin.len()
                    + publish.rooms.iter().map(|room| room.as_str().len() + 16).sum::<usize>()
                    + publish.rooms.len().saturating_sub(1) * ROOM_BYTES
            }
            Self::Ack { events: Acked::Numbers(numbers), .. } => numbers.len() * 8,
            Self::ReplayDead { numbers, .. } => {
                REPLAYED_BYTES_MAX + numbers.as_ref().map_or(0, |numbers| numbers.len() * 8)
            }
            Self::AckGaps { gaps, .. } => gaps.len() * GAP_BYTES,
            Self::Term { .. } => TERM_BYTES,
            _ => 0,
        };
        content + 128
    }
}
