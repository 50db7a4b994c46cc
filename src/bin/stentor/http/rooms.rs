//! Lists of rooms and of their members over HTTP, in pages.

use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::query::ListQuery;
use super::{Api, answer};

#[derive(Serialize)]
struct Rooms {
    namespace: String,
    rooms: Vec<Room>,
    /// Value of the parameter `after` that requests the next page. `None` on the last page.
    next: Option<String>,
}

#[derive(Serialize)]
struct Room {
    name: String,
    members: usize,
}

#[derive(Serialize)]
struct Members {
    namespace: String,
    room: String,
    /// Number of members of the room on all pages together.
    members: usize,
    sockets: Vec<String>,
    next: Option<String>,
}

/// Handles `GET /api/v1/rooms?namespace=/&after=&limit=100`.
pub(super) async fn list(api: Data<Api>, request: HttpRequest) -> HttpResponse {
    let listed = async {
        let query = ListQuery::read(&api, request.query_string())?;
        let rooms = query.namespace.rooms().await?;
        let rooms = rooms.into_iter().map(|room| Room { name: room.name, members: room.members }).collect();
        let (rooms, next) = query.page(rooms, |room| &room.name);
        Ok(Rooms { namespace: query.namespace.path().to_owned(), rooms, next })
    };
    answer(listed.await)
}

/// Handles `GET /api/v1/rooms/<room>?namespace=/&after=&limit=100`.
pub(super) async fn members(api: Data<Api>, request: HttpRequest, room: Path<String>) -> HttpResponse {
    let listed = async {
        let query = ListQuery::read(&api, request.query_string())?;
        let room = room.into_inner();
        let sockets = query.namespace.to(&room).socket_ids().await?;
        let mut sockets: Vec<String> = sockets.iter().map(ToString::to_string).collect();
        sockets.sort_unstable();
        let members = sockets.len();
        let (sockets, next) = query.page(sockets, |socket| socket);
        Ok(Members { namespace: query.namespace.path().to_owned(), room, members, sockets, next })
    };
    answer(listed.await)
}
