//! Tests of sessions that are rewritten while the ring advances, given up, or forgotten.

use std::time::Duration;

use smallvec::SmallVec;

use super::*;
use crate::ids::{PrivateId, RoomName};
use crate::journal::EventRecord;
use crate::journal::contract::scratch::Scratch;
use crate::journal::file::{FileJournal, FileOptions};
use crate::journal::folder::BootId;
use crate::protocol::draft::Draft;
use crate::protocol::socketio::Parser;

fn limits(segments_max: usize, segment_bytes: usize) -> Limits {
    Limits::with(|limits| {
        limits.journal.segments_max = segments_max;
        limits.journal.segment_bytes = segment_bytes;
    })
}

fn open_at(scratch: &Scratch, limits: &Limits, clock: Clock) -> JournalWriter {
    let options = FileOptions::new(Epoch::new(1, 1), BootId::new(7), limits);
    let journal = FileJournal::open(&scratch.0, options).unwrap();
    JournalWriter::open_at(Box::new(journal), 7, limits, Arc::default(), clock).unwrap()
}

fn open(scratch: &Scratch, limits: &Limits) -> JournalWriter {
    open_at(scratch, limits, Clock::start())
}

fn id(n: u32) -> [u8; 15] {
    let mut bytes = [0; 15];
    bytes[..4].copy_from_slice(&n.to_le_bytes());
    bytes
}

fn socket(n: u32) -> SocketId {
    SocketId::from_random(id(n))
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

impl JournalWriter {
    fn write(&mut self, entry: RecordBody) {
        let offset = self.next_offset();
        assert!(self.journal(offset, entry));
    }

    fn connect(&mut self, n: u32) {
        let (pid, at_unix_ms) = (PrivateId::from_random(id(n)), self.now_unix_ms());
        self.write(RecordBody::Connect { pid, socket: socket(n), namespace: NamespacePath::root(), at_unix_ms });
    }

    fn join(&mut self, n: u32, name: &str) {
        self.write(RecordBody::Join { socket: socket(n), room: room(name) });
    }

    fn set_data(&mut self, n: u32, value: u32) {
        self.write(RecordBody::Data { socket: socket(n), data: Some(format!("{value:08}").into()) });
    }

    fn disconnect(&mut self, n: u32) {
        let at_unix_ms = self.now_unix_ms();
        self.write(RecordBody::Disconnect { socket: socket(n), forever: false, at_unix_ms });
    }

    fn emit(&mut self, bytes: usize) {
        let body = format!("\"{}\"", "x".repeat(bytes));
        let draft = Draft::event(Parser::Json, NamespacePath::root(), "e", &body, Vec::new(), false);
        let event = EventRecord {
            namespace: NamespacePath::root(),
            rooms: SmallVec::from_elem(room("a").into(), 1),
            except: SmallVec::new(),
            exclude: None,
            stored: None,
            message: draft.seal(None, None),
        };
        self.write(RecordBody::Event(event.into()));
    }

    fn resume_result(&self, n: u32) -> Result<(), NotRecovered> {
        let claim = ResumeAttempt { pid: PrivateId::from_random(id(n)), offset: None };
        match self.check_resume(claim, &NamespacePath::root()) {
            // In both cases, the session is known.
            Ok(_) | Err(NotRecovered::NothingToRecover) => Ok(()),
            Err(why) => Err(why),
        }
    }
}

#[test]
fn many_sessions_are_rewritten_while_the_ring_advances() {
    // In an earlier version, rewriting was recursive, and the thread ran out of stack.
    let (scratch, limits) = (Scratch::new(), limits(4, 4 << 20));
    let mut writer = open(&scratch, &limits);
    (0..20_000).for_each(|n| writer.connect(n));
    for turn in 0..20_000 {
        writer.emit(1_000);
        if turn % 32 == 0 {
            writer.flush();
        }
    }
    drop(writer);
    assert_eq!(open(&scratch, &limits).sessions(), 20_000);
}

#[test]
fn a_full_population_survives_every_turn_of_the_ring() {
    for (segments_max, segment_bytes, event_bytes) in [(4, 64 << 10, 100), (8, 64 << 10, 3_000), (3, 128 << 10, 20)] {
        let (scratch, limits) = (Scratch::new(), limits(segments_max, segment_bytes));
        let mut writer = open(&scratch, &limits);
        let (_, bytes_max) = writer.session_bytes();
        assert_eq!(bytes_max, (segments_max - 1) * segment_bytes / 4);
        let mut count = 0;
        while writer.session_bytes().0 + 700 < bytes_max {
            writer.connect(count);
            // The sessions have up to seven rooms each.
            (0..count % 8).for_each(|n| writer.join(count, &format!("room {n}")));
            writer.set_data(count, count);
            count += 1;
        }
        for turn in 0..4 {
            let (begin, mut appended) = (writer.journal.used_bytes(), 0);
            while writer.journal.used_bytes() - begin < (segments_max * segment_bytes) as u64 {
                let before = writer.last_lsn;
                writer.emit(event_bytes);
                appended += 21 + event_bytes as u64;
                writer.set_data((before.0 as u32).wrapping_mul(2_654_435_761) % count, before.0 as u32);
                appended += 21 + 32;
                writer.flush();
            }
            let written = writer.journal.used_bytes() - begin;
            assert!(written <= 5 * appended, "{written} bytes for {appended} in turn {turn}");
            // Copy the folder in the state in which a killed process would leave it.
            let left = Scratch::new();
            std::fs::create_dir(&left.0).unwrap();
            for file in std::fs::read_dir(&scratch.0).unwrap().map(Result::unwrap) {
                std::fs::copy(file.path(), left.0.join(file.file_name())).unwrap();
            }
            let next = open(&left, &limits);
            assert_eq!(next.sessions(), count as usize, "of {segments_max} x {segment_bytes} in turn {turn}");
        }
        assert_eq!(writer.metrics.hub.given_up.get(), 0);
    }
}

#[test]
fn one_record_rewrites_at_most_three_times_its_bytes() {
    // In an earlier version, one record led to the rewriting of 256 sessions of up to 17 MB each,
    // and the hub stalled for minutes.
    let (scratch, limits) = (Scratch::new(), limits(8, 64 << 10));
    let mut writer = open(&scratch, &limits);
    // All sessions become due together.
    (0..60).for_each(|n| writer.connect(n));
    for n in 0..60 {
        (0..20).for_each(|at| writer.join(n, &format!("room {at}")));
    }
    for _ in 0..10_000 {
        let before = writer.journal.used_bytes();
        writer.emit(50);
        let used = writer.journal.used_bytes() - before;
        // A session is rewritten as a whole, once the credit covers all of its bytes.
        assert!(used < 4 * 130 + 3_000, "{used} bytes");
        writer.flush();
    }
}

#[test]
fn a_start_writes_one_record_however_many_sessions_there_are() {
    let (scratch, limits) = (Scratch::new(), limits(4, 64 << 10));
    let mut writer = open(&scratch, &limits);
    (0..200).for_each(|n| writer.connect(n));
    (0..400).for_each(|_| writer.emit(1_000));
    writer.flush();
    let records = writer.metrics.hub.journalled.get();
    assert!(records > 600);
    drop(writer);
    let writer = open(&scratch, &limits);
    assert_eq!((writer.sessions(), writer.metrics.hub.journalled.get()), (200, 1));
    drop(writer);
    let writer = open(&scratch, &limits);
    assert_eq!(writer.metrics.hub.journalled.get(), 0, "their connections ended in the previous start");
}

#[test]
fn the_largest_are_given_up_first_then_disconnected_then_newest() {
    let (scratch, limits) = (Scratch::new(), limits(4, 16 << 10));
    let mut writer = open(&scratch, &limits);
    let (_, bytes_max) = writer.session_bytes();
    (0..10).for_each(|n| writer.connect(n));
    (0..16).for_each(|at| writer.join(3, &format!("room {at}")));
    for (n, at_unix_ms) in [(5, 1), (4, 2), (2, 3)] {
        let at_unix_ms = writer.now_unix_ms() + at_unix_ms;
        writer.write(RecordBody::Disconnect { socket: socket(n), forever: false, at_unix_ms });
    }
    assert_eq!((writer.resume_result(3), writer.resume_result(5)), (Ok(()), Ok(())));
    let mut count = 10;
    while writer.resume_result(3).is_ok() {
        writer.connect(count);
        count += 1;
    }
    assert_eq!(writer.resume_result(3), Err(NotRecovered::GivenUp));
    assert!(writer.session_bytes().0 <= bytes_max && writer.resume_result(5).is_ok());
    while writer.resume_result(5).is_ok() {
        writer.connect(count);
        count += 1;
    }
    assert_eq!((writer.resume_result(5), writer.resume_result(2)), (Err(NotRecovered::GivenUp), Ok(())));
    while writer.resume_result(count - 1).is_ok() {
        writer.connect(count);
        count += 1;
    }
    assert_eq!(writer.resume_result(count - 1), Err(NotRecovered::GivenUp), "no session is disconnected");
    assert!((6..10).all(|n| writer.resume_result(n).is_ok()), "older connected sessions remain");
    writer.flush();
    // The next start must restore the same state.
    drop(writer);
    let writer = open(&scratch, &limits);
    assert_eq!(writer.resume_result(count - 1), Err(NotRecovered::GivenUp));
    assert_eq!(writer.resume_result(7), Ok(()));
}

#[test]
fn a_session_that_is_too_large_is_not_recovered() {
    let (scratch, limits) = (Scratch::new(), limits(4, 64 << 10));
    let mut limits = limits;
    limits.recovery.session_bytes_max = 600;
    let mut writer = open(&scratch, &limits);
    writer.connect(1);
    (0..7).for_each(|at| writer.join(1, &at.to_string()));
    assert_eq!(writer.resume_result(1), Ok(()));
    writer.join(1, "one more");
    assert_eq!(writer.resume_result(1), Ok(()), "its bytes are still within the bound");
    writer.write(RecordBody::Data { socket: socket(1), data: Some("7".repeat(500).into()) });
    assert_eq!(writer.resume_result(1), Err(NotRecovered::TooManyIntervals));
}

#[test]
fn a_forgotten_session_stays_forgotten_when_the_clock_is_set_back() {
    // Events for the session's rooms are no longer journalled, so the session must not become
    // recoverable again.
    let (scratch, limits) = (Scratch::new(), limits(4, 64 << 10));
    let mut limits = limits;
    limits.recovery.window = Duration::ZERO;
    let mut writer = open(&scratch, &limits);
    writer.connect(1);
    writer.disconnect(1);
    while writer.sessions() > 0 {
        writer.flush();
    }
    drop(writer);
    let writer = open_at(&scratch, &limits, Clock::shifted(-3_600_000));
    assert_eq!(writer.sessions(), 0);
}

#[test]
fn a_clock_that_was_ahead_extends_no_window() {
    let (scratch, limits) = (Scratch::new(), limits(4, 64 << 10));
    let mut limits = limits;
    limits.recovery.window = Duration::from_millis(1);
    let mut writer = open_at(&scratch, &limits, Clock::shifted(3_600_000));
    writer.connect(1);
    writer.disconnect(1);
    writer.flush();
    let mut left = 1;
    drop(writer);
    let mut writer = open(&scratch, &limits);
    while left > 0 {
        writer.flush();
        left = writer.sessions();
    }
}

#[test]
fn the_position_in_the_queue_survives_the_ring_and_a_discarded_journal() {
    // In an earlier version, plain events made the ring drop it, and a queue that was restored from
    // a copy used numbers again.
    let (scratch, limits) = (Scratch::new(), limits(4, 64 << 10));
    let mut writer = open(&scratch, &limits);
    let stored = QueueOffset { epoch: Epoch::new(7, 7), number: 9 };
    writer.write(RecordBody::Stored(stored));
    for _ in 0..1_000 {
        writer.emit(1_000);
        writer.flush();
    }
    drop(writer);
    let mut writer = open(&scratch, &limits);
    assert_eq!(writer.newest_stored(), Some(stored));
    // Several segments may follow the one that says it.
    (0..90).for_each(|_| writer.emit(1_000));
    drop(writer);
    std::fs::write(scratch.0.join("journal.header"), "damaged").unwrap();
    let options = FileOptions::new(Epoch::new(2, 2), BootId::new(7), &limits);
    let journal = FileJournal::open(&scratch.0, options).unwrap();
    assert_eq!(journal.discarded_stored(), Some(stored));
    let mut writer = JournalWriter::open(Box::new(journal), 7, &limits, Arc::default()).unwrap();
    writer.carry_stored(stored);
    drop(writer);
    assert_eq!(open(&scratch, &limits).newest_stored(), Some(stored));
}
