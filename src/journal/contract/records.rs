//! Records for tests: records of each kind, and a strategy that generates any record.

use proptest::collection::vec;
use proptest::prelude::*;
use smallvec::SmallVec;

use crate::ids::{Epoch, Fingerprint, Lsn, NamespacePath, PrivateId, QueueOffset, Recipient, RoomName, SocketId};
use crate::journal::{EventRecord, GiveUpReason, Record, RecordBody, RoomSpan, SessionRecord};
use crate::protocol::encoded::{EncodedFrame, Message};

pub(crate) fn record(lsn: u64, entry: RecordBody) -> Record {
    Record { lsn: Lsn(lsn), fingerprint: fingerprint(lsn), body: entry }
}

/// The fingerprint that the record at `lsn` has in all tests.
pub(crate) fn fingerprint(lsn: u64) -> Fingerprint {
    Fingerprint::new(lsn as u32 ^ 0x00a5_a5a5)
}

/// An event of about `bytes` bytes.
pub(crate) fn event(lsn: u64, bytes: usize) -> Record {
    let message = Message::from(EncodedFrame::text(&format!(r#"42["e","{}"]"#, "x".repeat(bytes))));
    record(lsn, RecordBody::Event(addressed(&["lobby"], message).into()))
}

fn addressed(rooms: &[&str], message: Message) -> EventRecord {
    let rooms = rooms.iter().map(|name| room(name).into()).collect();
    EventRecord {
        namespace: NamespacePath::root(),
        rooms,
        except: SmallVec::new(),
        exclude: None,
        stored: None,
        message,
    }
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

fn socket(n: u8) -> SocketId {
    SocketId::from_random([n; 15])
}

fn chat() -> NamespacePath {
    NamespacePath::parse("/chat").unwrap()
}

/// Records of every kind, with and without their optional fields.
pub(in crate::journal) fn every_kind() -> Vec<Record> {
    let head = EncodedFrame::text(r#"451-/chat,["up",{"_placeholder":true,"num":0}]"#);
    let message = Message::from_packets(head, vec![EncodedFrame::binary(&[7; 200])]).unwrap();
    let binary = EventRecord {
        namespace: chat(),
        except: [room("b").into(), socket(3).into()].into_iter().collect(),
        exclude: Some(socket(1)),
        ..addressed(&["a", "é"], message)
    };
    let stored = QueueOffset { epoch: Epoch::new(1, 2), number: Lsn::END - 1 };
    let durable = EventRecord { stored: Some(stored), ..addressed(&["a"], EncodedFrame::text(r#"42["e"]"#).into()) };
    let session = SessionRecord {
        pid: PrivateId::from_random([5; 15]),
        socket: socket(2),
        namespace: chat(),
        rooms: vec![
            RoomSpan { room: room("a"), joined: Lsn(1), left: None },
            RoomSpan { room: room("b"), joined: Lsn(2), left: Some(Lsn(Lsn::END - 1)) },
        ],
        data: Some(r#"{"name":"x"}"#.into()),
        connected: true,
        at_unix_ms: u64::MAX,
        position: Lsn(7),
        last_event: Lsn(9),
        last_ack_event: Lsn(8),
    };
    let bare = SessionRecord { rooms: Vec::new(), data: None, connected: false, ..session.clone() };
    let entries = [
        RecordBody::Event(addressed(&[], EncodedFrame::text(r#"42["e","----"]"#).into()).into()),
        RecordBody::Event(binary.into()),
        RecordBody::Event(durable.into()),
        RecordBody::Connect {
            pid: PrivateId::from_random([5; 15]),
            socket: socket(2),
            namespace: chat(),
            at_unix_ms: 1,
        },
        RecordBody::Join { socket: socket(2), room: room("lobby") },
        RecordBody::Leave { socket: socket(2), room: room("lobby") },
        RecordBody::Revoked { socket: socket(2), room: room("lobby") },
        RecordBody::Data { socket: socket(2), data: Some("[1]".into()) },
        RecordBody::Data { socket: socket(2), data: None },
        RecordBody::Disconnect { socket: socket(2), forever: true, at_unix_ms: 2 },
        RecordBody::Disconnect { socket: socket(2), forever: false, at_unix_ms: 0 },
        RecordBody::Session(session.into()),
        RecordBody::Session(bare.into()),
        RecordBody::Resumed { socket: socket(2), position: Lsn(3), at_unix_ms: 4 },
        RecordBody::ProcessEnded { at_unix_ms: 5 },
        RecordBody::GivenUp { socket: socket(2), why: GiveUpReason::TooLarge },
        RecordBody::GivenUp { socket: socket(2), why: GiveUpReason::NoRoom },
        RecordBody::Expired { until_unix_ms: 6 },
        RecordBody::Stored(QueueOffset { epoch: Epoch::new(1, 2), number: 7 }),
    ];
    (1..).zip(entries).map(|(lsn, entry)| record(lsn, entry)).collect()
}

pub(crate) fn any_entry() -> impl Strategy<Value = RecordBody> {
    let name = || "[a-zé]{1,40}".prop_map(|name| room(&name));
    let id = || any::<[u8; 15]>();
    let namespace = || prop_oneof![Just(NamespacePath::root()), Just(chat())];
    let lsn = || (0..Lsn::END).prop_map(Lsn);
    let data = || proptest::option::of(".{0,40}".prop_map(String::into_boxed_str));
    let span = (name(), lsn(), proptest::option::of(lsn()));
    let span = span.prop_map(|(room, joined, left)| RoomSpan { room, joined, left });
    let message = (".{0,300}", vec(vec(any::<u8>(), 0..300), 0..3)).prop_map(|(text, attachments)| {
        let kind = if attachments.is_empty() { "2".to_owned() } else { format!("5{}-", attachments.len()) };
        let head = EncodedFrame::text(&format!("4{kind}[\"e\",{text:?}]"));
        let attachments = attachments.iter().map(|data| EncodedFrame::binary(data));
        Message::from_packets(head, attachments.collect()).unwrap()
    });
    let rooms = || {
        vec(prop_oneof![name().prop_map(Recipient::from), id().prop_map(|id| SocketId::from_random(id).into())], 0..4)
    };
    let queue_offset = proptest::option::of((any::<u64>(), 0..Lsn::END))
        .prop_map(|stored| stored.map(|(epoch, number)| QueueOffset { epoch: Epoch::from_bits(epoch), number }));
    let event = (namespace(), rooms(), rooms(), proptest::option::of(id()), queue_offset, message);
    let event = event.prop_map(|(namespace, rooms, except, exclude, stored, message)| {
        let exclude = exclude.map(SocketId::from_random);
        EventRecord { namespace, rooms: rooms.into(), except: except.into(), exclude, stored, message }
    });
    let session =
        (id(), id(), namespace(), vec(span, 0..4), data(), any::<bool>(), any::<u64>(), [lsn(), lsn(), lsn()]);
    let session = session.prop_map(|(pid, socket, namespace, rooms, data, connected, at_unix_ms, positions)| {
        let (pid, socket, [position, last_event, last_ack_event]) =
            (PrivateId::from_random(pid), SocketId::from_random(socket), positions);
        SessionRecord {
            pid,
            socket,
            namespace,
            rooms,
            data,
            connected,
            at_unix_ms,
            position,
            last_event,
            last_ack_event,
        }
    });
    let socket = || id().prop_map(SocketId::from_random);
    prop_oneof![
        4 => event.prop_map(|event| RecordBody::Event(event.into())),
        1 => session.prop_map(|session| RecordBody::Session(session.into())),
        1 => (id(), socket(), namespace(), any::<u64>()).prop_map(|(pid, socket, namespace, at_unix_ms)| {
            RecordBody::Connect { pid: PrivateId::from_random(pid), socket, namespace, at_unix_ms }
        }),
        1 => (socket(), name()).prop_map(|(socket, room)| RecordBody::Join { socket, room }),
        1 => (socket(), name()).prop_map(|(socket, room)| RecordBody::Leave { socket, room }),
        1 => (socket(), name()).prop_map(|(socket, room)| RecordBody::Revoked { socket, room }),
        1 => (socket(), data()).prop_map(|(socket, data)| RecordBody::Data { socket, data }),
        1 => (socket(), any::<bool>(), any::<u64>())
            .prop_map(|(socket, forever, at_unix_ms)| RecordBody::Disconnect { socket, forever, at_unix_ms }),
        1 => (socket(), lsn(), any::<u64>())
            .prop_map(|(socket, position, at_unix_ms)| RecordBody::Resumed { socket, position, at_unix_ms }),
        1 => (any::<bool>(), any::<u64>()).prop_map(|(ended, unix_ms)| if ended { RecordBody::ProcessEnded { at_unix_ms: unix_ms } } else { RecordBody::Expired { until_unix_ms: unix_ms } }),
        1 => (socket(), any::<bool>()).prop_map(|(socket, no_room)| {
            RecordBody::GivenUp { socket, why: if no_room { GiveUpReason::NoRoom } else { GiveUpReason::TooLarge } }
        }),
    ]
}

pub(in crate::journal) fn any_record() -> impl Strategy<Value = Record> {
    (0..Lsn::END, any::<u32>(), any_entry()).prop_map(|(lsn, random, entry)| Record {
        lsn: Lsn(lsn),
        fingerprint: Fingerprint::new(random),
        body: entry,
    })
}
