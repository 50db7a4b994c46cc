//! The hub vocabulary: what clients of `stentor serve` can emit. Written on the public API alone.
//!
//! Errors come back in the ack as `{"error":{"code","message"}}`; without an ack, as the event `stentor:error`.

use std::num::NonZeroU32;
use std::time::Instant;

use serde::Serialize;

use super::rate::{self, Rate};
use super::replies::{Failure, Published, Refused};
use crate::api::ack::Ack;
use crate::api::args::ToArgs;
use crate::api::error::HandlerError;
use crate::api::event::Event;
use crate::api::namespace::Namespace;
use crate::api::socket::Socket;
use crate::protocol::socketio::packet::Args;

/// Registers `join`, `leave`, `publish`, `members` and `echo`, and refuses every other event. With a limit, each socket may
/// emit so many events per second, in bursts of twice that; more are answered `rate_limited`. The limit takes the namespace's
/// disconnect handler for itself.
pub fn install(namespace: Namespace, events_per_second: Option<NonZeroU32>) -> Namespace {
    let limit = events_per_second.map(Rate::new);
    let namespace = on(namespace, "join", limit, |socket, args| async move { join(&socket, &args).await });
    let namespace = on(namespace, "leave", limit, |socket, args| async move { leave(&socket, &args).await });
    let namespace = on(namespace, "publish", limit, |socket, args| async move { publish(&socket, &args).await });
    let namespace = on(namespace, "members", limit, |socket, args| async move { members(&socket, &args).await });
    let namespace = on(namespace, "echo", limit, |_, args| async move { Ok(args) });
    namespace
        .on_unhandled(move |socket, event: Event<Args>| async move {
            let message = format!("event {:?} is not one of join, leave, publish, members, echo", &*event.name);
            let failure = spend(&socket, limit).err().unwrap_or(Failure { code: "unknown_event", message });
            answer(&socket, event.ack, Err::<(), _>(failure)).await
        })
        .on_disconnect(move |socket, _| async move {
            if limit.is_some() {
                rate::forget(socket.id());
            }
            Ok(())
        })
}

/// Registers one event: what it does gives its ack.
fn on<T, R>(
    namespace: Namespace,
    name: &'static str,
    limit: Option<Rate>,
    handler: impl Fn(Socket, Args) -> R + Copy + Send + Sync + 'static,
) -> Namespace
where
    T: ToArgs,
    R: Future<Output = Result<T, Failure>> + 'static,
{
    namespace.on(name, move |socket, event: Event<Args>| async move {
        let done = match spend(&socket, limit) {
            Ok(()) => handler(socket.clone(), event.data).await,
            Err(failure) => Err(failure),
        };
        answer(&socket, event.ack, done).await
    })
}

/// Takes an event off what the socket may emit now.
fn spend(socket: &Socket, limit: Option<Rate>) -> Result<(), Failure> {
    let Some(limit) = limit else { return Ok(()) };
    match rate::spend(socket.id(), limit, Instant::now()) {
        true => Ok(()),
        false => {
            let message = format!("more than {} events per second; slow down", limit.per_second());
            Err(Failure { code: RATE_LIMITED, message })
        }
    }
}

/// The code of an event over the limit.
const RATE_LIMITED: &str = "rate_limited";

#[derive(Serialize)]
struct JoinReply {
    room: String,
    /// How many are in the room now, this socket included.
    members: usize,
    offset: Option<String>,
}

#[derive(Serialize)]
struct LeaveReply {
    room: String,
}

#[derive(Serialize)]
struct MembersReply {
    members: Vec<String>,
}

async fn join(socket: &Socket, args: &Args) -> Result<JoinReply, Failure> {
    let room = text(args, 0, "join", "room")?;
    refuse_durable(args.get(1))?;
    let joined = socket.join(&room).await?;
    Ok(JoinReply { room, members: joined.members, offset: joined.offset.map(|offset| offset.to_string()) })
}

async fn leave(socket: &Socket, args: &Args) -> Result<LeaveReply, Failure> {
    let room = text(args, 0, "leave", "room")?;
    socket.leave(&room).await?;
    Ok(LeaveReply { room })
}

async fn publish(socket: &Socket, args: &Args) -> Result<Published, Failure> {
    let Addressed { room, volatile } = addressed(args)?;
    let name = text(args, 1, "publish", "event")?;
    let broadcast = socket.everybody().to(room);
    let broadcast = if volatile { broadcast.volatile() } else { broadcast };
    let receipt = broadcast.emit_confirmed(&name, args.skip(2)).await?;
    Ok(receipt.into())
}

/// Where `publish` goes, and in which grade: an object in the place of the room's name.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Addressed {
    room: String,
    #[serde(default)]
    volatile: bool,
}

/// The first argument of `publish`.
fn addressed(args: &Args) -> Result<Addressed, Failure> {
    match args.get(0) {
        Some(object) if object.trim_start().starts_with('{') => serde_json::from_str(object).map_err(|error| {
            let expected = "expected a room or an object such as {\"room\": \"lobby\", \"volatile\": true}";
            Failure::new("bad_request", format!("publish: argument 1: {error}; {expected}"))
        }),
        _ => Ok(Addressed { room: text(args, 0, "publish", "room")?, volatile: false }),
    }
}

async fn members(socket: &Socket, args: &Args) -> Result<MembersReply, Failure> {
    let room = text(args, 0, "members", "room")?;
    let members = socket.everybody().to(room).socket_ids().await?;
    Ok(MembersReply { members: members.iter().map(ToString::to_string).collect() })
}

/// The argument at `index`, which must be a string.
fn text(args: &Args, index: usize, event: &str, what: &str) -> Result<String, Failure> {
    let position = index + 1;
    let message = match args.get(index).map(serde_json::from_str::<String>) {
        Some(Ok(text)) => return Ok(text),
        Some(Err(_)) => format!("{event}: argument {position} ({what}) is not a string"),
        None => format!("{event}: argument {position} ({what}) is missing, expected a string"),
    };
    Err(Failure { code: "bad_request", message })
}

/// Options of `join`: an object. A durable subscription is refused rather than silently not kept.
fn refuse_durable(options: Option<&str>) -> Result<(), Failure> {
    #[derive(serde::Deserialize)]
    struct Options {
        #[serde(default)]
        durable: bool,
    }
    let failure = |message: &str| Err(Failure { code: "bad_request", message: message.into() });
    match options.map(serde_json::from_str::<Options>) {
        None | Some(Ok(Options { durable: false })) => Ok(()),
        Some(Ok(Options { durable: true })) => failure("join: durable subscriptions need a queue, which is not set up"),
        Some(Err(_)) => failure("join: argument 2 (options) is not an object such as {\"durable\": false}"),
    }
}

/// Answers in the ack; a failure that nobody asked to hear of goes out as an event.
async fn answer<T: ToArgs>(socket: &Socket, ack: Ack, done: Result<T, Failure>) -> Result<(), HandlerError> {
    match done {
        Ok(reply) => ack.send(reply)?,
        Err(error) if ack.is_wanted() => ack.send(Refused { error })?,
        // A client that floods must not be answered with a flood.
        Err(error) if error.code == RATE_LIMITED && !rate::may_complain(socket.id(), Instant::now()) => {}
        Err(error) => socket.emit("stentor:error", Refused { error }).await?,
    }
    Ok(())
}
