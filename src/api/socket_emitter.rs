//! An emit to one socket that is being set up; or, with a room named, to others than that socket.

use std::time::Duration;

use super::args::{FromArgs, ToArgs};
use super::broadcast::Broadcast;
use super::core::Socket;
use super::error::{AckError, EmitError};
use crate::messages::event::Grade;

/// An emit to one socket. Nothing happens until [`emit`](Self::emit) or [`emit_with_ack`](Self::emit_with_ack).
///
/// Naming a room turns it into an emit to the others there, as in `socket.volatile().to("lobby")`.
#[derive(Debug, Clone)]
#[must_use = "nothing happens until `emit`"]
pub struct SocketEmitter {
    socket: Socket,
    grade: Grade,
    timeout: Option<Duration>,
}

impl SocketEmitter {
    pub(crate) fn new(socket: Socket) -> Self {
        Self { socket, grade: Grade::Plain, timeout: None }
    }

    /// Marks the event as one that may be dropped while the connection is not ready for it. It is not numbered.
    pub fn volatile(mut self) -> Self {
        self.grade = Grade::Volatile;
        self
    }

    /// How long [`emit_with_ack`](Self::emit_with_ack) waits, instead of
    /// [`limits.acks.timeout`](crate::limits::AckLimits::timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Accepted for the sake of Socket.IO's API; nothing is compressed.
    pub fn compress(self, _compress: bool) -> Self {
        self
    }

    /// Everybody in the namespace but this socket itself.
    pub fn broadcast(self) -> Broadcast {
        let broadcast = self.socket.broadcast();
        let broadcast = if self.grade == Grade::Volatile { broadcast.volatile() } else { broadcast };
        match self.timeout {
            Some(timeout) => broadcast.timeout(timeout),
            None => broadcast,
        }
    }

    /// A room without this socket itself; see [`Broadcast::to`].
    pub fn to(self, room: impl AsRef<str>) -> Broadcast {
        self.broadcast().to(room)
    }

    /// The same as [`to`](Self::to).
    pub fn within(self, room: impl AsRef<str>) -> Broadcast {
        self.broadcast().to(room)
    }

    /// Everybody but the members of a room and this socket itself; see [`Broadcast::except`].
    pub fn except(self, room: impl AsRef<str>) -> Broadcast {
        self.broadcast().except(room)
    }

    /// Emits to this client alone; see [`Socket::emit`].
    pub async fn emit<T: ToArgs>(self, name: &str, data: T) -> Result<(), EmitError> {
        self.socket.emit_graded(self.grade, name, data).await
    }

    /// Emits to this client alone and awaits its ack. A volatile one is not awaited shorter for having been dropped.
    pub async fn emit_with_ack<R: FromArgs, T: ToArgs>(self, name: &str, data: T) -> Result<R, AckError> {
        self.socket.call(self.grade, self.timeout, name, data).await
    }
}
