//! Receipts, numbers, deduplication, and for whom an event is pending.

use super::*;

#[test]
fn an_event_is_pending_for_subscriptions_that_began_before_it() {
    both(|mut b| {
        b.subscribe("early", &["a"]);
        assert_eq!(b.publish(&["a"], "1").pending_for, 1);
        b.subscribe("late", &["a"]);
        assert_eq!(b.publish(&["a"], "2").pending_for, 2);
        assert_eq!(b.publish(&["b"], "3").pending_for, 0);
        assert_eq!(b.pending("early"), [1, 2]);
        assert_eq!(b.pending("late"), [2]);
        b.apply(unsubscribe("early", "a"));
        assert_eq!(b.pending("early"), [0; 0], "an ended subscription has nothing pending");
        b.apply(subscribe("early", "a", StartPosition::Now));
        assert_eq!(b.publish(&["a"], "4").pending_for, 2);
        assert_eq!((b.pending("early"), b.pending("late")), (vec![4], vec![2, 4]));
    });
}

#[test]
fn an_event_of_several_rooms_is_pending_once_through_an_own_room() {
    both(|mut b| {
        b.subscribe("s", &["b", "c"]);
        b.subscribe("t", &["c"]);
        let receipt = b.publish(&["a", "c", "b", "c"], "x");
        assert_eq!(receipt.pending_for, 2);
        let page = b.page("s", 0, ALL);
        assert_eq!((numbers(&page), page.events[0].room.as_str()), (vec![1], "b"));
        assert_eq!(b.page("t", 0, ALL).events[0].room.as_str(), "c");
        assert_eq!(b.apply(ack("s", &[1])), Outcome::Acked { events: 1 });
        assert_eq!((b.pending("s"), b.pending("t")), (vec![], vec![1]));
        b.apply(ack("t", &[1]));
        assert_eq!(b.totals().events, 0);
        assert_eq!(b.publish(&["a", "c", "b"], "y").pending_for, 2);
        b.apply(unsubscribe("s", "b"));
        assert_eq!(b.publish(&["b", "c"], "z").pending_for, 2, "through the other room");
        b.apply(unsubscribe("s", "c"));
        assert_eq!(b.publish(&["b", "c"], "z").pending_for, 1);
    });
}

#[test]
fn a_subscriber_belongs_to_its_namespace() {
    both(|mut b| {
        let other = SubscriberKey { namespace: NamespacePath::parse("/other").unwrap(), ..key("s") };
        b.subscribe("s", &["a"]);
        b.commit(&[
            Change::CreateSubscriber { subscriber: other.clone() },
            Change::Subscribe { subscriber: other.clone(), room: room("a"), from: StartPosition::Now },
        ]);
        assert_eq!(b.publish(&["a"], "x").pending_for, 1);
        assert_eq!(b.pending("s"), [1]);
        assert_eq!(b.reader.pending(&other, 0, ALL).unwrap().events, []);
    });
}

#[test]
fn an_event_is_read_as_it_was_published() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        let mut event = event(&["a"], "text");
        event.payload.attachments = vec![Bytes::from_static(b"one"), Bytes::new(), Bytes::from_static(&[0, 255])];
        event.expires_at = Some(UnixMillis(5_000_000));
        b.apply(Change::Publish(Box::new(event.clone())));
        let mut b = b.reopen();
        let read = b.page("s", 0, ALL).events.remove(0);
        assert_eq!((&read.payload, &read.origin), (&event.payload, &event.origin));
        assert_eq!((read.published_at, read.expires_at), (b.now, event.expires_at));
        assert_eq!((read.attempts, read.retry_at, read.replay_of), (0, None, None));
    });
}

#[test]
fn a_number_is_never_used_twice() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        for _ in 0..3 {
            b.publish(&["a"], "x");
        }
        b.apply(Change::PurgeRoom { namespace: NamespacePath::root(), room: room("a"), up_to: 3 });
        b.ack_gaps("s");
        assert_eq!(b.totals().events, 0);
        let mut b = b.reopen();
        assert_eq!(b.publish(&["a"], "x").offset, QueueOffset { epoch: EPOCH, number: 4 });
        b.apply(ack("s", &[4]));
        let mut b = b.reopen();
        assert_eq!(b.publish(&["a"], "x").offset.number, 5);
    });
}

#[test]
fn a_repeated_dedup_id_gets_the_first_receipt() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        let first = receipt(b.apply(publish_once("id", &["a"], "x")));
        b.subscribe("t", &["a"]);
        b.reveal();
        let again = PublishReceipt { duplicate: true, ..first };
        assert_eq!(
            b.commit(&[publish_once("id", &["a"], "x"), publish_once("id", &["a"], "x")]),
            [Outcome::Published(again), Outcome::Published(again)]
        );
        b.apply(ack("s", &[1]));
        b.apply(Change::PurgeRoom { namespace: NamespacePath::root(), room: room("a"), up_to: 1 });
        let mut b = b.reopen();
        assert_eq!(receipt(b.apply(publish_once("id", &["a"], "x"))), again, "after restart and purge");
        assert_eq!(b.pending("s"), [0; 0]);
        let conflict = Outcome::Refused(Refusal::Conflict { first: 1 });
        assert_eq!(b.apply(publish_once("id", &["a"], "y")), conflict);
        assert_eq!(b.apply(publish_once("id", &["b"], "x")), conflict);
    });
}

#[test]
fn two_equal_dedup_ids_in_one_batch_store_one_event() {
    both(|mut b| {
        let outcomes =
            b.commit(&[publish_once("i", &["a"], "x"), publish_once("i", &["a"], "x"), publish_once("i", &["a"], "z")]);
        let Outcome::Published(first) = outcomes[0] else { panic!("{:?}", outcomes[0]) };
        assert_eq!(first.offset, QueueOffset { epoch: EPOCH, number: 1 });
        assert!(!first.duplicate && first.pending_for == 0, "{first:?}");
        assert_eq!(outcomes[1], Outcome::Published(PublishReceipt { duplicate: true, ..first }));
        assert_eq!(outcomes[2], Outcome::Refused(Refusal::Conflict { first: 1 }));
        assert_eq!(b.totals().head.number, 1);
    });
}

#[test]
fn a_dedup_window_is_counted_from_the_first_event() {
    both(|mut b| {
        let window = b.limits.dedup_window;
        b.apply(publish_once("id", &["a"], "x"));
        b.wait(window - Duration::from_millis(1));
        b.expire();
        assert!(receipt(b.apply(publish_once("id", &["a"], "x"))).duplicate);
        b.wait(Duration::from_millis(1));
        assert!(!receipt(b.apply(publish_once("id", &["a"], "y"))).duplicate, "also before it was removed");
        assert_eq!(b.totals().dedup_ids, 2);
        b.expire();
        assert_eq!(b.totals().dedup_ids, 1);
        let again = receipt(b.apply(publish_once("id", &["a"], "y")));
        assert_eq!((again.duplicate, again.offset.number), (true, 2));
    });
}

#[test]
fn a_page_ends_at_its_limits_and_names_where_to_read_on() {
    both(|mut b| {
        b.subscribe("s", &["a", "b", "c"]);
        for number in 0..30 {
            let rooms = [&["a"][..], &["b"], &["c", "a"]][number % 3];
            b.publish(rooms, "0123456789");
        }
        let mut after = 0;
        let mut read = Vec::new();
        loop {
            let page = b.page("s", after, PageLimit { events: 7, bytes: usize::MAX });
            read.extend(numbers(&page));
            after = page.next;
            if !page.has_more {
                break;
            }
            assert_eq!(page.events.len(), 7);
        }
        assert_eq!(read, (1..=30).collect::<Vec<_>>());
        let page = b.page("s", 0, PageLimit { events: 100, bytes: 25 });
        assert_eq!((numbers(&page), page.next, page.has_more), (vec![1, 2], 2, true));
        let page = b.page("s", 0, PageLimit { events: 100, bytes: 1 });
        assert_eq!(numbers(&page), [1], "a page has an event if there is one");
        let page = b.reader.events(&NamespacePath::root(), &[room("a")], 4, PageLimit { events: 3, bytes: usize::MAX });
        let page = page.unwrap();
        assert_eq!((numbers(&page), page.next, page.has_more), (vec![6, 7, 9], 9, true));
    });
}

#[test]
fn unrevealed_events_are_listed_with_their_rooms_and_kept() {
    both(|mut b| {
        b.commit(&[publish(&["a"], "1"), publish(&["b", "a"], "2")]);
        let mut b = b.reopen();
        let unrevealed = b.reader.unrevealed(1, ALL).unwrap().events;
        let rooms: Vec<_> = unrevealed[0].rooms.iter().map(RoomName::as_str).collect();
        assert_eq!((unrevealed.len(), unrevealed[0].event.number, rooms), (1, 2, vec!["a", "b"]));
        assert_eq!(b.totals().events, 2, "kept until it was revealed, although it is pending for nobody");
        b.apply(Change::Revealed { up_to: 1 });
        assert_eq!((b.totals().events, b.totals().revealed), (1, 1));
        b.apply(Change::Revealed { up_to: 9 });
        assert_eq!((b.totals().events, b.totals().revealed), (0, 2));
    });
}

#[test]
fn an_event_acknowledged_before_it_was_revealed_is_freed_afterwards() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        b.apply(publish(&["a"], "x"));
        b.apply(ack("s", &[1]));
        assert_eq!((b.pending("s"), b.totals().events), (vec![], 1));
        b.reveal();
        assert_eq!(b.totals().events, 0);
    });
}

#[test]
fn unrevealed_events_are_read_in_pages_past_replays_and_damage() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        b.publish(&["a"], "dead");
        b.apply(term("s", 1));
        b.apply(publish(&["a"], "2"));
        b.apply(Change::ReplayDead { subscriber: key("s"), numbers: None });
        b.commit(&[publish(&["a"], "4"), publish(&["a"], "5")]);
        let is_damaged = b.kind == "sqlite";
        if is_damaged {
            let file = b.scratch.as_ref().unwrap().path().join("queue.sqlite3");
            let database = rusqlite::Connection::open(file).unwrap();
            database.execute("UPDATE event SET origin = x'00' WHERE number = 4", []).unwrap();
        }
        let (mut read, mut damaged, mut after) = (vec![], vec![], 1);
        loop {
            let page = b.reader.unrevealed(after, PageLimit { events: 1, bytes: 1 }).unwrap();
            read.extend(page.events.iter().map(|unrevealed| unrevealed.event.number));
            damaged.extend(page.damaged.iter().map(|damaged| damaged.number));
            after = page.next;
            if !page.has_more {
                break;
            }
        }
        let expected = if is_damaged { (vec![2, 5], vec![4]) } else { (vec![2, 4, 5], vec![]) };
        assert_eq!((read, damaged), expected);
    });
}

#[test]
fn an_expiry_beyond_all_time_is_read_without_damage() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        b.apply(Change::Publish(Box::new(Publish { expires_at: Some(UnixMillis(u64::MAX)), ..event(&["a"], "x") })));
        let page = b.page("s", 0, ALL);
        assert_eq!((numbers(&page), page.events[0].expires_at), (vec![1], Some(UnixMillis(i64::MAX as u64))));
    });
}
