//! Replays from the journal for sockets that catch up, one chunk for each socket in turn.
//!
//! A worker is sent another replay only while it has less than `REPLAY_BYTES_MAX` bytes of replays
//! in flight. Replays are counted separately from deliveries, so that they delay neither events nor
//! answers.

use super::Hub;
use super::journal_writer::MissedChunk;
use crate::ids::{Lsn, SlotKey, SocketId, WorkerId};
use crate::messages::fanout::{FanoutCommand, Replay};

/// Number of replayed bytes in flight to one worker at which the worker is sent no further replay.
/// 512 KiB are two chunks, so that one can be read while the other is written. Live events wait
/// only a fraction of a millisecond for two chunks.
pub(super) const REPLAY_BYTES_MAX: usize = 512 << 10;

/// A socket that waits for a replay of the events after a position.
#[derive(Debug)]
pub(super) struct WaitingReader {
    pub(super) slot: SlotKey,
    pub(super) socket: SocketId,
    pub(super) after: Lsn,
}

impl Hub {
    /// Sends replays until this turn's limit of records is reached, or no worker has room for
    /// another one.
    pub(super) fn send_replays(&mut self) {
        let mut left = self.limits.recovery.replay_records_per_turn.max(1);
        while left > 0
            && let Some((worker, reader)) = self.workers.next_reader()
        {
            self.send_replay(worker, &reader, &mut left);
        }
    }

    fn send_replay(&mut self, worker: WorkerId, reader: &WaitingReader, left: &mut usize) {
        let WaitingReader { slot, socket, after } = reader;
        let Some(location) = self.rooms.location_of(socket).filter(|_| self.is_owned_by(socket, worker, *slot)) else {
            return;
        };
        let Some(writer) = &self.writer else { return };
        let member = location.member;
        match writer.read(socket, *after, self.replay_bytes, left) {
            Some(MissedChunk { events, upto, is_all }) => {
                self.workers.replay(worker, Replay { member, events, upto, is_all, fanout_bytes: 0 });
            }
            None => self.workers.queue_command(worker, FanoutCommand::FellBehind { member }),
        }
    }
}
