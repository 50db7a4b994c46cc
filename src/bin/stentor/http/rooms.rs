//! Lists of rooms and of their members over HTTP, in pages.

use actix_web::web::{Data, Path, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use stentor::Namespace;

use super::super::error_code::ErrorCode;
use super::super::replies::ErrorBody;
use super::{Api, answer};

/// Default number of entries per page.
const PAGE: usize = 100;

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
        api.admit_get(&request)?;
        let query = ListQuery::read(&api, request.query_string())?;
        let rooms = query.namespace.rooms().await?;
        let rooms = rooms.into_iter().map(|room| Room { name: room.name, members: room.members }).collect();
        let (rooms, next) = query.page(rooms, |room| &room.name);
        Ok(Rooms { namespace: query.namespace.path().to_owned(), rooms, next })
    };
    answer("GET", listed.await)
}

/// Handles `GET /api/v1/rooms/<room>?namespace=/&after=&limit=100`.
pub(super) async fn members(api: Data<Api>, request: HttpRequest, room: Path<String>) -> HttpResponse {
    let listed = async {
        api.admit_get(&request)?;
        let query = ListQuery::read(&api, request.query_string())?;
        let room = room.into_inner();
        let sockets = query.namespace.to(&room).socket_ids().await?;
        let mut sockets: Vec<String> = sockets.iter().map(ToString::to_string).collect();
        sockets.sort_unstable();
        let members = sockets.len();
        let (sockets, next) = query.page(sockets, |socket| socket);
        Ok(Members { namespace: query.namespace.path().to_owned(), room, members, sockets, next })
    };
    answer("GET", listed.await)
}

struct ListQuery {
    namespace: Namespace,
    after: Option<String>,
    limit: usize,
}

impl ListQuery {
    fn read(api: &Api, query: &str) -> Result<Self, ErrorBody> {
        let bad = |message: String| ErrorBody::new(ErrorCode::BadRequest, message);
        let pairs = Query::<Vec<(String, String)>>::from_query(query).map_err(|error| bad(error.to_string()))?;
        let (mut namespace, mut after, mut limit) = (String::from("/"), None, PAGE);
        let most = api.limits.page_entries_max;
        for (name, value) in pairs.into_inner() {
            match name.as_str() {
                "namespace" => namespace = value,
                "after" => after = Some(value),
                "limit" => match value.parse() {
                    Ok(number) if (1..=most).contains(&number) => limit = number,
                    _ => return Err(bad(format!("limit={value:?}: expected a number from 1 to {most}"))),
                },
                _ => return Err(bad(format!("unknown parameter {name:?}, expected namespace, after, limit"))),
            }
        }
        match api.io.find(&namespace) {
            Some(namespace) => Ok(Self { namespace, after, limit: limit.min(most) }),
            None => Err(ErrorBody::new(ErrorCode::UnknownNamespace, format!("namespace {namespace:?} does not exist"))),
        }
    }

    /// Returns one page of `entries`, which must be sorted by `name`, and the value of `after` for
    /// the next page.
    fn page<T>(&self, mut entries: Vec<T>, name: impl Fn(&T) -> &String) -> (Vec<T>, Option<String>) {
        if let Some(after) = &self.after {
            entries.drain(..entries.partition_point(|entry| name(entry) <= after));
        }
        let is_last = entries.len() <= self.limit;
        entries.truncate(self.limit);
        let next = entries.last().filter(|_| !is_last).map(|entry| name(entry).clone());
        (entries, next)
    }
}
