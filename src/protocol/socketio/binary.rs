//! Packets with binary attachments: their assembly from several messages, and checks of the
//! placeholders in their JSON.
//!
//! Attachments stay separate from the arguments, since JSON cannot contain binary data. Readers of
//! the arguments resolve the placeholders.

use bytes::Bytes;

use super::DecodeError;
use super::json::{self, Token};
use super::packet::Packet;
use super::text::Decoded;

/// A packet with at least one missing attachment.
///
/// While a packet is incomplete, a text message from the peer is an error. While no packet is
/// incomplete, a binary message is an error. The owner of this value checks both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartialPacket {
    /// The event or ack without its attachments. The placeholders have been checked.
    packet: Packet,
    announced: usize,
    /// Received attachments in order. There are fewer than `announced`.
    received: Vec<Bytes>,
}

impl PartialPacket {
    pub(crate) fn received_bytes(&self) -> usize {
        self.received.iter().map(Bytes::len).sum()
    }

    /// Creates a packet whose `announced` attachments, at least one, have not been received yet.
    /// The placeholders are checked immediately, so that no attachments are stored for an invalid
    /// packet. The reference parser checks them after the last attachment.
    pub(super) fn new(packet: Packet, announced: usize) -> Result<Self, DecodeError> {
        if let Packet::Event { args, .. } | Packet::Ack { args, .. } = &packet {
            check_placeholders(args.json(), announced)?;
        }
        Ok(Self { packet, announced, received: Vec::with_capacity(announced) })
    }

    pub(crate) fn missing(&self) -> usize {
        self.announced.saturating_sub(self.received.len())
    }

    /// Adds the next attachment. Returns the complete packet after the last attachment.
    ///
    /// # Errors
    /// Never fails at present, since all errors are detected in the text message. The `Result`
    /// leaves room for other parsers.
    pub(crate) fn push(mut self, attachment: Bytes) -> Result<Decoded, DecodeError> {
        self.received.push(attachment);
        match self.missing() {
            0 => Ok(Decoded::Complete(self.complete())),
            _ => Ok(Decoded::Partial(self)),
        }
    }

    fn complete(mut self) -> Packet {
        if let Packet::Event { args, .. } | Packet::Ack { args, .. } = &mut self.packet {
            *args = std::mem::take(args).with_attachments(self.received);
        }
        self.packet
    }
}

/// Checks that every placeholder, `{"_placeholder":true,"num":n}`, refers to an attachment: `n`
/// must be an integer below `attachments`. As in socket.io-parser, an attachment may have several
/// placeholders or none.
///
/// Other objects are plain data, including those whose `_placeholder` is not `true`. As in
/// `JSON.parse`, the last of several equal keys counts. Objects inside a placeholder or under a
/// duplicate key are also checked, although the reference parser never visits them.
fn check_placeholders(json: &str, attachments: usize) -> Result<(), DecodeError> {
    let mut is_legal = true;
    walk(json, |_, closed| {
        is_legal &= !closed.is_placeholder() || closed.attachment().is_some_and(|num| num < attachments);
    });
    if is_legal { Ok(()) } else { Err(DecodeError::IllegalPlaceholder { attachments }) }
}

/// Walks through valid JSON, which may be the elements of an array without brackets. Calls `visit`
/// at the end of each array and object, with the index of its opening bracket among all opening
/// brackets. Returns the number of values at the top level.
pub(super) fn walk(json: &str, mut visit: impl FnMut(usize, &Container)) -> usize {
    // The enclosing containers. They are stored on the heap, so that deep nesting causes no
    // recursion.
    let mut around: Vec<(usize, Container)> = Vec::new();
    let mut opened = 0;
    let (mut nth, mut innermost) = (0, Container::of(Token::OpenArray));
    for token in json::tokens(json) {
        match token {
            Token::OpenArray | Token::OpenObject => {
                innermost.settle(Value::Other);
                around.push((nth, std::mem::replace(&mut innermost, Container::of(token))));
                nth = opened;
                opened += 1;
            }
            Token::Close => {
                // Skips a closing bracket without an opening one, which occurs only in invalid
                // JSON.
                let Some(outer) = around.pop() else { continue };
                visit(nth, &innermost);
                (nth, innermost) = outer;
            }
            Token::String(text) if innermost.awaits_key() => innermost.key = Some(Key::of(text)),
            Token::String(_) => innermost.settle(Value::Other),
            Token::Scalar("true") => innermost.settle(Value::True),
            Token::Scalar(text) => innermost.settle(text.parse().map_or(Value::Other, Value::Index)),
            Token::Comma | Token::Colon => {}
        }
    }
    innermost.values
}

/// State of an array or object in [`walk`]: the number of its values, and the values of a
/// placeholder's keys.
pub(super) struct Container {
    is_object: bool,
    /// Number of elements or pairs so far.
    values: usize,
    key: Option<Key>,
    placeholder: Value,
    num: Value,
}

impl Container {
    fn of(token: Token<'_>) -> Self {
        let is_object = token == Token::OpenObject;
        Self { is_object, values: 0, key: None, placeholder: Value::Other, num: Value::Other }
    }

    pub(super) fn len(&self) -> usize {
        self.values
    }

    /// Returns whether the object is a placeholder, valid or not.
    fn is_placeholder(&self) -> bool {
        self.placeholder == Value::True
    }

    /// Index of the attachment to which a valid placeholder refers. `None` for other containers.
    pub(super) fn attachment(&self) -> Option<usize> {
        match self.num {
            Value::Index(num) if self.is_placeholder() => Some(num),
            _ => None,
        }
    }

    fn awaits_key(&self) -> bool {
        self.is_object && self.key.is_none()
    }

    /// Records the next value. In an object, the value belongs to the preceding key.
    fn settle(&mut self, value: Value) {
        self.values += 1;
        match self.key.take() {
            Some(Key::Placeholder) => self.placeholder = value,
            Some(Key::Num) => self.num = value,
            Some(Key::Other) | None => {}
        }
    }
}

enum Key {
    Placeholder,
    Num,
    Other,
}

#[derive(PartialEq, Eq)]
enum Value {
    True,
    /// A number written as an unsigned integer, as all encoders write `num`.
    Index(usize),
    /// Another value, or no value.
    Other,
}

impl Key {
    fn of(text: &str) -> Self {
        match text {
            r#""_placeholder""# => Self::Placeholder,
            r#""num""# => Self::Num,
            _ if !text.contains('\\') => Self::Other,
            // Escapes in keys are resolved, as in `JSON.parse`.
            _ => match json::unescape(text).as_deref() {
                Some("_placeholder") => Self::Placeholder,
                Some("num") => Self::Num,
                _ => Self::Other,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use bytestring::ByteString;

    use super::super::text::decode;
    use super::*;

    fn partial(text: &str) -> PartialPacket {
        match decode(&ByteString::from(text)) {
            Ok(Decoded::Partial(partial)) => partial,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn event(json: &str, attachments: usize) -> Result<Decoded, DecodeError> {
        decode(&format!("5{attachments}-[\"a\",{json}]").into())
    }

    #[test]
    fn attachments_complete_the_packet_in_order() {
        let first = Bytes::from_static(&[1]);
        let second = Bytes::from_static(&[]);
        let waiting = partial(r#"52-/chat,7["a",{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]"#);
        assert_eq!(waiting.missing(), 2);
        let Ok(Decoded::Partial(waiting)) = waiting.push(first.clone()) else {
            panic!("complete too early");
        };
        assert_eq!(waiting.missing(), 1);
        let Ok(Decoded::Complete(Packet::Event { args, ack, .. })) = waiting.push(second.clone()) else {
            panic!("not complete");
        };
        assert_eq!(ack, Some(7));
        assert_eq!(args.len(), 2);
        assert_eq!(args.attachments(), [first, second]);
    }

    #[test]
    fn a_binary_ack_is_an_ack() {
        let waiting = partial(r#"61-12[{"_placeholder":true,"num":0}]"#);
        let Ok(Decoded::Complete(Packet::Ack { id, args, .. })) = waiting.push(Bytes::from_static(b"x")) else {
            panic!("not complete");
        };
        assert_eq!((id, args.byte_len()), (12, 30));
    }

    #[test]
    fn placeholders_are_found_at_any_depth() {
        for legal in [
            r#"{"a":[1,{"b":{"_placeholder":true,"num":0}}]}"#,
            r#"{"num":0,"_placeholder":true}"#,
            r#"{ "_placeholder" : true , "num" : 1 }"#,
            r#"{"_placeholder":true,"num":9,"num":1}"#,
            r#"{"_placeholder":true,"x":"\ud800","num":1}"#,
        ] {
            assert!(matches!(event(legal, 2), Ok(Decoded::Partial(_))), "{legal}");
        }
        let illegal = Err(DecodeError::IllegalPlaceholder { attachments: 2 });
        assert_eq!(event(r#"{"a":[1,{"b":{"_placeholder":true,"num":2}}]}"#, 2), illegal);
        assert_eq!(event(r#"[{"_placeholder":true,"num":0},[{"_placeholder":true,"num":2}]]"#, 2), illegal);
    }

    #[test]
    fn a_num_that_is_not_an_index_is_invalid() {
        for num in [
            "2",
            "-1",
            "-0",
            "0.5",
            "1.0",
            "1e0",
            "\"0\"",
            "\"splice\"",
            "null",
            "true",
            "[0]",
            "{}",
            "99999999999999999999999",
        ] {
            let json = format!(r#"{{"_placeholder":true,"num":{num}}}"#);
            let illegal = Err(DecodeError::IllegalPlaceholder { attachments: 2 });
            assert_eq!(event(&json, 2), illegal, "{json}");
        }
        for json in [
            r#"{"_placeholder":true}"#,
            r#"{"_placeholder":true,"num":0,"num":2}"#,
            r#"{"_placeholder":1,"_placeholder":true,"num":2}"#,
            r#"{"\u005fplaceholder":true,"nu\u006d":2}"#,
            r#"{"_placeholder":true,"x":{"num":0}}"#,
        ] {
            let illegal = Err(DecodeError::IllegalPlaceholder { attachments: 2 });
            assert_eq!(event(json, 2), illegal, "{json}");
        }
    }

    #[test]
    fn other_objects_are_not_placeholders() {
        for json in [
            r#"{"_placeholder":false,"num":7}"#,
            r#"{"_placeholder":"true","num":7}"#,
            r#"{"_placeholder":{"true":true},"num":7}"#,
            r#"{"_placeholder":true,"_placeholder":null,"num":7}"#,
            r#"{"placeholder":true,"num":7}"#,
            r#"["_placeholder",true,"num",7]"#,
            r#""{\"_placeholder\":true,\"num\":7}""#,
            r#"{"a":"_placeholder","b":true,"num":7}"#,
        ] {
            assert!(matches!(event(json, 1), Ok(Decoded::Partial(_))), "{json}");
        }
    }

    #[test]
    fn attachments_need_no_placeholder() {
        let waiting = partial("510-[\"a\"]");
        assert_eq!(waiting.missing(), 10);
        let one_for_all = r#"[{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#;
        assert!(matches!(event(one_for_all, 3), Ok(Decoded::Partial(_))));
    }

    #[test]
    fn a_placeholder_without_attachments_is_plain_data() {
        let text = r#"2["a",{"_placeholder":true,"num":99}]"#;
        let decoded = decode(&text.into());
        assert!(matches!(decoded, Ok(Decoded::Complete(_))), "{decoded:?}");
    }
}
