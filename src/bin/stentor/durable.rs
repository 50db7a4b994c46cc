//! Rooms and durability of events that clients or the HTTP API publish.

use std::time::Duration;

use stentor::{Args, Broadcast, PublishError, Stored};

use super::error_code::ErrorCode;
use super::replies::{ErrorBody, Published};
use super::subscriber_bodies::QUEUE_OFF;

/// Options of a publish that concern the queue.
#[derive(Debug, Default, PartialEq)]
pub(super) struct DurableOptions {
    pub(super) durable: Option<bool>,
    pub(super) dedup_id: Option<String>,
    /// Time after which the event is removed, in milliseconds.
    pub(super) expires_in: Option<u64>,
}

impl DurableOptions {
    /// True if the event is to be stored. Refuses options that only a durable event has.
    pub(super) fn is_durable(&self) -> Result<bool, ErrorBody> {
        let set = [("dedup_id", self.dedup_id.is_some()), ("expires_in", self.expires_in.is_some())];
        match (self.durable == Some(true), set.into_iter().find(|(_, is_set)| *is_set)) {
            (false, Some((name, _))) => {
                Err(ErrorBody::new(ErrorCode::BadRequest, format!("{name}: expected \"durable\": true as well")))
            }
            (is_durable, _) => Ok(is_durable),
        }
    }

    /// Publishes an event, and completes when it is stored.
    pub(super) async fn publish(self, target: Broadcast, event: &str, args: Args) -> Result<Published, ErrorBody> {
        let mut durable = target.durable();
        if let Some(id) = &self.dedup_id {
            durable = durable.dedup_id(id);
        }
        if let Some(milliseconds) = self.expires_in {
            durable = durable.expires_in(Duration::from_millis(milliseconds));
        }
        Ok(durable.emit_confirmed(event, args).await?.into())
    }
}

/// The rooms of a client's event or of a change of rooms, which has `room` or `rooms`.
pub(super) fn target_rooms(
    room: Option<String>,
    rooms: Option<Vec<String>>,
    rooms_max: usize,
) -> Result<Vec<String>, String> {
    match (room, rooms) {
        (Some(room), None) => check_count(vec![room], 0, rooms_max),
        (None, Some(rooms)) if !rooms.is_empty() => check_count(rooms, 0, rooms_max),
        (None, Some(_)) => Err("rooms: expected one room at least, got none".to_owned()),
        (Some(_), Some(_)) => Err("room, rooms: expected one of them, got both".to_owned()),
        (None, None) => Err("room is missing, expected a string; or rooms, an array of strings".to_owned()),
    }
}

/// Checks the number of rooms. Those that an event excepts count as well.
pub(super) fn check_count(rooms: Vec<String>, excepted: usize, rooms_max: usize) -> Result<Vec<String>, String> {
    let count = rooms.len() + excepted;
    if count > rooms_max { Err(format!("{count} rooms exceed limit of {rooms_max}")) } else { Ok(rooms) }
}

impl From<Stored> for Published {
    fn from(stored: Stored) -> Self {
        let Stored { offset, duplicate, pending_for } = stored;
        Self { level: "stored", offset: Some(offset.to_string()), duplicate, pending_for: Some(pending_for) }
    }
}

impl From<PublishError> for ErrorBody {
    fn from(error: PublishError) -> Self {
        let code = match &error {
            PublishError::QueueOff
            | PublishError::Unsupported(_)
            | PublishError::Rooms { .. }
            | PublishError::DedupId => ErrorCode::BadRequest,
            PublishError::Conflict { .. } => ErrorCode::Conflict,
            PublishError::Overloaded { .. } | PublishError::HubOverloaded => ErrorCode::Overloaded,
            PublishError::TooLarge { .. } => ErrorCode::TooLarge,
            PublishError::Unavailable => ErrorCode::Unavailable,
            PublishError::Disconnected => ErrorCode::Disconnected,
            PublishError::Event(_) => ErrorCode::BadEvent,
            PublishError::Room(_) => ErrorCode::BadRoom,
            // The remaining error is Indeterminate.
            _ => ErrorCode::Indeterminate,
        };
        let message = match error {
            PublishError::QueueOff => format!("{QUEUE_OFF}, or publish without durable"),
            error => error.to_string(),
        };
        Self { code, message }
    }
}
