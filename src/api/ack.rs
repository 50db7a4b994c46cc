//! The ack of an event that a client emitted.

use super::args::ToArgs;
use super::encoder::Encoder;
use super::error::{EmitError, EventError};
use super::error_answer::ErrorAnswer;
use crate::messages::session::{Request, SocketRef};

/// Maximum number of characters of an error's message in an ack.
const ERROR_CHARS_MAX: usize = 200;

/// The acknowledgement of one event of a client, sent at most once. If the `Ack` is dropped, no
/// acknowledgement is sent.
#[derive(Debug)]
pub struct Ack {
    wanted: Option<(u64, SocketRef)>,
    encoder: Encoder,
}

impl Ack {
    pub(crate) fn new(id: Option<u64>, socket: &SocketRef, encoder: Encoder) -> Self {
        Self { wanted: id.map(|id| (id, socket.clone())), encoder }
    }

    /// Returns true if the client has asked for an ack.
    pub fn is_wanted(&self) -> bool {
        self.wanted.is_some()
    }

    /// Sends an error in the ack, if the settings allow errors in acks.
    pub(crate) fn refuse(self, error: &EventError) {
        if self.encoder.ack_errors {
            // The message is truncated, since it may quote data of the client.
            let message: String = error.to_string().chars().take(ERROR_CHARS_MAX).collect();
            let _ = self.send(ErrorAnswer::new(error.code(), message));
        }
    }

    /// Sends the ack, after everything that was emitted to this socket before. Does nothing if the
    /// client has not requested an ack, or if the socket has left its namespace meanwhile.
    ///
    /// # Errors
    ///
    /// Fails with [`EmitError::Data`] or [`EmitError::TooManyAttachments`] if the data cannot be
    /// sent, and with [`EmitError::Disconnected`] if the session has ended.
    pub fn send<T: ToArgs>(self, data: T) -> Result<(), EmitError> {
        let Some((id, SocketRef { info, link })) = self.wanted else { return Ok(()) };
        let message = self.encoder.ack(&info.namespace, id, &data)?;
        link.request(Request::Acknowledge { socket: info.id, message }).map_err(|_| EmitError::Disconnected)
    }
}
