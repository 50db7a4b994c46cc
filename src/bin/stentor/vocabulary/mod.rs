//! The events that clients of `stentor serve` can emit.
//!
//! Errors are sent in the ack as `{"error":{"code","message"}}`. If the client has not requested an
//! ack, they are sent as the event `stentor:error`.

mod access;
pub(crate) mod counters;
mod expiry;
mod hooks;
mod publish;
mod queue;

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use stentor::{Ack, Args, Event, FromArgs, HandlerError, Namespace, Socket, ToArgs};

use self::access::Operation;
pub(crate) use self::access::{Policy, SharedPolicy};
pub(super) use self::access::{join_for_server, leave_for_server};
use self::hooks::EventError;
use self::publish::publish;
pub(crate) use self::queue::Access;
use self::queue::JoinOptions;
use super::error_code::ErrorCode;
use super::hooks::{Hook, in_turn};
use super::replies::ErrorBody;

/// Registers the events of clients, and refuses every other event. `policy` decides who may connect
/// and what clients may do.
pub(crate) fn install(namespace: Namespace, policy: impl Into<SharedPolicy>) -> Namespace {
    let policy: SharedPolicy = policy.into();
    let namespace = admit(namespace, &policy);
    let namespace =
        on(namespace, "join", &policy, |socket, args, policy| async move { join(&socket, &args, &policy).await });
    let namespace =
        on(namespace, "leave", &policy, |socket, args, policy| async move { leave(&socket, &args, &policy).await });
    let namespace =
        on(namespace, "publish", &policy, |socket, args, policy| async move { publish(&socket, &args, &policy).await });
    let namespace =
        on(namespace, "members", &policy, |socket, args, policy| async move { members(&socket, &args, &policy).await });
    let namespace =
        on(namespace, "token", &policy, |socket, args, policy| async move { renew(&socket, &args, &policy).await });
    let namespace = on(namespace, "echo", &policy, |_, args, _| async move { Ok::<_, EventError>(args) });
    let has_subscribers = !matches!(policy.get().subscribers, Access::Off);
    let namespace = if has_subscribers { of_subscribers(namespace, &policy) } else { namespace };
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
    let message = format!("event {name:?} is not one of join, leave, publish, members, token, echo{queue}");
    ErrorBody::new(ErrorCode::UnknownEvent, message)
}

const QUEUE_EVENTS: &str = ", received, in_progress, pending, dead, replay_dead, pull";

/// Registers what happens when clients connect and disconnect.
fn admit(namespace: Namespace, policy: &SharedPolicy) -> Namespace {
    let (identified, judged, named, connected) = (policy.clone(), policy.clone(), policy.clone(), policy.clone());
    namespace
        .with(move |socket| {
            let policy = identified.get();
            async move { access::identify(&socket, &policy).await }
        })
        .with(move |socket| {
            let policy = judged.get();
            async move { hooks::judge(&socket, &policy).await }
        })
        .with(move |socket| {
            let admitted = queue::admit(&socket, &named.get().subscribers);
            async { admitted }
        })
        .on_connection(move |socket| {
            let (shared, policy) = (connected.clone(), connected.get());
            async move {
                access::join_own_rooms(&socket, &policy).await;
                queue::attach_named(&socket, &policy).await;
                expiry::schedule(&socket);
                if policy.auth.is_some() {
                    socket.extensions().insert(shared);
                    access::watch_room_tokens(&socket);
                }
                Ok(())
            }
        })
        .on_disconnect(|socket, _| {
            expiry::forget(&socket);
            async { Ok(()) }
        })
}

/// Registers the events of subscribers.
fn of_subscribers(namespace: Namespace, policy: &SharedPolicy) -> Namespace {
    let namespace =
        on(namespace, "received", policy, |socket, args, _| async move { queue::received(&socket, &args).await });
    let namespace =
        on(namespace, "in_progress", policy, |socket, args, _| async move { queue::in_progress(&socket, &args).await });
    let namespace = on(namespace, "pending", policy, |socket, _, _| async move { queue::pending(&socket).await });
    let namespace = on(namespace, "dead", policy, |socket, args, _| async move { queue::dead(&socket, &args).await });
    let namespace =
        on(namespace, "replay_dead", policy, |socket, args, _| async move { queue::replay_dead(&socket, &args).await });
    on(namespace, "pull", policy, |socket, args, policy| async move { queue::pull(&socket, &args, &policy).await })
}

/// Registers the handler of one event. The result of `handler` is sent in the ack.
fn on<T, E, R>(
    namespace: Namespace,
    name: &'static str,
    policy: &SharedPolicy,
    handler: impl Fn(Socket, Args, Arc<Policy>) -> R + Copy + Send + Sync + 'static,
) -> Namespace
where
    T: ToArgs,
    EventError: From<E>,
    R: Future<Output = Result<T, E>> + 'static,
{
    let hook = Hook::of_event(name);
    let policy = policy.clone();
    namespace.on(name, move |socket, event: Event<Args>| {
        let policy = policy.get();
        async move {
            let bytes = event.data.byte_len();
            let done = match in_turn(&socket, hook, bytes, handler(socket.clone(), event.data, policy)).await {
                Ok(done) => done.map_err(EventError::from),
                Err(verdict) => Err(EventError::from_verdict(&socket, verdict)),
            };
            answer(&socket, event.ack, done).await
        }
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

#[derive(Serialize)]
struct RenewReply {
    /// Time at which the new token expires, in seconds since 1970.
    exp: Option<u64>,
}

async fn join(socket: &Socket, args: &Args, policy: &Policy) -> Result<JoinReply, EventError> {
    let room = text(args, 0, "join", "room")?;
    let options = JoinOptions::read(args)?;
    policy.check_join(socket, &room, options.token()).await?;
    let data = hooks::ask_join(socket, &room, args).await?;
    let durable = queue::subscribe(socket, &room, options).await?;
    let joined = socket.join(&room).await?;
    policy.confirm_join(socket, &room).await?;
    let offset = joined.offset.map(|offset| offset.to_string());
    Ok(JoinReply { room, members: joined.members, offset, durable, data })
}

async fn leave(socket: &Socket, args: &Args, policy: &Policy) -> Result<LeaveReply, ErrorBody> {
    let room = text(args, 0, "leave", "room")?;
    policy.check_leave(&room)?;
    queue::unsubscribe(socket, &room).await?;
    socket.leave(&room).await?;
    Ok(LeaveReply { room })
}

async fn renew(socket: &Socket, args: &Args, policy: &Policy) -> Result<RenewReply, EventError> {
    let token = text(args, 0, "token", "token")?;
    Ok(RenewReply { exp: policy.renew(socket, &token).await? })
}

async fn members(socket: &Socket, args: &Args, policy: &Policy) -> Result<MembersReply, ErrorBody> {
    let room = text(args, 0, "members", "room")?;
    policy.check(socket, Operation::Members, &[&room]).await?;
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
