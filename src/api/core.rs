//! The types that all handles contain: the shared part of a server, sockets, and handlers.
//!
//! They are in one file because they refer to each other: a handler receives sockets, and a socket
//! refers to the handlers of its server. Methods for applications are in the other files of this
//! module.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{broadcast, oneshot};

use super::current;
use super::encoder::Encoder;
use super::error::{ConnectError, HandlerError};
use super::event::{Disconnecting, Event};
use super::recovery_clients::RecoveryClients;
use super::registry::Registry;
use crate::limits::Limits;
use crate::messages::answer::NoAnswer;
use crate::messages::room_change::RoomChange;
use crate::messages::session::{OfferError, Request, SessionLink, SocketRef};
use crate::messages::subscribers::SubscribersLink;
use crate::protocol::reason::DisconnectReason;
use crate::protocol::socketio::packet::Args;
use crate::queue::service::QueueService;

/// The shared part of a server's handles.
#[derive(Debug)]
pub(crate) struct Core {
    /// The sender for requests of code that runs outside any session.
    pub(crate) server_sender: SessionLink,
    /// The sender for durable publishes of such code. It is another one, so that other requests do
    /// not wait for commits.
    pub(crate) durable_sender: SessionLink,
    pub(crate) encoder: Encoder,
    /// The default for namespaces without a setting of their own.
    pub(crate) recovery_clients: RecoveryClients,
    pub(crate) limits: Arc<Limits>,
    pub(crate) registry: Registry<Handlers>,
    /// Changes of rooms. The hub sends them only while there are receivers.
    pub(crate) room_changes: broadcast::Sender<RoomChange>,
    /// `None` while the queue is off.
    pub(crate) queue: Option<Arc<QueueService>>,
    /// Address of the actor that delivers to subscribers. `None` while the queue is off.
    pub(crate) subscribers: Option<SubscribersLink>,
}

impl Core {
    /// A number that distinguishes the servers of one process.
    pub(crate) fn identity(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self) as usize
    }

    /// Returns the sender for an emit or a query: the session whose handler runs, otherwise `own`.
    /// Returns the server sender if there is neither or if the session has ended, since a
    /// disconnect handler may still emit.
    pub(crate) fn outlet(self: &Arc<Self>, own: Option<&SessionLink>) -> SessionLink {
        let session = current::session(self.identity()).or_else(|| own.cloned());
        session.filter(SessionLink::is_open).unwrap_or_else(|| self.server_sender.clone())
    }

    /// Returns the sender for a durable publish, like [`outlet`](Self::outlet).
    pub(crate) fn durable_outlet(self: &Arc<Self>, own: Option<&SessionLink>) -> SessionLink {
        let session = current::session(self.identity()).or_else(|| own.cloned());
        session.filter(SessionLink::is_open).unwrap_or_else(|| self.durable_sender.clone())
    }

    /// Sends a request and awaits its answer.
    ///
    /// This needs no deadline. The receiver answers every request in time, or drops the answer's
    /// sender when it ends.
    pub(crate) async fn ask<T, E: From<NoAnswer>>(
        link: &SessionLink,
        request: impl FnOnce(oneshot::Sender<Result<T, E>>) -> Request,
    ) -> Result<T, E> {
        Self::begin(link, request).finish().await
    }

    pub(crate) fn begin<T, E: From<NoAnswer>>(
        link: &SessionLink,
        request: impl FnOnce(oneshot::Sender<Result<T, E>>) -> Request,
    ) -> PendingAnswer<T, E> {
        let (sender, receiver) = oneshot::channel();
        PendingAnswer(match link.offer(request(sender)) {
            Ok(()) => Ok(receiver),
            Err(OfferError::Full) => Err(NoAnswer::Overloaded.into()),
            Err(OfferError::Gone) => Err(NoAnswer::Disconnected.into()),
        })
    }
}

/// A request that was sent, or the immediate error of sending it.
pub(crate) struct PendingAnswer<T, E>(Result<oneshot::Receiver<Result<T, E>>, E>);

impl<T, E: From<NoAnswer>> PendingAnswer<T, E> {
    pub(crate) async fn finish(self) -> Result<T, E> {
        self.0?.await.unwrap_or_else(|_| Err(NoAnswer::Disconnected.into()))
    }
}

/// One client in one namespace.
///
/// Cheap to clone and usable from any thread. A handle remains valid after its client has
/// disconnected; emits then fail with [`EmitError::Disconnected`](crate::EmitError::Disconnected).
#[derive(Clone)]
pub struct Socket {
    pub(super) socket: SocketRef,
    pub(super) core: Arc<Core>,
}

impl Socket {
    pub(crate) fn new(socket: SocketRef, core: Arc<Core>) -> Self {
        Self { socket, core }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.socket, f)
    }
}

/// A running handler. It need not be `Send`, since it stays on its session's worker.
pub(crate) type HandlerFuture<T = (), E = HandlerError> = Pin<Box<dyn Future<Output = Result<T, E>>>>;

/// A handler that receives a `T`: an event, the reason of a disconnection, or nothing.
pub(crate) type HandlerFn<T> = Arc<dyn Fn(Socket, T) -> HandlerFuture + Send + Sync>;

/// Accepts or refuses a socket.
pub(crate) type ConnectMiddleware = Arc<dyn Fn(Socket) -> HandlerFuture<(), ConnectError> + Send + Sync>;

/// Passes an event on, changed or unchanged, or drops it.
pub(crate) type EventMiddleware = Arc<dyn Fn(Socket, Event<Args>) -> HandlerFuture<Option<Event<Args>>> + Send + Sync>;

/// A function that is called with every event.
pub(crate) type Observer = Arc<dyn Fn(&Socket, &str, &Args) + Send + Sync>;

/// The handler that is registered for an event name.
#[derive(Clone)]
pub(crate) struct EventHandler {
    handler: HandlerFn<Event<Args>>,
    /// For a handler of only one event: true once the handler was taken for a run. All copies of
    /// the handler share the flag. `None` for a handler of every event.
    used: Option<Arc<AtomicBool>>,
}

impl EventHandler {
    pub(crate) fn every(handler: HandlerFn<Event<Args>>) -> Self {
        Self { handler, used: None }
    }

    /// A handler of the next event only.
    pub(crate) fn once(handler: HandlerFn<Event<Args>>) -> Self {
        Self { handler, used: Some(Arc::default()) }
    }

    pub(crate) fn is_used(&self) -> bool {
        self.used.as_ref().is_some_and(|used| used.load(Ordering::Relaxed))
    }

    /// Returns the handler for one run. Returns `None` if the handler is for only one event and was
    /// already taken.
    pub(super) fn take(&self) -> Option<&HandlerFn<Event<Args>>> {
        let used = self.used.as_ref().is_some_and(|used| used.swap(true, Ordering::Relaxed));
        (!used).then_some(&self.handler)
    }
}

/// The handlers registered for one namespace, one pattern of namespaces, or one socket.
#[derive(Clone, Default)]
pub(crate) struct Handlers {
    /// `None` if the default of the server applies.
    pub(crate) recovery_clients: Option<RecoveryClients>,
    pub(crate) connect_middleware: Vec<ConnectMiddleware>,
    pub(crate) event_middleware: Vec<EventMiddleware>,
    pub(crate) incoming: Vec<Observer>,
    pub(crate) outgoing: Vec<Observer>,
    pub(crate) events: HashMap<String, EventHandler>,
    pub(crate) unhandled: Option<HandlerFn<Event<Args>>>,
    pub(crate) connection: Option<HandlerFn<()>>,
    pub(crate) disconnecting: Option<HandlerFn<Disconnecting>>,
    pub(crate) disconnect: Vec<HandlerFn<DisconnectReason>>,
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handlers").field("events", &self.events.keys()).finish_non_exhaustive()
    }
}
