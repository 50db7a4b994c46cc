//! Users and sockets over HTTP: lists, publishing to them, changes of their rooms, disconnection.
//! The sockets of a user are the members of the user's room.

use actix_web::web::{self, Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse, Route};
use serde::Serialize;
use serde_json::value::RawValue;
use stentor::{DefaultAccess, Identity, Namespace, RoomError, Socket, SocketId};

use super::super::durable::target_rooms;
use super::super::error_code::ErrorCode;
use super::super::replies::{ErrorBody, Published};
use super::super::subscriber_bodies::unix_millis;
use super::super::vocabulary::{join_for_server, leave_for_server};
use super::body::{Fields, bad, excerpt, text};
use super::publish::Publish;
use super::query::{ListQuery, check_utf8};
use super::{Api, answer};

/// The clients that a request concerns.
pub(super) enum Target {
    /// The sockets in the room of a user.
    User(String),
    Socket(SocketId),
}

impl Target {
    pub(super) fn user(api: &Api, request: &HttpRequest, user: &str) -> Result<Self, ErrorBody> {
        check_utf8(request, user)?;
        api.settings.get().user_room(user).map(Self::User)
    }

    pub(super) fn socket(_: &Api, _: &HttpRequest, id: &str) -> Result<Self, ErrorBody> {
        let expected = || bad(format!("path: expected the id of a socket, 20 characters, got {:?}", excerpt(id)));
        SocketId::parse(id).map(Self::Socket).map_err(|_| expected())
    }

    /// Room whose members are the sockets of the target.
    fn room(&self) -> String {
        match self {
            Self::User(room) => room.clone(),
            Self::Socket(id) => id.to_string(),
        }
    }

    /// Connected sockets of the target. A socket that does not exist is an error, a user without
    /// sockets is none.
    async fn sockets(&self, namespace: &Namespace) -> Result<Vec<Socket>, ErrorBody> {
        let mut sockets = namespace.to(self.room()).fetch_sockets().await?;
        if let Self::Socket(id) = self {
            // A room may have the name of a socket.
            sockets.retain(|socket| socket.id() == *id);
            if sockets.is_empty() {
                return Err(not_connected(&id.to_string(), namespace));
            }
        }
        Ok(sockets)
    }
}

fn not_connected(id: &str, namespace: &Namespace) -> ErrorBody {
    let message = format!("socket {id} is not connected to namespace {:?}", namespace.path());
    ErrorBody::new(ErrorCode::NotFound, message)
}

#[derive(Serialize)]
struct UserBody {
    namespace: String,
    user: String,
    /// Number of sockets of the user on all pages together.
    count: usize,
    sockets: Vec<SocketBody>,
    next: Option<String>,
}

#[derive(Serialize)]
struct SocketBody {
    id: String,
    user: Option<String>,
    /// Information on the user, from the token or the hook of the client.
    info: Option<Box<RawValue>>,
    address: Option<String>,
    /// Arrival of the request that opened the connection, in milliseconds since the Unix epoch.
    connected_at: u64,
    recovered: bool,
}

impl From<&Socket> for SocketBody {
    fn from(socket: &Socket) -> Self {
        let (handshake, identity) = (socket.handshake(), Identity::of(socket));
        Self {
            id: socket.id().to_string(),
            user: identity.user().map(ToOwned::to_owned),
            info: identity.info.clone(),
            address: handshake.address().map(|address| address.to_string()),
            connected_at: unix_millis(handshake.received_at()),
            recovered: socket.recovered(),
        }
    }
}

/// A socket with its rooms.
#[derive(Serialize)]
struct SocketWithRooms {
    namespace: String,
    #[serde(flatten)]
    socket: SocketBody,
    rooms: Vec<String>,
}

/// Number of sockets that an operation was applied to.
#[derive(Serialize)]
struct Changed {
    sockets: usize,
}

/// Handles `GET /api/v1/users/<user>?namespace=/&after=&limit=100`.
pub(super) async fn user(api: Data<Api>, request: HttpRequest, user: Path<String>) -> HttpResponse {
    let listed = async {
        let query = ListQuery::read(&api, request.query_string())?;
        let user = user.into_inner();
        let sockets = Target::user(&api, &request, &user)?.sockets(&query.namespace).await?;
        let mut sockets: Vec<_> = sockets.iter().map(SocketBody::from).collect();
        sockets.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        let count = sockets.len();
        let (sockets, next) = query.page(sockets, |socket| &socket.id);
        Ok(UserBody { namespace: query.namespace.path().to_owned(), user, count, sockets, next })
    };
    answer(listed.await)
}

/// Handles `GET /api/v1/sockets/<socket>?namespace=/`.
pub(super) async fn socket(api: Data<Api>, request: HttpRequest, id: Path<String>) -> HttpResponse {
    let described = async {
        let namespace = ListQuery::namespace(&api, request.query_string())?;
        let sockets = Target::socket(&api, &request, &id)?.sockets(&namespace).await?;
        // One socket, or an error before.
        let socket = sockets.first().ok_or_else(|| not_connected(&id, &namespace))?;
        let rooms = socket.rooms().await.map_err(|error| match error {
            RoomError::Disconnected => not_connected(&id, &namespace),
            error => error.into(),
        })?;
        Ok(SocketWithRooms { namespace: namespace.path().to_owned(), socket: socket.into(), rooms })
    };
    answer(described.await)
}

/// An operation on the sockets of a target.
#[derive(Clone, Copy)]
pub(super) enum Operation {
    Publish,
    Join,
    Leave,
    Disconnect,
}

/// Route of an operation. `read` reads the parameter of the path.
pub(super) fn operation(
    read: fn(&Api, &HttpRequest, &str) -> Result<Target, ErrorBody>,
    operation: Operation,
) -> Route {
    web::to(move |api: Data<Api>, request: HttpRequest, id: Path<String>, payload: Payload| async move {
        let target = async {
            let target = read(&api, &request, &id)?;
            let body = match operation {
                Operation::Disconnect => api.read_optional(&request, payload).await?,
                _ => api.read_json(&request, payload).await?,
            };
            Ok((target, body))
        };
        let (target, body) = match target.await {
            Ok(target) => target,
            Err(refused) => return answer::<Changed>(Err(refused)),
        };
        match operation {
            Operation::Publish => answer(async { publish_to(&api, &target, text(&body)?).await }.await),
            Operation::Join => answer(async { change_rooms(&api, &target, text(&body)?, true).await }.await),
            Operation::Leave => answer(async { change_rooms(&api, &target, text(&body)?, false).await }.await),
            Operation::Disconnect => answer(async { disconnect(&api, &target, text(&body)?).await }.await),
        }
    })
}

async fn publish_to(api: &Api, target: &Target, body: &str) -> Result<Published, ErrorBody> {
    let rooms_max = api.settings.get().limits.rooms_max;
    Publish::read_to(body, target.room(), rooms_max)?.publish(api).await
}

/// Makes the sockets join or leave rooms. After an error, some may have done so.
async fn change_rooms(api: &Api, target: &Target, body: &str, is_join: bool) -> Result<Changed, ErrorBody> {
    let mut fields = Fields::read(body, "namespace, room, rooms")?;
    let namespace = fields.take_namespace()?;
    let room: Option<String> = fields.take("room", "a string")?;
    let rooms: Option<Vec<String>> = fields.take("rooms", "an array of strings")?;
    fields.end()?;
    let settings = api.settings.get();
    let rooms = target_rooms(room, rooms, settings.limits.rooms_max).map_err(bad)?;
    if let Some(room) = rooms.iter().find(|room| settings.rules.user_of(room).is_some()) {
        let message = format!("room {room:?} belongs to a user, the server alone joins and leaves it");
        return Err(ErrorBody::new(ErrorCode::BadRoom, message));
    }
    let sockets = target.sockets(&api.namespace(&namespace)?).await?;
    let mut changed = 0;
    // With this access, the client keeps its rooms anyway.
    let is_kept = settings.rules.join_default != DefaultAccess::Any;
    for socket in &sockets {
        let done = match is_join {
            true => join_for_server(socket, &rooms, is_kept).await,
            false => leave_for_server(socket, &rooms).await,
        };
        match done {
            Ok(()) => changed += 1,
            // The socket has disconnected since the list was made.
            Err(error) if error.code == ErrorCode::Disconnected => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Changed { sockets: changed })
}

async fn disconnect(api: &Api, target: &Target, body: &str) -> Result<Changed, ErrorBody> {
    let mut fields = Fields::read(if body.is_empty() { "{}" } else { body }, "namespace, reconnect")?;
    let namespace = fields.take_namespace()?;
    let reconnect: Option<bool> = fields.take("reconnect", "true or false")?;
    fields.end()?;
    let sockets = target.sockets(&api.namespace(&namespace)?).await?;
    for socket in &sockets {
        if reconnect == Some(true) {
            socket.close_transport();
        } else {
            socket.disconnect(false);
        }
    }
    Ok(Changed { sockets: sockets.len() })
}
