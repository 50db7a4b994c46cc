//! Packets as they leave: encoded once, for both wire formats, into one shared buffer.
//!
//! A websocket sends the buffer whole (frame header and packet), a poll sends the packet behind the header. What is
//! known last stands in front or in a hole of fixed width: the ack id and the frame header are written right-aligned
//! before the body, the offset token over a placeholder near its end. Nothing is copied per recipient. Which form a
//! Socket.IO packet takes is the server's [`Parser`]; the scheme is the same for both.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use thiserror::Error;

use crate::ids::{NamespacePath, OFFSET_CHARS, Offset};
use crate::protocol::socketio::packet::Packet;
use crate::protocol::socketio::text::{self, Decoded};
use crate::protocol::socketio::{Parser, msgpack};

/// Longest header of a server's websocket frame: no mask, 64-bit length.
const FRAME_HEADER_MAX: usize = 10;

/// Room for `4`, the packet type, up to two digits of attachments with `-`, the comma after a path, and an ack id. The head of
/// a msgpack map with its ack id needs 13.
const PREFIX_MAX: usize = 1 + 1 + 3 + 1 + 20;

const OPCODE_TEXT: u8 = 0x81;
const OPCODE_BINARY: u8 = 0x82;
const OPCODE_CLOSE: u8 = 0x88;
const OPCODE_PONG: u8 = 0x8a;

/// One Engine.IO packet, ready for every transport. Cloning shares the bytes.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub(crate) struct Encoded {
    frame: Bytes,
    header_bytes: u8,
}

impl Encoded {
    /// Encodes a text packet, type digit included (`3probe`).
    pub(crate) fn text(packet: &str) -> Self {
        Self::framed(OPCODE_TEXT, packet.as_bytes())
    }

    /// Encodes a binary message.
    pub(crate) fn binary(data: &[u8]) -> Self {
        Self::framed(OPCODE_BINARY, data)
    }

    /// A websocket's close frame. It is no packet, and only websockets may be given it. Of a long reason the beginning.
    pub(crate) fn websocket_close(code: u16, reason: &str) -> Self {
        let mut body = code.to_be_bytes().to_vec();
        // A control frame has 125 bytes at most (RFC 6455, section 5.5).
        body.extend_from_slice(&reason.as_bytes()[..reason.floor_char_boundary(123)]);
        Self::framed(OPCODE_CLOSE, &body)
    }

    /// A websocket's pong frame. It is no packet, and only websockets may be given it.
    pub(crate) fn websocket_pong(data: &[u8]) -> Self {
        Self::framed(OPCODE_PONG, data)
    }

    fn framed(opcode: u8, body: &[u8]) -> Self {
        let mut buffer = BytesMut::with_capacity(FRAME_HEADER_MAX + body.len());
        buffer.put_bytes(0, FRAME_HEADER_MAX);
        buffer.put_slice(body);
        Self::seal(buffer, FRAME_HEADER_MAX, opcode)
    }

    /// Writes the frame header right before `body_at` and freezes.
    fn seal(mut buffer: BytesMut, body_at: usize, opcode: u8) -> Self {
        let body_bytes = buffer.len() - body_at;
        let header_bytes = match body_bytes {
            0..=125 => {
                buffer[body_at - 1] = body_bytes as u8;
                2
            }
            126..=0xffff => {
                buffer[body_at - 3] = 126;
                buffer[body_at - 2..body_at].copy_from_slice(&(body_bytes as u16).to_be_bytes());
                4
            }
            _ => {
                buffer[body_at - 9] = 127;
                buffer[body_at - 8..body_at].copy_from_slice(&(body_bytes as u64).to_be_bytes());
                10
            }
        };
        buffer[body_at - header_bytes] = opcode;
        let frame = buffer.freeze().slice(body_at - header_bytes..);
        Self { frame, header_bytes: header_bytes as u8 }
    }

    /// Takes back a frame as [`frame`](Self::frame) gave it.
    pub(crate) fn from_frame(frame: Bytes) -> Result<Self, FrameError> {
        let short = |at: usize, bytes: usize| frame.get(at..at + bytes).ok_or(FrameError::Length);
        let (header_bytes, body_bytes) = match short(1, 1)?[0] {
            126 => (4, short(2, 2)?.iter().fold(0, |length, byte| length << 8 | u64::from(*byte))),
            127 => (10, short(2, 8)?.iter().fold(0, |length, byte| length << 8 | u64::from(*byte))),
            length => (2, u64::from(length)),
        };
        if (frame.len() - header_bytes) as u64 != body_bytes {
            return Err(FrameError::Length);
        }
        match frame[0] {
            OPCODE_TEXT if std::str::from_utf8(&frame[header_bytes..]).is_err() => Err(FrameError::NotText),
            OPCODE_TEXT | OPCODE_BINARY => Ok(Self { frame, header_bytes: header_bytes as u8 }),
            _ => Err(FrameError::Opcode),
        }
    }

    /// The websocket frame.
    pub(crate) fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// The packet without its frame: text with its type digit, or the bare bytes of a binary message.
    pub(crate) fn body(&self) -> &[u8] {
        &self.frame[usize::from(self.header_bytes)..]
    }

    /// [`Encoded::body`], sharing the bytes.
    pub(crate) fn to_body(&self) -> Bytes {
        self.frame.slice(usize::from(self.header_bytes)..)
    }

    /// Whether this is a binary message.
    pub(crate) fn is_binary(&self) -> bool {
        self.frame[0] == OPCODE_BINARY
    }
}

/// Why bytes are not the packets that they were taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum FrameError {
    /// Neither a text nor a binary message.
    #[error("frame is neither a text nor a binary message")]
    Opcode,
    /// More or less than the frame's header says.
    #[error("frame is not as long as its header says")]
    Length,
    /// A text that is not UTF-8.
    #[error("text frame is not UTF-8")]
    NotText,
    /// Not one packet with the attachments it announces.
    #[error("packet does not have the attachments that it announces")]
    Attachments,
}

/// A Socket.IO packet ready to leave: its text and, right behind it, its attachments. Cloning shares the bytes.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub(crate) struct Message {
    head: Encoded,
    attachments: Option<Arc<[Encoded]>>,
}

impl Message {
    /// Takes back the packets of a message as [`packets`](Self::packets) gave them.
    pub(crate) fn from_packets(mut packets: Vec<Encoded>) -> Result<Self, FrameError> {
        let attachments = packets.split_off(packets.len().min(1));
        let head = packets.pop().ok_or(FrameError::Attachments)?;
        if announced(head.body()) != attachments.len() || !attachments.iter().all(Encoded::is_binary) {
            return Err(FrameError::Attachments);
        }
        Ok(Self { head, attachments: (!attachments.is_empty()).then(|| attachments.into()) })
    }

    /// The packets in the order in which they must leave, with nothing between them.
    pub(crate) fn packets(&self) -> impl Iterator<Item = &Encoded> {
        std::iter::once(&self.head).chain(self.attachments.iter().flat_map(|attachments| attachments.iter()))
    }

    /// The packet as its client reads it; none if this is no packet of Socket.IO.
    pub(crate) fn read_back(&self) -> Option<Packet> {
        if self.head.is_binary() {
            return msgpack::decode(&self.head.to_body()).ok();
        }
        let text = ByteString::try_from(self.head.to_body()).ok()?;
        let mut decoded = text::decode(text.slice_ref(text.strip_prefix('4')?)).ok()?;
        for attachment in self.packets().skip(1) {
            let Decoded::Partial(partial) = decoded else { return None };
            decoded = partial.push(attachment.to_body()).ok()?;
        }
        match decoded {
            Decoded::Complete(packet) => Some(packet),
            Decoded::Partial(_) => None,
        }
    }

    /// Bytes of all packets, framed.
    pub(crate) fn byte_len(&self) -> usize {
        self.packets().map(|packet| packet.frame.len()).sum()
    }

    /// The text packet.
    #[cfg(test)]
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(self.head.body()).unwrap_or("")
    }
}

impl From<Encoded> for Message {
    fn from(head: Encoded) -> Self {
        Self { head, attachments: None }
    }
}

/// The types of Socket.IO packets that leave a server, as their numbers on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Connect = 0,
    Disconnect = 1,
    Event = 2,
    Ack = 3,
    ConnectError = 4,
}

/// A Socket.IO EVENT or ACK whose ack id and offset token are not known yet. Unshared until it is sealed.
#[derive(Debug)]
pub(crate) struct Draft {
    parser: Parser,
    kind: Kind,
    namespace: NamespacePath,
    buffer: BytesMut,
    body_at: usize,
    hole_at: Option<usize>,
    /// Those that leave behind the packet; none where they stand in it.
    attachments: Vec<Bytes>,
}

impl Draft {
    /// Begins the event `name`; `arguments` is JSON, the arguments joined by commas (empty for none).
    ///
    /// With `token_hole`, an argument of fixed width is kept free behind them for the offset token.
    pub(crate) fn event(
        parser: Parser,
        namespace: NamespacePath,
        name: &str,
        arguments: &str,
        attachments: Vec<Bytes>,
        token_hole: bool,
    ) -> Self {
        Self::begin(parser, Kind::Event, namespace, attachments, Data { name: Some(name), arguments, token_hole })
    }

    /// The answer `arguments` to the client's ack `id`. Acks carry no token.
    pub(crate) fn ack(
        parser: Parser,
        namespace: NamespacePath,
        id: u64,
        arguments: &str,
        attachments: Vec<Bytes>,
    ) -> Message {
        let data = Data { name: None, arguments, token_hole: false };
        Self::begin(parser, Kind::Ack, namespace, attachments, data).seal(Some(id), None)
    }

    fn begin(parser: Parser, kind: Kind, namespace: NamespacePath, attachments: Vec<Bytes>, data: Data<'_>) -> Self {
        let body_at = FRAME_HEADER_MAX + PREFIX_MAX + namespace.as_str().len();
        let mut buffer = BytesMut::with_capacity(body_at + data.byte_len());
        buffer.put_bytes(0, body_at);
        let (hole_at, attachments) = match parser {
            Parser::Json => (data.put_json(&mut buffer), attachments),
            Parser::Msgpack => {
                put_msgpack_envelope(&mut buffer, kind, &namespace);
                (data.put_msgpack(&mut buffer, &attachments), Vec::new())
            }
        };
        Self { parser, kind, namespace, buffer, body_at, hole_at, attachments }
    }

    /// Bytes that this draft will put on a websocket, about.
    pub(crate) fn byte_len(&self) -> usize {
        self.buffer.len() - self.body_at + 16 + self.attachments.iter().map(|data| data.len() + 10).sum::<usize>()
    }

    /// The namespace it was begun for.
    pub(crate) fn namespace(&self) -> &NamespacePath {
        &self.namespace
    }

    /// Fills in what was open and freezes. `token` is written if a hole was kept for it.
    pub(crate) fn seal(mut self, ack_id: Option<u64>, token: Option<&Offset>) -> Message {
        if let (Some(at), Some(token)) = (self.hole_at, token) {
            self.buffer[at..at + OFFSET_CHARS].copy_from_slice(&token.encode());
        }
        let (head_at, opcode) = match self.parser {
            Parser::Json => (self.put_json_prefix(ack_id), OPCODE_TEXT),
            Parser::Msgpack => (self.put_msgpack_prefix(ack_id), OPCODE_BINARY),
        };
        let head = Encoded::seal(self.buffer, head_at, opcode);
        let attachments = match self.attachments.as_slice() {
            [] => None,
            data => Some(data.iter().map(|data| Encoded::binary(data)).collect()),
        };
        Message { head, attachments }
    }

    /// Writes `42/nsp,17` right before the body and returns where it begins.
    fn put_json_prefix(&mut self, ack_id: Option<u64>) -> usize {
        let mut at = self.body_at;
        if let Some(id) = ack_id {
            at = put_digits_before(&mut self.buffer, at, id);
        }
        if !self.namespace.is_root() {
            at -= 1;
            self.buffer[at] = b',';
            let path = self.namespace.as_str().as_bytes();
            self.buffer[at - path.len()..at].copy_from_slice(path);
            at -= path.len();
        }
        let binary = !self.attachments.is_empty();
        if binary {
            at -= 1;
            self.buffer[at] = b'-';
            at = put_digits_before(&mut self.buffer, at, self.attachments.len() as u64);
        }
        // A binary event is type 5, a binary ack type 6.
        self.buffer[at - 1] = b'0' + self.kind as u8 + if binary { 3 } else { 0 };
        self.buffer[at - 2] = b'4';
        at - 2
    }

    /// Writes the head of the map and, if there is one, the ack id right before the body and returns where it begins.
    fn put_msgpack_prefix(&mut self, ack_id: Option<u64>) -> usize {
        let mut prefix = [0; PREFIX_MAX];
        let mut free = prefix.as_mut_slice();
        msgpack::put_map(&mut free, 3 + usize::from(ack_id.is_some()));
        if let Some(id) = ack_id {
            msgpack::put_str(&mut free, "id");
            msgpack::put_unsigned(&mut free, id);
        }
        let bytes = PREFIX_MAX - free.len();
        let at = self.body_at - bytes;
        self.buffer[at..self.body_at].copy_from_slice(&prefix[..bytes]);
        at
    }
}

/// The array in an EVENT or an ACK.
struct Data<'a> {
    name: Option<&'a str>,
    arguments: &'a str,
    token_hole: bool,
}

impl Data<'_> {
    /// Bytes of it as JSON, or a few more.
    fn byte_len(&self) -> usize {
        let hole = if self.token_hole { OFFSET_CHARS + 3 } else { 0 };
        self.name.map_or(0, str::len) + self.arguments.len() + hole + 16
    }

    /// Writes it and gives the place of its hole.
    fn put_json(&self, buffer: &mut BytesMut) -> Option<usize> {
        buffer.put_u8(b'[');
        if let Some(name) = self.name {
            put_json_string(buffer, name);
            if !self.arguments.is_empty() {
                buffer.put_u8(b',');
            }
        }
        buffer.put_slice(self.arguments.as_bytes());
        let hole_at = self.token_hole.then(|| {
            buffer.put_slice(b",\"");
            buffer.put_slice(NO_TOKEN.as_bytes());
            buffer.put_u8(b'"');
            buffer.len() - 1 - OFFSET_CHARS
        });
        buffer.put_u8(b']');
        hole_at
    }

    /// As [`Data::put_json`], with the attachments in their places.
    fn put_msgpack(&self, buffer: &mut BytesMut, attachments: &[Bytes]) -> Option<usize> {
        let arguments = msgpack::Values::new(self.arguments, attachments);
        msgpack::put_str(buffer, "data");
        msgpack::put_array(buffer, usize::from(self.name.is_some()) + arguments.len() + usize::from(self.token_hole));
        if let Some(name) = self.name {
            msgpack::put_str(buffer, name);
        }
        arguments.put(buffer);
        self.token_hole.then(|| {
            msgpack::put_str(buffer, NO_TOKEN);
            buffer.len() - OFFSET_CHARS
        })
    }
}

/// What stands in a hole until the token does.
const NO_TOKEN: &str = "---------------------";
const _: () = assert!(NO_TOKEN.len() == OFFSET_CHARS);

/// The packet's type and namespace; its data comes next.
fn put_msgpack_envelope(buffer: &mut BytesMut, kind: Kind, namespace: &NamespacePath) {
    msgpack::put_str(buffer, "type");
    msgpack::put_unsigned(buffer, kind as u64);
    msgpack::put_str(buffer, "nsp");
    msgpack::put_str(buffer, namespace.as_str());
}

/// How many attachments a packet announces: `451-` and `461-` have one. A binary packet has them inside.
fn announced(body: &[u8]) -> usize {
    let Some(rest) = body.strip_prefix(b"45").or_else(|| body.strip_prefix(b"46")) else { return 0 };
    rest.iter()
        .take_while(|byte| **byte != b'-')
        .fold(0, |number: usize, digit| number.saturating_mul(10).saturating_add(usize::from(digit.wrapping_sub(b'0'))))
}

fn put_digits_before(buffer: &mut BytesMut, mut at: usize, mut value: u64) -> usize {
    loop {
        at -= 1;
        buffer[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return at;
        }
    }
}

fn put_json_string(buffer: &mut BytesMut, text: &str) {
    if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        buffer.put_u8(b'"');
        buffer.put_slice(text.as_bytes());
        buffer.put_u8(b'"');
    } else {
        // Writing JSON into a growing buffer cannot fail.
        let _ = serde_json::to_writer(buffer.writer(), text);
    }
}

/// The CONNECT reply: `40/nsp,{"sid":…}`, with `pid` when the socket can be recovered.
pub(crate) fn connect_reply(parser: Parser, namespace: &NamespacePath, sid: &str, pid: Option<&str>) -> Encoded {
    let data = match pid {
        Some(pid) => format!(r#"{{"sid":"{sid}","pid":"{pid}"}}"#),
        None => format!(r#"{{"sid":"{sid}"}}"#),
    };
    whole(parser, Kind::Connect, namespace, &data)
}

/// The CONNECT_ERROR reply with `data`, a JSON object's text.
pub(crate) fn connect_error(parser: Parser, namespace: &NamespacePath, data: &str) -> Encoded {
    whole(parser, Kind::ConnectError, namespace, data)
}

/// The DISCONNECT packet of a namespace.
pub(crate) fn disconnect(parser: Parser, namespace: &NamespacePath) -> Encoded {
    whole(parser, Kind::Disconnect, namespace, "")
}

/// A packet without anything open, and one value or nothing as its data.
fn whole(parser: Parser, kind: Kind, namespace: &NamespacePath, data: &str) -> Encoded {
    match parser {
        Parser::Json => {
            let path = if namespace.is_root() { String::new() } else { format!("{namespace},") };
            Encoded::text(&format!("4{}{path}{data}", kind as u8))
        }
        Parser::Msgpack => {
            let mut packet = BytesMut::new();
            msgpack::put_map(&mut packet, if data.is_empty() { 2 } else { 3 });
            put_msgpack_envelope(&mut packet, kind, namespace);
            if !data.is_empty() {
                msgpack::put_str(&mut packet, "data");
                msgpack::Values::new(data, &[]).put(&mut packet);
            }
            Encoded::binary(&packet)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Epoch, Fingerprint, Lsn};
    use bytestring::ByteString;
    use proptest::prelude::*;

    fn chat() -> NamespacePath {
        NamespacePath::parse(ByteString::from_static("/chat")).unwrap()
    }

    fn token() -> Offset {
        Offset { epoch: Epoch::new(1, 2), lsn: Lsn(3), fingerprint: Fingerprint::new(4) }
    }

    #[test]
    fn an_event_is_framed_as_a_browser_reads_it() {
        let message =
            Draft::event(Parser::Json, NamespacePath::root(), "hi", "1,\"a\"", vec![], false).seal(None, None);
        let packet = message.packets().next().unwrap();
        assert_eq!(&packet.frame()[..], b"\x81\x0e42[\"hi\",1,\"a\"]");
        assert_eq!(packet.body(), b"42[\"hi\",1,\"a\"]");
    }

    #[test]
    fn prefix_holds_attachments_namespace_and_ack_id() {
        let data = vec![Bytes::from_static(b"\x00\x01")];
        let placeholder = r#"{"_placeholder":true,"num":0}"#;
        let message = Draft::event(Parser::Json, chat(), "up", placeholder, data, false).seal(Some(u64::MAX), None);
        assert_eq!(message.text(), r#"451-/chat,18446744073709551615["up",{"_placeholder":true,"num":0}]"#);
        let attachment = message.packets().nth(1).unwrap();
        assert!(attachment.is_binary());
        assert_eq!(&attachment.frame()[..], b"\x82\x02\x00\x01");
    }

    #[test]
    fn the_token_fills_its_hole() {
        let message = Draft::event(Parser::Json, chat(), "e", "", vec![], true).seal(None, Some(&token()));
        assert_eq!(message.text(), format!(r#"42/chat,["e","{}"]"#, token()));
    }

    #[test]
    fn an_ack_answers_with_an_array() {
        assert_eq!(Draft::ack(Parser::Json, NamespacePath::root(), 7, "", vec![]).text(), "437[]");
        assert_eq!(Draft::ack(Parser::Json, chat(), 0, "1", vec![]).text(), "43/chat,0[1]");
    }

    #[test]
    fn an_event_name_is_escaped() {
        let message = Draft::event(Parser::Json, NamespacePath::root(), "a\"\n", "", vec![], false).seal(None, None);
        assert_eq!(message.text(), r#"42["a\"\n"]"#);
    }

    #[test]
    fn connect_replies_stand_as_the_protocol_writes_them() {
        assert_eq!(connect_reply(Parser::Json, &NamespacePath::root(), "S", None).body(), br#"40{"sid":"S"}"#);
        assert_eq!(connect_reply(Parser::Json, &chat(), "S", Some("P")).body(), br#"40/chat,{"sid":"S","pid":"P"}"#);
        assert_eq!(disconnect(Parser::Json, &chat()).body(), b"41/chat,");
    }

    #[test]
    fn a_message_is_taken_back_as_it_was() {
        let attachments = vec![Encoded::binary(b"\x00\x01"), Encoded::binary(&[7; 300])];
        let packets = [vec![Encoded::text(r#"452-/chat,["up",{"_placeholder":true,"num":0}]"#)], attachments].concat();
        let frames = |packets: &[Encoded]| packets.iter().map(|packet| packet.frame().clone()).collect::<Vec<_>>();
        let again: Vec<_> = frames(&packets).into_iter().map(|frame| Encoded::from_frame(frame).unwrap()).collect();
        let message = Message::from_packets(again).unwrap();
        assert_eq!(frames(&packets), message.packets().map(|packet| packet.frame().clone()).collect::<Vec<_>>());
        assert!(Message::from_packets(vec![Encoded::text("42[\"e\"]")]).is_ok());
        assert!(Message::from_packets(vec![Encoded::binary(b"\x83")]).is_ok(), "as msgpack writes packets");
    }

    #[test]
    fn packets_that_do_not_belong_together_are_refused() {
        let announced = Encoded::text(r#"451-["up",{"_placeholder":true,"num":0}]"#);
        let (text, binary) = (Encoded::text("42[\"e\"]"), Encoded::binary(b"\x00"));
        let refused = |packets: &[&Encoded]| {
            let packets = packets.iter().map(|packet| (*packet).clone()).collect();
            Message::from_packets(packets).unwrap_err()
        };
        for packets in
            [&[][..], &[&announced], &[&announced, &text], &[&text, &binary], &[&announced, &binary, &binary]]
        {
            assert_eq!(refused(packets), FrameError::Attachments, "{packets:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_frame_are_refused() {
        let refused = |frame: &'static [u8]| Encoded::from_frame(Bytes::from_static(frame)).unwrap_err();
        for frame in [
            b"".as_slice(),
            b"\x81",
            b"\x81\x02a",
            b"\x81\x01ab",
            b"\x81\x7e",
            b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            assert_eq!(refused(frame), FrameError::Length, "{frame:?}");
        }
        assert_eq!(refused(b"\x81\x01\xff"), FrameError::NotText);
        assert_eq!(refused(b"\x88\x00"), FrameError::Opcode);
        assert_eq!(refused(b"\x81\x81\x00\x00\x00\x00a"), FrameError::Length, "masked, as clients write");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_or_an_error(bytes: Vec<u8>) {
            let _ = Encoded::from_frame(bytes.into());
        }

        #[test]
        fn every_length_has_its_header(bytes in prop_oneof![0usize..300, 65_000usize..66_000]) {
            let packet = Encoded::binary(&vec![7; bytes]);
            let header = packet.frame().len() - bytes;
            prop_assert_eq!(header, match bytes { 0..=125 => 2, 126..=65_535 => 4, _ => 10 });
            let length = match packet.frame()[1] {
                126 => u64::from(u16::from_be_bytes([packet.frame()[2], packet.frame()[3]])),
                127 => u64::from_be_bytes(packet.frame()[2..10].try_into().unwrap()),
                short => u64::from(short),
            };
            prop_assert_eq!(length, bytes as u64);
            prop_assert_eq!(packet.body().len(), bytes);
        }
    }
}
