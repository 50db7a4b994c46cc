//! Tests that removing a member from many rooms and closing many sessions take several turns.

use super::*;
use crate::protocol::reason::DisconnectReason;

/// A session that counts the `Close` commands it receives.
struct Closed(Rc<Cell<usize>>);

impl Actor for Closed {
    type Context = Context<Self>;
}

impl Handler<SessionCommand> for Closed {
    type Result = ();

    fn handle(&mut self, command: SessionCommand, _: &mut Context<Self>) {
        self.0.set(self.0.get() + usize::from(matches!(command, SessionCommand::Close(_))));
    }
}

#[test]
fn closing_all_sessions_takes_several_turns() {
    run(async {
        let rig = Rig::new(Limits::default()).await;
        let closed = Rc::<Cell<usize>>::default();
        let link = SessionLink::new(Closed(closed.clone()).start().recipient());
        let outboxes: Vec<_> = (0..10_000).map(|_| OutboxHandle::open(rig.worker.clone(), link.clone())).collect();
        outboxes.iter().step_by(2).for_each(|outbox| outbox.close());
        rig.send(vec![FanoutCommand::CloseAll(DisconnectReason::ServerShuttingDown), rig.answer(7)]);
        let mut before = Vec::new();
        while !rig.log.borrow().contains(&"answered 7".to_owned()) {
            tokio::task::yield_now().await;
            before.push(closed.get());
        }
        turns().await;
        assert_eq!(closed.get(), 5_000);
        assert!(before.iter().any(|closed| (1..5_000).contains(closed)), "{before:?}");
    });
}

#[test]
fn leaving_many_rooms_takes_turns_and_precedes_the_next_command() {
    run(async {
        let rig = Rig::new(Limits::default()).await;
        rig.drain_into_log(false);
        rig.send((0..20_000).map(|room| rig.join(room)).collect());
        let other = rig.outbox.add_member(socket(2));
        rig.send(vec![FanoutCommand::Join { member: other, room: RoomId(9_999) }]);
        let (caller, mut rooms) = tokio::sync::oneshot::channel();
        let rooms_reply = Some((caller, vec![RoomName::parse("a").unwrap()]));
        rig.send(vec![FanoutCommand::Detach { member: rig.member, rooms_reply }, deliver(9_999, "next", false, 1)]);
        let mut turns = 0;
        while rooms.try_recv().is_err() {
            assert!(rig.log.borrow().is_empty(), "an event was delivered in between");
            tokio::task::yield_now().await;
            turns += 1;
        }
        assert!(turns > 20_000 / 4_096, "{turns} turns");
        assert_eq!(rig.received().await, ["write next"], "the other member receives the event");
    });
}
