//! Reports of the queue's committer to the hub.

use std::sync::Arc;

use crate::hub::intake::CommandSender;
use crate::ids::{NamespacePath, RoomName, SocketId};
use crate::messages::answer::ReplyTo;
use crate::protocol::draft::Draft;
use crate::queue::change::Outcome;
use crate::queue::committer::{CommitResult, Completion};
use crate::queue::record::{Payload, UnixMillis};
use crate::queue::store::UnrevealedEvent;
use crate::queue::wake_queue::WakeQueue;

/// Reports in the order of commits. Their number is bounded by the events that the hub has
/// submitted, and by the events of one commit.
pub(crate) type Reports = WakeQueue<Report>;

pub(crate) enum Report {
    /// The result on a durable event.
    Published(Box<Publisher>, CommitResult),
    /// An event that a failed commit has stored.
    Found(Box<UnrevealedEvent>),
    /// The result of notifying the queue that events were revealed.
    Notified { up_to: u64, is_committed: bool },
}

impl Report {
    /// Number of the event that is revealed by processing the report.
    pub(super) fn new_event(&self) -> Option<u64> {
        match self {
            Self::Published(_, CommitResult::Committed(Outcome::Published(receipt))) if !receipt.duplicate => {
                Some(receipt.offset.number)
            }
            Self::Found(found) => Some(found.event.number),
            Self::Published(..) | Self::Notified { .. } => None,
        }
    }
}

/// The publisher of a durable event, and what the hub needs to reveal the event.
pub(crate) struct Publisher {
    pub(super) sender: CommandSender,
    pub(super) to: ReplyTo,
    pub(super) namespace: NamespacePath,
    pub(super) rooms: Arc<[RoomName]>,
    pub(super) payload: Arc<Payload>,
    pub(super) expires_at: Option<UnixMillis>,
    pub(super) draft: Draft,
    pub(super) exclude: Option<SocketId>,
    /// Bytes that the event counts while it is not revealed.
    pub(super) bytes: usize,
}

impl Publisher {
    /// Reports the result to the hub.
    pub(super) fn completion(self, reports: Arc<Reports>) -> Completion {
        let waiting = Waiting { publisher: Some(Box::new(self)), reports };
        Box::new(move |result| waiting.complete(result))
    }
}

/// A publisher without a result. If the committer ends without one, by a panic or just after the
/// event was submitted, the event is indeterminate.
struct Waiting {
    publisher: Option<Box<Publisher>>,
    reports: Arc<Reports>,
}

impl Waiting {
    fn complete(mut self, result: CommitResult) {
        self.report(result);
    }

    fn report(&mut self, result: CommitResult) {
        if let Some(publisher) = self.publisher.take() {
            self.reports.push(Report::Published(publisher, result));
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.report(CommitResult::Indeterminate);
    }
}

/// Reports events that a failed commit has stored.
pub(crate) fn found_events(reports: Arc<Reports>) -> Box<dyn FnMut(UnrevealedEvent) + Send> {
    Box::new(move |event| reports.push(Report::Found(Box::new(event))))
}
