//! Properties that the decoders must have for arbitrary input, one function for each decoder.
//!
//! The targets in `fuzz/` call these functions, and a test calls them with the seeds of the
//! targets. The functions are in this module because they need private items. An ordinary build
//! does not have this module. A violated property panics.

use actix_web::http::Method;
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use crate::protocol::draft::{Draft, connect_error, disconnect};
use crate::protocol::encoded::Message;
use crate::protocol::engineio;
use crate::protocol::engineio::payload::{PayloadReader, PayloadWriter, SEPARATOR};
use crate::protocol::socketio::packet::{Args, Packet};
use crate::protocol::socketio::text::{Decoded, decode};
use crate::protocol::socketio::{Parser, msgpack as msgpack_packet};
use crate::transport::access_policy::{RequestRoute, route};
use crate::transport::websocket::frame_reader::{End, FrameReader, MessageBounds};

/// Separator between a text and its attachments in an input. This byte does not occur in UTF-8.
const CUT: u8 = 0xff;

/// Maximum number of characters of a number as event name. The longest is the smallest double,
/// written without an exponent.
const NUMERIC_NAME_MAX: usize = 400;

/// Checks that the arguments of a decoded Socket.IO text packet, with the attachments, are not
/// larger than the input. Also checks that the packet as encoded by this server decodes to the same
/// packet.
pub fn socketio(data: &[u8]) {
    let mut parts = data.split(|byte| *byte == CUT);
    let Ok(text) = ByteString::try_from(parts.next().unwrap_or_default()) else { return };
    let attachments: Vec<_> = parts.map(Bytes::copy_from_slice).collect();
    let Some(packet) = decode_all(text, attachments) else { return };
    if let Packet::Event { args, .. } | Packet::Ack { args, .. } = &packet {
        assert!(args.byte_len() <= data.len(), "{packet:?}");
        check_args(args);
    }
    if let Packet::Event { name, .. } = &packet {
        assert!(name.len() <= data.len().max(NUMERIC_NAME_MAX), "{packet:?}");
    }
    let Some(encoded) = encode(Parser::Json, &packet) else { return };
    assert_eq!(encoded.read_back().as_ref(), Some(&packet));
}

/// Decodes a text and its attachments. Returns `None` if they are invalid or incomplete.
fn decode_all(text: ByteString, attachments: Vec<Bytes>) -> Option<Packet> {
    let mut decoded = decode(&text).ok()?;
    let mut attachments = attachments.into_iter();
    loop {
        match decoded {
            Decoded::Complete(packet) => return Some(packet),
            Decoded::Partial(partial) => decoded = partial.push(attachments.next()?).ok()?,
        }
    }
}

/// Encodes the packet if this server sends packets of its kind.
fn encode(parser: Parser, packet: &Packet) -> Option<Message> {
    match packet.clone() {
        // Only clients send this kind of packet.
        Packet::Connect { .. } => None,
        Packet::Disconnect { namespace } => Some(disconnect(parser, &namespace).into()),
        Packet::ConnectError { namespace, data } => Some(connect_error(parser, &namespace, &data).into()),
        Packet::Event { namespace, name, ack, args } => {
            let attachments = args.attachments().to_vec();
            Some(Draft::event(parser, namespace, &name, args.json(), attachments, false).seal(ack, None))
        }
        Packet::Ack { namespace, id, args } => {
            Some(Draft::ack(parser, namespace, id, args.json(), args.attachments().to_vec()))
        }
    }
}

/// Checks that each argument is JSON, and that all of them joined by commas are JSON.
fn check_args(args: &Args) {
    type Raw<'t> = &'t serde_json::value::RawValue;
    let array = format!("[{}]", args.json());
    let elements: Vec<Raw<'_>> = serde_json::from_str(&array).expect("an array");
    assert!(args.iter().eq(elements.iter().map(|element| element.get())), "{args:?}");
}

/// Checks that the arguments of a decoded msgpack packet are valid JSON for serde_json and, without
/// their placeholders, at most six times as long as the input. Also checks that the packet as
/// encoded by this server, without its envelope, is at most four times as long as the input, and
/// that it decodes to the same packet.
pub fn msgpack(data: &[u8]) {
    const PLACEHOLDER_MAX: usize = 48;
    const ENVELOPE_MAX: usize = 64 + NUMERIC_NAME_MAX;
    let Ok(packet) = msgpack_packet::decode(&Bytes::copy_from_slice(data)) else { return };
    if let Packet::Event { args, .. } | Packet::Ack { args, .. } = &packet {
        check_args(args);
        let attachments = args.attachments();
        assert!(serde_json::from_str::<serde_json::Value>(&format!("[{}]", args.json())).is_ok(), "{packet:?}");
        assert!(attachments.iter().map(Bytes::len).sum::<usize>() <= data.len());
        assert!(args.json().len() <= 6 * data.len() + PLACEHOLDER_MAX * attachments.len(), "{packet:?}");
    }
    let Some(encoded) = encode(Parser::Msgpack, &packet) else { return };
    assert!(encoded.byte_len() <= 4 * data.len() + ENVELOPE_MAX, "{packet:?}");
    assert_eq!(encoded.read_back().as_ref(), Some(&packet));
}

/// Checks that a decoded POST body has one packet more than separators, and that its packets are
/// together not larger than the body. Also checks that the packets decode to the same packets after
/// being encoded again.
pub fn engineio(data: &[u8]) {
    let Ok(body) = ByteString::try_from(data) else { return };
    let separators = data.iter().filter(|byte| **byte == SEPARATOR).count();
    let Ok(packets) = PayloadReader::new(body).collect::<Result<Vec<_>, _>>() else { return };
    assert_eq!(packets.len(), separators + 1);
    assert!(packets.iter().map(engine_bytes).sum::<usize>() <= data.len());
    let mut writer = PayloadWriter::new();
    for packet in &packets {
        match packet {
            engineio::EnginePacket::Binary(data) => writer.push_binary(data),
            packet => {
                let mut text = Vec::new();
                packet.encode_polled(&mut text);
                writer.push_raw(&text);
            }
        }
    }
    let written = ByteString::try_from(writer.finish()).expect("text");
    assert_eq!(PayloadReader::new(written).collect::<Result<Vec<_>, _>>(), Ok(packets));
}

fn engine_bytes(packet: &engineio::EnginePacket) -> usize {
    match packet {
        engineio::EnginePacket::Open(data)
        | engineio::EnginePacket::Ping(data)
        | engineio::EnginePacket::Pong(data)
        | engineio::EnginePacket::Message(data) => data.len(),
        engineio::EnginePacket::Binary(data) => data.len(),
        engineio::EnginePacket::Close | engineio::EnginePacket::Upgrade | engineio::EnginePacket::Noop => 0,
    }
}

/// Checks that the packets of a websocket do not depend on how the received bytes are split, and
/// are not larger than these bytes. The input starts with the split: a number below eight, and as
/// many lengths, which are used in turn.
pub fn frames(data: &[u8]) {
    let Some((count, rest)) = data.split_first() else { return };
    let Some((lengths, wire)) = rest.split_at_checked(usize::from(count % 8)) else { return };
    let whole = read_frames(std::iter::once(wire));
    let mut rest = wire;
    let slices = lengths.iter().cycle().map_while(|length| {
        let (slice, behind) = rest.split_at(usize::from(*length).max(1).min(rest.len()));
        rest = behind;
        (!slice.is_empty()).then_some(slice)
    });
    if !lengths.is_empty() {
        assert_eq!(read_frames(slices), whole, "in slices of {lengths:?}");
    }
    assert!(whole.packets.iter().map(engine_bytes).sum::<usize>() <= wire.len());
}

/// Packets and end of a websocket connection.
#[derive(Debug, Default, PartialEq, Eq)]
struct Conversation {
    packets: Vec<engineio::EnginePacket>,
    /// Payload of the last pong.
    pong: Option<Bytes>,
    end: Option<End>,
}

fn read_frames<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Conversation {
    let mut reader = FrameReader::new(BytesMut::new(), MessageBounds::of_each(1_000, 4));
    let mut heard = Conversation::default();
    for chunk in chunks {
        let decoded = reader.read(chunk);
        heard.packets.extend(decoded.packets);
        heard.pong = decoded.pong.map(|pong| pong.frame().clone()).or(heard.pong);
        if decoded.end.is_some() {
            heard.end = decoded.end;
            break;
        }
    }
    heard
}

/// Checks that the route of a query equals the route of its plainest form, and that a parameter
/// without meaning does not change the route. The first byte of the input selects the kind of
/// request.
pub fn query(data: &[u8]) {
    let Some((request, query)) = data.split_first() else { return };
    let Ok(query) = std::str::from_utf8(query) else { return };
    let method = if request & 1 == 0 { Method::GET } else { Method::POST };
    let upgrade = request & 2 != 0;
    let found = route(query, &method, upgrade);
    let transport = if upgrade { "websocket" } else { "polling" };
    let plain = match &found {
        Ok(RequestRoute::Handshake) => {
            assert_eq!(method, Method::GET, "{query}");
            format!("EIO=4&transport={transport}")
        }
        Ok(RequestRoute::Session(id)) => format!("EIO=4&transport={transport}&sid={id}"),
        Err(_) => query.to_owned(),
    };
    assert_eq!(route(&plain, &method, upgrade), found, "{query}");
    assert_eq!(route(&format!("t=abc&{query}"), &method, upgrade), found, "{query}");
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Checks that every seed of every target satisfies its property. The published crate has no
    /// seeds.
    #[test]
    fn seeds_satisfy_the_properties() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for (target, property) in [
            ("socketio", super::socketio as fn(&[u8])),
            ("msgpack", super::msgpack),
            ("engineio", super::engineio),
            ("frames", super::frames),
            ("query", super::query),
        ] {
            let seeds = std::fs::read_dir(folder.join(target)).into_iter().flatten().flatten();
            for seed in seeds {
                property(&std::fs::read(seed.path()).expect("a seed"));
            }
        }
    }
}
