//! The events that clients of `stentor serve` can emit.
//!
//! Errors are sent in the ack as `{"error":{"code","message"}}`. If the client has not requested an
//! ack, they are sent as the event `stentor:error`.

mod hooks;
mod publish;
mod queue;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use stentor::{Ack, Args, Event, FromArgs, HandlerError, Namespace, Socket, ToArgs};

use self::hooks::EventError;
use self::publish::publish;
pub(crate) use self::queue::Access;
use self::queue::JoinOptions;
use super::error_code::ErrorCode;
use super::hooks::{Hook, Hooks, in_turn};
use super::replies::ErrorBody;

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
    let namespace = on(namespace, "echo", |_, args| async move { Ok::<_, EventError>(args) });
    namespace.on_unhandled(move |socket, event: Event<Args>| async move {
        let (name, wants_ack, args) = (&*event.name, event.ack.is_wanted(), &event.data);
        let done = in_turn(&socket, Some(Hook::Event), args.byte_len(), async {
            match hooks::ask_event(&socket, name, wants_ack, args).await {
                Some(done) => done,
                None => Err(unknown_event(name, has_subscribers).into()),
            }
        });
        let done = done.await.unwrap_or_else(|verdict| Err(EventError::from_verdict(&socket, verdict)));
        answer(&socket, event.ack, done).await
    })
}

fn unknown_event(name: &str, has_subscribers: bool) -> ErrorBody {
    let queue = if has_subscribers { QUEUE_EVENTS } else { "" };
    let message = format!("event {name:?} is not one of join, leave, publish, members, echo{queue}");
    ErrorBody::new(ErrorCode::UnknownEvent, message)
}

/// Asks the back end about clients that connect, and about their events.
pub(crate) fn install_hooks(namespace: Namespace, hooks: Hooks) -> Namespace {
    namespace.with(move |socket| {
        let hooks = hooks.clone();
        async move { hooks::connect(&socket, &hooks).await }
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
fn on<T, E, R>(
    namespace: Namespace,
    name: &'static str,
    handler: impl Fn(Socket, Args) -> R + Copy + Send + Sync + 'static,
) -> Namespace
where
    T: ToArgs,
    EventError: From<E>,
    R: Future<Output = Result<T, E>> + 'static,
{
    let hook = Hook::named(name);
    namespace.on(name, move |socket, event: Event<Args>| async move {
        let bytes = event.data.byte_len();
        let done = match in_turn(&socket, hook, bytes, handler(socket.clone(), event.data)).await {
            Ok(done) => done.map_err(EventError::from),
            Err(verdict) => Err(EventError::from_verdict(&socket, verdict)),
        };
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
    /// Data of the join hook.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
}

/// Reply to a failed event: `{"error":{"code","message"}}`.
#[derive(Serialize)]
struct ErrorReply {
    error: EventError,
}

#[derive(Serialize)]
struct LeaveReply {
    room: String,
}

#[derive(Serialize)]
struct MembersReply {
    members: Vec<String>,
}

async fn join(socket: &Socket, args: &Args) -> Result<JoinReply, EventError> {
    let room = text(args, 0, "join", "room")?;
    let options = JoinOptions::read(args)?;
    let data = hooks::ask_join(socket, &room, args).await?;
    let durable = queue::subscribe(socket, &room, options).await?;
    let joined = socket.join(&room).await?;
    let offset = joined.offset.map(|offset| offset.to_string());
    Ok(JoinReply { room, members: joined.members, offset, durable, data })
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
async fn answer<T: ToArgs>(socket: &Socket, ack: Ack, done: Result<T, EventError>) -> Result<(), HandlerError> {
    match done {
        Ok(reply) => ack.send(reply)?,
        Err(error) if ack.is_wanted() => ack.send(ErrorReply { error })?,
        Err(error) => socket.emit("stentor:error", ErrorReply { error }).await?,
    }
    Ok(())
}
