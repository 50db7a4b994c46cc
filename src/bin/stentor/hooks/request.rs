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

/// The client about whom the back end is asked.
pub(crate) struct Client<'a> {
    pub(crate) socket: &'a Socket,
    pub(crate) identity: &'a Identity,
    /// Data that the connect hook has set.
    pub(crate) data: Option<Box<RawValue>>,
}

/// A request: the fields that all hooks have, and those of one hook.
#[derive(Serialize)]
pub(crate) struct Request<'a, T> {
    pub(crate) hook: Hook,
    /// Id of the request.
    pub(crate) id: String,
    pub(crate) namespace: &'a str,
    pub(crate) socket: String,
    pub(crate) address: Option<IpAddr>,
    pub(crate) user: Option<&'a str>,
    pub(crate) info: Option<&'a RawValue>,
    /// Data that the connect hook has set.
    pub(crate) data: Option<&'a RawValue>,
    #[serde(flatten)]
    pub(crate) fields: T,
}

impl<'a, T> Request<'a, T> {
    pub(crate) fn new(hook: Hook, client: &'a Client<'a>, namespace: &'a str, fields: T) -> Self {
        let Client { socket, identity, data } = client;
        Self {
            hook,
            id: next_id(),
            namespace,
            socket: socket.id().to_string(),
            address: socket.handshake().address(),
            user: identity.user(),
            info: identity.info.as_deref(),
            data: data.as_deref(),
            fields,
        }
    }
}

/// Returns an id that no other request of this process has, nor of one that starts at another time.
pub(crate) fn next_id() -> String {
    static START: LazyLock<u128> =
        LazyLock::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros()));
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{:x}-{}", *START, NEXT.fetch_add(1, Ordering::Relaxed))
}

#[derive(Serialize)]
pub(crate) struct ConnectFields<'a> {
    pub(crate) auth: Option<Box<RawValue>>,
    /// Headers that the setting `hooks_headers` names.
    pub(crate) headers: BTreeMap<&'a str, &'a str>,
    /// True if the client is about to resume its session.
    pub(crate) recovering: bool,
}

#[derive(Serialize)]
pub(crate) struct JoinFields<'a> {
    pub(crate) room: &'a str,
    /// Second argument of `join`.
    pub(crate) options: Option<&'a RawValue>,
}

#[derive(Serialize)]
pub(crate) struct PublishFields<'a> {
    pub(crate) rooms: &'a [String],
    pub(crate) event: &'a str,
    pub(crate) durable: bool,
    #[serde(flatten)]
    pub(crate) args: ArgsFields<'a>,
}

#[derive(Serialize)]
pub(crate) struct EventFields<'a> {
    pub(crate) event: &'a str,
    pub(crate) wants_ack: bool,
    #[serde(flatten)]
    pub(crate) args: ArgsFields<'a>,
}

/// Arguments as the client has sent them. Each attachment is base64, and its placeholder in `args`
/// has its index.
#[derive(Serialize)]
pub(crate) struct ArgsFields<'a> {
    #[serde(serialize_with = "array")]
    args: &'a Args,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<String>,
}

impl<'a> ArgsFields<'a> {
    pub(crate) fn new(args: &'a Args) -> Self {
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
            data: serde_json::from_str("{\"b\": 1}").ok(),
            fields,
        };
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"hook":"event","id":"1-1","namespace":"/","socket":"s","address":null,"user":"42","info":null,"#
                .to_owned()
                + r#""data":{"b": 1},"event":"e","wants_ack":true,"#
                + r#""args":[1.50,{"z":1,"a":12345678901234567890123},{"_placeholder":true,"num":0}],"attachments":["AP8="]}"#
        );
    }

    #[test]
    fn ids_of_requests_differ() {
        assert_ne!(next_id(), next_id());
    }
}
