//! The hub's hand on this thread: applies what the hub decided, in the hub's order.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use std::vec;

use actix::fut::{ActorFutureExt, wrap_future};
use actix::{Actor, AsyncContext, Context, Handler};

use super::Worker;
use super::members::{Member, Selection};
use super::slots::{Pushed, Slots};
use crate::ids::{MemberKey, SlotKey};
use crate::messages::abort::AbortOnUnwind;
use crate::messages::fanout::{Collect, Delivery, FanoutBatch, FanoutCommand, Replay, Takes};
use crate::messages::hub::HubCommand;
use crate::messages::session::SessionCommand;
use crate::messages::socket::SocketInfo;
use crate::protocol::draft::without_token;
use crate::protocol::encoded::Message;
use crate::state::outbox::PACKET_OVERHEAD_BYTES;

/// Bytes delivered, all members counted, between two looks at other work of this thread: about a millisecond of it.
const TURN_BYTES: usize = 1 << 20;

/// One actor per worker.
pub(super) struct Fanout {
    worker: Rc<Worker>,
    /// What is left of the batch in hand. The next batch is taken only when this is empty.
    commands: vec::IntoIter<FanoutCommand>,
    /// Bytes delivered in this turn.
    delivered: usize,
}

impl Fanout {
    pub(super) fn new(worker: Rc<Worker>) -> Self {
        Self { worker, commands: Vec::new().into_iter(), delivered: 0 }
    }

    /// Applies the batch in hand, as much of it as this turn may.
    fn go_on(&mut self, ctx: &mut Context<Self>) {
        let _guard = AbortOnUnwind("fanout");
        while let Some(command) = self.commands.next() {
            self.apply(command);
            if self.delivered >= TURN_BYTES || self.worker.backlog.is_full() {
                self.delivered = 0;
                self.step_back(ctx);
                break;
            }
        }
        self.worker.send_wanted();
        self.worker.alarm.delivered();
    }

    /// Lets other tasks of this thread run, the flusher first of all: what is delivered faster than it is written would
    /// fill the outboxes of peers that take all they are given. No message is handled meanwhile.
    fn step_back(&self, ctx: &mut Context<Self>) {
        let worker = self.worker.clone();
        let others = async move {
            tokio::task::yield_now().await;
            worker.backlog.has_room().await;
        };
        ctx.wait(wrap_future(others).map(|(), fanout: &mut Self, ctx| fanout.go_on(ctx)));
    }

    fn apply(&mut self, command: FanoutCommand) {
        match command {
            FanoutCommand::Attach { member, everybody, reply, offset, takes } => {
                let mut members = self.worker.members.borrow_mut();
                members.join(member, everybody);
                if let Some(member_here) = members.get_mut(member) {
                    member_here.takes = takes;
                    let (slot, socket) = (member_here.slot, member_here.socket.id);
                    let mut slots = self.worker.slots.borrow_mut();
                    slots.push(slot, &reply.into(), None, false);
                    if takes != Takes::Bare {
                        // Its connect is in the journal. One that reads has passed it when it is live.
                        slots.start_at(slot, offset);
                    }
                    if let Takes::Journal(after) = takes {
                        slots.read_behind(slot, member, socket, after);
                    }
                }
            }
            FanoutCommand::Claimed { to, claimed } => {
                self.tell(to.slot, SessionCommand::Claimed { ticket: to.ticket, claimed });
            }
            FanoutCommand::Replay(replay) => self.replay(&replay),
            FanoutCommand::FellBehind { member } => {
                if let Some(slot) = self.slot_of(member) {
                    self.tell(
                        slot,
                        SessionCommand::OutboxFull("what it has to read next is gone from the journal".into()),
                    );
                }
            }
            FanoutCommand::Evict { member } => {
                let slot = self.slot_of(member);
                self.detach(member);
                if let Some(slot) = slot {
                    self.tell(slot, SessionCommand::Evicted);
                }
            }
            FanoutCommand::Detach { member, told } => {
                self.detach(member);
                if let Some((asker, rooms)) = told {
                    let _ = asker.send(rooms);
                }
            }
            FanoutCommand::Join { member, room } => self.worker.members.borrow_mut().join(member, room),
            FanoutCommand::Leave { member, room } => self.worker.members.borrow_mut().leave(member, room),
            FanoutCommand::Deliver(delivery) => self.deliver(&delivery),
            FanoutCommand::Pass { slot, packet } => self.worker.push(slot, packet),
            FanoutCommand::Answer { to, outcome } => {
                self.tell(to.slot, SessionCommand::Answered { ticket: to.ticket, outcome });
            }
            FanoutCommand::Fetch { worker, to, rooms, except, members, exclude } => {
                let selection = Selection { rooms: &rooms, except: &except, named: &members, exclude: &exclude };
                let sockets = self.list(selection);
                self.worker.send(HubCommand::Fetched { worker, to, sockets });
            }
            FanoutCommand::Fetched { slot, ticket, sockets } => {
                self.tell(slot, SessionCommand::Fetched { ticket, sockets });
            }
            FanoutCommand::Acked { to, socket, answer } => {
                self.tell(to.slot, SessionCommand::Acked { ticket: to.ticket, socket, answer });
            }
            FanoutCommand::Listed { to, page } => {
                self.tell(to.slot, SessionCommand::Listed { ticket: to.ticket, page });
            }
            FanoutCommand::CloseAll(reason) => {
                for link in self.worker.slots.borrow().links() {
                    let _ = link.post(SessionCommand::Close(reason));
                }
            }
        }
    }

    fn deliver(&mut self, delivery: &Delivery) {
        let selection = Selection {
            rooms: &delivery.rooms,
            except: &delivery.except,
            named: &delivery.members,
            exclude: &delivery.exclude,
        };
        let mut collected = delivery.collect.map(|_| Vec::new());
        let mut delivered = 0;
        // Made when the first wants it.
        let mut bare = None;
        let mut slots = self.worker.slots.borrow_mut();
        self.worker.members.borrow_mut().select(selection, |key, member| {
            if self.deliver_to(&mut slots, delivery, &mut bare, key, member) {
                delivered += 1;
                if let Some(sockets) = &mut collected {
                    sockets.push(member.socket.clone());
                }
            }
        });
        if let (Some(collect), Some(sockets)) = (delivery.collect, collected) {
            self.collect(collect, sockets);
        }
        self.delivered += delivery.weight;
        self.worker.backlog.add(delivery.message.byte_len() + PACKET_OVERHEAD_BYTES, delivery.weight);
        self.worker.metrics.deliveries.add(delivered);
    }

    /// Whether a member gets the event, now or when it has caught up.
    fn deliver_to(
        &self,
        slots: &mut Slots,
        delivery: &Delivery,
        bare: &mut Option<Message>,
        key: MemberKey,
        member: &mut Member,
    ) -> bool {
        let Delivery { message, offset, volatile, .. } = delivery;
        match (member.takes, offset) {
            (Takes::Live { recoverable: true }, Some(offset)) => {
                match slots.push_journalled(member.slot, message, *offset) {
                    Pushed::Queued => true,
                    Pushed::Dropped => false,
                    Pushed::NoRoom => {
                        let after = offset.lsn.before();
                        member.takes = Takes::Journal(after);
                        slots.read_behind(member.slot, key, member.socket.id, after);
                        self.worker.metrics.lags.add(1);
                        true
                    }
                }
            }
            (Takes::Live { .. }, _) => slots.push(member.slot, message, *offset, *volatile),
            (Takes::Journal(_), Some(_)) => true,
            (Takes::Journal(_), None) => {
                self.worker.metrics.dropped_volatile.add(1);
                false
            }
            (Takes::Bare, _) => {
                let message = bare.get_or_insert_with(|| without_token(message).unwrap_or_else(|| message.clone()));
                slots.push(member.slot, message, None, *volatile)
            }
        }
    }

    /// Those who got the event are to answer; the one who collects is told who they are.
    fn collect(&self, collect: Collect, sockets: Vec<Arc<SocketInfo>>) {
        let awaiting = sockets.iter().map(|socket| socket.id).collect();
        self.worker.collections.borrow_mut().open(collect, awaiting, Instant::now());
        self.worker.send(HubCommand::Fetched { worker: collect.worker, to: collect.to, sockets });
    }

    /// A socket gets some of what it missed. The last of it comes in front of everything that it has not missed.
    fn replay(&mut self, replay: &Replay) {
        self.delivered += replay.weight;
        self.worker.backlog.add(replay.weight, replay.weight);
        let mut members = self.worker.members.borrow_mut();
        let Some(member) = members.get_mut(replay.member) else { return };
        self.worker.slots.borrow_mut().replay(member.slot, replay);
        if replay.is_all {
            member.takes = Takes::Live { recoverable: true };
        }
    }

    fn slot_of(&self, member: MemberKey) -> Option<SlotKey> {
        self.worker.members.borrow_mut().get_mut(member).map(|member| member.slot)
    }

    fn detach(&self, member: MemberKey) {
        let Some(gone) = self.worker.members.borrow_mut().remove(member) else { return };
        self.worker.slots.borrow_mut().stop_reading(gone.slot, member);
        if !gone.is_attached() {
            // Nobody has asked it anything; it may bear the id of one that was asked.
            return;
        }
        let socket = gone.socket.id;
        for (worker, to) in self.worker.collections.borrow_mut().gone(socket) {
            self.worker.send(HubCommand::Acked { worker, to, socket, answer: None });
        }
    }

    fn list(&self, selection: Selection<'_>) -> Vec<Arc<SocketInfo>> {
        let mut sockets = Vec::new();
        self.worker.members.borrow_mut().select(selection, |_, member| sockets.push(member.socket.clone()));
        sockets
    }

    /// Deliveries are in the outboxes when they are applied, so an answer told now cannot overtake one.
    fn tell(&self, slot: SlotKey, command: SessionCommand) {
        if let Some(link) = self.worker.slots.borrow().link(slot) {
            let _ = link.post(command);
        }
    }
}

impl Actor for Fanout {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(self.worker.limits.mailbox_batches);
    }
}

impl Handler<FanoutBatch> for Fanout {
    type Result = ();

    fn handle(&mut self, batch: FanoutBatch, ctx: &mut Context<Self>) {
        self.commands = batch.commands.into_iter();
        self.go_on(ctx);
    }
}
