//! A namespace of a server: where handlers are registered, and from where everybody in it is reached.

use std::sync::Arc;

use super::args::{FromArgs, ToArgs};
use super::broadcast::Broadcast;
use super::core::Core;
use super::error::{EmitError, HandlerError, RoomError};
use super::event::Event;
use super::handler::{erase, erase_event};
use super::socket::Socket;
use crate::ids::NamespacePath;
use crate::messages::request::{Listing, Request};
use crate::protocol::reason::DisconnectReason;

/// A namespace. Handlers registered here serve all its sockets and cost nothing per socket; registering a name again
/// replaces its handler for sockets that connect afterwards.
#[derive(Debug, Clone)]
pub struct Namespace {
    core: Arc<Core>,
    path: NamespacePath,
}

/// A room and how many are in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomSummary {
    /// Its name.
    pub name: String,
    /// Its members, over all workers.
    pub members: usize,
}

impl Namespace {
    pub(crate) fn new(core: Arc<Core>, path: NamespacePath) -> Self {
        core.registry.register(&path, |_| {});
        Self { core, path }
    }

    /// The path, `/` for the main namespace.
    pub fn path(&self) -> &str {
        self.path.as_str()
    }

    /// Handles the event `name` of every socket.
    ///
    /// Handlers of one socket start in the order in which its events arrived, and interleave only at `.await`. An error
    /// is logged. A panic is logged and puts its socket out of the namespace, and nothing else: the client is told "io server
    /// disconnect" and does not come back by itself. Arguments that are no `T` are an error.
    #[must_use = "registration is chained; end the chain with a semicolon if this is the last handler"]
    pub fn on<T, F, R>(self, name: &str, handler: F) -> Self
    where
        T: FromArgs,
        F: Fn(Socket, Event<T>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), HandlerError>> + 'static,
    {
        self.core.registry.register(&self.path, |handlers| {
            handlers.events.insert(name.to_owned(), erase_event(handler));
        });
        self
    }

    /// Handles every event for which no handler is registered by name.
    #[must_use = "registration is chained; end the chain with a semicolon if this is the last handler"]
    pub fn on_unhandled<T, F, R>(self, handler: F) -> Self
    where
        T: FromArgs,
        F: Fn(Socket, Event<T>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), HandlerError>> + 'static,
    {
        self.core.registry.register(&self.path, |handlers| handlers.unhandled = Some(erase_event(handler)));
        self
    }

    /// Runs once a socket has connected. Its events are held until this returns, for
    /// [`Limits::connection_handler_timeout`](crate::Limits::connection_handler_timeout) at most.
    #[must_use = "registration is chained; end the chain with a semicolon if this is the last handler"]
    pub fn on_connection<F, R>(self, handler: F) -> Self
    where
        F: Fn(Socket) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), HandlerError>> + 'static,
    {
        self.core.registry.register(&self.path, |handlers| {
            handlers.connection = Some(erase(move |socket, ()| handler(socket)));
        });
        self
    }

    /// Runs once a socket that had connected has gone. What is emitted to rooms from here on does not reach it.
    #[must_use = "registration is chained; end the chain with a semicolon if this is the last handler"]
    pub fn on_disconnect<F, R>(self, handler: F) -> Self
    where
        F: Fn(Socket, DisconnectReason) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), HandlerError>> + 'static,
    {
        self.core.registry.register(&self.path, |handlers| handlers.disconnect = Some(erase(handler)));
        self
    }

    /// The rooms that have members now, in the order of their names; sockets' own rooms are not among them.
    ///
    /// Read from the hub a thousand at a time, so that it is not held up: a room that lives while this runs is listed
    /// once, one that comes or goes meanwhile may be or not.
    pub async fn rooms(&self) -> Result<Vec<RoomSummary>, RoomError> {
        let (mut rooms, mut next) = (Vec::new(), Some(0));
        while let Some(from) = next {
            let listing = Listing::InNamespace { namespace: self.path.clone(), from };
            let page = Core::ask(&self.core.outlet(None), |answer| Request::List { listing, answer }).await?;
            rooms.extend(page.rooms.into_iter().map(|(name, members)| RoomSummary { name: name.to_string(), members }));
            next = page.next;
        }
        rooms.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(rooms)
    }

    /// Narrows to a room; see [`Broadcast::to`].
    pub fn to(&self, room: impl AsRef<str>) -> Broadcast {
        self.everybody().to(room)
    }

    /// Everybody but the members of a room; see [`Broadcast::except`].
    pub fn except(&self, room: impl AsRef<str>) -> Broadcast {
        self.everybody().except(room)
    }

    /// Emits to every socket of the namespace; see [`Broadcast::emit`].
    pub async fn emit<T: ToArgs>(&self, name: &str, data: T) -> Result<(), EmitError> {
        self.everybody().emit(name, data).await
    }

    /// Every socket of the namespace, to be narrowed.
    pub fn everybody(&self) -> Broadcast {
        Broadcast::new(self.core.clone(), self.path.clone(), None)
    }
}
