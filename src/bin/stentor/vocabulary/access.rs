//! The policy by which clients connect, and act in rooms.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use stentor::{
    AccessRules, Auth, ConnectError, DataError, Identity, RoomAccess, RoomGrant, RoomPattern, Socket, SocketId,
    TokenError,
};

use super::super::error_code::ErrorCode;
use super::super::hooks::Hooks;
use super::super::live::Live;
use super::super::replies::{ErrorAnswer, ErrorBody};
use super::counters;
use super::expiry;
use super::hooks::{EventError, ask_renewal, wrong_data};
use super::queue::{self, Access};

/// Bytes beside `*` that a pattern needs to fit a room with the form of a socket's id. The ids are
/// random, so that a pattern with four fits one of 16 million; a pattern such as `doc-*` still fits
/// rooms whose names happen to have the length of an id.
const NAMED_BYTES_MIN: usize = 4;

/// The policy by which clients connect and act.
pub(crate) struct Policy {
    /// Verification of tokens. `None` if no keys of tokens are configured.
    pub(crate) auth: Option<Auth>,
    /// The hooks of the application's back end. `None` if none is asked.
    pub(crate) hooks: Option<Hooks>,
    /// Access in rooms that the tokens of clients do not name.
    pub(crate) rules: AccessRules,
    /// The rule by which clients may be subscribers of the queue.
    pub(crate) subscribers: Access,
    /// Maximum number of rooms of a publish.
    pub(crate) rooms_max: usize,
}

impl Policy {
    /// Every client may connect, and may do everything but act as another user.
    pub(crate) fn open(subscribers: Access, rooms_max: usize) -> Self {
        Self { auth: None, hooks: None, rules: AccessRules::open(), subscribers, rooms_max }
    }
}

/// The policy at this moment, which a reload of the configuration replaces. Subscribers are
/// admitted or not from the start on.
#[derive(Clone)]
pub(crate) struct SharedPolicy(Arc<Live<Policy>>);

impl SharedPolicy {
    pub(crate) fn get(&self) -> Arc<Policy> {
        self.0.get()
    }

    /// Replaces the policy except its hooks, which are those of the start. Rooms that clients are
    /// in already are not judged again.
    pub(crate) fn set(&self, policy: Policy) {
        self.0.set(Policy { hooks: self.get().hooks.clone(), ..policy });
    }
}

impl From<Policy> for SharedPolicy {
    fn from(policy: Policy) -> Self {
        Self(Live::new(policy))
    }
}

/// The data of a socket, which the journal keeps over a restart.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SocketData {
    /// The user to whom the session belongs. Only the same user resumes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    /// Rooms that the client has joined with tokens for one room, or the server for the client.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    rooms: BTreeMap<String, JoinedRoom>,
    /// Data of the application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<Box<RawValue>>,
}

impl SocketData {
    /// The data of a socket. Data that cannot be read is that of another program, and counts as
    /// none.
    pub(crate) fn of(socket: &Socket) -> Self {
        socket.data::<Option<Self>>().ok().flatten().unwrap_or_default()
    }

    /// Changes the data of a socket, also beside other threads. Data above the limit of the server
    /// is not stored.
    fn update(socket: &Socket, mut change: impl FnMut(&mut Self)) {
        let updated = socket.update_data(|data: &mut Option<Self>| change(data.get_or_insert_default()));
        if let Err(error) = updated {
            log::debug!("data of a socket not stored socket={} error=\"{error}\"", socket.id());
        }
    }

    /// The first expiry of a token for a room, in seconds since 1970. It may have passed.
    fn first_expiry(&self) -> Option<u64> {
        self.rooms.values().filter(|joined| !joined.by_server).filter_map(|joined| joined.exp).min()
    }

    /// Notes a token for a room, in place of an earlier one.
    fn permit(&mut self, room: &str, publish: bool, expires_at: u64) {
        let joined = self.rooms.entry(room.to_owned()).or_default();
        (joined.publish, joined.exp) = (publish, Some(expires_at));
    }

    /// Restores what was known of rooms.
    fn put_back(&mut self, earlier: &[(&String, Option<JoinedRoom>)]) {
        for (room, joined) in earlier {
            match joined {
                Some(joined) => drop(self.rooms.insert((*room).clone(), *joined)),
                None => drop(self.rooms.remove(*room)),
            }
        }
    }

    fn joined(&self, room: &str) -> Option<&JoinedRoom> {
        self.rooms.get(room).filter(|joined| joined.is_valid())
    }
}

/// A room in which a client is by a token for this room, or since the server has joined it.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
#[serde(default)]
struct JoinedRoom {
    /// True if the token permits to publish to the room as well.
    publish: bool,
    /// Time from which the token is no longer valid, in seconds since 1970. `None` without a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<u64>,
    /// The server has joined the room, and the client may stay until the server leaves it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    by_server: bool,
}

impl JoinedRoom {
    fn is_valid(&self) -> bool {
        self.by_server || self.has_token()
    }

    fn has_token(&self) -> bool {
        self.exp.is_some_and(|exp| unix_seconds(SystemTime::now()) < exp)
    }

    fn may_publish(&self) -> bool {
        self.publish && self.has_token()
    }
}

/// Joins rooms for the server. With `is_kept`, the client may stay in them whatever its token
/// allows. Stops at the first error; what was joined before stays.
pub(in super::super) async fn join_for_server(
    socket: &Socket,
    rooms: &[String],
    is_kept: bool,
) -> Result<(), ErrorBody> {
    let mut earlier = Vec::new();
    if is_kept && !rooms.is_empty() {
        // First, so that a renewal meanwhile does not leave the rooms.
        SocketData::update(socket, |data| {
            earlier = rooms.iter().map(|room| (room, data.rooms.get(room).copied())).collect();
            for room in rooms {
                data.rooms.entry(room.clone()).or_default().by_server = true;
            }
        });
    }
    for (joined, room) in rooms.iter().enumerate() {
        if let Err(error) = socket.join(room).await {
            let failed = earlier.get(joined..).unwrap_or_default();
            if !failed.is_empty() {
                SocketData::update(socket, |data| data.put_back(failed));
            }
            return Err(error.into());
        }
    }
    Ok(())
}

/// Leaves rooms for the server, and ends the client's subscriptions of them and what it was
/// permitted by a token for one of them or by a join of the server. Stops at the first error.
pub(in super::super) async fn leave_for_server(socket: &Socket, rooms: &[String]) -> Result<(), ErrorBody> {
    let data = SocketData::of(socket);
    if rooms.iter().any(|room| data.rooms.contains_key(room)) {
        // First, so that the client cannot join again meanwhile.
        SocketData::update(socket, |data| data.rooms.retain(|room, _| !rooms.contains(room)));
    }
    for room in rooms {
        leave_room(socket, room).await?;
    }
    Ok(())
}

/// An operation of a client in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Join,
    Publish,
    Members,
    /// Reading stored events, which members of the room may do.
    Pull,
}

impl Operation {
    pub(super) const ALL: [Self; 4] = [Self::Join, Self::Publish, Self::Members, Self::Pull];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Publish => "publish",
            Self::Members => "members",
            Self::Pull => "pull",
        }
    }

    /// The permissions or settings that allow the operation.
    const fn remedy(self) -> &'static str {
        match self {
            Self::Join | Self::Pull => {
                "a pattern in \"join\" of the client's token, a token for the room, or join_default"
            }
            Self::Publish => "a pattern in \"publish\" of the client's token, or publish_default",
            Self::Members => "a pattern in \"members\" of the client's token, or join_default",
        }
    }
}

/// Identifies a client by its token. Connection middleware.
pub(super) async fn identify(socket: &Socket, policy: &Policy) -> Result<(), ConnectError> {
    let Some(auth) = &policy.auth else {
        counters::connected(Ok(Identity::of(socket).user()));
        return Ok(());
    };
    match auth.identify(socket).await {
        Ok(identity) => {
            counters::connected(Ok(identity.user()));
            // The back end is asked about a client without a user.
            if identity.user().is_some() {
                socket.extensions().insert(identity);
            }
            Ok(())
        }
        Err(error) => {
            counters::connected(Err(&error));
            Err(refused(socket, error))
        }
    }
}

fn refused(socket: &Socket, error: TokenError) -> ConnectError {
    counters::log_refused(socket, &error);
    let is_temporary = error == TokenError::KeysUnavailable;
    let refusal = ConnectError::from(error);
    if is_temporary { refusal.temporary() } else { refusal }
}

/// Rooms with their tokens in the `auth` of a client.
#[derive(Deserialize)]
struct RoomTokens {
    room_tokens: BTreeMap<String, String>,
}

/// Rooms that a client may join by tokens for them.
#[derive(Default)]
pub(super) struct RoomGrants(BTreeMap<String, RoomGrant>);

/// Verifies the tokens for rooms that a client has sent in its `auth`, so that its subscriptions of
/// these rooms stay. Connection middleware after the client was identified. Their number is bounded
/// by the size of an `auth`.
pub(super) async fn room_grants(socket: &Socket, policy: &Policy) -> Result<RoomGrants, ConnectError> {
    let mut granted = RoomGrants::default();
    let (Some(auth), Ok(Some(sent))) = (&policy.auth, socket.auth::<Option<Map<String, Value>>>()) else {
        return Ok(granted);
    };
    if !sent.contains_key("room_tokens") {
        return Ok(granted);
    }
    let wrong = |code: ErrorCode, message: String| {
        ConnectError::new(format!("room_tokens: {message}")).with_data(serde_json::json!({ "code": code }))
    };
    let RoomTokens { room_tokens } = serde_json::from_value(sent.into()).map_err(|error| {
        wrong(ErrorCode::BadRequest, format!("{error}; expected tokens by room, such as {{\"chat:7\": \"…\"}}"))
    })?;
    let (identity, namespace) = (Identity::of(socket), socket.namespace());
    for (room, token) in room_tokens {
        if policy.rules.user_of(&room).is_some() {
            return Err(wrong(ErrorCode::Forbidden, format!("room {room:?} belongs to a user")));
        }
        let verified = auth.verify_room_token(&token, &identity, namespace.path(), &room).await;
        let grant = verified.map_err(|error| refused(socket, error))?;
        granted.0.insert(room, grant);
    }
    Ok(granted)
}

/// Judges the session that a client is about to resume by its new identity: another user gets a new
/// session, and rooms that the client may no longer join are left. Connection middleware after the
/// client was identified.
///
/// `given` is new data of the application, and `granted` are rooms by tokens for them.
pub(super) fn judge_resume(
    socket: &Socket,
    policy: &Arc<Policy>,
    given: Option<Box<RawValue>>,
    granted: RoomGrants,
) -> Result<(), DataError> {
    let identity = Identity::of(socket);
    let stored = socket.data::<Option<SocketData>>();
    let is_foreign = stored.is_err();
    let mut data = stored.ok().flatten().unwrap_or_default();
    if socket.recovered() && data.user.as_deref() != identity.user() {
        counters::other_user(socket);
        socket.decline_resume();
        data = SocketData::default();
    }
    let has_changed = is_foreign || given.is_some() || !granted.0.is_empty() || data.user.as_deref() != identity.user();
    data.user = identity.user().map(ToOwned::to_owned);
    data.data = given.or(data.data);
    for (room, grant) in &granted.0 {
        data.permit(room, grant.publish, grant.expires_at);
    }
    if has_changed {
        socket.set_data(&data)?;
    }
    if socket.recovered() {
        let policy = policy.clone();
        socket.retain_rooms(move |room| policy.keeps(&identity, &data, room));
    }
    Ok(())
}

/// Joins the rooms of the client's identity. Runs before the first event of the client is handled.
pub(super) async fn join_own_rooms(socket: &Socket, policy: &Policy) {
    let identity = Identity::of(socket);
    let own = identity.user_room().filter(|_| policy.rules.user_rooms);
    for room in own.iter().map(String::as_str).chain(identity.rooms()) {
        let is_foreign = policy.rules.user_of(room).is_some_and(|user| identity.user() != Some(user));
        let joined = if is_foreign {
            Err(ErrorBody::new(ErrorCode::Forbidden, "it belongs to another user"))
        } else {
            socket.join(room).await.map_err(ErrorBody::from)
        };
        if let Err(ErrorBody { code, message }) = joined {
            let error = ErrorBody::new(code, format!("room {room:?} of the token not joined: {message}"));
            // Fails only if the socket has disconnected.
            let _ = socket.emit("stentor:error", ErrorAnswer { error }).await;
        }
    }
}

/// Schedules the end of the client's tokens for rooms. Must be called on the worker of the socket.
pub(super) fn watch_room_tokens(socket: &Socket) {
    expiry::schedule_room(socket, SocketData::of(socket).first_expiry());
}

/// Leaves the rooms whose tokens have expired, ends their subscriptions, and notifies the client.
pub(super) async fn leave_expired(socket: &Socket) {
    let Some(policy) = socket.extensions().get::<SharedPolicy>() else { return };
    let policy = policy.get();
    let mut expired = SocketData::of(socket).rooms;
    expired.retain(|_, joined| !joined.is_valid());
    for room in expired.keys().filter(|room| !policy.keeps_now(socket, room)) {
        leave(socket, room).await;
        let error = ErrorBody::new(ErrorCode::TokenExpired, format!("room {room:?} left: its token has expired"));
        // Fails only if the socket has disconnected.
        let _ = socket.emit("stentor:error", ErrorAnswer { error }).await;
    }
    // A token that has expired meanwhile is not removed before its room is left.
    SocketData::update(socket, |data| {
        data.rooms.retain(|room, joined| joined.is_valid() || !expired.contains_key(room));
    });
    watch_room_tokens(socket);
}

impl Policy {
    /// Returns whether the client may stay in a room.
    fn keeps(&self, identity: &Identity, data: &SocketData, room: &str) -> bool {
        // That a client is a member says nothing about its right to stay.
        let may_join = self.rules.may_join(identity, room).allows(false);
        let is_given = || identity.rooms().any(|given| given == room) || data.joined(room).is_some();
        may_join || (self.rules.user_of(room).is_none() && is_given())
    }

    /// Returns whether the client may stay in a room, by its identity at this moment.
    pub(super) fn keeps_now(&self, socket: &Socket, room: &str) -> bool {
        self.keeps(&Identity::of(socket), &SocketData::of(socket), room)
    }

    /// Accepts an operation in rooms if the client may do it in each of them.
    pub(super) async fn check(
        &self,
        socket: &Socket,
        operation: Operation,
        rooms: &[impl AsRef<str>],
    ) -> Result<(), ErrorBody> {
        let identity = Identity::of(socket);
        let mut joined = None;
        for room in rooms.iter().map(AsRef::as_ref) {
            let access = match operation {
                Operation::Join | Operation::Pull => self.rules.may_join(&identity, room),
                Operation::Publish => self.may_publish(socket, &identity, room),
                Operation::Members => self.rules.may_list_members(&identity, room),
            };
            let is_member = match access {
                RoomAccess::IfMember => {
                    if joined.is_none() {
                        joined = Some(socket.rooms().await?.into_iter().collect::<HashSet<_>>());
                    }
                    joined.as_ref().is_some_and(|joined| joined.contains(room))
                }
                _ => false,
            };
            if !access.allows(is_member) && !self.is_granted(socket, operation, room) {
                return Err(forbidden(socket, operation, room));
            }
        }
        Ok(())
    }

    /// Access to publish. Patterns such as `*` are meant for the rooms of the application, not for
    /// the sockets of other clients.
    fn may_publish(&self, socket: &Socket, identity: &Identity, room: &str) -> RoomAccess {
        let is_of_another = SocketId::parse(room).is_ok_and(|id| id != socket.id());
        let is_meant = |pattern: &RoomPattern| {
            pattern.matches(room) && pattern.as_str().bytes().filter(|byte| *byte != b'*').count() >= NAMED_BYTES_MIN
        };
        if is_of_another && !identity.permissions.publish.iter().any(is_meant) {
            return self.rules.may_publish(&Identity::default(), room);
        }
        self.rules.may_publish(identity, room)
    }

    /// Returns whether a token for this room, or a join by the server, allows the operation.
    fn is_granted(&self, socket: &Socket, operation: Operation, room: &str) -> bool {
        if self.rules.user_of(room).is_some() {
            return false;
        }
        let data = SocketData::of(socket);
        data.joined(room).is_some_and(|joined| operation != Operation::Publish || joined.may_publish())
    }

    /// Accepts the join of a room, by the client's identity or by a token for the room.
    pub(super) async fn check_join(&self, socket: &Socket, room: &str, token: Option<&str>) -> Result<(), ErrorBody> {
        let Some(token) = token.filter(|_| self.rules.user_of(room).is_none()) else {
            return self.check(socket, Operation::Join, &[room]).await;
        };
        let Some(auth) = &self.auth else { return Err(no_tokens("join")) };
        let verified = auth.verify_room_token(token, &Identity::of(socket), socket.namespace().path(), room).await;
        let RoomGrant { publish, expires_at: exp, .. } =
            verified.inspect_err(|error| counters::log_refused(socket, error))?;
        SocketData::update(socket, |data| data.permit(room, publish, exp));
        watch_room_tokens(socket);
        Ok(())
    }

    /// Leaves a room that the client has joined, if its identity was replaced meanwhile by one that
    /// does not allow the room.
    pub(super) async fn confirm_join(&self, socket: &Socket, room: &str) -> Result<(), ErrorBody> {
        if self.keeps_now(socket, room) {
            return Ok(());
        }
        leave(socket, room).await;
        Err(forbidden(socket, Operation::Join, room))
    }

    /// Accepts the leave of a room.
    pub(super) fn check_leave(&self, room: &str) -> Result<(), ErrorBody> {
        if self.rules.may_leave(room) {
            return Ok(());
        }
        let message = format!("leave: room {room:?} belongs to a user, whose sockets are always in it");
        Err(ErrorBody::new(ErrorCode::Forbidden, message))
    }

    /// Replaces the identity of a client by that of a new token of the same user, as the connect
    /// hook changes it if it is asked about tokens. Returns the time at which it expires, in
    /// seconds since 1970.
    pub(super) async fn renew(&self, socket: &Socket, token: &str) -> Result<Option<u64>, EventError> {
        let Some(auth) = &self.auth else { return Err(no_tokens("token").into()) };
        let verified = auth.verify(token).await.map_err(|error| refused_renewal(socket, &error))?;
        let (identity, data) = ask_renewal(socket, token, verified).await?;
        check_renewal(socket, &identity).map_err(|error| refused_renewal(socket, &error))?;
        keep_data(socket, data).map_err(|error| wrong_data(socket, &error))?;
        let expires_at = identity.expires_at;
        socket.extensions().insert(identity);
        counters::renewed(Ok(()));
        expiry::schedule(socket);
        join_own_rooms(socket, self).await;
        self.leave_forbidden(socket).await;
        Ok(expires_at)
    }

    /// Leaves the rooms that the client may no longer be in, and ends its subscriptions of them.
    async fn leave_forbidden(&self, socket: &Socket) {
        queue::unsubscribe_forbidden(socket, self).await;
        match socket.rooms().await {
            Ok(rooms) => {
                for room in rooms.iter().filter(|room| !self.keeps_now(socket, room)) {
                    leave(socket, room).await;
                }
            }
            // The client comes back, and its rooms are judged then.
            Err(_) => socket.close_transport(),
        }
    }
}

/// Accepts a new identity of a connected client.
fn check_renewal(socket: &Socket, renewed: &Identity) -> Result<(), TokenError> {
    if renewed.user() != Identity::of(socket).user() {
        return Err(TokenError::OtherUser);
    }
    if !renewed.may_connect_to(socket.namespace().path()) {
        return Err(TokenError::Namespace);
    }
    Ok(())
}

/// Stores new data of the application.
fn keep_data(socket: &Socket, given: Option<Box<RawValue>>) -> Result<(), DataError> {
    let Some(given) = given else { return Ok(()) };
    socket.update_data(|data: &mut Option<SocketData>| data.get_or_insert_default().data = Some(given.clone()))
}

fn refused_renewal(socket: &Socket, error: &TokenError) -> ErrorBody {
    counters::renewed(Err(error));
    counters::log_refused(socket, error);
    error.clone().into()
}

/// Leaves a room for the server, and ends the client's subscription of it.
async fn leave_room(socket: &Socket, room: &str) -> Result<(), ErrorBody> {
    let ended = queue::end_subscription(socket, room).await;
    socket.leave(room).await?;
    Ok(ended?)
}

/// Leaves a room that the client may no longer be in. If that fails, the connection is closed: the
/// client's rooms are judged when it comes back.
async fn leave(socket: &Socket, room: &str) {
    if leave_room(socket, room).await.is_err() {
        socket.close_transport();
    }
}

fn forbidden(socket: &Socket, operation: Operation, room: &str) -> ErrorBody {
    counters::forbidden(socket, operation, room);
    let (name, remedy) = (operation.name(), operation.remedy());
    let message = format!("{name}: room {room:?}: permission is missing, expected {remedy}");
    ErrorBody::new(ErrorCode::Forbidden, message)
}

fn no_tokens(event: &str) -> ErrorBody {
    let message = format!("{event}: this server has no keys of tokens: set token_hmac_key or another key");
    ErrorBody::new(ErrorCode::BadRequest, message)
}

/// Seconds since 1970.
fn unix_seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl From<TokenError> for ErrorBody {
    fn from(error: TokenError) -> Self {
        let code = match error.code() {
            "forbidden" => ErrorCode::Forbidden,
            "token_expired" => ErrorCode::TokenExpired,
            "token_missing" => ErrorCode::TokenMissing,
            "token_not_yet_valid" => ErrorCode::TokenNotYetValid,
            "unavailable" => ErrorCode::Unavailable,
            _ => ErrorCode::TokenInvalid,
        };
        Self::new(code, error.to_string())
    }
}
