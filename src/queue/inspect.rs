//! Read-only access to the folder of a queue. No lock is acquired and nothing is written, so a
//! server may be using the folder.

mod error;
mod values;

use std::fmt;
use std::path::{Path, PathBuf};

pub use self::error::{QueueChangeError, QueueOpenError, QueueReadError};
pub use self::values::{
    InspectedDeadLetter, InspectedEvent, InspectedGap, InspectedRoom, InspectedSubscriber, InspectedSubscription,
    QueueStats,
};
use super::edit::check_replay;
use super::record::{SubscriberKey, SubscriberName};
use super::sqlite::folder::DATABASE;
use super::sqlite::inspect::{Damage, Inspector, Table};
use super::store::{PageLimit, StoreError};
use crate::ids::{Epoch, NamespacePath, QueueOffset, RoomName};

/// Folder of the queue within a data folder.
const QUEUE: &str = "queue";

/// Events of one page, which bounds what is in memory at a time.
const PAGE: PageLimit = PageLimit { events: 256, bytes: 1 << 20 };

/// Subscribers of one page.
const SUBSCRIBERS: usize = 64;

/// Removed events of one page of gaps.
const GAPS: usize = 1_024;

/// Read-only access to a queue on disk. No lock is acquired, so a server may be using the queue;
/// each page of a list is a snapshot of its own.
///
/// ```no_run
/// # use stentor::{NamespacePath, QueueInspection};
/// # fn print() -> Result<(), Box<dyn std::error::Error>> {
/// let mut queue = QueueInspection::open("/var/lib/stentor/stentor-data")?;
/// for event in queue.pending(&NamespacePath::parse("/")?, "kitchen-3")? {
///     println!("{}", event?.offset);
/// }
/// # Ok(()) }
/// ```
pub struct QueueInspection {
    inspector: Inspector,
    database: PathBuf,
    epoch: Epoch,
}

impl fmt::Debug for QueueInspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueInspection").field("database", &self.database).finish_non_exhaustive()
    }
}

/// Damage that a check has found. Its `Display` form names the file, the table and the row.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueDamage {
    /// Path of the database.
    pub path: PathBuf,
    /// The table, or nothing if the damage concerns the file.
    pub table: &'static str,
    /// The row, in words.
    pub row: String,
    /// The difference from what was expected.
    pub found: String,
}

impl fmt::Display for QueueDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, table, row, found } = self;
        write!(f, "queue file {}: ", path.display())?;
        if !table.is_empty() {
            write!(f, "table {table}, row {row}: ")?;
        }
        f.write_str(found)
    }
}

/// Rows that a check has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct QueueCheck {
    /// Number of events whose checksums were compared.
    pub events: u64,
    /// Number of dead letters whose checksums were compared.
    pub dead_letters: u64,
    /// Number of damages that were found.
    pub damages: u64,
}

/// Folder of the queue in a data folder, or the folder itself if it is that of a queue.
pub(super) fn find_folder(path: &Path) -> Result<PathBuf, QueueOpenError> {
    let folders = [path.join(QUEUE), path.to_owned()];
    for folder in folders {
        match std::fs::File::open(folder.join(DATABASE)) {
            Ok(_) => return Ok(folder),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(QueueOpenError::NotPermitted { path: folder.join(DATABASE), error: error.to_string() });
            }
            Err(_) => {}
        }
    }
    Err(QueueOpenError::Absent { path: path.to_owned() })
}

pub(super) fn subscriber_key(namespace: &NamespacePath, name: &str) -> Result<SubscriberKey, QueueReadError> {
    let name = SubscriberName::parse(name).map_err(|error| QueueReadError::Name(error.to_string()))?;
    Ok(SubscriberKey { namespace: namespace.clone(), name })
}

pub(super) fn room_name(room: &str) -> Result<RoomName, QueueReadError> {
    RoomName::parse(room).map_err(|error| QueueReadError::Name(error.to_string()))
}

impl QueueInspection {
    /// Opens the queue in a data folder, or in the queue's own folder.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, QueueOpenError> {
        let database = find_folder(path.as_ref())?.join(DATABASE);
        let mut inspector = Inspector::open(&database).map_err(|error| open_error(&database, error))?;
        if !inspector.is_made()? {
            return Err(QueueOpenError::Incomplete { path: database });
        }
        let epoch = inspector.reader().totals()?.head.epoch;
        Ok(Self { inspector, database, epoch })
    }

    /// The offset of an event with this number.
    pub fn offset(&self, number: u64) -> QueueOffset {
        QueueOffset { epoch: self.epoch, number }
    }

    fn read<T>(&mut self, read: impl FnOnce(&mut Inspector) -> Result<T, StoreError>) -> Result<T, QueueReadError> {
        let found = read(&mut self.inspector);
        if !self.inspector.is_valid() {
            return Err(QueueReadError::Changed { path: self.database.clone() });
        }
        Ok(found?)
    }

    /// Reads the totals and the sizes of the files.
    pub fn stats(&mut self) -> Result<QueueStats, QueueReadError> {
        let (totals, figures) = self.read(|inspector| Ok((inspector.reader().totals()?, inspector.figures()?)))?;
        let files = ["", "-wal", "-shm"].iter().filter_map(|end| {
            let mut path = self.database.clone().into_os_string();
            path.push(end);
            let path = PathBuf::from(path);
            let bytes = std::fs::metadata(&path).ok()?.len();
            Some((path, bytes))
        });
        Ok(QueueStats {
            head: totals.head,
            revealed: self.offset(totals.revealed),
            events: totals.events,
            bytes: totals.bytes,
            rooms: figures.rooms,
            subscribers: totals.subscribers,
            dead_letters: totals.dead_letters,
            dedup_ids: totals.dedup_ids,
            commits: figures.commits,
            last_commit_at: QueueStats::time(figures.last_commit_at),
            files: files.collect(),
            unused_bytes: figures.unused_bytes,
        })
    }

    /// All subscribers in order of namespace and name, also expired ones. Their pending events are
    /// counted up to `count_max`. The iterator ends after the first error.
    pub fn subscribers(
        &mut self,
        count_max: usize,
    ) -> impl Iterator<Item = Result<InspectedSubscriber, QueueReadError>> {
        let mut after: Option<SubscriberKey> = None;
        pages(move || {
            self.read(|inspector| {
                let infos = inspector.reader().subscribers(after.as_ref(), SUBSCRIBERS)?;
                after = infos.last().map(|info| info.key.clone());
                let has_more = infos.len() == SUBSCRIBERS;
                let page = infos.into_iter().map(|info| {
                    let backlog = inspector.reader().backlog(&info.key, count_max)?;
                    Ok(InspectedSubscriber::new(info, backlog))
                });
                let page: Vec<_> = page.collect::<Result<_, StoreError>>()?;
                Ok((page.into_iter().map(Ok).collect(), has_more))
            })
        })
    }

    /// A subscriber. Its pending events are counted up to `count_max`.
    pub fn subscriber(
        &mut self,
        namespace: &NamespacePath,
        name: &str,
        count_max: usize,
    ) -> Result<Option<InspectedSubscriber>, QueueReadError> {
        let key = subscriber_key(namespace, name)?;
        self.read(|inspector| {
            let Some(info) = inspector.reader().subscriber(&key)? else { return Ok(None) };
            let backlog = inspector.reader().backlog(&key, count_max)?;
            Ok(Some(InspectedSubscriber::new(info, backlog)))
        })
    }

    /// The subscriptions of a subscriber, at most a thousand by default. Their pending events are
    /// counted up to `count_max`.
    pub fn subscriptions(
        &mut self,
        namespace: &NamespacePath,
        name: &str,
        count_max: usize,
    ) -> Result<Vec<InspectedSubscription>, QueueReadError> {
        let key = subscriber_key(namespace, name)?;
        let rows = self.read(|inspector| inspector.subscriptions(&key, count_max))?;
        let found = rows.into_iter().map(|row| InspectedSubscription {
            room: row.room.as_str().to_owned(),
            is_own: row.is_own,
            after: self.offset(row.start),
            floor: self.offset(row.floor),
            acked_ranges: row.acked_ranges,
            pending: row.pending,
            is_capped: row.is_capped,
        });
        Ok(found.collect())
    }

    /// Pending events of a subscriber whose deliveries failed, oldest first.
    pub fn failed(
        &mut self,
        namespace: &NamespacePath,
        name: &str,
        limit: usize,
    ) -> Result<Vec<InspectedEvent>, QueueReadError> {
        let (key, epoch) = (subscriber_key(namespace, name)?, self.epoch);
        let events = self.read(|inspector| inspector.failed(&key, limit))?;
        Ok(events.into_iter().map(|event| InspectedEvent::new(epoch, event)).collect())
    }

    /// Pending events of a subscriber in order. After [`QueueReadError::DamagedRow`] the iterator
    /// continues; it ends after any other error.
    pub fn pending(
        &mut self,
        namespace: &NamespacePath,
        name: &str,
    ) -> Result<impl Iterator<Item = Result<InspectedEvent, QueueReadError>>, QueueReadError> {
        let (key, epoch, mut after) = (subscriber_key(namespace, name)?, self.epoch, 0);
        Ok(pages(move || {
            let page = self.read(|inspector| inspector.reader().pending(&key, after, PAGE))?;
            after = page.next;
            let events = page.events.into_iter().map(|event| (event.number, Ok(InspectedEvent::new(epoch, event))));
            let damaged = page.damaged.into_iter();
            let damaged = damaged.map(|damaged| (damaged.number, Err(QueueReadError::DamagedRow(damaged.error))));
            Ok((in_order(events.chain(damaged)), page.has_more))
        }))
    }

    /// Dead letters of a subscriber in order. After [`QueueReadError::DamagedRow`] the iterator
    /// continues; it ends after any other error.
    pub fn dead_letters(
        &mut self,
        namespace: &NamespacePath,
        name: &str,
    ) -> Result<impl Iterator<Item = Result<InspectedDeadLetter, QueueReadError>>, QueueReadError> {
        let (key, epoch, mut after) = (subscriber_key(namespace, name)?, self.epoch, 0);
        Ok(pages(move || {
            let page = self.read(|inspector| inspector.reader().dead_letters(&key, after, PAGE))?;
            after = page.next;
            let letters = page.dead_letters.into_iter();
            let letters = letters.map(|dead| (dead.number, Ok(InspectedDeadLetter::new(epoch, dead))));
            let damaged = page.damaged.into_iter();
            let damaged = damaged.map(|damaged| (damaged.number, Err(QueueReadError::DamagedRow(damaged.error))));
            Ok((in_order(letters.chain(damaged)), page.has_more))
        }))
    }

    /// Gaps of a subscriber that it has not confirmed, a page of them in order at a time. The
    /// iterator ends after the first error.
    pub fn gaps(
        &mut self,
        namespace: &NamespacePath,
        name: &str,
    ) -> Result<impl Iterator<Item = Result<InspectedGap, QueueReadError>>, QueueReadError> {
        let (key, epoch, mut after) = (subscriber_key(namespace, name)?, self.epoch, 0);
        Ok(pages(move || {
            let page = self.read(|inspector| inspector.reader().gaps(&key, after, GAPS))?;
            after = page.next;
            let gaps = page.gaps.iter().map(|gap| Ok(InspectedGap::new(epoch, gap)));
            Ok((gaps.collect(), page.has_more))
        }))
    }

    /// Number of events that are pending for a subscriber up to an offset.
    pub fn pending_up_to(
        &mut self,
        namespace: &NamespacePath,
        name: &str,
        up_to: QueueOffset,
    ) -> Result<u64, QueueReadError> {
        let key = subscriber_key(namespace, name)?;
        self.read(|inspector| inspector.pending_up_to(&key, up_to.number))
    }

    /// Number of events that [`QueueEditor::replay_from`] delivers to a subscriber, handled or not.
    /// Fails where the replay would be refused.
    ///
    /// [`QueueEditor::replay_from`]: crate::QueueEditor::replay_from
    pub fn replayable(
        &mut self,
        namespace: &NamespacePath,
        name: &str,
        after: QueueOffset,
    ) -> Result<u64, QueueChangeError> {
        let key = subscriber_key(namespace, name)?;
        let checked = self.read(|inspector| Ok(check_replay(inspector.reader(), &key, after)))?;
        checked?;
        Ok(self.read(|inspector| inspector.stored_after(&key, after.number))?)
    }

    /// The events of a room, counted up to an offset and in total.
    pub fn room(
        &mut self,
        namespace: &NamespacePath,
        room: &str,
        up_to: QueueOffset,
    ) -> Result<Option<InspectedRoom>, QueueReadError> {
        let room = room_name(room)?;
        let found = self.read(|inspector| inspector.room(namespace, &room, up_to.number))?;
        Ok(found.map(|row| InspectedRoom {
            subscribers: row.subscribers,
            events: row.events,
            events_up_to: row.events_up_to,
        }))
    }

    /// Checks the structure of the file, and then every row with a checksum. Each damage is passed
    /// to `on_damage` when it is found.
    pub fn check(&mut self, mut on_damage: impl FnMut(QueueDamage)) -> Result<QueueCheck, QueueReadError> {
        let (path, mut check) = (self.database.clone(), QueueCheck::default());
        let mut report = |damage: Vec<Damage>| {
            for Damage { table, row, found } in damage {
                check.damages += 1;
                on_damage(QueueDamage { path: path.clone(), table, row, found });
            }
        };
        report(self.read(Inspector::check_file)?);
        let mut rows = [0; Table::ALL.len()];
        for (table, rows) in Table::ALL.into_iter().zip(&mut rows) {
            let mut next = Some((0, 0));
            while let Some(after) = next {
                let checked = self.read(|inspector| inspector.check_rows(table, after))?;
                *rows += checked.rows as u64;
                report(checked.damage);
                next = checked.next;
            }
        }
        [check.events, check.dead_letters, _] = rows;
        Ok(check)
    }
}

fn open_error(database: &Path, error: StoreError) -> QueueOpenError {
    match error {
        // Without permission to write, SQLite cannot read a log whose index is missing.
        StoreError::Io { error, .. } if error.contains("unable to open") => QueueOpenError::NotPermitted {
            path: database.to_owned(),
            error: format!("its log needs an index: {error}"),
        },
        error => error.into(),
    }
}

/// Items of pages in order of their numbers.
fn in_order<T>(items: impl Iterator<Item = (u64, T)>) -> Vec<T> {
    let mut items: Vec<_> = items.collect();
    items.sort_by_key(|(number, _)| *number);
    items.into_iter().map(|(_, item)| item).collect()
}

/// The items of pages one by one. `read` returns a page, and true if another one follows.
fn pages<T>(
    mut read: impl FnMut() -> Result<(Vec<Result<T, QueueReadError>>, bool), QueueReadError>,
) -> impl Iterator<Item = Result<T, QueueReadError>> {
    let (mut page, mut has_more) = (Vec::new().into_iter(), true);
    std::iter::from_fn(move || {
        loop {
            if let Some(item) = page.next() {
                return Some(item);
            }
            if !has_more {
                return None;
            }
            match read() {
                Ok((items, more)) => (page, has_more) = (items.into_iter(), more),
                Err(error) => {
                    has_more = false;
                    return Some(Err(error));
                }
            }
        }
    })
}
