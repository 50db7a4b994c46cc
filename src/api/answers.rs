//! What many sockets answered to one emit.

use super::args::FromArgs;
use super::error::AckError;
use crate::ids::SocketId;
use crate::messages::answer::{Collected, Missing};

/// The acks of one emit to many sockets. Everyone to whom the event went is in one of the two lists.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answers<R> {
    /// Who answered what, in the order in which the answers came.
    pub answers: Vec<(SocketId, R)>,
    /// Who did not answer in time, has gone, or answered what is no `R`.
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
