//! One emit whose acks somebody collects: who got it, who answered, who is missing.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::ids::SocketId;
use crate::messages::request::{Collected, Missing, RequestError, answer};
use crate::protocol::socketio::packet::Args;
use crate::state::budget::Charge;

/// The acks of one emit so far.
#[derive(Debug)]
pub(crate) struct Collecting {
    asker: oneshot::Sender<Result<Collected, RequestError>>,
    /// For how long acks are awaited.
    pub(super) timeout: Duration,
    /// Workers that have members, once the hub has said how many.
    parts: Option<usize>,
    /// Those that have said who got the event. Their words may come before the hub's.
    parts_seen: usize,
    awaiting: HashSet<SocketId>,
    collected: Collected,
    bytes: usize,
    charge: Charge,
}

impl Collecting {
    pub(super) fn new(
        asker: oneshot::Sender<Result<Collected, RequestError>>,
        timeout: Duration,
        charge: Charge,
    ) -> Self {
        Self {
            asker,
            timeout,
            parts: None,
            parts_seen: 0,
            awaiting: HashSet::new(),
            collected: Collected::default(),
            bytes: 0,
            charge,
        }
    }

    /// The hub said how many workers have members.
    pub(super) fn expect(&mut self, parts: usize) {
        self.parts = Some(parts);
    }

    /// These got the event.
    pub(super) fn got(&mut self, sockets: impl Iterator<Item = SocketId>) {
        self.parts_seen += 1;
        self.awaiting.extend(sockets);
    }

    /// One of them answered, or has gone.
    pub(super) fn answered(&mut self, socket: SocketId, args: Option<Args>, bytes_max: usize) {
        if !self.awaiting.remove(&socket) {
            return;
        }
        match args {
            Some(args)
                if self.bytes + args.memory_len() <= bytes_max
                    && self.charge.set(self.bytes + args.memory_len()).is_ok() =>
            {
                self.bytes += args.memory_len();
                self.collected.answers.push((socket, args));
            }
            Some(_) => self.collected.missing.push((socket, Missing::TooMuch)),
            None => self.collected.missing.push((socket, Missing::Gone)),
        }
    }

    /// Whether the hub has said that the event is on its way.
    pub(super) fn is_emitted(&self) -> bool {
        self.parts.is_some()
    }

    /// Whether nobody is awaited any more.
    pub(super) fn is_complete(&self) -> bool {
        self.parts == Some(self.parts_seen) && self.awaiting.is_empty()
    }

    /// Hands over what there is; who has not answered is late.
    pub(super) fn finish(mut self) {
        let late = self.awaiting.into_iter().map(|socket| (socket, Missing::Late));
        self.collected.missing.extend(late);
        answer(self.asker, Ok(self.collected));
    }

    /// The event was not emitted.
    pub(super) fn fail(self, error: RequestError) {
        answer(self.asker, Err(error));
    }
}
