//! Who a client is and what it may do: identities, permissions, and the rules of a server.

pub(crate) mod identity;
#[cfg(feature = "jwt")]
pub(crate) mod jwt;
pub(crate) mod permissions;
pub(crate) mod rules;
