//! Inspection of closed, open, damaged and growing journals.

use super::*;
use crate::ids::{Fingerprint, NamespacePath, Offset, PrivateId, RoomName, SocketId};
use crate::journal::contract::scratch::Scratch;
use crate::journal::file::{FileJournal, FileOptions};
use crate::journal::folder::BootId;
use crate::journal::{EventRecord, Journal, RoomSpan, SessionRecord};
use crate::limits::Limits;
use crate::protocol::encoded::{EncodedFrame, Message};

fn journal(scratch: &Scratch) -> FileJournal {
    let options = FileOptions::new(Epoch::new(1, 1), BootId::new(1), &Limits::default());
    let mut journal = FileJournal::open(&scratch.0, options).unwrap();
    let (pid, socket) = (PrivateId::from_random([9; 15]), SocketId::from_random([1; 15]));
    let (namespace, room) = (NamespacePath::root(), RoomName::parse("lobby").unwrap());
    let message = Message::from(EncodedFrame::text(r#"42["message","hi"]"#));
    let rooms = [room.clone().into()].into_iter().collect();
    let other = SocketId::from_random([2; 15]);
    let event = EventRecord {
        namespace: namespace.clone(),
        rooms,
        except: [].into_iter().collect(),
        exclude: Some(socket),
        stored: None,
        message,
    };
    let session = SessionRecord {
        pid,
        socket,
        namespace: namespace.clone(),
        rooms: vec![RoomSpan { room: room.clone(), joined: Lsn(2), left: None }],
        data: Some("7".into()),
        connected: false,
        at_unix_ms: 5,
        position: Lsn(3),
        last_event: Lsn(3),
        last_ack_event: Lsn(0),
    };
    let entries = [
        RecordBody::Connect { pid, socket, namespace: namespace.clone(), at_unix_ms: 4 },
        RecordBody::Join { socket, room },
        RecordBody::Event(event.into()),
        RecordBody::Connect { pid, socket: other, namespace, at_unix_ms: 4 },
        RecordBody::Disconnect { socket: other, forever: true, at_unix_ms: 4 },
        RecordBody::Session(session.into()),
    ];
    for (lsn, entry) in (1..).zip(entries) {
        journal.append(Record { lsn: Lsn(lsn), fingerprint: Fingerprint::new(0), body: entry }).unwrap();
    }
    journal.flush().unwrap();
    journal
}

fn dump(scratch: &Scratch) -> Vec<String> {
    let journal = Inspection::open(&scratch.0).unwrap();
    journal.records(Lsn(0)).map_while(Result::ok).map(|record| serde_json::to_string(&record).unwrap()).collect()
}

#[test]
fn a_record_is_one_json_object_while_the_server_runs() {
    let scratch = Scratch::new();
    let _journal = journal(&scratch);
    let lines = dump(&scratch);
    let token = |lsn: u64| Offset { epoch: Epoch::new(1, 1), lsn: Lsn(lsn), fingerprint: Fingerprint::new(0) };
    assert_eq!(lines.len(), 6);
    assert_eq!(
        lines[2],
        format!(
            r#"{{"lsn":3,"offset":"{}","kind":"event","namespace":"/","rooms":["lobby"],"except":[],"exclude":"{}","packets":["42[\"message\",\"hi\"]"]}}"#,
            token(3),
            SocketId::from_random([1; 15]),
        )
    );
    assert!(lines[0].contains(r#""pid":"CQkJCQ…""#), "{}", lines[0]);
    assert!(!lines.concat().contains(&PrivateId::from_random([9; 15]).to_string()), "private ids are secret");
    assert!(lines[5].contains(r#""rooms":[{"room":"lobby","joined":2,"left":null}],"data":"7""#), "{}", lines[5]);
}

#[test]
fn a_partly_written_record_is_not_shown() {
    let scratch = Scratch::new();
    let _journal = journal(&scratch);
    let path = scratch.0.join("segment-0000000001");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(dump(&scratch).len(), 5);
    let stats = Inspection::open(&scratch.0).unwrap().stats();
    assert!(stats.newest == Lsn(5) && stats.damage.is_none(), "{stats:?}");
}

#[test]
fn records_after_a_position_are_read() {
    let scratch = Scratch::new();
    drop(journal(&scratch));
    let journal = Inspection::open(&scratch.0).unwrap();
    let after = journal.records(Lsn(4)).map(|record| record.map(|record| (record.lsn(), record.kind())).unwrap());
    assert_eq!(after.collect::<Vec<_>>(), [(Lsn(5), "disconnect"), (Lsn(6), "session")]);
}

#[test]
fn stats_count_records_and_sessions() {
    let scratch = Scratch::new();
    let open = journal(&scratch);
    let stats = Inspection::open(&scratch.0).unwrap().stats();
    assert_eq!((stats.trimmed_to, stats.newest, stats.segments), (Lsn(0), Lsn(6), 1));
    let count = |kind| stats.records.iter().find(|(known, _)| *known == kind).map(|(_, count)| *count);
    assert_eq!(["connect", "event", "disconnect", "leave"].map(count), [Some(2), Some(1), Some(1), Some(0)]);
    assert_eq!(stats.records.iter().map(|(_, count)| count).sum::<u64>(), 6);
    assert_eq!((stats.sessions, stats.connected), (1, 0));
    assert!(stats.state.starts_with("open"), "{stats:?}");
    drop(open);
    assert_eq!(Inspection::open(&scratch.0).unwrap().stats().state, "closed");
}

#[test]
fn damage_is_an_error_after_the_readable_records() {
    let scratch = Scratch::new();
    let absent = Inspection::open(&scratch.0).unwrap_err().to_string();
    assert!(absent.ends_with(": there is no journal in it"), "{absent}");
    drop(journal(&scratch));
    let path = scratch.0.join("segment-0000000001");
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len() - 1;
    bytes[end] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let journal = Inspection::open(&scratch.0).unwrap();
    let records: Vec<_> = journal.records(Lsn(0)).collect();
    assert_eq!(records.iter().filter(|record| record.is_ok()).count(), 5);
    let error = records.last().unwrap().as_ref().unwrap_err().to_string();
    assert!(records.len() == 6 && error.contains("is damaged at byte"), "{error}");
    assert!(error.contains("segment-0000000001"), "{error}");
    let stats = journal.stats();
    assert!(stats.newest == Lsn(5) && stats.damage.is_some(), "{stats:?}");
}

#[test]
fn segments_that_the_ring_reuses_are_skipped() {
    let scratch = Scratch::new();
    let limits = Limits::with(|limits| {
        limits.journal.segments_max = 2;
        limits.journal.segment_bytes = 1 << 20;
    });
    let options = FileOptions::new(Epoch::new(1, 1), BootId::new(1), &limits);
    let mut journal = FileJournal::open(&scratch.0, options).unwrap();
    let socket = SocketId::from_random([1; 15]);
    let mut append = |lsn: u64| {
        let body = RecordBody::Data { socket, data: Some("7".repeat(50_000 + 13 * lsn as usize).into()) };
        journal.append(Record { lsn: Lsn(lsn), fingerprint: Fingerprint::new(0), body }).unwrap();
        journal.flush().unwrap();
    };
    (1..40).for_each(&mut append);
    let inspection = Inspection::open(&scratch.0).unwrap();
    let mut records = inspection.read(Lsn(0));
    let first = records.next().unwrap().unwrap().lsn;
    // Appending these records reuses every file, with other records at other offsets.
    (40..200).for_each(append);
    let read: Vec<_> = records.map(|record| record.unwrap().lsn).collect();
    assert!(read.is_sorted() && read.iter().all(|lsn| *lsn > first), "{read:?}");
}
