//! The operations of a socket.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::args::{FromArgs, ToArgs};
use super::broadcast::Broadcast;
use super::core::{Core, EventHandler, EventMiddleware, Handlers, Observer, Socket};
use super::error::{AckError, DataError, EmitError, HandlerError, RoomError};
use super::event::{Disconnecting, Event};
use super::handler::{erase, erase_event, registration};
use super::namespace::Namespace;
use super::operators::operators;
use super::socket_emitter::SocketEmitter;
use crate::ids::{NamespacePath, RoomName, SocketId};
use crate::messages::answer::{Done, Joined};
use crate::messages::event::{Emit, Grade};
use crate::messages::extensions::Extensions;
use crate::messages::handshake::Handshake;
use crate::messages::room_filter::RoomFilter;
use crate::messages::session::{HandlerRegistration, Listing, Request, SocketRef};
use crate::messages::socket::SocketInfo;
use crate::protocol::reason::DisconnectReason;
use crate::protocol::socketio::json::well_formed;
use crate::protocol::socketio::packet::Args;
use crate::state::rooms::Target;

impl Socket {
    pub(crate) fn reference(&self) -> &SocketRef {
        &self.socket
    }

    pub(crate) fn info(&self) -> &Arc<SocketInfo> {
        &self.socket.info
    }

    pub(crate) fn path(&self) -> &NamespacePath {
        &self.socket.info.namespace
    }

    fn request(&self, request: Request) {
        // The request fails only after the session has ended, when there is nothing left to do.
        let _ = self.socket.link.request(request);
    }

    /// The socket's public id, which is also the name of the socket's own room.
    pub fn id(&self) -> SocketId {
        self.socket.info.id
    }

    /// The socket's namespace.
    pub fn namespace(&self) -> Namespace {
        Namespace::existing(self.core.clone(), self.path().clone())
    }

    fn register(&self, change: impl FnOnce(&mut Handlers) + Send + 'static) {
        let registration = HandlerRegistration(Box::new(|handlers| {
            if let Some(handlers) = handlers.downcast_mut() {
                change(handlers);
            }
        }));
        self.request(Request::Register { socket: self.id(), registration });
    }

    registration!(self, &Self, &Self);

    /// Registers a handler of the next event `name` only; see [`on`](Self::on). Later events are
    /// handled by the namespace's handler.
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

    /// The HTTP request that opened the socket's session.
    pub fn handshake(&self) -> &Handshake {
        &self.socket.info.handshake
    }

    /// The payload of the client's CONNECT packet (`auth` in JavaScript), read as a `T`. A missing
    /// payload is read as `null`, or as `{}` if a `T` cannot be null, so a struct may have optional
    /// fields. A lone surrogate is read as U+FFFD.
    ///
    /// # Errors
    ///
    /// Fails if the payload cannot be read as `T`.
    pub fn auth<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        match self.socket.info.auth.as_deref() {
            Some(auth) => serde_json::from_str(&well_formed(auth)),
            None => serde_json::from_str("null").or_else(|_| serde_json::from_str("{}")),
        }
    }

    /// Returns true between the CONNECT reply and the socket's disconnection. Returns false in
    /// connection middleware.
    pub fn is_connected(&self) -> bool {
        self.socket.info.is_connected()
    }

    /// Returns true if the client has resumed its session after a lost connection. A recovered
    /// socket has its former id, rooms and data, and receives every event that it has missed.
    /// Otherwise, a client that reconnects may have missed events, and finds its own
    /// `socket.recovered` to be false.
    ///
    /// In connection middleware, this returns true if the session can be resumed at this moment.
    /// The session may still be lost before the socket is connected.
    pub fn recovered(&self) -> bool {
        self.socket.info.is_recovered()
    }

    /// Excludes this client from recovery. Its events then have no offset tokens, and it is a new
    /// socket after a reconnection. Call this in connection middleware only: it has no effect on a
    /// connected socket, or without recovery. A client can decline recovery itself with
    /// `auth: { recovery: false }` or `?recovery=0`.
    ///
    /// If the socket was about to resume its session, it becomes a new socket. Its data is removed
    /// immediately, and its id changes when it is connected.
    pub fn decline_recovery(&self) {
        self.socket.info.decline_recovery();
    }

    /// Gives the client a new session instead of the one that it was about to resume, for instance
    /// because another user has signed in. The former session stays as it is: it can still be
    /// resumed. Call this in connection middleware only: it has no effect on a connected socket, or
    /// on one that resumes nothing.
    ///
    /// The socket's data is removed immediately, and its id changes when it is connected. Unlike
    /// after [`decline_recovery`](Self::decline_recovery), the new session can be resumed itself.
    pub fn decline_resume(&self) {
        self.socket.info.decline_resume();
    }

    /// Keeps, of the session that the socket is about to resume, only the rooms for whose names
    /// `keeps` returns true. The socket leaves the others before anything is replayed: it receives
    /// neither the events of these rooms that it has missed nor later ones. Several calls must all
    /// return true. Call this in connection middleware only: it has no effect on a connected
    /// socket, or on one that resumes nothing.
    ///
    /// The hub calls `keeps` once for each room of the session, so it must be quick and must not
    /// wait for anything. A room for which it panics is left.
    pub fn retain_rooms(&self, keeps: impl Fn(&str) -> bool + Send + Sync + 'static) {
        if self.is_connected() {
            return;
        }
        let filter = RoomFilter::new(keeps);
        let filter = match self.extensions().remove::<RoomFilter>() {
            Some(earlier) => earlier.and(filter),
            None => filter,
        };
        self.extensions().insert(filter);
    }

    /// The application's data of this socket, read as a `T`. Missing data is read as `null`. All
    /// handles of the socket, on any thread, share the data. The data remains available after the
    /// client has disconnected.
    ///
    /// # Errors
    ///
    /// Fails if the data cannot be read as `T`.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&well_formed(self.socket.info.data().as_deref().unwrap_or("null")))
    }

    /// Replaces the application's data of this socket by any value with a JSON form.
    ///
    /// With recovery on, the data is journalled and restored in a recovered socket. The data is
    /// journalled in the order of the session's other operations, thus before an event that is
    /// emitted later.
    ///
    /// # Errors
    ///
    /// Fails with [`DataError::TooLarge`] if the data exceeds
    /// [`limits.sockets.data_bytes_max`](crate::limits::SocketLimits::data_bytes_max), and with
    /// [`DataError::Json`] if the data has no JSON form.
    pub fn set_data<T: Serialize>(&self, data: T) -> Result<(), DataError> {
        let json = self.data_json(&data)?;
        if self.socket.info.set_data(Some(json)) {
            self.request(Request::JournalData { socket: self.id() });
        }
        Ok(())
    }

    /// Changes the application's data of this socket without losing a change that another thread
    /// makes meanwhile. Reads the data as [`data`](Self::data) does, and stores it as
    /// [`set_data`](Self::set_data) does.
    ///
    /// `change` is called again with the newer data if the data was changed during the call.
    ///
    /// # Errors
    ///
    /// Fails if the data cannot be read as `T`, and for the reasons of
    /// [`set_data`](Self::set_data). The data is then unchanged.
    pub fn update_data<T: DeserializeOwned + Serialize>(
        &self,
        mut change: impl FnMut(&mut T),
    ) -> Result<(), DataError> {
        loop {
            let before = self.socket.info.data();
            let mut data: T = serde_json::from_str(&well_formed(before.as_deref().unwrap_or("null")))?;
            change(&mut data);
            let json = self.data_json(&data)?;
            let Some(is_first) = self.socket.info.replace_data(before.as_deref(), json) else { continue };
            if is_first {
                self.request(Request::JournalData { socket: self.id() });
            }
            return Ok(());
        }
    }

    fn data_json(&self, data: impl Serialize) -> Result<Box<str>, DataError> {
        let json = serde_json::to_string(&data)?;
        let (bytes, limit) = (json.len(), self.core.limits.sockets.data_bytes_max);
        if bytes > limit {
            return Err(DataError::TooLarge { bytes, limit });
        }
        Ok(json.into())
    }

    /// Typed values of the application for this socket. They stay in this process and are not
    /// journalled.
    pub fn extensions(&self) -> &Extensions {
        &self.socket.info.extensions
    }

    /// Emits an event to this client only, in order with everything else that the current handler
    /// emits.
    ///
    /// Completes when the event has its position in the order. If more than half of the client's
    /// outbox is unread, this waits until at most a quarter is, which slows a fast handler down to
    /// the pace of the client.
    ///
    /// # Errors
    ///
    /// See [`EmitError`].
    pub async fn emit<T: ToArgs>(&self, name: &str, data: T) -> Result<(), EmitError> {
        self.emit_graded(Grade::Plain, name, data).await
    }

    /// Emits an event to this client only and awaits its ack. The default time limit is
    /// [`limits.acks.timeout`](crate::limits::AckLimits::timeout); [`timeout`](Self::timeout) sets
    /// another one.
    ///
    /// # Errors
    ///
    /// See [`AckError`].
    pub async fn emit_with_ack<R: FromArgs, T: ToArgs>(&self, name: &str, data: T) -> Result<R, AckError> {
        self.call(Grade::Plain, None, name, data).await
    }

    /// Allows the event to be dropped while the connection is not ready; see
    /// [`SocketEmitter::volatile`].
    pub fn volatile(&self) -> SocketEmitter {
        SocketEmitter::new(self.clone()).volatile()
    }

    /// Sets the time limit of an ack; see [`SocketEmitter::timeout`].
    pub fn timeout(&self, timeout: Duration) -> SocketEmitter {
        SocketEmitter::new(self.clone()).timeout(timeout)
    }

    /// Has no effect; see [`SocketEmitter::compress`].
    pub fn compress(&self, compress: bool) -> SocketEmitter {
        SocketEmitter::new(self.clone()).compress(compress)
    }

    pub(crate) async fn emit_graded<T: ToArgs>(&self, grade: Grade, name: &str, data: T) -> Result<(), EmitError> {
        let SocketRef { info, link: own_link } = &self.socket;
        if !own_link.is_open() {
            return Err(EmitError::Disconnected);
        }
        let link = self.core.outlet(Some(own_link));
        let own = link.is(own_link);
        // An event that passes through the hub always has room for a token. The worker removes the
        // token if the client does not receive tokens.
        let token_hole = !(own && grade == Grade::Volatile) || info.is_recoverable();
        let draft = self.core.encoder.event(&info.namespace, name, &data, token_hole)?;
        let socket = info.id;
        let request = |sender| {
            let done = Done::WhenTaken(sender);
            if own {
                Request::Direct { socket, draft, grade, done }
            } else {
                // The handler of another socket emits through its own session, as a broadcast to
                // this socket's own room. So all emits of that handler keep their order.
                Request::Broadcast { emit: Emit { target: Target::socket(socket), draft, grade }, done }
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
        // The event has no token. A client would read it from the last argument, which here is the
        // ack callback.
        let draft = self.core.encoder.event(self.path(), name, &data, false)?;
        let socket = self.id();
        let timeout = timeout.unwrap_or(self.core.limits.acks.timeout);
        let request = |answer| Request::Call { socket, draft, grade, timeout, answer };
        R::from_args(Core::ask(&self.socket.link, request).await?).map_err(AckError::Data)
    }

    /// Joins a room, whose name has 1 to 256 bytes. When this completes, the socket receives all
    /// later events to the room.
    ///
    /// # Errors
    ///
    /// See [`RoomError`].
    pub async fn join(&self, room: impl AsRef<str>) -> Result<Joined, RoomError> {
        let (socket, room) = (self.id(), RoomName::parse(room.as_ref())?);
        Ok(Core::ask(&self.socket.link, |done| Request::Join { socket, room, done }).await?)
    }

    /// Leaves a room. Also succeeds if the socket is not in the room.
    ///
    /// # Errors
    ///
    /// See [`RoomError`].
    pub async fn leave(&self, room: impl AsRef<str>) -> Result<(), RoomError> {
        let (socket, room) = (self.id(), RoomName::parse(room.as_ref())?);
        Ok(Core::ask(&self.socket.link, |done| Request::Leave { socket, room, done }).await?)
    }

    /// Names of the socket's rooms, sorted, without the socket's own room.
    ///
    /// # Errors
    ///
    /// See [`RoomError`].
    pub async fn rooms(&self) -> Result<Vec<String>, RoomError> {
        let listing = Listing::OfSocket(self.id());
        let page = Core::ask(&self.socket.link, |answer| Request::List { listing, answer }).await?;
        let mut rooms: Vec<_> = page.rooms.into_iter().map(|(name, _)| name.to_string()).collect();
        rooms.sort_unstable();
        Ok(rooms)
    }

    operators!(broadcast);

    /// Selects all sockets of the namespace except this one.
    pub fn broadcast(&self) -> Broadcast {
        self.all().excluding(self.id())
    }

    /// Selects all sockets of the namespace, including this one.
    pub fn all(&self) -> Broadcast {
        Broadcast::new(self.core.clone(), self.path().clone(), Some(self.socket.link.clone()))
    }

    /// Closes the client's connection without disconnecting it from its namespaces. To the client
    /// this is a lost connection: a Socket.IO client reconnects by itself, calls its `auth`
    /// function again, and resumes its sessions. After [`disconnect`](Self::disconnect), it does
    /// not.
    ///
    /// Events that were emitted before are sent first. The reason for handlers is
    /// [`DisconnectReason::ForcedClose`].
    pub fn close_transport(&self) {
        self.request(Request::CloseTransport { socket: self.id() });
    }

    /// Disconnects the client from this namespace. The client is notified and does not reconnect by
    /// itself. With `close`, the client's connection is closed as well.
    pub fn disconnect(&self, close: bool) {
        self.request(Request::Disconnect { socket: self.id(), close_session: close });
    }
}
