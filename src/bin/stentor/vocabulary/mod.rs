//! The events that clients of `stentor serve` can emit.
//!
//! Errors are sent in the ack as `{"error":{"code","message"}}`. If the client has not requested an
//! ack, they are sent as the event `stentor:error`.

mod publish;
mod queue;

use serde::Serialize;
use serde::de::DeserializeOwned;

use stentor::{Ack, Args, Event, FromArgs, HandlerError, Namespace, Socket, ToArgs};

use self::publish::publish;
pub(crate) use self::queue::Access;
use self::queue::JoinOptions;
use super::error_code::ErrorCode;
use super::replies::{ErrorAnswer, ErrorBody};

/// Registers the events of clients, and refuses every other event. `access` is the rule by which
/// clients may be subscribers of the queue, `rooms_max` the maximum number of rooms of a publish.
pub(crate) fn install(namespace: Namespace, access: Access, rooms_max: usize) -> Namespace {
    let has_subscribers = !matches!(access, Access::Off);
    let namespace = queue::install(namespace, access);
    let namespace = if has_subscribers { of_subscribers(namespace) } else { namespace };
    let namespace = on(namespace, "join", |socket, args| async move { join(&socket, &args).await });
    let namespace = on(namespace, "leave", |socket, args| async move { leave(&socket, &args).await });
    let namespace =
        on(namespace, "publish", move |socket, args| async move { publish(&socket, &args, rooms_max).await });
    let namespace = on(namespace, "members", |socket, args| async move { members(&socket, &args).await });
    let namespace = on(namespace, "echo", |_, args| async move { Ok(args) });
    namespace.on_unhandled(move |socket, event: Event<Args>| async move {
        let queue = if has_subscribers { QUEUE_EVENTS } else { "" };
        let message = format!("event {:?} is not one of join, leave, publish, members, echo{queue}", &*event.name);
        answer(&socket, event.ack, Err::<(), _>(ErrorBody::new(ErrorCode::UnknownEvent, message))).await
    })
}

const QUEUE_EVENTS: &str = ", received, in_progress, pending, dead, replay_dead, pull";

/// Registers the events of subscribers.
fn of_subscribers(namespace: Namespace) -> Namespace {
    let namespace = on(namespace, "received", |socket, args| async move { queue::received(&socket, &args).await });
    let namespace =
        on(namespace, "in_progress", |socket, args| async move { queue::in_progress(&socket, &args).await });
    let namespace = on(namespace, "pending", |socket, _| async move { queue::pending(&socket).await });
    let namespace = on(namespace, "dead", |socket, args| async move { queue::dead(&socket, &args).await });
    let namespace =
        on(namespace, "replay_dead", |socket, args| async move { queue::replay_dead(&socket, &args).await });
    on(namespace, "pull", |socket, args| async move { queue::pull(&socket, &args).await })
}

/// Registers the handler of one event. The result of `handler` is sent in the ack.
fn on<T, R>(
    namespace: Namespace,
    name: &'static str,
    handler: impl Fn(Socket, Args) -> R + Copy + Send + Sync + 'static,
) -> Namespace
where
    T: ToArgs,
    R: Future<Output = Result<T, ErrorBody>> + 'static,
{
    namespace.on(name, move |socket, event: Event<Args>| async move {
        let done = handler(socket.clone(), event.data).await;
        answer(&socket, event.ack, done).await
    })
}

#[derive(Serialize)]
struct JoinReply {
    room: String,
    /// Number of sockets in the room, including this one.
    members: usize,
    offset: Option<String>,
    /// The socket's subscriber subscribes to the room.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    durable: bool,
}

#[derive(Serialize)]
struct LeaveReply {
    room: String,
}

#[derive(Serialize)]
struct MembersReply {
    members: Vec<String>,
}

async fn join(socket: &Socket, args: &Args) -> Result<JoinReply, ErrorBody> {
    let room = text(args, 0, "join", "room")?;
    let durable = queue::subscribe(socket, &room, JoinOptions::read(args)?).await?;
    let joined = socket.join(&room).await?;
    let offset = joined.offset.map(|offset| offset.to_string());
    Ok(JoinReply { room, members: joined.members, offset, durable })
}

async fn leave(socket: &Socket, args: &Args) -> Result<LeaveReply, ErrorBody> {
    let room = text(args, 0, "leave", "room")?;
    queue::unsubscribe(socket, &room).await?;
    socket.leave(&room).await?;
    Ok(LeaveReply { room })
}

async fn members(socket: &Socket, args: &Args) -> Result<MembersReply, ErrorBody> {
    let room = text(args, 0, "members", "room")?;
    let members = socket.all().to(room).socket_ids().await?;
    Ok(MembersReply { members: members.iter().map(ToString::to_string).collect() })
}

/// Parses the argument at `index`. Returns `None` if the argument is `null` or missing.
fn argument<T: DeserializeOwned>(args: &Args, index: usize) -> Result<Option<T>, serde_json::Error> {
    Option::from_args(args.skip(index))
}

/// Parses the argument at `index`, which must be a string. `what` describes the argument in errors.
fn text(args: &Args, index: usize, event: &str, what: &str) -> Result<String, ErrorBody> {
    let position = index + 1;
    let message = match argument(args, index) {
        Ok(Some(text)) => return Ok(text),
        Ok(None) => format!("{event}: argument {position} ({what}) is missing, expected a string"),
        Err(_) => format!("{event}: argument {position} ({what}) is not a string"),
    };
    Err(ErrorBody::new(ErrorCode::BadRequest, message))
}

/// Sends the result in the ack. If no ack was requested, errors are sent as an event.
async fn answer<T: ToArgs>(socket: &Socket, ack: Ack, done: Result<T, ErrorBody>) -> Result<(), HandlerError> {
    match done {
        Ok(reply) => ack.send(reply)?,
        Err(error) if ack.is_wanted() => ack.send(ErrorAnswer { error })?,
        Err(error) => socket.emit("stentor:error", ErrorAnswer { error }).await?,
    }
    Ok(())
}
