//! Connects and resumes of sockets.
//!
//! A resumed socket catches up like a socket that reads too slowly:
//! 1. The hub attaches it to its worker as [`CatchingUp`](DeliveryMode::CatchingUp), and joins its
//!    rooms.
//! 2. The worker requests the events after a position whenever the outbox has room
//!    (`worker/outboxes/reading.rs`).
//! 3. The hub reads a chunk of the journal and sends it (`hub/replaying.rs`).
//! 4. The last chunk is sent in a turn in which no event is left. The worker drops live copies of
//!    all events before that turn, and delivers those after it (`worker/fanout.rs`).

use super::Hub;
use super::intake::ROOM_WORK;
use crate::ids::{Lsn, NamespacePath, Offset, RoomName, SlotKey, SocketId, WorkerId};
use crate::journal::RecordBody;
use crate::messages::answer::{ConnectAnswer, ResumedSession};
use crate::messages::fanout::{DeliveryMode, FanoutCommand};
use crate::messages::hub::{Connect, ConnectKind};
use crate::protocol::reason::NotRecovered;
use crate::protocol::socketio::resume::ResumeAttempt;
use crate::state::rooms::{ROOMS_PER_REMOVAL, SocketLocation};

impl Hub {
    /// Checks a resume before connection middleware runs. [`apply_connect`](Self::apply_connect)
    /// checks it again.
    pub(super) fn check_resume(
        &mut self,
        namespace: &NamespacePath,
        claim: ResumeAttempt,
    ) -> Result<ResumedSession, NotRecovered> {
        self.charge_resume_check(claim);
        let checked = match &self.writer {
            Some(writer) => writer.check_resume(claim, namespace),
            None => Err(NotRecovered::ForeignEpoch),
        };
        let checked =
            checked.map(|session| ResumedSession { socket: session.socket(), data: session.data().map(Box::from) });
        if let Err(why) = &checked {
            self.refuse_resume(claim, *why);
        }
        checked
    }

    /// Adds the work of a resume check, which looks at each interval of the session.
    fn charge_resume_check(&mut self, claim: ResumeAttempt) {
        self.work += self.interval_count(&claim.pid) * ROOM_WORK;
    }

    fn refuse_resume(&self, claim: ResumeAttempt, why: NotRecovered) {
        self.metrics.hub.not_recovered[why].add(1);
        log::debug!("session not resumed pid={:?} reason=\"{why}\"", claim.pid);
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
                (self.connect_new(kind, socket, &namespace, offset), Vec::new())
            }
            ConnectKind::Resuming(claim) => {
                self.charge_resume_check(claim);
                let Some((after, rooms)) = self.resume(claim, socket, &namespace) else {
                    self.workers.queue_command(worker, FanoutCommand::Detach { member, rooms_reply: None });
                    return ConnectAnswer::Lost;
                };
                self.evict(&socket);
                let at_unix_ms = self.now_unix_ms();
                self.journal(offset, || RecordBody::Resumed { socket, position: after, at_unix_ms });
                (DeliveryMode::CatchingUp(after), rooms)
            }
        };
        // Each room is looked up in the session and entered.
        self.work += 2 * rooms.len() * ROOM_WORK;
        let namespace_room = self.rooms.connect(socket, &namespace, SocketLocation { worker, slot: from.slot, member });
        self.workers.queue_command(worker, FanoutCommand::Attach { member, namespace_room, reply, offset, mode });
        for room in rooms {
            if let Some(joined) = self.rooms.rejoin(&socket, &room) {
                self.publish_joined(&socket, &room, joined.members);
                self.workers.queue_command(worker, FanoutCommand::Join { member, room: joined.room });
            }
        }
        ConnectAnswer::Connected { recovered: matches!(mode, DeliveryMode::CatchingUp(_)) }
    }

    /// The position and the rooms with which a client continues; `None` if the resume is refused.
    fn resume(
        &self,
        claim: ResumeAttempt,
        socket: SocketId,
        namespace: &NamespacePath,
    ) -> Option<(Lsn, Vec<RoomName>)> {
        let resumed = match &self.writer {
            Some(writer) => writer.check_resume(claim, namespace),
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

    /// Journals a new socket. Returns how its worker delivers events to it.
    fn connect_new(
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

    /// Removes the stale connection of a socket. Its further commands are ignored.
    fn evict(&mut self, socket: &SocketId) {
        let rooms = if self.is_watched() { self.rooms.rooms_of(socket) } else { Vec::new() };
        for (room, members) in rooms {
            self.publish_left(socket, &room, members - 1);
        }
        self.work += self.rooms.room_count(socket).min(ROOMS_PER_REMOVAL) * ROOM_WORK;
        if let Some(SocketLocation { worker, member, .. }) = self.rooms.disconnect(socket) {
            self.finish_removals();
            self.workers.queue_command(worker, FanoutCommand::Evict { member });
        }
    }

    /// Removes disconnected sockets from all of their rooms while room changes are watched, because
    /// room events follow from the member counts.
    pub(super) fn finish_removals(&mut self) {
        while self.is_watched() && self.rooms.has_pending_removals() {
            self.rooms.continue_removal();
        }
    }

    /// The time of recovery windows, in milliseconds since 1970; 0 while recovery is off.
    pub(super) fn now_unix_ms(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| writer.now_unix_ms())
    }

    /// Returns whether a socket belongs to a session. It does not if the session was evicted.
    pub(super) fn is_owned_by(&self, socket: &SocketId, worker: WorkerId, slot: SlotKey) -> bool {
        self.rooms.location_of(socket).is_some_and(|location| location.worker == worker && location.slot == slot)
    }
}
