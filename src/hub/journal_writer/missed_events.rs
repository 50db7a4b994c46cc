//! Reads of the journal for a socket that catches up.

use super::JournalWriter;
use crate::ids::{Lsn, Offset, SocketId};
use crate::journal::{Record, RecordBody};
use crate::protocol::encoded::Message;

/// Maximum number of bytes of one read, including the bytes of records for other sockets.
const CHUNK_BYTES: usize = 256 << 10;

/// Size from which a record counts as several records in the limit of a turn.
const RECORD_BYTES: usize = 1 << 10;

/// Consecutive missed events of one socket.
#[derive(Debug)]
pub(in crate::hub) struct MissedChunk {
    pub(in crate::hub) events: Vec<(Offset, Message)>,
    /// Position up to which the socket has no missed events other than `events`.
    pub(in crate::hub) upto: Lsn,
    pub(in crate::hub) is_all: bool,
}

impl JournalWriter {
    /// Reads events that a socket has missed after the position `after`, from at most `left`
    /// records. Returns `None` if an event for the socket may have been dropped.
    pub(in crate::hub) fn read(
        &self,
        socket: &SocketId,
        after: Lsn,
        bytes_max: usize,
        left: &mut usize,
    ) -> Option<MissedChunk> {
        let for_socket = self.sessions.missed_events(socket)?;
        let mut missed = MissedChunk { events: Vec::new(), upto: after, is_all: false };
        let mut bytes = 0;
        'reading: while *left > 0 {
            let Some(next) = for_socket.next(missed.upto) else {
                (missed.upto, missed.is_all) = (self.applied.lsn, true);
                break;
            };
            // The records before `next` are for other sockets and are skipped. `bytes_max` bounds
            // only this socket's events, so that records between them are skipped in few large
            // reads.
            let after = next.before().max(missed.upto);
            let chunk = match self.journal.read(after, super::CHUNK_RECORDS.min(*left), CHUNK_BYTES) {
                Ok(chunk) => chunk,
                Err(error) => {
                    log::error!("journal read failed, a socket has to reconnect socket={socket} error={error}");
                    return None;
                }
            };
            if chunk.trimmed && !self.sessions.is_whole(socket, missed.upto, self.journal.trimmed_to()) {
                return None;
            }
            for record in chunk.records {
                *left = left.saturating_sub(1 + record.byte_len() / RECORD_BYTES);
                let Record { lsn, fingerprint, body } = record;
                if let RecordBody::Event(event) = body
                    && for_socket.includes(lsn, &event)
                {
                    bytes += event.message.byte_len();
                    if bytes > bytes_max && !missed.events.is_empty() {
                        break 'reading;
                    }
                    missed.events.push((Offset { epoch: self.applied.epoch, lsn, fingerprint }, event.message.clone()));
                }
                missed.upto = lsn;
            }
            if !chunk.more {
                missed.is_all = true;
                break;
            }
        }
        Some(missed)
    }
}
