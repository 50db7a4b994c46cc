//! Changes of a queue in a folder that no server uses, and what each does in words.

use std::path::PathBuf;

use stentor::limits::QueueLimits;
use stentor::{NamespacePath, QueueEditor, QueueInspection, QueueOffset};

use super::text::{escaped, plural};
use super::{QueueToolError, Result, find};

/// A change of a subscriber, of a room, or of all.
pub(super) enum Change<'a> {
    ReplayDead {
        name: &'a str,
    },
    ReplayFrom {
        name: &'a str,
        after: QueueOffset,
    },
    PurgeSubscriber {
        name: &'a str,
        up_to: Option<QueueOffset>,
    },
    PurgeRoom {
        room: &'a str,
        up_to: Option<QueueOffset>,
    },
    Remove {
        name: &'a str,
    },
    /// The file was restored from a copy.
    Restored,
}

impl Change<'_> {
    /// The effect of the change as a sentence that follows "would". Fails where the change would be
    /// refused.
    pub(super) fn describe(&self, queue: &mut QueueInspection, namespace: &NamespacePath) -> Result<String> {
        let subscriber = match self {
            Self::PurgeRoom { .. } | Self::Restored => None,
            Self::ReplayDead { name }
            | Self::ReplayFrom { name, .. }
            | Self::PurgeSubscriber { name, .. }
            | Self::Remove { name } => {
                let found = find(queue, namespace, name)?;
                if found.expired_at.is_some() {
                    return Err(QueueToolError::Expired { name: (*name).to_owned(), namespace: namespace.to_string() });
                }
                Some(found)
            }
        };
        let head = queue.stats()?.head;
        let dead_letters = subscriber.as_ref().map_or(0, |subscriber| subscriber.dead_letters);
        let of = |name: &str| format!("subscriber {} of namespace {namespace}", escaped(name));
        Ok(match self {
            Self::ReplayDead { name } => {
                format!("deliver {} to {} again", plural(dead_letters, "dead letter"), of(name))
            }
            Self::ReplayFrom { name, after } => {
                let events = queue.replayable(namespace, name, *after)?;
                format!(
                    "deliver {} after {after} to {} again; events that are no longer stored become a gap",
                    plural(events, "stored event"),
                    of(name)
                )
            }
            Self::PurgeSubscriber { name, up_to } => {
                let up_to = within(*up_to, head)?;
                let events = queue.pending_up_to(namespace, name, up_to)?;
                format!(
                    "remove {} of {}, up to offset {up_to} (number {}); it receives a gap",
                    plural(events, "pending event"),
                    of(name),
                    up_to.number
                )
            }
            Self::PurgeRoom { room, up_to } => {
                let up_to = within(*up_to, head)?;
                let Some(found) = queue.room(namespace, room, up_to)? else {
                    return Err(QueueToolError::UnknownRoom {
                        room: (*room).to_owned(),
                        namespace: namespace.to_string(),
                    });
                };
                format!(
                    "remove {} of room {} of namespace {namespace}, up to offset {up_to} (number {}); {}",
                    plural(found.events_up_to, "event"),
                    escaped(room),
                    up_to.number,
                    if found.subscribers == 1 {
                        "its subscriber receives a gap if it did not handle them".into()
                    } else {
                        format!("those of its {} subscribers that did not handle them receive gaps", found.subscribers)
                    },
                )
            }
            Self::Restored => {
                format!(
                    "leave out offsets after {head}, since events may have had them that this copy lacks; all subscribers with rooms receive a gap"
                )
            }
            Self::Remove { name } => {
                let events = queue.pending_up_to(namespace, name, head)?;
                format!(
                    "remove {} with {} and {}",
                    of(name),
                    plural(events, "pending event"),
                    plural(dead_letters, "dead letter")
                )
            }
        })
    }
}

/// The offset, or the newest event.
fn within(up_to: Option<QueueOffset>, head: QueueOffset) -> Result<QueueOffset> {
    match up_to {
        Some(offset) if offset.epoch != head.epoch => Err(QueueToolError::Wrong(format!(
            "offset {offset} belongs to another queue; the newest of this one is {head}"
        ))),
        Some(offset) if offset.number <= head.number => Ok(offset),
        _ => Ok(head),
    }
}

/// A queue in a folder.
pub(super) struct Folder {
    pub(super) path: PathBuf,
    /// Limits of the server that uses the folder.
    pub(super) limits: QueueLimits,
}

impl Folder {
    pub(super) fn apply(&self, change: &Change<'_>, namespace: &NamespacePath) -> Result<()> {
        let mut queue = QueueEditor::open(&self.path, &self.limits)?;
        let head = queue.head();
        match change {
            Change::ReplayDead { name } => drop(queue.replay_dead(namespace, name)?),
            Change::ReplayFrom { name, after } => queue.replay_from(namespace, name, *after)?,
            Change::PurgeSubscriber { name, up_to } => {
                queue.purge_subscriber(namespace, name, within(*up_to, head)?)?
            }
            Change::PurgeRoom { room, up_to } => queue.purge_room(namespace, room, within(*up_to, head)?)?,
            Change::Remove { name } => queue.remove_subscriber(namespace, name)?,
            Change::Restored => drop(queue.restored()?),
        }
        Ok(())
    }
}
