//! Tests of the budget of outboxes: which sessions are ended when the budget is exceeded, and when
//! bytes are released.

use super::*;
use std::time::Instant;

use crate::ids::{Epoch, Fingerprint, Lsn, Offset};
use crate::messages::fanout::{DeliveryMode, Replay};
use crate::protocol::encoded::Message;

const BUDGET: usize = 1 << 20;

fn limits() -> Limits {
    Limits::with(|limits| limits.memory.outboxes_bytes_max = Some(BUDGET))
}

fn packet(bytes: usize) -> Message {
    EncodedFrame::text(&"x".repeat(bytes)).into()
}

/// A blocked connection that accepts `accepts` bytes once.
struct BlockedSink {
    accepts: usize,
}

impl FrameSink for BlockedSink {
    fn drain(&mut self, outbox: &mut Outbox) -> Drained {
        outbox.consume(std::mem::take(&mut self.accepts));
        Drained::Blocked
    }
    fn queue_close(&mut self, _: CloseReason, _: &mut Outbox) {}
    fn finish(&mut self) -> bool {
        false
    }
    fn abort(&mut self) {}
}

impl Rig {
    /// Opens further sessions, each with a log of its own.
    fn others<const N: usize>(&self) -> [(Rc<OutboxHandle>, Log); N] {
        std::array::from_fn(|_| {
            let log = Log::default();
            let listener = Listener { log: log.clone(), fanout: Rc::default() }.start();
            (OutboxHandle::open(self.worker.clone(), SessionLink::new(listener.recipient())), log)
        })
    }

    fn outboxes(&self) -> usize {
        self.worker.budgets().outboxes.bytes()
    }
}

fn push(outbox: &OutboxHandle, bytes: usize) {
    outbox.push(DirectPacket::Sealed(packet(bytes)));
}

#[test]
fn largest_outboxes_are_cut_until_an_eighth_is_free() {
    run(async {
        let rig = Rig::new(limits()).await;
        let others: [_; 4] = rig.others();
        let sizes = [900_000, 1_000, 120_000, 100_000];
        for ((outbox, _), bytes) in others.iter().zip(sizes) {
            push(outbox, bytes);
        }
        turns().await;
        let received = others.each_ref().map(|(_, log)| log.take().concat());
        assert_eq!(received, ["cut, can_notify=true", "", "", ""]);
        assert!((221_000..230_000).contains(&rig.outboxes()), "{}", rig.outboxes());
        drop(others);
        push(&rig.outbox, 1);
        turns().await;
        rig.outbox.close();
        rig.worker.outboxes.borrow_mut().enforce_budget();
        assert_eq!(rig.outboxes(), 0, "all sessions have ended");
    });
}

#[test]
fn an_outbox_with_a_ready_drainer_is_not_charged() {
    run(async {
        let rig = Rig::new(limits()).await;
        rig.drain_into_log(false);
        push(&rig.outbox, 3 * BUDGET);
        let received = rig.received().await;
        assert!(received.len() == 1 && received[0].starts_with("write x"), "{} lines", received.len());
        assert_eq!(rig.outboxes(), 0);
    });
}

#[test]
fn a_large_packet_sent_in_part_is_dropped_with_its_connection() {
    run(async {
        let rig = Rig::new(limits()).await;
        let [(outbox, log)] = rig.others();
        outbox.set_drainer(Box::new(BlockedSink { accepts: 10 }));
        push(&outbox, 900_000);
        turns().await;
        assert!(rig.outboxes() > 900_000, "a packet sent in part counts in full");
        push(&outbox, 900_000);
        turns().await;
        assert_eq!(log.take(), ["cut, can_notify=false"]);
        assert_eq!(rig.outboxes(), 0);
    });
}

#[test]
fn small_outboxes_are_not_cut_while_another_worker_has_large_ones() {
    run(async {
        let budgets = Arc::new(Budgets::new(&limits()));
        let rig = Rig::sharing(limits(), budgets.clone()).await;
        let here: [_; 8] = rig.others();
        // This share belongs to another worker.
        let large = crate::state::budget::Part { bytes: BUDGET, holders: 2 };
        budgets.outboxes.replace(Default::default(), large);
        here.iter().for_each(|(outbox, _)| push(outbox, 10_000));
        turns().await;
        assert!(here.iter().all(|(_, log)| log.borrow().is_empty()));
        assert!(budgets.outboxes.bytes() > BUDGET);
    });
}

#[test]
fn a_half_used_budget_leaves_journalled_events_in_the_journal() {
    run(async {
        let rig = Rig::new(limits()).await;
        let [(large, _)] = rig.others();
        push(&large, BUDGET * 5 / 8);
        turns().await;
        let offset = |lsn| Offset { epoch: Epoch::new(1, 1), lsn: Lsn(lsn), fingerprint: Fingerprint::new(7) };
        rig.send(vec![rig.join(3)]);
        turns().await;
        rig.worker.members.borrow_mut().get_mut(rig.member).unwrap().mode = DeliveryMode::Live { recoverable: true };
        let deliveries = (1..=4).map(|lsn| {
            let FanoutCommand::Deliver(mut delivery) = deliver(3, &"x".repeat(6_000), false, 1) else { unreachable!() };
            delivery.offset = Some(offset(lsn));
            FanoutCommand::Deliver(delivery)
        });
        rig.send(deliveries.collect());
        assert_eq!(rig.received().await, [""; 0], "the third event is read once the outbox is low");
        assert!(rig.outboxes() < BUDGET * 5 / 8 + (16 << 10) + 1_000, "{}", rig.outboxes());
        rig.drain_into_log(false);
        let received = rig.received().await;
        assert!(
            received.contains(&"read 2".to_owned()),
            "{:?}",
            received.iter().map(|line| &line[..6]).collect::<Vec<_>>()
        );
    });
}

#[test]
fn replays_wait_for_the_budget_and_cut_no_session() {
    // Regression: on a small server, 600 resumed clients were sent half a megabyte each, and most
    // of them were disconnected.
    const CHUNK: usize = 60_000;
    const CLIENTS: usize = 24;
    run(async {
        let mut limits = limits();
        (limits.recovery.replay_bytes, limits.transport.payload_bytes_max) = (CHUNK, CHUNK);
        let rig = Rig::new(limits).await;
        rig.worker.outboxes.borrow_mut().replay_read_timeout = Duration::MAX;
        let clients: [_; CLIENTS] = rig.others();
        let at = |lsn| Offset { epoch: Epoch::new(1, 1), lsn: Lsn(lsn), fingerprint: Fingerprint::new(7) };
        let mut members = Vec::new();
        for (index, (outbox, _)) in clients.iter().enumerate() {
            let member = outbox.add_member(socket(index as u8 + 2));
            outbox.set_drainer(Box::new(BlockedSink { accepts: 0 }));
            let (mode, reply) = (DeliveryMode::CatchingUp(Lsn(index as u64)), EncodedFrame::text("40"));
            let (namespace_room, offset) = (RoomId(3), Some(at(1)));
            rig.send(vec![FanoutCommand::Attach { member, namespace_room, reply, offset, mode }]);
            members.push(member);
        }
        let mut served = Vec::new();
        while served.len() < CLIENTS {
            let requested: Vec<usize> =
                rig.received().await.iter().filter_map(|line| line.strip_prefix("read ")?.parse().ok()).collect();
            assert!((1..=BUDGET / 4 / CHUNK).contains(&requested.len()), "{requested:?} requested after {served:?}");
            for index in &requested {
                let (events, upto) = (vec![(at(90), packet(CHUNK))], Lsn(90));
                let replay = Replay { member: members[*index], events, upto, is_all: true, fanout_bytes: CHUNK + 100 };
                rig.send(vec![FanoutCommand::Replay(Box::new(replay))]);
            }
            assert!(rig.received().await.iter().all(|line| !line.starts_with("read")), "no client has read yet");
            for index in &requested {
                clients[*index].0.set_drainer(Box::new(BlockedSink { accepts: usize::MAX }));
            }
            served.extend(requested);
        }
        served.sort_unstable();
        assert_eq!(served, (0..CLIENTS).collect::<Vec<_>>());
        assert!(clients.iter().all(|(_, log)| log.borrow().is_empty()), "no session is cut");
        clients.iter().for_each(|(outbox, _)| outbox.close());
        rig.worker.outboxes.borrow_mut().enforce_budget();
        assert_eq!((rig.outboxes(), rig.worker.budgets().replays.bytes()), (0, 0));
    });
}

#[test]
fn a_client_that_does_not_read_its_replay_delays_no_other() {
    // Regression: such clients held the replay budget until they were recognised as stalled, after
    // 45 to 70 seconds.
    const CHUNK: usize = 60_000;
    const CLIENTS: usize = 24;
    run(async {
        let mut limits = limits();
        (limits.recovery.replay_bytes, limits.transport.payload_bytes_max) = (CHUNK, CHUNK);
        limits.sessions.outbox_bytes_max = 4 * CHUNK;
        let rig = Rig::new(limits).await;
        rig.worker.outboxes.borrow_mut().replay_read_timeout = Duration::ZERO;
        let clients: [_; CLIENTS] = rig.others();
        let at = |lsn| Offset { epoch: Epoch::new(1, 1), lsn: Lsn(lsn), fingerprint: Fingerprint::new(7) };
        let mut members = Vec::new();
        for (index, (outbox, _)) in clients.iter().enumerate() {
            let member = outbox.add_member(socket(index as u8 + 2));
            outbox.set_drainer(Box::new(BlockedSink { accepts: 0 }));
            let (mode, reply) = (DeliveryMode::CatchingUp(Lsn(index as u64)), EncodedFrame::text("40"));
            let (namespace_room, offset) = (RoomId(3), Some(at(1)));
            rig.send(vec![FanoutCommand::Attach { member, namespace_room, reply, offset, mode }]);
            members.push(member);
        }
        let mut served = 0;
        while served < CLIENTS {
            let lines = rig.received().await;
            let requested: Vec<usize> =
                lines.iter().filter_map(|line| line.strip_prefix("read ")?.parse().ok()).collect();
            assert!(!requested.is_empty(), "no request after {served} of {CLIENTS} clients");
            served += requested.len();
            for index in requested {
                let (events, upto) = (vec![(at(90), packet(CHUNK))], Lsn(90));
                let replay = Replay { member: members[index], events, upto, is_all: false, fanout_bytes: CHUNK + 100 };
                rig.send(vec![FanoutCommand::Replay(Box::new(replay))]);
            }
            assert!(rig.outboxes() + rig.worker.budgets().replays.bytes() <= BUDGET + BUDGET / 4);
        }
        turns().await;
        let cut = clients.iter().filter(|(_, log)| log.borrow().iter().any(|line| line.starts_with("cut"))).count();
        assert!((1..CLIENTS).contains(&cut), "{cut} sessions were cut");
        clients.iter().for_each(|(outbox, _)| outbox.close());
        rig.worker.outboxes.borrow_mut().enforce_budget();
        assert_eq!((rig.outboxes(), rig.worker.budgets().replays.bytes()), (0, 0));
        assert!(
            !rig.worker.outboxes.borrow_mut().has_unread_replays()
                || rig.worker.outboxes.borrow_mut().take_replay_requests(Instant::now()).is_empty()
        );
    });
}

#[test]
fn an_outbox_is_stalled_until_bytes_are_written() {
    run(async {
        let rig = Rig::new(Limits::with(|limits| limits.sessions.stall_timeout = Some(Duration::from_secs(45)))).await;
        let start = Instant::now();
        let stalled = |seconds| rig.outbox.is_stalled(start + Duration::from_secs(seconds));
        assert!(!stalled(0));
        push(&rig.outbox, 100);
        assert!(!stalled(100), "first check of a non-empty outbox");
        assert!(!stalled(144));
        assert!(stalled(145));
        rig.outbox.set_drainer(Box::new(BlockedSink { accepts: 10 }));
        assert!(!stalled(146), "ten bytes were written");
        assert!(!stalled(190));
        assert!(stalled(191));
        rig.outbox.set_drainer(Box::new(BlockedSink { accepts: 1_000 }));
        assert!(!stalled(192) && !stalled(400), "the outbox is empty");
        assert!(rig.worker.outboxes.borrow().is_stalled_empty());
    });
}
