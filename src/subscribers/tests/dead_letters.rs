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
