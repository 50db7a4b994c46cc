//! The hub's pipeline: stage 1 numbers what came and hands durable events to the queue, stage 2 checks, journals,
//! applies and tells the workers, in the same order.
//!
//! Both run in one turn of the hub, unless a durable event ahead is not committed yet: then everything behind it waits.

use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::Hub;
use super::intake::ROOM_WORK;
use crate::ids::{MemberKey, NamespacePath, Offset, RoomName, SlotKey, SocketId, WorkerId};
use crate::journal::{self, EventRecord, Record};
use crate::messages::fanout::{Collect, Delivery, FanoutCommand, FetchSockets, HubRefusal, Outcome};
use crate::messages::hub::{AckWanted, Connect, DirectPacket, EmitCommand, Grade, ReplyTo};
use crate::messages::request::{Listing, ROOMS_PER_PAGE, RoomPage};
use crate::protocol::draft::Draft;
use crate::protocol::encoded::Message;
use crate::state::outbox::PACKET_OVERHEAD_BYTES;
use crate::state::rooms::{MembershipError, ROOMS_PER_DEPARTURE, RoomBounds, SocketLocation, Target};

/// Work of a worker for each member that it lists.
const LISTED_WORK: usize = 64;

/// What stage 2 applies.
pub(super) enum OrderedCommand {
    Connect {
        worker: WorkerId,
        connect: Box<Connect>,
        offset: Option<Offset>,
    },
    Data {
        worker: WorkerId,
        from: ReplyTo,
        socket: SocketId,
        data: Option<Box<str>>,
        offset: Option<Offset>,
    },
    Disconnect {
        worker: WorkerId,
        slot: SlotKey,
        socket: SocketId,
        forever: bool,
        rooms: Option<oneshot::Sender<Vec<RoomName>>>,
        offset: Option<Offset>,
    },
    Join {
        worker: WorkerId,
        from: ReplyTo,
        socket: SocketId,
        room: RoomName,
        offset: Option<Offset>,
    },
    Leave {
        worker: WorkerId,
        from: ReplyTo,
        socket: SocketId,
        room: RoomName,
        offset: Option<Offset>,
    },
    Event {
        worker: WorkerId,
        from: ReplyTo,
        namespace: NamespacePath,
        target: Target,
        packet: EventPacket,
        volatile: bool,
        /// Set when its receivers are to answer.
        collect: Option<Collect>,
        /// A session's question to its own socket.
        is_question: bool,
    },
    Relay {
        worker: WorkerId,
        from: ReplyTo,
        packet: DirectPacket,
    },
    Fetch {
        worker: WorkerId,
        from: ReplyTo,
        namespace: NamespacePath,
        target: Target,
    },
    List {
        worker: WorkerId,
        from: ReplyTo,
        listing: Listing,
    },
}

/// An event's packet between the stages.
pub(super) enum EventPacket {
    /// Numbered in stage 1 and sealed with its own token.
    Numbered(Message, Offset),
    /// Sealed in stage 2, with the token of what was applied before it.
    Unnumbered(Draft, Option<u64>),
}

impl Hub {
    /// Stage 1: a number, while recovery is on.
    pub(super) fn number(&mut self) -> Option<Offset> {
        self.writer.as_mut().map(super::JournalWriter::next)
    }

    /// Stage 1 of an event.
    pub(super) fn take_event(&mut self, worker: WorkerId, broadcast: EmitCommand) {
        let EmitCommand { from, target, draft, grade, ack } = broadcast;
        let namespace = draft.namespace().clone();
        let offset = if grade == Grade::Volatile { None } else { self.number() };
        let collect = match ack {
            AckWanted::OfMany(timeout) => Some(Collect { id: self.next_collection(), worker, to: from, timeout }),
            AckWanted::No | AckWanted::OfOne(_) => None,
        };
        let id = match ack {
            AckWanted::OfOne(id) => Some(id),
            _ => collect.map(|collect| collect.id),
        };
        let packet = match &offset {
            Some(offset) => EventPacket::Numbered(draft.seal(id, Some(offset)), *offset),
            None => EventPacket::Unnumbered(draft, id),
        };
        let volatile = grade == Grade::Volatile;
        let durable = grade == Grade::Durable;
        if durable && let Err(refusal) = self.submit_durable(&namespace, &target, &packet) {
            return self.workers.answer(worker, from, Outcome::Refused(refusal));
        }
        let overtakes = volatile && !self.pipeline.any(|entry| entry.concerns(&namespace, &target));
        let is_question = matches!(ack, AckWanted::OfOne(_));
        let entry = OrderedCommand::Event { worker, from, namespace, target, packet, volatile, collect, is_question };
        if durable {
            self.pipeline.push(entry, true);
        } else if overtakes {
            self.apply(entry);
        } else {
            self.enqueue(entry);
        }
    }

    /// The id of an event that wants acks of many: `4n+2`, so that an id alone tells who asked.
    fn next_collection(&mut self) -> u64 {
        self.collections += 1;
        4 * self.collections + 2
    }

    /// An entry that waits for nobody: applied now, or behind what waits.
    pub(super) fn enqueue(&mut self, entry: OrderedCommand) {
        if self.pipeline.is_empty() {
            self.apply(entry);
        } else {
            self.pipeline.push(entry, false);
        }
    }

    /// Applies everything whose turn has come.
    pub(super) fn advance(&mut self) {
        while let Some(entry) = self.pipeline.pop() {
            self.apply(entry);
        }
    }

    fn submit_durable(
        &mut self,
        namespace: &NamespacePath,
        target: &Target,
        packet: &EventPacket,
    ) -> Result<(), HubRefusal> {
        if target.rooms.is_empty() {
            return Err(HubRefusal::DurableNeedsRoom);
        }
        let (Some(queue), EventPacket::Numbered(message, offset)) = (&mut self.queue, packet) else {
            return Err(HubRefusal::NoQueue);
        };
        let entry = event_entry(namespace, target, message);
        let record = Record { lsn: offset.lsn, fingerprint: offset.fingerprint, body: entry };
        queue.submit(self.pipeline.next_position().0, &record).map_err(|_| HubRefusal::Overloaded)
    }

    fn apply(&mut self, entry: OrderedCommand) {
        match entry {
            OrderedCommand::Connect { worker, connect, offset } => self.apply_connect(worker, *connect, offset),
            OrderedCommand::Data { worker, from, socket, data, offset } => {
                if self.is_of(&socket, worker, from.slot) {
                    self.journal_of(socket, offset, || journal::RecordBody::Data { socket, data });
                }
                self.workers.answer(worker, from, Outcome::Relayed);
            }
            OrderedCommand::Disconnect { worker, slot, socket, forever, rooms, offset } => {
                if self.is_of(&socket, worker, slot) {
                    self.apply_disconnect(socket, forever, rooms, offset);
                }
            }
            OrderedCommand::Join { worker, from, socket, room, offset } => {
                let outcome = if self.is_of(&socket, worker, from.slot) {
                    self.apply_join(socket, room, offset)
                } else {
                    Outcome::Refused(HubRefusal::NotConnected)
                };
                self.workers.answer(worker, from, outcome);
            }
            OrderedCommand::Leave { worker, from, socket, room, offset } => {
                if self.is_of(&socket, worker, from.slot)
                    && let Ok(left) = self.rooms.leave(&socket, &room)
                {
                    self.tell_left(&socket, &room, left.members);
                    self.journal_of(socket, offset, || journal::RecordBody::Leave { socket, room });
                    let member = left.location.member;
                    self.workers.queue_command(worker, FanoutCommand::Leave { member, room: left.room });
                }
                self.workers.answer(worker, from, Outcome::Left);
            }
            OrderedCommand::Event { worker, from, namespace, target, packet, volatile, collect, is_question } => {
                // The id of a question is its session's: an evicted connection could answer another session's request.
                let socket = target.rooms.first().and_then(|room| SocketId::parse(room.as_str()).ok());
                let outcome = if is_question && socket.is_none_or(|socket| !self.is_of(&socket, worker, from.slot)) {
                    Outcome::Refused(HubRefusal::NotConnected)
                } else {
                    self.apply_event(&namespace, &target, packet, volatile, collect)
                };
                self.workers.answer(worker, from, outcome);
            }
            OrderedCommand::Relay { worker, from, packet } => {
                self.workers.queue_command(worker, FanoutCommand::Relay { slot: from.slot, packet });
                self.workers.answer(worker, from, Outcome::Relayed);
            }
            OrderedCommand::Fetch { worker, from, namespace, target } => {
                self.apply_fetch(worker, from, &namespace, &target)
            }
            OrderedCommand::List { worker, from, listing } => {
                let page = match listing {
                    Listing::OfSocket(socket) => RoomPage { rooms: self.rooms.rooms_of(&socket), next: None },
                    Listing::InNamespace { namespace, from } => {
                        let (rooms, next) = self.rooms.rooms_in(&namespace, from, ROOMS_PER_PAGE);
                        RoomPage { rooms, next }
                    }
                };
                self.work += page.rooms.len() * ROOM_WORK;
                self.workers.queue_command(worker, FanoutCommand::Listed { to: from, page });
            }
        }
    }

    fn apply_disconnect(
        &mut self,
        socket: SocketId,
        forever: bool,
        asker: Option<oneshot::Sender<Vec<RoomName>>>,
        offset: Option<Offset>,
    ) {
        // Nobody asks, mostly.
        let wanted = asker.is_some() || self.is_watched();
        let rooms = if wanted { self.rooms.rooms_of(&socket) } else { Vec::new() };
        for (room, members) in &rooms {
            self.tell_left(&socket, room, members - 1);
        }
        self.work += self.rooms.room_count(&socket).min(ROOMS_PER_DEPARTURE) * ROOM_WORK;
        let Some(SocketLocation { worker, member, .. }) = self.rooms.disconnect(&socket) else { return };
        if self.remembers(&socket) {
            let at_unix_ms = self.now_unix_ms();
            self.journal(offset, || journal::RecordBody::Disconnect { socket, forever, at_unix_ms });
        }
        let told = asker.map(|asker| (asker, rooms.into_iter().map(|(room, _)| room).collect()));
        self.workers.queue_command(worker, FanoutCommand::Detach { member, told });
    }

    fn apply_join(&mut self, socket: SocketId, room: RoomName, offset: Option<Offset>) -> Outcome {
        // The own room of one that is away is kept for it as well.
        if SocketId::parse(room.as_str()).is_ok_and(|owner| owner != socket && self.remembers(&owner)) {
            return Outcome::Refused(HubRefusal::ForeignRoom);
        }
        match self.rooms.join(&socket, &room, RoomBounds::from(&self.limits)) {
            Ok(joined) if joined.fresh => {
                self.tell_joined(&socket, &room, joined.members);
                // The record stays in memory for a while, one for each member: not with a copy of the name each.
                let room = self.rooms.name_of(joined.room).cloned().unwrap_or(room);
                self.journal_of(socket, offset, || journal::RecordBody::Join { socket, room });
                let member = joined.location.member;
                self.workers.queue_command(joined.location.worker, FanoutCommand::Join { member, room: joined.room });
                Outcome::Joined { members: joined.members, offset }
            }
            Ok(joined) => {
                let offset = self.writer.as_ref().map(super::JournalWriter::applied);
                Outcome::Joined { members: joined.members, offset }
            }
            Err(MembershipError::TooManyRooms) => {
                self.metrics.hub.joins_refused.add(1);
                Outcome::Refused(HubRefusal::TooManyRooms)
            }
            Err(MembershipError::BudgetSpent) => {
                self.metrics.hub.joins_refused.add(1);
                Outcome::Refused(HubRefusal::RoomsSpent)
            }
            Err(MembershipError::ForeignRoom) => Outcome::Refused(HubRefusal::ForeignRoom),
            Err(MembershipError::NotConnected | MembershipError::NotInRoom) => {
                Outcome::Refused(HubRefusal::NotConnected)
            }
        }
    }

    fn apply_event(
        &mut self,
        namespace: &NamespacePath,
        target: &Target,
        packet: EventPacket,
        volatile: bool,
        collect: Option<Collect>,
    ) -> Outcome {
        let (message, offset) = match packet {
            // Its receivers are of those that cannot come back, so nobody ever asks for it again.
            EventPacket::Numbered(message, offset) if !self.concerns_known(namespace, target) => {
                (message, Some(offset))
            }
            EventPacket::Numbered(message, offset) => {
                // Revealed only after the journal has it.
                if !self.journal(Some(offset), || event_entry(namespace, target, &message)) {
                    return Outcome::Refused(HubRefusal::TooLarge);
                }
                (message, Some(offset))
            }
            EventPacket::Unnumbered(draft, ack) => {
                let token = self.writer.as_ref().map(super::JournalWriter::applied);
                (draft.seal(ack, token.as_ref()), None)
            }
        };
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
                    members: on(worker, &route.sockets),
                    exclude: on(worker, &route.exclude),
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
        match collect {
            Some(_) => Outcome::Asked { parts },
            None => Outcome::Emitted { offset },
        }
    }

    fn apply_fetch(&mut self, asker: WorkerId, from: ReplyTo, namespace: &NamespacePath, target: &Target) {
        let route = self.rooms.route(namespace, target);
        self.work += (target.rooms.len() + target.except.len()) * ROOM_WORK;
        let reached: SmallVec<[WorkerId; 4]> =
            self.workers.workers().filter(|worker| self.rooms.member_count(&route, *worker) > 0).collect();
        for worker in &reached {
            let fetch = FetchSockets {
                worker: asker,
                to: from,
                rooms: route.rooms.clone(),
                except: route.except.clone(),
                members: on(*worker, &route.sockets),
                exclude: on(*worker, &route.exclude),
            };
            self.fanout_bytes += self.rooms.member_count(&route, *worker) * LISTED_WORK;
            self.workers.queue_command(*worker, FanoutCommand::Fetch(Box::new(fetch)));
        }
        self.workers.answer(asker, from, Outcome::Asked { parts: reached.len() });
    }

    /// Journals while recovery is on. Returns false if the record is too large for that.
    pub(super) fn journal(&mut self, offset: Option<Offset>, entry: impl FnOnce() -> journal::RecordBody) -> bool {
        let (Some(writer), Some(offset)) = (&mut self.writer, offset) else { return true };
        let entry = entry();
        self.journalled += entry.byte_len() as u64;
        writer.journal(offset, entry)
    }

    /// Whether an event can be for a socket that may come back.
    fn concerns_known(&self, namespace: &NamespacePath, target: &Target) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.concerns(namespace, &target.rooms))
    }

    fn remembers(&self, socket: &SocketId) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.remembers(socket))
    }

    /// Journals what happened to a socket, if that can come back.
    fn journal_of(&mut self, socket: SocketId, offset: Option<Offset>, entry: impl FnOnce() -> journal::RecordBody) {
        if self.writer.as_ref().is_some_and(|writer| writer.knows(&socket)) {
            self.journal(offset, entry);
        }
    }
}

impl OrderedCommand {
    /// Whether the order between this entry and an event for `target` can be seen by anybody.
    fn concerns(&self, in_namespace: &NamespacePath, target: &Target) -> bool {
        match self {
            Self::Event { namespace, target: own, .. } => {
                namespace == in_namespace
                    && (own.rooms.is_empty()
                        || target.rooms.is_empty()
                        || own.rooms.iter().any(|room| target.rooms.contains(room)))
            }
            Self::Join { room, .. } | Self::Leave { room, .. } => {
                target.rooms.contains(room) || target.except.contains(room)
            }
            Self::Connect { .. } | Self::Disconnect { .. } => true,
            Self::Data { .. } | Self::Relay { .. } | Self::Fetch { .. } | Self::List { .. } => false,
        }
    }
}

fn event_entry(namespace: &NamespacePath, target: &Target, message: &Message) -> journal::RecordBody {
    let event = EventRecord {
        namespace: namespace.clone(),
        rooms: target.rooms.clone(),
        except: target.except.clone(),
        exclude: target.exclude,
        message: message.clone(),
    };
    journal::RecordBody::Event(event.into())
}

fn on(worker: WorkerId, locations: &[SocketLocation]) -> SmallVec<[MemberKey; 1]> {
    locations.iter().filter(|location| location.worker == worker).map(|location| location.member).collect()
}
