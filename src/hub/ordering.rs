//! Execution of single commands. Each command is checked, numbered, journalled and applied, and its
//! deliveries are queued for the workers, before the next command is executed.

use std::collections::HashSet;

use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::Hub;
use super::intake::ROOM_WORK;
use super::journal_writer::JournalWriter;
use crate::ids::{
    AckId, AckOwner, MemberKey, NamespacePath, Offset, QueueOffset, RoomName, SlotKey, SocketId, WorkerId,
};
use crate::journal::{EventRecord, RecordBody};
use crate::messages::answer::{Answer, EmitRefusal, Joined, ROOMS_PER_PAGE, Receipt, ReplyTo, RoomListPage};
use crate::messages::event::{AckWanted, Emit, Grade};
use crate::messages::fanout::{Collect, Delivery, FanoutCommand, FetchSockets};
use crate::messages::hub::OrderedCommand;
use crate::messages::session::Listing;
use crate::metrics::Metrics;
use crate::protocol::encoded::Message;
use crate::state::outbox::PACKET_OVERHEAD_BYTES;
use crate::state::rooms::{MembershipError, ROOMS_PER_REMOVAL, RoomBounds, SocketLocation, Target};

const LISTED_WORK: usize = 64;

impl Hub {
    pub(super) fn next_offset(&mut self) -> Option<Offset> {
        self.writer.as_mut().map(JournalWriter::next_offset)
    }

    pub(super) fn apply(&mut self, worker: WorkerId, command: OrderedCommand) {
        match command {
            OrderedCommand::CheckResume { from, namespace, claim } => {
                let session = self.check_resume(&namespace, claim);
                self.workers.answer(worker, from, Answer::ResumeChecked(session));
            }
            OrderedCommand::Connect(connect) => {
                self.workers.note_sessions(worker);
                let from = connect.from;
                let offset = self.next_offset();
                let connected = self.apply_connect(worker, *connect, offset);
                self.workers.answer(worker, from, Answer::Connect(connected));
            }
            OrderedCommand::Data { from, socket, data } => {
                self.apply_data(worker, from.slot, socket, data);
                self.workers.answer(worker, from, Answer::Done);
            }
            OrderedCommand::Disconnect { slot, socket, forever, rooms } => {
                self.apply_disconnect(worker, slot, socket, forever, rooms);
            }
            OrderedCommand::Join { from, socket, room } => {
                let joined = self.apply_join(worker, from.slot, socket, room, RoomBounds::from(&self.limits));
                self.workers.answer(worker, from, Answer::Join(joined));
            }
            OrderedCommand::Leave { from, socket, room } => {
                self.apply_leave(worker, from.slot, socket, room);
                self.workers.answer(worker, from, Answer::Leave);
            }
            OrderedCommand::JoinDurable { from, socket, room, .. } => {
                let joined = self.apply_join_durable(worker, from.slot, socket, room);
                self.workers.answer(worker, from, Answer::Join(joined));
            }
            OrderedCommand::LeaveDurable { from, socket, room } => {
                self.apply_leave_durable(worker, from.slot, socket, room);
                self.workers.answer(worker, from, Answer::Leave);
            }
            OrderedCommand::KeepDurable { from, socket, rooms } => {
                self.apply_keep_durable(worker, from.slot, socket, rooms);
                self.workers.answer(worker, from, Answer::Leave);
            }
            OrderedCommand::Broadcast { from, emit, ack } => {
                self.metrics.hub.events.add(1);
                let answer = self.apply_broadcast(worker, from, *emit, ack);
                self.workers.answer(worker, from, answer);
            }
            OrderedCommand::Publish { from, emit } => self.apply_publish(worker, from, *emit),
            OrderedCommand::Relay { from, packet } => {
                self.workers.queue_command(worker, FanoutCommand::Relay { slot: from.slot, packet });
                self.workers.answer(worker, from, Answer::Done);
            }
            OrderedCommand::Fetch { from, namespace, target } => {
                let parts = self.apply_fetch(worker, from, &namespace, &target);
                self.workers.answer(worker, from, Answer::Fetch(parts));
            }
            OrderedCommand::List { from, listing } => {
                let page = self.list(listing);
                self.workers.answer(worker, from, Answer::List(page));
            }
        }
    }

    fn apply_data(&mut self, worker: WorkerId, slot: SlotKey, socket: SocketId, data: Option<Box<str>>) {
        let offset = self.next_offset();
        if self.is_owned_by(&socket, worker, slot) {
            self.journal_change(socket, offset, || RecordBody::Data { socket, data });
        }
    }

    /// Removes a socket. `rooms_reply` receives the names of the socket's rooms.
    pub(super) fn apply_disconnect(
        &mut self,
        worker: WorkerId,
        slot: SlotKey,
        socket: SocketId,
        forever: bool,
        rooms_reply: Option<oneshot::Sender<Vec<RoomName>>>,
    ) {
        let offset = self.next_offset();
        if !self.is_owned_by(&socket, worker, slot) {
            return;
        }
        let needs_rooms = rooms_reply.is_some() || self.is_watched();
        let rooms = if needs_rooms { self.rooms.rooms_of(&socket) } else { Vec::new() };
        for (room, members) in &rooms {
            self.announce_left(&socket, room, members - 1);
        }
        let counted = if needs_rooms { rooms.len() } else { self.rooms.room_count(&socket).min(ROOMS_PER_REMOVAL) };
        self.work += counted * ROOM_WORK;
        let Some(SocketLocation { worker, member, .. }) = self.rooms.disconnect(&socket) else { return };
        self.finish_removals();
        if self.remembers(&socket) {
            let at_unix_ms = self.now_unix_ms();
            self.journal(offset, || RecordBody::Disconnect { socket, forever, at_unix_ms });
        }
        let rooms_reply = rooms_reply.map(|reply| (reply, rooms.into_iter().map(|(room, _)| room).collect()));
        self.workers.queue_command(worker, FanoutCommand::Detach { member, rooms_reply });
    }

    fn apply_join(
        &mut self,
        worker: WorkerId,
        slot: SlotKey,
        socket: SocketId,
        room: RoomName,
        bounds: RoomBounds,
    ) -> Result<Joined, MembershipError> {
        let offset = self.next_offset();
        if !self.is_owned_by(&socket, worker, slot) {
            return Err(MembershipError::NotConnected);
        }
        // A disconnected socket's own room stays reserved until the session of that socket is
        // forgotten.
        if room.owner().is_some_and(|owner| owner != socket && self.remembers(&owner)) {
            return Err(MembershipError::ForeignRoom);
        }
        let joined =
            self.rooms.join(&socket, &room, bounds).inspect_err(|error| count_refused_join(&self.metrics, error))?;
        if !joined.is_new {
            let offset = self.writer.as_ref().map(JournalWriter::applied);
            return Ok(Joined { members: joined.members, offset });
        }
        self.announce_joined(&socket, &room, joined.members);
        // The record shares the allocation of the room's name with the table of rooms, since recent
        // records stay in memory.
        let room = self.rooms.name_of(joined.room).cloned().unwrap_or(room);
        self.journal_change(socket, offset, || RecordBody::Join { socket, room });
        let member = joined.location.member;
        self.workers.queue_command(joined.location.worker, FanoutCommand::Join { member, room: joined.room });
        Ok(Joined { members: joined.members, offset })
    }

    /// Joins the shadow room and the room, or neither.
    fn apply_join_durable(
        &mut self,
        worker: WorkerId,
        slot: SlotKey,
        socket: SocketId,
        room: RoomName,
    ) -> Result<Joined, MembershipError> {
        let (shadow, bounds) = (RoomName::shadow_of(&room), RoomBounds::from(&self.limits));
        // A refused join leaves no records of the shadow room.
        self.rooms.check_join(&socket, &room, bounds).inspect_err(|error| count_refused_join(&self.metrics, error))?;
        self.apply_join(worker, slot, socket, shadow.clone(), bounds)?;
        self.apply_join(worker, slot, socket, room, bounds)
            .inspect_err(|_| self.apply_leave(worker, slot, socket, shadow))
    }

    fn apply_leave(&mut self, worker: WorkerId, slot: SlotKey, socket: SocketId, room: RoomName) {
        let offset = self.next_offset();
        if self.is_owned_by(&socket, worker, slot)
            && let Some(left) = self.rooms.leave(&socket, &room)
        {
            self.announce_left(&socket, &room, left.members);
            self.journal_change(socket, offset, || RecordBody::Leave { socket, room });
            let member = left.location.member;
            self.workers.queue_command(worker, FanoutCommand::Leave { member, room: left.room });
        }
    }

    /// Leaves the shadow room and the room.
    fn apply_leave_durable(&mut self, worker: WorkerId, slot: SlotKey, socket: SocketId, room: RoomName) {
        self.apply_leave(worker, slot, socket, RoomName::shadow_of(&room));
        self.apply_leave(worker, slot, socket, room);
    }

    /// Leaves the durable rooms of a socket, except some.
    fn apply_keep_durable(&mut self, worker: WorkerId, slot: SlotKey, socket: SocketId, kept: Vec<RoomName>) {
        let kept: HashSet<RoomName> = kept.into_iter().collect();
        let joined = self.rooms.durable_rooms_of(&socket);
        self.work += joined.len() * ROOM_WORK;
        for room in joined.into_iter().filter(|room| !kept.contains(room)) {
            self.apply_leave_durable(worker, slot, socket, room);
        }
    }

    fn list(&mut self, listing: Listing) -> RoomListPage {
        let page = match listing {
            Listing::OfSocket(socket) => RoomListPage { rooms: self.rooms.rooms_of(&socket), next: None },
            Listing::InNamespace { namespace, from } => {
                let (rooms, next) = self.rooms.rooms_in(&namespace, from, ROOMS_PER_PAGE);
                RoomListPage { rooms, next }
            }
        };
        self.work += page.rooms.len() * ROOM_WORK;
        page
    }

    fn apply_broadcast(&mut self, worker: WorkerId, from: ReplyTo, emit: Emit, ack: AckWanted) -> Answer {
        match ack {
            AckWanted::No => Answer::Emit(self.emit(emit, None, None).map(|(receipt, _)| receipt)),
            // The session chooses the ack id. A request of an evicted session is refused, since the
            // new session of the socket may choose the same id.
            AckWanted::OfOne { socket, .. } if !self.is_owned_by(&socket, worker, from.slot) => {
                Answer::Emit(Err(EmitRefusal::NotConnected))
            }
            AckWanted::OfOne { id, .. } => Answer::Emit(self.emit(emit, Some(id), None).map(|(receipt, _)| receipt)),
            AckWanted::OfMany(timeout) => {
                self.collections += 1;
                let id = AckId::new(AckOwner::Hub, self.collections);
                let collect = Collect { id, worker, to: from, timeout };
                Answer::Collect(self.emit(emit, Some(id), Some(collect)).map(|(_, parts)| parts))
            }
        }
    }

    /// Numbers, journals and delivers an event. Returns the event's receipt and the number of
    /// workers with receivers.
    fn emit(
        &mut self,
        emit: Emit,
        id: Option<AckId>,
        collect: Option<Collect>,
    ) -> Result<(Receipt, usize), EmitRefusal> {
        let Emit { target, draft, grade } = emit;
        let volatile = grade == Grade::Volatile;
        let offset = if volatile { None } else { self.next_offset() };
        let namespace = draft.namespace().clone();
        // An event without a number has the offset of the newest record as its token.
        let token = offset.or_else(|| self.writer.as_ref().map(JournalWriter::applied));
        let message = draft.seal(id.map(AckId::to_wire), token.as_ref());
        // A numbered event is sent only after it was journalled, unless no known session may
        // receive it.
        let may_send = offset.is_none()
            || !self.may_concern_session(&namespace, &target)
            || self.journal(offset, || event_record(&namespace, &target, &message, None));
        if !may_send {
            return Err(EmitRefusal::TooLarge);
        }
        let parts = self.deliver(&namespace, &target, &message, offset, volatile, collect);
        Ok((Receipt { offset }, parts))
    }

    /// Queues an event for the workers that have receivers. Returns the number of these workers.
    pub(super) fn deliver(
        &mut self,
        namespace: &NamespacePath,
        target: &Target,
        message: &Message,
        offset: Option<Offset>,
        volatile: bool,
        collect: Option<Collect>,
    ) -> usize {
        let route = self.rooms.route(namespace, target);
        self.work += (target.rooms.len() + target.except.len()) * ROOM_WORK + message.byte_len();
        let cost = message.byte_len() + PACKET_OVERHEAD_BYTES;
        let mut parts = 0;
        for worker in self.workers.workers() {
            let member_count = self.rooms.member_count(&route, worker);
            if member_count > 0 {
                parts += 1;
                let delivery = Delivery {
                    rooms: route.rooms.clone(),
                    except: route.except.clone(),
                    members: members_on(worker, &route.sockets),
                    exclude: members_on(worker, &route.exclude),
                    message: message.clone(),
                    offset,
                    volatile,
                    fanout_bytes: member_count * cost,
                    collect,
                };
                self.fanout_bytes += delivery.fanout_bytes;
                self.workers.deliver(worker, delivery);
            }
        }
        parts
    }

    /// Requests the members of the target from each worker that has some. Returns the number of
    /// these workers.
    fn apply_fetch(&mut self, asker: WorkerId, from: ReplyTo, namespace: &NamespacePath, target: &Target) -> usize {
        let route = self.rooms.route(namespace, target);
        self.work += (target.rooms.len() + target.except.len()) * ROOM_WORK;
        let with_members: SmallVec<[WorkerId; 4]> =
            self.workers.workers().filter(|worker| self.rooms.member_count(&route, *worker) > 0).collect();
        for worker in &with_members {
            let fetch = FetchSockets {
                worker: asker,
                to: from,
                rooms: route.rooms.clone(),
                except: route.except.clone(),
                members: members_on(*worker, &route.sockets),
                exclude: members_on(*worker, &route.exclude),
            };
            self.fanout_bytes += self.rooms.member_count(&route, *worker) * LISTED_WORK;
            self.workers.queue_command(*worker, FanoutCommand::Fetch(Box::new(fetch)));
        }
        with_members.len()
    }

    /// Journals a record if recovery is on. Returns false if the record is too large.
    pub(super) fn journal(&mut self, offset: Option<Offset>, body: impl FnOnce() -> RecordBody) -> bool {
        let (Some(writer), Some(offset)) = (&mut self.writer, offset) else { return true };
        let body = body();
        self.journalled += body.byte_len() as u64;
        writer.journal(offset, body)
    }

    fn may_concern_session(&self, namespace: &NamespacePath, target: &Target) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.concerns(namespace, &target.rooms))
    }

    fn remembers(&self, socket: &SocketId) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.remembers(socket))
    }

    pub(super) fn journal_change(
        &mut self,
        socket: SocketId,
        offset: Option<Offset>,
        body: impl FnOnce() -> RecordBody,
    ) {
        if self.writer.as_ref().is_some_and(|writer| writer.is_recoverable(&socket)) {
            self.journal(offset, body);
        }
    }
}

fn count_refused_join(metrics: &Metrics, error: &MembershipError) {
    if matches!(error, MembershipError::TooManyRooms | MembershipError::BudgetSpent) {
        metrics.hub.joins_refused.add(1);
    }
}

/// The record of an event. `stored` is the position of a durable event in the queue.
pub(super) fn event_record(
    namespace: &NamespacePath,
    target: &Target,
    message: &Message,
    stored: Option<QueueOffset>,
) -> RecordBody {
    let event = EventRecord {
        namespace: namespace.clone(),
        rooms: target.rooms.clone(),
        except: target.except.clone(),
        exclude: target.exclude,
        stored,
        message: message.clone(),
    };
    RecordBody::Event(event.into())
}

fn members_on(worker: WorkerId, locations: &[SocketLocation]) -> SmallVec<[MemberKey; 1]> {
    locations.iter().filter(|location| location.worker == worker).map(|location| location.member).collect()
}
