//! Ids for deduplication: appended to a table in order of their events, and found through an index
//! in memory.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};

use rusqlite::{Connection, params};

use super::{Result, SqliteStore, from_sql, to_sql};
use crate::queue::change::{Dedup, Refusal};
use crate::queue::limits::has_passed;
use crate::queue::record::{PublishReceipt, QueueOffset, UnixMillis};

/// Hashes of namespace and id, each with the number of its event. The row decides between equal
/// hashes.
pub(super) struct DedupIndex {
    entries: BTreeSet<(u64, u64)>,
    hasher: RandomState,
}

impl DedupIndex {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut index = Self { entries: BTreeSet::new(), hasher: RandomState::new() };
        let mut select = connection.prepare("SELECT number, namespace, id FROM dedup")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let hash = index.hash(row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_blob()?);
            index.entries.insert((hash, from_sql(row.get(0)?)));
        }
        Ok(index)
    }

    fn hash(&self, namespace: &str, id: &[u8]) -> u64 {
        self.hasher.hash_one((namespace, id))
    }

    pub(super) fn len(&self) -> u64 {
        self.entries.len() as u64
    }
}

impl SqliteStore {
    /// The first receipt of an id, if it was used within the window.
    pub(super) fn find_dedup(&self, namespace: &str, dedup: &Dedup, now: UnixMillis) -> Result<Option<PublishReceipt>> {
        let hash = self.dedup.hash(namespace, &dedup.id);
        for (_, number) in self.dedup.entries.range((hash, 0)..=(hash, u64::MAX)).rev() {
            let sql = "SELECT at, namespace, id, content, pending_for FROM dedup WHERE number = ?";
            let found = self.connection.prepare_cached(sql)?.query_row([to_sql(*number)], |row| {
                let is_same = row.get_ref(1)?.as_str()? == namespace && row.get_ref(2)?.as_blob()? == dedup.id;
                let is_equal = row.get_ref(3)?.as_blob()? == dedup.content.0.to_le_bytes();
                Ok((UnixMillis(from_sql(row.get(0)?)), is_same, is_equal, from_sql(row.get(4)?)))
            })?;
            let (at, is_same, is_equal, pending_for) = found;
            if !is_same || has_passed(at, self.limits.dedup_window, now) {
                continue;
            }
            if !is_equal {
                return Err(Refusal::Conflict { first: *number }.into());
            }
            let offset = QueueOffset { epoch: self.epoch, number: *number };
            return Ok(Some(PublishReceipt { offset, duplicate: true, pending_for, published_at: at }));
        }
        Ok(None)
    }

    pub(super) fn insert_dedup(
        &mut self,
        namespace: &str,
        dedup: &Dedup,
        number: u64,
        pending_for: u64,
        now: UnixMillis,
    ) -> Result<()> {
        let sql = "INSERT INTO dedup (number, at, namespace, id, content, pending_for) VALUES (?, ?, ?, ?, ?, ?)";
        let content = dedup.content.0.to_le_bytes();
        let values = params![to_sql(number), to_sql(now.0), namespace, &dedup.id[..], content, to_sql(pending_for)];
        self.connection.prepare_cached(sql)?.execute(values)?;
        self.dedup.entries.insert((self.dedup.hash(namespace, &dedup.id), number));
        Ok(())
    }

    /// Forgets ids whose window has passed, at most so many. Returns how many were forgotten.
    pub(super) fn expire_dedup(&mut self, limit: usize, now: UnixMillis) -> Result<usize> {
        let head = self.counters.head;
        let mut select =
            self.connection.prepare_cached("SELECT number, at, namespace, id FROM dedup ORDER BY number LIMIT ?")?;
        let mut rows = select.query([limit as i64])?;
        let mut expired = Vec::new();
        while let Some(row) = rows.next()? {
            let (number, at) = (from_sql(row.get(0)?), UnixMillis(from_sql(row.get(1)?)));
            let stored_at = self.future_ids.stored_at(number, at, head, now);
            if !has_passed(stored_at, self.limits.dedup_window, now) {
                break;
            }
            let hash = self.dedup.hash(row.get_ref(2)?.as_str()?, row.get_ref(3)?.as_blob()?);
            expired.push((hash, number));
        }
        drop(rows);
        drop(select);
        for entry in &expired {
            self.connection.prepare_cached("DELETE FROM dedup WHERE number = ?")?.execute([to_sql(entry.1)])?;
            self.dedup.entries.remove(entry);
        }
        Ok(expired.len())
    }
}
