//! Tests of resume checks and missed events.

mod bounds;

use super::*;
use crate::ids::{Epoch, Fingerprint, Offset, Recipient};
use crate::protocol::encoded::{EncodedFrame, Message};

const EPOCH: Epoch = Epoch::new(1, 1);
const BOUNDS: RecoveryBounds = RecoveryBounds {
    window: Duration::from_secs(120),
    sessions_max: 3,
    bytes_max: usize::MAX,
    session_bytes_max: usize::MAX,
    intervals_max: 4,
};
const PLAIN: &str = r#"42["e","token"]"#;

fn pid(n: u8) -> PrivateId {
    PrivateId::from_random([n; 15])
}

fn socket(n: u8) -> SocketId {
    SocketId::from_random([n; 15])
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

fn event(rooms: &[&str], text: &str) -> EventRecord {
    EventRecord {
        namespace: NamespacePath::root(),
        rooms: rooms.iter().map(|name| room(name).into()).collect(),
        except: [].into_iter().collect(),
        exclude: None,
        stored: None,
        message: EncodedFrame::text(text).into(),
    }
}

/// A hub that numbers records from 1 and stores all of them.
struct Hub {
    recovery: RecoveryIndex,
    records: Vec<Record>,
    trimmed_to: Lsn,
}

impl Hub {
    fn new() -> Self {
        Self { recovery: RecoveryIndex::new(BOUNDS), records: Vec::new(), trimmed_to: Lsn(0) }
    }

    fn head(&self) -> Lsn {
        Lsn(self.records.len() as u64)
    }

    fn apply(&mut self, entry: RecordBody) -> Lsn {
        let lsn = self.apply_only(entry);
        while let Some(entry) = self.recovery.next_to_give_up() {
            self.apply_only(entry);
        }
        lsn
    }

    fn apply_only(&mut self, entry: RecordBody) -> Lsn {
        let record = Record { lsn: self.head().next(), fingerprint: Fingerprint::new(0), body: entry };
        self.recovery.apply(&record);
        self.records.push(record);
        self.head()
    }

    fn at_risk(&mut self, at_risk: Lsn) -> Option<SessionRecord> {
        self.recovery.at_risk(at_risk, usize::MAX)
    }

    fn resume(&mut self, n: u8, position: Lsn) -> Lsn {
        self.apply(RecordBody::Resumed { socket: socket(n), position, at_unix_ms: 0 })
    }

    fn connected(&self) -> Vec<SocketId> {
        self.recovery.sessions.values().filter(|session| session.connected).map(|session| session.socket).collect()
    }

    fn connect(&mut self, n: u8) -> Lsn {
        self.apply(RecordBody::Connect {
            pid: pid(n),
            socket: socket(n),
            namespace: NamespacePath::root(),
            at_unix_ms: 0,
        })
    }

    fn join(&mut self, n: u8, name: &str) -> Lsn {
        self.apply(RecordBody::Join { socket: socket(n), room: room(name) })
    }

    fn leave(&mut self, n: u8, name: &str) -> Lsn {
        self.apply(RecordBody::Leave { socket: socket(n), room: room(name) })
    }

    fn emit(&mut self, rooms: &[&str]) -> Lsn {
        self.apply(RecordBody::Event(event(rooms, PLAIN).into()))
    }

    fn disconnect(&mut self, n: u8, at_unix_ms: u64) -> Lsn {
        self.apply(RecordBody::Disconnect { socket: socket(n), forever: false, at_unix_ms })
    }

    /// Sets the trimmed position to the newest record, as if all records were dropped.
    fn trim(&mut self) {
        self.trimmed_to = self.head();
        self.recovery.set_trimmed_to(self.trimmed_to);
    }

    fn journal_state(&self) -> JournalState {
        JournalState { epoch: EPOCH, head: self.head(), trimmed_to: self.trimmed_to, knows_offset: true }
    }

    fn check_resume(&self, n: u8, from: Option<Lsn>) -> Result<Resumable<'_>, NotRecovered> {
        let offset = from.map(|lsn| Offset { epoch: EPOCH, lsn, fingerprint: Fingerprint::new(0) });
        let query = ResumeQuery { pid: pid(n), namespace: &NamespacePath::root(), offset };
        self.recovery.check_resume(&query, &self.journal_state(), 0)
    }

    fn resume_error(&self, n: u8, from: Lsn) -> Option<NotRecovered> {
        self.check_resume(n, Some(from)).err()
    }

    fn missed_events(&self, n: u8, from: Lsn) -> Vec<u64> {
        let records = self.records.iter().filter(|record| record.lsn > from);
        let for_session = records.filter(|record| match &record.body {
            RecordBody::Event(event) => self
                .recovery
                .missed_events(&socket(n))
                .is_some_and(|for_session| for_session.includes(record.lsn, event)),
            _ => false,
        });
        for_session.map(|record| record.lsn.0).collect()
    }

    /// Simulates the start of a new process, which reads the records that were not dropped.
    fn restart(&mut self) {
        self.recovery = RecoveryIndex::new(BOUNDS);
        self.recovery.set_trimmed_to(self.trimmed_to);
        for record in self.records.iter().filter(|record| record.lsn > self.trimmed_to) {
            self.recovery.apply(record);
        }
    }
}

#[test]
fn a_session_without_events_is_resumed_from_its_connect() {
    let mut hub = Hub::new();
    let start = hub.connect(1);
    hub.join(1, "a");
    hub.apply(RecordBody::Data { socket: socket(1), data: Some("7".into()) });
    hub.disconnect(1, 0);
    let missed = hub.emit(&["a"]);
    let resumed = hub.check_resume(1, None).unwrap();
    assert_eq!((resumed.socket(), resumed.position), (socket(1), start));
    assert_eq!(resumed.rooms_now().cloned().collect::<Vec<_>>(), [room("a")]);
    assert_eq!(resumed.data(), Some("7"));
    assert_eq!(hub.missed_events(1, start), [missed.0]);
}

#[test]
fn missed_events_are_those_of_its_rooms_between_join_and_leave() {
    let mut hub = Hub::new();
    let start = hub.connect(1);
    hub.emit(&["a"]);
    hub.join(1, "a");
    let inside = hub.emit(&["a", "b"]);
    let own = hub.emit(&[&socket(1).to_string()]);
    hub.emit(&[&socket(2).to_string()]);
    let for_all = hub.emit(&[]);
    hub.apply(RecordBody::Event(
        EventRecord { except: [room("a").into()].into_iter().collect(), ..event(&[], PLAIN) }.into(),
    ));
    let except_own = [Recipient::Socket(socket(1))].into_iter().collect();
    hub.apply(RecordBody::Event(EventRecord { except: except_own, ..event(&["a"], PLAIN) }.into()));
    hub.apply(RecordBody::Event(EventRecord { exclude: Some(socket(1)), ..event(&["a"], PLAIN) }.into()));
    let chat = NamespacePath::parse("/chat").unwrap();
    hub.apply(RecordBody::Event(EventRecord { namespace: chat, ..event(&["a"], PLAIN) }.into()));
    hub.leave(1, "a");
    hub.emit(&["a"]);
    hub.join(1, "a");
    let again = hub.emit(&["a"]);
    assert_eq!(hub.missed_events(1, start), [inside.0, own.0, for_all.0, again.0]);
    hub.check_resume(1, Some(own)).unwrap();
    hub.resume(1, own);
    assert_eq!(
        hub.missed_events(1, own),
        [for_all.0, again.0],
        "events of a room count until its position has passed the leave"
    );
}

#[test]
fn a_revoked_room_has_no_missed_events_after_a_restart_either() {
    let mut hub = Hub::new();
    let start = hub.connect(1);
    for name in ["a", "left", "kept"] {
        hub.join(1, name);
    }
    hub.emit(&["a"]);
    hub.emit(&["left"]);
    hub.leave(1, "left");
    let kept = hub.emit(&["kept"]);
    let both = hub.emit(&["kept", "a"]);
    hub.resume(1, start);
    for name in ["a", "left"] {
        hub.apply(RecordBody::Revoked { socket: socket(1), room: room(name) });
    }
    hub.emit(&["a"]);
    hub.join(1, "a");
    let again = hub.emit(&["a"]);
    for _ in 0..2 {
        assert_eq!(hub.missed_events(1, start), [kept.0, both.0, again.0]);
        let resumed = hub.check_resume(1, Some(start)).unwrap();
        assert_eq!(resumed.rooms().cloned().collect::<Vec<_>>(), [room("kept"), room("a")]);
        hub.restart();
    }
}

#[test]
fn a_resume_moves_the_position_of_the_session() {
    let mut hub = Hub::new();
    let start = hub.connect(1);
    hub.join(1, "a");
    let seen = hub.emit(&[]);
    hub.check_resume(1, Some(seen)).unwrap();
    let second = hub.resume(1, seen);
    assert_eq!(hub.resume_error(1, start), Some(NotRecovered::OldOffset));
    assert!(hub.check_resume(1, Some(second)).is_ok());
    assert_eq!((hub.recovery.len(), hub.check_resume(1, None).unwrap().position), (1, seen));
}

#[test]
fn every_refused_resume_has_its_reason() {
    let mut hub = Hub::new();
    hub.emit(&[]);
    hub.connect(1);
    let start = hub.emit(&[]);
    hub.check_resume(1, Some(start)).unwrap();
    hub.resume(1, start);
    hub.disconnect(1, 1_000);
    let namespace = NamespacePath::root();
    let good = Offset { epoch: EPOCH, lsn: start, fingerprint: Fingerprint::new(0) };
    let query = ResumeQuery { pid: pid(1), namespace: &namespace, offset: Some(good) };
    let journal_state = hub.journal_state();
    let refusal = |query: ResumeQuery<'_>, journal_state: JournalState, now| {
        hub.recovery.check_resume(&query, &journal_state, now).err()
    };
    assert_eq!(refusal(query, journal_state, 121_000), None);
    assert_eq!(refusal(query, journal_state, 121_001), Some(NotRecovered::Expired));
    assert_eq!(refusal(query, journal_state, 0), None, "a clock that steps back expires no session");
    assert_eq!(refusal(ResumeQuery { pid: pid(2), ..query }, journal_state, 0), Some(NotRecovered::UnknownPid));
    let chat = NamespacePath::parse("/chat").unwrap();
    assert_eq!(
        refusal(ResumeQuery { namespace: &chat, ..query }, journal_state, 0),
        Some(NotRecovered::OtherNamespace)
    );
    let at = |offset| ResumeQuery { offset: Some(offset), ..query };
    let foreign = Offset { epoch: Epoch::new(1, 2), ..good };
    assert_eq!(refusal(at(foreign), journal_state, 0), Some(NotRecovered::ForeignEpoch));
    let future = Offset { lsn: journal_state.head.next(), ..good };
    assert_eq!(refusal(at(future), journal_state, 0), Some(NotRecovered::FutureOffset));
    assert_eq!(refusal(at(Offset { lsn: Lsn(1), ..good }), journal_state, 0), Some(NotRecovered::OldOffset));
    assert_eq!(
        refusal(query, JournalState { knows_offset: false, ..journal_state }, 0),
        Some(NotRecovered::UnknownOffset)
    );
}

#[test]
fn a_session_without_rooms_and_events_has_nothing_to_recover() {
    // In an earlier version, a client whose first `join` was lost resumed its session without a
    // room and received nothing.
    let mut hub = Hub::new();
    let before = hub.emit(&[]);
    hub.connect(1);
    hub.disconnect(1, 0);
    assert_eq!(hub.check_resume(1, None).err(), Some(NotRecovered::NothingToRecover));
    assert_eq!(hub.resume_error(1, before), Some(NotRecovered::NothingToRecover), "a token of its previous session");

    hub.connect(2);
    hub.join(2, "a");
    hub.disconnect(2, 0);
    assert!(hub.check_resume(2, None).is_ok(), "in a room");

    hub.connect(3);
    hub.join(3, "a");
    hub.leave(3, "a");
    assert_eq!(hub.check_resume(3, None).err(), Some(NotRecovered::NothingToRecover), "in no room any more");

    hub.connect(4);
    let seen = hub.emit(&[]);
    hub.disconnect(4, 0);
    assert!(hub.check_resume(4, Some(seen)).is_ok(), "an event was received");
}

#[test]
fn a_token_from_before_the_session_is_ignored() {
    // The stock client keeps its last token when it gets a new session. In an earlier version, a
    // client that received nothing in the new session could not resume that session.
    let mut hub = Hub::new();
    let before = hub.emit(&[]);
    let start = hub.connect(1);
    hub.join(1, "a");
    hub.disconnect(1, 0);
    let missed = hub.emit(&[]);
    let at = |epoch, lsn| Offset { epoch, lsn, fingerprint: Fingerprint::new(9) };
    for offset in [at(EPOCH, before), at(Epoch::new(0, 7), Lsn(1_000_000))] {
        let query = ResumeQuery { pid: pid(1), namespace: &NamespacePath::root(), offset: Some(offset) };
        let resumed =
            hub.recovery.check_resume(&query, &JournalState { knows_offset: false, ..hub.journal_state() }, 0).unwrap();
        assert_eq!(resumed.position, start);
        assert_eq!(hub.missed_events(1, start), [missed.0]);
    }
    hub.check_resume(1, Some(missed)).unwrap();
    hub.resume(1, missed);
    assert_eq!(hub.resume_error(1, before), Some(NotRecovered::OldOffset), "the client has received a newer token");
}

#[test]
fn a_missed_event_with_an_ack_refuses_a_resume_after_a_restart_too() {
    let mut hub = Hub::new();
    let start = hub.connect(1);
    hub.join(1, "a");
    hub.apply(RecordBody::Event(event(&["b"], r#"427["e"]"#).into()));
    assert_eq!(hub.resume_error(1, start), None, "the event was for others");
    let ack_events = hub.apply(RecordBody::Event(event(&["a"], r#"427["e"]"#).into()));
    let after = hub.emit(&["a"]);
    for _ in 0..2 {
        assert_eq!(hub.resume_error(1, start), Some(NotRecovered::AckMissed));
        assert_eq!(hub.resume_error(1, after), None);
        hub.trim();
        let entry = hub.at_risk(hub.head()).unwrap();
        assert_eq!(entry.last_ack_event, ack_events);
        hub.apply(RecordBody::Session(entry.into()));
        hub.restart();
    }
}

#[test]
fn an_ack_id_is_found_in_every_form_of_a_packet() {
    let wants = |text: &str| wants_ack(&EncodedFrame::text(text).into());
    for text in [r#"427["e"]"#, r#"42/chat,7["e"]"#, r#"42/a-b,12["e","-"]"#] {
        assert!(wants(text), "{text}");
    }
    for text in [r#"42["e",7]"#, r#"42/chat,["e"]"#, r#"42/7,["e"]"#, r#"42["a/b,7"]"#, "42", ""] {
        assert!(!wants(text), "{text}");
    }
    let attached = |text: &str| {
        wants_ack(&Message::from_packets(EncodedFrame::text(text), vec![EncodedFrame::binary(&[1])]).unwrap())
    };
    assert!(attached(r#"451-7["e",{"_placeholder":true,"num":0}]"#));
    assert!(attached(r#"451-/c,7["e",{"_placeholder":true,"num":0}]"#));
    assert!(!attached(r#"451-["e-7",{"_placeholder":true,"num":0}]"#));
    assert!(!attached(r#"451-/c-7,["e",{"_placeholder":true,"num":0}]"#));
}
