//! Tests with literal bytes as notepack.io writes them, and property tests in both directions.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::packet::{Args, Packet};
use super::super::proptests::{any_json, any_packet};
use super::super::{DecodeError, NESTING_MAX};
use super::write::Values;
use super::{ATTACHMENTS_MAX, decode};
use crate::ids::NamespacePath;
use crate::protocol::draft::{Draft, connect_error, connect_reply, disconnect};
use crate::protocol::socketio::Parser;

/// Encodes an event `a` of the root namespace, with arguments that are already encoded.
fn event(count: u8, arguments: &[u8]) -> Bytes {
    [b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data", &[0x91 + count][..], b"\xa1a", arguments].concat().into()
}

fn args(count: u8, arguments: &[u8]) -> Args {
    match decode(&event(count, arguments)) {
        Ok(Packet::Event { args, .. }) => args,
        other => panic!("{arguments:?}: {other:?}"),
    }
}

fn read(argument: &[u8]) -> String {
    args(1, argument).json().to_owned()
}

fn error(message: &[u8]) -> DecodeError {
    match decode(&Bytes::copy_from_slice(message)) {
        Err(error) => error,
        other => panic!("{message:?}: {other:?}"),
    }
}

fn written(json: &str) -> Vec<u8> {
    let mut buffer = BytesMut::new();
    Values::new(json, &[]).put(&mut buffer);
    buffer.to_vec()
}

fn path(path: &'static str) -> NamespacePath {
    NamespacePath::parse(path).unwrap()
}

#[test]
fn packets_of_the_javascript_client_are_read() {
    // These messages were written by socket.io-msgpack-parser 3.0.2 for socket.io-client 4.8.4.
    let connect = b"\x83\xa4type\x00\xa4data\xd4\x00\x00\xa3nsp\xa1/";
    assert_eq!(
        decode(&Bytes::from_static(connect)),
        Ok(Packet::Connect { namespace: NamespacePath::root(), auth: None })
    );
    let with_auth = b"\x83\xa4type\x00\xa4data\x81\xa5token\xa2\xc3\xa9\xa3nsp\xa5/chat";
    let auth = Some(r#"{"token":"é"}"#.into());
    assert_eq!(decode(&Bytes::from_static(with_auth)), Ok(Packet::Connect { namespace: path("/chat"), auth }));
    let event = b"\x85\xa4type\x02\xa4data\x93\xa2up\xc4\x02\x01\x02\x81\xa1n\x05\xa7options\x81\xa8compress\xc3\xa2id\x07\xa3nsp\xa1/";
    let Ok(Packet::Event { name, ack, args, .. }) = decode(&Bytes::from_static(event)) else { panic!("no event") };
    assert_eq!((&*name, ack), ("up", Some(7)));
    assert_eq!(args.iter().collect::<Vec<_>>(), [r#"{"_placeholder":true,"num":0}"#, r#"{"n":5}"#]);
    assert_eq!(args.attachments(), [Bytes::from_static(b"\x01\x02")]);
    let leave = b"\x82\xa4type\x01\xa3nsp\xa5/chat";
    assert_eq!(decode(&Bytes::from_static(leave)), Ok(Packet::Disconnect { namespace: path("/chat") }));
}

#[test]
fn every_format_is_read() {
    for (bytes, json) in [
        (&b"\x00"[..], "0"),
        (b"\x7f", "127"),
        (b"\xe0", "-32"),
        (b"\xff", "-1"),
        (b"\xcc\xff", "255"),
        (b"\xcd\xff\xff", "65535"),
        (b"\xce\xff\xff\xff\xff", "4294967295"),
        (b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "18446744073709551615"),
        (b"\xd0\x80", "-128"),
        (b"\xd0\x05", "5"),
        (b"\xd1\x80\x00", "-32768"),
        (b"\xd2\x80\x00\x00\x00", "-2147483648"),
        (b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00", "-9223372036854775808"),
        (b"\xca\x3f\xc0\x00\x00", "1.5"),
        (b"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00", "1.5"),
        (b"\xc0", "null"),
        (b"\xc2", "false"),
        (b"\xc3", "true"),
        (b"\xa1\"", r#""\"""#),
        (b"\xd9\x02\x00\n", r#""\u0000\u000a""#),
        (b"\xda\x00\x01x", r#""x""#),
        (b"\xdb\x00\x00\x00\x01x", r#""x""#),
        (b"\x92\x01\x90", "[1,[]]"),
        (b"\xdc\x00\x01\x01", "[1]"),
        (b"\xdd\x00\x00\x00\x01\x01", "[1]"),
        (b"\x82\xa1a\x01\xa1b\x80", r#"{"a":1,"b":{}}"#),
        (b"\xde\x00\x01\xa1a\x01", r#"{"a":1}"#),
        (b"\xdf\x00\x00\x00\x01\xa1a\x01", r#"{"a":1}"#),
    ] {
        assert_eq!(read(bytes), json, "{bytes:x?}");
    }
}

#[test]
fn values_that_json_lacks_are_converted_as_by_json_stringify() {
    for (bytes, json) in [
        // NaN, both infinities
        (&b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"[..], "null"),
        (b"\xca\x7f\x80\x00\x00", "null"),
        (b"\xcb\xff\xf0\x00\x00\x00\x00\x00\x00", "null"),
        // undefined: alone, in an array, as a value
        (b"\xd4\x00\x00", "null"),
        (b"\x92\xd4\x00\x00\x01", "[null,1]"),
        (b"\x82\xa1a\xd4\x00\x00\xa1b\x01", r#"{"b":1}"#),
        // dates
        (b"\xd7\x00\x00\x00\x00\x00\x00\x00\x00\x00", r#""1970-01-01T00:00:00.000Z""#),
        (b"\xd7\x00\xff\xff\xff\xff\xff\xff\xff\xff", r#""1969-12-31T23:59:59.999Z""#),
        (b"\xd7\x00\x00\x00\x01\x8d\xf4\xdc\x51\xfb", r#""2024-02-29T12:34:56.123Z""#),
        (b"\xd7\x00\x00\x1e\xb2\x08\xc2\xdc\x00\x00", r#""+275760-09-13T00:00:00.000Z""#),
        (b"\xd7\x00\xff\xe1\x4d\xf7\x3d\x24\x00\x00", r#""-271821-04-20T00:00:00.000Z""#),
        (b"\xd7\x00\x7f\xff\xff\xff\xff\xff\xff\xff", "null"),
        // keys
        (b"\x82\x05\x01\xe0\x02", r#"{"5":1,"-32":2}"#),
    ] {
        assert_eq!(read(bytes), json, "{bytes:x?}");
    }
}

#[test]
fn binary_in_every_format_is_an_attachment() {
    let placeholder = r#"{"_placeholder":true,"num":0}"#;
    for bytes in [
        &b"\xc4\x01x"[..],
        b"\xc5\x00\x01x",
        b"\xc6\x00\x00\x00\x01x",
        b"\xc7\x01\x00x",
        b"\xc8\x00\x01\x00x",
        b"\xc9\x00\x00\x00\x01\x00x",
    ] {
        let args = args(1, bytes);
        assert_eq!((args.json(), args.attachments()), (placeholder, &[Bytes::from_static(b"x")][..]), "{bytes:x?}");
    }
    for (bytes, json) in [
        (&b"\xd4\x05x"[..], format!("[5,{placeholder}]")),
        (b"\xd5\x00xy", format!("[0,{placeholder}]")),
        (b"\xd6\xffxxxx", format!("[-1,{placeholder}]")),
        (b"\xd8\x01xxxxxxxxxxxxxxxx", format!("[1,{placeholder}]")),
        (b"\xc7\x01\x07x", format!("[7,{placeholder}]")),
    ] {
        assert_eq!(read(bytes), json, "{bytes:x?}");
    }
}

#[test]
fn attachments_share_the_message() {
    let message = event(1, b"\xc4\x03xyz");
    let Ok(Packet::Event { args, .. }) = decode(&message) else { panic!("no event") };
    assert_eq!(args.attachments()[0].as_ptr(), message[message.len() - 3..].as_ptr());
}

#[test]
fn the_packet_is_checked_as_the_reference_parser_does() {
    for (message, field) in [
        (&b"\x93\x02\xa1/\x90"[..], "packet"),
        (b"\x80", "nsp"),
        (b"\x81\xa3nsp\xa1/", "type"),
        (b"\x82\xa4type\x05\xa3nsp\xa1/", "type"),
        (b"\x82\xa4type\xff\xa3nsp\xa1/", "type"),
        (b"\x82\xa4type\xa12\xa3nsp\xa1/", "type"),
        (b"\x82\xa4type\x02\xa3nsp\x01", "nsp"),
        (b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x80", "data of event"),
        (b"\x84\xa4type\x03\xa2id\x01\xa3nsp\xa1/\xa4data\xc0", "data of ack"),
        (b"\x83\xa4type\x04\xa3nsp\xa1/\xa4data\x01", "data of connect_error"),
        (b"\x83\xa4type\x02\xa2id\xff\xa3nsp\xa1/", "id"),
        (b"\x83\xa4type\x02\xa2id\xc0\xa3nsp\xa1/", "id"),
        (b"\x83\xa4type\x02\xa2id\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xa3nsp\xa1/", "id"),
    ] {
        let found = error(message);
        assert!(matches!(found, DecodeError::WrongField { field: f, .. } if f == field), "{message:x?}: {found:?}");
    }
    assert!(matches!(error(b"\x82\xa4type\x02\xa3nsp\xa0"), DecodeError::IllegalNamespace(_)));
    for auth in [&b"\xc0"[..], b"\x90", b"\x81\xa1a\xc4\x00"] {
        assert_eq!(error(&[b"\x83\xa4type\x00\xa3nsp\xa1/\xa4data", auth].concat()), DecodeError::WrongAuth);
    }
    for nameless in [&b"\x82\xa4type\x02\xa3nsp\xa1/"[..], b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x90"] {
        assert_eq!(error(nameless), DecodeError::IllegalEventName);
    }
    assert_eq!(error(b"\x83\xa4type\x03\xa3nsp\xa1/\xa4data\x90"), DecodeError::MissingAckId);
    assert_eq!(error(b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x91\xc0"), DecodeError::IllegalEventName);
    assert_eq!(
        error(b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x91\xa7connect"),
        DecodeError::ReservedEventName { name: "connect" }
    );
}

#[test]
fn unknown_keys_and_numbers_written_as_doubles_are_accepted() {
    let message = b"\x86\xa4type\xcb\x40\x00\x00\x00\x00\x00\x00\x00\xa1x\x82\xc0\x91\xc4\x01y\xa1z\xc3\xa3nsp\xa1/\xa4data\x91\x05\xa2id\xcb\x40\x1c\x00\x00\x00\x00\x00\x00\xabattachments\x00";
    let Ok(Packet::Event { name, ack, .. }) = decode(&Bytes::from_static(message)) else {
        panic!("{:?}", decode(&Bytes::from_static(message)))
    };
    assert_eq!((&*name, ack), ("5", Some(7)));
}

#[test]
fn invalid_msgpack_is_an_error() {
    let whole = event(1, b"\x81\xa1k\x92\xc4\x02xy\xd9\x02ab");
    assert!(decode(&whole).is_ok());
    for cut in 0..whole.len() {
        let found = error(&whole[..cut]);
        assert!(matches!(found, DecodeError::InvalidMsgpack { found: "an end", .. }), "{cut}: {found:?}");
    }
    for (argument, expected) in [
        (&b"\xc1"[..], "the marker that msgpack reserves"),
        (b"\xa1\xff", "a string that is not UTF-8"),
        (b"\x81\xa1\xff\x01", "a string that is not UTF-8"),
        (b"\x81\xc0\x01", "a key that is neither a string nor an integer"),
        (b"\x81\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\x01", "a key that is neither a string nor an integer"),
        (b"\x01\x01", "trailing bytes after the packet"),
    ] {
        let found = error(&event(1, argument));
        assert!(matches!(found, DecodeError::InvalidMsgpack { found, .. } if found == expected), "{found:?}");
    }
    assert!(matches!(error(b"\x81\x01\x02"), DecodeError::InvalidMsgpack { .. }));
}

#[test]
fn a_lone_surrogate_is_read_as_one_replacement_character() {
    for (argument, expected) in [
        (&b"\xa4a\xed\xa0\x80"[..], "\"a\u{fffd}\""),
        (b"\xa7\xed\xb0\x80b\xed\xa0\x80", "\"\u{fffd}b\u{fffd}\""),
        (b"\x81\xa3\xed\xa0\x80\x01", "{\"\u{fffd}\":1}"),
    ] {
        let Ok(Packet::Event { args, .. }) = decode(&event(1, argument)) else { panic!("{argument:?}") };
        assert_eq!(args.json(), expected);
    }
}

#[test]
fn an_announced_length_allocates_nothing() {
    for argument in [
        &b"\xdd\xff\xff\xff\xff\xc0"[..],
        b"\xdf\xff\xff\xff\xff\x01\x01",
        b"\xdb\xff\xff\xff\xffx",
        b"\xc6\xff\xff\xff\xffx",
        b"\xc9\xff\xff\xff\xff\x00x",
    ] {
        assert!(
            matches!(error(&event(1, argument)), DecodeError::InvalidMsgpack { found: "an end", .. }),
            "{argument:x?}"
        );
    }
    assert!(matches!(error(b"\xdf\xff\xff\xff\xff\xa4type\x02"), DecodeError::InvalidMsgpack { .. }));
    let count = b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\xdd\xff\xff\xff\xff\xa1a";
    assert!(matches!(error(count), DecodeError::InvalidMsgpack { .. }));
}

#[test]
fn nesting_is_bounded_as_in_json() {
    // The array of the arguments is the first level of nesting.
    let nested = |depth| [vec![0x91; depth - 2], vec![0x90]].concat();
    assert!(decode(&event(1, &nested(NESTING_MAX))).is_ok());
    assert_eq!(error(&event(1, &nested(NESTING_MAX + 1))), DecodeError::TooDeep);
    assert_eq!(error(&event(1, &nested(1_000_000))), DecodeError::TooDeep);
    // A placeholder adds one level. An extension adds two: an array with a placeholder.
    let around = |depth: usize, item: &[u8]| [&vec![0x91; depth - 1][..], item].concat();
    for (item, levels) in [(&b"\xc4\x00"[..], 1), (b"\xd4\x05x", 2)] {
        let message = event(1, &around(NESTING_MAX - levels, item));
        let Ok(Packet::Event { args, .. }) = decode(&message) else { panic!("too deep: {item:x?}") };
        assert!(serde_json::from_str::<Value>(&format!("[{}]", args.json())).is_ok());
        assert_eq!(error(&event(1, &around(NESTING_MAX - levels + 1, item))), DecodeError::TooDeep, "{item:x?}");
    }
    // Skipped values may have any depth.
    let deep =
        [b"\x84\xa4type\x02\xa3nsp\xa1/\xa1x".to_vec(), nested(1_000_000), b"\xa4data\x91\xa1a".to_vec()].concat();
    assert!(decode(&deep.into()).is_ok());
}

#[test]
fn attachments_are_bounded() {
    let many = |count: usize| {
        let mut argument = vec![0xdc, (count >> 8) as u8, count as u8];
        argument.extend([0xc4, 0x00].repeat(count));
        event(1, &argument)
    };
    let Ok(Packet::Event { args, .. }) = decode(&many(ATTACHMENTS_MAX)) else { panic!("too many") };
    assert_eq!(args.attachments().len(), ATTACHMENTS_MAX);
    let (count, limit) = (ATTACHMENTS_MAX + 1, ATTACHMENTS_MAX);
    assert_eq!(error(&many(ATTACHMENTS_MAX + 1)), DecodeError::TooManyAttachments { count, limit });
}

#[test]
fn a_received_map_with_the_key_of_a_placeholder_is_an_error() {
    for map in [
        &b"\x82\xac_placeholder\xc3\xa3num\x00"[..],
        b"\x82\xa3num\x00\xac_placeholder\xc2",
        b"\x81\xac_placeholder\xd4\x00\x00",
        b"\x91\x81\x01\x81\xd9\x0c_placeholder\xc0",
    ] {
        let beside = [map, b"\xc4\x01x"].concat();
        for message in [event(1, map), event(2, &beside)] {
            assert_eq!(error(&message), DecodeError::IllegalPlaceholder { attachments: 0 }, "{map:x?}");
        }
    }
    // A string value `_placeholder` has no special meaning.
    assert_eq!(read(b"\xac_placeholder"), r#""_placeholder""#);
}

#[test]
fn an_attachment_with_many_placeholders_is_written_once() {
    let placeholder = r#"{"_placeholder":true,"num":0}"#;
    let twice = format!("{placeholder},[{placeholder}],{placeholder}");
    let mut buffer = BytesMut::new();
    Values::new(&twice, &[Bytes::from_static(b"x")]).put(&mut buffer);
    assert_eq!(&buffer[..], b"\xc4\x01x\x91\xc0\xc0");
    // The inner placeholder is not written, so the attachment replaces the outer one.
    buffer.clear();
    let nested = format!(r#"{{"_placeholder":true,"num":0,"x":{placeholder}}}"#);
    Values::new(&nested, &[Bytes::from_static(b"x")]).put(&mut buffer);
    assert_eq!(&buffer[..], b"\xc4\x01x");
}

#[test]
fn json_is_written_in_the_shortest_form() {
    for (json, bytes) in [
        ("0", &b"\x00"[..]),
        ("127", b"\x7f"),
        ("128", b"\xcc\x80"),
        ("256", b"\xcd\x01\x00"),
        ("65536", b"\xce\x00\x01\x00\x00"),
        ("4294967296", b"\xcf\x00\x00\x00\x01\x00\x00\x00\x00"),
        ("18446744073709551615", b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("18446744073709551616", b"\xcb\x43\xf0\x00\x00\x00\x00\x00\x00"),
        ("-1", b"\xff"),
        ("-32", b"\xe0"),
        ("-33", b"\xd0\xdf"),
        ("-129", b"\xd1\xff\x7f"),
        ("-32769", b"\xd2\xff\xff\x7f\xff"),
        ("-2147483649", b"\xd3\xff\xff\xff\xff\x7f\xff\xff\xff"),
        ("-0", b"\xcb\x80\x00\x00\x00\x00\x00\x00\x00"),
        ("1.5", b"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"),
        ("1e400", b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00"),
        ("null , true,\nfalse", b"\xc0\xc3\xc2"),
        (r#""é\n\ud83d\ude00""#, b"\xa7\xc3\xa9\n\xf0\x9f\x98\x80"),
        (r#"[ {"a" : [ ]} , "]" ]"#, b"\x92\x81\xa1a\x90\xa1]"),
        ("", b""),
    ] {
        assert_eq!(written(json), bytes, "{json}");
    }
    for (length, header) in
        [(31, &b"\xbf"[..]), (32, b"\xd9\x20"), (256, b"\xda\x01\x00"), (65_536, b"\xdb\x00\x01\x00\x00")]
    {
        assert!(written(&format!("{:?}", "x".repeat(length))).starts_with(header), "{length}");
    }
    for (length, header) in [(15, &b"\x9f"[..]), (16, b"\xdc\x00\x10"), (65_536, b"\xdd\x00\x01\x00\x00")] {
        assert!(written(&format!("[{}]", vec!["1"; length].join(","))).starts_with(header), "{length}");
    }
}

#[test]
fn a_lone_surrogate_is_replaced() {
    assert!(String::from_utf8(written(r#""a\ud800""#)[1..].to_vec()).unwrap().starts_with("a\u{fffd}"));
}

#[test]
fn invalid_json_does_not_panic() {
    for text in [
        "]",
        "[",
        "{",
        "}}",
        "[1",
        "{\"a\"",
        "{1",
        "\"",
        "\"\\",
        "nul",
        "[]]",
        ":,",
        "{\"_placeholder\":true,\"num\":0",
    ] {
        let mut buffer = BytesMut::new();
        let attachments = [Bytes::from_static(b"x")];
        Values::new(text, &attachments).put(&mut buffer);
    }
}

#[test]
fn packets_are_written_with_the_id_first() {
    let attachments = vec![Bytes::from_static(b"\x01\x02"), Bytes::from_static(b"\x03")];
    let placeholder = r#"{"_placeholder":true,"num":0},[{"num":1,"x":[{}],"_placeholder":true},2]"#;
    let draft = Draft::event(Parser::Msgpack, path("/chat"), "up", placeholder, attachments, false);
    let message = draft.seal(Some(300), None);
    let packets: Vec<_> = message.packets().collect();
    assert_eq!(packets.len(), 1);
    assert!(packets[0].is_binary());
    assert_eq!(
        packets[0].body(),
        b"\x84\xa2id\xcd\x01\x2c\xa4type\x02\xa3nsp\xa5/chat\xa4data\x93\xa2up\xc4\x02\x01\x02\x92\xc4\x01\x03\x02"
    );
    assert_eq!(packets[0].frame()[..2], [0x82, packets[0].body().len() as u8]);
    let ack = Draft::ack(Parser::Msgpack, NamespacePath::root(), 7, "", vec![]);
    assert_eq!(ack.packets().next().unwrap().body(), b"\x84\xa2id\x07\xa4type\x03\xa3nsp\xa1/\xa4data\x90");
}

#[test]
fn the_token_is_the_last_argument() {
    use crate::ids::{Epoch, Fingerprint, Lsn, Offset};
    let token = Offset { epoch: Epoch::new(1, 2), lsn: Lsn(3), fingerprint: Fingerprint::new(4) };
    let draft = Draft::event(Parser::Msgpack, NamespacePath::root(), "e", "1", vec![], true);
    let message = draft.seal(None, Some(&token));
    let body = message.packets().next().unwrap().body();
    let expected = [b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x93\xa1e\x01\xb5", &token.encode()[..]].concat();
    assert_eq!(body, expected);
}

#[test]
fn connect_replies_are_maps() {
    let reply = connect_reply(Parser::Msgpack, &NamespacePath::root(), "S", Some("P"));
    assert_eq!(reply.body(), b"\x83\xa4type\x00\xa3nsp\xa1/\xa4data\x82\xa3sid\xa1S\xa3pid\xa1P");
    let error = connect_error(Parser::Msgpack, &path("/a"), r#"{"message":"no"}"#);
    assert_eq!(error.body(), b"\x83\xa4type\x04\xa3nsp\xa2/a\xa4data\x81\xa7message\xa2no");
    assert_eq!(disconnect(Parser::Msgpack, &path("/a")).body(), b"\x82\xa4type\x01\xa3nsp\xa2/a");
}

/// Encodes a packet as this server sends it. The CONNECT of a client is encoded here, since the
/// server never sends this packet.
fn encode(packet: &Packet) -> Bytes {
    let body = |message: crate::protocol::encoded::Message| {
        Bytes::copy_from_slice(message.packets().next().map_or(&[], |packet| packet.body()))
    };
    match packet.clone() {
        Packet::Connect { namespace, auth } => {
            let mut message = BytesMut::new();
            super::put_map(&mut message, 3);
            super::put_str(&mut message, "data");
            match &auth {
                Some(auth) => Values::new(auth, &[]).put(&mut message),
                None => message.extend_from_slice(b"\xd4\x00\x00"),
            }
            super::put_str(&mut message, "nsp");
            super::put_str(&mut message, namespace.as_str());
            super::put_str(&mut message, "type");
            super::put_unsigned(&mut message, 0);
            message.freeze()
        }
        Packet::Disconnect { namespace } => body(disconnect(Parser::Msgpack, &namespace).into()),
        Packet::ConnectError { namespace, data } => body(connect_error(Parser::Msgpack, &namespace, &data).into()),
        Packet::Event { namespace, name, ack, args } => {
            let attachments = args.attachments().to_vec();
            body(Draft::event(Parser::Msgpack, namespace, &name, args.json(), attachments, false).seal(ack, None))
        }
        Packet::Ack { namespace, id, args } => {
            body(Draft::ack(Parser::Msgpack, namespace, id, args.json(), args.attachments().to_vec()))
        }
    }
}

/// The packet's parsed JSON with attachments in place of placeholders, for comparison by value.
fn meaning(packet: &Packet) -> (Value, Vec<Value>) {
    fn fill(value: &mut Value, attachments: &[Bytes]) {
        match value {
            Value::Object(object) if object.get("_placeholder") == Some(&Value::Bool(true)) => {
                let num = object["num"].as_u64().unwrap() as usize;
                *value = json!({ "binary": attachments[num].to_vec() });
            }
            Value::Object(object) => object.values_mut().for_each(|value| fill(value, attachments)),
            Value::Array(array) => array.iter_mut().for_each(|value| fill(value, attachments)),
            _ => {}
        }
    }
    let parsed = |text: &str| serde_json::from_str(text).unwrap();
    let values = |args: &Args| {
        let mut values: Vec<Value> = args.iter().map(parsed).collect();
        values.iter_mut().for_each(|value| fill(value, args.attachments()));
        values
    };
    let namespace = packet.namespace().as_str();
    match packet {
        Packet::Connect { auth, .. } => (json!(["connect", namespace]), auth.iter().map(|text| parsed(text)).collect()),
        Packet::Disconnect { .. } => (json!(["disconnect", namespace]), vec![]),
        Packet::ConnectError { data, .. } => (json!(["connect_error", namespace]), vec![parsed(data)]),
        Packet::Event { name, ack, args, .. } => (json!(["event", namespace, &**name, ack]), values(args)),
        Packet::Ack { id, args, .. } => (json!(["ack", namespace, id]), values(args)),
    }
}

proptest! {
    #[test]
    fn json_through_msgpack_is_the_same_json(value in any_json()) {
        let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        // The original text is parsed, too, since serde_json may round a double to its neighbour.
        let text = value.to_string();
        prop_assert_eq!(parsed(&read(&written(&text))), parsed(&text));
    }

    #[test]
    fn packets_through_msgpack_mean_the_same(packet in any_packet()) {
        let again = decode(&encode(&packet)).unwrap();
        prop_assert_eq!(meaning(&again), meaning(&packet));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = decode(&bytes.clone().into());
        let _ = decode(&event(1, &bytes));
    }

    #[test]
    fn truncated_or_altered_packets_never_panic(packet in any_packet(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let mut bent = encode(&packet).to_vec();
        let at = at.index(bent.len());
        prop_assert!(decode(&Bytes::copy_from_slice(&bent[..at])).is_err());
        bent[at] = with;
        let _ = decode(&bent.into());
    }
}
