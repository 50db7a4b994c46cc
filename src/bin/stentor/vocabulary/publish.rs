//! The event `publish` of clients.

use serde::Deserialize;
use stentor::{Args, FromArgs, Socket};

use super::super::durable::{DurableOptions, target_rooms};
use super::super::error_code::ErrorCode;
use super::super::replies::{ErrorBody, Published, check_event_name};
use super::access::{Operation, Policy};
use super::hooks::{EventError, ask_publish};
use super::text;

pub(super) async fn publish(socket: &Socket, args: &Args, policy: &Policy) -> Result<Published, EventError> {
    let Addressed { rooms, volatile, options } = addressed(args, policy.rooms_max)?;
    let name = text(args, 1, "publish", "event")?;
    check_event_name(&name)?;
    let is_durable = options.is_durable()?;
    policy.check(socket, Operation::Publish, &rooms).await?;
    let Some(args) = ask_publish(socket, &rooms, &name, is_durable, args.skip(2)).await? else {
        return Ok(Published::skipped());
    };
    let broadcast = rooms.iter().fold(socket.all(), |broadcast, room| broadcast.to(room));
    let broadcast = if volatile { broadcast.volatile() } else { broadcast };
    if is_durable {
        return Ok(options.publish(broadcast, &name, args).await?);
    }
    Ok(broadcast.emit_confirmed(&name, args).await?.into())
}

/// Rooms and options of an event.
struct Addressed {
    rooms: Vec<String>,
    volatile: bool,
    options: DurableOptions,
}

/// First argument of `publish`, if the argument is an object instead of a room name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    room: Option<String>,
    rooms: Option<Vec<String>>,
    volatile: Option<bool>,
    durable: Option<bool>,
    dedup_id: Option<String>,
    expires_in: Option<u64>,
}

fn addressed(args: &Args, rooms_max: usize) -> Result<Addressed, ErrorBody> {
    let is_object = args.get(0).is_some_and(|argument| argument.starts_with('{'));
    if !is_object {
        let rooms = vec![text(args, 0, "publish", "room")?];
        return Ok(Addressed { rooms, volatile: false, options: DurableOptions::default() });
    }
    let refused = |error: String| ErrorBody::new(ErrorCode::BadRequest, format!("publish: argument 1: {error}"));
    let expected = "expected a room or an object such as {\"room\": \"lobby\", \"durable\": true}";
    let options = Options::from_args(args.clone()).map_err(|error| refused(format!("{error}; {expected}")))?;
    let Options { room, rooms, volatile, durable, dedup_id, expires_in } = options;
    let rooms = target_rooms(room, rooms, rooms_max).map_err(refused)?;
    let options = DurableOptions { durable, dedup_id, expires_in };
    Ok(Addressed { rooms, volatile: volatile == Some(true), options })
}
