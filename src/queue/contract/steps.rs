//! Changes that concern many rows: true immediately, carried out in steps, and safe to interrupt
//! between two of them.

use std::fmt::Debug;

use super::*;

const EVENTS: u64 = 3_000;

/// Pending events and gaps of subscribers.
fn seen(b: &mut Bench, names: &[&str]) -> impl Debug + PartialEq + use<> {
    names.iter().map(|name| (b.pending(name), b.gaps(name))).collect::<Vec<_>>()
}

/// Applies a change to a store with many events and interrupts it after every commit.
fn in_steps(change: &Change, names: &[&str]) -> (Bench, Bench) {
    let mut expected = Bench::memory(StoreLimits::default());
    let mut b = Bench::sqlite_with(StoreLimits::default(), 200);
    for bench in [&mut expected, &mut b] {
        bench.subscribe("s", &["a", "b"]);
        bench.subscribe("t", &["a"]);
        let events: Vec<Change> =
            (0..EVENTS).map(|n| publish(if n % 3 == 0 { &["a", "b"] } else { &["a"] }, "x")).collect();
        bench.commit(&events);
        bench.reveal();
        bench.commit(&[ack("s", &(10..20).collect::<Vec<_>>()), Change::CreateSubscriber { subscriber: key("late") }]);
    }
    assert_eq!(expected.apply(change.clone()), b.store.commit(std::slice::from_ref(change), b.now).unwrap()[0]);
    assert!(b.store.has_work(), "more than one step");
    let mut steps = 0;
    while b.store.has_work() {
        if !matches!(change, Change::PurgeRoom { .. }) {
            assert_eq!(seen(&mut b, names), seen(&mut expected, names), "after {steps} steps");
        }
        b = b.reopen_with(200);
        b.store.commit(&[], b.now).unwrap();
        steps += 1;
    }
    assert!(steps > 3, "{steps}");
    assert_eq!(seen(&mut b, names), seen(&mut expected, names));
    assert_eq!(b.totals(), expected.totals());
    (b, expected)
}

#[test]
fn acknowledging_many_events_goes_in_steps() {
    let (mut b, _) = in_steps(&ack_up_to("s", EVENTS - 5), &["s", "t"]);
    assert_eq!((b.pending("s").len(), b.totals().events), (5, EVENTS));
    b.apply(ack_up_to("t", EVENTS));
    assert_eq!(b.totals().events, 5);
}

#[test]
fn ending_a_subscription_goes_in_steps() {
    let (mut b, _) = in_steps(&unsubscribe("t", "a"), &["s", "t"]);
    b.apply(ack_up_to("s", EVENTS));
    assert_eq!((b.totals().events, b.totals().bytes), (0, 0));
}

#[test]
fn a_subscription_to_the_past_is_counted_in_steps() {
    let (mut b, mut expected) = in_steps(&subscribe("late", "a", after(7)), &["s", "t", "late"]);
    for bench in [&mut b, &mut expected] {
        bench.commit(&[ack_up_to("s", EVENTS), ack_up_to("t", EVENTS), ack("late", &[9, 11])]);
    }
    assert_eq!(b.totals(), expected.totals());
    assert_eq!(b.totals().events, EVENTS - 9);
}

#[test]
fn a_subscription_to_the_past_may_end_before_it_is_counted() {
    let mut b = Bench::sqlite_with(StoreLimits::default(), 50);
    b.subscribe("s", &["a"]);
    b.commit(&(0..500).map(|_| publish(&["a"], "x")).collect::<Vec<_>>());
    b.reveal();
    b.apply(Change::CreateSubscriber { subscriber: key("late") });
    let now = b.now;
    b.store.commit(&[subscribe("late", "a", after(0))], now).unwrap();
    b.store.commit(&[ack_up_to("s", 500), ack("late", &[3, 400])], now).unwrap();
    b.store.commit(&[unsubscribe("late", "a")], now).unwrap();
    b.settle();
    assert_eq!((b.totals().events, b.totals().bytes), (0, 0));
}

#[test]
fn removing_a_subscriber_goes_in_steps() {
    let (mut b, _) = in_steps(&Change::RemoveSubscriber { subscriber: key("s") }, &["s", "t"]);
    b.apply(ack_up_to("t", EVENTS));
    assert_eq!((b.totals().events, b.totals().bytes), (0, 0));
}

#[test]
fn purging_a_room_goes_in_steps() {
    let purge = Change::PurgeRoom { namespace: NamespacePath::root(), room: room("a"), up_to: EVENTS - 10 };
    let (mut b, _) = in_steps(&purge, &["s", "t"]);
    assert_eq!(b.pending("t").len(), 10);
}

#[test]
fn a_purge_right_after_a_restart_is_carried_out() {
    let mut b = Bench::sqlite(StoreLimits::default());
    b.subscribe("s", &["a"]);
    b.publish(&["a"], "x");
    let mut b = b.reopen();
    b.apply(Change::PurgeRoom { namespace: NamespacePath::root(), room: room("a"), up_to: 1 });
    assert_eq!((b.pending("s"), b.totals().events), (vec![], 0));
}

#[test]
fn handling_the_past_in_bulk_takes_nothing_from_other_subscribers() {
    let handled = [ack_up_to("late", 3), Change::PurgeSubscriber { subscriber: key("late"), up_to: 3 }];
    for (work_rows, handled) in
        [1, WORK_ROWS].into_iter().flat_map(|rows| handled.clone().map(|handled| (rows, handled)))
    {
        let mut b = Bench::sqlite_with(StoreLimits::default(), work_rows);
        b.subscribe("t", &["a"]);
        b.subscribe("late", &[]);
        for _ in 0..3 {
            b.publish(&["a"], "x");
        }
        b.commit(&[subscribe("late", "a", after(0)), handled.clone()]);
        assert_eq!((b.pending("t"), b.totals().events), (vec![1, 2, 3], 3), "{work_rows} {handled:?}");
        b.apply(ack("t", &[1, 2, 3]));
        assert_eq!(b.totals().events, 0);
    }
}

/// The database of a store, opened beside it.
fn database(b: &Bench) -> rusqlite::Connection {
    rusqlite::Connection::open(b.scratch.as_ref().unwrap().path().join("queue.sqlite3")).unwrap()
}

fn count(b: &Bench, sql: &str) -> i64 {
    database(b).query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn acknowledged_ranges_are_deleted_in_steps() {
    for change in [ack_up_to("s", 600), unsubscribe("s", "a")] {
        let mut b = Bench::sqlite_with(StoreLimits::default(), 50);
        b.subscribe("s", &["a"]);
        b.subscribe("t", &["a"]);
        b.commit(&(0..600).map(|_| publish(&["a"], "x")).collect::<Vec<_>>());
        b.reveal();
        b.apply(ack("s", &(1..=600).filter(|number| number % 2 == 0).collect::<Vec<_>>()));
        let now = b.now;
        let mut left = count(&b, "SELECT count(*) FROM acked");
        assert!(left >= 299, "{left}");
        b.store.commit(std::slice::from_ref(&change), now).unwrap();
        while b.store.has_work() {
            let before = std::mem::replace(&mut left, count(&b, "SELECT count(*) FROM acked"));
            assert!(before - left <= 50, "{before} before, {left} after {change:?}");
            b.store.commit(&[], now).unwrap();
        }
        assert!(left <= 50, "{left} ranges in the last step of {change:?}");
        assert_eq!((count(&b, "SELECT count(*) FROM acked"), b.pending("t").len()), (0, 600));
    }
}

#[test]
fn a_step_that_ends_with_the_last_row_is_complete() {
    let mut b = Bench::sqlite_with(StoreLimits::default(), 3);
    b.subscribe("t", &["a"]);
    b.subscribe("late", &[]);
    for _ in 0..3 {
        b.publish(&["a"], "x");
    }
    b.apply(subscribe("late", "a", after(0)));
    assert_eq!(count(&b, "SELECT sum(counting) FROM room"), 0);
    b.apply(ack("late", &[2]));
    b.apply(ack_up_to("late", 3));
    assert_eq!(count(&b, "SELECT count(*) FROM acked"), 0);
}

#[test]
fn freeing_events_of_many_rooms_is_cheap() {
    let mut b = Bench::sqlite(StoreLimits::default());
    let rooms: Vec<String> = (0..1_024).map(|number| format!("room {number:04}")).collect();
    let rooms: Vec<&str> = rooms.iter().map(String::as_str).collect();
    let storing = b.instructions(|b| b.commit(&(0..8).map(|_| publish(&rooms, "x")).collect::<Vec<_>>()));
    let freeing = b.instructions(Bench::reveal);
    assert_eq!(b.totals().events, 0);
    assert!(freeing < 10 * storing, "{freeing} instructions to free what took {storing} to store");
}

#[test]
fn revealed_events_that_were_handled_are_freed_as_fast_as_others_are_stored() {
    let mut b = Bench::sqlite(StoreLimits::default());
    b.subscribe("t", &["bulk"]);
    b.commit(&(0..4_000).map(|_| publish(&["bulk"], "x")).collect::<Vec<_>>());
    b.apply(unsubscribe("t", "bulk"));
    let rooms: Vec<String> = (0..100).map(|number| format!("room {number}")).collect();
    let rooms: Vec<&str> = rooms.iter().map(String::as_str).collect();
    let batch: Vec<Change> = (0..80).map(|_| publish(&rooms, "x")).collect();
    let now = b.now;
    for _ in 0..3 {
        let up_to = b.store.head().number;
        b.store.commit(&batch.iter().cloned().chain([Change::Revealed { up_to }]).collect::<Vec<_>>(), now).unwrap();
    }
    let freed = b.reader.events(&NamespacePath::root(), &[room("room 1")], 4_000, ALL).unwrap();
    assert!(freed.events.len() <= 160, "{} events are left", freed.events.len());
}
