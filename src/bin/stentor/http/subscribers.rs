//! Subscribers of the queue over HTTP: creation, pulls, acknowledgements, dead letters.

use std::time::Duration;

use actix_web::http::Method;
use actix_web::web::{self, Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse, Route};
use serde::Serialize;
use stentor::{Namespace, Pulled, QueueError, QueueOffset, Subscriber, SubscriberSummary};

use super::super::error_code::ErrorCode;
use super::super::replies::ErrorBody;
use super::super::subscriber_bodies::{DeadLettersBody, EventBody, GapBody, SubscriberBody, parse_offset, unix_millis};
use super::body::{Fields, bad, text};
use super::query::{ListQuery, check_utf8};
use super::{Api, answer};

/// Maximum and default number of events of one pull.
const EVENTS_MAX: usize = 1_000;
const EVENTS: usize = 10;

const MILLISECONDS: &str = "a number of milliseconds";

/// Reply to a request that has no other result.
#[derive(Serialize)]
struct Done {}

#[derive(Serialize)]
struct Page {
    namespace: String,
    subscribers: Vec<SummaryBody>,
    /// Value of the parameter `after` that requests the next page. `None` on the last page.
    next: Option<String>,
}

/// A subscriber in a list.
#[derive(Serialize)]
struct SummaryBody {
    name: String,
    /// Number of rooms. Names of all would have no useful bound.
    rooms: usize,
    dead_letters: u64,
    created_at: u64,
    seen_at: u64,
    expired_at: Option<u64>,
}

impl From<SubscriberSummary> for SummaryBody {
    fn from(summary: SubscriberSummary) -> Self {
        Self {
            rooms: summary.rooms.len(),
            name: summary.name,
            dead_letters: summary.dead_letters,
            created_at: unix_millis(summary.created_at),
            seen_at: unix_millis(summary.seen_at),
            expired_at: summary.expired_at.map(unix_millis),
        }
    }
}

#[derive(Serialize)]
struct PulledBody {
    events: Vec<EventBody>,
    gaps: Vec<GapBody>,
}

impl From<Pulled> for PulledBody {
    fn from(pulled: Pulled) -> Self {
        Self {
            events: pulled.events.into_iter().map(EventBody::from).collect(),
            gaps: pulled.gaps.into_iter().map(GapBody::from).collect(),
        }
    }
}

/// Reply to an acknowledgement.
#[derive(Serialize)]
#[serde(untagged)]
enum AckedBody {
    /// Number of events that were pending.
    Events {
        acked: u64,
    },
    UpTo {
        up_to: String,
    },
}

#[derive(Serialize)]
struct ReplayedBody {
    replayed: usize,
}

/// Handles `GET /api/v1/subscribers?namespace=/&after=&limit=100`.
pub(super) async fn list(api: Data<Api>, request: HttpRequest) -> HttpResponse {
    let listed = async {
        let ListQuery { namespace, after, limit } = ListQuery::read(&api, request.query_string())?;
        let found = namespace.subscribers(after.as_deref(), limit).await.map_err(failed)?;
        let next = found.last().filter(|_| found.len() == limit).map(|last| last.name.clone());
        let subscribers = found.into_iter().map(SummaryBody::from).collect();
        Ok(Page { namespace: namespace.path().to_owned(), subscribers, next })
    };
    answer(listed.await)
}

/// Handles `GET`, `PUT` and `DELETE /api/v1/subscribers/<name>`.
pub(super) async fn one(api: Data<Api>, request: HttpRequest, name: Path<String>, payload: Payload) -> HttpResponse {
    match *request.method() {
        Method::PUT => answer(create(&api, &request, &name, payload).await),
        Method::DELETE => answer(remove(&api, &request, &name).await),
        _ => answer(describe(&api, &request, &name).await),
    }
}

async fn create(api: &Api, request: &HttpRequest, name: &str, payload: Payload) -> Result<SubscriberBody, ErrorBody> {
    let namespace = namespace_of(api, request, name)?;
    let body = api.read_optional(request, payload).await?;
    let (rooms, from) =
        if body.is_empty() { Default::default() } else { read_rooms(&body, api.settings.get().limits.rooms_max)? };
    drop(body);
    let subscriber = namespace.subscriber(name).await.map_err(failed)?;
    for room in &rooms {
        let subscribed = match from {
            None => subscriber.subscribe(room).await,
            Some(from) => subscriber.subscribe_from(room, from).await,
        };
        subscribed.map_err(failed)?;
    }
    subscriber.info().await.map(SubscriberBody::from).map_err(failed)
}

fn read_rooms(body: &[u8], rooms_max: usize) -> Result<(Vec<String>, Option<QueueOffset>), ErrorBody> {
    let mut fields = Fields::read(text(body)?, "rooms, from")?;
    let rooms: Vec<String> = fields.take("rooms", "an array of strings")?.unwrap_or_default();
    let from: Option<String> = fields.take("from", "an offset")?;
    fields.end()?;
    if rooms.len() > rooms_max {
        return Err(bad(format!("{} rooms exceed limit of {rooms_max}", rooms.len())));
    }
    if from.is_some() && rooms.is_empty() {
        return Err(bad("from: expected rooms as well"));
    }
    Ok((rooms, from.map(|from| parse_offset(&from, "subscribe", "from")).transpose()?))
}

async fn describe(api: &Api, request: &HttpRequest, name: &str) -> Result<SubscriberBody, ErrorBody> {
    let subscriber = existing(api, request, name)?;
    subscriber.info().await.map(SubscriberBody::from).map_err(failed)
}

async fn remove(api: &Api, request: &HttpRequest, name: &str) -> Result<Done, ErrorBody> {
    existing(api, request, name)?.remove().await.map_err(failed)?;
    Ok(Done {})
}

/// Handles `DELETE /api/v1/subscribers/<name>/rooms/<room>`.
pub(super) async fn room(api: Data<Api>, request: HttpRequest, path: Path<(String, String)>) -> HttpResponse {
    let unsubscribed = async {
        let (name, room) = path.into_inner();
        check_utf8(&request, &room)?;
        existing(&api, &request, &name)?.unsubscribe(&room).await.map_err(failed)?;
        Ok(Done {})
    };
    answer(unsubscribed.await)
}

/// Handles `GET /api/v1/subscribers/<name>/dead?after=&limit=100`.
pub(super) async fn dead(api: Data<Api>, request: HttpRequest, name: Path<String>) -> HttpResponse {
    let listed = async {
        let ListQuery { namespace, after, limit } = ListQuery::read(&api, request.query_string())?;
        check_utf8(&request, &name)?;
        let after = after.map(|after| parse_offset(&after, "dead", "after")).transpose()?;
        let subscriber = namespace.existing_subscriber(name.as_str()).map_err(failed)?;
        subscriber.dead_letters(after, limit).await.map(DeadLettersBody::from).map_err(failed)
    };
    answer(listed.await)
}

/// Handles `POST /api/v1/subscribers/<name>/dead/replay`.
pub(super) async fn replay(api: Data<Api>, request: HttpRequest, name: Path<String>, payload: Payload) -> HttpResponse {
    let replayed = async {
        let subscriber = existing(&api, &request, &name)?;
        let body = api.read_optional(&request, payload).await?;
        let offsets = if body.is_empty() { None } else { read_offsets(&body)? };
        let replayed = subscriber.replay_dead(offsets.as_deref()).await.map_err(failed)?;
        Ok(ReplayedBody { replayed: replayed.len() })
    };
    answer(replayed.await)
}

fn read_offsets(body: &[u8]) -> Result<Option<Vec<QueueOffset>>, ErrorBody> {
    let mut fields = Fields::read(text(body)?, "offsets")?;
    let offsets = take_offsets(&mut fields, "replay")?;
    fields.end()?;
    Ok(offsets)
}

/// Route of `POST /api/v1/subscribers/<name>/<operation>`.
/// `read` reads the body.
pub(super) fn operation(read: Reader) -> Route {
    web::to(move |api: Data<Api>, request: HttpRequest, name: Path<String>, payload: Payload| async move {
        operate(read, &api, &request, &name, payload).await
    })
}

async fn operate(read: Reader, api: &Api, request: &HttpRequest, name: &str, payload: Payload) -> HttpResponse {
    let read = async {
        let body = api.read_json(request, payload).await?;
        let subscriber = existing(api, request, name)?;
        // The memory of the body is free while a pull waits.
        Ok((subscriber, read(text(&body)?)?))
    };
    let (subscriber, operation) = match read.await {
        Ok(read) => read,
        Err(refused) => return answer::<Done>(Err(refused)),
    };
    let done = |done: Result<(), QueueError>| answer(done.map(|()| Done {}).map_err(failed));
    match operation {
        Operation::Pull { limit, wait } => {
            answer(subscriber.pull(limit, wait).await.map(PulledBody::from).map_err(failed))
        }
        Operation::Ack(offsets) => {
            let acked = subscriber.ack_many(&offsets).await;
            answer(acked.map(|acked| AckedBody::Events { acked }).map_err(failed))
        }
        Operation::AckUpTo(up_to) => {
            let acked = subscriber.ack_up_to(&up_to).await;
            answer(acked.map(|()| AckedBody::UpTo { up_to: up_to.to_string() }).map_err(failed))
        }
        Operation::Nak { offset, delay } => done(subscriber.nak(&offset, delay).await),
        Operation::Term { offset, reason } => done(subscriber.term(&offset, &reason).await),
        Operation::InProgress(offset) => done(subscriber.in_progress(&offset).await),
        Operation::Purge { up_to } => done(subscriber.purge(&up_to).await),
    }
}

/// An operation on the events of a subscriber.
pub(super) enum Operation {
    Pull { limit: usize, wait: Duration },
    Ack(Vec<QueueOffset>),
    AckUpTo(QueueOffset),
    Nak { offset: QueueOffset, delay: Option<Duration> },
    Term { offset: QueueOffset, reason: String },
    InProgress(QueueOffset),
    Purge { up_to: QueueOffset },
}

type Reader = fn(&str) -> Result<Operation, ErrorBody>;

pub(super) fn read_pull(body: &str) -> Result<Operation, ErrorBody> {
    let mut fields = Fields::read(body, "limit, wait_ms")?;
    let limit = fields.take("limit", "a number of events")?.unwrap_or(EVENTS);
    let wait: Option<u64> = fields.take("wait_ms", MILLISECONDS)?;
    fields.end()?;
    if !(1..=EVENTS_MAX).contains(&limit) {
        return Err(bad(format!("limit: expected a number from 1 to {EVENTS_MAX}, got {limit}")));
    }
    Ok(Operation::Pull { limit, wait: Duration::from_millis(wait.unwrap_or(0)) })
}

pub(super) fn read_ack(body: &str) -> Result<Operation, ErrorBody> {
    let mut fields = Fields::read(body, "offsets, up_to")?;
    let offsets = take_offsets(&mut fields, "ack")?;
    let up_to = take_offset(&mut fields, "ack", "up_to")?;
    fields.end()?;
    match (offsets, up_to) {
        (Some(offsets), None) => Ok(Operation::Ack(offsets)),
        (None, Some(up_to)) => Ok(Operation::AckUpTo(up_to)),
        (Some(_), Some(_)) => Err(bad("offsets, up_to: expected one of them, got both")),
        (None, None) => Err(bad("offsets is missing, expected an array of offsets; or up_to, an offset")),
    }
}

pub(super) fn read_nak(body: &str) -> Result<Operation, ErrorBody> {
    let mut fields = Fields::read(body, "offset, delay")?;
    let offset = take_offset(&mut fields, "nak", "offset")?;
    let delay: Option<u64> = fields.take("delay", MILLISECONDS)?;
    fields.end()?;
    Ok(Operation::Nak { offset: required(offset, "offset")?, delay: delay.map(Duration::from_millis) })
}

pub(super) fn read_term(body: &str) -> Result<Operation, ErrorBody> {
    let mut fields = Fields::read(body, "offset, reason")?;
    let offset = take_offset(&mut fields, "term", "offset")?;
    let reason: Option<String> = fields.take("reason", "a string")?;
    fields.end()?;
    Ok(Operation::Term { offset: required(offset, "offset")?, reason: reason.unwrap_or_default() })
}

pub(super) fn read_in_progress(body: &str) -> Result<Operation, ErrorBody> {
    let mut fields = Fields::read(body, "offset")?;
    let offset = take_offset(&mut fields, "in_progress", "offset")?;
    fields.end()?;
    Ok(Operation::InProgress(required(offset, "offset")?))
}

pub(super) fn read_purge(body: &str) -> Result<Operation, ErrorBody> {
    let mut fields = Fields::read(body, "up_to")?;
    let up_to = take_offset(&mut fields, "purge", "up_to")?;
    fields.end()?;
    Ok(Operation::Purge { up_to: required(up_to, "up_to")? })
}

fn take_offset(fields: &mut Fields<'_>, operation: &str, name: &str) -> Result<Option<QueueOffset>, ErrorBody> {
    let offset: Option<String> = fields.take(name, "an offset")?;
    offset.map(|offset| parse_offset(&offset, operation, name)).transpose()
}

fn required(offset: Option<QueueOffset>, name: &str) -> Result<QueueOffset, ErrorBody> {
    offset.ok_or_else(|| bad(format!("{name} is missing, expected an offset")))
}

fn take_offsets(fields: &mut Fields<'_>, operation: &str) -> Result<Option<Vec<QueueOffset>>, ErrorBody> {
    let offsets: Option<Vec<String>> = fields.take("offsets", "an array of offsets")?;
    let parse = |offsets: Vec<String>| offsets.iter().map(|one| parse_offset(one, operation, "offsets")).collect();
    offsets.map(parse).transpose()
}

fn existing(api: &Api, request: &HttpRequest, name: &str) -> Result<Subscriber, ErrorBody> {
    namespace_of(api, request, name)?.existing_subscriber(name).map_err(failed)
}

/// The namespace of a request about the subscriber `name`.
fn namespace_of(api: &Api, request: &HttpRequest, name: &str) -> Result<Namespace, ErrorBody> {
    check_utf8(request, name)?;
    ListQuery::namespace(api, request.query_string())
}

/// The error of an operation, in terms of the server's settings.
fn failed(error: QueueError) -> ErrorBody {
    match error {
        // Without a socket, only the end of the server remains.
        QueueError::Disconnected => ErrorBody::new(ErrorCode::Unavailable, "server is closing, try again"),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(operation: &str) -> Reader {
        match operation {
            "pull" => read_pull,
            "ack" => read_ack,
            "nak" => read_nak,
            "term" => read_term,
            "in_progress" => read_in_progress,
            _ => read_purge,
        }
    }

    #[test]
    fn errors_of_bodies_name_the_field_and_the_expected_value() {
        let offset = "---------------1-";
        for (operation, body, expected) in [
            ("pull", r#"{"limit":0}"#, "limit: expected a number from 1 to 1000, got 0"),
            ("pull", r#"{"limit":1000000000}"#, "limit: expected a number from 1 to 1000, got 1000000000"),
            ("pull", r#"{"limit":"10"}"#, "limit: expected a number of events, got \"10\""),
            ("pull", r#"{"wait_ms":-1}"#, "wait_ms: expected a number of milliseconds, got -1"),
            ("pull", r#"{"wait":1}"#, "unknown field \"wait\", expected limit, wait_ms"),
            ("ack", "{}", "offsets is missing, expected an array of offsets; or up_to, an offset"),
            ("ack", r#"{"offsets":"x"}"#, "offsets: expected an array of offsets, got \"x\""),
            ("ack", r#"{"offsets":[],"up_to":"OFFSET"}"#, "offsets, up_to: expected one of them, got both"),
            ("ack", r#"{"offset":"OFFSET"}"#, "unknown field \"offset\", expected offsets, up_to"),
            ("nak", "{}", "offset is missing, expected an offset"),
            ("nak", r#"{"offsets":["OFFSET"]}"#, "unknown field \"offsets\", expected offset, delay"),
            ("nak", r#"{"offset":"OFFSET","delay":-1}"#, "delay: expected a number of milliseconds, got -1"),
            ("term", r#"{"offset":"OFFSET","reason":1}"#, "reason: expected a string, got 1"),
            ("term", r#"{"offset":7}"#, "offset: expected an offset, got 7"),
            ("in_progress", r#"{"offset":"OFFSET","x":1}"#, "unknown field \"x\", expected offset"),
            ("purge", "{}", "up_to is missing, expected an offset"),
        ] {
            let read = reader(operation)(&body.replace("OFFSET", offset));
            assert_eq!(read.err().map(|error| error.message), Some(expected.into()), "{operation} {body}");
        }
        for (operation, body, part) in [
            ("nak", r#"{"offset":"x"}"#, "nak: offset: "),
            ("ack", r#"{"offsets":["x"]}"#, "ack: offsets: "),
            ("purge", r#"{"up_to":"x"}"#, "purge: up_to: "),
            ("pull", "[]", "expected an object of limit, wait_ms: "),
            ("pull", "{", "expected an object of limit, wait_ms: EOF"),
        ] {
            let error = reader(operation)(body).err().map(|error| error.message).unwrap();
            assert!(error.starts_with(part), "{operation} {body}: {error}");
        }
    }
}
