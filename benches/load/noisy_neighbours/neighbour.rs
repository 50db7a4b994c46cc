//! The interface of a misbehaving client beside the members of a room.

use std::time::Instant;

use crate::Failure;

/// Name of the members' room in `fanout`.
pub(super) const ROOM: &str = "hall-0";

pub(super) trait Neighbour {
    /// Runs one turn without waiting. True if there was something to do.
    fn turn(&mut self, now: Instant) -> Result<bool, Failure>;

    fn work_report(&self) -> String;

    /// Number of times that the server has disconnected it.
    fn disconnects(&self) -> u64;

    /// Number of events that it received repeatedly or out of order.
    fn wrong_events(&self) -> u64 {
        0
    }
}
