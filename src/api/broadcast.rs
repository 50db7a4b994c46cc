//! An emit that is being addressed: rooms, exceptions, grade; then one call that sends it.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::args::ToArgs;
use super::core::Core;
use super::error::{EmitError, RoomError};
use super::socket::Socket;
use crate::ids::{IdError, NamespacePath, RoomName, SocketId};
use crate::messages::hub::Grade;
use crate::messages::request::{Done, Receipt, Request};
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
    invalid: Option<IdError>,
}

impl Broadcast {
    pub(crate) fn new(core: Arc<Core>, namespace: NamespacePath, own: Option<SessionLink>) -> Self {
        Self { core, namespace, own, target: Target::default(), grade: Grade::Plain, invalid: None }
    }

    pub(crate) fn excluding(mut self, socket: SocketId) -> Self {
        self.target.exclude = Some(socket);
        self
    }

    /// Adds a room (a socket's id is a room of its own). An invalid name fails the emit.
    pub fn to(mut self, room: impl AsRef<str>) -> Self {
        match RoomName::parse(room.as_ref()) {
            Ok(room) => self.target.rooms.push(room),
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
        match RoomName::parse(room.as_ref()) {
            Ok(room) => self.target.except.push(room),
            Err(error) => self.invalid = Some(error),
        }
        self
    }

    /// Marks the event as one that may be dropped where a connection is not ready for it. It is not numbered.
    pub fn volatile(mut self) -> Self {
        self.grade = Grade::Volatile;
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
        done: impl FnOnce(oneshot::Sender<Result<R, crate::messages::request::RequestError>>) -> Done,
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
