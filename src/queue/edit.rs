//! Changes of an operator in the folder of a queue that no server uses.

use std::fmt;
use std::path::Path;

use super::change::{Change, Outcome, StartPosition};
use super::committer::unix_millis;
use super::inspect::{
    QueueChangeError, QueueInspection, QueueOpenError, QueueReadError, find_folder, room_name, subscriber_key,
};
use super::limits::{RetentionRule, StoreLimits};
use super::record::SubscriberKey;
use super::sqlite::{SqliteOptions, SqliteStore, WORK_ROWS};
use super::store::{PageLimit, QueueReader, QueueStore};
use crate::ids::{NamespacePath, QueueOffset, RoomName};
use crate::limits;

/// Numbers that are left out after a restore: more than a queue gives between two copies, and two
/// million times as many are left.
const RESTORED_NUMBERS: u64 = 1 << 30;

/// Access to a queue on disk for changes. The folder is locked meanwhile, so no server can use it.
///
/// Each operation is durable when it returns. Space is freed completely by the next server.
pub struct QueueEditor {
    // Closed before the store, which leaves no log if it is the last.
    reader: Box<dyn QueueReader>,
    store: SqliteStore,
}

impl fmt::Debug for QueueEditor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueEditor").field("head", &self.store.head()).finish_non_exhaustive()
    }
}

impl QueueEditor {
    /// Opens the queue in a data folder, or in the queue's own folder, with the limits of its
    /// server. Its retention rules are not needed: until a server opens the queue, all events that
    /// were handled are retained.
    pub fn open(path: impl AsRef<Path>, limits: &limits::QueueLimits) -> Result<Self, QueueOpenError> {
        // A folder without a queue is refused before a file is made in it.
        let epoch = QueueInspection::open(&path)?.offset(0).epoch;
        let folder = find_folder(path.as_ref())?;
        // Replaying begins subscriptions again, which must not be refused when others have ended.
        let limits = StoreLimits {
            retention: vec![RetentionRule::new("*")],
            subscriptions_per_subscriber_max: u64::MAX,
            ..StoreLimits::from(limits)
        };
        let options = SqliteOptions { folder, epoch, limits, head_min: None, work_rows: WORK_ROWS, pages_max: None };
        let store = SqliteStore::open(options)?;
        let reader = store.reader()?;
        Ok(Self { reader, store })
    }

    /// The newest event.
    pub fn head(&self) -> QueueOffset {
        self.store.head()
    }

    /// Continues with offsets that a restored file cannot have given before: 2^30 further ones are
    /// left out, and all subscribers with rooms receive a gap over them, `restored`. Returns the
    /// newest offset that is left out.
    pub fn restored(&mut self) -> Result<QueueOffset, QueueChangeError> {
        Ok(self.store.leave_out_numbers(RESTORED_NUMBERS)?)
    }

    fn commit(&mut self, changes: &[Change]) -> Result<Vec<Outcome>, QueueChangeError> {
        let outcomes = self.store.commit(changes, unix_millis())?;
        for outcome in &outcomes {
            if let Outcome::Refused(refusal) = outcome {
                return Err(refusal.clone().into());
            }
        }
        Ok(outcomes)
    }

    /// Delivers all dead letters of a subscriber again, as new events for this subscriber alone.
    /// Returns their number. A damaged one becomes a gap.
    pub fn replay_dead(&mut self, namespace: &NamespacePath, name: &str) -> Result<u64, QueueChangeError> {
        let change = Change::ReplayDead { subscriber: subscriber_key(namespace, name)?, numbers: None };
        let mut replayed = 0;
        loop {
            match self.commit(std::slice::from_ref(&change))?.pop() {
                Some(Outcome::Replayed { events, has_more }) => {
                    replayed += events.len() as u64;
                    if !has_more {
                        return Ok(replayed);
                    }
                }
                _ => return Ok(replayed),
            }
        }
    }

    /// Delivers the stored events after an offset to a subscriber again, in all its rooms. Events
    /// that are no longer stored become a gap. An offset that would skip a pending event or a gap
    /// is refused.
    pub fn replay_from(
        &mut self,
        namespace: &NamespacePath,
        name: &str,
        after: QueueOffset,
    ) -> Result<(), QueueChangeError> {
        let subscriber = subscriber_key(namespace, name)?;
        check_replay(self.reader.as_mut(), &subscriber, after)?;
        let rooms = self.rooms(&subscriber)?;
        // One commit, so that no subscription is lost, and no event is freed in between.
        let changes: Vec<Change> = rooms
            .into_iter()
            .flat_map(|room| {
                [
                    Change::Unsubscribe { subscriber: subscriber.clone(), room: room.clone() },
                    Change::Subscribe { subscriber: subscriber.clone(), room, from: StartPosition::After(after) },
                ]
            })
            .collect();
        self.commit(&changes).map(drop)
    }

    /// Rooms of a subscriber, which must exist.
    fn rooms(&mut self, subscriber: &SubscriberKey) -> Result<Vec<RoomName>, QueueChangeError> {
        let info = self.reader.subscriber(subscriber).map_err(QueueReadError::from)?;
        let info = info.ok_or_else(|| QueueChangeError::Refused("subscriber does not exist".to_owned()))?;
        Ok(info.rooms)
    }

    /// Removes what is pending for a subscriber up to an offset. The subscriber receives a gap.
    pub fn purge_subscriber(
        &mut self,
        namespace: &NamespacePath,
        name: &str,
        up_to: QueueOffset,
    ) -> Result<(), QueueChangeError> {
        check_offset(self.store.head(), up_to)?;
        let change = Change::PurgeSubscriber { subscriber: subscriber_key(namespace, name)?, up_to: up_to.number };
        self.complete(change)
    }

    /// Removes the events of a room up to an offset. Subscribers that have not handled them receive
    /// gaps.
    pub fn purge_room(
        &mut self,
        namespace: &NamespacePath,
        room: &str,
        up_to: QueueOffset,
    ) -> Result<(), QueueChangeError> {
        check_offset(self.store.head(), up_to)?;
        let (namespace, room) = (namespace.clone(), room_name(room)?);
        self.complete(Change::PurgeRoom { namespace, room, up_to: up_to.number })
    }

    /// Removes a subscriber with all that is pending for it, and its dead letters.
    pub fn remove_subscriber(&mut self, namespace: &NamespacePath, name: &str) -> Result<(), QueueChangeError> {
        self.complete(Change::RemoveSubscriber { subscriber: subscriber_key(namespace, name)? })
    }

    /// Applies a change, and the work that it leaves over.
    fn complete(&mut self, change: Change) -> Result<(), QueueChangeError> {
        self.commit(&[change])?;
        while self.store.has_work() {
            self.commit(&[])?;
        }
        Ok(())
    }
}

/// Checks that an offset belongs to the queue.
fn check_offset(head: QueueOffset, offset: QueueOffset) -> Result<(), QueueChangeError> {
    if offset.epoch == head.epoch {
        return Ok(());
    }
    let error = format!("offset {offset} belongs to another queue; the newest of this one is {head}");
    Err(QueueChangeError::Refused(error))
}

/// Checks that a replay after an offset skips nothing.
pub(super) fn check_replay(
    reader: &mut dyn QueueReader,
    subscriber: &SubscriberKey,
    after: QueueOffset,
) -> Result<(), QueueChangeError> {
    let head = reader.totals()?.head;
    check_offset(head, after)?;
    if after.number > head.number {
        return Err(QueueChangeError::Refused(format!("offset {after} is beyond the newest event {head}")));
    }
    let pending = reader.pending(subscriber, 0, PageLimit { events: 1, bytes: 0 })?;
    let gaps = reader.gaps(subscriber, 0, 1)?;
    let pending = pending.events.iter().map(|event| event.number).chain(pending.damaged.iter().map(|row| row.number));
    let open = pending.chain(gaps.gaps.iter().map(|gap| gap.from)).min();
    match open.filter(|open| *open <= after.number) {
        None => Ok(()),
        Some(number) => {
            let open = QueueOffset { number, ..after };
            let error = format!(
                "offset {after} would skip event {open} (number {number}), which the subscriber has not handled; expected an offset before it"
            );
            Err(QueueChangeError::Refused(error))
        }
    }
}
