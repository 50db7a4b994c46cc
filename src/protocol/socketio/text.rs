//! Socket.IO packets as text: `<type>[<attachments>-][/namespace,][ack id][json]`.
//!
//! The decoder follows socket.io-parser 4.2.7. It rejects some malformed text that socket.io-parser
//! accepts: a missing type, which would be a CONNECT, and a space, which would be the ack id 0.

use bytestring::ByteString;

use super::event_name::event_name;
use super::json::{self, Elements, Head};
use super::packet::{Args, Packet};
use super::{ATTACHMENTS_MAX, DecodeError, PartialPacket};
use crate::ids::NamespacePath;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decoded {
    Complete(Packet),
    /// A packet whose attachments must follow in the next messages.
    Partial(PartialPacket),
}

/// Decodes the data of an Engine.IO message (without the leading `4`).
///
/// Credentials, arguments, and event names that have no escapes share the buffer of `text` and keep
/// this buffer in memory.
///
/// # Errors
/// Any [`DecodeError`]. [`Rejection`](super::rejection::Rejection) determines its consequence.
pub(crate) fn decode(text: &ByteString) -> Result<Decoded, DecodeError> {
    if u32::try_from(text.len()).is_err() {
        return Err(DecodeError::TooLong { bytes: text.len() });
    }
    let header = Header::read(text)?;
    json::check_nesting(header.data)?;
    let namespace = header.namespace()?;
    let packet = match header.kind {
        Kind::Connect => connect(text, namespace, header.data)?,
        // The data of a DISCONNECT is ignored.
        Kind::Disconnect => Packet::Disconnect { namespace },
        Kind::Event => event(text, namespace, &header)?,
        Kind::Ack => ack(text, namespace, &header)?,
        Kind::ConnectError => connect_error(text, namespace, header.data)?,
    };
    match header.attachments {
        0 => Ok(Decoded::Complete(packet)),
        attachments => PartialPacket::new(packet, attachments).map(Decoded::Partial),
    }
}

/// Namespace path of a CONNECT, unchecked. `None` for other packets.
pub(super) fn connect_path(text: &str) -> Option<&str> {
    let (namespace, _) = split_namespace(text.strip_prefix('0')?);
    Some(namespace.unwrap_or("/"))
}

/// Number of attachments that a packet announces, even if the number is not allowed. `None` if the
/// number is missing or does not fit into `usize`.
pub(super) fn attachments(text: &str) -> Option<usize> {
    match text.strip_prefix(['5', '6']) {
        None => Some(0),
        Some(rest) => split_digits(rest).0.parse().ok(),
    }
}

/// Kinds of packets. Type `5`, an event with attachments, is an `Event`, and type `6` is an `Ack`.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Connect,
    Disconnect,
    Event,
    Ack,
    ConnectError,
}

struct Header<'t> {
    kind: Kind,
    /// Number of attachments that follow. Zero only if the packet is not binary.
    attachments: usize,
    namespace: Option<&'t str>,
    /// Ack id. As in the reference parser, the id is parsed for every packet type, but only events
    /// and acks use it.
    id: Option<u64>,
    /// The rest of the text, which should be JSON.
    data: &'t str,
}

impl<'t> Header<'t> {
    fn read(text: &'t str) -> Result<Self, DecodeError> {
        let mut rest = text.chars();
        let (kind, binary) = match rest.next().ok_or(DecodeError::Empty)? {
            '0' => (Kind::Connect, false),
            '1' => (Kind::Disconnect, false),
            '2' => (Kind::Event, false),
            '3' => (Kind::Ack, false),
            '4' => (Kind::ConnectError, false),
            '5' => (Kind::Event, true),
            '6' => (Kind::Ack, true),
            found => return Err(DecodeError::UnknownType { found }),
        };
        let rest = rest.as_str();
        let (attachments, rest) = if binary { split_attachments(rest)? } else { (0, rest) };
        let (namespace, rest) = split_namespace(rest);
        let (id, data) = split_id(rest)?;
        Ok(Self { kind, attachments, namespace, id, data })
    }

    fn namespace(&self) -> Result<NamespacePath, DecodeError> {
        match self.namespace {
            None => Ok(NamespacePath::root()),
            Some(path) => NamespacePath::parse(path).map_err(DecodeError::IllegalNamespace),
        }
    }
}

fn split_attachments(text: &str) -> Result<(usize, &str), DecodeError> {
    let (digits, rest) = split_digits(text);
    let rest = rest.strip_prefix('-').ok_or(DecodeError::IllegalAttachments)?;
    if digits.is_empty() {
        return Err(DecodeError::IllegalAttachments);
    }
    match digits.parse().unwrap_or(usize::MAX) {
        0 => Err(DecodeError::IllegalAttachments),
        count if count > ATTACHMENTS_MAX => Err(DecodeError::TooManyAttachments { count, limit: ATTACHMENTS_MAX }),
        count => Ok((count, rest)),
    }
}

/// Splits off the namespace, which ends at a comma or at the end of the text: `0/chat` is valid. A
/// query string (`/chat?x=1,`) stays part of the path, as in socket.io-parser. The reference server
/// removes a query string only for clients of protocol 3. [`NamespacePath`] validates the path.
fn split_namespace(text: &str) -> (Option<&str>, &str) {
    if !text.starts_with('/') {
        return (None, text);
    }
    let (namespace, rest) = text.split_once(',').unwrap_or((text, ""));
    (Some(namespace), rest)
}

fn split_id(text: &str) -> Result<(Option<u64>, &str), DecodeError> {
    let (digits, rest) = split_digits(text);
    if digits.is_empty() {
        return Ok((None, rest));
    }
    let too_large = |_| DecodeError::AckIdTooLarge { digits: digits.len() };
    Ok((Some(digits.parse().map_err(too_large)?), rest))
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn connect(text: &ByteString, namespace: NamespacePath, data: &str) -> Result<Packet, DecodeError> {
    let auth = match data {
        // Whitespace is not data: command-line clients append a line feed.
        _ if data.trim_ascii().is_empty() => None,
        _ if data.starts_with('{') => Some(text.slice_ref(json::value(data)?)),
        _ => return Err(DecodeError::WrongAuth),
    };
    Ok(Packet::Connect { namespace, auth })
}

fn event(text: &ByteString, namespace: NamespacePath, header: &Header<'_>) -> Result<Packet, DecodeError> {
    if header.data.is_empty() {
        return Err(DecodeError::IllegalEventName);
    }
    if !header.data.starts_with('[') {
        return Err(wrong_data("event", "an array that begins with the event's name"));
    }
    let elements = json::elements(header.data, Head::Name)?;
    let name = elements.head.ok_or(DecodeError::IllegalEventName)?;
    Ok(Packet::Event { namespace, name: event_name(text, name)?, ack: header.id, args: args(text, elements) })
}

/// As in the reference parser, an ack without data has no arguments.
fn ack(text: &ByteString, namespace: NamespacePath, header: &Header<'_>) -> Result<Packet, DecodeError> {
    let args = match header.data {
        "" => Args::default(),
        data if data.starts_with('[') => args(text, json::elements(data, Head::None)?),
        _ => return Err(wrong_data("ack", "an array")),
    };
    Ok(Packet::Ack { namespace, id: header.id.ok_or(DecodeError::MissingAckId)?, args })
}

fn connect_error(text: &ByteString, namespace: NamespacePath, data: &str) -> Result<Packet, DecodeError> {
    let data = match data {
        // Empty data is accepted, as in socket.io-parser.
        "" => data,
        data if data.starts_with(['{', '"']) => json::value(data)?,
        _ => return Err(wrong_data("connect_error", "an object or a string")),
    };
    let data = text.slice_ref(data);
    Ok(Packet::ConnectError { namespace, data })
}

fn args(text: &ByteString, elements: Elements<'_>) -> Args {
    Args::new(text.slice_ref(elements.rest), elements.spans)
}

fn wrong_data(packet: &'static str, expected: &'static str) -> DecodeError {
    DecodeError::WrongData { packet, expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(text: &'static str) -> Packet {
        match decode(&ByteString::from_static(text)) {
            Ok(Decoded::Complete(packet)) => packet,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn error(text: &str) -> DecodeError {
        match decode(&ByteString::from(text)) {
            Err(error) => error,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn path(path: &'static str) -> NamespacePath {
        NamespacePath::parse(path).expect("a namespace")
    }

    fn event(namespace: &'static str, name: &'static str, ack: Option<u64>, args: &[&str]) -> Packet {
        Packet::Event {
            namespace: path(namespace),
            name: name.into(),
            ack,
            args: Args::from_elements(args.iter().map(|arg| (*arg).to_owned())),
        }
    }

    #[test]
    fn connect_has_an_object_or_nothing() {
        let connect = |namespace, auth: Option<&'static str>| Packet::Connect {
            namespace: path(namespace),
            auth: auth.map(ByteString::from_static),
        };
        assert_eq!(packet("0"), connect("/", None));
        assert_eq!(packet("0{\"token\":\"é\"} "), connect("/", Some("{\"token\":\"é\"}")));
        assert_eq!(packet("0/chat,"), connect("/chat", None));
        assert_eq!(packet("0/chat"), connect("/chat", None));
        assert_eq!(packet("0/chat,{}"), connect("/chat", Some("{}")));
        assert_eq!(packet("0/,{}"), connect("/", Some("{}")));
        assert_eq!(packet("012{}"), connect("/", Some("{}")));
        assert_eq!(packet("0\n"), connect("/", None));
        assert_eq!(packet("0/chat,\r\n"), connect("/chat", None));
        for bad in ["0[]", "0null", "0\"a\"", "0 {}", "0x", "0-1"] {
            assert_eq!(error(bad), DecodeError::WrongAuth, "{bad}");
        }
    }

    #[test]
    fn data_of_a_disconnect_is_ignored() {
        assert_eq!(packet("1"), Packet::Disconnect { namespace: path("/") });
        assert_eq!(packet("1/admin,"), Packet::Disconnect { namespace: path("/admin") });
        assert_eq!(packet("1/admin"), Packet::Disconnect { namespace: path("/admin") });
        assert_eq!(packet("1/admin,[]"), Packet::Disconnect { namespace: path("/admin") });
    }

    #[test]
    fn event_has_name_and_arguments() {
        assert_eq!(packet(r#"2["a"]"#), event("/", "a", None, &[]));
        assert_eq!(packet(r#"2["a",1,{"b":[2]}]"#), event("/", "a", None, &["1", r#"{"b":[2]}"#]));
        assert_eq!(packet(r#"2/chat,12["é","\ud800"]"#), event("/chat", "é", Some(12), &[r#""\ud800""#]));
        assert_eq!(packet(r#"2007[""]"#), event("/", "", Some(7), &[]));
        assert_eq!(packet(r#"218446744073709551615["a"]"#), event("/", "a", Some(u64::MAX), &[]));
    }

    #[test]
    fn arguments_keep_their_whitespace() {
        let Packet::Event { args, .. } = packet("2[ \"a\" , 1 ,\t{ } ]\n") else {
            panic!("not an event");
        };
        assert_eq!(args.json(), "1 ,\t{ }");
        assert_eq!(args.iter().collect::<Vec<_>>(), ["1", "{ }"]);
    }

    #[test]
    fn an_event_needs_an_array_and_a_name() {
        for bad in ["2{}", "2\"a\"", "2 [\"a\"]", "21-[\"a\"]", "2abc[\"a\"]"] {
            assert!(matches!(error(bad), DecodeError::WrongData { packet: "event", .. }), "{bad}");
        }
        for nameless in ["2", "2/chat,", "2/chat[\"a\"]", "2[]", "2[null]"] {
            assert_eq!(error(nameless), DecodeError::IllegalEventName, "{nameless}");
        }
    }

    #[test]
    fn ack_has_an_id_and_an_array() {
        let ack = |id, args: &[&str]| Packet::Ack {
            namespace: path("/"),
            id,
            args: Args::from_elements(args.iter().map(|arg| (*arg).to_owned())),
        };
        assert_eq!(packet("31[]"), ack(1, &[]));
        assert_eq!(packet("3/,12[1,\"ok\"]"), ack(12, &["1", "\"ok\""]));
        assert_eq!(packet("31"), ack(1, &[]));
        assert_eq!(error("3[]"), DecodeError::MissingAckId);
        for bad in ["31{}", "31null"] {
            assert_eq!(error(bad), wrong_data("ack", "an array"), "{bad}");
        }
    }

    #[test]
    fn an_ack_id_beyond_64_bits_is_an_error() {
        let too_large = error("218446744073709551616[\"a\"]");
        assert_eq!(too_large, DecodeError::AckIdTooLarge { digits: 20 });
        let digits = "9".repeat(100_000);
        assert_eq!(error(&format!("3{digits}[]")), DecodeError::AckIdTooLarge { digits: 100_000 });
    }

    #[test]
    fn connect_error_has_an_object_or_a_string() {
        let refused = |data: &'static str| Packet::ConnectError { namespace: path("/a"), data: data.into() };
        assert_eq!(packet(r#"4/a,{"message":"no"}"#), refused(r#"{"message":"no"}"#));
        assert_eq!(packet(r#"4/a,"no""#), refused(r#""no""#));
        assert_eq!(packet("4/a"), refused(""));
        for bad in ["4[]", "4/a,true"] {
            assert!(matches!(error(bad), DecodeError::WrongData { packet: "connect_error", .. }), "{bad}");
        }
    }

    #[test]
    fn attachments_are_one_to_ten() {
        for bad in
            ["5", "5[]", "5-[\"a\"]", "50-[\"a\"]", "51[\"a\"]", "5a-[\"a\"]", "5-1-[\"a\"]", "51.0-[]", "6+1-1[]"]
        {
            assert_eq!(error(bad), DecodeError::IllegalAttachments, "{bad}");
        }
        assert_eq!(error("511-[\"a\"]"), DecodeError::TooManyAttachments { count: 11, limit: 10 });
        let giant = error("599999999999999999999999-[\"a\"]");
        assert_eq!(giant, DecodeError::TooManyAttachments { count: usize::MAX, limit: 10 });
        for text in ["51-[\"a\"]", "510-/chat,7[\"a\"]", "61-/chat,7[]", "501-[\"a\"]"] {
            let decoded = decode(&ByteString::from_static(text));
            assert!(matches!(decoded, Ok(Decoded::Partial(_))), "{text}: {decoded:?}");
        }
    }

    #[test]
    fn a_query_stays_part_of_the_path() {
        assert_eq!(split_namespace("/chat?x=1,{}"), (Some("/chat?x=1"), "{}"));
    }

    #[test]
    fn type_and_namespace_are_checked() {
        assert_eq!(error(""), DecodeError::Empty);
        assert_eq!(error("7"), DecodeError::UnknownType { found: '7' });
        assert_eq!(error(" "), DecodeError::UnknownType { found: ' ' });
        assert_eq!(error("é"), DecodeError::UnknownType { found: 'é' });
        let long = format!("0/{},", "a".repeat(256));
        assert!(matches!(error(&long), DecodeError::IllegalNamespace(_)), "{long}");
    }

    #[test]
    fn deep_json_is_an_error_in_every_field() {
        let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        for text in [
            format!("2[\"a\",{deep}]"),
            format!("2{deep}"),
            format!("31{deep}"),
            format!("51-[\"a\",{deep}]"),
            format!("0{{\"a\":{deep}}}"),
            format!("4{{\"a\":{deep}}}"),
        ] {
            assert_eq!(error(&text), DecodeError::TooDeep, "{}", &text[..20]);
        }
    }

    #[test]
    fn name_and_arguments_are_not_copied() {
        let text = ByteString::from("2/chat,[\"hello\",1,2]".to_owned());
        let at = |offset| text.as_ptr().wrapping_add(offset);
        let Ok(Decoded::Complete(Packet::Event { name, args, .. })) = decode(&text) else {
            panic!("not an event");
        };
        assert_eq!(name.as_ptr(), at(9));
        assert_eq!(args.json().as_ptr(), at(16));
    }
}
