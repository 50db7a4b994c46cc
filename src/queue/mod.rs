//! The queue: durable events, the subscribers that they are pending for, and what subscribers
//! acknowledged.
//!
//! | file | |
//! |---|---|
//! | `record.rs` | values: offsets, names, events, gaps, receipts |
//! | `change.rs` | changes of a commit, and their outcomes |
//! | `limits.rs` | bounds and retention rules |
//! | `store.rs` | the contract of a store and of its readers |
//! | `sqlite.rs` | a store in a folder |
//! | `memory.rs` | a store in memory, and the reference that the other is compared with |
//! | `committer.rs` | the thread that owns a store and commits in groups |
//! | `inspect.rs`, `edit.rs` | reads and changes of an operator in a queue's folder |
//! | `delivery.rs` | order, acknowledgements and retries of one subscriber's events |
//! | `payload.rs` | the content of an event, as it is stored and as packets |
//! | `origin.rs` | what the hub needs to reveal an event |
//! | `wake_queue.rs` | values that other threads pass to an actor |
//! | `left_out.rs` | the log of events that cannot be read |
//! | `planted_crash.rs` | crashes that tests plant |
//! | `service.rs` | the shared handle of a server's queue |
//!
//! An event is revealed when the hub, after its commit, sends it to the connected members of its
//! rooms.
//!
//! An event is pending for a subscriber if one of its rooms has a subscription of that subscriber
//! that began before the event and has not ended, and the subscriber has not handled it. A
//! subscriber handles an event by acknowledging it or by giving it up to its dead letters. An event
//! of several rooms is pending once.

pub(crate) mod change;
pub(crate) mod committer;
#[cfg(test)]
mod contract;
pub(crate) mod delivery;
pub(crate) mod edit;
pub(crate) mod inspect;
pub(crate) mod left_out;
pub(crate) mod limits;
pub(crate) mod memory;
pub(crate) mod origin;
pub(crate) mod payload;
pub(crate) mod planted_crash;
pub(crate) mod record;
pub(crate) mod service;
pub(crate) mod sqlite;
pub(crate) mod store;
pub(crate) mod wake_queue;
