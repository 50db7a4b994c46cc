//! Socket.IO v5 as clients use it. A test that applies to every transport runs on all of them.

mod acks;
mod admission;
mod binary;
mod bulk_operations;
mod connect;
mod disconnect;
mod handlers;
mod illegal;
mod leaving;
mod listeners;
mod msgpack;
mod other_clients;
mod recovery;
mod resume_rules;
mod rooms;
mod socket_info;
mod tokens;
