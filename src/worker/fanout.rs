//! The hub's hand on this thread: applies what the hub decided, in the hub's order.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use std::vec;

use actix::fut::{ActorFutureExt, wrap_future};
use actix::{Actor, AsyncContext, Context, Handler};

use super::Worker;
use super::members::Selection;
use crate::ids::MemberKey;
use crate::messages::abort::AbortOnUnwind;
use crate::messages::fanout::{Collect, Delivery, FanoutBatch, FanoutCommand};
use crate::messages::hub::HubCommand;
use crate::messages::session::SessionCommand;
use crate::messages::socket::SocketInfo;
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
            FanoutCommand::Attach { member, everybody, reply, offset } => {
                let mut members = self.worker.members.borrow_mut();
                members.join(member, everybody);
                if let Some(slot) = members.slot(member) {
                    let mut slots = self.worker.slots.borrow_mut();
                    slots.start_at(slot, offset);
                    slots.push(slot, &reply.into(), None, false);
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
        let delivered = match delivery.collect {
            Some(collect) => self.deliver_and_collect(delivery, selection, collect),
            None => {
                let mut slots = self.worker.slots.borrow_mut();
                let mut delivered = 0;
                self.worker.members.borrow_mut().select(selection, |_, slot| {
                    delivered += u64::from(slots.push(slot, &delivery.message, delivery.offset, delivery.volatile));
                });
                delivered
            }
        };
        self.delivered += delivery.weight;
        self.worker.backlog.add(delivery.message.byte_len() + PACKET_OVERHEAD_BYTES, delivery.weight);
        self.worker.metrics.deliveries.add(delivered);
    }

    /// Those who got the event are to answer; the one who collects is told who they are.
    fn deliver_and_collect(&self, delivery: &Delivery, selection: Selection<'_>, collect: Collect) -> u64 {
        let mut sockets = Vec::new();
        let mut slots = self.worker.slots.borrow_mut();
        self.worker.members.borrow_mut().select(selection, |socket, slot| {
            if slots.push(slot, &delivery.message, delivery.offset, delivery.volatile) {
                sockets.push(socket.clone());
            }
        });
        let delivered = sockets.len() as u64;
        let awaiting = sockets.iter().map(|socket| socket.id).collect();
        self.worker.collections.borrow_mut().open(collect, awaiting, Instant::now());
        self.worker.send(HubCommand::Fetched { worker: collect.worker, to: collect.to, sockets });
        delivered
    }

    fn detach(&self, member: MemberKey) {
        let Some(socket) = self.worker.members.borrow_mut().remove(member).map(|socket| socket.id) else { return };
        for (worker, to) in self.worker.collections.borrow_mut().gone(socket) {
            self.worker.send(HubCommand::Acked { worker, to, socket, answer: None });
        }
    }

    fn list(&self, selection: Selection<'_>) -> Vec<Arc<SocketInfo>> {
        let mut sockets = Vec::new();
        self.worker.members.borrow_mut().select(selection, |socket, _| sockets.push(socket.clone()));
        sockets
    }

    /// Deliveries are in the outboxes when they are applied, so an answer told now cannot overtake one.
    fn tell(&self, slot: crate::ids::SlotKey, command: SessionCommand) {
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
