//! The row of an event: its values, its checksum, and what a damaged one is.

use std::borrow::Cow;

use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, Row};

use super::read::room_name;
use super::{from_sql, to_sql};
use crate::ids::RoomName;
use crate::queue::record::{DeadLetter, DurableEvent, Payload, UnixMillis};

/// A stored event, read and checked.
pub(super) enum Stored {
    Event(Box<StoredEvent>),
    Missing,
    Damaged(String),
}

pub(super) struct StoredEvent {
    pub(super) rooms: Vec<i64>,
    pub(super) at: UnixMillis,
    pub(super) expires_at: Option<UnixMillis>,
    pub(super) replay_of: Option<u64>,
    pub(super) via: Option<String>,
    pub(super) origin: Bytes,
    pub(super) payload: Payload,
}

impl StoredEvent {
    pub(super) fn into_event(self, number: u64, room: RoomName) -> DurableEvent {
        let room = self.via.and_then(|via| RoomName::parse(&via).ok()).unwrap_or(room);
        DurableEvent {
            number,
            room,
            published_at: self.at,
            expires_at: self.expires_at,
            origin: self.origin,
            payload: self.payload,
            replay_of: self.replay_of,
            attempts: 0,
            alone: false,
            retry_at: None,
        }
    }
}

/// Reads an event. A row on damaged pages, or whose values have other types than they were written
/// with, is damaged too.
pub(super) fn load_event(connection: &Connection, number: u64) -> rusqlite::Result<Stored> {
    let sql =
        "SELECT rooms, at, expires_at, replay_of, via, crc, origin, attachments, payload FROM event WHERE number = ?";
    let mut select = connection.prepare_cached(sql)?;
    let mut rows = select.query([to_sql(number)])?;
    let row = match rows.next() {
        Ok(Some(row)) => row,
        Ok(None) => return Ok(Stored::Missing),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
            return Ok(Stored::Damaged(error.to_string()));
        }
        Err(error) => return Err(error),
    };
    Ok(check_event(row, number).unwrap_or_else(|error| Stored::Damaged(error.to_string())))
}

/// Reads the rooms of an event without its payload. `None` if the row is missing or damaged.
pub(super) fn load_rooms(connection: &Connection, number: u64) -> rusqlite::Result<Option<Vec<i64>>> {
    let mut select = connection.prepare_cached("SELECT rooms FROM event WHERE number = ?")?;
    let mut rows = select.query([to_sql(number)])?;
    match rows.next() {
        Ok(row) => {
            let blob = row.and_then(|row| row.get_ref(0).ok()?.as_blob().ok());
            Ok(blob.and_then(|blob| decode_rooms(number, blob)))
        }
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => Ok(None),
        Err(error) => Err(error),
    }
}

fn check_event(row: &Row<'_>, number: u64) -> rusqlite::Result<Stored> {
    let (rooms, origin, payload) = (row.get_ref(0)?.as_blob()?, row.get_ref(6)?.as_blob()?, row.get_ref(8)?.as_blob()?);
    let checked = Checked {
        number,
        rooms,
        at: UnixMillis(from_sql(row.get(1)?)),
        expires_at: row.get::<_, Option<i64>>(2)?.map(|at| UnixMillis(from_sql(at))),
        replay_of: row.get::<_, Option<i64>>(3)?.map(from_sql),
        via: row.get_ref(4)?.as_str_or_null()?,
        origin,
        attachments: row.get(7)?,
        payload,
    };
    let (stored, found) = (row.get::<_, u32>(5)?, checked.crc());
    if stored != found {
        return Ok(Stored::Damaged(format!("checksum is {found:#010x}, expected {stored:#010x}")));
    }
    let (Some(content), Some(rooms)) = (decode_payload(checked.attachments, payload), decode_rooms(number, rooms))
    else {
        return Ok(Stored::Damaged("payload or rooms end early".to_owned()));
    };
    Ok(Stored::Event(Box::new(StoredEvent {
        rooms,
        at: checked.at,
        expires_at: checked.expires_at,
        replay_of: checked.replay_of,
        via: checked.via.map(str::to_owned),
        origin: Bytes::copy_from_slice(origin),
        payload: content,
    })))
}

/// Values that the checksum of an event covers.
pub(super) struct Checked<'a> {
    pub(super) number: u64,
    pub(super) rooms: &'a [u8],
    pub(super) at: UnixMillis,
    pub(super) expires_at: Option<UnixMillis>,
    pub(super) replay_of: Option<u64>,
    pub(super) via: Option<&'a str>,
    pub(super) origin: &'a [u8],
    pub(super) attachments: u32,
    pub(super) payload: &'a [u8],
}

impl Checked<'_> {
    pub(super) fn crc(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        let optional = |number: Option<u64>| number.map_or(u64::MAX, |number| number);
        let numbers = [self.number, self.at.0, optional(self.expires_at.map(|at| at.0)), optional(self.replay_of)];
        for number in numbers.into_iter().chain([u64::from(self.attachments), self.payload.len() as u64]) {
            hasher.update(&number.to_le_bytes());
        }
        for part in [self.rooms, self.via.unwrap_or_default().as_bytes(), self.origin, self.payload] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.finalize()
    }
}

/// Columns of a dead letter, as [`read_dead_letter`] expects them.
pub(super) const DEAD_LETTER: &str =
    "number, room, at, origin, attachments, payload, attempts, reason, dead_at, crc FROM dead_letter";

/// The checksum of a dead letter covers the same values as that of an event, and a few others in
/// place of those that it does not have.
pub(super) fn dead_letter_crc(dead: &DeadLetter, attachments: u32, payload: &[u8]) -> u32 {
    Checked {
        number: dead.number,
        rooms: dead.reason.as_bytes(),
        at: dead.published_at,
        expires_at: Some(dead.dead_at),
        replay_of: Some(u64::from(dead.attempts)),
        via: Some(dead.room.as_str()),
        origin: &dead.origin,
        attachments,
        payload,
    }
    .crc()
}

/// Reads a dead letter, or what is damaged in it.
pub(super) fn read_dead_letter(row: &Row<'_>) -> rusqlite::Result<(u64, Result<DeadLetter, String>)> {
    let number = from_sql(row.get(0)?);
    Ok((number, check_dead_letter(row, number).unwrap_or_else(|error| Err(error.to_string()))))
}

fn check_dead_letter(row: &Row<'_>, number: u64) -> rusqlite::Result<Result<DeadLetter, String>> {
    let (attachments, payload) = (row.get(4)?, row.get_ref(5)?.as_blob()?);
    let Some(content) = decode_payload(attachments, payload) else { return Ok(Err("payload ends early".to_owned())) };
    let dead = DeadLetter {
        number,
        room: room_name(row.get_ref(1)?.as_str()?)?,
        published_at: UnixMillis(from_sql(row.get(2)?)),
        origin: Bytes::copy_from_slice(row.get_ref(3)?.as_blob()?),
        payload: content,
        attempts: row.get(6)?,
        reason: row.get(7)?,
        dead_at: UnixMillis(from_sql(row.get(8)?)),
    };
    let (stored, found) = (row.get::<_, u32>(9)?, dead_letter_crc(&dead, attachments, payload));
    Ok(if stored == found { Ok(dead) } else { Err(format!("checksum is {found:#010x}, expected {stored:#010x}")) })
}

/// A payload as one blob: the lengths of its attachments, the attachments, the text.
pub(super) fn encode_payload(payload: &Payload) -> (u32, Cow<'_, [u8]>) {
    if payload.attachments.is_empty() {
        return (0, Cow::Borrowed(&payload.text));
    }
    let mut blob = Vec::with_capacity(payload.bytes() + 4 * payload.attachments.len());
    for attachment in &payload.attachments {
        blob.extend_from_slice(&(attachment.len() as u32).to_le_bytes());
    }
    for part in payload.attachments.iter().chain([&payload.text]) {
        blob.extend_from_slice(part);
    }
    (payload.attachments.len() as u32, Cow::Owned(blob))
}

/// The payload in a blob, unless the blob is too short.
pub(super) fn decode_payload(attachments: u32, blob: &[u8]) -> Option<Payload> {
    let (lengths, rest) = blob.split_at_checked(attachments as usize * 4)?;
    let mut rest = Bytes::copy_from_slice(rest);
    let mut parts = Vec::with_capacity(attachments as usize);
    for length in lengths.as_chunks::<4>().0 {
        let length = u32::from_le_bytes(*length) as usize;
        if length > rest.len() {
            return None;
        }
        parts.push(rest.split_to(length));
    }
    Some(Payload { text: rest, attachments: parts })
}

/// The rooms of an event as a blob that ends with a checksum of its own: the rooms are read without
/// the payload.
pub(super) fn encode_rooms(number: u64, rooms: &[i64]) -> Vec<u8> {
    let mut blob: Vec<u8> = rooms.iter().flat_map(|room| room.to_le_bytes()).collect();
    blob.extend_from_slice(&rooms_crc(number, &blob).to_le_bytes());
    blob
}

/// The rooms in a blob, unless it is damaged.
pub(super) fn decode_rooms(number: u64, blob: &[u8]) -> Option<Vec<i64>> {
    let (rooms, crc) = blob.split_last_chunk::<4>()?;
    if u32::from_le_bytes(*crc) != rooms_crc(number, rooms) {
        return None;
    }
    Some(rooms.as_chunks::<8>().0.iter().map(|room| i64::from_le_bytes(*room)).collect())
}

fn rooms_crc(number: u64, rooms: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(rooms);
    hasher.finalize()
}
