//! Packets whose attachments come after them: the wait for those, and the placeholders that stand for them.
//!
//! Refuses to put attachments into the arguments (JSON has no binary; readers follow the placeholders) and to know how
//! long a peer may take: the session times it out.

use bytes::Bytes;

use super::DecodeError;
use super::json::{self, Token};
use super::packet::Packet;
use super::text::Decoded;

/// A packet that still awaits attachments: at least one.
///
/// While it waits, a text message from the peer is an error, and so is a binary message while none waits. Whoever holds
/// this says so, since only they know what arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartialPacket {
    /// An event or an ack, complete but for its attachments; its placeholders have been checked.
    packet: Packet,
    /// Attachments the packet announced.
    announced: usize,
    /// Attachments that have arrived, in order; fewer than announced.
    received: Vec<Bytes>,
}

impl PartialPacket {
    /// A packet that has announced this many attachments, at least one. Placeholders are checked here and not, as in
    /// the reference parser, when the last attachment is in: an illegal packet need not be waited for.
    pub(super) fn new(packet: Packet, announced: usize) -> Result<Self, DecodeError> {
        if let Packet::Event { args, .. } | Packet::Ack { args, .. } = &packet {
            check_placeholders(args.json(), announced)?;
        }
        Ok(Self { packet, announced, received: Vec::with_capacity(announced) })
    }

    /// How many attachments are still to come.
    pub(crate) fn missing(&self) -> usize {
        self.announced.saturating_sub(self.received.len())
    }

    /// Takes the next attachment; the last one completes the packet.
    ///
    /// # Errors
    /// None at present, since all that can be wrong is found when the text arrives. The signature leaves room for
    /// parsers that find it later.
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

/// Checks that every placeholder in valid JSON names one of the attachments: `{"_placeholder":true,"num":n}` with `n` an
/// integer below their number. Attachments that no placeholder names, or several, are legal (socket.io-parser).
///
/// Any other object is none of ours, a `_placeholder` that is not `true` included. Of a key given twice the last
/// counts, as for JSON.parse. Objects that the reference parser never looks at (within a placeholder, or under a key that
/// is given again) are checked too.
fn check_placeholders(json: &str, attachments: usize) -> Result<(), DecodeError> {
    // As deep as the JSON nests, which has been bounded.
    let mut open: Vec<Container> = Vec::new();
    for token in json::tokens(json) {
        match token {
            Token::OpenArray | Token::OpenObject => {
                settle(&mut open, Value::Other);
                open.push(Container::of(token));
            }
            Token::Close => {
                let closed = open.pop();
                if closed.is_some_and(|closed| closed.is_illegal(attachments)) {
                    return Err(DecodeError::IllegalPlaceholder { attachments });
                }
            }
            Token::String(text) => match open.last_mut() {
                Some(Container::Object(object)) if object.key.is_none() => object.key = Some(Key::of(text)),
                _ => settle(&mut open, Value::Other),
            },
            Token::Scalar("true") => settle(&mut open, Value::True),
            Token::Scalar(text) => settle(&mut open, text.parse().map_or(Value::Other, Value::Index)),
            Token::Comma | Token::Colon => {}
        }
    }
    Ok(())
}

/// Gives a value to the key that waits for it in the innermost object.
fn settle(open: &mut [Container], value: Value) {
    let Some(Container::Object(object)) = open.last_mut() else {
        return;
    };
    match object.key.take() {
        Some(Key::Placeholder) => object.placeholder = value,
        Some(Key::Num) => object.num = value,
        Some(Key::Other) | None => {}
    }
}

/// What is being walked through.
enum Container {
    Array,
    Object(Object),
}

/// As much of an object as tells whether it is a placeholder.
struct Object {
    /// The key whose value comes next.
    key: Option<Key>,
    placeholder: Value,
    num: Value,
}

enum Key {
    Placeholder,
    Num,
    Other,
}

#[derive(PartialEq, Eq)]
enum Value {
    True,
    /// A number written as an unsigned integer, as every encoder writes `num`.
    Index(usize),
    /// Anything else, or nothing.
    Other,
}

impl Container {
    fn of(token: Token<'_>) -> Self {
        match token {
            Token::OpenObject => Self::Object(Object { key: None, placeholder: Value::Other, num: Value::Other }),
            _ => Self::Array,
        }
    }

    fn is_illegal(&self, attachments: usize) -> bool {
        match self {
            Self::Object(object) if object.placeholder == Value::True => {
                !matches!(object.num, Value::Index(num) if num < attachments)
            }
            _ => false,
        }
    }
}

impl Key {
    fn of(text: &str) -> Self {
        match text {
            r#""_placeholder""# => Self::Placeholder,
            r#""num""# => Self::Num,
            _ if !text.contains('\\') => Self::Other,
            // JSON.parse resolves escapes before anybody compares keys.
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
        match decode(ByteString::from(text)) {
            Ok(Decoded::Partial(partial)) => partial,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn event(json: &str, attachments: usize) -> Result<Decoded, DecodeError> {
        decode(format!("5{attachments}-[\"a\",{json}]").into())
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
    fn a_num_that_is_no_index_is_illegal() {
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
        let decoded = decode(text.into());
        assert!(matches!(decoded, Ok(Decoded::Complete(_))), "{decoded:?}");
    }
}
