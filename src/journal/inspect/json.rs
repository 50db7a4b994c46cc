//! Records of a journal as JSON. Names are shown in full. Private ids of sessions are shortened.

use serde::{Serialize, Serializer};

use crate::ids::{Epoch, Lsn, Offset};
use crate::journal::{EventRecord, GiveUpReason, Record, RecordBody, RoomSpan, SessionRecord};
use crate::protocol::encoded::EncodedFrame;

/// A record of a journal. Serializes as one object with `lsn`, `offset` (the token that clients
/// receive), `kind`, and the fields of this kind of record. The object contains payloads of
/// clients. Private ids are shortened.
#[derive(Debug)]
pub struct InspectedRecord {
    pub(super) epoch: Epoch,
    pub(super) record: Record,
}

impl InspectedRecord {
    /// The position of the record.
    pub fn lsn(&self) -> Lsn {
        self.record.lsn
    }

    /// The kind of the record, such as `event` or `join`.
    pub fn kind(&self) -> &'static str {
        kind(&self.record.body)
    }
}

impl Serialize for InspectedRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Record { lsn, fingerprint, ref body } = self.record;
        let offset = Offset { epoch: self.epoch, lsn, fingerprint };
        Line { lsn: lsn.0, offset: offset.to_string(), kind: kind(body), fields: fields(body) }.serialize(serializer)
    }
}

pub(super) const KINDS: [&str; 12] = [
    "event",
    "connect",
    "join",
    "leave",
    "revoked",
    "data",
    "disconnect",
    "session",
    "resumed",
    "process_ended",
    "given_up",
    "expired",
];

pub(super) fn kind(body: &RecordBody) -> &'static str {
    match body {
        RecordBody::Event(_) => "event",
        RecordBody::Connect { .. } => "connect",
        RecordBody::Join { .. } => "join",
        RecordBody::Leave { .. } => "leave",
        RecordBody::Revoked { .. } => "revoked",
        RecordBody::Data { .. } => "data",
        RecordBody::Disconnect { .. } => "disconnect",
        RecordBody::Session(_) => "session",
        RecordBody::Resumed { .. } => "resumed",
        RecordBody::ProcessEnded { .. } => "process_ended",
        RecordBody::GivenUp { .. } => "given_up",
        RecordBody::Expired { .. } => "expired",
        RecordBody::Stored(_) => "stored",
    }
}

#[derive(Serialize)]
struct Line<'a> {
    lsn: u64,
    offset: String,
    kind: &'static str,
    #[serde(flatten)]
    fields: Fields<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Fields<'a> {
    Event {
        namespace: &'a str,
        rooms: Vec<String>,
        except: Vec<String>,
        exclude: Option<String>,
        /// Position in the queue of a durable event.
        #[serde(skip_serializing_if = "Option::is_none")]
        queue_offset: Option<String>,
        packets: Vec<Packet<'a>>,
    },
    Connect {
        pid: String,
        socket: String,
        namespace: &'a str,
        at_unix_ms: u64,
    },
    Room {
        socket: String,
        room: &'a str,
    },
    Data {
        socket: String,
        data: Option<&'a str>,
    },
    Disconnect {
        socket: String,
        forever: bool,
        at_unix_ms: u64,
    },
    Resumed {
        socket: String,
        position: u64,
        at_unix_ms: u64,
    },
    ProcessEnded {
        at_unix_ms: u64,
    },
    GivenUp {
        socket: String,
        reason: &'static str,
    },
    Expired {
        until_unix_ms: u64,
    },
    Stored {
        queue_offset: String,
    },
    Session {
        pid: String,
        socket: String,
        namespace: &'a str,
        rooms: Vec<Span<'a>>,
        data: Option<&'a str>,
        connected: bool,
        at_unix_ms: u64,
        position: u64,
    },
}

#[derive(Serialize)]
struct Span<'a> {
    room: &'a str,
    joined: u64,
    left: Option<u64>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Packet<'a> {
    Text(&'a str),
    Binary { binary_bytes: usize },
}

fn fields(body: &RecordBody) -> Fields<'_> {
    match body {
        RecordBody::Event(event) => {
            let EventRecord { namespace, rooms, except, exclude, stored, message } = &**event;
            Fields::Event {
                namespace: namespace.as_str(),
                rooms: rooms.iter().map(ToString::to_string).collect(),
                except: except.iter().map(ToString::to_string).collect(),
                exclude: exclude.map(|socket| socket.to_string()),
                queue_offset: stored.map(|stored| stored.to_string()),
                packets: message.packets().map(packet).collect(),
            }
        }
        // The private id is shortened, because anyone who knows it can resume the session.
        RecordBody::Connect { pid, socket, namespace, at_unix_ms } => Fields::Connect {
            pid: format!("{pid:?}"),
            socket: socket.to_string(),
            namespace: namespace.as_str(),
            at_unix_ms: *at_unix_ms,
        },
        RecordBody::Join { socket, room }
        | RecordBody::Leave { socket, room }
        | RecordBody::Revoked { socket, room } => Fields::Room { socket: socket.to_string(), room: room.as_str() },
        RecordBody::Data { socket, data } => Fields::Data { socket: socket.to_string(), data: data.as_deref() },
        RecordBody::Disconnect { socket, forever, at_unix_ms } => {
            Fields::Disconnect { socket: socket.to_string(), forever: *forever, at_unix_ms: *at_unix_ms }
        }
        RecordBody::Session(session) => session_fields(session),
        RecordBody::Resumed { socket, position, at_unix_ms } => {
            Fields::Resumed { socket: socket.to_string(), position: position.0, at_unix_ms: *at_unix_ms }
        }
        RecordBody::ProcessEnded { at_unix_ms } => Fields::ProcessEnded { at_unix_ms: *at_unix_ms },
        RecordBody::GivenUp { socket, why } => Fields::GivenUp {
            socket: socket.to_string(),
            reason: match why {
                GiveUpReason::TooLarge => "too_large",
                GiveUpReason::NoRoom => "no_room",
            },
        },
        RecordBody::Expired { until_unix_ms } => Fields::Expired { until_unix_ms: *until_unix_ms },
        RecordBody::Stored(stored) => Fields::Stored { queue_offset: stored.to_string() },
    }
}

fn session_fields(session: &SessionRecord) -> Fields<'_> {
    let rooms = session.rooms.iter().map(|RoomSpan { room, joined, left }| Span {
        room: room.as_str(),
        joined: joined.0,
        left: left.map(|left| left.0),
    });
    Fields::Session {
        pid: format!("{:?}", session.pid),
        socket: session.socket.to_string(),
        namespace: session.namespace.as_str(),
        rooms: rooms.collect(),
        data: session.data.as_deref(),
        connected: session.connected,
        at_unix_ms: session.at_unix_ms,
        position: session.position.0,
    }
}

fn packet(packet: &EncodedFrame) -> Packet<'_> {
    match std::str::from_utf8(packet.body()) {
        Ok(text) if !packet.is_binary() => Packet::Text(text),
        _ => Packet::Binary { binary_bytes: packet.body().len() },
    }
}
