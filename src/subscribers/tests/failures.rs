//! A store that fails: deliveries pause, and continue without a wake-up from outside.

use super::*;

impl Rig {
    /// Lets the store commit again, and waits until the committer has opened it.
    async fn reopen(&mut self) {
        self.store.fail_commits(false);
        let queue = self.actor.queue.clone();
        let is_open = async {
            while !queue.state().is_available() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(DEADLINE, is_open).await.unwrap();
    }
}

#[test]
fn an_ack_that_was_not_committed_is_committed_when_the_store_is_open_again() {
    run(async {
        let mut rig = Rig::new(|limits| limits.queue.in_flight_max = 1);
        rig.subscribe("s", "a").await;
        let client = rig.attached("s").await;
        rig.publish("a", true).await;
        rig.publish("a", true).await;
        rig.store.fail_commits(true);
        rig.ack(&client, 1).await;
        assert_eq!((rig.pending("s"), client.events()), (2, vec!["1".to_owned()]));
        // While the store is unavailable, further attempts fail.
        rig.pass(Duration::from_secs(31)).await;
        assert_eq!(client.events(), ["1"]);
        rig.reopen().await;
        rig.pass(Duration::from_secs(31)).await;
        assert_eq!((rig.pending("s"), client.events()), (1, vec!["1".to_owned(), "2".to_owned()]));
    });
}

#[test]
fn a_read_that_failed_is_repeated() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        rig.publish("a", false).await;
        rig.store.fail_reads(true);
        let client = rig.attached("s").await;
        rig.pass(Duration::from_secs(2)).await;
        assert!(client.events().is_empty());
        assert_eq!(rig.actor.metrics.subscribers.reads_failed.get(), 2);
        // A live event waits for its turn behind the earlier one.
        rig.publish("a", true).await;
        rig.store.fail_reads(false);
        rig.pass(Duration::from_secs(2)).await;
        assert_eq!(client.events(), ["1", "2"]);
    });
}

#[test]
fn a_read_that_fails_for_one_subscriber_holds_up_no_other() {
    run(async {
        let mut rig = Rig::new(|_| {});
        for name in ["s", "t"] {
            rig.subscribe(name, "a").await;
        }
        rig.publish("a", false).await;
        rig.store.faults().subscriber = Some(key("s"));
        let (first, second) = (rig.attached("s").await, rig.attached("t").await);
        assert_eq!((first.events().len(), second.events()), (0, vec!["1".to_owned()]));
        rig.store.faults().subscriber = None;
        rig.pass(Duration::from_secs(2)).await;
        assert_eq!(first.events(), ["1"]);
    });
}

#[test]
fn a_failed_read_of_rooms_holds_up_no_subscriber() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        rig.publish("a", false).await;
        rig.store.faults().rooms = true;
        let client = rig.attached("s").await;
        let answers: Vec<_> = (0..3).map(|_| rig.read_rooms(&["a"], 10)).collect();
        rig.actor.live.push_back(Live::LeftOut);
        rig.publish("a", false).await;
        assert_eq!(client.events(), ["1", "2"]);
        for answer in answers {
            assert_eq!(answer.await.unwrap().err(), Some(SubscriberError::Unavailable));
        }
    });
}

#[test]
fn a_damaged_event_that_cannot_be_removed_is_read_again_after_a_pause() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        let client = rig.attached("s").await;
        rig.publish("a", false).await;
        rig.store.faults().damaged.insert(1);
        rig.store.fail_commits(true);
        rig.actor.live.push_back(Live::LeftOut);
        for _ in 0..3 {
            let before = rig.store.faults().pages;
            rig.pass(Duration::from_secs(1)).await;
            rig.settle().await;
            assert!(rig.store.faults().pages - before <= 2);
        }
        rig.store.faults().damaged.clear();
        rig.reopen().await;
        rig.pass(Duration::from_secs(2)).await;
        assert_eq!(client.events(), ["1"]);
    });
}

#[test]
fn an_attach_fails_while_the_store_does_and_may_be_repeated() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        let first = rig.attached("s").await;
        rig.store.fail_commits(true);
        let (second, mut attached) = rig.attach("s");
        let mut result = None;
        rig.until("an answer", |_| {
            result = attached.try_recv().ok();
            result.is_some()
        })
        .await;
        assert!(matches!(result, Some(Err(SubscriberError::Indeterminate | SubscriberError::Unavailable))));
        tokio::task::yield_now().await;
        assert_eq!(second.last(), "ended ");
        assert!(rig.actor.active.contains_key(&first.id), "the first one keeps the name");
        rig.reopen().await;
        rig.publish("a", true).await;
        assert_eq!(first.events(), ["1"]);
        let third = rig.attached("s").await;
        assert_eq!(third.events(), ["1+"]);
    });
}

#[test]
fn a_lost_end_of_an_attachment_marks_everything_as_sent_before() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        let first = rig.attached("s").await;
        rig.store.fail_commits(true);
        rig.actor.link.post(SubscriberCommand::Detach { id: first.id });
        rig.settle().await;
        rig.reopen().await;
        rig.publish("a", true).await;
        let second = rig.attached("s").await;
        assert_eq!(second.events(), ["1+"], "it is not known that it was not");
        rig.ack(&second, 1).await;
        assert_eq!(rig.pending("s"), 0);
    });
}

#[test]
fn a_store_that_was_opened_again_has_a_new_reader() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        rig.publish("a", true).await;
        rig.store.faults().stale_head = Some(1);
        rig.store.fail_commits(true);
        rig.actor.submit_lazily(Change::DetachAll);
        rig.settle().await;
        rig.reopen().await;
        rig.publish("a", true).await;
        // From the store, since the feed was before.
        assert_eq!(rig.attached("s").await.events(), ["1", "2"]);
    });
}

#[test]
fn reasons_of_terms_that_were_not_committed_are_bounded() {
    run(async {
        let mut rig = Rig::new(|limits| limits.queue.in_flight_max = 4);
        rig.subscribe("s", "a").await;
        let client = rig.attached("s").await;
        for _ in 0..40 {
            let number = rig.publish("a", true).await;
            rig.ack(&client, number).await;
        }
        rig.store.fail_commits(true);
        for number in 1..=40 {
            rig.answer(&client, number, EventAnswer::Term("bad".into()));
            rig.settle().await;
        }
        let terms = rig.actor.active[&client.id].terms.len();
        assert!(terms <= 4, "{terms} reasons are kept");
    });
}
