//! Reveal of events that were committed and not revealed when the process ended.
//!
//! No socket is connected at a start. The events are journalled, so that resumed sessions receive
//! them. Subscribers receive them from the queue.

use std::sync::mpsc;

use super::{draft_of, log_not_journalled, target};
use crate::hub::journal_writer::JournalWriter;
use crate::hub::ordering::event_record;
use crate::ids::{Epoch, QueueOffset};
use crate::protocol::socketio::Parser;
use crate::queue::change::Change;
use crate::queue::committer::CommitResult;
use crate::queue::origin::Origin;
use crate::queue::service::QueueService;
use crate::queue::store::{QueueReader, StoreError, UnrevealedEvent, for_each_unrevealed};

/// Reveals the events after the newest one that was revealed, by the journal and by the queue.
/// Returns the number of the newest event.
pub(crate) fn reveal_stored(
    mut writer: Option<&mut JournalWriter>,
    queue: &QueueService,
    reader: &mut dyn QueueReader,
    parser: Parser,
) -> Result<u64, StoreError> {
    let totals = reader.totals()?;
    let journalled = writer.as_ref().and_then(|writer| writer.newest_stored());
    let journalled = journalled.filter(|stored| stored.epoch == totals.head.epoch).map_or(0, |stored| stored.number);
    let mut revealed = 0;
    let next = for_each_unrevealed(reader, totals.revealed.max(journalled), |event| {
        revealed += 1;
        if let Some(writer) = &mut writer {
            journal(writer, totals.head.epoch, event, parser);
        }
    })?;
    if let Some(writer) = writer {
        writer.flush();
    }
    if revealed > 0 {
        log::info!("events stored before the restart are revealed count={revealed}");
    }
    let up_to = totals.head.number.max(next);
    if up_to > totals.revealed {
        let (result, committed) = mpsc::channel();
        let complete = Box::new(move |given| result.send(given).unwrap_or(()));
        let is_submitted = queue.submit(Change::Revealed { up_to }, complete).is_ok();
        let is_committed = is_submitted && matches!(committed.recv(), Ok(CommitResult::Committed(_)));
        if !is_committed {
            log::warn!("queue not notified of revealed events, the next notification covers them up_to={up_to}");
        }
    }
    Ok(up_to)
}

fn journal(writer: &mut JournalWriter, epoch: Epoch, unrevealed: UnrevealedEvent, parser: Parser) {
    let Some(draft) = draft_of(&unrevealed, parser, true) else { return };
    let UnrevealedEvent { namespace, rooms, event } = unrevealed;
    let stored = QueueOffset { epoch, number: event.number };
    let offset = writer.next_offset();
    let message = draft.seal(None, Some(&offset));
    let target = target(&rooms, Origin::decode(&event.origin).exclude);
    let record = event_record(&namespace, &target, &message, Some(stored));
    if !writer.journal(offset, record) {
        log_not_journalled(stored);
    }
}
