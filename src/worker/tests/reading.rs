//! Tests of sockets that read from the journal: requests for chunks, and deliveries during the
//! reading.

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
        FanoutCommand::Attach { member, namespace_room: RoomId(ROOM), reply, offset: Some(offset(1)), mode }
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
fn a_resumed_socket_receives_only_chunks_until_it_is_live() {
    run(async {
        let rig = Rig::new(Limits::default()).await;
        rig.drain_into_log(false);
        rig.send(vec![rig.attach(DeliveryMode::CatchingUp(Lsn(5))), live(9, "dropped, in the journal")]);
        assert_eq!(rig.received().await, ["read 5", "write 40"]);
        rig.send(vec![rig.replay(&[(6, "six")], 7, false), deliver(ROOM, "volatile", true, 1)]);
        rig.volatile();
        assert_eq!(rig.received().await, ["read 7", "write six"]);
        rig.send(vec![rig.replay(&[(9, "nine")], 9, true), live(10, "ten")]);
        assert_eq!(rig.received().await, ["write nine ten"]);
        // The socket is live now. An unnumbered event is sent with the newest offset as its token.
        rig.volatile();
        assert_eq!(rig.received().await, [format!(r#"write 42["v","{}"]"#, offset(10))]);
    });
}

#[test]
fn a_full_outbox_requests_a_chunk_once_it_is_low() {
    run(async {
        let rig = Rig::new(Limits::with(|limits| limits.sessions.outbox_bytes_max = 1_000)).await;
        rig.send(vec![rig.attach(DeliveryMode::Live { recoverable: true })]);
        let (large, small) = ("x".repeat(400), "y".repeat(40));
        rig.send(vec![live(2, &large), live(3, &large), live(4, &small)]);
        assert_eq!(rig.received().await, [""; 0], "no request without a drainer");
        // A packet that is not in the journal still has room, and is sent before the replayed
        // events.
        rig.outbox.push(DirectPacket::Sealed(EncodedFrame::text("ack").into()));
        rig.drain_into_log(false);
        assert_eq!(rig.received().await, [format!("write 40 {large} ack"), "read 2".into()]);
        rig.send(vec![rig.replay(&[(3, &large), (4, &small)], 4, true)]);
        assert_eq!(rig.received().await, [format!("write {large} {small}")]);
    });
}

#[test]
fn a_disconnected_socket_requests_no_chunk() {
    run(async {
        let rig = Rig::new(Limits::default()).await;
        rig.send(vec![rig.attach(DeliveryMode::CatchingUp(Lsn(5)))]);
        assert_eq!(rig.received().await, ["read 5"]);
        rig.send(vec![FanoutCommand::Evict { member: rig.member }, rig.replay(&[(6, "six")], 7, false)]);
        assert_eq!(rig.received().await, ["evicted"]);
        rig.drain_into_log(false);
        assert_eq!(rig.received().await, ["write 40"]);
        assert_eq!(rig.worker.metrics().catching_up.get(), 0);
    });
}

#[test]
fn a_session_whose_next_events_were_trimmed_is_notified() {
    run(async {
        let rig = Rig::new(Limits::default()).await;
        rig.send(vec![rig.attach(DeliveryMode::CatchingUp(Lsn(5))), FanoutCommand::FellBehind { member: rig.member }]);
        assert_eq!(
            rig.received().await,
            ["full: the journal no longer has the events that the socket reads next", "read 5"]
        );
        rig.outbox.close();
        assert_eq!(rig.worker.metrics().catching_up.get(), 0);
    });
}

#[test]
fn a_socket_that_declined_recovery_receives_no_tokens() {
    run(async {
        let rig = Rig::new(Limits::default()).await;
        rig.drain_into_log(false);
        let draft = Draft::event(Parser::Json, crate::ids::NamespacePath::root(), "e", "1", vec![], true);
        let FanoutCommand::Deliver(mut delivery) = live(2, "") else { unreachable!() };
        delivery.message = draft.seal(None, Some(&offset(2)));
        rig.send(vec![rig.attach(DeliveryMode::WithoutToken), FanoutCommand::Deliver(delivery)]);
        assert_eq!(rig.received().await, [r#"write 40 42["e",1]"#]);
    });
}

#[test]
fn a_resumed_socket_that_missed_nothing_receives_tokens() {
    // Regression: the outbox had no position, so a volatile event was sent with the placeholder of
    // its token.
    run(async {
        let rig = Rig::new(Limits::default()).await;
        rig.drain_into_log(false);
        rig.send(vec![rig.attach(DeliveryMode::CatchingUp(Lsn(0)))]);
        assert_eq!(rig.received().await, ["read 0", "write 40"]);
        rig.send(vec![rig.replay(&[], 1, true)]);
        rig.received().await;
        rig.volatile();
        assert_eq!(rig.received().await, [format!(r#"write 42["v","{}"]"#, offset(1))]);
    });
}

#[test]
fn a_socket_without_recovery_does_not_move_tokens_of_others() {
    // The CONNECT of a socket that declined recovery is not journalled, so its offset must not be
    // used as a token.
    run(async {
        let rig = Rig::new(Limits::default()).await;
        rig.drain_into_log(false);
        let declined = rig.outbox.add_member(socket(2));
        let namespace_room = RoomId(ROOM + 1);
        let (reply, mode) = (EncodedFrame::text("40/b,"), DeliveryMode::WithoutToken);
        rig.send(vec![
            rig.attach(DeliveryMode::Live { recoverable: true }),
            FanoutCommand::Attach { member: declined, namespace_room, reply, offset: Some(offset(2)), mode },
        ]);
        rig.received().await;
        rig.volatile();
        assert_eq!(rig.received().await, [format!(r#"write 42["v","{}"]"#, offset(1))]);
    });
}

#[test]
fn only_one_socket_of_a_session_reads_at_a_time() {
    run(async {
        let rig = Rig::new(Limits::with(|limits| limits.sessions.outbox_bytes_max = 4_000)).await;
        let others: Vec<_> = (2..8).map(|n| rig.outbox.add_member(socket(n))).collect();
        let mut commands = vec![rig.attach(DeliveryMode::CatchingUp(Lsn(0)))];
        for member in &others {
            let (reply, mode) = (EncodedFrame::text("40"), DeliveryMode::CatchingUp(Lsn(0)));
            commands.push(FanoutCommand::Attach {
                member: *member,
                namespace_room: RoomId(ROOM),
                reply,
                offset: Some(offset(1)),
                mode,
            });
        }
        rig.send(commands);
        let requested = rig.received().await.iter().filter(|line| *line == "read 0").count();
        // Each chunk may fill a quarter of the outbox, so only one chunk is requested.
        assert_eq!(requested, 1);
        let large = "x".repeat(960);
        rig.send(vec![rig.replay(&[(1, &large)], 1, false)]);
        rig.received().await;
        rig.outbox.push(DirectPacket::Sealed(EncodedFrame::text("ack").into()));
        assert_eq!(rig.received().await, [""; 0], "a direct packet still has room");
        rig.drain_into_log(false);
        let received = rig.received().await;
        assert_eq!(
            received.iter().filter(|line| line.starts_with("read")).collect::<Vec<_>>(),
            ["read 0"],
            "the next socket"
        );
    });
}
