//! Identity of a client, its permissions, and the rules of a server.

pub(crate) mod identity;
#[cfg(feature = "jwt")]
pub(crate) mod jwt;
pub(crate) mod permissions;
pub(crate) mod rules;
