//! Encoded packets: one shared buffer for websockets and polling.
//!
//! A websocket sends the whole buffer (frame header and packet), which is shared by all recipients.
//! A poll copies only the packet into its response. The frame header is written right before the
//! packet when the length of the packet is known.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use crate::protocol::engineio::packet::encode_binary;
use crate::protocol::socketio::msgpack;
use crate::protocol::socketio::packet::Packet;
use crate::protocol::socketio::text::{self, Decoded};

/// Maximum length in bytes of a frame header that a server sends: no mask and a 64-bit length.
pub(super) const FRAME_HEADER_MAX: usize = 10;

pub(super) const OPCODE_TEXT: u8 = 0x81;
pub(super) const OPCODE_BINARY: u8 = 0x82;
const OPCODE_CLOSE: u8 = 0x88;
const OPCODE_PONG: u8 = 0x8a;

/// An Engine.IO packet encoded for every transport. Clones share the bytes.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub(crate) struct EncodedFrame {
    frame: Bytes,
    header_bytes: u8,
}

impl EncodedFrame {
    /// Encodes a text packet, including its type digit (`3probe`).
    pub(crate) fn text(packet: &str) -> Self {
        Self::framed(OPCODE_TEXT, packet.as_bytes())
    }

    pub(crate) fn binary(data: &[u8]) -> Self {
        Self::framed(OPCODE_BINARY, data)
    }

    /// A websocket close frame. It is not a packet and must not be sent over polling. The reason is
    /// truncated to fit a control frame.
    pub(crate) fn websocket_close(code: u16, reason: &str) -> Self {
        let mut body = code.to_be_bytes().to_vec();
        // A control frame has at most 125 bytes of payload (RFC 6455, section 5.5).
        body.extend_from_slice(&reason.as_bytes()[..reason.floor_char_boundary(123)]);
        Self::framed(OPCODE_CLOSE, &body)
    }

    /// A websocket pong frame. It is not a packet and must not be sent over polling.
    pub(crate) fn websocket_pong(data: &[u8]) -> Self {
        Self::framed(OPCODE_PONG, data)
    }

    fn framed(opcode: u8, body: &[u8]) -> Self {
        let mut buffer = BytesMut::with_capacity(FRAME_HEADER_MAX + body.len());
        buffer.put_bytes(0, FRAME_HEADER_MAX);
        buffer.put_slice(body);
        Self::seal(buffer, FRAME_HEADER_MAX, opcode)
    }

    /// Writes the frame header right before `body_at`, and freezes the buffer.
    pub(super) fn seal(mut buffer: BytesMut, body_at: usize, opcode: u8) -> Self {
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
        let mut frame = buffer.freeze();
        frame.advance(body_at - header_bytes);
        Self { frame, header_bytes: header_bytes as u8 }
    }

    pub(crate) fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// The packet without its frame header: text with its type digit, or the bytes of a binary
    /// message.
    pub(crate) fn body(&self) -> &[u8] {
        &self.frame[usize::from(self.header_bytes)..]
    }

    /// Like [`EncodedFrame::body`], but returns a buffer that shares the bytes.
    pub(crate) fn to_body(&self) -> Bytes {
        self.frame.slice(usize::from(self.header_bytes)..)
    }

    pub(crate) fn is_binary(&self) -> bool {
        self.frame[0] == OPCODE_BINARY
    }

    /// Converts the packet to text: a binary message becomes `b` followed by base64.
    pub(crate) fn as_base64(&self) -> Self {
        if !self.is_binary() {
            return self.clone();
        }
        let mut text = Vec::new();
        encode_binary(self.body(), &mut text);
        Self::framed(OPCODE_TEXT, &text)
    }
}

/// An encoded Socket.IO packet: the frame of the packet itself, followed by the frames of its
/// attachments. Clones share the bytes.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub(crate) struct Message {
    head: EncodedFrame,
    attachments: Option<Arc<[EncodedFrame]>>,
}

impl Message {
    pub(super) fn new(head: EncodedFrame, attachments: &[Bytes]) -> Self {
        let attachments = attachments.iter().map(|data| EncodedFrame::binary(data));
        Self { head, attachments: (attachments.len() > 0).then(|| attachments.collect()) }
    }

    /// Combines a packet with its attachments, all of them already encoded. Returns `None` if
    /// `head` announces another number of attachments, or if an attachment is not binary.
    pub(crate) fn from_packets(head: EncodedFrame, attachments: Vec<EncodedFrame>) -> Option<Self> {
        let is_whole = announced(head.body()) == attachments.len() && attachments.iter().all(EncodedFrame::is_binary);
        is_whole.then(|| Self { head, attachments: (!attachments.is_empty()).then(|| attachments.into()) })
    }

    /// The packet and its attachments, in the order of sending, with no other packet between them.
    pub(crate) fn packets(&self) -> impl Iterator<Item = &EncodedFrame> {
        std::iter::once(&self.head).chain(self.attachments.iter().flat_map(|attachments| attachments.iter()))
    }

    /// Decodes the packet as a client does. Returns `None` if the bytes are not a Socket.IO packet.
    pub(crate) fn read_back(&self) -> Option<Packet> {
        if self.head.is_binary() {
            return msgpack::decode(&self.head.to_body()).ok();
        }
        let text = ByteString::try_from(self.head.to_body()).ok()?;
        let mut decoded = text::decode(&text.slice_ref(text.strip_prefix('4')?)).ok()?;
        for attachment in self.packets().skip(1) {
            let Decoded::Partial(partial) = decoded else { return None };
            decoded = partial.push(attachment.to_body()).ok()?;
        }
        match decoded {
            Decoded::Complete(packet) => Some(packet),
            Decoded::Partial(_) => None,
        }
    }

    pub(crate) fn byte_len(&self) -> usize {
        self.packets().map(|packet| packet.frame.len()).sum()
    }

    #[cfg(test)]
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(self.head.body()).unwrap_or("")
    }
}

impl From<EncodedFrame> for Message {
    fn from(head: EncodedFrame) -> Self {
        Self { head, attachments: None }
    }
}

/// Number of attachments that a packet announces: `451-` and `461-` announce one. A msgpack packet
/// contains its attachments.
fn announced(body: &[u8]) -> usize {
    let Some(rest) = body.strip_prefix(b"45").or_else(|| body.strip_prefix(b"46")) else { return 0 };
    rest.iter()
        .take_while(|byte| **byte != b'-')
        .fold(0, |number: usize, digit| number.saturating_mul(10).saturating_add(usize::from(digit.wrapping_sub(b'0'))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_has_exactly_the_attachments_that_it_announces() {
        let announcing = EncodedFrame::text(r#"451-/chat,["up",{"_placeholder":true,"num":0}]"#);
        let (text, binary) = (EncodedFrame::text("42[\"e\"]"), EncodedFrame::binary(b"\x00"));
        let packets = |head: &EncodedFrame, attachments: &[&EncodedFrame]| {
            let message = Message::from_packets(head.clone(), attachments.iter().copied().cloned().collect())?;
            Some(message.packets().cloned().collect::<Vec<_>>())
        };
        assert_eq!(packets(&text, &[]), Some(vec![text.clone()]));
        assert_eq!(packets(&binary, &[]), Some(vec![binary.clone()]), "msgpack packets are binary");
        assert_eq!(packets(&announcing, &[&binary]), Some(vec![announcing.clone(), binary.clone()]));
        for attachments in [&[][..], &[&text], &[&binary, &binary]] {
            assert_eq!(packets(&announcing, attachments), None, "{attachments:?}");
        }
        assert_eq!(packets(&text, &[&binary]), None);
    }

    proptest! {
        #[test]
        fn every_length_has_its_header(bytes in prop_oneof![0usize..300, 65_000usize..66_000]) {
            let packet = EncodedFrame::binary(&vec![7; bytes]);
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
