//! Connects and resumes of sockets.
//!
//! A resumed socket catches up in the same way as a socket that reads too slowly:
//! 1. The hub attaches the socket to its worker as [`CatchingUp`](DeliveryMode::CatchingUp), and
//!    rejoins its rooms.
//! 2. Whenever the socket's outbox has room, the worker requests the events after a position
//!    (`worker/outboxes/reading.rs`).
//! 3. The hub reads a chunk of the journal and sends it to the worker (`hub/replaying.rs`).
//! 4. The chunk with the last missed events is marked as the last. The worker drops the live copies
//!    of all events before the turn of that chunk, and delivers all later events live
//!    (`worker/fanout.rs`).

use std::collections::BTreeSet;

use super::Hub;
use super::intake::ROOM_WORK;
use crate::ids::{Lsn, NamespacePath, Offset, RoomName, SlotKey, SocketId, WorkerId};
use crate::journal::RecordBody;
use crate::messages::answer::{ConnectAnswer, ResumedSession};
use crate::messages::fanout::{DeliveryMode, FanoutCommand};
use crate::messages::hub::{Connect, ConnectKind};
use crate::messages::room_filter::RoomFilter;
use crate::protocol::reason::NotRecovered;
use crate::protocol::socketio::resume::ResumeAttempt;
use crate::state::rooms::{ROOMS_PER_REMOVAL, SocketLocation};

/// How a resumed socket continues.
struct Resuming {
    /// The client has received all of its events up to this position.
    after: Lsn,
    /// The rooms that the socket rejoins.
    rooms: Vec<RoomName>,
    /// Rooms that the socket may not keep, including rooms that it has left and of which it may
    /// have missed events.
    revoked: BTreeSet<RoomName>,
}

impl Hub {
    /// Checks a resume request before connection middleware runs.
    /// [`apply_connect`](Self::apply_connect) repeats the check.
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

    /// Adds the work of checking a resume request, which examines each interval of the session.
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
        let Connect { from, socket, member, namespace, kind, filter, reply } = connect;
        let (mode, rooms) = match kind {
            ConnectKind::Unrecoverable | ConnectKind::New(_) => {
                (self.connect_new(kind, socket, &namespace, offset), Vec::new())
            }
            ConnectKind::Resuming(claim) => {
                self.charge_resume_check(claim);
                let Some(Resuming { after, rooms, revoked }) = self.resume(claim, socket, &namespace, filter) else {
                    self.workers.queue_command(worker, FanoutCommand::Detach { member, rooms_reply: None });
                    return ConnectAnswer::Lost;
                };
                self.evict(&socket);
                let at_unix_ms = self.now_unix_ms();
                self.journal(offset, || RecordBody::Resumed { socket, position: after, at_unix_ms });
                self.revoke(socket, revoked);
                (DeliveryMode::CatchingUp(after), rooms)
            }
        };
        // Each room is looked up in the session and then joined.
        self.work += 2 * rooms.len() * ROOM_WORK;
        let namespace_room = self.rooms.connect(socket, &namespace, SocketLocation { worker, slot: from.slot, member });
        self.workers.queue_command(worker, FanoutCommand::Attach { member, namespace_room, reply, offset, mode });
        for room in rooms {
            if let Some(joined) = self.rooms.rejoin(&socket, &room) {
                self.announce_joined(&socket, &room, joined.members);
                self.workers.queue_command(worker, FanoutCommand::Join { member, room: joined.room });
            }
        }
        ConnectAnswer::Connected { recovered: matches!(mode, DeliveryMode::CatchingUp(_)) }
    }

    /// Returns how a client continues, or `None` if the resume is refused.
    fn resume(
        &self,
        claim: ResumeAttempt,
        socket: SocketId,
        namespace: &NamespacePath,
        filter: Option<RoomFilter>,
    ) -> Option<Resuming> {
        let resumed = match &self.writer {
            Some(writer) => writer.check_resume(claim, namespace),
            None => Err(NotRecovered::ForeignEpoch),
        };
        match resumed {
            Ok(session) if session.socket() == socket => {
                self.metrics.hub.recovered.add(1);
                let revoked: BTreeSet<RoomName> = filter.map_or_else(BTreeSet::new, |filter| {
                    let named: BTreeSet<_> = session.rooms().collect();
                    named.into_iter().filter(|room| !filter.keeps(room)).cloned().collect()
                });
                let rooms = session.rooms_now().filter(|room| !revoked.contains(*room)).cloned().collect();
                Some(Resuming { after: session.position, rooms, revoked })
            }
            other => {
                self.refuse_resume(claim, other.err().unwrap_or(NotRecovered::UnknownPid));
                None
            }
        }
    }

    /// Journals that a resumed socket has left rooms, and that the events of these rooms which it
    /// has missed are not for it.
    fn revoke(&mut self, socket: SocketId, rooms: BTreeSet<RoomName>) {
        self.work += rooms.len() * ROOM_WORK;
        for room in rooms {
            let offset = self.next_offset();
            self.journal_change(socket, offset, || RecordBody::Revoked { socket, room });
        }
    }

    /// Journals a new socket if it is recoverable. Returns the mode in which its worker delivers
    /// events to the socket.
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

    /// Removes a socket's stale connection. Later joins, leaves, data and disconnects of the socket
    /// over that connection have no effect.
    fn evict(&mut self, socket: &SocketId) {
        let rooms = if self.is_watched() { self.rooms.rooms_of(socket) } else { Vec::new() };
        for (room, members) in rooms {
            self.announce_left(socket, &room, members - 1);
        }
        self.work += self.rooms.room_count(socket).min(ROOMS_PER_REMOVAL) * ROOM_WORK;
        if let Some(SocketLocation { worker, member, .. }) = self.rooms.disconnect(socket) {
            self.finish_removals();
            self.workers.queue_command(worker, FanoutCommand::Evict { member });
        }
    }

    /// If room changes are observed, completes the removal of disconnected sockets from all their
    /// rooms, since room events are derived from the numbers of members.
    pub(super) fn finish_removals(&mut self) {
        while self.is_watched() && self.rooms.has_pending_removals() {
            self.rooms.continue_removal();
        }
    }

    /// Current time of the clock for recovery windows, in milliseconds since 1970. 0 if recovery is
    /// off.
    pub(super) fn now_unix_ms(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| writer.now_unix_ms())
    }

    /// Returns true if the socket belongs to the session in this slot. The socket of an evicted
    /// session belongs to the new session.
    pub(super) fn is_owned_by(&self, socket: &SocketId, worker: WorkerId, slot: SlotKey) -> bool {
        self.rooms.location_of(socket).is_some_and(|location| location.worker == worker && location.slot == slot)
    }
}
