//! Tests of a worker with a recording hub: contents and order of outboxes, and the abort guards.

mod budget;
mod credit;
mod ending;
mod reading;

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler, Recipient, System};
use smallvec::SmallVec;

use super::Worker;
use super::credit_window::{CreditWindow, PendingReply};
use super::outbox_handle::OutboxHandle;
use crate::ids::{MemberKey, NamespacePath, RoomId, RoomName, SocketId, WorkerId};
use crate::limits::Limits;
use crate::messages::abort::tests::{aborts, is_to_panic};
use crate::messages::answer::{Answer, Done, NoAnswer, PublishRefusal, Receipt, ReplyTo, RequestError, Stored};
use crate::messages::event::{DirectPacket, DurableEmit};
use crate::messages::fanout::{Delivery, FanoutBatch, FanoutCommand};
use crate::messages::hub::{HubBatch, HubCommand, ImmediateCommand, OrderedCommand};
use crate::messages::session::tests::link;
use crate::messages::session::{Listing, SessionCommand, SessionLink, SocketRef};
use crate::messages::sink::{CloseReason, Drained, FrameSink};
use crate::messages::socket::tests::socket;
use crate::protocol::draft::Draft;
use crate::protocol::encoded::EncodedFrame;
use crate::protocol::socketio::Parser;
use crate::queue::change::Publish;
use crate::queue::record::Payload;
use crate::state::budget::Budgets;
use crate::state::credit::Ticket;
use crate::state::outbox::Outbox;
use crate::state::rooms::Target;

type Log = Rc<RefCell<Vec<String>>>;

/// Replaces the hub and a session, and records the messages that they receive.
struct Listener {
    log: Log,
    fanout: Rc<RefCell<Option<Recipient<FanoutBatch>>>>,
}

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<HubBatch> for Listener {
    type Result = ();

    fn handle(&mut self, batch: HubBatch, _: &mut Context<Self>) {
        for command in batch.commands {
            let line = match command {
                HubCommand::Immediate(ImmediateCommand::Register { fanout }) => {
                    *self.fanout.borrow_mut() = Some(fanout);
                    continue;
                }
                HubCommand::Immediate(ImmediateCommand::Consumed { bytes, replayed: 0 }) => format!("consumed {bytes}"),
                HubCommand::Immediate(ImmediateCommand::Consumed { replayed, .. }) => format!("replayed {replayed}"),
                HubCommand::Immediate(ImmediateCommand::ReadJournal { after, .. }) => format!("read {}", after.0),
                HubCommand::Ordered(OrderedCommand::Relay { .. }) => "relay".into(),
                HubCommand::Ordered(OrderedCommand::Disconnect { .. }) => "disconnect".into(),
                HubCommand::Ordered(OrderedCommand::Publish { .. }) => "publish".into(),
                _ => continue,
            };
            self.log.borrow_mut().push(line);
        }
    }
}

impl Handler<SessionCommand> for Listener {
    type Result = ();

    fn handle(&mut self, command: SessionCommand, _: &mut Context<Self>) {
        let line = match command {
            SessionCommand::Answered { ticket, .. } => format!("answered {}", ticket.0),
            SessionCommand::DrainerLost(why) => format!("lost: {why}"),
            SessionCommand::Evicted => "evicted".into(),
            SessionCommand::OutboxFull(why) => format!("full: {why}"),
            SessionCommand::OutboxCut { can_notify, .. } => format!("cut, can_notify={can_notify}"),
            _ => return,
        };
        self.log.borrow_mut().push(line);
    }
}

/// A drainer that records the packets it receives.
struct Sink {
    log: Log,
    panics: bool,
}

impl FrameSink for Sink {
    fn drain(&mut self, outbox: &mut Outbox) -> Drained {
        assert!(!self.panics, "planted");
        let packets: Vec<_> = std::iter::from_fn(|| outbox.pop()).collect();
        let texts: Vec<_> = packets.iter().map(|packet| String::from_utf8_lossy(packet.body())).collect();
        self.log.borrow_mut().push(format!("write {}", texts.join(" ")));
        Drained::All
    }
    fn queue_close(&mut self, _: CloseReason, _: &mut Outbox) {}
    fn finish(&mut self) -> bool {
        false
    }
    fn abort(&mut self) {}
}

/// A drainer that queues another packet after each write.
struct Echo {
    outbox: Weak<OutboxHandle>,
    flushes: Rc<Cell<usize>>,
}

impl FrameSink for Echo {
    fn drain(&mut self, outbox: &mut Outbox) -> Drained {
        while outbox.pop().is_some() {}
        self.flushes.set(self.flushes.get() + 1);
        let outbox = self.outbox.upgrade().unwrap();
        actix::spawn(async move { outbox.push_control(EncodedFrame::text("again")) });
        Drained::All
    }
    fn queue_close(&mut self, _: CloseReason, _: &mut Outbox) {}
    fn finish(&mut self) -> bool {
        false
    }
    fn abort(&mut self) {}
}

struct Rig {
    log: Log,
    worker: Rc<Worker>,
    outbox: Rc<OutboxHandle>,
    member: MemberKey,
    fanout: Recipient<FanoutBatch>,
}

impl Rig {
    async fn new(limits: Limits) -> Self {
        let budgets = Arc::new(Budgets::new(&limits));
        Self::sharing(limits, budgets).await
    }

    async fn sharing(limits: Limits, budgets: Arc<Budgets>) -> Self {
        let (log, fanout) = (Log::default(), Rc::default());
        let listener = Listener { log: log.clone(), fanout: Rc::clone(&fanout) }.start();
        let worker = Worker::start(WorkerId(0), listener.clone().recipient(), limits, budgets, Arc::default());
        let outbox = OutboxHandle::open(worker.clone(), SessionLink::new(listener.recipient()));
        let member = outbox.add_member(socket(1));
        turns().await;
        let fanout = fanout.borrow_mut().take().unwrap();
        Self { log, worker, outbox, member, fanout }
    }

    fn send(&self, commands: Vec<FanoutCommand>) {
        assert!(self.fanout.try_send(FanoutBatch { commands }).is_ok());
    }

    fn drain_into_log(&self, panics: bool) {
        self.outbox.set_drainer(Box::new(Sink { log: self.log.clone(), panics }));
    }

    async fn received(&self) -> Vec<String> {
        turns().await;
        self.log.take()
    }

    fn join(&self, room: u32) -> FanoutCommand {
        FanoutCommand::Join { member: self.member, room: RoomId(room) }
    }

    fn answer(&self, ticket: u64) -> FanoutCommand {
        let to = ReplyTo { slot: self.outbox.slot, ticket: Ticket(ticket) };
        FanoutCommand::Answer { to, answer: Answer::Emit(Ok(Receipt { offset: None })) }
    }
}

fn deliver(room: u32, text: &str, volatile: bool, fanout_bytes: usize) -> FanoutCommand {
    FanoutCommand::Deliver(Box::new(Delivery {
        rooms: SmallVec::from_elem(RoomId(room), 1),
        except: SmallVec::new(),
        members: SmallVec::new(),
        exclude: SmallVec::new(),
        message: EncodedFrame::text(text).into(),
        offset: None,
        volatile,
        fanout_bytes,
        collect: None,
    }))
}

pub(super) async fn turns() {
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
}

fn run<F: Future<Output = ()>>(test: F) {
    System::new().block_on(async { tokio::time::timeout(Duration::from_secs(20), test).await.unwrap() });
}

#[test]
fn deliveries_of_a_turn_are_one_write_and_precede_the_answer() {
    run(async {
        let rig = Rig::new(Limits::default()).await;
        rig.drain_into_log(false);
        rig.send(vec![rig.join(3), deliver(3, "a", false, 1), deliver(3, "b", false, 1), rig.answer(7)]);
        rig.send(vec![deliver(3, "c", false, 1), deliver(4, "not in that room", false, 1)]);
        let received = rig.received().await;
        assert_eq!(received.iter().filter(|line| line.starts_with("write")).collect::<Vec<_>>(), ["write a b c"]);
        assert!(received.contains(&"answered 7".to_owned()), "{received:?}");
    });
}

#[test]
fn a_volatile_delivery_is_dropped_without_a_drainer() {
    run(async {
        let rig = Rig::new(Limits::default()).await;
        rig.send(vec![rig.join(3), deliver(3, "volatile", true, 1), deliver(3, "plain", false, 1)]);
        assert_eq!(rig.received().await, [""; 0]);
        rig.drain_into_log(false);
        assert_eq!(rig.received().await, ["write plain"]);
    });
}

#[test]
fn a_full_outbox_ends_its_session_and_accepts_no_more() {
    run(async {
        let rig = Rig::new(Limits::with(|limits| limits.sessions.outbox_bytes_max = 100)).await;
        rig.outbox.push(DirectPacket::Sealed(EncodedFrame::text("first").into()));
        rig.outbox.push(DirectPacket::Sealed(EncodedFrame::text(&"x".repeat(100)).into()));
        rig.outbox.push(DirectPacket::Sealed(EncodedFrame::text("third").into()));
        let received = rig.received().await;
        assert_eq!(received.len(), 1, "{received:?}");
        assert!(received[0].starts_with("full: outbox of"), "{received:?}");
    });
}

#[test]
fn written_bytes_are_reported_to_the_hub() {
    run(async {
        let rig = Rig::new(Limits::with(|limits| limits.hub.worker_bytes_max = 4_000)).await;
        rig.drain_into_log(false);
        rig.send(vec![rig.join(3), deliver(3, "a", false, 600)]);
        assert_eq!(rig.received().await, ["write a"], "too little to report");
        rig.send(vec![deliver(3, "b", false, 600)]);
        assert_eq!(rig.received().await, ["write b", "consumed 1200"]);
    });
}

#[test]
fn a_flood_does_not_fill_the_outbox_of_a_client_that_reads() {
    // Regression: the fanout handled all ready batches, eight times the outbox limit, before the
    // flusher ran.
    run(async {
        let rig = Rig::new(Limits::with(|limits| limits.sessions.outbox_bytes_max = 64 << 10)).await;
        rig.drain_into_log(false);
        rig.send(vec![rig.join(3)]);
        let kilobyte = "x".repeat(1 << 10);
        let batch = || (0..64).map(|_| deliver(3, &kilobyte, false, 1 << 10)).collect();
        for _ in 0..4 {
            rig.send(batch());
        }
        let mut one_batch: Vec<_> = (0..256).map(|_| deliver(3, &kilobyte, false, 1 << 10)).collect();
        one_batch.push(rig.answer(7));
        rig.send(one_batch);
        let mut received = Vec::new();
        while !received.contains(&"answered 7".to_owned()) {
            received.extend(rig.received().await);
        }
        assert_eq!(received.iter().filter(|line| line.starts_with("full")).collect::<Vec<_>>(), [""; 0]);
        let written: usize =
            received.iter().filter(|line| line.starts_with("write")).map(|line| line.matches("x ").count() + 1).sum();
        assert_eq!(written, 512);
    });
}

#[test]
fn a_delivery_to_a_large_room_yields_to_other_tasks() {
    // Regression: a broadcast to a million members took one turn of the worker.
    run(async {
        let rig = Rig::new(Limits::default()).await;
        let link = rig.worker.outboxes.borrow().link(rig.outbox.slot).unwrap().clone();
        let outboxes: Vec<_> = (0..9_000).map(|_| OutboxHandle::open(rig.worker.clone(), link.clone())).collect();
        let join = |(n, outbox): (u32, &Rc<OutboxHandle>)| FanoutCommand::Join {
            member: outbox.add_member(socket(2)),
            room: RoomId(3 + n % 2),
        };
        rig.send((0..).zip(&outboxes).map(join).collect());
        rig.received().await;
        let delivered = || rig.worker.metrics.deliveries.get();
        let mut both = deliver(3, "to both rooms", false, 9_000 * 100);
        if let FanoutCommand::Deliver(delivery) = &mut both {
            delivery.rooms.push(RoomId(4));
        }
        rig.send(vec![both, rig.answer(7), deliver(3, "behind it", false, 4_500 * 100), rig.answer(8)]);
        let (mut seen, mut received) = (Vec::new(), Vec::new());
        while !received.contains(&"answered 8".to_owned()) {
            tokio::task::yield_now().await;
            received.extend(rig.log.take());
            seen.push((delivered(), received.contains(&"answered 7".to_owned())));
        }
        assert!(seen.iter().any(|(count, _)| (1..9_000).contains(count)), "all in one turn: {seen:?}");
        assert!(seen.iter().all(|(count, answered)| !answered || *count >= 9_000), "answered in the middle: {seen:?}");
        assert_eq!(delivered(), 9_000 + 4_500, "each member once");
        assert_eq!(received.iter().filter(|line| line.starts_with("consumed")).count(), received.len() - 2);
    });
}

#[test]
fn written_bytes_are_reported_while_deliveries_continue() {
    run(async {
        let rig = Rig::new(Limits::with(|limits| limits.hub.worker_bytes_max = 4_000)).await;
        let flushes = Rc::new(Cell::new(0));
        let link = rig.worker.outboxes.borrow().link(rig.outbox.slot).unwrap().clone();
        // There are more outboxes than one turn writes, so that some are dirty at all times.
        let open = |_| OutboxHandle::open(rig.worker.clone(), link.clone());
        let outboxes: Vec<_> = (0..300).map(open).chain([rig.outbox.clone()]).collect();
        for outbox in &outboxes {
            outbox.set_drainer(Box::new(Echo { outbox: Rc::downgrade(outbox), flushes: flushes.clone() }));
            outbox.push_control(EncodedFrame::text("first"));
        }
        rig.send(vec![rig.join(3), deliver(3, "a", false, 2_000)]);
        let mut received = Vec::new();
        while received.is_empty() && flushes.get() < 10_000 {
            tokio::task::yield_now().await;
            received = rig.log.take();
        }
        assert_eq!(received, ["consumed 2000"], "after {} flushes without a pause", flushes.get());
    });
}

#[test]
fn deliveries_to_a_closed_slot_do_not_reach_the_next_session() {
    run(async {
        let rig = Rig::new(Limits::default()).await;
        let link = rig.worker.outboxes.borrow().link(rig.outbox.slot).unwrap().clone();
        rig.outbox.close();
        let successor = OutboxHandle::open(rig.worker.clone(), link);
        assert_eq!(successor.slot.index, rig.outbox.slot.index);
        rig.send(vec![rig.join(3), deliver(3, "for the closed slot", false, 1)]);
        successor.set_drainer(Box::new(Sink { log: rig.log.clone(), panics: false }));
        assert_eq!(rig.received().await, [""; 0]);
    });
}

#[test]
fn a_panicking_flusher_ends_the_process() {
    if !is_to_panic() {
        return aborts("worker::tests::a_panicking_flusher_ends_the_process");
    }
    run(async {
        let rig = Rig::new(Limits::default()).await;
        rig.drain_into_log(true);
        rig.outbox.push(DirectPacket::Sealed(EncodedFrame::text("x").into()));
        rig.received().await;
    });
}

#[test]
fn a_flusher_that_panics_while_sending_ends_the_process() {
    if !is_to_panic() {
        return aborts("worker::tests::a_flusher_that_panics_while_sending_ends_the_process");
    }
    run(async {
        let rig = Rig::new(Limits::default()).await;
        // The leaked borrow makes the next borrow panic.
        std::mem::forget(rig.worker.hub_sender.borrow_mut());
        rig.worker.flush_notify.notify();
        rig.received().await;
    });
}

#[test]
fn a_panicking_fanout_ends_the_process() {
    if !is_to_panic() {
        return aborts("worker::tests::a_panicking_fanout_ends_the_process");
    }
    run(async {
        let rig = Rig::new(Limits::default()).await;
        // The leaked borrow makes the next borrow panic.
        std::mem::forget(rig.worker.outboxes.borrow_mut());
        rig.send(vec![deliver(3, "borrowed twice", false, 1)]);
        turns().await;
    });
}
