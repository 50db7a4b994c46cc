//! Bodies of requests.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use stentor::{Args, Identity, Socket};

use super::Hook;

/// A request: the fields that all hooks have, and those of one hook.
#[derive(Serialize)]
pub(super) struct Request<'a, T> {
    pub(super) hook: Hook,
    /// Id of the request.
    pub(super) id: String,
    pub(super) namespace: &'a str,
    pub(super) socket: String,
    pub(super) address: Option<IpAddr>,
    pub(super) user: Option<&'a str>,
    pub(super) info: Option<&'a RawValue>,
    /// Data that the connect hook has set.
    pub(super) data: Option<Box<RawValue>>,
    #[serde(flatten)]
    pub(super) fields: T,
}

impl<'a, T> Request<'a, T> {
    pub(super) fn new(hook: Hook, socket: &'a Socket, namespace: &'a str, identity: &'a Identity, fields: T) -> Self {
        Self {
            hook,
            id: next_id(),
            namespace,
            socket: socket.id().to_string(),
            address: socket.handshake().address(),
            user: identity.user(),
            info: identity.info.as_deref(),
            data: socket.data().unwrap_or_default(),
            fields,
        }
    }
}

/// Returns an id that no other request of this process has, nor of one that starts at another time.
pub(super) fn next_id() -> String {
    static START: LazyLock<u128> =
        LazyLock::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros()));
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{:x}-{}", *START, NEXT.fetch_add(1, Ordering::Relaxed))
}

#[derive(Serialize)]
pub(super) struct ConnectFields<'a> {
    pub(super) auth: Option<Box<RawValue>>,
    /// Headers that the setting `hooks_headers` names.
    pub(super) headers: BTreeMap<&'a str, &'a str>,
    /// True if the client is about to resume its session.
    pub(super) recovering: bool,
}

#[derive(Serialize)]
pub(super) struct JoinFields<'a> {
    pub(super) room: &'a str,
    /// Second argument of `join`.
    pub(super) options: Option<&'a RawValue>,
}

#[derive(Serialize)]
pub(super) struct PublishFields<'a> {
    pub(super) rooms: &'a [String],
    pub(super) event: &'a str,
    pub(super) durable: bool,
    #[serde(flatten)]
    pub(super) args: ArgsFields<'a>,
}

#[derive(Serialize)]
pub(super) struct EventFields<'a> {
    pub(super) event: &'a str,
    pub(super) wants_ack: bool,
    #[serde(flatten)]
    pub(super) args: ArgsFields<'a>,
}

/// Arguments as the client has sent them. Each attachment is base64, and its placeholder in `args`
/// has its index.
#[derive(Serialize)]
pub(super) struct ArgsFields<'a> {
    #[serde(serialize_with = "array")]
    args: &'a Args,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<String>,
}

impl<'a> ArgsFields<'a> {
    pub(super) fn new(args: &'a Args) -> Self {
        Self { args, attachments: args.attachments().iter().map(|bytes| STANDARD.encode(bytes)).collect() }
    }
}

fn array<S: Serializer>(args: &&Args, serializer: S) -> Result<S::Ok, S::Error> {
    let array = RawValue::from_string(format!("[{}]", args.json()));
    array.map_err(serde::ser::Error::custom)?.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn arguments_are_sent_as_received_and_attachments_as_base64() {
        let args = Args::parse(r#"[1.50,{"z":1,"a":12345678901234567890123},{"_placeholder":true,"num":0}]"#).unwrap();
        let args = args.with_attachments(vec![Bytes::from_static(&[0, 255])]);
        let fields = EventFields { event: "e", wants_ack: true, args: ArgsFields::new(&args) };
        let request = Request {
            hook: Hook::Event,
            id: "1-1".into(),
            namespace: "/",
            socket: "s".into(),
            address: None,
            user: Some("42"),
            info: None,
            data: RawValue::from_string("{\"b\": 1}".into()).ok(),
            fields,
        };
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"hook":"event","id":"1-1","namespace":"/","socket":"s","address":null,"user":"42","info":null,"#.to_owned()
                + r#""data":{"b": 1},"event":"e","wants_ack":true,"#
                + r#""args":[1.50,{"z":1,"a":12345678901234567890123},{"_placeholder":true,"num":0}],"attachments":["AP8="]}"#
        );
    }

    #[test]
    fn ids_of_requests_differ() {
        assert_ne!(next_id(), next_id());
    }
}
