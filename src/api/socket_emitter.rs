//! An event to one socket as a builder: its flags, and the methods that emit it.

use std::time::Duration;

use super::args::{FromArgs, ToArgs};
use super::broadcast::Broadcast;
use super::core::Socket;
use super::error::{AckError, EmitError};
use crate::messages::event::Grade;

/// An event to one socket, as a builder. Nothing happens until [`emit`](Self::emit) or
/// [`emit_with_ack`](Self::emit_with_ack).
///
/// Adding a room turns the event into a broadcast to the other members of that room, as in
/// `socket.volatile().to("lobby")`.
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

    /// Allows the event to be dropped while the connection is not ready. A volatile event is not
    /// numbered, and is not replayed after a reconnection.
    pub fn volatile(mut self) -> Self {
        self.grade = Grade::Volatile;
        self
    }

    /// Sets the time limit of [`emit_with_ack`](Self::emit_with_ack). The default is
    /// [`limits.acks.timeout`](crate::limits::AckLimits::timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Has no effect, since messages are never compressed. Exists for parity with Socket.IO.
    pub fn compress(self, _compress: bool) -> Self {
        self
    }

    /// Selects all sockets of the namespace except this one.
    pub fn broadcast(self) -> Broadcast {
        let broadcast = self.socket.broadcast();
        let broadcast = if self.grade == Grade::Volatile { broadcast.volatile() } else { broadcast };
        match self.timeout {
            Some(timeout) => broadcast.timeout(timeout),
            None => broadcast,
        }
    }

    /// Selects the members of a room except this socket; see [`Broadcast::to`].
    pub fn to(self, room: impl AsRef<str>) -> Broadcast {
        self.broadcast().to(room)
    }

    /// Selects the members of a room except this socket, like [`to`](Self::to).
    pub fn within(self, room: impl AsRef<str>) -> Broadcast {
        self.broadcast().to(room)
    }

    /// Selects all sockets except the members of a room and this socket; see [`Broadcast::except`].
    pub fn except(self, room: impl AsRef<str>) -> Broadcast {
        self.broadcast().except(room)
    }

    /// Emits the event to this client only; see [`Socket::emit`].
    pub async fn emit<T: ToArgs>(self, name: &str, data: T) -> Result<(), EmitError> {
        self.socket.emit_graded(self.grade, name, data).await
    }

    /// Emits the event to this client only and awaits its ack. If a volatile event was dropped,
    /// this waits until the time limit.
    pub async fn emit_with_ack<R: FromArgs, T: ToArgs>(self, name: &str, data: T) -> Result<R, AckError> {
        self.socket.call(self.grade, self.timeout, name, data).await
    }
}
