//! Reading of the journal for one socket that catches up.

use super::JournalWriter;
use crate::ids::{Lsn, Offset, SocketId};
use crate::journal::{Record, RecordBody};
use crate::protocol::encoded::Message;

/// Bytes read at a time for a client, whatever their recipients.
const CHUNK_BYTES: usize = 256 << 10;

/// A record larger than this counts as several of those that may be looked at in a turn.
const RECORD_BYTES: usize = 1 << 10;

/// What was found for one socket.
#[derive(Debug)]
pub(in crate::hub) struct ReadError {
    pub(in crate::hub) events: Vec<(Offset, Message)>,
    /// As far as was looked.
    pub(in crate::hub) upto: Lsn,
    /// Nothing is left.
    pub(in crate::hub) is_all: bool,
}

impl JournalWriter {
    /// Looks for what a socket missed behind `after`, at no more records than are `left` in this turn. None if something of it may be
    /// gone.
    pub(in crate::hub) fn read(
        &self,
        socket: &SocketId,
        after: Lsn,
        bytes_max: usize,
        left: &mut usize,
    ) -> Option<ReadError> {
        let undelivered = self.sessions.missed_events(socket)?;
        let mut missed = ReadError { events: Vec::new(), upto: after, is_all: false };
        let mut bytes = 0;
        'looking: while *left > 0 {
            let Some(next) = undelivered.next(missed.upto) else {
                (missed.upto, missed.is_all) = (self.applied.lsn, true);
                break;
            };
            // What lies between is for others. Not as much as has room: what is not for the socket takes none.
            let after = next.before().max(missed.upto);
            let chunk = match self.journal.read(after, super::CHUNK_RECORDS.min(*left), CHUNK_BYTES) {
                Ok(chunk) => chunk,
                Err(error) => {
                    log::error!("journal not read, a client is notified that it missed something error={error}");
                    return None;
                }
            };
            if chunk.trimmed && !self.sessions.is_whole(socket, missed.upto, self.journal.trimmed_to()) {
                return None;
            }
            for record in chunk.records {
                *left = left.saturating_sub(1 + record.byte_len() / RECORD_BYTES);
                let Record { lsn, fingerprint, body: entry } = record;
                if let RecordBody::Event(event) = entry
                    && undelivered.includes(lsn, &event)
                {
                    bytes += event.message.byte_len();
                    if bytes > bytes_max && !missed.events.is_empty() {
                        break 'looking;
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
