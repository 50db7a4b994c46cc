//! What is known of one socket on every thread: who it is, how it is reached, what it said, what the application keeps
//! with it. Handles are made of this; fanouts send it back when someone asks who is there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::extensions::Extensions;
use super::handshake::Handshake;
use super::session::SessionLink;
use crate::ids::{NamespacePath, SocketId};

/// One socket. Made by its session, shared by its handles and by its worker's table of members.
#[derive(Debug)]
pub(crate) struct SocketInfo {
    /// Who it is.
    pub id: SocketId,
    /// Where it is.
    pub namespace: NamespacePath,
    pub link: SessionLink,
    /// The request that opened its session.
    pub handshake: Arc<Handshake>,
    /// What came with its CONNECT: the text of a JSON object.
    pub auth: Option<Box<str>>,
    connected: AtomicBool,
    recovered: AtomicBool,
    /// Whether its events bear tokens and it can be recovered.
    recoverable: AtomicBool,
    /// Whether its data has changed and its session has not looked yet.
    data_changed: AtomicBool,
    /// The application's JSON. A lock, since handles on any thread read and write it; nothing runs while it is held.
    data: Mutex<Option<Box<str>>>,
    /// The application's typed values.
    pub extensions: Extensions,
}

impl SocketInfo {
    /// A socket that asks to be let in.
    pub(crate) fn new(
        id: SocketId,
        namespace: NamespacePath,
        link: SessionLink,
        handshake: Arc<Handshake>,
        auth: Option<Box<str>>,
        recoverable: bool,
    ) -> Self {
        Self {
            id,
            namespace,
            link,
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

    /// The same client as the socket `before` that its connection was lost from, with the data that was kept with that.
    pub(crate) fn as_resumed(&self, before: SocketId, data: Option<Box<str>>) -> Self {
        let mut socket = self.with_id(before);
        (socket.data, socket.recovered) = (Mutex::new(data), AtomicBool::new(true));
        socket
    }

    /// Whether it continues where it was; until it is connected, whether it will if nothing changes.
    pub(crate) fn is_recovered(&self) -> bool {
        self.recovered.load(Ordering::Acquire)
    }

    /// Said by its session when the hub has decided.
    pub(crate) fn set_recovered(&self, recovered: bool) {
        self.recovered.store(recovered, Ordering::Release);
    }

    /// Whether its events bear tokens and it can be recovered.
    pub(crate) fn is_recoverable(&self) -> bool {
        self.recoverable.load(Ordering::Acquire)
    }

    /// It will not be recovered, and its events bear no tokens; what was kept with the one it was is not its own. Counts until it
    /// is connected.
    pub(crate) fn decline_recovery(&self) {
        if self.is_connected() {
            return;
        }
        self.recoverable.store(false, Ordering::Release);
        if self.recovered.swap(false, Ordering::AcqRel) {
            self.put_data(None);
        }
    }

    /// The same client as a socket of its own, which continues with nothing.
    pub(crate) fn as_new_socket(&self, id: SocketId) -> Self {
        let mut socket = self.with_id(id);
        socket.extensions = self.extensions.copy();
        socket.set_data(self.data());
        socket
    }

    fn with_id(&self, id: SocketId) -> Self {
        let (namespace, auth) = (self.namespace.clone(), self.auth.clone());
        Self::new(id, namespace, self.link.clone(), self.handshake.clone(), auth, self.is_recoverable())
    }

    /// Whether the hub knows it: from its CONNECT reply to its end.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire) && self.link.is_open()
    }

    /// Said by its session when the hub has connected it, and when it has gone.
    pub(crate) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Release);
    }

    /// The application's JSON.
    pub(crate) fn data(&self) -> Option<Box<str>> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the application's JSON. Returns whether its session is to be told.
    pub(crate) fn set_data(&self, data: Option<Box<str>>) -> bool {
        self.put_data(data);
        self.is_recoverable() && !self.data_changed.swap(true, Ordering::AcqRel)
    }

    fn put_data(&self, data: Option<Box<str>>) {
        *self.data.lock().unwrap_or_else(PoisonError::into_inner) = data;
    }

    /// The application's JSON if it has changed since the last call.
    pub(crate) fn take_changed_data(&self) -> Option<Option<Box<str>>> {
        // Before the look: a change meanwhile is reported again.
        self.data_changed.swap(false, Ordering::AcqRel).then(|| self.data())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::messages::handshake::Arrival;
    use crate::messages::session::SessionCommand;
    use actix::{Actor, AsyncContext, Context, Handler};
    use std::time::UNIX_EPOCH;

    struct Nobody;

    impl Actor for Nobody {
        type Context = Context<Self>;
    }

    impl Handler<SessionCommand> for Nobody {
        type Result = ();

        fn handle(&mut self, _: SessionCommand, _: &mut Context<Self>) {}
    }

    #[test]
    fn one_that_is_connected_cannot_decline_any_more() {
        // Its client has its private id, and would take the last argument of an event without token for one.
        let socket = socket(1);
        socket.set_connected(true);
        socket.decline_recovery();
        assert!(socket.is_recoverable());
        socket.set_connected(false);
        socket.decline_recovery();
        assert!(!socket.is_recoverable());
    }

    /// A socket of the root namespace whose session hears nothing.
    pub(crate) fn socket(n: u8) -> Arc<SocketInfo> {
        let link = SessionLink::new(Context::<Nobody>::new().address().recipient());
        let arrival = Arrival { at: UNIX_EPOCH, address: None, secure: false };
        let handshake = Arc::new(Handshake::new("", std::iter::empty(), arrival));
        Arc::new(SocketInfo::new(SocketId::from_random([n; 15]), NamespacePath::root(), link, handshake, None, true))
    }
}
