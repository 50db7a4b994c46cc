//! The directory of sessions: the one map that all workers share. It hands out owned addresses, never guards.

use dashmap::DashMap;

use crate::ids::SessionId;
use crate::messages::session::SessionLink;

/// Where each session is. Entries are made and removed by the sessions themselves.
#[derive(Debug, Default)]
pub(crate) struct Directory(DashMap<SessionId, SessionLink>);

impl Directory {
    /// The address of a session that is alive.
    pub(crate) fn find(&self, id: &SessionId) -> Option<SessionLink> {
        self.0.get(id).map(|entry| entry.value().clone())
    }

    /// Sessions alive.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn insert(&self, id: SessionId, link: SessionLink) {
        self.0.insert(id, link);
    }

    pub(super) fn remove(&self, id: &SessionId) {
        self.0.remove(id);
    }
}
