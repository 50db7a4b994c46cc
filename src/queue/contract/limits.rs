//! Every bound, filled; retention and expiry.

use super::*;
use crate::queue::limits::RetentionRule;
use crate::queue::record::{SubscriberState, event_bytes};

fn ruled(rule: RetentionRule) -> StoreLimits {
    StoreLimits { retention: vec![RetentionRule { pattern: "kept.*".into(), ..rule }], ..StoreLimits::default() }
}

#[test]
fn publishers_are_refused_from_the_high_water_on() {
    let bytes = event_bytes(&payload("x"), b"origin", 1);
    let limits = StoreLimits { queue_bytes_max: bytes * 10, ..StoreLimits::default() };
    with_limits(&limits, |mut b| {
        b.subscribe("s", &["a"]);
        for _ in 0..8 {
            b.publish(&["a"], "x");
        }
        let refused = b.apply(publish(&["a"], "x"));
        let overloaded = Refusal::Overloaded { what: "bytes", found: bytes * 9, limit: bytes * 8 };
        assert_eq!(refused, Outcome::Refused(overloaded));
        assert_eq!((b.totals().head.number, b.pending("s").len()), (8, 8), "no number is lost, nothing dropped");
        b.apply(ack("s", &[5]));
        assert_eq!(b.publish(&["a"], "x").offset.number, 9, "acknowledged events make room");
    });
}

#[test]
fn a_new_dedup_id_over_the_bound_is_refused_and_none_forgotten() {
    let limits = StoreLimits { dedup_ids_max: 2, ..StoreLimits::default() };
    with_limits(&limits, |mut b| {
        b.commit(&[publish_once("1", &["a"], "x"), publish_once("2", &["a"], "x")]);
        let overloaded = Outcome::Refused(Refusal::Overloaded { what: "dedup_ids", found: 2, limit: 2 });
        assert_eq!(b.apply(publish_once("3", &["a"], "x")), overloaded);
        assert!(receipt(b.apply(publish_once("1", &["a"], "x"))).duplicate);
        assert!(!receipt(b.apply(publish(&["a"], "x"))).duplicate);
        let window = b.limits.dedup_window;
        b.wait(window);
        b.expire();
        assert!(!receipt(b.apply(publish_once("3", &["a"], "x"))).duplicate);
    });
}

#[test]
fn an_event_has_bounded_rooms_bytes_and_ids() {
    let limits = StoreLimits { event_bytes_max: 10, ..StoreLimits::default() };
    with_limits(&limits, |mut b| {
        let names: Vec<String> = (0..1025).map(|number| format!("room {number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(b.apply(publish(&[], "x")), Outcome::Refused(Refusal::Rooms { rooms: 0 }));
        assert_eq!(b.apply(publish(&names, "x")), Outcome::Refused(Refusal::Rooms { rooms: 1025 }));
        b.subscribe("s", &["room 1000"]);
        assert_eq!(b.publish(&names[..1024], "x").pending_for, 1);
        assert_eq!(
            b.apply(publish(&["a"], "0123456789x")),
            Outcome::Refused(Refusal::TooLarge { bytes: 11, limit: 10 })
        );
        assert_eq!(b.apply(publish_once("", &["a"], "x")), Outcome::Refused(Refusal::DedupId { bytes: 0 }));
        let long = "i".repeat(129);
        assert_eq!(b.apply(publish_once(&long, &["a"], "x")), Outcome::Refused(Refusal::DedupId { bytes: 129 }));
        assert!(!receipt(b.apply(publish_once(&long[..128], &["a"], "x"))).duplicate);
        let origin = Publish { origin: Bytes::from(vec![0; 4097]), ..event(&["a"], "x") };
        let refused = b.apply(Change::Publish(Box::new(origin)));
        assert_eq!(refused, Outcome::Refused(Refusal::Origin { bytes: 4097 }));
        b.apply(ack("s", &[1]));
        b.reveal();
        b.expire();
        assert_eq!((b.totals().events, b.totals().bytes), (0, 0));
    });
}

#[test]
fn subscribers_and_subscriptions_are_bounded() {
    let limits = StoreLimits { subscribers_max: 2, subscriptions_per_subscriber_max: 2, ..StoreLimits::default() };
    with_limits(&limits, |mut b| {
        b.subscribe("s", &["a", "b"]);
        b.subscribe("t", &[]);
        let create = Change::CreateSubscriber { subscriber: key("u") };
        assert_eq!(b.apply(create.clone()), Outcome::Refused(Refusal::TooManySubscribers { limit: 2 }));
        let refused = b.apply(subscribe("s", "c", StartPosition::Now));
        assert_eq!(refused, Outcome::Refused(Refusal::TooManySubscriptions { limit: 2 }));
        b.apply(unsubscribe("s", "a"));
        b.apply(subscribe("s", "c", StartPosition::Now));
        b.apply(Change::RemoveSubscriber { subscriber: key("t") });
        assert_eq!(b.apply(create), Outcome::Created { is_new: true, expired_at: None });
    });
}

#[test]
fn an_expired_event_leaves_a_gap() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        let expires_at = Some(UnixMillis(b.now.0 + 1000));
        b.commit(&[Change::Publish(Box::new(Publish { expires_at, ..event(&["a", "b"], "x") })), publish(&["a"], "y")]);
        let has_expired = |b: &mut Bench, up_to| b.reader.has_expired(up_to, b.now).unwrap();
        assert!(!has_expired(&mut b, 2));
        b.wait(Duration::from_secs(1));
        assert!(has_expired(&mut b, 1) && !has_expired(&mut b, 0));
        b.expire();
        assert_eq!(b.pending("s"), [1, 2], "not before it was revealed");
        b.reveal();
        b.expire();
        assert_eq!((b.pending("s"), b.totals().events), (vec![2], 1));
        assert!(!has_expired(&mut b, 2));
        assert_eq!(b.gaps("s"), [gap(1, 1, Some(1), GapReason::Expired)]);
        assert_eq!(b.apply(ack("s", &[1])), Outcome::Acked { events: 1 }, "a gap is acknowledged like an event");
        assert_eq!(b.gaps("s"), []);
    });
}

#[test]
fn a_room_with_a_rule_keeps_handled_events_for_late_subscribers() {
    let age = Duration::from_secs(3600);
    with_limits(&ruled(RetentionRule { max_age: Some(age), ..Default::default() }), |mut b| {
        b.subscribe("s", &["kept.a"]);
        b.publish(&["kept.a"], "1");
        b.publish(&["kept.a", "other"], "2");
        b.apply(ack("s", &[1, 2]));
        let mut b = b.reopen();
        assert_eq!((b.pending("s"), b.totals().events), (vec![], 2));
        b.apply(Change::CreateSubscriber { subscriber: key("late") });
        b.apply(subscribe("late", "kept.a", after(0)));
        assert_eq!((b.pending("late"), b.gaps("late")), (vec![1, 2], vec![]));
        b.apply(ack("late", &[1]));
        b.wait(age);
        b.expire();
        assert_eq!((b.pending("late"), b.totals().events), (vec![], 0));
        assert_eq!((b.gaps("late"), b.gaps("s")), (vec![gap(2, 2, Some(1), GapReason::Trimmed)], vec![]));
    });
}

#[test]
fn a_rule_that_is_taken_away_keeps_nothing() {
    with_limits(&ruled(RetentionRule::default()), |mut b| {
        b.subscribe("s", &["kept.a"]);
        b.publish(&["kept.a"], "1");
        b.apply(ack("s", &[1]));
        assert_eq!(b.totals().events, 1);
        if b.kind == "sqlite" {
            b.limits.retention.clear();
            let mut b = b.reopen();
            b.settle();
            assert_eq!(b.totals().events, 0);
        }
    });
}

#[test]
fn a_rule_bounds_events_and_bytes_of_a_room() {
    let bytes = event_bytes(&payload("x"), b"origin", 1);
    for rule in [
        RetentionRule { max_events: Some(3), ..Default::default() },
        RetentionRule { max_bytes: Some(bytes * 3), ..Default::default() },
    ] {
        with_limits(&ruled(rule), |mut b| {
            b.subscribe("s", &["kept.a"]);
            for _ in 0..5 {
                b.publish(&["kept.a"], "x");
            }
            assert_eq!((b.pending("s"), b.totals().events), (vec![3, 4, 5], 3));
            assert_eq!(b.gaps("s"), [gap(1, 2, Some(2), GapReason::Trimmed)]);
            b.commit(&[publish(&["kept.a"], "x"), publish(&["kept.a"], "x")]);
            b.reveal();
            b.expire();
            assert_eq!(b.pending("s"), [5, 6, 7]);
        });
    }
}

#[test]
fn gaps_of_a_room_past_the_bound_become_one_range() {
    let rule = ruled(RetentionRule { max_events: Some(1), ..Default::default() });
    let limits = StoreLimits { gaps_per_room_max: 2, ..rule };
    with_limits(&limits, |mut b| {
        b.subscribe("s", &["kept.a"]);
        for _ in 0..6 {
            b.publish(&["kept.a"], "x");
        }
        let gaps = [gap(1, 3, None, GapReason::Trimmed), gap(4, 5, Some(2), GapReason::Trimmed)];
        assert_eq!((b.pending("s"), b.gaps("s")), (vec![6], gaps.to_vec()));
        b.subscribe("late", &["kept.a"]);
        assert_eq!(b.gaps("late"), []);
        b.apply(ack_gap("s", gaps[0].clone()));
        assert_eq!(b.gaps("s"), gaps[1..]);
        b.apply(ack_gap("s", gaps[1].clone()));
        assert_eq!((b.pending("s"), b.gaps("s")), (vec![6], vec![]));
    });
}

#[test]
fn a_subscriber_is_seen_until_it_is_detached() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        b.wait(Duration::from_secs(60));
        b.apply(Change::Detach { subscriber: key("s"), sent_up_to: 0 });
        assert_eq!(b.reader.subscriber(&key("s")).unwrap().unwrap().seen_at, b.now);
    });
}

#[test]
fn a_subscriber_that_is_not_seen_expires_and_its_name_is_remembered() {
    both(|mut b| {
        let (expiry, tombstone_for) = (b.limits.subscriber_expiry, b.limits.tombstone_for);
        b.subscribe("away", &["a"]);
        b.subscribe("seen", &["a"]);
        b.publish(&["a"], "x");
        b.wait(expiry - Duration::from_secs(1));
        let seen_at = b.now;
        b.apply(Change::Touch { subscriber: key("seen"), seen_at });
        b.wait(Duration::from_secs(1));
        b.apply(ack("seen", &[1]));
        b.expire();
        assert_eq!(b.totals().subscribers, 2, "subscribers may reconnect after a leap of the clock");
        let mut b = b.reopen();
        b.wait(Duration::from_secs(3500));
        b.expire();
        assert_eq!(b.totals().subscribers, 2);
        b.wait(Duration::from_secs(99));
        b.expire();
        let at = b.now;
        assert_eq!((b.totals().events, b.totals().subscribers), (0, 1));
        let mut b = b.reopen();
        let info = b.reader.subscriber(&key("away")).unwrap().unwrap();
        assert_eq!(info.state, SubscriberState::Expired { at });
        assert_eq!(b.reader.subscribers(None, 9).unwrap().len(), 2);
        assert_eq!(b.apply(ack("away", &[1])), Outcome::Refused(Refusal::SubscriberExpired { at }));
        let create = Change::CreateSubscriber { subscriber: key("away") };
        assert_eq!(b.apply(create.clone()), Outcome::Created { is_new: true, expired_at: Some(at) });
        assert_eq!(b.gaps("away"), [gap(1, 1, None, GapReason::NotRetained)]);
        b.wait(expiry);
        b.expire();
        b.wait(Duration::from_secs(3599));
        b.expire();
        b.wait(Duration::from_secs(1));
        b.expire();
        b.wait(tombstone_for);
        b.expire();
        assert_eq!(b.reader.subscriber(&key("away")).unwrap(), None);
        assert_eq!(b.apply(create), Outcome::Created { is_new: true, expired_at: None });
    });
}

#[test]
fn expiry_works_within_its_budget() {
    both(|mut b| {
        let changes: Vec<Change> = (0..100).map(|number| publish_once(&number.to_string(), &["a"], "x")).collect();
        b.commit(&changes);
        b.reveal();
        let window = b.limits.dedup_window;
        b.wait(window);
        if b.kind == "sqlite" {
            assert_eq!(b.apply(Change::Expire { budget: 30 }), Outcome::Expired { has_more: true, has_new_gaps: true });
            assert_eq!(b.totals().dedup_ids, 70);
        }
        b.expire();
        assert_eq!((b.totals().dedup_ids, b.totals().events), (0, 0));
    });
}

#[test]
fn idle_rooms_are_forgotten_but_not_that_they_had_events() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        b.publish(&["a"], "x");
        b.apply(ack("s", &[1]));
        b.apply(unsubscribe("s", "a"));
        b.expire();
        let page = b.reader.events(&NamespacePath::root(), &[room("a")], 0, ALL).unwrap();
        assert_eq!((page.events.len(), page.removed_to), (0, 1));
        b.apply(subscribe("s", "a", after(0)));
        assert_eq!(b.gaps("s"), [gap(1, 1, None, GapReason::NotRetained)]);
    });
}

#[test]
fn a_time_in_the_future_does_not_stop_expiry() {
    let age = Duration::from_secs(3600);
    with_limits(&ruled(RetentionRule { max_age: Some(age), ..Default::default() }), |mut b| {
        let (now, window) = (b.now, b.limits.dedup_window);
        b.now = UnixMillis(now.0 * 1_000_000);
        b.apply(publish_once("1", &["kept.a"], "x"));
        b.reveal();
        b.now = now;
        b.apply(publish_once("2", &["kept.a"], "x"));
        b.reveal();
        b.expire();
        assert_eq!((b.totals().events, b.totals().dedup_ids), (2, 2));
        b.wait(age);
        b.expire();
        assert_eq!(b.totals().events, 0);
        b.wait(window);
        b.expire();
        assert_eq!(b.totals().dedup_ids, 0);
    });
}

#[test]
fn dead_letters_are_bounded_in_bytes() {
    let bytes = event_bytes(&payload("x"), b"origin", 1);
    let limits = StoreLimits { queue_bytes_max: bytes * 10, ..StoreLimits::default() };
    with_limits(&limits, |mut b| {
        b.subscribe("s", &["a"]);
        b.subscribe("t", &["a"]);
        for _ in 0..8 {
            b.publish(&["a"], "x");
        }
        for number in 1..=8 {
            b.apply(term("s", number));
        }
        assert_eq!(b.totals().bytes, bytes * 10);
        assert_eq!(b.dead("s").iter().map(|dead| dead.number).collect::<Vec<_>>(), [7, 8]);
        assert_eq!(b.gaps("s"), [gap(1, 6, Some(6), GapReason::TooManyDead)]);
    });
}

#[test]
fn an_expiry_says_whether_gaps_arose_since_the_one_before() {
    let rule = RetentionRule { pattern: "few".into(), max_events: Some(1), ..RetentionRule::default() };
    let limits = StoreLimits { retention: vec![rule], ..StoreLimits::default() };
    with_limits(&limits, |mut b| {
        let expired = |b: &mut Bench| match b.apply(Change::Expire { budget: 100 }) {
            Outcome::Expired { has_more: false, has_new_gaps } => has_new_gaps,
            other => panic!("{other:?}"),
        };
        b.subscribe("s", &["few", "b"]);
        b.publish(&["few"], "1");
        // A store that was opened does not know those that its former process left.
        assert!(expired(&mut b) == (b.kind == "sqlite") && !expired(&mut b), "{}", b.kind);
        b.publish(&["few"], "2");
        assert!(expired(&mut b) && !expired(&mut b), "{}: the first event was trimmed", b.kind);
        let mut late = event(&["b"], "3");
        late.expires_at = Some(b.now);
        b.apply(Change::Publish(Box::new(late)));
        b.reveal();
        assert!(expired(&mut b) && !expired(&mut b), "{}: an event has expired", b.kind);
        b.publish(&["b"], "4");
        b.apply(Change::PurgeRoom { namespace: NamespacePath::root(), room: room("b"), up_to: 4 });
        assert!(expired(&mut b), "{}: a room was purged", b.kind);
    });
}

#[test]
fn one_change_confirms_several_gaps_within_a_bound() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        for _ in 0..3 {
            let mut late = event(&["a"], "x");
            late.expires_at = Some(b.now);
            b.apply(Change::Publish(Box::new(late)));
            b.publish(&["a"], "kept");
        }
        b.expire();
        let gaps = b.gaps("s");
        assert_eq!(gaps.len(), 3);
        let of = |gaps: Vec<Gap>| Change::AckGaps { subscriber: key("s"), gaps };
        let large = gap(1, 9, Some(1_024), GapReason::Trimmed);
        b.apply(of(vec![gaps[0].clone(), large, gaps[1].clone()]));
        assert_eq!(b.gaps("s"), gaps[1..], "{}: past the bound", b.kind);
        b.apply(of(gaps[1..].to_vec()));
        assert_eq!((b.gaps("s"), b.pending("s")), (vec![], vec![2, 4, 6]), "{}", b.kind);
    });
}

#[test]
fn a_stored_range_of_many_events_is_confirmed() {
    let limits = StoreLimits { dead_letters_max: 1, ..StoreLimits::default() };
    with_limits(&limits, |mut b| {
        b.subscribe("s", &["a"]);
        b.commit(&(0..1_100).map(|_| publish(&["a"], "x")).collect::<Vec<_>>());
        b.reveal();
        b.commit(&(1..=1_100).map(|number| term("s", number)).collect::<Vec<_>>());
        assert_eq!(b.gaps("s"), [gap(1, 1_099, Some(1_099), GapReason::TooManyDead)], "{}", b.kind);
        b.ack_gaps("s");
        assert_eq!(b.gaps("s"), [], "{}", b.kind);
    });
}
