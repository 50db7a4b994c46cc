//! Who a client is and what it may do: identities, permissions, and the rules of a server.

pub(crate) mod identity;
pub(crate) mod permissions;
pub(crate) mod rules;
