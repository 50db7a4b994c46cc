//! A socket's identity, handshake and application data, readable on every thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::extensions::Extensions;
use super::handshake::Handshake;
use crate::ids::{NamespacePath, SocketId};

/// One socket, without the address of its session. Made by the session, shared by the socket's
/// handles and by its worker's table of members.
#[derive(Debug)]
pub(crate) struct SocketInfo {
    pub id: SocketId,
    pub namespace: NamespacePath,
    /// The request that opened its session.
    pub handshake: Arc<Handshake>,
    /// The payload of its CONNECT: the text of a JSON object.
    pub auth: Option<Box<str>>,
    connected: AtomicBool,
    recovered: AtomicBool,
    /// True if its events carry offset tokens and its session can be resumed.
    recoverable: AtomicBool,
    /// True if its data has changed since its session last read it.
    data_changed: AtomicBool,
    /// The application's JSON, which handles on any thread read and write. No code of the
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

    /// A socket of the same client, with the id and the data of the session that it resumes.
    pub(crate) fn as_resumed(&self, id: SocketId, data: Option<Box<str>>) -> Self {
        let mut socket = self.with_id(id);
        (socket.data, socket.recovered) = (Mutex::new(data), AtomicBool::new(true));
        socket
    }

    /// True if the socket resumed its session; before it is connected, true if it is about to.
    pub(crate) fn is_recovered(&self) -> bool {
        self.recovered.load(Ordering::Acquire)
    }

    /// The session calls this when the hub has decided.
    pub(crate) fn set_recovered(&self, recovered: bool) {
        self.recovered.store(recovered, Ordering::Release);
    }

    /// True if its events carry offset tokens and its session can be resumed.
    pub(crate) fn is_recoverable(&self) -> bool {
        self.recoverable.load(Ordering::Acquire)
    }

    /// Makes the socket a new one that cannot be recovered, without the data of the session that it
    /// was about to resume. Has no effect once it is connected.
    pub(crate) fn decline_recovery(&self) {
        if self.is_connected() {
            return;
        }
        self.recoverable.store(false, Ordering::Release);
        if self.recovered.swap(false, Ordering::AcqRel) {
            self.put_data(None);
        }
    }

    /// A new socket of the same client that resumes nothing, with the data and extensions that
    /// middleware has stored.
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

    /// True from the socket's CONNECT reply to its end.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    /// The session calls this when the hub has connected the socket, and at the socket's end.
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

    fn put_data(&self, data: Option<Box<str>>) {
        *self.data.lock().unwrap_or_else(PoisonError::into_inner) = data;
    }

    /// The application's JSON if it has changed since the last call.
    pub(crate) fn take_changed_data(&self) -> Option<Option<Box<str>>> {
        // The flag is cleared before the data is read: a change in between is reported again.
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
        // Its client has a private id, and would mistake the last argument of an event without a
        // token for one.
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
