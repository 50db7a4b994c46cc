//! A worker alone, with a hub that only listens: what reaches an outbox, in which order, and the guards.

mod budget;
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
use crate::messages::answer::{Answer, Done, NoAnswer, Receipt, ReplyTo};
use crate::messages::event::DirectPacket;
use crate::messages::fanout::{Delivery, FanoutBatch, FanoutCommand};
use crate::messages::hub::{HubBatch, HubCommand, ImmediateCommand, OrderedCommand};
use crate::messages::session::tests::link;
use crate::messages::session::{Listing, SessionCommand, SessionLink, SocketRef};
use crate::messages::sink::{CloseReason, Drained, FrameSink};
use crate::messages::socket::tests::socket;
use crate::protocol::encoded::EncodedFrame;
use crate::state::budget::Budgets;
use crate::state::credit::Ticket;
use crate::state::outbox::Outbox;
use crate::state::rooms::Target;

type Log = Rc<RefCell<Vec<String>>>;

/// Stands for hub and session, and records what they receive.
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
            let words = match command {
                HubCommand::Immediate(ImmediateCommand::Register { fanout }) => {
                    *self.fanout.borrow_mut() = Some(fanout);
                    continue;
                }
                HubCommand::Immediate(ImmediateCommand::Consumed { bytes, replayed: 0 }) => format!("consumed {bytes}"),
                HubCommand::Immediate(ImmediateCommand::Consumed { replayed, .. }) => format!("replayed {replayed}"),
                HubCommand::Immediate(ImmediateCommand::Read { after, .. }) => format!("read {}", after.0),
                HubCommand::Ordered(OrderedCommand::Relay { .. }) => "pass".into(),
                HubCommand::Ordered(OrderedCommand::Disconnect { .. }) => "disconnect".into(),
                _ => continue,
            };
            self.log.borrow_mut().push(words);
        }
    }
}

impl Handler<SessionCommand> for Listener {
    type Result = ();

    fn handle(&mut self, command: SessionCommand, _: &mut Context<Self>) {
        let words = match command {
            SessionCommand::Answered { ticket, .. } => format!("answered {}", ticket.0),
            SessionCommand::DrainerLost(why) => format!("lost: {why}"),
            SessionCommand::Evicted => "evicted".into(),
            SessionCommand::OutboxFull(why) => format!("full: {why}"),
            SessionCommand::OutboxCut { can_notify, .. } => format!("cut, told: {can_notify}"),
            _ => return,
        };
        self.log.borrow_mut().push(words);
    }
}

/// Writes down what it drains.
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

/// Never done: whenever it is drained, its outbox is filled again.
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

    fn tell(&self, commands: Vec<FanoutCommand>) {
        assert!(self.fanout.try_send(FanoutBatch { commands }).is_ok());
    }

    fn drain_into_log(&self, panics: bool) {
        self.outbox.set_drainer(Box::new(Sink { log: self.log.clone(), panics }));
    }

    async fn heard(&self) -> Vec<String> {
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
fn all_deliveries_of_a_turn_leave_in_one_write_and_before_the_answer() {
    run(async {
        let rig = Rig::new(Limits::default()).await;
        rig.drain_into_log(false);
        rig.tell(vec![rig.join(3), deliver(3, "a", false, 1), deliver(3, "b", false, 1), rig.answer(7)]);
        rig.tell(vec![deliver(3, "c", false, 1), deliver(4, "not in that room", false, 1)]);
        let heard = rig.heard().await;
        assert_eq!(heard.iter().filter(|line| line.starts_with("write")).collect::<Vec<_>>(), ["write a b c"]);
        assert!(heard.contains(&"answered 7".to_owned()), "{heard:?}");
    });
}

#[test]
fn a_volatile_delivery_is_dropped_where_nobody_drains() {
    run(async {
        let rig = Rig::new(Limits::default()).await;
        rig.tell(vec![rig.join(3), deliver(3, "volatile", true, 1), deliver(3, "plain", false, 1)]);
        assert_eq!(rig.heard().await, [""; 0]);
        rig.drain_into_log(false);
        assert_eq!(rig.heard().await, ["write plain"]);
    });
}

#[test]
fn a_full_outbox_loses_its_session_and_takes_nothing_more() {
    run(async {
        let rig = Rig::new(Limits::with(|limits| limits.sessions.outbox_bytes_max = 100)).await;
        rig.outbox.push(DirectPacket::Sealed(EncodedFrame::text("first").into()));
        rig.outbox.push(DirectPacket::Sealed(EncodedFrame::text(&"x".repeat(100)).into()));
        rig.outbox.push(DirectPacket::Sealed(EncodedFrame::text("third").into()));
        let heard = rig.heard().await;
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert!(heard[0].starts_with("full: outbox of"), "{heard:?}");
    });
}

#[test]
fn what_was_written_out_is_reported_to_the_hub() {
    run(async {
        let rig = Rig::new(Limits::with(|limits| limits.hub.worker_bytes_max = 4_000)).await;
        rig.drain_into_log(false);
        rig.tell(vec![rig.join(3), deliver(3, "a", false, 600)]);
        assert_eq!(rig.heard().await, ["write a"], "too little to report");
        rig.tell(vec![deliver(3, "b", false, 600)]);
        assert_eq!(rig.heard().await, ["write b", "consumed 1200"]);
    });
}

#[test]
fn a_flood_does_not_fill_the_outbox_of_a_peer_that_takes_all_it_is_given() {
    // The fanout once handled everything that was ready before the flusher had its turn: eight times the bound, all at once.
    run(async {
        let rig = Rig::new(Limits::with(|limits| limits.sessions.outbox_bytes_max = 64 << 10)).await;
        rig.drain_into_log(false);
        rig.tell(vec![rig.join(3)]);
        let kilobyte = "x".repeat(1 << 10);
        let batch = || (0..64).map(|_| deliver(3, &kilobyte, false, 1 << 10)).collect();
        for _ in 0..4 {
            rig.tell(batch());
        }
        let mut one_batch: Vec<_> = (0..256).map(|_| deliver(3, &kilobyte, false, 1 << 10)).collect();
        one_batch.push(rig.answer(7));
        rig.tell(one_batch);
        let mut heard = Vec::new();
        while !heard.contains(&"answered 7".to_owned()) {
            heard.extend(rig.heard().await);
        }
        assert_eq!(heard.iter().filter(|line| line.starts_with("full")).collect::<Vec<_>>(), [""; 0]);
        let written: usize =
            heard.iter().filter(|line| line.starts_with("write")).map(|line| line.matches("x ").count() + 1).sum();
        assert_eq!(written, 512);
    });
}

#[test]
fn others_of_the_thread_have_their_turn_within_a_delivery_to_a_large_room() {
    // A broadcast to a million members was one turn of its worker.
    run(async {
        let rig = Rig::new(Limits::default()).await;
        let link = rig.worker.outboxes.borrow().link(rig.outbox.slot).unwrap().clone();
        let outboxes: Vec<_> = (0..9_000).map(|_| OutboxHandle::open(rig.worker.clone(), link.clone())).collect();
        let join = |(n, outbox): (u32, &Rc<OutboxHandle>)| FanoutCommand::Join {
            member: outbox.add_member(socket(2)),
            room: RoomId(3 + n % 2),
        };
        rig.tell((0..).zip(&outboxes).map(join).collect());
        rig.heard().await;
        let delivered = || rig.worker.metrics.deliveries.get();
        let mut both = deliver(3, "to both rooms", false, 9_000 * 100);
        if let FanoutCommand::Deliver(delivery) = &mut both {
            delivery.rooms.push(RoomId(4));
        }
        rig.tell(vec![both, rig.answer(7), deliver(3, "behind it", false, 4_500 * 100), rig.answer(8)]);
        let (mut seen, mut heard) = (Vec::new(), Vec::new());
        while !heard.contains(&"answered 8".to_owned()) {
            tokio::task::yield_now().await;
            heard.extend(rig.log.take());
            seen.push((delivered(), heard.contains(&"answered 7".to_owned())));
        }
        assert!(seen.iter().any(|(count, _)| (1..9_000).contains(count)), "all in one turn: {seen:?}");
        assert!(seen.iter().all(|(count, answered)| !answered || *count >= 9_000), "answered in the middle: {seen:?}");
        assert_eq!(delivered(), 9_000 + 4_500, "each member once");
        assert_eq!(heard.iter().filter(|said| said.starts_with("consumed")).count(), heard.len() - 2);
    });
}

#[test]
fn what_was_written_is_reported_while_more_keeps_coming() {
    run(async {
        let rig = Rig::new(Limits::with(|limits| limits.hub.worker_bytes_max = 4_000)).await;
        let flushes = Rc::new(Cell::new(0));
        let link = rig.worker.outboxes.borrow().link(rig.outbox.slot).unwrap().clone();
        // More than are written in one turn, so that some are dirty at all times.
        let open = |_| OutboxHandle::open(rig.worker.clone(), link.clone());
        let outboxes: Vec<_> = (0..300).map(open).chain([rig.outbox.clone()]).collect();
        for outbox in &outboxes {
            outbox.set_drainer(Box::new(Echo { outbox: Rc::downgrade(outbox), flushes: flushes.clone() }));
            outbox.push_control(EncodedFrame::text("first"));
        }
        rig.tell(vec![rig.join(3), deliver(3, "a", false, 2_000)]);
        let mut heard = Vec::new();
        while heard.is_empty() && flushes.get() < 10_000 {
            tokio::task::yield_now().await;
            heard = rig.log.take();
        }
        assert_eq!(heard, ["consumed 2000"], "after {} flushes without a pause", flushes.get());
    });
}

#[test]
fn a_gate_that_closes_still_says_which_sockets_have_gone() {
    // A socket left its namespace while its session was out of credit; then the session ended. The hub would have kept
    // the socket for ever.
    run(async {
        let rig = Rig::new(Limits::with(|limits| limits.hub.credit_commands = 1)).await;
        let mut credit_window = CreditWindow::new(rig.outbox.clone());
        let now = std::time::Instant::now();
        let socket = SocketId::from_random([1; 15]);
        let packet = || DirectPacket::Sealed(EncodedFrame::text("x").into());
        credit_window
            .submit(now, 1, PendingReply::Nobody, move |from| OrderedCommand::Relay { from, packet: packet() });
        credit_window.push(|| now, packet());
        let slot = rig.outbox.slot;
        credit_window.submit_free(OrderedCommand::Disconnect { slot, socket, forever: false, rooms: None });
        assert_eq!(rig.heard().await, ["pass"], "the second packet has no credit, and the rest keeps its place");
        drop(credit_window);
        assert_eq!(rig.heard().await, ["disconnect"]);
    });
}

#[test]
fn emits_of_a_session_that_has_ended_go_at_the_pace_of_its_credit() {
    // All that waited went at once: 20 clients that had left made 86 million deliveries.
    run(async {
        let rig = Rig::new(Limits::with(|limits| {
            limits.hub.credit_commands = 1;
            limits.hub.departed_bytes_max = 1_000;
        }))
        .await;
        let mut credit_window = CreditWindow::new(rig.outbox.clone());
        let now = std::time::Instant::now();
        let emit = |credit_window: &mut CreditWindow| {
            let (done, told) = tokio::sync::oneshot::channel();
            let packet = DirectPacket::Sealed(EncodedFrame::text("x").into());
            credit_window.submit(now, 100, PendingReply::Emit(Done::WhenNumbered(done)), |from| {
                OrderedCommand::Relay { from, packet }
            });
            told
        };
        let mut told: Vec<_> = (0..10).map(|_| emit(&mut credit_window)).collect();
        let (done, left) = tokio::sync::oneshot::channel();
        let room = RoomName::parse("a").unwrap();
        credit_window.submit(now, 1, PendingReply::Leave(done), move |from| OrderedCommand::Leave {
            from,
            socket: socket(1).id,
            room,
        });
        credit_window.retire(now);
        assert_eq!(left.await, Ok(Err(NoAnswer::Disconnected)), "that concerned nobody else");
        assert_eq!(rig.heard().await, ["pass"]);
        assert_eq!(told.pop().unwrap().await, Ok(Err(NoAnswer::Overloaded.into())), "more waits than may");
        for ticket in 0..9 {
            if credit_window.is_done() {
                break;
            }
            credit_window.on_answer(now, Ticket(ticket), Answer::Emit(Ok(Receipt { offset: None })));
            assert_eq!(told.remove(0).await, Ok(Ok(Receipt { offset: None })));
            assert!(credit_window.is_done() || rig.heard().await == ["pass"]);
        }
        assert!(credit_window.is_done());
        assert_eq!(rig.worker.departed_bytes.get(), 0);
    });
}

#[test]
fn a_question_in_flight_is_answered_when_its_session_has_ended() {
    // It failed, and with it what a handler of a client that left wanted to know.
    run(async {
        let rig = Rig::new(Limits::default()).await;
        let mut credit_window = CreditWindow::new(rig.outbox.clone());
        let now = std::time::Instant::now();
        let (asker, fetched) = tokio::sync::oneshot::channel();
        super::server_sender::fetch(&mut credit_window, now, NamespacePath::root(), Target::default(), asker);
        let (asker, listed) = tokio::sync::oneshot::channel();
        super::server_sender::list(
            &mut credit_window,
            now,
            Listing::InNamespace { namespace: NamespacePath::root(), from: 0 },
            asker,
        );
        credit_window.retire(now);
        credit_window.on_answer(now, Ticket(0), Answer::Fetch(1));
        credit_window.on_sockets(Ticket(0), vec![SocketRef { info: socket(1), link: link() }]);
        assert_eq!(fetched.await.unwrap().unwrap().len(), 1);
        assert!(!credit_window.is_done());
        credit_window.on_timeout(now + Limits::default().hub.answer_timeout);
        assert_eq!(listed.await, Ok(Err(NoAnswer::Unanswered)));
        assert!(credit_window.is_done());
    });
}

#[test]
fn a_closed_slot_is_not_taken_for_its_successor() {
    run(async {
        let rig = Rig::new(Limits::default()).await;
        let link = rig.worker.outboxes.borrow().link(rig.outbox.slot).unwrap().clone();
        rig.outbox.close();
        let successor = OutboxHandle::open(rig.worker.clone(), link);
        assert_eq!(successor.slot.index, rig.outbox.slot.index);
        rig.tell(vec![rig.join(3), deliver(3, "for the dead", false, 1)]);
        successor.set_drainer(Box::new(Sink { log: rig.log.clone(), panics: false }));
        assert_eq!(rig.heard().await, [""; 0]);
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
        rig.heard().await;
    });
}

#[test]
fn a_flusher_that_panics_on_its_way_to_the_hub_ends_the_process() {
    if !is_to_panic() {
        return aborts("worker::tests::a_flusher_that_panics_on_its_way_to_the_hub_ends_the_process");
    }
    run(async {
        let rig = Rig::new(Limits::default()).await;
        // Borrowed for ever, which is what a defect could do.
        std::mem::forget(rig.worker.hub_sender.borrow_mut());
        rig.worker.flush_notify.notify();
        rig.heard().await;
    });
}

#[test]
fn a_panicking_fanout_ends_the_process() {
    if !is_to_panic() {
        return aborts("worker::tests::a_panicking_fanout_ends_the_process");
    }
    run(async {
        let rig = Rig::new(Limits::default()).await;
        // Borrowed for ever, which is what a defect could do.
        std::mem::forget(rig.worker.outboxes.borrow_mut());
        rig.tell(vec![deliver(3, "borrowed twice", false, 1)]);
        turns().await;
    });
}
