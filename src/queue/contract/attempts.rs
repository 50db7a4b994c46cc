//! Failed deliveries of events that become dead letters, and changes that leave work over.

use super::*;

#[test]
fn the_last_failed_delivery_counts_as_an_attempt_of_a_dead_letter() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        for number in 1..=3 {
            b.publish(&["a"], "x");
            b.apply(failed("s", number, 1, UnixMillis(1)));
            b.apply(failed("s", number, 2, UnixMillis(1)));
        }
        for (number, attempts) in [(1, Some(3)), (2, None)] {
            let reason = String::new();
            b.apply(Change::Term { subscriber: key("s"), number, attempts, reason });
        }
        b.publish(&["a"], "never failed");
        b.apply(term("s", 4));
        let b = &mut b.reopen();
        let attempts = b.dead("s").iter().map(|dead| (dead.number, dead.attempts)).collect::<Vec<_>>();
        assert_eq!(attempts, [(1, 3), (2, 2), (4, 0)], "{}", b.kind);
    });
}

#[test]
fn the_first_failed_delivery_is_found() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        for _ in 1..=4 {
            b.publish(&["a"], "x");
        }
        b.commit(&[failed("s", 2, 1, UnixMillis(1)), failed("s", 4, 1, UnixMillis(1))]);
        let mut first = |from| b.reader.first_failed(&key("s"), from).unwrap();
        assert_eq!([first(1), first(2), first(3), first(5)], [Some(2), Some(2), Some(4), None], "{}", b.kind);
        assert_eq!(b.reader.first_failed(&key("t"), 1).unwrap(), None, "{}", b.kind);
    });
}

#[test]
fn purging_and_removing_are_complete_although_work_is_left_over() {
    both(|b| {
        let mut b = b.reopen_with(2);
        b.subscribe("s", &["a", "b"]);
        let publish_ten = |b: &mut Bench| b.commit(&(0..10).map(|_| publish(&["a", "b"], "x")).collect::<Vec<_>>());
        publish_ten(&mut b);
        // Without the work that is left over.
        let commit = |b: &mut Bench, change: Change| b.store.commit(&[change], b.now).unwrap();
        let purged = commit(&mut b, Change::PurgeSubscriber { subscriber: key("s"), up_to: 9 });
        assert_eq!((purged, b.pending("s")), (vec![Outcome::Done], vec![10]), "{}", b.kind);
        publish_ten(&mut b);
        let removed = commit(&mut b, Change::RemoveSubscriber { subscriber: key("s") });
        assert_eq!((removed, b.pending("s")), (vec![Outcome::Done], vec![]), "{}", b.kind);
        assert_eq!(b.reader.subscriber(&key("s")).unwrap(), None);
        b.settle();
        b.reveal();
        assert_eq!(sizes(&mut b), (0, 0), "{}", b.kind);
    });
}

#[test]
fn a_read_passes_over_a_bounded_number_of_events_that_wait() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        let waiting = PASSED_MAX as u64 + 500;
        b.commit(&(0..=waiting).map(|_| publish(&["a"], "x")).collect::<Vec<_>>());
        let later = UnixMillis(b.now.0 + 1_000);
        b.commit(&(1..=waiting).map(|number| failed("s", number, 1, later)).collect::<Vec<_>>());
        let mut read = |after| {
            let page = b.reader.deliverable(&key("s"), after, &[], b.now, ALL).unwrap();
            (page.fresh.len(), page.next, page.has_more, page.next_due)
        };
        assert_eq!(read(0), (0, PASSED_MAX as u64, true, Some(later)), "{}", b.kind);
        assert_eq!(read(PASSED_MAX as u64), (1, waiting + 1, false, Some(later)), "{}", b.kind);
    });
}

#[test]
fn retries_that_ended_a_moment_ago_are_read_again_after_a_pause() {
    both(|b| {
        let mut b = b.reopen_with(2);
        // Keeps the events.
        b.subscribe("other", &["a"]);
        b.subscribe("s", &["a", "b"]);
        let ended = PASSED_MAX as u64 + 100;
        b.commit(&(0..ended).map(|_| publish(&["a"], "x")).collect::<Vec<_>>());
        b.commit(&[publish(&["b"], "x")]);
        b.commit(&(1..=ended + 1).map(|number| failed("s", number, 1, UnixMillis(number))).collect::<Vec<_>>());
        // Without the work that is left over.
        b.store.commit(&[unsubscribe("s", "a")], b.now).unwrap();
        let read = |b: &mut Bench| {
            let page = b.reader.deliverable(&key("s"), ended + 1, &[], b.now, ALL).unwrap();
            let due: Vec<u64> = page.due.iter().map(|event| event.number).collect();
            (due, page.has_more, page.next_due)
        };
        let passed = (Vec::new(), false, Some(b.now.plus(PASSED_PAUSE)));
        let found = (vec![ended + 1], false, None);
        let expected = if b.kind == "sqlite" { &passed } else { &found };
        assert_eq!(read(&mut b), *expected, "{}", b.kind);
        b.settle();
        assert_eq!(read(&mut b), found, "{}", b.kind);
    });
}

#[test]
fn failed_deliveries_end_with_what_is_pending() {
    both(|mut b| {
        // Keeps the events.
        b.subscribe("other", &["a", "b"]);
        b.subscribe("s", &["a", "b"]);
        b.publish(&["a"], "1");
        b.publish(&["a", "b"], "2");
        b.apply(failed("s", 1, 1, UnixMillis(1)));
        b.apply(failed("s", 2, 1, UnixMillis(1)));
        let attempts = |b: &mut Bench| {
            b.apply(subscribe("s", "a", after(0)));
            b.page("s", 0, ALL).events.iter().map(|event| (event.number, event.attempts)).collect::<Vec<_>>()
        };
        b.apply(unsubscribe("s", "a"));
        assert_eq!(attempts(&mut b), [(1, 0), (2, 1)], "{}: one is pending through the other room", b.kind);
        b.apply(unsubscribe("s", "a"));
        let purge = Change::PurgeRoom { namespace: NamespacePath::root(), room: room("b"), up_to: 2 };
        b.apply(purge);
        assert_eq!(attempts(&mut b), [(1, 0), (2, 0)], "{}", b.kind);
    });
}
