//! Facts about who may resume what.

use proptest::prelude::*;

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

#[test]
fn a_session_is_small() {
    // One comes with each socket; the allocator's next smaller class is 128.
    assert!(size_of::<RecoverableSession>() <= 160, "{} bytes", size_of::<RecoverableSession>());
}

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
        message: EncodedFrame::text(text).into(),
    }
}

/// A hub that numbers from 1 and keeps all that it applies.
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

    fn lose(&mut self, n: u8, at_unix_ms: u64) -> Lsn {
        self.apply(RecordBody::Disconnect { socket: socket(n), forever: false, at_unix_ms })
    }

    /// Emits to nobody's room until all so far is trimmed.
    fn trim(&mut self) {
        self.trimmed_to = self.head();
        self.recovery.set_trimmed_to(self.trimmed_to);
    }

    fn journal_state(&self) -> JournalState {
        JournalState { epoch: EPOCH, head: self.head(), trimmed_to: self.trimmed_to, knows_offset: true }
    }

    fn claim(&self, n: u8, from: Option<Lsn>) -> Result<Resumable<'_>, NotRecovered> {
        let offset = from.map(|lsn| Offset { epoch: EPOCH, lsn, fingerprint: Fingerprint::new(0) });
        let claim = ResumeQuery { pid: pid(n), namespace: &NamespacePath::root(), offset };
        self.recovery.check_resume(&claim, &self.journal_state(), 0)
    }

    fn resume_error(&self, n: u8, from: Lsn) -> Option<NotRecovered> {
        self.claim(n, Some(from)).err()
    }

    fn missed_events(&self, n: u8, from: Lsn) -> Vec<u64> {
        let records = self.records.iter().filter(|record| record.lsn > from);
        let undelivered = records.filter(|record| match &record.body {
            RecordBody::Event(event) => self
                .recovery
                .missed_events(&socket(n))
                .is_some_and(|undelivered| undelivered.includes(record.lsn, event)),
            _ => false,
        });
        undelivered.map(|record| record.lsn.0).collect()
    }

    /// The process dies, and the next one reads what is not trimmed.
    fn restart(&mut self) {
        self.recovery = RecoveryIndex::new(BOUNDS);
        self.recovery.set_trimmed_to(self.trimmed_to);
        for record in self.records.iter().filter(|record| record.lsn > self.trimmed_to) {
            self.recovery.apply(record);
        }
    }
}

#[test]
fn a_session_that_saw_no_event_is_resumed_from_its_connect() {
    let mut hub = Hub::new();
    let start = hub.connect(1);
    hub.join(1, "a");
    hub.apply(RecordBody::Data { socket: socket(1), data: Some("7".into()) });
    hub.lose(1, 0);
    let missed = hub.emit(&["a"]);
    let resumed = hub.claim(1, None).unwrap();
    assert_eq!((resumed.socket(), resumed.position), (socket(1), start));
    assert_eq!(resumed.rooms_now().cloned().collect::<Vec<_>>(), [room("a")]);
    assert_eq!(resumed.data(), Some("7"));
    assert_eq!(hub.missed_events(1, start), [missed.0]);
}

#[test]
fn missed_events_are_those_of_its_rooms_while_it_was_in_them() {
    let mut hub = Hub::new();
    let start = hub.connect(1);
    hub.emit(&["a"]);
    hub.join(1, "a");
    let inside = hub.emit(&["a", "b"]);
    let own = hub.emit(&[&socket(1).to_string()]);
    hub.emit(&[&socket(2).to_string()]);
    let everybody = hub.emit(&[]);
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
    assert_eq!(hub.missed_events(1, start), [inside.0, own.0, everybody.0, again.0]);
    hub.claim(1, Some(own)).unwrap();
    hub.resume(1, own);
    assert_eq!(
        hub.missed_events(1, own),
        [everybody.0, again.0],
        "rooms it left count until its position has passed the leaving"
    );
}

#[test]
fn the_newest_claim_evicts_the_older_one_and_takes_its_place() {
    let mut hub = Hub::new();
    let start = hub.connect(1);
    hub.join(1, "a");
    let seen = hub.emit(&[]);
    hub.claim(1, Some(seen)).unwrap();
    let second = hub.resume(1, seen);
    assert_eq!(hub.resume_error(1, start), Some(NotRecovered::OldOffset));
    assert!(hub.claim(1, Some(second)).is_ok());
    assert_eq!((hub.recovery.len(), hub.claim(1, None).unwrap().position), (1, seen));
}

#[test]
fn every_bad_claim_has_its_reason() {
    let mut hub = Hub::new();
    hub.emit(&[]);
    hub.connect(1);
    let start = hub.emit(&[]);
    hub.claim(1, Some(start)).unwrap();
    hub.resume(1, start);
    hub.lose(1, 1_000);
    let namespace = NamespacePath::root();
    let good = Offset { epoch: EPOCH, lsn: start, fingerprint: Fingerprint::new(0) };
    let claim = ResumeQuery { pid: pid(1), namespace: &namespace, offset: Some(good) };
    let journal_state = hub.journal_state();
    let refusal = |claim: ResumeQuery<'_>, journal_state: JournalState, now| {
        hub.recovery.check_resume(&claim, &journal_state, now).err()
    };
    assert_eq!(refusal(claim, journal_state, 121_000), None);
    assert_eq!(refusal(claim, journal_state, 121_001), Some(NotRecovered::Expired));
    assert_eq!(refusal(claim, journal_state, 0), None, "a clock that steps back expires nobody");
    assert_eq!(refusal(ResumeQuery { pid: pid(2), ..claim }, journal_state, 0), Some(NotRecovered::UnknownPid));
    let chat = NamespacePath::parse("/chat").unwrap();
    assert_eq!(
        refusal(ResumeQuery { namespace: &chat, ..claim }, journal_state, 0),
        Some(NotRecovered::OtherNamespace)
    );
    let at = |offset| ResumeQuery { offset: Some(offset), ..claim };
    let foreign = Offset { epoch: Epoch::new(1, 2), ..good };
    assert_eq!(refusal(at(foreign), journal_state, 0), Some(NotRecovered::ForeignEpoch));
    let future = Offset { lsn: journal_state.head.next(), ..good };
    assert_eq!(refusal(at(future), journal_state, 0), Some(NotRecovered::FutureOffset));
    assert_eq!(refusal(at(Offset { lsn: Lsn(1), ..good }), journal_state, 0), Some(NotRecovered::OldOffset));
    assert_eq!(
        refusal(claim, JournalState { knows_offset: false, ..journal_state }, 0),
        Some(NotRecovered::UnknownOffset)
    );
}

// A client whose first `join` was lost with its connection came back as recovered, in no room, and heard nothing any more.
#[test]
fn a_session_without_rooms_and_events_has_nothing_to_recover() {
    let mut hub = Hub::new();
    let before = hub.emit(&[]);
    hub.connect(1);
    hub.lose(1, 0);
    assert_eq!(hub.claim(1, None).err(), Some(NotRecovered::NothingToRecover));
    assert_eq!(hub.resume_error(1, before), Some(NotRecovered::NothingToRecover), "a token of its session before");

    hub.connect(2);
    hub.join(2, "a");
    hub.lose(2, 0);
    assert!(hub.claim(2, None).is_ok(), "in a room");

    hub.connect(3);
    hub.join(3, "a");
    hub.leave(3, "a");
    assert_eq!(hub.claim(3, None).err(), Some(NotRecovered::NothingToRecover), "in no room any more");

    hub.connect(4);
    let seen = hub.emit(&[]);
    hub.lose(4, 0);
    assert!(hub.claim(4, Some(seen)).is_ok(), "an event was received");
}

#[test]
fn a_token_from_before_the_session_is_no_token_of_it() {
    // The stock client keeps its last token when it gets a new session, so one that was told nothing new could not be resumed.
    let mut hub = Hub::new();
    let before = hub.emit(&[]);
    let start = hub.connect(1);
    hub.join(1, "a");
    hub.lose(1, 0);
    let missed = hub.emit(&[]);
    let at = |epoch, lsn| Offset { epoch, lsn, fingerprint: Fingerprint::new(9) };
    for offset in [at(EPOCH, before), at(Epoch::new(0, 7), Lsn(1_000_000))] {
        let claim = ResumeQuery { pid: pid(1), namespace: &NamespacePath::root(), offset: Some(offset) };
        let resumed =
            hub.recovery.check_resume(&claim, &JournalState { knows_offset: false, ..hub.journal_state() }, 0).unwrap();
        assert_eq!(resumed.position, start);
        assert_eq!(hub.missed_events(1, start), [missed.0]);
    }
    hub.claim(1, Some(missed)).unwrap();
    hub.resume(1, missed);
    assert_eq!(hub.resume_error(1, before), Some(NotRecovered::OldOffset), "it has seen another since");
}

#[test]
fn a_session_that_ended_for_good_is_forgotten() {
    // It was known until its window had passed, and a client that came and went displaced all who were away.
    let mut hub = Hub::new();
    let start = hub.connect(1);
    hub.join(1, "a");
    hub.apply(RecordBody::Disconnect { socket: socket(1), forever: true, at_unix_ms: 0 });
    hub.join(1, "b");
    assert_eq!(hub.resume_error(1, start), Some(NotRecovered::UnknownPid));
    assert_eq!((hub.at_risk(hub.head()), hub.recovery.activity.len(), hub.recovery.len()), (None, 0, 0));
}

#[test]
fn a_quiet_session_outlives_the_trimming_of_what_was_not_for_it() {
    let mut hub = Hub::new();
    hub.connect(1);
    hub.connect(2);
    hub.join(1, "quiet");
    hub.join(2, "loud");
    let seen = hub.emit(&["quiet"]);
    for _ in 0..100 {
        hub.emit(&["loud"]);
    }
    hub.trim();
    let missed = hub.emit(&["quiet"]);
    assert_eq!(hub.claim(1, Some(seen)).unwrap().position, seen);
    assert_eq!(hub.missed_events(1, seen), [missed.0]);
    assert_eq!(hub.resume_error(2, seen), Some(NotRecovered::Trimmed));
    hub.trim();
    assert_eq!(hub.resume_error(1, seen), Some(NotRecovered::Trimmed));
}

#[test]
fn what_was_trimmed_in_a_room_it_left_since_is_not_forgotten() {
    let mut hub = Hub::new();
    let start = hub.connect(1);
    hub.join(1, "a");
    let inside = hub.emit(&["a"]);
    hub.leave(1, "a");
    hub.emit(&["a"]);
    hub.trim();
    let entry = hub.at_risk(hub.head()).unwrap();
    assert_eq!((entry.rooms.len(), entry.last_event), (0, inside), "the stay is gone, not what happened in it");
    assert_eq!((hub.resume_error(1, start), hub.resume_error(1, inside)), (Some(NotRecovered::Trimmed), None));
    hub.apply(RecordBody::Session(entry.into()));
    hub.restart();
    assert_eq!((hub.resume_error(1, start), hub.resume_error(1, inside)), (Some(NotRecovered::Trimmed), None));
}

#[test]
fn an_event_that_wanted_an_ack_cannot_be_had_again_also_after_a_start() {
    let mut hub = Hub::new();
    let start = hub.connect(1);
    hub.join(1, "a");
    hub.apply(RecordBody::Event(event(&["b"], r#"427["e"]"#).into()));
    assert_eq!(hub.resume_error(1, start), None, "it was for others");
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

#[test]
fn those_at_risk_are_written_again_once_oldest_first() {
    let mut hub = Hub::new();
    let first = hub.connect(1);
    hub.connect(2);
    let risk = hub.head();
    hub.connect(3);
    assert_eq!(hub.at_risk(Lsn(0)), None);
    let mut written = Vec::new();
    while let Some(entry) = hub.at_risk(risk) {
        written.push((entry.socket, entry.position));
        hub.apply(RecordBody::Session(entry.into()));
    }
    assert_eq!(written, [(socket(1), first), (socket(2), first.next())]);
}

#[test]
fn a_session_is_whole_after_a_start_from_its_carried_record_alone() {
    let mut hub = Hub::new();
    hub.connect(1);
    hub.join(1, "a");
    let seen = hub.emit(&["a"]);
    hub.trim();
    let entry = hub.at_risk(hub.head()).unwrap();
    hub.apply(RecordBody::Session(entry.into()));
    let missed = hub.emit(&["a"]);
    hub.restart();
    assert_eq!(hub.connected(), [socket(1)], "its connection ended with the process");
    hub.lose(1, 0);
    assert_eq!(hub.claim(1, Some(seen)).unwrap().position, seen);
    assert_eq!(hub.missed_events(1, seen), [missed.0]);
    assert_eq!(hub.resume_error(1, Lsn(1)), Some(NotRecovered::Trimmed));
}

#[test]
fn too_many_sessions_push_out_who_has_been_away_longest() {
    let mut hub = Hub::new();
    let start = hub.connect(1);
    hub.connect(2);
    hub.connect(3);
    hub.lose(2, 5);
    hub.lose(1, 6);
    hub.connect(4);
    assert_eq!((hub.recovery.len(), hub.resume_error(2, start)), (3, Some(NotRecovered::UnknownPid)));
    hub.connect(5);
    assert_eq!(hub.resume_error(1, start), Some(NotRecovered::UnknownPid));
    hub.connect(6);
    assert_eq!(hub.resume_error(6, start), Some(NotRecovered::UnknownPid), "nobody is away");
    assert_eq!(hub.recovery.len(), 3);
}

#[test]
fn stays_are_bounded_and_forgotten_when_no_resume_can_reach_them() {
    let mut hub = Hub::new();
    hub.connect(1);
    let start = hub.connect(2);
    for _ in 0..20 {
        hub.join(1, "a");
        hub.leave(1, "a");
        hub.trim();
        hub.join(1, "a");
        hub.join(1, &socket(1).to_string());
    }
    let end = hub.head();
    assert_eq!(hub.resume_error(1, end), None);
    for name in ["b", "c", "d", "e"] {
        hub.join(1, name);
    }
    assert_eq!(hub.resume_error(1, end), Some(NotRecovered::TooManyIntervals));
    assert_eq!(hub.resume_error(2, start), None);
    hub.lose(1, 0);
    hub.lose(2, 0);
    let expired = hub.recovery.next_expired(u64::MAX).unwrap();
    hub.apply(expired);
    assert_eq!((hub.recovery.len(), hub.recovery.activity.len()), (0, 0));
    assert!(
        hub.recovery.by_record.is_empty() && hub.recovery.by_socket.is_empty() && hub.recovery.disconnected.is_empty()
    );
}

proptest! {
    #[test]
    fn any_records_leave_nothing_behind_once_all_have_expired(
        entries in proptest::collection::vec(crate::journal::contract::records::any_entry(), 0..40),
    ) {
        let mut hub = Hub::new();
        for entry in entries {
            hub.apply(entry);
            prop_assert!(hub.recovery.len() <= BOUNDS.sessions_max);
        }
        for socket in hub.connected() {
            hub.apply(RecordBody::Disconnect { socket, forever: false, at_unix_ms: 0 });
        }
        let sessions: Vec<_> = hub.recovery.sessions.keys().copied().collect();
        sessions.iter().for_each(|pid| hub.recovery.forget(pid));
        prop_assert_eq!(hub.recovery.activity.len(), 0);
        prop_assert!(hub.recovery.by_record.is_empty() && hub.recovery.by_socket.is_empty());
        prop_assert!(hub.recovery.disconnected.is_empty());
        prop_assert_eq!(hub.recovery.bytes().0, 0);
    }
}
