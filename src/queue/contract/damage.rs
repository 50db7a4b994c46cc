//! Damaged events, dead letters and pages.

use std::fs;

use rusqlite::Connection;

use super::faults::{DATABASE, batches, refused};
use super::*;

#[test]
fn a_damaged_event_is_named_and_the_others_are_served() {
    let mut b = Bench::sqlite(StoreLimits::default());
    b.subscribe("s", &["a", "b"]);
    b.subscribe("t", &["a"]);
    for _ in 0..4 {
        b.publish(&["a", "b"], "content");
    }
    let scratch = b.scratch.take().unwrap();
    drop((b.store, b.reader));
    let database = Connection::open(scratch.path().join(DATABASE)).unwrap();
    database.execute("UPDATE event SET payload = x'636f6e74656e75' WHERE number = 2", []).unwrap();
    database.execute("DELETE FROM event WHERE number = 3", []).unwrap();
    drop(database);
    let mut store = open(scratch.path());
    let mut reader = store.reader().unwrap();
    let page = reader.pending(&key("s"), 0, ALL).unwrap();
    assert_eq!(page.events.iter().map(|event| event.number).collect::<Vec<_>>(), [1, 4]);
    let errors: Vec<_> = page.damaged.iter().map(|damaged| damaged.error.as_str()).collect();
    assert!(errors[0].starts_with("queue file queue.sqlite3: table event, row 2: checksum is 0x"), "{errors:?}");
    assert_eq!(errors[1], "queue file queue.sqlite3: table event, row 3: the row is missing");
    let remove = |number| Change::RemoveDamaged { number };
    let outcomes = store.commit(&[remove(2), remove(3), remove(4)], UnixMillis(1)).unwrap();
    assert_eq!(outcomes, [Outcome::Done, Outcome::Done, Outcome::Refused(Refusal::NotDamaged { number: 4 })]);
    for name in ["s", "t"] {
        let gaps = reader.gaps(&key(name), 0, 99).unwrap().gaps;
        assert_eq!(gaps, [gap(2, 3, Some(2), GapReason::Damaged)]);
        assert_eq!(numbers(&reader.pending(&key(name), 0, ALL).unwrap()), [1, 4]);
    }
}

#[test]
fn damaged_pages_are_an_error_that_names_the_file() {
    let scratch = Scratch::new();
    let mut store = open(scratch.path());
    store.commit(&batches()[0], UnixMillis(1)).unwrap();
    store.maintain(true).unwrap();
    drop(store);
    let file = scratch.path().join(DATABASE);
    let mut bytes = fs::read(&file).unwrap();
    assert!(bytes.len() > 4_096 * 4);
    bytes[4_096..].fill(0x5a);
    fs::write(&file, bytes).unwrap();
    let error = refused(scratch.path());
    assert!(error.starts_with("queue file F/queue.sqlite3: damaged ("), "{error}");
}

/// A store with four events of two rooms, changed by statements while it is closed.
fn damaged(statements: &str) -> (SqliteStore, Scratch) {
    let rule = crate::queue::limits::RetentionRule {
        pattern: "kept".into(),
        max_age: Some(Duration::from_secs(60)),
        ..Default::default()
    };
    let limits = StoreLimits { retention: vec![rule], ..StoreLimits::default() };
    let mut b = Bench::sqlite(limits.clone());
    b.subscribe("s", &["a", "kept"]);
    for _ in 0..4 {
        let expires_at = Some(UnixMillis(b.now.0 + 30_000));
        b.apply(Change::Publish(Box::new(Publish { expires_at, ..event(&["a", "kept"], "content") })));
        b.reveal();
    }
    let scratch = b.scratch.take().unwrap();
    drop((b.store, b.reader));
    Connection::open(scratch.path().join(DATABASE)).unwrap().execute_batch(statements).unwrap();
    let store = SqliteStore::open(options(scratch.path(), limits)).unwrap();
    (store, scratch)
}

#[test]
fn a_damaged_event_does_not_stop_the_queue() {
    for statements in [
        "DELETE FROM event WHERE number = 1",
        "UPDATE event SET rooms = 'text' WHERE number = 1",
        "UPDATE event SET rooms = x'0100000000000000' WHERE number = 1",
        "UPDATE event SET at = 'text' WHERE number = 1",
        "UPDATE event SET bytes = 'text' WHERE number = 1",
    ] {
        let (mut store, _scratch) = damaged(statements);
        let mut reader = store.reader().unwrap();
        store.commit(&[ack("s", &[1, 2]), ack_up_to("s", 3)], UnixMillis(1_000_000)).unwrap();
        assert_eq!(numbers(&reader.pending(&key("s"), 0, ALL).unwrap()), [4], "{statements}");
        for now in [1_040_000, 1_100_000] {
            store.commit(&[Change::Expire { budget: 1_000 }], UnixMillis(now)).unwrap();
        }
        for number in 1..=4 {
            store.commit(&[Change::RemoveDamaged { number }], UnixMillis(1_100_000)).unwrap();
        }
        let totals = reader.totals().unwrap();
        assert_eq!((totals.events, totals.bytes), (0, 0), "{statements}");
    }
}

#[test]
fn a_damaged_event_is_reported_when_its_retry_is_due() {
    let mut b = Bench::sqlite(StoreLimits::default());
    b.subscribe("s", &["a", "b"]);
    for _ in 0..4 {
        b.publish(&["b"], "content");
    }
    let at = |seconds: u64| UnixMillis(b.now.0 + seconds * 1_000);
    let retries = [1, 2, 3].map(|number| failed("s", number, 1, at(number)));
    let (early, late) = (at(1), at(9));
    b.commit(&retries);
    b.apply(unsubscribe("s", "a"));
    let database = Connection::open(b.scratch.as_ref().unwrap().path().join(DATABASE)).unwrap();
    database.execute("UPDATE event SET payload = x'636f6e74656e75' WHERE number = 2", []).unwrap();
    database.execute("DELETE FROM event WHERE number = 3", []).unwrap();
    let mut read = |now| {
        let page = b.reader.deliverable(&key("s"), 0, &[], now, ALL).unwrap();
        let numbers = |events: &[DurableEvent]| events.iter().map(|event| event.number).collect::<Vec<_>>();
        let damaged: Vec<u64> = page.damaged.iter().map(|damaged| damaged.number).collect();
        (numbers(&page.due), numbers(&page.fresh), damaged, page.next_due)
    };
    assert_eq!(read(early), (vec![1], vec![4], vec![], Some(UnixMillis(early.0 + 1_000))));
    assert_eq!(read(late), (vec![1], vec![4], vec![2, 3], None));
    b.commit(&[Change::RemoveDamaged { number: 2 }, Change::RemoveDamaged { number: 3 }]);
    assert_eq!(b.gaps("s"), [gap(2, 3, Some(2), GapReason::Damaged)]);
}

#[test]
fn an_event_on_a_damaged_page_can_be_removed() {
    let scratch = Scratch::new();
    let mut store = open(scratch.path());
    store.commit(&batches()[0], UnixMillis(1)).unwrap();
    store.commit(&[publish(&["a"], &"x".repeat(20_000)), publish(&["a"], "y")], UnixMillis(1)).unwrap();
    store.commit(&[Change::Revealed { up_to: 2 }], UnixMillis(1)).unwrap();
    store.maintain(true).unwrap();
    drop(store);
    let file = scratch.path().join(DATABASE);
    let mut bytes = fs::read(&file).unwrap();
    // The number of the next page of the payload.
    let page = bytes.chunks(4_096).position(|page| page[4..].iter().all(|byte| *byte == b'x')).unwrap();
    bytes[page * 4_096..page * 4_096 + 4].fill(0xff);
    fs::write(&file, bytes).unwrap();
    let mut store = open(scratch.path());
    let mut reader = store.reader().unwrap();
    let page = reader.pending(&key("s"), 0, ALL).unwrap();
    assert_eq!((page.events[0].number, page.damaged[0].number), (2, 1));
    assert_eq!(store.commit(&[Change::RemoveDamaged { number: 1 }], UnixMillis(1)).unwrap(), [Outcome::Done]);
    assert_eq!(numbers(&reader.pending(&key("s"), 0, ALL).unwrap()), [2]);
    assert_eq!(reader.gaps(&key("s"), 0, 9).unwrap().gaps, [gap(1, 1, Some(1), GapReason::Damaged)]);
}

#[test]
fn a_damaged_dead_letter_is_named_and_not_replayed() {
    let mut b = Bench::sqlite(StoreLimits::default());
    b.subscribe("s", &["a"]);
    for number in 1..=3 {
        b.publish(&["a"], "content");
        b.apply(term("s", number));
    }
    let database = Connection::open(b.scratch.as_ref().unwrap().path().join(DATABASE)).unwrap();
    database.execute("UPDATE dead_letter SET payload = x'636f6e74656e75' WHERE number = 2", []).unwrap();
    let page = b.reader.dead_letters(&key("s"), 0, ALL).unwrap();
    assert_eq!(page.dead_letters.iter().map(|dead| dead.number).collect::<Vec<_>>(), [1, 3]);
    assert!(page.damaged[0].error.starts_with("queue file queue.sqlite3: table dead_letter, row 2: checksum"));
    let replayed = b.apply(Change::ReplayDead { subscriber: key("s"), numbers: None });
    assert_eq!(replayed, Outcome::Replayed { events: vec![(1, 4), (3, 5)], has_more: false });
    assert_eq!(b.gaps("s"), [gap(2, 2, Some(1), GapReason::Damaged)]);
    assert_eq!(b.totals().dead_letters, 0);
}
