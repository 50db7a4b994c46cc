//! The actor that applies the hub's commands on a worker, in the hub's order.

use std::rc::Rc;
use std::time::Instant;
use std::vec;

use actix::fut::{ActorFutureExt, wrap_future};
use actix::{Actor, AsyncContext, Context, Handler};
use tokio::sync::oneshot;

use super::Worker;
use super::members::{Cursor, Member, Members, Removal, Selection};
use super::outboxes::{OutboxMessage, Outboxes, Pushed};
use crate::ids::{MemberKey, RoomName, SlotKey};
use crate::messages::abort::AbortOnUnwind;
use crate::messages::fanout::{Collect, Delivery, DeliveryMode, FanoutBatch, FanoutCommand, FetchSockets, Replay};
use crate::messages::hub::ImmediateCommand;
use crate::messages::session::{SessionCommand, SocketRef};
use crate::protocol::draft::without_token;
use crate::protocol::encoded::Message;
use crate::protocol::reason::DisconnectReason;
use crate::state::outbox::PACKET_OVERHEAD_BYTES;

/// Number of delivered bytes at which the actor yields. Each member counts separately. Delivering
/// this number takes about a millisecond.
const TURN_BYTES: usize = 1 << 20;

/// Number of members that a command may visit per turn even if its event is large. Large events
/// would otherwise reach too few members.
const TURN_MEMBERS_MIN: usize = 256;

/// Maximum number of members that one command visits per turn. A member outside of the CPU cache
/// costs half a microsecond.
const TURN_MEMBERS_MAX: usize = 4_096;

/// Work of a join or leave, converted to delivered bytes.
const ROOM_WORK: usize = 128;

pub(super) struct Fanout {
    worker: Rc<Worker>,
    /// Rest of the current batch. The next batch is received only when the current batch is
    /// finished.
    commands: vec::IntoIter<FanoutCommand>,
    /// A command that takes several turns. No other command is applied before it is finished.
    in_progress: Option<InProgress>,
    /// Work of this turn in delivered bytes. Other work is converted to bytes.
    delivered: usize,
}

enum InProgress {
    ToMembers(Box<ToMembers>),
    Detach(Box<Detach>),
    /// Closes the sessions in all slots whose index is at least this number.
    CloseAll(usize, DisconnectReason),
}

/// Removal of a member. When it is finished, the names of the member's rooms are sent to `reply`,
/// and the session in slot `evicts` is closed.
struct Detach {
    member: Removal,
    reply: Option<(oneshot::Sender<Vec<RoomName>>, Vec<RoomName>)>,
    evicts: Option<SlotKey>,
}

/// A command for the members of rooms, with its progress.
struct ToMembers {
    work: Work,
    cursor: Cursor,
    delivered: u64,
    /// Sockets that match a query, or whose acks are wanted.
    sockets: Vec<SocketRef>,
    /// The event without its offset token. Created when the first member needs it.
    tokenless: Option<Message>,
}

enum Work {
    Deliver(Box<Delivery>),
    List(Box<FetchSockets>),
}

impl ToMembers {
    fn new(work: Work) -> Self {
        Self { work, cursor: Cursor::default(), delivered: 0, sockets: Vec::new(), tokenless: None }
    }
}

impl Fanout {
    pub(super) fn new(worker: Rc<Worker>) -> Self {
        Self { worker, commands: Vec::new().into_iter(), in_progress: None, delivered: 0 }
    }

    /// Applies commands of the current batch until the turn's limit is reached.
    fn run_batch(&mut self, ctx: &mut Context<Self>) {
        let _guard = AbortOnUnwind("fanout");
        loop {
            match self.in_progress.take() {
                Some(InProgress::ToMembers(to_members)) => self.visit_members(*to_members),
                Some(InProgress::Detach(detach)) => self.detach_some(detach),
                Some(InProgress::CloseAll(from, reason)) => self.close_some(from, reason),
                None => match self.commands.next() {
                    Some(command) => self.apply(command),
                    None => break,
                },
            }
            if self.in_progress.is_some() || self.delivered >= TURN_BYTES || self.worker.backlog.is_full() {
                self.delivered = 0;
                self.yield_turn(ctx);
                break;
            }
        }
        self.worker.outboxes.borrow_mut().enforce_budget();
        self.worker.send_replay_requests();
        self.worker.flush_notify.notify_delivered();
    }

    /// Yields to other tasks of this thread, and handles no message meanwhile. The flusher must run
    /// before more is delivered. Otherwise deliveries that are faster than the flusher's writes
    /// would fill the outboxes of healthy clients.
    fn yield_turn(&self, ctx: &mut Context<Self>) {
        let worker = self.worker.clone();
        let others = async move {
            tokio::task::yield_now().await;
            worker.backlog.wait_for_room().await;
        };
        ctx.wait(wrap_future(others).map(|(), fanout: &mut Self, ctx| fanout.run_batch(ctx)));
    }

    fn apply(&mut self, command: FanoutCommand) {
        match command {
            FanoutCommand::Attach { member, namespace_room, reply, offset, mode } => {
                let mut members = self.worker.members.borrow_mut();
                members.join(member, namespace_room);
                if let Some(member_here) = members.get_mut(member) {
                    member_here.mode = mode;
                    let (slot, socket) = (member_here.slot, member_here.socket.id);
                    let mut outboxes = self.worker.outboxes.borrow_mut();
                    outboxes.push(slot, OutboxMessage::unnumbered(&reply.into()));
                    if mode != DeliveryMode::WithoutToken {
                        // The journal contains the socket's CONNECT at `offset`, the first valid
                        // token of the socket. A socket that is catching up reads past that record
                        // before it becomes live.
                        outboxes.start_at(slot, offset);
                    }
                    if let DeliveryMode::CatchingUp(after) = mode {
                        outboxes.start_reading(slot, member, socket, after);
                    }
                }
            }
            FanoutCommand::Replay(replay) => self.replay(&replay),
            FanoutCommand::FellBehind { member } => {
                if let Some(slot) = self.slot_of(member) {
                    self.notify_session(
                        slot,
                        SessionCommand::OutboxFull(
                            "the journal no longer has the events that the socket reads next".into(),
                        ),
                    );
                }
            }
            FanoutCommand::Evict { member } => {
                let evicts = self.slot_of(member);
                self.detach(member, None, evicts);
            }
            FanoutCommand::Detach { member, rooms_reply } => self.detach(member, rooms_reply, None),
            FanoutCommand::Join { member, room } => {
                self.delivered += ROOM_WORK;
                self.worker.members.borrow_mut().join(member, room);
            }
            FanoutCommand::Leave { member, room } => {
                self.delivered += ROOM_WORK;
                self.worker.members.borrow_mut().leave(member, room);
            }
            FanoutCommand::Deliver(delivery) => self.deliver(delivery),
            FanoutCommand::Relay { slot, packet } => self.worker.push(slot, packet),
            FanoutCommand::Answer { to, answer } => {
                self.notify_session(to.slot, SessionCommand::Answered { ticket: to.ticket, answer });
            }
            FanoutCommand::Fetch(fetch) => self.visit_members(ToMembers::new(Work::List(fetch))),
            FanoutCommand::Fetched { slot, ticket, sockets } => {
                self.notify_session(slot, SessionCommand::Fetched { ticket, sockets });
            }
            FanoutCommand::Acked { to, socket, answer } => {
                self.notify_session(to.slot, SessionCommand::Acked { ticket: to.ticket, socket, answer });
            }
            FanoutCommand::CloseAll(reason) => self.close_some(0, reason),
        }
    }

    fn deliver(&mut self, delivery: Box<Delivery>) {
        self.worker.backlog.add(delivery.message.byte_len() + PACKET_OVERHEAD_BYTES);
        self.visit_members(ToMembers::new(Work::Deliver(delivery)));
    }

    /// Visits members until the turn's limit is reached.
    fn visit_members(&mut self, mut to_members: ToMembers) {
        let worker = self.worker.clone();
        let mut members = worker.members.borrow_mut();
        let is_done = match &to_members.work {
            Work::Deliver(_) => self.deliver_some(&mut to_members, &mut members),
            Work::List(_) => list_some(&mut to_members, &mut members, &worker.outboxes.borrow()),
        };
        if !is_done {
            self.in_progress = Some(InProgress::ToMembers(Box::new(to_members)));
            return;
        }
        drop(members);
        let ToMembers { work, sockets, .. } = to_members;
        match work {
            Work::Deliver(delivery) => {
                if let Some(collect) = delivery.collect {
                    self.collect(collect, sockets);
                }
            }
            Work::List(fetch) => {
                let FetchSockets { worker, to, .. } = *fetch;
                self.worker.send(ImmediateCommand::Fetched { worker, to, sockets });
            }
        }
    }

    fn deliver_some(&mut self, to_members: &mut ToMembers, members: &mut Members) -> bool {
        let ToMembers { work: Work::Deliver(delivery), cursor, delivered, sockets, tokenless } = to_members else {
            return true;
        };
        let cost = delivery.message.byte_len() + PACKET_OVERHEAD_BYTES;
        let most = (TURN_BYTES / cost).clamp(TURN_MEMBERS_MIN, TURN_MEMBERS_MAX);
        let mut outboxes = self.worker.outboxes.borrow_mut();
        let before = *delivered;
        let is_done = members.select(delivery.selection(), cursor, most, |key, member| {
            if self.deliver_to(&mut outboxes, delivery, tokenless, key, member) {
                *delivered += 1;
                if delivery.collect.is_some() {
                    sockets.extend(socket_ref(member, &outboxes));
                }
            }
        });
        self.worker.metrics.deliveries.add(*delivered - before);
        // The last turn accounts for all remaining bytes that the hub has charged for the delivery.
        // These may be more than were delivered, since the hub does not know which members are
        // excepted or in several rooms.
        let fanout_bytes = if is_done { delivery.fanout_bytes } else { delivery.fanout_bytes.min(most * cost) };
        delivery.fanout_bytes -= fanout_bytes;
        self.delivered += fanout_bytes;
        self.worker.backlog.record_delivered(fanout_bytes);
        is_done
    }

    /// Queues the event for a member, or lets the member read it from the journal later. Returns
    /// false if the event was dropped.
    fn deliver_to(
        &self,
        outboxes: &mut Outboxes,
        delivery: &Delivery,
        tokenless: &mut Option<Message>,
        key: MemberKey,
        member: &mut Member,
    ) -> bool {
        let Delivery { message, offset, volatile, .. } = delivery;
        let live = OutboxMessage { message, offset: *offset, volatile: *volatile };
        match (member.mode, offset) {
            (DeliveryMode::Live { recoverable: true }, Some(offset)) => {
                match outboxes.push_journalled(member.slot, message, *offset) {
                    Pushed::Queued => true,
                    Pushed::Dropped => false,
                    Pushed::NoRoom => {
                        let after = offset.lsn.before();
                        member.mode = DeliveryMode::CatchingUp(after);
                        outboxes.start_reading(member.slot, key, member.socket.id, after);
                        self.worker.metrics.lags.add(1);
                        true
                    }
                }
            }
            (DeliveryMode::Live { .. }, _) => outboxes.push(member.slot, live),
            (DeliveryMode::CatchingUp(_), Some(_)) => true,
            (DeliveryMode::CatchingUp(_), None) => {
                self.worker.metrics.dropped_volatile.add(1);
                false
            }
            (DeliveryMode::WithoutToken, _) => {
                let message =
                    tokenless.get_or_insert_with(|| without_token(message).unwrap_or_else(|| message.clone()));
                outboxes.push(member.slot, OutboxMessage { message, offset: None, ..live })
            }
        }
    }

    /// Opens the route for acks of these sockets, and reports the sockets to the collector.
    fn collect(&self, collect: Collect, sockets: Vec<SocketRef>) {
        let awaiting = sockets.iter().map(|socket| socket.info.id).collect();
        self.worker.ack_routes.borrow_mut().open(collect, awaiting, Instant::now());
        self.worker.send(ImmediateCommand::Fetched { worker: collect.worker, to: collect.to, sockets });
    }

    /// Queues a chunk of missed events. After the last chunk, the member receives events live.
    fn replay(&mut self, replay: &Replay) {
        self.delivered += replay.fanout_bytes;
        self.worker.backlog.record_replayed(replay.fanout_bytes);
        let mut members = self.worker.members.borrow_mut();
        let Some(member) = members.get_mut(replay.member) else { return };
        self.worker.outboxes.borrow_mut().replay(member.slot, replay, Instant::now());
        if replay.is_all {
            member.mode = DeliveryMode::Live { recoverable: true };
        }
    }

    fn slot_of(&self, member: MemberKey) -> Option<SlotKey> {
        self.worker.members.borrow_mut().get_mut(member).map(|member| member.slot)
    }

    fn detach(
        &mut self,
        member: MemberKey,
        reply: Option<(oneshot::Sender<Vec<RoomName>>, Vec<RoomName>)>,
        evicts: Option<SlotKey>,
    ) {
        if let Some(slot) = self.slot_of(member) {
            self.worker.outboxes.borrow_mut().stop_reading(slot, member);
        }
        let removal = self.worker.members.borrow_mut().begin_removal(member);
        match (removal, reply) {
            (Some(member), reply) => self.detach_some(Box::new(Detach { member, reply, evicts })),
            (None, Some((caller, rooms))) => drop(caller.send(rooms)),
            (None, None) => {}
        }
    }

    /// Removes the member from its rooms until the turn's limit is reached.
    fn detach_some(&mut self, mut detach: Box<Detach>) {
        self.delivered += detach.member.rooms_left().min(TURN_MEMBERS_MAX) * ROOM_WORK;
        let removed = self.worker.members.borrow_mut().continue_removal(&mut detach.member, TURN_MEMBERS_MAX);
        let Some(removed) = removed else {
            self.in_progress = Some(InProgress::Detach(detach));
            return;
        };
        let Detach { member, reply, evicts } = *detach;
        let socket = removed.socket.id;
        // A member that was never attached has received no event, so no ack of it is awaited. The
        // check is needed, since another socket may have the same id.
        if member.was_attached {
            for (worker, to) in self.worker.ack_routes.borrow_mut().remove_socket(socket) {
                self.worker.send(ImmediateCommand::Acked { worker, to, socket, answer: None });
            }
        }
        if let Some(slot) = evicts {
            self.notify_session(slot, SessionCommand::Evicted);
        }
        if let Some((caller, rooms)) = reply {
            let _ = caller.send(rooms);
        }
    }

    /// Closes sessions, starting at slot `from`, until the turn's limit is reached.
    fn close_some(&mut self, from: usize, reason: DisconnectReason) {
        let outboxes = self.worker.outboxes.borrow();
        let Some(links) = outboxes.links_from(from, TURN_MEMBERS_MAX) else { return };
        for link in links {
            let _ = link.post(SessionCommand::Close(reason));
        }
        self.in_progress = Some(InProgress::CloseAll(from + TURN_MEMBERS_MAX, reason));
    }

    /// Sends a command to the session in a slot. Events that were delivered before are already in
    /// the outbox, so an answer cannot overtake an event.
    fn notify_session(&self, slot: SlotKey, command: SessionCommand) {
        if let Some(link) = self.worker.outboxes.borrow().link(slot) {
            let _ = link.post(command);
        }
    }
}

fn list_some(to_members: &mut ToMembers, members: &mut Members, outboxes: &Outboxes) -> bool {
    let ToMembers { work: Work::List(fetch), cursor, sockets, .. } = to_members else { return true };
    members.select(fetch.selection(), cursor, TURN_MEMBERS_MAX, |_, member| {
        sockets.extend(socket_ref(member, outboxes));
    })
}

/// A reference to a member's socket. `None` if its session has ended.
fn socket_ref(member: &Member, outboxes: &Outboxes) -> Option<SocketRef> {
    let link = outboxes.link(member.slot)?.clone();
    Some(SocketRef { info: member.socket.clone(), link })
}

impl Delivery {
    fn selection(&self) -> Selection<'_> {
        let Self { rooms, except, members, exclude, .. } = self;
        Selection { rooms, except, named: members, exclude }
    }
}

impl FetchSockets {
    fn selection(&self) -> Selection<'_> {
        let Self { rooms, except, members, exclude, .. } = self;
        Selection { rooms, except, named: members, exclude }
    }
}

impl Actor for Fanout {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(self.worker.limits.hub.mailbox_batches);
    }
}

impl Handler<FanoutBatch> for Fanout {
    type Result = ();

    fn handle(&mut self, batch: FanoutBatch, ctx: &mut Context<Self>) {
        self.commands = batch.commands.into_iter();
        self.run_batch(ctx);
    }
}
