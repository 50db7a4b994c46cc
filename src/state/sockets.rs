//! The sockets of one session: namespace and phase of each, and data of the session actor.

use std::time::Instant;

use smallvec::SmallVec;

use crate::ids::{NamespacePath, SocketId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The hub checks a resume request, or connection middleware runs.
    Admitting,
    /// The hub was asked to connect the socket and has not answered.
    Connecting,
    /// The connection handler runs. Events are held until `release_at` at the latest.
    Opening {
        release_at: Instant,
    },
    Open,
}

/// A socket of a session, connected or being admitted.
#[derive(Debug)]
pub(crate) struct SocketRecord<T> {
    pub(crate) id: SocketId,
    namespace: NamespacePath,
    pub(super) phase: Phase,
    /// True if a CONNECT reply was sent for a socket that this socket replaces.
    replaces_answered: bool,
    /// Data of the session actor.
    pub(crate) kept: T,
}

impl<T> SocketRecord<T> {
    /// Returns whether the session has not yet asked the hub to connect the socket.
    pub(crate) fn is_admitting(&self) -> bool {
        self.phase == Phase::Admitting
    }

    /// Returns whether the hub has connected the socket. Before that, the application does not know
    /// the socket.
    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Opening { .. } | Phase::Open)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Returns whether the client considers the namespace connected: a CONNECT reply was sent, or
    /// is awaited from the hub, for this socket or for a socket that this socket replaces.
    pub(crate) fn is_answered(&self) -> bool {
        self.replaces_answered || !self.is_admitting()
    }
}

/// All sockets of a session, at most one per namespace.
#[derive(Debug)]
pub(crate) struct Sockets<T>(SmallVec<[SocketRecord<T>; 1]>);

impl<T> Default for Sockets<T> {
    fn default() -> Self {
        Self(SmallVec::new())
    }
}

impl<T> Sockets<T> {
    /// Adds a socket that is being admitted to a namespace.
    pub(crate) fn add(&mut self, namespace: NamespacePath, id: SocketId, replaces_answered: bool, kept: T) {
        self.0.push(SocketRecord { id, namespace, phase: Phase::Admitting, replaces_answered, kept });
    }

    pub(crate) fn remove(&mut self, id: SocketId) -> Option<SocketRecord<T>> {
        let at = self.0.iter().position(|record| record.id == id)?;
        Some(self.0.remove(at))
    }

    /// Changes the id of a socket, and marks the socket as being admitted.
    pub(crate) fn rename(&mut self, from: SocketId, to: SocketId) {
        if let Some(record) = self.get_mut(from) {
            (record.id, record.phase) = (to, Phase::Admitting);
        }
    }

    pub(crate) fn get(&self, id: SocketId) -> Option<&SocketRecord<T>> {
        self.0.iter().find(|record| record.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: SocketId) -> Option<&mut SocketRecord<T>> {
        self.0.iter_mut().find(|record| record.id == id)
    }

    pub(crate) fn in_namespace(&self, namespace: &NamespacePath) -> Option<&SocketRecord<T>> {
        self.0.iter().find(|record| record.namespace == *namespace)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &SocketRecord<T>> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut SocketRecord<T>> {
        self.0.iter_mut()
    }

    /// Ids of all sockets, in the order of their CONNECTs.
    pub(crate) fn ids(&self) -> SmallVec<[SocketId; 1]> {
        self.0.iter().map(|record| record.id).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
