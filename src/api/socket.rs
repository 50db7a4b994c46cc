//! A socket: one client's presence in one namespace, as server code sees it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::args::{FromArgs, ToArgs};
use super::broadcast::Broadcast;
use super::core::Core;
use super::error::{AckError, DataError, EmitError, HandlerError, RoomError};
use super::event::{Disconnecting, Event};
use super::handler::{EventHandler, EventMiddleware, Handlers, Observer, erase, erase_event, registration};
use super::namespace::Namespace;
use super::operators::operators;
use super::socket_emitter::SocketEmitter;
use crate::ids::{NamespacePath, RoomName, SocketId};
use crate::messages::extensions::Extensions;
use crate::messages::handshake::Handshake;
use crate::messages::hub::Grade;
use crate::messages::request::{Done, HandlerRegistration, Joined, Listing, Request};
use crate::messages::session::SessionLink;
use crate::messages::socket::SocketInfo;
use crate::protocol::reason::DisconnectReason;
use crate::protocol::socketio::json::well_formed;
use crate::protocol::socketio::packet::Args;
use crate::state::rooms::Target;

/// A client in a namespace. Cheap to clone, usable from any thread; stays valid, and useless, when the client is gone.
#[derive(Clone)]
pub struct Socket {
    info: Arc<SocketInfo>,
    core: Arc<Core>,
}

impl Socket {
    pub(crate) fn new(info: Arc<SocketInfo>, core: Arc<Core>) -> Self {
        Self { info, core }
    }

    pub(crate) fn info(&self) -> &Arc<SocketInfo> {
        &self.info
    }

    /// The socket's id, which is public, and the name of the socket's own room.
    pub fn id(&self) -> SocketId {
        self.info.id
    }

    pub(crate) fn path(&self) -> &NamespacePath {
        &self.info.namespace
    }

    pub(crate) fn link(&self) -> &SessionLink {
        &self.info.link
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// The namespace it is in.
    pub fn namespace(&self) -> Namespace {
        Namespace::existing(self.core.clone(), self.info.namespace.clone())
    }

    fn register(&self, change: impl FnOnce(&mut Handlers) + Send + 'static) {
        let registration = HandlerRegistration(Box::new(|handlers| {
            if let Some(handlers) = handlers.downcast_mut() {
                change(handlers);
            }
        }));
        // A socket that has gone has no more events to handle.
        let _ = self.info.link.request(Request::Register { socket: self.info.id, registration });
    }

    registration!(self, &Self, &Self);

    /// Handles the next event `name` and no other; see [`on`](Self::on). Those behind it are its namespace's again.
    pub fn once<T, F, R>(&self, name: &str, handler: F) -> &Self
    where
        T: FromArgs,
        F: Fn(Self, Event<T>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), HandlerError>> + 'static,
    {
        let (name, handler) = (name.to_owned(), EventHandler::once(erase_event(handler)));
        self.register(move |handlers| {
            handlers.events.retain(|_, handler| !handler.is_used());
            handlers.events.insert(name, handler);
        });
        self
    }

    /// What the client said when it connected.
    pub fn handshake(&self) -> &Handshake {
        &self.info.handshake
    }

    /// What the client sent with its CONNECT (`auth` in JavaScript), read as a `T`; nothing reads like `null`, a lone
    /// surrogate like U+FFFD.
    pub fn auth<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&well_formed(self.info.auth.as_deref().unwrap_or("null")))
    }

    /// Whether the socket is connected: from its CONNECT reply to its end, so not yet in connection middleware.
    pub fn is_connected(&self) -> bool {
        self.info.is_connected()
    }

    /// Whether this is a socket that was here before, whose client lost its connection and came back: it has its id, its rooms and
    /// its data, and gets every event that it missed. Else a client that was away missed something, or may have, and is notified.
    ///
    /// In connection middleware: whether it will be so if it is let in now. It may still turn out otherwise.
    pub fn recovered(&self) -> bool {
        self.info.is_recovered()
    }

    /// Lets this client do without recovery: its events bear no tokens, and when it comes back it is a new socket. One that was about
    /// to be recovered is a new one now: its data is gone at once, its id is another once it is connected. Counts until the socket is
    /// connected, so it is for connection middleware; without recovery it means nothing. A client asks for the same with
    /// `auth: { recovery: false }` or `?recovery=0`.
    pub fn decline_recovery(&self) {
        self.info.decline_recovery();
    }

    /// What the application keeps with this socket, read as a `T`; nothing reads like `null`. Every handle of the socket
    /// sees the same data, on any thread, also after the client has gone.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&well_formed(self.info.data().as_deref().unwrap_or("null")))
    }

    /// Keeps data with this socket, instead of what was kept: any type with a JSON form, of
    /// [`limits.sockets.data_bytes_max`](crate::limits::SocketLimits::data_bytes_max) at most. With recovery on, a socket that comes back has
    /// it again: in the order of what its own session does, so it is there after an emit that came behind it was confirmed.
    pub fn set_data<T: Serialize>(&self, data: T) -> Result<(), DataError> {
        let json = serde_json::to_string(&data)?;
        let (bytes, limit) = (json.len(), self.core.limits.sockets.data_bytes_max);
        if bytes > limit {
            return Err(DataError::TooLarge { bytes, limit });
        }
        if self.info.set_data(Some(json.into())) {
            // A socket that has gone keeps nothing any more.
            let _ = self.info.link.request(Request::KeepData { socket: self.info.id });
        }
        Ok(())
    }

    /// Typed values that the application keeps with this socket in this process, for state that is no JSON.
    pub fn extensions(&self) -> &Extensions {
        &self.info.extensions
    }

    /// Emits to this client alone. Ordered with everything else that this handler emits.
    ///
    /// Completes when the event has its place; while more than half of the client's outbox waits to be read, not before
    /// that has gone down, which is what slows a fast handler to its client's pace.
    pub async fn emit<T: ToArgs>(&self, name: &str, data: T) -> Result<(), EmitError> {
        self.emit_graded(Grade::Plain, name, data).await
    }

    /// Emits to this client alone and awaits its ack, for [`limits.acks.timeout`](crate::limits::AckLimits::timeout) unless
    /// [`timeout`](Self::timeout) says otherwise.
    pub async fn emit_with_ack<R: FromArgs, T: ToArgs>(&self, name: &str, data: T) -> Result<R, AckError> {
        self.call(Grade::Plain, None, name, data).await
    }

    /// May be dropped while the connection is not ready for it; see [`SocketEmitter::volatile`].
    pub fn volatile(&self) -> SocketEmitter {
        SocketEmitter::new(self.clone()).volatile()
    }

    /// The time to wait for an ack; see [`SocketEmitter::timeout`].
    pub fn timeout(&self, timeout: Duration) -> SocketEmitter {
        SocketEmitter::new(self.clone()).timeout(timeout)
    }

    /// Accepted for the sake of Socket.IO's API; see [`SocketEmitter::compress`].
    pub fn compress(&self, compress: bool) -> SocketEmitter {
        SocketEmitter::new(self.clone()).compress(compress)
    }

    pub(crate) async fn emit_graded<T: ToArgs>(&self, grade: Grade, name: &str, data: T) -> Result<(), EmitError> {
        if !self.info.link.is_open() {
            return Err(EmitError::Disconnected);
        }
        let link = self.core.outlet(Some(&self.info.link));
        let own = link.is(&self.info.link);
        // What goes through the hub bears a token as all broadcasts do: the worker takes it out for a client that wants none.
        let bears_token = !(own && grade == Grade::Volatile) || self.info.is_recoverable();
        let draft = self.core.draft(&self.info.namespace, name, &data, bears_token)?;
        let socket = self.info.id;
        let request = |sender| {
            let done = Done::WhenTaken(sender);
            if own {
                Request::Direct { socket, draft, grade, done }
            } else {
                // From another socket's handler it travels as a broadcast to this socket's own room, so that the other
                // handler's emits keep their order.
                Request::Broadcast { target: Target::socket(socket), draft, grade, done }
            }
        };
        Ok(Core::ask(&link, request).await?)
    }

    pub(crate) async fn call<R: FromArgs, T: ToArgs>(
        &self,
        grade: Grade,
        timeout: Option<Duration>,
        name: &str,
        data: T,
    ) -> Result<R, AckError> {
        // Events with an ack id bear no token: a client would take its own ack callback's neighbour for one.
        let draft = self.core.draft(&self.info.namespace, name, &data, false)?;
        let socket = self.info.id;
        let timeout = timeout.unwrap_or(self.core.limits.acks.timeout);
        let request = |answer| Request::Call { socket, draft, grade, timeout, answer };
        R::from_args(Core::ask(&self.info.link, request).await?).map_err(AckError::Data)
    }

    /// Joins a room. When this returns, the socket gets what is emitted to the room from here on.
    pub async fn join(&self, room: impl AsRef<str>) -> Result<Joined, RoomError> {
        let room = RoomName::parse(room.as_ref())?;
        let socket = self.info.id;
        Ok(Core::ask(&self.info.link, |done| Request::Join { socket, room, done }).await?)
    }

    /// Leaves a room. Leaving a room that it is not in is no error.
    pub async fn leave(&self, room: impl AsRef<str>) -> Result<(), RoomError> {
        let room = RoomName::parse(room.as_ref())?;
        let socket = self.info.id;
        Ok(Core::ask(&self.info.link, |done| Request::Leave { socket, room, done }).await?)
    }

    /// The rooms that this socket is in, in the order of their names; its own room, which bears its id, is not among them.
    pub async fn rooms(&self) -> Result<Vec<String>, RoomError> {
        let listing = Listing::OfSocket(self.info.id);
        let page = Core::ask(&self.info.link, |answer| Request::List { listing, answer }).await?;
        let mut rooms: Vec<_> = page.rooms.into_iter().map(|(name, _)| name.to_string()).collect();
        rooms.sort_unstable();
        Ok(rooms)
    }

    operators!(broadcast);

    /// Everybody in the namespace but this socket itself.
    pub fn broadcast(&self) -> Broadcast {
        self.all().excluding(self.info.id)
    }

    /// Everybody in the namespace, this socket included.
    pub fn all(&self) -> Broadcast {
        Broadcast::new(self.core.clone(), self.info.namespace.clone(), Some(self.info.link.clone()))
    }

    /// Disconnects the client from this namespace (it is notified, and stays away), or with `close` ends its whole connection.
    pub fn disconnect(&self, close: bool) {
        let request = Request::Disconnect { socket: self.info.id, close_session: close };
        // One that has gone already is what is wanted.
        let _ = self.info.link.request(request);
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("id", &self.info.id)
            .field("namespace", &self.info.namespace)
            .finish_non_exhaustive()
    }
}
