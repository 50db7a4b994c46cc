//! The registration of handlers, and the set of handlers that apply to one socket.

use std::sync::Arc;

use super::args::FromArgs;
use super::core::{HandlerFn, Handlers, Socket};
use super::error::{ConnectError, EventError, HandlerError};
use super::event::{Disconnecting, Event};
use super::recovery_clients::RecoveryClients;
use crate::protocol::reason::DisconnectReason;
use crate::protocol::socketio::packet::Args;

/// The handlers of one socket: its own, and those that its namespace had when the socket connected.
/// Where only one handler can run, the socket's own takes precedence.
#[derive(Debug, Clone)]
pub(crate) struct HandlerStack {
    namespace: Arc<Handlers>,
    /// `None` for most sockets.
    own: Option<Arc<Handlers>>,
}

impl HandlerStack {
    pub(crate) fn new(namespace: Arc<Handlers>) -> Self {
        Self { namespace, own: None }
    }

    /// The socket's own handlers, for changes. Events that are being handled keep the previous
    /// handlers.
    pub(crate) fn own(&mut self) -> &mut Handlers {
        Arc::make_mut(self.own.get_or_insert_default())
    }

    fn first<T>(&self, which: impl Fn(&Handlers) -> Option<&T>) -> Option<&T> {
        self.own.as_deref().and_then(&which).or_else(|| which(&self.namespace))
    }

    fn both<T: 'static>(&self, which: impl Fn(&Handlers) -> &Vec<T>) -> impl Iterator<Item = &T> {
        which(&self.namespace).iter().chain(self.own.as_deref().map(which).into_iter().flatten())
    }

    /// The handler of the event `name`, or otherwise the handler of unhandled events.
    pub(crate) fn event(&self, name: &str) -> Option<&HandlerFn<Event<Args>>> {
        self.first(|handlers| handlers.events.get(name)?.take())
            .or_else(|| self.first(|handlers| handlers.unhandled.as_ref()))
    }

    /// True if neither an observer nor middleware is registered for events from the client.
    pub(crate) fn is_direct(&self) -> bool {
        let direct = |handlers: &Handlers| handlers.event_middleware.is_empty() && handlers.incoming.is_empty();
        direct(&self.namespace) && self.own.as_deref().is_none_or(direct)
    }

    pub(crate) fn observes_outgoing(&self) -> bool {
        self.both(|handlers| &handlers.outgoing).next().is_some()
    }

    pub(crate) fn recovery_clients(&self) -> Option<RecoveryClients> {
        self.namespace.recovery_clients
    }

    pub(crate) fn has_connect_middleware(&self) -> bool {
        !self.namespace.connect_middleware.is_empty()
    }

    /// Runs the connection middleware, in the order of registration.
    pub(crate) async fn admit(&self, socket: &Socket) -> Result<(), ConnectError> {
        for middleware in &self.namespace.connect_middleware {
            middleware(socket.clone()).await?;
        }
        Ok(())
    }

    pub(crate) fn connection(&self) -> Option<&HandlerFn<()>> {
        self.namespace.connection.as_ref()
    }

    pub(crate) fn disconnecting(&self) -> Option<&HandlerFn<Disconnecting>> {
        self.first(|handlers| handlers.disconnecting.as_ref())
    }

    pub(crate) fn disconnect(&self) -> impl Iterator<Item = &HandlerFn<DisconnectReason>> {
        self.both(|handlers| &handlers.disconnect)
    }

    /// Passes an event through observers and middleware to its handler.
    pub(crate) async fn run(self, socket: Socket, mut event: Event<Args>) -> Result<(), HandlerError> {
        self.both(|handlers| &handlers.incoming).for_each(|observe| observe(&socket, &event.name, &event.data));
        for middleware in self.both(|handlers| &handlers.event_middleware) {
            match middleware(socket.clone(), event).await? {
                Some(passed) => event = passed,
                None => return Ok(()),
            }
        }
        match self.event(&event.name).cloned() {
            Some(handler) => handler(socket, event).await,
            None => {
                event.ack.refuse(&EventError::NoHandler);
                Err(EventError::NoHandler.into())
            }
        }
    }

    pub(crate) fn observe_outgoing(&self, socket: &Socket, name: &str, args: &Args) {
        self.both(|handlers| &handlers.outgoing).for_each(|observe| observe(socket, name, args));
    }
}

/// Erases the argument type of an event handler. If the arguments cannot be read as `T`, the
/// handler fails with an error.
pub(crate) fn erase_event<T, F, R>(handler: F) -> HandlerFn<Event<Args>>
where
    T: FromArgs,
    F: Fn(Socket, Event<T>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), HandlerError>> + 'static,
{
    Arc::new(move |socket, event: Event<Args>| match T::from_args(event.data) {
        Ok(data) => Box::pin(handler(socket, Event::new(event.name, data, event.ack))),
        Err(error) => {
            let error = EventError::Arguments(error);
            event.ack.refuse(&error);
            Box::pin(std::future::ready(Err(error.into())))
        }
    })
}

/// Erases the type of a handler that does not receive an event.
pub(crate) fn erase<T, F, R>(handler: F) -> HandlerFn<T>
where
    T: 'static,
    F: Fn(Socket, T) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), HandlerError>> + 'static,
{
    Arc::new(move |socket, with| Box::pin(handler(socket, with)))
}

/// Generates the methods that register handlers, for a namespace, a pattern of namespaces and a
/// socket. The type must have a method `register(change)`.
macro_rules! registration {
    ($self:ident, $receiver:ty, $output:ty) => {
        /// Registers the handler of the event `name`, and replaces an earlier one. A socket's own
        /// handler takes precedence over its namespace's, so that each event has one handler.
        ///
        /// The handlers of a socket start in the order in which its events arrive, and interleave
        /// only at `.await`. An error of the handler is logged, and so is a failure to read the
        /// arguments as `T`. A panic is logged and disconnects the socket from the namespace. The
        /// client is then notified with "io server disconnect" and does not reconnect by itself.
        pub fn on<T, F, R>($self: $receiver, name: &str, handler: F) -> $output
        where
            T: FromArgs,
            F: Fn(Socket, Event<T>) -> R + Send + Sync + 'static,
            R: Future<Output = Result<(), HandlerError>> + 'static,
        {
            let (name, handler) = (name.to_owned(), EventHandler::every(erase_event(handler)));
            $self.register(move |handlers| drop(handlers.events.insert(name, handler)));
            $self
        }

        /// Removes the handler of the event `name` that was registered on this handle.
        pub fn off($self: $receiver, name: &str) -> $output {
            let name = name.to_owned();
            $self.register(move |handlers| drop(handlers.events.remove(&name)));
            $self
        }

        /// Registers the handler of all events whose name has no handler.
        pub fn on_unhandled<T, F, R>($self: $receiver, handler: F) -> $output
        where
            T: FromArgs,
            F: Fn(Socket, Event<T>) -> R + Send + Sync + 'static,
            R: Future<Output = Result<(), HandlerError>> + 'static,
        {
            let handler = erase_event(handler);
            $self.register(move |handlers| handlers.unhandled = Some(handler));
            $self
        }

        /// Registers an observer of all events from the client. The observer runs before middleware
        /// and handlers.
        pub fn on_any<F>($self: $receiver, observer: F) -> $output
        where
            F: Fn(&Socket, &str, &Args) + Send + Sync + 'static,
        {
            let observer: Observer = Arc::new(observer);
            $self.register(move |handlers| handlers.incoming.push(observer));
            $self
        }

        /// Registers an observer of all events that are queued for the client, whether emitted to
        /// the client or to a room. The observer does not receive the offset token.
        ///
        /// The observer runs soon afterwards in a task of its own, in the order of the events, and
        /// does not slow down emits. Events that do not fit into the session's mailbox are not
        /// observed.
        pub fn on_any_outgoing<F>($self: $receiver, observer: F) -> $output
        where
            F: Fn(&Socket, &str, &Args) + Send + Sync + 'static,
        {
            let observer: Observer = Arc::new(observer);
            $self.register(move |handlers| handlers.outgoing.push(observer));
            $self
        }

        /// Adds middleware for events. An event passes the middleware in the order of registration,
        /// a namespace's before a socket's, and then reaches its handler. If the middleware returns
        /// `Some`, the event is passed on, changed or unchanged. If it returns `None`, the event is
        /// dropped, for instance because its `ack` was already sent. If it returns an error, the
        /// event is dropped and the error is logged.
        ///
        /// Middleware of one socket starts in the order in which events arrive. If middleware
        /// awaits, handlers start in the order in which it completes.
        pub fn with_events<F, R>($self: $receiver, middleware: F) -> $output
        where
            F: Fn(Socket, Event<Args>) -> R + Send + Sync + 'static,
            R: Future<Output = Result<Option<Event<Args>>, HandlerError>> + 'static,
        {
            let middleware: EventMiddleware = Arc::new(move |socket, event| Box::pin(middleware(socket, event)));
            $self.register(move |handlers| handlers.event_middleware.push(middleware));
            $self
        }

        /// Registers a handler for the disconnection of a connected socket. The handler receives
        /// the socket's rooms, and runs before the `on_disconnect` handlers. By then, events that
        /// are emitted to rooms no longer reach the socket. A later handler replaces this one. A
        /// socket's own handler takes precedence over its namespace's.
        pub fn on_disconnecting<F, R>($self: $receiver, handler: F) -> $output
        where
            F: Fn(Socket, Disconnecting) -> R + Send + Sync + 'static,
            R: Future<Output = Result<(), HandlerError>> + 'static,
        {
            let handler = erase(handler);
            $self.register(move |handlers| handlers.disconnecting = Some(handler));
            $self
        }

        /// Adds a handler for the disconnection of a connected socket. When the handler runs,
        /// events that are emitted to rooms no longer reach the socket.
        ///
        /// All handlers run, the namespace's first, each in the order of registration. A handler
        /// starts when the previous one has ended, also by an error or a panic, or has run for
        /// [`limits.hub.answer_timeout`](crate::limits::HubLimits::answer_timeout).
        ///
        /// With recovery on, the client may have reconnected before the handler runs. If the client
        /// resumes its session before the old connection has ended, `on_connection` runs for the
        /// new connection first. This handler then runs for the old connection, with the same
        /// socket id.
        pub fn on_disconnect<F, R>($self: $receiver, handler: F) -> $output
        where
            F: Fn(Socket, DisconnectReason) -> R + Send + Sync + 'static,
            R: Future<Output = Result<(), HandlerError>> + 'static,
        {
            let handler = erase(handler);
            $self.register(move |handlers| handlers.disconnect.push(handler));
            $self
        }
    };
}

/// Generates the methods that register handlers of new sockets, for a namespace and a pattern of
/// namespaces.
macro_rules! connection_registration {
    ($self:ident, $receiver:ty, $output:ty) => {
        /// Adds middleware for connections. A socket passes all middleware in the order of
        /// registration before it is connected, within
        /// [`limits.handlers.middleware_timeout`](crate::limits::HandlerLimits::middleware_timeout)
        /// in total.
        ///
        /// If middleware returns an error, the socket is refused: the client's `connect_error`
        /// listeners receive the error's message and data, and no other handler runs. While
        /// middleware runs, the socket is in no room and cannot be emitted to. Its handshake,
        /// `auth` and `data` are available. A socket that is about to be recovered already has its
        /// former id and data.
        pub fn with<F, R>($self: $receiver, middleware: F) -> $output
        where
            F: Fn(Socket) -> R + Send + Sync + 'static,
            R: Future<Output = Result<(), ConnectError>> + 'static,
        {
            let middleware: ConnectMiddleware = Arc::new(move |socket| Box::pin(middleware(socket)));
            $self.register(move |handlers| handlers.connect_middleware.push(middleware));
            $self
        }

        /// Sets which clients are recoverable in this namespace. This overrides the server's
        /// [`Recovery::clients`](crate::Recovery::clients).
        pub fn recovery_clients($self: $receiver, clients: RecoveryClients) -> $output {
            $self.register(move |handlers| handlers.recovery_clients = Some(clients));
            $self
        }

        /// Registers the handler of new sockets, and replaces an earlier one. Events of the socket
        /// are held until the handler returns, for at most
        /// [`handlers.connection_timeout`](crate::limits::HandlerLimits::connection_timeout).
        pub fn on_connection<F, R>($self: $receiver, handler: F) -> $output
        where
            F: Fn(Socket) -> R + Send + Sync + 'static,
            R: Future<Output = Result<(), HandlerError>> + 'static,
        {
            let handler = erase(move |socket, ()| handler(socket));
            $self.register(move |handlers| handlers.connection = Some(handler));
            $self
        }
    };
}

pub(super) use {connection_registration, registration};
