//! Looking into rooms over HTTP: which there are, and who is in one. Answers come a page at a time.

use actix_web::web::{Data, Path, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use stentor::Namespace;

use super::super::error_code::ErrorCode;
use super::super::replies::ErrorBody;
use super::{Api, answer};

/// Entries of a page where the request names no other number.
const PAGE: usize = 100;

#[derive(Serialize)]
struct Rooms {
    namespace: String,
    rooms: Vec<Room>,
    /// Where the next page begins: its `after`. None if this is the last.
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
    /// All of them, not only those of this page.
    members: usize,
    sockets: Vec<String>,
    next: Option<String>,
}

/// Serves `GET /api/v1/rooms?namespace=/&after=&limit=100`.
pub(super) async fn list(api: Data<Api>, request: HttpRequest) -> HttpResponse {
    let listed = async {
        api.admit_get(&request)?;
        let asked = Asked::read(&api, request.query_string())?;
        let rooms = asked.namespace.rooms().await?;
        let rooms = rooms.into_iter().map(|room| Room { name: room.name, members: room.members }).collect();
        let (rooms, next) = asked.page(rooms, |room| &room.name);
        Ok(Rooms { namespace: asked.namespace.path().to_owned(), rooms, next })
    };
    answer("GET", listed.await)
}

/// Serves `GET /api/v1/rooms/<room>?namespace=/&after=&limit=100`.
pub(super) async fn members(api: Data<Api>, request: HttpRequest, room: Path<String>) -> HttpResponse {
    let listed = async {
        api.admit_get(&request)?;
        let asked = Asked::read(&api, request.query_string())?;
        let room = room.into_inner();
        let sockets = asked.namespace.to(&room).socket_ids().await?;
        let mut sockets: Vec<String> = sockets.iter().map(ToString::to_string).collect();
        sockets.sort_unstable();
        let members = sockets.len();
        let (sockets, next) = asked.page(sockets, |socket| socket);
        Ok(Members { namespace: asked.namespace.path().to_owned(), room, members, sockets, next })
    };
    answer("GET", listed.await)
}

/// What a query asks for.
struct Asked {
    namespace: Namespace,
    after: Option<String>,
    limit: usize,
}

impl Asked {
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

    /// The page of `entries`, which are sorted by `name`, and what the next one begins after.
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
