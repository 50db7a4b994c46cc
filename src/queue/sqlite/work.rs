//! Work that changes leave over, in steps. Every step is complete in itself, so that a crash
//! between two loses nothing.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension, params};

use super::subscriptions::Subscription;
use super::{Failure, Result, SqliteStore, from_sql, to_sql};
use crate::queue::record::{GapReason, ROOMS_MAX};

/// Kinds of work that may be left, and what work has done.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) subscriptions: bool,
    pub(super) subscribers: bool,
    pub(super) sweep: bool,
    /// Gaps arose since the last change that expires.
    pub(super) has_new_gaps: bool,
    /// Rooms that are being purged.
    pub(super) purges: BTreeSet<i64>,
    /// The rooms being purged have still to be read, after a start.
    are_purges_unknown: bool,
}

impl Work {
    /// All that an earlier process may have left.
    pub(super) fn all() -> Self {
        Self {
            subscriptions: true,
            subscribers: true,
            sweep: true,
            has_new_gaps: true,
            purges: BTreeSet::new(),
            are_purges_unknown: true,
        }
    }

    pub(super) fn is_left(&self) -> bool {
        self.subscriptions || self.subscribers || self.sweep || !self.purges.is_empty() || self.are_purges_unknown
    }
}

impl SqliteStore {
    /// Continues work, in at most about so many rows.
    pub(super) fn continue_work(&mut self, rows: usize) -> rusqlite::Result<()> {
        match self.try_continue_work(rows) {
            Ok(()) => Ok(()),
            Err(Failure::Sqlite(error)) => Err(error),
            // Work is never refused.
            Err(Failure::Refused(_)) => Ok(()),
        }
    }

    fn try_continue_work(&mut self, rows: usize) -> Result<()> {
        let mut left = rows;
        // Before other work, since publishers wait for the bytes.
        if self.work.sweep {
            self.continue_sweep(rows)?;
        }
        if self.work.subscriptions {
            self.continue_subscriptions(&mut left)?;
        }
        if self.work.are_purges_unknown {
            let mut select = self.connection.prepare("SELECT id FROM room WHERE purging IS NOT NULL")?;
            let found: Vec<i64> = select.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
            // Purges of this commit are not written yet.
            self.work.purges.extend(found);
            self.work.are_purges_unknown = false;
        }
        while left > 0
            && let Some(room) = self.work.purges.first().copied()
        {
            self.continue_purge(room, &mut left)?;
        }
        if self.work.subscribers && left > 0 {
            self.continue_removals(&mut left)?;
        }
        Ok(())
    }

    fn continue_subscriptions(&mut self, left: &mut usize) -> Result<()> {
        while *left > 0 {
            self.subscriptions.write_back(&self.connection)?;
            let sql = format!(
                "SELECT {} FROM subscription WHERE dropped < coalesce(ended, floor) OR ended IS NOT NULL OR counted < joined \
                 LIMIT 16",
                Subscription::COLUMNS
            );
            let mut select = self.connection.prepare_cached(&sql)?;
            let found: Vec<_> = select.query_map([], Subscription::read)?.collect::<rusqlite::Result<_>>()?;
            drop(select);
            if found.is_empty() {
                self.work.subscriptions = false;
                return Ok(());
            }
            for subscription in found {
                if *left > 0 {
                    let rows = if subscription.is_counting() {
                        self.count(subscription, *left)?
                    } else {
                        self.drop_counts(subscription, *left)?
                    };
                    *left = left.saturating_sub(rows + 1);
                }
            }
        }
        Ok(())
    }

    /// Adds a subscription to the past to the rows that it asked for.
    fn count(&mut self, mut subscription: Subscription, limit: usize) -> Result<usize> {
        let Subscription { room, counted, joined, .. } = subscription;
        let numbers = self.rows_between(room, counted, joined, limit)?;
        let is_last = numbers.len() < limit || numbers.last() == Some(&joined);
        for number in &numbers {
            subscription.counted = *number;
            self.save(subscription);
            // Rows in `(dropped, floor]` are added too, since they will be subtracted.
            if *number <= subscription.dropped || self.is_in_range(&subscription, *number)? {
                self.free_if_handled(room, *number)?;
            } else {
                self.add(room, *number)?;
            }
        }
        if is_last {
            subscription.counted = joined;
            self.change_room(room, |room| room.counting = room.counting.saturating_sub(1))?;
            self.save(subscription);
        }
        Ok(numbers.len())
    }

    /// Subtracts a subscription from rows that it has handled in bulk, or that it gave up by
    /// ending.
    fn drop_counts(&mut self, mut subscription: Subscription, limit: usize) -> Result<usize> {
        let Subscription { id, subscriber, room, dropped, floor, ended, .. } = subscription;
        let target = ended.unwrap_or(floor);
        let numbers = self.rows_between(room, dropped, target, limit)?;
        let is_last = numbers.len() < limit || numbers.last() == Some(&target);
        for number in &numbers {
            if subscription.holds(*number) && !self.is_in_range(&subscription, *number)? {
                self.subtract(room, *number)?;
            } else {
                self.free_if_handled(room, *number)?;
            }
            subscription.dropped = *number;
            if ended.is_some() {
                self.delete_idle_attempts_of(subscriber, *number)?;
            }
        }
        if is_last {
            subscription.dropped = subscription.dropped.max(target);
        }
        // Ranges above it tell which of the next rows are acknowledged.
        let sql = "DELETE FROM acked WHERE subscription = ?1 AND first <= ?2 AND last <= ?2";
        self.connection.prepare_cached(sql)?.execute([id, to_sql(subscription.dropped)])?;
        match ended {
            Some(_) if is_last => {
                self.save(subscription);
                self.subscriptions.write_back(&self.connection)?;
                let sql = "DELETE FROM acked WHERE subscription = ?1 AND first IN \
                           (SELECT first FROM acked WHERE subscription = ?1 LIMIT ?2)";
                let deleted = self.connection.prepare_cached(sql)?.execute([id, limit as i64])?;
                if deleted == limit {
                    return Ok(numbers.len() + deleted);
                }
                self.connection.prepare_cached("DELETE FROM subscription WHERE id = ?")?.execute([id])?;
            }
            None if is_last => {
                let merged = self.merge_ranges_into_floor(subscription)?;
                self.save(merged);
            }
            _ => self.save(subscription),
        }
        Ok(numbers.len())
    }

    fn continue_purge(&mut self, room: i64, left: &mut usize) -> Result<()> {
        let purging = self.room(room)?.purging.unwrap_or(0);
        let sql = "SELECT number FROM event_room WHERE room = ? AND number <= ? ORDER BY number LIMIT ?";
        let numbers = self.numbers(sql, &[room, to_sql(purging), *left as i64])?;
        let is_last = numbers.len() < *left;
        *left -= numbers.len();
        for number in numbers {
            self.remove_row(room, number, GapReason::Purged)?;
        }
        if is_last {
            self.change_room(room, |room| room.purging = None)?;
            self.work.purges.remove(&room);
        }
        Ok(())
    }

    /// Removes what subscribers without a name leave.
    fn continue_removals(&mut self, left: &mut usize) -> Result<()> {
        while *left > 0 {
            let sql = "SELECT id FROM subscriber WHERE name IS NULL LIMIT 1";
            let removed: Option<i64> =
                self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
            let Some(id) = removed else {
                self.work.subscribers = false;
                return Ok(());
            };
            let sql = "SELECT number FROM dead_letter WHERE subscriber = ? LIMIT ?";
            let numbers = self.numbers(sql, &[id, *left as i64])?;
            let are_last = numbers.len() < *left;
            *left -= numbers.len();
            for number in numbers {
                self.delete_dead_letter(id, number)?;
            }
            if are_last {
                let sql = "DELETE FROM attempt WHERE subscriber = ?1 AND number IN \
                           (SELECT number FROM attempt WHERE subscriber = ?1 LIMIT ?2)";
                let deleted = self.connection.prepare_cached(sql)?.execute(params![id, *left as i64])?;
                if deleted < *left {
                    self.connection.prepare_cached("DELETE FROM subscriber WHERE id = ?")?.execute([id])?;
                }
                *left = left.saturating_sub(deleted + 1);
            }
        }
        Ok(())
    }

    /// Frees events that were handled before they were revealed.
    fn continue_sweep(&mut self, rows: usize) -> Result<()> {
        // A page holds more rows than one event has, and twice those that this commit has written.
        let limit = (ROOMS_MAX + 64).max(rows).max(2 * self.rows_written);
        self.free_unclaimed(limit)?;
        let (swept, revealed) = (self.counters.swept, self.counters.revealed);
        let sql = "SELECT room, number FROM event_room WHERE remaining = 0 AND number > ? AND number <= ? ORDER BY number LIMIT ?";
        let rows: Vec<(i64, u64)> = self
            .connection
            .prepare_cached(sql)?
            .query_map(params![to_sql(swept), to_sql(revealed), limit as i64], |row| {
                Ok((row.get(0)?, from_sql(row.get(1)?)))
            })?
            .collect::<rusqlite::Result<_>>()?;
        let last = rows.last().map_or(revealed, |(_, number)| *number);
        let is_last = rows.len() < limit;
        for (room, number) in rows {
            self.free_if_handled(room, number)?;
        }
        self.counters.swept = if is_last { revealed } else { last - 1 };
        self.work.sweep = !is_last;
        Ok(())
    }
}
