//! The acks of one event from many sockets.

use super::args::FromArgs;
use super::error::AckError;
use crate::ids::SocketId;
use crate::messages::answer::{Collected, Missing};

/// The acks of one event from many sockets. Every receiver of the event is in exactly one of the
/// two lists.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answers<R> {
    /// Acks that were received in time, in the order of arrival.
    pub answers: Vec<(SocketId, R)>,
    /// Receivers that sent no ack in time, or sent an ack that cannot be read as `R`, with the
    /// reason.
    pub missing: Vec<(SocketId, AckError)>,
}

impl<R: FromArgs> Answers<R> {
    pub(crate) fn read(collected: Collected) -> Self {
        let mut missing: Vec<_> = collected.missing.into_iter().map(|(socket, why)| (socket, why.into())).collect();
        let mut answers = Vec::with_capacity(collected.answers.len());
        for (socket, args) in collected.answers {
            match R::from_args(args) {
                Ok(answer) => answers.push((socket, answer)),
                Err(error) => missing.push((socket, AckError::Data(error))),
            }
        }
        Self { answers, missing }
    }
}

impl From<Missing> for AckError {
    fn from(why: Missing) -> Self {
        match why {
            Missing::Late => Self::Timeout,
            Missing::Gone => Self::Gone,
            Missing::TooMuch => Self::TooLarge,
        }
    }
}
