//! Ids of events that want an ack, and who gave them.

/// The asker of an ack. The id alone names it, so that an ack finds its way without a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AckOwner {
    /// A durable event; its number is the event's LSN.
    Durable = 1,
    /// The hub, for an event that wants the acks of many.
    Hub = 2,
    /// The session that sent the event to its own client.
    Session = 3,
}

/// The ack id of an event of this server, `4·number + owner` on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct AckId(u64);

impl AckId {
    /// The id that `owner` gives to its event of this number, which is below 2^51.
    pub(crate) const fn new(owner: AckOwner, number: u64) -> Self {
        Self(4 * number + owner as u64)
    }

    /// The id by which a client answers; it may be none that this server gave.
    pub(crate) const fn from_wire(id: u64) -> Self {
        Self(id)
    }

    /// The number that stands in the packet.
    pub(crate) const fn to_wire(self) -> u64 {
        self.0
    }

    /// The asker; `None` for an id that nobody here gives.
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
