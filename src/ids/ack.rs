//! Ids of acks that the server requests.

/// Requester of an ack. Each ack id contains its owner, so acks are routed without a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AckOwner {
    /// A durable event. Reserved, since this server has no durable events yet.
    Durable = 1,
    /// The hub, for an event whose acks the hub collects from many sockets.
    Hub = 2,
    /// The session of the client that receives the event.
    Session = 3,
}

/// Ack id of an event from this server. On the wire, it is `4 · number + owner`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct AckId(u64);

impl AckId {
    /// Creates the ack id of the owner's event with this number, which must be below 2^51.
    pub(crate) const fn new(owner: AckOwner, number: u64) -> Self {
        Self(4 * number + owner as u64)
    }

    /// The id in an ack from a client. The id may be unknown to this server.
    pub(crate) const fn from_wire(id: u64) -> Self {
        Self(id)
    }

    /// Number of the event among those of its owner.
    pub(crate) const fn number(self) -> u64 {
        self.0 / 4
    }

    pub(crate) const fn to_wire(self) -> u64 {
        self.0
    }

    /// Requester of the ack. `None` if this server assigns no ids of this form.
    pub(crate) const fn owner(self) -> Option<AckOwner> {
        match self.0 % 4 {
            1 => Some(AckOwner::Durable),
            2 => Some(AckOwner::Hub),
            3 => Some(AckOwner::Session),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Lsn;

    #[test]
    fn an_ack_id_names_its_owner_and_stays_exact_in_javascript() {
        for owner in [AckOwner::Durable, AckOwner::Hub, AckOwner::Session] {
            for number in [0, 1, Lsn::END - 1] {
                let id = AckId::new(owner, number);
                assert_eq!(id.owner(), Some(owner));
                assert_eq!(AckId::from_wire(id.to_wire()), id);
                assert!(id.to_wire() < 1 << 53, "{id:?}");
            }
        }
        assert_eq!(AckId::new(AckOwner::Session, 0).to_wire(), 3);
        assert_eq!(AckId::new(AckOwner::Hub, 1).to_wire(), 6);
        assert_eq!(AckId::from_wire(4).owner(), None);
    }
}
