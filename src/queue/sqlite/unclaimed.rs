//! New events that no subscription counts for. They are freed after their reveal without being
//! read, since what has to be known about them is kept in memory.

use std::collections::BTreeMap;

use super::{Result, SqliteStore, to_sql};

/// Rooms of all events that are kept, about 100 bytes each. Further events are read from the file.
const ROOMS_MAX: usize = 16_384;

/// Events by number.
#[derive(Default)]
pub(super) struct Unclaimed {
    events: BTreeMap<u64, NewlyStored>,
    rooms: usize,
}

struct NewlyStored {
    rooms: Vec<i64>,
    bytes: u64,
}

impl Unclaimed {
    pub(super) fn insert(&mut self, number: u64, rooms: Vec<i64>, bytes: u64) {
        if self.rooms + rooms.len() <= ROOMS_MAX {
            self.rooms += rooms.len();
            self.events.insert(number, NewlyStored { rooms, bytes });
        }
    }

    /// A row of the event has changed.
    pub(super) fn remove(&mut self, number: u64) {
        if let Some(event) = self.events.remove(&number) {
            self.rooms -= event.rooms.len();
        }
    }

    fn pop(&mut self, up_to: u64) -> Option<(u64, NewlyStored)> {
        let first = self.events.first_entry().filter(|first| *first.key() <= up_to)?;
        let (number, event) = first.remove_entry();
        self.rooms -= event.rooms.len();
        Some((number, event))
    }
}

impl SqliteStore {
    /// Frees revealed events that no subscription counts for, in at most about so many rows. Those
    /// of consecutive numbers are deleted at once.
    pub(super) fn free_unclaimed(&mut self, rows_max: usize) -> Result<()> {
        let (mut rows, mut run) = (0, None);
        while rows < rows_max
            && let Some((number, event)) = self.unclaimed.pop(self.counters.revealed)
        {
            if self.are_held(&event.rooms)? {
                continue;
            }
            rows += event.rooms.len();
            for room in &event.rooms {
                self.change_room(*room, |room| {
                    room.events = room.events.saturating_sub(1);
                    room.bytes = room.bytes.saturating_sub(event.bytes);
                    room.removed_to = room.removed_to.max(number);
                })?;
            }
            self.counters.events = self.counters.events.saturating_sub(1);
            self.counters.bytes = self.counters.bytes.saturating_sub(event.bytes);
            run = match run {
                Some((first, last)) if last + 1 == number => Some((first, number)),
                before => {
                    self.delete_run(before)?;
                    Some((number, number))
                }
            };
        }
        self.delete_run(run)
    }

    /// True if a rule retains events of these rooms, or a subscription to the past has still to be
    /// counted for them.
    fn are_held(&mut self, rooms: &[i64]) -> Result<bool> {
        for room in rooms {
            if self.ruled.get(*room).is_some() || self.room(*room)?.counting > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn delete_run(&self, run: Option<(u64, u64)>) -> Result<()> {
        let Some((first, last)) = run else { return Ok(()) };
        for sql in [
            "DELETE FROM event_room WHERE remaining = 0 AND number BETWEEN ? AND ?",
            "DELETE FROM event WHERE number BETWEEN ? AND ?",
        ] {
            self.connection.prepare_cached(sql)?.execute([to_sql(first), to_sql(last)])?;
        }
        Ok(())
    }
}
