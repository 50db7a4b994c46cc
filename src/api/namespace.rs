//! A namespace of a server, or all of a pattern: where handlers are registered, and from where everybody in it is reached.

use std::sync::Arc;

use super::answers::Answers;
use super::args::{FromArgs, ToArgs};
use super::broadcast::Broadcast;
use super::core::Core;
use super::error::{ConnectError, EmitError, HandlerError, RoomError};
use super::event::{Disconnecting, Event};
use super::handler::{
    ConnectMiddleware, EventHandler, EventMiddleware, Handlers, Observer, connection_registration, erase, erase_event,
    registration,
};
use super::operators::emitter;
use super::recovery_clients::RecoveryClients;
use super::registry::Matches;
use super::room_events::RoomEvents;
use super::socket::Socket;
use crate::ids::NamespacePath;
use crate::messages::request::{Listing, Request};
use crate::protocol::reason::DisconnectReason;
use crate::protocol::socketio::packet::Args;

/// A room and how many are in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomSummary {
    /// Name of the room.
    pub name: String,
    /// Its members, over all workers.
    pub members: usize,
}

/// A namespace. Handlers registered here serve all its sockets and cost nothing per socket; they serve sockets that connect
/// afterwards.
#[derive(Debug, Clone)]
pub struct Namespace {
    core: Arc<Core>,
    path: NamespacePath,
}

impl Namespace {
    /// A namespace that comes to be if it was not there.
    pub(crate) fn new(core: Arc<Core>, path: NamespacePath) -> Self {
        if !core.registry.knows(&path) {
            core.registry.register(&path, |_| {});
        }
        Self { core, path }
    }

    /// A namespace that is there already.
    pub(crate) fn existing(core: Arc<Core>, path: NamespacePath) -> Self {
        Self { core, path }
    }

    /// The path, `/` for the main namespace.
    pub fn path(&self) -> &str {
        self.path.as_str()
    }

    fn register(&self, change: impl FnOnce(&mut Handlers)) {
        self.core.registry.register(&self.path, change);
    }

    connection_registration!(self, Self, Self);
    registration!(self, Self, Self);
    emitter!();

    /// Every socket of the namespace, to be narrowed.
    pub fn all(&self) -> Broadcast {
        Broadcast::new(self.core.clone(), self.path.clone(), None)
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

    /// What happens to the rooms of this namespace from here on.
    ///
    /// ```no_run
    /// # use stentor::{RoomEvent, Server};
    /// # async fn watch(io: &Server) {
    /// let mut events = io.of("/").room_events();
    /// while let Some(event) = events.next().await {
    ///     match event {
    ///         Ok(RoomEvent::Created { room }) => log::info!("room {room} is there"),
    ///         Ok(_) => {}
    ///         Err(missed) => log::warn!("{missed}"),
    ///     }
    /// }
    /// # }
    /// ```
    pub fn room_events(&self) -> RoomEvents {
        RoomEvents::new(self.core.room_changes.subscribe(), self.path.clone())
    }
}

/// All namespaces whose paths match: each exists while it has sockets, and costs nothing otherwise.
#[derive(Debug, Clone)]
pub struct NamespacePattern {
    core: Arc<Core>,
    number: usize,
}

impl NamespacePattern {
    pub(crate) fn new(core: Arc<Core>, matches: Matches) -> Self {
        let number = core.registry.add_pattern(matches);
        Self { core, number }
    }

    fn register(&self, change: impl FnOnce(&mut Handlers)) {
        self.core.registry.register_pattern(self.number, change);
    }

    connection_registration!(self, Self, Self);
    registration!(self, Self, Self);
}
