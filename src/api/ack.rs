//! The answer to an event that a client emitted with an ack id.

use super::args::ToArgs;
use super::error::{EmitError, EventError};
use super::error_answer::ErrorAnswer;
use super::socket::Socket;
use crate::messages::request::Request;

/// Characters of an error in an answer.
const ERROR_CHARS_MAX: usize = 200;

/// Answers one event of a client, at most once: sending consumes it. Dropped, the event stays without an answer.
#[derive(Debug)]
pub struct Ack {
    wanted: Option<(u64, Socket)>,
}

impl Ack {
    pub(crate) fn new(id: Option<u64>, socket: &Socket) -> Self {
        Self { wanted: id.map(|id| (id, socket.clone())) }
    }

    /// Whether the client wants an answer.
    pub fn is_wanted(&self) -> bool {
        self.wanted.is_some()
    }

    /// Says why the event was not handled, if it wants an answer and the application wants such answers.
    pub(crate) fn refuse(self, error: &EventError) {
        if self.wanted.as_ref().is_some_and(|(_, socket)| socket.core().ack_errors) {
            // The text of an error may quote what the client sent.
            let message: String = error.to_string().chars().take(ERROR_CHARS_MAX).collect();
            let _ = self.send(ErrorAnswer::new(error.code(), message));
        }
    }

    /// Sends the answer, behind everything that was emitted to this socket before. Nothing happens if none is wanted, or
    /// if the socket has left its namespace meanwhile.
    pub fn send<T: ToArgs>(self, data: T) -> Result<(), EmitError> {
        let Some((id, socket)) = self.wanted else { return Ok(()) };
        let message = socket.core().answer(socket.path(), id, &data)?;
        let request = Request::Acknowledge { socket: socket.id(), message };
        socket.link().request(request).map_err(|_| EmitError::Disconnected)
    }
}
