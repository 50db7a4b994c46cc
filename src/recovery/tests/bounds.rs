//! Tests of trimming, and of rewriting and forgetting sessions.

use proptest::prelude::*;

use super::*;

#[test]
fn a_session_is_small() {
    // Each connected socket has a session. The next smaller size class of the allocator is 128
    // bytes.
    assert!(size_of::<RecoverableSession>() <= 160, "{} bytes", size_of::<RecoverableSession>());
}

#[test]
fn a_session_that_cannot_be_resumed_is_forgotten_at_its_end() {
    // In an earlier version, the session was kept until its window had passed, and one client could
    // displace all other sessions.
    let mut hub = Hub::new();
    let start = hub.connect(1);
    hub.join(1, "a");
    hub.apply(RecordBody::Disconnect { socket: socket(1), forever: true, at_unix_ms: 0 });
    hub.join(1, "b");
    assert_eq!(hub.resume_error(1, start), Some(NotRecovered::UnknownPid));
    assert_eq!((hub.at_risk(hub.head()), hub.recovery.activity.len(), hub.recovery.len()), (None, 0, 0));
}

#[test]
fn a_session_survives_the_trimming_of_events_for_others() {
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
    assert_eq!(hub.check_resume(1, Some(seen)).unwrap().position, seen);
    assert_eq!(hub.missed_events(1, seen), [missed.0]);
    assert_eq!(hub.resume_error(2, seen), Some(NotRecovered::Trimmed));
    hub.trim();
    assert_eq!(hub.resume_error(1, seen), Some(NotRecovered::Trimmed));
}

#[test]
fn trimmed_events_of_a_room_it_has_left_still_count() {
    let mut hub = Hub::new();
    let start = hub.connect(1);
    hub.join(1, "a");
    let inside = hub.emit(&["a"]);
    hub.leave(1, "a");
    hub.emit(&["a"]);
    hub.trim();
    let entry = hub.at_risk(hub.head()).unwrap();
    assert_eq!(
        (entry.rooms.len(), entry.last_event),
        (0, inside),
        "the interval is forgotten, its newest event is not"
    );
    assert_eq!((hub.resume_error(1, start), hub.resume_error(1, inside)), (Some(NotRecovered::Trimmed), None));
    hub.apply(RecordBody::Session(entry.into()));
    hub.restart();
    assert_eq!((hub.resume_error(1, start), hub.resume_error(1, inside)), (Some(NotRecovered::Trimmed), None));
}

#[test]
fn sessions_at_risk_are_rewritten_once_oldest_first() {
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
fn a_complete_record_is_enough_after_a_restart() {
    let mut hub = Hub::new();
    hub.connect(1);
    hub.join(1, "a");
    let seen = hub.emit(&["a"]);
    hub.trim();
    let entry = hub.at_risk(hub.head()).unwrap();
    hub.apply(RecordBody::Session(entry.into()));
    let missed = hub.emit(&["a"]);
    hub.restart();
    assert_eq!(hub.connected(), [socket(1)], "the record says connected");
    hub.disconnect(1, 0);
    assert_eq!(hub.check_resume(1, Some(seen)).unwrap().position, seen);
    assert_eq!(hub.missed_events(1, seen), [missed.0]);
    assert_eq!(hub.resume_error(1, Lsn(1)), Some(NotRecovered::Trimmed));
}

#[test]
fn too_many_sessions_displace_the_longest_disconnected() {
    let mut hub = Hub::new();
    let start = hub.connect(1);
    hub.connect(2);
    hub.connect(3);
    hub.disconnect(2, 5);
    hub.disconnect(1, 6);
    hub.connect(4);
    assert_eq!((hub.recovery.len(), hub.resume_error(2, start)), (3, Some(NotRecovered::UnknownPid)));
    hub.connect(5);
    assert_eq!(hub.resume_error(1, start), Some(NotRecovered::UnknownPid));
    hub.connect(6);
    assert_eq!(hub.resume_error(6, start), Some(NotRecovered::UnknownPid), "all are connected");
    assert_eq!(hub.recovery.len(), 3);
}

#[test]
fn intervals_are_bounded_and_forgotten_when_no_resume_needs_them() {
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
    hub.disconnect(1, 0);
    hub.disconnect(2, 0);
    let expired = hub.recovery.next_expired(u64::MAX).unwrap();
    hub.apply(expired);
    assert_eq!((hub.recovery.len(), hub.recovery.activity.len()), (0, 0));
    assert!(
        hub.recovery.by_record.is_empty() && hub.recovery.by_socket.is_empty() && hub.recovery.disconnected.is_empty()
    );
}

proptest! {
    #[test]
    fn forgetting_all_sessions_empties_the_index(
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
