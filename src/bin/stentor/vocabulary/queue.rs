//! Subscribers of the queue: clients that name one in `auth`, and the events with which they
//! subscribe and acknowledge.

use std::sync::Arc;
use std::time::Duration;

use actix_web::rt;
use serde::{Deserialize, Serialize};
use stentor::{Args, ConnectError, Identity, QueueError, Socket, Subscriber};

use super::super::error_code::ErrorCode;
use super::super::replies::{ErrorAnswer, ErrorBody};
use super::super::secret::Secret;
use super::super::signature::verify;
use super::super::subscriber_bodies::{DeadLettersBody, StoredEventsBody, SubscriberBody, parse_offset};
use super::access::{Operation, Policy};
use super::{argument, text};

/// Pause before a socket is attached again after the queue was unavailable. Doubles up to the
/// longest one.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Maximum and default number of events of one reply.
const EVENTS_MAX: usize = 1_000;
const EVENTS: usize = 100;

/// The rule by which clients may be subscribers.
#[derive(Clone)]
pub(crate) enum Access {
    Off,
    /// Every client under any name.
    Open,
    /// Clients with a signature of their name under this key.
    Signed(Secret),
    /// Clients with a token, under the name of their user, or under this name, `/` and the name of
    /// a device.
    Token,
}

/// The part of `auth` that names a subscriber.
#[derive(Deserialize)]
struct Auth {
    subscriber: Option<String>,
    signature: Option<String>,
}

/// The subscriber that the client of a socket has named and may be.
struct Named(String);

/// Admits a client that names a subscriber which it may be. Connection middleware.
pub(super) fn admit(socket: &Socket, access: &Access) -> Result<(), ConnectError> {
    let refused = |code: ErrorCode, message: String| {
        let data = serde_json::json!({ "code": code });
        Err(ConnectError::new(format!("subscriber: {message}")).with_data(data))
    };
    let auth: Auth = match socket.auth::<Option<serde_json::Map<String, serde_json::Value>>>() {
        Ok(Some(auth)) if auth.contains_key("subscriber") => match serde_json::from_value(auth.into()) {
            Ok(auth) => auth,
            Err(error) => {
                return refused(ErrorCode::BadRequest, format!("{error}; expected {{\"subscriber\": \"name\"}}"));
            }
        },
        _ => return Ok(()),
    };
    let Some(name) = auth.subscriber else { return Ok(()) };
    match (access, auth.signature) {
        (Access::Open, _) => {}
        (Access::Signed(key), Some(signature)) if verify(key, socket.namespace().path(), &name, &signature) => {}
        (Access::Signed(_), Some(_)) => {
            return refused(ErrorCode::Unauthorized, "signature is not that of the name".into());
        }
        (Access::Signed(_), None) => {
            return refused(ErrorCode::Unauthorized, "the server expects a signature of the name as well".into());
        }
        (Access::Token, _) => {
            if let Err(message) = check_user(&Identity::of(socket), &name) {
                return refused(ErrorCode::Forbidden, message);
            }
        }
        (Access::Off, _) => {
            let message = "this server has no subscribers: its setting `subscribers` is off";
            return refused(ErrorCode::BadRequest, message.into());
        }
    }
    if let Err(error) = socket.namespace().existing_subscriber(&name) {
        return refused(ErrorCode::BadRequest, error.to_string());
    }
    socket.extensions().insert(Named(name));
    Ok(())
}

/// Checks that the user of a token may be the subscriber `name`. Since a `/` separates user and
/// device, users with a `/` in their id could take each other's names, and cannot be subscribers.
fn check_user(identity: &Identity, name: &str) -> Result<(), String> {
    let Some(user) = identity.user() else {
        return Err("the server expects a token of a user (setting subscribers)".to_owned());
    };
    if user.contains('/') {
        return Err(format!("user {user:?} cannot be a subscriber, because of the / in its id"));
    }
    let device = name.strip_prefix(user).map(|rest| rest.strip_prefix('/'));
    match device {
        Some(None) if name == user => Ok(()),
        Some(Some(device)) if !device.is_empty() => Ok(()),
        _ => {
            Err(format!("name {name:?} is not that of the user, expected {user:?} or a name such as \"{user}/phone\""))
        }
    }
}

/// Attaches the socket of a client that has named a subscriber. Subscriptions of rooms that the
/// client may no longer join are ended before anything is delivered.
pub(super) async fn attach_named(socket: &Socket, policy: &Policy) {
    if let Some(named) = socket.extensions().get::<Named>() {
        unsubscribe_forbidden(socket, policy).await;
        attach(socket.clone(), named.0.clone()).await;
    }
}

/// Ends the subscriptions of the client's subscriber to rooms that the client may no longer join.
/// The client receives an error for each.
pub(super) async fn unsubscribe_forbidden(socket: &Socket, policy: &Policy) {
    let Some(named) = socket.extensions().get::<Named>() else { return };
    let Ok(subscriber) = socket.namespace().existing_subscriber(&named.0) else { return };
    let rooms = match subscriber.info().await {
        Ok(details) => details.rooms,
        // There is none yet, or it has expired.
        Err(error) if !may_pass(&error) => return,
        Err(error) => return end_connection(socket, &error),
    };
    for room in rooms.iter().filter(|room| !policy.keeps_now(socket, room)) {
        if let Err(error) = subscriber.unsubscribe(room).await
            && may_pass(&error)
        {
            return end_connection(socket, &error);
        }
        let message = format!("subscription of room {room:?} has ended: the client's token does not allow the room");
        let error = ErrorBody::new(ErrorCode::Forbidden, message);
        // Fails only if the socket has disconnected.
        let _ = socket.emit("stentor:error", ErrorAnswer { error }).await;
    }
}

/// Ends the subscription of a room for the server, also of a socket that is not attached yet. Does
/// nothing without a subscription.
///
/// Fails only if the queue cannot do it now.
pub(super) async fn end_subscription(socket: &Socket, room: &str) -> Result<(), QueueError> {
    let Some(named) = socket.extensions().get::<Named>() else { return Ok(()) };
    let Ok(subscriber) = socket.namespace().existing_subscriber(&named.0) else { return Ok(()) };
    match subscriber.unsubscribe(room).await {
        Err(error) if may_pass(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Ends the connection of a client whose subscriptions could not be judged, so that it comes back.
fn end_connection(socket: &Socket, error: &QueueError) {
    log::debug!("subscriptions not judged, the client has to come back socket={} error=\"{error}\"", socket.id());
    socket.close_transport();
}

/// Attaches a socket. While the queue is unavailable, tries again until the socket disconnects.
async fn attach(socket: Socket, name: String) {
    match socket.subscribe_as(&name).await {
        Ok(subscriber) => drop(socket.extensions().insert(subscriber)),
        Err(QueueError::Disconnected) => {}
        Err(error) if may_pass(&error) => {
            report(&socket, error).await;
            rt::spawn(attach_later(socket, name));
        }
        Err(error) => {
            report(&socket, error).await;
            socket.disconnect(false);
        }
    }
}

async fn attach_later(socket: Socket, name: String) {
    let mut pause = RETRY_MIN;
    loop {
        rt::time::sleep(pause).await;
        if !socket.is_connected() {
            return;
        }
        match socket.subscribe_as(&name).await {
            Err(error) if may_pass(&error) => pause = (pause * 2).min(RETRY_MAX),
            Ok(subscriber) => return drop(socket.extensions().insert(subscriber)),
            Err(error) => {
                report(&socket, error).await;
                return socket.disconnect(false);
            }
        }
    }
}

fn may_pass(error: &QueueError) -> bool {
    matches!(error, QueueError::Overloaded | QueueError::Unavailable | QueueError::Indeterminate)
}

async fn report(socket: &Socket, error: QueueError) {
    // Fails only if the socket has disconnected.
    let _ = socket.emit("stentor:error", ErrorAnswer { error: error.into() }).await;
}

/// The subscriber that the socket is attached to.
fn of(socket: &Socket, event: &str) -> Result<Arc<Subscriber>, ErrorBody> {
    socket.extensions().get::<Subscriber>().ok_or_else(|| {
        if socket.extensions().get::<Named>().is_some() {
            let message = format!("{event}: this socket is not attached to its subscriber yet, retry later");
            return ErrorBody::new(ErrorCode::Unavailable, message);
        }
        let message =
            format!("{event}: this socket is no subscriber; expected auth: {{subscriber: \"name\"}} at CONNECT");
        ErrorBody::new(ErrorCode::BadRequest, message)
    })
}

/// Options of `join`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct JoinOptions {
    durable: Option<bool>,
    from: Option<String>,
    token: Option<String>,
}

impl JoinOptions {
    /// Token for the room.
    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    pub(super) fn read(args: &Args) -> Result<Self, ErrorBody> {
        argument(args, 1).map(Option::unwrap_or_default).map_err(|error| {
            let message =
                format!("join: argument 2 (options): {error}; expected an object such as {{\"durable\": true}}");
            ErrorBody::new(ErrorCode::BadRequest, message)
        })
    }
}

/// Subscribes to a room if the options ask for that. Returns whether they did.
pub(super) async fn subscribe(socket: &Socket, room: &str, options: JoinOptions) -> Result<bool, ErrorBody> {
    let JoinOptions { durable, from, .. } = options;
    match (durable == Some(true), from) {
        (false, None) => return Ok(false),
        (false, Some(_)) => {
            return Err(ErrorBody::new(ErrorCode::BadRequest, "join: from: expected \"durable\": true as well"));
        }
        (true, None) => of(socket, "join")?.subscribe(room).await?,
        (true, Some(from)) => {
            let from = parse_offset(&from, "join", "from")?;
            of(socket, "join")?.subscribe_from(room, from).await?;
        }
    }
    Ok(true)
}

/// Ends the subscription of a room, if the socket has one.
pub(super) async fn unsubscribe(socket: &Socket, room: &str) -> Result<(), ErrorBody> {
    if socket.extensions().get::<Named>().is_some() {
        of(socket, "leave")?.unsubscribe(room).await?;
    }
    Ok(())
}

#[derive(Serialize)]
pub(super) struct ReceivedReply {
    up_to: String,
}

pub(super) async fn received(socket: &Socket, args: &Args) -> Result<ReceivedReply, ErrorBody> {
    let up_to = parse_offset(&text(args, 0, "received", "offset")?, "received", "argument 1 (offset)")?;
    of(socket, "received")?.ack_up_to(&up_to).await?;
    Ok(ReceivedReply { up_to: up_to.to_string() })
}

pub(super) async fn in_progress(socket: &Socket, args: &Args) -> Result<serde_json::Value, ErrorBody> {
    let offset = parse_offset(&text(args, 0, "in_progress", "offset")?, "in_progress", "argument 1 (offset)")?;
    of(socket, "in_progress")?.in_progress(&offset).await?;
    Ok(serde_json::json!({}))
}

pub(super) async fn pending(socket: &Socket) -> Result<SubscriberBody, ErrorBody> {
    Ok(of(socket, "pending")?.info().await?.into())
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct DeadOptions {
    after: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn dead(socket: &Socket, args: &Args) -> Result<DeadLettersBody, ErrorBody> {
    let DeadOptions { after, limit } = options(args, "dead", "{\"limit\": 10}")?;
    let after = after.map(|after| parse_offset(&after, "dead", "after")).transpose()?;
    Ok(of(socket, "dead")?.dead_letters(after, bounded(limit, "dead")?).await?.into())
}

#[derive(Serialize)]
pub(super) struct ReplayReply {
    replayed: usize,
}

pub(super) async fn replay_dead(socket: &Socket, args: &Args) -> Result<ReplayReply, ErrorBody> {
    #[derive(Deserialize, Default)]
    #[serde(deny_unknown_fields)]
    struct Options {
        offsets: Option<Vec<String>>,
    }
    let Options { offsets } = options(args, "replay_dead", "{\"offsets\": [\"…\"]}")?;
    let parsed = offsets.map(|offsets| {
        offsets.iter().map(|offset| parse_offset(offset, "replay_dead", "offsets")).collect::<Result<Vec<_>, _>>()
    });
    let parsed = parsed.transpose()?;
    let replayed = of(socket, "replay_dead")?.replay_dead(parsed.as_deref()).await?.len();
    Ok(ReplayReply { replayed })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PullOptions {
    rooms: Vec<String>,
    after: Option<String>,
    limit: Option<usize>,
    wait_ms: Option<u64>,
}

/// Reads stored events of rooms. Needs no subscriber.
pub(super) async fn pull(socket: &Socket, args: &Args, policy: &Policy) -> Result<StoredEventsBody, ErrorBody> {
    let expected = "{\"rooms\": [\"orders\"], \"limit\": 10}";
    let PullOptions { rooms, after, limit, wait_ms } = argument(args, 0)
        .map_err(|error| refused("pull", &error.to_string(), expected))?
        .ok_or_else(|| refused("pull", "argument is missing", expected))?;
    let after = after.map(|after| parse_offset(&after, "pull", "after")).transpose()?;
    let wait = Duration::from_millis(wait_ms.unwrap_or(0));
    policy.check(socket, Operation::Pull, &rooms).await?;
    Ok(socket.stored_events(rooms, after, bounded(limit, "pull")?, wait).await?.into())
}

fn options<T: for<'de> Deserialize<'de> + Default>(args: &Args, event: &str, expected: &str) -> Result<T, ErrorBody> {
    argument(args, 0).map(Option::unwrap_or_default).map_err(|error| refused(event, &error.to_string(), expected))
}

fn refused(event: &str, error: &str, expected: &str) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::BadRequest,
        format!("{event}: argument 1: {error}; expected an object such as {expected}"),
    )
}

fn bounded(limit: Option<usize>, event: &str) -> Result<usize, ErrorBody> {
    match limit.unwrap_or(EVENTS) {
        limit @ 1..=EVENTS_MAX => Ok(limit),
        limit => Err(ErrorBody::new(
            ErrorCode::BadRequest,
            format!("{event}: limit: found {limit}, expected 1 to {EVENTS_MAX}"),
        )),
    }
}
