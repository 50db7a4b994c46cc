//! Acknowledgements, dead letters, gaps, purging, and when an event is freed.

use super::*;

#[test]
fn an_event_is_freed_when_its_last_subscriber_has_acknowledged_it() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        b.subscribe("t", &["a", "b"]);
        b.publish(&["a", "b"], "1");
        b.publish(&["a"], "2");
        b.apply(ack("t", &[2, 1]));
        assert_eq!((sizes(&mut b).0, b.pending("t"), b.pending("s")), (2, vec![], vec![1, 2]));
        b.apply(ack("s", &[2]));
        assert_eq!((sizes(&mut b).0, b.pending("s")), (1, vec![1]));
        b.apply(ack("s", &[1]));
        assert_eq!(sizes(&mut b), (0, 0), "rows and bytes");
        b.expire();
        assert_eq!(b.reader.events(&NamespacePath::root(), &[room("a")], 0, ALL).unwrap().removed_to, 2);
    });
}

#[test]
fn acknowledgements_in_any_order_leave_what_is_open() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        b.subscribe("other", &["a"]);
        for _ in 0..9 {
            b.publish(&["a"], "x");
        }
        b.apply(ack("s", &[5, 3, 9, 1]));
        assert_eq!(b.pending("s"), [2, 4, 6, 7, 8]);
        b.apply(ack("s", &[4, 8]));
        b.apply(ack("s", &[2]));
        assert_eq!(b.pending("s"), [6, 7]);
        let mut b = b.reopen();
        assert_eq!(b.apply(ack("s", &[7, 7, 2, 99])), Outcome::Acked { events: 1 }, "twice, before, never sent");
        assert_eq!(b.pending("s"), [6]);
        assert_eq!(b.apply(ack("s", &[6])), Outcome::Acked { events: 1 });
        assert_eq!((b.pending("s"), b.pending("other").len()), (vec![], 9));
    });
}

#[test]
fn acknowledging_up_to_a_number_acknowledges_all_before_it() {
    both(|mut b| {
        b.subscribe("s", &["a", "b"]);
        b.subscribe("t", &["b"]);
        for number in 0..10 {
            b.publish(if number % 2 == 0 { &["a"] } else { &["b", "a"] }, "x");
        }
        b.apply(ack("s", &[4, 8]));
        assert_eq!(b.apply(ack_up_to("s", 6)), Outcome::Done);
        assert_eq!(b.pending("s"), [7, 9, 10]);
        assert_eq!(sizes(&mut b).0, 5 + 2, "five for the other subscriber");
        b.apply(ack_up_to("s", 10));
        b.apply(ack_up_to("s", 2));
        b.apply(ack_up_to("t", 10));
        assert_eq!((b.pending("s"), sizes(&mut b)), (vec![], (0, 0)));
        let beyond = Outcome::Refused(Refusal::BeyondHead { number: 11, head: 10 });
        assert_eq!(b.apply(ack_up_to("s", 11)), beyond);
    });
}

#[test]
fn another_subscribers_event_cannot_be_acknowledged() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        b.subscribe("t", &["b"]);
        b.publish(&["a"], "x");
        assert_eq!(b.apply(ack("t", &[1])), Outcome::Acked { events: 0 });
        assert_eq!(b.apply(term("t", 1)), Outcome::Refused(Refusal::NotPending { number: 1 }));
        assert_eq!(b.pending("s"), [1]);
    });
}

#[test]
fn ending_a_subscription_frees_what_only_it_kept() {
    both(|mut b| {
        b.subscribe("s", &["a", "b"]);
        b.subscribe("t", &["a"]);
        b.publish(&["a"], "1");
        b.publish(&["a", "b"], "2");
        b.publish(&["b"], "3");
        b.apply(ack("s", &[1]));
        b.apply(unsubscribe("s", "a"));
        assert_eq!((b.pending("s"), sizes(&mut b).0), (vec![2, 3], 3));
        b.apply(unsubscribe("t", "a"));
        assert_eq!(sizes(&mut b).0, 2);
        b.apply(unsubscribe("s", "b"));
        assert_eq!(sizes(&mut b), (0, 0));
        assert_eq!(b.apply(unsubscribe("s", "b")), Outcome::Done);
    });
}

#[test]
fn a_removed_subscriber_keeps_nothing() {
    both(|mut b| {
        b.subscribe("s", &["a", "b"]);
        b.subscribe("t", &["a"]);
        for _ in 0..5 {
            b.publish(&["a", "b"], "x");
        }
        b.apply(term("s", 3));
        b.apply(Change::RemoveSubscriber { subscriber: key("s") });
        b.apply(ack_up_to("t", 5));
        assert_eq!((sizes(&mut b), b.totals().dead_letters, b.totals().subscribers), ((0, 0), 0, 1));
        assert_eq!(b.reader.subscriber(&key("s")).unwrap(), None);
        assert_eq!(b.apply(ack("s", &[1])), Outcome::Refused(Refusal::UnknownSubscriber));
        b.subscribe("s", &["a"]);
        assert_eq!((b.pending("s"), b.dead("s").len()), (vec![], 0));
    });
}

#[test]
fn a_subscription_to_the_past_has_what_is_stored() {
    both(|mut b| {
        b.subscribe("keeper", &["a"]);
        for _ in 0..5 {
            b.publish(&["a"], "x");
        }
        b.apply(Change::CreateSubscriber { subscriber: key("s") });
        assert_eq!(b.apply(subscribe("s", "a", after(2))), Outcome::Subscribed { after: 2, is_new: true });
        assert_eq!(b.apply(subscribe("s", "a", after(0))), Outcome::Subscribed { after: 2, is_new: false });
        assert_eq!(b.pending("s"), [3, 4, 5]);
        b.apply(ack_up_to("keeper", 5));
        assert_eq!((b.pending("s"), sizes(&mut b).0), (vec![3, 4, 5], 3), "kept for it");
        b.apply(ack("s", &[3, 4, 5]));
        assert_eq!(sizes(&mut b), (0, 0));
        b.apply(unsubscribe("s", "a"));
        b.apply(subscribe("s", "a", after(1)));
        assert_eq!(b.gaps("s"), [gap(2, 5, None, GapReason::NotRetained)]);
        b.ack_gaps("s");
        assert_eq!(b.gaps("s"), []);
    });
}

#[test]
fn a_subscription_refuses_foreign_and_future_offsets() {
    both(|mut b| {
        b.subscribe("s", &[]);
        let foreign = StartPosition::After(QueueOffset { epoch: Epoch::new(1, 1), number: 0 });
        assert_eq!(b.apply(subscribe("s", "a", foreign)), Outcome::Refused(Refusal::ForeignEpoch));
        let beyond = Outcome::Refused(Refusal::BeyondHead { number: 1, head: 0 });
        assert_eq!(b.apply(subscribe("s", "a", after(1))), beyond);
        assert_eq!(b.apply(subscribe("t", "a", StartPosition::Now)), Outcome::Refused(Refusal::UnknownSubscriber));
    });
}

#[test]
fn a_given_up_event_is_a_dead_letter_and_can_be_replayed() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        b.subscribe("t", &["a"]);
        b.publish(&["a"], "poison");
        let failed = failed("s", 1, 3, UnixMillis(9));
        b.apply(failed.clone());
        let event = &b.page("s", 0, ALL).events[0];
        assert_eq!((event.attempts, event.retry_at), (3, Some(UnixMillis(9))));
        let mut b = b.reopen();
        assert_eq!(b.page("s", 0, ALL).events[0].attempts, 3, "kept over a restart");
        assert_eq!(b.page("t", 0, ALL).events[0].attempts, 0);
        b.apply(term("s", 1));
        assert_eq!(b.apply(failed), Outcome::Refused(Refusal::NotPending { number: 1 }));
        b.apply(ack("t", &[1]));
        assert_eq!((b.pending("s"), b.totals().events, b.totals().dead_letters), (vec![], 0, 1));
        let dead = b.dead("s").remove(0);
        assert_eq!((dead.number, dead.room.as_str(), dead.attempts), (1, "a", 3));
        assert_eq!((dead.reason.as_str(), &dead.payload, dead.dead_at), ("poison", &payload("poison"), b.now));
        let replay = Change::ReplayDead { subscriber: key("s"), numbers: None };
        assert_eq!(b.apply(replay.clone()), Outcome::Replayed { events: vec![(1, 2)], has_more: false });
        let event = b.page("s", 0, ALL).events.remove(0);
        assert_eq!((event.number, event.room.as_str(), event.replay_of, event.attempts), (2, "a", Some(1), 0));
        assert_eq!((b.pending("t"), b.dead("s").len()), (vec![], 0));
        assert_eq!(b.apply(replay), Outcome::Replayed { events: vec![], has_more: false });
        assert_eq!(b.reader.subscriber(&key("s")).unwrap().unwrap().rooms, [room("a")]);
        b.reveal();
        b.apply(ack("s", &[2]));
        assert_eq!(sizes(&mut b), (0, 0));
    });
}

#[test]
fn the_oldest_of_too_many_dead_letters_becomes_a_gap() {
    let limits = StoreLimits { dead_letters_max: 2, ..StoreLimits::default() };
    with_limits(&limits, |mut b| {
        b.subscribe("s", &["a"]);
        for number in 1..=4 {
            b.publish(&["a"], "x");
            b.apply(term("s", number));
        }
        assert_eq!(b.dead("s").iter().map(|dead| dead.number).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(b.gaps("s"), [gap(1, 2, Some(2), GapReason::TooManyDead)]);
        b.ack_gaps("s");
        assert_eq!((b.gaps("s"), b.totals().dead_letters), (vec![], 2));
    });
}

#[test]
fn a_purged_room_leaves_gaps_for_what_was_not_acknowledged() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        b.subscribe("both", &["a", "b"]);
        for number in 1..=6 {
            b.publish(if number == 4 { &["a", "b"] } else { &["a"] }, "x");
        }
        b.apply(ack("s", &[2]));
        b.apply(Change::PurgeRoom { namespace: NamespacePath::root(), room: room("a"), up_to: 5 });
        assert_eq!((b.pending("s"), b.gaps("s")), (vec![6], vec![gap(1, 5, Some(4), GapReason::Purged)]));
        assert_eq!(b.pending("both"), [4, 6], "an event of another room is still pending through it");
        let apart = [gap(1, 3, Some(3), GapReason::Purged), gap(5, 5, Some(1), GapReason::Purged)];
        assert_eq!(b.gaps("both"), apart);
        let part = gap(1, 3, Some(2), GapReason::Purged);
        b.apply(ack_gap("s", part));
        assert_eq!(b.gaps("s"), [gap(4, 5, Some(2), GapReason::Purged)]);
        let mut b = b.reopen();
        b.apply(ack_up_to("s", 6));
        assert_eq!((b.pending("s"), b.gaps("s")), (vec![], vec![]));
        b.ack_gaps("both");
        assert_eq!((b.pending("both"), b.gaps("both")), (vec![4, 6], vec![]));
        b.apply(ack("both", &[4, 6]));
        assert_eq!(sizes(&mut b), (0, 0));
    });
}

#[test]
fn a_purged_subscriber_gets_a_gap_if_something_was_pending() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        b.subscribe("t", &["a"]);
        let purge = Change::PurgeSubscriber { subscriber: key("s"), up_to: 3 };
        b.apply(purge.clone());
        assert_eq!(b.gaps("s"), []);
        for _ in 0..4 {
            b.publish(&["a"], "x");
        }
        b.apply(ack("s", &[1]));
        b.apply(purge);
        assert_eq!((b.pending("s"), b.pending("t")), (vec![4], vec![1, 2, 3, 4]));
        assert_eq!(b.gaps("s"), [gap(2, 3, None, GapReason::Purged)]);
    });
}

#[test]
fn subscribers_are_listed_in_order() {
    both(|mut b| {
        for name in ["b", "a", "d", "c"] {
            b.subscribe(name, &["r2", "r1"]);
        }
        let list = |b: &mut Bench, after: Option<&str>, limit| {
            let infos = b.reader.subscribers(after.map(key).as_ref(), limit).unwrap();
            infos.into_iter().map(|info| info.key.name.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(list(&mut b, None, 3), ["a", "b", "c"]);
        assert_eq!(list(&mut b, Some("c"), 3), ["d"]);
        let info = b.reader.subscriber(&key("a")).unwrap().unwrap();
        assert_eq!((info.rooms, info.created_at), (vec![room("r1"), room("r2")], b.now));
    });
}

#[test]
fn a_backlog_is_counted_up_to_a_bound() {
    both(|mut b| {
        b.subscribe("s", &["a", "b"]);
        let at = b.now;
        for _ in 0..5 {
            b.publish(&["a", "b"], "x");
            b.wait(Duration::from_secs(1));
        }
        b.apply(ack("s", &[1]));
        let backlog = b.reader.backlog(&key("s"), 3).unwrap();
        assert_eq!((backlog.events, backlog.is_capped), (3, true));
        let backlog = b.reader.backlog(&key("s"), 4).unwrap();
        assert_eq!((backlog.events, backlog.is_capped, backlog.oldest_at), (4, false, Some(UnixMillis(at.0 + 1000))));
    });
}

#[test]
fn an_acknowledgement_and_a_reason_are_bounded() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        b.publish(&["a"], "x");
        let refused = Outcome::Refused(Refusal::TooManyNumbers { numbers: 1025 });
        assert_eq!(b.apply(ack("s", &[1; 1025])), refused);
        b.apply(Change::Term { subscriber: key("s"), number: 1, attempts: None, reason: "ä".repeat(1_000) });
        assert_eq!(b.dead("s")[0].reason, "ä".repeat(512));
    });
}

#[test]
fn a_gap_is_confirmed_as_far_as_it_was_reported() {
    let rule =
        crate::queue::limits::RetentionRule { pattern: "kept".into(), max_events: Some(1), ..Default::default() };
    let limits = StoreLimits { gaps_per_room_max: 1, retention: vec![rule], ..StoreLimits::default() };
    with_limits(&limits, |mut b| {
        b.subscribe("s", &["a", "kept"]);
        let expires_at = Some(UnixMillis(b.now.0 + 1_000));
        for expires_at in [None, expires_at, None] {
            b.apply(Change::Publish(Box::new(Publish { expires_at, ..event(&["a"], "x") })));
            b.reveal();
        }
        b.apply(term("s", 3));
        b.apply(Change::PurgeSubscriber { subscriber: key("s"), up_to: 1 });
        let reported = b.gaps("s");
        b.wait(Duration::from_secs(1));
        b.expire();
        for gap in reported {
            b.apply(ack_gap("s", gap));
        }
        assert_eq!(b.gaps("s"), [gap(2, 2, Some(1), GapReason::Expired)], "removed after the report");
        b.ack_gaps("s");
        // Events 4 and 5 are lost one after the other.
        for _ in 0..4 {
            b.publish(&["kept"], "x");
        }
        let lost = b.gaps("s").remove(0);
        assert_eq!((lost.to, lost.events), (5, None));
        b.publish(&["kept"], "x");
        b.apply(ack_gap("s", lost));
        assert_eq!(b.gaps("s")[0], gap(6, 6, None, GapReason::Trimmed), "lost after the report");
    });
}

#[test]
fn a_gap_has_as_many_events_as_one_change_may_confirm() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        b.commit(&(0..1_500).map(|_| publish(&["a"], "x")).collect::<Vec<_>>());
        b.reveal();
        b.apply(Change::PurgeRoom { namespace: NamespacePath::root(), room: room("a"), up_to: 1_500 });
        b.apply(ack_gap("s", gap(1, 1_500, Some(1_500), GapReason::Purged)));
        let page = b.reader.gaps(&key("s"), 0, 100_000).unwrap();
        assert_eq!(page.gaps, [gap(1, 1_024, Some(1_024), GapReason::Purged)]);
        assert_eq!((page.next, page.has_more), (1_024, true));
        b.ack_gaps("s");
        assert_eq!(b.gaps("s"), [gap(1_025, 1_500, Some(476), GapReason::Purged)]);
        b.ack_gaps("s");
        assert_eq!(b.gaps("s"), []);
    });
}

#[test]
fn a_lost_range_is_reported_although_its_last_event_was_handled() {
    let rule =
        crate::queue::limits::RetentionRule { pattern: "kept".into(), max_events: Some(1), ..Default::default() };
    let limits = StoreLimits { gaps_per_room_max: 1, retention: vec![rule], ..StoreLimits::default() };
    with_limits(&limits, |mut b| {
        b.subscribe("s", &["kept"]);
        b.subscribe("t", &["kept"]);
        b.commit(&[publish(&["kept"], "1"), publish(&["kept"], "2"), ack("s", &[2])]);
        b.reveal();
        for _ in 0..2 {
            b.publish(&["kept"], "x");
        }
        assert_eq!(b.gaps("s")[0], gap(1, 2, None, GapReason::Trimmed));
    });
}

#[test]
fn acknowledging_freed_events_is_cheap_with_many_subscriptions() {
    let mut b = Bench::sqlite(StoreLimits::default());
    let rooms: Vec<String> = (0..1_000).map(|number| format!("room {number}")).collect();
    b.apply(Change::CreateSubscriber { subscriber: key("s") });
    let subscriptions: Vec<Change> = rooms.iter().map(|room| subscribe("s", room, StartPosition::Now)).collect();
    b.commit(&subscriptions);
    b.commit(&(0..1_024).map(|_| publish(&["other"], "x")).collect::<Vec<_>>());
    b.reveal();
    let numbers: Vec<_> = (1..=1_024).collect();
    let used = b.instructions(|b| assert_eq!(b.apply(ack("s", &numbers)), Outcome::Acked { events: 0 }));
    assert!(used < 100 * 1_024, "{used} instructions for 1024 acks");
}

#[test]
fn dead_letters_are_read_in_pages() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        for number in 1..=5 {
            b.publish(&["a"], "0123456789");
            b.apply(term("s", number));
        }
        let mut page = |after, events, bytes| {
            let page = b.reader.dead_letters(&key("s"), after, PageLimit { events, bytes }).unwrap();
            (page.dead_letters.len(), page.next, page.has_more)
        };
        assert_eq!(page(0, 2, usize::MAX), (2, 2, true));
        assert_eq!(page(2, 9, 25), (2, 4, true));
        assert_eq!(page(2, 9, 1), (1, 3, true));
        assert_eq!(page(2, 3, 99), (3, 5, false));
    });
}

#[test]
fn a_replayed_dead_letter_is_freed_without_being_revealed() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        b.publish(&["a"], "x");
        b.apply(term("s", 1));
        b.apply(Change::ReplayDead { subscriber: key("s"), numbers: None });
        b.apply(ack("s", &[2]));
        assert_eq!(sizes(&mut b), (0, 0));
    });
}

#[test]
fn a_replay_is_bounded_in_bytes() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        let text = "x".repeat(500_000);
        for number in 1..=5 {
            b.publish(&["a"], &text);
            b.apply(term("s", number));
        }
        let replay = Change::ReplayDead { subscriber: key("s"), numbers: None };
        assert_eq!(b.apply(replay.clone()), Outcome::Replayed { events: vec![(1, 6), (2, 7), (3, 8)], has_more: true });
        assert_eq!(b.apply(replay.clone()), Outcome::Replayed { events: vec![(4, 9), (5, 10)], has_more: false });
        assert_eq!(b.apply(replay), Outcome::Replayed { events: vec![], has_more: false });
    });
}

#[test]
fn a_long_list_of_dead_letters_is_replayed_in_parts() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        b.commit(&(0..300).map(|_| publish(&["a"], "x")).collect::<Vec<_>>());
        b.commit(&(1..=300).map(|number| term("s", number)).collect::<Vec<_>>());
        let replay = |numbers: Vec<u64>| Change::ReplayDead { subscriber: key("s"), numbers: Some(numbers) };
        let list = replay((1..=300).collect());
        assert_eq!(list.bytes(), replay(Vec::new()).bytes() + 300 * 8);
        for expected in [(256, true), (44, false), (0, false)] {
            let outcome = b.apply(list.clone());
            let Outcome::Replayed { events, has_more } = outcome else { panic!("{outcome:?}") };
            assert_eq!((events.len(), has_more), expected, "{}", b.kind);
        }
        assert_eq!(b.totals().dead_letters, 0);
        let refused = Outcome::Refused(Refusal::TooManyNumbers { numbers: 1025 });
        assert_eq!(b.apply(replay(vec![1; 1025])), refused);
    });
}

#[test]
fn due_retries_and_fresh_events_are_read_for_delivery() {
    both(|mut b| {
        b.subscribe("s", &["a", "b"]);
        for number in 1..=7 {
            b.publish(if number % 2 == 0 { &["a"] } else { &["b", "a"] }, "0123456789");
        }
        let at = |seconds: u64| UnixMillis(2_000_000 + seconds * 1_000);
        b.commit(&[
            failed("s", 1, 1, at(2)),
            failed("s", 2, 3, at(9)),
            failed("s", 4, 1, at(1)),
            failed("s", 7, 1, at(1)),
        ]);
        b.commit(&[ack("s", &[7])]);
        let mut b = b.reopen();
        let mut read = |after, except: &[u64], now, limit| {
            let page = b.reader.deliverable(&key("s"), after, except, now, limit).unwrap();
            let numbers = |events: &[DurableEvent]| events.iter().map(|event| event.number).collect::<Vec<_>>();
            assert!(page.due.iter().all(|event| event.attempts > 0 && event.alone == (event.number == 2)));
            (numbers(&page.due), numbers(&page.fresh), page.next, page.has_more, page.next_due)
        };
        let few = |events| PageLimit { events, bytes: usize::MAX };
        assert_eq!(read(0, &[], at(0), ALL), (vec![], vec![3, 5, 6], 6, false, Some(at(1))));
        assert_eq!(read(0, &[], at(2), ALL), (vec![1, 4], vec![3, 5, 6], 6, false, Some(at(9))));
        assert_eq!(read(5, &[4], at(9), ALL), (vec![1, 2], vec![6], 6, false, None));
        assert_eq!(read(0, &[3, 4], at(1), ALL), (vec![], vec![5, 6], 6, false, Some(at(2))));
        assert_eq!(read(0, &[], at(2), few(1)), (vec![4], vec![], 2, true, Some(at(9))));
        assert_eq!(read(0, &[], at(2), few(3)), (vec![1, 4], vec![3], 4, true, Some(at(9))));
        assert_eq!(
            read(0, &[], at(2), PageLimit { events: 9, bytes: 35 }),
            (vec![1, 4], vec![3], 4, true, Some(at(9)))
        );
        assert_eq!(read(0, &[], at(0), PageLimit { events: 9, bytes: 1 }), (vec![], vec![3], 4, true, Some(at(1))));
        b.apply(unsubscribe("s", "a"));
        let page = b.reader.deliverable(&key("s"), 0, &[], at(9), ALL).unwrap();
        assert_eq!((page.due.len(), page.fresh.len(), page.next_due), (1, 2, None), "through the other room");
    });
}

#[test]
fn many_acknowledged_ranges_are_skipped() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        b.subscribe("other", &["a"]);
        b.commit(&(0..1_500).map(|_| publish(&["a"], "x")).collect::<Vec<_>>());
        b.reveal();
        let acked: Vec<u64> = (1..=1_500).filter(|number| number % 2 == 0).collect();
        b.apply(ack("s", &acked));
        b.apply(ack("s", &(301..500).chain(900..1_400).collect::<Vec<_>>()));
        let open = |number: &u64| number % 2 == 1 && !(301..500).contains(number) && !(900..1_400).contains(number);
        let open: Vec<u64> = (1..=1_500).filter(open).collect();
        assert_eq!(b.pending("s"), open);
        let page = b.page("s", 1_000, PageLimit { events: 3, bytes: usize::MAX });
        assert_eq!((numbers(&page), page.has_more), (vec![1_401, 1_403, 1_405], true));
    });
}

#[test]
fn an_ack_up_to_a_number_keeps_gaps() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        b.commit(&[publish(&["a"], "1"), publish(&["a"], "2")]);
        b.reveal();
        b.apply(Change::PurgeSubscriber { subscriber: key("s"), up_to: 1 });
        b.apply(ack_up_to("s", 2));
        assert_eq!((b.pending("s"), b.gaps("s")), (vec![], vec![gap(1, 1, None, GapReason::Purged)]));
    });
}
