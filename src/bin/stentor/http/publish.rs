//! Publishing over HTTP: a single event, or several events in order.

use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use stentor::Args;

use super::super::durable::{DurableOptions, check_count, target_rooms};
use super::super::error_code::ErrorCode;
use super::super::replies::{ErrorAnswer, ErrorBody, Published, check_event_name};
use super::body::{Fields, bad, excerpt, text};
use super::{Api, ApiSettings, answer};

/// Handles `POST /api/v1/publish`.
pub(super) async fn one(api: Data<Api>, request: HttpRequest, payload: Payload) -> HttpResponse {
    let published = async {
        let body = api.read_json(&request, payload).await?;
        publish(&api, text(&body)?).await
    };
    answer(published.await)
}

/// Handles `POST /api/v1/publish/batch`.
pub(super) async fn batch(api: Data<Api>, request: HttpRequest, payload: Payload) -> HttpResponse {
    let published = async {
        let body = api.read_json(&request, payload).await?;
        publish_all(&api, text(&body)?).await
    };
    answer(published.await)
}

/// Result of one event of a batch.
#[derive(Serialize)]
#[serde(untagged)]
enum Item {
    Published(Published),
    ErrorAnswer(ErrorAnswer),
}

/// Publishes the events one after the other, so that all clients receive them in this order.
async fn publish_all(api: &Api, text: &str) -> Result<Vec<Item>, ErrorBody> {
    let events: Vec<&RawValue> =
        serde_json::from_str(text).map_err(|error| bad(format!("expected an array of events: {error}")))?;
    let limit = api.settings.get().limits.batch_max;
    if events.len() > limit {
        return Err(ErrorBody::new(
            ErrorCode::TooLarge,
            format!("{} events exceed limit of {limit} in a batch", events.len()),
        ));
    }
    let mut items = Vec::with_capacity(events.len());
    let mut is_overloaded = false;
    for event in events {
        // If an event failed because of overload, later events are not tried, since they would time
        // out as well.
        let done = match is_overloaded {
            true => Err(ErrorBody::new(ErrorCode::Overloaded, "not tried, since the hub is overloaded")),
            false => publish(api, event.get()).await,
        };
        is_overloaded |= done.as_ref().is_err_and(|error| error.code.is_of_overload());
        items.push(match done {
            Ok(published) => Item::Published(published),
            Err(error) => Item::ErrorAnswer(ErrorAnswer { error }),
        });
    }
    Ok(items)
}

async fn publish(api: &Api, text: &str) -> Result<Published, ErrorBody> {
    Publish::read(text, &api.settings.get())?.publish(api).await
}

/// An event and its target.
#[derive(Debug, PartialEq)]
pub(super) struct Publish {
    namespace: String,
    /// Empty for all sockets of the namespace.
    rooms: Vec<String>,
    except: Vec<String>,
    event: String,
    args: Args,
    is_volatile: bool,
    options: DurableOptions,
}

const FIELDS: &str = "namespace, room, rooms, users, all, event, args, except, volatile, durable, dedup_id, expires_in";

/// Fields of an event whose target is known from the path.
const FIELDS_TO_TARGET: &str = "namespace, event, args, except, volatile, durable, dedup_id, expires_in";

impl Publish {
    /// Reads an event with its target.
    fn read(text: &str, settings: &ApiSettings) -> Result<Self, ErrorBody> {
        let mut fields = Fields::read(text, FIELDS)?;
        let room: Option<String> = fields.take("room", "a string")?;
        let rooms: Option<Vec<String>> = fields.take("rooms", "an array of strings")?;
        let users: Option<Vec<String>> = fields.take("users", "an array of strings")?;
        let all: Option<bool> = fields.take("all", "true or false")?;
        let event = Self::read_event(fields)?;
        let has_room = room.is_some() || rooms.is_some();
        let of_users =
            |users: Vec<String>| -> Result<Vec<_>, _> { users.iter().map(|user| settings.user_room(user)).collect() };
        let rooms: Vec<String> = match (all == Some(true), has_room, users) {
            (true, false, None) => Vec::new(),
            (true, _, _) => return Err(bad("all: expected no room, rooms or users beside it")),
            (false, false, Some(users)) if users.is_empty() => {
                return Err(bad("users: expected one user at least, got none"));
            }
            (false, false, Some(users)) => of_users(users)?,
            (false, false, None) => {
                let expected = "expected a string; or rooms or users, arrays of strings; or all, true";
                return Err(bad(format!("room is missing, {expected}")));
            }
            (false, true, users) => {
                let users = users.map_or_else(|| Ok(Vec::new()), of_users)?;
                [target_rooms(room, rooms, usize::MAX).map_err(bad)?, users].concat()
            }
        };
        let rooms = check_count(rooms, event.except.len(), settings.limits.rooms_max).map_err(bad)?;
        Ok(Self { rooms, ..event })
    }

    /// Reads an event for the room `target`.
    pub(super) fn read_to(text: &str, target: String, rooms_max: usize) -> Result<Self, ErrorBody> {
        let event = Self::read_event(Fields::read(text, FIELDS_TO_TARGET)?)?;
        let rooms = check_count(vec![target], event.except.len(), rooms_max).map_err(bad)?;
        Ok(Self { rooms, ..event })
    }

    /// Reads the fields that do not concern the target.
    fn read_event(mut fields: Fields<'_>) -> Result<Self, ErrorBody> {
        let namespace = fields.take_namespace()?;
        let except: Option<OneOrMany> = fields.take("except", "a string or an array of strings")?;
        let event: Option<String> = fields.take("event", "a string")?;
        let volatile: Option<bool> = fields.take("volatile", "true or false")?;
        let durable: Option<bool> = fields.take("durable", "true or false")?;
        let dedup_id: Option<String> = fields.take("dedup_id", "a string")?;
        let expires_in: Option<u64> = fields.take("expires_in", "a number of milliseconds")?;
        let args = fields.take_raw("args");
        fields.end()?;
        let event = event.ok_or_else(|| bad("event is missing, expected a string"))?;
        check_event_name(&event)?;
        Ok(Self {
            namespace,
            rooms: Vec::new(),
            except: except.map_or_else(Vec::new, OneOrMany::into_vec),
            event,
            args: args.map_or_else(|| Ok(Args::default()), read_args)?,
            is_volatile: volatile == Some(true),
            options: DurableOptions { durable, dedup_id, expires_in },
        })
    }

    pub(super) async fn publish(self, api: &Api) -> Result<Published, ErrorBody> {
        let target = self.rooms.iter().fold(api.namespace(&self.namespace)?.all(), |target, room| target.to(room));
        let target = self.except.iter().fold(target, |target, room| target.except(room));
        let target = if self.is_volatile { target.volatile() } else { target };
        if self.options.is_durable()? {
            return self.options.publish(target, &self.event, self.args).await;
        }
        Ok(target.emit_confirmed(&self.event, self.args).await?.into())
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(room) => vec![room],
            Self::Many(rooms) => rooms,
        }
    }
}

/// Parses the arguments without changing numbers or the order of keys.
fn read_args(text: &RawValue) -> Result<Args, ErrorBody> {
    if !text.get().starts_with('[') {
        return Err(bad(format!("args: expected an array, got {}", excerpt(text.get()))));
    }
    Args::parse(text.get()).map_err(|error| bad(format!("args: {error}")))
}

#[cfg(test)]
mod tests {
    use stentor::AccessRules;

    use super::super::ApiLimits;
    use super::*;

    fn read(text: &str) -> Result<Publish, String> {
        let limits = ApiLimits { rooms_max: 3, ..ApiLimits::default() };
        let settings = ApiSettings { keys: Vec::new(), limits, rules: AccessRules::default() };
        Publish::read(text, &settings).map_err(|error| error.message)
    }

    #[test]
    fn arguments_of_an_event_are_not_changed() {
        let text =
            r#"{"rooms":["a","b"],"event":"e","args":[1.50, {"z":1,"a":2} ,12345678901234567890123],"except":"c"}"#;
        let publish = read(text).unwrap();
        assert_eq!(publish.args.json(), r#"1.50,{"z":1,"a":2},12345678901234567890123"#);
        assert_eq!(
            (publish.namespace.as_str(), publish.rooms, publish.except),
            ("/", vec!["a".into(), "b".into()], vec!["c".into()])
        );
        let publish = read(r#"{"room":"\ud800","except":["\udc00"],"event":"a\ud83d","args":["\ud800"]}"#).unwrap();
        assert_eq!((publish.rooms, publish.except), (vec!["\u{fffd}".into()], vec!["\u{fffd}".into()]));
        assert_eq!((publish.event.as_str(), publish.args.json()), ("a\u{fffd}", r#""\ud800""#));
        let publish = read(r#"{"namespace":"/n","room":"a","event":"e","args":null,"except":["b","c"]}"#).unwrap();
        assert_eq!((publish.namespace.as_str(), publish.args.len(), publish.except.len()), ("/n", 0, 2));
    }

    #[test]
    fn users_have_their_rooms_beside_others_and_all_has_none() {
        let rooms = |text: &str| read(text).map(|publish| publish.rooms);
        let named = |names: &[&str]| Ok(names.iter().map(ToString::to_string).collect());
        assert_eq!(rooms(r#"{"users":["42","a b"],"event":"e"}"#), named(&["user:42", "user:a b"]));
        assert_eq!(rooms(r#"{"users":["42"],"room":"a","event":"e"}"#), named(&["a", "user:42"]));
        assert_eq!(rooms(r#"{"rooms":["a","b"],"users":[],"event":"e"}"#), named(&["a", "b"]));
        assert_eq!(rooms(r#"{"all":true,"event":"e"}"#), named(&[]));
        assert_eq!(rooms(r#"{"all":false,"room":"a","event":"e"}"#), named(&["a"]));
    }

    #[test]
    fn errors_name_the_field_and_the_expected_value() {
        let deep = format!(r#"{{"room":"a","event":"e","args":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        for (text, expected) in [
            (
                r#"{"event":"e"}"#,
                "room is missing, expected a string; or rooms or users, arrays of strings; or all, true",
            ),
            (r#"{"users":[],"event":"e"}"#, "users: expected one user at least, got none"),
            (r#"{"users":"42","event":"e"}"#, "users: expected an array of strings, got \"42\""),
            (r#"{"users":[""],"event":"e"}"#, "user id is empty"),
            (r#"{"users":["1","2"],"rooms":["a","b"],"event":"e"}"#, "4 rooms exceed limit of 3"),
            (r#"{"all":true,"room":"a","event":"e"}"#, "all: expected no room, rooms or users beside it"),
            (r#"{"all":true,"users":["a"],"event":"e"}"#, "all: expected no room, rooms or users beside it"),
            (r#"{"all":1,"event":"e"}"#, "all: expected true or false, got 1"),
            (r#"{"room":"a"}"#, "event is missing, expected a string"),
            (r#"{"room":1,"event":"e"}"#, "room: expected a string, got 1"),
            (r#"{"room":"a","event":["e"]}"#, "event: expected a string, got [\"e\"]"),
            (r#"{"rooms":"a","event":"e"}"#, "rooms: expected an array of strings, got \"a\""),
            (r#"{"rooms":[],"event":"e"}"#, "rooms: expected one room at least, got none"),
            (r#"{"room":"a","rooms":["b"],"event":"e"}"#, "room, rooms: expected one of them, got both"),
            (r#"{"rooms":["a","b"],"except":["c","d"],"event":"e"}"#, "4 rooms exceed limit of 3"),
            (r#"{"room":"a","event":"e","except":7}"#, "except: expected a string or an array of strings, got 7"),
            (r#"{"room":"a","event":"e","args":{"a":1}}"#, "args: expected an array, got {\"a\":1}"),
            (r#"{"room":"a","event":"e","namespace":false}"#, "namespace: expected a string such as \"/\", got false"),
            (r#"{"room":"a","event":"e","durable":1}"#, "durable: expected true or false, got 1"),
            (r#"{"room":"a","event":"e","expires_in":-1}"#, "expires_in: expected a number of milliseconds, got -1"),
            (r#"{"room":"a","event":"e","dedup_id":7}"#, "dedup_id: expected a string, got 7"),
            (
                r#"{"room":"a","event":"e","data":1}"#,
                "unknown field \"data\", expected namespace, room, rooms, users, all, event, args, except, volatile, durable, dedup_id, expires_in",
            ),
        ] {
            assert_eq!(read(text), Err(expected.into()), "{text}");
        }
        assert!(read(&deep).unwrap_err().starts_with("args: "), "{:?}", read(&deep));
        assert!(read("[]").unwrap_err().starts_with("expected an object of namespace, "), "{:?}", read("[]"));
        assert!(read("{").unwrap_err().contains("EOF"), "{:?}", read("{"));
    }
}
