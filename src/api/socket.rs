//! A socket: one client's presence in one namespace, as server code sees it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::args::{FromArgs, ToArgs};
use super::broadcast::Broadcast;
use super::core::Core;
use super::error::{AckError, EmitError, RoomError};
use super::handshake::Handshake;
use crate::ids::{NamespacePath, RoomName, SocketId};
use crate::messages::hub::Grade;
use crate::messages::request::{Done, Joined, Request, RequestError};
use crate::messages::session::SessionLink;
use crate::state::rooms::Target;

struct Inner {
    id: SocketId,
    namespace: NamespacePath,
    core: Arc<Core>,
    link: SessionLink,
    handshake: Arc<Handshake>,
}

/// A client in a namespace. Cheap to clone, usable from any thread; stays valid, and useless, when the client is gone.
#[derive(Clone)]
pub struct Socket(Arc<Inner>);

impl Socket {
    pub(crate) fn new(
        id: SocketId,
        namespace: NamespacePath,
        core: Arc<Core>,
        link: SessionLink,
        handshake: Arc<Handshake>,
    ) -> Self {
        Self(Arc::new(Inner { id, namespace, core, link, handshake }))
    }

    /// The socket's id, which is public, and the name of the socket's own room.
    pub fn id(&self) -> SocketId {
        self.0.id
    }

    pub(crate) fn namespace(&self) -> &NamespacePath {
        &self.0.namespace
    }

    pub(crate) fn link(&self) -> &SessionLink {
        &self.0.link
    }

    /// The namespace it is in.
    pub fn namespace_path(&self) -> &str {
        self.0.namespace.as_str()
    }

    /// What the client said when it connected.
    pub fn handshake(&self) -> &Handshake {
        &self.0.handshake
    }

    /// Emits to this client alone. Ordered with everything else that this handler emits.
    ///
    /// Completes when the event has its place; while more than half of the client's outbox waits to be read, not before
    /// that has gone down, which is what slows a fast handler to its client's pace.
    pub async fn emit<T: ToArgs>(&self, name: &str, data: T) -> Result<(), EmitError> {
        if !self.0.link.is_open() {
            return Err(EmitError::Disconnected);
        }
        let draft = self.0.core.draft(&self.0.namespace, name, &data, true)?;
        let link = self.0.core.outlet(Some(&self.0.link));
        let (socket, grade) = (self.0.id, Grade::Plain);
        let own = link.is(&self.0.link);
        let request = |sender| match own {
            true => Request::Direct { socket, draft, grade, done: Done::WhenTaken(sender) },
            // From another socket's handler it travels as a broadcast to this socket's own room, so that the other
            // handler's emits keep their order.
            false => Request::Broadcast { target: Target::socket(socket), draft, grade, done: Done::WhenTaken(sender) },
        };
        Ok(Core::ask(&link, request).await?)
    }

    /// Emits to this client alone and awaits its ack, for 10 s unless the server was set up otherwise.
    pub async fn emit_with_ack<R: FromArgs, T: ToArgs>(&self, name: &str, data: T) -> Result<R, AckError> {
        self.emit_with_ack_within(self.0.core.limits.ack_timeout, name, data).await
    }

    /// Emits to this client alone and awaits its ack for as long as `timeout`.
    pub async fn emit_with_ack_within<R: FromArgs, T: ToArgs>(
        &self,
        timeout: Duration,
        name: &str,
        data: T,
    ) -> Result<R, AckError> {
        // Events with an ack id bear no token: a client would take its own ack callback's neighbour for one.
        let draft = self.0.core.draft(&self.0.namespace, name, &data, false)?;
        let socket = self.0.id;
        let asked = Core::ask(&self.0.link, |answer| Request::Call { socket, draft, timeout, answer });
        let args = match asked.await {
            Ok(args) => args,
            Err(RequestError::Unanswered) => return Err(AckError::Timeout),
            Err(error) => return Err(AckError::Emit(error.into())),
        };
        R::from_args(&args).map_err(AckError::Data)
    }

    /// Joins a room. When this returns, the socket gets what is emitted to the room from here on.
    pub async fn join(&self, room: impl AsRef<str>) -> Result<Joined, RoomError> {
        let room = RoomName::parse(room.as_ref())?;
        let socket = self.0.id;
        Ok(Core::ask(&self.0.link, |done| Request::Join { socket, room, done }).await?)
    }

    /// Leaves a room. Leaving a room that it is not in is no error.
    pub async fn leave(&self, room: impl AsRef<str>) -> Result<(), RoomError> {
        let room = RoomName::parse(room.as_ref())?;
        let socket = self.0.id;
        Ok(Core::ask(&self.0.link, |done| Request::Leave { socket, room, done }).await?)
    }

    /// A room without this socket itself; see [`Broadcast::to`]. With `io.to` the sender is included.
    pub fn to(&self, room: impl AsRef<str>) -> Broadcast {
        self.broadcast().to(room)
    }

    /// Everybody in the namespace but the members of a room and this socket itself; see [`Broadcast::except`].
    pub fn except(&self, room: impl AsRef<str>) -> Broadcast {
        self.broadcast().except(room)
    }

    /// Everybody in the namespace but this socket itself.
    pub fn broadcast(&self) -> Broadcast {
        self.everybody().excluding(self.0.id)
    }

    /// Everybody in the namespace, this socket included.
    pub fn everybody(&self) -> Broadcast {
        Broadcast::new(self.0.core.clone(), self.0.namespace.clone(), Some(self.0.link.clone()))
    }

    /// Puts the client out of this namespace (it is told, and stays away), or with `close` ends its whole connection.
    pub fn disconnect(&self, close: bool) -> Result<(), EmitError> {
        let request = Request::Disconnect { socket: self.0.id, close_session: close };
        self.0.link.request(request).map_err(|_| EmitError::Disconnected)
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("id", &self.0.id).field("namespace", &self.0.namespace).finish_non_exhaustive()
    }
}
