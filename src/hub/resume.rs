//! Clients that come back: their claims, their connection, and what they read from the journal until they are up to date.
//!
//! One routine for those who reconnect and for those who read too slowly: the socket's worker asks for what lies behind a position,
//! a chunk at a time, as its outbox empties. The last chunk is answered in the turn in which nothing is left: every event before it
//! was dropped by the worker, every one behind it is delivered as it comes.

use super::Hub;
use super::intake::ROOM_WORK;
use crate::ids::{Lsn, NamespacePath, Offset, RoomName, SlotKey, SocketId, WorkerId};
use crate::journal::RecordBody;
use crate::messages::answer::{ConnectAnswer, ResumedSession};
use crate::messages::fanout::{DeliveryMode, FanoutCommand};
use crate::messages::hub::{Connect, ConnectKind};
use crate::protocol::reason::NotRecovered;
use crate::protocol::socketio::resume::ResumeAttempt;
use crate::state::rooms::{ROOMS_PER_DEPARTURE, SocketLocation};

impl Hub {
    /// A client claims a session; whether it gets it is decided when it has been let in.
    pub(super) fn check_resume(
        &mut self,
        namespace: &NamespacePath,
        claim: ResumeAttempt,
    ) -> Result<ResumedSession, NotRecovered> {
        self.charge_judging(claim);
        let claimed = match &self.writer {
            Some(writer) => writer.claim(claim, namespace),
            None => Err(NotRecovered::ForeignEpoch),
        };
        let claimed =
            claimed.map(|session| ResumedSession { socket: session.socket(), data: session.data().map(Box::from) });
        if let Err(why) = &claimed {
            self.refuse_resume(claim, *why);
        }
        claimed
    }

    /// A claim is about to be judged, by each room of its session.
    fn charge_judging(&mut self, claim: ResumeAttempt) {
        self.work += self.rooms_known(&claim.pid) * ROOM_WORK;
    }

    fn refuse_resume(&self, claim: ResumeAttempt, why: NotRecovered) {
        self.metrics.hub.not_recovered[why].add(1);
        log::debug!("not recovered pid={:?} reason=\"{why}\"", claim.pid);
    }

    pub(super) fn apply_connect(
        &mut self,
        worker: WorkerId,
        connect: Connect,
        offset: Option<Offset>,
    ) -> ConnectAnswer {
        let Connect { from, socket, member, namespace, kind, reply } = connect;
        let (mode, rooms) = match kind {
            ConnectKind::Unrecoverable | ConnectKind::New(_) => {
                (self.begin(kind, socket, &namespace, offset), Vec::new())
            }
            ConnectKind::Resuming(claim) => {
                self.charge_judging(claim);
                let Some((after, rooms)) = self.grant(claim, socket, &namespace) else {
                    self.workers.queue_command(worker, FanoutCommand::Detach { member, told: None });
                    return ConnectAnswer::Lost;
                };
                self.evict(&socket);
                let at_unix_ms = self.now_unix_ms();
                self.journal(offset, || RecordBody::Resumed { socket, position: after, at_unix_ms });
                (DeliveryMode::CatchingUp(after), rooms)
            }
        };
        // Journalled and entered.
        self.work += 2 * rooms.len() * ROOM_WORK;
        let everybody = self.rooms.connect(socket, &namespace, SocketLocation { worker, slot: from.slot, member });
        self.workers.queue_command(worker, FanoutCommand::Attach { member, everybody, reply, offset, mode });
        for room in rooms {
            if let Some(joined) = self.rooms.enter(&socket, &room) {
                self.tell_joined(&socket, &room, joined.members);
                self.workers.queue_command(worker, FanoutCommand::Join { member, room: joined.room });
            }
        }
        ConnectAnswer::Connected { recovered: matches!(mode, DeliveryMode::CatchingUp(_)) }
    }

    /// The position and the rooms from which a client continues, if it still may.
    fn grant(&self, claim: ResumeAttempt, socket: SocketId, namespace: &NamespacePath) -> Option<(Lsn, Vec<RoomName>)> {
        let resumed = match &self.writer {
            Some(writer) => writer.claim(claim, namespace),
            None => Err(NotRecovered::ForeignEpoch),
        };
        match resumed {
            Ok(session) if session.socket() == socket => {
                self.metrics.hub.recovered.add(1);
                Some((session.position, session.rooms_now().cloned().collect()))
            }
            other => {
                self.refuse_resume(claim, other.err().unwrap_or(NotRecovered::UnknownPid));
                None
            }
        }
    }

    /// A socket begins that continues with nothing.
    fn begin(
        &mut self,
        kind: ConnectKind,
        socket: SocketId,
        namespace: &NamespacePath,
        offset: Option<Offset>,
    ) -> DeliveryMode {
        if self.writer.is_none() {
            return DeliveryMode::Live { recoverable: false };
        }
        let ConnectKind::New(pid) = kind else { return DeliveryMode::WithoutToken };
        let (namespace, at_unix_ms) = (namespace.clone(), self.now_unix_ms());
        self.journal(offset, || RecordBody::Connect { pid, socket, namespace, at_unix_ms });
        DeliveryMode::Live { recoverable: true }
    }

    /// A connection of this socket that has not been seen to end, is over; what still comes from it is not heard.
    fn evict(&mut self, socket: &SocketId) {
        let rooms = if self.is_watched() { self.rooms.rooms_of(socket) } else { Vec::new() };
        for (room, members) in rooms {
            self.tell_left(socket, &room, members - 1);
        }
        self.work += self.rooms.room_count(socket).min(ROOMS_PER_DEPARTURE) * ROOM_WORK;
        if let Some(SocketLocation { worker, member, .. }) = self.rooms.disconnect(socket) {
            self.settle_departed();
            self.workers.queue_command(worker, FanoutCommand::Evict { member });
        }
    }

    /// While someone watches rooms, nobody is counted there who has gone: room events follow from the counts. Each room was looked at
    /// for its event anyway.
    pub(super) fn settle_departed(&mut self) {
        while self.is_watched() && self.rooms.has_departing() {
            self.rooms.depart();
        }
    }

    /// The time by which recovery windows are counted; 0 while recovery is off.
    pub(super) fn now_unix_ms(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| writer.now_unix_ms())
    }

    /// Whether a session speaks for a socket: an evicted connection does not.
    pub(super) fn is_of(&self, socket: &SocketId, worker: WorkerId, slot: SlotKey) -> bool {
        self.rooms.location_of(socket).is_some_and(|location| location.worker == worker && location.slot == slot)
    }
}
