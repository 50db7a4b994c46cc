//! Handlers with their types erased, and which of them serve a socket: what the session starts when something happens.

use std::sync::Arc;

use super::args::FromArgs;
use super::core::{HandlerFn, Handlers, Socket};
use super::error::{ConnectError, EventError, HandlerError};
use super::event::{Disconnecting, Event};
use super::recovery_clients::RecoveryClients;
use crate::protocol::reason::DisconnectReason;
use crate::protocol::socketio::packet::Args;

/// What serves one socket: what was registered for its namespace when it connected, and for the socket itself. Where only
/// one handler can run, the socket's own goes first.
#[derive(Debug, Clone)]
pub(crate) struct HandlerStack {
    namespace: Arc<Handlers>,
    /// Most sockets have none.
    own: Option<Arc<Handlers>>,
}

impl HandlerStack {
    pub(crate) fn new(namespace: Arc<Handlers>) -> Self {
        Self { namespace, own: None }
    }

    /// The handlers of the socket itself, to be changed. What runs already keeps what it began with.
    pub(crate) fn own(&mut self) -> &mut Handlers {
        Arc::make_mut(self.own.get_or_insert_default())
    }

    fn first<T>(&self, which: impl Fn(&Handlers) -> Option<&T>) -> Option<&T> {
        self.own.as_deref().and_then(&which).or_else(|| which(&self.namespace))
    }

    fn both<T: 'static>(&self, which: impl Fn(&Handlers) -> &Vec<T>) -> impl Iterator<Item = &T> {
        which(&self.namespace).iter().chain(self.own.as_deref().map(which).into_iter().flatten())
    }

    /// The handler that is to have an event, by name; else the one for whatever has none.
    pub(crate) fn event(&self, name: &str) -> Option<&HandlerFn<Event<Args>>> {
        self.first(|handlers| handlers.events.get(name)?.take())
            .or_else(|| self.first(|handlers| handlers.unhandled.as_ref()))
    }

    /// Whether an event goes straight to its handler.
    pub(crate) fn is_direct(&self) -> bool {
        let direct = |handlers: &Handlers| handlers.event_middleware.is_empty() && handlers.incoming.is_empty();
        direct(&self.namespace) && self.own.as_deref().is_none_or(direct)
    }

    /// Whether someone sees what the socket is sent.
    pub(crate) fn observes_outgoing(&self) -> bool {
        self.both(|handlers| &handlers.outgoing).next().is_some()
    }

    /// The clients that are recoverable, if that is not as for the whole server.
    pub(crate) fn recovery_clients(&self) -> Option<RecoveryClients> {
        self.namespace.recovery_clients
    }

    /// Whether a socket must pass something before it is connected.
    pub(crate) fn has_connect_middleware(&self) -> bool {
        !self.namespace.connect_middleware.is_empty()
    }

    /// Leads a socket past all of that, in the order of registration.
    pub(crate) async fn admit(&self, socket: &Socket) -> Result<(), ConnectError> {
        for admission in &self.namespace.connect_middleware {
            admission(socket.clone()).await?;
        }
        Ok(())
    }

    /// What runs when the socket has connected.
    pub(crate) fn connection(&self) -> Option<&HandlerFn<()>> {
        self.namespace.connection.as_ref()
    }

    /// What runs when it has gone, first.
    pub(crate) fn disconnecting(&self) -> Option<&HandlerFn<Disconnecting>> {
        self.first(|handlers| handlers.disconnecting.as_ref())
    }

    /// The handlers that run when it has gone, one after the other.
    pub(crate) fn disconnect(&self) -> impl Iterator<Item = &HandlerFn<DisconnectReason>> {
        self.both(|handlers| &handlers.disconnect)
    }

    /// Takes an event past observers and filters to its handler.
    pub(crate) async fn run(self, socket: Socket, mut event: Event<Args>) -> Result<(), HandlerError> {
        self.both(|handlers| &handlers.incoming).for_each(|observe| observe(&socket, &event.name, &event.data));
        for filter in self.both(|handlers| &handlers.event_middleware) {
            match filter(socket.clone(), event).await? {
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

    /// Shows an event that was queued for the socket to those who watch.
    pub(crate) fn observe_outgoing(&self, socket: &Socket, name: &str, args: &Args) {
        self.both(|handlers| &handlers.outgoing).for_each(|observe| observe(socket, name, args));
    }
}

/// Erases the type of an event handler. Arguments that are not a `T` fail like the handler itself would.
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

/// Erases the type of a handler that gets a `T` as it is.
pub(crate) fn erase<T, F, R>(handler: F) -> HandlerFn<T>
where
    T: 'static,
    F: Fn(Socket, T) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), HandlerError>> + 'static,
{
    Arc::new(move |socket, with| Box::pin(handler(socket, with)))
}

/// Generates what can be registered on a namespace, on a pattern of namespaces and on a socket, so that it is said once.
/// The type has a method `register(change)`.
macro_rules! registration {
    ($self:ident, $receiver:ty, $output:ty) => {
        /// Handles the event `name`.
        ///
        /// Handlers of one socket start in the order in which its events arrived, and interleave only at `.await`. Each
        /// event is handled by one handler: registering a name again replaces its handler, and one registered on a socket goes
        /// before its namespace's. An error is logged. A panic is logged and puts its socket out of the namespace, and nothing
        /// else: the client is notified "io server disconnect" and does not come back by itself. Arguments that are no `T`
        /// are an error.
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

        /// Handles no event `name` any more, as far as it was registered here.
        pub fn off($self: $receiver, name: &str) -> $output {
            let name = name.to_owned();
            $self.register(move |handlers| drop(handlers.events.remove(&name)));
            $self
        }

        /// Handles every event for which no handler is registered by name.
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

        /// Sees every event that comes from the client, before filters and handler, and changes nothing.
        pub fn on_any<F>($self: $receiver, observer: F) -> $output
        where
            F: Fn(&Socket, &str, &Args) + Send + Sync + 'static,
        {
            let observer: Observer = Arc::new(observer);
            $self.register(move |handlers| handlers.incoming.push(observer));
            $self
        }

        /// Sees every event that is queued for the client, emitted to it alone or to a room, without the offset token.
        ///
        /// It runs in a task of its own soon after, in the order of the events. A client that is sent more than its session keeps
        /// up with is not held back for it: what is too much is not shown.
        pub fn on_any_outgoing<F>($self: $receiver, observer: F) -> $output
        where
            F: Fn(&Socket, &str, &Args) + Send + Sync + 'static,
        {
            let observer: Observer = Arc::new(observer);
            $self.register(move |handlers| handlers.outgoing.push(observer));
            $self
        }

        /// Adds middleware for events: each passes it on its way to its handler, in the order of registration, a namespace's
        /// before a socket's. `Some` passes the event on, changed or not; `None` ends its way (its `ack` may have been
        /// sent); an error ends it too, and is logged. Filters of one socket's events start in arrival order; behind one
        /// that awaits, handlers start as it lets them go.
        pub fn with_events<F, R>($self: $receiver, filter: F) -> $output
        where
            F: Fn(Socket, Event<Args>) -> R + Send + Sync + 'static,
            R: Future<Output = Result<Option<Event<Args>>, HandlerError>> + 'static,
        {
            let filter: EventMiddleware = Arc::new(move |socket, event| Box::pin(filter(socket, event)));
            $self.register(move |handlers| handlers.event_middleware.push(filter));
            $self
        }

        /// Runs when a socket that had connected has gone, before `on_disconnect`, and receives the rooms it was in. What is
        /// emitted to rooms from here on does not reach it. One handler: registering again replaces it, and a socket's own runs
        /// instead of its namespace's.
        pub fn on_disconnecting<F, R>($self: $receiver, handler: F) -> $output
        where
            F: Fn(Socket, Disconnecting) -> R + Send + Sync + 'static,
            R: Future<Output = Result<(), HandlerError>> + 'static,
        {
            let handler = erase(handler);
            $self.register(move |handlers| handlers.disconnecting = Some(handler));
            $self
        }

        /// Runs once a socket that had connected has gone. What is emitted to rooms from here on does not reach it. With
        /// recovery on a socket may be back by then: a client that comes over a new connection ends its old one, and this
        /// runs for the old one after `on_connection` for the new one, with the same id.
        ///
        /// Each handler that is registered runs, in the order of registration and those of the namespace first: a handler
        /// starts when the one before it has ended, also by an error or a panic, or after
        /// [`limits.hub.answer_timeout`](crate::limits::HubLimits::answer_timeout).
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

/// Generates what can be registered where sockets are still to come: on a namespace and on a pattern of namespaces.
macro_rules! connection_registration {
    ($self:ident, $receiver:ty, $output:ty) => {
        /// Adds middleware for connections: a socket passes it, in the order of registration, before it is connected.
        ///
        /// An error is sent to the client, whose `connect_error` listeners get its message and data; nothing else is
        /// told of such a socket. The socket is in no room yet and cannot be emitted to, but its handshake, `auth` and
        /// `data` are there; for one that is about to be recovered also the id and the `data` that it had. All middleware together has [`limits.handlers.middleware_timeout`](crate::limits::HandlerLimits::middleware_timeout).
        pub fn with<F, R>($self: $receiver, middleware: F) -> $output
        where
            F: Fn(Socket) -> R + Send + Sync + 'static,
            R: Future<Output = Result<(), ConnectError>> + 'static,
        {
            let admission: ConnectMiddleware = Arc::new(move |socket| Box::pin(middleware(socket)));
            $self.register(move |handlers| handlers.connect_middleware.push(admission));
            $self
        }

        /// Sets which clients are recoverable here, in the place of what [`Recovery::clients`](crate::Recovery::clients) says for the whole
        /// server.
        pub fn recovery_clients($self: $receiver, clients: RecoveryClients) -> $output {
            $self.register(move |handlers| handlers.recovery_clients = Some(clients));
            $self
        }

        /// Runs once a socket has connected. Its events are held until this returns, for
        /// [`limits.handlers.connection_timeout`](crate::limits::HandlerLimits::connection_timeout) at most. Registering again replaces
        /// the handler.
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
