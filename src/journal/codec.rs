//! The binary form of a record on disk.
//!
//! | bytes | | |
//! |---|---|---|
//! | 1 | version | 5 for this table |
//! | 4 | length | of the body |
//! | 8 | LSN | |
//! | 4 | checksum | of the body, CRC-32 |
//! | 4 | checksum | of the 17 bytes above, to tell a damaged length from a truncated record |
//! | … | body | kind (1), fingerprint (3), then the fields of the kind in their order |
//!
//! Numbers are little-endian. Names are prefixed by their length in two bytes, data by its length
//! in four bytes, and lists by their count in four bytes.
//!
//! A packet of an event is stored without its websocket frame:
//!
//! | bytes | | |
//! |---|---|---|
//! | 1 | kind | 0: text with its type digit, as in `42["e"]`; 1: binary message |
//! | 4 | length | of the body |
//! | … | body | |
//!
//! Other kinds are reserved for later formats, such as compressed text.
//!
//! Records of versions 1 to 4 can be decoded as well. Version 4 does not have the record kind 13.
//! Events of versions 1 to 3 have no position in the queue, and there is no record kind 12.
//! Versions 1 and 2 contain each packet as a websocket frame, prefixed by its length in four bytes.
//! Version 1 does not have the record kinds 8 and above.
//!
//! The decoder rejects unknown kinds. Its allocations are proportional to the bytes present,
//! whatever lengths and counts they contain.

use smallvec::SmallVec;
use thiserror::Error;

use super::{EventRecord, GiveUpReason, Record, RecordBody, RoomSpan, SessionRecord};
use crate::ids::{
    Epoch, Fingerprint, Lsn, NamespacePath, PrivateId, QueueOffset, RANDOM_ID_BYTES, Recipient, RoomName, SocketId,
};
use crate::protocol::encoded::{EncodedFrame, Message};

/// Version of encoded records, and the newest version that can be decoded.
pub(super) const VERSION: u8 = 5;

/// Last version that stored packets as websocket frames.
const FRAMES_UNTIL: u8 = 2;

/// Last version whose events have no position in the queue.
const NOT_STORED_UNTIL: u8 = 3;

/// Last version in which rooms of any name were those of clients.
const NO_SHADOWS_UNTIL: u8 = 3;

pub(super) const HEADER_BYTES: usize = 21;

const EVENT: u8 = 1;
const CONNECT: u8 = 2;
const JOIN: u8 = 3;
const LEAVE: u8 = 4;
const DATA: u8 = 5;
const DISCONNECT: u8 = 6;
const SESSION: u8 = 7;
const RESUMED: u8 = 8;
const PROCESS_ENDED: u8 = 9;
const GIVEN_UP: u8 = 10;
const EXPIRED: u8 = 11;
const STORED: u8 = 12;
const REVOKED: u8 = 13;

const TEXT_PACKET: u8 = 0;
const BINARY_PACKET: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum CodecError {
    /// The bytes are an incomplete record. A killed process may leave such a record at the end of
    /// the newest segment.
    #[error("record ends early")]
    Short,
    #[error("record has version {0}, this program knows {VERSION}")]
    Version(u8),
    #[error("checksum of a record's header is wrong")]
    HeaderSum,
    #[error("checksum of a record is wrong")]
    BodySum,
    /// The checksums are right, but the LSN is beyond the maximum, or the body is not valid.
    #[error("record holds {0}")]
    Content(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    version: u8,
    pub(super) lsn: Lsn,
    pub(super) body_bytes: usize,
    body_sum: u32,
}

/// Appends the encoded record to `into`.
pub(super) fn encode(record: &Record, into: &mut Vec<u8>) {
    let header_at = into.len();
    into.resize(header_at + HEADER_BYTES, 0);
    put_body(record, into);
    let (before, body) = into.split_at_mut(header_at + HEADER_BYTES);
    let header = &mut before[header_at..];
    header[0] = VERSION;
    header[1..5].copy_from_slice(&(body.len() as u32).to_le_bytes());
    header[5..13].copy_from_slice(&record.lsn.0.to_le_bytes());
    header[13..17].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    let sum = crc32fast::hash(&header[..17]);
    header[17..].copy_from_slice(&sum.to_le_bytes());
}

pub(super) fn decode_header(bytes: &[u8]) -> Result<RecordHeader, CodecError> {
    let mut rest = Rest(bytes.get(..HEADER_BYTES).ok_or(CodecError::Short)?);
    let version = rest.u8()?;
    let body_bytes = rest.u32()? as usize;
    let lsn = rest.u64()?;
    let body_sum = rest.u32()?;
    if rest.u32()? != crc32fast::hash(&bytes[..17]) {
        return Err(CodecError::HeaderSum);
    }
    if version > VERSION {
        return Err(CodecError::Version(version));
    }
    if lsn >= Lsn::END {
        return Err(CodecError::Content("an LSN beyond the maximum"));
    }
    Ok(RecordHeader { version, lsn: Lsn(lsn), body_bytes, body_sum })
}

/// Decodes the body that belongs to `header`. Ignores any bytes after the body.
pub(super) fn decode_body(header: &RecordHeader, bytes: &[u8]) -> Result<Record, CodecError> {
    let body = bytes.get(..header.body_bytes).ok_or(CodecError::Short)?;
    if crc32fast::hash(body) != header.body_sum {
        return Err(CodecError::BodySum);
    }
    // Since length and checksum are right, the record is not truncated, but its content is wrong.
    match read_body(header, Rest(body)) {
        Err(CodecError::Short) => Err(CodecError::Content("too few bytes for its kind")),
        read => read,
    }
}

fn put_body(record: &Record, into: &mut Vec<u8>) {
    let kind = match &record.body {
        RecordBody::Event(_) => EVENT,
        RecordBody::Connect { .. } => CONNECT,
        RecordBody::Join { .. } => JOIN,
        RecordBody::Leave { .. } => LEAVE,
        RecordBody::Data { .. } => DATA,
        RecordBody::Disconnect { .. } => DISCONNECT,
        RecordBody::Session(_) => SESSION,
        RecordBody::Resumed { .. } => RESUMED,
        RecordBody::ProcessEnded { .. } => PROCESS_ENDED,
        RecordBody::GivenUp { .. } => GIVEN_UP,
        RecordBody::Expired { .. } => EXPIRED,
        RecordBody::Stored(_) => STORED,
        RecordBody::Revoked { .. } => REVOKED,
    };
    into.push(kind);
    into.extend_from_slice(&record.fingerprint.to_bits().to_le_bytes()[..3]);
    match &record.body {
        RecordBody::Event(event) => put_event(event, into),
        RecordBody::Connect { pid, socket, namespace, at_unix_ms } => {
            into.extend_from_slice(pid.as_bytes());
            into.extend_from_slice(socket.as_bytes());
            put_name(namespace.as_str(), into);
            into.extend_from_slice(&at_unix_ms.to_le_bytes());
        }
        RecordBody::Join { socket, room }
        | RecordBody::Leave { socket, room }
        | RecordBody::Revoked { socket, room } => {
            into.extend_from_slice(socket.as_bytes());
            put_name(room.as_str(), into);
        }
        RecordBody::Data { socket, data } => {
            into.extend_from_slice(socket.as_bytes());
            put_data(data.as_deref(), into);
        }
        RecordBody::Disconnect { socket, forever, at_unix_ms } => {
            into.extend_from_slice(socket.as_bytes());
            into.push((*forever).into());
            into.extend_from_slice(&at_unix_ms.to_le_bytes());
        }
        RecordBody::Session(session) => put_session(session, into),
        RecordBody::Resumed { socket, position, at_unix_ms } => {
            into.extend_from_slice(socket.as_bytes());
            into.extend_from_slice(&position.0.to_le_bytes());
            into.extend_from_slice(&at_unix_ms.to_le_bytes());
        }
        RecordBody::GivenUp { socket, why } => {
            into.extend_from_slice(socket.as_bytes());
            into.push(match why {
                GiveUpReason::TooLarge => 0,
                GiveUpReason::NoRoom => 1,
            });
        }
        RecordBody::ProcessEnded { at_unix_ms: unix_ms } | RecordBody::Expired { until_unix_ms: unix_ms } => {
            into.extend_from_slice(&unix_ms.to_le_bytes());
        }
        RecordBody::Stored(stored) => put_queue_offset(*stored, into),
    }
}

fn put_queue_offset(QueueOffset { epoch, number }: QueueOffset, into: &mut Vec<u8>) {
    into.extend_from_slice(&epoch.to_bits().to_le_bytes());
    into.extend_from_slice(&number.to_le_bytes());
}

fn put_event(event: &EventRecord, into: &mut Vec<u8>) {
    put_name(event.namespace.as_str(), into);
    for rooms in [&event.rooms, &event.except] {
        put_length(rooms.len(), into);
        for recipient in rooms {
            recipient.with_name(|name| put_name(name, into));
        }
    }
    into.push(event.exclude.is_some().into());
    if let Some(socket) = event.exclude {
        into.extend_from_slice(socket.as_bytes());
    }
    into.push(event.stored.is_some().into());
    if let Some(stored) = event.stored {
        put_queue_offset(stored, into);
    }
    put_length(event.message.packets().count(), into);
    for packet in event.message.packets() {
        into.push(if packet.is_binary() { BINARY_PACKET } else { TEXT_PACKET });
        put_long(packet.body(), into);
    }
}

/// Upper bound of the encoded bytes of an event with these names, and with packets of so many bytes
/// in total.
pub(super) fn event_bytes_max(
    namespace: &NamespacePath,
    names: impl Iterator<Item = usize>,
    packets: usize,
    packet_bytes: usize,
) -> usize {
    const FIXED: usize = HEADER_BYTES + 1 + 3 + 2 + 4 + 4 + (1 + RANDOM_ID_BYTES) + (1 + 8 + 8) + 4;
    FIXED + namespace.as_str().len() + names.map(|len| 2 + len).sum::<usize>() + 5 * packets + packet_bytes
}

fn put_session(session: &SessionRecord, into: &mut Vec<u8>) {
    into.extend_from_slice(session.pid.as_bytes());
    into.extend_from_slice(session.socket.as_bytes());
    put_name(session.namespace.as_str(), into);
    put_length(session.rooms.len(), into);
    for RoomSpan { room, joined, left } in &session.rooms {
        put_name(room.as_str(), into);
        into.extend_from_slice(&joined.0.to_le_bytes());
        into.push(left.is_some().into());
        if let Some(left) = left {
            into.extend_from_slice(&left.0.to_le_bytes());
        }
    }
    put_data(session.data.as_deref(), into);
    into.push(session.connected.into());
    into.extend_from_slice(&session.at_unix_ms.to_le_bytes());
    for lsn in [session.position, session.last_event, session.last_ack_event] {
        into.extend_from_slice(&lsn.0.to_le_bytes());
    }
}

fn put_data(data: Option<&str>, into: &mut Vec<u8>) {
    into.push(data.is_some().into());
    if let Some(data) = data {
        put_long(data.as_bytes(), into);
    }
}

/// Appends a name. The types of names bound their lengths far below 2^16 bytes.
fn put_name(name: &str, into: &mut Vec<u8>) {
    into.extend_from_slice(&(name.len() as u16).to_le_bytes());
    into.extend_from_slice(name.as_bytes());
}

fn put_long(bytes: &[u8], into: &mut Vec<u8>) {
    put_length(bytes.len(), into);
    into.extend_from_slice(bytes);
}

/// Appends a length or count. The cast does not lose bits: a record with 2^32 bytes or entries does
/// not fit into a segment and is never written.
fn put_length(length: usize, into: &mut Vec<u8>) {
    into.extend_from_slice(&(length as u32).to_le_bytes());
}

fn read_body(header: &RecordHeader, mut rest: Rest<'_>) -> Result<Record, CodecError> {
    let kind = rest.u8()?;
    let [a, b, c] = rest.array()?;
    let fingerprint = Fingerprint::new(u32::from_le_bytes([a, b, c, 0]));
    let body = match kind {
        EVENT => RecordBody::Event(rest.event(header.version)?.into()),
        CONNECT => RecordBody::Connect {
            pid: rest.pid()?,
            socket: rest.socket()?,
            namespace: rest.namespace()?,
            at_unix_ms: rest.u64()?,
        },
        JOIN => RecordBody::Join { socket: rest.socket()?, room: rest.room(header.version)? },
        LEAVE => RecordBody::Leave { socket: rest.socket()?, room: rest.room(header.version)? },
        DATA => RecordBody::Data { socket: rest.socket()?, data: rest.data()? },
        DISCONNECT => RecordBody::Disconnect { socket: rest.socket()?, forever: rest.flag()?, at_unix_ms: rest.u64()? },
        SESSION => RecordBody::Session(rest.session(header.version)?.into()),
        RESUMED => RecordBody::Resumed { socket: rest.socket()?, position: rest.lsn()?, at_unix_ms: rest.u64()? },
        PROCESS_ENDED => RecordBody::ProcessEnded { at_unix_ms: rest.u64()? },
        GIVEN_UP => RecordBody::GivenUp {
            socket: rest.socket()?,
            why: if rest.flag()? { GiveUpReason::NoRoom } else { GiveUpReason::TooLarge },
        },
        EXPIRED => RecordBody::Expired { until_unix_ms: rest.u64()? },
        STORED => RecordBody::Stored(rest.queue_offset()?),
        REVOKED => RecordBody::Revoked { socket: rest.socket()?, room: rest.room(header.version)? },
        _ => return Err(CodecError::Content("an unknown kind")),
    };
    if !rest.0.is_empty() {
        return Err(CodecError::Content("too many bytes for its kind"));
    }
    Ok(Record { lsn: header.lsn, fingerprint, body })
}

/// The undecoded rest of a body.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(CodecError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(CodecError::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, CodecError> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, CodecError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, CodecError> {
        self.array().map(u64::from_le_bytes)
    }

    fn lsn(&mut self) -> Result<Lsn, CodecError> {
        match self.u64()? {
            lsn if lsn < Lsn::END => Ok(Lsn(lsn)),
            _ => Err(CodecError::Content("an LSN beyond the maximum")),
        }
    }

    fn flag(&mut self) -> Result<bool, CodecError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CodecError::Content("a flag other than 0 and 1")),
        }
    }

    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, CodecError>) -> Result<Option<T>, CodecError> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    fn long(&mut self) -> Result<&'a [u8], CodecError> {
        let bytes = self.u32()? as usize;
        self.take(bytes)
    }

    fn name(&mut self) -> Result<&'a str, CodecError> {
        let bytes = self.array().map(u16::from_le_bytes)?;
        text(self.take(bytes.into())?)
    }

    fn room(&mut self, version: u8) -> Result<RoomName, CodecError> {
        let parse = if version <= NO_SHADOWS_UNTIL { RoomName::parse_unreserved } else { RoomName::parse_recorded };
        parse(self.name()?).map_err(|_| CodecError::Content("an invalid room name"))
    }

    fn namespace(&mut self) -> Result<NamespacePath, CodecError> {
        match self.name()? {
            "/" => Ok(NamespacePath::root()),
            path => NamespacePath::parse(path).map_err(|_| CodecError::Content("an invalid namespace path")),
        }
    }

    fn socket(&mut self) -> Result<SocketId, CodecError> {
        self.array::<RANDOM_ID_BYTES>().map(SocketId::from_random)
    }

    fn pid(&mut self) -> Result<PrivateId, CodecError> {
        self.array::<RANDOM_ID_BYTES>().map(PrivateId::from_random)
    }

    fn data(&mut self) -> Result<Option<Box<str>>, CodecError> {
        self.optional(|rest| text(rest.long()?).map(Box::from))
    }

    /// Reads rooms and sockets. Sockets are encoded as rooms that are named by their ids.
    fn recipients(&mut self, version: u8) -> Result<SmallVec<[Recipient; 1]>, CodecError> {
        (0..self.u32()?).map(|_| self.room(version).map(Recipient::from)).collect()
    }

    fn event(&mut self, version: u8) -> Result<EventRecord, CodecError> {
        let namespace = self.namespace()?;
        let (rooms, except) = (self.recipients(version)?, self.recipients(version)?);
        let exclude = self.optional(Self::socket)?;
        let stored = if version <= NOT_STORED_UNTIL { None } else { self.optional(Self::queue_offset)? };
        let count = self.u32()?;
        if count == 0 {
            return Err(CodecError::Content("an event without packets"));
        }
        let head = self.packet(version)?;
        let mut attachments = Vec::new();
        for _ in 1..count {
            attachments.push(self.packet(version)?);
        }
        let message = Message::from_packets(head, attachments);
        let message = message.ok_or(CodecError::Content("a packet without the attachments that it announces"))?;
        Ok(EventRecord { namespace, rooms, except, exclude, stored, message })
    }

    fn queue_offset(&mut self) -> Result<QueueOffset, CodecError> {
        let (epoch, number) = (self.u64()?, self.u64()?);
        if number >= Lsn::END {
            return Err(CodecError::Content("a number of the queue beyond the maximum"));
        }
        Ok(QueueOffset { epoch: Epoch::from_bits(epoch), number })
    }

    /// Reads a packet into a buffer of its own, so that an outbox with the packet does not keep the
    /// whole chunk in memory.
    fn packet(&mut self, version: u8) -> Result<EncodedFrame, CodecError> {
        let (kind, body) = if version <= FRAMES_UNTIL { unframe(self.long()?)? } else { (self.u8()?, self.long()?) };
        match kind {
            TEXT_PACKET => Ok(EncodedFrame::text(text(body)?)),
            BINARY_PACKET => Ok(EncodedFrame::binary(body)),
            _ => Err(CodecError::Content("a packet of an unknown kind")),
        }
    }

    fn session(&mut self, version: u8) -> Result<SessionRecord, CodecError> {
        let (pid, socket, namespace) = (self.pid()?, self.socket()?, self.namespace()?);
        let mut rooms = Vec::new();
        for _ in 0..self.u32()? {
            rooms.push(RoomSpan { room: self.room(version)?, joined: self.lsn()?, left: self.optional(Self::lsn)? });
        }
        Ok(SessionRecord {
            pid,
            socket,
            namespace,
            rooms,
            data: self.data()?,
            connected: self.flag()?,
            at_unix_ms: self.u64()?,
            position: self.lsn()?,
            last_event: self.lsn()?,
            last_ack_event: self.lsn()?,
        })
    }
}

/// Splits a packet of versions 1 and 2 into kind and body. These versions store packets as
/// websocket frames.
fn unframe(frame: &[u8]) -> Result<(u8, &[u8]), CodecError> {
    let (kind, length) = match frame {
        [0x81, length, ..] => (TEXT_PACKET, length),
        [0x82, length, ..] => (BINARY_PACKET, length),
        _ => return Err(CodecError::Content("a frame that is neither text nor binary")),
    };
    let header_bytes = match length {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let body = frame.get(header_bytes..).ok_or(CodecError::Content("a frame that ends early"))?;
    Ok((kind, body))
}

fn text(bytes: &[u8]) -> Result<&str, CodecError> {
    std::str::from_utf8(bytes).map_err(|_| CodecError::Content("text that is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::contract::records::{any_record, event, every_kind};
    use proptest::prelude::*;

    fn encoded(record: &Record) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(record, &mut bytes);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Record, CodecError> {
        let header = decode_header(bytes)?;
        decode_body(&header, &bytes[HEADER_BYTES..])
    }

    /// Returns `bytes` with another body and correct checksums.
    fn with_body(bytes: &[u8], body: &[u8]) -> Vec<u8> {
        let mut header = bytes[..13].to_vec();
        header[1..5].copy_from_slice(&(body.len() as u32).to_le_bytes());
        header.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
        header.extend_from_slice(&crc32fast::hash(&header.clone()).to_le_bytes());
        [header, body.to_vec()].concat()
    }

    #[test]
    fn every_kind_of_record_survives_encoding() {
        for record in every_kind() {
            assert_eq!(decode(&encoded(&record)).as_ref(), Ok(&record));
        }
    }

    #[test]
    fn encoded_bytes_are_those_of_the_table() {
        // If these bytes have to change, VERSION has to change as well.
        let room = RoomName::parse("ab").unwrap();
        let body = RecordBody::Join { socket: SocketId::from_random([9; 15]), room };
        let bytes = encoded(&Record { lsn: Lsn(258), fingerprint: Fingerprint::new(0x0003_0201), body });
        let body = [&[JOIN, 1, 2, 3][..], &[9; 15], &[2, 0], b"ab"].concat();
        assert_eq!(bytes[..13], [VERSION, 23, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[HEADER_BYTES..], body);
    }

    #[test]
    fn truncated_records_differ_from_damaged_ones_at_every_byte() {
        for record in every_kind() {
            let bytes = encoded(&record);
            for cut in 0..bytes.len() {
                assert_eq!(decode(&bytes[..cut]), Err(CodecError::Short), "cut at {cut}");
            }
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut damaged = bytes.clone();
                    damaged[at] ^= 1 << bit;
                    let sum = if at < HEADER_BYTES { CodecError::HeaderSum } else { CodecError::BodySum };
                    assert_eq!(decode(&damaged), Err(sum), "bit {bit} of byte {at}");
                }
            }
        }
    }

    #[test]
    fn unknown_versions_and_invalid_bodies_are_rejected() {
        let bytes = encoded(&every_kind()[0]);
        let mut newer = bytes[..17].to_vec();
        newer[0] = VERSION + 1;
        newer.extend_from_slice(&crc32fast::hash(&newer.clone()).to_le_bytes());
        assert_eq!(decode(&newer), Err(CodecError::Version(VERSION + 1)));
        let refused = |body: &[u8]| decode(&with_body(&bytes, body)).unwrap_err();
        assert_eq!(refused(&[99, 0, 0, 0]), CodecError::Content("an unknown kind"));
        assert_eq!(refused(b""), CodecError::Content("too few bytes for its kind"));
        let join = |room: &[u8]| [&[JOIN, 1, 2, 3][..], &[9; 15], room].concat();
        assert_eq!(refused(&join(&[0, 0])), CodecError::Content("an invalid room name"));
        assert_eq!(refused(&join(&[1, 0, 0xff])), CodecError::Content("text that is not UTF-8"));
        assert_eq!(refused(&join(&[1, 0, b'a', 0])), CodecError::Content("too many bytes for its kind"));
        let disconnect = [&[DISCONNECT, 1, 2, 3][..], &[9; 15], &[2], &[0; 8]].concat();
        assert_eq!(refused(&disconnect), CodecError::Content("a flag other than 0 and 1"));
    }

    /// Returns `record` in the encoding of `version`, which is below 4. An event must not have a
    /// position in the queue.
    fn encoded_before(version: u8, record: &Record) -> Vec<u8> {
        let mut bytes = encoded(record);
        if let RecordBody::Event(event) = &record.body {
            let packets: usize = event.message.packets().map(|packet| 5 + packet.body().len()).sum();
            let mut body = bytes[HEADER_BYTES..].to_vec();
            let packets = body.split_off(body.len() - packets);
            let count = body.split_off(body.len() - 4);
            assert_eq!(body.pop(), Some(0), "no position in the queue");
            body.extend_from_slice(&count);
            if version <= FRAMES_UNTIL {
                event.message.packets().for_each(|packet| put_long(packet.frame(), &mut body));
            } else {
                body.extend_from_slice(&packets);
            }
            bytes = with_body(&bytes, &body);
        }
        bytes[0] = version;
        let sum = crc32fast::hash(&bytes[..17]);
        bytes[17..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    #[test]
    fn records_of_earlier_versions_are_decoded() {
        let lengths = [0, 125, 126, 0xffff, 0x1_0000].map(|bytes| event(1, bytes));
        for record in every_kind().iter().chain(&lengths) {
            if matches!(&record.body, RecordBody::Event(event) if event.stored.is_some()) {
                continue;
            }
            for version in 1..=NOT_STORED_UNTIL {
                assert_eq!(decode(&encoded_before(version, record)).as_ref(), Ok(record));
            }
        }
    }

    #[test]
    fn a_name_that_was_not_reserved_in_an_earlier_version_is_replaced() {
        // In an earlier version, such a name made the upgrade discard the whole journal.
        let name = |name| RoomName::parse(name).unwrap();
        let (reserved, replaced) = (RoomName::shadow_of(&name("a")), name("\u{1}a"));
        let join = |room: &RoomName| Record {
            lsn: Lsn(1),
            fingerprint: Fingerprint::new(1),
            body: RecordBody::Join { socket: SocketId::from_random([2; RANDOM_ID_BYTES]), room: room.clone() },
        };
        for version in 1..=NO_SHADOWS_UNTIL {
            assert_eq!(decode(&encoded_before(version, &join(&reserved))), Ok(join(&replaced)));
        }
        assert_eq!(decode(&encoded(&join(&reserved))), Ok(join(&reserved)));
    }

    #[test]
    fn a_number_of_the_queue_beyond_the_maximum_is_rejected() {
        let record = every_kind().into_iter().find(|record| match &record.body {
            RecordBody::Event(event) => event.stored.is_some(),
            _ => false,
        });
        let bytes = encoded(&record.unwrap());
        let mut body = bytes[HEADER_BYTES..].to_vec();
        let number = (Lsn::END - 1).to_le_bytes();
        let at = body.windows(8).position(|window| window == number).unwrap();
        body[at..at + 8].copy_from_slice(&Lsn::END.to_le_bytes());
        let refused = decode(&with_body(&bytes, &body));
        assert_eq!(refused, Err(CodecError::Content("a number of the queue beyond the maximum")));
    }

    #[test]
    fn damaged_frames_of_earlier_versions_are_rejected() {
        for frame in [b"".as_slice(), b"\x81", b"\x81\x7e\x00", b"\x82\x7f\x00", b"\x88\x00"] {
            assert!(matches!(unframe(frame), Err(CodecError::Content(_))), "{frame:?}");
        }
    }

    #[test]
    fn packets_are_stored_without_their_frame() {
        let record = event(1, 3);
        let stored = [&[TEXT_PACKET, 13, 0, 0, 0][..], br#"42["e","xxx"]"#].concat();
        let bytes = encoded(&record);
        assert!(bytes.ends_with(&stored), "{bytes:?}");
        let mut unknown = bytes[HEADER_BYTES..].to_vec();
        let at = unknown.len() - stored.len();
        unknown[at] = 7;
        let refused = decode(&with_body(&bytes, &unknown));
        assert_eq!(refused, Err(CodecError::Content("a packet of an unknown kind")));
    }

    #[test]
    fn an_event_without_packets_is_rejected() {
        let record = event(1, 3);
        let bytes = encoded(&record);
        let mut body = bytes[HEADER_BYTES..].to_vec();
        // The count stands before the only packet: kind, length and 13 bytes.
        let at = body.len() - (1 + 4 + 13) - 4;
        assert_eq!(body[at..at + 4], [1, 0, 0, 0]);
        body[at] = 0;
        assert_eq!(decode(&with_body(&bytes, &body)), Err(CodecError::Content("an event without packets")));
    }

    #[test]
    fn a_hostile_count_allocates_nothing() {
        let bytes = encoded(&every_kind()[0]);
        // The count of rooms is four billion, and no rooms follow.
        let event = [&[EVENT, 1, 2, 3, 1, 0, b'/'][..], &[0xff; 4]].concat();
        assert_eq!(decode(&with_body(&bytes, &event)), Err(CodecError::Content("too few bytes for its kind")));
        let session = [&[SESSION, 1, 2, 3][..], &[9; 30], &[1, 0, b'/'], &[0xff; 4]].concat();
        assert_eq!(decode(&with_body(&bytes, &session)), Err(CodecError::Content("too few bytes for its kind")));
    }

    proptest! {
        #[test]
        fn any_record_survives_encoding(record in any_record()) {
            prop_assert_eq!(decode(&encoded(&record)), Ok(record));
        }

        #[test]
        fn an_event_is_not_larger_than_its_bound(record in any_record()) {
            if let RecordBody::Event(event) = &record.body {
                let names = event.rooms.iter().chain(&event.except).map(Recipient::name_len);
                let packets = event.message.packets().count();
                let bytes = event.message.packets().map(|packet| packet.body().len()).sum();
                let bound = event_bytes_max(&event.namespace, names, packets, bytes);
                prop_assert!(encoded(&record).len() <= bound);
            }
        }

        #[test]
        fn any_body_is_a_record_or_an_error(kind in 0u8..14, body: Vec<u8>) {
            let bytes = encoded(&every_kind()[0]);
            let _ = decode(&with_body(&bytes, &[&[kind, 0, 0, 0][..], &body].concat()));
            let _ = decode(&body);
        }
    }
}
