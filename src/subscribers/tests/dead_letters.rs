//! Dead letters: how many deliveries they had, and how they are sent again.

use super::*;

#[test]
fn a_dead_letter_has_as_many_attempts_as_deliveries_that_failed() {
    run(async {
        let mut rig = Rig::new(|limits| limits.queue.max_deliver = 3);
        rig.subscribe("s", "a").await;
        let client = rig.attached("s").await;
        rig.publish("a", true).await;
        for _ in 0..3 {
            rig.answer(&client, 1, EventAnswer::Nak(Some(0)));
            rig.settle().await;
        }
        assert_eq!((client.events().len(), rig.pending("s")), (3, 0));
        let page = rig.request("s", |reply| SubscriberRequest::DeadLetters { after: 0, limit: 9, reply }).await;
        let dead = &page.unwrap().dead_letters[0];
        assert_eq!((dead.attempts, dead.reason.as_str()), (3, "not acknowledged after 3 deliveries"));
    });
}

#[test]
fn a_replay_continues_until_no_dead_letter_is_left() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        // One commit replays two of this size.
        let payload = Payload { text: Bytes::from(vec![b'x'; 900_000]), attachments: Vec::new() };
        let letters = 2 * 70;
        for number in 1..=letters {
            let publish = Publish {
                namespace: NamespacePath::root(),
                rooms: vec![RoomName::parse("a").unwrap()],
                payload: payload.clone(),
                origin: Bytes::new(),
                dedup: None,
                expires_at: None,
            };
            rig.commit(Change::Publish(Box::new(publish))).await;
            let change = Change::Term { subscriber: key("s"), number, attempts: None, reason: String::new() };
            rig.commit(change).await;
        }
        rig.commit(Change::Revealed { up_to: letters }).await;
        let replayed = rig.request("s", |reply| SubscriberRequest::ReplayDead { numbers: None, reply }).await.unwrap();
        assert_eq!((replayed.len() as u64, rig.pending("s")), (letters, 100), "pending is counted up to 100");
        let page = rig.request("s", |reply| SubscriberRequest::DeadLetters { after: 0, limit: 9, reply }).await;
        assert!(page.unwrap().dead_letters.is_empty());
    });
}
