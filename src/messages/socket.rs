//! A socket's identity, handshake and application data, readable on every thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::extensions::Extensions;
use super::handshake::Handshake;
use crate::ids::{NamespacePath, SocketId};

/// Information about one socket, without the address of its session. Created by the session, and
/// shared by the handles of the socket and the member table of the worker.
#[derive(Debug)]
pub(crate) struct SocketInfo {
    pub id: SocketId,
    pub namespace: NamespacePath,
    /// The request that opened the session.
    pub handshake: Arc<Handshake>,
    /// The payload of the CONNECT packet: a JSON object as text.
    pub auth: Option<Box<str>>,
    connected: AtomicBool,
    recovered: AtomicBool,
    /// True if events for the socket contain offset tokens and the session can be resumed.
    recoverable: AtomicBool,
    /// True if the data has changed since the session last read it.
    data_changed: AtomicBool,
    /// JSON data of the application. Handles on any thread read and write the data. No code of the
    /// application runs while the lock is held.
    data: Mutex<Option<Box<str>>>,
    pub extensions: Extensions,
}

impl SocketInfo {
    pub(crate) fn new(
        id: SocketId,
        namespace: NamespacePath,
        handshake: Arc<Handshake>,
        auth: Option<Box<str>>,
        recoverable: bool,
    ) -> Self {
        Self {
            id,
            namespace,
            handshake,
            auth,
            connected: AtomicBool::new(false),
            recovered: AtomicBool::new(false),
            recoverable: AtomicBool::new(recoverable),
            data_changed: AtomicBool::new(false),
            data: Mutex::new(None),
            extensions: Extensions::default(),
        }
    }

    /// Creates a socket for the same client, with the id and the data of the session that the
    /// socket resumes.
    pub(crate) fn as_resumed(&self, id: SocketId, data: Option<Box<str>>) -> Self {
        let mut socket = self.with_id(id);
        (socket.data, socket.recovered) = (Mutex::new(data), AtomicBool::new(true));
        socket
    }

    /// Returns true if the socket has resumed its session, or is about to resume it.
    pub(crate) fn is_recovered(&self) -> bool {
        self.recovered.load(Ordering::Acquire)
    }

    /// Called by the session when the hub has decided whether the session is resumed.
    pub(crate) fn set_recovered(&self, recovered: bool) {
        self.recovered.store(recovered, Ordering::Release);
    }

    /// True if events for the socket contain offset tokens and the session can be resumed.
    pub(crate) fn is_recoverable(&self) -> bool {
        self.recoverable.load(Ordering::Acquire)
    }

    /// Turns the socket into a new socket that cannot be recovered, and removes the data of the
    /// session that it was about to resume. Has no effect once the socket is connected.
    pub(crate) fn decline_recovery(&self) {
        if !self.is_connected() {
            self.recoverable.store(false, Ordering::Release);
            self.decline_resume();
        }
    }

    /// Turns the socket into a new socket, and removes the data of the session that it was about to
    /// resume. Has no effect on another socket, or once the socket is connected.
    pub(crate) fn decline_resume(&self) {
        if !self.is_connected() && self.recovered.swap(false, Ordering::AcqRel) {
            self.put_data(None);
        }
    }

    /// Creates a new socket for the same client that does not resume a session. The new socket has
    /// the data and extensions of this socket, which middleware may have changed.
    pub(crate) fn as_new_socket(&self, id: SocketId) -> Self {
        let mut socket = self.with_id(id);
        socket.extensions = self.extensions.copy();
        socket.set_data(self.data());
        socket
    }

    fn with_id(&self, id: SocketId) -> Self {
        let (namespace, auth) = (self.namespace.clone(), self.auth.clone());
        Self::new(id, namespace, self.handshake.clone(), auth, self.is_recoverable())
    }

    /// Returns true from the CONNECT reply until the socket is disconnected.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    /// Called by the session when the hub has connected the socket, and when the socket is
    /// disconnected.
    pub(crate) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Release);
    }

    pub(crate) fn data(&self) -> Option<Box<str>> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the application's JSON. Returns whether the session must be notified.
    pub(crate) fn set_data(&self, data: Option<Box<str>>) -> bool {
        self.put_data(data);
        self.is_recoverable() && !self.data_changed.swap(true, Ordering::AcqRel)
    }

    /// Replaces the application's JSON if it is still `before`. Returns whether the session must be
    /// notified, or `None` if another thread has changed the data.
    pub(crate) fn replace_data(&self, before: Option<&str>, data: Box<str>) -> Option<bool> {
        let mut stored = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        if stored.as_deref() != before {
            return None;
        }
        *stored = Some(data);
        drop(stored);
        Some(self.is_recoverable() && !self.data_changed.swap(true, Ordering::AcqRel))
    }

    fn put_data(&self, data: Option<Box<str>>) {
        *self.data.lock().unwrap_or_else(PoisonError::into_inner) = data;
    }

    /// Returns the application's JSON if it has changed since the last call.
    pub(crate) fn take_changed_data(&self) -> Option<Option<Box<str>>> {
        // The flag is cleared before the data is read, so that a change in between is reported by
        // the next call.
        self.data_changed.swap(false, Ordering::AcqRel).then(|| self.data())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::messages::handshake::Arrival;
    use std::time::UNIX_EPOCH;

    #[test]
    fn a_connected_socket_cannot_decline_recovery() {
        // The client has a private id, so it uses the last argument of every event as the offset
        // token, even if the event has no token.
        let socket = socket(1);
        socket.set_connected(true);
        socket.decline_recovery();
        assert!(socket.is_recoverable());
        socket.set_connected(false);
        socket.decline_recovery();
        assert!(!socket.is_recoverable());
    }

    pub(crate) fn socket(n: u8) -> Arc<SocketInfo> {
        let arrival = Arrival { at: UNIX_EPOCH, address: None, secure: false };
        let handshake = Arc::new(Handshake::new("", std::iter::empty(), arrival));
        Arc::new(SocketInfo::new(SocketId::from_random([n; 15]), NamespacePath::root(), handshake, None, true))
    }
}
