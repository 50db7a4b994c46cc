//! Encoding and decoding of outgoing events, incoming events, poll bodies and websocket frames.

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use crate::ids::{Epoch, Fingerprint, Lsn, NamespacePath, Offset};
use crate::limits::Limits;
use crate::messages::sink::FrameSink;
use crate::protocol::draft::Draft;
use crate::protocol::encoded::Message;
use crate::protocol::engineio::packet::EnginePacket;
use crate::protocol::socketio::Parser;
use crate::protocol::socketio::text::{Decoded, decode};
use crate::state::outbox::Outbox;
use crate::transport::polling::PollSink;
use crate::transport::websocket::frame_reader::FrameReader;

/// An encoded event.
pub struct Event(Message);

/// Encodes an event, whose arguments are JSON. With `token`, the event also has an offset token.
pub fn encode(name: &str, arguments: &str, token: bool) -> Event {
    let draft = Draft::event(Parser::Json, NamespacePath::root(), name, arguments, Vec::new(), token);
    let offset = Offset { epoch: Epoch::new(1, 1), lsn: Lsn(1), fingerprint: Fingerprint::new(1) };
    Event(draft.seal(None, token.then_some(&offset)))
}

/// Decodes one text frame of a client. Returns true if the frame is a complete Socket.IO packet.
pub fn is_packet(text: ByteString) -> bool {
    let Ok(EnginePacket::Message(text)) = EnginePacket::decode(text) else { return false };
    matches!(decode(&text), Ok(Decoded::Complete(_)))
}

/// Queues events in an outbox and drains the outbox into the body of one poll.
pub fn poll(events: &[Event]) -> Vec<u8> {
    let mut outbox = Outbox::default();
    for Event(message) in events {
        // The outbox is unbounded, so the push cannot fail.
        let _ = outbox.push(message, usize::MAX);
    }
    let (mut sink, mut batch) = PollSink::new(Limits::default().transport.poll_bytes_max);
    sink.drain(&mut outbox);
    batch.try_recv().unwrap_or_default()
}

/// The reading half of one websocket.
pub struct Frames(FrameReader);

impl Frames {
    /// A connection that has not received any input yet.
    pub fn new() -> Self {
        Self(FrameReader::new(BytesMut::new(), std::sync::Arc::default()))
    }

    /// Decodes the bytes of one read and returns the number of packets.
    pub fn read(&mut self, chunk: &[u8]) -> usize {
        self.0.read(chunk).packets.len()
    }
}

impl Default for Frames {
    fn default() -> Self {
        Self::new()
    }
}

/// A client's text frame, masked.
pub fn client_frame(text: &str) -> Bytes {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![0x81];
    match u8::try_from(text.len()) {
        Ok(short @ 0..126) => frame.push(0x80 | short),
        _ => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(text.len() as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(text.bytes().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame.into()
}
