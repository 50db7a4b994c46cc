//! An event to many sockets as a builder: its rooms, exceptions and flags, and the methods that
//! emit it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::answers::Answers;
use super::args::{FromArgs, ToArgs};
use super::core::{Core, PendingAnswer, Socket};
use super::durable::Durable;
use super::error::{EmitError, RoomError};
use crate::ids::{IdError, NamespacePath, Recipient, RoomName, SocketId};
use crate::messages::answer::{Done, EmitRefusal, NoAnswer, Receipt, RequestError};
use crate::messages::event::{Emit, Grade};
use crate::messages::session::{Request, SessionLink, SocketRef};
use crate::state::rooms::Target;

/// A set of sockets to emit to, as a builder. Nothing happens until [`emit`](Self::emit).
///
/// A socket receives the event once, however many of the rooms it is in. All sockets receive events
/// in the hub's order.
#[derive(Debug, Clone)]
#[must_use = "a broadcast does nothing until `emit`"]
pub struct Broadcast {
    core: Arc<Core>,
    namespace: NamespacePath,
    /// The session of the socket on which the broadcast was created, or `None` if it was created on
    /// a namespace.
    own: Option<SessionLink>,
    target: Target,
    grade: Grade,
    timeout: Option<Duration>,
    invalid: Option<IdError>,
}

impl Broadcast {
    pub(crate) fn new(core: Arc<Core>, namespace: NamespacePath, own: Option<SessionLink>) -> Self {
        Self { core, namespace, own, target: Target::default(), grade: Grade::Plain, timeout: None, invalid: None }
    }

    pub(crate) fn excluding(mut self, socket: SocketId) -> Self {
        self.target.exclude = Some(socket);
        self
    }

    /// Adds the members of a room. The room's name has 1 to 256 bytes. A socket's id is the name of
    /// a room that contains only that socket. With an invalid name, the emit fails with
    /// [`EmitError::Room`].
    pub fn to(mut self, room: impl AsRef<str>) -> Self {
        match Recipient::parse(room.as_ref()) {
            Ok(recipient) => self.target.rooms.push(recipient),
            Err(error) => self.invalid = Some(error),
        }
        self
    }

    /// Adds the members of a room, like [`to`](Self::to).
    pub fn within(self, room: impl AsRef<str>) -> Self {
        self.to(room)
    }

    /// Excludes the members of a room. With an invalid name, the emit fails with
    /// [`EmitError::Room`].
    pub fn except(mut self, room: impl AsRef<str>) -> Self {
        match Recipient::parse(room.as_ref()) {
            Ok(recipient) => self.target.except.push(recipient),
            Err(error) => self.invalid = Some(error),
        }
        self
    }

    /// Allows the event to be dropped for sockets whose connection is not ready. A volatile event
    /// is not numbered, and is not replayed after a reconnection.
    pub fn volatile(mut self) -> Self {
        self.grade = Grade::Volatile;
        self
    }

    /// Publishes the event to the [queue](crate::Queue): it is stored before it is sent, and
    /// subscribers of its rooms receive it also when they were away. Needs at least one room.
    ///
    /// Outside of a socket's handlers, a durable event may overtake a plain event that the same
    /// code has emitted before, unless that was emitted with
    /// [`emit_confirmed`](Self::emit_confirmed) and awaited.
    ///
    /// ```no_run
    /// # use stentor::{PublishError, Server};
    /// # async fn order(io: &Server) -> Result<(), PublishError> {
    /// let stored = io.to("kitchen").durable().dedup_id("order-17").emit_confirmed("order", "soup").await?;
    /// log::info!("stored at {}, pending for {} subscribers", stored.offset, stored.pending_for);
    /// # Ok(()) }
    /// ```
    pub fn durable(self) -> Durable {
        let Self { core, namespace, own, target, grade, invalid, .. } = self;
        let is_volatile = grade == Grade::Volatile;
        Durable { core, namespace, own, target, is_volatile, invalid, dedup_id: None, expires_in: None }
    }

    /// Restricts the event to sockets of this server process. Has no effect, since a server is
    /// always one process.
    pub fn local(mut self) -> Self {
        self.target.local = true;
        self
    }

    /// Has no effect, since messages are never compressed. Exists for parity with Socket.IO.
    pub fn compress(self, _compress: bool) -> Self {
        self
    }

    /// Sets the time limit of [`emit_with_ack`](Self::emit_with_ack). The default is
    /// [`limits.acks.timeout`](crate::limits::AckLimits::timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Emits the event. Completes when the hub's flow-control credit covers the event, which slows
    /// down a fast publisher. The event then has its position in the order.
    ///
    /// # Errors
    ///
    /// Fails with [`EmitError::Overloaded`] if there is no credit within
    /// [`limits.hub.credit_timeout`](crate::limits::HubLimits::credit_timeout). See [`EmitError`]
    /// for the other errors.
    pub async fn emit<T: ToArgs>(self, name: &str, data: T) -> Result<(), EmitError> {
        self.send(name, data, Done::WhenTaken).await
    }

    /// Emits the event like [`emit`](Self::emit), and completes when the hub has numbered the
    /// event.
    pub async fn emit_confirmed<T: ToArgs>(self, name: &str, data: T) -> Result<Receipt, EmitError> {
        self.send(name, data, Done::WhenNumbered).await
    }

    /// Emits the event and collects the acks of its receivers. Completes when all receivers have
    /// answered or disconnected. At the [`timeout`](Self::timeout), it completes with the acks
    /// received so far. Acks are dropped if they exceed
    /// [`limits.acks.answers_bytes_max`](crate::limits::AckLimits::answers_bytes_max) in total.
    ///
    /// The event has no offset token.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use stentor::{Answers, EmitError, Server};
    /// # async fn ask(io: &Server) -> Result<(), EmitError> {
    /// let crew = io.to("crew").timeout(Duration::from_secs(5));
    /// let Answers { answers, missing, .. } = crew.emit_with_ack::<bool, _>("ready?", ()).await?;
    /// let ready = answers.iter().filter(|(_, ready)| *ready).count();
    /// log::info!("{ready} are ready, {} did not answer", missing.len());
    /// # Ok(()) }
    /// ```
    pub async fn emit_with_ack<R: FromArgs, T: ToArgs>(self, name: &str, data: T) -> Result<Answers<R>, EmitError> {
        let timeout = self.timeout.unwrap_or(self.core.limits.acks.timeout);
        let (link, emit) = self.encode(name, data, false)?;
        Ok(Answers::read(Core::ask(&link, |answer| Request::Collect { emit, timeout, answer }).await?))
    }

    /// Makes the selected sockets join rooms, and returns the number of sockets. When this
    /// completes, the sockets receive all later events to the rooms. A socket that connects
    /// meanwhile may be missed. After an error, some of the sockets may have joined.
    pub async fn sockets_join(self, rooms: impl IntoIterator<Item: AsRef<str>>) -> Result<usize, RoomError> {
        let rooms = room_names(rooms)?;
        let sockets = self.fetch().await?;
        let asked = sockets.iter().flat_map(|SocketRef { info, link }| {
            rooms
                .iter()
                .map(|room| Core::begin(link, |done| Request::Join { socket: info.id, room: room.clone(), done }))
        });
        // All requests are sent before the first answer is awaited, so that no request waits for
        // the answer to another one.
        finish(asked.collect()).await?;
        Ok(sockets.len())
    }

    /// Makes the selected sockets leave rooms, and returns the number of sockets. After an error,
    /// some of the sockets may have left.
    pub async fn sockets_leave(self, rooms: impl IntoIterator<Item: AsRef<str>>) -> Result<usize, RoomError> {
        let rooms = room_names(rooms)?;
        let sockets = self.fetch().await?;
        let asked = sockets.iter().flat_map(|SocketRef { info, link }| {
            rooms
                .iter()
                .map(|room| Core::begin(link, |done| Request::Leave { socket: info.id, room: room.clone(), done }))
        });
        finish(asked.collect()).await?;
        Ok(sockets.len())
    }

    /// Disconnects the selected sockets from the namespace, and returns their number. Their clients
    /// are notified and do not reconnect by themselves. With `close`, the connections of the
    /// clients are closed as well.
    pub async fn disconnect_sockets(self, close: bool) -> Result<usize, RoomError> {
        let sockets = self.fetch().await?;
        for SocketRef { info, link } in &sockets {
            // The request fails only if the session of the socket has already ended.
            let _ = link.request(Request::Disconnect { socket: info.id, close_session: close });
        }
        Ok(sockets.len())
    }

    /// Ids of the selected sockets, unsorted. They are a snapshot at one point in the hub's
    /// sequence of commands.
    pub async fn socket_ids(self) -> Result<Vec<SocketId>, RoomError> {
        Ok(self.fetch().await?.into_iter().map(|socket| socket.info.id).collect())
    }

    /// Handles of the selected sockets, unsorted. They are a snapshot at one point in the hub's
    /// sequence of commands.
    pub async fn fetch_sockets(self) -> Result<Vec<Socket>, RoomError> {
        let core = self.core.clone();
        Ok(self.fetch().await?.into_iter().map(|socket| Socket::new(socket, core.clone())).collect())
    }

    async fn fetch(self) -> Result<Vec<SocketRef>, RoomError> {
        if let Some(error) = self.invalid {
            return Err(error.into());
        }
        let link = self.core.outlet(self.own.as_ref());
        let Self { namespace, target, .. } = self;
        Ok(Core::ask(&link, |answer| Request::Fetch { namespace, target, answer }).await?)
    }

    async fn send<T: ToArgs, R>(
        self,
        name: &str,
        data: T,
        done: impl FnOnce(oneshot::Sender<Result<R, RequestError<EmitRefusal>>>) -> Done,
    ) -> Result<R, EmitError> {
        let (link, emit) = self.encode(name, data, true)?;
        Ok(Core::ask(&link, |sender| Request::Broadcast { emit, done: done(sender) }).await?)
    }

    fn encode<T: ToArgs>(self, name: &str, data: T, token_hole: bool) -> Result<(SessionLink, Emit), EmitError> {
        if let Some(error) = self.invalid {
            return Err(error.into());
        }
        let draft = self.core.encoder.event(&self.namespace, name, &data, token_hole)?;
        let link = self.core.outlet(self.own.as_ref());
        Ok((link, Emit { target: self.target, draft, grade: self.grade }))
    }
}

fn room_names(rooms: impl IntoIterator<Item: AsRef<str>>) -> Result<Vec<RoomName>, IdError> {
    rooms.into_iter().map(|room| RoomName::parse(room.as_ref())).collect()
}

/// Awaits all answers and returns the first error. The disconnection of a socket is not an error.
async fn finish<T, E: From<NoAnswer> + Into<RoomError>>(begun: Vec<PendingAnswer<T, E>>) -> Result<(), RoomError> {
    let mut failure = Ok(());
    for asked in begun {
        match asked.finish().await.map_err(E::into) {
            Ok(_) | Err(RoomError::Disconnected) => {}
            Err(error) => failure = failure.and(Err(error)),
        }
    }
    failure
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::api::encoder::Encoder;
    use crate::messages::session::tests::link;
    use crate::protocol::socketio::Parser;

    #[test]
    fn a_target_may_be_local_and_may_name_a_socket_of_another_server() {
        let core = Arc::new(Core {
            server_sender: link(),
            durable_sender: link(),
            encoder: Encoder { parser: Parser::Json, recovery: false, ack_errors: false },
            recovery_clients: Default::default(),
            limits: Default::default(),
            registry: Default::default(),
            room_changes: tokio::sync::broadcast::channel(1).0,
            queue: None,
            subscribers: None,
        });
        let foreign = [&"x".repeat(64), "node 7/é,\"1\"", "AAAAAAAAAAAAAAAAAAAA"].map(ToOwned::to_owned);
        for id in foreign {
            let broadcast = Broadcast::new(core.clone(), NamespacePath::root(), None).to(&id).except(&id).local();
            assert_eq!(broadcast.invalid, None);
            let [recipient] = broadcast.target.rooms.as_slice() else { panic!("one recipient") };
            assert_eq!(recipient.to_string(), id);
            let (rooms, except) = (smallvec![recipient.clone()], smallvec![recipient.clone()]);
            assert_eq!(broadcast.target, Target { rooms, except, exclude: None, local: true });
        }
    }
}
