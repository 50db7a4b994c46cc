//! Bad company: peers that vanish, jam, flood and lie. Afterwards the hub has forgotten them, and serves newcomers.

mod aborted;
mod bodies;
mod floods;
mod frames;
mod jams;
mod offers;
