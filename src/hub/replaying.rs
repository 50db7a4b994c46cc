//! Sockets that read from the journal: who waits for a chunk, and what a turn reads for them.
//!
//! Replays have a lane of their own: a worker has no more than `REPLAY_BYTES_MAX` of them before it, and they hold up neither
//! events nor the answers to them. Who reads waits here, a chunk for each in turn.

use super::Hub;
use super::journal_writer::ReadError;
use crate::ids::{Lsn, SlotKey, SocketId, WorkerId};
use crate::messages::fanout::{FanoutCommand, Replay};

/// Replayed bytes that one worker may have before it. 512 KiB: two chunks, so that one is read while the other is written, and
/// what comes live waits behind a fraction of a millisecond of work.
pub(super) const REPLAY_BYTES_MAX: usize = 512 << 10;

/// A socket that wants to know what it missed. At most one for each socket.
#[derive(Debug)]
pub(super) struct ReplayRequest {
    pub(super) slot: SlotKey,
    pub(super) socket: SocketId,
    pub(super) after: Lsn,
}

impl Hub {
    /// Answers those who catch up, as many as this turn and their workers allow.
    pub(super) fn serve_readers(&mut self) {
        let mut left = self.limits.recovery.replay_records_per_turn.max(1);
        while left > 0
            && let Some((worker, reader)) = self.workers.next_reader()
        {
            self.serve(worker, &reader, &mut left);
        }
    }

    fn serve(&mut self, worker: WorkerId, reader: &ReplayRequest, left: &mut usize) {
        let ReplayRequest { slot, socket, after } = reader;
        let Some(location) = self.rooms.location_of(socket).filter(|_| self.is_of(socket, worker, *slot)) else {
            return;
        };
        let Some(writer) = &self.writer else { return };
        let member = location.member;
        match writer.read(socket, *after, self.replay_bytes, left) {
            Some(ReadError { events, upto, is_all }) => {
                self.workers.replay(worker, Replay { member, events, upto, is_all, fanout_bytes: 0 });
            }
            None => self.workers.queue_command(worker, FanoutCommand::FellBehind { member }),
        }
    }
}
