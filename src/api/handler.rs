//! Handlers with their types erased: what the session starts when something happens.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use super::args::FromArgs;
use super::error::HandlerError;
use super::event::Event;
use super::socket::Socket;
use crate::protocol::reason::DisconnectReason;
use crate::protocol::socketio::packet::Args;

/// A running handler. Need not be `Send`: it runs on its session's worker.
pub(crate) type Running = Pin<Box<dyn Future<Output = Result<(), HandlerError>>>>;

/// A handler of something that carries a `T`.
pub(crate) type Handler<T> = Arc<dyn Fn(Socket, T) -> Running + Send + Sync>;

/// Everything registered for one namespace.
#[derive(Clone, Default)]
pub(crate) struct Handlers {
    pub(crate) events: HashMap<String, Handler<Event<Args>>>,
    pub(crate) unhandled: Option<Handler<Event<Args>>>,
    pub(crate) connection: Option<Handler<()>>,
    pub(crate) disconnect: Option<Handler<DisconnectReason>>,
}

impl Handlers {
    /// The handler of an event, by name.
    pub(crate) fn event(&self, name: &str) -> Option<&Handler<Event<Args>>> {
        self.events.get(name).or(self.unhandled.as_ref())
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handlers").field("events", &self.events.keys()).finish_non_exhaustive()
    }
}

/// Erases the type of an event handler. Arguments that are not a `T` fail like the handler itself would.
pub(crate) fn erase_event<T, F, R>(handler: F) -> Handler<Event<Args>>
where
    T: FromArgs,
    F: Fn(Socket, Event<T>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), HandlerError>> + 'static,
{
    Arc::new(move |socket, event: Event<Args>| match T::from_args(&event.data) {
        Ok(data) => Box::pin(handler(socket, Event::new(event.name, data, event.ack))),
        Err(error) => Box::pin(std::future::ready(Err(error.into()))),
    })
}

/// Erases the type of a handler that gets a `T` as it is.
pub(crate) fn erase<T, F, R>(handler: F) -> Handler<T>
where
    T: 'static,
    F: Fn(Socket, T) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), HandlerError>> + 'static,
{
    Arc::new(move |socket, with| Box::pin(handler(socket, with)))
}
