//! Removal of whatever has expired: ids for deduplication, events, subscribers, names of
//! expired subscribers, idle rooms.

use rusqlite::OptionalExtension;

use super::{Result, SqliteStore, from_sql, to_sql};
use crate::queue::change::Outcome;
use crate::queue::record::{GapReason, UnixMillis};

/// Rooms with a rule that one change looks at.
const RULED_ROOMS_STEP: usize = 64;

/// Removes at most so many rows, and returns how many.
type Step = fn(&mut SqliteStore, usize, UnixMillis) -> Result<usize>;

impl SqliteStore {
    pub(super) fn expire(&mut self, budget: usize, now: UnixMillis) -> Result<Outcome> {
        let has_more = self.expire_within(budget, now)?;
        Ok(Outcome::Expired { has_more, has_new_gaps: std::mem::take(&mut self.work.has_new_gaps) })
    }

    /// Returns true if something that has expired is left.
    fn expire_within(&mut self, budget: usize, now: UnixMillis) -> Result<bool> {
        let mut left = budget.max(1);
        let steps: [Step; 5] = [
            Self::expire_dedup,
            Self::expire_events,
            Self::expire_subscribers,
            Self::forget_expired,
            Self::remove_idle_rooms,
        ];
        for step in steps {
            left = left.saturating_sub(step(self, left, now)?);
            if left == 0 {
                return Ok(true);
            }
        }
        Ok(self.trim_rooms(&mut left, now)? || left == 0)
    }

    fn expire_events(&mut self, limit: usize, now: UnixMillis) -> Result<usize> {
        let sql = "SELECT number FROM event WHERE expires_at IS NOT NULL AND expires_at <= ? AND number <= ? LIMIT ?";
        let numbers = self.numbers(sql, &[to_sql(now.0), to_sql(self.counters.revealed), limit as i64])?;
        let mut rows = 0;
        for number in numbers {
            rows += self.remove_event(number, GapReason::Expired)?;
            if rows >= limit {
                return Ok(rows);
            }
        }
        Ok(rows)
    }

    fn expire_subscribers(&mut self, limit: usize, now: UnixMillis) -> Result<usize> {
        let seen_before = now.0.checked_sub(self.limits.subscriber_expiry.as_millis() as u64);
        let Some(seen_before) = seen_before.filter(|_| self.counters.times.is_steady(&self.limits)) else {
            return Ok(0);
        };
        // Each has up to `subscriptions_per_subscriber_max` rows.
        let sql = "SELECT id FROM subscriber WHERE name IS NOT NULL AND seen_at <= ? LIMIT ?";
        let expired = self.numbers(sql, &[to_sql(seen_before), limit.min(16) as i64])?;
        for id in &expired {
            let sql = "INSERT OR REPLACE INTO expired_subscriber (namespace, name, created_at, seen_at, expired_at) \
                       SELECT namespace, name, created_at, seen_at, ?2 FROM subscriber WHERE id = ?1";
            self.connection.prepare_cached(sql)?.execute([to_sql(*id), to_sql(now.0)])?;
            self.remove_subscriber_by_id(to_sql(*id))?;
        }
        Ok(if expired.len() == 16 { limit } else { expired.len() })
    }

    fn forget_expired(&mut self, limit: usize, now: UnixMillis) -> Result<usize> {
        let Some(expired_before) = now.0.checked_sub(self.limits.tombstone_for.as_millis() as u64) else {
            return Ok(0);
        };
        let sql = "DELETE FROM expired_subscriber WHERE (namespace, name) IN \
                   (SELECT namespace, name FROM expired_subscriber WHERE expired_at <= ? LIMIT ?)";
        Ok(self.connection.prepare_cached(sql)?.execute([to_sql(expired_before), limit as i64])?)
    }

    fn remove_idle_rooms(&mut self, limit: usize, _now: UnixMillis) -> Result<usize> {
        self.rooms.write_back(&self.connection)?;
        let sql = "SELECT id FROM room WHERE subscribers = 0 AND events = 0 AND gone = 0 AND purging IS NULL AND NOT EXISTS \
                   (SELECT 1 FROM subscription WHERE subscription.room = room.id AND ended IS NOT NULL) LIMIT ?";
        let idle = self.numbers(sql, &[limit as i64])?;
        for room in &idle {
            self.remove_room(to_sql(*room))?;
        }
        Ok(idle.len())
    }

    /// Applies retention rules to some rooms. Returns whether others are left.
    fn trim_rooms(&mut self, left: &mut usize, now: UnixMillis) -> Result<bool> {
        let rooms = self.ruled.from(self.ruled.next, RULED_ROOMS_STEP);
        let has_more = rooms.len() == RULED_ROOMS_STEP;
        for room in rooms {
            self.ruled.next = room;
            while *left > 0 && self.trim_oldest(room, now)? {
                *left -= 1;
            }
            if *left == 0 {
                return Ok(true);
            }
            self.ruled.next = room + 1;
        }
        if !has_more {
            self.ruled.next = 0;
        }
        Ok(has_more)
    }

    /// Removes the oldest event of a room if it is too old or one too many.
    fn trim_oldest(&mut self, room: i64, now: UnixMillis) -> Result<bool> {
        if self.trim_to_rule(room, 1)? == 1 {
            return Ok(true);
        }
        let Some(number) = self.oldest_event(room)?.filter(|number| *number <= self.counters.revealed) else {
            return Ok(false);
        };
        let sql = "SELECT at FROM event WHERE number = ?";
        let at =
            self.connection.prepare_cached(sql)?.query_row([to_sql(number)], |row| Ok(row.get(0).ok())).optional()?;
        let Some(at) = at.flatten() else {
            self.remove_row(room, number, GapReason::Damaged)?;
            return Ok(true);
        };
        let mut at = UnixMillis(from_sql(at));
        if at > now {
            at = self.ruled.future.entry(room).or_default().stored_at(number, at, self.counters.head, now);
        }
        let is_too_old = self.ruled.get(room).is_some_and(|rule| rule.is_too_old(at, now));
        if is_too_old {
            self.remove_row(room, number, GapReason::Trimmed)?;
        }
        Ok(is_too_old)
    }
}
