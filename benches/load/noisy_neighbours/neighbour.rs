//! A bad client beside the members of a room.

use std::time::Instant;

use crate::Failure;

/// The room of the members, as `fanout` calls it.
pub(super) const ROOM: &str = "hall-0";

/// A bad client.
pub(super) trait Neighbour {
    /// One turn, which waits for nothing. Tells whether there was something to do.
    fn turn(&mut self, now: Instant) -> Result<bool, Failure>;

    /// A line for the report about its work.
    fn deeds(&self) -> String;

    /// Number of times that the server has disconnected it.
    fn closings(&self) -> u64;

    /// Events that reached it in a wrong order, or twice.
    fn misplaced(&self) -> u64 {
        0
    }
}
