//! The content of a durable event: as it is stored, and as packets.

use bytes::Bytes;
use serde::Serialize;

use super::record::{Payload, QueueOffset};
use crate::ids::{AckId, AckOwner, NamespacePath, RoomName};
use crate::protocol::draft::Draft;
use crate::protocol::encoded::Message;
use crate::protocol::socketio::Parser;
use crate::protocol::socketio::packet::Args;

/// Information for a subscriber about an event, the last argument of the event.
#[derive(Debug)]
pub(crate) struct DeliveryInfo<'a> {
    pub offset: QueueOffset,
    /// The room through which the subscriber receives the event.
    pub room: &'a RoomName,
    /// The subscriber may have received the event before.
    pub redelivered: bool,
}

#[derive(Serialize)]
struct DeliveryInfoJson<'a> {
    offset: String,
    room: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    redelivered: bool,
}

impl Payload {
    /// The payload of the event `name`. `arguments` contains the JSON arguments joined by commas,
    /// or is empty.
    pub(crate) fn of_event(name: &str, arguments: &str, attachments: Vec<Bytes>) -> Self {
        // Writing a text as JSON cannot fail.
        let name = serde_json::to_string(name).unwrap_or_default();
        let comma = if arguments.is_empty() { "" } else { "," };
        Self { text: Bytes::from(format!("[{name}{comma}{arguments}]")), attachments }
    }

    /// The name and the arguments. `None` if the payload is not that of an event.
    pub(crate) fn event(&self) -> Option<(String, Args)> {
        let args = Args::parse(std::str::from_utf8(&self.text).ok()?).ok()?;
        let name = serde_json::from_str(args.get(0)?).ok()?;
        Some((name, args.skip(1).with_attachments(self.attachments.clone())))
    }

    /// The event for members of its rooms, with room for an offset token of the journal if
    /// `token_hole`.
    pub(crate) fn draft(&self, parser: Parser, namespace: NamespacePath, token_hole: bool) -> Option<Draft> {
        let (name, args) = self.event()?;
        Some(Draft::event(parser, namespace, &name, args.json(), self.attachments.clone(), token_hole))
    }

    /// The packet for a subscriber, which requests an ack.
    pub(crate) fn packet(&self, parser: Parser, namespace: NamespacePath, info: &DeliveryInfo<'_>) -> Option<Message> {
        let (name, args) = self.event()?;
        let DeliveryInfo { offset, room, redelivered } = *info;
        let json = DeliveryInfoJson { offset: offset.to_string(), room: room.as_str(), redelivered };
        let json = serde_json::to_string(&json).ok()?;
        let comma = if args.is_empty() { "" } else { "," };
        let arguments = format!("{}{comma}{json}", args.json());
        let draft = Draft::event(parser, namespace, &name, &arguments, self.attachments.clone(), false);
        Some(draft.seal(Some(AckId::new(AckOwner::Durable, offset.number).to_wire()), None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Epoch;

    fn info(room: &RoomName, redelivered: bool) -> DeliveryInfo<'_> {
        DeliveryInfo { offset: QueueOffset { epoch: Epoch::new(1, 2), number: 7 }, room, redelivered }
    }

    #[test]
    fn a_subscriber_receives_the_arguments_and_the_delivery_info() {
        let room = RoomName::parse("a\"b").unwrap();
        let packet = |payload: &Payload, redelivered| {
            let packet = payload.packet(Parser::Json, NamespacePath::root(), &info(&room, redelivered)).unwrap();
            packet.text().to_string()
        };
        let offset = info(&room, false).offset;
        let payload = Payload::of_event("order", r#"1,{"a":"\ud800"}"#, vec![]);
        let expected = format!(r#"4229["order",1,{{"a":"\ud800"}},{{"offset":"{offset}","room":"a\"b"}}]"#);
        assert_eq!(packet(&payload, false), expected);
        let expected = format!(r#"4229["x",{{"offset":"{offset}","room":"a\"b","redelivered":true}}]"#);
        assert_eq!(packet(&Payload::of_event("x", "", vec![]), true), expected);
        let binary = Payload::of_event("b", r#"{"_placeholder":true,"num":0}"#, vec![Bytes::from_static(b"z")]);
        assert!(packet(&binary, false).starts_with(r#"451-29["b",{"_placeholder":true,"num":0},{"#));
    }

    #[test]
    fn a_stored_event_is_encoded_as_it_was_published() {
        let placeholder = r#"{"_placeholder":true,"num":0}"#;
        for parser in [Parser::Json, Parser::Msgpack] {
            for (arguments, attachments) in
                [("", vec![]), ("1, \"a\\\"\"", vec![]), (placeholder, vec![Bytes::from_static(b"z")])]
            {
                let payload = Payload::of_event("e\"", arguments, attachments.clone());
                let stored = payload.draft(parser, NamespacePath::root(), true).unwrap().seal(None, None);
                let args = Args::parse(&format!("[{arguments}]")).unwrap();
                let published = Draft::event(parser, NamespacePath::root(), "e\"", args.json(), attachments, true);
                assert_eq!(stored, published.seal(None, None));
            }
        }
        assert!(Payload::default().event().is_none());
    }
}
