//! Events in memory on their way to subscribers, and the packets that attached clients receive.

use std::sync::{Arc, OnceLock};

use serde::Serialize;

use crate::ids::{Epoch, NamespacePath, QueueOffset, RoomName};
use crate::protocol::draft::Draft;
use crate::protocol::encoded::Message;
use crate::protocol::socketio::Parser;
use crate::queue::committer::unix_millis;
use crate::queue::delivery::PendingEvent;
use crate::queue::payload::DeliveryInfo;
use crate::queue::record::{Backlog, DurableEvent, Gap, Payload, UnixMillis};
use crate::queue::service::RevealedEvent;

/// An event as its subscribers in one room receive it.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) offset: QueueOffset,
    pub(super) room: RoomName,
    pub(super) payload: Arc<Payload>,
    pub(super) published_at: UnixMillis,
    pub(super) expires_at: Option<UnixMillis>,
    /// The packet for subscribers that receive the event for the first time, encoded for the first
    /// of them. `None` inside if the payload is not that of an event.
    packet: OnceLock<Option<Message>>,
}

impl Content {
    pub(super) fn stored(event: DurableEvent, epoch: Epoch) -> PendingEvent<Arc<Self>> {
        let DurableEvent { number, room, payload, published_at, expires_at, attempts, alone, .. } = event;
        let (offset, payload) = (QueueOffset { epoch, number }, Arc::new(payload));
        let content = Self { offset, room, payload, published_at, expires_at, packet: OnceLock::new() };
        PendingEvent { number, attempts, alone, bytes: content.payload.bytes(), content: Arc::new(content) }
    }

    pub(super) fn live(event: &RevealedEvent, room: RoomName) -> Arc<Self> {
        let RevealedEvent { offset, payload, published_at, expires_at, .. } = event;
        Arc::new(Self {
            offset: *offset,
            room,
            payload: payload.clone(),
            published_at: *published_at,
            expires_at: *expires_at,
            packet: OnceLock::new(),
        })
    }

    /// By the wall clock, as the store does: the clock of deliveries may differ from it.
    pub(super) fn has_expired(&self) -> bool {
        self.expires_at.is_some_and(|at| at <= unix_millis())
    }

    pub(super) fn packet(&self, parser: Parser, namespace: &NamespacePath, redelivered: bool) -> Option<Message> {
        let encode = || {
            let info = DeliveryInfo { offset: self.offset, room: &self.room, redelivered };
            self.payload.packet(parser, namespace.clone(), &info)
        };
        if redelivered { encode() } else { self.packet.get_or_init(encode).clone() }
    }
}

/// Encodes events of the server itself for attached clients.
#[derive(Debug, Clone, Copy)]
pub(super) struct Notices {
    pub(super) parser: Parser,
    pub(super) epoch: Epoch,
}

/// Result of an attach, for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttachStatus {
    /// Nothing is missing.
    Resumed,
    /// Events were removed before the subscriber received them.
    Partial,
    /// The subscriber did not exist.
    New,
    /// The subscriber had expired, and what was pending for it is gone.
    Expired,
}

/// Reason why the server ends an attachment or pulling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Eviction {
    /// A socket was attached to the subscriber.
    Replaced,
    /// The subscriber was removed.
    Removed,
}

impl Eviction {
    fn as_str(self) -> &'static str {
        match self {
            Self::Replaced => "replaced",
            Self::Removed => "removed",
        }
    }
}

#[derive(Serialize)]
struct AttachedJson {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    pending: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pending_capped: bool,
    gaps: Vec<GapJson>,
}

#[derive(Serialize)]
struct GapJson {
    from: String,
    to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<u64>,
    reason: &'static str,
}

#[derive(Serialize)]
struct EvictedJson {
    reason: &'static str,
}

impl Notices {
    pub(super) fn attached(
        self,
        namespace: &NamespacePath,
        status: AttachStatus,
        backlog: Backlog,
        gaps: &[Gap],
    ) -> Message {
        let (status, reason) = match status {
            AttachStatus::Resumed => ("resumed", None),
            AttachStatus::Partial => ("partial", None),
            AttachStatus::New => ("reset", Some("new")),
            AttachStatus::Expired => ("reset", Some("expired")),
        };
        let gaps = gaps.iter().map(|gap| self.gap_json(gap)).collect();
        let (pending, pending_capped) = (backlog.events, backlog.is_capped);
        self.notice(namespace, "stentor:attached", &AttachedJson { status, reason, pending, pending_capped, gaps })
    }

    pub(super) fn gap(self, namespace: &NamespacePath, gap: &Gap) -> Message {
        self.notice(namespace, "stentor:gap", &self.gap_json(gap))
    }

    pub(super) fn evicted(self, namespace: &NamespacePath, eviction: Eviction) -> Message {
        self.notice(namespace, "stentor:evicted", &EvictedJson { reason: eviction.as_str() })
    }

    fn gap_json(self, gap: &Gap) -> GapJson {
        let token = |number| QueueOffset { epoch: self.epoch, number }.to_string();
        GapJson { from: token(gap.from), to: token(gap.to), events: gap.events, reason: gap.reason.as_str() }
    }

    fn notice(self, namespace: &NamespacePath, name: &str, data: &impl Serialize) -> Message {
        // Such values always have a JSON form.
        let json = serde_json::to_string(data).unwrap_or_default();
        Draft::event(self.parser, namespace.clone(), name, &json, Vec::new(), false).seal(None, None)
    }
}
