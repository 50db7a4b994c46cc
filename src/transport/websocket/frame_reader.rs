//! Decoding of a websocket's bytes into Engine.IO packets: frames, fragments, and violations of the
//! protocol.
//!
//! actix-http's parser unmasks the frames. The limits are checked before the parser is called,
//! since the parser would wait for a frame of any length. The reader owns no socket. The caller
//! passes the bytes.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use actix_http::ws::{OpCode, Parser};
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use tokio::time::Sleep;

use super::close::{INVALID_DATA, NORMAL, PROTOCOL_ERROR, TOO_LARGE};
use crate::limits::Limits;
use crate::protocol::encoded::EncodedFrame;
use crate::protocol::engineio::packet::EnginePacket;
use crate::state::budget::{Budget, Charge};

#[derive(Debug, Default)]
pub(crate) struct DecodedChunk {
    pub(crate) packets: Vec<EnginePacket>,
    /// Pong for the newest ping. Older pings need no answer (RFC 6455, 5.5.3).
    pub(crate) pong: Option<EncodedFrame>,
    /// Reason why the connection ends with this chunk, if it does.
    pub(crate) end: Option<End>,
}

/// Reason why no more data is accepted, with the close code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer sent a close frame. The answer has the same code.
    Closed {
        /// The code of the peer's close frame, or 1000 if the frame has no code.
        code: u16,
    },
    Undecodable {
        code: u16,
        detail: String,
    },
    TooLarge {
        code: u16,
        detail: String,
    },
    /// The budget of incoming bytes has no room for the message.
    Overloaded {
        detail: String,
    },
}

/// Maximum size of an incomplete message that is not charged to the budget. It is less than the
/// memory of an idle session.
const FREE_BYTES: usize = 1 << 10;

#[derive(Debug)]
struct Fragments {
    binary: bool,
    data: BytesMut,
    count: usize,
}

/// Limits of incoming messages, shared by all websockets of a server.
#[derive(Debug)]
pub(crate) struct MessageBounds {
    message_bytes_max: usize,
    fragments_max: usize,
    pub(super) message_timeout: Duration,
    pub(super) packets_per_turn: usize,
    budget: Arc<Budget>,
}

impl MessageBounds {
    pub(crate) fn new(limits: &Limits, budget: Arc<Budget>) -> Self {
        Self {
            message_bytes_max: limits.transport.payload_bytes_max,
            fragments_max: limits.transport.fragments_max,
            message_timeout: limits.transport.message_timeout,
            packets_per_turn: limits.sessions.packets_per_turn.max(1),
            budget,
        }
    }

    /// Limits for a single message, with an unlimited budget.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn of_each(message_bytes_max: usize, fragments_max: usize) -> Arc<Self> {
        let limits = Limits::with(|limits| {
            limits.transport.payload_bytes_max = message_bytes_max;
            limits.transport.fragments_max = fragments_max;
        });
        Arc::new(Self::new(&limits, Arc::new(Budget::new(usize::MAX))))
    }
}

/// The default limits, with an unlimited budget.
impl Default for MessageBounds {
    fn default() -> Self {
        Self::new(&Limits::default(), Arc::new(Budget::new(usize::MAX)))
    }
}

#[derive(Debug)]
pub(super) struct PendingMessage {
    charge: Charge,
    /// Deadline for the rest of the message. Set while the server waits for the client.
    pub(super) deadline: Option<Pin<Box<Sleep>>>,
}

/// Decoder of one connection's bytes. Stores incomplete messages only.
#[derive(Debug)]
pub(crate) struct FrameReader {
    buffer: BytesMut,
    /// Fragments of an incomplete message. Boxed, since browsers send none.
    fragments: Option<Box<Fragments>>,
    pub(super) bounds: Arc<MessageBounds>,
    /// State of an incomplete message. Boxed, since an idle connection has none.
    pub(super) pending_message: Option<Box<PendingMessage>>,
}

impl FrameReader {
    pub(crate) fn new(read_already: BytesMut, bounds: Arc<MessageBounds>) -> Self {
        Self { buffer: read_already, fragments: None, bounds, pending_message: None }
    }

    /// Decodes all complete frames, and stores the rest of `chunk`.
    pub(crate) fn read(&mut self, chunk: &[u8]) -> DecodedChunk {
        self.buffer.extend_from_slice(chunk);
        let mut decoded = DecodedChunk::default();
        let before = self.buffer.len();
        while decoded.end.is_none() {
            match self.next_frame() {
                Ok(Some((finished, opcode, data))) => self.on_frame(finished, opcode, data, &mut decoded),
                Ok(None) => break,
                Err(end) => decoded.end = Some(end),
            }
        }
        let has_consumed = self.buffer.len() < before;
        self.retain_incomplete(has_consumed, &mut decoded);
        decoded
    }

    fn retain_incomplete(&mut self, has_consumed: bool, decoded: &mut DecodedChunk) {
        let is_incomplete = !self.buffer.is_empty() || self.fragments.is_some();
        if decoded.end.is_some() || !is_incomplete {
            // This frees the buffer, so that an idle connection takes no memory for it.
            return self.discard_incomplete();
        }
        if has_consumed {
            // The remaining bytes are copied. Otherwise they would keep the whole read buffer in
            // memory.
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
        if !decoded.packets.is_empty()
            && let Some(pending_message) = &mut self.pending_message
        {
            pending_message.deadline = None;
        }
        let bytes = self.buffer.capacity() + self.fragments.as_ref().map_or(0, |fragments| fragments.data.capacity());
        if bytes <= FREE_BYTES && self.pending_message.is_none() {
            return;
        }
        let charged = self.pending_message().map_or(Ok(()), |pending_message| pending_message.charge.set(bytes));
        if let Err(error) = charged {
            self.discard_incomplete();
            decoded.end = Some(End::Overloaded { detail: format!("no memory for the message: {error}") });
        }
    }

    pub(super) fn pending_message(&mut self) -> Option<&mut PendingMessage> {
        if self.buffer.is_empty() && self.fragments.is_none() {
            return None;
        }
        let budget = &self.bounds.budget;
        let pending_message = self
            .pending_message
            .get_or_insert_with(|| Box::new(PendingMessage { charge: Charge::new(budget.clone()), deadline: None }));
        Some(pending_message)
    }

    pub(super) fn discard_incomplete(&mut self) {
        self.buffer = BytesMut::new();
        self.fragments = None;
        self.pending_message = None;
    }

    fn next_frame(&mut self) -> Result<Option<(bool, OpCode, BytesMut)>, End> {
        let Some(header) = FrameHeader::peek(&self.buffer) else { return Ok(None) };
        if header.reserved_bits {
            return Err(protocol_error("frame with reserved bits"));
        }
        let fragments = self.fragments.as_ref().filter(|_| !header.control);
        let before = fragments.map_or(0, |fragments| fragments.data.len());
        let bytes = usize::try_from(header.payload_bytes).unwrap_or(usize::MAX).saturating_add(before);
        if bytes > self.bounds.message_bytes_max {
            let detail = format!("message of {bytes} bytes exceeds limit of {}", self.bounds.message_bytes_max);
            return Err(End::TooLarge { code: TOO_LARGE, detail });
        }
        let complete = self.buffer.len() as u64 >= header.header_bytes as u64 + header.payload_bytes;
        // An invalid control frame is refused as soon as its header is read, before the payload
        // arrives.
        if header.control && (header.payload_bytes > 125 || !header.finished) {
            return Err(protocol_error("control frame too long or fragmented"));
        }
        if !complete {
            return Ok(None);
        }
        match Parser::parse(&mut self.buffer, true, self.bounds.message_bytes_max) {
            Ok(Some((finished, opcode, data))) => Ok(Some((finished, opcode, data.unwrap_or_default()))),
            Ok(None) => Ok(None),
            Err(error) => Err(protocol_error(&error.to_string())),
        }
    }

    fn on_frame(&mut self, finished: bool, opcode: OpCode, data: BytesMut, decoded: &mut DecodedChunk) {
        match (opcode, self.fragments.is_some()) {
            (OpCode::Text | OpCode::Binary, false) => {
                let binary = opcode == OpCode::Binary;
                if finished {
                    push(binary, data.freeze(), decoded);
                } else {
                    // The data is copied. Otherwise it would keep the whole read buffer in memory.
                    let data = BytesMut::from(&data[..]);
                    self.fragments = Some(Box::new(Fragments { binary, data, count: 1 }));
                }
            }
            (OpCode::Continue, true) => self.on_fragment(finished, &data, decoded),
            (OpCode::Ping, _) => decoded.pong = Some(EncodedFrame::websocket_pong(&data)),
            (OpCode::Pong, _) => {}
            (OpCode::Close, _) => decoded.end = Some(closed(&data)),
            _ => decoded.end = Some(protocol_error("frame does not fit the sequence of fragments")),
        }
    }

    fn on_fragment(&mut self, finished: bool, data: &[u8], decoded: &mut DecodedChunk) {
        let Some(mut fragments) = self.fragments.take() else { return };
        fragments.data.extend_from_slice(data);
        fragments.count += 1;
        if finished {
            push(fragments.binary, fragments.data.freeze(), decoded);
        } else if fragments.count >= self.bounds.fragments_max {
            let detail = format!("message of more than {} fragments", self.bounds.fragments_max);
            decoded.end = Some(End::TooLarge { code: TOO_LARGE, detail });
        } else {
            self.fragments = Some(fragments);
        }
    }
}

fn push(binary: bool, data: Bytes, decoded: &mut DecodedChunk) {
    if binary {
        return decoded.packets.push(EnginePacket::Binary(data));
    }
    let packet = ByteString::try_from(data)
        .map_err(|_| End::Undecodable { code: INVALID_DATA, detail: "text frame is not UTF-8".into() })
        .and_then(|text| EnginePacket::decode(text).map_err(|error| protocol_error(&error.to_string())));
    match packet {
        Ok(packet) => decoded.packets.push(packet),
        Err(end) => decoded.end = Some(end),
    }
}

/// Parses the code and the reason in the payload of a close frame (RFC 6455, 5.5.1 and 7.4).
fn closed(payload: &[u8]) -> End {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            End::Closed { code: NORMAL }
        } else {
            protocol_error("close payload of one byte")
        };
    };
    match u16::from_be_bytes(*code) {
        code @ (1000..=1003 | 1007..=1014 | 3000..=4999) => match std::str::from_utf8(reason) {
            Ok(_) => End::Closed { code },
            Err(_) => End::Undecodable { code: INVALID_DATA, detail: "close reason is not UTF-8".into() },
        },
        code => protocol_error(&format!("close code {code} may not be sent")),
    }
}

fn protocol_error(detail: &str) -> End {
    End::Undecodable { code: PROTOCOL_ERROR, detail: detail.into() }
}

/// The fields of a frame header that are checked before the payload arrives.
struct FrameHeader {
    finished: bool,
    reserved_bits: bool,
    control: bool,
    header_bytes: usize,
    payload_bytes: u64,
}

impl FrameHeader {
    /// Parses a header up to the payload length. Returns `None` if `buffer` is too short. The mask
    /// may still be missing.
    fn peek(buffer: &[u8]) -> Option<Self> {
        let (first, second) = (*buffer.first()?, *buffer.get(1)?);
        let (length_bytes, payload_bytes) = match second & 0x7f {
            126 => (2, u64::from(u16::from_be_bytes(buffer.get(2..4)?.try_into().ok()?))),
            127 => (8, u64::from_be_bytes(buffer.get(2..10)?.try_into().ok()?)),
            short => (0, u64::from(short)),
        };
        let mask_bytes = if second & 0x80 != 0 { 4 } else { 0 };
        Some(Self {
            finished: first & 0x80 != 0,
            reserved_bits: first & 0x70 != 0,
            control: first & 0x08 != 0,
            header_bytes: 2 + length_bytes + mask_bytes,
            payload_bytes,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in super::super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            0..=125 => frame.push(0x80 | payload.len() as u8),
            _ => {
                frame.push(0x80 | 126);
                frame.extend((payload.len() as u16).to_be_bytes());
            }
        }
        let mask = [1, 2, 3, 4];
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    fn reader() -> FrameReader {
        FrameReader::new(BytesMut::new(), MessageBounds::of_each(1000, 4))
    }

    #[test]
    fn incomplete_messages_are_charged_and_refused_over_the_budget() {
        let limits = Limits::with(|limits| limits.transport.payload_bytes_max = 1 << 20);
        let budget = Arc::new(Budget::new(100_000));
        let bounds = Arc::new(MessageBounds::new(&limits, budget.clone()));
        let new = || FrameReader::new(BytesMut::new(), bounds.clone());
        let mut pending_message = vec![0x82, 0xff, 0, 0, 0, 0, 0, 0, 0x9c, 0x40, 1, 2, 3, 4];
        pending_message.resize(35_000, 7);
        let (mut first, mut second, mut small) = (new(), new(), new());
        assert_eq!(first.read(&pending_message).end, None);
        assert!(budget.bytes() >= 35_000);
        assert_eq!(second.read(&pending_message).end, None);
        let third = new().read(&[pending_message.as_slice(), &[7; 4_000]].concat());
        assert!(matches!(third.end, Some(End::Overloaded { .. })), "{third:?}");
        assert_eq!(small.read(&frame(0x81, b"4a")).packets, [message("a")]);

        first.read(&[7; 5_014]);
        let held = budget.bytes();
        assert!((35_000..50_000).contains(&held), "a complete message is still charged: {held}");
        drop(second);
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn an_incomplete_message_does_not_share_the_read_buffer() {
        let bounds = MessageBounds::of_each(1 << 20, 4);
        let mut reader = FrameReader::new(BytesMut::new(), bounds);
        let pings = frame(0x89, &[1; 100]).repeat(500);
        reader.read(&[pings.as_slice(), &[0x81]].concat());
        assert!(reader.buffer.capacity() < 100 && reader.pending_message.is_none());
        reader.read(&frame(0x81, &[b'4'; 1_000])[1..1_001]);
        assert_eq!(reader.buffer.len(), 1_001);
    }

    fn message(text: &'static str) -> EnginePacket {
        EnginePacket::Message(ByteString::from_static(text))
    }

    #[test]
    fn frames_are_decoded_from_chunks_of_any_size() {
        let wire = [frame(0x81, b"4a"), frame(0x82, &[7; 200]), frame(0x81, b"3")].concat();
        for cut in 1..wire.len() {
            let mut reader = reader();
            let mut packets = Vec::new();
            for chunk in wire.chunks(cut) {
                let decoded = reader.read(chunk);
                assert_eq!(decoded.end, None);
                packets.extend(decoded.packets);
            }
            let binary = EnginePacket::Binary(Bytes::from(vec![7; 200]));
            assert_eq!(packets, [message("a"), binary, EnginePacket::Pong("".into())], "cut {cut}");
        }
    }

    #[test]
    fn fragments_make_one_message_with_pings_between() {
        let wire = [frame(0x01, b"4"), frame(0x89, b"hi"), frame(0x00, b"a"), frame(0x80, b"b")].concat();
        let decoded = reader().read(&wire);
        assert_eq!(decoded.packets, [message("ab")]);
        assert_eq!(&decoded.pong.unwrap().frame()[..], b"\x8a\x02hi");
    }

    #[test]
    fn protocol_violations_end_the_connection() {
        let unmasked = b"\x81\x021a".to_vec();
        for (wire, code) in [
            (frame(0xc1, b"4a"), PROTOCOL_ERROR),
            (frame(0x80, b"4a"), PROTOCOL_ERROR),
            (frame(0x09, b""), PROTOCOL_ERROR),
            (frame(0x89, &[0; 126]), PROTOCOL_ERROR),
            (frame(0x83, b""), PROTOCOL_ERROR),
            (frame(0x81, b"9"), PROTOCOL_ERROR),
            (frame(0x81, b""), PROTOCOL_ERROR),
            (frame(0x81, b"4\xff"), INVALID_DATA),
            ([frame(0x01, b"4"), frame(0x81, b"4")].concat(), PROTOCOL_ERROR),
            (unmasked, PROTOCOL_ERROR),
        ] {
            let decoded = reader().read(&wire);
            let Some(End::Undecodable { code: got, .. }) = decoded.end else { panic!("{wire:?}: {decoded:?}") };
            assert_eq!(got, code, "{wire:?}");
        }
    }

    #[test]
    fn a_message_over_the_limit_is_refused_by_its_header() {
        let huge = b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0";
        assert!(matches!(reader().read(huge).end, Some(End::TooLarge { code: TOO_LARGE, .. })));
        let fragments = [frame(0x02, &[0; 600]), frame(0x00, &[0; 600])].concat();
        assert!(matches!(reader().read(&fragments).end, Some(End::TooLarge { .. })));
        let tiny = [frame(0x02, b"x"), frame(0x00, b"x"), frame(0x00, b"x"), frame(0x00, b"x")].concat();
        assert!(matches!(reader().read(&tiny).end, Some(End::TooLarge { .. })));
    }

    #[test]
    fn complete_frames_leave_no_buffer() {
        let mut reader = reader();
        reader.read(&frame(0x81, b"4a"));
        assert_eq!(reader.buffer.capacity(), 0);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(chunks in proptest::collection::vec(any::<Vec<u8>>(), 0..8)) {
            let mut reader = reader();
            for chunk in chunks {
                if reader.read(&chunk).end.is_some() {
                    break;
                }
                prop_assert!(reader.buffer.len() <= 1000 + 14);
            }
        }
    }
}
