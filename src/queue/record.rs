//! Values of the queue.

use std::fmt;
use std::hash::Hasher;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

pub(crate) use crate::ids::QueueOffset;
use crate::ids::{Lsn, NamespacePath, RoomName};

/// First number that no event gets, so that ack ids made of numbers stay exact in a JavaScript
/// number.
pub(crate) const NUMBER_END: u64 = Lsn::END;

/// Longest subscriber name, in bytes.
pub(crate) const SUBSCRIBER_NAME_BYTES_MAX: usize = 256;

/// Longest id for deduplication, in bytes.
pub(crate) const DEDUP_ID_BYTES_MAX: usize = 128;

/// Maximum number of rooms of an event.
pub(crate) const ROOMS_MAX: usize = 1024;

/// Longest origin of an event, in bytes.
pub(crate) const ORIGIN_BYTES_MAX: usize = 4096;

/// Milliseconds since 1970 by the clock of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct UnixMillis(pub u64);

impl UnixMillis {
    pub(crate) const fn plus(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }
}

/// Reason why a text is not a valid subscriber name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SubscriberNameError {
    /// The name has no character.
    #[error("subscriber name is empty")]
    Empty,
    /// The name has more than 256 bytes.
    #[error("subscriber name of {bytes} bytes exceeds limit of {SUBSCRIBER_NAME_BYTES_MAX}")]
    TooLong {
        /// Length of the name in bytes.
        bytes: usize,
    },
    /// The name contains this control character.
    #[error("subscriber name contains the control character {0:?}")]
    Control(char),
}

/// Name of a subscriber: 1 to 256 bytes without control characters. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SubscriberName(Arc<str>);

impl SubscriberName {
    pub(crate) fn parse(name: &str) -> Result<Self, SubscriberNameError> {
        if name.is_empty() {
            return Err(SubscriberNameError::Empty);
        }
        if name.len() > SUBSCRIBER_NAME_BYTES_MAX {
            return Err(SubscriberNameError::TooLong { bytes: name.len() });
        }
        match name.chars().find(|c| c.is_control()) {
            Some(control) => Err(SubscriberNameError::Control(control)),
            None => Ok(Self(name.into())),
        }
    }

    /// A name before all others, for listings.
    pub(crate) fn before_all() -> Self {
        Self(Arc::from(""))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SubscriberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Identity of a subscriber. Namespaces do not share names, since each has its own access rules.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SubscriberKey {
    pub namespace: NamespacePath,
    pub name: SubscriberName,
}

/// Content of an event, opaque to the store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Payload {
    pub text: Bytes,
    /// Binary attachments in their order, none for a text event.
    pub attachments: Vec<Bytes>,
}

impl Payload {
    pub(crate) fn bytes(&self) -> usize {
        self.text.len() + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }
}

/// Hash of the content of an event (FNV-1a, 128 bits), which tells a repeated `dedup_id` from a
/// conflicting one. The hash is stored, so the function must not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContentHash(pub u128);

impl ContentHash {
    pub(crate) fn of(rooms: &[RoomName], payload: &Payload) -> Self {
        let mut hasher = Fnv128(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        let mut rooms: Vec<&str> = rooms.iter().map(RoomName::as_str).collect();
        rooms.sort_unstable();
        rooms.dedup();
        let parts = rooms.iter().map(|room| room.as_bytes()).chain([&payload.text[..]]);
        for part in parts.chain(payload.attachments.iter().map(|part| &part[..])) {
            hasher.write(&(part.len() as u64).to_le_bytes());
            hasher.write(part);
        }
        hasher.write(&(rooms.len() as u64).to_le_bytes());
        Self(hasher.0)
    }
}

struct Fnv128(u128);

impl Hasher for Fnv128 {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }

    fn finish(&self) -> u64 {
        self.0 as u64
    }
}

/// A stored event as one reader receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DurableEvent {
    pub number: u64,
    /// The room through which the reader receives it.
    pub room: RoomName,
    pub published_at: UnixMillis,
    pub expires_at: Option<UnixMillis>,
    /// Description of the publisher, opaque to the store.
    pub origin: Bytes,
    pub payload: Payload,
    /// Number of the dead letter that was replayed as this event.
    pub replay_of: Option<u64>,
    /// Failed deliveries to the subscriber that reads.
    pub attempts: u32,
    /// The event is delivered to that subscriber while no other is in flight.
    pub alone: bool,
    /// Earliest time of the next delivery, after a failed one.
    pub retry_at: Option<UnixMillis>,
}

/// An event whose stored bytes are not those that were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DamagedEvent {
    pub number: u64,
    /// Error text that names file and row.
    pub error: String,
}

/// An event that a subscriber gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeadLetter {
    pub number: u64,
    pub room: RoomName,
    pub published_at: UnixMillis,
    pub origin: Bytes,
    pub payload: Payload,
    pub attempts: u32,
    pub reason: String,
    pub dead_at: UnixMillis,
}

/// Reason for which a subscriber did not receive a range of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum GapReason {
    /// Their `expires_in` ran out.
    Expired,
    /// A retention limit removed them.
    Trimmed,
    /// An operator removed them.
    Purged,
    /// Their stored bytes were damaged.
    Damaged,
    /// They were the oldest of too many dead letters.
    TooManyDead,
    /// A subscription asked for events of the past, some of which had been freed already.
    NotRetained,
    /// The queue was restored from a copy that does not have them.
    Restored,
}

impl GapReason {
    pub(crate) const ALL: [Self; 7] = [
        Self::Expired,
        Self::Trimmed,
        Self::Purged,
        Self::Damaged,
        Self::TooManyDead,
        Self::NotRetained,
        Self::Restored,
    ];

    /// The reason as clients receive it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Trimmed => "trimmed",
            Self::Purged => "purged",
            Self::Damaged => "damaged",
            Self::TooManyDead => "too_many_dead",
            Self::NotRetained => "not_retained",
            Self::Restored => "restored",
        }
    }

    /// Number of the reason in stored rows.
    pub(crate) const fn code(self) -> i64 {
        self as i64
    }

    pub(crate) fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}

/// A range of events that a subscriber did not receive and will not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gap {
    pub from: u64,
    pub to: u64,
    /// Number of events, if it is known.
    pub events: Option<u64>,
    pub reason: GapReason,
}

/// Maximum number of ranges that a subscriber has for one reason, apart from removed events. Past
/// it the two oldest become one.
const RANGES_MAX: usize = 64;

impl Gap {
    /// Adds a range to others of its reason, which are in order. Ranges that touch become one;
    /// others do not, since events may be pending between them.
    pub(crate) fn add_to(mut self, ranges: &mut Vec<Self>) {
        ranges.retain(|gap| {
            let is_apart = gap.to.saturating_add(1) < self.from || self.to.saturating_add(1) < gap.from;
            if !is_apart {
                self.merge(gap);
            }
            is_apart
        });
        let at = ranges.partition_point(|gap| gap.from < self.from);
        ranges.insert(at, self);
        if ranges.len() > RANGES_MAX {
            let oldest = ranges.remove(0);
            ranges[0].merge(&oldest);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.from = self.from.min(other.from);
        self.to = self.to.max(other.to);
        self.events = self.events.zip(other.events).map(|(a, b)| a + b);
    }
}

/// Answer to a publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PublishReceipt {
    pub offset: QueueOffset,
    /// The `dedup_id` was stored before: this is the offset of the first event, and nothing was
    /// stored now.
    pub duplicate: bool,
    /// Distinct subscribers that the event was pending for when it was stored.
    pub pending_for: u64,
    /// Time of the commit of the event.
    pub published_at: UnixMillis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SubscriberState {
    Active,
    /// The subscriber was away for longer than `subscriber_expiry`; its name is remembered.
    Expired {
        at: UnixMillis,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SubscriberInfo {
    pub key: SubscriberKey,
    pub state: SubscriberState,
    pub created_at: UnixMillis,
    pub seen_at: UnixMillis,
    pub rooms: Vec<RoomName>,
    pub dead_letters: u64,
}

/// Pending events of a subscriber, counted up to a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Backlog {
    pub events: u64,
    /// Publication time of the oldest.
    pub oldest_at: Option<UnixMillis>,
    /// The count stopped at its bound.
    pub is_capped: bool,
}

/// Sizes of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    /// The newest number that was given to an event.
    pub head: QueueOffset,
    /// Events up to here were revealed to connected members of their rooms.
    pub revealed: u64,
    pub events: u64,
    /// Bytes of events and dead letters, by [`event_bytes`].
    pub bytes: u64,
    pub subscribers: u64,
    pub dead_letters: u64,
    pub dedup_ids: u64,
}

/// Bytes that an event counts for `queue_bytes_max`: its content, and an estimate of its rows.
pub(crate) fn event_bytes(payload: &Payload, origin: &[u8], rooms: usize) -> u64 {
    (payload.bytes() + origin.len() + 64 + 24 * rooms) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_name_is_bounded_and_printable() {
        assert_eq!(SubscriberName::parse(""), Err(SubscriberNameError::Empty));
        assert_eq!(SubscriberName::parse(&"n".repeat(257)), Err(SubscriberNameError::TooLong { bytes: 257 }));
        assert_eq!(SubscriberName::parse("a\nb"), Err(SubscriberNameError::Control('\n')));
        assert!(SubscriberName::parse(&"n".repeat(256)).is_ok());
    }

    #[test]
    fn a_content_hash_is_stable_and_tells_contents_apart() {
        let room = |name: &str| RoomName::parse(name).unwrap();
        let payload = |text: &'static str| Payload { text: Bytes::from_static(text.as_bytes()), attachments: vec![] };
        let of = |rooms: &[&str], text| {
            ContentHash::of(&rooms.iter().map(|name| room(name)).collect::<Vec<_>>(), &payload(text)).0
        };
        assert_eq!(of(&["a", "b"], "x"), of(&["b", "a", "b"], "x"));
        assert_ne!(of(&["a"], "x"), of(&["b"], "x"));
        assert_ne!(of(&["a"], "x"), of(&["a"], "y"));
        assert_ne!(of(&["a"], "bx"), of(&["ab"], "x"));
        // Stored in queues of released versions.
        assert_eq!(of(&["a"], "x"), STABLE_HASH);
    }

    #[test]
    fn a_gap_reason_keeps_its_code() {
        let codes = GapReason::ALL.map(|reason| (reason.code(), reason.as_str()));
        let expected = [
            (0, "expired"),
            (1, "trimmed"),
            (2, "purged"),
            (3, "damaged"),
            (4, "too_many_dead"),
            (5, "not_retained"),
            (6, "restored"),
        ];
        assert_eq!(codes, expected);
        assert!(GapReason::ALL.into_iter().all(|reason| GapReason::from_code(reason.code()) == Some(reason)));
        assert_eq!(GapReason::from_code(7), None);
    }

    #[test]
    fn ranges_merge_if_they_touch_or_are_too_many() {
        let gap = |from, to| Gap { from, to, events: Some(1), reason: GapReason::TooManyDead };
        let mut ranges = Vec::new();
        for (from, to) in [(9, 9), (1, 2), (5, 5), (3, 3), (8, 8)] {
            gap(from, to).add_to(&mut ranges);
        }
        let found: Vec<_> = ranges.iter().map(|gap| (gap.from, gap.to, gap.events)).collect();
        assert_eq!(found, [(1, 3, Some(2)), (5, 5, Some(1)), (8, 9, Some(2))]);
        (0..100).for_each(|number| gap(100 + 2 * number, 100 + 2 * number).add_to(&mut ranges));
        assert_eq!((ranges.len(), ranges[0].from, ranges[63].to), (RANGES_MAX, 1, 298));
    }

    const STABLE_HASH: u128 = 59_401_905_726_009_428_624_546_316_661_556_909_155;
}
