//! The budget of all outboxes: who is cut when it is spent, who is not, and that it is given back.

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

/// Takes nothing, or a part of the first packet.
struct Jammed {
    takes: usize,
}

impl FrameSink for Jammed {
    fn drain(&mut self, outbox: &mut Outbox) -> Drained {
        outbox.consume(std::mem::take(&mut self.takes));
        Drained::Blocked
    }
    fn queue_close(&mut self, _: CloseReason, _: &mut Outbox) {}
    fn finish(&mut self) -> bool {
        false
    }
    fn abort(&mut self) {}
}

impl Rig {
    /// Further sessions, each with a log of its own.
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
        let heard = others.each_ref().map(|(_, log)| log.take().concat());
        assert_eq!(heard, ["cut, told: true", "", "", ""]);
        assert!((221_000..230_000).contains(&rig.outboxes()), "{}", rig.outboxes());
        drop(others);
        push(&rig.outbox, 1);
        turns().await;
        rig.outbox.close();
        rig.worker.outboxes.borrow_mut().settle();
        assert_eq!(rig.outboxes(), 0, "everybody has gone");
    });
}

#[test]
fn a_client_that_takes_what_it_is_given_holds_nothing() {
    run(async {
        let rig = Rig::new(limits()).await;
        rig.drain_into_log(false);
        push(&rig.outbox, 3 * BUDGET);
        let heard = rig.heard().await;
        assert!(heard.len() == 1 && heard[0].starts_with("write x"), "{} lines", heard.len());
        assert_eq!(rig.outboxes(), 0);
    });
}

#[test]
fn a_large_packet_that_has_left_in_part_is_dropped_with_its_connection() {
    run(async {
        let rig = Rig::new(limits()).await;
        let [(outbox, log)] = rig.others();
        outbox.set_drainer(Box::new(Jammed { takes: 10 }));
        push(&outbox, 900_000);
        turns().await;
        assert!(rig.outboxes() > 900_000, "a packet in part counts whole");
        push(&outbox, 900_000);
        turns().await;
        assert_eq!(log.take(), ["cut, told: false"]);
        assert_eq!(rig.outboxes(), 0);
    });
}

#[test]
fn small_outboxes_are_left_to_the_worker_that_has_the_large_ones() {
    run(async {
        let budgets = Arc::new(Budgets::new(&limits()));
        let rig = Rig::sharing(limits(), budgets.clone()).await;
        let here: [_; 8] = rig.others();
        // Another worker's.
        let large = crate::state::budget::Part { bytes: BUDGET, holders: 2 };
        budgets.outboxes.replace(Default::default(), large);
        here.iter().for_each(|(outbox, _)| push(outbox, 10_000));
        turns().await;
        assert!(here.iter().all(|(_, log)| log.borrow().is_empty()));
        assert!(budgets.outboxes.bytes() > BUDGET);
    });
}

#[test]
fn journalled_events_wait_in_the_journal_while_the_budget_is_half_spent() {
    run(async {
        let rig = Rig::new(limits()).await;
        let [(large, _)] = rig.others();
        push(&large, BUDGET * 5 / 8);
        turns().await;
        let offset = |lsn| Offset { epoch: Epoch::new(1, 1), lsn: Lsn(lsn), fingerprint: Fingerprint::new(7) };
        rig.tell(vec![rig.join(3)]);
        turns().await;
        rig.worker.members.borrow_mut().get_mut(rig.member).unwrap().mode = DeliveryMode::Live { recoverable: true };
        let deliveries = (1..=4).map(|lsn| {
            let FanoutCommand::Deliver(mut delivery) = deliver(3, &"x".repeat(6_000), false, 1) else { unreachable!() };
            delivery.offset = Some(offset(lsn));
            FanoutCommand::Deliver(delivery)
        });
        rig.tell(deliveries.collect());
        assert_eq!(rig.heard().await, [""; 0], "the third has no room, and is asked for when the outbox is low");
        assert!(rig.outboxes() < BUDGET * 5 / 8 + (16 << 10) + 1_000, "{}", rig.outboxes());
        rig.drain_into_log(false);
        let heard = rig.heard().await;
        assert!(heard.contains(&"read 2".to_owned()), "{:?}", heard.iter().map(|line| &line[..6]).collect::<Vec<_>>());
    });
}

#[test]
fn clients_that_catch_up_are_paced_by_the_budget_and_never_cut() {
    // On a small server 600 clients that resumed were each sent half a megabyte, and most of them were cut for it.
    const CHUNK: usize = 60_000;
    const CLIENTS: usize = 24;
    run(async {
        let mut limits = limits();
        (limits.recovery.replay_bytes, limits.transport.payload_bytes_max) = (CHUNK, CHUNK);
        let rig = Rig::new(limits).await;
        rig.worker.outboxes.borrow_mut().lent_for = Duration::MAX;
        let clients: [_; CLIENTS] = rig.others();
        let at = |lsn| Offset { epoch: Epoch::new(1, 1), lsn: Lsn(lsn), fingerprint: Fingerprint::new(7) };
        let mut members = Vec::new();
        for (index, (outbox, _)) in clients.iter().enumerate() {
            let member = outbox.add_member(socket(index as u8 + 2));
            outbox.set_drainer(Box::new(Jammed { takes: 0 }));
            let (mode, reply) = (DeliveryMode::CatchingUp(Lsn(index as u64)), EncodedFrame::text("40"));
            let (everybody, offset) = (RoomId(3), Some(at(1)));
            rig.tell(vec![FanoutCommand::Attach { member, everybody, reply, offset, mode }]);
            members.push(member);
        }
        let mut served = Vec::new();
        while served.len() < CLIENTS {
            let asked: Vec<usize> =
                rig.heard().await.iter().filter_map(|line| line.strip_prefix("read ")?.parse().ok()).collect();
            assert!((1..=BUDGET / 4 / CHUNK).contains(&asked.len()), "{asked:?} asked after {served:?}");
            for index in &asked {
                let (events, upto) = (vec![(at(90), packet(CHUNK))], Lsn(90));
                let replay = Replay { member: members[*index], events, upto, is_all: true, fanout_bytes: CHUNK + 100 };
                rig.tell(vec![FanoutCommand::Replay(Box::new(replay))]);
            }
            assert!(rig.heard().await.iter().all(|line| !line.starts_with("read")), "nobody has read yet");
            for index in &asked {
                clients[*index].0.set_drainer(Box::new(Jammed { takes: usize::MAX }));
            }
            served.extend(asked);
        }
        served.sort_unstable();
        assert_eq!(served, (0..CLIENTS).collect::<Vec<_>>());
        assert!(clients.iter().all(|(_, log)| log.borrow().is_empty()), "nobody is cut");
        clients.iter().for_each(|(outbox, _)| outbox.close());
        rig.worker.outboxes.borrow_mut().settle();
        assert_eq!((rig.outboxes(), rig.worker.budgets().replays.bytes()), (0, 0));
    });
}

#[test]
fn a_client_that_takes_nothing_of_its_replay_holds_up_nobody() {
    // Until they were found stalled, after 45 to 70 seconds, they kept the budget from all others.
    const CHUNK: usize = 60_000;
    const CLIENTS: usize = 24;
    run(async {
        let mut limits = limits();
        (limits.recovery.replay_bytes, limits.transport.payload_bytes_max) = (CHUNK, CHUNK);
        limits.sessions.outbox_bytes_max = 4 * CHUNK;
        let rig = Rig::new(limits).await;
        rig.worker.outboxes.borrow_mut().lent_for = Duration::ZERO;
        let clients: [_; CLIENTS] = rig.others();
        let at = |lsn| Offset { epoch: Epoch::new(1, 1), lsn: Lsn(lsn), fingerprint: Fingerprint::new(7) };
        let mut members = Vec::new();
        for (index, (outbox, _)) in clients.iter().enumerate() {
            let member = outbox.add_member(socket(index as u8 + 2));
            outbox.set_drainer(Box::new(Jammed { takes: 0 }));
            let (mode, reply) = (DeliveryMode::CatchingUp(Lsn(index as u64)), EncodedFrame::text("40"));
            let (everybody, offset) = (RoomId(3), Some(at(1)));
            rig.tell(vec![FanoutCommand::Attach { member, everybody, reply, offset, mode }]);
            members.push(member);
        }
        let mut served = 0;
        while served < CLIENTS {
            let told = rig.heard().await;
            let asked: Vec<usize> = told.iter().filter_map(|line| line.strip_prefix("read ")?.parse().ok()).collect();
            assert!(!asked.is_empty(), "{served} of {CLIENTS} were served, the next one waits");
            served += asked.len();
            for index in asked {
                let (events, upto) = (vec![(at(90), packet(CHUNK))], Lsn(90));
                let replay = Replay { member: members[index], events, upto, is_all: false, fanout_bytes: CHUNK + 100 };
                rig.tell(vec![FanoutCommand::Replay(Box::new(replay))]);
            }
            assert!(rig.outboxes() + rig.worker.budgets().replays.bytes() <= BUDGET + BUDGET / 4);
        }
        turns().await;
        let cut = clients.iter().filter(|(_, log)| log.borrow().iter().any(|line| line.starts_with("cut"))).count();
        assert!((1..CLIENTS).contains(&cut), "{cut} sessions are cut, as the budget of outboxes is spent");
        clients.iter().for_each(|(outbox, _)| outbox.close());
        rig.worker.outboxes.borrow_mut().settle();
        assert_eq!((rig.outboxes(), rig.worker.budgets().replays.bytes()), (0, 0));
        assert!(
            !rig.worker.outboxes.borrow_mut().has_lent()
                || rig.worker.outboxes.borrow_mut().take_wanted(Instant::now()).is_empty()
        );
    });
}

#[test]
fn an_outbox_that_nothing_leaves_is_stalled_and_one_that_moves_is_not() {
    run(async {
        let rig = Rig::new(Limits::with(|limits| limits.sessions.stall_timeout = Some(Duration::from_secs(45)))).await;
        let start = Instant::now();
        let stalled = |seconds| rig.outbox.is_stalled(start + Duration::from_secs(seconds));
        assert!(!stalled(0));
        push(&rig.outbox, 100);
        assert!(!stalled(100), "seen for the first time");
        assert!(!stalled(144));
        assert!(stalled(145));
        rig.outbox.set_drainer(Box::new(Jammed { takes: 10 }));
        assert!(!stalled(146), "ten bytes have left");
        assert!(!stalled(190));
        assert!(stalled(191));
        rig.outbox.set_drainer(Box::new(Jammed { takes: 1_000 }));
        assert!(!stalled(192) && !stalled(400), "nothing waits");
        assert!(rig.worker.outboxes.borrow().is_nobody_stalled());
    });
}
