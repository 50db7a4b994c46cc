//! Sockets that read from the journal: what they ask for, when, and what they get meanwhile.

use super::*;
use crate::ids::{Epoch, Fingerprint, Lsn, Offset};
use crate::messages::fanout::{DeliveryMode, Replay};
use crate::protocol::draft::Draft;
use crate::protocol::socketio::Parser;

const ROOM: u32 = 3;

fn offset(lsn: u64) -> Offset {
    Offset { epoch: Epoch::new(1, 1), lsn: Lsn(lsn), fingerprint: Fingerprint::new(7) }
}

fn live(lsn: u64, text: &str) -> FanoutCommand {
    let FanoutCommand::Deliver(mut delivery) = deliver(ROOM, text, false, text.len()) else { unreachable!() };
    delivery.offset = Some(offset(lsn));
    FanoutCommand::Deliver(delivery)
}

impl Rig {
    fn attach(&self, mode: DeliveryMode) -> FanoutCommand {
        let (member, reply) = (self.member, EncodedFrame::text("40"));
        FanoutCommand::Attach { member, everybody: RoomId(ROOM), reply, offset: Some(offset(1)), mode }
    }

    fn replay(&self, events: &[(u64, &str)], upto: u64, is_all: bool) -> FanoutCommand {
        let events = events.iter().map(|(lsn, text)| (offset(*lsn), EncodedFrame::text(text).into())).collect();
        FanoutCommand::Replay(Box::new(Replay {
            member: self.member,
            events,
            upto: Lsn(upto),
            is_all,
            fanout_bytes: 1,
        }))
    }

    fn volatile(&self) {
        let draft = Draft::event(Parser::Json, crate::ids::NamespacePath::root(), "v", "", vec![], true);
        self.outbox.push(DirectPacket::Unnumbered { draft, volatile: true });
    }
}

#[test]
fn a_resumed_socket_reads_in_chunks_and_gets_nothing_else_until_live() {
    run(async {
        let rig = Rig::new(Limits::default()).await;
        rig.drain_into_log(false);
        rig.tell(vec![rig.attach(DeliveryMode::CatchingUp(Lsn(5))), live(9, "dropped, to be read")]);
        assert_eq!(rig.heard().await, ["read 5", "write 40"]);
        rig.tell(vec![rig.replay(&[(6, "six")], 7, false), deliver(ROOM, "volatile", true, 1)]);
        rig.volatile();
        assert_eq!(rig.heard().await, ["read 7", "write six"]);
        rig.tell(vec![rig.replay(&[(9, "nine")], 9, true), live(10, "ten")]);
        assert_eq!(rig.heard().await, ["write nine ten"]);
        // From here on as ever; its tokens go on from the newest.
        rig.volatile();
        assert_eq!(rig.heard().await, [format!(r#"write 42["v","{}"]"#, offset(10))]);
    });
}

#[test]
fn one_whose_outbox_is_full_asks_again_when_it_is_low() {
    run(async {
        let rig = Rig::new(Limits::with(|limits| limits.sessions.outbox_bytes_max = 1_000)).await;
        rig.tell(vec![rig.attach(DeliveryMode::Live { recoverable: true })]);
        let (large, small) = ("x".repeat(400), "y".repeat(40));
        rig.tell(vec![live(2, &large), live(3, &large), live(4, &small)]);
        assert_eq!(rig.heard().await, [""; 0], "nobody drains, so nothing is asked for");
        // What cannot be read again still finds room, and is in front.
        rig.outbox.push(DirectPacket::Sealed(EncodedFrame::text("ack").into()));
        rig.drain_into_log(false);
        assert_eq!(rig.heard().await, [format!("write 40 {large} ack"), "read 2".into()]);
        rig.tell(vec![rig.replay(&[(3, &large), (4, &small)], 4, true)]);
        assert_eq!(rig.heard().await, [format!("write {large} {small}")]);
    });
}

#[test]
fn one_that_is_gone_does_not_ask() {
    run(async {
        let rig = Rig::new(Limits::default()).await;
        rig.tell(vec![rig.attach(DeliveryMode::CatchingUp(Lsn(5)))]);
        assert_eq!(rig.heard().await, ["read 5"]);
        rig.tell(vec![FanoutCommand::Evict { member: rig.member }, rig.replay(&[(6, "six")], 7, false)]);
        assert_eq!(rig.heard().await, ["evicted"]);
        rig.drain_into_log(false);
        assert_eq!(rig.heard().await, ["write 40"]);
        assert_eq!(rig.worker.metrics().catching_up.get(), 0);
    });
}

#[test]
fn a_session_that_fell_behind_is_notified() {
    run(async {
        let rig = Rig::new(Limits::default()).await;
        rig.tell(vec![rig.attach(DeliveryMode::CatchingUp(Lsn(5))), FanoutCommand::FellBehind { member: rig.member }]);
        assert_eq!(rig.heard().await, ["full: what it has to read next is gone from the journal", "read 5"]);
        rig.outbox.close();
        assert_eq!(rig.worker.metrics().catching_up.get(), 0);
    });
}

#[test]
fn one_that_declined_gets_no_tokens() {
    run(async {
        let rig = Rig::new(Limits::default()).await;
        rig.drain_into_log(false);
        let draft = Draft::event(Parser::Json, crate::ids::NamespacePath::root(), "e", "1", vec![], true);
        let FanoutCommand::Deliver(mut delivery) = live(2, "") else { unreachable!() };
        delivery.message = draft.seal(None, Some(&offset(2)));
        rig.tell(vec![rig.attach(DeliveryMode::WithoutToken), FanoutCommand::Deliver(delivery)]);
        assert_eq!(rig.heard().await, [r#"write 40 42["e",1]"#]);
    });
}

#[test]
fn one_that_came_back_and_missed_nothing_bears_tokens_too() {
    // Its outbox knew no position yet, so a volatile event left with the placeholder for its token, which clients took for one.
    run(async {
        let rig = Rig::new(Limits::default()).await;
        rig.drain_into_log(false);
        rig.tell(vec![rig.attach(DeliveryMode::CatchingUp(Lsn(0)))]);
        assert_eq!(rig.heard().await, ["read 0", "write 40"]);
        rig.tell(vec![rig.replay(&[], 1, true)]);
        rig.heard().await;
        rig.volatile();
        assert_eq!(rig.heard().await, [format!(r#"write 42["v","{}"]"#, offset(1))]);
    });
}

#[test]
fn a_socket_without_recovery_moves_no_cursor_of_its_neighbours() {
    // The connect of one that declined is not journalled: a token of it would be found in no journal.
    run(async {
        let rig = Rig::new(Limits::default()).await;
        rig.drain_into_log(false);
        let declined = rig.outbox.add_member(socket(2));
        let everybody = RoomId(ROOM + 1);
        let (reply, mode) = (EncodedFrame::text("40/b,"), DeliveryMode::WithoutToken);
        rig.tell(vec![
            rig.attach(DeliveryMode::Live { recoverable: true }),
            FanoutCommand::Attach { member: declined, everybody, reply, offset: Some(offset(2)), mode },
        ]);
        rig.heard().await;
        rig.volatile();
        assert_eq!(rig.heard().await, [format!(r#"write 42["v","{}"]"#, offset(1))]);
    });
}

#[test]
fn many_readers_of_one_session_do_not_fill_its_outbox_together() {
    run(async {
        let rig = Rig::new(Limits::with(|limits| limits.sessions.outbox_bytes_max = 4_000)).await;
        let others: Vec<_> = (2..8).map(|n| rig.outbox.add_member(socket(n))).collect();
        let mut commands = vec![rig.attach(DeliveryMode::CatchingUp(Lsn(0)))];
        for member in &others {
            let (reply, mode) = (EncodedFrame::text("40"), DeliveryMode::CatchingUp(Lsn(0)));
            commands.push(FanoutCommand::Attach {
                member: *member,
                everybody: RoomId(ROOM),
                reply,
                offset: Some(offset(1)),
                mode,
            });
        }
        rig.tell(commands);
        let asked = rig.heard().await.iter().filter(|said| *said == "read 0").count();
        // The hub answers each with up to a quarter of the outbox.
        assert_eq!(asked, 1);
        let large = "x".repeat(960);
        rig.tell(vec![rig.replay(&[(1, &large)], 1, false)]);
        rig.heard().await;
        rig.outbox.push(DirectPacket::Sealed(EncodedFrame::text("ack").into()));
        assert_eq!(rig.heard().await, [""; 0], "there is room for what cannot be read later");
        rig.drain_into_log(false);
        let heard = rig.heard().await;
        assert_eq!(
            heard.iter().filter(|said| said.starts_with("read")).collect::<Vec<_>>(),
            ["read 0"],
            "the next one"
        );
    });
}
