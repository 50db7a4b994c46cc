//! Events that a subscriber may have received before, over attachments and processes.

use super::*;

fn attach(b: &mut Bench, create: bool) -> Outcome {
    b.apply(Change::Attach { subscriber: key("s"), create })
}

fn attached(b: &mut Bench) -> Option<u64> {
    match attach(b, true) {
        Outcome::Attached { is_new: false, sent_up_to, .. } => sent_up_to,
        other => panic!("{} {other:?}", b.kind),
    }
}

fn detach(b: &mut Bench, sent_up_to: u64) {
    assert_eq!(b.apply(Change::Detach { subscriber: key("s"), sent_up_to }), Outcome::Done, "{}", b.kind);
}

#[test]
fn a_backlog_collected_while_away_was_not_sent_before() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        b.publish(&["a"], "1");
        assert_eq!(attached(&mut b), Some(0), "{}", b.kind);
        detach(&mut b, 1);
        b.publish(&["a"], "2");
        // The end of a process that had nobody attached, and a start.
        b = b.reopen();
        b.apply(Change::DetachAll);
        assert_eq!(attached(&mut b), Some(1), "{}", b.kind);
        assert_eq!(attached(&mut b), None, "{}: attached already", b.kind);
    });
}

#[test]
fn all_that_was_stored_may_have_been_sent_before_a_crash() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        assert_eq!(attached(&mut b), Some(0));
        b.publish(&["a"], "1");
        b.publish(&["a"], "2");
        b = b.reopen();
        b.apply(Change::DetachAll);
        b.publish(&["a"], "3");
        assert_eq!(attached(&mut b), Some(2), "{}: the newest event at the start", b.kind);
    });
}

#[test]
fn attaching_creates_a_subscriber_only_if_asked_to() {
    both(|mut b| {
        assert_eq!(attach(&mut b, false), Outcome::Refused(Refusal::UnknownSubscriber), "{}", b.kind);
        let detach = Change::Detach { subscriber: key("s"), sent_up_to: 1 };
        assert_eq!(b.apply(detach), Outcome::Refused(Refusal::UnknownSubscriber), "{}", b.kind);
        let created = Outcome::Attached { is_new: true, expired_at: None, sent_up_to: Some(0) };
        assert_eq!(attach(&mut b, true), created, "{}", b.kind);
    });
}
