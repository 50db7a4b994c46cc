//! The handles that an application uses. A handle contains senders to actors instead of the actors
//! themselves, so that actors can pass handles to handlers, and tests can replace the actors.

pub(crate) mod ack;
pub(crate) mod answers;
pub(crate) mod args;
pub(crate) mod broadcast;
pub(crate) mod core;
pub(crate) mod current;
pub(crate) mod durable;
pub(crate) mod encoder;
pub(crate) mod error;
pub(crate) mod error_answer;
pub(crate) mod event;
pub(crate) mod handler;
pub(crate) mod namespace;
pub(crate) mod operators;
pub(crate) mod queue_error;
pub(crate) mod queue_values;
pub(crate) mod recovery_clients;
pub(crate) mod registry;
pub(crate) mod room_events;
pub(crate) mod socket;
pub(crate) mod socket_emitter;
pub(crate) mod subscriber;
