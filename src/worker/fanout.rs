//! The hub's hand on this thread: applies what the hub decided, in the hub's order.

use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, Context, Handler};

use super::Worker;
use super::members::Selection;
use crate::messages::abort::AbortOnUnwind;
use crate::messages::fanout::{Delivery, FanoutBatch, FanoutCommand};
use crate::messages::hub::HubCommand;
use crate::messages::session::SessionCommand;
use crate::messages::socket::SocketInfo;

/// One actor per worker.
pub(super) struct Fanout {
    worker: Rc<Worker>,
}

impl Fanout {
    pub(super) fn new(worker: Rc<Worker>) -> Self {
        Self { worker }
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
            FanoutCommand::Detach { member } => self.worker.members.borrow_mut().remove(member),
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

    fn deliver(&self, delivery: &Delivery) {
        let selection = Selection {
            rooms: &delivery.rooms,
            except: &delivery.except,
            named: &delivery.members,
            exclude: &delivery.exclude,
        };
        let mut slots = self.worker.slots.borrow_mut();
        self.worker.members.borrow_mut().select(selection, |_, slot| {
            slots.push(slot, &delivery.message, delivery.offset, delivery.volatile);
        });
        self.worker.consumed.set(self.worker.consumed.get() + delivery.weight);
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

    fn handle(&mut self, batch: FanoutBatch, _: &mut Context<Self>) {
        let _guard = AbortOnUnwind("fanout");
        for command in batch.commands {
            self.apply(command);
        }
        self.worker.alarm.delivered();
    }
}
