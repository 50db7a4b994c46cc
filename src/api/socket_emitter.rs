//! An event for one socket: its flags, and the call that emits it.

use std::time::Duration;

use super::args::{FromArgs, ToArgs};
use super::broadcast::Broadcast;
use super::core::Socket;
use super::error::{AckError, EmitError};
use crate::messages::event::Grade;

/// An event for one socket, as a builder. Nothing happens until [`emit`](Self::emit) or
/// [`emit_with_ack`](Self::emit_with_ack).
///
/// A room turns it into a broadcast to the room's other members, as in
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
    /// numbered, and not replayed after a reconnection.
    pub fn volatile(mut self) -> Self {
        self.grade = Grade::Volatile;
        self
    }

    /// Time limit of [`emit_with_ack`](Self::emit_with_ack). Default:
    /// [`limits.acks.timeout`](crate::limits::AckLimits::timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Has no effect: messages are never compressed. Exists for parity with Socket.IO.
    pub fn compress(self, _compress: bool) -> Self {
        self
    }

    /// All sockets of the namespace except this one.
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

    /// Emits the event to this client only and awaits its ack. A volatile event that was dropped is
    /// awaited until the time limit.
    pub async fn emit_with_ack<R: FromArgs, T: ToArgs>(self, name: &str, data: T) -> Result<R, AckError> {
        self.socket.call(self.grade, self.timeout, name, data).await
    }
}
