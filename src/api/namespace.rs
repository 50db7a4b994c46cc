//! A namespace, a pattern of namespaces, and their operations.

use std::sync::Arc;

use super::answers::Answers;
use super::args::{FromArgs, ToArgs};
use super::broadcast::Broadcast;
use super::core::{ConnectMiddleware, Core, EventHandler, EventMiddleware, Handlers, Observer, Socket};
use super::error::{ConnectError, EmitError, HandlerError, RoomError};
use super::event::{Disconnecting, Event};
use super::handler::{connection_registration, erase, erase_event, registration};
use super::operators::emitter;
use super::recovery_clients::RecoveryClients;
use super::registry::Matches;
use super::room_events::RoomEvents;
use crate::ids::NamespacePath;
use crate::messages::session::{Listing, Request};
use crate::protocol::reason::DisconnectReason;
use crate::protocol::socketio::packet::Args;

/// A room with its number of members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomSummary {
    /// Name of the room.
    pub name: String,
    /// Number of members of the room, over all workers.
    pub members: usize,
}

/// A namespace. Handlers that are registered here apply to all sockets that connect afterwards, and
/// take no memory per socket.
#[derive(Debug, Clone)]
pub struct Namespace {
    core: Arc<Core>,
    path: NamespacePath,
}

impl Namespace {
    /// Returns the namespace with this path, and creates it if it does not exist.
    pub(crate) fn new(core: Arc<Core>, path: NamespacePath) -> Self {
        if !core.registry.contains(&path) {
            core.registry.register(&path, |_| {});
        }
        Self { core, path }
    }

    pub(crate) fn existing(core: Arc<Core>, path: NamespacePath) -> Self {
        Self { core, path }
    }

    /// Path of the namespace; `/` for the main namespace.
    pub fn path(&self) -> &str {
        self.path.as_str()
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(super) fn namespace_path(&self) -> &NamespacePath {
        &self.path
    }

    fn register(&self, change: impl FnOnce(&mut Handlers)) {
        self.core.registry.register(&self.path, change);
    }

    connection_registration!(self, Self, Self);
    registration!(self, Self, Self);
    emitter!();

    /// Selects all sockets of the namespace.
    pub fn all(&self) -> Broadcast {
        Broadcast::new(self.core.clone(), self.path.clone(), None)
    }

    /// The rooms with members, sorted by name, without the sockets' own rooms.
    ///
    /// The hub is asked for about a thousand rooms at a time, so that other commands are not
    /// delayed. A room that exists during the whole call is listed once. A room that is created or
    /// deleted during the call may or may not be listed.
    ///
    /// # Errors
    ///
    /// Fails with [`RoomError::Overloaded`] or [`RoomError::Unanswered`] if the hub is too busy.
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

    /// A stream of the changes of this namespace's rooms, starting now.
    ///
    /// ```no_run
    /// # use stentor::{RoomEvent, Server};
    /// # async fn watch(io: &Server) {
    /// let mut events = io.of("/").room_events();
    /// while let Some(event) = events.next().await {
    ///     match event {
    ///         Ok(RoomEvent::Created { room }) => log::info!("room created name={room}"),
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

/// All namespaces whose paths match a pattern. Such a namespace exists only while it has sockets,
/// and takes no memory otherwise.
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
