//! An emit that is being addressed: rooms, exceptions, grade; then one call that sends it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::answers::Answers;
use super::args::{FromArgs, ToArgs};
use super::core::{Core, PendingAnswer};
use super::error::{EmitError, RoomError};
use super::socket::Socket;
use crate::ids::{IdError, NamespacePath, Recipient, RoomName, SocketId};
use crate::messages::hub::Grade;
use crate::messages::request::{Done, EmitRefusal, NoAnswer, Receipt, Request, RequestError};
use crate::messages::session::SessionLink;
use crate::messages::socket::SocketInfo;
use crate::state::rooms::Target;

/// A set of sockets to emit to. Nothing happens until [`emit`](Self::emit).
///
/// Every member of the target rooms sees the event once, in the hub's order, whatever number of the rooms it is in.
#[derive(Debug, Clone)]
#[must_use = "a broadcast does nothing until `emit`"]
pub struct Broadcast {
    core: Arc<Core>,
    namespace: NamespacePath,
    /// The session of the socket from which this was begun.
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

    /// Adds a room (a socket's id is a room of its own). An invalid name fails the emit.
    pub fn to(mut self, room: impl AsRef<str>) -> Self {
        match Recipient::parse(room.as_ref()) {
            Ok(recipient) => self.target.rooms.push(recipient),
            Err(error) => self.invalid = Some(error),
        }
        self
    }

    /// The same as [`to`](Self::to); the name Socket.IO offers beside it.
    pub fn within(self, room: impl AsRef<str>) -> Self {
        self.to(room)
    }

    /// Leaves out the members of a room. An invalid name fails the emit.
    pub fn except(mut self, room: impl AsRef<str>) -> Self {
        match Recipient::parse(room.as_ref()) {
            Ok(recipient) => self.target.except.push(recipient),
            Err(error) => self.invalid = Some(error),
        }
        self
    }

    /// Marks the event as one that may be dropped where a connection is not ready for it. It is not numbered.
    pub fn volatile(mut self) -> Self {
        self.grade = Grade::Volatile;
        self
    }

    /// Only sockets of this process. A server is one process, so this changes nothing yet.
    pub fn local(self) -> Self {
        self
    }

    /// Accepted for the sake of Socket.IO's API; nothing is compressed.
    pub fn compress(self, _compress: bool) -> Self {
        self
    }

    /// How long [`emit_with_ack`](Self::emit_with_ack) waits, instead of
    /// [`limits.acks.timeout`](crate::limits::AckLimits::timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Emits. Completes when the hub's credit covers the event, which is what slows a fast publisher down; from then
    /// on it keeps its place in the order. Fails with [`EmitError::Overloaded`] when there is no credit in time.
    pub async fn emit<T: ToArgs>(self, name: &str, data: T) -> Result<(), EmitError> {
        self.send(name, data, Done::WhenTaken).await
    }

    /// Emits, and completes when the hub has numbered the event.
    pub async fn emit_confirmed<T: ToArgs>(self, name: &str, data: T) -> Result<Receipt, EmitError> {
        self.send(name, data, Done::WhenNumbered).await
    }

    /// Emits, and collects the acks of everyone to whom the event went: completes when all have answered or gone, or with
    /// what has come at the timeout. Answers that together exceed
    /// [`limits.acks.answers_bytes_max`](crate::limits::AckLimits::answers_bytes_max) are not kept.
    ///
    /// The event bears no offset token.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use stentor::{Answers, EmitError, Server};
    /// # async fn ask(io: &Server) -> Result<(), EmitError> {
    /// let Answers { answers, missing, .. } =
    ///     io.to("crew").timeout(Duration::from_secs(5)).emit_with_ack::<bool, _>("ready?", ()).await?;
    /// let ready = answers.iter().filter(|(_, ready)| *ready).count();
    /// log::info!("{ready} are ready, {} did not say", missing.len());
    /// # Ok(()) }
    /// ```
    pub async fn emit_with_ack<R: FromArgs, T: ToArgs>(self, name: &str, data: T) -> Result<Answers<R>, EmitError> {
        if let Some(error) = self.invalid {
            return Err(error.into());
        }
        let draft = self.core.draft(&self.namespace, name, &data, false)?;
        let link = self.core.outlet(self.own.as_ref());
        let timeout = self.timeout.unwrap_or(self.core.limits.acks.timeout);
        let Self { target, grade, .. } = self;
        let request = |answer| Request::Collect { target, draft, grade, timeout, answer };
        Ok(Answers::read(Core::ask(&link, request).await?))
    }

    /// Puts the sockets in the target into rooms; a socket that connects meanwhile may be missed. When this returns, they
    /// get what is emitted to the rooms from here on. Returns how many they are.
    pub async fn sockets_join(self, rooms: impl IntoIterator<Item: AsRef<str>>) -> Result<usize, RoomError> {
        let rooms = room_names(rooms)?;
        let sockets = self.fetch().await?;
        let asked = sockets.iter().flat_map(|info| {
            rooms
                .iter()
                .map(|room| Core::begin(&info.link, |done| Request::Join { socket: info.id, room: room.clone(), done }))
        });
        // All are asked before the first is awaited, so that they join at the pace of the hub.
        finish(asked.collect()).await?;
        Ok(sockets.len())
    }

    /// Takes the sockets in the target out of rooms. Returns how many they are.
    pub async fn sockets_leave(self, rooms: impl IntoIterator<Item: AsRef<str>>) -> Result<usize, RoomError> {
        let rooms = room_names(rooms)?;
        let sockets = self.fetch().await?;
        let asked = sockets.iter().flat_map(|info| {
            rooms.iter().map(|room| {
                Core::begin(&info.link, |done| Request::Leave { socket: info.id, room: room.clone(), done })
            })
        });
        finish(asked.collect()).await?;
        Ok(sockets.len())
    }

    /// Disconnects the sockets in the target from the namespace (their clients are notified, and stay away), or with `close` ends their
    /// whole connections. Returns how many they were.
    pub async fn disconnect_sockets(self, close: bool) -> Result<usize, RoomError> {
        let sockets = self.fetch().await?;
        for info in &sockets {
            // One that has gone meanwhile is what was wanted.
            let _ = info.link.request(Request::Disconnect { socket: info.id, close_session: close });
        }
        Ok(sockets.len())
    }

    /// Ids of the sockets in the target, in no particular order, as of one position in the hub's order.
    pub async fn socket_ids(self) -> Result<Vec<SocketId>, RoomError> {
        Ok(self.fetch().await?.into_iter().map(|socket| socket.id).collect())
    }

    /// Handles of the sockets in the target, in no particular order, as of one position in the hub's order.
    pub async fn fetch_sockets(self) -> Result<Vec<Socket>, RoomError> {
        let core = self.core.clone();
        Ok(self.fetch().await?.into_iter().map(|info| Socket::new(info, core.clone())).collect())
    }

    async fn fetch(self) -> Result<Vec<Arc<SocketInfo>>, RoomError> {
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
        if let Some(error) = self.invalid {
            return Err(error.into());
        }
        let draft = self.core.draft(&self.namespace, name, &data, true)?;
        let link = self.core.outlet(self.own.as_ref());
        let Self { target, grade, .. } = self;
        Ok(Core::ask(&link, |sender| Request::Broadcast { target, draft, grade, done: done(sender) }).await?)
    }
}

fn room_names(rooms: impl IntoIterator<Item: AsRef<str>>) -> Result<Vec<RoomName>, IdError> {
    rooms.into_iter().map(|room| RoomName::parse(room.as_ref())).collect()
}

/// Awaits what was begun. Sockets that have gone meanwhile are no failure; otherwise the first failure counts.
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
