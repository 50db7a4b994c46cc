//! Packets as they leave: encoded once, for both wire formats, into one shared buffer.
//!
//! A websocket sends the buffer whole (frame header and packet), a poll sends the packet behind the header. What is
//! known last stands in front or in a hole of fixed width: the ack id and the frame header are written right-aligned
//! before the body, the offset token over a placeholder near its end. Nothing is copied per recipient.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::ids::{NamespacePath, OFFSET_CHARS, Offset};

/// Longest header of a server's websocket frame: no mask, 64-bit length.
const FRAME_HEADER_MAX: usize = 10;

/// Room for `4`, the packet type, up to two digits of attachments with `-`, the comma after a path, and an ack id.
const PREFIX_MAX: usize = 1 + 1 + 3 + 1 + 20;

const OPCODE_TEXT: u8 = 0x81;
const OPCODE_BINARY: u8 = 0x82;
const OPCODE_CLOSE: u8 = 0x88;
const OPCODE_PONG: u8 = 0x8a;

/// One Engine.IO packet, ready for every transport. Cloning shares the bytes.
#[derive(Debug, Clone)]
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

    /// A websocket's close frame. It is no packet, and only websockets may be given it.
    pub(crate) fn websocket_close(code: u16, reason: &str) -> Self {
        let mut body = code.to_be_bytes().to_vec();
        body.extend_from_slice(reason.as_bytes());
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

/// A Socket.IO packet ready to leave: its text and, right behind it, its attachments. Cloning shares the bytes.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    head: Encoded,
    attachments: Option<Arc<[Encoded]>>,
}

impl Message {
    /// The packets in the order in which they must leave, with nothing between them.
    pub(crate) fn packets(&self) -> impl Iterator<Item = &Encoded> {
        std::iter::once(&self.head).chain(self.attachments.iter().flat_map(|attachments| attachments.iter()))
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

/// Which packet a draft becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DraftKind {
    Event,
    Ack,
}

/// A Socket.IO EVENT or ACK whose ack id and offset token are not known yet. Unshared until it is sealed.
#[derive(Debug)]
pub(crate) struct Draft {
    kind: DraftKind,
    namespace: NamespacePath,
    buffer: BytesMut,
    body_at: usize,
    hole_at: Option<usize>,
    attachments: Vec<Bytes>,
}

impl Draft {
    /// Begins the event `name`; `arguments` is JSON, the arguments joined by commas (empty for none).
    ///
    /// With `token_hole`, an argument of fixed width is kept free behind them for the offset token.
    pub(crate) fn event(
        namespace: NamespacePath,
        name: &str,
        arguments: &[u8],
        attachments: Vec<Bytes>,
        token_hole: bool,
    ) -> Self {
        let capacity = name.len() + arguments.len() + if token_hole { OFFSET_CHARS + 3 } else { 0 } + 16;
        let (mut buffer, body_at) = begin(&namespace, capacity);
        buffer.put_u8(b'[');
        put_json_string(&mut buffer, name);
        if !arguments.is_empty() {
            buffer.put_u8(b',');
            buffer.put_slice(arguments);
        }
        let hole_at = token_hole.then(|| {
            buffer.put_slice(b",\"");
            let at = buffer.len();
            buffer.put_bytes(b'-', OFFSET_CHARS);
            buffer.put_u8(b'"');
            at
        });
        buffer.put_u8(b']');
        Self { kind: DraftKind::Event, namespace, buffer, body_at, hole_at, attachments }
    }

    /// The answer `arguments` to the client's ack `id`. Acks carry no token.
    pub(crate) fn ack(namespace: NamespacePath, id: u64, arguments: &[u8], attachments: Vec<Bytes>) -> Message {
        let (mut buffer, body_at) = begin(&namespace, arguments.len() + 2);
        buffer.put_u8(b'[');
        buffer.put_slice(arguments);
        buffer.put_u8(b']');
        Self { kind: DraftKind::Ack, namespace, buffer, body_at, hole_at: None, attachments }.seal(Some(id), None)
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
        let head_at = self.put_prefix(ack_id);
        let head = Encoded::seal(self.buffer, head_at, OPCODE_TEXT);
        let attachments = match self.attachments.as_slice() {
            [] => None,
            data => Some(data.iter().map(|data| Encoded::binary(data)).collect()),
        };
        Message { head, attachments }
    }

    /// Writes `42/nsp,17` right before the body and returns where it begins.
    fn put_prefix(&mut self, ack_id: Option<u64>) -> usize {
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
        self.buffer[at - 1] = match (self.kind, binary) {
            (DraftKind::Event, false) => b'2',
            (DraftKind::Event, true) => b'5',
            (DraftKind::Ack, false) => b'3',
            (DraftKind::Ack, true) => b'6',
        };
        self.buffer[at - 2] = b'4';
        at - 2
    }
}

/// A buffer with room before the body for whatever the seal puts there.
fn begin(namespace: &NamespacePath, capacity: usize) -> (BytesMut, usize) {
    let body_at = FRAME_HEADER_MAX + PREFIX_MAX + namespace.as_str().len();
    let mut buffer = BytesMut::with_capacity(body_at + capacity);
    buffer.put_bytes(0, body_at);
    (buffer, body_at)
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
pub(crate) fn connect_reply(namespace: &NamespacePath, sid: &str, pid: Option<&str>) -> Encoded {
    let path = path_prefix(namespace);
    match pid {
        Some(pid) => Encoded::text(&format!(r#"40{path}{{"sid":"{sid}","pid":"{pid}"}}"#)),
        None => Encoded::text(&format!(r#"40{path}{{"sid":"{sid}"}}"#)),
    }
}

/// The CONNECT_ERROR reply with `data`, a JSON object's text.
pub(crate) fn connect_error(namespace: &NamespacePath, data: &str) -> Encoded {
    Encoded::text(&format!("44{}{data}", path_prefix(namespace)))
}

/// The DISCONNECT packet of a namespace.
pub(crate) fn disconnect(namespace: &NamespacePath) -> Encoded {
    Encoded::text(&format!("41{}", path_prefix(namespace)))
}

fn path_prefix(namespace: &NamespacePath) -> String {
    if namespace.is_root() { String::new() } else { format!("{namespace},") }
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
        let message = Draft::event(NamespacePath::root(), "hi", b"1,\"a\"", vec![], false).seal(None, None);
        let packet = message.packets().next().unwrap();
        assert_eq!(&packet.frame()[..], b"\x81\x0e42[\"hi\",1,\"a\"]");
        assert_eq!(packet.body(), b"42[\"hi\",1,\"a\"]");
    }

    #[test]
    fn prefix_holds_attachments_namespace_and_ack_id() {
        let data = vec![Bytes::from_static(b"\x00\x01")];
        let placeholder = br#"{"_placeholder":true,"num":0}"#;
        let message = Draft::event(chat(), "up", placeholder, data, false).seal(Some(u64::MAX), None);
        assert_eq!(message.text(), r#"451-/chat,18446744073709551615["up",{"_placeholder":true,"num":0}]"#);
        let attachment = message.packets().nth(1).unwrap();
        assert!(attachment.is_binary());
        assert_eq!(&attachment.frame()[..], b"\x82\x02\x00\x01");
    }

    #[test]
    fn the_token_fills_its_hole() {
        let message = Draft::event(chat(), "e", b"", vec![], true).seal(None, Some(&token()));
        assert_eq!(message.text(), format!(r#"42/chat,["e","{}"]"#, token()));
    }

    #[test]
    fn an_ack_answers_with_an_array() {
        assert_eq!(Draft::ack(NamespacePath::root(), 7, b"", vec![]).text(), "437[]");
        assert_eq!(Draft::ack(chat(), 0, b"1", vec![]).text(), "43/chat,0[1]");
    }

    #[test]
    fn an_event_name_is_escaped() {
        let message = Draft::event(NamespacePath::root(), "a\"\n", b"", vec![], false).seal(None, None);
        assert_eq!(message.text(), r#"42["a\"\n"]"#);
    }

    #[test]
    fn connect_replies_stand_as_the_protocol_writes_them() {
        assert_eq!(connect_reply(&NamespacePath::root(), "S", None).body(), br#"40{"sid":"S"}"#);
        assert_eq!(connect_reply(&chat(), "S", Some("P")).body(), br#"40/chat,{"sid":"S","pid":"P"}"#);
        assert_eq!(disconnect(&chat()).body(), b"41/chat,");
    }

    proptest! {
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
