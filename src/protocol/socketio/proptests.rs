//! Property tests of the Socket.IO codec: decoding inverts encoding, and no input panics. The
//! encoder in this file is a plain implementation of the protocol, independent of the decoder.

use bytes::Bytes;
use bytestring::ByteString;
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::packet::{Args, Packet};
use super::text::{Decoded, decode};
use super::*;
use crate::ids::NamespacePath;

fn encode(packet: &Packet) -> (String, Vec<Bytes>) {
    let attachments = match packet {
        Packet::Event { args, .. } | Packet::Ack { args, .. } => args.attachments().to_vec(),
        _ => Vec::new(),
    };
    let (plain, binary) = match packet {
        Packet::Connect { .. } => ("0", ""),
        Packet::Disconnect { .. } => ("1", ""),
        Packet::Event { .. } => ("2", "5"),
        Packet::Ack { .. } => ("3", "6"),
        Packet::ConnectError { .. } => ("4", ""),
    };
    let mut text = match attachments.len() {
        0 => plain.to_owned(),
        n => format!("{binary}{n}-"),
    };
    if !packet.namespace().is_root() {
        text += &format!("{},", packet.namespace());
    }
    match packet {
        Packet::Connect { auth, .. } => text += auth.as_deref().unwrap_or_default(),
        Packet::Disconnect { .. } => {}
        Packet::Event { name, ack, args, .. } => {
            text += &ack.map(|id| id.to_string()).unwrap_or_default();
            let comma = if args.is_empty() { "" } else { "," };
            text += &format!("[{}{comma}{}]", json!(&**name), args.json());
        }
        Packet::Ack { id, args, .. } => text += &format!("{id}[{}]", args.json()),
        Packet::ConnectError { data, .. } => text += data,
    }
    (text, attachments)
}

fn decode_all(text: String, attachments: Vec<Bytes>) -> Result<Packet, DecodeError> {
    let mut decoded = decode(&text.into())?;
    for attachment in attachments {
        let Decoded::Partial(partial) = decoded else {
            panic!("more attachments than announced");
        };
        decoded = partial.push(attachment)?;
    }
    match decoded {
        Decoded::Complete(packet) => Ok(packet),
        Decoded::Partial(partial) => panic!("{} attachments too few", partial.missing()),
    }
}

pub(super) fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..4).prop_map(Value::from_iter),
        ]
    })
}

fn any_object() -> impl Strategy<Value = ByteString> {
    prop::collection::hash_map(any::<String>(), any_json(), 0..4)
        .prop_map(|map| Value::from_iter(map).to_string().into())
}

fn any_namespace() -> impl Strategy<Value = NamespacePath> {
    let path = "/[a-z0-9/-]{1,20}";
    prop_oneof![Just(NamespacePath::root()), path.prop_map(|path| NamespacePath::parse(&path).expect("a namespace")),]
}

/// Arguments of arbitrary JSON, with one placeholder for each attachment, in random order.
fn any_args() -> impl Strategy<Value = Args> {
    let attachment = prop::collection::vec(any::<u8>(), 0..16).prop_map(Bytes::from);
    let attachments = prop::collection::vec(attachment, 0..=ATTACHMENTS_MAX);
    (prop::collection::vec(any_json(), 0..4), attachments)
        .prop_flat_map(|(mut elements, attachments)| {
            let placeholder = |num| json!({"data": [{"_placeholder": true, "num": num}]});
            elements.extend((0..attachments.len()).map(placeholder));
            (Just(elements).prop_shuffle(), Just(attachments))
        })
        .prop_map(|(elements, attachments)| {
            Args::from_elements(elements.iter().map(Value::to_string)).with_attachments(attachments)
        })
}

pub(super) fn any_packet() -> impl Strategy<Value = Packet> {
    let name = any::<String>().prop_filter("reserved", |name| {
        !["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"]
            .contains(&name.as_str())
    });
    prop_oneof![
        (any_namespace(), prop::option::of(any_object()))
            .prop_map(|(namespace, auth)| Packet::Connect { namespace, auth }),
        any_namespace().prop_map(|namespace| Packet::Disconnect { namespace }),
        (any_namespace(), name, any::<Option<u64>>(), any_args())
            .prop_map(|(namespace, name, ack, args)| Packet::Event { namespace, name: name.into(), ack, args }),
        (any_namespace(), any::<u64>(), any_args()).prop_map(|(namespace, id, args)| Packet::Ack {
            namespace,
            id,
            args
        }),
        (any_namespace(), any_object()).prop_map(|(namespace, data)| Packet::ConnectError { namespace, data }),
    ]
}

/// Decodes `text`, adds the missing attachments, and checks the invariants of the arguments.
fn check(text: String) {
    let Ok(mut decoded) = decode(&text.into()) else {
        return;
    };
    while let Decoded::Partial(partial) = decoded {
        decoded = partial.push(Bytes::from_static(b"x")).expect("an attachment");
    }
    if let Decoded::Complete(Packet::Event { args, .. } | Packet::Ack { args, .. }) = decoded {
        check_args(&args);
    }
}

/// Checks that each argument is one JSON value, and that the arguments are the elements of the
/// text.
fn check_args(args: &Args) {
    for arg in args.iter() {
        serde_json::from_str::<&RawValue>(arg).expect("valid JSON");
        assert_eq!(arg, arg.trim(), "whitespace around an argument");
    }
    let bracketed = format!("[{}]", args.json());
    let array: Vec<&RawValue> = serde_json::from_str(&bracketed).expect("an array");
    let elements: Vec<&str> = array.into_iter().map(RawValue::get).collect();
    assert_eq!(args.iter().collect::<Vec<_>>(), elements);
    for n in 0..=args.len() {
        let rest = args.skip(n);
        assert_eq!(rest.iter().collect::<Vec<_>>(), elements[n..], "skip {n}");
        assert!(args.json().ends_with(rest.json()), "skip {n}");
    }
}

proptest! {
    #[test]
    fn encoded_packets_decode_to_the_same(packet in any_packet()) {
        let (text, attachments) = encode(&packet);
        prop_assert_eq!(decode_all(text, attachments), Ok(packet));
    }

    #[test]
    fn arguments_joined_by_commas_are_the_text(args in any_args()) {
        check_args(&args);
        let joined = args.iter().collect::<Vec<_>>().join(",");
        prop_assert_eq!(joined.as_str(), args.json());
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        check(text);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        check(String::from_utf8_lossy(&bytes).into_owned());
    }

    #[test]
    fn text_out_of_the_grammar_never_panics(
        head in "[0-7]([0-9]{0,3}-)?(/[a-z]{0,3},?)?[0-9]{0,21}",
        body in "[\\[\\]{}:,\"\\\\ \n0-9eE.+\\-a_é]{0,40}",
    ) {
        check(format!("{head}{body}"));
        check(format!("{head}[\"a\",{body}]"));
        check(format!("{head}[\"{body}\", 1 ,{{ }} ]"));
    }

    #[test]
    fn truncated_or_altered_packets_never_panic(packet in any_packet(), at in any::<prop::sample::Index>(), with in any::<char>()) {
        let (text, _) = encode(&packet);
        let mut bent: Vec<char> = text.chars().collect();
        let at = at.index(bent.len());
        check(bent[..at].iter().collect());
        bent[at] = with;
        check(bent.into_iter().collect());
    }
}
