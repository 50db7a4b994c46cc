//! The part of hooks in the events of clients: which hook is asked, and what its answer changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use stentor::{Args, ConnectError, DataError, Identity, Socket};

use super::super::error_code::ErrorCode;
use super::super::hooks::{
    Actions, ArgsFields, Body, Client, ConnectBody, ConnectFields, EventBody, EventFields, Hook, Hooks, JoinBody,
    JoinFields, Line, PublishBody, PublishFields, Refusal, Verdict,
};
use super::super::replies::{ErrorBody, check_event_name};
use super::access::{Policy, SocketData, join_for_server, judge_resume, leave_for_server, room_grants};

/// Error of an event, for its ack: one of this server, or one of the back end.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum EventError {
    Own(ErrorBody),
    Hook(Refusal),
}

impl<E: Into<ErrorBody>> From<E> for EventError {
    fn from(error: E) -> Self {
        Self::Own(error.into())
    }
}

impl EventError {
    /// The error of an event to which the back end gave this answer, or none.
    pub(super) fn from_verdict(socket: &Socket, verdict: Verdict) -> Self {
        match verdict {
            Verdict::Refused(refusal) => Self::Hook(refusal),
            Verdict::Disconnect => {
                socket.disconnect(false);
                ErrorBody::new(ErrorCode::Disconnected, "disconnected by the back end").into()
            }
            Verdict::Unavailable => {
                ErrorBody::new(ErrorCode::Unavailable, "the back end gave no answer, retry later").into()
            }
        }
    }
}

/// Asks the back end about a client that connects, and stores the identity of the client.
/// Connection middleware after the client's token was verified. A client with a valid token is
/// asked about only with `hooks_connect_always`.
///
/// Then judges the session that the client is about to resume by this identity.
pub(super) async fn judge(socket: &Socket, policy: &Arc<Policy>) -> Result<(), ConnectError> {
    let Some(hooks) = &policy.hooks else {
        let granted = room_grants(socket, policy).await?;
        return judge_resume(socket, policy, None, granted).map_err(|error| ConnectError::new(error.to_string()));
    };
    let of_token = socket.extensions().get::<Identity>();
    let mut data = None;
    if hooks.asks(Hook::Connect) && (of_token.is_none() || hooks.asks_always()) {
        let asked = ask_connect(socket, hooks, of_token.as_deref()).await;
        let (identity, given) = asked.map_err(|verdict| refused_connect(socket, hooks, verdict))?;
        socket.extensions().insert(identity);
        data = given;
    }
    socket.extensions().insert(Line::new(hooks.clone()));
    let granted = room_grants(socket, policy).await?;
    judge_resume(socket, policy, data, granted)
        .map_err(|error| refused_connect(socket, hooks, hooks.wrong_answer(Hook::Connect, format!("data: {error}"))))
}

/// The identity of a client, and new data of the back end about it.
async fn ask_connect(
    socket: &Socket,
    hooks: &Hooks,
    of_token: Option<&Identity>,
) -> Result<(Identity, Option<Box<RawValue>>), Verdict> {
    let fields = connect_fields(socket, hooks, socket.auth().ok().flatten(), socket.recovered());
    let identity = of_token.cloned().unwrap_or_default();
    let client = Client { socket, identity: &identity, data: data_of(socket) };
    let body: ConnectBody = hooks.ask(Hook::Connect, &client, fields).await?;
    identified_with_data(hooks, identity, body)
}

fn connect_fields<'a>(
    socket: &'a Socket,
    hooks: &Hooks,
    auth: Option<Box<RawValue>>,
    recovering: bool,
) -> ConnectFields<'a> {
    let named = |name: &str| hooks.headers().iter().any(|wanted| wanted == name);
    let headers = socket.handshake().headers().filter(|(name, _)| named(name)).collect();
    ConnectFields { auth, headers, recovering }
}

/// Asks the back end about a client that has sent a new token, as about one that connects with it.
/// Returns the identity of the token as it is unless the connect hook is asked about tokens.
pub(super) async fn ask_renewal(
    socket: &Socket,
    token: &str,
    of_token: Identity,
) -> Result<(Identity, Option<Box<RawValue>>), EventError> {
    let line = Line::of(socket).filter(|line| line.hooks.asks_in_turn(Hook::Connect));
    let Some(line) = line else { return Ok((of_token, None)) };
    let fields = connect_fields(socket, &line.hooks, auth_with(socket, token), false);
    let client = Client { socket, identity: &of_token, data: data_of(socket) };
    let asked = line.ask::<ConnectBody>(Hook::Connect, &client, fields).await;
    let answered = asked.and_then(|body| identified_with_data(&line.hooks, of_token, body));
    answered.map_err(|verdict| EventError::from_verdict(socket, verdict))
}

/// The error of data of the connect hook that cannot be stored.
pub(super) fn wrong_data(socket: &Socket, error: &DataError) -> EventError {
    let report = |line: Arc<Line>| line.hooks.wrong_answer(Hook::Connect, format!("data: {error}"));
    EventError::from_verdict(socket, Line::of(socket).map_or(Verdict::Unavailable, report))
}

/// The `auth` that the client has sent, with this token.
fn auth_with(socket: &Socket, token: &str) -> Option<Box<RawValue>> {
    // An `auth` that is no object has no fields to keep.
    let mut auth: BTreeMap<String, Box<RawValue>> = socket.auth().unwrap_or_default();
    auth.insert("token".to_owned(), to_raw_value(token).ok()?);
    to_raw_value(&auth).ok()
}

fn identified_with_data(
    hooks: &Hooks,
    of_token: Identity,
    mut body: ConnectBody,
) -> Result<(Identity, Option<Box<RawValue>>), Verdict> {
    let data = body.data.take();
    let identity = identified(of_token, body).map_err(|error| hooks.wrong_answer(Hook::Connect, error.to_string()))?;
    Ok((identity, data))
}

/// The identity of a token, changed by the answer of the back end.
fn identified(of_token: Identity, body: ConnectBody) -> Result<Identity, stentor::IdentityError> {
    let user = body.user.or_else(|| of_token.user().map(str::to_owned));
    let mut identity = user.map_or_else(|| Ok(Identity::default()), Identity::of_user)?;
    match body.rooms {
        Some(rooms) => identity.set_rooms(rooms)?,
        None => identity.set_rooms(of_token.rooms())?,
    }
    identity.info = body.info.or(of_token.info);
    identity.permissions = of_token.permissions;
    for (given, kept) in [
        (body.join, &mut identity.permissions.join),
        (body.publish, &mut identity.permissions.publish),
        (body.members, &mut identity.permissions.members),
    ] {
        if let Some(given) = given {
            *kept = given;
        }
    }
    identity.namespaces = of_token.namespaces;
    identity.expires_at = match (body.expires_at, of_token.expires_at) {
        (Some(given), Some(of_token)) => Some(given.min(of_token)),
        (given, of_token) => given.or(of_token),
    };
    Ok(identity)
}

fn refused_connect(socket: &Socket, hooks: &Hooks, verdict: Verdict) -> ConnectError {
    match verdict {
        Verdict::Refused(refusal) => {
            hooks.log_refused_connect(socket, &refusal.code);
            let mut data = serde_json::json!({ "code": refusal.code });
            if let Some(more) = refusal.data.and_then(|data| serde_json::from_str(data.get()).ok()) {
                data["data"] = more;
            }
            ConnectError::new(refusal.message).with_data(data)
        }
        Verdict::Disconnect => {
            hooks.log_refused_connect(socket, "forbidden");
            ConnectError::new("disconnected by the back end").with_data(serde_json::json!({ "code": "forbidden" }))
        }
        Verdict::Unavailable => ConnectError::new("hook_unavailable: the back end gave no answer").temporary(),
    }
}

/// Data of the back end about a client.
fn data_of(socket: &Socket) -> Option<Box<RawValue>> {
    SocketData::of(socket).data
}

async fn ask<T: Body>(line: &Line, hook: Hook, socket: &Socket, fields: impl Serialize) -> Result<T, Verdict> {
    line.ask(hook, &Client { socket, identity: &Identity::of(socket), data: data_of(socket) }, fields).await
}

/// The line of a socket of which this hook is asked.
fn asking(socket: &Socket, hook: Hook) -> Option<Arc<Line>> {
    Line::of(socket).filter(|line| line.hooks.asks(hook))
}

/// Asks the back end about a join. Returns data for the ack.
pub(super) async fn ask_join(socket: &Socket, room: &str, args: &Args) -> Result<Option<Box<RawValue>>, EventError> {
    let Some(line) = asking(socket, Hook::Join) else { return Ok(None) };
    let options = args.get(1).and_then(|options| serde_json::from_str(options).ok());
    let answer = ask::<JoinBody>(&line, Hook::Join, socket, JoinFields { room, options }).await;
    let body = answer.map_err(|verdict| EventError::from_verdict(socket, verdict))?;
    Ok(body.data)
}

/// Asks the back end about an event that a client publishes. Returns the arguments to publish, or
/// `None` if the event is to be skipped.
pub(super) async fn ask_publish(
    socket: &Socket,
    rooms: &[String],
    event: &str,
    durable: bool,
    args: Args,
) -> Result<Option<Args>, EventError> {
    let Some(line) = asking(socket, Hook::Publish) else { return Ok(Some(args)) };
    let fields = PublishFields { rooms, event, durable, args: ArgsFields::new(&args) };
    let answer = ask::<PublishBody>(&line, Hook::Publish, socket, fields).await;
    let body = answer.map_err(|verdict| EventError::from_verdict(socket, verdict))?;
    match body.args() {
        _ if body.is_skipped() => Ok(None),
        Ok(replaced) => Ok(Some(replaced.unwrap_or(args))),
        Err(error) => Err(EventError::from_verdict(socket, line.hooks.wrong_answer(Hook::Publish, error))),
    }
}

/// Asks the back end about any other event, and does what it answers. Returns the arguments of the
/// ack. `None` if the back end is not asked about such events.
pub(super) async fn ask_event(
    socket: &Socket,
    event: &str,
    wants_ack: bool,
    args: &Args,
) -> Option<Result<Args, EventError>> {
    let line = asking(socket, Hook::Event)?;
    let fields = EventFields { event, wants_ack, args: ArgsFields::new(args) };
    let answer = ask::<EventBody>(&line, Hook::Event, socket, fields).await;
    let actions = answer.and_then(|body| body.actions().map_err(|error| line.hooks.wrong_answer(Hook::Event, error)));
    Some(match actions {
        Ok(actions) => act(socket, actions).await,
        Err(verdict) => Err(EventError::from_verdict(socket, verdict)),
    })
}

/// Does what the answer to an event asks for, up to the first error.
async fn act(socket: &Socket, actions: Actions) -> Result<Args, EventError> {
    join_for_server(socket, &actions.join, true).await?;
    for emission in actions.emit {
        check_event_name(&emission.event)?;
        let target = socket.all().to(emission.room);
        let target = emission.except.iter().fold(target, |target, room| target.except(room));
        target.emit(&emission.event, emission.args).await?;
    }
    leave_for_server(socket, &actions.leave).await?;
    Ok(actions.ack)
}
