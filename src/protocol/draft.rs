//! Encoding of outgoing Socket.IO packets: events and acks whose ack id and offset token are not
//! known yet, and packets that are complete from the start.
//!
//! When the ack id is known, it is written right before the body. The offset token overwrites a
//! placeholder near the end of the body. The body is thus never copied. This scheme is the same for
//! both formats, JSON and msgpack. The server's [`Parser`] determines the format.

use bytes::{BufMut, Bytes, BytesMut};

use super::encoded::{EncodedFrame, FRAME_HEADER_MAX, Message, OPCODE_BINARY, OPCODE_TEXT};
use super::socketio::packet::Packet;
use super::socketio::{Parser, msgpack};
use crate::ids::{NamespacePath, OFFSET_CHARS, Offset};

/// Maximum number of bytes before the body without the namespace: `4`, the packet type, up to two
/// digits of attachments with `-`, the comma after the namespace, and an ack id. With msgpack, the
/// head of the map and the ack id need only 13 bytes.
const PREFIX_MAX: usize = 1 + 1 + 3 + 1 + 20;

/// Types of the packets that a server sends, with their numbers on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Connect = 0,
    Disconnect = 1,
    Event = 2,
    Ack = 3,
    ConnectError = 4,
}

/// An EVENT or ACK whose ack id and offset token are not known yet. The buffer is not shared until
/// the draft is sealed.
#[derive(Debug)]
pub(crate) struct Draft {
    parser: Parser,
    kind: Kind,
    namespace: NamespacePath,
    buffer: BytesMut,
    body_at: usize,
    hole_at: Option<usize>,
    /// Attachments that follow the packet. Empty with msgpack, because a msgpack packet contains
    /// its attachments.
    attachments: Vec<Bytes>,
}

impl Draft {
    /// Starts the event `name`. `arguments` contains the JSON arguments joined by commas, or is
    /// empty.
    ///
    /// If `token_hole` is true, a placeholder of fixed width for the offset token follows the
    /// arguments.
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

    /// Encodes the ACK packet for the client's ack id `id`. An ACK has no offset token.
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

    /// Approximate length on a websocket, in bytes.
    pub(crate) fn byte_len(&self) -> usize {
        self.buffer.len() - self.body_at + 16 + self.attachments.iter().map(|data| data.len() + 10).sum::<usize>()
    }

    /// Number of packets of the sealed message.
    pub(crate) fn packets(&self) -> usize {
        1 + self.attachments.len()
    }

    /// Upper bound of the bytes of all packets, without frames and ack id.
    pub(crate) fn packet_bytes_max(&self) -> usize {
        let attachments = self.attachments.iter().map(Bytes::len).sum::<usize>();
        PREFIX_MAX + self.namespace.as_str().len() + self.buffer.len() - self.body_at + attachments
    }

    pub(crate) fn namespace(&self) -> &NamespacePath {
        &self.namespace
    }

    /// Writes the ack id and the token, and freezes the buffer. If there is no placeholder, the
    /// token is ignored.
    pub(crate) fn seal(mut self, ack_id: Option<u64>, token: Option<&Offset>) -> Message {
        if let (Some(at), Some(token)) = (self.hole_at, token) {
            self.buffer[at..at + OFFSET_CHARS].copy_from_slice(&token.encode());
        }
        let (head_at, opcode) = match self.parser {
            Parser::Json => (self.put_json_prefix(ack_id), OPCODE_TEXT),
            Parser::Msgpack => (self.put_msgpack_prefix(ack_id), OPCODE_BINARY),
        };
        let head = EncodedFrame::seal(self.buffer, head_at, opcode);
        Message::new(head, &self.attachments)
    }

    /// Writes the prefix, such as `42/nsp,17`, right before the body. Returns the start of the
    /// prefix.
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
        // A binary event has type 5, a binary ack type 6.
        self.buffer[at - 1] = b'0' + self.kind as u8 + if binary { 3 } else { 0 };
        self.buffer[at - 2] = b'4';
        at - 2
    }

    /// Writes the head of the map and the ack id, if there is one, right before the body. Returns
    /// the start of the head.
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

struct Data<'a> {
    name: Option<&'a str>,
    arguments: &'a str,
    token_hole: bool,
}

impl Data<'_> {
    /// Estimated length as JSON, in bytes.
    fn byte_len(&self) -> usize {
        let hole = if self.token_hole { OFFSET_CHARS + 3 } else { 0 };
        self.name.map_or(0, str::len) + self.arguments.len() + hole + 16
    }

    /// Writes the event name and the arguments as a JSON array. Returns the position of the
    /// placeholder, if there is one.
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

    /// Like [`Data::put_json`], but writes msgpack, with the attachments in place of their
    /// placeholders.
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

const NO_TOKEN: &str = "---------------------";
const _: () = assert!(NO_TOKEN.len() == OFFSET_CHARS);

/// Writes the fields `type` and `nsp`, which precede the data.
fn put_msgpack_envelope(buffer: &mut BytesMut, kind: Kind, namespace: &NamespacePath) {
    msgpack::put_str(buffer, "type");
    msgpack::put_unsigned(buffer, kind as u64);
    msgpack::put_str(buffer, "nsp");
    msgpack::put_str(buffer, namespace.as_str());
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

/// Encodes an event again without its token, for a client that declined recovery. Returns `None` if
/// the message is not an event, or has an ack id and therefore no token.
pub(crate) fn without_token(message: &Message) -> Option<Message> {
    let parser = if message.packets().next()?.is_binary() { Parser::Msgpack } else { Parser::Json };
    let Packet::Event { namespace, name, ack: None, args } = message.read_back()? else { return None };
    let args = args.first(args.len().checked_sub(1)?);
    Some(Draft::event(parser, namespace, &name, args.json(), args.attachments().to_vec(), false).seal(None, None))
}

/// The CONNECT reply: `40/nsp,{"sid":…}`, with `pid` if the socket can be recovered.
pub(crate) fn connect_reply(parser: Parser, namespace: &NamespacePath, sid: &str, pid: Option<&str>) -> EncodedFrame {
    let data = match pid {
        Some(pid) => format!(r#"{{"sid":"{sid}","pid":"{pid}"}}"#),
        None => format!(r#"{{"sid":"{sid}"}}"#),
    };
    whole(parser, Kind::Connect, namespace, &data)
}

/// The CONNECT_ERROR packet with `data`, a JSON object as text.
pub(crate) fn connect_error(parser: Parser, namespace: &NamespacePath, data: &str) -> EncodedFrame {
    whole(parser, Kind::ConnectError, namespace, data)
}

pub(crate) fn disconnect(parser: Parser, namespace: &NamespacePath) -> EncodedFrame {
    whole(parser, Kind::Disconnect, namespace, "")
}

/// Encodes a packet without attachments. `data` is one JSON value, or empty.
fn whole(parser: Parser, kind: Kind, namespace: &NamespacePath, data: &str) -> EncodedFrame {
    match parser {
        Parser::Json => {
            let path = if namespace.is_root() { String::new() } else { format!("{namespace},") };
            EncodedFrame::text(&format!("4{}{path}{data}", kind as u8))
        }
        Parser::Msgpack => {
            let mut packet = BytesMut::new();
            msgpack::put_map(&mut packet, if data.is_empty() { 2 } else { 3 });
            put_msgpack_envelope(&mut packet, kind, namespace);
            if !data.is_empty() {
                msgpack::put_str(&mut packet, "data");
                msgpack::Values::new(data, &[]).put(&mut packet);
            }
            EncodedFrame::binary(&packet)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Epoch, Fingerprint, Lsn};

    fn chat() -> NamespacePath {
        NamespacePath::parse("/chat").unwrap()
    }

    fn token() -> Offset {
        Offset { epoch: Epoch::new(1, 2), lsn: Lsn(3), fingerprint: Fingerprint::new(4) }
    }

    #[test]
    fn an_event_is_encoded_as_browsers_expect() {
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
    fn a_token_can_be_removed() {
        let data = vec![Bytes::from_static(b"\x00\x01")];
        let placeholder = r#"{"_placeholder":true,"num":0}"#;
        for parser in [Parser::Json, Parser::Msgpack] {
            for (arguments, attachments) in [("", vec![]), ("1,\"a\\\"\"", vec![]), (placeholder, data.clone())] {
                let draft = |hole| Draft::event(parser, chat(), "e\"", arguments, attachments.clone(), hole);
                let with = draft(true).seal(None, Some(&token()));
                assert_eq!(without_token(&with), Some(draft(false).seal(None, None)), "{arguments}");
            }
            assert_eq!(without_token(&Draft::event(parser, chat(), "e", "1", vec![], false).seal(Some(7), None)), None);
            assert_eq!(without_token(&disconnect(parser, &chat()).into()), None);
        }
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
    fn connect_replies_have_the_form_of_the_protocol() {
        assert_eq!(connect_reply(Parser::Json, &NamespacePath::root(), "S", None).body(), br#"40{"sid":"S"}"#);
        assert_eq!(connect_reply(Parser::Json, &chat(), "S", Some("P")).body(), br#"40/chat,{"sid":"S","pid":"P"}"#);
        assert_eq!(disconnect(Parser::Json, &chat()).body(), b"41/chat,");
    }
}
